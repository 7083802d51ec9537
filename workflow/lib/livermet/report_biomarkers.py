"""What the report of a scope says of blood: tables as people read them, from the tables of results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from livermet.pages import significant
from livermet.report_data import text

MEASURES = ("baseline", "change", "slope", "nadir")
MODELS = ("univariable", "joint", "added_value")


def biomarker_table(biomarkers: pd.DataFrame) -> pd.DataFrame:
    """Univariable rows of ``biomarkers.tsv``, those known at baseline first, tested ones by p, refused ones last."""
    rows = biomarkers[biomarkers["model"] == "univariable"]
    if rows.empty:
        return pd.DataFrame()
    order = rows.assign(
        _measure=rows["measure"].map({name: place for place, name in enumerate(MEASURES)}),
        _refused=(rows["status"] != "tested").astype(int),
    ).sort_values(["_measure", "_refused", "p", "analyte"], kind="stable")
    ranked = rows["rho"].notna().any()
    effect = (
        {"rank correlation": _with_interval(order, "rho", "rho_low", "rho_high")}
        if ranked
        else {
            "area": _with_interval(order, "auc", "auc_low", "auc_high"),
            "odds ratio": _with_interval(order, "odds_ratio", "or_low", "or_high"),
            "per": order["unit"].map(text),
        }
    )
    return pd.DataFrame(
        {
            "analyte": order["analyte"],
            "measure": order["measure"],
            "known at": order["known_at"],
            "patients": _patients(order),
            "missing": order["n_missing"],
            **effect,
            "p": order["p"],
            "q": order["q"],
            "status": _status(order),
        }
    )


def joint_table(biomarkers: pd.DataFrame) -> pd.DataFrame:
    """Terms of the joint model, in the order of the config."""
    rows = biomarkers[biomarkers["model"] == "joint"]
    if rows.empty:
        return pd.DataFrame()
    return pd.DataFrame(
        {
            "term": rows["analyte"],
            "patients": _patients(rows),
            "patients of the smaller class per term": rows["events_per_variable"],
            "odds ratio": _with_interval(rows, "odds_ratio", "or_low", "or_high"),
            "per": rows["unit"].map(text),
            "p": rows["p"],
            "q": rows["q"],
            "how": rows["p_method"].map(text),
            "status": _status(rows),
        }
    )


def added_table(biomarkers: pd.DataFrame) -> pd.DataFrame:
    """What each analyte adds to the reference, the smallest p first."""
    rows = biomarkers[biomarkers["model"] == "added_value"].sort_values(["p", "analyte"], kind="stable")
    if rows.empty:
        return pd.DataFrame()
    return pd.DataFrame(
        {
            "analyte": rows["analyte"],
            "patients": _patients(rows),
            "area of the reference": rows["auc_reference"],
            "area of both": rows["auc"],
            "difference": rows["delta_auc"],
            "p": rows["p"],
            "q": rows["q"],
            "status": _status(rows),
        }
    )


def pair_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """Blood against tissue, as declared."""
    if pairs.empty:
        return pd.DataFrame()
    return pd.DataFrame(
        {
            "blood": pairs["blood"],
            "tissue": pairs["feature"] + ", " + pairs["family"] + ", " + pairs["modality"],
            "patients": pairs["n"],
            "rank correlation": _with_interval(pairs, "rho", "ci_low", "ci_high"),
            "p": pairs["p"],
            "q": pairs["q"],
            "status": _status(pairs),
        }
    )


def missing_measures(measures: pd.DataFrame, *, top: int) -> pd.DataFrame:
    """Patients whose measure is missing, by analyte and reason (``blood_measures.tsv``), the most frequent first.

    Days are left out of the reasons, so that patients with the same reason stand together.
    """
    rows = measures[measures["reason"].map(text) != ""]
    if rows.empty:
        return pd.DataFrame()
    reason = rows["reason"].str.replace(r"\b(on|around) day -?\d+", "", regex=True).str.replace(r" +", " ", regex=True)
    table = rows.assign(reason=reason.str.strip(), code=rows["code"].map(text))
    group = ["analyte", "measure", "code", "reason"]
    counts = table.groupby(group, sort=True)["patient_id"].nunique().rename("patients").reset_index()
    # CA19-9 where it is no marker comes first: it is what people ask for.
    counts = counts.sort_values(["code", "patients"], ascending=[False, False], kind="stable")
    return counts.head(top)


def blood_days(measures: pd.DataFrame) -> pd.DataFrame:
    """Days of treatment on which the values behind each measure were drawn: median and range over patients."""
    # read_table leaves a column of this name as text, in which a missing value is "".
    known = measures[pd.to_numeric(measures["value"]).notna()]
    if known.empty:
        return pd.DataFrame()
    rows = []
    for (analyte, measure), group in known.groupby(["analyte", "measure"], sort=True):
        rows.append(
            {
                "analyte": analyte,
                "measure": measure,
                "patients": group["patient_id"].nunique(),
                "first day": _range(group["first_day"]),
                "last day": _range(group["last_day"]),
                "values per patient": _range(group["n_values"]),
            }
        )
    table = pd.DataFrame(rows)
    place = table["measure"].map({name: place for place, name in enumerate(MEASURES)})
    return table.assign(_place=place).sort_values(["analyte", "_place"], kind="stable").drop(columns="_place")


def biomarker_summary(biomarkers: pd.DataFrame, *, fdr: float) -> Mapping[str, Any]:
    """Numbers of the lead of the section: rows tested and refused, and leads by model."""
    tested = biomarkers[biomarkers["status"] == "tested"]
    leads = tested[tested["q"] <= fdr]
    return {
        "n_tested": len(tested),
        "n_refused": len(biomarkers) - len(tested),
        "leads": {
            model.replace("_", " "): sorted(set((rows["analyte"] + " (" + rows["measure"] + ")").tolist()))
            for model in MODELS
            if len(rows := leads[leads["model"] == model])
        },
    }


def _range(values: pd.Series) -> str:
    low, middle, high = (significant(float(values.quantile(q))) for q in (0, 0.5, 1))
    return middle if low == high else f"{middle} ({low} to {high})"


def _with_interval(rows: pd.DataFrame, effect: str, low: str, high: str) -> pd.Series:
    return pd.Series(
        [
            "" if pd.isna(middle) else f"{significant(middle)} [{significant(start)}, {_limit(end)}]"
            for middle, start, end in rows[[effect, low, high]].itertuples(index=False)
        ],
        index=rows.index,
        dtype=object,
    )


def _limit(value: float) -> str:
    return "∞" if value == float("inf") else significant(value)


def _patients(rows: pd.DataFrame) -> pd.Series:
    """Patients, and with classes how many with and without the label."""
    return pd.Series(
        [
            f"{int(n)} ({int(alt)} v {int(ref)})" if pd.notna(alt) and pd.notna(ref) else f"{int(n)}"
            for n, alt, ref in rows[["n", "n_alt", "n_ref"]].itertuples(index=False)
        ],
        index=rows.index,
        dtype=object,
    )


def _status(rows: pd.DataFrame) -> pd.Series:
    """ "tested", or code and reason of the refusal."""
    return rows["status"].where(
        rows["status"] == "tested", rows["refusal_code"].map(text) + ": " + rows["refusal_reason"].map(text)
    )
