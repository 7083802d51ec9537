"""Where the raw files of a library lie: what is at a path, by what is found there and not by its name alone.

Only the standard library is needed, so that a rule file can ask for the files of a library at no cost.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUPPORTED = (
    "This version reads single-cell libraries (Cell Ranger h5 or mtx folder, h5ad) and sections of Visium, Visium HD, "
    "Xenium, CosMx and MERSCOPE (the instrument's output folder, h5ad)"
)
PLATFORMS = {
    "visium": "Visium",
    "visium_hd": "Visium HD",
    "xenium": "Xenium",
    "cosmx": "CosMx",
    "merscope": "MERSCOPE",
}
POSITION_FILES = ("tissue_positions.parquet", "tissue_positions.csv", "tissue_positions_list.csv")
SCALE_FILE = "scalefactors_json.json"
IMAGE_FILE = "tissue_lowres_image.png"

# Names of tables of single cells; in public archives the sample's name stands before them.
XENIUM_CELLS = ("cells.parquet", "cells.csv.gz", "cells.csv")
XENIUM_BOUNDARIES = ("cell_boundaries.parquet", "cell_boundaries.csv.gz", "cell_boundaries.csv")
COSMX_COUNTS = ("exprMat_file.csv", "exprMat_file.csv.gz")
COSMX_CELLS = ("metadata_file.csv", "metadata_file.csv.gz")
COSMX_FIELDS = ("fov_positions_file.csv", "fov_positions_file.csv.gz")
COSMX_BOUNDARIES = ("polygons.csv", "polygons.csv.gz")
MERSCOPE_COUNTS = ("cell_by_gene.csv", "cell_by_gene.csv.gz")
MERSCOPE_CELLS = ("cell_metadata.csv", "cell_metadata.csv.gz")
MERSCOPE_BOUNDARIES = ("cell_boundaries.parquet",)

_RAW_NAMES = (
    "raw_feature_bc_matrix",
    "raw_gene_bc_matrices",
    "raw_gene_bc_matrices_h5",
    "raw_probe_bc_matrix",
)
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz")
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Source:
    """What lies at a path.

    Attributes
    ----------
    kind
        "10x_h5", "10x_mtx", "h5ad", or the modality of a section.
    base
        The path that the study table names: names of files are told relative to it.
    matrix
        The file (h5, h5ad) or folder (mtx) that holds the counts.
    files
        All files that are read, the counts first.
    droplets
        Whether the counts are by their name those of all droplets (raw), of which cells must be called first.
    """

    kind: str
    base: Path
    matrix: Path
    files: tuple[Path, ...]
    droplets: bool = False

    def file(self, *names: str) -> Path | None:
        """The file of the source that has one of these names, or a prefix and one; None where there is none."""
        return next((f for f in self.files if _has_name(f, names)), None)


def find_source(path: str | Path, *, modality: str, bin_um: int | None = None) -> Source:
    """Find the counts of a library, and for a section its positions and what else is read of it.

    Of a run folder the filtered counts are taken, and those of all droplets where no filtered ones lie there.

    Parameters
    ----------
    path
        A 10x h5 file, an h5ad file, an mtx folder, the output folder of an instrument, or a run folder of Cell Ranger
        or Space Ranger (or its ``outs``).
    modality
        Modality of the library in ``libraries.tsv``.
    bin_um
        Which bins of a Visium HD run to take; a folder of one bin size (``square_008um``) that is named itself is
        taken whatever this says.

    Raises
    ------
    ValueError
        Nothing is there, or nothing that this version reads; the message says what was looked for.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; correct the path in libraries.tsv")
    if path.is_file():
        return _file_source(path, modality=modality)
    folder = path / "outs" if (path / "outs").is_dir() else path
    platform = _platform(folder)
    if platform is not None and platform != modality:
        raise ValueError(
            f"{path}: is a {PLATFORMS[platform]} section by its files, but its modality is {modality}; correct the "
            "modality in libraries.tsv"
        )
    if modality == "visium":
        return _visium_source(path, folder)
    if modality == "visium_hd":
        return _visium_hd_source(path, folder, bin_um=bin_um)
    if modality == "xenium":
        return _xenium_source(path, folder)
    if modality == "cosmx":
        return _table_source(path, folder, modality, (COSMX_COUNTS, COSMX_CELLS), (COSMX_FIELDS, COSMX_BOUNDARIES))
    if modality == "merscope":
        return _table_source(path, folder, modality, (MERSCOPE_COUNTS, MERSCOPE_CELLS), (MERSCOPE_BOUNDARIES,))
    return _matrix_source(path, folder, prefixes=("filtered", "raw"))


