"""Cell calling from raw droplets against planted cells, small ones within the range of ambient counts among them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats

from livermet.calling import call_cells, certain_counts, concentration, good_turing
from livermet.ingest import read_library
from livermet.readers import read_10x

FDR = 0.001
LIMITS = {"max_empty": 100, "min_counts": 200, "fdr": FDR}
N_LARGE, N_SMALL = 200, 80


def make_droplets(seed, *, n_genes=1000, n_empty=7_000, n_large=N_LARGE, n_small=N_SMALL, alpha=3000.0):
    """Counts of all droplets of a run, and what each holds: "large", "small" (neutrophil-like) or "empty".

    Ambient RNA is a mixture of all types; empty droplets vary in size, and several hundred of them reach the counts of
    the small cells. Their composition is overdispersed (Dirichlet with concentration ``alpha``).
    """
    rng = np.random.default_rng(seed)
    profiles = np.exp(rng.normal(0, 1.3, n_genes) + np.where(rng.random((5, n_genes)) < 0.08, 2.3, 0.0))
    profiles /= profiles.sum(axis=1, keepdims=True)
    ambient = np.array([0.15, 0.15, 0.5, 0.15, 0.05]) @ profiles
    kind = np.concatenate([rng.integers(0, 4, n_large), np.full(n_small, 4)])
    depth = np.concatenate([2500 * rng.lognormal(0, 0.4, n_large), 350 * rng.lognormal(0, 0.2, n_small)])
    means = (0.88 * profiles[kind] + 0.12 * ambient) * depth[:, None]
    blocks = [rng.poisson(rng.gamma(4, means / 4))]
    for size in np.array_split(rng.poisson(45 * rng.lognormal(0, 0.75, n_empty)), 12):
        share = rng.gamma(alpha * ambient, size=(len(size), n_genes))
        blocks.append(rng.poisson(share / share.sum(axis=1, keepdims=True) * size[:, None]))
    counts = sparse.vstack([sparse.csr_matrix(block.astype(np.int32)) for block in blocks], format="csr")
    return counts, np.repeat(["large", "small", "empty"], [n_large, n_small, n_empty])


def totals_of(counts):
    return np.asarray(counts.sum(axis=1)).ravel()


@pytest.fixture(scope="module")
def runs():
    made = [make_droplets(seed) for seed in range(3)]
    return [(counts, truth, call_cells(counts, **LIMITS, seed=1)) for counts, truth in made]


# ------------------------------------------------------------------------------------------------- planted truth


def test_large_cells_are_called_and_small_ones_where_a_cut_by_size_loses_them(runs):
    for counts, truth, called in runs:
        totals = totals_of(counts)
        assert called.cells[truth == "large"].mean() >= 0.99
        small = called.cells[truth == "small"].mean()
        assert small >= 0.6 and small > (totals >= called.certain)[truth == "small"].mean() + 0.5, small
        # As many droplets by counts alone hold fewer of the small cells, and empty droplets in their place.
        largest = np.zeros(len(truth), dtype=bool)
        largest[np.argsort(-totals, kind="stable")[: called.cells.sum()]] = True
        assert small > largest[truth == "small"].mean() + 0.1


def test_hardly_any_empty_droplet_is_called_though_many_reach_the_counts_of_cells(runs):
    reach = sum(((totals_of(counts) >= LIMITS["min_counts"]) & (truth == "empty")).sum() for counts, truth, _ in runs)
    false = sum(called.cells[truth == "empty"].sum() for _, truth, called in runs)
    n_called = sum(called.cells.sum() for _, _, called in runs)
    assert reach > 200
    # Beside the expected rate, what chance adds to it once in a thousand.
    assert false <= stats.poisson.ppf(0.999, FDR * n_called), (false, n_called)


def test_without_any_cell_almost_nothing_passes_the_test(runs):
    """A run without cells has a curve too, so that its largest droplets are called; but it is told what they hold."""
    empty_runs = [call_cells(make_droplets(seed, n_large=0, n_small=0)[0], **LIMITS, seed=1) for seed in range(3)]
    passed = sum(called.cells.sum() - called.n_certain for called in empty_runs)
    assert passed <= stats.poisson.ppf(0.999, FDR * sum(called.cells.sum() for called in empty_runs)), passed
    assert min(called.ambient_like for called in empty_runs) > 0.8
    assert max(called.ambient_like for _, _, called in runs) < 0.3


def test_the_model_fits_the_empty_droplets_and_says_where_it_does_not(runs):
    for _, _, called in runs:
        assert called.misfit <= 0.08
        assert 2000 <= called.alpha <= 4500
    # Cells of one small kind among the droplets that are taken for empty.
    counts, _ = make_droplets(5, n_large=0, n_small=600, n_empty=3000)
    assert call_cells(counts, max_empty=700, min_counts=800, fdr=FDR, seed=1).misfit > 0.15


def test_what_is_told_agrees_with_the_calls(runs):
    for counts, _, called in runs:
        totals = totals_of(counts)
        assert called.n_droplets == (totals > 0).sum()
        assert called.n_certain == (totals >= called.certain).sum()
        assert called.cells[totals >= called.certain].all()
        assert not called.cells[totals < LIMITS["min_counts"]].any()
        assert called.n_tested == ((totals >= LIMITS["min_counts"]) & (totals < called.certain)).sum()
        empty = totals <= LIMITS["max_empty"]
        assert called.ambient.tolist() == np.asarray(counts[empty].sum(axis=0)).ravel().tolist()
        ranks, sizes = zip(*called.curve, strict=True)
        assert ranks[0] == 1 and sizes[0] == totals.max() and list(sizes) == sorted(sizes, reverse=True)


def test_order_of_droplets_does_not_matter_and_the_seed_hardly(runs):
    counts, _, called = runs[0]
    again = call_cells(counts, **LIMITS, seed=1)
    assert (again.cells == called.cells).all() and again.misfit == called.misfit
    order = np.random.default_rng(0).permutation(counts.shape[0])
    mixed = call_cells(counts[order], **LIMITS, seed=1)
    assert (mixed.cells == called.cells[order]).all() and mixed.misfit == called.misfit
    other = call_cells(counts, **LIMITS, seed=2)
    assert (other.cells != called.cells).sum() <= 0.03 * called.cells.sum()


# ------------------------------------------------------------------------------------------------- single parts


def test_unseen_genes_share_the_mass_of_those_seen_once():
    shares = good_turing(np.array([0, 0, 0, 0, 1, 1, 8]))
    assert shares.sum() == pytest.approx(1)
    assert shares[:4].sum() == pytest.approx(0.2) and shares[6] == pytest.approx(0.8 * 0.8)
    # One unseen gene is not more likely than one that was seen.
    few = good_turing(np.array([0, 1, 1, 1, 7]))
    assert 0 < few[0] <= few[1] * 1.2


def test_concentration_is_the_maximum_of_the_likelihood():
    counts, _ = make_droplets(3, n_large=0, n_small=0, n_empty=2000, n_genes=300, alpha=150.0)
    totals = totals_of(counts)
    empty = (totals > 0) & (totals <= 100)
    expressed = np.flatnonzero(np.asarray(counts.sum(axis=0)).ravel())
    profile = good_turing(np.asarray(counts[empty].sum(axis=0)).ravel()[expressed])
    found = concentration(counts, empty=empty, totals=totals, expressed=expressed, profile=profile)
    dense = counts[empty][:, expressed].toarray()

    def likelihood(alpha):
        return stats.dirichlet_multinomial(alpha * profile, totals[empty]).logpmf(dense).sum()

    assert likelihood(found) >= max(likelihood(found * factor) for factor in (0.9, 0.97, 1.03, 1.1))
    assert 120 < found < 190


def test_p_values_of_ambient_droplets_of_any_size_are_uniform():
    from livermet.calling import _p_values

    rng = np.random.default_rng(0)
    profile = rng.dirichlet(np.full(200, 0.5))
    profile = (profile + 1e-5) / (profile + 1e-5).sum()
    for size in (30, 400):
        drawn = rng.dirichlet(80 * profile, size=300)
        counts = sparse.csr_matrix(np.array([rng.multinomial(size, p / p.sum()) for p in drawn]))
        totals = np.full(300, size)
        model = {"expressed": np.arange(200), "profile": profile, "alpha": 80.0}
        p_values = _p_values(counts, totals=totals, draws=1000, seed=1, **model)
        assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_droplets_are_certain_down_to_where_cells_end():
    rng = np.random.default_rng(0)
    for n_large in (200, 3000):
        large, empty = rng.lognormal(8, 0.4, n_large), rng.lognormal(4, 0.5, 50_000)
        certain = certain_counts(np.concatenate([large, empty]).astype(int), lower=100)
        assert (large >= certain).mean() > 0.98 and (empty >= certain).sum() <= 0.01 * n_large, certain
    assert certain_counts(np.array([5, 500, 500, 700]), lower=100) == 701
    assert certain_counts(np.array([5, 6]), lower=100) == 7


def test_no_droplet_is_called_below_the_smallest_number_of_counts(runs):
    counts, _, _ = runs[0]
    totals = totals_of(counts)
    called = call_cells(counts, max_empty=100, min_counts=3000, fdr=FDR, seed=1)
    assert (called.cells == (totals >= 3000)).all() and called.certain == 3000 and called.n_tested == 0
    assert not call_cells(counts, max_empty=100, min_counts=10**6, fdr=FDR, seed=1).cells.any()


def test_too_few_empty_droplets_are_an_error_with_numbers():
    counts = sparse.csr_matrix(np.full((30, 40), 10, dtype=np.int32))
    with pytest.raises(ValueError, match=r"0 of 30 droplets are empty \(at most 100 counts\).* 1000 are needed"):
        call_cells(counts, **LIMITS, seed=1)


def test_a_droplet_is_not_lost_for_want_of_draws():
    """Few cells among many droplets that could be: with 10,000 draws no p-value is small enough for the rate."""
    rng = np.random.default_rng(4)
    profile = rng.dirichlet(np.full(60, 2.0))
    other = rng.dirichlet(np.full(60, 0.1))
    sizes = np.concatenate([rng.integers(20, 100, 2000), rng.integers(120, 150, 1500)])
    ambient = [rng.multinomial(size, profile) for size in sizes]
    cells = [rng.multinomial(size, other) for size in [140] * 15 + rng.integers(2500, 5000, 60).tolist()]
    counts = sparse.csr_matrix(np.array([*cells, *ambient], dtype=np.int32))
    called = call_cells(counts, **LIMITS | {"min_counts": 120}, seed=1)
    assert called.draws > 10_000
    assert called.cells[:75].mean() >= 0.95 and called.cells[75:].sum() <= 1


# ------------------------------------------------------------------------------------------------- real files


def test_real_droplets_are_called_as_cell_ranger_called_them(real_data):
    """A published excerpt of a run: 226 genes, 62 cells, all droplets with more than 100 counts."""
    folder = real_data / "formats" / "soupx"
    names = read_10x(folder / "filtered_gene_bc_matrices" / "GRCh38").obs_names
    row = {"library_id": "L1", "sample_id": "S1", "patient_id": "P1", "modality": "scrna", "raw_path": ""}
    row |= {"path": str(folder / "raw_gene_bc_matrices"), "pixel_um": None}
    config = {"empty_max_counts": 100, "calling_fdr": FDR, "calling_min_counts": 101, "seed": 1}
    adata = read_library(row, ingest_config=config)
    called = {name.removeprefix("L1:") for name in adata.obs_names}
    assert called <= set(names) and len(called) >= 55, len(called)
