"""One table of cells from many libraries: common genes, embedding, neighbour graph, clusters.

Nothing here changes counts: the integrated embedding serves graph, clusters and display, never expression (Harmony
over-corrects where patients truly differ, as malignant cells do; ``X_pca`` is therefore kept beside
``X_integrated``, and :mod:`livermet.integration_scores` says which of the two is used).
"""

from __future__ import annotations

import itertools
import json
import logging
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from livermet import keys
from livermet.ambient import soup_shares
from livermet.files import read_table
from livermet.status import unlike_genes

logger = logging.getLogger(__name__)

TARGET_SUM = 1e4
DISPERSION_BINS = 20
MIN_CELLS_HARMONY = 60
SHARE_RESAMPLED = 0.8
STABILITY_TOLERANCE = 0.05
ROW_COLUMNS = (keys.MODALITY, keys.BATCH, keys.CENTRE, keys.TIMEPOINT, keys.TISSUE)
EMBEDDING = "embedding"
ID_COLUMNS = (keys.LIBRARY, keys.SAMPLE, keys.PATIENT)
QC_COLUMNS = (keys.TOTAL_COUNTS, keys.N_GENES, keys.PCT_MITO, keys.DOUBLET_SCORE)
NAME_COLUMNS = (keys.CLUSTER, "earlier", "share", "n")
CLUSTERING_COLUMNS = ("resolution", "n_clusters", "stability", "stability_sd", "chosen")


def pool_libraries(adatas: Sequence[AnnData], rows: Sequence[dict], *, min_genes_shared: float) -> AnnData:
    """Join libraries over their common genes.

    Parameters
    ----------
    adatas
        Kept cells of each library (``qc.h5ad``); libraries without cells are skipped.
    rows
        For each library its row of the study (library_id, modality, batch, centre, timepoint, tissue).
    min_genes_shared
        Share of the genes of most libraries that each library needs (:func:`livermet.status.unlike_genes`).

    Returns
    -------
    AnnData with X as CSR int32 counts, cells sorted by name (so that no result depends on the order
    of libraries or cells) and genes in the order of the first library; ``varm["ambient"]`` is what contamination adds
    to each count (genes x libraries, :func:`livermet.ambient.soup_shares`). Without cells: zero rows, all columns, and
    the reason in ``uns["livermet"]``.

    Raises
    ------
    ValueError
        If a library shares too few genes with the others, or cell names are not unique.
    """
    meta = {str(row[keys.LIBRARY]): row for row in rows}
    kept = [adata for adata in adatas if adata.n_obs > 0]
    logger.info("pooling: %d libraries in, %d with cells", len(adatas), len(kept))
    if not kept:
        return _empty(reason="no single-cell library of this scope holds cells after quality control")
    kept = sorted(kept, key=lambda adata: str(adata.obs[keys.LIBRARY].iloc[0]))
    names = _common_genes(kept, min_genes_shared=min_genes_shared)
    parts, tables, soup = [], [], {}
    for adata in kept:
        library = str(adata.obs[keys.LIBRARY].iloc[0])
        at = adata.var_names.get_indexer(names)
        parts.append(sp.csr_matrix(adata.X)[:, at])
        soup[library] = soup_shares(adata)[at]
        table = adata.obs.reindex(columns=[*ID_COLUMNS, *QC_COLUMNS]).copy()
        for column in ROW_COLUMNS:
            table[column] = str(meta[library].get(column, ""))
        tables.append(table)
    obs = pd.concat(tables)
    if not obs.index.is_unique:
        twice = obs.index[obs.index.duplicated()][0]
        raise ValueError(f"cell {twice} occurs twice in the pooled libraries: barcodes must be unique within a library")
    order = np.argsort(obs.index.to_numpy().astype(str), kind="stable")
    matrix = sp.vstack(parts, format="csr", dtype=np.int32)[order]
    obs = obs.iloc[order]
    for column in (*ID_COLUMNS, *ROW_COLUMNS):
        obs[column] = pd.Categorical(obs[column].astype(str))
    var = kept[0].var.loc[names].reindex(columns=[keys.SYMBOL, keys.GENE_ID])
    simulated = any(bool(adata.uns.get(keys.META, {}).get("simulated", False)) for adata in kept)
    logger.info("pooling: %d cells x %d common genes", *matrix.shape)
    varm = {keys.AMBIENT: pd.DataFrame(soup, index=var.index)}
    return AnnData(matrix, obs=obs, var=var, varm=varm, uns={keys.META: {"reason": "", "simulated": simulated}})


