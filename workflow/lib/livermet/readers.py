"""Readers of raw libraries: whatever an instrument left becomes sparse integer counts, with positions in micrometres.

Public readers of these formats accept a good deal in silence: two genomes in one matrix, normalised values, broken
index arrays (which crash the process later), antibody counts among the genes. Here everything is checked before it is
used, and refused with file, place and remedy.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
from anndata import AnnData
from anndata._io.specs.registry import IORegistryError  # not exported, and a plain Exception
from anndata.io import read_elem
from scipy import io, sparse

from livermet import keys
from livermet.markers import load_markers
from livermet.sources import (
    IMAGE_FILE,
    POSITION_FILES,
    SCALE_FILE,
    SUPPORTED,
    Source,
    find_source,
    library_sources,
    mtx_part,
    read_scale_factors,
)

logger = logging.getLogger(__name__)

GENE_EXPRESSION = "Gene Expression"

# Visium slides (v1, v2 and CytAssist 6.5 and 11 mm): spots of 55 um on a hexagonal grid with 100 um between centres
# (10x Genomics, knowledge base 360035487572).
SPOT_PITCH_UM = 100.0
SPOT_DIAMETER_UM = 55.0
# What Space Ranger writes as ``spot_diameter_fullres`` spans a *theoretical spot of 65 um*, not one of 55 (its manual
# computes micrometres per pixel as 65 / spot_diameter_fullres). Real files agree: pitch / diameter is 1.538 = 100 / 65.
SCALE_FILE_SPOT_UM = 65.0
# Two rulers for the same picture may differ by rounding and registration, not by a fifth.
MAX_SCALE_DIFFERENCE = 0.2

# Targeted panels hold fewer markers than a whole transcriptome; another species holds next to none.
MIN_MARKER_SHARE = 0.1

# Cells of a dense h5ad matrix that are turned into sparse counts at once.
_DENSE_BLOCK = 1000


def read_library(row: Mapping[str, Any], *, ingest_config: Mapping[str, Any], simulated: bool = False) -> AnnData:
    """Read one library as ``counts.h5ad`` holds it.

    Parameters
    ----------
    row
        The library in the study tables: library_id, sample_id, patient_id, modality, path, raw_path, pixel_um.
    ingest_config
        Needs ``empty_max_counts``: droplets with at most so many counts are empty (used where raw_path is given).
    simulated
        Whether the study is a simulated one, which is carried along.

    Returns
    -------
    Counts (int32, CSR) with obs_names ``{library_id}:{barcode}``; ``uns["livermet"]`` tells the reader, the checksums
    of the files (``inputs``) and what a user should know about the reading (``notes``), both as JSON lists.

    Raises
    ------
    ValueError, OSError
        The files can't be read as what they should be.
    """
    source, raw_source = library_sources(row)
    if source.kind == "visium":
        adata = read_visium(source, pixel_um=_optional(row["pixel_um"]))
    elif source.kind == "h5ad":
        spatial = row["modality"] in keys.SPATIAL_MODALITIES
        adata = read_h5ad(source.matrix, spatial=spatial, pixel_um=_optional(row["pixel_um"]))
    else:
        adata = read_10x(source.matrix)
    if 0 in adata.shape:
        raise ValueError(f"{source.matrix}: holds {adata.n_obs} barcodes and {adata.n_vars} genes; nothing to read")
    notes = [*adata.uns.pop("notes"), *_foreign_symbols(adata)]
    if raw_source is not None:
        ambient = _ambient_counts(adata, raw_source, max_counts=ingest_config["empty_max_counts"], notes=notes)
        if ambient is not None:
            adata.var[keys.AMBIENT_COUNTS] = ambient
    notes = [_without_folder(note, row) for note in notes]
    _identify(adata, row)
    adata.uns[keys.META] |= {
        "reader": source.kind,
        "inputs": json.dumps(checksums({"counts": source, "raw": raw_source})),
        "notes": json.dumps(notes),
        "simulated": simulated,
    }
    for note in notes:
        logger.warning("%s: %s", row["library_id"], note)
    logger.info("%s: read %d barcodes x %d genes (%s)", row["library_id"], adata.n_obs, adata.n_vars, source.kind)
    return adata


def ingest_library(row: Mapping[str, Any], *, ingest_config: Mapping[str, Any], simulated: bool) -> AnnData:
    """Read one library; a library whose files can't be read becomes one without cells that carries the reason.

    Only ValueError and OSError count as a failure of the data. Anything else is a fault of the program and is raised.
    Parameters as for :func:`read_library`.
    """
    try:
        return read_library(row, ingest_config=ingest_config, simulated=simulated)
    except (ValueError, OSError) as error:
        # One line, since it stands in tables; h5py and the system give messages of several.
        reason = _without_folder(" ".join(str(error).split()), row)
    logger.error("%s: not read: %s", row["library_id"], reason)
    adata = AnnData(
        X=sparse.csr_matrix((0, 0), dtype=np.int32),
        obs=pd.DataFrame(index=pd.Index([], dtype=str)),
        var=pd.DataFrame(
            columns=[keys.GENE_ID, keys.SYMBOL, keys.FEATURE_TYPE], index=pd.Index([], dtype=str), dtype=str
        ),
    )
    if row["modality"] in keys.SPATIAL_MODALITIES:
        adata.obsm[keys.SPATIAL] = np.zeros((0, 2))
    _identify(adata, row)
    adata.uns[keys.META] |= {"reader": "none", "inputs": "[]", "notes": "[]", "simulated": simulated, "reason": reason}
    return adata


def _without_folder(text: str, row: Mapping[str, Any]) -> str:
    """A message without the place of the study on this machine, so that results are the same wherever it lies."""
    for path in (row["path"], row["raw_path"]):
        if path:
            text = text.replace(f"{Path(path).parent}/", "")
    return text


def _foreign_symbols(adata: AnnData) -> list[str]:
    """A note if hardly any gene of the marker table is there: another species, or ids in the place of symbols."""
    markers = {gene for genes in load_markers()["genes"] for gene in genes}
    found = len(markers & set(adata.var[keys.SYMBOL]))
    if found >= MIN_MARKER_SHARE * len(markers):
        return []
    return [
        f"only {found} of the {len(markers)} genes of the marker table are there (first symbols: "
        f"{', '.join(adata.var[keys.SYMBOL][:3])}): human HGNC symbols are needed to name cells"
    ]


def checksums(sources: Mapping[str, Source | None]) -> list[dict[str, Any]]:
    """Role, name (relative to what the study table names), size in bytes and SHA-256 of each file, read as a stream."""
    entries = []
    for role, source in sources.items():
        for file in source.files if source is not None else ():
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            name = file.relative_to(source.base).as_posix() if source.base.is_dir() else file.name
            entries.append({"role": role, "name": name, "bytes": file.stat().st_size, "sha256": digest})
    return entries


def _identify(adata: AnnData, row: Mapping[str, Any]) -> None:
    """Put the library's identity into obs, obs_names and ``uns["livermet"]``."""
    library = row["library_id"]
    adata.obs_names = pd.Index([f"{library}:{barcode}" for barcode in adata.obs_names], dtype=str)
    for position, name in enumerate((keys.LIBRARY, keys.SAMPLE, keys.PATIENT)):
        codes = np.zeros(adata.n_obs, dtype=np.int8)
        categories = [row[name]] if adata.n_obs else []
        adata.obs.insert(position, name, pd.Categorical.from_codes(codes, categories=categories))
    adata.uns[keys.META] = {"library_id": library, "modality": row["modality"], "reason": ""}
    if "spatial" in adata.uns:  # scanpy's plots look the image up by the library
        adata.uns["spatial"] = {library: adata.uns["spatial"]}


