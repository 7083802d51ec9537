"""An export becomes a study without dates and patient numbers, or nothing is written and every fault is named."""

from __future__ import annotations

import csv
import logging
import re
from datetime import date, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livermet.dates import convert_export
from livermet.findings import errors, format_findings
from livermet.study import read_study

KEY = """
export_id,name,patient_id,enrol_date,birth_date
SP-1001,Anna Svensson,LM-7F,2024-03-01,1961-04-30
SP-1002,Lars Hansen,LM-2K,2023-12-15,1950-12-15
"""
EXPORT = {
    "patients": """
patient_id,name,centre,cohort,sex,dx_primary_date,birth_date,comment
SP-1001,Anna Svensson,Oslo,limited_liver,F,2024-01-31,1961-04-30,well
SP-1002,Lars Hansen,Malmö,extended_liver,M,,1950-12-15,
""",
    "samples": """
sample_id,patient_id,timepoint,tissue,collection_date
S1,SP-1001,T0_pre,liver_met,2024-03-03
S2,SP-1002,T0_pre,liver_met,2023-12-15
""",
    "libraries": """
library_id,sample_id,modality,batch,path
L1,S1,scrna,B01,raw/20240405_A1/L1.h5
L2,S2,scrna,B01,raw/L2.h5
""",
    "treatment": """
patient_id,regimen,start_date,stop_date
SP-1001,mFOLFIRINOX,2024-03-06,2024-06-01
SP-1002,GnP,2024-01-01,
""",
    "scans": """
patient_id,scan_date,modality
SP-1001,2024-02-28,CT
SP-1001,2024-05-01,CT
""",
    "response": """
export_id,eval_date,recist,grade
SP-1001,2024-05-01,PR,high
SP-1002,,SD,low
""",
    "blood": """
patient_id,day,analyte,value,unit,censor
SP-1001,-1,ca199,812.5,U/mL,
SP-1002,0,ca199,<1,U/mL,
""",
    "outcome": """
patient_id,last_followup_date,death_date,progression_date,cutoff_date
SP-1001,2024-06-01,2024-06-11,2024-05-01,2024-12-31
SP-1002,2024-11-30,,,2024-12-31
""",
}


@pytest.fixture
def place(tmp_path):
    """Folders of export, key and study, the first two filled."""
    write_export(tmp_path / "export", EXPORT)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.csv").write_text(KEY.strip() + "\n", encoding="utf-8")
    return tmp_path


def write_export(folder, tables, *, suffix=".csv"):
    folder.mkdir(exist_ok=True)
    for name, text in tables.items():
        (folder / f"{name}{suffix}").write_text(text.strip() + "\n", encoding="utf-8")


def convert(place, **options):
    return convert_export(place / "export", place / "secret" / "key.csv", place / "study", **options)


