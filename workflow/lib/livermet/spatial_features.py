"""Features of a patient's sections, one family that is declared in the config before anything runs.

A feature is named ``kind:argument``:

- ``zone_clr:<zone>:<compartment>``: centred log ratio of a compartment's share in a zone
- ``margin_core:<cell type>``: log2 ratio of a type's abundance, margin to core; not from sections where it is rare
- ``pair_z:<type>|<type>``: how much two types stand together beyond the distance to the border (``neighbourhood.tsv``;
  not in sections without border, whose null is the weaker one)
- ``nearest_um:<type>|<type>``, ``within_30um:<type>|<type>``: from each cell of the first type to the nearest of the
  second; single cells only (``contacts.tsv``)
- ``slope:<state>``: change of a state's markers per 100 um of distance from the border, on the liver's side, given the
  abundance of its cell type
- ``level:<gene set>:<zone>``: mean expression of a gene set in a zone
- ``tls_per_mm2``: lymphoid aggregates, by area of tissue
- ``invasion:<programme>``: difference of malignant cells, margin to core (``invasion.tsv``)
- ``tail:<column>``: malignant cells beyond the border (``invasion_tail.tsv``)
- ``growth:<pattern>``: percent of the interface (``growth_pattern.tsv``)

Sections of a patient at one timepoint, in one tissue and of one modality are taken together: compositions are summed,
other values are means, by the spots or cells that they rest on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from livermet import keys
from livermet.declared import SECTION_KINDS, ZONE_KINDS, parse
from livermet.deconvolve import RARE_SHARE
from livermet.features import FEATURE_COLUMNS, LEFT_OUT_COLUMNS, STRATUM, Tables
from livermet.markers import compartment_of, load_markers
from livermet.neighbourhood import BY_SIDE
from livermet.refusals import refuse_no_border

if TYPE_CHECKING:
    from anndata import AnnData

FAMILY = "spatial"
# kind: table, column of the value, column of its weight, unit
TABLE_KINDS = {
    "pair_z": ("neighbourhood", "z", "n_spots", "z"),
    "nearest_um": ("contacts", "median_nearest_um", "n_a", "um"),
    "within_30um": ("contacts", "within_30um", "n_a", "fraction"),
    "invasion": ("invasion", "difference", "n_margin", "difference"),
    "tail": ("tail", "", "n_tumour", ""),
    "growth": ("growth", "", "interface_mm", "percent"),
}
UNITS = {
    "zone_clr": "clr",
    "margin_core": "log2_ratio",
    "slope": "log_per_100um",
    "level": "log",
    "tls_per_mm2": "per_mm2",
}
TAIL_UNITS = {"share_outside": "fraction", "d90_um": "um"}
# Gene sets of ``level``: neutrophils and their extracellular traps (found in livers before metastasis by Bojmar et al.
# 2024 Nat Med; the choice of genes is ours).
LEVELS = {"net": ("PADI4", "ELANE", "MPO", "S100A8", "S100A9", "CXCR2", "ITGAM")}
HALF = 0.5  # spots or cells, added to a zone so that an absent part has a finite logarithm
SLOPE_UM = 1000.0
# A lymphoid aggregate: B and T cells over a neighbourhood, and fewest square micrometres.
AGGREGATE_B, AGGREGATE_T, AGGREGATE_UM2 = 0.15, 0.15, 10_000.0
SECTION_COLUMNS = (keys.LIBRARY, "feature", "value", "n", "reason")


def section_measures(section: AnnData, declared: Sequence[str], *, min_spots: int, min_cells: int) -> pd.DataFrame:
    """The declared features that a section itself gives, and the sums of its zones.

    Parameters
    ----------
    section
        A mapped section (:func:`livermet.zones.map_section`) with its counts.
    declared
        Names of features; those of tables are passed over.
    min_spots, min_cells
        Fewest spots, and cells or bins, of a zone.

    Returns
    -------
    DataFrame with library_id, feature, value (NaN where there is none), n and reason. Rows with the feature
    ``sum:<zone>:<cell type>`` hold the summed abundance of a type in a zone, those with ``mean:<cell type>`` its mean
    share of a section of spots or bins, both for :func:`declared_features`; features of zones have a row, with the
    reason, where the section has no border.
    """
    meta = section.uns[keys.META]
    least = min_spots if meta.get(keys.RESOLUTION, "spot") == "spot" else min_cells
    rows: list[tuple[str, float, int, str]] = []
    types = [str(name) for name in section.uns[keys.ABUNDANCE_TYPES]]
    abundance = np.asarray(section.obsm[keys.ABUNDANCE], dtype=np.float64)
    known = ~np.isnan(abundance).any(axis=1) if types else np.zeros(section.n_obs, dtype=bool)
    zone = section.obs[keys.ZONE].astype(str).to_numpy()
    name = str(section.obs[keys.LIBRARY].iloc[0]) if section.n_obs else str(meta.get(keys.LIBRARY, ""))
    no_zone = _why_no_zone(meta, zone, name)
    for place in keys.ZONES[:5]:
        inside = known & (zone == place)
        if inside.sum() >= least:
            sums = abundance[inside].sum(axis=0)
            rows += [
                (f"sum:{place}:{kind}", total, int(inside.sum()), "") for kind, total in zip(types, sums, strict=True)
            ]
    if meta.get(keys.RESOLUTION, "spot") != "cell" and known.any():
        means = abundance[known].mean(axis=0)
        rows += [(f"mean:{kind}", mean, int(known.sum()), "") for kind, mean in zip(types, means, strict=True)]
    for feature in declared:
        kind, argument = parse(feature)
        if kind in ZONE_KINDS and no_zone:
            rows.append((feature, np.nan, 0, no_zone))
        elif kind == "slope":
            rows.append((feature, *_slope(section, argument, abundance, types, known, least=least, without=no_zone)))
        elif kind == "level":
            genes, _, where = argument.partition(":")
            rows.append((feature, *_level(section, LEVELS[genes], zone == where, where, least=least, without=no_zone)))
        elif kind == "tls_per_mm2":
            rows.append((feature, *_aggregates(section, abundance, types, known)))
    table = pd.DataFrame(rows, columns=list(SECTION_COLUMNS[1:])).astype({"value": float, "n": int})
    table.insert(0, keys.LIBRARY, name)
    return table


def _why_no_zone(meta: Mapping[str, object], zone: np.ndarray, library: str) -> str:
    """Why no spot of a section has a zone, "" where one has: left out of the scope, no border, or margin refused."""
    refusal = refuse_no_border(zone)
    if not refusal:
        return ""
    excluded, border, margin = (str(meta.get(name) or "") for name in ("reason", "border_reason", "zone_reason"))
    if excluded or (margin and not border):
        return f"section {library}: {excluded or margin}"
    return f"section {library}, R13: {border or refusal}"


def _expression(section: AnnData, genes: Sequence[str]) -> np.ndarray | None:
    """Mean log(1 + counts per 10,000) over the genes that the section holds; None where it holds none."""
    at = section.var_names.get_indexer(list(genes))
    if not (at >= 0).any():
        return None
    total = np.asarray(section.X.sum(axis=1), dtype=np.float64).ravel()
    values = sp.csr_matrix(section.X[:, at[at >= 0]], dtype=np.float64)
    values = sp.diags(1e4 / np.maximum(total, 1)) @ values
    return np.asarray(values.log1p().mean(axis=1)).ravel()


def _slope(
    section: AnnData,
    state: str,
    abundance: np.ndarray,
    types: Sequence[str],
    known: np.ndarray,
    *,
    least: int,
    without: str,
) -> tuple[float, int, str]:
    """Least squares of a state's expression on distance (per 100 um) and on the abundance of its cell type."""
    markers = load_markers()
    parent = markers.loc[state, "parent"]
    distance = section.obs[keys.SIGNED_DISTANCE].to_numpy(dtype=np.float64)
    here = known & (distance > 0) & (distance <= SLOPE_UM)
    if np.isnan(distance).all():
        return np.nan, 0, without
    if here.sum() < least:
        return np.nan, int(here.sum()), f"{int(here.sum())} of {least} spots or cells on the liver's side"
    expression = _expression(section, markers.loc[state, "genes"])
    if expression is None or parent not in types:
        return np.nan, int(here.sum()), f"no gene of {state} or no {parent} in the section"
    design = np.column_stack([np.ones(here.sum()), distance[here] / 100, abundance[here, list(types).index(parent)]])
    return float(np.linalg.lstsq(design, expression[here], rcond=None)[0][1]), int(here.sum()), ""


