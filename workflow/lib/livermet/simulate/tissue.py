"""Tissue sections of the simulated study: outline, tumour border, cells per spot, counts and the stained image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import ndimage, sparse
from scipy.spatial import cKDTree

from livermet.simulate.clinical import expit
from livermet.simulate.design import CELL_TYPES, STATES, StudyDesign
from livermet.simulate.expression import Atlas, arm_genes, sample_counts

if TYPE_CHECKING:
    from shapely import MultiPolygon

PITCH_UM = 100.0
ROW_UM = PITCH_UM * np.sqrt(3) / 2
GRID_UM = 10.0
# Across over along the border: a strip as a needle cuts it, and a piece of a resection, which where it can has a side
# along the border that is long enough to tell the growth pattern.
ASPECT = {"core": 3.4, "block": 0.75}
BLOCK_SIDE_UM = 2600.0
LEAST_ASPECT = 0.35
FRAME_UM = 160.0  # glass around the tissue
# Growth patterns: how rough the border is, how fast malignant cells give way to
# hepatocytes across it (factor on the width of the gradient), and the fibrous rim between them.
ROUGHNESS_UM = {"replacement": 100.0, "desmoplastic": 35.0, "pushing": 10.0}
MIXING = {"replacement": 2.0, "desmoplastic": 1.0, "pushing": 0.5}
RIM_UM = 150.0  # from the border outwards
RIM_SHARE = 0.6  # of CAFs there beside those of the tumour
RIM_REPLACES = 0.8  # share of the malignant cells and hepatocytes that it takes the place of
# Fingers and bays below this size do not lengthen the border, as for an eye at low magnification.
INTERFACE_SCALE_UM = 100.0
WITHOUT_BORDER_UM = {"no_liver": -1500.0, "adjacent": 1500.0}
NICHE_MIX = {("tam_SPP1", ""): 0.4, ("caf_pan", "caf_myCAF"): 0.35, ("malignant_ductal", "mal_classical"): 0.25}
AGGREGATE_MIX = {"b_cell": 0.4, "t_CD4_conv": 0.3, "t_CD8_effector": 0.15, "t_reg": 0.1, "cDC2": 0.05}


@dataclass(frozen=True)
class Section:
    """Geometry of one section in micrometres of its own frame (x right, y down).

    ``distance`` is the signed distance to the tumour-liver border on a grid of ``GRID_UM`` (negative inside the
    tumour; NaN where the section holds no border); ``outline`` is below 1 inside the tissue; ``elsewhere_um`` is the
    distance that stands for every place of a section without a border.
    """

    distance: np.ndarray
    outline: np.ndarray
    spots: pd.DataFrame  # array_row, array_col, x, y, in_tissue
    elsewhere_um: float = WITHOUT_BORDER_UM["no_liver"]

    @property
    def bordered(self) -> bool:
        """Whether tumour and liver meet in the section."""
        return not np.isnan(self.distance).any()

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height of the frame."""
        height, width = (np.array(self.outline.shape) - 1) * GRID_UM
        return float(width), float(height)

    def places(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Signed distance that decides what grows at each point."""
        return self.at(self.distance, x, y) if self.bordered else np.full(np.shape(x), self.elsewhere_um)

    def at(self, field: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Linear interpolation of a grid field at points."""
        return ndimage.map_coordinates(
            field, [np.asarray(y) / GRID_UM, np.asarray(x) / GRID_UM], order=1, mode="nearest"
        )


def simulate_section(
    design: StudyDesign, *, shape: str, layout: str, hgp: str, rng: np.random.Generator, area_um2: float | None = None
) -> Section:
    """Outline, border and spots of a section.

    Parameters
    ----------
    shape
        "core" for a strip as a needle cuts it, "block" for a piece of a resection.
    layout
        "border" (tumour, margin and liver), "little_liver", "no_liver" or "adjacent" (no tumour).
    hgp
        Growth pattern, which sets how rough the border is.
    area_um2
        Area of the tissue; by default that of ``n_spots`` Visium spots.
    """
    area = design.n_spots * PITCH_UM * ROW_UM if area_um2 is None else area_um2
    aspect = ASPECT[shape]
    if shape == "block":
        aspect = float(np.clip(area / BLOCK_SIDE_UM**2, LEAST_ASPECT, aspect))
    half_v = np.sqrt(area / aspect / 0.96) / 2
    half_u = half_v * aspect
    angle = rng.uniform(-0.35, 0.35) + (np.pi if rng.random() < 0.5 else 0.0)
    reach_x = half_u * abs(np.cos(angle)) + half_v * abs(np.sin(angle)) + FRAME_UM
    reach_y = half_u * abs(np.sin(angle)) + half_v * abs(np.cos(angle)) + FRAME_UM
    nx, ny = int(2 * reach_x / GRID_UM) + 1, int(2 * reach_y / GRID_UM) + 1
    x, y = np.meshgrid(np.arange(nx) * GRID_UM - reach_x, np.arange(ny) * GRID_UM - reach_y)
    u, v = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    wobble = 0.05 * smooth_noise((ny, nx), 200.0, rng)
    outline = (np.abs(u / half_u) ** 6 + np.abs(v / half_v) ** 6) ** (1 / 6) + wobble
    if layout in WITHOUT_BORDER_UM:
        distance = np.full((ny, nx), np.nan)
    else:
        diameter = max(6000.0, 4 * half_v)  # of the metastasis, whose border is bent accordingly
        place = (0.62 if layout == "little_liver" else rng.uniform(-0.15, 0.1)) * half_u
        field = u - place + v**2 / diameter + ROUGHNESS_UM[hgp] * smooth_noise((ny, nx), 90.0, rng)
        distance = signed_distance(field < 0)
    elsewhere = WITHOUT_BORDER_UM.get(layout, WITHOUT_BORDER_UM["no_liver"])
    return Section(distance=distance, outline=outline, spots=_spots(outline, rng), elsewhere_um=elsewhere)


def interface_mm(section: Section) -> float:
    """Length of the border inside the tissue in mm, seen at ``INTERFACE_SCALE_UM``; 0 without a border."""
    from skimage.measure import find_contours

    if not section.bordered:
        return 0.0
    coarse = ndimage.gaussian_filter(section.distance, INTERFACE_SCALE_UM / GRID_UM, mode="nearest")
    length = 0.0
    for line in find_contours(coarse, 0.0):
        middle = (line[1:] + line[:-1]) / 2
        inside = ndimage.map_coordinates(section.outline, middle.T, order=1) < 1
        length += float(np.linalg.norm(np.diff(line, axis=0), axis=1)[inside].sum())
    return length * GRID_UM / 1000


def drawn_tumour(section: Section, *, rng: np.random.Generator, error_um: float = 20.0) -> MultiPolygon:
    """The tumour as a pathologist draws it, in micrometres: without fine detail and a little beside the truth.

    Parameters
    ----------
    error_um
        Standard deviation of the line from the true border; it wanders over some 150 um.
    """
    import shapely
    from skimage.measure import find_contours

    drawn = ndimage.gaussian_filter(section.distance, 3, mode="nearest")
    drawn = drawn + error_um * smooth_noise(section.outline.shape, 150.0, rng)
    tissue = ndimage.gaussian_filter(signed_distance(section.outline < 1), 3, mode="nearest")
    field = np.pad(np.maximum(drawn, tissue), 1, constant_values=GRID_UM)
    area = shapely.MultiPolygon()
    for line in find_contours(field, 0.0):
        ring = shapely.Polygon((line[:, ::-1] - 1) * GRID_UM)
        area = area.symmetric_difference(ring.buffer(0))  # a ring within a ring is a hole
    parts = [part for part in shapely.get_parts(area.simplify(5.0)) if part.area > 100 * GRID_UM**2]
    return shapely.MultiPolygon(sorted(parts, key=lambda part: -part.area))


def smooth_noise(shape: tuple[int, int], scale_um: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian random field on the grid with mean 0, SD 1 and the given correlation length."""
    noise = ndimage.gaussian_filter(rng.normal(size=shape), scale_um / GRID_UM, mode="reflect")
    return (noise - noise.mean()) / noise.std()


def signed_distance(tumour: np.ndarray) -> np.ndarray:
    """Distance (um) to the border of the largest tumour component with its holes closed; negative inside."""
    labels, n = ndimage.label(tumour)
    sizes = ndimage.sum_labels(tumour, labels, np.arange(1, n + 1))
    mask = ndimage.binary_fill_holes(labels == 1 + int(np.argmax(sizes)))
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    return np.where(mask, 0.5 - inside, outside - 0.5) * GRID_UM


def _spots(outline: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Hexagonal array over the whole frame, numbered as on a capture area (rows and columns of equal parity)."""
    height, width = (np.array(outline.shape) - 1) * GRID_UM
    row0, col0 = 2 * int(rng.integers(0, 8)), 2 * int(rng.integers(0, 12))
    rows = np.arange(int((height - 60) / ROW_UM) + 1)
    table = []
    for row in rows:
        columns = np.arange(row % 2, int((width - 60) / (PITCH_UM / 2)) + 1, 2)
        table.append(
            pd.DataFrame(
                {
                    "array_row": row0 + row,
                    "array_col": col0 + columns,
                    "x": 30 + columns * PITCH_UM / 2,
                    "y": 30 + row * ROW_UM,
                }
            )
        )
    spots = pd.concat(table, ignore_index=True)
    inside = ndimage.map_coordinates(outline, [spots["y"] / GRID_UM, spots["x"] / GRID_UM], order=1) < 1
    spots["in_tissue"] = inside.astype(int)
    return spots


def zone_of(distance: np.ndarray) -> np.ndarray:
    """Zone by signed distance: core, inner_rim, margin (+-250 um), peritumoral, distant; "none" without a border."""
    zones = np.select(
        [distance < -500, distance < -250, distance <= 250, distance <= 1000, distance > 1000],
        ["core", "inner_rim", "margin", "peritumoral", "distant"],
        default="none",
    )
    return zones


def simulate_spots(
    atlas: Atlas,
    design: StudyDesign,
    section: Section,
    *,
    rates: np.ndarray,
    deviations: pd.Series,
    malignant_shares: dict[str, float],
    hgp: str,
    cnv: pd.DataFrame,
    planted_niche: bool,
    negative_control: bool,
    rng: np.random.Generator,
) -> tuple[sparse.csr_matrix, pd.DataFrame, pd.DataFrame]:
    """Cells and counts of the in-tissue spots.

    Each cell type follows its own logistic gradient of 20-60 um across the border. In the negative control types are
    independent given the distance; elsewhere lymphoid aggregates, and in non-responders the planted niche, come on top.

    Returns
    -------
    counts
        Spots x genes.
    truth
        One row per spot: x_um, y_um (section frame), signed_distance_um, tumour, zone, planted_niche,
        lymphoid_aggregate.
    abundance
        Long table: spot (position among the in-tissue spots), cell_type, abundance (fraction of cells), rna_fraction.
    """
    spots = section.spots[section.spots["in_tissue"] == 1].reset_index(drop=True)
    x, y = spots["x"].to_numpy(), spots["y"].to_numpy()
    place = section.places(x, y)
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
        niche_sigma_um=design.niche_sigma_um,
        rng=rng,
    )

    # Independent Poisson numbers of each population: given the distance, no type knows of another.
    cells = rng.poisson(9.0 * density).astype(np.float64)
    empty = np.flatnonzero(cells.sum(axis=1) == 0)
    cells[empty, density[empty].argmax(axis=1)] = 1
    rna = cells * atlas.populations["counts"].to_numpy()

    neighbours = _neighbour_mean(x, y)
    seen = (1 - design.spot_bleed) * rna + design.spot_bleed * (neighbours @ rna)
    strength = margin_strength(section, place, design)
    mean = _spot_means(atlas, design, rates, seen, cnv, strength)
    depth = rng.lognormal(np.log(4500), 0.3, len(spots)) * (cells.sum(axis=1) / 9.0).clip(0.2, 3.0) ** 0.7
    mean *= (depth / mean.sum(axis=1))[:, None].astype(np.float32)
    counts = sample_counts(mean, design, rng, gene_mean=mean.mean(axis=0))

    return counts, place_truth(section, x, y, niche, aggregate), _abundance_table(atlas, cells, rna)


def place_truth(
    section: Section, x: np.ndarray, y: np.ndarray, niche: np.ndarray, aggregate: np.ndarray
) -> pd.DataFrame:
    """What is true of each point: x_um, y_um, signed_distance_um, tumour, zone, planted_niche, lymphoid_aggregate."""
    place = section.places(x, y)
    distance = place if section.bordered else np.full(len(x), np.nan)
    return pd.DataFrame(
        {
            "x_um": x,
            "y_um": y,
            "signed_distance_um": distance.round(1),
            "tumour": (place < 0).astype(int),
            "zone": zone_of(distance),
            "planted_niche": (niche > 0.5).astype(int),
            "lymphoid_aggregate": (aggregate > 0.5).astype(int),
        }
    )


def margin_strength(section: Section, place: np.ndarray, design: StudyDesign) -> np.ndarray:
    """Strength of the margin programme in malignant cells, 1 at the border; it decays to both sides."""
    return np.exp(-np.abs(place) / design.margin_decay_um) if section.bordered else np.zeros(len(place))


def population_density(
    atlas: Atlas,
    design: StudyDesign,
    section: Section,
    x: np.ndarray,
    y: np.ndarray,
    *,
    deviations: pd.Series,
    malignant_shares: dict[str, float],
    hgp: str,
    planted_niche: bool,
    negative_control: bool,
    niche_sigma_um: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability of each population at each point, and how far the point lies in a planted niche and an aggregate.

    Returns
    -------
    density
        Points x populations, rows sum to 1.
    niche, aggregate
        0 to 1 per point; a niche lies in the margin alone.
    """
    place = section.places(x, y)
    type_density = _type_density(design, place, deviations, hgp, rng)
    density = _population_density(atlas, design, type_density, place, malignant_shares, section, x, y, rng)
    niche, aggregate = np.zeros(len(x)), np.zeros(len(x))
    if not negative_control:
        aggregate = _clusters(x, y, np.abs(place) < 900, share=0.04, sigma=90.0, rng=rng)
        density = _mix(density, aggregate, _aggregate_profile(atlas))
    if planted_niche and section.bordered:
        margin = np.abs(place) <= 250
        niche = _clusters(x, y, margin, share=design.niche_margin_share, sigma=niche_sigma_um, rng=rng)
        niche[~margin] = 0.0
        density = _mix(density, niche, _niche_profile(atlas))
    return density, niche, aggregate


def _type_density(
    design: StudyDesign, place: np.ndarray, deviations: pd.Series, hgp: str, rng: np.random.Generator
) -> np.ndarray:
    """Probability of each cell type at each point, from the distance to the border alone."""
    density = np.empty((len(place), len(CELL_TYPES)))
    names = [t.name for t in CELL_TYPES]
    for k, cell_type in enumerate(CELL_TYPES):
        width, shift = rng.uniform(20, 60), rng.normal(0, 30)
        if cell_type.name in ("malignant_ductal", "hepatocyte"):
            width *= MIXING[hgp]
            shift *= hgp != "pushing"  # they touch at the border itself
        if hgp == "desmoplastic" and cell_type.name == "hepatocyte":
            shift += RIM_UM  # the liver begins behind the rim
        inside = expit((shift - place) / width)
        density[:, k] = cell_type.tumour * inside + cell_type.liver * (1 - inside)
        if cell_type.name in ("tam_C1QC", "t_CD8_effector", "monocyte_classical", "neutrophil"):
            density[:, k] *= 1 + 1.2 * np.exp(-((place / 150.0) ** 2))
        density[:, k] *= np.exp(deviations[cell_type.name])
    if hgp == "desmoplastic":
        rim = np.exp(-(((place - RIM_UM / 2) / (RIM_UM / 2)) ** 4))
        for name in ("malignant_ductal", "hepatocyte"):
            density[:, names.index(name)] *= 1 - RIM_REPLACES * rim
    density /= density.sum(axis=1, keepdims=True)
    if hgp == "desmoplastic":
        density *= 1 - RIM_SHARE * rim[:, None]
        density[:, names.index("caf_pan")] += RIM_SHARE * rim
    if hgp == "replacement":
        tail = np.where(place > 0, design.tail_share * np.exp(-np.abs(place) / design.tail_decay_um), 0.0)
        density *= 1 - tail[:, None]
        density[:, names.index("malignant_ductal")] += tail
    return density


def _population_density(
    atlas: Atlas,
    design: StudyDesign,
    type_density: np.ndarray,
    place: np.ndarray,
    malignant_shares: dict[str, float],
    section: Section,
    x: np.ndarray,
    y: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Split each type into its states; hepatocyte states follow the border (injury) and the lobule."""
    order = {t.name: k for k, t in enumerate(CELL_TYPES)}
    injured = 0.75 * np.exp(-np.maximum(place, 0) / design.saa_decay_um)
    portal = expit(2.0 * section.at(smooth_noise(section.outline.shape, 180.0, rng), x, y))
    hepatocyte = {
        "hep_injured_margin": injured,
        "hep_periportal": (1 - injured) * portal,
        "hep_pericentral": (1 - injured) * (1 - portal),
    }
    shares = STATES | {"malignant_ductal": malignant_shares, "hepatocyte": hepatocyte}
    columns = [
        type_density[:, order[row.cell_type]] * shares.get(row.cell_type, {"": 1.0})[row.cell_state]
        for row in atlas.populations.itertuples()
    ]
    return np.stack(columns, axis=1)


def _clusters(
    x: np.ndarray, y: np.ndarray, allowed: np.ndarray, *, share: float, sigma: float, rng: np.random.Generator
) -> np.ndarray:
    """Thomas-like clusters: weight (0 to 1) of each spot; parents are added until they cover the share wanted."""
    weight = np.zeros(len(x))
    candidates = np.flatnonzero(allowed)
    while len(candidates) and (weight[candidates] > 0.5).mean() < share:
        parent = rng.choice(candidates)
        centre = np.array([x[parent], y[parent]]) + rng.normal(0, 15.0, 2)
        squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
        weight = np.maximum(weight, 0.9 * np.exp(-squared / (2 * sigma**2)))
    return weight


def _niche_profile(atlas: Atlas) -> np.ndarray:
    keys = list(zip(atlas.populations["cell_type"], atlas.populations["cell_state"], strict=True))
    return np.array([NICHE_MIX.get(key, 0.0) for key in keys])


def _aggregate_profile(atlas: Atlas) -> np.ndarray:
    types = atlas.populations["cell_type"]
    return np.array([AGGREGATE_MIX.get(t, 0.0) / (types == t).sum() for t in types])


def _mix(density: np.ndarray, weight: np.ndarray, profile: np.ndarray) -> np.ndarray:
    return (1 - weight[:, None]) * density + weight[:, None] * profile


def _neighbour_mean(x: np.ndarray, y: np.ndarray) -> sparse.csr_matrix:
    """Row-normalised adjacency of spots one pitch apart; a spot without neighbours is its own."""
    tree = cKDTree(np.column_stack([x, y]))
    pairs = tree.query_pairs(1.1 * PITCH_UM, output_type="ndarray")
    n = len(x)
    graph = sparse.coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n)).tocsr()
    graph = graph + graph.T
    lonely = np.asarray(graph.sum(axis=1)).ravel() == 0
    graph = graph + sparse.diags(lonely.astype(float))
    return sparse.diags(1 / np.asarray(graph.sum(axis=1)).ravel()) @ graph


