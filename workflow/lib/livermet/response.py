"""Response: features of patients against a label, or in words why the design can't carry the comparison.

The patient is the unit of every test. A feature is tested against one label, at one timepoint, in one tissue and one
modality; labels are exchanged between patients of the same centre. Where a number can't stand, a row with a refusal
stands in its place.

Which features are tested doesn't depend on the label. Compositional families (cells, spots) are tested as centred
log-ratios among their parts with enough cells in the mean and few zeros, all others as they are. A feature that this
filter takes out is listed by :func:`filter_features` with the reason; if it was declared as confirmatory, it also keeps
a row among the associations, refused with the code ``F01`` (``F02`` where no patient has it), so that no declared
feature ever vanishes. The codes R01 to R19 are those of :mod:`livermet.refusals`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from livermet import keys, refusals, statistics
from livermet.features import BLOOD, WITHIN

logger = logging.getLogger(__name__)

COLUMNS = [
    "label",
    keys.TIMEPOINT,
    keys.TISSUE,
    keys.MODALITY,
    "family",
    "feature",
    "role",
    "analysis",
    "n",
    "n_ref",
    "n_alt",
    "n_missing",
    "effect",
    "effect_kind",
    "ci_low",
    "ci_high",
    "p",
    "p_method",
    "q",
    "adjusted_for",
    "smallest_attainable_p",
    "minimal_detectable_effect",
    "status",
    "refusal_code",
    "refusal_reason",
]
INTEGERS = ["n", "n_ref", "n_alt", "n_missing"]
FLOATS = ["effect", "ci_low", "ci_high", "p", "q", "smallest_attainable_p", "minimal_detectable_effect"]
FAMILY = [keys.MODALITY, "family"]
FEATURE = [*FAMILY, "feature"]

PSEUDOCOUNT = 0.5  # cells
POWER = 0.80
BADGE_BELOW = 5  # patients per class, below which a result is marked as exploratory whatever its role
# Among more parts than this the log-ratios' own centre moves too little to matter.
MAX_PARTS_CENTRED = 20
MAX_SHARE_OF_ZEROS = 0.5  # features that are not compositional, above all interactions: mostly absent, not comparable
NO_SPREAD = "no spread within the classes, so the difference has no size. Lifted by more patients"
DESIGN_FACTORS = ("batch", "chemistry", "method")


@dataclass(frozen=True)
class Label:
    """A label: its name, its kind, and a number per patient who has one."""

    name: str
    kind: str
    numbers: pd.Series

    @property
    def binary(self) -> bool:
        return self.kind == "binary"

    def classes(self, patients: Iterable[str]) -> tuple[int, int]:
        """Patients with value 0 and with value 1 (or, for other kinds, all of them and none)."""
        values = self.numbers.reindex(list(patients)).dropna()
        return (int((values == 0).sum()), int((values == 1).sum())) if self.binary else (len(values), 0)


def read_label(labels: pd.DataFrame, name: str) -> Label:
    """One label from the table of labels.

    Raises
    ------
    ValueError
        When a value is not a number, or that of a binary label neither 0 nor 1.
    """
    rows = labels[labels["label"] == name]
    known = rows[rows["value"].notna() & (rows["value"].astype(str) != "")]
    kind = str(rows["kind"].iloc[0]) if len(rows) else "binary"
    values = pd.to_numeric(known["value"], errors="coerce")
    bad = values.isna() | ((kind == "binary") & ~values.isin([0, 1]))
    if bad.any():
        first = known[bad].iloc[0]
        raise ValueError(
            f"labels, {name}, patient {first[keys.PATIENT]}: value {first['value']!r}; "
            f"expected {'0 or 1' if kind == 'binary' else 'a number'}"
        )
    return Label(name, kind, pd.Series(values.to_numpy(float), index=known[keys.PATIENT].to_numpy(), dtype=float))


def patient_design(
    patients: pd.DataFrame, libraries: Sequence[Mapping[str, str]], *, timepoints: Sequence[str], tissues: Sequence[str]
) -> pd.DataFrame:
    """Centre of each patient, and per modality batch, chemistry and sampling method of the libraries compared.

    Parameters
    ----------
    patients
        The study table.
    libraries
        Library rows of the scope.
    timepoints, tissues
        What is compared.

    Returns
    -------
    One row per patient and modality (patients without such a library: one row with modality missing); where a patient's
    libraries differ in a factor, its values are joined by "+".
    """
    columns = [keys.PATIENT, keys.MODALITY, keys.TIMEPOINT, keys.TISSUE, *DESIGN_FACTORS]
    rows = pd.DataFrame([dict(row) for row in libraries], columns=columns, dtype=object)
    rows = rows[rows[keys.TIMEPOINT].isin(timepoints) & rows[keys.TISSUE].isin(tissues)].fillna("").astype(str)
    factors = rows.groupby([keys.PATIENT, keys.MODALITY])[list(DESIGN_FACTORS)]
    joined = factors.agg(lambda values: "+".join(sorted(set(values)))).reset_index()
    return patients[[keys.PATIENT, keys.CENTRE]].merge(joined, on=keys.PATIENT, how="left")


def is_compositional(family: str) -> bool:
    """Whether the values of a family are shares of one total."""
    return family in ("composition_compartment", "composition_type", "niche") or family.startswith(WITHIN)


def analysis_set(features: pd.DataFrame, *, config: Mapping[str, Any]) -> pd.DataFrame:
    """Rows at the configured timepoints and tissues; blood has a tissue of its own and goes by timepoint alone."""
    here = features[keys.TISSUE].isin(config["tissues"]) | (features[keys.MODALITY] == BLOOD)
    return features[features[keys.TIMEPOINT].isin(config["timepoints"]) & here & features["value"].notna()]


def filter_features(features: pd.DataFrame, *, config: Mapping[str, Any]) -> pd.DataFrame:
    """Which features can be tested, whatever the label.

    Parameters
    ----------
    features
        The long table, at one timepoint and in one tissue.
    config
        Section ``response``.

    Returns
    -------
    One row per feature: modality, family, feature, n_patients, mean_cells (of compositional features), zero_fraction
    and reason, "" where it is kept.
    """
    table = features.assign(cells=features["value"] * features["n_cells"], zero=features["value"] == 0)
    groups = table.groupby(FEATURE, sort=True)
    summary = groups.agg(
        n_patients=(keys.PATIENT, "nunique"),
        mean_cells=("cells", "mean"),
        zero_fraction=("zero", "mean"),
        low=("value", "min"),
        high=("value", "max"),
    ).reset_index()
    parts = summary["family"].map(is_compositional).astype(bool)
    limit = np.where(parts, config["max_zero_fraction"], MAX_SHARE_OF_ZEROS)
    reasons = {
        "the same value in every patient": (summary["low"] == summary["high"]) & (summary["n_patients"] > 1),
        f"fewer than {config['min_mean_cells']:g} cells or spots in the mean": parts
        & (summary["mean_cells"] < config["min_mean_cells"]),
        "absent in too many patients": summary["zero_fraction"] > limit,
    }
    summary["reason"] = ""
    for reason, fires in reasons.items():
        summary["reason"] = summary["reason"].mask(fires & (summary["reason"] == ""), reason)
    kept = parts & (summary["reason"] == "")
    alone = kept & (summary[kept].groupby(FAMILY)["feature"].transform("size").reindex(summary.index) < 2)
    summary.loc[alone, "reason"] = "the only part of its family that is left: a share of what is not known"
    summary["mean_cells"] = summary["mean_cells"].where(parts)
    return summary.drop(columns=["low", "high"])


def tested_values(features: pd.DataFrame, *, config: Mapping[str, Any]) -> dict[tuple[str, str], pd.DataFrame]:
    """Values on the scale on which they are tested, patients x features, by modality and family.

    Compositional families: centred log-ratios of the counts of the kept features; others: the values.
    """
    kept = filter_features(features, config=config)
    kept = kept[kept["reason"] == ""]
    table = features.merge(kept[FEATURE], on=FEATURE, how="inner")
    double = table[table.duplicated([keys.PATIENT, *FEATURE])]
    if len(double):
        first = double.iloc[0]
        raise ValueError(
            f"feature table: {len(double)} rows repeat a patient and feature, first {first[keys.PATIENT]}, "
            f"{first['family']}, {first['feature']}; sum over libraries and lesions before"
        )
    table = table.assign(count=(table["value"] * table["n_cells"]).round())
    result = {}
    for (modality, family), group in table.groupby(FAMILY, sort=True):
        parts = is_compositional(str(family))
        wide = group.pivot_table(index=keys.PATIENT, columns="feature", values="count" if parts else "value")
        if parts:
            wide[:] = statistics.clr(wide.to_numpy(float), pseudocount=PSEUDOCOUNT)
        result[str(modality), str(family)] = wide.sort_index(axis=0).sort_index(axis=1)
    return result


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
) -> pd.DataFrame:
    """Test every feature against the primary label, or refuse with a reason.

    Hypothesis: among patients of one centre, the feature doesn't go with the label. Unit: the patient. Effect: Hedges'
    g (binary label) or rank correlation, adjusted for centre, and unadjusted beside it as a sensitivity analysis
    without q. p: permutation of the labels within centre (:func:`livermet.statistics.permutation_p`). q: Holm over the
    confirmatory features, Benjamini-Hochberg per modality and family over the others. Composition is relative: the
    effect of a part says how it moved against the middle part of its family (up to 20 parts) or their mean (more). Not
    for repeated measurements of a patient, nor for labels that are known for a selection of patients only.

    Parameters
    ----------
    features
        The long feature table.
    labels
        Derived labels: patient_id, label, kind, value, source, reason.
    patients
        As made by :func:`patient_design`, or just patient_id and centre.
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

    Returns
    -------
    One row per feature and analysis, with the columns of ``COLUMNS``; ``minimal_detectable_effect`` is the standardised
    difference found with 80 % power at alpha, for confirmatory features at the first step of Holm.
    """
    label = read_label(labels, config["primary_label"])
    alpha = config["alpha"] / config["planned_looks"]
    declared = [tuple(item[name] for name in FEATURE) for item in config["confirmatory"]]
    table = analysis_set(features, config=config)
    refusal = _table_refusal(label, config=config, goes_with=goes_with, scope=scope)
    if refusal:
        rows = _refused_rows(table, label, refusal, config=config)
    else:
        rows = []
        for (modality, family), values in tested_values(table, config=config).items():
            design = _design(patients, values.index, modality)
            options = {
                "config": config,
                "alpha": alpha,
                "seed": seed,
                "compositional": is_compositional(family),
                "declared": {name[2] for name in declared if name[:2] == (modality, family)},
            }
            found = _test_family(values, label, design, **options)
            if options["declared"]:
                found += _per_protocol(values, label, design, deviating, **options)
            rows += [{keys.MODALITY: modality, "family": family, **row} for row in found]
    rows += _vanished(declared, rows, table, label, refusal, config=config)
    result = _finish(rows, label, config=config, declared=declared, alpha=alpha)
    logger.info(
        "scope %s, label %s: %d feature values, %d associations tested, %d refused",
        scope,
        label.name,
        len(table),
        int((result["status"] == "tested").sum()),
        int((result["status"] == "refused").sum()),
    )
    return result


def _table_refusal(
    label: Label, *, config: Mapping[str, Any], goes_with: Sequence[str], scope: str
) -> tuple[str, str] | None:
    """The first refusal that concerns every feature, if any."""
    reasons = [
        ("R19", refusals.refuse_uncounted(scope=scope, look=config["look"], planned_looks=config["planned_looks"])),
        ("R06", refusals.refuse_undefined(label.name, label.numbers.to_numpy())),
        ("R04", refusals.refuse_mixed(timepoints=config["timepoints"], tissues=config["tissues"])),
        ("R17", refusals.refuse_timepoint(label.name, timepoints=config["timepoints"], goes_with=goes_with)),
    ]
    return next(((code, reason) for code, reason in reasons if reason), None)


def _refused_rows(
    table: pd.DataFrame, label: Label, refusal: tuple[str, str], *, config: Mapping[str, Any]
) -> list[dict[str, Any]]:
    kept = filter_features(table, config=config)
    kept = kept.loc[kept["reason"] == "", FEATURE]
    groups = table.merge(kept, on=FEATURE, how="inner").groupby(FEATURE, sort=True)[keys.PATIENT]
    return [
        {**dict(zip(FEATURE, name, strict=True)), **_counts(label, set(ids)), **_refused(*refusal)}
        for name, ids in groups
    ]


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
        if refusal:
            reason = refusal
        elif name in why:
            reason = ("F01", f"declared beforehand but not testable: {why[name]}. Lifted by more cells per patient")
        else:
            reason = (
                "F02",
                "declared beforehand but no patient has it. Lifted by such data, or by another declaration",
            )
        result.append({**dict(zip(FEATURE, name, strict=True)), **_counts(label, set(ids)), **_refused(*reason)})
    return result


def _design(patients: pd.DataFrame, index: pd.Index, modality: str) -> pd.DataFrame:
    """Centre and further design factors of the patients in ``index``, "" where not known."""
    centre = patients.drop_duplicates(keys.PATIENT).set_index(keys.PATIENT)[[keys.CENTRE]]
    if keys.MODALITY in patients:
        rows = patients[patients[keys.MODALITY] == modality].set_index(keys.PATIENT)
        centre = centre.join(rows[[name for name in DESIGN_FACTORS if name in rows]])
    return centre.reindex(index).fillna("").astype(str)


def _test_family(
    values: pd.DataFrame,
    label: Label,
    design: pd.DataFrame,
    *,
    config: Mapping[str, Any],
    alpha: float,
    seed: int,
    compositional: bool,
    declared: set[str],
) -> list[dict[str, Any]]:
    """Rows of all features of a family; features that are known for the same patients are tested together."""
    values = values[values.index.isin(label.numbers.index)]
    known = values.notna()
    patterns = known.T.groupby(known.T.apply(lambda row: row.to_numpy().tobytes(), axis=1), sort=True).groups
    rows = []
    for names in patterns.values():
        block = values.loc[known[names[0]], list(names)]
        rows += _test_block(
            block,
            label,
            design.loc[block.index],
            config=config,
            alpha=alpha,
            seed=seed,
            compositional=compositional,
            declared=declared,
        )
    return rows


def _per_protocol(
    values: pd.DataFrame, label: Label, design: pd.DataFrame, deviating: Collection[str], **options: Any
) -> list[dict[str, Any]]:
    """The declared features of a family once more, without the patients who deviate from the protocol."""
    left = values.index.intersection(label.numbers.index).intersection(list(deviating))
    if left.empty:
        return []
    found = _test_family(values.drop(left), label, design.drop(left), **options)
    words = f"per protocol, without {len(left)} patient{'s' * (len(left) != 1)}"
    return [
        {**row, "analysis": "sensitivity", "adjusted_for": f"{row.get('adjusted_for', '')}; {words}".strip("; ")}
        for row in found
        if row["feature"] in options["declared"] and row["analysis"] == "primary"
    ]


def _test_block(
    block: pd.DataFrame,
    label: Label,
    design: pd.DataFrame,
    *,
    config: Mapping[str, Any],
    alpha: float,
    seed: int,
    compositional: bool,
    declared: set[str],
) -> list[dict[str, Any]]:
    y = label.numbers.reindex(block.index).to_numpy()
    centre = design[keys.CENTRE].to_numpy(str)
    counts = _counts(label, set(block.index))
    draws = config["n_permutations"]
    factors = {name: design[name].to_numpy(str) for name in DESIGN_FACTORS if name in design}
    refusal = _block_refusal(y, centre, factors, label, config=config)
    smallest = statistics.smallest_attainable_p(y, centre, n_permutations=draws) if len(y) else math.nan
    if not refusal and (reason := refusals.refuse_unattainable(smallest, alpha=alpha)):
        refusal = ("R02", reason)
    if refusal:
        shown = {"smallest_attainable_p": smallest} if refusal[0] == "R02" else {}
        return [{"feature": name, **counts, **shown, **_refused(*refusal)} for name in block]

    one = np.zeros(len(y), dtype=int)
    several = len(np.unique(centre)) > 1
    analyses = [("primary", centre if several else one, "centre" if several else "")]
    if several:
        analyses.append(("sensitivity", one, ""))
    level = {
        "confirmatory": alpha / max(1, len(config["confirmatory"])),
        "exploratory": alpha,
    }
    beyond_holm = refusals.refuse_unattainable(smallest, alpha=level["confirmatory"])
    rows = []
    for analysis, strata, adjusted in analyses:
        centre_differences = compositional and block.shape[1] <= MAX_PARTS_CENTRED
        test = statistics.permutation_p(
            _scale(block, label),
            _scale(y[:, None], label)[:, 0],
            strata,
            n_permutations=draws,
            seed=seed,
            centre_differences=centre_differences,
        )
        if label.binary:
            effects = statistics.standardised_difference(
                block.to_numpy(), y, strata, centre_differences=centre_differences
            )
        else:
            effects = statistics.rank_correlation(block.to_numpy(), y, strata, centre_differences=centre_differences)
        detectable = {
            role: statistics.minimal_detectable_effect(
                variance=effects.variance, df=effects.df, alpha=level[role], power=POWER
            )
            if label.binary
            else math.nan
            for role in level
        }
        common = {
            **counts,
            "analysis": analysis,
            "effect_kind": "hedges_g" if label.binary else "spearman_rho",
            "p_method": _method(test, adjusted, y, centre, label, refusals.imbalance(y, factors)),
            "adjusted_for": adjusted,
            "smallest_attainable_p": statistics.smallest_attainable_p(y, strata, n_permutations=draws),
            "detectable": detectable,
            "status": "tested",
        }
        for name, effect, low, high, p in zip(block, effects.effect, effects.low, effects.high, test.p, strict=True):
            row = {"feature": name, "effect": effect, "ci_low": low, "ci_high": high, "p": p, **common}
            if name in declared and beyond_holm:
                row = {"feature": name, **counts, "smallest_attainable_p": smallest, **_refused("R02", beyond_holm)}
            elif math.isnan(effect):
                row = {"feature": name, **counts, **_refused("F03", NO_SPREAD)}
            if row["status"] == "tested" or analysis == "primary":
                rows.append(row)
    return rows


def _block_refusal(
    y: np.ndarray, centre: np.ndarray, factors: Mapping[str, np.ndarray], label: Label, *, config: Mapping[str, Any]
) -> tuple[str, str] | None:
    options = {"minimum": config["min_patients_per_arm"], "binary": label.binary}
    if small := refusals.refuse_small_arms(*_arms(y, label), **options):
        return "R01", small
    if confounded := refusals.refuse_confounded(y, centre, factors):
        return "R05", confounded
    # A patient whose centre holds one class alone takes no part in a comparison within centres.
    where = " in centres that hold both classes"
    if small := refusals.refuse_small_arms(*_arms(y[_compared(y, centre)], label), **options, where=where):
        return "R01", small
    return None


def _arms(y: np.ndarray, label: Label) -> tuple[int, int]:
    """Patients in the two classes; without classes, those with the most frequent value and all others."""
    if label.binary:
        return int((y == 0).sum()), int((y == 1).sum())
    most = int(np.unique(y, return_counts=True)[1].max()) if len(y) else 0
    return most, len(y) - most


def _compared(y: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Patients whose centre holds more than one value of the label."""
    several = [level for level in np.unique(centre) if len(np.unique(y[centre == level])) > 1]
    return np.isin(centre, several)


