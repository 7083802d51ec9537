"""Quality control of one library: which barcodes are whole single cells, and what the ambient solution holds.

Thresholds adapt to the library and, within it, to coarse groups of cells: neutrophils hold few molecules and
hepatocytes many mitochondria, and one global cut deletes either (MacParland et al. 2018 keep liver cells with up to
50 % mitochondrial counts). Everything here is numpy and scipy on sparse counts: packages that are heavy, or compile at
their first call, would cost each library more than the work itself.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds

from livermet import keys
from livermet.ambient import contamination
from livermet.cell_polygons import keep_cells
from livermet.identity import library_evidence
from livermet.markers import load_markers
from livermet.status import DOUBLET, EXCLUDED, HIGH_MITO, LOW_COUNTS, LOW_GENES, OUTLIER_COUNTS, REASONS

logger = logging.getLogger(__name__)

# Populations whose counts differ so much from the rest of their compartment that they need thresholds of their own:
# neutrophils have a few hundred molecules, plasma and red cells put most of theirs into few genes.
OWN_GROUP = ("neutrophil", "plasma", "erythroid", "platelet_mk", "mast")
NO_GROUP = "all"
# Percentage points above the median of its group that a mitochondrial share needs to be an outlier. Most nuclei have no
# mitochondrial count, so that the deviation is zero and the first count of any nucleus would be one (Amezquita et al.,
# Orchestrating Single-Cell Analysis with Bioconductor, on single nuclei).
MIN_MITO_DIFFERENCE = 0.5

# Doublets per 1,000 recovered cells, by the names that Cell Ranger has for chemistries; the first that fits holds. From
# the tables in the user guides of 10x Genomics: 0.4 % for the chips of GEM-X (CG000731) and HT (CG000416), 8 % for LT,
# whose few barcodes collide, 0.8 % for the chips before GEM-X (CG000204, CG000315).
DOUBLETS_PER_1000 = {
    r"SC3Pv[34]HT.*|SC5P.*HT.*": 0.004,
    r"SC3Pv3LT.*": 0.08,
    r"SC3Pv4.*|SC5P.*-v3": 0.004,
    r"SC3Pv[123].*|SC5P.*|ARC-v1|SFRP|threeprime|fiveprime": 0.008,
}
DOUBLETS_PER_1000_ELSE = 0.008

# Sets of made doublets that a score is the mean over, and cells per kind that doublets are made between.
DOUBLET_SETS = 5
CELLS_PER_KIND, MAX_KINDS = 25, 15
# Made doublets that are scored as if they were cells, to learn how many of them the threshold finds.
TRIAL_DOUBLETS = 1000


# Key of the counts that each spot, bin or segmented cell needs.
MIN_COUNTS = {"spot": "min_counts_spot", "bin": "min_counts_bin", "cell": "min_counts_segmented"}


def is_mitochondrial(counts: AnnData) -> np.ndarray:
    """Which genes are transcribed in mitochondria: those whose symbol begins with ``MT-``."""
    return counts.var[keys.SYMBOL].astype(str).str.upper().str.startswith("MT-").to_numpy()


def cell_metrics(counts: AnnData) -> pd.DataFrame:
    """Molecules, genes and mitochondrial share of each barcode.

    Parameters
    ----------
    counts
        Sparse counts with var ``symbol``.

    Returns
    -------
    DataFrame over obs_names: total_counts (int), n_genes (int), pct_mito (percent; NaN for every barcode if the library
    has no gene that begins with ``MT-``, since zero would read as healthy).
    """
    matrix = counts.X
    total = np.asarray(matrix.sum(axis=1, dtype=np.int64)).ravel()
    mito = is_mitochondrial(counts)
    if mito.any():
        in_mito = np.asarray(matrix[:, mito].sum(axis=1, dtype=np.int64)).ravel()
        percent = 100.0 * in_mito / np.maximum(total, 1)
    else:
        percent = np.full(len(total), np.nan)
    return pd.DataFrame(
        {keys.TOTAL_COUNTS: total, keys.N_GENES: np.diff(matrix.indptr), keys.PCT_MITO: percent}, index=counts.obs_names
    )


# --------------------------------------------------------------------------------------------------- embedding


@dataclass(frozen=True)
class Embedding:
    """Principal components of log-normalised counts, fitted on some cells and applicable to others.

    Attributes
    ----------
    genes
        Indices of the variable genes.
    mean
        Mean per variable gene, of log-normalised counts.
    components
        Variable genes x components.
    """

    genes: np.ndarray
    mean: np.ndarray
    components: np.ndarray

    def project(self, matrix: sparse.csr_matrix) -> np.ndarray:
        """Coordinates (cells x components) of counts over all genes."""
        return log_normalise(matrix)[:, self.genes] @ self.components - self.mean @ self.components


def log_normalise(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """log(1 + counts per 10,000)."""
    total = np.asarray(matrix.sum(axis=1)).ravel()
    data = matrix.data * np.repeat(1e4 / np.maximum(total, 1), np.diff(matrix.indptr))
    return sparse.csr_matrix((np.log1p(data), matrix.indices, matrix.indptr), shape=matrix.shape)


def residual_variance(matrix: sparse.csr_matrix, *, theta: float = 100.0) -> np.ndarray:
    """Variance of each gene's Pearson residuals under a negative binomial without biology.

    Method of Lause et al. 2021 (doi:10.1186/s13059-021-02451-7), with their dispersion and clipping: it finds the genes
    that tell cell types apart better than a variance of logged counts does, and needs no matrix of residuals here.
    """
    total = np.asarray(matrix.sum(axis=1)).ravel().astype(float)
    share = np.asarray(matrix.sum(axis=0)).ravel() / max(total.sum(), 1.0)
    expected = np.repeat(total, np.diff(matrix.indptr)) * share[matrix.indices]
    # Squared residual of a zero count is expected / (1 + expected / theta).
    of_zero = expected / (1 + expected / theta)
    residual = (matrix.data - expected) / np.sqrt(expected + expected**2 / theta)
    squared = np.minimum(residual**2, len(total))
    surplus = np.bincount(matrix.indices, weights=squared - of_zero, minlength=matrix.shape[1]).astype(float)
    for block in np.array_split(total, max(1, len(total) // 256)):
        zero = np.outer(block, share)
        surplus += (zero / (1 + zero / theta)).sum(axis=0)
    return surplus / max(len(total), 1)


def fit_embedding(
    matrix: sparse.csr_matrix, *, seed: int, n_genes: int = 1000, max_components: int = 30
) -> Embedding | None:
    """Principal components of log-normalised counts over the most variable genes, which are not scaled.

    As many components are kept as are stronger than the strongest one of the same values shuffled within each gene
    (parallel analysis, Buja and Eyuboglu 1992): in components of noise, neighbours are no neighbours.

    Returns
    -------
    None where fewer than three components can be had.
    """
    cells_with = np.bincount(matrix.indices, minlength=matrix.shape[1])
    variance = np.where(cells_with >= 3, residual_variance(matrix), 0.0)
    ranked = np.argsort(-variance, kind="stable")[: min(n_genes, int((variance > 0).sum()))]
    genes = np.sort(ranked)
    n_components = min(max_components, len(genes) - 1, matrix.shape[0] - 1)
    if n_components < 3:
        return None
    rng = np.random.default_rng(seed)
    values = log_normalise(matrix)[:, genes]
    mean = np.asarray(values.mean(axis=0)).ravel()
    strength, loadings = _components(values, mean, k=n_components, rng=rng)
    by_gene = values.tocsc()
    by_gene.indices = np.concatenate(
        [rng.choice(matrix.shape[0], size=n, replace=False) for n in np.diff(by_gene.indptr)]
    ).astype(by_gene.indices.dtype)
    by_gene.has_sorted_indices = False
    noise, _ = _components(by_gene.tocsr(), mean, k=1, rng=rng)
    kept = max(3, int((strength > noise[0]).sum()))
    return Embedding(genes=genes, mean=mean, components=loadings[:, :kept])


def _components(
    values: sparse.csr_matrix, mean: np.ndarray, *, k: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The k strongest singular values of the centred matrix, strongest first, and their loadings (genes x k)."""
    ones = np.ones(values.shape[0])
    # Centred implicitly: subtracting the mean would make the matrix dense.
    centred = LinearOperator(
        values.shape,
        matvec=lambda v: values @ v - (mean @ v) * ones,
        rmatvec=lambda v: values.T @ v - mean * v.sum(),
        matmat=lambda v: values @ v - np.outer(ones, mean @ v),
        rmatmat=lambda v: values.T @ v - np.outer(mean, v.sum(axis=0)),
        dtype=float,
    )
    _, strength, loadings = svds(centred, k=k, v0=rng.normal(size=min(values.shape)))
    order = np.argsort(-strength)
    return strength[order], loadings[order].T


