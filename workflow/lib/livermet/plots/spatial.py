"""Figures of sections: one section at a glance, niches, neighbourhoods, distance profiles, zones."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.spatial import cKDTree

from livermet import keys
from livermet.deconvolve import rare_types
from livermet.neighbourhood import of_one_resolution
from livermet.plots.style import ACCENT, INK, LIGHT, ZONE_COLOURS, colours, message_figure, new_figure
from livermet.section import NO_NICHE, Section

BARS_UM = (1000.0, 500.0, 200.0, 100.0)
GRID_POINTS = 240
UNITS = {"spot": "spots", "bin": "bins", "cell": "cells"}
PROFILE_HEIGHT = 2.3  # inches
REASON_HEIGHT = 0.4
ABUNDANT = 0.25  # highest share from which a line has the panel of the abundant types
SMOOTH_BINS = 2.0  # bins over which the weight of a neighbour falls to nothing


def plot_section(
    section: AnnData,
    profiles: pd.DataFrame,
    *,
    title: str,
    niche_names: dict[str, str],
    n_types: int,
    margin_um: float,
    min_spots: int,
) -> Figure:
    """One section: image with the border, signed distance, zones, niches, its most abundant types, and these over the
    distance to the border.

    Types that are rare in a section of spots or bins are marked so, and have no line over the distance.

    Parameters
    ----------
    section
        A labelled section (``spatial.h5ad``).
    profiles
        Its means over the distance (``distance_profiles.parquet``).
    niche_names
        Name of each niche label.
    n_types
        Number of types shown, the most abundant ones on average; malignant cells and hepatocytes are always there.
    margin_um
        Half-width of the invasive margin, drawn on either side of the border.
    min_spots
        Observations that a bin of the profiles needs.
    """
    if section.n_obs == 0:
        reason = section.uns.get(keys.META, {}).get("reason") or "no spot was kept"
        return message_figure(f"{title}: nothing to show, {reason}.")
    meta = section.uns[keys.META]
    types = [str(name) for name in section.uns[keys.ABUNDANCE_TYPES]]
    abundance = pd.DataFrame(np.asarray(section.obsm[keys.ABUNDANCE]), columns=types)
    order = abundance.mean().sort_values(ascending=False, kind="stable").index
    first = [name for name in (keys.MALIGNANT_TYPE, keys.HEPATOCYTE) if name in types]
    shown = (
        (first + [name for name in order if name not in first])[:n_types] if abundance.notna().any(axis=None) else []
    )
    unit = UNITS[str(meta.get(keys.RESOLUTION, "spot"))]
    rare = [] if unit == "cells" else rare_types(abundance.mean())
    lines = _section_lines(profiles, [name for name in shown if name not in rare], min_spots=min_spots)
    n_columns = 4
    n_rows = int(np.ceil(len(shown) / n_columns))
    extent = np.ptp(np.asarray(section.obsm[keys.SPATIAL]), axis=0) + [2, 5] * np.full(2, _pitch(meta))
    height = float(np.clip(2.3 * extent[1] / extent[0], 1.0, 4.0)) + 0.3
    top_height = max(height, 1.7)
    heights = [top_height, *([n_rows * height] if shown else []), REASON_HEIGHT if lines.empty else PROFILE_HEIGHT]
    figure = new_figure(width=12.5, height=0.35 + sum(heights))
    # Parts of their own, so that the long legends above leave no gap below.
    parts = figure.subfigures(len(heights), 1, height_ratios=heights)
    top = parts[0].subplots(1, n_columns)
    patient = section.obs[keys.PATIENT].iloc[0]
    figure.suptitle(f"{title}, patient {patient}, {section.n_obs:,} {unit}", fontsize=10, weight="bold")

    _image(top[0], section, meta)
    distance = section.obs[keys.SIGNED_DISTANCE].to_numpy(dtype=float)
    if np.isnan(distance).all():
        _words(top[1], f"no tumour-liver border:\n{meta['border_reason']}")
        top[1].set_title("Signed distance")
    else:
        limit = np.nanpercentile(np.abs(distance), 98)
        spots = _spots(top[1], section, meta, values=distance, cmap="RdBu", limits=(-limit, limit))
        _colourbar(top[1], spots, "um, negative in tumour")
        _border(top[1], section, meta, margin_um=margin_um)
        top[1].set_title("Signed distance, margin")
    zones = section.obs[keys.ZONE].astype(str)
    _categories(top[2], section, meta, zones, ZONE_COLOURS, {name: name.replace("_", " ") for name in ZONE_COLOURS})
    top[2].set_title("Zones")
    niches = section.obs[keys.NICHE].astype(str)
    palette = niche_colours(niche_names)
    _categories(top[3], section, meta, niches, palette, {n: _label(n, niche_names) for n in palette})
    top[3].set_title("Niches")
    if shown:
        below = parts[1].subplots(n_rows, n_columns, squeeze=False)
        for ax, name in zip(below.ravel(), shown, strict=False):
            values = abundance[name].to_numpy(dtype=float)
            limit = max(float(np.nanpercentile(values, 99)), 0.02)
            spots = _spots(ax, section, meta, values=values, cmap="magma_r", limits=(0, limit))
            _colourbar(ax, spots, "probability" if unit == "cells" else "fraction of cells")
            ax.set_title(f"{name} (rare here)" if name in rare else name)
        for ax in below.ravel()[len(shown) :]:
            ax.remove()
    if lines.empty:
        reason = f"no {min_spots} {unit} with abundances at any distance"
        if np.isnan(distance).all():
            reason = f"no tumour-liver border ({meta['border_reason']})"
        elif not shown:
            reason = "no abundances"
        _words(parts[-1].subplots(), f"No profile over the distance to the border: {reason}.")
    else:
        note = f"steps of {_bin_width(lines):.0f} um, smoothed, n = {np.isfinite(distance).sum():,} {unit}"
        _across(parts[-1], lines, colours(shown), note=note, margin_um=margin_um)
    return figure


def _section_lines(profiles: pd.DataFrame, types: Sequence[str], *, min_spots: int) -> pd.DataFrame:
    """Shares of chosen types by distance (index ``bin_um``), smoothed over neighbouring bins on either side.

    Each bin weighs by its observations; bins with fewer than ``min_spots`` take no part, and nothing is carried across
    the border.
    """
    rows = profiles[(profiles["kind"] == "type") & profiles["name"].isin(types) & (profiles["n_spots"] >= min_spots)]
    mean = rows.pivot_table(index="bin_um", columns="name", values="mean").reindex(columns=list(types))
    n = rows.drop_duplicates("bin_um").set_index("bin_um")["n_spots"].reindex(mean.index).astype(float)
    place = mean.index.to_numpy()
    apart = np.abs(place[:, None] - place) / _bin_width(mean)
    weight = n.to_numpy() * np.clip(1 - apart / SMOOTH_BINS, 0, None) * (np.sign(place)[:, None] == np.sign(place))
    smooth = weight @ mean.to_numpy() / weight.sum(axis=1, keepdims=True)
    return pd.DataFrame(smooth, index=mean.index, columns=mean.columns)


def _bin_width(lines: pd.DataFrame) -> float:
    return float(np.diff(lines.index).min()) if len(lines) > 1 else 1.0


def _across(part: SubFigure, lines: pd.DataFrame, palette: dict[str, str], *, note: str, margin_um: float) -> None:
    """Shares over the signed distance: the abundant types on the left, the others on a scale of their own."""
    most = lines.max()
    groups = [list(most.index[most >= ABUNDANT]), list(most.index[most < ABUNDANT])]
    groups = [names for names in groups if names]
    axes = part.subplots(1, len(groups), squeeze=False)[0]
    for ax, names in zip(axes, groups, strict=True):
        ax.axvspan(-margin_um, margin_um, color=LIGHT, alpha=0.6, lw=0)
        ax.axvline(0, color=INK, lw=0.8, ls=":")
        for name in names:
            ax.plot(lines.index, lines[name], color=palette[name], lw=1.6, label=name)
        ax.set_ylim(bottom=0)
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, handlelength=1.2)
        ax.set(xlabel="signed distance to the border (um; tumour is negative)", ylabel="mean fraction of cells")
    part.suptitle(f"Types over the distance to the border ({note})", fontsize=9)


def niche_colours(names: dict[str, str]) -> dict[str, str]:
    """Colour per niche label, the same in all figures of a scope."""
    return colours(sorted(names)) | {NO_NICHE: LIGHT}


def _label(niche: str, names: dict[str, str]) -> str:
    if niche == NO_NICHE:
        return "no niche"
    parts = names[niche].split(" + ")
    return f"{niche} {' + '.join(parts[:2])}{' ...' if len(parts) > 2 else ''}"


def _pitch(meta: dict) -> float:
    pitch = float(meta["pitch_um"])
    return pitch if np.isfinite(pitch) else 100.0


def _frame(ax: Axes, section: AnnData, meta: dict) -> None:
    """Same limits, equal aspect, y down, no ticks, and a scale bar below the tissue."""
    xy = np.asarray(section.obsm[keys.SPATIAL])
    pitch = _pitch(meta)
    low, high = xy.min(axis=0) - pitch, xy.max(axis=0) + pitch
    ax.set(xlim=(low[0], high[0]), ylim=(high[1] + 2.2 * pitch, low[1]), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    y = high[1] + 0.5 * pitch
    width = high[0] - low[0]
    bar = next((length for length in BARS_UM if length <= 0.3 * width), BARS_UM[-1])
    ax.plot([low[0] + pitch, low[0] + pitch + bar], [y, y], color=INK, lw=2, solid_capstyle="butt")
    ax.text(low[0] + pitch + bar + 0.02 * width, y, f"{bar:.0f} um", va="center", fontsize=6)


def _spots(
    ax: Axes, section: AnnData, meta: dict, *, values=None, cmap=None, limits=None, facecolors=None
) -> EllipseCollection:
    """Spots as circles in tissue units, so that they keep their size against the tissue whatever the figure's."""
    xy = np.asarray(section.obsm[keys.SPATIAL])
    size = np.full(len(xy), 0.95 * _pitch(meta))
    spots = EllipseCollection(
        size, size, np.zeros(len(xy)), units="xy", offsets=xy, offset_transform=ax.transData, facecolors=facecolors
    )
    if values is not None:
        spots.set(array=np.ma.masked_invalid(values), cmap=cmap, clim=limits)
    ax.add_collection(spots)
    _frame(ax, section, meta)
    return spots


