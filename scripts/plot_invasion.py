"""Rule plot_invasion: programmes at the margin, tails in the liver, profiles by distance, spatial genes."""

import pandas as pd

from livermet.files import read_table
from livermet.plots import invasion
from livermet.plots.style import save_figure
from livermet.snake import job_log

with job_log(snakemake):
    inputs, params = snakemake.input, snakemake.params
    figures = {
        "forest": invasion.plot_forest(read_table(inputs.patients), read_table(inputs.tests)),
        "tails": invasion.plot_tails(read_table(inputs.tail), pd.read_parquet(inputs.curves)),
        "profiles": invasion.plot_profiles(pd.read_parquet(inputs.profiles), min_spots=params.lines["min_spots"]),
        "genes": invasion.plot_spatial_genes(
            read_table(inputs.genes), pd.read_parquet(inputs.gene_sections), top=params.lines["top"]
        ),
    }
    for name, figure in figures.items():
        save_figure(figure, snakemake.output[name], simulated=params.simulated)
