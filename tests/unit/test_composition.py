"""Composition: the beta-binomial model against an independent likelihood, its calibration, and what one shift lights up.

The simulations of shifts follow those behind the design: 24 against 40 patients, one part of 30 % that is e times as
frequent in the smaller class, Dirichlet noise of concentration 30. Over 400 cohorts each, the false discovery proportion
of the engine's own test was .102 (20 parts), .081 (8), .095 (6) and .111 (4), standard error .01; with logistic-normal
noise of .6 it was .084, .079, .086 and .112. Limits stand at .12 for the seeded cohorts here.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

from cohorts import CONFIG, feature_rows, labels_table, patients_table
from livermet import composition, response, statistics

CENTRES = [0.3, 0.25, 0.2, 0.1, 0.1, 0.05]


def null_cohort(seed, *, n=40, parts=8, beta=0.0):
    rng = np.random.default_rng(seed)
    y, centre = (rng.random(n) < 0.4).astype(float), rng.choice(6, n, p=CENTRES)
    logits = np.linspace(0.6, -0.6, parts) + rng.normal(0, 0.6, (n, parts)) + rng.normal(0, 0.5, (6, parts))[centre]
    logits[:, 0] += beta * y
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return y, centre, np.array([rng.multinomial(1500, p) for p in shares]).astype(float)


def test_the_fit_is_the_maximum_of_the_likelihood():
    y, centre, counts = null_cohort(0)
    total = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)
    design = np.column_stack([(centre == level).astype(float) for level in np.unique(centre)] + [y])
    found = composition.fit(counts, total, design, coefficient_sd=np.inf, precision_sd=np.inf)

    def loss(parameters, part):
        mean, precision = special.expit(design @ parameters[:-1]), np.exp(parameters[-1])
        a, b = precision * mean, precision * (1 - mean)
        return -stats.betabinom.logpmf(counts[:, part], total[:, part], a, b).sum()

    for part in (0, 4, 7):
        best = optimize.minimize(
            loss, 0.8 * found.parameters[part], args=(part,), method="BFGS", options={"gtol": 1e-7}
        )
        np.testing.assert_allclose(found.parameters[part], best.x, atol=2e-3)
        assert loss(found.parameters[part], part) == pytest.approx(best.fun, abs=1e-5)
    # The covariance is the inverse of the numeric second derivatives.
    numeric = optimize.approx_fprime(found.parameters[0], lambda p: optimize.approx_fprime(p, loss, 1e-5, 0), 1e-4)
    np.testing.assert_allclose(found.covariance[0], np.linalg.inv(numeric), rtol=0.05, atol=1e-3)


def test_the_trigamma_function_is_that_of_scipy():
    x = np.logspace(-5, 9, 200)
    np.testing.assert_allclose(composition._trigamma(x), special.polygamma(1, x), rtol=1e-10)


def test_a_class_without_a_cell_of_a_part_has_a_finite_estimate():
    y, centre, counts = null_cohort(1)
    plain = composition.beta_binomial(counts, y, centre)
    counts[y == 1, 2] = 0
    found = composition.beta_binomial(counts, y, centre)
    assert np.isfinite([found.effect, found.low, found.high, found.p]).all()
    assert found.high[2] < 0
    assert found.p[2] < 0.001
    others = np.arange(8) != 2
    np.testing.assert_allclose(found.effect[others], plain.effect[others], atol=0.35)


def test_null_cohorts_are_calibrated_and_intervals_cover():
    # Over 150 cohorts at n = 24, 40 and 64 the rate was .040 to .059, the coverage .935 to .951.
    found = [composition.beta_binomial(c, y, centre) for y, centre, c in map(null_cohort, range(60))]
    assert np.mean([one.p <= 0.05 for one in found]) == pytest.approx(0.05, abs=0.03)
    assert np.mean([(one.low <= 0) & (one.high >= 0) for one in found]) == pytest.approx(0.95, abs=0.03)


def test_a_shift_is_found_with_its_size_and_no_spare_degree_of_freedom_is_no_number():
    found = [composition.beta_binomial(c, y, k) for y, k, c in (null_cohort(s, n=64, beta=1.0) for s in range(20))]
    assert np.mean([one.effect[0] for one in found]) == pytest.approx(1.0, abs=0.2)
    assert np.mean([one.p[0] <= 0.05 for one in found]) >= 0.9
    y, _, counts = null_cohort(0, n=4)
    assert np.isnan(composition.beta_binomial(counts, y, np.array([0, 0, 1, 2])).p).all()


# ---------------------------------------------------------------------------------------- one shift and all the others


def shifted(seed, *, parts):
    """24 against 40 patients; the first part, 30 % of the cells, is e times as frequent in the first class."""
    rng = np.random.default_rng([5, seed, parts])
    y = np.r_[np.ones(24), np.zeros(40)]
    weight = np.full((64, parts), 0.7 / (parts - 1))
    weight[:, 0] = np.where(y == 1, 0.3 * np.e, 0.3)
    weight /= weight.sum(axis=1, keepdims=True)
    shares = np.array([rng.dirichlet(30 * row) for row in weight])
    return y, np.array([rng.multinomial(1500, p) for p in shares]).astype(float)


def false_share(p):
    """False discovery proportion at q .10, and whether the shifted part is found."""
    hits = statistics.benjamini_hochberg(p) <= 0.10
    return hits[1:].sum() / max(1, hits.sum()), hits[0]


def engine_p(y, counts, seed):
    values = statistics.clr(counts, pseudocount=0.5)
    options = {"n_permutations": 499, "seed": seed, "centre_differences": True}
    return statistics.permutation_p(values, y, np.zeros(len(y), int), **options).p


def welch_p(y, values):
    return stats.ttest_ind(values[y == 1], values[y == 0], equal_var=False).pvalue


def mean_false_share(rates):
    return np.mean([false for false, _ in rates]), np.mean([found for _, found in rates])


def test_a_dominant_type_does_not_light_up_nineteen_others():
    cohorts = [shifted(seed, parts=20) for seed in range(80)]
    ours, found = mean_false_share([false_share(engine_p(*cohort, seed)) for seed, cohort in enumerate(cohorts)])
    raw, _ = mean_false_share([false_share(welch_p(y, c / c.sum(axis=1, keepdims=True))) for y, c in cohorts])
    assert ours <= 0.12
    assert found == 1
    assert raw >= 0.7  # .79 behind the design, .83 over 60 of these cohorts


@pytest.mark.parametrize(("parts", "naive"), [(4, 0.5), (6, 0.3), (8, 0.17)])
def test_a_shift_among_few_parts_does_not_light_up_the_others(parts, naive):
    cohorts = [shifted(seed, parts=parts) for seed in range(150)]
    ours, found = mean_false_share([false_share(engine_p(*cohort, seed)) for seed, cohort in enumerate(cohorts)])
    plain, _ = mean_false_share([false_share(welch_p(y, statistics.clr(c, pseudocount=0.5))) for y, c in cohorts])
    assert ours <= 0.12
    assert found >= 0.95
    assert plain >= naive  # .54, .36 and .24 behind the design


@pytest.mark.parametrize("parts", [6, 20])
def test_the_engine_tests_compositions_in_just_this_way(parts):
    y, counts = shifted(0, parts=parts)
    table = response.associate(
        feature_rows(counts, family="composition_type", n_cells=True),
        labels_table(y),
        patients_table(["C"] * 64),
        config=CONFIG,
        goes_with=["T0_pre"],
        scope="cohort",
        seed=1,
    )
    primary = table[table["analysis"] == "primary"].set_index("feature")
    kept = [int(name[1:]) for name in primary.index]
    np.testing.assert_allclose(primary["p"], engine_p(y, counts[:, kept], 1))
    by_counts = table[table["adjusted_for"] == "beta-binomial"].set_index("feature")
    expected = composition.beta_binomial(counts[:, kept], y, np.zeros(64, int))
    np.testing.assert_allclose(by_counts["p"], expected.p)
    assert pd.isna(by_counts["q"]).all()
