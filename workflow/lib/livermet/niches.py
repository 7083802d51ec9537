"""Niches: recurring neighbourhoods over all sections of a scope, by two definitions, and where they are structures.

"composition" (k-means on the cell types of a window; Schuerch et al. 2020 Cell) is the primary definition;
"expression" (a Gaussian mixture on expression, aggregated ring by ring; after CellCharter, Varrone et al. 2024 Nat
Genet) is there to confirm it. Spots, bins and cells are clustered apart: a spot's composition is the mean of several
cells and its rings reach 200 um, a cell's is one type and its window 50 um, so the same tissue gives other points, and
together they would be divided by platform first. Labels carry the resolution in their name where a scope has several.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from livermet.graph import pitch
from livermet.neighbourhood import BY_DISTANCE, REASONS, SMEARED, detrend, permutation, sides, strata
from livermet.section import NO_NICHE, Section

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

COMPOSITION = "composition"
EXPRESSION = "expression"
LETTER = {COMPOSITION: "n", EXPRESSION: "e"}
LABEL_COLUMNS = ("library_id", "barcode", "niche", "niche_expression")
NICHE_COLUMNS = (
    "niche", "name", "cell_type", "mean_abundance", "enrichment", "n_spots", "n_patients",
    "definition", "resolution", "confirmed", "match", "jaccard", "claim",
)  # fmt: skip
STABILITY_COLUMNS = ("k", "ari_mean", "ari_sd", "chosen", "definition", "resolution", "basis")
CONSENSUS_COLUMNS = ("library_id", "resolution", "n_spots", "ari")
STRUCTURE_COLUMNS = (
    "library_id", "niche", "n_spots", "share", "joins", "null_joins", "join_z", "status", "reason",
)  # fmt: skip
# Added to shares before logarithms and ratios: about the smallest share that deconvolution can tell from none.
PSEUDO = 0.005
# A niche counts for a patient who has at least this share of spots in it: one stray spot makes no niche general. A
# small niche may so count for no patient.
MIN_SHARE_OF_PATIENT = 0.05
# Refusal R14: a niche of one patient is that patient's tissue.
MIN_PATIENTS = 2
# Points that clusters are fitted to, and that their stability is reckoned on; all points are then assigned.
MAX_FIT = 50_000
MAX_STABILITY = 20_000
# Cells per section behind the gene-gene correlations, and cells handled at once.
CHUNK = 20_000
# With fewer genes in common, sections are embedded by their abundances.
MIN_SHARED_GENES = 50
# Spots of a niche in a section below which its clustering is not judged.
MIN_NICHE_SPOTS = 20
# One-sided level of 2.5 % for a section of twenty niches (Bonferroni).
STRUCTURE_Z = 3.0

Counts = Mapping[str, Callable[[], "AnnData"]]
Clusterer = Callable[[np.ndarray, int, int], Any]


@dataclass(frozen=True)
class Niches:
    """Labels per spot, composition per niche, stability per k, agreement, structure, and "" or why there are none."""

    labels: pd.DataFrame
    composition: pd.DataFrame
    stability: pd.DataFrame
    consensus: pd.DataFrame
    structure: pd.DataFrame
    reason: str


@dataclass(frozen=True)
class _Block:
    """The usable spots of a section in the order of their coordinates: index, compositions, windows, graph."""

    section: Section
    index: np.ndarray
    own: np.ndarray
    windows: sp.csr_matrix
    graph: sp.csr_matrix


@dataclass(frozen=True)
class _Model:
    """What gives a composition its niche: scaling as of the scope, and the clusters."""

    mean: np.ndarray
    scale: np.ndarray
    clusters: Any

    def codes(self, composition: np.ndarray) -> np.ndarray:
        return self.clusters.predict((np.sqrt(composition) - self.mean) / self.scale)


def ring_windows(graph: sp.csr_matrix, *, rings: int, own_weight: float) -> sp.csr_matrix:
    """Weights of the spots that make up the window of each spot: its own, and the mean of those around it.

    Parameters
    ----------
    graph
        Neighbours, 0/1.
    rings
        How far the window reaches, in spots.
    own_weight
        Weight of the spot itself against 1 for the mean of all other spots within ``rings``; a cluster of cells
        smaller than a spot would drown in an even mean.

    Returns
    -------
    Spots x spots; rows sum to 1. A spot without neighbours is its own window.
    """
    reach = sp.identity(graph.shape[0], dtype=np.float64, format="csr")
    around = reach.copy()
    for _ in range(rings):
        around = around @ (graph + reach)
    around = sp.csr_matrix(around)
    around.data[:] = 1
    around.setdiag(0)
    around.eliminate_zeros()
    degree = np.asarray(around.sum(axis=1)).ravel()
    own = np.where(degree > 0, own_weight, 1.0) / np.where(degree > 0, own_weight + 1, 1.0)
    return sp.csr_matrix(sp.diags(own) + sp.diags((1 - own) / np.maximum(degree, 1)) @ around)


def radius_windows(coordinates: np.ndarray, *, radius_um: float) -> sp.csr_matrix:
    """Weights of the cells within a radius of each cell, itself among them: cells x cells; rows sum to 1."""
    tree = cKDTree(coordinates)
    blocks = []
    for start in range(0, len(coordinates), CHUNK):
        part = cKDTree(coordinates[start : start + CHUNK])
        pairs = part.sparse_distance_matrix(tree, radius_um, output_type="coo_matrix")
        number = np.bincount(pairs.row, minlength=part.n)
        weight = (1 / number[pairs.row]).astype(np.float32)
        blocks.append(sp.csr_matrix((weight, (pairs.row, pairs.col)), shape=(part.n, tree.n)))
    return sp.vstack(blocks, format="csr")


def _sample(sizes: Sequence[int], *, most: int, rng: np.random.Generator) -> np.ndarray:
    """All points if there are at most ``most``, else as many from each section as an even share allows, at random."""
    if sum(sizes) <= most:
        return np.arange(sum(sizes))
    quota = max(1, most // len(sizes))
    starts = np.cumsum([0, *sizes[:-1]])
    return np.concatenate(
        [
            start + np.sort(rng.choice(size, size=min(size, quota), replace=False))
            for start, size in zip(starts, sizes, strict=True)
        ]
    )


def k_means(points: np.ndarray, k: int, seed: int) -> KMeans:
    """The clusters of the definition by composition."""
    return KMeans(n_clusters=k, n_init=10, random_state=seed).fit(points)


def gaussian_mixture(points: np.ndarray, k: int, seed: int) -> GaussianMixture:
    """The clusters of the definition by expression."""
    return GaussianMixture(k, covariance_type="full", reg_covar=1e-3, max_iter=1000, random_state=seed).fit(points)


def stability(
    points: np.ndarray,
    *,
    k_min: int,
    k_max: int,
    n_seeds: int,
    min_ari: float,
    seed: int,
    clusterer: Clusterer = k_means,
) -> pd.DataFrame:
    """How well niches repeat, for each k.

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
            labels.append(clusterer(points[part], k, int(rng.integers(2**31))).predict(points))
        scores = [adjusted_rand_score(a, b) for i, a in enumerate(labels) for b in labels[i + 1 :]]
        rows.append({"k": k, "ari_mean": float(np.mean(scores)), "ari_sd": float(np.std(scores)), "chosen": 0})
    table = pd.DataFrame(rows)
    good = table.index[table["ari_mean"] >= min_ari]
    table.loc[good[-1] if len(good) else table["ari_mean"].idxmax(), "chosen"] = 1
    return table


