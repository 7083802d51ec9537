"""Which cell types stand beside which, beyond what the distance to the tumour border explains.

The graph is squidpy's (``zones.spatial_graph``); its permutations (``sq.gr.nhood_enrichment``) exchange labels over the
whole section and can't be held within strata, and its z depends on the number of jobs, so the null is our own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy import linalg

from livermet import keys
from livermet.graph import pitch
from livermet.section import Section

logger = logging.getLogger(__name__)

NEIGHBOURHOOD_COLUMNS = (
    "library_id", "patient_id", "timepoint", "tissue", "type_a", "type_b",
    "observed", "null_mean", "null_sd", "z", "n_spots", "null", "resolution",
)  # fmt: skip
BY_DISTANCE = "distance_bins"
BY_SIDE = "sides"
TOO_FEW = "too_few_spots"
SPOTS_PER_COEFFICIENT = 20
MOST_COEFFICIENTS = 2000
LOCAL_UM = 300.0
LOCAL_ROWS = 4
FADES_OVER_BINS = 2
RIDGE = 1e-6


def strata(distance: np.ndarray, tumour: np.ndarray, *, bin_um: float) -> tuple[np.ndarray, str]:
    """Groups of spots within which labels may be exchanged.

    Bins of the signed distance, counted outwards from the border on either side so that none straddles it. A section
    without border has two groups, tumour and the rest, which is a weaker null: gradients inside them count as
    neighbourhood there.

    Returns
    -------
    Group code per spot (-1: no distance where others have one; such spots stay in place), and the kind of null.
    """
    known = ~np.isnan(distance)
    if not known.any():
        return tumour.astype(np.int64), BY_SIDE
    outward = np.floor(np.abs(np.where(known, distance, 0)) / bin_um).astype(np.int64)
    code = np.where(tumour, 2 * outward + 1, 2 * outward)
    return np.where(known, code, -1), BY_DISTANCE


def detrend(
    abundance: np.ndarray,
    coordinates: np.ndarray,
    distance: np.ndarray,
    tumour: np.ndarray,
    *,
    bin_um: float,
    local: bool = False,
) -> np.ndarray:
    """Abundances less what a smooth trend explains, on either side of the border.

    Inside a bin the exchange of spots ignores how far each is from the border; and that distance is an estimate whose
    errors neighbours share. With steep gradients both turn up as neighbourhood: on independent types 12 % of pairs
    passed |z| > 1.96 with true and 24 % with estimated distances, against 4 % and 7 % once trends are taken out (14
    simulated sections). The trend is piecewise linear in the distance, with a knot per bin, plus a quadratic surface
    in the coordinates; if ``local``, plus a surface of one height per ``LOCAL_UM`` and a second one that fades away
    from the border: where the border is misplaced over some hundred micrometres, all that lies along it seems out of
    place there (borders off by 60 um over waves of 500 to 1,000 um: 10 % of pairs passed without local surfaces, 7 %
    with them; 36 simulated sections). There is never more than one coefficient per ``SPOTS_PER_COEFFICIENT`` spots of
    a side; where that leaves too few for the local surfaces they get coarser, or are left out.
    """
    result = np.empty_like(abundance)
    for spots, design, inverse in _trends(coordinates, distance, tumour, bin_um=bin_um, local=local):
        result[spots] = abundance[spots] - design @ (inverse @ (design.T @ abundance[spots]))
    return result


def lag_of_trend(
    graph: sp.csr_matrix, coordinates: np.ndarray, distance: np.ndarray, tumour: np.ndarray, *, bin_um: float
) -> float:
    """How far taking the trend out (with local surfaces) sets neighbours apart, per unit of correlation within a spot.

    A fit follows each spot a little, so what is left of its neighbours leans the other way, which no exchange of
    residuals shows. With residuals (I - H) e of independent e, the expectation of e' (I - H) W (I - H) e is
    -(2 tr(HW) - tr(HWH)) times their covariance within a spot (the moments of Moran's I of residuals: Cliff and Ord
    1981, Spatial Processes, chapter 8).
    """
    total = 0.0
    for spots, design, inverse in _trends(coordinates, distance, tumour, bin_um=bin_um, local=True):
        inner = sp.csr_matrix(graph)[spots][:, spots]
        lagged = inverse @ (design.T @ (inner @ design)).toarray()
        total += np.einsum("ij,ji->", lagged, inverse @ (design.T @ design).toarray()) - 2 * np.trace(lagged)
    return float(total / graph.sum())


def _trends(
    coordinates: np.ndarray, distance: np.ndarray, tumour: np.ndarray, *, bin_um: float, local: bool
) -> Iterator[tuple[np.ndarray, sp.csr_matrix, np.ndarray]]:
    """Of either side: its spots, the sparse design of the trend, and the inverse of its normal equations."""
    centred = (coordinates - coordinates.mean(axis=0)) / max(np.ptp(coordinates, axis=0).max(), 1)
    for side in (True, False):
        spots = tumour == side
        if not spots.any():
            continue
        x, y = centred[spots].T
        smooth = [x, y, x * y, x**2, y**2]
        one = np.ones(len(x))
        known = ~np.isnan(distance[spots])
        most = max(1, len(x) // SPOTS_PER_COEFFICIENT)
        heights = [one]
        if known.any():
            away = np.where(known, np.abs(distance[spots]), 0) / bin_um
            heights.append(np.where(known, np.exp(-away / FADES_OVER_BINS), 0))
            columns = np.column_stack([one, away, *smooth][:most])
            if most > columns.shape[1]:
                # Knots go as far as a bin's worth of spots lies beyond them.
                knots = [k for k in range(1, int(away.max()) + 1) if (away > k).sum() >= SPOTS_PER_COEFFICIENT]
                knots = knots[: most - columns.shape[1]]
                columns = sp.hstack([_piecewise(away, knots), np.column_stack(smooth)])
        else:
            columns = np.column_stack([one, *smooth][:most])
        free = (min(most, MOST_COEFFICIENTS) - columns.shape[1]) // len(heights) if local else 0
        surface = _local_surface(coordinates[spots], spacing_um=max(LOCAL_UM, LOCAL_ROWS * bin_um), most=free)
        design = sp.hstack([columns, *(sp.diags(height) @ surface for height in heights)], format="csr")
        # The size of the equations does not grow with the number of spots; a local height without spots stays near 0.
        penalty = np.repeat([RIDGE, 1.0], [columns.shape[1], design.shape[1] - columns.shape[1]])
        yield spots, design, linalg.inv((design.T @ design).toarray() + np.diag(penalty))


def _piecewise(away: np.ndarray, knots: Sequence[int]) -> sp.csr_matrix:
    """Basis of what is linear between 0, the knots and the largest value: rows sum to 1, two entries in each."""
    nodes = np.array([0.0, *knots, max(away.max(), (knots or [0])[-1] + 1)])
    left = np.clip(np.searchsorted(nodes, away, side="right") - 1, 0, len(nodes) - 2)
    right = (away - nodes[left]) / (nodes[left + 1] - nodes[left])
    row = np.repeat(np.arange(len(away)), 2)
    weights = np.column_stack([1 - right, right]).ravel()
    return sp.csr_matrix((weights, (row, np.column_stack([left, left + 1]).ravel())), shape=(len(away), len(nodes)))


def _local_surface(coordinates: np.ndarray, *, spacing_um: float, most: int) -> sp.csr_matrix:
    """Weights of each spot on a square grid of heights, bilinear between them: spots x heights, rows sum to 1.

    The spacing doubles until there are at most so many heights near spots; with fewer than four there is no surface.
    """
    while most >= 4:
        place = (coordinates - coordinates.min(axis=0)) / spacing_um
        corner = np.floor(place).astype(np.int64)
        right, up = (place - corner).T
        width = corner[:, 1].max() + 2
        corners = np.column_stack([(corner + shift) @ [width, 1] for shift in ([0, 0], [0, 1], [1, 0], [1, 1])])
        used, column = np.unique(corners, return_inverse=True)
        if len(used) <= most:
            weights = np.column_stack([(1 - right) * (1 - up), (1 - right) * up, right * (1 - up), right * up])
            row = np.repeat(np.arange(len(place)), 4)
            return sp.csr_matrix((weights.ravel(), (row, column.ravel())), shape=(len(place), len(used)))
        spacing_um *= 2
    return sp.csr_matrix((len(coordinates), 0))


def permutation(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random order of the spots that keeps each within its group; group -1 stays in place."""
    order = np.arange(len(groups))
    by_group = np.argsort(groups, kind="stable")
    shuffled = np.lexsort((rng.random(len(groups)), groups))
    order[by_group] = shuffled
    fixed = groups < 0
    order[fixed] = np.flatnonzero(fixed)
    return order


