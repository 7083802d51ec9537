"""Tables of single cells as imaging instruments leave them (csv, gzipped csv, Parquet), read with care.

What is missing, damaged, no number, or there twice is refused with file, place and remedy, as everywhere.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet
from scipy import sparse

from livermet.counts import refuse_unprintable
from livermet.readers import ends_with_newline, unzipped
from livermet.sources import refuse_web_page

# Values of a wide table that are in memory at once.
_BLOCK = 4_000_000
COPY_AGAIN = "compare it with the original and copy it again"


def table_columns(path: Path) -> list[str]:
    """Names of the columns of a table, by its first line or its schema."""
    refuse_web_page(path)
    if path.suffix == ".parquet":
        try:
            return parquet.read_schema(path).names
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{path}: is truncated or damaged ({error}); {COPY_AGAIN}") from error
    with unzipped(path) as stream:
        return _header(stream.readline(), path)


def _header(line: bytes, path: Path) -> list[str]:
    names = next(csv.reader([line.decode("utf-8-sig").rstrip("\r\n")]), [])
    if not names:
        raise ValueError(f"{path}: the first line names no columns; {COPY_AGAIN}")
    refuse_unprintable(np.array(names, dtype=str), name=f"{path}: the first line")
    return names


def read_columns(path: Path, *, names: Sequence[str], numbers: Sequence[str], first: int | None = None) -> pd.DataFrame:
    """Some columns of a table.

    Parameters
    ----------
    path
        A csv, gzipped csv or Parquet file.
    names
        Columns with names, of cells or fields of view; they come as categories of text.
    numbers
        Columns with numbers; they come as float64 and are finite.
    first
        Read so many rows only.

    Raises
    ------
    ValueError
        A column is missing, a value is no number, or the file is damaged or cut off.
    """
    there = table_columns(path)
    missing = [name for name in (*names, *numbers) if name not in there]
    if missing:
        raise ValueError(
            f"{path}: columns {', '.join(missing)} missing (has {', '.join(there[:12])}); export the table again with "
            "the names that the instrument gives them"
        )
    wanted = [*names, *numbers]
    table = _parquet(path, wanted, names) if path.suffix == ".parquet" else _csv(path, wanted, names, first)
    table = table.iloc[:first]
    for name in names:
        table[name] = _text(table[name])
        if table[name].isna().any():
            raise ValueError(f"{path}: {name} is empty in row {int(np.argmax(table[name].isna())) + 1}; {COPY_AGAIN}")
        refuse_unprintable(table[name].cat.categories.to_numpy(dtype=str), name=f"{path}: {name}")
    for name in numbers:
        table[name] = pd.to_numeric(table[name], errors="coerce").astype(np.float64)
        bad = ~np.isfinite(table[name].to_numpy())
        if bad.any():
            raise ValueError(f"{path}: {name} is no number in row {int(np.argmax(bad)) + 1}; {COPY_AGAIN}")
    return table


def _parquet(path: Path, columns: list[str], names: Sequence[str]) -> pd.DataFrame:
    try:
        return parquet.read_table(path, columns=columns, read_dictionary=list(names)).to_pandas()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, pa.ArrowException) as error:
        raise ValueError(f"{path}: is truncated or damaged ({error}); {COPY_AGAIN}") from error


def _csv(path: Path, columns: list[str], names: Sequence[str], first: int | None) -> pd.DataFrame:
    _refuse_cut(path)
    with unzipped(path) as stream:
        return pd.read_csv(
            stream, usecols=columns, dtype=dict.fromkeys(names, "category"), nrows=first, encoding="utf-8-sig"
        )


def _refuse_cut(path: Path) -> None:
    if path.suffix != ".gz" and not ends_with_newline(path):
        raise ValueError(f"{path}: the last line has no end, so the file is truncated; copy it again")


def _text(values: pd.Series) -> pd.Series:
    """Names as categories of text, in whatever type they were stored."""
    values = values.astype("category")
    known = values.cat.categories
    named = [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in known]
    return values.cat.rename_categories(named)


def joined(table: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    """One name per row out of those of several columns, as categories: field ``10`` and cell ``3`` make ``10_3``."""
    result = table[names[0]]
    for name in names[1:]:
        other = table[name]
        codes = result.cat.codes.to_numpy(dtype=np.int64) * len(other.cat.categories) + other.cat.codes.to_numpy()
        codes, found = pd.factorize(codes)
        left, right = np.divmod(found, max(len(other.cat.categories), 1))
        both = result.cat.categories[left].astype(str) + "_" + other.cat.categories[right].astype(str)
        result = pd.Series(pd.Categorical.from_codes(codes, categories=both), index=table.index)
    return result


def wide_counts(
    path: Path, *, names: Sequence[str], beside: Iterable[str] = (), first: int | None = None
) -> tuple[pd.Series, sparse.csr_matrix, np.ndarray]:
    """Counts of a csv table with a row per cell and a column per gene, read block by block.

    Parameters
    ----------
    path
        The file, plain or gzipped.
    names
        Columns that name the cell.
    beside
        Other columns that are no genes.
    first
        Read only the first cells, with about so many values.

    Returns
    -------
    Name of each cell, cells x genes, and the genes.
    """
    refuse_web_page(path)
    _refuse_cut(path)
    with unzipped(path) as stream:
        header = _header(stream.readline(), path)
        missing = [name for name in names if name not in header]
        if missing:
            raise ValueError(
                f"{path}: columns {', '.join(missing)} missing (has {', '.join(header[:8])}); {COPY_AGAIN}"
            )
        own = [header.index(name) for name in names]
        genes = [i for i, name in enumerate(header) if name not in (*names, *beside)]
        rows = max(1, (_BLOCK if first is None else first) // max(len(genes), 1))
        cells, blocks = [], []
        try:
            chunks = pd.read_csv(stream, header=None, dtype=dict.fromkeys(own, str), chunksize=rows, low_memory=False)
        except pd.errors.EmptyDataError as error:
            raise ValueError(f"{path}: holds no cells; {COPY_AGAIN}") from error
        for chunk in chunks:
            blocks.append(_counts(chunk, header, genes, path))
            cells.append(chunk[own].set_axis(list(names), axis=1))
            if first is not None:
                break
    table = pd.concat(cells, ignore_index=True)
    if table.isna().any(axis=None):
        raise ValueError(f"{path}: row {int(np.argmax(table.isna().any(axis=1))) + 2} names no cell; {COPY_AGAIN}")
    matrix = sparse.csr_matrix(sparse.vstack(blocks, format="csr"))
    return joined(table.apply(_text), names), matrix, np.array(header, dtype=str)[genes]


def _counts(chunk: pd.DataFrame, header: Sequence[str], genes: Sequence[int], path: Path) -> sparse.csr_matrix:
    """The counts of some rows."""
    if chunk.shape[1] != len(header):
        raise ValueError(
            f"{path}: {len(header)} names in the first line, but {chunk.shape[1]} values in each row; {COPY_AGAIN}"
        )
    for i in genes:
        if not pd.api.types.is_numeric_dtype(chunk[i].dtype):
            bad = pd.to_numeric(chunk[i], errors="coerce").isna()
            row = int(chunk.index[np.argmax(bad)]) + 2
            raise ValueError(f"{path}: row {row}, {header[i]}: {chunk[i][row - 2]!r} is no number; {COPY_AGAIN}")
    return sparse.csr_matrix(chunk[genes].to_numpy())