def _scale(values: pd.DataFrame | np.ndarray, label: Label) -> np.ndarray:
    """Values as they are for a binary label, ranks for the others."""
    array = np.asarray(values, dtype=float)
    return array if label.binary else rankdata(array, axis=0)


def _method(
    test: statistics.Permutation, adjusted: str, y: np.ndarray, centre: np.ndarray, label: Label, imbalance: str
) -> str:
    within = f"within {adjusted}" if adjusted else "over all patients"
    how = f"all {test.n_arrangements} arrangements" if test.exact else f"{test.n_arrangements - 1} permutations"
    most, others = _arms(y[_compared(y, centre)], label)
    few = min(most, others) < BADGE_BELOW if label.binary else others < BADGE_BELOW or most + others < 2 * BADGE_BELOW
    badge = f"; exploratory only: fewer than {BADGE_BELOW} patients compared in a class" if few else ""
    return f"{how} {within}{badge}" + (f"; not adjusted: {imbalance}" if imbalance else "")


def _counts(label: Label, patients: set[str]) -> dict[str, Any]:
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
    rows: Sequence[Mapping[str, Any]],
    label: Label,
    *,
    config: Mapping[str, Any],
    declared: Sequence[tuple[str, ...]],
    alpha: float,
) -> pd.DataFrame:
    """Rows as the associations table: places, roles, multiplicity, order and types."""
    table = pd.DataFrame(list(rows)).reindex(columns=[*COLUMNS, "detectable"])
    table["label"] = label.name
    table[keys.TIMEPOINT] = "+".join(config["timepoints"])
    table[keys.TISSUE] = np.where(table[keys.MODALITY] == BLOOD, BLOOD, "+".join(config["tissues"]))
    names = pd.Series(list(table[FEATURE].itertuples(index=False, name=None)), index=table.index, dtype=object)
    table["role"] = np.where(names.isin(set(declared)), "confirmatory", "exploratory")
    table["minimal_detectable_effect"] = [
        values[role] if isinstance(values, dict) else math.nan
        for values, role in zip(table["detectable"], table["role"], strict=True)
    ]
    tested = (table["status"] == "tested") & (table["analysis"] == "primary")
    confirmatory = tested & (table["role"] == "confirmatory")
    table.loc[confirmatory, "q"] = statistics.holm(table.loc[confirmatory, "p"].to_numpy(float))
    for _, family in table[tested & ~confirmatory].groupby(FAMILY):
        table.loc[family.index, "q"] = statistics.benjamini_hochberg(family["p"].to_numpy(float))
    text = [name for name in COLUMNS if name not in INTEGERS + FLOATS]
    table = table.sort_values(["role", *FEATURE, "analysis"], kind="stable", ignore_index=True)[COLUMNS]
    return table.fillna(dict.fromkeys(text, "")).astype(
        {**dict.fromkeys(text, object), **dict.fromkeys(INTEGERS, "Int64"), **dict.fromkeys(FLOATS, float)}
    )
