"""Prediction of the label: planted signals, noise, transport between centres, and refusals that fire and don't."""

import re

import numpy as np
import pandas as pd
import pytest

from cohorts import feature_rows, ids, labels_table
from livermet import predict, validation
from predict_cohort import PARTS, PLAIN, cohort, row, run

LIBRARY_OF = {"timepoint": "T0_pre", "tissue": "liver_met", "modality": "visium", "method": "core_needle"}


@pytest.fixture(scope="module")
def planted():
    return run(cohort(1, tissue=1.8, clinical=1.0))


@pytest.fixture(scope="module")
def noise():
    return cohort(2)


def tables_equal(one, two):
    for name in ("predictors", "predictions", "null"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(two, name))


def test_planted_tissue_is_found_beyond_the_clinical_baseline(planted):
    """Over eight seeds the lower end of the AUC was .51 to .73, p at most 2/40, delta_p 1/40, the slope .66 to 1.25."""
    assert list(planted.predictors.columns) == validation.PREDICTOR_COLUMNS
    both, tissue = row(planted, "clinical+tissue"), row(planted, "tissue")
    assert tissue["auc_low"] > 0.55
    assert both["p"] == tissue["p"] == both["delta_p"] == 1 / 40
    assert both["delta_auc"] > 0.05
    assert both["delta_auc"] == pytest.approx(both["auc"] - row(planted, "clinical")["auc"])
    assert 0.5 < both["calibration_slope"] < 1.6
    assert both["brier"] < 0.4 * 0.6
    assert "39 permutations of the label within centre" in both["p_method"]
    assert "1 of 3 repeats in observed and permuted alike" in both["p_method"]
    assert (both["n"], both["n_ref"], both["n_alt"], both["n_missing"]) == (64, 38, 26, 0)
    assert tissue["features"].split("; ")[0] == "f01 (composition_type, scrna)"
    assert np.isnan(tissue["delta_p"])


def test_every_patient_has_one_probability_per_model_and_validation(planted):
    table = planted.predictions
    assert list(table.columns) == validation.PREDICTION_COLUMNS
    counts = table.groupby(["model", "validation"])["patient_id"].agg(["size", "nunique"])
    assert (counts.to_numpy() == 64).all()
    assert len(counts) == 6
    assert table["probability"].between(0, 1, inclusive="neither").all()
    held = table[(table["model"] == "tissue") & (table["validation"] == "nested_cv")]
    mean = held.groupby("observed")["probability"].mean()
    assert mean[1] - mean[0] > 0.2


def test_the_null_stands_beside_what_was_observed(planted):
    assert list(planted.null.columns) == validation.NULL_COLUMNS
    sizes = planted.null.groupby(["model", "statistic"]).size()
    assert (sizes == 40).all()
    assert set(sizes.index) == {(name, "auc") for name in validation.MODELS} | {("clinical+tissue", "delta_auc")}


def test_a_strong_baseline_leaves_nothing_to_noise():
    """Over eight seeds the clinical p was 1/40 each time, and delta_p of the noise between .25 and .95."""
    found = run(cohort(3, clinical=2.0))
    both = row(found, "clinical+tissue")
    assert row(found, "clinical")["p"] == 1 / 40
    assert both["delta_p"] > 0.1
    assert both["delta_low"] < 0


def test_results_do_not_depend_on_the_order_of_rows_or_features(planted):
    tables = cohort(1, tissue=1.8, clinical=1.0)
    mixed = {name: table.sample(frac=1, random_state=1) for name, table in tables.items()}
    tables_equal(run(mixed, declared=(PLAIN[0], *PARTS[::-1], *PLAIN[:0:-1])), planted)


def test_the_same_seed_gives_the_same_result_and_another_one_other_folds(noise):
    options = {"draws": 19, "repeats": 1}
    tables_equal(run(noise, **options), run(noise, **options))
    other = row(run(noise, seed=2, **options), "tissue")
    assert other["auc"] != row(run(noise, **options), "tissue")["auc"]


