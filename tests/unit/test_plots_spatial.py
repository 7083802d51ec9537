"""Figures of sections: they can be drawn and saved, and say why where there is nothing to show."""

import numpy as np
import pandas as pd
import pytest

import spatial_generator as generator
from livermet import neighbourhood, niches, zones
from livermet.plots import spatial
from livermet.plots.style import save_figure
from livermet.section import label_section, section_of
from test_zones import OPTIONS, section

ROW = {"library_id": "S1", "patient_id": "P", "timepoint": "T0_pre", "tissue": "liver_met"}
CLUSTER = {
    "rings": 1, "own_weight": 1.0, "lineage_weight": 0.5, "k_min": 4, "k_max": 5, "n_seeds": 2, "min_ari": 0.7,
    "min_spots": 200, "seed": 1,
}  # fmt: skip
PROFILES = {"bin_um": 100, "min_spots": 3, "n_types": 8}


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
    figure = spatial.plot_section(section, title="S1", niche_names=names, n_types=6, margin_um=250.0)
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
    figure = spatial.plot_section(nothing, title="S1", niche_names={}, n_types=6, margin_um=250.0)
    save_figure(figure, tmp_path / "section.png", simulated=False)
    shown = " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))
    assert "no reference profiles" in shown
    assert "no spot was kept" in words(
        spatial.plot_section(mapped[:0], title="S1", niche_names={}, n_types=6, margin_um=250.0)
    )


def test_figures_of_a_scope(mapped, tmp_path):
    sections = [section_of(mapped, row=ROW), section_of(mapped, row=ROW | {"library_id": "S2", "patient_id": "Q"})]
    found = niches.find_niches(sections, **CLUSTER)
    pairs = neighbourhood.scope_neighbourhood(sections, bin_um=100, n_permutations=20, min_spots=50, seed=1)
    figures = [
        spatial.plot_niches(found.composition, found.labels, {"S1": "P", "S2": "Q"}, found.consensus),
        spatial.plot_stability(found.stability, min_ari=0.7),
        spatial.plot_neighbourhood(pairs, min_spots=50),
        spatial.plot_distance_profiles(sections, **PROFILES),
        spatial.plot_zones(sections, min_spots=20, min_cells=200),
    ]
    for i, figure in enumerate(figures):
        save_figure(figure, tmp_path / f"{i}.png", simulated=True)
        assert len(figure.axes) >= 1
    thick = [line for line in figures[3].axes[0].lines if line.get_linewidth() > 2]
    assert len(thick) == 1 and np.isfinite(thick[0].get_ydata()).any()


def test_scope_without_sections_says_so(mapped):
    found = niches.find_niches([], **CLUSTER)
    pairs = neighbourhood.scope_neighbourhood([], bin_um=100, n_permutations=20, min_spots=50, seed=1)
    assert "No niches" in words(spatial.plot_niches(found.composition, found.labels, {}, found.consensus))
    assert "No niches" in words(spatial.plot_stability(found.stability, min_ari=0.7))
    assert "No neighbourhood statistics" in words(spatial.plot_neighbourhood(pairs, min_spots=50))
    assert "No distance profiles" in words(spatial.plot_distance_profiles([], **PROFILES))
    assert "No zones" in words(spatial.plot_zones([], min_spots=20, min_cells=200))
    empty = section_of(mapped[:0], row=ROW)
    assert "No zones" in words(spatial.plot_zones([empty], min_spots=20, min_cells=200))
