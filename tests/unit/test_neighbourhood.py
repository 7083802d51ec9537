"""Neighbourhoods: calibrated within distances, fooled without; planted neighbours are found."""

import numpy as np
import pandas as pd
import pytest

import spatial_generator as generator
from livermet import neighbourhood, zones
from livermet.section import Section

SECTION = {"library_id": "S", "patient_id": "P", "timepoint": "T0_pre", "tissue": "liver_met"}
OPTIONS = {"section": SECTION, "bin_um": 100, "n_permutations": 200, "min_spots": 50, "seed": 1}
SEEDS = range(8)


def table(tissue, *, distance, tumour, **options):
    graph = zones.spatial_graph(tissue.xy, neighbours=6).connectivities
    return neighbourhood.neighbourhood_table(tissue.fractions, graph, tissue.xy, distance, tumour, **OPTIONS | options)


def passing(result):
    return (result["z"].abs() > 1.96).mean()


def sections(**options):
    return [generator.tissue(seed=seed, n_rows=22, n_cols=22, **options) for seed in SEEDS]


def test_independent_types_pass_within_distances_only():
    """Types that know of each other only through the border: the trap of zones, and the null that avoids it."""
    rates = [passing(table(t, distance=t.distance, tumour=t.distance < 0)) for t in sections()]
    assert np.mean(rates) <= 0.07
    fooled = []
    for tissue in sections():
        graph = zones.spatial_graph(tissue.xy, neighbours=6).connectivities
        values = tissue.fractions.to_numpy()
        whole = np.zeros(len(values), dtype=np.int64)
        observed, mean, sd = neighbourhood.enrichment(values, graph, whole, n_permutations=200, seed=1)
        fooled.append((np.abs((observed - mean) / sd) > 1.96).mean())
    assert np.mean(fooled) > 0.4


def test_trend_inside_bins_must_go_first():
    tissues = sections()
    raw = []
    for tissue in tissues:
        graph = zones.spatial_graph(tissue.xy, neighbours=6).connectivities
        groups, _ = neighbourhood.strata(tissue.distance, tissue.distance < 0, bin_um=100)
        observed, mean, sd = neighbourhood.enrichment(
            tissue.fractions.to_numpy(), graph, groups, n_permutations=200, seed=1
        )
        raw.append((np.abs((observed - mean) / sd) > 1.96).mean())
    kept = [passing(table(t, distance=t.distance, tumour=t.distance < 0)) for t in tissues]
    assert np.mean(raw) > 0.08 > np.mean(kept)


def test_planted_neighbours_are_found():
    z = []
    for tissue in sections(niche=True):
        result = table(tissue, distance=tissue.distance, tumour=tissue.distance < 0)
        pair = result[(result["type_a"] == "caf_pan") & (result["type_b"] == "tam_SPP1")]
        z.append(pair["z"].iloc[0])
    assert np.median(z) > 2


def test_permutations_stay_within_bins_and_never_cross_the_border():
    tissue = generator.tissue(seed=0)
    groups, kind = neighbourhood.strata(tissue.distance, tissue.distance < 0, bin_um=100)
    assert kind == "distance_bins"
    order = neighbourhood.permutation(groups, np.random.default_rng(0))
    assert sorted(order) == list(range(len(order))) and (order != np.arange(len(order))).mean() > 0.8
    np.testing.assert_array_equal(groups[order], groups)
    np.testing.assert_array_equal(tissue.distance[order] < 0, tissue.distance < 0)
    assert np.abs(np.abs(tissue.distance[order]) - np.abs(tissue.distance)).max() < 100


def test_spots_without_distance_stay_in_place():
    groups = np.array([-1, 0, 0, 1, -1, 1, 0])
    for seed in range(5):
        order = neighbourhood.permutation(groups, np.random.default_rng(seed))
        assert order[0] == 0 and order[4] == 4
        np.testing.assert_array_equal(groups[order], groups)


