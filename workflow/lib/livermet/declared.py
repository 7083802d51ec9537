"""Names of the declared features of sections: what they may be, checked before anything runs."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml

from livermet import keys

ZONE_KINDS = ("zone_clr", "margin_core")
SECTION_KINDS = ("slope", "level", "tls_per_mm2")
PAIR_KINDS = ("pair_z", "nearest_um", "within_30um")
TABLE_COLUMNS = {
    "tail": ("share_outside", "d90_um"),
    "growth": ("desmoplastic", "replacement", "pushing"),
}
KINDS = (*ZONE_KINDS, *SECTION_KINDS, *PAIR_KINDS, "invasion", *TABLE_COLUMNS)
LEVEL_SETS = ("net",)
BORDERED = keys.ZONES[:5]


@cache
def _populations() -> dict[str, tuple[str, str]]:
    """Level and parent of each population of the marker table, without the cost of reading it as a data frame."""
    text = (files("livermet") / "resources" / "markers.yaml").read_text(encoding="utf-8")
    table = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {name: (entry["lvl"], entry["parent"]) for name, entry in table.items()}


def parse(feature: str) -> tuple[str, str]:
    """Kind and argument of a declared feature (:mod:`livermet.spatial_features` lists them).

    Raises
    ------
    ValueError
        The kind is none of ``KINDS``, or the argument is none that fits; says what was expected.
    """
    kind, _, argument = feature.partition(":")
    populations = _populations()
    types = {name for name, (level, _) in populations.items() if level == "type"}
    states = {name for name, (level, _) in populations.items() if level == "state"}
    compartments = {parent for level, parent in populations.values() if level == "type"}
    if kind not in KINDS:
        raise ValueError(f"{feature}: kind {kind!r} is none of {', '.join(KINDS)}")
    first, _, second = argument.partition("|" if kind in PAIR_KINDS else ":")
    fits = {
        "tls_per_mm2": (not argument, "nothing"),
        "zone_clr": (first in BORDERED and second in compartments, "<zone>:<compartment>"),
        "level": (first in LEVEL_SETS and second in BORDERED, f"<{' or '.join(LEVEL_SETS)}>:<zone>"),
        "margin_core": (argument in types, "a cell type of the marker table"),
        "slope": (argument in states, "a state of the marker table"),
        "invasion": (bool(argument), "a programme"),
        **dict.fromkeys(PAIR_KINDS, (first in types and second in types, "<cell type>|<cell type>")),
        **{name: (argument in columns, " or ".join(columns)) for name, columns in TABLE_COLUMNS.items()},
    }
    good, expected = fits[kind]
    if not good:
        raise ValueError(f"{feature}: {argument!r} after {kind!r}, expected {expected}")
    return kind, argument
