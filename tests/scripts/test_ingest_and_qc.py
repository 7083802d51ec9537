"""The entries of the rules ingest_library, qc_library, collect_status and plot_qc, run in-process one after another."""

from __future__ import annotations

import json
import runpy
import sys
from types import SimpleNamespace

import anndata as ad
import pytest
from PIL import Image

from defaults import DEFAULTS
from livermet import keys
from livermet.files import read_json, read_table

QC = DEFAULTS["qc"] | {"min_counts_spot": 5}


@pytest.fixture
def rows(tmp_path, home):
    """A library of cells, a section, one whose file is a web page, and one that scipy 1.17 crashes at."""
    sys.path.insert(0, str(home / "tests" / "unit"))
    from test_qc import make_library
    from test_readers import write_h5, write_mtx, write_visium

    adata, _ = make_library(0, n_cells=120)
    barcodes = [name.removeprefix("L1:") for name in adata.obs_names]
    write_h5(tmp_path / "cells" / "filtered_feature_bc_matrix.h5", adata.X, barcodes, list(adata.var_names))
    write_visium(tmp_path / "section")
    (tmp_path / "broken.h5").write_bytes(b"<html>please log in</html>")
    matrix = write_mtx(tmp_path / "crash", adata.X, barcodes, list(adata.var_names), zipped=False) / "matrix.mtx"
    content = matrix.read_bytes()
    start = content.index(b"\n", len(content) // 2)
    matrix.write_bytes(content[:start] + bytes(512) + content[start + 512 :])
    places = {
        "CELLS": ("scrna", "cells"),
        "SECTION": ("visium", "section"),
        "BROKEN": ("scrna", "broken.h5"),
        "CRASH": ("scrna", "crash"),
    }
    return [
        {
            "library_id": library,
            "sample_id": f"S-{library}",
            "patient_id": "P1",
            "modality": modality,
            "tissue": "liver_met",
            "sex": "",
            "batch": "B1",
            "path": str(tmp_path / place),
            "raw_path": "",
            "pixel_um": None,
            "expected_cells": 6000,
            "chemistry": "SC3Pv3",
        }
        for library, (modality, place) in places.items()
    ]


def run(home, tmp_path, script, *, input, output, params):
    job = SimpleNamespace(
        rule=script,
        log=[str(tmp_path / "logs" / f"{script}.log")],
        input=SimpleNamespace(**input),
        output=SimpleNamespace(**output),
        params=SimpleNamespace(**params),
    )
    runpy.run_path(str(home / "scripts" / f"{script}.py"), init_globals={"snakemake": job})
    return (tmp_path / "logs" / f"{script}.log").read_text()


def test_libraries_go_from_raw_files_to_status_and_figures(home, tmp_path, rows):
    places = {row["library_id"]: tmp_path / "results" / row["library_id"] for row in rows}
    logs = {}
    for row in rows:
        out = places[row["library_id"]]
        given = {"row": row, "ingest": {"empty_max_counts": 100}, "seed": 1, "simulated": True}
        counts = str(out / "counts.h5ad")
        logs[row["library_id"]] = run(
            home, tmp_path, "ingest_library", input={}, output={"counts": counts}, params=given
        )
        outputs = {"cells": str(out / "qc.h5ad"), "table": str(out / "qc.tsv"), "status": str(out / "status.json")}
        run(
            home,
            tmp_path,
            "qc_library",
            input={"counts": counts},
            output=outputs,
            params={"row": row, "qc": QC, "seed": 1},
        )
    statuses = [str(out / "status.json") for out in places.values()]
    table = tmp_path / "status.tsv"
    run(
        home,
        tmp_path,
        "collect_status",
        input={
            "statuses": statuses,
            "cells": [str(out / "qc.h5ad") for name, out in places.items() if name != "SECTION"],
        },
        output={"table": str(table), "findings": str(tmp_path / "findings.tsv")},
        params={
            "rows": rows,
            "cells": [name for name in places if name != "SECTION"],
            "min_genes_shared": 0.5,
            "max_acinar_percent": dict.fromkeys(places, 5),
        },
    )
    figures = {name: str(tmp_path / f"{name}.png") for name in ("waterfall", "metrics")}
    tables = [str(out / "qc.tsv") for out in places.values()]
    run(
        home,
        tmp_path,
        "plot_qc",
        input={"status": str(table), "statuses": statuses, "tables": tables},
        output=figures,
        params={"simulated": True},
    )

    assert "read 120 barcodes" in logs["CELLS"] and "web page" in logs["BROKEN"]
    status = read_table(table).set_index("library_id")
    assert status["status"].to_dict() == {"CELLS": "ok", "SECTION": "ok", "BROKEN": "excluded", "CRASH": "excluded"}
    assert status.loc["CRASH", "reason"].startswith("crash") and "copy it again" in status.loc["CRASH", "reason"]
    assert status.loc["BROKEN", "reason"].startswith("broken.h5: is a web page") and status.loc["BROKEN", "n_in"] == 0
    assert status.loc["SECTION", ["n_in", "n_out"]].tolist() == [34, 34]

    cells = ad.read_h5ad(places["CELLS"] / "qc.h5ad")
    assert cells.n_obs == status.loc["CELLS", "n_out"] and cells.obs_names[0].startswith("CELLS:C")
    assert cells.uns[keys.META]["simulated"] and json.loads(cells.uns[keys.META]["inputs"])[0]["sha256"]
    section = ad.read_h5ad(places["SECTION"] / "qc.h5ad")
    assert section.obsm[keys.SPATIAL].shape == (34, 2) and "SECTION" in section.uns["spatial"]
    assert ad.read_h5ad(places["BROKEN"] / "qc.h5ad").n_obs == 0
    assert read_json(places["BROKEN"] / "status.json")["removed"] == {}
    for path in figures.values():
        with Image.open(path) as image:
            assert image.width > 800 and image.height > 200


def test_the_same_library_gives_the_same_bytes(home, tmp_path, rows):
    outputs = []
    for name in ("a", "b"):
        counts = str(tmp_path / name / "counts.h5ad")
        given = {"row": rows[0], "ingest": {"empty_max_counts": 100}, "seed": 1, "simulated": False}
        run(home, tmp_path, "ingest_library", input={}, output={"counts": counts}, params=given)
        files = {key: str(tmp_path / name / key) for key in ("cells", "table", "status")}
        run(
            home,
            tmp_path,
            "qc_library",
            input={"counts": counts},
            output=files,
            params={"row": rows[0], "qc": QC, "seed": 1},
        )
        outputs.append([(tmp_path / name / key).read_bytes() for key in ("cells", "table", "status")])
    assert outputs[0] == outputs[1]
