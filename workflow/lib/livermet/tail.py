"""Malignant cells beyond the tumour-liver border: how far they reach, and whether they stand beside vessels there."""

from __future__ import annotations

import logging
import math

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from livermet import keys
from livermet.neighbourhood import detrend, strata
from livermet.section import Section

logger = logging.getLogger(__name__)

TAIL_COLUMNS = [
    *("n_tumour", "n_liver", "n_distant", "background", "share_outside", "share_low", "share_high"),
    *("d90_um", "d90_low", "d90_high", "reason"),
]
CURVE_COLUMNS = ["distance_um", "mean", "excess", "n"]
VESSEL_COLUMNS = ["measure", "observed", "expected", "effect", "z", "n", "reason"]
ENDOTHELIUM = ("lsec", "endothelial_vascular")
STEP_UM = 10.0
BLOCK_UM = 500.0


def malignant_amount(section: Section) -> np.ndarray:
    """Malignant fraction of each spot; 1 or 0 for each cell."""
    if section.resolution == "cell":
        return (section.cell_type == keys.MALIGNANT_TYPE).astype(float)
    if keys.MALIGNANT_TYPE not in section.abundance:
        return np.full(len(section.barcodes), np.nan)
    return section.abundance[keys.MALIGNANT_TYPE].to_numpy(float)


