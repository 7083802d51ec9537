"""Features: counts are summed before fractions are taken, zeros are written, and nothing is lost without a reason."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from livermet import features as ft
from livermet.files import read_table, write_table

LIBRARIES = [
    {
        "library_id": "A1",
        "patient_id": "A",
        "timepoint": "T0_pre",
        "tissue": "liver_met",
        "modality": "scrna",
        "centre": "x",
    },
    {
        "library_id": "A2",
        "patient_id": "A",
        "timepoint": "T0_pre",
        "tissue": "liver_met",
        "modality": "scrna",
        "centre": "x",
    },
    {
        "library_id": "A3",
        "patient_id": "A",
        "timepoint": "T0_pre",
        "tissue": "liver_met",
        "modality": "snrna",
        "centre": "x",
    },
    {
        "library_id": "B1",
        "patient_id": "B",
        "timepoint": "T0_pre",
        "tissue": "liver_met",
        "modality": "scrna",
        "centre": "y",
    },
]
COMPARTMENTS = {
    "tam_SPP1": "myeloid",
    "kupffer": "myeloid",
    "t_reg": "lymphoid",
    "b_cell": "lymphoid",
    "malignant_ductal": "epithelial",
    "unknown": "unknown",
}


def cells(numbers):
    """obs from {library: {type: number of cells}}."""
    rows = [
        {"library_id": library, "cell_type": name, "compartment": COMPARTMENTS[name]}
        for library, counts in numbers.items()
        for name, n in counts.items()
        for _ in range(n)
    ]
    obs = pd.DataFrame(rows, columns=["library_id", "cell_type", "compartment"])
    return ft.with_library_fields(obs, LIBRARIES)


def value(table, patient, family, feature, modality="scrna"):
    rows = table[
        (table["patient_id"] == patient)
        & (table["family"] == family)
        & (table["feature"] == feature)
        & (table["modality"] == modality)
    ]
    assert len(rows) == 1
    return rows.iloc[0]


EXAMPLE = {
    "A1": {"tam_SPP1": 90, "t_reg": 10},
    "A2": {"kupffer": 10, "t_reg": 30, "unknown": 60},
    "A3": {"kupffer": 5, "b_cell": 5},
    "B1": {"t_reg": 20, "b_cell": 20},
}


def test_counts_are_summed_over_libraries_before_fractions_are_taken():
    table, _ = ft.composition_features(cells(EXAMPLE))
    row = value(table, "A", "composition_type", "tam_SPP1")
    assert row["value"] == pytest.approx(90 / 200)  # the mean of the two fractions would be 0.45 / 1 + 0 = 0.45 too
    assert value(table, "A", "composition_type", "t_reg")["value"] == pytest.approx(40 / 200)
    assert row["n_cells"] == 200
    uneven, _ = ft.composition_features(cells({"A1": {"t_reg": 10}, "A2": {"t_reg": 10, "b_cell": 80}}))
    assert value(uneven, "A", "composition_type", "t_reg")["value"] == pytest.approx(0.2)  # not (1 + 1/9) / 2


def test_zeros_are_explicit_and_fractions_sum_to_one_per_modality():
    table, left_out = ft.composition_features(cells(EXAMPLE))
    assert value(table, "B", "composition_type", "tam_SPP1")["value"] == 0
    assert value(table, "A", "composition_type", "tam_SPP1", "snrna")["value"] == 0
    sums = table.groupby(["patient_id", "modality", "family"])["value"].sum()
    np.testing.assert_allclose(sums, 1)
    types = table[table["family"] == "composition_type"]
    assert (types.groupby(["patient_id", "modality"]).size() == 5).all()
    assert set(table["modality"]) == {"scrna", "snrna"}
    assert value(table, "A", "composition_type", "unknown")["value"] == pytest.approx(0.3)
    lost = left_out[left_out["patient_id"] == "B"]
    assert list(lost["family"]) == ["composition_within_myeloid"]
    assert list(lost["reason"]) == ["no cells"]


def test_within_a_compartment_other_compartments_do_not_matter():
    small, _ = ft.composition_features(cells({"A1": {"tam_SPP1": 30, "kupffer": 10, "t_reg": 5, "b_cell": 5}}))
    large, _ = ft.composition_features(cells({"A1": {"tam_SPP1": 30, "kupffer": 10, "t_reg": 500, "b_cell": 5}}))
    for table in (small, large):
        row = value(table, "A", "composition_within_myeloid", "tam_SPP1")
        assert row["value"] == pytest.approx(0.75)
        assert row["n_cells"] == 40


def test_categories_and_cell_order_do_not_matter():
    obs = cells(EXAMPLE)
    plain, _ = ft.composition_features(obs)
    shuffled = obs.sample(frac=1, random_state=0).astype("category")
    shuffled["cell_type"] = shuffled["cell_type"].cat.add_categories(["never_seen"])
    other, _ = ft.composition_features(shuffled)
    pd.testing.assert_frame_equal(plain, other)


def test_no_cells_gives_empty_tables():
    table, left_out = ft.composition_features(cells({}))
    assert list(table.columns) == ft.FEATURE_COLUMNS
    assert list(left_out.columns) == ft.LEFT_OUT_COLUMNS
    assert table.empty
    assert left_out.empty


def malignant_table():
    """Rows of malignant.tsv: A with all values, B without PurIST, C with too few cells."""
    base = {"timepoint": "T0_pre", "tissue": "liver_met", "modality": "scrna", "purist_reason": "", "reason": ""}
    stated = {"n_malignant": 30, "n_subtyped": 20.5, "fraction_basal": 0.25, "fraction_basal_low": 0.1}
    stated |= {"fraction_classical": 0.7, "fraction_mal_basal": 0.4, "score_mal_basal": 1.0, "purist_logit": -2.0}
    few = {"n_malignant": 19, "reason": "19 malignant cells, 20 needed"}
    without = {"purist_logit": np.nan, "purist_reason": "3 informative gene pairs of PurIST, 5 needed"}
    rows = [base | stated | {"patient_id": "A"}, base | stated | without | {"patient_id": "B"}]
    return pd.DataFrame([*rows, base | few | {"patient_id": "C"}]).assign(score_mal_unscored=np.nan)


def test_malignant_states_come_from_their_table_and_what_is_missing_says_why():
    table, left_out = ft.malignant_state_features(malignant_table())
    found = table[table["patient_id"] == "A"].set_index("feature")
    assert found["value"].to_dict() == {
        "score_mal_basal": 1.0,
        "fraction_basal": 0.25,
        "fraction_mal_basal": 0.4,
        "purist_logit": -2.0,
    }
    assert found["unit"].to_dict()["purist_logit"] == "logit"
    assert set(table["n_cells"]) == {30}
    assert set(table["patient_id"]) == {"A", "B"}
    assert "purist_logit" not in set(table.loc[table["patient_id"] == "B", "feature"])
    assert left_out[["patient_id", "feature", "reason"]].to_numpy().tolist() == [
        ["C", "", "19 malignant cells, 20 needed"],
        ["B", "purist_logit", "3 informative gene pairs of PurIST, 5 needed"],
    ]
    ft.combine([(table, left_out)])


def test_malignant_states_without_enough_malignant_cells():
    table, left_out = ft.malignant_state_features(malignant_table().iloc[2:])
    assert table.empty
    assert left_out["patient_id"].tolist() == ["C"]
    nothing, _ = ft.malignant_state_features(malignant_table().iloc[:0])
    assert nothing.empty


def test_niche_fractions_over_all_sections():
    spots = pd.DataFrame(
        {"library_id": ["A1"] * 3 + ["A2"] * 5 + ["B1"] * 2, "niche": ["n1"] * 3 + ["n2"] * 5 + ["n1"] * 2}
    )
    table, _ = ft.niche_features(ft.with_library_fields(spots, LIBRARIES))
    assert value(table, "A", "niche", "n1")["value"] == pytest.approx(3 / 8)
    assert value(table, "B", "niche", "n2")["value"] == 0


def section(library, margin, core, n):
    """n spots per zone with the given abundance of tam_SPP1 in each."""
    frame = pd.DataFrame(
        {"library_id": library, "zone": ["margin"] * n + ["core"] * n, "tam_SPP1": [margin] * n + [core] * n}
    )
    return frame.assign(t_reg=1 - frame["tam_SPP1"])


def test_zone_ratio_has_the_planted_size_and_small_sections_are_left_out():
    spots = pd.concat([section("A1", 0.4, 0.1, 200), section("A2", 0.01, 0.9, 5), section("B1", 0.2, 0.2, 10)])
    spots = ft.with_library_fields(spots, LIBRARIES)
    table, left_out = ft.zone_features(spots, min_spots=20, min_cells=20)
    row = value(table, "A", "zone", "tam_SPP1")
    assert row["value"] == pytest.approx(2, abs=0.05)
    assert row["n_cells"] == 400
    assert set(table["patient_id"]) == {"A"}
    assert list(left_out["patient_id"]) == ["A", "B"]
    assert "section A2" in left_out["reason"].iloc[0]
    cells, left_out = ft.zone_features(spots.assign(modality="xenium"), min_spots=20, min_cells=201)
    assert cells.empty and "fewer than 201 cells or bins" in left_out["reason"].iloc[0]
    visium, _ = ft.zone_features(spots.assign(modality="visium"), min_spots=20, min_cells=201)
    assert len(visium) == len(table)


def test_zone_ratio_of_an_absent_type_is_zero():
    spots = ft.with_library_fields(section("A1", 0.0, 0.0, 50), LIBRARIES)
    table, _ = ft.zone_features(spots, min_spots=20, min_cells=20)
    assert value(table, "A", "zone", "tam_SPP1")["value"] == pytest.approx(0)
    nothing, _ = ft.zone_features(spots.iloc[:0], min_spots=20, min_cells=20)
    assert nothing.empty


def test_sections_are_stacked_with_their_abundances():
    obs = pd.DataFrame({"library_id": "A1", "zone": pd.Categorical(["core", "margin"])}, index=["a", "b"])
    section = ad.AnnData(sparse.csr_matrix((2, 3)), obs=obs)
    section.obsm["abundance"] = np.array([[0.25, 0.75], [1, 0]], dtype="float32")
    section.uns["abundance_types"] = np.array(["tam_SPP1", "t_reg"], dtype=object)
    one = ft.section_spots(section)
    stacked = ft.stack_sections([one, one.rename(columns={"t_reg": "b_cell"}), one.iloc[:0]])
    assert stacked["t_reg"].tolist() == [0.75, 0, 0, 0]
    assert stacked["zone"].tolist() == ["core", "margin"] * 2
    nothing, _ = ft.zone_features(ft.with_library_fields(ft.stack_sections([]), LIBRARIES), min_spots=20, min_cells=20)
    assert nothing.empty


def test_interactions_not_detected_are_zero_and_unknown_ones_left_out():
    base = {
        "timepoint": "T0_pre",
        "tissue": "liver_met",
        "modality": "scrna",
        "sender": "tam_SPP1",
        "receiver": "malignant_ductal",
    }
    base |= {"ligand": "SPP1", "receptor": "CD44", "n_sender": 40, "n_receiver": 25}
    rows = [
        {**base, "patient_id": "A", "magnitude": 0.7, "status": "scored"},
        {**base, "patient_id": "B", "magnitude": np.nan, "status": "not_detected"},
        {**base, "patient_id": "C", "magnitude": np.nan, "status": "too_few_cells"},
    ]
    table, left_out = ft.interaction_features(pd.DataFrame(rows))
    assert dict(zip(table["patient_id"], table["value"], strict=True)) == {"A": 0.7, "B": 0.0}
    assert table["feature"].unique().tolist() == ["tam_SPP1|malignant_ductal|SPP1|CD44"]
    assert table["n_cells"].tolist() == [25, 25]
    assert left_out[["patient_id", "reason"]].to_numpy().tolist() == [["C", "too few cells"]]


def test_interactions_among_cells_of_blood_are_left_out():
    names = {"sender": "mono", "receiver": "t_cell", "ligand": "IL1B", "receptor": "IL1R1"}
    place = {"patient_id": "A", "timepoint": "T0_pre", "tissue": "blood_pbmc", "modality": "scrna"}
    rows = pd.DataFrame([{**place, **names, "n_sender": 40, "n_receiver": 25, "magnitude": 0.7, "status": "scored"}])
    table, left_out = ft.interaction_features(rows)
    assert table.empty
    assert left_out[["modality", "reason"]].to_numpy().tolist() == [["pbmc", "cells of blood have no neighbours"]]


def test_cells_of_blood_are_a_modality_of_their_own_and_never_pooled():
    tumour = cells({"A1": {"tam_SPP1": 30, "b_cell": 10}})
    of_blood = cells({"A2": {"kupffer": 5, "b_cell": 95}}).assign(tissue="blood_pbmc")
    table, _ = ft.composition_features(pd.concat([tumour, of_blood], ignore_index=True))
    assert set(zip(table["tissue"], table["modality"], strict=True)) == {("liver_met", "scrna"), ("blood_pbmc", "pbmc")}
    assert value(table, "A", "composition_type", "b_cell")["value"] == 0.25
    own = value(table, "A", "composition_type", "b_cell", modality="pbmc")
    assert (own["value"], own["n_cells"]) == (0.95, 100)
    without = cells({"A1": {"tam_SPP1": 30, "b_cell": 10}})
    alone, _ = ft.composition_features(without)
    kept = table[(table["modality"] == "scrna") & (table["value"] > 0)].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, alone[alone["value"] > 0].reset_index(drop=True))


def test_no_states_are_stated_of_malignant_cells_in_blood():
    table, left_out = ft.malignant_state_features(malignant_table().iloc[:1].assign(tissue="blood_pbmc"))
    assert table.empty
    assert left_out[["modality", "reason"]].to_numpy().tolist() == [
        ["pbmc", "no states are stated of malignant cells in blood"]
    ]


def activity_table():
    """Rows of activity.tsv: two profiles of a type with two sets, of which one has too few genes."""
    place = {"timepoint": "T0_pre", "tissue": "liver_met", "modality": "scrna", "cell_type": "tam_SPP1"}
    rows = [
        {**place, "patient_id": patient, "set": name, "kind": "pathway", "activity": given, "p": 0.5, "n_genes": n}
        for patient, first in (("A", 1.5), ("B", -1.5))
        for name, given, n in (("Hypoxia", first, 30), ("JAK-STAT", np.nan, 3))
    ]
    return pd.DataFrame(rows).assign(activity_among_types=0.0)


def test_activity_is_a_feature_of_type_and_set_with_the_cells_behind_it():
    obs = pd.concat([cells({"A1": {"tam_SPP1": 30, "b_cell": 9}}), cells({"B1": {"tam_SPP1": 20}})])
    table, left_out = ft.activity_features(activity_table(), obs)
    assert table[["patient_id", "family", "feature", "value", "n_cells", "source"]].to_numpy().tolist() == [
        ["A", "activity", "tam_SPP1|Hypoxia", 1.5, 30, "activity.tsv"],
        ["B", "activity", "tam_SPP1|Hypoxia", -1.5, 20, "activity.tsv"],
    ]
    assert left_out["feature"].tolist() == ["tam_SPP1|JAK-STAT"] * 2
    ft.combine([(table, left_out)])
    empty, nothing = ft.activity_features(activity_table().iloc[:0], obs)
    assert empty.empty and nothing.empty


def test_no_step_before_the_tests_takes_a_label():
    rule = (Path(__file__).parents[2] / "workflow" / "rules" / "differential.smk").read_text(encoding="utf-8")
    activity = rule[rule.index("rule score_activity") : rule.index("rule differential_expression")]
    features = (Path(__file__).parents[2] / "workflow" / "rules" / "features.smk").read_text(encoding="utf-8")
    for text in (activity, features[features.index("rule collect_features") :]):
        assert "/labels.tsv" not in text and "response" not in text


def blood(*rows):
    """Rows of (patient_id, day, analyte, value, unit) and, where given, censor and gcsf."""
    columns = ["patient_id", "day", "analyte", "value", "unit", "censor", "gcsf"]
    table = pd.DataFrame([[*row, *[None] * (len(columns) - len(row))] for row in rows], columns=columns)
    return table.astype({"day": "Int64", "value": float, "gcsf": "Int64"})


def blood_features(*rows, courses=(), operations=(), windows=None):
    treatment = pd.DataFrame(courses, columns=["patient_id", "regimen", "start_day"])
    local = pd.DataFrame(operations, columns=["patient_id", "day", "type"])
    return ft.blood_features(blood(*rows), treatment, local, windows=windows or {})


def at(table, patient, timepoint):
    rows = table[(table["patient_id"] == patient) & (table["timepoint"] == timepoint)]
    return dict(zip(rows["feature"], rows["value"], strict=True))


def why(left_out, timepoint):
    rows = left_out[left_out["timepoint"] == timepoint]
    return dict(zip(rows["feature"], rows["reason"], strict=True))


def test_blood_baseline_is_the_last_usable_value_before_treatment():
    table, left_out = blood_features(
        ("A", -40, "ca199", 9.0, "U/mL", ""),
        ("A", 0, "ca199", 256.0, "kU/L", ""),
        ("A", 5, "ca199", 512.0, "U/mL", "="),
        ("A", 6, "ca199", 2.0, "U/mL", "<"),
        ("A", 8, "ca199", 1.0, "U/mL", ""),
        ("B", 0, "ca199", 64.0, "U/mL", ""),
        ("B", 1, "ca199", 4.0, "U/mL", ""),
        ("B", -3, "alp", 4.0, "furlongs", ""),
        ("B", -3, "cea", 2.0, "ng/mL", "<"),
        ("B", -3, "crp", 16.0, "mg/L", ""),
        ("B", -3, "il6", 8.0, "pg/mL", ""),
        courses=[("A", "x", 7), ("A", "x", 60)],
    )
    assert at(table, "A", "T0_pre") == {"ca199": 9}  # log2 of 512, two days before the start
    assert at(table, "B", "T0_pre") == {"ca199": 6, "crp": 4, "il6": 3}  # no course of the study: days from enrolment
    assert value(table, "B", "blood", "ca199", "blood")["unit"] == "log2 U/mL"
    assert value(table, "B", "blood", "il6", "blood")["unit"] == "log2 pg/mL"
    reasons = why(left_out[left_out["patient_id"] == "B"], "T0_pre")
    assert "'furlongs' is not understood for alp" in reasons.pop("alp")
    assert reasons == {"cea": "censored value"}
    assert why(left_out[left_out["patient_id"] == "A"], "T0_pre") == {"ca199": "censored value"}
    assert set(table["timepoint"]) == {"T0_pre"} and set(table["tissue"]) == set(table["modality"]) == {"blood"}
    assert list(table.columns) == ft.FEATURE_COLUMNS and list(left_out.columns) == ft.LEFT_OUT_COLUMNS


def test_blood_features_are_the_same_from_files(tmp_path):
    rows = [("A", 0, "ca199", 64.0, "U/mL", "="), ("A", 0, "crp", None, "mg/L"), ("A", 60, "crp", 5.0, "mg/L", "", 1)]
    courses = pd.DataFrame([("A", "x", 3)], columns=["patient_id", "regimen", "start_day"])
    tables = [blood(*rows), courses, pd.DataFrame(columns=["patient_id", "day", "type"])]
    read = []
    for i, table in enumerate(tables):
        write_table(table, tmp_path / f"{i}.tsv")
        read.append(read_table(tmp_path / f"{i}.tsv"))
    direct, left_out = ft.blood_features(*tables, windows={})
    assert at(direct, "A", "T0_pre") == {"ca199": 6} and why(left_out, "T0_pre")["crp"] == "value missing"
    from_files = ft.blood_features(*read, windows={})
    pd.testing.assert_frame_equal(from_files[0], direct)
    pd.testing.assert_frame_equal(from_files[1], left_out)


def test_blood_is_in_canonical_units():
    table, _ = blood_features(
        ("A", 0, "albumin", 3.8, "g/dL"),
        ("B", 0, "albumin", 38.0, "g/L"),
        ("A", 0, "bilirubin", 1.0, "mg/dL"),
        ("A", 0, "ldh", 3.5, "µkat/L"),
        ("A", 0, "cea", 8.0, "ng/mL"),
    )
    logs = {"bilirubin": pytest.approx(np.log2(17.1)), "ldh": pytest.approx(np.log2(210)), "cea": 3}
    assert at(table, "A", "T0_pre") == {"albumin": 38, **logs}
    assert at(table, "B", "T0_pre") == {"albumin": 38}
    units = dict(zip(table["feature"], table["unit"], strict=True))
    assert units == {"albumin": "g/L", "bilirubin": "log2 umol/L", "ldh": "log2 U/L", "cea": "log2 ug/L"}


def test_blood_of_each_timepoint_with_indices_of_one_draw():
    days = {"T0_pre": 5, "T1_reeval": 61, "T2_preop": 140, "T4_postop": 185}
    rows = [
        ("A", day, analyte, number, unit)
        for i, day in enumerate(days.values())
        for analyte, number, unit in (("neutrophils", 2.0**i, "10^9/L"), ("lymphocytes", 500.0, "cells/uL"))
    ]
    table, left_out = blood_features(*rows, courses=[("A", "x", 5)], operations=[("A", 150, "liver_resection")])
    for i, timepoint in enumerate(days):
        assert at(table, "A", timepoint) == {"neutrophils": i, "lymphocytes": -1, "nlr": i + 1}
    unoperated, left_out = blood_features(*rows, courses=[("A", "x", 5)])
    assert set(unoperated["timepoint"]) == {"T0_pre", "T1_reeval"} and left_out.empty
    shifted, _ = blood_features(*rows, courses=[("A", "x", 5)], windows={"T1_from_treatment": [130, 140]})
    assert at(shifted, "A", "T1_reeval")["nlr"] == 3
    assert at(shifted, "A", "T0_pre")["nlr"] == 1  # a window that the trial doesn't give is the usual one


def test_blood_without_value_in_a_window_is_left_out_with_the_days():
    _, left_out = blood_features(("A", 0, "crp", 4.0, "mg/L"), ("A", 60, "cea", 4.0, "ug/L"))
    assert why(left_out, "T1_reeval")["crp"] == "no value from day 35 to 77 of treatment"
    assert why(left_out, "T0_pre")["cea"] == "no value from day -28 to 0 of treatment"


def test_blood_after_gcsf_says_nothing_of_neutrophils():
    rows = [("A", -9, "neutrophils", 4.0, "10^9/L"), ("A", -9, "lymphocytes", 1.0, "10^9/L")]
    late = [("A", -1, "neutrophils", 30.0, "10^9/L", "", 1), ("A", -1, "lymphocytes", 2.0, "10^9/L", "", 1)]
    table, left_out = blood_features(*rows, *late)
    assert at(table, "A", "T0_pre") == {"neutrophils": 2, "nlr": 2, "lymphocytes": 1}
    reasons = why(left_out, "T0_pre")
    assert "G-CSF" in reasons["neutrophils"] and "G-CSF" in reasons["nlr"] and "lymphocytes" not in reasons


def test_blood_of_an_analyte_in_two_units_is_left_out_and_an_empty_table_is_defined():
    table, left_out = blood_features(("A", 0, "il6", 3.0, "pg/mL"), ("B", 0, "il6", 3.0, "ng/L"))
    assert table.empty
    reasons = left_out.loc[left_out["timepoint"] == "T0_pre", "reason"]
    assert reasons.str.contains("expected one unit throughout").tolist() == [True, True]
    for part in blood_features():
        assert part.empty
    assert ft.combine([blood_features()])[0].columns.tolist() == ft.FEATURE_COLUMNS


def test_a_signed_analyte_without_recipe_is_compared_as_it_is_in_every_patient():
    rows = [
        ("A", 0, "base_excess", -2.0, "mmol/L"),
        ("B", 0, "base_excess", 4.0, "mmol/L"),
        ("B", 0, "crp", 0.0, "mg/L"),
    ]
    table, left_out = blood_features(*rows)
    assert at(table, "A", "T0_pre") == {"base_excess": -2} and at(table, "B", "T0_pre") == {"base_excess": 4}
    assert set(table["unit"]) == {"mmol/L"}
    assert why(left_out, "T0_pre") == {"crp": "zero or negative, no logarithm"}


def test_combine_refuses_a_patient_that_counts_twice():
    part = ft.composition_features(cells(EXAMPLE))
    with pytest.raises(ValueError, match="stands twice"):
        ft.combine([part, part])
