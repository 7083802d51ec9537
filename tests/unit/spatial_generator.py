"""Seeded tissue with a known answer for the tests of deconvolution, zones, niches and neighbourhoods.

Not the study simulator: small, without files, and with each effect under the test's control.
"""

from __future__ import annotations

from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

TYPES = (
    "malignant_ductal", "hepatocyte", "caf_pan", "tam_SPP1", "tam_C1QC", "kupffer", "lsec", "endothelial_vascular",
    "t_CD8_effector", "t_CD4_conv", "b_cell", "neutrophil",
)  # fmt: skip


@dataclass
class Tissue:
    """Coordinates (um), true signed distance (um, negative in tumour) and true fractions (spots x types)."""

    xy: np.ndarray
    distance: np.ndarray
    fractions: pd.DataFrame


def hexagonal(n_rows: int, n_cols: int, pitch: float = 100.0) -> np.ndarray:
    """Centres of a hexagonal array in micrometres."""
    row, col = np.divmod(np.arange(n_rows * n_cols), n_cols)
    return np.column_stack([(col + 0.5 * (row % 2)) * pitch, row * pitch * np.sqrt(3) / 2])


def tissue(
    *,
    seed: int,
    n_rows: int = 20,
    n_cols: int = 20,
    niche: bool = False,
    concentration: float = 30.0,
    types: tuple[str, ...] = TYPES,
) -> Tissue:
    """A round tumour in liver: fractions follow the signed distance, with gradients inside zones, else independent.

    With ``niche``, clusters of SPP1 macrophages, fibroblasts and malignant cells stand in the margin.
    """
    rng = np.random.default_rng(seed)
    xy = hexagonal(n_rows, n_cols)
    size = xy.max(axis=0)
    centre = size * rng.uniform([0.1, 0.35], [0.3, 0.65])
    angle = np.arctan2(*(xy - centre).T[::-1])
    radius = 0.45 * size[0] * (1 + 0.1 * np.sin(2 * angle + rng.uniform(0, 6)))
    distance = np.hypot(*(xy - centre).T) - radius
    inside = 1 / (1 + np.exp(distance / 40))
    level = pd.DataFrame(0.02, index=range(len(xy)), columns=list(types))
    level["malignant_ductal"] = 0.5 * inside
    level["hepatocyte"] = 0.7 * (1 - inside)
    level["caf_pan"] = 0.05 + 0.25 * inside
    level["kupffer"] = 0.05 * (1 - inside)
    level["lsec"] = 0.08 * (1 - inside)
    for k, name in enumerate(types[3:]):
        level[name] += 0.05 / (1 + np.exp((-1) ** k * (distance - rng.uniform(-400, 400)) / 60))
    planted = np.zeros(len(xy), dtype=bool)
    if niche:
        seeds = rng.choice(np.flatnonzero(np.abs(distance) < 200), size=5, replace=False)
        planted = (np.hypot(*(xy[:, None] - xy[seeds]).T) < 160).any(axis=0)
        level.loc[planted, "tam_SPP1"] += 0.35
        level.loc[planted, "caf_pan"] += 0.25
        level.loc[planted, "malignant_ductal"] += 0.1
    mean = level.to_numpy() / level.to_numpy().sum(axis=1, keepdims=True)
    fractions = rng.gamma(np.maximum(mean * concentration, 1e-3))
    fractions /= fractions.sum(axis=1, keepdims=True)
    result = Tissue(xy=xy, distance=distance, fractions=pd.DataFrame(fractions, columns=list(types)))
    result.fractions.attrs["planted"] = planted
    return result


def expression(*, seed: int, n_genes: int = 1200, types: tuple[str, ...] = TYPES) -> np.ndarray:
    """Mean counts per cell (types x genes): a shared base, 40 to 80 genes raised 2 to 20 fold per type, cell sizes."""
    rng = np.random.default_rng(seed)
    base = rng.lognormal(0, 1.2, size=n_genes)
    profiles = np.tile(base, (len(types), 1))
    for k in range(len(types)):
        raised = rng.choice(n_genes, size=rng.integers(40, 80), replace=False)
        profiles[k, raised] *= rng.uniform(2, 20, size=len(raised))
    profiles /= profiles.sum(axis=1, keepdims=True)
    return profiles * rng.lognormal(np.log(2500), 0.4, size=len(types))[:, None]


def gene_names(n_genes: int) -> list[str]:
    """Names of the generator's genes."""
    return [f"G{i:05d}" for i in range(n_genes)]


def reference_cells(
    means: np.ndarray, *, seed: int, n_patients: int = 4, n_cells: int = 40, types: tuple[str, ...] = TYPES
) -> ad.AnnData:
    """Cells of each type and patient; malignant cells have genes of their own in each patient."""
    rng = np.random.default_rng(seed)
    blocks, obs = [], []
    for p in range(n_patients):
        private = rng.lognormal(0, 0.45, size=means.shape[1])
        depth = rng.lognormal(0, 0.3)
        for k, name in enumerate(types):
            mean = means[k] * (private if name == "malignant_ductal" else 1.0)
            size = rng.lognormal(0, 0.3, size=(n_cells, 1))
            blocks.append(sp.csr_matrix(rng.poisson(depth * size * mean * rng.gamma(4, 0.25, (n_cells, len(mean))))))
            obs += [{"cell_type": name, "patient_id": f"P{p}", "library_id": f"L{p}", "cell_state": ""}] * n_cells
    table = pd.DataFrame(obs, index=[f"c{i}" for i in range(len(obs))])
    var = pd.DataFrame(index=gene_names(means.shape[1]))
    return ad.AnnData(sp.vstack(blocks, format="csr").astype(np.int32), obs=table, var=var)


