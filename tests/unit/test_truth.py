"""Scores against truth: a perfect answer gets full marks, a shuffled one chance, and small cases what a hand computes."""

import numpy as np
import pandas as pd
import pytest

from livermet import keys
from livermet.truth import (
    TARGETS,
    met,
    removed_at_random,
    score_abundance,
    score_ambient,
    score_annotation,
    score_arms,
    score_basal,
    score_border,
    score_calibration,
    score_cell_labels,
    score_clusters,
    score_correction,
    score_doublets,
    score_growth,
    score_hard_cells,
    score_hard_clusters,
    score_hard_correction,
    score_intervals,
    score_malignant,
    score_negative_control,
    score_niche,
    score_qc,
    score_zones,
    shuffled,
    type_table,
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
        called=truth["is_doublet"],
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
    assert scores["doublets: heterotypic recall of calls"] == scores["doublets: precision of calls"] == 1
    assert scores["doublets: median error of the rate over libraries"] == 0
    assert scores["annotation: macro-F1 of types"] == scores["annotation: macro-F1 of compartments"] == 1
    assert scores["annotation: abstention"] == scores["annotation: cholangiocyte-malignant confusion"] == 0
    assert scores["annotation: cells of no known type called unknown"] == 1
    assert scores["malignant: AUROC of CNV score"] == scores["malignant: malignant cells called so"] == 1
    assert scores["qc: low-quality cells removed"] == scores["qc: good cells kept"] == 1
    assert {met(name, value) for name, value in scores.items() if name in TARGETS} == {"yes"}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_shuffled_answers_are_near_chance(seed):
    truth = cells(seed=seed)
    columns = ["kept", "doublet_score", "called", "compartment", "cell_type", "malignant", "cnv_score"]
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
    answer = truth[CELL].assign(doublet_score=np.tile(np.arange(100, 0, -1), 2), called=0)
    scores = score_doublets(answer, truth)
    assert scores["doublets: heterotypic recall at expected rate"] == pytest.approx(6 / 8)


def test_doublet_calls_by_hand():
    # Doublets are a, b (of one type) and c in L1, x in L2; called are a, b, d and the low-quality e in L1, none in L2.
    truth = pd.DataFrame(
        {
            "library_id": ["L1"] * 5 + ["L2"] * 2,
            "barcode": list("abcdexy"),
            "is_doublet": [1, 1, 1, 0, 0, 1, 0],
            "heterotypic": [1, 0, 1, 0, 0, 1, 0],
            "low_quality": [0, 0, 0, 0, 1, 0, 0],
        }
    )
    answer = truth[CELL].assign(doublet_score=0.5, called=[1, 1, 0, 1, 1, 0, 0])
    scores = score_doublets(answer, truth)
    assert scores["doublets: precision of calls"] == pytest.approx(2 / 3)
    assert scores["doublets: heterotypic recall of calls"] == pytest.approx(1 / 3)
    # 3 of 4 called where 3 of 4 are doublets; none where 1 of 2 is
    assert scores["doublets: median error of the rate over libraries"] == pytest.approx((0 + 0.5) / 2)
    nobody = score_doublets(answer.assign(called=0), truth)
    assert np.isnan(nobody["doublets: precision of calls"]) and nobody["doublets: heterotypic recall of calls"] == 0


def corrections():
    """T cells with 10 counts of albumin, and a hepatocyte; a tenth of all counts is ambient."""
    truth = pd.DataFrame(
        {
            "library_id": ["L1", "L1", "L1", "L2", "L2"],
            "barcode": list("abcde"),
            "cell_type": ["t_reg", "hepatocyte", "t_reg", "t_CD4_conv", "tam_SPP1"],
            "ambient_fraction": 0.1,
            "is_doublet": [0, 0, 1, 0, 0],
            "low_quality": 0,
        }
    )
    answer = truth[CELL].assign(
        counts=[1000.0, 3000.0, 9000.0, 1000.0, 1000.0],
        counts_corrected=[900.0, 2700.0, 0.0, 900.0, 950.0],
        alb=[10.0, 200.0, 900.0, 10.0, 50.0],
        alb_corrected=[2.0, 190.0, 0.0, 4.0, 50.0],
    )
    return answer, truth


def test_correction_by_hand():
    answer, truth = corrections()
    scores = score_correction(answer, truth)
    assert scores["ambient: false ALB removed from T cells"] == pytest.approx(1 - 6 / 20)
    assert scores["ambient: ALB kept in hepatocytes"] == pytest.approx(0.95)
    # L1 loses 400 of 400 ambient counts, L2 150 of 200
    assert scores["ambient: median relative error of the counts removed"] == pytest.approx((0 + 0.25) / 2)
    cases = pd.DataFrame({"case": ["hepatocyte_rich"], "library_id": ["L2"]})
    name = "hard, 95 % hepatocytes: false ALB removed from T cells"
    assert score_hard_correction(answer, truth, cases)[name] == pytest.approx(0.6)
    assert np.isnan(score_hard_correction(answer, truth, cases.iloc[:0])[name])


def test_removal_at_random_takes_the_same_total_without_regard_to_genes():
    answer, truth = corrections()
    null = removed_at_random(answer)
    sums = [table.groupby("library_id")["counts_corrected"].sum() for table in (answer, null)]
    pd.testing.assert_series_equal(*sums)
    # L1 keeps 3600 of 13000 counts and L2 1850 of 2000, of albumin as of every gene
    kept = 10 * 3600 / 13000 + 10 * 1850 / 2000
    scores = score_correction(null, truth)
    assert scores["ambient: false ALB removed from T cells"] == pytest.approx(1 - kept / 20)
    assert scores["ambient: ALB kept in hepatocytes"] == pytest.approx(3600 / 13000)


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


def typed(true, given):
    truth = pd.DataFrame(
        {"library_id": "L1", "barcode": [str(i) for i in range(len(true))], "cell_type": true, "is_doublet": 0}
    ).assign(low_quality=0)
    return truth[CELL].assign(cell_type=given), truth


def test_type_table_by_hand():
    answer, truth = typed(
        ["b_cell"] * 4 + ["t_reg"] * 2 + ["novel_a"] * 4,
        ["b_cell", "b_cell", "t_reg", "unknown", "t_reg", "t_reg", "t_reg", "t_reg", "t_reg", "unknown"],
    )
    table = type_table(answer, truth, known_types=TYPES).set_index("cell_type")
    assert table.index.tolist() == ["b_cell", "t_reg"] and table["n_cells"].tolist() == [4, 2]
    assert table["precision"].tolist() == pytest.approx([1, 2 / 3])
    assert table["recall"].tolist() == pytest.approx([0.5, 1])
    assert table["f1"].tolist() == pytest.approx([2 / 3, 0.8])
    assert table["missed_share"].tolist() == [0.25, 0] and table.loc["t_reg", "missed_as"] == ""
    assert table["novel_share"].tolist() == [0, 0.75]
    known = truth["cell_type"] != "novel_a"
    scores = score_annotation(
        answer.assign(compartment="lymphoid"),
        truth.assign(compartment="lymphoid")[known],
        known_types=TYPES,
        min_cells=1,
    )
    assert scores["annotation: macro-F1 of types"] == pytest.approx(table["f1"].mean())


def test_calibration_by_hand():
    answer, truth = typed(["b_cell"] * 8 + ["novel_a"] * 2, ["b_cell"] * 4 + ["t_reg"] * 4 + ["b_cell", "unknown"])
    answer["confidence"] = [0.95] * 4 + [0.42, 0.44, 0.46, 0.48] + [0.95, 0.3]
    name = "annotation: calibration error of confidence"
    # 5 cells at .95, 4 of them right; 4 cells at .45, none right; the unnamed cell states nothing
    assert score_calibration(answer, truth)[name] == pytest.approx((5 * abs(0.95 - 0.8) + 4 * 0.45) / 9)
    # In one bin the two errors are set against one another.
    whole = (5 * 0.95 + 4 * 0.45 - 4) / 9
    assert score_calibration(answer, truth, n_bins=1)[name] == pytest.approx(whole)
    assert score_calibration(answer.iloc[:4].assign(confidence=1.0), truth)[name] == 0
    assert np.isnan(score_calibration(answer.assign(cell_type="unknown"), truth)[name])


def test_clusters_that_malignant_cells_split_by_patient_cost_only_over_all_cells():
    truth = cells().assign(is_doublet=0, low_quality=0)
    private = truth["cell_type"].mask(truth["malignant"] == 1, "malignant in " + truth["library_id"])
    scores = score_clusters(truth[CELL].assign(cluster=private), truth)
    assert scores["clusters: ARI with types, cells that are not malignant"] == 1
    assert scores["clusters: ARI with types, all cells"] < 0.95
    one = score_clusters(truth[CELL].assign(cluster="c00"), truth)
    assert one["clusters: ARI with types, all cells"] == 0


def test_rand_index_by_hand():
    answer, truth = typed(["b_cell"] * 3 + ["t_reg"] * 3, "")
    answer["cluster"] = list("112222")
    # Pairs together in both 1 + 3, in types 6, in clusters 1 + 6, of 15: (4 - 2.8) / (6.5 - 2.8)
    scores = score_clusters(answer, truth.assign(malignant=0))
    assert scores["clusters: ARI with types, all cells"] == pytest.approx((4 - 6 * 7 / 15) / (6.5 - 6 * 7 / 15))


def basal_cells(patients):
    """Malignant cells: basal, classical and cycling ones of each patient."""
    rows = [
        (name, state)
        for name, numbers in patients.items()
        for state, n in zip(["mal_basal", "mal_classical", "mal_cycling"], numbers, strict=True)
        for _ in range(n)
    ]
    table = pd.DataFrame(rows, columns=["patient_id", "cell_state"])
    return table.assign(malignant=1, is_doublet=0, low_quality=0)


def test_basal_fraction_by_hand():
    # True shares .5, .25, .1 and 1; P5 has too few cells, P6 no answer.
    truth = basal_cells(
        {"P1": (10, 10, 5), "P2": (5, 15, 0), "P3": (2, 18, 1), "P4": (20, 0, 0), "P5": (9, 10, 0), "P6": (10, 10, 0)}
    )
    answer = pd.DataFrame(
        {"patient_id": [f"P{i}" for i in range(1, 7)], "fraction_basal": [0.4, 0.45, 0.1, 0.8, 0.0, np.nan]}
    )
    scores = score_basal(answer, truth)
    # Ranks 3 2 1 4 against 2 3 1 4
    assert scores["malignant: Spearman of basal fraction over patients"] == pytest.approx(0.8)
    assert scores["malignant: median absolute error of basal fraction"] == pytest.approx((0.1 + 0.2) / 2)
    assert scores["malignant: patients with a basal fraction"] == 0.8
    nothing = score_basal(answer.iloc[:0], truth)
    assert np.isnan(nothing["malignant: Spearman of basal fraction over patients"])


def test_tumours_without_copy_number_change_count_and_are_told_apart():
    truth = cells().assign(is_doublet=0, low_quality=0)
    answer = perfect(truth)
    blind = answer["cnv_score"].mask(answer["library_id"] == "L2", 0.5)
    scores = score_malignant(answer.assign(cnv_score=blind), truth, unchanged=["L2"])
    assert scores["malignant: AUROC of CNV score"] < 0.95
    assert scores["malignant: AUROC of CNV score, tumours with copy-number change"] == 1


def test_hard_cases_by_hand():
    few = [("L1", "b_cell")] * 4 + [("L1", "hepatocyte")] * 4
    rich = [("L2", "hepatocyte")] * 6 + [("L2", "t_reg")] * 4
    flat = [("L3", keys.MALIGNANT_TYPE)] * 5 + [("L3", keys.CHOLANGIOCYTE)] * 2
    own = [("L4", "b_cell")] * 2 + [("L4", "t_reg")] * 2
    truth = pd.DataFrame([*few, *rich, *flat, *own, ("L4", "novel_a")], columns=["library_id", "cell_type"])
    truth = truth.assign(barcode=[str(i) for i in range(len(truth))], is_doublet=0, low_quality=0)
    truth["compartment"] = truth["cell_type"].map(TYPES).fillna("lymphoid")
    truth["malignant"] = (truth["cell_type"] == keys.MALIGNANT_TYPE).astype(int)
    answer = truth[[*CELL, "cell_type", "compartment"]].assign(malignant="normal")
    answer.loc[14:17, ["cell_type", "compartment"]] = ["hepatocyte", "liver_parenchyma"]
    answer.loc[14:15, ["cell_type", "compartment"]] = ["t_reg", "lymphoid"]
    answer.loc[18, "malignant"] = "malignant"
    answer.loc[19:21, "cell_type"] = keys.UNCERTAIN_EPITHELIAL
    answer.loc[23, "malignant"] = "malignant"
    answer.loc[25:26, "cell_type"] = "t_reg"
    names = ["few_cells", "hepatocyte_rich", "no_copy_number", "own_chemistry"]
    cases = pd.DataFrame({"case": names, "library_id": ["L1", "L2", "L3", "L4"]})
    scores = score_hard_cells(answer.drop([0, 4]), truth, cases, known_types=TYPES, min_cells=2)
    # Two of eight cells were removed; the others have the right compartment.
    assert scores["hard, 60 cells: good cells annotated"] == 0.75
    assert scores["hard, 60 cells: macro-F1 of compartments"] == 1
    # Of four T cells two are called hepatocytes: precision 1, recall 1/2.
    assert scores["hard, 95 % hepatocytes: macro-F1 of compartments of the other cells"] == pytest.approx(2 / 3)
    assert scores["hard, no copy-number change: malignant cells called malignant"] == 0.2
    assert scores["hard, no copy-number change: malignant cells without a stated type"] == 0.6
    assert scores["hard, no copy-number change: cholangiocytes called malignant"] == 0.5
    # b_cell 0, t_reg precision 1/2 and recall 1
    assert scores["hard, own chemistry: macro-F1 of types"] == pytest.approx((0 + 2 / 3) / 2)
    without = score_hard_cells(answer, truth, cases.iloc[:0], known_types=TYPES, min_cells=2)
    assert np.isnan(without["hard, 60 cells: good cells annotated"])


def test_overlap_of_clusters_by_hand():
    # b_cell: C1 half in c1, half in c2; C2 all in c1; C3 (own chemistry) all in c3, and half of its t_reg in c4.
    truth = pd.DataFrame(
        {
            "library_id": ["L1"] * 4 + ["L2"] * 4 + ["L3"] * 4,
            "barcode": [str(i) for i in range(12)],
            "centre": ["C1"] * 4 + ["C2"] * 4 + ["C3"] * 4,
            "cell_type": ["b_cell"] * 2
            + ["t_reg"] * 2
            + ["b_cell"] * 2
            + ["t_reg"] * 2
            + ["b_cell"] * 2
            + ["t_reg"] * 2,
            "malignant": 0,
            "is_doublet": 0,
            "low_quality": 0,
        }
    )
    answer = truth[CELL].assign(cluster="c1 c2 c4 c4 c1 c1 c4 c4 c3 c3 c4 c5".split())
    cases = pd.DataFrame({"case": ["own_chemistry"], "library_id": ["L3"]})
    scores = score_hard_clusters(answer, truth, cases, min_cells=2)
    assert scores["hard, own chemistry: overlap of its clusters with the others"] == pytest.approx((0 + 0.5) / 2)
    assert scores["hard, own chemistry: overlap between ordinary centres"] == pytest.approx((0.5 + 1) / 2)
    fewer = score_hard_clusters(answer, truth, cases, min_cells=3)
    assert np.isnan(fewer["hard, own chemistry: overlap of its clusters with the others"])


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
    untested = pd.DataFrame([("P2", "8q", "not_tested")], columns=answer.columns)
    partly = score_arms(pd.concat([answer[answer["patient_id"] == "P1"], untested]), truth)
    assert partly["malignant: recall of arm events"] == 0.25
    assert partly["malignant: recall of arm events, patients tested"] == pytest.approx(1 / 3)
    # 9p is missed and 8q found; 18q11 and 18q21 are bands
    assert scores["malignant: recall of arm events, whole arms"] == 0.5
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


def test_intervals_are_scored_over_all_and_over_what_is_there():
    key = {"library_id": "L", "barcode": ["a", "a", "b", "b"], "cell_type": ["x", "y", "x", "y"]}
    known = pd.DataFrame({**key, "abundance": [0.9, 0.01, 0.5, 0.0]})
    answer = pd.DataFrame({**key, "abundance": 0.5, "ci_low": [0.8, 0.0, 0.6, 0.0], "ci_high": [1.0, 0.02, 0.9, 0.0]})
    assert list(score_intervals(answer, known).values()) == [0.75, 0.5]
    assert score_intervals(answer.drop(columns="ci_low"), known) == {}


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


def test_scores_of_bins_and_cells_carry_their_name():
    truth = pd.DataFrame(
        {
            "library_id": "L1",
            "barcode": list("abcd"),
            "signed_distance_um": [-600.0, -100.0, 100.0, 600.0],
            "zone": ["core", "margin", "margin", "peritumoral"],
            "planted_niche": [0, 1, 0, 0],
        }
    )
    answer = truth.assign(signed_distance_um=truth["signed_distance_um"] + 30, niche=list("xyxx"))
    cells = score_zones(answer, truth, kind="cell") | score_niche(answer, truth, kind="cell")
    assert cells["zones, single cells: median absolute distance error (um)"] == 30
    assert cells["zones, single cells: cells with a distance"] == 1
    assert cells["niche, single cells: F1 of the planted niche"] == 1
    assert score_zones(answer, truth, kind="bin")["zones, bins: kappa"] == 1
    shares = abundance(50)
    bins = score_abundance(shares, shares, compartments=TYPES, min_mean=0.01, kind="bin")
    assert bins["abundance, bins: median Spearman of compartments"] == pytest.approx(1)
    assert bins["abundance, bins: median JSD of bins"] == pytest.approx(0, abs=1e-12)
    table = pd.DataFrame({"library_id": ["N1"], "type_a": ["a"], "type_b": ["b"], "z": [3.0]})
    name = "niche, single cells: pairs called in the negative control"
    assert score_negative_control(table, libraries=["N1"], kind="cell")[name] == 1


def test_border_error_by_hand():
    truth = pd.DataFrame(
        {
            "library_id": ["L1"] * 4 + ["L2"] * 3 + ["L3"] * 2 + ["L4"],
            "barcode": list("abcdefghij"),
            "signed_distance_um": [-400.0, -10.0, 90.0, 900.0, 50.0, 60.0, 70.0, -100.0, 100.0, np.nan],
        }
    )
    shift = [20.0, -40.0, 60.0, 5000.0, 10.0, 10.0, 90.0, np.nan, np.nan, 1.0]
    answer = truth.assign(signed_distance_um=truth["signed_distance_um"] + shift)
    sections = pd.DataFrame({"library_id": ["L1", "L2", "L3", "L4"], "pathologist": [0, 1, 0, 0]})
    scores = score_border(answer, truth, sections)
    # what lies 900 um off tells nothing of the border; L3 has no border in the answer and L4 none in truth
    assert scores["border: median error, from expression (um)"] == 40
    assert scores["border: median error, drawn by a pathologist (um)"] == 10
    assert scores["border: sections with a border that got one"] == pytest.approx(2 / 3)
    assert np.isnan(score_border(answer, truth.iloc[:0], sections)["border: median error, from expression (um)"])


def test_cell_labels_by_hand():
    true = ["b_cell"] * 4 + ["t_reg"] * 4 + ["novel_a"] * 2
    given = ["b_cell", "b_cell", "t_reg", "unknown", "t_reg", "t_reg", "t_reg", "unknown", "unknown", "b_cell"]
    answer, truth = typed(true, given)
    truth["compartment"] = "lymphoid"
    answer["compartment"] = ["lymphoid"] * 3 + ["unknown"] + ["lymphoid"] * 4 + ["unknown", "lymphoid"]
    scores = score_cell_labels(answer, truth, known_types=TYPES, min_cells=1)
    # with a label: b_cell 2 of 3 and never given wrongly (.8), t_reg 3 of 3 and one wrong (6/7)
    assert scores["imaging: macro-F1 of types, cells with a label"] == pytest.approx((0.8 + 6 / 7) / 2)
    assert scores["imaging: macro-F1 of compartments, cells with a label"] == 1
    assert scores["imaging: abstention from types"] == 0.25
    assert scores["imaging: abstention from compartments"] == 0.125
    assert scores["imaging: cells of no known type called unknown"] == 0.5
    nobody = score_cell_labels(answer.iloc[:0], truth, known_types=TYPES, min_cells=1)
    assert all(np.isnan(value) for value in nobody.values())


def test_growth_patterns_by_hand():
    sections = pd.DataFrame(
        {
            "library_id": ["B1", "B2", "B3", "C1", "C2", "N1"],
            "hgp": ["pushing", "replacement", "desmoplastic", "pushing", "replacement", None],
            "interface_mm": [2.5, 2.1, 3.0, 0.9, 1.0, 0.0],
            "shape": ["block", "block", "block", "core", "core", "block"],
        }
    )
    given = ["pushing", "pushing", "", "pushing", "", "replacement"]
    answer = pd.DataFrame({"library_id": sections["library_id"], "growth_pattern": given})
    scores = score_growth(answer, sections, least_mm=2.0)
    assert scores["growth pattern: accuracy of calls"] == pytest.approx(2 / 3)
    assert scores["growth pattern: sections with 2 mm of border that got a call"] == pytest.approx(2 / 3)
    assert scores["growth pattern: needle cores refused"] == 0.5
    assert scores["growth pattern: sections without a border refused"] == 0
    missing = score_growth(answer.iloc[:0], sections, least_mm=2.0)
    assert np.isnan(missing["growth pattern: accuracy of calls"])
    assert missing["growth pattern: sections with 2 mm of border that got a call"] == 0


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
