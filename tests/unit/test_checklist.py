"""The reporting checklist: filled from values, and silent on all that did not run."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from livermet.checklist import (
    AUTHORS,
    COLUMNS,
    ITEMS,
    NOT_APPLICABLE,
    REMARK,
    REPORTED,
    RUN,
    TRIPOD,
    Facts,
    checklist_view,
    fill_checklist,
    status_counts,
)
from livermet.pages import template
from livermet.report import _view

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
from report_inputs import demo_inputs, empty_inputs

RESPONSE = {
    "primary_label": "disease_control",
    "timepoints": ["T0_pre"],
    "tissues": ["liver_met"],
    "confirmatory": [{"modality": "scrna", "family": "composition_type", "feature": "tam_SPP1"}],
    "alpha": 0.05,
    "fdr": 0.1,
    "n_permutations": 9999,
    "look": 1,
    "planned_looks": 2,
}


def facts_of(inputs, **changes):
    tables = {
        name: inputs.tables[name] for name in ("patients", "samples", "labels", "consent", "status", "associations")
    }
    tables["left_out"] = inputs.tables["features_left_out"]
    tables["treatment"] = pd.DataFrame({"patient_id": ["P01", "P02"], "regimen": ["GnP", "GnP"]})
    run = {**inputs.run, "config_sha256": "c" * 64, "response_sha256": "d" * 64, "time": "2030-01-01", "commit": "abc"}
    facts = Facts(tables=tables, verdict=inputs.verdict, run=run, config=RESPONSE, looks=[], blind=False)
    return replace(facts, **changes)


@pytest.fixture(scope="module")
def inputs():
    return demo_inputs(n_patients=12, n_sections=3)


@pytest.fixture
def facts(inputs):
    return facts_of(inputs)


def rows(facts, guideline):
    table = fill_checklist(facts)
    return table[table["guideline"] == guideline].set_index("topic")


def with_tables(facts, **tables):
    return replace(facts, tables={**facts.tables, **tables})


def test_every_item_of_both_guidelines_has_a_row_and_a_status(facts):
    table = fill_checklist(facts)
    assert list(table.columns) == list(COLUMNS) and len(table) == len(ITEMS)
    assert set(table["status"]) == {REPORTED, NOT_APPLICABLE, AUTHORS}
    assert set(table.loc[table["guideline"] == REMARK, "item"]) == {str(n) for n in range(1, 21)}
    assert set(table.loc[table["guideline"] == TRIPOD, "item"]) == {str(n) for n in range(1, 28)}
    assert (table.loc[table["status"] == REPORTED, "value"] != "").all()
    assert (table.loc[table["status"] == NOT_APPLICABLE, "value"] != "").all()


def test_values_are_those_of_the_run(facts, inputs):
    remark = rows(facts, REMARK)["value"]
    tested = inputs.tables["associations"].query("status == 'tested'")
    assert f"{len(inputs.tables['patients'])} patients" in remark["patients"]
    assert "tam SPP1" in remark["aims"]
    assert f"{len(tested)} features with effect" in remark["single effects"]
    assert (
        f"{len(inputs.tables['associations'])} features" in remark["candidates"]
        and "3 declared" in remark["candidates"]
    )
    known = inputs.tables["labels"].query("label == 'disease_control' and value != ''")
    assert f"{len(known)} patients with a value" in remark["endpoints"]
    assert "Holm at 0.025" in remark["statistics"]
    assert "12 enrolled" in remark["flow"] and f"up to {tested['n'].max()} in a comparison" in remark["flow"]
    assert remark["treatments"] == "first and later regimens: GnP 2"
    assert rows(facts, RUN)["value"]["code"].endswith("seed 1; config cccccccccccc")
    assert "R01 29" in rows(facts, RUN)["value"]["refusals"]


def test_nothing_that_differs_between_equal_runs_gets_in(facts):
    other = replace(facts, run={**facts.run, "time": "2040-05-05", "commit": "def", "machine": {"system": "x"}})
    pd.testing.assert_frame_equal(fill_checklist(facts), fill_checklist(other))


def test_without_a_predictor_no_item_on_prediction_is_filled(facts):
    assert set(rows(facts, TRIPOD)["status"]) == {NOT_APPLICABLE}
    assert set(rows(facts, TRIPOD)["value"]) == {"no predictor was run"}
    assert rows(facts, REMARK).loc["added value", "status"] == NOT_APPLICABLE
    refused = pd.DataFrame(
        {"model": ["both"], "status": ["refused"], "refusal_code": ["R01"], "refusal_reason": ["8 patients in a class"]}
    )
    assert set(rows(with_tables(facts, predictors=refused), TRIPOD)["value"]) == {
        "no predictor was fitted (R01: 8 patients in a class)"
    }


def test_a_predictor_that_ran_is_reported_with_its_numbers(facts):
    row = {
        "features": "ca199, nlr", "n": 40, "n_alt": 14, "auc": 0.61, "auc_low": 0.42, "auc_high": 0.8, "brier": 0.23,
        "calibration_slope": 0.8, "validation": "nested_cv", "status": "tested", "refusal_code": "", "refusal_reason": "",
    }  # fmt: skip
    predictors = pd.DataFrame([{"model": "clinical", **row}, {"model": "tissue", **row, "auc": 0.55}])
    filled = rows(with_tables(facts, predictors=predictors), TRIPOD)
    assert "clinical: AUC 0.61 (0.42 to 0.80)" in filled.loc["performance", "value"]
    assert filled.loc["development", "value"].startswith("clinical: 40 patients, 14 with the label")
    assert filled.loc["development and test", "status"] == NOT_APPLICABLE
    assert filled.loc["ethics", "status"] == AUTHORS


def test_tables_that_did_not_run_are_named_nowhere(facts):
    table = fill_checklist(facts)
    text = " ".join(table["value"] + table["place"])
    for name in ("survival.tsv", "biomarkers.tsv", "robustness.tsv", "confounding.tsv", "predictors.tsv"):
        assert name not in text
    ran = with_tables(
        facts,
        survival=pd.DataFrame({"status": ["tested", "refused"]}),
        robustness=pd.DataFrame({"feature": ["a"]}),
        confounding=pd.DataFrame({"factor": ["centre"]}),
        biomarkers=pd.DataFrame({"status": ["tested"], "model": ["joint"]}),
    )
    filled = rows(ran, REMARK)
    assert "1 hazard ratio" in filled.loc["single effects", "value"]
    assert "1 term of a joint model" in filled.loc["adjusted effects", "value"]
    assert filled.loc["marker and others", "status"] == REPORTED
    assert "robustness.tsv" in filled.loc["further analyses", "place"]


def test_a_study_in_which_nothing_was_tested_claims_nothing():
    filled = rows(facts_of(empty_inputs()), REMARK)
    for topic in ("candidates", "statistics", "single effects", "adjusted effects", "further analyses"):
        assert filled.loc[topic, "status"] == NOT_APPLICABLE, topic
    for topic in ("patients", "specimens", "characteristics"):
        assert filled.loc[topic, "status"] == AUTHORS, topic
    assert "0 enrolled" in filled.loc["flow", "value"]


def test_looks_and_blinding_are_said(facts):
    assert "no other state of the data" in rows(facts, RUN).loc["looks", "value"]
    seen = replace(facts, looks=[{"look": "1", "label": "disease_control", "n_patients": "18", "data_sha256": "a"}])
    value = rows(seen, RUN).loc["looks", "value"]
    assert "look 1 of 2 planned" in value and "1 other state of the data (look 1: disease_control, n = 18)" in value
    blind = replace(facts, blind=True)
    assert "blinded and is no look" in rows(blind, RUN).loc["looks", "value"]
    assert "labels are permuted" in rows(blind, REMARK).loc["endpoints", "value"]


def test_survival_labels_are_counted_with_their_events(facts):
    labels = pd.DataFrame(
        {"patient_id": ["P1", "P2", "P3"], "label": "os", "kind": "survival", "value": ["200", "300", ""], "event": [1.0, 0.0, None]}
    )  # fmt: skip
    config = {**RESPONSE, "primary_label": "os"}
    filled = rows(replace(with_tables(facts, labels=labels), config=config), REMARK)
    assert "2 patients with a value, 1 events" in filled.loc["endpoints", "value"]
    assert "os: 1 events" in filled.loc["flow", "value"]


def test_the_page_shows_all_three_parts_or_says_that_there_is_none(facts):
    checklist = fill_checklist(facts)
    views = {name: _view(checklist_view(checklist, name)) for name in (REMARK, TRIPOD, RUN)}
    html = template("checklist").render(checklist=views, checklist_counts=status_counts(checklist))
    assert html.count("<table") == 3 and "by the authors" in html
    assert sum(sum(counts.values()) for counts in status_counts(checklist).values()) == len(ITEMS)
    none = fill_checklist(facts).iloc[:0]
    empty = {name: _view(checklist_view(none, name)) for name in (REMARK, TRIPOD, RUN)}
    assert 'class="empty"' in template("checklist").render(checklist=empty, checklist_counts=status_counts(none))
