"""Numerics of times to an event: Cox models, Firth's penalty, scores for permutation tests. No names, no files.

Rows are patients: the unit of every test. ``time`` counts from one origin for all of them, ``event`` is 1 where the
event was seen at that time and 0 where the patient was last known to be free of it. ``strata`` (their centre) gives
each level a baseline hazard of its own; patients are compared within levels only.

The partial likelihood is a sum over events of ``x_i b - log(sum_j w_kj exp(x_j b))``, where row k of the weights ``w``
says who was at risk at event k: 1, by Efron (1977) less for those with an event at the same time. All derivatives are
products with that matrix, for many features at once. It has a row per event and a column per patient, which is meant
for cohorts of up to some thousand patients.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

Ties = Literal["efron", "breslow"]

TINY = 1e-12  # what counts as 0
MIN_EVENTS = 10  # per parameter: with fewer the plain estimate is biased away from 0 (Peduzzi et al. 1995)
MAX_STEPS = 100
MAX_CUTS = 20
MAX_STEP = 1.0  # log hazard ratio per standard deviation
TOLERANCE = 1e-10
DIVERGED = 20.0  # log hazard ratio per standard deviation: beyond it the likelihood has no maximum (monotone)


@dataclass(frozen=True)
class Fit:
    """A Cox model of one design.

    Attributes
    ----------
    coef, se
        Log hazard ratio per unit of each column, and its standard error (inverse information).
    loglik, loglik_null
        Log partial likelihood at ``coef`` and at 0; with ``firth`` both hold the penalty.
    converged
        False where the likelihood has no maximum or the columns are collinear; ``coef`` is then no estimate.
    firth, ties
        How it was fitted.
    """

    coef: np.ndarray
    se: np.ndarray
    loglik: float
    loglik_null: float
    converged: bool
    firth: bool
    ties: Ties


@dataclass(frozen=True)
class HazardRatios:
    """Cox models of one feature each, one entry per feature.

    ``effect`` is the log hazard ratio per standard deviation of the feature, ``low`` and ``high`` its interval,
    ``ph_p`` the p of the test of proportional hazards, and ``method`` is "cox" (Wald interval) or "firth" (profile of
    the penalised likelihood). NaN where a feature has no spread among patients at risk together.
    """

    effect: np.ndarray
    low: np.ndarray
    high: np.ndarray
    ph_p: np.ndarray
    method: np.ndarray


@dataclass(frozen=True)
class _Risk:
    """Events and who was at risk: ``weights`` events x patients, ``patient`` the one of each event, its ``rank``:
    the share of patients who had an event before (1 less the Kaplan-Meier estimate just before)."""

    weights: np.ndarray
    patient: np.ndarray
    rank: np.ndarray


def fit(
    x: np.ndarray,
    time: np.ndarray,
    event: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    firth: bool = False,
    ties: Ties = "efron",
) -> Fit:
    """Cox's proportional hazards model (Cox 1972) by Newton's method.

    Parameters
    ----------
    x
        Patients x covariates, no missing values.
    time, event, strata
        See the module.
    firth
        Add half the log determinant of the information (Jeffreys' prior; Firth 1993, Heinze and Schemper 2001), which
        keeps the estimate finite where all events fall on one side, and takes off the first-order bias.
    ties
        Events at the same time by Efron (1977) or by Breslow (1974).
    """
    x = np.asarray(x, float)
    scaled, spread = _scaled(x)
    risk = _risk(time, event, strata, ties)
    design = scaled.T[:, :, None]
    null = _derivatives(design, np.zeros((1, x.shape[1])), risk, firth)[0]
    coef, value, information, converged = _maximise(design, risk, firth)
    variance = _inverse(information)[0]
    # The information is that of the scaled columns; its determinant is put back to their own units.
    penalty = -float(np.log(spread).sum()) if firth else 0.0
    return Fit(
        coef=coef[0] / spread,
        se=np.sqrt(np.diag(variance)) / spread,
        loglik=float(value[0]) + penalty,
        loglik_null=float(null[0]) + penalty,
        converged=bool(converged[0]),
        firth=firth,
        ties=ties,
    )


def interval(
    fitted: Fit,
    x: np.ndarray,
    time: np.ndarray,
    event: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    level: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper limits of each coefficient.

    Wald's for a plain fit; with Firth's penalty the profile of the penalised likelihood (Heinze and Schemper 2001),
    which is far from symmetric where events are few. NaN where the fit did not converge.

    Parameters
    ----------
    fitted, x, time, event, strata
        The fit and what it was made from.
    level
        Coverage.
    """
    if not fitted.converged:
        return np.full_like(fitted.coef, np.nan), np.full_like(fitted.coef, np.nan)
    if not fitted.firth:
        half = stats.norm.isf((1 - level) / 2) * fitted.se
        return fitted.coef - half, fitted.coef + half
    scaled, spread = _scaled(np.asarray(x, float))
    risk = _risk(time, event, strata, fitted.ties)
    limits = [
        _profile(scaled.T[:, :, None], (fitted.coef * spread)[None, :], risk, column=column, level=level)
        for column in range(len(spread))
    ]
    low, high = (np.array([limit[side][0] for limit in limits]) / spread for side in (0, 1))
    return low, high


def per_sd(
    values: np.ndarray,
    time: np.ndarray,
    event: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    level: float = 0.95,
) -> HazardRatios:
    """Hazard ratio of each feature alone, per standard deviation among the patients compared.

    Firth's penalty where fewer than ``MIN_EVENTS`` events carry information (:func:`informative_events`), and for
    features for which the plain likelihood has no maximum; else the plain model. Efron's ties.

    Parameters
    ----------
    values
        Patients x features, no missing values.
    time, event, strata
        See the module.
    level
        Coverage of the intervals.
    """
    scaled, _ = _scaled(np.asarray(values, float))
    risk = _risk(time, event, strata, "efron")
    design = scaled[None, :, :]
    coef, _, information, converged = _maximise(design, risk, False)
    few = informative_events(time, event, strata=strata) < MIN_EVENTS
    firth = np.full(scaled.shape[1], True) if few else ~converged
    half = stats.norm.isf((1 - level) / 2) * np.sqrt(_inverse(information)[:, 0, 0])
    low, high = coef[:, 0] - half, coef[:, 0] + half
    if firth.any():
        some = design[:, :, firth]
        penalised, _, _, fine = _maximise(some, risk, True)
        penalised[~fine] = np.nan
        coef[firth] = penalised
        low[firth], high[firth] = _profile(some, penalised, risk, column=0, level=level)
    ph_p = _proportional(design, coef, risk)[:, 0]
    return HazardRatios(coef[:, 0], low, high, ph_p, np.where(firth, "firth", "cox"))


def log_rank_scores(time: np.ndarray, event: np.ndarray, *, strata: np.ndarray | None = None) -> np.ndarray:
    """Observed less expected events of each patient, where the hazard is the same for all of a stratum.

    The martingale residuals of the model without covariates (Nelson-Aalen). Their sum over a group is the numerator of
    the log-rank test, and their sum of products with a feature is the score of Cox's model at 0 (Breslow's ties): a
    permutation test of a feature's slope on them, within strata, is the permutation log-rank test. Where follow-up
    depends on the feature, they are not exchangeable and the test doesn't hold.
    """
    time, event = np.asarray(time, float), np.asarray(event, int)
    strata = np.zeros(len(time), int) if strata is None else np.asarray(strata)
    scores = event.astype(float)
    for stratum in np.unique(strata):
        own = np.flatnonzero(strata == stratum)
        moments = np.unique(time[own][event[own] == 1])
        deaths = (time[own][None, :] == moments[:, None]) @ event[own]
        at_risk = (time[own][None, :] >= moments[:, None]).sum(axis=1)
        scores[own] -= (time[own][:, None] >= moments[None, :]) @ (deaths / at_risk)
    return scores


def informative_events(time: np.ndarray, event: np.ndarray, *, strata: np.ndarray | None = None) -> int:
    """Events at which another patient of the stratum was at risk: the others say nothing on any feature."""
    weights = _risk(time, event, strata, "breslow").weights
    return int((weights.sum(axis=1) > 1).sum())


@dataclass(frozen=True)
class Curve:
    """A Kaplan-Meier curve, one entry at 0 and per distinct time.

    ``at_risk`` and ``events`` are those of that time; ``low`` and ``high`` are pointwise limits of ``survival``, NaN
    once nobody is left.
    """

    time: np.ndarray
    at_risk: np.ndarray
    events: np.ndarray
    survival: np.ndarray
    low: np.ndarray
    high: np.ndarray


def kaplan_meier(time: np.ndarray, event: np.ndarray, *, level: float = 0.95) -> Curve:
    """Share of patients without the event (Kaplan and Meier 1958), with pointwise limits.

    Greenwood's variance on the scale log(-log), which keeps limits within 0 and 1 and covers with few patients (Borgan
    and Liestol 1990).
    """
    time, event = np.asarray(time, float), np.asarray(event, int)
    times = np.unique(np.append(time, 0.0))
    at_risk = (time[None, :] >= times[:, None]).sum(axis=1)
    events = ((time[None, :] == times[:, None]) & (event == 1)[None, :]).sum(axis=1)
    survival = np.cumprod(1 - events / np.maximum(at_risk, 1))
    left = at_risk - events
    terms = np.divide(events, at_risk * left, out=np.zeros(len(times)), where=left > 0)
    inside = (survival > 0) & (survival < 1)
    log = np.log(np.where(inside, survival, 0.5))
    half = stats.norm.isf((1 - level) / 2) * np.sqrt(np.cumsum(terms)) / log
    low, high = (np.where(inside, survival ** np.exp(sign * half), survival) for sign in (-1, 1))
    low, high = (np.where(survival > 0, limit, np.nan) for limit in (low, high))
    return Curve(times, at_risk, events, survival, low, high)


def median_time(
    time: np.ndarray, survival: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[float, float, float]:
    """Median of a curve with its limits (Brookmeyer and Crowley 1982): where the curve, and its limits, fall to a half.

    NaN where they don't within follow-up. Where the curve lies at exactly one half for a while it is the middle of that
    stretch, as in R's survival.
    """

    def reaches(limit: np.ndarray) -> float:
        below = np.flatnonzero(~(limit > 0.5 + TINY))
        if not len(below):
            return float("nan")
        first = below[0]
        flat = np.flatnonzero(limit < 0.5 - TINY)
        if abs(limit[first] - 0.5) <= TINY and len(flat):
            return float(time[first] + time[flat[0]]) / 2
        return float(time[first])

    return reaches(survival), reaches(np.where(np.isnan(low), 0, low)), reaches(np.where(np.isnan(high), 1, high))


def proportional_hazards_p(
    fitted: Fit, x: np.ndarray, time: np.ndarray, event: np.ndarray, *, strata: np.ndarray | None = None
) -> np.ndarray:
    """Test of each covariate for a hazard ratio that changes with time.

    Hypothesis: the log hazard ratio is constant. Grambsch and Therneau (1994) as a score test of ``x g(t)`` added to
    the model, as in cox.zph of R's survival from version 3.0; ``g`` is 1 less the Kaplan-Meier estimate of all patients
    just before the event ("km"). With few events it finds gross departures alone: a large p proves nothing.

    Parameters
    ----------
    fitted, x, time, event, strata
        The fit and what it was made from.

    Returns
    -------
    One p per covariate, on one degree of freedom each; NaN where the fit did not converge.
    """
    if not fitted.converged:
        return np.full_like(fitted.coef, np.nan)
    scaled, spread = _scaled(np.asarray(x, float))
    risk = _risk(time, event, strata, fitted.ties)
    return _proportional(scaled.T[:, :, None], (fitted.coef * spread)[None, :], risk)[0]


def _scaled(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns with mean 0 and standard deviation 1, and the standard deviations (without spread: zeros, and 1)."""
    spread = x.std(axis=0, ddof=1) if len(x) > 1 else np.zeros(x.shape[1])
    # Rounding leaves a constant column with a spread of its own in the last digits.
    constant = spread <= TINY * np.maximum(1, np.abs(x).max(axis=0, initial=0))
    spread = np.where(constant, 1.0, spread)
    return np.where(constant, 0.0, (x - x.mean(axis=0)) / spread), spread


def _risk(time: np.ndarray, event: np.ndarray, strata: np.ndarray | None, ties: Ties) -> _Risk:
    time, event = np.asarray(time, float), np.asarray(event, int)
    _, codes = np.unique(np.zeros(len(time)) if strata is None else np.asarray(strata), return_inverse=True)
    dead = np.flatnonzero(event == 1)
    dead = dead[np.lexsort((codes[dead], time[dead]))]
    together = codes[dead][:, None] == codes[None, :]
    weights = (together & (time[None, :] >= time[dead][:, None])).astype(float)
    if ties == "efron":
        tied = together & (time[None, :] == time[dead][:, None]) & (event == 1)[None, :]
        among = tied[:, dead]
        weights -= tied * (np.tril(among, -1).sum(axis=1) / np.maximum(among.sum(axis=1), 1))[:, None]
    moments, place = np.unique(time[dead], return_inverse=True)
    at_risk = (time[None, :] >= moments[:, None]).sum(axis=1)
    surviving = np.cumprod(1 - np.bincount(place, minlength=len(moments)) / np.maximum(at_risk, 1))
    return _Risk(weights, dead, 1 - np.concatenate([[1.0], surviving])[place])


def _at_risk(
    x: np.ndarray, coef: np.ndarray, risk: _Risk
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """What each event says: log-likelihood (events x features), mean (covariates x events x features) and covariance of
    the covariates among those at risk, weighted by their hazard; and that mean for any other column."""
    predictor = sum(column * own for column, own in zip(x, coef.T, strict=True))
    predictor = predictor - predictor.max(axis=0, initial=-np.inf)
    hazard = np.exp(predictor)
    total = np.maximum(risk.weights @ hazard, np.finfo(float).tiny)

    def average(column: np.ndarray) -> np.ndarray:
        return risk.weights @ (hazard * column) / total

    mean = np.stack([average(column) for column in x])
    covariance = np.empty((len(x), *mean.shape))
    for a in range(len(x)):
        for b in range(a + 1):
            covariance[a, b] = covariance[b, a] = average(x[a] * x[b]) - mean[a] * mean[b]
    return predictor[risk.patient] - np.log(total), mean, covariance, average


def _derivatives(
    x: np.ndarray, coef: np.ndarray, risk: _Risk, firth: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value (features), score (features x covariates) and information of the log-likelihood.

    Parameters
    ----------
    x
        Covariates x patients x features: one model per feature.
    coef
        Features x covariates.
    risk
        The events.
    firth
        Whether value and score hold the penalty. The information is that of the plain likelihood either way.
    """
    loglik, mean, covariance, average = _at_risk(x, coef, risk)
    value = loglik.sum(axis=0)
    score = (x[:, risk.patient] - mean).sum(axis=1).T
    information = np.moveaxis(covariance.sum(axis=2), -1, 0)
    if not firth:
        return value, score, information
    value = value + 0.5 * np.log(np.maximum(np.linalg.det(information), TINY**2))
    inverse = _inverse(information)
    # The derivative of the log determinant by a coefficient: trace of the inverse with the third central moments.
    for a, b, c in itertools.combinations_with_replacement(range(len(x)), 3):
        third = average(x[a] * x[b] * x[c]) - mean[a] * mean[b] * mean[c]
        third = third - mean[a] * covariance[b, c] - mean[b] * covariance[a, c] - mean[c] * covariance[a, b]
        for one, two, by in set(itertools.permutations((a, b, c))):
            score[:, by] += 0.5 * inverse[:, one, two] * third.sum(axis=0)
    return value, score, information


def _regular(information: np.ndarray) -> np.ndarray:
    """Which matrices can be inverted: smallest eigenvalue above rounding (the columns have standard deviation 1)."""
    return (np.linalg.eigvalsh(information) > 1e-9).all(axis=1)


def _inverse(information: np.ndarray) -> np.ndarray:
    """Inverse of each matrix, NaN where there is none."""
    fine = _regular(information)
    result = np.full_like(information, np.nan)
    result[fine] = np.linalg.inv(information[fine])
    return result


def _maximise(
    x: np.ndarray, risk: _Risk, firth: bool, *, start: np.ndarray | None = None, free: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Newton's method with shortened steps, for all features at once.

    Parameters
    ----------
    x, risk, firth
        As for :func:`_derivatives`.
    start
        Coefficients to start from, 0 by default.
    free
        Covariates whose coefficients may move, all by default.

    Returns
    -------
    Coefficients, value, information, and whether a maximum was found.
    """
    coef = np.zeros((x.shape[2], len(x))) if start is None else start.copy()
    moving = list(range(len(x)) if free is None else free)
    value, score, information = _derivatives(x, coef, risk, firth)
    for _ in range(MAX_STEPS):
        regular = _regular(information[:, moving][:, :, moving])
        lost = ~regular | (not firth) & (np.abs(coef) > DIVERGED).any(axis=1)
        step = np.zeros_like(coef)
        own = _inverse(information[:, moving][:, :, moving])
        step[:, moving] = np.einsum("fab,fb->fa", own, score[:, moving])
        step[lost] = 0
        step = np.clip(step, -MAX_STEP, MAX_STEP)
        settled = np.abs(step).max(axis=1, initial=0) < TOLERANCE
        if settled.all():
            break
        # Too long a step is cut where the slope along it would be 0. The penalty bends the likelihood more than its
        # information says, so that with few events a step of Newton may miss by as much as it came.
        slope = (step * score).sum(axis=1)
        for _ in range(MAX_CUTS):
            tried = _derivatives(x, coef + step, risk, firth)
            beyond = (step * tried[1]).sum(axis=1)
            long = beyond < -0.1 * slope
            if not long.any():
                break
            share = np.divide(slope, slope - beyond, out=np.ones_like(slope), where=long)
            step = step * share[:, None]
            slope = slope * share
        coef = coef + step
        value, score, information = tried
    return coef, value, information, settled & ~lost


def _profile(
    x: np.ndarray, best: np.ndarray, risk: _Risk, *, column: int, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where the penalised likelihood, at its best over the others, has fallen by half a chi-square quantile.

    Parameters
    ----------
    x, risk
        As for :func:`_derivatives`.
    best
        Coefficients at the maximum, features x covariates.
    column
        The covariate whose interval is sought.
    level
        Coverage.

    Returns
    -------
    Lower and upper limits, one per feature; NaN where ``best`` is.
    """
    others = [name for name in range(len(x)) if name != column]
    fine = ~np.isnan(best).any(axis=1)
    start = np.where(fine[:, None], best, 0)
    target = _derivatives(x, start, risk, True)[0] - stats.chi2.ppf(level, 1) / 2

    def excess(place: np.ndarray) -> np.ndarray:
        at = start.copy()
        at[:, column] = place
        return np.where(fine, _maximise(x, risk, True, start=at, free=others)[1] - target, 0)

    limits = []
    for side in (-1.0, 1.0):
        inside, above = start[:, column], np.full(len(start), stats.chi2.ppf(level, 1) / 2)
        width = np.ones(len(start))
        below = excess(inside + side * width)
        while (below > 0).any():
            width = np.where(below > 0, 2 * width, width)
            below = excess(inside + side * width)
        outside = inside + side * width
        # Regula falsi; an end of the bracket that stays twice counts half (Illinois), which makes it fast.
        last = np.zeros(len(start), bool)
        for _ in range(MAX_STEPS):
            share = np.divide(above, above - below, out=np.zeros_like(above), where=above > below)
            place = inside + share * (outside - inside)
            value = excess(place)
            if (np.abs(value) < TOLERANCE).all():
                break
            up = value > 0
            again = up == last
            inside, outside = np.where(up, place, inside), np.where(up, outside, place)
            above = np.where(up, value, np.where(again, above / 2, above))
            below = np.where(up, np.where(again, below / 2, below), value)
            last = up
        limits.append(np.where(fine, place, np.nan))
    return limits[0], limits[1]


def _proportional(x: np.ndarray, coef: np.ndarray, risk: _Risk) -> np.ndarray:
    """Score test of each covariate times ``risk.rank``, given all covariates: p, features x covariates."""
    known = np.where(np.isnan(coef), 0, coef)
    _, mean, covariance, _ = _at_risk(x, known, risk)
    residual = x[:, risk.patient] - mean
    rank = risk.rank[:, None]
    information = np.moveaxis(covariance.sum(axis=2), -1, 0)
    across = np.moveaxis((covariance * rank).sum(axis=2), -1, 0)
    own = np.moveaxis((covariance * rank**2).sum(axis=2), -1, 0)
    inverse = _inverse(information)
    # With the penalty the plain score is not 0 at the estimate: what it explains is taken off.
    left = (residual * rank).sum(axis=1).T - np.einsum("fjb,fbc,fc->fj", across, inverse, residual.sum(axis=1).T)
    variance = np.einsum("fjj->fj", own) - np.einsum("fjb,fbc,fjc->fj", across, inverse, across)
    statistic = np.divide(left**2, variance, out=np.full_like(left, np.nan), where=variance > TINY)
    return np.where(np.isnan(coef), np.nan, stats.chi2.sf(statistic, 1))
