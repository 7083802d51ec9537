"""Labels are derived from the tables, with the rows that they came from; what is missing says why."""

from __future__ import annotations

import math

import pytest

from livermet.catalogue import LABELS
from livermet.labels import derive_labels, nesting_findings
from study_rows import study_tables

TRIAL = {"evaluation": {"first_min_days": 49, "sd_min_days": 42}}


def derive(*, declared=None, trial=TRIAL, patients=({"patient_id": "P1"},), **rows):
    tables = study_tables(labels=declared, patients=list(patients), **rows)
    return derive_labels(tables, declared=declared or {}, trial=trial)


def one(**rows):
    """All labels of the one patient."""
    return derive(**rows).labels.set_index("label")


def evaluations(*given):
    return [{"patient_id": "P1", "eval_day": day, "recist": recist} for day, recist in given]


def courses(*given):
    return [{"patient_id": "P1", "regimen": regimen, "start_day": day} for regimen, day in given]


def operations(*given):
    return [{"patient_id": "P1", "day": day, "type": kind} for day, kind in given]


def measured(*given):
    """Scans of two target lesions of the liver, as (day, diameter, diameter)."""
    lesions = [
        {
            "patient_id": "P1",
            "lesion_id": f"L{i}",
            "day": day,
            "target": 1,
            "diameter_mm": mm if mm is None else float(mm),
            "status": "measured",
            "organ": "liver",
            "node": 0,
            "modality": "CT",
        }
        for day, *sizes in given
        for i, mm in enumerate(sizes, start=1)
    ]
    return {
        "lesions": lesions,
        "scans": [{"patient_id": "P1", "day": day, "new_lesion": 0, "modality": "CT"} for day, *_ in given],
    }


# ------------------------------------------------------------------------------------------------ reported responses


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ([(None, "CR")], ["0", "1", "1"]),
        ([(None, "PR")], ["1", "1", "1"]),
        ([(None, "SD")], ["2", "1", "0"]),
        ([(None, "PD")], ["3", "0", "0"]),
        ([(None, "SD"), (60, "PR")], ["1", "1", "1"]),  # a summary does not say when
        ([(60, "SD"), (120, "PR"), (180, "SD")], ["1", "1", "1"]),
        ([(120, "PR"), (60, "SD")], ["1", "1", "1"]),  # order of the rows does not matter
        ([(60, "SD"), (120, "PD")], ["2", "1", "0"]),
        ([(60, "PD"), (120, "PR")], ["3", "0", "0"]),  # nothing counts after progression
        ([(30, "PR"), (60, "PD")], ["1", "0", "1"]),  # a response that was gone at the re-evaluation
        ([(60, "NE"), (80, "SD")], ["2", "1", "0"]),
    ],
)
def test_reported_response(given, values):
    labels = one(response=evaluations(*given))
    names = ["recist_best", "disease_control", "objective_response"]
    assert labels.loc[names, "value"].tolist() == values
    assert labels.loc[names, "kind"].tolist() == ["ordinal", "binary", "binary"]
    assert (labels.loc[names, "reason"] == "").all() and labels.loc[names, "source"].str.startswith(
        "response.tsv row"
    ).all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([(None, "NE")], "reported as not evaluable"),
        ([(60, "NE"), (120, "NE")], "all evaluations are not evaluable"),
        ([], "no RECIST value"),
        ([(60, "")], "no RECIST value"),
    ],
)
def test_a_patient_without_value_keeps_a_row_with_the_reason(given, words):
    labels = one(response=evaluations(*given)).loc[["recist_best", "objective_response"]]
    assert (labels["value"] == "").all() and labels["reason"].str.contains(words).all()


def test_not_evaluable_is_counted_in_the_source():
    assert "1 of them not evaluable" in one(response=evaluations((60, "NE"), (120, "PR"))).loc["recist_best", "source"]


