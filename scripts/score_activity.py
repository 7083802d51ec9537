"""Rule score_activity: activity of gene sets in each patient's cells of a type; no label enters."""

from pathlib import Path

import anndata as ad
import h5py
import pandas as pd

from livermet import keys
from livermet.activity import profile_activity
from livermet.files import write_table
from livermet.gene_sets import read_gene_sets
from livermet.pseudobulk import pseudobulk
from livermet.snake import job_log

with job_log(snakemake):
    given, options = snakemake.input, dict(snakemake.params.differential)
    sets = read_gene_sets(options.pop("gene_sets"))
    ambient = {}
    for path in given.libraries:
        with h5py.File(path) as library:
            ambient[Path(path).parent.name] = ad.io.read_elem(library["var"])[keys.AMBIENT]
    profiles, _ = pseudobulk(ad.read_h5ad(given.cells), min_cells=options.pop("min_cells"))
    activity = profile_activity(profiles, sets, ambient=pd.DataFrame(ambient).fillna(0.0), **options)
    write_table(activity, snakemake.output.activity)
