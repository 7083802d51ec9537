"""Pseudobulk: raw counts summed over the cells of one type of a patient, the patient being the unit.

Lesions and libraries of a patient are summed, so that they are never replicates; timepoints, tissues and modalities
stay apart. Only the counts as measured are summed: counts after a correction are no counts of molecules, and their
spread is not that of the model that is fitted later.
"""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from livermet import keys

logger = logging.getLogger(__name__)

STRATUM = [keys.PATIENT, keys.TIMEPOINT, keys.TISSUE, keys.MODALITY]
PROFILE = [*STRATUM, keys.CELL_TYPE]
N_CELLS = "n_cells"
LIBRARIES = "libraries"  # of a profile, joined by "+", which no id holds
NOT_A_TYPE = (keys.UNKNOWN, keys.UNCERTAIN_EPITHELIAL, "")


def pseudobulk(cells: AnnData, *, min_cells: int) -> tuple[AnnData, pd.DataFrame]:
    """Sum raw counts per patient, timepoint, tissue, modality and cell type.

    Parameters
    ----------
    cells
        Cells x genes with raw integer counts in X (layers are not looked at) and ``obs`` columns patient_id, timepoint,
        tissue, modality, library_id and cell_type. Cells without a named type are left out.
    min_cells
        Fewest cells of a profile.

    Returns
    -------
    The profiles (profiles x genes, sparse int64; ``obs`` columns ``PROFILE``, n_cells and libraries), in the order of
    their names, and a table of those that were left out for having fewer cells (``PROFILE`` and n_cells).

    Raises
    ------
    ValueError
        When a column is missing, or X holds a value that is no count.
    """
    missing = [name for name in (*PROFILE, keys.LIBRARY) if name not in cells.obs]
    if missing:
        raise ValueError(f"cells: obs column {missing[0]} is missing; expected annotated cells with their patient")
    counts = sparse.csr_matrix(cells.X)
    wrong = counts.data[(counts.data < 0) | (counts.data % 1 != 0)]
    if wrong.size:
        raise ValueError(f"cells: X holds {wrong[0]:g}, which is no count; expected raw counts, whole and not negative")
    obs = cells.obs[[*PROFILE, keys.LIBRARY]].astype(str)
    typed = np.flatnonzero(~obs[keys.CELL_TYPE].isin(NOT_A_TYPE))
    groups = obs.iloc[typed].groupby(PROFILE, sort=True)
    table = groups.agg(n_cells=(keys.LIBRARY, "size"), libraries=(keys.LIBRARY, _joined)).reset_index()
    member = sparse.csr_matrix(
        (np.ones(len(typed), dtype=np.int64), (groups.ngroup().to_numpy(), typed)), shape=(len(table), cells.n_obs)
    )
    enough = (table[N_CELLS] >= min_cells).to_numpy()
    names = table[PROFILE].agg("|".join, axis=1) if len(table) else pd.Series(dtype=str)
    profiles = AnnData(
        X=sparse.csr_matrix(member[enough] @ counts.astype(np.int64)),
        obs=table[enough].set_axis(names[enough], axis=0),
        var=pd.DataFrame(index=cells.var_names.copy()),
    )
    logger.info(
        "%d cells, %d of them of a named type: %d profiles of %d types, %d further with fewer than %d cells left out",
        cells.n_obs,
        len(typed),
        profiles.n_obs,
        profiles.obs[keys.CELL_TYPE].nunique(),
        int((~enough).sum()),
        min_cells,
    )
    return profiles, table.loc[~enough, [*PROFILE, N_CELLS]].reset_index(drop=True)


def _joined(libraries: pd.Series) -> str:
    return "+".join(sorted(set(libraries)))


def expressed_genes(counts: np.ndarray, *, min_count: float, min_share: float) -> np.ndarray:
    """Which genes are expressed in enough profiles, whatever the patients' response.

    The rule of edgeR's filterByExpr (Chen, Lun and Smyth 2016, doi:10.12688/f1000research.8987.2): a gene needs
    ``min_count`` counts, scaled from the profile's depth to the median depth, in a share of the profiles. edgeR takes
    the size of the smaller class for the number of profiles; a fixed share does not look at the classes at all.

    Parameters
    ----------
    counts
        Profiles x genes.
    min_count
        Counts in a profile of median depth.
    min_share
        Share (0 to 1) of the profiles; at least two are always needed.

    Returns
    -------
    One boolean per gene.
    """
    depth = counts.sum(axis=1, keepdims=True)
    scaled = counts * (np.median(depth) / np.maximum(depth, 1))
    return (scaled >= min_count).sum(axis=0) >= max(2, np.ceil(min_share * len(counts)))


def ambient_genes(
    profiles: AnnData, ambient: pd.DataFrame, *, ambient_top: int, max_contamination: float
) -> np.ndarray | None:
    """Which genes ambient RNA alone would explain in the profiles of one type.

    A gene is marked when it is among the ``ambient_top`` most abundant genes of the ambient profile and its share of
    the type's counts is no larger than ``max_contamination`` times its share of the ambient profile: the rule of
    :func:`livermet.interactions.score_interactions`. Differences in such a gene follow the contamination of the
    samples (Lun et al., Orchestrating Single-Cell Analysis, chapter on droplet processing).

    Parameters
    ----------
    profiles
        Profiles of one type, with the column libraries.
    ambient
        Ambient fraction of genes (index) by library_id (columns); libraries without a profile are absent or zero.
    ambient_top
        How many of the most abundant ambient genes are looked at.
    max_contamination
        Largest share of a cell's counts that ambient RNA is believed to reach.

    Returns
    -------
    One boolean per gene, or None where no library has an ambient profile.
    """
    libraries = {name for joined in profiles.obs[LIBRARIES] for name in joined.split("+")}
    known = [name for name in sorted(libraries) if name in ambient.columns and ambient[name].sum() > 0]
    if not known:
        return None
    profile = ambient[known].mean(axis=1).reindex(profiles.var_names, fill_value=0.0)
    top = profile.index.isin(profile[profile > 0].nlargest(ambient_top, keep="all").index)
    total = np.asarray(profiles.X.sum(axis=0), dtype=float).ravel()
    return top & (total / max(total.sum(), 1.0) <= profile.to_numpy() * max_contamination)
