"""A small valid study on disk, for tests that break one thing at a time."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData

from livermet.config import DEFAULT_CONFIG, load_yaml, merge_config

TABLES = {
    "patients": """
patient_id centre cohort age sex ecog largest_met_mm consent_omics
P1 Malmö limited_liver 61 F 0 22.5 yes
P2 Oslo extended_liver 70 M 1 41 yes
003 Oslo limited_liver 58 M 0 18 yes
""",
    "samples": """
sample_id patient_id timepoint tissue day method
S1 P1 T0_pre liver_met -3 core_needle
S2 P2 T0_pre liver_met -2 core_needle
S3 003 T0_pre primary -1 eus_fnb
""",
    "libraries": """
library_id sample_id modality batch path raw_path expected_cells pixel_um
L1 S1 scrna B01 raw/L1.h5 raw/L1_raw.h5 4000 .
L2 S2 scrna B01 raw/L2 . . .
L3 S1 visium B02 raw/L3 . . 0.5
L4 S3 snrna B02 raw/L4.h5ad . . .
""",
    "response": """
patient_id eval_day recist grade
P1 60 SD high
P1 120 PR high
P2 . PD low
003 60 NE .
""",
    "blood": """
patient_id day analyte value unit censor
P1 0 ca199 812.5 U/mL .
P2 0 ca199 1 U/mL <
P1 0 bilirubin 11 umol/L .
P2 0 bilirubin 9 umol/L .
""",
    "treatment": """
patient_id regimen start_day
P1 mFOLFIRINOX 5
""",
    "local_treatment": """
patient_id day type lesion_id
P1 150 liver_resection .
""",
}


def table_text(name: str, tables: Mapping[str, str] = TABLES) -> str:
    """One table as tab-separated text; a dot stands for an empty cell."""
    lines = tables[name].strip().splitlines()
    return "".join("\t".join("" if cell == "." else cell for cell in line.split(" ")) + "\n" for line in lines)


def write_study(folder: Path) -> Path:
    """Write the tables and the raw files of the study into a folder, and return it."""
    folder.mkdir(parents=True)
    for name in TABLES:
        (folder / f"{name}.tsv").write_text(table_text(name), encoding="utf-8")
    raw = folder / "raw"
    raw.mkdir()
    write_10x(raw / "L1.h5")
    write_10x(raw / "L1_raw.h5")
    write_mtx(raw / "L2")
    spatial = raw / "L3" / "spatial"
    spatial.mkdir(parents=True)
    write_10x(raw / "L3" / "filtered_feature_bc_matrix.h5")
    (spatial / "tissue_positions.csv").write_text(
        "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres\nA-1,1,0,0,10,10\n"
    )
    (spatial / "scalefactors_json.json").write_text(json.dumps({"tissue_lowres_scalef": 0.1}))
    cells, genes = (pd.DataFrame(index=[f"{name}{i}" for i in range(2)]) for name in ("cell", "gene"))
    AnnData(np.ones((2, 2), dtype=np.int32), obs=cells, var=genes).write_h5ad(raw / "L4.h5ad")
    return folder


def write_10x(path: Path, *, group: str = "matrix") -> None:
    """The structure of a Cell Ranger 3 h5 file with one cell and two genes."""
    with h5py.File(path, "w") as file:
        matrix = file.create_group(group)
        matrix["data"], matrix["indices"], matrix["indptr"] = np.array([1]), np.array([0]), np.array([0, 1])
        matrix["shape"], matrix["barcodes"] = np.array([2, 1]), np.array([b"A-1"])
        features = matrix.create_group("features")
        features["id"] = features["name"] = np.array([b"G1", b"G2"])


def write_mtx(folder: Path) -> None:
    """A Cell Ranger 3 matrix folder with one cell and two genes."""
    folder.mkdir()
    matrix = "%%MatrixMarket matrix coordinate integer general\n%comment\n2 1 1\n1 1 3\n"
    for name, text in (("matrix.mtx", matrix), ("features.tsv", "G1\tG1\nG2\tG2\n"), ("barcodes.tsv", "A-1\n")):
        with gzip.open(folder / f"{name}.gz", "wt") as stream:
            stream.write(text)


def study_config(folder: Path, **changes: Any) -> dict[str, Any]:
    """The default config, pointed at a study."""
    (folder.parent / "batches").mkdir(exist_ok=True)
    own = {"study": str(folder), "results": str(folder.parent / "results"), "batches": str(folder.parent / "batches")}
    return merge_config(
        load_yaml(DEFAULT_CONFIG), own, {"labels": {"grade": {"kind": "binary", "positive": "high"}}}, changes
    )
