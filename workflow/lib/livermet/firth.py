"""Logistic regression with Firth's penalty: numerics only, no names, no files.

The likelihood is multiplied by the root of the determinant of the information (Jeffreys' prior), which removes the
first-order bias of the estimates (Firth 1993) and keeps them finite where a covariate separates the classes, as with
few patients it easily does (Heinze and Schemper 2002). Tests and intervals come from the penalised likelihood itself,
never from standard errors, since under separation its shape is far from a parabola. Throughout, rows are patients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

MAX_ITERATIONS = 200
MAX_HALVINGS = 20
MAX_STEP = 5.0  # largest change of a coefficient in one iteration, as in R's logistf
TOLERANCE = 1e-9
BATCH_ITERATIONS = 60
BATCH_TOLERANCE = 1e-6  # predictions are only ranked, and folds are many
# Coefficients so many standard errors away are sought for the end of an interval; the profile is flat before that only
# where a column carries no information.
MAX_REACH = 2.0**12


@dataclass(frozen=True)
class Fit:
    """Coefficients (the intercept first), the penalised log likelihood, and convergence.

    ``se`` are the roots of the diagonal of the inverse information: a scale for searches, no base of an interval.
    """

    coef: np.ndarray
    se: np.ndarray
    loglik: float
    converged: bool


def fit(x: np.ndarray, y: np.ndarray) -> Fit:
    """Maximise Firth's penalised likelihood.

    Parameters
    ----------
    x
        Patients x covariates, without a column of ones: the intercept is added.
    y
        0 or 1 per patient.

    Raises
    ------
    ValueError
        The columns, with the intercept, are linearly dependent.
    """
    return _maximise(_design(x), np.asarray(y, float))


def likelihood_ratio_p(x: np.ndarray, y: np.ndarray, index: int) -> float:
    """p of the penalised likelihood ratio test of one coefficient (Heinze and Schemper 2002).

    The hypothesis fixes the coefficient at 0 in the same penalised likelihood, whose penalty keeps all columns, as in
    R's logistf. Chi-squared with one degree of freedom.

    Parameters
    ----------
    x, y
        As for :func:`fit`.
    index
        Position of the coefficient; 0 is the intercept.
    """
    design, y = _design(x), np.asarray(y, float)
    drop = _maximise(design, y).loglik - _maximise(design, y, fixed=index, at=0.0).loglik
    return float(stats.chi2.sf(2 * max(drop, 0.0), 1))


def profile_interval(x: np.ndarray, y: np.ndarray, index: int, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of one coefficient from the profile of the penalised likelihood (Heinze and Schemper 2002).

    Parameters
    ----------
    x, y, index
        As for :func:`likelihood_ratio_p`.
    level
        Confidence level.

    Returns
    -------
    Lower and upper limit; infinite where the profile never falls far enough.
    """
    design, y = _design(x), np.asarray(y, float)
    best = _maximise(design, y)
    target = best.loglik - stats.chi2.ppf(level, 1) / 2

    last = best.coef

    def excess(value: float) -> float:
        nonlocal last
        found = _maximise(design, y, fixed=index, at=value, start=last)
        last = found.coef if found.converged else best.coef
        return found.loglik - target

    limits = []
    for sign in (-1.0, 1.0):
        last, step = best.coef, 2.0 * best.se[index]
        inner, outer = best.coef[index], best.coef[index] + sign * step
        while (beyond := excess(outer)) > 0 and step < MAX_REACH * best.se[index]:
            step *= 2
            inner, outer = outer, best.coef[index] + sign * step
        limits.append(sign * math.inf if beyond > 0 else float(optimize.brentq(excess, inner, outer, xtol=1e-6)))
    return limits[0], limits[1]


