"""Rule record_run: inputs with checksums, config, versions, machine and commit of a scope's results."""

from pathlib import Path

from livermet.files import write_json
from livermet.h5read import read_uns
from livermet.provenance import file_sha256, git_commit, run_record
from livermet.snake import job_log

with job_log(snakemake):
    ingested = [read_uns(path, "livermet") for path in snakemake.input.counts]
    record = run_record(
        scope=snakemake.wildcards.scope,
        libraries={meta["library_id"]: meta for meta in ingested},
        tables={Path(path).name: file_sha256(path) for path in snakemake.input.tables},
        config=snakemake.params.config,
        overlays=snakemake.params.overlays,
        simulated=snakemake.params.simulated,
        commit=git_commit(snakemake.scriptdir),
    )
    write_json(record, snakemake.output.record)
