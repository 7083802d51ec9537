"""The ledger of looks: which states of the data were seen unblinded, when, and under which declaration.

Each time that response is tested on data not seen before, a chance finding becomes more likely (eight looks at an
accruing cohort give a hit in 22 % of studies without any effect). A look is a *state of the data*: the values of the
primary label, and the times to an event that survival is compared by, of the patients who have measurements at the
compared place. New patients, a corrected label, longer follow-up or another primary label make a new state; other
settings on the same state do not, but they are written down beside it, so that it shows how often the question was put.
Equal runs leave no second line.

The ledger is a memory for those who keep it and no lock: another results folder begins with an empty one.

Nothing here imports pandas, since the workflow reads the ledger whenever it is parsed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livermet.files import write_text
from livermet.provenance import canonical_sha256

COLUMNS = ("look", "time", "label", "n_patients", "data_sha256", "response_sha256")
# Tables of a scope in which a test against a label has left a p-value, where status says "tested".
TESTED_TABLES = (
    *("associations", "changes", "survival", "biomarkers", "blood_tissue", "predictors", "differential_tests"),
)


@dataclass(frozen=True)
class State:
    """What a look sees: the label, its number of patients, and a digest of who has which value and which data."""

    label: str
    n_patients: int
    sha256: str


def measured_patients(
    libraries: Iterable[Mapping[str, Any]], blood: Iterable[Mapping[str, Any]], *, config: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Modalities that each patient has at the compared timepoints and tissues, blood samples at any tissue.

    Parameters
    ----------
    libraries
        Library rows of the cohort, with patient_id, modality, timepoint and tissue.
    blood
        Rows of blood.tsv.
    config
        Section ``response``.
    """
    found: dict[str, set[str]] = {}
    for row in libraries:
        if row["timepoint"] in config["timepoints"] and row["tissue"] in (*config["tissues"], "blood_pbmc"):
            found.setdefault(row["patient_id"], set()).add(f"{row['modality']} {row['tissue']}")
    for row in blood:
        found.setdefault(row["patient_id"], set()).add("blood")
    return {patient: sorted(kinds) for patient, kinds in sorted(found.items())}


def data_state(
    labels: Iterable[Mapping[str, Any]],
    *,
    label: str,
    measured: Mapping[str, Sequence[str]],
    endpoints: Sequence[str] = (),
) -> State:
    """The state of the data that a test of a label sees.

    Parameters
    ----------
    labels
        Rows of the table of labels, values as text.
    label
        Name of the primary label.
    measured
        As made by :func:`measured_patients`; patients without measurement or without value play no part.
    endpoints
        Times to an event that are compared beside the label.
    """
    rows = sorted(
        [row["label"], row["patient_id"], row["value"], row["event"], list(measured[row["patient_id"]])]
        for row in labels
        if row["label"] in (label, *endpoints) and row["value"] != "" and row["patient_id"] in measured
    )
    n_patients = sum(row[0] == label for row in rows)
    return State(label, n_patients, canonical_sha256([label, rows]))


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """Rows of a TSV as text; none where there is no such file."""
    if not Path(path).is_file():
        return []
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def other_states(ledger: Iterable[Mapping[str, str]], current: State) -> list[dict[str, str]]:
    """The other states of the data that were looked at, one entry each, without time, in the order of the looks."""
    first = {row["data_sha256"]: row for row in reversed(list(ledger)) if row["data_sha256"] != current.sha256}
    kept = sorted(first.values(), key=lambda row: int(row["look"]))
    return [{name: row[name] for name in ("look", "label", "n_patients", "data_sha256")} for row in kept]


def with_look(
    ledger: Sequence[Mapping[str, str]], current: State, *, response: Mapping[str, Any], time: str
) -> list[dict[str, str]] | None:
    """The ledger with one more line, or None where the same data were already seen under the same declaration.

    Parameters
    ----------
    ledger
        Its lines.
    current
        The state that was looked at.
    response
        Section ``response`` of the config that ran.
    time
        When, in UTC.
    """
    declaration = canonical_sha256(response)
    seen = {(row["data_sha256"], row["response_sha256"]) for row in ledger}
    if (current.sha256, declaration) in seen:
        return None
    numbers = {row["data_sha256"]: row["look"] for row in ledger}
    number = numbers.get(current.sha256, str(len(set(numbers)) + 1))
    values = (number, time, current.label, str(current.n_patients), current.sha256, declaration)
    return [*(dict(row) for row in ledger), dict(zip(COLUMNS, values, strict=True))]


def write_ledger(ledger: Sequence[Mapping[str, str]], path: str | Path) -> None:
    """Write the ledger as TSV."""
    lines = ["\t".join(COLUMNS), *("\t".join(row[name] for name in COLUMNS) for row in ledger)]
    write_text("".join(f"{line}\n" for line in lines), path)


def was_seen(results: str | Path, scope: str) -> bool:
    """Whether the results of a scope hold a test of the labels as they now are.

    True where a table of tests is younger than the labels and has a row that was tested: refusals show nothing.
    """
    labels = Path(results) / "study" / "labels.tsv"
    if not labels.is_file():
        return False
    for name in TESTED_TABLES:
        path = Path(results) / scope / f"{name}.tsv"
        young = path.is_file() and path.stat().st_mtime_ns >= labels.stat().st_mtime_ns
        if young and any(row.get("status") == "tested" for row in read_rows(path)):
            return True
    return False
