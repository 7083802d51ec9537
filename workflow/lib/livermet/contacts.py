"""How near cells of one type stand to those of another, where single cells are resolved."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from livermet import keys
from livermet.neighbourhood import NO_TYPES, permutation, sides, strata
from livermet.section import Section

logger = logging.getLogger(__name__)

# Cells this near can touch or signal by short-range factors; spots and bins can't tell (science: below 30 um).
CONTACT_UM = 30.0
CONTACT_COLUMNS = (
    "library_id", "patient_id", "timepoint", "tissue", "type_a", "type_b", "n_a", "n_b",
    "median_nearest_um", "null_median_nearest_um", "z_nearest",
    "within_30um", "null_within_30um", "z_within_30um", "null", "status", "reason",
)  # fmt: skip
NOT_RESOLVED = {
    "spot": "not resolved: spots hold several cells",
    "bin": "not resolved: bins are squares of tissue, not cells",
}


def nearest(
    coordinates: np.ndarray, code: np.ndarray, *, n_types: int, max_cells: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Median distance of the cells of each type to the nearest cell of each type, and the share within 30 um.

    The cell itself does not count. Types with more than ``max_cells`` cells are looked at from as many random ones; all
    cells can be the nearest.

    Parameters
    ----------
    coordinates
        Cells x 2, um.
    code
        Type of each cell, 0 to ``n_types`` - 1; -1 is no type.

    Returns
    -------
    Two arrays types x types (from, to); NaN where a type has no cell, or no second one.
    """
    members = [np.flatnonzero(code == k) for k in range(n_types)]
    looking = [rng.choice(m, size=max_cells, replace=False) if len(m) > max_cells else m for m in members]
    bounds = np.concatenate([[0], np.cumsum([len(part) for part in looking])])
    points = coordinates[np.concatenate(looking)]
    median = np.full((n_types, n_types), np.nan)
    within = np.full((n_types, n_types), np.nan)
    for b in range(n_types):
        if not len(members[b]):
            continue
        found = cKDTree(coordinates[members[b]]).query(points, k=[1, 2])[0]
        distance = found[:, 0]
        distance[bounds[b] : bounds[b + 1]] = found[bounds[b] : bounds[b + 1], 1]
        for a in range(n_types):
            part = distance[bounds[a] : bounds[a + 1]]
            if len(part) and np.isfinite(part).all():
                median[a, b] = np.median(part)
                within[a, b] = np.mean(part <= CONTACT_UM)
    return median, within


def _z(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    sd = null.std(axis=0, ddof=1)
    return np.divide(observed - null.mean(axis=0), sd, out=np.full_like(sd, np.nan), where=sd > 0)


def contact_table(
    section: Section, *, bin_um: float, n_permutations: int, min_cells: int, max_cells: int, seed: int
) -> pd.DataFrame:
    """Distances between the types of one section, against permutations of labels within bins of signed distance.

    Hypothesis: given its distance to the border, the type of a cell says nothing of the types around it. The null is
    that of :mod:`livermet.neighbourhood` (own code, since squidpy's permutations can't be stratified) and z describes
    the section: cells are no replicates. ``z_nearest`` below 0 and ``z_within_30um`` above 0 say that cells of B are
    nearer to those of A than expected. Trends along the border are not taken out, and gradients inside a bin only as
    far as the bin is narrow.

    Parameters
    ----------
    bin_um
        Width of a distance bin; half of it is used.
    min_cells
        Pairs with fewer cells of either type have status "too_few_cells" and no numbers.
    max_cells
        See :func:`nearest`.

    Returns
    -------
    A row per ordered pair of types; one row with the reason where single cells are not resolved or none has a type.
    """
    identity = {name: getattr(section, name) for name in CONTACT_COLUMNS[:4]}
    if section.cell_type is None:
        row = identity | {"status": "not_resolved", "reason": NOT_RESOLVED[section.resolution]}
        return pd.DataFrame([row]).reindex(columns=list(CONTACT_COLUMNS))
    order = np.lexsort(section.coordinates.T)
    order = order[section.cell_type[order] != keys.UNKNOWN]
    if not len(order):
        row = identity | {"null": NO_TYPES, "status": NO_TYPES, "reason": "no cell has a type"}
        return pd.DataFrame([row]).reindex(columns=list(CONTACT_COLUMNS))
    types, code = np.unique(section.cell_type[order].astype(str), return_inverse=True)
    coordinates = section.coordinates[order]
    # Trends can't be taken out of labels: with the whole width 7.0 % of independent pairs passed, with half 6.1 %.
    groups, kind = strata(section.distance[order], sides(section)[order], bin_um=bin_um / 2)
    number = np.bincount(code, minlength=len(types))
    first, second = (side.ravel() for side in np.indices((len(types), len(types))))
    table = pd.DataFrame({"type_a": types[first], "type_b": types[second]})
    table = table.assign(**identity, n_a=number[first], n_b=number[second], null=kind, status="ok", reason="")
    enough = np.minimum(number[first], number[second]) >= min_cells
    table.loc[~enough, ["status", "reason"]] = "too_few_cells", f"fewer than {min_cells} cells of either type"
    if enough.any():
        kept = number >= min_cells
        # Cells of rare types keep their share in the exchange of labels without being looked at.
        code_of = np.where(kept, np.cumsum(kept) - 1, -1)
        code = code_of[code]
        options = {"n_types": int(kept.sum()), "max_cells": max_cells}
        observed = nearest(coordinates, code, rng=np.random.default_rng([seed, n_permutations]), **options)
        draws = []
        for i in range(n_permutations):
            rng = np.random.default_rng([seed, i])
            draws.append(nearest(coordinates, code[permutation(groups, rng)], rng=rng, **options))
        for value, null, names in zip(
            observed,
            map(np.array, zip(*draws, strict=True)),
            (CONTACT_COLUMNS[8:11], CONTACT_COLUMNS[11:14]),
            strict=True,
        ):
            columns = dict(zip(names, (value, null.mean(axis=0), _z(value, null)), strict=True))
            for name, matrix in columns.items():
                table.loc[enough, name] = matrix[code_of[first[enough]], code_of[second[enough]]]
    logger.info(
        "%s: %d cells with a type, %d types, %d pairs", section.library_id, len(order), len(types), enough.sum()
    )
    return table.reindex(columns=list(CONTACT_COLUMNS))


def scope_contacts(
    sections: Sequence[Section], *, bin_um: float, n_permutations: int, min_cells: int, seed: int, max_cells: int = 1000
) -> pd.DataFrame:
    """:func:`contact_table` of each section, one below the other; with its columns also where there is none."""
    tables = [
        contact_table(
            section,
            bin_um=bin_um,
            n_permutations=n_permutations,
            min_cells=min_cells,
            max_cells=max_cells,
            seed=seed,
        )
        for section in sections
        if len(section.barcodes)
    ]
    if not tables:
        return pd.DataFrame(columns=list(CONTACT_COLUMNS))
    return pd.DataFrame(
        {name: np.concatenate([table[name].to_numpy(dtype=object) for table in tables]) for name in CONTACT_COLUMNS}
    ).infer_objects()
