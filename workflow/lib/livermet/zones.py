"""Where a spot or cell lies: tumour, signed distance to the tumour-liver border, zones, and what they can carry.

Spots are looked at one by one. Bins and cells are averaged over square tiles first, on whose graph tumour and border
are found; each bin or cell then has its own distance. A pathologist's outline comes before what expression tells.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.spatial import cKDTree

from livermet import keys
from livermet.border import (
    Mask,
    border_mm,
    border_points,
    expression_border,
    no_border,
    outline_border,
    pack_lines,
    signed_distance,
    tumour_mask,
    tumour_side,
    unpack_lines,
)
from livermet.graph import pitch, spatial_graph, square_tiles

if TYPE_CHECKING:
    from shapely import MultiLineString

    from livermet.polygon import Outline
    from livermet.section import Section

logger = logging.getLogger(__name__)

BORDER = "border"  # uns: lines of the border
# Area of tissue per spot of a Visium section: hexagonal, 100 um between centres.
VISIUM_SPOT_UM2 = 100.0**2 * np.sqrt(3) / 2
# Coordinates from an image put the pitch a few per cent off its nominal value.
PITCH_SLACK = 1.1
# What map_section takes of the config, section spatial.
ZONE_OPTIONS = ("neighbours", "neighbour_um", "tile_um", "min_component", "margin_um", "core_um", "distant_um")
SUMMARY_COLUMNS = (
    *("library_id", "resolution", "border_source", "n_tumour", "n_liver", "interface_mm", "band_um"),
    *(f"n_{zone}" for zone in keys.ZONES),
    *("polygon_distance_um", "polygon_same_side", "reason"),
)
USABLE_COLUMNS = ("zone", "n", "usable", "reason")
SENSITIVITY_COLUMNS = (
    *("library_id", "patient_id", "resolution", "margin_um", "cell_type", "log2_ratio"),
    *("n_margin", "n_core", "reason"),
)


@dataclass(frozen=True)
class _Units:
    """What tumour and border are found on: spots, or tiles of bins or cells, and each observation's own unit."""

    coordinates: np.ndarray
    member: np.ndarray
    graph: sp.csr_matrix
    pitch_um: float
    regular: bool
    min_number: int
    name: str


@dataclass(frozen=True)
class _Found:
    """A border, and per observation whether it is tumour, liver, and on the tumour's side; ``reason`` why none."""

    border: MultiLineString
    tumour: np.ndarray
    liver: np.ndarray
    side: np.ndarray
    reason: str


def assign_zones(distance: np.ndarray, *, margin_um: float, core_um: float, distant_um: float) -> np.ndarray:
    """Zone of each spot by its signed distance to the border in micrometres.

    core < -core_um <= inner_rim < -margin_um <= margin <= margin_um < peritumoral <= distant_um < distant; "none"
    where the distance is NaN. The 500 um wide invasive margin follows Wu et al. 2023 Cell Res.
    """
    if not 0 < margin_um <= min(core_um, distant_um):
        raise ValueError(
            f"spatial zones: margin_um {margin_um} must be above 0 and at most core_um {core_um} and distant_um "
            f"{distant_um}; correct them in the config, section spatial"
        )
    conditions = [
        np.isnan(distance),
        distance < -core_um,
        distance < -margin_um,
        distance <= margin_um,
        distance <= distant_um,
    ]
    names = [keys.ZONES[5], *keys.ZONES[:4]]
    return np.select(conditions, names, default=keys.ZONES[4]).astype(object)


def margin_refusal(margin_um: float, *, resolution: str, pitch_um: float, tile_um: float) -> str:
    """Why a margin of this half-width can't be told from the border's uncertainty, or "".

    The place of the border is known to about one spot, or one tile of bins or cells.
    """
    unit, width = ("spot", pitch_um) if resolution == "spot" else ("tile", max(tile_um, pitch_um))
    if margin_um >= PITCH_SLACK * width:
        return ""
    return (
        f"a margin of {margin_um:g} um on either side is not wider than the border's uncertainty of one {unit} "
        f"({width:.0f} um)"
    )


