"""What the report says of labels and findings: every label, every patient, every finding, with numbers that add up."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from livermet.catalogue import LABELS
from livermet.files import read_table, write_table
from livermet.findings import SEVERITIES, Finding, findings_frame
from livermet.report_data import level_names, select_label, value_words
from livermet.report_study import (
    COURSE_COLUMNS,
    MAIN_LABELS,
    RULES,
    findings_view,
    label_rows,
    main_labels,
    patient_labels,
    split,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
from report_inputs import EMPTY, PARAMS, demo_inputs

DECLARED = PARAMS["labels"]
PRIMARY = "disease_control"


@pytest.fixture(scope="module")
def tables():
    return demo_inputs().tables


@pytest.fixture(scope="module")
def read_back(tables, tmp_path_factory):
    """The same tables as they come from files, where a column of numbers is no longer text."""
    folder = tmp_path_factory.mktemp("study")
    for name in ("labels", "recist", "findings", "scope_findings"):
        write_table(tables[name], folder / f"{name}.tsv")
    return {name: read_table(folder / f"{name}.tsv") for name in ("labels", "recist", "findings", "scope_findings")}


def labels_of(*rows):
    return pd.DataFrame(rows, columns=EMPTY["labels"].split())


def rows_of(labels, **analysed):
    return {row.name: row for row in label_rows(labels, analysed=analysed, primary=PRIMARY, declared=DECLARED)}


@pytest.mark.parametrize(
    ("kind", "value", "event", "levels", "words"),
    [
        ("binary", "1", "", (), "yes"),
        ("binary", "0", "", (), "no"),
        ("binary", "1.0", "", (), "yes"),
        ("ordinal", "2", "", ("CR", "PR", "SD", "PD"), "SD"),
        ("ordinal", "2", "", (), "2"),
        ("continuous", "-0.18232156", "", (), "−0.182"),
        ("survival", "213", "1", (), "213 d"),
        ("survival", "213", "0", (), "213+ d"),
        ("survival", "213", 1.0, (), "213 d"),
        ("survival", "213", float("nan"), (), "213+ d"),
        ("survival", "", "", (), ""),
        ("binary", None, "", (), ""),
    ],
)
def test_values_are_said_in_words(kind, value, event, levels, words):
    assert value_words(kind, value, event=event, levels=levels) == words


def test_levels_come_from_recist_and_from_the_config():
    assert level_names(DECLARED) == {"recist_best": ("CR", "PR", "SD", "PD"), "pathologist": ("poor", "fair", "good")}


def test_one_label_by_patient_is_missing_with_its_reason(tables):
    values = select_label(tables["labels"], "recist_best", levels=level_names(DECLARED))
    assert values["P03"] == ("", "no evaluation after the start of treatment on day 5")
    assert {value for value, _ in values.values()} == {"", "PR", "SD", "PD"}
    assert select_label(tables["labels"], "no_such_label", levels={}) == {}


def test_all_labels_are_listed_the_primary_first_and_the_declared_last(tables):
    rows = label_rows(tables["labels"], analysed={}, primary="ca199_resp50", declared=DECLARED)
    assert [row.name for row in rows if row.primary] == ["ca199_resp50"]
    assert [row.name for row in rows] == [
        "ca199_resp50",
        *(name for name in LABELS if name != "ca199_resp50"),
        "pathologist",
    ]
    assert rows[1].meaning == LABELS["recist_best"].meaning
    assert rows[-1].meaning == "declared in the config"
    assert rows[-1].timepoints == ("T0_pre",)
    assert {row.name for row in rows if row.untested} == {"resected"}


def test_values_and_reasons_of_each_label_add_up_to_all_patients(tables, read_back):
    for labels in (tables["labels"], read_back["labels"]):
        for row in rows_of(labels, cells={"P01", "P02", "P03"}).values():
            missing = sum(loss.n for loss in row.missing) + row.other_reasons
            assert row.known.n + missing == 23, row.name
            assert row.known.n == sum(n for _, n in row.known.parts) or row.kind == "continuous"
            assert row.analysed["cells"].n <= min(3, row.known.n)
    assert rows_of(tables["labels"]) == rows_of(read_back["labels"])


def test_labels_are_split_by_class_event_or_spread():
    labels = labels_of(
        *(("P" + str(i), PRIMARY, "binary", value, "", "s", "") for i, value in enumerate("110")),
        *(("P" + str(i), "recist_best", "ordinal", value, "", "s", "") for i, value in enumerate("331")),
        *(("P" + str(i), "path_cap", "ordinal", value, "", "s", "") for i, value in enumerate("202")),
        *(("P" + str(i), "os", "survival", "90", event, "s", "") for i, event in enumerate("100")),
        *(("P" + str(i), "sld_change", "continuous", value, "", "s", "") for i, value in enumerate(["-1", "0.5", "-0.2"])),
    )  # fmt: skip
    rows = rows_of(labels, cells={"P0", "P9"}, sections=set())
    assert rows[PRIMARY].known.parts == (("yes", 2), ("no", 1))
    assert rows[PRIMARY].analysed["cells"].parts == (("yes", 1), ("no", 0))
    assert rows[PRIMARY].analysed["sections"].n == 0
    assert rows["recist_best"].known.parts == (("CR", 0), ("PR", 1), ("SD", 0), ("PD", 2))
    assert rows["path_cap"].known.parts == (("0", 1), ("2", 2))
    assert rows["os"].known.parts == (("event", 1), ("censored", 2))
    assert rows["sld_change"].known.spread == "median −0.2 (−1 to 0.5)"


@pytest.mark.parametrize("kind", ["binary", "ordinal", "continuous", "survival"])
def test_a_label_that_nobody_has_is_split_into_nothing(kind):
    known = split(labels_of(), kind=kind, levels=())
    assert known.n == 0
    assert known.spread == ""
    assert sum(n for _, n in known.parts) == 0


def test_the_most_frequent_reasons_are_named_and_the_rest_counted():
    reasons = ["a"] * 5 + ["b"] * 4 + ["c on day 3", "c on day 9", "d", "e"] + [""]
    labels = labels_of(*((f"P{i:02d}", PRIMARY, "binary", "", "", "", reason) for i, reason in enumerate(reasons)))
    row = rows_of(labels)[PRIMARY]
    assert [(loss.reason, loss.n) for loss in row.missing] == [("a", 5), ("b", 4), ("c on day …", 2)]
    assert row.other_reasons == 3
    assert rows_of(labels.tail(1))[PRIMARY].missing[0].reason == "no reason given"


def test_every_label_of_every_patient_can_be_traced(tables, read_back):
    main = main_labels(tables["labels"], primary=PRIMARY, declared=DECLARED)
    patients = patient_labels(read_back["labels"], read_back["recist"], main=main, declared=DECLARED)
    assert [patient.patient_id for patient in patients] == sorted(tables["patients"]["patient_id"])
    told = {
        (patient.patient_id, name): (value, source, reason)
        for patient in patients
        for source, reason, pairs in patient.groups
        for name, value in pairs
    }
    levels = level_names(DECLARED)
    assert len(told) == len(tables["labels"])
    for row in tables["labels"].to_dict(orient="records"):
        words = value_words(row["kind"], row["value"], event=row["event"], levels=levels.get(row["label"], ()))
        assert told[row["patient_id"], row["label"]] == (words, row["source"], row["reason"])
        assert words or row["reason"]
    for patient in patients:
        assert patient.known == sum(bool(told[patient.patient_id, name][0]) for name in [*LABELS, "pathologist"])
        assert patient.main == tuple((told[patient.patient_id, n][0], told[patient.patient_id, n][2]) for n in main)


def test_the_course_of_a_patient_is_told_in_order_and_differences_are_counted(tables):
    patients = patient_labels(tables["labels"], tables["recist"].iloc[::-1], main=[], declared=DECLARED)
    differing = {patient.patient_id: patient.differing for patient in patients if patient.differing}
    assert differing == {"P04": 1, "P12": 1}
    assert {patient.patient_id for patient in patients if not patient.course} == {"P03", "P18"}
    assert [row["day"] for row in patients[0].course] == [63, 125, 187]
    assert {name for name, _ in COURSE_COLUMNS} <= set(tables["recist"])


def test_the_overview_holds_the_main_labels_that_are_known(tables):
    main = main_labels(tables["labels"], primary="ca199_norm", declared=DECLARED)
    assert main == ["ca199_norm", *MAIN_LABELS, "pathologist"]
    some = tables["labels"][tables["labels"]["label"].isin(["os", "ypM0"])]
    assert main_labels(some, primary=PRIMARY, declared={}) == ["os"]


def test_findings_of_both_checks_stand_in_one_list_the_gravest_first(tables, read_back):
    view = findings_view(read_back["findings"], read_back["scope_findings"])
    severities = [row["severity"] for row in view.rows]
    assert severities == sorted(severities, key=SEVERITIES.index)
    assert len(view.rows) == len(tables["findings"]) + len(tables["scope_findings"])
    assert {severity: n for severity, n, _ in view.counts} == {
        "error": 0,
        "exclusion": 2,
        "deviation": 3,
        "warning": len(view.rows) - 5,
    }
    when = {(row["when"], row["rule"]) for row in view.rows if row["severity"] == "exclusion"}
    assert when == {("tables", None), ("after QC", "V17")}
    assert next(row["title"] for row in view.rows if row["rule"] == "V04") == RULES["V04"]


def test_no_finding_is_a_view_without_rows():
    nothing = findings_frame([])
    assert findings_view(nothing, nothing).rows == ()
    one = findings_frame([Finding("warning", "blood.tsv", None, "", "", "m", "r", "V99")])
    assert findings_view(nothing, one).rows[0]["title"] == ""


def test_every_rule_of_the_logic_has_a_title():
    assert list(RULES) == [f"V{i:02d}" for i in range(1, 21)]
