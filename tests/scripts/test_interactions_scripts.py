"""The interaction scripts, run in this process with a stand-in for Snakemake."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from livermet.files import read_table, write_h5ad, write_table

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit"))
from test_interactions import LIGANDS, NO_NEIGHBOURS, OPTIONS, patient  # noqa: E402


def run(name, **parts):
    snakemake = SimpleNamespace(
        rule=name,
        **{key: SimpleNamespace(**value) if isinstance(value, dict) else value for key, value in parts.items()},
    )
    runpy.run_path(str(ROOT / "scripts" / f"{name}.py"), init_globals={"snakemake": snakemake})


@pytest.mark.parametrize("empty", [False, True], ids=["cells", "no cells"])
def test_from_cells_to_table_and_figure(tmp_path, empty):
    cells = patient("P1", seed=1)
    cells = cells[:0].copy() if empty else cells
    write_h5ad(cells, tmp_path / "cells.h5ad")
    write_table(NO_NEIGHBOURS.assign(library_id=""), tmp_path / "neighbourhood.tsv")
    profile = np.zeros(cells.n_vars)
    profile[cells.var_names.get_indexer(LIGANDS[:1])] = 1.0
    library = AnnData(var=pd.DataFrame({"ambient": profile}, index=cells.var_names))
    (tmp_path / "LP1").mkdir()
    write_h5ad(library, tmp_path / "LP1" / "qc.h5ad")
    (tmp_path / "panel.tsv").write_text("ligand\treceptor\nLIG0\tREC0\nLIG1\tREC1\n")
    options = {name: value for name, value in OPTIONS.items() if name != "seed"}
    run(
        "score_interactions",
        input={
            "cells": str(tmp_path / "cells.h5ad"),
            "neighbourhood": str(tmp_path / "neighbourhood.tsv"),
            "libraries": [str(tmp_path / "LP1" / "qc.h5ad")],
        },
        output={"table": str(tmp_path / "interactions.tsv")},
        log=[str(tmp_path / "score.log")],
        params={
            "interactions": options
            | {"panel": str(tmp_path / "panel.tsv"), "full_resource": False, "max_contamination": 0.0},
            "seed": 1,
        },
    )
    table = read_table(tmp_path / "interactions.tsv")
    if empty:
        assert table.empty
    else:
        planted = table[(table["ligand"] == "LIG0") & (table["status"] == "scored")]
        assert not planted.empty and set(planted["ambient"]) == {"ligand"}
    assert "0 cells" in (tmp_path / "score.log").read_text() or not empty
    run(
        "plot_interactions",
        input={"table": str(tmp_path / "interactions.tsv")},
        output={"figure": str(tmp_path / "interactions.png")},
        log=[str(tmp_path / "plot.log")],
        params={"n_edges": 5, "simulated": True},
    )
    assert (tmp_path / "interactions.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
