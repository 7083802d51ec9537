"""Prediction of a binary label: whether declared features of tissue say more of response than what the clinic knows.

Three models are compared on the same patients: a clinical baseline, the declared features, and both. Each is a ridge
logistic regression, and everything that is learnt is learnt inside the fold (:mod:`livermet.nested`). Nothing is fitted
and judged on the same patients, and no cut-point is chosen. A model of so few patients describes how well such features
could predict; it is no tool for a patient.

Codes of its own, beside those of :mod:`livermet.refusals`: ``P01`` the label has no two classes, ``P02`` no feature was
declared, ``P03`` one centre only.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from livermet import keys, nested, refusals, statistics
from livermet.compared import (
    FAMILY,
    FEATURE,
    MAX_SHARE_OF_ZEROS,
    PSEUDOCOUNT,
    Label,
    analysis_set,
    design_of,
    is_compositional,
    read_label,
)
from livermet.features import BLOOD
from livermet.nested import Candidates, Composition
from livermet.refusals import BEFORE_TREATMENT, MAX_DECLARED
from livermet.validation import (
    BOTH,
    CLINICAL,
    MODELS,
    NESTED,
    PREDICTOR_COLUMNS,
    TISSUE,
    TRANSPORT,
    Cohort,
    Inputs,
    Predictors,
    Refusal,
    class_counts,
    evaluate,
)

logger = logging.getLogger(__name__)

# Of the study table and of the blood before treatment (both stand there as log2 already).
CLINICAL_PATIENT = ("n_liver_mets", "synchronous", "ecog")
CLINICAL_BLOOD = ("ca199", "nlr")
MIN_CLASS = 10  # patients of the smaller class below which there is no predictor
MIN_MEASURED = 0.5  # share of the declared features that a patient needs
INTEGERS = ["n", "n_ref", "n_alt", "n_missing"]
TEXT = ["label", "model", "validation", "centre", "features", "p_method", "status", "refusal_code", "refusal_reason"]


def predict_response(
    features: pd.DataFrame,
    labels: pd.DataFrame,
    patients: pd.DataFrame,
    design: pd.DataFrame,
    *,
    response: Mapping[str, Any],
    prediction: Mapping[str, Any],
    goes_with: Sequence[str],
    scope: str,
    seed: int,
    earlier_looks: int = 0,
) -> Predictors:
    """Models of the primary label from clinical variables, declared features and both, or in words why there is none.

    Unit: the patient. Outer validation: stratified folds, repeated, one row per patient. AUC: among pairs of patients
    of the same fold (:func:`livermet.nested.concordance`), with the interval of Newcombe 2006 inflated by the spread of
    the permutations; the gain has the corrected resampled t (:func:`livermet.nested.corrected_interval`). p: labels are
    handed out again within centre, the whole nested procedure being repeated each time; one-sided, the observed labels
    counted (Phipson and Smyth 2010). Hypothesis: within a centre, the candidates don't go with the label. ``delta_p``:
    the declared features are handed out again between patients of a centre while label and clinical variables stay
    together. Hypothesis: within a centre, the declared features go neither with the label nor with the clinical
    variables. Both compare with the observed value over the same few repeats (``null_repeats``). p are not corrected
    over the three models. Transport: each centre is predicted by a model of all the others, and pairs of one centre are
    compared, with Newcombe's interval for these very models. Not for repeated measurements of a patient, nor for labels
    that are known for a selection of patients only.

    Parameters
    ----------
    features
        The long feature table.
    labels
        Derived labels.
    patients
        The study table; of these centre, n_liver_mets, met_timing and ecog where they are.
    design
        As made by :func:`livermet.compared.patient_design`.
    response, prediction
        Sections of the config. Candidates are the confirmatory features and ``prediction["features"]``.
    goes_with
        Timepoints of the tissue that the primary label may be compared in.
    scope
        Only the cohort is tested.
    seed
        Seed of folds, permutations and draws.
    earlier_looks
        Looks at other states of the unblinded data that the ledger of looks holds.

    Raises
    ------
    ValueError
        R16: where a patient would stand in more than one fold.
    """
    label = read_label(labels, response["primary_label"])
    clinical = clinical_baseline(features, patients)
    declared = _declared(response, prediction)
    table = analysis_set(features, config=response)
    table = table[pd.MultiIndex.from_frame(table[FAMILY]).isin({name[:2] for name in declared})]
    wide, refusal = _declared_values(table, declared)
    measured = (wide if not refusal else clinical).notna()
    known = measured.index[measured.mean(axis=1) >= MIN_MEASURED] if measured.shape[1] else measured.index[:0]
    ids = np.array(sorted(set(known) & set(label.numbers.index)), dtype=object)
    cohort = _cohort(ids, label, patients, prediction=prediction, seed=seed)
    look = refusals.refuse_uncounted(
        scope=scope, look=response["look"], planned_looks=response["planned_looks"], earlier_looks=earlier_looks
    )
    everywhere = ("R19", look) if look else _refuse_all(label, cohort, response=response, goes_with=goes_with)
    refused = {CLINICAL: everywhere, TISSUE: everywhere or refusal, BOTH: everywhere or refusal}
    inputs: dict[str, Inputs] = {}
    if not everywhere:
        inputs[CLINICAL] = _clinical_inputs(clinical.reindex(ids))
        if not inputs[CLINICAL].names:
            refused[CLINICAL] = "F02", f"no patient has {', '.join([*CLINICAL_BLOOD, *CLINICAL_PATIENT])}"
    if not refused[TISSUE]:
        inputs[TISSUE] = _tissue_inputs(table, wide, ids, config=response)
        refused[TISSUE] = _refuse_factors(cohort, design, {name[0] for name in wide})
    if inputs and not (refused[CLINICAL] or refused[TISSUE]):
        inputs[BOTH] = _both(inputs[CLINICAL], inputs[TISSUE])
    refused[BOTH] = refused[TISSUE] or refused[CLINICAL]
    found = {name: inputs[name] for name in MODELS if not refused[name]}
    n_missing = len(label.numbers) - len(ids)
    result = evaluate(found, cohort, n_missing=n_missing)
    return _finish(result, refused, label, cohort, n_missing=n_missing, scope=scope)


def clinical_baseline(features: pd.DataFrame, patients: pd.DataFrame) -> pd.DataFrame:
    """What the clinic knows before treatment, patients x variables; NaN where unknown, and no variable that nobody has.

    Number of liver metastases, synchronous (1) or metachronous (0), ECOG status; CA19-9 and the ratio of neutrophils
    to lymphocytes before treatment, both log2 as in the feature table.
    """
    here = patients.drop_duplicates(keys.PATIENT).set_index(keys.PATIENT)
    table = pd.DataFrame(index=pd.Index(here.index, name=keys.PATIENT))
    for name in ("n_liver_mets", "ecog"):
        if name in here:
            table[name] = pd.to_numeric(here[name], errors="coerce").astype(float)
    if "met_timing" in here:
        table["synchronous"] = here["met_timing"].map({"synchronous": 1.0, "metachronous": 0.0}).astype(float)
    blood = features[(features[keys.MODALITY] == BLOOD) & (features[keys.TIMEPOINT] == BEFORE_TREATMENT)]
    blood = blood[(blood["family"] == BLOOD) & blood["feature"].isin(CLINICAL_BLOOD)]
    _refuse_repeated(blood)
    values = blood.pivot_table(index=keys.PATIENT, columns="feature", values="value").reindex(table.index)
    table = table.join(values)
    return table.loc[:, table.notna().any()].sort_index(axis=1).sort_index()


def _declared(response: Mapping[str, Any], prediction: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Declared candidates in a fixed order, without those that the clinical baseline holds already."""
    names = {tuple(item[name] for name in FEATURE) for item in (*response["confirmatory"], *prediction["features"])}
    return sorted(names - {(BLOOD, BLOOD, name) for name in CLINICAL_BLOOD})


