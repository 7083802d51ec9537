"""A mapped section as SpatialData, which napari, squidpy and other tools of scverse open.

One coordinate system, "global", in micrometres: shapes (circles of spots, squares of bins, outlines of cells), the
table of the section that annotates them, and the tissue image where there is one.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from livermet import keys
from livermet.cell_polygons import OFFSETS, VERTICES
from livermet.visium import SPOT_DIAMETER_UM

if TYPE_CHECKING:
    import geopandas
    from anndata import AnnData
    from spatialdata import SpatialData

REGION = "region"
INSTANCE = "instance_id"
OUTLINE = "outline"
SHAPES = {"spot": "spots", "bin": "bins", "cell": "cells"}
# Of a cell without an outline where others have none either: about that of a tumour cell.
CELL_RADIUS_UM = 5.0


def to_spatialdata(section: AnnData, *, library: str) -> SpatialData:
    """A section as SpatialData.

    Parameters
    ----------
    section
        As ``label_section`` leaves it; one without spots becomes a table without shapes.
    library
        Its id, under which ``uns["spatial"]`` holds the image.

    Returns
    -------
    Table "table" (annotates the shapes by obs region and instance_id; counts, obs, obsm, obsp and uns of the section),
    shapes "spots", "bins" or "cells", image "tissue". Bins are drawn parallel to the axes, though slides are turned by
    some tenths of a degree. Where some cells have outlines, the others get circles of the median area (obs ``outline``
    is "segmented" or "circle").
    """
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Identity, Scale

    table = section.copy()
    images = table.uns.pop("spatial", {}).get(library, {})
    polygons = table.uns.pop(keys.POLYGONS, None)
    shapes = {}
    if table.n_obs:
        resolution = str(table.uns[keys.META].get(keys.RESOLUTION, "spot"))
        name = SHAPES[resolution]
        outlines = _shapes(table, resolution=resolution, polygons=polygons)
        if OUTLINE in outlines:
            table.obs[OUTLINE] = outlines.pop(OUTLINE).astype("category").to_numpy()
        shapes[name] = ShapesModel.parse(outlines, transformations={"global": Identity()})
        table.obs[REGION] = np.repeat(name, table.n_obs)
        table.obs[REGION] = table.obs[REGION].astype("category")
        table.obs[INSTANCE] = np.arange(table.n_obs)
        table = TableModel.parse(table, region=name, region_key=REGION, instance_key=INSTANCE)
    pictures = {}
    if images:
        um = 1 / float(images["scalefactors"]["tissue_lowres_scalef"])
        pictures["tissue"] = Image2DModel.parse(
            np.moveaxis(np.asarray(images["images"]["lowres"]), -1, 0),
            dims=("c", "y", "x"),
            c_coords=["r", "g", "b"],
            transformations={"global": Scale([um, um], axes=("x", "y"))},
        )
    attributes = {"library_id": library, "unit": "micrometer"}
    return SpatialData(images=pictures, shapes=shapes, tables={"table": table}, attrs=attributes)


def _shapes(section: AnnData, *, resolution: str, polygons: dict[str, np.ndarray] | None) -> geopandas.GeoDataFrame:
    """Circle, square or outline of each observation; of outlines also whether they are segmented."""
    import geopandas
    import shapely

    xy = np.asarray(section.obsm[keys.SPATIAL], dtype=np.float64)
    if resolution == "bin":
        half = float(section.uns[keys.META]["bin_um"]) / 2
        return geopandas.GeoDataFrame(geometry=shapely.box(*(xy - half).T, *(xy + half).T))
    if resolution == "spot" or polygons is None:
        radius = CELL_RADIUS_UM if resolution == "cell" else SPOT_DIAMETER_UM / 2
        return geopandas.GeoDataFrame({"radius": radius}, index=np.arange(len(xy)), geometry=shapely.points(xy))
    sizes = np.diff(polygons[OFFSETS])
    if len(sizes) != len(xy):
        raise ValueError(
            f"uns['{keys.POLYGONS}'] holds outlines of {len(sizes)} cells, but there are {len(xy)}; keep cells with "
            "livermet.cell_polygons.keep_cells, or take the outlines out"
        )
    drawn = sizes >= 3
    corners = np.asarray(polygons[VERTICES], dtype=np.float64)[np.repeat(drawn, sizes)]
    rings = shapely.linearrings(corners, indices=np.repeat(np.arange(drawn.sum()), sizes[drawn]))
    geometry = np.empty(len(xy), dtype=object)
    geometry[drawn] = shapely.polygons(rings)
    area = np.median(shapely.area(geometry[drawn])) if drawn.any() else np.pi * CELL_RADIUS_UM**2
    geometry[~drawn] = shapely.buffer(shapely.points(xy[~drawn]), np.sqrt(area / np.pi))
    return geopandas.GeoDataFrame({OUTLINE: np.where(drawn, "segmented", "circle")}, geometry=geometry)


def write_zarr(data: SpatialData, path: str | Path) -> None:
    """Write SpatialData to a zarr folder, which is complete once it is there; an earlier one goes."""
    import anndata as ad

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        with ad.settings.override(auto_shard_zarr_v3=False):  # one file per chunk, which every reader of zarr opens
            data.write(temporary)
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