def find_raw(path: str | Path) -> Source:
    """Find the matrix of all droplets that ``raw_path`` of a library names (h5 file, mtx folder or run folder)."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; correct raw_path in libraries.tsv or leave it empty")
    if path.is_file():
        if path.suffix == ".h5ad":
            raise ValueError(f"{path}: raw droplets are read from a 10x h5 file or an mtx folder, not from h5ad")
        _check_hdf5(path)
        return Source("10x_h5", path, path, (path,))
    return _matrix_source(path, path / "outs" if (path / "outs").is_dir() else path, prefixes=("raw",))


def library_sources(row: Mapping[str, Any]) -> tuple[Source, Source | None]:
    """Sources of a library's counts and, where ``raw_path`` is given, of all its droplets."""
    source = find_source(row["path"], modality=row["modality"], bin_um=row.get("bin_um"))
    return source, find_raw(row["raw_path"]) if row["raw_path"] else None


def _has_name(file: Path, names: tuple[str, ...]) -> bool:
    """Whether a file has one of these names, alone or after a prefix."""
    return any(file.name == name or file.name.endswith((f"_{name}", f"-{name}")) for name in names)


def _named(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The file of a folder with the first of these names that is there.

    Raises
    ------
    ValueError
        Files of several samples lie there.
    """
    for name in names:
        found = [f for f in sorted(folder.iterdir()) if f.is_file() and _has_name(f, (name,))]
        if len(found) > 1:
            listed = ", ".join(f.name for f in found)
            raise ValueError(f"{folder}: holds several {name} ({listed}); give each section a folder of its own")
        if found:
            return found[0]
    return None


def _platform(folder: Path) -> str | None:
    """Modality of a section whose files lie in a folder, told by their names and not by version strings."""
    names = [p.name for p in folder.iterdir()]
    scale = folder / "spatial" / SCALE_FILE
    if "binned_outputs" in names or any(_bins_um(name) for name in (*names, folder.name)):
        return "visium_hd"
    if scale.is_file() and "bin_size_um" in read_scale_factors(scale):
        return "visium_hd"
    matrix = any("cell_feature_matrix" in name for name in names)
    if "experiment.xenium" in names or (matrix and _named(folder, XENIUM_CELLS) is not None):
        return "xenium"
    if any("exprMat_file.csv" in name for name in names):
        return "cosmx"
    if any("cell_by_gene" in name for name in names):
        return "merscope"
    return "visium" if _position_file(folder) is not None else None


def _bins_um(name: str) -> int | None:
    """Size of the bins in a folder that is named as Space Ranger does (``square_008um``), None for another name."""
    size = name.removeprefix("square_").removesuffix("um")
    return int(size) if name == f"square_{size}um" and size.isascii() and size.isdigit() else None


def read_scale_factors(path: Path) -> dict[str, float]:
    """Scale factors that Space Ranger leaves beside its images; all are positive numbers."""
    refuse_web_page(path)
    again = "copy it again from the Space Ranger output"
    try:
        factors = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of the text as UTF-8, as JSON, or of a number of thousands of digits
        raise ValueError(f"{path}: is not valid JSON ({error}); {again}") from error
    if not isinstance(factors, dict):
        raise ValueError(f"{path}: holds no named scale factors; {again}")
    for name, value in factors.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{path}: {name} is no number; {again}")
        if not 0 < value < math.inf:
            raise ValueError(f"{path}: {name} is {value}, but scale factors are positive numbers; {again}")
    return factors


def _file_source(path: Path, *, modality: str) -> Source:
    if path.suffix == ".h5ad":
        _check_hdf5(path)
        return Source("h5ad", path, path, (path,))
    if modality in PLATFORMS:
        raise ValueError(
            f"{path}: a {PLATFORMS[modality]} section needs its positions too; name the folder that holds all its "
            "files, or an h5ad file"
        )
    if path.suffix in _COMPRESSED:
        raise ValueError(f"{path}: is compressed, or an archive; unpack it and name what comes out of it")
    if path.suffix not in {".h5", ".hdf5"}:
        raise ValueError(f"{path}: neither .h5, .h5ad nor a folder. {SUPPORTED}")
    _check_hdf5(path)
    return Source("10x_h5", path, path, (path,), droplets=_named_raw(path))


def _check_hdf5(path: Path) -> None:
    """Refuse what is no HDF5 file, and say what it is."""
    refuse_web_page(path)
    with path.open("rb") as stream:
        head = stream.read(len(_HDF5_MAGIC))
    if head == _HDF5_MAGIC:
        return
    if head.startswith(b"\x1f\x8b"):
        what = "is compressed with gzip; unpack it (gunzip)"
    elif head.startswith(b"PK\x03\x04"):
        what = "is a zip archive; unpack it"
    else:
        what = "is not an HDF5 file; compare size and checksum with the original and copy it again"
    raise ValueError(f"{path}: {what}")


def refuse_web_page(path: Path) -> None:
    """Refuse an empty file, and the page of a download site that was saved in its place; gzipped ones are looked into.

    Raises
    ------
    ValueError
        It is one of these, or a .gz file that gzip can't open.
    """
    if not path.stat().st_size:
        raise ValueError(f"{path}: is empty (0 bytes); copy it again")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            head = stream.read(512)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        with path.open("rb") as stream:
            head = stream.read(512)
        if not _is_html(head):
            raise ValueError(f"{path}: is truncated or damaged ({error}); copy it again") from error
    if _is_html(head):
        raise ValueError(
            f"{path}: is a web page (HTML), probably the login page of the download site; download it again"
        )


def _is_html(head: bytes) -> bool:
    return head.lstrip().lower().startswith((b"<!doctype", b"<html"))


def _position_file(folder: Path) -> Path | None:
    return next((f for name in POSITION_FILES if (f := folder / "spatial" / name).is_file()), None)


def _visium_source(path: Path, folder: Path, *, kind: str = "visium") -> Source:
    positions = _position_file(folder)
    if positions is None:
        raise ValueError(
            f"{path}: no positions found; looked for {', '.join(POSITION_FILES)} in {folder / 'spatial'}. "
            "Name the Space Ranger output folder (the one that holds spatial/)"
        )
    matrix = _find_matrix(folder, prefix="filtered") or _find_matrix(folder, prefix="raw")
    if matrix is None:
        raise ValueError(f"{path}: no counts found; looked for {_looked_for('filtered')} or the raw_ ones in {folder}")
    extra = (folder / "spatial" / name for name in (SCALE_FILE, IMAGE_FILE))
    return Source(kind, path, matrix, (*matrix_files(matrix), positions, *(f for f in extra if f.is_file())))


def _visium_hd_source(path: Path, folder: Path, *, bin_um: int | None) -> Source:
    """The bins of one size: those of the folder itself, else those that were asked for."""
    if (folder / "spatial" / SCALE_FILE).is_file() and _position_file(folder) is not None:
        return _visium_source(path, folder, kind="visium_hd")
    home = folder / "binned_outputs" if (folder / "binned_outputs").is_dir() else folder
    sizes = {_bins_um(p.name): p for p in sorted(home.iterdir()) if p.is_dir() and _bins_um(p.name)}
    if bin_um in sizes:
        return _visium_source(path, sizes[bin_um], kind="visium_hd")
    if sizes:
        raise ValueError(
            f"{path}: holds bins of {', '.join(map(str, sizes))} um, but none of {bin_um} um (spatial.bin_um); set "
            "spatial.bin_um to one of these for all sections, or run Space Ranger with that bin size"
        )
    raise ValueError(
        f"{path}: no bins found; looked for binned_outputs/square_{bin_um or 16:03d}um in {folder}, and for spatial/ "
        f"with {SCALE_FILE} and positions. Name the Space Ranger output folder, or its folder of one bin size"
    )


def _xenium_source(path: Path, folder: Path) -> Source:
    file = _named(folder, ("cell_feature_matrix.h5",))
    cells = _named(folder, XENIUM_CELLS)
    parts = [p for p in sorted(folder.iterdir()) if p.is_dir() and _has_name(p, ("cell_feature_matrix",))]
    matrix = file or next((p for p in parts if _is_mtx(p)), None)
    looked = {"cell_feature_matrix.h5 (or its mtx folder)": matrix, " or ".join(XENIUM_CELLS): cells}
    _refuse_missing(path, folder, looked)
    if matrix.is_file():
        _check_hdf5(matrix)
    boundaries = _named(folder, XENIUM_BOUNDARIES)
    return Source("xenium", path, matrix, (*matrix_files(matrix), cells, *([boundaries] if boundaries else ())))


def _table_source(
    path: Path,
    folder: Path,
    modality: str,
    needed: tuple[tuple[str, ...], ...],
    optional: tuple[tuple[str, ...], ...],
) -> Source:
    """A section whose counts are a table of cells and genes, with a table of positions beside it."""
    found = {names: _named(folder, names) for names in needed}
    _refuse_missing(path, folder, {f"*{names[0]}": file for names, file in found.items()})
    more = [file for names in optional if (file := _named(folder, names)) is not None]
    return Source(modality, path, found[needed[0]], (*found.values(), *more))


def _refuse_missing(path: Path, folder: Path, looked: Mapping[str, Path | None]) -> None:
    missing = [name for name, file in looked.items() if file is None]
    if missing:
        raise ValueError(f"{path}: {' and '.join(missing)} missing in {folder}; name the folder that holds all of them")


def _matrix_source(path: Path, folder: Path, *, prefixes: tuple[str, ...]) -> Source:
    """The first of these kinds of counts that lies in a folder; the folder itself if it is an mtx folder."""
    prefix = prefixes[0]
    found = (_find_matrix(folder, prefix=name) for name in prefixes)
    matrix = folder if _is_mtx(folder) else next((place for place in found if place is not None), None)
    if matrix is None:
        hint = ""
        if prefix == "raw" and _find_matrix(folder, prefix="filtered") is not None:
            hint = "; the filtered matrix that lies there can't take its place"
        raise ValueError(
            f"{path}: no {prefix} counts found; looked for barcodes.tsv, features.tsv (or genes.tsv) and matrix.mtx, "
            f"plain or .gz, and for {_looked_for(prefix)} in {folder}{hint}"
        )
    kind = "10x_mtx" if matrix.is_dir() else "10x_h5"
    return Source(kind, path, matrix, matrix_files(matrix), droplets=_named_raw(matrix))


def _named_raw(matrix: Path) -> bool:
    """Whether counts are by their name those of all droplets; Cell Ranger 2 names the folder above the genome's so."""
    return any(name.removesuffix(".h5").endswith(_RAW_NAMES) for name in (matrix.name, matrix.parent.name))


def _looked_for(prefix: str) -> str:
    return f"{prefix}_feature_bc_matrix(.h5) and {prefix}_gene_bc_matrices(_h5.h5)"


def _find_matrix(folder: Path, *, prefix: str) -> Path | None:
    """The one h5 file or mtx folder of 10x with this prefix; in public archives the sample's name stands before it."""
    for pattern in (
        f"{prefix}_feature_bc_matrix.h5",
        f"*{prefix}_feature_bc_matrix.h5",
        f"*{prefix}_gene_bc_matrices*.h5",
        f"*{prefix}_probe_bc_matrix.h5",
    ):
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            raise ValueError(
                f"{folder}: holds several {prefix} matrices ({', '.join(p.name for p in found)}); name one"
            )
        if found:
            _check_hdf5(found[0])
            return found[0]
    for name in (f"{prefix}_feature_bc_matrix", f"{prefix}_gene_bc_matrices"):
        if (folder / name).is_dir():
            return _mtx_folder(folder / name)
    return _mtx_folder(folder) if folder.name.startswith(prefix) else None


def _mtx_folder(folder: Path) -> Path | None:
    """The mtx folder itself; Cell Ranger before 3 puts it one level down, in a folder named by the genome."""
    if _is_mtx(folder):
        return folder
    genomes = [p for p in sorted(folder.iterdir()) if p.is_dir() and _is_mtx(p)]
    if len(genomes) > 1:
        names = ", ".join(p.name for p in genomes)
        raise ValueError(f"{folder}: counts of several genomes ({names}); name the folder of the human one")
    return genomes[0] if genomes else None


def _is_mtx(folder: Path) -> bool:
    return mtx_part(folder, "matrix.mtx") is not None


def mtx_part(folder: Path, *names: str) -> Path | None:
    """One of the three files of an mtx folder, plain or gzipped."""
    return next((f for name in names for f in (folder / f"{name}.gz", folder / name) if f.is_file()), None)


def matrix_files(matrix: Path) -> tuple[Path, ...]:
    """Files that hold the counts: the h5 itself, or the three of an mtx folder.

    Raises
    ------
    ValueError
        One of the three is missing.
    """
    if matrix.is_file():
        return (matrix,)
    parts = {
        "matrix.mtx": mtx_part(matrix, "matrix.mtx"),
        "features.tsv or genes.tsv": mtx_part(matrix, "features.tsv", "genes.tsv"),
        "barcodes.tsv": mtx_part(matrix, "barcodes.tsv"),
    }
    missing = [name for name, file in parts.items() if file is None]
    if missing:
        raise ValueError(f"{matrix}: {' and '.join(missing)} missing (plain or .gz); copy the whole folder")
    return tuple(parts.values())
