"""The scripts of activity and of differential expression, run in this process with a stand-in for Snakemake."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from livermet.files import read_table, write_h5ad, write_table

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit"))
from cohorts import CONFIG, ids, labels_table, patients_table  # noqa: E402
from test_differential import profile_counts  # noqa: E402

OPTIONS = {"min_cells": 1, "min_count": 5, "min_share": 0.25, "ambient_top": 5, "max_contamination": 0.2}
GENES = [f"G{i:03d}" for i in range(200)]
STATED = ("n_genes", "activity", "activity_among_types")


def run(name, **parts):
    snakemake = SimpleNamespace(
        rule=name,
        **{key: SimpleNamespace(**value) if isinstance(value, dict) else value for key, value in parts.items()},
    )
    runpy.run_path(str(ROOT / "scripts" / f"{name}.py"), init_globals={"snakemake": snakemake})


@pytest.mark.parametrize("empty", [False, True], ids=["cells", "no cells"])
def test_from_cells_to_activity_without_a_label_and_then_to_the_contrast(tmp_path, empty):
    patients, arms = ids(12), np.tile([0, 1], 6)
    place = {"timepoint": "T0_pre", "tissue": "liver_met", "modality": "scrna", "cell_type": "tam_SPP1"}
    obs = pd.DataFrame({"patient_id": patients}, index=[f"c{i}" for i in range(12)]).assign(**place, library_id="L1")
    counts = profile_counts(np.random.default_rng(1), arms, planted=np.zeros(200), genes=200).astype(np.int32)
    cells = AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=GENES))
    cells = cells[:0].copy() if empty else cells
    write_h5ad(cells, tmp_path / "cells.h5ad")
    (tmp_path / "L1").mkdir()
    profile = np.r_[0.9, np.full(199, 0.1 / 199)]
    write_h5ad(AnnData(var=pd.DataFrame({"ambient": profile}, index=GENES)), tmp_path / "L1" / "qc.h5ad")
    lines = [f"Hypoxia\tpathway\t{gene}\t1\tmade up" for gene in GENES[10:20]]
    (tmp_path / "sets.tsv").write_text("\n".join(["set\tsource_kind\tgene\tweight\treference", *lines]) + "\n")
    common = {"log": [str(tmp_path / "activity.log")]}
    given = {"cells": str(tmp_path / "cells.h5ad"), "libraries": [str(tmp_path / "L1" / "qc.h5ad")]}
    options = OPTIONS | {"gene_sets": str(tmp_path / "sets.tsv")}
    activity = str(tmp_path / "activity.tsv")
    run("score_activity", input=given, output={"activity": activity}, params={"differential": options}, **common)
    table = read_table(activity)
    assert len(table) == (0 if empty else 12)
    assert table[list(STATED)].notna().all(axis=None)
    write_table(labels_table(arms), tmp_path / "labels.tsv")
    write_table(patients_table(["C0"] * 12), tmp_path / "patients.tsv")
    written = {name: str(tmp_path / f"{name}.tsv") for name in ("genes", "tests", "contrast")}
    run(
        "differential_expression",
        input={
            **given,
            "activity": activity,
            "labels": str(tmp_path / "labels.tsv"),
            "patients": str(tmp_path / "patients.tsv"),
        },
        output=written,
        wildcards={"scope": "cohort"},
        params={
            "differential": options,
            "response": CONFIG,
            "goes_with": ["T0_pre"],
            "earlier_looks": 0,
            "libraries": [],
            "seed": 1,
        },
        **common,
    )
    contrast = read_table(written["contrast"])
    assert contrast["set"].tolist() == ([] if empty else ["Hypoxia"])
    if not empty:
        assert contrast["p"].between(0, 1).all()