def change(place, name, old, new):
    path = place / ("secret" if name == "key" else "export") / f"{name}.csv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def written(place, name):
    with (place / "study" / f"{name}.tsv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def refused(place, *words, **options):
    """Nothing is written, nothing of a person is shown, and one error holds all words."""
    findings, rows = convert(place, **options)
    text = format_findings(findings)
    assert rows == {} and not (place / "study").exists()
    assert not re.search(r"\d{4}-\d\d|SP-\d|Svensson|Hansen|1961|2024", text), text
    assert any(all(word in " ".join(map(str, vars(f).values())) for word in words) for f in errors(findings)), text
    return findings


def test_dates_become_days_and_numbers_pseudonyms(place):
    findings, rows = convert(place, keep=["grade"])
    assert errors(findings) == []
    assert rows == {name: len(text.strip().splitlines()) - 1 for name, text in EXPORT.items()}
    assert written(place, "patients") == [
        {"patient_id": "LM-2K", "centre": "Malmö", "cohort": "extended_liver", "age": "73", "sex": "M", "dx_primary_day": ""},
        {"patient_id": "LM-7F", "centre": "Oslo", "cohort": "limited_liver", "age": "62", "sex": "F", "dx_primary_day": "-30"},
    ]  # fmt: skip
    assert [(row["sample_id"], row["patient_id"], row["day"]) for row in written(place, "samples")] == [
        ("S1", "LM-7F", "2"),
        ("S2", "LM-2K", "0"),
    ]
    assert written(place, "libraries")[0]["path"] == "raw/20240405_A1/L1.h5"
    assert [(row["start_day"], row["stop_day"]) for row in written(place, "treatment")] == [("17", ""), ("5", "92")]
    assert [row["day"] for row in written(place, "scans")] == ["-2", "61"]
    assert [(row["eval_day"], row["grade"]) for row in written(place, "response")] == [("", "low"), ("61", "high")]
    assert [(row["day"], row["value"]) for row in written(place, "blood")] == [("0", "<1"), ("-1", "812.5")]
    assert written(place, "outcome") == [
        {"patient_id": "LM-2K", "last_followup_day": "351", "death": "0", "progression_day": "", "cutoff_day": "382"},
        {"patient_id": "LM-7F", "last_followup_day": "102", "death": "1", "progression_day": "61", "cutoff_day": "305"},
    ]


def test_the_study_passes_its_own_check_and_holds_no_trace_of_the_export(place):
    convert(place, keep=["grade"])
    raw = place / "study" / "raw" / "20240405_A1"
    raw.mkdir(parents=True)
    for path in (raw / "L1.h5", place / "study" / "raw" / "L2.h5"):
        path.write_bytes(b"")
    trial = {"cohorts": {"limited_liver": {}, "extended_liver": {}}}
    data = read_study(place / "study", trial=trial, labels={"grade": {"kind": "binary", "positive": "high"}})
    assert errors(data.findings) == []
    text = "".join(path.read_text(encoding="utf-8") for path in (place / "study").glob("*.tsv"))
    assert not re.search(r"SP-|Svensson|Hansen|\d{4}-\d\d-\d\d|1961|2024-|well", text)


def test_what_is_left_out_is_named(place):
    findings, _ = convert(place)
    assert {(f.severity, f.table, f.column) for f in findings} == {
        ("warning", "patients.csv", "name"),
        ("warning", "patients.csv", "birth_date"),
        ("warning", "patients.csv", "comment"),
        ("warning", "response.csv", "grade"),
        ("warning", "libraries", "path"),
    }
    assert "grade" not in written(place, "response")[0]


@pytest.mark.parametrize("date_format", ["%d.%m.%Y", "%d %b %Y", "%Y%m%d", "%m/%d/%Y", "%Y-%m-%d %H:%M:%S"])
@pytest.mark.parametrize("separator", ["\t", ";", ","])
def test_formats_and_separators_make_no_difference(place, date_format, separator):
    convert(place)
    expected = {name: written(place, name) for name in EXPORT}
    for path in [*(place / "export").iterdir(), place / "secret" / "key.csv"]:
        text = re.sub(
            r"\d{4}-\d\d-\d\d",
            lambda match: f"{date.fromisoformat(match[0]):{date_format}}",
            path.read_text(encoding="utf-8"),
        )
        path.write_text(text.replace(",", separator), encoding="utf-8-sig")
    findings, _ = convert(place, date_format=date_format, replace=True)
    assert errors(findings) == []
    assert {name: written(place, name) for name in EXPORT} == expected


def test_a_decimal_comma_is_written_as_point(place):
    for path in (place / "export").iterdir():
        path.write_text(path.read_text(encoding="utf-8").replace(",", ";").replace("812.5", "812,5"), encoding="utf-8")
    assert errors(convert(place)[0])
    findings, _ = convert(place, decimal=",")
    assert errors(findings) == [] and written(place, "blood")[1]["value"] == "812.5"


@settings(deadline=None, derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dates(date(1900, 1, 1), date(2024, 12, 31)), st.integers(-20_000, 20_000))
def test_a_day_is_the_difference_of_two_dates(place, enrolled, difference):
    event = date(1900, 1, 1) + timedelta(days=abs((enrolled - date(1900, 1, 1)).days + difference))
    event = min(event, date(2025, 1, 1))
    key = f"export_id\tpatient_id\tenrol_date\nE-900X\tQ\t{enrolled}\n"
    (place / "secret" / "key.csv").write_text(key)
    for path in (place / "export").iterdir():
        path.unlink()
    write_export(place / "export", {"scans": f"patient_id\tdate\nE-900X\t{event}"}, suffix=".tsv")
    findings, _ = convert(place, replace=True)
    assert findings == [] and written(place, "scans") == [{"patient_id": "Q", "day": str((event - enrolled).days)}]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("28.02.2024", ("format %Y-%m-%d",)),
        ("24-02-28", ("format %Y-%m-%d",)),
        ("2024-02-31", ("no day of the calendar",)),
        ("2023-02-29", ("no day of the calendar",)),
        ("45350", ("Excel",)),
        ("1899-12-31", ("before 1900",)),
        ("2999-01-01", ("in the future",)),
        ("2024-02", ("format",)),
        ("unknown", ("format",)),
        ("2024-02-28 10:00", ("format",)),
        ("", ("scan_date", "is empty")),
    ],
)
def test_a_date_that_is_none_is_named_with_its_place(place, cell, words):
    change(place, "scans", "2024-02-28", cell)
    findings = refused(place, "scans.csv", "scan_date", *words)
    assert [f.row for f in errors(findings)] == [2]


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        # --- the key
        ("key", "SP-1002", "SP-1001", ("key", "3", "export_id", "already in row 2")),
        ("key", "SP-1002", "sp-1001", ("key", "3", "export_id", "already in row 2")),
        ("key", "LM-2K", "LM-7F", ("key", "3", "patient_id", "already in row 2")),
        ("key", "LM-2K", "SP-1002", ("key", "3", "patient_id", "number that the export uses")),
        ("key", "LM-2K", "lm-sp-1002", ("key", "patient_id", "number that the export uses")),
        ("key", "LM-2K", "850709-9805", ("key", "3", "patient_id", "a Swedish personnummer")),
        ("key", "LM-2K", "AnnaSvensson", ("key", "3", "patient_id", "a person's name")),
        ("key", "LM-2K", "LM 2", ("key", "3", "patient_id", "cannot be an id")),
        ("key", "LM-2K", "", ("key", "3", "patient_id", "is empty")),
        ("key", "SP-1002", "", ("key", "3", "export_id", "is empty")),
        ("key", "2023-12-15", "", ("key", "3", "enrol_date", "is empty")),
        ("key", "2023-12-15", "15.12.2023", ("key", "3", "enrol_date", "format")),
        ("key", "1950-12-15", "2023-12-16", ("key", "3", "birth_date", "age")),
        ("key", "1950-12-15", "1850-12-15", ("key", "3", "birth_date", "before 1900")),
        ("key", "name", "birth_date", ("key", "1", "birth_date", "there twice")),
        ("samples", "S1,", "SP_1001.T0,", ("samples.csv", "2", "sample_id", "number that the export uses")),
        ("key", "enrol_date", "enrolled", ("key", "1", "enrol_date", "is missing")),
        ("key", "birth_date\n", "birth_date\nSP-3,LM-3\n", ("key", "2", "2 fields where the header has 5")),
        # --- ids
        ("scans", "SP-1001,2024-05-01", "SP-1003,2024-05-01", ("scans.csv", "3", "patient_id", "*** (7 characters)", "not in the key")),
        ("scans", "SP-1001,2024-05-01", ",2024-05-01", ("scans.csv", "3", "patient_id", "is empty")),
        ("samples", "S1,", "SP-1001-T0,", ("samples.csv", "2", "sample_id", "number that the export uses")),
        ("libraries", "L1,S1", "L_sp-1001,S1", ("libraries.csv", "2", "library_id", "number that the export uses")),
        ("samples", "S1,", "850709-9805,", ("samples.csv", "2", "sample_id", "a Swedish personnummer")),
        ("libraries", "L1,S1", "L1,S9", ("libraries.csv", "2", "sample_id", "not in samples")),
        ("patients", "SP-1002", "SP-1001", ("patients.csv", "3", "patient_id", "already in row 2")),
        # --- columns
        ("scans", "scan_date,modality", "scan_date,report_date", ("scans.csv", "1", "report_date", "unknown column of dates")),
        ("patients", "comment", "consent_date", ("patients.csv", "1", "consent_date", "dx_primary_date")),
        ("treatment", "start_date", "start", ("treatment.csv", "1", "start_day", "start_date", "missing")),
        ("treatment", "stop_date", "start_day", ("treatment.csv", "1", "start_day", "gives start_day", "start_date")),
        ("scans", "modality", "scan_date", ("scans.csv", "1", "there twice")),
        ("scans", "scan_date,modality", ",modality", ("scans.csv", "1", "column 2 has no name")),
        ("response", "export_id", "number", ("response.csv", "1", "patient_id", "export_id", "missing")),
        ("response", "eval_date", "patient_id", ("response.csv", "1", "gives patient_id")),
        # --- cells
        ("patients", "Oslo", "Lars Hansen", ("patients.csv", "2", "centre", "La*** (11", "a person's name")),
        ("treatment", "GnP", "GnP since 2024-01-01", ("treatment.csv", "3", "regimen", "a calendar date")),
        ("treatment", "GnP", "GnP of SP-1002", ("treatment.csv", "3", "regimen", "number that the export uses")),
        ("blood", "-1,ca199", "2024-02-29,ca199", ("blood.csv", "2", "day", "a calendar date", "name the column date")),
        ("blood", "-1,ca199", "45350,ca199", ("blood.csv", "2", "day")),
        ("blood", "-1,ca199", "30000,ca199", ("blood.csv", "2", "day", "Excel")),
        ("blood", "812.5", "high", ("blood.csv", "2", "value", "is not a number")),
        ("patients", "limited_liver,F", "limited_liver,woman", ("patients.csv", "2", "sex", "F or M")),
        ("libraries", "raw/L2", "raw/AnnaSvensson/L2", ("libraries.csv", "3", "path", "a person's name")),
        # --- outcome
        ("outcome", "2024-06-01,2024-06-11", "2024-06-12,2024-06-11", ("outcome.csv", "2", "death_date", "follow-up")),
        ("outcome", "progression_date", "death", ("outcome.csv", "2", "death")),
    ],
)  # fmt: skip
def test_faults_stop_everything_and_are_named_without_what_they_hold(place, name, old, new, words):
    change(place, name, old, new)
    refused(place, *words)


