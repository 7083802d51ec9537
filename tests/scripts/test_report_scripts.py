"""The entries of the report's rules, run in-process on small files."""

from __future__ import annotations

import json
import re
import runpy
import sys
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from livermet.config import PROJECT
from livermet.files import read_json, write_h5ad, write_json, write_parquet, write_table
from livermet.findings import Finding, findings_frame

sys.path.insert(0, str(PROJECT / "tests" / "data"))
from report_inputs import FIGURES, PARAMS, demo_inputs, library_inputs

STUDY_TABLES = ("patients", "samples", "libraries", "treatment", "scans", "response", "blood", "pathology", "outcome")
QC_PARAMS = {"nmads_genes": 5, "nmads_mito": 5, "min_genes": 100, "min_counts_spot": 100}
QC_PARAMS |= {"min_counts_bin": 20, "min_counts_segmented": 10}
QC_PARAMS |= {"max_pct_mito": 60, "max_pct_mito_nuclei": 5}
CONFIG = {**PARAMS, "qc": {**PARAMS["qc"], **QC_PARAMS}, "report": {"title": "A title"}}


@pytest.fixture(scope="module")
def inputs():
    return demo_inputs(n_patients=6, n_sections=2)


class Files(SimpleNamespace):
    def get(self, name):
        return getattr(self, name)


def run(name, tmp_path, *, given, params, output, **wildcards):
    job = SimpleNamespace(
        rule=name,
        log=[str(tmp_path / "logs" / f"{name}.log")],
        input=Files(**given),
        params=SimpleNamespace(**params),
        output=SimpleNamespace(**output),
        wildcards=SimpleNamespace(**wildcards, items=lambda: wildcards.items()),
        scriptdir=str(tmp_path),
    )
    runpy.run_path(str(PROJECT / "scripts" / f"{name}.py"), init_globals={"snakemake": job})


def counts_file(path, library):
    meta = {"library_id": library, "modality": "scrna", "reader": "10x_h5", "reason": "", "simulated": True}
    meta["inputs"] = json.dumps([{"role": "counts", "name": "m.h5", "bytes": 3, "sha256": "ab"}])
    obs = pd.DataFrame({"library_id": [library] * 3, "cell_type": ["lsec", "lsec", "unknown"]}, index=["a", "b", "c"])
    cells = ad.AnnData(sparse.csr_matrix(np.ones((3, 2), dtype=np.int32)), obs=obs, uns={"livermet": meta})
    write_h5ad(cells, path)
    return str(path)


def test_the_record_holds_inputs_settings_and_versions(tmp_path):
    counts = [counts_file(tmp_path / f"{library}.h5ad", library) for library in ("L2", "L1")]
    (tmp_path / "patients.tsv").write_text("patient_id\n")
    run(
        "record_run",
        tmp_path,
        given={"counts": counts, "tables": [str(tmp_path / "patients.tsv")]},
        params={"config": CONFIG, "overlays": {}, "simulated": True},
        output={"record": str(tmp_path / "run.json")},
        scope="cohort",
    )
    record = read_json(tmp_path / "run.json")
    assert list(record["inputs"]) == ["L1", "L2"]
    assert record["inputs"]["L1"]["files"] == [{"role": "counts", "name": "m.h5", "bytes": 3, "sha256": "ab"}]
    assert len(record["tables"]["patients.tsv"]) == 64
    assert record["config"] == CONFIG
    assert record["versions"]["pandas"] == pd.__version__
    assert re.fullmatch(r"unknown|[0-9a-f]{40}(\+changes)?", record["commit"])


def test_the_report_of_a_scope_is_made_from_files(inputs, tmp_path):
    paths = {}
    for name, table in inputs.tables.items():
        paths[name] = str(tmp_path / f"{name}.tsv")
        write_table(table, paths[name])
    write_parquet(inputs.tables["features"], tmp_path / "features.parquet")
    write_json(inputs.verdict, tmp_path / "verdict.json")
    write_json({**inputs.run, "time": "now"}, tmp_path / "run.json")
    figures = {name: tmp_path / f"{name}.png" for name in [*FIGURES, *inputs.sections]}
    for name, path in figures.items():
        path.write_bytes(inputs.figures.get(name) or inputs.sections[name])
    study = [paths.pop(name) for name in (*STUDY_TABLES, "labels", "findings")]
    del paths["features"]
    run(
        "cohort_report",
        tmp_path,
        given={
            "scope_tables": list(paths.values()),
            "study_tables": study,
            "features": str(tmp_path / "features.parquet"),
            "verdict": str(tmp_path / "verdict.json"),
            "run": str(tmp_path / "run.json"),
            "figures": [str(figures[name]) for name in FIGURES],
            "sections": [str(figures[name]) for name in inputs.sections],
        },
        params={
            "config": CONFIG,
            "report": CONFIG["report"],
            "libraries": inputs.tables["status"].to_dict(orient="records"),
            "captions": inputs.captions,
            "drawn": {},
            "simulated": True,
        },
        output={"report": str(tmp_path / "report.html"), "index": str(tmp_path / "index.html")},
        scope="cohort",
    )
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img") == len(FIGURES) + len(inputs.sections)
    assert 'id="patient-P06"' in page
    assert str(tmp_path) not in page
    index = (tmp_path / "index.html").read_text()
    assert all(f'href="pages/{library}.html"' in index for library in inputs.tables["status"]["library_id"])


