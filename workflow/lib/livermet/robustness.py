"""How much an association hangs on the adjustment and on single centres: a row beside every tested primary row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from livermet import keys
from livermet.compared import (
    FEATURE,
    Label,
    analysis_set,
    blocks,
    design_of,
    effect_sizes,
    is_centred,
    read_label,
    tested_values,
)
from livermet.discrimination import auc, auc_interval

IDENTITY = ["label", keys.TIMEPOINT, keys.TISSUE, *FEATURE, "role"]
AUC = ["auc", "auc_low", "auc_high"]
UNADJUSTED = {"effect": "effect_unadjusted", "ci_low": "unadjusted_low", "ci_high": "unadjusted_high"}
LEFT_OUT = ["n_centres_left_out", "effect_smallest", "effect_largest", "same_sign_share"]
COLUMNS = [
    *IDENTITY,
    *("n", "effect_kind", "effect", "ci_low", "ci_high"),
    *UNADJUSTED.values(),
    *LEFT_OUT,
    *AUC,
    "auc_method",
]
AUC_METHOD = "all patients, not adjusted; interval of Newcombe 2006, method 5"
# Codes with which a feature leaves its family before the test, so that it is no part of the log-ratios either.
BEFORE_TESTS = ("R09", "R10", "R11", "R12", "R15")


def robustness(
    associations: pd.DataFrame,
    features: pd.DataFrame,
    labels: pd.DataFrame,
    patients: pd.DataFrame,
    *,
    config: Mapping[str, Any],
) -> pd.DataFrame:
    """Adjusted and unadjusted effect side by side, the effect without each centre, and the AUC of two classes.

    Descriptive: no p. Centres are left out one at a time and the effect is adjusted for those that are left; a centre
    without which the effect has no estimate is not counted. The AUC is that of the tested values over all patients (the
    chance that a patient with the label has the higher value), with the interval of Newcombe (2006,
    doi:10.1002/sim.2324), which is bounded and exists where the classes are separated.

    Parameters
    ----------
    associations
        As made by :func:`livermet.response.associate` from the other arguments.
    features, labels, patients, config
        As for :func:`livermet.response.associate`.

    Returns
    -------
    One row per tested primary row, with ``COLUMNS``: ``effect_smallest`` and ``effect_largest`` over the centres left
    out, and the share of them in which the effect keeps its sign. Missing where there is one centre; the AUC is missing
    for labels without two classes.
    """
    tested = (associations["analysis"] == "primary") & (associations["status"] == "tested")
    rows = associations.loc[tested, [*IDENTITY, "n", "effect_kind", "effect", "ci_low", "ci_high"]]
    if rows.empty:
        return _typed(rows)
    plain = (associations["analysis"] == "sensitivity") & (associations["adjusted_for"].fillna("") == "")
    unadjusted = associations.loc[plain, [*FEATURE, *UNADJUSTED]].rename(columns=UNADJUSTED)
    label = read_label(labels, config["primary_label"])
    left = associations[associations["refusal_code"].isin(BEFORE_TESTS)]
    table = analysis_set(features, config=config).merge(left[FEATURE].assign(left=True), on=FEATURE, how="left")
    shown = set(rows[FEATURE].itertuples(index=False, name=None))
    found: list[dict[str, Any]] = []
    for (modality, family), values in tested_values(table[table["left"].isna()], config=config).items():
        design = design_of(patients, values.index, modality)
        for block in blocks(values, label):
            if not shown.intersection((modality, family, name) for name in block):
                continue
            centre = design.loc[block.index, keys.CENTRE].to_numpy(str)
            table = _without_centres(block, label, centre, family)
            if label.binary:
                table = table.join(_areas(block, label))
            table = table.rename_axis("feature").reset_index()
            found += table.assign(**{keys.MODALITY: modality, "family": family}).to_dict("records")
    rows = rows.merge(unadjusted, on=FEATURE, how="left").merge(pd.DataFrame(found), on=FEATURE, how="left")
    one = rows["effect_unadjusted"].isna()  # a single centre: the primary analysis is the unadjusted one
    for adjusted, name in UNADJUSTED.items():
        rows[name] = rows[name].mask(one, rows[adjusted])
    return _typed(rows)


def _without_centres(block: pd.DataFrame, label: Label, centre: np.ndarray, family: str) -> pd.DataFrame:
    """Effects without each centre, summed up per feature."""
    levels = np.unique(centre)
    effects = []
    for level in levels if len(levels) > 1 else []:
        kept = centre != level
        options = {"centre_differences": is_centred(family, block.shape[1])}
        effects.append(effect_sizes(block[kept], label, centre[kept], **options).effect)
    whole = effect_sizes(block, label, centre, centre_differences=is_centred(family, block.shape[1])).effect
    table = pd.DataFrame(effects, columns=block.columns, dtype=float)
    counted = table.notna().sum()
    same = (np.sign(table) == np.sign(whole)).where(table.notna()).sum() / counted.where(counted > 0)
    return pd.DataFrame(dict(zip(LEFT_OUT, (counted, table.min(), table.max(), same), strict=True)))


def _areas(block: pd.DataFrame, label: Label) -> pd.DataFrame:
    y = label.numbers.reindex(block.index).to_numpy()
    n_alt, n_ref = int((y == 1).sum()), int((y == 0).sum())
    if not n_alt or not n_ref:
        return pd.DataFrame(np.nan, index=block.columns, columns=AUC)
    areas = [auc(values, y) for values in block.to_numpy(float).T]
    rows = [(area, *auc_interval(area, n_alt, n_ref)) for area in areas]
    return pd.DataFrame(rows, index=block.columns, columns=AUC).assign(auc_method=AUC_METHOD)


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    text = [*IDENTITY, "effect_kind", "auc_method"]
    whole = ["n", "n_centres_left_out"]
    numbers = [name for name in COLUMNS if name not in text + whole]
    table = table.reindex(columns=COLUMNS).reset_index(drop=True)
    return table.fillna(dict.fromkeys(text, "")).astype(
        {**dict.fromkeys(text, object), **dict.fromkeys(whole, "Int64"), **dict.fromkeys(numbers, float)}
    )
