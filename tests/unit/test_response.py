"""The response engine: planted signals, nulls, refusals that fire and don't, and the words of the verdict."""

import re

import numpy as np
import pandas as pd
import pytest

from cohorts import CONFIG, composition, feature_rows, ids, labels_table, patients_table
from livermet import cox, refusals, response
from livermet.catalogue import label_timepoints
from livermet.robustness import robustness
from livermet.statistics import clr, median_factor, permutation_p
from livermet.verdict import verdict

SIX_CENTRES = [0.3, 0.25, 0.2, 0.1, 0.1, 0.05]


def run(features, y, centre, *, scope="cohort", labels=None, deviating=(), **changes):
    config = {**CONFIG, **changes}
    return response.associate(
        features,
        labels_table(y) if labels is None else labels,
        patients_table([f"C{c}" for c in centre]),
        config=config,
        goes_with=label_timepoints(config["primary_label"], {config["primary_label"]: {}}),
        scope=scope,
        seed=1,
        deviating=deviating,
    )


@pytest.fixture(scope="module")
def cohort():
    """64 patients of six centres, two planted parts of twelve."""
    rng = np.random.default_rng(0)
    y = (rng.random(64) < 0.33).astype(int)
    centre = rng.choice(6, 64, p=SIX_CENTRES)
    beta = np.zeros(12)
    beta[[1, 5]] = 1.2, -1.2
    counts = composition(rng, y, centre, beta=beta)
    return y, centre, feature_rows(counts, family="composition_type", n_cells=True)


def declared(*names, family="composition_type", modality="scrna"):
    return [{"modality": modality, "family": family, "feature": name} for name in names]


def primary(table):
    return table[table["analysis"] == "primary"].set_index("feature")


def test_planted_parts_are_found_and_the_table_has_the_agreed_columns(cohort):
    y, centre, features = cohort
    table = run(features, y, centre, confirmatory=declared("f01", "f05"), n_permutations=1999)
    assert list(table.columns) == response.COLUMNS
    rows = primary(table)
    assert (rows.loc[["f01", "f05"], "q"] <= 0.05).all()
    assert rows.loc["f01", "effect"] > 0 > rows.loc["f05", "effect"]
    assert (rows["ci_low"] < rows["effect"]).all()
    assert (rows["effect"] < rows["ci_high"]).all()
    assert set(rows["adjusted_for"]) == {"centre"}
    assert rows.loc["f01", ["n_ref", "n_alt", "n_missing"]].tolist() == [64 - y.sum(), y.sum(), 0]
    assert set(table["role"]) == {"confirmatory", "exploratory"}
    sensitivity = table[table["analysis"] == "sensitivity"]
    assert sensitivity["q"].isna().all()
    assert sensitivity["adjusted_for"].value_counts().to_dict() == {"": 12, "centre; beta-binomial": 12}
    by_counts = sensitivity[sensitivity["effect_kind"] == "log_odds_ratio"].set_index("feature")
    assert by_counts.loc["f01", "ci_low"] > 0 > by_counts.loc["f05", "ci_high"]
    assert by_counts["p_method"].str.startswith("likelihood ratio").all()
    assert rows.loc["f01", "minimal_detectable_effect"] > rows.loc["f00", "minimal_detectable_effect"] > 0.5


def test_one_part_moved_by_the_printed_effect_is_found_in_four_of_five_cohorts():
    """Over five seeds of 250 cohorts .71 to .82 with 4, 6, 8 and 20 parts, on average .76, .76, .79 and .78 (a single
    feature by the same test: .73 to .77 at its own effect); without the median's uncertainty .53, .58, .66 and .72."""
    y, one, shares = np.repeat([1, 0], [21, 43]), np.zeros(64, int), {}
    for parts in (4, 6, 8, 20):
        counts = composition(np.random.default_rng(parts), y, one, parts=parts)
        table = run(feature_rows(counts, family="composition_type", n_cells=True), y, one)
        (printed,) = primary(table)["minimal_detectable_effect"].unique()
        found = []
        for seed in range(250):
            values = np.random.default_rng([seed, parts]).normal(size=(64, parts))
            values[:, 0] += printed * np.sqrt(1 - 1 / parts) * y
            values = clr(np.exp(values), pseudocount=0)
            test = permutation_p(values, y, one, n_permutations=199, seed=seed, centre_differences=True)
            found.append(test.p[0] <= 0.05)
        shares[parts] = np.mean(found)
    assert all(0.70 <= share <= 0.85 for share in shares.values()), shares
    assert 0.75 <= np.mean(list(shares.values())) <= 0.85, shares


