"""Labels from elsewhere, beside those of the marker table: an annotated h5ad of the user's, and a CellTypist model.

They change no call of the workflow: where they disagree with it, a person looks.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from livermet import keys
from livermet.findings import Finding, closest
from livermet.h5read import read_names, read_obs
from livermet.integrate import log_normalise, variable_genes

logger = logging.getLogger(__name__)

UNASSIGNED = "unassigned"
# The rejection of Abdelaal et al. 2019 (SVMrejection), and the threshold p_thres of CellTypist.
MIN_PROBABILITY = {"reference": 0.7, "celltypist": 0.5}
SOURCES = tuple(MIN_PROBABILITY)
MIN_CELLS_PER_LABEL = 10
# More cells of one label sharpen no border between labels, and the reference may hold a million.
MAX_CELLS_PER_LABEL = 500
MIN_SHARED_GENES = 200
N_GENES = 2000
N_PCS = 50
BLOCK = 2000
# Columns of var that hold symbols in files whose index holds Ensembl ids.
SYMBOL_COLUMNS = ("symbol", "feature_name", "gene_symbol", "gene_symbols", "gene_name", "gene_names")
COMPARISON_COLUMNS = (
    "source",
    "n_labels",
    "n_reference_cells",
    "n_shared_genes",
    "n_cells",
    "n_unassigned",
    "n_common_labels",
    "agreement",
    "kappa",
    "adjusted_rand",
    "reason",
)
AGREEMENT_COLUMNS = ("source", "cell_type", "label", "n_cells", "share")


@dataclass(frozen=True)
class Transferred:
    """Label and its probability per cell from one source; without labels, ``reason`` says why."""

    label: np.ndarray
    confidence: np.ndarray
    n_labels: int = 0
    n_reference_cells: int = 0
    n_shared_genes: int = 0
    reason: str = ""


def reference_findings(path: Path, *, labels: str) -> list[Finding]:
    """Why an annotated h5ad can't be a reference, from its labels alone.

    Parameters
    ----------
    path
        The file.
    labels
        Column of obs with the labels.
    """
    key, value = "annotate.reference", path.name
    whole = "give an h5ad file as anndata writes it (0.8 or later)"
    if not path.is_file():
        remedy = "correct the path; a relative one counts from the working directory"
        return [Finding("error", "config", None, key, value, "there is no such file", remedy)]
    try:
        with h5py.File(path, "r") as file:
            if (
                not all(part in file and isinstance(file[part], h5py.Group) for part in ("obs", "var"))
                or "X" not in file
            ):
                return [Finding("error", "config", None, key, value, "holds no X with obs and var", whole)]
            columns = [name for name in file["obs"] if name != file["obs"].attrs.get("_index")]
        if labels not in columns:
            close = closest(labels, columns)
            hint = f"did you mean {close!r}? " if close else ""
            remedy = f"{hint}columns are {', '.join(sorted(columns)) or '(none)'}"
            message = f"obs of {value} has no such column"
            return [Finding("error", "config", None, "annotate.reference_labels", labels, message, remedy)]
        given = pd.Series(read_obs(path, [labels])[labels]).replace("", np.nan).dropna().astype(str)
    except OSError as error:
        return [Finding("error", "config", None, key, value, f"cannot be opened as HDF5: {error}", whole)]
    n = int((given.value_counts() >= MIN_CELLS_PER_LABEL).sum())
    if n < 2:
        message = f"{n} labels in obs column {labels!r} have {MIN_CELLS_PER_LABEL} cells; two are needed"
        return [Finding("error", "config", None, key, value, message, "choose another column, or another file")]
    return []


def read_reference(path: Path, *, labels: str, seed: int) -> tuple[AnnData, list[np.ndarray]]:
    """Counts and labels of a reference, at most ``MAX_CELLS_PER_LABEL`` cells of each label.

    Read are ``layers["counts"]`` (else X), the one column of obs, and names of genes; nothing else of the file.

    Parameters
    ----------
    path
        The h5ad file; its values are counts, or log(1 + normalised counts), which are taken back to the linear scale.
    labels
        Column of obs.
    seed
        Seed of the choice of cells.

    Returns
    -------
    Values that are proportional to counts in each cell, with obs ``label``; and the sets of names that its genes go
    by, index first.

    Raises
    ------
    ValueError
        If values are negative or not finite, as in a scaled matrix.
    """
    given = pd.Series(read_obs(path, [labels])[labels]).replace("", np.nan)
    given = given.where(given.isna(), given.astype(str))
    order = given.sample(frac=1, random_state=seed)
    size = given.map(given.value_counts())
    chosen = order[size.reindex(order.index) >= MIN_CELLS_PER_LABEL].groupby(order).head(MAX_CELLS_PER_LABEL)
    rows = np.sort(chosen.index.to_numpy())
    with h5py.File(path, "r") as file:
        place = "layers/counts" if "layers/counts" in file else "X"
        values = _rows(file[place], rows)
        columns = [name for name in SYMBOL_COLUMNS if name in file["var"]]
        names = [read_names(path, "var").astype(str)]
        names += [_text(file["var"][name]) for name in columns]
    if not np.isfinite(values.data).all() or values.data.min(initial=0) < 0:
        raise ValueError(
            f"{path.name}: {place} holds negative or missing values, as scaled data do; expected counts or "
            "log-normalised values: put the counts into layers['counts']"
        )
    if not np.array_equal(values.data, np.round(values.data)):
        np.expm1(values.data, out=values.data)
    obs = pd.DataFrame({"label": given.loc[rows].to_numpy(dtype=str)}, index=rows.astype(str))
    logger.info("%s: %d of %d cells, %d labels", path.name, len(rows), len(given), obs["label"].nunique())
    return AnnData(values, obs=obs), names


def _rows(item: h5py.Dataset | h5py.Group, rows: np.ndarray) -> sp.csr_matrix:
    from anndata.io import sparse_dataset

    if isinstance(item, h5py.Group):
        stored = sparse_dataset(item)
        part = stored[rows] if stored.format == "csr" else stored.to_memory().tocsr()[rows]
        return sp.csr_matrix(part, dtype=np.float64)
    blocks = []
    for start in range(0, item.shape[0], BLOCK):
        wanted = rows[(rows >= start) & (rows < start + BLOCK)] - start
        if wanted.size:
            blocks.append(sp.csr_matrix(item[start : start + BLOCK][wanted].astype(np.float64)))
    return sp.vstack(blocks, format="csr")


def _text(item: h5py.Dataset | h5py.Group) -> np.ndarray:
    from anndata.io import read_elem

    return np.asarray(read_elem(item)).astype(str)


def shared_genes(cells: AnnData, names: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the common genes in the cells and in the reference, by symbol or id, whichever finds more."""
    best = (np.zeros(0, dtype=int), np.zeros(0, dtype=int))
    ids = cells.var[keys.GENE_ID].astype(str) if keys.GENE_ID in cells.var else pd.Series([], dtype=str)
    for own in (cells.var_names.to_numpy().astype(str), ids.to_numpy()):
        for theirs in names:
            index = pd.Index(theirs)
            usable = ~index.duplicated() & (index != "")
            at = pd.Series(np.flatnonzero(usable), index=index[usable]).reindex(own).to_numpy(dtype=float)
            found = np.flatnonzero(np.isfinite(at) & ~pd.Index(own).duplicated())
            if found.size > best[0].size:
                best = (found, at[found].astype(int))
    return best


