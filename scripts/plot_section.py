"""Rule plot_section: one section at a glance: image, abundances, distance, zones, niches, profiles."""

import anndata as ad
import pandas as pd

from livermet.files import read_table
from livermet.plots.spatial import plot_section
from livermet.plots.style import save_figure
from livermet.snake import job_log

with job_log(snakemake):
    niches = read_table(snakemake.input.niches)
    names = niches[niches["definition"] == "composition"].drop_duplicates("niche").set_index("niche")["name"]
    figure = plot_section(
        ad.read_h5ad(snakemake.input.section),
        pd.read_parquet(snakemake.input.profiles),
        title=snakemake.params.title,
        niche_names=names.to_dict(),
        n_types=snakemake.params.n_types,
        margin_um=snakemake.params.spatial["margin_um"],
        min_spots=snakemake.params.min_spots,
    )
    save_figure(figure, snakemake.output.figure, simulated=snakemake.params.simulated)
