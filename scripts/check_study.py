"""Rule check_study: list every finding on the study at once; write the checked tables and labels if it can be used."""

from pathlib import Path

from livermet.filecheck import check_files
from livermet.files import write_table
from livermet.findings import Finding, findings_frame, raise_on_errors
from livermet.labels import derive_labels
from livermet.snake import job_log
from livermet.study import read_study
from livermet.tables import TABLES

with job_log(snakemake):
    params = snakemake.params
    data = read_study(Path(params.study), trial=params.trial, labels=params.labels)
    # Findings on the trial file and the overlays come as params; those on the tables are found here again.
    setup = [Finding(**finding) for finding in params.setup]
    findings = [*setup, *data.findings, *check_files(data)]
    raise_on_errors(findings)
    frames = data.frames()
    for name, path in zip(TABLES, snakemake.output.tables, strict=True):
        write_table(frames[name], path)
    sd_min_days = params.trial.get("evaluation", {}).get("sd_min_days", 0)
    labels = derive_labels(frames, declared=params.labels, sd_min_days=sd_min_days)
    write_table(labels, snakemake.output.labels)
    write_table(findings_frame(findings), snakemake.output.findings)
