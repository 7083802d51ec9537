"""Single cells of a simulated section, and what imaging (Xenium) and bins of 8 um (Visium HD) see of them.

The section is the same continuous geometry as that of the spots: cells lie on it as points with a least distance, and
their types follow the same densities. Counts of segmented cells and of bins come from these cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree
from scipy.special import ndtr

from livermet import keys
from livermet.markers import load_markers
from livermet.simulate import clinical
from livermet.simulate.clinical import expit
from livermet.simulate.design import CELL_TYPES, EXTRA_GENES, StudyDesign, study_design
from livermet.simulate.expression import Atlas, build_atlas, library_rates, patient_cnv, sample_counts
from livermet.simulate.persons import SYMBOLS
from livermet.simulate.tissue import (
    GRID_UM,
    RIM_UM,
    Section,
    margin_strength,
    place_truth,
    population_density,
    simulate_section,
    tissue_rates,
)

if TYPE_CHECKING:
    from anndata import AnnData

CELLS_PER_UM2 = 2500e-6
LEAST_DISTANCE_UM = 7.0
NICHE_SIGMA_UM = 40.0
CELL_BLOCK = 2000  # cells whose dense means are held at a time

PANEL_SIZE = 300
MARKERS_PER_POPULATION = 5
CELL_TRANSCRIPTS = 110.0  # median of an imaged cell of mean RNA content
CELL_TRANSCRIPTS_SD = 0.35
CELL_BLEED = 0.04  # share of a cell's transcripts that segmentation gives to a neighbour
BLEED_REACH_UM = 20.0
# Features that count nothing of the tissue: name, number, and the column of cells.parquet that sums them.
CONTROLS = {
    "Negative Control Probe": ("NegControlProbe_{:05d}", 20, "control_probe_counts"),
    "Negative Control Codeword": ("NegControlCodeword_{:04d}", 40, "control_codeword_counts"),
    "Unassigned Codeword": ("UnassignedCodeword_{:04d}", 60, "unassigned_codeword_counts"),
}
CONTROL_RATE = 0.001  # counts of one control feature per cell

BIN_UM = 8
BIN_DEPTH = 450.0  # median transcripts of a cell of mean RNA content, over all its bins
SMEAR_UM = 6.5  # standard deviation of a transcript's place around its cell's centre: extent of the cell and diffusion
BIN_REACH = 3  # bins on either side that a cell's transcripts reach

VERTICES = 12
RADIUS_UM = {"hepatocyte": 10.0, "malignant_ductal": 8.5, "caf_pan": 7.5, "plasma": 6.0, "neutrophil": 4.5}
RADIUS_OF_COMPARTMENT = {"lymphoid": 4.2, "myeloid": 6.5, "endothelial": 6.0, "mesenchymal": 7.0}
OTHER_RADIUS_UM = 7.0
SPINDLES = ("caf_pan", "hsc", "pericyte_vSMC", "endothelial_vascular", "lsec")
SPINDLE_ASPECT = 1.9
PRESSED_ASPECT = 2.2  # of hepatocytes before a tumour that pushes
PRESSED_UM = 150.0


@dataclass(frozen=True)
class CellMap:
    """Cells of a section.

    Attributes
    ----------
    xy
        Cells x 2, micrometres of the section's frame.
    population
        Position of each cell among the populations of the atlas.
    truth
        One row per cell: x_um, y_um, signed_distance_um, tumour, zone, planted_niche, lymphoid_aggregate, cell_type,
        compartment, cell_state, malignant, margin_programme (its strength: 0 to 1 in malignant cells, else 0).
    """

    xy: np.ndarray
    population: np.ndarray
    truth: pd.DataFrame


def place_cells(section: Section, *, rng: np.random.Generator) -> np.ndarray:
    """Centres of cells: an inhomogeneous hard-core process, some 2,500 per mm2, denser in tumour than in liver.

    Of two random points closer than ``LEAST_DISTANCE_UM`` the later one goes (Matérn's second process); the proposals
    are as many as leave the density wanted.

    Returns
    -------
    Cells x 2, micrometres.
    """
    width, height = section.size_um
    disc = np.pi * LEAST_DISTANCE_UM**2

    def proposals(kept: np.ndarray | float) -> np.ndarray | float:
        return -np.log1p(-kept * disc) / disc

    densest = 1.1 * CELLS_PER_UM2
    n = rng.poisson(proposals(densest) * width * height)
    xy = rng.uniform(0, (width, height), (n, 2))
    wanted = CELLS_PER_UM2 * (1.1 - 0.2 * expit(section.places(*xy.T) / 60.0))
    keep = section.at(section.outline, *xy.T) < 1
    keep &= rng.random(n) < proposals(wanted) / proposals(densest)
    xy = xy[keep]
    later = cKDTree(xy).query_pairs(LEAST_DISTANCE_UM, output_type="ndarray").max(axis=1, initial=-1)
    return np.delete(xy, np.unique(later[later >= 0]), axis=0)


def simulate_cell_map(
    atlas: Atlas,
    design: StudyDesign,
    section: Section,
    *,
    deviations: pd.Series,
    malignant_shares: dict[str, float],
    hgp: str,
    planted_niche: bool,
    negative_control: bool,
    rng: np.random.Generator,
) -> CellMap:
    """Cells of a section with type and state; in a negative control types are independent given the distance."""
    xy = place_cells(section, rng=rng)
    x, y = xy.T
    density, niche, aggregate = population_density(
        atlas,
        design,
        section,
        x,
        y,
        deviations=deviations,
        malignant_shares=malignant_shares,
        hgp=hgp,
        planted_niche=planted_niche,
        negative_control=negative_control,
        niche_sigma_um=NICHE_SIGMA_UM,
        rng=rng,
    )
    cumulative = density.cumsum(axis=1)
    drawn = rng.random(len(xy)) * cumulative[:, -1]
    population = np.minimum((drawn[:, None] > cumulative).sum(axis=1), density.shape[1] - 1)
    kinds = atlas.populations[["cell_type", "compartment", "cell_state"]].iloc[population].reset_index(drop=True)
    truth = pd.concat([place_truth(section, x, y, niche, aggregate), kinds], axis=1)
    malignant = (truth["cell_type"] == keys.MALIGNANT_TYPE).to_numpy()
    strength = margin_strength(section, section.places(x, y), design)
    truth["malignant"] = malignant.astype(int)
    truth["margin_programme"] = np.where(malignant, strength, 0.0).round(4)
    return CellMap(xy=xy, population=population, truth=truth)


# ------------------------------------------------------------------------------------------------------------- counts


def choose_panel(atlas: Atlas, design: StudyDesign) -> np.ndarray:
    """Genes of the imaging panel: the first markers of each population, the programmes of the margin, and filler.

    Genes that tell persons apart are not among them, as in a panel bought from the shelf.
    """
    symbols = pd.Index(atlas.genes["symbol"])
    markers = [gene for genes in load_markers()["genes"] for gene in genes[:MARKERS_PER_POPULATION]]
    chosen = dict.fromkeys(g for g in markers if g in symbols and g not in SYMBOLS)
    first = np.union1d(symbols.get_indexer(list(chosen)), atlas.invasion_genes)
    kept_out = atlas.genes["mito"] | symbols.isin([*SYMBOLS, *EXTRA_GENES]) | (atlas.genes["chromosome"] == "chrY")
    others = np.setdiff1d(np.flatnonzero(~kept_out.to_numpy()), first)
    filler = design.rng("panel").choice(others, max(0, PANEL_SIZE - len(first)), replace=False)
    return np.sort(np.concatenate([first, filler]))


def count_transcripts(
    atlas: Atlas,
    design: StudyDesign,
    cells: CellMap,
    *,
    rates: np.ndarray,
    cnv: pd.DataFrame,
    genes: np.ndarray,
    depth: np.ndarray,
    rng: np.random.Generator,
) -> sparse.csr_matrix:
    """Counts of each cell's own transcripts over some genes.

    Parameters
    ----------
    rates
        From :func:`livermet.simulate.expression.library_rates`.
    genes
        Positions of the genes.
    depth
        Expected transcripts of each cell over these genes.
    """
    of_tissue = tissue_rates(atlas, design, rates, cnv)[:, genes]
    of_tissue /= of_tissue.sum(axis=1, keepdims=True)
    raised = np.flatnonzero(np.isin(genes, atlas.raised_at_border))
    strength = cells.truth["margin_programme"].to_numpy()
    total = np.bincount(cells.population, weights=depth, minlength=len(of_tissue))
    gene_mean = total @ of_tissue / max(len(depth), 1)
    blocks = [sparse.csr_matrix((0, len(genes)), dtype=np.int32)]
    for start in range(0, len(depth), CELL_BLOCK):
        block = slice(start, start + CELL_BLOCK)
        mean = of_tissue[cells.population[block]]
        mean[:, raised] *= np.exp(design.margin_log_fold * strength[block, None])
        mean *= (depth[block] / mean.sum(axis=1))[:, None].astype(np.float32)
        blocks.append(sample_counts(mean, design, rng, gene_mean=gene_mean))
    return sparse.vstack(blocks, format="csr")


def cell_depth(
    atlas: Atlas, population: np.ndarray, *, median: float, power: float, rng: np.random.Generator
) -> np.ndarray:
    """Expected transcripts of each cell; the RNA content of its type counts with the given power."""
    content = atlas.populations["counts"].to_numpy()[population] / 2500.0
    return median * content**power * rng.lognormal(0, CELL_TRANSCRIPTS_SD, len(population))


def bleed(counts: sparse.csr_matrix, xy: np.ndarray, *, share: float, rng: np.random.Generator) -> sparse.csr_matrix:
    """Give a share of the transcripts of each cell to one of its six nearest cells within ``BLEED_REACH_UM``.

    No transcript is lost; those of a cell without neighbours stay.
    """
    n_near = min(7, len(xy))
    if n_near < 2:
        return counts
    distance, near = cKDTree(xy).query(xy, k=n_near)
    reached = (distance[:, 1:] <= BLEED_REACH_UM).sum(axis=1)
    own = counts.tocoo()
    moved = np.where(reached[own.row] > 0, rng.binomial(own.data, share), 0)
    source = np.repeat(own.row, moved)
    chosen = 1 + (rng.random(len(source)) * reached[source]).astype(int)  # neighbours come in the order of distance
    arrived = (np.ones(len(source), dtype=np.int32), (near[source, chosen], np.repeat(own.col, moved)))
    kept = sparse.csr_matrix((own.data - moved, (own.row, own.col)), shape=counts.shape)
    result = (kept + sparse.csr_matrix(arrived, shape=counts.shape)).astype(np.int32)
    result.eliminate_zeros()
    return result


def image_cells(
    atlas: Atlas,
    design: StudyDesign,
    cells: CellMap,
    *,
    panel: np.ndarray,
    rates: np.ndarray,
    cnv: pd.DataFrame,
    rng: np.random.Generator,
) -> tuple[sparse.csr_matrix, pd.DataFrame]:
    """Counts of segmented cells as an imaging instrument gives them: the panel, then control features.

    Returns
    -------
    counts
        Cells x features.
    features
        gene_id, symbol, feature_type.
    """
    depth = cell_depth(atlas, cells.population, median=CELL_TRANSCRIPTS, power=0.5, rng=rng)
    counts = count_transcripts(atlas, design, cells, rates=rates, cnv=cnv, genes=panel, depth=depth, rng=rng)
    counts = bleed(counts, cells.xy, share=CELL_BLEED, rng=rng)
    names = [(form.format(i), kind) for kind, (form, number, _) in CONTROLS.items() for i in range(1, number + 1)]
    false = rng.poisson(CONTROL_RATE * len(cells.xy), len(names))
    where = (rng.integers(0, max(len(cells.xy), 1), int(false.sum())), np.repeat(np.arange(len(names)), false))
    controls = sparse.csr_matrix((np.ones(int(false.sum()), dtype=np.int32), where), shape=(len(cells.xy), len(names)))
    genes = atlas.genes.iloc[panel][["gene_id", "symbol"]].assign(feature_type="Gene Expression")
    others = pd.DataFrame([(n, n, kind) for n, kind in names], columns=["gene_id", "symbol", "feature_type"])
    return sparse.hstack([counts, controls], format="csr"), pd.concat([genes, others], ignore_index=True)


# --------------------------------------------------------------------------------------------------------------- bins


def bin_frame(section: Section, *, bin_um: int = BIN_UM) -> pd.DataFrame:
    """All bins of the frame, row by row: array_row, array_col, x, y (centre, um) and in_tissue."""
    width, height = section.size_um
    # Bins of twice the size hold whole bins: an even number either way.
    rows, columns = (2 * int(side / (2 * BIN_UM)) * BIN_UM // bin_um for side in (height, width))
    row, column = np.divmod(np.arange(rows * columns), columns)
    bins = pd.DataFrame(
        {"array_row": row, "array_col": column, "x": (column + 0.5) * bin_um, "y": (row + 0.5) * bin_um}
    )
    bins["in_tissue"] = (section.at(section.outline, bins["x"], bins["y"]) < 1).astype(int)
    return bins


def bin_weights(xy: np.ndarray, bins: pd.DataFrame) -> sparse.csr_matrix:
    """Share of each cell's transcripts that falls into each bin of ``BIN_UM``: bins x cells, Gaussian smear."""
    columns, rows = int(bins["array_col"].max()) + 1, int(bins["array_row"].max()) + 1
    offsets = np.arange(-BIN_REACH, BIN_REACH + 1)
    parts = []
    for centre in xy.T:
        place = np.floor(centre / BIN_UM).astype(int)[:, None] + offsets
        low = (place * BIN_UM - centre[:, None]) / SMEAR_UM
        parts.append((place, ndtr(low + BIN_UM / SMEAR_UM) - ndtr(low)))
    (column, of_x), (row, of_y) = parts
    weight = of_y[:, :, None] * of_x[:, None, :]
    row, column = np.broadcast_to(row[:, :, None], weight.shape), np.broadcast_to(column[:, None, :], weight.shape)
    cell = np.broadcast_to(np.arange(len(xy))[:, None, None], weight.shape)
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    where = (row[inside] * columns + column[inside], cell[inside])
    return sparse.csr_matrix((weight[inside], where), shape=(len(bins), len(xy)))


def bin_transcripts(
    counts: sparse.csr_matrix, xy: np.ndarray, bins: pd.DataFrame, *, rng: np.random.Generator
) -> sparse.csr_matrix:
    """Counts of bins: each transcript of a cell falls beside its centre by the same smear; those off the frame go."""
    columns, rows = int(bins["array_col"].max()) + 1, int(bins["array_row"].max()) + 1
    own = counts.tocoo()
    cell = np.repeat(own.row, own.data)
    place = np.floor((xy[cell] + rng.normal(0, SMEAR_UM, (len(cell), 2))) / BIN_UM).astype(int)
    inside = (place >= 0).all(axis=1) & (place[:, 0] < columns) & (place[:, 1] < rows)
    where = (place[inside, 1] * columns + place[inside, 0], np.repeat(own.col, own.data)[inside])
    return sparse.csr_matrix((np.ones(int(inside.sum()), dtype=np.int32), where), shape=(len(bins), counts.shape[1]))


def merge_bins(bins: pd.DataFrame, larger: pd.DataFrame, *, factor: int) -> sparse.csr_matrix:
    """Which bins make up each larger bin: larger x bins, 0 or 1."""
    columns = int(larger["array_col"].max()) + 1
    target = bins["array_row"] // factor * columns + bins["array_col"] // factor
    ones = np.ones(len(bins), dtype=np.int32)
    return sparse.csr_matrix((ones, (target, np.arange(len(bins)))), shape=(len(larger), len(bins)))


def bin_abundance(atlas: Atlas, cells: CellMap, weights: sparse.csr_matrix) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fractions of the cell types in bins, by cell material and by RNA; bins without material have neither.

    Parameters
    ----------
    weights
        Bins x cells, as of :func:`bin_weights`.

    Returns
    -------
    Two tables of bins x cell types.
    """
    names = [t.name for t in CELL_TYPES]
    types = pd.Categorical(cells.truth["cell_type"], categories=names).codes
    member = sparse.csr_matrix((np.ones(len(types)), (np.arange(len(types)), types)), shape=(len(types), len(names)))
    tables = []
    for content in (np.ones(len(types)), atlas.populations["counts"].to_numpy(dtype=float)[cells.population]):
        amount = (weights @ sparse.diags(content) @ member).toarray()
        total = amount.sum(axis=1, keepdims=True)
        fractions = np.divide(amount, total, out=np.zeros_like(amount), where=total > 0)
        tables.append(pd.DataFrame(fractions, columns=names))
    return tables[0], tables[1]


def bin_truth(
    section: Section, cells: CellMap, bins: pd.DataFrame, weights: sparse.csr_matrix, fractions: pd.DataFrame
) -> pd.DataFrame:
    """Truth per bin: what is true of its centre, the majority type, and state, niche and aggregate of its main cell."""
    main = cells.truth.iloc[np.asarray(weights.argmax(axis=1)).ravel()].reset_index(drop=True)
    truth = place_truth(
        section,
        bins["x"].to_numpy(),
        bins["y"].to_numpy(),
        main["planted_niche"].to_numpy(),
        main["lymphoid_aggregate"].to_numpy(),
    )
    return truth.assign(cell_type=fractions.idxmax(axis=1).to_numpy(), cell_state=main["cell_state"].to_numpy())


# ----------------------------------------------------------------------------------------------------------- outlines


def cell_polygons(cells: CellMap, section: Section, *, hgp: str, rng: np.random.Generator) -> np.ndarray:
    """Outlines of the cells: cells x ``VERTICES`` x 2, micrometres.

    Small ellipses with an uneven edge that hardly overlap. Spindle cells are long, along the border inside a fibrous
    rim; hepatocytes before a tumour that pushes are flattened along the border.
    """
    n = len(cells.xy)
    truth = cells.truth
    radius = truth["cell_type"].map(RADIUS_UM).fillna(truth["compartment"].map(RADIUS_OF_COMPARTMENT))
    radius = radius.fillna(OTHER_RADIUS_UM).to_numpy() * rng.lognormal(0, 0.15, n)
    if n > 1:
        radius = np.minimum(radius, 0.6 * cKDTree(cells.xy).query(cells.xy, k=2)[0][:, 1])
    along = rng.uniform(0, np.pi, n)  # direction of the long axis
    aspect = np.where(truth["cell_type"].isin(SPINDLES), SPINDLE_ASPECT, 1.15)
    if section.bordered:
        place = truth["signed_distance_um"].to_numpy()
        slope_y, slope_x = (section.at(part, *cells.xy.T) for part in np.gradient(section.distance, GRID_UM))
        tangent = np.arctan2(slope_y, slope_x) + np.pi / 2 + rng.normal(0, 0.2, n)
        pressed = (hgp == "pushing") & (place > 0) & (place < PRESSED_UM)
        pressed &= (truth["cell_type"] == keys.HEPATOCYTE).to_numpy()
        rim = (hgp == "desmoplastic") & (place > 0) & (place < RIM_UM) & (aspect == SPINDLE_ASPECT)
        along = np.where(pressed | rim, tangent, along)
        aspect = np.where(pressed, PRESSED_ASPECT, aspect)
    angle = np.linspace(0, 2 * np.pi, VERTICES, endpoint=False)
    edge = 1 + 0.12 * np.cos(2 * angle + rng.uniform(0, 2 * np.pi, (n, 1)))
    edge += 0.06 * np.cos(3 * angle + rng.uniform(0, 2 * np.pi, (n, 1)))
    long = np.sqrt(aspect)[:, None] * radius[:, None] * edge * np.cos(angle)
    short = radius[:, None] / np.sqrt(aspect)[:, None] * edge * np.sin(angle)
    cosine, sine = np.cos(along)[:, None], np.sin(along)[:, None]
    around = np.stack([long * cosine - short * sine, long * sine + short * cosine], axis=2)
    return cells.xy[:, None, :] + around


def polygon_areas(polygons: np.ndarray) -> np.ndarray:
    """Area of each polygon (cells x vertices x 2)."""
    x, y = polygons[..., 0], polygons[..., 1]
    return 0.5 * np.abs((x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum(axis=1))


# ---------------------------------------------------------------------------------------------------------- benchmark


def simulate_cells_section(
    *, n_cells: int, hgp: str = "desmoplastic", planted_niche: bool = True, seed: int = 1
) -> AnnData:
    """One section of segmented cells in memory, of any size: for measuring time and memory of later steps.

    Parameters
    ----------
    n_cells
        About so many cells; the area of the tissue follows.
    hgp
        Growth pattern.
    planted_niche
        Whether the margin holds the planted niche.
    seed
        Same seed and parameters, same section.

    Returns
    -------
    AnnData of the genes of the panel: X integer CSR, obs the truth per cell (columns of :class:`CellMap`),
    ``obsm["spatial"]`` (um), ``uns["polygons"]`` and ``uns["livermet"]`` as ingest leaves them for imaged cells.
    """
    from anndata import AnnData

    design = study_design("tiny", seed=seed)
    patients = clinical.simulate_patients(design)
    patient = patients[patients["group"] == "t0_liver"].iloc[0]
    atlas = build_atlas(design)
    rng = design.rng(f"cells section {n_cells} {hgp}")
    section = simulate_section(
        design, shape="block", layout="border", hgp=hgp, rng=rng, area_um2=n_cells / CELLS_PER_UM2
    )
    cells = simulate_cell_map(
        atlas,
        design,
        section,
        deviations=clinical.composition_deviations(patients, design).loc[patient["patient_id"]],
        malignant_shares=clinical.malignant_shares(patient),
        hgp=hgp,
        planted_niche=planted_niche,
        negative_control=False,
        rng=rng,
    )
    rates = library_rates(atlas, design, patient=patient, batch=patient["batch"], chemistry="Xenium", platform="xenium")
    cnv = patient_cnv(patients, atlas, design).query("patient_id == @patient.patient_id")
    panel = choose_panel(atlas, design)
    counts, features = image_cells(atlas, design, cells, panel=panel, rates=rates, cnv=cnv, rng=rng)
    polygons = cell_polygons(cells, section, hgp=hgp, rng=rng)
    of_tissue = (features["feature_type"] == "Gene Expression").to_numpy()
    names = [f"SIM:{i}" for i in range(len(cells.xy))]
    adata = AnnData(
        counts[:, of_tissue].tocsr(),
        obs=cells.truth.set_index(pd.Index(names)),
        var=features[of_tissue].set_index("symbol", drop=False),
    )
    adata.var.index.name = None
    adata.obsm[keys.SPATIAL] = cells.xy
    adata.uns[keys.POLYGONS] = {
        "vertices": polygons.reshape(-1, 2).astype(np.float32),
        "offsets": np.arange(len(polygons) + 1, dtype=np.int64) * VERTICES,
    }
    adata.uns[keys.META] = {
        keys.LIBRARY: "SIM",
        keys.MODALITY: "xenium",
        keys.RESOLUTION: "cell",
        "reason": "",
        "simulated": True,
    }
    return adata
