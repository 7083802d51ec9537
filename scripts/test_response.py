"""Rule test_response: associations of all features with the primary label, what was filtered, and the verdict."""

import pandas as pd

from livermet.files import read_table, write_json, write_table
from livermet.response import analysis_set, associate, filter_features, patient_design
from livermet.snake import job_log
from livermet.verdict import verdict

with job_log(snakemake):
    config, scope = snakemake.params.response, snakemake.wildcards.scope
    features, labels = pd.read_parquet(snakemake.input.features), read_table(snakemake.input.labels)
    design = patient_design(
        read_table(snakemake.input.patients),
        snakemake.params.libraries,
        timepoints=config["timepoints"],
        tissues=config["tissues"],
    )
    associations = associate(
        features,
        labels,
        design,
        config=config,
        goes_with=snakemake.params.goes_with,
        scope=scope,
        seed=snakemake.params.seed,
        deviating=set(read_table(snakemake.input.deviations)["patient_id"]),
    )
    filtered = filter_features(analysis_set(features, config=config), config=config)
    write_table(associations, snakemake.output.associations)
    write_table(filtered[filtered["reason"] != ""], snakemake.output.filtered)
    write_json(verdict(associations, config=config, labels=labels, scope=scope), snakemake.output.verdict)
