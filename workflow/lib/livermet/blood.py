"""Blood values of one patient: the course of CA19-9, indices of values drawn together, and values by timepoint.

A draw is a row of blood.tsv as a mapping: patient_id, day, analyte, value (None where missing), unit, and where given
censor ("<", "=", ">"), platform, uln, lod, gcsf, infection and row, the line of the file. All rows are of one patient.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from livermet.units import canonical_unit, convert

Row = Mapping[str, Any]

# Days from the anchor, first and last; a trial file may give others.
WINDOWS: Mapping[str, tuple[int, int]] = {
    "T0_from_treatment": (-28, 0),
    "T1_from_treatment": (35, 77),
    "T2_from_surgery": (-28, -1),
    "T4_from_surgery": (21, 56),
}
TIMEPOINTS = {
    "T0_from_treatment": "T0_pre",
    "T1_from_treatment": "T1_reeval",
    "T2_from_surgery": "T2_preop",
    "T4_from_surgery": "T4_postop",
}
# Falls from baseline that count as response; 50 % is more than analytical and biological variation (critical difference
# 51.5 %, Vestergaard 1999), 20 % that of Ziske 2003, the others for sensitivity. One of exactly so much counts.
FALL_PERCENTS = (50, 20, 70, 90)
SLOPE_DAYS = 28
MIN_SLOPE_VALUES = 3
# Analytes that are compared as they are: spread around a mean rather than over orders of magnitude, or points. All
# others are compared as log2, in the feature table (hence response, survival, prediction) as among the biomarkers.
LINEAR = ("albumin", "mgps", "mps", "kras_detected")
LOG2 = "log2 "  # heads the unit of a value on that scale
NO_LOGARITHM = "zero or negative, no logarithm"
NEUTROPHIL_BASED = ("neutrophils", "nlr", "sii", "mps")


def _ratio(upper: float, lower: float) -> float:
    return upper / lower if lower else math.inf


# Parts, unit and formula of each index, from values in canonical units.
INDICES: Mapping[str, tuple[tuple[str, ...], str, Callable[..., float]]] = {
    "nlr": (("neutrophils", "lymphocytes"), "ratio", _ratio),
    "plr": (("platelets", "lymphocytes"), "ratio", _ratio),
    "sii": (("platelets", "neutrophils", "lymphocytes"), "10^9/L", lambda p, n, ly: p * _ratio(n, ly)),
    "mgps": (("crp", "albumin"), "score", lambda crp, albumin: (crp > 10) * (1 + (albumin < 35))),
    "crp_albumin": (("crp", "albumin"), "mg/g", _ratio),
    "mps": (("neutrophils", "lymphocytes", "albumin"), "score", lambda n, ly, alb: (_ratio(n, ly) > 4) + (alb < 40)),
}
# Values that divide exactly into the percentage of a fall may still differ from it in the last bit.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Ca199Rules:
    """What the trial says of CA19-9.

    Attributes
    ----------
    uln
        Upper limit of normal in U/mL, the same for all laboratories, so that the label means the same for all patients.
    baseline_max_days_before
        The baseline lies at most so many days before the first day of treatment.
    evaluation_within_days
        The value of the re-evaluation lies at most so many days from its scan.
    max_bilirubin_x_uln
        With bilirubin above so many times its upper limit of normal, CA19-9 counts as falsely high.
    bilirubin_default_uln
        Upper limit of normal of bilirubin in umol/L, where the table gives none.
    bilirubin_within_days
        Bilirubin speaks for CA19-9 of at most so many days before or after.
    non_secretor_below
        A patient whose values all lie below this (U/mL) does not secrete CA19-9.
    """

    uln: float = 37.0
    baseline_max_days_before: int = 14
    evaluation_within_days: int = 14
    max_bilirubin_x_uln: float = 2.0
    bilirubin_default_uln: float = 20.0
    bilirubin_within_days: int = 7
    non_secretor_below: float = 2.0


@dataclass(frozen=True)
class Ca199Value:
    """One value of CA19-9 in U/mL.

    ``bilirubin`` is that of the nearest day as multiple of its upper limit of normal, None without one near enough;
    ``cholestatic`` says whether it is too high.
    """

    day: int
    value: float
    censor: str
    platform: str
    row: Row
    at_limit: bool
    bilirubin: float | None
    cholestatic: bool

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest level that the value allows; since cholestasis raises CA19-9, at most what was seen."""
        low, high = _limits(self.value, self.censor)
        return (0.0 if self.cholestatic else low), high

    @property
    def flaw(self) -> str:
        """Why the value is only a limit of the level; "" for a level."""
        if self.cholestatic:
            return f"falls into cholestasis (bilirubin {self.bilirubin:.3g} x ULN around day {self.day})"
        return f"is censored ({self.censor}{self.value:g} U/mL on day {self.day})" if self.censor else ""

    def comparable(self, other: Ca199Value) -> bool:
        """Whether both are by the same assay, as far as the table tells."""
        return self.platform == other.platform or not (self.platform and other.platform)


