"""The invasion scripts, run in this process with a stand-in for Snakemake."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from livermet import invasion, keys
from livermet.files import read_table, write_h5ad

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit"))
from defaults import DEFAULTS  # noqa: E402
from test_invasion import ROW, planted  # noqa: E402

PARTS = ("programmes", "tail", "curve", "vessels", "genes", "profiles")
TABLES = ("patients", "tests", "tail", "vessels", "genes")
PARQUET = ("curves", "sections", "gene_sections", "profiles")


def run(name, **parts):
    spaces = {key: SimpleNamespace(**value) if isinstance(value, dict) else value for key, value in parts.items()}
    for key in ("input", "output"):
        value = dict(parts[key])
        spaces[key] = type("Named", (SimpleNamespace,), {"__getitem__": lambda self, item: getattr(self, item)})(
            **value
        )
    snakemake = SimpleNamespace(rule=name, **spaces)
    runpy.run_path(str(ROOT / "scripts" / f"{name}.py"), init_globals={"snakemake": snakemake})


def measure(folder, mapped, profiles, row, programmes):
    write_h5ad(mapped, folder / "zones.h5ad")
    reference = profiles.copy()
    reference.obs["cell_type"], reference.obs["patient_id"] = reference.obs_names, ""
    write_h5ad(reference, folder / "reference.h5ad")
    options = DEFAULTS["invasion"]
    output = {name: str(folder / f"{name}.parquet") for name in PARTS}
    run(
        "measure_invasion",
        input={"section": folder / "zones.h5ad", "reference": folder / "reference.h5ad"},
        output=output,
        log=[str(folder / "measure.log")],
        params={
            "row": row,
            "invasion": options | {"programmes": str(programmes), "genes": ["G00001"]},
            "genes": {"min_malignant_share": 0.2, "ambient_top": 50, "max_contamination": 0.2},
            "tail": {"tail_um": 1000, "n_bootstrap": 5},
            "vessels": {"tail_um": 1000, "vessel_um": 20},
            "moran": {"n_genes": 50, "min_expressed": 0.1, "min_observations": 50},
            "seed": 1,
        },
    )
    return output


@pytest.mark.parametrize("kind", ["sections", "an empty section", "no section"])
def test_from_sections_to_tables_and_figures(tmp_path, kind):
    mapped, profiles, sets = planted(1, fold=3.0)
    genes = tmp_path / "own.tsv"
    lines = [f"planted\tpathway\t{gene}\t1" for gene in sets["planted"].index]
    genes.write_text("\n".join(["set\tsource_kind\tgene\tweight", *lines]) + "\n")
    found = []
    if kind != "no section":
        for k in range(2):
            folder = tmp_path / f"S{k}"
            folder.mkdir()
            section = mapped.copy()
            if kind == "an empty section" and k == 0:
                section = section[:0].copy()
                section.uns[keys.META] = {"reason": "file is damaged", "border_reason": "no abundances"}
            row = ROW | {"library_id": f"S{k}", "patient_id": f"P{k}"}
            found.append(measure(folder, section, profiles, row, genes))
    output = {name: str(tmp_path / f"{name}.tsv") for name in TABLES}
    output |= {name: str(tmp_path / f"{name}.parquet") for name in PARQUET}
    run(
        "combine_invasion",
        input={name: [paths[name] for paths in found] for name in PARTS},
        output=output,
        wildcards=SimpleNamespace(scope="cohort"),
        log=[str(tmp_path / "combine.log")],
        params={"tests": {"min_patients": 3, "alpha": 0.05, "n_permutations": 99, "seed": 1}},
    )
    figures = {name: str(tmp_path / f"{name}.png") for name in ("forest", "tails", "lines", "dots")}
    figures = {"forest": figures["forest"], "tails": figures["tails"], "profiles": figures["lines"]} | {
        "genes": figures["dots"]
    }
    run(
        "plot_invasion",
        input=output,
        output=figures,
        log=[str(tmp_path / "plot.log")],
        params={"lines": {"min_spots": 3, "top": 5}, "simulated": True},
    )
    assert all(Path(path).stat().st_size > 0 for path in figures.values())
    patients, tests = read_table(output["patients"]), read_table(output["tests"])
    assert list(patients.columns) == invasion.PATIENT_COLUMNS and list(tests.columns) == invasion.TEST_COLUMNS
    assert len(pd.read_parquet(output["sections"])["library_id"].unique()) == len(found)
    if kind == "no section":
        assert patients.empty and tests.empty
        return
    own = patients[patients["programme"] == "planted"].set_index("patient_id")
    assert own.loc["P1", "difference"] > 0.4
    assert tests.set_index("programme").loc["planted", "refusal_code"] == "R01"
    if kind == "an empty section":
        assert own.loc["P0", "reason"] == "S0: file is damaged"
        assert read_table(output["tail"]).set_index("library_id").loc["S0", "reason"] == "file is damaged"
