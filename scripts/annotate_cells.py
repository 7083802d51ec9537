"""Rule annotate_cells: compartment, type, state and malignancy of the cells of a scope."""

import anndata as ad

from livermet.annotate import annotate_cells
from livermet.files import write_h5ad, write_table
from livermet.genes import gene_positions
from livermet.markers import load_markers
from livermet.overrides import load_overrides, override_table
from livermet.snake import job_log

with job_log(snakemake):
    options = snakemake.params.annotate
    overrides = load_overrides(options["overrides"], not_personal=snakemake.params.not_personal)
    cells, evidence, arms = annotate_cells(
        ad.read_h5ad(snakemake.input.cells),
        load_markers(),
        gene_positions(),
        annotate=options,
        cnv=snakemake.params.cnv,
        seed=snakemake.params.seed,
        overrides=overrides,
    )
    write_h5ad(cells, snakemake.output.cells)
    write_table(evidence, snakemake.output.markers)
    write_table(arms, snakemake.output.arms)
    write_table(override_table(cells.obs, overrides), snakemake.output.overrides)
