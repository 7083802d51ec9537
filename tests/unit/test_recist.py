"""RECIST 1.1 on the criteria's own tables and examples, and on what must hold for any patient.

"Eisenhauer" is Eur J Cancer 2009;45:228-247, "Schwartz" Eur J Cancer 2009;45:261-267, "RECIST FAQ" the questions and
answers at recist.eortc.org. An example without a source is made up here to show a rule of the criteria or, where the
test says so, a rule of this project.
"""

from __future__ import annotations

import math
import random
import subprocess
import sys
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livermet.recist import (
    RecistRules,
    best_overall,
    evaluate_course,
    lesion_change,
    log_change,
    overall_response,
    structure_problems,
    target_response,
)

RULES = RecistRules()
ORDER = ("CR", "PR", "SD", "NE", "PD")


def lesion(lesion_id, day, mm=None, *, status=None, target=1, organ="", node=None, related="", modality=""):
    status = ("measured" if mm is not None else "") if status is None else status
    return {
        "patient_id": "P1",
        "lesion_id": lesion_id,
        "day": day,
        "target": target,
        "diameter_mm": mm,
        "status": status,
        "organ": organ,
        "node": node,
        "related_lesion_id": related,
        "modality": modality,
    }


def scan(day, *, new=None, nontarget="", modality=""):
    return {"patient_id": "P1", "day": day, "modality": modality, "new_lesion": new, "nontarget": nontarget}


def numbered(rows):
    return [row if "row" in row else {**row, "row": line} for line, row in enumerate(rows, start=2)]


def course(lesions, scans=(), *, start=0, end=None, rules=RULES, **options):
    return evaluate_course(numbered(lesions), numbered(scans), start=start, end=end, rules=rules, **options)


def sums(*values, first=-7, step=56, **options):
    """One lesion whose diameter is the sum: baseline, then an evaluation every eight weeks."""
    return [lesion("L1", first if i == 0 else i * step, value, **options) for i, value in enumerate(values)]


def responses(one):
    return [evaluation.response for evaluation in one.evaluations]


# Target lesions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("baseline", "nadir", "current", "expected"),
    [
        # Eisenhauer 4.3.1: at least 30 % below baseline
        (100, 100, 70, "PR"),
        (100, 100, 70.1, "SD"),
        (33.3, 33.3, 23.31, "PR"),  # 0.7 * 33.3 is 23.309999999999995 in binary floats
        (20.1, 20.1, 14.07, "PR"),
        # Eisenhauer 4.3.1: at least 20 % over the smallest sum on study
        (100, 50, 60, "PD"),  # although 40 % below baseline
        (100, 50, 59.9, "PR"),
        (100, 100, 120, "PD"),
        (55.3, 55.3, 66.36, "PD"),  # 1.2 * 55.3 is 66.36 exactly as written
        (100, 90, 107.9, "SD"),
        # Eisenhauer 4.3.1: and at least 5 mm
        (100, 24, 28.8, "PR"),  # 20 %, but 4.8 mm
        (100, 10, 14.9, "PR"),
        (100, 10, 15, "PD"),
        (100, 25, 30, "PD"),
        (24, 24, 28.8, "SD"),
        # RECIST FAQ, stable disease: 165 mm, 63 mm at week 8, 65 mm at week 16 is continued PR
        (165, 165, 63, "PR"),
        (165, 63, 65, "PR"),
        # without baseline there is nothing to compare with
        (None, None, 30, "NE"),
    ],
)
def test_target_response(baseline, nadir, current, expected):
    assert target_response(baseline=baseline, nadir=nadir, current=current) == expected


def test_progression_is_seen_from_the_nadir_and_not_from_baseline():
    one = course(sums(100, 50, 60))
    assert responses(one) == ["PR", "PD"]
    assert [evaluation.nadir_mm for evaluation in one.evaluations] == [100, 50]
    assert (one.best, one.best_day, one.limit) == ("PR", 56, "progression on day 112")


def test_the_nadir_is_the_smallest_sum_and_not_the_last():
    one = course(sums(100, 50, 55, 60))
    assert [evaluation.nadir_mm for evaluation in one.evaluations] == [100, 50, 50]
    assert responses(one) == ["PR", "PR", "PD"]


def test_sums_are_exact_for_decimal_millimetres():
    rows = [lesion(f"L{i}", day, mm) for day, mm in ((-7, 11.1), (56, 7.77)) for i in range(3)]
    (evaluation,) = course(rows).evaluations
    assert (evaluation.baseline_mm, evaluation.sum_mm, evaluation.response) == (33.3, 23.31, "PR")


def test_a_lesion_too_small_to_measure_counts_5_mm():
    """Eisenhauer 4.3.2; RECIST FAQ, lesions less than 5 mm: what can be measured is recorded as measured."""
    small = course([*sums(40), lesion("L1", 56, status="too_small")])
    assert (small.evaluations[0].sum_mm, small.evaluations[0].response) == (5, "PR")
    measured = course([*sums(40), lesion("L1", 56, 3.0, status="too_small")])
    assert measured.evaluations[0].sum_mm == 3
    gone = course([*sums(40), lesion("L1", 56, status="absent")])
    assert (gone.evaluations[0].sum_mm, gone.evaluations[0].response) == (0, "CR")


@pytest.mark.parametrize(
    ("node_mm", "liver", "expected", "total"),
    [
        (9.9, "absent", "CR", 9.9),  # normal, so CR although the sum is above 0
        (10.0, "absent", "PR", 10.0),  # 10 mm is not normal
        (9.0, "too_small", "PR", 14.0),  # a lesion that is no node has to be gone
    ],
)
def test_a_node_below_10_mm_is_normal_and_still_in_the_sum(node_mm, liver, expected, total):
    """Eisenhauer 4.3.2 and 4.4.4, Schwartz: short axis below 10 mm is normal; its size is recorded all the same."""
    rows = [
        lesion("N1", -7, 20, node=1),
        lesion("L1", -7, 30),
        lesion("N1", 56, node_mm),  # the column node may be left empty later
        lesion("L1", 56, status=liver),
    ]
    (evaluation,) = course(rows).evaluations
    assert (evaluation.response, evaluation.sum_mm) == (expected, total)


def test_normal_nodes_that_vary_stay_in_complete_response():
    """Rule of this project after Eisenhauer 4.4.4 (not to overstate progression by growth of normal nodes)."""
    rows = [lesion(f"N{i}", day, mm, node=1) for day, mm in ((-7, 16), (56, 3), (112, 9)) for i in range(2)]
    assert responses(course(rows)) == ["CR", "CR"]


def test_fragments_of_a_split_lesion_are_added():
    """Eisenhauer 4.3.2: the longest diameters of the fragments are added."""
    rows = [
        lesion("L1", -7, 40),
        lesion("L1", 56, status="split"),
        lesion("L1a", 56, 12, status="split", related="L1"),
        lesion("L1b", 56, 13, status="split", related="L1"),
        lesion("L1a", 112, 20),
        lesion("L1b", 112, 10),
        lesion("L1a", 168, 20),
    ]
    one = course(rows, [scan(56, new=0)])
    assert [evaluation.sum_mm for evaluation in one.evaluations] == [25, 30, None]
    assert responses(one) == ["PR", "PD", "NE"]
    assert "L1b was not measured" in one.evaluations[2].reason
    assert not any(evaluation.new_lesion or evaluation.contradictions for evaluation in one.evaluations)


