"""Rule test_survival: hazard ratios of features and of facts at the landmark, or refusals; Kaplan-Meier curves."""

import pandas as pd

from livermet.compared import patient_design
from livermet.files import read_table, write_table
from livermet.landmark import read_course, trial_rules
from livermet.snake import job_log
from livermet.survival import Setting, compare_survival, survival_curves

with job_log(snakemake):
    given, params = snakemake.input, snakemake.params
    labels, patients = read_table(given.labels), read_table(given.patients)
    places = {name: params.response[name] for name in ("timepoints", "tissues")}
    design = patient_design(patients, params.libraries, **places)
    dated = map(read_table, (given.recist, given.reported, given.treatment, given.local_treatment))
    shared = {"config": params.survival, "response": params.response, "goes_with": params.goes_with}
    looks = {"scope": snakemake.wildcards.scope, "earlier_looks": params.earlier_looks}
    setting = Setting(seed=params.seed, **looks, **shared)
    course, options = read_course(*dated, patients), {"setting": setting, "rules": trial_rules(params.trial)}
    features = pd.read_parquet(given.features)
    write_table(compare_survival(features, labels, design, course, **options), snakemake.output.survival)
    write_table(survival_curves(labels, design, course, **options), snakemake.output.curves)
