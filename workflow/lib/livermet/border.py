"""The tumour-liver border: tumour mask from abundances, the border as lines, signed distance to it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Delaunay, cKDTree

from livermet.graph import smooth, spans_plane

if TYPE_CHECKING:
    from shapely import MultiLineString
    from shapely.geometry.base import BaseGeometry

# A tissue's level inside its own domain is taken as this quantile of its smoothed share; below the floor the
# section has no such domain, since deconvolution leaves a few per cent of any type that the reference holds.
PLATEAU_QUANTILE = 90
PLATEAU_FLOOR = 0.15
# Spots with less than this share of either plateau's evidence around them are neither tumour nor liver.
MIN_EVIDENCE = 0.15
# A tumour is nests of malignant cells, where their evidence is above this, and what lies between nests that are so far
# apart. Tissue of neither kind beyond the nests, so far from liver, is a rim of stroma: the border runs inside of it.
NEST_EVIDENCE = 0.5
NEST_GAP_UM = 300.0
RIM_UM = 300.0
# Triangles with a longer edge than so many pitches span a gap in the tissue; one missing spot is none. Spots off an
# array lie unevenly: of random points the median nearest neighbour is half as far as the mean Delaunay neighbour.
MAX_EDGE = 2.1
MAX_EDGE_IRREGULAR = 4.0
# A pathologist's outline is border where tissue lies on either side within so many pitches, and liver within so many
# micrometres, since a rim of stroma may lie between.
TISSUE_REACH = 1.5
LIVER_REACH_UM = 500.0
STEP_UM = 5.0
# The border's length leaves out fingers and bays smaller than this, which depend on the resolution.
DETAIL_UM = 50.0


@dataclass(frozen=True)
class Mask:
    """Tumour, liver and rim (stroma between them) spots, or tiles, of a section.

    ``balance`` is the smoothed evidence of tumour against liver, from -1 (liver) to 1 (tumour). ``reason`` is "" or why
    the section has no tumour, or no liver.
    """

    tumour: np.ndarray
    liver: np.ndarray
    rim: np.ndarray
    balance: np.ndarray
    reason: str


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


def _grown(mask: np.ndarray, graph: sp.csr_matrix, *, rings: int, within: np.ndarray | None = None) -> np.ndarray:
    """The mask and so many rings of neighbours around it, through spots ``within`` alone."""
    for _ in range(rings):
        grown = mask | (graph @ mask.astype(np.float32) > 0)
        mask = grown if within is None else mask | (grown & within)
    return mask


def _stroma_rim(nests: np.ndarray, liver: np.ndarray, graph: sp.csr_matrix, *, pitch_um: float) -> np.ndarray:
    """Spots that are neither liver nor tumour nests, nor lie between nests, next to liver."""
    rings = max(1, round(NEST_GAP_UM / 2 / pitch_um))
    filled = ~_grown(~_grown(nests, graph, rings=rings), graph, rings=rings) | nests
    return _grown(liver, graph, rings=max(1, round(RIM_UM / pitch_um)), within=~filled & ~liver) & ~liver


def tumour_mask(
    malignant: np.ndarray,
    hepatocyte: np.ndarray,
    graph: sp.csr_matrix,
    *,
    min_spots: int,
    pitch_um: float,
    unit: str = "spots",
) -> Mask:
    """Which spots are tumour and which are liver tissue.

    Both abundances are smoothed over a spot and its neighbours and divided by their level inside their own domain
    (the 90th percentile), so that a tumour with much stroma is not taken for liver; the larger one wins. Spots
    with little of either (stroma) follow the evidence two rings further out; with none there they are neither.
    Connected parts and holes under ``min_spots`` are absorbed. The tumour ends with its malignant nests, as the
    invasive margin is drawn in pathology (Hendry et al. 2017 Adv Anat Pathol): a rim of stroma between the outermost
    nests and the liver is not tumour, stroma between nests is.

    Parameters
    ----------
    malignant, hepatocyte
        Fractions per spot; NaN where a spot has none.
    min_spots
        Smallest connected part, and fewest spots for a section to count as holding tumour, or liver.
    pitch_um
        Distance of neighbouring spots.
    unit
        What the rows are, for the reason: "spots" or "tiles".
    """
    n_spots = len(malignant)
    nothing = np.zeros(n_spots, dtype=bool)
    fault = "no abundances" if n_spots == 0 or np.isnan(malignant).all() else ""
    if pitch_um == 0:
        fault = f"half of the {unit} or more share their place with another"
    if fault:
        return Mask(nothing, nothing.copy(), nothing.copy(), np.full(n_spots, np.nan), fault)
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
    rim = nothing
    if tumour.any() and liver.any():
        rim = _stroma_rim(tumour & (evidence[:, 0] >= NEST_EVIDENCE), liver, graph, pitch_um=pitch_um)
        tumour &= ~rim
    # Along an edge into the rim the border lies where the nests end.
    balance = np.where(rim, np.fmin(balance, evidence[:, 0] / NEST_EVIDENCE - 1), balance)
    if tumour.sum() < min_spots:
        return Mask(
            nothing,
            liver,
            rim & nothing,
            balance,
            f"no tumour tissue ({tumour.sum()} tumour {unit}, {min_spots} needed)",
        )
    if liver.sum() < min_spots:
        return Mask(tumour, liver, rim, balance, f"no liver tissue ({liver.sum()} liver {unit}, {min_spots} needed)")
    return Mask(tumour, liver, rim, balance, "")


def tumour_side(coordinates: np.ndarray, mask: Mask) -> np.ndarray:
    """Whether a spot lies on the tumour's side: spots that are none of the three go with the nearest one that is.

    Without it stroma or necrosis deep inside the tumour would count as distant liver.
    """
    side = mask.tumour.copy()
    known = mask.tumour | mask.liver | mask.rim
    if known.any() and not known.all():
        nearest = cKDTree(coordinates[known]).query(coordinates[~known])[1]
        side[~known] = mask.tumour[known][nearest]
    return side


def no_border() -> MultiLineString:
    """The border of a section that has none."""
    import shapely

    return shapely.MultiLineString()


def expression_border(coordinates: np.ndarray, mask: Mask, *, pitch_um: float, regular: bool = True) -> MultiLineString:
    """The tumour-liver border as lines: marching triangles over the Delaunay triangulation of the spots.

    In each triangle whose corners lie on both sides the border runs from edge to edge: on an edge it lies where the
    balance of evidence, taken as linear along it, is even; at the midpoint where the balance does not change sign along
    the edge (a spot that follows its surroundings). Triangles that span a gap in the tissue hold no border.

    Parameters
    ----------
    coordinates
        Spots (or centres of tiles) x 2, micrometres.
    pitch_um
        Distance of neighbouring spots.
    regular
        Whether the spots stand on an array.

    Returns
    -------
    Empty if there is no tumour, no liver, or they nowhere touch.
    """
    if mask.reason or not spans_plane(coordinates):
        return no_border()
    # Four points of a square can be split either way: in a fixed order the spots' order in the file does not matter.
    order = np.lexsort(coordinates.T)
    corners = order[Delaunay(coordinates[order]).simplices]
    edges = np.linalg.norm(coordinates[corners] - coordinates[np.roll(corners, 1, axis=1)], axis=2)
    corners = corners[edges.max(axis=1) <= (MAX_EDGE if regular else MAX_EDGE_IRREGULAR) * pitch_um]
    side = tumour_side(coordinates, mask)[corners]
    mixed = side.any(axis=1) & ~side.all(axis=1)
    corners, side = corners[mixed], side[mixed]
    alone = np.argmax(side == (side.sum(axis=1) == 1)[:, None], axis=1)
    rows = np.arange(len(corners))
    ends = [
        _even_point(coordinates, mask.balance, corners[rows, alone], corners[rows, (alone + k) % 3]) for k in (1, 2)
    ]
    return _merged(np.stack(ends, axis=1))


def _even_point(coordinates: np.ndarray, balance: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Where the balance is even on each edge; the same for both triangles of the edge, to the last digit."""
    start, end = np.minimum(first, second), np.maximum(first, second)
    step = balance[start] - balance[end]
    along = np.divide(balance[start], step, out=np.full(len(step), 0.5), where=balance[start] * balance[end] < 0)
    return coordinates[start] + along[:, None] * (coordinates[end] - coordinates[start])


