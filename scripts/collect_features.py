"""Rule collect_features: one long table of features per patient, from cells, sections, interactions and blood."""

import anndata as ad
import pandas as pd

from livermet import features
from livermet.files import read_table, write_parquet, write_table
from livermet.snake import job_log

with job_log(snakemake):
    given = snakemake.input
    obs = ad.read_h5ad(given.cells, backed="r").obs
    niches = features.with_library_fields(pd.read_parquet(given.niches), snakemake.params.libraries)
    sections = [features.section_spots(ad.read_h5ad(path, backed="r")) for path in given.sections]
    spots = features.with_library_fields(features.stack_sections(sections), snakemake.params.libraries)
    table, left_out = features.combine(
        [
            features.composition_features(obs),
            features.malignant_state_features(read_table(given.malignant)),
            features.niche_features(niches),
            features.zone_features(spots, min_spots=snakemake.params.min_spots_per_zone),
            features.interaction_features(read_table(given.interactions)),
            features.blood_features(
                read_table(given.blood),
                read_table(given.treatment),
                read_table(given.local_treatment),
                windows=snakemake.params.windows,
            ),
        ]
    )
    write_parquet(table, snakemake.output.features)
    write_table(left_out, snakemake.output.left_out)
