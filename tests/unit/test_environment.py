"""The environments say the same: what conda would install is what is locked and tested."""

import re
import tomllib

import yaml


def locked(home):
    """Versions in requirements.lock that apply to Python 3.11."""
    lines = (home / "requirements.lock").read_text().splitlines()
    pins = [re.match(r"([\w.-]+)(?:\[[\w,]+\])?==([\w.]+)(.*)", line) for line in lines]
    newer = "python_full_version >= '3.12'"
    return {pin[1].lower(): pin[2] for pin in pins if pin and newer not in pin[3]}


def test_conda_pins_are_the_locked_versions_of_all_dependencies(home):
    (pip,) = [part["pip"] for part in yaml.safe_load((home / "envs/livermet.yaml").read_text())["dependencies"][2:]]
    pins = {name.lower(): version for name, version in (pin.split("==") for pin in pip)}
    versions = locked(home)
    assert pins == {name: versions[name] for name in pins}
    project = tomllib.loads((home / "pyproject.toml").read_text())["project"]
    named = {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in project["dependencies"]}
    assert named - set(pins) == {"snakemake", "setuptools"}  # these run the rules, not in them


def test_the_lock_names_no_address(home):
    text = (home / "requirements.lock").read_text()
    assert "://" not in text
    assert "--hash=sha256:" in text
