"""A planted cohort that is annotated and frozen, and libraries of new patients of another chemistry, for the tests of mapping."""

from functools import cache

import numpy as np
import scipy.sparse as sp

from defaults import DEFAULTS
from livermet import frozen as fz
from livermet import integrate as ig
from livermet import mapping as mp
from livermet.annotate import annotate_cells
from livermet.genes import gene_positions
from livermet.markers import load_markers
from planted_cells import planted_cells, rows_of

ANNOTATE, CNV = DEFAULTS["annotate"], DEFAULTS["cnv"]
TYPES = [
    *("malignant_ductal", "cholangiocyte", "hepatocyte", "endothelial_vascular", "caf_pan", "tam_SPP1"),
    *("monocyte_classical", "neutrophil", "t_CD8_effector", "t_CD4_conv", "b_cell"),
]
MAX_OUT = DEFAULTS["reference"]["max_out"]


def other_chemistry(library, rng, factor):
    """The library with counts of each gene thinned by a factor of its own."""
    thinned = library.copy()
    counts = sp.csr_matrix(library.X)
    counts.data = rng.binomial(counts.data, factor[counts.indices]).astype(np.int32)
    counts.eliminate_zeros()
    thinned.X = counts
    return thinned


@cache
def libraries(seed, n_frozen=5, n_new=2):
    """Libraries of the patients that are frozen, and of new ones."""
    planted = planted_cells(
        seed=seed, n_patients=n_frozen + n_new, n_cells=220, n_genes=5600, types=TYPES, novel=0, depth=2500
    )
    rng = np.random.default_rng(seed)
    factor = np.minimum(rng.lognormal(-0.7, 0.35, size=planted[0].n_vars), 1)
    return planted[:n_frozen], [other_chemistry(library, rng, factor) for library in planted[n_frozen:]]


def truth_of(adatas):
    """True type of each cell of some libraries, by name."""
    return {name: kind for adata in adatas for name, kind in adata.obs["true_type"].items()}


@cache
def cohort(seed, without=""):
    """Annotated cells of the frozen patients, evidence, arms and resolutions; without the cells of one true type."""
    old = libraries(seed)[0]
    if without:
        cells, *tables = cohort(seed, "")
        kept = np.array([truth_of(old)[name] != without for name in cells.obs_names])
        return cells[kept].copy(), *tables
    cells = ig.pool_libraries(old, rows_of(old), min_genes_shared=0.5)
    cells = ig.embed(cells, batch_key="library_id", n_hvg=1500, n_pcs=25, n_neighbours=15, harmony=True, seed=1)
    cells, clustering = ig.cluster(cells, resolutions=[0.8], n_stability=1, seed=1)
    cells.obsm["X_umap"] = cells.obsm["X_integrated"][:, :2].copy()
    cells, marker_evidence, arms = annotate_cells(
        cells, load_markers(), gene_positions(), annotate=ANNOTATE, cnv=CNV, seed=1
    )
    return cells, marker_evidence, arms, clustering


@cache
def reference(seed, without=""):
    """The frozen cohort."""
    cells, marker_evidence, _, _ = cohort(seed, without)
    return fz.freeze(cells, marker_evidence, load_markers(), min_state_cells=ANNOTATE["min_state_cells"], seed=1)


def mapped(seed, without="", *, new=None, scope=None, **options):
    """The scope of all libraries (or of those given) with the new ones mapped."""
    cells, _, arms, _ = cohort(seed, without)
    old, planted = libraries(seed)
    new = list(planted) if new is None else new
    return mp.map_scope(
        reference(seed, without),
        gene_positions(),
        earlier=cells,
        earlier_arms=arms,
        adatas=new,
        rows=rows_of([*old, *new]) if scope is None else scope,
        name="look1",
        **{"min_genes_shared": 0.5, "annotate": ANNOTATE, "cnv": CNV, "max_out": MAX_OUT, "seed": 1} | options,
    )
