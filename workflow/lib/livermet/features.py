"""Features of patients: from cells, spots, interactions and blood to one long table, the patient being the unit.

Counts of one patient at one timepoint, in one tissue and with one modality are summed over libraries before fractions
are taken, so that lesions and libraries are never replicates, and modalities are never pooled. Each builder returns two
tables: the features (``FEATURE_COLUMNS``) and what was left out (``LEFT_OUT_COLUMNS``), with the reason.

Families:

- ``composition_compartment``, ``composition_type``: of all captured cells; ``unknown`` and doubtful labels are parts of
  their own
- ``composition_within_<compartment>``: types among the cells of one compartment
- ``malignant_state``: ``score_<state>`` is the mean score, ``fraction_<state>`` the share of malignant cells whose best
  state it is; ``fraction_basal`` and ``fraction_intermediate`` are shares of those with a subtype; ``purist_logit``
- ``niche``: share of spots
- ``zone``: log2 ratio of a type's abundance, margin to core
- ``interaction``: strength of ``sender|receiver|ligand|receptor``
- ``blood``: value before treatment, at the re-evaluation, before and after surgery; indices of values drawn together
- ``activity``: of ``type|set``, against the same type in the other patients

Cells of blood (tissue ``blood_pbmc``) are a modality of their own, ``pbmc``: they are never pooled with those of
tissue, and compared whatever tissue the config chooses.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from livermet import keys
from livermet.blood import WINDOWS, linear_analytes, measures
from livermet.course import patient_course
from livermet.refusals import refuse_no_border
from livermet.units import canonical_unit

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

STRATUM = [keys.PATIENT, keys.TIMEPOINT, keys.TISSUE, keys.MODALITY]
FEATURE_COLUMNS = [*STRATUM, "family", "feature", "value", "unit", "n_cells", "source"]
LEFT_OUT_COLUMNS = [*STRATUM, "family", "feature", "reason"]
WITHIN = "composition_within_"
BLOOD = "blood"
PBMC = "pbmc"
PBMC_TISSUE = "blood_pbmc"
BLOOD_MODALITIES = (BLOOD, PBMC)
ACTIVITY = "activity"
ZONE_PSEUDOCOUNT = 0.5  # spots

Tables = tuple[pd.DataFrame, pd.DataFrame]


def combine(parts: Iterable[Tables]) -> Tables:
    """One table of all features and one of all that was left out, each in a fixed order.

    Raises
    ------
    ValueError
        When a feature of a patient stands twice: a patient would count as two.
    """
    parts = list(parts)
    features = pd.concat([_typed(part[0]) for part in parts], ignore_index=True)
    left_out = pd.concat([part[1].reindex(columns=LEFT_OUT_COLUMNS) for part in parts], ignore_index=True)
    identity = [*STRATUM, "family", "feature"]
    twice = features.duplicated(identity)
    if twice.any():
        first = ", ".join(features.loc[twice, identity].iloc[0])
        raise ValueError(f"features: {first}: stands twice; expected one value per patient and feature")
    logger.info("%d feature values of %d patients", len(features), features[keys.PATIENT].nunique())
    for reason, n in left_out["reason"].value_counts().items():
        logger.info("left out: %d x %s", n, reason)
    return features.sort_values(identity, ignore_index=True), left_out.sort_values(identity, ignore_index=True)


def with_library_fields(table: pd.DataFrame, libraries: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """A table with ``library_id``, completed by patient, timepoint, tissue and modality of each library."""
    fields = pd.DataFrame([dict(row) for row in libraries], columns=[keys.LIBRARY, *STRATUM], dtype=object)
    kept = [column for column in table.columns if column not in STRATUM]
    table = table[kept].astype({keys.LIBRARY: object})
    return table.merge(fields, on=keys.LIBRARY, how="inner", validate="many_to_one")


def with_blood_apart(table: pd.DataFrame) -> pd.DataFrame:
    """A table of strata in which cells of blood have the modality ``pbmc``."""
    tissue, modality = table[keys.TISSUE].astype(str), table[keys.MODALITY].astype(str)
    return table.assign(**{keys.MODALITY: modality.mask(tissue == PBMC_TISSUE, PBMC)})


def section_spots(section: AnnData) -> pd.DataFrame:
    """Spots of one section with library_id, zone, and a column of abundance fractions per type."""
    types = [str(name) for name in section.uns[keys.ABUNDANCE_TYPES]]
    abundance = pd.DataFrame(np.asarray(section.obsm[keys.ABUNDANCE], float), index=section.obs_names, columns=types)
    return section.obs[[keys.LIBRARY, keys.ZONE]].astype(str).join(abundance).reset_index(drop=True)


def stack_sections(sections: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Spots of all sections; a type that one section's reference lacked has abundance 0 there."""
    empty = pd.DataFrame({keys.LIBRARY: [], keys.ZONE: []}, dtype=object)
    return pd.concat([table for table in sections if len(table)] or [empty], ignore_index=True).fillna(0.0)