def test_what_surgery_removed_is_no_response():
    seen = evaluations((60, "SD"), (200, "CR"))
    assert one(response=seen).loc["recist_best", "value"] == "0"
    cut = one(response=seen, local_treatment=operations((150, "liver_resection"))).loc["recist_best"]
    assert cut["value"] == "2" and "local treatment on day 150" in cut["source"]
    assert one(response=seen, local_treatment=operations((150, "exploratory_only"))).loc["recist_best", "value"] == "0"
    twice = operations((150, "ablation"), (90, "ablation"))
    only_after = one(response=evaluations((200, "CR")), local_treatment=twice).loc["recist_best"]
    assert only_after["value"] == "" and "day 90" in only_after["reason"]


def test_a_change_of_regimen_ends_the_best_response():
    seen = evaluations((60, "SD"), (200, "PR"))
    assert one(response=seen, treatment=courses(("GnP", 100), ("GnP", 0))).loc["recist_best", "value"] == "1"
    changed = one(response=seen, treatment=courses(("mFOLFIRINOX", 100), ("GnP", 0))).loc["recist_best"]
    assert changed["value"] == "2" and "change of regimen on day 100" in changed["source"]


def test_treatment_of_earlier_disease_ends_nothing():
    earlier = {
        "local_treatment": operations((-300, "pancreatectomy")),
        "treatment": [*courses(("GnP", 5)), {**courses(("gemcitabine", -400))[0], "stop_day": -100}],
    }
    assert one(response=evaluations((60, "PR")), **earlier).loc["recist_best", "value"] == "1"


def test_baselines_are_no_evaluation_and_stable_disease_has_to_last():
    treatment = courses(("GnP", 10))
    baselines = one(response=evaluations((-5, "SD"), (10, "SD")), treatment=treatment)
    assert "no evaluation after the start" in baselines.loc["recist_best", "reason"]
    early = one(response=evaluations((51, "SD")), treatment=treatment)
    assert "stable only before day 42" in early.loc["recist_best", "reason"]
    assert "from day 59" in early.loc["disease_control", "reason"]
    assert one(response=evaluations((52, "SD")), treatment=treatment).loc["recist_best", "value"] == "2"
    gate = one(response=evaluations((20, "SD"), (70, "PD")), treatment=treatment)
    assert gate.loc["disease_control", "value"] == "0" and gate.loc["recist_best", "value"] == "3"


# --------------------------------------------------------------------------------------------------------- measurements


def test_measurements_come_before_reports_unless_the_protocol_says_otherwise():
    given = measured((0, 30, 20), (60, 18, 12), (120, 16, 10))
    reports = evaluations((60, "SD"), (120, "PR"))
    derived = derive(response=reports, treatment=courses(("GnP", 5)), **given)
    labels = derived.labels.set_index("label")
    assert labels.loc["recist_best", "value"] == "1" and "lesions.tsv rows 2, 3" in labels.loc["recist_best", "source"]
    assert labels.loc["response_confirmed", "value"] == "1"
    (finding,) = derived.findings
    assert finding.rule == "V15" and finding.value == "SD" and "PR on day 60" in finding.message
    assert derived.recist[["day", "response", "reported", "agrees"]].values.tolist() == [
        [60, "PR", "SD", "no"],
        [120, "PR", "PR", "yes"],
    ]
    central = {"evaluation": {**TRIAL["evaluation"], "recist_from": "reported"}}
    other = derive(response=evaluations((60, "SD")), treatment=courses(("GnP", 5)), trial=central, **given)
    best = other.labels.set_index("label").loc["recist_best"]
    assert best["value"] == "2" and best["source"].startswith("response.tsv")


def test_without_baseline_the_reported_response_counts():
    given = measured((-90, 30, 20), (60, 18, 12))
    labels = one(response=evaluations((60, "PR")), treatment=courses(("GnP", 5)), **given)
    assert labels.loc["recist_best", "value"] == "1" and labels.loc["recist_best", "source"].startswith("response.tsv")
    assert labels.loc["sld_change", "value"] == "" and "baseline" in labels.loc["sld_change", "reason"]


