"""Features: counts are summed before fractions are taken, zeros are written, and nothing is lost without a reason."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from livermet import features as ft

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


def malignant_obs():
    obs = cells({"A1": {"malignant_ductal": 30, "t_reg": 5}, "B1": {"malignant_ductal": 19}})
    obs["malignant"] = np.where(obs["cell_type"] == "malignant_ductal", "malignant", "normal")
    obs["cell_state"] = np.where(np.arange(len(obs)) < 12, "mal_basal", "mal_classical")
    obs["score_mal_basal"] = np.where(obs["malignant"] == "malignant", 1.0, 100.0)
    obs["score_mal_classical"] = np.arange(len(obs), dtype=float)
    return obs


def test_malignant_states_use_malignant_cells_only_and_need_enough_of_them():
    states = ["mal_basal", "mal_classical", "mal_without_score"]
    table, left_out = ft.malignant_state_features(malignant_obs(), states=states, min_cells=20)
    assert value(table, "A", "malignant_state", "score_mal_basal")["value"] == 1
    assert value(table, "A", "malignant_state", "fraction_mal_basal")["value"] == pytest.approx(12 / 30)
    assert value(table, "A", "malignant_state", "fraction_mal_classical")["n_cells"] == 30
    assert "B" not in set(table["patient_id"])
    assert left_out[["patient_id", "reason"]].to_numpy().tolist() == [["B", "fewer than 20 malignant cells"]]
    assert not table["feature"].str.contains("without_score").any()


def test_malignant_states_without_malignant_cells():
    obs = malignant_obs().assign(malignant="not_tested")
    table, left_out = ft.malignant_state_features(obs, states=["mal_basal"], min_cells=20)
    assert table.empty
    assert sorted(left_out["patient_id"]) == ["A", "B"]
    empty, _ = ft.malignant_state_features(obs.iloc[:0], states=["mal_basal"], min_cells=20)
    assert empty.empty


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
    table, left_out = ft.zone_features(spots, min_spots=20)
    row = value(table, "A", "zone", "tam_SPP1")
    assert row["value"] == pytest.approx(2, abs=0.05)
    assert row["n_cells"] == 400
    assert set(table["patient_id"]) == {"A"}
    assert list(left_out["patient_id"]) == ["A", "B"]
    assert "section A2" in left_out["reason"].iloc[0]


def test_zone_ratio_of_an_absent_type_is_zero():
    spots = ft.with_library_fields(section("A1", 0.0, 0.0, 50), LIBRARIES)
    table, _ = ft.zone_features(spots, min_spots=20)
    assert value(table, "A", "zone", "tam_SPP1")["value"] == pytest.approx(0)
    nothing, _ = ft.zone_features(spots.iloc[:0], min_spots=20)
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
    nothing, _ = ft.zone_features(ft.with_library_fields(ft.stack_sections([]), LIBRARIES), min_spots=20)
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


def blood(*rows):
    table = pd.DataFrame(rows, columns=["patient_id", "day", "analyte", "value", "unit", "censor"])
    return table.astype({"day": "Int64"})


def test_blood_baseline_is_the_last_usable_value_before_treatment():
    table, left_out = ft.blood_features(
        blood(
            ("A", -40, "ca199", 9.0, "U/mL", ""),
            ("A", 0, "ca199", 256.0, "kU/L", ""),
            ("A", 5, "ca199", 512.0, "U/mL", "="),
            ("A", 8, "ca199", 1.0, "U/mL", ""),
            ("B", 0, "ca199", 64.0, "U/mL", ""),
            ("B", 1, "ca199", 4.0, "U/mL", ""),
            ("B", -3, "albumin", 4.0, "g/dL", ""),
            ("B", -3, "cea", 2.0, "ng/mL", "<"),
            ("B", -3, "crp", 12.0, "mg/L", ""),
            ("B", -3, "il6", 3.0, "pg/mL", ""),
        ),
        pd.DataFrame({"patient_id": ["A", "A"], "start_day": [7, 60]}),
    )
    assert value(table, "A", "blood", "ca199", "blood")["value"] == 9  # log2 of 512, two days before the start
    assert value(table, "B", "blood", "ca199", "blood")["value"] == 6  # no treatment row: days from enrolment
    assert value(table, "B", "blood", "ca199", "blood")["unit"] == "log2 U/mL"
    assert value(table, "B", "blood", "crp", "blood")["value"] == 12
    assert value(table, "B", "blood", "il6", "blood")["unit"] == "pg/mL"
    reasons = dict(zip(left_out["feature"], left_out["reason"], strict=True))
    assert reasons == {"albumin": "unit 'g/dL', expected g/L", "cea": "censored value"}
    assert set(table["timepoint"]) == {"T0_pre"}


def test_blood_of_an_analyte_in_two_units_is_left_out_and_an_empty_table_is_defined():
    table, left_out = ft.blood_features(
        blood(("A", 0, "il6", 3.0, "pg/mL", ""), ("B", 0, "il6", 3.0, "ng/L", "")),
        pd.DataFrame({"patient_id": [], "start_day": []}),
    )
    assert table.empty
    assert len(left_out) == 2
    empty, _ = ft.blood_features(blood(), pd.DataFrame({"patient_id": [], "start_day": []}))
    assert empty.empty


def test_combine_refuses_a_patient_that_counts_twice():
    part = ft.composition_features(cells(EXAMPLE))
    with pytest.raises(ValueError, match="stands twice"):
        ft.combine([part, part])