def _colourbar(ax: Axes, spots: EllipseCollection, label: str) -> None:
    """A colour bar as tall as the tissue, whatever room the layout leaves."""
    bar = ax.figure.colorbar(spots, cax=ax.inset_axes([1.01, 0.1, 0.03, 0.8]))
    bar.set_label(label, fontsize=6)
    bar.ax.tick_params(labelsize=6)
    bar.outline.set_visible(False)


def _categories(
    ax: Axes, section: AnnData, meta: dict, values: pd.Series, palette: dict[str, str], labels: dict[str, str]
) -> None:
    _spots(ax, section, meta, facecolors=[palette[name] for name in values])
    present = [name for name in palette if (values == name).any()]
    handles = [Patch(color=palette[name], label=labels[name]) for name in present]
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        fontsize=5.5,
        handlelength=0.8,
        handleheight=0.8,
        borderaxespad=0,
        labelspacing=0.3,
    )


def _image(ax: Axes, section: AnnData, meta: dict) -> None:
    """The stained image if there is one, else the tumour mask; the border with its band of uncertainty on it."""
    library = str(section.obs[keys.LIBRARY].iloc[0])
    slot = section.uns.get(keys.SPATIAL, {}).get(library, {})
    image = slot.get("images", {}).get("lowres")
    tumour = section.obs[keys.TUMOUR].to_numpy(dtype=bool)
    if image is None:
        _spots(ax, section, meta, facecolors=["#d9b8b8" if spot else "#dddddd" for spot in tumour])
        ax.set_title("Tumour mask (no image)")
    else:
        per_um = float(slot["scalefactors"]["tissue_lowres_scalef"])
        ax.imshow(image, extent=(0, image.shape[1] / per_um, image.shape[0] / per_um, 0), interpolation="bilinear")
        _frame(ax, section, meta)
        ax.set_title("Image")
    if not section.obs[keys.SIGNED_DISTANCE].isna().all():
        band = json.loads(meta["border_band_um"])
        _border(ax, section, meta, band_um=band[-1] if band else 0.0)
        ax.set_title(f"{ax.get_title()}, border")
    elif tumour.any() and not tumour.all():
        _outline(ax, section, tumour)
        ax.set_title(f"{ax.get_title()}, tumour outlined")


