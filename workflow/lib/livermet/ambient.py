"""How much of the counts of a library's cells is ambient RNA, mostly of hepatocytes that broke on the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from anndata import AnnData
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
    The interval holds the spread between cells and the counting error of the profile.
    """
    groups = np.asarray(groups)
    other = np.isin(groups, ["lymphoid", "myeloid", "mesenchymal", "endothelial", "epithelial", "neutrophil", "mast"])
    if other.sum() < MIN_CELLS:
        return Contamination("none", reason=f"{int(other.sum())} cells known to be no hepatocytes, {MIN_CELLS} needed")
    symbols = counts.var[keys.SYMBOL].astype(str).to_numpy()
    genes = np.flatnonzero(np.isin(symbols, load_markers().loc[keys.HEPATOCYTE, "genes"]))
    measured = keys.AMBIENT_COUNTS in counts.var
    ambient = counts.var[keys.AMBIENT_COUNTS].to_numpy(float) if measured else np.asarray(counts.X.sum(axis=0)).ravel()
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
    return Contamination(
        basis="estimate" if measured else "upper_bound",
        fraction=float(ratio),
        low=float(np.clip(ratio - Z_95 * error, 0, 1)) if measured else 0.0,
        high=float(np.clip(ratio + Z_95 * error, 0, 1)),
        gene=symbol,
    )
