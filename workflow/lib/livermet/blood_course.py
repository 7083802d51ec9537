"""Blood of patients over time: every value of every analyte, and what is measured of its course, with days and reasons.

A course is reduced to four numbers per patient and analyte (Matthews 1990, BMJ 300:230, summary measures): the value at
baseline, its change to the re-evaluation, the nadir up to then, and the slope over the first course of treatment. The
nadir of a whole course would be the lower the more draws there are, and there are more where treatment goes on because
it works: in simulated studies without any effect on these analytes it went with response in a third of the tests at a
nominal 5 %. The slope is that of the patient's own regression line. A mixed model over all patients would shrink it
towards the cohort's mean, and the more so the fewer values a patient has: the number for one patient would depend on
who else is in the table, and those who progress early, with few draws, would be pulled towards those who don't. With
three or four draws per patient its covariance is often not estimable either. A slope takes the course as a straight
line: where all values fall first and level off later, longer courses have flatter slopes.

Courses end with the first local treatment or change of regimen, and values by another assay than the baseline's are not
compared with it. What is known of CA19-9 (non-secretors, cholestasis, a normal baseline: R08) is judged by
:mod:`livermet.blood`. It is reckoned here from the draws again and not taken from the table of labels, whose rows
belong to other patients in a blinded run; the re-evaluation is that of the window, as for the other analytes.
"""

from __future__ import annotations

import logging
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from livermet import keys
from livermet.blood import (
    LOG2,
    SLOPE_DAYS,
    WINDOWS,
    Ca199Rules,
    Measure,
    ca199_course,
    ca199_values,
    linear_analytes,
    measures,
)
from livermet.course import Course, patient_course
from livermet.units import canonical_unit, convert

logger = logging.getLogger(__name__)

SERIES_COLUMNS = [
    *(keys.PATIENT, "analyte", "day", "days_on_treatment", "value", "unit", "level", "level_unit", "uln", "platform"),
    *("counts", "reason"),
]
MEASURE_COLUMNS = [
    *(keys.PATIENT, "analyte", "measure", "known_at", keys.TIMEPOINT, "value", "unit", "first_day", "last_day"),
    *("n_values", "code", "reason"),
]
BASELINE, CHANGE, SLOPE, NADIR = MEASURES = ("baseline", "change", "slope", "nadir")
KNOWN_AT = {BASELINE: "baseline", CHANGE: "re-evaluation", SLOPE: "end of first course", NADIR: "re-evaluation"}
TIMEPOINTS = {
    BASELINE: "T0_pre",
    CHANGE: "T0_pre to T1_reeval",
    SLOPE: "T0_pre to end of first course",
    NADIR: "T0_pre to T1_reeval",
}
CA199 = "ca199"
# In the words of livermet.blood: what makes CA19-9 no marker of a patient.
UNMARKED = re.compile(r"non-secretor|cholestasis|not (be )?above")


@dataclass(frozen=True)
class _Value:
    """A usable value: days on treatment, value on the scale of the tests, platform, whether of the first course."""

    day: int
    value: float
    platform: str
    counts: bool


def ca199_rules(given: Mapping[str, Any]) -> Ca199Rules:
    """Rules of CA19-9 from that section of the trial file; what it doesn't give has its default."""
    return Ca199Rules(**{field.name: given[field.name] for field in fields(Ca199Rules) if field.name in given})


