"""Courses of blood values: what is measured of them, on which days, and why something is missing."""

import numpy as np
import pandas as pd
import pytest

from blood_cohorts import blood_table, cohort, draw, tables
from livermet import statistics
from livermet.blood import Ca199Rules
from livermet.blood_course import MEASURE_COLUMNS, MEASURES, SERIES_COLUMNS, blood_series, measure_courses
from livermet.features import blood_features

RULES = Ca199Rules()


def measured(blood, *, lewis=None, surgery=None, start=0, windows=None, min_values=3, treatment=None):
    n = max(int(name[1:]) for name in blood["patient_id"]) + 1
    patients, treated, local = tables(n, lewis=lewis, surgery=surgery, start=start)
    treated = treated if treatment is None else treatment
    table = measure_courses(blood, patients, treated, local, windows=windows or {}, rules=RULES, min_values=min_values)
    assert list(table.columns) == MEASURE_COLUMNS
    assert (table["value"].notna() != (table["reason"] != "")).all()
    return table.set_index(["patient_id", "analyte", "measure"])


def one(analyte, *values, **options):
    """Measures of one analyte of one patient, from (day, value) or (day, value, fields)."""
    rows = [draw("P00", day, analyte, value, **(rest[0] if rest else {})) for day, value, *rest in values]
    return measured(blood_table(rows), **options).loc[("P00", analyte)]


def test_the_four_measures_of_a_concentration_are_in_doublings():
    found = one("crp", (-20, 2.0), (-3, 4.0), (28, 8.0), (50, 2.0), (58, 16.0), (112, 1.0))
    assert found["value"].to_dict() == pytest.approx(
        {
            "baseline": 2.0,
            "change": 2.0,
            "slope": 28 * np.polyfit([-3, 28, 50, 58, 112], [2, 3, 1, 4, 0], 1)[0],
            "nadir": -1.0,
        }
    )
    assert found["unit"].tolist() == ["log2 mg/L", "log2 fold", "log2 fold per 28 days", "log2 fold"]
    assert found["last_day"].tolist() == [-3, 58, 112, 50]
    assert found["n_values"].tolist() == [1, 2, 5, 4]
    assert found["known_at"].tolist() == ["baseline", "re-evaluation", "end of first course", "re-evaluation"]


def test_albumin_and_scores_are_differences():
    found = one("albumin", (-3, 40.0), (56, 34.0), (80, 37.0))
    assert found["value"].loc[["baseline", "change", "nadir"]].tolist() == [40.0, -6.0, -6.0]
    assert found["unit"].loc[["baseline", "change"]].tolist() == ["g/L", "difference, g/L"]
    rows = [draw("P00", day, "crp", crp) for day, crp in ((-3, 20.0), (56, 5.0))]
    rows += [draw("P00", day, "albumin", 30.0) for day in (-3, 56)]
    scores = measured(blood_table(rows)).loc[("P00", "mgps"), "value"]
    assert scores[["baseline", "change"]].tolist() == [2.0, -2.0]


def test_any_analyte_is_accepted_and_zero_decides_its_scale():
    positive = one("il6", (-3, 4.0, {"unit": "pg/mL"}), (56, 16.0, {"unit": "pg/mL"}))
    assert positive["value"]["baseline"] == 2.0 and positive["unit"]["baseline"] == "log2 pg/mL"
    signed = one("base_excess", (-3, -4.0, {"unit": "mmol/L"}), (56, 3.0, {"unit": "mmol/L"}))
    assert signed["value"]["change"] == 7.0 and signed["unit"]["baseline"] == "mmol/L"
    zero = one("bilirubin", (-3, 0.0))
    assert "zero or negative" in zero["reason"]["baseline"]


def test_kras_is_detected_or_not_and_its_share_is_on_the_log_scale():
    found = measured(
        blood_table(
            [
                draw("P00", -3, "kras_vaf", 0.0395, unit="fraction", lod=0.001),
                draw("P00", 56, "kras_vaf", 0.001, unit="fraction", censor="<"),
            ]
        )
    )["value"].loc["P00"]
    assert found["kras_detected", "change"] == -1.0
    assert found["kras_vaf", "change"] == pytest.approx(np.log2(0.0005 / 0.04))


