"""What the report says of survival."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.duration.survfunc import SurvfuncRight

from cohorts import feature_rows
from livermet import cox
from livermet.pages import _environment
from livermet.report import _view
from livermet.report_survival import (
    hazard_ratios,
    landmark_facts,
    median_times,
    refused_hazards,
    survival_summary,
)
from livermet.survival import COLUMNS, CURVE_COLUMNS, compare_survival, survival_curves
from survival_cohorts import RULES, setting, simulated

# As the page of the cohort takes the part in.
PAGE = '{% from "macros.html.j2" import figure, empty, how, table with context %}{% include "survival.html.j2" %}'


def page(table, curves):
    return (
        _environment()
        .from_string(PAGE)
        .render(
            survival_summary=survival_summary(table, fdr=0.1),
            figure_of={},
            descriptive=False,
            median_times=_view(median_times(curves)),
            hazard_ratios=_view(hazard_ratios(table)),
            landmark_facts=_view(landmark_facts(table)),
            refused_hazards=_view(refused_hazards(table)),
        )
    )


@pytest.fixture(scope="module")
def found():
    labels, patients, course = simulated(6, n_patients=60)
    features = feature_rows(np.random.default_rng(0).normal(size=(60, 4)), family="zone")
    names = dict(zip(features["patient_id"].unique(), patients["patient_id"], strict=True))
    features["patient_id"] = features["patient_id"].map(names)
    chosen = setting(endpoints=["os", "pfs"])
    table = compare_survival(features, labels, patients, course, setting=chosen, rules=RULES)
    return table, survival_curves(labels, patients, course, setting=chosen, rules=RULES)


def test_views_hold_each_comparison_once(found):
    table, curves = found
    ratios = hazard_ratios(table)
    assert len(ratios) == 4
    assert ratios["p"].is_monotonic_increasing
    assert ratios["unadjusted"].notna().all()
    facts = landmark_facts(table)
    assert list(facts["feature"]) == ["disease_control", "resected"] * 2
    assert list(facts["why not compared"] != "") == [False, False, True, True]
    refused = refused_hazards(table)
    assert list(refused["features"]) == [4]
    summary = survival_summary(table, fdr=0.1)
    assert summary["endpoints"] == ["os", "pfs"]
    assert (summary["n_tested"], summary["n_refused"]) == (6, 6)
    assert list(median_times(curves)["patients"]) == ["all patients", "disease_control: yes", "disease_control: no"]


def test_median_and_follow_up_are_those_of_statsmodels():
    rng = np.random.default_rng(1)
    time, event = np.ceil(rng.exponential(300, 80)), rng.integers(0, 2, 80)
    curve = cox.kaplan_meier(time, event)
    columns = {"time": curve.time, "at_risk": curve.at_risk, "events": curve.events, "survival": curve.survival}
    table = pd.DataFrame(
        columns | {"ci_low": curve.low, "ci_high": curve.high, "endpoint": "os", "group": "all patients"}
    )
    row = median_times(table[CURVE_COLUMNS]).iloc[0]
    assert float(row["median days"]) == SurvfuncRight(time, event).quantile(0.5)
    # events before censoring at the same time, as the curve counts them
    assert float(row["median follow-up"]) == SurvfuncRight(time - 0.001 * event, 1 - event).quantile(0.5)


def test_empty_tables_are_empty_views_and_the_page_says_so():
    table = pd.DataFrame(columns=COLUMNS).astype({"p": float, "ph_p": float, "hazard_ratio": float, "q": float})
    html = page(table, pd.DataFrame(columns=CURVE_COLUMNS))
    assert "Nothing to compare" in html


def test_the_page_holds_ratios_and_reasons(found):
    html = page(*found)
    assert "6 hazard ratios for os and pfs" in html
    assert "no patient has a value of pfs" in html