def _optional(value: Any) -> float | None:
    """A number of the study tables, None where the field is empty."""
    return None if value in ("", None) or pd.isna(value) else float(value)


# ---------------------------------------------------------------------------------------------------- 10x matrices


def read_10x(path: str | Path) -> AnnData:
    """Read an h5 file or an mtx folder of Cell Ranger or Space Ranger."""
    return read_10x_mtx(path) if Path(path).is_dir() else read_10x_h5(path)


def read_10x_h5(path: str | Path) -> AnnData:
    """Read the gene expression counts of a 10x h5 file.

    Files of Cell Ranger 3 and later, of its relatives that leave out ``genome`` or ``library_ids`` (CellBender, R), and
    of Cell Ranger 2 (one group per genome) are read.

    Parameters
    ----------
    path
        A ``*_feature_bc_matrix.h5`` or ``*_gene_bc_matrices_h5.h5`` file.

    Returns
    -------
    Cells x genes, CSR int32, with var gene_id, symbol, feature_type; ``uns["feature_types"]`` counts the features of
    each type in the file, ``uns["notes"]`` says what was left out or changed.

    Raises
    ------
    ValueError
        Another kind of h5 file, several genomes, no gene expression, damaged index arrays, or no counts.
    """
    path = Path(path)
    try:
        with h5py.File(path) as file:
            group, legacy = _h5_matrix_group(file, path)
            features = _h5_features_v2(group) if legacy else _h5_features(group, path)
            barcodes = _text(group["barcodes"])
            shape = np.asarray(group["shape"][()], dtype=float)
            data, indices, indptr = (group[name][()] for name in ("data", "indices", "indptr"))
    except (KeyError, RuntimeError) as error:  # how h5py reports a missing or damaged part of a file
        raise ValueError(f"{path}: damaged or incomplete ({error}); copy it again") from error
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error}); compare its size and checksum with the original") from error
    if shape.shape != (2,) or not np.array_equal(shape, [len(features), len(barcodes)]):
        raise ValueError(
            f"{path}: shape {shape.tolist()} does not agree with {len(features)} features and {len(barcodes)} "
            "barcodes; copy it again"
        )
    # Columns of the stored matrix (features x barcodes, compressed by barcode) are our rows.
    matrix = checked_csr(data, indices, indptr, shape=(len(barcodes), len(features)), name=str(path))
    return _gene_expression(matrix, barcodes, features, name=str(path))