class Label(NamedTuple):
    """Value of a label as text, "" where missing; the reason why; and the rows that it came from or that decided."""

    value: str
    reason: str
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Ca199Course:
    """The labels of one patient by name, what they came from, and notes on what people should know of them."""

    labels: Mapping[str, Label]
    baseline: Ca199Value | None = None
    reevaluation: Ca199Value | None = None
    nadir: Ca199Value | None = None
    notes: tuple[str, ...] = ()


class Index(NamedTuple):
    """One index of one day; ``value`` is None where ``reason`` says why. ``rows`` are those of its parts."""

    name: str
    day: int
    value: float | None
    unit: str
    reason: str
    rows: tuple[Row, ...]


class Measure(NamedTuple):
    """One value of a patient at a timepoint; ``value`` is None where it is left out and ``reason`` says why.

    ``value`` is on the scale of the tests, which ``unit`` names; ``level`` is what it was made of, in the unit without
    log2.
    """

    timepoint: str
    feature: str
    value: float | None
    unit: str
    reason: str
    level: float | None = None


def ca199_course(
    draws: Iterable[Row],
    *,
    start: int,
    end: tuple[int, str] | None,
    evaluation_day: int | None,
    lewis_status: str,
    rules: Ca199Rules,
    window: tuple[int, int] = WINDOWS["T1_from_treatment"],
) -> Ca199Course:
    """Labels from the course of CA19-9.

    Parameters
    ----------
    draws
        All rows of the patient, of all analytes: bilirubin decides on cholestasis.
    start
        First day of treatment.
    end
        Last day that counts and what ends the course (first local treatment, change of regimen): surgery otherwise
        makes responders. None where nothing does. A value of that day counts.
    evaluation_day
        Day of the scan of the re-evaluation; None for the middle of ``window``.
    lewis_status
        "positive", "negative", "unknown" or "".
    rules
        The trial's.
    window
        Days of treatment of the re-evaluation, for a patient without ``evaluation_day``.

    Returns
    -------
    The labels, all of them, each with a value or the reason why there is none.

    Notes
    -----
    - A non-secretor has no label and is never a responder: Lewis-negative, or no value above the limit of the assay or
      ``rules.non_secretor_below``, whatever the burden.
    - Baseline: the last value up to the start that is not cholestatic, by the assay of the re-evaluation where there is
      one. A patient who was drained before treatment has such a value; one after the start is never taken, since it
      would hide the early fall. A value without bilirubin nearby is taken, with a note. A baseline that is cholestatic,
      or not above ``rules.uln``, leaves all labels missing.
    - Values by another assay than the baseline's are not compared with it; a value without platform is.
    - Re-evaluation: the nearest value near enough after the start; one in cholestasis only where there is no other.
      Whether CA19-9 became normal is seen there, not at the nadir, which depends on how long a patient was followed.
    - A censored value and one in cholestasis are limits: a fall is decided where every level within the limits decides
      it alike. Continuous labels are missing, but for a re-evaluation or nadir below the limit of the assay, which
      counts as that limit, with a note: the fall is at least so large, and the best responders would be missing
      otherwise. Slope and nadir leave cholestatic values out; the nadir is that of the values after the start.
    """
    names = ("log2fc", "change", *(f"resp{cut}" for cut in FALL_PERCENTS), "norm", "slope", "nadir")
    names = tuple(f"ca199_{name}" for name in names)

    def missing(reason: str) -> Ca199Course:
        return Ca199Course(labels={name: Label("", reason) for name in names})

    counted = [row for row in draws if row["value"] is not None and (end is None or row["day"] <= end[0])]
    until = "" if end is None else f" up to {end[1]} on day {end[0]}"
    try:
        values = ca199_values(counted, rules=rules)
    except ValueError as error:
        return missing(str(error))
    if lewis_status == "negative":
        return missing("non-secretor (lewis_status negative): never a responder")
    if not values:
        return missing(f"no CA19-9 in blood.tsv{until}")
    if all(value.at_limit for value in values):
        reason = f"non-secretor (no value reaches {rules.non_secretor_below:g} U/mL or the limit of detection)"
        return missing(f"{reason}: never a responder")
    if evaluation_day is None:
        target, reach = start + sum(window) / 2, (window[1] - window[0]) / 2
    else:
        target, reach = evaluation_day, rules.evaluation_within_days
    after = [value for value in values if value.day > start]
    near = [value for value in after if abs(value.day - target) <= reach]
    baseline = _baseline(values, near, start=start, rules=rules)
    if isinstance(baseline, str):
        return missing(baseline)

    followed = [value for value in after if value.comparable(baseline)]
    candidates = [value for value in near if value.comparable(baseline)]
    notes = []
    if baseline.bilirubin is None:
        notes.append(f"no bilirubin within {rules.bilirubin_within_days} days of the baseline on day {baseline.day}")
    if len(followed) < len(after):
        others = sorted({value.platform for value in after} - {value.platform for value in followed})
        notes.append(f"{len(after) - len(followed)} value(s) by another assay left out ({', '.join(others)})")
    labels: dict[str, Label] = {}
    reevaluation = None
    if candidates:
        reevaluation = min(candidates, key=lambda value: (value.cholestatic, abs(value.day - target), value.day))
        labels |= _fall_labels(baseline, reevaluation, uln=rules.uln)
        if _below_assay(reevaluation):
            notes.append(f"the re-evaluation {reevaluation.flaw}: the fall is at least so large")
    else:
        reason = f"no CA19-9 within {reach:g} days of day {target:g}, the re-evaluation{until}"
        if near:
            reason = f"the assay changed: baseline by {baseline.platform}, re-evaluation by {near[0].platform}"
        labels |= {name: Label("", reason) for name in names[: len(FALL_PERCENTS) + 3]}

    levels = [value for value in followed if not value.cholestatic]
    if len(levels) < len(followed):
        notes.append(f"{len(followed) - len(levels)} value(s) in cholestasis left out of slope and nadir")
    labels["ca199_slope"] = _slope(baseline, levels, until)
    nadir = min(levels, key=lambda value: (value.value, value.day), default=None)
    labels["ca199_nadir"] = _nadir(baseline, levels, nadir, until)
    return Ca199Course(labels, baseline, reevaluation, nadir, tuple(notes))


