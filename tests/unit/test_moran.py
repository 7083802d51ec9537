"""Spatially variable genes: the analytic Moran's I is right, calibrated, sparse, and finds planted patterns."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy import stats
from scipy.spatial import cKDTree

from livermet import moran
from spatial_generator import gene_names, hexagonal


def graph_of(xy, radius=110.0):
    pairs = cKDTree(xy).query_pairs(radius, output_type="ndarray")
    matrix = sp.coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(xy), len(xy))).tocsr()
    return sp.csr_matrix(matrix + matrix.T)


def dense_i(values, graph):
    z = values - values.mean()
    return len(z) / graph.sum() * (z @ (graph @ z)) / (z @ z)


@pytest.mark.parametrize("seed", range(3))
def test_i_and_its_variance_are_those_of_all_orders(seed):
    rng = np.random.default_rng(seed)
    xy = hexagonal(8, 9)
    graph = graph_of(xy)
    values = rng.gamma(0.4, 1.0, size=(len(xy), 3)) * (rng.random((len(xy), 3)) < 0.5)
    observed, z = moran.morans_i(sp.csc_matrix(values), graph)
    for k in range(3):
        assert observed[k] == pytest.approx(dense_i(values[:, k], graph))
        null = np.array([dense_i(rng.permutation(values[:, k]), graph) for _ in range(4000)])
        assert z[k] == pytest.approx((observed[k] - null.mean()) / null.std(), abs=0.12 + 0.06 * abs(z[k]))


def noise(seed, *, n_genes=600, side=22, shape=1.0):
    rng = np.random.default_rng(seed)
    xy = hexagonal(side, side)
    depth = rng.lognormal(0, 0.3, size=(len(xy), 1))
    rate = rng.lognormal(0, 1, size=n_genes)
    return xy, rng.poisson(depth * rate * rng.gamma(shape, 1 / shape, size=(len(xy), n_genes)))


OPTIONS = {
    **{"resolution": "spot", "n_genes": 600, "min_expressed": 0.1},
    **{"min_observations": 50, "min_spots": 20, "min_cells": 200},
}


def test_noise_has_a_uniform_p():
    scores = []
    for seed in range(6):
        xy, counts = noise(seed)
        table = moran.section_genes(
            counts, pd.Index(gene_names(600)), graph_of(xy), np.full(len(xy), "none"), **OPTIONS
        )
        assert set(table["zone"]) == {"section"}
        scores.append(stats.kstest(table["p"], "uniform").pvalue)
        assert (table["q"] <= 0.05).sum() <= 3
    assert np.median(scores) > 0.02


def test_planted_patterns_rank_on_top_and_zones_are_their_own():
    tables = []
    for seed in range(5):
        xy, counts = noise(seed)
        zone = np.where(xy[:, 0] < 900, "core", "margin").astype(object)
        rng = np.random.default_rng(seed)
        stripe = 1 + 3 * (np.sin(xy[:, 1] / 150) > 0)
        counts[:, :5] = rng.poisson(2 * stripe[:, None], size=(len(xy), 5))
        counts[:, 5] = rng.poisson(np.where(zone == "core", 4, 1))
        table = moran.section_genes(counts, pd.Index(gene_names(600)), graph_of(xy), zone, **OPTIONS)
        tables.append(
            table.assign(library_id=f"L{seed}", patient_id=f"P{seed}", timepoint="T0", tissue="t", modality="visium")
        )
        within = table[table["zone"] == "section"].sort_values("i", ascending=False)
        assert set(within["gene"].iloc[:6]) == set(gene_names(6))
        core = table[table["zone"] == "core"].set_index("gene")
        assert core.loc["G00005", "q"] > 0.001 and core.loc["G00000", "q"] < 1e-6
    combined = moran.combine_genes(pd.concat(tables))
    for zone in ("section", "core", "margin"):
        top = combined[combined["zone"] == zone].sort_values("rank")
        assert set(gene_names(5)) <= set(top["gene"].iloc[:6])
        assert (top.iloc[:5][["n_patients", "n_significant"]] == 5).all(axis=None)
        assert (top.iloc[10:]["n_significant"] <= 2).all()


@pytest.mark.parametrize(
    ("resolution", "options", "expected"),
    [
        ("spot", {}, {"section", "margin", "core"}),
        ("cell", {}, {"section", "margin"}),
        ("bin", {}, {"section", "margin"}),
        ("cell", {"min_cells": 61}, {"section", "margin"}),
        ("cell", {"min_cells": 60}, {"section", "margin", "core"}),
        ("spot", {"min_spots": 61}, {"section", "margin"}),
        ("spot", {"min_observations": 61, "min_spots": 20}, {"section", "margin"}),
        ("spot", {"min_observations": 485}, set()),
    ],
)
def test_a_zone_needs_its_number_of_spots_or_of_cells(resolution, options, expected):
    xy, counts = noise(0)
    zone = np.where(np.arange(len(xy)) < 60, "core", "margin").astype(object)
    options = OPTIONS | {"resolution": resolution} | options
    table = moran.section_genes(counts, pd.Index(gene_names(600)), graph_of(xy), zone, **options)
    assert set(table["zone"]) == expected and len(xy) == 484


def test_sections_of_a_patient_count_once_and_timepoints_apart():
    row = {"gene": "A", "zone": "core", "i": 0.2, "z": 2.0, "p": 0.02, "q": 0.04, "n_spots": 60}
    place = {"tissue": "t", "modality": "visium"}
    sections = pd.DataFrame(
        [
            row | place | {"patient_id": "P1", "library_id": "L1", "timepoint": "T0"},
            row | place | {"patient_id": "P1", "library_id": "L2", "timepoint": "T0", "i": 0.4, "q": 0.2},
            row | place | {"patient_id": "P2", "library_id": "L3", "timepoint": "T0", "i": 0.5},
            row | place | {"patient_id": "P2", "library_id": "L4", "timepoint": "T3"},
        ]
    )
    table = moran.combine_genes(sections).set_index("timepoint")
    assert table.loc["T0", "n_patients"] == 2 and table.loc["T0", "n_significant"] == 1
    assert table.loc["T0", "mean_i"] == pytest.approx((0.3 + 0.5) / 2)
    assert table.loc["T0", "p_structure"] == pytest.approx(stats.norm.sf((4 / np.sqrt(2) + 2) / np.sqrt(2)))
    assert table.loc["T3", "n_patients"] == 1


def test_a_gene_seen_in_one_patient_does_not_lead_genes_seen_in_all():
    rows = [
        {"gene": gene, "zone": "core", "i": i, "z": z, "p": 0.0, "q": q, "n_spots": 60, "patient_id": patient}
        | {"library_id": patient, "timepoint": "T0", "tissue": "t", "modality": "visium"}
        for gene, i, z, q, patients in (("one", 0.6, 6.0, 0.01, "1"), ("all", 0.3, 3.0, 0.04, "12345"))
        for patient in patients
    ]
    table = moran.combine_genes(pd.DataFrame(rows)).set_index("gene")
    assert table.loc["all", "rank"] == 1 and table.loc["one", "rank"] == 2


def test_memory_stays_sparse():
    n, n_genes = 60_000, 3_000
    rng = np.random.default_rng(0)
    values = sp.random(n, n_genes, density=0.003, format="csc", random_state=rng)
    chain = sp.diags([np.ones(n - 1), np.ones(n - 1)], [-1, 1], format="csr")
    tracemalloc.start()
    observed, z = moran.morans_i(values, chain)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.1 * n * n_genes * 8
    assert np.isfinite(observed).all() and abs(z.mean()) < 0.2


def test_order_of_spots_does_not_matter():
    xy, counts = noise(3)
    order = np.random.default_rng(0).permutation(len(xy))
    genes, zone = pd.Index(gene_names(600)), np.where(xy[:, 0] < 900, "core", "margin").astype(object)
    first = moran.section_genes(counts, genes, graph_of(xy), zone, **OPTIONS)
    second = moran.section_genes(counts[order], genes, graph_of(xy[order]), zone[order], **OPTIONS)
    pd.testing.assert_frame_equal(first, second)


def test_little_or_constant_tissue_gives_empty_tables():
    genes = pd.Index(gene_names(3))
    none = moran.section_genes(np.zeros((0, 3)), genes, sp.csr_matrix((0, 0)), np.zeros(0, dtype=object), **OPTIONS)
    assert none.empty and list(none.columns) == moran.GENE_COLUMNS
    xy = hexagonal(9, 9)
    same = moran.section_genes(np.ones((81, 3)), genes, graph_of(xy), np.full(81, "core"), **OPTIONS)
    assert same.empty
    assert list(moran.combine_genes(none).columns) == moran.COMBINED_COLUMNS
    observed, z = moran.morans_i(sp.csc_matrix(np.ones((81, 2))), graph_of(xy))
    assert np.isnan(observed).all() and np.isnan(z).all()
