"""Segmented cells of imaging instruments: Xenium, CosMx and MERSCOPE.

Small readers of their tables, in place of spatialdata-io 0.7.1, which was weighed. It resolves with the locked versions
(three more packages), but the import of one of its readers costs 4.4 s and 350 MB per library (this module with all
that it needs: 2.3 s and 170 MB), it reads images, and it read none of the section folders of published test data in the
form in which people share them: Xenium without ``experiment.xenium``, CosMx without transcripts, MERSCOPE without
``images/``, Visium HD without the slice file. It has no cheap look at the first values either. The tables read here
hold all that is used of a section.

Coordinates are those of the instrument's plane. Whether its y axis points down or up is not in the files, so a section
may be mirrored; no distance depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from anndata import AnnData
from scipy import sparse

from livermet import keys
from livermet.cell_polygons import OFFSETS, pack_polygons
from livermet.celltables import COPY_AGAIN, joined, read_columns, table_columns, wide_counts
from livermet.counts import GENE_EXPRESSION, check_barcodes, feature_table, gene_expression
from livermet.rawh5 import FIRST_ROWS
from livermet.readers import read_10x
from livermet.sources import (
    COSMX_BOUNDARIES,
    COSMX_CELLS,
    COSMX_FIELDS,
    MERSCOPE_BOUNDARIES,
    MERSCOPE_CELLS,
    XENIUM_BOUNDARIES,
    XENIUM_CELLS,
    Source,
    find_source,
)
from livermet.visium import differ

CONTROL = "Control"
# Probes without a target in man, by the names that the instruments' panels give them.
_CONTROLS = re.compile(
    r"(neg(control|prb|ative)|blank[-_]|systemcontrol|falsecode|antisense_|(unassigned|deprecated)codeword|intergenic_)",
    re.IGNORECASE,
)
# Names of the cell in the two tables of Vizgen (and of R, which writes row names without a title, or as X).
_MERSCOPE_CELL = ("cell", "EntityID", "", "Unnamed: 0", "X", "cell_id")
# Micrometres per pixel of CosMx: the instrument that is sold, and the prototype of the data published in 2022.
_COSMX_PIXELS = "0.12028 for instruments as they are sold, 0.18 for data of before 2023"


def read_xenium(source: Source | str | Path, *, pixel_um: float | None = None, first: int | None = None) -> AnnData:
    """Read the cells of a Xenium section: cell_feature_matrix, cells, and cell_boundaries where they are there.

    Parameters
    ----------
    source
        The output folder, or what :func:`livermet.sources.find_source` found in it.
    pixel_um
        Not needed: positions are micrometres. Anything but None and 1 is refused.
    first
        Read only the first cells, with about so many values, and no outlines.

    Returns
    -------
    As :func:`livermet.counts.gene_expression` without control probes and codewords, with ``obsm["spatial"]`` (um) and
    ``uns["polygons"]`` (:mod:`livermet.cell_polygons`) where there are outlines. The morphology image, of gigabytes, is
    not read.
    """
    source = source if isinstance(source, Source) else find_source(source, modality="xenium")
    _refuse_pixels(source, pixel_um)
    adata = _without_controls(read_10x(source.matrix, first=first))
    cells = source.file(*XENIUM_CELLS)
    if not _place(adata, cells, names=("cell_id",), xy=("x_centroid", "y_centroid"), scale=1.0, first=first):
        return adata
    boundaries = source.file(*XENIUM_BOUNDARIES)
    if boundaries is not None:
        _outline(adata, boundaries, names=("cell_id",), xy=("vertex_x", "vertex_y"), scale=1.0)
    return adata


def read_cosmx(source: Source | str | Path, *, pixel_um: float | None = None, first: int | None = None) -> AnnData:
    """Read the cells of a CosMx section: exprMat_file, metadata_file, and polygons where they are there.

    Parameters
    ----------
    source
        The folder of flat files, or what :func:`livermet.sources.find_source` found in it.
    pixel_um
        Micrometres per pixel; None if the files tell (by areas in both units, or positions of fields in both).
    first
        Read only the first cells, with about so many values, and no outlines.

    Returns
    -------
    As :func:`read_xenium`; cells are named ``{fov}_{cell_ID}``. What lies outside of cells (cell_ID 0) is left out.
    """
    source = source if isinstance(source, Source) else find_source(source, modality="cosmx")
    cells = source.file(*COSMX_CELLS)
    scale = _cosmx_pixel(cells, source.file(*COSMX_FIELDS), pixel_um=pixel_um)
    names = ("fov", "cell_ID")
    labels, matrix, genes = wide_counts(source.matrix, names=names, beside=("cell", "cell_id", ""), first=first)
    background = labels.str.endswith("_0").to_numpy()
    adata = _panel(matrix[~background], labels[~background], genes, source.matrix)
    if background.any():
        adata.uns["notes"].append(
            f"{source.matrix}: {int(background.sum())} rows outside of cells (cell_ID 0) left out"
        )
    xy = ("CenterX_global_px", "CenterY_global_px")
    if not _place(adata, cells, names=names, xy=xy, scale=scale, first=first):
        return adata
    boundaries = source.file(*COSMX_BOUNDARIES)
    if boundaries is not None:
        there = table_columns(boundaries)
        own = ("fov", next((name for name in ("cellID", "cell_ID") if name in there), "cell_ID"))
        _outline(adata, boundaries, names=own, xy=("x_global_px", "y_global_px"), scale=scale)
    return adata


def read_merscope(source: Source | str | Path, *, pixel_um: float | None = None, first: int | None = None) -> AnnData:
    """Read the cells of a MERSCOPE section: cell_by_gene, cell_metadata, and cell_boundaries where they are Parquet.

    Parameters
    ----------
    source
        The folder of a region, or what :func:`livermet.sources.find_source` found in it.
    pixel_um
        Not needed: positions are micrometres. Anything but None and 1 is refused.
    first
        Read only the first cells, with about so many values, and no outlines.

    Returns
    -------
    As :func:`read_xenium`, without the blank barcodes. Outlines are those of the middle plane; older files with one
    HDF5 group per cell are not read.
    """
    source = source if isinstance(source, Source) else find_source(source, modality="merscope")
    _refuse_pixels(source, pixel_um)
    own = _merscope_cell(source.matrix)
    labels, matrix, genes = wide_counts(source.matrix, names=(own,), first=first)
    adata = _panel(matrix, labels, genes, source.matrix)
    cells = source.file(*MERSCOPE_CELLS)
    names = (_merscope_cell(cells),)
    if not _place(adata, cells, names=names, xy=("center_x", "center_y"), scale=1.0, first=first):
        return adata
    boundaries = source.file(*MERSCOPE_BOUNDARIES)
    if boundaries is not None:
        try:
            owners, vertices = _planes(boundaries)
        except ValueError as error:
            adata.uns["notes"].append(_left_out(boundaries, error))
        else:
            _add_outlines(adata, owners, vertices, boundaries)
    return adata


# -------------------------------------------------------------------------------------------------- counts


def _panel(matrix: sparse.csr_matrix, labels: pd.Series, genes: np.ndarray, path: Path) -> AnnData:
    """Counts of a panel by symbol."""
    cells = labels.to_numpy(dtype=str)
    check_barcodes(cells, name=str(path))
    types = np.where([_CONTROLS.match(gene) is not None for gene in genes], CONTROL, GENE_EXPRESSION)
    features = feature_table(ids=np.full(len(genes), ""), symbols=genes, types=types, name=str(path))
    return gene_expression(matrix, cells, features, name=str(path))


def _without_controls(adata: AnnData) -> AnnData:
    """Counts without the control probes that early files list among the genes."""
    controls = np.array([_CONTROLS.match(symbol) is not None for symbol in adata.var[keys.SYMBOL]], dtype=bool)
    if not controls.any():
        return adata
    notes = [*adata.uns["notes"], f"{int(controls.sum())} control probes among the genes left out"]
    kept = adata[:, ~controls].copy()
    kept.uns["notes"] = notes
    return kept


def _merscope_cell(path: Path) -> str:
    """The column of a table that names the cell."""
    there = table_columns(path)
    for name in _MERSCOPE_CELL:
        if name in there:
            return name
    raise ValueError(
        f"{path}: no column names the cell (looked for {', '.join(name for name in _MERSCOPE_CELL if name)}; has "
        f"{', '.join(there[:8])}); export the table again with the names that the instrument gives its columns"
    )


# -------------------------------------------------------------------------------------------------- positions


def _refuse_pixels(source: Source, pixel_um: float | None) -> None:
    if pixel_um not in (None, 1):
        raise ValueError(
            f"{source.base}: positions of this instrument are micrometres already, but pixel_um is {pixel_um:g}; leave "
            "pixel_um empty in libraries.tsv"
        )


def _place(
    adata: AnnData, path: Path, *, names: Sequence[str], xy: tuple[str, str], scale: float, first: int | None
) -> bool:
    """Put positions (um) into a section; False where only the first rows of the table were wanted."""
    table = read_columns(path, names=names, numbers=xy, first=None if first is None else FIRST_ROWS)
    labels = joined(table, names)
    repeated = labels.duplicated()
    if repeated.any():
        raise ValueError(f"{path}: cell {labels[repeated].iloc[0]} occurs more than once; copy it again")
    rows = pd.Index(labels.astype(str)).get_indexer(adata.obs_names)
    unknown = rows < 0
    if unknown.any() and (first is None or len(table) < FIRST_ROWS):
        raise ValueError(
            f"{path}: {int(unknown.sum())} of {adata.n_obs} cells have no position, such as "
            f"{adata.obs_names[unknown][0]}; counts and positions are not of one section"
        )
    if first is not None:
        return False
    adata.obsm[keys.SPATIAL] = table[list(xy)].to_numpy()[rows] * scale
    if len(table) > adata.n_obs:
        adata.uns["notes"].append(f"{path}: {len(table) - adata.n_obs} cells without counts left out")
    return True


def _cosmx_pixel(cells: Path, fields: Path | None, *, pixel_um: float | None) -> float:
    """Micrometres per pixel of a CosMx section: as declared, else as the files tell."""
    said = _pixel_by_area(cells)
    by = f"{cells}: Area.um2 / Area"
    if said is None and fields is not None:
        said, by = _pixel_by_fields(fields), f"{fields}: positions in px and mm"
    if pixel_um is None and said is None:
        raise ValueError(
            f"{cells}: positions count in pixels, and no file tells their size; give pixel_um in libraries.tsv "
            f"({_COSMX_PIXELS})"
        )
    if pixel_um is not None and said is not None and differ(pixel_um, said):
        raise ValueError(
            f"{by} give {said:.5g} um per pixel, but pixel_um is {pixel_um:g}; correct pixel_um in libraries.tsv or "
            "leave it empty"
        )
    return pixel_um if pixel_um is not None else said


def _pixel_by_area(path: Path) -> float | None:
    if not {"Area", "Area.um2"} <= set(table_columns(path)):
        return None
    areas = read_columns(path, names=(), numbers=("Area", "Area.um2"), first=FIRST_ROWS)
    areas = areas[(areas > 0).all(axis=1)]
    return float(np.sqrt((areas["Area.um2"] / areas["Area"]).median())) if len(areas) else None


def _pixel_by_fields(path: Path) -> float | None:
    """From the largest extent of the fields of view; None for a single field."""
    there = table_columns(path)
    found = []
    for axis in "xy":
        columns = (f"{axis}_global_px", f"{axis}_global_mm")
        if set(columns) <= set(there):
            extent = np.ptp(read_columns(path, names=(), numbers=columns).to_numpy(), axis=0)
            found.append(extent)
    pixels, millimetres = max(found, key=lambda extent: extent[0], default=(0.0, 0.0))
    return 1000 * float(millimetres / pixels) if pixels > 0 and millimetres > 0 else None


# -------------------------------------------------------------------------------------------------- outlines


def _left_out(path: Path, error: ValueError) -> str:
    said = str(error).removeprefix(f"{path}: ")
    return f"{path}: outlines of cells left out ({said}); the section goes on without them"


def _outline(adata: AnnData, path: Path, *, names: Sequence[str], xy: tuple[str, str], scale: float) -> None:
    """Put outlines into a section; counts and positions stand without them, so damaged ones are only noted."""
    try:
        table = read_columns(path, names=names, numbers=xy)
    except ValueError as error:
        adata.uns["notes"].append(_left_out(path, error))
        return
    _add_outlines(adata, joined(table, names), table[list(xy)].to_numpy() * scale, path)


def _add_outlines(adata: AnnData, owners: pd.Series, vertices: np.ndarray, path: Path) -> None:
    polygons = pack_polygons(owners, vertices, cells=adata.obs_names)
    without = int(np.count_nonzero(np.diff(polygons[OFFSETS]) == 0))
    if without == adata.n_obs:
        adata.uns["notes"].append(f"{path}: outlines of cells left out (they are of none of the cells)")
        return
    if without:
        adata.uns["notes"].append(f"{path}: {without} of {adata.n_obs} cells have no outline")
    adata.uns[keys.POLYGONS] = polygons


def _planes(path: Path) -> tuple[pd.Series, np.ndarray]:
    """Owner and place of the corners of the outlines (well-known binary) of one plane, the middle one of each cell."""
    import geopandas
    import shapely

    there = table_columns(path)
    geometry = next((name for name in there if name.lower() == "geometry"), None)
    own = next((name for name in ("EntityID", "ID", "cell_id") if name in there), None)
    if geometry is None or own is None:
        raise ValueError(f"{path}: columns EntityID and Geometry missing (has {', '.join(there[:8])})")
    plane = [name for name in ("ZIndex",) if name in there]
    try:
        table = pd.read_parquet(path, columns=[own, geometry, *plane])
        shapes = geopandas.GeoSeries.from_wkb(table[geometry])
    except (OSError, ValueError, TypeError, RuntimeError, pa.ArrowException, shapely.errors.ShapelyError) as error:
        raise ValueError(f"{path}: is truncated or damaged ({error}); {COPY_AGAIN}") from error
    part = shapes.explode(index_parts=False)
    frame = pd.DataFrame({"cell": table[own].astype(str).reindex(part.index), "area": part.area})
    z = table[plane[0]].reindex(part.index).astype(float) if plane else pd.Series(0.0, index=part.index)
    frame["away"] = (z - z.median()).abs()
    frame = frame.assign(shape=part.to_numpy()).sort_values(["cell", "away", "area"], ascending=[True, True, False])
    frame = frame.drop_duplicates("cell")
    rings = shapely.get_exterior_ring(frame["shape"].to_numpy())
    vertices, ring = shapely.get_coordinates(rings, return_index=True)
    return pd.Series(frame["cell"].to_numpy()[ring]).astype("category"), vertices