def transfer_labels(cells: AnnData, reference: AnnData, names: Iterable[np.ndarray], *, seed: int) -> Transferred:
    """Label of each cell by a multinomial logistic regression on principal components of the reference.

    Both are normalised over their common genes; the components are those of the reference's variable genes. Linear
    classifiers with rejection do best among 22 methods on 27 data sets (Abdelaal et al. 2019,
    doi:10.1186/s13059-019-1795-z). A cell whose best label has a probability below .7 is ``unassigned``. A type that
    the reference lacks may still take the label of its nearest relative.

    Parameters
    ----------
    cells
        Counts with symbols as var_names and, where known, ``gene_id``.
    reference, names
        From :func:`read_reference`.
    seed
        Seed of the components.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    own, theirs = shared_genes(cells, names)
    if own.size < MIN_SHARED_GENES:
        reason = f"the reference shares {own.size} genes with the cells, {MIN_SHARED_GENES} are needed"
        return _nothing(cells.n_obs, reason)
    if cells.n_obs == 0:
        return _nothing(0, "no cells")
    learnt = log_normalise(sp.csr_matrix(reference.X[:, theirs]))
    genes = variable_genes(learnt, np.zeros(reference.n_obs, dtype=int), n_top=N_GENES)
    asked = log_normalise(sp.csr_matrix(cells.X)[:, own])
    n_pcs = max(min(N_PCS, genes.size - 1, reference.n_obs - 1), 1)
    model = make_pipeline(
        PCA(n_components=n_pcs, svd_solver="arpack", random_state=seed),
        StandardScaler(),
        LogisticRegression(max_iter=1000),
    )
    model.fit(learnt[:, genes].astype(np.float64), reference.obs["label"].to_numpy(dtype=str))
    probability = model.predict_proba(asked[:, genes].astype(np.float64))
    return _transferred(
        "reference", model.classes_, probability, n_reference_cells=reference.n_obs, n_shared_genes=own.size
    )


def celltypist_labels(cells: AnnData, path: Path) -> Transferred:
    """Label of each cell by a CellTypist model (Dominguez Conde et al. 2022, doi:10.1126/science.abl5197).

    Each cell by itself, without majority voting, so that the label owes nothing to the clusters. The model is a pickle:
    opening one runs whatever code it holds. Nothing is downloaded.

    Parameters
    ----------
    cells
        Counts with symbols as var_names.
    path
        The model file.

    Raises
    ------
    ValueError
        If the file is no CellTypist model.
    """
    with TemporaryDirectory() as folder:
        # celltypist makes a folder for downloaded models when it is imported, in the home of the user unless told.
        before = os.environ.get("CELLTYPIST_FOLDER")
        os.environ["CELLTYPIST_FOLDER"] = folder
        try:
            import celltypist
            from celltypist.models import Model
        finally:
            os.environ.pop("CELLTYPIST_FOLDER")
            if before is not None:
                os.environ["CELLTYPIST_FOLDER"] = before
    celltypist.logger.set_level("ERROR")
    try:
        # An absolute path: a bare file name would make celltypist look for it on the network.
        model = Model.load(str(path.resolve()))
        features = np.asarray(model.features).astype(str)
    except Exception as error:  # celltypist raises no narrower one
        raise ValueError(
            f"{path.name}: is no CellTypist model ({error}); give a file that celltypist wrote, or clear "
            "annotate.celltypist_model"
        ) from error
    n_shared = int(np.isin(cells.var_names, features).sum())
    if n_shared < MIN_SHARED_GENES:
        reason = f"the model shares {n_shared} genes with the cells, {MIN_SHARED_GENES} are needed"
        return _nothing(cells.n_obs, reason)
    if cells.n_obs == 0:
        return _nothing(0, "no cells")
    expression = log_normalise(sp.csr_matrix(cells.X))
    var = pd.DataFrame(index=cells.var_names)
    parts = []
    for start in range(0, cells.n_obs, BLOCK):  # in blocks, since celltypist makes the scaled values dense
        part = expression[start : start + BLOCK]
        obs = pd.DataFrame(index=cells.obs_names[start : start + BLOCK])
        parts.append(celltypist.annotate(AnnData(part, obs=obs, var=var), model=model).probability_matrix.to_numpy())
    return _transferred(
        "celltypist", np.asarray(model.cell_types), np.vstack(parts), n_reference_cells=0, n_shared_genes=n_shared
    )


def _nothing(n_obs: int, reason: str) -> Transferred:
    logger.warning(reason)
    return Transferred(np.full(n_obs, "", dtype=object), np.full(n_obs, np.nan), reason=reason)


def _transferred(
    source: str, classes: np.ndarray, probability: np.ndarray, *, n_reference_cells: int, n_shared_genes: int
) -> Transferred:
    best = probability.argmax(axis=1)
    confidence = probability[np.arange(len(best)), best].round(4)
    label = np.where(confidence >= MIN_PROBABILITY[source], classes.astype(str)[best], UNASSIGNED).astype(object)
    logger.info("%s: %d cells, %.0f%% unassigned", source, len(label), 100 * np.mean(label == UNASSIGNED))
    return Transferred(label, confidence, len(classes), n_reference_cells, n_shared_genes)


def agreement_table(source: str, cell_types: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Cells per cell type of the workflow and label of a source.

    Returns
    -------
    DataFrame with source, cell_type, label, n_cells and share (of the cells of the cell type).
    """
    if not len(labels):
        return pd.DataFrame(columns=list(AGREEMENT_COLUMNS))
    table = pd.DataFrame({"cell_type": cell_types.astype(str), "label": labels.astype(str)})
    counts = table.groupby(["cell_type", "label"]).size().rename("n_cells").reset_index()
    counts["share"] = counts["n_cells"] / counts.groupby("cell_type")["n_cells"].transform("sum")
    counts.insert(0, "source", source)
    counts = counts.sort_values(["cell_type", "n_cells", "label"], ascending=[True, False, True], kind="stable")
    return counts.reset_index(drop=True)


