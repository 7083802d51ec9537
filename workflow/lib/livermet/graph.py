"""Neighbours in space: the graph of a section's spots, bins or cells, smoothing over it, and square tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from scipy.spatial import cKDTree

from livermet import keys

# Spacing counts as a grid where this share of spots has its nearest neighbour within 10 % of the median distance.
GRID_SHARE = 0.9
# A tile with less than this share of the observations that the median tile holds is no tissue.
MIN_TILE_FILL = 0.2


@dataclass(frozen=True)
class Graph:
    """Neighbours of a section's spots: symmetric 0/1 matrix, the pitch in um, the kind of array.

    ``kind`` is "hexagonal", "square", "irregular" (nearest ones), "cells" (Delaunay) or "none".
    """

    connectivities: sp.csr_matrix
    pitch_um: float
    kind: str


@dataclass(frozen=True)
class Tiles:
    """Square tiles that hold tissue: their centres (um), and for each observation the row of its tile, -1 for none."""

    centres: np.ndarray
    member: np.ndarray

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean of a value per observation over each tile; NaN values take no part, a tile of nothing else is NaN."""
        used = (self.member >= 0) & ~np.isnan(values)
        number = np.bincount(self.member[used], minlength=len(self.centres))
        total = np.bincount(self.member[used], weights=values[used], minlength=len(self.centres))
        return np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)


def pitch(coordinates: np.ndarray) -> float:
    """Median distance of a spot to its nearest neighbour, in the units of the coordinates; NaN below two spots."""
    if len(coordinates) < 2:
        return float("nan")
    return float(np.median(cKDTree(coordinates).query(coordinates, k=2)[0][:, 1]))


def spatial_graph(
    coordinates: np.ndarray, *, neighbours: int, resolution: str = "spot", radius_um: float = 50.0
) -> Graph:
    """Spatial graph of one section by squidpy (Palla et al. 2022 Nat Methods).

    It takes one section's coordinates and nothing else, so no edge can join two sections. On an array the
    neighbours are those of the grid: six where it is hexagonal (Visium), four where it is square (bins, legacy arrays);
    elsewhere the nearest ones, made symmetric. Cells have the neighbours of the Delaunay triangulation, as far as
    ``radius_um``: a cell far from all others has none.

    Parameters
    ----------
    coordinates
        Spots x 2, micrometres.
    neighbours
        Number of neighbours of spots off the grid.
    resolution
        "spot", "bin" or "cell".
    radius_um
        Longest distance between the centres of neighbouring cells.
    """
    n_spots = len(coordinates)
    coordinates = np.asarray(coordinates, dtype=np.float64)
    spacing = pitch(coordinates)
    if n_spots < 3 or (resolution == "cell" and not spans_plane(coordinates)):
        return Graph(sp.csr_matrix((n_spots, n_spots), dtype=np.float32), spacing, "none")
    import squidpy as sq

    section = AnnData(sp.csr_matrix((n_spots, 1), dtype=np.float32), obsm={keys.SPATIAL: coordinates})
    if resolution == "cell":
        kind = "cells"
        sq.gr.spatial_neighbors_delaunay(section, radius=(0.0, radius_um))
    elif _is_regular(coordinates, spacing):
        around = cKDTree(coordinates).query_ball_point(coordinates, r=1.2 * spacing, return_length=True) - 1
        kind, ring = ("hexagonal", 6) if np.quantile(around, 0.9) > 4 else ("square", 4)
        sq.gr.spatial_neighbors_grid(section, n_neighs=min(ring, n_spots - 1))
    else:
        kind = "irregular"
        sq.gr.spatial_neighbors_knn(section, n_neighs=min(neighbours, n_spots - 1))
    matrix = sp.csr_matrix(section.obsp[keys.SPATIAL_GRAPH])
    matrix = matrix.maximum(matrix.T).tocsr()
    matrix.data[:] = 1
    return Graph(matrix.astype(np.float32), spacing, kind)


def spans_plane(coordinates: np.ndarray) -> bool:
    """Whether points can be triangulated: at least three that do not lie on one line."""
    return len(coordinates) > 2 and np.linalg.matrix_rank(coordinates - coordinates[0]) == 2


def _is_regular(coordinates: np.ndarray, spacing: float) -> bool:
    nearest = cKDTree(coordinates).query(coordinates, k=2)[0][:, 1]
    return bool(np.mean(np.abs(nearest - spacing) <= 0.1 * spacing) >= GRID_SHARE)


def square_tiles(coordinates: np.ndarray, *, tile_um: float) -> Tiles:
    """Tiles of a square grid with enough observations to be tissue, in the order of the grid.

    Parameters
    ----------
    coordinates
        Observations x 2, micrometres.
    tile_um
        Side of a tile.
    """
    if not len(coordinates):
        return Tiles(np.empty((0, 2)), np.empty(0, dtype=np.int64))
    origin = coordinates.min(axis=0)
    column, row = np.floor((coordinates - origin) / tile_um).astype(np.int64).T
    n_columns = int(column.max()) + 1
    code, member, number = np.unique(row * n_columns + column, return_inverse=True, return_counts=True)
    tissue = number >= MIN_TILE_FILL * np.median(number)
    place = np.where(tissue, np.cumsum(tissue) - 1, -1)
    row, column = np.divmod(code[tissue], n_columns)
    return Tiles(origin + (np.column_stack([column, row]) + 0.5) * tile_um, place[member])


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
