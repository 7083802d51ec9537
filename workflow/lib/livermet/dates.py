"""From a trial's export to study tables: dates become days from enrolment, and patient numbers become pseudonyms.

The key (patient number, pseudonym, date of enrolment) stays where the trial keeps it. No date, no key and no patient
number is written or shown, and nothing is written unless everything can be.
"""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

from livermet.files import replacing
from livermet.findings import Finding, allowed, closest, errors
from livermet.privacy import CALENDAR_DATE, RULE, identifier_in, identifying_column, mask
from livermet.tables import (
    CENSORED,
    PATH_COLUMNS,
    SUFFIXES,
    TABLES,
    TableError,
    convert,
    read_cells,
    table_path,
    table_schema,
)

logger = logging.getLogger(__name__)

EARLIEST = date(1900, 1, 1)
# Directives of a format that name a day without doubt, and a time of the day that may stand beside it.
DIRECTIVES = ("Y", "m", "b", "B", "d", "H", "M", "S")
KEY_COLUMNS = ("export_id", "patient_id", "enrol_date")
# Days of a study lie nearer to enrolment; what Excel calls 20000 is a day of 1954.
LARGEST_DAY = 20_000
SHORT_ID = 4
KEY = "key"

Rows = list[tuple[int, list[str]]]


@dataclass(frozen=True)
class Patient:
    """One line of the key."""

    pseudonym: str
    enrolled: date
    born: date | None


