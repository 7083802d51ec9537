"""Labels of the user's own in place of those of the marker table: a small table of clusters, groups or cells."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from livermet import keys
from livermet.findings import Finding, raise_on_errors
from livermet.markers import compartment_of
from livermet.tables import StudyTable, read_study_table

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

MARKERS, OVERRIDE = "markers", "override"
OVERRIDE_COLUMNS = ("row", "target", "kind", "n_cells", "n_changed", "from", "to", "note")
# What is named later wins: a group lies within the cells, a cell within its group.
KINDS = ("cluster", "group", "cell")
MAX_NAMED = 20


def override_labels() -> tuple[str, ...]:
    """Labels that an override may give."""
    return (*compartment_of(), keys.UNKNOWN, keys.UNCERTAIN_EPITHELIAL)


def read_overrides(path: Path, *, not_personal: Collection[str] = ()) -> StudyTable:
    """Read the table of overrides and report everything that is wrong with it.

    Parameters
    ----------
    path
        Table with the columns ``cluster`` or ``cell`` (exactly one of them filled in each row), ``cell_type`` and, if
        wanted, ``note``.
    not_personal
        Columns (``overrides.note``) whose values look like identifiers of persons and are none.

    Returns
    -------
    The rows that can be used, with the findings.
    """
    enum = {"cell_type": {"type": "string", "enum": list(override_labels())}}
    try:
        table = read_study_table(path, name="overrides", extra=enum, not_personal=not_personal)
    except OSError as error:
        remedy = "correct annotate.overrides in the config; a relative path counts from the working directory"
        message = f"cannot be read: {error.strerror}"
        finding = Finding("error", "config", None, "annotate.overrides", path.name, message, remedy)
        return StudyTable("overrides", path, {}, findings=(finding,))
    if not table.rows and not table.findings:
        finding = Finding("warning", table.file, None, "", "", "holds no row: nothing is overridden", "add a row")
        return StudyTable("overrides", path, table.columns, findings=(finding,))
    findings = list(table.findings)
    for row, line in zip(table.rows, table.lines, strict=True):
        given = [column for column in ("cluster", "cell") if row[column]]
        if len(given) != 1:
            message = "names both a cluster and a cell" if given else "names neither a cluster nor a cell"
            remedy = "fill in exactly one of the columns cluster and cell"
            findings.append(Finding("error", table.file, line, "cluster, cell", "", message, remedy))
    return StudyTable("overrides", path, table.columns, table.rows, table.lines, table.mentioned, tuple(findings))


def load_overrides(path: str, *, not_personal: Collection[str] = ()) -> StudyTable | None:
    """The table of overrides for use; None where the config names no file.

    Raises
    ------
    ValueError
        With everything that is wrong with the table.
    """
    if not path:
        return None
    table = read_overrides(Path(path), not_personal=not_personal)
    raise_on_errors(table.findings)
    return table


def annotation_findings(
    annotate: Mapping[str, Any], *, workdir: Path, not_personal: Collection[str] = ()
) -> list[Finding]:
    """What is wrong with the files that the config section ``annotate`` names, before anything is computed.

    Parameters
    ----------
    annotate
        The config section: ``overrides``, ``reference``, ``reference_labels``, ``celltypist_model``.
    workdir
        The folder that relative paths count from.
    not_personal
        Columns whose values look like identifiers of persons and are none.
    """
    findings: list[Finding] = []
    if annotate["overrides"]:
        findings += read_overrides(workdir / annotate["overrides"], not_personal=not_personal).findings
    if annotate["reference"]:
        from livermet.transfer import reference_findings

        findings += reference_findings(workdir / annotate["reference"], labels=annotate["reference_labels"])
    model = annotate["celltypist_model"]
    if model and not (workdir / model).is_file():
        message = "there is no such file; models are never downloaded"
        remedy = "give the path of a model file (.pkl); a relative path counts from the working directory"
        findings.append(
            Finding("error", "config", None, "annotate.celltypist_model", Path(model).name, message, remedy)
        )
    return findings


def apply_overrides(adata: AnnData, table: StudyTable | None) -> AnnData:
    """Give cells the labels of the table, in place.

    A type has the compartment of the marker table; ``malignant_ductal`` makes a cell malignant and any other type
    normal, whatever copy number says. ``epithelial_uncertain`` is epithelial, ``unknown`` has no compartment, and
    with both the malignant call is "ambiguous". The confidence of a cell with a label of the user's is missing: it
    would be that of the marker table. A row for an annotation group wins over one for a cluster, a row for a cell
    over both.

    Parameters
    ----------
    adata
        Cells with cluster, ``annotation_group``, compartment, cell_type, confidence and malignant.
    table
        From :func:`read_overrides`, without errors; None where the user gives none.

    Returns
    -------
    The object, with obs ``label_source`` ("markers" or "override") and ``cell_type_markers``, the type before.

    Raises
    ------
    ValueError
        If a row names a cluster, group or cell that this run does not have.
    """
    obs = adata.obs
    by, _ = _rows_of_cells(obs, table)
    hit = by >= 0
    before = obs[keys.CELL_TYPE].astype(str).to_numpy().astype(object)
    obs[keys.CELL_TYPE_MARKERS] = pd.Categorical(before)
    obs[keys.LABEL_SOURCE] = pd.Categorical(np.where(hit, OVERRIDE, MARKERS), categories=[MARKERS, OVERRIDE])
    if table is None or not hit.any():
        return adata
    compartments = compartment_of() | {keys.UNKNOWN: keys.UNKNOWN, keys.UNCERTAIN_EPITHELIAL: "epithelial"}
    calls = dict.fromkeys(compartments, "normal") | {keys.MALIGNANT_TYPE: "malignant"}
    calls |= dict.fromkeys((keys.UNKNOWN, keys.UNCERTAIN_EPITHELIAL), "ambiguous")
    label = pd.Series([row["cell_type"] for row in table.rows], dtype=object).iloc[by[hit]]
    for column, values in (
        (keys.CELL_TYPE, label),
        (keys.COMPARTMENT, label.map(compartments)),
        (keys.MALIGNANT, label.map(calls)),
    ):
        changed = obs[column].astype(str).to_numpy().astype(object)
        changed[hit] = values.to_numpy()
        obs[column] = pd.Categorical(changed, categories=keys.MALIGNANT_CALLS if column == keys.MALIGNANT else None)
    obs[keys.CONFIDENCE] = np.where(hit, np.nan, obs[keys.CONFIDENCE].to_numpy(dtype=float))
    differs = int((obs[keys.CELL_TYPE].astype(str).to_numpy() != before).sum())
    logger.info("%d cells have the label of %s, for %d of them another one than before", hit.sum(), table.file, differs)
    return adata


def override_table(obs: pd.DataFrame, table: StudyTable | None) -> pd.DataFrame:
    """What each override did.

    Parameters
    ----------
    obs
        Of the cells after :func:`apply_overrides`.
    table
        The same table.

    Returns
    -------
    One row per override: ``row`` of the file, ``target``, ``kind`` (cluster, group or cell), ``n_cells`` that have
    their label by this row (a finer row may take some away), ``n_changed`` of them that had another one, ``from``
    (type: number of cells), ``to`` and ``note``.
    """
    by, targets = _rows_of_cells(obs, table)
    before = obs[keys.CELL_TYPE_MARKERS].astype(str).to_numpy()
    found = []
    for i, (kind, target) in enumerate(targets):
        row, line = table.rows[i], table.lines[i]
        old = pd.Series(before[by == i], dtype=str).value_counts()
        old = old.sort_index().sort_values(ascending=False, kind="stable")
        was = ", ".join(f"{name}: {n}" for name, n in old.items())
        n_changed = int(old.drop(row["cell_type"], errors="ignore").sum())
        found.append((line, target, kind, int(old.sum()), n_changed, was, row["cell_type"], row["note"]))
    return pd.DataFrame(found, columns=list(OVERRIDE_COLUMNS))


def _rows_of_cells(obs: pd.DataFrame, table: StudyTable | None) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Position of the row that each cell has its label from, -1 for none; kind and target of each row."""
    by = np.full(len(obs), -1)
    if table is None:
        return by, []
    names = {
        "cluster": obs[keys.CLUSTER].astype(str).to_numpy(),
        "group": obs[keys.GROUP].astype(str).to_numpy(),
        "cell": obs.index.to_numpy().astype(str),
    }
    places = {kind: pd.Series(np.arange(len(obs))).groupby(values).indices for kind, values in names.items()}
    targets, missing = [], []
    for row, line in zip(table.rows, table.lines, strict=True):
        target = row["cell"] or row["cluster"]
        kinds = ("cell",) if row["cell"] else ("cluster", "group")
        kind = next((kind for kind in kinds if target in places[kind]), "")
        targets.append((kind, target))
        if not kind:
            missing.append(f"row {line}: no {' or '.join(kinds)} {target!r}")
    if missing and len(obs):
        raise ValueError(
            f"{table.file}: {len(missing)} of {len(table.rows)} rows name what this run does not have: "
            f"{'; '.join(missing[:MAX_NAMED])}{' ...' if len(missing) > MAX_NAMED else ''}. Clusters are "
            f"{_span(names['cluster'])} and groups {_span(names['group'])}; their names hold for this scope "
            "and change when libraries are added. Correct or remove these rows"
        )
    for wanted in KINDS:
        for i, (kind, target) in enumerate(targets):
            if kind == wanted:
                by[places[kind][target]] = i
    return by, targets


def _span(names: np.ndarray) -> str:
    ordered = sorted(set(names))
    return f"{ordered[0]} to {ordered[-1]}" if ordered else "none"
