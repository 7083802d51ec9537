"""Figure of the plain and the integrated embedding: their scores, and what integration does to epithelial cells."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from livermet import keys
from livermet.plots.style import ACCENT, GREY, INK, LIGHT, colours, message_figure, new_figure

INTEGRATED = "#2e6fb7"
NAMES = {"ilisi": "iLISI", "clisi": "cLISI", "batch_asw": "batch ASW", "group_asw": "group ASW"}


def plot_integration(scores: pd.DataFrame, axes_table: pd.DataFrame) -> Figure:
    """Scores of both embeddings, grouped by kind, with limits; beside them epithelial cells by patient.

    Parameters
    ----------
    scores
        From :func:`livermet.integration_scores.choose_embedding`.
    axes_table
        From :func:`livermet.integration_scores.epithelial_axes`.
    """
    choice = scores[scores["kind"] == "choice"]
    reason = str(choice["meaning"].iloc[0]) if len(choice) else "no cells"
    shown = scores[(scores["kind"] != "choice") & scores["plain"].notna()]
    if shown.empty:
        return message_figure(f"No embedding to score: {reason}")
    figure = new_figure(width=11.0, height=5.4)
    # The lower edge stays free for the label of simulated data.
    figure.get_layout_engine().set(rect=(0, 0.03, 1, 0.97))
    left, right = figure.subfigures(1, 2, width_ratios=[1.25, 1.0])
    _scores(left.subplots(), shown)
    figure.suptitle(textwrap.fill(f"Embedding used: {reason}", 130), fontsize=9, x=0.01, ha="left")
    if axes_table.empty:
        right.text(0.5, 0.5, "Fewer than three epithelial cells", ha="center", va="center", color="#555555")
        return figure
    names = list(dict.fromkeys(axes_table["embedding"]))
    patients = sorted(axes_table[keys.PATIENT].unique())
    palette = colours(patients)
    panels = right.subplots(len(names), 1, squeeze=False)[:, 0]
    for axes, name in zip(panels, names, strict=True):
        _cells(axes, axes_table[axes_table["embedding"] == name], palette)
        axes.set_title(f"Epithelial cells, {name}", loc="left")
    n = len(axes_table) // len(names)
    handles = [Line2D([], [], marker="o", linestyle="", markersize=4, color=palette[p], label=p) for p in patients]
    right.legend(
        handles=handles,
        loc="outside right center",
        ncols=-(-len(patients) // 30),
        title=f"patient\n({n:,} cells shown)",
        title_fontsize=7,
        handletextpad=0.2,
    )
    return figure


def _cells(axes: Axes, table: pd.DataFrame, palette: dict[str, str]) -> None:
    # Neighbouring rows belong to one library: a fixed shuffle keeps the last library from covering the others.
    table = table.iloc[np.random.default_rng(0).permutation(len(table))]
    axes.scatter(table["x"], table["y"], c=table[keys.PATIENT].map(palette), s=6, linewidths=0, rasterized=True)
    axes.set(xticks=[], yticks=[], xlabel="first axis", ylabel="second axis")


def _scores(axes: Axes, shown: pd.DataFrame) -> None:
    y, ticks, labels = 0.0, [], []
    for kind, rows in shown.groupby("kind", sort=False):
        axes.text(0.012, y, kind, weight="bold", va="center", transform=axes.get_yaxis_transform())
        y += 1
        for row in rows.itertuples():
            if row.limit == row.limit:
                axes.plot([row.limit, row.limit], [y - 0.36, y + 0.36], color=ACCENT, linewidth=1.8, zorder=2)
            if row.integrated == row.integrated:
                axes.plot([row.plain, row.integrated], [y, y], color=GREY, linewidth=1.2, zorder=1)
                axes.scatter(row.integrated, y, s=34, color=INTEGRATED, zorder=4, clip_on=False)
            axes.scatter(row.plain, y, s=62, facecolor="none", edgecolors=INK, zorder=5, clip_on=False)
            ticks.append(y)
            labels.append(f"{NAMES.get(row.score, row.score.replace('_', ' '))} (n = {row.n:,})")
            y += 1
        y += 0.4
    axes.set_yticks(ticks, labels)
    axes.set_ylim(y - 0.6, -0.8)
    values = shown[["plain", "integrated", "limit"]].to_numpy(dtype=float)
    axes.set_xlim(min(0.0, float(np.nanmin(values))), max(1.0, float(np.nanmax(values))))
    axes.set_xlabel("score (higher is better, patient mixing apart)")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=LIGHT, linewidth=0.8)
    axes.set_axisbelow(True)
    handles = [
        Line2D([], [], marker="o", linestyle="", markerfacecolor="none", markeredgecolor=INK, label="plain"),
        Line2D([], [], marker="o", linestyle="", color=INTEGRATED, label="integrated"),
        Line2D([], [], marker="|", linestyle="", color=ACCENT, markersize=9, markeredgewidth=1.8, label="limit"),
    ]
    axes.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