def tissue_rates(atlas: Atlas, design: StudyDesign, rates: np.ndarray, cnv: pd.DataFrame) -> np.ndarray:
    """Rates of a library with the copy number of its malignant cells and the share of MT genes; rows sum to about 1."""
    genes = atlas.genes
    mito = genes["mito"].to_numpy()
    rates = rates.copy()
    malignant = atlas.rows("malignant_ductal")
    for event in cnv.itertuples():
        factor = design.cnv_gain if event.kind == "gain" else design.cnv_loss
        mean_factor = 1 + event.clonal_fraction * (factor - 1)
        rates[np.ix_(malignant, np.flatnonzero(arm_genes(genes, event.arm)))] *= mean_factor
    share = atlas.populations["mito"].to_numpy()[:, None]
    rates[:, ~mito] *= 1 - share
    rates[:, mito] *= share
    return rates


def _spot_means(
    atlas: Atlas, design: StudyDesign, rates: np.ndarray, rna: np.ndarray, cnv: pd.DataFrame, strength: np.ndarray
) -> np.ndarray:
    """Expected counts up to a factor per spot, with copy number and margin programme in malignant cells."""
    rates = tissue_rates(atlas, design, rates, cnv)
    malignant = atlas.rows("malignant_ductal")
    raised = atlas.raised_at_border
    mean = rna @ rates.astype(np.float64)
    of_malignant = rna[:, malignant] @ rates[np.ix_(malignant, raised)].astype(np.float64)
    mean[:, raised] += of_malignant * np.expm1(design.margin_log_fold * strength)[:, None]
    return mean.astype(np.float32)


