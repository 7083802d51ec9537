"""Files of the simulated study, as the instruments leave them; equal content gives equal bytes."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pandas as pd
from PIL import Image
from scipy import io as scipy_io
from scipy import sparse

from livermet.files import write_parquet

if TYPE_CHECKING:
    from shapely import MultiPolygon

GENOME = "GRCh38"
FEATURE_TYPE = "Gene Expression"
SPOT_UM = (
    65.0  # Space Ranger states its spot diameter for a theoretical spot of 65 um, although the spots measure 55 um
)
FIDUCIAL_UM = 105.0
LOWRES = 0.3  # side of the low-resolution image over that of the high-resolution one
XENIUM_PIXEL_UM = 0.2125
LETTERS = np.array(list("abcdefghijklmnop"))


def barcodes(n: int, rng: np.random.Generator) -> list[str]:
    """Distinct 16-base barcodes with the GEM-well suffix, sorted."""
    letters = np.array(list("ACGT"))
    found: dict[str, None] = {}
    while len(found) < n:
        draws = letters[rng.integers(0, 4, (n, 16))]
        found.update(dict.fromkeys("".join(row) + "-1" for row in draws))
    return sorted(list(found)[:n])


def write_gzip(content: bytes, path: Path) -> None:
    """Gzip without time stamp and file name, so that the bytes depend on the content alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as out:
        out.write(content)


def write_10x_h5(
    counts: sparse.csr_matrix,
    names: list[str],
    genes: pd.DataFrame,
    path: Path,
    *,
    library_id: str,
    chemistry: str,
    software: str,
) -> None:
    """Feature-barcode matrix in the HDF5 layout of Cell Ranger 3 and later; one more attribute says it is simulated.

    genes: gene_id, symbol and, where not all are genes, feature_type.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = genes["feature_type"] if "feature_type" in genes else [FEATURE_TYPE] * len(genes)
    with h5py.File(path, "w") as file:
        file.attrs["chemistry_description"] = chemistry
        file.attrs["filetype"] = "matrix"
        file.attrs["library_ids"] = np.array([library_id.encode()])
        file.attrs["original_gem_groups"] = np.array([1])
        file.attrs["software_version"] = software
        file.attrs["version"] = 2
        file.attrs["simulated"] = 1
        matrix = file.create_group("matrix")
        text = {"compression": "gzip", "compression_opts": 1}
        matrix.create_dataset("barcodes", data=np.array(names, dtype="S"), **text)
        matrix.create_dataset("data", data=counts.data.astype(np.int32), **text)
        matrix.create_dataset("indices", data=counts.indices.astype(np.int64), **text)
        matrix.create_dataset("indptr", data=counts.indptr.astype(np.int64), **text)
        matrix.create_dataset("shape", data=np.array([len(genes), len(names)], dtype=np.int32))
        features = matrix.create_group("features")
        features.create_dataset("_all_tag_keys", data=np.array([b"genome"]))
        features.create_dataset("feature_type", data=np.array(kinds, dtype="S"), **text)
        features.create_dataset("genome", data=np.array([GENOME.encode()] * len(genes)), **text)
        features.create_dataset("id", data=np.array(genes["gene_id"], dtype="S"), **text)
        features.create_dataset("name", data=np.array(genes["symbol"], dtype="S"), **text)


def write_10x_mtx(counts: sparse.csr_matrix, names: list[str], genes: pd.DataFrame, folder: Path) -> None:
    """Feature-barcode matrix as the folder of three compressed files of Cell Ranger 3 and later."""
    buffer = io.BytesIO()
    comment = 'metadata_json: {"software_version": "simulated", "format_version": 2}'
    scipy_io.mmwrite(buffer, sparse.csc_matrix(counts.T), comment=comment, field="integer", symmetry="general")
    write_gzip(buffer.getvalue(), folder / "matrix.mtx.gz")
    write_gzip("".join(f"{name}\n" for name in names).encode(), folder / "barcodes.tsv.gz")
    lines = [f"{i}\t{s}\t{FEATURE_TYPE}\n" for i, s in zip(genes["gene_id"], genes["symbol"], strict=True)]
    write_gzip("".join(lines).encode(), folder / "features.tsv.gz")


def write_spatial(
    spots: pd.DataFrame, image: np.ndarray, folder: Path, *, pixel_um: float, image_scale: float, header: bool
) -> None:
    """The ``spatial`` folder of Space Ranger: positions, scale factors and two images.

    Parameters
    ----------
    spots
        barcode, in_tissue, array_row, array_col, and x and y in micrometres of the section frame.
    image
        The picture at high resolution.
    pixel_um
        Micrometres per pixel of the full-resolution image.
    image_scale
        Pixels of ``image`` per micrometre.
    header
        Whether positions come as ``tissue_positions.csv`` with a header (Space Ranger 2 and later) or as
        ``tissue_positions_list.csv`` without one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = spots[["barcode", "in_tissue", "array_row", "array_col"]].copy()
    table["pxl_row_in_fullres"] = (spots["y"] / pixel_um).round().astype(int)
    table["pxl_col_in_fullres"] = (spots["x"] / pixel_um).round().astype(int)
    name = "tissue_positions.csv" if header else "tissue_positions_list.csv"
    table.to_csv(folder / name, index=False, header=header, lineterminator="\n")
    _write_images(image, folder)
    factors = {
        "spot_diameter_fullres": SPOT_UM / pixel_um,
        "tissue_hires_scalef": image_scale * pixel_um,
        "fiducial_diameter_fullres": FIDUCIAL_UM / pixel_um,
        "tissue_lowres_scalef": image_scale * pixel_um * LOWRES,
    }
    (folder / "scalefactors_json.json").write_text(json.dumps(factors), encoding="utf-8")


