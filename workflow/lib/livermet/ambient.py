"""How much of the counts of a library's cells is ambient RNA, mostly of hepatocytes that broke on the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.stats import poisson

from livermet import keys
from livermet.markers import load_markers

# A cell with more counts of a gene than this share of ambient RNA would bring expresses it itself, or is a doublet.
MAX_FRACTION = 0.5
EXPRESSING_P = 0.05
# A gene tells only if a contamination of 5 % would leave this many of its counts in the cells that are looked at.
LEAST_FRACTION = 0.05
MIN_EXPECTED = 10
MIN_CELLS = 20
Z_95 = 1.96


@dataclass(frozen=True)
class Contamination:
    """Ambient share of the counts of a library's cells (0 to 1) with its 95 % interval.

    ``basis`` is "estimate" where the ambient profile was measured in empty droplets, "upper_bound" where it had to be
    taken from the cells (the interval then begins at 0), and "none" where nothing can be said, for ``reason``.
    """

    basis: str
    fraction: float | None = None
    low: float | None = None
    high: float | None = None
    gene: str = ""
    reason: str = ""


def contamination(counts: AnnData, groups: np.ndarray) -> Contamination:
    """Share of ambient RNA in the cells of one library, from hepatocyte genes in cells that are no hepatocytes.

    The method of SoupX (Young and Behjati 2020, doi:10.1093/gigascience/giaa151): what a cell holds of a gene that it
    cannot express is ambient, so that the gene's share of such cells' counts over its share of the ambient profile is
    the contamination. Cells that hold significantly more than a contamination of one half would bring are set aside.
    Expression of their own can only raise a gene's ratio; the gene with the smallest ratio counts.

    Without empty droplets the mean of all cells stands for the profile. Hepatocytes break more easily than other cells,
    so that ambient RNA holds more of their genes than that mean does: the ratio is then an upper bound.

    Parameters
    ----------
    counts
        Kept cells with integer counts, var ``symbol`` and, where empty droplets were given, ``ambient_counts``.
    groups
        Coarse group of each cell (:func:`livermet.qc.coarse_groups`).

    Returns
    -------
    The interval holds the spread between cells and the counting error of the profile; an estimate whose interval is
    wider than itself is none.
    """
    groups = np.asarray(groups)
    other = np.isin(groups, ["lymphoid", "myeloid", "mesenchymal", "endothelial", "epithelial", "neutrophil", "mast"])
    if other.sum() < MIN_CELLS:
        return Contamination("none", reason=f"{int(other.sum())} cells known to be no hepatocytes, {MIN_CELLS} needed")
    symbols = counts.var[keys.SYMBOL].astype(str).to_numpy()
    genes = np.flatnonzero(np.isin(symbols, load_markers().loc[keys.HEPATOCYTE, "genes"]))
    measured = keys.AMBIENT_COUNTS in counts.var
    ambient = _soup(counts)
    share = ambient[genes] / max(ambient.sum(), 1)
    total = np.asarray(counts.X.sum(axis=1)).ravel().astype(float)[other]
    seen = counts.X[other][:, genes].toarray()
    telling = np.flatnonzero(LEAST_FRACTION * total.sum() * share >= MIN_EXPECTED)
    found = []
    for gene in telling:
        ceiling = MAX_FRACTION * total * share[gene]
        silent = poisson.sf(seen[:, gene] - 1, ceiling) >= EXPRESSING_P
        if silent.sum() >= MIN_CELLS:
            expected = total[silent] * share[gene]
            ratio = seen[silent, gene].sum() / expected.sum()
            spread = ((seen[silent, gene] - ratio * expected) ** 2).sum() / expected.sum() ** 2
            error = np.sqrt(spread + ratio**2 / max(ambient[genes[gene]], 1))
            found.append((ratio, error, symbols[genes[gene]]))
    # A ratio above the limit means that the cells hold the gene themselves, as where the tissue has no hepatocytes.
    if not found or min(found)[0] > MAX_FRACTION:
        reason = "no gene of hepatocytes tells: too rare in ambient RNA, or other cells hold more than half as much"
        return Contamination("none", reason=reason)
    ratio, error, symbol = min(found)
    if measured and 2 * Z_95 * error > ratio:
        # The smallest ratio of a few cells says more about chance than about the library.
        reason = f"too few counts tell: {ratio:.0%} from {symbol}, give or take {Z_95 * error:.0%}"
        return Contamination("none", reason=reason)
    return Contamination(
        basis="estimate" if measured else "upper_bound",
        fraction=float(ratio),
        low=float(np.clip(ratio - Z_95 * error, 0, 1)) if measured else 0.0,
        high=float(np.clip(ratio + Z_95 * error, 0, 1)),
        gene=symbol,
    )


def _soup(counts: AnnData) -> np.ndarray:
    """Ambient counts per gene: those of the empty droplets, else those of all cells in their place."""
    if keys.AMBIENT_COUNTS in counts.var:
        return counts.var[keys.AMBIENT_COUNTS].to_numpy(float)
    return np.asarray(counts.X.sum(axis=0, dtype=np.int64)).ravel().astype(float)


def soup_shares(counts: AnnData) -> np.ndarray:
    """Share that each gene of a library has in every count of its cells by contamination: sums to the contamination.

    Parameters
    ----------
    counts
        Kept cells of one library as quality control leaves them, with the contamination in ``uns["livermet"]``.

    Returns
    -------
    Over the genes; all zero where nothing is known of the contamination.
    """
    fraction = float(counts.uns[keys.META].get("contamination", np.nan))
    soup = _soup(counts)
    if not np.isfinite(fraction) or soup.sum() == 0:
        return np.zeros(counts.n_vars)
    return fraction * soup / soup.sum()


def without_soup(sums: np.ndarray, totals: np.ndarray, soup: np.ndarray) -> np.ndarray:
    """Summed counts of groups of cells less what contamination is expected to have brought.

    Parameters
    ----------
    sums
        Groups x genes.
    totals
        Groups x libraries: all counts of a group's cells in each library.
    soup
        Libraries x genes, from :func:`soup_shares`.
    """
    return np.maximum(sums - totals @ soup, 0.0)


def corrected_counts(
    counts: sparse.csr_matrix, *, libraries: np.ndarray, groups: np.ndarray, soup: pd.DataFrame, seed: int
) -> sparse.csr_matrix:
    """Counts without ambient RNA, by the subtraction of SoupX (Young and Behjati 2020).

    What contamination is expected to have brought of a gene is taken from the cells of one kind in one library
    together, and from each cell in proportion to its counts of the gene: single cells hold too few counts to tell. A
    gene of which a kind of cell holds no more than expected is emptied in it. Fractions of a count are rounded up as
    often as they are large, so that a sum stays what it is and "detected" keeps its meaning.

    Parameters
    ----------
    counts
        Cells x genes, integer counts.
    libraries, groups
        Library and kind of each cell.
    soup
        Genes x libraries, from :func:`soup_shares`.
    seed
        Of the rounding, which goes through the cells in the order given.

    Returns
    -------
    int32. Not for tests between patients: what was removed differs by library.
    """
    rng = np.random.default_rng(seed)
    if not counts.shape[0]:
        return sparse.csr_matrix(counts.shape, dtype=np.int32)
    code, names = pd.factorize(np.asarray(groups), sort=True)
    parts, order = [], []
    for library in np.unique(libraries):
        cells = np.flatnonzero(libraries == library)
        part = sparse.csr_matrix(counts[cells], dtype=np.int32)
        place = (code[cells], np.arange(cells.size))
        members = sparse.csr_matrix((np.ones(cells.size), place), shape=(len(names), cells.size))
        sums = (members @ part).toarray()
        expected = sums.sum(axis=1, keepdims=True) * soup[library].to_numpy()
        kept = np.divide(np.maximum(sums - expected, 0), sums, out=np.ones_like(sums), where=sums > 0)
        left = part.data * kept[np.repeat(code[cells], np.diff(part.indptr)), part.indices]
        part.data = np.floor(left + rng.random(left.size)).astype(np.int32)
        part.eliminate_zeros()
        parts.append(part)
        order.append(cells)
    return sparse.vstack(parts, format="csr")[np.argsort(np.concatenate(order))]