def is_normal(row: Row, *, rules: Ca199Rules) -> bool | None:
    """Whether a value of CA19-9 is up to the upper limit of normal; None where a censored value leaves it open."""
    low, high = _limits(convert("ca199", row["value"], row["unit"]), _censor(row))
    if high <= rules.uln:
        return True
    return False if low > rules.uln else None


def indices(draws: Iterable[Row]) -> list[Index]:
    """Indices of values that were drawn on the same day, by day.

    Ratios of neutrophils, platelets and CRP; SII (platelets x neutrophils / lymphocytes; Hu 2014); mGPS (CRP above 10
    mg/L, and then albumin below 35 g/L; McMillan 2013); MPS, a point each for NLR above 4 and albumin below 40 g/L.
    G-CSF and infection move neutrophils, so on such days the indices made of them are left out. A censored part decides
    a score where every value within the limit gives the same. An index has no row where a part of it is in none of the
    draws, or none is in those of the day; of two values of an analyte on one day the last row counts.
    """
    days: dict[int, dict[str, Row]] = {}
    draws = [row for row in draws if row["value"] is not None]
    for row in draws:
        days.setdefault(row["day"], {})[row["analyte"]] = row
    disturbed = disturbed_days(draws)
    analytes = {row["analyte"] for row in draws}
    possible = {name: recipe for name, recipe in INDICES.items() if analytes.issuperset(recipe[0])}
    found = []
    for day, drawn in sorted(days.items()):
        for name, (parts, unit, function) in possible.items():
            given = [drawn[part] for part in parts if part in drawn]
            if given:
                reason = disturbed.get(day, "") if name in NEUTROPHIL_BASED else ""
                value, reason = (None, reason) if reason else _index(given, parts, function)
                found.append(Index(name, day, value, unit, reason, tuple(given)))
    return found


def disturbed_days(draws: Iterable[Row]) -> dict[int, str]:
    """Days on which neutrophils say nothing of the disease, with the reason."""
    reasons = {"gcsf": "G-CSF in the two weeks before the draw", "infection": "infection at the draw"}
    return {row["day"]: reason for row in draws for column, reason in reasons.items() if row.get(column) == 1}