@pytest.mark.parametrize("kind", ["ordinal", "survival"])
def test_effects_of_other_labels_that_parts_must_have_to_be_found_grow_by_the_same_factor(kind):
    rng = np.random.default_rng(31)
    counts = composition(rng, np.zeros(64), np.zeros(64, int), parts=4)
    values = rng.integers(0, 4, 64) if kind == "ordinal" else rng.integers(50, 900, 64)
    events = rng.random(64) < 0.7 if kind == "survival" else None
    labels = labels_table(values, name="x", kind=kind, events=events)
    tables = [
        primary(
            run(feature_rows(counts, family=family, **options), values, np.zeros(64), labels=labels, primary_label="x")
        )
        for family, options in (("composition_type", {"n_cells": True}), ("zone", {}))
    ]
    parts, single = (table["minimal_detectable_effect"].iloc[0] for table in tables)
    scale = np.arctanh if kind == "ordinal" else np.positive
    factor = median_factor(4, df=np.inf, alpha=0.05, power=0.8)
    assert scale(parts) == pytest.approx(scale(single) * factor)
    assert factor > 1.3


def test_results_do_not_depend_on_row_order_or_on_other_families(cohort):
    y, centre, features = cohort
    plain = run(features, y, centre)
    shuffled = run(features.sample(frac=1, random_state=1), y, centre)
    pd.testing.assert_frame_equal(plain, shuffled)
    other = feature_rows(np.random.default_rng(2).normal(size=(64, 3)), family="zone", modality="visium")
    both = run(pd.concat([features, other]), y, centre)
    pd.testing.assert_frame_equal(plain, both[both["family"] == "composition_type"].reset_index(drop=True))


def test_swapping_the_classes_flips_effects_and_keeps_p(cohort):
    y, centre, features = cohort
    one, two = primary(run(features, y, centre)), primary(run(features, 1 - y, centre))
    np.testing.assert_allclose(one["effect"], -two["effect"])
    np.testing.assert_allclose(one["p"], two["p"])


def test_a_second_row_of_a_patient_is_an_error_and_no_silent_mean(cohort):
    y, centre, features = cohort
    with pytest.raises(ValueError, match="repeat a patient and feature"):
        run(pd.concat([features, features.iloc[:3]]), y, centre)


def test_null_cohorts_are_calibrated():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(40):
        y = (rng.random(40) < 0.4).astype(int)
        centre = rng.choice(6, 40, p=SIX_CENTRES)
        features = feature_rows(composition(rng, y, centre, parts=6), family="composition_type", n_cells=True)
        table = run(features, y, centre, confirmatory=declared("f01", "f02", "f03"), n_permutations=199)
        hits += bool((table["q"][table["role"] == "confirmatory"] <= 0.05).any())
    assert hits <= 6  # binomial(40, .05): more than 6 has probability .003


def test_missing_values_take_the_patient_out_of_that_feature_only():
    rng = np.random.default_rng(4)
    y, centre = np.tile([0, 1], 12), np.repeat([0, 1], 12)
    values = rng.normal(size=(24, 3))
    complete = primary(run(feature_rows(values, family="zone"), y, centre))
    values[:4, 1] = np.nan
    holed = primary(run(feature_rows(values, family="zone"), y, centre))
    assert holed["n"].tolist() == [24, 20, 24]
    assert holed["n_missing"].tolist() == [0, 4, 0]
    np.testing.assert_allclose(holed.loc[["f00", "f02"], "p"], complete.loc[["f00", "f02"], "p"])


def test_rare_features_are_filtered_without_looking_at_the_label(cohort):
    y, centre, _ = cohort
    rare = feature_rows(np.column_stack([np.full((64, 3), 200), np.full(64, 5)]), family="niche", n_cells=True)
    filtered = response.filter_features(rare, config=CONFIG).set_index("feature")["reason"]
    assert filtered["f03"] == "the same value in every patient"
    counts = np.random.default_rng(5).poisson([300, 200, 100, 5], (64, 4))
    counts[:10, 2] = 0
    filtered = response.filter_features(feature_rows(counts, family="niche", n_cells=True), config=CONFIG)
    reasons = filtered.set_index("feature")["reason"]
    assert reasons["f03"] == "fewer than 20 cells or spots in the mean"
    assert reasons["f02"] == "absent in too many patients"
    assert reasons["f00"] == reasons["f01"] == ""
    table = run(feature_rows(counts, family="niche", n_cells=True), y, centre)
    assert set(table["feature"]) == {"f00", "f01"}


