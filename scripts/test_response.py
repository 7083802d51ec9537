"""Rule test_response: features against the primary label, how far that holds, changes, the design, and the verdict."""

import pandas as pd

from livermet.compared import analysis_set, filter_features, patient_design
from livermet.design import confounding, patient_factors
from livermet.files import read_table, write_json, write_table
from livermet.paired import changes
from livermet.response import associate
from livermet.robustness import robustness
from livermet.snake import job_log
from livermet.verdict import verdict

with job_log(snakemake):
    given, params, out = snakemake.input, snakemake.params, snakemake.output
    features, labels, patients = pd.read_parquet(given.features), read_table(given.labels), read_table(given.patients)
    places = {name: params.response[name] for name in ("timepoints", "tissues")}
    design, asked = patient_design(patients, params.libraries, **places), {"config": params.response}
    run = {**asked, "scope": snakemake.wildcards.scope, "seed": params.seed}
    looks = {"earlier_looks": params.earlier_looks}
    once = {"goes_with": params.goes_with, "signature": params.signature}
    once["deviating"] = set(read_table(given.deviations)["patient_id"])
    found = associate(features, labels, design, **run, **looks, **once)
    firm = robustness(found, features, labels, design, **asked)
    factors = patient_factors(features, patients, params.libraries, read_table(given.treatment), **asked)
    filtered = filter_features(analysis_set(features, **asked), **asked)
    write_table(found, out.associations)
    write_table(firm, out.robustness)
    write_table(changes(features, params.libraries, **run, **looks), out.changes)
    write_table(confounding(factors, labels, **run), out.confounding)
    write_table(filtered[filtered["reason"] != ""], out.filtered)
    said = verdict(found, labels=labels, robustness=firm, scope=run["scope"], **asked)
    write_json(said, out.verdict)
