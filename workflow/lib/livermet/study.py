"""The study as its tables and config describe it: checked rows, scopes, overlays, and the files of each library.

Nothing here writes, and nothing reads the content of a raw file; pandas is imported only where a DataFrame is asked
for, since every job of a run loads the study again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livermet.config import DEFAULT_CONFIG, PROJECT, load_yaml, merge_config, schema_findings, validate_config
from livermet.findings import Finding, allowed, closest, errors
from livermet.keys import CELL_MODALITIES, SPATIAL_MODALITIES
from livermet.privacy import PATH_KEYS, config_findings, identifier_in, mask
from livermet.protocol import protocol_findings, timed_samples
from livermet.sources import library_sources
from livermet.tables import (
    PATH_COLUMNS,
    REQUIRED_TABLES,
    SUFFIXES,
    TABLES,
    StudyTable,
    empty_table,
    read_study_table,
    table_path,
    table_schema,
)

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

COHORT = "cohort"
# Folders of the results beside those of the scopes.
RESERVED_NAMES = ("libraries", "study", "logs", "benchmarks")
MARKER = "SIMULATED"
ROW_COLUMNS = (
    "library_id",
    "sample_id",
    "patient_id",
    "centre",
    "cohort",
    "sex",
    "batch",
    "modality",
    "chemistry",
    "timepoint",
    "tissue",
    "method",
    "lesion_id",
    "region",
)
# Micrometres per pixel of a slide image; positions in an h5ad may count in spots or in micrometres.
PIXEL_UM = (0.1, 2.0)
TABLE_SUFFIXES = (*SUFFIXES, ".txt", ".xlsx", ".xls", ".ods")
CONSENT_COLUMNS = ("enrolled", "withdrawn", "no_omics")


@dataclass(frozen=True)
class StudyData:
    """What the folder of study tables holds: every table of the study, absent ones without rows, and all findings.

    ``consent`` counts the patients as given (enrolled), those who withdrew, and those without consent to omics;
    ``withdrawn`` are the libraries of both, whose earlier results have to go. ``bin_um`` is the size of the
    bins that are taken of Visium HD sections.
    """

    folder: Path
    tables: Mapping[str, StudyTable]
    simulated: bool
    findings: tuple[Finding, ...]
    consent: Mapping[str, int]
    withdrawn: tuple[str, ...] = ()
    bin_um: int | None = None

    def frames(self) -> dict[str, pd.DataFrame]:
        """All tables as typed DataFrames."""
        return {name: table.frame() for name, table in self.tables.items()}

    @cached_property
    def library_rows(self) -> dict[str, dict[str, Any]]:
        """Each library joined with its sample and patient, paths absolute or ""."""
        patients = {row["patient_id"]: row for row in self.tables["patients"].rows}
        samples = {row["sample_id"]: row for row in self.tables["samples"].rows}
        rows = {}
        for library in self.tables["libraries"].rows:
            sample = samples[library["sample_id"]]
            joined = {**patients[sample["patient_id"]], **sample, **library}
            row = {name: joined[name] for name in ROW_COLUMNS}
            row |= {name: absolute(library[name], self.folder) for name in PATH_COLUMNS}
            row |= {name: library[name] for name in ("pixel_um", "expected_cells")}
            row["bin_um"] = self.bin_um if row["modality"] == "visium_hd" else None
            rows[library["library_id"]] = row
        return rows


@dataclass(frozen=True)
class Study:
    """A study ready to be worked on, or the findings that say why it is not.

    ``trial`` holds the protocol's rules, ``overlays`` the batch overlays by batch.
    """

    config: Mapping[str, Any]
    data: StudyData
    trial: Mapping[str, Any]
    overlays: Mapping[str, Mapping[str, Any]]
    findings: tuple[Finding, ...]

    @property
    def simulated(self) -> bool:
        """Whether the study is a simulated one: its folder holds the marker file SIMULATED."""
        return self.data.simulated

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """All study tables as typed DataFrames, empty ones too."""
        return self.data.frames()

    @property
    def has_errors(self) -> bool:
        """Whether anything was found that stops a run."""
        return bool(errors(self.findings))

    @property
    def setup_findings(self) -> list[dict[str, Any]]:
        """What was found outside the tables, as plain dicts; as a rule's param they make the check run again."""
        return [asdict(finding) for finding in self.findings if finding not in self.data.findings]

    @cached_property
    def scopes(self) -> dict[str, list[str]]:
        """Library ids by scope: the cohort, then each batch by name."""
        rows = self.data.tables["libraries"].rows
        batches = sorted({row["batch"] for row in rows} - {COHORT, *RESERVED_NAMES})
        members = {batch: [row["library_id"] for row in rows if row["batch"] == batch] for batch in batches}
        return {COHORT: [row["library_id"] for row in rows], **members}

    def libraries(self, scope: str, kind: str) -> list[str]:
        """Library ids of a scope; ``kind`` is "all", "cells" (scrna, snrna) or "spatial"."""
        if scope not in self.scopes:
            raise ValueError(f"scope {scope!r}: not in the study; use {allowed(self.scopes)}")
        kinds = {
            "all": (*CELL_MODALITIES, *SPATIAL_MODALITIES),
            "cells": CELL_MODALITIES,
            "spatial": SPATIAL_MODALITIES,
        }
        return [library for library in self.scopes[scope] if self.data.library_rows[library]["modality"] in kinds[kind]]

    def row(self, library: str) -> dict[str, Any]:
        """All that the tables say of one library, with absolute paths ("" where none) and None for a missing number."""
        return dict(self.data.library_rows[library])

    def rows(self, scope: str, kind: str) -> list[dict[str, Any]]:
        """What later steps need to know of each library of a scope, without paths."""
        rows = (self.data.library_rows[library] for library in self.libraries(scope, kind))
        return [{name: row[name] for name in ROW_COLUMNS} for row in rows]

    def library_config(self, section: str, library: str) -> dict[str, Any]:
        """A section of the config with what the overlay of the library's batch changes, then for the library itself."""
        overlay = self.overlays.get(self.data.library_rows[library]["batch"], {})
        single = overlay.get("library", {}).get(library, {})
        return merge_config(self.config[section], overlay.get(section, {}), single.get(section, {}))

    def files(self, library: str) -> list[str]:
        """Raw files of a library that exist; of a folder that cannot be read as its modality, none."""
        row = self.data.library_rows[library]
        try:
            sources = [source for source in library_sources(row) if source]
        except (ValueError, OSError):
            # The reason is a finding of the check and the status of the library; a file that is copied again counts.
            return [row[name] for name in ("path", "raw_path") if Path(row[name]).is_file()]
        return list(dict.fromkeys(str(file) for source in sources for file in source.files))

    def table_files(self) -> dict[str, str]:
        """Paths of the study tables that exist, by name of the table."""
        paths = {name: table_path(self.data.folder, name) for name in TABLES}
        return {name: str(path) for name, path in paths.items() if path}


