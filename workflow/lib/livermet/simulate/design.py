"""Parameters of the simulated study: everything that is assumed, in one place.

Where no source is given, a number is an assumption of the simulator and says nothing about real patients.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class StudyDesign:
    """Size and effects of one simulated study. Log fold changes are natural logarithms."""

    seed: int = 1

    # --- size
    n_patients: int = 24
    n_centres: int = 6
    n_batches: int = 3
    n_cells: int = 400
    n_spots: int = 400
    n_genes: int = 6000  # genes with a genomic position; markers without one and MT genes come on top
    n_sections: int = 13  # Visium sections of metastases
    n_primary_only: int = 2  # patients whose only tissue at T0 is the primary
    n_resection_only: int = 2  # patients without tissue at T0, but with a resection specimen
    # Beyond the patients without tissue at T0, other resected patients give them.
    n_resection_sections: int = 3
    n_adjacent_sections: int = 1  # Visium sections of liver without tumour
    n_hd: int = 1  # Visium HD sections
    n_xenium: int = 2  # Xenium sections
    core_mm2: float = 1.2  # area of an HD or Xenium section of a biopsy; of a resection, twice as much
    polygon_every: int = 3  # of every n-th section with a border a pathologist drew the tumour
    raw_every: int = 4  # every n-th single-cell library also has its raw droplets
    mtx_every: int = 12  # every n-th single-cell library comes as the mtx folder
    n_empty: int = 2000  # empty droplets in a raw matrix
    image_pixels: int = 800  # longest side of the high-resolution image

    # --- response; "responder" means disease control (CR, PR or SD), the trial's own gate
    responder_fraction: float = 0.6
    centre_confounding: float = 0.0  # 0: response independent of centre; 1: centre decides
    effect_tam_spp1: float = -0.8  # shift of the composition logit in responders
    effect_cd8: float = 0.7
    effect_caf: float = -0.5
    basal_mean_responder: float = 0.15
    basal_mean_nonresponder: float = 0.35

    # --- composition
    patient_composition_sd: float = 0.6
    burden_sd: float = 0.5

    # --- expression
    baseline_sd: float = 1.2
    marker_baseline: float = -0.3  # log baseline of marker genes, relative to other genes
    marker_share: float = 0.6  # share of its markers that a population really expresses
    marker_fold: tuple[float, float] = (2.0, 20.0)
    # The one marker beyond marker_fold: ambient RNA needs a gene of a single source that is as abundant as albumin is.
    albumin_fold: float = 500.0
    albumin_level: float = 5.5  # log expression in hepatocytes, some 3 % of their transcripts
    leak_share: float = 0.25  # share of the markers of its sister types that a type also expresses
    leak_fold: tuple[float, float] = (2.0, 8.0)
    n_own_genes: int = 110  # genes of a type that stand in no marker table
    own_fold: tuple[float, float] = (2.0, 8.0)
    n_state_genes: int = 30
    n_compartment_genes: int = 80
    dispersion: float = 0.25
    dispersion_poisson: float = 0.05
    patient_sd: float = 0.25
    malignant_sd: float = 0.45
    batch_sd: float = 0.2
    centre_sd: float = 0.1
    chemistry_sd: float = 0.35
    platform_sd: float = 0.7  # gene-wise log factor between single cells and Visium

    # --- copy number
    n_cnv: tuple[int, int] = (4, 8)
    cnv_gain: float = 1.5
    cnv_loss: float = 0.55
    clonal_fraction: tuple[float, float] = (0.8, 1.0)

    # --- technical
    n_recovered: int = 6000  # cells that the run recovered; the files hold a random n_cells of them
    doublets_per_1000: float = 0.008  # doublet rate per 1,000 recovered cells
    heterotypic_share: float = 0.8
    low_quality_share: float = 0.05
    ambient_range: tuple[float, float] = (0.02, 0.20)
    hepatocyte_soup_weight: float = 3.0
    spot_bleed: float = 0.05  # share of a spot's RNA that comes from its neighbours

    # --- interactions and space
    ligand_log_sd: float = 0.6  # patient-to-patient spread of the planted ligand in its sender
    proliferation_per_ligand: float = 0.8  # shift of the cycling logit per SD of the planted ligand
    basal_per_ligand: float = 0.6
    decoy_soup: float = 0.9  # how strongly the ambient fraction follows the planted ligand (confounded decoy)
    margin_log_fold: float = 1.2
    margin_decay_um: float = 150.0
    # Replacement growth: share of single malignant cells among the cells just outside the border, and its decay.
    tail_share: float = 0.08
    tail_decay_um: float = 120.0
    n_margin_genes: int = 40
    saa_decay_um: float = 250.0
    niche_sigma_um: float = 55.0  # clusters of 40 um (SD) seen through spots of 55 um diameter
    niche_margin_share: float = 0.4  # share of a non-responder's margin spots that the planted niche covers

    # --- traps: what goes wrong with tubes and files; none in a study that is meant to be sound
    sample_swap: str = (
        ""  # "cross_sex" or "same_sex": single-cell libraries of two patients with sections are exchanged
    )
    duplicated_patient: bool = False  # the files of one patient's single-cell library stand again under another patient

    # A library of 60 cells, a biopsy with 95 % hepatocytes, a tumour without copy-number change, and a centre with its
    # own chemistry, each in patients of its own (livermet.simulate.hard).
    hard_cases: bool = False

    def __post_init__(self) -> None:
        taken = self.n_primary_only + self.n_resection_only
        if self.n_patients < taken + 4:
            raise ValueError(
                f"n_patients: {self.n_patients} leaves fewer than 4 patients with liver tissue at T0; "
                f"give at least {taken + 4}"
            )
        if self.n_sections - self.n_resection_sections > self.n_patients - taken:
            raise ValueError(
                f"n_sections: {self.n_sections} sections need more patients with liver tissue at T0 than there are; "
                f"give at most {self.n_patients - taken + self.n_resection_sections}"
            )
        if self.core_mm2 < 0.1:
            raise ValueError(f"core_mm2: {self.core_mm2:g} is smaller than any section; give at least 0.1")
        if not 0 <= self.centre_confounding <= 1:
            raise ValueError(f"centre_confounding: {self.centre_confounding} is outside 0 to 1")
        if self.sample_swap not in ("", "cross_sex", "same_sex"):
            raise ValueError(f"sample_swap: {self.sample_swap!r} is not known; give cross_sex, same_sex or nothing")
        if self.n_genes < 3000:
            raise ValueError(
                f"n_genes: {self.n_genes} leaves too few genes outside the marker table; give at least 3000"
            )

    def rng(self, purpose: str) -> np.random.Generator:
        """Random stream of one purpose; what one part draws never moves what another part draws."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])

    def as_dict(self) -> dict[str, Any]:
        """Parameters as plain values, for YAML."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


SIZES: dict[str, StudyDesign] = {
    "tiny": StudyDesign(
        n_patients=8,
        n_centres=2,
        n_batches=2,
        n_cells=120,
        n_spots=150,
        n_sections=3,
        n_primary_only=1,
        n_resection_only=1,
        n_resection_sections=1,
        n_adjacent_sections=0,
        n_hd=0,
        n_xenium=1,
        core_mm2=0.3,
        raw_every=3,
        mtx_every=4,
        n_empty=500,
        responder_fraction=0.5,
    ),
    "demo": StudyDesign(),
    "full": StudyDesign(
        n_patients=64,
        n_cells=1500,
        n_spots=2000,
        n_genes=9000,
        n_sections=24,
        n_primary_only=6,
        n_resection_only=6,
        n_resection_sections=4,
        n_adjacent_sections=2,
        n_hd=3,
        n_xenium=4,
        core_mm2=4.0,
    ),
}


# Numbers that follow the number of patients unless they are given themselves.
PER_PATIENT = ("n_primary_only", "n_resection_only", "n_sections", "n_resection_sections")


def study_design(size: str, *, seed: int, **overrides: Any) -> StudyDesign:
    """Design of a named size with single parameters replaced.

    Another number of patients also scales the numbers of patients without liver tissue at T0 and of sections.

    Raises
    ------
    ValueError
        If the size or a parameter is not known, or the parameters contradict one another.
    """
    if size not in SIZES:
        raise ValueError(f"size: '{size}' is not known; give one of {', '.join(SIZES)}")
    named = SIZES[size]
    unknown = sorted(set(overrides) - set(asdict(named)))
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no such parameter; the parameters are {', '.join(asdict(named))}")
    if "n_patients" in overrides:
        factor = overrides["n_patients"] / named.n_patients
        overrides = {name: max(1, int(getattr(named, name) * factor)) for name in PER_PATIENT} | overrides
    return replace(named, seed=seed, **overrides)


@dataclass(frozen=True)
class CellType:
    """One simulated cell type: its shares of the tissue and its RNA content."""

    name: str
    compartment: str
    dissociated: float  # weight among cells of a dissociated liver metastasis
    tumour: float  # weight among cells in situ, on the tumour side of the border
    liver: float  # weight among cells in situ, on the liver side
    primary: float  # weight among cells of a dissociated primary
    counts: float  # median transcripts per cell, over the simulated genes
    mito: float  # mean share of mitochondrial transcripts


# Names and compartments are those of the marker table, but for the two novel types, which stand in no table. Weights
# lie in the wide ranges that are plausible for liver metastases (malignant 10-50 %, T/NK 15-40, myeloid 15-40,
# B/plasma 2-10, CAF and HSC 1-15, endothelial 1-6, hepatocyte 0-20, cholangiocyte 0-3).
CELL_TYPES: tuple[CellType, ...] = (
    CellType("malignant_ductal", "epithelial", 24.0, 42.0, 0.0, 24.0, 3800, 0.08),
    CellType("cholangiocyte", "epithelial", 2.5, 0.4, 3.0, 0.0, 2600, 0.10),
    CellType("hepatocyte", "liver_parenchyma", 11.0, 0.6, 62.0, 0.0, 3600, 0.26),
    CellType("lsec", "endothelial", 2.5, 0.2, 8.0, 0.0, 1900, 0.06),
    CellType("endothelial_vascular", "endothelial", 3.0, 3.0, 1.5, 4.0, 2000, 0.06),
    CellType("hsc", "mesenchymal", 2.0, 0.5, 4.0, 0.0, 1900, 0.06),
    CellType("caf_pan", "mesenchymal", 12.0, 14.0, 0.6, 14.0, 2800, 0.06),
    CellType("pericyte_vSMC", "mesenchymal", 2.0, 2.0, 0.8, 3.0, 2000, 0.06),
    CellType("kupffer", "myeloid", 3.5, 0.4, 6.0, 0.0, 2200, 0.06),
    CellType("tam_SPP1", "myeloid", 17.0, 9.0, 0.5, 7.0, 2600, 0.07),
    CellType("tam_C1QC", "myeloid", 6.5, 6.0, 1.5, 7.0, 2400, 0.06),
    CellType("monocyte_classical", "myeloid", 5.0, 2.5, 1.5, 4.0, 1700, 0.05),
    CellType("neutrophil", "myeloid", 5.0, 3.0, 0.8, 3.0, 650, 0.03),
    CellType("cDC2", "myeloid", 2.0, 1.2, 0.5, 2.0, 2000, 0.05),
    CellType("mast", "myeloid", 1.2, 1.0, 0.3, 2.0, 1500, 0.05),
    CellType("t_CD8_effector", "lymphoid", 10.0, 5.0, 2.5, 7.0, 1300, 0.04),
    CellType("t_CD4_conv", "lymphoid", 7.0, 4.0, 1.5, 8.0, 1200, 0.04),
    CellType("t_reg", "lymphoid", 3.0, 2.0, 0.3, 3.0, 1300, 0.04),
    CellType("nk_CD16", "lymphoid", 3.0, 1.0, 1.0, 1.5, 1300, 0.04),
    CellType("nk_CD56bright_lr", "lymphoid", 2.5, 0.5, 2.0, 0.0, 1300, 0.04),
    CellType("b_cell", "lymphoid", 3.5, 1.0, 0.4, 5.0, 1200, 0.04),
    CellType("plasma", "lymphoid", 2.5, 1.2, 0.6, 3.0, 2400, 0.05),
    CellType("acinar_contam", "pancreas_only", 0.0, 0.0, 0.0, 5.0, 2600, 0.06),
    CellType("novel_a", "lymphoid", 2.5, 1.2, 0.6, 2.0, 1700, 0.05),
    CellType("novel_b", "unknown", 2.5, 1.5, 0.8, 2.0, 2200, 0.06),
)

# States of a type with their share of it. Shares of the malignant states and, in tissue, of the hepatocyte states
# follow patient and place instead. A type not named here, and "" among the states, stands for cells of no particular
# state.
STATES: dict[str, dict[str, float]] = {
    "malignant_ductal": {
        "mal_classical": 0.6,
        "mal_basal": 0.1,
        "mal_cycling": 0.14,
        "mal_emt": 0.08,
        "mal_hypoxia": 0.08,
    },
    "hepatocyte": {"hep_periportal": 0.4, "hep_pericentral": 0.35, "hep_injured_margin": 0.25},
    "endothelial_vascular": {"": 0.65, "ec_tumour_tip": 0.35},
    "hsc": {"": 0.7, "hsc_activated": 0.3},
    "caf_pan": {"caf_myCAF": 0.5, "caf_iCAF": 0.35, "caf_apCAF": 0.15},
    "tam_C1QC": {"": 0.75, "tam_LAM_CCL18": 0.25},
    "t_CD8_effector": {"": 0.7, "t_CD8_exhausted": 0.3},
}

# Copy-number events of pancreatic cancer and their regions (hg19, base pairs); arms end at the centromere.
CNV_ARMS: dict[str, tuple[str, int, int, str]] = {
    "7p": ("chr7", 0, 59_500_000, "gain"),
    "8q": ("chr8", 45_300_000, 146_400_000, "gain"),
    "12p": ("chr12", 0, 36_300_000, "gain"),
    "18q11": ("chr18", 16_900_000, 25_000_000, "gain"),
    "9p": ("chr9", 0, 48_900_000, "loss"),
    "17p": ("chr17", 0, 23_700_000, "loss"),
    "18q21": ("chr18", 43_500_000, 78_100_000, "loss"),
    "6q": ("chr6", 60_300_000, 171_200_000, "loss"),
}

# Markers that their population always expresses, whatever the random choice of the others: without them a planted
# effect that rests on the gene would not exist.
ANCHORS: dict[str, tuple[str, ...]] = {
    "hepatocyte": ("ALB",),
    "hep_injured_margin": ("SAA1", "SAA2"),
    "tam_SPP1": ("SPP1",),
}

# Ligands and receptors that stand in no marker list of their population.
SIGNALLING: dict[str, tuple[str, ...]] = {
    "malignant_ductal": ("CD44", "MET", "ITGAV", "ITGB1", "EGFR", "IL6ST", "DDR1", "CXCR4"),
    "hepatocyte": ("VTN",),
    "hsc": ("HGF",),
    "caf_pan": ("HGF", "TGFB1", "CXCL12"),
    "tam_SPP1": ("HBEGF", "MIF", "GRN"),
    "t_CD8_effector": ("CXCR4", "CD44"),
    "t_reg": ("TIGIT", "CXCR4"),
    "endothelial_vascular": ("ITGAV", "ITGB1", "CXCL12"),
}
EXTRA_GENES: tuple[str, ...] = tuple(
    (
        "CSF1 CSF1R PVR NECTIN2 TIGIT LGALS9 HAVCR2 CD74 CD44 EGFR AREG EREG HBEGF TGFA MIF GRN SORT1 IL6 IL6R "
        "IL6ST LIF LIFR OSM OSMR CXCL12 CXCR4 TGFB1 TGFBR1 TGFBR2 DDR1 ITGA1 ITGA2 ITGAV ITGB1 ITGB5 HGF MET CXCL6 "
        "CXCL8 CXCR1 CXCR2 VEGFA KDR FLT1 VTN PTPRC CD68 XIST RPS4Y1 DDX3Y CCL2 CCR2 CCL5 CCR5 CD274 PDCD1 JAG1 "
        "NOTCH2 NOTCH3 WNT5A FZD5 IL1B IL1R1 TNF TNFRSF1A APOE LRP1 C3 C3AR1 ANXA1 FPR1 PDGFB PDGFRB "
        "BCAR3 PTGES ITGA3 C16orf74 DDC"
    ).split()
)
MITO_GENES: tuple[str, ...] = tuple(
    ("MT-ND1 MT-ND2 MT-CO1 MT-CO2 MT-ATP8 MT-ATP6 MT-CO3 MT-ND3 MT-ND4L MT-ND4 MT-ND5 MT-ND6 MT-CYB").split()
)
# Planted effect, null pair, and the decoy that follows the outcome through ambient RNA alone: sender, ligand, receptor.
PLANTED_PAIR = ("tam_SPP1", "SPP1", "CD44")
NULL_PAIR = ("caf_pan", "HGF", "MET")
DECOY_PAIR = ("tam_SPP1", "VTN", "ITGAV")
# What malignant cells raise at the border, and what only seeps in there from hepatocytes: names in the truth.
MARGIN_PROGRAMME, ADMIXTURE_ONLY = "margin_programme", "admixture_only"
INVASION_STATE = "mal_emt"  # its markers are the known genes of the margin programme


@dataclass(frozen=True)
class PersonalGene:
    """A gene that not everybody has, or one of its companions: transcripts per million, where nothing else is said."""

    symbol: str
    elsewhere: float
    levels: dict[str, float] = field(default_factory=dict)  # in single types or compartments


# Their levels are assumptions, within what single cells of liver and pancreatic cancer show.
PERSONAL_GENES: tuple[PersonalGene, ...] = (
    PersonalGene("GSTM1", 20, {"liver_parenchyma": 200, "mesenchymal": 80, "epithelial": 40}),
    PersonalGene("GSTM2", 20, {"liver_parenchyma": 40, "mesenchymal": 60, "epithelial": 40}),
    PersonalGene("GSTM3", 15, {"liver_parenchyma": 10, "mesenchymal": 60, "epithelial": 40}),
    PersonalGene("GSTM4", 25, {"liver_parenchyma": 40}),
    PersonalGene("GSTT1", 30, {"liver_parenchyma": 120}),
    PersonalGene("ERAP1", 40, {"liver_parenchyma": 25}),
    PersonalGene("ERAP2", 40, {"liver_parenchyma": 20}),
    PersonalGene("LNPEP", 40),
    PersonalGene("HLA-DRB4", 15, {"myeloid": 800, "b_cell": 800}),
    PersonalGene("HLA-DRB5", 20, {"myeloid": 1200, "b_cell": 1200}),
)
# Share of Europeans who lack a gene (sources in livermet.identity), and of the DR haplotypes that carry one (K).
LACKING: dict[str, float] = {"GSTM1": 0.5, "GSTT1": 0.2, "ERAP2": 0.3}
DR_HAPLOTYPES: dict[str, float] = {"HLA-DRB4": 0.28, "HLA-DRB5": 0.15}
MISREAD = 0.005  # share of a gene's level that is found in people without it
PERSONAL_SD = 0.35  # of the log level of these genes between libraries
