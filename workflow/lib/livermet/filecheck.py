"""Whether the raw files of each library can be opened as what the tables say they are, before any compute.

Only the structure is looked at: signatures, groups, headers. The counts themselves are checked when they are read.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py

from livermet.findings import Finding
from livermet.sources import SCALE_FILE, Source, find_raw, find_source, mtx_part, read_scale_factors
from livermet.study import StudyData

logger = logging.getLogger(__name__)


def check_files(data: StudyData) -> list[Finding]:
    """Open the files of every library.

    Returns
    -------
    One exclusion per library and path that cannot be read as its modality: the library will be excluded with this
    reason, the others go on. Paths that do not exist are errors of the tables and not repeated here.
    """
    findings = []
    libraries = data.tables["libraries"]
    for given, line in zip(libraries.rows, libraries.lines, strict=True):
        row = data.library_rows[given["library_id"]]
        finders: dict[str, Callable[[str], Source]] = {
            "path": lambda path, modality=row["modality"]: find_source(path, modality=modality),
            "raw_path": find_raw,
        }
        for column, find in finders.items():
            if not row[column] or not Path(row[column]).exists():
                continue
            try:
                check_source(find(row[column]))
            except (ValueError, OSError) as error:
                reason = " ".join(str(error).split()).replace(row[column], given[column])
                remedy = "library will be excluded, the others go on: repair the file, or take the library out"
                findings.append(Finding("exclusion", "libraries.tsv", line, column, given[column], reason, remedy))
    logger.info("files of %d libraries opened, %d cannot be read", len(libraries.rows), len(findings))
    return findings


def check_source(source: Source) -> None:
    """Open the counts (and scale factors) of one source.

    Raises
    ------
    ValueError, OSError
        What is wrong with the file, and the way out.
    """
    if source.kind == "h5ad":
        _check_h5ad(source.matrix)
    elif source.matrix.is_dir():
        _check_mtx(source.matrix)
    else:
        _check_10x(source.matrix)
    scale = source.file(SCALE_FILE)
    if scale:
        read_scale_factors(scale)


def _open_hdf5(path: Path) -> h5py.File:
    try:
        return h5py.File(path)
    except OSError as error:
        raise ValueError(f"{path}: is truncated or damaged ({error}); compare its size and copy it again") from error


def _check_10x(path: Path) -> None:
    with _open_hdf5(path) as file:
        names = set(file)
        if "matrix" in names and isinstance(file["matrix"], h5py.Group):
            missing = {"data", "indices", "indptr", "shape", "barcodes", "features"} - set(file["matrix"])
            if missing:
                raise ValueError(f"{path}: {', '.join(sorted(missing))} missing in matrix; copy the file again")
            if "probe_region" in file["matrix/features"]:
                raise ValueError(f"{path}: counts of single probes; name filtered_feature_bc_matrix.h5")
            return
        if {"X", "obs", "var"} <= names:
            raise ValueError(f"{path}: is an h5ad file; give it the ending .h5ad")
        if {"barcode_idx", "umi"} <= names or "molecule_info" in path.name:
            raise ValueError(
                f"{path}: is a molecule_info file, which holds no cells; name filtered_feature_bc_matrix.h5"
            )
        genomes = sorted(n for n in names if isinstance(file[n], h5py.Group) and "gene_names" in file[n])
        if len(genomes) > 1:
            raise ValueError(f"{path}: counts of several genomes ({', '.join(genomes)}); give the human one alone")
        if not genomes:
            raise ValueError(f"{path}: holds no 10x counts (but {', '.join(sorted(names)) or 'nothing'})")


def _check_h5ad(path: Path) -> None:
    with _open_hdf5(path) as file:
        if "matrix" in file and "obs" not in file:
            raise ValueError(f"{path}: is a 10x h5 file; give it the ending .h5")
        missing = [name for name in ("obs", "var") if name not in file]
        if missing:
            raise ValueError(f"{path}: is no h5ad file ({' and '.join(missing)} missing)")
        if not {"X", "layers", "raw"} & set(file):
            raise ValueError(f"{path}: holds no counts (neither X, layers nor raw)")


def _check_mtx(folder: Path) -> None:
    """Compare the dimensions that the matrix declares with the lines of its two companions."""
    matrix, barcodes = mtx_part(folder, "matrix.mtx"), mtx_part(folder, "barcodes.tsv")
    features = mtx_part(folder, "features.tsv", "genes.tsv")
    lines = _lines(matrix)
    if not next(lines, "").startswith("%%MatrixMarket matrix coordinate"):
        raise ValueError(f"{matrix}: is no Matrix Market file of coordinates; copy it again")
    size = next((line.split() for line in lines if not line.startswith("%")), [])
    shape = [sum(bool(line) for line in _lines(part)) for part in (features, barcodes)]
    if size[:2] != [str(n) for n in shape]:
        declared = " x ".join(size[:2]) or "nothing"
        raise ValueError(
            f"{matrix}: declares {declared}, but there are {shape[0]} features and {shape[1]} barcodes; "
            "the three files are not of one run"
        )


def _lines(path: Path) -> Iterator[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                yield line.rstrip("\n")
    except EOFError as error:
        raise ValueError(f"{path}: is truncated; copy it again") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: is damaged ({error}); copy it again") from error
