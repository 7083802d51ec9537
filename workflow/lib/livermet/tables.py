"""Strict reading of study tables: every cell is text until its schema says otherwise, and nothing passes silently.

Accepted: tabs, semicolons or commas between the fields, a byte-order mark, CRLF or lone CR, blanks around a cell, empty
columns at the end of a line, blank lines, and a decimal comma where the config declares it. Everything else that is not
a UTF-8 table with the fields of its header becomes a finding.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livermet.config import SCHEMAS, load_yaml
from livermet.findings import Finding, allowed, closest
from livermet.privacy import CALENDAR_DATE, identifier_in, identifying_column, mask
from livermet.privacy import RULE as PRIVACY

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

TABLES = (
    "patients",
    "samples",
    "libraries",
    "treatment",
    "local_treatment",
    "scans",
    "lesions",
    "response",
    "blood",
    "pathology",
    "outcome",
)
REQUIRED_TABLES = ("patients", "samples", "libraries")

# A date in the name of a file or folder is that of an instrument's run.
PATH_COLUMNS = ("path", "raw_path", "boundary_path")
SUFFIXES = (".tsv", ".csv")
SEPARATORS = ("\t", ";", ",")

INTEGER = re.compile(r"[+-]?[0-9]+")
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
SIGNS = {"<": "<", "≤": "<", ">": ">", "≥": ">"}
DECIMAL_POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
CENSORED = re.compile(r"([<>≤≥]=?)\s*(\d.*)")
# Year first or day first, with the usual separators, or eight digits that read as a date.
DATE = re.compile(
    r"(19|20)\d\d[-/.]\d{1,2}[-/.]\d{1,2}.*"
    r"|\d{1,2}[-/.]\d{1,2}[-/.](19|20)?\d\d"
    r"|(19|20)\d\d[01]\d[0-3]\d"
)


@dataclass(frozen=True)
class StudyTable:
    """One table as read.

    ``columns`` maps each column that is carried to its schema; ``rows`` are typed (text "" or a number None where a
    cell is empty) and ``lines`` are their line numbers in the file. ``mentioned`` holds every id of the key column
    that the file names, also in rows that were refused, so that one mistake is not reported again by each reference.
    """

    name: str
    path: Path | None
    columns: Mapping[str, Mapping[str, Any]]
    rows: tuple[dict[str, Any], ...] = ()
    lines: tuple[int, ...] = ()
    mentioned: frozenset[str] = frozenset()
    findings: tuple[Finding, ...] = field(default=(), repr=False)

    def keep(self, wanted: Iterable[bool]) -> StudyTable:
        """The same table with the rows whose flag is true."""
        kept = [i for i, flag in enumerate(wanted) if flag]
        return replace(self, rows=tuple(self.rows[i] for i in kept), lines=tuple(self.lines[i] for i in kept))

    def records(self) -> list[dict[str, Any]]:
        """The rows, each with its line number in the file under "row"."""
        return [{**row, "row": line} for row, line in zip(self.rows, self.lines, strict=True)]

    @property
    def file(self) -> str:
        """Name of the file, also where there is none."""
        return self.path.name if self.path else f"{self.name}.tsv"

    def frame(self) -> pd.DataFrame:
        """The table as DataFrame: text with "" where empty, integers as Int64, numbers as float64 with NaN."""
        import pandas as pd

        types = {"string": "object", "integer": "Int64", "number": "float64"}
        return pd.DataFrame(
            {
                name: pd.array([row[name] for row in self.rows], dtype="Int64")
                if schema["type"] == "integer"
                else pd.Series([row[name] for row in self.rows], dtype=types[schema["type"]])
                for name, schema in self.columns.items()
            }
        )


@cache
def table_schema(name: str) -> dict[str, Any]:
    """Schema of one study table."""
    return load_yaml(SCHEMAS / "tables" / f"{name}.schema.yaml")


def empty_table(name: str, *, extra: Mapping[str, Mapping[str, Any]] | None = None) -> StudyTable:
    """A table that the user did not give: its columns and no row."""
    return StudyTable(name, None, {**table_schema(name)["properties"], **(extra or {})})


def table_path(folder: Path, name: str) -> Path | None:
    """The file of a study table, with any of the ``SUFFIXES``; None where there is none."""
    return next((path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()), None)


def read_study_table(
    path: Path,
    *,
    name: str,
    extra: Mapping[str, Mapping[str, Any]] | None = None,
    decimal: str = ".",
    not_personal: Collection[str] = (),
) -> StudyTable:
    """Read one study table and report everything that is wrong with it.

    Parameters
    ----------
    path
        The file.
    name
        Which study table it is.
    extra
        Schemas of further columns that the config declares.
    decimal
        The decimal mark of the file, "." or ",".
    not_personal
        Columns (``table.column``) whose values look like identifiers of persons and are none.

    Returns
    -------
    The rows that can be used, typed, and the findings. A row with the wrong number of fields, or without a valid id in
    its key columns, is left out; a cell that cannot be used is emptied. Both are errors.
    """
    schema = table_schema(name)
    columns = {**schema["properties"], **(extra or {})}
    label = path.name
    try:
        header, records = read_cells(path)
    except TableError as error:
        return StudyTable(name, path, columns, findings=(error.finding(label),))
    findings = _header_findings(label, header, columns, schema["required"])
    # A column that is refused as a whole is not refused again by each of its cells.
    refused = {finding.column for finding in findings if finding.rule == PRIVACY}
    searched = [
        i for i, column in enumerate(header) if f"{name}.{column}" not in not_personal and column not in refused
    ]
    places = {column: header.index(column) for column in columns if column in header}
    identifiers = [column for column in schema["x-key"] if column in schema["required"]]

    rows, lines, mentioned = [], [], set()
    for line, cells in records:
        while len(cells) > len(header) and not cells[-1]:
            cells.pop()
        if len(cells) != len(header):
            findings.append(_field_count(label, line, cells, header))
            mentioned.update(cells[:1] if places.get(schema["x-key"][0]) == 0 else [])
            continue
        row: dict[str, Any] = {}
        usable = True
        for position in searched:
            if kind := identifier_in(cells[position], dates=header[position] not in PATH_COLUMNS):
                findings.append(_personal(label, line, header[position], cells[position], kind, name))
                usable = usable and header[position] not in (*identifiers, *schema["x-references"])
                cells[position] = ""
        for column, column_schema in columns.items():
            text = cells[places[column]] if column in places else ""
            sign = places.get(column_schema.get("x-censor", ""))
            if sign is not None and not cells[sign] and (censored := CENSORED.fullmatch(text)):
                # A sign before the number says the same as the column made for it.
                cells[sign], text = SIGNS[censored[1][0]], censored[2]
            row[column], problem = convert(text, column_schema, required=column in schema["required"], decimal=decimal)
            if column == schema["x-key"][0] and column in places:
                mentioned.add(text)
            if not problem and not text and column in schema["required"] and column in places and usable:
                problem = ("is empty", "fill it in; the column is required")
            if problem:
                findings.append(Finding("error", label, line, column, _masked(text), *problem))
                usable = usable and column not in identifiers
        if usable:
            rows.append(row)
            lines.append(line)
    table = StudyTable(name, path, columns, tuple(rows), tuple(lines), frozenset(mentioned))
    complete = all(column in places for column in schema["required"])
    findings += _duplicates(table, label, schema["x-key"]) if complete else []
    logger.info("%s: %d rows read, %d used, %d findings", label, len(records), len(rows), len(findings))
    # Without its required columns a table has no row that later checks could use.
    return replace(table if complete else table.keep([False] * len(rows)), findings=tuple(findings))


def read_cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header, and (line number, cells) of each line that is not blank, as text without the blanks around it.

    Raises
    ------
    TableError
        The file as a whole can't be read as a table.
    """
    return _split(_decode(path))


