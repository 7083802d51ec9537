"""The folder of a frozen reference: its manifest, and what has to hold before anything is mapped onto it.

Apart from the analysis (:mod:`livermet.frozen`), so that the check of a config need not load the packages of that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from livermet.files import read_json
from livermet.findings import Finding, allowed
from livermet.provenance import file_sha256

MANIFEST = "manifest.json"
CELLS = "cells.h5ad"
MODEL = "model.h5ad"
LANDMARKS = "landmarks.h5ad"
MARKERS = "marker_table.json"
FORMAT = 1
# Settings that labels follow from: mapping goes by those of the reference.
FROZEN_SECTIONS = ("annotate", "cnv")


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a frozen reference whose files are all there, with the size that they had.

    Raises
    ------
    ValueError
        The folder is no reference, is one of another format, or a file is missing or has another size.
    """
    folder = Path(folder)
    remedy = "restore the folder from a copy, or freeze the cohort again under another name"
    try:
        manifest = read_json(folder / MANIFEST)
    except FileNotFoundError as error:
        raise ValueError(f"{folder.name}: no frozen reference: {MANIFEST} is missing; {remedy}") from error
    except ValueError as error:
        raise ValueError(f"{folder.name}/{MANIFEST}: damaged ({error}); {remedy}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise ValueError(f"{folder.name}/{MANIFEST}: format {found!r}, expected {FORMAT}; {remedy}")
    for name, entry in manifest["files"].items():
        size = (folder / name).stat().st_size if (folder / name).is_file() else None
        if size != entry["bytes"]:
            found = "the file is missing" if size is None else f"{size} bytes, {entry['bytes']} when it was frozen"
            raise ValueError(f"{folder.name}/{name}: {found}; {remedy}")
    return manifest


def verify(folder: str | Path) -> dict[str, Any]:
    """The manifest of a frozen reference whose files are what they were, by their checksums.

    Raises
    ------
    ValueError
        As :func:`read_manifest`, or the content of a file changed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name, entry in manifest["files"].items():
        if file_sha256(folder / name) != entry["sha256"]:
            raise ValueError(
                f"{folder.name}/{name}: changed since it was frozen (sha256 differs); restore the folder from a copy, "
                "or freeze the cohort again under another name"
            )
    return manifest


def file_entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and checksum of each file of a folder, for its manifest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in files
    }


def library_digest(path: str | Path) -> str:
    """Digest of the kept cells of one library by what they are, not by the bytes of the file.

    It covers the checksums of the raw files, the names of cells and genes, and the counts and detected genes of each
    cell, and so neither the time nor the version of the program that wrote the file.

    Parameters
    ----------
    path
        ``qc.h5ad`` of the library.
    """
    from livermet.h5read import read_names, read_obs, read_uns

    raw = [entry.get("sha256", "") for entry in json.loads(read_uns(path, "livermet").get("inputs", "[]"))]
    totals = read_obs(path, ["total_counts", "n_genes"])
    digest = hashlib.sha256(json.dumps(sorted(raw)).encode())
    for names in (read_names(path, "obs"), read_names(path, "var")):
        digest.update("\n".join(map(str, names)).encode())
    for values in totals.values():
        digest.update(values.astype("<i8").tobytes())
    return digest.hexdigest()


def changed_libraries(manifest: Mapping[str, Any], libraries: Mapping[str, str | Path]) -> list[str]:
    """Libraries that the reference holds and whose kept cells aren't any more those that were frozen.

    Parameters
    ----------
    manifest
        Of the reference.
    libraries
        Path of ``qc.h5ad`` by library.
    """
    frozen = manifest["libraries"]
    return [
        name for name, path in libraries.items() if name in frozen and library_digest(path) != frozen[name]["digest"]
    ]


def renamed_libraries(manifest: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the tables now say otherwise of libraries that the reference holds, one text per library and column."""
    found = []
    for row in rows:
        frozen = manifest["libraries"].get(row["library_id"], {}).get("row", {})
        found += [
            f"{row['library_id']}: {column} is {row[column]!r}, was {value!r}"
            for column, value in frozen.items()
            if str(row.get(column, "")) != value
        ]
    return found


def reference_findings(config: Mapping[str, Any], *, workdir: str | Path, withdrawn: Collection[str]) -> list[Finding]:
    """What is wrong with the reference that a config wants cells mapped onto, before anything is computed.

    Parameters
    ----------
    config
        The merged config.
    workdir
        The folder that relative paths count from.
    withdrawn
        Libraries of patients who withdrew their consent, or gave none to omics.
    """
    name, folder = config["reference"]["use"], Path(workdir) / config["reference"]["folder"]
    if not name:
        return []
    key = "reference.use"
    if not (folder / name).is_dir():
        there = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
        message = f"there is no frozen reference of this name in {folder.name}"
        remedy = f"use {allowed(there)}" if there else "freeze one: reference.freeze, and the target freeze_reference"
        return [Finding("error", "config", None, key, name, message, remedy)]
    try:
        manifest = read_manifest(folder / name)
    except ValueError as error:
        message, _, remedy = str(error).rpartition("; ")
        return [Finding("error", "config", None, key, name, message, remedy)]
    findings = []
    held = sorted(set(withdrawn) & set(manifest["libraries"]))
    if held:
        message = f"holds {len(held)} libraries of patients without consent"
        remedy = "delete its folder, and freeze the cohort again without them"
        findings.append(Finding("error", "config", None, key, name, message, remedy, "V19"))
    differing = [
        f"{section}.{option}"
        for section in FROZEN_SECTIONS
        for option, value in manifest["config"][section].items()
        if option in config[section] and config[section][option] != value
    ]
    if differing:
        message = f"was frozen with other values of {', '.join(differing)}: new cells are labelled by those"
        remedy = "nothing to do; to label all cells by the new values, leave reference.use empty"
        findings.append(Finding("warning", "config", None, key, name, message, remedy))
    return findings
