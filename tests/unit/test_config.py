"""Configs: loading is safe and strict, mistakes are named with their remedy, the reference is complete."""

from __future__ import annotations

import copy

import pytest
from jsonschema import Draft202012Validator

from livermet.catalogue import LABELS
from livermet.config import (
    DEFAULT_CONFIG,
    PROJECT,
    config_schema,
    load_yaml,
    merge_config,
    schema_findings,
    section_schema,
    validate_config,
)
from livermet.reference import render_reference
from livermet.tables import TABLES, table_schema

DEFAULTS = load_yaml(DEFAULT_CONFIG)


def changed(key, value):
    config = copy.deepcopy(DEFAULTS)
    *sections, last = key.split(".")
    place = config
    for section in sections:
        place = place.setdefault(section, {})
    place[last] = value
    return config


def test_the_defaults_are_valid_and_complete():
    assert validate_config(DEFAULTS) == []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("sed", 1, "did you mean 'seed'"),
        ("qc.min_cell", 1, "did you mean 'min_cells'"),
        ("nmads_counts", 3, "belongs under qc"),
        ("max_pct_mitto", 3, "did you mean 'max_pct_mito' under 'qc'"),
        ("qc.zzz", 3, "keys here are"),
        ("seed", "1", "without quotes"),
        ("seed", 1.5, "expected a whole number"),
        ("seed", -1, "at least 0"),
        ("seed", True, "expected a whole number"),
        ("scope", 1, "quotes"),
        ("scope", "a/b", "letters, digits"),
        ("scope", "../x", "letters, digits"),
        ("study", "", "at least 1"),
        ("study", None, "expected a text"),
        ("qc", [1], "a section with keys"),
        ("qc.max_pct_mito", 250, "at most 100"),
        ("qc.max_pct_mito", "60 %", "without quotes"),
        ("qc.remove_doublets", "yes", "true or false"),
        ("qc.doublet_score_threshold", "auto", "a number or null"),
        ("integrate.resolutions", [], "at least 1"),
        ("integrate.resolutions", [0.5, 0.5], "comes twice"),
        ("integrate.batch_key", "library", "did you mean 'library_id'"),
        ("niches.k_min", 40, "above the largest"),
        ("spatial.margin_um", 1e6, "inside the margin"),
        ("response.tissues", ["liver"], "use liver_met"),
        ("response.look", 3, "was not planned"),
        ("response.n_permutations", 99, "so few permutations"),
        ("response.primary_label", "responder", "neither derived nor declared"),
        ("response.confirmatory", [{"modality": "scrna", "family": "state"}], "the key is missing"),
        (
            "response.confirmatory",
            [{"modality": "scrna", "family": "state", "feature": f"f{i}"} for i in range(11)],
            "at most 10",
        ),
        ("response.confirmatory", [{"modality": "rna", "family": "a", "feature": "b"}], "use scrna"),
        ("labels", {"x": {"kind": "binary"}}, "positive is missing"),
        ("labels", {"x": {"kind": "ordinal"}}, "levels are missing"),
        ("labels", {"x": {"kind": "continuous", "positive": "a"}}, "does not go with continuous"),
        ("labels", {"x": {"kind": "binary", "positive": 1}}, "quotes"),
        ("labels", {"x": {"kind": "survival"}}, "use binary, ordinal or continuous"),
        ("labels", {"recist": {"kind": "continuous"}}, "name is taken"),
        ("labels", {"Bad name": {"kind": "continuous"}}, "lower case"),
        ("results", "study", "among the study tables"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(key, value, words):
    config = changed(key, value)
    if key == "response.n_permutations":
        config["response"].update(alpha=0.01, planned_looks=2)
    if key == "results":
        config["study"] = "study"
    findings = validate_config(config)
    assert findings, "passed silently"
    assert words in " ".join(f"{f.column} {f.message} {f.remedy}" for f in findings)
    assert {f.severity for f in findings} == {"error"} and {f.table for f in findings} == {"config"}
    assert all(f.column.startswith(key.split(".")[0]) or key in f.column for f in findings)


def test_all_mistakes_are_listed_at_once():
    config = merge_config(DEFAULTS, {"sed": 1, "qc": {"min_cells": 0, "nmads": 3}, "seed": "x"})
    assert {f.column for f in validate_config(config)} == {"sed", "qc.min_cells", "qc.nmads", "seed"}


def test_missing_keys_are_listed():
    config = copy.deepcopy(DEFAULTS)
    del config["qc"]["min_cells"], config["seed"]
    assert {f.column for f in validate_config(config)} == {"qc.min_cells", "seed"}


def test_a_declared_label_can_be_primary():
    config = merge_config(
        DEFAULTS, {"labels": {"x": {"kind": "binary", "positive": "a"}}, "response": {"primary_label": "x"}}
    )
    assert validate_config(config) == []


def test_merging_is_snakemakes_and_leaves_its_inputs_alone():
    first = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    second = {"a": {"c": [3], "e": {}}, "d": {"x": 1}}
    before = copy.deepcopy((first, second))
    merged = merge_config(first, second)
    assert merged == {"a": {"b": 1, "c": [3], "e": {}}, "d": {"x": 1}}
    merged["a"]["c"].append(4)
    assert (first, second) == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: 1\nqc: {}\nseed: 2\n", ["line 3", "'seed' is already in line 1"]),
        ("qc:\n  min_cells: 1\n  min_cells: 2\n", ["line 3", "min_cells"]),
        ("labels: {a: 1, a: 2}\n", ["line 1", "'a'"]),
        ("no: 1\n", ["line 1", "key no", "quotes"]),
        ("1: 2\n", ["key 1", "quotes"]),
        ("- a\n- b\n", ["list", "expected keys"]),
        ("just text\n", ["str", "expected keys"]),
        ("a: [1, 2\n", ["line"]),
        ("a:\n\t- b\n", ["line 2"]),
        ("x: !!python/object/apply:os.system ['true']\n", ["line 1", "constructor"]),
        ("a: 1\n---\nb: 2\n", ["line 2"]),
        (b"study: Malm\xf6\n", ["UTF-8"]),
    ],
)
def test_yaml_that_is_refused(tmp_path, text, words):
    path = tmp_path / "my.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as error:
        load_yaml(path)
    assert all(word in str(error.value) for word in ["my.yaml", *words])