def _personal(label: str, line: int, column: str, text: str, kind: str, table: str) -> Finding:
    if kind == CALENDAR_DATE:
        remedy = "give whole days from enrolment (day 0): python -m livermet dates makes them from an export"
    else:
        remedy = "take it out, here and in every file made from this one; the study holds pseudonyms"
    remedy += f" (if it is no such thing: not_personal: [{table}.{column}] in the config)"
    return Finding("error", label, line, column, mask(text), f"holds {kind}", remedy, rule=PRIVACY)


class TableError(ValueError):
    """The file as a whole cannot be read as a table."""

    def __init__(self, message: str, remedy: str, *, row: int | None = None, value: str = "") -> None:
        super().__init__(message)
        self.parts = (row, "", value, message, remedy)

    def finding(self, table: str) -> Finding:
        """The error as a finding on ``table``."""
        return Finding("error", table, *self.parts)


def _decode(path: Path) -> str:
    data = path.read_bytes()
    utf8 = "save it as text in UTF-8 (Excel: 'CSV UTF-8'; its 'Unicode text' is UTF-16)"
    if not data.strip():
        raise TableError("the file is empty", "give at least the header, or remove the file")
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise TableError("the file is a spreadsheet (Excel or LibreOffice), whatever its name", utf8)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in data[:1000]:
        raise TableError("the file is UTF-16 or not text", utf8)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise TableError("the file is not UTF-8 (perhaps Latin-1 or Windows-1252)", utf8, row=row) from error
    if text.lstrip()[:15].lower().startswith(("<!doctype html", "<html")):
        raise TableError("the file is a web page", "download the table itself")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _split(text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    first_line = text.lstrip().partition("\n")[0]
    separator = next((mark for mark in SEPARATORS if mark in first_line), "\t")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    records, line = [], 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                records.append((line, stripped))
            if any("\n" in cell for cell in cells):
                raise TableError("a cell holds a line break", "keep each row on one line", row=line)
            line = reader.line_num + 1
    except csv.Error as error:
        message = f"a quotation mark opens or ends in the middle of a cell ({error})"
        raise TableError(message, 'remove the quotation mark, or write it twice inside "..."', row=line) from error
    if not records:
        raise TableError("the file is empty", "give at least the header, or remove the file")
    first, header = records[0]
    while not header[-1]:
        header.pop()
    if len(header) == 1:
        for mark, word in ((" ", "blanks"), ("|", "bars")):
            if mark in header[0]:
                message = f"the columns are separated by {word}"
                raise TableError(
                    message, "save it as text with tabs, semicolons or commas between the fields", row=first
                )
    return header, records[1:]


def _header_findings(
    label: str, header: list[str], columns: Mapping[str, Any], required: Iterable[str]
) -> list[Finding]:
    findings = []
    missing = [column for column in required if column not in header]
    for column in missing:
        close = closest(column, [name for name in header if name not in columns])
        hint = f"rename the column {close!r} to {column!r}" if close else "add the column"
        findings.append(Finding("error", label, 1, column, "", f"the required column {column} is missing", hint))
    for position, column in enumerate(header):
        if not column:
            message = f"column {position + 1} has no name"
            findings.append(Finding("error", label, 1, "", "", message, "name it, or remove the column"))
        elif column in header[:position]:
            message = f"the column {column} is there twice"
            findings.append(Finding("error", label, 1, column, "", message, "keep one of them"))
        elif kind := identifying_column(column) or identifier_in(column):
            message, remedy = f"the column would hold {kind}", "remove the column from the file"
            findings.append(
                Finding(
                    "error", label, 1, mask(column) if identifier_in(column) else column, "", message, remedy, PRIVACY
                )
            )
        elif column not in columns:
            close = closest(column, [name for name in columns if name not in header and name not in missing])
            hint = f"did you mean {close!r}? " if close else ""
            remedy = f"{hint}declare a label of response.tsv under labels in the config, or remove the column"
            findings.append(Finding("warning", label, 1, column, "", "the column is not declared: not carried", remedy))
    return findings


def _field_count(label: str, line: int, cells: list[str], header: list[str]) -> Finding:
    word = "too many: values may stand in the wrong column" if len(cells) > len(header) else "too few"
    message = f"{len(cells)} fields where the header has {len(header)}, {word}"
    return Finding("error", label, line, "", "", message, "put one separator between fields; leave empty ones empty")


def convert(
    text: str, schema: Mapping[str, Any], *, required: bool = False, decimal: str = "."
) -> tuple[Any, tuple[str, str] | None]:
    """Turn one cell into the value that its schema asks for.

    Parameters
    ----------
    text
        The cell, blanks stripped. Empty is a missing value; nothing else is (``NA`` in a text column is a text).
    schema
        ``type`` (string, integer, number), and ``enum``, ``pattern``, ``minimum``, ``maximum`` where given.
    required
        Whether the cell may not be empty, so that leaving it empty is no remedy.
    decimal
        The decimal mark of numbers, "." or ",".

    Returns
    -------
    The value ("" or None where missing or unusable), and the problem as (message, remedy) or None.
    """
    kind = schema["type"]
    missing = "" if kind == "string" else None
    if not text:
        return missing, None
    otherwise = "" if required else ", or leave the cell empty"
    value: Any = text
    if kind != "string":
        value, problem = _number(text, kind, decimal)
        if problem:
            if schema.get("enum"):
                problem = (problem[0], f"use {allowed(schema['enum'])}{otherwise}")
            return missing, problem
    if "enum" in schema and value not in schema["enum"]:
        close = closest(text, [str(option) for option in schema["enum"]])
        hint = f"did you mean {close!r}? " if close else ""
        return missing, ("is not an allowed value", f"{hint}use {allowed(schema['enum'])}{otherwise}")
    if "pattern" in schema and not re.search(schema["pattern"], text):
        if schema["pattern"].startswith("^[a-z]"):
            return missing, ("is not a valid name", "use lower case letters, digits and _, such as ca199")
        remedy = "use letters, digits, dot, hyphen and underscore only, at most 64, the first a letter or digit"
        return missing, ("cannot be an id (it would name a file)", remedy)
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    if kind != "string" and not low <= value <= high:
        return missing, (f"lies outside {_range(schema)}", f"correct the value or its unit{otherwise}")
    return value, None


def _number(text: str, kind: str, decimal: str) -> tuple[Any, tuple[str, str] | None]:
    wanted = "a whole number" if kind == "integer" else "a number"
    if decimal == "," and DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    elif decimal == "," and DECIMAL_POINT.fullmatch(text):
        return None, ("has a decimal point, but the config declares a decimal comma", "use one decimal mark throughout")
    if kind == "integer" and INTEGER.fullmatch(text) and not DATE.fullmatch(text):
        return int(text), None
    if kind == "number" and NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text), None
    if DATE.fullmatch(text):
        return None, ("looks like a calendar date", "give whole days from enrolment (day 0); no date enters the study")
    if DECIMAL_COMMA.fullmatch(text):
        return None, (
            f"has a decimal comma where {wanted} is expected",
            "use a decimal point, or decimal: ',' in the config",
        )
    if CENSORED.fullmatch(text):
        return None, (f"is not {wanted}", "put the sign into the column censor and only the number here")
    if kind == "integer" and NUMBER.fullmatch(text):
        return None, ("is not a whole number", "write it without decimals and without exponent")
    return None, (f"is not {wanted}", "write the number alone, without unit or text; leave the cell empty if unknown")


