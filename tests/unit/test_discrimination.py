"""Areas under ROC curves: their intervals cover, and what a second marker adds is tested at its level."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from livermet import discrimination, firth, nested


def test_the_area_is_that_of_scikit_learn_and_of_the_rank_sum():
    rng = np.random.default_rng(0)
    values, y = rng.integers(0, 6, 40), rng.integers(0, 2, 40)
    assert discrimination.auc(values, y) == pytest.approx(roc_auc_score(y, values))
    u = stats.mannwhitneyu(values[y == 1], values[y == 0]).statistic
    assert discrimination.auc(values, y) == pytest.approx(u / (y.sum() * (1 - y).sum()))
    assert discrimination.auc(-values, y) == pytest.approx(1 - discrimination.auc(values, y))
    assert np.isnan(discrimination.auc(values, np.zeros(40)))


def test_the_limits_are_the_areas_whose_error_reaches_the_observed_one():
    low, high = discrimination.auc_interval(0.8, 20, 40)
    for limit in (low, high):
        half = 29
        spread = 1 + half * ((1 - limit) / (2 - limit) + limit / (1 + limit))
        error = np.sqrt(limit * (1 - limit) / 800 * spread)
        assert abs(0.8 - limit) == pytest.approx(1.959964 * error, rel=1e-4)
    mirrored = discrimination.auc_interval(0.2, 20, 40)
    assert mirrored == pytest.approx((1 - high, 1 - low))


def test_an_inflated_variance_widens_the_interval_as_another_quantile_would():
    wide = discrimination.auc_interval(0.7, 20, 40, inflation=(stats.norm.ppf(0.995) / stats.norm.ppf(0.975)) ** 2)
    assert wide == pytest.approx(discrimination.auc_interval(0.7, 20, 40, level=0.99))


def test_the_variance_of_noise_is_that_of_the_rank_sum():
    rng = np.random.default_rng(2)
    y = np.repeat([1, 0], [8, 14])
    areas = [discrimination.auc(rng.random(22), y) for _ in range(4000)]
    assert discrimination.null_variance(y, np.zeros(22)) == pytest.approx(23 / 12 / 8 / 14)
    assert np.var(areas) == pytest.approx(23 / 12 / 8 / 14, rel=0.1)
    groups = rng.integers(0, 3, 22)
    found = [nested.concordance(rng.random(22), y, groups) for _ in range(4000)]
    within = [right.sum() / pairs.sum() for right, pairs in found]
    assert np.var(within) == pytest.approx(discrimination.null_variance(y, groups), rel=0.1)
    assert np.isnan(discrimination.null_variance(y, y))


def test_separated_classes_have_an_interval_that_narrows_with_patients():
    few, many = discrimination.auc_interval(1.0, 3, 3), discrimination.auc_interval(1.0, 30, 30)
    assert few[1] == many[1] == 1.0
    assert few[0] < 0.6 and many[0] > 0.9
    assert discrimination.auc_interval(0.0, 3, 3) == pytest.approx((0.0, 1 - few[0]))


@pytest.mark.parametrize(("n_alt", "n_ref", "shift"), [(5, 10, 0.0), (8, 16, 1.0), (21, 43, 1.0), (8, 16, 2.0)])
def test_intervals_of_areas_cover(n_alt, n_ref, shift):
    rng = np.random.default_rng(7)
    truth = stats.norm.cdf(shift / np.sqrt(2))
    y = np.r_[np.ones(n_alt), np.zeros(n_ref)]
    covered = []
    for _ in range(400):
        area = discrimination.auc(rng.normal(size=len(y)) + shift * y, y)
        low, high = discrimination.auc_interval(area, n_alt, n_ref)
        covered.append(low <= truth <= high)
    assert 0.90 <= np.mean(covered) <= 0.99


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_intervals_of_areas_within_uneven_groups_cover(shift):
    """Pairs within six groups only: over seeds 0 to 5 and the three shifts .91 to .98 of 400 held the truth."""
    rng = np.random.default_rng(8)
    truth = stats.norm.cdf(shift / np.sqrt(2))
    covered, plain = [], []
    for _ in range(400):
        groups = rng.choice(6, 64, p=[0.3, 0.25, 0.2, 0.1, 0.1, 0.05])
        y = (rng.random(64) < 0.4).astype(float)
        right, pairs = nested.concordance(rng.normal(size=64) + shift * y, y, groups)
        inflation = discrimination.null_variance(y, groups) / discrimination.null_variance(y, np.zeros(64))
        sizes = int(y.sum()), int(64 - y.sum())
        low, high = discrimination.auc_interval(right.sum() / pairs.sum(), *sizes, inflation=inflation)
        covered.append(low <= truth <= high)
        low, high = discrimination.auc_interval(right.sum() / pairs.sum(), *sizes)
        plain.append(low <= truth <= high)
    assert 0.89 <= np.mean(covered) <= 0.99
    assert np.mean(plain) <= np.mean(covered)


OPTIONS = {"folds": 5, "repeats": 3, "n_permutations": 99}


def study(rng, *, n=48, reference=0.8, other=0.0):
    y = np.tile([0, 0, 1], n // 3)
    strata = rng.integers(0, 3, n)
    ref = reference * y + rng.normal(size=n)
    return ref, 0.5 * ref + other * y + rng.normal(size=n), y, strata


def test_a_marker_that_adds_nothing_is_said_to_add_at_most_at_the_level():
    rng = np.random.default_rng(11)
    p = [discrimination.cross_validated_gain(*study(rng), **OPTIONS, seed=k).p for k in range(60)]
    # Beyond the reference nothing is there, though marker and label are both related to the reference.
    assert (np.array(p) <= 0.05).sum() <= stats.binom.ppf(0.999, 60, 0.05)
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_a_marker_that_adds_is_found_and_the_areas_are_out_of_fold():
    rng = np.random.default_rng(12)
    gain = discrimination.cross_validated_gain(*study(rng, n=60, other=1.8), **OPTIONS, seed=1)
    assert gain.p == pytest.approx(0.01)
    assert gain.difference == pytest.approx(gain.both - gain.reference) and gain.difference > 0.1
    noise = [
        discrimination.cross_validated_gain(*study(rng, reference=0.0), **OPTIONS | {"n_permutations": 1}, seed=k)
        for k in range(40)
    ]
    assert abs(np.mean([one.reference for one in noise]) - 0.5) < 0.05
    assert abs(np.mean([one.both for one in noise]) - 0.5) < 0.05


def test_the_area_within_folds_is_that_of_a_loop_that_scales_in_each_fold():
    rng = np.random.default_rng(4)
    ref, other, y, strata = study(rng, other=1.0)
    gain = discrimination.cross_validated_gain(ref, other, y, strata, **OPTIONS, seed=9)
    held = discrimination._held_out(y.astype(float), folds=5, repeats=3, rng=np.random.default_rng(9)) == 1
    areas = []
    for out in held:
        x = np.column_stack([ref, other])
        mean, spread = x[~out].mean(axis=0), x[~out].std(axis=0)
        coef = firth.fit((x[~out] - mean) / spread, y[~out]).coef
        areas.append(roc_auc_score(y[out], (x[out] - mean) / spread @ coef[1:]))
    assert gain.both == pytest.approx(np.mean(areas), abs=1e-6)


def test_units_do_not_matter_and_folds_hold_both_classes_evenly():
    rng = np.random.default_rng(5)
    ref, other, y, strata = study(rng, other=1.0)
    one = discrimination.cross_validated_gain(ref, other, y, strata, **OPTIONS, seed=2)
    two = discrimination.cross_validated_gain(3 + 10 * ref, 0.01 * other, y, strata, **OPTIONS, seed=2)
    assert one.both == pytest.approx(two.both) and one.p == two.p
    held = discrimination._held_out(y.astype(float), folds=5, repeats=2, rng=rng)
    np.testing.assert_array_equal(held[:5].sum(axis=0), 1)
    per_class = held @ np.column_stack([y == 0, y == 1])
    assert (per_class.max(axis=0) - per_class.min(axis=0) <= 1).all()
    assert np.ptp(held.sum(axis=1)) <= 1
