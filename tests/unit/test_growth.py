"""Growth patterns against planted ones; refusals, agreement with the pathologist, the figure."""

import numpy as np
import pandas as pd
import pytest
from shapely import MultiLineString
from shapely.affinity import rotate

import spatial_generator as generator
from livermet import growth, keys
from livermet.plots.growth import plot_growth
from livermet.section import Section

TYPES = ["malignant_ductal", "hepatocyte", "caf_pan", "kupffer"]
# Scale of the transition from tumour to liver (um), and weight of fibroblasts in the rim.
PATTERNS = {"replacement": (70.0, 0.0), "desmoplastic": (30.0, 1.5), "pushing": (15.0, 0.0)}
LINE = MultiLineString([[(1500.0, 0.0), (1500.0, 3000.0)]])


def spots(*, seed, pattern, other=None, resolution="spot"):
    """A straight border at x = 1500 um, of another pattern in its lower half if one is given; nine cells per spot."""
    rng = np.random.default_rng(seed)
    xy = generator.hexagonal(35, 30) if resolution == "spot" else rng.uniform(0, 3000, (30_000, 2))
    distance = xy[:, 0] - 1500
    halves = np.where(xy[:, 1] < 1500, pattern, other or pattern)
    width, rim = np.array([PATTERNS[name] for name in halves]).T
    inside = 1 / (1 + np.exp(np.clip(distance / width, -50, 50)))
    weight = np.column_stack([0.6 * inside, 0.8 * (1 - inside), 0.03 + 0.2 * inside, np.full(len(xy), 0.1)])
    weight[:, 2] += rim * np.exp(-(((distance - 75) / 75) ** 4))
    chance = weight / weight.sum(axis=1, keepdims=True)
    counts = rng.multinomial(9 if resolution == "spot" else 1, chance)
    return Section(
        **{"library_id": "S", "patient_id": "P", "timepoint": "T0_pre", "tissue": "liver_met"},
        barcodes=np.arange(len(xy)).astype(str).astype(object),
        coordinates=xy,
        abundance=pd.DataFrame(counts / counts.sum(axis=1, keepdims=True), columns=TYPES),
        graph=None,
        distance=distance,
        tumour=distance < 0,
        zone=np.full(len(xy), "none", dtype=object),
        resolution=resolution,
    )


@pytest.mark.parametrize("resolution", ["spot", "cell"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_planted_pattern_is_found(pattern, resolution):
    found = [
        growth.growth_pattern(spots(seed=seed, pattern=pattern, resolution=resolution), LINE, min_mm=2.0)
        for seed in range(5)
    ]
    assert [row["growth_pattern"] for row in found].count(pattern) >= 4
    assert np.median([row[f"{pattern}_pct"] for row in found]) > 70
    for row in found:
        assert sum(row[f"{name}_pct"] for name in growth.PATTERNS) == pytest.approx(100)


def test_half_of_the_border_may_be_of_another_pattern():
    found = [
        growth.growth_pattern(spots(seed=s, pattern="replacement", other="desmoplastic"), LINE, min_mm=2)
        for s in range(5)
    ]
    for name in ("replacement", "desmoplastic"):
        assert 25 < np.median([row[f"{name}_pct"] for row in found]) < 75


def test_mixing_of_a_sharp_and_of_a_wide_border_in_micrometres():
    width, _ = PATTERNS["replacement"]
    for resolution in ("spot", "cell"):
        wide = growth.segment_evidence(spots(seed=0, pattern="replacement", resolution=resolution), LINE)["mixing_um"]
        assert wide.median() == pytest.approx(4 * width, rel=0.35)
        sharp = growth.segment_evidence(spots(seed=0, pattern="pushing", resolution=resolution), LINE)["mixing_um"]
        assert sharp.median() < wide.median() / 2


def test_order_of_spots_does_not_matter():
    section = spots(seed=0, pattern="desmoplastic")
    order = np.random.default_rng(1).permutation(len(section.distance))
    fields = {name: getattr(section, name)[order] for name in ("barcodes", "coordinates", "distance", "tumour", "zone")}
    table = section.abundance.iloc[order].reset_index(drop=True)
    other = Section(**{**vars(section), **fields, "abundance": table})
    plain = growth.segment_evidence(section, LINE)
    pd.testing.assert_frame_equal(growth.segment_evidence(other, LINE), plain, atol=1e-9)


def test_too_short_a_border_and_missing_tissue_are_refused_with_the_reason():
    section = spots(seed=0, pattern="pushing")
    short = MultiLineString([[(1500.0, 0.0), (1500.0, 1900.0)]])
    none = Section(**{**vars(section), "distance": np.full(len(section.distance), np.nan)})
    bare = Section(**{**vars(section), "abundance": section.abundance.drop(columns="hepatocyte")})
    near = np.abs(section.distance) < 250
    strip = Section(
        **{
            **vars(section),
            **{
                name: getattr(section, name)[near] for name in ("barcodes", "coordinates", "distance", "tumour", "zone")
            },
            "abundance": section.abundance[near].reset_index(drop=True),
        }
    )
    empty = Section(
        **{
            **vars(strip),
            **{name: getattr(strip, name)[:0] for name in ("coordinates", "distance")},
            "abundance": strip.abundance[:0],
        }
    )
    cases = [
        (section, short, "1.9 mm of tumour-liver border, 2 needed"),
        (none, LINE, "no liver tissue"),
        (empty, MultiLineString(), "no liver tissue"),
        (bare, LINE, "no abundances of hepatocyte"),
        (strip, LINE, "0.0 mm of border with enough tumour and liver"),
    ]
    for case, line, words in cases:
        row = growth.growth_pattern(case, line, min_mm=2.0, reason="no liver tissue")
        assert words in row["reason"] and row["growth_pattern"] == "" and np.isnan(row["pushing_pct"])
        assert np.isnan([row[name] for name in growth.EVIDENCE]).all()


def table_of(found, read):
    rows = [
        {"library_id": f"L{i}", "sample_id": f"S{i}", "patient_id": f"P{i}", "growth_pattern": name, "reason": ""}
        | {f"{other}_pct": 100.0 * (other == name) for other in growth.PATTERNS}
        | {"interface_mm": 3.0}
        for i, name in enumerate(found)
    ]
    pathology = pd.DataFrame(
        [{"sample_id": f"S{i}"} | {f"hgp_{o}_pct": 100.0 * (o == name) for o in growth.PATTERNS} for i, name in enumerate(read) if name],
        columns=["sample_id", *(f"hgp_{name}_pct" for name in growth.PATTERNS)],
    )  # fmt: skip
    return growth.growth_table(rows, pathology=pathology)


def test_agreement_with_the_pathologist():
    found = ["replacement", "replacement", "pushing", "pushing", "", "desmoplastic"]
    read = ["replacement", "pushing", "pushing", "pushing", "pushing", ""]
    table = table_of(found, read)
    assert tuple(table.columns) == growth.GROWTH_COLUMNS and list(table["pathologist"]) == read
    n, alike, kappa = growth.agreement(table)
    # Expected by chance: (2 x 1 + 2 x 3) / 16 = 1/2; observed 3/4.
    assert (n, alike) == (4, 3) and kappa == pytest.approx(0.5)
    assert np.isnan(growth.agreement(table_of(["pushing"], ["pushing"]))[2])
    assert growth.agreement(table_of([], []))[:2] == (0, 0)


def zigzag(step, height, n=40):
    return MultiLineString([[(height * (i % 2), step * i) for i in range(n)]])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (zigzag(50.0, 0.0), 1.0),
        (zigzag(50.0, 25.0), np.hypot(50, 25) / 50),  # below the tolerance: the simplified line is straight
        (zigzag(50.0, 75.0), np.hypot(50, 75) / 50),
        (zigzag(400.0, 300.0), 1.0),  # bays of this size are the border itself
    ],
)
def test_roughness_is_the_length_of_detail(line, expected):
    roughness = growth.cut_border(line)[2]
    assert np.median(roughness) == pytest.approx(expected, rel=0.06)
    turned = rotate(line, 33.0)
    np.testing.assert_allclose(growth.cut_border(turned)[2], roughness, rtol=1e-6)