def blood_series(blood: pd.DataFrame, treatment: pd.DataFrame, local_treatment: pd.DataFrame) -> pd.DataFrame:
    """Every value of every analyte and index, one row per patient, analyte and day.

    Parameters
    ----------
    blood, treatment, local_treatment
        The study tables.

    Returns
    -------
    ``SERIES_COLUMNS``. ``value`` is on the scale of the tests, as in the feature table
    (:func:`livermet.blood.linear_analytes`); ``unit`` says which. ``level`` is in the canonical unit of the analyte
    (``level_unit``), as is ``uln``. ``days_on_treatment`` counts from the first day of treatment, without one
    from enrolment. ``counts`` is 1 up to the end of the first course. A value that can't be used has a ``reason``
    and neither value nor level.
    """
    blood = blood.assign(value=pd.to_numeric(blood["value"]))
    units = blood.groupby("analyte")["unit"].nunique()
    mixed = [str(name) for name in units.index[units > 1] if canonical_unit(name) is None]
    scale = {"mixed": mixed, "linear": linear_analytes(blood["analyte"], blood["value"])}
    rows = []
    for patient, (course, draws) in _courses(blood, treatment, local_treatment).items():
        start, end = course.start or 0, math.inf if course.end is None else course.end[0]
        for day in sorted({row["day"] for row in draws}):
            drawn = [row for row in draws if row["day"] == day]
            last = {row["analyte"]: row for row in drawn}
            found = measures(drawn, start=day, surgery=None, windows={"T0_from_treatment": (0, 0)}, **scale)
            chosen = {}
            for measure in found:
                if measure.feature not in chosen or not measure.reason:
                    chosen[measure.feature] = measure
            for name, measure in sorted(chosen.items()):
                row = last.get(name, {})
                uln = row.get("uln")
                if uln is not None and canonical_unit(name):
                    uln = convert(name, uln, row["unit"])
                place, ending = (patient, name, day, day - start), (int(day <= end), measure.reason)
                rows.append((*place, *_scaled(measure), uln, row.get("platform") or "", *ending))
    table = pd.DataFrame(rows, columns=SERIES_COLUMNS)
    table = table.sort_values([keys.PATIENT, "analyte", "day"], kind="stable", ignore_index=True)
    logger.info("blood: %d values of %d patients", int(table["value"].notna().sum()), table[keys.PATIENT].nunique())
    return table.astype({"value": float, "level": float, "uln": float})


def measure_courses(
    blood: pd.DataFrame,
    patients: pd.DataFrame,
    treatment: pd.DataFrame,
    local_treatment: pd.DataFrame,
    *,
    windows: Mapping[str, Sequence[int]],
    rules: Ca199Rules,
    min_values: int,
) -> pd.DataFrame:
    """Baseline, change, slope and nadir of every analyte and index of each patient, or why there is none.

    Parameters
    ----------
    blood, patients, treatment, local_treatment
        The study tables; of the patients the column lewis_status, where there is one.
    windows
        The trial's windows of T0 and T1; those that it doesn't give are ``livermet.blood.WINDOWS``.
    rules
        What the trial says of CA19-9.
    min_values
        Values, the baseline's included, that a slope needs.

    Returns
    -------
    ``MEASURE_COLUMNS``, one row per patient, analyte and measure; patients without any blood value have none. Change
    and nadir are differences to the baseline on the scale of the value (log2 ratios for log2 values), the nadir that of
    the lowest value after the start, up to the end of the window of the re-evaluation; slopes are per 28 days.
    ``first_day`` and ``last_day`` are the days on treatment of the values behind it. ``code`` is R08 where CA19-9 is no
    marker of this patient.
    """
    windows = {**WINDOWS, **windows}
    series = blood_series(blood, treatment, local_treatment)
    units = series[series["unit"] != ""].groupby("analyte")["unit"].first()
    draws = _courses(blood.assign(value=pd.to_numeric(blood["value"])), treatment, local_treatment)
    lewis = dict(zip(patients[keys.PATIENT], patients.get("lewis_status", pd.Series("", patients.index)), strict=True))
    analytes = sorted(series["analyte"].unique())
    by_patient: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in series.to_dict("records"):
        by_patient.setdefault((row[keys.PATIENT], row["analyte"]), []).append(row)
    rows = []
    for patient, (course, drawn) in draws.items():
        for analyte in analytes:
            given = by_patient.get((patient, analyte), [])
            found = _summary(given, course, windows=windows, min_values=min_values)
            if analyte == CA199:
                status = lewis.get(patient)
                options = {"windows": windows, "rules": rules, "min_values": min_values}
                found |= _ca199(drawn, course, lewis_status=status if isinstance(status, str) else "", **options)
            for measure, (value, days, n_values, reason) in found.items():
                code = "R08" if analyte == CA199 and UNMARKED.search(reason) else ""
                first, last = (min(days), max(days)) if days else (pd.NA, pd.NA)
                unit = _unit_of(measure, units.get(analyte, ""))
                place = (patient, analyte, measure, KNOWN_AT[measure], TIMEPOINTS[measure])
                rows.append((*place, value, unit, first, last, n_values, code, reason))
    table = pd.DataFrame(rows, columns=MEASURE_COLUMNS)
    return table.astype({"value": float, "first_day": "Int64", "last_day": "Int64", "n_values": "int64"})


