"""Rule integrate_cells: pool the kept cells of a scope, embed and cluster them."""

import anndata as ad
import pandas as pd

from livermet.files import read_table, write_h5ad, write_table
from livermet.integrate import add_umap, cluster, embed, follow_earlier, pool_libraries, read_clusters
from livermet.integration_scores import choose_embedding, score_embeddings
from livermet.snake import job_log

with job_log(snakemake):
    options, output = snakemake.params.integrate, snakemake.output
    rows, seed = snakemake.params.rows, snakemake.params.seed
    status = read_table(snakemake.input.status).set_index("library_id")["status"]
    ok = [status[row["library_id"]] == "ok" for row in rows]
    libraries = [ad.read_h5ad(path) for path, used in zip(snakemake.input.cells, ok, strict=True) if used]
    tables = [read_table(path).set_index("barcode")["coarse_group"] for path in snakemake.input.groups]
    groups = pd.concat(tables) if tables else pd.Series(dtype=str)
    earlier = read_clusters(options["earlier"]) if options["earlier"] else None
    cells = pool_libraries(libraries, rows, min_genes_shared=options["min_genes_shared"])
    names = ("batch_key", "n_hvg", "n_pcs", "n_neighbours")
    cells = embed(cells, **{name: options[name] for name in names}, harmony=options["harmony"] is not False, seed=seed)
    scores = score_embeddings(cells, groups, batch_key=options["batch_key"], seed=seed)
    cells, scores = choose_embedding(cells, scores, harmony=options["harmony"], n_neighbours=options["n_neighbours"])
    cells, resolutions = cluster(
        cells, resolutions=options["resolutions"], n_stability=options["n_stability"], seed=seed
    )
    cells, cluster_names = follow_earlier(cells, earlier)
    if options["umap"]:
        cells = add_umap(cells, seed=seed)
    write_h5ad(cells, output.cells)
    for table, path in ((resolutions, output.clustering), (scores, output.scores), (cluster_names, output.names)):
        write_table(table, path)
