"""Response: features of patients against a label, or in words why the design can't carry the comparison.

The patient is the unit of every test. A feature is tested against one label, at one timepoint, in one tissue and one
modality; labels are exchanged between patients of the same centre. Where a number can't stand, a row with a refusal
stands in its place.

Which features are tested doesn't depend on the label. Compositional families (cells, spots) are tested as centred
log-ratios among their parts with enough cells in the mean and few zeros, all others as they are
(:mod:`livermet.compared`). A feature that this filter takes out is listed by :func:`filter_features` with the reason;
if it was declared as confirmatory, it also keeps a row among the associations, refused with the code ``F01`` (``F02``
where no patient has it), so that no declared feature ever vanishes. All codes: :data:`livermet.refusals.CODES`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from livermet import keys, refusals, statistics
from livermet.catalogue import LABELS
from livermet.compared import (
    COLUMNS,
    DESIGN_FACTORS,
    FAMILY,
    FEATURE,
    Label,
    analysis_set,
    blocks,
    compared_scale,
    design_of,
    detectable_effect,
    effect_kind,
    effect_sizes,
    filter_features,
    is_centred,
    is_compositional,
    label_numbers,
    on_tested_scale,
    read_label,
    sampled_patients,
    tested_counts,
    tissue_of,
    typed,
)
from livermet.compared import patient_design as patient_design
from livermet.compared import tested_values as tested_values
from livermet.composition import beta_binomial

logger = logging.getLogger(__name__)

POWER = 0.80
BADGE_BELOW = 5  # patients per class, below which a result is marked as exploratory whatever its role
BADGE_EVENTS = 10  # the same for events (Peduzzi et al. 1995)
NO_SPREAD = "no spread within the classes, so the difference has no size. Lifted by more patients"
INTERACTION = "interaction"


@dataclass(frozen=True)
class _Family:
    """What the tests of one family share: its name, the section ``response``, the level, the seed, the declared
    features, the patients who were sampled for its modality, and why these may be a selection."""

    name: str
    config: Mapping[str, Any]
    alpha: float
    seed: int
    declared: frozenset[str]
    sampled: frozenset[str]
    selective: str


def associate(
    features: pd.DataFrame,
    labels: pd.DataFrame,
    patients: pd.DataFrame,
    *,
    config: Mapping[str, Any],
    goes_with: Sequence[str],
    scope: str,
    seed: int,
    deviating: Collection[str] = (),
    earlier_looks: int = 0,
    signature: Collection[str] = (),
) -> pd.DataFrame:
    """Test every feature against the primary label, or refuse with a reason.

    Hypothesis: among patients of one centre, the feature doesn't go with the label. Unit: the patient. Effect: Hedges'
    g (binary label), log hazard ratio per standard deviation (time to an event) or rank correlation, adjusted for
    centre, and unadjusted beside it as a sensitivity analysis without q. p: permutation of the labels, or of their
    log-rank scores, within centre (:func:`livermet.statistics.permutation_p`). q: Holm over the confirmatory features,
    Benjamini-Hochberg per modality and family over the others. Composition is relative: the effect of a part says how
    it moved against the middle part of its family (up to 20 parts) or their mean (more); for two classes a regression
    of the counts stands beside it (:func:`livermet.composition.beta_binomial`). Not for repeated measurements of a
    patient, nor for labels that are known for a selection of patients only.

    Parameters
    ----------
    features
        The long feature table.
    labels
        Derived labels: patient_id, label, kind, value, event, source, reason.
    patients
        As made by :func:`livermet.compared.patient_design`, or just patient_id and centre.
    config
        Section ``response``.
    goes_with
        Timepoints of the tissue that the primary label may be compared in.
    scope
        Only the cohort is tested.
    seed
        Seed of the permutations. A feature's p depends on its own family alone, not on what else is tested.
    deviating
        Patients with a protocol deviation. They stay in the analysis (intention to treat); confirmatory features are
        tested once more without them, as a sensitivity analysis.
    earlier_looks
        Looks at other states of the unblinded data that the ledger of looks counts.
    signature
        Genes that the primary label is made of; interactions of these are refused.

    Returns
    -------
    One row per feature and analysis, with the columns of ``COLUMNS``; ``minimal_detectable_effect`` is the effect, of
    the kind shown, that is found with 80 % power at alpha, for confirmatory features at the first step of Holm; where
    parts are taken from their median, that of one part that moved (:func:`livermet.statistics.median_factor`).
    """
    label = read_label(labels, config["primary_label"])
    alpha = config["alpha"] / config["planned_looks"]
    declared = [tuple(item[name] for name in FEATURE) for item in config["confirmatory"]]
    table = analysis_set(features, config=config)
    refusal = _table_refusal(label, config=config, goes_with=goes_with, scope=scope, earlier_looks=earlier_looks)
    if refusal:
        rows = _refused_rows(table, label, refusal, config=config)
    else:
        refused = _feature_refusals(table, label, declared=declared, signature=signature)
        rows = _rows_of(refused, table, label)
        left = table[~_names(table).isin(set(refused))] if refused else table
        counts = tested_counts(left, config=config)
        sampled = {str(name): frozenset(sampled_patients(patients, table, name)) for name, _ in counts}
        selective = {name: _selective(ids, table, label, name) for name, ids in sampled.items()}
        for (modality, family), values in on_tested_scale(counts).items():
            setting = _Family(
                name=family,
                config=config,
                alpha=alpha,
                seed=seed,
                declared=frozenset(name[2] for name in declared if name[:2] == (modality, family)),
                sampled=sampled[modality],
                selective=selective[modality],
            )
            design = design_of(patients, values.index, modality)
            of_parts = counts[modality, family] if is_compositional(family) and label.binary else None
            found = _test_family(values, label, design, setting, counts=of_parts)
            if setting.declared:
                found += _per_protocol(values, label, design, deviating, setting)
            rows += [{keys.MODALITY: modality, "family": family, **row} for row in found]
    rows += _vanished(declared, rows, table, label, refusal, config=config)
    result = _finish(rows, label, config=config, declared=declared)
    logger.info(
        "scope %s, label %s: %d feature values, %d associations tested, %d refused",
        scope,
        label.name,
        len(table),
        int((result["status"] == "tested").sum()),
        int((result["status"] == "refused").sum()),
    )
    return result


# ---------------------------------------------------------------------------------------------------------- refusals


def _table_refusal(
    label: Label, *, config: Mapping[str, Any], goes_with: Sequence[str], scope: str, earlier_looks: int
) -> tuple[str, str] | None:
    """The first refusal that concerns every feature, if any."""
    looks = {name: config[name] for name in ("look", "planned_looks")}
    places = {"timepoints": config["timepoints"], "goes_with": goes_with}
    later = ("R07", refusals.refuse_later_tissue) if label.survival else ("R17", refusals.refuse_timepoint)
    reasons = [
        ("R19", refusals.refuse_uncounted(scope=scope, earlier_looks=earlier_looks, **looks)),
        ("R06", refusals.refuse_undefined(label.name, label.numbers.to_numpy())),
        ("R04", refusals.refuse_mixed(timepoints=config["timepoints"], tissues=config["tissues"])),
        (later[0], later[1](label.name, **places)),
    ]
    return next(((code, reason) for code, reason in reasons if reason), None)


def _feature_refusals(
    table: pd.DataFrame, label: Label, *, declared: Sequence[tuple[str, ...]], signature: Collection[str]
) -> dict[tuple[str, ...], tuple[str, str]]:
    """Features that can't be tested against this label for what they are, by name, with code and reason."""
    refused: dict[tuple[str, ...], tuple[str, str]] = {}
    sources = table[[*FEATURE, "source"]].drop_duplicates()
    for *name, source in sources.itertuples(index=False, name=None):
        if found := refusals.refuse_source(str(source)):
            refused[tuple(name)] = found
        elif name[1] == INTERACTION and (reason := refusals.refuse_signature(name[2], signature)):
            refused[tuple(name)] = ("R12", reason)
    if label.binary and label.name not in LABELS:
        groups = list(table.groupby(FEATURE, sort=True))
        for name, rows in groups:
            known = rows[rows[keys.PATIENT].isin(label.numbers.index)]
            values, y = known["value"].to_numpy(float), label.numbers.reindex(known[keys.PATIENT]).to_numpy()
            if reason := refusals.refuse_cut_point(y, values, n_features=len(groups)):
                refused.setdefault(name, ("R10", reason))
    if reason := refusals.refuse_uncorrected(len(declared)):
        there = set(_names(sources))
        refused |= {name: ("R15", reason) for name in declared if name in there}
    return refused


