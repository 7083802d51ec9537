"""The scripts of malignant cells, run in this process with a stand-in for Snakemake."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from livermet.files import read_table, write_h5ad, write_table

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit"))
from test_malignant import ARMS, BASAL, CLASSICAL, OPTIONS, cohort  # noqa: E402


def run(name, **parts):
    snakemake = SimpleNamespace(
        rule=name,
        **{key: SimpleNamespace(**value) if isinstance(value, dict) else value for key, value in parts.items()},
    )
    runpy.run_path(str(ROOT / "scripts" / f"{name}.py"), init_globals={"snakemake": snakemake})


@pytest.mark.parametrize("empty", [False, True], ids=["cells", "no cells"])
def test_from_cells_to_tables_and_figure(tmp_path, empty):
    obs = cohort([(0.1, 0.0, 0.2), (0.6, 0.0, 0.2)]).iloc[: 0 if empty else None]
    counts = sp.csr_matrix(np.full((len(obs), 16), 2, dtype=np.int32))
    cells = ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=[*BASAL, *CLASSICAL]))
    corrected = counts.copy()
    corrected[:, 8:] *= 2
    cells.layers["corrected"] = corrected
    write_h5ad(cells, tmp_path / "cells.h5ad")
    write_table(ARMS.iloc[: 0 if empty else None], tmp_path / "cnv.tsv")
    tables = {"table": str(tmp_path / "malignant.tsv"), "pdac": str(tmp_path / "pdac_arms.tsv")}
    options = {name: value for name, value in OPTIONS.items() if name != "seed"}
    run(
        "summarise_malignant",
        input={"cells": str(tmp_path / "cells.h5ad"), "arms": str(tmp_path / "cnv.tsv")},
        output=tables,
        log=[str(tmp_path / "summarise.log")],
        params={"malignant": options | {"min_cells": 20}, "min_state_z": 1.5, "seed": 1},
    )
    table, pdac = (read_table(path) for path in tables.values())
    assert len(table) == (0 if empty else 2)
    assert len(pdac) > 5
    if not empty:
        # Ties as counted, classical without ambient RNA: PurIST takes the corrected counts.
        assert table["purist_informative_pairs"].tolist() == [8, 8]
    run(
        "plot_malignant",
        input={"table": tables["table"]},
        output={"figure": str(tmp_path / "malignant_states.png")},
        log=[str(tmp_path / "plot.log")],
        params={"simulated": True},
    )
    assert (tmp_path / "malignant_states.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
