"""Helpers of the workflow: the study as read from its tables, params of libraries and scopes, resources."""

import re
import shutil
from datetime import UTC, datetime
from functools import cache

from livermet import digest, looks
from livermet.blinding import folder_refusal, stamp_folder
from livermet.files import forget_library

SIMULATED = STUDY.simulated
SCOPE = config["scope"]
config["simulated"] = SIMULATED  # for the description of the Snakemake report, which sees the config alone
RESULTS_STAMP = Path(config["results"]) / ".workdir"
LEDGER = Path(config["results"]) / "study" / "looks.tsv"

if RESULTS_STAMP.is_file() and RESULTS_STAMP.read_text().strip() != str(Path.cwd()):
    raise WorkflowError(
        f"{config['results']} was made from the working directory {RESULTS_STAMP.read_text().strip()}, where Snakemake "
        f"keeps its memory of these results; from {Path.cwd()} it would answer 'nothing to be done' whatever changed. "
        f"Remedy: run from there (--directory), or choose another results folder; if you moved the whole working "
        f"directory, delete {RESULTS_STAMP}."
    )

if mixed := folder_refusal(config["results"], blind=config["blind"]):
    raise WorkflowError(mixed)


def stamp_results():
    """Leave in the results the working directory that remembers how they were made; say which executor runs."""
    RESULTS_STAMP.parent.mkdir(parents=True, exist_ok=True)
    RESULTS_STAMP.write_text(f"{Path.cwd()}\n")
    stamp_folder(config["results"], blind=config["blind"])
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


@cache
def current_state():
    """The state of the data that a test of the primary label sees, from the tables as they now are."""
    from livermet.labels import derive_labels  # here, since it imports pandas and only the jobs of response need it

    response, tables = config["response"], STUDY.data.tables
    derived = derive_labels(tables, declared=config["labels"], trial=STUDY.trial)
    measured = looks.measured_patients(scope_rows("cohort", "all"), tables["blood"].rows, config=response)
    seen = {"label": response["primary_label"], "endpoints": config["survival"]["endpoints"], "measured": measured}
    return looks.data_state(derived.labels.to_dict("records"), **seen)


def earlier_states(scope):
    """Other states of the data that were looked at unblinded, by the ledger in these results; none of a batch.

    The present state is not among them, so that its own entry makes no job run again.
    """
    ledger = [] if config["blind"] or STUDY.has_errors or scope != "cohort" else looks.read_rows(LEDGER)
    return looks.other_states(ledger, current_state()) if ledger else []


def earlier_looks(scope):
    """How many other states of the data were looked at unblinded."""
    return len(earlier_states(scope))


def record_look():
    """Add a line to the ledger where this run has shown a test of the primary label on new data or by a new config.

    After a failure too: what was tested before it lies in the results, for everyone to see.
    """
    if config["blind"] or STUDY.has_errors or SCOPE != "cohort" or not looks.was_seen(config["results"], SCOPE):
        return
    time = datetime.now(UTC).isoformat(timespec="seconds")
    ledger = looks.with_look(looks.read_rows(LEDGER), current_state(), response=config["response"], time=time)
    if ledger:
        looks.write_ledger(ledger, LEDGER)


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
