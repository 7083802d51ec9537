"""A mapped section: what the steps of the scope take from it, and its labels for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from livermet import keys

if TYPE_CHECKING:
    from anndata import AnnData

NO_NICHE = "none"


@dataclass(frozen=True)
class Section:
    """One section: its identity, and per spot the position (um), abundances, neighbours, distance and tumour mask.

    ``resolution`` is "spot", "bin" or "cell"; ``cell_type`` holds the label of each cell of a section that resolves
    single cells, and is None elsewhere.
    """

    library_id: str
    patient_id: str
    timepoint: str
    tissue: str
    barcodes: np.ndarray
    coordinates: np.ndarray
    abundance: pd.DataFrame
    graph: sp.csr_matrix
    distance: np.ndarray
    tumour: np.ndarray
    zone: np.ndarray
    resolution: str = "spot"
    cell_type: np.ndarray | None = None


def section_of(mapped: AnnData, *, row: dict[str, str]) -> Section:
    """A :class:`Section` from what ``zones.map_section`` left.

    row: library_id, patient_id, timepoint and tissue of the section.
    """
    types = [str(name) for name in mapped.uns[keys.ABUNDANCE_TYPES]]
    resolution = str(mapped.uns[keys.META].get(keys.RESOLUTION, "spot"))
    return Section(
        library_id=row[keys.LIBRARY],
        patient_id=row[keys.PATIENT],
        timepoint=row[keys.TIMEPOINT],
        tissue=row[keys.TISSUE],
        barcodes=np.asarray(mapped.obs_names, dtype=object),
        coordinates=np.asarray(mapped.obsm[keys.SPATIAL], dtype=np.float64),
        abundance=pd.DataFrame(np.asarray(mapped.obsm[keys.ABUNDANCE], dtype=np.float64), columns=types),
        graph=sp.csr_matrix(mapped.obsp[keys.SPATIAL_GRAPH]),
        distance=mapped.obs[keys.SIGNED_DISTANCE].to_numpy(dtype=np.float64),
        tumour=mapped.obs[keys.TUMOUR].to_numpy(dtype=bool),
        zone=mapped.obs[keys.ZONE].astype(str).to_numpy(dtype=object),
        resolution=resolution,
        cell_type=mapped.obs[keys.CELL_TYPE].astype(str).to_numpy(dtype=object) if resolution == "cell" else None,
    )


def scope_section(section: AnnData, *, status: Mapping[str, str]) -> AnnData:
    """A section as its scope uses it: without spots, and with the reason, where the scope leaves it out.

    status: status and reason of the library in ``status.tsv``.
    """
    if status["status"] == "ok":
        return section
    result = section[:0].copy()
    result.uns[keys.META] = {**result.uns[keys.META], "reason": status["reason"]}
    return result


def label_section(section: AnnData, labels: pd.DataFrame) -> AnnData:
    """A copy of a mapped section with the niche of each spot in obs; "none" where a spot has no niche."""
    result = section.copy()
    niche = labels.set_index("barcode")["niche"].reindex(result.obs_names).fillna(NO_NICHE)
    result.obs[keys.NICHE] = pd.Categorical(niche.to_numpy(dtype=object))
    return result
