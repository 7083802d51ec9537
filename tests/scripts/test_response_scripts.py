"""The scripts of the response step, run in this process with a stand-in for Snakemake."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from livermet.files import read_json, read_table, write_parquet, write_table

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit"))
from cohorts import CONFIG, composition, feature_rows, ids, labels_table, patients_table  # noqa: E402

PAIR = ["T0_pre", "T3_resection"]
PLACE = {"tissue": "liver_met", "modality": "scrna", "chemistry": "v3", "batch": "B1"}
METHODS = {"T0_pre": "core_needle", "T3_resection": "surgical"}


def run(name, **parts):
    snakemake = SimpleNamespace(
        rule=name,
        **{key: SimpleNamespace(**value) if isinstance(value, dict) else value for key, value in parts.items()},
    )
    runpy.run_path(str(ROOT / "scripts" / f"{name}.py"), init_globals={"snakemake": snakemake})


def study(kind):
    """Features at two timepoints, labels and libraries of 24 patients; nothing at all for ``kind`` "empty"."""
    rng = np.random.default_rng(0)
    y, centre = np.tile([0, 1], 12), np.arange(24) // 2 % 3
    tables = [
        feature_rows(composition(rng, y, centre, parts=6), family="composition_type", n_cells=True, timepoint=timepoint)
        for timepoint in PAIR
    ]
    features = pd.concat(tables, ignore_index=True)
    labels = labels_table(y)
    if kind == "survival":
        labels = labels_table(rng.integers(30, 900, 24), name="os", kind="survival", events=np.arange(24) < 20)
    libraries = [
        {**PLACE, "patient_id": patient, "timepoint": timepoint, "method": METHODS[timepoint]}
        for patient in ids(24)
        for timepoint in PAIR
    ]
    empty = kind == "empty"
    return features.iloc[: 0 if empty else None], labels, patients_table([f"C{c}" for c in centre]), libraries


@pytest.mark.parametrize("kind", ["binary", "survival", "empty"])
def test_from_features_to_tables_and_figures(tmp_path, kind):
    features, labels, patients, libraries = study(kind)
    write_parquet(features, tmp_path / "features.parquet")
    treatment = pd.DataFrame({"patient_id": ids(24), "regimen": "GnP", "start_day": 3})
    deviations = pd.DataFrame({"patient_id": ["P03"], "rules": ["V07"]})
    tables = {"labels": labels, "patients": patients, "treatment": treatment, "deviations": deviations}
    for name, table in tables.items():
        write_table(table, tmp_path / f"{name}.tsv")
    given = {name: str(tmp_path / f"{name}.tsv") for name in tables}
    declared = [{"modality": "scrna", "family": "composition_type", "feature": "f01"}]
    response = {**CONFIG, "n_permutations": 199, "confirmatory": declared, "changes": [PAIR]}
    response["primary_label"] = "os" if kind == "survival" else "disease_control"
    written = {name: str(tmp_path / f"{name}.tsv") for name in ("robustness", "changes", "confounding", "filtered")}
    written |= {"associations": str(tmp_path / "associations.tsv"), "verdict": str(tmp_path / "verdict.json")}
    run(
        "test_response",
        input={"features": str(tmp_path / "features.parquet"), **given},
        output=written,
        log=[str(tmp_path / "test.log")],
        wildcards={"scope": "cohort"},
        params={
            "response": response,
            "goes_with": ["T0_pre"],
            "signature": [],
            "libraries": libraries,
            "earlier_looks": 0,
            "seed": 1,
        },
    )
    table = read_table(written["associations"])
    said = read_json(written["verdict"])
    if kind == "empty":
        assert table["refusal_code"].tolist() == ["F02"]
        assert all(read_table(written[name]).empty for name in ("robustness", "changes", "confounding"))
    else:
        assert (table["status"] == "tested").all()
        assert len(read_table(written["robustness"])) == 6
        changes = read_table(written["changes"])
        assert (changes["n"] == 24).all()
        assert changes["p_method"].str.contains("method differs in 24 of 24 pairs").all()
        follows = read_table(written["confounding"]).set_index("factor")["follows"]
        assert follows["centre"] == "adjusted" and len(follows) == 7
        assert said["numbers"]["confirmatory_tested"] == 1
        assert table["adjusted_for"].str.contains("per protocol").sum() == 1
    figures = {name: str(tmp_path / f"{name}.png") for name in ("associations", "confirmatory", "power")}
    common = {"log": [str(tmp_path / "plot.log")], "params": {"response": response, "simulated": True, "blind": False}}
    run(
        "plot_response",
        input={
            "associations": written["associations"],
            "features": str(tmp_path / "features.parquet"),
            "labels": given["labels"],
            "patients": given["patients"],
        },
        output=figures,
        **common,
    )
    more = {name: str(tmp_path / f"{name}.png") for name in ("robustness", "changes")}
    run(
        "plot_robustness",
        input={
            "robustness": written["robustness"],
            "changes": written["changes"],
            "features": str(tmp_path / "features.parquet"),
        },
        output=more,
        **common,
    )
    for path in (figures | more).values():
        assert Path(path).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