def test_the_original_of_a_split_lesion_may_be_one_of_the_fragments():
    rows = [
        lesion("L1", -7, 40),
        lesion("L1", 56, 11, status="split"),
        lesion("L1b", 56, 13, status="split", related="L1"),
        lesion("L1b", 112, 13),
    ]
    one = course(rows)
    assert [evaluation.sum_mm for evaluation in one.evaluations] == [24, None]


def test_merged_lesions_count_once_with_the_diameter_of_the_coalesced_mass():
    """Eisenhauer 4.3.2: the longest diameter of the coalesced lesion."""
    rows = [
        lesion("L1", -7, 20),
        lesion("L2", -7, 15),
        lesion("L1", 56, 31),
        lesion("L2", 56, status="merged", related="L1"),
        lesion("L1", 112, 20),  # no further row of L2 is needed
        lesion("L1", 168, status="absent"),
        lesion("L1", 224, 12),
        lesion("L2", 224, 12),  # seen apart again
    ]
    one = course(rows)
    assert [evaluation.sum_mm for evaluation in one.evaluations] == [31, 20, 0, 24]
    assert responses(one) == ["SD", "PR", "CR", "PD"]


def test_a_coalesced_mass_may_have_a_new_id_and_is_no_new_lesion():
    rows = [
        lesion("L1", -7, 20),
        lesion("L2", -7, 15),
        lesion("L1", 56, status="merged", related="L12"),
        lesion("L2", 56, status="merged", related="L12"),
        lesion("L12", 56, 30),
    ]
    (evaluation,) = course(rows).evaluations
    assert (evaluation.sum_mm, evaluation.new_lesion, evaluation.response) == (30, False, "SD")


def test_a_split_lesion_without_fragments_is_not_gone():
    (evaluation,) = course([*sums(30), lesion("L1", 56, status="split")]).evaluations
    assert evaluation.response == "NE" and "L1 has no diameter" in evaluation.reason


@pytest.mark.parametrize("second", [("L2", "merged", "L1"), ("L2", "absent", "")])
def test_a_merger_without_carrier_is_no_complete_response(second):
    """Two lesions that merged into each other, and one that merged into nothing, have no size."""
    lesion_id, status, related = second
    rows = [
        lesion("L1", -7, 20),
        lesion("L2", -7, 15),
        lesion("L1", 56, status="merged", related="L2" if status == "merged" else ""),
        lesion(lesion_id, 56, status=status, related=related),
    ]
    (evaluation,) = course(rows).evaluations
    assert evaluation.response == "NE" and "no lesion carries its size" in evaluation.reason


def test_the_lesion_that_another_merged_into_has_to_be_measured():
    rows = [*sums(20), lesion("L2", -7, 20), lesion("L2", 56, status="merged", related="L1")]
    (evaluation,) = course(rows).evaluations
    assert evaluation.response == "NE" and "L1 was not measured" in evaluation.reason


# Missing measurements -------------------------------------------------------------------------------------------------


def test_the_measured_rest_can_show_progression():
    """Eisenhauer 4.4.2: baseline 50 mm in three lesions; later two of them alone make 80 mm: PD."""
    rows = [
        lesion("L1", -7, 20),
        lesion("L2", -7, 20),
        lesion("L3", -7, 10),
        lesion("L1", 56, 45),
        lesion("L2", 56, 35),
    ]
    (evaluation,) = course(rows).evaluations
    assert (evaluation.response, evaluation.target, evaluation.sum_mm) == ("PD", "PD", None)
    assert "L3 was not measured" in evaluation.reason


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (None, "L2 was not measured"),
        (lesion("L2", 56, status="not_evaluable"), "L2 is not evaluable (lesions.tsv, row 5)"),
        (lesion("L2", 56, 5.0, status="not_evaluable"), "L2 is not evaluable"),
        (lesion("L2", 56, status="present"), "L2 has no diameter"),
        (lesion("L2", 56), "L2 has no diameter"),
        (lesion("L2", 56, 5.0, modality="PETCT"), "L2 was seen on PET-CT alone"),
        (lesion("L2", 56, status="absent", modality="PETCT"), "L2 was seen on PET-CT alone"),
        (lesion("L2", 56, 5.0, status="absent"), "absent and yet has a diameter"),
    ],
)
def test_a_missing_measurement_is_not_evaluable(row, words):
    """Eisenhauer 4.4.2; appendix on questions: leaving a lesion out would favour a response."""
    rows = [lesion("L1", -7, 20), lesion("L2", -7, 20), lesion("L1", 56, 5)]
    (evaluation,) = course([*rows, *([row] if row else [])]).evaluations
    assert (evaluation.response, evaluation.counts, evaluation.sum_mm) == ("NE", False, None)
    assert words in evaluation.reason


def test_a_scan_alone_has_not_measured_the_targets():
    (evaluation,) = course(sums(30), [scan(56, new=0)]).evaluations
    assert evaluation.response == "NE" and evaluation.rows == (("scans", 2),)


def test_new_lesion_and_nontarget_progression_show_pd_without_a_sum():
    for reading in ({"new": 1}, {"nontarget": "PD"}):
        (evaluation,) = course(sums(30), [scan(56, **reading)]).evaluations
        assert (evaluation.target, evaluation.response) == ("NE", "PD")


def test_a_sum_that_is_not_evaluable_is_no_nadir():
    rows = [
        *sums(50, None, 30, 40),
        lesion("L2", -7, 50),
        lesion("L2", 56, 5),
        lesion("L2", 112, 30),
        lesion("L2", 168, 30),
    ]
    one = course(rows)
    assert [evaluation.nadir_mm for evaluation in one.evaluations] == [100, 100, 60]
    assert responses(one) == ["NE", "PR", "PR"]  # 20 % over the nadir would have been 72 mm


def test_ablation_of_a_target_makes_no_response():
    """RECIST FAQ, surgery and RECIST: such lesions are no longer part of the assessment, which is then incomplete."""
    rows = [
        lesion("L1", -7, 30),
        lesion("L2", -7, 30),
        lesion("L1", 40, status="locally_treated"),
        lesion("L1", 56, 5),
        lesion("L2", 56, 15),
        lesion("L2", 112, 29),
        lesion("L1", 168, status="absent"),
        lesion("L2", 168, 72),
    ]
    one = course(rows)
    assert responses(one) == ["NE", "NE", "PD"]  # in the end the remaining lesion alone is 20 % over the nadir
    assert "L1 was treated locally on day 40" in one.evaluations[0].reason
    assert one.best == "PD" and len(one.evaluations) == 3  # the ablation is no evaluation