def _level(
    section: AnnData, genes: Sequence[str], inside: np.ndarray, zone: str, *, least: int, without: str
) -> tuple[float, int, str]:
    n = int(inside.sum())
    if n < least:
        return np.nan, n, without or f"{n} of {least} spots or cells in zone {zone}"
    expression = _expression(section[inside], genes)
    return (np.nan, n, "no gene of the set in the section") if expression is None else (float(expression.mean()), n, "")


def _aggregates(
    section: AnnData, abundance: np.ndarray, types: Sequence[str], known: np.ndarray
) -> tuple[float, int, str]:
    """Connected parts of tissue, of 0.01 mm2 or more, in which both B cells and T cells abound; per mm2."""
    t_cells = [j for j, name in enumerate(types) if name.startswith("t_")]
    if "b_cell" not in types or not t_cells or not known.any():
        return np.nan, int(known.sum()), "no abundance of B and T cells"
    graph = sp.csr_matrix(section.obsp[keys.SPATIAL_GRAPH], dtype=np.float64)
    around = graph + sp.identity(section.n_obs, format="csr")
    both = np.where(
        known[:, None],
        np.column_stack([abundance[:, list(types).index("b_cell")], abundance[:, t_cells].sum(axis=1)]),
        0.0,
    )
    mean = np.asarray(around @ both) / np.asarray(around.sum(axis=1))
    rich = np.flatnonzero((mean[:, 0] >= AGGREGATE_B) & (mean[:, 1] >= AGGREGATE_T))
    area = observation_area(section)
    n_found = 0
    if rich.size:
        _, part = connected_components(graph[rich][:, rich], directed=False)
        n_found = int((np.bincount(part) * area >= AGGREGATE_UM2).sum())
    return n_found / (section.n_obs * area / 1e6), int(known.sum()), ""


