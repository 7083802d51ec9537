"""Niches: recurring neighbourhoods of cell types over all sections of a scope."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from livermet.section import NO_NICHE, Section

logger = logging.getLogger(__name__)

LABEL_COLUMNS = ("library_id", "barcode", "niche")
NICHE_COLUMNS = ("niche", "name", "cell_type", "mean_abundance", "enrichment", "n_spots", "n_patients")
STABILITY_COLUMNS = ("k", "ari_mean", "ari_sd", "chosen")
# Added to shares before logarithms and ratios: about the smallest share that deconvolution can tell from none.
PSEUDO = 0.005
# A niche counts for a patient who has at least this share of spots in it: one stray spot makes no niche general.
MIN_SHARE_OF_PATIENT = 0.05


@dataclass(frozen=True)
class Niches:
    """Labels per spot, composition per niche, stability per k, and "" or why there are none."""

    labels: pd.DataFrame
    composition: pd.DataFrame
    stability: pd.DataFrame
    reason: str


def neighbourhoods(abundance: np.ndarray, graph: sp.csr_matrix, *, rings: int, own_weight: float) -> np.ndarray:
    """Composition of the neighbourhood of each spot: its own, and the mean of its neighbours, ring by ring.

    Parameters
    ----------
    abundance
        Spots x types.
    graph
        Neighbours, 0/1.
    rings
        How far the neighbourhood reaches, in spots.
    own_weight
        Weight of the spot itself against 1 for the mean of all other spots within ``rings``; a cluster of cells
        smaller than a spot would drown in an even mean.
    """
    reach = sp.identity(graph.shape[0], dtype=np.float64, format="csr")
    around = reach.copy()
    for _ in range(rings):
        around = around @ (graph + reach)
    around.data[:] = 1
    around = sp.csr_matrix(around)
    around.setdiag(0)
    around.eliminate_zeros()
    degree = np.asarray(around.sum(axis=1)).ravel()
    mean = np.divide(around @ abundance, degree[:, None], out=abundance.astype(np.float64), where=degree[:, None] > 0)
    return (own_weight * abundance + mean) / (own_weight + 1)


def features(composition: np.ndarray, *, lineage_weight: float) -> np.ndarray:
    """Neighbourhood compositions as points for clustering.

    Square roots of shares (Hellinger distance) keep rare types from vanishing beside malignant cells and hepatocytes;
    they are divided by their standard deviation to the power ``lineage_weight``: 0 leaves abundance in charge and
    gives tissue domains, 1 lets each type count alike, noise of rare types included.
    """
    root = np.sqrt(composition)
    sd = root.std(axis=0)
    scale = np.where(sd > 0, sd, 1) ** lineage_weight
    return (root - root.mean(axis=0)) / scale


def _cluster(points: np.ndarray, k: int, seed: int) -> KMeans:
    return KMeans(n_clusters=k, n_init=10, random_state=seed).fit(points)


def stability(points: np.ndarray, *, k_min: int, k_max: int, n_seeds: int, min_ari: float, seed: int) -> pd.DataFrame:
    """How well k-means niches repeat, for each k.

    Each of ``n_seeds`` runs sees a random 80 % of the spots and labels all of them; the score is the adjusted Rand
    index of each pair of runs. Chosen is the largest k whose mean reaches ``min_ari``, so that the finest repeatable
    division is shown; where none does, the k with the highest mean (ties: the smaller).
    """
    rows = []
    for k in range(k_min, k_max + 1):
        labels = []
        for run in range(n_seeds):
            rng = np.random.default_rng([seed, k, run])
            part = rng.choice(len(points), size=max(k, int(0.8 * len(points))), replace=False)
            labels.append(_cluster(points[part], k, int(rng.integers(2**31))).predict(points))
        scores = [adjusted_rand_score(a, b) for i, a in enumerate(labels) for b in labels[i + 1 :]]
        rows.append({"k": k, "ari_mean": float(np.mean(scores)), "ari_sd": float(np.std(scores)), "chosen": 0})
    table = pd.DataFrame(rows, columns=list(STABILITY_COLUMNS))
    good = table.index[table["ari_mean"] >= min_ari]
    table.loc[good[-1] if len(good) else table["ari_mean"].idxmax(), "chosen"] = 1
    return table


def _names(enrichment: pd.DataFrame, mean: pd.DataFrame) -> list[str]:
    """Names by up to three types that are enriched 1.4-fold or more and make up 2 %, else by the most abundant type."""
    names = []
    for niche in enrichment.index:
        score = enrichment.loc[niche][(enrichment.loc[niche] >= 0.5) & (mean.loc[niche] >= 0.02)]
        best = score.sort_values(ascending=False, kind="stable").index[:3]
        names.append(" + ".join(best) if len(best) else f"mixed, mostly {mean.loc[niche].idxmax()}")
    return names


def _empty(reason: str, labels: pd.DataFrame | None = None) -> Niches:
    logger.info("niches: none, %s", reason)
    return Niches(
        labels=pd.DataFrame(columns=list(LABEL_COLUMNS), dtype=str) if labels is None else labels,
        composition=pd.DataFrame(columns=list(NICHE_COLUMNS)),
        stability=pd.DataFrame(columns=list(STABILITY_COLUMNS)),
        reason=reason,
    )


def find_niches(
    sections: Sequence[Section],
    *,
    rings: int,
    own_weight: float,
    lineage_weight: float,
    k_min: int,
    k_max: int,
    n_seeds: int,
    min_ari: float,
    min_spots: int,
    seed: int,
) -> Niches:
    """Niches common to all sections: k-means on neighbourhood compositions (Schuerch et al. 2020 Cell).

    Niches are ordered by size, then name, and labelled "n01", "n02"...; a spot without abundances has niche "none".
    A niche is no finding by itself: it is tested as a fraction per patient.

    Parameters
    ----------
    sections
        Sections with abundances over their own types; a type that a section lacks counts as 0 there.
    min_spots
        Fewest spots with abundances over all sections; below it there are no niches, with the reason.
    rings, own_weight
        See :func:`neighbourhoods`.
    lineage_weight
        See :func:`features`.
    k_min, k_max, n_seeds, min_ari
        See :func:`stability`.
    """
    sections = sorted((s for s in sections if len(s.barcodes)), key=lambda s: s.library_id)
    if not sections:
        return _empty("the scope has no section with spots")
    types = sorted({name for s in sections for name in s.abundance.columns})
    labels = pd.DataFrame(
        {
            "library_id": np.repeat([s.library_id for s in sections], [len(s.barcodes) for s in sections]),
            "barcode": np.concatenate([s.barcodes for s in sections]),
            "niche": NO_NICHE,
        },
        columns=list(LABEL_COLUMNS),
    )
    own, around = [], []
    for section in sections:
        abundance = section.abundance.reindex(columns=types, fill_value=0.0).to_numpy(dtype=np.float64)
        empty = np.isnan(abundance).any(axis=1)
        graph = sp.csr_matrix(section.graph).multiply(~empty[:, None] & ~empty[None, :]).tocsr()
        around.append(neighbourhoods(np.where(empty[:, None], 0, abundance), graph, rings=rings, own_weight=own_weight))
        own.append(abundance)
    own, around = np.vstack(own), np.vstack(around)
    known = ~np.isnan(own).any(axis=1) if types else np.zeros(len(own), dtype=bool)
    if known.sum() < max(min_spots, 2 * k_max):
        return _empty(
            f"{int(known.sum())} spots with abundances in the scope, {max(min_spots, 2 * k_max)} needed", labels
        )
    points = features(around[known], lineage_weight=lineage_weight)
    table = stability(points, k_min=k_min, k_max=k_max, n_seeds=n_seeds, min_ari=min_ari, seed=seed)
    k = int(table.loc[table["chosen"] == 1, "k"].iloc[0])
    code = _cluster(points, k, seed).labels_

    whole = own[known].mean(axis=0)
    mean = pd.DataFrame([own[known][code == j].mean(axis=0) for j in range(k)], columns=types)
    enrichment = np.log2((mean + PSEUDO) / (whole + PSEUDO))
    summary = pd.DataFrame({"name": _names(enrichment, mean), "n_spots": np.bincount(code, minlength=k)})
    order = summary.sort_values(["n_spots", "name"], ascending=[False, True], kind="stable").index
    label_of = {old: f"n{new + 1:02d}" for new, old in enumerate(order)}
    labels.loc[known, "niche"] = [label_of[j] for j in code]
    patients = np.repeat([s.patient_id for s in sections], [len(s.barcodes) for s in sections])[known]
    spread = pd.crosstab(patients, code, normalize="index")
    n_patients = [int((spread[j] >= MIN_SHARE_OF_PATIENT).sum()) for j in range(k)]
    composition = pd.DataFrame(
        [
            {
                "niche": label_of[j],
                "name": summary.loc[j, "name"],
                "cell_type": name,
                "mean_abundance": mean.loc[j, name],
                "enrichment": enrichment.loc[j, name],
                "n_spots": int(summary.loc[j, "n_spots"]),
                "n_patients": n_patients[j],
            }
            for j in order
            for name in types
        ],
        columns=list(NICHE_COLUMNS),
    )
    logger.info("niches: %d sections, %d of %d spots, %d niches", len(sections), known.sum(), len(known), k)
    return Niches(labels=labels, composition=composition, stability=table, reason="")