def test_a_measurement_before_the_ablation_counts():
    rows = [*sums(30), lesion("L1", 56, 12, modality="CT"), lesion("L1", 58, status="locally_treated")]
    (evaluation,) = course(rows, [scan(60, modality="MRI")]).evaluations
    assert (evaluation.day, evaluation.last_day, evaluation.response) == (56, 60, "PR")


def test_a_lesion_that_was_ablated_before_baseline_and_grew_again_is_a_target():
    """Eisenhauer 3.1.3: measurable if it has progressed since."""
    rows = [lesion("L1", -300, status="locally_treated"), *sums(30, 12)]
    assert responses(course(rows)) == ["PR"]


# Tables 1 to 3 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "nontarget", "new_lesion", "expected"),
    [
        # Eisenhauer table 1: patients with target (with or without non-target) disease
        ("CR", "CR", False, "CR"),
        ("CR", "nonCR_nonPD", False, "PR"),
        ("CR", "NE", False, "PR"),
        ("PR", "CR", False, "PR"),
        ("PR", "nonCR_nonPD", False, "PR"),
        ("PR", "NE", False, "PR"),
        ("SD", "CR", False, "SD"),
        ("SD", "nonCR_nonPD", False, "SD"),
        ("SD", "NE", False, "SD"),
        ("NE", "CR", False, "NE"),
        ("NE", "nonCR_nonPD", False, "NE"),
        *[("PD", nontarget, new, "PD") for nontarget in ("CR", "nonCR_nonPD", "NE", "PD") for new in (False, True)],
        *[(target, "PD", new, "PD") for target in ("CR", "PR", "SD", "NE") for new in (False, True)],
        *[(target, "CR", True, "PD") for target in ("CR", "PR", "SD", "NE")],
        # the same without non-target disease
        ("CR", "", False, "CR"),
        ("PR", "", False, "PR"),
        ("NE", "", False, "NE"),
        # Eisenhauer table 2: non-target disease alone
        ("", "CR", False, "CR"),
        ("", "nonCR_nonPD", False, "nonCR_nonPD"),
        ("", "NE", False, "NE"),
        ("", "PD", False, "PD"),
        ("", "PD", True, "PD"),
        ("", "CR", True, "PD"),
        ("", "", False, "NE"),
    ],
)
def test_overall_response(target, nontarget, new_lesion, expected):
    assert overall_response(target=target, nontarget=nontarget, new_lesion=new_lesion) == expected


@pytest.mark.parametrize(
    ("first", "second", "long_enough", "too_short"),
    [
        # Eisenhauer table 3: best response if confirmation is required, with and without the minimum duration of SD
        ("CR", "CR", "CR", "CR"),
        ("CR", "PR", "SD", "PD"),  # the table allows SD, PD or PR; disease after CR is PD (footnote)
        ("CR", "SD", "SD", "PD"),
        ("CR", "PD", "SD", "PD"),
        ("CR", "NE", "SD", ""),
        ("PR", "CR", "PR", "PR"),
        ("PR", "PR", "PR", "PR"),
        ("PR", "PD", "SD", "PD"),
        ("PR", "NE", "SD", ""),
        ("NE", "NE", "", ""),
    ],
)
def test_best_response_with_confirmation(first, second, long_enough, too_short):
    assert best_overall([(56, first), (112, second)], rules=RULES, confirmed=True) == long_enough
    assert best_overall([(10, first), (40, second)], rules=RULES, confirmed=True) == too_short


def test_best_response_of_pr_then_sd_is_sd_where_confirmation_is_required():
    """Eisenhauer table 3, row PR and SD."""
    assert best_overall([(56, "PR"), (112, "SD")], rules=RULES, confirmed=True) == "SD"
    assert best_overall([(56, "PR"), (112, "SD")], rules=RULES) == "PR"


@pytest.mark.parametrize(
    ("evaluations", "expected"),
    [
        ([(56, "SD"), (112, "PR"), (168, "PD")], "PR"),  # Eisenhauer 4.4.3, first example
        ([(30, "SD"), (56, "PD")], "PD"),  # Eisenhauer 4.4.3: SD too short, then PD
        ([(30, "SD")], ""),  # Eisenhauer 4.4.3: the same patient lost to follow-up is not evaluable
        ([(41, "SD")], ""),
        ([(42, "SD")], "SD"),
        ([(56, "nonCR_nonPD")], "SD"),
        ([(30, "nonCR_nonPD")], ""),
        ([(30, "PR")], "PR"),
        ([(56, "PD"), (112, "PR")], "PD"),
        ([(56, "NE"), (112, "NE")], ""),
        ([], ""),
    ],
)
def test_best_response_without_confirmation(evaluations, expected):
    assert best_overall(evaluations, rules=RULES) == expected


def test_pr_ne_pr_is_confirmed():
    """Eisenhauer 4.4.4 calls it reasonable in most trials."""
    one = course(sums(100, 60, None, 60))
    assert responses(one) == ["PR", "NE", "PR"]
    assert (one.best, one.confirmed, one.confirmed_best) == ("PR", True, "PR")
    assert [evaluation.confirmed for evaluation in one.evaluations] == [True, None, False]


@pytest.mark.parametrize(("days", "confirmed"), [(27, False), (28, True)])
def test_a_confirming_scan_lies_four_weeks_later(days, confirmed):
    one = course([*sums(100), lesion("L1", 56, 60), lesion("L1", 56 + days, 60)])
    assert (one.best, one.confirmed) == ("PR", confirmed)
    assert one.confirmed_best == ("PR" if confirmed else "SD")


def test_a_response_that_no_longer_meets_30_percent_leaves_the_best_response():
    """RECIST FAQ, managing PR: sums 100, 70, 70, 80, 80, 80; best response PR (its table calls every evaluation PR)."""
    one = course(sums(100, 70, 70, 80, 80, 80))
    assert (one.best, one.confirmed, one.limit) == ("PR", True, "")
    assert responses(one) == ["PR", "PR", "SD", "SD", "SD"]


# Reappearance ---------------------------------------------------------------------------------------------------------


def test_a_lesion_that_reappears_in_partial_response_is_only_added():
    """RECIST FAQ, does a new lesion always result in PD: not unless the sum meets PD."""
    rows = [
        lesion("L1", -7, 60),
        lesion("L2", -7, 20),
        lesion("L1", 56, 40),
        lesion("L2", 56, status="absent"),
        lesion("L1", 112, 40),
        lesion("L2", 112, 7),
    ]
    assert responses(course(rows)) == ["PR", "PR"]
    rows[-1] = lesion("L2", 112, 8)
    assert responses(course(rows)) == ["PR", "PD"]


@pytest.mark.parametrize(
    ("again", "expected"),
    [
        ({"status": "too_small"}, "PD"),
        ({"mm": 5.0}, "PD"),
        ({"mm": 4.9}, "PR"),  # own rule: less than 5 mm waits for the next scan
        ({"status": "absent"}, "CR"),
    ],
)
def test_a_lesion_that_reappears_after_complete_response_is_progression(again, expected):
    """RECIST FAQ and footnote of Eisenhauer table 3: disease seen after CR is PD."""
    rows = [
        *sums(40),
        lesion("L1", 56, status="absent"),
        lesion("L1", 112, again.get("mm"), status=again.get("status")),
    ]
    one = course(rows)
    assert responses(one) == ["CR", expected]
    assert one.best == "CR"
    assert ("seen again after CR on day 56" in one.evaluations[1].reason) == (expected != "CR")