def _selective(sampled: Collection[str], table: pd.DataFrame, label: Label, modality: str) -> str:
    """R18 of a whole modality: whether who has no value of it goes with the label."""
    ids = [patient for patient in label.numbers.index if patient in sampled]
    measured = np.isin(ids, table.loc[table[keys.MODALITY] == modality, keys.PATIENT].unique())
    index = pd.Index(ids)
    numbers = label_numbers(label, index, np.zeros(len(ids), dtype=int))
    return refusals.refuse_selective(numbers, measured, modality=modality, binary=label.binary)


def _names(table: pd.DataFrame) -> pd.Series:
    """Modality, family and feature of each row as one tuple."""
    return pd.Series(list(table[FEATURE].itertuples(index=False, name=None)), index=table.index, dtype=object)


def _rows_of(
    refused: Mapping[tuple[str, ...], tuple[str, str]], table: pd.DataFrame, label: Label
) -> list[dict[str, Any]]:
    names = _names(table)
    patients = table[names.isin(set(refused))].groupby(FEATURE, sort=True)[keys.PATIENT]
    return [
        {**dict(zip(FEATURE, name, strict=True)), **_counts(label, set(ids)), **_refused(*refused[name])}
        for name, ids in patients
    ]


def _refused_rows(
    table: pd.DataFrame, label: Label, refusal: tuple[str, str], *, config: Mapping[str, Any]
) -> list[dict[str, Any]]:
    kept = filter_features(table, config=config)
    kept = kept[kept["reason"] == ""]
    return _rows_of(dict.fromkeys(_names(kept), refusal), table, label)


