"""Labels are derived from the reported responses; what is missing says why."""

from __future__ import annotations

import pandas as pd
import pytest

from livermet.labels import derive_labels
from livermet.tables import empty_table


def tables(response, *, local=(), courses=(), extra=None, patients=("P1",)):
    frames = {name: empty_table(name).frame() for name in ("patients", "treatment", "local_treatment")}
    frames["patients"] = pd.DataFrame({"patient_id": list(patients)})
    columns = ["patient_id", "eval_day", "recist", *(extra or [])]
    frames["response"] = pd.DataFrame(response, columns=columns).astype({"eval_day": "Int64"})
    if local:
        frames["local_treatment"] = pd.DataFrame(local, columns=["patient_id", "day", "type"])
    if courses:
        frames["treatment"] = pd.DataFrame(courses, columns=["patient_id", "regimen", "start_day"])
    return frames


def best(evaluations, **options):
    labels = derive_labels(tables([("P1", *e) for e in evaluations], **options), declared={}, sd_min_days=42)
    return labels.set_index("label").loc[["recist_best", "disease_control", "objective_response"]]


@pytest.mark.parametrize(
    ("evaluations", "values"),
    [
        ([(None, "CR")], ["0", "1", "1"]),
        ([(None, "PR")], ["1", "1", "1"]),
        ([(None, "SD")], ["2", "1", "0"]),
        ([(None, "PD")], ["3", "0", "0"]),
        ([(None, "SD"), (60, "PR")], ["2", "1", "0"]),  # what was reported comes first
        ([(60, "SD"), (120, "PR"), (180, "SD")], ["1", "1", "1"]),
        ([(120, "PR"), (60, "SD")], ["1", "1", "1"]),  # order of the rows does not matter
        ([(60, "SD"), (120, "PD")], ["2", "1", "0"]),
        ([(60, "PD"), (120, "PR")], ["3", "0", "0"]),  # nothing counts after progression
        ([(60, "NE"), (120, "SD")], ["2", "1", "0"]),
    ],
)
def test_best_response(evaluations, values):
    labels = best(evaluations)
    assert labels["value"].tolist() == values
    assert labels["kind"].tolist() == ["ordinal", "binary", "binary"]
    assert (labels["reason"] == "").all() and labels["source"].str.startswith("response.tsv").all()


@pytest.mark.parametrize(
    ("evaluations", "words"),
    [
        ([(None, "NE")], "reported as not evaluable"),
        ([(60, "NE"), (120, "NE")], "all evaluations are not evaluable"),
        ([], "no RECIST value"),
        ([(60, "")], "no RECIST value"),
    ],
)
def test_a_patient_without_value_keeps_a_row_with_the_reason(evaluations, words):
    labels = best(evaluations)
    assert (labels["value"] == "").all() and labels["reason"].str.contains(words).all()


def test_not_evaluable_is_counted_in_the_source():
    assert "1 of them not evaluable" in best([(60, "NE"), (120, "PR")]).loc["recist_best", "source"]


def test_what_surgery_removed_is_no_response():
    evaluations = [(60, "SD"), (200, "CR")]
    assert best(evaluations).loc["recist_best", "value"] == "0"
    cut = best(evaluations, local=[("P1", 150, "liver_resection")]).loc["recist_best"]
    assert cut["value"] == "2" and "local treatment on day 150" in cut["source"]
    assert best(evaluations, local=[("P1", 150, "exploratory_only")]).loc["recist_best", "value"] == "0"
    assert best(evaluations, local=[("P2", 150, "ablation")]).loc["recist_best", "value"] == "0"
    only_after = best([(200, "CR")], local=[("P1", 150, "ablation"), ("P1", 90, "ablation")]).loc["recist_best"]
    assert only_after["value"] == "" and "day 90" in only_after["reason"]


def test_a_change_of_regimen_ends_the_best_response():
    evaluations = [(60, "SD"), (200, "PR")]
    same = [("P1", "GnP", 100), ("P1", "GnP", 0)]
    assert best(evaluations, courses=same).loc["recist_best", "value"] == "1"
    changed = best(evaluations, courses=[("P1", "mFOLFIRINOX", 100), ("P1", "GnP", 0)]).loc["recist_best"]
    assert changed["value"] == "2" and "change of regimen on day 100" in changed["source"]


def test_treatment_of_earlier_disease_ends_nothing():
    earlier = {"local": [("P1", -300, "pancreatectomy")], "courses": [("P1", "gemcitabine", -400), ("P1", "GnP", 5)]}
    assert best([(60, "PR")], **earlier).loc["recist_best", "value"] == "1"


def test_baselines_are_no_evaluation_and_stable_disease_has_to_last():
    courses = [("P1", "GnP", 10)]
    assert (
        "no evaluation after the start" in best([(-5, "SD"), (10, "SD")], courses=courses).loc["recist_best", "reason"]
    )
    early = best([(51, "SD")], courses=courses).loc["disease_control"]
    assert early["value"] == "" and "stable only before day 42" in early["reason"]
    assert best([(52, "SD")], courses=courses).loc["disease_control", "value"] == "1"
    assert best([(20, "SD"), (70, "PD")], courses=courses).loc["disease_control", "value"] == "0"


def test_declared_labels():
    rows = [
        ("P1", None, "", "yes", "none", 0.25),
        ("P2", 60, "PR", "no", "full", None),
        ("P3", 60, "PR", "no", "some", 1.0),
        ("P3", 90, "PR", "yes", "some", 2.0),
    ]
    declared = {
        "major": {"kind": "binary", "positive": "yes"},
        "grade": {"kind": "ordinal", "levels": ["none", "some", "full"]},
        "change": {"kind": "continuous"},
    }
    frames = tables(rows, extra=list(declared), patients=("P1", "P2", "P3", "P4"))
    labels = derive_labels(frames, declared=declared, sd_min_days=42)
    values = labels.pivot_table(index="label", columns="patient_id", values="value", aggfunc="first")
    assert values.loc["major"].tolist() == ["1", "0", "", ""]
    assert values.loc["grade"].tolist() == ["0", "2", "1", ""]
    assert values.loc["change"].tolist() == ["0.25", "", "", ""]
    assert labels.loc[labels["value"] == "", "reason"].ne("").all()
    differing = labels[(labels["label"] == "major") & (labels["patient_id"] == "P3")]
    assert "2 different values" in differing["reason"].iloc[0]


def test_without_response_every_patient_has_a_reasoned_row():
    frames = {name: empty_table(name).frame() for name in ("response", "treatment", "local_treatment")}
    frames["patients"] = pd.DataFrame({"patient_id": ["P1", "P2"]})
    labels = derive_labels(frames, declared={}, sd_min_days=42)
    assert len(labels) == 6 and (labels["value"] == "").all() and labels["reason"].ne("").all()
    frames["patients"] = empty_table("patients").frame()
    empty = derive_labels(frames, declared={}, sd_min_days=42)
    assert empty.empty and list(empty.columns) == ["patient_id", "label", "kind", "value", "source", "reason"]
