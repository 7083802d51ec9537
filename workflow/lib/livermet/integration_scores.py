"""Was it right to integrate? Scores of the plain and the integrated embedding, over-correction, and the choice.

Mixing of batches and biology kept are scored as by Luecken et al. 2022 (doi:10.1038/s41592-021-01336-8). The groups of
cells that stand for biology are those that quality control found within each library: groups from the integrated
embedding itself would judge it by its own doing. They are coarse, and hold several types each. Scores that need one
label per type are therefore left out: graph connectivity would punish that types of one group come apart.

These scores reward the mixing of malignant cells, which truly differ between patients. Over-correction is therefore
measured by itself. Integration may move libraries against each other, but should not rearrange the cells within a
library; and cells that it lays beside those of other patients should express the markers of the same type, malignant
cells those of the same state. Each has a limit from the data: the lowest score of the plain embedding without a random
fifth of its variable genes (five draws). What changes more than that was changed by more than the choice of genes
would.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from livermet import keys
from livermet.integrate import connect, embedding_note, log_normalise, note_embedding, one_hot
from livermet.markers import load_markers, states_of
from livermet.qc import NO_GROUP

logger = logging.getLogger(__name__)

SCORED_CELLS = 10_000  # cells scored at most; neighbour search grows with their square
SILHOUETTE_CELLS = 3_000
GROUP_CELLS = 1_000  # cells per group behind its silhouette over batches
LISI_NEIGHBOURS = 90  # with perplexity 30, as in scIB
LISI_CELLS = 3_000
AGREEMENT_CELLS = 1_000
AXES_CELLS = 2_000
NEIGHBOURS = 10
MIXING_NEIGHBOURS = 30
MIN_GROUP = 10
MIN_EPITHELIAL = 50
MIN_GENES = 3
LEFT_OUT = 0.2
N_NULL = 5
BIOLOGY_WEIGHT = 0.6
EPITHELIAL = "epithelial"
BATCH_MIXING, BIOLOGY, OVER_CORRECTION, OVERALL, CHOICE = (
    "batch mixing",
    "biology kept",
    "over-correction",
    "overall",
    "choice",
)
COLUMNS = ("score", "kind", "plain", "integrated", "limit", "better", "n", "meaning")
SCORES = {
    "ilisi": (
        BATCH_MIXING,
        "batches among the 90 nearest cells (iLISI): 0 only the cell's own, 1 all batches in equal parts",
    ),
    "batch_asw": (
        BATCH_MIXING,
        "silhouette over batches within coarse groups: 0 batches lie apart, 1 they overlap",
    ),
    "batch_variance": (
        BATCH_MIXING,
        "share of the variance that batch does not explain (principal component regression)",
    ),
    "clisi": (
        BIOLOGY,
        "coarse groups among the 90 nearest cells (cLISI): 1 only the cell's own, 0 all groups in equal parts",
    ),
    "group_asw": (BIOLOGY, "silhouette over coarse groups: 0.5 groups overlap, 1 they lie far apart"),
    "isolated_group": (
        BIOLOGY,
        "silhouette of the coarse group that the fewest batches hold: 0.5 it overlaps others, 1 it lies far apart",
    ),
    "kept_neighbours": (
        OVER_CORRECTION,
        "share of a cell's 10 nearest cells of its own library that integration leaves among them; limit: what leaving "
        "out a random fifth of the variable genes leaves",
    ),
    "kept_neighbours_epithelial": (OVER_CORRECTION, "the same over epithelial cells, where malignant cells are"),
    "type_agreement": (
        OVER_CORRECTION,
        "correlation of the marker scores of each type, within libraries, with the 10 nearest cells of other patients; "
        "low where unlike types are laid upon each other",
    ),
    "state_agreement": (
        OVER_CORRECTION,
        "the same for the malignant states of epithelial cells: low where malignant cells of unlike states are merged",
    ),
    "patient_mixing": (
        OVER_CORRECTION,
        "epithelial cells: neighbours of other patients against what chance would give (1); high is over-correction "
        "only where a score above falls below its limit",
    ),
}


def score_embeddings(adata: AnnData, groups: pd.Series, *, batch_key: str, seed: int) -> pd.DataFrame:
    """Score ``X_pca`` and ``X_integrated``, side by side.

    Above 10,000 cells a random 10,000 of them are scored. Nothing here is a test: scores compare two embeddings of
    the same cells.

    Parameters
    ----------
    adata
        Cells with counts, ``highly_variable``, both embeddings, library_id and patient_id.
    groups
        Coarse group of each cell within its library (:func:`livermet.qc.coarse_groups`) by cell name; cells that are
        missing, empty or "all" have none.
    batch_key
        Column of obs that integration aligned over.
    seed
        Seed of all sampling.

    Returns
    -------
    One row per score of ``SCORES`` and three of kind "overall" (means per kind, and 0.6 biology kept + 0.4 batch
    mixing, the weights of Luecken et al. 2022; unlike there, scores are not rescaled to their range over the
    embeddings, which with two of them would leave 0 and 1 alone). Columns: score, kind, plain, integrated (missing
    where nothing was aligned), limit (the least that integration may leave; over-correction only), better (plain,
    integrated, equal; for over-correction: plain below the limit, else equal; "" where nothing is compared), n (cells
    behind the score), meaning. A score that can't be had (no groups, fewer than 50 epithelial cells, one patient) is
    missing.
    """
    if adata.n_obs == 0:
        return pd.DataFrame(columns=list(COLUMNS))
    rng = np.random.default_rng(seed)
    cells = adata[np.sort(rng.choice(adata.n_obs, size=min(SCORED_CELLS, adata.n_obs), replace=False))]
    obs = cells.obs
    embeddings = {"plain": np.asarray(cells.obsm[keys.PCA], dtype=np.float64)}
    if embedding_note(adata)["used"] == keys.INTEGRATED:
        embeddings["integrated"] = np.asarray(cells.obsm[keys.INTEGRATED], dtype=np.float64)
    batch = pd.factorize(obs[batch_key].astype(str), sort=True)[0]
    group, _ = _group_codes(groups.reindex(obs.index))
    scores = {
        name: _mixing_and_biology(matrix, batch, group, rng=np.random.default_rng(seed))
        for name, matrix in embeddings.items()
    }
    limits: dict[str, float] = {}
    if "integrated" in embeddings:
        epithelial = (groups.reindex(obs.index) == EPITHELIAL).to_numpy()
        corrected, limits = _over_correction(cells, embeddings, epithelial, rng=rng)
        for name, values in corrected.items():
            scores[name] |= values
    table = _as_table(scores, limits)
    logger.info("scored %d of %d cells, %d with a coarse group", cells.n_obs, adata.n_obs, int((group >= 0).sum()))
    return table


def _group_codes(groups: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """Integer code per cell, -1 for none; all -1 where fewer than two groups are found."""
    known = groups.where(~groups.isin(["", NO_GROUP]))
    codes, names = pd.factorize(known, sort=True)
    return (codes, names) if len(names) > 1 else (np.full(len(codes), -1), names[:0])


def _as_table(scores: Mapping[str, Mapping[str, tuple[float, int]]], limits: Mapping[str, float]) -> pd.DataFrame:
    rows = []
    for name, (kind, meaning) in SCORES.items():
        plain, n = scores["plain"].get(name, (np.nan, 0))
        integrated, _ = scores.get("integrated", {}).get(name, (np.nan, 0))
        limit = limits.get(name, np.nan)
        rows.append((name, kind, plain, integrated, limit, _better(kind, plain, integrated, limit), n, meaning))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    mean = table.groupby("kind")[["plain", "integrated"]].mean()
    for name, kind, weights in (
        ("batch_mixing", "mean of the scores of batch mixing", (0.0, 1.0)),
        ("biology_kept", "mean of the scores of biology kept", (1.0, 0.0)),
        ("overall", "0.6 biology kept + 0.4 batch mixing", (BIOLOGY_WEIGHT, 1 - BIOLOGY_WEIGHT)),
    ):
        parts = [weight * mean.loc[of] for weight, of in zip(weights, (BIOLOGY, BATCH_MIXING), strict=True) if weight]
        plain, integrated = sum(parts[1:], parts[0])
        better = _better(OVERALL, plain, integrated, np.nan)
        table.loc[len(table)] = [name, OVERALL, plain, integrated, np.nan, better, int(table["n"].max()), kind]
    return table


def _better(kind: str, plain: float, integrated: float, limit: float) -> str:
    if np.isnan(plain) or np.isnan(integrated):
        return ""
    if kind == OVER_CORRECTION:
        return "" if np.isnan(limit) else "plain" if integrated < limit else "equal"
    difference = round(integrated - plain, 3)
    return "equal" if difference == 0 else "integrated" if difference > 0 else "plain"


def decide(scores: pd.DataFrame) -> tuple[str, str]:
    """Which embedding the scores speak for, and why, in a sentence.

    Plain where integration falls below a limit of over-correction, or has no better overall score.

    Parameters
    ----------
    scores
        From :func:`score_embeddings`, of both embeddings.

    Returns
    -------
    ``X_pca`` or ``X_integrated``, and the reason.
    """
    lost = scores[(scores["kind"] == OVER_CORRECTION) & (scores["integrated"] < scores["limit"])]
    if len(lost):
        which = ", ".join(f"{row.score} {row.integrated:.2f}, limit {row.limit:.2f}" for row in lost.itertuples())
        return keys.PCA, f"plain components: integration over-corrects ({which})"
    overall = scores.set_index("score").loc["overall"]
    plain, integrated = overall["plain"], overall["integrated"]
    if np.isnan(plain) or np.isnan(integrated):
        return keys.PCA, "plain components: without coarse groups of cells it can't be scored whether biology is kept"
    compared = f"overall score {integrated:.3f} against {plain:.3f}"
    if integrated <= plain:
        return keys.PCA, f"plain components: integration is no better ({compared})"
    checked = scores.set_index("score")["limit"].notna()
    over = "no over-correction"
    if not (checked["kept_neighbours_epithelial"] and checked["state_agreement"]):
        over += " found, but too few epithelial cells or patients to check malignant states"
    return keys.INTEGRATED, f"integrated: better than the plain components ({compared}); {over}"


def choose_embedding(
    adata: AnnData, scores: pd.DataFrame, *, harmony: bool | str, n_neighbours: int
) -> tuple[AnnData, pd.DataFrame]:
    """Let the graph, and all that follows from it, stand on the embedding that is better, in place.

    Parameters
    ----------
    adata
        Cells as :func:`livermet.integrate.embed` leaves them: on ``X_integrated`` where there was something to align.
    scores
        From :func:`score_embeddings`.
    harmony
        "auto" for :func:`decide`; True or False where the config decides.
    n_neighbours
        Neighbours per cell in the graph.

    Returns
    -------
    The same object, with the choice noted (:func:`livermet.integrate.note_embedding`), and the scores with a last row
    of kind "choice": 1 under the embedding that is used, 0 under the other; its meaning is the reason.
    """
    note = embedding_note(adata)
    used, reason = note["used"], note["reason"]
    if harmony is True and used == keys.INTEGRATED:
        reason = "integrated: integrate: harmony is true"
    elif used == keys.INTEGRATED:
        used, reason = decide(scores)
    note_embedding(adata, used=used, reason=reason)
    if used != note["used"]:
        connect(adata, n_neighbours=n_neighbours)
    logger.info("embedding used: %s", reason)
    plain = used == keys.PCA
    name = "plain" if plain else "integrated"
    table = scores.copy()
    table.loc[len(table)] = ["used", CHOICE, float(plain), float(not plain), np.nan, name, adata.n_obs, reason]
    return adata, table


def _mixing_and_biology(
    matrix: np.ndarray, batch: np.ndarray, group: np.ndarray, *, rng: np.random.Generator
) -> dict[str, tuple[float, int]]:
    queries = np.sort(rng.permutation(len(matrix))[:LISI_CELLS])
    distance, index = _nearest(matrix, k=min(LISI_NEIGHBOURS, len(matrix) - 1), queries=queries)
    weights = perplexity_weights(distance)
    scores = {"batch_variance": (1 - explained_variance(matrix, batch), len(matrix))}
    n_batches = int(batch.max()) + 1
    if n_batches > 1:
        scores["ilisi"] = (float(np.median(lisi(weights, index, batch)) - 1) / (n_batches - 1), queries.size)
    known = group >= 0
    if not known.any():
        return scores
    n_groups = int(group.max()) + 1
    # Cells without a group are a group of their own among the neighbours, and are not scored.
    near = lisi(weights, index, np.where(known, group, n_groups))[known[queries]]
    if near.size:
        scores["clisi"] = (float(n_groups - np.median(near)) / (n_groups - 1), near.size)
    scores["batch_asw"] = batch_silhouette(matrix, batch, group, rng=rng)
    scores |= group_silhouettes(matrix, batch, group, rng=rng)
    return scores


def _nearest(matrix: np.ndarray, *, k: int, queries: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Distance and position of the k nearest other cells; of all cells, or of those at the positions given."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(matrix)
    if queries is None:
        return search.kneighbors()
    distance, index = search.kneighbors(matrix[queries], n_neighbors=k + 1)
    return distance[:, 1:], index[:, 1:]


def perplexity_weights(distance: np.ndarray) -> np.ndarray:
    """Weights of each cell's neighbours, exp(-b d) with b such that their perplexity is a third of their number.

    Korsunsky et al. 2019 (LISI); all cells at once.

    Parameters
    ----------
    distance
        Cells x neighbours.

    Returns
    -------
    Cells x neighbours; each row sums to 1.
    """
    target = np.log(max(distance.shape[1] // 3, 1))
    beyond = distance - distance[:, :1]
    low, high = np.zeros(len(distance)), np.full(len(distance), np.inf)
    steepness = np.ones(len(distance))
    for _ in range(50):
        weight = np.exp(-beyond * steepness[:, None])
        total = weight.sum(axis=1)
        entropy = np.log(total) + steepness * (beyond * weight).sum(axis=1) / total
        if np.abs(entropy - target).max() < 1e-5:
            break
        flat = entropy > target
        low, high = np.where(flat, steepness, low), np.where(flat, high, steepness)
        steepness = np.where(np.isinf(high), steepness * 2, (low + high) / 2)
    return weight / total[:, None]


def lisi(weights: np.ndarray, index: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Local inverse Simpson's index (Korsunsky et al. 2019): how many labels, in effect, are around each cell.

    Parameters
    ----------
    weights, index
        Weight and position of each cell's neighbours.
    codes
        Integer label of each cell.

    Returns
    -------
    1 (one label) to the number of labels, per cell.
    """
    n, k = index.shape
    start = np.arange(0, n * k + 1, k)
    around = sp.csr_matrix((weights.ravel(), codes[index].ravel(), start), shape=(n, int(codes.max()) + 1))
    around.sum_duplicates()
    return 1 / np.asarray(around.multiply(around).sum(axis=1)).ravel()


