"""Pooling, embedding, neighbour graph and clusters."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

from livermet import integrate as ig
from planted_cells import planted_cells, rows_of

TYPES = ["malignant_ductal", "hepatocyte", "t_CD8_effector", "tam_SPP1", "caf_pan", "endothelial_vascular"]


def small(seed, n_patients=3, n_cells=150):
    return planted_cells(seed=seed, n_patients=n_patients, n_cells=n_cells, n_genes=1500, types=TYPES, novel=0)


def embedded(libraries, **options):
    pooled = ig.pool_libraries(libraries, rows_of(libraries), min_genes_shared=0.5)
    options = {
        "batch_key": "library_id",
        "n_hvg": 500,
        "n_pcs": 15,
        "n_neighbours": 15,
        "harmony": True,
        "seed": 1,
    } | options
    return ig.embed(pooled, **options)


def test_pooling_keeps_counts_over_the_common_genes():
    libraries = small(0)
    libraries[1] = libraries[1][:, 100:].copy()
    libraries[2] = libraries[2][:, ::-1].copy()
    pooled = ig.pool_libraries(libraries, rows_of(libraries), min_genes_shared=0.5)
    assert pooled.X.dtype == np.int32
    assert sp.isspmatrix_csr(pooled.X) or isinstance(pooled.X, sp.csr_array)
    assert list(pooled.var_names) == list(libraries[0].var_names[100:])
    for library in libraries:
        part = pooled[library.obs_names]
        assert (part.X != library[:, pooled.var_names].X).nnz == 0
        assert set(part.obs["centre"]) == {"C1"}


def test_a_library_with_foreign_genes_is_named():
    libraries = small(0)
    libraries[1].var_names = [f"mouse{i}" for i in range(libraries[1].n_vars)]
    with pytest.raises(ValueError, match=r"library L02: .*min_genes_shared"):
        ig.pool_libraries(libraries, rows_of(libraries), min_genes_shared=0.5)


def test_empty_libraries_are_skipped_and_none_gives_zero_rows_with_all_columns():
    libraries = small(0)
    empty = libraries[1][:0].copy()
    pooled = ig.pool_libraries([libraries[0], empty], rows_of(libraries[:1]), min_genes_shared=0.5)
    assert set(pooled.obs["library_id"]) == {"L01"}
    for nothing in ([], [empty]):
        cells = ig.pool_libraries(nothing, [], min_genes_shared=0.5)
        cells = ig.embed(cells, batch_key="library_id", n_hvg=10, n_pcs=5, n_neighbours=5, harmony=True, seed=1)
        cells, table = ig.cluster(cells, resolutions=[0.5], n_stability=2, seed=1)
        cells = ig.add_umap(cells, seed=1)
        assert cells.n_obs == 0
        assert table.empty
        assert "no single-cell library" in cells.uns["livermet"]["reason"]
        assert {"cluster", "patient_id", "timepoint", "total_counts"} <= set(cells.obs)
        assert {"X_pca", "X_integrated", "X_umap"} <= set(cells.obsm)


def test_log_normalisation_and_cells_without_counts():
    counts = sp.csr_matrix(np.array([[1, 3], [0, 0]], dtype=np.int32))
    result = ig.log_normalise(counts, target_sum=8.0).toarray()
    np.testing.assert_allclose(result, [[np.log(3), np.log(7)], [0, 0]], rtol=1e-6)
    assert counts.dtype == np.int32


def test_variable_genes_find_types_and_ignore_batches():
    rng = np.random.default_rng(3)
    mean = np.tile(rng.lognormal(1.0, 0.7, size=300), (400, 1))
    mean[:40, :20] *= 5  # a rare type
    batch = np.arange(400) % 2
    mean[np.ix_(batch == 1, np.arange(20, 60))] *= 5  # a batch effect of the same size
    counts = sp.csr_matrix(rng.poisson(mean).astype(np.int32))
    chosen = ig.variable_genes(ig.log_normalise(counts), batch, n_top=20)
    assert np.isin(chosen, np.arange(20)).mean() >= 0.9
    naive = ig.variable_genes(ig.log_normalise(counts), np.zeros(400, dtype=int), n_top=20)
    assert np.isin(naive, np.arange(20, 60)).any()
    assert not np.isin(chosen, np.arange(20, 60)).any()


def test_principal_components_equal_the_dense_solution():
    matrix = sp.random(60, 30, density=0.3, random_state=1, format="csr")
    scores = ig.principal_components(matrix, n_pcs=4, seed=1)
    dense = matrix.toarray() - matrix.toarray().mean(axis=0)
    u, s, _ = np.linalg.svd(dense, full_matrices=False)
    np.testing.assert_allclose(np.abs(scores), np.abs(u[:, :4] * s[:4]), atol=1e-4)


def test_graph_is_exact_and_symmetric_above_8500_cells():
    """Approximate searches take over above about 8,200 cells and hide their faults below."""
    scores = np.random.default_rng(0).normal(size=(8700, 6)).astype(np.float32)
    connectivities, distances = ig.neighbour_graph(scores, n_neighbours=10)
    assert abs(connectivities - connectivities.T).max() < 1e-6
    assert connectivities.data.max() <= 1 + 1e-6
    assert np.all(np.diff(distances.indptr) == 10)
    some = np.array([0, 17, 4444, 8699])
    expected = NearestNeighbors(n_neighbors=11, algorithm="kd_tree").fit(scores).kneighbors(scores[some])[1][:, 1:]
    for cell, neighbours in zip(some, expected, strict=True):
        assert set(distances[cell].indices) == set(neighbours)


def test_weights_of_a_cell_sum_to_log2_of_its_neighbours():
    """The definition of McInnes et al. 2018: nearest neighbour 1, the sum over k neighbours log2 (here the cell counts too)."""
    scores = np.random.default_rng(2).normal(size=(300, 5))
    distance, _ = NearestNeighbors(n_neighbors=15).fit(scores).kneighbors()
    weight = ig._fuzzy_weights(distance)
    np.testing.assert_allclose(weight.sum(axis=1), 4.0, atol=1e-6)
    np.testing.assert_allclose(weight[:, 0], 1.0)
    assert (np.diff(weight, axis=1) <= 1e-12).all()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_types_are_recovered_and_patients_are_mixed(seed):
    libraries = small(seed)
    cells = embedded(libraries)
    cells, table = ig.cluster(cells, resolutions=[0.3, 0.8], n_stability=2, seed=1)
    truth = pd.concat([library.obs["true_type"] for library in libraries]).loc[cells.obs_names]
    # Malignant cells differ by patient and stay apart; all others are shared.
    shared = (truth != "malignant_ductal").to_numpy()
    clusters = cells.obs["cluster"].astype(str).to_numpy()
    assert adjusted_rand_score(truth[shared], clusters[shared]) >= 0.9
    # Patients differ in composition; clusters must not tell more of the patient than the types do.
    patients = cells.obs["patient_id"][shared]
    assert adjusted_rand_score(patients, clusters[shared]) <= adjusted_rand_score(patients, truth[shared]) + 0.05
    assert pd.crosstab(clusters, shared).min(axis=1).sum() <= 0.02 * cells.n_obs
    assert table["chosen"].sum() == 1
    assert table["stability"].between(-1, 1).all()
    sizes = cells.obs["cluster"].value_counts().sort_index()
    assert sizes.is_monotonic_decreasing
    assert sizes.index[0] == "c00"


def test_order_of_cells_and_libraries_changes_nothing():
    libraries = small(5)
    rng = np.random.default_rng(0)
    shuffled = [library[rng.permutation(library.n_obs)].copy() for library in reversed(libraries)]
    one, two = embedded(libraries), embedded(shuffled)
    assert list(one.obs_names) == list(two.obs_names)
    np.testing.assert_array_equal(one.obsm["X_integrated"], two.obsm["X_integrated"])
    names = [
        ig.cluster(cells, resolutions=[0.5], n_stability=1, seed=1)[0].obs["cluster"].tolist() for cells in (one, two)
    ]
    assert names[0] == names[1]


def test_the_finest_stable_resolution_is_chosen():
    """Four separate cliques: stable at any usual resolution, so the finest is chosen; a random graph at a fine one is not stable."""
    rng = np.random.default_rng(0)
    blocks = sp.block_diag([np.ones((40, 40)) - np.eye(40)] * 4).tocsr()
    table, codes = ig.choose_resolution(blocks, resolutions=[0.5, 1.0], n_stability=2, seed=1)
    assert table.loc[table["chosen"] == 1, "resolution"].item() == 1.0
    assert codes.max() == 3
    noise = ig.neighbour_graph(rng.normal(size=(300, 10)), n_neighbours=10)[0]
    table, _ = ig.choose_resolution(noise, resolutions=[1.0], n_stability=3, seed=1)
    assert table["stability"].item() < 0.9


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_few_cells_still_give_every_slot(n):
    library = small(0, n_patients=1)[0][:n].copy()
    cells = embedded([library])
    cells, table = ig.cluster(cells, resolutions=[0.5], n_stability=2, seed=1)
    cells = ig.add_umap(cells, seed=1)
    assert cells.obs["cluster"].notna().all()
    assert np.isfinite(cells.obsm["X_umap"]).all()
    assert table["chosen"].sum() == 1


def test_unknown_batch_key_is_explained():
    with pytest.raises(ValueError, match="batch_key"):
        embedded(small(0, n_patients=1), batch_key="lane")


def test_umap_is_reproducible():
    cells = embedded(small(1, n_patients=1))
    first = ig.add_umap(cells, seed=3).obsm["X_umap"].copy()
    np.testing.assert_array_equal(first, ig.add_umap(cells, seed=3).obsm["X_umap"])


def test_umap_and_graph_stand_on_the_embedding_that_is_noted():
    cells = embedded(small(2, n_patients=2))
    assert ig.embedding_note(cells)["used"] == "X_integrated"
    first = ig.add_umap(cells, seed=1).obsm["X_umap"].copy()
    ig.note_embedding(cells, used="X_pca", reason="for once")
    ig.connect(cells, n_neighbours=15)
    expected = ig.neighbour_graph(cells.obsm["X_pca"], n_neighbours=15)[0]
    assert abs(cells.obsp["connectivities"] - expected).max() == 0
    assert not np.allclose(first, ig.add_umap(cells, seed=1).obsm["X_umap"])
    assert cells.uns["livermet"]["reason"] == ""


def clusters_of(**members):
    cells = [(f"L01:{name}", cluster) for cluster, names in members.items() for name in names]
    return pd.Series(dict(cells))


def test_clusters_keep_the_names_of_an_earlier_run():
    earlier = clusters_of(c00="abcdef", c01="ghij", c02="kl", c07="q")
    # c00 lost a cell, c01 is split 3 to 1, c02 and c07 are gone, new cells came.
    new = clusters_of(c00="ghi", c01="abcdeuvw", c02="j", c03="xyz")
    names = ig.match_clusters(new, earlier)
    assert names == {"c00": "c01", "c01": "c00", "c02": "c03", "c03": "c04"}
    assert ig.match_clusters(new.iloc[::-1], earlier.iloc[::-1]) == names


def test_stray_cells_are_no_counterpart():
    earlier = clusters_of(c00="abcdefgh", c01="ijkl")
    new = clusters_of(c00="abcdefghijkl", c01="mnopqrst")
    assert ig.match_clusters(new, earlier) == {"c00": "c00", "c01": "c02"}
    # One cell of eight of c01 came from c00: not enough for its name, which nobody has then.
    new = clusters_of(c00="abcdefgijk", c01="hlmnopqr")
    earlier = clusters_of(c00="abcdefghi", c01="jkl", c05="mnopqr")
    assert ig.match_clusters(new, earlier) == {"c00": "c00", "c01": "c05"}


def test_no_shared_cells_with_the_earlier_run_is_explained():
    with pytest.raises(ValueError, match="integrate: earlier: none of the 2 cells"):
        ig.match_clusters(clusters_of(c00="ab"), clusters_of(c00="cd"))


def test_a_grown_study_keeps_its_cluster_names(tmp_path):
    libraries = small(6, n_patients=4)
    first = embedded(libraries[:3])
    first, _ = ig.cluster(first, resolutions=[0.5], n_stability=1, seed=1)
    # Names that no new run would give by itself.
    first.obs["cluster"] = first.obs["cluster"].cat.rename_categories(lambda name: f"c{int(name[1:]) + 20}")
    first.write_h5ad(tmp_path / "cells.h5ad")
    earlier = ig.read_clusters(tmp_path / "cells.h5ad")
    table = earlier.rename_axis("cell").rename("cluster").reset_index()
    table.to_csv(tmp_path / "cells.tsv", sep="\t", index=False)
    pd.testing.assert_series_equal(ig.read_clusters(tmp_path / "cells.tsv"), earlier)

    grown, _ = ig.cluster(embedded(libraries), resolutions=[0.5], n_stability=1, seed=1)
    by_itself = grown.obs["cluster"].astype(str)
    grown, names = ig.follow_earlier(grown, earlier)
    followed = grown.obs["cluster"].astype(str)
    assert adjusted_rand_score(by_itself, followed) == 1
    kept = names[(names["earlier"] != "") & (names["n"] > 0)]
    assert (kept["cluster"] == kept["earlier"]).all()
    assert names["n"].sum() == grown.n_obs
    assert set(earlier) <= set(names["earlier"])
    same = followed[earlier.index] == earlier
    assert same.groupby(earlier).mean()[kept["earlier"]].gt(0.5).all()
    assert same.mean() > 0.8


def test_without_an_earlier_run_names_stay_and_are_listed():
    cells, _ = ig.cluster(embedded(small(6, n_patients=2)), resolutions=[0.5], n_stability=1, seed=1)
    before = cells.obs["cluster"].tolist()
    cells, names = ig.follow_earlier(cells, None)
    assert cells.obs["cluster"].tolist() == before
    assert names["n"].sum() == cells.n_obs
    assert (names["earlier"] == "").all()


def test_an_earlier_file_without_clusters_is_explained(tmp_path):
    path = tmp_path / "old.tsv"
    path.write_text("cell\tgroup\nL01:a\tc00\n")
    with pytest.raises(ValueError, match=r"old\.tsv: column cluster is missing"):
        ig.read_clusters(path)
    path.write_text("cell\tcluster\nL01:a\tc00\nL01:a\tc01\n")
    with pytest.raises(ValueError, match="cell L01:a occurs twice"):
        ig.read_clusters(path)


def test_ties_in_size_are_named_by_the_smallest_member():
    names = ig.name_clusters(np.array([2, 2, 0, 0, 1]), np.array(["d", "b", "c", "a", "e"]))
    assert names.tolist() == ["c01", "c01", "c00", "c00", "c02"]
