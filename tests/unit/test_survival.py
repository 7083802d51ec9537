"""Survival: planted hazard ratios, nulls, what is known at a landmark, the immortal-time trap, refusals, curves."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.duration.survfunc import SurvfuncRight

from cohorts import composition, feature_rows, ids, labels_table, patients_table
from livermet import cox
from livermet.compared import read_label
from livermet.features import FEATURE_COLUMNS
from livermet.landmark import known_by, trial_rules
from livermet.survival import ALL, COLUMNS, CURVE_COLUMNS, compare_survival, survival_curves
from survival_cohorts import RULES, course_of, endpoint_table, setting, simulated, times
from test_cox import OVARIAN

NO_FEATURES = pd.DataFrame(columns=FEATURE_COLUMNS).astype({"value": float, "n_cells": float})


def run(features, labels, centre, *, course=None, **options):
    return compare_survival(
        features,
        labels,
        patients_table([f"C{c}" for c in centre]),
        course_of(ids(len(centre))) if course is None else course,
        setting=setting(**options),
        rules=RULES,
    )


def primary(table, endpoint="os"):
    return table[(table["analysis"] == "primary") & (table["endpoint"] == endpoint)].set_index("feature")


@pytest.fixture(scope="module")
def cohort():
    """64 patients of six centres; the hazard of the first of five scores is planted, and one part of a composition."""
    rng = np.random.default_rng(0)
    centre = rng.choice(6, 64, p=[0.3, 0.25, 0.2, 0.1, 0.1, 0.05])
    scores = rng.normal(size=(64, 5)) * [3, 1, 1, 1, 1]
    counts = composition(rng, np.zeros(64), centre)
    time, event = times(rng, scores[:, 0] / 3, centre, beta=0.9)
    features = pd.concat(
        [
            feature_rows(scores, family="malignant_state", names=["planted", "a", "b", "c", "d"]),
            feature_rows(counts, family="composition_type", n_cells=True),
        ]
    )
    return features, time, event, centre


def test_a_planted_hazard_ratio_is_found_and_the_table_has_the_agreed_columns(cohort):
    features, time, event, centre = cohort
    table = run(features, endpoint_table(time, event), centre)
    assert list(table.columns) == COLUMNS
    assert (table["status"] == "tested").all()
    rows = primary(table)
    planted = rows.loc["planted"]
    assert planted["q"] <= 0.1
    assert planted["ci_low"] < np.exp(0.9) < planted["ci_high"]
    assert planted["ci_low"] > 1
    assert planted["method"] == "cox per SD"
    assert planted["adjusted_for"] == "centre"
    assert planted["n"] == 64
    assert planted["n_events"] == event.sum()
    assert planted["events_per_variable"] <= event.sum()
    assert set(rows["role"]) == {"exploratory"}
    assert planted["p_method"].startswith("199 permutations of log-rank scores within centre")
    values = features[features["feature"] == "planted"].set_index("patient_id")["value"].reindex(ids(64)).to_numpy()
    model = cox.fit(values[:, None], time, event, strata=centre)
    assert np.log(planted["hazard_ratio"]) == pytest.approx(model.coef[0] * values.std(ddof=1))
    unadjusted = table[(table["analysis"] == "sensitivity") & (table["feature"] == "planted")].iloc[0]
    assert np.isnan(unadjusted["q"])
    alone = cox.fit(values[:, None], time, event)
    assert np.log(unadjusted["hazard_ratio"]) == pytest.approx(alone.coef[0] * values.std(ddof=1))


def test_parts_of_a_composition_are_relative_to_the_middle_part(cohort):
    features, time, event, centre = cohort
    rows = primary(run(features, endpoint_table(time, event), centre))
    parts = rows[rows["family"] == "composition_type"]
    assert np.median(np.log(parts["hazard_ratio"])) == pytest.approx(0, abs=0.05)


def test_order_of_rows_other_families_and_units_change_nothing(cohort):
    features, time, event, centre = cohort
    labels = endpoint_table(time, event)
    base = run(features, labels, centre)
    rng = np.random.default_rng(1)
    shuffled = run(features.sample(frac=1, random_state=2), labels.iloc[rng.permutation(64)], centre)
    pd.testing.assert_frame_equal(base, shuffled)
    alone = run(features[features["family"] == "malignant_state"], labels, centre)
    expected = base[base["family"] == "malignant_state"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, expected)
    months = run(features, endpoint_table(time / 30.4375, event), centre)
    pd.testing.assert_frame_equal(base, months)


def test_null_features_keep_their_level():
    rng = np.random.default_rng(3)
    p = []
    for _ in range(12):
        centre = rng.choice(4, 48)
        features = feature_rows(rng.normal(size=(48, 25)), family="malignant_state")
        p += list(primary(run(features, endpoint_table(*times(rng, np.zeros(48), centre)), centre))["p"])
    # 300 features: over five seeds .033 to .067
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09


def test_few_events_are_refused_or_marked_and_fitted_with_firth(cohort):
    features, time, event, _ = cohort
    first = event * (time <= np.sort(time[event == 1])[6])
    one_centre = np.zeros(64, int)
    rows = primary(run(features, endpoint_table(time, first), one_centre))
    assert (rows["n_events"] == 7).all()
    assert rows["method"].eq("firth per SD").all()
    assert rows["p_method"].str.contains("exploratory only: fewer than 10 events").all()
    fewer = event * (time <= np.sort(time[event == 1])[3])
    rows = primary(run(features, endpoint_table(time, fewer), one_centre))
    assert set(rows["refusal_code"]) == {"R01"}
    assert rows["refusal_reason"].str.contains("64 patients with 4 events .* 5 are needed").all()
    assert rows["hazard_ratio"].isna().all()


def test_events_that_nobody_of_the_centre_outlives_do_not_count(cohort):
    features, time, event, _ = cohort
    # 32 centres of two patients: at the first event of each the other one is at risk only if it is later
    centre = np.arange(64) // 2
    rows = primary(run(features, endpoint_table(time, event), centre))
    tested = rows[rows["status"] == "tested"]
    assert (tested["events_per_variable"] == cox.informative_events(time, event, strata=centre)).all()
    assert (tested["events_per_variable"] < tested["n_events"]).all()


def test_confounding_with_the_centre_is_refused():
    rng = np.random.default_rng(4)
    centre = np.repeat([0, 1, 2, 3], 6)
    time = 100.0 * 4**centre + rng.integers(1, 9, 24)
    features = feature_rows(rng.normal(size=(24, 3)), family="malignant_state")
    rows = primary(run(features, endpoint_table(time, np.ones(24)), centre))
    assert set(rows["refusal_code"]) == {"R05"}
    time = rng.permutation(time)
    rows = primary(run(features, endpoint_table(time, np.ones(24)), centre))
    assert (rows["status"] == "tested").all()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"scope": "B01"}, "R19", "one batch"),
        ({"earlier_looks": 1}, "R19", "look 2"),
        ({"response": {"timepoints": ["T0_pre", "T3_resection"]}}, "R04", "2 timepoints"),
        ({"response": {"timepoints": ["T3_resection"]}}, "R07", "lived to have it"),
        ({"endpoints": ["rfs"]}, "R17", "rfs is known only for patients who came to surgery"),
        ({"endpoints": ["pfs"]}, "R06", "no patient has a value of pfs"),
        ({}, "", ""),
    ],
)
def test_designs_that_cannot_carry_it_are_refused_with_reason(cohort, options, code, words):
    features, time, event, centre = cohort
    later = features.assign(timepoint="T3_resection")
    labels = pd.concat([endpoint_table(time, event), endpoint_table(time, event, name="rfs")])
    table = run(pd.concat([features, later]), labels, centre, **options)
    assert set(table["refusal_code"]) == {code}
    assert table["refusal_reason"].str.contains(words).all()
    if code:
        assert (table["status"] == "refused").all()
        assert table[["hazard_ratio", "p", "q"]].isna().all().all()
        assert len(table) == 17


def test_a_measurement_that_many_sampled_patients_lack_is_refused(cohort):
    features, time, event, centre = cohort
    few = features[(features["feature"] != "a") | features["patient_id"].isin(ids(40))]
    rows = primary(run(few, endpoint_table(time, event), centre))
    assert rows.loc["a", "refusal_code"] == "R18"
    assert rows.loc["b", "status"] == "tested"


def test_an_empty_study_is_an_empty_table():
    table = run(NO_FEATURES, endpoint_table([10, 20], [1, 0]), [0, 0])
    assert list(table.columns) == COLUMNS
    assert table.empty


# ------------------------------------------------------------------------------------------------------------ landmark

COURSE = course_of(
    ids(5),
    recist=[
        ("P00", 60, "SD", "yes"),
        ("P00", 200, "PR", "yes"),
        ("P01", 65, "PD", "yes"),
        ("P02", 30, "SD", "yes"),
        ("P02", 300, "nonCR_nonPD", "yes"),
        ("P03", 70, "PR", "yes"),
        ("P03", 200, "PD", "no"),
    ],
    response=[("P03", 71, "SD"), ("P04", 64, "CR")],
    treatment=[(patient, "GnP", 10, None) for patient in ids(5)],
    local_treatment=[("P00", 250, "liver_resection"), ("P03", 150, "ablation"), ("P03", 140, "exploratory_only")],
)


def status(name, values, *, day, course=COURSE):
    label = read_label(labels_table(values, name=name), name)
    found, reason = known_by(label, course, pd.Series(float(day), index=ids(len(values))), rules=RULES)
    return [None if np.isnan(value) else int(value) for value in found], reason


@pytest.mark.parametrize(
    ("name", "values", "day", "expected"),
    [
        ("disease_control", [1, 0, 1, 1, 1], 270, [1, 0, None, 1, 1]),
        ("disease_control", [1, 0, 1, 1, 1], 64, [1, None, None, None, 1]),
        ("objective_response", [1, 0, 0, 1, 1], 270, [1, 0, 0, 1, 1]),
        ("objective_response", [1, 0, 0, 1, 1], 100, [0, 0, 0, 1, 1]),
        ("objective_response", [1, 0, 0, 1, 1], 62, [0, None, 0, None, None]),
        ("resected", [1, 0, 0, 1, 0], 270, [1, 0, 0, 1, 0]),
        ("resected", [1, 0, 0, 1, 0], 200, [0, 0, 0, 1, 0]),
        # Treatment began on day 10, so the window ends on day 87; the re-evaluation of P02 was on day 300.
        ("ca199_resp50", [1, 0, 0, 1, 0], 87, [1, 0, None, 1, 0]),
        ("ca199_resp50", [1, 0, 0, 1, 0], 86, [None, None, None, None, None]),
        ("path_cap01", [1, None, None, 0, None], 200, [None, 0]),
    ],
)
def test_only_what_was_known_on_the_day_counts(name, values, day, expected):
    assert status(name, values, day=day) == (expected, "")


def test_a_fact_without_a_day_is_refused():
    undated = course_of(ids(3), recist=[("P00", 60, "SD", "yes"), ("P01", 65, "PD", "yes")])
    _, reason = status("disease_control", [1, 0, 1], day=270, course=undated)
    assert "not in the study tables for 1 of 3 patients" in reason
    _, reason = status("resected", [1, 0, 0], day=270, course=undated)
    assert "1 of 3" in reason
    _, reason = status("response_confirmed", [1, 0, 0], day=270)
    assert "3 of 3" in reason


def test_rules_of_the_trial_or_the_defaults_of_the_labels():
    assert trial_rules({}) == RULES
    given = trial_rules({"evaluation": {"first_min_days": 56}, "windows": {"T1_from_treatment": [30, 90]}})
    assert (given.first_min_days, given.window_end, given.within_days) == (56, 90, 14)


def test_time_counts_from_the_landmark_among_patients_still_at_risk():
    labels, patients, course = simulated(1)
    table = compare_survival(NO_FEATURES, labels, patients, course, setting=setting(), rules=RULES)
    row = primary(table).loc["disease_control"]
    assert (row["landmark_day"], row["family"], row["modality"]) == (270, "post_baseline", "clinical")
    assert row["method"] == "cox yes against no"
    os = read_label(labels, "os")
    alive = os.numbers.index[os.numbers > 270]
    assert row["n"] == len(alive)
    assert row["n_events"] == os.events[alive].sum()
    yes = read_label(labels, "disease_control").numbers[alive].to_numpy()[:, None]
    centre = patients.set_index("patient_id")["centre"].reindex(alive).to_numpy()
    model = cox.fit(yes, os.numbers[alive] - 270, os.events[alive], strata=centre)
    assert np.log(row["hazard_ratio"]) == pytest.approx(model.coef[0])


def test_without_a_landmark_later_facts_are_refused():
    labels, patients, course = simulated(1)
    table = compare_survival(NO_FEATURES, labels, patients, course, setting=setting(landmark_days=0), rules=RULES)
    assert set(table["refusal_code"]) == {"R07"}
    assert table["refusal_reason"].str.contains("Lifted by landmark_days under survival").all()
    assert set(table["feature"]) == {"disease_control", "resected"}


def test_times_from_surgery_compare_what_was_known_on_the_day_of_surgery():
    labels, patients, course = simulated(2)
    surgery = course.days["surgery"].dropna()
    os = read_label(labels, "os")
    days, events = os.numbers[surgery.index] - surgery, os.events[surgery.index]
    rng = np.random.default_rng(0)
    response = rng.permutation(np.arange(len(surgery)) % 2)
    labels = pd.concat(
        [
            labels,
            endpoint_table(days, events, name="os_surgery", patients=surgery.index),
            labels_table(response, name="path_cap01").assign(patient_id=surgery.index),
        ]
    )
    options = setting(endpoints=["os_surgery"], response={"primary_label": "path_cap01"})
    rows = primary(compare_survival(NO_FEATURES, labels, patients, course, setting=options, rules=RULES), "os_surgery")
    assert rows.loc["path_cap01", "status"] == "tested"
    assert rows.loc["path_cap01", "landmark_day"] == 0
    assert rows.loc["path_cap01", "n"] == (days > 0).sum()
    assert rows.loc["resected", "refusal_code"] == "R07"
    assert "which all its patients had" in rows.loc["resected", "refusal_reason"]
    assert rows.loc["disease_control", "refusal_code"] == "R01"


def test_immortal_time_before_surgery_makes_no_survival():
    # Simulated studies in which surgery has no effect. In three times 60 studies of 150 patients the naive comparison
    # rejected in 70 to 87 %, ours in 0 to 3 % (in 500 studies of 100 patients in 4 %), with median ratios of .98 to 1.08.
    naive, p, ratios = [], [], []
    for seed in range(50):
        labels, patients, course = simulated(seed, n_patients=150)
        os, operated = read_label(labels, "os"), read_label(labels, "resected").numbers.to_numpy()[:, None]
        found = cox.per_sd(operated, os.numbers.to_numpy(), os.events.to_numpy())
        naive.append((found.high[0] < 0, np.exp(found.effect[0] / operated.std(ddof=1))))
        table = compare_survival(NO_FEATURES, labels, patients, course, setting=setting(), rules=RULES)
        row = primary(table).loc["resected"]
        assert row["adjusted_for"] == "centre; among patients with disease_control by then"
        p.append(row["p"])
        ratios.append(row["hazard_ratio"])
    assert np.mean([significant for significant, _ in naive]) > 0.5
    assert np.median([ratio for _, ratio in naive]) < 0.75
    # The interval of the rate contains .05: 6 of 50 at most (97.5 % of a binomial), and that of 0 of 50 goes up to .07.
    assert np.sum(np.array(p) <= 0.05) <= 6
    assert 0.85 < np.median(ratios) < 1.18


# -------------------------------------------------------------------------------------------------------------- curves


def test_curves_are_those_of_statsmodels_and_as_published():
    time, event = OVARIAN[:, 0], OVARIAN[:, 1].astype(int)
    curve = cox.kaplan_meier(time, event)
    theirs = SurvfuncRight(time, event)
    at = np.isin(curve.time, theirs.surv_times)
    np.testing.assert_allclose(curve.survival[at], theirs.surv_prob)
    np.testing.assert_array_equal(curve.at_risk[at], theirs.n_risk)
    # therneau/survival, tests/ovarian.Rout.save
    expected = {59: (26, 0.962), 268: (23, 0.846), 448: (16, 0.688), 638: (11, 0.497), 1227: (1, 0.497)}
    for day, (at_risk, survival) in expected.items():
        here = curve.time == day
        assert curve.at_risk[here] == at_risk
        assert curve.survival[here] == pytest.approx(survival, abs=5e-4)
    assert (curve.time[0], curve.at_risk[0], curve.survival[0], curve.low[0], curve.high[0]) == (0, 26, 1, 1, 1)
    low, high = theirs.quantile_ci(0.5, method="cloglog")
    median, ours_low, ours_high = cox.median_time(curve.time, curve.survival, curve.low, curve.high)
    assert median == theirs.quantile(0.5) == 638
    assert ours_low == low
    assert np.isnan(ours_high) and not np.isfinite(high)


def test_limits_are_those_of_the_log_log_scale_with_greenwoods_variance():
    rng = np.random.default_rng(5)
    time, event = times(rng, np.zeros(40), np.zeros(40))
    curve, theirs = cox.kaplan_meier(time, event), SurvfuncRight(time, event)
    at = np.isin(curve.time, theirs.surv_times) & (curve.survival > 0)
    s, se = theirs.surv_prob[theirs.surv_prob > 0], theirs.surv_prob_se[theirs.surv_prob > 0]
    half = 1.959964 * se / (s * np.abs(np.log(s)))
    np.testing.assert_allclose(curve.low[at], s ** np.exp(half), rtol=1e-6)
    np.testing.assert_allclose(curve.high[at], s ** np.exp(-half), rtol=1e-6)


def test_all_dead_and_all_censored_are_defined():
    dead = cox.kaplan_meier([1, 2, 3, 4], [1, 1, 1, 1])
    assert dead.survival[-1] == 0
    assert np.isnan(dead.low[-1])
    assert cox.median_time(dead.time, dead.survival, dead.low, dead.high)[0] == 2.5
    alive = cox.kaplan_meier([1, 2, 3], [0, 0, 0])
    assert (alive.survival == 1).all()
    assert np.isnan(cox.median_time(alive.time, alive.survival, alive.low, alive.high)).all()


def test_curves_of_all_patients_and_of_the_classes_from_the_landmark_on():
    labels, patients, course = simulated(3)
    curves = survival_curves(labels, patients, course, setting=setting(), rules=RULES)
    assert list(curves.columns) == CURVE_COLUMNS
    groups = curves.groupby("group", sort=False)
    assert list(groups.groups) == [ALL, "disease_control: yes", "disease_control: no"]
    first = groups.first()
    assert list(first["time"]) == [0, 270, 270]
    assert first.loc[ALL, "at_risk"] == 120
    alive = (read_label(labels, "os").numbers > 270).sum()
    assert first.loc["disease_control: yes", "at_risk"] + first.loc["disease_control: no", "at_risk"] == alive
    undivided = survival_curves(labels, patients, course, setting=setting(landmark_days=0), rules=RULES)
    assert set(undivided["group"]) == {ALL}
    batch = survival_curves(labels, patients, course, setting=setting(scope="B01"), rules=RULES)
    assert batch.empty and list(batch.columns) == CURVE_COLUMNS
