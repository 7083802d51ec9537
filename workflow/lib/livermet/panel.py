"""Cell types of segmented cells (Xenium, CosMx, MERSCOPE), from the panel's genes and profiles of annotated cells."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.special import logsumexp

from livermet import keys

logger = logging.getLogger(__name__)

# Genes that panel and reference must share.
MIN_GENES = 30
# Part of a cell's counts that segmentation takes from its surroundings, and that belongs to no type in particular.
SPILL = 0.1
# Counts of a cell are overdispersed and spill over from its neighbours: its likelihood counts for this much.
LIKELIHOOD_WEIGHT = 0.3
# Log odds below which a typical cell of one type passes as one of another.
CONFUSABLE = 3.0
ROUNDS = 10
# Rounds in which the factor between the platforms is found, and counts that draw the factor of a gene towards one.
PLATFORM_ROUNDS = 3
PLATFORM_COUNTS = 50
CONFUSION_COLUMNS = ("cell_type", "confused_with", "log_odds")


@dataclass(frozen=True)
class Labels:
    """Types of segmented cells and what they rest on.

    ``probabilities``: cells x ``types``, float32; rows sum to 1, or are NaN for a cell without counts in shared genes.
    ``cell_type``, ``compartment``: the label, "unknown" where the panel does not tell; ``confidence``: its probability.
    ``confusable``: one row per ordered pair of types between which the panel does not decide in a cell of median
    depth (``CONFUSION_COLUMNS``). ``n_genes``: shared genes. ``reason``: "" or why there are no labels.
    """

    types: tuple[str, ...]
    probabilities: np.ndarray
    cell_type: np.ndarray
    compartment: np.ndarray
    confidence: np.ndarray
    confusable: pd.DataFrame
    n_genes: int
    reason: str


def label_cells(
    counts: sp.csr_matrix,
    genes: Iterable[str],
    profiles: AnnData,
    *,
    compartments: Mapping[str, str],
    min_confidence: float,
) -> Labels:
    """Type of each segmented cell by the multinomial likelihood of its counts over the shared genes.

    The likelihood of a cell under each type's profile, mixed with ``SPILL`` of the section's mean, is weighted by how
    frequent the type is in the section. Frequencies, and the factor by which the platform sees each gene more or less
    than the reference does, are found in turn with the types. The approach is that of InSituType (Danaher et al. 2022
    bioRxiv, doi:10.1101/2022.10.19.512902) with fixed profiles, and with the platform factor of RCTD (Cable et al.
    2022). Where types are too alike over the panel, their cells share the probability and stay ``unknown``, with the
    compartment if it is clear.

    Parameters
    ----------
    counts
        Cells x genes, integer counts.
    genes
        Names of the columns.
    profiles
        One profile per type (:func:`livermet.deconvolve.profiles_of_patient`).
    compartments
        Compartment of each type.
    min_confidence
        Probability (0 to 1) that a stated type, or compartment, needs.
    """
    gene_index = pd.Index(genes)
    types = tuple(str(name) for name in profiles.obs_names)
    shared = np.flatnonzero(profiles.var_names.isin(gene_index))
    n_cells = counts.shape[0]
    reason = ""
    if n_cells == 0:
        reason = "the section holds no cells"
    elif profiles.n_obs == 0:
        reason = f"no reference profiles: {profiles.uns.get(keys.META, {}).get('reason', '')}"
    elif len(shared) < MIN_GENES:
        reason = f"panel and reference share {len(shared)} genes, {MIN_GENES} needed"
    if reason:
        logger.info("labels: none, %s", reason)
        unknown = np.full(n_cells, keys.UNKNOWN, dtype=object)
        return Labels(
            types=types,
            probabilities=np.full((n_cells, len(types)), np.nan, dtype=np.float32),
            cell_type=unknown,
            compartment=unknown.copy(),
            confidence=np.zeros(n_cells),
            confusable=pd.DataFrame(columns=list(CONFUSION_COLUMNS)),
            n_genes=len(shared),
            reason=reason,
        )
    matrix = sp.csr_matrix(counts[:, gene_index.get_indexer(profiles.var_names[shared])])
    shares = np.asarray(profiles.X, dtype=np.float64)[:, shared] + 1e-6
    shares /= shares.sum(axis=1, keepdims=True)
    depth = np.asarray(matrix.sum(axis=1)).ravel()
    counted = depth > 0
    posterior, seen = _posterior(matrix[counted], depth[counted], shares)
    probabilities = np.full((n_cells, len(types)), np.nan, dtype=np.float32)
    probabilities[counted] = posterior

    names = np.asarray(types, dtype=object)
    kinds = pd.Series([compartments.get(name, name) for name in types])
    by_kind = np.nan_to_num(probabilities) @ pd.get_dummies(kinds).to_numpy(dtype=np.float32)
    kind_names = np.asarray(sorted(kinds.unique()), dtype=object)
    best, best_kind = np.nan_to_num(probabilities).argmax(axis=1), by_kind.argmax(axis=1)
    rows = np.arange(n_cells)
    confidence = np.nan_to_num(probabilities)[rows, best].astype(float)
    stated = confidence >= min_confidence
    kind_stated = by_kind[rows, best_kind] >= min_confidence
    result = Labels(
        types=types,
        probabilities=probabilities,
        cell_type=np.where(stated, names[best], keys.UNKNOWN).astype(object),
        compartment=np.where(
            stated, kinds.to_numpy(dtype=object)[best], np.where(kind_stated, kind_names[best_kind], keys.UNKNOWN)
        ).astype(object),
        confidence=confidence.round(4),
        confusable=_confusable(seen, types, depth=float(np.median(depth[counted])) if counted.any() else 0.0),
        n_genes=len(shared),
        reason="",
    )
    logger.info(
        "labels: %d cells by %d genes, %.1f %% unknown; %d pairs of types alike",
        n_cells,
        len(shared),
        100 * (~stated).mean(),
        len(result.confusable),
    )
    return result


def _posterior(counts: sp.csr_matrix, depth: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability of each type for each cell (cells x types), and the profiles as this section sees them."""
    section = np.asarray(counts.sum(axis=0), dtype=np.float64).ravel() + 1e-3
    platform = np.ones(len(section))
    frequency = np.full(len(shares), 1 / len(shares))
    posterior = np.zeros((counts.shape[0], len(shares)))
    for _ in range(PLATFORM_ROUNDS):
        seen = shares * platform
        seen = (1 - SPILL) * seen / seen.sum(axis=1, keepdims=True) + SPILL * section / section.sum()
        evidence = LIKELIHOOD_WEIGHT * np.asarray(counts @ np.log(seen).T)
        for _ in range(ROUNDS):
            posterior = evidence + np.log(frequency)
            posterior = np.exp(posterior - logsumexp(posterior, axis=1, keepdims=True))
            frequency = (posterior.sum(axis=0) + 1) / (len(posterior) + len(shares))
        expected = (depth @ posterior) @ shares
        platform = (section + PLATFORM_COUNTS) / (expected + PLATFORM_COUNTS)
    return posterior, seen


