"""Figures of sections: they can be drawn and saved, and say why where there is nothing to show."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import spatial_generator as generator
from livermet import deconvolve, neighbourhood, niches, profiles, zones
from livermet.plots import spatial
from livermet.plots.style import save_figure
from livermet.section import label_section, section_of
from test_zones import OPTIONS, section

ROW = {"library_id": "S1", "patient_id": "P", "timepoint": "T0_pre", "tissue": "liver_met"}
IDENTITY = ROW | {"modality": "visium"}
CLUSTER = {
    "rings": 1, "own_weight": 1.0, "lineage_weight": 0.5, "k_min": 4, "k_max": 5, "n_seeds": 2, "min_ari": 0.7,
    "min_spots": 200, "seed": 1,
}  # fmt: skip
PROFILES = {"min_spots": 3, "n_types": 8}
PANEL = {"title": "S1", "n_types": 6, "margin_um": 250.0, "min_spots": 3}


def lines_of(mapped, row=ROW):
    return profiles.section_profiles(mapped, section_of(mapped, row=row), genes=[], bin_um=100.0)


def of_patients(mapped, *rows):
    tables = [lines_of(mapped, row).assign(**{k: row[k] for k in IDENTITY}) for row in rows]
    return profiles.combine_profiles(pd.concat(tables))


def shown(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def panel(figure, title):
    return next(ax for ax in figure.axes if ax.get_title() == title)


def thick(ax):
    return [line for line in ax.lines if line.get_linewidth() > 2]


def words(figure):
    return " ".join(text.get_text() for text in figure.texts)


@pytest.fixture(scope="module")
def mapped():
    tissue = generator.tissue(seed=0)
    fractions = tissue.fractions.to_numpy()
    return zones.map_section(section(tissue), fractions, tuple(tissue.fractions.columns), **OPTIONS)


@pytest.mark.parametrize("image", [True, False])
def test_section_panel(mapped, tmp_path, image):
    section = mapped.copy()
    if image:
        pixels = np.full((200, 220, 3), 200, dtype=np.uint8)
        slot = {"images": {"lowres": pixels}, "scalefactors": {"tissue_lowres_scalef": 0.1}}
        section.uns["spatial"] = {"S1": slot}
    found = niches.find_niches([section_of(section, row=ROW)], **CLUSTER)
    section = label_section(section, found.labels)
    names = found.composition.drop_duplicates("niche").set_index("niche")["name"].to_dict()
    figure = spatial.plot_section(section, lines_of(mapped), niche_names=names, **PANEL)
    titles = [ax.get_title() for ax in figure.findobj(lambda artist: hasattr(artist, "get_title"))]
    assert {"Signed distance, margin", "Zones", "Niches", "malignant_ductal", "hepatocyte"} <= set(titles)
    assert ("Image, border" in titles) == image
    save_figure(figure, tmp_path / "section.png", simulated=True)
    assert (tmp_path / "section.png").stat().st_size > 10_000


def test_section_without_abundances_and_without_spots_say_why(mapped, tmp_path):
    tissue = generator.tissue(seed=0)
    nothing = zones.map_section(
        section(tissue), np.empty((len(tissue.xy), 0)), (), **OPTIONS | {"abundance_reason": "no reference profiles"}
    )
    nothing = label_section(nothing, pd.DataFrame(columns=list(niches.LABEL_COLUMNS), dtype=str))
    figure = spatial.plot_section(nothing, lines_of(nothing), niche_names={}, **PANEL)
    save_figure(figure, tmp_path / "section.png", simulated=False)
    assert "no reference profiles" in shown(figure)
    assert "No profile over the distance to the border: no tumour-liver border" in shown(figure)
    assert "no spot was kept" in words(spatial.plot_section(mapped[:0], lines_of(mapped), niche_names={}, **PANEL))


def labelled(mapped):
    return label_section(mapped, pd.DataFrame(columns=list(niches.LABEL_COLUMNS), dtype=str))


def lines_across(figure):
    axes = [ax for ax in figure.axes if ax.get_xlabel().startswith("signed distance")]
    return {line.get_label(): line for ax in axes for line in ax.lines if not line.get_label().startswith("_")}


def test_a_section_shows_its_types_over_the_distance_smoothed_on_either_side(mapped):
    table = lines_of(mapped)
    lines = lines_across(spatial.plot_section(labelled(mapped), table, niche_names={}, **PANEL))
    assert len(lines) == PANEL["n_types"]
    rows = table[(table["name"] == "hepatocyte") & (table["n_spots"] >= 3)].set_index("bin_um").sort_index()
    expected = []
    for place in rows.index:
        near = rows[(np.abs(rows.index - place) < 150) & (np.sign(rows.index) == np.sign(place))]
        weight = near["n_spots"] * np.where(near.index == place, 1.0, 0.5)
        expected.append((weight * near["mean"]).sum() / weight.sum())
    np.testing.assert_array_equal(lines["hepatocyte"].get_xdata(), rows.index)
    np.testing.assert_allclose(lines["hepatocyte"].get_ydata(), expected)


def test_a_rare_type_is_marked_and_has_no_line(mapped):
    section = labelled(mapped)
    types = list(section.uns["abundance_types"])
    section.obsm["abundance"] = np.array(section.obsm["abundance"])
    section.obsm["abundance"][:, types.index("malignant_ductal")] *= 0.5 * deconvolve.RARE_SHARE
    figure = spatial.plot_section(section, lines_of(mapped), niche_names={}, **PANEL)
    titles = [ax.get_title() for ax in figure.axes]
    assert "malignant_ductal (rare here)" in titles and "hepatocyte" in titles
    assert "malignant_ductal" not in lines_across(figure) and "hepatocyte" in lines_across(figure)
    section.uns["livermet"] = {**section.uns["livermet"], "resolution": "cell"}
    cells = spatial.plot_section(section, lines_of(mapped), niche_names={}, **PANEL)
    assert "malignant_ductal" in [ax.get_title() for ax in cells.axes]


def test_figures_of_a_scope(mapped, tmp_path):
    sections = [section_of(mapped, row=ROW), section_of(mapped, row=ROW | {"library_id": "S2", "patient_id": "Q"})]
    found = niches.find_niches(sections, **CLUSTER)
    pairs = neighbourhood.scope_neighbourhood(sections, bin_um=100, n_permutations=20, min_spots=50, seed=1)
    figures = [
        spatial.plot_niches(found.composition, found.labels, {"S1": "P", "S2": "Q"}, found.consensus),
        spatial.plot_stability(found.stability, min_ari=0.7),
        spatial.plot_neighbourhood(pairs, min_spots=50),
        spatial.plot_distance_profiles(of_patients(mapped, IDENTITY, IDENTITY | {"patient_id": "Q"}), **PROFILES),
        spatial.plot_zones(sections, min_spots=20, min_cells=200),
    ]
    for i, figure in enumerate(figures):
        save_figure(figure, tmp_path / f"{i}.png", simulated=True)
        assert len(figure.axes) >= 1
    (mean,) = thick(figures[3].axes[0])
    assert np.isfinite(mean.get_ydata()).any()


def test_profiles_are_of_one_resolution_and_a_patient_counts_once_per_timepoint(mapped):
    late, other = IDENTITY | {"timepoint": "T3_resection"}, IDENTITY | {"patient_id": "Q"}
    spots = of_patients(mapped, IDENTITY, late, other)
    cells = spots[spots["patient_id"] == "P"].assign(modality="xenium", mean=0.9)
    figure = spatial.plot_distance_profiles(pd.concat([spots, cells]), **PROFILES)
    said = shown(figure)
    assert "sections of spots" in said
    assert "T0_pre liver_met, n = 2 patients" in said and "T3_resection liver_met, n = 1 patient" in said
    early, alone = thick(panel(figure, "hepatocyte"))
    assert not len(alone.get_xdata())
    rows = spots[(spots["name"] == "hepatocyte") & (spots["timepoint"] == "T0_pre") & (spots["n_spots"] >= 3)]
    means = rows.groupby("bin_um")["mean"].mean()
    np.testing.assert_array_equal(early.get_xdata(), means.index)
    np.testing.assert_allclose(early.get_ydata(), means)


def test_zones_are_of_one_resolution_and_a_patient_counts_once_per_timepoint(mapped):
    spots = section_of(mapped, row=ROW)
    other = replace(spots, library_id="S2", patient_id="Q")
    late = replace(spots, library_id="S3", timepoint="T3_resection")
    abundance = spots.abundance * 0
    cells = replace(spots, library_id="S4", resolution="cell", abundance=abundance.assign(hepatocyte=1.0))
    figure = spatial.plot_zones([spots, other, late, cells], min_spots=20, min_cells=20)
    early, after = figure.axes[:2]
    assert early.get_title() == "T0_pre liver_met, n = 2 patients"
    assert after.get_title() == "T3_resection liver_met, n = 1 patient"
    assert "sections of spots" in early.get_ylabel()
    core = next(zone for zone in ("core", "inner_rim") if (spots.zone == zone).sum() >= 20)
    bars = next(bars for bars in early.containers if bars.get_label() == "hepatocyte")
    assert bars[0].get_height() == pytest.approx(spots.abundance.loc[spots.zone == core, "hepatocyte"].mean())
    assert [label.get_text() for label in figure.axes[2].get_yticklabels()] == ["S1", "S2", "S3", "S4"]


def test_no_bin_with_enough_observations_is_said(mapped):
    few = of_patients(mapped, IDENTITY).assign(n_spots=2)
    assert "no bin of distance holds 3" in words(spatial.plot_distance_profiles(few, **PROFILES))


def test_scope_without_sections_says_so(mapped):
    found = niches.find_niches([], **CLUSTER)
    pairs = neighbourhood.scope_neighbourhood([], bin_um=100, n_permutations=20, min_spots=50, seed=1)
    assert "No niches" in words(spatial.plot_niches(found.composition, found.labels, {}, found.consensus))
    assert "No niches" in words(spatial.plot_stability(found.stability, min_ari=0.7))
    assert "No neighbourhood statistics" in words(spatial.plot_neighbourhood(pairs, min_spots=50))
    assert "No distance profiles" in words(
        spatial.plot_distance_profiles(pd.DataFrame(columns=profiles.PATIENT_PROFILE), **PROFILES)
    )
    assert "No zones" in words(spatial.plot_zones([], min_spots=20, min_cells=200))
    empty = section_of(mapped[:0], row=ROW)
    assert "No zones" in words(spatial.plot_zones([empty], min_spots=20, min_cells=200))
