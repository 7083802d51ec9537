"""Rule plot_integration: scores of the plain and the integrated embedding, and epithelial cells in both."""

import anndata as ad
import pandas as pd

from livermet.files import read_table
from livermet.integration_scores import epithelial_axes
from livermet.plots.integration import plot_integration
from livermet.plots.style import save_figure
from livermet.snake import job_log

with job_log(snakemake):
    tables = [read_table(path).set_index("barcode")["coarse_group"] for path in snakemake.input.groups]
    groups = pd.concat(tables) if tables else pd.Series(dtype=str)
    axes = epithelial_axes(ad.read_h5ad(snakemake.input.cells, backed="r"), groups, seed=snakemake.params.seed)
    figure = plot_integration(read_table(snakemake.input.scores), axes)
    save_figure(figure, snakemake.output.figure, simulated=snakemake.params.simulated)
