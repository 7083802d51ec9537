"""Intervals of cross-validated measures: their form; how often they hold the truth is measured by ``make truth``."""

import numpy as np
import pytest

from livermet import discrimination, nested, validation
from livermet.validation import BOTH, CLINICAL, TISSUE

N, RESPONDERS, REPEATS = 48, 18, 4


@pytest.fixture(scope="module")
def judged():
    """All three models of one cohort, in which one of three candidates of each kind has an effect."""
    rng = np.random.default_rng(0)
    clinical, tissue = rng.normal(size=(2, N, 3))
    score = clinical[:, 0] + tissue[:, 0] + rng.logistic(size=N)
    y = (np.argsort(np.argsort(-score)) < RESPONDERS).astype(float)
    one, two = ((nested.Candidates(values),) for values in (clinical, tissue))
    inputs = {
        CLINICAL: validation.Inputs(one, ("a", "b", "c"), 0.0),
        TISSUE: validation.Inputs(two, ("d", "e", "f"), 0.0),
        BOTH: validation.Inputs(one + two, ("a", "b", "c", "d", "e", "f"), 0.0),
    }
    outer, inner = rng.random((2, REPEATS, N))
    names = np.array([f"P{k:02d}" for k in range(N)], dtype=object)
    cohort = validation.Cohort(names, y, np.full(N, "C1"), outer, inner, 5, 2, 25, 1)
    return validation.evaluate(inputs, cohort, n_missing=0)


def row(judged, model):
    return judged.predictors.query("model == @model and validation == 'nested_cv'").iloc[0]


@pytest.mark.parametrize("model", [CLINICAL, TISSUE, BOTH])
def test_the_variance_of_an_area_is_multiplied_by_what_permutations_show(judged, model):
    null = judged.null.query("model == @model and statistic == 'auc' and permutation > 0")["estimate"]
    inflation = max(1.0, null.var() / ((N + 1) / 12 / RESPONDERS / (N - RESPONDERS)))
    found = row(judged, model)
    limits = discrimination.auc_interval(found["auc"], RESPONDERS, N - RESPONDERS, inflation=inflation)
    assert (found["auc_low"], found["auc_high"]) == pytest.approx(limits)


def test_permutations_that_vary_less_than_pairs_narrow_no_interval():
    y = np.repeat([0.0, 1.0], [30, 18])
    eta, fold = {TISSUE: np.linspace(-1, 1, N)[None]}, (np.arange(N) % 5)[None]
    null = {(TISSUE, "auc"): [0.9, 0.5, 0.51, 0.49]}
    found = validation._with_nested_intervals({TISSUE: {"auc": 0.9}}, eta, y, fold, null)[TISSUE]
    assert (found["auc_low"], found["auc_high"]) == discrimination.auc_interval(0.9, 18, 30)


def test_the_gain_lies_in_the_middle_of_its_interval(judged):
    found = row(judged, BOTH)
    assert found["delta_auc"] == pytest.approx((found["delta_low"] + found["delta_high"]) / 2)
    assert found["delta_low"] < found["delta_auc"]
