"""Activity of gene sets (pathways and transcription factors) in pseudobulk profiles and in the contrast of a label.

Univariate linear models (ULM, decoupler; Badia-i-Mompel et al. 2022, doi:10.1093/bioadv/vbac016): the t of the slope of
a profile's expression, over genes, on the signed weights of a set. Everything is local: decoupler is given the table of
sets and asks no server. Its p has genes as the unit, which are not independent (Wu and Smyth 2012,
doi:10.1093/nar/gks461): it ranks sets within a profile and is no finding. Where two classes are compared, a p with the
patient as the unit stands beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import stats

from livermet import keys
from livermet.differential import TYPE, design_factors, rounded
from livermet.pseudobulk import PROFILE, STRATUM, ambient_genes, expressed_genes
from livermet.response import read_label
from livermet.statistics import benjamini_hochberg, permutation_p

logger = logging.getLogger(__name__)

PLACE = STRATUM[1:]
COLUMNS = [*PROFILE, "set", "kind", "activity", "p", "n_genes", "activity_among_types"]
CONTRAST_COLUMNS = [
    *TYPE,
    *("set", "kind", "activity", "p_genes", "n_genes", "difference", "n_alt", "n_ref", "p", "q"),
]
MIN_SET_GENES = 5  # with fewer measured genes a set is listed as not measured: decoupler's own default


def profile_activity(
    profiles: AnnData,
    sets: Sequence[Mapping[str, Any]],
    *,
    ambient: pd.DataFrame,
    min_count: float,
    min_share: float,
    ambient_top: int,
    max_contamination: float,
) -> pd.DataFrame:
    """Activity of each set in each profile, against the same type in the other patients.

    Counts are scaled to the median depth of the type's profiles at one timepoint, in one tissue and modality; log1p;
    each gene is centred over these profiles. Genes are those the type expresses and ambient RNA does not explain, so
    that soup of hepatocytes is no activity of HNF4A in T cells. The label plays no part.

    Parameters
    ----------
    profiles
        As made by :func:`livermet.pseudobulk.pseudobulk`.
    sets
        As read by :func:`livermet.gene_sets.read_gene_sets`.
    ambient, min_count, min_share, ambient_top, max_contamination
        As for :func:`livermet.differential.differential_expression`.

    Returns
    -------
    A row per profile and set (``COLUMNS``). ``activity`` and ``p`` are empty for a type with a single profile, and for
    sets of which fewer than ``MIN_SET_GENES`` genes are left, whose ``n_genes`` says how many. ``activity_among_types``
    sets the profile against the mean of all types instead, each type counting once: what tells types apart.
    """
    tables = []
    for _, rows in profiles.obs.groupby(PLACE, sort=True):
        here = profiles[rows.index]
        within, expressed = [], []
        for _, members in rows.groupby(keys.CELL_TYPE, sort=True):
            own = here[members.index]
            counts = own.X.toarray()
            soup = ambient_genes(own, ambient, ambient_top=ambient_top, max_contamination=max_contamination)
            kept = expressed_genes(counts, min_count=min_count, min_share=min_share)
            expressed.append(kept if soup is None else kept & ~soup)
            logs = pd.DataFrame(_log_normalised(counts), index=own.obs_names, columns=own.var_names)
            within.append(set_activity((logs - logs.mean()).loc[:, expressed[-1]], sets))
        logs = pd.DataFrame(_log_normalised(here.X.toarray()), index=here.obs_names, columns=here.var_names)
        middle = logs.groupby(rows[keys.CELL_TYPE].to_numpy()).mean().mean()
        among = set_activity((logs - middle).loc[:, np.any(expressed, axis=0)], sets)
        among = among.set_index(["profile", "set"])["activity"].rename("activity_among_types")
        tables.append(pd.concat(within).join(among, on=["profile", "set"]))
    if not tables:
        return pd.DataFrame(columns=COLUMNS)
    table = pd.concat(tables).merge(profiles.obs[PROFILE], left_on="profile", right_index=True)
    numbers = ["activity", "p", "activity_among_types"]
    table[numbers] = table[numbers].map(rounded)
    logger.info(
        "%d profiles, %d sets, %d activities", profiles.n_obs, table["set"].nunique(), table["activity"].count()
    )
    return table.sort_values([*PROFILE, "set"], ignore_index=True)[COLUMNS]


def contrast_activity(
    activity: pd.DataFrame,
    genes: pd.DataFrame,
    tests: pd.DataFrame,
    sets: Sequence[Mapping[str, Any]],
    labels: pd.DataFrame,
    patients: pd.DataFrame,
    *,
    response: Mapping[str, Any],
    seed: int,
) -> pd.DataFrame:
    """Activity of each set in the contrast of the label, for the types that were compared.

    Hypothesis of ``p``: among the patients of a centre a set's activity doesn't go with the label. Unit: the patient.
    Permutation of labels within centre (:func:`livermet.statistics.permutation_p`), whether or not the centre is in the
    design of the genes; q: Benjamini-Hochberg over the types and sets of a modality, as for the family of features.

    Parameters
    ----------
    activity
        As made by :func:`profile_activity`.
    genes, tests
        As made by :func:`livermet.differential.differential_expression`.
    sets
        As read by :func:`livermet.gene_sets.read_gene_sets`.
    labels, patients, response
        As for :func:`livermet.differential.differential_expression`.
    seed
        Seed of the permutations.

    Returns
    -------
    A row per compared type and set (``CONTRAST_COLUMNS``): ``activity`` is the ULM on the Wald statistic of the tested
    genes that ambient RNA does not explain (positive: higher where the label is 1), with ``p_genes`` over genes, which
    is too small wherever the genes of a set go together; ``difference`` of the patients' mean activity between the
    classes, with ``p`` and ``q``. Empty for sets with fewer than ``MIN_SET_GENES`` genes.
    """
    numbers = read_label(labels, response["primary_label"]).numbers
    tables = []
    for test in tests[tests["status"] == "tested"].to_dict("records"):
        names = {name: test[name] for name in TYPE}
        of_type = (genes[TYPE] == list(names.values())).all(axis=1) & (genes["ambient"].fillna(0) == 0)
        statistic = genes[of_type].dropna(subset="statistic").set_index("gene")[["statistic"]].T.sort_index(axis=1)
        table = set_activity(statistic, sets).rename(columns={"p": "p_genes"})
        here = (activity[TYPE] == list(names.values())).all(axis=1)
        here &= activity[keys.TIMEPOINT].isin(response["timepoints"]) & activity[keys.TISSUE].isin(response["tissues"])
        here &= activity[keys.PATIENT].isin(numbers.index)
        values = activity[here].pivot_table(index=keys.PATIENT, columns="set", values="activity")
        table = table.join(_difference(values, numbers, patients, names[keys.MODALITY], response, seed), on="set")
        tables.append(table.assign(**names, n_alt=test["n_alt"], n_ref=test["n_ref"]))
    if not tables:
        return pd.DataFrame(columns=CONTRAST_COLUMNS)
    table = pd.concat(tables, ignore_index=True)
    for _, family in table.dropna(subset="p").groupby(keys.MODALITY):
        table.loc[family.index, "q"] = benjamini_hochberg(family["p"].to_numpy(float))
    measured = ["activity", "p_genes", "difference", "p", "q"]
    table[measured] = table[measured].map(rounded)
    return table.sort_values([*TYPE, "set"], ignore_index=True)[CONTRAST_COLUMNS]


def _difference(
    values: pd.DataFrame,
    numbers: pd.Series,
    patients: pd.DataFrame,
    modality: str,
    response: Mapping[str, Any],
    seed: int,
) -> pd.DataFrame:
    """Difference of the classes' mean activity (values: patients x sets) with p, by set."""
    if values.empty:
        return pd.DataFrame(columns=["difference", "p"], dtype=float)
    y = numbers.reindex(values.index).to_numpy()
    strata = design_factors(patients, values.index.to_numpy(str), modality)[keys.CENTRE]
    test = permutation_p(values.to_numpy(), y, strata, n_permutations=response["n_permutations"], seed=seed)
    table = pd.DataFrame({"difference": values[y == 1].mean() - values[y == 0].mean()}, index=values.columns)
    return table.assign(p=test.p)


