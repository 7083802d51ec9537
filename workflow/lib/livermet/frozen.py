"""A cohort frozen under a name: what new cells are mapped by (:mod:`livermet.mapping`), and the folder that holds it.

Frozen are the cells with all their labels; the summed counts of each annotation group with what markers say of it; the
loadings of the principal components; a sample of cells ("landmarks") with their place in the embedding; and how badly
cells of *held-out patients* fit the groups, by type.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.special import logsumexp

from livermet import evidence, keys
from livermet import frozen_files as files
from livermet.annotate import group_profiles, mostly_ambient
from livermet.files import read_json, write_h5ad, write_json
from livermet.integrate import ROW_COLUMNS, embedding_note, log_normalise, one_hot, principal_components, variable_genes

logger = logging.getLogger(__name__)

N_LANDMARKS = 20_000
# A gene of a library is believed to be captured better or worse than in the reference at most eightfold, and by as much
# as it takes to be seen beside this many counts.
MAX_FACTOR = 8.0
FACTOR_COUNTS = 30.0
# Counts per gene that the mean over types counts for in the profile of each group; and the factor above: of 0, 1, 3, 8
# and 30, 100 the best for labels and calibration of six planted cohorts.
PRIOR_COUNTS = 1.0
# A cell's misfit is averaged with that of its nearest neighbours in its own library: a foreign type comes in numbers.
MISFIT_NEIGHBOURS = 5
# Held-out cells of a type that its misfit needs; types of fewer are taken together.
MIN_NULL_CELLS = 100
NULL_SHARES = np.unique(np.concatenate([np.linspace(0, 0.9, 91), np.linspace(0.9, 1, 101)]).round(4))
OTHER_TYPES = "other"
# Log of the counts per cell at which expected deviances are tabulated.
DEPTHS = np.linspace(np.log(20), np.log(5e5), 60)
EXPECTED = [f"expected_{i}" for i in range(DEPTHS.size)]


@dataclass(frozen=True)
class Reference:
    """What new cells are mapped by.

    Attributes
    ----------
    model
        Annotation groups x genes, summed counts. obs: compartment, cell_type (by markers), n_cells; obsm: probability
        (of each type), X_pca and X_integrated (centroids); varm: loadings of the principal components, state_means
        (mean log expression of each type that has states; zero where ambient RNA prevails); var: symbol, gene_id,
        highly_variable, pca_mean; uns: misfit (its null by type), embedding (that clusters and UMAP stand on).
    landmarks
        Frozen cells without counts: obs cluster; obsm X_pca, X_integrated and, where there is one, X_umap.
    markers
        The marker table of that time.
    """

    model: AnnData
    landmarks: AnnData
    markers: pd.DataFrame


def freeze(
    cells: AnnData, marker_evidence: pd.DataFrame, markers: pd.DataFrame, *, min_state_cells: int, seed: int
) -> Reference:
    """Take from annotated cells what new ones are mapped by.

    Parameters
    ----------
    cells
        Cells of a scope with counts, labels and embedding (``cells.h5ad``).
    marker_evidence
        ``markers.tsv``: evidence per annotation group and population.
    markers
        The marker table.
    min_state_cells
        A type with fewer cells has no states.
    seed
        Seed of the sample of landmarks and of principal components within libraries.

    Raises
    ------
    ValueError
        There are no cells, or of fewer than two patients (how well new patients fit is learnt from held-out ones), or
        the cells were mapped onto a reference themselves.
    """
    earlier = cells.uns[keys.META].get("reference", "")
    if earlier:
        raise ValueError(
            f"the cells were mapped onto the reference {earlier!r}; only cells that were integrated together can be "
            "frozen: run without reference.use first"
        )
    n_patients = cells.obs[keys.PATIENT].nunique()
    if n_patients < 2:
        raise ValueError(
            f"{cells.n_obs} cells of {n_patients} patients, at least two patients are needed to freeze a reference: "
            "how well cells of a new patient fit is learnt from held-out patients"
        )
    counts = sp.csr_matrix(cells.X).astype(np.float32)
    names, code = np.unique(cells.obs[keys.GROUP].astype(str).to_numpy(), return_inverse=True)
    grouped = one_hot(code)
    size = np.bincount(code)
    types, probability = _type_probability(marker_evidence, names)
    obs = pd.DataFrame(index=pd.Index(names))
    obs[keys.COMPARTMENT] = marker_compartments(marker_evidence, names, cells.obs)
    obs[keys.CELL_TYPE] = types
    obs["n_cells"] = size
    model = AnnData(np.asarray((grouped @ counts).todense(), dtype=np.float64), obs=obs)
    model.var = cells.var[[keys.SYMBOL, keys.GENE_ID, "highly_variable"]].copy()
    log_counts = log_normalise(counts)
    model.var["pca_mean"], model.varm["loadings"] = loadings(
        log_counts, cells.obsm[keys.PCA], cells.var["highly_variable"].to_numpy()
    )
    model.varm["state_means"] = _state_means(cells, log_counts, markers, min_cells=min_state_cells)
    model.obsm["probability"] = probability
    for key in (keys.PCA, keys.INTEGRATED):
        model.obsm[key] = np.asarray(grouped @ cells.obsm[key]) / size[:, None]
    model.uns["embedding"] = embedding_note(cells)["used"]
    held_out = held_out_misfit(
        counts,
        code,
        types=types,
        patients=cells.obs[keys.PATIENT].astype(str).to_numpy(),
        libraries=cells.obs[keys.LIBRARY].astype(str).to_numpy(),
        seed=seed,
    )
    model.uns["misfit"] = misfit_null(held_out, Profiles.of(model.X, size, types))
    chosen = np.random.default_rng(seed).permutation(cells.n_obs)[:N_LANDMARKS]
    chosen.sort()
    kept = {key: cells.obsm[key][chosen] for key in (keys.PCA, keys.INTEGRATED, keys.UMAP) if key in cells.obsm}
    landmarks = AnnData(obs=cells.obs.iloc[chosen][[keys.CLUSTER]].astype(str), obsm=kept)
    logger.info(
        "frozen: %d cells of %d patients, %d groups, %d landmarks", cells.n_obs, n_patients, *map(len, (names, chosen))
    )
    return Reference(model=model, landmarks=landmarks, markers=markers)


def marker_compartments(marker_evidence: pd.DataFrame, names: np.ndarray, obs: pd.DataFrame) -> np.ndarray:
    """Compartment of each group: that of its chosen type, else that of most of its cells."""
    chosen = marker_evidence[marker_evidence["chosen"] == 1].set_index("cluster")["compartment"]
    most = obs.groupby(obs[keys.GROUP].astype(str))[keys.COMPARTMENT].agg(lambda values: values.astype(str).mode()[0])
    return chosen.reindex(names).fillna(most.reindex(names)).to_numpy(dtype=object)


def _type_probability(marker_evidence: pd.DataFrame, names: np.ndarray) -> tuple[np.ndarray, pd.DataFrame]:
    """Type of each group by markers ("unknown" for none), and the probability of each type against its sisters."""
    chosen = marker_evidence[marker_evidence["chosen"] == 1].set_index("cluster")["population"]
    score = marker_evidence.pivot_table(index="cluster", columns="population", values="score_vs_sisters").reindex(names)
    odds = score.fillna(-np.inf).to_numpy()
    total = logsumexp(np.column_stack([odds, np.zeros(len(odds))]), axis=1, keepdims=True)
    stated = chosen.reindex(names)
    probability = np.where(stated.notna().to_numpy()[:, None], np.exp(odds - total), 0.0)
    return (
        stated.fillna(keys.UNKNOWN).to_numpy(dtype=object),
        pd.DataFrame(probability, index=names, columns=list(score.columns)),
    )


def loadings(log_counts: sp.csr_matrix, scores: np.ndarray, variable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and loadings of the principal components that gave the scores of these very cells.

    The scores U S of centred data U S V' determine V = X' U S / S^2, so that they need not be computed again.

    Parameters
    ----------
    log_counts
        Cells x genes, log-normalised.
    scores
        Cells x components.
    variable
        Genes that the components were computed on.

    Returns
    -------
    Mean per gene, and genes x components; zero for other genes.
    """
    scores = scores.astype(np.float64)
    mean = np.where(variable, np.asarray(log_counts.mean(axis=0)).ravel(), 0.0)
    length = (scores**2).sum(axis=0)
    product = np.asarray(log_counts.T @ scores) - np.outer(mean, scores.sum(axis=0))
    found = np.divide(product, length, out=np.zeros_like(product), where=length > 0)
    found[~variable] = 0.0
    return mean, found


