"""Rule integrate_cells: pool the kept cells of a scope, embed and cluster them."""

import anndata as ad

from livermet.files import write_h5ad, write_table
from livermet.integrate import add_umap, cluster, embed, pool_libraries
from livermet.snake import job_log

with job_log(snakemake):
    options = snakemake.params.integrate
    seed = snakemake.params.seed
    cells = pool_libraries(
        [ad.read_h5ad(path) for path in snakemake.input.cells],
        snakemake.params.rows,
        min_genes_shared=snakemake.params.min_genes_shared,
    )
    names = ("batch_key", "n_hvg", "n_pcs", "n_neighbours", "harmony")
    cells = embed(cells, **{name: options[name] for name in names}, seed=seed)
    cells, resolutions = cluster(
        cells, resolutions=options["resolutions"], n_stability=options["n_stability"], seed=seed
    )
    if options["umap"]:
        cells = add_umap(cells, seed=seed)
    write_h5ad(cells, snakemake.output.cells)
    write_table(resolutions, snakemake.output.clustering)
