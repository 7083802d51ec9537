"""Pseudobulk profiles: exact sums of raw counts per patient, filters that know no response, marks of ambient RNA."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from livermet.pseudobulk import PROFILE, ambient_genes, expressed_genes, pseudobulk

GENES = ["G0", "G1", "G2"]


def make_cells(rows, counts=None, seed=0):
    """Cells from (patient, library, cell type, modality, timepoint) and the number of cells of each."""
    table = pd.DataFrame(
        [row[:5] for row in rows for _ in range(row[5])],
        columns=["patient_id", "library_id", "cell_type", "modality", "timepoint"],
    ).assign(tissue="liver_met")
    table.index = [f"{row.library_id}:{i}" for i, row in enumerate(table.itertuples())]
    if counts is None:
        counts = np.random.default_rng(seed).poisson(2.0, (len(table), len(GENES)))
    return ad.AnnData(X=sparse.csr_matrix(counts.astype(np.int32)), obs=table, var=pd.DataFrame(index=GENES))


COHORT = [
    ("P1", "L1", "nk", "scrna", "T0_pre", 6),
    ("P1", "L2", "nk", "scrna", "T0_pre", 7),
    ("P1", "L3", "nk", "snrna", "T0_pre", 12),
    ("P1", "L4", "nk", "scrna", "T3_resection", 11),
    ("P2", "L5", "nk", "scrna", "T0_pre", 9),
    ("P2", "L5", "mast", "scrna", "T0_pre", 10),
    ("P2", "L5", "unknown", "scrna", "T0_pre", 30),
    ("P2", "L5", "epithelial_uncertain", "scrna", "T0_pre", 30),
]


def test_libraries_of_a_patient_are_one_profile_and_protocols_are_not():
    cells = make_cells(COHORT)
    profiles, left_out = pseudobulk(cells, min_cells=10)
    names = profiles.obs[["patient_id", "modality", "timepoint", "cell_type", "n_cells"]].to_numpy().tolist()
    assert names == [
        ["P1", "scrna", "T0_pre", "nk", 13],
        ["P1", "snrna", "T0_pre", "nk", 12],
        ["P1", "scrna", "T3_resection", "nk", 11],
        ["P2", "scrna", "T0_pre", "mast", 10],
    ]
    assert profiles.obs["libraries"].tolist() == ["L1+L2", "L3", "L4", "L5"]
    assert left_out[[*PROFILE, "n_cells"]].to_numpy().tolist() == [["P2", "T0_pre", "liver_met", "scrna", "nk", 9]]
    of_first = cells.obs["library_id"].isin(["L1", "L2"]).to_numpy()
    np.testing.assert_array_equal(profiles.X.toarray()[0], cells.X.toarray()[of_first].sum(axis=0))
    assert sparse.issparse(profiles.X)
    assert profiles.X.dtype.kind == "i"


def test_order_of_cells_does_not_matter():
    cells = make_cells(COHORT)
    plain, _ = pseudobulk(cells, min_cells=5)
    order = np.random.default_rng(1).permutation(cells.n_obs)
    mixed, _ = pseudobulk(cells[order].copy(), min_cells=5)
    pd.testing.assert_frame_equal(plain.obs, mixed.obs)
    np.testing.assert_array_equal(plain.X.toarray(), mixed.X.toarray())


def test_corrected_counts_are_never_summed():
    cells = make_cells(COHORT)
    plain, _ = pseudobulk(cells, min_cells=10)
    cells.layers["corrected"] = cells.X * 0.5
    beside, _ = pseudobulk(cells, min_cells=10)
    np.testing.assert_array_equal(plain.X.toarray(), beside.X.toarray())
    cells.X = cells.layers["corrected"]
    with pytest.raises(ValueError, match=r"which is no count; expected raw counts"):
        pseudobulk(cells, min_cells=10)


def test_no_cells_give_no_profiles_and_a_missing_column_is_named():
    cells = make_cells(COHORT)
    none, left_out = pseudobulk(cells[:0].copy(), min_cells=10)
    assert none.shape == (0, 3)
    assert left_out.empty
    del cells.obs["tissue"]
    with pytest.raises(ValueError, match="obs column tissue is missing"):
        pseudobulk(cells, min_cells=10)


def test_a_gene_needs_counts_in_a_share_of_the_profiles_whatever_their_depth():
    rest = np.full((8, 1), 980)
    everywhere, few, half = np.full((8, 1), 10), np.full((8, 1), 0), np.repeat([[10], [0]], 4, axis=0)
    few[0] = 1000
    counts = np.hstack([everywhere, few, half, rest])
    assert expressed_genes(counts, min_count=4, min_share=0.5).tolist() == [True, False, True, True]
    deeper = counts * np.array([1, 2, 3, 4, 5, 6, 7, 100])[:, None]
    assert expressed_genes(deeper, min_count=20, min_share=0.5).tolist() == [True, False, True, True]


def test_ambient_genes_are_those_the_type_has_no_more_of_than_soup_gives():
    # G0: much in the soup, little in the type; G1: much in both; G2: not among the two most abundant ambient genes.
    counts = np.tile([1, 60, 39], (10, 1))
    profiles, _ = pseudobulk(make_cells([("P1", "L1", "nk", "scrna", "T0_pre", 10)], counts), min_cells=10)
    ambient = pd.DataFrame({"L1": [0.5, 0.3, 0.1], "elsewhere": [0.0, 0.0, 1.0]}, index=GENES)
    options = {"ambient_top": 2, "max_contamination": 0.2}
    assert ambient_genes(profiles, ambient, **options).tolist() == [True, False, False]
    assert ambient_genes(profiles, ambient, ambient_top=2, max_contamination=0.01).tolist() == [False] * 3
    assert ambient_genes(profiles, ambient[["elsewhere"]], **options) is None
    assert ambient_genes(profiles, ambient[["elsewhere"]].assign(L1=0.0), **options) is None
