"""Running the workflow as a user does: in a working directory, by config, as a process of its own."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml


def copy_project(home: Path, clone: Path) -> Path:
    """What a clone of the project holds for a run, with new file times."""
    for name in ["workflow", "scripts", "config", "envs", "profiles"]:
        shutil.copytree(
            home / name, clone / name, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copyfile(home / "Snakefile", clone / "Snakefile")
    return clone


class Workspace:
    """A working directory with a config, and the clone of the project whose workflow runs there."""

    def __init__(self, folder: Path, clone: Path, config: dict):
        self.folder = folder
        self.clone = clone
        self.config = config
        folder.mkdir(parents=True, exist_ok=True)

    def snakemake(self, *options: str, check: bool = True, **changes) -> subprocess.CompletedProcess:
        """Run snakemake with the config, changed at the top level by ``changes``; its output is in ``stdout``."""
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(self.config | changes))
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(self.clone / "Snakefile"), "--cores", "2"]
        command += ["--workflow-profile", str(self.clone / "profiles/default"), "--configfile", str(path), *options]
        run = subprocess.run(
            command,
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=1200,
            check=False,
        )
        if check and run.returncode:
            pytest.fail(f"snakemake failed:\n{run.stdout[-8000:]}")
        return run

    def planned(self, **changes) -> dict[str, int]:
        """Jobs per rule that a run would do now (a dry run), without the target rule."""
        output = self.snakemake("--dry-run", **changes).stdout
        if "Nothing to be done" in output:
            return {}
        table = output[output.index("Job stats:") :]
        jobs = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, flags=re.M)}
        jobs.pop("total")
        jobs.pop("all", None)
        return jobs

    def results(self, *parts: str) -> Path:
        return self.folder.joinpath(self.config["results"], *parts)
