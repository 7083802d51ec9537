"""The digest of a script changes with the code that the script reaches, and with nothing else."""

import shutil
from pathlib import Path

import pytest

from livermet.digest import _content, _reached, script_digest


@pytest.fixture
def project(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    write("lib/livermet/__init__.py", "")
    write("lib/livermet/a.py", "from livermet.sub import b\n")
    write("lib/livermet/sub/__init__.py", "")
    write("lib/livermet/sub/b.py", "from ..c import value\n")
    write("lib/livermet/c.py", 'PLACE = ("resources", "used.tsv")\nvalue = 1\n')
    write("lib/livermet/other.py", "x = 1\n")
    write("lib/livermet/resources/used.tsv", "1\n")
    write("lib/livermet/resources/unused.tsv", "1\n")
    write("scripts/step.py", "def main():\n    import livermet.a\n")
    return tmp_path


def digest(project):
    _content.cache_clear()
    _reached.cache_clear()
    return script_digest(project / "scripts/step.py", library=project / "lib")


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("scripts/step.py", True),
        ("lib/livermet/__init__.py", True),
        ("lib/livermet/a.py", True),
        ("lib/livermet/sub/b.py", True),
        ("lib/livermet/c.py", True),
        ("lib/livermet/resources/used.tsv", True),
        ("lib/livermet/resources/unused.tsv", False),
        ("lib/livermet/other.py", False),
    ],
)
def test_exactly_reached_files_count(project, file, changes):
    before = digest(project)
    path = project / file
    path.write_text(path.read_text() + "\n# changed\n")
    assert (digest(project) != before) == changes


def test_the_place_of_the_project_does_not_count(project, tmp_path_factory):
    other = tmp_path_factory.mktemp("clone") / "here"
    shutil.copytree(project, other)
    assert digest(other) == digest(project)


def test_every_script_of_the_project_reaches_the_library():
    home = Path(__file__).parents[2]
    scripts = sorted((home / "scripts").glob("*.py"))
    assert scripts
    digests = {s.name: script_digest(s, library=home / "workflow/lib") for s in scripts}
    assert len(set(digests.values())) == len(scripts)
