"""Outlines of segmented cells, all in two arrays: ``uns["polygons"]`` of a section.

``vertices`` holds the corners of all cells one after another (float32, n x 2, micrometres), ``offsets`` (int64, cells
+ 1) where each cell's begin. A cell without outline has none.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from anndata import AnnData

from livermet import keys

VERTICES = "vertices"
OFFSETS = "offsets"


def pack_polygons(owners: pd.Series, vertices: np.ndarray, *, cells: pd.Index) -> dict[str, np.ndarray]:
    """Corners in the order of the cells.

    Parameters
    ----------
    owners
        Cell of each corner, as categories; corners of one cell are in order, the cells in any.
    vertices
        Corners x 2, in micrometres.
    cells
        Names of the cells; corners of other cells are left out.
    """
    of_category = cells.get_indexer(owners.cat.categories)
    codes = owners.cat.codes.to_numpy()
    cell = np.where(codes >= 0, of_category[codes], -1)
    order = np.argsort(cell, kind="stable")[np.count_nonzero(cell < 0) :]
    offsets = np.zeros(len(cells) + 1, dtype=np.int64)
    np.cumsum(np.bincount(cell[order], minlength=len(cells)), out=offsets[1:])
    return {VERTICES: vertices[order].astype(np.float32), OFFSETS: offsets}


def subset_polygons(polygons: Mapping[str, np.ndarray], kept: np.ndarray) -> dict[str, np.ndarray]:
    """Outlines of some of the cells.

    Parameters
    ----------
    polygons
        As :func:`pack_polygons` leaves them.
    kept
        Flag per cell.
    """
    sizes = np.diff(polygons[OFFSETS])
    offsets = np.zeros(int(np.count_nonzero(kept)) + 1, dtype=np.int64)
    np.cumsum(sizes[kept], out=offsets[1:])
    return {VERTICES: polygons[VERTICES][np.repeat(kept, sizes)], OFFSETS: offsets}


def keep_cells(section: AnnData, kept: np.ndarray) -> AnnData:
    """A copy of a section with some of its cells (flag per cell), and their outlines where there are any."""
    result = section[kept].copy()
    if keys.POLYGONS in section.uns:
        result.uns[keys.POLYGONS] = subset_polygons(section.uns[keys.POLYGONS], kept)
    return result
