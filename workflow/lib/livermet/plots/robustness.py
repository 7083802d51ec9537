"""Figures of robustness: effects without each centre, and changes within patients."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from livermet import keys
from livermet.plots.response import KINDS, refusal_lines, short_name
from livermet.plots.style import ACCENT, GREY, INK, LIGHT, message_figure, new_figure

FAMILY = [keys.MODALITY, "family"]
SHOWN = 24  # features; the title says of how many
PANELS = 12
COLUMNS = 4


def plot_robustness(robustness: pd.DataFrame) -> Figure:
    """Effect with its interval, without adjustment, and the range over the centres left out; AUC beside it.

    Parameters
    ----------
    robustness
        As made by :func:`livermet.robustness.robustness`. Declared features are shown first, then the largest effects.
    """
    if robustness.empty:
        return message_figure("No feature was tested, so there is nothing to leave out.")
    size = robustness["effect"].abs()
    order = robustness.assign(size=-size).sort_values(["role", "size", "feature"], kind="stable")
    rows = order.head(SHOWN)
    areas = rows["auc"].notna().any()
    figure = new_figure(width=11, height=1.6 + 0.3 * len(rows))
    axes = figure.subplots(1, 2 if areas else 1, sharey=True, squeeze=False, width_ratios=[3, 2] if areas else [1])[0]
    for place, row in enumerate(rows.to_dict("records")):
        colour = ACCENT if row["role"] == "confirmatory" else INK
        axes[0].plot([row["ci_low"], row["ci_high"]], [place] * 2, color=colour, linewidth=1)
        if row["n_centres_left_out"] > 0:
            span = [row["effect_smallest"], row["effect_largest"]]
            axes[0].plot(span, [place] * 2, color=colour, linewidth=5, alpha=0.3, solid_capstyle="butt")
        axes[0].plot(row["effect"], place, "D" if row["role"] == "confirmatory" else "o", color=colour, markersize=4)
        axes[0].plot(
            row["effect_unadjusted"], place + 0.25, "o", color=GREY, markerfacecolor="white", markersize=3, zorder=3
        )
        if areas:
            axes[1].plot([row["auc_low"], row["auc_high"]], [place] * 2, color=colour, linewidth=1)
            axes[1].plot(row["auc"], place, "o", color=colour, markersize=4)
    names = [
        f"{short_name(row.feature).replace(chr(10), ' ')}\n{row.family}, {row.modality}, n = {row.n}"
        for row in rows.itertuples()
    ]
    axes[0].set_yticks(range(len(rows)), names, fontsize=5.5, linespacing=0.95)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    axes[0].axvline(0, color=LIGHT, linewidth=1, zorder=0)
    axes[0].set_xlabel(
        f"{KINDS[rows['effect_kind'].iloc[0]]}; band: without one centre at a time; hollow: not adjusted", loc="left"
    )
    shown = (
        f"{len(rows)} of {len(robustness)} tested features" if len(rows) < len(robustness) else f"{len(rows)} features"
    )
    axes[0].set_title(f"{rows['label'].iloc[0]}: {shown}, {_patients(rows)}", loc="left")
    if areas:
        axes[1].axvline(0.5, color=LIGHT, linewidth=1, zorder=0)
        axes[1].set_xlim(0, 1)
        axes[1].set_xlabel("AUC, all patients, not adjusted", loc="left")
    return figure


def plot_changes(
    changes: pd.DataFrame, differences: Mapping[str, Mapping[tuple[str, str], pd.DataFrame]], *, fdr: float
) -> Figure:
    """Each pair as a dot for the features with the smallest p, and in words what was refused.

    Parameters
    ----------
    changes
        As made by :func:`livermet.paired.changes`.
    differences
        By label of the change, as made by :func:`livermet.paired.differences`.
    fdr
        Level of q at or below which a mean is drawn in colour.
    """
    if changes.empty:
        return message_figure("No change between timepoints was declared under response.changes, or no one has both.")
    refused = refusal_lines(changes)
    tested = changes[changes["status"] == "tested"].sort_values(["p", "label", *FAMILY, "feature"], kind="stable")
    if tested.empty:
        text = "\n".join(["No change between timepoints was tested.", *refused])
        return message_figure(text, width=11, height=1.2 + 0.16 * len(refused))
    rows = tested.head(PANELS)
    columns = min(COLUMNS, len(rows))
    lines = math.ceil(len(rows) / columns)
    heights = [2.9 * lines, 0.5 + 0.15 * len(refused)]
    figure = new_figure(width=max(8.0, 3.0 * columns), height=sum(heights))
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    axes = top.subplots(lines, columns, squeeze=False)
    for ax in axes.flat[len(rows) :]:
        ax.set_axis_off()
    for ax, row in zip(axes.flat, rows.to_dict("records"), strict=False):
        values = differences[row["label"]][row[keys.MODALITY], row["family"]][row["feature"]].dropna()
        _pairs_as_dots(ax, values, row, fdr=fdr)
    shown = f"{len(rows)} of {len(tested)} tested changes, the smallest p first"
    bottom.text(0.01, 0.98, "\n".join([shown, *refused]), ha="left", va="top", fontsize=7, color=INK)
    return figure


def _pairs_as_dots(ax: Axes, values: pd.Series, row: Mapping[str, object], *, fdr: float) -> None:
    # Places by rank, so that the figure is the same each time and equal values don't hide each other.
    rank = np.argsort(np.argsort(values.to_numpy(), kind="stable"))
    ax.scatter(0.5 * (rank * 0.618 % 1 - 0.5), values, color=INK, s=14, linewidths=0, alpha=0.7)
    colour = ACCENT if row["q"] <= fdr else GREY
    ax.plot([-0.35, 0.35], [values.mean()] * 2, color=colour, linewidth=2)
    ax.axhline(0, color=LIGHT, linewidth=1, zorder=0)
    ax.set_xlim(-0.6, 0.6)
    ax.set_xticks([0], [f"{row['n']} pairs"])
    ax.set_ylabel("later less earlier")
    ax.set_title(
        f"{short_name(str(row['feature']))}\n{row['family']}, {row[keys.MODALITY]}\n{row['label']}\n"
        f"d = {row['effect']:.2f} ({row['ci_low']:.2f} to {row['ci_high']:.2f})\n"
        f"p = {row['p']:.2g}, q = {row['q']:.2g}",
        loc="left",
        fontsize=7,
    )


def _patients(rows: pd.DataFrame) -> str:
    low, high = int(rows["n"].min()), int(rows["n"].max())
    return f"n = {high}" if low == high else f"n = {low} to {high}"