def composition_features(obs: pd.DataFrame) -> Tables:
    """Shares of compartments, of types, and of types within their compartment, among the captured cells.

    Parameters
    ----------
    obs
        One row per kept cell, with patient, timepoint, tissue, modality, compartment and cell_type.

    Returns
    -------
    Features and left-out rows. Every type seen anywhere in the scope's tissue (or in its blood, which stands apart) has
    a value, 0 included, for each patient; within a compartment this holds for patients with at least one cell of it,
    the others being left out.
    """
    obs = with_blood_apart(_text(obs, [*STRATUM, keys.COMPARTMENT, keys.CELL_TYPE]))
    in_blood = obs[keys.MODALITY] == PBMC
    groups = [obs[~in_blood], obs[in_blood]] if in_blood.any() else [obs]
    return combine([_composition(group) for group in groups])


def _composition(obs: pd.DataFrame) -> Tables:
    source = "cells.h5ad"
    parts = [
        _fractions(_count(obs, keys.COMPARTMENT), family="composition_compartment", source=source),
        _fractions(_count(obs, keys.CELL_TYPE), family="composition_type", source=source),
    ]
    everyone = _count(obs, keys.COMPARTMENT).index
    for compartment, cells in obs.groupby(keys.COMPARTMENT, sort=True):
        if compartment == keys.UNKNOWN or cells[keys.CELL_TYPE].nunique() < 2:
            continue
        counts = _count(cells, keys.CELL_TYPE).reindex(everyone, fill_value=0)
        parts.append(_fractions(counts, family=f"{WITHIN}{compartment}", source=source))
    return combine(parts)


def malignant_state_features(table: pd.DataFrame) -> Tables:
    """Scores, shares and PurIST of a patient's malignant cells.

    A state that was scored in no patient is no feature; any other missing value is left out with its reason.

    Parameters
    ----------
    table
        ``malignant.tsv`` (:func:`livermet.malignant.summarise_malignant`).
    """
    family, source = "malignant_state", "malignant.tsv"
    table = with_blood_apart(_text(table, STRATUM))
    # Few cells of blood are tumour; where some are called so, they are no sample of the metastasis.
    in_blood = table[keys.TISSUE] == PBMC_TISSUE
    table = table.assign(
        n_subtyped=table["n_subtyped"].mask(in_blood),
        reason=table["reason"].mask(in_blood, "no states are stated of malignant cells in blood"),
    ).set_index(STRATUM)
    # Shares of the subtypes sum to one: the third says nothing that the other two don't.
    shares = [name for name in table if name.startswith("fraction_") and not name.endswith(("_low", "_high"))]
    shares = [name for name in shares if name != "fraction_classical" and table[name].notna().any()]
    scores = [name for name in table if name.startswith("score_") and table[name].notna().any()]
    units = {"score": scores, "fraction": shares, "logit": ["purist_logit"]}
    enough = table["n_subtyped"].notna()
    left_out = [_left_out(stratum, family, reason) for stratum, reason in table.loc[~enough, "reason"].items()]
    features = []
    for unit, names in units.items():
        values = _long(table.loc[enough, names], table["n_malignant"], family=family, unit=unit, source=source)
        features.append(values.dropna(subset="value"))
        for *stratum, name in values.loc[values["value"].isna(), [*STRATUM, "feature"]].itertuples(index=False):
            why = table.loc[tuple(stratum), "purist_reason"] if unit == "logit" else "no malignant cell with a subtype"
            left_out.append([*stratum, family, name, why])
    return pd.concat(features, ignore_index=True), pd.DataFrame(left_out, columns=LEFT_OUT_COLUMNS)


def niche_features(spots: pd.DataFrame) -> Tables:
    """Share of a patient's spots in each niche, over all sections of one timepoint, tissue and modality.

    Parameters
    ----------
    spots
        One row per spot: patient, timepoint, tissue, modality, niche.
    """
    spots = _text(spots, [*STRATUM, keys.NICHE])
    return _fractions(_count(spots, keys.NICHE), family="niche", source="niche_labels.parquet")