def test_reappearance_after_complete_response_does_not_wait_for_20_percent_of_normal_nodes():
    rows = [lesion(f"N{i}", day, mm, node=1) for day, mm in ((-7, 16), (56, 9), (112, 9)) for i in range(4)]
    rows += [lesion("L1", -7, 20), lesion("L1", 56, status="absent"), lesion("L1", 112, 6)]
    one = course(rows)
    assert [evaluation.sum_mm for evaluation in one.evaluations] == [36, 42]  # below 1.2 * 36
    assert responses(one) == ["CR", "PD"]
    # but it does where the patient was never in CR
    persisting = [*rows, lesion("B1", -7, target=0, status="present")]
    assert responses(course(persisting, [scan(56, nontarget="nonCR_nonPD")])) == ["PR", "PR"]


@pytest.mark.parametrize(("mm", "expected"), [(11, "PR"), (13.9, "PR"), (14, "PD")])
def test_a_node_that_grows_a_little_after_complete_response_is_no_progression(mm, expected):
    """RECIST FAQ, new lymph node lesions: from 9 to 11 mm may not be true progression."""
    rows = [lesion("N1", day, value, node=1) for day, value in ((-7, 20), (56, 9), (112, mm))]
    assert responses(course(rows)) == ["CR", expected]


def test_nontarget_disease_that_reappears_after_complete_response():
    def rows(last, **options):
        b1 = [lesion("B1", -7, status="present", target=0, **options), lesion("B1", 56, status="absent", target=0)]
        absent = [lesion("L1", day, status="absent") for day in (56, 112)]
        return [*sums(20), *b1, *absent, lesion("B1", 112, target=0, **last)]

    again = course(rows({"status": "present"}))
    assert responses(again) == ["CR", "PD"] and "B1 is seen again after CR" in again.evaluations[1].reason
    # RECIST FAQ, abnormal lymph node: a non-target node has reappeared only if it progressed unequivocally
    assert responses(course(rows({"mm": 11}, node=1))) == ["CR", "PR"]
    assert responses(course(rows({"status": "unequivocal_progression"}, node=1))) == ["CR", "PD"]
    # own rule: the scan's own reading stands, and the contradiction is told
    read = course(rows({"status": "present"}), [scan(112, nontarget="nonCR_nonPD")])
    assert responses(read) == ["CR", "PR"]
    assert read.evaluations[1].contradictions[0][:2] == ("scans", 2)
    # a lesion that was not there at CR, and by the scan is not new, has not come back
    first = course([*rows({"status": "absent"}), lesion("B2", 112, status="present", target=0)], [scan(112, new=0)])
    assert responses(first) == ["CR", "PR"]


# Non-target and new lesions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (({"status": "absent"}, {"mm": 9.0}), "CR"),
        (({"status": "absent"}, {"mm": 10.0}), "nonCR_nonPD"),
        (({"status": "absent"}, {"status": "too_small"}), "CR"),  # 5 mm, below 10
        (({"status": "too_small"}, {"mm": 9.0}), "nonCR_nonPD"),
        (({"status": "present"}, {"status": "absent"}), "nonCR_nonPD"),
        (({"status": "present"}, None), "NE"),
        (({"status": "absent"}, None), "NE"),
        (({"status": "not_evaluable"}, {"status": "absent"}), "NE"),
        (({"status": "locally_treated"}, {"status": "absent"}), "NE"),
        (({"status": "unequivocal_progression"}, None), "PD"),
    ],
)
def test_nontarget_response_from_the_rows(statuses, expected):
    """Eisenhauer 4.3.3: CR is disappearance of all, nodes below 10 mm; PD unequivocal progression."""
    rows = [
        lesion("B1", -7, status="present", target=0),
        lesion("N1", -7, status="present", target=0, node=1),
        *[
            lesion(name, 56, one.get("mm"), status=one.get("status"), target=0)
            for name, one in zip(("B1", "N1"), statuses, strict=True)
            if one
        ],
    ]
    only = course(rows, [scan(56, new=0)]).evaluations[0]
    assert (only.nontarget, only.target) == (expected, "")
    assert only.response == expected  # table 2
    with_target = course([*rows, *sums(30, 15)]).evaluations[0]
    assert (with_target.nontarget, with_target.response) == (expected, "PD" if expected == "PD" else "PR")


def test_nontarget_persistence_makes_a_complete_response_partial():
    """Eisenhauer table 1, second and third row."""
    rows = [*sums(30), lesion("L1", 56, status="absent"), lesion("B1", -7, status="present", target=0)]
    assert responses(course(rows, [scan(56, nontarget="nonCR_nonPD")])) == ["PR"]
    assert responses(course(rows, [scan(56)])) == ["PR"]  # nobody looked at B1
    assert responses(course(rows, [scan(56, nontarget="CR")])) == ["CR"]


def test_nontarget_disease_that_a_scan_named_before_has_to_be_read_again():
    rows = [*sums(30, 15), lesion("L1", 112, status="absent")]
    one = course(rows, [scan(56, nontarget="nonCR_nonPD"), scan(112)])
    assert [evaluation.nontarget for evaluation in one.evaluations] == ["nonCR_nonPD", "NE"]
    assert responses(one) == ["PR", "PR"]


def test_readings_of_several_scans_at_one_evaluation():
    def reading(*words):
        scans = [scan(56 + i, nontarget=word) for i, word in enumerate(words)]
        return course(sums(30, 15), scans).evaluations[0].nontarget

    assert reading("CR", "PD") == "PD"
    assert reading("CR", "nonCR_nonPD", "NE") == "nonCR_nonPD"
    assert reading("CR", "NE") == "NE"
    assert reading("CR", "") == "CR"


def test_rows_against_the_reading_of_the_scan():
    """Rules of this project: unequivocal progression counts, a lesion that is there forbids CR, both are told."""
    rows = [*sums(30), lesion("L1", 56, status="absent"), lesion("B1", -7, status="present", target=0)]
    progression = [*rows, lesion("B1", 56, status="unequivocal_progression", target=0)]
    one = course(progression, [scan(56, nontarget="nonCR_nonPD")]).evaluations[0]
    assert one.response == "PD" and one.contradictions[0][:2] == ("lesions", 5)
    there = [*rows, lesion("B1", 56, status="present", target=0)]
    one = course(there, [scan(56, nontarget="CR")]).evaluations[0]
    assert (one.nontarget, one.response) == ("nonCR_nonPD", "PR") and one.contradictions[0][:2] == ("lesions", 5)


def test_a_nontarget_lesion_that_was_treated_before_baseline_is_followed():
    rows = [
        *sums(30, 15),
        lesion("B1", -7, status="locally_treated", target=0),
        lesion("B1", 56, status="present", target=0),
    ]
    assert course(rows).evaluations[0].nontarget == "nonCR_nonPD"


