"""New cells mapped onto a frozen reference, while the earlier ones stay as they are.

A new cell gets the annotation group whose profile fits its counts best, as in :mod:`livermet.annotate`, after the
profiles were adapted to its library; an out-of-reference score, the share of held-out frozen cells of that type that
fit better; the cluster and UMAP position of its nearest landmarks; and if epithelial, a malignant call by the copy
number of its own patient. Nothing here goes through the frozen cells but the file that old and new are written to.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.special import logsumexp

from livermet import keys
from livermet.annotate import (
    LIKELIHOOD_WEIGHT,
    add_corrected,
    apply_copy_numbers,
    candidates,
    reference_cells,
    set_score,
)
from livermet.cnv import ARM_COLUMNS, CopyNumbers, call_malignant
from livermet.findings import Finding
from livermet.frozen import (
    Profiles,
    Reference,
    adapted_fit,
    deviance,
    library_neighbours,
    log_depth,
    out_of_reference,
)
from livermet.integrate import (
    NAME_COLUMNS,
    leiden,
    log_normalise,
    neighbour_graph,
    pool_libraries,
    principal_components,
    variable_genes,
)
from livermet.malignant import NO_SUBTYPE, SUBTYPES, subtypes
from livermet.overrides import MARKERS, OVERRIDE, apply_overrides

if TYPE_CHECKING:
    from livermet.tables import StudyTable

logger = logging.getLogger(__name__)

FROZEN, MAPPED = "frozen", "mapped"
N_NEIGHBOURS = 15
# A group's cells of one library say where it lies in the embedding if they are more than about this many.
SHIFT_CELLS = 10.0
# Categories in an order of their own; those of other columns are in alphabetical order.
CATEGORIES = {
    keys.MALIGNANT: keys.MALIGNANT_CALLS,
    keys.LABEL_SOURCE: (MARKERS, OVERRIDE),
    keys.SUBTYPE: ("", *SUBTYPES, NO_SUBTYPE),
}
MAPPING_COLUMNS = (
    *(keys.LIBRARY, "reference", "n_cells", "genes_shared"),
    *("n_unknown", "n_out", "share_out", "confidence"),
)


def pool_onto(
    adatas: Sequence[AnnData], rows: Sequence[Mapping[str, Any]], genes: pd.DataFrame, *, min_genes_shared: float
) -> AnnData:
    """Join new libraries over the genes of a reference; a gene that a library lacks has no counts there.

    Parameters
    ----------
    adatas, rows
        As for :func:`livermet.integrate.pool_libraries`.
    genes
        ``var`` of the reference.
    min_genes_shared
        Share of the reference's genes that each library needs.

    Returns
    -------
    As there, with ``varm["measured"]``: whether each library holds each gene.

    Raises
    ------
    ValueError
        Naming the library, if one holds too few of the genes.
    """
    placed, measured = [], {}
    for adata in adatas:
        if adata.n_obs == 0:
            continue
        library = str(adata.obs[keys.LIBRARY].iloc[0])
        at = adata.var_names.get_indexer(genes.index)
        known = at >= 0
        if known.sum() < min_genes_shared * len(genes):
            raise ValueError(
                f"library {library}: {known.sum()} of the {len(genes)} genes of the reference are among its "
                f"{adata.n_vars}, at least {min_genes_shared:.0%} are needed: give it genes of the same species under "
                "the same names, leave reference.use empty, or lower integrate: min_genes_shared"
            )
        chosen = sp.csr_matrix(
            (np.ones(known.sum(), dtype=np.int32), (at[known], np.flatnonzero(known))), shape=(adata.n_vars, len(genes))
        )
        part = AnnData(sp.csr_matrix(adata.X) @ chosen, obs=adata.obs, uns=adata.uns)
        part.var = genes[[keys.SYMBOL, keys.GENE_ID]].copy()
        for column in (keys.AMBIENT, keys.AMBIENT_COUNTS):
            if column in adata.var:
                part.var[column] = np.where(known, adata.var[column].to_numpy()[at], 0)
        placed.append(part)
        measured[library] = known
    pooled = pool_libraries(placed, rows, min_genes_shared=min_genes_shared)
    pooled.varm["measured"] = pd.DataFrame(measured, index=pooled.var_names, dtype=bool)
    return pooled


def map_cells(
    cells: AnnData,
    reference: Reference,
    positions: pd.DataFrame,
    *,
    earlier: AnnData,
    annotate: Mapping[str, Any],
    cnv: Mapping[str, Any],
    max_out: float,
    seed: int,
    overrides: StudyTable | None = None,
) -> tuple[AnnData, pd.DataFrame]:
    """Labels, embedding and out-of-reference score of new cells, in place.

    Parameters
    ----------
    cells
        New cells from :func:`pool_onto`, at least one.
    reference
        What they are mapped onto.
    positions
        Gene positions.
    earlier
        The frozen cells, by whose clusters and cells overrides may go. Those of the patients of the new ones serve as
        normal cells beside the new ones, where a sample has been sequenced again.
    annotate, cnv
        Options of :func:`livermet.annotate.annotate_cells`.
    max_out
        Out-of-reference score (0 to 1) above which a cell is unknown, unless copy number says malignant.
    seed
        Seed of everything random.
    overrides
        Labels of the user's own.

    Returns
    -------
    The object, with the columns that :func:`livermet.annotate.annotate_cells` gives, ``out_of_reference`` and the
    embeddings; and the chromosome arms of the patients.
    """
    group, misfit = _label_by_groups(cells, reference, min_confidence=annotate["min_confidence"], seed=seed)
    _place(cells, reference, group)
    cells.obs[keys.OUT_OF_REFERENCE] = out_of_reference(misfit, reference.model.uns["misfit"]).round(4)
    out = cells.obs[keys.OUT_OF_REFERENCE].to_numpy() > max_out
    arms = _call_new_patients(cells, earlier, positions, out, annotate=annotate, cnv=cnv, seed=seed)
    foreign = out & (cells.obs[keys.MALIGNANT] != "malignant").to_numpy()
    for column, value in (
        (keys.COMPARTMENT, keys.UNKNOWN),
        (keys.CELL_TYPE, keys.UNKNOWN),
        (keys.MALIGNANT, "not_tested"),
    ):
        changed = cells.obs[column].astype(object).where(~foreign, value)
        cells.obs[column] = pd.Categorical(changed, CATEGORIES.get(column))
    cells.obs.loc[foreign, keys.CONFIDENCE] = 0.0
    _override(cells, earlier, overrides)
    add_corrected(cells, seed=seed)
    _score_states(cells, reference, min_state_z=annotate["min_state_z"], seed=seed)
    cells.obs[keys.SUBTYPE] = subtypes(cells.obs, min_z=annotate["min_state_z"])
    logger.info("mapped: %d cells, %d out of reference", cells.n_obs, foreign.sum())
    return cells, arms


def _label_by_groups(
    cells: AnnData, reference: Reference, *, min_confidence: float, seed: int
) -> tuple[np.ndarray, pd.DataFrame]:
    """Group, type and confidence of each new cell, in place, as :func:`livermet.annotate.annotate_types` has them for
    the frozen ones; returns the groups and how badly each cell fits its own.
    """
    model = reference.model
    types = model.obs[keys.CELL_TYPE].astype(str).to_numpy(dtype=object)
    known = Profiles.of(np.asarray(model.X), model.obs["n_cells"].to_numpy(), types)
    counts = sp.csr_matrix(cells.X).astype(np.float32)
    libraries = cells.obs[keys.LIBRARY].astype(str).to_numpy()
    fit = np.zeros((cells.n_obs, len(known.types)))
    near: list[np.ndarray] = [np.zeros(0, dtype=int)] * cells.n_obs
    for library in np.unique(libraries):
        rows = np.flatnonzero(libraries == library)
        measured = cells.varm["measured"][library].to_numpy()
        fit[rows] = adapted_fit(counts[rows], known, measured=measured)
        for cell, at in zip(rows, rows[library_neighbours(counts[rows], seed=seed)], strict=True):
            near[cell] = at
    best = (fit + known.log_prior).argmax(axis=1)
    every = np.arange(cells.n_obs)
    # A cell that goes by the mean of a type is shown under the nearest group of it.
    own = np.where(known.average[best] > 0, fit[:, : model.n_obs], -np.inf).argmax(axis=1)
    weight = LIKELIHOOD_WEIGHT * fit + known.log_prior
    membership = np.exp(weight - logsumexp(weight, axis=1, keepdims=True)) @ known.average
    kinds = model.obs[keys.COMPARTMENT].astype(str).to_numpy()
    probability = model.obsm["probability"]
    column = probability.columns.get_indexer(types[own])
    by_type = membership @ probability.to_numpy()
    alike = (membership * (kinds == kinds[own][:, None])).sum(axis=1)
    confidence = np.where(column >= 0, by_type[every, column], alike * (kinds[own] == keys.UNKNOWN))
    stated = (column >= 0) & (confidence >= min_confidence)
    cells.obs[keys.COMPARTMENT] = pd.Categorical(kinds[own])
    cells.obs[keys.CELL_TYPE] = pd.Categorical(np.where(stated, types[own], keys.UNKNOWN))
    cells.obs[keys.GROUP] = pd.Categorical(model.obs_names.to_numpy()[own])
    cells.obs[keys.CONFIDENCE] = confidence.round(4)
    tumour = probability.get(keys.MALIGNANT_TYPE, pd.Series(0.0, index=probability.index))
    cells.obs["malignant_prior"] = membership @ tumour.to_numpy()
    misfit = pd.DataFrame(
        {
            "label": types[own],
            "deviance": deviance(counts, fit[every, best]),
            "depth": log_depth(counts),
            "near": near,
        }
    )
    return own, misfit


def _place(cells: AnnData, reference: Reference, group: np.ndarray) -> None:
    """Embeddings and cluster of new cells, in place.

    ``X_pca`` projects the cells on the frozen components. ``X_integrated`` moves them, per library and group, to where
    the group lies in the frozen embedding (the correction of Symphony, Kang et al. 2021, with groups for its soft
    clusters); groups of few cells move with their library. Cluster and UMAP position are those of the nearest
    landmarks, by vote and in the mean, in the embedding that they stand on, moved there alike.
    """
    from sklearn.neighbors import NearestNeighbors

    model, landmarks = reference.model, reference.landmarks
    axes = np.asarray(model.varm["loadings"])
    scores = log_normalise(sp.csr_matrix(cells.X)) @ axes - model.var["pca_mean"].to_numpy() @ axes
    codes = pd.factorize(cells.obs[keys.LIBRARY].astype(str), sort=True)[0]
    used = str(model.uns["embedding"])
    moved = {key: _moved(scores, np.asarray(model.obsm[key])[group], codes, group) for key in {keys.INTEGRATED, used}}
    search = NearestNeighbors(n_neighbors=min(N_NEIGHBOURS, landmarks.n_obs), algorithm="brute")
    near = search.fit(landmarks.obsm[used]).kneighbors(moved[used], return_distance=False)
    names, code = np.unique(landmarks.obs[keys.CLUSTER].astype(str).to_numpy(), return_inverse=True)
    votes = np.stack([(code[near] == j).sum(axis=1) for j in range(len(names))], axis=1)
    cells.obs[keys.CLUSTER] = pd.Categorical(names[votes.argmax(axis=1)])
    cells.obsm[keys.PCA] = scores.astype(np.float32)
    cells.obsm[keys.INTEGRATED] = moved[keys.INTEGRATED]
    if keys.UMAP in landmarks.obsm:
        cells.obsm[keys.UMAP] = np.asarray(landmarks.obsm[keys.UMAP])[near].mean(axis=1).astype(np.float32)


def _moved(scores: np.ndarray, target: np.ndarray, libraries: np.ndarray, group: np.ndarray) -> np.ndarray:
    shift = target - scores
    by_library = pd.DataFrame(shift).groupby(libraries).transform("mean").to_numpy()
    grouped = pd.DataFrame(shift).groupby([libraries, group])
    n = grouped[0].transform("size").to_numpy()[:, None]
    total = grouped.transform("sum").to_numpy()
    return (scores + (total + SHIFT_CELLS * by_library) / (n + SHIFT_CELLS)).astype(np.float32)


def _call_new_patients(
    cells: AnnData,
    earlier: AnnData,
    positions: pd.DataFrame,
    out: np.ndarray,
    *,
    annotate: Mapping[str, Any],
    cnv: Mapping[str, Any],
    seed: int,
) -> pd.DataFrame:
    """Malignant calls and final epithelial types of new cells, in place, by copy number; returns the arms."""
    patients = set(cells.obs[keys.PATIENT].astype(str))
    known = earlier[earlier.obs[keys.PATIENT].astype(str).isin(patients).to_numpy() & reference_cells(earlier)]
    columns = [keys.PATIENT, keys.SAMPLE]
    both = AnnData(
        sp.vstack([sp.csr_matrix(cells.X), sp.csr_matrix(known.X)], format="csr"),
        obs=pd.concat([cells.obs[columns].astype(str), known.obs[columns].astype(str)]),
        var=pd.DataFrame(index=cells.var_names),
    )
    new = np.arange(both.n_obs) < cells.n_obs
    candidate, normal, prior = np.zeros(both.n_obs, dtype=bool), ~new, np.zeros(both.n_obs)
    candidate[new] = candidates(cells)
    normal[new] = reference_cells(cells) & ~out
    prior[new] = cells.obs["malignant_prior"].to_numpy()
    groups = np.full(both.n_obs, "", dtype=object)
    groups[new] = _epithelial_groups(cells, candidate[new], resolution=annotate["group_resolution"], seed=seed)
    found = call_malignant(
        both,
        candidate=candidate,
        prior=prior,
        reference=normal,
        groups=groups,
        positions=positions,
        **cnv,
        seed=seed,
    )
    own = CopyNumbers(cells=found.cells[new], arms=found.arms)
    apply_copy_numbers(cells, own, min_score=annotate["min_score"], min_private=cnv["min_private"])
    return found.arms


def _epithelial_groups(cells: AnnData, candidate: np.ndarray, *, resolution: float, seed: int) -> np.ndarray:
    """Group of each new cell; epithelial ones are clustered anew, since tumours of new patients are in no frozen group,
    and without alignment, since they truly differ.
    """
    groups = cells.obs[keys.GROUP].astype(str).to_numpy().astype(object)
    rows = np.flatnonzero(candidate)
    if rows.size < 60:
        return groups
    expression = log_normalise(sp.csr_matrix(cells.X)[rows])
    batch = pd.factorize(cells.obs[keys.LIBRARY].astype(str).to_numpy()[rows], sort=True)[0]
    genes = variable_genes(expression, batch, n_top=1000)
    scores = principal_components(expression[:, genes], n_pcs=min(25, rows.size // 10), seed=seed)
    graph, _ = neighbour_graph(scores, n_neighbours=10)
    groups[rows] = [f"new{code}" for code in leiden(graph, resolution=resolution, seed=seed)]
    return groups


def _override(cells: AnnData, earlier: AnnData, overrides: StudyTable | None) -> None:
    """Labels of the user's own for new cells, in place; rows of the table may also name frozen cells, which stay."""
    columns = [keys.CLUSTER, keys.GROUP, keys.COMPARTMENT, keys.CELL_TYPE, keys.MALIGNANT, keys.CONFIDENCE]
    both = AnnData(obs=pd.concat([cells.obs[columns].astype(object), earlier.obs[columns].astype(object)]))
    apply_overrides(both, overrides)
    for column in (*columns[2:], keys.LABEL_SOURCE, keys.CELL_TYPE_MARKERS):
        values = both.obs[column].iloc[: cells.n_obs].astype(object)
        is_number = column == keys.CONFIDENCE
        cells.obs[column] = values.astype(float) if is_number else pd.Categorical(values, CATEGORIES.get(column))


