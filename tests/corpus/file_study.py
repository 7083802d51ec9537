"""A small valid study whose libraries pass reading and quality control, for cases that damage one of their files."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from PIL import Image
from scipy import sparse
from scipy.io import mmwrite

from livermet.symbols import marker_genes
from study_files import TABLES as SMALL
from study_files import table_text

TABLES = {
    "patients": SMALL["patients"],
    "samples": SMALL["samples"],
    "response": SMALL["response"],
    "libraries": """
library_id sample_id modality batch path raw_path expected_cells pixel_um
A S1 scrna B01 raw/A.h5 raw/A_raw.h5 4000 .
B S2 snrna B01 raw/B . . .
C S1 visium B02 raw/C . . 0.5
D S3 scrna B02 raw/D.h5ad . . .
""",
}
MITOCHONDRIAL = tuple(f"MT-{name}" for name in "ND1 ND2 CO1 CO2 ATP8 ATP6 CO3 ND3 ND4L ND4 ND5 ND6 CYB".split())
N_CELLS, N_GENES, SIDE, PIXEL_UM = 80, 600, 8, 0.5


@dataclass(frozen=True)
class Library:
    """What a library holds: counts (barcodes x genes, CSR) and the names of both."""

    counts: sparse.csr_matrix
    barcodes: Sequence[str]
    symbols: Sequence[str]
    ids: Sequence[str]

    def with_values(self, values: np.ndarray) -> Library:
        """The same entries with other values."""
        counts = sparse.csr_matrix((values, self.counts.indices, self.counts.indptr), shape=self.counts.shape)
        return replace(self, counts=counts)


@cache
def library(name: str) -> Library:
    """One of the libraries A to D, or A_raw: the cells of A and 300 empty droplets."""
    if name == "A_raw":
        cells = library("A")
        empty = np.random.default_rng(5).poisson(0.05, size=(300, N_GENES)).astype(np.int32)
        counts = sparse.csr_matrix(sparse.vstack([cells.counts, empty], format="csr"))
        return replace(cells, counts=counts, barcodes=[*cells.barcodes, *(f"T{name}" for name in _barcodes(300))])
    rng = np.random.default_rng("ABCD".index(name))
    genes = sorted(marker_genes() - set(MITOCHONDRIAL))[: N_GENES - len(MITOCHONDRIAL)]
    symbols = [*genes, *(f"GENE{i}" for i in range(N_GENES - len(MITOCHONDRIAL) - len(genes))), *MITOCHONDRIAL]
    share = rng.gamma(0.6, size=N_GENES)
    share[-len(MITOCHONDRIAL) :] = share.sum() / (2000 if name == "B" else 200)  # B holds nuclei
    n = SIDE * SIDE if name == "C" else N_CELLS
    depth = 1500 * np.exp(rng.normal(0, 0.35, size=n))
    counts = rng.poisson(np.outer(depth, share / share.sum())).astype(np.int32)
    return Library(sparse.csr_matrix(counts), _barcodes(n), symbols, [f"ENSG{i:011d}" for i in range(N_GENES)])


def _barcodes(n: int) -> list[str]:
    """Barcodes that differ, as 10x writes them."""
    digits = [np.base_repr(i, 4).zfill(8) for i in range(n)]
    return [f"ACGTACGT{''.join('ACGT'[int(d)] for d in number)}-1" for number in digits]


def write_file_study(folder: Path) -> Path:
    """Write the tables and the libraries of the study into a folder, and return it.

    A is a 10x h5 file with its raw droplets, B an mtx folder, C a Visium section, D an h5ad file.
    """
    raw = folder / "raw"
    raw.mkdir(parents=True)
    for name in TABLES:
        (folder / f"{name}.tsv").write_text(table_text(name, TABLES), encoding="utf-8")
    write_10x_h5(raw / "A.h5", library("A"))
    write_10x_h5(raw / "A_raw.h5", library("A_raw"))
    write_10x_mtx(raw / "B", library("B"))
    write_section(raw / "C", library("C"))
    write_h5ad(raw / "D.h5ad", library("D"))
    return folder


def write_10x_h5(
    path: Path, content: Library, *, types: Sequence[str] = (), genomes: Sequence[str] = (), compress: bool = True
) -> None:
    """An h5 file as Cell Ranger writes it."""
    n = len(content.symbols)
    with h5py.File(path, "w") as file:
        matrix = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            values = getattr(content.counts, name)
            matrix.create_dataset(name, data=values, compression="gzip" if compress else None)
        matrix["barcodes"] = np.array(content.barcodes, dtype="S")
        matrix["shape"] = np.array(content.counts.shape[::-1])
        features = matrix.create_group("features")
        columns = {
            "id": content.ids,
            "name": content.symbols,
            "feature_type": types or ["Gene Expression"] * n,
            "genome": genomes or ["GRCh38"] * n,
        }
        for name, values in columns.items():
            features[name] = np.array(values, dtype="S")


def write_10x_mtx(folder: Path, content: Library) -> None:
    """A gzipped mtx folder as Cell Ranger writes it."""
    folder.mkdir(exist_ok=True)
    matrix = io.BytesIO()
    mmwrite(matrix, content.counts.T.tocoo(), field="integer")
    pairs = zip(content.ids, content.symbols, strict=True)
    features = "".join(f"{gene}\t{symbol}\tGene Expression\n" for gene, symbol in pairs)
    barcodes = "".join(f"{barcode}\n" for barcode in content.barcodes)
    write_part(folder, "matrix.mtx", matrix.getvalue())
    write_part(folder, "features.tsv", features.encode())
    write_part(folder, "barcodes.tsv", barcodes.encode())


def write_part(folder: Path, name: str, text: bytes) -> None:
    """One part of an mtx folder."""
    (folder / f"{name}.gz").write_bytes(gzip.compress(text, mtime=0))


def positions(content: Library) -> pd.DataFrame:
    """Positions of the spots of a section on a hexagonal grid, as Space Ranger writes them."""
    row, col = np.divmod(np.arange(len(content.barcodes)), SIDE)
    table = pd.DataFrame(
        {"barcode": content.barcodes, "in_tissue": 1, "array_row": row, "array_col": 2 * col + row % 2}
    )
    table["pxl_row_in_fullres"] = 500 + table["array_row"] * 50 * np.sqrt(3) / PIXEL_UM
    table["pxl_col_in_fullres"] = 300 + table["array_col"] * 50 / PIXEL_UM
    return table


def write_section(folder: Path, content: Library) -> None:
    """A Space Ranger folder."""
    spatial = folder / "spatial"
    spatial.mkdir(parents=True)
    write_10x_h5(folder / "filtered_feature_bc_matrix.h5", content)
    positions(content).to_csv(spatial / "tissue_positions.csv", index=False)
    factors = {"spot_diameter_fullres": 65 / PIXEL_UM, "tissue_lowres_scalef": 0.05}
    (spatial / "scalefactors_json.json").write_text(json.dumps(factors))
    Image.new("RGB", (120, 110), (200, 150, 170)).save(spatial / "tissue_lowres_image.png")


def h5ad(content: Library, **parts: object) -> AnnData:
    """An AnnData of a library; ``parts`` are further arguments of AnnData."""
    given = {
        "X": content.counts,
        "obs": pd.DataFrame(index=pd.Index(content.barcodes)),
        "var": pd.DataFrame({"gene_ids": list(content.ids)}, index=pd.Index(content.symbols)),
    }
    return AnnData(**given | parts)


def write_h5ad(path: Path, content: Library, **parts: object) -> None:
    """An h5ad file as most programs leave it."""
    h5ad(content, **parts).write_h5ad(path)