def _border(ax: Axes, section: AnnData, meta: dict, *, band_um: float = 0.0, margin_um: float = 0.0) -> None:
    """The border as a line, with a band of uncertainty or the limits of the margin on either side.

    Band and limits are read off a grid of distances from the nearest spots, within two pitches of any.
    """
    xy = np.asarray(section.obsm[keys.SPATIAL], dtype=float)
    distance = section.obs[keys.SIGNED_DISTANCE].to_numpy(dtype=float)
    step = max(np.ptp(xy, axis=0).max() / GRID_POINTS, _pitch(meta) / 3)
    axes = [np.arange(low, high + step, step) for low, high in zip(xy.min(axis=0), xy.max(axis=0), strict=True)]
    x, y = np.meshgrid(*axes)
    nearest, at = cKDTree(xy).query(np.column_stack([x.ravel(), y.ravel()]), k=min(4, len(xy)))
    near = 1 / (nearest.reshape(x.size, -1) + 1e-3)
    field = (near * distance[at.reshape(x.size, -1)]).sum(axis=1) / near.sum(axis=1)
    field = np.where(nearest.reshape(x.size, -1)[:, 0] <= max(2 * _pitch(meta), 2 * step), field, np.nan)
    field = np.ma.masked_invalid(field.reshape(x.shape))
    low, high = field.min(), field.max()
    if band_um and low < band_um and high > -band_um:
        ax.contourf(x, y, field, levels=[-band_um, band_um], colors=[ACCENT], alpha=0.25)
    lines = [(0.0, "-"), (-margin_um, ":"), (margin_um, ":")] if margin_um else [(0.0, "-")]
    for level, style in lines:
        if low < level < high:
            ax.contour(
                x, y, field, levels=[level], colors=[INK if margin_um else ACCENT], linewidths=1.2, linestyles=style
            )


