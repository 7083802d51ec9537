"""Rule plot_response: effects of all features with intervals, and each patient as a dot for the confirmatory ones."""

import pandas as pd

from livermet.compared import analysis_set, read_label, tested_values
from livermet.files import read_table
from livermet.plots.response import plot_associations, plot_confirmatory, plot_power
from livermet.plots.style import save_figure
from livermet.snake import job_log

with job_log(snakemake):
    config, figures = snakemake.params.response, snakemake.output
    associations = read_table(snakemake.input.associations)
    values = tested_values(analysis_set(pd.read_parquet(snakemake.input.features), config=config), config=config)
    label = read_label(read_table(snakemake.input.labels), config["primary_label"])
    patients = read_table(snakemake.input.patients).set_index("patient_id")
    drawn = {
        figures.associations: plot_associations(
            associations, alpha=config["alpha"] / config["planned_looks"], fdr=config["fdr"]
        ),
        figures.confirmatory: plot_confirmatory(
            associations, values, label.numbers, patients["centre"], events=label.events
        ),
        figures.power: plot_power(associations),
    }
    for path, figure in drawn.items():
        save_figure(figure, path, simulated=snakemake.params.simulated, blind=snakemake.params.blind)