def _declared_values(table: pd.DataFrame, declared: Sequence[tuple[str, ...]]) -> tuple[pd.DataFrame, Refusal | None]:
    """Values of the declared features, patients x (modality, family, feature), or why they can't be candidates."""
    empty = pd.DataFrame(index=pd.Index([], dtype=object))
    if not declared:
        reason = (
            "no feature is declared for a predictor. Lifted by confirmatory features under response, or features under "
            "prediction, before unblinding"
        )
        return empty, ("P02", reason)
    if len(declared) > MAX_DECLARED:
        reason = (
            f"{len(declared)} features are declared, where at most {MAX_DECLARED} may be candidates: with more, a "
            f"model of so few patients fits noise. Lifted by declaring fewer"
        )
        return empty, ("R15", reason)
    rows = table[pd.MultiIndex.from_frame(table[FEATURE]).isin(declared)]
    if rows.empty:
        return empty, ("F02", "no patient has a declared feature. Lifted by such data, or by another declaration")
    for source in sorted(set(rows["source"])):
        if made := refusals.refuse_source(source):
            return empty, made
    _refuse_repeated(table)
    wide = rows.pivot_table(index=keys.PATIENT, columns=FEATURE, values="value")
    return wide.sort_index(axis=1).sort_index(), None


def _refuse_repeated(table: pd.DataFrame) -> None:
    twice = table[table.duplicated([keys.PATIENT, *FEATURE])]
    if len(twice):
        first = twice.iloc[0]
        raise ValueError(
            f"R16: feature table: {len(twice)} rows repeat a patient and feature, first {first[keys.PATIENT]}, "
            f"{first['family']}, {first['feature']}; sum over libraries and lesions before"
        )


