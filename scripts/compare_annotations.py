"""Rule compare_annotations: evidence for each cell type, beside labels of a reference and of a CellTypist model."""

from pathlib import Path

import anndata as ad

from livermet.annotation_summary import compare_sources, summarise_types
from livermet.files import read_table, write_parquet, write_table
from livermet.markers import load_markers
from livermet.snake import job_log
from livermet.transfer import celltypist_labels, read_reference, transfer_labels

with job_log(snakemake):
    cells = ad.read_h5ad(snakemake.input.cells)
    params, labels = snakemake.params, {}
    if params.reference:
        reference, names = read_reference(Path(params.reference), labels=params.reference_labels, seed=params.seed)
        labels["reference"] = transfer_labels(cells, reference, names, seed=params.seed)
    if params.celltypist_model:
        labels["celltypist"] = celltypist_labels(cells, Path(params.celltypist_model))
    types = summarise_types(cells, read_table(snakemake.input.markers), load_markers(), labels=labels)
    comparison, agreement, per_cell = compare_sources(cells.obs, labels)
    write_table(types, snakemake.output.types)
    write_table(comparison, snakemake.output.comparison)
    write_table(agreement, snakemake.output.agreement)
    write_parquet(per_cell, snakemake.output.labels)
