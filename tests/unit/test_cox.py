"""Cox models against published R output and statsmodels, Firth's penalty against coxphf, scores, nulls, invariances."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.duration.hazard_regression import PHReg

from livermet import cox, statistics

# Remission times in weeks of 42 children with leukaemia (Freireich et al. 1963, as data set gehan of R's MASS).
TREATED = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
TREATED_EVENTS = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
CONTROLS = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]

# Data set ovarian of R's survival (Edmunson et al. 1979): days, death, age, residual disease, treatment, ECOG.
OVARIAN = np.array(
    [
        (59, 1, 72.3315, 2, 1, 1),
        (115, 1, 74.4932, 2, 1, 1),
        (156, 1, 66.4658, 2, 1, 2),
        (421, 0, 53.3644, 2, 2, 1),
        (431, 1, 50.3397, 2, 1, 1),
        (448, 0, 56.4301, 1, 1, 2),
        (464, 1, 56.9370, 2, 2, 2),
        (475, 1, 59.8548, 2, 2, 2),
        (477, 0, 64.1753, 2, 1, 1),
        (563, 1, 55.1781, 1, 2, 2),
        (638, 1, 56.7562, 1, 1, 2),
        (744, 0, 50.1096, 1, 2, 1),
        (769, 0, 59.6301, 2, 2, 2),
        (770, 0, 57.0521, 2, 2, 1),
        (803, 0, 39.2712, 1, 1, 1),
        (855, 0, 43.1233, 1, 1, 2),
        (1040, 0, 38.8932, 2, 1, 2),
        (1106, 0, 44.6000, 1, 1, 1),
        (1129, 0, 53.9068, 1, 2, 1),
        (1206, 0, 44.2055, 2, 2, 1),
        (1227, 0, 59.5890, 1, 2, 2),
        (268, 1, 74.5041, 2, 1, 2),
        (329, 1, 43.1370, 2, 1, 1),
        (353, 1, 63.2192, 1, 2, 2),
        (365, 1, 64.4247, 2, 2, 1),
        (377, 0, 58.3096, 1, 2, 1),
    ]
)


def leukaemia():
    x = np.r_[np.ones(21), np.zeros(21)][:, None]
    return x, np.array(TREATED + CONTROLS, float), np.array(TREATED_EVENTS + [1] * 21)


def separated():
    """The data of the tests of jzluo/firthmodels (tests/conftest.py): all events fall on one side of the first column."""
    rng = np.random.default_rng(42)
    first = rng.choice([0, 1], 100, p=[0.35, 0.65])
    second, third = rng.standard_normal(100), rng.uniform(-1, 1, 100)
    x = np.column_stack([first, second, third, rng.choice([0, 1], 100, p=[0.6, 0.4])])
    survival = rng.exponential(1 / (0.1 * np.exp(x @ np.array([0.0, 0.5, -0.3, 0.7]))))
    censoring = rng.exponential(scale=15.0, size=100)
    return x, np.minimum(survival, censoring), (survival <= censoring) & (first == 1)


def cohort(rng, n=64, *, ties=True, beta=0.0, strata=True):
    """Patients of up to six centres with uneven hazards, one covariate, times with or without ties."""
    x = rng.normal(size=(n, 1))
    centre = rng.choice(6, n, p=[0.3, 0.25, 0.2, 0.1, 0.1, 0.05]) if strata else np.zeros(n, int)
    time = rng.exponential(300 * np.exp(-beta * x[:, 0] + 0.4 * centre))
    follow_up = rng.uniform(100, 700, n)
    event = (time <= follow_up).astype(int)
    time = np.minimum(time, follow_up)
    return x, (np.ceil(time / 30) if ties else time), event, centre


@pytest.mark.parametrize(
    ("ties", "coef", "se"),
    # R survival, coxph(Surv(time, cens) ~ treat, gehan, ties = ...); se(coef) as printed there
    [("efron", -1.5721, 0.4124), ("breslow", -1.5092, 0.4096)],
)
def test_leukaemia_trial_as_published(ties, coef, se):
    fitted = cox.fit(*leukaemia(), ties=ties)
    assert fitted.converged
    assert fitted.coef[0] == pytest.approx(coef, abs=5e-5)
    assert fitted.se[0] == pytest.approx(se, abs=5e-5)


def test_ovarian_trial_as_published():
    # therneau/survival, tests/ovarian.Rout.save: coefficients, standard errors, likelihood ratio
    time, event = OVARIAN[:, 0], OVARIAN[:, 1]
    fitted = cox.fit(OVARIAN[:, 2:5], time, event)
    assert fitted.coef == pytest.approx([0.129, 0.696, -0.849], abs=5e-4)
    assert fitted.se == pytest.approx([0.0473, 0.7585, 0.6392], abs=5e-5)
    assert 2 * (fitted.loglik - fitted.loglik_null) == pytest.approx(16.8, abs=0.05)
    # coxph(Surv(futime, fustat) ~ age + ecog.ps + strata(rx))
    x, strata = OVARIAN[:, [2, 5]], OVARIAN[:, 4]
    fitted = cox.fit(x, time, event, strata=strata)
    assert fitted.coef == pytest.approx([0.13853, -0.09670], abs=5e-6)
    assert fitted.se == pytest.approx([0.04801, 0.62994], abs=5e-6)
    assert 2 * (fitted.loglik - fitted.loglik_null) == pytest.approx(12.71, abs=5e-3)
    low, high = cox.interval(fitted, x, time, event, strata=strata)
    assert np.exp(low) == pytest.approx([1.0454, 0.2641], abs=5e-5)
    assert np.exp(high) == pytest.approx([1.262, 3.120], abs=5e-4)


def test_tied_and_stratified_example_as_published():
    # therneau/survival, tests/Examples/survival-Ex.Rout.save, first example of coxph
    x = np.array([0.0, 2, 1, 1, 1, 0, 0])[:, None]
    fitted = cox.fit(x, [4, 3, 1, 1, 2, 2, 3], [1, 1, 1, 0, 1, 1, 0], strata=np.array([0, 0, 0, 0, 1, 1, 1]))
    assert fitted.coef[0] == pytest.approx(0.8023, abs=5e-5)
    assert fitted.se[0] == pytest.approx(0.8224, abs=5e-5)
    assert 2 * (fitted.loglik - fitted.loglik_null) == pytest.approx(1.09, abs=5e-3)


def test_proportional_hazards_as_cox_zph_prints_them():
    # the same file, example of cox.zph (survival 3, transform km): age 0.698, ecog.ps 2.371
    time, event, x = OVARIAN[:, 0], OVARIAN[:, 1], OVARIAN[:, [2, 5]]
    p = cox.proportional_hazards_p(cox.fit(x, time, event), x, time, event)
    assert stats.chi2.isf(p, 1) == pytest.approx([0.698, 2.371], abs=5e-4)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_statsmodels_in_strata_and_with_ties(ties, seed):
    rng = np.random.default_rng(seed)
    x, time, event, centre = cohort(rng, beta=0.5)
    x = np.column_stack([x, rng.normal(size=(64, 1)) * 7 + 100])
    ours = cox.fit(x, time, event, strata=centre, ties=ties)
    theirs = PHReg(time, x, status=event, strata=centre, ties=ties).fit()
    np.testing.assert_allclose(ours.coef, theirs.params, rtol=1e-6)
    np.testing.assert_allclose(ours.se, theirs.bse, rtol=1e-6)
    assert ours.loglik == pytest.approx(theirs.llf, rel=1e-8)


def test_firth_is_coxphf_where_the_likelihood_has_no_maximum():
    # jzluo/firthmodels, tests/test_cox.py, values made with R's coxphf (Heinze and Ploner)
    x, time, event = separated()
    assert not cox.fit(x, time, event).converged
    fitted = cox.fit(x, time, event, firth=True)
    assert fitted.converged
    assert fitted.coef == pytest.approx([3.8815800583, 0.6042066427, -0.4202139201, 1.0415063080], rel=1e-6)
    assert fitted.se == pytest.approx([1.4430190269, 0.1599607483, 0.2541800107, 0.3128784410], rel=1e-6)
    assert 2 * (fitted.loglik - fitted.loglik_null) == pytest.approx(57.6071, rel=1e-6)
    low, high = cox.interval(fitted, x, time, event)
    assert low == pytest.approx([1.9343469272, 0.2921186188, -0.9217200647, 0.4348431279], rel=1e-6)
    assert high == pytest.approx([8.7215676015, 0.9164270978, 0.0699415336, 1.6550461482], rel=1e-6)


def test_firth_of_two_patients_is_log_three():
    # Heinze and Schemper (2001), section 2
    fitted = cox.fit(np.array([[1.0], [0.0]]), [1, 2], [1, 0], firth=True)
    assert fitted.coef[0] == pytest.approx(np.log(3), abs=1e-8)


def test_per_sd_is_one_model_per_feature_and_says_which():
    rng = np.random.default_rng(5)
    x, time, event, centre = cohort(rng, beta=0.7)
    values = np.column_stack([x[:, 0] * 3 + 10, rng.normal(size=64), np.full(64, 0.1), np.where(time < 4, 1.0, 0)])
    found = cox.per_sd(values, time, event, strata=centre)
    assert list(found.method[:2]) == ["cox", "cox"]
    assert np.isnan([found.effect[2], found.low[2], found.ph_p[2]]).all()
    for k in (0, 1):
        column = values[:, [k]]
        single = cox.fit(column, time, event, strata=centre)
        spread = column.std(ddof=1)
        low, high = cox.interval(single, column, time, event, strata=centre)
        assert [found.effect[k], found.low[k], found.high[k]] == pytest.approx(
            [single.coef[0] * spread, low[0] * spread, high[0] * spread]
        )
        p = cox.proportional_hazards_p(single, column, time, event, strata=centre)
        assert found.ph_p[k] == pytest.approx(p[0])


def test_per_sd_uses_firth_with_few_events_or_without_a_maximum():
    rng = np.random.default_rng(6)
    x, time, event, centre = cohort(rng, n=24, ties=False)
    few = event * (time <= np.sort(time[event == 1])[6])
    assert cox.informative_events(time, few) == 7
    found = cox.per_sd(x, time, few)
    assert found.method[0] == "firth"
    single = cox.fit(x, time, few, firth=True)
    low, high = cox.interval(single, x, time, few)
    spread = x.std(ddof=1)
    assert [found.effect[0], found.low[0], found.high[0]] == pytest.approx(
        [single.coef[0] * spread, low[0] * spread, high[0] * spread], rel=1e-5
    )
    x, time, event, centre = cohort(rng, ties=False)
    monotone = np.column_stack([-np.argsort(np.argsort(time)), x[:, 0]]).astype(float)
    found = cox.per_sd(monotone, time, event, strata=centre)
    assert list(found.method) == ["firth", "cox"]
    assert np.isfinite([found.effect[0], found.low[0], found.high[0]]).all()
    assert found.effect[0] > found.low[0] > 0


def test_events_without_anyone_else_at_risk_carry_no_information():
    time, event, strata = np.array([1.0, 2, 3, 4]), np.array([1, 1, 1, 1]), np.array([0, 0, 0, 1])
    assert cox.informative_events(time, event, strata=strata) == 2
    assert cox.informative_events(time, event) == 3


def test_log_rank_scores_are_observed_less_expected_of_the_published_test():
    # R survival, survdiff(Surv(time, cens) ~ treat, gehan): 9 events where 19.3 are expected, 21 where 10.7 are
    x, time, event = leukaemia()
    scores = cox.log_rank_scores(time, event)
    observed = event[x[:, 0] == 1].sum()
    assert observed - scores[x[:, 0] == 1].sum() == pytest.approx(19.3, abs=0.05)
    assert scores.sum() == pytest.approx(0, abs=1e-12)
    # chi-square 16.79 with the variance of tied hypergeometric counts
    variance = 0.0
    for moment in np.unique(time[event == 1]):
        at_risk, deaths = time >= moment, ((time == moment) & (event == 1)).sum()
        n, treated = at_risk.sum(), (at_risk & (x[:, 0] == 1)).sum()
        variance += deaths * treated / n * (1 - treated / n) * (n - deaths) / (n - 1) if n > 1 else 0
    assert scores[x[:, 0] == 1].sum() ** 2 / variance == pytest.approx(16.79, abs=5e-3)


def test_log_rank_scores_are_martingale_residuals_within_strata():
    x, time, event, centre = cohort(np.random.default_rng(1))
    scores = cox.log_rank_scores(time, event, strata=centre)
    for stratum in np.unique(centre):
        own = centre == stratum
        np.testing.assert_allclose(scores[own], cox.log_rank_scores(time[own], event[own]))
    # Cox's score at 0 is the covariance of the feature with them.
    model = PHReg(time, x, status=event, strata=centre, ties="breslow")
    assert x[:, 0] @ scores == pytest.approx(model.score(np.zeros(1))[0])


def test_permutation_of_the_scores_keeps_its_level_and_finds_a_planted_hazard_ratio():
    rng = np.random.default_rng(2)
    rejected = {0.0: 0, 0.8: 0}
    for beta in rejected:
        for seed in range(200):
            x, time, event, centre = cohort(rng, beta=beta)
            scores = cox.log_rank_scores(time, event, strata=centre)
            p = statistics.permutation_p(x, scores, centre, n_permutations=199, seed=seed).p[0]
            rejected[beta] += p <= 0.05
    # 3,000 null cohorts: 4.97 %. Of 200: 7 to 21 over five seeds of the generator; planted: 190 to 195
    assert 2 <= rejected[0.0] <= 21
    assert rejected[0.8] >= 180


def test_intervals_cover_and_the_test_of_proportional_hazards_keeps_its_level():
    rng = np.random.default_rng(3)
    covered = {"cox": [], "firth": []}
    rejected = []
    for _ in range(300):
        x, time, event, centre = cohort(rng, beta=0.5, ties=False)
        few = event * (time <= np.sort(time[event == 1])[7])
        truth = 0.5 * x[:, 0].std(ddof=1)
        for method, seen in (("cox", event), ("firth", few)):
            found = cox.per_sd(x, time, seen, strata=centre)
            assert found.method[0] == method
            covered[method].append(found.low[0] <= truth <= found.high[0])
            if method == "cox":
                rejected.append(found.ph_p[0] < 0.05)
    # Five times 300 cohorts: .93 to .96 and .94 to .97 covered, .03 to .07 rejected.
    assert 0.90 <= np.mean(covered["cox"]) <= 0.98
    assert 0.90 <= np.mean(covered["firth"]) <= 0.98
    assert np.mean(rejected) <= 0.09


def test_a_hazard_ratio_that_turns_round_is_noticed():
    rng = np.random.default_rng(4)
    found = 0
    for _ in range(40):
        x = rng.choice([0.0, 1.0], 120)
        early, late = rng.exponential(1 / np.where(x == 1, 3, 1)), rng.exponential(1 / np.where(x == 1, 0.3, 3))
        time = np.where(early < 0.4, early, 0.4 + late)
        found += cox.per_sd(x[:, None], time, np.ones(120)).ph_p[0] < 0.05
    assert found >= 36


def test_order_units_origin_and_sign_do_not_matter():
    rng = np.random.default_rng(7)
    x, time, event, centre = cohort(rng, beta=0.4)
    base = cox.per_sd(x, time, event, strata=centre)
    order = rng.permutation(64)
    for other in (
        cox.per_sd(x[order], time[order], event[order], strata=centre[order]),
        cox.per_sd(1000 * x - 7, 30 * time, event, strata=np.array(["f", "e", "d", "c", "b", "a"])[centre]),
    ):
        np.testing.assert_allclose(other.effect, base.effect, rtol=1e-8)
        np.testing.assert_allclose(other.high, base.high, rtol=1e-8)
        np.testing.assert_allclose(other.ph_p, base.ph_p, rtol=1e-6)
    mirrored = cox.per_sd(-x, time, event, strata=centre)
    np.testing.assert_allclose([mirrored.effect, mirrored.low], [-base.effect, -base.high], rtol=1e-8)


def test_nothing_to_estimate_is_nan_and_no_error():
    none = cox.per_sd(np.zeros((5, 2)), np.arange(5.0), np.zeros(5))
    assert np.isnan(none.effect).all()
    assert np.isnan(none.low).all()
    assert np.isnan(cox.per_sd(np.arange(4.0)[:, None], [1, 2, 3, 4], np.zeros(4)).high[0])
    assert cox.per_sd(np.empty((5, 0)), np.arange(5.0), np.ones(5)).effect.shape == (0,)
    collinear = np.column_stack([np.arange(8.0), np.arange(8.0)])
    fitted = cox.fit(collinear, np.arange(8.0), np.array([1, 0] * 4))
    assert not fitted.converged
    assert np.isnan(cox.interval(fitted, collinear, np.arange(8.0), np.array([1, 0] * 4))[0]).all()
    assert np.isnan(cox.proportional_hazards_p(fitted, collinear, np.arange(8.0), np.array([1, 0] * 4))).all()
