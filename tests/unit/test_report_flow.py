"""The flow of patients: everybody is accounted for once, with a reason; the diagram holds its text."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livermet.report_data import library_table
from livermet.report_flow import (
    MAIN_WIDTH,
    PAD,
    SIDE_X,
    WIDTH,
    Flow,
    FlowStep,
    Loss,
    count_reasons,
    flow_chart,
    patient_flow,
    text_width,
    wrap,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
from report_inputs import demo_inputs

KEYS = ["enrolled", "consented", "biopsied", "measured", "passed", "analysed"]


@pytest.fixture(scope="module")
def inputs():
    return demo_inputs()


def flow_of(inputs, modalities=("scrna",), measured="single-cell library", **tables):
    tables = {**inputs.tables, **tables}
    return patient_flow(
        patients=tables["patients"],
        consent=tables["consent"],
        samples=tables["samples"],
        libraries=library_table(tables["libraries"], tables["samples"], tables["status"]),
        features=tables["features"],
        left_out=tables["features_left_out"],
        modalities=modalities,
        measured=measured,
        timepoints=["T0_pre"],
        tissues=["liver_met"],
    )


def reasons_of(flow):
    return {(step.key, loss.reason): set(loss.patients) for step in flow.steps for loss in step.lost}


@pytest.mark.parametrize(("modality", "n"), [("scrna", 24), ("visium", 24), ("scrna", 1), ("scrna", 200)])
def test_everybody_leaves_once_or_is_analysed(modality, n):
    inputs = demo_inputs(n_patients=n)
    flow = flow_of(inputs, (modality,))
    assert [step.key for step in flow.steps] == KEYS
    lost = [patient for step in flow.steps for loss in step.lost for patient in loss.patients]
    withdrawn = int(inputs.tables["consent"]["withdrawn"].iloc[0])
    assert sorted([*lost, *flow.analysed]) == sorted(inputs.tables["patients"]["patient_id"])
    assert flow.n("enrolled") == n == len(lost) + withdrawn + flow.n("analysed")
    for before, after in zip(flow.steps, flow.steps[1:], strict=False):
        assert before.n - after.n == sum(loss.n for loss in after.lost)


def test_each_leaves_at_the_step_and_for_the_reason_that_the_tables_give(inputs):
    assert reasons_of(flow_of(inputs)) == {
        ("consented", "withdrew consent"): set(),
        ("consented", "no consent to omics"): {"P11"},
        ("biopsied", "no sample"): {"P22"},
        ("biopsied", "primary only at T0 pre"): {"P05", "P14"},
        ("biopsied", "no tissue at T0 pre"): {"P16"},
        ("passed", "21 cells are left after QC, fewer than qc.min_cells = 50"): {"P06"},
    }
    sections = reasons_of(flow_of(inputs, ("visium",), "section"))
    assert sections["analysed", "the section has no border: 3 spots of liver, 30 are needed"] == {"P03"}
    assert "P02" in sections["measured", "no section"]


def test_the_withdrawn_are_a_number_and_nobody_is_lost_silently(inputs):
    consent = pd.DataFrame({"enrolled": [30], "withdrawn": [5], "no_omics": [1]})
    steps = flow_of(inputs, consent=consent).steps
    assert steps[0].n == 30
    assert [(loss.reason, loss.n) for loss in steps[1].lost[:2]] == [
        ("withdrew consent", 5),
        ("row could not be read", 30 - 5 - 23),
    ]
    assert flow_of(inputs, consent=consent.iloc[:0]).n("enrolled") == 23


def test_the_label_plays_no_part_in_who_is_analysed(inputs):
    assert {"P03", "P18"} <= flow_of(inputs).analysed  # both lack every label by imaging


def test_a_patient_without_features_is_not_analysed(inputs):
    features = inputs.tables["features"]
    flow = flow_of(inputs, features=features[features["patient_id"] != "P01"])
    assert reasons_of(flow)["analysed", "no feature could be computed"] == {"P01"}


def test_libraries_outside_the_scope_are_said_to_be_so(inputs):
    status = inputs.tables["status"]
    flow = flow_of(inputs, status=status[status["batch"] == "B01"])
    assert reasons_of(flow)["measured", "single-cell library of another batch"] == {
        f"P{i:02d}" for i in (9, 10, 12, 13, 15, 17, 18, 19, 20, 21, 23, 24)
    }
    assert flow.steps[3].name == "with a single-cell library in this scope"


def test_reasons_that_differ_in_numbers_alone_count_as_one():
    reasons = {"P1": "21 of 50 cells are left", "P2": "3 of 50 cells are left", "P3": "no border", "P4": "no border"}
    assert count_reasons(reasons) == [("no border", ("P3", "P4")), ("… of 50 cells are left", ("P1", "P2"))]
    assert count_reasons({"P1": "1.5 % of 2,000 counts."}) == [("1.5 % of 2,000 counts.", ("P1",))]
    assert count_reasons({}) == []


def assert_legible(chart):
    """No box overlaps another or leaves the drawing, and no text leaves its box or overlaps other text."""
    for box in chart.boxes:
        assert box.x >= 0
        assert box.x + box.width <= WIDTH
        assert box.y + box.height <= chart.height
        for line in box.lines:
            size = 20 / 12 if line.kind == "head" else 1
            assert line.x >= box.x
            assert line.x + size * text_width(line.text) <= box.x + box.width
            assert box.y + 8 <= line.y <= box.y + box.height - 3
        for line, other in combinations(box.lines, 2):
            beside = line.x + text_width(line.text) <= other.x or other.x + text_width(other.text) <= line.x
            assert beside or abs(line.y - other.y) >= 12
    for box, other in combinations(chart.boxes, 2):
        apart = other.y >= box.y + box.height or box.y >= other.y + other.height
        assert apart or other.x >= box.x + box.width or box.x >= other.x + other.width
    for x1, y1, x2, y2 in chart.arrows:
        assert (x1 == x2 and y2 - y1 >= 12) or (y1 == y2 and x2 == SIDE_X and x2 - MAIN_WIDTH >= 12)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.lists(
        st.lists(st.text(st.characters(codec="latin-1", categories=["L", "N", "P", "Zs"]), max_size=150), max_size=12),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 999),
)
def test_the_diagram_holds_its_text_whatever_the_reasons(losses, n):
    steps = [FlowStep("enrolled", "enrolled", n)]
    steps += [
        FlowStep(f"s{i}", "biopsied: liver met, adjacent liver at T0 pre, T1 reeval", n, tuple(Loss(r, n) for r in reasons))
        for i, reasons in enumerate(losses)
    ]  # fmt: skip
    chart = flow_chart(Flow(tuple(steps), frozenset()))
    assert_legible(chart)
    assert sum(box.kind == "side" for box in chart.boxes) == sum(map(bool, losses))


@pytest.mark.parametrize("n", [1, 24, 200])
def test_the_diagram_of_a_study_is_legible_and_says_every_number(n):
    flow = flow_of(demo_inputs(n_patients=n))
    chart = flow_chart(flow)
    assert_legible(chart)
    heads = [line.text for box in chart.boxes for line in box.lines if line.kind == "head"]
    counts = [line.text for box in chart.boxes for line in box.lines if line.kind == "count"]
    assert heads == [str(step.n) for step in flow.steps]
    assert counts == [str(loss.n) for step in flow.steps for loss in step.lost]
    assert [box.kind for box in chart.boxes if box.kind != "side"] == ["main"] * 5 + ["last"]


def test_wrapping_keeps_every_word_and_cuts_only_what_is_too_long():
    width = MAIN_WIDTH - 2 * PAD
    assert wrap("no sample", width) == ["no sample"]
    lines = wrap("cells are left after quality control of the library", width)
    assert " ".join(lines) == "cells are left after quality control of the library"
    assert "".join(wrap("W" * 40, width)) == "W" * 40
    assert all(text_width(line) <= width for line in wrap("W" * 40, width))
    assert wrap("", width) == [""]


def test_the_order_of_the_tables_does_not_matter(inputs):
    turned = {name: table.iloc[::-1] for name, table in inputs.tables.items()}
    assert flow_of(replace(inputs, tables=turned)) == flow_of(inputs)