@dataclass
class _Table:
    """One table of the export on its way: rows by column, with their lines in the file of the export."""

    name: str
    label: str
    columns: list[str]
    rows: list[dict[str, str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def refuse(self, line: int | None, column: str, value: str, message: str, remedy: str, rule: str = "") -> None:
        """Add an error; the value is masked."""
        shown = mask(value) if value else ""
        self.findings.append(Finding("error", self.label, line, _named(column), shown, message, remedy, rule))

    def warn(self, column: str, message: str, remedy: str) -> None:
        """Add a warning on the header."""
        self.findings.append(Finding("warning", self.label, 1, _named(column), "", message, remedy))


def _named(column: str) -> str:
    return mask(column) if identifier_in(column) else column


def convert_export(
    export: Path,
    key: Path,
    out: Path,
    *,
    date_format: str = "%Y-%m-%d",
    keep: Sequence[str] = (),
    decimal: str = ".",
    replace: bool = False,
) -> tuple[list[Finding], dict[str, int]]:
    """Write the study tables of an export, with days from enrolment for dates and pseudonyms for patient numbers.

    A day column may come as a date: ``start_day`` as ``start_date`` and so on, ``day`` as ``date`` or as the one column
    that ends in ``_date`` and is not otherwise known; ``death_date`` of outcome gives death and last_followup_day. The
    patient number stands in ``patient_id`` or ``export_id``. Days that are whole numbers already stay. Columns that no
    study table has are left out and named. Paths are kept as they are: relative ones count from the new folder.

    Parameters
    ----------
    export
        Folder with tables named as the study tables, .tsv or .csv, separated by tabs, semicolons or commas.
    key
        Table with the columns export_id, patient_id (the pseudonym), enrol_date and, if the age is to be reckoned,
        birth_date. Other columns are not looked at.
    out
        Folder of the study. It may not hold the key or the export, nor lie in the folder of either.
    date_format
        Format of every date, in the key too, as in :meth:`datetime.datetime.strftime`.
    keep
        Further columns of response to keep: the labels that the config will declare.
    decimal
        The decimal mark of the export, "." or ","; points are written.
    replace
        Whether tables that are in ``out`` already may be replaced.

    Returns
    -------
    The findings, and the number of rows written per table: empty where a finding is an error, since then nothing is
    written.
    """
    findings = [*_folder_findings(export, key, out, replace=replace), *_format_findings(date_format)]
    if errors(findings):
        return findings, {}
    patients, key_findings = _read_key(key, date_format)
    findings += [*key_findings, *_file_findings(export)]
    tables: dict[str, _Table] = {}
    owners: dict[str, str] = {}  # patient number by sample
    for name in TABLES:
        path = table_path(export, name)
        if path is None:
            continue
        tables[name] = _convert_table(
            path, name, patients=patients, owners=owners, date_format=date_format, keep=keep, decimal=decimal
        )
        findings += tables[name].findings
    findings += _keep_findings(keep, tables.get("response"))
    findings += _reference_findings(tables)
    absent = len(patients) - len(tables["patients"].rows) if "patients" in tables else 0
    if absent > 0:
        message = f"patients of the key without a row: {absent}"
        findings.append(Finding("warning", "patients", None, "", "", message, "nothing to do if that is so"))
    paths = (
        [row.get(column, "") for row in tables["libraries"].rows for column in PATH_COLUMNS]
        if "libraries" in tables
        else []
    )
    if any(path and not Path(path).is_absolute() for path in paths):
        message, remedy = "relative paths now count from the study folder", "put the files, or a link to them, there"
        findings.append(Finding("warning", "libraries", None, "path", "", message, remedy))
    if errors(findings):
        return findings, {}
    _write(tables, out)
    logger.info("rows written: %s", ", ".join(f"{name} {len(table.rows)}" for name, table in tables.items()))
    return findings, {name: len(table.rows) for name, table in tables.items()}


# ------------------------------------------------------------------------------------------------- folders and options


def _folder_findings(export: Path, key: Path, out: Path, *, replace: bool) -> list[Finding]:
    def problem(option: str, message: str, remedy: str) -> Finding:
        return Finding("error", "dates", None, option, "", message, remedy)

    if not export.is_dir():
        return [problem("--export", "there is no such folder", "name the folder of the export's tables")]
    if not key.is_file():
        return [problem("--key", "there is no such file", f"name the table with {allowed(KEY_COLUMNS)}")]
    findings = []
    inside = out.resolve()
    for option, path in (("--key", key.resolve()), ("--export", export.resolve())):
        if path.is_relative_to(inside):
            message, remedy = "lies in the study folder", "keep dates and key where the study's users can't read them"
            findings.append(problem(option, message, remedy))
        elif inside.is_relative_to(path if path.is_dir() else path.parent):
            message = f"the study folder would lie in the folder of {option}, beside dates"
            findings.append(problem("--out", message, "name a folder elsewhere"))
    if not any(table_path(export, name) for name in TABLES):
        remedy = f"name the files {allowed(TABLES)}, with the ending {allowed(SUFFIXES)}"
        findings.append(problem("--export", "holds no study table", remedy))
    present = [name for name in TABLES if table_path(out, name)]
    if present and not replace:
        message = f"the study folder holds tables already: {', '.join(present)}"
        findings.append(problem("--out", message, "name another folder, or give --replace"))
    for name in present if replace else ():
        if not table_path(export, name):
            message, remedy = "is not in the export: stays as it is", "remove it if it is of another export"
            findings.append(Finding("warning", f"{name}.tsv", None, "", "", message, remedy))
    return findings


def _format_findings(date_format: str) -> list[Finding]:
    directives = re.findall("%(.?)", date_format)
    twice = len(set(directives)) < len(directives)
    if (
        set(directives) <= set(DIRECTIVES)
        and {"Y", "d"} <= set(directives)
        and {"m", "b", "B"} & set(directives)
        and not twice
    ):
        return []
    message = "the format does not name year (of four digits), month and day, each once"
    remedy = 'use %Y, %m (%b, %B) and %d, such as "%d.%m.%Y"; export dates with four digits for the year'
    return [Finding("error", "dates", None, "--format", "", message, remedy)]


def _keep_findings(keep: Sequence[str], response: _Table | None) -> Iterator[Finding]:
    for column in keep:
        if kind := identifying_column(column):
            message, remedy = f"would hold {kind}: cannot be kept", "take it out of --keep"
            yield Finding("error", "dates", None, "--keep", _named(column), message, remedy, RULE)
        elif response is None or column not in response.columns:
            message, remedy = "is no column of response", "correct its name, or take it out of --keep"
            yield Finding("error", "dates", None, "--keep", _named(column), message, remedy)


def _file_findings(export: Path) -> Iterator[Finding]:
    for path in sorted(export.iterdir()):
        if path.suffix.lower() in (*SUFFIXES, ".txt", ".xlsx", ".xls", ".ods") and path.name not in {
            f"{name}{suffix}" for name in TABLES for suffix in SUFFIXES
        }:
            close = closest(path.stem, TABLES)
            hint = f"did you mean {close}? " if close else ""
            remedy = f"{hint}tables are named {allowed(TABLES)}, with the ending {allowed(SUFFIXES)}"
            yield Finding("warning", _named(path.name), None, "", "", "the file is no study table: not read", remedy)
    for name in TABLES:
        if sum((export / f"{name}{suffix}").is_file() for suffix in SUFFIXES) > 1:
            yield Finding("error", name, None, "", "", f"is there as {allowed(SUFFIXES)}", "keep one of the files")


# ----------------------------------------------------------------------------------------------------------------- key


def _read_key(path: Path, date_format: str) -> tuple[dict[str, Patient], list[Finding]]:
    """Patients by the number that the export uses, and what is wrong with the key."""
    table = _Table(KEY, KEY, list(KEY_COLUMNS))
    try:
        header, records = read_cells(path)
    except TableError as error:
        return {}, [error.finding(KEY)]
    for column in (*KEY_COLUMNS, "birth_date"):
        if header.count(column) > 1 or (column in KEY_COLUMNS and column not in header):
            problem = "is missing" if column not in header else "is there twice"
            table.refuse(1, column, "", f"the column {column} {problem}", f"the key needs {', '.join(KEY_COLUMNS)}")
    if table.findings:
        return {}, table.findings
    patients: dict[str, Patient] = {}
    first: dict[tuple[str, str], int] = {}
    for line, cells in _whole_rows(table, header, records):
        row = dict(zip(header, cells, strict=True))
        for column in ("export_id", "patient_id"):
            earlier = first.setdefault((column, row[column].casefold()), line)
            if row[column] and earlier != line:
                remedy = "give each patient one line, with a pseudonym of its own"
                table.refuse(line, column, row[column], f"is already in row {earlier}", remedy)
        if not row["export_id"]:
            table.refuse(line, "export_id", "", "is empty", "give the number that the export uses")
        _check_pseudonym(table, line, row["patient_id"], row["export_id"])
        enrolled = _date_of(table, line, "enrol_date", row["enrol_date"], date_format)
        if not row["enrol_date"]:
            table.refuse(line, "enrol_date", "", "is empty", "give the date of enrolment: day 0 of all that follows")
        born = _date_of(table, line, "birth_date", row.get("birth_date", ""), date_format)
        if born and enrolled and not 0 <= _age(born, enrolled) <= 120:
            message = "the age at enrolment would lie outside 0 to 120 years"
            table.refuse(line, "birth_date", row["birth_date"], message, "correct birth_date or enrol_date")
        if enrolled:
            patients[row["export_id"]] = Patient(row["patient_id"], enrolled, born)
        elif row["export_id"]:
            # Known, so that its mistake is not reported again by each of its rows.
            patients[row["export_id"]] = Patient(row["patient_id"], date.today(), None)
    if not records:
        table.refuse(None, "", "", "the key has no rows", "give one line per patient")
    return patients, table.findings


def _check_pseudonym(table: _Table, line: int, pseudonym: str, number: str) -> None:
    _, problem = convert(pseudonym, table_schema("patients")["properties"]["patient_id"])
    remedy = "choose a pseudonym that says nothing of the person"
    if not pseudonym:
        table.refuse(line, "patient_id", "", "is empty", remedy)
    elif problem:
        table.refuse(line, "patient_id", pseudonym, *problem)
    elif kind := identifier_in(pseudonym):
        table.refuse(line, "patient_id", pseudonym, f"holds {kind}", remedy, RULE)
    elif _holds(pseudonym, number):
        table.refuse(line, "patient_id", pseudonym, "holds the number that the export uses", remedy, RULE)


def _holds(text: str, number: str) -> bool:
    """Whether an id was made from a patient number.

    A number of a few characters stands in many an id by chance: it counts where it is the first number of the id.
    """
    squeezed = [re.sub(r"[\W_]", "", part).casefold() for part in (number, text)]
    if len(number) >= SHORT_ID and squeezed[0] in squeezed[1]:
        return True
    if len(number) >= SHORT_ID and not number.isdigit():
        return False
    first, own = re.search(r"\d+", text), re.search(r"\d+", number)
    return text.casefold() == number.casefold() or bool(first and own and int(first[0]) == int(own[0]))


def _age(born: date, on: date) -> int:
    """Age in whole years; born on 29 February, one grows older on 1 March of other years."""
    return on.year - born.year - ((on.month, on.day) < (born.month, born.day))


# -------------------------------------------------------------------------------------------------------------- tables


def _convert_table(
    path: Path,
    name: str,
    *,
    patients: Mapping[str, Patient],
    owners: dict[str, str],
    date_format: str,
    keep: Collection[str],
    decimal: str,
) -> _Table:
    """One table of the export as the study takes it; of samples, ``owners`` is filled on the way."""
    schema = table_schema(name)
    table = _Table(name, path.name, [])
    try:
        header, records = read_cells(path)
    except TableError as error:
        table.findings.append(error.finding(path.name))
        return table
    targets, dated = _plan(table, header, keep)
    added = {"death", "last_followup_day"} if "death_date" in targets.values() else set()
    added |= {"age"} if name == "patients" and any(patient.born for patient in patients.values()) else set()
    wanted = {*targets.values(), *added}
    table.columns = [column for column in dict.fromkeys((*schema["properties"], *keep)) if column in wanted]
    if errors(table.findings):
        return table
    numbers = _pattern(patients)
    for line, cells in _whole_rows(table, header, records):
        given = {target: cells[position] for position, target in targets.items()}
        number = given.get("patient_id", owners.get(given.get("sample_id", ""), ""))
        patient = patients.get(number)
        if "patient_id" in given:
            if not number:
                table.refuse(line, "patient_id", "", "is empty", "give the patient's number")
            elif patient is None and patients:
                table.refuse(line, "patient_id", number, "is not in the key", "add the patient to the key")
        if name == "samples":
            owners[given.get("sample_id", "")] = number
        row = dict.fromkeys(table.columns, "")
        for position, target in targets.items():
            text, column = cells[position], header[position]
            if target == "patient_id":
                row[target] = patient.pseudonym if patient else ""
            elif position in dated:
                day = _date_of(table, line, column, text, date_format)
                row[target] = str((day - patient.enrolled).days) if day and patient else ""
            else:
                row[target] = _kept(table, line, column, text, given, decimal=decimal)
                if _is_text(table, target):
                    _check_numbers(table, line, column, text, own=number, numbers=numbers)
            if not text and target in schema["required"] and target != "patient_id":
                table.refuse(line, column, "", "is empty", "fill it in; the column is required")
        if "death_date" in targets.values():
            _add_death(table, line, row, given)
        if "age" in row and not row["age"] and patient and patient.born:
            row["age"] = str(_age(patient.born, patient.enrolled))
        row.pop("death_date", None)
        table.rows.append(row)
        table.lines.append(line)
    _refuse_duplicates(table, schema["x-key"])
    return table


def _plan(table: _Table, header: Sequence[str], keep: Collection[str]) -> tuple[dict[int, str], set[int]]:
    """Which column of the study each column of the export becomes, and which of them hold dates."""
    schema = table_schema(table.name)
    columns = schema["properties"]
    targets: dict[int, str] = {}
    dated: set[int] = set()
    unknown: list[int] = []
    for position, column in enumerate(header):
        day = "day" if column == "date" else f"{column.removesuffix('_date')}_day"
        kind = identifying_column(column) or identifier_in(column)
        if not column:
            table.refuse(1, "", "", f"column {position + 1} has no name", "name it, or remove it")
        elif column in header[:position]:
            table.refuse(1, column, "", "the column is there twice", "keep one of them")
        elif kind:
            table.warn(column, f"would hold {kind}: left out", "nothing to do")
        elif column in columns:
            targets[position] = column
        elif column == "export_id" and "patient_id" in columns:
            targets[position] = "patient_id"
        elif column.endswith("date") and day in columns:
            targets[position] = day
            dated.add(position)
        elif column == "death_date" and table.name == "outcome":
            targets[position] = column
            dated.add(position)
        elif column in keep and table.name == "response":
            targets[position] = column
        elif column == "enrol_date":
            table.warn(column, "left out: the date of enrolment stands in the key", "nothing to do")
        elif column == "date" or column.endswith("_date"):
            unknown.append(position)
        else:
            remedy = "nothing to do; a label of response is kept by --keep"
            table.warn(column, "left out: no column of the study tables", remedy)
    if len(unknown) == 1 and "day" in columns and "day" not in targets.values():
        targets[unknown[0]] = "day"
        dated.update(unknown)
    else:
        days = [name.removesuffix("day") + "date" for name in columns if name == "day" or name.endswith("_day")]
        remedy = f"name it {allowed(days)}, or remove it" if days else "remove it: this table holds no dates"
        for position in unknown:
            table.refuse(1, header[position], "", "an unknown column of dates", remedy)
    for position, target in targets.items():
        earlier = next(header[other] for other, name in targets.items() if name == target)
        if earlier != header[position]:
            message = f"gives {target}, as the column {earlier} does"
            table.refuse(1, header[position], "", message, "keep one of them")
    for column in schema["required"]:
        if column not in targets.values() and not unknown:
            other = " (or export_id)" if column == "patient_id" else ""
            other = f" (or {column.removesuffix('day')}date)" if column.endswith("day") else other
            table.refuse(1, column, "", f"the required column {column}{other} is missing", "add it")
    return targets, dated


def _whole_rows(table: _Table, header: Sequence[str], records: Rows) -> Iterator[tuple[int, list[str]]]:
    """The rows with as many fields as the header; the others are refused."""
    for line, cells in records:
        while len(cells) > len(header) and not cells[-1]:
            cells.pop()
        if len(cells) == len(header):
            yield line, cells
        else:
            message = f"{len(cells)} fields where the header has {len(header)}"
            table.refuse(line, "", "", message, "put one separator between fields; leave empty ones empty")


def _date_of(table: _Table, line: int, column: str, text: str, date_format: str) -> date | None:
    """The date that a cell holds, or None where it is empty or refused."""
    if not text:
        return None
    try:
        day = datetime.strptime(text, date_format).date()
    except ValueError:
        message = f"is no day of the calendar in the format {date_format}"
        remedy = "write every date in this format, or give theirs as --format"
        if text.isdigit() and len(text) == 5:
            message, remedy = (
                "looks like a date as Excel counts it",
                "format the column as text or date, and export again",
            )
        table.refuse(line, column, text, message, remedy)
        return None
    if not EARLIEST <= day <= date.today():
        message = "is a date before 1900 or in the future"
        table.refuse(line, column, text, message, "correct it; give four digits for the year")
        return None
    return day


def _kept(table: _Table, line: int, column: str, text: str, given: Mapping[str, str], *, decimal: str) -> str:
    """A cell that is neither date nor patient number, as it goes into the study; "" where it is refused."""
    schema = table_schema(table.name)["properties"].get(column, {"type": "string"})
    is_day = column == "day" or column.endswith("_day")
    if kind := identifier_in(text, dates=column not in PATH_COLUMNS):
        remedy = "take it out of the export"
        if kind == CALENDAR_DATE:
            remedy = f"name the column {column.removesuffix('day')}date" if is_day else "give it a column of its own"
        table.refuse(line, column, text, f"holds {kind}", remedy, RULE)
        return ""
    value = text
    if given.get(schema.get("x-censor", "")) == "" and (censored := CENSORED.fullmatch(text)):
        value = censored[2]
    number, problem = convert(value, schema, decimal=decimal)
    if problem:
        table.refuse(line, column, text, *problem)
        return ""
    if is_day and text and abs(number) > LARGEST_DAY:
        message = "is no day from enrolment; it looks like a date as Excel counts it"
        table.refuse(line, column, text, message, f"export dates, and name the column {column.removesuffix('day')}date")
    return text.replace(",", ".") if schema["type"] == "number" else text


def _is_text(table: _Table, column: str) -> bool:
    schema = table_schema(table.name)["properties"].get(column, {"type": "string"})
    return schema["type"] == "string" and "enum" not in schema


def _pattern(numbers: Collection[str]) -> re.Pattern[str] | None:
    """Finds any patient number that is long enough not to stand in a text by chance."""
    long = [re.escape(number) for number in numbers if len(number) >= SHORT_ID]
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(long)})(?![^\W_])", re.IGNORECASE) if long else None