def spot_counts(
    means: np.ndarray, fractions: pd.DataFrame, *, seed: int, platform_sd: float = 0.7, n_cells: float = 8.0
) -> np.ndarray:
    """Counts of spots: cells by their fractions, a gene-wise log-normal factor between platforms, Poisson noise."""
    rng = np.random.default_rng(seed)
    platform = rng.lognormal(0, platform_sd, size=means.shape[1])
    depth = rng.lognormal(np.log(n_cells * 0.25), 0.4, size=(len(fractions), 1))
    return rng.poisson(depth * (fractions.to_numpy() @ means) * platform)


@dataclass
class Cells:
    """Positions (um), true signed distance (um, negative in tumour) and type (0, 1, 2...) of single cells."""

    xy: np.ndarray
    distance: np.ndarray
    code: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """Type of each cell, as text."""
        return np.array([f"type{k}" for k in self.code], dtype=object)


def cells(*, seed: int, side_um: float = 1000.0, spacing_um: float = 18.0, n_types: int = 8) -> Cells:
    """Single cells on either side of a winding border, types independent given the distance: the negative control.

    Two types make up tumour and liver; the others rise or fall logistically (20 to 60 um) somewhere within 250 um of
    the border, hence inside zones.
    """
    rng = np.random.default_rng(seed)
    n = int(side_um / spacing_um)
    grid = np.stack(np.meshgrid(np.arange(n), np.arange(n)), axis=-1).reshape(-1, 2) + 0.5
    xy = grid * spacing_um + rng.normal(0, 0.25 * spacing_um, grid.shape)
    wave = np.sin(2 * np.pi * rng.uniform(0.5, 1.5) * xy[:, 0] / side_um + rng.uniform(0, 6))
    distance = xy[:, 1] - side_um / 2 - 0.08 * side_um * wave
    inside = 1 / (1 + np.exp(distance / 30))
    level = np.full((len(xy), n_types), 0.02)
    level[:, 0], level[:, 1] = 0.6 * inside, 0.6 * (1 - inside)
    for k in range(2, n_types):
        turn, scale, sign = rng.uniform(-250, 250), rng.uniform(20, 60), rng.choice([-1, 1])
        level[:, k] += 0.15 / (1 + np.exp(sign * (distance - turn) / scale))
    share = level / level.sum(axis=1, keepdims=True)
    code = (share.cumsum(axis=1) < rng.random((len(xy), 1))).sum(axis=1).clip(0, n_types - 1)
    return Cells(xy=xy, distance=distance, code=code)


def attract(cells: Cells, *, first: int, second: int, share: float, seed: int) -> Cells:
    """Give a share of the cells of one type a cell of another as neighbour, by exchange of labels at like distances.

    The nearest cell takes the second type; one of the second type within 25 um of signed distance gives it up. A
    negative share drives the two apart: that share of the second type's cells near the first moves elsewhere.
    """
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(seed)
    code = cells.code.copy()
    members = np.flatnonzero(code == first)
    near = np.unique(cKDTree(cells.xy).query(cells.xy[members], k=5)[1][:, 1:])
    free = np.setdiff1d(np.arange(len(code)), near)
    here, there = (near, free) if share > 0 else (free, near)
    here = here[~np.isin(code[here], [first, second])]
    there = there[code[there] == second]
    for cell in rng.permutation(there)[: int(abs(share) * len(there))]:
        like = here[np.abs(cells.distance[here] - cells.distance[cell]) < 10]
        like = like[~np.isin(code[like], [first, second])]
        if len(like):
            other = rng.choice(like)
            code[cell], code[other] = code[other], second
    return Cells(xy=cells.xy, distance=cells.distance, code=code)


@dataclass
class Bins:
    """Centres (um) of bins that hold transcripts, their true signed distance (um), fractions of transcripts by type."""

    xy: np.ndarray
    distance: np.ndarray
    fractions: np.ndarray


def bins(cells: Cells, *, seed: int, bin_um: float = 16.0, smear_um: float = 6.5, depth: float = 100.0) -> Bins:
    """Square bins over single cells, whose transcripts fall beside their centres by a Gaussian smear."""
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(seed)
    number = rng.poisson(depth, len(cells.xy))
    place = np.repeat(cells.xy, number, axis=0)
    corner = np.floor((place + rng.normal(0, smear_um, place.shape)) / bin_um).astype(int)
    used, where = np.unique(corner, axis=0, return_inverse=True)
    counts = np.zeros((len(used), cells.code.max() + 1))
    np.add.at(counts, (where.ravel(), np.repeat(cells.code, number)), 1)
    enough = counts.sum(axis=1) >= 10
    xy = (used[enough] + 0.5) * bin_um
    nearest = cKDTree(cells.xy).query(xy)[1]
    fractions = counts[enough] / counts[enough].sum(axis=1, keepdims=True)
    return Bins(xy=xy, distance=cells.distance[nearest], fractions=fractions)
