"""Readers of raw libraries: whatever an instrument left becomes sparse integer counts, with positions in micrometres.

Public readers of these formats accept a good deal in silence: two genomes in one matrix, normalised values, broken
index arrays (which crash the process later), antibody counts among the genes. Here everything is checked before it is
used, and refused with file, place and remedy.

Each reader takes ``first``: a number of values after which it stops, so that a check of a study gets to hear of most
faults, in the same words, at the cost of a few megabytes per library. None reads all.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.io import mmread
from scipy.spatial import cKDTree

from livermet import keys
from livermet.counts import (
    GENE_EXPRESSION,
    check_barcodes,
    checked_csr,
    feature_table,
    gene_expression,
    refuse_unprintable,
)
from livermet.rawh5 import (
    FIRST_ROWS,
    attribute,
    column,
    compressed_rows,
    dataset,
    index,
    opened,
    texts,
)
from livermet.sources import (
    IMAGE_FILE,
    POSITION_FILES,
    SCALE_FILE,
    SUPPORTED,
    Source,
    find_source,
    matrix_files,
    read_scale_factors,
    refuse_web_page,
)
from livermet.symbols import are_ensembl
from livermet.visium import (
    IN_TISSUE,
    SPOT_DIAMETER_UM,
    SPOT_PITCH_UM,
    differ,
    micrometres_per_pixel,
    read_positions,
    tissue_image,
)

_MTX_HEADER = rb"%%matrixmarket +matrix +coordinate +(integer|real) +general"

# Cells of a dense h5ad matrix that are turned into sparse counts at once.
_DENSE_BLOCK = 1000
# The arrays before Visium, whose spots stand in squares, and the most neighbours that a spot has in one.
SQUARE_PITCH_UM = 200.0
SQUARE_NEIGHBOURS = 4
# What Cell Ranger counts beside genes; other words for types of genes are not looked at.
_CAPTURED = {"Antibody Capture", "Antigen Capture", "CRISPR Guide Capture", "Multiplexing Capture", "Peaks", "Custom"}

# ---------------------------------------------------------------------------------------------------- 10x matrices


def read_10x(path: str | Path, *, first: int | None = None) -> AnnData:
    """Read an h5 file or an mtx folder of Cell Ranger or Space Ranger."""
    return read_10x_mtx(path, first=first) if Path(path).is_dir() else read_10x_h5(path, first=first)


def read_10x_h5(path: str | Path, *, first: int | None = None) -> AnnData:
    """Read the gene expression counts of a 10x h5 file.

    Files of Cell Ranger 3 and later, of its relatives that leave out ``genome`` or ``library_ids`` (CellBender, R), and
    of Cell Ranger 2 (one group per genome) are read. Counts of single probes (``raw_probe_bc_matrix.h5``) are added up
    by gene over the probes that Space Ranger itself counts (``filtered_probes``).

    Parameters
    ----------
    path
        A ``*_feature_bc_matrix.h5``, ``*_gene_bc_matrices_h5.h5`` or ``raw_probe_bc_matrix.h5`` file.
    first
        Read only the first barcodes, with about so many values.

    Returns
    -------
    As :func:`livermet.counts.gene_expression`.

    Raises
    ------
    ValueError
        Another kind of h5 file, several genomes, no gene expression, damaged index arrays, or no counts.
    """
    path = Path(path)
    with opened(path) as file:
        group, legacy = _h5_matrix_group(file, path)
        features = _h5_features_v2(group, path) if legacy else _h5_features(group, path)
        probes = None if legacy else _h5_probes(group, path)
        barcodes = dataset(group, "barcodes")
        shape = dataset(group, "shape")[()].tolist()
        if shape != [len(features), len(barcodes)]:
            raise ValueError(
                f"{path}: shape {shape} does not agree with {len(features)} features and {len(barcodes)} barcodes; "
                "copy it again"
            )
        # Columns of the stored matrix (features x barcodes, compressed by barcode) are our rows.
        matrix = compressed_rows(group, shape=(len(barcodes), len(features)), first=first)
        names = texts(barcodes, first=None if first is None else FIRST_ROWS)
    check_barcodes(names, name=str(path))
    if probes is not None:
        matrix, features = _added_probes(matrix, features, probes)
    adata = gene_expression(matrix, names[: matrix.shape[0]], features, name=str(path))
    if probes is not None:
        note = f"{path}: counts of {len(probes)} probes added up to {len(features)} genes"
        adata.uns["notes"].append(f"{note}; {int((~probes['used']).sum())} probes left out, as Space Ranger does")
    return adata


def _h5_probes(group: h5py.Group, path: Path) -> pd.DataFrame | None:
    """Gene of each probe and whether its counts are used, where features are probes and not genes."""
    features = group["features"]
    if "probe_region" not in features and "filtered_probes" not in features:
        return None
    if not {"gene_id", "gene_name", "filtered_probes"} <= set(features):
        raise ValueError(
            f"{path}: counts of single probes, without the gene of each; name filtered_feature_bc_matrix.h5"
        )
    ids, symbols = (texts(dataset(features, part)) for part in ("gene_id", "gene_name"))
    used = dataset(features, "filtered_probes")[()].astype(bool)
    if not len(ids) == len(symbols) == len(used):
        raise ValueError(f"{path}: {len(ids)} genes of {len(used)} probes; copy the file again")
    return pd.DataFrame({"gene_id": ids, "symbol": symbols, "used": used})


def _added_probes(
    matrix: sparse.csr_matrix, features: pd.DataFrame, probes: pd.DataFrame
) -> tuple[sparse.csr_matrix, pd.DataFrame]:
    """Counts and features by gene, in the order in which the genes occur first among the probes."""
    used = np.flatnonzero(probes["used"])
    gene, ids = pd.factorize(probes["gene_id"].to_numpy()[used])
    first = np.unique(gene, return_index=True)[1]
    to_gene = sparse.csr_matrix((np.ones(len(used), dtype=matrix.dtype), (used, gene)), shape=(len(probes), len(ids)))
    table = features.iloc[used[first]].reset_index(drop=True)
    table[keys.GENE_ID], table[keys.SYMBOL] = ids, probes["symbol"].to_numpy()[used[first]]
    return sparse.csr_matrix(matrix @ to_gene), table


def _h5_matrix_group(file: h5py.File, path: Path) -> tuple[h5py.Group, bool]:
    """The group that holds the counts, and whether it is of the layout of Cell Ranger 2."""
    names = sorted(file)
    if "matrix" in names and isinstance(file["matrix"], h5py.Group):
        missing = {"data", "indices", "indptr", "shape", "barcodes", "features"} - set(file["matrix"])
        if missing:
            raise ValueError(f"{path}: {', '.join(sorted(missing))} missing in matrix; copy the file again")
        return file["matrix"], False
    if {"X", "obs", "var"} <= set(names):
        raise ValueError(f"{path}: is an h5ad file; give it the ending .h5ad")
    if {"barcode_idx", "umi"} <= set(names) or "molecule_info" in path.name:
        raise ValueError(f"{path}: is a molecule_info file, which holds no cells; name filtered_feature_bc_matrix.h5")
    genomes = [name for name in names if isinstance(file[name], h5py.Group) and "gene_names" in file[name]]
    if len(genomes) > 1:
        raise ValueError(
            f"{path}: counts of several genomes ({', '.join(genomes)}); give a file of the human one alone"
        )
    if not genomes:
        raise ValueError(
            f"{path}: holds no 10x counts (but {', '.join(names[:8]) or 'nothing'}); name "
            "filtered_feature_bc_matrix.h5 of the Cell Ranger output"
        )
    return file[genomes[0]], True


def _h5_features(group: h5py.Group, path: Path) -> pd.DataFrame:
    features = group["features"]
    read = {
        part: texts(dataset(features, part)) for part in ("id", "name", "feature_type", "genome") if part in features
    }
    missing = {"id", "name"} - set(read)
    if missing:
        raise ValueError(f"{path}: {' and '.join(sorted(missing))} missing in matrix/features; copy the file again")
    return feature_table(
        ids=read["id"], symbols=read["name"], types=read.get("feature_type"), genome=read.get("genome"), name=str(path)
    )


def _h5_features_v2(group: h5py.Group, path: Path) -> pd.DataFrame:
    ids, symbols = (texts(dataset(group, part)) for part in ("genes", "gene_names"))
    return feature_table(ids=ids, symbols=symbols, types=None, name=str(path))


def read_10x_mtx(folder: str | Path, *, first: int | None = None) -> AnnData:
    """Read the gene expression counts of an mtx folder of Cell Ranger (all versions), plain or gzipped.

    Parameters
    ----------
    folder
        Holds matrix.mtx (features x barcodes), features.tsv or genes.tsv, and barcodes.tsv.
    first
        Read only the first barcodes, with about so many values.

    Returns
    -------
    As :func:`livermet.counts.gene_expression`.
    """
    folder = Path(folder)
    files = matrix_files(folder)
    table = _tsv(files[1])
    barcodes = _tsv(files[2], first=None if first is None else FIRST_ROWS)[0].to_numpy(dtype=str)
    n_barcodes = len(barcodes) if first is None or len(barcodes) < FIRST_ROWS else _n_lines(files[2])
    columns = [table[i].to_numpy(dtype=str) if i in table else None for i in range(3)]
    features = feature_table(
        ids=columns[0], symbols=columns[0] if columns[1] is None else columns[1], types=columns[2], name=str(files[1])
    )
    check_barcodes(barcodes, name=str(files[2]))
    matrix = _mtx_counts(files[0], shape=(len(features), n_barcodes), first=first)[: len(barcodes)]
    return gene_expression(matrix, barcodes[: matrix.shape[0]], features, name=str(folder))


def _mtx_counts(path: Path, *, shape: tuple[int, int], first: int | None) -> sparse.csr_matrix:
    """Counts of a Matrix Market file (features x barcodes) as barcodes x features."""
    refuse_web_page(path)
    zipped = path.suffix == ".gz"
    with unzipped(path) as stream:
        head = stream.readline(200)
        if re.fullmatch(_MTX_HEADER, head.strip().lower()) is None:
            raise ValueError(
                f"{path}: is no Matrix Market file of counts, which begins with '%%MatrixMarket matrix coordinate "
                "integer general'; copy it again"
            )
        size = next((line.split() for line in stream if line.strip() and not line.startswith(b"%")), [])
        if len(size) != 3 or not all(part.isdigit() for part in size):
            raise ValueError(f"{path}: does not say its size (rows, columns, entries); copy it again")
        rows, columns, n = (int(part) for part in size)
        if (rows, columns) != shape:
            raise ValueError(
                f"{path}: declares {rows} x {columns}, but there are {shape[0]} features and {shape[1]} barcodes; "
                + ("transpose the matrix" if (columns, rows) == shape else "the three files are not of one run")
            )
        # An entry takes six bytes at least, of which gzip makes no fewer than a thousandth.
        if n > rows * columns or n * 6 > path.stat().st_size * (1032 if zipped else 1):
            raise ValueError(f"{path}: declares {n} entries, more than it can hold; copy it again")
        if first is not None and first < n:
            lines = b"".join(itertools.islice(stream, first))
            n = lines.count(b"\n")
            entries = mmread(io.BytesIO(head + b"%d %d %d\n" % (rows, columns, n) + lines), spmatrix=False)
        else:
            stream.seek(0)
            entries = mmread(stream, spmatrix=False)
            while stream.read(2**20):  # to the end, where gzip keeps its checksum
                pass
            if not zipped and not ends_with_newline(path):
                raise ValueError(f"{path}: the last line has no end, so the file is truncated; copy it again")
    cells = sparse.csr_matrix(entries.T)
    if cells.nnz != n:
        raise ValueError(f"{path}: damaged: {n - cells.nnz} entries have the place of another; copy it again")
    if first is not None:  # the last barcodes have no entries yet
        cells = cells[: int(entries.coords[1].max(initial=0)) + 1]
    return checked_csr(cells.data, cells.indices, cells.indptr, shape=cells.shape, name=str(path))


def ends_with_newline(path: Path) -> bool:
    """Whether the last line of a file has an end: one without was cut off."""
    with path.open("rb") as stream:
        stream.seek(-1, io.SEEK_END)
        return stream.read() == b"\n"


def _n_lines(path: Path) -> int:
    with unzipped(path) as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(2**20), b""))


def _tsv(path: Path, *, first: int | None = None) -> pd.DataFrame:
    refuse_web_page(path)
    with unzipped(path) as stream:
        table = pd.read_csv(
            stream, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE, nrows=first
        )
    for name in table:
        refuse_unprintable(table[name].to_numpy(dtype=str), name=str(path))
    return table


@contextmanager
def unzipped(path: Path) -> Iterator[IO[bytes]]:
    """A text file for reading, plain or gzipped; whatever is wrong with it becomes a ValueError that names it."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: is truncated or damaged ({error}); copy it again") from error
    except (ValueError, OverflowError) as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: can't be read ({error}); compare it with the original and copy it again") from error


