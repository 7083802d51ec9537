"""Firth's logistic regression gives the numbers of R's logistf, and what separation asks of it."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from livermet import firth

# Urinary tract infection and diaphragm use (Foxman 1997), the example of R's logistf (data(sex2)): patients by pattern of
# case, age, oc, vic, vicl, vis, dia. Data and reference from projectglow/glow, test-data/r/sex2.txt and the tests of its
# Firth regression ("golden stats are from R's logistf package: logistf(case ~ age+oc+vic+vicl+vis+dia, data=sex2)").
SEX2 = """1000010 1  1001000 14  1001010 3  1001100 10  1001110 12  1001111 1  1010000 44  1010001 3  1011000 15  1011001 1
1011010 2  1011100 7  1011110 3  1101000 2  1101010 1  1101011 1  1101100 1  1101111 1  1110000 5  1111000 3  0000010 1
0001000 2  0001010 1  0001100 8  0001110 18  0010000 42  0010010 1  0011000 1  0011100 5  0011110 6  0101100 2  0101110 4
0110000 14  0110010 1  0111000 1  0111110 2"""
SEX2_COEF = [0.12025404, -1.10598130, -0.06881673, 2.26887464, -2.11140816, -0.78831694, 3.09601263]
SEX2_P_DIA = 4.951873e-03

# Quasi-complete separation; generator and reference (R, logistf) from jzluo/firthmodels, tests/conftest.py and
# tests/test_logistic.py. Order here: intercept, separator, x1, x2, x3.
COEF = [-0.4434562830, 3.6577140153, 0.6759781501, -0.8633119501, 0.3385788510]
P = [0.1997147194, 0.0002084147149, 0.0093173148959, 0.0236385713206, 0.0055887969164]
LOW = [-1.16089382506, 1.3901042899, 0.1602568036, -1.6677883758, 0.0893054012]
HIGH = [0.2295139209, 8.5876062114, 1.2568999211, -0.1135186948, 0.6572681313]


def sex2():
    fields = SEX2.split()
    rows = [[int(digit) for digit in pattern] for pattern in fields[::2]]
    table = np.repeat(rows, [int(n) for n in fields[1::2]], axis=0)
    return table[:, 1:].astype(float), table[:, 0].astype(float)


def separated():
    rng = np.random.default_rng(42)
    separator = rng.choice([0, 1], 100, p=[0.8, 0.2])
    x1, x2 = rng.standard_normal(100), rng.uniform(-1, 1, 100)
    x3 = rng.exponential(scale=2.0, size=100)
    y = rng.binomial(1, expit(-0.5 + 0.8 * x1 - 0.6 * x2 + 0.3 * x3))
    y[separator == 1] = 1
    return np.column_stack([separator, x1, x2, x3]), y


def test_agrees_with_logistf_on_its_own_example():
    x, y = sex2()
    assert len(y) == 239 and y.sum() == 130
    found = firth.fit(x, y)
    assert found.converged
    np.testing.assert_allclose(found.coef, SEX2_COEF, atol=1e-5)
    assert firth.likelihood_ratio_p(x, y, 6) == pytest.approx(SEX2_P_DIA, rel=1e-3)


def test_agrees_with_logistf_under_separation():
    x, y = separated()
    np.testing.assert_allclose(firth.fit(x, y).coef, COEF, rtol=1e-4)
    np.testing.assert_allclose([firth.likelihood_ratio_p(x, y, i) for i in range(5)], P, rtol=1e-4)
    intervals = np.array([firth.profile_interval(x, y, i) for i in range(5)])
    np.testing.assert_allclose(intervals, np.column_stack([LOW, HIGH]), rtol=1e-4)


def test_a_binary_covariate_is_the_table_with_half_a_patient_in_each_cell():
    # For a saturated model Firth's estimate is the log odds ratio after adding 1/2 to each cell (Firth 1993).
    x, y = np.repeat([0, 0, 1, 1], [7, 3, 0, 6]), np.repeat([0, 1, 0, 1], [7, 3, 0, 6])
    expected = np.log((6.5 / 0.5) / (3.5 / 7.5))
    assert firth.fit(x[:, None], y).coef[1] == pytest.approx(expected, abs=1e-6)


def test_the_interval_and_the_test_agree_on_zero():
    rng = np.random.default_rng(3)
    for _ in range(10):
        x, y = rng.normal(size=(20, 2)), (rng.random(20) < 0.4).astype(float)
        low, high = firth.profile_interval(x, y, 1)
        assert (low <= 0 <= high) == (firth.likelihood_ratio_p(x, y, 1) >= 0.05)


@pytest.mark.parametrize("n", [8, 64])
def test_complete_separation_has_a_finite_estimate_and_interval(n):
    x = np.linspace(-1, 1, n)
    y = (x > 0).astype(float)
    low, high = firth.profile_interval(x[:, None], y, 1)
    assert 0 < low < firth.fit(x[:, None], y).coef[1] < high < np.inf


def test_swapping_classes_or_units_changes_the_sign_or_the_scale_only():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 2)), (rng.random(40) < 0.4).astype(float)
    plain = firth.fit(x, y).coef
    np.testing.assert_allclose(firth.fit(x, 1 - y).coef, -plain, atol=1e-6)
    np.testing.assert_allclose(firth.fit(x * [10, 1], y).coef, plain / [1, 10, 1], atol=1e-6)


def test_many_fits_at_once_are_the_single_fits():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(3, 30, 2)), (rng.random(30) < 0.4).astype(float)
    train = (rng.random((4, 30)) < 0.8).astype(float)
    train[0] = 1
    together = firth.fit_many(x, y, train)
    for i in range(3):
        for j in range(4):
            use = train[j] == 1
            np.testing.assert_allclose(together[i, j], firth.fit(x[i][use], y[use]).coef, atol=1e-4)


def test_dependent_columns_are_an_error():
    x = np.arange(8.0)
    with pytest.raises(ValueError, match="3 columns with the intercept have rank 2"):
        firth.fit(np.column_stack([x, 2 * x]), x > 3)


def test_intervals_cover_and_tests_hold_their_level_in_small_samples():
    rng = np.random.default_rng(5)
    covered, rejected, runs = 0, 0, 100
    for _ in range(runs):
        x = rng.normal(size=(24, 1))
        y = (rng.random(24) < expit(-0.4 + 0.8 * x[:, 0])).astype(float)
        low, high = firth.profile_interval(x, y, 1)
        covered += low <= 0.8 <= high
        rejected += firth.likelihood_ratio_p(rng.normal(size=(24, 1)), y, 1) <= 0.05
    assert 0.90 <= covered / runs <= 0.99
    assert rejected <= stats.binom.ppf(0.999, runs, 0.05)
