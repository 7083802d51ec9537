"""What speaks for each cell type and what against it: one row per type, for the report; and how sure is sure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.stats import poisson

from livermet import keys
from livermet.overrides import OVERRIDE
from livermet.transfer import (
    AGREEMENT_COLUMNS,
    COMPARISON_COLUMNS,
    SOURCES,
    Transferred,
    agreement_table,
    comparison_row,
)

LOW_CONFIDENCE = 0.7
# A negative marker counts as present in a cell if ambient RNA alone would bring as many counts this seldom.
CONFLICT_P = 0.01
CONFLICTING_GENES = 2
TYPE_COLUMNS = (
    *("cell_type", "compartment", "n_cells", "share", "n_patients", "n_groups", "n_overridden"),
    *("confidence", "confidence_q25", "n_low_confidence"),
    *("n_markers", "markers_raised", "foreign_raised", "n_negative", "group_conflict", "cell_conflict"),
    *("sister", "sister_log_odds", "doublet_score", "ambient_share"),
    *(f"{source}_{what}" for source in SOURCES for what in ("label", "share")),
)


def reliability(confidence: np.ndarray, correct: np.ndarray, *, n_bins: int = 10) -> pd.DataFrame:
    """Stated confidence against the share that is correct, in bins of equal width.

    Parameters
    ----------
    confidence
        0 to 1; a missing one takes no part.
    correct
        Whether each is correct.
    n_bins
        Number of bins between 0 and 1.

    Returns
    -------
    One row per bin that is not empty: ``bin`` (its lower edge), ``n``, mean ``confidence``, ``accuracy``.
    """
    confidence, correct = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    stated = np.isfinite(confidence)
    confidence, correct = confidence[stated], correct[stated]
    # Rounded, since .3 * 10 falls short of 3.
    code = np.clip(np.floor(np.round(confidence * n_bins, 9)).astype(int), 0, n_bins - 1)
    table = pd.DataFrame({"bin": code / n_bins, "confidence": confidence, "accuracy": correct})
    grouped = table.groupby("bin")
    found = grouped.mean()
    found.insert(0, "n", grouped.size())
    return found.reset_index()


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, *, n_bins: int = 10) -> float:
    """Mean distance between stated confidence and accuracy over bins, weighted by their size (Naeini et al. 2015).

    Parameters are those of :func:`reliability`. Missing without any stated confidence.
    """
    table = reliability(confidence, correct, n_bins=n_bins)
    if table.empty:
        return np.nan
    return float(np.average((table["confidence"] - table["accuracy"]).abs(), weights=table["n"]))


def cell_conflicts(adata: AnnData, markers: pd.DataFrame) -> np.ndarray:
    """Whether each cell holds negative markers of its own type that ambient RNA does not explain.

    A negative marker is present if the cell has more counts of it than ambient RNA would bring (Poisson, p < .01) with
    the gene's share in the ambient RNA of the cell's library. Two present ones are a conflict; a type with a single
    negative marker can't have one.

    Parameters
    ----------
    adata
        Counts with cell_type, library_id, total_counts, and the ambient shares in ``varm["ambient"]``
        (genes x libraries). A library without any (contamination unknown) explains no count.
    markers
        The marker table.

    Returns
    -------
    1 or 0 per cell; missing where fewer than two negative markers of the type are among the genes.
    """
    result = np.full(adata.n_obs, np.nan)
    types = adata.obs[keys.CELL_TYPE].astype(str).to_numpy()
    libraries = adata.obs[keys.LIBRARY].astype(str).to_numpy()
    total = adata.obs[keys.TOTAL_COUNTS].to_numpy(dtype=float)
    counts = sp.csr_matrix(adata.X)
    for name in np.unique(types):
        genes = _measured(markers, name, "negative", adata.var_names)
        if genes.size < CONFLICTING_GENES:
            continue
        cells = np.flatnonzero(types == name)
        seen = counts[cells][:, genes].toarray()
        shares = adata.varm[keys.AMBIENT].iloc[genes].reindex(columns=libraries[cells]).fillna(0.0).to_numpy().T
        present = poisson.sf(seen - 1, shares * total[cells, None]) < CONFLICT_P
        result[cells] = present.sum(axis=1) >= CONFLICTING_GENES
    return result


def _measured(markers: pd.DataFrame, name: str, column: str, genes: pd.Index) -> np.ndarray:
    if name not in markers.index:
        return np.zeros(0, dtype=int)
    at = genes.get_indexer(markers.loc[name, column])
    return np.unique(at[at >= 0])


def summarise_types(
    adata: AnnData, evidence: pd.DataFrame, markers: pd.DataFrame, *, labels: Mapping[str, Transferred]
) -> pd.DataFrame:
    """One row per cell type that the cells hold, with what speaks for it and against it.

    Parameters
    ----------
    adata
        Annotated cells.
    evidence
        ``markers.tsv``: evidence per annotation group and population.
    markers
        The marker table.
    labels
        Labels from elsewhere by source; may be empty.

    Returns
    -------
    DataFrame with ``TYPE_COLUMNS``, most cells first within the order of compartments:

    n_groups
        Annotation groups that hold cells of the type.
    confidence, confidence_q25, n_low_confidence
        Median and lower quartile; cells below .7.
    n_markers, markers_raised
        Markers among the genes, and the share of them raised in the groups of the type's cells.
    foreign_raised
        Share of the markers of types of other compartments raised in the same groups.
    n_negative, group_conflict, cell_conflict
        Negative markers among the genes; share of the type's cells in groups that raise any of them; share of the
        type's cells that hold two of them (:func:`cell_conflicts`).
    sister, sister_log_odds
        The type of the same compartment that comes nearest, and how much better the type's own evidence against its
        sisters is (natural log odds; below zero the sister has more).
    doublet_score, ambient_share
        Medians over the cells; the ambient share is that of their libraries, missing where it is not known.
    reference_label, reference_share, celltypist_label, celltypist_share
        The commonest label from elsewhere and its share of the type's cells.

    Shares of evidence are means over groups weighted by the type's cells in them. For cells without a type
    (unknown, epithelial_uncertain) there is no evidence to show.
    """
    if adata.n_obs == 0:
        return pd.DataFrame(columns=list(TYPE_COLUMNS))
    obs = pd.DataFrame(
        {
            "cell_type": adata.obs[keys.CELL_TYPE].astype(str),
            "compartment": adata.obs[keys.COMPARTMENT].astype(str),
            "patient": adata.obs[keys.PATIENT].astype(str),
            "group": adata.obs[keys.GROUP].astype(str),
            "overridden": adata.obs[keys.LABEL_SOURCE].astype(str) == OVERRIDE,
            "confidence": adata.obs[keys.CONFIDENCE].astype(float),
            "doublet_score": adata.obs[keys.DOUBLET_SCORE].astype(float),
            "conflict": cell_conflicts(adata, markers),
        }
    )
    contamination = adata.varm[keys.AMBIENT].sum()
    known = contamination.where(contamination > 0)
    obs["ambient"] = adata.obs[keys.LIBRARY].astype(str).map(known).astype(float)
    grouped = obs.groupby("cell_type")
    table = pd.DataFrame(
        {
            # Unknown cells may lie in several compartments.
            "compartment": grouped["compartment"].agg(lambda values: values.mode().iloc[0]),
            "n_cells": grouped.size(),
            "share": grouped.size() / len(obs),
            "n_patients": grouped["patient"].nunique(),
            "n_groups": grouped["group"].nunique(),
            "n_overridden": grouped["overridden"].sum(),
            "confidence": grouped["confidence"].median(),
            "confidence_q25": grouped["confidence"].quantile(0.25),
            "n_low_confidence": grouped["confidence"].agg(lambda values: (values < LOW_CONFIDENCE).sum()),
            "n_markers": [_measured(markers, name, "genes", adata.var_names).size for name in grouped.groups],
            "n_negative": [_measured(markers, name, "negative", adata.var_names).size for name in grouped.groups],
            "cell_conflict": grouped["conflict"].mean(),
            "doublet_score": grouped["doublet_score"].median(),
            "ambient_share": grouped["ambient"].median(),
        }
    )
    table = table.join(_type_evidence(obs, evidence))
    for source in SOURCES:
        table = table.join(_commonest(obs, source, labels.get(source)))
    order = list(dict.fromkeys([*markers.loc[markers["level"] == "type", "parent"], keys.UNKNOWN]))
    table["place"] = table["compartment"].map({name: i for i, name in enumerate(order)})
    table.loc[[name for name in table.index if name not in markers.index], "place"] = len(order)
    table = table.rename_axis("cell_type").reset_index()
    table = table.sort_values(["place", "n_cells", "cell_type"], ascending=[True, False, True], kind="stable")
    return table[list(TYPE_COLUMNS)].reset_index(drop=True)


def _type_evidence(obs: pd.DataFrame, evidence: pd.DataFrame) -> pd.DataFrame:
    columns = ["markers_raised", "foreign_raised", "group_conflict", "sister", "sister_log_odds"]
    kinds = evidence.drop_duplicates("population").set_index("population")["compartment"]
    rows = {}
    for name, members in obs.groupby("cell_type")["group"]:
        if name not in kinds.index:
            continue
        weight = members.value_counts()
        part = evidence[evidence["cluster"].isin(weight.index)].copy()
        part["weight"] = part["cluster"].map(weight).astype(float)
        own = part[part["population"] == name]
        foreign = part[part["compartment"] != kinds[name]]
        foreign = foreign.assign(weight=foreign["weight"] * foreign["n_markers"])
        raises_any = own.assign(any_raised=(own["negative_conflict"] > 0).where(own["negative_conflict"].notna()))
        # Groups of another compartment (cells that were called or labelled otherwise) say nothing about sisters.
        within = part[(part["compartment"] == kinds[name]) & part["score_vs_sisters"].notna()]
        scores = within.groupby("population")[["score_vs_sisters", "weight"]].apply(_weighted, "score_vs_sisters")
        sisters = scores.drop(name, errors="ignore")
        best = sisters.idxmax() if len(sisters) and name in scores.index else ""
        rows[name] = (
            _weighted(own, "markers_raised"),
            _weighted(foreign, "markers_raised"),
            _weighted(raises_any, "any_raised"),
            best,
            scores[name] - sisters[best] if best else np.nan,
        )
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _weighted(table: pd.DataFrame, column: str) -> float:
    known = table[table[column].notna()]
    return float(np.average(known[column].astype(float), weights=known["weight"])) if known["weight"].sum() else np.nan


def _commonest(obs: pd.DataFrame, source: str, given: Transferred | None) -> pd.DataFrame:
    columns = [f"{source}_label", f"{source}_share"]
    if given is None or given.reason:
        return pd.DataFrame({columns[0]: "", columns[1]: np.nan}, index=obs["cell_type"].unique())
    table = agreement_table(source, obs["cell_type"].to_numpy(), given.label)
    first = table.drop_duplicates("cell_type").set_index("cell_type")[["label", "share"]]
    return first.set_axis(columns, axis=1)


def compare_sources(
    obs: pd.DataFrame, labels: Mapping[str, Transferred]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Cell types of the workflow beside labels from elsewhere.

    Parameters
    ----------
    obs
        Of the annotated cells.
    labels
        Labels by source; may be empty.

    Returns
    -------
    One row per source (:func:`livermet.transfer.comparison_row`); cells per source, cell type and label
    (:func:`livermet.transfer.agreement_table`); and one row per cell with cell, library_id, cell_type, and label and
    confidence of each source ("" and missing without one).
    """
    types = obs[keys.CELL_TYPE].astype(str).to_numpy().astype(object)
    rows = [comparison_row(source, types, given) for source, given in labels.items()]
    tables = [agreement_table(source, types, given.label) for source, given in labels.items() if not given.reason]
    cells = pd.DataFrame(
        {"cell": obs.index.astype(str), "library_id": obs[keys.LIBRARY].astype(str), "cell_type": types}
    )
    for source in SOURCES:
        given = labels.get(source)
        cells[f"{source}_label"] = given.label if given else ""
        cells[f"{source}_confidence"] = given.confidence if given else np.nan
    comparison = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
    agreement = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(AGREEMENT_COLUMNS))
    return comparison, agreement, cells.reset_index(drop=True)
