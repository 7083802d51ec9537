"""The record of a run: what went in, with which settings and versions, on which machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

KEY_PACKAGES = (
    "livermet",
    "anndata",
    "harmonypy",
    "infercnvpy",
    "leidenalg",
    "liana",
    "matplotlib",
    "numpy",
    "pandas",
    "scanpy",
    "scikit-learn",
    "scipy",
    "snakemake",
    "squidpy",
    "umap-learn",
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
UNKNOWN = "unknown"
# Keys that say where files lie, or whether labels are true: a blinded run and the open one after it share the checksum.
PLACE_KEYS = ("study", "results", "batches", "trial", "roots", "scope", "blind", "simulated")


def run_record(
    *,
    scope: str,
    libraries: Mapping[str, Mapping[str, Any]],
    tables: Mapping[str, str],
    config: Mapping[str, Any],
    overlays: Mapping[str, Mapping[str, Any]],
    simulated: bool,
    commit: str,
) -> dict[str, Any]:
    """All that is needed to say how the results of a scope came about.

    Parameters
    ----------
    scope
        The set of libraries.
    libraries
        Per library, the ``livermet`` mapping that ingest left in its counts file: ``inputs`` is JSON text with path,
        bytes and sha256 of each raw file; ``reader``, ``modality`` and ``reason`` say how it was read.
    tables
        Checksum of each checked study table.
    config, overlays
        The merged config, and the overlays of each batch.
    simulated
        Whether the study was made by a program.
    commit
        The project's git commit, or "unknown".

    Returns
    -------
    A JSON-ready mapping. ``machine``, ``time`` and ``commit`` may differ between equal runs, the rest may not.
    ``config_sha256`` is that of the settings without places of files and without ``blind``, so that it shows whether an
    unblinded run kept to what was declared; ``response_sha256`` is that of the section ``response`` alone, as in the
    ledger of looks.
    """
    return {
        "scope": scope,
        "simulated": simulated,
        "inputs": {
            library: {
                "modality": meta["modality"],
                "reader": meta["reader"],
                "reason": meta["reason"],
                "files": json.loads(meta["inputs"]),
            }
            for library, meta in sorted(libraries.items())
        },
        "tables": dict(sorted(tables.items())),
        "config": dict(config),
        "config_sha256": canonical_sha256({key: value for key, value in config.items() if key not in PLACE_KEYS}),
        "response_sha256": canonical_sha256(config["response"]),
        "blind": bool(config["blind"]),
        "overlays": dict(overlays),
        "seed": config["seed"],
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in KEY_PACKAGES}},
        "threads": {"per_job": 1, **{name: os.environ.get(name, "") for name in THREAD_VARIABLES}},
        "machine": {
            "system": platform.system(),
            "release": platform.release(),
            "architecture": platform.machine(),
            "processors": os.cpu_count(),
        },
        "commit": commit,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical_sha256(value: Any) -> str:
    """SHA-256 of plain values, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def git_commit(folder: str | Path) -> str:
    """Commit of the working copy that holds a folder, with "+changes" if it was edited; "unknown" without git."""
    try:
        head = _git(folder, "rev-parse", "HEAD")
        return head + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git(folder: str | Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()
