"""Figure of growth patterns: their shares of the interface of each section, beside the pathologist's reading."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from livermet.growth import PATTERNS, agreement
from livermet.plots.style import INK, LIGHT, message_figure, new_figure

PATTERN_COLOURS = {"desmoplastic": "#8e44ad", "replacement": "#c0392b", "pushing": "#2e6fb7"}


def plot_growth(table: pd.DataFrame, *, min_mm: float) -> Figure:
    """One bar per section, stacked by pattern, with the length of its interface and the pathologist's main pattern.

    Sections without a growth pattern have an empty bar and say why.

    Parameters
    ----------
    table
        ``growth_pattern.tsv`` (:func:`livermet.growth.growth_table`).
    min_mm
        Length of border that was needed.
    """
    if table.empty:
        return message_figure("No growth patterns: the scope has no section.")
    # From the top: sections with a pattern first, by patient and library.
    table = table.assign(refused=table["growth_pattern"] == "").sort_values(["refused", "patient_id", "library_id"])
    y = np.arange(len(table))[::-1]
    figure = new_figure(width=9.0, height=1.3 + 0.24 * len(table))
    bars, length = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
    left = np.zeros(len(table))
    for name in PATTERNS:
        width = table[f"{name}_pct"].to_numpy(dtype=float)
        bars.barh(y, np.nan_to_num(width), left=left, height=0.72, color=PATTERN_COLOURS[name], label=name)
        left += np.nan_to_num(width)
    for place, row in zip(y, table.itertuples(), strict=True):
        if row.refused:
            bars.barh(place, 100, height=0.72, color="white", edgecolor=LIGHT)
            text = row.reason if len(row.reason) < 75 else f"{row.reason[:72]}..."
            bars.text(1, place, text, va="center", fontsize=6, color="#555555")
        if row.pathologist:
            colour = PATTERN_COLOURS[row.pathologist]
            bars.plot(103, place, marker="D", ms=5, color=colour, clip_on=False)
    bars.set(xlim=(0, 100), xlabel="percent of the interface", yticks=y, ylim=(-0.6, len(table) - 0.4))
    bars.set_yticklabels([f"{row.library_id}" for row in table.itertuples()])
    n, alike, kappa = agreement(table)
    said = f"pathologist (diamonds): {alike} of {n} alike" + (
        "" if np.isnan(kappa) else f", kappa {round(kappa, 2) + 0.0:.2f}"
    )
    bars.set_title(said if n else "no section with a reading by both the workflow and the pathologist", loc="left")
    length.barh(y, table["interface_mm"], height=0.72, color="#9a9a9a")
    length.axvline(min_mm, color=INK, lw=0.8, ls="--")
    length.set(xlim=(0, max(1.15 * table["interface_mm"].max(), 1.5 * min_mm)))
    length.set_xlabel("interface, mm", loc="left")
    length.set_title(f"{min_mm:g} mm needed", loc="left")
    length.tick_params(axis="y", length=0)
    figure.legend(*bars.get_legend_handles_labels(), loc="outside upper right", ncols=len(PATTERNS))
    return figure
