"""Blood: the course of CA19-9 says response only where it can; indices come from one draw; windows hold their days."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livermet.blood import (
    LINEAR,
    WINDOWS,
    Ca199Rules,
    ca199_course,
    disturbed_days,
    indices,
    is_normal,
    linear_analytes,
    measures,
    windowed,
)

RULES = Ca199Rules()
START, SCAN = 5, 61
FALLS = ("ca199_resp50", "ca199_resp20", "ca199_resp70", "ca199_resp90")
COMPARED = ("ca199_log2fc", "ca199_change", *FALLS, "ca199_norm")
ALL = (*COMPARED, "ca199_slope", "ca199_nadir")


def draw(day, value, analyte="ca199", unit="U/mL", **fields):
    return {
        "patient_id": "P1",
        "day": day,
        "analyte": analyte,
        "value": value,
        "unit": unit,
        "row": 100 + day,
        **fields,
    }


def bilirubin(day, value, **fields):
    return draw(day, value, "bilirubin", "umol/L", **fields)


def course(*draws, end=None, evaluation_day=SCAN, lewis_status="", rules=RULES, **options):
    return ca199_course(
        draws, start=START, end=end, evaluation_day=evaluation_day, lewis_status=lewis_status, rules=rules, **options
    )


def values(*draws, **options):
    return {name: label.value for name, label in course(*draws, **options).labels.items()}


def reasons(*draws, **options):
    labels = course(*draws, **options).labels
    assert set(labels) == set(ALL)
    assert all(bool(label.value) != bool(label.reason) for label in labels.values())
    return {name: label.reason for name, label in labels.items() if label.reason}


def test_a_course_with_a_fall_of_three_quarters():
    found = course(draw(0, 800.0), draw(33, 400.0), draw(61, 200.0), bilirubin(1, 12.0))
    labels = {name: label.value for name, label in found.labels.items()}
    assert labels["ca199_log2fc"] == "-2"
    assert labels["ca199_change"] == "-75"
    assert [labels[name] for name in FALLS] == ["1", "1", "1", "0"]
    assert labels["ca199_norm"] == "0"
    assert labels["ca199_nadir"] == "-2"
    slope = 28 * np.polyfit([0, 33, 61], np.log2([800, 400, 200]), 1)[0]
    assert float(labels["ca199_slope"]) == pytest.approx(slope)
    assert found.baseline.day == 0 and found.reevaluation.day == 61 and found.nadir.day == 61
    assert [row["row"] for row in found.labels["ca199_log2fc"].rows] == [100, 161]
    assert [row["row"] for row in found.labels["ca199_slope"].rows] == [100, 133, 161]
    assert found.notes == ()


@pytest.mark.parametrize(
    ("follow_up", "expected"),
    [(100.0, "1"), (100.001, "0"), (99.9, "1"), (0.0, "1"), (400.0, "0")],
)
def test_a_fall_of_exactly_half_counts(follow_up, expected):
    assert values(draw(0, 200.0), draw(SCAN, follow_up))["ca199_resp50"] == expected


def test_normal_means_below_the_upper_limit_at_the_reevaluation_and_not_at_the_nadir():
    assert values(draw(0, 800.0), draw(SCAN, 36.9))["ca199_norm"] == "1"
    assert values(draw(0, 800.0), draw(SCAN, 37.0))["ca199_norm"] == "0"
    later = values(draw(0, 800.0), draw(SCAN, 100.0), draw(120, 20.0))
    assert later["ca199_norm"] == "0" and float(later["ca199_nadir"]) == pytest.approx(math.log2(20 / 800))


# --- baseline


@pytest.mark.parametrize(("days", "baseline"), [((-9, 0, 4), 4), ((-9, 5, 6), 5), ((-20, -9, 6), -9)])
def test_the_baseline_is_the_last_value_up_to_the_start(days, baseline):
    assert course(*(draw(day, 100.0 + day) for day in days), draw(SCAN, 50.0)).baseline.day == baseline


@pytest.mark.parametrize("day", [-10, 6])
def test_without_a_value_in_the_two_weeks_before_the_start_there_is_no_label(day):
    found = reasons(draw(day, 800.0), draw(SCAN, 50.0))
    assert set(found) == set(ALL)
    assert all("14 days up to the start on day 5" in reason for reason in found.values())


def test_a_baseline_in_cholestasis_leaves_all_labels_missing():
    found = reasons(draw(0, 800.0), bilirubin(-7, 41.0), draw(SCAN, 50.0))
    assert set(found) == set(ALL)
    assert "cholestasis" in found["ca199_resp50"] and "2.05 x ULN" in found["ca199_resp50"]


@pytest.mark.parametrize(
    "rows",
    [
        (bilirubin(0, 40.0),),  # twice the limit is not above it
        (bilirubin(-8, 200.0),),  # too far away to speak for it
        (bilirubin(2, 90.0, uln=50.0),),  # the laboratory's own limit comes first
        (bilirubin(-6, 200.0), bilirubin(1, 15.0)),  # the nearest decides
        (draw(0, 2.0, "bilirubin", "mg/dL"),),  # 34 umol/L
    ],
)
def test_a_baseline_without_cholestasis_is_used(rows):
    assert values(draw(0, 800.0), *rows, draw(SCAN, 50.0))["ca199_resp50"] == "1"


def test_of_two_bilirubins_as_near_the_higher_decides():
    assert reasons(draw(0, 800.0), bilirubin(-1, 90.0), bilirubin(1, 12.0), draw(SCAN, 50.0))


def test_after_drainage_the_value_with_normalised_bilirubin_is_the_baseline():
    drained = course(
        *(draw(-8, 2400.0), bilirubin(-8, 150.0), draw(4, 800.0), bilirubin(4, 18.0), draw(SCAN, 600.0)),
    )
    assert drained.baseline.day == 4 and drained.labels["ca199_resp50"].value == "0"
    too_late = reasons(draw(0, 2400.0), bilirubin(0, 150.0), draw(20, 800.0), bilirubin(20, 18.0), draw(SCAN, 100.0))
    assert "cholestasis" in too_late["ca199_resp50"]


def test_a_baseline_without_bilirubin_is_used_with_a_note():
    found = course(draw(0, 800.0), draw(SCAN, 50.0))
    assert found.labels["ca199_resp50"].value == "1"
    assert found.notes == ("no bilirubin within 7 days of the baseline on day 0",)


@pytest.mark.parametrize("baseline", [37.0, 21.0])
def test_a_normal_baseline_leaves_all_labels_missing(baseline):
    found = reasons(draw(0, baseline), draw(SCAN, 5.0))
    assert set(found) == set(ALL)
    assert f"{baseline:g} U/mL is not above 37" in found["ca199_resp50"]
    assert values(draw(0, 37.1), draw(SCAN, 5.0))["ca199_resp50"] == "1"


# --- non-secretors


def test_a_lewis_negative_patient_has_no_label_whatever_the_values():
    found = reasons(draw(0, 800.0), draw(SCAN, 20.0), lewis_status="negative")
    assert set(found) == set(ALL) and all("never a responder" in reason for reason in found.values())
    assert not reasons(draw(0, 800.0), draw(33, 90.0), draw(SCAN, 20.0), lewis_status="positive")


@pytest.mark.parametrize(
    "level",
    [
        {"value": 1.9},
        {"value": 5.0, "censor": "<"},
        {"value": 50.0, "censor": "<"},
        {"value": 3.0, "lod": 3.0},
    ],
)
def test_a_patient_whose_values_all_lie_at_the_limit_is_a_non_secretor(level):
    def at(day):
        return draw(day, **level)

    assert "non-secretor" in reasons(at(0), at(SCAN))["ca199_resp50"]
    other = reasons(at(0), at(SCAN), draw(90, 60.0))
    assert "non-secretor" not in other["ca199_resp50"]


@settings(deadline=None, derandomize=True)
@given(
    levels=st.lists(st.tuples(st.integers(-40, 200), st.floats(0, 1.999), st.sampled_from(["", "<", "="])), max_size=8),
    lewis=st.sampled_from(["", "positive", "unknown", "negative"]),
)
def test_a_non_secretor_is_never_a_responder(levels, lewis):
    found = reasons(*(draw(day, value, censor=censor) for day, value, censor in levels), lewis_status=lewis)
    assert set(found) == set(ALL)


# --- re-evaluation


@pytest.mark.parametrize(
    ("days", "chosen"),
    [((20, 50, 70), 70), ((47, 75), 47), ((60, 62), 60), ((58, 61, 90), 61)],
)
def test_the_reevaluation_is_the_value_nearest_to_the_scan(days, chosen):
    assert course(draw(0, 800.0), *(draw(day, 50.0) for day in days)).reevaluation.day == chosen


def test_a_value_too_far_from_the_scan_is_no_reevaluation_but_still_a_nadir():
    found = reasons(draw(0, 800.0), draw(46, 50.0), draw(76, 50.0))
    assert set(found) == set(COMPARED)
    assert "within 14 days of day 61" in found["ca199_resp50"]


def test_a_value_up_to_the_start_is_no_reevaluation():
    assert "no CA19-9 within" in reasons(draw(4, 800.0), draw(5, 100.0), evaluation_day=10)["ca199_resp50"]


def test_without_a_scan_the_window_of_the_trial_counts():
    rows = (draw(0, 800.0), draw(START + 35, 100.0), draw(START + 60, 90.0))
    assert course(*rows, evaluation_day=None).reevaluation.day == START + 60
    assert course(*rows, evaluation_day=None, window=(10, 40)).reevaluation.day == START + 35
    assert "within 10 days" in reasons(*rows, evaluation_day=None, window=(80, 100))["ca199_resp50"]


def test_cholestasis_at_the_reevaluation_hides_a_fall_but_does_not_make_one():
    jaundiced = (draw(0, 800.0), draw(SCAN, 500.0), bilirubin(SCAN, 120.0))
    found = reasons(*jaundiced)
    assert "cholestasis" in found["ca199_resp50"] and "ca199_resp20" not in found
    labels = values(*jaundiced)
    assert labels["ca199_resp20"] == "1"  # the true value is lower still
    assert labels["ca199_resp50"] == labels["ca199_log2fc"] == ""
    assert course(*jaundiced, draw(SCAN + 10, 90.0)).reevaluation.day == SCAN + 10


# --- the end of the course


def test_what_comes_after_surgery_makes_no_responder():
    rows = (draw(0, 800.0), draw(SCAN, 790.0), draw(70, 10.0))
    assert values(*rows, end=(65, "local treatment"), evaluation_day=68)["ca199_resp50"] == "0"
    assert values(*rows, evaluation_day=68)["ca199_resp50"] == "1"
    late = reasons(draw(0, 800.0), draw(70, 10.0), end=(65, "local treatment"))
    assert "up to local treatment on day 65" in late["ca199_resp50"]
    assert "after the start of treatment up to local treatment" in late["ca199_nadir"]
    assert values(draw(0, 800.0), draw(65, 10.0), end=(65, "local treatment"))["ca199_resp50"] == "1"  # the day itself


LEVELS = st.lists(
    st.tuples(
        st.integers(-20, 160), st.floats(0.1, 1e5), st.sampled_from(["", "<", ">"]), st.sampled_from(["", "A", "B"])
    ),
    max_size=10,
)


@settings(deadline=None, derandomize=True)
@given(levels=LEVELS, late=LEVELS, jaundice=st.lists(st.integers(-20, 160), max_size=4), end=st.integers(START, 120))
def test_rows_after_the_end_never_matter(levels, late, jaundice, end):
    rows = [draw(day, value, censor=censor, platform=platform) for day, value, censor, platform in levels]
    rows += [bilirubin(day, 90.0) for day in jaundice]
    more = [draw(end + 21 + day, value, censor=censor, platform=platform) for day, value, censor, platform in late]
    more += [bilirubin(end + 1, 5.0), draw(end + 1, 1.0, unit="nonsense")]
    ended = (end, "local treatment")
    assert course(*rows, *more, end=ended) == course(*rows, end=ended)


# --- units, censoring, assays


@settings(deadline=None, derandomize=True)
@given(
    levels=st.lists(st.floats(100, 1e4), min_size=3, max_size=6),
    factor=st.floats(0.5, 50),
)
def test_a_constant_factor_changes_neither_ratios_nor_falls(levels, factor):
    days = [0, *range(33, 33 + 14 * (len(levels) - 1), 14)]
    one = values(*(draw(day, level) for day, level in zip(days, levels, strict=True)))
    other = values(*(draw(day, factor * level) for day, level in zip(days, levels, strict=True)))
    for name in ("ca199_log2fc", "ca199_change", "ca199_slope", "ca199_nadir"):
        assert float(one[name]) == pytest.approx(float(other[name]), rel=1e-6, abs=1e-6)
    assert {name: one[name] for name in FALLS} == {name: other[name] for name in FALLS}


def test_units_may_differ_within_a_patient_and_an_unknown_one_leaves_all_labels_missing():
    assert values(draw(0, 800.0, unit="kE/L"), draw(SCAN, 200.0))["ca199_log2fc"] == "-2"
    found = reasons(draw(0, 800.0), draw(SCAN, 200.0, unit="U/L"))
    assert set(found) == set(ALL) and "'U/L'" in found["ca199_resp50"]
    assert "bilirubin" in reasons(draw(0, 800.0), bilirubin(0, 1.0) | {"unit": "mmol/L"})["ca199_resp50"]


def test_a_censored_follow_up_decides_the_falls_that_it_reaches():
    rows = (draw(0, 100.0), draw(SCAN, 30.0, censor="<"))
    labels, why = values(*rows), reasons(*rows)
    assert [labels[name] for name in FALLS] == ["1", "1", "1", ""]  # at least 70 %; 90 % stays open
    assert labels["ca199_norm"] == "1"
    assert "censored (<30 U/mL on day 61)" in why["ca199_resp90"]
    # The limit stands for the value, so that the best responders are not the ones who are missing.
    assert labels["ca199_change"] == "-70" and labels["ca199_log2fc"] == labels["ca199_nadir"]
    assert float(labels["ca199_log2fc"]) == pytest.approx(math.log2(0.3))
    assert any("at least so large" in note for note in course(*rows).notes)
    high = values(draw(0, 100.0), draw(SCAN, 1000.0, censor=">"))
    assert [high[name] for name in FALLS] == ["0", "0", "0", "0"] and high["ca199_norm"] == "0"
    assert values(draw(0, 800.0), draw(SCAN, 37.0, censor="<"))["ca199_norm"] == "1"
    assert values(draw(0, 800.0), draw(SCAN, 40.0, censor="<"))["ca199_norm"] == ""


def test_a_censored_baseline_decides_what_every_baseline_above_it_would():
    rows = (draw(0, 10000.0, censor=">"), draw(SCAN, 4000.0))
    labels = values(*rows)
    assert [labels[name] for name in FALLS] == ["1", "1", "", ""]
    assert "baseline is censored (>10000" in reasons(*rows)["ca199_log2fc"]
    assert "may not be above 37" in reasons(draw(0, 50.0, censor="<"), draw(33, 80.0), draw(SCAN, 4.0))["ca199_norm"]
    assert "not above 37" in reasons(draw(0, 30.0, censor="<"), draw(33, 80.0), draw(SCAN, 4.0))["ca199_norm"]


def test_the_nadir_is_unknown_where_a_censored_value_may_lie_below_it():
    assert "censored" in reasons(draw(0, 800.0), draw(33, 50.0, censor="<"), draw(SCAN, 40.0))["ca199_nadir"]
    assert values(draw(0, 800.0), draw(33, 5000.0, censor=">"), draw(SCAN, 400.0))["ca199_nadir"] == "-1"
    assert "censored" in reasons(draw(0, 800.0), draw(33, 900.0, censor=">"), draw(SCAN, 1600.0))["ca199_nadir"]
    assert values(draw(0, 800.0), draw(33, 1600.0))["ca199_nadir"] == "1"  # a rise is a rise


def test_a_zero_has_no_logarithm_but_is_a_fall():
    rows = (draw(0, 800.0), draw(33, 90.0), draw(SCAN, 0.0))
    found = reasons(*rows)
    assert set(found) == {"ca199_log2fc", "ca199_slope", "ca199_nadir"}
    assert values(*rows)["ca199_change"] == "-100"


def test_the_slope_needs_three_values_and_leaves_out_cholestatic_ones():
    assert "2 value(s)" in reasons(draw(0, 800.0), draw(SCAN, 200.0))["ca199_slope"]
    clean = (draw(0, 800.0), draw(33, 400.0), draw(SCAN, 200.0))
    jaundiced = course(*clean, draw(47, 9000.0), bilirubin(47, 150.0))
    assert jaundiced.labels["ca199_slope"].value == values(*clean)["ca199_slope"]
    assert any("1 value(s) in cholestasis" in note for note in jaundiced.notes)
    assert "censored" in reasons(*clean, draw(80, 5.0, censor="<"))["ca199_slope"]


def test_values_are_compared_within_one_assay():
    rows = (draw(0, 800.0, platform="Roche"), draw(SCAN, 100.0, platform="Abbott"))
    found = reasons(*rows)
    assert set(found) == set(ALL)
    assert "baseline by Roche, re-evaluation by Abbott" in found["ca199_resp50"]
    assert any("1 value(s) by another assay left out (Abbott)" in note for note in course(*rows).notes)
    same = course(*rows, draw(70, 500.0, platform="Roche"))
    assert same.reevaluation.day == 70 and same.nadir.day == 70
    assert values(draw(0, 800.0, platform="Roche"), draw(SCAN, 100.0))["ca199_resp50"] == "1"


def test_a_draw_measured_by_both_assays_bridges_the_change():
    bridged = course(
        draw(0, 900.0, platform="Abbott"), draw(0, 800.0, platform="Roche"), draw(SCAN, 600.0, platform="Abbott")
    )
    assert bridged.baseline.value == 900 and bridged.labels["ca199_change"].value == f"{100 * (600 / 900 - 1):.10g}"


def test_no_value_at_all():
    assert all("no CA19-9" in reason for reason in reasons(bilirubin(0, 12.0), draw(0, None)).values())


@pytest.mark.parametrize(
    ("value", "censor", "normal"),
    [(37.0, "", True), (38.0, "", False), (5.0, "<", True), (50.0, "<", None), (50.0, ">", False), (20.0, ">", None)],
)
def test_whether_one_value_is_normal(value, censor, normal):
    assert is_normal(draw(0, value, censor=censor), rules=RULES) is normal


# --- indices


def panel(day=0, **given):
    units = {"crp": "mg/L", "albumin": "g/L"}
    return [draw(day, value, analyte, units.get(analyte, "10^9/L")) for analyte, value in given.items()]


def index(name, rows):
    (found,) = [index for index in indices(rows) if index.name == name]
    return found


def test_indices_of_one_draw():
    rows = panel(neutrophils=6.0, lymphocytes=1.5, platelets=300.0, crp=20.0, albumin=40.0)
    found = {index.name: index.value for index in indices(rows)}
    assert found == {"nlr": 4.0, "plr": 200.0, "sii": 1200.0, "mgps": 1.0, "crp_albumin": 0.5, "mps": 0.0}


@pytest.mark.parametrize(
    ("crp", "albumin", "score"), [(10.0, 30.0, 0), (10.1, 35.0, 1), (10.1, 34.9, 2), (200.0, 20.0, 2)]
)
def test_mgps(crp, albumin, score):
    assert index("mgps", panel(crp=crp, albumin=albumin)).value == score


@pytest.mark.parametrize(
    ("neutrophils", "albumin", "score"), [(4.0, 40.0, 0), (4.1, 40.0, 1), (4.0, 39.9, 1), (4.1, 39.9, 2)]
)
def test_mps(neutrophils, albumin, score):
    assert index("mps", panel(neutrophils=neutrophils, lymphocytes=1.0, albumin=albumin)).value == score


def test_indices_are_in_canonical_units():
    rows = [draw(0, 4500.0, "neutrophils", "cells/uL"), draw(0, 1.5, "lymphocytes", "10^3/uL")]
    assert index("nlr", rows).value == 3
    rows = [draw(0, 2.0, "crp", "mg/dL"), draw(0, 3.0, "albumin", "g/dL")]
    assert index("mgps", rows).value == 2
    assert "not understood" in index("mgps", [rows[0], draw(0, 30.0, "albumin", "oz")]).reason


def test_values_of_two_days_make_no_index():
    found = [
        index for index in indices([*panel(0, neutrophils=6.0), *panel(1, lymphocytes=1.5)]) if index.name == "nlr"
    ]
    assert [(index.day, index.value, index.reason) for index in found] == [
        (0, None, "no lymphocytes on the same day"),
        (1, None, "no neutrophils on the same day"),
    ]
    assert indices(panel(0, neutrophils=6.0, crp=5.0)) == []  # the others were never measured


@pytest.mark.parametrize(("column", "words"), [("gcsf", "G-CSF"), ("infection", "infection")])
def test_gcsf_and_infection_exclude_what_neutrophils_make(column, words):
    rows = panel(neutrophils=6.0, lymphocytes=1.5, platelets=300.0, crp=20.0, albumin=40.0)
    rows[1] = rows[1] | {column: 1}
    found = {
        index.name: index for index in indices([*rows, *panel(7, neutrophils=6.0, lymphocytes=1.5)]) if index.day == 0
    }
    for name in ("nlr", "sii", "mps"):
        assert found[name].value is None and words in found[name].reason
    assert found["plr"].value == 200 and found["mgps"].value == 1
    assert list(disturbed_days(rows)) == [0]
    rows[1] = rows[1] | {column: 0}
    assert index("nlr", rows).value == 4


def test_no_lymphocytes_make_no_ratio():
    assert index("nlr", panel(neutrophils=6.0, lymphocytes=0.0)).reason == "division by 0"


def test_a_censored_part_decides_a_score_only_where_it_can():
    crp, albumin = panel(crp=5.0, albumin=30.0)
    assert index("mgps", [crp | {"censor": "<"}, albumin]).value == 0
    assert index("crp_albumin", [crp | {"censor": "<"}, albumin]).reason == "censored value"
    assert index("mgps", [crp | {"censor": ">"}, albumin]).reason == "censored value"
    assert index("mgps", [crp | {"value": 200.0, "censor": ">"}, albumin]).value == 2


# --- windows


def test_draws_belong_to_windows_with_both_their_ends():
    days = [-24, -23, 5, 6, 39, 40, 82, 83, 171, 172, 199, 200, 220, 221, 256, 257]
    found = windowed([draw(day, 1.0) for day in days], start=5, surgery=200, windows=WINDOWS)
    assert {timepoint: [row["day"] for row in rows] for timepoint, rows in found.items()} == {
        "T0_pre": [-23, 5],
        "T1_reeval": [40, 82],
        "T2_preop": [172, 199],
        "T4_postop": [221, 256],
    }


def test_without_surgery_nothing_counts_from_it_and_after_surgery_nothing_from_treatment():
    days = [draw(day, 1.0) for day in (45, 60)]
    assert set(windowed(days, start=5, surgery=None, windows=WINDOWS)) == {"T0_pre", "T1_reeval"}
    found = windowed(days, start=5, surgery=50, windows=WINDOWS)
    assert [row["day"] for row in found["T1_reeval"]] == [45]
    assert [row["day"] for row in found["T2_preop"]] == [45]
    assert set(windowed(days, start=5, surgery=50, windows={"T1_from_treatment": [0, 9]})) == {"T1_reeval"}


def measured(rows, **options):
    found = measures(rows, start=0, surgery=None, windows=WINDOWS, **options)
    return {(m.timepoint, m.feature): m for m in found if not m.reason}, [m for m in found if m.reason]


def test_the_last_value_counts_before_treatment_and_the_nearest_to_the_middle_later():
    days = (-20, -4, 0, 36, 54, 60, 77)
    found, left_out = measured([draw(day, float(day + 30), "il6", "pg/mL") for day in days])
    assert found["T0_pre", "il6"].level == 30
    assert found["T1_reeval", "il6"].level == 84
    assert left_out == []


def test_of_two_values_of_one_day_the_last_row_counts():
    found, _ = measured([draw(0, 1.0, "il6", "pg/mL"), draw(0, 2.0, "il6", "pg/mL")])
    assert found["T0_pre", "il6"].level == 2


@pytest.mark.parametrize(
    ("fields", "detected", "level"),
    [
        ({"value": 0.02, "lod": 0.001}, 1, 0.0205),
        ({"value": 2.0, "lod": 0.1, "unit": "%"}, 1, 0.0205),
        ({"value": 0.001, "censor": "<", "lod": 0.001}, 0, 0.0005),
        ({"value": 0.002, "censor": "<"}, 0, 0.001),  # the limit stands in the value
        ({"value": 0.0, "lod": 0.001}, 0, 0.0005),
        ({"value": 0.0004, "lod": 0.001}, 0, 0.0009),
    ],
)
def test_kras_is_logged_with_half_the_limit_of_detection(fields, detected, level):
    found, _ = measured([draw(0, analyte="kras_vaf", **{"unit": "fraction", **fields})])
    assert found["T0_pre", "kras_detected"].value == detected
    assert found["T0_pre", "kras_vaf"].value == pytest.approx(math.log2(level))
    assert found["T0_pre", "kras_vaf"].unit == "log2 fraction"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (draw(0, 0.0), "zero or negative, no logarithm"),
        (draw(0, 0.0, "crp", "mg/L"), "zero or negative, no logarithm"),
        (draw(0, -1.0, "base_excess", "mmol/L"), "zero or negative, no logarithm"),  # unless the cohort is asked
        (draw(0, 3.0, "crp", "mg/L", censor="<", lod=3.0), "censored value"),
        (draw(0, 2.0, censor="<"), "censored value"),
        (draw(0, 0.5, "kras_vaf", "fraction", censor=">", lod=0.001), "censored value"),
        (draw(0, None), "value missing"),
    ],
)
def test_a_value_that_cannot_be_used_is_left_out_with_the_reason(row, words):
    found, left_out = measured([row])
    assert found == {}
    assert words in [measure.reason for measure in left_out if measure.timepoint == "T0_pre"]


def test_kras_without_limit_of_detection_is_detected_or_not_and_no_more():
    found, left_out = measured([draw(0, 0.02, "kras_vaf", "fraction")])
    assert found["T0_pre", "kras_detected"].value == 1
    assert ("T0_pre", "kras_vaf", "no limit of detection (column lod)") in [
        (m.timepoint, m.feature, m.reason) for m in left_out
    ]


@pytest.mark.parametrize(
    ("name", "value", "unit"),
    [
        ("ca199", 9.0, "log2 U/mL"),
        ("crp", 4.0, "log2 mg/L"),
        ("neutrophils", 3.0, "log2 10^9/L"),
        ("lymphocytes", 1.0, "log2 10^9/L"),
        ("nlr", 2.0, "log2 ratio"),
        ("crp_albumin", -1.0, "log2 mg/g"),
        ("il6", 5.0, "log2 pg/mL"),
        ("albumin", 32.0, "g/L"),
        ("mgps", 2.0, "score"),
        ("mps", 1.0, "score"),
    ],
)
def test_all_but_albumin_and_scores_are_on_the_log2_scale(name, value, unit):
    rows = panel(neutrophils=8.0, lymphocytes=2.0, crp=16.0, albumin=32.0)
    found, _ = measured([*rows, draw(0, 512.0), draw(0, 32.0, "il6", "pg/mL")])
    assert (found["T0_pre", name].value, found["T0_pre", name].unit) == (value, unit)
    level = found["T0_pre", name].level
    assert level == (2**value if unit.startswith("log2") else value)


def test_an_index_of_zero_has_no_logarithm_but_a_score_has_its_value():
    found, left_out = measured(panel(neutrophils=0.0, lymphocytes=2.0, crp=0.0, albumin=38.0))
    assert {feature for _, feature in found} == {"lymphocytes", "albumin", "mgps", "mps"}
    assert found["T0_pre", "mgps"].value == 0 and found["T0_pre", "mps"].value == 1
    words = {measure.feature: measure.reason for measure in left_out if measure.timepoint == "T0_pre"}
    assert words == dict.fromkeys(("neutrophils", "nlr", "crp", "crp_albumin"), "zero or negative, no logarithm")


def test_a_zero_anywhere_decides_the_scale_of_an_analyte_without_recipe_only():
    linear = linear_analytes(["base_excess", "base_excess", "il6", "crp", "il8"], [3.0, -1.0, 2.0, 0.0, math.nan])
    assert linear == {*LINEAR, "base_excess"}
    found, left_out = measured(
        [draw(0, 3.0, "base_excess", "mmol/L"), draw(60, -1.0, "base_excess", "mmol/L")], linear=linear
    )
    assert found["T0_pre", "base_excess"].value == 3 and found["T0_pre", "base_excess"].unit == "mmol/L"
    assert found["T1_reeval", "base_excess"].value == -1 and left_out == []


@settings(deadline=None, derandomize=True)
@given(
    value=st.floats(-10, 1e6),
    censor=st.sampled_from(["", "<", ">"]),
    analyte=st.sampled_from(["crp", "il6", "kras_vaf"]),
)
def test_no_value_is_infinite_and_none_is_missing_without_a_reason(value, censor, analyte):
    unit = {"crp": "mg/L", "il6": "pg/mL", "kras_vaf": "%"}[analyte]
    for measure in measures([draw(0, value, analyte, unit, censor=censor)], start=0, surgery=None, windows=WINDOWS):
        assert (measure.value is None) == bool(measure.reason)
        assert measure.value is None or math.isfinite(measure.value)