def test_values_are_those_of_the_feature_table():
    zero = [draw("P01", -3, "crp", 0.0), draw("P02", -3, "cea", 2.0, censor="<")]
    tumour = [draw(f"P{k:02d}", -3, "kras_vaf", 0.01 * k, unit="fraction", lod=0.001) for k in range(6)]
    other = [draw(f"P{k:02d}", day, "il6", 2.0 + k, unit="pg/mL") for k in range(6) for day in (-3, 56)]
    plain = cohort(3, 6)
    hidden = plain["patient_id"].isin(["P01", "P02"]) & (plain["day"] == -3) & plain["analyte"].isin(["crp", "cea"])
    blood = blood_table([*plain[~hidden].to_dict("records"), *zero, *tumour, *other])
    _, treatment, local = tables(6)
    features, left_out = blood_features(blood, treatment, local, windows={})
    features = features.set_index(["patient_id", "timepoint", "feature"])
    found = measured(blood)
    known = found[found["reason"] == ""].reset_index()
    at_baseline = known[known["measure"] == "baseline"]
    assert len(at_baseline) > 70 and set(at_baseline["analyte"]) >= {"nlr", "mgps", "mps", "kras_vaf", "il6", "crp"}
    for row in at_baseline.to_dict("records"):
        mine = features.loc[row["patient_id"], "T0_pre", row["analyte"]]
        assert (mine["value"], mine["unit"]) == (pytest.approx(row["value"]), row["unit"]), row
    for row in known[known["measure"] == "change"].to_dict("records"):
        place = row["patient_id"], row["analyte"]
        later = features.loc[row["patient_id"], "T1_reeval", row["analyte"]]["value"]
        assert later == pytest.approx(found.loc[(*place, "baseline"), "value"] + row["value"]), row
    # What has no value among the biomarkers has none in the feature table either, and each says the same of it.
    assert set(features.xs("T0_pre", level="timepoint").index) == set(
        at_baseline[["patient_id", "analyte"]].itertuples(index=False, name=None)
    )
    reasons = left_out[left_out["timepoint"] == "T0_pre"].groupby(["patient_id", "feature"])["reason"].last()
    for place, words in (
        (("P01", "crp"), "zero or negative, no logarithm"),
        (("P01", "crp_albumin"), "zero or negative, no logarithm"),
        (("P02", "cea"), "censored value"),
    ):
        assert reasons[place] == words and words in found.loc[(*place, "baseline"), "reason"]


def test_days_count_from_treatment_and_the_course_ends_with_local_treatment():
    values = [(5, 8.0), (40, 4.0), (66, 2.0), (90, 1.0)]
    free = one("crp", *values, start=8)
    assert free["value"]["nadir"] == -2.0 and free["first_day"]["baseline"] == -3 and free["n_values"]["slope"] == 4
    ended = one("crp", *values, start=8, surgery=[70])
    assert ended["value"]["change"] == -2.0 and ended["n_values"]["slope"] == 3
    early = one("crp", *values, start=8, surgery=[30])
    assert "up to local treatment on day 30" in early["reason"]["change"]
    assert "up to local treatment on day 30" in early["reason"]["slope"]


def test_a_change_of_regimen_ends_the_course():
    treatment = pd.DataFrame(
        {
            "patient_id": "P00",
            "regimen": ["FOLFIRINOX", "GnP"],
            "start_day": [0, 60],
            "stop_day": [59, np.nan],
            "cycles": np.nan,
        }
    )
    found = one("crp", (-3, 8.0), (40, 4.0), (90, 1.0), treatment=treatment)
    assert found["value"]["nadir"] == -1.0 and found["n_values"]["slope"] == 2
    assert "change of regimen on day 60" in found["reason"]["slope"]


def test_too_few_values_have_no_slope_but_a_change():
    found = one("cea", (-3, 8.0), (56, 4.0))
    assert found["value"]["change"] == -1.0
    assert found["reason"]["slope"] == "2 value(s) from the baseline on, 3 are needed"
    assert one("cea", (-3, 8.0), (56, 4.0), min_values=2)["value"]["slope"] < 0


def test_another_assay_is_not_compared():
    rows = [(-3, 8.0, {"platform": "A"}), (50, 4.0, {"platform": "A"}), (56, 1.0, {"platform": "B"})]
    found = one("cea", *rows)
    assert found["value"]["change"] == -1.0 and found["value"]["nadir"] == -1.0
    switched = one("cea", rows[0], rows[2])
    assert "the assay changed" in switched["reason"]["change"]


def test_disturbed_and_censored_values_are_left_out_with_the_reason():
    found = one("neutrophils", (-3, 9.0, {"gcsf": 1}), (56, 4.0))
    assert "G-CSF" in found["reason"]["baseline"] and found["value"].isna().all()
    assert "censored" in one("crp", (-3, 5.0, {"censor": "<"}))["reason"]["baseline"]


def test_windows_of_the_trial_count():
    values = [(-35, 4.0), (20, 2.0), (56, 1.0)]
    assert "no value from day -28 to 0" in one("crp", *values)["reason"]["baseline"]
    wide = one("crp", *values, windows={"T0_from_treatment": [-40, 0], "T1_from_treatment": [10, 30]})
    assert wide["value"]["change"] == -1.0