def test_statistic_is_the_correlation_over_neighbouring_pairs():
    tissue = generator.tissue(seed=0, n_rows=9, n_cols=9)
    graph = zones.spatial_graph(tissue.xy, neighbours=6).connectivities
    values = tissue.fractions.to_numpy()
    standard = (values - values.mean(axis=0)) / values.std(axis=0)
    edges = graph.tocoo()
    result = neighbourhood.lagged_correlation(standard, graph)
    pairs = np.mean(standard[edges.row, 1] * standard[edges.col, 3])
    assert result[1, 3] == pytest.approx(pairs) == pytest.approx(result[3, 1])


def test_order_of_types_does_not_matter_and_seed_repeats():
    tissue = generator.tissue(seed=0)
    first = table(tissue, distance=tissue.distance, tumour=tissue.distance < 0)
    pd.testing.assert_frame_equal(first, table(tissue, distance=tissue.distance, tumour=tissue.distance < 0))
    turned = generator.Tissue(tissue.xy, tissue.distance, tissue.fractions.iloc[:, ::-1])
    other = table(turned, distance=tissue.distance, tumour=tissue.distance < 0)

    def by_pair(result):
        pairs = [tuple(sorted(pair)) for pair in zip(result["type_a"], result["type_b"], strict=True)]
        return pd.Series(result["z"].to_numpy(), index=pd.MultiIndex.from_tuples(pairs)).sort_index()

    pd.testing.assert_series_equal(by_pair(first), by_pair(other))


def test_without_border_sides_are_permuted_and_it_is_said():
    tissue = generator.tissue(seed=0)
    result = table(tissue, distance=np.full(len(tissue.xy), np.nan), tumour=tissue.distance < 0)
    assert set(result["null"]) == {"sides"} and result["z"].notna().all()


def test_few_spots_constant_types_and_nothing_at_all():
    small = generator.tissue(seed=0, n_rows=5, n_cols=5)
    result = table(small, distance=small.distance, tumour=small.distance < 0)
    assert set(result["null"]) == {"too_few_spots"} and result["z"].isna().all() and (result["n_spots"] == 25).all()
    tissue = generator.tissue(seed=0)
    flat = tissue.fractions.assign(b_cell=0.0)
    result = table(
        generator.Tissue(tissue.xy, tissue.distance, flat), distance=tissue.distance, tumour=tissue.distance < 0
    )
    touched = (result[["type_a", "type_b"]] == "b_cell").any(axis=1)
    assert result.loc[touched, "z"].isna().all() and result.loc[~touched, "z"].notna().all()
    empty = neighbourhood.scope_neighbourhood([], bin_um=100, n_permutations=10, min_spots=50, seed=1)
    assert empty.empty and list(empty) == list(neighbourhood.NEIGHBOURHOOD_COLUMNS)


def single_cells(cells, *, order=None):
    order = np.arange(len(cells.xy)) if order is None else order
    return Section(
        **SECTION,
        barcodes=np.array([f"c{i}" for i in order], dtype=object),
        coordinates=cells.xy[order],
        abundance=pd.DataFrame(index=range(len(order))),
        graph=zones.spatial_graph(cells.xy[order], neighbours=6).connectivities,
        distance=cells.distance[order],
        tumour=cells.distance[order] < 0,
        zone=zones.assign_zones(cells.distance[order], margin_um=250, core_um=500, distant_um=1000),
        resolution="cell",
        cell_type=cells.labels[order],
    )


CELLS = {"bin_um": 50, "n_permutations": 80, "min_spots": 50, "seed": 1}


def test_all_four_nulls_on_single_cells():
    """Gradients inside zones, independence given the distance: only the bins of distance are not fooled."""
    rates = {"whole": [], "zones": [], "bins": [], "bins and trends": []}
    for seed in SEEDS:
        section = single_cells(generator.cells(seed=seed))
        values = neighbourhood.labels_as_abundance(section).to_numpy()
        bins, _ = neighbourhood.strata(section.distance, section.tumour, bin_um=50)
        groups = {
            "whole": np.zeros(len(values), dtype=np.int64),
            "zones": np.unique(section.zone.astype(str), return_inverse=True)[1],
            "bins": bins,
        }
        upper = np.triu_indices(values.shape[1])
        for name, group in groups.items():
            options = {"n_permutations": 80, "seed": 1}
            observed, mean, sd = neighbourhood.enrichment(values, section.graph, group, **options)
            rates[name].append((np.abs((observed - mean) / sd)[upper] > 1.96).mean())
        rates["bins and trends"].append(passing(neighbourhood.scope_neighbourhood([section], **CELLS)))
    median = {name: np.median(values) for name, values in rates.items()}
    assert median["whole"] > 0.4 and median["zones"] > 0.1
    assert median["bins"] <= 0.08 and median["bins and trends"] <= 0.07


