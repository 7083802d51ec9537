"""Robustness: effects without each centre as recomputed from scratch, AUC as counted, and a centre that carries all."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cohorts import CONFIG, composition, feature_rows, labels_table, patients_table
from livermet import response, statistics
from livermet.robustness import COLUMNS, robustness


def run(features, y, centre, *, labels=None, **changes):
    config = {**CONFIG, **changes}
    labels = labels_table(y) if labels is None else labels
    patients = patients_table([f"C{c}" for c in centre])
    options = {"goes_with": ["T0_pre"], "scope": "cohort", "seed": 1}
    table = response.associate(features, labels, patients, config=config, **options)
    return table, robustness(table, features, labels, patients, config=config)


def study(*, n=36, parts=4):
    rng = np.random.default_rng(0)
    y, centre = np.tile([0, 1], n // 2), np.arange(n) // 2 % 3
    return rng, y, centre, rng.normal(size=(n, parts))


def test_each_centre_is_left_out_once():
    _, y, centre, values = study()
    table, firm = run(feature_rows(values, family="zone"), y, centre)
    assert list(firm.columns) == COLUMNS
    firm = firm.set_index("feature")
    without = np.array(
        [
            statistics.standardised_difference(values[centre != c], y[centre != c], centre[centre != c]).effect
            for c in range(3)
        ]
    )
    np.testing.assert_allclose(firm["effect_smallest"], without.min(axis=0))
    np.testing.assert_allclose(firm["effect_largest"], without.max(axis=0))
    np.testing.assert_allclose(
        firm["same_sign_share"], (np.sign(without) == np.sign(firm["effect"].to_numpy())).mean(axis=0)
    )
    assert set(firm["n_centres_left_out"]) == {3}
    rows = table.set_index(["analysis", "feature"])
    np.testing.assert_allclose(firm["effect"], rows.loc["primary", "effect"])
    np.testing.assert_allclose(firm["effect_unadjusted"], rows.loc["sensitivity", "effect"])


def test_the_area_is_the_share_of_ordered_pairs():
    _, y, centre, values = study()
    _, firm = run(feature_rows(values, family="zone"), y, centre)
    for name, column in zip(firm["feature"], values.T, strict=True):
        row = firm.set_index("feature").loc[name]
        pairs = column[y == 1][:, None] > column[y == 0][None, :]
        assert row["auc"] == pytest.approx(pairs.mean())
        assert row["auc"] == pytest.approx(stats.mannwhitneyu(column[y == 1], column[y == 0]).statistic / 18**2)
        assert 0 < row["auc_low"] < row["auc"] < row["auc_high"] < 1
    apart = values + 100 * y[:, None]
    _, firm = run(feature_rows(apart, family="zone"), y, centre)
    assert (firm["auc"] == 1).all() and (firm["auc_low"] < 1).all()


def test_a_direction_that_hangs_on_one_centre_shows():
    rng, y, centre, values = study(n=60)
    values[:, 0] = rng.normal(0, 0.3, 60) + y * np.where(centre == 0, 4, -0.6)
    values[:, 1] = rng.normal(0, 0.3, 60) + y
    _, firm = run(feature_rows(values, family="zone"), y, centre)
    firm = firm.set_index("feature")
    assert firm.loc["f00", "effect_smallest"] < 0 < firm.loc["f00", "effect"]
    assert firm.loc["f00", "same_sign_share"] < 1
    assert firm.loc["f01", "same_sign_share"] == 1


def test_one_centre_leaves_nothing_out_and_the_plain_effect_is_the_effect():
    _, y, _, values = study()
    _, firm = run(feature_rows(values, family="zone"), y, np.zeros(36, int))
    assert (firm["n_centres_left_out"] == 0).all()
    assert firm[["effect_smallest", "effect_largest", "same_sign_share"]].isna().all(axis=None)
    np.testing.assert_allclose(firm["effect_unadjusted"], firm["effect"])


@pytest.mark.parametrize("kind", ["continuous", "survival"])
def test_labels_without_classes_have_no_area(kind):
    rng, y, centre, values = study()
    labels = labels_table(rng.integers(10, 900, 36), name="os", kind=kind, events=np.ones(36))
    _, firm = run(feature_rows(values, family="zone"), y, centre, labels=labels, primary_label="os")
    assert len(firm) == 4
    assert firm["auc"].isna().all()
    assert firm["effect_smallest"].notna().all()


def test_parts_refused_before_the_test_are_no_part_of_the_log_ratios():
    rng, y, centre, _ = study()
    features = feature_rows(composition(rng, y, centre, parts=5), family="composition_type", n_cells=True)
    features["source"] = np.where(features["feature"] == "f04", "differential.tsv", "cells.h5ad")
    _, firm = run(features, y, centre)
    _, other = run(features[features["feature"] != "f04"], y, centre)
    pd.testing.assert_frame_equal(firm, other)


def test_families_that_are_refused_or_of_one_centre_stand_beside_the_others():
    _, y, centre, values = study()
    one = np.where((centre == 0)[:, None], values, np.nan)[:, :2]
    few = np.where((np.arange(36) < 2)[:, None], values, np.nan)[:, :1]
    parts = [feature_rows(values, family="zone"), feature_rows(one, family="spatial", modality="visium")]
    table, firm = run(pd.concat([*parts, feature_rows(few, family="niche_score", modality="xenium")]), y, centre)
    assert set(table.loc[table["status"] == "refused", "modality"]) == {"xenium"}
    left_out = firm.groupby("modality")["n_centres_left_out"].unique().map(list).to_dict()
    assert left_out == {"scrna": [3], "visium": [0]}


def test_nothing_tested_gives_an_empty_table():
    features = feature_rows(np.random.default_rng(1).normal(size=(4, 1)), family="zone")
    table, firm = run(features, [1, 0, 1, 0], [0] * 4)
    assert (table["status"] == "refused").all()
    assert firm.empty and list(firm.columns) == COLUMNS
