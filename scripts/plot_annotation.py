"""Rule plot_annotation: figures of the evidence for each cell type and of the agreement with labels from elsewhere."""

from livermet.files import read_table
from livermet.plots import annotation as plots
from livermet.plots.style import save_figure
from livermet.snake import job_log

with job_log(snakemake):
    comparison, agreement = read_table(snakemake.input.comparison), read_table(snakemake.input.agreement)
    figures = {
        "types": plots.plot_types(read_table(snakemake.input.types)),
        "agreement": plots.plot_agreement(comparison, agreement),
    }
    for name, figure in figures.items():
        save_figure(figure, snakemake.output[name], simulated=snakemake.params.simulated)
