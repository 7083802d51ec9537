"""Composition by a model of the counts: beta-binomial regression of each part, as a sensitivity analysis.

The primary analysis takes centred log-ratios, which give a patient with 200 cells the weight of one with 5,000 and need
a pseudocount for zeros. Here the counts themselves are modelled: of a patient's cells, those of one part are binomial
with a share that varies between patients (beta), so that neither zeros nor small samples need a rule of their own
(beta-binomial: Williams 1982; for cell types Mangiola et al. 2023, doi:10.1073/pnas.2203828120).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special, stats

# Standard deviations of weak normal priors, on the scale of logits. They move no estimate that data can tell, and keep
# it finite where a class or a centre has no cell of a part (separation).
COEFFICIENT_SD = 5.0
PRECISION_MEAN, PRECISION_SD = np.log(20.0), 3.0
MAX_STEPS = 200
TOLERANCE = 1e-8
LEVEL = 0.95


@dataclass(frozen=True)
class LogOdds:
    """Log odds ratio of each part against the middle part (label 1 against 0), its 95 % interval, p, and the residual
    degrees of freedom behind both. NaN where there is none to spare."""

    effect: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    df: int


@dataclass(frozen=True)
class Fit:
    """Parts x parameters (coefficients of the design, then the log precision), their covariance, and the log-likelihood
    of each part, priors included."""

    parameters: np.ndarray
    covariance: np.ndarray
    loglik: np.ndarray


def beta_binomial(counts: np.ndarray, labels: np.ndarray, strata: np.ndarray) -> LogOdds:
    """Beta-binomial regression of each part's share on the label, with a level for each stratum.

    Hypothesis: the odds of a part, among all cells kept, move with the label as those of the middle part do: of the log
    odds ratios the median over the parts is taken off, since the shift of one dominant part moves the odds of all the
    others alike. Unit: the patient. p: likelihood ratio against the model in which the part moves with the middle one,
    times the residual over all degrees of freedom, against an F distribution: chi-square has too many rejections in
    small cohorts. The median is taken as known. Assumes that patients are independent and that their spread follows the
    mean as the beta distribution has it; permutation, which needs no such model, carries the primary analysis.

    Parameters
    ----------
    counts
        Patients x parts, whole numbers.
    labels
        0 or 1 per patient.
    strata
        One code per patient (the centre).
    """
    counts, labels = np.asarray(counts, float), np.asarray(labels, float)
    design = np.column_stack([(strata == level).astype(float) for level in np.unique(strata)] + [labels])
    total = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)
    df = len(labels) - design.shape[1]
    if df < 1 or not counts.shape[1]:
        empty = np.full(counts.shape[1], np.nan)
        return LogOdds(empty, empty, empty, empty, max(df, 0))
    full = fit(counts, total, design)
    place = design.shape[1] - 1
    effect = full.parameters[:, place]
    middle = np.median(effect)
    # The prior of the label's coefficient is part of both likelihoods.
    held = fit(counts, total, design[:, :-1], offset=middle * labels)
    ratio = 2 * (full.loglik - held.loglik + 0.5 * (middle / COEFFICIENT_SD) ** 2)
    p = stats.f.sf(np.maximum(ratio, 0) * df / len(labels), 1, df)
    half = stats.t.ppf((1 + LEVEL) / 2, df) * np.sqrt(full.covariance[:, place, place] * len(labels) / df)
    effect = effect - middle
    return LogOdds(effect, effect - half, effect + half, p, df)


def fit(
    counts: np.ndarray,
    total: np.ndarray,
    design: np.ndarray,
    *,
    offset: np.ndarray | None = None,
    coefficient_sd: float = COEFFICIENT_SD,
    precision_sd: float = PRECISION_SD,
) -> Fit:
    """Beta-binomial regressions of all parts at once, by Newton's method with a damped, always definite information.

    The share of part k in patient i is beta distributed with mean ``expit(design_i b_k + offset_i)`` and precision
    ``exp(t_k)`` (the sum of both parameters of the beta distribution).

    Parameters
    ----------
    counts, total
        Patients x parts: cells of the part, and all cells.
    design
        Patients x coefficients. The level of the first column's patients stands for the level of all: priors act on
        differences of the other levels and of the label.
    offset
        Added to the logit, per patient.
    coefficient_sd, precision_sd
        Standard deviations of the priors; infinite for plain maximum likelihood.
    """
    offset = np.zeros(len(design)) if offset is None else offset
    share = (counts.sum(axis=0) + 0.5) / (total.sum(axis=0) + 1)
    start = np.linalg.lstsq(design, np.ones(len(design)), rcond=None)[0]
    parameters = np.column_stack([special.logit(share)[:, None] * start, np.full(counts.shape[1], PRECISION_MEAN)])
    model = _Model(counts, total, design, offset, special.logit(share), coefficient_sd, precision_sd)
    value, gradient, hessian = model.derivatives(parameters)
    damping = np.zeros(len(parameters))
    for _ in range(MAX_STEPS):
        step = _ascent(gradient, hessian, damping)
        if (np.abs(gradient * step).sum(axis=1) < TOLERANCE).all():
            break
        tried = parameters + np.clip(step, -2, 2)
        better, *rest = model.derivatives(tried)
        worse = better < value - 1e-9
        damping = np.where(worse, np.maximum(4 * damping, 1.0), damping / 4)
        parameters = np.where(worse[:, None], parameters, tried)
        value = np.where(worse, value, better)
        gradient = np.where(worse[:, None], gradient, rest[0])
        hessian = np.where(worse[:, None, None], hessian, rest[1])
    return Fit(parameters, np.linalg.pinv(-hessian, hermitian=True), value)


def _ascent(gradient: np.ndarray, hessian: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """Newton's step where the likelihood is concave, and along the gradient's side where it is not."""
    values, vectors = np.linalg.eigh(-hessian)
    size = np.maximum(np.abs(values), 1e-6) + damping[:, None]
    return np.einsum("kij,kj->ki", vectors, np.einsum("kij,ki->kj", vectors, gradient) / size)


def _trigamma(x: np.ndarray) -> np.ndarray:
    """Derivative of digamma, by recurrence and its asymptotic series (Abramowitz and Stegun 1964, 6.4.6 and 6.4.12).

    scipy's own goes by the zeta function and would take most of the time of a fit.
    """
    x = np.asarray(x, float)
    result = np.zeros_like(x)
    for _ in range(8):
        result += 1 / x**2
        x = x + 1
    square = 1 / x**2
    series = 1 / 6 - square * (1 / 30 - square * (1 / 42 - square / 30))
    return result + 1 / x + square / 2 + series * square / x


@dataclass(frozen=True)
class _Model:
    """Log-likelihood of all parts with its derivatives; ``level`` is the logit of each part's share of all cells."""

    counts: np.ndarray
    total: np.ndarray
    design: np.ndarray
    offset: np.ndarray
    level: np.ndarray
    coefficient_sd: float
    precision_sd: float

    def derivatives(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Value (parts), gradient (parts x parameters) and second derivatives."""
        k, n, x = self.counts, self.total, self.design
        q = x.shape[1]
        mean = np.clip(special.expit(x @ parameters[:, :q].T + self.offset[:, None]), 1e-12, 1 - 1e-12)
        precision = np.exp(np.clip(parameters[:, q], -12, 20))
        a, b = precision * mean, precision * (1 - mean)
        value = special.gammaln(k + a) - special.gammaln(a) + special.gammaln(n - k + b) - special.gammaln(b)
        value = (value + special.gammaln(precision) - special.gammaln(n + precision)).sum(axis=0)
        da = special.psi(k + a) - special.psi(a)
        db = special.psi(n - k + b) - special.psi(b)
        ds = special.psi(precision) - special.psi(n + precision)
        daa = _trigamma(k + a) - _trigamma(a)
        dbb = _trigamma(n - k + b) - _trigamma(b)
        dss = _trigamma(precision) - _trigamma(n + precision)
        slope = precision * mean * (1 - mean)
        # By the linear predictor (1), by the log precision (2), and their second derivatives.
        one = slope * (da - db)
        two = precision * (mean * da + (1 - mean) * db + ds)
        one_one = one * (1 - 2 * mean) + slope**2 * (daa + dbb)
        one_two = one + slope * precision * (mean * daa - (1 - mean) * dbb)
        two_two = two + precision**2 * (mean**2 * daa + (1 - mean) ** 2 * dbb + dss)
        gradient = np.column_stack([one.T @ x, two.sum(axis=0)])
        hessian = np.empty((k.shape[1], q + 1, q + 1))
        hessian[:, :q, :q] = np.einsum("ik,ij,il->kjl", one_one, x, x, optimize=True)
        hessian[:, :q, q] = hessian[:, q, :q] = one_two.T @ x
        hessian[:, q, q] = two_two.sum(axis=0)
        return self._with_priors(parameters, value, gradient, hessian)

    def _with_priors(
        self, parameters: np.ndarray, value: np.ndarray, gradient: np.ndarray, hessian: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Normal priors: of the levels around the part's own share, of the label around 0, of the log precision."""
        q = self.design.shape[1]
        centre = np.zeros_like(parameters)
        # Levels of strata are indicators that add up to one in each row; the label's column, if there, comes last.
        n_levels = q - int(not np.allclose(self.design.sum(axis=1), 1))
        centre[:, :n_levels] = self.level[:, None]
        centre[:, q] = PRECISION_MEAN
        sd = np.r_[np.full(q, self.coefficient_sd), self.precision_sd]
        away = (parameters - centre) / sd
        value = value - 0.5 * (away**2).sum(axis=1)
        gradient = gradient - away / sd
        return value, gradient, hessian - np.diag(1 / sd**2)
