"""Where a spot lies: spatial graph, tumour mask, signed distance to the tumour-liver border, zones."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from livermet import keys

logger = logging.getLogger(__name__)

# Spacing counts as a grid where this share of spots has its nearest neighbour within 10 % of the median distance.
GRID_SHARE = 0.9
# A tissue's level inside its own domain is taken as this quantile of its smoothed share; below the floor the
# section has no such domain, since deconvolution leaves a few per cent of any type that the reference holds.
PLATEAU_QUANTILE = 90
PLATEAU_FLOOR = 0.15
# Spots with less than this share of either plateau's evidence around them are neither tumour nor liver.
MIN_EVIDENCE = 0.15


@dataclass(frozen=True)
class Graph:
    """Neighbours of a section's spots: symmetric 0/1 matrix, the pitch in um, the kind of array."""

    connectivities: sp.csr_matrix
    pitch_um: float
    kind: str


@dataclass(frozen=True)
class Mask:
    """Tumour and liver spots of a section.

    ``balance`` is the smoothed evidence of tumour against liver, from -1 (liver) to 1 (tumour). ``reason`` is "" or why
    the section has no tumour, or no liver.
    """

    tumour: np.ndarray
    liver: np.ndarray
    balance: np.ndarray
    reason: str


def pitch(coordinates: np.ndarray) -> float:
    """Median distance of a spot to its nearest neighbour, in the units of the coordinates; NaN below two spots."""
    if len(coordinates) < 2:
        return float("nan")
    return float(np.median(cKDTree(coordinates).query(coordinates, k=2)[0][:, 1]))


def spatial_graph(coordinates: np.ndarray, *, neighbours: int) -> Graph:
    """Spatial graph of one section by squidpy (Palla et al. 2022 Nat Methods).

    It takes one section's coordinates and nothing else, so no edge can join two sections. On an array the
    neighbours are those of the grid: six where it is hexagonal (Visium), four where it is square (legacy arrays);
    elsewhere the nearest ones, made symmetric.

    Parameters
    ----------
    coordinates
        Spots x 2, micrometres.
    neighbours
        Number of neighbours off the grid.
    """
    n_spots = len(coordinates)
    spacing = pitch(coordinates)
    if n_spots < 3:
        return Graph(sp.csr_matrix((n_spots, n_spots), dtype=np.float32), spacing, "none")
    import squidpy as sq

    section = AnnData(np.zeros((n_spots, 1), dtype=np.float32), obsm={keys.SPATIAL: np.asarray(coordinates, float)})
    tree = cKDTree(coordinates)
    nearest = tree.query(coordinates, k=2)[0][:, 1]
    regular = np.mean(np.abs(nearest - spacing) <= 0.1 * spacing) >= GRID_SHARE
    if regular:
        around = np.array([len(found) - 1 for found in tree.query_ball_point(coordinates, r=1.2 * spacing)])
        kind, ring = ("hexagonal", 6) if np.quantile(around, 0.9) > 4 else ("square", 4)
        sq.gr.spatial_neighbors_grid(section, n_neighs=min(ring, n_spots - 1))
    else:
        kind = "irregular"
        sq.gr.spatial_neighbors_knn(section, n_neighs=min(neighbours, n_spots - 1))
    matrix = sp.csr_matrix(section.obsp[keys.SPATIAL_GRAPH])
    matrix = matrix.maximum(matrix.T).tocsr()
    matrix.data[:] = 1
    return Graph(matrix.astype(np.float32), spacing, kind)


def smooth(values: np.ndarray, graph: sp.csr_matrix, *, rings: int) -> np.ndarray:
    """Mean of a spot and its neighbours, taken ``rings`` times; NaN values do not take part.

    values: spots, or spots x columns.
    """
    matrix = graph + sp.identity(graph.shape[0], dtype=graph.dtype, format="csr")
    values = np.asarray(values, dtype=np.float64)
    for _ in range(rings):
        known = ~np.isnan(values)
        total = matrix @ np.where(known, values, 0)
        number = matrix @ known.astype(np.float64)
        values = np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)
    return values


def _absorb_small(mask: np.ndarray, graph: sp.csr_matrix, *, min_spots: int) -> np.ndarray:
    """Flip connected parts of the mask, then holes in it, that are smaller than ``min_spots``."""
    mask = mask.copy()
    for value in (True, False):
        members = np.flatnonzero(mask == value)
        if len(members) == 0:
            continue
        _, part = connected_components(graph[members][:, members], directed=False)
        size = np.bincount(part)
        small = members[size[part] < min_spots]
        # A part without any neighbour outside is a separate piece of tissue, not a speck in another.
        outside = np.asarray(graph[small][:, np.flatnonzero(mask != value)].sum(axis=1)).ravel() > 0
        touching = np.isin(part, np.unique(part[np.isin(members, small[outside])]))
        mask[members[touching & (size[part] < min_spots)]] = not value
    return mask


