"""Cell-type abundance of spots, by non-negative regression on profiles of annotated cells."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.optimize import nnls

from livermet import keys

logger = logging.getLogger(__name__)

NOT_A_TYPE = ("", keys.UNKNOWN, keys.UNCERTAIN_EPITHELIAL)
# Coefficient of variation of a gene about its prediction beyond Poisson noise: differences between platforms, patients
# and states. It keeps the few strongest genes from deciding alone, as they would under pure Poisson weights.
GENE_CV = 0.4
FIT_ROUNDS = 3
BOOTSTRAP_BLOCKS = 50
SPOTS_AT_ONCE = 400
# Groups of spots of similar composition that share their weights where there are very many spots, and spots that the
# groups are found from.
WEIGHT_GROUPS = 60
GROUPED_SPOTS = 20_000
INTERVAL = (2.5, 97.5)
# Standard deviation of the logarithm by which the summed amount of a type comes out wrong: cells of a type hold more or
# less RNA in a section than in the reference, and sister types take from each other. Over the 22 types and 14 sections
# of one simulated study (seed 1) it was 0.49.
TYPE_SD = 0.5
# Mean fraction of a section below which a type is rare there: on simulated sections a third of the intervals of such
# types has no width, and where a spot does hold 2 % of one or more, more than a third lies below the truth.
RARE_SHARE = 0.01
ABUNDANCE_COLUMNS = ("barcode", "cell_type", "abundance", "ci_low", "ci_high", "rare")


@dataclass(frozen=True)
class Abundances:
    """Fractions of cells per spot and type, with intervals, and what they rest on.

    ``fractions``, ``ci_low``, ``ci_high``: spots x types; rows of ``fractions`` sum to 1, or are NaN where a spot has
    no count in any chosen gene. ``n_genes``: number of genes that took part. ``reason``: "" or
    why there is nothing.
    """

    types: tuple[str, ...]
    fractions: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray
    n_genes: int
    reason: str


def _library_sums(cells: AnnData, labels: pd.Series) -> tuple[pd.DataFrame, sp.csr_matrix]:
    """Groups (type, patient, library) with their number of cells, and their summed counts."""
    frame = pd.DataFrame(
        {
            "cell_type": labels.to_numpy(),
            "patient_id": cells.obs[keys.PATIENT].astype(str).to_numpy(),
            "library_id": cells.obs[keys.LIBRARY].astype(str).to_numpy(),
        }
    )
    grouped = frame.groupby(["cell_type", "patient_id", "library_id"], sort=True)
    codes = grouped.ngroup().to_numpy()
    groups = grouped.size().rename("n_cells").reset_index()
    member = sp.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(len(groups), len(codes)))
    return groups, (member @ sp.csr_matrix(cells.X)).tocsr()


def _cell_sizes(groups: pd.DataFrame, totals: np.ndarray) -> pd.Series:
    """Typical counts of a cell of each type with the sequencing depth of libraries taken out.

    Log mean counts per type and library are fitted as type effect + library effect by least squares weighted by the
    number of cells, so that a type which stands mostly in deep libraries does not look large.
    """
    types, type_code = np.unique(groups["cell_type"], return_inverse=True)
    libraries, library_code = np.unique(groups["library_id"], return_inverse=True)
    design = np.zeros((len(groups), len(types) + len(libraries)))
    design[np.arange(len(groups)), type_code] = 1
    design[np.arange(len(groups)), len(types) + library_code] = 1
    weight = np.sqrt(groups["n_cells"].to_numpy())
    height = np.log(np.maximum(totals / groups["n_cells"].to_numpy(), 1))
    effect = np.linalg.lstsq(design * weight[:, None], height * weight, rcond=None)[0]
    return pd.Series(np.exp(effect[: len(types)] + effect[len(types) :].mean()), index=types)


def reference_profiles(
    cells: AnnData, *, min_cells: int, min_malignant_cells: int, split_states: Iterable[str]
) -> AnnData:
    """Mean expression of each cell type, for deconvolution.

    Malignant cells are private to their patient, so they get a profile per patient with enough of them beside the
    pooled one (Spotless, Sang-aram et al. 2024 eLife, for the choice of a plain regression; per-patient
    malignant references as in RCTD's use on tumours).

    Parameters
    ----------
    cells
        Annotated cells: integer counts in X; obs ``cell_type``, ``cell_state``, ``patient_id``, ``library_id``.
    min_cells
        Types with fewer cells are left out, and named in ``uns``.
    min_malignant_cells
        A patient with at least this many malignant cells gets a malignant profile of their own.
    split_states
        Types whose states count as types of their own; a state with fewer than ``min_cells`` cells falls back to its
        type.

    Returns
    -------
    AnnData of profiles x genes, X float32: expected counts of one cell in a library of typical depth. obs:
    ``cell_type``, ``patient_id`` ("" for pooled over patients), ``n_cells``, ``counts`` (total counts that the
    profile rests on). ``uns["livermet"]``: ``reason`` ("" or why there is no profile), ``left_out`` (JSON, type to
    number of cells). Cells of type ``unknown`` or ``epithelial_uncertain`` are no type and take no part.
    """
    labels = cells.obs[keys.CELL_TYPE].astype(str)
    split = labels.isin(list(split_states))
    if split.any():
        states = cells.obs[keys.CELL_STATE].astype(str).where(split, "")
        sizes = states.value_counts()
        usable = states.isin(sizes.index[sizes >= min_cells]) & ~states.isin(NOT_A_TYPE)
        labels = labels.mask(usable, states)
    keep = ~labels.isin(NOT_A_TYPE).to_numpy()
    counts = labels[keep].value_counts()
    left_out = {name: int(n) for name, n in sorted(counts.items()) if n < min_cells}
    keep &= ~labels.isin(list(left_out)).to_numpy()
    logger.info("reference: %d of %d cells in %d types", keep.sum(), cells.n_obs, len(counts) - len(left_out))
    for name, n in left_out.items():
        logger.info("reference: %s left out, %d cells where %d are needed", name, n, min_cells)
    if not keep.any():
        reason = "no annotated cells" if not len(counts) else f"no cell type has {min_cells} cells"
        empty = pd.DataFrame(columns=["cell_type", "patient_id"], index=pd.Index([], dtype=str), dtype=str)
        empty["n_cells"] = np.zeros(0, dtype=np.int64)
        empty["counts"] = np.zeros(0, dtype=np.float64)
        result = AnnData(np.zeros((0, cells.n_vars), np.float32), obs=empty, var=pd.DataFrame(index=cells.var_names))
        result.uns[keys.META] = {"reason": reason, "left_out": json.dumps(left_out)}
        return result

    groups, sums = _library_sums(cells[keep], labels[keep])
    totals = np.asarray(sums.sum(axis=1)).ravel()
    sizes = _cell_sizes(groups, totals)
    rows, obs = [], []

    def add(members: pd.Series, name: str, patient: str) -> None:
        profile = np.asarray(sums[np.flatnonzero(members)].sum(axis=0), dtype=np.float64).ravel()
        rows.append(profile / max(profile.sum(), 1) * sizes[name])
        n_cells = int(groups.loc[members, "n_cells"].sum())
        obs.append({"cell_type": name, "patient_id": patient, "n_cells": n_cells, "counts": float(profile.sum())})

    for name in sizes.index:
        of_type = groups["cell_type"] == name
        add(of_type, name, "")
        if name == keys.MALIGNANT_TYPE:
            for patient, n in groups[of_type].groupby("patient_id")["n_cells"].sum().items():
                if n >= min_malignant_cells:
                    add(of_type & (groups["patient_id"] == patient), name, str(patient))
    table = pd.DataFrame(obs)
    table.index = (table["cell_type"] + "|" + table["patient_id"]).str.rstrip("|")
    result = AnnData(np.vstack(rows).astype(np.float32), obs=table, var=pd.DataFrame(index=cells.var_names))
    result.uns[keys.META] = {"reason": "", "left_out": json.dumps(left_out)}
    return result


def profiles_of_patient(reference: AnnData, patient_id: str) -> AnnData:
    """One profile per type for the sections of a patient: their own malignant profile where there is one."""
    own = reference.obs["patient_id"].astype(str) == patient_id
    pooled = reference.obs["patient_id"].astype(str) == ""
    replaced = pooled & reference.obs["cell_type"].isin(set(reference.obs["cell_type"][own]))
    chosen = reference[(own | pooled) & ~replaced].copy()
    chosen.obs_names = chosen.obs["cell_type"].astype(str)
    return chosen


def choose_genes(profiles: AnnData, *, n_per_type: int, markers: dict[str, list[str]]) -> np.ndarray:
    """Genes that tell the types apart.

    For each type: half the genes by their fold over the mean of the other types, half by their fold over the
    nearest other type, so that sister types stay distinct; and the type's markers. Expression is first reduced by two
    Poisson standard errors, so that a gene is not specific by chance in a type with few cells.

    Returns
    -------
    Sorted positions in ``profiles.var_names``.
    """
    expression = np.asarray(profiles.X, dtype=np.float64)
    share = expression / expression.sum(axis=1, keepdims=True)
    counts = profiles.obs["counts"].to_numpy()[:, None]
    lower = np.maximum(share - 2 * np.sqrt(share / counts), 0)
    floor = 1e-5
    chosen: set[int] = set()
    for k, name in enumerate(profiles.obs_names):
        others = np.delete(share, k, axis=0)
        if len(others):
            against_mean = lower[k] / (others.mean(axis=0) + floor)
            against_nearest = lower[k] / (others.max(axis=0) + floor)
        else:
            against_mean = against_nearest = lower[k]
        for score in (against_mean, against_nearest):
            best = np.argsort(-score, kind="stable")[: n_per_type // 2]
            chosen.update(best[score[best] > 0].tolist())
        positions = profiles.var_names.get_indexer(markers.get(name, []))
        chosen.update(positions[positions >= 0].tolist())
    return np.array(sorted(chosen), dtype=np.int64)


def _solve(gram: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Non-negative least squares of many small problems given as normal equations.

    gram: n x k x k (or 1 x k x k, shared), target: n x k; returns n x k.
    """
    k = target.shape[1]
    scale = np.trace(gram, axis1=1, axis2=2) / k
    ridge = gram + (1e-8 * np.maximum(scale, 1e-12))[:, None, None] * np.eye(k)
    lower = np.linalg.cholesky(ridge)
    factor = np.swapaxes(lower, 1, 2)
    right = np.linalg.solve(lower, target[:, :, None])[:, :, 0]
    if len(factor) == 1:
        return np.array([nnls(factor[0], b)[0] for b in right])
    return np.array([nnls(a, b)[0] for a, b in zip(factor, right, strict=True)])


def _weights(weight: np.ndarray, profiles: np.ndarray, *, level: np.ndarray) -> np.ndarray:
    """Inverse variance of each count about its prediction: Poisson noise and the genes' residual variation.

    level: mean count of each gene over the section.
    """
    mean = weight @ profiles + 0.02 * level + 1e-3
    return 1 / (mean + (GENE_CV * mean) ** 2)


def _common_weights(level: np.ndarray) -> np.ndarray:
    """One inverse variance per gene for all spots of a section, by its mean count."""
    return 1 / (level + 1e-3)


def _fit(counts: np.ndarray, profiles: np.ndarray, *, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative regression of each spot on the profiles, its weights renewed from the fit.

    counts: spots x genes, profiles: types x genes; returns abundances (spots x types) and the cells of each spot as
    first fitted, which set the prior.
    """
    n_types = len(profiles)
    precision = _common_weights(level)
    weight = _solve(((profiles * precision) @ profiles.T)[None], (counts * precision) @ profiles.T)
    cells = weight.sum(axis=1)
    pairs = (profiles[:, None, :] * profiles[None, :, :]).reshape(n_types * n_types, -1).T
    for _ in range(FIT_ROUNDS):
        precision = _weights(weight, profiles, level=level)
        gram = (precision @ pairs).reshape(-1, n_types, n_types)
        weight = _solve_with_prior(gram, (precision * counts) @ profiles.T, cells)
    return weight, cells


def _group_weights(weight: np.ndarray, profiles: np.ndarray, *, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Groups of spots of similar composition, and the weights of the genes in each: group of each spot, groups x genes.

    Spots that hold nothing yet go with the first group.
    """
    from sklearn.cluster import KMeans

    composition = np.sqrt(np.nan_to_num(_fractions(weight)))
    n_groups = min(WEIGHT_GROUPS, len(np.unique(composition, axis=0)))
    drawn = np.linspace(0, len(composition) - 1, min(len(composition), GROUPED_SPOTS)).astype(int)
    model = KMeans(n_groups, n_init=1, random_state=0).fit(composition[drawn])
    group = model.predict(composition)
    mean = np.stack([weight[group == j].mean(axis=0) for j in range(n_groups)])
    return group, _weights(mean, profiles, level=level)


def _fit_grouped(counts: sp.csr_matrix, profiles: np.ndarray, *, level: np.ndarray) -> tuple[np.ndarray, ...]:
    """:func:`_fit` with weights common to spots of similar composition: few matrices to factorise, counts stay sparse.

    Returns abundances, cells, and group and weights of the last round (:func:`_group_weights`).
    """
    precision = _common_weights(level)
    weight = _solve(((profiles * precision) @ profiles.T)[None], np.asarray(counts @ (profiles * precision).T))
    cells = weight.sum(axis=1)
    for _ in range(FIT_ROUNDS):
        group, precision = _group_weights(weight, profiles, level=level)
        for j in np.unique(group):
            members = np.flatnonzero(group == j)
            weighted = profiles * precision[j]
            target = np.asarray(counts[members] @ weighted.T)
            weight[members] = _solve_with_prior((weighted @ profiles.T)[None], target, cells[members])
    return weight, cells, group, precision


def _solve_with_prior(gram: np.ndarray, target: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """:func:`_solve` under an exponential prior on the cells of each type, its mean the spot's cells over all types.

    Without it the noise of a regression that can't go below zero adds up to cells of every type, most of all of types
    whose cells hold little RNA: neutrophils came out five-fold on the simulated study, and two-fold with it. A spot
    with so few counts that the prior leaves nothing is solved without.
    cells: number of cells per spot, in units of the profiles.
    """
    solved = _solve(gram, target - (target.shape[1] / np.maximum(cells, 1e-9))[:, None])
    empty = (solved.sum(axis=1) == 0) & target.any(axis=1)
    if empty.any():
        solved[empty] = _solve(gram if len(gram) == 1 else gram[empty], target[empty])
    return solved


def _fractions(weight: np.ndarray) -> np.ndarray:
    total = weight.sum(axis=1, keepdims=True)
    return np.divide(weight, total, out=np.full_like(weight, np.nan), where=total > 0)


@dataclass(frozen=True)
class _Replicates:
    """Genes resampled in random blocks: the normal equations of a replicate are then sums over blocks, computed once.

    ``blocks``: gene positions; ``times``: replicates x blocks, how often a block is drawn; ``factors``: replicates x
    types, by which the amount of a type is off in the whole section (``TYPE_SD``).
    """

    blocks: list[np.ndarray]
    times: np.ndarray
    factors: np.ndarray


def _replicates(n_genes: int, n_types: int, *, n_bootstrap: int, seed: int) -> _Replicates:
    rng = np.random.default_rng(seed)
    n_blocks = min(BOOTSTRAP_BLOCKS, n_genes)
    blocks = np.array_split(rng.permutation(n_genes), n_blocks)
    times = rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=n_bootstrap).astype(np.float64)
    return _Replicates(blocks, times, np.exp(TYPE_SD * rng.standard_normal((n_bootstrap, n_types))))


def _draw(gram: np.ndarray, target: np.ndarray, cells: np.ndarray, replicates: _Replicates, i: int) -> np.ndarray:
    """Fractions of replicate ``i``. Every other one is solved without the prior, which the data may contradict."""
    solved = _solve(gram, target) if i % 2 else _solve_with_prior(gram, target, cells)
    return _fractions(solved * replicates.factors[i])


def _bootstrap(
    counts: np.ndarray,
    profiles: np.ndarray,
    weight: np.ndarray,
    cells: np.ndarray,
    *,
    level: np.ndarray,
    replicates: _Replicates,
) -> np.ndarray:
    """Interval of each fraction over resampled genes and amounts of types: 2 x spots x types."""
    n_types = len(profiles)
    upper = np.triu_indices(n_types)
    precision = _weights(weight, profiles, level=level)
    blocks = replicates.blocks
    gram = np.stack([precision[:, b] @ (profiles[upper[0]][:, b] * profiles[upper[1]][:, b]).T for b in blocks])
    target = np.stack([(precision[:, b] * counts[:, b]) @ profiles[:, b].T for b in blocks])
    draws = np.empty((len(replicates.times), gram.shape[1], n_types))
    for i, times in enumerate(replicates.times):
        half = np.tensordot(times, gram, axes=1)
        full = np.empty((len(half), n_types, n_types))
        full[:, upper[0], upper[1]] = half
        full[:, upper[1], upper[0]] = half
        draws[i] = _draw(full, np.tensordot(times, target, axes=1), cells, replicates, i)
    return np.percentile(draws, INTERVAL, axis=0)


def _bootstrap_grouped(
    counts: sp.csr_matrix,
    profiles: np.ndarray,
    cells: np.ndarray,
    group: np.ndarray,
    precision: np.ndarray,
    *,
    replicates: _Replicates,
) -> np.ndarray:
    """:func:`_bootstrap` with weights common to spots of similar composition."""
    low, high = np.empty((2, counts.shape[0], len(profiles)))
    for j in np.unique(group):
        weighted = profiles * precision[j]
        gram = np.stack([weighted[:, b] @ profiles[:, b].T for b in replicates.blocks])
        members = np.flatnonzero(group == j)
        for spots in np.array_split(members, 1 + len(members) // SPOTS_AT_ONCE):
            by_gene = counts[spots].tocsc()
            target = np.stack([np.asarray(by_gene[:, b] @ weighted[:, b].T) for b in replicates.blocks])
            draws = [
                _draw(
                    np.tensordot(times, gram, axes=1)[None],
                    np.tensordot(times, target, axes=1),
                    cells[spots],
                    replicates,
                    i,
                )
                for i, times in enumerate(replicates.times)
            ]
            low[spots], high[spots] = np.percentile(draws, INTERVAL, axis=0)
    return np.stack([low, high])


@dataclass(frozen=True)
class Chosen:
    """What a deconvolution works on: ``counts`` (spots x genes, sparse) and ``profiles`` (types x genes)."""

    counts: sp.csr_matrix
    profiles: np.ndarray


def choose_counts(
    counts: sp.spmatrix | np.ndarray,
    genes: Iterable[str],
    profiles: AnnData,
    *,
    markers: dict[str, list[str]],
    n_genes_per_type: int,
) -> Chosen | str:
    """Counts and profiles of the genes that tell the types apart, or the reason why there are none; the arguments are
    those of :func:`abundances`.

    Raises
    ------
    ValueError
        If section and reference share fewer usable genes than there are types.
    """
    gene_index = pd.Index(genes)
    shared = np.flatnonzero(profiles.var_names.isin(gene_index))
    if counts.shape[0] == 0:
        return "the section holds no spots"
    if profiles.n_obs == 0:
        return f"no reference profiles: {profiles.uns.get(keys.META, {}).get('reason', '')}"
    if len(shared) == 0:
        return "section and reference share no gene"
    profiles = profiles[:, shared]
    columns = gene_index.get_indexer(profiles.var_names)
    detected = np.asarray(counts.sum(axis=0)).ravel()[columns] >= 1
    profiles = profiles[:, detected].copy()
    chosen = choose_genes(profiles, n_per_type=n_genes_per_type, markers=markers)
    if len(chosen) < profiles.n_obs:
        raise ValueError(
            f"spot abundances: {len(chosen)} usable genes for {profiles.n_obs} cell types; the section shares too few "
            "detected genes with the single-cell reference. Check that both name genes by the same symbols."
        )
    return Chosen(
        counts=sp.csr_matrix(sp.csc_matrix(counts)[:, columns[detected][chosen]], dtype=np.float64),
        profiles=np.asarray(profiles.X, dtype=np.float64)[:, chosen],
    )


def no_abundances(profiles: AnnData, n_spots: int, reason: str) -> Abundances:
    """No fractions, for a reason."""
    types = tuple(profiles.obs_names)
    none = np.full((n_spots, len(types)), np.nan)
    logger.info("abundances: none, %s", reason)
    return Abundances(types, none, none.copy(), none.copy(), 0, reason)


def abundances(
    counts: sp.spmatrix | np.ndarray,
    genes: Iterable[str],
    profiles: AnnData,
    *,
    markers: dict[str, list[str]],
    n_genes_per_type: int,
    n_bootstrap: int,
    seed: int,
    common_weights: bool = False,
) -> Abundances:
    """Fraction of each cell type among the cells of each spot.

    Non-negative least squares on the chosen genes, each count weighted by the inverse of its Poisson noise plus the
    genes' own variation, the weights renewed from the fit (the quasi-likelihood of RCTD, Cable et al. 2022 Nat
    Biotechnol, without its dense model of each gene). A factor between platforms is averaged over the many genes per
    type rather than estimated: RCTD's estimate, one ratio per gene from the sum over spots, made abundances worse on
    the simulated study (Jensen-Shannon divergence .17 against .13 at 120 genes per type). A type in the tissue
    without profile is spread over its likes.

    Parameters
    ----------
    counts
        Spots x genes, integer counts.
    genes
        Names of the columns of ``counts``.
    profiles
        One profile per type (:func:`profiles_of_patient`).
    markers
        Marker genes by type; they are used beside the most specific genes.
    n_genes_per_type
        Number of specific genes chosen for each type.
    n_bootstrap
        Replicates for the 95 % intervals, which hold the uncertainty of counts, genes, the prior and the amounts of
        types between reference and section (``TYPE_SD``), not that of the annotation. 0: no intervals (NaN).
        On simulated sections of five seeds, of which one set ``TYPE_SD``, they held 97 % of all true fractions and 85 %
        of those above 0.02 (bins of Visium HD: 93 and 72 %); ``make truth`` prints both. What they miss lies above
        the interval nearly always.
    seed
        Seed of the replicates.
    common_weights
        Spots of similar composition share their weights: for the hundred thousands of bins of Visium HD, at a small
        part of the cost.
    """
    chosen = choose_counts(counts, genes, profiles, markers=markers, n_genes_per_type=n_genes_per_type)
    if isinstance(chosen, str):
        return no_abundances(profiles, counts.shape[0], chosen)
    matrix = chosen.profiles
    level = np.asarray(chosen.counts.mean(axis=0)).ravel()
    n_spots = counts.shape[0]
    replicates = _replicates(matrix.shape[1], len(matrix), n_bootstrap=n_bootstrap, seed=seed)
    fractions, low, high = np.full((3, n_spots, len(matrix)), np.nan)
    if common_weights:
        weight, cells, group, precision = _fit_grouped(chosen.counts, matrix, level=level)
        fractions = _fractions(weight)
        if n_bootstrap:
            low, high = _bootstrap_grouped(chosen.counts, matrix, cells, group, precision, replicates=replicates)
    else:
        for first in range(0, n_spots, SPOTS_AT_ONCE):
            spots = slice(first, first + SPOTS_AT_ONCE)
            part = chosen.counts[spots].toarray()
            weight, cells = _fit(part, matrix, level=level)
            fractions[spots] = _fractions(weight)
            if n_bootstrap:
                low[spots], high[spots] = _bootstrap(part, matrix, weight, cells, level=level, replicates=replicates)
    logger.info("abundances: %d spots, %d types, %d genes", n_spots, *matrix.shape)
    return Abundances(
        types=tuple(profiles.obs_names),
        fractions=fractions,
        ci_low=np.minimum(low, fractions),
        ci_high=np.maximum(high, fractions),
        n_genes=matrix.shape[1],
        reason="",
    )


def abundance_table(result: Abundances, barcodes: Iterable[str]) -> pd.DataFrame:
    """Long table of abundances: barcode, cell_type, abundance, ci_low, ci_high, rare (:func:`rare_types`)."""
    barcodes = np.asarray(list(barcodes), dtype=object)
    rare = rare_types(pd.DataFrame(result.fractions, columns=list(result.types)).mean())
    return pd.DataFrame(
        {
            "barcode": np.repeat(barcodes, len(result.types)),
            "cell_type": np.tile(np.asarray(result.types, dtype=object), len(barcodes)),
            "abundance": result.fractions.ravel().astype(np.float32),
            "ci_low": result.ci_low.ravel().astype(np.float32),
            "ci_high": result.ci_high.ravel().astype(np.float32),
            "rare": np.tile(np.isin(result.types, rare), len(barcodes)),
        },
        columns=list(ABUNDANCE_COLUMNS),
    )


def rare_types(means: pd.Series) -> list[str]:
    """Types that are rare in a section of spots or bins, whose map is not to be read.

    Parameters
    ----------
    means
        Mean fraction of each type over the spots of a section that have abundances; NaN where none has.

    Returns
    -------
    Names with a mean below ``RARE_SHARE``, in the order of ``means``.
    """
    return [str(name) for name in means.index[means < RARE_SHARE]]