def _cohort(
    ids: np.ndarray, label: Label, patients: pd.DataFrame, *, prediction: Mapping[str, Any], seed: int
) -> Cohort:
    centre = patients.drop_duplicates(keys.PATIENT).set_index(keys.PATIENT)[keys.CENTRE]
    rng = np.random.default_rng(seed)
    shape = (2, prediction["repeats"], len(ids))
    outer, inner = rng.random(shape)
    return Cohort(
        patients=ids,
        y=label.numbers.reindex(ids).to_numpy(float),
        centre=centre.reindex(ids).fillna("").astype(str).to_numpy(str),
        outer=outer,
        inner=inner,
        n_folds=prediction["folds"],
        null_repeats=min(prediction["null_repeats"], prediction["repeats"]),
        n_permutations=prediction["n_permutations"],
        seed=seed,
    )


def _refuse_all(
    label: Label, cohort: Cohort, *, response: Mapping[str, Any], goes_with: Sequence[str]
) -> Refusal | None:
    """The first reason why no model at all can be made, if any."""
    y, alpha = cohort.y, response["alpha"] / response["planned_looks"]
    first = [
        ("P01", "" if label.binary else _no_classes(label)),
        ("R06", refusals.refuse_undefined(label.name, label.numbers.to_numpy())),
        ("R04", refusals.refuse_mixed(timepoints=response["timepoints"], tissues=response["tissues"])),
        ("R17", refusals.refuse_timepoint(label.name, timepoints=response["timepoints"], goes_with=goes_with)),
    ]
    if not any(reason for _, reason in first):
        n_ref, n_alt = int((y == 0).sum()), int((y == 1).sum())
        small = refusals.refuse_small_arms(n_ref, n_alt, minimum=MIN_CLASS, binary=True)
        first.append(("R01", small and f"no predictor: {small}"))
        if not small:
            first.append(("R05", refusals.refuse_confounded(y, cohort.centre, {})))
            possible = min(cohort.n_permutations + 1, statistics.count_arrangements(y, cohort.centre))
            first.append(("R02", refusals.refuse_unattainable(1 / possible, alpha=alpha)))
    return next(((code, reason) for code, reason in first if reason), None)


def _no_classes(label: Label) -> str:
    return (
        f"label {label.name} is {label.kind}: a predictor is made for a label of two classes, and none is made by "
        f"cutting another one. Lifted by a binary primary_label"
    )


def _refuse_factors(cohort: Cohort, design: pd.DataFrame, modalities: Collection[str]) -> Refusal | None:
    """R05 for batch, chemistry and sampling method of the modalities that candidates come from."""
    for modality in sorted(modalities):
        known = design_of(design, pd.Index(cohort.patients), modality).drop(columns=keys.CENTRE)
        factors = {name: known[name].to_numpy(str) for name in known}
        if reason := refusals.refuse_confounded(cohort.y, cohort.centre, factors):
            return "R05", f"{modality}: {reason}"
    return None


