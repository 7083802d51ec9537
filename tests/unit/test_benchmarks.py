"""Benchmark files of Snakemake become one table per rule."""

import pytest

from livermet.benchmarks import read_benchmarks, summarise_benchmarks

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def test_jobs_are_summed_per_rule(tmp_path):
    for rule, job, seconds, memory in [("qc", "a", 1.0, "100"), ("qc", "b", 3.0, "300"), ("report", "x/y", 2.5, "-")]:
        path = tmp_path / rule / f"{job}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{HEADER}{seconds}\t0:00:01\t{memory}\t1\t1\t1\t0\t0\t90\t{seconds / 2}\n")
    table = summarise_benchmarks(read_benchmarks(tmp_path)).set_index("rule")
    assert table.loc["qc", ["jobs", "seconds", "slowest", "cpu_seconds", "peak_mb"]].tolist() == [2, 4.0, 3.0, 2.0, 300]
    assert table.loc["all rules", "seconds"] == 6.5
    assert table["peak_mb"].isna().tolist() == [False, True, False]


def test_no_files_is_said(tmp_path):
    with pytest.raises(ValueError, match="run the workflow first"):
        read_benchmarks(tmp_path)
