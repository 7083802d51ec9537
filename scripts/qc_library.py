"""Rule qc_library: whole single cells (or spots) of one library, with the reason of each removal."""

import anndata as ad

from livermet.files import write_h5ad, write_json, write_table
from livermet.qc import qc_library
from livermet.snake import job_log

with job_log(snakemake):
    params, output = snakemake.params, snakemake.output
    counts = ad.read_h5ad(snakemake.input.counts)
    cells, table, status = qc_library(counts, config=params.qc, row=params.row, seed=params.seed)
    write_h5ad(cells, output.cells)
    write_table(table, output.table)
    write_json(status, output.status)
