"""Confounding: Cramer's V and its p as scipy has them, ranks of the design, and what follows from each factor."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cohorts import CONFIG, feature_rows, ids, labels_table, patients_table
from livermet.design import COLUMNS, confounding, patient_factors
from livermet.refusals import aliasing

SETTING = {**CONFIG, "n_permutations": 999}


def study(n=24, *, seed=0, **factors):
    """Factors of ``n`` patients in one modality: the same for all but those given."""
    same = {"centre": "C0", "batch": "B0", "chemistry": "v3", "method": "core_needle", "timepoint": "T0_pre"}
    table = pd.DataFrame({"patient_id": ids(n), "modality": "scrna"}).assign(**same, regimen="GnP")
    fraction = np.random.default_rng(seed).uniform(0.1, 0.5, n)
    return table.assign(tumour_fraction=fraction).assign(**factors)


def run(factors, y, *, labels=None, scope="cohort", **changes):
    labels = labels_table(y) if labels is None else labels
    table = confounding(factors, labels, config={**SETTING, **changes}, scope=scope, seed=1)
    assert list(table.columns) == COLUMNS
    return table.set_index("factor")


Y = np.tile([0, 1], 12)


def test_the_measure_of_two_classes_is_cramers_v():
    centre = np.random.default_rng(1).choice(list("abc"), 24)
    row = run(study(centre=centre), Y).loc["centre"]
    counts = pd.crosstab(centre, Y)
    assert row["measure"] == "cramers_v"
    assert row["strength"] == pytest.approx(stats.contingency.association(counts, method="cramer"))
    assert (row["n"], row["n_levels"]) == (24, 3)


def test_p_is_exact_where_all_arrangements_can_be_visited():
    y, method = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array(list("aaabbbbb"))
    row = run(study(8, method=method), y).loc["method"]
    # For a table of two by two the exact test of the squared difference is Fisher's, two-sided by probability.
    assert row["p"] == pytest.approx(stats.fisher_exact(pd.crosstab(method, y)).pvalue)
    assert row["p_method"] == "all 70 arrangements"


def test_p_of_balanced_factors_is_uniform():
    rng = np.random.default_rng(2)
    p = [run(study(centre=rng.choice(list("abcd"), 24), seed=k), Y, n_permutations=199)["p"] for k in range(40)]
    assert np.mean([row["centre"] <= 0.1 for row in p]) <= 0.25
    assert np.mean([row["tumour_fraction"] <= 0.1 for row in p]) <= 0.25


@pytest.mark.parametrize(
    ("factor", "levels", "follows", "words"),
    [
        ("centre", np.repeat(["a", "b"], 12), "adjusted", "exchanged within centres"),
        ("centre", np.where(Y, "a", "b"), "refused", "R05: no centre of 2"),
        ("batch", np.where(Y, "B1", "B2"), "refused", "R05: batch explains 100%"),
        ("chemistry", np.where(np.arange(24) < 5, "v2", np.where(Y, "v3", "v4")), "refused", "R05"),
        ("chemistry", np.where((Y == 1) & (np.arange(24) < 16), "v2", "v3"), "named", "is not adjusted for"),
        ("batch", np.array(ids(24)), "nothing", "a batch per patient"),
        ("method", "core_needle", "nothing", "the same method for all"),
        ("regimen", np.where(Y, "GnP", "mFOLFIRINOX"), "named", "explains 100%"),
        ("timepoint", np.where(Y, "T0_pre+T3_resection", "T0_pre"), "named", "explains 100%"),
        ("regimen", np.repeat(["GnP", "mFOLFIRINOX"], 12), "nothing", "no more than so many levels do by chance"),
    ],
)
def test_what_follows_from_a_factor(factor, levels, follows, words):
    row = run(study(**{factor: levels}), Y).loc[factor]
    assert row["follows"] == follows
    assert words in row["words"]


def test_a_factor_nested_in_the_centres_is_adjusted_with_them():
    centre = np.repeat(["a", "b", "c"], 8)
    row = run(study(centre=centre, chemistry=np.where(centre == "a", "v2", "v3")), Y).loc["chemistry"]
    assert row["follows"] == "adjusted"
    assert "adjusted for with the centre" in row["words"]


def test_aliasing_comes_from_the_ranks_of_the_design():
    centre = np.repeat(["a", "b"], 12)
    y = Y.astype(float)
    assert aliasing(y, np.where(Y, "u", "v"), centre) == "label"
    assert aliasing(y, np.array(ids(24)), centre) == "a level per patient"
    assert aliasing(y, np.repeat(["u", "v", "w"], 8), centre) == ""
    # In each centre the classes were in another of two batches: neither factor alone tells the label.
    crossed = np.where((Y == 1) == (centre == "a"), "B1", "B2")
    joined = np.char.add(centre, crossed)
    assert aliasing(y, crossed, centre) == ""
    assert aliasing(y, joined, centre) == "label"
    three = np.where(centre == "a", np.where(Y, "B1", "B2"), "B3")
    alternating = np.where(centre == "a", Y, 0).astype(float)
    assert aliasing(alternating, three, np.repeat("a", 24)) == "label"


def test_tumour_fraction_is_set_against_the_label_as_a_number():
    rng = np.random.default_rng(3)
    plain = run(study(), Y).loc["tumour_fraction"]
    assert (plain["measure"], plain["follows"]) == ("eta", "nothing")
    shifted = run(study(tumour_fraction=0.2 + 0.3 * Y + rng.normal(0, 0.05, 24)), Y).loc["tumour_fraction"]
    assert shifted["follows"] == "named" and shifted["p"] < 0.01
    depth = rng.normal(size=24)
    labels = labels_table(depth, name="sld_change", kind="continuous")
    row = run(study(tumour_fraction=depth), Y, labels=labels, primary_label="sld_change").loc["tumour_fraction"]
    assert row["measure"] == "spearman_rho" and row["strength"] == pytest.approx(1)
    some = run(study(tumour_fraction=np.where(np.arange(24) < 4, np.nan, 0.3)), Y).loc["tumour_fraction"]
    assert some["n"] == 20


def test_times_to_an_event_go_by_their_scores():
    rng = np.random.default_rng(4)
    time = np.where(Y, 50, 500) + rng.integers(0, 40, 24)
    labels = labels_table(time, name="os", kind="survival", events=np.ones(24))
    row = run(study(batch=np.where(Y, "B1", "B2")), Y, labels=labels, primary_label="os").loc["batch"]
    assert row["measure"] == "eta" and row["p"] < 0.01


def test_batches_and_missing_labels_leave_words_and_no_number():
    batch = run(study(), Y, scope="B02")
    assert batch["strength"].isna().all() and batch["words"].str.contains("a batch is described").all()
    none = run(study(), Y, labels=labels_table([None] * 24))
    assert none["strength"].isna().all() and none["words"].str.contains("too few patients").all()
    assert run(study().iloc[:0], Y).empty


def test_factors_come_from_libraries_treatment_and_composition():
    shares = np.array([[30, 70], [60, 40]])
    names = ["malignant_ductal", "tam"]
    features = feature_rows(shares, family="composition_type", n_cells=True, names=names)
    features = pd.concat([features, feature_rows([[1.0]], family="blood", modality="blood", tissue="blood")])
    base = {"modality": "scrna", "tissue": "liver_met", "chemistry": "v3", "method": "core_needle"}
    libraries = [
        {**base, "patient_id": "P00", "timepoint": "T0_pre", "batch": "B1"},
        {**base, "patient_id": "P00", "timepoint": "T0_pre", "batch": "B2"},
        {**base, "patient_id": "P00", "timepoint": "T3_resection", "batch": "B9"},
        {**base, "patient_id": "P01", "timepoint": "T0_pre", "batch": "B1"},
        {**base, "patient_id": "P01", "timepoint": "T0_pre", "batch": "B7", "tissue": "primary"},
    ]
    treatment = pd.DataFrame(
        {"patient_id": ["P00", "P00"], "regimen": ["second", "first"], "start_day": [90, 3], "cycles": [1, 1]}
    )
    table = patient_factors(features, patients_table(["X", "Y"]), libraries, treatment, config=SETTING)
    rows = table.set_index(["modality", "patient_id"])
    first = rows.loc[("scrna", "P00")]
    assert first[["centre", "batch", "timepoint", "regimen"]].tolist() == ["X", "B1+B2", "T0_pre+T3_resection", "first"]
    assert first["tumour_fraction"] == pytest.approx(0.3)
    assert rows.loc[("scrna", "P01"), ["batch", "regimen"]].tolist() == ["B1", ""]
    assert rows.loc[("blood", "P00"), ["batch", "centre"]].tolist() == ["", "X"]
    assert np.isnan(rows.loc[("blood", "P00"), "tumour_fraction"])