def _abundance_table(atlas: Atlas, cells: np.ndarray, rna: np.ndarray) -> pd.DataFrame:
    names = [t.name for t in CELL_TYPES]
    member = np.array([[float(t == name) for name in names] for t in atlas.populations["cell_type"]])
    fractions = (cells @ member) / cells.sum(axis=1, keepdims=True)
    of_rna = (rna @ member) / rna.sum(axis=1, keepdims=True)
    spot = np.repeat(np.arange(len(cells)), len(names))
    table = pd.DataFrame(
        {
            "spot": spot,
            "cell_type": np.tile(names, len(cells)),
            "abundance": fractions.ravel(),
            "rna_fraction": of_rna.ravel(),
        }
    )
    present = table.groupby("cell_type")["abundance"].transform("max") > 0
    return table[present].reset_index(drop=True)


# ---------------------------------------------------------------------------------------------------------------- image

COLOURS = {
    "glass": (243, 241, 245),
    "tumour": (150, 92, 156),
    "stroma": (226, 168, 196),
    "liver": (201, 128, 143),
}


def draw_image(section: Section, *, hgp: str, longest_side: int, rng: np.random.Generator) -> np.ndarray:
    """Picture in the colours of an H&E stain: purple glands in pink stroma, red-brown liver plates, bright glass.

    Returns
    -------
    Array height x width x 3, uint8, covering the whole frame.
    """
    width, height = section.size_um
    scale = longest_side / max(height, width)
    shape = (int(height * scale), int(width * scale))
    yy, xx = np.meshgrid(np.arange(shape[0]) / scale, np.arange(shape[1]) / scale, indexing="ij")
    outline = section.at(section.outline, xx.ravel(), yy.ravel()).reshape(shape)
    distance = section.places(xx.ravel(), yy.ravel()).reshape(shape)
    glands = section.at(smooth_noise(section.outline.shape, 25.0, rng), xx.ravel(), yy.ravel()).reshape(shape)
    plates = np.sin((xx + 60 * glands) / 12.0)
    fine = ndimage.gaussian_filter(rng.normal(size=shape), 0.8)
    colour = {name: np.array(rgb, dtype=float) for name, rgb in COLOURS.items()}
    gland = expit(4 * (glands - 0.1))[..., None]
    tumour = gland * colour["tumour"] + (1 - gland) * colour["stroma"]
    liver = colour["liver"] + 9.0 * plates[..., None]
    inside = expit(-distance / (15.0 * MIXING[hgp]))[..., None]
    tissue = inside * tumour + (1 - inside) * liver
    if hgp == "desmoplastic" and section.bordered:
        rim = np.exp(-(((distance - RIM_UM / 2) / (RIM_UM / 2)) ** 4))[..., None]
        tissue = (1 - 0.8 * rim) * tissue + 0.8 * rim * colour["stroma"]
    tissue = tissue + 14.0 * fine[..., None]
    cover = expit((1 - outline) * 120)[..., None]
    picture = cover * tissue + (1 - cover) * colour["glass"]
    return picture.clip(0, 255).astype(np.uint8)
