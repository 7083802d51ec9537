"""Scores against truth: a perfect answer gets full marks, a shuffled one chance, and small cases what a hand computes."""

import numpy as np
import pandas as pd
import pytest

from livermet import keys
from livermet.truth import (
    TARGETS,
    met,
    score_abundance,
    score_ambient,
    score_annotation,
    score_arms,
    score_doublets,
    score_malignant,
    score_negative_control,
    score_niche,
    score_qc,
    score_zones,
    shuffled,
)

CELL = ["library_id", "barcode"]
TYPES = {
    keys.MALIGNANT_TYPE: "epithelial",
    keys.CHOLANGIOCYTE: "epithelial",
    keys.HEPATOCYTE: "liver_parenchyma",
    "t_reg": "lymphoid",
    "b_cell": "lymphoid",
    "neutrophil": "myeloid",
}


def cells(n=1200, *, seed=0):
    rng = np.random.default_rng(seed)
    types = rng.choice([*TYPES, "novel_a"], n, p=[0.3, 0.1, 0.2, 0.1, 0.1, 0.1, 0.1])
    doublet = rng.random(n) < 0.08
    return pd.DataFrame(
        {
            "library_id": np.repeat(["L1", "L2"], n // 2),
            "barcode": [f"B{i % (n // 2)}" for i in range(n)],
            "cell_type": types,
            "compartment": [TYPES.get(name, "myeloid") for name in types],
            "malignant": (types == keys.MALIGNANT_TYPE).astype(int),
            "is_doublet": doublet.astype(int),
            "heterotypic": (doublet & (rng.random(n) < 0.8)).astype(int),
            "low_quality": (~doublet & (rng.random(n) < 0.05)).astype(int),
        }
    )


def perfect(truth):
    novel = truth["cell_type"] == "novel_a"
    return truth[CELL].assign(
        kept=1 - truth["low_quality"],
        doublet_score=truth["is_doublet"] + 0.5 * truth["heterotypic"],
        compartment=truth["compartment"].mask(novel, "unknown"),
        cell_type=truth["cell_type"].mask(novel, "unknown"),
        malignant=np.where(truth["malignant"] == 1, "malignant", "normal"),
        cnv_score=truth["malignant"] + np.linspace(0, 0.5, len(truth)),
    )


def all_cell_scores(answer, truth):
    return (
        score_qc(answer, truth)
        | score_doublets(answer, truth)
        | score_annotation(answer, truth, known_types=TYPES, min_cells=10)
        | score_malignant(answer, truth)
    )


def test_perfect_answers_about_cells_meet_every_target():
    truth = cells()
    scores = all_cell_scores(perfect(truth), truth)
    assert scores["doublets: AUPRC"] == 1
    # the share is that of all libraries, so a library with more doublets than the mean loses a few
    assert scores["doublets: heterotypic recall at expected rate"] > 0.9
    assert scores["annotation: macro-F1 of types"] == scores["annotation: macro-F1 of compartments"] == 1
    assert scores["annotation: abstention"] == scores["annotation: cholangiocyte-malignant confusion"] == 0
    assert scores["annotation: cells of no known type called unknown"] == 1
    assert scores["malignant: AUROC of CNV score"] == scores["malignant: malignant cells called so"] == 1
    assert scores["qc: low-quality cells removed"] == scores["qc: good cells kept"] == 1
    assert {met(name, value) for name, value in scores.items() if name in TARGETS} == {"yes"}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_shuffled_answers_are_near_chance(seed):
    truth = cells(seed=seed)
    columns = ["kept", "doublet_score", "compartment", "cell_type", "malignant", "cnv_score"]
    answer = shuffled(perfect(truth), columns=columns, within=["library_id"], seed=seed)
    scores = all_cell_scores(answer, truth)
    single = truth["low_quality"] == 0
    assert scores["doublets: AUPRC"] == pytest.approx(truth.loc[single, "is_doublet"].mean(), abs=0.06)
    assert scores["malignant: AUROC of CNV score"] == pytest.approx(0.5, abs=0.06)
    assert scores["annotation: macro-F1 of types"] == pytest.approx(1 / 7, abs=0.06)
    assert scores["qc: low-quality cells removed"] == pytest.approx(truth["low_quality"].mean(), abs=0.1)
    assert scores["malignant: cholangiocytes called malignant"] == pytest.approx(0.3, abs=0.12)


def test_shuffling_keeps_frequencies_and_rows_together():
    answer = pd.DataFrame({"g": ["a"] * 50 + ["b"] * 50, "x": range(100), "y": range(100), "z": range(100)})
    result = shuffled(answer, columns=["x", "y"], within=["g"], seed=1)
    assert (result["x"] == result["y"]).all() and (result["z"] == answer["z"]).all()
    assert set(result["x"][:50]) == set(range(50)) and not (result["x"] == answer["x"]).all()
    pd.testing.assert_frame_equal(result, shuffled(answer, columns=["x", "y"], within=["g"], seed=1))


def test_what_an_answer_lacks_counts_against_it():
    truth = cells()
    half = perfect(truth).iloc[::2]
    assert score_qc(half, truth)["qc: good cells kept"] == pytest.approx(0.5, abs=0.05)
    complete = score_doublets(perfect(truth), truth)["doublets: AUPRC"]
    assert score_doublets(half, truth)["doublets: AUPRC"] < complete - 0.2
    without = perfect(truth).assign(doublet_score=np.nan)
    assert score_doublets(without, truth)["doublets: AUPRC"] < 0.2


def test_expected_rate_limits_the_calls_in_each_library():
    # Two libraries of 100 with six doublets and two: 4 % of all, so four cells of each are called.
    truth = pd.DataFrame(
        {
            "library_id": np.repeat(["L1", "L2"], 100),
            "barcode": [f"B{i}" for i in range(100)] * 2,
            "is_doublet": [1] * 6 + [0] * 94 + [1] * 2 + [0] * 98,
            "heterotypic": [1] * 6 + [0] * 94 + [1] * 2 + [0] * 98,
            "low_quality": 0,
        }
    )
    answer = truth[CELL].assign(doublet_score=np.tile(np.arange(100, 0, -1), 2))
    scores = score_doublets(answer, truth)
    assert scores["doublets: heterotypic recall at expected rate"] == pytest.approx(6 / 8)


def test_annotation_by_hand():
    truth = pd.DataFrame(
        {
            "library_id": "L1",
            "barcode": list("abcdefgh"),
            "cell_type": [keys.CHOLANGIOCYTE] * 2 + [keys.MALIGNANT_TYPE] * 4 + ["novel_a"] * 2,
            "compartment": "epithelial",
            "is_doublet": 0,
            "low_quality": 0,
        }
    )
    answer = truth[CELL].assign(
        compartment=["epithelial"] * 5 + ["unknown"] + ["epithelial", "unknown"],
        cell_type=[
            keys.CHOLANGIOCYTE,
            keys.MALIGNANT_TYPE,
            *[keys.MALIGNANT_TYPE] * 2,
            keys.CHOLANGIOCYTE,
            keys.UNKNOWN,
            keys.UNCERTAIN_EPITHELIAL,
            keys.UNKNOWN,
        ],
    )
    scores = score_annotation(answer, truth, known_types=TYPES, min_cells=1)
    # cholangiocyte: precision 1/2, recall 1/2; malignant: precision 2/3, recall 1/2
    assert scores["annotation: macro-F1 of types"] == pytest.approx((0.5 + 4 / 7) / 2)
    assert scores["annotation: macro-F1 of compartments"] == pytest.approx(10 / 11)
    assert scores["annotation: abstention"] == pytest.approx(1 / 6)
    # half of the cholangiocytes and a quarter of the malignant cells, each kind counting the same
    assert scores["annotation: cholangiocyte-malignant confusion"] == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert scores["annotation: cells of no known type called unknown"] == 0.5


def test_contamination_by_hand():
    truth = pd.DataFrame(
        {
            "library_id": ["L1", "L1", "L1", "L2", "L3", "L4"],
            "ambient_fraction": [0.1, 0.3, 0.9, 0.1, 0.05, 0.02],
            "is_doublet": [0, 0, 1, 0, 0, 0],
            "low_quality": 0,
        }
    )
    answer = pd.DataFrame(
        {
            "library_id": ["L1", "L2", "L3", "L4"],
            "contamination": [0.22, 0.05, 0.4, np.nan],
            "contamination_basis": ["estimate", "estimate", "upper_bound", "none"],
        }
    )
    scores = score_ambient(answer, truth)
    assert scores["ambient: Spearman of contamination over libraries"] == pytest.approx(-0.5)
    assert scores["ambient: libraries with a contamination"] == 0.75
    assert scores["ambient: median relative error with raw droplets"] == pytest.approx(0.3)


def test_arms_by_hand():
    truth = pd.DataFrame(
        [("P1", "18q11", "gain"), ("P1", "18q21", "loss"), ("P1", "9p", "loss"), ("P2", "8q", "gain")],
        columns=["patient_id", "arm", "kind"],
    )
    answer = pd.DataFrame(
        [("P1", "chr18q", "gain"), ("P1", "9p", "gain"), ("P2", "8q", "gain")], columns=["patient_id", "arm", "kind"]
    )
    scores = score_arms(answer, truth)
    assert scores["malignant: recall of arm events"] == 0.5
    assert scores["malignant: precision of arm events"] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="X5"):
        score_arms(answer.assign(arm="X5"), truth)


