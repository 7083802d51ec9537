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
from livermet.symbols import marker_genes

if TYPE_CHECKING:
    from livermet.study import StudyData

logger = logging.getLogger(__name__)


def check_files(data: StudyData) -> list[Finding]:
    """Open the files of every library, each in a child process that a damaged file may crash.

    Returns
    -------
    One exclusion per library and path that cannot be read as its modality: the library will be excluded with this
    reason, the others go on. Paths that do not exist are errors of the tables and not repeated here.
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
    logger.info("files of %d libraries opened, %d cannot be read", len(libraries.rows), len(findings))
    return findings
