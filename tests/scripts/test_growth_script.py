"""The script of growth patterns: tables and figure of two sections, one of them without a spot."""

import runpy
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

import spatial_generator as generator
from livermet.config import DEFAULT_CONFIG, PROJECT, load_yaml
from livermet.files import read_table, write_table
from livermet.growth import GROWTH_COLUMNS
from livermet.zones import SENSITIVITY_COLUMNS, SUMMARY_COLUMNS, map_section

SPATIAL = load_yaml(DEFAULT_CONFIG)["spatial"]
OPTIONS = {
    **{"abundance_reason": "", "neighbours": 6, "neighbour_um": 50, "tile_um": 50, "min_component": 10},
    **{"margin_um": 250, "core_um": 500, "distant_um": 1000},
}


def test_a_row_per_section_also_for_one_without_spots(tmp_path):
    tissue = generator.tissue(seed=0, n_rows=40, n_cols=30)
    n = len(tissue.xy)
    adata = ad.AnnData(sp.csr_matrix((n, 1)), obs=pd.DataFrame(index=[f"b{i}" for i in range(n)]))
    adata.obsm["spatial"], adata.uns["livermet"] = tissue.xy, {"library_id": "L1", "reason": ""}
    empty = adata[:0].copy()
    empty.uns["livermet"] = {"library_id": "L2", "reason": "no spot was kept"}
    for name, section in (("L1", adata), ("L2", empty)):
        fractions = tissue.fractions.to_numpy()[: section.n_obs]
        map_section(section, fractions, tuple(tissue.fractions.columns), **OPTIONS).write_h5ad(
            tmp_path / f"{name}.h5ad"
        )
    write_table(
        pd.DataFrame(
            {"sample_id": ["S1"], "hgp_desmoplastic_pct": [0], "hgp_replacement_pct": [80], "hgp_pushing_pct": [20]}
        ),
        tmp_path / "pathology.tsv",
    )
    output = {"growth": "growth.tsv", "sections": "sections.tsv", "sensitivity": "widths.tsv", "figure": "figure.png"}
    fields = {"patient_id": "P1", "timepoint": "T0_pre", "tissue": "liver_met"}
    snakemake = SimpleNamespace(
        input=SimpleNamespace(
            sections=[tmp_path / "L1.h5ad", tmp_path / "L2.h5ad"], pathology=tmp_path / "pathology.tsv"
        ),
        output=SimpleNamespace(**{key: tmp_path / name for key, name in output.items()}),
        params=SimpleNamespace(
            rows=[{"library_id": f"L{i}", "sample_id": f"S{i}", **fields} for i in (1, 2)],
            spatial=SPATIAL | {"growth_min_mm": 1.0},
            simulated=True,
        ),
        log=[tmp_path / "log"],
        rule="growth_pattern",
    )
    runpy.run_path(str(PROJECT / "scripts" / "growth_pattern.py"), init_globals={"snakemake": snakemake})
    growth = read_table(tmp_path / "growth.tsv")
    assert tuple(growth.columns) == GROWTH_COLUMNS and list(growth["library_id"]) == ["L1", "L2"]
    assert list(growth["reason"].notna()) == [False, True] and growth["pathologist"][0] == "replacement"
    sections = read_table(tmp_path / "sections.tsv")
    assert tuple(sections.columns) == SUMMARY_COLUMNS and list(sections["reason"].fillna("")) == [
        "",
        "no spot was kept",
    ]
    widths = read_table(tmp_path / "widths.tsv")
    assert tuple(widths.columns) == SENSITIVITY_COLUMNS and set(widths["library_id"]) == {"L1", "L2"}
    assert widths.loc[widths["library_id"] == "L2", "reason"].notna().all()
    assert sections["interface_mm"][0] > 1 and sections["n_tumour"][0] > 100
    assert np.isnan(sections["band_um"][1]) and (tmp_path / "figure.png").stat().st_size > 5000
