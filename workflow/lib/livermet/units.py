"""Units of blood values: one canonical unit per analyte, the factors to it, and what a value cannot be.

Sources of the factors: AMA Manual of Style (11th edition, table of SI conversions) for bilirubin, albumin and CRP; the
molar mass of human albumin, 66.4 kDa; 1 katal is 1 mol/s and 1 U is 1 umol/min, so 1 ukat/L is 60 U/L. Nordic exports
write E or IE ("enheter") for U or IU.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import NamedTuple

from livermet.findings import allowed

_COUNTS = {
    "10^9/L": 1.0,
    "10^3/uL": 1.0,
    "10^6/mL": 1.0,
    "G/L": 1.0,
    "k/uL": 1.0,
    "/nL": 1.0,
    "cells/uL": 0.001,
    "10^6/L": 0.001,
}
_ENZYMES = {"U/L": 1.0, "ukat/L": 60.0}
# Factor to the canonical unit, which stands first.
UNITS: Mapping[str, Mapping[str, float]] = {
    "ca199": {"U/mL": 1.0, "kU/L": 1.0},
    "cea": {"ug/L": 1.0, "ng/mL": 1.0},
    "crp": {"mg/L": 1.0, "ug/mL": 1.0, "mg/dL": 10.0},
    "albumin": {"g/L": 1.0, "g/dL": 10.0, "umol/L": 0.0664},
    "bilirubin": {"umol/L": 1.0, "mg/dL": 17.1},
    "neutrophils": _COUNTS,
    "lymphocytes": _COUNTS,
    "platelets": _COUNTS,
    "alp": _ENZYMES,
    "ldh": _ENZYMES,
    "kras_vaf": {"fraction": 1.0, "%": 0.01, "‰": 0.001},
}
# In canonical units; a value beyond them is hardly seen in patients.
PLAUSIBLE = {
    "ca199": (0.0, 1e6),
    "cea": (0.0, 1e5),
    "crp": (0.0, 500.0),
    "albumin": (10.0, 60.0),
    "bilirubin": (1.0, 1000.0),
    "neutrophils": (0.01, 100.0),
    "lymphocytes": (0.01, 100.0),
    "platelets": (1.0, 2000.0),
    "alp": (10.0, 5000.0),
    "ldh": (50.0, 10000.0),
    "kras_vaf": (0.0, 1.0),
    "nlr": (0.0, 100.0),
}
# A number that is implausible in its unit and lies in here in another one was given in that other unit. Narrower than
# PLAUSIBLE where a rare true value would otherwise be refused: 120 x 10^9/L neutrophils are leukaemoid, not 120/uL.
USUAL = {
    **PLAUSIBLE,
    "neutrophils": (0.5, 100.0),
    "lymphocytes": (0.2, 100.0),
    "platelets": (10.0, 2000.0),
}

_CHARACTERS = str.maketrans("µμ×⁰¹²³⁴⁵⁶⁷⁸⁹", "uux0123456789")
# 10^9, 10*9, 10**9, x10^9, 10x9, 10e9, 1e9, 1E+09, and 109 where the superscript was lost.
_POWER = re.compile(r"[x*]?(?:10(?:\^|\*{1,2}|x|e\+?)?|1?e\+?)0?([369])(?=/)")
_NUMERATORS = {
    **dict.fromkeys(("iu", "e", "ie", "[iu]", "[arb'u]", "units"), "u"),
    **dict.fromkeys(("kiu", "ke", "kie", "k[iu]", "k[arb'u]"), "ku"),
    **dict.fromkeys(("mcg", "microg"), "ug"),
    **dict.fromkeys(("mcmol", "micromol"), "umol"),
    "microkat": "ukat",
}
_DENOMINATORS = {"100ml": "dl", "mm3": "ul"}
_WHOLE = {"g%": "g/dl", "mg%": "mg/dl", "percent": "%", "pct": "%", "permille": "‰", "1": "fraction"}


class Implausible(NamedTuple):
    """What is wrong with a value: severity of the finding, message and remedy."""

    severity: str
    message: str
    remedy: str


def canonical_unit(analyte: str) -> str | None:
    """The unit that values of the analyte are compared in; None for an analyte without recipe."""
    return next(iter(UNITS[analyte])) if analyte in UNITS else None


def convert(analyte: str, value: float, unit: str) -> float:
    """A value in the analyte's canonical unit.

    Raises
    ------
    ValueError
        When the analyte has no recipe, or the unit is not understood for it.
    """
    if analyte not in UNITS:
        raise ValueError(f"analyte {analyte!r}: there is no recipe for its units; there is one for {allowed(UNITS)}")
    factor = _factor(analyte, unit)
    if factor is None:
        raise ValueError(": ".join(_not_understood(analyte, unit)))
    return value * factor


def unit_problem(analyte: str, unit: str, value: float | None) -> tuple[str, str] | None:
    """What is wrong with the unit of a value, as (message, remedy); an error of the table.

    Either the unit is not understood for the analyte, or the number is implausible in it and fits another unit: albumin
    of 3.8 g/L was given in g/dL. A value None is not looked at; analytes without recipe have no problem.
    """
    if analyte not in UNITS:
        return None
    factor = _factor(analyte, unit)
    if factor is None:
        return _not_understood(analyte, unit)
    if value is None or _within(value * factor, PLAUSIBLE[analyte]):
        return None
    fitting = (name for name, other in UNITS[analyte].items() if _within(value * other, USUAL[analyte]))
    other = next(fitting, None)
    if other is None:
        return None
    message = f"{analyte} of {value:g} {unit} is implausible and looks like {value:g} {other}"
    return message, f"write {other} into the column unit, or correct the value"


def plausibility(analyte: str, value: float, *, unit: str = "") -> Implausible | None:
    """What is wrong with a value in the canonical unit: an error where it cannot be, a warning where it hardly can.

    ``nlr`` is known too, the ratio of neutrophils to lymphocytes of one draw. ``unit`` is the one that the table gives;
    whether the number fits another one better is a matter of :func:`unit_problem`.
    """
    if analyte not in PLAUSIBLE or _within(value, PLAUSIBLE[analyte]):
        return None
    low, high = PLAUSIBLE[analyte]
    canonical = canonical_unit(analyte) or ""
    shown = f"{value:g} {canonical}".rstrip() + (f" (given in {unit})" if unit not in ("", canonical) else "")
    message = f"{analyte} of {shown} lies outside the plausible {low:g} to {high:g}"
    if analyte == "kras_vaf":
        return Implausible("error", message, "correct the value or its unit")
    return Implausible("warning", message, "correct the value or its unit; otherwise it is used as it is")


def misspelt(analyte: str) -> str | None:
    """The analyte with a recipe that a name without one most likely means, such as ca199 for ca19_9, or None."""
    close = [] if analyte in UNITS else difflib.get_close_matches(analyte, UNITS, n=1, cutoff=0.85)
    return close[0] if close else None


def _not_understood(analyte: str, unit: str) -> tuple[str, str]:
    return f"the unit {unit!r} is not understood for {analyte}", f"give the value in {allowed(UNITS[analyte])}"


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _factor(analyte: str, unit: str) -> float | None:
    return _FACTORS[analyte].get(_folded(unit))


def _folded(unit: str) -> str:
    """One spelling for all spellings of a unit."""
    text = "".join(unit.translate(_CHARACTERS).split()).casefold().replace("{cells}", "").replace("cells", "")
    numerator, slash, denominator = _POWER.sub(r"10^\1", text).partition("/")
    if not slash:
        return _WHOLE.get(text, text)
    return f"{_NUMERATORS.get(numerator, numerator)}/{_DENOMINATORS.get(denominator, denominator)}"


_FACTORS = {analyte: {_folded(unit): factor for unit, factor in units.items()} for analyte, units in UNITS.items()}
