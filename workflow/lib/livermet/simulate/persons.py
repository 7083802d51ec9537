"""What tells one simulated person from another: genes that not everybody has, and traps with exchanged files.

These genes are drawn in streams of their own and stand behind all others, so that what they add moves nothing else.
"""

from __future__ import annotations

import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from livermet.simulate.design import (
    CELL_TYPES,
    DR_HAPLOTYPES,
    LACKING,
    MISREAD,
    PERSONAL_GENES,
    PERSONAL_SD,
    StudyDesign,
)

SYMBOLS = [gene.symbol for gene in PERSONAL_GENES]
# Cell types x genes, as shares of the transcripts.
LEVELS = pd.DataFrame(
    [
        [g.levels.get(t.name, g.levels.get(t.compartment, g.elsewhere)) / 1e6 for g in PERSONAL_GENES]
        for t in CELL_TYPES
    ],
    index=[t.name for t in CELL_TYPES],
    columns=SYMBOLS,
)


def simulate_alleles(patients: pd.DataFrame, design: StudyDesign) -> pd.DataFrame:
    """Whether each patient has each personal gene: patients x genes, 0 or 1.

    HLA-DRB4 and HLA-DRB5 stand on haplotypes of which everybody has two.
    """
    rng = design.rng("alleles")
    alleles = pd.DataFrame(1, index=patients["patient_id"].to_numpy(), columns=SYMBOLS)
    for gene, share in LACKING.items():
        alleles[gene] = (rng.random(len(patients)) >= share).astype(int)
    names = [*DR_HAPLOTYPES, ""]
    shares = [*DR_HAPLOTYPES.values(), 1 - sum(DR_HAPLOTYPES.values())]
    haplotypes = rng.choice(names, (len(patients), 2), p=shares)
    for gene in DR_HAPLOTYPES:
        alleles[gene] = (haplotypes == gene).any(axis=1).astype(int)
    return alleles


def with_personal_genes(genes: pd.DataFrame) -> pd.DataFrame:
    """The table of genes with the personal ones at its end; those that it holds already move there."""
    others = genes[~genes["symbol"].isin(SYMBOLS)]
    known = genes.set_index("symbol")["gene_id"]
    new = [known.get(symbol, f"ENSGSIM{len(genes) + i:08d}") for i, symbol in enumerate(SYMBOLS, start=1)]
    personal = pd.DataFrame({"gene_id": new, "symbol": SYMBOLS, "mito": False, "tabled": False})
    return pd.concat([others, personal], ignore_index=True)


def add_personal_counts(
    counts: sparse.csr_matrix,
    genes: pd.DataFrame,
    *,
    levels: np.ndarray,
    alleles: pd.Series,
    sex: str,
    platform: str,
    library: str,
    design: StudyDesign,
    part: str = "",
) -> sparse.csr_matrix:
    """Counts over the genes of :func:`with_personal_genes`.

    Parameters
    ----------
    counts
        Barcodes x genes of the table ``genes``. Women lose the counts of genes on the Y chromosome.
    levels
        Barcodes x personal genes, as shares of the counts of each barcode.
    alleles
        Row of :func:`simulate_alleles`.
    platform, library
        Level of each gene: a factor per platform, and one per library.
    part
        Tells the draws of several matrices of one library apart.
    """
    effect = design.rng(f"personal {library}").normal(0, PERSONAL_SD, len(SYMBOLS))
    if platform == "visium":
        effect += design.rng("personal visium").normal(0, design.platform_sd, len(SYMBOLS))
    total = np.asarray(counts.sum(axis=1)).reshape(-1, 1)
    has = np.where(alleles[SYMBOLS].to_numpy() == 1, 1.0, MISREAD)
    rng = design.rng(f"personal counts {library} {part}")
    mean = total * levels * np.exp(effect) * has * rng.gamma(1 / design.dispersion, design.dispersion, levels.shape)
    personal = sparse.csr_matrix(rng.poisson(mean).astype(np.int32))
    silent = (genes["chromosome"] == "chrY").to_numpy() & (sex == "F")
    kept = counts @ sparse.diags((~silent).astype(np.int32), dtype=np.int32)
    result = sparse.hstack([kept[:, ~genes["symbol"].isin(SYMBOLS).to_numpy()], personal], format="csr")
    result.eliminate_zeros()
    return result


def cell_levels(cell_types: pd.Series, ambient: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels of the personal genes in each cell of a library, ambient RNA included, and in its ambient RNA."""
    own = LEVELS.loc[cell_types].to_numpy()
    soup = np.average(own, axis=0, weights=total)
    return (1 - ambient[:, None]) * own + ambient[:, None] * soup, soup


def spot_levels(abundance: pd.DataFrame, n_spots: int) -> np.ndarray:
    """Levels of the personal genes in each spot, from the long table of the RNA fractions of its types."""
    fractions = abundance.pivot_table(index="spot", columns="cell_type", values="rna_fraction", observed=True)
    return fractions.reindex(range(n_spots)).fillna(0.0).to_numpy() @ LEVELS.loc[fractions.columns].to_numpy()


# -------------------------------------------------------------------------------------------------------------- traps


def plant_traps(
    study: Path, libraries: pd.DataFrame, patients: pd.DataFrame, samples: pd.DataFrame, design: StudyDesign
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Exchange or repeat the files of libraries, as ``sample_swap`` and ``duplicated_patient`` ask for.

    Returns
    -------
    The table of libraries, with changed paths, and the traps: trap, library_id, and ``holds``, the library that its
    files really are of.

    Raises
    ------
    ValueError
        If no two patients fit.
    """
    rng = design.rng("traps")
    libraries = libraries.copy()
    patient = libraries["sample_id"].map(samples.set_index("sample_id")["patient_id"])
    cells = np.flatnonzero(libraries["modality"] == "scrna")
    traps = []
    if design.sample_swap:
        sex = patient.map(patients.set_index("patient_id")["sex"])
        several = patient.map(patient.value_counts()) > 1
        pairs = [
            pair
            for pair in combinations(cells[several.to_numpy()[cells]], 2)
            if (sex[pair[0]] == sex[pair[1]]) == (design.sample_swap == "same_sex")
        ]
        if not pairs:
            raise ValueError(f"sample_swap: no two patients with sections fit {design.sample_swap}; use another seed")
        first, second = pairs[rng.integers(len(pairs))]
        columns = ["path", "raw_path"]
        libraries.loc[[first, second], columns] = libraries.loc[[second, first], columns].to_numpy()
        traps += [("sample_swap", first, second), ("sample_swap", second, first)]
    if design.duplicated_patient:
        taken = [place for _, place, _ in traps]
        source, copy = rng.choice([place for place in cells if place not in taken], 2, replace=False)
        old = Path(libraries.loc[source, "path"])
        target = Path("raw") / f"{libraries.loc[copy, 'library_id']}-copy" / old.name
        folder = study / target.parent
        shutil.copytree(study / old.parent, folder)
        libraries.loc[copy, "path"] = str(target)
        libraries.loc[copy, "raw_path"] = None
        traps.append(("duplicated_patient", copy, source))
    names = libraries["library_id"]
    rows = [(trap, names[at], names[holds]) for trap, at, holds in traps]
    return libraries, pd.DataFrame(rows, columns=["trap", "library_id", "holds"])
