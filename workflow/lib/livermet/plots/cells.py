"""Figures of integration and annotation."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from livermet import keys
from livermet.plots.style import GREY, INK, LIGHT, colours, message_figure, new_figure

NO_CELLS = "No cells to show"
MAX_LEGEND_ROWS = 16
NARROWEST = 6  # bars of composition that a panel is wide at least
BARS_IN_A_ROW = 60


def _nothing(reason: str) -> Figure:
    return message_figure(f"{NO_CELLS}: {reason}" if reason else NO_CELLS)


def _legend(axes: Axes, palette: dict[str, str], counts: pd.Series | None = None) -> None:
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=4.5, color=colour, label=_label(name, counts))
        for name, colour in palette.items()
    ]
    axes.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        ncols=-(-len(handles) // MAX_LEGEND_ROWS),
        handletextpad=0.2,
        columnspacing=0.8,
        borderaxespad=0.2,
    )


def _label(name: str, counts: pd.Series | None) -> str:
    text = name.replace("_", " ")
    return text if counts is None else f"{text} ({counts[name]:,})"


def plot_umap(obs: pd.DataFrame, coordinates: np.ndarray | None, *, max_cells: int, reason: str) -> Figure:
    """UMAP of cells in five panels: cluster, compartment, cell type, patient, malignant call.

    Parameters
    ----------
    obs
        One row per cell.
    coordinates
        Cells x 2, or None where UMAP is switched off.
    max_cells
        Cells drawn at most: every k-th in the order of names.
    reason
        Why there are no cells, if so.
    """
    if coordinates is None:
        return message_figure("UMAP is switched off (integrate: umap)")
    if len(obs) == 0:
        return _nothing(reason)
    drawn = np.arange(0, len(obs), max(1, -(-len(obs) // max_cells)))
    # Neighbouring names belong to one library: a fixed shuffle keeps the last library from covering the others.
    drawn = np.random.default_rng(0).permutation(drawn)
    figure = new_figure(width=12.5, height=10.5)
    panels = figure.subplots(3, 2)
    columns = {
        keys.CLUSTER: "Cluster",
        keys.COMPARTMENT: "Compartment",
        keys.CELL_TYPE: "Cell type",
        keys.PATIENT: "Patient",
        keys.MALIGNANT: "Malignant call",
    }
    size = np.clip(20000 / max(len(drawn), 1), 1.5, 14)
    for axes, (column, title) in zip(panels.ravel(), columns.items(), strict=False):
        values = obs[column].astype(str)
        counts = values.value_counts()
        names = sorted(counts.index) if column in (keys.CLUSTER, keys.PATIENT) else list(counts.index)
        palette = colours(names)
        axes.scatter(
            *coordinates[drawn, :2].T, c=values.iloc[drawn].map(palette), s=size, linewidths=0, rasterized=True
        )
        axes.set(title=f"{title} ({len(names)})", xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_aspect("equal", adjustable="datalim")
        _legend(axes, palette, counts)
    note = panels.ravel()[-1]
    note.axis("off")
    note.text(
        0.0,
        0.5,
        f"{len(obs):,} cells, {len(drawn):,} drawn\nFor display only: clusters and types come from\n"
        "the neighbour graph and marker evidence.",
        transform=note.transAxes,
        va="center",
        color="#555555",
    )
    return figure


def plot_markers(table: pd.DataFrame, *, reason: str) -> Figure:
    """Dot plot of marker genes (columns) in cell types (rows).

    Parameters
    ----------
    table
        From :func:`livermet.annotate.marker_expression`.
    reason
        Why there is nothing to show, if so.
    """
    if table.empty:
        return _nothing(reason or "no cell of a type of the marker table")
    types = list(dict.fromkeys(table["cell_type"]))
    genes = list(dict.fromkeys(table["gene"]))
    figure = new_figure(width=max(6.0, 0.165 * len(genes) + 3.2), height=max(2.8, 0.24 * len(types) + 1.9))
    axes = figure.subplots()
    highest = table.groupby("gene")["mean"].transform("max").replace(0, 1)
    x = table["gene"].map({gene: i for i, gene in enumerate(genes)})
    y = table["cell_type"].map({name: i for i, name in enumerate(types)})
    points = axes.scatter(
        x,
        y,
        s=75 * table["fraction"],
        c=table["mean"] / highest,
        cmap="Reds",
        vmin=0,
        vmax=1,
        edgecolors=GREY,
        linewidths=0.3,
    )
    owner = table.drop_duplicates("gene").set_index("gene")["marker_of"]
    for i in range(1, len(genes)):
        if owner[genes[i]] != owner[genes[i - 1]]:
            axes.axvline(i - 0.5, color=LIGHT, linewidth=0.8, zorder=0)
    axes.set_xticks(range(len(genes)), genes, rotation=90, fontsize=6.5)
    axes.set_yticks(range(len(types)), [name.replace("_", " ") for name in types])
    axes.set(xlim=(-0.7, len(genes) - 0.3), ylim=(len(types) - 0.4, -0.6))
    axes.tick_params(length=0)
    bar = figure.colorbar(points, ax=axes, shrink=0.5, aspect=14, pad=0.01, anchor=(0, 1))
    bar.set_label("mean, scaled per gene")
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=np.sqrt(75 * f), color=GREY, label=f"{f:.0%}")
        for f in (0.1, 0.4, 0.8)
    ]
    axes.legend(
        handles=handles, title="cells that express", loc="lower left", bbox_to_anchor=(1.0, 0.0), title_fontsize=7
    )
    return figure


def composition_table(obs: pd.DataFrame) -> pd.DataFrame:
    """Share of each cell type (columns) per patient within a modality, tissue and timepoint (rows)."""
    table = pd.crosstab([_place(obs), obs[keys.PATIENT].astype(str)], obs[keys.CELL_TYPE].astype(str))
    return table.div(table.sum(axis=1), axis=0)


def _place(obs: pd.DataFrame) -> pd.Series:
    parts = [obs[name].astype(str) for name in (keys.MODALITY, keys.TISSUE, keys.TIMEPOINT)]
    return parts[0] + ", " + parts[1] + ", " + parts[2]


def plot_composition(obs: pd.DataFrame, *, reason: str) -> Figure:
    """Stacked bars of cell types per patient, sorted by the share of malignant cells.

    One panel per modality, tissue and timepoint.
    """
    if len(obs) == 0:
        return _nothing(reason)
    shares = composition_table(obs)
    first = obs.groupby(obs[keys.CELL_TYPE].astype(str))[keys.COMPARTMENT].agg(
        lambda values: values.astype(str).mode().iloc[0]
    )
    order = sorted(shares.columns, key=lambda name: (name == keys.UNKNOWN, str(first[name]), -shares[name].mean()))
    palette = colours(order)
    places = list(dict.fromkeys(shares.index.get_level_values(0)))
    widths = [max(len(shares.loc[place]), NARROWEST) for place in places]
    beside = sum(widths) <= BARS_IN_A_ROW
    if beside:
        figure = new_figure(width=max(7.5, 0.27 * sum(widths) + 4.2), height=4.6)
        panels = figure.subplots(1, len(places), squeeze=False, width_ratios=widths)[0]
    else:
        figure = new_figure(width=max(7.5, 0.27 * max(widths) + 4.2), height=max(4.4, 3.6 * len(places)))
        panels = figure.subplots(len(places), 1, squeeze=False)[:, 0]
    sizes = obs.groupby([_place(obs), obs[keys.PATIENT].astype(str)]).size()
    for axes, place in zip(panels, places, strict=True):
        table = shares.loc[place]
        tumour = table[keys.MALIGNANT_TYPE] if keys.MALIGNANT_TYPE in table else pd.Series(0.0, index=table.index)
        patients = tumour.sort_values(ascending=False, kind="stable").index
        bottom = np.zeros(len(patients))
        for name in order:
            height = table.loc[patients, name].to_numpy()
            axes.bar(range(len(patients)), height, bottom=bottom, color=palette[name], width=0.85, linewidth=0)
            bottom += height
        for i, patient in enumerate(patients):
            axes.text(i, 1.01, f"{sizes[(place, patient)]:,}", ha="center", va="bottom", fontsize=6, rotation=90)
        axes.set_xticks(range(len(patients)), patients, rotation=90)
        axes.set(ylim=(0, 1.12), xlim=(-0.7, max(len(patients), NARROWEST) - 0.3))
        if axes is panels[0] or not beside:
            axes.set_ylabel("share of cells")
        title = f"{place}, n = {len(patients)}"
        axes.set_title(title.replace(", ", "\n") if beside else title, loc="left", pad=12, fontsize=8)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    handles = [Line2D([], [], marker="s", linestyle="", color=palette[n], label=n.replace("_", " ")) for n in order]
    figure.legend(handles=handles, loc="outside right center", ncols=-(-len(order) // 30))
    return figure


def plot_malignancy(obs: pd.DataFrame, arms: pd.DataFrame, *, reason: str) -> Figure:
    """Copy-number score by cell type and by patient, and the arms of each patient.

    Parameters
    ----------
    obs
        Annotated cells.
    arms
        The table of arms, ``cnv.tsv``.
    reason
        Why there are no cells, if so.
    """
    if len(obs) == 0:
        return _nothing(reason)
    tested = obs[obs[keys.MALIGNANT].astype(str) != "not_tested"]
    if tested.empty:
        why = sorted(set(arms["reason"].dropna())) if "reason" in arms else []
        return message_figure("Copy number was not tested in any patient: " + "; ".join(why))
    heat = arms.pivot_table(index=keys.PATIENT, columns="arm", values="mean_log_ratio", dropna=False)
    heat = heat[sorted(heat.columns, key=_arm_order)]
    figure = new_figure(width=11.5, height=3.6 + max(1.6, 0.2 * len(heat) + 1.2))
    # The lower edge stays free for the label of simulated data.
    figure.get_layout_engine().set(rect=(0, 0.03, 1, 0.97))
    top, bottom = figure.subfigures(2, 1, height_ratios=[3.6, max(1.6, 0.2 * len(heat) + 1.2)])
    left, right = top.subplots(1, 2)
    calls = [call for call in keys.MALIGNANT_CALLS if call != "not_tested"]
    palette = colours(calls)
    types = tested.groupby(tested[keys.CELL_TYPE].astype(str))[keys.CNV_SCORE].median().sort_values().index
    _strip(left, tested, tested[keys.CELL_TYPE].astype(str), list(types), palette)
    left.set(title="All tested cells, by type", xlabel="copy-number score")
    epithelial = tested[tested[keys.COMPARTMENT].astype(str) == "epithelial"]
    patients = sorted(epithelial[keys.PATIENT].astype(str).unique(), reverse=True)
    _strip(right, epithelial, epithelial[keys.PATIENT].astype(str), patients, palette)
    right.set(title="Epithelial cells, by patient", xlabel="copy-number score")
    counts = epithelial[keys.MALIGNANT].astype(str).value_counts().reindex(calls, fill_value=0)
    handles = [Line2D([], [], marker="o", linestyle="", color=palette[c], label=f"{c} ({counts[c]:,})") for c in calls]
    right.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), title="epithelial cells", title_fontsize=7
    )
    axes = bottom.subplots()
    limit = max(0.2, float(np.nanquantile(np.abs(heat.to_numpy()), 0.98))) if heat.notna().to_numpy().any() else 0.2
    axes.set_facecolor(LIGHT)
    image = axes.imshow(
        heat, aspect="auto", cmap="RdBu_r", norm=TwoSlopeNorm(0, -limit, limit), interpolation="nearest"
    )
    called = arms[arms["called"].isin(["gain", "loss"])]
    row = {patient: i for i, patient in enumerate(heat.index)}
    column = {arm: i for i, arm in enumerate(heat.columns)}
    axes.scatter(called["arm"].map(column), called[keys.PATIENT].map(row), s=6, color=INK, linewidths=0)
    axes.set_xticks(range(len(heat.columns)), heat.columns, rotation=90)
    axes.set_yticks(range(len(heat)), heat.index)
    axes.set_title("Chromosome arms of the malignant cells (dot: called)", loc="left")
    bottom.colorbar(image, ax=axes, aspect=12, pad=0.01).set_label("mean log ratio")
    return figure


def _arm_order(arm: str) -> tuple[int, str]:
    number = arm.replace("q", "p").split("p")[0]
    return (int(number) if number.isdigit() else 99, arm)


def _strip(axes: Axes, table: pd.DataFrame, rows: pd.Series, order: list[str], palette: dict[str, str]) -> None:
    rng = np.random.default_rng(0)
    y = rows.map({name: i for i, name in enumerate(order)}).to_numpy() + rng.uniform(-0.3, 0.3, size=len(rows))
    colour = table[keys.MALIGNANT].astype(str).map(palette)
    axes.scatter(table[keys.CNV_SCORE], y, s=2.5, c=colour, linewidths=0, alpha=0.7, rasterized=True)
    axes.set_yticks(range(len(order)), [name.replace("_", " ") for name in order], fontsize=6)
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.axvline(0, color=GREY, linewidth=0.6, zorder=0)


def plot_clustering(table: pd.DataFrame, *, reason: str) -> Figure:
    """Stability and number of clusters per resolution; the chosen one filled."""
    if table.empty:
        return _nothing(reason)
    figure = new_figure(width=5.2, height=3.2)
    axes = figure.subplots()
    axes.errorbar(table["resolution"], table["stability"], yerr=table["stability_sd"], color=GREY, capsize=2, zorder=1)
    fill = np.where(table["chosen"] == 1, "#c0392b", "white")
    axes.scatter(table["resolution"], table["stability"], c=fill, edgecolors=INK, s=42, zorder=2)
    for row in table.itertuples():
        axes.annotate(
            f"{row.n_clusters}",
            (row.resolution, row.stability),
            xytext=(9, 6),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    low = float((table["stability"] - table["stability_sd"]).min())
    axes.set(xlabel="resolution", ylabel="stability (adjusted Rand index)", ylim=(min(low, 0.9) - 0.05, 1.08))
    axes.set_title("Number of clusters above each point; filled: chosen", loc="left", fontsize=8)
    return figure