def _outline(ax: Axes, section: AnnData, tumour: np.ndarray) -> None:
    """Border of the tumour mask: the sides that tumour spots share with other spots, drawn across each edge."""
    edges = section.obsp[keys.SPATIAL_GRAPH].tocoo()
    crossing = tumour[edges.row] & ~tumour[edges.col]
    xy = np.asarray(section.obsm[keys.SPATIAL], dtype=float)
    start, end = xy[edges.row[crossing]], xy[edges.col[crossing]]
    middle, along = (start + end) / 2, (end - start)
    # On a hexagonal grid the side that two cells share is their distance / sqrt(3) long.
    across = np.column_stack([-along[:, 1], along[:, 0]]) / np.sqrt(3) / 2
    segments = np.stack([middle - across, middle + across, np.full_like(middle, np.nan)], axis=1).reshape(-1, 2)
    ax.plot(*segments.T, color=ACCENT, lw=1.3)


def _words(ax: Axes, text: str) -> None:
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", fontsize=7, color="#555555", wrap=True, transform=ax.transAxes)


def plot_niches(
    niches: pd.DataFrame, labels: pd.DataFrame, patients: dict[str, str], consensus: pd.DataFrame
) -> Figure:
    """Composition of each niche against all spots, whether expression confirms it, and its share of each section.

    patients: patient of each section (library id to patient id). consensus: agreement of both definitions.
    """
    niches = niches[niches["definition"] == "composition"]
    if niches.empty:
        return message_figure("No niches: the scope has no section, or too few spots with abundances.")
    summary = niches.drop_duplicates("niche").set_index("niche")
    ratio = niches.pivot_table(index="niche", columns="cell_type", values="enrichment", sort=False).loc[summary.index]
    mean = niches.pivot_table(index="niche", columns="cell_type", values="mean_abundance", sort=False).loc[ratio.index]
    figure = new_figure(width=11.5, height=1.9 + 0.32 * len(ratio) + 1.2)
    left, right = figure.subplots(1, 2, width_ratios=[2.6, 1])
    limit = max(1.0, float(np.abs(ratio.to_numpy()).max()))
    heat = left.imshow(ratio.to_numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    for i, j in np.argwhere(mean.to_numpy() >= 0.1):
        dark = abs(ratio.iloc[i, j]) > 0.6 * limit
        left.text(
            j, i, f"{mean.iloc[i, j]:.0%}", ha="center", va="center", fontsize=5.5, color="white" if dark else INK
        )
    left.set_xticks(range(ratio.shape[1]), ratio.columns, rotation=60, ha="right", rotation_mode="anchor", fontsize=6.5)
    rows = [
        f"{n}  {row['name']}{'' if row['confirmed'] else ' (not confirmed)'}\n{row['n_spots']} "
        f"{UNITS[row['resolution']]}, {row['n_patients']} patients, Jaccard {row['jaccard']:.2f} with {row['match']}"
        for n, row in summary.iterrows()
    ]
    left.set_yticks(range(len(rows)), rows, fontsize=6.5)
    overall = consensus[consensus["library_id"] == "all"]
    agreement = ", ".join(f"{UNITS[row.resolution]} {row.ari:.2f}" for row in overall.itertuples())
    left.set_title(
        "Cell types in each niche (numbers: mean share of 10 % or more)\n"
        f"agreement with niches by expression (adjusted Rand index): {agreement}"
    )
    left.spines[:].set_visible(False)
    bar = figure.colorbar(heat, ax=left, shrink=0.8, pad=0.01, aspect=25)
    bar.set_label("log2 share against all spots", fontsize=7)
    bar.outline.set_visible(False)
    shares = labels.assign(patient=labels["library_id"].map(patients))
    shares = pd.crosstab(shares["library_id"], shares["niche"], normalize="index")
    palette = niche_colours(summary["name"].to_dict())
    start = np.zeros(len(shares))
    for niche in [*summary.index, NO_NICHE]:
        width = shares.get(niche, pd.Series(0.0, index=shares.index)).to_numpy()
        if width.any():
            right.barh(range(len(shares)), width, left=start, color=palette[niche], height=0.8, label=niche)
        start = start + width
    right.set_yticks(range(len(shares)), shares.index, fontsize=6)
    right.invert_yaxis()
    right.set(xlim=(0, 1), xlabel="share of spots", title=f"Niches per section (n = {len(shares)})")
    right.legend(loc="upper left", bbox_to_anchor=(1, 1), handlelength=0.8, fontsize=6)
    return figure


def plot_stability(stability: pd.DataFrame, *, min_ari: float) -> Figure:
    """Agreement of repeated clusterings for each number of niches; the chosen one is filled."""
    if stability.empty:
        return message_figure("No niches: the scope has no section, or too few spots with abundances.")
    panels = list(stability.groupby(["resolution", "definition"], sort=False))
    n_columns = min(2, len(panels))
    n_rows = int(np.ceil(len(panels) / n_columns))
    figure = new_figure(width=4.5 * n_columns, height=3 * n_rows)
    axes = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True)
    for ax, ((resolution, _), table) in zip(axes.ravel(), panels, strict=False):
        ax.errorbar(table["k"], table["ari_mean"], yerr=table["ari_sd"], color=INK, lw=1, capsize=2)
        for chosen, group in table.groupby("chosen"):
            face = ACCENT if chosen else "white"
            ax.scatter(group["k"], group["ari_mean"], s=36, color=face, edgecolor=INK, zorder=3)
        ax.axhline(min_ari, color="#888888", lw=0.8, ls="--")
        ax.text(table["k"].min(), min_ari - 0.02, f"wanted: {min_ari:g}", ha="left", va="top", fontsize=7)
        k = int(table.loc[table["chosen"] == 1, "k"].iloc[0])
        note = f"{k} niches of {UNITS[resolution]} by {table['basis'].iloc[0]}"
        ax.set_title(note + (",\nthe largest number tried" if k == table["k"].max() else ""))
        ax.set(xlabel="number of niches", ylabel="adjusted Rand index", ylim=(0, 1.03))
        ax.set_xticks(table["k"])
    return figure


