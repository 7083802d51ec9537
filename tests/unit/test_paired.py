"""Changes within patients: sign flips as by hand, planted changes, refusals, and what else differs between timepoints."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cohorts import CONFIG, composition, feature_rows, ids
from livermet import paired, statistics
from livermet.compared import COLUMNS

PAIR = ["T0_pre", "T3_resection"]
SETTING = {**CONFIG, "changes": [PAIR]}


def both(before, after, *, family="zone", n_cells=False, **options):
    tables = [
        feature_rows(values, family=family, n_cells=n_cells, timepoint=timepoint, **options)
        for values, timepoint in zip((before, after), PAIR, strict=True)
    ]
    return pd.concat(tables)


def libraries(n, **later):
    base = {"modality": "scrna", "tissue": "liver_met", "batch": "B1", "chemistry": "v3", "method": "core_needle"}
    rows = [{**base, "patient_id": patient, "timepoint": PAIR[0]} for patient in ids(n)]
    return rows + [{**base, **later, "patient_id": patient, "timepoint": PAIR[1]} for patient in ids(n)]


def run(features, *, n=12, scope="cohort", earlier_looks=0, rows=None, **changes):
    config = {**SETTING, **changes}
    given = libraries(n) if rows is None else rows
    return paired.changes(features, given, config=config, scope=scope, seed=1, earlier_looks=earlier_looks)


def test_sign_flips_are_counted_as_by_hand():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.6, 1, (7, 3))
    test = statistics.sign_flip_p(differences, n_permutations=999, seed=0)
    assert test.exact and test.n_arrangements == 128
    t = stats.ttest_1samp(differences, 0).statistic
    flipped = np.array([stats.ttest_1samp(differences * np.array(s)[:, None], 0).statistic for s in ways(7)])
    expected = 2 * np.minimum((flipped >= t - 1e-9).mean(axis=0), (flipped <= t + 1e-9).mean(axis=0))
    np.testing.assert_allclose(test.p, np.minimum(1, expected))
    drawn = statistics.sign_flip_p(differences, n_permutations=99, seed=0)
    assert not drawn.exact and drawn.n_arrangements == 100
    np.testing.assert_allclose(drawn.p, test.p, atol=0.15)


def ways(n):
    return itertools.product([1, -1], repeat=n)


@pytest.mark.parametrize(("n", "smallest"), [(5, 0.0625), (6, 0.03125), (20, 2 / 1000)])
def test_the_smallest_p_is_that_of_the_design_notes(n, smallest):
    assert statistics.smallest_sign_flip_p(n, n_permutations=999) == pytest.approx(smallest)
    test = statistics.sign_flip_p(np.arange(1.0, n + 1)[:, None], n_permutations=999, seed=1)
    assert test.p[0] == pytest.approx(smallest)


def test_the_effect_is_hedges_corrected_and_its_interval_covers():
    rng = np.random.default_rng(1)
    differences = rng.normal(0.5, 1, (12, 1))
    found = statistics.standardised_mean_change(differences)
    plain = differences.mean() / differences.std(ddof=1)
    assert found.effect[0] == pytest.approx(plain * statistics.small_sample_factor(11))
    # At the limits the observed t is a 2.5 % tail of the noncentral distribution.
    t = plain * np.sqrt(12)
    assert stats.nct.sf(t, 11, found.low[0] * np.sqrt(12)) == pytest.approx(0.025, abs=1e-6)
    assert stats.nct.cdf(t, 11, found.high[0] * np.sqrt(12)) == pytest.approx(0.025, abs=1e-6)
    many = statistics.standardised_mean_change(rng.normal(0.5, 1, (10, 4000)))
    assert np.mean((many.low <= 0.5) & (many.high >= 0.5)) == pytest.approx(0.95, abs=0.012)


def test_null_changes_are_calibrated_in_families_of_few_parts():
    rng = np.random.default_rng(2)
    rejected = []
    for k in range(60):
        values = statistics.clr(composition(rng, np.zeros(24), np.zeros(24, int), parts=6), pseudocount=0.5)
        test = statistics.sign_flip_p(values[:12] - values[12:], n_permutations=299, seed=k, centre_differences=True)
        rejected += (test.p <= 0.05).tolist()
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.03)


def test_the_change_of_one_part_does_not_light_up_the_others():
    """Over 300 cohorts of 14 and of 20 pairs the false discovery proportion was .115 and .093 among 6 parts, .084 and
    .108 among 8, .109 and .134 among 4; without the median .35 and .44, .22 and .32, .53 and .63."""
    false = {True: [], False: []}
    for seed in range(80):
        rng, later = np.random.default_rng([seed, 6, 20]), np.repeat([0, 1], 20)
        counts = composition(rng, later, np.zeros(40, int), parts=6, beta=np.r_[1.5, np.zeros(5)])
        values = statistics.clr(counts, pseudocount=0.5)
        for centred, rates in false.items():
            options = {"n_permutations": 499, "seed": seed, "centre_differences": centred}
            p = statistics.sign_flip_p(values[20:] - values[:20], **options).p
            hits = statistics.benjamini_hochberg(p) <= 0.1
            rates.append(hits[1:].sum() / max(1, hits.sum()))
    assert np.mean(false[True]) <= 0.12
    assert np.mean(false[False]) >= 0.3


def test_a_planted_change_is_found_against_the_middle_part_and_the_table_has_the_agreed_columns():
    rng = np.random.default_rng(3)
    later = np.repeat([0, 1], 14)
    before, after = np.split(composition(rng, later, np.zeros(28, int), parts=6, beta=np.r_[0, 2.0, 0, 0, 0, 0]), 2)
    table = run(both(before, after, family="composition_type", n_cells=True), n=14, n_permutations=1999)
    assert list(table.columns) == COLUMNS
    rows = table.set_index("feature")
    assert set(table["label"]) == {"change T0_pre to T3_resection"}
    assert set(table["timepoint"]) == {"T0_pre+T3_resection"}
    assert rows.loc["f01", "q"] <= 0.1
    assert rows.loc["f01", "ci_low"] > 0
    assert (rows.drop(index="f01")["effect"].abs() < rows.loc["f01", "effect"]).all()
    assert set(rows["n"]) == {14} and set(rows["role"]) == {"exploratory"}
    assert rows["p_method"].str.contains("pairs are disease-controlled by design").all()
    swapped = run(both(after, before, family="composition_type", n_cells=True), n=14, n_permutations=1999)
    np.testing.assert_allclose(swapped.set_index("feature")["effect"], -rows["effect"])


@pytest.mark.parametrize("parts", [4, 8])
def test_one_part_changed_by_the_printed_effect_is_found_in_four_of_five_cohorts(parts):
    """Over four seeds of 300 cohorts of 20 pairs .71 to .79, on average .76 and .77 with 4 and 8 parts."""
    rng = np.random.default_rng(parts)
    before, after = np.split(composition(rng, np.zeros(40), np.zeros(40, int), parts=parts), 2)
    table = run(both(before, after, family="composition_type", n_cells=True), n=20)
    (printed,) = table["minimal_detectable_effect"].unique()
    found = []
    for seed in range(300):
        values = np.random.default_rng([seed, parts]).normal(size=(20, parts))
        values[:, 0] += printed * np.sqrt(1 - 1 / parts)
        values -= values.mean(axis=1, keepdims=True)
        options = {"n_permutations": 199, "seed": seed, "centre_differences": True}
        found.append(statistics.sign_flip_p(values, **options).p[0] <= 0.05)
    assert 0.70 <= np.mean(found) <= 0.85


def test_only_patients_with_both_timepoints_count():
    rng = np.random.default_rng(4)
    before, after = rng.normal(size=(12, 2)), rng.normal(size=(12, 2))
    after[8:] = np.nan
    after[0, 1] = np.nan
    rows = run(both(before, after)).set_index("feature")
    assert rows["n"].to_dict() == {"f00": 8, "f01": 7}
    assert rows["n_missing"].to_dict() == {"f00": 4, "f01": 5}
    expected = statistics.sign_flip_p((after - before)[:8, :1], n_permutations=499, seed=1)
    assert rows.loc["f00", "p"] == pytest.approx(expected.p[0])
    shuffled = run(both(before, after).sample(frac=1, random_state=1)).set_index("feature")
    pd.testing.assert_frame_equal(rows, shuffled)


def test_r01_and_r02_refuse_few_pairs():
    rng = np.random.default_rng(5)
    for n, code in [(2, "R01"), (5, "R02"), (6, "")]:
        rows = run(both(rng.normal(size=(n, 1)), rng.normal(size=(n, 1))), n=n)
        assert rows["refusal_code"].tolist() == [code]
        assert rows["refusal_reason"].str.contains("Lifted by").tolist() == [bool(code)]
    # Six patients before, six others after: no one has both.
    values = rng.normal(size=(12, 1))
    apart = both(
        np.where(np.arange(12)[:, None] < 6, values, np.nan), np.where(np.arange(12)[:, None] < 6, np.nan, values)
    )
    assert run(apart)[["n", "n_missing", "refusal_code"]].to_numpy().tolist() == [[0, 12, "R01"]]


def test_batches_uncounted_looks_and_mixed_tissues_are_refused():
    values = np.random.default_rng(6).normal(size=(2, 12, 1))
    features = both(*values)
    assert run(features, scope="B02")["refusal_code"].tolist() == ["R19"]
    assert run(features, earlier_looks=1)["refusal_code"].tolist() == ["R19"]
    assert run(features, tissues=["liver_met", "primary"])["refusal_code"].tolist() == ["R04"]


def test_activity_has_no_change_and_constant_features_none_either():
    values = np.random.default_rng(7).normal(size=(2, 12, 1))
    table = run(pd.concat([both(*values, family="activity"), both(values[0], values[0] + 1)]))
    assert table.set_index("family")["refusal_code"].to_dict() == {"activity": "F04", "zone": "F03"}


def test_what_else_differs_between_the_timepoints_is_named():
    features = both(*np.random.default_rng(8).normal(size=(2, 12, 1)))
    assert "not adjusted" not in run(features)["p_method"].iloc[0]
    words = run(features, rows=libraries(12, method="surgical"))["p_method"].iloc[0]
    assert words.endswith("not adjusted: method differs in 12 of 12 pairs")
    blood = both(*np.random.default_rng(8).normal(size=(2, 12, 1)), family="blood", modality="blood", tissue="blood")
    assert "not adjusted" not in run(blood, rows=libraries(12, method="surgical"))["p_method"].iloc[0]


def test_no_declared_pair_and_no_features_give_an_empty_table():
    features = both(*np.random.default_rng(9).normal(size=(2, 12, 1)))
    for table in (run(features, changes=[]), run(features.iloc[:0])):
        assert table.empty
        assert list(table.columns) == COLUMNS