def _score_states(cells: AnnData, reference: Reference, *, min_state_z: float, seed: int) -> None:
    """:func:`livermet.annotate.score_states` of new cells, in place, against the mean expression of the frozen ones."""
    markers, means = reference.markers, reference.model.varm["state_means"]
    states = markers[markers["level"] == "state"]
    types = cells.obs[keys.CELL_TYPE].astype(str).to_numpy()
    every = np.unique(cells.var_names.get_indexer(sorted({g for genes in markers["genes"] for g in genes})))
    best = np.full(cells.n_obs, -np.inf)
    label = np.full(cells.n_obs, "", dtype=object)
    rng = np.random.default_rng(seed)
    for state, parent, genes in zip(states.index, states["parent"], states["genes"], strict=True):
        score = np.full(cells.n_obs, np.nan)
        rows = np.flatnonzero(types == parent)
        if rows.size and parent in means:
            mean = means[parent].to_numpy()
            at = cells.var_names.get_indexer(genes)
            at = at[at >= 0]
            at = at[mean[at] > 0]
            if at.size >= 3:
                expression = log_normalise(sp.csr_matrix(cells.X)[rows])
                score[rows] = set_score(expression, at, mean=mean, exclude=every, rng=rng)
        cells.obs[f"score_{state}"] = score
        better = score > best
        best[better] = score[better]
        label[better] = state
    cells.obs[keys.CELL_STATE] = pd.Categorical(np.where(best >= min_state_z, label, ""))