def plot_neighbourhood(neighbourhood: pd.DataFrame, *, min_spots: int) -> Figure:
    """Median z over patients for each pair of types, and in how many patients it could be computed.

    Sections without border are left out here, since their null is the weaker one, and those of another resolution than
    most patients have; of several sections of a patient the mean is taken first.
    """
    used = of_one_resolution(neighbourhood[(neighbourhood["null"] == "distance_bins") & neighbourhood["z"].notna()])
    if used.empty:
        return message_figure(
            "No neighbourhood statistics: no section of spots or single cells has a tumour-liver border and "
            f"{min_spots} of them with abundances."
        )
    patients = used.groupby(["type_a", "type_b", "patient_id", "timepoint", "tissue"], sort=False)["z"].mean()
    pair = patients.groupby(level=[0, 1], sort=False).agg(["median", "size"])
    types = list(dict.fromkeys([*used["type_a"], *used["type_b"]]))
    median = pd.DataFrame(np.nan, index=types, columns=types)
    number = pd.DataFrame(0, index=types, columns=types)
    for (a, b), row in pair.iterrows():
        median.loc[a, b] = median.loc[b, a] = row["median"]
        number.loc[a, b] = number.loc[b, a] = int(row["size"])
    side = max(5.0, 0.27 * len(types) + 2.5)
    figure = new_figure(width=side + 1, height=side)
    ax = figure.subplots()
    limit = max(3.0, float(np.nanmax(np.abs(median.to_numpy()))))
    heat = ax.imshow(median.to_numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
    most = int(number.to_numpy().max())
    for i, j in np.argwhere((number.to_numpy() < most) & (number.to_numpy() > 0)):
        ax.text(j, i, str(number.iloc[i, j]), ha="center", va="center", fontsize=5)
    ax.set_xticks(range(len(types)), types, rotation=60, ha="right", rotation_mode="anchor", fontsize=6.5)
    ax.set_yticks(range(len(types)), types, fontsize=6.5)
    ax.spines[:].set_visible(False)
    bar = figure.colorbar(heat, ax=ax, shrink=0.7, pad=0.01, aspect=25)
    bar.set_label("median z over patients", fontsize=7)
    bar.outline.set_visible(False)
    unit = UNITS[used["resolution"].iloc[0]]
    note = f"Neighbouring {unit} beyond distance (n = {most} patients, each timepoint by itself"
    ax.set_title(note + (", fewer where a number stands)" if (number.to_numpy() < most).any() else ")"))
    return figure


def plot_distance_profiles(profiles: pd.DataFrame, *, min_spots: int, n_types: int) -> Figure:
    """Mean abundance against the signed distance to the border: a thin line per patient, the mean over patients thick.

    Timepoints and tissues have colours and means of their own, so that each patient counts once in each. Sections of
    another resolution than most patients have are left out: values of two resolutions are not averaged.

    Parameters
    ----------
    profiles
        Means of patients (``distance_profiles.parquet``, :func:`livermet.profiles.combine_profiles`).
    min_spots
        Observations that a patient's bin needs.
    n_types
        Number of types shown, the most abundant ones.
    """
    types = profiles[profiles["kind"] == "type"]
    if types.empty:
        return message_figure("No distance profiles: no section has a tumour-liver border.")
    types = types[types["n_spots"] >= min_spots]
    if types.empty:
        return message_figure(f"No distance profiles: no bin of distance holds {min_spots} spots, bins or cells.")
    used = of_one_resolution(types.assign(resolution=types["modality"].map(keys.unit_of)))
    order = used.groupby("name")["mean"].mean().sort_values(ascending=False, kind="stable").index[:n_types]
    n_columns = 4
    n_rows = int(np.ceil(len(order) / n_columns))
    figure = new_figure(width=11, height=0.8 + 1.9 * n_rows)
    axes = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True)
    places = list(used.groupby([keys.TIMEPOINT, keys.TISSUE], sort=True))
    palette = _place_colours([place for place, _ in places])
    for ax, name in zip(axes.ravel(), order, strict=False):
        for place, rows in places:
            lines = rows[rows["name"] == name].pivot_table(index="bin_um", columns=keys.PATIENT, values="mean")
            ax.plot(lines.index, lines.to_numpy(), color=palette[place], lw=0.6, alpha=0.4)
            both = lines[lines.notna().sum(axis=1) >= 2]
            ax.plot(both.index, both.mean(axis=1), color=palette[place], lw=2.2)
        ax.axvline(0, color=INK, lw=0.8, ls=":")
        ax.set_title(name)
        ax.set_ylim(bottom=0)
    for ax in axes.ravel()[len(order) :]:
        ax.remove()
    handles = [
        Line2D([], [], color=palette[place], lw=2.2, label=_of_patients(place, rows[keys.PATIENT].nunique()))
        for place, rows in places
    ]
    title = f"Cell types across the border, sections of {used['resolution'].iloc[0]}"
    figure.legend(handles=handles, loc="outside upper center", ncols=3, title=title)
    figure.supxlabel("signed distance to the border (um; tumour is negative)", fontsize=8)
    figure.supylabel("mean fraction of cells", fontsize=8)
    return figure