def nearest(points: np.ndarray, *, queries: np.ndarray, k: int, exclude_self: bool) -> np.ndarray:
    """Indices of the k nearest points (Euclidean, exact) of each query, in no order.

    Brute force in blocks: exact, the same on every run, and without the first-call cost of approximate search.

    Parameters
    ----------
    exclude_self
        Whether query i is point i, which then does not count as its own neighbour.
    """
    squares = (points**2).sum(axis=1)
    found = np.empty((len(queries), k), dtype=np.int64)
    block = max(1, int(2e7) // max(len(points), 1))
    for start in range(0, len(queries), block):
        part = queries[start : start + block]
        distance = squares - 2 * part @ points.T
        if exclude_self:
            rows = np.arange(len(part))
            distance[rows, start + rows] = np.inf
        found[start : start + block] = np.argpartition(distance, k - 1, axis=1)[:, :k]
    return found


# ------------------------------------------------------------------------------------------------ adaptive thresholds


def coarse_groups(counts: AnnData, *, seed: int, n_neighbours: int = 10, min_group: int = 8) -> pd.Series:
    """Lineage of each cell, coarse and cheap: only to compare cells with their like in :func:`flag_cells`.

    Each type of the marker table is scored (mean z-value of its genes found in the library), scores are averaged over a
    cell's nearest neighbours, and the best type gives a first group: its compartment, or the type itself for those in
    ``OWN_GROUP``. Each cell then goes to the group whose mean profile makes its counts most likely (multinomial,
    twice). The profiles leave out cells that have both few counts and many mitochondria, and mitochondrial genes:
    broken cells resemble one another, and would otherwise make a group of their own in which each of them is ordinary.
    A likelihood tells the lineage of a cell with few counts, where distances between cells mostly tell its depth.

    This is no annotation.

    Parameters
    ----------
    counts
        Sparse counts with var ``symbol``.
    seed
        Of the component analysis.
    n_neighbours
        Cells averaged with each cell.
    min_group
        Groups of fewer cells are given up and their cells go to the next likely one.

    Returns
    -------
    Text over obs_names; "all" for every cell where the library has too few marker genes or cells to tell.
    """
    nuclear = counts[:, ~is_mitochondrial(counts)]
    first = _marker_groups(nuclear, seed=seed, n_neighbours=n_neighbours)
    if first is None:
        return pd.Series(NO_GROUP, index=counts.obs_names)
    metrics = cell_metrics(counts)
    few = metrics[keys.TOTAL_COUNTS] <= metrics[keys.TOTAL_COUNTS].quantile(1 / 3)
    much = metrics[keys.PCT_MITO] >= metrics[keys.PCT_MITO].quantile(
        2 / 3
    )  # False throughout without mitochondrial genes
    sound = ~(few & much).to_numpy()
    groups = first
    for _ in range(2):
        names, sizes = np.unique(groups[sound], return_counts=True)
        names = names[sizes >= min_group]
        if len(names) < 2:
            return pd.Series(NO_GROUP, index=counts.obs_names)
        members = sparse.csr_matrix((groups[None, :] == names[:, None]) & sound)
        sums = (members @ nuclear.X).toarray().astype(float)
        background = sums.sum(axis=0) + 1.0
        # One group's profile is smoothed by a thousand counts of the whole library.
        sums += 1000.0 * background / background.sum()
        profiles = np.log(sums / sums.sum(axis=1, keepdims=True))
        groups = names[np.argmax(nuclear.X @ profiles.T, axis=1)]
    return pd.Series(groups, index=counts.obs_names)


def _marker_groups(counts: AnnData, *, seed: int, n_neighbours: int) -> np.ndarray | None:
    """Group of the best marker score of each cell and its neighbours; None where there is too little to tell."""
    markers = load_markers()
    types = markers[markers["level"] == "type"]
    symbols = pd.Index(counts.var[keys.SYMBOL].astype(str))
    place = pd.Series(np.arange(len(symbols)), index=symbols).loc[~symbols.duplicated()]
    found = {name: place.reindex(genes).dropna().astype(int).to_numpy() for name, genes in types["genes"].items()}
    found = {name: genes for name, genes in found.items() if len(genes) >= 3}
    embedding = fit_embedding(counts.X, seed=seed) if counts.n_obs > n_neighbours else None
    if len(found) < 2 or embedding is None:
        return None
    used = np.unique(np.concatenate(list(found.values())))
    values = log_normalise(counts.X)[:, used]
    mean = np.asarray(values.mean(axis=0)).ravel()
    squares = np.asarray(values.multiply(values).mean(axis=0)).ravel()
    # The added constant keeps a gene seen in one cell from deciding it.
    scale = np.sqrt(np.maximum(squares - mean**2, 0.0)) + 0.1
    weights = np.zeros((len(used), len(found)))
    for column, genes in enumerate(found.values()):
        rows = np.searchsorted(used, genes)
        weights[rows, column] = 1 / len(genes) / scale[rows]
    scores = values @ weights - mean @ weights
    coordinates = embedding.project(counts.X)
    neighbours = nearest(coordinates, queries=coordinates, k=n_neighbours, exclude_self=True)
    smoothed = (scores + scores[neighbours].sum(axis=1)) / (n_neighbours + 1)
    names = np.array([name if name in OWN_GROUP else types.loc[name, "parent"] for name in found])
    return names[smoothed.argmax(axis=1)]


def flag_cells(
    metrics: pd.DataFrame,
    groups: pd.Series,
    *,
    nmads_counts: float,
    nmads_genes: float,
    nmads_mito: float,
    max_pct_mito: float,
    min_counts: int,
    min_genes: int,
    min_group: int = 8,
) -> pd.Series:
    """Reason why each cell is no whole cell of good quality, "" where there is none.

    A value is an outlier if it lies more than so many median absolute deviations from the median of its group, on the
    log scale for counts and genes (Germain et al. 2020; Heumos et al. 2023, there with 5 for counts and genes). The
    deviation is that of the group, drawn towards the one within all groups where the group is small. A mitochondrial
    share counts on the arcsine scale, by itself or together with few counts, if it is ``MIN_MITO_DIFFERENCE`` above the
    median. Groups of fewer than ``min_group`` cells
    have no median worth the name: their lower limits are the hard ones, so that a rare kind of small cell stays.

    Parameters
    ----------
    metrics
        As :func:`cell_metrics` gives them.
    groups
        Group of each cell.
    nmads_counts, nmads_genes, nmads_mito
        Number of median absolute deviations (not scaled to standard deviations).
    max_pct_mito
        Above this percentage a cell is removed whatever its group.
    min_counts, min_genes
        Below these a barcode is removed whatever its group.
    min_group
        Smallest group with its own median.

    Returns
    -------
    One of ``REASONS`` or "" per cell: the first that holds, in the order of ``REASONS``.
    """
    groups = groups.to_numpy()
    names, sizes = np.unique(groups, return_counts=True)
    own = np.isin(groups, names[sizes >= min_group])
    pooled = np.where(own, groups, "")
    counts = _deviations(np.log1p(metrics[keys.TOTAL_COUNTS].to_numpy(dtype=float)), pooled)
    genes = _deviations(np.log1p(metrics[keys.N_GENES].to_numpy(dtype=float)), pooled)
    percent = metrics[keys.PCT_MITO].to_numpy(dtype=float)
    # The arcsine of the square root makes the spread of a share alike at 3 % and at 30 %.
    share = np.arcsin(np.sqrt(percent / 100))
    mito = _deviations(share, pooled) if np.isfinite(share).all() else np.full(len(metrics), -np.inf)
    # A cell that leaks loses counts while its mitochondria stay: the two together tell it before either does alone.
    leaking = (mito - counts) / np.sqrt(2)
    apart = percent - _medians(percent, pooled) >= MIN_MITO_DIFFERENCE
    too_mito = (apart & ((mito > nmads_mito) | (leaking > nmads_mito))) | (percent > max_pct_mito)
    low_counts = (metrics[keys.TOTAL_COUNTS].to_numpy() < min_counts) | (own & (counts < -nmads_counts))
    low_genes = (metrics[keys.N_GENES].to_numpy() < min_genes) | (own & (genes < -nmads_genes))
    many = own & ((counts > nmads_counts) | (genes > nmads_genes))
    first = {LOW_COUNTS: low_counts, LOW_GENES: low_genes, HIGH_MITO: too_mito, OUTLIER_COUNTS: many}
    reasons = np.select(list(first.values()), list(first), default="")
    return pd.Series(reasons, index=metrics.index)


def _medians(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Median of each value's group."""
    return pd.Series(values).groupby(groups).transform("median").to_numpy()


def _deviations(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Distance of each value from its group's median in median absolute deviations.

    The deviation of a group of n cells counts n / (n + 30) beside the one pooled within all groups.
    """
    centred = values - _medians(values, groups)
    own = np.empty(len(values))
    weight = np.empty(len(values))
    for name in np.unique(groups):
        members = groups == name
        own[members] = np.median(np.abs(centred[members]))
        weight[members] = members.sum() / (members.sum() + 30)
    spread = weight * own + (1 - weight) * (np.median(np.abs(centred)) if len(values) else 0.0)
    # Without any spread (all values equal) nothing is an outlier but what differs.
    return np.divide(centred, spread, out=np.where(centred == 0, 0.0, np.copysign(np.inf, centred)), where=spread > 0)


# ----------------------------------------------------------------------------------------------------------- doublets


def doublet_scores(
    counts: AnnData, *, expected_rate: float, seed: int, made_per_cell: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Likelihood that each cell is two of different kinds, by the method of Scrublet with two changes.

    Doublets are made by adding the counts of two cells; each cell is scored by the share of made doublets among its
    nearest neighbours in principal components, as the posterior probability of the original method (Wolock et al. 2019,
    doi:10.1016/j.cels.2018.11.005). Doublets are made between clusters alone, since two cells of one kind look like one
    (Germain et al. 2021, doi:10.12688/f1000research.73600.2), and the share is a mean over ``DOUBLET_SETS`` sets of
    them, so that it depends less on which pairs were drawn. Neighbours are exact, and fewer than the original takes.

    Parameters
    ----------
    counts
        Sparse counts of cells that passed the other thresholds.
    expected_rate
        Expected share of doublets (0 to 1).
    seed
        Of the clusters, the pairs and the component analysis.
    made_per_cell
        Made doublets per cell in each set.

    Returns
    -------
    Score per cell (0 to 1), and the scores that other made doublets get in the place of cells. NaN, and none, where
    fewer than 30 cells or three components allow no score.
    """
    from scipy.cluster.vq import kmeans, vq

    n = counts.n_obs
    # Mitochondrial genes tell how whole a cell is, not which kind it is.
    matrix = counts.X[:, ~is_mitochondrial(counts)]
    embedding = fit_embedding(matrix, seed=seed) if n >= 30 else None
    if embedding is None:
        return np.full(n, np.nan), np.zeros(0)
    rng = np.random.default_rng(seed)
    cells = embedding.project(matrix)
    centres, _ = kmeans(cells, int(np.clip(n // CELLS_PER_KIND, 2, MAX_KINDS)), iter=3, rng=rng)
    kinds = vq(cells, centres)[0]

    def made(size: int) -> np.ndarray:
        first, second = _unlike_pairs(kinds, size=size, rng=rng)
        return embedding.project(matrix[first] + matrix[second])

    queries = np.vstack([cells, made(min(n, TRIAL_DOUBLETS))])
    n_made = round(made_per_cell * n)
    odds_made = n_made / n
    k = round(0.25 * np.sqrt(n) * (1 + odds_made))
    share = np.zeros(len(queries))
    for _ in range(DOUBLET_SETS):
        points = np.vstack([cells, made(n_made)])
        of_cells = nearest(points, queries=cells, k=k, exclude_self=True)
        of_made = nearest(points, queries=queries[n:], k=k, exclude_self=False)
        share += ((np.vstack([of_cells, of_made]) >= n).sum(axis=1) + 1) / (k + 2) / DOUBLET_SETS
    scores = (
        share
        * expected_rate
        / odds_made
        / (1 - expected_rate - share * (1 - expected_rate - expected_rate / odds_made))
    )
    return scores[:n], scores[n:]


def _unlike_pairs(kinds: np.ndarray, *, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random pairs of cells of different kinds; of any cells where there is one kind alone."""
    first, second = rng.integers(0, len(kinds), size=(2, size))
    if (kinds == kinds[0]).all():
        return first, second
    while (alike := kinds[first] == kinds[second]).any():
        first[alike], second[alike] = rng.integers(0, len(kinds), size=(2, int(alike.sum())))
    return first, second


def call_doublets(scores: np.ndarray, *, expected_rate: float, threshold: float | None) -> np.ndarray:
    """Which cells are called doublets: those from ``threshold`` on, else so many of the highest scores as are expected.

    Scores have ties; the cut falls between two distinct scores, where the number of calls comes closest to the expected
    one. NaN is never called.
    """
    valid = np.isfinite(scores)
    if threshold is None:
        expected = expected_rate * valid.sum()
        distinct = np.unique(scores[valid])[::-1]
        called = np.array([0, *((scores[valid] >= s).sum() for s in distinct)])
        best = int(np.argmin(np.abs(called - expected)))
        if best == 0:
            return np.zeros(len(scores), dtype=bool)
        threshold = distinct[best - 1]
    return valid & (np.nan_to_num(scores, nan=-np.inf) >= threshold)


# ------------------------------------------------------------------------------------------------------------- ambient


def ambient_profile(counts: AnnData, *, min_counts: int = 1000) -> tuple[np.ndarray, str]:
    """Share of each gene in the ambient RNA of a library.

    Without raw droplets it is estimated from the half of the barcodes with the fewest counts: what floats in the
    solution is a mixture of what the cells hold, and barcodes with few counts stand for it without the few largest
    cells. (Barcodes removed for low counts are too few for a profile.) It is a rough one, since it also holds what is
    particular to small cells.

    Parameters
    ----------
    counts
        All barcodes as read; var ``ambient_counts`` where empty droplets were given.
    min_counts
        Fewer counts than these give no profile.

    Returns
    -------
    Fractions over the genes (sum 1; NaN where unknown), and their source: "raw_droplets", "low_count_cells" or "none".
    """
    if keys.AMBIENT_COUNTS in counts.var:
        sums, source = counts.var[keys.AMBIENT_COUNTS].to_numpy(dtype=float), "raw_droplets"
    else:
        total = np.asarray(counts.X.sum(axis=1)).ravel()
        low = total <= np.median(total) if len(total) else np.zeros(0, dtype=bool)
        sums, source = np.asarray(counts.X[low].sum(axis=0, dtype=np.int64)).ravel().astype(float), "low_count_cells"
    if sums.sum() < min_counts:
        return np.full(counts.n_vars, np.nan), "none"
    return sums / sums.sum(), source


# ------------------------------------------------------------------------------------------------------------- library


def qc_library(
    adata: AnnData, *, config: Mapping[str, Any], row: Mapping[str, Any], seed: int
) -> tuple[AnnData, pd.DataFrame, dict[str, Any]]:
    """Keep the whole single cells (or the spots, bins or segmented cells of a section) of one library.

    Sections are only relieved of what has too few counts: a spot holds several cells, a bin a part of one, and panels
    have hardly any mitochondrial gene, so neither doublets nor mitochondria by cell type mean anything there. Cells of
    unusual area stay: segmentation errs on both sides, and tumour cells are large.

    Parameters
    ----------
    adata
        Counts as ``counts.h5ad`` holds them; a library without barcodes is a valid input.
    config
        The section ``qc`` of the configuration, with the overlays of the library's batch.
    row
        The library in the study tables; ``chemistry`` and ``expected_cells`` (recovered cells) set the expected share
        of doublets.
    seed
        Of the component analysis and of the made doublets.

    Returns
    -------
    What is kept (no barcode if the library is excluded), a table with one row per barcode as read, and the outcome as
    ``status.json`` holds it.
    """
    meta = adata.uns[keys.META]
    spatial = row["modality"] in keys.SPATIAL_MODALITIES
    unit = str(meta.get(keys.RESOLUTION, "spot")) if spatial else "cell"
    table = cell_metrics(adata)
    if spatial:
        table = table.assign(**{keys.DOUBLET_SCORE: np.nan, "coarse_group": ""})
        few = table[keys.TOTAL_COUNTS] < config[MIN_COUNTS[unit]]
        table["reason"] = np.where(few, LOW_COUNTS, "")
        measured = {}
    else:
        table, measured = _qc_cells(adata, table, config=config, row=row, seed=seed)
    kept = (table["reason"] == "").to_numpy()
    smallest = config["min_spots" if unit == "spot" else "min_cells"]
    reason = str(meta["reason"])
    if not reason and kept.sum() < smallest:
        reason = f"{int(kept.sum())} of {len(table)} {unit}s passed quality control; at least {smallest} are needed"
    if reason:
        # A library is kept or left as a whole: what passed leaves with it, under a reason of its own.
        table.loc[kept, "reason"] = EXCLUDED
        kept[:] = False
    fractions, source = (np.full(adata.n_vars, np.nan), "none") if spatial else ambient_profile(adata)
    cells = keep_cells(adata, kept)
    for name in (keys.TOTAL_COUNTS, keys.N_GENES, keys.PCT_MITO, keys.DOUBLET_SCORE):
        cells.obs[name] = table[name].to_numpy()[kept]
    cells.var[keys.AMBIENT] = fractions
    cells.uns[keys.META] = {**meta, "reason": reason, "ambient_source": source}
    notes = json.loads(meta["notes"])
    if len(table) and table[keys.PCT_MITO].isna().all():
        notes.append(
            "no gene whose symbol begins with MT-: mitochondrial shares are unknown and no cell was removed for one"
        )
    if measured.get("doublets_per_1000_basis") == "default":
        chemistry = f"chemistry {row['chemistry']!r} is not known" if row["chemistry"] else "no chemistry is given"
        notes.append(
            f"{chemistry}: the doublet rate of most chips was taken ({100 * DOUBLETS_PER_1000_ELSE:g} % per 1,000 "
            "cells); write Cell Ranger's name of it (such as SC3Pv3 or SC3Pv4) into libraries.tsv"
        )
    passed = table[kept]
    if not spatial:
        ambient = contamination(cells, passed["coarse_group"].to_numpy())
        measured["contamination"] = asdict(ambient)
        measured["calling"] = json.loads(meta.get("calling", "null"))
        cells.uns[keys.META]["contamination"] = np.nan if ambient.fraction is None else ambient.fraction
    status = {
        "library_id": row[keys.LIBRARY],
        "modality": row["modality"],
        "status": "excluded" if reason else "ok",
        "reason": reason,
        "n_in": len(table),
        "n_out": int(kept.sum()),
        "removed": {name: int(n) for name in (*REASONS, EXCLUDED) if (n := (table["reason"] == name).sum())},
        "metrics": {
            "median_counts": _median(passed[keys.TOTAL_COUNTS]),
            "median_genes": _median(passed[keys.N_GENES]),
            "median_pct_mito": _median(passed[keys.PCT_MITO]),
            "ambient_source": source,
            **measured,
        },
        "identity": library_evidence(adata, kept, table),
        "notes": notes,
    }
    table = table.rename_axis("barcode").reset_index()
    table.insert(len(table.columns) - 1, "kept", kept.astype(int))
    logger.info("%s: %d of %d barcodes kept; removed: %s", row[keys.LIBRARY], kept.sum(), len(kept), status["removed"])
    return cells, table, status


def _qc_cells(
    adata: AnnData, table: pd.DataFrame, *, config: Mapping[str, Any], row: Mapping[str, Any], seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Groups, reasons and doublet scores of a single-cell library; and what is worth telling of its doublets."""
    groups = coarse_groups(adata, seed=seed)
    limits = {name: config[name] for name in ("nmads_counts", "nmads_genes", "nmads_mito", "min_counts", "min_genes")}
    limits["max_pct_mito"] = config["max_pct_mito_nuclei" if row["modality"] == "snrna" else "max_pct_mito"]
    reasons = flag_cells(table, groups, **limits)
    per_1000, basis = doublets_per_1000(row["chemistry"], given=config["doublet_rate_per_1000"])
    rate = expected_doublet_rate(row["expected_cells"], n_found=len(table), rate_per_1000=per_1000)
    whole = (reasons == "").to_numpy()
    scores = np.full(len(table), np.nan)
    scores[whole], of_made = doublet_scores(adata[whole], expected_rate=rate, seed=seed)
    called = call_doublets(scores, expected_rate=rate, threshold=config["doublet_score_threshold"])
    if config["remove_doublets"]:
        reasons[called] = DOUBLET
    threshold = float(scores[called].min()) if called.any() else None
    measured = {
        "expected_doublet_rate": rate,
        "doublets_per_1000": per_1000,
        "doublets_per_1000_basis": basis,
        "doublet_rate": float(called.sum() / max(whole.sum(), 1)),
        "doublet_threshold": threshold,
        "detectable_doublets": None if threshold is None else float((of_made >= threshold).mean()),
    }
    return table.assign(**{keys.DOUBLET_SCORE: scores, "coarse_group": groups, "reason": reasons}), measured


def doublets_per_1000(chemistry: Any, *, given: float | None) -> tuple[float, str]:
    """Share of doublets per 1,000 recovered cells, and where it comes from.

    Parameters
    ----------
    chemistry
        As the study table has it; Cell Ranger's names are known, upper or lower case.
    given
        The rate of the config, which overrides the chemistry's; None for none.

    Returns
    -------
    The rate (0 to 1) and its basis: "config", "chemistry" or "default", the last where no chemistry, or one that is not
    known, is given.
    """
    if given is not None:
        return given, "config"
    name = "" if chemistry is None or pd.isna(chemistry) else str(chemistry).strip()
    for pattern, rate in DOUBLETS_PER_1000.items():
        if re.fullmatch(pattern, name, flags=re.IGNORECASE):
            return rate, "chemistry"
    return DOUBLETS_PER_1000_ELSE, "default"


def expected_doublet_rate(expected_cells: Any, *, n_found: int, rate_per_1000: float) -> float:
    """Expected share of doublets, which grows with the cells recovered in the run.

    Parameters
    ----------
    expected_cells
        Cells that the whole run recovered, as the study table has it; empty: as many as the file holds.
    n_found
        Barcodes in the file.
    rate_per_1000
        Share of doublets per 1,000 recovered cells.

    Returns
    -------
    At most one half: beyond that the linear rule has no meaning.
    """
    recovered = n_found if expected_cells in ("", None) or pd.isna(expected_cells) else float(expected_cells)
    return min(0.5, rate_per_1000 * recovered / 1000)


def _median(values: pd.Series) -> float | None:
    """Median for JSON, which knows no NaN."""
    values = values.dropna()
    return float(values.median()) if len(values) else None