def rezone(
    section: Section, *, margin_um: float, core_um: float, distant_um: float, tile_um: float
) -> tuple[Section, str]:
    """The section with zones for another half-width of the margin, and "" or why it has none.

    A margin that is no wider than a spot or tile is refused: all zones are "none" then.
    """
    width = pitch(section.coordinates)
    reason = margin_refusal(margin_um, resolution=section.resolution, pitch_um=width, tile_um=tile_um)
    if np.isnan(section.distance).all():
        reason = "no tumour-liver border"
    distance = np.full(len(section.distance), np.nan) if reason else section.distance
    zone = assign_zones(distance, margin_um=margin_um, core_um=core_um, distant_um=distant_um)
    return replace(section, zone=zone), reason


def usable_zones(section: Section, *, min_spots: int, min_cells: int) -> pd.DataFrame:
    """Which zones of a section can carry a statistic.

    Only spots, bins or cells with abundances count.

    Parameters
    ----------
    min_spots
        Spots that a zone needs, in a section of spots.
    min_cells
        Cells or bins that it needs elsewhere.

    Returns
    -------
    One row per zone but "none", in the order of ``keys.ZONES``: zone, n, usable, and "" or the reason why not.
    """
    needed, unit = (min_spots, "spots") if section.resolution == "spot" else (min_cells, f"{section.resolution}s")
    known = section.abundance.notna().all(axis=1).to_numpy() & (section.abundance.shape[1] > 0)
    names = list(keys.ZONES[:-1])
    n = pd.Series(section.zone[known], dtype=object).value_counts().reindex(names, fill_value=0).to_numpy()
    none = "no tumour-liver border" if np.isnan(section.distance).all() else ""
    reasons = [none or ("" if count >= needed else f"{count} {unit}, {needed} needed") for count in n]
    table = pd.DataFrame({"zone": names, "n": n.astype(int), "usable": [not reason for reason in reasons]})
    return table.assign(reason=reasons)[list(USABLE_COLUMNS)]


def margin_sensitivity(
    section: Section,
    *,
    half_widths: Sequence[float],
    core_um: float,
    distant_um: float,
    tile_um: float,
    min_spots: int,
    min_cells: int,
) -> pd.DataFrame:
    """Log2 ratio of each type's mean abundance, margin to core, for several half-widths of the margin.

    Half a spot or cell, spread evenly over the types, is added to each zone. A half-width that is refused
    (:func:`margin_refusal`), that reaches into the core, or that leaves too few observations in margin or core has one
    row with the reason.

    Parameters
    ----------
    half_widths
        Micrometres on either side of the border.
    min_spots, min_cells
        As for :func:`usable_zones`.

    Returns
    -------
    ``SENSITIVITY_COLUMNS``, in the order of the half-widths.
    """
    rows = []
    types = list(section.abundance.columns)
    for width in half_widths:
        reason = f"reaches into the core, which begins at {core_um:g} um" if width > min(core_um, distant_um) else ""
        zoned = section
        if not reason:
            zoned, reason = rezone(section, margin_um=width, core_um=core_um, distant_um=distant_um, tile_um=tile_um)
        usable = usable_zones(zoned, min_spots=min_spots, min_cells=min_cells).set_index("zone")
        few = [f"{name}: {usable.loc[name, 'reason']}" for name in ("margin", "core") if not usable.loc[name, "usable"]]
        row = {
            "library_id": section.library_id,
            "patient_id": section.patient_id,
            "resolution": section.resolution,
            "margin_um": float(width),
            "n_margin": int(usable.loc["margin", "n"]),
            "n_core": int(usable.loc["core", "n"]),
        }
        if reason or few:
            rows.append(row | {"cell_type": "", "log2_ratio": np.nan, "reason": reason or "; ".join(few)})
            continue
        means = [
            (part.sum() + 0.5 / len(types)) / (len(part) + 0.5)
            for part in (section.abundance[zoned.zone == name].dropna() for name in ("margin", "core"))
        ]
        ratio = np.log2(means[0] / means[1])
        rows += [row | {"cell_type": name, "log2_ratio": ratio[name], "reason": ""} for name in types]
    return pd.DataFrame(rows, columns=list(SENSITIVITY_COLUMNS))


