"""The study as a whole: what is wrong in tables, config and files is found at once; scopes, overlays and files are right."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from livermet.compare import compare_folders
from livermet.config import PROJECT
from livermet.filecheck import check_files
from livermet.findings import COLUMNS, Finding, findings_frame, format_findings, raise_on_errors
from livermet.study import load_study
from livermet.tables import TABLES
from study_files import study_config, write_study


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("original") / "study")


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "study")


def load(folder, **changes):
    return load_study(study_config(folder, **changes), workdir=folder.parent)


def edit(folder, table, old, new):
    path = folder / f"{table}.tsv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def found(folder, **changes):
    study = load(folder, **changes)
    return [*study.findings, *check_files(study.data)]


def test_the_study_is_clean(folder):
    assert found(folder) == []


def writes(name, content):
    def write(folder):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    return write


def test_all_problems_come_in_one_list(folder):
    edit(folder, "patients", "\t61\t", "\t610\t")
    edit(folder, "blood", "P2\t0\tca199", "P8\t0\tca199")
    (folder / "raw/L1.h5").write_text("<html>")
    findings = found(folder, sed=1)
    assert {f.table for f in findings} == {"config", "patients.tsv", "blood.tsv", "libraries.tsv"}
    text = format_findings(findings)
    assert text.splitlines()[-1] == "3 errors, 1 exclusion" and len(text.splitlines()) == 6
    with pytest.raises(ValueError, match="blood"):
        raise_on_errors(findings)
    assert findings_frame(findings)["severity"].tolist() == ["error", "error", "error", "exclusion"]


def test_no_findings_is_a_table_too():
    assert list(findings_frame([]).columns) == list(COLUMNS) and findings_frame([]).empty
    assert format_findings([]) == "no findings"
    raise_on_errors([Finding("warning", "t", None, "", "", "m", "r")])
    with pytest.raises(ValueError, match="severity"):
        Finding("fatal", "t", None, "", "", "m", "r")


def test_scopes_rows_and_files(folder):
    study = load(folder)
    assert study.scopes == {"cohort": ["L1", "L2", "L3", "L4"], "B01": ["L1", "L2"], "B02": ["L3", "L4"]}
    assert study.libraries("cohort", "cells") == ["L1", "L2", "L4"]
    assert study.libraries("B02", "spatial") == ["L3"] and study.libraries("B01", "spatial") == []
    row = study.row("L1")
    assert row["patient_id"] == "P1" and row["centre"] == "Malmö" and row["cohort"] == "limited_liver"
    assert row["path"] == str(folder / "raw/L1.h5") and row["raw_path"] == str(folder / "raw/L1_raw.h5")
    assert row["boundary_path"] == "" and row["pixel_um"] is None and row["expected_cells"] == 4000
    assert study.row("L4")["patient_id"] == "003"
    assert [list(r) for r in study.rows("B01", "all")] == [
        "library_id sample_id patient_id centre cohort sex batch modality chemistry timepoint tissue method lesion_id region".split()
    ] * 2
    assert study.files("L1") == [str(folder / "raw/L1.h5"), str(folder / "raw/L1_raw.h5")]
    assert [os.path.basename(path) for path in study.files("L2")] == [
        "matrix.mtx.gz",
        "features.tsv.gz",
        "barcodes.tsv.gz",
    ]
    assert len(study.files("L3")) == 3 and all(os.path.isfile(path) for path in study.files("L3"))
    assert not study.simulated and not study.has_errors and study.setup_findings == []
    with pytest.raises(ValueError, match="B09"):
        study.libraries("B09", "all")
    (folder / "raw/L1.h5").write_text("<html>")
    assert load(folder).files("L1") == [str(folder / "raw/L1.h5"), str(folder / "raw/L1_raw.h5")]


def test_all_tables_are_there_typed_and_absent_ones_empty(folder):
    study = load(folder)
    assert tuple(study.tables) == TABLES
    assert study.tables["outcome"].empty and "death" in study.tables["outcome"]
    assert study.tables["blood"]["value"].tolist() == [812.5, 1.0, 11.0, 9.0]
    assert "grade" in study.tables["response"] and study.tables["response"]["eval_day"].dtype == "Int64"
    assert set(study.table_files()) == {
        "patients",
        "samples",
        "libraries",
        "response",
        "blood",
        "treatment",
        "local_treatment",
    }


def test_the_marker_file_makes_a_study_simulated(folder):
    (folder / "SIMULATED").write_text("")
    assert load(folder).simulated


def test_overlays_act_in_every_scope(folder):
    overlay = {"batch": "B01", "qc": {"min_cells": 7}, "library": {"L2": {"qc": {"min_genes": 9, "min_cells": 8}}}}
    writes("../batches/B01.yaml", yaml.safe_dump(overlay))(folder)
    for scope in ("cohort", "B01", "B02"):
        study = load(folder, scope=scope)
        base = study.config["qc"]
        assert study.library_config("qc", "L1") == {**base, "min_cells": 7}
        assert study.library_config("qc", "L2") == {**base, "min_cells": 8, "min_genes": 9}
        assert study.library_config("qc", "L3") == base


@pytest.mark.parametrize("scope", ["B09", "libraries", "study", "b01"])
def test_unknown_and_reserved_scopes_are_errors(folder, scope):
    study = load(folder, scope=scope)
    assert study.has_errors
    assert [(f.column, f.value) for f in study.findings] == [("scope", scope)]
    assert "cohort, B01 or B02" in study.findings[0].remedy


def test_withdrawn_consent_removes_a_patient_everywhere(folder):
    edit(folder, "patients", "22.5\tyes", "22.5\twithdrawn")
    study = load(folder)
    assert not study.has_errors and study.libraries("cohort", "all") == ["L2", "L4"]
    assert all("P1" not in set(table["patient_id"]) for table in study.tables.values() if "patient_id" in table)
    (finding,) = [f for f in study.findings if f.column == "consent_omics"]
    assert "libraries lost: 2; samples lost: 1" in finding.message and "P1" not in format_findings(study.findings)


def test_missing_files_of_a_withdrawn_patient_do_not_matter(folder):
    edit(folder, "patients", "22.5\tyes", "22.5\twithdrawn")
    (folder / "raw/L1.h5").unlink()
    assert not load(folder).has_errors


def test_without_consent_to_omics_only_libraries_go(folder):
    edit(folder, "patients", "22.5\tyes", "22.5\tno")
    study = load(folder)
    assert study.libraries("cohort", "all") == ["L2", "L4"]
    assert "P1" in set(study.tables["patients"]["patient_id"]) and "P1" in set(study.tables["response"]["patient_id"])


def test_loading_writes_nothing_and_relative_paths_count_from_the_working_directory(folder, monkeypatch):
    config = study_config(folder)
    config["study"] = "study"
    before = sorted(folder.parent.rglob("*"))
    kept = copy.deepcopy(config)
    monkeypatch.chdir("/")
    study = load_study(config, workdir=folder.parent)
    assert study.libraries("cohort", "all") and sorted(folder.parent.rglob("*")) == before and config == kept


def test_paths_lead_out_of_the_study_only_to_declared_roots(folder):
    outside = folder.parent / "elsewhere"
    (folder / "raw").rename(outside)
    edit(folder, "libraries", "raw/", "../elsewhere/")
    assert {f.column for f in found(folder)} == {"path", "raw_path"}
    assert found(folder, roots=["elsewhere"]) == [] and found(folder, roots=[str(outside)]) == []
    edit(folder, "libraries", "../elsewhere/L2", str(outside / "L2"))
    assert found(folder, roots=["elsewhere"]) == []


def test_comma_and_semicolon_files_with_a_declared_decimal_comma(folder):
    text = (folder / "blood.tsv").read_text(encoding="utf-8")
    expected = load(folder).tables["blood"]
    (folder / "blood.tsv").unlink()
    for separator, number in ((";", "812,5"), (",", '"812,5"')):
        changed = text.replace("\t", separator).replace("812.5", number).replace("\n", " \r\n")
        (folder / "blood.csv").write_text(f"\ufeff{changed}", encoding="utf-8")
        study = load(folder, decimal=",")
        assert [f for f in study.findings if f.table == "blood.csv"] == []
        pd.testing.assert_frame_equal(study.tables["blood"], expected)
        assert "decimal: ','" in next(f.remedy for f in load(folder).findings if f.table == "blood.csv")


def test_a_broken_study_can_still_be_loaded(tmp_path):
    study = load(tmp_path / "none")
    assert study.has_errors and f"no folder '{tmp_path.name}/none'" in format_findings(study.findings)
    assert study.scopes == {"cohort": []} and study.tables["patients"].empty
    config = study_config(tmp_path / "none") | {"study": 5, "labels": 3, "trial": "none.yaml", "batches": None}
    assert {f.column for f in load_study(config, workdir=tmp_path).findings} >= {"study", "labels", "trial", "batches"}


def test_cohorts_come_from_the_trial_file(folder):
    trial = {"name": "other", "title": "Other", "cohorts": {"limited_liver": {"description": "a"}}}
    (folder.parent / "other.yaml").write_text(yaml.safe_dump(trial))
    (finding,) = load(folder, trial="other.yaml").findings
    assert finding.value == "extended_liver" and finding.row == 3
    (folder.parent / "other.yaml").write_text("name: other\ncohort: {}\n")
    columns = {f.column for f in load(folder, trial="other.yaml").findings}
    assert columns == {"cohort", "cohorts", "title"}


def test_loading_imports_no_pandas(folder):
    """Every job of a run loads the study while it parses the workflow, and pandas takes more than half a second."""
    code = (
        "import sys, yaml; from livermet.study import load_study;"
        "s = load_study(yaml.safe_load(sys.stdin), workdir='.'); s.rows('cohort', 'all'); s.files('L1'); s.setup_findings;"
        "sys.exit(any(m in sys.modules for m in ('pandas', 'numpy', 'h5py')))"
    )
    config = yaml.safe_dump(study_config(folder))
    env = {**os.environ, "PYTHONPATH": str(PROJECT / "workflow" / "lib")}
    result = subprocess.run([sys.executable, "-c", code], input=config, text=True, env=env, check=False)
    assert result.returncode == 0


def run(*arguments, cwd):
    env = {**os.environ, "PYTHONPATH": str(PROJECT / "workflow" / "lib")}
    command = [sys.executable, "-m", "livermet", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def test_the_command_line(folder):
    work = folder.parent
    own = {"study": "study", "results": "results", "batches": "batches"}
    (work / "batches").mkdir(exist_ok=True)
    (work / "my.yaml").write_text(yaml.safe_dump(own))
    (work / "labels.yaml").write_text("labels: {grade: {kind: binary, positive: high}}\n")
    good = run("check", "--config", "my.yaml", "labels.yaml", cwd=work)
    assert good.returncode == 0 and "no findings" in good.stdout and good.stderr == ""
    assert pd.read_csv(work / "results/study/findings.tsv", sep="\t").empty
    edit(folder, "samples", "P2", "P9")
    bad = run("check", "--config", "my.yaml", "labels.yaml", cwd=work)
    assert bad.returncode == 1 and "P9" in bad.stdout
    written = pd.read_csv(work / "results/study/findings.tsv", sep="\t")
    assert list(written.columns) == list(COLUMNS) and written.loc[0, "row"] == 3
    none = run("check", "--config", "none.yaml", cwd=work)
    assert none.returncode == 2 and "none.yaml: no such file" in none.stderr and "Traceback" not in none.stderr


def test_compare_lists_what_differs(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        for name in ("x.tsv", "cohort/y.tsv", "cohort/run.json", "logs/l.log", "benchmarks/q/b.tsv", ".workdir"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("same" if name.endswith(("x.tsv", "y.tsv")) else str(folder))
    assert compare_folders(first, second) == []
    (second / "x.tsv").write_text("SAME")
    for folder in (first, second):  # same size and time: only the content tells them apart
        os.utime(folder / "x.tsv", (1, 1))
    (first / "only.tsv").write_text("")
    (second / "cohort/other.tsv").write_text("")
    expected = [("cohort/other.tsv", "only in second"), ("only.tsv", "only in first"), ("x.tsv", "content")]
    assert compare_folders(first, second) == expected
    with pytest.raises(ValueError, match="no such folder"):
        compare_folders(first, tmp_path / "c")
    (tmp_path / "c").mkdir()
    with pytest.raises(ValueError, match="holds no results"):
        compare_folders(first, tmp_path / "c")


def test_no_finding_shows_an_identifier_in_full(folder):
    number = "850709-9805"
    edit(folder, "patients", "\t22.5\t", f"\t{number}\t")
    edit(folder, "samples", "core_needle", number)
    writes("../batches/a.yaml", f"batch: {number}\n")(folder)
    findings = found(folder, scope=number, qc={"min_cells": number})
    text = format_findings(findings)
    assert number not in text and "9805" not in text
    assert {f.table for f in findings if "personnummer" in f.message} >= {"patients.tsv", "samples.tsv", "config"}