def test_an_analyte_of_one_unit_is_measured_where_an_interaction_of_nothing_is_absent():
    values = np.where(np.arange(30) < 20, 0.0, 1.0)[:, None]
    blood = feature_rows(values, family="blood", modality="blood", tissue="blood")
    assert response.filter_features(blood, config=CONFIG)["reason"].tolist() == [""]
    absent = response.filter_features(feature_rows(values, family="interaction"), config=CONFIG)
    assert absent["reason"].tolist() == ["absent in too many patients"]


def test_the_only_part_left_is_not_tested():
    counts = np.column_stack([np.random.default_rng(6).poisson(300, 30), np.ones(30)])
    reasons = response.filter_features(feature_rows(counts, family="niche", n_cells=True), config=CONFIG)["reason"]
    assert (reasons != "").all()


def test_a_declared_feature_never_vanishes(cohort):
    y, centre, features = cohort
    few = features.assign(n_cells=np.where(features["feature"] == "f03", 10, features["n_cells"]))
    rows = primary(run(few, y, centre, confirmatory=declared("f03", "not_there")))
    assert rows.loc["f03", "refusal_code"] == "F01"
    assert rows.loc["not_there", "refusal_code"] == "F02"
    assert rows.loc["not_there", "n"] == 0


def test_a_shifted_dominant_part_does_not_light_up_the_others():
    rng = np.random.default_rng(7)
    false, naive = 0, 0
    for _ in range(8):
        y, centre = (np.arange(64) < 24).astype(int), rng.integers(0, 3, 64)
        counts = composition(rng, y, centre, beta=np.r_[1.5, np.zeros(7)], parts=8)
        table = primary(
            run(feature_rows(counts, family="composition_type", n_cells=True), y, centre, n_permutations=299)
        )
        false += (table.loc["f01":, "q"] <= 0.10).sum()
        shares = feature_rows(counts / counts.sum(axis=1, keepdims=True), family="zone")
        naive += (primary(run(shares, y, centre, n_permutations=299)).loc["f01":, "q"] <= 0.10).sum()
    assert false / 56 <= 0.06
    assert naive / 56 >= 0.25


def test_one_centre_is_tested_without_adjustment_and_said_so():
    rng = np.random.default_rng(8)
    y = np.tile([0, 1], 10)
    table = run(feature_rows(rng.normal(size=(20, 2)), family="zone"), y, np.zeros(20, int))
    assert set(table["analysis"]) == {"primary"}
    assert set(table["adjusted_for"]) == {""}
    assert (table["status"] == "tested").all()


@pytest.mark.parametrize("kind", ["ordinal", "continuous"])
def test_ordinal_and_continuous_labels_go_through_the_same_frame(kind):
    rng = np.random.default_rng(9)
    scores = rng.integers(0, 4, 48) if kind == "ordinal" else rng.normal(size=48)
    values = np.column_stack([scores + rng.normal(0, 0.7, 48), rng.normal(size=48)])
    table = primary(
        run(
            feature_rows(values, family="zone"),
            scores,
            np.arange(48) % 3,
            labels=labels_table(scores, name="depth", kind=kind),
            primary_label="depth",
        )
    )
    assert table.loc["f00", "p"] < 0.02
    assert table.loc["f00", "effect"] > 0.4
    assert set(table["effect_kind"]) == {"spearman_rho"}
    assert table["n_ref"].isna().all()


def survival(rng, n, *, log_hr=0.0, rate=1 / 300):
    """Times with a feature's log hazard ratio, random follow-up, and a feature without one; the labels table."""
    values = rng.normal(size=(n, 2))
    hazard = np.exp(log_hr * values[:, 0])
    time, censored = rng.exponential(1 / (rate * hazard)), rng.uniform(100, 900, n)
    days = np.ceil(np.minimum(time, censored))
    return values, labels_table(days, name="os", kind="survival", events=time <= censored)