@dataclass(frozen=True)
class Mapped:
    """A scope after mapping: ``cells`` (frozen and new), ``arms`` of its patients, ``libraries``
    (:func:`mapping_table`).
    """

    cells: AnnData
    arms: pd.DataFrame
    libraries: pd.DataFrame


def map_scope(
    reference: Reference,
    positions: pd.DataFrame,
    *,
    earlier: AnnData,
    earlier_arms: pd.DataFrame,
    adatas: Sequence[AnnData],
    rows: Sequence[Mapping[str, Any]],
    name: str,
    min_genes_shared: float,
    annotate: Mapping[str, Any],
    cnv: Mapping[str, Any],
    max_out: float,
    seed: int,
    overrides: StudyTable | None = None,
) -> Mapped:
    """The cells of a scope: frozen ones as they were, those of new libraries mapped onto the reference.

    Parameters
    ----------
    reference, positions
        What new cells are mapped by, and gene positions.
    earlier, earlier_arms
        All frozen cells, and the chromosome arms of their patients.
    adatas
        Kept cells of the libraries of the scope that the reference does not hold.
    rows
        All libraries of the scope that passed, as the study has them.
    name
        Name of the reference.
    min_genes_shared, annotate, cnv, max_out, seed, overrides
        As for :func:`pool_onto` and :func:`map_cells`.
    """
    wanted = {str(row[keys.LIBRARY]) for row in rows}
    here = earlier[earlier.obs[keys.LIBRARY].astype(str).isin(wanted).to_numpy()]
    new, arms = None, earlier_arms[:0]
    measured = pd.DataFrame(index=earlier.var_names)
    if any(adata.n_obs for adata in adatas):
        new = pool_onto(adatas, rows, reference.model.var, min_genes_shared=min_genes_shared)
        measured = new.varm["measured"]
        options = {"annotate": annotate, "cnv": cnv, "max_out": max_out, "seed": seed, "overrides": overrides}
        new, arms = map_cells(new, reference, positions, earlier=earlier, **options)
    cells = join_cells(here, new, name=name)
    patients = sorted(set(cells.obs[keys.PATIENT].astype(str)))
    return Mapped(
        cells=cells,
        arms=join_arms(earlier_arms, arms, patients),
        libraries=mapping_table(cells, measured, max_out=max_out),
    )


