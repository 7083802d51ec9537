"""The entry of the rule export_section, run in-process."""

from __future__ import annotations

import runpy
from types import SimpleNamespace

import spatialdata

from test_export import make_section


def test_a_labelled_section_becomes_spatialdata(home, tmp_path):
    make_section("cell", polygons=True).write_h5ad(tmp_path / "spatial.h5ad")
    job = SimpleNamespace(
        rule="export_section",
        log=[str(tmp_path / "log.txt")],
        input=SimpleNamespace(section=str(tmp_path / "spatial.h5ad")),
        output=SimpleNamespace(zarr=str(tmp_path / "L1" / "L1.zarr")),
        params=SimpleNamespace(library="L1"),
    )
    runpy.run_path(str(home / "scripts" / "export_section.py"), init_globals={"snakemake": job})
    data = spatialdata.read_zarr(tmp_path / "L1" / "L1.zarr")
    assert list(data.shapes) == ["cells"] and data.tables["table"].n_obs == 30