def set_activity(values: pd.DataFrame, sets: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Univariate linear model of each profile on each set, over genes.

    Parameters
    ----------
    values
        Profiles x genes.
    sets
        As read by :func:`livermet.gene_sets.read_gene_sets`.

    Returns
    -------
    One row per profile and set: profile, set, kind, n_genes (of the set, among the genes), activity (t of the slope)
    and p (two-sided, over genes). Both are empty for sets with fewer than ``MIN_SET_GENES`` genes, and for profiles
    without any spread.
    """
    import decoupler

    net = pd.DataFrame(sets, columns=["set", "source_kind", "gene", "weight"])
    here = net["gene"].isin(values.columns)
    table = net.assign(here=here).groupby("set").agg(kind=("source_kind", "first"), n_genes=("here", "sum"))
    measured = table.index[table["n_genes"] >= MIN_SET_GENES]
    varied = values[values.std(axis=1) > 0]
    activity = pd.DataFrame(np.nan, index=values.index, columns=table.index)
    if len(measured) and len(varied):
        used = net[here].rename(columns={"set": "source", "gene": "target"})[["source", "target", "weight"]]
        found, _ = decoupler.mt.ulm(varied, used, tmin=MIN_SET_GENES, empty=False)
        activity.loc[found.index, found.columns] = found
    long = activity.rename_axis("profile").melt(ignore_index=False, var_name="set", value_name="activity").reset_index()
    long = long.join(table, on="set")
    return long.assign(p=2 * stats.t.sf(long["activity"].abs(), values.shape[1] - 2))


def _log_normalised(counts: np.ndarray) -> np.ndarray:
    """log1p of counts scaled to the median depth of the profiles."""
    depth = counts.sum(axis=1, keepdims=True)
    return np.log1p(counts * (np.median(depth) / np.maximum(depth, 1)))