def observation_area(section: AnnData) -> float:
    """Tissue per observation in um2: the hexagon around a spot, the bin, or a cell's share of the tissue.

    Tissue of cells: the squares of 50 um that hold any.
    """
    meta = section.uns[keys.META]
    resolution = meta.get(keys.RESOLUTION, "spot")
    spacing = float(meta["pitch_um"])
    if resolution == "cell":
        squares = np.unique(np.floor(np.asarray(section.obsm[keys.SPATIAL]) / 50.0), axis=0)
        return 2500.0 * len(squares) / section.n_obs
    return spacing**2 * (np.sqrt(3) / 2 if meta.get("array") == "hexagonal" else 1.0)


def declared_features(
    declared: Sequence[str],
    measures: Sequence[pd.DataFrame],
    tables: Mapping[str, pd.DataFrame],
    libraries: pd.DataFrame,
) -> Tables:
    """Values of the declared features per patient, timepoint, tissue and modality.

    Parameters
    ----------
    declared
        Names of the features.
    measures
        Of each section (:func:`section_measures`).
    tables
        ``neighbourhood``, ``contacts``, ``growth``, ``tail`` (by library_id) and ``invasion`` (by stratum).
    libraries
        library_id and stratum of each section of the scope.

    Returns
    -------
    Features and left-out rows: each stratum with a section has either a value or a reason for each declared feature.
    """
    if libraries.empty:
        return _features([]), pd.DataFrame(columns=LEFT_OUT_COLUMNS)
    filled = [table for table in measures if len(table)] or [pd.DataFrame(columns=list(SECTION_COLUMNS))]
    measures = pd.concat(filled, ignore_index=True).merge(libraries, on=keys.LIBRARY)
    tables = {
        name: table.drop(columns=[c for c in STRATUM if c in table]).merge(libraries, on=keys.LIBRARY)
        if keys.LIBRARY in table
        else table
        for name, table in tables.items()
    }
    rows, left_out = [], []
    for stratum in sorted(map(tuple, libraries[STRATUM].astype(str).drop_duplicates().to_numpy())):
        own = measures[(measures[STRATUM].astype(str) == list(stratum)).all(axis=1)]
        for feature in declared:
            kind, argument = parse(feature)
            unit, source = UNITS.get(kind, ""), "zones.h5ad"
            if kind in ZONE_KINDS:
                value, n, reason = _of_zones(own, feature)
            elif kind in SECTION_KINDS:
                found = own[own["feature"] == feature]
                value, n, reason = _mean(found["value"], found["n"], found["reason"])
            else:
                name, column, weight, unit = TABLE_KINDS[kind]
                source = f"{name}.tsv"
                table = tables[name]
                table = table[(table[STRATUM].astype(str) == list(stratum)).all(axis=1)]
                value, n, reason = _of_table(table, kind, argument, column, weight)
            if np.isfinite(value):
                rows.append((*stratum, FAMILY, feature, value, unit or TAIL_UNITS[argument], n, source))
            else:
                left_out.append((*stratum, FAMILY, feature, reason or "no value"))
    return _features(rows), pd.DataFrame(left_out, columns=LEFT_OUT_COLUMNS)