def absolute(text: str, folder: Path) -> str:
    """A path of a table as absolute path, "" where there is none; relative ones count from the folder of the table."""
    return os.path.abspath(folder / text) if text else ""


def load_study(config: Mapping[str, Any], *, workdir: str | Path, files: Iterable[str | Path] = ()) -> Study:
    """Read config, trial file, overlays and tables of a study, without side effects.

    Parameters
    ----------
    config
        The merged config.
    workdir
        The folder that relative paths of the config count from.
    files
        The files that the config was merged from, to be read again for what merging hides, such as a key given twice.

    Returns
    -------
    The study; what is wrong is in its ``findings`` and never raised, so that everything is listed at once.
    """
    workdir = Path(workdir)
    findings = [
        *_file_findings(files),
        *validate_config(config),
        *config_findings(config, table="config", allow=config.get("not_personal") or ()),
    ]
    broken = {finding.column.split(".")[0] for finding in findings}

    def value(key: str, fallback: Any) -> Any:
        return fallback if key in broken or key not in config else config[key]

    # Without a folder in the config there is nothing to read; the config's own finding says so.
    data = StudyData(
        workdir, {name: empty_table(name) for name in TABLES}, False, (), dict.fromkeys(CONSENT_COLUMNS, 0)
    )
    allow = value("not_personal", [])
    trial, trial_findings = load_trial(trial_file(value("trial", ""), workdir=workdir), not_personal=allow)
    if "study" not in broken:
        data = read_study(
            workdir / config["study"],
            trial=trial,
            labels=value("labels", {}),
            decimal=value("decimal", "."),
            roots=[workdir / root for root in value("roots", [])],
            not_personal=allow,
            bin_um=value("spatial", {}).get("bin_um"),
        )
    overlays, overlay_findings = {}, []
    if value("batches", ""):
        overlays, overlay_findings = load_overlays(workdir / config["batches"], data, not_personal=allow)
        if not (workdir / config["batches"]).is_dir() and config["batches"] != load_yaml(DEFAULT_CONFIG)["batches"]:
            message = "there is no such folder: no batch overlay is read"
            remedy = "correct the path; it counts from the working directory"
            overlay_findings = [Finding("warning", "config", None, "batches", config["batches"], message, remedy)]
    setup = [*findings, *trial_findings, *overlay_findings]
    annotate = value("annotate", {})
    if any(annotate.get(key) for key in ("overrides", "reference", "celltypist_model")):
        # Here, since most runs name none of these files, and every job loads the study.
        from livermet.overrides import annotation_findings

        setup += annotation_findings(annotate, workdir=workdir, not_personal=allow)
    if value("spatial", {}).get("deconvolution") == "cell2location":
        from livermet.by_cell2location import installed

        if not installed():
            message = "cell2location isn't installed in the Python environment that runs the jobs"
            remedy = "install it there, or set regression"
            setup.append(Finding("error", "config", None, "spatial.deconvolution", "cell2location", message, remedy))
    if value("reference", {}).get("use"):
        from livermet.frozen_files import reference_findings

        setup += reference_findings(config, workdir=workdir, withdrawn=data.withdrawn)
    study = Study(config=config, data=data, trial=trial, overlays=overlays, findings=())
    scope = value("scope", COHORT)
    if scope not in study.scopes:
        message = "is a reserved name" if scope in RESERVED_NAMES else "is no batch of libraries.tsv"
        setup.insert(0, Finding("error", "config", None, "scope", scope, message, f"use {allowed(study.scopes)}"))
    return replace(study, findings=(*map(_masked, setup), *data.findings))