def comparison_row(source: str, cell_types: np.ndarray, given: Transferred) -> dict[str, object]:
    """How well the labels of a source and the cell types of the workflow go together.

    The adjusted Rand index compares the partitions, whatever the labels are called; cells that either side leaves open
    (unknown, epithelial_uncertain, unassigned) take no part. Cohen's kappa and the agreement (share of equal labels)
    need equal names: they are reckoned over cells whose cell type and label are both among the names common to the
    two, and missing with fewer than two of those. Names are compared without regard to case, blanks, "-" and "_".
    """
    from sklearn.metrics import adjusted_rand_score, cohen_kappa_score

    row: dict[str, object] = dict.fromkeys(COMPARISON_COLUMNS, np.nan) | {
        "source": source,
        "n_labels": given.n_labels,
        "n_reference_cells": given.n_reference_cells,
        "n_shared_genes": given.n_shared_genes,
        "n_cells": len(given.label),
        "n_unassigned": int((given.label == UNASSIGNED).sum()),
        "n_common_labels": 0,
        "reason": given.reason,
    }
    if given.reason:
        return row
    own, theirs = folded(cell_types), folded(given.label)
    stated = ~np.isin(cell_types.astype(str), [keys.UNKNOWN, keys.UNCERTAIN_EPITHELIAL]) & (given.label != UNASSIGNED)
    if stated.any():
        row["adjusted_rand"] = adjusted_rand_score(own[stated], theirs[stated])
    common = set(own[stated]) & set(theirs[stated])
    row["n_common_labels"] = len(common)
    both = stated & np.isin(own, list(common)) & np.isin(theirs, list(common))
    if len(common) >= 2:
        row["agreement"] = float((own[both] == theirs[both]).mean())
        row["kappa"] = cohen_kappa_score(own[both], theirs[both])
    return row


def folded(labels: Iterable[str]) -> np.ndarray:
    """Labels as they are compared: without case, blanks, "-" and "_"."""
    text = pd.Series(list(labels), dtype=str).str.casefold()
    return text.str.replace(r"[\s_-]+", "", regex=True).to_numpy(dtype=str)
