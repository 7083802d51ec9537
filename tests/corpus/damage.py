"""Ways to break one thing of a study on disk; each gives a function of the study's folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py

from study_files import write_10x

Damage = Callable[[Path], object]


def edit(folder: Path, table: str, old: str, new: str) -> None:
    """Replace a text of a table, which has to be there."""
    path = folder / f"{table}.tsv"
    text = path.read_text(encoding="utf-8")
    if old not in text:
        raise ValueError(f"{table}.tsv: {old!r} is not there, so the case would break nothing")
    path.write_text(text.replace(old, new), encoding="utf-8")


def edits(table: str, old: str, new: str) -> Damage:
    """Replace a text of a table."""
    return lambda folder: edit(folder, table, old, new)


def cell(table: str, key: str, column: str, value: str) -> Damage:
    """Set one cell of the first row that begins with ``key`` (its first fields, tab-separated)."""

    def change(folder: Path) -> None:
        path = folder / f"{table}.tsv"
        lines = path.read_text(encoding="utf-8").splitlines()
        place = lines[0].split("\t").index(column)
        i = next(i for i, line in enumerate(lines) if line.startswith(f"{key}\t"))
        fields = lines[i].split("\t")
        fields[place] = value
        lines[i] = "\t".join(fields)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    return change


def adds(table: str, *rows: str) -> Damage:
    """Add rows, given with blanks between the fields and a dot for an empty one."""

    def change(folder: Path) -> None:
        path = folder / f"{table}.tsv"
        lines = ["\t".join("" if field == "." else field for field in row.split(" ")) for row in rows]
        path.write_text(path.read_text(encoding="utf-8") + "\n".join(lines) + "\n", encoding="utf-8")

    return change


def writes(name: str, content: str | bytes) -> Damage:
    """Put a file in the place of what is there."""

    def write(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"{path.name}.gz").unlink(missing_ok=True)  # of a matrix, the gzipped part would hide it
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def removes(name: str) -> Damage:
    """Take a file away."""
    return lambda folder: (folder / name).unlink()


def recodes(table: str, encoding: str) -> Damage:
    """Save a table in another encoding."""

    def change(folder: Path) -> None:
        path = folder / f"{table}.tsv"
        path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))

    return change


def separates(table: str, mark: str) -> Damage:
    """Save a table with another separator."""
    return edits(table, "\t", mark)


def truncates(name: str) -> Damage:
    """Cut a file in half."""
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


def makes_h5(name: str, group: str) -> Damage:
    """Put a 10x-like h5 file under another group's name in the place of a file."""

    def write(folder: Path) -> None:
        (folder / name).unlink()
        write_10x(folder / name, group=group)

    return write


def molecule_info(folder: Path) -> None:
    """Give the molecule_info file of Cell Ranger for library L1."""
    (folder / "raw/L1.h5").unlink()
    with h5py.File(folder / "raw/L1.h5", "w") as file:
        file["barcode_idx"], file["umi"] = [1], [1]


def both(*damages: Damage) -> Damage:
    """Several changes that make one fault."""
    return lambda folder: [damage(folder) for damage in damages]


def copies(source: str, target: str) -> Damage:
    """Copy a file of the study."""
    return lambda folder: shutil.copy(folder / source, folder / target)