def border_summary(section: AnnData) -> dict[str, object]:
    """One row of the table of sections (``SUMMARY_COLUMNS``): what was found of tumour, liver and border, and zones.

    ``band_um`` is how far off the border may be: one spot or tile; where it is the pathologist's, the median distance
    to the one of expression (NaN if that has none). ``reason``: why there is no border, or no zones beside one.
    """
    meta = section.uns[keys.META]
    band = json.loads(meta["border_band_um"])
    agreement = json.loads(meta["border_agreement"])
    zones = section.obs[keys.ZONE].astype(str).value_counts()
    return {
        "library_id": str(meta.get("library_id", "")),
        "resolution": str(meta.get(keys.RESOLUTION, "spot")),
        "border_source": meta["border_source"],
        "n_tumour": int(section.obs[keys.TUMOUR].sum()),
        "n_liver": int(meta["n_liver"]),
        "interface_mm": float(meta["interface_mm"]),
        "band_um": band[-1] if band else np.nan,
        **{f"n_{zone}": int(zones.get(zone, 0)) for zone in keys.ZONES},
        "polygon_distance_um": agreement.get("median_um", np.nan),
        "polygon_same_side": agreement.get("same_side", np.nan),
        "reason": meta.get("reason") or meta["zone_reason"],
    }


def border_lines(section: AnnData) -> MultiLineString:
    """The border of a mapped section, micrometres; empty where it has none."""
    return unpack_lines(section.uns[BORDER])