def _common_genes(adatas: Sequence[AnnData], *, min_genes_shared: float) -> pd.Index:
    genes = {str(adata.obs[keys.LIBRARY].iloc[0]): adata.var_names.to_numpy() for adata in adatas}
    for library, reason in unlike_genes(genes, min_shared=min_genes_shared).items():
        raise ValueError(f"library {library}: {reason}")
    times = pd.concat([pd.Series(1, index=names) for names in genes.values()]).groupby(level=0).sum()
    first = adatas[0].var_names
    common = first[first.isin(times.index[times == len(adatas)])]
    smallest = min(adatas, key=lambda adata: adata.n_vars)
    if len(common) < min_genes_shared * smallest.n_vars or not len(common):
        raise ValueError(
            f"library {smallest.obs[keys.LIBRARY].iloc[0]}: only {len(common)} of its {smallest.n_vars} genes occur in "
            f"every library, expected at least {min_genes_shared:.0%}; give all libraries the same gene names or lower "
            "integrate: min_genes_shared"
        )
    return common


def _empty(*, reason: str) -> AnnData:
    obs = pd.DataFrame({column: pd.Categorical([]) for column in (*ID_COLUMNS, *ROW_COLUMNS)})
    for column in QC_COLUMNS:
        obs[column] = np.zeros(0)
    obs[keys.CLUSTER] = pd.Categorical([])
    obs.index = obs.index.astype(str)
    var = pd.DataFrame({keys.SYMBOL: pd.Series(dtype=str), keys.GENE_ID: pd.Series(dtype=str)})
    var.index = var.index.astype(str)
    adata = AnnData(sp.csr_matrix((0, 0), dtype=np.int32), obs=obs, var=var)
    adata.uns[keys.META] = {"reason": reason, "simulated": False}
    note_embedding(adata, used=keys.PCA, reason=f"plain components: {reason}")
    adata.varm[keys.AMBIENT] = pd.DataFrame(index=var.index)
    for key in (keys.PCA, keys.INTEGRATED, keys.UMAP):
        adata.obsm[key] = np.zeros((0, 2), dtype=np.float32)
    for key in ("connectivities", "distances"):
        adata.obsp[key] = sp.csr_matrix((0, 0), dtype=np.float32)
    return adata


def log_normalise(counts: sp.csr_matrix, *, target_sum: float = TARGET_SUM) -> sp.csr_matrix:
    """Counts scaled to ``target_sum`` per cell, then log(1 + x), as CSR float32; cells without counts stay zero."""
    matrix = sp.csr_matrix(counts, dtype=np.float32, copy=True)
    total = np.asarray(counts.sum(axis=1)).ravel()
    factor = np.divide(target_sum, total, out=np.zeros(total.size), where=total > 0)
    matrix.data *= np.repeat(factor, np.diff(matrix.indptr)).astype(np.float32)
    np.log1p(matrix.data, out=matrix.data)
    return matrix


def one_hot(codes: np.ndarray, *, n: int | None = None) -> sp.csr_matrix:
    """Sparse indicator matrix (groups x cells) of integer codes; negative codes belong to no group."""
    codes = np.asarray(codes)
    n = int(codes.max(initial=-1)) + 1 if n is None else n
    cells = np.flatnonzero(codes >= 0)
    return sp.csr_matrix((np.ones(cells.size, dtype=np.float32), (codes[cells], cells)), shape=(n, codes.size))