def _state_means(cells: AnnData, log_counts: sp.csr_matrix, markers: pd.DataFrame, *, min_cells: int) -> pd.DataFrame:
    types = cells.obs[keys.CELL_TYPE].astype(str).to_numpy()
    means = {}
    for parent in markers.loc[markers["level"] == "state", "parent"].unique():
        members = np.flatnonzero(types == parent)
        if members.size >= max(min_cells, 1):
            mean = np.asarray(log_counts[members].mean(axis=0)).ravel()
            mean[mostly_ambient(cells, members)] = 0
            means[parent] = mean
    return pd.DataFrame(means, index=cells.var_names)


@dataclass(frozen=True)
class Profiles:
    """What cells are compared with: every group, and below them the mean of the groups of each type that has several.

    The profile of a small group is noise in good part, which no new cell shares: profiles are shrunk towards the mean
    over types, by ``PRIOR_COUNTS`` per gene.

    Tumours of two patients differ from each other more than either differs from the mean of all, and a new tumour from
    each single one so much that it may seem nearer to another lineage: such a cell goes by the mean.

    Attributes
    ----------
    shares
        Rows x genes, expected share of each gene.
    log_prior
        Log share of the cells per row (those of a mean are those of its groups).
    types
        Type of each row.
    average
        Rows x groups, weights: what is known of groups becomes, multiplied from the left, what is known of rows.
    """

    shares: np.ndarray
    log_prior: np.ndarray
    types: np.ndarray
    average: np.ndarray

    @classmethod
    def of(cls, sums: np.ndarray, size: np.ndarray, types: np.ndarray) -> Profiles:
        """From summed counts (groups x genes), number of cells and type of each group."""
        names, times = np.unique(types[types != keys.UNKNOWN], return_counts=True)
        member = types == names[times > 1][:, None]
        average = np.vstack([np.eye(len(types)), member / member.sum(axis=1, keepdims=True)])
        n = np.concatenate([size, member @ size])
        base = group_profiles(sums).astype(np.float64)
        every = np.stack([np.average(base[types == t], 0, sums[types == t].sum(axis=1)) for t in np.unique(types)])
        shares = sums + PRIOR_COUNTS * sums.shape[1] * every.mean(axis=0)
        shares /= shares.sum(axis=1, keepdims=True)
        return cls(
            shares=average @ shares,
            log_prior=np.log(n / n.sum()),
            types=np.concatenate([types, names[times > 1]]),
            average=average,
        )