def test_all_faults_come_at_once(place):
    change(place, "scans", "2024-02-28", "28.2.2024")
    change(place, "key", "2023-12-15", "soon")
    change(place, "patients", "Oslo", "Storgatan 12")
    change(place, "blood", "812.5", "high")
    assert {(f.table, f.row) for f in errors(refused(place))} == {
        ("scans.csv", 2),
        ("key", 3),
        ("patients.csv", 2),
        ("blood.csv", 2),
    }


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"date_format": "%d.%m.%y"}, "--format"),
        ({"date_format": "%Y-%m"}, "--format"),
        ({"date_format": "%x"}, "--format"),
        ({"date_format": "%Y-%m-%d %Y"}, "--format"),
        ({"date_format": "2024-03-01"}, "--format"),
        ({"keep": ["grad"]}, "is no column of response"),
        ({"keep": ["name"]}, "a person's name"),
        ({"keep": ["comment"]}, "is no column of response"),
    ],
)
def test_options_that_cannot_be_met_are_refused(place, changes, word):
    refused(place, word, **changes)


def test_a_kept_label_is_searched(place):
    change(place, "response", ",high", ",seen 2024-05-01")
    refused(place, "response.csv", "2", "grade", "a calendar date", keep=["grade"])


def test_dates_and_study_may_not_lie_together(place):
    export, key = place / "export", place / "secret" / "key.csv"
    for out, source, word in [
        (export, export, "--export lies in the study folder"),
        (place, export, "--key lies in the study folder"),
        (export / "study", export, "in the folder of --export"),
        (place / "secret" / "study", export, "in the folder of --key"),
        (place / "secret" / ".." / "secret" / "deep" / "study", export, "in the folder of --key"),
    ]:
        before = sorted(place.rglob("*"))
        findings, rows = convert_export(source, key, out)
        assert rows == {} and any(word in f"{f.column} {f.message}" for f in errors(findings)), word
        assert sorted(place.rglob("*")) == before
    link = place / "study"
    link.symlink_to(export)
    assert errors(convert_export(export, key, link / "x")[0])


