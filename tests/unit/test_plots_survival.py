"""Figures of survival show what was compared and say in words what was refused."""

import numpy as np
import pandas as pd
import pytest

from cohorts import feature_rows
from livermet.compared import read_label
from livermet.plots.survival import plot_curves, plot_hazards
from livermet.survival import compare_survival, survival_curves
from survival_cohorts import RULES, endpoint_table, setting, simulated


def made(*, n=48, events=None, **options):
    labels, patients, course = simulated(5, n_patients=n)
    if events is not None:
        os = read_label(labels, "os")
        few = endpoint_table(os.numbers, os.events * (os.numbers < events), patients=os.numbers.index)
        labels = pd.concat([labels[labels["label"] != "os"], few])
    features = feature_rows(np.random.default_rng(0).normal(size=(n, 15)), family="zone")
    names = dict(zip(features["patient_id"].unique(), patients["patient_id"], strict=True))
    features["patient_id"] = features["patient_id"].map(names)
    chosen = setting(**options)
    table = compare_survival(features, labels, patients, course, setting=chosen, rules=RULES)
    curves = survival_curves(labels, patients, course, setting=chosen, rules=RULES)
    endpoints = chosen.config["endpoints"]
    figures = {
        "curves": plot_curves(curves, table, endpoints=endpoints, primary_label="disease_control"),
        "hazards": plot_hazards(table, fdr=0.1),
    }
    return figures, table, curves


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda item: hasattr(item, "get_text")))


def axes_of(figure):
    return [ax for ax in figure.findobj(lambda item: hasattr(item, "get_xlim")) if ax.axison]


def test_curves_have_numbers_at_risk_medians_and_the_landmark():
    figures, _, curves = made()
    text = words(figures["curves"])
    assert "all patients, n = 48" in text
    assert "os: disease_control on day 270" in text
    assert "hazard ratio" in text
    assert text.count("patients at risk") == 2
    assert len(axes_of(figures["curves"])) == 4
    upper, lower = axes_of(figures["curves"])[0], axes_of(figures["curves"])[2]
    shown = {item.get_position()[0]: int(item.get_text()) for item in lower.texts}
    overall = curves[curves["group"] == "all patients"]
    for day, at_risk in shown.items():
        later = overall[overall["time"] >= day]
        assert at_risk == (later["at_risk"].iloc[0] if len(later) else 0)
    assert max(shown) <= upper.get_xlim()[1]


def test_without_a_landmark_the_reason_stands_in_place_of_the_curves():
    figures, _, _ = made(landmark_days=0)
    assert "not compared (R07)" in words(figures["curves"]).replace("\n", " ")
    assert len(axes_of(figures["curves"])) == 2


def test_an_endpoint_without_values_has_a_line_and_no_empty_panel():
    figures, _, _ = made(endpoints=["os", "pfs"])
    assert "pfs: no patient has a value" in words(figures["curves"])
    assert len(axes_of(figures["curves"])) == 4
    assert "pfs: R06, 17 features not tested" in words(figures["hazards"])


def test_hazard_ratios_are_on_a_log_axis_with_patients_and_events():
    figures, table, _ = made()
    axes = axes_of(figures["hazards"])
    assert {ax.get_xscale() for ax in axes} == {"log"}
    text = words(figures["hazards"])
    assert "os: zone, scrna\n12 of 15 shown, n = 48, events" in text
    assert "hazard ratio, per SD" in text
    assert "hazard ratio, yes against no" in text
    tested = table[(table["status"] == "tested") & (table["family"] == "zone")]
    assert 1 / 20 <= tested["hazard_ratio"].min() <= tested["hazard_ratio"].max() <= 20


@pytest.mark.parametrize(("events", "code"), [(85, "R01"), (200, "")])
def test_few_events_are_drawn_as_squares_or_refused(events, code):
    figures, table, _ = made(events=events)
    rows = table[(table["family"] == "zone") & (table["analysis"] == "primary")]
    assert set(rows["refusal_code"]) == {code}
    if code:
        assert "No hazard ratio was estimated" in words(figures["hazards"])
        assert "R01" in words(figures["hazards"])
    else:
        assert set(rows["method"]) == {"firth per SD"}
        lines = [line for ax in axes_of(figures["hazards"]) for line in ax.lines]
        assert any(line.get_marker() == "s" for line in lines)


def test_a_batch_has_a_sentence_instead_of_figures():
    figures, _, curves = made(scope="B01")
    assert curves.empty
    assert "No survival curve is drawn" in words(figures["curves"])
    assert "one batch" in words(figures["curves"]).replace("\n", " ")