def join_cells(frozen: AnnData, mapped: AnnData | None, *, name: str) -> AnnData:
    """Frozen cells as they are, and mapped ones, sorted by name.

    Parameters
    ----------
    frozen
        Cells of the reference that belong to the scope; may be none.
    mapped
        New cells from :func:`map_cells`; None for none.
    name
        Name of the reference.

    Returns
    -------
    One object; obs ``reference`` says which cells are "frozen" and which "mapped". ``out_of_reference`` of frozen cells
    is missing. There is no neighbour graph.
    """
    parts = [frozen] if mapped is None else [frozen, mapped]
    names = np.concatenate([part.obs_names.to_numpy().astype(str) for part in parts])
    order = np.argsort(names, kind="stable")
    obs = pd.DataFrame(index=pd.Index(names[order]))
    for column in dict.fromkeys(column for part in parts for column in part.obs):
        like = next(part.obs[column] for part in parts if column in part.obs)
        values = pd.concat(
            [part.obs[column].astype(object) if column in part.obs else _missing(part) for part in parts]
        )
        values = values.to_numpy()[order]
        if isinstance(like.dtype, pd.CategoricalDtype):
            obs[column] = pd.Categorical(values, CATEGORIES.get(column))
        else:
            obs[column] = pd.Series(values, index=obs.index).astype(like.dtype)
    if keys.OUT_OF_REFERENCE not in obs:
        obs[keys.OUT_OF_REFERENCE] = np.nan
    origin = np.repeat([FROZEN, MAPPED][: len(parts)], [part.n_obs for part in parts])
    obs[keys.REFERENCE] = pd.Categorical(origin[order], categories=[FROZEN, MAPPED])
    matrix = sp.vstack([sp.csr_matrix(part.X) for part in parts], format="csr", dtype=np.int32)[order]
    joined = AnnData(matrix, obs=obs, var=frozen.var.copy(), uns=dict(frozen.uns))
    for key in frozen.layers:
        joined.layers[key] = sp.vstack([sp.csr_matrix(part.layers[key]) for part in parts], format="csr")[order]
    for key in frozen.obsm:
        joined.obsm[key] = np.concatenate([np.asarray(part.obsm[key]) for part in parts])[order]
    soup = pd.concat([part.varm[keys.AMBIENT] for part in parts], axis=1)
    present = sorted(set(obs[keys.LIBRARY].astype(str)))
    joined.varm[keys.AMBIENT] = soup[[column for column in soup if column in present]]
    simulated = any(bool(part.uns[keys.META]["simulated"]) for part in parts)
    reason = "" if joined.n_obs else "no single-cell library of this scope holds cells after quality control"
    joined.uns[keys.META] = {**frozen.uns[keys.META], "reference": name, "simulated": simulated, "reason": reason}
    return joined


