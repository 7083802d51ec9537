"""The study as a whole: what is wrong in tables, config and files is found at once; scopes, overlays and files are right."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys

import h5py
import pandas as pd
import pytest
import yaml

from livermet.compare import compare_folders
from livermet.config import PROJECT
from livermet.filecheck import check_files
from livermet.findings import COLUMNS, Finding, findings_frame, format_findings, raise_on_errors
from livermet.study import load_study
from livermet.tables import TABLES
from study_files import study_config, table_text, write_10x, write_study


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


# One thing is broken at a time. Each case: what is done, the severity, and the words that the user must get.
def edits(table, old, new):
    return lambda folder: edit(folder, table, old, new)


def writes(name, content):
    def write(folder):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def removes(name):
    return lambda folder: (folder / name).unlink()


def recodes(table, encoding):
    return writes(f"{table}.tsv", table_text(table).encode(encoding))


def separates(table, mark):
    return writes(f"{table}.tsv", table_text(table).replace("\t", mark))


def makes_h5(name, group):
    def write(folder):
        (folder / name).unlink()
        write_10x(folder / name, group=group)

    return write


def molecule_info(folder):
    (folder / "raw/L1.h5").unlink()
    with h5py.File(folder / "raw/L1.h5", "w") as file:
        file["barcode_idx"], file["umi"] = [1], [1]


def truncates(name):
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


CASES = [
    # --- the file as a table
    ("utf16", recodes("patients", "utf-16"), "error", ["patients.tsv", "UTF-16", "UTF-8"]),
    ("latin1", recodes("patients", "latin-1"), "error", ["patients.tsv", "2", "Latin-1"]),
    ("semicolons", separates("patients", ";"), "error", ["separated by semicolons", "decimal point"]),
    ("commas", separates("samples", ","), "error", ["separated by commas", "tab-separated"]),
    ("blanks", separates("blood", "  "), "error", ["separated by blanks"]),
    ("excel", writes("patients.tsv", b"PK\x03\x04\x14\x00rest"), "error", ["spreadsheet"]),
    ("html", writes("blood.tsv", "<!DOCTYPE html><html></html>"), "error", ["web page"]),
    ("zero bytes", writes("patients.tsv", ""), "error", ["patients.tsv", "empty"]),
    ("header only", writes("samples.tsv", "sample_id\tpatient_id\ttimepoint\ttissue\n"), "error", ["no rows"]),
    ("extra field", edits("patients", "P2\tOslo", "P2\tOslo\tNorway"), "error", ["3", "9 fields", "8", "wrong column"]),
    ("missing field", edits("patients", "P2\tOslo\t", "P2\t"), "error", ["3", "7 fields", "too few"]),
    ("quote", edits("patients", "Malmö", '"Mal"mö'), "error", ["2", "quotation mark"]),
    ("open quote", edits("patients", "Malmö", '"Malmö'), "error", ["2", "quotation mark"]),
    ("line break in cell", edits("patients", "Malmö", '"Mal\nmö"'), "error", ["2", "line break"]),
    ("column twice", edits("patients", "centre\tcohort", "centre\tcentre"), "error", ["centre is there twice"]),
    ("column misspelt", edits("patients", "centre", "center"), "error", ["rename the column 'center'"]),
    ("column without name", edits("patients", "\tage\t", "\t\t"), "error", ["column 4 has no name"]),
    ("column undeclared", edits("patients", "\tecog\t", "\tecgo\t"), "warning", ["ecgo", "not carried", "'ecog'"]),
    # --- ids
    ("id twice", edits("patients", "P2\t", "P1\t"), "error", ["patients.tsv", "3", "P1", "already in row 2"]),
    ("id by case", edits("patients", "P2\t", "p1\t"), "error", ["upper and lower case"]),
    ("id with blank", edits("patients", "P2\t", "P 2\t"), "error", ["cannot be an id", "P 2"]),
    ("id with slash", edits("libraries", "L2\t", "../L2\t"), "error", ["cannot be an id", "../L2"]),
    ("id empty", edits("patients", "P2\t", "\t"), "error", ["patient_id", "is empty"]),
    ("id too long", edits("patients", "P2\t", "P" * 65 + "\t"), "error", ["at most 64"]),
    ("sample of two", edits("samples", "S2\tP2", "S1\tP2"), "error", ["S1", "under another patient"]),
    ("lost zeros", edits("samples", "003", "3"), "error", ["samples.tsv", "4", "not in patients.tsv"]),
    ("orphan sample", edits("samples", "P2", "P9"), "error", ["3", "patient_id", "P9", "not in patients.tsv"]),
    ("orphan by case", edits("samples", "P2", "p2"), "error", ["p2", "write it as there: P2"]),
    ("orphan library", edits("libraries", "\tS2\t", "\tS7\t"), "error", ["S7", "not in samples.tsv"]),
    ("orphan value", edits("blood", "P2", "P8"), "error", ["blood.tsv", "P8"]),
    ("orphan pathology", writes("pathology.tsv", "sample_id\tcap_trs\nS9\t1\n"), "error", ["pathology.tsv", "S9"]),
    ("value twice", edits("blood", "P2\t0", "P1\t0"), "error", ["P1 + 0 + ca199", "already in row 2"]),
    # --- values
    ("enum", edits("samples", "liver_met", "liver"), "error", ["tissue", "liver", "liver_met, adjacent_liver"]),
    ("enum by case", edits("libraries", "scrna", "scRNA"), "error", ["did you mean 'scrna'"]),
    ("decimal comma", edits("blood", "812.5", '"812,5"'), "error", ["812,5", "decimal comma"]),
    ("censored", edits("blood", "\t1\t", "\t<1\t"), "error", ["<1", "censor"]),
    ("date", edits("samples", "-3", "2024-02-11"), "error", ["calendar date", "days from enrolment"]),
    ("age", edits("patients", "\t61\t", "\t610\t"), "error", ["age", "610", "0 to 120"]),
    ("analyte", edits("blood", "ca199\t812.5", "CA19-9\t812.5"), "error", ["CA19-9", "ca199"]),
    ("cohort", edits("patients", "extended_liver", "extended"), "error", ["extended_liver", "trial file"]),
    ("pixel", edits("libraries", "0.5", "55"), "error", ["55", "0.1 to 2"]),
    ("required cell", edits("libraries", "\tB02\t", "\t\t"), "error", ["batch", "is empty"]),
    # --- batches, labels, consent, lesions
    ("reserved batch", edits("libraries", "B02", "cohort"), "error", ["cohort", "reserved"]),
    ("batch by case", edits("libraries", "visium\tB02", "visium\tb01"), "error", ["b01", "differs from batch B01"]),
    ("binary label", edits("response", "PR\thigh", "PR\tmiddle"), "error", ["grade", "more than two values"]),
    ("no consent", edits("patients", "41\tyes", "41\t"), "error", ["consent_omics", "is empty"]),
    (
        "withdrawn",
        edits("patients", "41\tyes", "41\twithdrawn"),
        "warning",
        ["patients: 1", "removed from every table"],
    ),
    ("no omics", edits("patients", "41\tyes", "41\tno"), "warning", ["patients: 1", "libraries lost: 1"]),
    (
        "lesion",
        lambda f: (
            writes("lesions.tsv", "patient_id\tlesion_id\tday\ttarget\nP1\tM1\t0\t1\n")(f),
            edit(f, "local_treatment", "resection\t", "resection\tM2"),
        ),
        "warning",
        ["M2", "no such lesion"],
    ),
    # --- the folder
    ("no patients", removes("patients.tsv"), "error", ["patients.tsv", "is missing"]),
    ("csv", lambda f: (f / "samples.tsv").rename(f / "samples.csv"), "error", ["save 'samples.csv' as tab-separated"]),
    ("stray", writes("outcomes.tsv", "patient_id\n"), "warning", ["outcomes.tsv", "did you mean outcome.tsv"]),
    # --- raw files
    ("no file", removes("raw/L1.h5"), "error", ["libraries.tsv", "2", "raw/L1.h5", "no such file"]),
    ("no raw file", removes("raw/L1_raw.h5"), "error", ["raw_path", "raw/L1_raw.h5"]),
    ("backslash", edits("libraries", "raw/L2", "raw\\L2"), "error", ["write paths with /"]),
    ("path twice", edits("libraries", "raw/L2", "raw/L1.h5"), "error", ["also the path of library L1"]),
    ("raw is path", edits("libraries", "raw/L1_raw.h5", "raw/L1.h5"), "error", ["the same as path"]),
    ("html h5", writes("raw/L1.h5", "<html>login</html>"), "exclusion", ["raw/L1.h5", "web page"]),
    ("empty h5", writes("raw/L1.h5", ""), "exclusion", ["raw/L1.h5", "empty"]),
    ("truncated h5", truncates("raw/L1.h5"), "exclusion", ["raw/L1.h5", "truncated"]),
    ("molecule info", molecule_info, "exclusion", ["molecule_info", "filtered_feature_bc_matrix.h5"]),
    ("other h5", makes_h5("raw/L1.h5", "things"), "exclusion", ["no 10x counts", "things"]),
    (
        "h5ad as h5",
        lambda f: (shutil.copy(f / "raw/L4.h5ad", f / "raw/L5.h5"), edit(f, "libraries", "L4.h5ad", "L5.h5")),
        "exclusion",
        ["ending .h5ad"],
    ),
    ("no barcodes", removes("raw/L2/barcodes.tsv.gz"), "exclusion", ["raw/L2", "barcodes"]),
    ("mtx of another run", writes("raw/L2/barcodes.tsv", "A-1\nB-1\n"), "exclusion", ["not of one run"]),
    ("not mtx", writes("raw/L2/matrix.mtx", "1 2 3\n"), "exclusion", ["Matrix Market"]),
    ("damaged gz", truncates("raw/L2/features.tsv.gz"), "exclusion", ["features.tsv.gz"]),
    ("no positions", removes("raw/L3/spatial/tissue_positions.csv"), "exclusion", ["raw/L3", "positions"]),
    ("scale factors", writes("raw/L3/spatial/scalefactors_json.json", "{"), "exclusion", ["JSON"]),
    ("not read", edits("libraries", "visium", "xenium"), "exclusion", ["Xenium"]),
    (
        "rds",
        lambda f: (writes("raw/a.rds", "x")(f), edit(f, "libraries", "raw/L4.h5ad", "raw/a.rds")),
        "exclusion",
        ["h5ad"],
    ),
    # --- overlays
    ("overlay key", writes("../batches/a.yaml", "batch: B01\nqc: {min_cell: 3}\n"), "error", ["a.yaml", "'min_cells'"]),
    ("overlay yaml", writes("../batches/a.yaml", "batch: B01\nbatch: B02\n"), "error", ["a.yaml", "line 2"]),
    (
        "overlay section",
        writes("../batches/a.yaml", "batch: B01\nresponse: {}\n"),
        "error",
        ["response", "unknown key"],
    ),
    ("overlay number", writes("../batches/a.yaml", "batch: 1\n"), "error", ["quotes"]),
    ("overlay of none", writes("../batches/a.yaml", "batch: B09\n"), "warning", ["B09", "batches are B01, B02"]),
    (
        "overlay twice",
        lambda f: [writes(f"../batches/{n}.yaml", "batch: B01\n")(f) for n in "ab"],
        "error",
        ["has an overlay already, batches/a.yaml"],
    ),
    (
        "overlay of another library",
        writes("../batches/a.yaml", "batch: B01\nlibrary: {L3: {qc: {min_cells: 1}}}\n"),
        "error",
        ["L3", "belongs to batch B02"],
    ),
]


@pytest.mark.parametrize(("damage", "severity", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_bad_input_is_named(folder, damage, severity, words):
    # Where a test writes a plain part of a matrix, the gzipped one must not hide it.
    damage(folder)
    for plain in (folder / "raw/L2").glob("*[!z]"):
        plain.with_name(f"{plain.name}.gz").unlink(missing_ok=True)
    findings = found(folder)
    texts = [" ".join(str(getattr(f, name)) for name in COLUMNS) for f in findings]
    assert any(f.severity == severity and all(w in t for w in words) for f, t in zip(findings, texts, strict=True)), (
        texts
    )
    assert all(f.message and f.remedy for f in findings)
    # One mistake may show at a few places, but is not repeated by everything that refers to it.
    assert len(findings) <= 4, texts
    worst = {"error", "exclusion"} if severity == "error" else {severity}
    assert {f.severity for f in findings} <= {*worst, "warning"}


def test_all_problems_come_in_one_list(folder):
    edit(folder, "patients", "\t61\t", "\t610\t")
    edit(folder, "blood", "P2", "P8")
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
        "library_id sample_id patient_id centre cohort batch modality chemistry timepoint tissue method lesion_id region".split()
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
    assert study.tables["blood"]["value"].tolist() == [812.5, 1.0]
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


def test_paths_of_a_table_count_from_the_table(folder):
    outside = folder.parent / "elsewhere"
    (folder / "raw").rename(outside)
    edit(folder, "libraries", "raw/", "../elsewhere/")
    assert found(folder) == []
    edit(folder, "libraries", "../elsewhere/L2", str(outside / "L2"))
    assert found(folder) == []


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