def _features(rows: Sequence[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=FEATURE_COLUMNS).astype({"value": float, "n_cells": "int64"})


def _mean(values: pd.Series, weights: pd.Series, reasons: pd.Series) -> tuple[float, int, str]:
    """Mean by weight of the values that are known; else the first reason."""
    values, weights = values.astype(float), weights.astype(float).fillna(0)
    known = values.notna() & (weights > 0)
    if not known.any():
        given = [str(reason) for reason in reasons.dropna() if str(reason)]
        return np.nan, 0, given[0] if given else "no section gives it"
    return float(np.average(values[known], weights=weights[known])), int(weights[known].sum()), ""


def _of_zones(measures: pd.DataFrame, feature: str) -> tuple[float, int, str]:
    kind, argument = parse(feature)
    sums = measures[measures["feature"].str.startswith("sum:")]
    parts = sums["feature"].str.split(":", expand=True)
    sums = sums.assign(zone=parts[1] if len(sums) else "", cell_type=parts[2] if len(sums) else "")
    wanted = ("margin", "core") if kind == "margin_core" else (argument.partition(":")[0],)
    whole = sums.groupby(keys.LIBRARY)["zone"].agg(lambda zones: set(wanted) <= set(zones))
    sums = sums[sums[keys.LIBRARY].isin(whole.index[whole.astype(bool)]) & sums["zone"].isin(wanted)]
    if sums.empty:
        borderless = measures.loc[measures["feature"] == feature, "reason"]
        sections = measures[keys.LIBRARY].nunique()
        enough = f"no section with enough spots or cells in {' and '.join(wanted)}"
        return np.nan, 0, borderless.iloc[0] if sections and len(borderless) == sections else enough
    sums = sums[~sums[keys.LIBRARY].isin(_sections_where_rare(measures, feature))]
    if sums.empty:
        what = argument if kind == "margin_core" else argument.partition(":")[2]
        return np.nan, 0, f"{what} is rare, below {100 * RARE_SHARE:g} % of each section"
    if kind == "margin_core" and argument not in set(sums["cell_type"]):
        return np.nan, 0, f"no {argument} in the reference"
    table = sums.pivot_table(index="zone", columns="cell_type", values="value", aggfunc="sum", fill_value=0.0)
    n = sums.drop_duplicates([keys.LIBRARY, "zone"]).groupby("zone")["n"].sum()
    if kind == "margin_core":
        logs = np.log2((table[argument] + HALF / table.shape[1]) / (n + HALF))
        return float(logs["margin"] - logs["core"]), int(n.sum()), ""
    shares = table.T.groupby(compartment_of()).sum().T.loc[wanted[0]]
    compartment = argument.partition(":")[2]
    if compartment not in shares:
        return np.nan, 0, f"no {compartment} in the reference"
    logs = np.log(shares + HALF / len(shares))
    return float(logs[compartment] - logs.mean()), int(n.iloc[0]), ""


def _sections_where_rare(measures: pd.DataFrame, feature: str) -> set[str]:
    """Sections of spots or bins in which the type, or all types of the compartment, are below ``RARE_SHARE``."""
    kind, argument = parse(feature)
    means = measures[measures["feature"].str.startswith("mean:")]
    cell_type = means["feature"].str.removeprefix("mean:")
    if kind == "margin_core":
        own = means[cell_type == argument]
    else:
        own = means[cell_type.map(compartment_of()) == argument.partition(":")[2]]
    total = own.groupby(keys.LIBRARY)["value"].sum()
    return set(total.index[total < RARE_SHARE])


def _of_table(table: pd.DataFrame, kind: str, argument: str, column: str, weight: str) -> tuple[float, int, str]:
    if kind in ("pair_z", "nearest_um", "within_30um"):
        first, second = argument.split("|")
        chosen = (table["type_a"] == first) & (table["type_b"] == second)
        if kind == "pair_z":  # unordered pairs
            chosen |= (table["type_a"] == second) & (table["type_b"] == first)
        # A section that can't have the pair has one row without types, with the reason.
        rows = table[chosen | table["type_a"].isna()]
        if rows.empty and len(table):
            return np.nan, 0, f"{first} or {second} is too rare: no section has the pair"
        table = rows
        if kind == "pair_z":
            borderless = table["null"] == BY_SIDE
            told = "section " + table[keys.LIBRARY].astype(str) + ", R13: no tumour-liver border"
            table = table.assign(z=table["z"].mask(borderless), reason=table["reason"].mask(borderless, told))
    elif kind == "invasion":
        table = table[table["programme"] == argument]
    elif kind == "growth":
        column = f"{argument}_pct"
    else:
        column = argument
    if column not in table:
        return np.nan, 0, f"no column {column}"
    reasons = table["reason"] if "reason" in table else table.get("status", pd.Series(dtype=str))
    weights = table[weight].mask(table[column].notna() & ~(table[weight].astype(float) > 0), 1)
    return _mean(table[column], np.ceil(weights.astype(float)), reasons)
