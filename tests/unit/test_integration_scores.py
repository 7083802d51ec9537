"""Scores of integration on embeddings made by hand, over-correction that is planted, and the choice."""

import json

import harmonypy
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.neighbors import NearestNeighbors

from livermet import integrate as ig
from livermet import integration_scores as scores
from livermet.markers import compartment_of
from livermet.plots.integration import plot_integration
from planted_cells import planted_cells, rows_of

TYPES = ["malignant_ductal", "hepatocyte", "t_CD8_effector", "tam_SPP1", "caf_pan", "endothelial_vascular"]


def near(matrix, k=90):
    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(matrix).kneighbors()


def mixing(matrix, batch, group):
    found = scores._mixing_and_biology(matrix, batch, group, rng=np.random.default_rng(0))
    return {name: value for name, (value, _) in found.items()}


def three_groups(rng, n=600):
    """Cells of three groups far apart, in three batches; group 2 is in batch 0 alone."""
    group = np.repeat([0, 1, 2], n // 3)
    batch = np.where(group == 2, 0, np.arange(n) % 3)
    return rng.normal(size=(n, 5)) + 12 * np.eye(5)[group], batch, group


def test_lisi_agrees_with_the_implementation_of_its_authors():
    rng = np.random.default_rng(1)
    matrix, batch, _ = three_groups(rng)
    matrix[:, 0] += batch
    distance, index = near(matrix)
    ours = scores.lisi(scores.perplexity_weights(distance), index, batch)
    theirs = harmonypy.compute_lisi(matrix, pd.DataFrame({"batch": batch}), ["batch"], perplexity=30)[:, 0]
    assert np.corrcoef(ours, theirs)[0, 1] > 0.999
    np.testing.assert_allclose(ours, theirs, atol=0.05)


def test_weights_have_a_third_of_the_neighbours_as_perplexity():
    distance, _ = near(np.random.default_rng(0).normal(size=(200, 4)))
    weights = scores.perplexity_weights(distance)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(np.exp(-(weights * np.log(weights)).sum(axis=1)), 30, rtol=1e-3)


def test_mixed_and_unmixed_batches():
    rng = np.random.default_rng(2)
    mixed, batch, group = three_groups(rng)
    apart = mixed + 30 * np.eye(5)[batch + 2]
    good, bad = mixing(mixed, batch, group), mixing(apart, batch, group)
    shared = group < 2
    good |= {"ilisi": mixing(mixed[shared], batch[shared], group[shared])["ilisi"]}
    bad |= {"ilisi": mixing(apart[shared], batch[shared], group[shared])["ilisi"]}
    # Thirty effective neighbours of three batches are never in quite equal parts.
    assert good["ilisi"] > 0.8
    assert bad["ilisi"] == pytest.approx(0, abs=1e-6)
    assert good["batch_asw"] > 0.95
    assert bad["batch_asw"] < 0.3
    assert good["batch_variance"] > bad["batch_variance"] + 0.3


def test_kept_and_lost_groups():
    rng = np.random.default_rng(3)
    kept, batch, group = three_groups(rng)
    lost = rng.normal(size=kept.shape)
    good, bad = mixing(kept, batch, group), mixing(lost, batch, group)
    assert good["clisi"] == pytest.approx(1, abs=1e-6)
    assert bad["clisi"] < 0.3
    assert good["group_asw"] > 0.75
    assert bad["group_asw"] == pytest.approx(0.5, abs=0.05)
    only_isolated_lost = kept.copy()
    only_isolated_lost[group == 2] = kept[group == 0] + 0.1
    found = mixing(only_isolated_lost, batch, group)
    assert good["isolated_group"] > 0.75
    assert found["isolated_group"] < 0.55


def test_explained_variance_by_hand():
    matrix = np.array([[0.0, 0], [2, 0], [10, 0], [12, 0]])
    assert scores.explained_variance(matrix, np.array([0, 0, 1, 1])) == pytest.approx(100 / 104)
    assert scores.explained_variance(matrix, np.array([0, 1, 0, 1])) == pytest.approx(4 / 104)
    assert scores.explained_variance(np.zeros((4, 2)), np.array([0, 0, 1, 1])) == 0


def test_neighbours_stay_within_libraries_and_moving_a_library_keeps_them():
    rng = np.random.default_rng(4)
    matrix = rng.normal(size=(90, 4))
    library = np.repeat([0, 1, 2], [40, 45, 5])
    before = scores.library_neighbours(matrix, library)
    assert (before[85:] == -1).all()
    assert (library[before[:85]] == library[:85, None]).all()
    moved = matrix + 50 * library[:, None]
    share = scores.kept_share(before, scores.library_neighbours(moved, library))
    assert (share[:85] == 1).all()
    assert np.isnan(share[85:]).all()
    random = scores.kept_share(before, scores.library_neighbours(rng.normal(size=(90, 4)), library))
    assert np.nanmean(random) == pytest.approx(10 / 42, abs=0.08)


def test_agreement_of_neighbours_over_patients():
    rng = np.random.default_rng(5)
    state = rng.normal(size=(300, 2))
    patient = np.arange(300) % 3
    everyone = np.arange(300)
    truthful = state + 40 * (patient == 0)[:, None]  # one patient lies apart: its nearest cells of others decide
    assert scores.neighbour_agreement(state, state, patient, everyone) > 0.9
    assert abs(scores.neighbour_agreement(rng.normal(size=(300, 2)), state, patient, everyone)) < 0.2
    reflected = np.where((patient == 0)[:, None], -state, state)
    assert scores.neighbour_agreement(reflected, state, patient, everyone) < 0.3
    assert scores.neighbour_agreement(truthful, state, patient, np.flatnonzero(patient > 0)) > 0.9
    assert np.isnan(scores.neighbour_agreement(state, np.zeros((300, 0)), patient, everyone))


def test_patient_mixing():
    rng = np.random.default_rng(6)
    matrix, patient = rng.normal(size=(400, 4)), np.arange(400) % 4
    assert scores.patient_mixing(matrix, patient) == pytest.approx(1, abs=0.05)
    assert scores.patient_mixing(matrix + 50 * patient[:, None], patient) == 0


def test_components_without_genes_differ_but_resemble():
    rng = np.random.default_rng(7)
    factor = rng.normal(size=(200, 3))
    counts = rng.poisson(np.exp(factor @ rng.normal(scale=0.4, size=(3, 300)) + 1))
    variable = ig.log_normalise(sp.csr_matrix(counts))
    plain = ig.principal_components(variable, n_pcs=3, seed=1).astype(float)
    draws = scores.without_genes(plain, variable, rng=np.random.default_rng(0))
    assert len(draws) == 5
    for draw in draws:
        assert not np.allclose(draw, plain, atol=0.01)
        # Without a fifth of the genes, about four fifths of each score are left.
        slope = (draw * plain).sum(axis=0) / (plain**2).sum(axis=0)
        np.testing.assert_allclose(slope, 0.8, atol=0.12)


@pytest.fixture(scope="module")
def planted():
    libraries = planted_cells(seed=1, n_patients=4, n_cells=220, n_genes=1500, types=TYPES, novel=0)
    cells = ig.pool_libraries(libraries, rows_of(libraries), min_genes_shared=0.5)
    cells = ig.embed(cells, batch_key="library_id", n_hvg=500, n_pcs=15, n_neighbours=15, harmony=True, seed=1)
    truth = pd.concat([library.obs["true_type"] for library in libraries]).loc[cells.obs_names]
    return cells, truth.map(compartment_of())


def scored(cells, groups, embedding=None):
    cells = cells.copy()
    if embedding is not None:
        cells.obsm["X_integrated"] = embedding
    table = scores.score_embeddings(cells, groups, batch_key="library_id", seed=1)
    return cells, table


def test_integration_of_batches_is_chosen(planted):
    cells, table = scored(*planted)
    assert list(table.columns) == list(scores.COLUMNS)
    assert set(table["kind"]) == {"batch mixing", "biology kept", "over-correction", "overall"}
    row = table.set_index("score")
    assert row.loc["ilisi", "better"] == "integrated"
    overall = 0.6 * row.loc["biology_kept", "plain"] + 0.4 * row.loc["batch_mixing", "plain"]
    assert row.loc["overall", "plain"] == pytest.approx(overall)
    cells, table = scores.choose_embedding(cells, table, harmony="auto", n_neighbours=15)
    used = table.iloc[-1]
    assert (used["score"], used["plain"], used["integrated"]) == ("used", 0, 1)
    note = json.loads(cells.uns["livermet"]["embedding"])
    assert note["used"] == "X_integrated"
    assert note["reason"] == used["meaning"]
    assert "no over-correction" in note["reason"]


def destroyed(cells, epithelial):
    embedding = cells.obsm["X_integrated"].copy()
    noise = np.random.default_rng(0).normal(size=(epithelial.sum(), embedding.shape[1]))
    embedding[epithelial] = embedding[epithelial].mean(axis=0) + noise * embedding[epithelial].std(axis=0)
    return embedding


def types_swapped(cells, groups):
    """In half the libraries the cells of two groups change places as a whole: within each library all stays as it was."""
    embedding = cells.obsm["X_integrated"].copy()
    half = cells.obs["library_id"].astype(str).isin(["L01", "L02"]).to_numpy()
    one, two = ((groups == name).to_numpy() for name in ("lymphoid", "myeloid"))
    shift = embedding[two].mean(axis=0) - embedding[one].mean(axis=0)
    embedding[half & one] += shift
    embedding[half & two] -= shift
    return embedding


@pytest.mark.parametrize("plant", ["destroyed", "swapped"])
def test_planted_over_correction_rules_integration_out(planted, plant):
    cells, groups = planted
    epithelial = (groups == "epithelial").to_numpy()
    embedding = destroyed(cells, epithelial) if plant == "destroyed" else types_swapped(cells, groups)
    cells, table = scored(cells, groups, embedding)
    seen = "kept_neighbours_epithelial" if plant == "destroyed" else "type_agreement"
    row = table.set_index("score").loc[seen]
    assert row["integrated"] < row["limit"]
    assert row["better"] == "plain"
    cells, table = scores.choose_embedding(cells, table, harmony="auto", n_neighbours=15)
    assert ig.embedding_note(cells)["used"] == "X_pca"
    assert "over-corrects" in table.iloc[-1]["meaning"]
    expected = ig.neighbour_graph(cells.obsm["X_pca"], n_neighbours=15)[0]
    assert abs(cells.obsp["connectivities"] - expected).max() == 0


def test_the_config_may_decide(planted):
    cells, groups = planted
    embedding = destroyed(cells, (groups == "epithelial").to_numpy())
    cells, table = scored(cells, groups, embedding)
    cells, table = scores.choose_embedding(cells, table, harmony=True, n_neighbours=15)
    assert ig.embedding_note(cells) == {"used": "X_integrated", "reason": "integrated: integrate: harmony is true"}
    options = {"batch_key": "library_id", "n_hvg": 500, "n_pcs": 15, "n_neighbours": 15}
    plain = ig.embed(cells.copy(), harmony=False, seed=1, **options)
    table = scores.score_embeddings(plain, groups, batch_key="library_id", seed=1)
    assert table["integrated"].isna().all()
    plain, table = scores.choose_embedding(plain, table, harmony=False, n_neighbours=15)
    assert ig.embedding_note(plain)["used"] == "X_pca"
    assert "harmony is false" in table.iloc[-1]["meaning"]


def test_scores_don_t_depend_on_the_order_of_groups_and_repeat(planted):
    cells, groups = planted
    one = scored(cells, groups)[1]
    two = scored(cells, groups.iloc[::-1])[1]
    pd.testing.assert_frame_equal(one, two)


def test_without_groups_biology_cannot_be_scored_and_plain_is_used(planted):
    cells, groups = planted
    for none in (groups.iloc[:0], groups.where(groups.isna(), "all"), groups.where(groups.isna(), "")):
        table = scored(cells, none)[1]
        row = table.set_index("score")
        assert np.isnan(row.loc["clisi", "plain"])
        assert np.isnan(row.loc["state_agreement", "plain"])
        assert not np.isnan(row.loc["ilisi", "plain"])
        used, reason = scores.decide(table)
        assert used == "X_pca"
        assert "coarse groups" in reason


def test_one_batch_and_few_cells_are_plain_for_a_reason(planted):
    cells, groups = planted
    options = {"batch_key": "library_id", "n_hvg": 300, "n_pcs": 10, "n_neighbours": 10, "harmony": True, "seed": 1}
    one = cells[cells.obs["library_id"] == "L01"].copy()
    few = cells[:: cells.n_obs // 40].copy()
    for part, words in ((one, "one batch only"), (few, "too few to align")):
        part = ig.embed(part, **options)
        table = scores.score_embeddings(part, groups, batch_key="library_id", seed=1)
        part, table = scores.choose_embedding(part, table, harmony="auto", n_neighbours=10)
        assert words in ig.embedding_note(part)["reason"]
        assert table.iloc[-1]["plain"] == 1
        np.testing.assert_array_equal(part.obsm["X_pca"], part.obsm["X_integrated"])


def test_no_cells_leave_a_table_with_the_reason():
    cells = ig.pool_libraries([], [], min_genes_shared=0.5)
    table = scores.score_embeddings(cells, pd.Series(dtype=str), batch_key="library_id", seed=1)
    cells, table = scores.choose_embedding(cells, table, harmony="auto", n_neighbours=15)
    assert len(table) == 1
    assert "no single-cell library" in table["meaning"].item()
    figure = plot_integration(table, scores.epithelial_axes(cells, pd.Series(dtype=str), seed=1))
    assert "no single-cell library" in figure.texts[0].get_text()


def test_figure_shows_every_score_and_both_embeddings(planted):
    cells, groups = planted
    cells, table = scored(cells, groups)
    cells, table = scores.choose_embedding(cells, table, harmony="auto", n_neighbours=15)
    axes = scores.epithelial_axes(cells, groups, seed=1)
    assert set(axes["embedding"]) == {"plain", "integrated"}
    assert len(axes) == 2 * (groups == "epithelial").sum()
    figure = plot_integration(table, axes)
    left = figure.subfigs[0].axes[0]
    shown = table[(table["kind"] != "choice") & table["plain"].notna()]
    assert len(left.get_yticks()) == len(shown)
    assert [panel.get_title(loc="left") for panel in figure.subfigs[1].axes] == [
        "Epithelial cells, plain",
        "Epithelial cells, integrated",
    ]
    figure.canvas.draw()