def test_noise_of_confounded_centres_is_calibrated():
    """Centres differ in features and in response alike: the AUC is above one half, and p is not small.

    Ten cohorts: more than three at p <= .05 have probability .001 by a binomial. Over five sets of ten the mean AUC was
    .55 to .62.
    """
    aucs, hits = [], {"tissue": 0, "delta": 0}
    for seed in range(10):
        tables = cohort(100 + seed, n=40, centres=3)
        rng = np.random.default_rng(seed)
        centre = tables["patients"]["centre"].str[1:].astype(int).to_numpy()
        score = np.array([0.7, 0.0, -0.7])[centre] + rng.logistic(size=40)
        tables["labels"] = labels_table((score > np.median(score)).astype(int))
        zone = feature_rows(rng.normal(size=(40, 3)) - centre[:, None], family="zone", modality="visium")
        rest = tables["features"]
        tables["features"] = pd.concat([rest[rest["family"] != "zone"], zone], ignore_index=True)
        found = run(tables, declared=PLAIN, repeats=1, draws=19)
        aucs.append(row(found, "tissue")["auc"])
        hits["tissue"] += row(found, "tissue")["p"] <= 0.05
        hits["delta"] += row(found, "clinical+tissue")["delta_p"] <= 0.05
    assert np.mean(aucs) > 0.53
    assert max(hits.values()) <= 3


def test_each_centre_is_predicted_by_the_others(planted):
    """Over eight seeds the AUC over all centres was .74 to .89."""
    overall = row(planted, "tissue", "leave_one_centre_out")
    assert overall["n"] == 64
    assert overall["auc"] > 0.7
    assert overall["auc_low"] < overall["auc"] < overall["auc_high"]
    assert np.isnan(overall["p"])
    table = planted.predictors
    centres = table[(table["validation"] == "leave_one_centre_out") & (table["centre"] != "")]
    assert set(centres["centre"]) == {f"C{k}" for k in range(6)}
    assert centres[centres["model"] == "tissue"]["n"].sum() == 64
    alone = centres[centres["refusal_code"] == "R06"]
    assert set(alone["centre"]) == {"C5"}
    assert alone["auc"].isna().all()
    assert "one class" in alone["refusal_reason"].iloc[0]


def test_a_centre_without_which_nothing_can_be_trained_is_refused(noise):
    tables = {name: table.copy() for name, table in noise.items()}
    y = pd.to_numeric(tables["labels"]["value"]).to_numpy()
    centre = np.where(np.arange(64) % 8 < 5, "big", "small")
    tables["patients"] = tables["patients"].assign(centre=centre)
    assert min((y[centre == "small"] == k).sum() for k in (0, 1)) == 7
    found = run(tables, draws=19, repeats=1)
    refused = row(found, "tissue", "leave_one_centre_out", "big")
    assert refused["refusal_code"] == "R01"
    assert "smaller class holds 7 patients" in refused["refusal_reason"]
    assert row(found, "tissue", "leave_one_centre_out", "small")["status"] == "tested"
    overall = row(found, "tissue", "leave_one_centre_out")
    assert (overall["n"], overall["n_missing"]) == (24, 40)


def test_one_centre_has_nothing_to_be_transported_to(noise):
    tables = {**noise, "patients": noise["patients"].assign(centre="only")}
    found = run(tables, draws=19, repeats=1)
    assert row(found, "tissue")["status"] == "tested"
    assert "over all patients" in row(found, "tissue")["p_method"]
    assert row(found, "tissue", "leave_one_centre_out")["refusal_code"] == "P03"