def windowed(
    draws: Iterable[Row], *, start: int, surgery: int | None, windows: Mapping[str, Sequence[int]]
) -> dict[str, list[Row]]:
    """The draws of each timepoint.

    Parameters
    ----------
    draws
        Rows of one patient.
    start, surgery
        First day of treatment; day of the first local treatment of the liver, None without one.
    windows
        First and last day from the anchor, by name as in ``WINDOWS``.

    Returns
    -------
    Rows by timepoint, without those that count from a surgery that the patient did not have. A draw may belong to two
    timepoints, such as T1_reeval and T2_preop; what was drawn after surgery belongs to none that counts from treatment.
    """
    draws = list(draws)
    found = {}
    for name, (first, last) in windows.items():
        anchor = surgery if name.endswith("_from_surgery") else start
        if anchor is None:
            continue
        late = surgery if surgery is not None and name.endswith("_from_treatment") else math.inf
        found[TIMEPOINTS[name]] = [row for row in draws if first <= row["day"] - anchor <= last and row["day"] <= late]
    return found


def linear_analytes(analytes: Iterable[str], values: Iterable[float]) -> frozenset[str]:
    """Analytes and indices of a cohort that are compared as they are; all others are compared as log2.

    Albumin and scores (``LINEAR``), and analytes without a recipe of which any value is 0 or below, such as a base
    excess: they may be no concentrations. A 0 of an analyte with a recipe is one below the limit of its assay.

    Parameters
    ----------
    analytes, values
        Of every row of blood.tsv, of all patients, so that a scale is the same for all of them.
    """
    below = {name for name, value in zip(analytes, values, strict=True) if value <= 0}
    return frozenset(LINEAR) | {name for name in below if canonical_unit(name) is None}


def measures(
    draws: Sequence[Row],
    *,
    start: int,
    surgery: int | None,
    windows: Mapping[str, Sequence[int]],
    mixed: Collection[str] = (),
    linear: Collection[str] = LINEAR,
) -> list[Measure]:
    """Values of one patient at each timepoint on the scale of the tests, and what was left out.

    Of several usable values the last counts at T0 and the one nearest to the middle of the window at the others. Values
    are log2 of the canonical unit, but for those of ``linear``; one of 0 or below has no logarithm and is left out, as
    is a censored one. KRAS VAF is log2(x + LOD/2), with x of 0 where it was not detected, beside ``kras_detected``, 0
    or 1.

    Parameters
    ----------
    draws, start, surgery, windows
        As for :func:`windowed`.
    mixed
        Analytes without recipe that come in several units: they are left out.
    linear
        As :func:`linear_analytes` finds them in the cohort. Without, values of 0 or below are left out of every analyte
        but those of ``LINEAR``.
    """
    draws = sorted(draws, key=lambda row: row["day"])
    disturbed = disturbed_days(draws)
    known = {row["analyte"] for row in draws} | {index.name for index in indices(draws)}
    found = []
    for name, (first, last) in windows.items():
        timepoint, anchored = TIMEPOINTS[name], name.partition("_from_")[2]
        rows = windowed(draws, start=start, surgery=surgery, windows={name: (first, last)}).get(timepoint)
        if rows is None:
            continue
        dated = [
            (row["day"], measure)
            for row in rows
            for measure in _measured(row, disturbed, mixed, timepoint=timepoint, linear=linear)
        ]
        dated += [
            (i.day, _on_scale(Measure(timepoint, i.name, i.value, i.unit, i.reason), linear)) for i in indices(rows)
        ]
        target = (surgery if anchored == "surgery" else start) + (last if timepoint == "T0_pre" else (first + last) / 2)
        usable: dict[str, tuple[float, Measure]] = {}
        for day, measure in dated:
            distance = abs(day - target)
            if measure.reason:
                found.append(measure)
            elif measure.feature not in usable or distance <= usable[measure.feature][0]:
                usable[measure.feature] = (distance, measure)
        found += [measure for _, measure in usable.values()]
        reason = f"no value from day {first} to {last} of {anchored}"
        drawn = {measure.feature for _, measure in dated}
        found += [Measure(timepoint, feature, None, "", reason) for feature in sorted(known - drawn)]
    return found


