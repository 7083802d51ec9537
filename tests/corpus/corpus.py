"""The corpus of bad inputs: one case breaks one thing of a valid study, and says what must follow, in which words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad

from file_study import library
from livermet.check import check_study
from livermet.findings import COLUMNS
from livermet.ingest import ingest_library, read_library
from livermet.keys import CELL_MODALITIES
from livermet.qc import qc_library
from livermet.status import unlike_genes
from livermet.study import Study, load_study
from study_files import study_config

# What a case may lead to; all but the last are findings of that severity, or the reason of a library's exclusion.
EFFECTS = {
    "stops": "error",
    "excludes": "exclusion",
    "deviates": "deviation",
    "warns": "warning",
    "handles": "note",  # read nevertheless, with a note on the library
}


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes
    ----------
    name
        What is wrong, in a few words.
    damage
        Breaks one thing of the valid study in the folder that it is given.
    effect
        One of ``EFFECTS``.
    words
        All stand in one and the same finding, reason or note.
    changes
        What the study's config has otherwise than the default.
    study
        The valid study that is damaged: "tables" (libraries of one cell) or "files" (libraries that pass QC).
    library
        Of a damaged file: the library that it belongs to; all others must be read as if nothing were wrong.
    """

    name: str
    damage: Callable[[Path], object]
    effect: str
    words: tuple[str, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    study: str = "tables"
    library: str = ""


@dataclass(frozen=True)
class Outcome:
    """What the project said: (severity, text) of each finding, reason and note, and the libraries that are left out."""

    messages: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...] = ()

    def answers(self, case: Case) -> bool:
        """Whether the case got its words, with its effect."""
        severity = EFFECTS[case.effect]
        return any(found == severity and all(word in text for word in case.words) for found, text in self.messages)


def try_case(case: Case, folder: Path) -> Outcome:
    """Damage the study in ``folder`` and let the project check it, and read its libraries where these are the point."""
    case.damage(folder)
    study = load_study(study_config(folder, **case.changes), workdir=folder.parent)
    setup = [finding for finding in study.findings if finding not in study.data.findings]
    primary = study.config["response"]["primary_label"]
    checked = check_study(study.data, setup=setup, trial=study.trial, declared=study.config["labels"], primary=primary)
    messages = [(f.severity, " ".join(str(getattr(f, name)) for name in COLUMNS)) for f in checked.findings]
    left_out: list[str] = []
    if case.study == "files" and not study.has_errors:
        said, left_out = _read_libraries(study, case)
        messages += said
    return Outcome(tuple(messages), tuple(left_out))


def _read_libraries(study: Study, case: Case) -> tuple[list[tuple[str, str]], list[str]]:
    """Read all libraries, the case's own as the workflow does: what is said of it, and which are left out.

    Another library that is read otherwise than it was written is an error.
    """
    messages, left_out, genes = [], [], {}
    for name in study.libraries("cohort", "all"):
        row, qc = study.row(name), study.library_config("qc", name)
        ingest = {name: qc[name] for name in ("empty_max_counts", "calling_fdr", "calling_min_counts")} | {"seed": 1}
        if case.library in ("", name):
            path = Path(study.config["results"]) / "libraries" / name / "counts.h5ad"
            ingest_library(row, path, ingest_config=ingest, simulated=False)
            counts = ad.read_h5ad(path)
            _, _, status = qc_library(counts, config=qc, row=row, seed=1)
            messages += [("note", f"{name}: {note}") for note in status["notes"]]
            if status["status"] == "excluded":
                messages.append(("exclusion", f"{name}: {status['reason']}"))
                left_out.append(name)
        else:
            counts = read_library(row, ingest_config=ingest)
        written = library(name).counts
        if name != case.library and (counts.shape != written.shape or (written != counts.X).nnz):
            messages.append(("error", f"{name}: read otherwise than it was written"))
        if name not in left_out and row["modality"] in CELL_MODALITIES:
            genes[name] = counts.var_names
    unlike = unlike_genes(genes, min_shared=study.config["integrate"]["min_genes_shared"])
    messages += [("exclusion", f"{name}: {reason}") for name, reason in unlike.items()]
    return messages, [*left_out, *unlike]