def _vanished(
    declared: Sequence[tuple[str, ...]],
    rows: Sequence[Mapping[str, Any]],
    table: pd.DataFrame,
    label: Label,
    refusal: tuple[str, str] | None,
    *,
    config: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Rows of declared features that were not tested because they are absent, too rare or constant."""
    there = {tuple(row[name] for name in FEATURE) for row in rows}
    if there.issuperset(declared):
        return []
    why = filter_features(table, config=config).set_index(FEATURE)["reason"].to_dict()
    result = []
    for name in declared:
        if name in there:
            continue
        ids = table.loc[(table[FEATURE] == name).all(axis=1), keys.PATIENT]
        code, _, words = why.get(name, "").partition(": ")
        if refusal:
            reason = refusal
        elif code in refusals.CODES:
            reason = (code, words)
        elif name in why:
            reason = ("F01", f"declared beforehand but not testable: {why[name]}. Lifted by more cells per patient")
        else:
            reason = (
                "F02",
                "declared beforehand but no patient has it. Lifted by such data, or by another declaration",
            )
        result.append({**dict(zip(FEATURE, name, strict=True)), **_counts(label, set(ids)), **_refused(*reason)})
    return result


# ------------------------------------------------------------------------------------------------------------- tests


def _test_family(
    values: pd.DataFrame,
    label: Label,
    design: pd.DataFrame,
    setting: _Family,
    *,
    counts: pd.DataFrame | None = None,
) -> list[dict[str, Any]]:
    """Rows of all features of a family; features that are known for the same patients are tested together."""
    rows = []
    for block in blocks(values, label):
        parts = None if counts is None else counts.loc[block.index, block.columns]
        rows += _test_block(block, label, design.loc[block.index], setting, counts=parts)
    return rows


def _per_protocol(
    values: pd.DataFrame, label: Label, design: pd.DataFrame, deviating: Collection[str], setting: _Family
) -> list[dict[str, Any]]:
    """The declared features of a family once more, without the patients who deviate from the protocol."""
    left = values.index.intersection(label.numbers.index).intersection(list(deviating))
    if left.empty:
        return []
    found = _test_family(values.drop(left), label, design.drop(left), setting)
    words = f"per protocol, without {len(left)} patient{'s' * (len(left) != 1)}"
    return [
        {**row, "analysis": "sensitivity", "adjusted_for": f"{row.get('adjusted_for', '')}; {words}".strip("; ")}
        for row in found
        if row["feature"] in setting.declared and row["analysis"] == "primary"
    ]


def _test_block(
    block: pd.DataFrame, label: Label, design: pd.DataFrame, setting: _Family, *, counts: pd.DataFrame | None
) -> list[dict[str, Any]]:
    config, alpha, draws = setting.config, setting.alpha, setting.config["n_permutations"]
    one = np.zeros(len(block), dtype=int)
    centre = design[keys.CENTRE].to_numpy(str)
    several = len(np.unique(centre)) > 1
    n = _counts(label, set(block.index))
    factors = {name: design[name].to_numpy(str) for name in DESIGN_FACTORS if name in design}
    refusal = _block_refusal(block.index, centre, factors, label, setting)
    y = label_numbers(label, block.index, centre)
    smallest = statistics.smallest_attainable_p(y, centre, n_permutations=draws) if len(y) else math.nan
    if not refusal and (reason := refusals.refuse_unattainable(smallest, alpha=alpha)):
        refusal = ("R02", reason)
    if refusal:
        shown = {"smallest_attainable_p": smallest} if refusal[0] == "R02" else {}
        return [{"feature": name, **n, **shown, **_refused(*refusal)} for name in block]

    analyses = [("primary", centre if several else one, "centre" if several else "")]
    if several:
        analyses.append(("sensitivity", one, ""))
    level = {"confirmatory": alpha / max(1, len(config["confirmatory"])), "exploratory": alpha}
    beyond_holm = refusals.refuse_unattainable(smallest, alpha=level["confirmatory"])
    centre_differences = is_centred(setting.name, block.shape[1])
    rows = []
    for analysis, strata, adjusted in analyses:
        numbers = label_numbers(label, block.index, strata)
        test = statistics.permutation_p(
            compared_scale(block, label),
            compared_scale(numbers[:, None], label)[:, 0],
            strata,
            n_permutations=draws,
            seed=setting.seed,
            centre_differences=centre_differences,
        )
        effects = effect_sizes(block, label, strata, centre_differences=centre_differences)
        common = {
            **n,
            "analysis": analysis,
            "effect_kind": effect_kind(label),
            "p_method": _method(test, adjusted, block.index, centre, label, refusals.imbalance(y, factors)),
            "adjusted_for": adjusted,
            "smallest_attainable_p": statistics.smallest_attainable_p(numbers, strata, n_permutations=draws),
            "detectable": {
                role: _detectable(effects, label, alpha=at, parts=block.shape[1] if centre_differences else 0)
                for role, at in level.items()
            },
            "status": "tested",
        }
        for name, effect, low, high, p in zip(block, effects.effect, effects.low, effects.high, test.p, strict=True):
            row = {"feature": name, "effect": effect, "ci_low": low, "ci_high": high, "p": p, **common}
            if name in setting.declared and beyond_holm:
                row = {"feature": name, **n, "smallest_attainable_p": smallest, **_refused("R02", beyond_holm)}
            elif math.isnan(effect):
                row = {"feature": name, **n, **_refused("F03", NO_SPREAD)}
            if row["status"] == "tested" or analysis == "primary":
                rows.append(row)
    if counts is not None:
        tested = {row["feature"] for row in rows if row["status"] == "tested"}
        rows += [row for row in _by_counts(counts, y, centre, n) if row["feature"] in tested]
    return rows


def _detectable(effects: statistics.Effects, label: Label, *, alpha: float, parts: int) -> float:
    """Smallest effect found at this level; ``parts``: those of a family whose median is taken off, otherwise 0."""
    known_centre = detectable_effect(effects, label, alpha=alpha, power=POWER)
    if not parts or math.isnan(known_centre):
        return known_centre
    df = effects.df if label.binary else math.inf  # the other effects are reckoned with as normal
    factor = statistics.median_factor(parts, df=df, alpha=alpha, power=POWER)
    if label.binary or label.survival:
        return factor * known_centre
    return math.tanh(factor * math.atanh(known_centre))


def _by_counts(counts: pd.DataFrame, y: np.ndarray, centre: np.ndarray, n: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each part of a composition by a model of its counts, as a sensitivity analysis."""
    found = beta_binomial(counts.to_numpy(float), y, centre)
    adjusted = "centre; beta-binomial" if len(np.unique(centre)) > 1 else "beta-binomial"
    common = {
        **n,
        "analysis": "sensitivity",
        "effect_kind": "log_odds_ratio",
        "p_method": f"likelihood ratio, F with 1 and {found.df} degrees of freedom",
        "adjusted_for": adjusted,
        "status": "tested",
    }
    columns = {"feature": counts.columns, "effect": found.effect, "ci_low": found.low, "ci_high": found.high}
    rows = pd.DataFrame({**columns, "p": found.p}).dropna().to_dict("records")
    return [{**row, **common} for row in rows]


def _block_refusal(
    index: pd.Index, centre: np.ndarray, factors: Mapping[str, np.ndarray], label: Label, setting: _Family
) -> tuple[str, str] | None:
    minimum = setting.config["min_patients_per_arm"]
    y = label_numbers(label, index, np.zeros(len(index), dtype=int))
    if small := _refuse_small(index, label, minimum=minimum):
        return "R01", small
    if setting.selective:
        return "R18", setting.selective
    sampled = len([patient for patient in label.numbers.index if patient in setting.sampled])
    if missing := refusals.refuse_missing(sampled, len(index)):
        return "R18", missing
    if confounded := refusals.refuse_confounded(y, centre, factors):
        return "R05", confounded
    # A patient whose centre holds one class alone takes no part in a comparison within centres.
    if small := _refuse_small(
        index[_compared(y, centre)], label, minimum=minimum, where=" in centres that hold both classes"
    ):
        return "R01", small
    return None


def _refuse_small(index: pd.Index, label: Label, *, minimum: int, where: str = "") -> str:
    """R01 for the patients in ``index``."""
    most, others = _arms(index, label)
    if label.survival:
        return refusals.refuse_few_events(len(index), others, minimum=minimum, where=where)
    return refusals.refuse_small_arms(most, others, minimum=minimum, binary=label.binary, where=where)


def _arms(index: pd.Index, label: Label) -> tuple[int, int]:
    """Patients in the two classes, or without and with an event; else with the most frequent value, and all others."""
    if label.events is not None:
        n_events = int(label.events.reindex(index).sum())
        return len(index) - n_events, n_events
    y = label.numbers.reindex(index).to_numpy()
    if label.binary:
        return int((y == 0).sum()), int((y == 1).sum())
    most = int(np.unique(y, return_counts=True)[1].max()) if len(y) else 0
    return most, len(y) - most


def _compared(y: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Patients whose centre holds more than one value of the label."""
    several = [level for level in np.unique(centre) if len(np.unique(y[centre == level])) > 1]
    return np.isin(centre, several)


def _method(
    test: statistics.Permutation, adjusted: str, index: pd.Index, centre: np.ndarray, label: Label, imbalance: str
) -> str:
    y = label_numbers(label, index, np.zeros(len(index), dtype=int))
    within = f"within {adjusted}" if adjusted else "over all patients"
    how = f"all {test.n_arrangements} arrangements" if test.exact else f"{test.n_arrangements - 1} permutations"
    most, others = _arms(index[_compared(y, centre)], label)
    what, badge = "", ""
    if label.survival:
        what = f" of log-rank scores, {others} events,"
        few, badge = others < BADGE_EVENTS, f"; exploratory only: fewer than {BADGE_EVENTS} events"
    else:
        few = min(most, others) < BADGE_BELOW
        if not label.binary:
            few = others < BADGE_BELOW or most + others < 2 * BADGE_BELOW
        badge = f"; exploratory only: fewer than {BADGE_BELOW} patients compared in a class"
    return f"{how}{what} {within}{badge if few else ''}" + (f"; not adjusted: {imbalance}" if imbalance else "")


# ------------------------------------------------------------------------------------------------------------- table


def _counts(label: Label, patients: Iterable[str]) -> dict[str, Any]:
    patients = set(patients)
    labelled = [patient for patient in label.numbers.index if patient in patients]
    n_ref, n_alt = label.classes(labelled)
    return {
        "n": len(labelled),
        "n_ref": n_ref if label.binary else pd.NA,
        "n_alt": n_alt if label.binary else pd.NA,
        "n_missing": len(label.numbers) - len(labelled),
    }


def _refused(code: str, reason: str) -> dict[str, str]:
    return {"analysis": "primary", "status": "refused", "refusal_code": code, "refusal_reason": reason}


def _finish(
    rows: Sequence[Mapping[str, Any]], label: Label, *, config: Mapping[str, Any], declared: Sequence[tuple[str, ...]]
) -> pd.DataFrame:
    """Rows as the associations table: places, roles, multiplicity, order and types."""
    table = pd.DataFrame(list(rows)).reindex(columns=[*COLUMNS, "detectable"])
    table["label"] = label.name
    table[keys.TIMEPOINT] = "+".join(config["timepoints"])
    table[keys.TISSUE] = tissue_of(table[keys.MODALITY], config["tissues"])
    table["role"] = np.where(_names(table).isin(set(declared)), "confirmatory", "exploratory")
    table["minimal_detectable_effect"] = [
        values[role] if isinstance(values, dict) else math.nan
        for values, role in zip(table["detectable"], table["role"], strict=True)
    ]
    tested = (table["status"] == "tested") & (table["analysis"] == "primary")
    confirmatory = tested & (table["role"] == "confirmatory")
    table.loc[confirmatory, "q"] = statistics.holm(table.loc[confirmatory, "p"].to_numpy(float))
    for _, family in table[tested & ~confirmatory].groupby(FAMILY):
        table.loc[family.index, "q"] = statistics.benjamini_hochberg(family["p"].to_numpy(float))
    return typed(table)
