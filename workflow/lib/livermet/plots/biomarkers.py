"""Figures of blood: every patient's course, areas under the ROC curve, and blood against tissue."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from livermet import keys
from livermet.blood import LINEAR
from livermet.blood_course import MEASURES
from livermet.plots.style import ACCENT, GREY, INK, LIGHT, message_figure, new_figure

COLUMNS = 4
MAX_PANELS = 12  # analytes of the courses; the figure says of how many
SCORES = tuple(name for name in LINEAR if name != "albumin")  # a few points of a scale make no course to look at
MAX_LIMITS = 3  # lines for upper limits of normal that differ by laboratory
CLASSES = {1.0: ("yes", "#2e6fb7"), 0.0: ("no", ACCENT)}
UNKNOWN = ("not known", GREY)
ALL = ("all", INK)  # of a label without classes
PER_INCH = 15  # characters of text below the panels per inch of width
TITLES = {
    "baseline": "baseline",
    "change": "change to re-evaluation",
    "slope": "slope, first course",
    "nadir": "nadir up to re-evaluation",
}
ADDED = "added to "
PAIR = ["blood", keys.MODALITY, "family", "feature"]


def plot_courses(
    series: pd.DataFrame,
    label: pd.Series,
    *,
    name: str,
    binary: bool,
    first: Sequence[str],
) -> Figure:
    """Levels of each analyte over the days of treatment, a line per patient up to the end of the first course.

    Parameters
    ----------
    series
        As made by :func:`livermet.blood_course.blood_series`.
    label
        Value of the primary label by patient.
    name, binary
        Its name, and whether lines are coloured by it.
    first
        Analytes that come first; the others follow by name.
    """
    shown = series[(series["counts"] == 1) & (series["reason"].fillna("") == "")]
    found = [analyte for analyte in sorted(shown["analyte"].unique()) if analyte not in SCORES]
    order = [analyte for analyte in dict.fromkeys(first) if analyte in found]
    order += [analyte for analyte in found if analyte not in order]
    if not order:
        return message_figure("There is no blood value to show: blood.tsv is absent or holds none that can be used.")
    panels = order[:MAX_PANELS]
    columns = min(COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = new_figure(width=max(6.0, 3.2 * columns), height=2.7 * lines + 0.6)
    axes = figure.subplots(lines, columns, squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    used: dict[str, str] = {}
    for ax, analyte in zip(axes.flat, panels, strict=False):
        used |= _course(ax, shown[shown["analyte"] == analyte], label, binary=binary)
    ax = axes.flat[0]
    classes = [text for text, _ in (*CLASSES.values(), UNKNOWN, ALL) if text in used]
    handles = [ax.plot([], [], "o-", color=used[text], markersize=3, label=text)[0] for text in classes]
    handles.append(ax.plot([], [], "--", color=INK, linewidth=0.8, label="upper limit of normal")[0])
    title = name.replace("_", " ") if binary else "patients"
    figure.legend(handles=handles, title=title, loc="outside lower center", ncols=len(handles))
    if len(order) > len(panels):
        figure.suptitle(f"{len(panels)} of {len(order)} analytes", x=0.01, ha="left", fontsize=8)
    return figure


def _course(ax: Axes, rows: pd.DataFrame, label: pd.Series, *, binary: bool) -> dict[str, str]:
    """One panel; returns name and colour of the classes in it."""
    used: dict[str, str] = {}
    counts: dict[str, int] = {}
    for patient, course in rows.groupby(keys.PATIENT, sort=True):
        text, colour = CLASSES.get(label.get(patient, math.nan), UNKNOWN) if binary else ALL
        used[text], counts[text] = colour, counts.get(text, 0) + 1
        course = course.sort_values("days_on_treatment")
        ax.plot(
            course["days_on_treatment"], course["level"], "o-", color=colour, linewidth=0.7, markersize=2.2, alpha=0.65
        )
    analyte = rows["analyte"].iloc[0]
    if analyte not in LINEAR and (rows["level"] > 0).all():
        ax.set_yscale("log")
        wide = rows["level"].max() / rows["level"].min() > 100
        ax.yaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
    limits = np.unique(rows["uln"].dropna())
    for limit in limits if len(limits) <= MAX_LIMITS else [np.median(limits)]:
        ax.axhline(limit, color=INK, linestyle="--", linewidth=0.8)
    ax.axvline(0, color=GREY, linewidth=1)
    parts = [f"{counts[text]} {text}" for text, _ in [*CLASSES.values(), UNKNOWN] if text in counts]
    n = f"n = {rows[keys.PATIENT].nunique()}" + (f" ({', '.join(parts)})" if parts else "")
    ax.set_title(f"{analyte.replace('_', ' ')}\n{n}", loc="left", fontsize=8, weight="bold")
    ax.set_xlabel("days from start of treatment")
    ax.set_ylabel(rows["level_unit"].iloc[0])
    return used


def plot_areas(table: pd.DataFrame, *, reference: str, fdr: float) -> Figure:
    """Areas under the ROC curve (or rank correlations) with intervals, an analyte per line and a panel per measure.

    Parameters
    ----------
    table
        As made by :func:`livermet.biomarkers.compare_biomarkers`.
    reference
        The analyte that the others are added to in the last panel.
    fdr
        Level of q at or below which a dot is filled.
    """
    alone = table[table["model"] == "univariable"]
    refused = refusal_words(table, width=11)
    if not (table["status"] == "tested").any():
        lines = ["No biomarker was compared.", *refused] if refused else ["There is no blood value to compare."]
        return message_figure("\n".join(lines), width=11, height=1.2 + 0.17 * len(lines))
    ranked = alone["rho"].notna().any()
    columns = ("rho", "rho_low", "rho_high") if ranked else ("auc", "auc_low", "auc_high")
    analytes = sorted(alone["analyte"].unique(), key=lambda analyte: (analyte != reference, analyte))
    added = table[(table["model"] == "added_value") & (table["status"] == "tested")]
    n_panels = len(MEASURES) + (len(added) > 0)
    heights = [1.1 + 0.24 * len(analytes), 0.3 + 0.16 * len(refused)]
    figure = new_figure(width=max(11.0, 2.6 + 2.1 * n_panels), height=sum(heights))
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    axes = top.subplots(1, n_panels, sharey=True, squeeze=False)[0]
    for ax, measure in zip(axes, MEASURES, strict=False):
        rows = alone[alone["measure"] == measure].set_index("analyte").reindex(analytes)
        _areas(ax, rows, columns, fdr=fdr)
        known = rows["known_at"].dropna()
        when = f"known at {known.iloc[0]}" if len(known) else ""
        ax.set_title(f"{TITLES[measure]}\n{when}", loc="left", fontsize=8, weight="bold")
        ax.set_xlabel("rank correlation" if ranked else "area under the ROC curve")
    if len(added):
        _added(axes[-1], added.set_index("analyte").reindex(analytes), fdr=fdr)
        axes[-1].set_title(f"{ADDED}{reference}\ncross-validated, baseline", loc="left", fontsize=8, weight="bold")
        axes[-1].set_xlabel("area; hollow: reference alone")
    axes[0].set_yticks(range(len(analytes)), [analyte.replace("_", " ") for analyte in analytes], fontsize=7)
    axes[0].set_ylim(len(analytes) - 0.4, -0.6)
    bottom.text(0.01, 0.98, "\n".join(refused), ha="left", va="top", fontsize=7, color=INK)
    return figure


def _areas(ax: Axes, rows: pd.DataFrame, columns: tuple[str, str, str], *, fdr: float) -> None:
    """Dots with intervals, number of patients at the right; a refusal stands as its code."""
    middle, (left, right) = (0.0, (-1.0, 1.0)) if columns[0] == "rho" else (0.5, (0.0, 1.0))
    ax.axvline(middle, color=LIGHT, linewidth=1, zorder=0)
    for place, row in enumerate(rows.to_dict("records")):
        if row["status"] != "tested":
            if isinstance(row["refusal_code"], str):
                ax.text(middle, place, row["refusal_code"], ha="center", va="center", fontsize=6, color=GREY)
            continue
        filled = row["q"] <= fdr
        ax.plot([row[columns[1]], row[columns[2]]], [place, place], color=INK, linewidth=1)
        ax.plot(row[columns[0]], place, "o", color=INK, markersize=4.5, markerfacecolor=INK if filled else "white")
        n = f"{row['n_alt']:g} v {row['n_ref']:g}" if columns[0] == "auc" else f"n = {row['n']:g}"
        ax.text(1.01, place, n, ha="left", va="center", fontsize=5.5, color=GREY, transform=ax.get_yaxis_transform())
    ax.set_xlim(left - 0.03, right + 0.03)


def _added(ax: Axes, rows: pd.DataFrame, *, fdr: float) -> None:
    """The area of the reference alone and with the marker, joined by a line."""
    ax.axvline(0.5, color=LIGHT, linewidth=1, zorder=0)
    for place, row in enumerate(rows.to_dict("records")):
        if row["status"] != "tested":
            continue
        ax.plot([row["auc_reference"], row["auc"]], [place, place], color=GREY, linewidth=1)
        ax.plot(row["auc_reference"], place, "o", color=GREY, markersize=4, markerfacecolor="white")
        found = row["q"] <= fdr
        ax.plot(row["auc"], place, "D", color=ACCENT, markersize=4.5, markerfacecolor=ACCENT if found else "white")
        ax.text(
            1.01,
            place,
            f"{row['n_alt']:g} v {row['n_ref']:g}, p = {row['p']:.2g}",
            ha="left",
            va="center",
            fontsize=5.5,
            color=GREY,
            transform=ax.get_yaxis_transform(),
        )
    ax.set_xlim(-0.03, 1.03)


def plot_tissue_pairs(values: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Blood against tissue, a panel per pair that was declared and could be compared, each patient a dot.

    Parameters
    ----------
    values
        As made by :func:`livermet.biomarkers.tissue_pairs`.
    table
        As made by :func:`livermet.biomarkers.compare_pairs`.
    """
    if table.empty:
        return message_figure("No pair of blood and tissue was declared.")
    tested = table[table["status"] == "tested"]
    columns = min(COLUMNS, int((table["status"] == "tested").sum()))
    width = max(9.0, 3.1 * columns)
    refused = pair_words(table, width=width)
    if tested.empty:
        lines = ["No pair of blood and tissue could be compared.", *refused]
        return message_figure("\n".join(lines), width=11, height=1.2 + 0.17 * len(lines))
    lines = math.ceil(len(tested) / columns)
    heights = [2.9 * lines + 0.3, 0.3 + 0.16 * len(refused)]
    figure = new_figure(width=width, height=sum(heights))
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    axes = top.subplots(lines, columns, squeeze=False)
    for ax in axes.flat[len(tested) :]:
        ax.set_axis_off()
    for ax, row in zip(axes.flat, tested.to_dict("records"), strict=False):
        mine = values[(values[PAIR] == [row[key] for key in PAIR]).all(axis=1)]
        ax.plot(mine["blood_value"], mine["tissue_value"], "o", color=INK, markersize=4, alpha=0.7, markeredgewidth=0)
        ax.set_title(
            f"rho = {row['rho']:.2f} ({row['ci_low']:.2f} to {row['ci_high']:.2f})\n"
            f"n = {row['n']}, p = {row['p']:.2g}, q = {row['q']:.2g}",
            loc="left",
            fontsize=8,
        )
        unit = mine["blood_unit"].iloc[0]
        ax.set_xlabel(f"{row['blood'].replace('_', ' ')} in blood, baseline, {unit}")
        feature = textwrap.fill(str(row["feature"]).replace("_", " "), 26)
        ax.set_ylabel(f"{feature}\n({row['family'].replace('_', ' ')}, {row['modality']})")
    bottom.text(0.01, 0.98, "\n".join(refused), ha="left", va="top", fontsize=7, color=INK)
    return figure


def refusal_words(table: pd.DataFrame, *, width: float) -> list[str]:
    """One paragraph per code of refusal and model, with its most frequent reason, wrapped to ``width`` inches."""
    refused = table[table["status"] == "refused"]
    lines = []
    for (code, model), rows in refused.groupby(["refusal_code", "model"], sort=True):
        names = list(dict.fromkeys(rows["analyte"]))
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        reason = rows["refusal_reason"].value_counts().index[0]
        text = f"{code}, {model.replace('_', ' ')}, {len(rows)} rows ({shown}): {reason}."
        lines += textwrap.wrap(text, int(PER_INCH * width))
    return lines


def pair_words(table: pd.DataFrame, *, width: float) -> list[str]:
    """One paragraph per pair that was refused, wrapped to ``width`` inches."""
    refused = table[table["status"] == "refused"]
    lines = []
    for row in refused.to_dict("records"):
        pair = f"{row['blood']} against {row['feature']} ({row['modality']})"
        lines += textwrap.wrap(f"{row['refusal_code']}, {pair}: {row['refusal_reason']}.", int(PER_INCH * width))
    return lines
