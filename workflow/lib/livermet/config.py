"""Config files: safe loading, merging, and checks against the schema and between keys."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from livermet.catalogue import LABELS
from livermet.declared import parse
from livermet.findings import Finding, allowed, closest

PROJECT = Path(__file__).resolve().parents[3]
SCHEMAS = PROJECT / "workflow" / "schemas"
DEFAULT_CONFIG = PROJECT / "config" / "config.yaml"

TYPE_NAMES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a section with keys",
    "null": "null",
}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Safe loader that refuses what YAML would take silently: a key that comes twice, a key that is no text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key_node.value} is read as {type(key).__name__}; put it in quotes",
                    problem_mark=key_node.start_mark,
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key!r} is already in line {seen[key]}; keep one of them",
                    problem_mark=key_node.start_mark,
                )
            seen[key] = line
        return super().construct_mapping(node, deep=deep)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Load one YAML file of keys and values.

    Raises
    ------
    ValueError
        With file and line: the file is missing, is no YAML, holds a key twice, or is not a mapping.
    """
    path = Path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)  # a subclass of the safe loader
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; correct the path") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: the file is not UTF-8; save it as UTF-8 text") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{path}{line}: {getattr(error, 'problem', None) or error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds {type(content).__name__}, expected keys with values, such as 'study: study'")
    return content


def merge_config(*configs: Mapping[str, Any]) -> dict[str, Any]:
    """Merge configs, later ones over earlier ones, as Snakemake does: mappings merge, all else is replaced.

    The inputs are left as they are.
    """
    merged: dict[str, Any] = {}
    for config in configs:
        for key, value in config.items():
            if isinstance(value, Mapping) and isinstance(merged.get(key), dict):
                merged[key] = merge_config(merged[key], value)
            else:
                merged[key] = copy.deepcopy(value)
    return merged


@cache
def config_schema(name: str) -> dict[str, Any]:
    """One of the schemas beside the table schemas: "config", "batch" or "trial"."""
    return load_yaml(SCHEMAS / f"{name}.schema.yaml")


@cache
def _validator(name: str) -> Draft202012Validator:
    shared = Resource(contents=config_schema("config"), specification=DRAFT202012)
    registry = Registry().with_resource("config.schema.yaml", shared)
    return Draft202012Validator(config_schema(name), registry=registry)


def validate_config(config: Mapping[str, Any]) -> list[Finding]:
    """Check a merged config: unknown and missing keys, types, bounds, and rules between keys.

    Parameters
    ----------
    config
        The config after merging with the defaults.

    Returns
    -------
    All errors, none left out because of another.
    """
    findings = schema_findings(config, schema="config", table="config")
    findings += [
        Finding("error", "config", None, key, "", "the key is missing", "take it over from config/config.yaml")
        for key in _missing(config, config_schema("config"))
    ]
    broken = {finding.column for finding in findings}
    for keys, holds, message, remedy in CROSS_RULES:
        if any(key == bad or key.startswith(f"{bad}.") or bad.startswith(f"{key}.") for key in keys for bad in broken):
            continue
        values = [_get(config, key) for key in keys]
        if not holds(*values):
            shown = ", ".join(_short(value) for value in values)
            findings.append(Finding("error", "config", None, ", ".join(keys), shown, message, remedy))
    for section, check in (("labels", _label_findings), ("features", _feature_findings)):
        if not any(key.startswith(section) for key in broken):
            findings += check(config)
    return findings


def _smallest_p(n_permutations: int, alpha: float, planned_looks: int, confirmatory: Sequence[Any]) -> bool:
    return 2 / (n_permutations + 1) <= alpha / planned_looks / max(1, len(confirmatory))


CROSS_RULES: tuple[tuple[tuple[str, ...], Callable[..., bool], str, str], ...] = (
    (
        ("study", "results"),
        lambda study, results: Path(study) != Path(results),
        "results would be written among the study tables",
        "give results a folder of its own",
    ),
    (
        ("niches.k_min", "niches.k_max"),
        lambda low, high: low <= high,
        "the smallest number of niches is above the largest",
        "exchange them",
    ),
    (
        ("spatial.margin_um", "spatial.core_um"),
        lambda margin, core: margin <= core,
        "the core would begin inside the margin",
        "make core_um at least margin_um",
    ),
    (
        ("spatial.margin_um", "spatial.distant_um"),
        lambda margin, distant: margin <= distant,
        "distant liver would begin inside the margin",
        "make distant_um at least margin_um",
    ),
    (
        ("cnv.step", "cnv.window"),
        lambda step, window: step <= window,
        "genes between the windows would not be used",
        "make step at most as large as window",
    ),
    (
        ("integrate.n_pcs", "integrate.n_hvg"),
        lambda n_pcs, n_hvg: n_pcs < n_hvg,
        "more components than genes",
        "make n_pcs smaller than n_hvg",
    ),
    (
        ("response.look", "response.planned_looks"),
        lambda look, planned: look <= planned,
        "this look was not planned",
        "count every look that was planned before the first one",
    ),
    (
        ("response.n_permutations", "response.alpha", "response.planned_looks", "response.confirmatory"),
        _smallest_p,
        "so few permutations cannot give a p below the level, divided by looks and confirmatory features",
        "raise n_permutations",
    ),
    (
        ("response.primary_label", "labels"),
        lambda primary, labels: primary in {*LABELS, *labels},
        "the primary label is neither derived nor declared",
        f"use {allowed(LABELS)}, or declare it under labels",
    ),
    (
        ("response.primary_label",),
        lambda primary: primary not in LABELS or not LABELS[primary].untested,
        "the label can't be the primary one",
        f"use {allowed(name for name, label in LABELS.items() if not label.untested)}, or declare one under labels",
    ),
)


def _label_findings(config: Mapping[str, Any]) -> list[Finding]:
    findings = []
    taken = {*LABELS, "patient_id", "eval_day", "recist"}
    for name, label in config.get("labels", {}).items():
        kind = label["kind"]
        problems = [
            (name in taken, "the name is taken", "choose another name for the column"),
            (kind == "binary" and "positive" not in label, "positive is missing", "say which value counts as response"),
            (kind != "binary" and "positive" in label, f"positive does not go with {kind}", "remove it"),
            (kind == "ordinal" and "levels" not in label, "levels are missing", "list the values in their order"),
            (kind != "ordinal" and "levels" in label, f"levels do not go with {kind}", "remove them"),
        ]
        findings += [Finding("error", "config", None, f"labels.{name}", "", *p) for bad, *p in problems if bad]
    return findings


def _feature_findings(config: Mapping[str, Any]) -> list[Finding]:
    findings = []
    for name in config.get("features", {}).get("spatial", []):
        try:
            parse(name)
        except ValueError as error:
            remedy = "correct the name; config/config.yaml lists the kinds"
            findings.append(Finding("error", "config", None, "features.spatial", name, str(error), remedy))
    return findings


def schema_findings(content: Mapping[str, Any], *, schema: str, table: str) -> list[Finding]:
    """Compare keys and values with one of the schemas "config", "batch" or "trial".

    Parameters
    ----------
    content
        What was loaded.
    schema
        Name of the schema.
    table
        What the findings are about.
    """
    problems = sorted(_validator(schema).iter_errors(content), key=lambda error: [str(part) for part in error.path])
    return list(dict.fromkeys(finding for problem in problems for finding in _explain(problem, table)))


def _explain(error: ValidationError, table: str) -> Iterator[Finding]:
    place = [str(part) for part in error.absolute_path]
    where = ".".join(place)
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        for key in error.instance:
            if key not in known:
                column = ".".join([*place, key])
                yield Finding("error", table, None, column, "", "unknown key", _key_hint(key, known))
        return
    if error.validator == "required":
        for key in error.validator_value:
            if key not in error.instance:
                column = ".".join([*place, key])
                yield Finding("error", table, None, column, "", "the key is missing", "add it")
        return
    if "propertyNames" in error.absolute_schema_path:
        column, remedy = (
            ".".join([*place, str(error.instance)]),
            "use lower case letters, digits and underscore",
        )
        if error.validator == "enum":
            remedy = f"use {allowed(error.validator_value)}"
        yield Finding("error", table, None, column, "", "the name is not allowed", remedy)
        return
    value = _short(error.instance)
    if error.validator == "type":
        kinds = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
        wanted = " or ".join(TYPE_NAMES[kind] for kind in kinds)
        remedy = "put the value in quotes" if "string" in kinds and not isinstance(error.instance, dict | list) else ""
        if isinstance(error.instance, str) and {"number", "integer"} & set(kinds):
            remedy = "write the number without quotes, with a decimal point"
        yield Finding("error", table, None, where, value, f"expected {wanted}", remedy or f"give {wanted}")
        return
    if error.validator == "enum":
        close = closest(str(error.instance), [str(option) for option in error.validator_value])
        hint = f"did you mean {close!r}? " if close else ""
        remedy = f"{hint}use {allowed(error.validator_value)}"
        yield Finding("error", table, None, where, value, "is not an allowed value", remedy)
        return
    bounds = {
        "minimum": "at least",
        "exclusiveMinimum": "more than",
        "maximum": "at most",
        "minItems": "entries: at least",
        "maxItems": "entries: at most",
        "minLength": "characters: at least",
        "minProperties": "keys: at least",
    }
    if error.validator in bounds:
        message = f"lies outside its bounds ({bounds[error.validator]} {error.validator_value})"
        meaning = error.schema.get("description", "see config/README.md")
        yield Finding("error", table, None, where, value, message, f"correct it. {meaning}")
        return
    if error.validator == "uniqueItems":
        yield Finding("error", table, None, where, value, "an entry comes twice", "keep one of them")
        return
    remedy = "use letters, digits, dot, hyphen and underscore only"
    yield Finding("error", table, None, where, value, f"does not match {error.validator_value}", remedy)


def _key_hint(key: str, known: Mapping[str, Any]) -> str:
    close = closest(key, known)
    if close:
        return f"did you mean {close!r}?"
    sections = _sections(config_schema("config"))
    homes = [name for name, properties in sections.items() if key in properties]
    if homes:
        return f"the key belongs under {allowed(homes)}"
    elsewhere = {name: (home, name) for home, properties in sections.items() for name in properties}
    close = closest(key, elsewhere)
    if close:
        return f"did you mean {close!r} under {elsewhere[close][0]!r}?"
    return f"keys here are {', '.join(known)}"


def _sections(schema: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Keys of each section of the config, by the section's name."""
    sections = {name: section_schema(name) for name in schema["properties"]}
    return {name: section["properties"] for name, section in sections.items() if "properties" in section}


def section_schema(name: str) -> Mapping[str, Any]:
    """Schema of one top-level key of the config, also where it is shared with the overlays."""
    section = config_schema("config")["properties"][name]
    return config_schema("config")["$defs"][section["$ref"].rpartition("/")[2]] if "$ref" in section else section


def _missing(config: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    sections = _sections(schema)
    for name in schema["properties"]:
        if name not in config:
            yield name
        elif isinstance(config[name], Mapping):
            yield from (f"{name}.{key}" for key in sections.get(name, ()) if key not in config[name])


def _get(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, dict | list) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
