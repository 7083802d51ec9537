"""Which droplets of a run hold a cell, where only the matrix of all droplets is given.

The method of EmptyDrops (Lun et al. 2019, doi:10.1186/s13059-019-1662-y): droplets with few counts give the profile of
the ambient RNA; droplets with more are cells if their counts are unlike that profile, or too many for ambient RNA. No
library of Python that is kept up has it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

logger = logging.getLogger(__name__)

# With fewer counts in empty droplets than these there is no ambient profile worth the name, as for decontamination.
MIN_AMBIENT_COUNTS = 1000
# The Monte Carlo draws of the publication; ten times as many where their number alone keeps a droplet from a call.
DRAWS = (10_000, 100_000)
# Droplets with the highest counts, where the curve is too uneven for a slope (as in DropletUtils::barcodeRanks).
_UNEVEN_RANKS = 50
_CHECKED_EMPTY, _CHECKED_CERTAIN = 1000, 200
_CHECK_DRAWS = 1000
_CURVE_POINTS = 120
# Numbers held per block of draws (80 MB), and steps that are drawn at once.
_BLOCK_SIZE = 20_000_000
_STEPS = 128


@dataclass(frozen=True)
class Calling:
    """Droplets that hold a cell, and what is worth telling of the decision.

    Attributes
    ----------
    cells
        Which droplets were called (boolean, one per droplet).
    ambient
        Counts per gene over the empty droplets.
    n_droplets
        Droplets with at least one count.
    n_tested
        Droplets whose counts were compared with ambient RNA: those that could be cells and are not certain ones.
    certain
        Counts from which a droplet is a cell whatever it holds.
    n_certain
        Droplets with so many counts.
    alpha
        Concentration of the Dirichlet-multinomial of the empty droplets: the lower, the more they differ.
    draws
        Monte Carlo draws behind each p-value.
    misfit
        Share (0 to 1) of the fullest empty droplets with p <= 0.05: about 0.05 or less where the model holds.
    ambient_like
        Share (0 to 1) of the smallest certain cells with p > 0.05: high where these are no cells, or of the kind that
        ambient RNA comes from.
    curve
        Rank and counts of some droplets, to draw the curve of counts by rank.
    """

    cells: np.ndarray
    ambient: np.ndarray
    n_droplets: int
    n_tested: int
    certain: int
    n_certain: int
    alpha: float
    draws: int
    misfit: float
    ambient_like: float
    curve: tuple[tuple[int, int], ...]


def call_cells(counts: sparse.csr_matrix, *, max_empty: int, min_counts: int, fdr: float, seed: int) -> Calling:
    """Tell the droplets that hold a cell from those that hold ambient RNA alone.

    Parameters
    ----------
    counts
        Droplets x genes, integer counts, droplets without any count included or not.
    max_empty
        Droplets with at most so many counts hold no cell; together they give the ambient profile.
    min_counts
        A cell has at least so many counts; droplets with fewer are not tested, which leaves power for the others.
    fdr
        False discovery rate (Benjamini-Hochberg) over the droplets that could be cells.
    seed
        Of the Monte Carlo draws.

    Raises
    ------
    ValueError
        Too few counts in empty droplets for an ambient profile.
    """
    from scipy.stats import false_discovery_control

    totals = np.asarray(counts.sum(axis=1, dtype=np.int64)).ravel()
    empty = (totals > 0) & (totals <= max_empty)
    ambient = counts.T @ empty.astype(np.int64)
    if ambient.sum() < MIN_AMBIENT_COUNTS:
        raise ValueError(
            f"{int(empty.sum())} of {len(totals)} droplets are empty (at most {max_empty} counts) and hold "
            f"{int(ambient.sum())} counts in all; {MIN_AMBIENT_COUNTS} are needed to know ambient RNA from cells"
        )
    expressed = np.flatnonzero(counts.T @ (totals > 0).astype(np.int64))
    profile = good_turing(ambient[expressed])
    alpha = concentration(counts, empty=empty, totals=totals, expressed=expressed, profile=profile)
    certain = max(certain_counts(totals, lower=max_empty), min_counts)
    large = totals >= certain
    tested = np.flatnonzero((totals > max_empty) & (totals >= min_counts) & ~large)
    model = {"expressed": expressed, "profile": profile, "alpha": alpha}
    for draws in DRAWS:
        p_values = _p_values(counts[tested], totals=totals[tested], draws=draws, seed=seed, **model)
        # Certain cells take part in the correction as what they are.
        adjusted = false_discovery_control(np.concatenate([p_values, np.zeros(int(large.sum()))]))[: len(tested)]
        if not ((adjusted > fdr) & (p_values <= 1 / (draws + 1))).any():
            break
    cells = large.copy()
    cells[tested[adjusted <= fdr]] = True
    check = {"draws": _CHECK_DRAWS, "seed": seed, **model}
    by_size = np.sort(totals[empty])
    largest = np.flatnonzero(empty & (totals >= by_size[-min(_CHECKED_EMPTY, len(by_size))]))
    of_empty = _p_values(counts[largest], totals=totals[largest], **check)
    by_size = np.sort(totals[large])
    smallest = (
        np.flatnonzero(large & (totals <= by_size[min(_CHECKED_CERTAIN, len(by_size)) - 1])) if len(by_size) else []
    )
    of_certain = _p_values(counts[smallest], totals=totals[smallest], **check)
    logger.info("%d of %d droplets hold a cell, %d of them for their size", cells.sum(), len(cells), large.sum())
    return Calling(
        cells=cells,
        ambient=ambient,
        n_droplets=int((totals > 0).sum()),
        n_tested=len(tested),
        certain=certain,
        n_certain=int(large.sum()),
        alpha=alpha,
        draws=draws,
        misfit=float((of_empty <= 0.05).mean()),
        ambient_like=float((of_certain > 0.05).mean()) if len(of_certain) else 0.0,
        curve=_curve(totals),
    )


def good_turing(counts: np.ndarray) -> np.ndarray:
    """Share of each gene in what the counts were drawn from, above zero for genes that were never seen.

    The genes never seen share the mass that Good (1953) gives to them: the share of counts that are the only one of
    their gene. None of them gets more than such a gene.
    """
    unseen = counts == 0
    total = counts.sum()
    missing = min(max(int((counts == 1).sum()), 1), int(unseen.sum())) / total
    shares = (1 - missing) * counts / total
    shares[unseen] = missing / max(int(unseen.sum()), 1)
    return shares / shares.sum()


def concentration(
    counts: sparse.csr_matrix, *, empty: np.ndarray, totals: np.ndarray, expressed: np.ndarray, profile: np.ndarray
) -> float:
    """Concentration of the Dirichlet-multinomial of the empty droplets, by maximum likelihood.

    The likelihood needs only how many empty droplets hold more than j counts of a gene, for each j, and how many hold
    more than j counts in all.
    """
    from scipy.optimize import minimize_scalar

    of_empty = np.repeat(empty, np.diff(counts.indptr))
    data, genes = counts.data[of_empty], counts.indices[of_empty]
    steps = []
    while len(data):
        held = np.bincount(genes, minlength=counts.shape[1])[expressed]
        seen = np.flatnonzero(held)
        steps.append((len(steps), profile[seen], held[seen]))
        more = data > len(steps)
        data, genes = data[more], genes[more]
    in_all = np.array([(totals[empty] > j).sum() for j in range(int(totals[empty].max()))])

    def loss(log_alpha: float) -> float:
        alpha = np.exp(log_alpha)
        gain = sum((held * np.log(alpha * share + j)).sum() for j, share, held in steps)
        return float((in_all * np.log(alpha + np.arange(len(in_all)))).sum() - gain)

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.01), np.log(1e6)), method="bounded").x))


def certain_counts(totals: np.ndarray, *, lower: int) -> int:
    """Counts from which a droplet is a cell whatever it holds, from the curve of counts by rank (both logarithmic).

    The publication takes the knee: between the flattest place of the curve and the steepest one below it, the point
    farthest above the straight line between these two (as DropletUtils::barcodeRanks finds it). But the knee leaves out
    a third of the large cells, and those that ambient RNA mostly comes from, as hepatocytes, have its composition and
    fail the test. So, below the knee, droplets are also certain down to a tenth of what large cells hold (the 99th
    percentile above the knee; Zheng et al. 2017, doi:10.1038/ncomms14049, and the first step of Cell Ranger since), but
    not beyond the steepest place, where cells end.

    Returns
    -------
    More than any droplet has where fewer than three different numbers of counts lie above ``lower``.
    """
    values, times = np.unique(totals[totals > lower], return_counts=True)
    if len(values) < 3:
        return int(totals.max(initial=0)) + 1
    values, times = values[::-1], times[::-1]
    x, y = np.log10(np.cumsum(times) - (times - 1) / 2), np.log10(values)
    slope = np.diff(y) / np.diff(x)
    skipped = min(len(slope) - 1, int((x <= np.log10(_UNEVEN_RANKS)).sum()))
    steepest = skipped + int(np.argmin(slope[skipped:]))
    flattest = skipped + int(np.argmax(slope[skipped : steepest + 1]))
    chord = np.interp(x[flattest : steepest + 1], x[[flattest, steepest]], y[[flattest, steepest]])
    knee = values[flattest + int(np.argmax(y[flattest : steepest + 1] - chord))]
    tenth = np.quantile(totals[totals >= knee], 0.99) / 10
    return int(min(knee, max(values[steepest], np.ceil(tenth))))


def _p_values(
    counts: sparse.csr_matrix,
    *,
    totals: np.ndarray,
    expressed: np.ndarray,
    profile: np.ndarray,
    alpha: float,
    draws: int,
    seed: int,
) -> np.ndarray:
    """Monte Carlo p-value of each droplet's counts under the Dirichlet-multinomial of ambient RNA.

    Each draw is a droplet that grows by one molecule after the other (Polya's urn), so that one draw serves droplets
    of every size. What depends on the total alone is left out of the probabilities on both sides.
    """
    from scipy.special import gammaln

    if not len(totals):
        return np.zeros(0)
    weights = alpha * profile
    place = np.zeros(counts.shape[1], dtype=np.int64)
    place[expressed] = np.arange(len(expressed))
    own = weights[place[counts.indices]]
    terms = gammaln(counts.data + own) - gammaln(own) - gammaln(counts.data + 1.0)
    droplet = np.repeat(np.arange(len(totals)), np.diff(counts.indptr))
    # A hair above, so that the same counts in another order of summation are as probable as they are.
    observed = np.bincount(droplet, weights=terms, minlength=len(totals)) + 1e-6
    order = np.lexsort((observed, totals))
    sizes, starts = np.unique(totals[order], return_index=True)
    parts = dict(zip(sizes.tolist(), np.split(order, starts[1:]), strict=True))
    as_rare = np.zeros(len(totals), dtype=np.int64)
    rng = np.random.default_rng(seed)
    block = max(1, min(draws, _BLOCK_SIZE // len(weights)))
    for start in range(0, draws, block):
        for size, values in _growing(weights, sizes, n=min(block, draws - start), rng=rng):
            members = parts[size]
            as_rare[members] += np.searchsorted(np.sort(values), observed[members], side="right")
    return (as_rare + 1) / (draws + 1)


def _growing(
    weights: np.ndarray, sizes: np.ndarray, *, n: int, rng: np.random.Generator
) -> Iterator[tuple[int, np.ndarray]]:
    """Logarithm of the probability of n ambient droplets at each of the sizes (in ascending order) they grow through.

    The array is the same at each size, and changed after it.
    """
    cumulative = np.cumsum(weights)
    alpha = cumulative[-1]
    longest = int(sizes[-1])
    wanted = set(sizes.tolist())
    rows = np.arange(n)
    held = np.zeros((n, len(weights)), dtype=np.int32)
    history = np.empty((longest, n), dtype=np.int32)
    values = np.zeros(n)
    for step in range(longest):
        if step % _STEPS == 0:
            chance = rng.random((_STEPS, n))
            fresh = np.searchsorted(cumulative, rng.random((_STEPS, n)) * alpha, side="right")
            np.minimum(fresh, len(weights) - 1, out=fresh)
        # A molecule is of the gene of an earlier one with probability step / (alpha + step), else of a fresh one.
        earlier = (chance[step % _STEPS] * (alpha + step)).astype(np.int64)
        copied = earlier < step
        gene = fresh[step % _STEPS]
        gene[copied] = history[earlier[copied], rows[copied]]
        before = held[rows, gene]
        values += np.log(weights[gene] + before) - np.log(before + 1)
        held[rows, gene] = before + 1
        history[step] = gene
        if step + 1 in wanted:
            yield step + 1, values


def _curve(totals: np.ndarray) -> tuple[tuple[int, int], ...]:
    ordered = np.sort(totals[totals > 0])[::-1]
    ranks = np.unique(np.geomspace(1, len(ordered), _CURVE_POINTS).round().astype(int))
    return tuple(zip(ranks.tolist(), ordered[ranks - 1].tolist(), strict=True))