def _check_numbers(
    table: _Table, line: int, column: str, text: str, *, own: str, numbers: re.Pattern[str] | None
) -> None:
    """Refuse a text that carries a patient number into the study; in a path, where files keep theirs, warn."""
    made_from_it = column in ("sample_id", "library_id") and own and _holds(text, own)
    if not made_from_it and not (numbers and numbers.search(text)):
        return
    if column in PATH_COLUMNS:
        message, remedy = "a path holds the patient's number", "rename the files if the study is passed on"
        table.findings.append(Finding("warning", table.label, line, column, mask(text), message, remedy, RULE))
    else:
        remedy = "name it after the pseudonym, here and wherever it is referred to"
        table.refuse(line, column, text, "holds the number that the export uses", remedy, RULE)


def _add_death(table: _Table, line: int, row: dict[str, str], given: Mapping[str, str]) -> None:
    """Death and the end of follow-up from ``death_date``; a patient without one lives, unless death says otherwise."""
    day = row["death_date"]
    if not given["death_date"]:
        row["death"] = given.get("death", "0")
        return
    if given.get("death") == "0":
        table.refuse(line, "death_date", given["death_date"], "is given, but death is 0", "correct one of them")
    if day and row["last_followup_day"] and int(row["last_followup_day"]) > int(day):
        message = "lies before the last day of follow-up"
        table.refuse(line, "death_date", given["death_date"], message, "correct one of them")
    row["death"], row["last_followup_day"] = "1", day