def explained_variance(matrix: np.ndarray, batch: np.ndarray) -> float:
    """Share of the variance of an embedding between batches.

    That is principal component regression (Buettner et al. 2019): R2 of each component on batch, weighted by its
    variance.
    """
    centred = matrix - matrix.mean(axis=0)
    groups = one_hot(batch)
    size = np.asarray(groups.sum(axis=1)).ravel()
    between = ((groups @ centred) ** 2 / size[:, None]).sum()
    total = (centred**2).sum()
    return float(between / total) if total > 0 else 0.0


def _sizeable(group: np.ndarray) -> np.ndarray:
    codes, size = np.unique(group[group >= 0], return_counts=True)
    return codes[size >= MIN_GROUP]


def batch_silhouette(
    matrix: np.ndarray, batch: np.ndarray, group: np.ndarray, *, rng: np.random.Generator
) -> tuple[float, int]:
    """Mean over groups of 1 - |silhouette over batches| (Luecken et al. 2022), and the cells behind it.

    At most 1,000 random cells of each group count; groups of fewer than 10 cells or of one batch are left out.
    """
    from sklearn.metrics import silhouette_samples

    means, n = [], 0
    for code in _sizeable(group):
        rows = np.flatnonzero(group == code)
        rows = np.sort(rng.choice(rows, size=min(GROUP_CELLS, rows.size), replace=False))
        if 1 < len(np.unique(batch[rows])) < rows.size:
            means.append(np.mean(1 - np.abs(silhouette_samples(matrix[rows], batch[rows]))))
            n += rows.size
    return (float(np.mean(means)) if means else np.nan), n


