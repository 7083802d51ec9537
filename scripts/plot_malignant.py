"""Rule plot_malignant: subtypes and states of malignant cells, each patient a row."""

from livermet.files import read_table
from livermet.plots.malignant import plot_malignant_states
from livermet.plots.style import save_figure
from livermet.snake import job_log

with job_log(snakemake):
    figure = plot_malignant_states(read_table(snakemake.input.table))
    save_figure(figure, snakemake.output.figure, simulated=snakemake.params.simulated)
