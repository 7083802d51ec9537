"""Agreement of the workflow with the authors' labels on a real tumour, run as any study is: by tables and config alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anndata as ad
import pandas as pd
import yaml

from livermet import keys
from livermet.truth import UNNAMED

ROOT = Path(__file__).resolve().parents[2]
# The authors' labels begin with these words; the types of the marker table that say the same. Duct cells of the pancreas
# and tuft cells stand in no marker table: what is right is that they are not called malignant.
NOT_MALIGNANT = (keys.CHOLANGIOCYTE, keys.UNCERTAIN_EPITHELIAL)
T_AND_NK = ("t_CD8_effector", "t_CD4_conv", "t_reg", "t_MAIT", "t_gd", "nk_CD56bright_lr", "nk_CD16")
AUTHORS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Ductal": ("epithelial", NOT_MALIGNANT),
    "Cancer clone": ("epithelial", (keys.MALIGNANT_TYPE,)),
    "Tuft": ("epithelial", NOT_MALIGNANT),
    "Acinar": ("pancreas_only", ("acinar_contam",)),
    "T cells & NK": ("lymphoid", T_AND_NK),
    "mDCs": ("myeloid", ("cDC1", "cDC2", "mregDC")),
    "pDCs": ("myeloid", ("pDC",)),
    "Monocytes": ("myeloid", ("monocyte_classical", "monocyte_nonclassical")),
    "Macrophages": ("myeloid", ("tam_SPP1", "tam_C1QC", "kupffer")),
    "Mast": ("myeloid", ("mast",)),
    "RBCs": ("blood", ("erythroid",)),
    "Endothelial": ("endothelial", ("endothelial_vascular", "endothelial_lymphatic", "lsec")),
    "Fibroblasts": ("mesenchymal", ("caf_pan", "hsc", "portal_fibroblast")),
    "Endocrine": (keys.UNKNOWN, (keys.UNKNOWN,)),
}


def snakemake(folder: Path, config: dict, wanted: list[Path], *, cores: int) -> None:
    """Make the wanted files of one study in a working directory of its own, which also gets config and log."""
    path, log = folder / "config.yaml", folder / "snakemake.log"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--workflow-profile", ROOT / "profiles" / "default", "--cores", cores, "--configfile", path, "--"]
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run([str(part) for part in [*command, *wanted]], stdout=stream, stderr=stream, check=False)
    if done.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-40:])
        raise SystemExit(f"{tail}\n\nthe workflow failed on {folder}; the whole log is {log}")


def agreement(source: Path, folder: Path, *, cores: int, reuse: bool) -> str:
    """Run the workflow on the tumour's cells and spots and compare; what is found as text.

    Parameters
    ----------
    source
        cells.h5ad with ``obs["cell_type_author"]``, and beside it spots.h5ad.
    folder
        Working directory.
    reuse
        Whether to keep a study that is there already, and run what changed.
    """
    cells, config = folder / "results" / "cohort" / "cells.h5ad", folder / "config.yaml"
    kept = yaml.safe_load(config.read_text(encoding="utf-8")) if reuse and config.exists() else None
    snakemake(folder, kept or write_study(source, folder), [cells], cores=cores)
    authors = ad.read_h5ad(source, backed="r").obs["cell_type_author"].astype(str)
    found = ad.read_h5ad(cells, backed="r").obs[[keys.COMPARTMENT, keys.CELL_TYPE]].astype(str)
    found.index = found.index.str.split(":", n=1).str[1]
    overall, labels = compare(authors, found)
    shares = ", ".join(f"{name} {value:.2f}" for name, value in overall.items())
    return f"{len(authors)} cells: {shares}\n\n{labels.to_string(index=False, float_format='%.2f')}"


def write_study(source: Path, folder: Path) -> dict:
    """Tables of a study of this one patient; returns its config."""
    study = folder / "study"
    study.mkdir(parents=True, exist_ok=True)
    tables = {
        "patients": "patient_id\tcentre\tcohort\nPDAC-A\tNYU\tlimited_liver\n",
        "samples": "sample_id\tpatient_id\ttimepoint\ttissue\nPDAC-A-T\tPDAC-A\tT0_pre\tprimary\n",
        "libraries": "library_id\tsample_id\tmodality\tbatch\tpath\tpixel_um\n"
        f"PDAC-A-cells\tPDAC-A-T\tscrna\tB01\t{source.resolve()}\t\n"
        f"PDAC-A-spots\tPDAC-A-T\tvisium\tB01\t{source.resolve().with_name('spots.h5ad')}\t200\n",
        "response": "patient_id\trecist\nPDAC-A\tPR\n",
    }
    for name, text in tables.items():
        (study / f"{name}.tsv").write_text(text, encoding="utf-8")
    roots = [str(source.resolve().parent)]
    results = str(folder / "results")
    return {"study": str(study), "results": results, "roots": roots, "response": {"tissues": ["primary"]}}


def compare(authors: pd.Series, found: pd.DataFrame) -> tuple[dict[str, float], pd.DataFrame]:
    """Agreement over all cells of the authors, where removed cells count against us, and over the kept ones.

    Most cells of this tumour are duct cells, of which an honest "uncertain" is right: the agreement over the other cells
    says what is really named.

    Parameters
    ----------
    authors
        The authors' label of each barcode.
    found
        compartment and cell_type of the barcodes that were kept.

    Returns
    -------
    Shares by name; and per label n, kept, compartment and type (shares of all its cells) and the most frequent type.

    Raises
    ------
    ValueError
        If a label is not known.
    """
    known = authors.map(lambda label: next((word for word in AUTHORS if label.startswith(word)), None))
    if known.isna().any():
        raise ValueError(f"label {authors[known.isna()].iloc[0]!r}: expected to begin with one of {', '.join(AUTHORS)}")
    both = found.reindex(authors.index)
    right = pd.DataFrame(
        {
            "label": authors,
            "kept": both[keys.CELL_TYPE].notna(),
            "compartment": both[keys.COMPARTMENT] == known.map(lambda word: AUTHORS[word][0]),
            "type": [answer in AUTHORS[word][1] for answer, word in zip(both[keys.CELL_TYPE], known, strict=True)],
            "answer": both[keys.CELL_TYPE].fillna("(removed)"),
        }
    )
    kept = right[right["kept"]]
    named = known.map(lambda word: not set(AUTHORS[word][1]) & set(UNNAMED))
    overall = {
        "compartments": right["compartment"].mean(),
        "types": right["type"].mean(),
        "compartments of kept cells": kept["compartment"].mean(),
        "types of kept cells": kept["type"].mean(),
        "types where abstention is no right answer": right.loc[named, "type"].mean(),
    }
    groups = right.groupby("label", sort=False)
    table = groups[["kept", "compartment", "type"]].mean()
    table.insert(0, "n", groups.size())
    table["most_frequent_type"] = groups["answer"].agg(lambda values: values.value_counts().index[0])
    return overall, table.sort_values("n", ascending=False, kind="stable").reset_index()
