"""The prediction scripts, run in this process with a stand-in for Snakemake."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from livermet.files import read_table, write_parquet, write_table
from livermet.validation import NULL_COLUMNS, PREDICTION_COLUMNS, PREDICTOR_COLUMNS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit"))
from cohorts import CONFIG  # noqa: E402
from predict_cohort import PARTS, PLAIN, PREDICTION, cohort  # noqa: E402


def run(name, **parts):
    spaces = {key: SimpleNamespace(**value) if isinstance(value, dict) else value for key, value in parts.items()}
    runpy.run_path(
        str(ROOT / "scripts" / f"{name}.py"), init_globals={"snakemake": SimpleNamespace(rule=name, **spaces)}
    )


@pytest.mark.parametrize("kind", ["cohort", "a batch", "nothing measured"])
def test_from_features_to_tables_and_figures(tmp_path, kind):
    tables = cohort(1, tissue=1.8, clinical=1.0)
    if kind == "nothing measured":
        tables["features"] = tables["features"].iloc[:0]
        tables["patients"] = tables["patients"][["patient_id", "centre"]]
    given = {name: str(tmp_path / f"{name}.tsv") for name in ("labels", "patients")}
    for name, path in given.items():
        write_table(tables[name], path)
    given["features"] = str(tmp_path / "features.parquet")
    write_parquet(tables["features"], given["features"])
    output = {name: str(tmp_path / f"{name}.tsv") for name in ("predictors", "predictions", "null")}
    run(
        "predict_response",
        input=given,
        output=output,
        wildcards={"scope": "B02" if kind == "a batch" else "cohort"},
        log=[str(tmp_path / "predict.log")],
        params={
            "response": {**CONFIG, "confirmatory": PLAIN[:1]},
            "prediction": {**PREDICTION, "features": [*PLAIN[1:], *PARTS], "n_permutations": 19, "repeats": 1},
            "goes_with": ["T0_pre"],
            "earlier_looks": 0,
            "libraries": [],
            "seed": 1,
        },
    )
    figures = {name: str(tmp_path / f"{name}.png") for name in ("models", "calibration")}
    run(
        "plot_prediction",
        input=output,
        output=figures,
        log=[str(tmp_path / "plot.log")],
        params={"simulated": True, "blind": False},
    )
    assert all(Path(path).stat().st_size > 0 for path in figures.values())
    found = {name: read_table(path) for name, path in output.items()}
    assert list(found["predictors"].columns) == PREDICTOR_COLUMNS
    assert list(found["predictions"].columns) == PREDICTION_COLUMNS
    assert list(found["null"].columns) == NULL_COLUMNS
    codes = {"cohort": None, "a batch": "R19", "nothing measured": "R01"}
    nested = found["predictors"][found["predictors"]["validation"] == "nested_cv"]
    assert len(nested) == 3
    if codes[kind]:
        assert set(nested["refusal_code"]) == {codes[kind]}
        assert found["predictions"].empty
        return
    assert (nested["p"] <= 0.05).any()
    assert found["predictions"].groupby(["model", "validation"])["patient_id"].nunique().eq(64).all()
