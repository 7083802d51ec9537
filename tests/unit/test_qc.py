"""Quality control against planted truth: broken cells and doublets found, neutrophils and hepatocytes kept."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from threadpoolctl import threadpool_limits

from defaults import DEFAULTS
from livermet import keys
from livermet.cell_polygons import keep_cells
from livermet.markers import load_markers
from livermet.qc import (
    ambient_profile,
    call_doublets,
    cell_metrics,
    coarse_groups,
    doublet_scores,
    doublets_per_1000,
    expected_doublet_rate,
    fit_embedding,
    flag_cells,
    nearest,
    qc_library,
    residual_variance,
)
from livermet.status import EXCLUDED, REASONS, status_table, unlike_genes

QC = DEFAULTS["qc"]
LIMITS = {
    name: QC[name] for name in ("nmads_counts", "nmads_genes", "nmads_mito", "max_pct_mito", "min_counts", "min_genes")
}
CELLS = {"library_id": "L1", "modality": "scrna", "chemistry": "SC3Pv3", "expected_cells": 6000}
SPOTS = {"library_id": "L1", "modality": "visium", "chemistry": "", "expected_cells": None}
# Share of the cells, median counts, mitochondrial share.
TYPES = {
    "malignant_ductal": (0.25, 3800, 0.08),
    "hepatocyte": (0.12, 3600, 0.26),
    "caf_pan": (0.10, 2800, 0.06),
    "tam_SPP1": (0.13, 2600, 0.07),
    "neutrophil": (0.08, 650, 0.03),
    "t_CD8_effector": (0.17, 1300, 0.04),
    "b_cell": (0.05, 1200, 0.04),
    "endothelial_vascular": (0.10, 2000, 0.06),
}


def make_library(seed, *, n_cells=300, n_genes=2500, doublets=0.048, broken=0.05):
    """Counts of one library with the truth: type, doublet (of two types), broken."""
    rng = np.random.default_rng(seed)
    markers = load_markers()
    known = sorted({gene for genes in markers["genes"] for gene in genes if not gene.startswith("MT-")})
    symbols = [*known, *(f"G{i}" for i in range(n_genes - len(known))), *(f"MT-X{i}" for i in range(13))]
    place = {symbol: i for i, symbol in enumerate(symbols)}
    baseline = np.exp(rng.normal(0, 1.2, n_genes))
    baseline[: len(known)] *= np.exp(-1)
    profiles = np.tile(baseline, (len(TYPES), 1))
    for row, name in enumerate(TYPES):
        genes = np.array([place[g] for g in markers.loc[name, "genes"]])
        expressed = rng.choice(genes, size=int(0.6 * len(genes)), replace=False)
        own = rng.choice(np.arange(len(known), n_genes), size=110, replace=False)
        profiles[row, expressed] *= np.exp(rng.uniform(np.log(2), np.log(20), len(expressed)))
        profiles[row, own] *= np.exp(rng.uniform(np.log(2), np.log(8), 110))
    profiles /= profiles.sum(axis=1, keepdims=True)
    shares, depths, mito = (np.array(values) for values in zip(*TYPES.values(), strict=True))
    shares = shares / shares.sum()
    ambient = (shares * np.where(np.array(list(TYPES)) == "hepatocyte", 3, 1)) @ profiles
    profiles = 0.9 * profiles + 0.1 * ambient / ambient.sum()

    def draw(kind):
        depth = depths[kind] * np.exp(rng.normal(0, 0.45, len(kind)))
        part = rng.beta(20 * mito[kind], 20 * (1 - mito[kind]))
        return np.column_stack(
            [profiles[kind] * ((1 - part) * depth)[:, None], np.outer(part * depth, np.ones(13) / 13)]
        )

    kind, second = (rng.choice(len(TYPES), size=n_cells, p=shares) for _ in range(2))
    mean = draw(kind)
    double = rng.random(n_cells) < doublets
    mean[double] += draw(second)[double]
    bad = (rng.random(n_cells) < broken) & ~double
    part = rng.uniform(0.3, 0.8, n_cells)
    depth = mean.sum(axis=1) / 6
    leaked = np.column_stack([profiles[kind] * ((1 - part) * depth)[:, None], np.outer(part * depth, np.ones(13) / 13)])
    mean[bad] = leaked[bad]
    counts = sparse.csr_matrix(rng.poisson(rng.gamma(4, mean / 4)).astype(np.int32))
    truth = pd.DataFrame({"type": np.array(list(TYPES))[kind], "doublet": double & (kind != second), "broken": bad})
    return wrap(counts, symbols), truth.assign(good=~double & ~bad)


def wrap(counts, symbols, *, reason=""):
    """An AnnData as counts.h5ad holds it."""
    adata = AnnData(
        X=sparse.csr_matrix(counts),
        obs=pd.DataFrame(index=pd.Index([f"L1:C{i}" for i in range(counts.shape[0])], dtype=str)),
        var=pd.DataFrame({keys.SYMBOL: list(symbols)}, index=pd.Index(symbols, dtype=str), dtype=str),
    )
    adata.uns[keys.META] = {"library_id": "L1", "modality": "scrna", "reason": reason, "notes": "[]"}
    return adata


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in a rule: more threads than free cores would only wait for one another."""
    with threadpool_limits(limits=1):
        yield