def test_ablation_of_a_nontarget_lesion_makes_no_complete_response():
    rows = [
        *sums(30),
        lesion("L1", 56, status="absent"),
        lesion("B1", -7, status="present", target=0),
        lesion("B1", 50, status="locally_treated", target=0),
    ]
    one = course(rows, [scan(56, nontarget="CR")]).evaluations[0]
    assert (one.nontarget, one.response) == ("NE", "PR")


@pytest.mark.parametrize(("normal", "expected"), [(True, "CR"), (None, "CR"), (False, "PR")])
@pytest.mark.parametrize("nontarget", ["CR", ""])
def test_complete_response_needs_a_normal_marker(nontarget, normal, expected):
    """Eisenhauer 3.2.2 and 4.3.3: a marker that was high has to be normal for CR."""
    asked = []

    def marker(day):
        asked.append(day)
        return normal

    rows = [*sums(30), lesion("L1", 56, status="absent")]
    one = course(rows, [scan(56, nontarget=nontarget)], marker_normal=marker).evaluations[0]
    assert one.response == expected and set(asked) == {56}
    assert ("marker" in one.reason) == (normal is False)
    alone = course([lesion("B1", -7, status="present", target=0)], [scan(56, nontarget="CR")], marker_normal=marker)
    assert responses(alone) == ["CR" if expected == "CR" else "nonCR_nonPD"]


def test_a_high_marker_alone_is_no_progression():
    """Eisenhauer 3.2.2: markers alone do not assess response."""
    assert responses(course(sums(30, 30), marker_normal=lambda day: False)) == ["SD"]


@pytest.mark.parametrize("modality", ["CT", "MRI", "PETCT"])
def test_a_new_lesion_is_progression_on_any_scan(modality):
    """Eisenhauer 4.3.5, FDG-PET included."""
    one = course(sums(30, 10), [scan(56, new=1, modality=modality)]).evaluations[0]
    assert one.response == "PD" and one.new_lesion and one.reason == "new lesion"


@pytest.mark.parametrize(
    ("row", "new"),
    [
        (lesion("L9", 56, 8.0, target=0), True),  # Eisenhauer appendix: a new lesion need not be measurable
        (lesion("L9", 56, status="present", target=0), True),
        (lesion("L9", 56, status="present", target=0, modality="PETCT"), True),
        (lesion("L9", 56, 12.0, target=1), False),  # perhaps a late baseline: told as a contradiction
        (lesion("L9", 56, status="absent", target=0), False),
        (lesion("L9", 56, status="not_evaluable", target=0), False),
        (lesion("N9", 56, 9.9, target=0, node=1), False),  # a normal node
        (lesion("N9", 56, 10.0, target=0, node=1), True),
    ],
)
def test_a_lesion_that_is_first_listed_after_baseline_is_new(row, new):
    """Rule of this project, where no scan says whether there is a new lesion."""
    for scans in ([], [scan(56)]):
        one = course([*sums(30, 10), row], scans).evaluations[0]
        assert one.new_lesion == new and (one.response == "PD") == new
        assert bool(one.contradictions) == (row["target"] == 1)


def test_where_the_scan_denies_a_new_lesion_the_contradiction_is_told():
    rows = [*sums(30), lesion("L1", 56, status="absent"), lesion("L9", 56, status="present", target=0)]
    one = course(rows, [scan(56, new=0)]).evaluations[0]
    assert not one.new_lesion
    table, row, message = one.contradictions[0]
    assert (table, row) == ("lesions", 4) and "L9 is first listed on day 56" in message
    assert one.response == "PR"  # it joins the non-target lesions, so that there is no CR


def test_a_lesion_that_was_listed_long_before_treatment_is_not_new():
    rows = [lesion("B1", -60, status="present", target=0), *sums(30), lesion("L1", 56, status="absent")]
    assert responses(course([*rows, lesion("B1", 56, status="present", target=0)])) == ["PR"]
    assert responses(course(rows)) == ["CR"]  # nor is it one of the baseline, which has to be looked at again


def test_nothing_is_new_where_no_baseline_lists_what_was_there():
    (evaluation,) = course([*sums(30, 30, first=-60), lesion("B1", 56, status="present", target=0)]).evaluations
    assert (evaluation.response, evaluation.new_lesion, evaluation.nontarget) == ("NE", False, "nonCR_nonPD")
    (evaluation,) = course(sums(30, 30, first=-60)).evaluations
    assert evaluation.nontarget == ""


def test_nontarget_lesions_that_split_or_merge_are_not_new():
    rows = [
        *sums(30, 15, 15),
        *[lesion(name, -7, status="present", target=0) for name in ("B1", "B2", "B3")],
        lesion("B1", 56, status="merged", related="B12", target=0),
        lesion("B2", 56, status="merged", related="B12", target=0),
        lesion("B12", 56, status="present", target=0),
        lesion("B3", 56, status="merged", related="L1", target=0),
        *[lesion(name, 112, status="present", target=0) for name in ("B12", "B12a")],
        lesion("B3", 112, 8, target=0),  # apart again, and no part of L1
    ]
    rows[-2]["related_lesion_id"] = "B12"
    one = course(rows)
    assert [evaluation.sum_mm for evaluation in one.evaluations] == [15, 15]
    assert [evaluation.nontarget for evaluation in one.evaluations] == ["nonCR_nonPD", "nonCR_nonPD"]
    assert responses(one) == ["PR", "PR"]
    nowhere = [{**row, "related_lesion_id": ""} if row["lesion_id"] == "B3" else row for row in rows]
    assert course(nowhere).evaluations[0].nontarget == "NE"


# Baseline -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("day", "has"), [(-29, False), (-28, True), (0, True), (1, False)])
def test_the_baseline_scan_lies_in_the_four_weeks_before_treatment(day, has):
    """Eisenhauer 3.2.1: never more than 4 weeks before the beginning of treatment."""
    one = course([lesion("L1", 10 + day, 40), lesion("L1", 66, 20)], start=10)
    assert (one.baseline_mm == 40) == has
    assert (one.baseline_day == 10 + day) == has
    assert one.evaluations[-1].response == ("PR" if has else "NE")
    if not has:
        assert one.best == "" and str(10 + day) in one.baseline_reason and "no baseline" in one.reason


def test_each_target_counts_with_its_last_measurement_before_treatment():
    """Rule of this project: an MRI of one lesion doesn't undo the CT of all."""
    rows = [
        lesion("L1", -20, 30, organ="liver"),
        lesion("L2", -20, 20, organ="Lung"),
        lesion("L1", -3, 33, organ="liver"),
        lesion("L3", -60, 50),
        lesion("L1", 56, 20),
        lesion("L2", 56, 20),
        lesion("L4", 56, 40),
    ]
    one = course(rows, [scan(56, new=0)])
    assert (one.baseline_mm, one.liver_baseline_mm, one.baseline_day) == (53, 33, -3)
    assert one.baseline_rows == (("lesions", 3), ("lesions", 4))
    (evaluation,) = one.evaluations
    assert (evaluation.sum_mm, evaluation.liver_sum_mm) == (40, 20)  # L4 became a target too late
    assert evaluation.n_days == 56 and evaluation.rows == (("lesions", 6), ("lesions", 7), ("lesions", 8), ("scans", 2))