def _h5_matrix_group(file: h5py.File, path: Path) -> tuple[h5py.Group, bool]:
    """The group that holds the counts, and whether it is of the layout of Cell Ranger 2."""
    if "matrix" in file and isinstance(file["matrix"], h5py.Group):
        return file["matrix"], False
    if {"X", "obs", "var"} <= set(file):
        raise ValueError(f"{path}: is an h5ad file; give it the ending .h5ad")
    if {"barcode_idx", "umi"} <= set(file) or "molecule_info" in path.name:
        raise ValueError(f"{path}: is a molecule_info file, which holds no cells; name filtered_feature_bc_matrix.h5")
    genomes = [name for name in file if isinstance(file[name], h5py.Group) and "gene_names" in file[name]]
    if len(genomes) > 1:
        raise ValueError(
            f"{path}: counts of several genomes ({', '.join(sorted(genomes))}); give a file of the human one alone"
        )
    if not genomes:
        raise ValueError(
            f"{path}: an HDF5 file without 10x counts (it holds {', '.join(sorted(file)) or 'nothing'}); "
            "name filtered_feature_bc_matrix.h5 of the Cell Ranger output"
        )
    return file[genomes[0]], True


def _h5_features(group: h5py.Group, path: Path) -> pd.DataFrame:
    features = group["features"]
    if "probe_region" in features or "filtered_probes" in features:
        raise ValueError(
            f"{path}: counts of single probes, not of genes (raw_probe_bc_matrix); name filtered_feature_bc_matrix.h5"
        )
    ids = _text(features["id"])
    types = _text(features["feature_type"]) if "feature_type" in features else np.full(len(ids), GENE_EXPRESSION)
    table = _feature_table(ids=ids, symbols=_text(features["name"]), types=types)
    if "genome" in features:
        expressed = _text(features["genome"])[(types == GENE_EXPRESSION)]
        genomes = sorted(set(expressed.tolist()) - {""})
        if len(genomes) > 1:
            raise ValueError(
                f"{path}: genes of several genomes ({', '.join(genomes)}); give a file that holds the human one alone"
            )
    return table


def _h5_features_v2(group: h5py.Group) -> pd.DataFrame:
    ids = _text(group["genes"])
    return _feature_table(ids=ids, symbols=_text(group["gene_names"]), types=np.full(len(ids), GENE_EXPRESSION))


def _feature_table(*, ids: np.ndarray, symbols: np.ndarray, types: np.ndarray) -> pd.DataFrame:
    if not len(ids) == len(symbols) == len(types):
        raise ValueError(
            f"{len(ids)} feature ids, {len(symbols)} names and {len(types)} types don't agree; copy the file again"
        )
    return pd.DataFrame({keys.GENE_ID: ids, keys.SYMBOL: symbols, keys.FEATURE_TYPE: types}, dtype=str)


def _text(dataset: h5py.Dataset) -> np.ndarray:
    return dataset.asstr(errors="replace")[()].astype(str)


def read_10x_mtx(folder: str | Path) -> AnnData:
    """Read the gene expression counts of an mtx folder of Cell Ranger (all versions), plain or gzipped.

    Parameters
    ----------
    folder
        Holds matrix.mtx (features x barcodes), features.tsv or genes.tsv, and barcodes.tsv.

    Returns
    -------
    As :func:`read_10x_h5`.
    """
    folder = Path(folder)
    files = {
        "matrix": mtx_part(folder, "matrix.mtx"),
        "features": mtx_part(folder, "features.tsv", "genes.tsv"),
        "barcodes": mtx_part(folder, "barcodes.tsv"),
    }
    missing = [name for name, file in files.items() if file is None]
    if missing:
        raise ValueError(f"{folder}: {', '.join(missing)} missing (plain or .gz); copy the whole folder")
    table = _tsv(files["features"])
    symbols = table[1] if 1 in table else table[0]
    types = table[2] if 2 in table else pd.Series(GENE_EXPRESSION, index=table.index)
    features = _feature_table(ids=table[0].to_numpy(), symbols=symbols.to_numpy(), types=types.to_numpy())
    barcodes = _tsv(files["barcodes"])[0].to_numpy(dtype=str)
    try:
        entries = io.mmread(files["matrix"], spmatrix=False)
    except (EOFError, zlib.error, OverflowError, gzip.BadGzipFile) as error:
        raise ValueError(f"{files['matrix']}: damaged ({error}); copy it again") from error
    except ValueError as error:
        raise ValueError(f"{files['matrix']}: not a valid Matrix Market file ({error}); copy it again") from error
    if not sparse.issparse(entries) or entries.shape != (len(features), len(barcodes)):
        raise ValueError(
            f"{files['matrix']}: shape {' x '.join(map(str, entries.shape))} does not agree with {len(features)} "
            f"features and {len(barcodes)} barcodes; the three files are not of one run"
        )
    cells = sparse.csr_matrix(entries.T)
    matrix = checked_csr(cells.data, cells.indices, cells.indptr, shape=cells.shape, name=str(files["matrix"]))
    return _gene_expression(matrix, barcodes, features, name=str(folder))


