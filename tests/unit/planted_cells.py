"""Small seeded single-cell cohort with planted types, copy numbers and patient effects, for the tests of integration and annotation.

It follows the same ideas as the project's simulated study, on counts alone: a type expresses a random part of its markers, leaks some of
its sisters', and has many genes of its own that stand in no marker table; two types stand in no table at all.
"""

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from livermet.cnv import chromosome_arms
from livermet.genes import gene_positions
from livermet.markers import load_markers

LINEAGE_WEIGHT = {"malignant_ductal": 20.0, "hepatocyte": 8.0, "t_CD8_effector": 6.0, "t_CD4_conv": 6.0, "caf_pan": 5.0}
GAINS = ("7p", "8q", "12p")
LOSSES = ("9p", "17p", "6q")


def planted_cells(
    *,
    seed: int,
    n_patients: int = 6,
    n_cells: int = 250,
    n_genes: int = 6500,
    types: list[str] | None = None,
    novel: int = 2,
    expressed: float = 0.6,
    leak: float = 0.25,
    depth: float = 2500.0,
) -> list[ad.AnnData]:
    """One AnnData of counts per patient, with the truth in obs (``true_type``, ``true_malignant``) and planted arms in uns["arms"]."""
    rng = np.random.default_rng(seed)
    markers = load_markers()
    table = markers[markers["level"] == "type"]
    names = list(table.index) if types is None else list(types)
    positions = gene_positions()
    marker_genes = sorted({gene for genes in markers["genes"] for gene in genes})
    others = [gene for gene in positions.index if gene not in set(marker_genes)]
    chosen = set(rng.choice(others, size=max(n_genes - len(marker_genes), 0), replace=False)) | set(marker_genes)
    genes = [g for g in positions.index if g in chosen] + [g for g in marker_genes if g not in positions.index]
    index = pd.Index(genes)

    base = rng.lognormal(0.0, 1.2, size=len(genes))
    base[index.get_indexer(marker_genes)] = rng.lognormal(-1.0, 0.7, size=len(marker_genes))
    base *= rng.lognormal(0.0, 0.7, size=len(genes))
    all_types = names + [f"novel_{letter}" for letter in "ab"[:novel]]
    profiles = np.tile(base, (len(all_types), 1))
    free = index.get_indexer([gene for gene in genes if gene not in set(marker_genes)])
    lineages = {}
    for i, name in enumerate(all_types):
        fold = np.ones(len(genes))
        own = rng.choice(free, size=110, replace=False)
        fold[own] = np.exp(rng.uniform(np.log(2), np.log(8), size=own.size))
        if name in table.index:
            parent = table.loc[name, "parent"]
            if parent not in lineages:
                lineages[parent] = (rng.choice(free, size=60, replace=False), rng.uniform(1.5, 5, size=60))
            shared, shared_fold = lineages[parent]
            fold[shared] = np.maximum(fold[shared], shared_fold)
            sisters = [s for s in names if s != name and table.loc[s, "parent"] == parent]
            of_sisters = sorted({g for s in sisters for g in table.loc[s, "genes"]})
            own_markers = [g for g in table.loc[name, "genes"] if rng.random() < expressed]
            leaked = [g for g in of_sisters if rng.random() < leak]
            for members, highest in ((leaked, 8), (own_markers, 20)):
                at = index.get_indexer(members)
                fold[at] = np.maximum(fold[at], np.exp(rng.uniform(np.log(2), np.log(highest), size=at.size)))
        profiles[i] = base * fold
    weights = np.array([LINEAGE_WEIGHT.get(name, 1.0) for name in all_types])
    arm = chromosome_arms(positions.reindex(index)).to_numpy()

    libraries = []
    malignant = all_types.index("malignant_ductal") if "malignant_ductal" in all_types else -1
    for p in range(n_patients):
        patient = profiles * rng.lognormal(0, 0.25, size=len(genes)) * rng.lognormal(0, 0.2, size=len(genes))
        events = {}
        if malignant >= 0:
            patient[malignant] *= rng.lognormal(0, 0.45, size=len(genes))
            events = dict.fromkeys(rng.choice(GAINS, 2, replace=False), "gain")
            events |= dict.fromkeys(rng.choice(LOSSES, 2, replace=False), "loss")
            for name, kind in events.items():
                patient[malignant, arm == name] *= 1.5 if kind == "gain" else 0.55
        mix = rng.dirichlet(weights / weights.sum() * 25)
        labels = rng.choice(len(all_types), size=n_cells, p=0.9 * mix + 0.1 / len(all_types))
        soup = (patient / patient.sum(axis=1, keepdims=True) * mix[:, None]).sum(axis=0)
        rho = rng.beta(2, 38)
        size = rng.lognormal(np.log(depth), 0.35, size=n_cells)
        mean = patient[labels] / patient[labels].sum(axis=1, keepdims=True)
        mean = ((1 - rho) * mean + rho * soup) * size[:, None]
        dispersion = 0.25
        counts = rng.poisson(mean * rng.gamma(1 / dispersion, dispersion, size=mean.shape))
        library = f"L{p + 1:02d}"
        obs = pd.DataFrame(index=[f"{library}:{i:05d}" for i in range(n_cells)])
        obs["library_id"], obs["sample_id"], obs["patient_id"] = library, f"S{p + 1:02d}", f"P{p + 1:02d}"
        obs["true_type"] = [all_types[i] for i in labels]
        obs["true_malignant"] = labels == malignant
        adata = ad.AnnData(sp.csr_matrix(counts.astype(np.int32)), obs=obs, var=pd.DataFrame(index=index))
        adata.var["symbol"], adata.var["gene_id"] = index.to_numpy(), ""
        adata.uns["arms"] = events
        adata.uns["livermet"] = {"library_id": library, "modality": "scrna", "reason": "", "simulated": True}
        libraries.append(adata)
    return libraries


def rows_of(libraries: list[ad.AnnData]) -> list[dict]:
    """Rows of the study for planted libraries."""
    return [
        {
            "library_id": library.obs["library_id"].iloc[0],
            "modality": "scrna",
            "batch": "B1",
            "centre": "C1",
            "timepoint": "T0_pre",
            "tissue": "liver_met",
        }
        for library in libraries
    ]
