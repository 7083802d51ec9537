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


# Tables of steps that ran, one row or two of each.
RAN = {
    "survival": pd.DataFrame(
        {
            "status": ["tested", "tested", "refused"],
            "analysis": ["primary", "sensitivity", "primary"],
            "adjusted_for": ["centre", "", ""],
            "family": "blood",
            "feature": ["nlr", "nlr", "plr"],
        }
    ),
    "robustness": pd.DataFrame({"feature": ["a", "b"], "n_centres_left_out": pd.array([3, 0], dtype="Int64")}),
    "confounding": pd.DataFrame({"factor": ["centre", "tumour_fraction", "batch"], "strength": [0.2, 0.1, None]}),
    "biomarkers": pd.DataFrame({"status": ["tested"], "model": ["joint"], "analyte": ["nlr"]}),
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
    primary = tested.query("analysis == 'primary'")
    assert f"{len(primary)} features with effect" in remark["single effects"]
    assert (
        f"{len(inputs.tables['associations'])} features" in remark["candidates"]
        and "3 declared" in remark["candidates"]
    )
    known = inputs.tables["labels"].query("label == 'disease_control' and value != ''")
    assert f"{len(known)} patients with a value" in remark["endpoints"]
    assert "Holm at 0.025" in remark["statistics"]
    assert "12 enrolled" in remark["flow"] and f"up to {tested['n'].max()} in a test" in remark["flow"]
    assert remark["treatments"] == "rows by regimen, of any line: GnP 2"
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
    filled = rows(with_tables(facts, **RAN), REMARK)
    assert filled.loc["single effects", "value"].endswith("; 1 hazard ratio")
    assert "1 hazard ratio adjusted for centre; 1 term of a joint model" in filled.loc["adjusted effects", "value"]
    assert filled.loc["marker and others", "value"].startswith(
        "2 comparisons of the label with centre and tumour fraction;"
    )
    assert "1 feature without one centre at a time" in filled.loc["further analyses", "value"]
    assert "robustness.tsv" in filled.loc["further analyses", "place"]


def test_a_study_in_which_nothing_was_tested_claims_nothing():
    filled = rows(facts_of(empty_inputs()), REMARK)
    for topic in ("candidates", "statistics", "single effects", "adjusted effects", "further analyses"):
        assert filled.loc[topic, "status"] == NOT_APPLICABLE, topic
    for topic in ("patients", "specimens", "characteristics"):
        assert filled.loc[topic, "status"] == AUTHORS, topic
    assert "0 enrolled" in filled.loc["flow", "value"]


def test_columns_that_hold_nothing_are_read_as_numbers_and_break_nothing(facts):
    """A study in which every row is refused: its empty texts come back from the file as missing numbers."""
    refused = facts.tables["associations"].assign(status="refused", adjusted_for=float("nan"), p_method=float("nan"))
    table = fill_checklist(with_tables(facts, associations=refused, survival=refused.assign(analysis="primary")))
    assert not table["value"].str.contains("adjusted for centre").any()


def one_centre(facts, *, blood=("mgps",)):
    """The same run in a study of one centre: nothing is adjusted for centre, and no centre can be left out."""
    associations = facts.tables["associations"].assign(adjusted_for="")
    parts = associations.query("status == 'tested' and analysis == 'primary'").head(2)
    counted = parts.assign(analysis="sensitivity", adjusted_for="beta-binomial", effect_kind="log_odds_ratio")
    scores = parts.head(1).assign(modality="blood", family="blood")
    scores = pd.concat([scores.assign(feature=name) for name in blood] or [scores.iloc[:0]])
    robust = pd.DataFrame({"feature": ["a", "b"], "n_centres_left_out": pd.array([0, 0], dtype="Int64")})
    hazards = RAN["survival"].assign(adjusted_for="")
    table = pd.concat([associations, counted, scores], ignore_index=True)
    return with_tables(facts, associations=table, robustness=robust, survival=hazards)


def test_in_one_centre_nothing_is_said_of_centres(facts):
    remark = rows(one_centre(facts), REMARK)
    assert "over all patients" in remark.loc["statistics", "value"]
    assert remark.loc["adjusted effects", "status"] == NOT_APPLICABLE
    assert remark.loc["adjusted effects", "value"] == "no adjusted estimate of response or survival was made"
    assert "2 rows of sensitivity analyses" in remark.loc["further analyses", "value"]
    said = remark.loc[["statistics", "adjusted effects", "further analyses"], ["value", "place"]]
    assert not said.apply(lambda column: column.str.contains("centre|robustness")).any(axis=None)


def test_with_several_centres_the_adjusted_rows_are_counted_and_no_others(facts):
    primary = facts.associations.query("status == 'tested'").assign(adjusted_for="centre")
    n = len(primary)
    beside = [
        primary.head(n - 2).assign(analysis="sensitivity", adjusted_for=""),
        primary.head(2).assign(analysis="sensitivity", adjusted_for="centre; beta-binomial"),
        primary.head(1).assign(analysis="sensitivity", adjusted_for="per protocol, without 1 patient"),
    ]
    tables = with_tables(facts, associations=pd.concat([primary, *beside], ignore_index=True))
    remark = rows(tables, REMARK)["value"]
    assert remark["adjusted effects"] == f"{n + 2} estimates adjusted for centre"
    assert remark["further analyses"] == f"{n + 1} rows of sensitivity analyses"
    assert "permutation of labels within centre, two-sided" in remark["statistics"]
    primary = primary.assign(adjusted_for=["", *["centre"] * (n - 1)])
    mixed = rows(with_tables(facts, associations=primary), REMARK)["value"]["statistics"]
    assert f"permutation of labels within centre (of {n - 1} features), two-sided" in mixed


def test_scores_with_published_cut_points_are_named_where_they_were_tested(facts):
    assert "published cut-points" not in rows(facts, REMARK)["value"]["marker values"]
    named = rows(one_centre(facts, blood=("mps", "mgps", "nlr", "kras_detected")), REMARK)["value"]["marker values"]
    assert "scores by published cut-points among the features: mgps, mps; detected or not: kras detected" in named
    assert "nlr" not in named
    of_blood = pd.DataFrame({"status": ["tested", "refused"], "model": "univariable", "analyte": ["mps", "mgps"]})
    named = rows(with_tables(facts, biomarkers=of_blood), REMARK)["value"]["marker values"]
    assert named.endswith("among the features: mps")


def test_corrections_are_named_for_what_was_tested_alone(facts):
    associations = facts.tables["associations"]
    explored = with_tables(facts, associations=associations[associations["role"] == "exploratory"])
    assert "Holm" not in rows(explored, REMARK)["value"]["statistics"]
    declared = with_tables(facts, associations=associations[associations["role"] == "confirmatory"])
    assert "Benjamini" not in rows(declared, REMARK)["value"]["statistics"]
    assert (
        "each with its reason"
        not in rows(with_tables(facts, associations=associations.query("status == 'tested'")), REMARK)["value"][
            "candidates"
        ]
    )


def test_added_value_needs_the_model_of_both(facts):
    one = pd.DataFrame({"model": ["clinical", "tissue"], "status": "tested", "validation": "x", "auc": 0.5})
    entry = rows(with_tables(facts, predictors=one), REMARK).loc["added value"]
    assert (entry["status"], entry["value"]) == (
        NOT_APPLICABLE,
        "no model of both was fitted, but of clinical, tissue alone",
    )
    both = pd.concat([one, one.head(1).assign(model="clinical+tissue")])
    assert rows(with_tables(facts, predictors=both), REMARK).loc["added value", "status"] == REPORTED


def test_the_ledger_is_named_only_where_there_is_one(facts):
    assert "study/looks.tsv" in rows(facts, RUN).loc["looks", "place"]
    for without in (replace(facts, blind=True), facts_of(empty_inputs())):
        assert "looks.tsv" not in " ".join(rows(without, RUN)["place"])
    assert "rows" not in rows(replace(facts, blind=True), REMARK).loc["endpoints", "place"]


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
    assert "2 patients with a value, 1 event" in filled.loc["endpoints", "value"]
    assert "os: 1 event" in filled.loc["flow", "value"]


def test_the_page_shows_all_three_parts_or_says_that_there_is_none(facts):
    checklist = fill_checklist(facts)
    views = {name: _view(checklist_view(checklist, name)) for name in (REMARK, TRIPOD, RUN)}
    html = template("checklist").render(checklist=views, checklist_counts=status_counts(checklist))
    assert html.count("<table") == 3 and "by the authors" in html
    assert sum(sum(counts.values()) for counts in status_counts(checklist).values()) == len(ITEMS)
    none = fill_checklist(facts).iloc[:0]
    empty = {name: _view(checklist_view(none, name)) for name in (REMARK, TRIPOD, RUN)}
    assert 'class="empty"' in template("checklist").render(checklist=empty, checklist_counts=status_counts(none))
