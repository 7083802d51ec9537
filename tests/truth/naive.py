"""What a study would get without this workflow: the answers that :mod:`livermet.truth` scores beside ours.

"argmax" gives each cell the type with the highest mean of its markers; "scanpy" follows scanpy's basic tutorial with its
defaults and gives each cluster the type with the highest mean of its markers.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import nnls
from scipy.spatial import cKDTree

from livermet import keys
from livermet.markers import compartment_of, load_markers

MIN_GENES = 100  # scanpy's basic tutorial
ZONE_EDGES = [-np.inf, -500, -250, 250, 1000, np.inf]
ZONES = ["core", "inner_rim", "margin", "peritumoral", "distant"]


def normalised(counts: ad.AnnData) -> sparse.csr_matrix:
    """Counts per 10,000, log1p."""
    matrix = sparse.csr_matrix(counts.X, dtype=np.float64)
    totals = np.asarray(matrix.sum(axis=1)).ravel()
    matrix = sparse.csr_matrix(sparse.diags_array(1e4 / np.maximum(totals, 1)) @ matrix)
    matrix.data = np.log1p(matrix.data)
    return matrix


def marker_means(matrix: sparse.csr_matrix, genes: pd.Index) -> pd.DataFrame:
    """Mean of the markers of each type, cells by types; markers that are not measured are left out."""
    markers = load_markers()
    types = markers.loc[markers["level"] == "type", "genes"]
    means = {}
    for name, symbols in types.items():
        here = genes.get_indexer(symbols)
        here = here[here >= 0]
        if len(here):
            means[name] = np.asarray(matrix[:, here].mean(axis=1)).ravel()
    return pd.DataFrame(means)


def named(cells: pd.DataFrame, types: np.ndarray, scores: pd.DataFrame) -> pd.DataFrame:
    """An answer about cells as the scores take it."""
    return cells.assign(
        cell_type=types,
        compartment=pd.Series(types, index=cells.index).map(compartment_of()),
        malignant=np.where(types == keys.MALIGNANT_TYPE, "malignant", "normal"),
        cnv_score=scores[keys.MALIGNANT_TYPE].to_numpy(),
    )


def identify(counts: ad.AnnData) -> pd.DataFrame:
    """library_id and barcode of each cell or spot, from its name "library:barcode"."""
    parts = counts.obs_names.to_series().str.split(":", n=1, expand=True)
    return pd.DataFrame({keys.LIBRARY: parts[0].to_numpy(), "barcode": parts[1].to_numpy()})


def argmax_cells(counts: ad.AnnData) -> pd.DataFrame:
    """Each cell is the type with the highest marker mean."""
    scores = marker_means(normalised(counts), counts.var_names)
    return named(identify(counts), scores.columns.to_numpy()[scores.to_numpy().argmax(axis=1)], scores)


def scanpy_clusters(counts: ad.AnnData) -> tuple[ad.AnnData, np.ndarray]:
    """Normalise, highly variable genes, PCA, neighbours, Leiden, all at the defaults of scanpy's basic tutorial."""
    import scanpy as sc

    adata = counts.copy()
    adata.X = sparse.csr_matrix(adata.X, dtype=np.float32)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=2000, batch_key=keys.LIBRARY)
    sc.tl.pca(adata)
    sc.pp.neighbors(adata)
    sc.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False)
    return adata, adata.obs["leiden"].astype(str).to_numpy()


def scanpy_cells(counts: ad.AnnData) -> tuple[pd.DataFrame, pd.DataFrame]:
    """QC, doublets and annotation by plain scanpy.

    Returns
    -------
    qc
        library_id, barcode, kept, doublet_score, called (scrublet's own threshold) of all cells.
    cells
        library_id, barcode, cell_type, compartment, malignant, cnv_score, cluster of the kept ones.
    """
    import scanpy as sc

    kept = np.diff(sparse.csr_matrix(counts.X).indptr) >= MIN_GENES
    adata = counts[kept].copy()
    sc.pp.scrublet(adata, batch_key=keys.LIBRARY)
    score = np.full(counts.n_obs, np.nan)
    score[kept] = adata.obs["doublet_score"].to_numpy()
    called = np.zeros(counts.n_obs, dtype=int)
    called[kept] = adata.obs["predicted_doublet"].astype("boolean").fillna(False).astype(int)
    qc = identify(counts).assign(kept=kept.astype(int), doublet_score=score, called=called)

    adata, clusters = scanpy_clusters(adata)
    scores = marker_means(sparse.csr_matrix(adata.X), adata.var_names)
    by_cluster = scores.groupby(clusters).mean()
    types = by_cluster.idxmax(axis=1).loc[clusters].to_numpy()
    return qc, named(identify(adata), types, scores).assign(cluster=clusters)


