"""The scripts of survival on a simulated study whose labels are derived from its tables."""

import runpy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from livermet.captions import caption_params, read_captions, render_caption
from livermet.config import PROJECT, load_yaml
from livermet.features import FEATURE_COLUMNS
from livermet.files import read_table, write_table
from livermet.labels import derive_labels
from livermet.simulate.clinical import clinical_tables, simulate_patients
from livermet.simulate.design import StudyDesign
from livermet.study import read_study
from livermet.survival import COLUMNS, CURVE_COLUMNS

TRIAL = load_yaml(PROJECT / "config" / "trials" / "scanpan1.yaml")
RESPONSE = {
    **{"primary_label": "disease_control", "timepoints": ["T0_pre"], "tissues": ["liver_met"], "confirmatory": []},
    **{"alpha": 0.05, "fdr": 0.1, "n_permutations": 99, "look": 1, "planned_looks": 1, "min_patients_per_arm": 3},
    **{"min_mean_cells": 20, "max_zero_fraction": 0.1},
}
SURVIVAL = {"endpoints": ["os", "pfs"], "landmark_days": 270, "min_events": 5, "n_permutations": 99}
GOES_WITH = {"os": ("T0_pre",), "pfs": ("T0_pre",)}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Tables as the study step leaves them, and a feature table with one planted feature."""
    folder = tmp_path_factory.mktemp("survival")
    given = folder / "given"
    given.mkdir()
    design = StudyDesign(seed=4, n_patients=64, n_cells=10)
    patients = simulate_patients(design)
    tables = clinical_tables(patients, design)
    tables["samples"] = pd.DataFrame({"sample_id": "S-" + patients["patient_id"], "patient_id": patients["patient_id"]})
    tables["samples"][["timepoint", "tissue", "day", "method"]] = ["T0_pre", "liver_met", 0, "core_needle"]
    names = ["library_id", "sample_id", "modality", "batch", "path"]
    tables["libraries"] = pd.DataFrame([["L1", "S-SIM-001", "scrna", "B1", "L1.h5"]], columns=names)
    for name, table in tables.items():
        table.to_csv(given / f"{name}.tsv", sep="\t", index=False)
    data = read_study(given, trial=TRIAL, labels={})
    derived = derive_labels(data.tables, declared={}, trial=TRIAL)
    for name, table in data.frames().items():
        write_table(table, folder / f"{name}.tsv")
    write_table(derived.labels, folder / "labels.tsv")
    write_table(derived.recist, folder / "recist.tsv")
    rng = np.random.default_rng(0)
    days = tables["outcome"].set_index("patient_id")["last_followup_day"].astype(float)
    rows = pd.concat(
        pd.DataFrame({"patient_id": days.index, "feature": name, "value": values})
        for name, values in {"early": -days.to_numpy() + rng.normal(0, 150, 64), "noise": rng.normal(size=64)}.items()
    )
    place = {"timepoint": "T0_pre", "tissue": "liver_met", "modality": "scrna", "family": "malignant_state"}
    rows = rows.assign(**place, unit="score", n_cells=100, source="test")
    rows[FEATURE_COLUMNS].to_parquet(folder / "features.parquet", index=False)
    rows[FEATURE_COLUMNS].iloc[:0].to_parquet(folder / "none.parquet", index=False)
    return folder


def run(folder, out, *, scope="cohort", features="features.parquet", survival=SURVIVAL):
    files = {"reported": "response", **{name: name for name in ("labels", "patients", "recist", "treatment")}}
    files["local_treatment"] = "local_treatment"
    given = {key: folder / f"{name}.tsv" for key, name in files.items()}
    made = {"survival": out / "survival.tsv", "curves": out / "survival_curves.tsv"}
    figures = {"curves": out / "survival_curves.png", "hazards": out / "hazard_ratios.png"}
    params = {"survival": survival, "response": RESPONSE, "goes_with": GOES_WITH, "trial": TRIAL, "libraries": []}
    jobs = {
        "test_survival": ({"features": folder / features, **given}, made, params | {"earlier_looks": 0, "seed": 1}),
        "plot_survival": (made, figures, params | {"simulated": True, "blind": False}),
    }
    for rule, (inputs, outputs, own) in jobs.items():
        snakemake = SimpleNamespace(
            input=SimpleNamespace(**inputs),
            output=SimpleNamespace(**outputs),
            params=SimpleNamespace(**own),
            wildcards=SimpleNamespace(scope=scope),
            log=[out / f"{rule}.log"],
            rule=rule,
        )
        runpy.run_path(str(PROJECT / "scripts" / f"{rule}.py"), init_globals={"snakemake": snakemake})
    return read_table(made["survival"]), read_table(made["curves"]), figures


def test_features_facts_and_curves_of_a_study(study, tmp_path):
    table, curves, figures = run(study, tmp_path)
    assert list(table.columns) == COLUMNS
    assert list(curves.columns) == CURVE_COLUMNS
    rows = table[table["analysis"] == "primary"].set_index(["endpoint", "feature"])
    assert rows.loc[("os", "early"), "q"] <= 0.1
    assert rows.loc[("os", "early"), "ci_low"] > 1
    facts = ["ca199_resp50", "disease_control", "objective_response", "resected"]
    assert sorted(table.loc[table["family"] == "post_baseline", "feature"].unique()) == facts
    assert (rows.loc["os"].loc[facts, "landmark_day"] == 270).all()
    assert rows.loc[("os", "disease_control"), "status"] == "tested"
    assert set(curves["endpoint"]) == {"os", "pfs"}
    assert all(path.stat().st_size > 20_000 for path in figures.values())


def test_the_same_seed_gives_the_same_files(study, tmp_path):
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run(study, tmp_path / name)
        files.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if path.suffix != ".log"})
    assert files[0] == files[1]
    assert len(files[0]) == 4


def test_a_batch_is_refused_and_a_study_without_features_still_has_curves(study, tmp_path):
    table, curves, _ = run(study, tmp_path, scope="B01")
    assert set(table["refusal_code"]) == {"R19"}
    assert curves.empty
    table, curves, _ = run(study, tmp_path, features="none.parquet")
    assert set(table["family"]) == {"post_baseline"}
    assert len(curves)


def test_captions_say_what_ran():
    captions = read_captions(PROJECT / "workflow" / "report")
    for landmark, words in ((270, "the landmark on day 270 on"), (0, "no\nlandmark is set")):
        params = caption_params({"survival": {**SURVIVAL, "landmark_days": landmark}, "response": RESPONSE})
        options = {"params": params, "wildcards": {"scope": "cohort"}}
        html = render_caption(captions["survival_curves"], name="survival_curves", **options)
        assert " ".join(words.split()) in " ".join(html.split())
    html = render_caption(captions["hazard_ratios"], name="hazard_ratios", **options)
    assert "99 permutations" in html
