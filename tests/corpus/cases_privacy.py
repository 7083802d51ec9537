"""Identifiers of persons in the tables and the config of a small study: each is named by its kind and never shown."""

from __future__ import annotations

from pathlib import Path

from corpus import Case
from damage import Damage, both, cell, edits
from livermet.privacy import (
    ADDRESS,
    CALENDAR_DATE,
    CPR,
    EMAIL,
    FODSELSNUMMER,
    HETU,
    NAME,
    PERSONNUMMER,
    PHONE,
    SAMORDNINGSNUMMER,
)


def nothing(folder: Path) -> None:
    """The config alone is at fault."""


def column(table: str, name: str, value: str) -> Damage:
    """Add a column that no schema knows, with a value in its first row."""

    def add(folder: Path) -> None:
        path = folder / f"{table}.tsv"
        header, *rows = path.read_text(encoding="utf-8").splitlines()
        values = [value, *[""] * (len(rows) - 1)]
        lines = [f"{header}\t{name}", *(f"{row}\t{text}" for row, text in zip(rows, values, strict=True))]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    return add


CASES = [
    # --- in ids
    Case(
        "personnummer as patient",
        both(edits("patients", "P2\t", "850709-9805\t"), edits("samples", "\tP2\t", "\t850709-9805\t")),
        "stops",
        ("patients.tsv 3 patient_id *** (11 characters)", PERSONNUMMER),
    ),
    Case(
        "personnummer inside a sample",
        both(edits("samples", "S2\t", "S_198507099805_T0\t"), edits("libraries", "\tS2\t", "\tS_198507099805_T0\t")),
        "stops",
        ("samples.tsv 3 sample_id S*** (17 characters)", PERSONNUMMER),
    ),
    Case(
        "samordningsnummer inside a sample",
        both(edits("samples", "S2\t", "701063-2391_T0\t"), edits("libraries", "\tS2\t", "\t701063-2391_T0\t")),
        "stops",
        ("samples.tsv 3 sample_id", SAMORDNINGSNUMMER),
    ),
    Case(
        "CPR number in a library",
        edits("libraries", "L2\t", "L2-070761-4285\t"),
        "stops",
        ("libraries.tsv 3 library_id", CPR),
    ),
    Case(
        "fødselsnummer as a library",
        edits("libraries", "L2\t", "N11077941012\t"),
        "stops",
        ("libraries.tsv 3 library_id N*** (12 characters)", FODSELSNUMMER),
    ),
    Case(
        "Finnish code in a library",
        edits("libraries", "L2\t", "131052A308T_sc\t"),
        "stops",
        ("libraries.tsv 3 library_id", HETU),
    ),
    Case(
        "name as a library",
        edits("libraries", "L2\t", "AnnaSvensson\t"),
        "stops",
        ("libraries.tsv 3 library_id An*** (12 characters)", NAME),
    ),
    Case("name as a batch", edits("libraries", "\tB02\t", "\tanna.svensson\t"), "stops", ("batch an***", NAME)),
    # --- in columns of the tables
    Case(
        "name of a doctor as centre",
        cell("patients", "P1", "centre", "Lars Hansen"),
        "stops",
        ("patients.tsv 2 centre La*** (11 characters)", NAME),
    ),
    Case(
        "address as centre",
        cell("patients", "P1", "centre", "Storgatan 12"),
        "stops",
        ("patients.tsv 2 centre St*** (12 characters)", ADDRESS),
    ),
    Case(
        "postcode as centre",
        cell("patients", "P1", "centre", "581 85 Linköping"),
        "stops",
        ("patients.tsv 2 centre", ADDRESS),
    ),
    Case(
        "e-mail in regimen",
        cell("treatment", "P1", "regimen", "ask anna@liu.se"),
        "stops",
        ("treatment.tsv 2 regimen", EMAIL),
    ),
    Case(
        "phone number in regimen",
        cell("treatment", "P1", "regimen", "call +46 70 123 45 67"),
        "stops",
        ("treatment.tsv 2 regimen ca***", PHONE),
    ),
    Case(
        "date in regimen",
        cell("treatment", "P1", "regimen", "FOLFIRINOX from 2024-03-01"),
        "stops",
        ("treatment.tsv 2 regimen FO***", CALENDAR_DATE, "days from enrolment"),
    ),
    Case(
        "date in words in a unit",
        cell("blood", "P1", "unit", "U/mL, 1. mars 2024"),
        "stops",
        ("blood.tsv 2 unit", CALENDAR_DATE),
    ),
    Case(
        "name as a label",
        edits("response", "\thigh", "\tKorhonen, Matti"),
        "stops",
        ("response.tsv 2 grade Ko***", NAME),
    ),
    Case(
        "personnummer in a path",
        cell("libraries", "L1", "raw_path", "raw/850709-9805.h5"),
        "stops",
        ("libraries.tsv 2 raw_path", PERSONNUMMER),
    ),
    Case("number in place of an age", cell("patients", "P1", "age", "8507099805"), "stops", ("age", PERSONNUMMER)),
    # --- in columns that no schema knows
    Case(
        "column of birth dates",
        column("patients", "birth_date", ""),
        "stops",
        ("patients.tsv 1 birth_date", "a birth date"),
    ),
    Case("column of names", column("patients", "Förnamn", "Anna"), "stops", ("patients.tsv 1 Förnamn", NAME)),
    Case("column of record numbers", column("samples", "MRN", "1"), "stops", ("samples.tsv 1 MRN", "medical record")),
    Case(
        "CPR number in an undeclared column",
        column("samples", "comment", "see 211062-5629"),
        "stops",
        ("samples.tsv 2 comment se***", CPR),
    ),
    Case(
        "date in an undeclared column",
        column("patients", "comment", "died 01.03.2024"),
        "stops",
        ("patients.tsv 2 comment di***", CALENDAR_DATE),
    ),
    Case(
        "number as the name of a column",
        column("patients", "131052-308T", "x"),
        "stops",
        ("patients.tsv 1 *** (11 characters)", HETU),
    ),
    # --- in the config
    Case(
        "name in the title",
        nothing,
        "stops",
        ("config", "report.title In***", NAME),
        changes={"report": {"title": "Interim look, Anna Svensson"}},
    ),
    Case(
        "date in the title",
        nothing,
        "stops",
        ("config", "report.title", CALENDAR_DATE),
        changes={"report": {"title": "Interim look of 1 March 2024"}},
    ),
    Case(
        "user name in a path of the config",
        nothing,
        "stops",
        ("config", "results", NAME),
        changes={"results": "/home/anna.svensson/results"},
    ),
]