def zone_features(spots: pd.DataFrame, *, min_spots: int, min_cells: int) -> Tables:
    """Log2 ratio of each type's mean abundance in the margin to that in the core of the tumour.

    Abundances are summed over the patient's sections that have enough spots in both zones, and half a spot, spread
    evenly over the types, is added to each zone, so that an absent type has a finite ratio.

    Parameters
    ----------
    spots
        One row per spot: library_id, patient, timepoint, tissue, modality, zone, and one column of abundance fractions
        per type.
    min_spots, min_cells
        A section with fewer spots, or fewer cells or bins, in margin or core is left out.
    """
    family = "zone"
    types = [name for name in spots.columns if name not in (keys.LIBRARY, keys.ZONE, *STRATUM)]
    spots = _text(spots, [*STRATUM, keys.LIBRARY, keys.ZONE])
    rows, left_out = [], []
    for stratum, group in spots.groupby(STRATUM, sort=True):
        sizes = pd.crosstab(group[keys.LIBRARY], group[keys.ZONE])
        borderless = {
            library: reason
            for library, zones in group.groupby(keys.LIBRARY)[keys.ZONE]
            if (reason := refuse_no_border(zones))
        }
        left_out += [
            _left_out(stratum, family, f"section {library}, R13: {reason}") for library, reason in borderless.items()
        ]
        sizes = sizes.drop(index=list(borderless))
        sizes = sizes.reindex(columns=["margin", "core"], fill_value=0)
        of_spots = stratum[STRATUM.index(keys.MODALITY)] == "visium"
        least, unit = (min_spots, "spots") if of_spots else (min_cells, "cells or bins")
        usable = sizes.index[(sizes >= least).all(axis=1)]
        left_out += [
            _left_out(stratum, family, f"section {library}: fewer than {least} {unit} in margin or core")
            for library in sizes.index.difference(usable)
        ]
        if usable.empty:
            continue
        group = group[group[keys.LIBRARY].isin(usable)]
        zones = {zone: group.loc[group[keys.ZONE] == zone, types] for zone in ("margin", "core")}
        logs = {
            zone: np.log2((table.sum() + ZONE_PSEUDOCOUNT / len(types)) / (len(table) + ZONE_PSEUDOCOUNT))
            for zone, table in zones.items()
        }
        ratio = (logs["margin"] - logs["core"]).to_frame().T
        ratio.index = pd.MultiIndex.from_tuples([stratum], names=STRATUM)
        n_spots = pd.Series(sum(len(table) for table in zones.values()), index=ratio.index)
        rows.append(_long(ratio, n_spots, family=family, unit="log2_ratio", source="zones.h5ad"))
    features = pd.concat([_empty_features(), *rows], ignore_index=True)
    return features, pd.DataFrame(left_out, columns=LEFT_OUT_COLUMNS)


def interaction_features(interactions: pd.DataFrame) -> Tables:
    """Strength of each ligand-receptor interaction per patient.

    A pair that was looked for among enough cells and not detected has strength 0: leaving it out would drop just those
    patients in whom it is absent. Pairs with too few cells, whose genes were not measured, or that ambient RNA explains
    are left out, and so are those among cells of blood, which have no neighbours.

    Parameters
    ----------
    interactions
        ``interactions.tsv``.
    """
    names = interactions[["sender", "receiver", "ligand", "receptor"]].astype(str)
    in_blood = interactions[keys.TISSUE].astype(str) == PBMC_TISSUE
    known = interactions["status"].isin(["scored", "not_detected"]) & ~in_blood
    table = with_blood_apart(interactions[STRATUM]).assign(
        family="interaction",
        feature=names["sender"] + "|" + names["receiver"] + "|" + names["ligand"] + "|" + names["receptor"],
        value=interactions["magnitude"].where(interactions["status"] == "scored", 0.0),
        unit="magnitude",
        n_cells=interactions[["n_sender", "n_receiver"]].min(axis=1),
        source="interactions.tsv",
        reason=interactions["status"]
        .map(
            {
                "too_few_cells": "too few cells",
                "not_in_resource": "not in the resource",
                "ambient": "may be ambient RNA",
            }
        )
        .mask(in_blood, "cells of blood have no neighbours"),
    )
    return _typed(table[known]), table.loc[~known, LEFT_OUT_COLUMNS]


def activity_features(activity: pd.DataFrame, cells: pd.DataFrame) -> Tables:
    """Activity of each gene set in each cell type of a patient.

    A set is measured in all profiles of a type or in none, since its genes are chosen over all of them. The activity is
    relative to the same type in the other patients at the same timepoint, in the same tissue and modality: it compares
    patients and says nothing of changes.

    Parameters
    ----------
    activity
        ``activity.tsv`` (:func:`livermet.activity.profile_activity`), which knows no label.
    cells
        One row per kept cell: patient, timepoint, tissue, modality, cell_type.

    Returns
    -------
    Features ``type|set`` with the number of cells of the profile, and left-out rows: a type that has a single profile,
    or a set too few of whose genes were measured there.
    """
    profile = [*STRATUM, keys.CELL_TYPE]
    n_cells = with_blood_apart(_text(cells, profile)).groupby(profile).size().rename("n_cells").reset_index()
    table = with_blood_apart(_text(activity, profile)).merge(n_cells, on=profile, how="left", validate="many_to_one")
    table = table.assign(
        family=ACTIVITY,
        feature=table[keys.CELL_TYPE] + "|" + table["set"],
        value=table["activity"].astype(float),
        unit="t",
        n_cells=table["n_cells"].fillna(0),
        source="activity.tsv",
        reason="one profile of the type, or too few genes of the set",
    )
    known = table["value"].notna()
    return _typed(table[known]), table.loc[~known, LEFT_OUT_COLUMNS]