def fit_many(x: np.ndarray, y: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Coefficients of many fits at once: several sets of covariates, each on several sets of patients.

    Parameters
    ----------
    x
        Sets x patients x covariates, without a column of ones.
    y
        0 or 1 per patient.
    train
        Folds x patients, 1 where the patient takes part.

    Returns
    -------
    Sets x folds x coefficients, the intercept first. Newton steps without halving, bounded as in R's logistf; enough
    for the few standardised covariates of a cross-validation, where predictions are ranked.
    """
    design = np.concatenate([np.ones((*x.shape[:2], 1)), x], axis=2)
    train = np.asarray(train, float)
    sets, folds, size = len(design), len(train), design.shape[2]
    coef = np.zeros((sets, folds, size))
    ridge = 1e-9 * np.eye(size)
    for _ in range(BATCH_ITERATIONS):
        chance = special.expit(np.einsum("bnp,bfp->bfn", design, coef))
        weight = train * chance * (1 - chance)
        # One product of matrices per set: the outer products of each patient's row, weighted in all folds together.
        outer = np.einsum("bnp,bnq->bnpq", design, design).reshape(sets, -1, size * size)
        inverse = np.linalg.inv((weight @ outer).reshape(sets, folds, size, size) + ridge)
        hat = weight * (inverse.reshape(sets, folds, -1) @ outer.transpose(0, 2, 1))
        score = (train * (y - chance) + hat * (0.5 - chance)) @ design
        step = np.einsum("bfpq,bfq->bfp", inverse, score)
        step *= np.minimum(1.0, MAX_STEP / np.maximum(np.abs(step).max(axis=2, keepdims=True), 1e-12))
        coef = coef + step
        if np.abs(step).max(initial=0.0) < BATCH_TOLERANCE:
            break
    return coef


def _design(x: np.ndarray) -> np.ndarray:
    design = np.column_stack([np.ones(len(x)), np.asarray(x, float)])
    rank = int(np.linalg.matrix_rank(design))
    if rank < design.shape[1]:
        raise ValueError(f"Firth regression: {design.shape[1]} columns with the intercept have rank {rank}")
    return design


def _penalised(design: np.ndarray, y: np.ndarray, coef: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Penalised log likelihood, its gradient, and the information."""
    linear = design @ coef
    chance = special.expit(linear)
    weight = chance * (1 - chance)
    information = (design * weight[:, None]).T @ design
    sign, logdet = np.linalg.slogdet(information)
    if sign <= 0 or not math.isfinite(logdet):
        return -math.inf, np.zeros(len(coef)), information
    hat = weight * np.einsum("np,pn->n", design, np.linalg.solve(information, design.T))
    loglik = float(y @ linear - np.logaddexp(0, linear).sum() + logdet / 2)
    return loglik, design.T @ (y - chance + hat * (0.5 - chance)), information


def _maximise(
    design: np.ndarray,
    y: np.ndarray,
    *,
    fixed: int | None = None,
    at: float = 0.0,
    start: np.ndarray | None = None,
) -> Fit:
    """Newton steps with halving; the coefficient ``fixed``, if any, is held ``at`` a value."""
    coef = np.zeros(design.shape[1]) if start is None else start.copy()
    free = np.array([i for i in range(len(coef)) if i != fixed], dtype=int)
    if fixed is not None:
        coef[fixed] = at
    loglik, score, information = _penalised(design, y, coef)
    if not math.isfinite(loglik):
        # Far out the start of another fit may be hopeless; with the other coefficients at 0 there is a way.
        coef[free] = 0.0
        loglik, score, information = _penalised(design, y, coef)
    converged = not len(free)
    for _ in range(MAX_ITERATIONS):
        if converged or not math.isfinite(loglik):
            break
        step = np.linalg.solve(information[np.ix_(free, free)], score[free])
        step *= min(1.0, MAX_STEP / max(float(np.abs(step).max()), 1e-12))
        for _ in range(MAX_HALVINGS):
            trial = coef.copy()
            trial[free] += step
            found = _penalised(design, y, trial)
            if found[0] >= loglik - TOLERANCE:
                break
            step = step / 2
        else:
            break
        coef, (loglik, score, information) = trial, found
        converged = float(np.abs(step).max()) < TOLERANCE * max(1.0, float(np.abs(coef).max())) or (
            float(np.abs(score[free]).max()) < TOLERANCE
        )
    variance = np.diag(np.linalg.pinv(information))
    return Fit(coef, np.sqrt(np.maximum(variance, 0.0)), loglik, converged)
