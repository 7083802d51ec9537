"""Figures of survival: Kaplan-Meier curves with numbers at risk, and hazard ratios with intervals."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from livermet import keys
from livermet.cox import median_time
from livermet.plots.response import refusal_lines
from livermet.plots.style import ACCENT, CYCLE, GREY, INK, LIGHT, message_figure, new_figure
from livermet.survival import ALL, CLINICAL, PH_BADGE

FAMILY = [keys.MODALITY, "family"]
SHOWN = 12  # features per panel; the panel's title says of how many
COLUMNS = 3
WIDEST = 20.0  # hazard ratios beyond it, or below its inverse, end in an arrow
TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
MESSAGE = 52  # characters per line of a panel that says why it has no curves


def plot_curves(curves: pd.DataFrame, table: pd.DataFrame, *, endpoints: list[str], primary_label: str) -> Figure:
    """Kaplan-Meier curves with numbers at risk: a row per endpoint, all patients beside the classes of the label.

    Parameters
    ----------
    curves
        As made by :func:`livermet.survival.survival_curves`.
    table
        As made by :func:`livermet.survival.compare_survival`: the hazard ratio of the classes, or why there is none.
    endpoints, primary_label
        As configured.
    """
    shown = [endpoint for endpoint in endpoints if (curves["endpoint"] == endpoint).any()]
    missing = [f"{name}: no patient has a value, so there is no curve." for name in endpoints if name not in shown]
    if not shown:
        reasons = table.loc[table["status"] == "refused", "refusal_reason"].unique()[:1]
        return message_figure("\n".join(["No survival curve is drawn.", *textwrap.wrap("; ".join(reasons), 90)]))
    heights = [4.3 * len(shown), 0.25 + 0.15 * len(missing)]
    figure = new_figure(width=11, height=sum(heights))
    upper, lower = figure.subfigures(2, 1, height_ratios=heights)
    grid = upper.subplots(2 * len(shown), 2, squeeze=False, gridspec_kw={"height_ratios": [5.0, 1.0] * len(shown)})
    for place, endpoint in enumerate(shown):
        own = curves[curves["endpoint"] == endpoint]
        limit = own["time"].max()
        for column, part in enumerate((own[own["group"] == ALL], own[own["group"] != ALL])):
            top, bottom = grid[2 * place][column], grid[2 * place + 1][column]
            if part.empty:
                top.set_axis_off()
                bottom.set_axis_off()
                why = textwrap.fill(_why_undivided(table, endpoint, primary_label), MESSAGE)
                top.text(0, 0.9, why, transform=top.transAxes, ha="left", va="top")
                continue
            _curves(top, bottom, part, limit=limit)
            title = _title(table, endpoint, primary_label) if column else f"{endpoint}: all patients"
            top.set_title(title, loc="left", fontsize=8, weight="bold")
    lower.text(0.01, 0.98, "\n".join(missing), ha="left", va="top", fontsize=7, color=INK)
    return figure


def plot_hazards(table: pd.DataFrame, *, fdr: float) -> Figure:
    """Forest plot of hazard ratios, one panel per endpoint, modality and family; what was refused is said in words.

    Parameters
    ----------
    table
        As made by :func:`livermet.survival.compare_survival`.
    fdr
        Level of the adjusted p at or below which a feature is drawn filled.
    """
    primary = table[table["analysis"] == "primary"]
    tested = primary[primary["status"] == "tested"]
    refused = [
        line
        for endpoint, rows in primary.groupby("endpoint", sort=False)
        for line in refusal_lines(
            rows.assign(refusal_code=f"{endpoint}: " + rows["refusal_code"].fillna("").astype(str))
        )
    ]
    if tested.empty:
        text = "\n".join(["No hazard ratio was estimated.", *refused]) if refused else "There is no feature to test."
        return message_figure(text, width=11, height=1.2 + 0.16 * len(refused))
    sensitivity = table[(table["analysis"] == "sensitivity") & (table["status"] == "tested")]
    unadjusted = sensitivity.set_index(["endpoint", *FAMILY, "feature"])["hazard_ratio"]
    panels = [
        (name, rows.sort_values(["p", "feature"], kind="stable").head(SHOWN), len(rows))
        for name, rows in tested.groupby(["endpoint", *FAMILY], sort=False)
    ]
    lines = [panels[start : start + COLUMNS] for start in range(0, len(panels), COLUMNS)]
    heights = [1.1 + 0.21 * max(len(rows) for _, rows, _ in line) for line in lines]
    text = 0.3 + 0.15 * len(refused)
    figure = new_figure(width=13, height=sum(heights) + text)
    top, bottom = figure.subfigures(2, 1, height_ratios=[sum(heights), text])
    axes = top.subplots(len(lines), COLUMNS, squeeze=False, gridspec_kw={"height_ratios": heights})
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (name, rows, total) in zip(axes.flat, panels, strict=False):
        ax.set_axis_on()
        _forest(ax, rows, unadjusted, fdr=fdr)
        count = f"{len(rows)} of {total}" if len(rows) < total else f"{total}"
        ax.set_title(
            f"{name[0]}: {name[2]}, {name[1]}\n{count} shown, {_numbers(rows)}", loc="left", fontsize=8, weight="bold"
        )
    bottom.text(0.01, 0.98, "\n".join(refused), ha="left", va="top", fontsize=7, color=INK)
    return figure


def _why_undivided(table: pd.DataFrame, endpoint: str, label: str) -> str:
    row = _fact(table, endpoint, label)
    if row is None:
        return f"{label} has no two classes to draw apart."
    return f"{label}: not compared ({row['refusal_code']}). {row['refusal_reason']}."


def _fact(table: pd.DataFrame, endpoint: str, label: str) -> pd.Series | None:
    rows = table[
        (table[keys.MODALITY] == CLINICAL)
        & (table["feature"] == label)
        & (table["endpoint"] == endpoint)
        & (table["analysis"] == "primary")
    ]
    return None if rows.empty else rows.iloc[0]


def _title(table: pd.DataFrame, endpoint: str, label: str) -> str:
    row = _fact(table, endpoint, label)
    since = f" on day {row['landmark_day']:.0f}" if row["landmark_day"] else " on the day of surgery"
    ratio = f"hazard ratio {row['hazard_ratio']:.2f} ({row['ci_low']:.2f} to {row['ci_high']:.2f}), p {row['p']:.2g}"
    return f"{endpoint}: {label}{since}\n{ratio}"


def _curves(top: Axes, bottom: Axes, part: pd.DataFrame, *, limit: float) -> None:
    """Steps with pointwise intervals and ticks where patients were last seen; below, how many were at risk."""
    start = part["time"].min()
    step = _step(limit)
    ticks = [start, *(tick for tick in range(0, int(limit) + 1, step) if tick > start + step / 3)]
    groups = list(part.groupby("group", sort=False))
    for place, (name, rows) in enumerate(groups):
        colour = INK if name == ALL else CYCLE[place]
        time, survival = rows["time"].to_numpy(), rows["survival"].to_numpy()
        n, events = int(rows["at_risk"].iloc[0]), int(rows["events"].sum())
        median, low, high = median_time(time, survival, rows["ci_low"].to_numpy(), rows["ci_high"].to_numpy())
        words = f"median {_days(median)} ({_days(low)} to {_days(high)})"
        top.step(
            time,
            survival,
            where="post",
            color=colour,
            linewidth=1.5,
            label=f"{name}, n = {n}, {events} events\n{words}",
        )
        known = rows["ci_low"].notna().to_numpy()
        bounds = (rows[column].to_numpy()[known] for column in ("ci_low", "ci_high"))
        top.fill_between(time[known], *bounds, step="post", color=colour, alpha=0.12, linewidth=0)
        leaving = -np.diff(np.append(rows["at_risk"], 0)) - rows["events"].to_numpy()
        top.plot(time[leaving > 0], survival[leaving > 0], "|", color=colour, markersize=5, markeredgewidth=0.8)
        for tick in ticks:
            later = time >= tick
            at_risk = int(rows["at_risk"].to_numpy()[later][0]) if later.any() else 0
            bottom.text(tick, place, f"{at_risk}", ha="center", va="center", fontsize=7, color=colour)
    if start > 0:
        top.axvline(start, color=GREY, linewidth=0.8, linestyle=":")
    top.set_ylim(0, 1.02)
    top.set_ylabel("without the event")
    top.legend(loc="best")
    for ax in (top, bottom):
        ax.set_xlim(-0.03 * limit, 1.05 * limit)
        ax.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    top.set_xlabel("days")
    bottom.set_ylim(len(groups) - 0.4, -0.6)
    bottom.set_yticks(range(len(groups)), [name.split(": ")[-1] for name, _ in groups])
    bottom.spines[["left", "bottom"]].set_visible(False)
    bottom.tick_params(length=0, labelbottom=False)
    bottom.set_title("patients at risk", loc="left", fontsize=7)


def _days(value: float) -> str:
    return "not reached" if np.isnan(value) else f"{value:.0f}"


def _step(limit: float) -> int:
    return next((step for step in (30, 60, 90, 180, 365, 730) if limit / step <= 8), 1825)


def _numbers(rows: pd.DataFrame) -> str:
    n, events = ((int(rows[column].min()), int(rows[column].max())) for column in ("n", "n_events"))
    spans = [f"{low}" if low == high else f"{low} to {high}" for low, high in (n, events)]
    return f"n = {spans[0]}, events {spans[1]}"


def _forest(ax: Axes, rows: pd.DataFrame, unadjusted: pd.Series, *, fdr: float) -> None:
    for place, row in enumerate(rows.to_dict(orient="records")):
        low, high = max(row["ci_low"], 1 / WIDEST), min(row["ci_high"], WIDEST)
        ax.plot([low, high], [place, place], color=INK, linewidth=1)
        for end, beyond, arrow in ((low, row["ci_low"] < low, "<"), (high, row["ci_high"] > high, ">")):
            if beyond:
                ax.plot(end, place, arrow, color=INK, markersize=4)
        key = (row["endpoint"], row[keys.MODALITY], row["family"], row["feature"])
        if key in unadjusted.index:
            other = np.clip(unadjusted[key], 1 / WIDEST, WIDEST)
            ax.plot(other, place + 0.22, "o", markersize=3, markerfacecolor="white", color=GREY)
        colour = ACCENT if row["ph_p"] < PH_BADGE else INK
        filled = colour if row["q"] <= fdr else "white"
        shape = "s" if row["method"].startswith("firth") else "o"
        ratio = np.clip(row["hazard_ratio"], 1 / WIDEST, WIDEST)
        ax.plot(ratio, place, shape, color=colour, markersize=5, markerfacecolor=filled)
    ax.axvline(1, color=LIGHT, linewidth=1, zorder=0)
    ax.set_xscale("log")
    shown = rows[["ci_low", "ci_high"]].clip(1 / WIDEST, WIDEST)
    left, right = min(shown["ci_low"].min(), 0.5) / 1.15, max(shown["ci_high"].max(), 2) * 1.15
    ax.set_xlim(left, right)
    inside = [tick for tick in TICKS if left <= tick <= right]
    ax.set_xticks(inside, [f"{tick:g}" for tick in inside])
    ax.minorticks_off()
    ax.set_yticks(range(len(rows)), [_short(name) for name in rows["feature"]], fontsize=5.5, linespacing=0.95)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel("hazard ratio, " + rows["method"].iloc[0].partition(" ")[2])


def _short(feature: str) -> str:
    """A feature's name for an axis: an interaction as ligand-receptor, sender to receiver."""
    parts = feature.split("|")
    return f"{parts[2]}-{parts[3]},\n{parts[0]} to {parts[1]}" if len(parts) == 4 else feature