def _refuse_duplicates(table: _Table, key: Sequence[str]) -> None:
    first: dict[tuple[str, ...], int] = {}
    for line, row in zip(table.lines, table.rows, strict=True):
        values = tuple(row.get(column, "").casefold() for column in key)
        earlier = first.setdefault(values, line)
        if earlier != line and values[0]:
            table.refuse(line, " + ".join(key), "", f"is already in row {earlier}", "keep one row for each")


def _reference_findings(tables: Mapping[str, _Table]) -> list[Finding]:
    """Ids that refer to a table of the export and do not stand in it."""
    before = {name: len(table.findings) for name, table in tables.items()}
    for name, table in tables.items():
        for column, target in table_schema(name)["x-references"].items():
            known = {row[column] for row in tables[target].rows} if target in tables else set()
            for line, row in zip(table.lines, table.rows, strict=True):
                if known and row.get(column) and row[column] not in known:
                    table.refuse(line, column, row[column], f"is not in {target}", f"add it to {target}")
    return [finding for name, table in tables.items() for finding in table.findings[before[name] :]]


def _write(tables: Mapping[str, _Table], out: Path) -> None:
    """Write all tables or none; rows are sorted by their id, so that their order says nothing of the export's."""
    with ExitStack() as stack:
        for name, table in tables.items():
            key = table_schema(name)["x-key"][0]
            text = io.StringIO()
            writer = csv.DictWriter(text, table.columns, delimiter="\t", lineterminator="\n")
            writer.writeheader()
            writer.writerows(sorted(table.rows, key=lambda row, key=key: row[key]))
            temporary = stack.enter_context(replacing(out / f"{name}.tsv"))
            temporary.write_text(text.getvalue(), encoding="utf-8", newline="\n")
    for name in tables:
        (out / f"{name}.csv").unlink(missing_ok=True)
