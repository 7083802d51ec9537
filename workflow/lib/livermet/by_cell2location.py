"""Cell-type abundance of spots by cell2location, where the user's environment has it.

cell2location (Kleshchevnikov et al. 2022, doi:10.1038/s41587-021-01139-4) brings PyTorch along, so that it stands in no
requirement of the project. It is given the same profiles and genes as our own regression and answers in the same form.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib.util import find_spec

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from livermet.deconvolve import INTERVAL, Abundances, choose_counts, no_abundances

logger = logging.getLogger(__name__)


def installed() -> bool:
    """Whether cell2location can be imported here; it is not, since that takes many seconds."""
    return find_spec("cell2location") is not None


def cell2location_abundances(
    counts: sp.spmatrix | np.ndarray,
    genes: Iterable[str],
    profiles: AnnData,
    *,
    markers: dict[str, list[str]],
    n_genes_per_type: int,
    cells_per_spot: float,
    detection_alpha: float,
    epochs: int,
    seed: int,
) -> Abundances:
    """Fraction of each cell type among the cells of each spot: medians of the posterior cell abundance, divided by
    their sum, with 95 % intervals on the same scale.

    Parameters
    ----------
    counts, genes, profiles, markers, n_genes_per_type
        As for :func:`livermet.deconvolve.abundances`; a section is one batch.
    cells_per_spot
        Cells that a spot is expected to hold (``N_cells_per_location``), from the histology.
    detection_alpha
        Prior on how much sensitivity varies between spots: 20 for much, 200 for little.
    epochs
        Rounds of training, each over all spots.
    seed
        Seed of PyTorch and Pyro.

    Raises
    ------
    ValueError
        If section and reference share too few genes.
    """
    chosen = choose_counts(counts, genes, profiles, markers=markers, n_genes_per_type=n_genes_per_type)
    if isinstance(chosen, str):
        return no_abundances(profiles, counts.shape[0], chosen)
    import scvi
    from cell2location.models import Cell2location

    scvi.settings.seed = seed
    spots = AnnData(chosen.counts.astype(np.float32))
    # Spots without a count have no posterior of their own.
    filled = np.asarray(chosen.counts.sum(axis=1)).ravel() > 0
    spots = spots[filled].copy()
    spots.obs["section"] = "section"
    signatures = pd.DataFrame(chosen.profiles.T, index=spots.var_names, columns=profiles.obs_names)
    Cell2location.setup_anndata(spots, batch_key="section")
    model = Cell2location(
        spots, cell_state_df=signatures, N_cells_per_location=cells_per_spot, detection_alpha=detection_alpha
    )
    model.train(max_epochs=epochs, batch_size=None, train_size=1)
    low, median, high = (
        np.asarray(model.posterior_quantile(q=percent / 100, batch_size=spots.n_obs)["w_sf"])
        for percent in (INTERVAL[0], 50, INTERVAL[1])
    )
    total = median.sum(axis=1, keepdims=True)
    found = np.full((3, counts.shape[0], median.shape[1]), np.nan)
    found[:, filled] = [np.minimum(part / total, 1.0) for part in (low, median, high)]
    logger.info("abundances by cell2location: %d spots, %d types, %d genes", filled.sum(), *chosen.profiles.shape)
    return Abundances(
        types=tuple(profiles.obs_names),
        fractions=found[1],
        ci_low=found[0],
        ci_high=found[2],
        n_genes=chosen.profiles.shape[1],
        reason="",
    )