def variable_genes(log_counts: sp.csr_matrix, batch: np.ndarray, *, n_top: int) -> np.ndarray:
    """Genes whose dispersion *within* batches exceeds that of genes of like mean.

    The "seurat" flavour of Satija et al. 2015 (log variance-to-mean ratio of normalised counts, z-scored in bins of
    mean expression) with the variance pooled within batches. A gene that only differs between batches does not count,
    and a population of a few cells per batch still does, which a ranking per batch would lose.

    Parameters
    ----------
    log_counts
        Cells x genes, log(1 + normalised counts).
    batch
        Integer code of each cell's batch.
    n_top
        Number of genes.

    Returns
    -------
    Sorted positions of the chosen genes; never a gene without counts.
    """
    linear = log_counts.copy()
    np.expm1(linear.data, out=linear.data)
    n = linear.shape[0]
    groups = one_hot(batch)
    size = np.asarray(groups.sum(axis=1)).ravel()
    sums = np.asarray((groups @ linear).todense(), dtype=np.float64)
    mean = sums.sum(axis=0) / n
    linear.data **= 2
    squares = np.asarray(linear.sum(axis=0), dtype=np.float64).ravel()
    within = np.maximum(squares - (sums**2 / size[:, None]).sum(axis=0), 0) / max(n - size.size, 1)
    expressed = (mean > 0) & (within > 0)
    dispersion = np.log(within[expressed] / mean[expressed])
    level = np.log1p(mean[expressed])
    bins = pd.cut(level, DISPERSION_BINS, labels=False) if level.size else level
    table = pd.DataFrame({"bin": bins, "dispersion": dispersion})
    grouped = table.groupby("bin")["dispersion"]
    # A bin of one gene has no spread: its gene is scored against its own value (z = 1), as scanpy does.
    spread = grouped.transform("std").fillna(0.0)
    centre = grouped.transform("mean")
    z = np.where(spread > 0, (table["dispersion"] - centre) / spread.where(spread > 0, 1.0), 1.0)
    best = np.argsort(-z, kind="stable")[:n_top]
    return np.sort(np.flatnonzero(expressed)[best])


def principal_components(matrix: sp.csr_matrix, *, n_pcs: int, seed: int) -> np.ndarray:
    """Scores of the leading principal components of a sparse matrix, centred implicitly (never made dense); float32."""
    from sklearn.decomposition import PCA

    n_pcs = max(min(n_pcs, min(matrix.shape) - 1), 1)
    solver = PCA(n_components=n_pcs, svd_solver="arpack", random_state=seed)
    return solver.fit_transform(matrix.astype(np.float64)).astype(np.float32)


def nothing_to_align(batch: Sequence[object]) -> str:
    """Why Harmony has nothing to align, "" if it has.

    It works with one soft cluster per 30 cells, so that below two of them there is nothing that it could align.
    """
    n_batches = len(set(batch))
    if n_batches < 2:
        return "there is one batch only, and nothing to align"
    if len(batch) < MIN_CELLS_HARMONY:
        return f"{len(batch)} cells are too few to align {n_batches} batches, expected at least {MIN_CELLS_HARMONY}"
    return ""


def remove_batch(scores: np.ndarray, batch: np.ndarray, *, seed: int) -> np.ndarray:
    """Harmony (Korsunsky et al. 2019) over one batch label; returns the input where there is
    :func:`nothing_to_align`.
    """
    codes, batches = pd.factorize(np.asarray(batch), sort=True)
    if nothing_to_align(codes):
        logger.info("Harmony: nothing to align (%d batches, %d cells)", len(batches), len(codes))
        return scores
    import harmonypy

    logging.getLogger("harmonypy").setLevel(logging.WARNING)
    meta = pd.DataFrame({"batch": codes})
    result = harmonypy.run_harmony(scores, meta, "batch", random_state=seed, ncores=1, verbose=False)
    corrected = np.asarray(result.Z_corr, dtype=np.float32)
    return corrected if corrected.shape == scores.shape else corrected.T


