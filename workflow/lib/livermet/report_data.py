"""What the report shows about patients and libraries, reckoned from the small result tables.

Tables in, plain values out: no HTML here, and no per-cell data.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from livermet.catalogue import RECIST
from livermet.keys import CELL_MODALITIES
from livermet.pages import significant

logger = logging.getLogger(__name__)

TIMEPOINTS = ("T0_pre", "T1_reeval", "T2_preop", "T3_resection", "T4_postop", "T5_relapse")
TISSUES = ("liver_met", "adjacent_liver", "primary", "blood_pbmc")
MODALITIES = ("scrna", "snrna", "visium", "visium_hd", "xenium", "cosmx", "merscope")
CLINICAL = ("treatment", "scans", "response", "blood", "pathology", "outcome")
UNASSIGNED = "unknown"


@dataclass(frozen=True)
class MatrixColumn:
    """One kind of library: where it was taken, and how it was measured."""

    timepoint: str
    tissue: str
    modality: str


@dataclass(frozen=True)
class PatientRow:
    """One patient of the data matrix.

    ``marks`` has one entry per column of the matrix: "ok" (a library that passed QC), "excluded" (libraries, none of
    which passed), "pending" (libraries outside this scope) or "" (none). ``composition`` holds (name, fraction) pairs.
    """

    patient_id: str
    label: str
    label_reason: str
    centre: str
    cohort: str
    marks: tuple[str, ...]
    clinical: tuple[bool, ...]
    modality: str
    n_cells: int
    composition: tuple[tuple[str, float], ...]
    malignant_fraction: float | None
    n_malignant: int | None
    classical: float | None
    basal: float | None


def text(value: Any) -> str:
    """A cell as text; "" where it is missing."""
    return "" if value is None or value is pd.NA or value != value else str(value)


def words(names: Iterable[str]) -> str:
    """Names as people write them, separated by commas."""
    return ", ".join(name.replace("_", " ") for name in names)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts of plain values, None where missing."""
    return table.astype(object).where(table.notna(), None).to_dict(orient="records")


