"""Rule collect_status: one line per library of a scope, with what became of it and why."""

from livermet.files import read_json, write_table
from livermet.snake import job_log
from livermet.status import status_table

with job_log(snakemake):
    statuses = [read_json(path) for path in snakemake.input.statuses]
    write_table(status_table(statuses, snakemake.params.rows), snakemake.output.table)
