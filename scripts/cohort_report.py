"""Rule cohort_report: the report of a scope, and the index of its folder."""

from pathlib import Path

import pandas as pd

from livermet.files import read_json, read_table, write_text
from livermet.report import CohortInputs, cohort_page, index_files, index_page
from livermet.snake import job_log

with job_log(snakemake):
    given, params, scope = snakemake.input, snakemake.params, snakemake.wildcards.scope
    tables = {Path(path).stem: read_table(path) for path in given.study_tables}
    # The study and the scope have findings of their own, in files of the same name.
    renamed = {"findings": "scope_findings"}
    tables |= {renamed.get(Path(path).stem, Path(path).stem): read_table(path) for path in given.scope_tables}
    common = {"scope": scope, "title": params.report["title"], "simulated": params.simulated}
    inputs = CohortInputs(
        **common,
        tables={**tables, "features": pd.read_parquet(given.features)},
        verdict=read_json(given.verdict),
        figures={Path(path).stem: Path(path).read_bytes() for path in given.figures},
        sections={Path(path).stem: Path(path).read_bytes() for path in given.sections},
        captions=params.captions,
        drawn=params.drawn,
        params=params.config,
        run=read_json(given.run),
    )
    write_text(cohort_page(inputs), snakemake.output.report)
    files = index_files(params.libraries, mapped=bool(params.config["reference"]["use"]))
    write_text(index_page(**common, files=files, blinded=params.config["blind"]), snakemake.output.index)