def abundance(n=300, *, seed=0):
    fractions = np.random.default_rng(seed).dirichlet([0.6] * len(TYPES), n)
    return pd.DataFrame(
        {
            "library_id": "L1",
            "barcode": np.repeat([f"B{i}" for i in range(n)], len(TYPES)),
            "cell_type": np.tile(list(TYPES), n),
            "abundance": fractions.ravel(),
        }
    )


def test_abundance_perfect_shuffled_and_missing():
    truth = abundance()
    best = score_abundance(truth, truth, compartments=TYPES, min_mean=0.01)
    assert best["abundance: median Spearman of types"] == pytest.approx(1)
    assert best["abundance: RMSE of types"] == 0
    assert best["abundance: median JSD of spots"] == pytest.approx(0, abs=1e-12)
    order = np.random.default_rng(1).permutation(300)
    moved = truth.assign(barcode=np.repeat([f"B{i}" for i in order], len(TYPES)))
    null = score_abundance(moved, truth, compartments=TYPES, min_mean=0.01)
    assert abs(null["abundance: median Spearman of types"]) < 0.12
    assert null["abundance: RMSE of types"] > 0.2
    nothing = score_abundance(truth[truth["cell_type"] == "other"], truth, compartments=TYPES, min_mean=0.01)
    assert nothing["abundance: median Spearman of types"] == 0
    assert nothing["abundance: median JSD of spots"] == 1
    # A cell type mistaken for another of its compartment costs at the level of types only.
    swap = truth.replace({"cell_type": {"t_reg": "b_cell", "b_cell": "t_reg"}})
    coarse = score_abundance(swap, truth, compartments=TYPES, min_mean=0.01)
    assert coarse["abundance: median Spearman of compartments"] == pytest.approx(1)
    assert coarse["abundance: RMSE of types"] > 0.1