def test_evidence_stands_beside_the_pattern_and_roughness_does_not_enter():
    section = spots(seed=0, pattern="replacement")
    plain = growth.growth_pattern(section, LINE, min_mm=2.0)
    assert plain["mixing_um"] > growth.MIXING_UM and abs(plain["rim"]) < growth.RIM_SHARE
    assert plain["roughness"] == pytest.approx(1.0)
    saw = MultiLineString([[(1500.0 + 40 * (i % 2), 50.0 * i) for i in range(61)]])
    rough = growth.growth_pattern(section, saw, min_mm=2.0)
    assert rough["roughness"] == pytest.approx(np.hypot(50, 40) / 50, rel=0.05)
    assert rough["growth_pattern"] == plain["growth_pattern"] == "replacement"
    ring = MultiLineString([[(0.0, 0.0), (30.0, 0.0), (30.0, 30.0), (0.0, 0.0)]])
    assert growth.cut_border(ring)[2].shape == (1,)


def test_a_tie_of_the_pathologist_or_a_missing_share_is_no_reading():
    shares = {"hgp_desmoplastic_pct": 50.0, "hgp_replacement_pct": 50.0, "hgp_pushing_pct": 0.0}
    assert growth.pathologist_pattern(shares) == ""
    assert growth.pathologist_pattern(shares | {"hgp_replacement_pct": np.nan}) == ""
    assert growth.pathologist_pattern(shares | {"hgp_desmoplastic_pct": 60.0}) == "desmoplastic"


def test_figure_of_all_of_some_and_of_no_sections():
    full = plot_growth(table_of(["replacement", ""], ["replacement", "pushing"]), min_mm=2.0)
    assert [text.get_text() for text in full.axes[0].get_yticklabels()] == ["L0", "L1"]
    assert "1 of 1 alike" in full.axes[0].get_title(loc="left")
    assert "no section" in plot_growth(table_of([], []), min_mm=2.0).texts[0].get_text()


def test_border_is_cut_into_even_parts():
    middles, lengths, roughness = growth.cut_border(LINE)
    assert len(lengths) == 12 and lengths.sum() == pytest.approx(3000)
    np.testing.assert_allclose(roughness, 1)
    np.testing.assert_allclose(middles[0], [1500, 125])
    assert growth.cut_border(MultiLineString())[0].shape == (0, 2)
    assert keys.MALIGNANT_TYPE in TYPES
