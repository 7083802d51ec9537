"""Nested cross-validation of ridge-penalised logistic regressions, many at once. No names, no files.

Throughout, rows are patients, one each. A *run* is one complete cross-validation: one labelling of the patients and one
division into folds. Runs are the leading axis of all arrays, so that a permutation null, which repeats the whole
procedure some hundred times, costs seconds. What is learnt from patients (which candidates and which parts of a
composition are kept, means that replace missing values, scales, penalty, coefficients) is learnt from the training
patients of each fold alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

# Penalties to choose from, strongest first, so that ties go to the stronger one. In units of the log-likelihood, for
# standardised candidates: with 50 patients 256 leaves hardly more than the order of the patients, 1 hardly penalises.
PENALTIES = (256.0, 64.0, 16.0, 4.0, 1.0)
INNER_FOLDS = 5
MIN_KNOWN = 0.5  # share of the training patients in whom a candidate must be known
MAX_STEPS = 50
TOLERANCE = 1e-8
MAX_STEP = 4.0  # log odds that one Newton step may move a patient
TINY = 1e-12
ROUNDING = 9  # decimals of the log odds beyond which two patients count as tied
CHUNK = 400  # runs at a time: bounds memory at some hundred MB for 64 patients and 15 candidates


@dataclass(frozen=True)
class Composition:
    """Counts of one composition (patients x parts, a row of NaN where it isn't known), and which parts are candidates.

    A part with fewer than ``min_mean`` cells in the mean over the training patients, or absent in more than
    ``max_zeros`` of them, is left out, also of the mean logarithm that the others are taken from.
    """

    counts: np.ndarray
    candidates: tuple[int, ...]
    min_mean: float
    max_zeros: float
    pseudocount: float


@dataclass(frozen=True)
class Candidates:
    """What a model may use: plain values (patients x candidates, NaN where unknown) and parts of compositions.

    A plain candidate that is 0 in more than ``max_zeros`` of the training patients who have it is left out.
    """

    values: np.ndarray
    max_zeros: float = 1.0
    compositions: tuple[Composition, ...] = ()

    def standardised(self, train: np.ndarray) -> np.ndarray:
        """Candidates of all patients on the scale of the training patients.

        Parameters
        ----------
        train
            Runs x patients, True where a patient trains.

        Returns
        -------
        Runs x patients x candidates: mean 0 and standard deviation 1 over the training patients. Missing values are 0,
        the mean of these; so is a candidate as a whole where the training patients don't allow it.
        """
        weights = train.astype(float)
        known = ~np.isnan(self.values)
        shifted = np.where(known, self.values - _mean_known(self.values), 0.0)
        zeros = weights @ (known & (self.values == 0))
        allowed = zeros <= self.max_zeros * (weights @ known) + TINY
        blocks = [_scaled(np.broadcast_to(shifted, (len(train), *shifted.shape)), known, weights, allowed)]
        return np.concatenate(blocks + [_log_ratios(part, weights) for part in self.compositions], axis=2)


def _mean_known(values: np.ndarray) -> np.ndarray:
    """Mean of the known values of each column; it only keeps sums of squares exact, and cancels out."""
    known = ~np.isnan(values)
    return np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)


def _log_ratios(part: Composition, weights: np.ndarray) -> np.ndarray:
    known = ~np.isnan(part.counts).any(axis=1)
    counts = np.where(known[:, None], part.counts, 0.0)
    inside = weights * known
    total = np.maximum(inside.sum(axis=1, keepdims=True), 1)
    kept = (inside @ counts / total >= part.min_mean) & (inside @ (counts == 0) / total <= part.max_zeros + TINY)
    # One part alone would be a share of what is not known.
    kept &= kept.sum(axis=1, keepdims=True) > 1
    logs = np.log(counts + part.pseudocount)
    centre = (kept @ logs.T) / np.maximum(kept.sum(axis=1, keepdims=True), 1)
    chosen = list(part.candidates)
    values = logs[None, :, chosen] - centre[:, :, None]
    return _scaled(values, np.repeat(known[:, None], len(chosen), axis=1), weights, kept[:, chosen])


def _scaled(values: np.ndarray, known: np.ndarray, weights: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Runs x patients x candidates on the scale of the training patients; 0 where unknown or not allowed."""
    inside = weights[:, :, None] * known
    count = inside.sum(axis=1)
    mean = (inside * values).sum(axis=1) / np.maximum(count, 1)
    centred = (values - mean[:, None, :]) * known
    spread = np.sqrt((inside * centred**2).sum(axis=1) / np.maximum(count, 1))
    usable = allowed & (count >= MIN_KNOWN * weights.sum(axis=1, keepdims=True)) & (spread > 1e-9)
    return centred * np.where(usable, 1 / np.maximum(spread, 1e-9), 0.0)[:, None, :]


@dataclass(frozen=True)
class Ordered:
    """Candidates whose rows are handed out again: in run s, patient i has the row of patient ``order[s, i]``."""

    candidates: Candidates
    order: np.ndarray

    def standardised(self, train: np.ndarray) -> np.ndarray:
        """As :meth:`Candidates.standardised`; ``train`` says which patients train, wherever their rows come from."""
        owners = np.zeros_like(train)
        np.put_along_axis(owners, self.order, train, axis=1)
        return np.take_along_axis(self.candidates.standardised(owners), self.order[:, :, None], axis=1)


Model = Sequence[Candidates | Ordered]


def stratified_folds(labels: np.ndarray, priority: np.ndarray, among: np.ndarray, *, n_folds: int) -> np.ndarray:
    """Divide patients into folds that hold both classes alike.

    Within each class, patients are dealt out in the order of their priority; the second class goes on where the first
    ended, so that folds differ by one patient at most in each class and by one in all.

    Parameters
    ----------
    labels
        Runs x patients, 0 or 1.
    priority
        Runs x patients, random numbers. The same priorities and labels give the same folds.
    among
        Runs x patients, True where a patient is to have a fold.

    Returns
    -------
    Runs x patients: the fold, -1 where there is none.
    """
    fold = np.full(labels.shape, -1)
    offset = np.zeros((len(labels), 1), dtype=int)
    for value in (0, 1):
        here = among & (labels == value)
        rank = np.argsort(np.argsort(np.where(here, priority, np.inf), axis=1, kind="stable"), axis=1, kind="stable")
        fold = np.where(here, (rank + offset) % n_folds, fold)
        offset = here.sum(axis=1, keepdims=True)
    return fold


def fit_ridge(
    x: np.ndarray, labels: np.ndarray, train: np.ndarray, penalty: np.ndarray, *, start: np.ndarray | None = None
) -> np.ndarray:
    """Logistic regressions with a ridge penalty on all coefficients but the intercept, by Newton's method.

    Maximises the log-likelihood less ``penalty / 2`` times the sum of squared coefficients (le Cessie and van
    Houwelingen 1992); scikit-learn's ``LogisticRegression`` with C = 1 / penalty.

    Parameters
    ----------
    x
        Runs x patients x candidates.
    labels, train
        Runs x patients: 0 or 1, and whether the patient trains. Both classes must train.
    penalty
        One per run.
    start
        Coefficients to start from.

    Returns
    -------
    Runs x (1 + candidates), the intercept first.
    """
    design = np.concatenate([np.ones((*x.shape[:2], 1)), x], axis=2)
    weights = train.astype(float)
    diagonal = np.repeat(np.asarray(penalty, float)[:, None], design.shape[2], axis=1)
    diagonal[:, 0] = 0.0
    if start is None:
        start = np.zeros((len(x), design.shape[2]))
        start[:, 0] = special.logit((weights * labels).sum(axis=1) / weights.sum(axis=1))
    beta, active = start.copy(), np.arange(len(x))
    steps = np.arange(design.shape[2])
    for _ in range(MAX_STEPS):
        # Runs that have converged stay as they are, so that no run depends on which others are fitted beside it.
        here, y, w, ridge = design[active], labels[active], weights[active], diagonal[active]
        mean = special.expit((here @ beta[active, :, None])[:, :, 0])
        across = here.transpose(0, 2, 1)
        gradient = (across @ (w * (y - mean))[:, :, None])[:, :, 0] - ridge * beta[active]
        information = across @ (here * np.maximum(w * mean * (1 - mean), TINY)[:, :, None])
        information[:, steps, steps] += ridge
        step = np.linalg.solve(information, gradient[:, :, None])
        far = np.abs(w * (here @ step)[:, :, 0]).max(axis=1, keepdims=True)
        step = step[:, :, 0] * np.minimum(1.0, MAX_STEP / np.maximum(far, TINY))
        beta[active] += step
        active = active[np.abs(step).max(axis=1) > TOLERANCE]
        if not len(active):
            break
    return beta


def log_odds(x: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Runs x patients: linear predictor."""
    return beta[:, :1] + (x @ beta[:, 1:, None])[:, :, 0]


def _joined(model: Model, train: np.ndarray) -> np.ndarray:
    return np.concatenate([part.standardised(train) for part in model], axis=2)


def chosen_penalties(model: Model, labels: np.ndarray, train: np.ndarray, priority: np.ndarray) -> np.ndarray:
    """The penalty of each run with the smallest deviance in an inner cross-validation among its training patients."""
    fold = stratified_folds(labels, priority, train, n_folds=INNER_FOLDS)
    deviance = np.zeros((len(PENALTIES), len(labels)))
    for held in range(INNER_FOLDS):
        inside, outside = train & (fold != held), fold == held
        x, beta = _joined(model, inside), None
        for place, penalty in enumerate(PENALTIES):
            beta = fit_ridge(x, labels, inside, np.full(len(x), penalty), start=beta)
            eta = log_odds(x, beta)
            deviance[place] += (outside * (np.logaddexp(0, eta) - labels * eta)).sum(axis=1)
    return np.asarray(PENALTIES)[np.argmin(deviance, axis=0)]


def predict_held_out(model: Model, labels: np.ndarray, train: np.ndarray, priority: np.ndarray) -> np.ndarray:
    """Log odds of all patients by a model that was tuned on, and fitted to, the training patients of each run.

    Parameters
    ----------
    model
        Candidates, side by side.
    labels, train
        Runs x patients. The labels of those who don't train are never read.
    priority
        Runs x patients, random numbers that the inner folds follow.
    """
    labels = np.where(train, labels, 0.0)
    penalty = chosen_penalties(model, labels, train, priority)
    x = _joined(model, train)
    return np.round(log_odds(x, fit_ridge(x, labels, train, penalty)), ROUNDING)


def cross_validate(
    model: Model, labels: np.ndarray, outer: np.ndarray, inner: np.ndarray, *, n_folds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Out-of-fold log odds of every patient, each by a model that saw nothing of the patient's fold (nested).

    Varma and Simon 2006: with the tuning outside, the error of a classifier of noise looks better than chance.

    Parameters
    ----------
    model
        Candidates, side by side; the rows of ``Ordered`` ones belong to the runs.
    labels
        Runs x patients, 0 or 1.
    outer, inner
        Runs x patients, random numbers that the outer and the inner folds follow.
    n_folds
        Outer folds.

    Returns
    -------
    Log odds and fold, runs x patients.
    """
    fold = stratified_folds(labels, outer, np.ones(labels.shape, dtype=bool), n_folds=n_folds)
    eta = np.zeros(labels.shape)
    for first in range(0, len(labels), CHUNK):
        here = slice(first, first + CHUNK)
        parts = [Ordered(part.candidates, part.order[here]) if isinstance(part, Ordered) else part for part in model]
        for held in range(n_folds):
            test = fold[here] == held
            eta[here][test] = predict_held_out(parts, labels[here], ~test, inner[here])[test]
    return eta, fold


def concordance(score: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which pairs of patients of the same group are in the right order.

    Pairs are formed within a fold (or centre) only. Scores of two folds come from two models: pooled, they rank noise
    below chance, since a fold with many responders was predicted by a model that saw few (Parker, Guenter and Bedo
    2007, doi:10.1186/1471-2105-8-326). Within folds the expectation on noise is exactly one half.

    Parameters
    ----------
    score, groups
        Patients.
    labels
        Patients, 0 or 1.

    Returns
    -------
    Patients with label 1 x patients with label 0: 1 where the former scores higher, a half where they tie, 0 otherwise
    and between groups; and 1 where both are of the same group.
    """
    one, zero = labels == 1, labels == 0
    pairs = groups[one][:, None] == groups[zero][None, :]
    difference = score[one][:, None] - score[zero][None, :]
    return pairs * (np.sign(difference) + 1) / 2, pairs.astype(float)


def mean_auc(scores: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """Area under the ROC curve within groups, over all runs (runs x patients); NaN without a pair."""
    found = [concordance(*run) for run in zip(scores, labels, groups, strict=True)]
    pairs = sum(pair.sum() for _, pair in found)
    return float(sum(right.sum() for right, _ in found) / pairs) if pairs else float("nan")


def fold_aucs(scores: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each fold of each run, one after the other; folds without a pair are left out."""
    found = []
    for score, y, fold in zip(scores, labels, folds, strict=True):
        for held in np.unique(fold):
            right, pairs = concordance(score[fold == held], y[fold == held], fold[fold == held])
            if pairs.size:
                found.append(right.sum() / pairs.sum())
    return np.array(found)


def corrected_interval(centre: float, values: np.ndarray, *, n_folds: int) -> tuple[float, float]:
    """95 % interval of a difference of cross-validated measures from its values in the folds of all repeats.

    The corrected resampled t (Nadeau and Bengio 2003, doi:10.1023/A:1024068626366; for repeated folds Bouckaert and
    Frank 2004): since training sets overlap, the variance of the mean is that of the values times 1 / (number of
    values) + n_test / n_train. It is approximate: for the gain of one model over another it held the mean over cohorts
    in .95 of 200 cohorts of noise and in .905 of 200 with an effect (``make truth``). The AUC of one model has another
    interval (:mod:`livermet.validation`). Whether there is a gain at all is for the permutation to say.

    Parameters
    ----------
    centre
        The difference over all folds.
    values
        The difference in each fold.
    n_folds
        Folds of a repeat.
    """
    if len(values) < 2:
        return float("nan"), float("nan")
    error = np.sqrt((1 / len(values) + 1 / (n_folds - 1)) * values.var(ddof=1))
    half = float(stats.t.ppf(0.975, len(values) - 1) * error)
    return centre - half, centre + half


def bootstrap_aucs(right: Sequence[np.ndarray], pairs: np.ndarray, *, n_bootstrap: int, seed: int) -> np.ndarray:
    """Areas under the ROC curve when patients are drawn again within their class; the models stay as they are.

    Parameters
    ----------
    right
        One matrix per model as from :func:`concordance`, summed over runs.
    pairs
        The same for the pairs. All models see the same draws, so that their differences are paired.

    Returns
    -------
    Models x draws; draws without a pair are NaN.
    """
    rng = np.random.default_rng(seed)
    n_one, n_zero = pairs.shape
    one = rng.multinomial(n_one, np.full(n_one, 1 / n_one), size=n_bootstrap)
    zero = rng.multinomial(n_zero, np.full(n_zero, 1 / n_zero), size=n_bootstrap)
    total = ((one @ pairs) * zero).sum(axis=1)
    sums = np.array([((one @ matrix) * zero).sum(axis=1) for matrix in right])
    return np.divide(sums, total, out=np.full(sums.shape, np.nan), where=total > 0)


def calibration(eta: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the observed on the predicted log odds.

    Cox 1958; van Calster et al. 2019 (doi:10.1186/s12916-019-1466-7). Slope: of a logistic regression of the label on
    the log odds; below 1 the predictions are too extreme. Intercept: with the slope held at 1; above 0 the predictions
    are too low. NaN where all predictions are alike.

    Parameters
    ----------
    eta
        Runs x patients, out-of-fold log odds; patients without a prediction are NaN in all runs.
    labels
        Patients.
    """
    known = ~np.isnan(eta[0])
    flat, y = eta[:, known].ravel(), np.tile(labels[known], len(eta)).astype(float)
    spread = flat.std() if len(flat) else 0.0
    if spread < 1e-6 or len(np.unique(y)) < 2:
        return float("nan"), float("nan")
    scaled = ((flat - flat.mean()) / spread)[None, :, None]
    beta = fit_ridge(scaled, y[None], np.ones((1, len(y)), dtype=bool), np.array([1e-6]))
    intercept = optimize.brentq(lambda shift: (special.expit(flat + shift) - y).sum(), -50, 50)
    return float(beta[0, 1] / spread), float(intercept)
