"""The marker table: populations of liver metastases with their marker genes."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import pandas as pd
import yaml


@cache
def _read() -> dict[str, dict]:
    return yaml.safe_load((files("livermet") / "resources" / "markers.yaml").read_text(encoding="utf-8"))


def load_markers() -> pd.DataFrame:
    """Marker genes of each population.

    Returns
    -------
    DataFrame indexed by population, in the order of the table, with columns ``level`` ("type" or "state"), ``parent``
    (a compartment for a type, a type for a state), ``genes`` and ``negative`` (lists of HGNC symbols), ``source`` and
    ``confidence`` ("V": list or gene seen in the named source; "K": textbook knowledge).
    """
    rows = [
        {
            "population": name,
            "level": entry["lvl"],
            "parent": entry["parent"],
            "genes": list(entry["genes"]),
            "negative": list(entry.get("neg", [])),
            "source": entry["src"],
            "confidence": entry["conf"],
        }
        for name, entry in _read().items()
    ]
    return pd.DataFrame(rows).set_index("population")


def compartment_of() -> dict[str, str]:
    """Compartment of each cell type of the marker table."""
    markers = load_markers()
    types = markers[markers["level"] == "type"]
    return dict(zip(types.index, types["parent"], strict=True))


def states_of() -> dict[str, list[str]]:
    """States of each cell type that has any, in the order of the marker table."""
    markers = load_markers()
    states = markers[markers["level"] == "state"]
    return {parent: list(group.index) for parent, group in states.groupby("parent", sort=False)}
