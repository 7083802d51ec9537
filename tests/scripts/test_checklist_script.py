"""The entry of rule write_checklist, run in-process: optional tables are taken where the rule names them."""

from __future__ import annotations

import runpy
import sys
from types import SimpleNamespace

import pandas as pd

from livermet.checklist import COLUMNS, ITEMS
from livermet.config import DEFAULT_CONFIG, PROJECT, load_yaml
from livermet.files import read_table, write_json, write_table

sys.path.insert(0, str(PROJECT / "tests" / "data"))
from report_inputs import demo_inputs


class Named(SimpleNamespace):
    """Named inputs of a rule."""

    def items(self):
        return vars(self).items()


def test_the_checklist_is_filled_from_files(tmp_path):
    inputs = demo_inputs(n_patients=6, n_sections=2)
    tables = {
        name: inputs.tables[name] for name in ("patients", "samples", "labels", "consent", "status", "associations")
    }
    tables["left_out"] = inputs.tables["features_left_out"]
    tables["treatment"] = pd.DataFrame({"patient_id": ["P01"], "regimen": ["GnP"]})
    paths = {name: str(tmp_path / f"{name}.tsv") for name in (*tables, "survival")}
    for name, table in tables.items():
        write_table(table, paths[name])
    hazards = pd.DataFrame({"status": "tested", "analysis": "primary", "feature": ["a", "b"]})
    write_table(hazards.assign(family="blood", adjusted_for="centre"), paths["survival"])
    write_json(inputs.verdict, tmp_path / "verdict.json")
    write_json({**inputs.run, "config_sha256": "c" * 64, "response_sha256": "d" * 64}, tmp_path / "run.json")

    def checklist(*left_out):
        given = {name: path for name, path in paths.items() if name not in left_out}
        job = SimpleNamespace(
            rule="write_checklist",
            log=[str(tmp_path / "log")],
            input=Named(**given, verdict=str(tmp_path / "verdict.json"), run=str(tmp_path / "run.json")),
            params=SimpleNamespace(response=load_yaml(DEFAULT_CONFIG)["response"], looks=[], blind=False),
            output=SimpleNamespace(checklist=str(tmp_path / "checklist.tsv")),
        )
        runpy.run_path(str(PROJECT / "scripts" / "write_checklist.py"), init_globals={"snakemake": job})
        return read_table(tmp_path / "checklist.tsv")

    table = checklist()
    assert list(table.columns) == list(COLUMNS) and len(table) == len(ITEMS)
    effects = table.set_index(["guideline", "topic"])["value"]["REMARK", "single effects"]
    assert "2 hazard ratios" in effects
    assert "hazard" not in checklist("survival")["value"].str.cat(sep=" ")
