"""Profiles over the signed distance to the tumour-liver border, per section and per patient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy import stats

from livermet import keys
from livermet.invasion import PLACE, PROFILE_COLUMNS, stacked
from livermet.section import Section

PATIENT_PROFILE = [keys.PATIENT, *PLACE, *PROFILE_COLUMNS]
PER_COUNTS = 10_000


def bin_width(section: Section, *, bin_um: float, spot_bin_um: float) -> float:
    """Width of the distance bins: one row of spots where an observation is a spot."""
    return spot_bin_um if section.resolution == "spot" else bin_um


def binned_means(values: pd.DataFrame, distance: np.ndarray, *, bin_um: float) -> pd.DataFrame:
    """Mean of each column in bins of the signed distance (negative in the tumour); NaN values take no part.

    No bin straddles the border. Returns name, bin_um (middle of the bin), mean, n_spots.
    """
    known = ~np.isnan(distance) & values.notna().all(axis=1).to_numpy()
    place = (np.floor(distance[known] / bin_um) + 0.5) * bin_um
    if not known.any() or not len(values.columns):
        return pd.DataFrame(columns=PROFILE_COLUMNS[1:])
    grouped = values[known].groupby(place)
    means = grouped.mean().rename_axis("bin_um").melt(var_name="name", value_name="mean", ignore_index=False)
    return means.reset_index().merge(grouped.size().rename("n_spots").rename_axis("bin_um").reset_index())[
        PROFILE_COLUMNS[1:]
    ]


def section_profiles(mapped: AnnData, section: Section, *, genes: Sequence[str], bin_um: float) -> pd.DataFrame:
    """Profiles of the cell types and of chosen genes of one section.

    Types: mean fraction of cells (share of the cells where single cells are resolved). Genes: mean counts per 10,000 of
    the observation, admixture included; genes that were not measured have no profile.
    """
    if section.resolution == "cell":
        types = pd.get_dummies(pd.Series(section.cell_type, dtype=object), dtype=float)
        types = types.reindex(columns=sorted(set(types.columns) | set(section.abundance.columns)), fill_value=0.0)
    else:
        types = section.abundance
    position = mapped.var_names.get_indexer(list(genes))
    counts = sp.csr_matrix(mapped.X)
    depth = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    chosen = counts[:, position[position >= 0]].toarray() / depth[:, None] * PER_COUNTS
    expression = pd.DataFrame(chosen, columns=[gene for gene, at in zip(genes, position, strict=True) if at >= 0])
    tables = [
        binned_means(types, section.distance, bin_um=bin_um).assign(kind="type"),
        binned_means(expression, section.distance, bin_um=bin_um).assign(kind="gene"),
    ]
    return stacked(tables, PROFILE_COLUMNS)


def combine_profiles(sections: pd.DataFrame) -> pd.DataFrame:
    """One profile per patient, timepoint, tissue and modality: bins of the sections, weighted by their observations.

    sections: ``PROFILE_COLUMNS`` with patient_id, timepoint, tissue and modality.
    """
    names = [keys.PATIENT, *PLACE, "kind", "name", "bin_um"]
    if sections.empty:
        return pd.DataFrame(columns=PATIENT_PROFILE)
    weighted = sections.assign(total=sections["mean"] * sections["n_spots"])
    sums = weighted.groupby(names, sort=True, as_index=False)[["total", "n_spots"]].sum()
    return sums.assign(mean=sums["total"] / sums["n_spots"])[PATIENT_PROFILE]


def mean_profile(profiles: pd.DataFrame, *, min_spots: int) -> pd.DataFrame:
    """Mean over patients at each distance with its 95 % t interval; the interval needs three patients.

    profiles: rows of one name, place and kind; a patient's bin with fewer than ``min_spots`` observations takes no
    part. Returns bin_um, mean, low, high, n_patients.
    """
    grouped = profiles[profiles["n_spots"] >= min_spots].groupby("bin_um")["mean"]
    table = grouped.agg(["mean", "std", "size"]).rename(columns={"size": "n_patients"})
    n = table["n_patients"]
    half = stats.t.ppf(0.975, np.maximum(n - 1, 1)) * table["std"] / np.sqrt(n)
    half = half.where(n >= 3)
    return table.assign(low=table["mean"] - half, high=table["mean"] + half).reset_index()[
        ["bin_um", "mean", "low", "high", "n_patients"]
    ]
