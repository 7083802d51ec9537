"""What the report of a scope says of its cells: tables as people read them, from the tables of results.

Each function takes a table of results and gives one with fewer columns, in words; numbers stay numbers, so that the
page can sort them.
"""

from __future__ import annotations

import pandas as pd

PERCENT = 100.0


def type_evidence(annotation: pd.DataFrame) -> pd.DataFrame:
    """What speaks for each cell type and against it, from ``annotation.tsv``; shares in per cent."""
    table = pd.DataFrame(
        {
            "type": annotation["cell_type"],
            "cells": annotation["n_cells"],
            "patients": annotation["n_patients"],
            "median confidence": annotation["confidence"],
            "below .7": annotation["n_low_confidence"],
            "own markers (%)": _percent(annotation["markers_raised"]),
            "foreign markers (%)": _percent(annotation["foreign_raised"]),
            "groups in conflict (%)": _percent(annotation["group_conflict"]),
            "cells in conflict (%)": _percent(annotation["cell_conflict"]),
            "nearest sister": annotation["sister"],
            "log odds over sister": annotation["sister_log_odds"].astype(float).round(1),
            "overridden": annotation["n_overridden"],
        }
    )
    for source in ("reference", "celltypist"):
        if (annotation[f"{source}_label"].fillna("") != "").any():
            table[f"{source}: commonest label"] = annotation[f"{source}_label"]
            table[f"{source}: its share (%)"] = _percent(annotation[f"{source}_share"])
    return table


def malignant_patients(malignant: pd.DataFrame) -> pd.DataFrame:
    """Malignant cells of each patient with subtype and PurIST, from ``malignant.tsv``."""
    shares = {
        name: [
            _interval(row[f"fraction_{name}"], row[f"fraction_{name}_low"], row[f"fraction_{name}_high"], scale=PERCENT)
            for row in malignant.to_dict("records")
        ]
        for name in ("basal", "intermediate", "classical")
    }
    purist = [
        _interval(row["purist_probability"], row["purist_low"], row["purist_high"])
        for row in malignant.to_dict("records")
    ]
    where = malignant[["timepoint", "tissue", "modality"]].astype(str).agg(", ".join, axis=1) if len(malignant) else ""
    return pd.DataFrame(
        {
            "patient": malignant["patient_id"],
            "where": where,
            "malignant": malignant["n_malignant"],
            "ambiguous": malignant["n_ambiguous"],
            "not tested": malignant["n_not_tested"],
            "changed arms": malignant["n_arms_called"],
            "of them as in PDAC": malignant["n_pdac_arms"],
            **{f"{name} (%)": values for name, values in shares.items()},
            "PurIST, P(basal)": purist,
            "informative pairs": malignant["purist_informative_pairs"],
            "why not": [_reasons(row) for row in malignant[["reason", "purist_reason"]].to_dict("records")],
        }
    )


def arm_events(pdac: pd.DataFrame) -> pd.DataFrame:
    """Recurrent arm events of pancreatic cancer and how often they are found, from ``pdac_arms.tsv``."""
    return pdac.rename(
        columns={"n_tested": "patients tested", "n_found": "found", "n_contrary": "called the other way"}
    ).drop(columns="confidence")


def compared_types(tests: pd.DataFrame) -> pd.DataFrame:
    """Each cell type with the design of its comparison, or the reason of its refusal, tested ones first."""
    order = tests["status"].map({"tested": 0}).fillna(1)
    table = tests.assign(order=order, leads=-tests["n_leads"].astype(float))
    table = table.sort_values(["order", "leads", "modality", "cell_type"], kind="stable")
    return table.drop(columns=["order", "leads"]).rename(
        columns={"n_alt": "with the label", "n_ref": "without it", "n_genes": "genes", "n_leads": "leads"}
    )


def leading_genes(genes: pd.DataFrame, *, fdr: float, top: int) -> pd.DataFrame:
    """The genes of smallest p among those that reach the false discovery rate over all types and genes."""
    leads = genes[genes["q_global"] <= fdr].sort_values(["p", "modality", "cell_type", "gene"], kind="stable").head(top)
    columns = ["modality", "cell_type", "gene", "base_mean", "log2_fold_change", "standard_error", "p", "q_global"]
    return leads[columns].rename(columns={"q_global": "q over all types"})


def _percent(values: pd.Series) -> pd.Series:
    return (PERCENT * values.astype(float)).round(1)


def _interval(value: float, low: float, high: float, *, scale: float = 1.0) -> str:
    """Value with its limits in brackets, "" where there is none."""
    if pd.isna(value):
        return ""
    digits = 0 if scale == PERCENT else 2
    return f"{scale * value:.{digits}f} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def _reasons(row: dict[str, object]) -> str:
    """The distinct reasons of a row, without one that another holds already."""
    first, second = (str(row[name]) if pd.notna(row[name]) else "" for name in ("reason", "purist_reason"))
    return first if second in first else "; ".join(filter(None, (first, second)))