def _masked(finding: Finding) -> Finding:
    """A finding on a config without what may name a person; tables are searched before anything else."""
    if not identifier_in(finding.value, dates=finding.column not in PATH_KEYS):
        return finding
    shown = mask(finding.value)
    return replace(finding, value=shown, message=finding.message.replace(finding.value, shown))


def _file_findings(files: Iterable[str | Path]) -> list[Finding]:
    findings = []
    for path in files:
        try:
            load_yaml(path)
        except ValueError as error:
            findings.append(Finding("error", "config", None, "", Path(path).name, str(error), "correct the file"))
    return findings


def trial_file(name: str, *, workdir: Path) -> Path:
    """Path of the trial file that the config names; the empty name is the protocol of ScanPan 1."""
    return workdir / name if name else PROJECT / "config" / "trials" / "scanpan1.yaml"


def load_trial(path: Path, *, not_personal: Collection[str]) -> tuple[dict[str, Any], list[Finding]]:
    """The protocol's rules; without cohorts, and with findings, where the file cannot be used."""
    try:
        trial = load_yaml(path)
    except ValueError as error:
        return {}, [Finding("error", "config", None, "trial", path.name, str(error), "correct the file or its path")]
    findings = [
        *schema_findings(trial, schema="trial", table=path.name),
        *config_findings(trial, table=path.name, allow=not_personal),
    ]
    if not findings:
        message, remedy = "the window ends before it begins", "give [first day, last day]"
        findings = [
            Finding("error", path.name, None, f"windows.{name}", f"{first} to {last}", message, remedy)
            for name, (first, last) in trial.get("windows", {}).items()
            if first > last
        ]
    return ({} if findings else trial), findings