def test_the_nadir_does_not_depend_on_how_long_a_patient_is_followed():
    values = [(-3, 800.0), (28, 500.0), (56, 400.0), (112, 50.0)]
    for analyte in ("crp", "ca199"):
        assert one(analyte, *values)["value"]["nadir"] == one(analyte, *values[:3])["value"]["nadir"] == -1.0
    rng = np.random.default_rng(6)
    ours, naive = [], []
    for _ in range(30):
        y = np.tile([0, 1], 15)
        rows = [
            draw(f"P{k:02d}", day, "crp", 2 ** rng.normal(3, 0.5))
            for k in range(30)
            for day in (-3, 28, 56, *((84, 112, 140) if y[k] else ()))
        ]
        blood = blood_table(rows)
        nadir = measured(blood).xs("nadir", level="measure")["value"].to_numpy()
        levels = np.log2(blood.set_index(["patient_id", "day"])["value"])
        lowest = levels[levels.index.get_level_values("day") > 0].groupby("patient_id").min()
        whole = (lowest - levels.xs(-3, level="day")).to_numpy()
        for found, values in ((ours, nadir), (naive, whole)):
            options = {"n_permutations": 199, "seed": 1}
            found.append(statistics.permutation_p(values[:, None], y, np.zeros(30), **options).p[0])
    # Nothing goes with the label but how many draws there are: treatment goes on where it works.
    assert (np.array(ours) <= 0.05).sum() <= 5  # binomial(30, .05): more has probability .003
    assert np.mean(np.array(naive) <= 0.05) >= 0.15  # .20 to .33 over six seeds


# --- CA19-9 (R08)


def test_ca199_of_a_non_secretor_has_no_measure():
    found = one("ca199", (-3, 800.0), (56, 100.0), (84, 50.0), lewis=["negative"])
    assert found["value"].isna().all() and set(found["code"]) == {"R08"}
    flat = one("ca199", (-3, 1.5), (56, 1.2), (84, 1.4), lewis=["unknown"])
    assert flat["value"].isna().all() and set(flat["code"]) == {"R08"}
    secreting = one("ca199", (-3, 800.0), (56, 100.0), (84, 50.0), lewis=["positive"])
    assert secreting["value"].notna().all() and set(secreting["code"]) == {""}


def test_ca199_in_cholestasis_has_no_measure():
    rows = [draw("P00", day, "ca199", value) for day, value in ((-3, 800.0), (56, 100.0))]
    jaundiced = measured(blood_table([*rows, draw("P00", -3, "bilirubin", 90.0)])).loc[("P00", "ca199")]
    assert jaundiced["value"].isna().all() and set(jaundiced["code"]) == {"R08"}
    drained = measured(blood_table([*rows, draw("P00", -3, "bilirubin", 20.0)])).loc[("P00", "ca199")]
    assert drained["value"][["baseline", "change"]].tolist() == pytest.approx([np.log2(800), -3.0])


def test_a_normal_ca199_is_a_baseline_without_a_course():
    found = one("ca199", (-3, 30.0), (56, 10.0), (84, 9.0))
    assert found["value"]["baseline"] == pytest.approx(np.log2(30))
    assert found["value"].drop("baseline").isna().all()
    assert found["code"].to_dict() == {"baseline": "", "change": "R08", "slope": "R08", "nadir": "R08"}


def test_missing_ca199_for_other_reasons_is_no_r08():
    found = one("ca199", (-3, 800.0))
    assert set(found["code"]) == {""} and "no CA19-9 within" in found["reason"]["change"]


# --- the series


def test_the_series_holds_every_value_in_the_unit_of_the_analyte():
    _, treatment, local = tables(1, surgery=[60])
    rows = [
        draw("P00", -3, "albumin", 3.5, unit="g/dL"),
        draw("P00", -3, "ca199", 64.0),
        draw("P00", 70, "ca199", 32.0),
        draw("P00", 80, "ca199", 2.0, censor="<"),
    ]
    series = blood_series(blood_table(rows), treatment, local)
    assert list(series.columns) == SERIES_COLUMNS
    assert series["level"].round(6).tolist()[:3] == [35.0, 64.0, 32.0]
    assert series["level_unit"].tolist()[:2] == ["g/L", "U/mL"]
    assert series["counts"].tolist() == [1, 1, 0, 0]
    assert series["uln"].tolist()[1] == 37.0
    assert series["reason"].tolist() == ["", "", "", "censored value"] and np.isnan(series["level"].iloc[3])


def test_order_of_rows_and_other_patients_do_not_matter_and_nothing_gives_nothing():
    blood = cohort(1, 5)
    plain = measured(blood)
    pd.testing.assert_frame_equal(plain, measured(blood.sample(frac=1, random_state=1)))
    alone = measured(blood[blood["patient_id"] == "P02"])
    pd.testing.assert_frame_equal(plain.loc[["P02"]], alone)
    patients, treatment, local = tables(2)
    options = {"windows": {}, "rules": RULES, "min_values": 3}
    empty = measure_courses(blood.iloc[:0], patients, treatment, local, **options)
    assert empty.empty and list(empty.columns) == MEASURE_COLUMNS
    assert set(plain.index.get_level_values("measure")) == set(MEASURES)
