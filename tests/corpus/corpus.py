"""The corpus of bad inputs: one case breaks one thing of a valid study, and says what must follow, in which words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livermet.filecheck import check_files
from livermet.findings import COLUMNS
from livermet.readers import ingest_library
from livermet.study import load_study
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
    findings = [*study.findings, *check_files(study.data)]
    messages = [(f.severity, " ".join(str(getattr(f, name)) for name in COLUMNS)) for f in findings]
    left_out = []
    if case.study == "files" and not study.has_errors:
        for library in study.libraries("cohort", "all"):
            counts = ingest_library(study.row(library), ingest_config={"empty_max_counts": 100}, simulated=False)
            meta = counts.uns["livermet"]
            messages += [("exclusion", meta["reason"])] if meta["reason"] else []
            messages += [("note", f"{library} {meta['notes']}")]
            left_out += [library] if not counts.n_obs else []
    return Outcome(tuple(messages), tuple(left_out))
