"""Figures of quality control."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from livermet import keys
from livermet.plots.style import GREY, INK, LIGHT, message_figure, new_figure
from livermet.status import DOUBLET, EXCLUDED, HIGH_MITO, LOW_COUNTS, LOW_GENES, OUTLIER_COUNTS, REASONS

KEPT = "kept"
LABELS = {
    KEPT: "kept",
    LOW_COUNTS: "few counts",
    LOW_GENES: "few genes",
    HIGH_MITO: "high mitochondrial share",
    OUTLIER_COUNTS: "unusually many counts or genes",
    DOUBLET: "doublet",
    EXCLUDED: "passed, but library excluded",
}
COLOURS = {
    KEPT: "#5b8db8",
    LOW_COUNTS: "#d9a441",
    LOW_GENES: "#8c6d31",
    HIGH_MITO: "#c0392b",
    OUTLIER_COUNTS: "#7b4173",
    DOUBLET: "#31a354",
    EXCLUDED: GREY,
}
_ROW_INCHES = 0.2


def plot_waterfall(statuses: Sequence[Mapping[str, Any]]) -> Figure:
    """What became of the barcodes of each library: kept, or removed for which reason, as shares of those read.

    Parameters
    ----------
    statuses
        Contents of ``status.json``, one per library, in the order of the figure from top to bottom.
    """
    if not statuses:
        return message_figure("No library in this scope.")
    figure = new_figure(width=8.0, height=1.5 + _ROW_INCHES * len(statuses))
    ax = figure.add_subplot()
    rows = np.arange(len(statuses))
    totals = np.array([max(s["n_in"], 1) for s in statuses])
    left = np.zeros(len(statuses))
    counts = {KEPT: np.array([s["n_out"] for s in statuses])}
    counts |= {r: np.array([s["removed"].get(r, 0) for s in statuses]) for r in (*REASONS, EXCLUDED)}
    for name, numbers in counts.items():
        if numbers.any():
            share = 100 * numbers / totals
            ax.barh(rows, share, left=left, height=0.8, color=COLOURS[name], label=LABELS[name])
            left += share
    for row, status in enumerate(statuses):
        ax.text(101, row, f"{status['n_out']:,} of {status['n_in']:,}", va="center", fontsize=6.5)
        if status["status"] != "ok":
            words = textwrap.shorten(f"excluded: {status['reason']}", 95, placeholder=" ...")
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.9}
            ax.text(1, row, words, va="center", fontsize=6, bbox=box)
    ax.set(xlim=(0, 100), xlabel="barcodes as read (%)", yticks=rows)
    ax.set_yticklabels([f"{s['library_id']}  ({s['modality']})" for s in statuses], fontsize=6.5)
    ax.set_ylim(len(statuses) - 0.5, -0.5)
    ax.set_title(f"Cells and spots kept in {len(statuses)} libraries", loc="left")
    if left.any():
        figure.legend(loc="outside lower center", ncols=4)
    return figure


def plot_metrics(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Counts, genes and mitochondrial share of the kept barcodes of each library.

    Boxes show quartiles and median, whiskers the 5th and 95th percentile. Where nothing was kept, the barcodes as read
    stand in grey.

    Parameters
    ----------
    tables
        ``qc.tsv`` by library id, in the order of the figure from top to bottom.
    """
    tables = {library: table for library, table in tables.items() if len(table)}
    if not tables:
        return message_figure("No library of this scope holds any barcode.")
    panels = {keys.TOTAL_COUNTS: "counts", keys.N_GENES: "genes detected", keys.PCT_MITO: "mitochondrial counts (%)"}
    if all(table[keys.PCT_MITO].isna().all() for table in tables.values()):
        del panels[keys.PCT_MITO]
    figure = new_figure(width=9.0, height=1.1 + _ROW_INCHES * len(tables))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (column, label) in zip(axes, panels.items(), strict=True):
        for row, table in enumerate(tables.values()):
            kept = table["kept"].to_numpy() > 0
            values = table[column].to_numpy(dtype=float)[kept if kept.any() else slice(None)]
            values = values[np.isfinite(values)]
            if len(values):
                _box(ax, row, values, colour=COLOURS[KEPT] if kept.any() else GREY)
            else:
                ax.text(
                    0.02,
                    row,
                    "no MT- gene",
                    va="center",
                    fontsize=6,
                    color="#777777",
                    transform=ax.get_yaxis_transform(),
                )
        ax.set_xlabel(label)
        ax.grid(axis="x", color=LIGHT, linewidth=0.6)
        ax.set_axisbelow(True)
        if column != keys.PCT_MITO:
            _log_axis(ax, "x")
    axes[0].set(ylim=(len(tables) - 0.5, -0.5), yticks=range(len(tables)))
    axes[0].set_yticklabels([f"{name}  (n = {int(t['kept'].sum())})" for name, t in tables.items()], fontsize=6.5)
    figure.suptitle("Kept barcodes per library", fontsize=9, x=0.01, ha="left")
    # Room for the stamp on simulated data, below the labels of the axes.
    figure.get_layout_engine().set(rect=(0, 0.15 / figure.get_figheight(), 1, 1 - 0.15 / figure.get_figheight()))
    return figure