def lagged_correlation(values: np.ndarray, graph: sp.csr_matrix) -> np.ndarray:
    """Correlation of each type in a spot with each type in its neighbours, over all pairs of neighbouring spots.

    values: spots x types, standardised; graph: symmetric 0/1. Returns types x types, symmetric.
    """
    return values.T @ (graph @ values) / graph.sum()


def enrichment(
    abundance: np.ndarray,
    graph: sp.csr_matrix,
    groups: np.ndarray,
    *,
    n_permutations: int,
    seed: int,
    lag: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lagged cross-correlation of all type pairs against permutations within groups.

    Hypothesis: given the group (distance to the border) and the trend already taken out, the composition of a spot
    tells nothing of that of its neighbours. Whole spots are exchanged, so what types share within a spot stays.
    Assumes spots of a group are exchangeable; z describes one section: spots are not replicates, hence no p. On
    single-cell platforms the columns are 0/1 by label, and the statistic is the join count of two labels over
    neighbouring cells, standardised.

    Returns
    -------
    Observed, null mean, null standard deviation: types x types. NaN for a type that does not vary.
    """
    spread = abundance.std(axis=0)
    values = (abundance - abundance.mean(axis=0)) / np.where(spread > 0, spread, np.nan)
    graph = sp.csr_matrix(graph, dtype=np.float64)
    observed = lagged_correlation(values, graph)
    null = np.empty((n_permutations, *observed.shape))
    for i in range(n_permutations):
        # A generator per permutation: the result does not depend on how permutations are spread over threads.
        null[i] = lagged_correlation(values[permutation(groups, np.random.default_rng([seed, i]))], graph)
    within = values.T @ values / len(values)
    return observed, null.mean(axis=0) + lag * within, null.std(axis=0, ddof=1)


def neighbourhood_table(
    abundance: pd.DataFrame,
    graph: sp.csr_matrix,
    coordinates: np.ndarray,
    distance: np.ndarray,
    tumour: np.ndarray,
    *,
    section: dict[str, str],
    bin_um: float,
    n_permutations: int,
    min_spots: int,
    seed: int,
    min_cells: int = 1,
    resolution: str = "spot",
) -> pd.DataFrame:
    """Neighbourhood enrichment of all type pairs in one section, whatever the order of its spots.

    Parameters
    ----------
    abundance
        Spots x types; spots without abundances take no part. For single cells the labels as 0 and 1.
    graph
        Neighbours, symmetric 0/1.
    coordinates, distance
        Position of the spots and signed distance to the border, um; the latter NaN where there is none.
    tumour
        Tumour mask, which separates the sides.
    section
        library_id, patient_id, timepoint, tissue.
    bin_um
        Width of a distance bin; where spots are further apart than this, one row of spots.
    min_spots
        Sections with fewer usable spots get rows without statistics, ``null`` = "too_few_spots".
    min_cells
        Types that less than this number of spots hold have no statistics.
    resolution
        What a spot is: "spot", "bin" or "cell".

    Returns
    -------
    One row per unordered pair, types as in ``abundance``; z is positive where the two are neighbours more than
    expected. ``null`` says within what was permuted: "distance_bins", or "sides" in a section without border.
    """
    order = np.lexsort(coordinates.T)
    order = order[~abundance.isna().any(axis=1).to_numpy()[order]]
    types = abundance.columns.to_numpy()
    first, second = np.triu_indices(len(types))
    table = pd.DataFrame({"type_a": types[first], "type_b": types[second]})
    table = table.assign(**section, n_spots=len(order), resolution=resolution)
    inner = sp.csr_matrix(graph)[order][:, order]
    if len(order) < min_spots or inner.nnz == 0:
        statistics = dict.fromkeys(["observed", "null_mean", "null_sd", "z"], np.nan)
        table = table.assign(**statistics, null=TOO_FEW)
        logger.info("%s: %d spots, %d needed: no statistics", section["library_id"], len(order), min_spots)
        return table[list(NEIGHBOURHOOD_COLUMNS)]
    values = abundance.to_numpy(dtype=np.float64)[order]
    coordinates, distance, tumour = coordinates[order], distance[order], tumour[order]
    bin_um = max(bin_um, pitch(coordinates))
    groups, kind = strata(distance, tumour, bin_um=bin_um)
    rare = (values > 0).sum(axis=0) < min_cells
    residual = detrend(values, coordinates, distance, tumour, bin_um=bin_um, local=True)
    residual[:, rare | (np.ptp(values, axis=0) == 0)] = 0
    lag = lag_of_trend(inner, coordinates, distance, tumour, bin_um=bin_um)
    observed, mean, sd = enrichment(residual, inner, groups, n_permutations=n_permutations, seed=seed, lag=lag)
    z = np.divide(observed - mean, sd, out=np.full_like(sd, np.nan), where=sd > 0)
    columns = {"observed": observed, "null_mean": mean, "null_sd": sd, "z": z}
    table = table.assign(**{name: matrix[first, second] for name, matrix in columns.items()}, null=kind)
    return table[list(NEIGHBOURHOOD_COLUMNS)]


def sides(section: Section) -> np.ndarray:
    """True where a spot lies on the tumour's side: by the signed distance, by the mask where that is not known."""
    return np.where(np.isnan(section.distance), section.tumour, section.distance < 0)


def labels_as_abundance(section: Section) -> pd.DataFrame:
    """Labels of the cells of a section as 0 and 1 per type; cells without a type are NaN throughout."""
    labels = pd.Series(section.cell_type)
    types = sorted(set(labels) - {keys.UNKNOWN})
    code = pd.Categorical(labels, categories=types).codes
    table = np.zeros((len(labels), len(types)))
    table[np.flatnonzero(code >= 0), code[code >= 0]] = 1
    table[code < 0] = np.nan
    return pd.DataFrame(table, columns=types)


def scope_neighbourhood(
    sections: Sequence[Section],
    *,
    bin_um: float,
    n_permutations: int,
    min_spots: int,
    seed: int,
    min_cells: int = 20,
) -> pd.DataFrame:
    """:func:`neighbourhood_table` of each section, one below the other; with its columns also where there is none.

    Sections that resolve single cells go by their labels, for types with ``min_cells`` cells; others by abundances.
    """
    tables = []
    for section in sections:
        single = section.cell_type is not None
        tables.append(
            neighbourhood_table(
                labels_as_abundance(section) if single else section.abundance,
                section.graph,
                section.coordinates,
                section.distance,
                sides(section),
                section={name: getattr(section, name) for name in NEIGHBOURHOOD_COLUMNS[:4]},
                bin_um=bin_um,
                n_permutations=n_permutations,
                min_spots=min_spots,
                min_cells=min_cells if single else 1,
                resolution=section.resolution,
                seed=seed,
            )
        )
    tables = [table for table in tables if len(table)]
    if not tables:
        return pd.DataFrame(columns=list(NEIGHBOURHOOD_COLUMNS))
    return pd.concat(tables, ignore_index=True)


def of_one_resolution(neighbourhood: pd.DataFrame) -> pd.DataFrame:
    """Rows of the resolution that most patients have: z of spots, bins and cells are not one measure."""
    patients = neighbourhood.groupby("resolution", sort=True)["patient_id"].nunique()
    return neighbourhood[neighbourhood["resolution"] == patients.idxmax()] if len(patients) else neighbourhood