def load_overlays(
    folder: Path, data: StudyData, *, not_personal: Collection[str]
) -> tuple[dict[str, dict[str, Any]], list[Finding]]:
    """Every batch overlay of a folder, by batch, and what is wrong with them. The folder may be absent."""
    overlays: dict[str, dict[str, Any]] = {}
    findings: list[Finding] = []
    batches = {row["library_id"]: row["batch"] for row in data.tables["libraries"].rows}
    sources: dict[str, str] = {}
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        table = f"{folder.name}/{path.name}"
        try:
            overlay = load_yaml(path)
        except ValueError as error:
            findings.append(Finding("error", table, None, "", "", str(error), "correct the file"))
            continue
        problems = [
            *schema_findings(overlay, schema="batch", table=table),
            *config_findings(overlay, table=table, allow=not_personal),
        ]
        findings += problems
        if problems:
            continue
        batch = overlay["batch"]
        if batch in overlays:
            message = f"the batch has an overlay already, {sources[batch]}"
            findings.append(Finding("error", table, None, "batch", batch, message, "put both into one file"))
            continue
        overlays[batch], sources[batch] = overlay, table
        if batch not in batches.values():
            hint = f"batches are {', '.join(sorted(set(batches.values())))}" if batches else "no batch was read"
            findings.append(Finding("warning", table, None, "batch", batch, "is no batch: nothing changes", hint))
            continue
        for library in overlay.get("library", {}):
            if batches.get(library) != batch:
                where = f"belongs to batch {batches[library]}" if library in batches else "is not in libraries.tsv"
                remedy = f"name libraries of batch {batch} only"
                findings.append(Finding("error", table, None, f"library.{library}", library, where, remedy))
    return overlays, findings


def read_study(
    folder: Path,
    *,
    trial: Mapping[str, Any],
    labels: Mapping[str, Mapping[str, Any]],
    decimal: str = ".",
    roots: Sequence[Path] = (),
    not_personal: Collection[str] = (),
    bin_um: int | None = None,
) -> StudyData:
    """Read and check all study tables of a folder.

    Parameters
    ----------
    folder
        The folder with patients.tsv, samples.tsv, libraries.tsv and whichever other tables there are.
    trial
        The protocol's rules; its cohorts are the allowed ones. Where it is empty the protocol is not checked.
    labels
        Further label columns of response.tsv, as declared in the config.
    decimal
        The decimal mark of the tables, "." or ",".
    roots
        Folders beside ``folder`` that paths of libraries.tsv may lead to.
    not_personal
        Columns (``table.column``) whose values look like identifiers of persons and are none.
    bin_um
        Size of the bins that are taken of Visium HD sections, micrometres.

    Returns
    -------
    Rows that refer to nothing, or whose patient withdrew, are left out, so that every library has a sample and every
    sample a patient; each has its finding. A sample that the protocol counts to another timepoint has that timepoint.
    """
    tables: dict[str, StudyTable] = {}
    findings: list[Finding] = []
    for name in TABLES:
        path = table_path(folder, name)
        extra = label_columns(labels) if name == "response" else {}
        if path:
            tables[name] = read_study_table(path, name=name, extra=extra, decimal=decimal, not_personal=not_personal)
            findings += tables[name].findings
        else:
            tables[name] = empty_table(name, extra=extra)
    findings += _missing_tables(folder)
    findings += _empty_tables(tables)
    for name in TABLES:
        for column, target in table_schema(name)["x-references"].items():
            tables[name], orphans = _without_orphans(tables[name], column, tables[target])
            findings += orphans
    given = [row["library_id"] for row in tables["libraries"].rows]
    tables, counts, consent = _apply_consent(tables)
    findings += consent
    left = {row["library_id"] for row in tables["libraries"].rows}
    if given and not left:
        message, remedy = "no library is left once patients without consent are taken out", "there is nothing to run"
        findings.append(Finding("error", tables["libraries"].file, None, "", "", message, remedy, "V19"))
    withdrawn = tuple(library for library in given if library not in left)
    findings += _lesion_findings(tables)
    findings += _cohort_findings(tables["patients"], trial)
    findings += _batch_findings(tables["libraries"])
    findings += _label_findings(tables["response"], labels)
    findings += _path_findings(tables["libraries"], folder, roots)
    findings += protocol_findings(tables, trial)
    tables["samples"], moved = timed_samples(tables, trial)
    findings += moved
    logger.info("%s: %s", folder.name, ", ".join(f"{name} {len(table.rows)}" for name, table in tables.items()))
    return StudyData(folder, tables, (folder / MARKER).exists(), tuple(findings), counts, withdrawn, bin_um)


