"""Rule score_interactions: ligand-receptor scores to and from malignant cells, per patient."""

from pathlib import Path

import anndata as ad
import h5py
import pandas as pd

from livermet import keys
from livermet.files import read_table, write_table
from livermet.interactions import consensus_resource, load_panel, score_interactions, union_of_pairs
from livermet.snake import job_log

with job_log(snakemake):
    options = dict(snakemake.params.interactions)
    pairs = load_panel(options.pop("panel"))
    if options.pop("full_resource"):
        pairs = union_of_pairs(pairs, consensus_resource())
    ambient = {}
    for path in snakemake.input.libraries:
        with h5py.File(path) as library:
            ambient[Path(path).parent.name] = ad.io.read_elem(library["var"])[keys.AMBIENT]
    table = score_interactions(
        ad.read_h5ad(snakemake.input.cells),
        pairs=pairs,
        ambient=pd.DataFrame(ambient).fillna(0.0),
        neighbourhood=read_table(snakemake.input.neighbourhood),
        seed=snakemake.params.seed,
        **options,
    )
    write_table(table, snakemake.output.table)