def test_what_is_not_there_is_said(place):
    for export, key, word in [
        (place / "nowhere", place / "secret" / "key.csv", "--export"),
        (place / "export", place / "secret" / "nowhere.csv", "--key"),
        (place / "secret", place / "export" / "blood.csv", "holds no study table"),
    ]:
        findings, rows = convert_export(export, key, place / "study")
        assert rows == {} and any(word in f"{f.column} {f.message}" for f in errors(findings))


def test_tables_are_replaced_only_when_asked(place):
    study = place / "study"
    study.mkdir()
    (study / "samples.csv").write_text("old")
    (study / "lesions.tsv").write_text("laboratory")
    findings, rows = convert(place)
    assert rows == {} and "--replace" in format_findings(findings)
    assert {path.name for path in study.iterdir()} == {"samples.csv", "lesions.tsv"}
    findings, rows = convert(place, replace=True)
    assert not errors(findings) and any(f.table == "lesions.tsv" for f in findings)
    assert {path.name for path in study.iterdir()} == {f"{name}.tsv" for name in [*EXPORT, "lesions"]}
    assert (study / "lesions.tsv").read_text() == "laboratory"


def test_files_that_are_no_tables_are_named_and_two_of_one_table_refused(place):
    (place / "export" / "Anna Svensson.csv").write_text("x")
    (place / "export" / "patient.csv").write_text("x")
    findings, _ = convert(place)
    strays = [f for f in findings if "not read" in f.message]
    assert [f.table for f in strays] == ["An*** (17 characters)", "patient.csv"] and "did you mean" in strays[1].remedy
    (place / "export" / "scans.tsv").write_text("x")
    assert errors(convert(place, replace=True)[0])