@pytest.fixture(scope="module")
def studies(one_thread):
    return [
        (adata, truth, *qc_library(adata, config=QC, row=CELLS, seed=1)) for adata, truth in map(make_library, range(5))
    ]


def average_precision(truth, score):
    hits = np.asarray(truth)[np.argsort(-score, kind="stable")]
    return (np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean()


# ------------------------------------------------------------------------------------------------- planted truth


def test_good_cells_stay_and_broken_ones_go(studies):
    kept = [table["kept"].to_numpy()[truth["good"]].mean() for _, truth, _, table, _ in studies]
    removed = [1 - table["kept"].to_numpy()[truth["broken"]].mean() for _, truth, _, table, _ in studies]
    assert min(kept) >= 0.95 and np.mean(removed) >= 0.9 and min(removed) >= 0.8, (kept, removed)


def test_neutrophils_and_hepatocytes_stay_where_one_cut_for_all_deletes_them(studies):
    by_groups, at_once = {}, {}
    for name in ("neutrophil", "hepatocyte"):
        for adata, truth, _, table, _ in studies:
            chosen = (truth["type"] == name) & truth["good"]
            by_groups.setdefault(name, []).append(table["kept"].to_numpy()[chosen].mean())
            # The limits of many tutorials: 500 counts and 15 % mitochondrial share.
            metrics = cell_metrics(adata)
            passed = (metrics[keys.TOTAL_COUNTS] >= 500) & (metrics[keys.PCT_MITO] <= 15)
            at_once.setdefault(name, []).append(passed.to_numpy()[chosen].mean())
    assert np.mean(by_groups["neutrophil"]) >= 0.9 and np.mean(by_groups["hepatocyte"]) >= 0.9, by_groups
    assert np.mean(at_once["neutrophil"]) < 0.8 and np.mean(at_once["hepatocyte"]) < 0.3, at_once


def test_groups_are_the_lineages(studies):
    parent = load_markers()["parent"]
    for _, truth, _, table, _ in studies:
        expected = np.where(truth["type"] == "neutrophil", "neutrophil", parent.loc[truth["type"]].to_numpy())
        agree = (table["coarse_group"].to_numpy() == expected)[truth["good"]]
        assert agree.mean() >= 0.85, agree.mean()


def test_doublets_of_two_types_score_highest_and_beat_the_number_of_counts(studies):
    scores, depths, nulls, recalls = [], [], [], []
    for _, truth, _, table, _ in studies:
        scored = table[keys.DOUBLET_SCORE].notna().to_numpy()
        doublet = truth["doublet"].to_numpy()[scored]
        scores.append(average_precision(doublet, table[keys.DOUBLET_SCORE].to_numpy()[scored]))
        depths.append(average_precision(doublet, table[keys.TOTAL_COUNTS].to_numpy(dtype=float)[scored]))
        nulls.append(doublet.mean())
        recalls.append((table["reason"] == "doublet").to_numpy()[scored][doublet].mean())
    assert np.mean(scores) >= 0.6 and np.mean(recalls) >= 0.55, (scores, recalls)
    assert np.mean(scores) > 2 * np.mean(depths) and np.mean(scores) > 5 * np.mean(nulls), (depths, nulls)


def test_as_many_doublets_are_called_as_expected_even_where_there_are_none():
    adata, _ = make_library(11, doublets=0.0)
    _, table, status = qc_library(adata, config=QC, row=CELLS, seed=1)
    called = (table["reason"] == "doublet").mean()
    assert status["metrics"]["expected_doublet_rate"] == pytest.approx(0.048) and 0.03 <= called <= 0.06
    _, table, _ = qc_library(adata, config=QC | {"remove_doublets": False}, row=CELLS, seed=1)
    assert not (table["reason"] == "doublet").any() and table[keys.DOUBLET_SCORE].notna().any()


def test_order_of_cells_and_seed_of_the_run_matter_little_and_repeats_not_at_all(studies):
    adata, _, _, table, status = studies[0]
    again = qc_library(adata, config=QC, row=CELLS, seed=1)
    pd.testing.assert_frame_equal(again[1], table)
    assert again[2] == status
    order = np.random.default_rng(0).permutation(adata.n_obs)
    mixed = adata[order].copy()
    groups = coarse_groups(mixed, seed=1)
    assert (groups.loc[adata.obs_names].to_numpy() == table["coarse_group"].to_numpy()).mean() >= 0.97
    flags = flag_cells(cell_metrics(mixed), groups, **LIMITS).loc[adata.obs_names]
    before = table["reason"].where(table["reason"] != "doublet", "").to_numpy()
    assert (flags.to_numpy() == before).mean() >= 0.98


def test_nothing_is_lost_without_a_reason(studies):
    for adata, _, cells, table, status in studies:
        assert table["barcode"].tolist() == adata.obs_names.tolist()
        assert set(table["reason"]) <= {"", *REASONS} and ((table["reason"] == "") == (table["kept"] == 1)).all()
        assert status["n_in"] == status["n_out"] + sum(status["removed"].values()) == adata.n_obs
        assert cells.obs_names.tolist() == table.loc[table["kept"] == 1, "barcode"].tolist()
        assert (cells.X != adata[cells.obs_names].X).nnz == 0 and cells.X.dtype == np.int32
        assert list(cells.obs)[-4:] == [keys.TOTAL_COUNTS, keys.N_GENES, keys.PCT_MITO, keys.DOUBLET_SCORE]
        assert cells.obs[keys.DOUBLET_SCORE].notna().all()
        json.dumps(status, allow_nan=False)


# ------------------------------------------------------------------------------------------------- single parts


def test_metrics_count_and_unknown_mitochondria_are_not_zero():
    counts = np.array([[1, 0, 3], [0, 0, 0]])
    metrics = cell_metrics(wrap(counts, ["A", "B", "MT-CO1"]))
    assert metrics.to_numpy().tolist() == [[4, 2, 75], [0, 0, 0]]
    assert cell_metrics(wrap(counts, ["A", "B", "MTOR"]))[keys.PCT_MITO].isna().all()


def test_a_library_without_mitochondrial_genes_says_so_and_removes_nothing_for_them():
    adata, _ = make_library(3)
    nuclear = adata[:, ~adata.var[keys.SYMBOL].str.startswith("MT-")].copy()
    cells, table, status = qc_library(nuclear, config=QC, row=CELLS, seed=1)
    assert table[keys.PCT_MITO].isna().all() and "high_mito" not in status["removed"]
    assert status["metrics"]["median_pct_mito"] is None and "no gene whose symbol begins with MT-" in status["notes"][0]
    assert cells.n_obs > 200


def test_limits_are_set_within_groups_and_small_groups_keep_the_hard_ones():
    rng = np.random.default_rng(0)
    total = np.concatenate([rng.lognormal(8, 0.3, 100), rng.lognormal(6, 0.3, 100), [400.0], [400.0] * 4])
    metrics = pd.DataFrame(
        {keys.TOTAL_COUNTS: total.astype(int), keys.N_GENES: (total / 2).astype(int), keys.PCT_MITO: 5.0}
    )
    metrics.loc[5, keys.PCT_MITO] = 61.0
    metrics.loc[203, keys.TOTAL_COUNTS] = 150
    groups = pd.Series(["large"] * 100 + ["small"] * 100 + ["large"] + ["rare"] * 4)
    flags = flag_cells(metrics, groups, **LIMITS)
    assert flags[200] == "low_counts" and flags[5] == "high_mito" and flags[203] == "low_counts"
    assert (flags.drop([5, 200, 203]) == "").mean() > 0.98 and (flags[[201, 202, 204]] == "").all()


def make_nuclei(seed):
    """Three hundred nuclei that hold next to no mitochondrial count, and thirty of debris with a tenth of such."""
    adata, _ = make_library(seed, n_cells=330, doublets=0.0, broken=0.0)
    rng = np.random.default_rng(seed)
    mito = adata.var[keys.SYMBOL].str.startswith("MT-").to_numpy()
    counts = adata.X.tolil()
    totals = np.asarray(adata.X[:, ~mito].sum(axis=1)).ravel()
    share = np.where(np.arange(330) < 300, 0.0005, 0.12)
    counts[:, mito] = rng.poisson(np.outer(totals * share, np.full(mito.sum(), 1 / mito.sum())))
    adata.X = counts.tocsr().astype(np.int32)
    return adata


def test_nuclei_have_a_limit_of_their_own_and_stay_for_a_single_mitochondrial_count():
    for seed in range(2):
        adata = make_nuclei(seed)
        _, table, _ = qc_library(adata, config=QC, row=CELLS | {"modality": "snrna"}, seed=1)
        high = (table["reason"] == "high_mito").to_numpy()
        assert high[300:].mean() >= 0.95 and high[:300].mean() <= 0.01, (high[300:].mean(), high[:300].mean())
        strict = QC | {"max_pct_mito_nuclei": 0.01, "max_pct_mito": 60}
        _, table, _ = qc_library(adata, config=strict, row=CELLS | {"modality": "snrna"}, seed=1)
        assert (table["reason"] == "high_mito").mean() > 0.3
        _, table, _ = qc_library(adata, config=strict, row=CELLS, seed=1)
        assert (table["reason"] == "high_mito").mean() < 0.15


def test_equal_values_are_no_outliers():
    metrics = pd.DataFrame({keys.TOTAL_COUNTS: [1000] * 30, keys.N_GENES: [500] * 30, keys.PCT_MITO: [np.nan] * 30})
    assert (flag_cells(metrics, pd.Series(["all"] * 30), **LIMITS) == "").all()


def test_neighbours_are_exact():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(9000, 5))
    found = nearest(points, queries=points[:50], k=7, exclude_self=True)
    distance = np.linalg.norm(points[:50, None] - points[None], axis=2)
    distance[np.arange(50), np.arange(50)] = np.inf
    assert (np.sort(found) == np.sort(np.argsort(distance, axis=1)[:, :7])).all()


