"""How well a value tells two classes apart: area under the ROC curve, its interval, and what a second marker adds.

Numerics only, no names, no files. Rows are patients, labels are 0 or 1, an area above one half means that higher values
go with class 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from livermet import firth, statistics

CHUNK = 25  # permuted markers that are fitted together: bounds memory at about 100 MB for 100 patients and 50 folds
NEAR = 1e-9


@dataclass(frozen=True)
class Gain:
    """Cross-validated areas of the reference alone and with the other marker, their difference, and its p."""

    reference: float
    both: float
    difference: float
    p: float
    n_permutations: int


def auc(values: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve: the share of pairs in which the patient of class 1 has the higher value.

    Ties count half. NaN where a class is empty.
    """
    labels = np.asarray(labels)
    n_alt, n_ref = int((labels == 1).sum()), int((labels == 0).sum())
    if not n_alt or not n_ref:
        return float("nan")
    ranks = stats.rankdata(values)
    return float((ranks[labels == 1].sum() - n_alt * (n_alt + 1) / 2) / (n_alt * n_ref))


def auc_interval(
    area: float, n_alt: int, n_ref: int, *, level: float = 0.95, inflation: float = 1.0
) -> tuple[float, float]:
    """Interval of an area under the ROC curve (Newcombe 2006, Stat Med 25:559, method 5).

    The areas whose own standard error reaches the observed one. The error is that of Hanley and McNeil (1982) with both
    sample sizes replaced by their mean. Unlike intervals around the estimate it holds in small samples, stays between 0
    and 1, and exists where the classes are separated.

    Parameters
    ----------
    area
        The observed area.
    n_alt, n_ref
        Patients of class 1 and of class 0.
    level
        Confidence level.
    inflation
        What the variance is multiplied by, where more than the choice of patients makes the area vary.
    """
    z = stats.norm.ppf((1 + level) / 2) * np.sqrt(inflation)
    half = (n_alt + n_ref) / 2 - 1

    def distance(theta: float) -> float:
        spread = 1 + half * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (area - theta) ** 2 - z**2 * theta * (1 - theta) / (n_alt * n_ref) * spread

    # The error vanishes at 0 and 1, where an area of just that has a root that is no limit: stay beside it.
    low = 0.0 if area <= NEAR else float(optimize.brentq(distance, 0.0, area - NEAR))
    high = 1.0 if area >= 1 - NEAR else float(optimize.brentq(distance, area + NEAR, 1.0))
    return low, high


def null_variance(labels: np.ndarray, groups: np.ndarray) -> float:
    """Variance of the area among pairs of one group, of a value that has nothing to do with the classes.

    In one group that of Mann and Whitney (1947). NaN without a pair.

    Parameters
    ----------
    labels, groups
        Patients; 0 or 1, and the group within which pairs are formed.
    """
    _, codes = np.unique(groups, return_inverse=True)
    size, n_alt = np.bincount(codes), np.bincount(codes, weights=np.asarray(labels) == 1)
    pairs = n_alt * (size - n_alt)
    return float((pairs * (size + 1)).sum() / 12 / pairs.sum() ** 2) if pairs.sum() else float("nan")


def cross_validated_gain(
    reference: np.ndarray,
    other: np.ndarray,
    labels: np.ndarray,
    strata: np.ndarray,
    *,
    folds: int,
    repeats: int,
    n_permutations: int,
    seed: int,
) -> Gain:
    """What a marker adds to a reference, by the area under the ROC curve of patients who were not fitted.

    Hypothesis: given the reference, the label doesn't depend on the marker. Unit: the patient. Firth's logistic
    regression of the label on the reference, and on both, is fitted on the other folds, and the area is that within the
    held-out fold, averaged over folds and repeats: scores of different fits are never pooled. p: what the reference
    does not explain of the marker (residuals of the linear regression on it, within strata) is exchanged between
    patients of one stratum, and the whole cross-validation repeated (permutation of regressor residuals, Potter 2005,
    Stat Med 24:693). That leaves the relation of reference and label as it is, where exchanging labels would test the
    reference too. One-sided, since a marker adds or it doesn't; the observed arrangement is counted. Assumes that the
    relation of marker and reference is linear and the same in all strata.

    Parameters
    ----------
    reference, other, labels, strata
        One number per patient, on the scale of the model; strata as in :mod:`livermet.statistics`.
    folds
        Folds per repeat, stratified by the label; the smaller class needs at least as many patients.
    repeats
        Random partitions; the same ones for the observed and the permuted markers.
    n_permutations
        Permuted markers.
    seed
        Seed of folds and permutations.
    """
    rng = np.random.default_rng(seed)
    reference, other, y = (np.asarray(column, float) for column in (reference, other, labels))
    train = 1.0 - _held_out(y, folds=folds, repeats=repeats, rng=rng)
    ref_within = statistics.centred(reference[:, None], strata)[:, 0]
    other_within = statistics.centred(other[:, None], strata)[:, 0]
    square = float(ref_within @ ref_within)
    slope = float(ref_within @ other_within) / square if square > statistics.TINY else 0.0
    residual = other_within - slope * ref_within
    explained = other - residual
    markers = np.tile(residual, (n_permutations + 1, 1))
    for stratum in np.unique(strata):
        index = np.flatnonzero(strata == stratum)
        markers[1:, index] = rng.permuted(markers[1:, index], axis=1)
    markers += explained

    alone = float(_fold_areas(reference[None, :, None], y, train)[0])
    both = np.empty(len(markers))
    for start in range(0, len(markers), CHUNK):
        block = markers[start : start + CHUNK]
        pair = np.stack([np.broadcast_to(reference, block.shape), block], axis=2)
        both[start : start + CHUNK] = _fold_areas(pair, y, train)
    p = float((both >= both[0] - 1e-12).mean())
    return Gain(alone, float(both[0]), float(both[0]) - alone, p, n_permutations)


def _held_out(y: np.ndarray, *, folds: int, repeats: int, rng: np.random.Generator) -> np.ndarray:
    """Folds of all repeats x patients, 1 where the patient is held out; each class is dealt out evenly."""
    rows = []
    for _ in range(repeats):
        fold = np.empty(len(y), dtype=int)
        for start, value in enumerate((0, 1)):
            index = rng.permutation(np.flatnonzero(y == value))
            # The second class is dealt the other way round, so that no fold is the largest of both.
            dealt = np.arange(len(index)) % folds
            fold[index] = folds - 1 - dealt if start else dealt
        rows += [fold == k for k in range(folds)]
    return np.array(rows, dtype=float)


def _fold_areas(x: np.ndarray, y: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Mean area within the held-out folds, for each set of covariates (sets x patients x covariates)."""
    # Scaling does not change the maximum, which is the same for every linear map of the covariates (Firth's penalty
    # included): it only keeps the steps well conditioned, and so need not be done anew in each fold.
    scale = x.std(axis=1, keepdims=True)
    x = (x - x.mean(axis=1, keepdims=True)) / np.where(scale > 0, scale, 1.0)
    coef = firth.fit_many(x, y, train)
    scores = np.einsum("bnp,bfp->bfn", x, coef[:, :, 1:])
    areas = []
    for fold, row in enumerate(train):
        out = row == 0
        held = scores[:, fold, out]
        alt, ref = held[:, y[out] == 1], held[:, y[out] == 0]
        gap = alt[:, :, None] - ref[:, None, :]
        # Fits agree to about six digits: scores closer than that are ties.
        areas.append(((gap > 1e-9) + 0.5 * (np.abs(gap) <= 1e-9)).mean(axis=(1, 2)))
    return np.mean(areas, axis=0)
