"""Time and memory of each rule, from the benchmark files that Snakemake writes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def read_benchmarks(folder: Path) -> pd.DataFrame:
    """Benchmark files below a folder, one row per job.

    Parameters
    ----------
    folder
        A results folder's ``benchmarks``: a folder per rule with a TSV per job.

    Returns
    -------
    DataFrame with columns ``rule``, ``seconds`` (wall time), ``cpu_seconds`` and ``peak_mb`` (resident memory of the
    job's processes; missing for jobs that end before Snakemake has looked once).

    Raises
    ------
    ValueError
        If there are no benchmark files.
    """
    files = sorted(folder.glob("*/**/*.tsv"))
    if not files:
        raise ValueError(f"{folder}: no benchmark files; run the workflow first")
    jobs = []
    for path in files:
        job = pd.read_csv(path, sep="\t", na_values=["-", "NA"]).iloc[0]
        jobs.append((path.relative_to(folder).parts[0], job["s"], job["cpu_time"], job["max_rss"]))
    return pd.DataFrame(jobs, columns=["rule", "seconds", "cpu_seconds", "peak_mb"])


def summarise_benchmarks(jobs: pd.DataFrame) -> pd.DataFrame:
    """Jobs, seconds and peak memory per rule, the costliest rule first; the last row sums over all rules."""
    rules = jobs.groupby("rule").agg(
        jobs=("seconds", "size"),
        seconds=("seconds", "sum"),
        slowest=("seconds", "max"),
        cpu_seconds=("cpu_seconds", "sum"),
        peak_mb=("peak_mb", "max"),
    )
    rules = rules.sort_values("seconds", ascending=False, kind="stable")
    rules.loc["all rules"] = [
        rules["jobs"].sum(),
        rules["seconds"].sum(),
        rules["slowest"].max(),
        rules["cpu_seconds"].sum(),
        rules["peak_mb"].max(),
    ]
    return rules.astype({"jobs": int}).round({"seconds": 1, "slowest": 1, "cpu_seconds": 1, "peak_mb": 0}).reset_index()
