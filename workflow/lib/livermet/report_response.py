"""What the report says of response beside the associations: robustness, changes, the design, and codes of refusals."""

from __future__ import annotations

import pandas as pd

from livermet import keys
from livermet.refusals import CODES

FAMILY = [keys.MODALITY, "family"]


def robustness_view(robustness: pd.DataFrame, *, top: int) -> pd.DataFrame:
    """Adjusted and unadjusted effects side by side and without each centre: declared ones first, then by size."""
    order = robustness.assign(size=-robustness["effect"].abs()).sort_values(["role", "size"], kind="stable").head(top)
    if order.empty:
        return pd.DataFrame()
    return pd.DataFrame(
        {
            "feature": order["feature"],
            "family": order["family"] + ", " + order[keys.MODALITY],
            "role": order["role"],
            "patients": order["n"],
            "effect": order["effect_kind"].str.replace("_", " "),
            "adjusted for centre": _with_interval(order, "effect", "ci_low", "ci_high"),
            "not adjusted": _with_interval(order, "effect_unadjusted", "unadjusted_low", "unadjusted_high"),
            "centres left out": order["n_centres_left_out"],
            "smallest": order["effect_smallest"].astype(float).round(2),
            "largest": order["effect_largest"].astype(float).round(2),
            "same sign (%)": (100 * order["same_sign_share"].astype(float)).round(0),
            "AUC": _with_interval(order, "auc", "auc_low", "auc_high"),
        }
    )


def changes_view(changes: pd.DataFrame, *, top: int) -> pd.DataFrame:
    """Tested changes within patients, the smallest p first, with what else differs between the timepoints."""
    order = changes[changes["status"] == "tested"].sort_values(["p", *FAMILY, "feature"], kind="stable").head(top)
    if order.empty:
        return pd.DataFrame()
    return pd.DataFrame(
        {
            "change": order["label"].str.removeprefix("change "),
            "feature": order["feature"],
            "family": order["family"] + ", " + order[keys.MODALITY],
            "pairs": order["n"],
            "with one timepoint alone": order["n_missing"],
            "d (later less earlier)": _with_interval(order, "effect", "ci_low", "ci_high"),
            "p": order["p"],
            "q": order["q"],
            "smallest p": order["smallest_attainable_p"],
            "detectable": order["minimal_detectable_effect"].astype(float).round(2),
            "how": order["p_method"],
        }
    )


def confounding_view(confounding: pd.DataFrame) -> pd.DataFrame:
    """The label against each factor of the design, and what follows; factors that are the same for all come last."""
    if confounding.empty:
        return pd.DataFrame()
    order = confounding.assign(last=confounding["strength"].isna()).sort_values([keys.MODALITY, "last"], kind="stable")
    return pd.DataFrame(
        {
            "modality": order[keys.MODALITY],
            "factor": order["factor"].str.replace("_", " "),
            "patients": order["n"],
            "levels": order["n_levels"],
            "measure": order["measure"].map(
                {"cramers_v": "Cramer's V", "eta": "eta", "spearman_rho": "rank correlation"}
            ),
            "value": order["strength"].astype(float).round(2),
            "p": order["p"],
            "told apart from the label": order["aliased"].fillna("").map(lambda text: f"no: {text}" if text else "yes"),
            "what follows": order["follows"],
            "in words": order["words"],
        }
    )


def codes_view() -> pd.DataFrame:
    """Every code of a refusal with its meaning."""
    return pd.DataFrame({"code": list(CODES), "refused because": list(CODES.values())})


def _with_interval(table: pd.DataFrame, value: str, low: str, high: str) -> pd.Series:
    """A number with its interval as text, "" where there is none."""
    texts = [
        "" if pd.isna(v) else f"{v:.2f}" if pd.isna(a) or pd.isna(b) else f"{v:.2f} ({a:.2f} to {b:.2f})"
        for v, a, b in table[[value, low, high]].itertuples(index=False, name=None)
    ]
    return pd.Series(texts, index=table.index, dtype=object)
