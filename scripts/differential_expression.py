"""Rule differential_expression: genes and gene sets between the classes of the primary label, per cell type."""

from pathlib import Path

import anndata as ad
import h5py
import pandas as pd

from livermet import keys
from livermet.activity import contrast_activity
from livermet.differential import differential_expression
from livermet.files import read_table, write_table
from livermet.gene_sets import read_gene_sets
from livermet.pseudobulk import pseudobulk
from livermet.response import patient_design
from livermet.snake import job_log

with job_log(snakemake):
    given, params, options = snakemake.input, snakemake.params, dict(snakemake.params.differential)
    response, labels = params.response, read_table(given.labels)
    sets = read_gene_sets(options.pop("gene_sets"))
    options["ambient"] = {}
    for path in given.libraries:
        with h5py.File(path) as library:
            options["ambient"][Path(path).parent.name] = ad.io.read_elem(library["var"])[keys.AMBIENT]
    options["ambient"] = pd.DataFrame(options["ambient"]).fillna(0.0)
    profiles, left_out = pseudobulk(ad.read_h5ad(given.cells), min_cells=options.pop("min_cells"))
    places = {name: response[name] for name in ("timepoints", "tissues")}
    design = patient_design(read_table(given.patients), params.libraries, **places)
    question = {"labels": labels, "patients": design, "response": response}
    asked = {"goes_with": params.goes_with, "scope": snakemake.wildcards.scope}
    asked["earlier_looks"] = params.earlier_looks
    genes, tests = differential_expression(profiles, left_out, **question, **asked, **options)
    write_table(genes, snakemake.output.genes)
    write_table(tests, snakemake.output.tests)
    activity = read_table(given.activity)
    contrast = contrast_activity(activity, genes, tests, sets, **question, seed=params.seed)
    write_table(contrast, snakemake.output.contrast)