def test_a_time_to_an_event_goes_through_the_same_frame():
    rng = np.random.default_rng(21)
    values, labels = survival(rng, 64, log_hr=0.9)
    centre = np.arange(64) % 4
    table = run(feature_rows(values, family="zone"), np.zeros(64), centre, labels=labels, primary_label="os")
    rows = primary(table)
    assert rows.loc["f00", "p"] < 0.01
    assert 0 < rows.loc["f00", "ci_low"] < 0.9 < rows.loc["f00", "ci_high"]
    assert set(table["effect_kind"]) == {"log_hr_per_sd"}
    assert rows["n_ref"].isna().all()
    events = int((labels["event"] == "1").sum())
    assert rows["p_method"].str.contains(f"of log-rank scores, {events} events, within centre").all()
    fitted = cox.per_sd(values, *times_of(labels), strata=centre)
    np.testing.assert_allclose(rows["effect"], fitted.effect)
    assert rows.loc["f00", "minimal_detectable_effect"] == pytest.approx(
        (1.959964 + 0.841621) / np.sqrt(cox.informative_events(*times_of(labels), strata=centre)), rel=1e-5
    )
    # Time runs the other way: who has a higher value has an earlier event, whatever the unit of the time.
    weeks = labels.assign(value=(labels["value"].astype(float) / 7).astype(str))
    again = run(feature_rows(values, family="zone"), np.zeros(64), centre, labels=weeks, primary_label="os")
    pd.testing.assert_frame_equal(table, again)


def times_of(labels):
    return labels["value"].to_numpy(float), labels["event"].to_numpy(float)


def test_survival_of_parts_is_taken_from_the_middle_part():
    rng = np.random.default_rng(22)
    y = rng.normal(size=64)
    counts = composition(rng, y, np.zeros(64, int), beta=np.r_[1.5, np.zeros(5)], parts=6)
    time = np.ceil(rng.exponential(300 * np.exp(-y)))
    labels = labels_table(time, name="os", kind="survival", events=np.ones(64))
    features = feature_rows(counts, family="composition_type", n_cells=True)
    rows = primary(run(features, y, np.zeros(64, int), labels=labels, primary_label="os", n_permutations=999))
    assert rows.loc["f00", "q"] <= 0.1
    assert (rows.loc["f01":, "q"] > 0.1).all()
    assert rows["effect"].median() == pytest.approx(0, abs=0.1)
    assert (rows["ci_low"] < rows["effect"]).all() and (rows["effect"] < rows["ci_high"]).all()


def test_null_survival_is_calibrated_within_uneven_centres():
    rng = np.random.default_rng(23)
    rejected = []
    for k in range(120):
        values, labels = survival(rng, 40)
        centre = rng.choice(6, 40, p=SIX_CENTRES)
        values = values + rng.normal(0, 1, 6)[centre][:, None]
        scores = cox.log_rank_scores(*times_of(labels), strata=centre)
        test = permutation_p(values, scores, centre, n_permutations=199, seed=k)
        rejected += (test.p <= 0.05).tolist()
    # Over 1,200 cohorts of this kind the rate was .050. Standard error of 240 tests: .014.
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.035)


def test_a_time_without_event_is_an_error():
    labels = labels_table([10, 20], name="os", kind="survival", events=[1, 0])
    assert response.read_label(labels, "os").events.tolist() == [1, 0]
    with pytest.raises(ValueError, match="os, patient P01: event ''; expected 0 or 1"):
        response.read_label(labels.assign(event=["1", ""]), "os")


def test_cells_of_blood_are_compared_whatever_tissue_is_chosen():
    rng = np.random.default_rng(24)
    y = np.tile([0, 1], 12)
    counts = composition(rng, y, np.zeros(24, int), parts=4)
    options = {"family": "composition_type", "n_cells": True}
    pbmc = feature_rows(counts, modality="pbmc", tissue="blood_pbmc", **options)
    tumour = feature_rows(composition(rng, y, np.zeros(24, int), parts=4), **options)
    table = run(pd.concat([pbmc, tumour]), y, np.zeros(24, int))
    assert table.groupby("modality")["tissue"].unique().map(list).to_dict() == {
        "pbmc": ["blood_pbmc"],
        "scrna": ["liver_met"],
    }
    alone = run(tumour, y, np.zeros(24, int))
    both = table[table["modality"] == "scrna"].reset_index(drop=True)
    pd.testing.assert_frame_equal(both, alone)
    later = run(pd.concat([pbmc.assign(timepoint="T1_reeval"), tumour]), y, np.zeros(24, int))
    assert set(later["modality"]) == {"scrna"}


def test_blood_is_tested_beside_tissue():
    rng = np.random.default_rng(10)
    y = np.tile([0, 1], 12)
    blood = feature_rows(rng.normal(size=(24, 1)), family="blood", modality="blood", tissue="blood")
    primary_tumour = feature_rows(rng.normal(size=(24, 1)), family="zone", tissue="primary")
    table = run(pd.concat([blood, primary_tumour]), y, np.zeros(24, int))
    assert table["tissue"].tolist() == ["blood"]


