"""Rule collect_status: one line per library of a scope, with what became of it and why."""

from livermet.files import read_json, write_table
from livermet.h5read import read_names
from livermet.snake import job_log
from livermet.status import status_table, unlike_genes

with job_log(snakemake):
    given, params = snakemake.input, snakemake.params
    statuses = [read_json(path) for path in given.statuses]
    genes = {library: read_names(path, "var") for library, path in zip(params.cells, given.cells, strict=True)}
    kept = {status["library_id"] for status in statuses if status["status"] == "ok"}
    unlike = unlike_genes({name: genes[name] for name in genes if name in kept}, min_shared=params.min_genes_shared)
    write_table(status_table(statuses, params.rows, unlike=unlike), snakemake.output.table)