def group_silhouettes(
    matrix: np.ndarray, batch: np.ndarray, group: np.ndarray, *, rng: np.random.Generator
) -> dict[str, tuple[float, int]]:
    """Silhouette over groups, of all cells and of the isolated groups, scaled to 0 to 1 (Luecken et al. 2022).

    Isolated are the groups (of at least 10 cells) that the fewest batches hold; none are where all batches hold all
    groups. Scored are 3,000 random cells and up to 1,000 of each isolated group.
    """
    from sklearn.metrics import silhouette_samples

    known = np.flatnonzero(group >= 0)
    drawn = rng.choice(known, size=min(SILHOUETTE_CELLS, known.size), replace=False)
    held = {code: len(np.unique(batch[group == code])) for code in _sizeable(group)}
    fewest = min(held.values(), default=0)
    isolated = [code for code, n in held.items() if n == fewest and n < len(np.unique(batch))]
    extra = [rng.permutation(np.flatnonzero(group == code))[:GROUP_CELLS] for code in isolated]
    rows = np.unique(np.concatenate([drawn, *extra]))
    if not 1 < len(np.unique(group[rows])) < rows.size:
        return {}
    width = (silhouette_samples(matrix[rows], group[rows]) + 1) / 2
    scores = {"group_asw": (float(width[np.isin(rows, drawn)].mean()), len(drawn))}
    if isolated:
        alone = [width[group[rows] == code] for code in isolated]
        scores["isolated_group"] = (float(np.mean([values.mean() for values in alone])), sum(map(len, alone)))
    return scores