def test_change_of_size_at_the_re_evaluation():
    samples = [{"sample_id": "S1", "patient_id": "P1", "timepoint": "T0_pre", "tissue": "liver_met", "lesion_id": "L2"}]
    given = measured((0, 30, 20), (40, 28, 18), (60, 24, 10), (120, 10, 10))
    labels = one(treatment=courses(("GnP", 0)), samples=samples, **given)
    assert float(labels.loc["sld_change", "value"]) == pytest.approx(math.log(34 / 50))
    assert float(labels.loc["liver_sld_change", "value"]) == pytest.approx(math.log(34 / 50))
    assert float(labels.loc["biopsied_change", "value"]) == pytest.approx(math.log(10 / 20))
    gone = one(treatment=courses(("GnP", 0)), **measured((0, 30, 20), (60, 0, 0)))
    assert float(gone.loc["sld_change", "value"]) == pytest.approx(math.log(2.5 / 50))
    ablated = one(
        treatment=courses(("GnP", 0)), local_treatment=operations((50, "ablation")), **measured((0, 30, 20), (60, 3, 3))
    )
    assert ablated.loc["sld_change", "value"] == "" and ablated.loc["recist_best", "value"] == ""


def test_a_response_that_no_scan_confirmed():
    given = measured((0, 30, 20), (60, 18, 12), (70, 18, 12))
    labels = one(treatment=courses(("GnP", 0)), **given)
    assert labels.loc["response_confirmed", "value"] == "0"
    stable = one(treatment=courses(("GnP", 0)), **measured((0, 30, 20), (60, 30, 20)))
    assert "needs no confirmation" in stable.loc["response_confirmed", "reason"]


# ---------------------------------------------------------------------------------------------------- blood and tissue


def draws(*given, **fields):
    return [
        {
            "patient_id": "P1",
            "day": day,
            "analyte": "ca199",
            "value": float(value),
            "unit": "U/mL",
            "censor": "=",
            **fields,
        }
        for day, value in given
    ]


def test_labels_of_ca199_name_their_rows():
    blood = draws((0, 800), (60, 300), (200, 10))
    given = measured((0, 30, 20), (60, 30, 20))
    labels = one(treatment=courses(("GnP", 2)), blood=blood, local_treatment=operations((150, "ablation")), **given)
    assert labels.loc["ca199_resp50", "value"] == "1" and labels.loc["ca199_resp70", "value"] == "0"
    assert float(labels.loc["ca199_log2fc", "value"]) == pytest.approx(math.log2(300 / 800))
    assert labels.loc["ca199_norm", "value"] == "0"  # the normal value came after local treatment
    assert labels.loc["ca199_log2fc", "source"].startswith("blood.tsv rows 2, 3; no bilirubin")


def test_a_non_secretor_is_never_a_responder():
    for patient, blood in (({"lewis_status": "negative"}, draws((0, 100), (60, 5))), ({}, draws((0, 1), (60, 0.5)))):
        labels = derive(patients=[{"patient_id": "P1", **patient}], blood=blood).labels
        own = labels[labels["label"].str.startswith("ca199")]
        assert (own["value"] == "").all() and own["reason"].ne("").all()
    none = one().loc["ca199_resp50"]
    assert none["value"] == "" and none["reason"] == "no CA19-9 in blood.tsv"


def test_pathology_of_the_resection():
    samples = [
        {"sample_id": name, "patient_id": "P1", "timepoint": timepoint, "tissue": "liver_met"}
        for name, timepoint in (("S1", "T3_resection"), ("S2", "T3_resection"), ("S0", "T0_pre"))
    ]
    scores = [{"sample_id": "S1", "cap_trs": 0, "ypm": 0}, {"sample_id": "S2", "cap_trs": 1, "ypm": 1}]
    labels = one(samples=samples, pathology=scores)
    assert labels.loc[["path_cap", "path_cap01", "ypM0"], "value"].tolist() == ["1", "1", "0"]
    assert labels.loc["path_cap", "source"] == "pathology.tsv rows 2, 3"
    assert "no resected metastasis" in one(samples=samples[2:]).loc["path_cap", "reason"]


# ---------------------------------------------------------------------------------------------------------- follow-up