def _tsv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged ({error}); copy it again") from error
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"{path}: is empty; copy it again") from error
    except ValueError as error:
        raise ValueError(f"{path}: not a table of tab-separated UTF-8 text ({error})") from error


def checked_csr(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, *, shape: tuple[int, int], name: str
) -> sparse.csr_matrix:
    """A CSR matrix from arrays that were checked first: scipy trusts them, and broken ones crash the process.

    Parameters
    ----------
    data, indices, indptr
        The CSR arrays; indices and indptr may have a float type (as some R exports have it) if their values are whole.
    shape
        Rows and columns.
    name
        Where the arrays come from, for messages.
    """
    indices, indptr = (_whole(a, name=f"{name}: {what}") for a, what in ((indices, "indices"), (indptr, "indptr")))
    consistent = (
        data.ndim == 1
        and len(indptr) == shape[0] + 1
        and len(data) == len(indices) == indptr[-1]
        and indptr[0] == 0
        and bool((np.diff(indptr) >= 0).all())
        and (len(indices) == 0 or (indices.min() >= 0 and indices.max() < shape[1]))
    )
    if not consistent:
        raise ValueError(
            f"{name}: damaged: the index arrays do not describe a matrix of {shape[0]} x {shape[1]}; copy it again"
        )
    index_type = np.int32 if len(data) < np.iinfo(np.int32).max else np.int64
    matrix = sparse.csr_matrix((data, indices.astype(index_type), indptr.astype(index_type)), shape=shape)
    matrix.sum_duplicates()
    return matrix


def _whole(values: np.ndarray, *, name: str) -> np.ndarray:
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.number):
        raise ValueError(f"{name}: no list of numbers; copy the file again")
    if np.issubdtype(values.dtype, np.integer):
        return values
    if not (np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < 2**53)).all():
        raise ValueError(f"{name}: holds values that are no whole numbers; copy the file again")
    return values.astype(np.int64)


def _gene_expression(matrix: sparse.csr_matrix, barcodes: np.ndarray, features: pd.DataFrame, *, name: str) -> AnnData:
    """Keep the genes among the features and make an AnnData of them."""
    notes = []
    present = features[keys.FEATURE_TYPE].value_counts()
    expressed = (features[keys.FEATURE_TYPE] == GENE_EXPRESSION).to_numpy()
    if not expressed.any():
        found = ", ".join(f"{n} {kind}" for kind, n in present.items()) or "no feature at all"
        raise ValueError(
            f"{name}: no feature of the type {GENE_EXPRESSION!r} (found: {found}); name the gene expression matrix"
        )
    if not expressed.all():
        others = ", ".join(f"{n} {kind}" for kind, n in present.drop(GENE_EXPRESSION).items())
        notes.append(f"{name}: features other than genes left out: {others}")
        matrix, features = matrix[:, expressed], features[expressed]
    adata = _annotated(matrix, barcodes, features, name=name, notes=notes)
    adata.uns["feature_types"] = {kind: int(n) for kind, n in present.items()}
    return adata


def _annotated(
    matrix: sparse.csr_matrix, barcodes: np.ndarray, features: pd.DataFrame, *, name: str, notes: list[str]
) -> AnnData:
    """Counts with checked values, unique barcodes and unique gene names."""
    repeated = pd.Index(barcodes)[pd.Index(barcodes).duplicated()]
    if len(repeated):
        raise ValueError(f"{name}: barcode {repeated[0]!r} occurs more than once ({len(repeated)} repeats in all)")
    features = features.reset_index(drop=True)
    symbols, restored = restore_symbols(features[keys.SYMBOL])
    if restored:
        notes.append(f"{name}: {len(restored)} gene symbols as R mangles them were restored, such as {restored[0]}")
    features[keys.SYMBOL] = symbols
    names = unique_symbols(symbols, features[keys.GENE_ID].tolist())
    adata = AnnData(
        X=integer_counts(matrix, cells=barcodes, genes=names, name=name),
        obs=pd.DataFrame(index=pd.Index(barcodes, dtype=str)),
        var=features.set_index(pd.Index(names, dtype=str)),
    )
    adata.uns["notes"] = notes
    return adata


def integer_counts(
    matrix: sparse.csr_matrix, *, cells: np.ndarray | list[str], genes: np.ndarray | list[str], name: str
) -> sparse.csr_matrix:
    """The matrix as int32 without stored zeros.

    Raises
    ------
    ValueError
        A value is missing, negative, not whole or too large; the message names its cell and gene.
    """
    data = matrix.data
    if not np.issubdtype(data.dtype, np.number) or np.issubdtype(data.dtype, np.complexfloating):
        raise ValueError(f"{name}: values of type {data.dtype} are no counts")
    checks = [("is negative", data < 0), ("is too large for a count", data > np.iinfo(np.int32).max)]
    if np.issubdtype(data.dtype, np.floating):
        checks = [
            ("is missing (NaN) or infinite", ~np.isfinite(data)),
            *checks,
            ("is no whole number", data != np.floor(data)),
        ]
    for problem, bad in checks:
        if bad.any():
            first = int(np.argmax(bad))
            cell = cells[int(np.searchsorted(matrix.indptr, first, side="right")) - 1]
            gene = genes[int(matrix.indices[first])]
            raise ValueError(
                f"{name}: value {data[first]:g} of cell {cell}, gene {gene} {problem} ({int(bad.sum())} such values); "
                "raw integer counts are needed, not normalised, logged or corrected ones"
            )
    counts = sparse.csr_matrix((data.astype(np.int32), matrix.indices, matrix.indptr), shape=matrix.shape)
    counts.eliminate_zeros()
    counts.sort_indices()
    return counts