def _merged(segments: np.ndarray) -> MultiLineString:
    """Segments (n x 2 x 2) joined end to end."""
    import shapely

    segments = segments[(segments[:, 0] != segments[:, 1]).any(axis=1)]
    if not len(segments):
        return no_border()
    joined = shapely.line_merge(shapely.multilinestrings(shapely.linestrings(segments)))
    return shapely.multilinestrings(shapely.get_parts(joined))


def outline_border(
    outline: BaseGeometry, coordinates: np.ndarray, mask: Mask, *, inside: np.ndarray, pitch_um: float
) -> MultiLineString:
    """The part of a tumour's outline that is border: tissue on either side, and liver on the outer one.

    Parameters
    ----------
    outline
        Polygons of the tumour, micrometres.
    coordinates
        Spots (or centres of tiles) x 2, micrometres.
    mask
        Its ``liver`` tells which of them are liver.
    inside
        Which of them lie in the outline.
    pitch_um
        Distance of neighbouring spots.
    """
    import shapely

    if mask.reason:
        return no_border()
    rings = shapely.get_parts(shapely.segmentize(outline, 2 * STEP_UM).boundary)
    paths = [shapely.get_coordinates(ring) for ring in rings]
    segments = np.concatenate([np.stack([path[:-1], path[1:]], axis=1) for path in paths])
    middle = segments.mean(axis=1)
    near = np.ones(len(middle), dtype=bool)
    reaches = ((inside, TISSUE_REACH * pitch_um), (~inside, TISSUE_REACH * pitch_um), (mask.liver, LIVER_REACH_UM))
    for units, reach in reaches:
        near &= cKDTree(coordinates[units]).query(middle)[0] <= reach
    return _merged(segments[near])


