"""Whether the raw files of each library can be read as what the tables say they are, before any compute.

The beginning of each file is read by the readers themselves, so that the check says what reading would say; what
only the whole file shows is found when it is read.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from livermet.findings import Finding
from livermet.guarded import run_guarded
from livermet.ingest import CHECK_SECONDS, read_first
from livermet.polygon import read_outline
from livermet.symbols import marker_genes

if TYPE_CHECKING:
    from livermet.study import StudyData

logger = logging.getLogger(__name__)


def check_files(data: StudyData) -> list[Finding]:
    """Open the files of every library, each in a child process that a damaged file may crash.

    Returns
    -------
    One exclusion per library and path that cannot be read as its modality: the library will be excluded with this
    reason, the others go on. A pathologist's outline that cannot be read is an error: the section's border would be
    another one than the study asks for. Paths that do not exist are errors of the tables and not repeated here.
    """
    marker_genes()  # read once here, and not once in each child
    findings = []
    libraries = data.tables["libraries"]
    for given, line in zip(libraries.rows, libraries.lines, strict=True):
        row = data.library_rows[given["library_id"]]
        for column in ("path", "raw_path"):
            if not row[column] or not Path(row[column]).exists():
                continue
            try:
                run_guarded(read_first, row, column, timeout_seconds=CHECK_SECONDS)
            except (ValueError, OSError) as error:
                reason = " ".join(str(error).split()).replace(row[column], given[column])
                if given[column] not in reason:  # as of a crash, which can't say where it was
                    reason = f"{given[column]}: {reason}"
                remedy = "library will be excluded, the others go on: repair the file, or take the library out"
                findings.append(Finding("exclusion", "libraries.tsv", line, column, given[column], reason, remedy))
        findings += _outline_findings(row["boundary_path"], given["boundary_path"], line)
    unread = sum(finding.severity != "warning" for finding in findings)
    logger.info("files of %d libraries opened, %d cannot be read", len(libraries.rows), unread)
    return findings


def _outline_findings(path: str, given: str, line: int) -> list[Finding]:
    """What is wrong with the outline of a library, and what was repaired in it."""
    if not path or not Path(path).exists():
        return []
    place = ("libraries.tsv", line, "boundary_path", given)
    try:
        notes = read_outline(path).notes
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split()).replace(path, given)
        remedy = "repair the file, or leave boundary_path empty: the border is then taken from expression"
        return [Finding("error", *place, reason, remedy)]
    return [Finding("warning", *place, note, "look at the outline in QuPath") for note in notes]