def _over_correction(
    cells: AnnData, embeddings: Mapping[str, np.ndarray], epithelial: np.ndarray, *, rng: np.random.Generator
) -> tuple[dict[str, dict[str, tuple[float, int]]], dict[str, float]]:
    """Scores of both embeddings, and the limits: the lowest score of the embeddings without a fifth of the genes."""
    library = pd.factorize(cells.obs[keys.LIBRARY].astype(str), sort=True)[0]
    patient = pd.factorize(cells.obs[keys.PATIENT].astype(str), sort=True)[0]
    log_counts = log_normalise(cells.X)
    symbols = cells.var[keys.SYMBOL].astype(str).to_numpy()
    markers = load_markers()
    types = markers.loc[markers["level"] == "type", "genes"]
    states = markers.loc[states_of()[keys.MALIGNANT_TYPE], "genes"]
    rows = np.flatnonzero(epithelial)
    compared = {}
    if len(np.unique(patient)) > 1:
        compared["type_agreement"] = (np.arange(cells.n_obs), population_scores(log_counts, symbols, types, library))
    if rows.size >= MIN_EPITHELIAL and len(np.unique(patient[rows])) > 1:
        compared["state_agreement"] = (rows, population_scores(log_counts[rows], symbols, states, library[rows]))
    queries = {name: np.sort(rng.permutation(there.size)[:AGREEMENT_CELLS]) for name, (there, _) in compared.items()}
    before = library_neighbours(embeddings["plain"], library)

    def scored(matrix: np.ndarray) -> dict[str, tuple[float, int]]:
        kept = kept_share(before, library_neighbours(matrix, library))
        found = np.isfinite(kept)
        parts = {"kept_neighbours": (found, 1), "kept_neighbours_epithelial": (found & epithelial, MIN_EPITHELIAL)}
        scores = {
            name: (float(kept[part].mean()), int(part.sum()))
            for name, (part, least) in parts.items()
            if part.sum() >= least
        }
        for name, (there, values) in compared.items():
            agreement = neighbour_agreement(matrix[there], values, patient[there], queries[name])
            scores[name] = (agreement, queries[name].size)
        return scores

    scores = {name: scored(matrix) for name, matrix in embeddings.items()}
    variable = log_counts[:, np.flatnonzero(cells.var["highly_variable"])]
    null = [scored(matrix) for matrix in without_genes(embeddings["plain"], variable, rng=rng)]
    limits = {name: min(values[name][0] for values in null) for name in null[0]}
    if "state_agreement" in compared:
        for name, matrix in embeddings.items():
            scores[name]["patient_mixing"] = (patient_mixing(matrix[rows], patient[rows]), rows.size)
    return scores, limits


