"""Blinded runs: outcome changes places between the patients of a centre, so that no number says anything of response.

A study can be set up and checked on such a run before anyone looks at response. All labels of a patient move together,
within the centre, so that what depends on the design (classes per centre, refusals, smallest attainable p) stays as it
is. What is measured stays with its patient, blood values too: who may know of no patient's course should not be
given blood values after the start of treatment, or samples of the resection, either.

It imports next to nothing, since the workflow asks it about the results folder whenever it is parsed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

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


def exchange(centres: Mapping[str, str], *, seed: int) -> dict[str, str]:
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
            return moved


def blind_labels(labels: pd.DataFrame, exchanged: Mapping[str, str]) -> pd.DataFrame:
    """The table of labels, each patient's given to another one; sources and reasons are masked, as they name rows.

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
    order = {label: place for place, label in enumerate(dict.fromkeys(labels["label"]))}
    table = _moved(labels, exchanged, dict.fromkeys(labels["patient_id"]))
    table = table.sort_values("label", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    return _masked(table, ("source", "reason"))


def blind_recist(recist: pd.DataFrame, exchanged: Mapping[str, str]) -> pd.DataFrame:
    """The evaluations by RECIST, given away with the labels that they led to; rows and reasons are masked."""
    return _masked(_moved(recist, exchanged, exchanged), ("rows", "reason"))


def blind_tables(frames: Mapping[str, pd.DataFrame], exchanged: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """The study tables without what tells the outcome of a patient.

    Scans, lesions, reported response and follow-up go where the labels went, with lesions numbered anew. Scores of
    regression are taken out of the pathology table. All other tables are left as they are.
    """
    order = dict.fromkeys(frames["patients"]["patient_id"])
    blinded = dict(frames)
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