# ------------------------------------------------------------------------------------------------------------- h5ad

_ID_COLUMNS = ("gene_id", "gene_ids", "ensembl_id", "feature_id")
_SYMBOL_COLUMNS = ("symbol", "gene_symbol", "gene_symbols", "gene_name", "feature_name", "hgnc_symbol")
_TYPE_COLUMNS = ("feature_type", "feature_types")


def read_h5ad(
    path: str | Path, *, spatial: bool, pixel_um: float | None, spots: bool = False, first: int | None = None
) -> AnnData:
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
    spots
        Whether the section is one of spots, whose distance is then checked (:func:`check_pitch`).
    first
        Read only the first cells (genes where the matrix is stored by gene), with about so many values.

    Returns
    -------
    As :func:`livermet.counts.gene_expression`; a section with ``obsm["spatial"]`` in micrometres.

    Raises
    ------
    ValueError
        The file is none, holds no counts, or its positions can't be right; those of all spots are checked, also where
        only the first are read.
    """
    path = Path(path)
    with opened(path) as file:
        _check_h5ad_layout(file, path)
        cells = index(file["obs"])
        matrix, var, place = _h5ad_counts(file, len(cells), path, first=first)
        features = _h5ad_features(var, path)
        positions = _h5ad_positions(file, len(cells), path) if spatial else None
        in_tissue = column(file["obs"], IN_TISSUE) if spatial and IN_TISSUE in file["obs"] else None
    check_barcodes(cells, name=str(path))
    n = matrix.shape[0]
    adata = gene_expression(matrix, cells[:n], features, name=f"{path} ({place})")
    if place != "X":
        adata.uns["notes"].append(f"{path}: counts taken from {place}, not from X")
    if spatial:
        if pixel_um is None:
            raise ValueError(
                f"{path}: the unit of obsm['spatial'] is not known; give pixel_um (micrometres per unit; 1 if it is "
                "micrometres already) in libraries.tsv"
            )
        check_places(positions, name=f"{path}: obsm['spatial']")
        if spots:
            check_pitch(positions * pixel_um, pixel_um=pixel_um, name=str(path))
        adata.obsm[keys.SPATIAL] = positions[:n] * pixel_um
        if in_tissue is not None and first is None:
            adata = _only_in_tissue(adata, _yes(in_tissue, name=f"{path}: obs['{IN_TISSUE}']"), name=str(path))
    return adata


def _yes(values: np.ndarray, *, name: str) -> np.ndarray:
    """Flags from their text in whatever type they were stored."""
    known = {"0": False, "0.0": False, "False": False, "1": True, "1.0": True, "True": True}
    unknown = sorted(set(values.tolist()) - set(known))
    if unknown:
        raise ValueError(f"{name} holds {unknown[0]!r}; 0 and 1 are needed")
    return np.array([known[value] for value in values], dtype=bool)


def _check_h5ad_layout(file: h5py.File, path: Path) -> None:
    if "matrix" in file and "obs" not in file:
        raise ValueError(f"{path}: is a 10x h5 file; give it the ending .h5")
    missing = [name for name in ("obs", "var") if name not in file]
    if missing:
        raise ValueError(f"{path}: no h5ad file ({' and '.join(missing)} missing). {SUPPORTED}")
    if not all(isinstance(file[name], h5py.Group) for name in ("obs", "var")):
        raise ValueError(f"{path}: written by anndata before 0.7; open and save it with a current version")


def _h5ad_counts(
    file: h5py.File, n_cells: int, path: Path, *, first: int | None
) -> tuple[sparse.csr_matrix, h5py.Group, str]:
    """The first place that holds whole numbers, as CSR, with its var and name."""
    places = {"X": ("X", "var"), "layers/counts": ("layers/counts", "var"), "raw": ("raw/X", "raw/var")}
    found = {name: place for name, place in places.items() if place[0] in file}
    for name, (element, var) in found.items():
        shape = (n_cells, len(index(file[var])))
        if _looks_whole(file[element], shape, name=f"{path} ({name})", first=first):
            return _stored_matrix(file[element], shape, name=f"{path} ({name})", first=first), file[var], name
    if not found:
        raise ValueError(f"{path}: holds neither X, layers['counts'] nor raw; write the raw counts into it")
    raise ValueError(
        f"{path}: no whole numbers in {', '.join(found)}: the values were normalised, logged or corrected; put the raw "
        "counts into layers['counts']"
    )


def _dense(element: h5py.Dataset, shape: tuple[int, int], *, name: str) -> h5py.Dataset:
    values = dataset(element.parent, element.name.rsplit("/", 1)[-1], dimensions=2)
    if values.shape != shape:
        raise ValueError(f"{name}: shape {values.shape} does not agree with obs and var {shape}; write the file again")
    return values


def _looks_whole(element: h5py.Group | h5py.Dataset, shape: tuple[int, int], *, name: str, first: int | None) -> bool:
    """Whether the values of a stored matrix are whole numbers or missing (which is refused later), block by block."""
    if isinstance(element, h5py.Group):
        values, step = dataset(element, "data"), 1_000_000 if first is None else first
    else:
        values, step = _dense(element, shape, name=name), _block(shape, first)
    if not np.issubdtype(values.dtype, np.number):
        raise ValueError(f"{name}: values of type {values.dtype} are no counts")
    if np.issubdtype(values.dtype, np.integer):
        return True
    end = len(values) if first is None else min(step, len(values))
    blocks = (values[start : start + step] for start in range(0, end, step))
    return all(bool((np.isnan(block) | (block == np.floor(block))).all()) for block in blocks)


def _block(shape: tuple[int, int], first: int | None) -> int:
    """Rows of a dense matrix that are read at once."""
    return _DENSE_BLOCK if first is None else min(_DENSE_BLOCK, max(1, first // max(shape[1], 1)))


def _stored_matrix(
    element: h5py.Group | h5py.Dataset, shape: tuple[int, int], *, name: str, first: int | None
) -> sparse.csr_matrix:
    """A stored matrix as CSR; a dense one goes through blocks of rows, so that it is never whole in memory."""
    if isinstance(element, h5py.Dataset):
        values, step = _dense(element, shape, name=name), _block(shape, first)
        end = shape[0] if first is None else min(step, shape[0])
        blocks = [sparse.csr_matrix(values[start : start + step]) for start in range(0, end, step)]
        return sparse.csr_matrix(sparse.vstack(blocks, format="csr")) if blocks else sparse.csr_matrix(shape)
    declared = tuple(int(n) for n in element.attrs.get("shape", shape))
    if declared != shape:
        raise ValueError(f"{name}: shape {declared} does not agree with obs and var {shape}; write the file again")
    if attribute(element, "encoding-type") != "csc_matrix":
        return compressed_rows(element, shape=shape, first=first)
    by_gene = compressed_rows(element, shape=shape[::-1], first=first)
    by_gene.resize(shape[::-1])  # of the genes that were not read nothing is known
    return by_gene.T.tocsr()


def _h5ad_features(var: h5py.Group, path: Path) -> pd.DataFrame:
    """Symbols, ids and types of genes, whichever way the file names them."""
    names = index(var)
    ids = _first_column(var, _ID_COLUMNS)
    symbols = names
    if are_ensembl(names):  # as cellxgene does
        ids = names if ids is None else ids
        named = _first_column(var, _SYMBOL_COLUMNS)
        symbols = names if named is None else named
    types = _first_column(var, _TYPE_COLUMNS)
    if types is not None and not {GENE_EXPRESSION, *_CAPTURED} & set(types):
        types = None  # another vocabulary, such as the biotypes of CELLxGENE
    ids = np.full(len(names), "") if ids is None else ids
    return feature_table(ids=ids, symbols=symbols, types=types, name=str(path))


def _first_column(frame: h5py.Group, names: tuple[str, ...]) -> np.ndarray | None:
    found = next((name for name in names if name in frame), None)
    return None if found is None else column(frame, found)


def _h5ad_positions(file: h5py.File, n: int, path: Path) -> np.ndarray:
    if f"obsm/{keys.SPATIAL}" not in file:
        raise ValueError(f"{path}: a section needs obsm['spatial'] (x, y per spot), which is not there")
    stored = dataset(file["obsm"], keys.SPATIAL, dimensions=2)
    if stored.shape != (n, 2) or not np.issubdtype(stored.dtype, np.number):
        raise ValueError(
            f"{path}: obsm['spatial'] has the shape {stored.shape} and the type {stored.dtype}; two columns of numbers "
            f"(x, y) for {n} spots are needed"
        )
    positions = stored[()].astype(float)
    known = np.isfinite(positions).all(axis=1)
    if not known.all():
        raise ValueError(f"{path}: obsm['spatial'], row {int(np.argmin(known)) + 1}: no position")
    return positions


def _apart(positions: np.ndarray) -> float:
    """Median distance of a position to the nearest other one."""
    return float(np.median(cKDTree(positions).query(positions, k=2)[0][:, 1]))


def check_places(positions: np.ndarray, *, name: str) -> None:
    """Refuse positions of which no map can be made: all of them one place, or half of them or more doubled.

    Parameters
    ----------
    positions
        Spots, bins or cells x 2, in whatever unit.
    name
        Where they stand, for messages.

    Raises
    ------
    ValueError
        With how many places are there, and the way out.
    """
    n = len(positions)
    if n < 2 or _apart(positions) > 0:
        return
    places = len(np.unique(positions, axis=0))
    if places == 1:
        raise ValueError(f"{name}: all {n} positions are one place; write the coordinates of each into it")
    raise ValueError(
        f"{name}: {n} positions are {places} places, so half of them or more stand at the place of another; a section "
        "that is there twice, or two sections one upon the other, have to be taken apart into a library each"
    )


def check_pitch(positions: np.ndarray, *, pixel_um: float, name: str) -> None:
    """Check that the spots of a section lie as far apart as those of Visium, which tells its unit.

    Visium spots are 100 um apart. Squares of 200 um are allowed as well: the arrays of Spatial Transcriptomics before
    it (Stahl et al. 2016 Science). Both within 20 % (:func:`livermet.visium.differ`).

    Parameters
    ----------
    positions
        Spots x 2, in micrometres.
    pixel_um
        Micrometres per unit, for the message.
    name
        The file, for messages.

    Raises
    ------
    ValueError
        The median distance of a spot to its nearest neighbour is another one.
    """
    if len(positions) < 2:
        return
    apart = _apart(positions)
    around = cKDTree(positions).query_ball_point(positions, r=1.2 * apart, return_length=True) - 1
    square = np.quantile(around, 0.9) <= SQUARE_NEIGHBOURS
    if not differ(apart, SPOT_PITCH_UM) or (square and not differ(apart, SQUARE_PITCH_UM)):
        return
    raise ValueError(
        f"{name}: neighbouring spots lie {apart:.3g} um apart by obsm['spatial'] and pixel_um {pixel_um:g}, but those "
        f"of Visium lie {SPOT_PITCH_UM:g} um apart; correct pixel_um in libraries.tsv (micrometres per unit of the "
        f"coordinates; {pixel_um * SPOT_PITCH_UM / apart:.3g} would fit), or write coordinates in micrometres and give "
        "1"
    )


def _only_in_tissue(adata: AnnData, inside: np.ndarray, *, name: str, unit: str = "spots") -> AnnData:
    if inside.all():
        return adata
    if not inside.any():
        raise ValueError(f"{name}: none of {len(inside)} {unit} lies in the tissue; check the tissue detection")
    notes = [*adata.uns["notes"], f"{name}: {int((~inside).sum())} of {len(inside)} {unit} outside the tissue left out"]
    kept = adata[inside].copy()
    kept.uns["notes"] = notes
    return kept


# ----------------------------------------------------------------------------------------------------------- Visium


def read_visium(source: Source | str | Path, *, pixel_um: float | None, first: int | None = None) -> AnnData:
    """Read a Visium section (v1, v2, CytAssist) of Space Ranger.

    Parameters
    ----------
    source
        The output folder, or what :func:`livermet.sources.find_source` found in it.
    pixel_um
        Micrometres per pixel of the full-resolution image; None if it is to be measured from the slide's grid.
    first
        Read only the first spots, with about so many values, whether in the tissue or not, and no image.

    Returns
    -------
    As :func:`livermet.counts.gene_expression`, spots in the tissue only, with obs array_row and array_col,
    ``obsm["spatial"]`` (um, x right, y down) and, if there is an image, ``uns["spatial"]`` (images and scale factors
    that fit coordinates in um).
    """
    source = source if isinstance(source, Source) else find_source(source, modality="visium")
    positions = read_positions(source.file(*POSITION_FILES))
    scale_file = source.file(SCALE_FILE)
    factors = read_scale_factors(scale_file) if scale_file else {}
    um_per_pixel = micrometres_per_pixel(
        positions, spot_diameter=factors.get("spot_diameter_fullres"), pixel_um=pixel_um, name=str(source.base)
    )
    return place_spots(
        source,
        positions=positions,
        factors=factors,
        um_per_pixel=um_per_pixel,
        diameter_um=SPOT_DIAMETER_UM,
        unit="spots",
        first=first,
    )


def place_spots(
    source: Source,
    *,
    positions: pd.DataFrame,
    factors: Mapping[str, float],
    um_per_pixel: float,
    diameter_um: float,
    unit: str,
    first: int | None,
) -> AnnData:
    """Counts of a Space Ranger folder at their positions, with the image; what :func:`read_visium` returns.

    Parameters
    ----------
    source
        The folder's files.
    positions
        As :func:`livermet.visium.read_positions` reads them.
    factors
        Scale factors of the images.
    um_per_pixel
        Micrometres per pixel of the full-resolution image.
    diameter_um
        Diameter of a spot, or side of a bin.
    unit
        "spots" or "bins", for messages.
    first
        Read only the first barcodes, with about so many values.
    """
    adata = read_10x(source.matrix, first=first)
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
    adata.uns[keys.UM_PER_PIXEL] = um_per_pixel
    if first is not None:
        return adata
    adata = _only_in_tissue(adata, here[IN_TISSUE].to_numpy() > 0, name=str(source.base), unit=unit)
    image_file = source.file(IMAGE_FILE)
    if image_file and "tissue_lowres_scalef" in factors:
        inside = here[here[IN_TISSUE] > 0]
        image = tissue_image(
            image_file,
            factors=factors,
            positions=inside,
            um_per_pixel=um_per_pixel,
            diameter_um=diameter_um,
            notes=adata.uns["notes"],
        )
        if image is not None:
            adata.uns["spatial"] = image
    return adata