def test_components_of_noise_are_few_and_of_types_enough(studies):
    adata = studies[0][0]
    nuclear = adata[:, ~adata.var[keys.SYMBOL].str.startswith("MT-")]
    assert 5 <= fit_embedding(nuclear.X, seed=1).components.shape[1] <= 20
    rng = np.random.default_rng(0)
    noise = sparse.csr_matrix(rng.poisson(np.tile(rng.gamma(1, 2, 800), (200, 1))).astype(np.int32))
    assert fit_embedding(noise, seed=1).components.shape[1] == 3
    assert fit_embedding(noise[:3], seed=1) is None


def test_the_cut_between_doublets_falls_where_the_number_fits_best():
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.1, np.nan])
    assert call_doublets(scores, expected_rate=0.2, threshold=None).tolist() == [True] + [False] * 5
    assert call_doublets(scores, expected_rate=0.6, threshold=None).sum() == 4
    assert not call_doublets(scores, expected_rate=0.0, threshold=None).any()
    assert call_doublets(scores, expected_rate=0.0, threshold=0.5).sum() == 4
    assert not call_doublets(np.full(5, np.nan), expected_rate=0.5, threshold=None).any()


def test_the_share_of_detectable_doublets_is_about_that_of_real_ones_found(studies):
    found, predicted = [], []
    for _, truth, _, table, status in studies:
        whole = table[keys.DOUBLET_SCORE].notna().to_numpy()
        doublet = truth["doublet"].to_numpy() & whole
        found.append((table["reason"] == "doublet").to_numpy()[doublet].mean())
        predicted.append(status["metrics"]["detectable_doublets"])
    assert abs(np.mean(found) - np.mean(predicted)) < 0.2, (found, predicted)
    # Cells of one kind: what is made of two kinds is made of noise, and hardly told from cells.
    rng = np.random.default_rng(0)
    profile = rng.gamma(1, 2, 1500)
    alike = wrap(rng.poisson(np.tile(profile / profile.sum() * 2000, (300, 1))), [f"G{i}" for i in range(1500)])
    scores, of_made = doublet_scores(alike, expected_rate=0.05, seed=1)
    threshold = scores[call_doublets(scores, expected_rate=0.05, threshold=None)].min()
    assert (of_made >= threshold).mean() < min(predicted) - 0.2