def outcome(**fields):
    return [{"patient_id": "P1", "cutoff_day": 2000, **fields}]


def test_times_to_event():
    surgery = operations((150, "liver_resection"))
    labels = one(outcome=outcome(last_followup_day=500, death=1, relapse_day=300), local_treatment=surgery)
    assert labels.loc[["pfs", "os", "rfs", "os_surgery"], "value"].tolist() == ["300", "500", "150", "350"]
    assert labels.loc[["pfs", "os", "rfs", "os_surgery"], "event"].tolist() == ["1", "1", "1", "1"]
    assert labels.loc["early_relapse6", "value"] == "1" and labels.loc["resected", "value"] == "1"
    others = {"patient_id": "P2", "last_followup_day": 90, "death": 0, "progression_day": 60}
    known = [*outcome(last_followup_day=500, death=0), others]
    alive = one(outcome=known, local_treatment=operations((-90, "pancreatectomy")))
    assert alive.loc[["pfs", "os"], ["value", "event"]].values.tolist() == [["500", "0"], ["500", "0"]]
    assert alive.loc["resected", "value"] == "0"
    assert "no local treatment" in alive.loc["rfs", "reason"]
    assert "no row in outcome.tsv" in one().loc["os", "reason"]
    assert "no local_treatment.tsv" in one(outcome=outcome(last_followup_day=500)).loc["resected", "reason"]
    assert "no last_followup_day or death" in one(outcome=outcome(last_followup_day=500)).loc["os", "reason"]


def test_to_be_alive_is_not_to_be_free_of_progression():
    surgery = operations((150, "combined"))
    nothing = one(outcome=outcome(last_followup_day=900, death=0), local_treatment=surgery)
    assert nothing.loc["os", "value"] == "900"
    assert (nothing.loc[["pfs", "rfs", "early_relapse6"], "value"] == "").all()
    scanned = measured((0, 30, 20), (63, 28, 20), (120, 28, 20))
    followed = one(outcome=outcome(last_followup_day=900, death=0), treatment=courses(("GnP", 0)), **scanned)
    assert followed.loc["pfs", ["value", "event"]].tolist() == ["120", "0"]


def test_a_relapse_after_surgery_counts_whatever_came_before_it():
    given = measured((0, 30, 20), (63, 28, 20))
    given["scans"].append({"patient_id": "P1", "day": 250, "new_lesion": 1, "modality": "CT"})
    labels = one(
        outcome=outcome(last_followup_day=900, death=0, progression_day=100),
        local_treatment=operations((150, "combined")),
        treatment=courses(("GnP", 0)),
        **given,
    )
    assert labels.loc["pfs", "value"] == "100" and labels.loc["rfs", ["value", "event"]].tolist() == ["100", "1"]
    assert labels.loc["early_relapse6", "value"] == "1"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([(None, "SD"), (63, "NE")], "day 63 is not evaluable"),
        ([(63, "NE"), (400, "SD")], "day 63 is not evaluable"),
    ],
)
def test_not_evaluable_at_the_re_evaluation_is_no_disease_control(given, words):
    gate = one(response=evaluations(*given)).loc["disease_control"]
    assert gate["value"] == "" and words in gate["reason"]


def test_measurements_that_are_not_evaluable_are_not_filled_in_from_reports():
    given = measured((0, 30, 20), (63, None, 20))
    given["lesions"][2] |= {"diameter_mm": None, "status": "not_evaluable"}
    labels = one(response=evaluations((63, "PR")), treatment=courses(("GnP", 0)), **given)
    assert labels.loc["recist_best", "value"] == "" and labels.loc["disease_control", "value"] == ""


def test_a_summary_that_came_after_surgery_makes_no_responder():
    given = measured((0, 40), (200, 0))
    cut = {"local_treatment": operations((150, "liver_resection")), "treatment": courses(("GnP", 0))}
    derived = derive(response=evaluations((None, "CR")), **cut, **given)
    assert derived.labels.set_index("label").loc["recist_best", "value"] == ""
    dated = derive(response=evaluations((None, "CR"), (63, "SD")), **cut)
    assert dated.labels.set_index("label").loc["recist_best", "value"] == "2"
    assert [f.rule for f in dated.findings] == ["V15"]