def basal_fractions(counts: ad.AnnData, cells: pd.DataFrame) -> pd.DataFrame:
    """Share of the malignant cells of each patient whose basal markers have a higher mean than their classical ones.

    Parameters
    ----------
    counts
        Counts, named "library:barcode".
    cells
        library_id, barcode, patient_id, malignant ("malignant" or another).
    """
    malignant = cells[cells["malignant"] == "malignant"]
    names = (malignant[keys.LIBRARY] + ":" + malignant["barcode"]).to_numpy()
    markers = load_markers()["genes"]
    matrix = normalised(counts[names])
    mean = {}
    for state in ("mal_basal", "mal_classical"):
        here = counts.var_names.get_indexer(markers[state])
        mean[state] = np.asarray(matrix[:, here[here >= 0]].mean(axis=1)).ravel()
    basal = pd.Series(mean["mal_basal"] > mean["mal_classical"])
    share = basal.groupby(malignant[keys.PATIENT].to_numpy()).mean()
    return share.rename_axis(keys.PATIENT).rename("fraction_basal").reset_index()


def scanpy_niches(spots: ad.AnnData) -> pd.DataFrame:
    """Clusters of spots by expression, as a tutorial would take them for niches."""
    _, clusters = scanpy_clusters(spots)
    return identify(spots).assign(niche=clusters)


def argmax_zones(spots: ad.AnnData) -> pd.DataFrame:
    """Tumour where malignant markers exceed hepatocyte markers; distance to the nearest spot of the other kind."""
    scores = marker_means(normalised(spots), spots.var_names)
    tumour = (scores[keys.MALIGNANT_TYPE] > scores[keys.HEPATOCYTE]).to_numpy()
    result = identify(spots).assign(signed_distance_um=np.nan)
    xy = np.asarray(spots.obsm[keys.SPATIAL], dtype=float)
    for _, rows in result.groupby(keys.LIBRARY).indices.items():
        inside, outside = rows[tumour[rows]], rows[~tumour[rows]]
        if len(inside) and len(outside):
            result.loc[inside, "signed_distance_um"] = -cKDTree(xy[outside]).query(xy[inside])[0]
            result.loc[outside, "signed_distance_um"] = cKDTree(xy[inside]).query(xy[outside])[0]
    zone = pd.cut(result["signed_distance_um"], ZONE_EDGES, labels=ZONES).astype(object)
    return result.assign(zone=zone.where(zone.notna(), "none"))


def plain_nnls(spots: ad.AnnData, cells: ad.AnnData, types: np.ndarray) -> pd.DataFrame:
    """Non-negative least squares on mean counts per 10,000 of each type: no gene choice, weights or platform factor."""
    genes = cells.var_names.intersection(spots.var_names)
    profiles, names = [], [name for name in np.unique(types) if name not in (keys.UNKNOWN, keys.UNCERTAIN_EPITHELIAL)]
    reference = sparse.csr_matrix(cells[:, genes].X, dtype=np.float64)
    for name in names:
        total = np.asarray(reference[types == name].sum(axis=0)).ravel()
        profiles.append(total / total.sum() * 1e4)
    # The problem in normal equations has the same solution and len(names) rows instead of one per gene.
    profiles = np.array(profiles).T
    factor = np.linalg.cholesky(profiles.T @ profiles + 1e-6 * np.eye(len(names))).T
    counts = sparse.csr_matrix(spots[:, genes].X, dtype=np.float64)
    totals = np.asarray(counts.sum(axis=1)).ravel()
    right = np.linalg.solve(factor.T, (counts @ profiles).T / np.maximum(totals, 1) * 1e4).T
    weights = np.array([nnls(factor, target)[0] for target in right])
    fractions = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    spot = identify(spots)
    return pd.DataFrame(
        {
            keys.LIBRARY: np.repeat(spot[keys.LIBRARY].to_numpy(), len(names)),
            "barcode": np.repeat(spot["barcode"].to_numpy(), len(names)),
            "cell_type": np.tile(names, len(spot)),
            "abundance": fractions.ravel(),
        }
    )
