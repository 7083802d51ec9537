"""livermet: the whole path from the libraries of a liver-metastasis study to patient-level evidence on response."""

import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.27")

HOME = Path(workflow.basedir)
LIBRARY_PATH = HOME / "workflow" / "lib"
sys.path.insert(0, str(LIBRARY_PATH))
# Scripts run in processes of their own: they take livermet from this folder too, and hash in the same order.

from livermet.findings import format_findings
from livermet.study import load_study

os.environ.update(
    PYTHONPATH=os.pathsep.join(p for p in (str(LIBRARY_PATH), os.environ.get("PYTHONPATH")) if p), PYTHONHASHSEED="0"
)


configfile: HOME / "config" / "config.yaml"


STUDY = load_study(config, workdir=Path.cwd(), files=workflow.configfiles)
if any(finding.table == "config" and finding.severity == "error" for finding in STUDY.findings):
    raise WorkflowError(format_findings(STUDY.findings))


pathvars:
    results=config["results"],
    logs=f"{config['results']}/logs",
    benchmarks=f"{config['results']}/benchmarks",


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


wildcard_constraints:
    scope="|".join(map(re.escape, STUDY.scopes)) or "(?!)",
    library="|".join(map(re.escape, STUDY.libraries("cohort", "all"))) or "(?!)",


include: "workflow/rules/study.smk"
include: "workflow/rules/ingest.smk"
include: "workflow/rules/qc.smk"
include: "workflow/rules/integrate.smk"
include: "workflow/rules/annotate.smk"
include: "workflow/rules/reference.smk"
include: "workflow/rules/malignant.smk"
include: "workflow/rules/spatial.smk"
include: "workflow/rules/niches.smk"
include: "workflow/rules/invasion.smk"
include: "workflow/rules/interactions.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/response.smk"
include: "workflow/rules/survival.smk"
include: "workflow/rules/biomarkers.smk"
include: "workflow/rules/prediction.smk"
include: "workflow/rules/checklist.smk"
include: "workflow/rules/differential.smk"
include: "workflow/rules/report.smk"


if config["export"]:

    include: "workflow/rules/export.smk"


if config["reference"]["use"]:

    include: "workflow/rules/mapping.smk"


onstart:
    stamp_results()
    forget_withdrawn()


onsuccess:
    record_look()


onerror:
    keep_findings()
    record_look()


rule all:
    default_target: True
    input:
        final_results(),
