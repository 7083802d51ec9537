"""Figures of response: effects with intervals, patients as dots, and what could have been found."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from livermet import keys
from livermet.plots.style import ACCENT, GREY, INK, LIGHT, colours, message_figure, new_figure

FAMILY = [keys.MODALITY, "family"]
SHOWN = 12  # features per panel; the panel's title says of how many
COLUMNS = 3
LINE = 230  # characters per line of text below the panels
KINDS = {
    "hedges_g": "Hedges g",
    "spearman_rho": "rank correlation",
    "log_hr_per_sd": "log hazard ratio per SD",
    "hedges_dz": "standardised mean change",
}
SYMBOLS = {"hedges_g": "g", "spearman_rho": "rho", "log_hr_per_sd": "log HR"}


def plot_associations(associations: pd.DataFrame, *, alpha: float, fdr: float) -> Figure:
    """Forest plot of the effects, one panel per modality and family; what was refused is said in words.

    Parameters
    ----------
    associations
        As made by :func:`livermet.response.associate`.
    alpha, fdr
        Levels of the adjusted p at or below which confirmatory and exploratory features are drawn filled.
    """
    primary = associations[associations["analysis"] == "primary"]
    tested = primary[primary["status"] == "tested"]
    refused = refusal_lines(primary)
    if tested.empty:
        return message_figure(
            "\n".join(["No feature was tested.", *refused]) if refused else "There is no feature to test.",
            width=11,
            height=1.2 + 0.16 * len(refused),
        )
    without = (associations["analysis"] == "sensitivity") & (associations["adjusted_for"].fillna("") == "")
    unadjusted = associations[without].set_index([*FAMILY, "feature"])["effect"]
    panels = [(name, _smallest_p(rows), len(rows)) for name, rows in tested.groupby(FAMILY, sort=True)]
    rows_of_panels = [panels[start : start + COLUMNS] for start in range(0, len(panels), COLUMNS)]
    heights = [0.9 + 0.21 * max(len(rows) for _, rows, _ in line) for line in rows_of_panels]
    text = 0.3 + 0.15 * len(refused)
    figure = new_figure(width=13, height=sum(heights) + text)
    top, bottom = figure.subfigures(2, 1, height_ratios=[sum(heights), text])
    axes = top.subplots(len(rows_of_panels), COLUMNS, squeeze=False, gridspec_kw={"height_ratios": heights})
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (name, rows, total) in zip(axes.flat, panels, strict=False):
        ax.set_axis_on()
        _forest(ax, rows, unadjusted, levels={"confirmatory": alpha, "exploratory": fdr})
        count = f"{len(rows)} of {total} features" if len(rows) < total else f"{total} features"
        ax.set_title(f"{name[1]}, {name[0]}\n{count}, {_patients(rows)}", loc="left", fontsize=8, weight="bold")
    bottom.text(0.01, 0.98, "\n".join(refused), ha="left", va="top", fontsize=7, color=INK)
    return figure


def plot_confirmatory(
    associations: pd.DataFrame,
    values: Mapping[tuple[str, str], pd.DataFrame],
    label: pd.Series,
    centre: pd.Series,
    *,
    events: pd.Series | None = None,
) -> Figure:
    """Each patient as a dot for every confirmatory feature.

    Parameters
    ----------
    associations
        As made by :func:`livermet.response.associate`.
    values
        As made by :func:`livermet.response.tested_values`.
    label, centre
        Value of the label, and centre, by patient.
    events
        For a time to an event: 1 where it was seen, 0 where the patient was followed without it.
    """
    rows = associations[(associations["analysis"] == "primary") & (associations["role"] == "confirmatory")]
    if rows.empty:
        return message_figure("No confirmatory feature was declared, so no finding can be stated.")
    tested = rows[rows["status"] == "tested"]
    refused = refusal_lines(rows)
    if tested.empty:
        text = "\n".join(["No confirmatory feature could be tested.", *refused])
        return message_figure(text, width=11, height=1.2 + 0.16 * len(refused))
    columns = min(4, len(tested))
    lines = math.ceil(len(tested) / columns)
    heights = [3.4 * lines + 0.5, 0.3 + 0.15 * len(refused)]
    figure = new_figure(width=max(8.0, 3.3 * columns), height=sum(heights))
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    axes = top.subplots(lines, columns, squeeze=False)
    palette = colours(sorted(centre.astype(str).unique()))
    for ax in axes.flat[len(tested) :]:
        ax.set_axis_off()
    for ax, row in zip(axes.flat, tested.to_dict(orient="records"), strict=False):
        data = values[row[keys.MODALITY], row["family"]][row["feature"]].dropna()
        data = data[data.index.isin(label.index)]
        own = centre.reindex(data.index).astype(str)
        seen = None if events is None else events.reindex(data.index)
        _patients_as_dots(ax, data, label.reindex(data.index), own, palette, row, seen)
        symbol = SYMBOLS[row["effect_kind"]]
        ax.set_title(
            f"{short_name(row['feature'])}\n{row['family']}, {row['modality']}\n"
            f"{symbol} = {row['effect']:.2f} ({row['ci_low']:.2f} to {row['ci_high']:.2f})\n"
            f"p = {row['p']:.2g}, Holm q = {row['q']:.2g}",
            loc="left",
            fontsize=8,
        )
    handles = [
        axes.flat[0].plot([], [], "o", color=colour, markersize=5, label=f"centre {name}")[0]
        for name, colour in palette.items()
    ]
    top.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)))
    bottom.text(0.01, 0.98, "\n".join(refused), ha="left", va="top", fontsize=7, color=INK)
    return figure


def plot_power(associations: pd.DataFrame) -> Figure:
    """Observed size of effects beside the smallest one that could have been found, per modality and family.

    Parameters
    ----------
    associations
        As made by :func:`livermet.response.associate`.
    """
    rows = associations[(associations["analysis"] == "primary") & associations["minimal_detectable_effect"].notna()]
    if rows.empty:
        return message_figure("No feature was tested, so there is no power to show.")
    groups = list(rows.groupby([*FAMILY, "role"], sort=True))
    figure = new_figure(width=8, height=1.2 + 0.32 * len(groups))
    ax = figure.subplots()
    for place, (_, group) in enumerate(groups):
        detectable = group["minimal_detectable_effect"]
        ax.plot([detectable.min(), detectable.max()], [place, place], color=ACCENT, linewidth=3, alpha=0.4)
        ax.plot([detectable.min()] * 2, [place - 0.35, place + 0.35], color=ACCENT, linewidth=2)
        ax.plot(group["effect"].abs(), [place] * len(group), "o", color=INK, alpha=0.5, markersize=4, markeredgewidth=0)
    ax.set_yticks(
        range(len(groups)),
        [f"{family}, {modality} ({role}, {_patients(group)})" for (modality, family, role), group in groups],
    )
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    kind = rows["effect_kind"].iloc[0]
    what = "standardised difference" if kind == "hedges_g" else f"size of the {KINDS[kind]}"
    ax.set_xlabel(f"{what}\ndots: observed; bars: found with 80 % power", loc="left")
    return figure


def refusal_lines(rows: pd.DataFrame) -> list[str]:
    """One paragraph per kind of refusal, with its most frequent reason and the families concerned, wrapped to lines."""
    refused = rows[rows["status"] == "refused"]
    lines = []
    for code, group in refused.groupby("refusal_code", sort=True):
        families = ", ".join(f"{family} ({modality})" for modality, family in group.groupby(FAMILY, sort=True).groups)
        reasons = group["refusal_reason"].value_counts()
        most = f"Most often ({reasons.iloc[0]})" if len(reasons) > 1 else "Reason"
        text = f"{code}, {len(group)} features not tested: {families}. {most}: {reasons.index[0]}."
        lines += textwrap.wrap(text, LINE)
    return lines


def _smallest_p(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows to show: confirmatory ones first, then by p."""
    return rows.sort_values(["role", "p", "feature"], kind="stable").head(SHOWN)


