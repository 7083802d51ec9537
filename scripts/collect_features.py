"""Rule collect_features: one long table of features per patient, from cells, sections, interactions and blood."""

import anndata as ad
import pandas as pd

from livermet import features, spatial_features
from livermet.files import read_table, write_parquet, write_table
from livermet.keys import SPATIAL_MODALITIES
from livermet.snake import job_log

with job_log(snakemake):
    given = snakemake.input
    obs = ad.read_h5ad(given.cells, backed="r").obs
    niches = features.with_library_fields(pd.read_parquet(given.niches), snakemake.params.libraries)
    declared, least = snakemake.params.declared, snakemake.params.least
    spots, measures = [], []
    for path in given.sections:
        section = ad.read_h5ad(path)
        spots.append(features.section_spots(section))
        measures.append(spatial_features.section_measures(section, declared, **least))
    spots = features.with_library_fields(features.stack_sections(spots), snakemake.params.libraries)
    tables = {name: read_table(given[name]) for name in ("neighbourhood", "contacts", "growth", "invasion", "tail")}
    libraries = pd.DataFrame([row for row in snakemake.params.libraries if row["modality"] in SPATIAL_MODALITIES])
    table, left_out = features.combine(
        [
            features.composition_features(obs),
            features.malignant_state_features(read_table(given.malignant)),
            features.activity_features(read_table(given.activity), obs),
            features.niche_features(niches),
            features.zone_features(spots, **least),
            spatial_features.declared_features(declared, measures, tables, libraries),
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
