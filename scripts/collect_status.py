"""Rule collect_status: one line per library of a scope, with what became of it and why, and what its counts tell."""

from livermet.files import read_json, write_table
from livermet.findings import findings_frame
from livermet.h5read import read_names
from livermet.identity import identity_findings
from livermet.snake import job_log
from livermet.status import status_table, unlike_genes

with job_log(snakemake):
    given, params = snakemake.input, snakemake.params
    statuses = [read_json(path) for path in given.statuses]
    genes = {library: read_names(path, "var") for library, path in zip(params.cells, given.cells, strict=True)}
    kept = {status["library_id"] for status in statuses if status["status"] == "ok"}
    unlike = unlike_genes({name: genes[name] for name in genes if name in kept}, min_shared=params.min_genes_shared)
    rows = [row for row in params.rows if row["library_id"] in kept - set(unlike)]
    findings = identity_findings(statuses, rows, max_acinar_percent=params.max_acinar_percent)
    excluded = {finding.value: finding.message for finding in findings if finding.severity == "exclusion"}
    write_table(status_table(statuses, params.rows, left_out=unlike | excluded), snakemake.output.table)
    write_table(findings_frame(findings), snakemake.output.findings)