@pytest.mark.parametrize(
    ("chemistry", "percent"),
    [
        ("SC3Pv2", 0.8), ("SC3Pv3", 0.8), ("SC3Pv3-polyA", 0.8), ("sc3pv3", 0.8), ("SC5P-R2", 0.8), ("SC5P-PE", 0.8),
        ("SC3Pv3HT", 0.4), ("SC5PHT", 0.4), ("SC3Pv4", 0.4), ("SC3Pv4-polyA", 0.4), ("SC5P-R2-v3", 0.4), ("SC3Pv3LT", 8),
    ],
)  # fmt: skip
def test_the_chip_tells_the_doublets_per_1000_cells(chemistry, percent):
    assert doublets_per_1000(chemistry, given=None) == (pytest.approx(percent / 100), "chemistry")
    assert doublets_per_1000(chemistry, given=0.005) == (0.005, "config")


@pytest.mark.parametrize("chemistry", ["", None, np.nan, "inDrop", "10x v3"])
def test_an_unknown_chemistry_gets_the_usual_rate(chemistry):
    assert doublets_per_1000(chemistry, given=None) == (0.008, "default")


def test_the_rate_its_basis_and_an_unknown_chemistry_are_told():
    adata, _ = make_library(0, n_cells=120)
    for chemistry, rate, basis in (
        ("SC3Pv4", 0.024, "chemistry"),
        ("inDrop", 0.048, "default"),
        ("", 0.048, "default"),
    ):
        _, table, status = qc_library(adata, config=QC, row=CELLS | {"chemistry": chemistry}, seed=1)
        metrics = status["metrics"]
        assert metrics["expected_doublet_rate"] == pytest.approx(rate) and metrics["doublets_per_1000_basis"] == basis
        assert any("write Cell Ranger's name" in note for note in status["notes"]) == (basis == "default")
        assert 0 < (table["reason"] == "doublet").sum() <= 2 * rate * len(table)