def level_names(declared: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Names of the codes of ordinal labels: best response by RECIST, and the levels that the config declares."""
    named = {name: tuple(map(str, label["levels"])) for name, label in declared.items() if label["kind"] == "ordinal"}
    return {"recist_best": RECIST, **named}


def value_words(kind: str, value: Any, *, event: Any = "", levels: Sequence[str] = ()) -> str:
    """A label's value in words: yes or no, the level of an ordinal label, days to an event, "+" if none came.

    Parameters
    ----------
    kind, value, event
        As in the table of labels.
    levels
        Names of the codes of an ordinal label, where they have some.
    """
    given = text(value)
    if not given:
        return ""
    if kind == "continuous":
        return significant(float(given))
    code = int(float(given))
    if kind == "survival":
        return f"{significant(code)}{'' if text(event) and float(event) else '+'} d"
    if kind == "binary":
        return ("no", "yes")[code]
    return levels[code] if levels else str(code)


def select_label(
    labels: pd.DataFrame, label: str, *, levels: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, str]]:
    """Value in words and reason of one label per patient.

    Returns
    -------
    ``{patient_id: (value, reason)}``; an empty value means that the label is missing for the patient.
    """
    return {
        str(row["patient_id"]): (
            value_words(row["kind"], row["value"], event=row["event"], levels=levels.get(label, ())),
            text(row["reason"]),
        )
        for row in labels[labels["label"] == label].to_dict(orient="records")
    }


def library_table(libraries: pd.DataFrame, samples: pd.DataFrame, status: pd.DataFrame) -> pd.DataFrame:
    """Libraries with the patient, timepoint and tissue of their sample, and what became of those in the scope.

    ``status`` and ``reason`` are "" for a library outside the scope.
    """
    columns = ["sample_id", "patient_id", "timepoint", "tissue"]
    table = libraries[["library_id", "sample_id", "modality", "batch"]].merge(
        samples[columns], on="sample_id", how="left", validate="m:1"
    )
    outcome = status.set_index("library_id")
    return table.assign(**{name: table["library_id"].map(outcome[name]).map(text) for name in ("status", "reason")})


def patients_in(table: pd.DataFrame, samples: pd.DataFrame) -> set[str]:
    """Patients that a clinical table says something of, directly or through their samples."""
    if "patient_id" in table:
        return set(table["patient_id"])
    return set(samples.loc[samples["sample_id"].isin(table["sample_id"]), "patient_id"])


def matrix_columns(libraries: pd.DataFrame) -> list[MatrixColumn]:
    """The kinds of library that the study holds, in the order of treatment, tissue and modality."""
    kinds = {tuple(row) for row in libraries[["timepoint", "tissue", "modality"]].itertuples(index=False)}
    return [MatrixColumn(*kind) for kind in sorted(kinds, key=_kind_order)]


def patient_matrix(
    *,
    patients: pd.DataFrame,
    libraries: pd.DataFrame,
    columns: Sequence[MatrixColumn],
    labels: Mapping[str, tuple[str, str]],
    features: pd.DataFrame,
    clinical: Mapping[str, set[str]],
    timepoints: Sequence[str],
    tissues: Sequence[str],
) -> list[PatientRow]:
    """One row per enrolled patient: label, data that exist, and the state of the tumour.

    Composition and tumour state come from the cells at the analysed timepoint and tissue; modalities are not pooled:
    scrna comes before snrna where a patient has both.

    Parameters
    ----------
    patients, libraries, columns, labels
        The enrolled patients, their libraries (:func:`library_table`) and the kinds of these (:func:`matrix_columns`);
        value and reason of the primary label (:func:`select_label`).
    features
        The long feature table.
    clinical
        For each clinical table of ``CLINICAL``, the patients that have a row in it.
    timepoints, tissues
        What the analysis takes.

    Returns
    -------
    Rows sorted by label, centre and patient; patients without the label come last.
    """
    marks: dict[tuple[str, MatrixColumn], set[str]] = {}
    for row in libraries.itertuples(index=False):
        key = (row.patient_id, MatrixColumn(row.timepoint, row.tissue, row.modality))
        marks.setdefault(key, set()).add(row.status)
    cells = features[
        features["timepoint"].isin(timepoints)
        & features["tissue"].isin(tissues)
        & features["modality"].isin(CELL_MODALITIES)
    ]
    by_patient = dict(iter(cells.groupby("patient_id", sort=True)))
    rows = []
    for patient in patients.to_dict(orient="records"):
        patient_id = patient["patient_id"]
        value, reason = labels.get(patient_id, ("", "label missing"))
        state = _tumour_state(by_patient[patient_id]) if patient_id in by_patient else _NO_STATE
        rows.append(
            PatientRow(
                patient_id=patient_id,
                label=value,
                label_reason=reason,
                centre=text(patient["centre"]),
                cohort=text(patient["cohort"]),
                marks=tuple(_mark(marks.get((patient_id, column), set())) for column in columns),
                clinical=tuple(patient_id in clinical.get(table, ()) for table in CLINICAL),
                **state,
            )
        )
    return sorted(rows, key=lambda row: (row.label == "", row.label, row.centre, row.patient_id))


_NO_STATE: dict[str, Any] = {
    "modality": "",
    "n_cells": 0,
    "composition": (),
    "malignant_fraction": None,
    "n_malignant": None,
    "classical": None,
    "basal": None,
}


def _tumour_state(cells: pd.DataFrame) -> dict[str, Any]:
    """Composition and tumour state of one patient from the features of one modality."""
    modality = next(name for name in CELL_MODALITIES if (cells["modality"] == name).any())
    cells = cells[cells["modality"] == modality]
    composition = cells[(cells["family"] == "composition_compartment") & (cells["value"] > 0)]
    parts = tuple(sorted(zip(composition["feature"], composition["value"].astype(float), strict=True)))
    types = cells[cells["family"] == "composition_type"]
    states = cells[cells["family"] == "malignant_state"]
    malignant = _value(types, "malignant_ductal")
    total = int(types["n_cells"].max()) if len(types) else 0
    return {
        "modality": modality,
        "n_cells": total or (int(composition["n_cells"].max()) if len(composition) else 0),
        "composition": parts,
        "malignant_fraction": malignant,
        "n_malignant": None if malignant is None else round(malignant * total),
        "classical": _value(states, "score_mal_classical"),
        "basal": _value(states, "score_mal_basal"),
    }


def interaction_summary(interactions: pd.DataFrame, *, top: int) -> tuple[pd.DataFrame, dict[str, int]]:
    """Ligand-receptor results over patients: the rows that most patients carry, and the count of each status.

    Parameters
    ----------
    interactions
        One row per patient, sender, receiver and pair.
    top
        How many rows to keep.

    Returns
    -------
    The summary (medians over patients, never over cells), and ``{status: rows}``.
    """
    statuses = {str(key): int(n) for key, n in interactions["status"].value_counts().sort_index().items()}
    keys = ["timepoint", "tissue", "modality", "sender", "receiver", "ligand", "receptor"]
    scored = interactions[interactions["status"] == "scored"]
    if scored.empty:
        return pd.DataFrame(), statuses
    summary = (
        scored.groupby(keys, sort=True)
        .agg(
            patients=("patient_id", "nunique"),
            magnitude=("magnitude", "median"),
            specificity=("specificity", "median"),
            evidence=("evidence_grade", lambda grades: ", ".join(sorted({text(g) for g in grades}))),
        )
        .reset_index()
        .sort_values(["patients", "magnitude", *keys], ascending=[False, False, *[True] * len(keys)], kind="stable")
    )
    return summary.head(top), statuses


def beyond_distance(neighbourhood: pd.DataFrame) -> pd.DataFrame:
    """Pairs of types in sections with a border, whose null takes the distance to it into account."""
    return neighbourhood[neighbourhood["z"].notna() & (neighbourhood["null"] == "distance_bins")]


def neighbourhood_summary(neighbourhood: pd.DataFrame, *, top: int) -> pd.DataFrame:
    """Pairs of types with the strongest median z over patients; sections of a patient with one resolution are averaged.

    Sections without border are left out: their null is the weaker one.
    """
    finite = beyond_distance(neighbourhood)
    if finite.empty:
        return pd.DataFrame()
    pair = ["type_a", "type_b", "resolution"]
    per_patient = finite.groupby([*pair, "patient_id", "timepoint", "tissue"], sort=True)["z"].mean().reset_index()
    summary = (
        per_patient.groupby(pair, sort=True)["z"]
        .agg(patients="count", median_z="median", lowest_z="min", highest_z="max")
        .reset_index()
    )
    order = summary["median_z"].abs().sort_values(ascending=False, kind="stable").index
    return summary.loc[order].head(top)


def reason_summary(table: pd.DataFrame, *, by: Sequence[str]) -> pd.DataFrame:
    """Rows that carry a reason, counted by the columns ``by``, the most frequent first."""
    reasons = table[table["reason"].map(text) != ""]
    if reasons.empty:
        return pd.DataFrame()
    counts = reasons.groupby(list(by), sort=True, dropna=False).size().rename("rows").reset_index()
    return counts.sort_values("rows", ascending=False, kind="stable")


def refusal_summary(associations: pd.DataFrame) -> pd.DataFrame:
    """Refused rows counted by code and reason, the most frequent first."""
    refused = associations[associations["status"] == "refused"]
    if refused.empty:
        return pd.DataFrame()
    counts = refused.groupby(["refusal_code", "refusal_reason"], sort=True).size().rename("rows").reset_index()
    return counts.sort_values("rows", ascending=False, kind="stable")


def association_order(associations: pd.DataFrame, *, limit: int) -> pd.DataFrame:
    """Association rows as the report lists them: confirmatory first, tested before refused, then by p.

    Confirmatory rows are always kept; ``limit`` holds for the table as a whole beyond them.
    """
    table = associations.assign(
        _role=(associations["role"] != "confirmatory").astype(int),
        _status=(associations["status"] != "tested").astype(int),
        _analysis=(associations["analysis"] != "primary").astype(int),
    ).sort_values(
        ["_role", "_status", "_analysis", "p", "label", "family", "feature", "modality"],
        kind="stable",
        na_position="last",
    )
    keep = max(limit, int((table["_role"] == 0).sum()))
    return table.head(keep).drop(columns=["_role", "_status", "_analysis"])


def _kind_order(kind: tuple[str, str, str]) -> tuple[Any, ...]:
    return tuple(
        (known.index(x) if x in known else len(known), x) for known, x in zip(_ORDERS, map(text, kind), strict=True)
    )


_ORDERS = (TIMEPOINTS, TISSUES, MODALITIES)


def _mark(statuses: Iterable[str]) -> str:
    statuses = set(statuses)
    if "ok" in statuses:
        return "ok"
    if statuses - {""}:
        return "excluded"
    return "pending" if statuses else ""


def _value(features: pd.DataFrame, name: str) -> float | None:
    values = features.loc[features["feature"] == name, "value"].dropna()
    return float(values.iloc[0]) if len(values) else None