def map_section(
    section: AnnData,
    fractions: np.ndarray,
    types: tuple[str, ...],
    *,
    abundance_reason: str,
    neighbours: int,
    neighbour_um: float,
    tile_um: float,
    min_component: int,
    margin_um: float,
    core_um: float,
    distant_um: float,
    outline: Outline | None = None,
    outline_reason: str = "",
) -> AnnData:
    """Add graph, abundances, tumour mask, signed distance and zones to a section.

    Parameters
    ----------
    section
        Kept spots, bins or cells: counts in X, ``obsm["spatial"]`` in micrometres, ``uns["livermet"]["resolution"]``
        (without it: spots).
    fractions
        Spots x ``types``; rows sum to 1 or are NaN.
    abundance_reason
        "" or why there are no abundances.
    neighbours
        Neighbours per spot off an array.
    neighbour_um
        Longest distance between neighbouring cells.
    tile_um
        Side of the tiles that bins and cells are averaged over.
    min_component
        Smallest connected part of tumour or liver, in spots of a Visium section; for tiles the same area.
    outline
        The pathologist's polygons in micrometres of the section (:func:`livermet.polygon.place_outline`).
    outline_reason
        "" or why the polygons that were given can't be used: the section then has no border, rather than another one.

    Returns
    -------
    A copy with obs ``tumour``, ``signed_distance_um``, ``zone``, ``dominant_type``; obsm ``abundance`` (float32), uns
    ``abundance_types``; obsp ``spatial_connectivities``; uns ``border``: its lines; and in ``uns["livermet"]``:
    ``border_reason`` ("" or why no border), ``zone_reason`` ("" or why no zones: that of the border, or that of the
    margin), ``border_source`` ("expression", "polygon", or "" without border), ``interface_mm``, ``n_liver``,
    ``pitch_um``, ``array``, ``border_band_um`` (JSON: between which two distances the place of the border is not known:
    half and one pitch or tile; from 0 to the median disagreement for a polygon), ``border_agreement`` (JSON: median_um
    and same_side, of the polygon with expression, where there are both) and ``polygon_notes`` (JSON: how the classes of
    the file were used, what was repaired or left out). A margin that is not wider than one pitch or tile on either side
    is refused: zones are "none", with the reason, while border and distance stand, on which growth pattern,
    neighbourhoods and other half-widths rest.
    """
    result = section.copy()
    resolution = str(result.uns.get(keys.META, {}).get(keys.RESOLUTION, "spot"))
    coordinates = np.asarray(result.obsm[keys.SPATIAL], dtype=np.float64)
    graph = spatial_graph(coordinates, neighbours=neighbours, resolution=resolution, radius_um=neighbour_um)
    by_type = dict(zip(types, np.asarray(fractions, dtype=np.float64).T, strict=True))
    lacking = [name for name in (keys.MALIGNANT_TYPE, keys.HEPATOCYTE) if name not in by_type]
    unknown = np.full(len(coordinates), np.nan)
    evidence = [unknown if lacking else by_type[name] for name in (keys.MALIGNANT_TYPE, keys.HEPATOCYTE)]
    if resolution == "spot":
        units = _Units(
            coordinates,
            np.arange(len(coordinates)),
            graph.connectivities,
            graph.pitch_um,
            graph.kind != "irregular",
            min_component,
            "spots",
        )
    else:
        units, evidence = _tile_units(coordinates, evidence, tile_um=tile_um, min_component=min_component)
    mask = tumour_mask(*evidence, units.graph, min_spots=units.min_number, pitch_um=units.pitch_um, unit=units.name)
    if lacking and not abundance_reason:
        # Taken as abundance 0, the other tissue would be everywhere.
        mask = replace(mask, reason=f"the annotated cells give no profile of {' and '.join(lacking)}")
    found = _by_expression(coordinates, units, mask)
    found = replace(found, reason=abundance_reason or outline_reason or found.reason)
    source, agreement = "expression", {}
    if outline is not None:
        by_hand = _by_outline(coordinates, units, mask, outline)
        agreement = _agreement(by_hand, found)
        found, source = by_hand, "polygon"
    reason = found.reason
    border = no_border() if reason else found.border
    distance = signed_distance(coordinates, found.side, border)
    refusal = margin_refusal(margin_um, resolution=resolution, pitch_um=graph.pitch_um, tile_um=tile_um)
    no_zones = reason or refusal
    zoned = np.full(len(distance), np.nan) if no_zones else distance
    zone = assign_zones(zoned, margin_um=margin_um, core_um=core_um, distant_um=distant_um)
    result.obs[keys.TUMOUR] = found.tumour
    result.obs[keys.SIGNED_DISTANCE] = distance
    result.obs[keys.ZONE] = pd.Categorical(zone, categories=list(keys.ZONES))
    result.obs[keys.DOMINANT_TYPE] = pd.Categorical(_dominant(fractions, types))
    result.obsm[keys.ABUNDANCE] = np.asarray(fractions, dtype=np.float32)
    result.uns[keys.ABUNDANCE_TYPES] = np.asarray(types, dtype=object)
    result.obsp[keys.SPATIAL_GRAPH] = graph.connectivities
    result.uns[BORDER] = pack_lines(border)
    band = [] if np.isnan(units.pitch_um) else [units.pitch_um / 2, units.pitch_um]
    if source == "polygon":
        band = [0.0, agreement["median_um"]] if agreement else []
    result.uns[keys.META] = dict(result.uns.get(keys.META, {})) | {
        "border_reason": reason,
        "zone_reason": no_zones,
        "abundance_reason": abundance_reason,
        "border_source": "" if border.is_empty else source,
        "border_agreement": json.dumps(agreement),
        "polygon_notes": json.dumps([] if outline is None else [*filter(None, [outline.classes]), *outline.notes]),
        "interface_mm": border_mm(border),
        "n_liver": int(found.liver.sum()),
        "pitch_um": graph.pitch_um,
        "array": graph.kind,
        "border_band_um": json.dumps(band),
    }
    counts = pd.Series(zone, dtype=object).value_counts()
    logger.info(
        "section: %d %ss, %d tumour, %d liver, %.2f mm of border (%s)",
        len(coordinates), resolution, found.tumour.sum(), found.liver.sum(), border_mm(border), source,
    )  # fmt: skip
    logger.info(
        "zones: %s%s", ", ".join(f"{z} {counts.get(z, 0)}" for z in keys.ZONES), f"; {no_zones}" if no_zones else ""
    )
    return result