def test_progression_by_measurements_where_none_is_reported():
    given = measured((0, 30, 20), (60, 40, 30))
    labels = one(outcome=outcome(last_followup_day=300, death=0), treatment=courses(("GnP", 0)), **given)
    assert (
        labels.loc["pfs", ["value", "event"]].tolist() == ["60", "1"]
        and "progression by" in labels.loc["pfs", "source"]
    )


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({"last_followup_day": 333, "death": 0, "progression_day": 90}, "0"),
        ({"last_followup_day": 300, "death": 0, "progression_day": 90}, ""),
        ({"last_followup_day": 300, "death": 1, "progression_day": 90}, ""),
        ({"last_followup_day": 400, "death": 0, "relapse_day": 334}, "0"),
        ({"last_followup_day": 400, "death": 0, "relapse_day": 333}, "1"),
    ],
)
def test_early_relapse_needs_its_six_months(fields, value):
    labels = one(outcome=outcome(**fields), local_treatment=operations((150, "combined")))
    assert labels.loc["early_relapse6", "value"] == value and bool(value) != bool(
        labels.loc["early_relapse6", "reason"]
    )


# -------------------------------------------------------------------------------------------------------- all together


def test_declared_labels():
    rows = [
        ("P1", None, "", "yes", "none", 0.25),
        ("P2", 60, "PR", "no", "full", None),
        ("P3", 60, "PR", "no", "some", 1.0),
        ("P3", 90, "PR", "yes", "some", 2.0),
    ]
    columns = ["patient_id", "eval_day", "recist", "major", "grade", "change"]
    declared = {
        "major": {"kind": "binary", "positive": "yes"},
        "grade": {"kind": "ordinal", "levels": ["none", "some", "full"]},
        "change": {"kind": "continuous"},
    }
    patients = [{"patient_id": name} for name in ("P1", "P2", "P3", "P4")]
    response = [dict(zip(columns, row, strict=True)) for row in rows]
    labels = derive(declared=declared, patients=patients, response=response).labels
    values = labels.pivot_table(index="label", columns="patient_id", values="value", aggfunc="first")
    assert values.loc["major"].tolist() == ["1", "0", "", ""]
    assert values.loc["grade"].tolist() == ["0", "2", "1", ""]
    assert values.loc["change"].tolist() == ["0.25", "", "", ""]
    assert labels.loc[labels["value"] == "", "reason"].ne("").all()
    differing = labels[(labels["label"] == "major") & (labels["patient_id"] == "P3")]
    assert "2 different values" in differing["reason"].iloc[0]


def test_every_patient_has_every_label_or_a_reason():
    labels = derive(patients=[{"patient_id": "P1"}, {"patient_id": "P2"}]).labels
    assert labels["label"].tolist() == [label for label in LABELS for _ in range(2)]
    missing = labels[labels["value"] == ""]
    assert missing["reason"].ne("").all() and set(missing["label"]) == set(LABELS)
    empty = derive(patients=[])
    columns = ["patient_id", "label", "kind", "value", "event", "source", "reason"]
    assert empty.labels.empty and list(empty.labels.columns) == columns and empty.recist.empty


def test_a_label_that_lies_within_the_centres_is_named():
    patients = [{"patient_id": f"P{i}"} for i in range(8)]
    response = [{"patient_id": f"P{i}", "recist": "PR" if i < 4 else "PD"} for i in range(8)]
    labels = derive(patients=patients, response=response).labels

    def found(centre):
        rows = {f"L{i}": {"patient_id": f"P{i}", "centre": centre(i), "batch": f"B{i % 2}"} for i in range(8)}
        return [(f.column, f.rule) for f in nesting_findings(labels, primary="disease_control", rows=rows)]

    assert found(lambda i: f"C{i // 4}") == [("centre", "V16")]
    assert found(lambda i: f"C{i % 2}") == [] and found(lambda i: "C") == []
