"""The numerics against independent implementations, published values, nulls and invariances."""

import itertools
import time

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.power import TTestIndPower

from livermet import statistics as st

ONE = np.zeros


def two_groups(n_alt, n_ref):
    return np.r_[np.ones(n_alt), np.zeros(n_ref)]


@pytest.mark.parametrize(
    ("n_alt", "n_ref", "expected"), [(2, 2, 0.33), (3, 3, 0.10), (3, 5, 0.036), (4, 4, 0.029), (5, 5, 0.008)]
)
def test_smallest_attainable_p_has_the_known_values_and_is_attained(n_alt, n_ref, expected):
    labels = two_groups(n_alt, n_ref)
    smallest = st.smallest_attainable_p(labels, ONE(len(labels)), n_permutations=9999)
    assert smallest == pytest.approx(expected, abs=0.005)
    separated = (labels * 10 + np.arange(len(labels)) * 0.1)[:, None]
    result = st.permutation_p(separated, labels, ONE(len(labels)), n_permutations=9999, seed=0)
    assert result.exact
    assert result.p[0] == pytest.approx(smallest)


def test_smallest_attainable_p_counts_arrangements_within_strata_only():
    labels = np.array([1, 0, 0, 1, 0, 1])
    centre = np.array([0, 0, 0, 1, 1, 2])
    assert st.count_arrangements(labels, centre) == 3 * 2 * 1
    assert st.smallest_attainable_p(labels, centre, n_permutations=9999) == pytest.approx(2 / 6)
    large = two_groups(21, 43)
    assert st.smallest_attainable_p(large, ONE(64), n_permutations=999) == pytest.approx(2 / 1000)


def test_arrangements_are_the_distinct_ones_and_stay_within_strata():
    labels = np.array([0, 1, 1, 2, 0, 5])
    centre = np.array([0, 0, 0, 1, 1, 1])
    rows, exact = st.arrangements(labels, centre, n_permutations=100, seed=0)
    direct = {a + b for a in itertools.permutations((0, 1, 1)) for b in itertools.permutations((2, 0, 5))}
    assert exact
    assert {tuple(row) for row in rows} == direct
    assert len(rows) == len(direct) == st.count_arrangements(labels, centre)
    assert (rows[0] == labels).all()


@pytest.mark.parametrize("seed", range(5))
def test_exact_p_agrees_with_scipy_permutation_test_of_welch_t(seed):
    rng = np.random.default_rng(seed)
    labels = two_groups(4, 5)
    values = rng.normal(size=9) + labels * rng.uniform(0, 2)
    ours = st.permutation_p(values[:, None], labels, ONE(9), n_permutations=9999, seed=0)
    scipys = stats.permutation_test(
        (values[labels == 1], values[labels == 0]),
        lambda a, b: stats.ttest_ind(a, b, equal_var=False).statistic,
        permutation_type="independent",
        n_resamples=np.inf,
    )
    assert ours.p[0] == pytest.approx(scipys.pvalue)
    assert ours.n_arrangements == 126


def test_statistic_is_welch_t_in_one_stratum():
    rng = np.random.default_rng(3)
    labels = two_groups(8, 16)
    values = rng.normal(size=(24, 7)) * (1 + labels[:, None])
    rows = st.centred(labels[:, None], ONE(24)).T
    ours = st._studentised(st.centred(values, ONE(24)), rows, ONE(24), False)[0]
    welch = stats.ttest_ind(values[labels == 1], values[labels == 0], equal_var=False).statistic
    np.testing.assert_allclose(ours, welch)


def test_statistic_is_the_hc2_slope_of_statsmodels_with_centres():
    rng = np.random.default_rng(4)
    labels, centre = rng.integers(0, 2, 30), rng.integers(0, 4, 30)
    values = rng.normal(size=30) + 0.5 * centre
    design = np.column_stack([labels, np.eye(4)[centre]])
    fit = OLS(values, design).fit(cov_type="HC2")
    rows = st.centred(labels[:, None].astype(float), centre).T
    ours = st._studentised(st.centred(values[:, None], centre), rows, centre, False)
    assert ours[0, 0] == pytest.approx(fit.tvalues[0])