def restore_symbols(symbols: Iterable[str]) -> tuple[list[str], list[str]]:
    """Undo what R's ``make.names`` did to gene symbols (``MT.CO1``, ``HLA.A``).

    A dot is part of many genuine names (``AC002094.3``), so only symbols are restored that begin with ``MT.`` or
    ``HLA.``, or that are a marker gene once the dot is a hyphen (``NKX2.1``).

    Returns
    -------
    The symbols, and "old -> new" of each that was changed.
    """
    symbols = [str(s) for s in symbols]
    hyphenated = _hyphenated_markers()
    fixed = [
        s.replace(".", "-") if "." in s and (re.match(r"(MT|HLA)\.", s) or s.replace(".", "-") in hyphenated) else s
        for s in symbols
    ]
    return fixed, [f"{old} -> {new}" for old, new in zip(symbols, fixed, strict=True) if old != new]


def _hyphenated_markers() -> set[str]:
    return {gene for genes in load_markers()["genes"] for gene in genes if "-" in gene}


def unique_symbols(symbols: list[str], ids: list[str]) -> list[str]:
    """Unique gene names: later duplicates of a symbol become ``SYMBOL-GENEID``, or ``SYMBOL-2`` without usable ids.

    A gene without symbol takes its id.
    """
    taken: set[str] = set()
    names = []
    for symbol, gene in zip(symbols, ids, strict=True):
        name = symbol or gene or "unnamed"
        if name in taken and gene and gene != name:
            name = f"{name}-{gene}"
        number, candidate = 2, name
        while candidate in taken:
            candidate = f"{name}-{number}"
            number += 1
        taken.add(candidate)
        names.append(candidate)
    return names


# ------------------------------------------------------------------------------------------------------------- h5ad

_ID_COLUMNS = ("gene_id", "gene_ids", "ensembl_id", "feature_id")
_SYMBOL_COLUMNS = ("symbol", "gene_symbol", "gene_symbols", "gene_name", "feature_name", "hgnc_symbol")
_TYPE_COLUMNS = ("feature_type", "feature_types")
_IN_TISSUE = "in_tissue"


def read_h5ad(path: str | Path, *, spatial: bool, pixel_um: float | None) -> AnnData:
    """Read the counts of an h5ad file, and of a section its positions; whatever else the file holds is left.

    Counts are taken from X, ``layers["counts"]`` or raw, the first that holds whole numbers. Of obs nothing is carried
    (it may hold what must not enter the system); spots with ``in_tissue`` 0 are left out.

    Parameters
    ----------
    path
        File written by anndata 0.7 or later.
    spatial
        Whether positions (``obsm["spatial"]``, x right and y down) are needed.
    pixel_um
        Micrometres per unit of the positions: needed for a section, since the file does not tell.

    Returns
    -------
    As :func:`read_10x_h5`; a section with ``obsm["spatial"]`` in micrometres.
    """
    path = Path(path)
    try:
        with h5py.File(path) as file:
            _check_h5ad_layout(file, path)
            obs_names = _index(file["obs"])
            matrix, var, place = _h5ad_counts(file, obs_names, path)
            positions = _h5ad_positions(file, path) if spatial else None
            in_tissue = read_elem(file["obs"][_IN_TISSUE]) if spatial and _IN_TISSUE in file["obs"] else None
    # How h5py reports a missing or damaged part of a file, and anndata (by an exception of its own) a foreign one.
    except (KeyError, RuntimeError, TypeError, IORegistryError) as error:
        raise ValueError(f"{path}: damaged or incomplete ({error}); write it again") from error
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error}); compare its size and checksum with the original") from error
    adata = _gene_expression(matrix, obs_names, _h5ad_features(var), name=f"{path} ({place})")
    if spatial:
        if pixel_um is None:
            raise ValueError(
                f"{path}: the unit of obsm['spatial'] is not known; give pixel_um (micrometres per unit; 1 if it is "
                "micrometres already) in libraries.tsv"
            )
        adata.obsm[keys.SPATIAL] = positions * pixel_um
        if in_tissue is not None:
            adata = _only_in_tissue(adata, np.asarray(in_tissue).astype(int) > 0, name=str(path))
    return adata


def _check_h5ad_layout(file: h5py.File, path: Path) -> None:
    if "matrix" in file and "obs" not in file:
        raise ValueError(f"{path}: is a 10x h5 file; give it the ending .h5")
    missing = [name for name in ("obs", "var") if name not in file]
    if missing:
        raise ValueError(f"{path}: no h5ad file ({' and '.join(missing)} missing). {SUPPORTED}")
    if not all(isinstance(file[name], h5py.Group) for name in ("obs", "var")):
        raise ValueError(f"{path}: written by anndata before 0.7; open and save it with a current version")


