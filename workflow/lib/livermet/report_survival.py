"""What the cohort report says of survival: medians, hazard ratios, facts at the landmark, refusals.

Tables in, tables out: no HTML here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from livermet import cox, keys
from livermet.survival import ALL, CLINICAL, PH_BADGE

SHOWN = 60  # hazard ratios on the page; all are in survival.tsv


def survival_summary(table: pd.DataFrame, *, fdr: float) -> dict[str, Any]:
    """Numbers for the first sentence: endpoints, hazard ratios, refusals, and features with q at or below ``fdr``."""
    primary = table[table["analysis"] == "primary"]
    tested = primary[primary["status"] == "tested"]
    return {
        "endpoints": list(dict.fromkeys(primary["endpoint"])),
        "n_tested": len(tested),
        "n_refused": int((primary["status"] == "refused").sum()),
        "n_leads": int((tested["q"] <= fdr).sum()),
        "n_not_proportional": int((tested["ph_p"] < PH_BADGE).sum()),
    }


def median_times(curves: pd.DataFrame) -> pd.DataFrame:
    """Median of each curve in days with its interval, and median follow-up of all patients.

    Follow-up is the median of the time under observation with events and censoring exchanged (Schemper and Smith 1996).
    """
    rows = []
    for (endpoint, group), curve in curves.groupby(["endpoint", "group"], sort=False):
        bounds = (curve[column].to_numpy(float) for column in ("time", "survival", "ci_low", "ci_high"))
        median, low, high = cox.median_time(*bounds)
        rows.append(
            {
                "endpoint": endpoint,
                "patients": group,
                "n": int(curve["at_risk"].iloc[0]),
                "events": int(curve["events"].sum()),
                "median days": _days(median),
                "95 % interval": f"{_days(low)} to {_days(high)}",
                "median follow-up": _days(_follow_up(curve)) if group == ALL else "",
            }
        )
    columns = ["endpoint", "patients", "n", "events", "median days", "95 % interval", "median follow-up"]
    return pd.DataFrame(rows, columns=columns)


def hazard_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Tested features by their p, with what was found without adjustment beside it."""
    rows = _ratios(table[table[keys.MODALITY] != CLINICAL])
    rows = rows[rows["status"] == "tested"].sort_values(["p", "endpoint", "feature"], kind="stable").head(SHOWN)
    columns = ["endpoint", keys.MODALITY, "family", "feature", *_NUMBERS]
    return rows[columns].reset_index(drop=True)


def landmark_facts(table: pd.DataFrame) -> pd.DataFrame:
    """What became known after follow-up began: its hazard ratio from the landmark on, or the refusal in its place."""
    rows = _ratios(table[table[keys.MODALITY] == CLINICAL])
    refused = rows["status"] == "refused"
    why = rows["refusal_code"].fillna("").astype(str) + ": " + rows["refusal_reason"].fillna("").astype(str)
    rows = rows.assign(**{"why not compared": why.where(refused, ""), "landmark day": rows["landmark_day"]})
    columns = ["endpoint", "feature", "landmark day", *_NUMBERS, "adjusted_for", "why not compared"]
    return rows[columns].reset_index(drop=True)


def refused_hazards(table: pd.DataFrame) -> pd.DataFrame:
    """Features that were not compared, counted by endpoint, family and reason."""
    refused = table[(table["status"] == "refused") & (table[keys.MODALITY] != CLINICAL)]
    by = ["endpoint", keys.MODALITY, "family", "refusal_code", "refusal_reason"]
    return refused.groupby(by, sort=False).size().rename("features").reset_index()


_NUMBERS = ["n", "n_events", "hazard ratio", "95 % interval", "unadjusted", "p", "q", "ph_p", "method"]


def _ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Primary rows with ratios in words, and the unadjusted ratio beside them."""
    names = ["endpoint", keys.MODALITY, "family", "feature"]
    primary = table[table["analysis"] == "primary"]
    other = table.loc[table["analysis"] == "sensitivity", [*names, "hazard_ratio"]]
    rows = primary.merge(other.rename(columns={"hazard_ratio": "unadjusted"}), on=names, how="left")
    low, high = rows["ci_low"].map(_ratio), rows["ci_high"].map(_ratio)
    words = (low + " to " + high).where(rows["status"] == "tested", "")
    return rows.assign(**{"hazard ratio": rows["hazard_ratio"], "95 % interval": words})


def _ratio(value: float) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.2f}" if 0.1 <= value < 100 else f"{value:.2g}"


def _follow_up(curve: pd.DataFrame) -> float:
    """Median of follow-up by the curve with events and censoring exchanged."""
    at_risk, events = curve["at_risk"].to_numpy(float), curve["events"].to_numpy(float)
    left = at_risk - events - np.append(at_risk[1:], 0)
    # At one time events come before censoring, so those who had it are no longer followed.
    followed = np.cumprod(1 - left / np.maximum(at_risk - events, 1))
    below = np.flatnonzero(followed <= 0.5)
    return float(curve["time"].iloc[below[0]]) if len(below) else float("nan")


def _days(value: float) -> str:
    return "not reached" if np.isnan(value) else f"{value:.0f}"