def _clusters(points: np.ndarray, sizes: Sequence[int], *, clusterer: Clusterer, seed: int, **options: Any):
    """Clusters at the number chosen by stability, and the table of stability."""
    rng = np.random.default_rng(seed)
    table = stability(points[_sample(sizes, most=MAX_STABILITY, rng=rng)], clusterer=clusterer, seed=seed, **options)
    k = int(table.loc[table["chosen"] == 1, "k"].iloc[0])
    return clusterer(points[_sample(sizes, most=MAX_FIT, rng=rng)], k, seed), table


def _lognormalised(counts: sp.csr_matrix) -> sp.csr_matrix:
    """log1p of counts per 10,000, float32."""
    total = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    result = sp.csr_matrix(sp.diags(1e4 / np.maximum(total, 1)) @ counts)
    result.data = np.log1p(result.data).astype(np.float32)
    return result


def _dispersion(section: AnnData) -> pd.Series:
    """Normalised dispersion of each gene (flavour "seurat" of scanpy)."""
    import scanpy as sc

    work = type(section)(_lognormalised(sp.csr_matrix(section.X)), var=section.var[[]])
    work.uns["log1p"] = {"base": None}
    found = sc.pp.highly_variable_genes(work, flavor="seurat", inplace=False)
    return pd.Series(found["dispersions_norm"].to_numpy(), index=section.var_names)


