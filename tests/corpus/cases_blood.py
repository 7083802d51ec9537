"""Bad input in blood.tsv: units, numbers and names."""

from __future__ import annotations

from corpus import Case
from damage import Damage, adds, edits

FIRST = "ca199\t812.5\tU/mL"


def first_row(analyte: str, value: str, unit: str) -> Damage:
    """Put another value in the place of the first one, that of patient P1."""
    return edits("blood", FIRST, f"{analyte}\t{value}\t{unit}")


def misread(name: str, analyte: str, value: str, unit: str, other: str) -> Case:
    """A number that fits another unit than its own."""
    words = ("blood.tsv", "V12", f"{analyte} of {value} {unit} is implausible", f"looks like {value} {other}")
    return Case(name, first_row(analyte, value, unit), "stops", (*words, f"write {other}"))


def unknown(name: str, analyte: str, value: str, unit: str, understood: str) -> Case:
    """A unit that is not understood for its analyte."""
    words = ("blood.tsv", "V12", f"the unit {unit!r} is not understood for {analyte}", understood)
    return Case(name, first_row(analyte, value, unit), "stops", words)


def implausible(name: str, analyte: str, value: str, unit: str) -> Case:
    """A number that is hardly seen in patients."""
    words = ("blood.tsv", "V12", f"{analyte} of ", "outside the plausible")
    return Case(name, first_row(analyte, value, unit), "warns", words)


CASES = [
    # --- units
    unknown("unknown unit", "ca199", "812.5", "units", "give the value in U/mL or kU/L"),
    unknown("ca199 per litre", "ca199", "812.5", "U/L", "U/mL or kU/L"),
    unknown("cea in units of ca199", "cea", "8.5", "U/mL", "give the value in ug/L or ng/mL"),
    unknown("neutrophils in percent", "neutrophils", "62", "%", "10^9/L"),
    unknown("bilirubin in mmol/L", "bilirubin", "0.012", "mmol/L", "umol/L or mg/dL"),
    Case("unit missing", first_row("bilirubin", "12", ""), "stops", ("blood.tsv", "2", "unit", "is empty", "required")),
    # --- the number of another unit
    misread("albumin in g/dL", "albumin", "3.8", "g/L", "g/dL"),
    misread("albumin in g/L", "albumin", "38", "g/dL", "g/L"),
    misread("bilirubin in mg/dL", "bilirubin", "0.8", "umol/L", "mg/dL"),
    misread("neutrophils per microlitre", "neutrophils", "4500", "10^9/L", "cells/uL"),
    misread("ldh in microkatal", "ldh", "3.5", "U/L", "ukat/L"),
    misread("variant allele fraction in percent", "kras_vaf", "12", "fraction", "%"),
    # --- numbers
    implausible("ca199 beyond a million", "ca199", "2000000", "U/mL"),
    implausible("crp beyond 500", "crp", "700", "mg/L"),
    implausible("albumin of 7", "albumin", "7", "g/L"),
    Case("negative value", first_row("crp", "-4", "mg/L"), "stops", ("blood.tsv", "-4", "outside 0 and above")),
    Case(
        "text for a value", first_row("crp", "see note", "mg/L"), "stops", ("see note", "not a number", "unit or text")
    ),
    Case("no value", first_row("crp", "", "mg/L"), "stops", ("blood.tsv", "value", "is empty")),
    Case(
        "unknown censor",
        edits("blood", "ca199\t1\tU/mL\t<", "ca199\t1\tU/mL\t~"),
        "stops",
        ("blood.tsv", "3", "censor", "~", "not an allowed value", "<, = or >"),
    ),
    # --- names
    Case(
        "analyte in upper case",
        first_row("CA199", "812.5", "U/mL"),
        "stops",
        ("CA199", "not a valid name", "lower case"),
    ),
    Case(
        "analyte with a blank", first_row("ca 199", "812.5", "U/mL"), "stops", ("ca 199", "not a valid name", "ca199")
    ),
    Case("value of nobody", adds("blood", "P9 0 crp 4 mg/L ."), "stops", ("blood.tsv", "P9", "not in patients.tsv")),
]
