"""Blinded runs: outcome changes places between the patients of a centre, so that no number says anything of response.

A study can be set up and checked on such a run before anyone looks at response. Two exchanges are drawn:

- Labels of all patients (response, CA19-9, times from enrolment, whether someone was operated on) move together, within
  the centre, and with them the tables and days that they come from: evaluations, start of treatment, day of surgery.
- Labels of resected patients alone (findings in the specimen, times from surgery) move together among the patients of a
  centre who have such a label: those whose specimen was assessed among themselves, and the others among themselves.

So a comparison at surgery, or from surgery on, holds as many patients of each class as the real run. The table of
patients says which of the exchanged labels belong together, so that times of one kind can be compared by facts of the
other. Where a centre has one such patient, these form a pool over centres; where the study has fewer than three, the
labels are withheld, since everyone would know whose they are.

Three things do change with the draw: classes among patients of whom a part was not measured; classes of a label of all
patients in tissue of the resection (kept apart by surgery, response would stay with those who had it); and refusals by
what the label goes with (batch and the like in R05; R18).

What is measured stays with its patient, and so do treatments and operations in their own tables, since blood is read by
them: who may know of no patient's course should not be given these, blood values after the start of treatment, or
samples of the resection. Blinding keeps from seeing an outcome by accident. Whoever compares days across tables, or
draws the exchange again from the seed, can undo it.

It imports next to nothing, since the workflow asks it about the results folder whenever it is parsed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from livermet.catalogue import LABELS, RESECTION
from livermet.findings import Finding

if TYPE_CHECKING:
    import pandas as pd

MASKED = "masked: the run is blinded"
MASKED_FINDING = (
    "masked, since it may tell a patient's outcome; `python -m livermet check` shows it to who keeps the tables"
)
STAMP = ".blinding"  # beside the stamp of the working directory, in the results
KINDS = {True: "blinded", False: "open"}

# Tables that say how a patient fared. Treatment, samples and blood are needed to take features at the right time.
OUTCOME_TABLES = ("scans", "lesions", "response", "outcome")
# Of a pathology report, what is a label; the growth pattern describes the section.
PATHOLOGY_OUTCOME = ("cap_trs", "viable_tumour_pct", "ypm")
OUTCOME_RULES = ("V14", "V15")
LESION_COLUMNS = ("lesion_id", "related_lesion_id")
OF_SPECIMEN = ("path_cap", "path_cap01", "ypM0")
MIN_EXCHANGED = 3  # two patients can only change places, which anyone can undo
# Columns of the blinded table of patients: days that go with the labels of all patients that a patient was given, and
# who was given the labels of all patients that belong to the labels of the resection which this patient was given.
BLIND_DAYS = {"start": "blind_start_day", "surgery": "blind_surgery_day"}
BLIND_PARTNER = "blind_partner"


class Exchange(dict[str, str]):
    """Receiving patient by giving patient, with the centres and the seed that it was drawn by."""

    def __init__(self, moved: Mapping[str, str], *, centres: Mapping[str, str], seed: int) -> None:
        super().__init__(moved)
        self.centres = centres
        self.seed = seed

    def among(self, patients: Iterable[str]) -> Exchange:
        """The exchange of these patients alone, within their centres and by the same seed."""
        return exchange({patient: self.centres[patient] for patient in patients}, seed=self.seed)


def exchange(centres: Mapping[str, str], *, seed: int) -> Exchange:
    """Whose outcome goes to whom: a random permutation of the patients within each centre.

    Centres with a single patient form one pool; if there is just one of them, it joins the smallest other centre. The
    draw is repeated where it would leave every patient in place.

    Parameters
    ----------
    centres
        Centre by patient, in any order.
    seed
        Same seed and patients, same permutation.

    Returns
    -------
    Receiving patient by giving patient, for all patients.
    """
    pools: dict[str, list[str]] = {}
    for patient in sorted(centres):
        pools.setdefault(centres[patient], []).append(patient)
    alone = [centre for centre in sorted(pools) if len(pools[centre]) == 1]
    if len(alone) == 1 and len(pools) > 1:
        smallest = min((centre for centre in pools if centre not in alone), key=lambda name: (len(pools[name]), name))
        alone.append(smallest)
    groups = [members for centre, members in sorted(pools.items()) if centre not in alone]
    groups.append(sorted(patient for centre in alone for patient in pools[centre]))
    generator = random.Random(seed)
    while True:
        moved = {}
        for members in groups:
            moved |= dict(zip(members, generator.sample(members, len(members)), strict=True))
        if any(giver != receiver for giver, receiver in moved.items()) or all(len(group) < 2 for group in groups):
            return Exchange(moved, centres=dict(centres), seed=seed)


def is_of_resection(label: str) -> bool:
    """Whether a derived label is one of resected patients alone."""
    return label in LABELS and LABELS[label].timepoints == RESECTION


def exchange_of_resection(labels: pd.DataFrame, exchanged: Exchange) -> dict[str, str]:
    """Whose labels of the resection go to whom.

    They are those that the catalogue compares in tissue of the resection, and of labels that the config declares those
    that no other patient has. Patients take part who have a value of any. Which times are known is not looked at: an
    early relapse is not known of who died before, so that this would give outcome away.

    Parameters
    ----------
    labels
        The derived labels, blinded or not: who takes part is the same.
    exchanged
        The exchange of all patients.

    Returns
    -------
    Receiving patient by giving patient, for the patients who take part; nothing where these are too few.
    """
    operated = _with_resection(labels)
    assessed = set(labels.loc[_known(labels) & labels["label"].isin(OF_SPECIMEN), "patient_id"])
    groups = [assessed, operated - assessed]
    if any(0 < len(group) < MIN_EXCHANGED for group in groups):
        groups = [operated]
    if len(operated) < MIN_EXCHANGED:
        groups = []
    return {giver: receiver for group in groups for giver, receiver in exchanged.among(group).items()}


def blind_labels(labels: pd.DataFrame, exchanged: Exchange) -> pd.DataFrame:
    """The table of labels, each patient's given to another one; sources and reasons are masked, as they name rows.

    Labels of the resection are withheld where too few patients have any.

    Parameters
    ----------
    labels
        As :func:`livermet.labels.derive_labels` leaves it: by label, then by patient.
    exchanged
        As made by :func:`exchange`.

    Returns
    -------
    The same columns; within each label the patients stand in the order that they had.
    """
    import pandas as pd

    order = {label: place for place, label in enumerate(dict.fromkeys(labels["label"]))}
    patients = dict.fromkeys(labels["patient_id"])
    operated = exchange_of_resection(labels, exchanged)
    own = labels[labels["label"].isin(_labels_of_resection(labels))]
    others = labels.drop(index=own.index)
    if not operated:
        there = _known(own)
        blank = {name: own[name].mask(there, "") for name in ("value", "event")}
        own = own.assign(**blank, reason=own["reason"].mask(there, MASKED))
    parts = [
        _moved(others, exchanged, patients),
        _moved(own, {patient: operated.get(patient, patient) for patient in patients}, patients),
    ]
    table = pd.concat(parts, ignore_index=True)
    table = table.sort_values("label", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    return _masked(table, ("source", "reason"))


def blind_recist(recist: pd.DataFrame, exchanged: Mapping[str, str]) -> pd.DataFrame:
    """The evaluations by RECIST, given away with the labels that they led to; rows and reasons are masked."""
    return _masked(_moved(recist, exchanged, exchanged), ("rows", "reason"))


def blind_tables(
    frames: Mapping[str, pd.DataFrame], exchanged: Exchange, labels: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """The study tables without what tells the outcome of a patient.

    Scans, lesions, reported response and follow-up go where the labels of all patients went, with lesions numbered
    anew. Scores of regression are taken out of the pathology table. The table of patients has further columns: start of
    treatment and first surgery, in days, that go with the labels that a patient was given, and whose labels of all
    patients belong to the patient's labels of the resection. All else is left as it is.

    Parameters
    ----------
    frames
        All study tables by name.
    exchanged
        As made by :func:`exchange`.
    labels
        The derived labels, blinded or not.
    """
    from livermet.labels import course_days

    patients = frames["patients"]
    order = dict.fromkeys(patients["patient_id"])
    blinded = dict(frames)
    days = course_days(frames["treatment"], frames["local_treatment"], patients).rename(index=exchanged)
    operated = exchange_of_resection(labels, exchanged)
    partners = {receiver: exchanged[giver] for giver, receiver in operated.items()}
    blinded["patients"] = patients.assign(
        **{column: patients["patient_id"].map(days[name]) for name, column in BLIND_DAYS.items()},
        **{BLIND_PARTNER: [partners.get(patient, "") for patient in patients["patient_id"]]},
    )
    for name in OUTCOME_TABLES:
        blinded[name] = _moved(frames[name], exchanged, order)
    blinded["lesions"] = _numbered(blinded["lesions"])
    pathology = frames["pathology"]
    there = [name for name in PATHOLOGY_OUTCOME if name in pathology]
    # A column without values keeps its type: the first row that does not exist is missing in any type.
    blinded["pathology"] = pathology.assign(
        **{name: pathology[name].iloc[:0].reindex(pathology.index) for name in there}
    )
    return blinded


def blind_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Findings without row, value and message where they are about a table or a rule that tells outcome."""
    tables = (*OUTCOME_TABLES, "pathology")
    return [
        replace(finding, row=None, value="", message=MASKED_FINDING)
        if finding.rule in OUTCOME_RULES or finding.table.partition(".")[0] in tables
        else finding
        for finding in findings
    ]


