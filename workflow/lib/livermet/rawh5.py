"""Parts of HDF5 files that an instrument or another program left, read with care.

A flipped byte may make a file declare more than it holds, or crash the library that reads it: sizes are compared with
what is stored before memory is asked for, and whoever reads a whole library does so in :mod:`livermet.guarded`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy import sparse

from livermet.counts import checked_csr, refuse_unprintable, whole_numbers

logger = logging.getLogger(__name__)

DAMAGED = "compare its size and checksum with the original and copy it again"

# Where only the first values are wanted, so many rows are looked at: most libraries have fewer, raw droplets far more.
FIRST_ROWS = 50_000
# Bytes by which a text of variable length is referred to: its length, the address of its heap and its number there.
_REFERENCE = 16
# HDF5 itself allows no larger chunk in files of its common versions.
_LARGEST_CHUNK = 2**32


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading; whatever h5py reports of a damaged one becomes a ValueError that names the file."""
    with damage_named(path), h5py.File(path) as file:
        yield file


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what h5py reports of a damaged file into a ValueError that names the file.

    Messages that begin with the path are the caller's own and go through unchanged.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        if str(error).startswith(str(path)):
            raise
        logger.info("%s: damaged?", path.name, exc_info=True)
        raise ValueError(f"{path}: is truncated or damaged ({error}); {DAMAGED}") from error


def dataset(group: h5py.Group, name: str, *, dimensions: int = 1) -> h5py.Dataset:
    """A dataset that is there, has so many dimensions and stores all that it declares.

    Raises
    ------
    ValueError
        With the file and the place.
    """
    place = f"{group.file.filename}: {group.name.strip('/')}/{name}".replace(" /", " ")
    item = group.get(name)
    if not isinstance(item, h5py.Dataset) or item.shape is None or item.ndim != dimensions:
        raise ValueError(f"{place} is missing or no array of {dimensions} dimension(s); copy the file again")
    if not _is_stored(item):
        raise ValueError(f"{place} declares {item.shape} values, more than the file stores; {DAMAGED}")
    return item


def _is_stored(item: h5py.Dataset) -> bool:
    """Whether all elements of a dataset were written, told without reading them."""
    stored = item.id.get_storage_size()
    width = _REFERENCE if item.dtype.kind == "O" else item.dtype.itemsize
    if item.chunks is None:
        return stored == math.prod(item.shape) * width
    needed = math.prod(-(-extent // chunk) for extent, chunk in zip(item.shape, item.chunks, strict=True))
    return (
        needed <= item.id.get_num_chunks()
        and stored <= Path(item.file.filename).stat().st_size
        and math.prod(item.chunks) * width < _LARGEST_CHUNK
    )


def texts(item: h5py.Dataset, *, first: int | None = None) -> np.ndarray:
    """Strings of a dataset, all or the first ones.

    Raises
    ------
    ValueError
        It holds something else, or characters that stand in no name.
    """
    place = f"{item.file.filename}: {item.name.strip('/')}"
    if not h5py.check_string_dtype(item.dtype):
        raise ValueError(f"{place} holds no text but {item.dtype}; copy the file again")
    values = item.asstr(errors="replace")[:first].astype(str) if item.dtype.kind == "O" else _decoded(item[:first])
    refuse_unprintable(values, name=place)
    return values


def _decoded(stored: np.ndarray) -> np.ndarray:
    """Text of fixed-length bytes; numpy decodes ASCII, which is nearly all there is, at once."""
    try:
        return stored.astype(str)
    except UnicodeDecodeError:
        return np.char.decode(stored, "utf-8", "replace")


def column(frame: h5py.Group, name: str) -> np.ndarray:
    """A column of ``obs`` or ``var`` of an h5ad file as text, whichever way anndata wrote it; missing ones are ""."""
    item = frame.get(name)
    if isinstance(item, h5py.Group) and "codes" in item:
        return _named(dataset(item, "codes")[()], column(item, "categories"))
    if isinstance(item, h5py.Group):  # nullable values
        return np.where(dataset(item, "mask")[()], "", column(item, "values"))
    item = dataset(frame, name)
    if "categories" in item.attrs:  # anndata 0.7
        return _named(item[()], texts(item.file[item.attrs["categories"]]))
    if h5py.check_string_dtype(item.dtype):
        return texts(item)
    return np.where(np.isnan(item[()]), "", item[()].astype(str))


def _named(codes: np.ndarray, categories: np.ndarray) -> np.ndarray:
    return np.append(categories, "")[codes]  # a missing one has the code -1


def index(frame: h5py.Group) -> np.ndarray:
    """Names of the rows of ``obs`` or ``var`` of an h5ad file."""
    return column(frame, str(frame.attrs["_index"]))


def compressed_rows(group: h5py.Group, *, shape: tuple[int, int], first: int | None) -> sparse.csr_matrix:
    """The matrix that lies as data, indices and indptr in a group.

    Parameters
    ----------
    group
        Holds the three arrays.
    shape
        Rows and columns that the matrix should have.
    first
        Read only the first rows, so many that they hold about this number of values; None for all.

    Returns
    -------
    CSR; with ``first`` of fewer rows.
    """
    name = f"{group.file.filename}: {group.name.strip('/')}"
    data, indices, indptr = (dataset(group, part) for part in ("data", "indices", "indptr"))
    if len(data) != len(indices) or len(indptr) != shape[0] + 1:
        raise ValueError(
            f"{name}: {len(data)} values, {len(indices)} indices and {len(indptr)} pointers are no matrix of "
            f"{shape[0]} x {shape[1]}; {DAMAGED}"
        )
    if first is None:
        return checked_csr(data[()], indices[()], indptr[()], shape=shape, name=name)
    pointers = whole_numbers(indptr[: FIRST_ROWS + 1], name=f"{name}: indptr")
    rows = max(1, int(np.searchsorted(pointers, first, side="right")) - 1) if shape[0] else 0
    pointers = pointers[: rows + 1]
    end = int(pointers[-1])
    return checked_csr(data[:end], indices[:end], pointers, shape=(rows, shape[1]), name=name)


def attribute(item: Any, name: str) -> str:
    """An attribute as text, "" where it is missing."""
    value = item.attrs.get(name, "")
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