def neighbour_graph(scores: np.ndarray, *, n_neighbours: int) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Exact nearest-neighbour graph with UMAP's edge weights.

    Neighbours come from scikit-learn's brute-force search: exact at any size, no compilation (pynndescent compiles
    for 20 to 30 s in each process), and 1.5 s at 20,000 cells. The weights are the fuzzy union of McInnes et al. 2018
    (distance beyond the nearest neighbour, scaled so that the weights of a cell sum to log2 k), computed for all
    cells at once.

    Parameters
    ----------
    scores
        Cells x dimensions.
    n_neighbours
        Neighbours per cell, the cell itself not counted.

    Returns
    -------
    Connectivities (symmetric, 0 to 1) and distances, both CSR float32, cells x cells.
    """
    from sklearn.neighbors import NearestNeighbors

    n = scores.shape[0]
    k = min(n_neighbours, n - 1)
    if k < 1:
        empty = sp.csr_matrix((n, n), dtype=np.float32)
        return empty, empty.copy()
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(scores)
    distance, index = search.kneighbors()
    weight = _fuzzy_weights(distance)
    start = np.arange(0, n * k + 1, k)
    directed = sp.csr_matrix((weight.ravel(), index.ravel(), start), shape=(n, n), dtype=np.float32)
    both = directed.multiply(directed.T)
    connectivities = sp.csr_matrix(directed + directed.T - both, dtype=np.float32)
    connectivities.sort_indices()
    distances = sp.csr_matrix((distance.ravel(), index.ravel(), start), shape=(n, n), dtype=np.float32)
    distances.sort_indices()
    return connectivities, distances


def _fuzzy_weights(distance: np.ndarray) -> np.ndarray:
    target = np.log2(distance.shape[1] + 1)
    beyond = np.maximum(distance - distance[:, :1], 0)
    low = np.zeros(len(distance))
    high = np.full(len(distance), np.inf)
    sigma = np.ones(len(distance))
    for _ in range(64):
        total = np.exp(-beyond / sigma[:, None]).sum(axis=1)
        above = total > target
        high = np.where(above, sigma, high)
        low = np.where(above, low, sigma)
        sigma = np.where(np.isinf(high), sigma * 2, (low + high) / 2)
    floor = 1e-3 * np.maximum(distance.mean(axis=1), 1e-12)
    return np.exp(-beyond / np.maximum(sigma, floor)[:, None])


def leiden(connectivities: sp.csr_matrix, *, resolution: float, seed: int) -> np.ndarray:
    """Leiden communities (Traag et al. 2019; modularity, two iterations) of a weighted graph: an integer code per
    cell.
    """
    import igraph

    upper = sp.triu(connectivities, k=1).tocoo()
    graph = igraph.Graph(n=connectivities.shape[0], edges=np.column_stack([upper.row, upper.col]))
    igraph.set_random_number_generator(random.Random(seed))
    parts = graph.community_leiden(
        objective_function="modularity", weights=upper.data.astype(float), resolution=resolution, n_iterations=2
    )
    return np.asarray(parts.membership)


def name_clusters(codes: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Cluster names "c00", "c01", ... from the largest cluster on, ties by the smallest member name."""
    table = pd.DataFrame({"code": codes, "name": np.asarray(names, dtype=str)})
    ranked = table.groupby("code")["name"].agg(["size", "min"])
    ranked = ranked.sort_values(["size", "min"], ascending=[False, True])
    width = max(2, len(str(max(len(ranked) - 1, 0))))
    named = dict(zip(ranked.index, (f"c{i:0{width}d}" for i in range(len(ranked))), strict=True))
    return np.array([named[code] for code in codes], dtype=object)