def without_genes(scores: np.ndarray, variable: sp.csr_matrix, *, rng: np.random.Generator) -> list[np.ndarray]:
    """Five times the component scores without what a random fifth of the genes adds to them.

    Parameters
    ----------
    scores
        Cells x components.
    variable
        Cells x variable genes, log(1 + normalised counts), as the components were made of.
    rng
        Source of the draws.
    """
    mean = np.asarray(variable.mean(axis=0)).ravel()
    # Loadings by least squares: the component scores of the cells are given, those of the genes are not.
    cross = np.asarray(variable.T @ scores) - np.outer(mean, scores.sum(axis=0))
    loadings = cross @ np.linalg.pinv(scores.T @ scores)
    n_out = max(int(LEFT_OUT * variable.shape[1]), 1)
    draws = []
    for _ in range(N_NULL):
        out = np.sort(rng.choice(variable.shape[1], size=n_out, replace=False))
        draws.append(scores - (variable[:, out] @ loadings[out] - mean[out] @ loadings[out]))
    return draws


def library_neighbours(matrix: np.ndarray, library: np.ndarray) -> np.ndarray:
    """Positions of each cell's 10 nearest cells of its own library; -1 in libraries of at most 10 cells."""
    found = np.full((len(matrix), NEIGHBOURS), -1)
    for code in np.unique(library):
        rows = np.flatnonzero(library == code)
        if rows.size > NEIGHBOURS:
            found[rows] = rows[_nearest(matrix[rows], k=NEIGHBOURS)[1]]
    return found


