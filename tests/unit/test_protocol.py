"""The rules of the protocol; that each fires is shown by the corpus of bad inputs, that none fires wrongly here."""

from __future__ import annotations

import pytest
import yaml

from damage import adds, cell
from livermet.config import PROJECT, load_yaml
from livermet.course import patient_course
from livermet.files import write_table
from livermet.protocol import deviations, protocol_findings
from livermet.simulate.clinical import clinical_tables, simulate_patients
from livermet.simulate.design import StudyDesign
from livermet.study import load_study
from livermet.tables import TABLES, empty_table, read_study_table
from study_files import study_config
from trial_study import write_trial_study


@pytest.fixture
def folder(tmp_path):
    return write_trial_study(tmp_path / "study")


def load(folder, **changes):
    return load_study(study_config(folder, **changes), workdir=folder.parent)


def test_a_study_within_the_protocol_has_no_finding(folder):
    assert load(folder).findings == ()


def test_limits_come_from_the_trial_file(folder):
    cell("patients", "P1", "n_liver_mets", "6")(folder)
    cell("patients", "P1", "ecog", "2")(folder)
    cell("treatment", "P1", "stop_day", "60")(folder)
    assert [f.rule for f in load(folder).findings] == ["V04", "V05", "V07"]
    trial = load_yaml(PROJECT / "config/trials/scanpan1.yaml")
    trial["cohorts"]["limited_liver"]["limits"] = {"max_liver_mets": 10}
    (folder.parent / "trial.yaml").write_text(yaml.safe_dump(trial))
    assert load(folder, trial="trial.yaml").findings == ()


def test_a_sample_taken_on_treatment_counts_as_such(folder):
    cell("samples", "S1", "day", "20")(folder)
    study = load(folder)
    assert not study.has_errors and study.row("L1")["timepoint"] == "T1_reeval"
    assert study.tables["samples"].set_index("sample_id").loc["S1", "timepoint"] == "T1_reeval"
    cell("samples", "S1", "day", "12")(folder)  # the seventh day of treatment
    assert load(folder).row("L1")["timepoint"] == "T0_pre" and load(folder).findings == ()


def test_deviations_name_their_patients(folder):
    cell("patients", "P1", "n_liver_mets", "6")(folder)
    cell("samples", "S2", "day", "20")(folder)
    study = load(folder)
    assert deviations(study.data.tables, study.findings).values.tolist() == [["P1", "V04"], ["P2", "V08"]]


def test_days_of_the_withdrawn_do_not_matter(folder):
    cell("outcome", "P2", "progression_day", "-4")(folder)
    cell("patients", "P2", "consent_omics", "withdrawn")(folder)
    study = load(folder)
    assert not study.has_errors and study.data.consent == {"enrolled": 3, "withdrawn": 1, "no_omics": 0}


def test_six_months_of_days_may_be_either(folder):
    for timing, days in (("synchronous", 186), ("metachronous", 180)):
        cell("patients", "P2", "met_timing", timing)(folder)
        cell("patients", "P2", "dx_primary_day", str(-30 - days))(folder)
        assert load(folder).findings == ()


def test_one_finding_per_patient_for_many_values_without_bilirubin(folder):
    adds("blood", *(f"P1 {day} ca199 100 U/mL = labA 37" for day in range(80, 120, 10)))(folder)
    (finding,) = load(folder).findings
    assert finding.rule == "V11" and "3 more rows" in finding.message


def test_earlier_disease_is_no_course_of_the_study():
    earlier, first = {"regimen": "GnP", "start_day": -400, "stop_day": -200}, {"regimen": "Gemcitabine", "start_day": 5}
    together = [{"regimen": "nab-paclitaxel", "start_day": 5}, {"regimen": "gemcitabine ", "start_day": 40}]
    treatment = [earlier, first, *together]
    local = [{"day": -300, "type": "pancreatectomy"}, {"day": 150, "type": "combined"}]
    course = patient_course(treatment, local)
    assert course.start == 5 and course.end == (150, "local treatment") and course.surgery["day"] == 150
    assert patient_course([earlier | {"stop_day": None}], []).start == -400  # it goes on
    changed = patient_course([*treatment, {"regimen": "FOLFIRINOX", "start_day": 100}], local)
    assert changed.end == (100, "change of regimen")
    assert patient_course([], []).start is None and patient_course([], []).end is None
    opened = patient_course(treatment, [{"day": 150, "type": "exploratory_only"}])
    assert opened.end is None and opened.surgery is None


@pytest.mark.parametrize("seed", range(1, 6))
def test_simulated_patients_follow_the_rules(tmp_path, seed):
    design = StudyDesign(seed=seed)
    tables = {name: empty_table(name) for name in TABLES}
    for name, frame in clinical_tables(simulate_patients(design), design).items():
        write_table(frame, tmp_path / f"{name}.tsv")
        tables[name] = read_study_table(tmp_path / f"{name}.tsv", name=name)
        assert tables[name].findings == ()
    findings = protocol_findings(tables, load_yaml(PROJECT / "config/trials/scanpan1.yaml"))
    assert [f for f in findings if f.severity == "error"] == []


@pytest.mark.parametrize(
    ("organ", "deviates"),
    [
        *((name, 0) for name in ("left liver lobe", "LIVER_S4", "Lever", "head of pancreas", "segment 4", "")),
        *((name, 1) for name in ("lung, left", "Peritoneum")),
    ],
)
def test_disease_beyond_the_liver_is_told_by_the_organ(folder, organ, deviates):
    cell("lesions", "P1\tL2\t0", "organ", organ)(folder)
    found = [f.rule for f in load(folder).findings if f.severity == "deviation"]
    assert found == ["V04"] * deviates


def test_old_lesions_and_staging_laparoscopy_are_no_finding(folder):
    adds("lesions", "P1 L9 -400 0 30 measured lung 0")(folder)
    adds("scans", "P1 -400 CT 0 .")(folder)
    adds("local_treatment", "P1 3 exploratory_only . .")(folder)
    assert load(folder).findings == ()
