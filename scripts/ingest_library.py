"""Rule ingest_library: the raw files of one library as sparse integer counts, positions in micrometres."""

from livermet.files import write_h5ad
from livermet.readers import ingest_library
from livermet.snake import job_log

with job_log(snakemake):
    params = snakemake.params
    counts = ingest_library(params.row, ingest_config=params.ingest, simulated=params.simulated)
    write_h5ad(counts, snakemake.output.counts)