def embed(
    adata: AnnData, *, batch_key: str, n_hvg: int, n_pcs: int, n_neighbours: int, harmony: bool, seed: int
) -> AnnData:
    """Add ``X_pca``, ``X_integrated`` and the neighbour graph to pooled cells, in place.

    Highly variable genes within batches, PCA of log-normalised counts without scaling (scaling over-corrects, Luecken
    et al. 2022, and makes the matrix dense), Harmony over ``batch_key``, exact neighbours. A scope of fewer than
    three cells gets zero coordinates.

    Parameters
    ----------
    adata
        Pooled cells with integer counts.
    batch_key
        Column of obs that Harmony aligns over.
    n_hvg, n_pcs, n_neighbours
        Numbers of genes, components and neighbours; fewer where the data hold fewer.
    harmony
        Whether to align at all; without, ``X_integrated`` equals ``X_pca``.
    seed
        Seed of PCA and Harmony.

    Returns
    -------
    The same object, with ``var["highly_variable"]``, both embeddings, connectivities and distances of the integrated
    one (of the plain one where nothing was aligned), and :func:`note_embedding`.

    Raises
    ------
    ValueError
        If ``batch_key`` is not a column of obs.
    """
    if batch_key not in adata.obs:
        raise ValueError(f"integrate: batch_key is {batch_key!r}, expected one of {sorted(adata.obs.columns)}")
    if adata.n_obs == 0:
        return adata
    batch = pd.factorize(adata.obs[batch_key].astype(str), sort=True)[0]
    log_counts = log_normalise(adata.X)
    chosen = variable_genes(log_counts, batch, n_top=n_hvg)
    adata.var["highly_variable"] = np.isin(np.arange(adata.n_vars), chosen)
    if adata.n_obs < 3 or chosen.size < 3:
        scores = np.zeros((adata.n_obs, 2), dtype=np.float32)
    else:
        scores = principal_components(log_counts[:, chosen], n_pcs=n_pcs, seed=seed)
    adata.obsm[keys.PCA] = scores
    why_not = nothing_to_align(batch) if harmony else "integrate: harmony is false"
    adata.obsm[keys.INTEGRATED] = scores.copy() if why_not else remove_batch(scores, batch, seed=seed)
    if why_not:
        note_embedding(adata, used=keys.PCA, reason=f"plain components: {why_not}")
    else:
        note_embedding(adata, used=keys.INTEGRATED, reason=f"integrated: Harmony over {batch_key}")
    logger.info("embedding: %d cells, %d variable genes, %d components", adata.n_obs, chosen.size, scores.shape[1])
    return connect(adata, n_neighbours=n_neighbours)


def note_embedding(adata: AnnData, *, used: str, reason: str) -> None:
    """Write down on which embedding graph, clusters and UMAP stand (``X_pca`` or ``X_integrated``), and why, in place.

    ``uns["livermet"]["embedding"]``: JSON with used and reason.
    """
    note = json.dumps({"used": used, "reason": reason})
    adata.uns[keys.META] = {**adata.uns.get(keys.META, {}), EMBEDDING: note}


def embedding_note(adata: AnnData) -> dict[str, str]:
    """What :func:`note_embedding` wrote: used, reason."""
    return json.loads(adata.uns[keys.META][EMBEDDING])


def connect(adata: AnnData, *, n_neighbours: int) -> AnnData:
    """Add connectivities and distances of the embedding that is noted as used, in place."""
    scores = adata.obsm[embedding_note(adata)["used"]]
    adata.obsp["connectivities"], adata.obsp["distances"] = neighbour_graph(scores, n_neighbours=n_neighbours)
    return adata


def cluster(
    adata: AnnData, *, resolutions: Sequence[float], n_stability: int, seed: int
) -> tuple[AnnData, pd.DataFrame]:
    """Leiden clusters at the resolution that stability supports, in place.

    For each resolution the graph of a random 80 % of the cells is clustered ``n_stability`` times with another seed
    each; stability is the mean adjusted Rand index with the clusters of all cells. Chosen is the finest resolution
    whose stability is within .05 of the best one: coarse clusterings are nearly always stable, so that the most
    stable one alone would hide populations.

    Parameters
    ----------
    adata
        Cells with ``connectivities``.
    resolutions
        Resolutions of Leiden's modularity.
    n_stability
        Resampled graphs per resolution.
    seed
        Seed of clustering and resampling.

    Returns
    -------
    The same object with ``obs["cluster"]``, and a table: resolution, n_clusters, stability (mean
    ARI), stability_sd, chosen (0 or 1).
    """
    if adata.n_obs == 0:
        return adata, pd.DataFrame(columns=list(CLUSTERING_COLUMNS))
    graph = adata.obsp["connectivities"]
    table, labels = choose_resolution(graph, resolutions=resolutions, n_stability=n_stability, seed=seed)
    adata.obs[keys.CLUSTER] = pd.Categorical(name_clusters(labels, adata.obs_names.to_numpy()))
    chosen = table[table["chosen"] == 1].iloc[0]
    logger.info("clusters: %d at resolution %g", chosen["n_clusters"], chosen["resolution"])
    return adata, table