def test_monte_carlo_p_is_close_to_the_exact_p_and_repeats_with_the_seed():
    rng = np.random.default_rng(5)
    labels = two_groups(6, 6)
    values = rng.normal(size=(12, 4)) + labels[:, None]
    exact = st.permutation_p(values, labels, ONE(12), n_permutations=9999, seed=0)
    drawn = st.permutation_p(values, labels, ONE(12), n_permutations=900, seed=0)
    again = st.permutation_p(values, labels, ONE(12), n_permutations=900, seed=0)
    assert exact.exact
    assert not drawn.exact
    np.testing.assert_allclose(drawn.p, exact.p, atol=0.05)
    np.testing.assert_array_equal(drawn.p, again.p)


def test_p_never_below_the_smallest_attainable_one_and_one_for_a_constant():
    labels = two_groups(3, 5)
    values = np.column_stack([labels * 1e6, np.full(8, 0.25)])
    result = st.permutation_p(values, labels, ONE(8), n_permutations=9999, seed=1)
    assert result.p[0] == pytest.approx(2 / 56)
    assert result.p[1] == 1


def test_swapping_the_labels_flips_the_effect_and_keeps_p():
    rng = np.random.default_rng(6)
    labels, centre = rng.integers(0, 2, 20), rng.integers(0, 2, 20)
    values = rng.normal(size=(20, 5))
    one = st.standardised_difference(values, labels, centre)
    two = st.standardised_difference(values, 1 - labels, centre)
    np.testing.assert_allclose(one.effect, -two.effect)
    np.testing.assert_allclose(one.low, -two.high, rtol=1e-6)
    options = {"n_permutations": 10**6, "seed": 0}
    small = slice(0, 10)  # enumerated, so no Monte Carlo error
    p = [st.permutation_p(values[small], y[small], centre[small], **options).p for y in (labels, 1 - labels)]
    np.testing.assert_allclose(*p)


def test_patient_order_and_units_do_not_matter():
    rng = np.random.default_rng(7)
    labels, centre = rng.integers(0, 2, 12), rng.integers(0, 2, 12)
    values = rng.normal(size=(12, 3))
    order = rng.permutation(12)
    plain = st.permutation_p(values, labels, centre, n_permutations=10**5, seed=0).p
    moved = st.permutation_p(1000 * values[order] + 7, labels[order], centre[order], n_permutations=10**5, seed=1).p
    np.testing.assert_allclose(plain, moved)


def test_centre_effects_cancel():
    rng = np.random.default_rng(8)
    labels, centre = rng.integers(0, 2, 40), rng.integers(0, 4, 40)
    values = rng.normal(size=(40, 3))
    shifted = values + 100 * centre[:, None]
    np.testing.assert_allclose(
        st.standardised_difference(values, labels, centre).effect,
        st.standardised_difference(shifted, labels, centre).effect,
    )
    p = [st.permutation_p(v, labels, centre, n_permutations=499, seed=0).p for v in (values, shifted)]
    np.testing.assert_allclose(*p)


def test_hedges_g_follows_the_textbook_formula():
    # Borenstein et al., Introduction to Meta-Analysis (2009), chapter 4: means 103 and 100, SD 5.5 and 4.5, 50 patients
    # each: d = 0.5970, J = 0.9923, g = 0.5924.
    rng = np.random.default_rng(9)
    base = stats.zscore(rng.normal(size=(50, 2)), axis=0, ddof=1)
    values = np.r_[base[:, 0] * 5.5 + 103, base[:, 1] * 4.5 + 100][:, None]
    effects = st.standardised_difference(values, two_groups(50, 50), ONE(100))
    assert effects.effect[0] == pytest.approx(0.5924, abs=2e-4)
    assert st.small_sample_factor(98) == pytest.approx(0.9923, abs=1e-4)


def test_effect_is_the_t_of_the_linear_model():
    rng = np.random.default_rng(10)
    labels = two_groups(9, 15)
    values = rng.normal(size=(24, 3))
    effects = st.standardised_difference(values, labels, ONE(24))
    t = stats.ttest_ind(values[labels == 1], values[labels == 0]).statistic
    np.testing.assert_allclose(effects.effect, st.small_sample_factor(22) * t * np.sqrt(1 / 9 + 1 / 15))
    assert effects.df == 22
    assert effects.variance == pytest.approx(1 / 9 + 1 / 15)


