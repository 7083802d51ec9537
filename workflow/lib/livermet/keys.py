"""Names of the AnnData slots that several steps share: the one place where they are written down."""

# obs: identity
LIBRARY = "library_id"
SAMPLE = "sample_id"
PATIENT = "patient_id"
MODALITY = "modality"
BATCH = "batch"
CENTRE = "centre"
TIMEPOINT = "timepoint"
TISSUE = "tissue"

# obs: quality
TOTAL_COUNTS = "total_counts"
N_GENES = "n_genes"
PCT_MITO = "pct_mito"
DOUBLET_SCORE = "doublet_score"

# obs: cells
CLUSTER = "cluster"
GROUP = "annotation_group"
COMPARTMENT = "compartment"
CELL_TYPE = "cell_type"
CELL_STATE = "cell_state"
CONFIDENCE = "confidence"
LABEL_SOURCE = "label_source"
CELL_TYPE_MARKERS = "cell_type_markers"
MALIGNANT = "malignant"
CNV_SCORE = "cnv_score"
REFERENCE = "reference"
OUT_OF_REFERENCE = "out_of_reference"
PATIENT_PRIVATE = "patient_private"
SUBTYPE = "subtype"

# obs: sections
ARRAY_ROW = "array_row"
ARRAY_COL = "array_col"
TUMOUR = "tumour"
SIGNED_DISTANCE = "signed_distance_um"
ZONE = "zone"
NICHE = "niche"
DOMINANT_TYPE = "dominant_type"

# var
GENE_ID = "gene_id"
SYMBOL = "symbol"
FEATURE_TYPE = "feature_type"
AMBIENT_COUNTS = "ambient_counts"
AMBIENT = "ambient"
CORRECTED = "corrected"

# obsm, obsp, uns
SPATIAL = "spatial"
PCA = "X_pca"
INTEGRATED = "X_integrated"
UMAP = "X_umap"
ABUNDANCE = "abundance"
ABUNDANCE_TYPES = "abundance_types"
SPATIAL_GRAPH = "spatial_connectivities"
META = "livermet"
POLYGONS = "polygons"
# uns["livermet"]: what one observation of a section is: "spot" (several cells), "bin" (square, Visium HD) or "cell"
RESOLUTION = "resolution"
UM_PER_PIXEL = "um_per_pixel"

# values
UNKNOWN = "unknown"
UNCERTAIN_EPITHELIAL = "epithelial_uncertain"
MALIGNANT_TYPE = "malignant_ductal"
CHOLANGIOCYTE = "cholangiocyte"
HEPATOCYTE = "hepatocyte"
MALIGNANT_CALLS = ("malignant", "normal", "ambiguous", "not_tested")
ZONES = ("core", "inner_rim", "margin", "peritumoral", "distant", "none")
CELL_MODALITIES = ("scrna", "snrna")
RESOLVED_MODALITIES = ("xenium", "cosmx", "merscope")  # single cells are told apart
SPATIAL_MODALITIES = ("visium", "visium_hd", *RESOLVED_MODALITIES)


def unit_of(modality: str) -> str:
    """What a library's barcodes are: cells, spots or bins."""
    if modality in CELL_MODALITIES or modality in RESOLVED_MODALITIES:
        return "cells"
    return "bins" if modality == "visium_hd" else "spots"