def test_missing_values_are_filled_inside_the_fold_and_counted(noise):
    features = noise["features"]
    gone = features["patient_id"].isin(["P00", "P01"]) & (features["modality"] != "blood")
    hole = (features["patient_id"] == "P02") & (features["feature"] == "f00") & (features["family"] == "zone")
    no_blood = (features["patient_id"] == "P03") & (features["feature"] == "ca199")
    found = run({**noise, "features": features[~(gone | hole | no_blood)]}, draws=19, repeats=1)
    tissue, clinical = row(found, "tissue"), row(found, "clinical")
    assert (tissue["n"], tissue["n_missing"]) == (62, 2)
    assert tissue["share_imputed"] == pytest.approx(1 / (62 * 5))
    assert clinical["share_imputed"] == pytest.approx(1 / (62 * 5))
    assert {"P00", "P01"}.isdisjoint(found.predictions["patient_id"])


def test_the_clinical_baseline_is_what_was_known_before_treatment(noise):
    late = feature_rows(np.full((64, 1), 99.0), family="blood", modality="blood", tissue="blood", timepoint="T1_reeval")
    features = pd.concat([noise["features"], late.assign(feature="ca199")])
    table = predict.clinical_baseline(features, noise["patients"])
    assert list(table.columns) == ["ca199", "ecog", "n_liver_mets", "nlr", "synchronous"]
    assert table["ca199"].max() < 20
    # As in the feature table, where both are logarithms already.
    here = noise["features"]
    for name in ("ca199", "nlr"):
        np.testing.assert_array_equal(table[name], here.loc[here["feature"] == name, "value"])
    assert set(table["synchronous"]) == {0.0, 1.0}
    bare = predict.clinical_baseline(features.iloc[:0], noise["patients"][["patient_id", "centre"]])
    assert bare.shape == (64, 0)


def test_declared_blood_of_the_baseline_is_no_candidate_twice(noise):
    item = {"modality": "blood", "family": "blood", "feature": "nlr"}
    found = run(noise, declared=(*PLAIN, item), draws=19, repeats=1)
    assert "nlr" not in row(found, "tissue")["features"]
    assert row(found, "clinical+tissue")["features"].count("nlr") == 1


def test_without_clinical_variables_the_declared_features_stand_alone(noise):
    tables = {
        **noise,
        "features": noise["features"][noise["features"]["modality"] != "blood"],
        "patients": noise["patients"][["patient_id", "centre"]],
    }
    found = run(tables, draws=19, repeats=1)
    assert row(found, "clinical")["refusal_code"] == row(found, "clinical+tissue")["refusal_code"] == "F02"
    assert row(found, "tissue")["status"] == "tested"


def few(tables, n_alt):
    """The tables with so many patients with the label."""
    return {**tables, "labels": labels_table((np.arange(64) % 64 < n_alt).astype(int))}


def aliased(tables):
    labels = pd.to_numeric(tables["labels"]["value"])
    return {**tables, "patients": tables["patients"].assign(centre=np.where(labels == 1, "A", "B"))}


def continuous(tables):
    return {**tables, "labels": labels_table(np.arange(64) / 7, kind="continuous")}


def made_with_the_label(tables):
    features = tables["features"]
    return {
        **tables,
        "features": features.assign(source=features["source"].where(features["family"] != "zone", "differential.tsv")),
    }


EVERYTHING = {"clinical", "tissue", "clinical+tissue"}
DECLARED = {"tissue", "clinical+tissue"}
TOO_MANY = [{"modality": "scrna", "family": "composition_type", "feature": f"f{k:02d}"} for k in range(11)]
ABSENT = [{"modality": "xenium", "family": "zone", "feature": "f00"}]


