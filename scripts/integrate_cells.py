"""Rule integrate_cells: pool the kept cells of a scope, embed and cluster them."""

import anndata as ad

from livermet.files import read_table, write_h5ad, write_table
from livermet.integrate import add_umap, cluster, embed, pool_libraries
from livermet.snake import job_log

with job_log(snakemake):
    options = snakemake.params.integrate
    seed = snakemake.params.seed
    rows = snakemake.params.rows
    status = read_table(snakemake.input.status).set_index("library_id")["status"]
    libraries = [
        ad.read_h5ad(path)
        for path, row in zip(snakemake.input.cells, rows, strict=True)
        if status[row["library_id"]] == "ok"
    ]
    cells = pool_libraries(libraries, rows, min_genes_shared=options["min_genes_shared"])
    names = ("batch_key", "n_hvg", "n_pcs", "n_neighbours", "harmony")
    cells = embed(cells, **{name: options[name] for name in names}, seed=seed)
    cells, resolutions = cluster(
        cells, resolutions=options["resolutions"], n_stability=options["n_stability"], seed=seed
    )
    if options["umap"]:
        cells = add_umap(cells, seed=seed)
    write_h5ad(cells, snakemake.output.cells)
    write_table(resolutions, snakemake.output.clustering)
