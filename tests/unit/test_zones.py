"""Zones: graph, tumour mask, signed distance against the planted border, refusals."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import spatial_generator as generator
from livermet import keys, zones
from livermet.border import Mask, border_points, expression_border, signed_distance, tumour_side
from livermet.graph import pitch, spatial_graph, square_tiles
from livermet.section import section_of

LIMITS = {"margin_um": 250, "core_um": 500, "distant_um": 1000}
OPTIONS = {"abundance_reason": "", "neighbours": 6, "neighbour_um": 50, "tile_um": 50, "min_component": 10} | LIMITS


def section(tissue, library="S1"):
    n = len(tissue.xy)
    obs = pd.DataFrame({"library_id": library, "patient_id": "P"}, index=[f"{library}:b{i}" for i in range(n)])
    return ad.AnnData(sp.csr_matrix((n, 2), dtype=np.int32), obs=obs, obsm={"spatial": tissue.xy})


def mapped(tissue, fractions=None, **options):
    fractions = tissue.fractions if fractions is None else fractions
    return zones.map_section(section(tissue), fractions.to_numpy(), tuple(fractions.columns), **OPTIONS | options)


def test_hexagonal_graph_joins_touching_spots_only():
    xy = generator.hexagonal(8, 9)
    graph = spatial_graph(xy, neighbours=6)
    distance = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
    expected = (distance > 0) & (distance < 110)
    np.testing.assert_array_equal(graph.connectivities.toarray() > 0, expected)
    assert graph.kind == "hexagonal" and graph.pitch_um == pytest.approx(100)


def test_square_and_irregular_arrays():
    row, col = np.divmod(np.arange(60), 10)
    square = spatial_graph(np.column_stack([col, row]) * 200.0, neighbours=6)
    assert square.kind == "square" and square.connectivities.sum(axis=1).max() == 4
    loose = spatial_graph(np.random.default_rng(0).uniform(0, 1000, (80, 2)), neighbours=5)
    assert loose.kind == "irregular" and loose.connectivities.sum(axis=1).min() >= 5
    assert (loose.connectivities != loose.connectivities.T).nnz == 0


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_graph_of_hardly_any_spots(n):
    assert spatial_graph(generator.hexagonal(1, 3)[:n], neighbours=6).connectivities.shape == (n, n)


def test_distance_and_zones_follow_the_planted_border():
    errors, agreement = [], []
    for seed in range(5):
        tissue = generator.tissue(seed=seed)
        result = mapped(tissue)
        errors.append(np.median(np.abs(result.obs[keys.SIGNED_DISTANCE] - tissue.distance)))
        agreement.append((result.obs[keys.TUMOUR].to_numpy() == (tissue.distance < 0)).mean())
        assert ((result.obs[keys.SIGNED_DISTANCE] < 0).to_numpy() <= result.obs[keys.TUMOUR].to_numpy()).all()
    assert np.median(errors) < 50
    assert min(agreement) > 0.95


def test_border_does_not_move_with_rotation_or_scale_of_abundances():
    tissue = generator.tissue(seed=1)
    plain = mapped(tissue).obs[keys.SIGNED_DISTANCE].to_numpy()
    order = np.random.default_rng(0).permutation(len(tissue.xy))
    moved = generator.Tissue(
        xy=(tissue.xy[order][:, ::-1] + 5000.0),
        distance=tissue.distance[order],
        fractions=tissue.fractions.iloc[order].reset_index(drop=True),
    )
    np.testing.assert_allclose(mapped(moved).obs[keys.SIGNED_DISTANCE].to_numpy(), plain[order], atol=1e-6)
    diluted = tissue.fractions.copy()
    diluted["malignant_ductal"] *= 0.5  # a tumour with much more stroma
    stroma = mapped(tissue, diluted).obs[keys.SIGNED_DISTANCE].to_numpy()
    assert np.median(np.abs(stroma - plain)) < 20


def test_specks_and_holes_are_absorbed():
    tissue = generator.tissue(seed=0)
    fractions = tissue.fractions.copy()
    deep = np.flatnonzero(tissue.distance < -300)[:1]
    far = np.flatnonzero(tissue.distance > 400)[:1]
    for spot, name in ((deep, "hepatocyte"), (far, "malignant_ductal")):
        near = np.hypot(*(tissue.xy - tissue.xy[spot]).T) < 110
        fractions.loc[near] = 0.0
        fractions.loc[near, name] = 1.0
    tumour = mapped(tissue, fractions).obs[keys.TUMOUR].to_numpy()
    assert tumour[deep].all() and not tumour[far].any()


@pytest.mark.parametrize(("missing", "words"), [("hepatocyte", "no liver"), ("malignant_ductal", "no tumour")])
def test_without_tumour_or_liver_there_is_no_border(missing, words):
    tissue = generator.tissue(seed=0)
    cases = {
        words: tissue.fractions.assign(**{missing: 0.02}),
        f"no profile of {missing}": tissue.fractions.drop(columns=missing),
    }
    for reason, fractions in cases.items():
        result = mapped(tissue, fractions)
        assert result.obs[keys.SIGNED_DISTANCE].isna().all()
        assert (result.obs[keys.ZONE] == "none").all()
        assert reason in result.uns["livermet"]["border_reason"]


def test_tumour_and_liver_that_do_not_touch_have_no_border():
    xy = generator.hexagonal(12, 24)
    left, right = xy[:, 0] < 900, xy[:, 0] > 1500
    fractions = pd.DataFrame({"malignant_ductal": 1.0 * left, "hepatocyte": 1.0 * right, "caf_pan": 1.0})
    fractions = fractions.div(fractions.sum(axis=1), axis=0)
    keep = left | right
    tissue = generator.Tissue(xy=xy[keep], distance=xy[keep, 0], fractions=fractions[keep].reset_index(drop=True))
    result = mapped(tissue)
    assert "nowhere touch" in result.uns["livermet"]["border_reason"]
    assert result.obs[keys.SIGNED_DISTANCE].isna().all()
    assert result.obs[keys.TUMOUR].sum() == left.sum()


def test_a_margin_narrower_than_the_uncertainty_is_refused():
    result, plain = mapped(generator.tissue(seed=0), margin_um=100), mapped(generator.tissue(seed=0))
    assert (result.obs[keys.ZONE] == "none").all()
    meta = result.uns["livermet"]
    assert "uncertainty" in meta["zone_reason"] and "uncertainty" in zones.border_summary(result)["reason"]
    # Border and distance stand, and other half-widths find their zones.
    assert meta["border_reason"] == "" and meta["border_source"] == "expression" and meta["interface_mm"] > 1
    np.testing.assert_array_equal(result.obs[keys.SIGNED_DISTANCE], plain.obs[keys.SIGNED_DISTANCE])
    row = {"library_id": "S1", "patient_id": "P", "timepoint": "T0_pre", "tissue": "liver_met"}
    limits = {"core_um": 500.0, "distant_um": 1000.0, "tile_um": 50.0, "min_spots": 10, "min_cells": 100}
    tables = [
        zones.margin_sensitivity(section_of(found, row=row), half_widths=[100.0, 250.0, 500.0], **limits)
        for found in (result, plain)
    ]
    pd.testing.assert_frame_equal(*tables)
    reasons = tables[0].drop_duplicates("margin_um").set_index("margin_um")["reason"]
    assert "not wider" in reasons[100.0] and reasons[250.0] == reasons[500.0] == ""


def test_a_section_without_border_has_its_reason_for_zones_too():
    tissue = generator.tissue(seed=0)
    meta = mapped(tissue, tissue.fractions.assign(hepatocyte=0.02), margin_um=100).uns["livermet"]
    assert meta["zone_reason"] == meta["border_reason"] and "no liver" in meta["zone_reason"]


def test_spots_that_share_their_places_have_no_border():
    tissue = generator.tissue(seed=0)
    twice = generator.Tissue(
        np.vstack([tissue.xy, tissue.xy]), np.tile(tissue.distance, 2), pd.concat([tissue.fractions] * 2)
    )
    result = mapped(twice)
    assert "share their place" in result.uns["livermet"]["border_reason"]
    assert result.obs[keys.SIGNED_DISTANCE].isna().all()


def test_zones_by_distance():
    distance = np.array([-501.0, -500, -251, -250, 0, 250, 251, 1000, 1001, np.nan])
    expected = ["core", *["inner_rim"] * 2, *["margin"] * 3, *["peritumoral"] * 2, "distant", "none"]
    assert list(zones.assign_zones(distance, **LIMITS)) == expected
    with pytest.raises(ValueError, match="margin_um"):
        zones.assign_zones(distance, margin_um=600, core_um=500, distant_um=1000)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_hardly_any_spots_and_no_abundances(n):
    tissue = generator.tissue(seed=0)
    few = generator.Tissue(tissue.xy[:n], tissue.distance[:n], tissue.fractions.iloc[:n])
    for fractions in (few.fractions, few.fractions[[]]):
        result = mapped(few, fractions)
        assert result.n_obs == n and (result.obs[keys.ZONE] == "none").all()
        assert result.uns["livermet"]["border_reason"]
        assert result.obsm[keys.ABUNDANCE].shape == fractions.shape


def test_result_can_be_written_and_read(tmp_path):
    result = mapped(generator.tissue(seed=0))
    result.write_h5ad(tmp_path / "zones.h5ad", compression="gzip")
    back = ad.read_h5ad(tmp_path / "zones.h5ad")
    assert list(back.uns[keys.ABUNDANCE_TYPES]) == list(generator.TYPES)
    np.testing.assert_array_equal(back.obs[keys.SIGNED_DISTANCE], result.obs[keys.SIGNED_DISTANCE])


@pytest.mark.parametrize("rim_um", [0, 400, 800])
def test_a_rim_of_stroma_hides_no_border_and_stroma_inside_the_tumour_is_no_liver(rim_um):
    row, column = np.mgrid[0:20, 0:40]
    xy = np.column_stack([(100 * column + 50 * (row % 2)).ravel(), (87 * row).ravel()]).astype(float)
    x = xy[:, 0] - 2000
    island = np.hypot(x + 1200, xy[:, 1] - 870) < 350
    tumour, liver = (x < -rim_um / 2) & ~island, x > rim_um / 2
    balance = np.where(tumour, 1.0, np.where(liver, -1.0, np.nan))
    mask = Mask(tumour, liver, np.zeros(len(x), dtype=bool), balance, "")
    distance = signed_distance(xy, tumour_side(xy, mask), expression_border(xy, mask, pitch_um=pitch(xy)))
    assert np.abs(distance - x).max() <= 110  # a pitch
    assert (distance[island] < 0).all() and island.sum() > 30


@pytest.mark.parametrize("rim_um", [0, 150, 300])
@pytest.mark.parametrize("malignant_in_rim", [0.0, 0.1])
def test_the_border_runs_where_the_malignant_nests_end_and_stroma_between_nests_is_tumour(rim_um, malignant_in_rim):
    xy = generator.hexagonal(20, 40)
    x = xy[:, 0] - 2000
    island = np.hypot(x + 900, xy[:, 1] - 870) < 150
    tumour, liver = (x < 0) & ~island, x > rim_um
    shares = np.full((len(x), 3), [malignant_in_rim, 0.02, 0.7])
    shares[tumour], shares[liver], shares[island] = [0.5, 0.01, 0.1], [0.01, 0.7, 0.01], [0.0, 0.01, 0.9]
    fractions = pd.DataFrame(shares / shares.sum(axis=1, keepdims=True), columns=list(generator.TYPES)[:3])
    fractions.columns = ["malignant_ductal", "hepatocyte", "caf_pan"]
    distance = mapped(generator.Tissue(xy, x, fractions)).obs[keys.SIGNED_DISTANCE].to_numpy()
    assert (distance[island] < 0).all() and island.sum() > 5
    assert np.abs(distance - x)[np.abs(x) < 1000].max() <= 100  # a pitch
    assert abs(np.median((distance - x)[np.abs(x) < 1000])) <= 50


def cells(*, seed, n=12_000, size=1500.0, resolution="cell"):
    """A wavy tumour in single cells (or 16 um bins) of a known type, with the true side of each."""
    rng = np.random.default_rng(seed)
    if resolution == "bin":
        row, column = np.divmod(np.arange(94 * 94), 94)
        xy = np.column_stack([column, row]) * 16.0
    else:
        xy = rng.uniform(0, size, (n, 2))
    wave = size / 2 + 120 * np.sin(xy[:, 1] / 200 + rng.uniform(0, 6))
    chance = 1 / (1 + np.exp((xy[:, 0] - wave) / 20))
    kind = np.where(rng.random(len(xy)) < 0.4, 2, np.where(rng.random(len(xy)) < chance, 0, 1))
    fractions = pd.DataFrame(np.eye(3)[kind] * 0.9 + 0.1 / 3, columns=["malignant_ductal", "hepatocyte", "caf_pan"])
    return generator.Tissue(xy=xy, distance=xy[:, 0] - wave, fractions=fractions)


def mapped_cells(tissue, resolution="cell", outline=None, **options):
    adata = section(tissue)
    adata.uns["livermet"] = {"resolution": resolution, "library_id": "S1"}
    adata.obs["cell_type"] = tissue.fractions.idxmax(axis=1).to_numpy()
    fractions = tissue.fractions
    return zones.map_section(
        adata, fractions.to_numpy(), tuple(fractions.columns), outline=outline, **OPTIONS | options
    )


@pytest.mark.parametrize("resolution", ["cell", "bin"])
def test_bins_and_cells_find_the_border_by_tiles(resolution):
    for seed in range(3):
        tissue = cells(seed=seed, resolution=resolution)
        result = mapped_cells(tissue, resolution)
        side = result.obs[keys.SIGNED_DISTANCE].to_numpy() < 0
        far = np.abs(tissue.distance) > 50  # a tile
        assert (side == (tissue.distance < 0))[far].mean() > 0.99
        meta = result.uns["livermet"]
        assert json.loads(meta["border_band_um"]) == [25, 50] and meta["border_source"] == "expression"
        assert meta["pitch_um"] < 20
        assert meta["interface_mm"] == pytest.approx(1.5 * 1.09, rel=0.12)  # the wave is 9 % longer than the chord


def test_zones_of_cells_do_not_depend_on_their_order():
    tissue = cells(seed=0, n=4000, size=1000)
    order = np.random.default_rng(0).permutation(len(tissue.xy))
    moved = generator.Tissue(
        tissue.xy[order], tissue.distance[order], tissue.fractions.iloc[order].reset_index(drop=True)
    )
    plain, other = mapped_cells(tissue).obs, mapped_cells(moved).obs
    np.testing.assert_allclose(
        other[keys.SIGNED_DISTANCE].to_numpy(), plain[keys.SIGNED_DISTANCE].to_numpy()[order], atol=1e-6
    )


def test_an_island_is_absorbed_by_its_area_whatever_the_resolution():
    tissue = cells(seed=1)
    place = np.array([1250.0, 700.0])
    for radius, kept in ((100, False), (250, True)):  # 3.6 and 23 spots of Visium
        fractions = tissue.fractions.copy()
        fractions.loc[np.hypot(*(tissue.xy - place).T) < radius] = [0.95, 0.025, 0.025]
        result = mapped_cells(generator.Tissue(tissue.xy, tissue.distance, fractions))
        inner = np.hypot(*(tissue.xy - place).T) < radius / 2
        assert result.obs[keys.TUMOUR].to_numpy()[inner].mean() == pytest.approx(float(kept), abs=0.02)


def test_a_lonely_cell_has_no_neighbour_and_is_no_tissue():
    tissue = cells(seed=2, n=4000, size=1000)
    xy = np.vstack([tissue.xy, [[3000.0, 3000.0]]])
    fractions = pd.concat([tissue.fractions, tissue.fractions.iloc[:1]], ignore_index=True)
    result = mapped_cells(generator.Tissue(xy, np.append(tissue.distance, 0), fractions))
    graph = result.obsp["spatial_connectivities"]
    assert graph[-1].nnz == 0 and graph[:-1].sum() > 4 * 4000
    start, end = graph.nonzero()
    assert np.hypot(*(xy[start] - xy[end]).T).max() <= 50
    assert not result.obs[keys.TUMOUR].to_numpy()[-1]


@pytest.mark.parametrize("resolution", ["cell", "bin"])
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_hardly_any_cells(resolution, n):
    tissue = cells(seed=0, resolution=resolution)
    line = np.column_stack([np.arange(n) * 10.0, np.zeros(n)])
    result = mapped_cells(generator.Tissue(line, tissue.distance[:n], tissue.fractions.iloc[:n]), resolution)
    assert result.n_obs == n and result.uns["livermet"]["border_reason"]
    assert zones.border_lines(result).is_empty
    assert zones.border_summary(result)["n_none"] == n


def test_tiles_average_what_is_known_and_leave_out_specks():
    xy = np.vstack([np.repeat([[10.0, 10.0], [60.0, 10.0]], 10, axis=0), [[200.0, 10.0]]])
    tiles = square_tiles(xy, tile_um=50)
    assert len(tiles.centres) == 2 and tiles.member[-1] == -1
    values = np.r_[np.full(9, 1.0), np.nan, np.full(10, 3.0), 5.0]
    np.testing.assert_allclose(tiles.mean(values), [1, 3])


def test_a_straight_border_has_the_length_and_place_of_the_line():
    xy = generator.hexagonal(30, 30)
    x = xy[:, 0] - 1460
    mask = Mask(x < 0, x >= 0, np.zeros(len(x), dtype=bool), -np.tanh(x / 100), "")
    border = expression_border(xy, mask, pitch_um=100)
    assert np.abs(border_points(border)[:, 0] - 1460).max() < 15
    assert border.length == pytest.approx(29 * 100 * np.sqrt(3) / 2, rel=0.02)


def test_other_half_widths_and_their_refusals():
    widths = {"core_um": 500, "distant_um": 1000, "tile_um": 50}
    row = {"library_id": "S1", "patient_id": "P", "timepoint": "T0_pre", "tissue": "liver_met"}
    spots = section_of(mapped(generator.tissue(seed=0)), row=row)
    single = section_of(mapped_cells(cells(seed=0)), row=row)
    refused, reason = zones.rezone(spots, margin_um=100, **widths)
    assert (refused.zone == "none").all() and "one spot" in reason
    narrow, reason = zones.rezone(single, margin_um=100, **widths)
    assert reason == "" and (narrow.zone == "margin").sum() < (single.zone == "margin").sum()
    wide, reason = zones.rezone(spots, margin_um=500, **widths)
    assert reason == "" and set(wide.zone) <= {"core", "margin", "peritumoral", "distant"}
    same, _ = zones.rezone(spots, margin_um=250, **widths)
    np.testing.assert_array_equal(same.zone, spots.zone)


def test_usable_zones_count_spots_and_cells_by_their_own_limits():
    row = {"library_id": "S1", "patient_id": "P", "timepoint": "T0_pre", "tissue": "liver_met"}
    spots = section_of(mapped(generator.tissue(seed=0)), row=row)
    table = zones.usable_zones(spots, min_spots=20, min_cells=200).set_index("zone")
    assert list(table.index) == list(keys.ZONES[:-1])
    assert (table["usable"] == (table["n"] >= 20)).all() and table["usable"].any()
    single = section_of(mapped_cells(cells(seed=0)), row=row)
    table = zones.usable_zones(single, min_spots=20, min_cells=4000).set_index("zone")
    assert table.loc["margin", "usable"] and table.loc["distant", "reason"] == "0 cells, 4000 needed"
    without = section_of(
        mapped(generator.tissue(seed=0), generator.tissue(seed=0).fractions.assign(hepatocyte=0.0)), row=row
    )
    table = zones.usable_zones(without, min_spots=1, min_cells=1)
    assert not table["usable"].any() and table["reason"].str.contains("no tumour-liver border").all()


def test_sensitivity_to_the_half_width_of_the_margin():
    row = {"library_id": "S1", "patient_id": "P", "timepoint": "T0_pre", "tissue": "liver_met"}
    limits = {"core_um": 500.0, "distant_um": 1000.0, "tile_um": 50.0, "min_spots": 10, "min_cells": 100}
    spots = section_of(mapped(generator.tissue(seed=0)), row=row)
    table = zones.margin_sensitivity(spots, half_widths=[100.0, 250.0, 600.0], **limits)
    reasons = table.drop_duplicates("margin_um").set_index("margin_um")["reason"]
    assert "not wider" in reasons[100.0] and reasons[250.0] == "" and "reaches into the core" in reasons[600.0]
    known = table[table["margin_um"] == 250].set_index("cell_type")["log2_ratio"]
    assert known["hepatocyte"] > 1 > known["malignant_ductal"]
    single = section_of(mapped_cells(cells(seed=0)), row=row)
    narrow = zones.margin_sensitivity(single, half_widths=[100.0], **limits)
    assert narrow["log2_ratio"].notna().all() and (narrow["n_margin"] >= 100).all()
    few = zones.margin_sensitivity(spots, half_widths=[250.0], **limits | {"min_spots": 10_000})
    assert few["reason"].str.contains("10000 needed").all() and few["log2_ratio"].isna().all()


def test_summary_of_a_section_goes_through_a_file(tmp_path):
    result = mapped_cells(cells(seed=0))
    result.write_h5ad(tmp_path / "zones.h5ad")
    back = ad.read_h5ad(tmp_path / "zones.h5ad")
    summary = zones.border_summary(back)
    assert tuple(summary) == zones.SUMMARY_COLUMNS and summary == pytest.approx(
        zones.border_summary(result), nan_ok=True
    )
    assert summary["resolution"] == "cell" and summary["band_um"] == 50 and summary["reason"] == ""
    assert summary["n_margin"] == (result.obs[keys.ZONE] == "margin").sum() > 0
    assert zones.border_lines(back).equals(zones.border_lines(result))
