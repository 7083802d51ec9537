"""Spatially variable genes: Moran's I of each gene in a section and its zones, by sparse products."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy import stats

from livermet import keys
from livermet.invasion import PLACE, stacked
from livermet.statistics import benjamini_hochberg

logger = logging.getLogger(__name__)

GENE_COLUMNS = ["gene", "zone", "i", "z", "p", "q", "n_spots"]
COMBINED_COLUMNS = [
    *PLACE,
    *("gene", "zone", "n_patients", "n_significant", "mean_i", "p_structure", "rank"),
]
WHOLE = "section"
ZONES = ("margin", "core")
GENES_AT_ONCE = 100
SIGNIFICANT = 0.05


def normalised(counts: sp.spmatrix) -> sp.csc_matrix:
    """Counts per median depth of the observations."""
    counts = sp.csr_matrix(counts, dtype=np.float64)
    depth = np.asarray(counts.sum(axis=1)).ravel()
    scale = np.median(depth[depth > 0]) if (depth > 0).any() else 1.0
    return sp.csc_matrix(sp.diags(scale / np.maximum(depth, 1)) @ counts)


def choose_genes(values: sp.csc_matrix, *, n_genes: int, min_expressed: float) -> np.ndarray:
    """Positions of the ``n_genes`` genes of largest variance over mean among those in a share of the observations.

    Neither property knows where an observation lies, so the choice leaves the null of Moran's I as it is.
    """
    n = max(values.shape[0], 1)
    mean = np.asarray(values.sum(axis=0)).ravel() / n
    square = np.asarray(values.multiply(values).sum(axis=0)).ravel() / n
    expressed = np.diff(values.indptr) / n >= min_expressed
    dispersion = np.where(expressed & (mean > 0), (square - mean**2) / np.maximum(mean, 1e-12), -1)
    order = np.argsort(-dispersion, kind="stable")[:n_genes]
    return np.sort(order[dispersion[order] > 0])


def morans_i(values: sp.csc_matrix, graph: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Moran's I of each column over a symmetric graph, and its z under randomisation.

    I = n/S0 * z'Wz / z'z for centred z; since z'Wz = x'Wx - 2m*1'Wx + m^2*S0, nothing is made dense. Mean and variance
    are those over all orders of the values (Cliff and Ord 1981, Spatial Processes), which, other than those under
    normality, know the heavy tail of sparse counts. Hypothesis: values are exchangeable over the places. Memory: the
    non-zeros of ``GENES_AT_ONCE`` genes times the number of neighbours.

    Parameters
    ----------
    values
        Observations x genes.
    graph
        Symmetric weights, no diagonal.

    Returns
    -------
    I and z per gene; NaN for a constant gene, or a graph without edges.
    """
    n, n_genes = values.shape
    graph = sp.csr_matrix(graph, dtype=np.float64)
    s0 = float(graph.sum())
    observed, z = np.full((2, n_genes), np.nan)
    if n < 4 or s0 == 0:
        return observed, z
    degree = np.asarray(graph.sum(axis=0)).ravel()
    s1 = 2 * float((graph.data**2).sum())
    s2 = 4 * float((degree**2).sum())
    expected = -1 / (n - 1)
    for start in range(0, n_genes, GENES_AT_ONCE):
        block = sp.csc_matrix(values[:, start : start + GENES_AT_ONCE], dtype=np.float64)
        power = [np.asarray(block.power(k).sum(axis=0)).ravel() / n for k in (1, 2, 3, 4)]
        mean = power[0]
        second = power[1] - mean**2
        fourth = power[3] - 4 * mean * power[2] + 6 * mean**2 * power[1] - 3 * mean**4
        lag = np.asarray(block.multiply(graph @ block).sum(axis=0)).ravel()
        lag += -2 * mean * (degree @ block) + mean**2 * s0
        varied = second > 1e-12
        scale = np.where(varied, second, np.nan)
        i = lag / (s0 * scale)
        kurtosis = fourth / scale**2
        first = n * ((n**2 - 3 * n + 3) * s1 - n * s2 + 3 * s0**2)
        minus = kurtosis * ((n**2 - n) * s1 - 2 * n * s2 + 6 * s0**2)
        variance = (first - minus) / ((n - 1) * (n - 2) * (n - 3) * s0**2) - expected**2
        observed[start : start + GENES_AT_ONCE] = i
        z[start : start + GENES_AT_ONCE] = (i - expected) / np.sqrt(np.where(variance > 0, variance, np.nan))
    return observed, z