def adapted_fit(counts: sp.csr_matrix, profiles: Profiles, *, measured: np.ndarray) -> np.ndarray:
    """Log likelihood of each cell of one library under each profile, with the profiles adapted to the library.

    Each gene is captured better or worse by a chemistry, a laboratory, a patient. Its factor is the ratio of the
    library's counts to those expected from the groups of its cells (the platform effect of Cable et al. 2022), the two
    found in turn. Without it every cell of a new chemistry would seem foreign.

    Parameters
    ----------
    counts
        Cells of one library x genes.
    profiles
        Of the reference.
    measured
        Genes that the library holds; the others take no part.
    """
    factor = measured.astype(np.float64)
    total = np.asarray(counts.sum(axis=1)).ravel()
    seen = np.asarray(counts.sum(axis=0)).ravel()
    for last in (False, False, True):
        adapted = profiles.shares * factor
        adapted /= adapted.sum(axis=1, keepdims=True)
        fit = evidence.profile_log_likelihood(counts, np.maximum(adapted, 1e-12))
        if not last:
            best = (fit + profiles.log_prior).argmax(axis=1)
            expected = np.bincount(best, weights=total, minlength=len(profiles.types)) @ profiles.shares
            ratio = (seen + FACTOR_COUNTS) / (expected + FACTOR_COUNTS)
            factor = measured * np.clip(ratio, 1 / MAX_FACTOR, MAX_FACTOR)
    return fit


def deviance(counts: sp.csr_matrix, fit: np.ndarray) -> np.ndarray:
    """Multinomial deviance of each cell: twice the log likelihood that its own shares have over that of its group.

    Parameters
    ----------
    counts
        Cells x genes.
    fit
        Log likelihood of each cell under its group.
    """
    own = counts.astype(np.float64)
    own.data = own.data * np.log(np.maximum(own.data, 1))
    total = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    return 2 * (np.asarray(own.sum(axis=1)).ravel() - total * np.log(np.maximum(total, 1)) - fit)


