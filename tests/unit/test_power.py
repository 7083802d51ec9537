"""What a study could detect: against published numbers, simulation and the tests themselves; before data and labels."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from cohorts import CONFIG, ids
from livermet import statistics
from livermet.__main__ import main
from livermet.power import (
    apportion,
    chance_of_refusal,
    design_refusals,
    detectable_difference,
    detectable_hazard_ratio,
    events_needed,
    expected_design,
    levels,
    measured,
    model_size,
    power_of_correlation,
    power_of_difference,
    power_of_hazard_ratio,
    power_table,
    precision,
)
from livermet.power_text import power_text, study_power
from livermet.study import load_study
from study_files import study_config
from trial_study import write_trial_study

CONFIG = {**CONFIG, "n_permutations": 9999}
# Power of the Mann-Whitney test at alpha = .05 for differences of .5, .8, 1 and 1.25 SD, as the project planned by.
PLANNED = {
    (21, 43): (0.42, 0.81, 0.95, 0.99),
    (32, 32): (0.47, 0.85, 0.96, 1.00),
    (14, 26): (0.29, 0.62, 0.83, 0.96),
    (8, 16): (0.20, 0.36, 0.57, 0.75),
    (5, 10): (0.12, 0.24, 0.33, 0.49),
}
DIFFERENCES = (0.5, 0.8, 1.0, 1.25)


def unadjusted(n_alt, n_ref):
    return {"variance": 1 / n_alt + 1 / n_ref, "df": n_alt + n_ref - 2}


@pytest.mark.parametrize("sizes", PLANNED)
def test_rank_tests_have_the_planned_power_and_t_tests_somewhat_more(sizes):
    """4,000 simulated studies per difference (standard error below .008); the planned figures are rounded and simulated."""
    rng = np.random.default_rng(54)
    n_alt, n_ref = sizes
    for difference, planned in zip(DIFFERENCES, PLANNED[sizes], strict=True):
        alt, ref = rng.normal(difference, 1, (4000, n_alt)), rng.normal(0, 1, (4000, n_ref))
        rank = (stats.mannwhitneyu(alt, ref, axis=1).pvalue <= 0.05).mean()
        t = power_of_difference(difference, **unadjusted(*sizes), alpha=0.05)
        simulated = (stats.ttest_ind(alt, ref, axis=1).pvalue <= 0.05).mean()
        assert t == pytest.approx(simulated, abs=0.025)
        assert rank == pytest.approx(planned, abs=0.045)
        # The exact rank test of 5 against 10 can't use its whole level: it loses .06 there (20,000 draws), else about .03.
        assert rank - 0.01 <= t <= rank + 0.08


def test_the_formula_holds_for_the_permutation_test_within_centres():
    """400 studies of 24 patients in three centres with centre effects; standard error .025."""
    rng = np.random.default_rng(7)
    design = expected_design(["A"] * 12 + ["B"] * 8 + ["C"] * 4, rate=0.4)
    effect = rng.normal(0, 1, (3, 400))[np.unique(design.centre, return_inverse=True)[1]]
    values = rng.normal(0, 1, (24, 400)) + effect + 1.2 * design.label[:, None]
    p = statistics.permutation_p(values, design.label, design.centre, n_permutations=499, seed=1).p
    variance, df = precision(design.label, design.centre)
    assert df == 20
    assert (p <= 0.05).mean() == pytest.approx(
        power_of_difference(1.2, variance=variance, df=df, alpha=0.05), abs=0.075
    )


def test_power_agrees_with_published_sizes():
    """Cohen 1988, table 2.4.1: 64, 26 and 17 per group for d of .5, .8 and 1 at 80 %, two-sided .05."""
    for difference, n in ((0.5, 64), (0.8, 26), (1.0, 17)):
        assert power_of_difference(difference, **unadjusted(n, n), alpha=0.05) >= 0.80
        assert power_of_difference(difference, **unadjusted(n - 1, n - 1), alpha=0.05) < 0.81


@pytest.mark.parametrize("alpha", [0.05, 0.005, 0.0005])
@pytest.mark.parametrize("df", [1, 2, 4, 6, 20, 62])
def test_the_detectable_difference_has_eighty_percent_power_whatever_the_design(df, alpha):
    design = {"variance": 0.3, "df": df, "alpha": alpha}
    if df == 1 and alpha < 0.05:  # the difference would be hundreds of standard deviations
        return
    assert power_of_difference(detectable_difference(**design), **design) == pytest.approx(0.80, abs=1e-6)


def test_nothing_is_detectable_without_spare_patients():
    assert math.isnan(detectable_difference(variance=1, df=0, alpha=0.05))
    assert math.isnan(detectable_difference(variance=math.nan, df=5, alpha=0.05))
    assert math.isnan(detectable_hazard_ratio(0, alpha=0.05))
    assert math.isnan(power_of_correlation(0.5, df=3, alpha=0.05))
    assert math.isnan(precision(np.array([]), np.array([]))[0])


def test_events_follow_the_formula_of_schoenfeld():
    """Two equal groups, hazard ratio 2: 4 (1.96 + .84)^2 / log(2)^2 = 65.3; a ratio and its inverse need the same."""
    assert events_needed(2, alpha=0.05, share=0.5) == events_needed(0.5, alpha=0.05, share=0.5) == 66
    assert events_needed(2, alpha=0.05, share=0.33) > 66
    assert events_needed(2, alpha=0.05) == 17
    assert power_of_hazard_ratio(2, events=17, alpha=0.05) >= 0.80 > power_of_hazard_ratio(2, events=15, alpha=0.05)
    assert events_needed(detectable_hazard_ratio(40, alpha=0.05) + 1e-9, alpha=0.05) == 40


def test_the_size_of_a_model_is_that_of_the_published_example():
    """The worked example of pmsampsize 1.1 (Ensor, Martin, Riley): 24 parameters, 662 patients by its second criterion."""
    assert model_size(24, rate=0.174, r2=0.288) == 662
    assert model_size(1, rate=0.5, r2=0.4) == 385  # the overall rate alone: 1.96^2 / (4 * .05^2)
    assert model_size(10, rate=0.3) > model_size(5, rate=0.3) > model_size(5, rate=0.5)


def test_correlations_have_the_simulated_power():
    """1,000 studies of 40 patients in two centres; standard error .015."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1000, 40))
    y = 0.5 * x + math.sqrt(0.75) * rng.normal(size=x.shape)
    rho = np.array([stats.spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)])
    critical = stats.t.isf(0.025, 38)
    found = (np.abs(rho) >= critical / np.sqrt(38 + critical**2)).mean()
    expected = 6 / math.pi * math.asin(0.25)  # rank correlation of normal values that correlate by .5
    assert found == pytest.approx(power_of_correlation(expected, df=38, alpha=0.05), abs=0.05)


