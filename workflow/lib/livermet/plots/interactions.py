"""Figure of ligand-receptor interactions: edges to and from malignant cells, each patient a dot."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from livermet import keys
from livermet.interactions import EDGE, summarise_interactions
from livermet.plots.style import CYCLE, GREY, INK, LIGHT, message_figure, new_figure

STRATUM = [keys.TIMEPOINT, keys.TISSUE, keys.MODALITY]
MIN_PATIENTS = 3
DIRECTIONS = {"receiver": "to malignant cells", "sender": "from malignant cells"}


def plot_interactions(table: pd.DataFrame, *, n_edges: int) -> Figure:
    """Strongest edges to and from malignant cells.

    Edges are the strongest by median over the patients of the stratum (timepoint, tissue, modality) with most
    patients. Patients of other strata are drawn in their own colour and enter no median.

    Parameters
    ----------
    table
        As returned by :func:`livermet.interactions.score_interactions`.
    n_edges
        How many edges to show in each direction.
    """
    summary = summarise_interactions(table)
    summary = summary[summary["n_scored"] > 0]
    if summary.empty:
        return message_figure(
            "No ligand-receptor edge could be scored: no patient has enough malignant cells and cells of another type, "
            "or no pair is expressed.\nThe status and reason columns of interactions.tsv say which."
        )
    scored = table[table["status"] == "scored"]
    sizes = scored.groupby(STRATUM)[keys.PATIENT].nunique().sort_values(ascending=False, kind="stable")
    main = summary[_is(summary, sizes.index[0])]
    shown = {
        side: main[(main[side] == keys.MALIGNANT_TYPE) & (main["sender"] != main["receiver"])].pipe(_strongest, n_edges)
        for side in DIRECTIONS
    }
    shown = {side: edges for side, edges in shown.items() if not edges.empty}
    if not shown:
        return message_figure("Only edges of malignant cells with themselves were scored; interactions.tsv lists them.")
    height = 1.6 + 0.2 * max(len(edges) for edges in shown.values())
    figure = new_figure(width=6.6 * len(shown), height=height)
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for ax, (side, edges) in zip(axes, shown.items(), strict=True):
        _draw(ax, edges, scored, sizes)
        ax.set_title(f"{DIRECTIONS[side]}, {len(edges)} strongest edges", loc="left", weight="bold")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(3, len(names)))
    return figure


def _is(table: pd.DataFrame, stratum: tuple) -> pd.Series:
    return (table[STRATUM] == list(stratum)).all(axis=1)


def _strongest(edges: pd.DataFrame, n_edges: int) -> pd.DataFrame:
    """Strongest edges among those scored in several patients, where there are any: one patient tops no list."""
    often = edges[edges["n_scored"] >= min(MIN_PATIENTS, edges["n_scored"].max())]
    return often.nlargest(n_edges, "median_magnitude", keep="first").sort_values("median_magnitude")


def _draw(ax, edges: pd.DataFrame, scored: pd.DataFrame, sizes: pd.Series) -> None:
    position = {edge: i for i, edge in enumerate(edges[EDGE].itertuples(index=False, name=None))}
    for i, (stratum, n) in enumerate(sizes.items()):
        rows = scored[_is(scored, stratum)]
        y = np.array([position.get(edge, -1) for edge in rows[EDGE].itertuples(index=False, name=None)])
        # Patients of further strata lie a little lower, so that dots of two protocols don't cover each other.
        offset = 0.0 if len(sizes) == 1 else 0.18 * (1 - 2 * i / (len(sizes) - 1))
        ax.scatter(
            rows["magnitude"][y >= 0],
            y[y >= 0] + offset,
            s=14,
            color=CYCLE[i % len(CYCLE)],
            alpha=0.75,
            linewidths=0,
            label=f"{' '.join(stratum)}: {n} patients scored",
            zorder=3,
        )
    where = np.arange(len(edges))
    ax.hlines(where, edges["q25_magnitude"], edges["q75_magnitude"], color=GREY, lw=3.5, alpha=0.5, zorder=1)
    ax.scatter(edges["median_magnitude"], where, marker="|", s=70, color=INK, linewidths=1.4, zorder=4)
    for i, edge in enumerate(edges.itertuples()):
        note = f"{edge.n_scored}/{edge.n_patients}"
        ax.annotate(note, (1.01, i), xycoords=("axes fraction", "data"), va="center", fontsize=6.5)
    ax.annotate("patients", (1.01, len(edges) - 0.3), xycoords=("axes fraction", "data"), va="bottom", fontsize=6.5)
    marks = [" ●" if grade == "C" else "" for grade in edges["evidence_grade"]]
    soup = [" ~" if n > 0 else "" for n in edges["n_ambient"]]
    ax.set_yticks(
        where,
        [
            f"{_words(e.sender)} → {_words(e.receiver)}   {e.ligand}–{e.receptor}{mark}{wave}"
            for e, mark, wave in zip(edges.itertuples(), marks, soup, strict=True)
        ],
    )
    ax.set_ylim(-0.6, len(edges) - 0.4)
    ax.grid(axis="y", color=LIGHT, lw=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel("magnitude (LRscore, 0 to 1) per patient; bar: median and quartiles")


def _words(cell_type: str) -> str:
    return "malignant" if cell_type == keys.MALIGNANT_TYPE else cell_type
