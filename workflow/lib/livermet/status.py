"""What quality control says of a library: the words for removed barcodes, and the table of a scope.

Apart from the analysis itself, so that tables and figures of it need not load the packages that it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def status_table(statuses: list[Mapping[str, Any]], rows: list[Mapping[str, Any]]) -> pd.DataFrame:
    """One line per library of a scope: what became of it and why.

    Parameters
    ----------
    statuses
        Contents of each library's ``status.json``.
    rows
        The libraries of the scope as the study tables have them; their order is kept.

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
    return pd.DataFrame(
        [[*(row[n] for n in from_study), *(found[row[keys.LIBRARY]][n] for n in from_status)] for row in rows],
        columns=[*from_study, *from_status],
    )
