"""What all tests share: the folder of real data, and the project's place."""

import os
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def home() -> Path:
    """The project's folder."""
    return HOME


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data for tests; it is no part of the project."""
    folder = os.environ.get("LIVERMET_TEST_DATA")
    if not folder:
        pytest.skip("LIVERMET_TEST_DATA is not set: it names the folder of real data for tests")
    return Path(folder)


def pytest_collection_modifyitems(items):
    """The longest first, so that no process waits for them at the end."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)


def pytest_terminal_summary(terminalreporter):
    """What became of the corpus of bad inputs: how many were tried, got their words, or passed in silence."""
    reports = [report for name in ("passed", "failed") for report in terminalreporter.stats.get(name, [])]
    answers = [value for report in reports for key, value in report.user_properties if key == "corpus"]
    if answers:
        counts = ", ".join(f"{word} {answers.count(word)}" for word in ("clear", "other words", "silent"))
        terminalreporter.section("corpus of bad inputs")
        terminalreporter.line(f"tried {len(answers)}, {counts}")
