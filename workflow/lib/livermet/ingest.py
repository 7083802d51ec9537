"""Reading of one library into ``counts.h5ad``: its identity, the checksums of its files, its ambient counts.

A library whose files can't be read becomes one without cells that carries the reason. Libraries of C read these files
and can crash on a damaged one, so it happens in a child process.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from livermet import keys
from livermet.calling import call_cells
from livermet.counts import foreign_symbols, holds_all_droplets
from livermet.files import replacing
from livermet.guarded import ReaderCrashed, run_guarded
from livermet.imaging import read_cosmx, read_merscope, read_xenium
from livermet.privacy import h5ad_problems
from livermet.rawh5 import damage_named
from livermet.readers import check_places, read_10x, read_h5ad, read_visium
from livermet.sources import Source, find_raw, library_sources
from livermet.visium_hd import BIN_UM, check_bins, read_visium_hd

logger = logging.getLogger(__name__)

# Values of each file that a check of the study reads: one or two megabytes.
FIRST_VALUES = 250_000
# Processor time of reading is below 0.2 s per megabyte (a gzipped mtx folder with its checksums). Ten times as much,
# and two minutes beside, mean that the reader goes round in circles, as HDF5 may do in damaged texts.
SECONDS, SECONDS_PER_MB = 120, 2.0
CHECK_SECONDS = 60

# What one observation of a section is, by its modality.
RESOLUTIONS = {"visium": "spot", "visium_hd": "bin", "xenium": "cell", "cosmx": "cell", "merscope": "cell"}

_SECTION_READERS = {
    "visium": read_visium,
    "visium_hd": read_visium_hd,
    "xenium": read_xenium,
    "cosmx": read_cosmx,
    "merscope": read_merscope,
}


def read_library(row: Mapping[str, Any], *, ingest_config: Mapping[str, Any], simulated: bool = False) -> AnnData:
    """Read one library as ``counts.h5ad`` holds it.

    Parameters
    ----------
    row
        The library in the study tables: library_id, sample_id, patient_id, modality, path, raw_path, pixel_um; of
        Visium HD also bin_um, the bins that are taken.
    ingest_config
        Needs ``empty_max_counts``: droplets with at most so many counts are empty (used where droplets are given); and
        to call cells ``calling_fdr``, ``calling_min_counts`` and ``seed``.
    simulated
        Whether the study is a simulated one, which is carried along.

    Returns
    -------
    Counts (int32, CSR) of cells with obs_names ``{library_id}:{barcode}``. Where ``path`` leads to all droplets, cells
    are those called by :func:`livermet.calling.call_cells`. ``uns["livermet"]`` tells the reader, the checksums of the
    files (``inputs``) and what a user should know about the reading (``notes``), both as JSON lists, and how cells were
    called (``calling``; a JSON object, null where they were called before).

    Raises
    ------
    ValueError, OSError
        The files can't be read as what they should be.
    """
    source, raw_source = library_sources(row)
    adata = _read_counts(source, row)
    notes = [*adata.uns.pop("notes"), *foreign_symbols(adata.var[keys.SYMBOL])]
    calling = None
    if adata.uns.pop("droplets"):
        adata, calling = _called(adata, name=str(source.matrix), ingest_config=ingest_config, notes=notes)
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
        "calling": json.dumps(calling),
        "feature_types": json.dumps(adata.uns.pop("feature_types")),
        "simulated": simulated,
    }
    for note in notes:
        logger.warning("%s: %s", row["library_id"], note)
    logger.info("%s: read %d barcodes x %d genes (%s)", row["library_id"], adata.n_obs, adata.n_vars, source.kind)
    return adata


def ingest_library(
    row: Mapping[str, Any], path: str | Path, *, ingest_config: Mapping[str, Any], simulated: bool
) -> None:
    """Read one library in a child process and write it; one that can't be read is written without cells.

    Only ValueError and OSError in reading count as a failure of the data, and so does a crash of the reader. Anything
    else is a fault of the program, or of the machine, and is raised.

    Parameters
    ----------
    row, ingest_config, simulated
        As for :func:`read_library`.
    path
        Of ``counts.h5ad``. The child writes it: the counts don't pass through this process.
    """
    with replacing(path) as temporary:
        try:
            run_guarded(
                _write_library,
                row,
                temporary,
                ingest_config=ingest_config,
                simulated=simulated,
                timeout_seconds=SECONDS + SECONDS_PER_MB * _megabytes(row),
            )
        except ReaderCrashed as error:
            _without_cells(row, f"{row['path']}: {error}", simulated=simulated).write_h5ad(temporary)


def _write_library(row: Mapping[str, Any], path: Path, *, ingest_config: Mapping[str, Any], simulated: bool) -> None:
    try:
        adata = read_library(row, ingest_config=ingest_config, simulated=simulated)
    except (ValueError, OSError) as error:
        adata = _without_cells(row, str(error), simulated=simulated)
    adata.write_h5ad(path)


def read_first(row: Mapping[str, Any], column: str) -> None:
    """Read the beginning of a library's files, as a check of them that costs little.

    Parameters
    ----------
    row
        The library in the study tables.
    column
        "path" or "raw_path".

    Raises
    ------
    ValueError, OSError
        What is wrong with the file and the way out, in the words that :func:`read_library` has for it.
    """
    if column == "raw_path":
        read_10x(find_raw(row["raw_path"]).matrix, first=FIRST_VALUES)
    else:
        _read_counts(library_sources({**row, "raw_path": ""})[0], row, first=FIRST_VALUES)


def _read_counts(source: Source, row: Mapping[str, Any], *, first: int | None = None) -> AnnData:
    """Counts of a library, whatever its format; ``uns["droplets"]`` tells whether they are those of all droplets."""
    spatial = row["modality"] in keys.SPATIAL_MODALITIES
    if source.kind in _SECTION_READERS:
        adata = _SECTION_READERS[source.kind](source, pixel_um=_optional(row["pixel_um"]), first=first)
        if first is None:
            check_places(adata.obsm[keys.SPATIAL], name=f"{source.base}: positions")
    elif source.kind == "h5ad":
        _refuse_personal(source.matrix)
        adata = read_h5ad(
            source.matrix,
            spatial=spatial,
            pixel_um=_optional(row["pixel_um"]),
            spots=row["modality"] == "visium",
            first=first,
        )
        if row["modality"] == "visium_hd":
            adata.uns[BIN_UM] = float(row["bin_um"])
            if first is None:
                check_bins(adata.obsm[keys.SPATIAL], bin_um=float(row["bin_um"]), name=str(source.matrix))
    else:
        adata = read_10x(source.matrix, first=first)
    if 0 in adata.shape:
        raise ValueError(f"{source.matrix}: holds {adata.n_obs} barcodes and {adata.n_vars} genes; nothing to read")
    name = str(source.matrix)
    adata.uns["droplets"] = not spatial and holds_all_droplets(adata.X, said=source.droplets, name=name)
    if adata.uns["droplets"] and row["raw_path"]:
        raise ValueError(
            f"{name}: is the matrix of all droplets (raw), as raw_path is; leave raw_path empty to have cells called "
            "from it, or name the matrix of called cells as path"
        )
    return adata


def _refuse_personal(path: Path) -> None:
    """Refuse an h5ad file that holds identifiers of persons, although nothing of them would be carried."""
    with damage_named(path):
        problems = h5ad_problems(path)
    if problems:
        raise ValueError(
            f"{path}: seems to hold identifiers of persons: {'; '.join(problems)}; remove them from the file"
        )


def _megabytes(row: Mapping[str, Any]) -> float:
    try:
        sources = [source for source in library_sources(row) if source is not None]
    except (ValueError, OSError):  # there is next to nothing to read, then
        return 0.0
    return sum(file.stat().st_size for source in sources for file in source.files) / 1e6


def _without_cells(row: Mapping[str, Any], message: str, *, simulated: bool) -> AnnData:
    """A library that could not be read, with the reason."""
    # One line, since it stands in tables; h5py and the system give messages of several.
    reason = _without_folder(" ".join(message.split()), row)
    if Path(row["path"]).name not in reason and (not row["raw_path"] or Path(row["raw_path"]).name not in reason):
        reason = f"{Path(row['path']).name}: {reason}"
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
    if row["modality"] in keys.SPATIAL_MODALITIES:
        adata.uns[keys.META][keys.RESOLUTION] = RESOLUTIONS[row["modality"]]
    if row["modality"] == "visium_hd":
        adata.uns[keys.META][BIN_UM] = adata.uns.pop(BIN_UM, float(row["bin_um"]))
    if keys.UM_PER_PIXEL in adata.uns:
        adata.uns[keys.META][keys.UM_PER_PIXEL] = adata.uns.pop(keys.UM_PER_PIXEL)
    if "spatial" in adata.uns:  # scanpy's plots look the image up by the library
        adata.uns["spatial"] = {library: adata.uns["spatial"]}


def _optional(value: Any) -> float | None:
    """A number of the study tables, None where the field is empty."""
    return None if value in ("", None) or pd.isna(value) else float(value)


# ---------------------------------------------------------------------------------------------------------- droplets

# Empty droplets whose p-values lie below 0.05, from which the calls near ambient RNA deserve a warning.
MISFIT = 0.15
# Cells called for their size alone whose composition is that of ambient RNA, from which they deserve one.
AMBIENT_LIKE = 0.5


def _called(
    raw: AnnData, *, name: str, ingest_config: Mapping[str, Any], notes: list[str]
) -> tuple[AnnData, dict[str, Any]]:
    """The droplets that hold a cell, with the ambient counts in var, and what is worth telling of the calling."""
    limits = {"max_empty": ingest_config["empty_max_counts"], "min_counts": ingest_config["calling_min_counts"]}
    fdr = ingest_config["calling_fdr"]
    try:
        called = call_cells(raw.X, **limits, fdr=fdr, seed=ingest_config["seed"])
    except ValueError as error:
        raise ValueError(
            f"{name}: is the matrix of all droplets (raw), and cells can't be called from it: {error}; name the matrix "
            "of called cells as path, and this one as raw_path"
        ) from error
    if not called.cells.any():
        raise ValueError(f"{name}: none of {called.n_droplets} droplets holds a cell; name the matrix of called cells")
    told = {
        "method": "EmptyDrops",
        "n_called": int(called.cells.sum()),
        **{key: getattr(called, key) for key in ("n_droplets", "n_tested", "certain", "n_certain", "alpha", "draws")},
        "misfit": called.misfit,
        "ambient_like": called.ambient_like,
        **limits,
        "fdr": fdr,
        "curve": called.curve,
    }
    notes.append(
        f"{name}: holds all droplets, so cells were called here (EmptyDrops, false discovery rate {fdr:g}): "
        f"{told['n_called']} of {told['n_droplets']} droplets, {told['n_certain']} of them for their size (from "
        f"{told['certain']} counts on) and {told['n_called'] - told['n_certain']} of {told['n_tested']} smaller ones"
    )
    if called.misfit > MISFIT:
        notes.append(
            f"{name}: {100 * called.misfit:.0f} % of the fullest empty droplets look unlike ambient RNA at p <= 0.05, "
            "where about 5 % should: the smaller ones among the called cells are doubtful; a lower "
            "qc: empty_max_counts may help"
        )
    if called.ambient_like > AMBIENT_LIKE:
        notes.append(
            f"{name}: {100 * called.ambient_like:.0f} % of the smallest droplets that were called for their size can't "
            "be told from ambient RNA: perhaps the run holds few cells, or next to none but of the kind that broke"
        )
    cells = raw[called.cells].copy()
    cells.var[keys.AMBIENT_COUNTS] = called.ambient
    return cells, told


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
