"""What the spots, bins or cells of a section hold, by the method that their resolution asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from livermet import keys
from livermet.deconvolve import abundance_table, abundances
from livermet.markers import compartment_of, load_markers
from livermet.panel import add_labels, label_cells, probability_table


@dataclass(frozen=True)
class Contents:
    """``fractions``: observations x ``types``, rows sum to 1 or are NaN; ``table``: the same, long, with intervals;
    ``reason``: "" or why there are none.
    """

    types: tuple[str, ...]
    fractions: np.ndarray
    table: pd.DataFrame
    reason: str


def section_contents(
    section: AnnData,
    profiles: AnnData,
    *,
    n_genes_per_type: int,
    n_bootstrap: int,
    min_label_confidence: float,
    deconvolution: str,
    cell2location: Mapping[str, float],
    seed: int,
) -> Contents:
    """Fractions of cell types in each spot or bin, or the type of each segmented cell, which goes into obs as well.

    Spots are taken apart with weights of their own, or by cell2location where ``deconvolution`` asks for it, the many
    bins of Visium HD with weights common to the section (:func:`livermet.deconvolve.abundances`); segmented cells get
    labels (:func:`livermet.panel.label_cells`), and their fractions are the probabilities of the types.

    Parameters
    ----------
    section
        Kept observations; ``uns["livermet"]["resolution"]`` says what they are.
    profiles
        One profile per type (:func:`livermet.deconvolve.profiles_of_patient`).
    n_genes_per_type, n_bootstrap, seed
        Of the abundances.
    min_label_confidence
        Probability (0 to 1) that a stated label needs.
    cell2location
        Options of :func:`livermet.by_cell2location.cell2location_abundances`.
    """
    resolution = section.uns[keys.META].get(keys.RESOLUTION, "spot")
    if resolution == "cell":
        labels = label_cells(
            section.X,
            section.var_names,
            profiles,
            compartments=compartment_of(),
            min_confidence=min_label_confidence,
        )
        add_labels(section, labels)
        table = probability_table(labels, section.obs_names)
        return Contents(labels.types, labels.probabilities, table, labels.reason)
    common = {"markers": load_markers()["genes"].to_dict(), "n_genes_per_type": n_genes_per_type, "seed": seed}
    if deconvolution == "cell2location" and resolution == "spot":
        # Here, since few studies ask for it.
        from livermet.by_cell2location import cell2location_abundances

        found = cell2location_abundances(section.X, section.var_names, profiles, **common, **cell2location)
    else:
        found = abundances(
            section.X,
            section.var_names,
            profiles,
            **common,
            n_bootstrap=n_bootstrap,
            common_weights=resolution == "bin",
        )
    return Contents(found.types, found.fractions, abundance_table(found, section.obs_names), found.reason)