def _write_images(image: np.ndarray, folder: Path) -> None:
    high = Image.fromarray(image)
    low = high.resize((round(high.width * LOWRES), round(high.height * LOWRES)), Image.Resampling.BOX)
    high.save(folder / "tissue_hires_image.png", compress_level=4)
    low.save(folder / "tissue_lowres_image.png", compress_level=4)


def bin_barcodes(bins: pd.DataFrame, *, bin_um: int) -> np.ndarray:
    """Barcodes of Space Ranger 3 for square bins: size, row and column."""
    places = zip(bins["array_row"], bins["array_col"], strict=True)
    return np.array([f"s_{bin_um:03d}um_{row:05d}_{column:05d}-1" for row, column in places])


def write_bin_spatial(
    bins: pd.DataFrame, image: np.ndarray, folder: Path, *, bin_um: int, pixel_um: float, image_scale: float
) -> None:
    """The ``spatial`` folder of one bin size of Visium HD; parameters as in :func:`write_spatial`."""
    folder.mkdir(parents=True, exist_ok=True)
    table = bins[["barcode", "in_tissue", "array_row", "array_col"]].astype(
        {"in_tissue": "int32", "array_row": "int32", "array_col": "int32"}
    )
    table["pxl_row_in_fullres"] = bins["y"] / pixel_um
    table["pxl_col_in_fullres"] = bins["x"] / pixel_um
    write_parquet(table, folder / "tissue_positions.parquet")
    _write_images(image, folder)
    factors = {
        "spot_diameter_fullres": bin_um / pixel_um,
        "bin_size_um": float(bin_um),
        "microns_per_pixel": pixel_um,
        "regist_target_img_scalef": image_scale * pixel_um,
        "tissue_lowres_scalef": image_scale * pixel_um * LOWRES,
        "fiducial_diameter_fullres": 330.0 / pixel_um,
        "tissue_hires_scalef": image_scale * pixel_um,
    }
    (folder / "scalefactors_json.json").write_text(json.dumps(factors), encoding="utf-8")


def cell_ids(n: int, rng: np.random.Generator) -> list[str]:
    """Distinct cell ids as Xenium writes them: eight letters a to p that stand for a number, and the data set."""
    found: dict[str, None] = {}
    while len(found) < n:
        draws = LETTERS[rng.integers(0, 16, (n, 8))]
        found.update(dict.fromkeys("".join(row) + "-1" for row in draws))
    return sorted(list(found)[:n])


def write_xenium(
    cells: pd.DataFrame,
    polygons: np.ndarray,
    counts: sparse.csr_matrix,
    features: pd.DataFrame,
    folder: Path,
    *,
    library_id: str,
) -> None:
    """The files of a Xenium run that hold cells: experiment, matrix, table of cells and their boundaries.

    Parameters
    ----------
    cells
        Columns of ``cells.parquet``.
    polygons
        Cells x vertices x 2, micrometres; each is closed in the file.
    features
        gene_id, symbol, feature_type.
    """
    software = "xenium-3.1.0.4"
    n_genes = int((features["feature_type"] == FEATURE_TYPE).sum())
    meta = {"library_id": library_id, "chemistry": "Xenium v1", "software": software}
    write_10x_h5(counts, cells["cell_id"].tolist(), features, folder / "cell_feature_matrix.h5", **meta)
    write_parquet(cells, folder / "cells.parquet")
    closed = np.concatenate([polygons, polygons[:, :1]], axis=1).astype(np.float32)
    vertices = pd.DataFrame({"cell_id": np.repeat(cells["cell_id"].to_numpy(), closed.shape[1])})
    vertices["vertex_x"], vertices["vertex_y"] = closed.reshape(-1, 2).T
    vertices["label_id"] = np.repeat(np.arange(1, len(cells) + 1, dtype=np.uint32), closed.shape[1])
    write_parquet(vertices, folder / "cell_boundaries.parquet")
    experiment = {
        "major_version": 6,
        "minor_version": 0,
        "patch_version": 0,
        "run_name": "simulated",
        "region_name": library_id,
        "preservation_method": "FFPE",
        "panel_name": f"simulated {n_genes} genes",
        "panel_organism": "Human",
        "panel_num_targets_predesigned": n_genes,
        "pixel_size": XENIUM_PIXEL_UM,
        "num_cells": len(cells),
        "instrument_sw_version": "3.1.0.0",
        "analysis_sw_version": software,
    }
    (folder / "experiment.xenium").write_text(json.dumps(experiment, indent=2), encoding="utf-8")


def write_outline(area: MultiPolygon, path: Path, *, unit_um: float) -> None:
    """The outline of a tumour as QuPath exports an annotation.

    Parameters
    ----------
    area
        In micrometres.
    unit_um
        Micrometres per unit of the file.
    """
    import shapely

    scaled = shapely.transform(area, lambda xy: (xy / unit_um).round(2))
    parts = shapely.get_parts(scaled)
    feature = {
        "type": "Feature",
        "geometry": shapely.geometry.mapping(parts[0] if len(parts) == 1 else scaled),
        "properties": {"objectType": "annotation", "classification": {"name": "Tumor", "color": [200, 0, 0]}},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    collection = {"type": "FeatureCollection", "features": [feature]}
    path.write_text(json.dumps(collection), encoding="utf-8")
