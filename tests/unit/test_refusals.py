"""Refusals R01 to R19: each fires with its reason and what would lift it, and each has a case in which it doesn't.

The names of the tests say which: ``test_r05_fires...`` and ``test_r05_spares...``; the last test checks that none is
missing. Longer tests of single codes stand beside what they concern (test_response.py, test_landmark.py, test_blood.py).
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cohorts import CONFIG, composition, feature_rows, ids, labels_table, patients_table
from livermet import features, refusals, response
from livermet.catalogue import label_timepoints
from livermet.verdict import verdict
from test_blood import SCAN, START, bilirubin, course, draw

DESIGN = Path(__file__).parents[2] / "docs" / "design.md"


def run(table, y, centre=None, *, labels=None, patients=None, scope="cohort", earlier_looks=0, signature=(), **changes):
    config = {**CONFIG, **changes}
    centre = np.zeros(len(y), int) if centre is None else centre
    return response.associate(
        table,
        labels_table(y) if labels is None else labels,
        patients_table([f"C{c}" for c in centre]) if patients is None else patients,
        config=config,
        goes_with=label_timepoints(config["primary_label"], {config["primary_label"]: {}}),
        scope=scope,
        seed=1,
        earlier_looks=earlier_looks,
        signature=signature,
    )


def study(n_alt=8, n_ref=10, *, parts=2, family="zone", seed=0, **options):
    y = np.r_[np.ones(n_alt, int), np.zeros(n_ref, int)]
    return feature_rows(np.random.default_rng(seed).normal(size=(len(y), parts)), family=family, **options), y


def codes(table):
    return set(table["refusal_code"]) - {""}


def fired(table, code):
    """Every row is refused with the code, says what lifts it, and shows no number."""
    assert len(table)
    assert codes(table) == {code}
    assert (table["status"] == "refused").all()
    assert table["refusal_reason"].str.contains("Lifted by").all()
    assert table[["effect", "p", "q"]].isna().all(axis=None)


def spared(table):
    assert len(table)
    assert (table["status"] == "tested").all()
    assert codes(table) == set()


def declared(*names, family="zone"):
    return [{"modality": "scrna", "family": family, "feature": name} for name in names]


def times(n, n_events, *, seed=0):
    return labels_table(
        np.random.default_rng(seed).permutation(n) + 30, name="os", kind="survival", events=np.arange(n) < n_events
    )


def test_r01_fires_with_two_patients_in_a_class():
    fired(run(*study(2, 10)), "R01")


def test_r01_spares_three_patients_in_each_class():
    spared(run(*study(3, 10)))


def test_r01_fires_with_four_events():
    table, y = study(10, 10)
    fired(run(table, y, labels=times(20, 4), primary_label="os"), "R01")


def test_r01_spares_five_events_with_a_badge_and_ten_without():
    table, y = study(10, 10)
    for n_events, badge in [(5, True), (10, False)]:
        found = run(table, y, labels=times(20, n_events), primary_label="os")
        spared(found)
        assert found["p_method"].str.contains("exploratory only: fewer than 10 events").all() == badge


def test_r02_fires_where_no_arrangement_reaches_alpha():
    fired(run(*study(3, 3)), "R02")


def test_r02_spares_three_against_five():
    spared(run(*study(3, 5)))


def test_r03_fires_on_a_second_row_of_a_patient():
    table, y = study()
    assert "would count as patients" in refusals.refuse_unit(
        pd.concat([table, table[:2]]), unit=["patient_id", "feature"]
    )
    with pytest.raises(ValueError, match="R03: 2 rows repeat a patient"):
        run(pd.concat([table, table[:2]]), y)


def test_r03_spares_one_row_per_patient_and_feature():
    table, y = study()
    assert refusals.refuse_unit(table, unit=["patient_id", "feature"]) == ""
    spared(run(table, y))


def test_r04_fires_on_two_tissues():
    fired(run(*study(), tissues=["liver_met", "primary"]), "R04")


def test_r04_spares_one_tissue_beside_blood():
    table, y = study()
    spared(run(pd.concat([table, study(family="blood", modality="blood", tissue="blood")[0]]), y))


def test_r05_fires_where_the_centre_decides():
    table, y = study(8, 8)
    fired(run(table, y, y), "R05")


def test_r05_spares_a_balanced_study():
    table, y = study(8, 8)
    spared(run(table, y, np.tile([0, 1], 8)))


def test_r05_fires_where_one_class_batches_leave_no_comparison():
    y = np.repeat([0, 1, 0, 1, 0], [3, 3, 2, 2, 2])
    batches = {"batch": np.repeat(list("abcde"), [3, 3, 2, 2, 2])}
    reason = refusals.refuse_confounded(y, np.tile([0, 1], 6), batches)
    assert reason.startswith("batch determines the label: response can't be told from it. Lifted by")
    # Each centre has two chemistries that go with the label there, in opposite directions.
    y, centre = np.tile([0, 1], 12), np.repeat([0, 1], 12)
    crossed = {"chemistry": np.where((y + centre) % 2, "v2", "v3")}
    assert refusals.refuse_confounded(y, centre, crossed) == ""
    nested = {"chemistry": np.array([f"{c}{v}" for c, v in zip(centre, y, strict=True)])}
    assert "explains 100% of the label" in refusals.refuse_confounded(y, centre, nested)


def test_r05_spares_small_levels_that_hold_one_class_by_chance():
    """2 % of unconfounded cohorts of 12 patients in five batches are refused (600 cohorts), hardly any of 24 and more."""
    rng = np.random.default_rng(1)
    for n, levels, most in ((12, 5, 0.06), (24, 6, 0.02), (24, 10, 0.02)):
        cohorts = [((rng.random(n) < 0.33).astype(float), rng.integers(0, levels, n)) for _ in range(200)]
        refused = [
            bool(refusals.refuse_confounded_factors(y, np.arange(n) % 3, {"batch": batch}))
            for y, batch in cohorts
            if 0 < y.sum() < n
        ]
        assert np.mean(refused) <= most


def test_r06_fires_without_a_value_and_not_evaluable_is_none():
    table, y = study()
    fired(run(table, y, labels=labels_table([None] * len(y))), "R06")


def test_r06_spares_a_label_of_two_values():
    table, y = study()
    found = run(table, y, labels=labels_table([None, *y[1:]]))
    spared(found)
    assert (found["n"] == len(y) - 1).all()


def test_r07_fires_for_survival_in_tissue_taken_later():
    table, y = study(10, 10)
    later = table.assign(timepoint="T3_resection")
    found = run(later, y, labels=times(20, 15), primary_label="os", timepoints=["T3_resection"])
    fired(found, "R07")
    assert found["refusal_reason"].str.contains("landmark").all()


def test_r07_spares_survival_in_tissue_at_its_origin():
    table, y = study(10, 10)
    spared(run(table, y, labels=times(20, 15), primary_label="os"))
    later = table.assign(timepoint="T3_resection")
    labels = times(20, 15).assign(label="rfs")
    spared(run(later, y, labels=labels, primary_label="rfs", timepoints=["T3_resection"]))


@pytest.mark.parametrize(
    ("draws", "options", "words"),
    [
        ([draw(START - 3, 500), draw(SCAN, 100)], {"lewis_status": "negative"}, "non-secretor"),
        ([draw(START - 3, 20), draw(SCAN, 5)], {}, "not above 37"),
        ([draw(START - 3, 500), bilirubin(START - 3, 200), draw(SCAN, 100)], {}, "cholesta"),
    ],
)
def test_r08_fires_for_ca199_that_says_nothing(draws, options, words):
    label = course(*draws, **options).labels["ca199_resp50"]
    assert label.value == ""
    assert re.search(words, label.reason)


def test_r08_spares_a_secretor_with_a_raised_baseline():
    assert course(draw(START - 3, 500), draw(SCAN, 100)).labels["ca199_resp50"].value == "1"


def test_r09_fires_on_p_of_cluster_markers():
    table, y = study()
    fired(run(table.assign(source="markers.tsv"), y), "R09")


def test_r09_spares_features_of_patients():
    assert refusals.refuse_source("cells.h5ad") is None
    spared(run(study()[0].assign(source="cells.h5ad"), study()[1]))


def test_r10_fires_on_a_declared_label_that_is_a_feature_cut_in_two():
    table, _ = study(10, 14)
    cut = table.loc[table["feature"] == "f00"].set_index("patient_id")["value"].reindex(ids(24))
    y = (cut > cut.median()).astype(int).to_numpy()
    found = run(table, y, labels=labels_table(y, name="high_f00"), primary_label="high_f00").set_index("feature")
    assert found.loc["f00", "refusal_code"] == "R10"
    assert "cut at" in found.loc["f00", "refusal_reason"]
    assert found.loc["f01", "status"] == "tested"


def test_r10_spares_derived_labels_small_cohorts_and_single_exceptions():
    table, _ = study(10, 14)
    cut = table.loc[table["feature"] == "f00"].set_index("patient_id")["value"].reindex(ids(24)).to_numpy()
    y = (cut > np.median(cut)).astype(int)
    spared(run(table, y))  # disease_control is derived by rules that know no feature
    y[np.argmax(cut)] = 0
    assert refusals.refuse_cut_point(y, cut, n_features=2) == ""
    # With 3 against 4 patients some feature separates the classes by chance.
    assert refusals.refuse_cut_point(np.r_[1, 1, 1, 0, 0, 0, 0], np.arange(7.0), n_features=2) == ""


@pytest.mark.parametrize("source", refusals.MADE_WITH_LABEL)
def test_r11_fires_on_features_made_with_the_label(source):
    table, y = study()
    fired(run(table.assign(source=source), y), "R11")


def test_r11_spares_the_other_features_of_the_family():
    table, y = study(parts=3)
    table["source"] = np.where(table["feature"] == "f00", "activity_contrast.tsv", "activity.tsv")
    found = run(table, y).set_index("feature")
    assert found["refusal_code"].to_dict() == {"f00": "R11", "f01": "", "f02": ""}


def test_r12_fires_where_the_outcome_is_made_of_ligand_or_receptor():
    y = study()[1]
    names = ["tam|malignant|SPP1|CD44", "tam|malignant|HBEGF|EGFR_ERBB2"]
    values = np.random.default_rng(0).normal(size=(len(y), 2))
    table = feature_rows(values, family="interaction", names=names)
    fired(run(table, y, signature=["CD44", "ERBB2"]), "R12")
    found = run(table, y, signature=["CD44"]).set_index("feature")
    assert found["refusal_code"].tolist() == ["", "R12"]


def test_r12_spares_outcomes_without_a_signature_and_other_families():
    y = study()[1]
    values = np.random.default_rng(0).normal(size=(len(y), 1))
    spared(run(feature_rows(values, family="interaction", names=["a|b|SPP1|CD44"]), y))
    spared(run(feature_rows(values, family="activity", names=["tam|CD44"]), y, signature=["CD44"]))


def zones(*names):
    spots = pd.DataFrame({"zone": np.repeat(names, 30), "tam": 0.3, "caf": 0.7})
    place = {"library_id": "S1", "patient_id": "A", "timepoint": "T0_pre", "tissue": "liver_met", "modality": "visium"}
    return features.zone_features(spots.assign(**place), min_spots=20, min_cells=20)


def test_r13_fires_in_a_section_without_a_border():
    table, left_out = zones("none")
    assert table.empty
    assert left_out["reason"].str.contains("section S1, R13: no border of tumour to liver").all()


def test_r13_spares_a_section_with_margin_and_core():
    table, left_out = zones("margin", "core", "peritumoral")
    assert len(table) == 2
    assert left_out.empty


def niches(n_with):
    counts = np.random.default_rng(1).poisson(200, (20, 3))
    counts[n_with:, 2] = 0
    return feature_rows(counts, family="niche", n_cells=True)


def test_r14_fires_on_a_niche_of_one_patient():
    y = np.tile([0, 1], 10)
    found = run(niches(1), y, confirmatory=declared("f02", family="niche")).set_index("feature")
    assert found.loc["f02", "refusal_code"] == "R14"
    assert "one patient's tissue" in found.loc["f02", "refusal_reason"]


def test_r14_spares_a_niche_of_most_patients():
    y = np.tile([0, 1], 10)
    found = run(niches(19), y, confirmatory=declared("f02", family="niche")).set_index("feature")
    assert (found.loc[["f02"], "status"] == "tested").all()


def test_r15_fires_beyond_ten_declared_features():
    table, y = study(parts=11)
    found = run(table, y, confirmatory=declared(*table["feature"].unique()))
    fired(found, "R15")


def test_r15_fires_on_a_p_without_q():
    table, y = study()
    found = run(table, y, confirmatory=declared("f00"))
    said = verdict(found.assign(q=np.nan), config={**CONFIG}, labels=labels_table(y), scope="cohort")
    assert said["numbers"]["refused"] == {"R15": 2}
    assert said["status"] == "not_tested"


def test_r15_spares_ten_declared_features_with_q():
    table, y = study(12, 12, parts=10)
    found = run(table, y, confirmatory=declared(*table["feature"].unique()), n_permutations=9999)
    spared(found)
    assert not refusals.uncorrected(found).any()


def test_r16_fires_on_a_patient_in_two_folds():
    assert "first B" in refusals.refuse_shared_folds(["A", "B", "B"], [0, 0, 1])


def test_r16_spares_lesions_of_a_patient_in_one_fold():
    assert refusals.refuse_shared_folds(["A", "B", "B"], [0, 1, 1]) == ""


def test_r17_fires_on_response_by_imaging_in_resected_tissue():
    table, y = study()
    fired(run(table.assign(timepoint="T3_resection"), y, timepoints=["T3_resection"]), "R17")


def test_r17_spares_pathological_response_in_resected_tissue():
    table, y = study()
    later = table.assign(timepoint="T3_resection")
    labels = labels_table(y, name="ypM0")
    spared(run(later, y, labels=labels, primary_label="ypM0", timepoints=["T3_resection"]))


def sampled(n, *, modality="scrna"):
    return patients_table(["C0"] * n).assign(modality=modality, batch="B", chemistry="v3", method="core_needle")


def test_r18_fires_where_a_third_of_the_sampled_lack_the_feature():
    table, y = study(10, 14)
    without = table["patient_id"].isin(ids(24)[6:14]) & (table["feature"] == "f01")
    found = run(table[~without], y, patients=sampled(24)).set_index("feature")
    assert found["refusal_code"].to_dict() == {"f00": "", "f01": "R18"}
    assert "8 of 24 patients" in found.loc["f01", "refusal_reason"]


def test_r18_fires_where_who_is_missing_goes_with_the_label():
    table, y = study(10, 14)
    found = run(table[~table["patient_id"].isin(ids(24)[:4])], y, patients=sampled(24))
    fired(found, "R18")
    assert found["refusal_reason"].str.contains("goes with the label").all()


def test_r18_fires_for_labels_without_classes():
    table, y = study(10, 14)
    labels = labels_table(np.arange(24.0), name="sld_change", kind="continuous")
    gone = table["patient_id"].isin(ids(24)[:5])
    fired(run(table[~gone], y, labels=labels, patients=sampled(24), primary_label="sld_change"), "R18")


def test_r18_spares_patients_who_were_not_sampled_and_few_who_are_missing():
    table, y = study(10, 14)
    gone = table["patient_id"].isin(ids(24)[:4])
    spared(run(table[~gone], y, patients=sampled(24)[4:]))
    few = table["patient_id"].isin([ids(24)[0], ids(24)[20]])
    spared(run(table[~few], y, patients=sampled(24)))


def test_r19_fires_in_a_batch_and_on_looks_that_the_config_does_not_count():
    table, y = study()
    fired(run(table, y, scope="B02"), "R19")
    fired(run(table, y, look=2), "R19")
    found = run(table, y, earlier_looks=1, look=1, planned_looks=3)
    fired(found, "R19")
    assert found["refusal_reason"].str.contains("counts 1 earlier look at").all()


def test_r19_spares_a_counted_look():
    table, y = study()
    spared(run(table, y, earlier_looks=1, look=2, planned_looks=2))


def test_f01_to_f03_keep_a_declared_feature_in_sight():
    y = np.tile([0, 1], 12)
    counts = composition(np.random.default_rng(0), y, np.zeros(24, int), parts=4)
    counts[:, 3] = 1
    names = declared("f03", "absent", family="composition_type")
    found = run(feature_rows(counts, family="composition_type", n_cells=True), y, confirmatory=names)
    assert found.set_index("feature").loc[["f03", "absent"], "refusal_code"].tolist() == ["F01", "F02"]
    flat = feature_rows(np.c_[y, np.random.default_rng(0).normal(size=24)], family="zone")
    assert run(flat, y).set_index("feature")["refusal_code"].to_dict() == {"f00": "F03", "f01": ""}


def test_each_code_has_both_tests_and_a_line_in_the_design():
    text = DESIGN.read_text(encoding="utf-8")
    names = set(globals())
    for code, meaning in refusals.CODES.items():
        assert f"| {code} | {meaning} |" in text, code
        if code.startswith("R"):
            for outcome in ("fires", "spares"):
                assert any(name.startswith(f"test_{code.lower()}_{outcome}") for name in names), (code, outcome)
    assert [code for code in refusals.CODES if code.startswith("R")] == [f"R{k:02d}" for k in range(1, 20)]
