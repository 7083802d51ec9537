"""Rule plot_prediction: models beside their permutation null, each centre by the others, and calibration."""

from livermet.files import read_table
from livermet.plots.prediction import plot_calibration, plot_models
from livermet.plots.style import save_figure
from livermet.snake import job_log

with job_log(snakemake):
    given, out, params = snakemake.input, snakemake.output, snakemake.params
    predictors = read_table(given.predictors)
    drawn = {
        out.models: plot_models(predictors, read_table(given.null)),
        out.calibration: plot_calibration(predictors, read_table(given.predictions)),
    }
    for path, figure in drawn.items():
        save_figure(figure, path, simulated=params.simulated, blind=params.blind)
