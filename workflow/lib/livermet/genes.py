"""Genomic positions of genes, for copy-number inference and for the simulator."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import h5py
import pandas as pd


def gene_positions() -> pd.DataFrame:
    """Positions (hg19) of the 9,450 genes in the example data set that infercnvpy carries (Tirosh et al. 2016).

    Returns
    -------
    DataFrame indexed by gene symbol in genomic order, with columns ``chromosome`` ("chr1" to "chrY"), ``start`` and
    ``end`` (base pairs).
    """
    # Found without importing infercnvpy, which would cost two seconds of scanpy; read without anndata, which warns of
    # the file's old encoding (categories beside the codes).
    package = Path(find_spec("infercnvpy").submodule_search_locations[0])
    with h5py.File(package / "datasets" / "data" / "oligodendroglioma.h5ad") as file:
        var = file["var"]
        names = var["__categories"]["chromosome"].asstr()[:]
        columns = {"chromosome": names[var["chromosome"][:]], "start": var["start"][:], "end": var["end"][:]}
        return pd.DataFrame(columns, index=pd.Index(var["gene_symbol"].asstr()[:], name="gene_symbol"))