def read_clusters(path: str | Path) -> pd.Series:
    """Clusters of an earlier run, by cell name.

    Parameters
    ----------
    path
        A ``cells.h5ad`` (obs_names and obs ``cluster``), or a TSV with the columns ``cell`` and ``cluster``.

    Raises
    ------
    ValueError
        If the file has no clusters, or a cell occurs twice.
    """
    if Path(path).suffix == ".h5ad":
        import h5py
        from anndata.io import read_elem

        with h5py.File(path) as file:
            table = read_elem(file["obs"]).rename_axis("cell").reset_index()
    else:
        table = read_table(path)
    for column in ("cell", keys.CLUSTER):
        if column not in table:
            raise ValueError(
                f"{path}: column {column} is missing; integrate: earlier needs the cells.h5ad of an earlier run, "
                "or a TSV with the columns cell and cluster"
            )
    clusters = table.set_index("cell")[keys.CLUSTER].astype(str)
    if not clusters.index.is_unique:
        raise ValueError(f"{path}: cell {clusters.index[clusters.index.duplicated()][0]} occurs twice")
    return clusters[clusters != ""]


def match_clusters(new: pd.Series, earlier: pd.Series) -> dict[object, str]:
    """Names of an earlier run for the clusters of a new one.

    Each earlier name goes to at most one new cluster, so that as many shared cells as possible keep their name
    (Hungarian assignment). A pair counts only if it holds more than half of the shared cells of either of its
    clusters: a few stray cells are no counterpart. A cluster without one gets a name that the earlier run did not use.

    Parameters
    ----------
    new, earlier
        Cluster of each cell, by cell name; the new ones in the order in which free names are given.

    Returns
    -------
    Name of each new cluster.

    Raises
    ------
    ValueError
        If no cell is in both.
    """
    from scipy.optimize import linear_sum_assignment

    shared = new.index.intersection(earlier.index)
    if shared.empty:
        raise ValueError(
            f"integrate: earlier: none of the {len(new)} cells is among the {len(earlier)} of the earlier run; name a "
            "result that shares libraries with this scope, or leave it empty"
        )
    overlap = pd.crosstab(new[shared].to_numpy(), earlier[shared].to_numpy())
    names = {}
    for row, column in zip(*linear_sum_assignment(overlap.to_numpy(), maximize=True), strict=True):
        cells = overlap.iloc[row, column]
        if 2 * cells > min(overlap.iloc[row].sum(), overlap.iloc[:, column].sum()):
            names[overlap.index[row]] = overlap.columns[column]
    width = max([2, *(len(name) - 1 for name in earlier.unique())])
    taken = set(earlier.unique())
    free = (name for i in itertools.count() if (name := f"c{i:0{width}d}") not in taken)
    return {code: names.get(code) or next(free) for code in sorted(new.unique())}


