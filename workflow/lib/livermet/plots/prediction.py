"""Figures of prediction: what models tell of unseen patients, beside chance, and how far they mean what they say."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from statsmodels.stats.proportion import proportion_confint

from livermet.plots.style import ACCENT, GREY, INK, LIGHT, message_figure, new_figure
from livermet.validation import BOTH, CLINICAL, MODELS, NESTED, TISSUE, TRANSPORT

NAMES = {CLINICAL: "clinical", TISSUE: "declared features", BOTH: "clinical +\ndeclared features"}
COLOURS = {CLINICAL: "#2e6fb7", TISSUE: "#e08a1e", BOTH: ACCENT}
MARKERS = {CLINICAL: "o", TISSUE: "s", BOTH: "D"}
GROUPS = 5  # groups of patients by predicted probability, fewer where there are fewer than ten patients for each
PATIENTS_PER_GROUP = 10
LINE = 130  # characters per line of text in a figure without panels
PER_INCH = 15  # characters per inch of text below panels


def plot_models(predictors: pd.DataFrame, null: pd.DataFrame) -> Figure:
    """AUC of each model beside its permutation null, the gain over the baseline, each centre predicted by the others.

    Parameters
    ----------
    predictors, null
        As made by :func:`livermet.predict.predict_response`.
    """
    tested = predictors[(predictors["validation"] == NESTED) & (predictors["status"] == "tested")]
    if tested.empty:
        refused = refusal_lines(predictors, characters=LINE)
        return message_figure("\n".join(["No model was made.", *refused]), width=11, height=1.2 + 0.16 * len(refused))
    transport = predictors[(predictors["validation"] == TRANSPORT) & (predictors["status"] == "tested")]
    centres = sorted(set(transport["centre"]) - {""})
    rows = tested.to_dict("records")
    gain = [row for row in rows if row["model"] == BOTH]
    widths = [4.4, *([2.8] if gain else []), *([3.6] if len(transport) else [])]
    width = max(8.0, 1.2 + sum(widths))
    refused = refusal_lines(predictors, characters=int(PER_INCH * width))
    heights = [max(2.6, 1.1 + 0.34 * (len(centres) + 1), 1.0 + 0.8 * len(rows)), 0.3 + 0.15 * len(refused)]
    figure = new_figure(width=width, height=sum(heights))
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    axes = list(top.subplots(1, len(widths), squeeze=False, gridspec_kw={"width_ratios": widths})[0])
    _against_null(axes.pop(0), rows, null, statistic="auc", reference=0.5)
    if gain:
        _against_null(axes.pop(0), gain, null, statistic="delta_auc", reference=0.0)
    if axes:
        _transport(axes.pop(0), transport, centres)
    bottom.text(0.01, 0.98, "\n".join(refused), ha="left", va="top", fontsize=7, color=INK)
    return figure


def plot_calibration(predictors: pd.DataFrame, predictions: pd.DataFrame) -> Figure:
    """Predicted probability of unseen patients against what was observed: each patient a dot, groups with intervals.

    Parameters
    ----------
    predictors, predictions
        As made by :func:`livermet.predict.predict_response`.
    """
    tested = predictors[(predictors["validation"] == NESTED) & (predictors["status"] == "tested")]
    if tested.empty:
        return message_figure("No model was made, so there is no calibration to show.")
    figure = new_figure(width=max(5.0, 3.4 * len(tested)), height=3.9)
    axes = figure.subplots(1, len(tested), squeeze=False, sharey=True)[0]
    held = predictions[predictions["validation"] == NESTED]
    for ax, row in zip(axes, tested.to_dict("records"), strict=True):
        _calibration(ax, held[held["model"] == row["model"]], row)
    axes[0].set_ylabel(f"observed: {row['label']}")
    return figure


def refusal_lines(predictors: pd.DataFrame, *, characters: int) -> list[str]:
    """What was refused of the models and of the transport between centres, wrapped to lines."""
    lines: list[str] = []
    refused = predictors[predictors["status"] == "refused"]
    for (validation, code, reason), rows in refused.groupby(
        ["validation", "refusal_code", "refusal_reason"], sort=True
    ):
        models = ", ".join(NAMES[name].replace("\n", " ") for name in MODELS if name in set(rows["model"]))
        centres = sorted(set(rows["centre"]) - {""})
        where = f" with centre {', '.join(centres)} left out" if centres else ""
        where = where or (" with each centre left out" if validation == TRANSPORT else "")
        lines += textwrap.wrap(f"{code}, {models}{where}: {reason}.", characters)
    return lines


def _against_null(
    ax: Axes, rows: Sequence[dict[str, object]], null: pd.DataFrame, *, statistic: str, reference: float
) -> None:
    """One line per model: permutations as dots, the estimate with its interval above them."""
    stem = statistic.removesuffix("_auc")
    for place, row in enumerate(rows):
        values = null[(null["model"] == row["model"]) & (null["statistic"] == statistic)].sort_values("permutation")
        observed, drawn = float(values["estimate"].iloc[0]), values["estimate"].iloc[1:].to_numpy()
        colour = COLOURS[row["model"]]
        # Spread by golden section, so that the figure is the same each time and equal values don't hide each other.
        height = place + 0.27 + 0.26 * (np.arange(len(drawn)) * 0.618 % 1 - 0.5)
        ax.plot(drawn, height, "o", color=GREY, alpha=0.35, markersize=2.5, markeredgewidth=0)
        ax.plot([np.quantile(drawn, 0.95)] * 2, [place + 0.1, place + 0.44], color=INK, linewidth=1)
        ax.plot([row[f"{stem}_low"], row[f"{stem}_high"]], [place - 0.12] * 2, color=colour, linewidth=1.5)
        ax.plot(row[statistic], place - 0.12, MARKERS[row["model"]], color=colour, markersize=6)
        ax.plot(observed, place + 0.27, MARKERS[row["model"]], color=colour, markerfacecolor="white", markersize=4.5)
        p = row["p"] if statistic == "auc" else row["delta_p"]
        interval = f"{row[statistic]:.2f} ({row[f'{stem}_low']:.2f} to {row[f'{stem}_high']:.2f})"
        ax.text(
            0.015,
            place - 0.31,
            f"{interval}, p = {p:.2g}",
            transform=ax.get_yaxis_transform(),
            fontsize=6.5,
            va="center",
        )
    ax.axvline(reference, color=LIGHT, linewidth=1, zorder=0)
    ax.set_ylim(len(rows) - 0.42, -0.52)
    ax.set_yticks(range(len(rows)), [NAMES[row["model"]] for row in rows])
    first = rows[0]
    patients = f"n = {first['n']}: {first['n_alt']} with {first['label']}, {first['n_ref']} without"
    draws = int(null.loc[null["statistic"] == statistic, "permutation"].max())
    if statistic == "auc":
        ax.set_title(f"Unseen patients, nested cross-validation\n{patients}", loc="left", fontsize=8, weight="bold")
        ax.set_xlabel(
            f"AUC; grey: {draws} permutations of the label,\nbar: their 95 % point, hollow: observed likewise"
        )
    else:
        ax.set_title(f"Gain over clinical\nn = {first['n']}", loc="left", fontsize=8, weight="bold")
        ax.set_xlabel(f"difference of AUC; grey: {draws} permutations\nof the declared features")
        ax.set_yticks([])


def _transport(ax: Axes, rows: pd.DataFrame, centres: Sequence[str]) -> None:
    """AUC in each centre by models of all the others, and over all centres with an interval."""
    lines = ["", *centres]
    shifts = dict(zip(MODELS, (-0.2, 0.0, 0.2), strict=True))
    for row in rows.to_dict("records"):
        place = lines.index(row["centre"]) + shifts[row["model"]]
        colour = COLOURS[row["model"]]
        if not math.isnan(row["auc_low"]):
            ax.plot([row["auc_low"], row["auc_high"]], [place, place], color=colour, linewidth=1)
        ax.plot(row["auc"], place, MARKERS[row["model"]], color=colour, markersize=4 if row["centre"] else 6)
    size = rows.drop_duplicates("centre").set_index("centre")
    names = [
        f"{f'centre {name}' if name else 'all centres'}, n = {size.loc[name, 'n_alt']} v {size.loc[name, 'n_ref']}"
        for name in lines
        if name in size.index
    ]
    ax.set_yticks([place for place, name in enumerate(lines) if name in size.index], names)
    ax.axvline(0.5, color=LIGHT, linewidth=1, zorder=0)
    ax.axhline(0.5, color=LIGHT, linewidth=1, zorder=0)
    ax.set_xlim(-0.04, 1.04)
    ax.set_ylim(len(lines) - 0.5, -0.5)
    overall = size.loc["", "n"] if "" in size.index else rows.loc[rows["model"] == rows["model"].iloc[0], "n"].sum()
    ax.set_title(f"Each centre by models of the others\nn = {overall}", loc="left", fontsize=8, weight="bold")
    ax.set_xlabel("AUC among patients of one centre")
    for name in MODELS:
        if name in set(rows["model"]):
            ax.plot([], [], MARKERS[name], color=COLOURS[name], markersize=4, label=NAMES[name].replace("\n", " "))
    ax.figure.legend(loc="outside lower right", ncols=3)


def _calibration(ax: Axes, held: pd.DataFrame, row: dict[str, object]) -> None:
    x, y = held["probability"].to_numpy(float), held["observed"].to_numpy(int)
    order = np.argsort(x, kind="stable")
    jitter = np.empty(len(x))
    jitter[order] = 0.07 * (np.arange(len(x)) * 0.618 % 1)
    colour = COLOURS[row["model"]]
    ax.plot([0, 1], [0, 1], color=LIGHT, linewidth=1, zorder=0)
    ax.scatter(x, np.where(y == 1, 1.04 + jitter, -0.04 - jitter), s=12, color=colour, alpha=0.6, linewidths=0)
    groups = np.array_split(order, max(1, min(GROUPS, len(x) // PATIENTS_PER_GROUP)))
    for members in groups:
        seen, at = int(y[members].sum()), x[members].mean()
        low, high = proportion_confint(seen, len(members), method="wilson")
        ax.plot([at, at], [low, high], color=INK, linewidth=1)
        ax.plot(at, seen / len(members), "o", color=INK, markersize=5)
    sizes = sorted({len(members) for members in groups})
    ax.set_xlim(0, 1)
    ax.set_ylim(-0.14, 1.14)
    ax.set_yticks([0, 0.5, 1])
    each = " or ".join(map(str, sizes))
    ax.set_xlabel("predicted probability", loc="left")
    slope, intercept = (f"{row[name]:.2f}" for name in ("calibration_slope", "calibration_intercept"))
    ax.set_title(
        f"{NAMES[row['model']].replace(chr(10), ' ')}, n = {row['n']}\n"
        f"slope {slope}, intercept {intercept}, Brier {row['brier']:.3f}\n"
        f"{len(groups)} groups of {each} patients, 95 % intervals",
        loc="left",
        fontsize=8,
    )
