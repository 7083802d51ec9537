"""Rule test_biomarkers: blood values of each patient over time, against the primary label and against tissue."""

import pandas as pd

from livermet.biomarkers import compare_biomarkers, compare_pairs, tissue_pairs
from livermet.blood_course import blood_series, ca199_rules, measure_courses
from livermet.files import read_table, write_table
from livermet.snake import job_log

with job_log(snakemake):
    given, params, out = snakemake.input, snakemake.params, snakemake.output
    blood, patients = read_table(given.blood), read_table(given.patients)
    courses = read_table(given.treatment), read_table(given.local_treatment)
    features, labels = pd.read_parquet(given.features), read_table(given.labels)
    trial = {"windows": params.trial["windows"], "rules": ca199_rules(params.trial["ca199"])}
    measured = measure_courses(blood, patients, *courses, **trial, min_values=params.biomarkers["kinetics_min_values"])
    common = {"response": params.response, "scope": snakemake.wildcards.scope, "seed": params.seed}
    against = {"options": params.biomarkers, "goes_with": params.goes_with, "earlier_looks": params.earlier_looks}
    pairs = {"pairs": params.biomarkers["tissue_pairs"]}
    values = tissue_pairs(measured, features, **pairs, response=params.response)
    write_table(compare_biomarkers(measured, labels, patients, **common, **against), out.biomarkers)
    write_table(compare_pairs(values, features, patients, **common, **pairs), out.tissue)
    for table, path in ((values, out.pairs), (measured, out.audit), (blood_series(blood, *courses), out.courses)):
        write_table(table, path)
