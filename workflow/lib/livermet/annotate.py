"""Cell annotation in three levels (compartment, type, state) from the marker table, with confidence and an honest
``unknown``.

How a cell gets its name: cells are cut into many small groups (within compartments, on genes that vary there); groups
that don't differ are merged; cells move to the group whose whole profile fits them best; each group is named by
marker evidence against chance (:mod:`livermet.evidence`), first its compartment, then its type against the sister
types; epithelial cells are told apart by copy number (:mod:`livermet.cnv`). The table of evidence says why.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.special import logsumexp

from livermet import evidence, keys
from livermet.ambient import corrected_counts, without_soup
from livermet.cnv import CopyNumbers, call_malignant
from livermet.integrate import (
    leiden,
    log_normalise,
    name_clusters,
    neighbour_graph,
    one_hot,
    principal_components,
    remove_batch,
    variable_genes,
)
from livermet.malignant import subtypes
from livermet.overrides import apply_overrides

if TYPE_CHECKING:
    from livermet.tables import StudyTable

logger = logging.getLogger(__name__)

GROUP = keys.GROUP
EVIDENCE_COLUMNS = (
    "cluster",
    "n_cells",
    "population",
    "compartment",
    "score",
    "score_vs_sisters",
    "markers_raised",
    "n_markers",
    "negative_conflict",
    "chosen",
)
# A type seldom shows all of its textbook markers: the share that is expected to be raised.
MARKER_RATE = 0.6
# How often a negative marker is raised in the population itself (ambient RNA, doublets) and in others.
NEGATIVE_RATE = (0.1, 0.3)
# Sister types share programmes: expected share of raised markers of the other types of a compartment, worth this many
# genes.
SISTER_RATE = (0.2, 10.0)
# Log odds by which a group must be better to take a type that another, different group has taken already.
REPEAT_COST = 3.0
# Log odds by which markers must support a group's compartment better than the next to decide alone; where they don't,
# the whole profile must correlate better with a clear group of one compartment than of any other by MIN_PROFILE_LEAD.
MIN_LEAD = 1.0
MIN_PROFILE_LEAD = 0.25
# Groups of one compartment whose centred log profiles correlate by more than this are of one family.
FAMILY_CORRELATION = 0.25
# Excess of marker counts, in standard deviations, by which a cell is taken out of its group.
FOREIGN_Z = 5.0
# Fewer such cells are doublets or chance, and a group of them would claim a name.
MIN_FOREIGN = 5
RARE_SHARE = 0.02
# Two groups are one if fewer genes than this differ between them twofold and by four standard errors.
MIN_DIFFERENT_GENES = 12
MIN_GROUP = 3
# Counts of a cell are overdispersed: a multinomial log likelihood is worth about a fifth.
LIKELIHOOD_WEIGHT = 0.2
NULL_SETS = 25


@dataclass(frozen=True)
class MarkerSets:
    """The marker table on the genes of a data set: names and compartments of types, positions of (negative) markers."""

    names: np.ndarray
    compartments: np.ndarray
    genes: list[np.ndarray]
    negative: list[np.ndarray]

    @property
    def kinds(self) -> list[str]:
        """Compartments in the order of the table."""
        return list(dict.fromkeys(self.compartments))


def marker_sets(markers: pd.DataFrame, var_names: pd.Index) -> MarkerSets:
    """Types of the marker table with the positions of those markers that the data hold."""
    types = markers[markers["level"] == "type"]

    def positions(column: str) -> list[np.ndarray]:
        found = [var_names.get_indexer(genes) for genes in types[column]]
        return [np.unique(at[at >= 0]) for at in found]

    return MarkerSets(
        names=types.index.to_numpy(),
        compartments=types["parent"].to_numpy(),
        genes=positions("genes"),
        negative=positions("negative"),
    )


def annotate_types(
    adata: AnnData,
    markers: pd.DataFrame,
    *,
    fine_resolution: float,
    group_resolution: float,
    min_score: float,
    min_confidence: float,
    seed: int,
) -> tuple[AnnData, pd.DataFrame]:
    """Compartment and type of each cell by marker evidence, in place.

    Parameters
    ----------
    adata
        Integrated cells: integer counts, ``connectivities``, ``obs["library_id"]``.
    markers
        The marker table, from :func:`livermet.markers.load_markers`.
    fine_resolution
        Leiden resolution of the first cut over all cells.
    group_resolution
        Leiden resolution within a compartment.
    min_score
        Log odds (natural) against chance that a group needs for a compartment; for a type, ln(n) more, of n types.
    min_confidence
        Smallest probability (0 to 1) of a stated type; below it the type is ``unknown``.
    seed
        Seed of clustering and random gene sets.

    Returns
    -------
    The same object with obs compartment, cell_type, confidence and ``annotation_group``, and ``uns``
    untouched; and the evidence: one row per group and candidate population.
    """
    if adata.n_obs == 0:
        for column in (keys.COMPARTMENT, keys.CELL_TYPE, GROUP):
            adata.obs[column] = pd.Categorical([])
        adata.obs[keys.CONFIDENCE] = np.zeros(0)
        adata.obs["malignant_prior"] = np.zeros(0)
        return adata, pd.DataFrame(columns=list(EVIDENCE_COLUMNS))
    order = np.argsort(adata.obs_names.to_numpy().astype(str), kind="stable")
    counts = sp.csr_matrix(adata.X)[order].astype(np.float32)
    graph = adata.obsp["connectivities"][order][:, order]
    batch, libraries = pd.factorize(adata.obs[keys.LIBRARY].astype(str).to_numpy()[order], sort=True)
    soup = adata.varm[keys.AMBIENT][libraries].to_numpy().T
    cell_totals = sp.csr_matrix(one_hot(batch).multiply(counts.sum(axis=1).T).T)
    sets = marker_sets(markers, adata.var_names)
    background = _background(counts, sets, seed=seed)

    def expressed(groups: np.ndarray) -> np.ndarray:
        totals = np.asarray((one_hot(groups) @ cell_totals).todense(), dtype=float)
        return without_soup(_sums(counts, groups), totals, soup)

    fine = leiden(graph, resolution=fine_resolution, seed=seed)
    kind = compartment_evidence(expressed(fine), sets, background, min_score=min_score).kind
    groups = _regroup(counts, batch, kind[fine], fine, sets, resolution=group_resolution, seed=seed)
    groups = merge_alike(groups, _sums(counts, groups), first_kind(groups, kind[fine]))
    kind = compartment_evidence(expressed(groups), sets, background, min_score=min_score).kind
    groups = split_foreign(counts, groups, kind, sets)
    groups = refine_groups(counts, groups)

    sums = expressed(groups)
    found = compartment_evidence(sums, sets, background, min_score=min_score)
    types = type_evidence(sums, found, sets, min_score=min_score)
    names = name_clusters(groups, adata.obs_names.to_numpy()[order])
    names = np.char.replace(names.astype(str), "c", "g", 1)
    obs = _cell_labels(counts, groups, found, types, sets, min_confidence=min_confidence)
    obs[GROUP] = names
    obs.index = adata.obs_names[order]
    obs = obs.loc[adata.obs_names]
    for column in (keys.COMPARTMENT, keys.CELL_TYPE, GROUP):
        adata.obs[column] = pd.Categorical(obs[column])
    adata.obs[keys.CONFIDENCE] = obs[keys.CONFIDENCE].to_numpy()
    adata.obs["malignant_prior"] = obs["malignant_prior"].to_numpy()
    table = _evidence_table(groups, names, found, types, sets)
    logger.info(
        "annotation: %d cells, %d groups; %s", adata.n_obs, len(types.chosen), _shares(adata.obs[keys.COMPARTMENT])
    )
    return adata, table


def _shares(values: pd.Series) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in values.value_counts(normalize=True).items() if share)


def _sums(counts: sp.csr_matrix, groups: np.ndarray) -> np.ndarray:
    return np.asarray((one_hot(groups) @ counts).todense(), dtype=np.float64)


def _background(counts: sp.csr_matrix, sets: MarkerSets, *, seed: int) -> np.ndarray:
    markers = np.unique(np.concatenate([*sets.genes, *sets.negative]))
    mean = np.asarray(counts.mean(axis=0)).ravel()
    return evidence.matched_background(mean, markers, per_marker=5, rng=np.random.default_rng(seed))


@dataclass(frozen=True)
class CompartmentEvidence:
    """Per group: ``raised`` and ``level`` (log odds per gene, :func:`livermet.evidence.raised_log_odds`), ``chance``
    (background rate), ``types`` (log odds per type), ``kind`` (code, last = unknown).
    """

    raised: np.ndarray
    level: np.ndarray
    chance: np.ndarray
    types: np.ndarray
    kind: np.ndarray


def compartment_evidence(
    sums: np.ndarray, sets: MarkerSets, background: np.ndarray, *, min_score: float
) -> CompartmentEvidence:
    """Compartment of each group: that of its best-supported type, if better than chance by ``min_score`` and than any
    type of another compartment by ``MIN_LEAD``. Where markers leave two or more open, the whole profile decides among
    them if it clearly can (:func:`settled_by_profile`); otherwise the group is unknown.

    "Raised" needs a baseline in which each kind of cell weighs the same: in a biopsy that is nine tenths tumour,
    epithelial markers would otherwise be the baseline. The kinds are what is sought, so that the two are found in
    turn, from a low quantile over all groups on.
    """
    baseline = evidence.baseline_profile(sums, quantile=0.1, weight=np.ones(len(sums)))
    kind = None
    for _ in range(6):
        raised, level = evidence.raised_log_odds(sums, baseline)
        chance = evidence.background_rate(raised, background)
        types = evidence.set_log_odds(
            raised, sets.genes, rate=MARKER_RATE, background=chance, negative=sets.negative, negative_rate=NEGATIVE_RATE
        )
        best = np.column_stack([types[:, sets.compartments == name].max(axis=1) for name in sets.kinds])
        previous, kind = kind, np.where(best.max(axis=1) >= min_score, best.argmax(axis=1), len(sets.kinds))
        if previous is not None and np.array_equal(previous, kind):
            break
        weight = 1.0 / np.bincount(kind)[kind]
        baseline = evidence.baseline_profile(sums, quantile=0.4, weight=weight)
    supported = kind < len(sets.kinds)
    candidates = (best > best.max(axis=1, keepdims=True) - MIN_LEAD) & supported[:, None]
    kind = settled_by_profile(sums, candidates)
    return CompartmentEvidence(raised=raised, level=level, chance=chance, types=types, kind=kind)


def settled_by_profile(sums: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """One compartment per group: its only candidate, or that of the clear groups that its whole profile is closest to.

    Marker evidence can be close where a group raises much of everything, as large malignant cells do; its profile still
    is that of its relatives. A group of doublets lies between two compartments and stays open.

    Parameters
    ----------
    sums
        Groups x genes, summed counts.
    candidates
        Groups x compartments, which ones the markers leave open.

    Returns
    -------
    Code of the compartment per group; the number of compartments where there is none or none is clear.
    """
    n = candidates.shape[1]
    open_groups = np.flatnonzero(candidates.sum(axis=1) > 1)
    kind = np.where(candidates.sum(axis=1) == 1, candidates.argmax(axis=1), n)
    clear = np.flatnonzero(kind < n)
    if open_groups.size == 0 or clear.size == 0:
        return kind
    well_counted = sums[:, sums.sum(axis=0) >= 20 * len(sums)]
    profile = np.log((well_counted + 1) / (well_counted.sum(axis=1, keepdims=True) + 1))
    profile -= np.mean([profile[kind == code].mean(axis=0) for code in np.unique(kind[clear])], axis=0)
    profile = profile - profile.mean(axis=1, keepdims=True)
    profile /= np.maximum(np.linalg.norm(profile, axis=1, keepdims=True), 1e-12)
    alike = np.zeros((open_groups.size, n))
    for code in np.unique(kind[clear]):
        alike[:, code] = np.maximum((profile[open_groups] @ profile[kind == code].T).max(axis=1), 0)
    lead = np.diff(np.sort(alike, axis=1)[:, -2:], axis=1)[:, 0]
    best = alike.argmax(axis=1)
    settled = (lead >= MIN_PROFILE_LEAD) & candidates[open_groups, best]
    kind[open_groups] = np.where(settled, best, n)
    return kind


@dataclass(frozen=True)
class TypeEvidence:
    """Per group: ``against_sisters`` (log odds per type, -inf outside its compartment), ``probability`` per type,
    ``chosen`` (-1: none).
    """

    against_sisters: np.ndarray
    probability: np.ndarray
    chosen: np.ndarray


def type_evidence(sums: np.ndarray, found: CompartmentEvidence, sets: MarkerSets, *, min_score: float) -> TypeEvidence:
    """Type of each group within its compartment, all groups of a compartment together.

    A type must raise its own markers more often and more strongly than the group raises its sisters', by ``min_score``,
    and more often than chance by ``min_score`` and ln(n), since the best of the n types of a compartment has n chances
    to look right; otherwise the group has no type.
    """
    shape = found.types.shape
    against = np.full(shape, -np.inf)
    probability = np.zeros(shape)
    chosen = np.full(shape[0], -1)
    for code, name in enumerate(sets.kinds):
        rows = np.flatnonzero(found.kind == code)
        columns = np.flatnonzero(sets.compartments == name)
        if rows.size == 0:
            continue
        genes = [sets.genes[j] for j in columns]
        prior, weight = SISTER_RATE
        rate = found.chance[rows]
        if len(columns) > 1:
            rate = np.maximum(
                evidence.sister_rate(found.raised[rows], genes, prior=prior, weight=weight), rate[:, None]
            )
        score = evidence.set_log_odds(
            found.raised[rows],
            genes,
            rate=MARKER_RATE,
            background=np.minimum(rate, 0.9 * MARKER_RATE),
            negative=[sets.negative[j] for j in columns],
            negative_rate=NEGATIVE_RATE,
            level=found.level[rows] if len(columns) > 1 else 0.0,
        )
        families = evidence.families_of(sums[rows], min_correlation=FAMILY_CORRELATION)
        best, fair = evidence.claim_types(score, families, repeat_cost=REPEAT_COST)
        total = logsumexp(np.column_stack([fair, np.zeros(len(rows))]), axis=1, keepdims=True)
        against[np.ix_(rows, columns)] = score
        probability[np.ix_(rows, columns)] = np.exp(fair - total)
        needed = min_score + np.log(len(columns))
        supported = (score[np.arange(len(rows)), best] >= min_score) & (found.types[rows, columns[best]] >= needed)
        chosen[rows] = np.where(supported, columns[best], -1)
    return TypeEvidence(against_sisters=against, probability=probability, chosen=chosen)


def _regroup(
    counts: sp.csr_matrix,
    batch: np.ndarray,
    kind: np.ndarray,
    fine: np.ndarray,
    sets: MarkerSets,
    *,
    resolution: float,
    seed: int,
) -> np.ndarray:
    """Clusters within each compartment, on the genes that vary there and its markers; small compartments keep the
    first cut.

    Libraries are aligned (Harmony) in each but the epithelial one: malignant cells truly differ between patients, and
    aligned they would hide their states among those of others.
    """
    log_counts = log_normalise(counts)
    groups = np.zeros(len(kind), dtype=int)
    start = 0
    for code in np.unique(kind):
        cells = np.flatnonzero(kind == code)
        if cells.size < 60:
            part = pd.factorize(fine[cells], sort=True)[0]
        else:
            local = log_counts[cells]
            codes = pd.factorize(batch[cells], sort=True)[0]
            known = code < len(sets.kinds)
            own = [
                g
                for g, name in zip(sets.genes, sets.compartments, strict=True)
                if not known or name == sets.kinds[code]
            ]
            genes = np.union1d(variable_genes(local, codes, n_top=1000), np.concatenate(own))
            scores = principal_components(local[:, genes], n_pcs=min(25, cells.size // 10), seed=seed)
            if not (known and sets.kinds[code] == "epithelial"):
                scores = remove_batch(scores, codes, seed=seed)
            graph, _ = neighbour_graph(scores, n_neighbours=10)
            part = leiden(graph, resolution=resolution, seed=seed)
        groups[cells] = start + part
        start += part.max() + 1
    return groups


def first_kind(groups: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Kind of each group, given the kind of each cell (groups lie within kinds)."""
    return pd.Series(kind).groupby(groups).first().to_numpy()


