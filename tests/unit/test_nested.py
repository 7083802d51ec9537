"""The numerics of nested cross-validation: against scikit-learn, on noise, with nothing of a fold in its model."""

import numpy as np
import pytest
from scipy import stats

from livermet import nested
from livermet.nested import Candidates, Composition, Ordered


def everyone(n):
    return np.ones((1, n), dtype=bool)


def validated(model, y, *, runs=1, seed=0, n_folds=5):
    """AUC over runs, with the numbers that the folds follow."""
    rng = np.random.default_rng(seed)
    shape = (runs, len(y)) if np.ndim(y) == 1 else np.shape(y)
    labels = np.broadcast_to(y, shape).astype(float)
    outer, inner = rng.random(shape), rng.random(shape)
    eta, fold = nested.cross_validate(model, labels, outer, inner, n_folds=n_folds)
    return eta, fold, labels


@pytest.mark.parametrize("penalty", nested.PENALTIES)
def test_coefficients_are_those_of_scikit_learn(penalty):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6)) * rng.lognormal(size=6)
    y = (x[:, 0] + rng.logistic(size=40) > 0).astype(float)
    train = everyone(40)
    train[0, :10] = False
    scaled = Candidates(x).standardised(train)
    np.testing.assert_allclose(scaled[0, 10:], (x[10:] - x[10:].mean(axis=0)) / x[10:].std(axis=0), atol=1e-12)
    ours = nested.fit_ridge(scaled, y[None], train, np.array([penalty]))[0]
    theirs = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(scaled[0, 10:], y[10:])
    np.testing.assert_allclose(ours, [theirs.intercept_[0], *theirs.coef_[0]], atol=1e-6)


def test_separable_classes_have_finite_coefficients():
    x = np.r_[np.full(12, -1.0), np.full(12, 1.0)][None, :, None] * 50
    beta = nested.fit_ridge(x, (x[:, :, 0] > 0).astype(float), everyone(24), np.array([1.0]))
    assert np.isfinite(beta).all()
    assert beta[0, 1] > 0


