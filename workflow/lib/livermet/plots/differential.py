"""Figures of differential expression and of the activity of gene sets."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from livermet import keys
from livermet.differential import TYPE
from livermet.plots.style import ACCENT, GREY, INK, LIGHT, message_figure, new_figure

PANELS = 9
COLUMNS = 3
NAMED = 6  # genes with their name per panel
LINE = 235  # characters per line of text below the panels
SHOWN_T = 5.0  # activities beyond it have the same colour


def plot_volcano(genes: pd.DataFrame, tests: pd.DataFrame, *, label: str, fdr: float) -> Figure:
    """Fold change against p of every tested gene, one panel per type.

    At most ``PANELS`` types: those with most leads, then those with most patients in the smaller class.

    Parameters
    ----------
    genes, tests
        As made by :func:`livermet.differential.differential_expression`.
    label
        Name of the label.
    fdr
        q_global at or below which a gene is a lead.
    """
    tested = tests[tests["status"] == "tested"]
    if tested.empty:
        return message_figure(f"No cell type was compared.\n{_wrapped(refusal_words(tests), 110)}", width=9, height=2.2)
    power = tested.assign(smaller=tested[["n_alt", "n_ref"]].min(axis=1))
    order = power.sort_values(["n_leads", "smaller", "n_genes", *TYPE], ascending=[False, False, False, True, True])
    shown = order.head(PANELS)
    lines = -(-len(shown) // COLUMNS)
    several = _several(tests)
    notes = [_shown_words(len(shown), len(tested))] if len(shown) < len(tested) else []
    notes += [text for text in (refusal_words(tests),) if text]
    words = "\n".join(_wrapped(text, LINE) for text in notes)
    figure, below = _with_text_below(width=12.5, height=3.1 * lines + 0.5, words=words, spare=0.3)
    panels = figure.subplots(lines, COLUMNS, squeeze=False)
    for axes in panels.flat[len(shown) :]:
        axes.set_axis_off()
    names = []
    for axes, test in zip(panels.flat, shown.to_dict("records"), strict=False):
        rows = genes[(genes[TYPE] == [test[name] for name in TYPE]).all(axis=1)].dropna(subset="p")
        names.append(_volcano(axes, rows, fdr=fdr))
        title = f"{_type_name(test, several)}: {test['n_alt']} with, {test['n_ref']} without"
        axes.set_title(f"{title}\n{test['n_genes']:,} genes, {test['n_leads']} leads, {test['design']}", loc="left")
    for axes in panels[:, 0]:
        axes.set_ylabel("-log10 p")
    for axes in panels.flat[max(0, len(shown) - COLUMNS) : len(shown)]:
        axes.set_xlabel(f"log2 fold change (right: higher with {label})")
    figure.legend(handles=_volcano_handles(fdr), loc="upper center", bbox_to_anchor=(0.5, below), ncols=3)
    _separate(figure, panels.flat, names)
    return figure


def plot_activity(
    contrast: pd.DataFrame, activity: pd.DataFrame, tests: pd.DataFrame, *, label: str, fdr: float
) -> Figure:
    """Heatmap of the activity of gene sets (columns) in cell types (rows).

    Shown is the contrast of the label or, where no type was compared, the mean over patients against the mean of all
    types.

    Parameters
    ----------
    contrast, activity
        As made by :mod:`livermet.activity`.
    tests
        As made by :func:`livermet.differential.differential_expression`.
    label
        Name of the label.
    fdr
        q over patients at or below which a set is marked.
    """
    if contrast["activity"].notna().any():
        n = contrast["n_alt"].astype(str) + " v " + contrast["n_ref"].astype(str)
        several = _several(contrast)
        table = contrast.assign(row=[_type_name(r, several) for r in contrast.to_dict("records")] + (", " + n))
        title = f"{label}: with against without"
        return _heatmap(
            table, title=title, note=refusal_words(tests), marked=table[(table["q"] <= fdr) & table["activity"].notna()]
        )
    described = activity.dropna(subset="activity_among_types")
    why = f"No contrast: {refusal_words(tests)}"
    if described.empty:
        few = "No profile holds enough genes of a set, or there are no cells of a named type."
        return message_figure(f"{few}\n{_wrapped(why, 110)}", width=9, height=2.4)
    place = [keys.MODALITY, keys.TIMEPOINT, keys.TISSUE]
    largest = described.groupby(place)[keys.PATIENT].nunique().sort_values(ascending=False, kind="stable").index[0]
    here = described[(described[place] == list(largest)).all(axis=1)]
    table = (
        here.groupby([keys.CELL_TYPE, "set", "kind"])["activity_among_types"].mean().rename("activity").reset_index()
    )
    n = here.groupby(keys.CELL_TYPE)[keys.PATIENT].nunique()
    table["row"] = [f"{name.replace('_', ' ')}, n = {n[name]}" for name in table[keys.CELL_TYPE]]
    return _heatmap(table, title=f"Against the mean of all types: {', '.join(largest)}", note=why, marked=table.head(0))


def refusal_words(tests: pd.DataFrame) -> str:
    """How many types were not compared, which, and the reason or the patients of each; "" where all were."""
    refused = tests[tests["status"] == "refused"]
    if refused.empty:
        return "" if len(tests) else "there are no cells of a named type."
    reasons = list(dict.fromkeys(refused["reason"]))
    names = refused[keys.CELL_TYPE].str.replace("_", " ")
    if len(reasons) == 1:
        return f"{len(refused)} types not compared ({', '.join(names)}): {reasons[0]}."
    sizes = names + " " + refused["n_alt"].astype(str) + " v " + refused["n_ref"].astype(str)
    return f"{len(refused)} types not compared, reasons in differential_tests.tsv: {', '.join(sizes)} patients."


def _shown_words(n_shown: int, n_tested: int) -> str:
    return f"{n_shown} of {n_tested} compared types are shown; differential.tsv holds all."


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width))


def _several(rows: pd.DataFrame) -> bool:
    return len(rows[keys.MODALITY].unique()) > 1


def _type_name(row: dict, several: bool) -> str:
    name = str(row[keys.CELL_TYPE]).replace("_", " ")
    return f"{name}, {row[keys.MODALITY]}" if several else name


def _volcano(axes: Axes, rows: pd.DataFrame, *, fdr: float) -> list:
    """Draw one panel; returns the names of its top genes, still to be put apart."""
    height = -np.log10(rows["p"].clip(lower=1e-300))
    ambient = (rows["ambient"].fillna(0) == 1).to_numpy()
    lead = (rows["q_global"] <= fdr).to_numpy()
    plain = ~ambient & ~lead
    x = rows["log2_fold_change"]
    axes.axvline(0, color=LIGHT, linewidth=1, zorder=0)
    axes.scatter(x[plain], height[plain], s=6, color=GREY, linewidths=0, alpha=0.5, rasterized=True)
    axes.scatter(x[ambient], height[ambient], s=16, marker="x", color="#b5803a", linewidths=0.9)
    axes.scatter(x[lead], height[lead], s=12, color=ACCENT, linewidths=0)
    limit = 1.08 * max(1.0, float(x.abs().max()))
    axes.set(xlim=(-limit, limit), ylim=(0, 1.18 * max(1.0, float(height.max()))))
    top = rows.index[~ambient][:NAMED]  # the table is sorted by p
    return [
        axes.text(x[i], height[i], rows["gene"][i], fontsize=6.5, color=ACCENT if rows["q_global"][i] <= fdr else INK)
        for i in top
    ]


def _volcano_handles(fdr: float) -> list[Line2D]:
    dot = {"linestyle": "", "markersize": 4}
    return [
        Line2D([], [], marker="o", color=ACCENT, label=f"lead (q over types and genes at most {fdr:g})", **dot),
        Line2D([], [], marker="o", color=GREY, label="other genes", **dot),
        Line2D([], [], marker="x", color="#b5803a", label="ambient RNA explains the gene in this type: no lead", **dot),
    ]


def _separate(figure: Figure, panels, names: list[list]) -> None:
    """Move the names of genes apart, once the layout is settled."""
    from adjustText import adjust_text

    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes, texts in zip(panels, names, strict=False):
        if texts:
            line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5}
            adjust_text(texts, ax=axes, arrowprops=line, expand=(1.1, 1.4), ensure_inside_axes=True)


def _heatmap(table: pd.DataFrame, *, title: str, note: str, marked: pd.DataFrame) -> Figure:
    sets = table[["set", "kind"]].drop_duplicates().sort_values(["kind", "set"])
    wide = table.pivot_table(index="row", columns="set", values="activity", dropna=False)[sets["set"]]
    width = max(8.0, 0.3 * wide.shape[1] + 3.4)
    figure, _ = _with_text_below(width=width, height=2.6 + 0.24 * len(wide), words=_wrapped(note, int(18 * width)))
    axes = figure.subplots()
    axes.set_facecolor(LIGHT)
    image = axes.imshow(
        wide, aspect="auto", cmap="RdBu_r", norm=TwoSlopeNorm(0, -SHOWN_T, SHOWN_T), interpolation="nearest"
    )
    row = {name: i for i, name in enumerate(wide.index)}
    column = {name: i for i, name in enumerate(wide.columns)}
    axes.scatter(marked["set"].map(column), marked["row"].map(row), s=10, color=INK, linewidths=0)
    axes.set_xticks(range(wide.shape[1]), [name.replace("_", " ") for name in wide.columns], rotation=90)
    axes.set_yticks(range(len(wide)), wide.index)
    axes.tick_params(length=0)
    axes.axvline(int((sets["kind"] == "pathway").sum()) - 0.5, color="white", linewidth=3)
    axes.set_title(f"{title}\npathways | transcription factors; grey: fewer than five genes measured", loc="left")
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.7, pad=0.01, extend="both").set_label("activity (t over genes)")
    return figure


def _with_text_below(*, width: float, height: float, words: str, spare: float = 0.05) -> tuple[Figure, float]:
    """An empty figure with lines of text below its panels, spare inches above them, and the share of both."""
    taken = 0.25 + 0.14 * (words.count("\n") + 1) + spare
    figure = new_figure(width=width, height=height + taken)
    below = taken / (height + taken)
    figure.get_layout_engine().set(rect=(0, below, 1, 1 - below))
    figure.text(0.01, (taken - spare) / (height + taken), words, ha="left", va="top", fontsize=7)
    return figure, below
