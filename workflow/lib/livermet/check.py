"""The whole check of a study: tables, raw files and, where the tables are right, the labels made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from livermet.blinding import blind_labels, blind_recist, exchange
from livermet.filecheck import check_files
from livermet.findings import Finding, errors
from livermet.labels import Derived, derive_labels, nesting_findings
from livermet.study import StudyData


@dataclass(frozen=True)
class Checked:
    """Every finding on a study, and what was derived from its tables; None where they have errors.

    ``exchanged`` says of a blinded run whose outcome went to whom; None in an open one.
    """

    findings: tuple[Finding, ...]
    derived: Derived | None
    exchanged: Mapping[str, str] | None = None


def check_study(
    data: StudyData,
    *,
    setup: Iterable[Finding],
    trial: Mapping[str, Any],
    declared: Mapping[str, Mapping[str, Any]],
    primary: str,
    blind: int | None = None,
) -> Checked:
    """Check a study as it was read.

    Parameters
    ----------
    data
        The tables as read, with what was found in them.
    setup
        What was found elsewhere: config, trial file, overlays.
    trial
        The protocol's rules.
    declared
        Further label columns of response.tsv, as declared in the config.
    primary
        Name of the primary label.
    blind
        Seed by which labels and evaluations change places between patients of a centre; None: they stay.
    """
    findings = [*setup, *data.findings, *check_files(data)]
    if errors(findings):
        return Checked(tuple(findings), None)
    derived = derive_labels(data.tables, declared=declared, trial=trial)
    findings += derived.findings
    exchanged = None
    if blind is not None:
        centres = {row["patient_id"]: row["centre"] for row in data.tables["patients"].rows}
        exchanged = exchange(centres, seed=blind)
        hidden = {"labels": blind_labels(derived.labels, exchanged), "recist": blind_recist(derived.recist, exchanged)}
        derived = replace(derived, **hidden)
    findings += nesting_findings(derived.labels, primary=primary, rows=data.library_rows)
    return Checked(tuple(findings), derived, exchanged)
