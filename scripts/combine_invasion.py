"""Rule combine_invasion: the sections' tables of invasion as those of the scope, with the tests over patients."""

import pandas as pd

from livermet import invasion, moran, profiles, tail
from livermet.files import write_parquet, write_table
from livermet.snake import job_log

with job_log(snakemake):
    columns = {
        "programmes": invasion.SECTION_COLUMNS,
        "tail": [*invasion.IDENTITY, *tail.TAIL_COLUMNS],
        "curve": [*invasion.IDENTITY, *tail.CURVE_COLUMNS],
        "vessels": [*invasion.IDENTITY, *tail.VESSEL_COLUMNS],
        "genes": [*invasion.IDENTITY, *moran.GENE_COLUMNS],
        "profiles": [*invasion.IDENTITY, *invasion.PROFILE_COLUMNS],
    }
    tables = {
        name: invasion.stacked([pd.read_parquet(path) for path in snakemake.input[name]], wanted)
        for name, wanted in columns.items()
    }
    patients = invasion.combine_patients(tables["programmes"])
    tests = invasion.programme_tests(patients, scope=snakemake.wildcards.scope, **snakemake.params.tests)
    output = snakemake.output
    write_table(patients, output.patients)
    write_table(tests, output.tests)
    write_table(tables["tail"], output.tail)
    write_table(tables["vessels"], output.vessels)
    write_table(moran.combine_genes(tables["genes"]), output.genes)
    write_parquet(tables["curve"], output.curves)
    write_parquet(tables["programmes"], output.sections)
    write_parquet(tables["genes"], output.gene_sections)
    write_parquet(profiles.combine_profiles(tables["profiles"]), output.profiles)