def tumour_mask(malignant: np.ndarray, hepatocyte: np.ndarray, graph: sp.csr_matrix, *, min_spots: int) -> Mask:
    """Which spots are tumour and which are liver tissue.

    Both abundances are smoothed over a spot and its neighbours and divided by their level inside their own domain
    (the 90th percentile), so that a tumour with much stroma is not taken for liver; the larger one wins. Spots
    with little of either (stroma, a rim of fibroblasts) follow the evidence two rings further out; with none there
    they are neither. Connected parts and holes under ``min_spots`` are absorbed.

    Parameters
    ----------
    malignant, hepatocyte
        Fractions per spot; NaN where a spot has none.
    min_spots
        Smallest connected part, and fewest spots for a section to count as holding tumour, or liver.
    """
    n_spots = len(malignant)
    nothing = np.zeros(n_spots, dtype=bool)
    if n_spots == 0 or np.isnan(malignant).all():
        return Mask(nothing, nothing.copy(), np.full(n_spots, np.nan), "no abundances")
    both = np.column_stack([malignant, hepatocyte])
    near = np.nan_to_num(smooth(both, graph, rings=1))
    wide = np.nan_to_num(smooth(both, graph, rings=3))
    # A small tumour or a strip of liver may fill less than a tenth of a section: its clearest spots decide on presence.
    present = np.sort(near, axis=0)[-min_spots:].mean(axis=0) >= PLATEAU_FLOOR
    level = np.maximum(np.percentile(near, PLATEAU_QUANTILE, axis=0), PLATEAU_FLOOR)
    evidence = near / level
    evidence = np.where((evidence.sum(axis=1) < MIN_EVIDENCE)[:, None], wide / level, evidence) * present
    total = evidence.sum(axis=1)
    balance = np.divide(evidence[:, 0] - evidence[:, 1], total, out=np.full(n_spots, np.nan), where=total > 0)
    tumour = (total >= MIN_EVIDENCE) & (evidence[:, 0] > evidence[:, 1])
    if tumour.any():
        tumour = _absorb_small(tumour, graph, min_spots=min_spots)
    liver = ~tumour & (evidence[:, 1] >= MIN_EVIDENCE)
    if tumour.sum() < min_spots:
        return Mask(nothing, liver, balance, f"no tumour tissue ({tumour.sum()} tumour spots, {min_spots} needed)")
    if liver.sum() < min_spots:
        return Mask(tumour, liver, balance, f"no liver tissue ({liver.sum()} liver spots, {min_spots} needed)")
    return Mask(tumour, liver, balance, "")


def tumour_side(coordinates: np.ndarray, mask: Mask) -> np.ndarray:
    """Whether a spot lies on the tumour's side: spots that are neither tissue go with the nearest one that is.

    Without it a rim of stroma several spots wide would hide the border, and stroma or necrosis deep inside the tumour
    would count as distant liver.
    """
    side = mask.tumour.copy()
    known = mask.tumour | mask.liver
    if known.any() and not known.all():
        nearest = cKDTree(coordinates[known]).query(coordinates[~known])[1]
        side[~known] = mask.tumour[known][nearest]
    return side


def border_points(coordinates: np.ndarray, mask: Mask, graph: sp.csr_matrix) -> np.ndarray:
    """Points of the tumour-liver border (n x 2): one on each edge between the tumour's side and the liver's.

    The point lies where the balance of evidence, taken as linear along the edge, is even; at the midpoint where the
    balance does not change sign along the edge (a spot that follows its surroundings).
    """
    edges = sp.triu(graph, k=1).tocoo()
    side = tumour_side(coordinates, mask)
    crossing = side[edges.row] != side[edges.col]
    start, end = edges.row[crossing], edges.col[crossing]
    first, last = mask.balance[start], mask.balance[end]
    step = first - last
    along = np.divide(first, step, out=np.full(len(step), 0.5), where=first * last < 0)
    return coordinates[start] + along[:, None] * (coordinates[end] - coordinates[start])


def signed_distance(coordinates: np.ndarray, mask: Mask, graph: sp.csr_matrix) -> np.ndarray:
    """Distance of each spot to the tumour-liver border in the units of the coordinates, negative inside the tumour.

    NaN everywhere if there is no tumour, no liver, or they nowhere touch. Where the border leaves the section, the
    distance of spots beside its end is an upper bound.
    """
    points = np.empty((0, 2)) if mask.reason else border_points(coordinates, mask, graph)
    if not len(points):
        return np.full(len(coordinates), np.nan)
    distance = cKDTree(points).query(coordinates)[0]
    return np.where(tumour_side(coordinates, mask), -distance, distance)


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