def kept_share(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Share of each cell's neighbours before that are among those after; missing where there are none (-1)."""
    share = (before[:, :, None] == after[:, None, :]).any(axis=2).mean(axis=1)
    return np.where((before[:, 0] < 0) | (after[:, 0] < 0), np.nan, share)


def population_scores(
    log_counts: sp.csr_matrix, symbols: Sequence[str], genes: pd.Series, library: np.ndarray
) -> np.ndarray:
    """How strongly each cell expresses the markers of each population, centred within each library.

    Centred, since a patient's own expression and the library's quality shift all its cells.

    Parameters
    ----------
    log_counts
        Cells x genes, log(1 + normalised counts).
    symbols
        Gene symbols.
    genes
        Marker genes of each population (lists of symbols).
    library
        Integer code of each cell's library.

    Returns
    -------
    Cells x populations: mean z-value of the population's genes. Populations of fewer than three measured genes, or
    without variation, are left out.
    """
    place = pd.Index(symbols)
    columns = []
    for names in genes:
        found = np.flatnonzero(place.isin(names))
        if found.size < MIN_GENES:
            continue
        values = log_counts[:, found]
        mean = np.asarray(values.mean(axis=0)).ravel()
        spread = np.sqrt(np.maximum(np.asarray(values.multiply(values).mean(axis=0)).ravel() - mean**2, 0))
        # The added constant keeps a gene seen in one cell from deciding it.
        columns.append(values @ (1 / (spread + 0.1)) / found.size)
    if not columns:
        return np.zeros((log_counts.shape[0], 0))
    table = pd.DataFrame(np.column_stack(columns))
    centred = (table - table.groupby(library).transform("mean")).to_numpy()
    return centred[:, centred.std(axis=0) > 0]


def neighbour_agreement(matrix: np.ndarray, values: np.ndarray, patient: np.ndarray, queries: np.ndarray) -> float:
    """Correlation of each value with its mean over a cell's 10 nearest cells of other patients; mean over values.

    The values come from counts and don't change with the embedding: the higher, the more the cells that it lays upon
    each other across patients are alike.

    Parameters
    ----------
    matrix
        Cells x dimensions.
    values
        Cells x populations (:func:`population_scores`).
    patient
        Integer code of each cell's patient.
    queries
        Positions of the cells that are compared; all are neighbours.

    Returns
    -------
    Missing where there are no values.
    """
    from sklearn.neighbors import NearestNeighbors

    if not values.shape[1]:
        return np.nan
    around = np.zeros((queries.size, values.shape[1]))
    for code in np.unique(patient[queries]):
        own = np.flatnonzero(patient[queries] == code)
        others = np.flatnonzero(patient != code)
        near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, others.size), algorithm="brute").fit(matrix[others])
        found = near.kneighbors(matrix[queries[own]], return_distance=False)
        around[own] = values[others[found]].mean(axis=1)
    one, two = values[queries] - values[queries].mean(axis=0), around - around.mean(axis=0)
    norm = np.sqrt((one**2).sum(axis=0) * (two**2).sum(axis=0))
    together = (one * two).sum(axis=0)
    return float(np.divide(together, norm, out=np.zeros_like(norm), where=norm > 0).mean())


