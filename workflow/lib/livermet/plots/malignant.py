"""Figure of the malignant cells per patient: subtypes, PurIST, other states, numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from livermet import keys
from livermet.plots.style import ACCENT, GREY, INK, LIGHT, message_figure, new_figure

PLACE = [keys.MODALITY, keys.TISSUE, keys.TIMEPOINT]
BASAL, INTERMEDIATE = ACCENT, "#e0b04c"
STATES = {"mal_cycling": "#2e6fb7", "mal_emt": "#8e44ad", "mal_hypoxia": "#5d6d7e"}
GAP = 1.6  # rows between two places, for the heading


def plot_malignant_states(table: pd.DataFrame) -> Figure:
    """Patients as rows, sorted by basal share within modality, tissue and timepoint.

    Parameters
    ----------
    table
        From :func:`livermet.malignant.summarise_malignant`.
    """
    if table.empty:
        return message_figure("No cells to show")
    stated = table["fraction_basal"].notna() | table["fraction_mal_cycling"].notna()
    if not stated.any():
        most = int(table["n_malignant"].max())
        return message_figure(
            f"No patient has enough malignant cells for shares of states: the most of any is {most}.\n"
            "The column reason of malignant.tsv says why for each patient."
        )
    rows, headings = _rows(table)
    height = float(rows["y"].max()) + 1.5
    figure = new_figure(width=10.5, height=1.5 + 0.19 * height)
    figure.get_layout_engine().set(rect=(0, 0.02, 1, 0.98))
    panels = figure.subplots(1, 4, sharey=True, width_ratios=[3.2, 2.4, 2.4, 1.3])
    known = rows[rows["fraction_basal"].notna()]
    _shares(panels[0], known, {"basal": BASAL, "intermediate": INTERMEDIATE})
    for y in rows.loc[rows["fraction_basal"].isna(), "y"]:
        panels[0].text(0.01, y, "too few cells", fontsize=6, va="center", color=GREY)
    panels[0].set_xlabel("share of cells with a subtype")
    _purist(panels[1], rows)
    _shares(panels[2], rows[rows["fraction_mal_cycling"].notna()], STATES)
    panels[2].set_xlabel("share of malignant cells")
    panels[3].barh(rows["y"], rows["n_malignant"], color=GREY, height=0.7, linewidth=0)
    for row in rows.itertuples():
        panels[3].text(row.n_malignant, row.y, f" {row.n_malignant:,}", va="center", fontsize=6)
    panels[3].set(xlabel="malignant cells", xlim=(0, max(rows["n_malignant"].max(), 1) * 1.35))
    for ax, title in zip(panels, ("Basal and intermediate", "PurIST", "Other states", "Cells"), strict=True):
        ax.set_title(title, loc="left", pad=14)
        ax.tick_params(axis="y", length=0)
        for y in rows["y"]:
            ax.axhline(y, color=LIGHT, linewidth=0.5, zorder=0)
    panels[0].set_yticks(rows["y"], rows[keys.PATIENT], fontsize=6.5)
    panels[0].set_ylim(height - 0.5, -GAP)
    for y, text in headings:
        panels[0].text(0.01, y, text, transform=panels[0].get_yaxis_transform(), fontsize=7, weight="bold", va="center")
    _legend(figure)
    return figure


def _rows(table: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[float, str]]]:
    """The table in the order of drawing with a height ``y`` per row, and the headings of the places."""
    parts, headings, y = [], [], 0.0
    sizes = table.groupby(PLACE).size().sort_values(ascending=False, kind="stable")
    for place in sizes.index:
        part = table[(table[PLACE] == list(place)).all(axis=1)]
        part = part.sort_values(
            ["fraction_basal", "n_malignant"], ascending=False, na_position="last", kind="stable"
        ).copy()
        headings.append((y - 0.95, f"{', '.join(place)}, n = {part['fraction_basal'].notna().sum()} of {len(part)}"))
        part["y"] = y + np.arange(len(part))
        parts.append(part)
        y += len(part) + GAP
    return pd.concat(parts, ignore_index=True), headings


def _shares(axes: Axes, rows: pd.DataFrame, names: dict[str, str]) -> None:
    shift = np.linspace(-0.22, 0.22, len(names))
    for (name, colour), dy in zip(names.items(), shift, strict=True):
        column = f"fraction_{name}"
        y = rows["y"] + dy
        axes.hlines(y, rows[f"{column}_low"], rows[f"{column}_high"], color=colour, linewidth=1.0, alpha=0.6)
        axes.scatter(rows[column], y, s=9, color=colour, linewidths=0, zorder=3)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])


def _purist(axes: Axes, rows: pd.DataFrame) -> None:
    stated = rows[rows["purist_probability"].notna()]
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    axes.hlines(stated["y"], stated["purist_low"], stated["purist_high"], color=INK, linewidth=1.0, alpha=0.6)
    axes.scatter(stated["purist_probability"], stated["y"], s=11, color=INK, linewidths=0, zorder=3)
    counted = rows[rows["purist_informative_pairs"].notna()]
    for row in counted.itertuples():
        colour = "#555555" if np.isfinite(row.purist_probability) else GREY
        axes.text(1.06, row.y, f"{row.purist_informative_pairs:.0f}", fontsize=6, va="center", color=colour)
    for row in counted[counted["purist_probability"].isna()].itertuples():
        axes.text(0.01, row.y, "not stated", fontsize=6, va="center", color=GREY)
    axes.set(xlabel="probability of basal-like; number of pairs", xlim=(-0.02, 1.16))
    axes.set_xticks([0, 0.5, 1])


def _legend(figure: Figure) -> None:
    names = {"basal": BASAL, "intermediate": INTERMEDIATE}
    names |= {name.removeprefix("mal_"): colour for name, colour in STATES.items()}
    names = {("EMT" if name == "emt" else name): colour for name, colour in names.items()}
    handles = [
        Line2D([], [], marker="o", markersize=4, linewidth=1, color=colour, label=name)
        for name, colour in names.items()
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
