"""Every bad input gets its words and has its effect; none passes silently."""

from __future__ import annotations

import shutil

import pytest

import cases_blood
import cases_files
import cases_privacy
import cases_protocol
import cases_tables
from corpus import EFFECTS, try_case
from file_study import write_file_study
from study_files import write_study
from trial_study import write_trial_study

CASES = [
    (module.__name__.removeprefix("cases_"), case)
    for module in (cases_tables, cases_protocol, cases_blood, cases_privacy, cases_files)
    for case in module.CASES
]
WRITERS = {"tables": write_study, "trial": write_trial_study, "files": write_file_study}


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """The valid studies, written once."""
    return {name: write(tmp_path_factory.mktemp(name) / "study") for name, write in WRITERS.items()}


@pytest.mark.parametrize("name", WRITERS)
def test_the_valid_studies_are_clean(originals, tmp_path, name):
    folder = shutil.copytree(originals[name], tmp_path / "study")
    case = cases_tables.CASES[0].__class__(name, lambda _: None, "stops", ("",), study=name)
    outcome = try_case(case, folder)
    assert [m for m in outcome.messages if m[0] != "note"] == [] and outcome.left_out == ()


@pytest.mark.parametrize(("origin", "case"), CASES, ids=[f"{origin}: {case.name}" for origin, case in CASES])
def test_bad_input_is_named(originals, tmp_path, record_property, origin, case):
    folder = shutil.copytree(originals[case.study], tmp_path / "study", symlinks=True)
    outcome = try_case(case, folder)
    said = [message for message in outcome.messages if message[0] != "note" or case.effect == "handles"]
    record_property("corpus", "clear" if outcome.answers(case) else "silent" if not said else "other words")
    assert outcome.answers(case), outcome.messages
    severities = {severity for severity, _ in outcome.messages}
    if case.effect != "stops":
        assert "error" not in severities, outcome.messages
    if case.effect not in ("stops", "excludes"):
        assert "exclusion" not in severities, outcome.messages
    # One mistake may show at a few places, but is not repeated by everything that refers to it.
    assert sum(severity != "note" for severity, _ in outcome.messages) <= 5, outcome.messages
    if case.study == "files":
        assert outcome.left_out == ((case.library,) if case.effect == "excludes" else ())
    assert case.effect in EFFECTS


def test_the_corpus_is_large_and_its_names_are_unique():
    names = [(origin, case.name) for origin, case in CASES]
    assert len(names) == len(set(names)) and len(names) >= 80
