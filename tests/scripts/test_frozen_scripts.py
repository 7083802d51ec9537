"""The scripts that freeze a reference and map onto it, run in this process with a stand-in for Snakemake."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pytest

from livermet.files import read_json, read_table, write_h5ad, write_table

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit"))
from defaults import DEFAULTS  # noqa: E402
from frozen_cohort import ANNOTATE, CNV, cohort, libraries  # noqa: E402
from planted_cells import rows_of  # noqa: E402

COPIED = ("markers", "cnv", "clustering", "integration")
FILES = ("overrides", "reference", "reference_labels", "celltypist_model")


def run(name, **parts):
    values = {key: Named(value) if isinstance(value, dict) else value for key, value in parts.items()}
    runpy.run_path(
        str(ROOT / "scripts" / f"{name}.py"), init_globals={"snakemake": SimpleNamespace(rule=name, **values)}
    )


class Named(SimpleNamespace):
    def __init__(self, values):
        super().__init__(**values)

    def __getitem__(self, key):
        return getattr(self, key)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """A folder with a frozen reference, the libraries of old and new patients, and what both scripts are given."""
    home = tmp_path_factory.mktemp("frozen")
    cells, marker_evidence, arms, clustering = cohort(2, "")
    write_h5ad(cells, home / "cells.h5ad")
    for name, table in zip(COPIED, (marker_evidence, arms, clustering, clustering[:0]), strict=True):
        write_table(table, home / f"{name}.tsv")
    (home / "figures").mkdir()
    (home / "figures" / "integration.png").write_bytes(b"a figure")
    old, new = libraries(2)
    paths = {}
    for adata in (*old, *new):
        library = adata.copy()
        library.obs["total_counts"] = np.asarray(library.X.sum(axis=1)).ravel().astype(int)
        library.obs["n_genes"] = library.X.getnnz(axis=1)
        name = library.obs["library_id"].iloc[0]
        paths[name] = str(home / f"{name}.h5ad")
        write_h5ad(library, paths[name])
    rows = [
        row | {"patient_id": row["library_id"].replace("L", "P"), "sample_id": row["library_id"].replace("L", "S")}
        for row in rows_of([*old, *new])
    ]
    (home / "status.tsv").write_text("library_id\tstatus\n" + "".join(f"{name}\tok\n" for name in paths))
    freezing = {
        "input": {name: str(home / file) for name, file in (("cells", "cells.h5ad"), ("markers", "markers.tsv"))}
        | {"copied": [str(home / f"{name}.tsv") for name in COPIED] + [str(home / "figures" / "integration.png")]}
        | {"libraries": [paths[row["library_id"]] for row in rows[: len(old)]]},
        "output": {"record": str(home / "record.json")},
        "log": [str(home / "freeze.log")],
        "params": {
            "name": "look1",
            "folder": str(home / "references"),
            "libraries": [row["library_id"] for row in rows[: len(old)]],
            "config": {"annotate": {k: v for k, v in ANNOTATE.items() if k not in FILES}, "cnv": dict(CNV)},
            "seed": 1,
        },
    }
    run("freeze_reference", **freezing)
    mapping = {
        "input": {
            "cells": list(paths.values()),
            "status": str(home / "status.tsv"),
            "manifest": str(home / "references" / "look1" / "manifest.json"),
        },
        "params": {
            "annotate": {k: v for k, v in ANNOTATE.items() if k not in FILES[1:]},
            "cnv": dict(CNV),
            "min_genes_shared": 0.5,
            "not_personal": [],
            "reference": {name: DEFAULTS["reference"][name] for name in ("max_out", "warn_share")},
            "rows": rows,
            "seed": 1,
        },
    }
    return home, freezing, mapping


def outputs(folder):
    tables = {name: str(folder / f"{name}.tsv") for name in ("markers", "clustering", "overrides", "mapping")}
    more = {"arms": str(folder / "cnv.tsv"), "findings": str(folder / "mapping_findings.tsv")}
    more |= {"scores": str(folder / "integration.tsv"), "names": str(folder / "cluster_names.tsv")}
    more |= {"integration": str(folder / "figures" / "integration.png")}
    return {"cells": str(folder / "cells.h5ad")} | tables | more


def test_from_a_frozen_cohort_to_a_scope_with_new_libraries(frozen, tmp_path):
    home, _, mapping = frozen
    assert read_json(home / "record.json") == read_json(home / "references" / "look1" / "manifest.json")
    run("map_cells", output=outputs(tmp_path), log=[str(tmp_path / "map.log")], **mapping)
    cells = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert cells.obs["reference"].value_counts().to_dict() == {"frozen": 1100, "mapped": 440}
    assert (tmp_path / "markers.tsv").read_bytes() == (home / "markers.tsv").read_bytes()
    assert (tmp_path / "clustering.tsv").read_bytes() == (home / "clustering.tsv").read_bytes()
    assert (tmp_path / "figures" / "integration.png").read_bytes() == b"a figure"
    names = read_table(tmp_path / "cluster_names.tsv")
    assert (names["cluster"] == names["earlier"]).all() and names["n"].sum() == cells.n_obs
    table = read_table(tmp_path / "mapping.tsv")
    assert table["reference"].tolist() == ["frozen"] * 5 + ["mapped"] * 2
    assert set(read_table(tmp_path / "cnv.tsv")["patient_id"]) == {f"P0{i}" for i in range(1, 8)}
    assert read_table(tmp_path / "overrides.tsv").empty and read_table(tmp_path / "mapping_findings.tsv").empty
    assert "mapped: 440 cells" in (tmp_path / "map.log").read_text()


def test_a_name_is_used_once_and_needed(frozen, tmp_path):
    _, freezing, _ = frozen
    again = freezing | {"log": [str(tmp_path / "freeze.log")]}
    with pytest.raises(ValueError, match="none is ever overwritten"):
        run("freeze_reference", **again)
    with pytest.raises(ValueError, match=r"reference\.freeze is empty"):
        run("freeze_reference", **again | {"params": freezing["params"] | {"name": ""}})


def test_a_changed_library_stops_the_mapping(frozen, tmp_path):
    _, _, mapping = frozen
    changed = ad.read_h5ad(mapping["input"]["cells"][0])[:-1].copy()
    write_h5ad(changed, tmp_path / "changed.h5ad")
    given = mapping["input"] | {"cells": [str(tmp_path / "changed.h5ad"), *mapping["input"]["cells"][1:]]}
    with pytest.raises(ValueError, match="L01: its counts or kept cells differ"):
        run(
            "map_cells",
            output=outputs(tmp_path),
            log=[str(tmp_path / "map.log")],
            **mapping | {"input": given},
        )
    assert not (tmp_path / "cells.h5ad").exists()
