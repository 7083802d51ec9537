"""The reference of all config keys and table columns, written from the schemas so that it cannot fall behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from livermet.catalogue import LABELS
from livermet.config import TYPE_NAMES, config_schema, section_schema
from livermet.tables import REQUIRED_TABLES, TABLES, table_schema

BEGIN = "<!-- begin: written by `python -m livermet reference` from workflow/schemas -->"
END = "<!-- end -->"


def render_reference(text: str, defaults: Mapping[str, Any]) -> str:
    """Put the reference between its two marks in a page.

    Parameters
    ----------
    text
        The page; everything outside the marks stays.
    defaults
        The default config, whose values are shown.

    Raises
    ------
    ValueError
        If the page lacks one of the marks.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"the page needs the lines {BEGIN!r} and {END!r} around the reference")
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    lines = [*_config_reference(defaults), *_label_reference(), *_other_reference(), *_table_reference()]
    return f"{head}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{tail}"


def _config_reference(defaults: Mapping[str, Any]) -> Iterator[str]:
    yield "## Config"
    plain = [name for name in config_schema("config")["properties"] if "properties" not in section_schema(name)]
    yield from _config_table("Top level", {name: section_schema(name) for name in plain}, defaults, prefix="")
    label = section_schema("labels")["additionalProperties"]["properties"]
    yield from _config_table("labels.{name}", label, {}, prefix="labels.{name}.")
    for name in config_schema("config")["properties"]:
        if name not in plain:
            section = section_schema(name)
            yield from _config_table(
                name, section["properties"], defaults.get(name, {}), prefix=f"{name}.", about=section
            )
    feature = section_schema("response")["properties"]["confirmatory"]["items"]["properties"]
    yield from _config_table("response.confirmatory", feature, {}, prefix="response.confirmatory[].")


def _config_table(
    title: str,
    properties: Mapping[str, Any],
    defaults: Mapping[str, Any],
    *,
    prefix: str,
    about: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    yield from ("", f"### {title}", "")
    if about:
        yield from (about["description"], "")
    yield from ("| key | values | default | meaning |", "|---|---|---|---|")
    for name, schema in properties.items():
        default = f"`{_default(defaults[name])}`" if name in defaults else ""
        yield f"| `{prefix}{name}` | {_values(schema)} | {default} | {_meaning(schema)} |"


def _default(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"{len(value)} features"
    return '""' if value == "" else str(value).replace("'", "")


def _values(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"]).replace("|", "\\|")
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    text = " or ".join(TYPE_NAMES[kind] for kind in kinds)
    if "enum" in schema.get("items", {}):
        text += " of " + ", ".join(f"`{value}`" for value in schema["items"]["enum"])
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    above = "above " if "exclusiveMinimum" in schema else ""
    if low is not None and high is not None:
        return f"{text}, {above}{low} to {high}"
    return text if low is None else f"{text}, {above or 'from '}{low}"


def _meaning(schema: Mapping[str, Any]) -> str:
    return " ".join(schema["description"].split()).replace("|", "\\|")


def _label_reference() -> Iterator[str]:
    yield from ("", "## Derived labels", "", "Compared in tissue of the named timepoints only (R17).", "")
    yield from ("| label | kind | meaning | tissue |", "|---|---|---|---|")
    for name, label in LABELS.items():
        where = f"never: {label.untested}" if label.untested else ", ".join(label.timepoints)
        yield f"| `{name}` | {label.kind} | {label.meaning} | {where} |"


def _other_reference() -> Iterator[str]:
    yield from ("", "## Batch overlay", "", _meaning(config_schema("batch")), "", "| key | meaning |", "|---|---|")
    for name, schema in config_schema("batch")["properties"].items():
        if "$ref" in schema:
            schema = {"description": f"Any keys of the section {name} of the config."}
        yield f"| `{name}` | {_meaning(schema)} |"
    yield from ("", "## Trial file", "", _meaning(config_schema("trial")), "", "| key | meaning |", "|---|---|")
    yield from _nested(config_schema("trial"), prefix="")


def _nested(schema: Mapping[str, Any], *, prefix: str) -> Iterator[str]:
    for name, part in schema.get("properties", {}).items():
        yield f"| `{prefix}{name}` | {_meaning(part)} |"
        yield from _nested(part, prefix=f"{prefix}{name}.")
        if isinstance(part.get("additionalProperties"), dict):
            yield from _nested(part["additionalProperties"], prefix=f"{prefix}{name}.{{name}}.")


def _table_reference() -> Iterator[str]:
    yield from ("", "## Study tables", "", "Columns in bold are required.")
    for name in TABLES:
        schema = table_schema(name)
        needed = " The table is required." if name in REQUIRED_TABLES else ""
        key = ", ".join(f"`{column}`" for column in schema["x-key"])
        yield from (
            "",
            f"### {name}.tsv",
            "",
            f"{_meaning(schema)}{needed} A row is told from the others by {key}.",
            "",
        )
        yield from ("| column | values | meaning |", "|---|---|---|")
        for column, part in schema["properties"].items():
            shown = f"**`{column}`**" if column in schema["required"] else f"`{column}`"
            values = "an id" if part.get("pattern", "").startswith("^[A-Z") else _values(part)
            yield f"| {shown} | {values} | {_meaning(part)} |"
