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