def test_a_target_without_size_at_baseline_leaves_no_sum():
    for row in (lesion("L2", -7, status="not_evaluable"), lesion("L2", -7, 20, modality="PETCT")):
        one = course([*sums(30, 10), row, lesion("L2", 56, 10)])
        assert one.baseline_mm is None and one.best == "" and "row 4" in one.baseline_reason
        assert responses(one) == ["NE"] and "no sum at baseline" in one.reason
        assert course([*sums(30, 10), row], [scan(56, new=1)]).best == "PD"


def test_targets_that_are_all_absent_at_baseline_leave_no_sum():
    one = course([lesion("L1", -7, status="absent"), lesion("L1", 56, status="absent")])
    assert (one.baseline_mm, one.best, responses(one)) == (None, "", ["NE"])


def test_liver_sum_of_words_in_the_organ_and_without_nodes():
    rows = [
        lesion("L1", -7, 30, organ="Liver, segment 7"),
        lesion("N1", -7, 20, organ="liver hilum", node=1),
        lesion("X1", -7, 20, organ="perihepatic"),
    ]
    assert course(rows).liver_baseline_mm == 30
    later = [lesion("L1", 56, 20), lesion("N1", 56, status="not_evaluable"), lesion("X1", 56, 20)]
    (evaluation,) = course([*rows, *later]).evaluations
    assert (evaluation.sum_mm, evaluation.liver_sum_mm) == (None, 20)


def test_without_targets_the_course_is_of_nontarget_disease():
    rows = [lesion("B1", -7, status="present", target=0), lesion("B1", 56, status="present", target=0)]
    one = course(rows, [scan(56, new=0)])
    assert one.baseline_mm is None and one.baseline_day == -7 and "non-target disease alone" in one.baseline_reason
    assert responses(one) == ["nonCR_nonPD"] and (one.best, one.best_day) == ("SD", 56)
    early = course(rows, [scan(56, new=0)], rules=RecistRules(sd_min_days=60))
    assert early.best == "" and "seen stable only before day 60" in early.reason


def test_targets_that_were_listed_only_long_ago_do_not_make_nontarget_disease():
    rows = [
        *sums(30, first=-60),
        lesion("B1", -7, status="present", target=0),
        lesion("B1", 56, status="absent", target=0),
    ]
    one = course(rows)
    assert responses(one) == ["NE"] and "day -60, more than 28 days" in one.reason


def test_courses_without_best_response_say_why():
    assert "no evaluation after the start of treatment on day 0" in course(sums(30)).reason
    assert course([]).reason and "no lesion is listed" in course([]).baseline_reason
    unread = course(sums(30, None, None))
    assert "no evaluation is evaluable (day 56: L1 has no diameter (lesions.tsv, row 3))" in unread.reason
    cut = course([*sums(30), lesion("L1", 100, 10)], end=(90, "local treatment"))
    assert cut.reason == "no evaluation after the start of treatment on day 0 and up to local treatment on day 90"


def test_rows_of_two_patients_are_refused():
    with pytest.raises(ValueError, match="several patients"):
        course([lesion("L1", -7, 30), {**lesion("L1", 56, 30), "patient_id": "P2"}])


# Evaluations and the period that counts -------------------------------------------------------------------------------


def test_scans_of_one_week_are_one_evaluation():
    """Rule of this project."""
    rows = [
        lesion("L1", -7, 30, modality="CT"),
        lesion("B1", -7, status="present", target=0),
        lesion("L1", 56, 15, modality="CT"),
        lesion("B1", 63, status="present", target=0, modality="MRI"),
    ]
    (evaluation,) = course(rows, [scan(60, new=0, modality="PETCT")]).evaluations
    assert (evaluation.day, evaluation.last_day, evaluation.response, evaluation.nontarget) == (
        56,
        63,
        "PR",
        "nonCR_nonPD",
    )
    two = course([*rows[:-1], {**rows[-1], "day": 64}])
    assert [evaluation.day for evaluation in two.evaluations] == [56, 64]


@pytest.mark.parametrize(("at_baseline", "expected"), [("CT", 20), ("MRI", 12)])
def test_a_lesion_measured_twice_counts_by_the_modality_of_its_baseline(at_baseline, expected):
    rows = [
        lesion("L1", -7, 30, modality=at_baseline),
        lesion("L1", 56, 20, modality="CT"),
        lesion("L1", 58, 12, modality="MRI"),
        lesion("L1", 59, 1, modality="PETCT"),
    ]
    (evaluation,) = course(rows).evaluations
    assert evaluation.sum_mm == expected
    unread = [{**row, "status": "not_evaluable"} if row["modality"] == at_baseline else row for row in rows[1:]]
    (evaluation,) = course([rows[0], *unread]).evaluations
    assert evaluation.sum_mm == {"CT": 12, "MRI": 20}[at_baseline]  # the other one rather than none


def test_evaluations_after_local_treatment_are_listed_and_do_not_count():
    rows = [*sums(100, 80), lesion("L1", 150, 60), lesion("L1", 152, status="absent")]
    one = course(rows, end=(150, "local treatment"))
    assert [(evaluation.day, evaluation.counts) for evaluation in one.evaluations] == [
        (56, True),
        (150, True),
        (152, False),
    ]
    assert "after local treatment on day 150" in one.evaluations[2].reason
    assert (one.best, one.best_day, one.confirmed, one.limit) == ("PR", 150, False, "local treatment on day 150")
    assert one.best_rows == (("lesions", 4),)


def test_nothing_counts_after_progression():
    one = course(sums(100, 130, 60))
    assert responses(one) == ["PD", "PR"]
    assert (one.best, one.best_day, one.limit) == ("PD", 56, "progression on day 56")
    assert not one.evaluations[1].counts and "after progression on day 56" in one.evaluations[1].reason
    assert one.evaluations[1].confirmed is None


def test_early_stable_disease_does_not_count_and_says_so():
    one = course([*sums(100), lesion("L1", 30, 95), lesion("L1", 56, 95)])
    assert [evaluation.counts for evaluation in one.evaluations] == [False, True]
    assert "stable disease before day 42" in one.evaluations[0].reason
    assert (one.best, one.best_day) == ("SD", 56)


# Change of one lesion -------------------------------------------------------------------------------------------------


def test_log_change():
    assert log_change(40, 20) == pytest.approx(-math.log(2))
    assert log_change(40, 0) == pytest.approx(math.log(2.5 / 40))
    assert log_change(40, 0) < log_change(40, 5)
    assert log_change(None, 20) is None and log_change(40, None) is None and log_change(0, 20) is None