def _clinical_inputs(values: pd.DataFrame) -> Inputs:
    values = values.loc[:, values.notna().mean() >= nested.MIN_KNOWN]
    array = values.to_numpy(float)
    return Inputs((Candidates(array),), tuple(values.columns), _share_missing(np.isnan(array)))


def _tissue_inputs(table: pd.DataFrame, wide: pd.DataFrame, ids: np.ndarray, *, config: Mapping[str, Any]) -> Inputs:
    """Declared features of the patients: parts of compositions with all their sisters, the others as they are."""
    wide = wide.reindex(ids)
    plain = [name for name in wide if not is_compositional(name[1]) and name[0] != BLOOD]
    analytes = [name for name in wide if name[0] == BLOOD]
    compositions = []
    for modality, family in sorted({name[:2] for name in wide if is_compositional(name[1])}):
        rows = table[(table[keys.MODALITY] == modality) & (table["family"] == family)]
        rows = rows.assign(count=(rows["value"] * rows["n_cells"]).round())
        counts = rows.pivot_table(index=keys.PATIENT, columns="feature", values="count").sort_index(axis=1)
        counts = counts.fillna(0.0).reindex(ids)
        chosen = [name[2] for name in wide if name[:2] == (modality, family)]
        compositions.append(
            Composition(
                counts=counts.to_numpy(float),
                candidates=tuple(counts.columns.get_loc(name) for name in chosen),
                min_mean=config["min_mean_cells"],
                max_zeros=config["max_zero_fraction"],
                pseudocount=PSEUDOCOUNT,
            )
        )
    candidates = Candidates(wide[plain].to_numpy(float), MAX_SHARE_OF_ZEROS, tuple(compositions))
    blood = Candidates(wide[analytes].to_numpy(float))
    names = tuple(f"{feature} ({family}, {modality})" for modality, family, feature in wide)
    return Inputs((candidates, blood), names, _share_missing(wide.isna().to_numpy()))


def _both(one: Inputs, two: Inputs) -> Inputs:
    sizes = len(one.names), len(two.names)
    missing = (one.share_missing * sizes[0] + two.share_missing * sizes[1]) / sum(sizes)
    return Inputs(one.parts + two.parts, one.names + two.names, missing)


def _share_missing(missing: np.ndarray) -> float:
    return float(missing.mean()) if missing.size else 0.0


def _finish(
    result: Predictors,
    refused: Mapping[str, Refusal | None],
    label: Label,
    cohort: Cohort,
    *,
    n_missing: int,
    scope: str,
) -> Predictors:
    """Tables with the rows of refused models, in a fixed order and with fixed types."""
    sizes = class_counts(cohort.y) if label.binary else {"n": len(cohort.y), "n_ref": pd.NA, "n_alt": pd.NA}
    rows = [
        {
            **{"model": name, "validation": NESTED, "status": "refused", "n_missing": n_missing},
            **{"refusal_code": reason[0], "refusal_reason": reason[1]},
            **sizes,
        }
        for name, reason in refused.items()
        if reason
    ]
    table = pd.concat([result.predictors.reindex(columns=PREDICTOR_COLUMNS).astype(object), pd.DataFrame(rows)])
    table = table.reindex(columns=PREDICTOR_COLUMNS).assign(label=label.name)
    table[TEXT] = table[TEXT].fillna("")
    numbers = [name for name in PREDICTOR_COLUMNS if name not in (*TEXT, *INTEGERS)]
    table = table.astype({**dict.fromkeys(numbers, float), **dict.fromkeys(INTEGERS, "Int64")})
    order = {name: place for place, name in enumerate((NESTED, TRANSPORT, *MODELS))}
    table = table.sort_values(
        ["validation", "centre", "model"], key=lambda column: column.map(order).fillna(column), ignore_index=True
    )
    logger.info(
        "scope %s, label %s: %d patients (%d without the measurements), %d models, %d refused",
        scope,
        label.name,
        len(cohort.y),
        n_missing,
        len(MODELS) - len(rows),
        len(rows),
    )
    return Predictors(table, result.predictions, result.null)