def merge_alike(groups: np.ndarray, sums: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Merge groups of one kind whose profiles don't differ: community detection always cuts, also where there is
    nothing to cut.

    Groups are joined by average linkage on the number of genes that differ at least twofold and by four standard
    errors (Poisson) between them, until every two differ in ``MIN_DIFFERENT_GENES`` or more.

    Parameters
    ----------
    groups
        Code of each cell.
    sums
        Groups x genes, summed counts.
    kind
        Compartment of each group; groups of two compartments are never merged.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    n = len(sums)
    if n < 2:
        return groups
    sums = sums[:, sums.sum(axis=0) >= 20]
    total = np.maximum(sums.sum(axis=1), 1)
    share = sums / total[:, None]
    differing = np.zeros((n, n))
    for i in range(n - 1):
        rest = slice(i + 1, n)
        pooled = (sums[rest] + sums[i]) / (total[rest] + total[i])[:, None]
        error = np.sqrt(pooled * (1 / total[rest] + 1 / total[i])[:, None])
        low, high = np.minimum(share[rest], share[i]), np.maximum(share[rest], share[i])
        differing[i, rest] = ((high - low > 4 * error) & (high > 2 * low + 1e-5)).sum(axis=1)
    differing[kind[:, None] != kind] = sums.shape[1]
    tree = linkage(squareform(np.triu(differing, 1) + np.triu(differing, 1).T), "average")
    merged = fcluster(tree, MIN_DIFFERENT_GENES, "distance")
    return pd.factorize(merged[groups], sort=True)[0]


def split_foreign(counts: sp.csr_matrix, groups: np.ndarray, kind: np.ndarray, sets: MarkerSets) -> np.ndarray:
    """Give a group of their own to cells of compartments that hold few cells or none.

    A handful of cells of a rare kind (acinar cells, erythrocytes) is lost inside larger groups, above all where they
    come from one library and Harmony has moved them. Compartments of more than ``RARE_SHARE`` of the cells have
    groups that such cells reach by their profile, and cells with foreign markers are mostly doublets there: they are
    left alone.

    Parameters
    ----------
    counts
        Cells x genes.
    groups
        Group of each cell.
    kind
        Compartment code of each group.
    sets
        The marker table.
    """
    share = np.bincount(kind[groups], minlength=len(sets.kinds) + 1) / len(groups)
    wanted = [j for j, name in enumerate(sets.compartments) if share[sets.kinds.index(name)] < RARE_SHARE]
    if not wanted:
        return groups
    cells, best = evidence.foreign_cells(counts, groups, [sets.genes[j] for j in wanted], min_z=FOREIGN_Z)
    groups = groups.copy()
    for j in np.unique(best):
        members = cells[best == j]
        if members.size >= MIN_FOREIGN:
            logger.info("%d cells with markers of %s form a group of their own", members.size, sets.names[wanted[j]])
            groups[members] = groups.max() + 1
    return pd.factorize(groups, sort=True)[0]


def group_profiles(sums: np.ndarray) -> np.ndarray:
    """Expected share of each gene in each group, shrunk towards all cells by the weight of 1,000 counts."""
    pooled = sums.sum(axis=0) + 0.5
    profile = sums + 1e3 * pooled / pooled.sum()
    return (profile / profile.sum(axis=1, keepdims=True)).astype(np.float32)


def refine_groups(counts: sp.csr_matrix, groups: np.ndarray, *, n_iterations: int = 2) -> np.ndarray:
    """Move each cell to the group whose whole profile makes its counts most likely; groups of fewer than three cells
    dissolve.
    """
    for _ in range(n_iterations):
        size = np.bincount(groups)
        kept = np.flatnonzero(size >= min(MIN_GROUP, size.max()))
        sums = _sums(counts, groups)[kept]
        fit = evidence.profile_log_likelihood(counts, group_profiles(sums)) + np.log(size[kept] / size[kept].sum())
        groups = pd.factorize(fit.argmax(axis=1), sort=True)[0]
    return groups


def _cell_labels(
    counts: sp.csr_matrix,
    groups: np.ndarray,
    found: CompartmentEvidence,
    types: TypeEvidence,
    sets: MarkerSets,
    *,
    min_confidence: float,
) -> pd.DataFrame:
    size = np.bincount(groups)
    fit = evidence.profile_log_likelihood(counts, group_profiles(_sums(counts, groups)))
    weight = LIKELIHOOD_WEIGHT * fit + np.log(size / size.sum())
    membership = np.exp(weight - logsumexp(weight, axis=1, keepdims=True))
    kinds = np.array([*sets.kinds, keys.UNKNOWN], dtype=object)
    type_names = np.array([*sets.names, keys.UNKNOWN], dtype=object)
    kind = found.kind[groups]
    chosen = types.chosen[groups]
    # A cell's probability of a type: over the groups it may belong to, what evidence each has for that type.
    same_type = membership @ np.where(types.chosen[:, None] >= 0, types.probability, 0)
    confidence = np.where(chosen >= 0, same_type[np.arange(len(groups)), chosen], 0.0)
    in_kind = membership @ (found.kind[:, None] == np.arange(len(kinds)))
    kind_confidence = in_kind[np.arange(len(groups)), kind]
    stated = (chosen >= 0) & (confidence >= min_confidence)
    malignant = np.flatnonzero(sets.names == keys.MALIGNANT_TYPE)
    return pd.DataFrame(
        {
            keys.COMPARTMENT: kinds[kind],
            keys.CELL_TYPE: np.where(stated, type_names[chosen], keys.UNKNOWN),
            keys.CONFIDENCE: np.where(chosen >= 0, confidence, kind_confidence * (kind == len(sets.kinds))).round(4),
            "malignant_prior": (membership @ types.probability[:, malignant]).sum(axis=1),
        }
    )


def _evidence_table(
    groups: np.ndarray, names: np.ndarray, found: CompartmentEvidence, types: TypeEvidence, sets: MarkerSets
) -> pd.DataFrame:
    label = pd.Series(names).groupby(groups).first()
    size = np.bincount(groups)
    up = found.raised > 0
    rows = []
    for group in range(len(size)):
        for j, name in enumerate(sets.names):
            genes, negative = sets.genes[j], sets.negative[j]
            rows.append(
                (
                    label[group],
                    size[group],
                    name,
                    sets.compartments[j],
                    found.types[group, j],
                    types.against_sisters[group, j] if np.isfinite(types.against_sisters[group, j]) else np.nan,
                    up[group, genes].mean() if genes.size else np.nan,
                    genes.size,
                    up[group, negative].mean() if negative.size else np.nan,
                    int(types.chosen[group] == j),
                )
            )
    table = pd.DataFrame(rows, columns=list(EVIDENCE_COLUMNS))
    return table.sort_values(["cluster", "score"], ascending=[True, False], kind="stable").reset_index(drop=True)


def apply_copy_numbers(adata: AnnData, copy_numbers: CopyNumbers, *, min_score: float, min_private: float) -> AnnData:
    """Join marker evidence, copy number and privacy to the final epithelial types, in place.

    ===========  ==================================================================================================
    copy number  type
    ===========  ==================================================================================================
    malignant    ``malignant_ductal``
    normal       ``cholangiocyte`` with the markers of bile ducts, else ``epithelial_uncertain``
    ambiguous    ``malignant_ductal`` with clear markers of tumour in cells private to their patient, unless the patient
                 has no changed arms; ``cholangiocyte`` with clear markers of bile ducts in cells that aren't private;
                 else ``epithelial_uncertain``
    not tested   what markers say if they are clear, but no tumour of cells that are shared by patients; else
                 ``epithelial_uncertain``
    ===========  ==================================================================================================

    Markers are clear from ``min_score`` log odds. Cells are private from ``min_private`` on and shared below
    (:func:`livermet.cnv.patient_privacy`), neither where that is not known. The call ``malignant`` itself stays what
    copy number says: markers and privacy make no malignant cell. Cells of other compartments are normal where their
    patient was tested.
    """
    obs = adata.obs
    epithelial = candidates(adata)
    call = copy_numbers.cells[keys.MALIGNANT].to_numpy()
    types = obs[keys.CELL_TYPE].astype(str).to_numpy().astype(object)
    confidence = obs[keys.CONFIDENCE].to_numpy(dtype=float).copy()
    prior = np.clip(obs["malignant_prior"].to_numpy(dtype=float), 1e-6, 1 - 1e-6)
    probability = copy_numbers.cells["malignant_probability"].to_numpy()
    duct = types == keys.CHOLANGIOCYTE
    private = copy_numbers.cells[keys.PATIENT_PRIVATE].to_numpy()
    clear = np.abs(np.log(prior / (1 - prior))) >= min_score
    tumour = clear & (prior > 0.5) & ~duct
    untested = epithelial & (call == "not_tested")
    ambiguous = epithelial & (call == "ambiguous")
    supported = (tumour & (private >= min_private) & (probability > 0)) | (clear & duct & ~(private >= min_private))
    types[epithelial & (call == "malignant")] = keys.MALIGNANT_TYPE
    types[epithelial & (call == "normal") & ~duct] = keys.UNCERTAIN_EPITHELIAL
    types[ambiguous & ~supported] = keys.UNCERTAIN_EPITHELIAL
    types[untested & (~clear | (tumour & (private < min_private)))] = keys.UNCERTAIN_EPITHELIAL
    called = epithelial & (call == "malignant")
    confidence[called] = probability[called]
    normal = epithelial & (call == "normal")
    confidence[normal] = np.minimum(confidence, 1 - probability)[normal]
    obs[keys.CELL_TYPE] = pd.Categorical(types)
    obs[keys.CONFIDENCE] = confidence.round(4)
    obs[keys.MALIGNANT] = pd.Categorical(call, categories=list(keys.MALIGNANT_CALLS))
    obs[keys.CNV_SCORE] = copy_numbers.cells[keys.CNV_SCORE].to_numpy()
    obs[keys.PATIENT_PRIVATE] = private.round(4)
    del obs["malignant_prior"]
    return adata


def candidates(adata: AnnData) -> np.ndarray:
    """Cells whose malignancy is open: epithelial, not hepatocytes."""
    return (adata.obs[keys.COMPARTMENT].astype(str) == "epithelial").to_numpy()


def reference_cells(adata: AnnData) -> np.ndarray:
    """Immune and endothelial cells, the reference of copy number (never cholangiocytes, which share lineage genes
    with the tumour).
    """
    return adata.obs[keys.COMPARTMENT].astype(str).isin(["lymphoid", "myeloid", "endothelial"]).to_numpy()


def score_states(adata: AnnData, markers: pd.DataFrame, *, min_state_z: float, min_cells: int, seed: int) -> AnnData:
    """Score the states of each type per cell, in place: ``score_<state>`` and ``cell_state``.

    A score is the mean log expression of a state's markers minus that of random genes matched to them in expression
    within the type, in units of the spread over ``NULL_SETS`` such sets in that cell (signatures score no
    better than random sets unless shown; Lautizi et al. 2022). It compares cells of one type; for other cells it is
    missing. Genes that a type holds by ambient RNA mostly are no markers of its states and enter no random set. A
    cell's state is its best one if the score reaches ``min_state_z``, else "".

    Parameters
    ----------
    adata
        Cells with final ``cell_type`` and the layer ``corrected``.
    markers
        The marker table.
    min_state_z
        Smallest score of a stated state.
    min_cells
        A type with fewer cells gets no scores: there would be nothing to match expression on.
    seed
        Seed of the random gene sets.
    """
    states = markers[markers["level"] == "state"]
    types = adata.obs[keys.CELL_TYPE].astype(str).to_numpy()
    best = np.full(adata.n_obs, -np.inf)
    label = np.full(adata.n_obs, "", dtype=object)
    every = np.unique(adata.var_names.get_indexer(sorted({g for genes in markers["genes"] for g in genes})))
    rng = np.random.default_rng(seed)
    for parent, table in states.groupby("parent", sort=False):
        for state in table.index:
            adata.obs[f"score_{state}"] = np.full(adata.n_obs, np.nan)
        cells = np.flatnonzero(types == parent)
        if cells.size < max(min_cells, 1):
            continue
        cells = cells[np.argsort(adata.obs_names.to_numpy()[cells].astype(str), kind="stable")]
        expression = log_normalise(sp.csr_matrix(adata.X[cells]))
        mean = np.asarray(expression.mean(axis=0)).ravel()
        mean[mostly_ambient(adata, cells)] = 0
        for state, genes in table["genes"].items():
            at = adata.var_names.get_indexer(genes)
            at = at[at >= 0]
            at = at[mean[at] > 0]
            if at.size < 3:
                continue
            z = set_score(expression, at, mean=mean, exclude=every, rng=rng)
            adata.obs.iloc[cells, adata.obs.columns.get_loc(f"score_{state}")] = z
            better = z > best[cells]
            best[cells[better]] = z[better]
            label[cells[better]] = state
    adata.obs[keys.CELL_STATE] = pd.Categorical(np.where(best >= min_state_z, label, ""))
    return adata


def mostly_ambient(adata: AnnData, cells: np.ndarray) -> np.ndarray:
    """Genes of which more than half of the counts in these cells are ambient RNA, by the layer ``corrected``."""
    before, after = (np.asarray(m[cells].sum(axis=0)).ravel() for m in (adata.X, adata.layers[keys.CORRECTED]))
    return after < 0.5 * before


def set_score(
    expression: sp.csr_matrix, genes: np.ndarray, *, mean: np.ndarray, exclude: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Mean of a gene set minus matched random sets, over their spread, per cell.

    Parameters
    ----------
    expression
        Cells x genes, log-normalised.
    genes
        Positions of the set.
    mean
        Mean expression per gene; each random set takes for every gene one of its 50 nearest in mean.
    exclude
        Genes that random sets must not hold.
    rng
        Random generator.
    """
    free = np.setdiff1d(np.flatnonzero(mean > 0), exclude)
    free = free[np.argsort(mean[free], kind="stable")]
    at = np.clip(np.searchsorted(mean[free], mean[genes]), 25, max(len(free) - 25, 25))
    drawn = free[np.clip(at[:, None] + rng.integers(-25, 25, size=(genes.size, NULL_SETS)), 0, len(free) - 1)]
    columns = np.concatenate([np.zeros(genes.size, dtype=int), np.repeat(np.arange(1, NULL_SETS + 1), genes.size)])
    rows = np.concatenate([genes, drawn.T.ravel()])
    weight = sp.csr_matrix(
        (np.full(rows.size, 1 / genes.size, dtype=np.float32), (rows, columns)),
        shape=(expression.shape[1], NULL_SETS + 1),
    )
    means = np.asarray((expression @ weight).todense())
    null = means[:, 1:]
    # The spread of a cell with few counts is poorly known: it is shrunk towards that of all cells.
    spread = np.sqrt((null.var(axis=1) + null.var(axis=1).mean()) / 2)
    return (means[:, 0] - null.mean(axis=1)) / np.maximum(spread, 1e-6)


def annotate_cells(
    adata: AnnData,
    markers: pd.DataFrame,
    positions: pd.DataFrame,
    *,
    annotate: dict,
    cnv: dict,
    seed: int,
    overrides: StudyTable | None = None,
) -> tuple[AnnData, pd.DataFrame, pd.DataFrame]:
    """All three levels and the malignant call, in place: types by markers, copy number, final epithelial types, states.

    Parameters
    ----------
    adata
        Integrated cells of a scope; zero cells give all columns and empty tables.
    markers, positions
        Marker table and gene positions.
    annotate
        fine_resolution, group_resolution, min_score, min_confidence (:func:`annotate_types`), min_state_z,
        min_state_cells (:func:`score_states`).
    cnv
        Options of :func:`livermet.cnv.call_malignant` of the same names.
    seed
        Seed of everything random.
    overrides
        Labels of the user's own (:func:`livermet.overrides.apply_overrides`); states are scored by them.

    Returns
    -------
    The object, the evidence per group and population, and the chromosome arms per patient.
    """
    logger.info("annotation: %d cells in", adata.n_obs)
    names = ("fine_resolution", "group_resolution", "min_score", "min_confidence")
    adata, table = annotate_types(adata, markers, **{name: annotate[name] for name in names}, seed=seed)
    result = call_malignant(
        adata,
        candidate=candidates(adata),
        prior=adata.obs["malignant_prior"].to_numpy(dtype=float),
        reference=reference_cells(adata),
        groups=adata.obs[GROUP].astype(str).to_numpy(),
        positions=positions,
        **cnv,
        seed=seed,
    )
    apply_copy_numbers(adata, result, min_score=annotate["min_score"], min_private=cnv["min_private"])
    apply_overrides(adata, overrides)
    add_corrected(adata, seed=seed)
    score_states(adata, markers, min_state_z=annotate["min_state_z"], min_cells=annotate["min_state_cells"], seed=seed)
    adata.obs[keys.SUBTYPE] = subtypes(adata.obs, min_z=annotate["min_state_z"])
    return adata, table, result.arms


def add_corrected(adata: AnnData, *, seed: int) -> AnnData:
    """Add the layer ``corrected``, in place: counts without ambient RNA (:func:`livermet.ambient.corrected_counts`, the
    kinds of cells being the types).
    """
    order = np.argsort(adata.obs_names.to_numpy().astype(str), kind="stable")
    corrected = corrected_counts(
        sp.csr_matrix(adata.X)[order],
        libraries=adata.obs[keys.LIBRARY].astype(str).to_numpy()[order],
        groups=adata.obs[keys.CELL_TYPE].astype(str).to_numpy()[order],
        soup=adata.varm[keys.AMBIENT],
        seed=seed,
    )
    adata.layers[keys.CORRECTED] = corrected[np.argsort(order)]
    return adata


def marker_expression(adata: AnnData, markers: pd.DataFrame, *, n_genes: int) -> pd.DataFrame:
    """Expression of the most telling markers in each cell type, for a dot plot; by counts without ambient RNA.

    For each type that the cells hold, its ``n_genes`` markers with the largest difference between the type's mean log
    expression and the mean of the other types' means.

    Returns
    -------
    DataFrame with cell_type, gene, marker_of, mean (log-normalised) and fraction (of cells that express the gene).
    """
    columns = ["cell_type", "gene", "marker_of", "mean", "fraction"]
    labels = adata.obs[keys.CELL_TYPE].astype(str).to_numpy()
    types = [name for name in markers.index if name in set(labels)]
    if not types:
        return pd.DataFrame(columns=columns)
    every = sorted({gene for name in types for gene in markers.loc[name, "genes"] if gene in adata.var_names})
    at = adata.var_names.get_indexer(every)
    expression = log_normalise(sp.csr_matrix(adata.layers[keys.CORRECTED]))[:, at]
    code = pd.Categorical(labels, categories=types).codes
    groups = one_hot(code, n=len(types))
    size = np.asarray(groups.sum(axis=1)).ravel()[:, None]
    mean = pd.DataFrame(np.asarray((groups @ expression).todense()) / size, index=types, columns=every)
    detected = expression.copy()
    detected.data = np.ones_like(detected.data)
    fraction = pd.DataFrame(np.asarray((groups @ detected).todense()) / size, index=types, columns=every)
    rows, shown = [], set()
    for name in types:
        own = [gene for gene in markers.loc[name, "genes"] if gene in mean.columns and gene not in shown]
        lead = (mean.loc[name, own] - mean.loc[[t for t in types if t != name], own].mean().fillna(0)).astype(float)
        best = list(lead.sort_values(ascending=False, kind="stable").index[:n_genes])
        shown.update(best)
        rows += [(t, gene, name, mean.loc[t, gene], fraction.loc[t, gene]) for gene in best for t in types]
    return pd.DataFrame(rows, columns=columns)
