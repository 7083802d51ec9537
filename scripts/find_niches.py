"""Rule find_niches: niches over all sections of a scope, and the neighbourhood of cell types in each section."""

import anndata as ad

from livermet.files import write_parquet, write_table
from livermet.neighbourhood import scope_neighbourhood
from livermet.niches import find_niches
from livermet.section import section_of
from livermet.snake import job_log

with job_log(snakemake):
    rows = snakemake.params.rows
    sections = [
        section_of(ad.read_h5ad(path), row=row) for path, row in zip(snakemake.input.sections, rows, strict=True)
    ]
    result = find_niches(sections, **snakemake.params.niches, seed=snakemake.params.seed)
    table = scope_neighbourhood(sections, **snakemake.params.neighbourhood, seed=snakemake.params.seed)
    write_table(result.composition, snakemake.output.niches)
    write_parquet(result.labels, snakemake.output.labels)
    write_table(result.stability, snakemake.output.stability)
    write_table(table, snakemake.output.neighbourhood)