def library_neighbours(counts: sp.csr_matrix, *, seed: int) -> np.ndarray:
    """Each cell and its nearest neighbours within one library, on components of its own; cells x neighbours."""
    from sklearn.neighbors import NearestNeighbors

    n = counts.shape[0]
    itself = np.arange(n)[:, None]
    k = min(MISFIT_NEIGHBOURS, n - 1)
    expression = log_normalise(counts)
    genes = variable_genes(expression, np.zeros(n, dtype=int), n_top=1000) if n > 3 else np.zeros(0, dtype=int)
    if k < 1 or genes.size < 3:
        return itself
    scores = principal_components(expression[:, genes], n_pcs=15, seed=seed)
    near = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(scores).kneighbors(return_distance=False)
    return np.column_stack([itself, near])


def held_out_misfit(
    counts: sp.csr_matrix,
    code: np.ndarray,
    *,
    types: np.ndarray,
    patients: np.ndarray,
    libraries: np.ndarray,
    seed: int,
) -> pd.DataFrame:
    """Type and deviance of each cell when its patient is held out of the groups.

    Parameters
    ----------
    counts
        Cells x genes.
    code
        Group of each cell.
    types
        Type of each group.
    patients, libraries
        Of each cell.
    seed
        Of the neighbours within a library.

    Returns
    -------
    Per cell: label (its type), deviance, depth (log of its counts) and ``near`` (positions of itself and its
    neighbours).
    """
    n_groups = code.max() + 1
    sums = np.asarray((one_hot(code) @ counts).todense(), dtype=np.float64)
    size = np.bincount(code)
    table = pd.DataFrame({"label": types[code], "deviance": 0.0, "depth": log_depth(counts)})
    near: list[np.ndarray] = [np.zeros(0, dtype=int)] * len(code)
    measured = np.ones(counts.shape[1], dtype=bool)
    for patient in np.unique(patients):
        rows = np.flatnonzero(patients == patient)
        own = np.asarray((one_hot(code[rows], n=n_groups) @ counts[rows]).todense(), dtype=np.float64)
        left = size - np.bincount(code[rows], minlength=n_groups)
        groups = np.flatnonzero(left > 0)
        known = Profiles.of(sums[groups] - own[groups], left[groups], types[groups])
        for library in np.unique(libraries[rows]):
            part = rows[libraries[rows] == library]
            fit = adapted_fit(counts[part], known, measured=measured)
            best = (fit + known.log_prior).argmax(axis=1)
            table.loc[part, "label"] = known.types[best]
            table.loc[part, "deviance"] = deviance(counts[part], fit[np.arange(part.size), best])
            for cell, at in zip(part, part[library_neighbours(counts[part], seed=seed)], strict=True):
                near[cell] = at
    return table.assign(near=near)


def log_depth(counts: sp.csr_matrix) -> np.ndarray:
    """Log of the counts of each cell (of one count, where it has none)."""
    return np.log(np.maximum(np.asarray(counts.sum(axis=1), dtype=np.float64).ravel(), 1))


def expected_deviance(shares: np.ndarray) -> np.ndarray:
    """Deviance that a cell of a profile has by chance (Poisson) at each of ``DEPTHS``.

    Shallow cells of a type may be fewer than a curve through held-out cells needs, or missing (a foreign type with few
    counts, such as neutrophils, is taken for a deeper one): what depth alone does is reckoned, not learnt.

    Parameters
    ----------
    shares
        Share of each gene.
    """
    from scipy.stats import poisson

    level = np.linspace(np.log(1e-7), np.log(2000), 300)
    k = np.arange(2, 2500)
    # E[x log x] - m log m of a Poisson count x with mean m: a half for large m, so that the table may end.
    excess = poisson.pmf(k, np.exp(level)[:, None]) @ (k * np.log(k)) - np.exp(level) * level
    shares = shares[shares > 0]
    return np.array([2 * np.interp(np.log(shares) + depth, level, excess).sum() for depth in DEPTHS])


