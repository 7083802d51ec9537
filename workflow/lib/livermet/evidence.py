"""Marker evidence: how much a group of cells looks like each population of the marker table, and unlike chance.

Everything here works on summed counts of groups (clusters), never on single cells, and on plain arrays. The unit of
evidence is one marker gene: is it *raised* in a group against a baseline over all groups? A type is supported if more
of its markers are raised than of other genes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.special import logsumexp

# A marker that counts as raised is expressed 2 to 16 times above the baseline; the grid is even on the log scale.
RAISED_FOLDS = np.geomspace(2, 16, 7)
# Relatives of a population raise some of its markers too, but less.
SHARED_FOLDS = np.geomspace(2, 8, 7)
# One gene can't decide alone: its log odds are bounded, against the baseline and between the two kinds of raised.
MAX_LOG_ODDS = 8.0
MAX_LEVEL_ODDS = 2.0


def baseline_profile(counts: np.ndarray, *, quantile: float, weight: np.ndarray) -> np.ndarray:
    """Expression of each gene where it is not particular: a low weighted quantile over groups of its share of all
    counts.

    Groups count by ``weight``, not by size, so that an abundant population does not set the baseline for its own
    markers. A quantile of zero is lifted to a small part of the mean share, since "never seen" can't be told from
    "rarely seen".

    Parameters
    ----------
    counts
        Groups x genes, summed counts.
    quantile
        0 to 1; the share of the weight that may lie below.
    weight
        Weight of each group.
    """
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    order = np.argsort(share, axis=0, kind="stable")
    below = np.cumsum(weight[order], axis=0)
    at = (below >= quantile * weight.sum()).argmax(axis=0)
    value = np.take_along_axis(share, np.take_along_axis(order, at[None], axis=0), axis=0)[0]
    return np.maximum(value, 0.05 * np.average(share, axis=0, weights=weight))


def dispersion(counts: np.ndarray, expected: np.ndarray, *, min_expected: float = 20.0) -> float:
    """Squared spread of log(observed / expected) between groups, from its median absolute deviation over well-counted
    genes (.02 to 1).
    """
    seen = expected >= min_expected
    if seen.sum() < 100:
        return 0.15
    ratio = np.log((counts[seen] + 0.5) / (expected[seen] + 0.5))
    spread = 1.4826 * np.median(np.abs(ratio - np.median(ratio)))
    return float(np.clip(spread**2, 0.02, 1.0))


def raised_log_odds(counts: np.ndarray, baseline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log likelihood ratios for each group and gene: of "raised" against "at the baseline", and of "raised as a marker"
    against "raised as a gene that is shared with relatives".

    Summed counts are negative binomial around the expected count; "raised" averages over folds of 2 to 16, "shared"
    over 2 to 8. A gene with too few counts gives odds near one and so no evidence in either direction.

    Parameters
    ----------
    counts
        Groups x genes, summed counts.
    baseline
        Share of all counts per gene, from :func:`baseline_profile`.
    """
    expected = counts.sum(axis=1, keepdims=True) * baseline
    size = 1.0 / dispersion(counts, expected)

    def log_likelihood(mean: np.ndarray) -> np.ndarray:
        mean = np.maximum(mean, 1e-9)
        return counts * (np.log(mean) - np.log(size + mean)) - size * np.log1p(mean / size)

    def averaged(folds: np.ndarray) -> np.ndarray:
        return logsumexp([log_likelihood(expected * fold) for fold in folds], axis=0) - np.log(len(folds))

    # The terms that don't depend on the mean (gammaln of the counts) cancel between the hypotheses.
    raised = averaged(RAISED_FOLDS)
    level = np.clip(raised - averaged(SHARED_FOLDS), -MAX_LEVEL_ODDS, MAX_LEVEL_ODDS)
    return np.clip(raised - log_likelihood(expected), -MAX_LOG_ODDS, MAX_LOG_ODDS), level


def background_rate(log_odds: np.ndarray, genes: np.ndarray) -> np.ndarray:
    """Share of raised genes among genes that are nobody's markers, per group (.01 to .4): what chance alone gives a
    marker set.

    Parameters
    ----------
    log_odds
        Groups x genes, from :func:`raised_log_odds`.
    genes
        Positions of the background genes, matched to the markers in expression (:func:`matched_background`).
    """
    if genes.size == 0:
        return np.full(len(log_odds), 0.05)
    return np.clip((log_odds[:, genes] > np.log(5)).mean(axis=1), 0.01, 0.4)