def _index(frame: h5py.Group) -> np.ndarray:
    return np.asarray(read_elem(frame[frame.attrs.get("_index", "_index")])).astype(str)


def _h5ad_counts(file: h5py.File, obs_names: np.ndarray, path: Path) -> tuple[sparse.csr_matrix, pd.DataFrame, str]:
    """The first place that holds whole numbers, as CSR, with its var and name."""
    places = {"X": ("X", "var"), "layers/counts": ("layers/counts", "var"), "raw": ("raw/X", "raw/var")}
    found = {name: place for name, place in places.items() if place[0] in file}
    for name, (element, var) in found.items():
        if _looks_whole(file[element]):
            table = read_elem(file[var])
            return _sparse_element(file[element], (len(obs_names), len(table)), name=f"{path} ({name})"), table, name
    if not found:
        raise ValueError(f"{path}: holds neither X, layers['counts'] nor raw; write the raw counts into it")
    raise ValueError(
        f"{path}: no whole numbers in {', '.join(found)}: the values were normalised, logged or corrected; put the raw "
        "counts into layers['counts']"
    )


def _looks_whole(element: h5py.Group | h5py.Dataset) -> bool:
    """Whether all values of a stored matrix are whole numbers or missing (which is refused later), block by block."""
    values = element["data"] if isinstance(element, h5py.Group) else element
    if np.issubdtype(values.dtype, np.integer):
        return True
    step = 1_000_000 if values.ndim == 1 else _DENSE_BLOCK
    blocks = (values[start : start + step] for start in range(0, values.shape[0], step))
    return all(bool((np.isnan(block) | (block == np.floor(block))).all()) for block in blocks)


def _sparse_element(element: h5py.Group | h5py.Dataset, shape: tuple[int, int], *, name: str) -> sparse.csr_matrix:
    """A stored matrix as CSR; a dense one goes through blocks of rows, so that it is never whole in memory."""
    if isinstance(element, h5py.Dataset):
        if element.shape != shape:
            raise ValueError(
                f"{name}: shape {element.shape} does not agree with obs and var {shape}; write the file again"
            )
        blocks = [sparse.csr_matrix(element[i : i + _DENSE_BLOCK]) for i in range(0, shape[0], _DENSE_BLOCK)]
        return sparse.csr_matrix(sparse.vstack(blocks, format="csr")) if blocks else sparse.csr_matrix(shape)
    by_column = element.attrs.get("encoding-type") == "csc_matrix"
    arrays = (element[part][()] for part in ("data", "indices", "indptr"))
    matrix = checked_csr(*arrays, shape=shape[::-1] if by_column else shape, name=name)
    return matrix.T.tocsr() if by_column else matrix


def _h5ad_features(var: pd.DataFrame) -> pd.DataFrame:
    """Symbols, ids and types of genes, whichever way the file names them."""
    index = pd.Series(var.index.astype(str))
    ids = _column(var, _ID_COLUMNS)
    symbols = index
    if index.str.match(r"ENS[A-Z]*G\d").mean() > 0.5:  # indexed by Ensembl id, as cellxgene does
        ids = index if ids is None else ids
        named = _column(var, _SYMBOL_COLUMNS)
        symbols = index if named is None else named
    types = _column(var, _TYPE_COLUMNS)
    if types is not None and not (types == GENE_EXPRESSION).any():
        types = None  # another vocabulary, such as the biotypes of CELLxGENE
    return _feature_table(
        ids=np.full(len(var), "") if ids is None else ids.to_numpy(),
        symbols=symbols.to_numpy(),
        types=np.full(len(var), GENE_EXPRESSION) if types is None else types.to_numpy(),
    )


def _column(table: pd.DataFrame, names: tuple[str, ...]) -> pd.Series | None:
    found = next((name for name in names if name in table), None)
    return None if found is None else table[found].astype(object).fillna("").astype(str).reset_index(drop=True)


def _h5ad_positions(file: h5py.File, path: Path) -> np.ndarray:
    if f"obsm/{keys.SPATIAL}" not in file:
        raise ValueError(f"{path}: a section needs obsm['spatial'] (x, y per spot), which is not there")
    positions = np.asarray(read_elem(file[f"obsm/{keys.SPATIAL}"]), dtype=float)
    if positions.ndim != 2 or positions.shape[1] != 2:
        raise ValueError(f"{path}: obsm['spatial'] has the shape {positions.shape}; two columns (x, y) are needed")
    if not np.isfinite(positions).all():
        raise ValueError(
            f"{path}: obsm['spatial'], row {int(np.argmin(np.isfinite(positions).all(axis=1))) + 1}: no position"
        )
    return positions


def _only_in_tissue(adata: AnnData, inside: np.ndarray, *, name: str) -> AnnData:
    if inside.all():
        return adata
    if not inside.any():
        raise ValueError(f"{name}: none of {len(inside)} spots lies in the tissue; check the tissue detection")
    notes = [*adata.uns["notes"], f"{name}: {int((~inside).sum())} of {len(inside)} spots outside the tissue left out"]
    kept = adata[inside].copy()
    kept.uns["notes"] = notes
    return kept


