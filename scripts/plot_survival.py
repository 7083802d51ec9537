"""Rule plot_survival: Kaplan-Meier curves with numbers at risk, and hazard ratios with intervals."""

from livermet.files import read_table
from livermet.plots.style import save_figure
from livermet.plots.survival import plot_curves, plot_hazards
from livermet.snake import job_log

with job_log(snakemake):
    given, params, figures = snakemake.input, snakemake.params, snakemake.output
    table, curves = read_table(given.survival), read_table(given.curves)
    drawn = {
        figures.curves: plot_curves(
            curves, table, endpoints=params.survival["endpoints"], primary_label=params.response["primary_label"]
        ),
        figures.hazards: plot_hazards(table, fdr=params.response["fdr"]),
    }
    for path, figure in drawn.items():
        save_figure(figure, path, simulated=params.simulated, blind=params.blind)
