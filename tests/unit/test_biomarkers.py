"""Blood biomarkers: planted signals, nulls, what is circular or known too late, and each refusal with its counterpart."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit

from blood_cohorts import blood_table, cohort, draw, tables
from cohorts import CONFIG, feature_rows, ids, labels_table
from livermet import biomarkers, firth, refusals
from livermet.blood import Ca199Rules
from livermet.blood_course import measure_courses
from livermet.catalogue import label_timepoints

OPTIONS = {"reference": "ca199", "joint": ["ca199", "cea", "crp"], "repeats": 2, "added_permutations": 49}
FEW = ("ca199", "cea", "crp")
SIX_CENTRES = [0.3, 0.25, 0.2, 0.1, 0.1, 0.05]


def measured_of(blood, patients, treatment, local):
    return measure_courses(blood, patients, treatment, local, windows={}, rules=Ca199Rules(), min_values=3)


def run(
    blood, y, *, centres=None, lewis=None, labels=None, scope="cohort", options=OPTIONS, earlier_looks=0, **changes
):
    patients, treatment, local = tables(len(y), centres=centres, lewis=lewis)
    response = {**CONFIG, "n_permutations": 199, **changes}
    return biomarkers.compare_biomarkers(
        measured_of(blood, patients, treatment, local),
        labels_table(y) if labels is None else labels,
        patients,
        response=response,
        options=options,
        goes_with=label_timepoints(response["primary_label"], {response["primary_label"]: {}}),
        scope=scope,
        seed=1,
        earlier_looks=earlier_looks,
    )


def univariable(table, analyte, measure="baseline"):
    rows = table[(table["model"] == "univariable") & (table["analyte"] == analyte) & (table["measure"] == measure)]
    (row,) = rows.to_dict("records")
    return row


def codes(table, model):
    return set(table.loc[table["model"] == model, "refusal_code"])


def classes(n, share=0.4, seed=0):
    return (np.random.default_rng(seed).random(n) < share).astype(int)


Y = classes(64)
CENTRES = [f"C{c}" for c in np.random.default_rng(1).choice(6, 64, p=SIX_CENTRES)]


@pytest.fixture(scope="module")
def planted():
    """CRP is lower at baseline, and CA19-9 falls more, in patients with the label; two patients are Lewis-negative."""
    lewis = ["negative" if k in (3, 9) else "positive" for k in range(64)]
    blood = cohort(0, 64, y=Y, baseline={"crp": -1.5}, change={"ca199": -0.8})
    options = {**OPTIONS, "joint": ["ca199", "nlr", "albumin"]}
    return run(blood, Y, centres=CENTRES, lewis=lewis, options=options, n_permutations=999)


def test_planted_signals_are_found_and_the_table_has_its_columns(planted):
    assert list(planted.columns) == biomarkers.COLUMNS
    assert set(planted["status"]) == {"tested"}
    crp = univariable(planted, "crp")
    assert crp["auc"] < 0.4 and crp["q"] <= 0.1 and crp["or_high"] < 1
    assert crp["unit"] == "log2 mg/L" and crp["known_at"] == "baseline"
    change = univariable(planted, "ca199", "change")
    assert change["q"] <= 0.1 and change["odds_ratio"] < change["or_high"] < 1
    assert change["known_at"] == "re-evaluation" and change["timepoint"] == "T0_pre to T1_reeval"
    assert univariable(planted, "albumin")["unit"] == "SD of g/L"
    assert univariable(planted, "cea")["p"] > 0.05
    assert ((planted["auc_low"] <= planted["auc"]) & (planted["auc"] <= planted["auc_high"]))[:4].all()


def test_patients_without_secretion_are_missing_and_not_low(planted):
    row = univariable(planted, "ca199")
    assert (row["n"], row["n_missing"]) == (62, 2)
    assert row["n"] == row["n_ref"] + row["n_alt"]
    assert univariable(planted, "crp")["n_missing"] == 0


def test_the_joint_model_has_its_terms_and_the_gain_of_crp_is_found(planted):
    joint = planted[planted["model"] == "joint"]
    assert joint["analyte"].tolist() == ["ca199", "nlr", "albumin"] and set(joint["n"]) == {62}
    assert set(joint["known_at"]) == {"baseline"} and joint["auc"].isna().all()
    smaller = min(joint["n_ref"].iloc[0], joint["n_alt"].iloc[0])
    assert joint["events_per_variable"].iloc[0] == pytest.approx(smaller / 3)
    assert joint["p_method"].str.contains("fewer than 10 patients per term").all()
    assert joint["p_method"].str.startswith("999 permutations within centre of what the other terms do not").all()
    assert joint["p_method"].str.contains("odds ratio not adjusted for centre").all()
    assert (joint["smallest_attainable_p"] == 2 / 1000).all()
    added = planted[planted["model"] == "added_value"].set_index("analyte")
    assert "ca199" not in added.index and set(added["known_at"]) == {"baseline"}
    assert added.loc["crp", "p"] == pytest.approx(0.02) and added.loc["crp", "delta_auc"] > 0.1
    np.testing.assert_allclose(added["delta_auc"], added["auc"] - added["auc_reference"])


def test_q_is_by_model_and_by_when_a_measure_is_known(planted):
    for _, rows in planted.groupby(["model", "known_at"]):
        np.testing.assert_allclose(rows["q"], stats.false_discovery_control(rows["p"]), rtol=1e-9)
    assert planted.groupby(["model", "known_at"]).ngroups == 5


def test_the_odds_ratio_is_that_of_firths_regression_per_doubling_and_per_sd():
    blood = cohort(2, 30, analytes=("crp", "albumin"))
    y = classes(30)
    table = run(blood, y)
    patients, treatment, local = tables(30)
    found = measured_of(blood, patients, treatment, local)
    for analyte, step in (("crp", 1.0), ("albumin", None)):
        values = found[(found["analyte"] == analyte) & (found["measure"] == "baseline")]["value"].to_numpy()
        x = values / (step or values.std(ddof=1))
        assert univariable(table, analyte)["odds_ratio"] == pytest.approx(np.exp(firth.fit(x[:, None], y).coef[1]))


def test_rows_patients_and_other_analytes_do_not_change_a_row():
    blood, y = cohort(4, 30, analytes=FEW), classes(30)
    plain = run(blood, y)
    shuffled = run(blood.sample(frac=1, random_state=3), y, labels=labels_table(y).sample(frac=1, random_state=4))
    pd.testing.assert_frame_equal(plain, shuffled)
    few = run(blood[blood["analyte"] != "cea"], y)
    free = ["p", "auc", "odds_ratio", "n"]
    assert {k: univariable(few, "crp")[k] for k in free} == {k: univariable(plain, "crp")[k] for k in free}


def test_swapping_the_classes_mirrors_area_and_odds_ratio_and_keeps_p():
    blood, y = cohort(5, 30, analytes=FEW), classes(30)
    one, two = univariable(run(blood, y), "cea"), univariable(run(blood, 1 - y), "cea")
    assert one["auc"] == pytest.approx(1 - two["auc"]) and one["p"] == pytest.approx(two["p"])
    assert one["odds_ratio"] == pytest.approx(1 / two["odds_ratio"], rel=1e-5)


def test_ranks_of_a_label_without_classes():
    y = np.random.default_rng(2).normal(size=40)
    blood = cohort(6, 40, y=y, baseline={"crp": 1.2}, analytes=FEW)
    labels = labels_table(y, name="sld_change", kind="continuous")
    table = run(blood, y, labels=labels, primary_label="sld_change")
    row = univariable(table, "crp")
    assert row["rho"] > 0.3 and row["rho_low"] < row["rho"] < row["rho_high"] and row["q"] <= 0.1
    assert np.isnan(row["auc"]) and pd.isna(row["n_alt"])
    assert codes(table, "joint") == codes(table, "added_value") == {"R06"}


def test_null_cohorts_are_calibrated():
    rng = np.random.default_rng(8)
    p = []
    options = {**OPTIONS, "joint": []}
    for seed in range(12):
        y = (rng.random(32) < 0.28).astype(int)
        centres = [f"C{c}" for c in rng.choice(3, 32, p=[0.5, 0.3, 0.2])]
        blood = cohort(100 + seed, 32, analytes=("ca199", "crp", "albumin"))
        table = run(blood, y, centres=centres, options=options, alpha=0.05)
        p += table.loc[(table["model"] == "univariable") & (table["status"] == "tested"), "p"].tolist()
    # Four measures of four analytes per cohort, which are related: twice the binomial spread.
    assert len(p) > 120
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 2 * 3.1 * np.sqrt(0.05 * 0.95 / len(p))


def terms_of(rng, *, sd, others=0.0, effect=0.0, n=64):
    """Three terms, a label and six uneven centres that differ by ``sd`` in all of them, of a cohort that is not refused.

    ``others`` is the log odds ratio of the second and third term, which then go with the first (r = .6); ``effect``
    that of the first.
    """
    while True:
        centre = rng.choice(6, n, p=SIX_CENTRES)
        cov = np.full((3, 3), 0.6 if others else 0.0)
        np.fill_diagonal(cov, 1.0)
        within = rng.multivariate_normal(np.zeros(3), cov, n)
        x = within + sd * rng.normal(size=(6, 3))[centre]
        chance = expit(-0.4 + within @ [effect, others, others] + sd * rng.normal(size=6)[centre])
        y = (rng.random(n) < chance).astype(float)
        if min(y.sum(), n - y.sum()) >= 15 and not refusals.refuse_confounded(y, centre, {}):
            return x, y, centre


def within_centre_p(x, y, centre, place, *, seed):
    return biomarkers.conditional_p(x, y, centre, place, n_permutations=199, seed=seed)[0].p[0]


def over_all_p(x, y, centre, place, *, seed):
    return firth.likelihood_ratio_p(x, y, place + 1)


def share_rejected(p_of, seed, *, cohorts, places=(0,), **options):
    """Share of p at or below a nominal 5 % in simulated cohorts."""
    rng = np.random.default_rng(seed)
    drawn = [terms_of(rng, **options) for _ in range(cohorts)]
    return np.mean([p_of(*one, place, seed=k) <= 0.05 for k, one in enumerate(drawn) for place in places])


def test_joint_terms_without_effect_are_calibrated_where_centres_differ():
    # .038 to .062 over four seeds; 240 p, standard error .014.
    assert 0.015 <= share_rejected(within_centre_p, 1, cohorts=80, places=range(3), sd=0.5) <= 0.09


def test_what_centres_differ_by_does_not_count_for_a_joint_term():
    # The others tell of the label and go with the term: .042 to .050 over four seeds, standard error .02.
    options = {"cohorts": 120, "sd": 1.0, "others": 1.0}
    assert share_rejected(within_centre_p, 2, **options) <= 0.11
    # The likelihood ratio over all patients: .19 to .26.
    assert share_rejected(over_all_p, 2, **options) >= 0.12


def test_a_joint_term_with_an_effect_within_centres_is_found_beside_the_others():
    # 1 in each of four seeds.
    assert share_rejected(within_centre_p, 3, cohorts=20, sd=1.0, effect=1.5) >= 0.8


def test_a_joint_model_of_one_term_has_the_p_of_the_analyte_alone():
    blood = cohort(2, 64, y=Y, baseline={"crp": -0.5}, analytes=FEW)
    for centres in (CENTRES, ["A"] * 64):
        table = run(blood, Y, centres=centres, options={**OPTIONS, "joint": ["crp"]})
        (joint,) = table[table["model"] == "joint"].to_dict("records")
        assert 0 < joint["p"] == pytest.approx(univariable(table, "crp")["p"])
        assert ("within centre" in joint["p_method"]) == ("not adjusted for centre" in joint["p_method"])
        assert ("within centre" in joint["p_method"]) == (len(set(centres)) > 1)


def test_the_p_of_a_joint_term_is_the_same_whatever_the_order_scale_and_class():
    x, y, centre = terms_of(np.random.default_rng(4), sd=1.0, effect=0.7)
    options = {"n_permutations": 199, "seed": 1}
    p = biomarkers.conditional_p(x, y, centre, 0, **options)[0].p[0]
    assert biomarkers.conditional_p(x[:, [2, 0, 1]], y, centre, 1, **options)[0].p[0] == pytest.approx(p)
    assert biomarkers.conditional_p(5 - 3 * x, y, centre, 0, **options)[0].p[0] == pytest.approx(p)
    assert biomarkers.conditional_p(x, 1 - y, centre, 0, **options)[0].p[0] == pytest.approx(p)
    moved = x + 9 * centre[:, None]  # a difference between centres alone
    assert biomarkers.conditional_p(moved, y, centre, 0, **options)[0].p[0] == pytest.approx(p)


# --- refusals


def test_r11_a_label_made_of_the_analyte_is_circular_and_another_is_not():
    y = classes(40)
    blood = cohort(9, 40, analytes=FEW)
    labels = labels_table(y, name="ca199_resp50")
    table = run(blood, y, labels=labels, primary_label="ca199_resp50")
    for measure in ("baseline", "change", "slope", "nadir"):
        row = univariable(table, "ca199", measure)
        assert row["refusal_code"] == "R11" and "compared with itself" in row["refusal_reason"] and np.isnan(row["p"])
    assert univariable(table, "crp")["status"] == "tested"
    assert codes(table, "joint") == codes(table, "added_value") == {"R11"}
    without = run(blood, y, labels=labels, primary_label="ca199_resp50", options={**OPTIONS, "joint": ["crp", "cea"]})
    assert codes(without, "joint") == {""}
    assert univariable(run(blood, y), "ca199")["status"] == "tested"


def test_r08_says_how_many_and_why_where_no_patient_is_left():
    y = classes(24)
    row = univariable(run(cohort(10, 24, analytes=FEW), y, lewis=["negative"] * 24), "ca199")
    assert row["refusal_code"] == "R08" and "24 of 24: non-secretor" in row["refusal_reason"]
    some = run(cohort(10, 24, analytes=FEW), y, lewis=["negative"] * 2 + ["positive"] * 22)
    assert univariable(some, "ca199")["status"] == "tested"


def test_r19_a_batch_or_an_uncounted_look_is_described():
    y, blood = classes(24), cohort(11, 24, analytes=FEW)
    batch = run(blood, y, scope="B02")
    assert codes(batch, "univariable") == codes(batch, "joint") == codes(batch, "added_value") == {"R19"}
    assert batch[["p", "auc", "odds_ratio"]].isna().all().all() and (batch["n"] > 0).all()
    assert codes(run(blood, y, earlier_looks=1), "univariable") == {"R19"}
    assert "R19" not in codes(run(blood, y, earlier_looks=1, look=2, planned_looks=2), "univariable")


def test_r06_r17_labels_that_can_not_be_compared():
    y, blood = classes(24), cohort(12, 24, analytes=FEW)
    same = run(blood, np.ones(24))
    assert codes(same, "univariable") == {"R06"}
    resected = run(blood, y, labels=labels_table(y, name="path_cap01"), primary_label="path_cap01")
    assert codes(resected, "univariable") == {"R17"}
    days = labels_table(y * 100 + 50, name="os", kind="survival").assign(event="1")
    survival = run(blood, y, labels=days, primary_label="os")
    assert codes(survival, "univariable") == {"R06"} and "survival" in survival["refusal_reason"].iloc[0]


def test_r01_r02_small_classes():
    blood = cohort(13, 24, analytes=FEW)
    y = np.r_[np.ones(2), np.zeros(22)]
    assert codes(run(blood, y), "univariable") == {"R01"}
    small = cohort(13, 6, analytes=FEW)
    unattainable = run(small, np.tile([0, 1], 3), centres=["A"] * 6)
    assert codes(unattainable, "univariable") == {"R02"}
    assert unattainable["smallest_attainable_p"].iloc[0] == pytest.approx(0.1)
    # Pairs of one centre: 2^5 arrangements, of which two reach the smallest p.
    pairs = {"centres": [f"C{k // 2}" for k in range(10)], "options": {**OPTIONS, "joint": ["crp"]}}
    joint = run(cohort(13, 10, analytes=FEW), np.tile([0, 1], 5), **pairs)
    joint = joint[joint["model"] == "joint"].iloc[0]
    assert joint["refusal_code"] == "R02" and joint["smallest_attainable_p"] == pytest.approx(2 / 32)


def test_r01_sizes_of_the_joint_model_and_of_added_value():
    y = np.r_[np.ones(14), np.zeros(26)]
    table = run(cohort(14, 40, analytes=FEW), y)
    joint = table[table["model"] == "joint"]
    assert (
        set(joint["refusal_code"]) == {"R01"}
        and "14 patients in the smaller class for 3 terms" in joint["refusal_reason"].iloc[0]
    )
    assert codes(run(cohort(14, 40, analytes=FEW), y, options={**OPTIONS, "joint": ["ca199", "cea"]}), "joint") == {""}
    assert codes(table, "added_value") == {""}
    fewer = run(cohort(14, 40, analytes=FEW), np.r_[np.ones(9), np.zeros(31)])
    added = fewer[fewer["model"] == "added_value"]
    assert set(added["refusal_code"]) == {"R01"} and "10 patients of each" in added["refusal_reason"].iloc[0]


def test_r05_a_label_that_goes_with_the_centre():
    y = np.tile([0, 1], 16)
    blood = cohort(15, 32, analytes=FEW)
    assert codes(run(blood, y, centres=[f"C{v}" for v in y]), "univariable") == {"R05"}
    mixed = run(blood, y, centres=[f"C{k // 16}" for k in range(32)])
    assert codes(mixed, "univariable") == {""}


def test_r18_measures_that_too_many_lack_or_that_go_with_response():
    y = np.tile([0, 0, 1], 12)
    blood = cohort(16, 36, analytes=FEW)
    names = np.array(ids(36))
    lacking = blood["patient_id"].isin(names[:12]) & (blood["analyte"] == "cea") & (blood["day"] > 0)
    table = run(blood[~lacking], y)
    assert univariable(table, "cea", "change")["refusal_code"] == "R18"
    assert univariable(table, "cea")["status"] == univariable(table, "crp", "change")["status"] == "tested"
    stopped = blood["patient_id"].isin(names[y == 1][:8]) & (blood["day"] > 30)
    selected = run(blood[~stopped], y)
    slope, baseline = univariable(selected, "crp", "change"), univariable(selected, "crp")
    assert slope["refusal_code"] == "R18" and "goes with the label" in slope["refusal_reason"]
    assert baseline["status"] == "tested"


def test_f02_f03_terms_that_no_patient_has_or_that_say_the_same():
    y, blood = classes(64), cohort(17, 64, analytes=FEW)
    absent = run(blood, y, options={**OPTIONS, "joint": ["ca199", "ldh"], "reference": "ldh"})
    assert codes(absent, "joint") == codes(absent, "added_value") == {"F02"}
    double = blood[blood["analyte"] == "crp"].assign(analyte="copy", unit="x")
    same = run(pd.concat([blood, double]), y, options={**OPTIONS, "joint": ["crp", "copy"]})
    assert codes(same, "joint") == {"F03"}
    # Within the centres nothing varies, though over all patients it does.
    by_centre = blood["patient_id"].map({name: 2.0 ** (k % 2) for k, name in enumerate(ids(64))})
    flat = blood.assign(value=blood["value"].where(blood["analyte"] != "cea", by_centre))
    assert codes(run(flat, y, options={**OPTIONS, "joint": ["crp", "cea"]}), "joint") == {"F03"}
    constant = blood.assign(value=blood["value"].where(blood["analyte"] != "cea", 2.0))
    assert univariable(run(constant, y), "cea")["refusal_code"] == "F03"


def test_four_terms_are_an_error_of_the_config():
    with pytest.raises(ValueError, match=r"4 terms.*at most 3"):
        run(cohort(18, 12, analytes=FEW), classes(12), options={**OPTIONS, "joint": ["ca199", "cea", "albumin", "crp"]})


def test_a_study_without_blood_has_no_rows_but_the_declared_terms():
    table = run(blood_table([]), classes(12))
    assert table["analyte"].tolist() == OPTIONS["joint"] and set(table["refusal_code"]) == {"F02"}


# --- blood against tissue

PAIRS = [
    {"blood": "nlr", "modality": "scrna", "family": "composition_type", "feature": "neutrophil"},
    {"blood": "crp", "modality": "visium", "family": "spatial", "feature": "slope:hep_injured_margin"},
]


def tissue(n, *, seed=0, follow=None):
    """Counts of three types whose neutrophils follow ``follow`` (standardised), and a slope that follows nothing."""
    rng = np.random.default_rng(seed)
    drive = np.zeros(n) if follow is None else (follow - np.mean(follow)) / np.std(follow)
    logits = rng.normal(0, 0.4, (n, 3)) + np.outer(drive, [1.2, 0, 0])
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    counts = np.array([rng.multinomial(600, share) for share in shares])
    cells = feature_rows(counts, family="composition_type", n_cells=True, names=["neutrophil", "b_cell", "hepatocyte"])
    slope = feature_rows(rng.normal(size=(n, 1)), family="spatial", modality="visium", names=[PAIRS[1]["feature"]])
    return pd.concat([cells, slope], ignore_index=True)


def pairs_of(blood, features, *, n, scope="cohort", pairs=PAIRS, centres=None, **changes):
    patients, treatment, local = tables(n, centres=centres)
    response = {**CONFIG, "n_permutations": 499, **changes}
    found = measured_of(blood, patients, treatment, local)
    values = biomarkers.tissue_pairs(found, features, pairs=pairs, response=response)
    options = {"pairs": pairs, "response": response, "scope": scope, "seed": 2}
    return values, biomarkers.compare_pairs(values, features, patients, **options)


def test_a_planted_link_of_blood_and_tissue_is_found_and_the_other_is_not():
    blood = cohort(20, 30)
    at_baseline = blood[blood["day"] < 0].pivot_table(index="patient_id", columns="analyte", values="value")
    follow = np.log2(at_baseline["neutrophils"] / at_baseline["lymphocytes"]).to_numpy()
    values, table = pairs_of(blood, tissue(30, follow=follow), n=30)
    assert list(table.columns) == biomarkers.TISSUE_COLUMNS and len(values) == 60
    nlr, crp = table.to_dict("records")
    assert nlr["n"] == 30 and nlr["rho"] > 0.5 and nlr["ci_low"] > 0 and nlr["q"] <= 0.05
    assert crp["p"] > 0.05 and crp["adjusted_for"] == "centre"
    np.testing.assert_allclose(table["q"], stats.false_discovery_control(table["p"]))


def test_a_difference_between_centres_is_no_link():
    rng = np.random.default_rng(3)
    centre = np.repeat([0, 1], 15)
    blood = blood_table(
        [draw(f"P{k:02d}", -3, "crp", 2 ** (3 + 3 * centre[k] + rng.normal(0, 0.3))) for k in range(30)]
    )
    slope = feature_rows(
        (4 * centre + rng.normal(size=30))[:, None], family="spatial", modality="visium", names=[PAIRS[1]["feature"]]
    )
    _, table = pairs_of(blood, slope, n=30, pairs=PAIRS[1:], centres=[f"C{c}" for c in centre])
    assert table["p"].iloc[0] > 0.05
    _, apart = pairs_of(blood, slope, n=30, pairs=PAIRS[1:], centres=["C0"] * 30)
    assert apart["p"].iloc[0] <= 0.01


def test_pairs_that_can_not_be_compared_are_refused():
    blood, features = cohort(21, 24), tissue(24)
    _, batch = pairs_of(blood, features, n=24, scope="B01")
    assert set(batch["refusal_code"]) == {"R19"}
    _, mixed = pairs_of(blood, features, n=24, tissues=["liver_met", "primary"])
    assert set(mixed["refusal_code"]) == {"R04"}
    later = features.assign(timepoint="T3_resection")
    _, resected = pairs_of(blood, later, n=24, timepoints=["T3_resection"])
    assert set(resected["refusal_code"]) == {"R04"} and "treatment lies between" in resected["refusal_reason"].iloc[0]
    _, few = pairs_of(blood, tissue(4), n=24)
    assert set(few["refusal_code"]) == {"R01"}
    _, absent = pairs_of(blood, features.iloc[:0], n=24)
    assert set(absent["refusal_code"]) == {"F02"} and absent["n"].tolist() == [0, 0]
    _, none = pairs_of(blood, features, n=24, pairs=[])
    assert none.empty and list(none.columns) == biomarkers.TISSUE_COLUMNS
    _, rare = pairs_of(blood, features, n=24, min_mean_cells=1000)
    assert rare["refusal_code"].tolist() == ["F01", ""]