def _masked(text: str) -> str:
    """A value for the list of findings; a date may identify a person, so it is not repeated."""
    return "(a date)" if DATE.fullmatch(text) else text


def _range(schema: Mapping[str, Any]) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f"{schema['minimum']} to {schema['maximum']}"
    return f"{schema['minimum']} and above" if "minimum" in schema else f"{schema['maximum']} and below"


def _duplicates(table: StudyTable, label: str, key: list[str]) -> list[Finding]:
    """Rows with the same key, and ids that differ by case alone (one file system in two takes them for the same)."""
    findings = []
    first: dict[tuple[str, ...], tuple[int, tuple[str, ...]]] = {}
    column = key[0] if len(key) == 1 else " + ".join(key)
    for row, line in zip(table.rows, table.lines, strict=True):
        values = tuple("" if row[name] is None else str(row[name]) for name in key)
        folded = tuple(value.casefold() for value in values)
        if folded not in first:
            first[folded] = (line, values)
            continue
        earlier, there = first[folded]
        shown = " + ".join(value or "(empty)" for value in values)
        if there == values:
            message, remedy = f"is already in row {earlier}", "keep one row for each"
            if table.name == "samples" and row["patient_id"] != _row_at(table, earlier)["patient_id"]:
                message += ", under another patient"
        else:
            message, remedy = f"differs from row {earlier} by upper and lower case alone", "use one spelling per id"
        findings.append(Finding("error", label, line, column, shown, message, remedy, "V01"))
    return findings


def _row_at(table: StudyTable, line: int) -> dict[str, Any]:
    return table.rows[table.lines.index(line)]
