"""Helpers of the workflow: the study as read from its tables, params of libraries and scopes, resources."""

import re
import shutil

from livermet import digest
from livermet.files import forget_library

SIMULATED = STUDY.simulated
SCOPE = config["scope"]
config["simulated"] = SIMULATED  # for the description of the Snakemake report, which sees the config alone
RESULTS_STAMP = Path(config["results"]) / ".workdir"

if RESULTS_STAMP.is_file() and RESULTS_STAMP.read_text().strip() != str(Path.cwd()):
    raise WorkflowError(
        f"{config['results']} was made from the working directory {RESULTS_STAMP.read_text().strip()}, where Snakemake "
        f"keeps its memory of these results; from {Path.cwd()} it would answer 'nothing to be done' whatever changed. "
        f"Remedy: run from there (--directory), or choose another results folder; if you moved the whole working "
        f"directory, delete {RESULTS_STAMP}."
    )


def stamp_results():
    """Leave in the results the working directory that remembers how they were made; say which executor runs."""
    RESULTS_STAMP.parent.mkdir(parents=True, exist_ok=True)
    RESULTS_STAMP.write_text(f"{Path.cwd()}\n")
    print(f"livermet: scope {SCOPE}, executor {workflow.executor_plugin.name}", file=sys.stderr)


def forget_withdrawn():
    """Remove what was computed for libraries of patients who withdrew consent, or gave none to omics."""
    for library in STUDY.data.withdrawn:
        if forget_library(config["results"], library):
            print("livermet: results that hold a library without consent were removed", file=sys.stderr)


def keep_findings():
    """Leave the list of findings where it belongs, though Snakemake takes away the outputs of a job that failed."""
    listed = RESULTS_STAMP.parent / "logs" / "check_study" / "findings.tsv"
    if STUDY.has_errors and listed.is_file():
        kept = RESULTS_STAMP.parent / "study" / "findings.tsv"
        kept.parent.mkdir(exist_ok=True)
        shutil.copyfile(listed, kept)


def script_digest(script):
    """Digest of an entry script and the livermet modules that it reaches: a changed one reruns exactly its rules."""
    return digest.script_digest(HOME / "scripts" / script, library=LIBRARY_PATH)


def libraries(scope, kind):
    """Ids of the libraries in a scope; kind is "all", "cells" or "spatial"."""
    return STUDY.libraries(scope, kind)


def scope_rows(scope, kind):
    """What later steps need to know of each library of a scope, as plain dicts."""
    return STUDY.rows(scope, kind)


def library_row(library):
    """All that the tables say of one library, with absolute paths."""
    return STUDY.row(library)


def library_files(library):
    """Raw files of one library; without the tables being right, nothing is computed, whatever was asked for."""
    if STUDY.has_errors:
        raise WorkflowError(format_findings(STUDY.findings))
    return STUDY.files(library)


def library_config(section, library):
    """A section of the config with the overlays of the library's batch."""
    return STUDY.library_config(section, library)


def study_tables():
    """Study tables that exist, by name; as functions, since braces in a path would be read as wildcards."""
    return {name: (lambda wildcards, path=path: path) for name, path in STUDY.table_files().items()}


def raw_files():
    """Raw files of all libraries that exist."""
    return [file for library in STUDY.libraries("cohort", "all") for file in STUDY.files(library)]


def memory(factor, floor):
    """Memory in MB: a multiple of the input's size, at least a floor, more at each attempt."""
    return lambda wildcards, input, attempt: int(max(floor, factor * input.size_mb) * attempt)


def minutes(n):
    """Run time in minutes, more at each attempt."""
    return lambda wildcards, attempt: n * attempt


def final_results():
    """What a run is asked for: everything of the chosen scope, or the checked tables alone where these have errors."""
    if STUDY.has_errors:
        return ["<results>/study/tables/patients.tsv"]
    scope = f"<results>/{SCOPE}"
    return [
        f"{scope}/index.html",
        f"{scope}/report.html",
        f"{scope}/run.json",
        *(f"{scope}/pages/{library}.html" for library in libraries(SCOPE, "all")),
        *(f"{scope}/sections/{library}/spatial.h5ad" for library in libraries(SCOPE, "spatial")),
        *(f"{scope}/sections/{library}/{library}.zarr" for library in libraries(SCOPE, "spatial") if config["export"]),
    ]