def _confusable(shares: np.ndarray, types: tuple[str, ...], *, depth: float) -> pd.DataFrame:
    """Pairs of types whose expected log odds in a cell of a given depth are below ``CONFUSABLE``."""
    own = (shares * np.log(shares)).sum(axis=1)
    odds = LIKELIHOOD_WEIGHT * depth * (own[:, None] - shares @ np.log(shares).T)
    first, second = np.nonzero((odds < CONFUSABLE) & ~np.eye(len(types), dtype=bool))
    names = np.asarray(types, dtype=object)
    table = pd.DataFrame(
        {"cell_type": names[first], "confused_with": names[second], "log_odds": odds[first, second].round(2)},
        columns=list(CONFUSION_COLUMNS),
    )
    return table.sort_values(["log_odds", "cell_type"], kind="stable", ignore_index=True)


def add_labels(section: AnnData, labels: Labels) -> None:
    """Put label, compartment and confidence of each cell into obs, in place; and what the panel confuses into ``uns``.

    ``uns["livermet"]`` gets ``confusable`` (JSON list of rows) and ``n_label_genes``.
    """
    section.obs[keys.COMPARTMENT] = pd.Categorical(labels.compartment)
    section.obs[keys.CELL_TYPE] = pd.Categorical(labels.cell_type)
    section.obs[keys.CONFIDENCE] = labels.confidence
    section.uns[keys.META] = dict(section.uns.get(keys.META, {})) | {
        "confusable": json.dumps(labels.confusable.to_dict("records")),
        "n_label_genes": labels.n_genes,
    }


def probability_table(labels: Labels, barcodes: Iterable[str], *, least: float = 0.05) -> pd.DataFrame:
    """Long table of the types that a cell may be: barcode, cell_type, abundance (probability of at least ``least``),
    ci_low and ci_high (not known, NaN).
    """
    rows, columns = np.nonzero(np.nan_to_num(labels.probabilities) >= least)
    return pd.DataFrame(
        {
            "barcode": np.asarray(list(barcodes), dtype=object)[rows],
            "cell_type": np.asarray(labels.types, dtype=object)[columns],
            "abundance": labels.probabilities[rows, columns],
            "ci_low": np.full(len(rows), np.nan, dtype=np.float32),
            "ci_high": np.full(len(rows), np.nan, dtype=np.float32),
        }
    )
