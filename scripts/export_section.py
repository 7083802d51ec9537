"""Rule export_section: a labelled section as SpatialData."""

import anndata as ad

from livermet.export import to_spatialdata, write_zarr
from livermet.snake import job_log

with job_log(snakemake):
    section = ad.read_h5ad(snakemake.input.section)
    write_zarr(to_spatialdata(section, library=snakemake.params.library), snakemake.output.zarr)