def test_files_that_cannot_be_read_are_refused(place):
    (place / "export" / "scans.csv").write_bytes(b"PK\x03\x04")
    refused(place, "scans.csv", "spreadsheet")
    (place / "secret" / "key.csv").write_bytes("export_id\tMalmö".encode("latin-1"))
    refused(place, "key", "UTF-8")


@pytest.mark.parametrize(
    ("number", "pseudonym", "sample", "refusals"),
    [
        ("12", "P012", "S7", ["patient_id"]),
        ("12", "LM-7F", "S12-T0", ["sample_id"]),
        ("12", "LM-7F", "S3-T12", []),
        ("0012", "P12", "S7", ["patient_id"]),
        ("12", "LM-7F", "S112", []),
        ("LT-0001", "LM-1", "S1", []),
        ("LT-0001", "LM-1", "lt-0001.T0", ["sample_id"]),
    ],
)
def test_short_patient_numbers_are_looked_for_in_ids_without_chance_hits(tmp_path, number, pseudonym, sample, refusals):
    write_export(
        tmp_path / "export", {"samples": f"sample_id,patient_id,timepoint,tissue\n{sample},{number},T0_pre,liver_met"}
    )
    write_export(tmp_path / "secret", {"key": f"export_id,patient_id,enrol_date\n{number},{pseudonym},2024-03-01"})
    assert [f.column for f in errors(convert(tmp_path)[0])] == refusals


def test_a_path_that_holds_a_patient_number_is_kept_with_a_warning(place):
    change(place, "libraries", "raw/L2", "raw/SP-1002")
    findings, rows = convert(place)
    assert rows and [(f.table, f.row, f.column) for f in findings if "a path holds" in f.message] == [
        ("libraries.csv", 3, "path")
    ]
    assert "SP-1002" not in format_findings(findings)


def test_an_age_in_the_export_stays(place):
    change(place, "patients", "sex,", "age,")
    change(place, "patients", "limited_liver,F", "limited_liver,33")
    change(place, "patients", "extended_liver,M", "extended_liver,")
    convert(place)
    assert [row["age"] for row in written(place, "patients")] == ["73", "33"]


def test_a_death_that_is_known_without_its_date_stays(place):
    change(place, "outcome", "progression_date", "death")
    change(place, "outcome", ",2024-05-01,", ",1,")
    change(place, "outcome", "2024-11-30,,,", "2024-11-30,,1,")
    convert(place)
    assert [(row["death"], row["last_followup_day"]) for row in written(place, "outcome")] == [
        ("1", "351"),
        ("1", "102"),
    ]


def test_patients_of_the_key_without_a_row_are_counted(place):
    with (place / "secret" / "key.csv").open("a") as stream:
        stream.write("SP-1003,Ola Nordmann,LM-9Z,2024-03-01,\n")
    findings, rows = convert(place)
    assert rows and any("without a row: 1" in f.message for f in findings)


def test_the_log_holds_counts_and_nothing_of_a_person(place, caplog):
    with caplog.at_level(logging.DEBUG):
        convert(place, keep=["grade"])
    assert "patients 2" in caplog.text and not re.search(r"SP-|Svensson|\d{4}-\d\d|LM-", caplog.text)