def plot_library_qc(table: pd.DataFrame, status: Mapping[str, Any]) -> Figure:
    """Quality of each barcode of one library.

    Panels: counts by rank (with the curve of all droplets where cells were called from these), genes against counts
    with the reason of each removal, mitochondrial share, doublet score.
    Panels without data (no mitochondrial gene; sections have no doublet score) are left out.

    Parameters
    ----------
    table
        ``qc.tsv`` of the library.
    status
        Its ``status.json``.
    """
    if not len(table):
        return message_figure(textwrap.fill(f"{status['library_id']} holds no barcode: {status['reason']}", 100))
    reason = table["reason"].fillna("").replace("", KEPT)
    panels = [_rank_panel, _genes_panel]
    if table[keys.PCT_MITO].notna().any():
        panels.append(_mito_panel)
    if table[keys.DOUBLET_SCORE].notna().any():
        panels.append(_doublet_panel)
    figure = new_figure(width=2.9 * len(panels) + 0.6, height=3.1)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, panel in zip(axes, panels, strict=True):
        panel(ax, table, reason, status)
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, markerscale=2)
    title = f"{status['library_id']}: {status['n_out']:,} of {status['n_in']:,} barcodes kept"
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    return figure


def _rank_panel(ax: Axes, table: pd.DataFrame, reason: pd.Series, status: Mapping[str, Any]) -> None:
    order = np.argsort(-table[keys.TOTAL_COUNTS].to_numpy(), kind="stable")
    counts = np.maximum(table[keys.TOTAL_COUNTS].to_numpy()[order], 1)
    ranks = np.arange(1, len(counts) + 1)
    kept = (reason == KEPT).to_numpy()[order]
    title = "Counts by rank (grey: removed)"
    calling = status["metrics"].get("calling")
    if calling:
        title = "Counts by rank (line: all droplets)"
        ax.plot(*zip(*calling["curve"], strict=True), color=INK, linewidth=0.9)
        ax.axhline(calling["certain"], color=INK, linewidth=0.7, linestyle="--")
        label = f"cells from {calling['certain']:,} on"
        ax.text(0.02, calling["certain"], label, fontsize=6.5, va="bottom", transform=ax.get_yaxis_transform())
    ax.scatter(ranks[~kept], counts[~kept], s=5, color=GREY, linewidths=0, rasterized=True)
    ax.scatter(ranks[kept], counts[kept], s=5, color=COLOURS[KEPT], linewidths=0, rasterized=True)
    ax.set(xlabel="rank of the droplet" if calling else "rank of the barcode", ylabel="counts", title=title)
    _log_axis(ax, "x")
    _log_axis(ax, "y")