def test_divergence_by_hand():
    def table(values):
        return pd.DataFrame({"library_id": "L1", "barcode": "b", "cell_type": list("xy"), "abundance": values})

    scores = score_abundance(table([1.0, 0.0]), table([0.5, 0.5]), compartments={}, min_mean=0)
    expected = (np.log2(1 / 0.75) + 0.5 * np.log2(0.5 / 0.75) + 0.5 * np.log2(0.5 / 0.25)) / 2
    assert scores["abundance: median JSD of spots"] == pytest.approx(expected)
    assert scores["abundance: RMSE of types"] == pytest.approx(0.5)
    opposite = score_abundance(table([1.0, 0.0]), table([0.0, 1.0]), compartments={}, min_mean=0)
    assert opposite["abundance: median JSD of spots"] == pytest.approx(1)


def test_zones_by_hand():
    truth = pd.DataFrame(
        {
            "library_id": ["L1"] * 5 + ["L2"],
            "barcode": list("abcdef"),
            "signed_distance_um": [-600.0, -100.0, 100.0, 600.0, 2000.0, np.nan],
            "zone": ["core", "margin", "margin", "peritumoral", "distant", "none"],
        }
    )
    same = score_zones(truth, truth)
    assert same["zones: median absolute distance error (um)"] == 0 and same["zones: kappa"] == 1
    answer = truth.assign(signed_distance_um=truth["signed_distance_um"] + [10, -20, 30, -40, np.nan, 5])
    scores = score_zones(answer, truth)
    assert scores["zones: median absolute distance error (um)"] == 25
    assert scores["zones: spots with a distance"] == pytest.approx(4 / 5)
    constant = score_zones(truth.assign(zone="margin"), truth)
    assert constant["zones: kappa"] == pytest.approx(0)
    assert np.isnan(score_zones(truth.iloc[:0], truth)["zones: median absolute distance error (um)"])