def folder_refusal(results: str | Path, *, blind: bool) -> str:
    """Why a blinded run may not write to a results folder of open runs, or the other way round; "" where it may.

    Snakemake would leave what it takes for up to date, so that a page could hold permuted labels without saying so.

    Parameters
    ----------
    results
        The results folder, which may not exist. One that was used before there were blinded runs is open.
    blind
        Whether this run is blinded.
    """
    stamp = Path(results) / STAMP
    if stamp.is_file():
        kind = stamp.read_text(encoding="utf-8").strip()
    elif (Path(results) / ".workdir").is_file():
        kind = KINDS[False]
    else:
        return ""
    if kind == KINDS[blind]:
        return ""
    return (
        f"{results} holds the results of {kind} runs and this run is {KINDS[blind]}: permuted and true labels would "
        f"stand side by side. Remedy: give this run a folder of its own (--config results=<folder>), or set "
        f"blind: {'false' if blind else 'true'}."
    )


def stamp_folder(results: str | Path, *, blind: bool) -> None:
    """Remember in a results folder of which kind its runs are."""
    (Path(results) / STAMP).write_text(f"{KINDS[blind]}\n", encoding="utf-8")


def _known(labels: pd.DataFrame) -> pd.Series:
    return labels["value"].notna() & (labels["value"] != "")


