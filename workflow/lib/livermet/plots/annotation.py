"""Figures of the evidence for each cell type, and of the agreement with labels from elsewhere."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from livermet import keys
from livermet.plots.style import GREY, INK, LIGHT, colours, message_figure, new_figure

NO_SOURCE = (
    "No labels from elsewhere to compare with: the config names neither\n"
    "an annotated h5ad (annotate.reference) nor a CellTypist model (annotate.celltypist_model)"
)
SOURCE_TITLES = {"reference": "Reference", "celltypist": "CellTypist"}
# Labels beyond these, by number of cells, are drawn together as one column.
MAX_LABELS = 40


def plot_types(table: pd.DataFrame) -> Figure:
    """Markers raised, confidence, lead over the nearest sister and conflicts of each cell type (rows).

    Parameters
    ----------
    table
        From :func:`livermet.annotation_summary.summarise_types`.
    """
    if table.empty:
        return message_figure("No cells to show")
    n = len(table)
    y = np.arange(n)
    figure = new_figure(width=11.5, height=max(2.6, 0.21 * n + 1.5))
    # The lower edge stays free for the label of simulated data.
    figure.get_layout_engine().set(rect=(0, 0.02, 1, 0.98))
    markers, confidence, lead, conflict = figure.subplots(1, 4, sharey=True, width_ratios=[1.2, 1, 1.5, 1])
    # Cells without a type are of several kinds, and their confidence is of none.
    named = ~table["cell_type"].isin([keys.UNKNOWN, keys.UNCERTAIN_EPITHELIAL])
    palette = colours(table.loc[named, "compartment"])
    tint = table["compartment"].map(palette).where(named, GREY).to_list()
    sure = table[["confidence_q25", "confidence"]].where(named)

    markers.hlines(y, table["foreign_raised"], table["markers_raised"], color=LIGHT, linewidth=2, zorder=1)
    markers.scatter(table["markers_raised"], y, c=tint, s=26, zorder=3)
    markers.scatter(table["foreign_raised"], y, facecolors="white", edgecolors=tint, s=20, zorder=2)
    markers.set(xlim=(-0.03, 1.03), xlabel="share of markers raised")
    markers.set_title("Markers of its own and foreign", loc="left")

    confidence.hlines(y, sure["confidence_q25"], sure["confidence"], color=tint, linewidth=2)
    confidence.scatter(sure["confidence"], y, c=tint, s=26, zorder=3)
    confidence.set(xlim=(-0.03, 1.03), xlabel="median, lower quartile")
    confidence.set_title("Confidence", loc="left")

    score = table["sister_log_odds"].astype(float)
    lead.axvline(0, color=GREY, linewidth=0.8)
    lead.hlines(y, 0, score, color=tint, linewidth=2)
    lead.scatter(score, y, c=tint, s=26, zorder=3)
    highest, lowest = max(score.max(), 1.0), min(score.min(), 0.0)
    if score.isna().all():
        highest, lowest = 1.0, 0.0
    lead.set(xlim=(lowest - 0.05 * highest, 1.9 * highest), xlabel="log odds")
    for place, value, name in zip(y, score, table["sister"].fillna("").astype(str), strict=True):
        if np.isfinite(value):
            at = max(value, 0) + 0.06 * highest
            lead.text(at, place, name.replace("_", " "), fontsize=6, va="center", color="#555555")
    lead.set_title("Lead over the nearest sister", loc="left")

    conflict.barh(y, table["cell_conflict"].astype(float), color=tint, height=0.6)
    conflict.scatter(table["group_conflict"], y, facecolors="white", edgecolors=tint, s=20, zorder=3, clip_on=False)
    conflict.set(xlim=(-0.03, 1.03), xlabel="share of the type's cells")
    conflict.set_title("Negative markers", loc="left")
    for place in np.flatnonzero((table["n_negative"] == 0) & named):
        conflict.text(0.01, place, "none known", fontsize=6, va="center", color="#777777")

    names = [
        f"{row.cell_type.replace('_', ' ')}  ({row.n_cells:,} cells, {row.n_patients} pat.)"
        for row in table.itertuples()
    ]
    markers.set_yticks(y, names)
    markers.set_ylim(n - 0.4, -0.6)
    for axes in (markers, confidence, lead, conflict):
        axes.grid(axis="y", color=LIGHT, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=INK, markersize=5, label="own markers"),
        Line2D(
            [],
            [],
            marker="o",
            linestyle="",
            color=INK,
            markerfacecolor="white",
            markersize=4.5,
            label="foreign markers; groups with a negative one",
        ),
        *(
            Line2D([], [], marker="s", linestyle="", color=colour, label=name.replace("_", " "))
            for name, colour in palette.items()
        ),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 6))
    return figure


def plot_agreement(comparison: pd.DataFrame, agreement: pd.DataFrame) -> Figure:
    """Share of each label from elsewhere (columns) in each cell type (rows), one panel per source.

    Parameters
    ----------
    comparison, agreement
        From :func:`livermet.annotation_summary.compare_sources`.
    """
    if comparison.empty:
        return message_figure(NO_SOURCE)
    sources = [source for source in comparison["source"] if (agreement["source"] == source).any()]
    if not sources:
        reasons = [f"{row.source}: {row.reason}" for row in comparison.itertuples()]
        return message_figure("No labels from elsewhere to compare with\n" + "\n".join(reasons))
    tables = {source: _shares(agreement[agreement["source"] == source]) for source in sources}
    heights = [0.2 * len(table) + 2.6 for table in tables.values()]
    widest = max(table.shape[1] for table in tables.values())
    figure = new_figure(width=max(7.5, 0.2 * widest + 4.2), height=sum(heights))
    figure.get_layout_engine().set(rect=(0, 0.02, 1, 0.98))
    panels = figure.subplots(len(sources), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, source in zip(panels, sources, strict=True):
        table = tables[source]
        cells = agreement[agreement["source"] == source].groupby("cell_type")["n_cells"].sum()
        image = axes.imshow(table, aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        axes.set_xticks(range(table.shape[1]), [name.replace("_", " ") for name in table.columns], rotation=90)
        axes.set_yticks(range(len(table)), [f"{name.replace('_', ' ')}  ({cells[name]:,})" for name in table.index])
        axes.tick_params(length=0, labelsize=6.5)
        axes.set_title(_title(comparison.set_index("source").loc[source], SOURCE_TITLES[source]), loc="left")
    figure.colorbar(image, ax=list(panels), shrink=0.5, aspect=20, pad=0.01).set_label("share of the type's cells")
    return figure


def _shares(agreement: pd.DataFrame) -> pd.DataFrame:
    """Types x labels; both in an order that puts agreement near the diagonal, what is left open last."""
    size = agreement.groupby("label")["n_cells"].sum().sort_values(ascending=False, kind="stable")
    kept = set(size.index[:MAX_LABELS])
    table = agreement.assign(label=agreement["label"].where(agreement["label"].isin(kept), "(other labels)"))
    shares = table.pivot_table(index="cell_type", columns="label", values="share", aggfunc="sum", fill_value=0.0)
    open_types = [name for name in (keys.UNCERTAIN_EPITHELIAL, keys.UNKNOWN) if name in shares.index]
    rows = [*(name for name in shares.index if name not in open_types), *open_types]
    shares = shares.loc[rows]
    last = [name for name in ("(other labels)", "unassigned") if name in shares.columns]
    first = [name for name in shares.columns if name not in last]
    columns = sorted(first, key=lambda name: (int(shares[name].to_numpy().argmax()), name))
    return shares[[*columns, *last]]


def _title(row: pd.Series, name: str) -> str:
    parts = [f"{name}: {int(row['n_cells']):,} cells, {int(row['n_unassigned']):,} unassigned"]
    if np.isfinite(row["adjusted_rand"]):
        parts.append(f"adjusted Rand index {row['adjusted_rand']:.2f}")
    if np.isfinite(row["kappa"]):
        parts.append(f"kappa {row['kappa']:.2f} over {int(row['n_common_labels'])} common labels")
    return "; ".join(parts)
