"""Rule build_reference: mean expression of each cell type, once per scope, for the deconvolution of sections."""

import anndata as ad

from livermet.deconvolve import reference_profiles
from livermet.files import write_h5ad
from livermet.snake import job_log

with job_log(snakemake):
    options = snakemake.params.reference
    reference = reference_profiles(
        ad.read_h5ad(snakemake.input.cells),
        min_cells=options["min_reference_cells"],
        min_malignant_cells=options["min_malignant_cells"],
        split_states=options["split_states"],
    )
    write_h5ad(reference, snakemake.output.reference)
