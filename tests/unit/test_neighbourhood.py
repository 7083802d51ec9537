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
    graphs = {"": graph}
    return neighbourhood.neighbourhood_table(tissue.fractions, graphs, tissue.xy, distance, tumour, **OPTIONS | options)


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
        observed, mean, sd = neighbourhood.enrichment(values, [graph], whole, n_permutations=200, seed=1)
        fooled.append((np.abs((observed - mean) / sd) > 1.96).mean())
    assert np.mean(fooled) > 0.4


def test_trend_inside_bins_must_go_first():
    tissues = sections()
    raw = []
    for tissue in tissues:
        graph = zones.spatial_graph(tissue.xy, neighbours=6).connectivities
        groups, _ = neighbourhood.strata(tissue.distance, tissue.distance < 0, bin_um=100)
        observed, mean, sd = neighbourhood.enrichment(
            tissue.fractions.to_numpy(), [graph], groups, n_permutations=200, seed=1
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
    assert empty.empty and list(empty) == [*neighbourhood.NEIGHBOURHOOD_COLUMNS, "reason"]


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
            observed, mean, sd = neighbourhood.enrichment(values, [section.graph], group, **options)
            rates[name].append((np.abs((observed - mean) / sd)[0][upper] > 1.96).mean())
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


def mean_z(abundance, xy, distance, *, resolution="spot"):
    """Mean z of a type with itself, and of two types, in neighbours of one section."""
    graphs = {"": zones.spatial_graph(xy, neighbours=6, resolution=resolution).connectivities}
    options = OPTIONS | {"bin_um": 50, "n_permutations": 80, "resolution": resolution}
    result = neighbourhood.neighbourhood_table(pd.DataFrame(abundance), graphs, xy, distance, distance < 0, **options)
    alone = result["type_a"] == result["type_b"]
    return result.loc[alone, "z"].mean(), result.loc[~alone, "z"].mean()


def test_types_of_noise_are_neither_together_nor_apart():
    """Residuals of a fit lean away from each other: left out of the null self pairs are at -0.5, counted twice at 0.5.

    Bounds: means over 40 sets of noise were between 0.04 and 0.12 with themselves and -0.06 and 0.01 between types,
    with standard errors of 0.05 (12 sets of cells: 0.11) and 0.02.
    """
    rng = np.random.default_rng(7)
    share = np.array([6, 5, 0.5, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3, 0.2, 0.2])
    xy = generator.hexagonal(11, 36)
    spots = [mean_z(rng.dirichlet(share, len(xy)), xy, xy[:, 0] - 1800.5) for _ in range(30)]
    assert np.abs(np.mean(spots, axis=0)) == pytest.approx([0, 0], abs=0.25)
    places = [generator.cells(seed=seed).xy for seed in range(10)]
    labels = [np.eye(12)[rng.choice(12, p=share / share.sum(), size=len(xy))] for xy in places]
    cells = [mean_z(one, xy, xy[:, 1] - 500.5, resolution="cell") for xy, one in zip(places, labels, strict=True)]
    assert np.abs(np.mean(cells, axis=0)) == pytest.approx([0, 0], abs=0.3)


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


def bins_of(cells, *, seed, resolution="bin"):
    bins = generator.bins(cells, seed=seed)
    return Section(
        **SECTION,
        barcodes=np.array([f"b{i}" for i in range(len(bins.xy))], dtype=object),
        coordinates=bins.xy,
        abundance=pd.DataFrame(bins.fractions),
        graph=zones.spatial_graph(bins.xy, neighbours=6, resolution=resolution).connectivities,
        distance=bins.distance,
        tumour=bins.distance < 0,
        zone=np.full(len(bins.xy), "none", dtype=object),
        resolution=resolution,
    )


def test_bins_that_share_cells_would_be_neighbours_and_are_refused():
    """Independent types under the smear of Visium HD: as if they were spots most pairs pass, so bins have no z."""
    cells = [generator.cells(seed=seed, side_um=700) for seed in range(3)]
    as_spots = [bins_of(one, seed=i, resolution="spot") for i, one in enumerate(cells)]
    result = neighbourhood.scope_neighbourhood(as_spots, **CELLS)
    assert passing(result[result["type_a"] != result["type_b"]]) > 0.5
    for scope in (neighbourhood.scope_neighbourhood, neighbourhood.scope_cooccurrence):
        both = scope([bins_of(cells[0], seed=0), single_cells(cells[0])], **CELLS)
        refused = both[both["null"] == "bins_share_cells"]
        assert len(refused) == 1 and refused["resolution"].tolist() == ["bin"] and refused["z"].isna().all()
        assert refused["reason"].tolist() == ["bins share cells with their neighbours; single cells are needed"]
        assert set(both["resolution"]) == {"bin", "cell"} and both.loc[both["z"].notna(), "reason"].eq("").all()


def test_cells_without_types_leave_a_row_with_the_reason():
    section = single_cells(generator.cells(seed=0, side_um=300))
    unknown = np.full(len(section.barcodes), "unknown", dtype=object)
    result = neighbourhood.scope_neighbourhood([Section(**vars(section) | {"cell_type": unknown})], **CELLS)
    assert result[["library_id", "null", "n_spots"]].to_numpy().tolist() == [["S", "no_types", 0]]
    assert result["reason"].tolist() == ["no cell has a type, or no spot abundances"] and result["z"].isna().all()


def test_cooccurrence_is_the_correlation_over_pairs_at_a_distance():
    section = single_cells(generator.cells(seed=0, side_um=400))
    graphs = neighbourhood.distance_bands(section, max_cells=10**6, seed=1)
    assert list(graphs) == ["0-30", "30-60", "60-100", "100-150"]
    distance = np.hypot(*(section.coordinates[:, None] - section.coordinates[None]).transpose(2, 0, 1))
    for band, graph in graphs.items():
        near, far = map(float, band.split("-"))
        np.testing.assert_array_equal(graph.toarray() > 0, (distance > near) & (distance <= far))
    some = neighbourhood.distance_bands(section, max_cells=50, seed=1)
    assert (some["30-60"] != some["30-60"].T).nnz == 0
    assert some["30-60"].sum() / graphs["30-60"].sum() == pytest.approx(50 / len(distance), rel=0.1)
    assert some["30-60"].multiply(graphs["30-60"]).nnz == some["30-60"].nnz
    tissue = generator.tissue(seed=0, n_rows=9, n_cols=9)
    rows = neighbourhood.distance_bands(spots_of(tissue), max_cells=1000, seed=1)
    assert [graph[[40]].nnz for graph in rows.values()] == [6, 12, 24]


def spots_of(tissue):
    return Section(
        **SECTION,
        barcodes=np.arange(len(tissue.xy)).astype(str).astype(object),
        coordinates=tissue.xy,
        abundance=tissue.fractions,
        graph=zones.spatial_graph(tissue.xy, neighbours=6).connectivities,
        distance=tissue.distance,
        tumour=tissue.distance < 0,
        zone=np.full(len(tissue.xy), "none", dtype=object),
    )


def test_independent_types_pass_at_no_distance():
    """Over ten seeds between 2 % (cells, 100 to 150 um) and 6 % (cells, up to 30 um; spots) passed."""
    cells = [single_cells(generator.cells(seed=seed)) for seed in SEEDS]
    result = neighbourhood.scope_cooccurrence(cells, **CELLS | {"n_permutations": 50})
    rates = [passing(part) for _, part in result.groupby("band_um")]
    tissues = [spots_of(tissue) for tissue in sections()]
    result = neighbourhood.scope_cooccurrence(tissues, **OPTIONS_OF_SPOTS)
    rates += [passing(part) for _, part in result.groupby("band_um")]
    assert len(rates) == 7 and max(rates) <= 0.08


OPTIONS_OF_SPOTS = {"bin_um": 100, "n_permutations": 80, "min_spots": 50, "seed": 1}


def test_planted_neighbours_are_found_at_their_distance_only():
    z = []
    for seed in range(5):
        cells = generator.attract(generator.cells(seed=seed), first=2, second=3, share=0.5, seed=seed)
        result = neighbourhood.scope_cooccurrence([single_cells(cells)], **CELLS | {"n_permutations": 50})
        pair = result[(result["type_a"] == "type2") & (result["type_b"] == "type3")]
        z.append(pair.set_index("band_um")["z"])
    median = pd.concat(z, axis=1).median(axis=1)
    assert median["0-30"] > 3 and median.drop("0-30").max() < 1


def test_cooccurrence_of_cells_in_any_order_of_few_and_of_none():
    cells = generator.cells(seed=0, side_um=500)
    options = CELLS | {"n_permutations": 10}
    first = neighbourhood.scope_cooccurrence([single_cells(cells)], **options, max_cells=200)
    turned = single_cells(cells, order=np.random.default_rng(0).permutation(len(cells.xy)))
    pd.testing.assert_frame_equal(first, neighbourhood.scope_cooccurrence([turned], **options, max_cells=200))
    small = neighbourhood.scope_cooccurrence([spots_of(generator.tissue(seed=0, n_rows=5, n_cols=5))], **options)
    assert set(small["null"]) == {"too_few_spots"} and set(small["band_um"]) == {"50-150", "150-250", "250-350"}
    assert small["z"].isna().all() and set(small["reason"]) == {"too few spots or cells with abundances"}
    one = single_cells(cells, order=np.arange(1))
    assert set(neighbourhood.scope_cooccurrence([one], **options)["null"]) == {"too_few_spots"}
    empty = neighbourhood.scope_cooccurrence([], **options)
    assert empty.empty and list(empty) == [*neighbourhood.COOCCURRENCE_COLUMNS, "reason"]


def test_bins_are_never_narrower_than_a_row_of_spots():
    tissue = generator.tissue(seed=0)
    wide = table(tissue, distance=tissue.distance, tumour=tissue.distance < 0, bin_um=zones.pitch(tissue.xy))
    narrow = table(tissue, distance=tissue.distance, tumour=tissue.distance < 0, bin_um=20)
    pd.testing.assert_frame_equal(wide, narrow)