def misfit_null(held_out: pd.DataFrame, profiles: Profiles) -> pd.DataFrame:
    """How badly held-out cells fit, by type: the deviance expected by depth, what is beyond it, and its spread.

    Parameters
    ----------
    held_out
        From :func:`held_out_misfit`.
    profiles
        Of all groups.

    Returns
    -------
    DataFrame indexed by type: n_cells; expected_<i> (:func:`expected_deviance`); centre_0..1
    and spread_0..1 (lines in depth of the deviance over that expected); depth_low, depth_high; spread_min; and the
    quantiles of the smoothed misfit at ``NULL_SHARES``. Types of fewer than ``MIN_NULL_CELLS`` share the row
    "other", which stands for all types if these are too few even together.
    """
    labels = held_out["label"].to_numpy(dtype=object)
    names, times = np.unique(labels, return_counts=True)
    frequent = names[times >= MIN_NULL_CELLS]
    others = ~np.isin(labels, frequent)
    if others.sum() < MIN_NULL_CELLS:
        others[:] = True
    members = {OTHER_TYPES: others} | {label: labels == label for label in frequent}
    weight = np.exp(profiles.log_prior)
    shapes = {}
    for label, cells in members.items():
        rows = np.flatnonzero(np.isin(profiles.types, np.unique(labels[cells])))
        expected = expected_deviance(np.average(profiles.shares[rows], 0, weight[rows]))
        shapes[label] = _depth_shape(held_out[cells], expected)
    shape = pd.DataFrame(shapes).T
    misfit = smoothed_misfit(held_out, shape)
    rows = [
        [cells.sum(), *shape.loc[label], *np.quantile(misfit[cells], NULL_SHARES)] for label, cells in members.items()
    ]
    return pd.DataFrame(rows, index=shape.index, columns=["n_cells", *shape.columns, *map(_quantile, NULL_SHARES)])


def _quantile(share: float) -> str:
    return f"q{share:g}"


def _depth_shape(cells: pd.DataFrame, expected: np.ndarray) -> pd.Series:
    depth = cells["depth"].to_numpy()
    value = cells["deviance"].to_numpy() / np.interp(depth, DEPTHS, expected)
    # A line through few cells would follow each of them.
    enough = len(cells) >= MIN_NULL_CELLS and np.unique(depth).size > 2
    centre = np.polyfit(depth, value, 1) if enough else np.array([0.0, np.median(value)])
    rest = np.abs(value - np.polyval(centre, depth))
    spread = np.polyfit(depth, rest, 1) if enough else np.array([0.0, rest.mean()])
    names = ["centre_0", "centre_1", "spread_0", "spread_1", "depth_low", "depth_high", "spread_min"]
    numbers = [*centre, *spread, depth.min(), depth.max(), max(0.3 * rest.mean(), 1e-9)]
    return pd.Series([*numbers, *expected], index=[*names, *EXPECTED])


def smoothed_misfit(cells: pd.DataFrame, null: pd.DataFrame) -> np.ndarray:
    """Misfit of each cell against its type and depth, plus the mean over its neighbours in the library.

    Parameters
    ----------
    cells
        label, deviance, depth and ``near`` (positions of the cell itself and its neighbours).
    null
        Shapes by type, from :func:`misfit_null`.
    """
    rows = _null_row(cells["label"], null)
    depth, value = cells["depth"].to_numpy(), cells["deviance"].to_numpy()
    z = np.zeros(len(cells))
    for label in np.unique(rows):
        here, shape = rows == label, null.loc[label]
        over = value[here] / np.interp(depth[here], DEPTHS, shape[EXPECTED].to_numpy(dtype=float))
        at = np.clip(depth[here], shape["depth_low"], shape["depth_high"])
        spread = np.maximum(shape["spread_0"] * at + shape["spread_1"], shape["spread_min"])
        z[here] = (over - shape["centre_0"] * at - shape["centre_1"]) / spread
    return z + np.array([z[at[1:]].mean() if len(at) > 1 else z[at[0]] for at in cells["near"]])


def _null_row(labels: pd.Series, null: pd.DataFrame) -> np.ndarray:
    values = labels.to_numpy(dtype=object)
    return np.where(np.isin(values, null.index.to_numpy(dtype=object)), values, OTHER_TYPES)


def out_of_reference(cells: pd.DataFrame, null: pd.DataFrame) -> np.ndarray:
    """Share (0 to 1) of held-out frozen cells of the same type that fit better than each cell.

    Parameters are those of :func:`smoothed_misfit`, with the quantiles of :func:`misfit_null`.
    """
    value = smoothed_misfit(cells, null)
    rows = _null_row(cells["label"], null)
    quantiles = [_quantile(share) for share in NULL_SHARES]
    result = np.zeros(len(value))
    for label in np.unique(rows):
        here = rows == label
        result[here] = np.interp(value[here], null.loc[label, quantiles].to_numpy(dtype=float), NULL_SHARES)
    return result