def section_genes(
    counts: sp.spmatrix,
    genes: pd.Index,
    graph: sp.csr_matrix,
    zone: np.ndarray,
    *,
    resolution: str,
    n_genes: int,
    min_expressed: float,
    min_observations: int,
    min_spots: int,
    min_cells: int,
) -> pd.DataFrame:
    """Moran's I of the variable genes of a section (log-normalised), over all of it and within margin and core.

    Parameters
    ----------
    counts
        Observations x genes.
    graph
        Neighbours, symmetric 0/1.
    zone
        Zone of each observation.
    resolution
        "spot", "bin" or "cell".
    n_genes, min_expressed
        As for :func:`choose_genes`, within the section or the zone.
    min_observations
        Observations that the analytic null needs, in the section as in a zone.
    min_spots, min_cells
        Spots that a zone needs besides; cells or bins that it needs where they are resolved.

    Returns
    -------
    ``GENE_COLUMNS``; p is one-sided (neighbours alike), q Benjamini-Hochberg over the genes. It speaks of this piece of
    tissue, spots being its unit: over all of the section, most of it is tumour against liver.
    """
    tables = []
    in_zone = max(min_observations, min_spots if resolution == "spot" else min_cells)
    for name in (WHOLE, *ZONES):
        rows = np.flatnonzero(np.full(len(zone), True) if name == WHOLE else zone == name)
        if len(rows) < (min_observations if name == WHOLE else in_zone):
            continue
        values = normalised(sp.csr_matrix(counts)[rows])
        chosen = choose_genes(values, n_genes=n_genes, min_expressed=min_expressed)
        observed, z = morans_i(values[:, chosen].log1p(), sp.csr_matrix(graph)[rows][:, rows])
        table = pd.DataFrame({"gene": genes[chosen], "zone": name, "i": observed, "z": z, "n_spots": len(rows)})
        table = table.dropna(subset="z")
        table["p"] = stats.norm.sf(table["z"])
        table["q"] = benjamini_hochberg(table["p"].to_numpy())
        tables.append(table[GENE_COLUMNS])
    return stacked(tables, GENE_COLUMNS)


def combine_genes(sections: pd.DataFrame) -> pd.DataFrame:
    """Spatial genes over patients, within a timepoint, tissue, modality and zone.

    Parameters
    ----------
    sections
        ``GENE_COLUMNS`` with patient_id, library_id, timepoint, tissue and modality.

    Returns
    -------
    ``COMBINED_COLUMNS``. ``mean_i``: mean over patients of the mean over their sections; ``n_significant``: patients in
    all of whose sections q is at most 0.05; ``p_structure``: Stouffer's combination of z over patients (over sections
    within a patient first), which says that the gene has spatial structure at all, not that patients agree on which;
    ``rank`` goes by the same sum over all patients with the zone,
    those in whom the gene was not among the variable ones counting as none; 1 is the most structured.
    """
    if sections.empty:
        return pd.DataFrame(columns=COMBINED_COLUMNS)
    group = [*PLACE, "zone", "gene"]
    table = sections.assign(passes=sections["q"] <= SIGNIFICANT)
    patients = table.groupby([*group, keys.PATIENT], sort=True).agg(
        i=("i", "mean"), z=("z", lambda values: values.sum() / np.sqrt(len(values))), passes=("passes", "all")
    )
    result = patients.groupby(level=group, sort=True).agg(
        n_patients=("i", "size"), n_significant=("passes", "sum"), mean_i=("i", "mean"), total=("z", "sum")
    )
    result["p_structure"] = stats.norm.sf(result["total"] / np.sqrt(result["n_patients"]))
    result = result.reset_index()
    by_place = result.groupby([*PLACE, "zone"])["total"]
    result["rank"] = by_place.rank(ascending=False, method="first").astype(int)
    return result.sort_values([*PLACE, "zone", "rank"], ignore_index=True)[COMBINED_COLUMNS]
