"""What was known of a patient by a landmark day, so that nothing of the future is compared as if it were known.

Response, a fall of CA19-9 and an operation become known in the course of follow-up, and only to those who live to see
them: comparing survival from enrolment by such a fact counts the time before it as survival of those who have it
(Suissa 2008, doi:10.1093/aje/kwm324). At a landmark (Anderson, Cain and Gelber 1983, doi:10.1200/JCO.1983.1.11.710)
patients still at risk are compared by what was known then, and time counts from there. For times that count from
surgery the day of surgery is that landmark. Where the day on which a fact became known is not in the tables, it can't
be placed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from livermet import keys
from livermet.blood import WINDOWS, Ca199Rules
from livermet.catalogue import RECIST
from livermet.compared import Label
from livermet.course import patient_course
from livermet.labels import FIRST_EVALUATION_DAYS

# Facts of the course that are compared wherever they have values, beside the primary label.
FACTS = ("disease_control", "objective_response", "ca199_resp50", "resected")
GATE = "disease_control"  # what the protocol asks of a patient before local treatment
RESPONDED = ("CR", "PR")
AT_REEVALUATION = ("ca199_resp50", "ca199_resp20", "ca199_resp70", "ca199_resp90", "ca199_norm")
OF_SPECIMEN = ("path_cap01", "ypM0")


@dataclass(frozen=True)
class Rules:
    """The trial's rules that say when something was known, in days.

    ``first_min_days``: first re-evaluation, from the start of treatment; ``window_end``: end of the window of blood
    values of the re-evaluation, from the same day; ``within_days``: how long after the scan such a value may be drawn.
    """

    first_min_days: int
    window_end: int
    within_days: int


@dataclass(frozen=True)
class Course:
    """Dated facts of all patients, in days from enrolment.

    ``evaluations``: patient_id, day, response (CR, PR, SD or PD), by day. ``days``: by patient, ``start`` of treatment
    and first ``surgery`` of the liver, NaN without one.
    """

    evaluations: pd.DataFrame
    days: pd.DataFrame


def trial_rules(trial: Mapping[str, Any]) -> Rules:
    """The rules from the trial file, with the defaults that the labels are derived by."""
    return Rules(
        first_min_days=trial.get("evaluation", {}).get("first_min_days", FIRST_EVALUATION_DAYS),
        window_end=trial.get("windows", {}).get("T1_from_treatment", WINDOWS["T1_from_treatment"])[1],
        within_days=trial.get("ca199", {}).get("evaluation_within_days", Ca199Rules().evaluation_within_days),
    )


def read_course(
    recist: pd.DataFrame,
    response: pd.DataFrame,
    treatment: pd.DataFrame,
    local_treatment: pd.DataFrame,
    patients: pd.DataFrame,
) -> Course:
    """Dated facts from the evaluations by RECIST and from the study tables.

    A patient without computed evaluations has those that response.tsv reports with a day. Without a row in
    treatment.tsv, treatment starts on the day of enrolment, as it does for the labels.
    """
    columns = [keys.PATIENT, "day", "response"]
    computed = recist.loc[recist["counts"] == "yes", columns].replace({"response": {"nonCR_nonPD": "SD"}})
    reported = response[[keys.PATIENT, "eval_day", "recist"]].set_axis(columns, axis=1)
    computed, reported = (
        table[table["day"].notna() & table["response"].isin(RECIST)].astype({"day": float})
        for table in (computed, reported)
    )
    reported = reported[~reported[keys.PATIENT].isin(computed[keys.PATIENT])]
    evaluations = pd.concat([computed, reported]).sort_values([keys.PATIENT, "day"], kind="stable", ignore_index=True)
    rows = []
    treated, operated = _records(treatment), _records(local_treatment)
    for patient in patients[keys.PATIENT].unique():
        course = patient_course(treated.get(patient, []), operated.get(patient, []))
        surgery = np.nan if course.surgery is None else float(course.surgery["day"])
        rows.append((patient, float(course.start or 0), surgery))
    days = pd.DataFrame(rows, columns=[keys.PATIENT, "start", "surgery"]).set_index(keys.PATIENT)
    return Course(evaluations, days)


def known_by(label: Label, course: Course, cutoff: pd.Series, *, rules: Rules) -> tuple[pd.Series, str]:
    """Status of each patient as it was known on a day.

    Parameters
    ----------
    label
        A binary label.
    course
        As made by :func:`read_course`.
    cutoff
        By patient, the day from enrolment up to which something may be known.
    rules
        The trial's.

    Returns
    -------
    0 or 1 by patient, NaN where nothing was known by then, for the patients of ``cutoff`` with a value of the label;
    and why the fact can't be placed, "" where it can.

    Notes
    -----
    An operation and a response can come later than the landmark: who had it by then has it, who has it later does not.
    Disease control is decided once, at the first progression or the first late enough evaluation. A fall of CA19-9 is
    known when no later value could stand for the re-evaluation, findings in a specimen from the day of surgery on.
    """
    patients = cutoff.index.intersection(label.numbers.index)
    values, last = label.numbers.reindex(patients), cutoff.reindex(patients)
    days = course.days.reindex(patients)
    seen = course.evaluations[course.evaluations[keys.PATIENT].isin(patients)]
    start = seen[keys.PATIENT].map(days["start"])
    late = seen[seen["day"] >= start + rules.first_min_days]
    if label.name == "resected":
        known = pd.Series(np.where(values == 1, days["surgery"], -np.inf), index=patients)
        status = (days["surgery"] <= last).astype(float)
    elif label.name == "objective_response":
        known = _first(seen, patients)
        status = (_first(seen[seen["response"].isin(RESPONDED)], patients) <= last).astype(float).where(known <= last)
    elif label.name == GATE:
        known = _first(seen[seen["response"] == "PD"], patients).where(values == 0, _first(late, patients))
        status = values.where(known <= last)
    elif label.name in AT_REEVALUATION:
        known = np.maximum(days["start"] + rules.window_end, _first(late, patients).fillna(0) + rules.within_days)
        status = values.where(known <= last)
    elif label.name in OF_SPECIMEN:
        known = days["surgery"]
        status = values.where(known <= last)
    else:
        known, status = pd.Series(np.nan, index=patients), pd.Series(np.nan, index=patients)
    undated = int(known.isna().sum())
    if not undated:
        return status, ""
    return status, (
        f"the day on which {label.name} became known is not in the study tables for {undated} of {len(patients)} "
        f"patients at risk, so they can't be placed before or after a landmark. Lifted by dated evaluations and "
        f"treatments"
    )


def _first(evaluations: pd.DataFrame, patients: pd.Index) -> pd.Series:
    """Day of each patient's first evaluation among these, NaN without one."""
    return evaluations.groupby(keys.PATIENT)["day"].min().reindex(patients)


def _records(table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Rows of each patient, with None where a value is missing."""
    plain = table.astype(object).where(table.notna(), None)
    return {str(patient): rows.to_dict("records") for patient, rows in plain.groupby(keys.PATIENT, sort=True)}
