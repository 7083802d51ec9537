"""Rule plot_cells: figures of clusters, annotation, composition and malignancy."""

import anndata as ad

from livermet import keys
from livermet.annotate import marker_expression
from livermet.files import read_table
from livermet.markers import load_markers
from livermet.plots import cells as plots
from livermet.plots.style import save_figure
from livermet.snake import job_log

with job_log(snakemake):
    cells = ad.read_h5ad(snakemake.input.cells)
    reason = str(cells.uns[keys.META]["reason"])
    expression = marker_expression(cells, load_markers(), n_genes=snakemake.params.n_markers)
    limit = snakemake.params.max_cells_plotted
    figures = {
        "umap": plots.plot_umap(cells.obs, cells.obsm.get(keys.UMAP), max_cells=limit, reason=reason),
        "markers": plots.plot_markers(expression, reason=reason),
        "composition": plots.plot_composition(cells.obs, reason=reason),
        "malignancy": plots.plot_malignancy(cells.obs, read_table(snakemake.input.arms), reason=reason),
        "clustering": plots.plot_clustering(read_table(snakemake.input.clustering), reason=reason),
    }
    for name, figure in figures.items():
        save_figure(figure, snakemake.output[name], simulated=snakemake.params.simulated)
