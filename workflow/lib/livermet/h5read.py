"""Single columns and small mappings out of h5ad files, for jobs that should not pay for anndata and the counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np


def read_obs(path: str | Path, columns: list[str], *, library: str | None = None) -> dict[str, np.ndarray]:
    """Columns of ``obs`` as arrays; text and categories come as str objects, missing ones as "".

    Parameters
    ----------
    path
        The h5ad file.
    columns
        Names of columns.
    library
        Keep the rows of this library alone.

    Raises
    ------
    ValueError
        If the file has no such column.
    """
    with h5py.File(path, "r") as file:
        obs = file["obs"]
        wanted = [*columns, *(["library_id"] if library is not None else [])]
        for name in wanted:
            if name not in obs:
                raise ValueError(f"{Path(path).name}: obs has no column {name!r}; has {sorted(obs)}")
        values = {name: _column(obs[name]) for name in wanted}
    if library is None:
        return values
    mask = values["library_id"] == library
    return {name: values[name][mask] for name in columns}


def read_names(path: str | Path, part: str) -> np.ndarray:
    """Names of the cells (part "obs") or of the genes ("var")."""
    with h5py.File(path, "r") as file:
        group = file[part]
        return _column(group[group.attrs["_index"]])


def read_uns(path: str | Path, key: str) -> dict[str, Any]:
    """One mapping of ``uns`` with plain values (text, numbers, flags); what is nested deeper is left out.

    Raises
    ------
    ValueError
        If the file has no such mapping.
    """
    with h5py.File(path, "r") as file:
        if f"uns/{key}" not in file:
            raise ValueError(f"{Path(path).name}: uns has no {key!r}; the file was not written by this workflow")
        group = file[f"uns/{key}"]
        return {
            name: _plain(item[()]) for name, item in group.items() if isinstance(item, h5py.Dataset) and item.ndim == 0
        }


def _column(item: h5py.Dataset | h5py.Group) -> np.ndarray:
    if isinstance(item, h5py.Dataset):
        return item.asstr()[()].astype(object) if h5py.check_string_dtype(item.dtype) else item[()]
    if "codes" in item:
        categories = np.append(_column(item["categories"]).astype(object), "")
        return categories[item["codes"][()]]
    values, mask = _column(item["values"]), item["mask"][()]
    return np.where(mask, "" if values.dtype == object else np.nan, values)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value.item() if isinstance(value, np.generic) else value
