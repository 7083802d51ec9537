"""Rule plot_differential: fold changes and p of all genes per cell type, and activity of gene sets."""

from livermet.files import read_table
from livermet.plots.differential import plot_activity, plot_volcano
from livermet.plots.style import save_figure
from livermet.snake import job_log

with job_log(snakemake):
    given, params = snakemake.input, snakemake.params
    tests = read_table(given.tests)
    words = {"label": params.primary_label, "fdr": params.fdr}
    drawn = {
        snakemake.output.volcano: plot_volcano(read_table(given.genes), tests, **words),
        snakemake.output.activity: plot_activity(
            read_table(given.contrast), read_table(given.activity), tests, **words
        ),
    }
    for path, figure in drawn.items():
        save_figure(figure, path, simulated=params.simulated, blind=params.blind)
