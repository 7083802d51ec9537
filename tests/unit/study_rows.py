"""Study tables from plain rows, for tests that need no files."""

from __future__ import annotations

from typing import Any

from livermet.study import label_columns
from livermet.tables import TABLES, StudyTable, empty_table


def study_tables(*, labels: dict[str, Any] | None = None, **rows: list[dict[str, Any]]) -> dict[str, StudyTable]:
    """All study tables: the given rows with empty cells for what they leave out; lines count from 2."""
    tables = {}
    for name in TABLES:
        empty = empty_table(name, extra=label_columns(labels or {}) if name == "response" else {})
        missing = {column: "" if schema["type"] == "string" else None for column, schema in empty.columns.items()}
        given = [{**missing, **row} for row in rows.get(name, [])]
        tables[name] = StudyTable(name, None, empty.columns, tuple(given), tuple(range(2, len(given) + 2)))
    return tables