def ca199_values(draws: Iterable[Row], *, rules: Ca199Rules) -> list[Ca199Value]:
    """The values of CA19-9 by day, each judged by the bilirubin of the nearest day; of two as near, by the higher."""
    multiples = []
    for row in draws:
        if row["analyte"] == "bilirubin":
            uln = row.get("uln")
            limit = convert("bilirubin", uln, row["unit"]) if uln else rules.bilirubin_default_uln
            multiples.append((row["day"], convert("bilirubin", row["value"], row["unit"]) / limit))
    values = []
    for row in sorted((row for row in draws if row["analyte"] == "ca199"), key=lambda row: row["day"]):
        value = convert("ca199", row["value"], row["unit"])
        lod = row.get("lod")
        detectable = lod is None or row["value"] > lod
        near = [
            (abs(day - row["day"]), -multiple)
            for day, multiple in multiples
            if abs(day - row["day"]) <= rules.bilirubin_within_days
        ]
        bilirubin = -min(near)[1] if near else None
        censor = _censor(row)
        values.append(
            Ca199Value(
                day=row["day"],
                value=value,
                censor=censor,
                platform=row.get("platform") or "",
                row=row,
                at_limit=censor == "<" or (not censor and not (detectable and value >= rules.non_secretor_below)),
                bilirubin=bilirubin,
                cholestatic=bilirubin is not None and bilirubin > rules.max_bilirubin_x_uln,
            )
        )
    return values


def _baseline(
    values: Sequence[Ca199Value], near: Sequence[Ca199Value], *, start: int, rules: Ca199Rules
) -> Ca199Value | str:
    """The value to compare those of the re-evaluation (``near``) with, or the reason why there is none."""
    days = rules.baseline_max_days_before
    before = [value for value in values if start - days <= value.day <= start]
    if not before:
        return f"no CA19-9 in the {days} days up to the start on day {start}"
    unobstructed = [value for value in before if not value.cholestatic]
    if not unobstructed:
        return f"the baseline {before[-1].flaw}"
    same_assay = [value for value in unobstructed if any(value.comparable(other) for other in near)]
    baseline = (same_assay or unobstructed)[-1]
    low, high = baseline.bounds
    if high <= rules.uln:
        return f"the baseline of {baseline.censor}{baseline.value:g} U/mL is not above {rules.uln:g}"
    if low < rules.uln and baseline.censor:
        return f"the baseline {baseline.flaw} and may not be above {rules.uln:g}"
    return baseline


def _censor(row: Row) -> str:
    """The sign of a censored value, "" for a value."""
    return row.get("censor") if row.get("censor") in ("<", ">") else ""


def _limits(value: float, censor: str) -> tuple[float, float]:
    """Lowest and highest level that a value allows."""
    return (0.0 if censor == "<" else value), (math.inf if censor == ">" else value)


def _fall_labels(baseline: Ca199Value, later: Ca199Value, *, uln: float) -> dict[str, Label]:
    """Labels that compare the re-evaluation with the baseline."""
    rows = (baseline.row, later.row)
    flaw = f"the baseline {baseline.flaw}" if baseline.flaw else ""
    flaw = flaw or (f"the re-evaluation {later.flaw}" if later.flaw else "")
    low, high = later.bounds

    def decided(yes: bool, no: bool) -> Label:
        return Label(str(int(yes)), "", rows) if yes or no else Label("", flaw, rows)

    unknown = "" if _below_assay(later) and not baseline.flaw else flaw
    labels = {
        "ca199_log2fc": _log2_ratio(later, baseline, unknown),
        "ca199_change": Label("", unknown, rows) if unknown else _label(100 * (later.value / baseline.value - 1), rows),
    }
    for cut in FALL_PERCENTS:
        share = (1 - cut / 100) * (1 + ROUNDING)
        labels[f"ca199_resp{cut}"] = decided(high <= baseline.bounds[0] * share, low > baseline.bounds[1] * share)
    labels["ca199_norm"] = decided(high < uln or (later.censor == "<" and high == uln), low >= uln)
    return labels


def _slope(baseline: Ca199Value, later: Sequence[Ca199Value], until: str) -> Label:
    """Least-squares slope of log2 values, from the baseline on."""
    values = [baseline, *later]
    rows = tuple(value.row for value in values)
    flaw = next((value.flaw for value in values if value.flaw), "")
    if len(values) < MIN_SLOPE_VALUES:
        return Label("", f"{len(values)} value(s) from the baseline on{until}, {MIN_SLOPE_VALUES} are needed", rows)
    if flaw or not all(value.value > 0 for value in values):
        return Label("", f"a value {flaw or 'is 0 and has no logarithm'}", rows)
    logs = [math.log2(value.value) for value in values]
    fit = statistics.linear_regression([value.day for value in values], logs)
    return _label(SLOPE_DAYS * fit.slope, rows)