# ---------------------------------------------------------------------------------------------------------------------
# Refusals: each fires, and each doesn't


def refused_with(table, code):
    assert (table["status"] == "refused").all()
    assert set(table["refusal_code"]) == {code}
    assert table[["effect", "ci_low", "ci_high", "p", "q"]].isna().all(axis=None)
    assert table["refusal_reason"].str.contains("Lifted by").all()
    return table.iloc[0]


def small(n_alt, n_ref, *, seed=0):
    rng = np.random.default_rng(seed)
    y = np.r_[np.ones(n_alt, int), np.zeros(n_ref, int)]
    return feature_rows(rng.normal(size=(len(y), 2)), family="zone"), y, np.zeros(len(y), int)


def test_r01_too_few_patients_in_a_class():
    row = refused_with(run(*small(2, 10)), "R01")
    assert (row["n"], row["n_ref"], row["n_alt"]) == (12, 10, 2)
    assert (run(*small(4, 10))["status"] == "tested").all()


def test_labels_without_classes_need_patients_who_differ():
    rng = np.random.default_rng(2)
    features = feature_rows(rng.normal(size=(20, 1)), family="zone")
    centre = np.zeros(20, int)
    for others, refused in [(2, True), (3, False)]:
        grades = np.r_[np.full(others, 3), np.full(20 - others, 2)]
        labels = labels_table(grades, kind="ordinal")
        table = run(features, grades, centre, labels=labels)
        assert ((table["refusal_code"] == "R01") == refused).all()
        if not refused:
            assert table["p_method"].str.contains("exploratory only").all()


def test_patients_whose_centre_holds_one_class_alone_carry_no_comparison():
    rng = np.random.default_rng(3)
    y = np.r_[1, np.zeros(8), 1, np.zeros(8), np.ones(6)].astype(int)
    centre = np.repeat([0, 1, 2], [9, 9, 6])
    row = refused_with(run(feature_rows(rng.normal(size=(24, 1)), family="zone"), y, centre), "R01")
    assert "in centres that hold both classes" in row["refusal_reason"]


def test_declared_features_that_holm_could_never_pass_are_refused():
    features, y, centre = small(4, 4)
    names = ["f00", "f01"]
    one = run(features, y, centre, confirmatory=declared("f00", family="zone"))
    assert primary(one)["status"].eq("tested").all()
    both = run(features, y, centre, confirmatory=declared(*names, family="zone"))
    assert both["refusal_code"].eq("R02").all() and len(both) == 2


def test_few_patients_wear_a_badge():
    assert run(*small(4, 10))["p_method"].str.contains("exploratory only").all()
    assert not run(*small(5, 10))["p_method"].str.contains("exploratory only").any()


def test_r02_no_arrangement_can_reach_alpha():
    row = refused_with(run(*small(3, 3)), "R02")
    assert row["smallest_attainable_p"] == pytest.approx(0.10)
    assert (run(*small(3, 5))["status"] == "tested").all()
    refused_with(run(*small(3, 5), planned_looks=2), "R02")


def test_r04_mixed_timepoints_or_tissues():
    features, y, centre = small(6, 8)
    later = features.assign(timepoint="T1_reeval")
    refused_with(run(pd.concat([features, later]), y, centre, timepoints=["T0_pre", "T1_reeval"]), "R04")
    refused_with(run(features, y, centre, tissues=["liver_met", "primary"]), "R04")
    assert (run(pd.concat([features, later]), y, centre)["status"] == "tested").all()


def test_r05_label_aliased_with_centre():
    features, y, _ = small(8, 8)
    refused_with(run(features, y, y), "R05")
    assert (run(features, y, np.tile([0, 1], 8))["status"] == "tested").all()


@pytest.mark.parametrize(
    ("y", "centre", "words"),
    [
        ([1, 1, 0, 0], [0, 0, 1, 1], "no centre"),
        ([1, 0, 1, 1, 0, 0], [0, 0, 1, 1, 2, 2], "only centre 0 of 3"),
        ([1, 0, 1, 0, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 2, 2, 2, 3, 3, 3], "only 40%"),
        ([1] * 9 + [0] + [0] * 9 + [1], [0] * 10 + [1] * 10, ""),
        ([1] * 19 + [0] + [0] * 19 + [1], [0] * 20 + [1] * 20, "explains 81%"),
        ([1, 0, 1, 0], [0, 0, 1, 1], ""),
        ([1, 0, 1, 0], [0, 0, 0, 0], ""),
    ],
)
def test_r05_each_condition_on_centres(y, centre, words):
    reason = refusals.refuse_confounded(np.array(y), np.array(centre), {})
    assert (words in reason) if words else reason == ""