def test_lesion_change():
    rows = numbered(
        [
            lesion("L1", -20, 44),
            lesion("L1", -7, 40),
            lesion("L1", 56, 20),
            lesion("L2", -7, 20, target=0),
            lesion("L2", 58, 40, target=0),
            lesion("L3", -40, 20),
            lesion("L3", 56, 20),
            lesion("L4", -7, 30),
            lesion("L4", 56, status="split"),
            lesion("L4a", 56, 5, related="L4", status="split"),
            lesion("L4b", 56, 10, related="L4", status="split"),
            lesion("L5", -7, 30),
            lesion("L5", 56, related="L1", status="merged"),
            lesion("L6", -7, 30),
            lesion("L6", 50, status="locally_treated"),
            lesion("L6", 56, 10),
        ]
    )
    change = {
        name: lesion_change(rows, name, baseline_day=0, day=56, last_day=58)
        for name in ("L1", "L2", "L3", "L4", "L5", "L6", "L7")
    }
    assert change["L1"] == pytest.approx(math.log(20 / 40))
    assert change["L2"] == pytest.approx(math.log(2))
    assert change["L4"] == pytest.approx(math.log(15 / 30))
    assert change["L3"] is change["L5"] is change["L6"] is change["L7"] is None
    assert lesion_change(rows, "L2", baseline_day=0, day=56) is None  # measured on day 58


# Structure of the table -----------------------------------------------------------------------------------------------


def found(*rows, **options):
    return [(row, column) for row, column, *_ in structure_problems(numbered(rows), **options)]


def test_a_sound_table_has_no_problems():
    rows = [
        lesion("L1", -7, 10.0, organ="liver"),
        lesion("L2", -7, 30, organ="Liver"),
        lesion("N1", -7, 15.0, organ="lymph node", node=1),
        lesion("X1", -7, 20),
        lesion("X2", -7, 20),
        lesion("B1", -7, status="present", target=0),
        lesion("L1", 56, 4.0, status="too_small", organ="LIVER "),
        lesion("L2", 56, status="split"),
        lesion("L2a", 56, 6, status="split", related="L2", organ="liver"),
        lesion("L2b", 56, 6, status="split", related="L2", organ="liver"),
        lesion("N1", 56, 8),
        lesion("X1", 56, status="merged", related="X2"),
        lesion("X2", 56, 35),
        lesion("B1", 56, status="unequivocal_progression", target=0),
        lesion("X2", 60, status="present", modality="PETCT"),
    ]
    assert found(*rows) == found(*rows, start=0) == []
    assert structure_problems([]) == []


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([lesion(f"L{i}", -7, 20) for i in range(6)], (7, "target")),
        ([lesion(f"L{i}", -7, 20, organ=organ) for i, organ in enumerate(("liver", "Liver ", "LIVER"))], (4, "organ")),
        ([lesion(f"N{i}", -7, 20, organ=f"site {i}", node=1) for i in range(3)], (4, "organ")),  # RECIST FAQ: one organ
        ([lesion("L1", -7, 9.9)], (2, "diameter_mm")),
        ([lesion("N1", -7, 14.9, node=1)], (2, "diameter_mm")),
        ([lesion("L1", -7, status="too_small")], (2, "diameter_mm")),
        ([lesion("L1", -7, 9.0), lesion("L1", -5, status="present", modality="PETCT")], (2, "diameter_mm")),
        ([lesion("L1", -7, 20), lesion("L1", 56, 20, target=0)], (3, "target")),
        ([lesion("N1", -7, 20, node=1), lesion("N1", 56), lesion("N1", 112, 20, node=0)], (4, "node")),
        ([lesion("L1", -7, 20, organ="liver"), lesion("L1", 56, 20, organ="lung")], (3, "organ")),
        ([lesion("L1", -7, 20), lesion("L1", 56, 5, status="absent")], (3, "diameter_mm")),
        ([lesion("L1", -7, 20), lesion("L1", 56, 5, status="not_evaluable")], (3, "diameter_mm")),
        ([lesion("L1", -7, 20), lesion("L1", 56, status="measured")], (3, "diameter_mm")),
        ([lesion("L1", -7, 20), lesion("L1", 56, status="present")], (3, "diameter_mm")),
        ([lesion("L1", -7, 20), lesion("L1", 56)], (3, "diameter_mm")),
        ([lesion("L1", -7, 20), lesion("L1", 56, status="merged")], (3, "related_lesion_id")),
        ([lesion("L1", -7, 20), lesion("L1", 56, status="merged", related="L7")], (3, "related_lesion_id")),
        ([lesion("L1", -7, 20), lesion("L1", 56, status="merged", related="L1")], (3, "related_lesion_id")),
        ([lesion("L1", -7, 20), lesion("L1", 56, status="split")], (3, "related_lesion_id")),
        (
            [lesion("L1", -7, 20), lesion("L1", 56, status="split"), lesion("L2", 56, status="split", related="L1")],
            (4, "diameter_mm"),
        ),
        (
            [lesion("L1", -7, 20), lesion("L2", -7, 20)]
            + [lesion(a, 56, status="merged", related=b) for a, b in (("L1", "L2"), ("L2", "L1"))],
            (4, "related_lesion_id"),
        ),
        ([lesion("N1", -7, 20, organ="Lymph node, hilar")], (2, "node")),
    ],
)
def test_structure_problems(rows, problem):
    assert problem in found(*rows)
    for _, column, value, message, remedy in structure_problems(numbered(rows)):
        assert column in rows[0] and isinstance(value, str) and message and remedy


def test_numbers_in_the_messages():
    (problem,) = structure_problems(numbered([lesion("L1", -7, 9.5)]))
    assert problem[2] == "9.5" and "10 mm" in problem[3]
    (problem,) = structure_problems(numbered([lesion(f"L{i}", -7, 20) for i in range(7)]))
    assert problem[:3] == (7, "target", "7") and "allows 5" in problem[3]


def test_the_start_of_treatment_tells_which_scan_is_the_baseline():
    rows = [lesion("L1", -60, 9.0), lesion("L1", -5, 12.0)]
    assert found(*rows) == [(2, "diameter_mm")]
    assert found(*rows, start=0) == []


# What holds for any patient -------------------------------------------------------------------------------------------

prop = settings(deadline=None, derandomize=True, max_examples=60)
tenths = st.integers(0, 800).map(lambda n: n / 10)
DAYS = (-7, 30, 56, 84, 112, 168, 230)


@st.composite
def patients(draw):
    """Lesions at a baseline and up to six evaluations, with all that can be wrong with them, and the scans."""
    n_targets, n_others = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    days = DAYS[: draw(st.integers(2, len(DAYS)))]
    nodes = {f"L{i}": draw(st.sampled_from([None, 0, 1])) for i in range(n_targets)}
    rows = []
    for name, node in nodes.items():
        rows.append(lesion(name, -7, draw(st.integers(100, 800)) / 10, node=node, organ="liver"))
        for day in days[1:]:
            kind = draw(st.sampled_from(["mm"] * 5 + ["absent", "too_small", "not_evaluable", "none", "merged", "two"]))
            modality = draw(st.sampled_from(["", "CT", "MRI"]))
            if kind in ("mm", "two"):
                rows.append(lesion(name, day, draw(tenths), modality=modality, node=node))
            if kind == "two":
                rows.append(lesion(name, day + 3, draw(tenths), modality="PETCT", node=node))
            if kind == "merged":
                rows.append(lesion(name, day, status="merged", related=draw(st.sampled_from(sorted(nodes)))))
            if kind in ("absent", "too_small", "not_evaluable"):
                rows.append(lesion(name, day, status=kind))
    for i in range(n_others):
        for day in days:
            status = draw(st.sampled_from(["present", "present", "absent", "unequivocal_progression", ""]))
            rows.append(lesion(f"B{i}", day, status="present" if day < 0 else status, target=0))
    scans = [
        scan(day, new=draw(st.sampled_from([None, 0, 0, 0, 1])), nontarget=draw(st.sampled_from(["", "", "CR", "NE"])))
        for day in days[1:]
    ]
    return numbered(rows), numbered(scans)