def _nadir(baseline: Ca199Value, later: Sequence[Ca199Value], nadir: Ca199Value | None, until: str) -> Label:
    if nadir is None:
        return Label("", f"no value after the start of treatment{until}")
    below = (
        ""
        if _below_assay(nadir)
        else next((value.flaw for value in (*later, nadir) if _below_assay(value)), nadir.flaw)
    )
    flaw = f"the baseline {baseline.flaw}" if baseline.flaw else f"a value {below}" if below else ""
    return _log2_ratio(nadir, baseline, flaw)


def _below_assay(value: Ca199Value) -> bool:
    """Whether the value is known to lie below the limit of the assay, and nothing else clouds it."""
    return value.censor == "<" and not value.cholestatic


def _log2_ratio(later: Ca199Value, baseline: Ca199Value, flaw: str) -> Label:
    rows = (baseline.row, later.row)
    if flaw or later.value <= 0:
        return Label("", flaw or f"0 U/mL on day {later.day} has no logarithm", rows)
    return _label(math.log2(later.value / baseline.value), rows)


def _label(value: float, rows: tuple[Row, ...]) -> Label:
    return Label(f"{value:.10g}", "", rows)


def _index(given: Sequence[Row], parts: Sequence[str], function: Callable[..., float]) -> tuple[float | None, str]:
    """Value of an index from the rows of its parts, or None and the reason."""
    absent = sorted(set(parts) - {row["analyte"] for row in given})
    if absent:
        return None, f"no {' and '.join(absent)} on the same day"
    try:
        levels = [convert(row["analyte"], row["value"], row["unit"]) for row in given]
    except ValueError as error:
        return None, str(error)
    limits = [_limits(level, _censor(row)) for level, row in zip(levels, given, strict=True)]
    results = {float(function(*corner)) for corner in product(*limits)}
    value = results.pop()
    if results:
        return None, "censored value"
    return (None, "division by 0") if math.isinf(value) else (value, "")


def _measured(
    row: Row, disturbed: Mapping[int, str], mixed: Collection[str], *, timepoint: str, linear: Collection[str]
) -> list[Measure]:
    """Features of one row, on the scale of the tests."""
    analyte, recipe = row["analyte"], canonical_unit(row["analyte"])
    unit, censor = recipe or row["unit"], _censor(row)
    value, reason = row["value"], ""
    if value is None:
        reason = "value missing"
    elif analyte in NEUTROPHIL_BASED and row["day"] in disturbed:
        reason = disturbed[row["day"]]
    elif analyte in mixed:
        reason = f"unit {unit!r}, expected one unit throughout"
    elif recipe:
        try:
            value = convert(analyte, value, row["unit"])
        except ValueError as error:
            reason = str(error)
    if not reason and (censor == ">" or (censor and analyte != "kras_vaf")):
        reason = "censored value"
    if not reason and analyte == "kras_vaf":
        found = _kras(row, value)
    else:
        found = [(analyte, None if reason else value, unit, reason)]
    return [_on_scale(Measure(timepoint, *one), linear) for one in found]


def _on_scale(measure: Measure, linear: Collection[str]) -> Measure:
    """A measure of a level as it is compared: log2, but for ``linear``; left out where that has no logarithm."""
    level = measure.value
    if measure.reason or level is None:
        return measure
    if measure.feature in linear:
        return measure._replace(level=level)
    if level <= 0:
        return measure._replace(value=None, reason=NO_LOGARITHM)
    return measure._replace(value=math.log2(level), unit=f"{LOG2}{measure.unit}", level=level)


def _kras(row: Row, value: float) -> list[tuple[str, float | None, str, str]]:
    """Features as (feature, value, unit, reason): VAF with half the limit of detection added, and whether mutated KRAS
    was detected; without a limit of detection the latter alone.
    """
    below = _censor(row) == "<"
    lod = row["value"] if below and row.get("lod") is None else row.get("lod")
    limit = 0.0 if lod is None else convert("kras_vaf", lod, row["unit"])
    detected = float(not below and value > 0 and value >= limit)
    vaf = (None, "no limit of detection (column lod)")
    if limit > 0:
        vaf = ((0.0 if below else value) + limit / 2, "")
    return [("kras_detected", detected, "0 or 1", ""), ("kras_vaf", vaf[0], "fraction", vaf[1])]