def _place_colours(places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A colour per timepoint and tissue."""
    return dict(zip(places, colours(" ".join(place) for place in places).values(), strict=True))


def _of_patients(place: tuple[str, str], n: int) -> str:
    return f"{' '.join(place)}, n = {n} patient{'s' * (n != 1)}"


def _zone_means(sections: Sequence[Section], *, needed: int) -> pd.DataFrame:
    """Mean abundances of each zone with enough observations, first within sections, then over those of a patient.

    Index: timepoint, tissue, patient_id, zone.
    """
    parts = []
    for section in sections:
        groups = section.abundance.groupby(section.zone)
        means = groups.mean()[groups.size() >= needed].drop(index="none", errors="ignore").rename_axis("zone")
        identity = {"timepoint": section.timepoint, "tissue": section.tissue, keys.PATIENT: section.patient_id}
        parts.append(means.reset_index().assign(**identity))
    table = pd.concat(parts).fillna(0.0)
    return table.groupby(["timepoint", "tissue", keys.PATIENT, "zone"]).mean()


def plot_zones(sections: Sequence[Section], *, min_spots: int, min_cells: int) -> Figure:
    """Mean composition of each zone, within sections, over those of a patient, over patients; and the zones' shares of
    each section.

    Each timepoint and tissue has a panel of its own, so that a patient counts once in each. Compositions are those of
    the resolution that most patients have, shares are those of all sections. A zone of a section counts with at least
    ``min_spots`` spots, or ``min_cells`` cells or bins.
    """
    zoned = [section for section in sections if (section.zone != "none").any()]
    if not zoned:
        return message_figure("No zones: no section has a tumour-liver border.")
    kinds = pd.DataFrame(
        {
            "at": range(len(zoned)),
            "resolution": [section.resolution for section in zoned],
            keys.PATIENT: [section.patient_id for section in zoned],
        }
    )
    of_kind = [zoned[i] for i in of_one_resolution(kinds)["at"]]
    resolution = of_kind[0].resolution
    per_patient = _zone_means(of_kind, needed=min_spots if resolution == "spot" else min_cells)
    if per_patient.empty:
        return message_figure(f"No zones: no zone of a section holds {min_spots} spots, or {min_cells} cells or bins.")
    order = per_patient.mean().sort_values(ascending=False, kind="stable").index
    palette = colours(order)
    places = list(per_patient.groupby(level=["timepoint", "tissue"], sort=True))
    figure = new_figure(width=3.4 * len(places) + 6.6, height=4.4)
    *left, right = figure.subplots(1, len(places) + 1)
    for ax, (place, rows) in zip(left, places, strict=True):
        _zone_bars(ax, rows, palette)
        ax.set_title(_of_patients(place, rows.index.unique(keys.PATIENT).size))
    left[0].set_ylabel(f"mean fraction of cells, sections of {UNITS[resolution]}")
    left[-1].legend(loc="upper left", bbox_to_anchor=(1, 1.02), fontsize=6, handlelength=0.8, labelspacing=0.25)
    counts = pd.DataFrame({s.library_id: pd.Series(s.zone).value_counts() for s in sections if len(s.zone)}).T
    counts = counts.reindex(columns=list(keys.ZONES)).fillna(0)
    counts = 100 * counts.div(counts.sum(axis=1), axis=0)
    start = np.zeros(len(counts))
    for zone in keys.ZONES:
        width = counts[zone].to_numpy()
        if width.any():
            label = zone.replace("_", " ")
            right.barh(range(len(counts)), width, left=start, color=ZONE_COLOURS[zone], height=0.8, label=label)
        start = start + width
    right.set_yticks(range(len(counts)), counts.index, fontsize=6.5)
    right.invert_yaxis()
    right.set(xlabel="% of spots, bins or cells", xlim=(0, 100), title="Zones per section")
    right.legend(loc="upper left", bbox_to_anchor=(1, 1.02), fontsize=6, handlelength=0.8)
    return figure


def _zone_bars(ax: Axes, rows: pd.DataFrame, palette: dict[str, str]) -> None:
    """Stacked mean composition of each zone over patients, with their number."""
    grouped = rows.groupby(level="zone")
    mean, patients = grouped.mean(), grouped.size()
    zones = [zone for zone in keys.ZONES if zone in mean.index]
    base = np.zeros(len(zones))
    for name, colour in palette.items():
        height = mean.loc[zones, name].to_numpy()
        ax.bar(range(len(zones)), height, bottom=base, color=colour, width=0.8, label=name)
        base = base + height
    names = [f"{zone.replace('_', ' ')}\nn = {patients[zone]}" for zone in zones]
    ax.set_xticks(range(len(zones)), names, fontsize=6)
    ax.set_ylim(0, 1)
