"""Figure of the distances between single cells of two types."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from livermet.plots.style import message_figure, new_figure

# Dots this large stand for |z| of 5 and more.
LARGEST_Z = 5.0


def plot_contacts(contacts: pd.DataFrame) -> Figure:
    """Median distance of one type to the nearest cell of another, against its null: colour, and size for the mean z.

    Sections of a patient, at one timepoint and in one tissue, are averaged first, then the median over patients is
    taken; colour is the log2 ratio of the observed distance to that of the null. Sections without border are left out,
    since their null is the weaker one.
    """
    used = contacts[(contacts["status"] == "ok") & (contacts["null"] == "distance_bins")].dropna(subset="z_nearest")
    if used.empty:
        reasons = [reason for reason in contacts["reason"].dropna().unique() if reason]
        why = "; ".join(reasons) or "no section resolves single cells and has a tumour-liver border"
        return message_figure(f"No distances between single cells: {why}.")
    used = used.assign(ratio=np.log2(used["median_nearest_um"] / used["null_median_nearest_um"]))
    pair, patient = ["type_a", "type_b"], ["patient_id", "timepoint", "tissue"]
    values = ["median_nearest_um", "ratio", "z_nearest"]
    median = used.groupby([*pair, *patient])[values].mean().groupby(level=pair).median().reset_index()
    n_patients = used["patient_id"].nunique()
    types = sorted({*used["type_a"], *used["type_b"]})
    place = {name: i for i, name in enumerate(types)}
    side = max(4.5, 0.34 * len(types) + 2.5)
    figure = new_figure(width=side + 1.6, height=side)
    ax = figure.subplots()
    limit = max(0.25, float(median["ratio"].abs().max()))
    size = 12 + 120 * np.minimum(median["z_nearest"].abs(), LARGEST_Z) / LARGEST_Z
    dots = ax.scatter(
        median["type_b"].map(place), median["type_a"].map(place), s=size, c=median["ratio"],
        cmap="RdBu", vmin=-limit, vmax=limit, edgecolor="#777777", linewidth=0.4,
    )  # fmt: skip
    for row in median.itertuples():
        if row.median_nearest_um < 1000:
            x, y = place[row.type_b], place[row.type_a]
            ax.text(x, y + 0.4, f"{row.median_nearest_um:.0f}", ha="center", va="center", fontsize=4.5)
    ax.set_xticks(range(len(types)), types, rotation=60, ha="right", rotation_mode="anchor", fontsize=6.5)
    ax.set_yticks(range(len(types)), types, fontsize=6.5)
    ax.set(xlim=(-0.6, len(types) - 0.4), ylim=(len(types) - 0.4, -0.6), xlabel="to the nearest", ylabel="from")
    ax.spines[:].set_visible(False)
    bar = figure.colorbar(dots, ax=ax, shrink=0.6, pad=0.02, aspect=25)
    bar.set_label("log2 of the median distance against the null", fontsize=7)
    bar.outline.set_visible(False)
    handles = [
        ax.scatter(
            [], [], s=12 + 120 * z / LARGEST_Z, color="#bbbbbb", label=f"|z| {z:g}{' or more' if z == 5 else ''}"
        )
        for z in (0, 2, 5)
    ]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=6, labelspacing=1)
    ax.set_title(
        f"Distance to the nearest cell (median in um; n = {n_patients} patient{'s' if n_patients != 1 else ''})"
    )
    return figure
