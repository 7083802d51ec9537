"""Findings: what is wrong or noteworthy in the config, the study tables and the raw files, listed all at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SEVERITIES = ("error", "exclusion", "deviation", "warning")
SHOWN_CHARACTERS = 400


@dataclass(frozen=True)
class Finding:
    """One problem, with its place and the way out.

    An ``error`` stops the run before any compute, an ``exclusion`` costs one library while the others go on, a
    ``deviation`` is a departure from the protocol, a fact that stops nothing, and neither does a ``warning``.
    ``table`` is a study table, "config" or a file; ``row`` counts lines of the file with the header as line 1, and is
    None where the finding is not about a row. ``rule`` names the rule of the study (V01 to V20) where one fired.
    """

    severity: str
    table: str
    row: int | None
    column: str
    value: str
    message: str
    remedy: str
    rule: str = ""

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"finding of severity {self.severity!r}: expected one of {', '.join(SEVERITIES)}")


COLUMNS = ("severity", "rule", *(field.name for field in fields(Finding) if field.name not in ("severity", "rule")))


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that stop a run."""
    return [finding for finding in findings if finding.severity == "error"]


def format_findings(findings: Iterable[Finding]) -> str:
    """One text table of all findings, errors first, and a last line with their number.

    Findings of the same severity keep their order. A very long text is cut.
    """
    findings = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
    if not findings:
        return "no findings"
    cells = [COLUMNS, *(tuple(_shown(getattr(finding, name)) for name in COLUMNS) for finding in findings)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(COLUMNS) - 2)]
    # The two sentences at the end are long: aligning them would only push the remedy out of sight.
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), " -> ".join(row[-2:])])
        for row in cells
    ]
    counts = [(sum(finding.severity == severity for finding in findings), severity) for severity in SEVERITIES]
    return "\n".join([*lines, ", ".join(f"{n} {severity}{'s' * (n != 1)}" for n, severity in counts if n)])


def _shown(value: object) -> str:
    text = "" if value is None else str(value).replace("\n", " ")
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def raise_on_errors(findings: Iterable[Finding]) -> None:
    """Stop with the whole list when it holds an error.

    Raises
    ------
    ValueError
        With all findings, warnings too, as one table.
    """
    findings = list(findings)
    if errors(findings):
        raise ValueError(f"the study cannot be used as it is:\n{format_findings(findings)}")


def findings_frame(findings: Iterable[Finding]) -> pd.DataFrame:
    """The findings as a table, errors first; with its columns also when there are none."""
    import pandas as pd

    ordered = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
    return pd.DataFrame([asdict(finding) for finding in ordered], columns=list(COLUMNS)).astype({"row": "Int64"})


def closest(word: str, options: Iterable[str]) -> str | None:
    """The option that a misspelt word most likely meant, regardless of case, or None."""
    folded = {option.casefold(): option for option in options}
    match = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.7)
    return folded[match[0]] if match else None


def allowed(options: Iterable[Any]) -> str:
    """The allowed values, for a remedy."""
    return " or ".join(", ".join(str(option) for option in options).rsplit(", ", 1))
