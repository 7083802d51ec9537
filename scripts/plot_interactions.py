"""Rule plot_interactions: strongest ligand-receptor edges, each patient a dot."""

from livermet.files import read_table
from livermet.plots.interactions import plot_interactions
from livermet.plots.style import save_figure
from livermet.snake import job_log

with job_log(snakemake):
    figure = plot_interactions(read_table(snakemake.input.table), n_edges=snakemake.params.n_edges)
    save_figure(figure, snakemake.output.figure, simulated=snakemake.params.simulated)
