"""Blood biomarkers: analytes and indices against the primary label, alone, jointly, beside CA19-9, and against tissue.

The patient is the unit of every test. A row stands for each analyte and measure (baseline, change, slope, nadir), for
each term of the joint model, and for what each analyte adds to the reference; where a number can't stand, a refusal
stands in its place, with the codes of :mod:`livermet.refusals`. All of it is exploratory: q is Benjamini-Hochberg among
the rows of one model that are known at the same time.

What is known when. Only the baseline is known before treatment. Change and nadir are known at the re-evaluation, the
slope at the end of the first course, whose length depends on the response itself: these rows describe what goes along
with response and predict nothing, so joint model and added value take the baseline alone.

Circular comparisons. A label that is made of an analyte (``ca199_*``) can't be set against any measure of that analyte,
its baseline included, which is part of the change (R11).

Sizes. A joint model needs 5 patients of the smaller class per term, below which estimates and intervals are poor even
for association (Vittinghoff and McCulloch 2007, Am J Epidemiol 165:710), and is marked below 10; so many events per
variable are no guarantee (Riley 2019). Added value needs 10 patients in the smaller class, as every predictor.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special
from scipy.stats import rankdata

from livermet import discrimination, firth, keys, refusals, statistics
from livermet.blood_course import BASELINE, KNOWN_AT, MEASURES, TIMEPOINTS
from livermet.catalogue import LABELS
from livermet.compared import Label, analysis_set, filter_features, read_label, tested_values

logger = logging.getLogger(__name__)

COLUMNS = [
    *("label", "analyte", "measure", "known_at", keys.TIMEPOINT, "n", "n_ref", "n_alt", "n_missing"),
    *("auc", "auc_low", "auc_high", "odds_ratio", "or_low", "or_high", "unit", "rho", "rho_low", "rho_high"),
    *("auc_reference", "delta_auc", "events_per_variable", "p", "q", "p_method", "smallest_attainable_p"),
    *("status", "refusal_code", "refusal_reason", "model"),
]
TISSUE_COLUMNS = [
    *("blood", keys.TIMEPOINT, keys.TISSUE, keys.MODALITY, "family", "feature", "n", "rho", "ci_low", "ci_high"),
    *("p", "p_method", "q", "adjusted_for", "smallest_attainable_p", "status", "refusal_code", "refusal_reason"),
]
PAIR_COLUMNS = ["blood", keys.MODALITY, "family", "feature", keys.PATIENT, "blood_value", "tissue_value", "blood_unit"]
TEXT = (
    *("label", "analyte", "measure", "known_at", keys.TIMEPOINT, "unit", "p_method", "status", "refusal_code"),
    *("refusal_reason", "model", "blood", keys.TISSUE, keys.MODALITY, "family", "feature", "adjusted_for"),
)
INTEGERS = ("n", "n_ref", "n_alt", "n_missing")
MODELS = ("univariable", "joint", "added_value")
MAX_TERMS = 3
MIN_PER_TERM = 5  # patients of the smaller class per term of the joint model
BADGE_PER_TERM = 10
MIN_ADDED = 10  # patients of the smaller class, as for every predictor
FOLDS = 5
BADGE_BELOW = 5
BEFORE_TREATMENT = "T0_pre"

Refusal = tuple[str, str]


def compare_biomarkers(
    measured: pd.DataFrame,
    labels: pd.DataFrame,
    patients: pd.DataFrame,
    *,
    response: Mapping[str, Any],
    options: Mapping[str, Any],
    goes_with: Sequence[str],
    scope: str,
    seed: int,
    earlier_looks: int = 0,
) -> pd.DataFrame:
    """Every measure of every analyte against the primary label, the joint model, and what each analyte adds.

    Hypothesis of each univariable row: among patients of one centre, the measure doesn't go with the label; p by
    permutation of the label within centre. Area under the ROC curve (interval: Newcombe 2006) and odds ratio (Firth's
    logistic regression, interval from the profile of the penalised likelihood) are over all patients and not adjusted
    for centre, since few centres hold enough of both classes: where centres differ they and p may disagree. For labels
    without classes, the rank correlation within centre. Joint model: odds ratios of Firth's logistic regression on the
    declared baselines, over all patients too, and p within centre (:func:`conditional_p`). Added value:
    :func:`livermet.discrimination.cross_validated_gain`. Not for labels that are known of a selection of patients only.

    Parameters
    ----------
    measured
        As made by :func:`livermet.blood_course.measure_courses`.
    labels
        Derived labels.
    patients
        The study table (patient_id, centre).
    response
        Section ``response`` of the config: primary_label, alpha, n_permutations, look, planned_looks,
        min_patients_per_arm.
    options
        Section ``biomarkers``: reference, joint, repeats, added_permutations.
    goes_with
        Timepoints of the tissue that the primary label goes with.
    scope
        Only the cohort is tested.
    seed
        Seed of permutations and folds. A row's p depends on its own values alone, not on what else is tested.
    earlier_looks
        Looks at other states of the unblinded data that the ledger of looks holds.

    Returns
    -------
    One row per model, analyte and measure, with ``COLUMNS``. ``odds_ratio`` is per doubling (``unit`` begins with log2)
    or per standard deviation among the patients compared (it begins with SD).

    Raises
    ------
    ValueError
        More than three terms of the joint model.
    """
    if len(options["joint"]) > MAX_TERMS:
        raise ValueError(
            f"biomarkers, joint: {len(options['joint'])} terms ({', '.join(options['joint'])}); at most {MAX_TERMS}, "
            f"declared before anything runs, are allowed"
        )
    label = read_label(labels, response["primary_label"])
    centres = patients.drop_duplicates(keys.PATIENT).set_index(keys.PATIENT)[keys.CENTRE].astype(str)
    looks = {"look": response["look"], "planned_looks": response["planned_looks"], "earlier_looks": earlier_looks}
    refusal = _label_refusal(label, looks=looks, goes_with=goes_with, scope=scope)
    baseline = refusal or _selected(measured, BASELINE, label)
    shared = {"label": label, "centres": centres, "response": response, "seed": seed}
    analytes = sorted(measured["analyte"].unique())
    rows = []
    for analyte in analytes:
        for measure in MEASURES:
            given = measured[(measured["analyte"] == analyte) & (measured["measure"] == measure)]
            selected = refusal or _selected(measured, measure, label)
            rows.append(_univariable(given, analyte, measure, refusal=selected, **shared))
    rows += _joint(measured, terms=options["joint"], refusal=baseline, **shared)
    for analyte in analytes:
        if analyte != options["reference"]:
            rows.append(_added(measured, analyte, options=options, refusal=baseline, **shared))
    table = _typed(pd.DataFrame(rows).reindex(columns=COLUMNS), COLUMNS)
    tested = table["status"] == "tested"
    for _, family in table[tested].groupby(["model", "known_at"]):
        table.loc[family.index, "q"] = statistics.benjamini_hochberg(family["p"].to_numpy(float))
    logger.info(
        "biomarkers, scope %s, label %s: %d rows tested, %d refused", scope, label.name, tested.sum(), (~tested).sum()
    )
    return table


def _label_refusal(label: Label, *, looks: Mapping[str, int], goes_with: Sequence[str], scope: str) -> Refusal | None:
    """The first refusal that concerns every row, if any."""
    survival = (
        f"label {label.name} is a time to an event and has no value per patient to compare here: blood stands among "
        f"the features of the survival tables. Lifted by a primary label of another kind"
    )
    # Blood before treatment is selected by nobody's response, but a label known of resected patients only is.
    reasons = [
        ("R19", refusals.refuse_uncounted(scope=scope, **looks)),
        ("R06", survival if label.survival else ""),
        ("R06", refusals.refuse_undefined(label.name, label.numbers.to_numpy())),
        ("R17", refusals.refuse_timepoint(label.name, timepoints=[BEFORE_TREATMENT], goes_with=goes_with)),
    ]
    return next(((code, reason) for code, reason in reasons if reason), None)


def _selected(measured: pd.DataFrame, measure: str, label: Label) -> Refusal | None:
    """R18: whether a patient has any value of the measure goes with the label; asked once per measure."""
    rows = measured[(measured["measure"] == measure) & measured[keys.PATIENT].isin(label.numbers.index)]
    known = rows["value"].notna().groupby(rows[keys.PATIENT]).any()
    if known.empty or label.survival:
        return None
    y = label.numbers.reindex(known.index).to_numpy()
    name = f"blood ({measure})"
    reason = refusals.refuse_selective(y, known.to_numpy(bool), modality=name, binary=label.binary)
    return ("R18", reason) if reason else None


def refuse_missing(given: pd.DataFrame, label: Label) -> str:
    """R18: too many of the patients with blood lack the measure; those whom R08 leaves out were never to have it."""
    rows = given[given[keys.PATIENT].isin(label.numbers.index) & (given["code"] != "R08")]
    known = int(rows["value"].notna().sum())
    if not len(rows) or 1 - known / len(rows) <= refusals.MAX_MISSING:
        return ""
    return (
        f"{len(rows) - known} of {len(rows)} patients with blood lack this measure, where {refusals.MAX_MISSING:.0%} "
        f"may: who is left may be a selection. Lifted by draws within the windows"
    )


def refuse_circular(label: str, analyte: str) -> str:
    """R11: a label that is made of the analyte itself."""
    if label not in LABELS or not label.startswith(f"{analyte}_"):
        return ""
    return (
        f"label {label} is made of {analyte}: a measure of {analyte} would be compared with itself. Lifted by a "
        f"primary label that is not made of it, such as response by imaging"
    )


def refuse_unmarked(given: pd.DataFrame, label: Label) -> str:
    """R08: no patient with the label has a usable value of CA19-9, for reasons of secretion, bile or a normal baseline.

    Where some have, the others are left out, and the audit says how many and why.
    """
    rows = given[given[keys.PATIENT].isin(label.numbers.index)]
    if rows["value"].notna().any() or not (rows["code"] == "R08").any():
        return ""
    reasons = rows.loc[rows["code"] == "R08", "reason"].value_counts()
    words = "; ".join(f"{n} of {len(rows)}: {reason}" for reason, n in list(reasons.items())[:3])
    return (
        f"CA19-9 is no marker of any patient with the label ({words}). Lifted by patients who secrete it, with a "
        f"raised baseline and without cholestasis"
    )


def _univariable(
    given: pd.DataFrame,
    analyte: str,
    measure: str,
    *,
    label: Label,
    centres: pd.Series,
    refusal: Refusal | None,
    response: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    values = _values(given, label)
    y, centre = label.numbers.reindex(values.index).to_numpy(), _centre(centres, values.index)
    draws = response["n_permutations"]
    unit = _unit(given)
    row = _identity("univariable", analyte, measure, label, values.index, unit)
    circular = refuse_circular(label.name, analyte)
    refusal = refusal or (("R11", circular) if circular else None)
    if not refusal and (unmarked := refuse_unmarked(given, label)):
        refusal = ("R08", unmarked)
    if not refusal and (missing := refuse_missing(given, label)):
        refusal = ("R18", missing)
    smallest = statistics.smallest_attainable_p(y, centre, n_permutations=draws) if len(y) else math.nan
    refusal = refusal or _design_refusal(values.to_numpy(), y, centre, label, smallest, response=response)
    if refusal:
        return row | _refused(refusal, smallest)
    ranked = not label.binary
    tested = rankdata(values.to_numpy()) if ranked else values.to_numpy()
    test = statistics.permutation_p(
        tested[:, None], rankdata(y) if ranked else y, centre, n_permutations=draws, seed=seed
    )
    row |= {"p": float(test.p[0]), "smallest_attainable_p": smallest, "status": "tested"}
    row["p_method"] = _method(test, y, centre, label)
    if ranked:
        found = statistics.rank_correlation(values.to_numpy()[:, None], y, centre)
        return row | {
            "rho": float(found.effect[0]),
            "rho_low": float(found.low[0]),
            "rho_high": float(found.high[0]),
        }
    area = discrimination.auc(values.to_numpy(), y)
    low, high = discrimination.auc_interval(area, row["n_alt"], row["n_ref"])
    x = _per_unit(values, unit)[:, None]
    or_low, or_high = firth.profile_interval(x, y, 1)
    return row | {
        "auc": area,
        "auc_low": low,
        "auc_high": high,
        "odds_ratio": _exp(firth.fit(x, y).coef[1]),
        "or_low": _exp(or_low),
        "or_high": _exp(or_high),
        "events_per_variable": float(min(row["n_alt"], row["n_ref"])),
    }


def _joint(
    measured: pd.DataFrame,
    *,
    terms: Sequence[str],
    label: Label,
    centres: pd.Series,
    refusal: Refusal | None,
    response: Mapping[str, Any],
    seed: int,
) -> list[dict[str, Any]]:
    """One row per term of the joint model of baselines, over the patients who have all of them."""
    if not terms:
        return []
    values, units = _complete(measured, terms, label)
    y, centre = label.numbers.reindex(values.index).to_numpy(), _centre(centres, values.index)
    circular = [reason for term in terms if (reason := refuse_circular(label.name, term))]
    absent = [term for term in terms if term not in set(measured["analyte"])]
    smaller = min(label.classes(values.index)) if label.binary else 0
    per_term = smaller / len(terms)
    if not refusal and circular:
        refusal = ("R11", circular[0])
    if not refusal and not label.binary:
        refusal = ("R06", _needs_classes(label))
    if not refusal and absent:
        refusal = ("F02", f"no patient has {' or '.join(absent)}. Lifted by such values, or by another declaration")
    if not refusal and per_term < MIN_PER_TERM:
        refusal = (
            "R01",
            f"{smaller} patients in the smaller class for {len(terms)} terms, {per_term:.2g} each, where "
            f"{MIN_PER_TERM} are needed. Lifted by more patients with all of {', '.join(terms)}, or by fewer terms",
        )
    if not refusal and (confounded := refusals.refuse_confounded(y, centre, {})):
        refusal = ("R05", confounded)
    x = np.column_stack([_per_unit(values[term], units[term]) for term in terms])
    if not refusal and np.linalg.matrix_rank(statistics.centred(x, centre)) < len(terms):
        reason = "within the centres the terms don't vary, or one follows from the others. Lifted by other terms"
        refusal = ("F03", reason)
    draws = {"n_permutations": response["n_permutations"]}
    smallest = statistics.smallest_attainable_p(y, centre, **draws) if len(y) else math.nan
    alpha = response["alpha"] / response["planned_looks"]
    if not refusal and (unattainable := refusals.refuse_unattainable(smallest, alpha=alpha)):
        refusal = ("R02", unattainable)
    identity = [_identity("joint", term, BASELINE, label, values.index, units[term]) for term in terms]
    if refusal:
        return [row | _refused(refusal, smallest) for row in identity]
    several = len(np.unique(centre)) > 1
    within = "within centre" if several else "over all patients"
    badge = f"; exploratory only: fewer than {BADGE_PER_TERM} patients per term" if per_term < BADGE_PER_TERM else ""
    unadjusted = "; odds ratio not adjusted for centre" if several else ""
    if several and (imbalance := refusals.imbalance(y, {"centre": centre})):
        unadjusted += f" ({imbalance})"
    coef = firth.fit(x, y).coef
    rows = []
    for place, row in enumerate(identity, start=1):
        low, high = firth.profile_interval(x, y, place)
        test, least = conditional_p(x, y, centre, place - 1, **draws, seed=seed)
        rows.append(
            row
            | {
                "odds_ratio": _exp(coef[place]),
                "or_low": _exp(low),
                "or_high": _exp(high),
                "events_per_variable": per_term,
                "p": float(test.p[0]),
                "p_method": f"{_arrangements(test)} {within} of what the other terms do not explain of the label, "
                f"{len(terms)} terms{badge}{unadjusted}",
                "smallest_attainable_p": least,
                "status": "tested",
            }
        )
    return rows


def conditional_p(
    x: np.ndarray, y: np.ndarray, centre: np.ndarray, place: int, *, n_permutations: int, seed: int
) -> tuple[statistics.Permutation, float]:
    """Two-sided p of one term given the others, by permutation within centre, and the smallest that it could be.

    Hypothesis: among patients of one centre, the label doesn't depend on the term once the others are known. Unit: the
    patient. What Firth's logistic regression on centre and the other terms leaves of the label is exchanged between
    patients of one centre (residuals of the reduced model, Freedman and Lane 1983, J Bus Econ Stat 1:292, within
    strata), and set against what the other terms leave of this one within centre, by the studentised statistic of
    :func:`livermet.statistics.permutation_p`. It is the score test of the term: the fit of the others is kept, so that
    a term costs one fit whatever the number of permutations. Without other terms p is that of the analyte alone.
    Assumes that terms are related linearly and alike in all centres; residuals are exchangeable only about where the
    others tell much of the label.

    In null cohorts of 64 patients from six uneven centres (900 of each kind, in three runs) it rejects .052 to .063 at
    a nominal .05 where centres differ by half a standard deviation in terms and label, and .051 to .070 where they
    differ by a whole one. The likelihood ratio over all patients rejects .038 to .066 and .109 to .149: it takes what
    centres differ by for an effect of the term. Where centres don't differ, both find an effect about as often (.78 and
    .80 of 300 cohorts).

    Parameters
    ----------
    x
        Patients x terms.
    y
        0 or 1 per patient.
    centre
        One code per patient.
    place
        Column of the term; within the centres it must not follow from the others.
    n_permutations, seed
        As for :func:`livermet.statistics.permutation_p`.
    """
    others = np.delete(x, place, axis=1)
    levels = np.unique(centre)[1:]
    reduced = np.column_stack([others, *((centre == level).astype(float) for level in levels)])
    coef = firth.fit(reduced, y).coef
    # Rounded, so that patients whom the fit can't tell apart have the same residual whatever the order of sums.
    left = np.round(y - special.expit(coef[0] + reduced @ coef[1:]), 12)
    inner = statistics.centred(x, centre)
    rest = np.delete(inner, place, axis=1)
    term = inner[:, [place]] - rest @ np.linalg.lstsq(rest, inner[:, [place]], rcond=None)[0]
    test = statistics.permutation_p(term, left, centre, n_permutations=n_permutations, seed=seed)
    return test, statistics.smallest_attainable_p(left, centre, n_permutations=n_permutations)


def _added(
    measured: pd.DataFrame,
    analyte: str,
    *,
    options: Mapping[str, Any],
    label: Label,
    centres: pd.Series,
    refusal: Refusal | None,
    response: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """What the baseline of an analyte adds to that of the reference, among patients who have both."""
    reference = options["reference"]
    values, units = _complete(measured, [reference, analyte], label)
    y, centre = label.numbers.reindex(values.index).to_numpy(), _centre(centres, values.index)
    row = _identity("added_value", analyte, BASELINE, label, values.index, units[analyte])
    circular = refuse_circular(label.name, analyte) or refuse_circular(label.name, reference)
    smaller = min(label.classes(values.index)) if label.binary else 0
    if not refusal and circular:
        refusal = ("R11", circular)
    if not refusal and not label.binary:
        refusal = ("R06", _needs_classes(label))
    if not refusal and reference not in set(measured["analyte"]):
        refusal = ("F02", f"no patient has the reference {reference}. Lifted by such values, or by another reference")
    if not refusal:
        where = f" and values of {reference} and {analyte} (below {MIN_ADDED} no predictor is made)"
        n_ref, n_alt = label.classes(values.index)
        small = refusals.refuse_small_arms(n_ref, n_alt, minimum=MIN_ADDED, binary=True, where=where)
        refusal = ("R01", small) if small else None
    if not refusal and (confounded := refusals.refuse_confounded(y, centre, {})):
        refusal = ("R05", confounded)
    if not refusal and values.nunique().min() < 2:
        refusal = ("F03", "the same value in every patient. Lifted by another marker")
    if refusal:
        return row | _refused(refusal)
    draws = options["added_permutations"]
    gain = discrimination.cross_validated_gain(
        _per_unit(values[reference], units[reference]),
        _per_unit(values[analyte], units[analyte]),
        y,
        centre,
        folds=FOLDS,
        repeats=options["repeats"],
        n_permutations=draws,
        seed=seed,
    )
    return row | {
        "auc": gain.both,
        "auc_reference": gain.reference,
        "delta_auc": gain.difference,
        "events_per_variable": smaller / 2,
        "p": gain.p,
        "p_method": f"{draws} permutations within centre of what {reference} does not explain, one-sided; "
        f"{options['repeats']} x {FOLDS}-fold cross-validation",
        "smallest_attainable_p": 1 / (draws + 1),
        "status": "tested",
    }


def tissue_pairs(
    measured: pd.DataFrame,
    features: pd.DataFrame,
    *,
    pairs: Sequence[Mapping[str, str]],
    response: Mapping[str, Any],
) -> pd.DataFrame:
    """Baseline value of blood and value of tissue, of each patient who has both, for the declared pairs.

    Parameters
    ----------
    measured
        As made by :func:`livermet.blood_course.measure_courses`.
    features
        The long feature table.
    pairs
        blood (analyte or index), modality, family and feature, as in the feature table.
    response
        Section ``response``: what tissue, when, and how features are filtered. Compositions come as centred log-ratios.

    Returns
    -------
    ``PAIR_COLUMNS``, one row per pair and patient; none where timepoints or tissues are mixed.
    """
    rows = []
    if not refusals.refuse_mixed(timepoints=response["timepoints"], tissues=response["tissues"]):
        table = analysis_set(features, config=response)
        tested = tested_values(table, config=response)
        for pair in pairs:
            wide = tested.get((pair[keys.MODALITY], pair["family"]), pd.DataFrame())
            if pair["feature"] not in wide:
                continue
            tissue = wide[pair["feature"]].dropna()
            blood = _baseline(measured, pair["blood"])
            name = [pair[key] for key in PAIR_COLUMNS[:4]]
            both = sorted(set(tissue.index) & set(blood.index))
            unit = _unit(measured[(measured["analyte"] == pair["blood"]) & (measured["measure"] == BASELINE)])
            rows += [(*name, patient, blood[patient], tissue[patient], unit) for patient in both]
    return pd.DataFrame(rows, columns=PAIR_COLUMNS).astype({"blood_value": float, "tissue_value": float})


def compare_pairs(
    values: pd.DataFrame,
    features: pd.DataFrame,
    patients: pd.DataFrame,
    *,
    pairs: Sequence[Mapping[str, str]],
    response: Mapping[str, Any],
    scope: str,
    seed: int,
) -> pd.DataFrame:
    """Rank correlation of blood and tissue over patients, within centre: an exploratory family declared beforehand.

    Hypothesis: among patients of one centre the two ranks are independent; p by permutation within centre. Unit: the
    patient. No label enters. Not for values of different times: blood before treatment goes with tissue before it.

    Parameters
    ----------
    values
        As made by :func:`tissue_pairs`.
    features, pairs, response
        As for :func:`tissue_pairs`; features that were filtered out are named with their reason.
    patients
        The study table (patient_id, centre).
    scope, seed
        As for :func:`compare_biomarkers`.

    Returns
    -------
    One row per declared pair, with ``TISSUE_COLUMNS``.
    """
    centres = patients.drop_duplicates(keys.PATIENT).set_index(keys.PATIENT)[keys.CENTRE].astype(str)
    draws = response["n_permutations"]
    common = _pairs_refusal(response=response, scope=scope)
    why = {}
    if not common:
        filtered = filter_features(analysis_set(features, config=response), config=response)
        why = filtered.set_index([keys.MODALITY, "family", "feature"])["reason"].to_dict()
    rows = []
    for pair in pairs:
        name = (pair[keys.MODALITY], pair["family"], pair["feature"])
        mine = values[
            (values["blood"] == pair["blood"]) & (values[[keys.MODALITY, "family", "feature"]] == name).all(axis=1)
        ]
        blood, tissue = mine["blood_value"].to_numpy(), mine["tissue_value"].to_numpy()
        centre = _centre(centres, mine[keys.PATIENT])
        row = {
            **{key: pair[key] for key in ("blood", keys.MODALITY, "family", "feature")},
            keys.TIMEPOINT: "+".join(response["timepoints"]),
            keys.TISSUE: "+".join(response["tissues"]),
            "n": len(mine),
        }
        smallest = statistics.smallest_attainable_p(tissue, centre, n_permutations=draws) if len(mine) else math.nan
        refusal = common
        if not refusal and why.get(name):
            refusal = ("F01", f"declared beforehand but not testable: {why[name]}. Lifted by more cells per patient")
        if not refusal and not len(mine):
            refusal = ("F02", "no patient has both values. Lifted by such data, or by another declaration")
        if not refusal:
            varying = Label("", "continuous", pd.Series(tissue, index=mine[keys.PATIENT]))
            refusal = _design_refusal(blood, tissue, centre, varying, smallest, response=response, of_label=False)
        if refusal:
            rows.append(row | _refused(refusal, smallest))
            continue
        ranks = rankdata(blood)[:, None], rankdata(tissue)
        test = statistics.permutation_p(*ranks, centre, n_permutations=draws, seed=seed)
        found = statistics.rank_correlation(blood[:, None], tissue, centre)
        several = len(np.unique(centre)) > 1
        rows.append(
            row
            | {
                "rho": float(found.effect[0]),
                "ci_low": float(found.low[0]),
                "ci_high": float(found.high[0]),
                "p": float(test.p[0]),
                "p_method": f"{_arrangements(test)} {'within centre' if several else 'over all patients'}",
                "adjusted_for": "centre" if several else "",
                "smallest_attainable_p": smallest,
                "status": "tested",
            }
        )
    table = _typed(pd.DataFrame(rows).reindex(columns=TISSUE_COLUMNS), TISSUE_COLUMNS)
    tested = table["status"] == "tested"
    table.loc[tested, "q"] = statistics.benjamini_hochberg(table.loc[tested, "p"].to_numpy(float))
    logger.info("blood against tissue, scope %s: %d pairs tested, %d refused", scope, tested.sum(), (~tested).sum())
    return table


def _pairs_refusal(*, response: Mapping[str, Any], scope: str) -> Refusal | None:
    times, tissues = list(response["timepoints"]), list(response["tissues"])
    # No label enters, so nothing is unblinded here; a batch is described all the same.
    if reason := refusals.refuse_uncounted(scope=scope, look=1, planned_looks=1):
        return "R19", reason
    if reason := refusals.refuse_mixed(timepoints=times, tissues=tissues):
        return "R04", reason
    if times != [BEFORE_TREATMENT]:
        return (
            "R04",
            f"tissue of {', '.join(times)} and blood of {BEFORE_TREATMENT} are of different times: treatment lies "
            f"between them. Lifted by timepoints: [{BEFORE_TREATMENT}] under response",
        )
    return None


def _needs_classes(label: Label) -> str:
    return (
        f"label {label.name} has no two classes, which this model tells apart. Lifted by a primary label of two "
        f"classes, such as disease_control"
    )


def _design_refusal(
    values: np.ndarray,
    y: np.ndarray,
    centre: np.ndarray,
    label: Label,
    smallest: float,
    *,
    response: Mapping[str, Any],
    of_label: bool = True,
) -> Refusal | None:
    """What the patients at hand can't carry, as in :mod:`livermet.response`.

    Without ``of_label`` the second value is no response, so that nothing is confounded by its going with the centre.
    """
    options = {"minimum": response["min_patients_per_arm"], "binary": label.binary}
    alpha = response["alpha"] / response["planned_looks"]
    several = [level for level in np.unique(centre) if len(np.unique(y[centre == level])) > 1]
    compared = np.isin(centre, several)
    where = " in centres that hold both classes" if label.binary else " in centres that hold several values"
    reasons = [
        ("R01", lambda: refusals.refuse_small_arms(*_arms(y, label), **options)),
        ("R05", lambda: refusals.refuse_confounded(y, centre, {}) if of_label else ""),
        ("R01", lambda: refusals.refuse_small_arms(*_arms(y[compared], label), **options, where=where)),
        (
            "F03",
            lambda: "" if len(np.unique(values)) > 1 else "the same value in every patient. Lifted by more patients",
        ),
        ("R02", lambda: refusals.refuse_unattainable(smallest, alpha=alpha)),
    ]
    for code, reason in reasons:
        if words := reason():
            return code, words
    return None


def _arms(y: np.ndarray, label: Label) -> tuple[int, int]:
    """Patients in the two classes; without classes, those with the most frequent value and all others."""
    if label.binary:
        return int((y == 0).sum()), int((y == 1).sum())
    most = int(np.unique(y, return_counts=True)[1].max()) if len(y) else 0
    return most, len(y) - most


def _method(test: statistics.Permutation, y: np.ndarray, centre: np.ndarray, label: Label) -> str:
    within = "within centre" if len(np.unique(centre)) > 1 else "over all patients"
    several = [level for level in np.unique(centre) if len(np.unique(y[centre == level])) > 1]
    one, other = _arms(y[np.isin(centre, several)], label)
    few = min(one, other) < BADGE_BELOW if label.binary else one + other < 2 * BADGE_BELOW
    badge = f"; exploratory only: fewer than {BADGE_BELOW} patients compared in a class" if few else ""
    return f"{_arrangements(test)} {within}{badge}"


def _arrangements(test: statistics.Permutation) -> str:
    return f"all {test.n_arrangements} arrangements" if test.exact else f"{test.n_arrangements - 1} permutations"


def _baseline(measured: pd.DataFrame, analyte: str) -> pd.Series:
    """Baseline of an analyte by patient."""
    rows = measured[(measured["analyte"] == analyte) & (measured["measure"] == BASELINE) & measured["value"].notna()]
    return rows.set_index(keys.PATIENT)["value"].sort_index()


def _values(given: pd.DataFrame, label: Label) -> pd.Series:
    """Values by patient, of those who have the label, in the order of their names."""
    values = given.dropna(subset="value").set_index(keys.PATIENT)["value"]
    return values[values.index.isin(label.numbers.index)].sort_index()


def _complete(measured: pd.DataFrame, analytes: Sequence[str], label: Label) -> tuple[pd.DataFrame, dict[str, str]]:
    """Baselines of several analytes of the patients who have the label and all of them, and the units."""
    table = pd.DataFrame({name: _baseline(measured, name) for name in analytes}).sort_index()
    table = table[table.index.isin(label.numbers.index)].dropna()
    rows = measured[measured["measure"] == BASELINE]
    return table, {name: _unit(rows[rows["analyte"] == name]) for name in analytes}


def _unit(given: pd.DataFrame) -> str:
    known = given.loc[given["unit"] != "", "unit"]
    return str(known.iloc[0]) if len(known) else ""


def _per_unit(values: pd.Series, unit: str) -> np.ndarray:
    """Values in the steps of the odds ratio: doublings as they are, all others in standard deviations."""
    array = values.to_numpy(float)
    if _is_doubling(unit) or len(array) < 2 or array.std(ddof=1) == 0:
        return array
    return (array - array.mean()) / array.std(ddof=1)


def _step(unit: str) -> str:
    return unit if _is_doubling(unit) or not unit else f"SD of {unit}"


def _is_doubling(unit: str) -> bool:
    """Whether a step of 1 is a doubling; a slope of one doubling in 28 days is none that a patient has."""
    return unit.startswith("log2") and " per " not in unit


def _centre(centres: pd.Series, index: pd.Index | pd.Series) -> np.ndarray:
    return centres.reindex(index).fillna("").to_numpy(str)


def _exp(value: float) -> float:
    """The exponential, infinite rather than an overflow."""
    return math.exp(value) if value < 700 else math.inf


def _identity(model: str, analyte: str, measure: str, label: Label, index: pd.Index, unit: str) -> dict[str, Any]:
    n_ref, n_alt = label.classes(index)
    return {
        "label": label.name,
        "analyte": analyte,
        "measure": measure,
        "known_at": KNOWN_AT[measure],
        keys.TIMEPOINT: TIMEPOINTS[measure],
        "n": len(index),
        "n_ref": n_ref if label.binary else pd.NA,
        "n_alt": n_alt if label.binary else pd.NA,
        "n_missing": len(label.numbers) - len(index),
        "unit": _step(unit),
        "model": model,
    }


def _refused(refusal: Refusal, smallest: float = math.nan) -> dict[str, Any]:
    shown = {"smallest_attainable_p": smallest} if refusal[0] == "R02" else {}
    return {"status": "refused", "refusal_code": refusal[0], "refusal_reason": refusal[1], **shown}


def _typed(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    text = [name for name in columns if name in TEXT]
    kinds = {name: object if name in TEXT else "Int64" if name in INTEGERS else float for name in columns}
    return table.fillna(dict.fromkeys(text, "")).astype(kinds)