def _courses(
    blood: pd.DataFrame, treatment: pd.DataFrame, local_treatment: pd.DataFrame
) -> dict[str, tuple[Course, list[dict[str, Any]]]]:
    """Course and rows of blood.tsv of each patient who has any."""
    treated, operated = _records(treatment), _records(local_treatment)
    return {
        patient: (patient_course(treated.get(patient, []), operated.get(patient, [])), rows)
        for patient, rows in _records(blood).items()
    }


def _records(table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Rows of each patient in the order of the table, with None where a value is missing."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        grouped.setdefault(str(row[keys.PATIENT]), []).append(row)
    return dict(sorted(grouped.items()))


def _scaled(measure: Measure) -> tuple[float, str, float, str]:
    """Value and unit on the scale of the tests, level and unit for people; numbers are NaN where there is a reason."""
    level_unit = measure.unit.removeprefix(LOG2)
    if measure.value is None or measure.level is None:
        return math.nan, "", math.nan, level_unit
    return measure.value, measure.unit, measure.level, level_unit


def _unit_of(measure: str, unit: str) -> str:
    """Unit of a measure of values in ``unit``."""
    if measure == BASELINE or not unit:
        return unit
    if unit.startswith(LOG2):
        return f"log2 fold per {SLOPE_DAYS} days" if measure == SLOPE else "log2 fold"
    return f"{unit} per {SLOPE_DAYS} days" if measure == SLOPE else f"difference, {unit}"


Summary = dict[str, tuple[float, list[int], int, str]]  # value, days, number of values, reason


def _missing(reason: str, n_values: int = 0) -> tuple[float, list[int], int, str]:
    return math.nan, [], n_values, reason


def _summary(
    given: Sequence[Mapping[str, Any]], course: Course, *, windows: Mapping[str, Sequence[int]], min_values: int
) -> Summary:
    """The four measures of one analyte of one patient, from the rows of its series."""
    values = [
        _Value(int(row["days_on_treatment"]), float(row["value"]), row["platform"], bool(row["counts"]))
        for row in given
        if not row["reason"]
    ]
    first, last = windows["T0_from_treatment"]
    before = [value for value in values if first <= value.day <= last and value.counts]
    if not before:
        unusable = [row["reason"] for row in given if row["reason"] and first <= row["days_on_treatment"] <= last]
        why = f": {unusable[-1]}" if unusable else ""
        reason = f"no value from day {first} to {last} of treatment{why}"
        return dict.fromkeys(MEASURES, _missing(reason))
    baseline = before[-1]
    after = [value for value in values if value.day > max(last, baseline.day)]
    followed = [value for value in after if value.counts and _same_assay(value, baseline)]
    until = "" if course.end is None else f" up to {course.end[1]} on day {course.end[0]}"
    found: Summary = {BASELINE: (baseline.value, [baseline.day], 1, "")}

    low, high = windows["T1_from_treatment"]
    near = [value for value in followed if low <= value.day <= high]
    if near:
        then = min(near, key=lambda value: (abs(value.day - (low + high) / 2), -value.day))
        found[CHANGE] = (then.value - baseline.value, [baseline.day, then.day], 2, "")
    elif any(low <= value.day <= high and value.counts for value in after):
        found[CHANGE] = _missing(f"the assay changed: no value by {baseline.platform} from day {low} to {high}")
    else:
        found[CHANGE] = _missing(f"no value from day {low} to {high} of treatment{until}")

    course_values = [baseline, *followed]
    days = [value.day for value in course_values]
    if len(course_values) < min_values:
        reason = f"{len(course_values)} value(s) from the baseline on{until}, {min_values} are needed"
        found[SLOPE] = _missing(reason, len(course_values))
    else:
        slope = statistics.linear_regression(days, [value.value for value in course_values]).slope
        found[SLOPE] = (SLOPE_DAYS * slope, days, len(days), "")
    by_then = [value for value in followed if value.day <= high]
    if by_then:
        lowest = min(by_then, key=lambda value: (value.value, value.day))
        found[NADIR] = (lowest.value - baseline.value, [baseline.day, lowest.day], 1 + len(by_then), "")
    else:
        found[NADIR] = _missing(f"no value from the start of treatment to day {high}{until}")
    return found


def _same_assay(value: _Value, baseline: _Value) -> bool:
    """Whether both are by the same assay, as far as the table tells."""
    return value.platform == baseline.platform or not (value.platform and baseline.platform)


def _ca199(
    drawn: Sequence[Mapping[str, Any]],
    course: Course,
    *,
    lewis_status: str,
    windows: Mapping[str, Sequence[int]],
    rules: Ca199Rules,
    min_values: int,
) -> Summary:
    """The four measures of CA19-9, by the rules of its labels.

    A normal value of a patient who secretes CA19-9 is a baseline, but no course can be followed from it.
    """
    start, window = course.start or 0, tuple(windows["T1_from_treatment"])
    options = {"start": start, "evaluation_day": None, "lewis_status": lewis_status, "rules": rules, "window": window}
    found = ca199_course(drawn, end=course.end, **options)
    reevaluated = (start + window[1], "the re-evaluation")
    by_then = min(reevaluated, course.end) if course.end else reevaluated
    labels = {
        CHANGE: found.labels["ca199_log2fc"],
        SLOPE: found.labels["ca199_slope"],
        NADIR: ca199_course(drawn, end=by_then, **options).labels["ca199_nadir"],
    }
    result: Summary = {}
    for measure, label in labels.items():
        days = [row["day"] - start for row in label.rows]
        if label.value and (measure != SLOPE or len(days) >= min_values):
            result[measure] = (float(label.value), days, len(days), "")
        else:
            reason = label.reason or f"{len(days)} value(s) from the baseline on, {min_values} are needed"
            result[measure] = _missing(reason, len(days))
    reason = found.labels["ca199_log2fc"].reason
    if "non-secretor" in reason:
        return {BASELINE: _missing(reason), **result}
    try:
        values = ca199_values([row for row in drawn if row["value"] is not None], rules=rules)
    except ValueError as error:
        return {BASELINE: _missing(str(error)), **result}
    days = rules.baseline_max_days_before
    before = [value for value in values if -days <= value.day - start <= 0]
    levels = [value for value in before if not value.flaw and value.value > 0]
    chosen = found.baseline if found.baseline in levels else levels[-1] if levels else None
    if chosen:
        result[BASELINE] = (float(np.log2(chosen.value)), [chosen.day - start], 1, "")
    elif before:
        result[BASELINE] = _missing(f"the baseline {before[-1].flaw or 'is 0 and has no logarithm'}")
    else:
        result[BASELINE] = _missing(f"no CA19-9 in the {days} days up to the start of treatment")
    return result
