"""The entries of collect_status and map_section: what the counts say of person and tissue reaches tables and sections."""

from __future__ import annotations

import runpy
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from defaults import DEFAULTS
from livermet import keys
from livermet.files import read_table, write_h5ad, write_json, write_table
from livermet.section import scope_section
from test_identity import library

GENES = np.array([f"G{i}" for i in range(100)], dtype=object)


def run(home, tmp_path, script, *, input, output, params, **wildcards):
    job = SimpleNamespace(
        rule=script,
        log=[str(tmp_path / "logs" / f"{script}.log")],
        input=SimpleNamespace(**input),
        output=SimpleNamespace(**output),
        params=SimpleNamespace(**params),
        wildcards=SimpleNamespace(**wildcards),
    )
    runpy.run_path(str(home / "scripts" / f"{script}.py"), init_globals={"snakemake": job})


@pytest.fixture
def collect(home, tmp_path):
    """Run collect_status on made libraries; returns status.tsv by library, and findings.tsv."""

    def _collect(*pairs, genes=None):
        statuses, cells = [], []
        for status, row in pairs:
            statuses.append(str(tmp_path / f"{row['library_id']}.json"))
            write_json(status, statuses[-1])
            if row["modality"] == "scrna":
                names = (genes or {}).get(row["library_id"], GENES)
                adata = ad.AnnData(sparse.csr_matrix((1, len(names)), dtype=np.int32), var=pd.DataFrame(index=names))
                cells.append(str(tmp_path / f"{row['library_id']}.h5ad"))
                write_h5ad(adata, cells[-1])
        out = {name: str(tmp_path / f"{name}.tsv") for name in ("table", "findings")}
        rows = [row for _, row in pairs]
        params = {
            "rows": rows,
            "cells": [row["library_id"] for row in rows if row["modality"] == "scrna"],
            "min_genes_shared": 0.5,
            "max_acinar_percent": {row["library_id"]: DEFAULTS["qc"]["max_acinar_percent"] for row in rows},
        }
        run(home, tmp_path, "collect_status", input={"statuses": statuses, "cells": cells}, output=out, params=params)
        return read_table(out["table"]).set_index("library_id"), read_table(out["findings"])

    return _collect


def test_sound_libraries_leave_an_empty_table_of_findings(collect):
    table, findings = collect(library("A"), library("B", "P2", sex="M"))
    assert table["status"].tolist() == ["ok", "ok"] and table["reason"].isna().all()
    assert findings.empty and {"severity", "rule", "table", "value", "message", "remedy"} <= set(findings.columns)


def test_a_swapped_library_is_excluded_with_its_reason_and_a_finding(collect):
    table, findings = collect(library("A"), library("B", "P2", sex="M", is_sex="F"), library("C", "P3", acinar=1))
    assert table["status"].to_dict() == {"A": "ok", "B": "excluded", "C": "ok"}
    assert table.loc["B", "reason"].startswith("declared M, but XIST is expressed") and table.loc["B", "n_out"] == 9
    expected = {("exclusion", "V17", "sex", "B"), ("warning", "V18", "tissue", "C")}
    assert set(findings[["severity", "rule", "column", "value"]].itertuples(index=False, name=None)) == expected
    assert (findings["table"] == "libraries.tsv").all() and (findings["remedy"] != "").all()


def test_a_corrected_sex_lets_the_library_in_again(collect):
    status, row = library("A", sex="M", is_sex="F")
    assert collect((status, row))[0].loc["A", "status"] == "excluded"
    assert collect((status, row | {"sex": "F"}))[0].loc["A", "status"] == "ok"


def test_what_is_left_out_already_is_not_looked_at(collect):
    failed, row = library("A", sex="M", is_sex="F", n_kept=0, total=0)
    failed |= {"status": "excluded", "reason": "truncated"}
    mouse = library("B", "P2", sex="M", is_sex="F")
    others = [library(f"O{i}", f"O{i}") for i in range(3)]
    table, findings = collect((failed, row), mouse, *others, genes={"B": np.array(["Actb", "Alb"], dtype=object)})
    assert table.loc["A", "reason"] == "truncated" and "of the 100 genes of most libraries" in table.loc["B", "reason"]
    assert findings.empty


def test_a_section_that_the_scope_leaves_out_loses_its_spots(home, tmp_path):
    section = ad.AnnData(sparse.csr_matrix(np.ones((30, 5), dtype=np.int32)))
    section.var_names = [f"G{i}" for i in range(5)]
    section.obs_names = [f"S:{i}" for i in range(30)]
    section.obs[keys.LIBRARY] = "S"
    section.obsm[keys.SPATIAL] = np.column_stack([np.arange(30) % 6, np.arange(30) // 6]) * 100.0
    section.uns[keys.META] = {"library_id": "S", "reason": ""}
    assert scope_section(section, status={"status": "ok", "reason": ""}) is section
    left = scope_section(section, status={"status": "excluded", "reason": "of another patient"})
    assert left.shape == (0, 5) and left.uns[keys.META]["reason"] == "of another patient"
    assert section.n_obs == 30 and section.uns[keys.META]["reason"] == ""

    write_h5ad(section, tmp_path / "qc.h5ad")
    types = pd.DataFrame({"cell_type": ["malignant_ductal", "hepatocyte"], "patient_id": "", "counts": 1000.0})
    types.index = ["a", "b"]
    profiles = ad.AnnData(np.array([[9, 0, 0, 1, 1], [0, 9, 0, 1, 1]], dtype=np.float32), obs=types, var=section.var)
    write_h5ad(profiles, tmp_path / "reference.h5ad")
    out = {"section": str(tmp_path / "zones.h5ad"), "abundance": str(tmp_path / "abundance.parquet")}
    for status, n_spots in (("ok", 30), ("excluded", 0)):
        table = pd.DataFrame({"library_id": ["S"], "status": [status], "reason": ["of another patient"]})
        write_table(table, tmp_path / "status.tsv")
        given = {name: str(tmp_path / f"{name}.h5ad") for name in ("reference",)}
        given |= {"section": str(tmp_path / "qc.h5ad"), "status": str(tmp_path / "status.tsv")}
        row = {"library_id": "S", "modality": "visium", "pixel_um": None, "boundary_path": ""}
        options = {"patient": "P1", "library": row, "spatial": DEFAULTS["spatial"], "seed": 1}
        run(home, tmp_path, "map_section", input=given, output=out, params=options, scope="cohort", library="S")
        assert ad.read_h5ad(out["section"]).n_obs == n_spots