def test_r05_batch_chemistry_or_method():
    y, centre = np.tile([0, 1], 6), np.repeat([0, 1], 6)
    pure = np.where(y == 1, "v3", "v2")
    assert "chemistry" in refusals.refuse_confounded(y, centre, {"chemistry": pure})
    mixed = pure.copy()
    mixed[:2] = mixed[1::-1]
    assert refusals.refuse_confounded(y, centre, {"chemistry": mixed}) == ""
    assert "chemistry" in refusals.imbalance(y, {"chemistry": mixed})
    assert refusals.imbalance(y, {"chemistry": np.repeat(["v2", "v3"], 6)}) == ""
    # A continuous label, and one patient who differs, hide nothing.
    graded = y + np.linspace(0, 0.1, 12)
    assert "chemistry" in refusals.refuse_confounded(graded, centre, {"chemistry": pure})
    assert refusals.refuse_confounded(y, centre, {"batch": np.array(ids(12))}) == ""  # a batch per patient says nothing
    assert refusals.refuse_confounded(y, centre, {"batch": np.full(12, "b")}) == ""


def test_r05_spares_unconfounded_studies_and_catches_confounded_ones():
    rng = np.random.default_rng(11)

    def fires(n, strength):
        centre = rng.choice(6, n, p=SIX_CENTRES)
        chance = np.where(strength * (centre % 2 == 0) > 0, 0.97, 0.03) if strength else np.full(n, 0.33)
        return refusals.refuse_confounded((rng.random(n) < chance).astype(int), centre, {}) != ""

    # Over three seeds of 2,000, 1,000 and 1,000 cohorts: .020 to .027, 0, and .955 to .971.
    assert np.mean([fires(24, 0) for _ in range(600)]) <= 0.035
    assert np.mean([fires(64, 0) for _ in range(300)]) == 0
    assert np.mean([fires(24, 1) for _ in range(300)]) >= 0.95


def test_r06_label_undefined_or_the_same_for_all():
    features, y, centre = small(6, 8)
    refused_with(run(features, y, centre, labels=labels_table([None] * 14)), "R06")
    refused_with(run(features, np.ones(14), centre), "R06")
    refused_with(run(features, y, centre, primary_label="not_derived"), "R06")
    some = [None, *y[1:].tolist()]
    table = run(features, y, centre, labels=labels_table(some))
    assert (table["status"] == "tested").all()
    assert (table["n"] == 13).all()


def test_r17_labels_go_with_their_own_tissue():
    features, y, centre = small(6, 8)
    resected = features.assign(timepoint="T3_resection")
    refused_with(run(resected, y, centre, timepoints=["T3_resection"]), "R17")
    assert (run(features, y, centre)["status"] == "tested").all()
    pathology = labels_table(y, name="path_cap")
    table = run(resected, y, centre, labels=pathology, primary_label="path_cap", timepoints=["T3_resection"])
    assert (table["status"] == "tested").all()
    refused_with(run(features, y, centre, labels=pathology, primary_label="path_cap"), "R17")
    # A label that the config declares goes with tissue before treatment unless it says otherwise.
    assert label_timepoints("grade", {"grade": {"kind": "binary"}}) == ("T0_pre",)
    assert label_timepoints("grade", {"grade": {"timepoints": ["T3_resection"]}}) == ("T3_resection",)


def test_declared_features_are_tested_once_more_per_protocol(cohort):
    y, centre, features = cohort
    names = declared(features["feature"].iloc[0])
    plain = run(features, y, centre, confirmatory=names)
    table = run(features, y, centre, confirmatory=names, deviating=features["patient_id"].unique()[:2])
    extra = table[table["adjusted_for"].str.contains("per protocol")]
    assert extra["feature"].tolist() == [names[0]["feature"]] and (extra["analysis"] == "sensitivity").all()
    assert (extra["n"] == plain["n"].max() - 2).all() and extra["q"].isna().all()
    pd.testing.assert_frame_equal(table.drop(extra.index).reset_index(drop=True), plain)


