"""Expression of the simulated study: genes, profiles per population, effects per library, and counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from livermet.genes import gene_positions
from livermet.markers import load_markers
from livermet.simulate import hard
from livermet.simulate.design import (
    ADMIXTURE_ONLY,
    ANCHORS,
    CELL_TYPES,
    CNV_ARMS,
    EXTRA_GENES,
    INVASION_STATE,
    MARGIN_PROGRAMME,
    MITO_GENES,
    NULL_PAIR,
    PLANTED_PAIR,
    SIGNALLING,
    STATES,
    StudyDesign,
)

CELL_BLOCK = 500  # cells whose dense means are held at a time
# Random streams of the gene-wise effects of chemistries; the others are the reference and have none.
CHEMISTRY_STREAMS = {"SC5P-R2": "chemistry", hard.CHEMISTRY: f"chemistry {hard.CHEMISTRY}"}
# Random streams of the gene-wise factors between single cells in suspension and a platform; cells have none.
PLATFORM_STREAMS = {"visium": "platform", "visium_hd": "platform visium_hd", "xenium": "platform xenium"}
SEX_GENES = {"F": ("RPS4Y1", "DDX3Y"), "M": ("XIST",)}  # genes that the sex does not express


@dataclass(frozen=True)
class Atlas:
    """Profiles that all libraries share.

    Attributes
    ----------
    genes
        One row per gene: symbol, gene_id, chromosome, start, end, mito, tabled (stands in the marker table).
    populations
        One row per cell type and state: cell_type, cell_state, compartment, counts, mito.
    log_profile
        Populations x genes, natural logarithm, up to a constant per population; MT genes relative to one another.
    margin_genes
        Positions of the genes of the margin programme that stand in no marker table.
    invasion_genes
        Positions of the programme's known genes (``mal_emt`` of the marker table), which sections carry as well.
    programmes
        Long table of what was put where: population, gene, reason, log_fold.
    """

    genes: pd.DataFrame
    populations: pd.DataFrame
    log_profile: np.ndarray
    margin_genes: np.ndarray
    invasion_genes: np.ndarray
    programmes: pd.DataFrame

    @property
    def raised_at_border(self) -> np.ndarray:
        """Positions of all genes that malignant cells of a section raise at the border."""
        return np.union1d(self.margin_genes, self.invasion_genes)

    def rows(self, cell_type: str) -> np.ndarray:
        """Positions of the populations of one cell type."""
        return np.flatnonzero((self.populations["cell_type"] == cell_type).to_numpy())

    def gene(self, symbol: str) -> int:
        """Position of a gene."""
        return int(np.flatnonzero((self.genes["symbol"] == symbol).to_numpy())[0])


def select_genes(design: StudyDesign) -> pd.DataFrame:
    """Genes of the study: ``n_genes`` with a position in genomic order, then markers without one, then MT genes.

    Genes of the marker table and of the signalling panel are always kept; the others are taken evenly along the genome.
    Identifiers are synthetic and say so.
    """
    positions = gene_positions()
    tabled = {gene for genes in load_markers()["genes"] for gene in genes}
    needed = tabled | set(EXTRA_GENES) | {g for genes in SIGNALLING.values() for g in genes}
    keep = positions.index.isin(needed)
    others = np.flatnonzero(~keep)
    n_others = min(len(others), max(0, design.n_genes - int(keep.sum())))
    keep[others[np.linspace(0, len(others) - 1, n_others).round().astype(int)]] = True
    genes = positions[keep].rename_axis("symbol").reset_index()
    unplaced = sorted(needed - set(genes["symbol"]))
    genes = pd.concat([genes, pd.DataFrame({"symbol": [*unplaced, *MITO_GENES]})], ignore_index=True)
    genes.insert(0, "gene_id", [f"ENSGSIM{i:08d}" for i in range(1, len(genes) + 1)])
    genes["mito"] = genes["symbol"].isin(MITO_GENES)
    genes["tabled"] = genes["symbol"].isin(tabled)
    return genes


def build_atlas(design: StudyDesign) -> Atlas:
    """Profiles of all populations.

    Each population expresses a random share of its markers, some markers of its sisters, and many genes that stand in
    no marker table; types of one compartment share a programme. A table of markers therefore does not solve the study.
    """
    rng = design.rng("atlas")
    genes = select_genes(design)
    markers = load_markers()
    index = {symbol: i for i, symbol in enumerate(genes["symbol"])}
    baseline = rng.normal(0, design.baseline_sd, len(genes))
    tabled = genes["tabled"].to_numpy()
    baseline[tabled] = rng.normal(design.marker_baseline, 1.0, int(tabled.sum()))
    # Albumin comes from hepatocytes alone, so what other cells hold of it is ambient.
    baseline[index["ALB"]] = design.albumin_level - np.log(design.albumin_fold)
    for symbols in SEX_GENES.values():
        baseline[[index[s] for s in symbols]] = 1.5
    free = ~tabled & ~genes["mito"].to_numpy() & ~genes["symbol"].isin(EXTRA_GENES).to_numpy()
    free &= genes["chromosome"].notna().to_numpy()
    pool = rng.permutation(np.flatnonzero(free))

    def fold(bounds: tuple[float, float], size: int) -> np.ndarray:
        return np.log(rng.uniform(*bounds, size))

    programmes: list[pd.DataFrame] = []

    def programme(target: str, where: np.ndarray, values: np.ndarray, reason: str) -> np.ndarray:
        vector = np.zeros(len(genes))
        np.maximum.at(vector, where, values)
        symbols = genes["symbol"].to_numpy()[where]
        programmes.append(pd.DataFrame({"target": target, "gene": symbols, "reason": reason, "log_fold": values}))
        return vector

    def own_genes(n: int) -> np.ndarray:
        # A gene may serve several populations, as genes do, but each has its own set.
        return rng.choice(pool, n, replace=False)

    def marker_vector(population: str) -> np.ndarray:
        listed = [g for g in markers.loc[population, "genes"] if g in index]
        chosen = set(rng.choice(listed, max(1, round(design.marker_share * len(listed))), replace=False))
        chosen |= set(ANCHORS.get(population, ()))
        where = np.array([index[g] for g in listed if g in chosen])
        vector = programme(population, where, fold(design.marker_fold, len(where)), "marker")
        anchors = [index[g] for g in ANCHORS.get(population, ())]
        vector[anchors] = np.maximum(vector[anchors], np.log(design.marker_fold[1]))
        if "ALB" in ANCHORS.get(population, ()):
            vector[index["ALB"]] = np.log(design.albumin_fold)
        return vector

    compartments = {
        name: programme(name, genes_, fold((1.5, 5.0), len(genes_)), "compartment")
        for name in dict.fromkeys(t.compartment for t in CELL_TYPES)
        for genes_ in [own_genes(design.n_compartment_genes)]
    }
    in_table = [t for t in CELL_TYPES if t.name in markers.index]
    rows, profiles = [], []
    for cell_type in CELL_TYPES:
        profile = baseline + compartments[cell_type.compartment]
        where = own_genes(design.n_own_genes)
        profile = profile + programme(cell_type.name, where, fold(design.own_fold, len(where)), "own")
        sisters = [t.name for t in in_table if t.compartment == cell_type.compartment and t.name != cell_type.name]
        markers_of_sisters = sorted({index[g] for s in sisters for g in markers.loc[s, "genes"]})
        leaked = rng.choice(markers_of_sisters, round(design.leak_share * len(markers_of_sisters)), replace=False)
        leaked = leaked.astype(int)
        lift = programme(cell_type.name, leaked, fold(design.leak_fold, len(leaked)), "leak")
        if cell_type.name in markers.index:
            lift = np.maximum(lift, marker_vector(cell_type.name))
        signals = np.array([index[g] for g in SIGNALLING.get(cell_type.name, ())], dtype=int)
        lift = np.maximum(lift, programme(cell_type.name, signals, np.full(len(signals), np.log(6.0)), "signalling"))
        profile = profile + lift
        for state in STATES.get(cell_type.name, {"": 1.0}):
            state_profile = profile.copy()
            if state:
                where = own_genes(design.n_state_genes)
                state_profile += programme(state, where, fold(design.own_fold, len(where)), "own")
                state_profile = np.maximum(state_profile, baseline + marker_vector(state))
            rows.append(
                {
                    "cell_type": cell_type.name,
                    "cell_state": state,
                    "compartment": cell_type.compartment,
                    "counts": cell_type.counts,
                    "mito": cell_type.mito,
                }
            )
            profiles.append(state_profile)
    margin = np.sort(own_genes(design.n_margin_genes))
    invasion = np.sort([index[g] for g in markers.loc[INVASION_STATE, "genes"] if g in index])
    expressed = pd.concat(programmes, ignore_index=True)
    seeping = (expressed["target"] == "hepatocyte") & (expressed["reason"] == "marker")
    seeping = np.sort([index[g] for g in expressed.loc[seeping, "gene"]])
    for target, where, reason, log_fold in (
        (MARGIN_PROGRAMME, margin, "margin", design.margin_log_fold),
        (MARGIN_PROGRAMME, invasion, "invasion", design.margin_log_fold),
        (ADMIXTURE_ONLY, seeping, "admixture_only", 0.0),
    ):
        programme(target, where, np.full(len(where), log_fold), reason)
    return Atlas(
        genes=genes,
        populations=pd.DataFrame(rows),
        log_profile=np.array(profiles),
        margin_genes=margin,
        invasion_genes=invasion,
        programmes=pd.concat(programmes, ignore_index=True),
    )


def patient_cnv(patients: pd.DataFrame, atlas: Atlas, design: StudyDesign) -> pd.DataFrame:
    """Copy-number events per patient.

    Returns
    -------
    DataFrame with patient_id, arm, kind ("gain" or "loss"), clonal_fraction, chromosome, start, end and n_genes.
    """
    rng = design.rng("cnv")
    rows = []
    for patient_id in patients["patient_id"]:
        n_events = int(rng.integers(design.n_cnv[0], design.n_cnv[1] + 1))
        for arm in sorted(rng.choice(list(CNV_ARMS), n_events, replace=False)):
            chromosome, start, end, kind = CNV_ARMS[arm]
            rows.append(
                {
                    "patient_id": patient_id,
                    "arm": arm,
                    "kind": kind,
                    "clonal_fraction": rng.uniform(*design.clonal_fraction),
                    "chromosome": chromosome,
                    "start": start,
                    "end": end,
                    "n_genes": int(arm_genes(atlas.genes, arm).sum()),
                }
            )
    return pd.DataFrame(rows)


def arm_genes(genes: pd.DataFrame, arm: str) -> np.ndarray:
    """Boolean mask of the genes whose start lies in a region of ``CNV_ARMS``."""
    chromosome, start, end, _ = CNV_ARMS[arm]
    return ((genes["chromosome"] == chromosome) & genes["start"].between(start, end, inclusive="left")).to_numpy()


def library_rates(
    atlas: Atlas, design: StudyDesign, *, patient: pd.Series, batch: str, chemistry: str, platform: str
) -> np.ndarray:
    """Relative expression of each population in one library, without copy number: rows sum to 1 over the non-MT genes.

    Gene-wise effects add on the log scale: centre, batch, chemistry, platform and patient, the last wider and private
    for malignant cells. MT genes sum to 1 on their own.
    """
    n_genes = len(atlas.genes)

    def effect(purpose: str, sd: float) -> np.ndarray:
        return design.rng(purpose).normal(0, sd, n_genes)

    shared = effect(f"centre {patient['centre']}", design.centre_sd) + effect(f"batch {batch}", design.batch_sd)
    if chemistry in CHEMISTRY_STREAMS:
        shared += effect(CHEMISTRY_STREAMS[chemistry], design.chemistry_sd)
    if platform in PLATFORM_STREAMS:
        shared += effect(PLATFORM_STREAMS[platform], design.platform_sd)
    log_rate = atlas.log_profile + shared
    is_malignant = (atlas.populations["cell_type"] == "malignant_ductal").to_numpy()
    log_rate[~is_malignant] += effect(f"patient {patient['patient_id']}", design.patient_sd)
    log_rate[is_malignant] += effect(f"malignant {patient['patient_id']}", design.malignant_sd)
    for (sender, ligand, _), z in ((PLANTED_PAIR, patient["ligand_z"]), (NULL_PAIR, patient["null_ligand_z"])):
        log_rate[atlas.rows(sender), atlas.gene(ligand)] += design.ligand_log_sd * z
    for symbol in SEX_GENES[patient["sex"]]:
        log_rate[:, atlas.gene(symbol)] = -8.0
    rate = np.exp(log_rate)
    mito = atlas.genes["mito"].to_numpy()
    rate[:, ~mito] /= rate[:, ~mito].sum(axis=1, keepdims=True)
    rate[:, mito] /= rate[:, mito].sum(axis=1, keepdims=True)
    return rate.astype(np.float32)


def sample_counts(
    mean: np.ndarray, design: StudyDesign, rng: np.random.Generator, *, gene_mean: np.ndarray
) -> sparse.csr_matrix:
    """Negative binomial counts with gene-wise dispersion ``phi0 + a / mean``.

    Parameters
    ----------
    mean
        Observations x genes, expected counts.
    gene_mean
        Mean of each gene over the library, which sets its dispersion.
    """
    dispersion = design.dispersion + design.dispersion_poisson / np.maximum(gene_mean, 0.02)
    shape = (1.0 / dispersion).astype(np.float32)
    mean = mean * (rng.standard_gamma(shape, size=mean.shape, dtype=np.float32) / shape)
    return sparse.csr_matrix(rng.poisson(mean).astype(np.int32))


def simulate_cells(
    atlas: Atlas,
    design: StudyDesign,
    *,
    rates: np.ndarray,
    fractions: pd.Series,
    state_shares: dict[str, dict[str, float]],
    cnv: pd.DataFrame,
    soup_mean: float,
    margin_share: float,
    rng: np.random.Generator,
) -> tuple[sparse.csr_matrix, pd.DataFrame, np.ndarray]:
    """Cells of one dissociated library.

    Parameters
    ----------
    rates
        From :func:`library_rates`.
    fractions
        Expected fraction of each cell type.
    state_shares
        Shares of the states of each type that has any.
    cnv
        Copy-number events of the patient.
    soup_mean
        Mean ambient fraction of the library.
    margin_share
        Share of the malignant cells that come from the margin and carry its programme.

    Returns
    -------
    counts
        Cells x genes.
    truth
        One row per cell: cell_type, compartment, cell_state, malignant, is_doublet, heterotypic, low_quality,
        ambient_fraction.
    soup
        Expected ambient profile over the genes, sum 1.
    """
    n = design.n_cells
    weights = population_weights(atlas, fractions, state_shares)
    population = rng.choice(len(weights), n, p=weights)
    rate_of = design.doublets_per_1000 * design.n_recovered / 1000
    is_doublet = rng.random(n) < rate_of
    partner = _partners(atlas, weights, population, rng, heterotypic_share=design.heterotypic_share)
    low_quality = rng.random(n) < design.low_quality_share
    ambient = rng.beta(30 * soup_mean, 30 * (1 - soup_mean), n)
    soup = _soup(atlas, rates, weights, design)
    depth = rng.normal(0, 0.35)  # of the library as a whole
    first = _components(atlas, population, depth, low_quality, rng)
    second = _components(atlas, partner, depth, low_quality, rng)
    in_margin = rng.random(n) < margin_share
    clones = rng.random((n, 2, max(len(cnv), 1)))

    means_of_genes = np.zeros(len(atlas.genes))
    blocks = []
    for start in range(0, n, CELL_BLOCK):
        block = slice(start, min(start + CELL_BLOCK, n))
        mean = _cell_means(
            atlas, design, rates, population[block], first.iloc[block], cnv, clones[block, 0], in_margin[block]
        )
        extra = np.flatnonzero(is_doublet[block])
        if len(extra):
            rows = np.arange(block.start, block.stop)[extra]
            mean[extra] += _cell_means(
                atlas, design, rates, partner[rows], second.iloc[rows], cnv, clones[rows, 1], in_margin[rows]
            )
        total = mean.sum(axis=1, keepdims=True)
        mean *= 1 - ambient[block, None].astype(np.float32)
        mean += (total * ambient[block, None]).astype(np.float32) * soup
        if start == 0:
            means_of_genes = mean.mean(axis=0)
        blocks.append(sample_counts(mean, design, rng, gene_mean=means_of_genes))

    table = atlas.populations.iloc[population].reset_index(drop=True)
    other = atlas.populations["cell_type"].to_numpy()[partner]
    truth = pd.DataFrame(
        {
            "cell_type": table["cell_type"],
            "compartment": table["compartment"],
            "cell_state": table["cell_state"],
            "malignant": (table["cell_type"] == "malignant_ductal").astype(int),
            "is_doublet": is_doublet.astype(int),
            "heterotypic": (is_doublet & (table["cell_type"].to_numpy() != other)).astype(int),
            "low_quality": low_quality.astype(int),
            "ambient_fraction": ambient.round(4),
        }
    )
    return sparse.vstack(blocks, format="csr"), truth, soup


def population_weights(atlas: Atlas, fractions: pd.Series, state_shares: dict[str, dict[str, float]]) -> np.ndarray:
    """Probability of each population from fractions of the types and shares of their states."""
    weights = np.array(
        [
            fractions[row.cell_type] * state_shares.get(row.cell_type, {"": 1.0})[row.cell_state]
            for row in atlas.populations.itertuples()
        ]
    )
    return weights / weights.sum()


def _partners(
    atlas: Atlas, weights: np.ndarray, population: np.ndarray, rng: np.random.Generator, *, heterotypic_share: float
) -> np.ndarray:
    """Second cell of each would-be doublet: of another type in the given share of cases, else of the same."""
    types = pd.factorize(atlas.populations["cell_type"])[0]
    partner = rng.choice(len(weights), len(population), p=weights)
    hetero = rng.random(len(population)) < heterotypic_share
    partner = np.where(hetero, partner, population)
    while (clash := hetero & (types[partner] == types[population])).any():
        partner[clash] = rng.choice(len(weights), int(clash.sum()), p=weights)
    return partner


def _components(
    atlas: Atlas, population: np.ndarray, depth: float, low_quality: np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    """Transcripts and mitochondrial share of each cell."""
    n = len(population)
    median = atlas.populations["counts"].to_numpy()[population]
    mito_mean = atlas.populations["mito"].to_numpy()[population]
    size = median * np.exp(depth + rng.normal(0, 0.4, n))
    mito = rng.beta(18 * mito_mean, 18 * (1 - mito_mean))
    return pd.DataFrame(
        {
            "size": np.where(low_quality, size / 6, size),
            "mito": np.where(low_quality, rng.uniform(0.3, 0.8, n), mito),
        }
    )


def _soup(atlas: Atlas, rates: np.ndarray, weights: np.ndarray, design: StudyDesign) -> np.ndarray:
    """Ambient profile: expression by composition and size, hepatocytes counting several times, MT genes one tenth."""
    weight = weights * atlas.populations["counts"].to_numpy()
    weight[atlas.rows("hepatocyte")] *= design.hepatocyte_soup_weight
    soup = weight @ rates
    mito = atlas.genes["mito"].to_numpy()
    soup[~mito] *= 0.9 / soup[~mito].sum()
    soup[mito] *= 0.1 / soup[mito].sum()
    return soup.astype(np.float32)


def _cell_means(
    atlas: Atlas,
    design: StudyDesign,
    rates: np.ndarray,
    population: np.ndarray,
    components: pd.DataFrame,
    cnv: pd.DataFrame,
    clones: np.ndarray,
    in_margin: np.ndarray,
) -> np.ndarray:
    """Expected counts of each cell's own transcripts, with copy number and margin programme in malignant cells."""
    mean = rates[population]
    malignant = np.isin(population, atlas.rows("malignant_ductal"))
    for k, event in enumerate(cnv.itertuples()):
        carriers = np.flatnonzero(malignant & (clones[:, k] < event.clonal_fraction))
        factor = design.cnv_gain if event.kind == "gain" else design.cnv_loss
        mean[np.ix_(carriers, np.flatnonzero(arm_genes(atlas.genes, event.arm)))] *= factor
    mean[np.ix_(np.flatnonzero(malignant & in_margin), atlas.margin_genes)] *= np.exp(0.6 * design.margin_log_fold)
    mito = atlas.genes["mito"].to_numpy()
    share = components["mito"].to_numpy()[:, None].astype(np.float32)
    size = components["size"].to_numpy()[:, None].astype(np.float32)
    mean[:, ~mito] *= size * (1 - share) / mean[:, ~mito].sum(axis=1, keepdims=True)
    mean[:, mito] *= size * share
    return mean


def simulate_empty(soup: np.ndarray, design: StudyDesign, rng: np.random.Generator) -> sparse.csr_matrix:
    """Empty droplets: a few dozen transcripts of the ambient profile each."""
    totals = rng.poisson(rng.lognormal(3.2, 0.5, design.n_empty))
    columns = rng.choice(len(soup), int(totals.sum()), p=soup.astype(float) / soup.sum(dtype=float))
    rows = np.repeat(np.arange(design.n_empty), totals)
    counts = sparse.coo_matrix((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=(design.n_empty, len(soup)))
    return counts.tocsr()
