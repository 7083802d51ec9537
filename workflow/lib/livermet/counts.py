"""Counts as they come out of a file of whatever format: checked, freed of what is no gene, and put into an AnnData."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from livermet import keys
from livermet.symbols import (
    MIN_MARKER_SHARE,
    are_ensembl,
    genomes,
    marker_genes,
    marker_share,
    restore_symbols,
    unique_symbols,
)

GENE_EXPRESSION = "Gene Expression"
RAW_COUNTS = "raw integer counts are needed, not normalised, logged or corrected ones"

# From so many barcodes (stored values) on, equal totals (values that are all 1) can't be chance.
_MANY_BARCODES = 50
_MANY_VALUES = 10_000
# Raw matrices hold hundreds of thousands of droplets, most of them with a handful of molecules; a called cell has
# hundreds of genes, and runs with this many called cells exist.
_RAW_BARCODES = 10_000
_EMPTY_GENES = 10
_EMPTY_COUNTS = 100
# Zeros in a row that a sparse matrix does not store; a page of a file (4,096 bytes) holds as many numbers of 8 bytes.
_HOLE = 512


def feature_table(
    *, ids: np.ndarray, symbols: np.ndarray, types: np.ndarray | None, name: str, genome: np.ndarray | None = None
) -> pd.DataFrame:
    """Features of a matrix with gene_id, symbol and feature_type (genes where the file has no types).

    Raises
    ------
    ValueError
        The columns differ in length, nothing is a gene, or the genes belong to several genomes.
    """
    types = np.full(len(ids), GENE_EXPRESSION) if types is None else types
    if not len(ids) == len(symbols) == len(types):
        raise ValueError(
            f"{name}: {len(ids)} feature ids, {len(symbols)} names and {len(types)} types don't agree; copy it again"
        )
    genes = types == GENE_EXPRESSION
    if not genes.any():
        found = ", ".join(f"{n} {kind}" for kind, n in pd.Series(types).value_counts().items()) or "no feature at all"
        raise ValueError(
            f"{name}: no feature of the type {GENE_EXPRESSION!r} (found: {found}); name the gene expression matrix"
        )
    labels = [] if genome is None else sorted(set(genome[genes].tolist()) - {""})
    several = labels if len(labels) > 1 else genomes(ids[genes].tolist())
    if len(several) > 1:
        raise ValueError(
            f"{name}: genes of several genomes ({', '.join(several)}); give a file that holds the human one alone"
        )
    return pd.DataFrame({keys.GENE_ID: ids, keys.SYMBOL: symbols, keys.FEATURE_TYPE: types}, dtype=str)


def refuse_unprintable(names: np.ndarray, *, name: str) -> None:
    """Refuse names with characters that only damage puts there."""
    codes = np.ascontiguousarray(names, dtype=str).view(np.uint32)
    control = ((codes > 0) & (codes < 32)) | ((codes >= 127) & (codes < 160))
    if control.any() or (codes == ord("\N{REPLACEMENT CHARACTER}")).any():
        raise ValueError(
            f"{name} holds characters that stand in no name; compare its checksum with the original and copy it again"
        )


def check_barcodes(barcodes: np.ndarray, *, name: str) -> None:
    """Refuse barcodes that occur more than once."""
    names = pd.Index(barcodes)
    repeated = names[names.duplicated()]
    if len(repeated):
        raise ValueError(
            f"{name}: barcode {repeated[0]!r} occurs more than once ({len(repeated)} repeats in all); two runs in one "
            "file need a suffix each (-1, -2)"
        )


def checked_csr(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, *, shape: tuple[int, int], name: str
) -> sparse.csr_matrix:
    """A CSR matrix from arrays that were checked first: scipy trusts them, and broken ones crash the process.

    Parameters
    ----------
    data, indices, indptr
        The CSR arrays; indices and indptr may have a float type (as some R exports have it) if their values are whole.
    shape
        Rows and columns.
    name
        Where the arrays come from, for messages.
    """
    indices, indptr = whole_numbers(indices, name=f"{name}: indices"), whole_numbers(indptr, name=f"{name}: indptr")
    consistent = (
        data.ndim == 1
        and len(indptr) == shape[0] + 1
        and len(data) == len(indices) == indptr[-1]
        and indptr[0] == 0
        and bool((np.diff(indptr) >= 0).all())
        and (len(indices) == 0 or (indices.min() >= 0 and indices.max() < shape[1]))
    )
    if not consistent:
        raise ValueError(
            f"{name}: damaged: the index arrays do not describe a matrix of {shape[0]} x {shape[1]}; copy it again"
        )
    if _has_hole(data):
        raise ValueError(
            f"{name}: {_HOLE} stored values in a row are zero, as where a copy was broken off; copy it again, or write "
            "it without stored zeros"
        )
    index_type = np.int32 if len(data) < np.iinfo(np.int32).max else np.int64
    matrix = sparse.csr_matrix((data, indices.astype(index_type), indptr.astype(index_type)), shape=shape)
    matrix.sum_duplicates()
    if matrix.nnz != len(data):
        raise ValueError(f"{name}: damaged: {len(data) - matrix.nnz} values have the place of another; copy it again")
    return matrix


def _has_hole(data: np.ndarray) -> bool:
    """Whether a page of a file was never written: sparse matrices store no zeros, or single ones."""
    if np.count_nonzero(data) == len(data):
        return False
    ends = np.flatnonzero(np.concatenate([[1], data, [1]]))
    return bool((np.diff(ends) > _HOLE).any())


def whole_numbers(values: np.ndarray, *, name: str) -> np.ndarray:
    """Integers from an array of any number type."""
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.number):
        raise ValueError(f"{name}: no list of numbers; copy the file again")
    if np.issubdtype(values.dtype, np.integer):
        return values
    if not (np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < 2**53)).all():
        raise ValueError(f"{name}: holds values that are no whole numbers; copy the file again")
    return values.astype(np.int64)


def gene_expression(matrix: sparse.csr_matrix, barcodes: np.ndarray, features: pd.DataFrame, *, name: str) -> AnnData:
    """The genes among the features as an AnnData with checked counts and unique gene names.

    Returns
    -------
    Cells x genes, CSR int32, with var gene_id, symbol, feature_type; ``uns["feature_types"]`` counts the features of
    each type, ``uns["notes"]`` says what was left out or changed.

    Raises
    ------
    ValueError
        A value is no count, or the genes are named by Ensembl ids.
    """
    notes = []
    types = {str(kind): int(n) for kind, n in features[keys.FEATURE_TYPE].value_counts().items()}
    expressed = (features[keys.FEATURE_TYPE] == GENE_EXPRESSION).to_numpy()
    if not expressed.all():
        others = ", ".join(f"{n} {kind}" for kind, n in types.items() if kind != GENE_EXPRESSION)
        notes.append(
            f"{name}: features other than genes left out: {others} (kept: {types[GENE_EXPRESSION]} {GENE_EXPRESSION})"
        )
        matrix, features = matrix[:, expressed], features[expressed]
    features = features.reset_index(drop=True)
    symbols, restored = restore_symbols(features[keys.SYMBOL])
    if restored:
        notes.append(f"{name}: {len(restored)} gene symbols as R mangles them were restored, such as {restored[0]}")
    _check_symbols(symbols, barcodes, name=name)
    features[keys.SYMBOL] = symbols
    names = unique_symbols(symbols, features[keys.GENE_ID].tolist())
    repeated = [(symbol, own) for symbol, own in zip(symbols, names, strict=True) if symbol not in ("", own)]
    if repeated:
        notes.append(
            f"{name}: {len(repeated)} gene symbols occur more than once and count as genes of their own, such as "
            f"{repeated[0][0]}, the second of which is named {repeated[0][1]}"
        )
    adata = AnnData(
        X=integer_counts(matrix, cells=barcodes, genes=names, name=name),
        obs=pd.DataFrame(index=pd.Index(barcodes, dtype=str)),
        var=features.set_index(pd.Index(names, dtype=str)),
    )
    _check_totals(adata.X, name=name)
    adata.uns |= {"notes": notes, "feature_types": types}
    return adata


def _check_symbols(symbols: list[str], barcodes: np.ndarray, *, name: str) -> None:
    if marker_share(symbols) >= MIN_MARKER_SHARE:
        return
    if marker_share(barcodes) >= MIN_MARKER_SHARE:
        raise ValueError(f"{name}: the names of the cells are genes, such as {barcodes[0]}: transpose the matrix")
    if are_ensembl(symbols):
        raise ValueError(
            f"{name}: genes are named by Ensembl ids (such as {symbols[0]}) and no symbols are given: human HGNC "
            "symbols are needed to name cells and to put libraries together; add them (second column of features.tsv, "
            "features/name of an h5 file, column gene_symbol in var of an h5ad file)"
        )


def foreign_symbols(symbols: pd.Series) -> list[str]:
    """A note if hardly any gene of the marker table is there: another species, or numbers in the place of symbols.

    A small panel can't hold many of them; there it counts which share of the panel's genes they are.
    """
    n_known = len(marker_genes())
    share = marker_share(symbols)
    if max(share, share * n_known / max(len(symbols), 1)) >= MIN_MARKER_SHARE:
        return []
    return [
        f"only {round(share * n_known)} of the {n_known} genes of the marker table are there "
        f"(first symbols: {', '.join(symbols[:3])}): human HGNC symbols are needed to name cells"
    ]


def integer_counts(
    matrix: sparse.csr_matrix, *, cells: np.ndarray | list[str], genes: np.ndarray | list[str], name: str
) -> sparse.csr_matrix:
    """The matrix as int32 without stored zeros.

    Raises
    ------
    ValueError
        A value is missing, negative, not whole or too large; the message names its cell and gene.
    """
    data = matrix.data
    if not np.issubdtype(data.dtype, np.number) or np.issubdtype(data.dtype, np.complexfloating):
        raise ValueError(f"{name}: values of type {data.dtype} are no counts")
    checks = [("is negative", data < 0), ("is too large for a count", data > np.iinfo(np.int32).max)]
    if np.issubdtype(data.dtype, np.floating):
        checks = [
            ("is missing (NaN) or infinite", ~np.isfinite(data)),
            *checks,
            ("is no whole number", data != np.floor(data)),
        ]
    for problem, bad in checks:
        if bad.any():
            first = int(np.argmax(bad))
            cell = cells[int(np.searchsorted(matrix.indptr, first, side="right")) - 1]
            gene = genes[int(matrix.indices[first])]
            raise ValueError(
                f"{name}: value {data[first]:g} of cell {cell}, gene {gene} {problem} ({int(bad.sum())} such values); "
                f"{RAW_COUNTS}"
            )
    counts = sparse.csr_matrix((data.astype(np.int32), matrix.indices, matrix.indptr), shape=matrix.shape)
    counts.eliminate_zeros()
    counts.sort_indices()
    return counts


def _check_totals(counts: sparse.csr_matrix, *, name: str) -> None:
    """Refuse whole numbers that are no counts of molecules."""
    totals = np.asarray(counts.sum(axis=1, dtype=np.int64)).ravel()
    if len(totals) >= _MANY_BARCODES and totals.min() >= 100 and totals.std() < 0.01 * totals.mean():
        raise ValueError(
            f"{name}: all {len(totals)} barcodes have the same total ({totals.mean():.0f} within 1 %), so the values "
            f"were normalised and rounded, or thinned; {RAW_COUNTS}"
        )
    if counts.nnz >= _MANY_VALUES and counts.data.max() == 1:
        raise ValueError(
            f"{name}: all {counts.nnz} values are 1, so they tell which genes were seen and not how often; {RAW_COUNTS}"
        )


def holds_all_droplets(counts: sparse.csr_matrix, *, said: bool, name: str) -> bool:
    """Whether a matrix holds all droplets of a run (raw) in the place of the called cells.

    Parameters
    ----------
    counts
        Barcodes x genes; the first barcodes of a file suffice, since raw matrices list them by their sequence.
    said
        Whether the file says so by its name.
    name
        Where the counts come from, for the message.

    Raises
    ------
    ValueError
        It is named so, but most of its barcodes are no empty droplets.
    """
    if not said:
        few = int((np.diff(counts.indptr) <= _EMPTY_GENES).sum())
        return counts.shape[0] >= _RAW_BARCODES and few > counts.shape[0] / 2
    empty = int((np.asarray(counts.sum(axis=1)).ravel() <= _EMPTY_COUNTS).sum())
    if empty <= counts.shape[0] / 2:
        raise ValueError(
            f"{name}: is by its name the matrix of all droplets (raw), but only {empty} of {counts.shape[0]} barcodes "
            f"have at most {_EMPTY_COUNTS} counts, so that cells can't be told from empty droplets; if these are "
            "cells, give the file a name without raw_, else name the called cells as path, and this one as raw_path"
        )
    return True
