"""Comparison of two result folders by content: the same inputs, parameters and seed must leave the same files."""

from __future__ import annotations

import filecmp
from pathlib import Path

# What may differ between equal runs: run.json (machine, time), the ledger of looks (time), logs and benchmarks, and
# Snakemake's own memory.
IGNORED_NAMES = ("run.json", "looks.tsv")
IGNORED_FOLDERS = ("logs", "benchmarks", ".snakemake")


def compare_folders(first: Path, second: Path) -> list[tuple[str, str]]:
    """List the files that are not the same in two result folders, byte by byte.

    Parameters
    ----------
    first, second
        The folders.

    Returns
    -------
    (relative path, difference) in order of the path; difference is "content", "only in first" or "only in second".

    Raises
    ------
    ValueError
        If one of them is no folder, or holds no file to compare.
    """
    there = {folder: _files(folder) for folder in (first, second)}
    differences = []
    for name in sorted(there[first] | there[second]):
        if name not in there[second]:
            differences.append((name, "only in first"))
        elif name not in there[first]:
            differences.append((name, "only in second"))
        elif not filecmp.cmp(first / name, second / name, shallow=False):
            differences.append((name, "content"))
    return differences


def _files(folder: Path) -> set[str]:
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give two result folders")
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    names = {
        path.as_posix()
        for path in paths
        if path.name not in IGNORED_NAMES
        and not path.name.startswith(".")
        and not set(path.parts) & set(IGNORED_FOLDERS)
    }
    if not names:
        raise ValueError(f"{folder}: holds no results; run the workflow first")
    return names
