"""Rule summarise_malignant: malignant cells of each patient, their arms, subtypes and states."""

import anndata as ad

from livermet import keys
from livermet.files import read_table, write_table
from livermet.malignant import summarise_malignant, summarise_pdac_arms
from livermet.markers import states_of
from livermet.snake import job_log

with job_log(snakemake):
    cells = ad.read_h5ad(snakemake.input.cells)
    arms = read_table(snakemake.input.arms)
    table = summarise_malignant(
        cells,
        arms,
        cells.layers[keys.CORRECTED],
        states=states_of()[keys.MALIGNANT_TYPE],
        min_state_z=snakemake.params.min_state_z,
        **snakemake.params.malignant,
        seed=snakemake.params.seed,
    )
    write_table(table, snakemake.output.table)
    write_table(summarise_pdac_arms(arms), snakemake.output.pdac)
