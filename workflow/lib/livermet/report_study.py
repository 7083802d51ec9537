"""What the cohort report says of the labels and of what the checks found.

Tables in, plain values out: no HTML here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd

from livermet.catalogue import LABELS, label_timepoints
from livermet.findings import SEVERITIES
from livermet.pages import significant
from livermet.report_data import level_names, records, text, value_words
from livermet.report_flow import Loss, count_reasons

MAIN_LABELS = (
    *("recist_best", "disease_control", "objective_response", "sld_change", "ca199_log2fc", "ca199_resp50"),
    *("path_cap", "resected", "early_relapse6", "pfs", "os"),
)
SHOWN_REASONS = 3
# Columns of recist.tsv as the page shows them, for the course of a patient and for what was reported otherwise.
COURSE_COLUMNS = (
    *(("day", "day"), ("days_on_treatment", "on treatment"), ("sum_mm", "sum, mm"), ("liver_sum_mm", "liver, mm")),
    *(("change_from_baseline_pct", "to baseline, %"), ("change_from_nadir_pct", "to nadir, %")),
    *(("target", "target"), ("nontarget", "non-target"), ("new_lesion", "new"), ("response", "response")),
    *(("reported", "reported"), ("confirmed", "confirmed"), ("counts", "counts"), ("reason", "why"), ("rows", "rows")),
)
DIFFERING_COLUMNS = (
    *(("day", "day"), ("reported", "reported"), ("response", "computed")),
    *(("change_from_baseline_pct", "to baseline, %"), ("change_from_nadir_pct", "to nadir, %")),
    *(("nontarget", "non-target"), ("new_lesion", "new"), ("reason", "why"), ("rows", "rows")),
)
# What each rule of the study's logic asks, in a few words.
RULES = {
    "V01": "ids refer to each other",
    "V02": "largest metastasis as measured",
    "V03": "synchronous or metachronous",
    "V04": "limits of the cohort",
    "V05": "performance status, age",
    "V06": "order of events",
    "V07": "chemotherapy before local treatment",
    "V08": "timepoint of the sample",
    "V09": "regression is scored on resections",
    "V10": "growth patterns add up",
    "V11": "bilirubin beside CA19-9",
    "V12": "values and units are plausible",
    "V13": "one assay per patient",
    "V14": "target lesions of RECIST",
    "V15": "response as reported and as computed",
    "V16": "centre and batch apart from response",
    "V17": "sex and identity of libraries",
    "V18": "tissue is what it is called",
    "V19": "consent",
    "V20": "coordinates and their unit",
}
MEANING = {
    "error": "stops the run",
    "exclusion": "costs one library, the others go on",
    "deviation": "departs from the protocol, stops nothing",
    "warning": "stops nothing, should be looked at",
}


@dataclass(frozen=True)
class Split:
    """The patients with a value of one label: their number, and how they divide.

    ``parts`` holds name and number of each class, or of events and censored times; ``spread`` is the median and range
    of a continuous label in words.
    """

    n: int
    parts: tuple[tuple[str, int], ...] = ()
    spread: str = ""


@dataclass(frozen=True)
class LabelRow:
    """One label over all patients.

    Attributes
    ----------
    name, meaning, kind, primary
        What it is; ``primary`` for the one that the verdict is about.
    timepoints, untested
        Timepoints of the tissue that it goes with, and why it can't be compared at all ("" where it can).
    known
        Patients with a value.
    missing
        Patients without one by reason, the most frequent first, and how many have another reason than those.
    analysed
        Patients with a value among those who are analysed, by group of modalities.
    """

    name: str
    meaning: str
    kind: str
    primary: bool
    timepoints: tuple[str, ...]
    untested: str
    known: Split
    missing: tuple[Loss, ...]
    other_reasons: int
    analysed: Mapping[str, Split]


@dataclass(frozen=True)
class PatientLabels:
    """All labels of one patient.

    Attributes
    ----------
    main
        Value in words and reason of each main label, in their order.
    groups
        Labels that share source and reason: (source, reason, pairs of label and value).
    course
        Rows of the patient's course by RECIST.
    known, total, differing
        Labels with a value, all labels, and evaluations that were reported otherwise than they are computed.
    """

    patient_id: str
    main: tuple[tuple[str, str], ...]
    groups: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]
    course: tuple[Mapping[str, Any], ...]
    known: int
    total: int
    differing: int


@dataclass(frozen=True)
class FindingsView:
    """Findings of both checks, the gravest first; number and meaning by severity."""

    rows: tuple[Mapping[str, Any], ...]
    counts: tuple[tuple[str, int, str], ...]


def label_rows(
    labels: pd.DataFrame,
    *,
    analysed: Mapping[str, Iterable[str]],
    primary: str,
    declared: Mapping[str, Mapping[str, Any]],
) -> list[LabelRow]:
    """One row per label: the primary one, the derived ones as the catalogue has them, the declared ones.

    Parameters
    ----------
    labels
        The table of labels.
    analysed
        Patients who are analysed, by group of modalities.
    primary
        The label of the verdict.
    declared
        Labels that the config declares.
    """
    groups = {str(name): group for name, group in labels.groupby("label", sort=True)}
    levels = level_names(declared)
    rows = []
    for name in label_order(groups, primary=primary, declared=declared):
        group, known = groups[name], groups[name][groups[name]["value"].map(text) != ""]
        kind, names = group["kind"].iloc[0], levels.get(name, ())
        without = group[~group["patient_id"].isin(known["patient_id"])]
        reasons = count_reasons(
            {row["patient_id"]: text(row["reason"]) or "no reason given" for row in without.to_dict(orient="records")}
        )
        rows.append(
            LabelRow(
                name=name,
                meaning=LABELS[name].meaning if name in LABELS else _declared_meaning(declared[name]),
                kind=kind,
                primary=name == primary,
                timepoints=label_timepoints(name, declared),
                untested=LABELS[name].untested if name in LABELS else "",
                known=split(known, kind=kind, levels=names),
                missing=tuple(Loss(reason, len(ids), ids) for reason, ids in reasons[:SHOWN_REASONS]),
                other_reasons=sum(len(ids) for _, ids in reasons[SHOWN_REASONS:]),
                analysed={
                    modality: split(known[known["patient_id"].isin(patients)], kind=kind, levels=names)
                    for modality, patients in analysed.items()
                },
            )
        )
    return rows


def _declared_meaning(definition: Mapping[str, Any]) -> str:
    what = f": yes is {definition['positive']}" if definition["kind"] == "binary" else ""
    return f"declared in the config{what}"


def label_order(names: Iterable[str], *, primary: str, declared: Iterable[str]) -> list[str]:
    """The primary label, the derived ones as the catalogue has them, the declared ones as the config has them."""
    place = {name: i for i, name in enumerate([*LABELS, *declared])}
    return sorted(names, key=lambda name: (name != primary, place[name]))


def split(known: pd.DataFrame, *, kind: str, levels: Sequence[str]) -> Split:
    """How the patients with a value divide.

    Parameters
    ----------
    known
        Rows of one label that have a value.
    kind, levels
        Kind of the label, and the names of its codes if it is ordinal and has them.
    """
    values = pd.to_numeric(known["value"])
    if kind == "continuous":
        low, median, high = (significant(value) for value in (values.min(), values.median(), values.max()))
        return Split(len(known), spread=f"median {median} ({low} to {high})" if len(known) else "")
    if kind == "survival":
        events = int((pd.to_numeric(known["event"]) == 1).sum())
        return Split(len(known), parts=(("event", events), ("censored", len(known) - events)))
    codes = (1, 0) if kind == "binary" else range(len(levels)) if levels else sorted(set(values.astype(int)))
    counts = values.astype(int).value_counts()
    return Split(
        len(known), parts=tuple((value_words(kind, code, levels=levels), int(counts.get(code, 0))) for code in codes)
    )


def patient_labels(
    labels: pd.DataFrame, recist: pd.DataFrame, *, main: Sequence[str], declared: Mapping[str, Mapping[str, Any]]
) -> list[PatientLabels]:
    """How each label of each patient came about.

    Parameters
    ----------
    labels, recist
        The tables of labels and of evaluations by RECIST.
    main
        Labels of the overview.
    declared
        Labels that the config declares.

    Returns
    -------
    One entry per patient of the table of labels, by id.
    """
    courses = {patient: records(course) for patient, course in recist.sort_values("day").groupby("patient_id")}
    levels = level_names(declared)
    place = {name: i for i, name in enumerate(label_order(set(labels["label"]), primary="", declared=declared))}
    patients = []
    for patient, own in labels.groupby("patient_id", sort=True):
        rows = sorted(own.to_dict(orient="records"), key=lambda row: place[row["label"]])
        cells = {
            row["label"]: (
                value_words(row["kind"], row["value"], event=row["event"], levels=levels.get(row["label"], ())),
                text(row["source"]),
                text(row["reason"]),
            )
            for row in rows
        }
        course = courses.get(patient, [])
        patients.append(
            PatientLabels(
                patient_id=str(patient),
                main=tuple((cells[name][0], cells[name][2]) if name in cells else ("", "") for name in main),
                groups=tuple(
                    (source, reason, tuple((name, cells[name][0]) for name in names))
                    for (source, reason), names in groupby(cells, key=lambda name: cells[name][1:])
                ),
                course=tuple(course),
                known=sum(bool(value) for value, _, _ in cells.values()),
                total=len(cells),
                differing=sum(row["agrees"] == "no" for row in course),
            )
        )
    return patients


def main_labels(labels: pd.DataFrame, *, primary: str, declared: Iterable[str]) -> list[str]:
    """The labels of the overview of patients: the primary one first, then the main and the declared ones, if known."""
    present = label_order(set(labels["label"]), primary=primary, declared=declared)
    return [name for name in present if name == primary or name in MAIN_LABELS or name not in LABELS]


def findings_view(study: pd.DataFrame, after_qc: pd.DataFrame) -> FindingsView:
    """Findings on the tables and findings after quality control as one list, each with the title of its rule."""
    rows = [
        {**row, "when": when, "title": RULES.get(row["rule"], "")}
        for when, table in (("tables", study), ("after QC", after_qc))
        for row in records(table)
    ]
    rows.sort(key=lambda row: SEVERITIES.index(row["severity"]))
    return FindingsView(
        rows=tuple(rows),
        counts=tuple(
            (severity, sum(row["severity"] == severity for row in rows), MEANING[severity]) for severity in SEVERITIES
        ),
    )