@pytest.mark.parametrize(
    ("code", "change", "options", "refused", "words"),
    [
        ("R01", lambda tables: few(tables, 9), {}, EVERYTHING, "9 with and 55 without.*10 patients of each.*Lifted"),
        ("R02", lambda tables: tables, {"draws": 9}, EVERYTHING, "smallest p that this design can give is 0.1"),
        ("R04", lambda tables: tables, {"tissues": ["liver_met", "primary"]}, EVERYTHING, "2 tissues"),
        ("R05", aliased, {}, EVERYTHING, "no centre of 2 holds both classes"),
        ("R06", lambda tables: few(tables, 0), {}, EVERYTHING, "same value"),
        ("R11", made_with_the_label, {}, DECLARED, "differential.tsv"),
        ("R15", lambda tables: tables, {"declared": TOO_MANY}, DECLARED, "11 features are declared.*at most 10"),
        ("R17", lambda tables: tables, {"goes_with": ("T3_resection",)}, EVERYTHING, "T3_resection"),
        ("R19", lambda tables: tables, {"scope": "B02"}, EVERYTHING, "one batch"),
        ("R19", lambda tables: tables, {"look": 2}, EVERYTHING, "look 2"),
        ("F02", lambda tables: tables, {"declared": ABSENT}, DECLARED, "no patient has a declared feature"),
        ("P01", continuous, {}, EVERYTHING, "continuous.*two classes.*binary primary_label"),
        ("P02", lambda tables: tables, {"declared": ()}, DECLARED, "no feature is declared.*before unblinding"),
    ],
)  # fmt: skip
def test_refusals_fire_with_their_reason(noise, code, change, options, refused, words):
    found = run(change(noise), **{"draws": 19, "repeats": 1, **options})
    table = found.predictors[found.predictors["validation"] == "nested_cv"].set_index("model")
    assert set(table.index[table["status"] == "refused"]) == refused
    assert set(table.loc[list(refused), "refusal_code"]) == {code}
    assert re.search(words, table.loc[sorted(refused)[0], "refusal_reason"])
    numbers = table.loc[list(refused), ["auc", "auc_low", "p", "brier", "delta_p", "calibration_slope"]]
    assert numbers.isna().all(axis=None)
    assert set(found.predictions["model"]).isdisjoint(refused)


def test_refusals_do_not_fire_without_cause(noise):
    found = run(noise, draws=19, repeats=1)
    table = found.predictors[found.predictors["validation"] == "nested_cv"]
    assert set(table["status"]) == {"tested"}
    assert set(table["refusal_code"]) == {""}
    assert row(run(few(noise, 10), draws=19, repeats=1), "tissue")["refusal_code"] != "R01"


def test_a_batch_that_holds_one_class_refuses_the_declared_features(noise):
    y = pd.to_numeric(noise["labels"]["value"]).to_numpy()
    batch = np.where(y == 1, "B1", "B2")
    rows = [
        {**LIBRARY_OF, "patient_id": patient, "batch": b, "chemistry": "v1"}
        for patient, b in zip(ids(64), batch, strict=True)
    ]
    found = run(noise, libraries=rows, draws=19, repeats=1)
    assert row(found, "clinical")["status"] == "tested"
    assert row(found, "tissue")["refusal_code"] == "R05"
    assert "batch explains 100%" in row(found, "tissue")["refusal_reason"]
    mixed = [{**one, "batch": f"B{k % 2}"} for k, one in enumerate(rows)]
    assert row(run(noise, libraries=mixed, draws=19, repeats=1), "tissue")["status"] == "tested"


def test_a_patient_in_two_folds_stops_the_step(noise):
    with pytest.raises(ValueError, match=r"R16.*P1"):
        validation.check_folds(["P0", "P1", "P1"], np.array([[0, 1, 1], [0, 1, 2]]))
    validation.check_folds(["P0", "P1", "P1"], np.array([[0, 1, 1]]))
    twice = pd.concat([noise["features"], noise["features"].head(1)])
    with pytest.raises(ValueError, match=r"R16.*repeat a patient and feature"):
        run({**noise, "features": twice})


def test_empty_tables_are_refused_and_keep_their_columns(noise):
    found = run({**noise, "features": noise["features"].iloc[:0], "labels": noise["labels"].iloc[:0]})
    assert set(found.predictors["refusal_code"]) == {"R06"}
    assert list(found.predictions.columns) == validation.PREDICTION_COLUMNS
    assert list(found.null.columns) == validation.NULL_COLUMNS
    assert found.predictions.empty
