"""Response labels per patient, each with the rows that it came from or the reason why it is missing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pandas as pd

from livermet.config import DERIVED_LABELS

logger = logging.getLogger(__name__)

# The order of RECIST 1.1, best first: the codes of recist_best.
RECIST = ("CR", "PR", "SD", "PD")
NOT_EVALUABLE = "NE"
POSITIVE = {"disease_control": ("CR", "PR", "SD"), "objective_response": ("CR", "PR")}
COLUMNS = ("patient_id", "label", "kind", "value", "source", "reason")
# A course that began longer before enrolment than a baseline scan may lie back is treatment of earlier disease.
EARLIER_DAYS = 28


def study_courses(treatment: pd.DataFrame) -> pd.DataFrame:
    """Courses of systemic treatment that belong to the study, without those of earlier disease, by day of start."""
    own = treatment["start_day"].astype(float) >= -EARLIER_DAYS
    return treatment[own].sort_values("start_day", kind="stable")


def treatment_starts(treatment: pd.DataFrame) -> dict[str, int]:
    """First day of the study's treatment per patient; patients without a course of the study have none."""
    return {
        str(patient): int(day)
        for patient, day in study_courses(treatment).groupby("patient_id")["start_day"].min().items()
    }


def derive_labels(
    tables: Mapping[str, pd.DataFrame], *, declared: Mapping[str, Mapping[str, Any]], sd_min_days: int
) -> pd.DataFrame:
    """Derive all labels that the tables allow.

    Parameters
    ----------
    tables
        The checked study tables; patients, response, treatment and local_treatment are used.
    declared
        Further label columns of response.tsv: kind (binary, ordinal, continuous), for a binary one the positive
        value, for an ordinal one the levels in order.
    sd_min_days
        Days from the start of treatment that stable disease must last; a patient seen stable only earlier has no value.

    Returns
    -------
    One row per label and patient: patient_id, label, kind, value, source, reason. ``value`` is text: 0 or 1 for a
    binary label (1: response), the position for an ordinal one (recist_best: 0 is CR, 3 is PD), the number for a
    continuous one; "" where missing, and then ``reason`` says why.

    Notes
    -----
    Best response is the one reported in a row without ``eval_day``; else the best over the evaluations up to the
    first progression (RECIST 1.1, Eisenhauer 2009, section 4.4.1) and up to the first local treatment or change of
    regimen, since what surgery removes is no response to treatment. NE is never a value: it is neither response nor
    progression, and a patient with nothing else has none. Evaluations up to the start of treatment are baselines, and
    treatment of earlier disease (:func:`study_courses`) ends nothing. Without a row in the treatment table, days count
    from enrolment.
    """
    patients = list(tables["patients"]["patient_id"])
    response = tables["response"]
    starts = treatment_starts(tables["treatment"])
    ends = _treatment_ends(tables, starts)
    rows = []
    best = {
        patient: _best_response(
            response[response["patient_id"] == patient],
            start=starts.get(patient, 0),
            end=ends.get(patient),
            sd_min_days=sd_min_days,
        )
        for patient in patients
    }
    for label, kind in DERIVED_LABELS.items():
        for patient, (value, source, reason) in best.items():
            code = "" if not value else str(_code(label, value))
            rows.append((patient, label, kind, code, source, reason))
    for label, definition in declared.items():
        for patient in patients:
            own = response[response["patient_id"] == patient]
            rows.append((patient, label, definition["kind"], *_declared_value(own, label, definition)))
    labels = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    known = labels[labels["value"] != ""].groupby("label").size()
    for label in [*DERIVED_LABELS, *declared]:
        logger.info("label %s: %d of %d patients have a value", label, known.get(label, 0), len(patients))
    return labels


def _code(label: str, response: str) -> int:
    return RECIST.index(response) if label == "recist_best" else int(response in POSITIVE[label])