def test_log_odds_by_hand_are_those_of_the_whole_procedure():
    """One division into folds, rebuilt with scikit-learn's grid search."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 4))
    y = (x[:, 0] + rng.logistic(size=50) > 0).astype(int)
    outer, inner = rng.random((1, 50)), rng.random((1, 50))
    eta, fold = nested.cross_validate([Candidates(x)], y[None].astype(float), outer, inner, n_folds=5)
    grid = {"logisticregression__C": [1 / penalty for penalty in nested.PENALTIES]}
    for held in (0, 3):
        train = fold[0] != held
        parts = nested.stratified_folds(y[None], inner, train[None], n_folds=5)[0][train]
        splits = [(np.flatnonzero(parts != k), np.flatnonzero(parts == k)) for k in range(5)]
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=10_000))
        search = GridSearchCV(pipeline, grid, cv=splits, scoring="neg_log_loss").fit(x[train], y[train])
        np.testing.assert_allclose(eta[0, ~train], search.decision_function(x[~train]), atol=1e-5)


def test_folds_hold_both_classes_alike_and_every_patient_once():
    rng = np.random.default_rng(2)
    y = (rng.random((20, 43)) < 0.35).astype(float)
    fold = nested.stratified_folds(y, rng.random(y.shape), np.ones(y.shape, dtype=bool), n_folds=5)
    assert set(np.unique(fold)) == set(range(5))
    for labels, held in zip(y, fold, strict=True):
        for value in (0, 1):
            sizes = np.bincount(held[labels == value], minlength=5)
            assert sizes.max() - sizes.min() <= 1
        assert np.ptp(np.bincount(held)) <= 1
    among = rng.random(y.shape) < 0.5
    assert ((nested.stratified_folds(y, rng.random(y.shape), among, n_folds=5) == -1) == ~among).all()


def test_what_is_learnt_comes_from_the_training_patients_alone():
    """Whatever happens to values and labels of held-out patients, model and scale stay as they are."""
    rng = np.random.default_rng(3)
    plain, counts = rng.normal(size=(40, 3)), rng.poisson(50, (40, 6)).astype(float)
    plain[rng.random(plain.shape) < 0.1] = np.nan
    y, train, priority = (rng.random((1, 40)) < 0.5).astype(float), everyone(40), rng.random((1, 40))
    train[0, :8] = False

    def model(values, parts):
        return [Candidates(values, 0.5, (Composition(parts, (0, 2), 20, 0.1, 0.5),))]

    before = nested.predict_held_out(model(plain, counts), y, train, priority)
    other, empty, flipped = plain.copy(), counts.copy(), y.copy()
    other[1:8], empty[1:8, :4], flipped[0, :8] = 1e3, 0.0, 1 - y[0, :8]
    after = nested.predict_held_out(model(other, empty), flipped, train, priority)
    np.testing.assert_array_equal(before[0, [0, *range(8, 40)]], after[0, [0, *range(8, 40)]])
    assert (before[0, 1:8] != after[0, 1:8]).any()


def test_rare_parts_are_left_out_by_the_training_patients():
    counts = np.tile([300.0, 200.0, 100.0, 30.0], (20, 1)) + np.arange(20)[:, None] * [1, 2, 3, 0.5]
    counts[:4, 3] = 0.0
    part = Composition(counts, (0, 3), min_mean=20, max_zeros=0.1, pseudocount=0.5)
    train = np.ones((2, 20), dtype=bool)
    train[1, :3] = False
    scaled = Candidates(np.empty((20, 0)), compositions=(part,)).standardised(train)
    # Absent in 4 of 20 training patients: left out; in 1 of 17: kept.
    assert (scaled[0, :, 1] == 0).all()
    assert (scaled[1, :, 1] != 0).any()
    logs = np.log(counts[:, :3] + 0.5)
    expected = logs[:, 0] - logs.mean(axis=1)
    np.testing.assert_allclose(scaled[0, :, 0], (expected - expected.mean()) / expected.std())


def test_one_part_that_is_left_is_no_candidate():
    counts = np.column_stack([np.arange(100.0, 120.0), np.ones(20)])
    part = Composition(counts, (0,), min_mean=20, max_zeros=0.1, pseudocount=0.5)
    assert not Candidates(np.empty((20, 0)), compositions=(part,)).standardised(everyone(20)).any()


def test_candidates_that_are_rare_unknown_or_constant_are_left_out():
    values = np.random.default_rng(4).normal(size=(20, 4))
    values[:12, 0], values[:12, 1], values[:, 2] = np.nan, 0.0, 3.0
    scaled = Candidates(values, 0.5).standardised(everyone(20))[0]
    assert not scaled[:, :3].any()
    assert scaled[:, 3].all()


def test_patients_who_exchange_rows_take_their_values_along():
    rng = np.random.default_rng(5)
    values = rng.normal(size=(30, 3))
    order = np.array([rng.permutation(30), rng.permutation(30)])
    train = rng.random((2, 30)) < 0.7
    ordered = Ordered(Candidates(values), order).standardised(train)
    for run in range(2):
        plain = Candidates(values[order[run]]).standardised(train[run][None])
        np.testing.assert_allclose(ordered[run], plain[0], atol=1e-12)


def test_a_run_does_not_depend_on_the_runs_beside_it(monkeypatch):
    rng = np.random.default_rng(6)
    y = (rng.random((9, 40)) < 0.4).astype(float)
    outer, inner = rng.random(y.shape), rng.random(y.shape)
    model = [Ordered(Candidates(rng.normal(size=(40, 4))), np.array([rng.permutation(40) for _ in y]))]
    together, _ = nested.cross_validate(model, y, outer, inner, n_folds=5)
    monkeypatch.setattr(nested, "CHUNK", 2)
    apart, _ = nested.cross_validate(model, y, outer, inner, n_folds=5)
    np.testing.assert_array_equal(together, apart)


def test_auc_within_groups_is_that_of_a_rank_test():
    rng = np.random.default_rng(7)
    score, y = rng.normal(size=40).round(1), (rng.random(40) < 0.4).astype(float)
    expected = stats.mannwhitneyu(score[y == 1], score[y == 0]).statistic / (y.sum() * (1 - y).sum())
    assert nested.mean_auc(score[None], y[None], np.zeros((1, 40))) == pytest.approx(expected)
    # A shift of one group against the other changes nothing within groups.
    groups = np.arange(40) % 2
    shifted = nested.mean_auc((score + 5 * groups)[None], y[None], groups[None])
    assert shifted == pytest.approx(nested.mean_auc(score[None], y[None], groups[None]))
    assert np.isnan(nested.mean_auc(score[None], np.zeros((1, 40)), groups[None]))


def test_noise_has_an_auc_of_one_half_and_pooled_folds_do_not():
    """60 noise cohorts (n = 40 to 64), each with four labellings; the standard error of the mean is below .01."""
    rng = np.random.default_rng(8)
    within, pooled = [], []
    for seed in range(60):
        n = int(rng.integers(40, 65))
        y = rng.permuted(np.tile(np.arange(n) < 0.4 * n, (4, 1)), axis=1)
        eta, fold, labels = validated([Candidates(rng.normal(size=(n, 5)))], y, seed=seed)
        within.append(nested.mean_auc(eta, labels, fold))
        pooled.append(nested.mean_auc(eta, labels, np.zeros_like(fold)))
    assert abs(np.mean(within) - 0.5) <= 0.03
    assert np.mean(pooled) < np.mean(within) - 0.01  # why pairs are formed within folds


def test_selecting_before_cross_validating_finds_noise():
    """The trap: of 1,000 noise features the ten that differ most, then cross-validation. Seeds are frozen."""
    naive, honest = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(64, 1000)), np.repeat([0.0, 1.0], [38, 26])
        best = np.argsort(-np.abs(stats.ttest_ind(x[y == 1], x[y == 0]).statistic))[:10]
        for columns, found in ((best, naive), (np.arange(10), honest)):
            eta, fold, labels = validated([Candidates(x[:, columns])], y, runs=2, seed=seed)
            found.append(nested.mean_auc(eta, labels, fold))
    assert np.mean(naive) > 0.8
    assert abs(np.mean(honest) - 0.5) < 0.08


def test_permuting_through_the_whole_procedure_gives_uniform_p():
    """60 noise cohorts of 40 patients, 19 permutations each: Kolmogorov-Smirnov against the discrete uniform."""
    rng = np.random.default_rng(9)
    p = []
    for _ in range(60):
        y = np.repeat([0.0, 1.0], [24, 16])
        rows = np.array([y, *(rng.permutation(y) for _ in range(19))])
        numbers = np.broadcast_to(rng.random((2, 1, 40)), (2, 20, 40))
        eta, fold = nested.cross_validate([Candidates(rng.normal(size=(40, 3)))], rows, *numbers, n_folds=5)
        aucs = [nested.mean_auc(eta[[run]], rows[[run]], fold[[run]]) for run in range(20)]
        # Ties are broken at random: p is uniform on (0, 1) then.
        p.append((np.sum(np.array(aucs) > aucs[0]) + rng.random() * np.sum(np.array(aucs) == aucs[0])) / 20)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_a_planted_signal_is_found_by_the_order_of_its_size():
    """Means of three cohorts of 80; over eight seeds single cohorts had .40 to .69, .63 to .78 and .82 to .93."""
    means = []
    for size in (0.0, 1.0, 3.0):
        aucs = []
        for seed in (10, 11, 12):
            rng = np.random.default_rng(seed)
            x = rng.normal(size=(80, 4))
            y = (size * x[:, 2] + rng.logistic(size=80) > 0).astype(float)
            eta, fold, labels = validated([Candidates(x)], y, runs=2)
            aucs.append(nested.mean_auc(eta, labels, fold))
        means.append(np.mean(aucs))
    assert means[0] < 0.6 < means[1] < 0.8 < means[2]


def test_calibration_recovers_slope_and_shift():
    rng = np.random.default_rng(11)
    eta = rng.normal(size=20_000)
    y = (eta + rng.logistic(size=20_000) > 0).astype(float)
    assert nested.calibration(eta[None], y) == pytest.approx((1.0, 0.0), abs=0.06)
    slope, _ = nested.calibration(2 * eta[None], y)
    assert slope == pytest.approx(0.5, abs=0.03)
    _, intercept = nested.calibration(eta[None] - 1, y)
    assert intercept == pytest.approx(1.0, abs=0.06)
    assert np.isnan(nested.calibration(np.zeros((1, 10)), np.repeat([0.0, 1.0], 5))).all()


def test_calibration_is_that_of_statsmodels():
    import statsmodels.api as sm

    rng = np.random.default_rng(12)
    eta = rng.normal(size=(3, 60))
    y = (eta[0] + rng.logistic(size=60) > 0).astype(float)
    fit = sm.GLM(np.tile(y, 3), sm.add_constant(eta.ravel()), family=sm.families.Binomial()).fit()
    shift = sm.GLM(np.tile(y, 3), np.ones(180), offset=eta.ravel(), family=sm.families.Binomial()).fit()
    assert nested.calibration(eta, y) == pytest.approx((fit.params[1], shift.params[0]), abs=1e-4)


def test_corrected_interval_by_hand():
    values = np.array([0.5, 0.7, 0.6, 0.8, 0.65])
    error = np.sqrt((1 / 5 + 1 / 4) * values.var(ddof=1))
    low, high = nested.corrected_interval(0.65, values, n_folds=5)
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 4) * error)
    assert np.isnan(nested.corrected_interval(0.5, values[:1], n_folds=5)).all()


def test_drawing_patients_again_has_the_spread_of_a_rank_test():
    """Against the variance of Hanley and McNeil 1982 for one score; paired models of equal scores differ by nothing."""
    rng = np.random.default_rng(13)
    y = np.repeat([0.0, 1.0], [60, 40])
    right, pairs = nested.concordance(rng.normal(size=100) + y, y, np.zeros(100))
    one, two = nested.bootstrap_aucs([right, right], pairs, n_bootstrap=2000, seed=0)
    np.testing.assert_array_equal(one, two)
    auc = right.sum() / pairs.sum()
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + 39 * (q1 - auc**2) + 59 * (q2 - auc**2)) / (40 * 60)
    assert one.std() == pytest.approx(np.sqrt(variance), rel=0.2)
    assert one.mean() == pytest.approx(auc, abs=0.01)
