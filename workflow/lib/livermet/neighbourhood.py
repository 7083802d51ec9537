"""Which cell types stand beside which, beyond what the distance to the tumour border explains.

The graph is squidpy's (``zones.spatial_graph``); its permutations (``sq.gr.nhood_enrichment``) exchange labels over the
whole section and can't be held within strata, and its z depends on the number of jobs, so the null is our own.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy import linalg
from scipy.spatial import cKDTree

from livermet import keys
from livermet.graph import pitch
from livermet.section import Section

logger = logging.getLogger(__name__)

NEIGHBOURHOOD_COLUMNS = (
    "library_id", "patient_id", "timepoint", "tissue", "type_a", "type_b",
    "observed", "null_mean", "null_sd", "z", "n_spots", "null", "resolution",
)  # fmt: skip
COOCCURRENCE_COLUMNS = (*NEIGHBOURHOOD_COLUMNS, "band_um")
# Bands of distance between cells (um); spots, further apart, have rows.
BANDS_UM = (0.0, 30.0, 60.0, 100.0, 150.0)
ROWS_OF_SPOTS = 3
BY_DISTANCE = "distance_bins"
BY_SIDE = "sides"
TOO_FEW = "too_few_spots"
NO_TYPES = "no_types"
SMEARED = "bins_share_cells"
# Why a row has no z, by what stands in ``null``.
REASONS = {
    BY_DISTANCE: "too few spots or cells of either type",
    BY_SIDE: "too few spots or cells of either type",
    TOO_FEW: "too few spots or cells with abundances",
    NO_TYPES: "no cell has a type, or no spot abundances",
    SMEARED: "bins share cells with their neighbours; single cells are needed",
}
SPOTS_PER_COEFFICIENT = 20
MOST_COEFFICIENTS = 2000
LOCAL_UM = 300.0
LOCAL_ROWS = 4
FADES_OVER_BINS = 2
RIDGE = 1e-6
NOISE_COLUMNS = 100
NOISE_BLOCK = 5

# Of one side of the border: its spots, the sparse design of the trend, and the inverse of its normal equations.
Trend = tuple[np.ndarray, sp.csr_matrix, np.ndarray]


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
    return without(abundance, trends(coordinates, distance, tumour, bin_um=bin_um, local=local))


def without(values: np.ndarray, fitted: Iterable[Trend]) -> np.ndarray:
    """Values (spots x columns) less the trend of either side."""
    result = np.empty_like(values)
    for spots, design, inverse in fitted:
        result[spots] = values[spots] - design @ (inverse @ (design.T @ values[spots]))
    return result


def lag_of_trend(
    graphs: Sequence[sp.csr_matrix], groups: np.ndarray, fitted: Sequence[Trend], *, seed: int
) -> np.ndarray:
    """How far taking the trend out sets neighbours apart, beyond what permutations show, per unit of correlation.

    A fit follows each spot a little, so what is left of its neighbours leans the other way (the moments of Moran's I
    of residuals: Cliff and Ord 1981, Spatial Processes, chapter 8). The exchange of residuals shows only a part of
    it: residuals of a bin sum to nearly nothing, in whatever order. Both parts are measured on white noise, in blocks
    of columns so that memory stays small: the lagged correlation of its residuals with themselves, less the same once
    they are exchanged within ``groups``.
    """
    total = np.zeros(len(graphs))
    for block in range(NOISE_COLUMNS // NOISE_BLOCK):
        rng = np.random.default_rng([seed, block, NOISE_COLUMNS])
        left = standardised(without(rng.normal(size=(len(groups), NOISE_BLOCK)), fitted))
        moved = left[permutation(groups, rng)]
        total += [(np.vdot(left, g @ left) - np.vdot(moved, g @ moved)) / g.sum() for g in graphs]
    return total / NOISE_COLUMNS


def trends(
    coordinates: np.ndarray, distance: np.ndarray, tumour: np.ndarray, *, bin_um: float, local: bool
) -> Iterator[Trend]:
    """The trends that :func:`detrend` takes out, of either side of the border that has spots."""
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
        yield spots, design, linalg.inv((design.T @ design).toarray() + np.diag(penalty), overwrite_a=True)


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


def standardised(values: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and standard deviation 1; NaN where a column does not vary."""
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 0, spread, np.nan)


def lagged_correlation(values: np.ndarray, graph: sp.csr_matrix) -> np.ndarray:
    """Correlation of each type in a spot with each type in its neighbours, over all pairs of neighbouring spots.

    values: spots x types, standardised; graph: symmetric. Returns types x types, symmetric.
    """
    return values.T @ (graph @ values) / graph.sum()