def border_mm(border: MultiLineString) -> float:
    """Length of a border in millimetres, without details below ``DETAIL_UM``."""
    return border.simplify(DETAIL_UM).length / 1000


def border_points(border: MultiLineString) -> np.ndarray:
    """Points along the border (n x 2), at most ``STEP_UM`` micrometres apart."""
    import shapely

    return shapely.get_coordinates(shapely.segmentize(border, STEP_UM))


def signed_distance(coordinates: np.ndarray, side: np.ndarray, border: MultiLineString) -> np.ndarray:
    """Distance of each spot to the tumour-liver border in micrometres, negative on the tumour's side.

    NaN everywhere without a border. Where the border leaves the section, the distance of spots beside its end is an
    upper bound.

    Parameters
    ----------
    coordinates
        Spots or cells x 2, micrometres.
    side
        Whether each lies on the tumour's side.
    """
    points = border_points(border)
    if not len(points):
        return np.full(len(coordinates), np.nan)
    distance = cKDTree(points).query(coordinates)[0]
    return np.where(side, -distance, distance)


def pack_lines(border: MultiLineString) -> dict[str, np.ndarray]:
    """The border as h5ad holds it: ``vertices`` (n x 2, um) and ``offsets`` (lines + 1)."""
    import shapely

    vertices, line = shapely.get_coordinates(shapely.get_parts(border), return_index=True)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(line, minlength=len(border.geoms)))])
    return {"vertices": vertices, "offsets": offsets.astype(np.int64)}


def unpack_lines(packed: dict[str, np.ndarray]) -> MultiLineString:
    """The border that :func:`pack_lines` packed."""
    import shapely

    vertices, offsets = np.asarray(packed["vertices"]).reshape(-1, 2), np.asarray(packed["offsets"])
    return shapely.MultiLineString([vertices[i:j] for i, j in pairwise(offsets)])