def test_doublet_rate_follows_the_cells_of_the_run():
    assert expected_doublet_rate(6000, n_found=400, rate_per_1000=0.008) == pytest.approx(0.048)
    assert expected_doublet_rate(None, n_found=400, rate_per_1000=0.008) == pytest.approx(0.0032)
    assert expected_doublet_rate(1e6, n_found=400, rate_per_1000=0.008) == 0.5


def test_too_few_cells_have_no_doublet_score():
    adata, _ = make_library(0, n_cells=25)
    scores, of_made = doublet_scores(adata, expected_rate=0.05, seed=1)
    assert np.isnan(scores).all() and len(scores) == adata.n_obs and not len(of_made)


def test_ambient_profile_comes_from_droplets_then_from_poor_barcodes_then_from_nothing():
    adata = wrap(np.array([[600, 200, 0], [900, 100, 5], [9000, 0, 9000]]), ["A", "B", "C"])
    profile, source = ambient_profile(adata)
    assert profile.tolist() == pytest.approx([1500 / 1805, 300 / 1805, 5 / 1805]) and source == "low_count_cells"
    profile, source = ambient_profile(adata[:1])
    assert np.isnan(profile).all() and source == "none"
    adata.var[keys.AMBIENT_COUNTS] = [1000, 0, 1000]
    profile, source = ambient_profile(adata)
    assert profile.tolist() == [0.5, 0, 0.5] and source == "raw_droplets"