def _treatment_ends(tables: Mapping[str, pd.DataFrame], starts: Mapping[str, int]) -> dict[str, tuple[int, str]]:
    """Per patient, the day until which evaluations speak of the first regimen alone, and what ends it."""
    ends: dict[str, tuple[int, str]] = {}
    local = tables["local_treatment"]
    for row in local[local["type"] != "exploratory_only"].itertuples():
        if row.day >= starts.get(row.patient_id, 0):
            end = (int(row.day), "local treatment")
            ends[row.patient_id] = min(ends.get(row.patient_id, end), end)
    for patient, courses in study_courses(tables["treatment"]).groupby("patient_id"):
        changed = courses[courses["regimen"] != courses["regimen"].iloc[0]]
        if len(changed):
            end = (int(changed["start_day"].iloc[0]), "change of regimen")
            ends[patient] = min(ends.get(patient, end), end)
    return ends


def _best_response(
    own: pd.DataFrame, *, start: int, end: tuple[int, str] | None, sd_min_days: int
) -> tuple[str, str, str]:
    """Best response of one patient from the patient's rows of response.tsv, as (value, source, reason)."""
    given = own[own["recist"] != ""]
    if given.empty:
        return "", "", "no RECIST value in response.tsv"
    reported = given.loc[given["eval_day"].isna(), "recist"]
    if len(reported):
        source = "response.tsv: best response as reported"
        value = reported.iloc[0]
        return ("", source, "reported as not evaluable (NE)") if value == NOT_EVALUABLE else (value, source, "")
    given = given[given["eval_day"] > start].sort_values("eval_day", kind="stable")
    counted = given if end is None else given[given["eval_day"] <= end[0]]
    limit = "" if end is None or len(counted) == len(given) else f" up to {end[1]} on day {end[0]}"
    progression = counted.loc[counted["recist"] == "PD", "eval_day"]
    if len(progression):
        after = counted["eval_day"] > progression.iloc[0]
        limit = f" up to progression on day {progression.iloc[0]}" if after.any() else limit
        counted = counted[~after]
    early = (counted["recist"] == "SD") & (counted["eval_day"] - start < sd_min_days)
    evaluable = counted.loc[~early & (counted["recist"] != NOT_EVALUABLE), "recist"]
    n_missing = int((counted["recist"] == NOT_EVALUABLE).sum())
    source = f"response.tsv: best of {_evaluations(len(counted))}{limit}"
    if n_missing:
        source += f", {n_missing} of them not evaluable (NE)"
    if early.any():
        source += f", {early.sum()} of them too early for stable disease"
    if len(evaluable):
        return min(evaluable, key=RECIST.index), source, ""
    if counted.empty:
        reason = f"no evaluation after the start of treatment on day {start}{limit}"
    elif early.any():
        reason = f"seen stable only before day {sd_min_days} of treatment{limit}"
    else:
        reason = "all evaluations are not evaluable (NE)"
    return "", source, reason


def _declared_value(own: pd.DataFrame, label: str, definition: Mapping[str, Any]) -> tuple[str, str, str]:
    """Value of a declared label from the patient's rows of response.tsv, as (value, source, reason)."""
    given = own[~(own[label].isna() | (own[label] == ""))]
    if given.empty:
        return "", "", f"no value of {label} in response.tsv"
    summary = given.loc[given["eval_day"].isna(), label]
    values = summary if len(summary) else given[label]
    different = len(set(values))
    if different > 1:
        reason = f"{different} different values; give the one that counts in a row without eval_day"
        return "", f"response.tsv: {_evaluations(len(values))}", reason
    source = "response.tsv: row without eval_day" if len(summary) else f"response.tsv: {_evaluations(len(values))}"
    value = values.iloc[0]
    if definition["kind"] == "binary":
        return str(int(value == definition["positive"])), source, ""
    if definition["kind"] == "ordinal":
        return str(definition["levels"].index(value)), source, ""
    return f"{value:.10g}", source, ""


def _evaluations(n: int) -> str:
    return f"{n} evaluation{'s' * (n != 1)}"