def _missing(part: AnnData) -> pd.Series:
    return pd.Series(np.nan, index=part.obs_names, dtype=object)


def join_arms(frozen: pd.DataFrame, mapped: pd.DataFrame, patients: Sequence[str]) -> pd.DataFrame:
    """Chromosome arms of the patients of a scope: the frozen ones stay, unless only the new cells could be tested."""
    tested = {name for name, rows in frozen.groupby(keys.PATIENT) if (rows["called"] != "not_tested").any()}
    tested_now = {name for name, rows in mapped.groupby(keys.PATIENT) if (rows["called"] != "not_tested").any()}
    stays = frozen[keys.PATIENT].isin(tested | (set(frozen[keys.PATIENT]) - tested_now))
    kept = frozen[stays]
    table = pd.concat([kept, mapped[~mapped[keys.PATIENT].isin(set(kept[keys.PATIENT]))]], ignore_index=True)
    table = table[table[keys.PATIENT].isin(set(patients))].reindex(columns=list(ARM_COLUMNS))
    return table.sort_values([keys.PATIENT], kind="stable", ignore_index=True)


def mapping_table(cells: AnnData, measured: pd.DataFrame, *, max_out: float) -> pd.DataFrame:
    """One row per library: how its cells were labelled and how many are beyond the reference.

    Parameters
    ----------
    cells
        From :func:`join_cells`.
    measured
        Genes of the reference x new libraries: whether each is among a library's genes.
    max_out
        As for :func:`map_cells`.

    Returns
    -------
    library_id, reference (frozen or mapped), n_cells, genes_shared (share of the reference's genes), n_unknown, n_out
    (out-of-reference score above ``max_out``), share_out, confidence (median of those with a type).
    """
    obs = cells.obs
    table = pd.DataFrame(
        {
            keys.LIBRARY: obs[keys.LIBRARY].astype(str),
            "reference": obs[keys.REFERENCE].astype(str),
            "unknown": obs[keys.CELL_TYPE].astype(str) == keys.UNKNOWN,
            "out": (obs[keys.OUT_OF_REFERENCE] > max_out).where(obs[keys.OUT_OF_REFERENCE].notna()),
            "confidence": obs[keys.CONFIDENCE].where(obs[keys.CELL_TYPE].astype(str) != keys.UNKNOWN),
        }
    ).astype({"out": float})
    grouped = table.groupby(keys.LIBRARY, sort=True)
    result = grouped.agg(
        reference=("reference", "first"),
        n_cells=("reference", "size"),
        n_unknown=("unknown", "sum"),
        n_out=("out", lambda values: values.sum(min_count=1)),
        share_out=("out", "mean"),
        confidence=("confidence", "median"),
    ).reset_index()
    result["genes_shared"] = result[keys.LIBRARY].map(measured.mean()).fillna(1.0)
    return result[list(MAPPING_COLUMNS)]


