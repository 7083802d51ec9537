"""Rule predict_response: models of the primary label by nested cross-validation, their null, and the transport test."""

import pandas as pd

from livermet.compared import patient_design
from livermet.files import read_table, write_table
from livermet.predict import predict_response
from livermet.snake import job_log

with job_log(snakemake):
    given, params = snakemake.input, snakemake.params
    patients, response = read_table(given.patients), params.response
    places = {name: response[name] for name in ("timepoints", "tissues")}
    design = patient_design(patients, params.libraries, **places)
    options = {"response": response, "prediction": params.prediction, "goes_with": params.goes_with}
    run = {"scope": snakemake.wildcards.scope, "seed": params.seed, "earlier_looks": params.earlier_looks}
    features, labels = pd.read_parquet(given.features), read_table(given.labels)
    found = predict_response(features, labels, patients, design, **options, **run)
    write_table(found.predictors, snakemake.output.predictors)
    write_table(found.predictions, snakemake.output.predictions)
    write_table(found.null, snakemake.output.null)