def label_columns(labels: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Schemas of the label columns that the config declares."""
    columns: dict[str, dict[str, Any]] = {}
    for name, label in labels.items():
        columns[name] = {"type": "number" if label["kind"] == "continuous" else "string"}
        if label["kind"] == "ordinal":
            columns[name]["enum"] = list(label["levels"])
    return columns


def _missing_tables(folder: Path) -> list[Finding]:
    if not folder.is_dir():
        named = "/".join(folder.parts[-2:])
        message = f"there is no folder {named!r} of study tables"
        remedy = "correct study in the config; a relative path counts from the working directory"
        return [Finding("error", "config", None, "study", named, message, remedy)]
    used = {path.name for name in TABLES if (path := table_path(folder, name))}
    stray = [
        path.name
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES and path.name not in used
    ]
    absent = [name for name in TABLES if not table_path(folder, name)]
    findings = []
    for name in absent:
        if name in REQUIRED_TABLES:
            close = closest(f"{name}.tsv", stray)
            shown = mask(close) if close and identifier_in(close) else repr(close)
            hint = f"save {shown} as {name}.tsv" if close else "add it; config/README.md lists its columns"
            findings.append(Finding("error", f"{name}.tsv", None, "", "", "the table is missing", hint))
    for name in stray:
        if Path(name).stem in TABLES and Path(name).suffix in SUFFIXES:
            message, remedy = f"there is a {Path(name).stem}{SUFFIXES[0]} too", "keep one of them"
            findings.append(Finding("error", name, None, "", "", message, remedy))
            continue
        close = closest(Path(name).stem, absent)
        hint = f"did you mean {close}.tsv? " if close else ""
        remedy = f"{hint}tables are named {allowed(f'{table}.tsv' for table in TABLES)} (or .csv)"
        shown = mask(name) if identifier_in(name) else name
        findings.append(Finding("warning", shown, None, "", "", "the file is no study table: not read", remedy))
    return findings


def _empty_tables(tables: Mapping[str, StudyTable]) -> list[Finding]:
    return [
        Finding("error", tables[name].file, None, "", "", "the table has no rows", "add at least one")
        for name in REQUIRED_TABLES
        if tables[name].path and not tables[name].rows and not errors(tables[name].findings)
    ]


def _without_orphans(table: StudyTable, column: str, target: StudyTable) -> tuple[StudyTable, list[Finding]]:
    """The table without rows whose id does not stand in the table that it refers to.

    An id that the target names in a refused row, and every id if the target could not be read, is not reported again.
    """
    known = {row[column] for row in target.rows}
    findings = []
    for row, line in zip(table.rows, table.lines, strict=True):
        text = row[column]
        if text in known or text in target.mentioned or not target.mentioned:
            continue
        close = closest(text, known)
        if close and close.casefold() == text.casefold():
            remedy = f"write it as there: {close}"
        else:
            remedy = f"add it to {target.file}" + (f", or did you mean {close!r}?" if close else "")
        findings.append(Finding("error", table.file, line, column, text, f"is not in {target.file}", remedy, "V01"))
    return table.keep(row[column] in known for row in table.rows), findings


def _apply_consent(
    tables: dict[str, StudyTable],
) -> tuple[dict[str, StudyTable], dict[str, int], list[Finding]]:
    """Remove patients who withdrew from every table, and the libraries of those who did not consent; count both."""
    patients = tables["patients"]
    counts = dict.fromkeys(CONSENT_COLUMNS, 0) | {"enrolled": len(patients.rows)}
    # The column is optional; where it is given, an empty cell leaves open whether the libraries may be used.
    given = any(row["consent_omics"] for row in patients.rows)
    findings = [
        Finding("error", patients.file, line, "consent_omics", "", "is empty", "say yes, no or withdrawn", "V19")
        for row, line in zip(patients.rows, patients.lines, strict=True)
        if given and not row["consent_omics"]
    ]
    for answer, effect in (("withdrawn", "removed from every table"), ("no", "libraries left out")):
        people = {row["patient_id"] for row in tables["patients"].rows if row["consent_omics"] == answer}
        counts["withdrawn" if answer == "withdrawn" else "no_omics"] = len(people)
        if not people:
            continue
        samples = {row["sample_id"] for row in tables["samples"].rows if row["patient_id"] in people}
        before = {name: len(table.rows) for name, table in tables.items()}
        affected: Iterable[str] = TABLES if answer == "withdrawn" else ("libraries",)
        for name in affected:
            keeps = _keeps(people, samples)
            tables = {**tables, name: tables[name].keep(keeps(row) for row in tables[name].rows)}
        lost = {name: before[name] - len(table.rows) for name, table in tables.items()}
        message = f"patients: {len(people)}, {effect}; libraries lost: {lost['libraries']}"
        if answer == "withdrawn":
            message += f"; samples lost: {lost['samples']}"
        remedy = "nothing to do; the count is carried so that no one is lost silently"
        findings.append(Finding("warning", patients.file, None, "consent_omics", answer, message, remedy, "V19"))
    return tables, counts, findings


def _keeps(people: set[str], samples: set[str]) -> Callable[[Mapping[str, Any]], bool]:
    return lambda row: row.get("patient_id") not in people and row.get("sample_id") not in samples


def _lesion_findings(tables: Mapping[str, StudyTable]) -> list[Finding]:
    """Lesions that a sample or a treatment names although the patient's measurements don't know them."""
    known = {(row["patient_id"], row["lesion_id"]) for row in tables["lesions"].rows}
    if not known:
        return []
    findings = []
    for name, column in (("samples", "lesion_id"), ("local_treatment", "lesion_id"), ("lesions", "related_lesion_id")):
        for row, line in zip(tables[name].rows, tables[name].lines, strict=True):
            if row[column] and (row["patient_id"], row[column]) not in known:
                message = "the patient has no such lesion in lesions.tsv"
                remedy = "correct the id, unless the lesion was never measured"
                findings.append(
                    Finding("warning", tables[name].file, line, column, row[column], message, remedy, "V01")
                )
    return findings


def _cohort_findings(patients: StudyTable, trial: Mapping[str, Any]) -> list[Finding]:
    cohorts = trial.get("cohorts", {})
    findings = []
    for row, line in zip(patients.rows, patients.lines, strict=True):
        if cohorts and row["cohort"] and row["cohort"] not in cohorts:
            close = closest(row["cohort"], cohorts)
            hint = f"did you mean {close!r}? " if close else ""
            remedy = f"{hint}use {allowed(cohorts)}, or declare it in the trial file"
            message = "is not a cohort of the trial file"
            findings.append(Finding("error", patients.file, line, "cohort", row["cohort"], message, remedy))
    return findings


def _batch_findings(libraries: StudyTable) -> list[Finding]:
    findings = []
    spelling: dict[str, str] = {}
    for row, line in zip(libraries.rows, libraries.lines, strict=True):
        batch = row["batch"]
        if batch.casefold() in (COHORT, *RESERVED_NAMES):
            message, remedy = "is a reserved name: a folder of the results has it", "give the batch another name"
        elif spelling.setdefault(batch.casefold(), batch) != batch:
            other = spelling[batch.casefold()]
            message, remedy = f"differs from batch {other} by upper and lower case alone", "use one spelling per batch"
        else:
            continue
        findings.append(Finding("error", libraries.file, line, "batch", batch, message, remedy))
    return findings


def _label_findings(response: StudyTable, labels: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    findings: list[Finding] = []
    if response.path and not response.rows:  # what emptied the table is a finding already
        return findings
    for name, label in labels.items():
        seen = sorted({str(row[name]) for row in response.rows if row[name] not in ("", None)})
        if not seen:
            message, remedy = "the declared label has no value", "add the column to response.tsv, or remove the label"
            findings.append(Finding("warning", response.file, None, name, "", message, remedy))
        elif label["kind"] == "binary":
            reference = [value for value in seen if value != label["positive"]]
            if len(reference) > 1:
                message = f"a binary label with more than two values: {', '.join(seen)}"
                remedy = "use two values, or declare the label as ordinal"
                findings.append(Finding("error", response.file, None, name, "", message, remedy))
            elif label["positive"] not in seen:
                message = f"the positive value {label['positive']!r} never occurs, only {', '.join(seen)}"
                remedy = "correct positive in the config, unless no patient responded"
                findings.append(Finding("warning", response.file, None, name, "", message, remedy))
    return findings


def _path_findings(libraries: StudyTable, folder: Path, roots: Sequence[Path]) -> list[Finding]:
    findings = []
    homes = [os.path.realpath(home) for home in (folder, *roots)]
    users: dict[str, str] = {}
    for row, line in zip(libraries.rows, libraries.lines, strict=True):
        for column in PATH_COLUMNS:
            text = row[column]
            path = absolute(text, folder)
            problem = None
            if text and not _inside(os.path.realpath(path), homes):
                where = "is a link that leads" if _inside(path, homes) else "leads"
                problem = (
                    f"{where} out of the study folder and the declared roots",
                    "put the file there, or declare its folder under roots in the config",
                )
            elif text and not os.path.exists(path):
                slashes = "write paths with /; " if "\\" in text else ""
                problem = ("there is no such file or folder", f"{slashes}relative paths count from this table's folder")
            elif text and column == "path" and users.setdefault(path, row["library_id"]) != row["library_id"]:
                problem = (f"is also the path of library {users[path]}", "give each library its own files")
            elif text and column == "raw_path" and path == absolute(row["path"], folder):
                problem = ("is the same as path", "name the unfiltered counts, or leave it empty")
            if problem:
                findings.append(Finding("error", libraries.file, line, column, text, *problem))
        pixel = row["pixel_um"]
        if pixel is None and row["modality"] in SPATIAL_MODALITIES and row["path"].endswith(".h5ad"):
            message = "is empty, and an h5ad does not tell the unit of its positions"
            remedy = "give micrometres per unit of obsm['spatial']; 1 if it is micrometres already"
            findings.append(Finding("error", libraries.file, line, "pixel_um", "", message, remedy, "V20"))
        if pixel is not None and not row["path"].endswith(".h5ad") and not PIXEL_UM[0] <= pixel <= PIXEL_UM[1]:
            message = f"lies outside {PIXEL_UM[0]} to {PIXEL_UM[1]} micrometres per pixel"
            remedy = "give micrometres per pixel of the full-resolution image, or leave it empty"
            findings.append(Finding("error", libraries.file, line, "pixel_um", f"{pixel:g}", message, remedy, "V20"))
    return findings


def _inside(path: str, homes: Iterable[str]) -> bool:
    """Whether an absolute path lies in one of the folders, or is one."""
    return any(os.path.commonpath([path, home]) == home for home in homes)