def _genes_panel(ax: Axes, table: pd.DataFrame, reason: pd.Series, status: Mapping[str, Any]) -> None:
    for name in (KEPT, *REASONS, EXCLUDED):
        chosen = (reason == name).to_numpy()
        if chosen.any():
            x = np.maximum(table[keys.TOTAL_COUNTS].to_numpy()[chosen], 1)
            y = np.maximum(table[keys.N_GENES].to_numpy()[chosen], 1)
            label = f"{LABELS[name]} ({chosen.sum():,})"
            ax.scatter(x, y, s=6, color=COLOURS[name], linewidths=0, alpha=0.8, label=label, rasterized=True)
    ax.set(xlabel="counts", ylabel="genes detected", title="Genes against counts")
    _log_axis(ax, "x")
    _log_axis(ax, "y")


def _mito_panel(ax: Axes, table: pd.DataFrame, reason: pd.Series, status: Mapping[str, Any]) -> None:
    values = table[keys.PCT_MITO].to_numpy(dtype=float)
    bins = np.linspace(0, max(float(np.nanmax(values)), 1.0), 31)
    _split_histogram(ax, values, reason, shown=HIGH_MITO, bins=bins)
    ax.set(xlabel="mitochondrial counts (%)", ylabel="barcodes", title="Mitochondrial share")


def _doublet_panel(ax: Axes, table: pd.DataFrame, reason: pd.Series, status: Mapping[str, Any]) -> None:
    scored = table[keys.DOUBLET_SCORE].notna()
    values = table.loc[scored, keys.DOUBLET_SCORE].to_numpy(dtype=float)
    # The scores are odds: most lie close to zero, and the few that matter far above.
    bins = np.geomspace(values.min(), max(values.max(), 1.01 * values.min()), 31)
    _split_histogram(ax, values, reason[scored], shown=DOUBLET, bins=bins)
    threshold = status["metrics"].get("doublet_threshold")
    if threshold is not None:
        ax.axvline(threshold, color=INK, linewidth=0.9, linestyle="--")
        ax.annotate("called from here", (threshold, 0.97), xycoords=("data", "axes fraction"), fontsize=6.5, ha="right",
                    va="top", rotation=90, xytext=(-2, 0), textcoords="offset points")  # fmt: skip
    ax.set(xlabel="doublet score", ylabel="cells", title="Doublet score", xscale="log")


def _split_histogram(ax: Axes, values: np.ndarray, reason: pd.Series, *, shown: str, bins: np.ndarray) -> None:
    """Histogram of kept barcodes, those removed for the reason shown, and those removed for another."""
    chosen = (reason == shown).to_numpy()
    kept = (reason == KEPT).to_numpy()
    parts = [values[kept], values[chosen], values[~kept & ~chosen]]
    ax.hist(
        parts, bins=bins, stacked=True, color=[COLOURS[KEPT], COLOURS[shown], LIGHT], edgecolor="white", linewidth=0.3
    )


def _box(ax: Axes, row: int, values: np.ndarray, *, colour: str) -> None:
    low, first, middle, third, high = np.percentile(values, [5, 25, 50, 75, 95])
    stats = {"whislo": low, "q1": first, "med": middle, "q3": third, "whishi": high, "fliers": []}
    ax.bxp(
        [stats],
        positions=[row],
        widths=0.6,
        orientation="horizontal",
        showfliers=False,
        manage_ticks=False,
        patch_artist=True,
        boxprops={"facecolor": colour, "edgecolor": colour},
        medianprops={"color": "white", "linewidth": 1.2},
        whiskerprops={"color": colour},
        capprops={"color": colour},
    )


def _log_axis(ax: Axes, which: str) -> None:
    """Logarithmic axis with plain numbers."""
    getattr(ax, f"set_{which}scale")("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    low, high = axis.get_view_interval()
    # With less than two powers of ten on the axis, one number would stand alone.
    axis.set_major_locator(LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    # Minor ticks of logarithmic axes take half the time of a figure.
    axis.set_minor_locator(NullLocator())
