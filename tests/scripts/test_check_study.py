"""The entry of rule check_study, run in-process: outputs of a good study, the whole list for a bad one."""

from __future__ import annotations

import runpy
import sys
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from livermet.catalogue import LABELS
from livermet.config import PROJECT, load_yaml
from livermet.files import read_table
from livermet.findings import Finding
from livermet.tables import TABLES

sys.path.insert(0, str(PROJECT / "tests" / "unit"))
from study_files import write_study


class Log(list):
    """Log files of a rule: the main one by position, the other by name."""

    def __init__(self, folder):
        super().__init__([str(folder / "study.log"), str(folder / "findings.tsv")])
        self.findings = self[1]


@pytest.fixture
def job(tmp_path):
    out = tmp_path / "results" / "study"
    return SimpleNamespace(
        rule="check_study",
        log=Log(tmp_path / "logs"),
        params=SimpleNamespace(
            study=str(write_study(tmp_path / "study")),
            trial=load_yaml(PROJECT / "config" / "trials" / "scanpan1.yaml"),
            labels={"grade": {"kind": "binary", "positive": "high"}},
            reading={"decimal": ".", "roots": [], "not_personal": []},
            primary="disease_control",
            setup=[],
            blind=None,
        ),
        output=SimpleNamespace(
            findings=str(out / "findings.tsv"),
            labels=str(out / "labels.tsv"),
            recist=str(out / "recist.tsv"),
            consent=str(out / "consent.tsv"),
            deviations=str(out / "deviations.tsv"),
            tables=[str(out / "tables" / f"{name}.tsv") for name in TABLES],
        ),
    )


def run(job):
    runpy.run_path(str(PROJECT / "scripts" / "check_study.py"), init_globals={"snakemake": job})


def test_a_good_study_leaves_tables_labels_and_findings(job, tmp_path):
    (tmp_path / "study/raw/L2/barcodes.tsv.gz").unlink()
    run(job)
    tables = [read_table(path) for path in job.output.tables]
    assert [len(table) for table in tables] == [3, 3, 4, 1, 1, 0, 0, 4, 4, 0, 0]
    assert tables[0]["patient_id"].tolist() == ["P1", "P2", "003"]
    labels = read_table(job.output.labels)
    assert set(labels["label"]) == {*LABELS, "grade"}
    values = labels[labels["label"] == "disease_control"].set_index("patient_id")["value"]
    assert values.to_dict() == {"P1": "1", "P2": "0", "003": ""}
    consent = read_table(job.output.consent)
    assert consent.to_dict(orient="records") == [{"enrolled": 3, "withdrawn": 0, "no_omics": 0}]
    assert read_table(job.output.deviations).empty and read_table(job.output.recist).empty
    findings = read_table(job.output.findings)
    assert findings["severity"].tolist() == ["exclusion"] and "barcodes" in findings.loc[0, "message"]


def test_a_bad_study_leaves_the_list_in_the_log_and_nothing_else(job, tmp_path, capsys):
    patients = tmp_path / "study" / "patients.tsv"
    patients.write_text(patients.read_text().replace("\t61\t", "\t610\t"))
    job.params.setup = [asdict(Finding("error", "config", None, "scope", "B09", "is no batch", "use cohort"))]
    with pytest.raises(ValueError, match="610"):
        run(job)
    log = (tmp_path / "logs" / "study.log").read_text()
    assert "B09" in log and "610" in log and "2 errors" in log
    assert read_table(job.log.findings)["severity"].tolist() == ["error", "error"]
    assert not (tmp_path / "results").exists()


def test_a_blinded_study_leaves_permuted_labels_and_masked_sources(job, tmp_path):
    run(job)
    open_, tables = read_table(job.output.labels), [read_table(path) for path in job.output.tables]
    job.params.blind = 1
    run(job)
    blind = read_table(job.output.labels)
    own = [labels[labels["label"] == "disease_control"].set_index("patient_id")["value"] for labels in (open_, blind)]
    assert own[0].to_dict() != own[1].to_dict() and sorted(own[0]) == sorted(own[1])
    assert set(blind["source"].dropna()) == {"masked: the run is blinded"}
    changed = [
        name for name, a, path in zip(TABLES, tables, job.output.tables, strict=True) if not a.equals(read_table(path))
    ]
    assert changed == ["patients", "response"]