def blood_features(
    blood: pd.DataFrame,
    treatment: pd.DataFrame,
    local_treatment: pd.DataFrame,
    *,
    windows: Mapping[str, Sequence[int]],
) -> Tables:
    """Blood values and indices of each patient by timepoint, as :func:`livermet.blood.measures` takes them.

    Without a row in the treatment table, days count from enrolment; courses of earlier disease don't count.

    Parameters
    ----------
    blood, treatment, local_treatment
        The study tables.
    windows
        The trial's, by name as in ``livermet.blood.WINDOWS``; those that it doesn't give are taken from there.
    """
    blood = blood.assign(value=pd.to_numeric(blood["value"]))
    units = blood.groupby("analyte")["unit"].nunique()
    mixed = [str(name) for name in units.index[units > 1] if canonical_unit(name) is None]
    scale = {"mixed": mixed, "linear": linear_analytes(blood["analyte"], blood["value"])}
    rows, left_out = [], []
    treated, operated = _records(treatment), _records(local_treatment)
    for patient, draws in _records(blood).items():
        course = patient_course(treated.get(patient, []), operated.get(patient, []))
        surgery = None if course.surgery is None else course.surgery["day"]
        found = measures(draws, start=course.start or 0, surgery=surgery, windows={**WINDOWS, **windows}, **scale)
        for measure in found:
            stratum = [patient, measure.timepoint, BLOOD, BLOOD]
            if measure.reason:
                left_out.append([*stratum, BLOOD, measure.feature, measure.reason])
            else:
                rows.append([*stratum, BLOOD, measure.feature, measure.value, measure.unit, 0, "blood.tsv"])
    return _typed(pd.DataFrame(rows, columns=FEATURE_COLUMNS)), pd.DataFrame(left_out, columns=LEFT_OUT_COLUMNS)


def _records(table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Rows of each patient in the order of the table, with None where a value is missing."""
    plain = table.astype(object).where(table.notna(), None)
    return {str(patient): rows.to_dict("records") for patient, rows in plain.groupby(keys.PATIENT, sort=True)}


def _text(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The columns as plain text: categories would add empty groups of labels that the scope doesn't hold."""
    return table.astype(dict.fromkeys(columns, str))


def _count(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows per stratum and value of a column, with explicit zeros."""
    if table.empty:
        return pd.DataFrame(index=pd.MultiIndex.from_arrays([[]] * len(STRATUM), names=STRATUM))
    return pd.crosstab([table[name] for name in STRATUM], table[column])


def _fractions(counts: pd.DataFrame, *, family: str, source: str) -> Tables:
    totals = counts.sum(axis=1)
    some = totals[totals > 0]
    left_out = [_left_out(stratum, family, "no cells") for stratum in totals.index.difference(some.index)]
    shares = counts.loc[some.index].div(some, axis=0)
    features = _long(shares, some, family=family, unit="fraction", source=source)
    return features, pd.DataFrame(left_out, columns=LEFT_OUT_COLUMNS)


def _long(values: pd.DataFrame, n_cells: pd.Series, *, family: str, unit: str, source: str) -> pd.DataFrame:
    """Strata x features to one row per value."""
    if values.empty:
        return _empty_features()
    table = values.melt(var_name="feature", ignore_index=False).reset_index()
    table["n_cells"] = n_cells.loc[pd.MultiIndex.from_frame(table[STRATUM])].to_numpy()
    return _typed(table.assign(family=family, unit=unit, source=source))


def _left_out(stratum: tuple[str, ...], family: str, reason: str) -> list[str]:
    """A row for a whole family of a stratum, hence without a feature's name."""
    return [*stratum, family, "", reason]


def _empty_features() -> pd.DataFrame:
    return _typed(pd.DataFrame(columns=FEATURE_COLUMNS))


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    text = {column: object for column in FEATURE_COLUMNS if column not in ("value", "n_cells")}
    return table[FEATURE_COLUMNS].astype({**text, "value": float, "n_cells": "int64"}).reset_index(drop=True)