def test_border_misplaced_for_some_hundred_micrometres_makes_no_neighbours():
    """Errors of a smooth border: 60 um, over waves of 500 to 1,000 um along it."""
    rates = []
    for seed in range(12):
        cells = generator.cells(seed=seed)
        rng = np.random.default_rng(seed)
        waves = 2 * np.pi / rng.uniform(500, 1000, 3)
        error = 60 * np.sqrt(2 / 3) * np.sin(cells.xy[:, :1] * waves + rng.uniform(0, 6, 3)).sum(axis=1)
        moved = generator.Cells(xy=cells.xy, distance=cells.distance + error, code=cells.code)
        rates.append(passing(neighbourhood.scope_neighbourhood([single_cells(moved)], **CELLS)))
    assert np.mean(rates) <= 0.09


def test_what_taking_out_a_trend_does_to_neighbours_is_in_the_null():
    cells = generator.cells(seed=3)
    section = single_cells(cells)
    place = (section.coordinates, section.distance, section.distance < 0)
    noise = np.random.default_rng(3).normal(size=(len(cells.xy), 400))
    left = neighbourhood.detrend(noise, *place, bin_um=50, local=True)
    left = (left - left.mean(axis=0)) / left.std(axis=0)
    lags = np.einsum("ij,ij->j", left, section.graph @ left) / section.graph.sum()
    expected = neighbourhood.lag_of_trend(section.graph, *place, bin_um=50)
    assert expected < 0
    assert lags.mean() == pytest.approx(expected, abs=4 * lags.std() / np.sqrt(len(lags)))


@pytest.mark.parametrize(("share", "sign"), [(0.5, 1), (-0.8, -1)])
def test_attraction_and_avoidance_of_single_cells_are_found(share, sign):
    z = []
    for seed in SEEDS:
        cells = generator.attract(generator.cells(seed=seed), first=2, second=3, share=share, seed=seed)
        result = neighbourhood.scope_neighbourhood([single_cells(cells)], **CELLS)
        pair = result[(result["type_a"] == "type2") & (result["type_b"] == "type3")]
        z.append(sign * pair["z"].iloc[0])
    assert np.median(z) > 3
    assert set(result["resolution"]) == {"cell"} and set(result["null"]) == {"distance_bins"}


def test_order_of_cells_does_not_matter_rare_types_and_unknown_cells():
    cells = generator.cells(seed=0, side_um=700)
    section = single_cells(cells)
    first = neighbourhood.scope_neighbourhood([section], **CELLS)
    turned = single_cells(cells, order=np.random.default_rng(0).permutation(len(cells.xy)))
    pd.testing.assert_frame_equal(first, neighbourhood.scope_neighbourhood([turned], **CELLS))
    labels = section.cell_type.copy()
    labels[labels == "type4"] = "unknown"
    labels[np.flatnonzero(labels == "type0")[:5]] = "rare"
    result = neighbourhood.scope_neighbourhood([Section(**vars(section) | {"cell_type": labels})], **CELLS)
    assert "unknown" not in set(result["type_a"]) and (result["n_spots"] == (labels != "unknown").sum()).all()
    rare = (result[["type_a", "type_b"]] == "rare").any(axis=1)
    assert result.loc[rare, "z"].isna().all() and result.loc[~rare, "z"].notna().all()


def test_bins_are_never_narrower_than_a_row_of_spots():
    tissue = generator.tissue(seed=0)
    wide = table(tissue, distance=tissue.distance, tumour=tissue.distance < 0, bin_um=zones.pitch(tissue.xy))
    narrow = table(tissue, distance=tissue.distance, tumour=tissue.distance < 0, bin_um=20)
    pd.testing.assert_frame_equal(wide, narrow)