# ------------------------------------------------------------------------------------------------- sections, failures


def test_spots_lose_only_what_holds_too_little():
    counts = np.full((30, 10), 20)
    counts[:4] = 1
    adata = wrap(counts, [f"G{i}" for i in range(10)])
    adata.obsm[keys.SPATIAL] = np.arange(60.0).reshape(30, 2)
    cells, table, status = qc_library(adata, config=QC, row=SPOTS, seed=1)
    assert status["status"] == "ok" and status["removed"] == {"low_counts": 4} and cells.n_obs == 26
    assert cells.obsm[keys.SPATIAL][0].tolist() == [8, 9] and table[keys.DOUBLET_SCORE].isna().all()
    assert status["metrics"]["ambient_source"] == "none" and cells.var[keys.AMBIENT].isna().all()


def test_too_little_left_excludes_the_library_with_numbers():
    adata, _ = make_library(0, n_cells=40)
    cells, table, status = qc_library(adata, config=QC, row=CELLS, seed=1)
    assert status["status"] == "excluded" and cells.n_obs == 0 and cells.n_vars == adata.n_vars
    assert "of 40 cells passed quality control; at least 50 are needed" in status["reason"]
    assert status["removed"][EXCLUDED] > 20 and sum(status["removed"].values()) == 40 and (table["reason"] != "").all()
    assert cells.uns[keys.META]["reason"] == status["reason"]
    counts = wrap(np.full((10, 5), 50), [f"G{i}" for i in range(5)])
    _, _, status = qc_library(counts, config=QC, row=SPOTS, seed=1)
    assert status["reason"] == "10 of 10 spots passed quality control; at least 20 are needed"


@pytest.mark.parametrize(("modality", "resolution", "limit"), [("visium_hd", "bin", 20), ("xenium", "cell", 10)])
def test_bins_and_segmented_cells_have_limits_of_their_own(modality, resolution, limit):
    totals = np.r_[np.full(60, limit), np.full(7, limit - 1), 0]
    adata = wrap(np.column_stack([totals, np.zeros((68, 2), int)]), ["G0", "G1", "G2"])
    adata.obsm[keys.SPATIAL] = np.arange(136.0).reshape(68, 2)
    adata.uns[keys.META][keys.RESOLUTION] = resolution
    corners = np.repeat(np.arange(68, dtype=np.float32), 4)
    adata.uns[keys.POLYGONS] = {"vertices": np.column_stack([corners, corners]), "offsets": 4 * np.arange(69)}
    shuffled = adata[np.random.default_rng(0).permutation(68)].copy()
    shuffled.uns[keys.POLYGONS] = {
        "vertices": np.repeat(shuffled.obsm[keys.SPATIAL][:, :1] / 2, 4, axis=0).astype(np.float32).repeat(2, axis=1),
        "offsets": 4 * np.arange(69),
    }
    row = SPOTS | {"modality": modality}
    for given in (adata, shuffled):
        cells, table, status = qc_library(given, config=QC, row=row, seed=1)
        assert status["status"] == "ok" and status["removed"] == {"low_counts": 8} and cells.n_obs == 60
        assert (cells.obs[keys.TOTAL_COUNTS] == limit).all() and table[keys.PCT_MITO].isna().all()
        assert any("no gene whose symbol begins with MT-" in note for note in status["notes"])
        polygons = cells.uns[keys.POLYGONS]
        assert polygons["offsets"].tolist() == list(range(0, 241, 4))
        assert np.array_equal(polygons["vertices"][::4, 0], cells.obsm[keys.SPATIAL][:, 0] / 2)
    cells, _, status = qc_library(keep_cells(adata, np.arange(68) < 40), config=QC, row=row, seed=1)
    assert status["reason"] == f"40 of 40 {resolution}s passed quality control; at least 50 are needed"
    assert len(cells.uns[keys.POLYGONS]["vertices"]) == 0 and cells.uns[keys.POLYGONS]["offsets"].tolist() == [0]