def _tile_units(
    coordinates: np.ndarray, evidence: list[np.ndarray], *, tile_um: float, min_component: int
) -> tuple[_Units, list[np.ndarray]]:
    tiles = square_tiles(coordinates, tile_um=tile_um)
    n = len(tiles.centres)
    pairs = cKDTree(tiles.centres).query_pairs(1.5 * tile_um, output_type="ndarray") if n else np.empty((0, 2), int)
    graph = sp.coo_matrix((np.ones(len(pairs), dtype=np.float32), pairs.T), shape=(n, n))
    number = int(np.ceil(min_component * VISIUM_SPOT_UM2 / tile_um**2))
    units = _Units(tiles.centres, tiles.member, (graph + graph.T).tocsr(), tile_um, True, number, "tiles")
    return units, [tiles.mean(values) for values in evidence]


def _by_expression(coordinates: np.ndarray, units: _Units, mask: Mask) -> _Found:
    border = expression_border(units.coordinates, mask, pitch_um=units.pitch_um, regular=units.regular)
    reason = mask.reason
    if not reason and border.is_empty:
        reason = "tumour and liver tissue nowhere touch in this section"
    member, known = units.member, units.member >= 0
    tumour, liver, side = (np.zeros(len(coordinates), dtype=bool) for _ in range(3))
    if len(units.coordinates):
        tumour[known], liver[known] = mask.tumour[member[known]], mask.liver[member[known]]
        side[known] = tumour_side(units.coordinates, mask)[member[known]]
        if not known.all():  # cells where there is hardly any tissue go with the nearest of their kind
            side[~known] = side[known][cKDTree(coordinates[known]).query(coordinates[~known])[1]]
    return _Found(border, tumour, liver, side, reason)


def _by_outline(coordinates: np.ndarray, units: _Units, mask: Mask, outline: Outline) -> _Found:
    """Tumour is what lies in the outline; the rest is liver where it was drawn, or where expression says hepatocytes.

    Without either, all tissue outside of the outline counts as liver.
    """
    import shapely

    def within(shape, points):
        shapely.prepare(shape)
        return shapely.contains_xy(shape, points[:, 0], points[:, 1])

    tumour, inside = within(outline.tumour, coordinates), within(outline.tumour, units.coordinates)
    if outline.liver is not None:
        liver, around = within(outline.liver, coordinates), within(outline.liver, units.coordinates)
    elif np.isnan(mask.balance).all():
        liver, around = ~tumour, ~inside
    else:
        around, known = mask.liver, units.member >= 0
        liver = np.zeros(len(coordinates), dtype=bool)
        liver[known] = around[units.member[known]]
    liver, around = liver & ~tumour, around & ~inside
    reason = ""
    for kind, number in (("tumour", inside.sum()), ("liver", around.sum())):
        if number < units.min_number:
            reason = reason or (
                f"no {kind} tissue by the pathologist's polygon ({number} {kind} {units.name}, "
                f"{units.min_number} needed)"
            )
    border = outline_border(
        outline.tumour,
        units.coordinates,
        Mask(inside, around, ~inside & ~around, mask.balance, reason),
        inside=inside,
        pitch_um=units.pitch_um,
    )
    if not reason and border.is_empty:
        reason = "the pathologist's polygon has no outline with tumour on one side and liver on the other"
    return _Found(border, tumour, liver, tumour, reason)


def _agreement(by_hand: _Found, expression: _Found) -> dict[str, float]:
    """Median distance (um) between the two borders, and share of spots on the same side; empty if one has none."""
    if by_hand.reason or expression.reason:
        return {}
    first, second = border_points(by_hand.border), border_points(expression.border)
    apart = np.concatenate([cKDTree(second).query(first)[0], cKDTree(first).query(second)[0]])
    return {"median_um": float(np.median(apart)), "same_side": float((by_hand.side == expression.side).mean())}


def _dominant(fractions: np.ndarray, types: tuple[str, ...]) -> np.ndarray:
    dominant = np.full(len(fractions), keys.UNKNOWN, dtype=object)
    known = ~np.isnan(fractions).all(axis=1) if types else np.zeros(len(fractions), dtype=bool)
    if known.any():
        filled = np.where(np.isnan(fractions), -1, fractions)
        dominant[known] = np.asarray(types, dtype=object)[filled[known].argmax(axis=1)]
    return dominant