def write_reference(
    reference: Reference,
    folder: Path,
    *,
    cells: Path,
    obs: pd.DataFrame,
    tables: Sequence[Path],
    libraries: Mapping[str, Path],
    config: Mapping[str, Mapping[str, Any]],
    seed: int,
) -> dict[str, Any]:
    """Write a frozen reference as one folder, all or nothing; returns its manifest.

    Parameters
    ----------
    reference
        From :func:`freeze`.
    folder
        The folder, named as the reference; never an existing one.
    cells, tables
        ``cells.h5ad`` and the tables of the scope, which are copied.
    obs
        Of the cells.
    libraries
        Path of ``qc.h5ad`` by library.
    config
        The sections ``FROZEN_SECTIONS`` of the config.
    seed
        Of the run.

    Raises
    ------
    ValueError
        If there is a folder of this name.
    """
    refuse_existing(folder)
    columns = [keys.PATIENT, keys.SAMPLE, *ROW_COLUMNS]
    rows = obs.groupby(keys.LIBRARY, observed=True)[columns].first().astype(str)
    sizes = obs[keys.LIBRARY].value_counts()
    made = folder.with_name(f".{uuid.uuid4().hex}.{folder.name}")
    (made / "tables").mkdir(parents=True)
    try:
        write_h5ad(reference.model, made / files.MODEL)
        write_h5ad(reference.landmarks, made / files.LANDMARKS)
        write_json(reference.markers.reset_index().to_dict(orient="records"), made / files.MARKERS)
        shutil.copyfile(cells, made / files.CELLS)
        for path in tables:
            shutil.copyfile(path, made / "tables" / path.name)
        manifest = {
            "format": files.FORMAT,
            "name": folder.name,
            "n_cells": int(sizes.sum()),
            "seed": seed,
            "versions": {package: version(package) for package in ("livermet", "anndata", "numpy", "scikit-learn")},
            "config": {section: dict(config[section]) for section in files.FROZEN_SECTIONS},
            "libraries": {
                name: {
                    "digest": files.library_digest(libraries[name]),
                    "n_cells": int(sizes[name]),
                    "row": rows.loc[name].to_dict(),
                }
                for name in rows.index
            },
            "files": files.file_entries(made),
        }
        write_json(manifest, made / files.MANIFEST)
        refuse_existing(folder)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return manifest


def refuse_existing(folder: Path) -> None:
    """Raise a ValueError if there is a reference of this name: what was frozen is never overwritten."""
    if folder.exists():
        raise ValueError(
            f"there is a frozen reference {folder.name!r} in {folder.parent.name} already, and none is ever "
            "overwritten; choose another name (reference.freeze)"
        )


def read_reference(folder: Path) -> Reference:
    """Read what new cells are mapped by; the folder was checked before (:func:`livermet.frozen_files.verify`)."""
    import anndata as ad

    return Reference(
        model=ad.read_h5ad(folder / files.MODEL),
        landmarks=ad.read_h5ad(folder / files.LANDMARKS),
        markers=pd.DataFrame(read_json(folder / files.MARKERS)).set_index("population"),
    )


def refuse_changed(
    manifest: Mapping[str, Any], *, rows: Sequence[Mapping[str, Any]], libraries: Mapping[str, str | Path]
) -> None:
    """Raise a ValueError if libraries of a scope aren't any more what they were when they were frozen.

    Parameters
    ----------
    manifest
        Of the reference.
    rows
        Libraries of the scope as the tables have them now.
    libraries
        Path of ``qc.h5ad`` by library.
    """
    problems = [f"{name}: its counts or kept cells differ" for name in files.changed_libraries(manifest, libraries)]
    problems += files.renamed_libraries(manifest, rows)
    if problems:
        raise ValueError(
            f"the reference {manifest['name']!r} was frozen with other data of {len(problems)} libraries: "
            f"{'; '.join(problems)}. Their frozen labels would be wrong: bring back the data, tables and settings of "
            "that time, or leave reference.use empty and freeze the cohort anew"
        )