def test_yaml_that_is_accepted(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: &x {b: 1}\r\nc: *x\r\n")
    assert load_yaml(path) == {"a": {"b": 1}, "c": {"b": 1}}
    path.write_text("# nothing yet\n")
    assert load_yaml(path) == {}
    with pytest.raises(ValueError, match="no such file"):
        load_yaml(tmp_path / "none.yaml")


def nested(schema):
    yield schema
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        if isinstance(part, dict | list):
            yield from nested(part)


@pytest.mark.parametrize("name", ["config", "batch", "trial"])
def test_schemas_are_valid_closed_and_described(name):
    schema = config_schema(name)
    Draft202012Validator.check_schema(schema)
    for part in nested(schema):
        if isinstance(part, dict) and isinstance(part.get("properties"), dict) and part.get("type") == "object":
            assert part["additionalProperties"] is False
            for key, value in part["properties"].items():
                assert "$ref" in value or value.get("description"), key
                assert "$ref" in value or value.get("type"), key


def test_the_trial_of_scanpan_fits_its_schema():
    path = PROJECT / "config" / "trials" / "scanpan1.yaml"
    trial = load_yaml(path)
    assert schema_findings(trial, schema="trial", table=path.name) == []
    assert set(trial["cohorts"]) == {
        "limited_liver",
        "extended_liver",
        "secondary_extrahepatic",
        "locoregional_recurrence",
    }


def test_the_reference_says_what_the_schemas_say():
    text = (PROJECT / "config" / "README.md").read_text(encoding="utf-8")
    assert render_reference(text, DEFAULTS) == text, "run python -m livermet reference"
    for name in config_schema("config")["properties"]:
        keys = [f"{name}.{key}" for key in section_schema(name).get("properties", {})] or [name]
        assert all(f"| `{key}` |" in text for key in keys)
    for table in TABLES:
        part = text.split(f"### {table}.tsv")[1].split("\n### ")[0]
        for column, schema in table_schema(table)["properties"].items():
            line = next(line for line in part.splitlines() if f"`{column}`" in line and line.startswith("|"))
            assert line.startswith("| **") == (column in table_schema(table)["required"])
            assert all(f"`{value}`" in line for value in schema.get("enum", []))


def test_the_page_explains_every_derived_label():
    text = (PROJECT / "config" / "README.md").read_text(encoding="utf-8")
    assert all(f"`{label}`" in text for label in LABELS)


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="needs the lines"):
        render_reference("# Config\n", {})