@pytest.mark.parametrize("row", [CELLS, SPOTS])
@pytest.mark.parametrize("n_genes", [0, 5])
def test_a_library_without_barcodes_is_excluded_for_the_reason_it_carries(row, n_genes, tmp_path):
    adata = wrap(
        sparse.csr_matrix((0, n_genes), dtype=np.int32), [f"G{i}" for i in range(n_genes)], reason="not read: x"
    )
    cells, table, status = qc_library(adata, config=QC, row=row, seed=1)
    assert (status["status"], status["reason"], status["n_in"], status["n_out"]) == ("excluded", "not read: x", 0, 0)
    assert table.empty and "reason" in table and cells.shape == (0, n_genes)
    json.dumps(status, allow_nan=False)
    cells.write_h5ad(tmp_path / "qc.h5ad")


@pytest.mark.parametrize("n_cells", [1, 2, 5, 12])
def test_a_handful_of_cells_is_no_error(n_cells):
    adata, _ = make_library(0, n_cells=n_cells)
    _, _, status = qc_library(adata, config=QC, row=CELLS, seed=1)
    assert status["status"] == "excluded" and status["n_in"] == n_cells


def test_status_table_keeps_the_order_and_misses_no_library():
    rows = [{n: f"{n}{i}" for n in ("library_id", "patient_id", "sample_id", "modality", "batch")} for i in (2, 1)]
    statuses = [
        {"library_id": "library_id1", "status": "ok", "reason": "", "n_in": 5, "n_out": 4},
        {"library_id": "library_id2", "status": "excluded", "reason": "why", "n_in": 0, "n_out": 0},
    ]
    table = status_table(statuses, rows, left_out={})
    assert table["library_id"].tolist() == ["library_id2", "library_id1"] and table["n_out"].tolist() == [0, 4]
    with pytest.raises(ValueError, match="library_id2"):
        status_table(statuses[:1], rows, left_out={})


def test_a_library_with_few_genes_is_left_out_and_does_not_cut_the_others():
    genes = [f"G{i}" for i in range(2000)]
    libraries = {f"L{i}": np.array(genes, dtype=object) for i in range(4)}
    assert unlike_genes(libraries, min_shared=0.5) == {}
    libraries |= {
        "few": np.array(genes[:200], dtype=object),
        "mouse": np.array([g.lower() for g in genes], dtype=object),
    }
    unlike = unlike_genes(libraries, min_shared=0.5)
    assert set(unlike) == {"few", "mouse"}
    assert "200 of the 2000 genes" in unlike["few"]
    names = ("library_id", "patient_id", "sample_id", "modality", "batch")
    rows = [dict.fromkeys(names, library) for library in libraries]
    statuses = [{"library_id": library, "status": "ok", "reason": "", "n_in": 9, "n_out": 9} for library in libraries]
    table = status_table(statuses, rows, left_out=unlike).set_index("library_id")
    assert table["status"].eq("excluded").to_dict() == {name: name in unlike for name in libraries}
    assert table.loc["few", "reason"] == unlike["few"] and table.loc["L0", "reason"] == ""


def test_a_library_without_any_count_of_a_gene_is_excluded(tmp_path):
    assert (residual_variance(sparse.csr_matrix((60, 50), dtype=np.int32)) == 0).all()
