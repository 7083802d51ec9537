"""What quality control says of a library: the words for removed barcodes, and the table of a scope.

Apart from the analysis itself, so that tables and figures of it need not load the packages that it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from livermet import keys

LOW_COUNTS = "low_counts"
LOW_GENES = "low_genes"
HIGH_MITO = "high_mito"
OUTLIER_COUNTS = "outlier_counts"
DOUBLET = "doublet"
# In this order: a barcode carries the first that holds.
REASONS = (LOW_COUNTS, LOW_GENES, HIGH_MITO, OUTLIER_COUNTS, DOUBLET)
# Of a barcode that passed, in a library that is left out as a whole.
EXCLUDED = "library_excluded"


def unlike_genes(genes: Mapping[str, np.ndarray], *, min_shared: float) -> dict[str, str]:
    """Libraries that can't be pooled with the others, since they hold too few of the genes of most libraries.

    Pooled, a list of two thousand variable genes would cut the whole cohort down to it.

    Parameters
    ----------
    genes
        Gene names of each library with cells.
    min_shared
        Share (0 to 1) of the genes of at least half of the libraries that a library needs.

    Returns
    -------
    The reason by library.
    """
    if not genes:
        return {}
    times = pd.concat([pd.Series(1, index=names) for names in genes.values()]).groupby(level=0).sum()
    usual = times.index[times >= len(genes) / 2]
    shared = {library: int(usual.isin(names).sum()) for library, names in genes.items()}
    return {
        library: f"{n} of the {len(usual)} genes of most libraries are among its {len(genes[library])}, at least "
        f"{min_shared:.0%} are needed: give all libraries all genes under the same names (symbols, one species), or "
        "lower integrate: min_genes_shared"
        for library, n in shared.items()
        if n < min_shared * len(usual)
    }


def status_table(
    statuses: list[Mapping[str, Any]], rows: list[Mapping[str, Any]], *, left_out: Mapping[str, str]
) -> pd.DataFrame:
    """One line per library of a scope: what became of it and why.

    Parameters
    ----------
    statuses
        Contents of each library's ``status.json``.
    rows
        The libraries of the scope as the study tables have them; their order is kept.
    left_out
        Libraries that passed by themselves and are left out beside the others of the scope, with the reason; they count
        as excluded.

    Raises
    ------
    ValueError
        A library of the scope has no status: it would be lost without a line saying so.
    """
    found = {status["library_id"]: status for status in statuses}
    missing = [row[keys.LIBRARY] for row in rows if row[keys.LIBRARY] not in found]
    if missing:
        raise ValueError(f"status.json missing for {', '.join(missing)}; run the rule qc_library for them")
    from_study = ("library_id", "patient_id", "sample_id", "modality", "batch")
    from_status = ("status", "reason", "n_in", "n_out")
    table = pd.DataFrame(
        [[*(row[n] for n in from_study), *(found[row[keys.LIBRARY]][n] for n in from_status)] for row in rows],
        columns=[*from_study, *from_status],
    )
    excluded = table[keys.LIBRARY].isin(list(left_out))
    table["status"] = table["status"].mask(excluded, "excluded")
    table["reason"] = table["reason"].mask(excluded, table[keys.LIBRARY].map(left_out))
    return table


def scope_statuses(statuses: list[Mapping[str, Any]], table: pd.DataFrame) -> list[dict[str, Any]]:
    """Each library's ``status.json`` with what became of it in the scope.

    Parameters
    ----------
    statuses
        Contents of ``status.json``.
    table
        ``status.tsv`` of the scope, as read.
    """
    decided = table.set_index(keys.LIBRARY)[["status", "reason"]].fillna("").to_dict(orient="index")
    return [{**status, **decided[status[keys.LIBRARY]]} for status in statuses]
