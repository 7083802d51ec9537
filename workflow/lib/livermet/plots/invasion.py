"""Figures of invasion: programmes at the margin, tails in the liver, profiles by distance, spatial genes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from livermet import keys
from livermet.invasion import PLACE
from livermet.plots.style import ACCENT, GREY, INK, LIGHT, colours, message_figure, new_figure
from livermet.profiles import mean_profile

N_COLUMNS = 4
REACH_UM = 1500.0  # shown on either side of the border
WORDS = 46  # characters of a reason that fit beside a row


def _place(names: tuple[str, ...]) -> str:
    return " ".join(str(name) for name in names)


def plot_forest(patients: pd.DataFrame, tests: pd.DataFrame) -> Figure:
    """Difference of each programme between margin and core: patients as dots, mean with interval, refusals in words.

    A panel per timepoint, tissue and modality; programmes in which no patient has an estimate are named at the foot.
    """
    known = patients.dropna(subset="difference")
    if known.empty:
        return message_figure("No margin against core: no patient has a section with enough tissue in both zones.")
    places = list(known.groupby(PLACE, sort=True).groups)
    sizes = [known[(known[PLACE] == list(place)).all(axis=1)]["programme"].nunique() for place in places]
    figure = new_figure(width=9.5, height=0.6 + sum(0.9 + 0.32 * size for size in sizes))
    axes = figure.subplots(len(places), 1, squeeze=False, height_ratios=[1 + size for size in sizes], sharex=True)[:, 0]
    for ax, place in zip(axes, places, strict=True):
        dots = known[(known[PLACE] == list(place)).all(axis=1)]
        rows = tests[(tests[PLACE] == list(place)).all(axis=1)].set_index("programme")
        missing = [name for name in rows.index if name not in set(dots["programme"])]
        order = [name for name in rows.index if name not in missing]
        ax.axvline(0, color=GREY, lw=0.8)
        for y, name in enumerate(order):
            row = rows.loc[name]
            values = np.sort(dots.loc[dots["programme"] == name, "difference"].to_numpy())
            shift = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else np.zeros(1)
            ax.scatter(values, y + shift, s=14, color=GREY, edgecolor="white", linewidth=0.4, zorder=5)
            if row["status"] == "tested":
                ax.plot([row["ci_low"], row["ci_high"]], [y, y], color=ACCENT, lw=1.6, zorder=3)
                ax.scatter(row["effect"], y, marker="D", s=26, color=ACCENT, zorder=4)
                text = f"n = {row['n']}, p = {row['p']:.2g}, q = {row['q']:.2g}"
            else:
                reason = str(row["refusal_reason"]).split(". Lifted")[0]
                reason = reason if len(reason) <= WORDS else reason[: WORDS - 3].rsplit(" ", 1)[0] + " ..."
                text = f"n = {row['n']}, refused {row['refusal_code']}: {reason}"
            ax.text(1.01, y, text, transform=ax.get_yaxis_transform(), va="center", fontsize=6.5)
        ax.set_yticks(range(len(order)), order)
        ax.set_ylim(len(order) - 0.5, -0.5)
        n_patients = dots[keys.PATIENT].nunique()
        ax.set_title(f"{_place(place)}, {n_patients} patient{'s' * (n_patients != 1)}", loc="left")
        if missing:
            ax.text(
                0, -0.1, f"no estimate: {', '.join(missing)}", transform=ax.transAxes, fontsize=6, va="top", color=INK
            )
    figure.supxlabel(
        "malignant cells of the margin less those of the core (share of the programme's mean expression)", fontsize=8
    )
    return figure


def plot_tails(tail: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Malignant amount across the border per section, the level of distant liver, and where 90 % of the excess ends.

    Sections without a curve are named below, with the reason.
    """
    if tail.empty:
        return message_figure("No tails: the scope has no section.")
    if curves.empty:
        return message_figure("No tails: " + "; ".join(f"{r.library_id}: {r.reason}" for r in tail.itertuples()))
    drawn = tail[keys.LIBRARY].isin(set(curves[keys.LIBRARY]))
    shown = tail[drawn].sort_values(keys.LIBRARY, ignore_index=True)
    missing = [f"{row.library_id}: {row.reason}" for row in tail[~drawn].sort_values(keys.LIBRARY).itertuples()]
    n_rows = int(np.ceil(len(shown) / N_COLUMNS))
    figure = new_figure(width=11, height=0.9 + 2.3 * n_rows + 0.13 * len(missing))
    axes = figure.subplots(n_rows, N_COLUMNS, squeeze=False).ravel()
    for ax, row in zip(axes, shown.itertuples(), strict=False):
        line = curves[curves[keys.LIBRARY] == row.library_id]
        outside = line["distance_um"] > 0
        ax.plot(line["distance_um"], line["mean"], color=ACCENT, lw=1.5)
        ax.fill_between(
            line.loc[outside, "distance_um"],
            row.background,
            np.maximum(line.loc[outside, "mean"], row.background),
            color=ACCENT,
            alpha=0.3,
            linewidth=0,
        )
        ax.axhline(row.background, color=GREY, lw=0.8, ls="--")
        ax.axvline(0, color=INK, lw=0.8, ls=":")
        text = f"{row.library_id}\noutside {row.share_outside:.1%} ({row.share_low:.1%} to {row.share_high:.1%})"
        if np.isfinite(row.d90_um):
            ax.axvline(row.d90_um, color=INK, lw=0.8)
            text += f"\n90 % within {row.d90_um:.0f} um ({row.d90_low:.0f} to {row.d90_high:.0f})"
        ax.set_title(text, fontsize=7)
        ax.set_ylim(0, line["mean"].max() * 1.05)
    for ax in axes[len(shown) :]:
        ax.remove()
    words = ["signed distance to the border (um; tumour is negative)", *(["Not drawn:", *missing] if missing else [])]
    figure.supxlabel("\n".join(words), fontsize=7)
    figure.supylabel("malignant fraction", fontsize=8)
    return figure