@pytest.mark.parametrize("seed", [1, 2])
def test_interval_covers_the_true_effect(seed):
    rng = np.random.default_rng(seed)
    labels = (rng.random(40) < 0.33).astype(float)
    centre = rng.choice(4, 40, p=[0.4, 0.3, 0.2, 0.1])
    truth = 0.8
    values = rng.normal(size=(40, 1000)) + truth * labels[:, None] + rng.normal(size=(4, 1000))[centre]
    effects = st.standardised_difference(values, labels, centre)
    coverage = ((effects.low <= truth) & (truth <= effects.high)).mean()
    assert 0.93 <= coverage <= 0.97


def test_studentising_protects_against_unequal_spread():
    rng = np.random.default_rng(11)
    labels, centre = two_groups(21, 43), np.arange(64) % 4
    values = rng.normal(size=(64, 2000)) * np.where(labels == 1, 2.5, 1)[:, None] + rng.normal(size=(4, 2000))[centre]
    ours = st.permutation_p(values, labels, centre, n_permutations=499, seed=0).p
    rows, _ = st.arrangements(labels, centre, n_permutations=499, seed=0)
    plain = st._tail_p(st.centred(rows.T, centre).T @ st.centred(values, centre))
    # Binomial standard error .006 at a rate of .07.
    assert (ours <= 0.05).mean() <= 0.08
    assert (plain <= 0.05).mean() >= 0.10


def test_equal_spread_gives_nominal_rejections():
    rng = np.random.default_rng(12)
    labels, centre = two_groups(8, 16), np.tile([0, 1, 2], 8)
    values = rng.normal(size=(24, 2000)) + rng.normal(size=(3, 2000))[centre]
    p = st.permutation_p(values, labels, centre, n_permutations=499, seed=0).p
    assert 0.035 <= (p <= 0.05).mean() <= 0.065


def test_centring_the_differences_keeps_other_parts_of_a_small_composition_still():
    rng = np.random.default_rng(13)
    labels = two_groups(24, 40)
    plain = centred = 0
    for seed in range(40):
        logs = rng.normal(0, 0.6, (64, 6))
        logs[:, 0] += 1.2 * labels
        values = st.clr(300 * np.exp(logs), pseudocount=0.5)
        options = {"n_permutations": 199, "seed": seed}
        plain += (st.permutation_p(values, labels, ONE(64), **options).p[1:] <= 0.05).sum()
        centred += (st.permutation_p(values, labels, ONE(64), centre_differences=True, **options).p[1:] <= 0.05).sum()
    assert plain / 200 > 0.12
    assert centred / 200 < 0.09