def expression_embedding(
    blocks: Sequence[_Block], counts: Counts, *, n_genes: int, n_components: int
) -> list[np.ndarray] | None:
    """Principal components of expression within sections, joint over sections that share genes.

    Genes are the most dispersed ones on average over sections among those that all of them measure. Each gene is
    centred and scaled within its section, so that platform, depth and what is private to a patient's genes shift no
    section as a whole; the components are those of the mean gene-gene correlation matrix, to which each section
    contributes alike (up to 20,000 cells of it, evenly spread in space). What makes one section differ from another as
    a whole is lost on purpose: this definition says where in a section, the other how much.

    Returns
    -------
    Spots x components per section; None where fewer than 50 genes are shared.
    """
    dispersions = []
    for block in blocks:
        section = counts[block.section.library_id]()
        section = section[:, ~section.var_names.duplicated()]
        dispersions.append(_dispersion(section[block.section.barcodes[block.index].astype(str)]))
    mean = pd.concat(dispersions, axis=1, join="inner").sort_index().mean(axis=1).dropna()
    if len(mean) < max(MIN_SHARED_GENES, n_components):
        return None
    genes = mean.sort_values(ascending=False, kind="stable").index[:n_genes]
    matrices, centres, scales = [], [], []
    correlation = np.zeros((len(genes), len(genes)))
    for block in blocks:
        section = counts[block.section.library_id]()
        logs = _lognormalised(sp.csr_matrix(section.X))[:, section.var_names.get_indexer_for(genes)]
        logs = logs[section.obs_names.get_indexer(block.section.barcodes[block.index].astype(str))]
        centre = np.asarray(logs.mean(axis=0), dtype=np.float64).ravel()
        variance = np.asarray(logs.multiply(logs).mean(axis=0), dtype=np.float64).ravel() - centre**2
        scale = np.sqrt(np.where(variance > 1e-8, variance, 1))
        part = logs[:: -(-logs.shape[0] // CHUNK)].toarray()
        part = np.clip((part - centre) / scale, -10, 10)
        correlation += part.T @ part / len(part)
        matrices.append(logs)
        centres.append(centre)
        scales.append(scale)
    axes = np.linalg.eigh(correlation)[1][:, ::-1][:, :n_components]
    return [
        np.asarray(logs @ (axes / scale[:, None])) - (centre / scale) @ axes
        for logs, centre, scale in zip(matrices, centres, scales, strict=True)
    ]


def layered(embedding: np.ndarray, graph: sp.csr_matrix, *, layers: int) -> np.ndarray:
    """An embedding of each spot beside its mean over the first, second... ring around it, each layer of equal weight.

    A spot without a ring has the values of the one inside it. Returns spots x (components * (layers + 1)).
    """
    step = sp.csr_matrix(graph + sp.identity(graph.shape[0], format="csr"))
    inner = sp.identity(graph.shape[0], format="csr")
    result = [embedding]
    for _ in range(layers):
        outer = sp.csr_matrix(inner @ step)
        outer.data[:] = 1
        ring = outer - inner
        degree = np.asarray(ring.sum(axis=1)).ravel()[:, None]
        result.append(np.where(degree > 0, (ring @ embedding) / np.maximum(degree, 1), result[-1]))
        inner = outer
    return np.hstack([values / max(np.sqrt(values.var(axis=0).sum()), 1e-12) for values in result])


def _names(enrichment: pd.DataFrame, mean: pd.DataFrame) -> list[str]:
    """Names by up to three types that are enriched 1.4-fold or more and make up 2 %, else by the most abundant type."""
    names = []
    for niche in enrichment.index:
        score = enrichment.loc[niche][(enrichment.loc[niche] >= 0.5) & (mean.loc[niche] >= 0.02)]
        best = score.sort_values(ascending=False, kind="stable").index[:3]
        names.append(" + ".join(best) if len(best) else f"mixed, mostly {mean.loc[niche].idxmax()}")
    return names


def match_earlier(mean: pd.DataFrame, earlier: pd.DataFrame, *, min_similarity: float) -> dict[int, str]:
    """Which niches of an earlier run these are: the assignment with the largest sum of similarities (Hungarian).

    Similarity is what two compositions have in common (1 less half the sum of absolute differences of shares; types
    that one run lacks count as 0 there); pairs below ``min_similarity`` are no match.

    Parameters
    ----------
    mean
        Niches x types, mean shares.
    earlier
        Rows of an earlier ``niches.tsv``.

    Returns
    -------
    Earlier label per row number of ``mean``.
    """
    if earlier.empty:
        return {}
    before = earlier.pivot_table(index="niche", columns="cell_type", values="mean_abundance")
    types = mean.columns.union(before.columns)
    now = mean.reindex(columns=types, fill_value=0).to_numpy()
    then = before.reindex(columns=types, fill_value=0).fillna(0).to_numpy()
    similarity = 1 - np.abs(now[:, None] - then[None]).sum(axis=2) / 2
    rows, columns = linear_sum_assignment(-np.where(similarity >= min_similarity, similarity, 0))
    return {
        int(i): str(before.index[j]) for i, j in zip(rows, columns, strict=True) if similarity[i, j] >= min_similarity
    }


def _describe(
    own: np.ndarray,
    code: np.ndarray,
    patients: np.ndarray,
    *,
    types: Sequence[str],
    prefix: str,
    earlier: pd.DataFrame,
    min_similarity: float,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Labels of the spots, and a row per niche and type; niches by size, then name.

    ``n_patients`` is the number of patients with at least ``MIN_SHARE_OF_PATIENT`` of their spots in the niche, not of
    all with a spot in it: a niche of few spots may have 0.
    """
    found = np.unique(code)
    whole = own.mean(axis=0)
    mean = pd.DataFrame([own[code == j].mean(axis=0) for j in found], columns=list(types))
    enrichment = np.log2((mean + PSEUDO) / (whole + PSEUDO))
    summary = pd.DataFrame({"name": _names(enrichment, mean), "n_spots": [(code == j).sum() for j in found]})
    shares = pd.crosstab(patients, code, normalize="index")
    summary["n_patients"] = [int((shares[j] >= MIN_SHARE_OF_PATIENT).sum()) for j in found]
    known = earlier[earlier["niche"].str.fullmatch(rf"{prefix}\d+")]
    label_of = match_earlier(mean, known, min_similarity=min_similarity)
    names = known.drop_duplicates("niche").set_index("niche")["name"]
    for j, label in label_of.items():
        summary.loc[j, "name"] = names[label]
    order = summary.sort_values(["n_spots", "name"], ascending=[False, True], kind="stable").index
    number = max((int(label.removeprefix(prefix)) for label in names.index), default=0)
    for j in order:
        if j not in label_of:
            number += 1
            label_of[j] = f"{prefix}{number:02d}"
    table = pd.DataFrame(
        [
            {
                "niche": label_of[j],
                "name": summary.loc[j, "name"],
                "cell_type": name,
                "mean_abundance": mean.loc[j, name],
                "enrichment": enrichment.loc[j, name],
                "n_spots": int(summary.loc[j, "n_spots"]),
                "n_patients": int(summary.loc[j, "n_patients"]),
            }
            for j in order
            for name in types
        ]
    )
    labels = np.array([label_of[j] for j in range(len(found))], dtype=object)[np.searchsorted(found, code)]
    return labels, table


def overlap(first: np.ndarray, second: np.ndarray, *, min_jaccard: float) -> pd.DataFrame:
    """Which niche of the other definition is most like each niche, and whether both find it.

    Both find a niche where each is the other's best match and their Jaccard index is at least ``min_jaccard``; a third
    is what two sets of equal size have that share half of their spots.

    Returns
    -------
    Indexed by niche (of either definition): match, jaccard, confirmed (0/1).
    """
    both = pd.crosstab(first, second)
    union = both.sum(axis=1).to_numpy()[:, None] + both.sum(axis=0).to_numpy()[None] - both.to_numpy()
    jaccard = pd.DataFrame(both.to_numpy() / union, index=both.index, columns=both.columns)
    best = pd.concat([jaccard.idxmax(axis=1), jaccard.idxmax(axis=0)])
    value = pd.concat([jaccard.max(axis=1), jaccard.max(axis=0)])
    mutual = [best[best[niche]] == niche for niche in best.index]
    return pd.DataFrame(
        {"match": best, "jaccard": value, "confirmed": (np.array(mutual) & (value >= min_jaccard)).astype(int)}
    )


def _joins(edges: sp.coo_matrix, code: np.ndarray, k: int) -> np.ndarray:
    """Pairs of neighbours that are both in a niche, per niche."""
    start = code[edges.row]
    return np.bincount(start[start == code[edges.col]], minlength=k) / 2


def _structure(
    block: _Block,
    code: np.ndarray,
    model: _Model,
    *,
    labels: Sequence[str],
    bin_um: float,
    n_permutations: int,
    seed: int,
) -> pd.DataFrame:
    """Whether the niches of one section cluster beyond what the distance to the border explains.

    Windows overlap, so labels of neighbours agree wherever nothing is to be found, and permuted labels would call
    every niche a structure. So compositions are permuted: what a trend on either side of the border
    (:func:`livermet.neighbourhood.detrend`) leaves is exchanged within bins of the distance, windows and niches are
    made anew from it, and neighbours that share the niche are counted (join count).
    Hypothesis: given the distance, the composition of a spot says nothing of its neighbours'. z describes the section,
    spots are no replicates. The niches themselves are not sought anew in each draw.
    Estimated distances have errors that neighbours share: with a trend in the distance alone, 6.6 % of the niches of
    independent types were called (198 in 36 simulated sections, up to 13 % in one set); with the trend's surface in
    the coordinates 2.1 % (283 in 52). The price: the surface explains much of a single patch in a small section, so
    that the planted niche was called in 3 of 22 sections of 400 spots, and in 8 of 18 of 1,000 and more (in 9 of 10
    of those with true distances where the clusters had found it). Nothing called in a small section is no evidence of
    nothing there.
    """
    section = block.section
    number = np.bincount(code, minlength=len(labels))
    table = pd.DataFrame({"niche": labels, "n_spots": number, "share": number / len(code)})
    table = table.assign(library_id=section.library_id, status="too_few_spots", reason="")
    table["reason"] = f"fewer than {MIN_NICHE_SPOTS} spots of the niche in this section"
    distance, tumour = section.distance[block.index], sides(section)[block.index]
    bin_um = max(bin_um, pitch(section.coordinates[block.index]))
    groups, kind = strata(distance, tumour, bin_um=bin_um)
    if kind != BY_DISTANCE:
        table[["status", "reason"]] = "no_border", "without a tumour-liver border there is no distance to allow for"
        return table.reindex(columns=list(STRUCTURE_COLUMNS))
    if section.resolution == "bin":  # one cell lies in several of them, which a permutation of bins does not keep
        table[["status", "reason"]] = SMEARED, REASONS[SMEARED]
        return table.reindex(columns=list(STRUCTURE_COLUMNS))
    residual = detrend(block.own, section.coordinates[block.index], distance, tumour, bin_um=bin_um)
    expected = block.windows @ (block.own - residual)
    edges = sp.coo_matrix(block.graph)
    null = np.empty((n_permutations, len(labels)))
    for i in range(n_permutations):
        order = permutation(groups, np.random.default_rng([seed, i]))
        composition = np.maximum(expected + block.windows @ residual[order], 0)
        composition /= composition.sum(axis=1, keepdims=True)
        null[i] = _joins(edges, model.codes(composition), len(labels))
    table["joins"] = _joins(edges, code, len(labels))
    table["null_joins"] = null.mean(axis=0)
    sd = null.std(axis=0, ddof=1)
    z = np.divide(table["joins"] - null.mean(axis=0), sd, out=np.full(len(sd), np.nan), where=sd > 0)
    judged = (number >= MIN_NICHE_SPOTS) & np.isfinite(z)
    table["join_z"] = np.where(judged, z, np.nan)
    table.loc[judged, "status"] = np.where(z[judged] > STRUCTURE_Z, "structure", "as_expected")
    table.loc[judged, "reason"] = ""
    return table.reindex(columns=list(STRUCTURE_COLUMNS))


def _empty(reason: str, labels: pd.DataFrame | None = None) -> Niches:
    logger.info("niches: none, %s", reason)
    return Niches(
        labels=pd.DataFrame(columns=list(LABEL_COLUMNS), dtype=str) if labels is None else labels,
        composition=pd.DataFrame(columns=list(NICHE_COLUMNS)),
        stability=pd.DataFrame(columns=list(STABILITY_COLUMNS)),
        consensus=pd.DataFrame(columns=list(CONSENSUS_COLUMNS)),
        structure=pd.DataFrame(columns=list(STRUCTURE_COLUMNS)),
        reason=reason,
    )


def _block(section: Section, *, types: Sequence[str], rings: int, own_weight: float, radius_um: float) -> _Block:
    abundance = section.abundance.reindex(columns=types, fill_value=0.0).to_numpy(dtype=np.float64)
    index = np.lexsort(section.coordinates.T)
    index = index[~np.isnan(abundance[index]).any(axis=1)] if types else index[:0]
    graph = sp.csr_matrix(section.graph)[index][:, index]
    if section.resolution == "spot":
        windows = ring_windows(graph, rings=rings, own_weight=own_weight)
    elif len(index):
        windows = radius_windows(section.coordinates[index], radius_um=radius_um)
    else:
        windows = sp.csr_matrix((0, 0))
    return _Block(section=section, index=index, own=abundance[index], windows=windows, graph=graph)


def _earlier(table: pd.DataFrame | None) -> pd.DataFrame:
    """Rows of an earlier niches.tsv, checked."""
    needed = ["niche", "name", "cell_type", "mean_abundance"]
    if table is None:
        return pd.DataFrame(columns=needed)
    lacking = [name for name in needed if name not in table]
    if lacking:
        raise ValueError(
            f"niches, earlier: column {', '.join(lacking)} is missing; expected the niches.tsv of an earlier run with "
            f"columns {', '.join(needed)}; correct the path in the config, section niches"
        )
    return table.astype({"niche": str, "name": str})


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
    counts: Counts | None = None,
    earlier: pd.DataFrame | None = None,
    radius_um: float = 50.0,
    layers: int = 2,
    n_genes: int = 1000,
    n_components: int = 10,
    min_jaccard: float = 0.33,
    min_similarity: float = 0.8,
    bin_um: float = 50.0,
    n_permutations: int = 100,
) -> Niches:
    """Niches common to all sections of a resolution, by composition and by expression.

    Niches are ordered by size, then name, and labelled "n01", "n02"... (by expression "e01"...; "cell_n01" where a
    scope has spots as well); a spot without abundances has niche "none". A niche is no finding by itself: it is tested
    as a fraction per patient; ``n_patients`` counts those with at least ``MIN_SHARE_OF_PATIENT`` (5 %) of their spots
    in it, which a small niche may reach in none; ``claim`` says R14 where these are fewer than two. The result does not
    depend on the order of sections or spots, nor on threads.

    Parameters
    ----------
    sections
        Sections with abundances over their own types; a type that a section lacks counts as 0 there.
    min_spots
        Fewest spots with abundances over all sections of a resolution; below it there are no niches, with the reason.
    rings, own_weight
        See :func:`ring_windows`; for spots.
    radius_um
        See :func:`radius_windows`; for bins and cells.
    lineage_weight
        Square roots of shares (Hellinger distance) keep rare types from vanishing beside malignant cells and
        hepatocytes; they are divided by their standard deviation to this power: 0 leaves abundance in charge and gives
        tissue domains, 1 lets each type count alike, noise of rare types included.
    k_min, k_max, n_seeds, min_ari
        See :func:`stability`.
    counts
        By library what gives its counts. Without it, or where sections of a resolution share fewer than 50 genes, the
        definition by expression rests on the abundances in its place (``basis`` in the table of stability).
    layers, n_genes, n_components
        See :func:`layered`, :func:`expression_embedding`.
    earlier, min_similarity
        See :func:`match_earlier`.
    min_jaccard
        See :func:`overlap`.
    bin_um, n_permutations
        Width of a distance bin and draws of the null behind ``structure``.
    """
    sections = sorted((s for s in sections if len(s.barcodes)), key=lambda s: s.library_id)
    if not sections:
        return _empty("the scope has no section with spots")
    earlier = _earlier(earlier)
    sizes = [len(s.barcodes) for s in sections]
    labels = pd.DataFrame(
        {
            "library_id": np.repeat([s.library_id for s in sections], sizes),
            "barcode": np.concatenate([s.barcodes for s in sections]),
            "niche": NO_NICHE,
            "niche_expression": NO_NICHE,
        },
        columns=list(LABEL_COLUMNS),
    )
    starts = dict(zip([s.library_id for s in sections], np.cumsum([0, *sizes[:-1]]), strict=True))
    resolutions = sorted({s.resolution for s in sections})
    reasons, tables = [], []
    for resolution in resolutions:
        members = [s for s in sections if s.resolution == resolution]
        types = sorted({name for s in members for name in s.abundance.columns})
        options = {"rings": rings, "own_weight": own_weight, "radius_um": radius_um}
        blocks = [_block(section, types=types, **options) for section in members]
        blocks = [block for block in blocks if len(block.index)]
        number, needed = sum(len(block.index) for block in blocks), max(min_spots, 2 * k_max)
        if number < needed:
            reasons.append(f"{number} {resolution}s with abundances in the scope, {needed} needed")
            logger.info("niches: none of %ss, %s", resolution, reasons[-1])
            continue
        with threadpool_limits(1):
            found = _niches_of(
                blocks,
                types=types,
                prefix=f"{resolution}_" if len(resolutions) > 1 else "",
                choice={"k_min": k_min, "k_max": k_max, "n_seeds": n_seeds, "min_ari": min_ari},
                lineage_weight=lineage_weight,
                counts=counts,
                layers=layers,
                n_genes=n_genes,
                n_components=n_components,
                earlier=earlier,
                min_similarity=min_similarity,
                min_jaccard=min_jaccard,
                bin_um=bin_um,
                n_permutations=n_permutations,
                seed=seed,
            )
        place = np.concatenate([starts[block.section.library_id] + block.index for block in blocks])
        labels.loc[place, "niche"] = found.labels["niche"].to_numpy()
        labels.loc[place, "niche_expression"] = found.labels["niche_expression"].to_numpy()
        tables.append(found)
    if not tables:
        return _empty("; ".join(reasons), labels)
    whole = pd.concat([found.composition for found in tables], ignore_index=True)
    primary = whole["definition"] == COMPOSITION
    return Niches(
        labels=labels,
        composition=pd.concat([whole[primary], whole[~primary]], ignore_index=True),
        stability=pd.concat([found.stability for found in tables], ignore_index=True),
        consensus=pd.concat([found.consensus for found in tables], ignore_index=True),
        structure=pd.concat([found.structure for found in tables], ignore_index=True),
        reason="",
    )


def _niches_of(
    blocks: Sequence[_Block],
    *,
    types: Sequence[str],
    prefix: str,
    choice: dict[str, Any],
    lineage_weight: float,
    counts: Counts | None,
    layers: int,
    n_genes: int,
    n_components: int,
    earlier: pd.DataFrame,
    min_similarity: float,
    min_jaccard: float,
    bin_um: float,
    n_permutations: int,
    seed: int,
) -> Niches:
    """Niches of the sections of one resolution; labels in the order of the blocks' spots."""
    resolution = blocks[0].section.resolution
    sizes = [len(block.index) for block in blocks]
    ends = np.cumsum(sizes)[:-1]
    own = np.vstack([block.own for block in blocks])
    patients = np.repeat([block.section.patient_id for block in blocks], sizes)
    root = np.sqrt(np.vstack([block.windows @ block.own for block in blocks]))
    sd = root.std(axis=0)
    mean, scale = root.mean(axis=0), np.where(sd > 0, sd, 1) ** lineage_weight
    clusters, stable = _clusters((root - mean) / scale, sizes, clusterer=k_means, seed=seed, **choice)
    model = _Model(mean=mean, scale=scale, clusters=clusters)
    code = {COMPOSITION: clusters.predict((root - mean) / scale)}

    embeddings = None
    if counts is not None:
        embeddings = expression_embedding(blocks, counts, n_genes=n_genes, n_components=n_components)
    basis = EXPRESSION
    if embeddings is None:
        basis, embeddings = "abundance", [np.sqrt(block.own) - np.sqrt(block.own).mean(axis=0) for block in blocks]
        logger.info("niches of %ss: no shared genes to embed, abundances in their place", resolution)
    points = np.vstack(
        [layered(values, block.graph, layers=layers) for values, block in zip(embeddings, blocks, strict=True)]
    )
    part = _sample(sizes, most=MAX_FIT, rng=np.random.default_rng(seed))
    rotation = PCA(min(n_components, *points.shape), svd_solver="full").fit(points[part])
    points = rotation.transform(points)
    points /= points[:, 0].std()
    clusters, stable_too = _clusters(points, sizes, clusterer=gaussian_mixture, seed=seed, **choice)
    code[EXPRESSION] = clusters.predict(points)

    labels, compositions = {}, []
    for definition, values in code.items():
        labels[definition], table = _describe(
            own,
            values,
            patients,
            types=types,
            prefix=prefix + LETTER[definition],
            earlier=earlier,
            min_similarity=min_similarity,
        )
        compositions.append(table.assign(definition=definition))
    table = pd.concat(compositions, ignore_index=True).assign(resolution=resolution)
    agreement = overlap(labels[COMPOSITION], labels[EXPRESSION], min_jaccard=min_jaccard)
    table = table.join(agreement, on="niche")
    few = table["n_patients"] < MIN_PATIENTS
    table["claim"] = np.where(few, f"R14: in fewer than {MIN_PATIENTS} patients", "")
    pieces = [np.split(labels[definition], ends) for definition in (COMPOSITION, EXPRESSION)]
    consensus = [
        {"library_id": block.section.library_id, "n_spots": len(a), "ari": adjusted_rand_score(a, b)}
        for block, a, b in zip(blocks, *pieces, strict=True)
    ]
    overall = adjusted_rand_score(labels[COMPOSITION], labels[EXPRESSION])
    consensus.insert(0, {"library_id": "all", "n_spots": len(own), "ari": overall})
    k = model.clusters.n_clusters
    label_of = [
        labels[COMPOSITION][code[COMPOSITION] == j][0] if (code[COMPOSITION] == j).any() else "" for j in range(k)
    ]
    structure = pd.concat(
        [
            _structure(block, part, model, labels=label_of, bin_um=bin_um, n_permutations=n_permutations, seed=seed)
            for block, part in zip(blocks, np.split(code[COMPOSITION], ends), strict=True)
        ],
        ignore_index=True,
    )
    logger.info(
        "niches of %ss: %d sections, %d spots, %d by composition, %d by expression (%s), agreement %.2f",
        resolution, len(blocks), len(own), k, len(np.unique(code[EXPRESSION])), basis, overall,
    )  # fmt: skip
    return Niches(
        labels=pd.DataFrame({"niche": labels[COMPOSITION], "niche_expression": labels[EXPRESSION]}),
        composition=table[list(NICHE_COLUMNS)],
        stability=pd.concat(
            [
                stable.assign(definition=COMPOSITION, resolution=resolution, basis=COMPOSITION),
                stable_too.assign(definition=EXPRESSION, resolution=resolution, basis=basis),
            ],
            ignore_index=True,
        )[list(STABILITY_COLUMNS)],
        consensus=pd.DataFrame(consensus).assign(resolution=resolution)[list(CONSENSUS_COLUMNS)],
        structure=structure,
        reason="",
    )