def test_parts_are_apportioned_whole():
    assert apportion([30, 25, 20, 10, 10, 5], 24) == [7, 6, 5, 3, 2, 1]
    assert apportion([1, 1], 3) == [2, 1]
    assert apportion([], 0) == [] and apportion([0, 0], 0) == [0, 0]


def test_the_expected_design_keeps_centres_and_rate():
    design = expected_design(["A"] * 10 + ["B"] * 5, rate=0.33, n=64)
    assert len(design.label) == 64 and design.classes == (43, 21)
    assert (design.centre == "A").sum() == 43
    assert [design.label[design.centre == name].mean() for name in "AB"] == pytest.approx([0.33, 0.33], abs=0.03)
    assert not design.known
    assert expected_design([], rate=0.33, n=12).classes == (8, 4)


def test_levels_are_those_of_looks_holm_and_the_exploratory_family():
    feature = {"modality": "scrna", "family": "a", "feature": "b"}
    config = {**CONFIG, "planned_looks": 2, "confirmatory": [feature] * 5}
    assert levels(config) == {"single": 0.025, "confirmatory": 0.005, "exploratory": 0.005}


def places(centres, *, modality="scrna", timepoint="T0_pre", tissue="liver_met", batch="B1"):
    return pd.DataFrame(
        {
            "modality": modality, "timepoint": timepoint, "tissue": tissue, "patient_id": ids(len(centres)),
            "centre": list(centres), "batch": batch, "chemistry": "", "method": "",
        }
    )  # fmt: skip


def table(members, values=None, **options):
    defaults = {"kind": "binary", "config": CONFIG, "n_enrolled": len(members), "rate": 0.33, "plan": None, "seed": 1}
    return power_table(members, values, **defaults | options).iloc[0]