@pytest.mark.parametrize("library", ["L01_scrna", "L01_visium", "L06_scrna"])
def test_every_library_gets_a_page_and_a_figure(inputs, tmp_path, library):
    given = library_inputs(inputs, library, figure=b"")
    spatial = library.endswith("visium")
    statuses = []
    for status in given.siblings:
        statuses.append(str(tmp_path / f"{status['library_id']}.json"))
        write_json(status, statuses[-1])
    n = given.status["n_in"]
    table = pd.DataFrame(
        {
            "barcode": [f"b{i}" for i in range(n)],
            "total_counts": np.arange(n) + 300,
            "n_genes": np.arange(n) + 100,
            "pct_mito": 3.0,
            "doublet_score": np.nan if spatial else 0.1,
            "coarse_group": "all",
            "kept": np.arange(n) < given.status["n_out"],
            "reason": np.where(np.arange(n) < given.status["n_out"], "", "low_counts"),
        }
    )
    write_table(table, tmp_path / "qc.tsv")
    write_parquet(
        pd.DataFrame({"cell_type": ["lsec", "b_cell", "mast"], "abundance": [0.695, 0.3, 0.005]}),
        tmp_path / "abundance.parquet",
    )
    decided = pd.DataFrame(given.siblings)[["library_id", "status", "reason"]]
    decided.loc[decided["library_id"] == "L01_visium", ["status", "reason"]] = "excluded", "of another patient"
    write_table(decided, tmp_path / "status.tsv")
    warning = Finding("warning", "libraries.tsv", None, "tissue", "L01_scrna", "a little pancreas", "look", "V18")
    write_table(findings_frame([warning]), tmp_path / "findings.tsv")
    section = ad.AnnData(np.zeros((1, 1), dtype=np.float32), uns={"livermet": {"library_id": library}})
    section.write_h5ad(tmp_path / "zones.h5ad")
    for name in ("sections", "growth_pattern"):
        write_table(inputs.tables[name], tmp_path / f"{name}.tsv")
    panel = tmp_path / "panel.png"
    panel.write_bytes(inputs.figures["umap"])
    run(
        "library_page",
        tmp_path,
        given={
            "scope_status": str(tmp_path / "status.tsv"),
            "findings": str(tmp_path / "findings.tsv"),
            "status": str(tmp_path / f"{library}.json"),
            "table": str(tmp_path / "qc.tsv"),
            "siblings": statuses,
            "cells": [] if spatial else [counts_file(tmp_path / "cells.h5ad", "L01_scrna")],
            "abundance": [str(tmp_path / "abundance.parquet")] if spatial else [],
            "panel": [str(panel)] if spatial else [],
            "section": [str(tmp_path / "zones.h5ad")] if spatial else [],
            "sections": [str(tmp_path / "sections.tsv")] if spatial else [],
            "growth": [str(tmp_path / "growth_pattern.tsv")] if spatial else [],
        },
        params={
            "row": given.row,
            "order": given.order,
            "captions": {
                "library_qc": (PROJECT / "workflow" / "report" / "library_qc.rst").read_text(),
                "section": "A section.",
            },
            "config": CONFIG,
            "simulated": True,
            "blind": False,
        },
        output={"page": str(tmp_path / "page.html"), "figure": str(tmp_path / "figure.png")},
        scope="cohort",
        library=library,
    )
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img") == 1 + spatial
    assert (tmp_path / "figure.png").stat().st_size > 0
    assert ("lsec" in page) == (library != "L06_scrna")
    assert ("excluded: of another patient. No result uses it" in page) == (library == "L01_visium")
    assert ("A little pancreas." in page) == (library == "L01_scrna")
    assert ("mast: below 1 % of the section; their map is not to be read" in page) == spatial
    assert page.count('<span class="soft">rare</span>') == spatial
    assert ("no liver tissue (3 liver spots, 10 needed)" in page) == spatial
