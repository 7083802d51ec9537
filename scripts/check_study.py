"""Rule check_study: list every finding on the study at once; write the checked tables and labels if it can be used."""

from pathlib import Path

import pandas as pd

from livermet.blinding import blind_findings, blind_tables
from livermet.check import check_study
from livermet.files import write_table
from livermet.findings import Finding, findings_frame, raise_on_errors
from livermet.protocol import deviations
from livermet.snake import job_log
from livermet.study import read_study
from livermet.tables import TABLES

with job_log(snakemake):
    params, output = snakemake.params, snakemake.output
    data = read_study(Path(params.study), trial=params.trial, labels=params.labels, **params.reading)
    # Findings on the trial file and the overlays come as params; those on the tables are found here again.
    setup = [Finding(**finding) for finding in params.setup]
    checked = check_study(
        data, setup=setup, trial=params.trial, declared=params.labels, primary=params.primary, blind=params.blind
    )
    write_table(findings_frame(checked.findings), snakemake.log.findings)  # logs stay, also when this fails
    raise_on_errors(checked.findings)
    frames, findings = data.frames(), checked.findings
    if checked.exchanged is not None:
        frames = blind_tables(frames, checked.exchanged, checked.derived.labels)
        findings = blind_findings(findings)
    for name, path in zip(TABLES, output.tables, strict=True):
        write_table(frames[name], path)
    write_table(checked.derived.labels, output.labels)
    write_table(checked.derived.recist, output.recist)
    write_table(pd.DataFrame([data.consent]), output.consent)
    write_table(deviations(data.tables, checked.findings), output.deviations)
    write_table(findings_frame(findings), output.findings)
