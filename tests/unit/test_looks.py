"""The ledger of looks: what counts as a state of the data, what is written, and what a later run is told."""

from __future__ import annotations

import os

import pandas as pd
import pytest

from livermet.compare import compare_folders
from livermet.files import write_table
from livermet.looks import (
    COLUMNS,
    data_state,
    measured_patients,
    other_states,
    read_rows,
    was_seen,
    with_look,
    write_ledger,
)

CONFIG = {"primary_label": "disease_control", "timepoints": ["T0_pre"], "tissues": ["liver_met"], "fdr": 0.1}


def label_rows(values, *, label="disease_control"):
    rows = [{"patient_id": f"P{i}", "label": label, "value": value, "event": ""} for i, value in enumerate(values)]
    return [*rows, {"patient_id": "P0", "label": "os", "value": "400", "event": "1"}]


def library(patient, *, modality="scrna", timepoint="T0_pre", tissue="liver_met"):
    return {"patient_id": patient, "modality": modality, "timepoint": timepoint, "tissue": tissue}


LIBRARIES = [library("P0"), library("P1"), library("P2"), library("P1", timepoint="T3_resection")]


def state(values=("1", "0", "1", "0"), libraries=LIBRARIES, *, label="disease_control", blood=()):
    measured = measured_patients(libraries, blood, config=CONFIG)
    return data_state(label_rows(values, label=label), label=label, measured=measured)


def look(ledger, current, *, time="2030-01-01T00:00:00+00:00", **changes):
    return with_look(ledger, current, response={**CONFIG, **changes}, time=time)


def test_a_state_holds_the_labelled_patients_who_have_measurements():
    assert state().n_patients == 3
    assert state(("1", "", "1", "0")).n_patients == 2
    assert state(libraries=[]).n_patients == 0


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"values": ("1", "0", "1", "1")}, True),  # P3 has no library
        ({"libraries": [*LIBRARIES, library("P3", timepoint="T3_resection")]}, True),
        ({"libraries": [*reversed(LIBRARIES), library("P0")]}, True),  # order, and a second library of the same kind
        ({"values": ("1", "1", "1", "0")}, False),
        ({"libraries": [*LIBRARIES, library("P3")]}, False),
        ({"libraries": [*LIBRARIES, library("P0", modality="visium")]}, False),
        ({"libraries": LIBRARIES[1:]}, False),
        ({"label": "objective_response"}, False),
        ({"blood": [{"patient_id": "P0"}]}, False),
        ({"libraries": [*LIBRARIES, library("P0", tissue="blood_pbmc")]}, False),
    ],
)
def test_what_makes_a_new_state(changed, same):
    assert (state(**changed).sha256 == state().sha256) is same


def test_survival_labels_count_with_their_event():
    measured = measured_patients(LIBRARIES, [], config=CONFIG)
    rows = [{"patient_id": "P0", "label": "os", "value": "400", "event": event} for event in ("0", "1")]
    assert data_state(rows[:1], label="os", measured=measured) != data_state(rows[1:], label="os", measured=measured)


def test_longer_follow_up_is_a_new_look_and_counts_no_patient_twice():
    measured = measured_patients(LIBRARIES, [], config=CONFIG)
    labels = label_rows(("1", "0", "1", "0"))
    follow_up = [
        {"patient_id": "P0", "label": "os", "value": days, "event": event}
        for days, event in (("100", "0"), ("400", "1"))
    ]
    options = {"label": "disease_control", "measured": measured, "endpoints": ["os", "pfs"]}
    before, after = (data_state([*labels, row], **options) for row in follow_up)
    assert before != after and before.n_patients == after.n_patients == 3


def test_equal_runs_leave_one_line_and_another_declaration_a_second_of_the_same_look():
    ledger = look([], state())
    assert [row["look"] for row in ledger] == ["1"] and list(ledger[0]) == list(COLUMNS)
    assert look(ledger, state(), time="2031-01-01T00:00:00+00:00") is None
    again = look(ledger, state(), fdr=0.2)
    assert [row["look"] for row in again] == ["1", "1"]
    assert again[0]["response_sha256"] != again[1]["response_sha256"]
    assert look(again, state()) is None
    assert other_states(again, state()) == []


def test_new_data_are_a_new_look_and_the_earlier_ones_are_counted():
    more = [*LIBRARIES, library("P3")]
    ledger = look([], state())
    assert [one["look"] for one in other_states(ledger, state(libraries=more))] == ["1"]
    ledger = look(ledger, state(libraries=more))
    assert [row["look"] for row in ledger] == ["1", "2"]
    earlier = other_states(ledger, state(libraries=more))
    assert earlier == [{"look": "1", "label": "disease_control", "n_patients": "3", "data_sha256": state().sha256}]
    assert other_states(look(ledger, state(), fdr=0.2), state(libraries=more)) == earlier  # no second entry, no time


def test_another_primary_label_is_another_look():
    ledger = look([], state())
    assert len(other_states(ledger, state(label="objective_response"))) == 1


def test_the_ledger_survives_writing_and_an_absent_one_is_empty(tmp_path):
    ledger = look(look([], state()), state(libraries=LIBRARIES[1:]))
    write_ledger(ledger, tmp_path / "study" / "looks.tsv")
    assert read_rows(tmp_path / "study" / "looks.tsv") == ledger
    assert read_rows(tmp_path / "none.tsv") == []


def test_labels_in_memory_and_as_written_are_the_same_state(tmp_path):
    """The workflow reckons the state from the tables, before the table of labels is written."""
    rows = label_rows(("1", "0", "1", ""))
    write_table(pd.DataFrame(rows), tmp_path / "labels.tsv")
    measured = measured_patients(LIBRARIES, [], config=CONFIG)
    options = {"label": "disease_control", "measured": measured}
    assert data_state(read_rows(tmp_path / "labels.tsv"), **options) == data_state(rows, **options)


def results(folder, *, status, table="associations", older=False):
    for name in ("study", "cohort"):
        (folder / name).mkdir(exist_ok=True)
    labels, tested = folder / "study" / "labels.tsv", folder / "cohort" / f"{table}.tsv"
    labels.write_text("patient_id\n")
    tested.write_text(f"feature\tstatus\na\trefused\nb\t{status}\n")
    os.utime(labels, (1000, 1000))
    os.utime(tested, (900, 900) if older else (1100, 1100))
    return folder


def test_only_a_test_of_the_present_labels_is_a_look(tmp_path):
    assert not was_seen(tmp_path, "cohort")
    assert was_seen(results(tmp_path, status="tested"), "cohort")
    assert not was_seen(results(tmp_path, status="refused"), "cohort")
    assert not was_seen(results(tmp_path, status="tested", older=True), "cohort")
    assert was_seen(results(tmp_path, status="tested", table="differential_tests"), "cohort")


def test_the_ledger_may_differ_between_equal_results(tmp_path):
    for name, time in (("a", "2030-01-01"), ("b", "2031-01-01")):
        (tmp_path / name).mkdir()
        results(tmp_path / name, status="tested")
        write_ledger(look([], state(), time=time), tmp_path / name / "study" / "looks.tsv")
    assert compare_folders(tmp_path / "a", tmp_path / "b") == []