def follow_earlier(adata: AnnData, earlier: pd.Series | None) -> tuple[AnnData, pd.DataFrame]:
    """Give clusters the names of an earlier run (:func:`match_clusters`), in place; None leaves them as they are.

    Returns
    -------
    The same object, and a table with a row per cluster: cluster, earlier (its counterpart, "" for none), share (part
    of the earlier cluster's cells, among those in both runs, that it holds), n (its cells now); and one, without
    cluster, per earlier cluster that has no counterpart any more.
    """
    if adata.n_obs == 0:
        return adata, pd.DataFrame(columns=list(NAME_COLUMNS))
    clusters = adata.obs[keys.CLUSTER].astype(str)
    if earlier is not None:
        clusters = clusters.map(match_clusters(clusters, earlier))
        adata.obs[keys.CLUSTER] = pd.Categorical(clusters)
    known = pd.Series(dtype=str) if earlier is None else earlier
    size, before = clusters.value_counts(), known.reindex(clusters.index)
    rows = []
    for name in sorted({*size.index, *known}):
        there = (before == name).to_numpy()
        share = float((clusters[there] == name).mean()) if there.any() else np.nan
        now = int(size.get(name, 0))
        rows.append((name if now else "", name if name in set(known) else "", share, now))
    table = pd.DataFrame(rows, columns=list(NAME_COLUMNS))
    if earlier is not None:
        logger.info(
            "cluster names: %d of %d follow the earlier run",
            int(((table["earlier"] != "") & (table["n"] > 0)).sum()),
            len(size),
        )
    return adata, table


def choose_resolution(
    connectivities: sp.csr_matrix, *, resolutions: Sequence[float], n_stability: int, seed: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """The work of :func:`cluster` on a graph: the table, and the codes at the chosen resolution."""
    from sklearn.metrics import adjusted_rand_score

    rng = np.random.default_rng(seed)
    n = connectivities.shape[0]
    subsets = [np.sort(rng.choice(n, size=max(int(SHARE_RESAMPLED * n), 1), replace=False)) for _ in range(n_stability)]
    graphs = [connectivities[rows][:, rows] for rows in subsets]
    rows, codes = [], []
    for resolution in sorted(resolutions):
        labels = leiden(connectivities, resolution=resolution, seed=seed)
        agreement = [
            adjusted_rand_score(labels[part], leiden(graph, resolution=resolution, seed=seed + 1 + i))
            for i, (part, graph) in enumerate(zip(subsets, graphs, strict=True))
        ]
        codes.append(labels)
        rows.append((resolution, labels.max() + 1, np.mean(agreement), np.std(agreement), 0))
    table = pd.DataFrame(rows, columns=list(CLUSTERING_COLUMNS))
    best = int(np.flatnonzero(table["stability"] >= table["stability"].max() - STABILITY_TOLERANCE)[-1])
    table.loc[best, "chosen"] = 1
    return table, codes[best]


def add_umap(adata: AnnData, *, seed: int) -> AnnData:
    """Add ``X_umap`` for display, in place (McInnes et al. 2018; the graph of :func:`embed`, started from its first
    two components).

    No result depends on it: distances in a UMAP mean nothing beyond the neighbourhood. Below 15 cells the first two
    components are shown.
    """
    start = np.zeros((adata.n_obs, 2), dtype=np.float32)
    used = adata.obsm[embedding_note(adata)["used"]]
    scores = used[:, :2]
    start[:, : scores.shape[1]] = scores
    if adata.n_obs:
        span = np.ptp(start, axis=0)
        start = 10 * (start - start.min(axis=0)) / np.where(span > 0, span, 1)
    if adata.n_obs < 15:
        adata.obsm[keys.UMAP] = start.astype(np.float32)
        return adata
    from umap.umap_ import find_ab_params, simplicial_set_embedding

    # Two cells at the same place get the same gradients for ever: a little noise parts them.
    start = start + np.random.default_rng(seed).normal(scale=1e-3, size=start.shape)
    a, b = find_ab_params(1.0, 0.5)
    coordinates, _ = simplicial_set_embedding(
        data=used,
        graph=adata.obsp["connectivities"].tocoo(),
        n_components=2,
        initial_alpha=1.0,
        a=a,
        b=b,
        gamma=1.0,
        negative_sample_rate=5,
        n_epochs=200,
        init=start.astype(np.float32),
        random_state=np.random.RandomState(seed),
        metric="euclidean",
        metric_kwds={},
        densmap=False,
        densmap_kwds={},
        output_dens=False,
        parallel=False,
        verbose=False,
    )
    adata.obsm[keys.UMAP] = np.asarray(coordinates, dtype=np.float32)
    return adata
