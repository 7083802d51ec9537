"""Tables are read strictly: what is accepted comes back unchanged, everything else is a finding with its place."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from livermet.files import read_table, write_table
from livermet.privacy import identifier_in
from livermet.tables import TABLES, convert, empty_table, read_study_table, table_schema
from study_files import table_text

PATIENTS = table_text("patients")


def read(tmp_path, content, *, name="patients", extra=None):
    path = tmp_path / f"{name}.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_study_table(path, name=name, extra=extra)


@pytest.mark.parametrize(
    "content",
    [
        PATIENTS.encode("utf-8-sig"),
        PATIENTS.replace("\n", "\r\n"),
        PATIENTS.replace("\n", "\r"),
        PATIENTS.replace("\n", "\t\t\n"),
        PATIENTS.replace("\t", "  \t "),
        PATIENTS.replace("P1", "P1\u00a0"),
        PATIENTS.replace("\n", "\n\n"),
        "\n" + PATIENTS,
        PATIENTS.replace("\n", "\n\t\t\t\t\t\t\t\n"),
        PATIENTS.rstrip("\n"),
        PATIENTS.replace("Malmö", '"Malmö"'),
    ],
    ids="bom crlf cr trailing_tabs blanks nbsp blank_lines blank_first empty_rows no_last_newline quoted".split(),
)
def test_harmless_variants_read_the_same(tmp_path, content):
    table = read(tmp_path, content)
    assert table.findings == ()
    assert table.rows == read(tmp_path, PATIENTS).rows


def test_ids_and_texts_stay_what_they_are(tmp_path):
    text = "patient_id\tcentre\tcohort\n001\tNA\tlimited_liver\n1E5\tTRUE\tnull\n12.30\tnan\t007\n"
    table = read(tmp_path, text)
    assert [tuple(row[name] for name in ("patient_id", "centre", "cohort")) for row in table.rows] == [
        ("001", "NA", "limited_liver"),
        ("1E5", "TRUE", "null"),
        ("12.30", "nan", "007"),
    ]
    assert not table.findings


def test_types_of_the_frame_and_round_trip(tmp_path):
    table = read(tmp_path, PATIENTS)
    frame = table.frame()
    assert list(frame.columns) == list(table_schema("patients")["properties"])
    assert frame["age"].dtype == "Int64" and frame["largest_met_mm"].dtype == float
    assert frame["n_liver_mets"].isna().all() and (frame["met_timing"] == "").all()
    write_table(frame, tmp_path / "again.tsv")
    again = read_study_table(tmp_path / "again.tsv", name="patients")
    assert again.rows == table.rows and not again.findings
    assert read_table(tmp_path / "again.tsv")["patient_id"].tolist() == ["P1", "P2", "003"]


@pytest.mark.parametrize("name", TABLES)
def test_an_absent_table_has_its_columns_and_types(name):
    frame = empty_table(name).frame()
    assert frame.empty and list(frame.columns) == list(table_schema(name)["properties"])
    full = {"string": object, "integer": "Int64", "number": np.float64}
    assert all(frame[c].dtype == full[s["type"]] for c, s in table_schema(name)["properties"].items())


@pytest.mark.parametrize("name", TABLES)
def test_schemas_use_only_what_the_reader_honours(name):
    schema = table_schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False and schema["description"]
    assert set(schema["required"]) | set(schema["x-key"]) | set(schema["x-references"]) <= set(schema["properties"])
    assert schema["x-key"][0] in schema["required"]
    for column in schema["properties"].values():
        assert set(column) <= {"type", "enum", "pattern", "minimum", "maximum", "description", "x-censor"}
        assert column["description"] and column["type"] in ("string", "integer", "number")


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("7", {"type": "integer"}, 7),
        ("-07", {"type": "integer"}, -7),
        ("1E5", {"type": "number"}, 100000.0),
        (".5", {"type": "number"}, 0.5),
        ("1", {"type": "integer", "enum": [0, 1]}, 1),
        ("", {"type": "integer", "enum": [0, 1]}, None),
        ("", {"type": "string"}, ""),
        ("NA", {"type": "string"}, "NA"),
    ],
)
def test_cells_that_convert(text, schema, value):
    result, problem = convert(text, schema)
    assert problem is None and result == value and type(result) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("37,5", "number", "decimal point"),
        ("<1", "number", "censor"),
        ("≥5", "number", "censor"),
        ("12 mm", "number", "without unit"),
        ("NA", "number", "leave the cell empty"),
        ("inf", "number", "not a number"),
        ("nan", "number", "not a number"),
        ("1e999", "number", "not a number"),
        ("3.0", "integer", "without decimals"),
        ("1E5", "integer", "without exponent"),
        ("TRUE", "integer", "whole number"),
        ("2024-03-05", "integer", "days from enrolment"),
        ("05.03.2024", "integer", "days from enrolment"),
        ("20240305", "integer", "days from enrolment"),
        ("1_000", "integer", "whole number"),
        ("٣", "number", "not a number"),
    ],
)
def test_cells_that_do_not_convert_say_how_to_write_them(text, kind, words):
    value, problem = convert(text, {"type": kind})
    assert value is None and words in " ".join(problem)


def test_one_finding_per_problem_with_row_column_and_value(tmp_path):
    text = PATIENTS.replace("\t61\tF\t", "\tsixty\tfemale\t").replace("\t41\t", "\t41000\t")
    findings = read(tmp_path, text).findings
    assert [(f.severity, f.row, f.column, f.value) for f in findings] == [
        ("error", 2, "age", "sixty"),
        ("error", 2, "sex", "female"),
        ("error", 3, "largest_met_mm", "41000"),
    ]
    assert all(f.message and f.remedy for f in findings)
    assert "F or M" in findings[1].remedy and "0 to 500" in findings[2].message


def test_row_numbers_are_those_of_the_file(tmp_path):
    header, first, *rest = PATIENTS.splitlines()
    text = "\n".join([header, "", first, "", "", rest[0].replace("\t70\t", "\tx\t")])
    assert [f.row for f in read(tmp_path, text).findings] == [6]


def test_a_date_is_never_repeated(tmp_path):
    findings = read(tmp_path, PATIENTS.replace("\t61\t", "\t1961-04-30\t")).findings
    assert "calendar date" in findings[0].message
    assert not any("1961" in str(part) for f in findings for part in (f.value, f.message, f.remedy))


def test_a_file_that_is_no_table_gives_one_finding_and_no_row(tmp_path):
    table = read(tmp_path, PATIENTS.encode("utf-16"))
    assert len(table.findings) == 1 and table.rows == () and list(table.columns)


def test_undeclared_columns_are_not_carried_and_named(tmp_path):
    text = "\n".join(
        f"{line}\t{cell}" for line, cell in zip(PATIENTS.splitlines(), ["Sexx", "a", "b", "c"], strict=True)
    )
    table = read(tmp_path, text)
    assert [(f.severity, f.column) for f in table.findings] == [("warning", "Sexx")]
    assert "Sexx" not in table.rows[0] and len(table.rows) == 3


def test_declared_columns_are_typed(tmp_path):
    text = "patient_id\trecist\tsld\nP1\tPR\t-0.5\nP2\tSD\tlow\n"
    table = read(tmp_path, text, name="response", extra={"sld": {"type": "number"}})
    assert [row["sld"] for row in table.rows] == [-0.5, None]
    assert [(f.row, f.column) for f in table.findings] == [(3, "sld")]


# ------------------------------------------------------------------------------------------------ properties

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,11}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=12)
PROPERTY = settings(deadline=None, derandomize=True, max_examples=150)


@PROPERTY
@given(
    ids=st.lists(IDS, min_size=1, max_size=5, unique_by=str.casefold),
    centres=st.lists(TEXTS.filter(lambda text: text and not identifier_in(text)), min_size=5, max_size=5),
    sizes=st.lists(st.decimals(0, 500, places=3), min_size=5, max_size=5),
    separator=st.sampled_from("\t;,"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.booleans(),
    decimal=st.sampled_from(".,"),
)
def test_what_was_written_is_read_in_every_dialect(
    tmp_path_factory, ids, centres, sizes, separator, end, mark, decimal
):
    ids = [name for name in ids if not identifier_in(name)]
    rows = list(zip(ids, centres, sizes, strict=False))
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator=end)
    writer.writerow(["patient_id", "centre", "cohort", "largest_met_mm"])
    writer.writerows([name, centre, "c", str(size).replace(".", decimal)] for name, centre, size in rows)
    path = tmp_path_factory.mktemp("dialect") / "patients.tsv"
    path.write_bytes(out.getvalue().encode("utf-8-sig" if mark else "utf-8"))
    table = read_study_table(path, name="patients", decimal=decimal)
    assert table.findings == ()
    read_back = [(row["patient_id"], row["centre"], row["largest_met_mm"]) for row in table.rows]
    assert read_back == [(name, centre, float(size)) for name, centre, size in rows]


@PROPERTY
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_give_rows_or_findings_and_never_another_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "patients.tsv"
    path.write_bytes(content)
    table = read_study_table(path, name="patients")
    assert table.findings and table.rows == ()  # such bytes hold no patient_id, centre and cohort


@PROPERTY
@given(text=TEXTS, kind=st.sampled_from(["integer", "number"]), decimal=st.sampled_from(".,"))
def test_a_cell_is_a_number_or_a_problem(text, kind, decimal):
    value, problem = convert(text, {"type": kind}, decimal=decimal)
    assert (problem is None) == (value is not None or not text)
    if value is not None:
        assert text.lstrip("+-")[0] in "0123456789.,"


@pytest.mark.parametrize(
    ("text", "sign"), [("<5", "<"), ("≤ 5", "<"), ("<=5", "<"), (">5", ">"), ("≥5", ">"), ("≤=5", "<")]
)
def test_a_sign_before_a_blood_value_goes_into_its_column(tmp_path, text, sign):
    table = read(tmp_path, f"patient_id\tday\tanalyte\tvalue\tunit\tcensor\nP1\t0\tcrp\t{text}\tmg/L\t\n", name="blood")
    assert table.findings == () and (table.rows[0]["value"], table.rows[0]["censor"]) == (5.0, sign)