def _with_resection(labels: pd.DataFrame) -> set[str]:
    """Patients with a value of any label that the catalogue compares in tissue of the resection."""
    return set(labels.loc[_known(labels) & labels["label"].map(is_of_resection).astype(bool), "patient_id"])


def _labels_of_resection(labels: pd.DataFrame) -> set[str]:
    """Names of the labels of resected patients alone: by the catalogue, and declared ones by who has a value."""
    names = set(labels["label"])
    known = labels[_known(labels)]
    of_all = set(known.loc[~known["patient_id"].isin(list(_with_resection(labels))), "label"])
    return {name for name in names if is_of_resection(name) or (name not in LABELS and name not in of_all)}


def _moved(table: pd.DataFrame, exchanged: Mapping[str, str], order: Iterable[str]) -> pd.DataFrame:
    """Rows given to other patients, and sorted by these: the old order would tell whose they were."""
    place = {patient: i for i, patient in enumerate(order)}
    table = table.assign(patient_id=table["patient_id"].map(exchanged).astype(object))
    return table.sort_values("patient_id", key=lambda ids: ids.map(place), kind="stable", ignore_index=True)


def _masked(table: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Columns of text in which whatever is there is replaced."""
    return table.assign(
        **{name: table[name].where(table[name].isna() | (table[name] == ""), MASKED) for name in columns}
    )


def _numbered(lesions: pd.DataFrame) -> pd.DataFrame:
    """Lesions by their number within the patient, since ids like P07-L1 name a patient."""
    numbers: dict[tuple[str, str], str] = {}
    counts: dict[str, int] = {}
    for patient, lesion in zip(lesions["patient_id"], lesions["lesion_id"], strict=True):
        if (patient, lesion) not in numbers:
            counts[patient] = counts.get(patient, 0) + 1
            numbers[patient, lesion] = f"L{counts[patient]}"
    renamed = {
        column: [numbers.get(pair, "") for pair in zip(lesions["patient_id"], lesions[column], strict=True)]
        for column in LESION_COLUMNS
    }
    return lesions.assign(**renamed).astype(dict.fromkeys(LESION_COLUMNS, object))
