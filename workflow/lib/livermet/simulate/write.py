"""Files of the simulated study, as Cell Ranger and Space Ranger leave them; equal content gives equal bytes."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from PIL import Image
from scipy import io as scipy_io
from scipy import sparse

GENOME = "GRCh38"
FEATURE_TYPE = "Gene Expression"
SPOT_UM = (
    65.0  # Space Ranger states its spot diameter for a theoretical spot of 65 um, although the spots measure 55 um
)
FIDUCIAL_UM = 105.0


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
    """Feature-barcode matrix in the HDF5 layout of Cell Ranger 3 and later; one more attribute says it is simulated."""
    path.parent.mkdir(parents=True, exist_ok=True)
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
        features.create_dataset("feature_type", data=np.array([FEATURE_TYPE.encode()] * len(genes)), **text)
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
    low = Image.fromarray(image)
    factor = 0.3
    low = low.resize((round(low.width * factor), round(low.height * factor)), Image.Resampling.BOX)
    Image.fromarray(image).save(folder / "tissue_hires_image.png", compress_level=4)
    low.save(folder / "tissue_lowres_image.png", compress_level=4)
    factors = {
        "spot_diameter_fullres": SPOT_UM / pixel_um,
        "tissue_hires_scalef": image_scale * pixel_um,
        "fiducial_diameter_fullres": FIDUCIAL_UM / pixel_um,
        "tissue_lowres_scalef": image_scale * pixel_um * factor,
    }
    (folder / "scalefactors_json.json").write_text(json.dumps(factors), encoding="utf-8")
