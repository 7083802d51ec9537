"""Blinded runs keep to their own folder, and looks at the data are counted: as processes, with the study step alone."""

import os
import time

import pytest

from livermet.files import read_table
from livermet.looks import read_rows
from trial_study import write_trial_study
from workspace import Workspace

LABELS = "results/study/labels.tsv"


@pytest.fixture
def workspace(home, tmp_path):
    folder = write_trial_study(tmp_path / "study")
    return Workspace(tmp_path / "work", home, {"study": str(folder), "results": "results"})


def show_a_test(workspace):
    """Leave a table of associations as if they had been tested after the labels were made."""
    path = workspace.results("cohort", "associations.tsv")
    path.parent.mkdir(exist_ok=True)
    path.write_text("feature\tstatus\na\ttested\n")
    os.utime(path, (time.time() + 3600,) * 2)


def test_blinded_and_open_runs_do_not_share_a_folder(workspace):
    workspace.snakemake("--", LABELS, blind=True)
    sources = read_table(workspace.results("study", "labels.tsv"))["source"].dropna()
    assert set(sources) == {"masked: the run is blinded"}
    refused = workspace.snakemake("--dry-run", "--", LABELS, check=False)
    assert refused.returncode != 0 and "holds the results of blinded runs" in refused.stdout
    assert "Remedy" in refused.stdout
    assert "Nothing to be done" in workspace.snakemake("--dry-run", "--", LABELS, blind=True).stdout
    show_a_test(workspace)
    workspace.snakemake("--forcerun", "check_study", "--", LABELS, blind=True)
    assert not workspace.results("study", "looks.tsv").exists()


def test_a_look_is_written_once_and_changes_no_plan(workspace):
    ledger = workspace.results("study", "looks.tsv")
    workspace.snakemake("--", LABELS)
    assert not ledger.exists()  # nothing was tested
    show_a_test(workspace)
    for _ in range(2):
        workspace.snakemake("--forcerun", "check_study", "--", LABELS)
        assert [row["look"] for row in read_rows(ledger)] == ["1"]
    assert "Nothing to be done" in workspace.snakemake("--dry-run", "--", LABELS).stdout
    workspace.snakemake("--forcerun", "check_study", "--", LABELS, response={"primary_label": "objective_response"})
    assert [(row["look"], row["label"]) for row in read_rows(ledger)] == [
        ("1", "disease_control"),
        ("2", "objective_response"),
    ]
