"""Reading and writing of result files: what is at its final path is complete, since it is written beside it first."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

TEXT_COLUMNS = (
    *("barcode", "cluster", "niche", "label", "value"),
    *("batch", "centre", "cohort", "regimen", "platform", "unit", "chemistry", "organ"),
)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a unique temporary path beside ``path`` that takes its place when the block ends without error.

    A killed job therefore leaves no partial file at the final path, and two writers never mix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def forget_library(results: str | Path, library: str) -> int:
    """Remove what was computed for one library, and every scope that holds it; returns how many folders and files went.

    For a patient who withdrew consent: objects and tables of a scope hold the patient among others. The next run of a
    scope makes it anew.
    """
    results = Path(results)
    holds = [path.parent for path in results.glob("*/status.tsv") if library in _first_fields(path)]
    logs = [path for kind in ("logs", "benchmarks") for path in (results / kind).rglob(f"{library}.*")]
    found = [path for path in [results / "libraries" / library, *holds, *logs] if path.exists() or path.is_symlink()]
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return len(found)


def _first_fields(path: Path) -> set[str]:
    return {line.partition("\t")[0] for line in path.read_text(encoding="utf-8").splitlines()}


def write_text(text: str, path: str | Path) -> None:
    """Write UTF-8 text with Unix line ends."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(obj: Any, path: str | Path) -> None:
    """Write JSON that people can read; NaN is refused, since it is not JSON."""
    write_text(json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n", path)


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write a TSV without index; missing values become empty fields, floats keep ten significant digits."""
    with replacing(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, float_format="%.10g", lineterminator="\n")


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a TSV written by :func:`write_table`.

    Columns that end in ``_id`` and those named in ``TEXT_COLUMNS`` stay text, an empty field there being "";
    elsewhere only the empty field is a missing value, so that a cell type called "NA" stays one.
    """
    import pandas as pd

    header = pd.read_csv(path, sep="\t", nrows=0).columns
    text = {name: str for name in header if name.endswith("_id") or name in TEXT_COLUMNS}
    table = pd.read_csv(path, sep="\t", dtype=text, keep_default_na=False, na_values=[""])
    return table.fillna(dict.fromkeys(text, ""))


def write_parquet(table: pd.DataFrame, path: str | Path) -> None:
    """Write a Parquet table without index."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def write_h5ad(adata: AnnData, path: str | Path, *, compression: str | None = None) -> None:
    """Write an AnnData object.

    ``compression`` None is the fastest; "gzip" is what results for people take, since every reader opens it.
    """
    with replacing(path) as temporary:
        adata.write_h5ad(temporary, compression=compression)