def _patients(rows: pd.DataFrame) -> str:
    low, high = int(rows["n"].min()), int(rows["n"].max())
    return f"n = {high}" if low == high else f"n = {low} to {high}"


def short_name(feature: str) -> str:
    """A feature's name for an axis: an interaction as ligand-receptor, sender to receiver."""
    parts = feature.split("|")
    return f"{parts[2]}-{parts[3]},\n{parts[0]} to {parts[1]}" if len(parts) == 4 else feature


def _forest(ax: Axes, rows: pd.DataFrame, unadjusted: pd.Series, *, levels: Mapping[str, float]) -> None:
    for place, row in enumerate(rows.to_dict(orient="records")):
        confirmatory = row["role"] == "confirmatory"
        colour = ACCENT if confirmatory else INK
        filled = row["q"] <= levels[row["role"]]
        ax.plot([row["ci_low"], row["ci_high"]], [place, place], color=colour, linewidth=1)
        key = (row[keys.MODALITY], row["family"], row["feature"])
        if key in unadjusted.index:
            ax.plot(unadjusted[key], place + 0.22, "o", markersize=3, markerfacecolor="white", color=GREY)
        ax.plot(
            row["effect"],
            place,
            "D" if confirmatory else "o",
            color=colour,
            markersize=5,
            markerfacecolor=colour if filled else "white",
        )
    ax.axvline(0, color=LIGHT, linewidth=1, zorder=0)
    ax.set_yticks(range(len(rows)), [short_name(name) for name in rows["feature"]], fontsize=5.5, linespacing=0.95)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel(KINDS[rows["effect_kind"].iloc[0]])


def _patients_as_dots(
    ax: Axes,
    data: pd.Series,
    label: pd.Series,
    centre: pd.Series,
    palette: Mapping[str, str],
    row: Mapping[str, object],
    events: pd.Series | None,
) -> None:
    dots = [palette[name] for name in centre]
    ylabel = "centred log-ratio" if "composition" in str(row["family"]) or row["family"] == "niche" else "value"
    ax.set_ylabel(ylabel)
    if row["effect_kind"] != "hedges_g":
        seen = np.ones(len(data), dtype=bool) if events is None else events.to_numpy() == 1
        ax.scatter(label[seen], data[seen], c=np.array(dots)[seen], s=16, linewidths=0)
        ax.scatter(label[~seen], data[~seen], facecolors="none", edgecolors=np.array(dots)[~seen], s=16, linewidths=0.8)
        days = f", days; {seen.sum()} events (filled)" if events is not None else ""
        ax.set_xlabel(f"{row['label']}{days}, n = {len(data)}")
        return
    # Jitter by rank within the class, so that the figure is the same each time and equal values don't hide each other.
    for value in (0, 1):
        here = data[label == value]
        place = value + 0.5 * (np.argsort(np.argsort(here.to_numpy(), kind="stable")) * 0.618 % 1 - 0.5)
        ax.scatter(place, here, c=[palette[name] for name in centre[here.index]], s=16, linewidths=0)
        ax.plot([value - 0.3, value + 0.3], [here.median()] * 2, color=INK, linewidth=1.5)
    sizes = [int((label == value).sum()) for value in (0, 1)]
    ax.set_xticks([0, 1], [f"no\nn = {sizes[0]}", f"yes\nn = {sizes[1]}"])
    ax.set_xlim(-0.5, 1.5)
    ax.set_xlabel(str(row["label"]))