def enrichment(
    abundance: np.ndarray,
    graphs: Sequence[sp.csr_matrix],
    groups: np.ndarray,
    *,
    n_permutations: int,
    seed: int,
    lags: Sequence[float] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lagged cross-correlation of all type pairs in each graph against permutations within groups.

    Hypothesis: given the group (distance to the border) and the trend already taken out, the composition of a spot
    tells nothing of that of its neighbours. Whole spots are exchanged, so what types share within a spot stays.
    Assumes spots of a group are exchangeable; z describes one section: spots are not replicates, hence no p. On
    single-cell platforms the columns are 0/1 by label, and the statistic is the join count of two labels over
    neighbouring cells, standardised.

    Returns
    -------
    Observed, null mean, null standard deviation: graphs x types x types. NaN for a type that does not vary.
    """
    values = standardised(abundance)
    graphs = [sp.csr_matrix(graph, dtype=np.float64) for graph in graphs]
    observed = np.array([lagged_correlation(values, graph) for graph in graphs])
    null = np.empty((n_permutations, *observed.shape))
    for i in range(n_permutations):
        # A generator per permutation: the result does not depend on how permutations are spread over threads.
        moved = values[permutation(groups, np.random.default_rng([seed, i]))]
        null[i] = [lagged_correlation(moved, graph) for graph in graphs]
    within = values.T @ values / len(values)
    lag = np.zeros(len(graphs)) if lags is None else np.asarray(lags)
    return observed, null.mean(axis=0) + lag[:, None, None] * within, null.std(axis=0, ddof=1)


def neighbourhood_table(
    abundance: pd.DataFrame,
    graphs: Mapping[str, sp.csr_matrix],
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
    graphs
        Neighbours, symmetric; several graphs by the name that goes into ``band_um``.
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
        What a spot is: "spot" or "cell".

    Returns
    -------
    One row per graph and unordered pair, types as in ``abundance``; z is positive where the two are neighbours more
    than expected. ``null`` says within what was permuted: "distance_bins", or "sides" in a section without border.
    """
    order = np.lexsort(coordinates.T)
    order = order[~abundance.isna().any(axis=1).to_numpy()[order]]
    types = abundance.columns.to_numpy()
    first, second = np.triu_indices(len(types))
    table = pd.DataFrame({"type_a": types[first], "type_b": types[second]})
    table = table.assign(**section, n_spots=len(order), resolution=resolution)
    inner = {band: sp.csr_matrix(graph)[order][:, order] for band, graph in graphs.items()}
    used = [band for band in inner if inner[band].nnz] if len(order) >= min_spots else []
    unknown = {"observed": np.nan, "null_mean": np.nan, "null_sd": np.nan, "z": np.nan, "null": TOO_FEW}
    tables = {band: table.assign(**unknown, band_um=band) for band in graphs or [""]}
    if used:
        values = abundance.to_numpy(dtype=np.float64)[order]
        coordinates, distance, tumour = coordinates[order], distance[order], tumour[order]
        bin_um = max(bin_um, pitch(coordinates))
        groups, kind = strata(distance, tumour, bin_um=bin_um)
        rare = (values > 0).sum(axis=0) < min_cells
        fitted = list(trends(coordinates, distance, tumour, bin_um=bin_um, local=True))
        residual = without(values, fitted)
        residual[:, rare | (np.ptp(values, axis=0) == 0)] = 0
        pairs = [inner[band] for band in used]
        lags = lag_of_trend(pairs, groups, fitted, seed=seed)
        found = enrichment(residual, pairs, groups, n_permutations=n_permutations, seed=seed, lags=lags)
        for band, observed, mean, sd in zip(used, *found, strict=True):
            z = np.divide(observed - mean, sd, out=np.full_like(sd, np.nan), where=sd > 0)
            columns = {"observed": observed, "null_mean": mean, "null_sd": sd, "z": z}
            columns = {name: matrix[first, second] for name, matrix in columns.items()}
            tables[band] = table.assign(**columns, null=kind, band_um=band)
    else:
        logger.info("%s: %d spots, %d needed: no statistics", section["library_id"], len(order), min_spots)
    return pd.concat(tables.values(), ignore_index=True)[list(COOCCURRENCE_COLUMNS)]


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

    Sections that resolve single cells go by their labels, for types with ``min_cells`` cells, spots by abundances. A
    last column has the reason where a row has no z; a section without types, or of bins, has one row. A cell that
    is smeared over two bins would be its own neighbour: with the smear of 6.5 um of the simulator nine of ten
    independent pairs passed |z| > 1.96. Tiles of 48 um that do not touch share no cells, but are not calibrated: 5 %
    passed in sections of 1 mm and 10 % in those of 2 mm.
    """
    tables = _tables(
        sections,
        lambda section: {"": section.graph},
        bin_um=bin_um,
        n_permutations=n_permutations,
        min_spots=min_spots,
        min_cells=min_cells,
        seed=seed,
    )
    return _stacked(tables, columns=NEIGHBOURHOOD_COLUMNS)


def scope_cooccurrence(
    sections: Sequence[Section],
    *,
    bin_um: float,
    n_permutations: int,
    min_spots: int,
    seed: int,
    min_cells: int = 20,
    max_cells: int = 5000,
) -> pd.DataFrame:
    """The statistic and the null of :func:`scope_neighbourhood` at several distances instead of between neighbours.

    A row per pair of types and band of distance (:func:`distance_bands`), ``band_um``: from and to, in um. Bands of one
    section share their permutations. Bins have a row with the reason.
    """
    tables = _tables(
        sections,
        lambda section: distance_bands(section, max_cells=max_cells, seed=seed),
        bin_um=bin_um,
        n_permutations=n_permutations,
        min_spots=min_spots,
        min_cells=min_cells,
        seed=seed,
    )
    return _stacked(tables, columns=COOCCURRENCE_COLUMNS)


def distance_bands(section: Section, *, max_cells: int, seed: int) -> dict[str, sp.csr_matrix]:
    """Pairs of a section by their distance, symmetric: of cells in ``BANDS_UM``, of spots one, two and three rows away.

    All pairs would be hundreds per cell; so they are sought from ``max_cells`` random spots or cells to all others.
    """
    order = np.lexsort(section.coordinates.T)
    rng = np.random.default_rng([seed, max_cells])
    looking = order[np.sort(rng.permutation(len(order))[:max_cells])]
    row = pitch(section.coordinates)
    edges = BANDS_UM if section.cell_type is not None else row * (np.arange(ROWS_OF_SPOTS + 1) + 0.5)
    if not np.isfinite(edges[-1]):
        return {}
    everything = cKDTree(section.coordinates)
    pairs = cKDTree(section.coordinates[looking]).sparse_distance_matrix(
        everything, edges[-1], output_type="coo_matrix"
    )
    one, other = looking[pairs.row], pairs.col
    graphs = {}
    for near, far in itertools.pairwise(edges):
        inside = (pairs.data > near) & (pairs.data <= far) & (one != other)
        where = (one[inside], other[inside])
        graph = sp.csr_matrix((np.ones(inside.sum()), where), shape=(len(order),) * 2)
        graphs[f"{near:.0f}-{far:.0f}"] = graph + graph.T
    return graphs


def _tables(
    sections: Sequence[Section],
    graphs_of: Callable[[Section], Mapping[str, sp.csr_matrix]],
    *,
    min_cells: int,
    **options: float,
) -> list[pd.DataFrame]:
    """:func:`neighbourhood_table` of each section; one row with the reason for bins and where there are no types."""
    tables = []
    for section in sections:
        identity = {name: getattr(section, name) for name in NEIGHBOURHOOD_COLUMNS[:4]}
        single = section.cell_type is not None
        abundance = labels_as_abundance(section) if single else section.abundance
        why = NO_TYPES if not abundance.shape[1] else ""
        why = SMEARED if section.resolution == "bin" else why
        if why:
            tables.append(
                pd.DataFrame([identity | {"n_spots": 0, "null": why, "resolution": section.resolution, "band_um": ""}])
            )
            continue
        tables.append(
            neighbourhood_table(
                abundance,
                graphs_of(section),
                section.coordinates,
                section.distance,
                sides(section),
                section=identity,
                min_cells=min_cells if single else 1,
                resolution=section.resolution,
                **options,
            )
        )
    return tables


def _stacked(tables: Sequence[pd.DataFrame], *, columns: Sequence[str]) -> pd.DataFrame:
    """Tables one below the other, with the reason where a row has no z."""
    if not tables:
        return pd.DataFrame(columns=[*columns, "reason"])
    tables = [table.reindex(columns=list(columns)) for table in tables]
    parts = {name: [table[name].to_numpy(dtype=object) for table in tables] for name in columns}
    table = pd.DataFrame({name: np.concatenate(part) for name, part in parts.items()}).infer_objects()
    return table.assign(reason=table["null"].map(REASONS).where(table["z"].isna(), ""))


def of_one_resolution(neighbourhood: pd.DataFrame) -> pd.DataFrame:
    """Rows of the resolution that most patients have: z of spots, bins and cells are not one measure."""
    patients = neighbourhood.groupby("resolution", sort=True)["patient_id"].nunique()
    return neighbourhood[neighbourhood["resolution"] == patients.idxmax()] if len(patients) else neighbourhood