def matched_background(
    mean: np.ndarray, markers: np.ndarray, *, per_marker: int, rng: np.random.Generator
) -> np.ndarray:
    """Random genes that are no markers, drawn per marker from the genes nearest to it in mean expression.

    Weakly expressed genes can hardly be raised and strongly expressed ones vary more, so that the null of a marker
    set must have its expression.

    Parameters
    ----------
    mean
        Mean expression per gene.
    markers
        Positions of all marker genes.
    per_marker
        Genes drawn for each marker from its 50 nearest.
    rng
        Random generator.
    """
    free = np.setdiff1d(np.flatnonzero(mean > 0), markers)
    if free.size == 0:
        return free
    free = free[np.argsort(mean[free], kind="stable")]
    drawn = []
    for gene in markers[mean[markers] > 0]:
        at = np.searchsorted(mean[free], mean[gene])
        near = free[max(at - 25, 0) : at + 25]
        drawn.append(rng.choice(near, size=min(per_marker, near.size), replace=False))
    return np.unique(np.concatenate(drawn)) if drawn else free[:0]


def set_log_odds(
    log_odds: np.ndarray,
    sets: Sequence[np.ndarray],
    *,
    rate: float,
    background: np.ndarray,
    negative: Sequence[np.ndarray],
    negative_rate: tuple[float, float],
    level: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Log odds that a group is of each population, over that its markers are raised at the background rate.

    Each marker contributes log((r L + 1 - r) / (b L' + 1 - b)) with L its likelihood ratio of being raised, r the rate
    at which a population raises its own markers, b the background and L' the ratio of being raised as the background
    raises: a raised marker speaks for it, a strongly raised one more, a clearly absent one against, one without counts
    not at all. A raised negative marker speaks against.

    Parameters
    ----------
    log_odds
        Groups x genes, log L.
    sets, negative
        Positions of markers and negative markers of each population.
    rate
        r, between 0 and 1.
    background
        b: per group, or groups x populations.
    negative_rate
        Rates at which a negative marker is raised in the population itself and in others.
    level
        log L - log L', groups x genes; 0 where the background raises as much as the population.

    Returns
    -------
    Groups x populations; zero for a population without markers among the genes.
    """
    odds = np.exp(log_odds)
    weaker = np.exp(log_odds - level)
    background = np.broadcast_to(background.reshape(len(odds), -1), (len(odds), len(sets)))
    result = np.zeros((len(odds), len(sets)))
    own, other = negative_rate
    for j, (genes, absent) in enumerate(zip(sets, negative, strict=True)):
        b = background[:, j : j + 1]
        result[:, j] = np.log((rate * odds[:, genes] + 1 - rate) / (b * weaker[:, genes] + 1 - b)).sum(axis=1)
        result[:, j] += np.log((own * odds[:, absent] + 1 - own) / (other * odds[:, absent] + 1 - other)).sum(axis=1)
    return result


def sister_rate(log_odds: np.ndarray, sets: Sequence[np.ndarray], *, prior: float, weight: float) -> np.ndarray:
    """Share of raised markers among the *other* populations' markers, groups x populations, shrunk towards a prior.

    Sister types share programmes: a lymphocyte raises many markers of other lymphocytes. A type is supported against
    its sisters only by raising more of its own markers than of theirs, and more strongly.

    Parameters
    ----------
    log_odds
        Groups x genes.
    sets
        Positions of the markers of each population of one compartment.
    prior, weight
        Rate expected beforehand, and the number of genes that it counts for.
    """
    raised = 1 / (1 + np.exp(-log_odds))
    every = np.unique(np.concatenate(list(sets))) if len(sets) else np.zeros(0, dtype=int)
    result = np.zeros((len(log_odds), len(sets)))
    for j, genes in enumerate(sets):
        others = np.setdiff1d(every, genes)
        result[:, j] = (raised[:, others].sum(axis=1) + prior * weight) / (others.size + weight)
    return np.clip(result, 0.05, 0.5)


def claim_types(scores: np.ndarray, families: np.ndarray, *, repeat_cost: float) -> tuple[np.ndarray, np.ndarray]:
    """One population per group, with a cost for taking what a better-supported group of another family has taken.

    Two groups of unlike profile are more likely two types than one: where a group's second-best type is nearly as well
    supported and otherwise missing, it is the better answer. Groups of one family (:func:`families_of`) share freely.

    Parameters
    ----------
    scores
        Groups x populations, log odds.
    families
        Family of each group.
    repeat_cost
        Log odds by which a group must be better to share a population with another family.

    Returns
    -------
    Column of ``scores`` per group, and the scores after costs.
    """
    best = scores.argmax(axis=1)
    fair = scores.copy()
    foreign = families[:, None] != families
    for _ in range(10):
        taken = best[:, None] == np.arange(scores.shape[1])
        claim = np.where(taken, scores, -np.inf)
        strongest = np.where(foreign[:, :, None], claim[None], -np.inf).max(axis=1)
        fair = scores - repeat_cost * (strongest > scores)
        new = fair.argmax(axis=1)
        if np.array_equal(new, best):
            break
        best = new
    # What a group takes in spite of the cost is granted to it: the cost settles who has a type, not how sure it is.
    rows = np.arange(len(scores))
    fair[rows, best] = scores[rows, best]
    return best, fair


def families_of(counts: np.ndarray, *, min_correlation: float) -> np.ndarray:
    """Families of groups whose log profiles correlate after centring over the groups (average linkage).

    Parameters
    ----------
    counts
        Groups of one compartment x genes, summed counts.
    min_correlation
        Correlation above which groups are of one family.
    """
    n = len(counts)
    if n < 3:
        # Two centred profiles are mirror images of each other: their correlation says nothing.
        return np.arange(n)
    counts = counts[:, counts.sum(axis=0) >= 20 * n]
    if counts.shape[1] < 50:
        return np.arange(n)
    profile = np.log((counts + 1) / (counts.sum(axis=1, keepdims=True) + 1))
    profile -= profile.mean(axis=0)
    distance = np.clip(1 - np.corrcoef(profile), 0, 2)
    distance[~np.isfinite(distance)] = 2.0
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform((distance + distance.T) / 2, checks=False), "average")
    return fcluster(tree, 1 - min_correlation, "distance")


# Share of a group's cells, those that hold most of a population's markers, that don't count for what the group holds,
# and counts of all cells that are added to those of the others.
FOREIGN_SHARE = 0.25
SHARED_COUNTS = 1000
# Markers that a cell must show to be of a population: one gene may have a reason of its own.
FOREIGN_GENES = 3


def foreign_cells(
    counts, groups: np.ndarray, sets: Sequence[np.ndarray], *, min_z: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cells that hold far more marker counts of some population than the others of their group explain.

    What a group holds of a population's markers is their share of the counts of its cells without the
    ``FOREIGN_SHARE`` that hold most, and a little of what all cells hold: a few strangers would raise a mean until they
    seem to belong.

    Parameters
    ----------
    counts
        Cells x genes, sparse counts.
    groups
        Group of each cell.
    sets
        Marker positions of the populations that are looked for.
    min_z
        Excess in standard deviations (Poisson with a coefficient of variation of .3) that counts, at 2.5 times
        the expected.

    Returns
    -------
    Cells, and for each the best population (index into ``sets``).
    """
    total = np.asarray(counts.sum(axis=1)).ravel()
    z = np.full((counts.shape[0], len(sets)), -np.inf)
    for j, genes in enumerate(sets):
        if genes.size == 0:
            continue
        seen = np.asarray(counts[:, genes].sum(axis=1)).ravel()
        rank = pd.Series(seen / np.maximum(total, 1)).groupby(groups).rank(pct=True, method="first").to_numpy()
        counted = rank <= 1 - FOREIGN_SHARE
        held, of = (np.bincount(groups, weights=values * counted) for values in (seen, total))
        expected = total * ((held + SHARED_COUNTS * seen.sum() / total.sum()) / (of + SHARED_COUNTS))[groups]
        z[:, j] = (seen - expected) / np.sqrt(expected + (0.3 * expected) ** 2 + 0.5)
        several = np.asarray((counts[:, genes] > 0).sum(axis=1)).ravel() >= FOREIGN_GENES
        z[(seen < 2.5 * expected) | ~several, j] = -np.inf
    best = z.argmax(axis=1)
    cells = np.flatnonzero(z[np.arange(len(z)), best] >= min_z)
    return cells, best[cells]


def profile_log_likelihood(counts, profiles: np.ndarray) -> np.ndarray:
    """Multinomial log likelihood of each cell's counts under each group's profile; cells x groups.

    Parameters
    ----------
    counts
        Cells x genes, sparse counts.
    profiles
        Groups x genes, positive shares that sum to one per group.
    """
    return np.asarray(counts @ np.log(profiles).T)
