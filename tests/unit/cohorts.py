"""Seeded cohorts of patients for the tests of the response engine."""

import numpy as np
import pandas as pd

CONFIG = {
    "primary_label": "disease_control",
    "timepoints": ["T0_pre"],
    "tissues": ["liver_met"],
    "confirmatory": [],
    "changes": [],
    "alpha": 0.05,
    "fdr": 0.10,
    "n_permutations": 499,
    "look": 1,
    "planned_looks": 1,
    "min_patients_per_arm": 3,
    "min_mean_cells": 20,
    "max_zero_fraction": 0.1,
}


def ids(n):
    return [f"P{k:02d}" for k in range(n)]


def labels_table(values, *, name="disease_control", kind="binary", events=None):
    """Labels as written by the study step: values are text, "" where missing; events of a time as 1 or 0."""
    return pd.DataFrame(
        {
            "patient_id": ids(len(values)),
            "label": name,
            "kind": kind,
            "value": ["" if value is None else f"{value:g}" for value in values],
            "event": [""] * len(values) if events is None else [str(int(event)) for event in events],
            "source": "response.tsv",
            "reason": ["not evaluable" if value is None else "" for value in values],
        }
    )


def patients_table(centres):
    return pd.DataFrame({"patient_id": ids(len(centres)), "centre": list(centres)})


def feature_rows(matrix, *, family, modality="scrna", n_cells=None, names=None, tissue="liver_met", timepoint="T0_pre"):
    """Long table from patients x features; NaN is absent. With ``n_cells`` the matrix holds counts of a composition."""
    matrix = np.asarray(matrix, float)
    names = names or [f"f{k:02d}" for k in range(matrix.shape[1])]
    rows = []
    for patient, row in zip(ids(len(matrix)), matrix, strict=True):
        total = int(row.sum()) if n_cells else 0
        for name, value in zip(names, row, strict=True):
            if not np.isnan(value):
                rows.append((patient, name, value / total if n_cells else value, total))
    table = pd.DataFrame(rows, columns=["patient_id", "feature", "value", "n_cells"])
    return table.assign(timepoint=timepoint, tissue=tissue, modality=modality, family=family, unit="x", source="test")


def composition(rng, y, centre, *, beta=None, parts=12, cells=1500):
    """Counts of a logistic-normal composition with patient and centre effects; ``beta`` shifts parts where y is 1."""
    logits = np.linspace(0.6, -0.6, parts) + rng.normal(0, 0.6, (len(y), parts))
    logits += rng.normal(0, 0.5, (centre.max() + 1, parts))[centre]
    if beta is not None:
        logits += np.outer(y, beta)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.array([rng.multinomial(cells, p) for p in shares])
