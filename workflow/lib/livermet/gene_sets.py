"""Gene sets of pathways and transcription factors: the project's own table, or a user's, read and checked.

Only the standard library is needed, so that the check can run before any job, where imports cost each start.
"""

from __future__ import annotations

import csv
import math
import re
from importlib.resources import files
from pathlib import Path

REQUIRED = ("set", "source_kind", "gene", "weight")
KINDS = ("pathway", "tf")
SYMBOL = re.compile(r"[A-Za-z0-9.@/_-]+")


def read_gene_sets(
    path: str | Path = "", *, resource: str = "gene_sets.tsv", option: str = "differential.gene_sets"
) -> list[dict[str, str | float]]:
    """Genes of each set with their sign, from the project's table or a user's own.

    Parameters
    ----------
    path
        A TSV with the columns set, source_kind ("pathway" or "tf"), gene (HGNC symbol) and weight (positive where the
        gene rises with the activity, negative where it falls), and, where wished, reference; empty for the project's.
    resource
        The project's own table that is read where the path is empty.
    option
        The key of the config that names the user's file, for messages.

    Returns
    -------
    One dict per row, weight as a number; reference is "" where the column is missing.

    Raises
    ------
    ValueError
        When the file or a column is missing, a value is not of its kind, a gene stands twice in a set, or a set has two
        kinds.
    """
    source = Path(path) if path else files("livermet") / "resources" / resource
    if not source.is_file():
        raise ValueError(f"{path}: no such file; correct {option}, or leave it empty for the project's sets")
    with source.open(encoding="utf-8-sig", newline="") as stream:
        table = csv.DictReader(stream, delimiter="\t")
        missing = [name for name in REQUIRED if name not in (table.fieldnames or ())]
        if missing:
            raise ValueError(
                f"{path}: column {missing[0]} is missing; gene sets need the columns {', '.join(REQUIRED)}"
            )
        rows = [_checked(row, f"{path}, row {table.line_num}") for row in table]
    kinds: dict[str, str] = {}
    seen = set()
    for number, row in enumerate(rows, start=2):
        member = row["set"], row["gene"]
        if member in seen:
            raise ValueError(
                f"{path}, row {number}: gene {member[1]} stands twice in the set {member[0]}; remove one row"
            )
        if kinds.setdefault(row["set"], row["source_kind"]) != row["source_kind"]:
            raise ValueError(f"{path}, row {number}: the set {member[0]} is both pathway and tf; give it one kind")
        seen.add(member)
    if not rows:
        raise ValueError(f"{path}: no rows; expected at least one gene, or leave {option} empty")
    return rows


def _checked(row: dict[str, str | None], where: str) -> dict[str, str | float]:
    """One row with blanks removed and the weight as a number."""
    values = {name: (row.get(name) or "").strip() for name in (*REQUIRED, "reference")}
    if not values["set"]:
        raise ValueError(f"{where}: set is empty; expected the name of the set")
    if values["source_kind"] not in KINDS:
        raise ValueError(f"{where}: source_kind is {values['source_kind']!r}; expected {' or '.join(KINDS)}")
    if not SYMBOL.fullmatch(values["gene"]):
        raise ValueError(f"{where}: gene is {values['gene']!r}; expected a gene symbol")
    try:
        weight = float(values["weight"])
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight) or weight == 0:
        raise ValueError(f"{where}: weight is {values['weight']!r}; expected a number that is not 0, such as 1 or -1")
    return {**values, "weight": weight}


def checked_path(path: str, *, option: str = "differential.gene_sets") -> list[str]:
    """The user's file as input of a rule, none where none is named; a faulty one is an error before any job."""
    if path:
        read_gene_sets(path, option=option)
    return [path] if path else []