def series(label):
    return pd.Series(np.asarray(label, float), index=ids(len(label)))


def test_known_labels_are_counted_and_their_refusals_named():
    centres = list("AABBAABBAABB")
    row = table(places(centres), series([0, 1] * 6))
    assert (row["basis"], row["n_alt"], row["n_ref"], row["refusals"]) == ("labels", 6, 6, "")
    assert table(places(centres), series([1, 1] + [0] * 10))["refusals"].startswith("R01")
    assert table(places(centres), series([float(c == "A") for c in centres]))["refusals"].startswith("R05")
    batches = ["B1" if k % 2 else "B2" for k in range(12)]
    assert "batch explains 100%" in table(places(centres, batch=batches), series([0, 1] * 6))["refusals"]
    small = table(places("AAABBB"), series([0, 1, 0, 1, 0, 1]))
    assert small["refusals"].startswith("R02") and small["smallest_p"] > 0.05


def test_patients_without_the_label_are_not_in_the_comparison():
    row = table(places("AABBAABB"), series([0, 1] * 3))
    assert (row["n_patients"], row["n"]) == (8, 6)


def test_without_labels_a_rate_is_assumed_and_nothing_is_said_of_confounding():
    row = table(places("AB" * 12))
    assert (row["basis"], row["n_alt"], row["n_ref"]) == ("assumed rate", 8, 16)
    assert row["refusals"] == "" and 0 <= row["chance_refused"] <= 0.1
    assert row["power_0.8"] == pytest.approx(power_of_difference(0.8, variance=1 / 8 + 1 / 16, df=21, alpha=0.05))


def test_a_plan_grows_each_place_by_its_share_of_patients():
    row = table(places("AB" * 6), series([0, 1] * 6), n_enrolled=24, plan=64)
    assert (row["n_patients"], row["basis"], row["n_alt"]) == (32, "assumed rate", 11)
    empty = table(places(""), n_enrolled=0, plan=40)
    assert (empty["modality"], empty["n"], empty["compared"]) == ("any", 40, "yes")
    assert power_table(places(""), None, kind="binary", config=CONFIG, n_enrolled=0, rate=0.3, plan=None, seed=1).empty


def test_other_kinds_of_label_have_effects_of_their_own():
    centres = "AB" * 10
    ranked = table(places(centres), series(np.arange(20.0)), kind="continuous")
    assert 0.4 < ranked["detectable_single"] < 0.7 and ranked["power_0.6"] > ranked["power_0.3"]
    assert table(places(centres), kind="ordinal")["basis"] == "assumed rate"
    died = table(places(centres), series([1.0] * 12 + [0.0] * 8), kind="survival")
    assert died["n_events"] == 12 and died["detectable_single"] == pytest.approx(
        detectable_hazard_ratio(12, alpha=0.05)
    )
    assert table(places(centres), series([1.0] * 3 + [0.0] * 17), kind="survival")["refusals"].startswith("R01")


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_known_labels_of_one_class_are_said_and_break_nothing(rate):
    found = power_table(
        places("AB" * 6), series([rate] * 12), kind="binary", config=CONFIG, n_enrolled=12, rate=rate, plan=None, seed=1
    )
    options = {"kind": "binary", "config": CONFIG, "goes_with": ["T0_pre"], "plan": None, "n_enrolled": 12}
    said = power_text(found, **options, rate=rate, events={})
    assert "R01" in said and "per SD of a feature" in said and "Riley" not in said


@pytest.mark.parametrize(("n", "most"), [(24, 0.06), (64, 0.01)])
def test_an_unconfounded_study_of_uneven_centres_is_seldom_refused(n, most):
    """Six centres (.30 .25 .20 .10 .10 .05), rate .33: the refusals together, of which R05 is to fire in about 2 %."""
    centre = np.repeat(list("ABCDEF"), apportion([30, 25, 20, 10, 10, 5], n))
    assert chance_of_refusal(centre, rate=0.33, config=CONFIG, seed=2)["any"] <= most


