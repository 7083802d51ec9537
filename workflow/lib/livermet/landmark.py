"""What was known of a patient by a landmark day, so that nothing of the future is compared as if it were known.

Response, a fall of CA19-9 and an operation become known in the course of follow-up, and only to those who live to see
them: comparing survival from enrolment by such a fact counts the time before it as survival of those who have it
(Suissa 2008, doi:10.1093/aje/kwm324). At a landmark (Anderson, Cain and Gelber 1983, doi:10.1200/JCO.1983.1.11.710)
patients still at risk are compared by what was known then, and time counts from there. For times that count from
surgery the day of surgery is that landmark. Where the day on which a fact became known is not in the tables, it can't
be placed.

In a blinded run (:mod:`livermet.blinding`) labels of all patients and labels of the resection were given to different
patients. Days go with the labels, and a fact is looked up where the rest of the same course is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from livermet import keys
from livermet.blinding import BLIND_DAYS, BLIND_PARTNER, OF_SPECIMEN, is_of_resection
from livermet.blood import WINDOWS, Ca199Rules
from livermet.catalogue import RECIST
from livermet.compared import Label
from livermet.labels import FIRST_EVALUATION_DAYS, course_days

# Facts of the course that are compared wherever they have values, beside the primary label.
FACTS = ("disease_control", "objective_response", "ca199_resp50", "resected")
GATE = "disease_control"  # what the protocol asks of a patient before local treatment
RESPONDED = ("CR", "PR")
AT_REEVALUATION = ("ca199_resp50", "ca199_resp20", "ca199_resp70", "ca199_resp90", "ca199_norm")


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
    and first surgery of the liver, NaN without one: ``operated`` goes with the labels of all patients, ``surgery`` with
    those of the resection. ``partner``: who has the labels of all patients that belong to a patient's labels of the
    resection. In an open run ``operated`` and ``surgery`` are the same, and all are their own partners.
    """

    evaluations: pd.DataFrame
    days: pd.DataFrame
    partner: pd.Series


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
    treatment.tsv, treatment starts on the day of enrolment, as it does for the labels. Of a blinded run the table of
    patients tells the days.
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
    if BLIND_PARTNER in patients:
        blinded = patients.drop_duplicates(keys.PATIENT).set_index(keys.PATIENT)
        days = blinded[list(BLIND_DAYS.values())].set_axis(list(BLIND_DAYS), axis=1).astype(float)
        partner = blinded[BLIND_PARTNER]
        partner = partner[partner.notna() & (partner != "")].astype(object)
    else:
        days = course_days(treatment, local_treatment, patients)
        partner = pd.Series(days.index, index=days.index, dtype=object)
    days = days.rename(columns={"surgery": "operated"})
    days["surgery"] = days["operated"].reindex(partner).set_axis(partner.index).reindex(days.index)
    return Course(evaluations, days, partner)


def known_by(
    label: Label, course: Course, cutoff: pd.Series, *, rules: Rules, from_surgery: bool = False
) -> tuple[pd.Series, str]:
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
    from_surgery
        Whether the patients of ``cutoff`` are those of a time that counts from surgery; it matters in blinded runs.

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
    numbers, last = label.numbers, cutoff
    if is_of_resection(label.name):
        numbers = numbers.set_axis(_partners(numbers.index, course))
    if from_surgery:
        last = last.set_axis(_partners(last.index, course))
    patients = last.index.intersection(numbers.index)
    asked = cutoff.index[last.index.get_indexer(patients)]
    values, last = numbers.reindex(patients), last.reindex(patients)
    days = course.days.reindex(patients)
    seen = course.evaluations[course.evaluations[keys.PATIENT].isin(patients)]
    start = seen[keys.PATIENT].map(days["start"])
    late = seen[seen["day"] >= start + rules.first_min_days]
    if label.name == "resected":
        known = pd.Series(np.where(values == 1, days["operated"], -np.inf), index=patients)
        status = (days["operated"] <= last).astype(float)
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
        known = days["operated"]
        status = values.where(known <= last)
    else:
        known, status = pd.Series(np.nan, index=patients), pd.Series(np.nan, index=patients)
    status = status.set_axis(asked)
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


def _partners(patients: pd.Index, course: Course) -> pd.Index:
    """Who has the labels of all patients that belong to these patients' labels of the resection."""
    return pd.Index([course.partner.get(patient, patient) for patient in patients], dtype=object)
