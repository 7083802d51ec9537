"""Rule plot_qc: what quality control removed from each library of a scope, and what is left."""

from livermet.files import read_json, read_table
from livermet.plots.qc import plot_metrics, plot_waterfall
from livermet.plots.style import save_figure
from livermet.snake import job_log
from livermet.status import scope_statuses

with job_log(snakemake):
    output, simulated = snakemake.output, snakemake.params.simulated
    statuses = scope_statuses(
        [read_json(path) for path in snakemake.input.statuses], read_table(snakemake.input.status)
    )
    tables = {
        status["library_id"]: read_table(path) for status, path in zip(statuses, snakemake.input.tables, strict=True)
    }
    save_figure(plot_waterfall(statuses), output.waterfall, simulated=simulated)
    save_figure(plot_metrics(tables), output.metrics, simulated=simulated)
