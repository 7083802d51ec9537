"""Rule label_section: the section that people open, with abundances, distance, zones and niches."""

import anndata as ad
import pandas as pd

from livermet.files import write_h5ad
from livermet.section import label_section
from livermet.snake import job_log

with job_log(snakemake):
    section = ad.read_h5ad(snakemake.input.section)
    labels = pd.read_parquet(snakemake.input.labels)
    write_h5ad(label_section(section, labels), snakemake.output.section, compression="gzip")
