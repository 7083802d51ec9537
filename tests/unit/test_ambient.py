"""The ambient share of a library is recovered from planted shares, and its doubt is stated."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from livermet import keys
from livermet.ambient import contamination, corrected_counts, soup_shares, without_soup
from livermet.library_report import contamination_words

SYMBOLS = ["ALB", "APOA1", *(f"G{i}" for i in range(200))]


def library(seed, *, fraction, hepatocyte_weight=3.0, raw=True, n=150):
    """Lymphocytes and hepatocytes with a planted share of ambient RNA; APOA1 is expressed by lymphocytes too."""
    rng = np.random.default_rng(seed)
    own = rng.gamma(2, size=(2, len(SYMBOLS)))
    own[:, 0], own[:, 1] = (0, 30), (3, 20)
    own /= own.sum(axis=1, keepdims=True)
    groups = np.repeat(["lymphoid", "liver_parenchyma"], [n, n // 5])
    soup = own[0] + hepatocyte_weight / 5 * own[1]
    soup /= soup.sum()
    share = rng.beta(30 * fraction, 30 * (1 - fraction), len(groups))[:, None]
    mean = (1 - share) * own[(groups == "liver_parenchyma").astype(int)] + share * soup
    counts = rng.poisson(mean * rng.lognormal(7.5, 0.4, len(groups))[:, None])
    adata = AnnData(
        sparse.csr_matrix(counts.astype(np.int32)),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(len(groups))]),
        var=pd.DataFrame({keys.SYMBOL: SYMBOLS}, index=SYMBOLS),
    )
    if raw:
        adata.var[keys.AMBIENT_COUNTS] = rng.poisson(soup * 50_000)
    return adata, groups, share[groups == "lymphoid"].mean()


def test_raw_droplets_give_the_planted_share_and_intervals_that_hold_it():
    held, error = [], []
    for seed in range(60):
        fraction = [0.03, 0.08, 0.15][seed % 3]
        adata, groups, planted = library(seed, fraction=fraction)
        found = contamination(adata, groups)
        assert found.basis == "estimate" and found.gene == "ALB"
        held.append(found.low <= planted <= found.high)
        error.append(found.fraction / planted - 1)
    assert np.mean(held) >= 0.85
    assert abs(np.median(error)) <= 0.1


def test_without_raw_droplets_it_is_an_upper_bound():
    for seed in range(20):
        adata, groups, planted = library(seed, fraction=0.1, raw=False)
        found = contamination(adata, groups)
        assert found.basis == "upper_bound" and found.low == 0
        assert found.fraction > planted


def test_a_hepatocyte_among_the_others_does_not_count_as_contamination():
    adata, groups, _ = library(1, fraction=0.05)
    before = contamination(adata, groups).fraction
    groups = groups.copy()
    groups[np.flatnonzero(groups == "liver_parenchyma")[:2]] = "lymphoid"
    assert contamination(adata, groups).fraction == pytest.approx(before, rel=0.02)


@pytest.mark.parametrize(
    ("keep", "words"),
    [("liver_parenchyma", "0 cells known to be no hepatocytes, 20 needed"), ("lymphoid", "no gene of hepatocytes")],
)
def test_what_cannot_be_told_says_why(keep, words):
    adata, groups, _ = library(1, fraction=0.05, raw=False)
    rows = groups == keep
    adata = adata[rows].copy()
    adata.X = sparse.csr_matrix(adata.X.multiply(np.array([0, 0, *[1] * 200])))
    found = contamination(adata, groups[rows])
    assert found.basis == "none" and found.fraction is None and words in found.reason


def test_an_interval_wider_than_the_estimate_is_no_estimate():
    adata, groups, _ = library(1, fraction=0.1)
    rows = np.flatnonzero(groups == "lymphoid")[:24]
    adata = adata[rows].copy()
    share = adata.var[keys.AMBIENT_COUNTS]["ALB"] / adata.var[keys.AMBIENT_COUNTS].sum()
    counts = adata.X.toarray()
    counts[:, 1] += 1000  # APOA1 tells nothing
    counts[:, 0] = np.where(np.arange(24) < 6, 0.45 * counts.sum(axis=1) * share, 0)
    adata.X = sparse.csr_matrix(counts)
    found = contamination(adata, groups[rows])
    assert found.basis == "none" and found.fraction is None and "too few counts tell: 1" in found.reason
    adata.X = sparse.csr_matrix(np.where(np.arange(len(SYMBOLS)) == 0, counts[:, :1].mean().astype(int), counts))
    assert contamination(adata, groups[rows]).basis == "estimate"


def test_tissue_without_hepatocytes_gives_no_number():
    adata, groups, _ = library(1, fraction=0.1)
    rows = groups == "lymphoid"
    adata = adata[rows].copy()
    background = np.zeros((rows.sum(), len(SYMBOLS)), dtype=np.int32)
    background[:, :2] = np.random.default_rng(1).poisson(40, (rows.sum(), 2))
    adata.X = sparse.csr_matrix(adata.X + background)
    adata.var[keys.AMBIENT_COUNTS] = np.asarray(adata.X.sum(axis=0)).ravel()
    found = contamination(adata, groups[rows])
    assert found.basis == "none" and "no gene of hepatocytes" in found.reason


@pytest.mark.parametrize("raw", [True, False])
def test_correction_takes_the_false_albumin_and_leaves_the_true(raw):
    removed, hepatocytes, rest = [], [], []
    for seed in range(12):
        adata, groups, _ = library(seed, fraction=[0.03, 0.08, 0.15][seed % 3], raw=raw)
        adata.uns[keys.META] = {"contamination": contamination(adata, groups).fraction}
        soup = pd.DataFrame({"L1": soup_shares(adata)}, index=SYMBOLS)
        corrected = corrected_counts(adata.X, libraries=np.full(adata.n_obs, "L1"), groups=groups, soup=soup, seed=seed)
        assert corrected.dtype == np.int32 and (corrected > adata.X).nnz == 0
        left = corrected.toarray() / np.maximum(adata.X.toarray(), 1)
        lymphoid = groups == "lymphoid"
        albumin = adata.X[lymphoid][:, 0].sum()
        removed.append(1 - corrected[lymphoid][:, 0].sum() / albumin)
        hepatocytes.append(corrected[~lymphoid][:, 0].sum() / adata.X[~lymphoid][:, 0].sum())
        rest.append(corrected[lymphoid][:, 2:].sum() / adata.X[lymphoid][:, 2:].sum())
        assert left.max() <= 1
    assert np.median(removed) >= 0.9
    assert np.median(hepatocytes) >= 0.9
    assert np.median(rest) >= 0.7


def test_correction_keeps_libraries_apart_and_the_order_of_cells():
    counts = sparse.csr_matrix(np.array([[50, 50], [40, 60], [50, 50], [40, 60]], dtype=np.int32))
    soup = pd.DataFrame({"A": [0.2, 0.0], "B": [0.0, 0.0]}, index=["x", "y"])
    found = corrected_counts(
        counts, libraries=np.array(["A", "B", "B", "A"]), groups=np.array(["t"] * 4), soup=soup, seed=1
    ).toarray()
    assert found[[1, 2]].tolist() == [[40, 60], [50, 50]]
    assert found[[0, 3], 1].tolist() == [50, 60]
    assert found[[0, 3], 0].sum() == pytest.approx(50, abs=2)


def test_without_a_known_contamination_nothing_is_removed():
    adata, _, _ = library(1, fraction=0.1)
    adata.uns[keys.META] = {"contamination": np.nan}
    assert soup_shares(adata).sum() == 0
    adata.uns[keys.META] = {}
    assert soup_shares(adata).sum() == 0


def test_sums_of_groups_lose_what_each_library_brought():
    sums = np.array([[100.0, 10.0], [5.0, 5.0]])
    totals = np.array([[50.0, 60.0], [10.0, 0.0]])
    soup = np.array([[0.1, 0.0], [0.5, 0.2]])
    assert without_soup(sums, totals, soup).tolist() == [[65.0, 0.0], [4.0, 5.0]]


def test_words_of_the_page():
    base = {"fraction": 0.1234, "low": 0.1, "high": 0.15, "gene": "ALB", "reason": ""}
    assert "12.3 % (95 % interval 10.0 to 15.0 %)" in contamination_words({"basis": "estimate", **base})
    assert "at most 12.3 % (95 % limit 15.0 %)" in contamination_words({"basis": "upper_bound", **base})
    assert "not known (no cells)" in contamination_words({"basis": "none", "reason": "no cells"})
    assert contamination_words(None) == ""