def test_niche_takes_the_best_union_and_a_shuffled_one_stays_low():
    truth = pd.DataFrame(
        {"library_id": "L1", "barcode": [f"B{i}" for i in range(400)], "planted_niche": [1] * 40 + [0] * 360}
    )
    labels = ["n1"] * 20 + ["n2"] * 20 + ["n3"] * 180 + ["n4"] * 180
    answer = truth[CELL].assign(niche=labels)
    scores = score_niche(answer, truth)
    assert scores["niche: F1 of the planted niche"] == 1
    assert scores["niche: F1 of the best single niche"] == pytest.approx(2 * 20 / (20 + 40))
    null = score_niche(shuffled(answer, columns=["niche"], within=["library_id"], seed=1), truth)
    assert null["niche: F1 of the planted niche"] < 0.35
    assert np.isnan(score_niche(answer, truth.assign(planted_niche=0))["niche: F1 of the planted niche"])


def test_best_union_is_the_best_of_all_unions():
    rng = np.random.default_rng(4)
    truth = pd.DataFrame({"library_id": "L1", "barcode": [str(i) for i in range(200)]})
    truth["planted_niche"] = (rng.random(200) < 0.2).astype(int)
    answer = truth[CELL].assign(niche=rng.integers(0, 6, 200).astype(str))
    best = 0.0
    for mask in range(1, 64):
        chosen = answer["niche"].astype(int).map(lambda k, m=mask: bool(m >> k & 1))
        hit = int((chosen & (truth["planted_niche"] == 1)).sum())
        best = max(best, 2 * hit / (int(chosen.sum()) + int(truth["planted_niche"].sum())))
    assert score_niche(answer, truth)["niche: F1 of the planted niche"] == pytest.approx(best)


def test_negative_control_counts_pairs_of_its_sections_only():
    table = pd.DataFrame(
        {
            "library_id": ["N1"] * 5 + ["L1"],
            "type_a": list("aaabba"),
            "type_b": list("bcacbb"),
            "z": [3.0, -2.5, 9.0, 0.1, 0.2, 5.0],
        }
    )
    name = "niche: pairs called in the negative control"
    assert score_negative_control(table, libraries=["N1"])[name] == pytest.approx(2 / 3)
    assert np.isnan(score_negative_control(table, libraries=["none"])[name])


def test_without_any_truth_or_answer_scores_are_missing_not_wrong():
    truth = cells().iloc[:0]
    scores = all_cell_scores(perfect(truth), truth)
    assert all(np.isnan(value) for value in scores.values())
    assert met("doublets: AUPRC", np.nan) == "" and met("no such score", 1.0) == ""
    assert met("doublets: AUPRC", 0.59) == "no" and met("annotation: abstention", 0.1) == "yes"