def patient_mixing(matrix: np.ndarray, patient: np.ndarray) -> float:
    """Neighbours of other patients among the 30 nearest cells, against their share of all other cells: 1 is chance."""
    index = _nearest(matrix, k=min(MIXING_NEIGHBOURS, len(matrix) - 1))[1]
    size = np.bincount(patient)
    expected = np.mean((len(patient) - size[patient]) / (len(patient) - 1))
    return float(np.mean(patient[index] != patient[:, None]) / expected)


def epithelial_axes(adata: AnnData, groups: pd.Series, *, seed: int) -> pd.DataFrame:
    """Epithelial cells on the two axes along which they vary most, in each embedding; for display.

    Parameters
    ----------
    adata
        Cells with the embeddings (:func:`livermet.integrate.embed`) and patient_id.
    groups
        Coarse group of each cell within its library, by cell name.
    seed
        Seed of the draw: at most 2,000 cells are shown.

    Returns
    -------
    One row per cell and embedding: embedding (plain; integrated too where something was aligned), patient_id, x, y.
    Empty below three epithelial cells.
    """
    from sklearn.decomposition import PCA

    columns = ["embedding", keys.PATIENT, "x", "y"]
    rows = np.flatnonzero((groups.reindex(adata.obs_names) == EPITHELIAL).to_numpy())
    if rows.size < 3:
        return pd.DataFrame(columns=columns)
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:AXES_CELLS])
    names = {"plain": keys.PCA}
    plain, integrated = (np.asarray(adata.obsm[key])[rows] for key in (keys.PCA, keys.INTEGRATED))
    if not np.array_equal(plain, integrated):
        names["integrated"] = keys.INTEGRATED
    tables = []
    for name, key in names.items():
        matrix = np.asarray(adata.obsm[key], dtype=np.float64)[rows]
        axes = PCA(n_components=2, svd_solver="full").fit_transform(matrix)
        tables.append(pd.DataFrame({"embedding": name, "x": axes[:, 0], "y": axes[:, 1]}))
        tables[-1][keys.PATIENT] = adata.obs[keys.PATIENT].astype(str).to_numpy()[rows]
    return pd.concat(tables, ignore_index=True)[columns]
