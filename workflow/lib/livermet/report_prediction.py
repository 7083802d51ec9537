"""What the report of a scope says of prediction, as people read it, from the tables of results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from livermet.validation import BOTH, CLINICAL, NESTED, TISSUE, TRANSPORT

WORDS = {CLINICAL: "clinical", TISSUE: "declared features", BOTH: "clinical and declared features"}


def model_table(predictors: pd.DataFrame, null: pd.DataFrame) -> pd.DataFrame:
    """What each model tells of patients whom it has not seen, beside the permutation null; models side by side.

    Parameters
    ----------
    predictors, null
        ``predictors.tsv`` and ``prediction_null.tsv``.
    """
    table = predictors[predictors["validation"] == NESTED]
    if table.empty:
        return pd.DataFrame()
    models = {WORDS[row["model"]]: _measures(row, null) for row in table.to_dict("records")}
    return pd.DataFrame(models).rename_axis("measure").reset_index()


def _measures(row: Mapping[str, Any], null: pd.DataFrame) -> dict[str, str]:
    """Cells of a model by what they measure; "" where a number is missing."""
    return {
        "patients with and without the label": ""
        if pd.isna(row["n_alt"])
        else f"{row['n_alt']:.0f} and {row['n_ref']:.0f}",
        "AUC (95 % interval)": _interval(row, "auc", "auc_low", "auc_high"),
        "AUC below which 95 % of permutations lie": _number(_null_point(null, row["model"]), ".2f"),
        "p": _number(row["p"], ".2g"),
        "gain over clinical (95 % interval)": _interval(row, "delta_auc", "delta_low", "delta_high"),
        "p of the gain": _number(row["delta_p"], ".2g"),
        "Brier score": _number(row["brier"], ".2f"),
        "calibration slope": _number(row["calibration_slope"], ".2f"),
        "calibration intercept": _number(row["calibration_intercept"], ".2f"),
        "values filled in (%)": _number(100 * row["share_imputed"], ".0f"),
        "candidates": row["features"],
        "why not": _reason(row),
    }


def _number(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)


def transport_table(predictors: pd.DataFrame) -> pd.DataFrame:
    """Each centre predicted by models of the others, and all centres together; the models side by side.

    Parameters
    ----------
    predictors
        ``predictors.tsv``.
    """
    table = predictors[predictors["validation"] == TRANSPORT]
    rows = []
    for centre, group in table.groupby("centre", sort=True):
        first = group.iloc[0]
        row = {"centre": centre or "all", "with label": first["n_alt"], "without": first["n_ref"]}
        by_model = group.set_index("model").to_dict("index")
        row |= {
            f"AUC, {words}": _interval(by_model.get(name), "auc", "auc_low", "auc_high")
            for name, words in WORDS.items()
        }
        rows.append(row | {"why not": _reason(first)})
    columns = ["centre", "with label", "without", *(f"AUC, {words}" for words in WORDS.values()), "why not"]
    return pd.DataFrame(rows, columns=columns)


def prediction_sentences(predictors: pd.DataFrame, *, alpha: float) -> list[str]:
    """What may be said of the models, in plain sentences.

    Parameters
    ----------
    predictors
        ``predictors.tsv``.
    alpha
        Level at or below which an AUC is called more than chance.
    """
    table = predictors[predictors["validation"] == NESTED]
    sentences = []
    for row in table[table["status"] == "tested"].to_dict("records"):
        told = "more than" if row["p"] <= alpha else "not measurably more than"
        sentences.append(
            f"{WORDS[row['model']].capitalize()}: AUC {_interval(row, 'auc', 'auc_low', 'auc_high')} in patients whom "
            f"the model had not seen, {told} permuted labels give (p {row['p']:.2g}, n = {row['n']})."
        )
        if row["model"] == BOTH:
            said = "add to" if row["delta_p"] <= alpha else "add nothing measurable to"
            sentences.append(
                f"The declared features {said} the clinical variables: difference of the AUC "
                f"{_interval(row, 'delta_auc', 'delta_low', 'delta_high')}, p {row['delta_p']:.2g}."
            )
    for (code, reason), rows in table[table["status"] == "refused"].groupby(["refusal_code", "refusal_reason"]):
        names = ", ".join(WORDS[name] for name in rows["model"])
        sentences.append(f"No model of {names} ({code}): {reason}.")
    return sentences


def _interval(row: dict[str, float] | None, value: str, low: str, high: str) -> str:
    if row is None or np.isnan(row[value]):
        return ""
    ends = "" if np.isnan(row[low]) else f" ({row[low]:.2f} to {row[high]:.2f})"
    return f"{row[value]:.2f}{ends}"


def _null_point(null: pd.DataFrame, model: str) -> float:
    drawn = null[(null["model"] == model) & (null["statistic"] == "auc") & (null["permutation"] > 0)]
    return float(np.quantile(drawn["estimate"], 0.95)) if len(drawn) else float("nan")


def _reason(row: dict[str, str] | pd.Series) -> str:
    return f"{row['refusal_code']}: {row['refusal_reason']}" if row["status"] == "refused" else ""