def test_clr_rows_sum_to_zero_and_ignore_the_total():
    counts = np.array([[10.0, 20, 70], [100, 200, 700]])
    values = st.clr(counts, pseudocount=0)
    np.testing.assert_allclose(values.sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(values[0], values[1])
    assert np.isfinite(st.clr(np.array([[0, 5, 9]]), pseudocount=0.5)).all()


def test_rank_correlation_is_spearmans_in_one_stratum():
    rng = np.random.default_rng(14)
    values, labels = rng.normal(size=(30, 4)), rng.integers(0, 4, 30)
    effects = st.rank_correlation(values, labels, ONE(30))
    expected = [stats.spearmanr(values[:, k], labels).statistic for k in range(4)]
    np.testing.assert_allclose(effects.effect, expected)
    assert (effects.low < effects.effect).all()
    assert (effects.effect < effects.high).all()


@pytest.mark.parametrize(("n_alt", "n_ref"), [(21, 43), (8, 16)])
def test_minimal_detectable_effect_agrees_with_statsmodels(n_alt, n_ref):
    ours = st.minimal_detectable_effect(variance=1 / n_alt + 1 / n_ref, df=n_alt + n_ref - 2, alpha=0.05, power=0.8)
    theirs = TTestIndPower().solve_power(nobs1=n_alt, ratio=n_ref / n_alt, alpha=0.05, power=0.8)
    assert ours == pytest.approx(float(theirs), rel=1e-3)


@pytest.mark.parametrize(("df", "alpha"), [(6, 0.005), (5, 0.0125), (3, 0.01), (2, 0.025)])
def test_minimal_detectable_effect_exists_in_small_designs_at_strict_levels(df, alpha):
    found = st.minimal_detectable_effect(variance=0.5, df=df, alpha=alpha, power=0.8)
    ncp = found / np.sqrt(0.5)
    assert stats.nct.sf(stats.t.isf(alpha / 2, df), df, ncp) == pytest.approx(0.8, abs=1e-6)


def test_minimal_detectable_correlation_and_hazard_have_the_stated_power():
    rng = np.random.default_rng(0)
    rho = st.minimal_detectable_correlation(df=38, alpha=0.05, power=0.8)  # 40 patients, one stratum
    x, noise = rng.normal(size=(2, 40, 4000))
    # The rank correlation of normal values is 6/pi arcsin(r/2) for Pearson's r.
    r = 2 * np.sin(np.pi * rho / 6)
    found = [
        stats.spearmanr(a, r * a + np.sqrt(1 - r**2) * b).pvalue <= 0.05 for a, b in zip(x.T, noise.T, strict=True)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)
    assert np.isnan(st.minimal_detectable_correlation(df=3, alpha=0.05, power=0.8))
    # Hsieh and Lavori 2000: events needed are (z + z)^2 over the squared log hazard ratio per standard deviation.
    size = st.minimal_detectable_hazard(variance=1 / 50, alpha=0.05, power=0.8)
    assert (1.959964 + 0.841621) ** 2 / size**2 == pytest.approx(50, rel=1e-5)


def test_log_hazard_ratios_of_parts_are_taken_from_their_median_and_cover():
    covered, rng = [], np.random.default_rng(1)
    for _ in range(60):
        values = st.clr(rng.lognormal(5, 0.6, (50, 5)), pseudocount=0.5)
        time, censored = rng.exponential(300, 50), rng.uniform(200, 900, 50)
        seen = (np.minimum(time, censored), time <= censored, np.zeros(50))
        plain = st.log_hazard_ratio(values, *seen)
        found = st.log_hazard_ratio(values, *seen, centre_differences=True)
        spread = values.std(axis=0, ddof=1)
        np.testing.assert_allclose(found.effect, plain.effect - np.median(plain.effect * spread) / spread)
        covered += ((found.low <= 0) & (found.high >= 0)).tolist()
    assert 0.9 <= np.mean(covered) <= 0.99


def test_holm_and_benjamini_hochberg():
    p = np.array([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(st.holm(p), [0.03, 0.06, 0.06, 0.02])  # R: p.adjust(p, "holm")
    np.testing.assert_allclose(st.benjamini_hochberg(p), [0.02, 0.04, 0.04, 0.02])  # R: p.adjust(p, "BH")
    assert len(st.holm([])) == len(st.benjamini_hochberg(np.array([]))) == 0


def test_explained_by_strata():
    labels, centre = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])
    assert st.explained_by_strata(labels, centre) == pytest.approx(1)
    assert st.explained_by_strata(labels, np.array([0, 1, 0, 1])) == pytest.approx(0)
    assert st.explained_by_strata(np.ones(4), centre) == 0


def test_designs_without_freedom_are_defined():
    labels, centre = np.array([1, 0, 1]), np.array([0, 1, 2])  # every patient in a centre of their own
    effects = st.standardised_difference(np.ones((3, 2)), labels, centre)
    assert np.isnan(effects.effect).all()
    result = st.permutation_p(np.arange(6.0).reshape(3, 2), labels, centre, n_permutations=99, seed=0)
    np.testing.assert_array_equal(result.p, [1, 1])
    assert np.isnan(st.minimal_detectable_effect(variance=np.nan, df=0, alpha=0.05, power=0.8))
    assert st.permutation_p(np.empty((4, 0)), two_groups(2, 2), ONE(4), n_permutations=99, seed=0).p.size == 0


def test_speed_of_a_whole_cohort():
    rng = np.random.default_rng(15)
    labels, centre = two_groups(21, 43), rng.integers(0, 6, 64)
    start = time.perf_counter()
    st.permutation_p(rng.normal(size=(64, 60)), labels, centre, n_permutations=9999, seed=0)
    assert time.perf_counter() - start < 5  # about 0.2 s on a free core


@pytest.mark.parametrize("parts", [3, 4, 5])
def test_intervals_of_small_compositions_cover_the_true_effect(parts):
    """The median that differences are taken from is itself uncertain; taken as known, coverage falls to 80 % at 3 parts."""
    y = np.r_[np.ones(15), np.zeros(25)].astype(int)
    shift = np.r_[2.0, np.zeros(parts - 1)]
    truth = shift - shift.mean()
    truth = (truth - np.median(truth)) / np.sqrt(1 - 1 / parts)
    covered = []
    for seed in range(200):
        values = np.random.default_rng([seed, parts]).normal(size=(40, parts)) + np.outer(y, shift)
        values -= values.mean(axis=1, keepdims=True)
        effects = st.standardised_difference(values, y, np.zeros(40, int), centre_differences=True)
        covered.append((effects.low <= truth) & (truth <= effects.high))
    assert (np.mean(covered, axis=0) >= 0.91).all()  # binomial(200, .95): below .91 has probability .006


def test_rank_effects_of_compositions_are_centred_as_their_p():
    rng = np.random.default_rng(5)
    label = rng.normal(size=60)
    values = rng.normal(size=(60, 4))
    values[:, 0] += 2 * label
    values -= values.mean(axis=1, keepdims=True)
    one = np.zeros(60, int)
    plain = st.rank_correlation(values, label, one)
    moved = st.rank_correlation(values, label, one, centre_differences=True)
    assert (plain.high[1:] < 0).all()
    assert ((moved.low[1:] < 0) & (moved.high[1:] > 0)).all() and moved.low[0] > 0


@pytest.mark.parametrize(("parts", "df"), [(3, 62), (4, 62), (4, 8), (6, 20), (20, 62)])
def test_the_factor_of_the_median_gives_the_power_by_brute_force(parts, df):
    rng, draws = np.random.default_rng(parts + df), 200_000
    known = st.minimal_detectable_effect(variance=1, df=df, alpha=0.05, power=0.8)
    noise = rng.normal(size=(draws, parts))
    noise -= noise.mean(axis=1, keepdims=True)
    noise /= np.sqrt(1 - 1 / parts)  # log-ratios of unit spread
    spread = np.sqrt(rng.chisquare(df, draws) / df)

    def statistic(shift):
        moved = noise + shift * np.eye(parts)[0]
        return np.abs(moved[:, 0] - np.median(moved, axis=1)) / spread

    critical = np.quantile(statistic(0), 0.95)
    shift = known * st.median_factor(parts, df=df, alpha=0.05, power=0.8)
    assert (statistic(shift) > critical).mean() == pytest.approx(0.8, abs=0.012)


def test_the_factor_of_the_median_vanishes_with_many_parts_and_repeats():
    options = {"df": 62, "alpha": 0.05, "power": 0.8}
    assert st.median_factor(1, **options) == st.median_factor(2, **options) == 1
    factors = [st.median_factor(parts, **options) for parts in (4, 6, 8, 20, 200)]
    assert factors == sorted(factors, reverse=True)
    assert factors[0] > 1.3 and factors[-1] == pytest.approx(1, abs=0.02)
    st.median_factor.cache_clear()
    assert st.median_factor(4, **options) == factors[0]


@pytest.mark.parametrize(("parts", "lowest"), [(3, 0.86), (4, 0.88), (6, 0.89)])
def test_intervals_cover_a_part_that_pulls_its_own_median(parts, lowest):
    """At 3, 4 and 6 parts .90, .92 and .94 in 1,000 cohorts and more; .83, .88 and .92 from the median of all alone.
    Parts that stayed: .95 or more in every batch of 250. Standard error of 300 cohorts: .017 at .9, .013 at .95."""
    y, one = two_groups(21, 43), np.zeros(64, int)
    truth = np.r_[0.8, np.zeros(parts - 1)]
    covered = []
    for seed in range(300):
        values = np.random.default_rng([seed, parts]).normal(size=(64, parts))
        values += np.outer(y, truth * np.sqrt(1 - 1 / parts))
        found = st.standardised_difference(values - values.mean(axis=1, keepdims=True), y, one, centre_differences=True)
        covered.append((found.low <= truth) & (truth <= found.high))
        assert (found.low <= found.effect).all() and (found.effect <= found.high).all()
    share = np.mean(covered, axis=0)
    assert share[0] >= lowest
    assert (share[1:] >= 0.92).all()


def test_rank_intervals_cover_a_part_that_pulls_its_own_median():
    """.92 in 500 cohorts, .80 before the interval was widened for the median; standard error of 200 cohorts: .02."""
    truth, covered = 0.518, []  # of 100,000 patients
    for seed in range(200):
        rng = np.random.default_rng([seed, 4])
        label, values = rng.normal(size=64), rng.normal(size=(64, 4))
        values[:, 0] += 0.5 * label
        values -= values.mean(axis=1, keepdims=True)
        found = st.rank_correlation(values, label, np.zeros(64, int), centre_differences=True)
        covered.append((found.low[0] <= truth) & (truth <= found.high[0]))
    assert np.mean(covered) >= 0.88