def cluster_names(cells: AnnData) -> pd.DataFrame:
    """As from :func:`livermet.integrate.follow_earlier`: every cluster has its earlier name and has kept its cells."""
    obs = cells.obs
    there = set(obs.loc[obs[keys.REFERENCE] == FROZEN, keys.CLUSTER].astype(str))
    size = obs[keys.CLUSTER].astype(str).value_counts().sort_index()
    rows = [(name, name, 1.0 if name in there else np.nan, n) for name, n in size.items()]
    return pd.DataFrame(rows, columns=list(NAME_COLUMNS))


def mapping_findings(table: pd.DataFrame, *, name: str, warn_share: float) -> list[Finding]:
    """Warnings on libraries of which a larger share than ``warn_share`` is beyond the reference."""
    found = []
    for row in table[table["share_out"] > warn_share].itertuples():
        message = (
            f"{row.n_out:.0f} of {row.n_cells} cells ({row.share_out:.0%}) are unlike all cells of the reference "
            f"{name!r}: they have no type"
        )
        remedy = (
            "look at them in the UMAP; if they are a kind of cell that the reference lacks, freeze a new one with it"
        )
        found.append(Finding("warning", "mapping.tsv", None, keys.OUT_OF_REFERENCE, row.library_id, message, remedy))
    return found