def plot_profiles(profiles: pd.DataFrame, *, min_spots: int) -> Figure:
    """Programmes and states of malignant cells, and chosen genes, over the distance: patients thin, mean with band."""
    chosen = profiles[profiles["kind"].isin(["state", "programme", "gene"]) & (profiles["n_spots"] >= min_spots)]
    chosen = chosen[chosen["bin_um"].abs() <= REACH_UM]
    several = chosen.groupby([*PLACE, "kind", "name"])[keys.PATIENT].transform("nunique")
    chosen = chosen[several >= 2]
    if chosen.empty:
        return message_figure("No profiles: no two patients have a tumour-liver border and tissue in margin and core.")
    order = chosen.assign(rank=chosen["kind"].map({"programme": 0, "state": 1, "gene": 2}))
    panels = list(order.sort_values(["rank", "name"])[["kind", "name"]].drop_duplicates().itertuples(index=False))
    places = sorted(set(chosen[PLACE].itertuples(index=False, name=None)))
    palette = dict(zip(places, colours(_place(place) for place in places).values(), strict=True))
    n_rows = int(np.ceil(len(panels) / N_COLUMNS))
    figure = new_figure(width=11, height=0.9 + 1.9 * n_rows)
    axes = figure.subplots(n_rows, N_COLUMNS, squeeze=False, sharex=True).ravel()
    for ax, panel in zip(axes, panels, strict=False):
        rows = chosen[(chosen["kind"] == panel.kind) & (chosen["name"] == panel.name)]
        values = []
        for place, lines in rows.groupby(PLACE, sort=True):
            for _, line in lines.groupby(keys.PATIENT):
                ax.plot(line["bin_um"], line["mean"], color=palette[place], lw=0.5, alpha=0.3)
            mean = mean_profile(lines, min_spots=min_spots)
            mean = mean[mean["n_patients"] >= 2]
            label = f"{_place(place)}, n = {lines[keys.PATIENT].nunique()}"
            ax.plot(mean["bin_um"], mean["mean"], color=palette[place], lw=2, label=label)
            ax.fill_between(mean["bin_um"], mean["low"], mean["high"], color=palette[place], alpha=0.2, linewidth=0)
            values += [*mean["low"].dropna(), *mean["high"].dropna(), *mean["mean"]]
        ax.axvline(0, color=INK, lw=0.8, ls=":")
        ax.set_xticks([-1000, 0, 1000])
        if panel.kind != "gene":
            ax.axhline(0, color=GREY, lw=0.6)
        ax.set_title(f"{panel.name} ({'counts per 10,000' if panel.kind == 'gene' else panel.kind})", fontsize=8)
        low, high = np.percentile([*values, *rows["mean"]], [2, 98])
        ax.set_ylim(low - 0.1 * (high - low) - 1e-9, high + 0.1 * (high - low) + 1e-9)
    for ax in axes[len(panels) :]:
        ax.remove()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    figure.supxlabel("signed distance to the border (um; tumour is negative)", fontsize=8)
    figure.supylabel("change of malignant expression against the core", fontsize=8)
    return figure


def plot_spatial_genes(genes: pd.DataFrame, sections: pd.DataFrame, *, top: int) -> Figure:
    """Moran's I of the most structured genes of each zone in each section; a dark rim where it passes there."""
    if genes.empty:
        return message_figure("No spatial genes: no section has enough tissue.")
    ranked = genes[genes["rank"] <= top]
    panels = list(ranked.groupby([*PLACE, "zone"], sort=True))
    n_rows = int(np.ceil(len(panels) / 3))
    figure = new_figure(width=11.5, height=0.4 + n_rows * (1.2 + 0.17 * top))
    axes = figure.subplots(n_rows, 3, squeeze=False).ravel()
    most = max(0.1, float(sections["i"].quantile(0.999)))
    dots = None
    for ax, (names, rows) in zip(axes, panels, strict=False):
        inside = sections[(sections[[*PLACE, "zone"]] == list(names)).all(axis=1)]
        libraries = sorted(inside[keys.LIBRARY].unique())
        rows = rows.sort_values("rank")
        found = inside[inside["gene"].isin(rows["gene"])]
        x = found[keys.LIBRARY].map({name: k for k, name in enumerate(libraries)})
        y = found["gene"].map({name: k for k, name in enumerate(rows["gene"])})
        edge = np.where(found["q"] <= 0.05, INK, LIGHT)
        dots = ax.scatter(x, y, c=found["i"], cmap="magma_r", vmin=0, vmax=most, s=34, edgecolors=edge, linewidths=0.9)
        labels = [f"{r.gene} ({r.n_significant}/{r.n_patients})" for r in rows.itertuples()]
        ax.set_yticks(range(len(rows)), labels, fontsize=6.5)
        ax.set_xticks(range(len(libraries)), libraries, rotation=60, ha="right", rotation_mode="anchor", fontsize=6)
        ax.set(xlim=(-0.6, len(libraries) - 0.4), ylim=(len(rows) - 0.4, -0.6))
        ax.set_title(f"{names[-1]}: {_place(names[:-1])}", fontsize=8)
    for ax in axes[len(panels) :]:
        ax.remove()
    bar = figure.colorbar(dots, ax=list(axes[: len(panels)]), shrink=0.5, aspect=30, pad=0.01)
    bar.set_label("Moran's I", fontsize=7)
    bar.outline.set_visible(False)
    return figure