# ----------------------------------------------------------------------------------------------------------- Visium


def read_visium(source: Source | str | Path, *, pixel_um: float | None) -> AnnData:
    """Read a Visium section (v1, v2, CytAssist) of Space Ranger.

    Parameters
    ----------
    source
        The output folder, or what :func:`livermet.sources.find_source` found in it.
    pixel_um
        Micrometres per pixel of the full-resolution image; None if it is to be measured from the slide's grid.

    Returns
    -------
    As :func:`read_10x_h5`, spots in the tissue only, with obs array_row and array_col, ``obsm["spatial"]`` (um, x
    right, y down) and, if there is an image, ``uns["spatial"]`` (images and scale factors that fit coordinates in um).
    """
    source = source if isinstance(source, Source) else find_source(source, modality="visium")
    position_file = source.file(*POSITION_FILES)
    try:
        positions = read_positions(position_file)
    except (UnicodeDecodeError, pa.ArrowInvalid, pd.errors.ParserError) as error:
        raise ValueError(f"{position_file}: can't be read ({error}); copy it again") from error
    scale_file = source.file(SCALE_FILE)
    factors = read_scale_factors(scale_file) if scale_file else {}
    um_per_pixel = micrometres_per_pixel(
        positions, spot_diameter=factors.get("spot_diameter_fullres"), pixel_um=pixel_um, name=str(source.base)
    )
    adata = read_10x(source.matrix)
    unknown = adata.obs_names[~adata.obs_names.isin(positions.index)]
    if len(unknown):
        raise ValueError(
            f"{source.base}: {len(unknown)} of {adata.n_obs} barcodes have no position, such as {unknown[0]}; counts "
            "and positions are not of one section"
        )
    here = positions.loc[adata.obs_names]
    adata.obs[keys.ARRAY_ROW] = here[keys.ARRAY_ROW].to_numpy()
    adata.obs[keys.ARRAY_COL] = here[keys.ARRAY_COL].to_numpy()
    adata.obsm[keys.SPATIAL] = here[["x", "y"]].to_numpy(dtype=float) * um_per_pixel
    adata = _only_in_tissue(adata, here[_IN_TISSUE].to_numpy() > 0, name=str(source.base))
    image_file = source.file(IMAGE_FILE)
    if image_file and "tissue_lowres_scalef" in factors:
        image = _read_image(image_file, notes=adata.uns["notes"])
        if image is not None:
            adata.uns["spatial"] = {
                "images": {"lowres": image},
                "scalefactors": {
                    "tissue_lowres_scalef": float(factors["tissue_lowres_scalef"]) / um_per_pixel,
                    "spot_diameter_fullres": SPOT_DIAMETER_UM,
                },
            }
    return adata


