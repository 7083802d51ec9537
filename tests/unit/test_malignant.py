"""Malignant cells per patient: subtypes, PurIST, shares with intervals, arms, and the figure."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from statsmodels.stats.proportion import proportion_confint

from livermet import malignant as mg
from livermet.files import read_table, write_table
from livermet.plots.malignant import plot_malignant_states

BASAL = ["GPR87", "KRT6A", "BCAR3", "PTGES", "ITGA3", "C16orf74", "S100A2", "KRT5"]
CLASSICAL = ["REG4", "ANXA10", "GATA6", "CLDN18", "LGALS4", "DDC", "SLC40A1", "CLRN3"]
COEFFICIENTS = np.array([1.994, 2.031, 1.618, 0.922, 1.059, 0.929, 2.505, 0.485])
STATES = ["mal_classical", "mal_basal", "mal_emt", "mal_cycling", "mal_hypoxia"]
OPTIONS = {"min_informative_pairs": 5, "n_bootstrap": 200, "seed": 1}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def pseudobulk(basal, classical, n_cells=50, genes=None):
    """Cells whose counts of each PurIST gene sum to what is given, spread evenly."""
    totals = np.array([*basal, *classical])
    counts = totals // n_cells + (np.arange(n_cells)[:, None] < totals % n_cells)
    return sp.csr_matrix(counts.astype(np.int32)), pd.Index(genes or [*BASAL, *CLASSICAL])


@pytest.mark.parametrize("on", [[], [0, 6], [0, 1, 2, 6], list(range(8))])
def test_purist_is_the_published_sum(on):
    basal = np.where(np.isin(np.arange(8), on), 500, 100)
    found = mg.purist(*pseudobulk(basal, np.full(8, 300)), **OPTIONS)
    expected = -6.815 + COEFFICIENTS[on].sum()
    assert found.logit == pytest.approx(expected)
    assert found.probability == pytest.approx(sigmoid(expected))
    assert found.low == found.high == pytest.approx(found.probability)  # every draw of like cells says the same
    assert found.informative == 8 and found.missing == () and found.reason == ""


def test_purist_counts_informative_pairs_and_states_nothing_with_few():
    basal, classical = [500, 0, 7, 0, 0, 5, 9, 9], [1, 0, 7, 0, 30, 50, 100, 90]
    found = mg.purist(*pseudobulk(basal, classical), **OPTIONS)
    assert found.informative == 5  # three ties, two of them of genes without counts
    assert found.logit == pytest.approx(-6.815 + 1.994)
    few = mg.purist(*pseudobulk(basal, classical), **OPTIONS | {"min_informative_pairs": 6})
    assert np.isnan([few.logit, few.probability, few.low, few.high]).all()
    assert few.reason == "5 informative gene pairs of PurIST, 6 needed"
    genes = [name if name != "REG4" else "OTHER" for name in [*BASAL, *CLASSICAL]]
    lacking = mg.purist(*pseudobulk(basal, classical, genes=genes), **OPTIONS)
    assert lacking.informative == 4 and lacking.missing == ("REG4",)
    assert "not measured: REG4" in lacking.reason
    renamed = [name if name != "C16orf74" else "CLMB" for name in [*BASAL, *CLASSICAL]]
    assert mg.purist(*pseudobulk(basal, classical, genes=renamed), **OPTIONS) == found


def test_purist_interval_is_wide_where_a_few_cells_decide():
    basal, classical = np.full(8, 100), np.full(8, 300)
    counts, genes = pseudobulk(basal, classical)
    one = counts.toarray()
    one[0, 6] += 205  # S100A2 of one cell
    unsure = mg.purist(sp.csr_matrix(one), genes, **OPTIONS)
    assert unsure.low == pytest.approx(sigmoid(-6.815)) and unsure.high == pytest.approx(sigmoid(-6.815 + 2.505))
    assert unsure == mg.purist(sp.csr_matrix(one), genes, **OPTIONS)


def test_where_high_begins_is_learnt_and_else_fixed():
    rng = np.random.default_rng(0)
    apart = np.concatenate([rng.normal(-2, 1, 300), rng.normal(2, 1, 100)])
    p = mg.high_probability(apart, min_z=1.5)
    assert (p[300:] > 0.5).mean() > 0.9 and (p[:300] > 0.5).mean() < 0.05
    assert p.sum() == pytest.approx(100, abs=15)
    assert (np.diff(p[np.argsort(apart)]) >= 0).all()
    order = rng.permutation(400)
    np.testing.assert_allclose(mg.high_probability(apart[order], min_z=1.5), p[order])
    one = rng.normal(0, 1, 400)
    assert (mg.high_probability(one, min_z=1.5) == (one >= 1.5)).all()
    for score in (apart[:20], np.ones(80), np.zeros(0)):
        assert (mg.high_probability(score, min_z=1.5) == (score >= 1.5)).all()


def cohort(shares, n=80, seed=0, modality="scrna"):
    """Malignant cells with planted programmes, one patient per entry (shares of basal, intermediate, neither)."""
    rng = np.random.default_rng(seed)
    parts = []
    for i, share in enumerate(shares):
        kind = rng.choice(["basal", "intermediate", "none", "classical"], size=n, p=[*share, 1 - sum(share)])
        high = np.isin(kind, ["basal", "intermediate"]), np.isin(kind, ["classical", "intermediate"])
        part = pd.DataFrame({"kind": kind, "patient_id": f"P{i}", "library_id": f"L{i}"})
        part["score_mal_basal"], part["score_mal_classical"] = (rng.normal(np.where(h, 4, -0.5), 1) for h in high)
        parts.append(part)
    obs = pd.concat(parts, ignore_index=True).assign(
        timepoint="T0_pre", tissue="liver_met", modality=modality, compartment="epithelial", malignant="malignant"
    )
    obs["cell_state"] = np.where(obs["kind"] == "basal", "mal_basal", "")
    for state in STATES[2:]:
        obs[f"score_{state}"] = 0.0
    obs.index = [f"c{i:05d}" for i in range(len(obs))]
    return obs


def summary(obs, arms=None, **options):
    counts = sp.csr_matrix(np.tile([*[1] * 8, *[3] * 8], (len(obs), 1)))
    cells = ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=[*BASAL, *CLASSICAL]))
    arms = ARMS if arms is None else arms
    given = {"states": STATES, "min_state_z": 1.5, "min_cells": 20} | OPTIONS | options
    return mg.summarise_malignant(cells, arms, cells.X, **given)


ARMS = pd.DataFrame(
    [
        ("P0", "12p", "gain", "gain", ""),
        ("P0", "17p", "gain", "loss", ""),
        ("P0", "3p", "loss", "", ""),
        ("P0", "9p", "neutral", "loss", ""),
        ("P1", "12p", "not_tested", "gain", "10 epithelial cells, 20 needed"),
    ],
    columns=["patient_id", "arm", "called", "pdac", "reason"],
)


def test_subtypes_of_planted_cells():
    obs = cohort([(0.2, 0.1, 0.3), (0.5, 0.1, 0.1)])
    other = obs.iloc[:5].assign(score_mal_basal=np.nan, score_mal_classical=np.nan, kind="")
    other.index = [f"x{i}" for i in range(5)]
    every = pd.concat([other, obs])
    label = mg.subtypes(every, min_z=1.5)
    assert (np.asarray(label) == every["kind"].to_numpy()).mean() > 0.9
    assert set(label[:5]) == {""}
    probability = mg.subtype_probabilities(every, min_z=1.5)
    assert probability.iloc[:5].isna().all(axis=None)
    assert (probability.iloc[5:].sum(axis=1) <= 1 + 1e-9).all()


def test_modalities_have_their_own_beginning_of_high():
    cells, nuclei = cohort([(0.3, 0.0, 0.2)]), cohort([(0.3, 0.0, 0.2)], seed=1, modality="snrna")
    nuclei.index = nuclei.index + "n"
    nuclei[["score_mal_basal", "score_mal_classical"]] *= 0.4
    both = pd.concat([cells, nuclei])
    assert (np.asarray(mg.subtypes(both, min_z=1.5)) == both["kind"].to_numpy()).mean() > 0.85


def test_shares_per_patient_follow_the_truth():
    basal = np.linspace(0.02, 0.6, 16)
    obs = cohort([(b, 0.05, 0.2) for b in basal])
    table = summary(obs).set_index("patient_id")
    counts = pd.crosstab(obs["patient_id"], obs["kind"])
    truth = counts["basal"] / (counts.sum(axis=1) - counts["none"])
    assert np.corrcoef(table["fraction_basal"], truth)[0, 1] > 0.95
    assert (table["fraction_basal"] - truth).abs().max() < 0.1
    parts = table[[f"fraction_{name}" for name in mg.SUBTYPES]]
    np.testing.assert_allclose(parts.sum(axis=1), 1)
    planted = pd.Series(basal / 0.8, index=[f"P{i}" for i in range(16)]).reindex(table.index)
    assert table["fraction_basal"].corr(planted) > 0.9
    inside = (table["fraction_basal_low"] <= planted) & (planted <= table["fraction_basal_high"])
    assert inside.mean() >= 0.8
    np.testing.assert_allclose(table["fraction_mal_basal"], counts["basal"] / 80)


def test_the_interval_is_wilsons_and_grows_with_disagreement_between_libraries():
    shares, one = np.repeat([1.0, 0.0], [12, 28]), np.full(40, "L1")
    share, low, high = mg.share_interval(shares, np.ones(40), one)
    assert share == pytest.approx(0.3)
    assert (low, high) == pytest.approx(proportion_confint(12, 40, method="wilson"))
    alike = np.where(np.arange(40) % 2, "L1", "L2")
    assert mg.share_interval(shares, np.ones(40), alike) == pytest.approx((share, low, high))
    apart = np.where(np.arange(40) < 20, "L1", "L2")
    _, wide_low, wide_high = mg.share_interval(shares, np.ones(40), apart)
    assert wide_low < low and wide_high > high
    none = mg.share_interval(np.zeros(40), np.ones(40), one)
    assert none[:2] == (0.0, 0.0) and none[2] > 0.05
    assert np.isnan(mg.share_interval(np.zeros(3), np.zeros(3), one[:3])).all()


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(400):
        p = rng.uniform(0.05, 0.6)
        _, low, high = mg.share_interval((rng.random(60) < p).astype(float), np.ones(60), np.full(60, "L"))
        hits.append(low <= p <= high)
    assert 0.92 <= np.mean(hits) <= 0.98


def test_numbers_arms_and_reasons_stand_in_each_row(tmp_path):
    obs = cohort([(0.3, 0.0, 0.2)] * 3)
    obs.loc[obs["patient_id"] == "P1", "malignant"] = "not_tested"
    few = np.flatnonzero(obs["patient_id"] == "P2")[15:]
    obs.iloc[few, obs.columns.get_loc("malignant")] = "ambiguous"
    table = summary(obs)
    assert list(table.columns) == mg.malignant_columns(STATES)
    write_table(table, tmp_path / "malignant.tsv")
    table = read_table(tmp_path / "malignant.tsv").set_index("patient_id")
    numbers = table[["n_malignant", "n_ambiguous", "n_not_tested"]]
    assert numbers.to_numpy().tolist() == [[80, 0, 0], [0, 0, 80], [15, 65, 0]]
    arms = ["n_arms_called", "n_pdac_arms", "n_contrary_arms"]
    assert table.loc["P0", arms].tolist() == [3, 1, 1]
    assert table.loc["P1", arms].isna().all()
    assert table.loc["P1", "reason"] == "10 epithelial cells, 20 needed; 0 malignant cells, 20 needed"
    assert table.loc["P2", "reason"] == "15 malignant cells, 20 needed"
    assert table.loc[["P1", "P2"], ["fraction_basal", "purist_logit", "score_mal_basal"]].isna().all(axis=None)
    assert table.loc["P0", "purist_probability"] == pytest.approx(sigmoid(-6.815))
    assert table.loc["P0", "purist_informative_pairs"] == 8


def test_order_of_cells_changes_nothing_and_no_cells_give_an_empty_table():
    obs = cohort([(0.3, 0.1, 0.2), (0.1, 0.0, 0.4)])
    shuffled = obs.sample(frac=1, random_state=1).astype({"patient_id": "category", "malignant": "category"})
    pd.testing.assert_frame_equal(summary(obs), summary(shuffled))
    empty = summary(obs.iloc[:0])
    assert empty.empty and list(empty.columns) == mg.malignant_columns(STATES)


def test_recurrent_arms_are_counted_over_patients():
    more = ARMS.iloc[:2].assign(patient_id="P2", called=["loss", "loss"])
    table = mg.summarise_pdac_arms(pd.concat([ARMS, more])).set_index("arm")
    assert table.loc["12p", ["expected", "n_tested", "n_found", "n_contrary"]].tolist() == ["gain", 2, 1, 1]
    assert table.loc["17p", ["expected", "n_tested", "n_found", "n_contrary"]].tolist() == ["loss", 2, 1, 1]
    assert table.loc["9p", ["n_tested", "n_found"]].tolist() == [1, 0]
    assert table.loc["8q", "n_tested"] == 0
    assert mg.summarise_pdac_arms(ARMS.iloc[:0])["n_tested"].eq(0).all()


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def test_the_figure_shows_patients_by_basal_share_or_says_why_not():
    obs = cohort([(0.1, 0.0, 0.2), (0.6, 0.0, 0.2), (0.3, 0.0, 0.2)])
    obs.iloc[-70:, obs.columns.get_loc("malignant")] = "normal"
    table = summary(obs)
    figure = plot_malignant_states(table)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["P1", "P0", "P2"]
    assert "n = 2 of 3" in words(figure) and "too few cells" in words(figure)
    figure = plot_malignant_states(table[table["patient_id"] == "P2"])
    assert "the most of any is 10" in words(figure)
    assert "No cells" in words(plot_malignant_states(table.iloc[:0]))
