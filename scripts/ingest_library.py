"""Rule ingest_library: the raw files of one library as sparse integer counts, positions in micrometres."""

from livermet.ingest import ingest_library
from livermet.snake import job_log

with job_log(snakemake):
    params = snakemake.params
    ingest_config = params.ingest | {"seed": params.seed}
    ingest_library(params.row, snakemake.output.counts, ingest_config=ingest_config, simulated=params.simulated)