def read_positions(path: Path) -> pd.DataFrame:
    """Spot positions of Space Ranger in any of its three files.

    Returns
    -------
    DataFrame indexed by barcode with in_tissue (0, 1), array_row, array_col, and x, y in pixels of the full-resolution
    image (x right, y down).
    """
    columns = ["barcode", _IN_TISSUE, "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
    else:
        with path.open(encoding="utf-8-sig") as stream:
            header = 0 if stream.readline().startswith("barcode") else None
        table = pd.read_csv(path, header=header, names=None if header == 0 else columns, encoding="utf-8-sig")
    missing = [name for name in columns if name not in table]
    if missing:
        raise ValueError(f"{path}: columns {', '.join(missing)} missing; copy it again from the Space Ranger output")
    numbers = table[columns[1:]].apply(pd.to_numeric, errors="coerce")
    broken = numbers.isna().any(axis=1) | table["barcode"].isna()
    if broken.any():
        raise ValueError(f"{path}: spot {int(np.argmax(broken)) + 1} has no number in each column; copy the file again")
    if table["barcode"].duplicated().any():
        raise ValueError(
            f"{path}: barcode {table['barcode'][table['barcode'].duplicated()].iloc[0]} occurs more than once"
        )
    return pd.DataFrame(
        {
            _IN_TISSUE: numbers[_IN_TISSUE].astype(int),
            keys.ARRAY_ROW: numbers["array_row"].astype(int),
            keys.ARRAY_COL: numbers["array_col"].astype(int),
            "x": numbers["pxl_col_in_fullres"].astype(float),
            "y": numbers["pxl_row_in_fullres"].astype(float),
        }
    ).set_index(pd.Index(table["barcode"].astype(str), name="barcode"))


def grid_pitch(positions: pd.DataFrame) -> float | None:
    """Distance of neighbouring spots in pixels, measured from the hexagonal grid.

    Pixel positions are fitted by array row and column; neighbours are two columns, or one row and one column, apart.
    None where the spots do not span the grid.
    """
    design = np.column_stack([np.ones(len(positions)), positions[keys.ARRAY_ROW], positions[keys.ARRAY_COL]])
    coefficients, _, rank, _ = np.linalg.lstsq(design, positions[["x", "y"]].to_numpy(dtype=float), rcond=None)
    if rank < 3:
        return None
    row, col = coefficients[1], coefficients[2]
    return float(np.median([np.linalg.norm(step) for step in (2 * col, row + col, row - col)]))


def micrometres_per_pixel(
    positions: pd.DataFrame, *, spot_diameter: float | None, pixel_um: float | None, name: str
) -> float:
    """Scale of a Visium section: as declared, else from the grid (100 um between spots), else from the spot diameter.

    The grid comes before ``spot_diameter_fullres`` because the latter stands for a theoretical spot of 65 um, while
    slides have spots of 55 um and both numbers are used in public code.

    Raises
    ------
    ValueError
        Two of the rulers contradict each other by more than 20 %, or none is there.
    """
    pitch = grid_pitch(positions)
    measured = SPOT_PITCH_UM / pitch if pitch else None
    by_spot = None
    if spot_diameter:
        by_spot = SCALE_FILE_SPOT_UM / spot_diameter
    if measured is None and by_spot is None and pixel_um is None:
        raise ValueError(
            f"{name}: too few spots to measure the grid, and no {SCALE_FILE}; give pixel_um in libraries.tsv"
        )
    if measured is not None and by_spot is not None and _differ(by_spot, measured):
        raise ValueError(
            f"{name}: {SCALE_FILE} says {by_spot:.3g} um per pixel (spot of {SCALE_FILE_SPOT_UM:g} um), the grid of "
            f"the positions {measured:.3g} (spots {SPOT_PITCH_UM:g} um apart); the files are not of one section"
        )
    ruler = measured if measured is not None else by_spot
    if pixel_um is not None:
        if ruler is not None and _differ(pixel_um, ruler):
            raise ValueError(
                f"{name}: pixel_um is {pixel_um:g}, but the slide itself gives {ruler:.3g} um per pixel; positions "
                "count in pixels of the full-resolution image: correct pixel_um in libraries.tsv or leave it empty"
            )
        return pixel_um
    return ruler


def _differ(value: float, reference: float) -> bool:
    return not abs(value / reference - 1) <= MAX_SCALE_DIFFERENCE


def _read_image(path: Path, *, notes: list[str]) -> np.ndarray | None:
    """The tissue image as uint8 RGB; a damaged one is noted only, since counts and positions stand without it."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow reports broken PNG chunks as SyntaxError
        notes.append(f"{path}: image can't be read ({error}); the section goes on without it")
        return None


# ---------------------------------------------------------------------------------------------------- empty droplets


def empty_droplets(raw: AnnData, filtered_barcodes: Iterable[str], *, max_counts: int) -> np.ndarray:
    """Counts per gene over the empty droplets of a run.

    Parameters
    ----------
    raw
        All droplets (obs_names: barcodes).
    filtered_barcodes
        Barcodes that were called cells.
    max_counts
        A droplet with at most so many counts that is no cell is empty (100 is what EmptyDrops takes: Lun et al. 2019,
        doi:10.1186/s13059-019-1662-y).

    Returns
    -------
    int64 array over the genes of ``raw``; all zero where there is no empty droplet.
    """
    totals = np.asarray(raw.X.sum(axis=1)).ravel()
    empty = (totals > 0) & (totals <= max_counts) & ~raw.obs_names.isin(list(filtered_barcodes))
    logger.info("%d of %d raw droplets are empty (at most %d counts)", int(empty.sum()), raw.n_obs, max_counts)
    return np.asarray(raw.X[empty].sum(axis=0, dtype=np.int64)).ravel()


def _ambient_counts(adata: AnnData, source: Source, *, max_counts: int, notes: list[str]) -> np.ndarray | None:
    """Ambient counts of a library's genes from its raw droplets; None, with a note, where no droplet is empty."""
    raw = read_10x(source.matrix)
    if not adata.obs_names.isin(raw.obs_names).any():
        raise ValueError(
            f"{source.base}: no cell barcode (such as {adata.obs_names[0]}) occurs among the raw droplets (such as "
            f"{raw.obs_names[0] if raw.n_obs else 'none'}): another run; correct raw_path in libraries.tsv or leave it "
            "empty"
        )
    mine, theirs = _gene_keys(adata, raw)
    missing = mine[~mine.isin(theirs)]
    if len(missing):
        raise ValueError(
            f"{source.base}: {len(missing)} genes of the filtered counts are missing, such as {missing[0]}: another "
            "reference; correct raw_path in libraries.tsv or leave it empty"
        )
    counts = empty_droplets(raw, adata.obs_names, max_counts=max_counts)
    if not counts.sum():
        notes.append(f"{source.base}: no empty droplet (at most {max_counts} counts) among the raw ones")
        return None
    return counts[theirs.get_indexer(mine)]


def _gene_keys(adata: AnnData, raw: AnnData) -> tuple[pd.Index, pd.Index]:
    """Gene ids of both where complete and unique, else names: programs number duplicate symbols differently."""
    ids = [pd.Index(part.var[keys.GENE_ID].astype(str)) for part in (adata, raw)]
    if all(index.is_unique and (index != "").all() for index in ids):
        return ids[0], ids[1]
    return adata.var_names, raw.var_names