def test_r19_batches_and_uncounted_looks():
    features, y, centre = small(6, 8)
    refused_with(run(features, y, centre, scope="B02"), "R19")
    refused_with(run(features, y, centre, look=None), "R19")
    refused_with(run(features, y, centre, look=3, planned_looks=2), "R19")
    assert (run(features, y, centre, look=2, planned_looks=2)["status"] == "tested").all()


def test_a_study_of_one_patient_is_refused_row_by_row():
    counts = np.array([[300, 200, 0, 100]])
    features = feature_rows(counts, family="composition_type", n_cells=True)
    table = run(features, [1], [0], confirmatory=declared("f00"))
    assert len(table)
    assert (table["status"] == "refused").all()
    nothing = run(features.iloc[:0], [None], [0], confirmatory=declared("f00"))
    assert nothing["refusal_code"].tolist() == ["R06"]
    assert run(features.iloc[:0], [1, 0], [0, 0]).empty


def test_label_values_must_be_numbers():
    with pytest.raises(ValueError, match="expected 0 or 1"):
        response.read_label(labels_table([0, 1, 2]), "disease_control")


def test_design_lists_batch_chemistry_and_method_per_modality():
    base = {"timepoint": "T0_pre", "tissue": "liver_met", "chemistry": "v3", "method": "core_needle"}
    libraries = [
        {**base, "patient_id": "P00", "modality": "scrna", "batch": "B1"},
        {**base, "patient_id": "P00", "modality": "scrna", "batch": "B2"},
        {**base, "patient_id": "P00", "modality": "visium", "batch": "B9"},
        {**base, "patient_id": "P01", "modality": "scrna", "batch": "B3", "timepoint": "T1_reeval"},
    ]
    libraries.append({**base, "patient_id": "P01", "modality": "scrna", "batch": "B4", "tissue": "blood_pbmc"})
    design = response.patient_design(
        patients_table(["X", "Y"]), libraries, timepoints=["T0_pre"], tissues=["liver_met"]
    )
    first = design[(design["patient_id"] == "P00") & (design["modality"] == "scrna")].iloc[0]
    assert (first["centre"], first["batch"], first["method"]) == ("X", "B1+B2", "core_needle")
    of_blood = design[design["patient_id"] == "P01"]
    assert of_blood[["modality", "batch"]].to_numpy().tolist() == [["pbmc", "B4"]]


# ---------------------------------------------------------------------------------------------------------------------
# The verdict

CAUSAL = re.compile(r"\b(driv\w+|caus(es|ed|ing)|predict\w*|leads? to|due to|responsible)\b", re.IGNORECASE)


def statement(features, y, centre, *, scope="cohort", labels=None, **changes):
    labels = labels_table(y) if labels is None else labels
    table = run(features, y, centre, scope=scope, labels=labels, **changes)
    result = verdict(table, config={**CONFIG, **changes}, labels=labels, scope=scope)
    text = " ".join([result["headline"], *result["sentences"], *result["limits"]])
    assert not CAUSAL.search(text)
    assert "nan" not in text.lower().split()
    return result, text


def test_verdict_speaks_of_confirmatory_findings_only(cohort):
    y, centre, features = cohort
    result, text = statement(features, y, centre, confirmatory=declared("f01", "f05", "f00"), n_permutations=1999)
    assert result["status"] == "finding"
    assert "f01" in result["headline"]
    assert "associated with" in text
    assert f"{y.sum()} of 64 patients with disease_control, {64 - y.sum()} without" in text
    assert "80 % power" in text
    assert "look 1 of 1" in text and "per protocol" not in text
    options = {"confirmatory": declared("f01", "f05", "f00"), "n_permutations": 1999, "deviating": ["P00", "P01"]}
    assert "f01, per protocol, without 2 patients: effect" in statement(features, y, centre, **options)[1]
    result, text = statement(features, y, centre, n_permutations=1999)
    assert result["status"] == "not_tested"
    assert "f01" not in text
    assert "not findings" in text


def test_verdict_says_how_a_finding_stands_without_each_centre(cohort):
    y, centre, features = cohort
    config = {**CONFIG, "confirmatory": declared("f01", "f00"), "n_permutations": 1999}
    labels, patients = labels_table(y), patients_table([f"C{c}" for c in centre])
    table = run(features, y, centre, **{name: config[name] for name in ("confirmatory", "n_permutations")})
    firm = robustness(table, features, labels, patients, config=config)
    said = verdict(table, config=config, labels=labels, scope="cohort", robustness=firm)
    (sentence,) = [words for words in said["sentences"] if "one centre at a time" in words]
    assert sentence.startswith("f01, without one centre at a time (6 centres): the effect keeps its sign in 100%")