@prop
@given(patients(), st.randoms(use_true_random=False))
def test_the_order_of_rows_is_irrelevant(patient, generator: random.Random):
    lesions, scans = patient
    shuffled = [list(lesions), list(scans)]
    for rows in shuffled:
        generator.shuffle(rows)
    assert course(*shuffled) == course(lesions, scans)


@prop
@given(patients(), st.sampled_from(DAYS[1:]))
def test_what_lies_after_the_end_changes_nothing_that_counts(patient, day):
    lesions, scans = patient
    end = (day, "local treatment")
    whole = course(lesions, scans, end=end)
    cut = course(*([row for row in rows if row["day"] <= day] for rows in patient), end=end)
    summary = ("best", "best_day", "best_rows", "confirmed", "confirmed_best", "limit", "reason", "baseline_mm")
    assert [getattr(whole, name) for name in summary] == [getattr(cut, name) for name in summary]
    assert [evaluation for evaluation in whole.evaluations if evaluation.day <= day] == list(cut.evaluations)
    assert not any(evaluation.counts for evaluation in whole.evaluations if evaluation.day > day)


@prop
@given(patients(), st.sampled_from(DAYS[1:]))
def test_a_new_lesion_is_always_progression(patient, day):
    lesions, scans = patient
    with_new = numbered([*scans, {**scan(day, new=1), "row": 1000}])
    (evaluation,) = (one for one in course(lesions, with_new).evaluations if one.day <= day <= one.last_day)
    assert evaluation.response == "PD" and evaluation.new_lesion


@prop
@given(patients(), st.data())
def test_a_larger_lesion_is_never_a_better_response(patient, data):
    lesions, scans = patient
    measured = [row for row in lesions if row["day"] > 0 and row["status"] in ("measured", "absent", "too_small")]
    if not measured:
        return
    row = data.draw(st.sampled_from(measured))
    grown = {"absent": 0.0, "too_small": 5.0}.get(row["status"], row["diameter_mm"] or 0.0)
    grown += data.draw(st.integers(1, 500)) / 10
    larger = [{**one, "status": "measured", "diameter_mm": grown} if one is row else one for one in lesions]

    def at_that_day(rows):
        return next(one.response for one in course(rows, scans).evaluations if one.day <= row["day"] <= one.last_day)

    before, after = at_that_day(lesions), at_that_day(larger)
    assert ORDER.index(after) >= ORDER.index(before)


@prop
@given(patients())
def test_the_course_is_consistent_in_itself(patient):
    lesions, scans = patient
    one = course(lesions, scans)
    seen = False
    for evaluation in one.evaluations:
        assert evaluation.counts == (
            not seen and evaluation.response != "NE" and "before day 42" not in evaluation.reason
        )
        assert (evaluation.confirmed is None) == (not evaluation.counts or evaluation.response not in ("CR", "PR"))
        assert evaluation.response != "NE" or evaluation.reason
        seen = seen or evaluation.response == "PD"
    assert bool(one.best) == (not one.reason) == (one.best_day is not None) == bool(one.best_rows)
    assert (one.confirmed is None) == (one.best not in ("CR", "PR"))
    if one.best in ("CR", "PR") and one.confirmed:
        assert one.confirmed_best == one.best
    elif one.best == "PR":
        assert one.confirmed_best in ("SD", "PD", "")
    elif one.best != "CR":
        assert one.confirmed_best == one.best


@prop
@given(
    st.lists(st.integers(100, 800), min_size=1, max_size=5),
    st.lists(st.integers(0, 600), min_size=5, max_size=5),
    st.integers(11, 40),
)
def test_the_unit_of_length_does_not_matter_to_a_response(baseline, later, tenfold):
    """At the first evaluation the nadir is the baseline, so that the 5 mm play no part in CR and PR."""

    def response(factor):
        rows = [lesion(f"L{i}", -7, float(Decimal(mm) * factor)) for i, mm in enumerate(baseline)]
        rows += [lesion(f"L{i}", 56, float(Decimal(mm) * factor)) for i, mm in enumerate(later[: len(baseline)])]
        return responses(course(rows))[0]

    factor = Decimal("0.1")
    before, after = response(factor), response(factor * tenfold / 10)
    assert {before, after} & {"CR", "PR"} == set() or before == after


@prop
@given(tenths, tenths, tenths)
def test_progression_needs_20_percent_and_5_mm(baseline, nadir, current):
    nadir = min(nadir, baseline)
    tenth = [round(10 * value) for value in (nadir, current)]
    expected = 10 * tenth[1] >= 12 * tenth[0] and tenth[1] - tenth[0] >= 50
    response = target_response(baseline=baseline, nadir=nadir, current=current)
    assert (response == "PD") == expected
    if not expected:
        assert (response == "PR") == (10 * tenth[1] <= 7 * round(10 * baseline))


@prop
@given(patients())
def test_pet_measurements_never_enter_a_sum(patient):
    lesions, scans = patient
    pet = [
        {**row, "row": row["row"] + 500, "modality": "PETCT", "diameter_mm": 99.0} for row in lesions if row["target"]
    ]
    with_pet = course([*lesions, *pet], scans).evaluations
    without = course(lesions, scans).evaluations
    known = {one.day: one.sum_mm for one in without}
    for one in with_pet:
        assert one.sum_mm == known.get(one.day)


@prop
@given(st.lists(st.integers(100, 800), min_size=2, max_size=5), st.lists(tenths, min_size=5, max_size=5))
def test_rows_of_one_evaluation_may_be_spread_over_a_week(baseline, later):
    rows = [lesion(f"L{i}", -7, mm / 10) for i, mm in enumerate(baseline)]
    now = [lesion(f"L{i}", 56, mm) for i, mm in enumerate(later[: len(baseline)])]
    spread = [{**row, "day": 56 + 2 * i % 8, "modality": ("CT", "MRI")[i % 2]} for i, row in enumerate(now)]
    (together,), (apart,) = course([*rows, *now]).evaluations, course([*rows, *spread]).evaluations
    assert (together.sum_mm, together.response) == (apart.sum_mm, apart.response)


def test_it_can_be_imported_while_the_workflow_is_parsed():
    check = "import sys, livermet.recist; assert not {'pandas', 'numpy', 'h5py'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, env={"PYTHONPATH": "workflow/lib"})
