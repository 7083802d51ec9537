"""Rule plot_robustness: effects without each centre, and each pair as a dot for the changes between timepoints."""

import pandas as pd

from livermet.files import read_table
from livermet.paired import differences
from livermet.plots.robustness import plot_changes, plot_robustness
from livermet.plots.style import save_figure
from livermet.snake import job_log

with job_log(snakemake):
    given, figures, config = snakemake.input, snakemake.output, snakemake.params.response
    features = pd.read_parquet(given.features)
    changed = {f"change {a} to {b}": differences(features, a, b, config=config) for a, b in config["changes"]}
    drawn = {
        figures.robustness: plot_robustness(read_table(given.robustness)),
        figures.changes: plot_changes(read_table(given.changes), changed, fdr=config["fdr"]),
    }
    for path, figure in drawn.items():
        save_figure(figure, path, simulated=snakemake.params.simulated, blind=snakemake.params.blind)