def test_a_refused_feature_has_no_p_by_counts_either():
    y = np.r_[np.ones(3, int), np.zeros(6, int)]
    counts = composition(np.random.default_rng(2), y, np.zeros(9, int), parts=6)
    features = feature_rows(counts, family="composition_type", n_cells=True)
    table = run(features, y, np.zeros(9, int), confirmatory=declared(*(f"f{k:02d}" for k in range(6))))
    assert set(table["refusal_code"]) == {"R02"} and table["p"].isna().all()
    said = verdict(table, config=CONFIG, labels=labels_table(y), scope="cohort")
    assert any(words.startswith("6 features not tested (R02): the smallest p") for words in said["sentences"])


def test_of_several_reasons_the_verdict_gives_the_most_frequent_as_such(cohort):
    y, centre, features = cohort
    few = feature_rows(np.random.default_rng(3).normal(size=(4, 3)), family="zone")
    one = feature_rows(np.random.default_rng(4).normal(size=(2, 1)), family="state", names=["n01"])
    table = run(pd.concat([features, few, one]), y, centre)
    said = verdict(table, config=CONFIG, labels=labels_table(y), scope="cohort")
    (sentence,) = [words for words in said["sentences"] if "(R01)" in words]
    assert sentence.startswith("4 features not tested (R01): most often (3) ")


def test_verdict_on_a_time_to_an_event():
    rng = np.random.default_rng(25)
    values, labels = survival(rng, 64, log_hr=1.2)
    options = {"confirmatory": declared("f00", "f01", family="zone"), "primary_label": "os"}
    features = feature_rows(values, family="zone")
    result, text = statement(features, np.zeros(64), np.zeros(64, int), labels=labels, **options)
    assert result["status"] == "finding"
    events = int((labels["event"] == "1").sum())
    assert f"64 patients with a time to os, {events} events" in text
    assert "higher with an earlier event of os: associated with log hazard ratio per standard deviation" in text
    assert "log hazard ratio of" in " ".join(result["limits"])
    assert result["numbers"]["per_class"] == {"0": 64 - events, "1": events}
    # Nine events don't bear a finding.
    few = labels.assign(event=np.where(np.arange(64) < 9, "1", "0"), value=np.where(np.arange(64) < 9, "5", "900"))
    features["value"] = np.where(features["patient_id"] < "P09", 5, 0) + features["value"]
    result, text = statement(features, np.zeros(64), np.zeros(64, int), labels=few, **options)
    assert result["status"] == "lead" and "with fewer than ten events" in text


def test_verdict_without_a_finding_says_what_could_have_been_found():
    rng = np.random.default_rng(12)
    features = feature_rows(rng.normal(size=(24, 1)), family="zone")
    y = np.tile([0, 1], 12)
    result, text = statement(features, y, np.zeros(24, int), confirmatory=declared("f00", family="zone"))
    assert result["status"] == "no_finding"
    assert re.search(
        r"Not found, 1 of 1 tested confirmatory features.*: f00 -?\d\.\d\d \(-\d\.\d\d to \d\.\d\d\)", text
    )
    assert "smaller differences can't be excluded" in text


def test_a_declared_feature_in_fewer_than_five_patients_of_a_class_is_a_lead():
    for responders, expected in [(4, "lead"), (5, "finding")]:
        features, y, centre = small(responders, 10)
        features["value"] = y[features["patient_id"].str[1:].astype(int)] * 10 + features["value"]
        result, text = statement(features, y, centre, confirmatory=declared("f00", family="zone"))
        assert result["status"] == expected
        assert ("not a finding" in text) == (expected == "lead")
        assert result["numbers"]["confirmatory_found"] == (expected == "finding")


def test_verdict_of_refused_and_of_batch_runs():
    features, y, centre = small(2, 10)
    result, text = statement(features, y, centre, confirmatory=declared("f00", family="zone"))
    assert result["status"] == "not_tested"
    assert "R01" in text
    assert result["numbers"]["refused"] == {"R01": 2}
    result, _ = statement(features, y, centre, scope="B02")
    assert result["status"] == "described"
    result, text = statement(features.iloc[:0], y, centre, labels=labels_table([None] * 12))
    assert result["status"] == "not_tested"
    assert "12 patients without a value" in text