def _decreasing(total: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Means per step of distance as the closest curve that never rises outwards (isotonic regression)."""
    from sklearn.isotonic import IsotonicRegression

    place, some = np.arange(len(total)), number > 0
    fit = IsotonicRegression(increasing=False, out_of_bounds="clip")
    return fit.fit(place[some], total[some] / number[some], sample_weight=number[some]).predict(place)


def reach(curve: np.ndarray, background: float) -> tuple[float, float]:
    """Share of the malignant amount that lies outside the border, and the distance within which 90 % of that lies.

    curve: malignant amount at steps of ``STEP_UM``, half of them inside and half outside. Areas under the curve, less
    the background: they don't depend on how much tumour or liver the section happens to show. NaN for the distance
    where nothing exceeds the background.
    """
    excess = np.maximum(curve - background, 0)
    half = len(curve) // 2
    outside = excess[half:].sum()
    if outside <= 1e-12:
        return 0.0, np.nan
    steps = np.cumsum(excess[half:]) / outside
    before = np.concatenate([[0.0], steps])
    last = int(np.argmax(steps >= 0.9))
    part = (0.9 - before[last]) / (before[last + 1] - before[last])
    return float(outside / excess.sum()), float((last + part) * STEP_UM)


def section_tail(
    section: Section, *, tail_um: float, min_spots: int, min_cells: int, n_bootstrap: int, seed: int, border_reason: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tail of malignant cells in the liver of one section, and the curve it is read from.

    The malignant amount falls from inside to outside as an isotonic regression on the signed distance; its level in
    distant liver, which is what deconvolution or labels leave where there is no tumour, is taken off. Intervals: 95 %
    over squares of ``BLOCK_UM`` of tissue, resampled with the background: on simulated sections of 2,800 places with
    tails of 60 and 150 um those of the distance held the truth in 88 to 100 % and those of the share in 50 to 100 %,
    since the curve's steps widen it by a few per cent. The border itself is known to about one
    spot, so that on spots a tail shorter than the pitch is no tail.

    Parameters
    ----------
    tail_um
        How far on either side of the border the amount is counted, um.
    min_spots, min_cells
        Spots (or cells, or bins) needed inside, outside within ``tail_um`` and in distant liver.

    Returns
    -------
    One row (``TAIL_COLUMNS``); and the curve (``CURVE_COLUMNS``), empty where there is a reason.
    """
    amount = malignant_amount(section)
    known = ~np.isnan(amount) & ~np.isnan(section.distance)
    distance, amount, zone = section.distance[known], amount[known], section.zone[known]
    near = np.abs(distance) < tail_um
    distant = zone == "distant"
    numbers = {
        "n_tumour": int((near & (distance < 0)).sum()),
        "n_liver": int((near & (distance >= 0)).sum()),
        "n_distant": int(distant.sum()),
    }
    needed = min_spots if section.resolution == "spot" else min_cells
    names = {"n_tumour": "inside the border", "n_liver": "beyond the border", "n_distant": "in distant liver"}
    few = [key for key in names if numbers[key] < needed]
    reason = border_reason
    if few and not reason:
        reason = f"{numbers[few[0]]} {section.resolution}s {names[few[0]]}, {needed} needed"
    if reason:
        row = pd.DataFrame([numbers | {"reason": reason}]).reindex(columns=TAIL_COLUMNS)
        return row, pd.DataFrame(columns=CURVE_COLUMNS, dtype=float)

    n_steps = 2 * round(tail_um / STEP_UM)
    step = np.floor(distance / STEP_UM).astype(np.int64) + n_steps // 2
    block = np.unique(np.floor(section.coordinates[known] / BLOCK_UM), axis=0, return_inverse=True)[1].ravel()
    n_blocks = int(block.max()) + 1
    total, number = np.zeros((2, n_blocks, n_steps))
    inner = near & (step >= 0) & (step < n_steps)
    np.add.at(total, (block[inner], step[inner]), amount[inner])
    np.add.at(number, (block[inner], step[inner]), 1.0)
    far = np.column_stack([np.bincount(block, weights=distant * amount), np.bincount(block, weights=distant)])

    background = float(far[:, 0].sum() / far[:, 1].sum())
    curve = _decreasing(total.sum(axis=0), number.sum(axis=0))
    share, d90 = reach(curve, background)
    draws = []
    times = np.random.default_rng(seed).multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=n_bootstrap)
    for replicate in times:
        away, n_away = replicate @ far
        if n_away > 0 and (replicate @ number).any():
            draws.append(reach(_decreasing(replicate @ total, replicate @ number), away / n_away))
    low, high = _intervals(np.array(draws).reshape(-1, 2))
    row = numbers | {
        "background": background,
        "share_outside": share,
        "share_low": low[0],
        "share_high": high[0],
        "d90_um": d90,
        "d90_low": low[1],
        "d90_high": high[1],
        "reason": "" if share > 0 else "no malignant cells beyond the border above the level of distant liver",
    }
    place = (np.arange(n_steps) - n_steps // 2 + 0.5) * STEP_UM
    shown = pd.DataFrame(
        {"distance_um": place, "mean": curve, "excess": curve - background, "n": number.sum(axis=0).astype(int)}
    )
    return pd.DataFrame([row], columns=TAIL_COLUMNS), shown


def _intervals(draws: np.ndarray) -> tuple[list[float], list[float]]:
    """2.5th and 97.5th percentile of each column over its finite values; NaN where there are none."""
    found = [column[np.isfinite(column)] for column in draws.T]
    low, high = ([float(np.percentile(c, q)) if len(c) else math.nan for c in found] for q in (2.5, 97.5))
    return low, high


def within_groups(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """Sum of x*y, and its mean and standard deviation when y is exchanged within groups.

    In closed form (the permutation distribution of a linear statistic; for two indicators the hypergeometric
    distribution, group by group): draws would only approach it. Group -1 takes no part.
    """
    table = pd.DataFrame({"x": x, "y": y, "xy": x * y, "xx": x * x, "yy": y * y, "n": 1.0})[groups >= 0]
    sums = table.groupby(groups[groups >= 0]).sum()
    n = sums["n"]
    mean = sums["x"] * sums["y"] / n
    variance = (sums["xx"] - sums["x"] ** 2 / n) * (sums["yy"] - sums["y"] ** 2 / n) / (n - 1).where(n > 1)
    return float(sums["xy"].sum()), float(mean.sum()), math.sqrt(max(float(variance.sum()), 0.0))


def vessel_cooption(
    section: Section,
    *,
    tail_um: float,
    vessel_um: float,
    bin_um: float,
    min_spots: int,
    min_cells: int,
    border_reason: str,
) -> pd.DataFrame:
    """Whether malignant cells in the liver stand beside sinusoidal or vascular endothelium more than distance explains.

    Single cells: share of the malignant cells beyond the border that have an endothelial cell within ``vessel_um``,
    against labels exchanged within bins of the distance among all cells but the endothelium; ``effect`` is the log2
    ratio. Spots and bins: correlation of the malignant fraction with the share of endothelium among the other cells
    (which malignant cells leave as it is where they displace all others alike), both less their trend in distance and
    space (:func:`livermet.neighbourhood.detrend`), against spots exchanged within bins; ``effect`` is the correlation.

    z describes one section: malignant cells that clump for any reason widen its true spread, and a spot of several
    cells shows company, not contact. No p, and auxiliary to histology.

    Parameters
    ----------
    tail_um
        How far beyond the border cells and spots count, um.
    vessel_um
        Within this distance of an endothelial cell a cell stands beside it, um. Vessels on the tumour's side of the
        border count here as well, but not among those needed.
    bin_um
        Width of the bins of distance, um.
    min_spots, min_cells
        Spots beyond the border that are needed; bins, or malignant and endothelial cells each.

    Returns
    -------
    One row, ``VESSEL_COLUMNS``; n counts malignant cells beyond the border, or spots.
    """
    cells = section.resolution == "cell"
    measure = f"share_within_{vessel_um:g}_um" if cells else "partial_correlation"
    outside = (section.distance >= 0) & (section.distance < tail_um)
    amount = malignant_amount(section)
    present = [name for name in ENDOTHELIUM if name in section.abundance]
    needed = min_spots if section.resolution == "spot" else min_cells
    result = {"measure": measure, "n": 0}
    if border_reason:
        return _vessels(result | {"reason": border_reason})
    groups, _ = strata(section.distance, section.distance < 0, bin_um=bin_um)
    if cells:
        vessel = np.isin(section.cell_type.astype(str), ENDOTHELIUM)
        rows = outside & ~vessel
        result["n"] = int(amount[rows].sum())
        n_vessel = int((vessel & outside).sum())
        if min(n_vessel, result["n"]) < needed:
            few = f"{result['n']} malignant and {n_vessel} endothelial cells beyond the border, {needed} of each needed"
            return _vessels(result | {"reason": few})
        beside = cKDTree(section.coordinates[vessel]).query(section.coordinates[rows])[0] <= vessel_um
        observed, mean, sd = within_groups(amount[rows], beside.astype(float), groups[rows])
        scale = amount[rows].sum()
        effect = math.log2((observed + 0.5) / (mean + 0.5))
    else:
        endothelium = section.abundance[present].sum(axis=1).to_numpy(float)
        rest = 1 - amount
        rows = outside & ~np.isnan(amount) & (rest > 0)
        result["n"] = int(rows.sum())
        if not present or result["n"] < needed:
            few = f"{result['n']} {section.resolution}s beyond the border, {needed} needed"
            few = few if present else "no profile of endothelium"
            return _vessels(result | {"reason": few})
        both = np.column_stack([amount[rows], endothelium[rows] / rest[rows]])
        side = np.zeros(result["n"], dtype=bool)
        x, y = detrend(both, section.coordinates[rows], section.distance[rows], side, bin_um=bin_um).T
        observed, mean, sd = within_groups(x, y, groups[rows])
        scale = math.sqrt(float((x**2).sum() * (y**2).sum()))
        effect = observed / scale if scale > 0 else np.nan
    if not sd > 0:
        return _vessels(result | {"reason": "malignant cells or endothelium don't vary at equal distance"})
    found = {"observed": observed / scale, "expected": mean / scale, "effect": effect, "z": (observed - mean) / sd}
    return _vessels(result | found | {"reason": ""})


def _vessels(row: dict) -> pd.DataFrame:
    return pd.DataFrame([row]).reindex(columns=VESSEL_COLUMNS)