def map_section(
    section: AnnData,
    fractions: np.ndarray,
    types: tuple[str, ...],
    *,
    abundance_reason: str,
    neighbours: int,
    min_component: int,
    margin_um: float,
    core_um: float,
    distant_um: float,
) -> AnnData:
    """Add graph, abundances, tumour mask, signed distance and zones to a section.

    Parameters
    ----------
    section
        Kept spots: counts in X, ``obsm["spatial"]`` in micrometres.
    fractions
        Spots x ``types``; rows sum to 1 or are NaN.
    abundance_reason
        "" or why there are no abundances.
    neighbours
        Neighbours per spot off an array.
    min_component
        Smallest connected part of tumour or liver, in spots.

    Returns
    -------
    A copy with obs ``tumour``, ``signed_distance_um``, ``zone``, ``dominant_type``; obsm ``abundance`` (float32), uns
    ``abundance_types``; obsp ``spatial_connectivities``; and in ``uns["livermet"]``: ``border_reason``, ``pitch_um``,
    ``array``, ``border_band_um`` (JSON: half a pitch and one pitch, between which the place of the border is not
    known). A margin that is not wider than one pitch on either side is refused: zones are "none", with the reason.
    """
    result = section.copy()
    coordinates = np.asarray(result.obsm[keys.SPATIAL], dtype=np.float64)
    graph = spatial_graph(coordinates, neighbours=neighbours)
    by_type = dict(zip(types, fractions.T, strict=True))
    lacking = [name for name in (keys.MALIGNANT_TYPE, keys.HEPATOCYTE) if name not in by_type]
    unknown = np.full(len(coordinates), np.nan)
    mask = tumour_mask(
        *(unknown if lacking else by_type[name] for name in (keys.MALIGNANT_TYPE, keys.HEPATOCYTE)),
        graph.connectivities,
        min_spots=min_component,
    )
    if lacking and not abundance_reason:
        # Taken as abundance 0, the other tissue would be everywhere.
        mask = replace(mask, reason=f"the annotated cells give no profile of {' and '.join(lacking)}")
    distance = signed_distance(coordinates, mask, graph.connectivities)
    reason = abundance_reason or mask.reason
    if not reason and np.isnan(distance).all():
        reason = "tumour and liver tissue nowhere touch in this section"
    # Coordinates from an image put the pitch a few per cent off its nominal value.
    if not reason and margin_um < 1.1 * graph.pitch_um:
        reason = (
            f"a margin of {margin_um:g} um on either side is not wider than the border's uncertainty of one spot "
            f"({graph.pitch_um:.0f} um)"
        )
        distance = np.full(len(coordinates), np.nan)
    zone = assign_zones(distance, margin_um=margin_um, core_um=core_um, distant_um=distant_um)
    filled = np.where(np.isnan(fractions), -1, fractions) if types else fractions
    dominant = np.full(len(coordinates), keys.UNKNOWN, dtype=object)
    if types and len(coordinates):
        known = ~np.isnan(fractions).all(axis=1)
        dominant[known] = np.asarray(types, dtype=object)[filled[known].argmax(axis=1)]
    result.obs[keys.TUMOUR] = mask.tumour
    result.obs[keys.SIGNED_DISTANCE] = distance
    result.obs[keys.ZONE] = pd.Categorical(zone, categories=list(keys.ZONES))
    result.obs[keys.DOMINANT_TYPE] = pd.Categorical(dominant)
    result.obsm[keys.ABUNDANCE] = np.asarray(fractions, dtype=np.float32)
    result.uns[keys.ABUNDANCE_TYPES] = np.asarray(types, dtype=object)
    result.obsp[keys.SPATIAL_GRAPH] = graph.connectivities
    band = [] if np.isnan(graph.pitch_um) else [graph.pitch_um / 2, graph.pitch_um]
    result.uns[keys.META] = dict(result.uns.get(keys.META, {})) | {
        "border_reason": reason,
        "abundance_reason": abundance_reason,
        "pitch_um": graph.pitch_um,
        "array": graph.kind,
        "border_band_um": json.dumps(band),
    }
    counts = pd.Series(zone, dtype=object).value_counts()
    logger.info("section: %d spots, %d tumour, %d liver", len(coordinates), mask.tumour.sum(), mask.liver.sum())
    logger.info(
        "zones: %s%s", ", ".join(f"{z} {counts.get(z, 0)}" for z in keys.ZONES), f"; {reason}" if reason else ""
    )
    return result