def test_small_arms_within_centres_of_both_classes_are_refused():
    design = expected_design(["A"] * 3 + ["B"] * 3 + ["C"] * 4, rate=0.5)
    known = type(design)(np.array([0, 1, 0, 0, 1, 0, 1, 1, 1, 1.0]), design.centre, known=True)
    (found,) = design_refusals(known, {}, binary=True, config=CONFIG)
    assert found[0] == "R01" and "in centres that hold both classes" in found[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_trial_study(tmp_path_factory.mktemp("trial") / "study")


def test_who_has_what_comes_from_libraries_and_days_of_draws(folder):
    study = load_study(study_config(folder), workdir=folder.parent)
    found = measured(study.data, windows=study.trial["windows"])
    counts = found.groupby(["modality", "timepoint", "tissue"]).size().to_dict()
    assert counts["scrna", "T0_pre", "liver_met"] == 2 and counts["snrna", "T0_pre", "primary"] == 1
    assert counts["blood", "T0_pre", "blood"] >= 1
    assert not found.duplicated(["modality", "timepoint", "tissue", "patient_id"]).any()


def test_values_of_blood_play_no_part(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "study")
    path = other / "blood.tsv"
    header, *lines = path.read_text().splitlines()
    place = header.split("\t").index("value")
    rows = [line.split("\t") for line in lines]
    for row in rows:
        row[place] = str(float(row[place]) + 1)
    path.write_text("\n".join([header, *("\t".join(row) for row in rows)]) + "\n")
    tables = [measured(load_study(study_config(f), workdir=f.parent).data, windows={}) for f in (folder, other)]
    pd.testing.assert_frame_equal(*tables)


def test_a_study_before_data_gets_its_numbers(folder, tmp_path, capsys, monkeypatch):
    """Patients alone, with no library and no label."""
    study = tmp_path / "study"
    study.mkdir()
    for name in ("patients", "samples", "libraries"):
        lines = (folder / f"{name}.tsv").read_text().splitlines()
        (study / f"{name}.tsv").write_text("\n".join(lines[:1] if name != "patients" else lines) + "\n")
    config = {
        "study": str(study),
        "results": str(tmp_path / "results"),
        "response": {"primary_label": "objective_response"},
    }
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    assert main(["power", "--config", "my.yaml"]) == 0
    assert "Give --plan N" in capsys.readouterr().out
    assert main(["power", "--config", "my.yaml", "--plan", "64"]) == 0
    text = capsys.readouterr().out
    assert "64 patients, as planned" in text and "any, T0_pre, liver_met (21 with and 43 without the label)" in text
    assert "could not exclude smaller ones" in text and "No follow-up is known yet" in text
    assert not (tmp_path / "results").exists()


def test_a_design_that_the_config_forbids_is_named(folder):
    config = study_config(folder, response={"primary_label": "disease_control", "timepoints": ["T3_resection"]})
    text = study_power(load_study(config, workdir=folder.parent), plan=None, rate=None)
    assert "By the config nothing would be tested" in text and "R17" in text


def test_a_blinded_config_counts_permuted_labels(folder):
    texts = [
        study_power(load_study(study_config(folder, blind=blind), workdir=folder.parent), plan=None, rate=None)
        for blind in (False, True)
    ]
    assert all("disease_control (binary), 3 patients" in text for text in texts)


def test_a_mistake_in_the_config_is_listed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("sed: 1\n")
    assert main(["power", "--config", "my.yaml"]) == 1
    assert "did you mean 'seed'" in capsys.readouterr().out


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    command = [sys.executable, "-m", "livermet", "simulate", "--out", str(folder), "--size", "tiny", "--seed", "11"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_the_command_on_a_simulated_study_needs_no_raw_file(simulated, capsys, monkeypatch):
    shutil.rmtree(simulated / "study" / "raw")
    monkeypatch.chdir(simulated)
    config = {"study": "study", "results": "results", "response": {"primary_label": "objective_response"}}
    (simulated / "my.yaml").write_text(yaml.safe_dump(config))
    assert main(["power", "--config", "my.yaml"]) == 0
    text = capsys.readouterr().out
    assert "blood, T0_pre (3 with and 5 without the label): no test as it stands (R02, below)" in text
    assert "scrna, T0_pre, liver_met: R01: 2 with and 4 without" in text
    assert "os: 7 events are known" in text and "livermet check lists them" in text
    with pytest.raises(SystemExit):
        main(["power", "--config", "my.yaml", "--plan", "0"])
    with pytest.raises(SystemExit):
        main(["power", "--config", "my.yaml", "--rate", "1.2"])
