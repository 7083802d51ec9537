"""The scripts of blood biomarkers, run in this process with a stand-in for Snakemake."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from livermet.files import read_table, write_parquet, write_table

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit"))
from blood_cohorts import cohort, tables  # noqa: E402
from cohorts import CONFIG, labels_table  # noqa: E402
from test_biomarkers import PAIRS, tissue  # noqa: E402

BIOMARKERS = {
    "reference": "ca199",
    "joint": ["ca199", "nlr", "albumin"],
    "kinetics_min_values": 3,
    "repeats": 2,
    "added_permutations": 19,
    "tissue_pairs": PAIRS,
}
OUTPUTS = ("biomarkers", "tissue", "pairs", "audit", "courses")


def run(name, **parts):
    snakemake = SimpleNamespace(
        rule=name,
        **{key: SimpleNamespace(**value) if isinstance(value, dict) else value for key, value in parts.items()},
    )
    runpy.run_path(str(ROOT / "scripts" / f"{name}.py"), init_globals={"snakemake": snakemake})


@pytest.mark.parametrize(("scope", "empty"), [("cohort", False), ("B01", False), ("cohort", True)])
def test_from_blood_to_tables_and_figures(tmp_path, scope, empty):
    n = 30
    patients, treatment, local = tables(n)
    blood = cohort(1, n, analytes=("ca199", "albumin", "neutrophils", "lymphocytes"))
    given = {
        "blood": blood.iloc[:0] if empty else blood,
        "patients": patients,
        "treatment": treatment,
        "local_treatment": local,
        "labels": labels_table(np.tile([0, 1, 0], 10)),
    }
    for name, table in given.items():
        write_table(table, tmp_path / f"{name}.tsv")
    write_parquet(tissue(n), tmp_path / "features.parquet")
    inputs = {name: str(tmp_path / f"{name}.tsv") for name in given}
    outputs = {name: str(tmp_path / f"out_{name}.tsv") for name in OUTPUTS}
    response = {**CONFIG, "n_permutations": 99}
    run(
        "test_biomarkers",
        input={**inputs, "features": str(tmp_path / "features.parquet")},
        output=outputs,
        wildcards={"scope": scope},
        log=[str(tmp_path / "test.log")],
        params={
            "response": response,
            "biomarkers": BIOMARKERS,
            "trial": {"ca199": {"uln": 37, "unknown_key": 1}, "windows": {}},
            "goes_with": ["T0_pre"],
            "earlier_looks": 0,
            "seed": 1,
        },
    )
    table = read_table(outputs["biomarkers"])
    expected = {("cohort", False): "tested", ("B01", False): "refused", ("cohort", True): "refused"}[scope, empty]
    assert set(table.loc[table["model"] == "joint", "status"]) <= {expected, "refused"}
    assert (table["status"] == "tested").any() == (expected == "tested")
    assert "rows tested" in (tmp_path / "test.log").read_text()
    assert len(read_table(outputs["tissue"])) == len(PAIRS)
    figures = {name: str(tmp_path / f"{name}.png") for name in ("courses", "areas", "tissue")}
    drawn = {name: outputs[name] for name in ("biomarkers", "tissue", "pairs", "courses")}
    run(
        "plot_biomarkers",
        input={"labels": inputs["labels"], **drawn},
        output=figures,
        log=[str(tmp_path / "plot.log")],
        params={"response": response, "biomarkers": BIOMARKERS, "simulated": True, "blind": False},
    )
    for path in figures.values():
        assert Path(path).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
