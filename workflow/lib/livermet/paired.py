"""Changes within patients between two timepoints, the pair being the unit.

Which patients have the later tissue is decided by the course of their disease, so a change says what happened in those
who came so far, and nothing of response; no label enters. Differences are taken on the scale on which features are
tested (centred log-ratios for compositions), each patient against himself.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from livermet import keys, refusals, statistics
from livermet.compared import (
    COLUMNS,
    DESIGN_FACTORS,
    FAMILY,
    FEATURE,
    analysis_set,
    is_centred,
    on_tested_scale,
    tested_counts,
    tissue_of,
    typed,
)
from livermet.features import ACTIVITY, BLOOD_MODALITIES, with_blood_apart

logger = logging.getLogger(__name__)

POWER = 0.80
BADGE_BELOW = 5  # pairs below which a result is marked as exploratory
# Tissue that is taken from patients because their disease was controlled, or whose time of taking depends on it.
SELECTED = ("T2_preop", "T3_resection", "T4_postop", "T5_relapse")
BY_DESIGN = "pairs are disease-controlled by design: who progressed before has no later sample"
NO_SPREAD = "the same change in every pair, so it has no size. Lifted by more pairs"
RELATIVE = (
    "the activity of a set is relative to the other patients at the same timepoint, so that a change within a patient "
    "can't be read from it. Lifted by nothing here: see the changes of composition and of states"
)
SEPARATOR = "\x1f"  # between patient and timepoint; no id holds it


def changes(
    features: pd.DataFrame,
    libraries: Sequence[Mapping[str, str]],
    *,
    config: Mapping[str, Any],
    scope: str,
    seed: int,
    earlier_looks: int = 0,
) -> pd.DataFrame:
    """Test every feature for a change between the two timepoints of each declared pair.

    Hypothesis: the differences of a feature within patients are symmetric about 0. Unit: the patient with both
    timepoints. Effect: mean difference (later less earlier) over the standard deviation of the differences, corrected
    for small samples (d_z). p: all sign flips, or random ones (:func:`livermet.statistics.sign_flip_p`). q:
    Benjamini-Hochberg per pair of timepoints, modality and family; all of it is exploratory. In compositional families
    of up to 20 parts changes are taken from their median. What changes between the timepoints beside the patient (the
    way of sampling, chemistry, batch) can't be told from the change, and is named. Not for patients with one timepoint,
    and no comparison of responders.

    Parameters
    ----------
    features
        The long feature table.
    libraries
        Library rows of the scope, with timepoint, tissue, modality, batch, chemistry and method.
    config
        Section ``response``; ``changes`` holds the pairs [earlier, later].
    scope
        Only the cohort is tested.
    seed
        Seed of the sign flips.
    earlier_looks
        Looks at other states of the data that the ledger of looks counts.

    Returns
    -------
    One row per pair of timepoints and feature, with the columns of ``livermet.compared.COLUMNS``: ``n`` counts pairs,
    and ``n_missing`` patients with the feature at one of the timepoints alone.
    """
    alpha = config["alpha"] / config["planned_looks"]
    design = with_blood_apart(_library_table(libraries))
    collected: list[dict[str, Any]] = []
    for earlier, later in config["changes"]:
        table = analysis_set(features, config={**config, "timepoints": [earlier, later]}).reset_index(drop=True)
        refusal = _refusal(config, scope=scope, earlier_looks=earlier_looks)
        n_pairs = {name: _pairs(group, earlier, later) for name, group in table.groupby(FEATURE, sort=True)}
        if refusal:
            rows = [_row(name, n, *refusal) for name, n in n_pairs.items()]
        else:
            rows = [_row(name, n, "F04", RELATIVE) for name, n in n_pairs.items() if name[1] == ACTIVITY]
            pairs = differences(table[table["family"] != ACTIVITY], earlier, later, config=config)
            none = refusals.refuse_few_pairs(0, minimum=config["min_patients_per_arm"])
            unpaired = [
                name for name, n in n_pairs.items() if name[1] != ACTIVITY and name[:2] not in pairs and not n[0]
            ]
            rows += [_row(name, n_pairs[name], "R01", none) for name in unpaired]
            for (modality, family), wide in pairs.items():
                differs = _differing(design, modality, earlier, later, config=config)
                alone = {name: n_pairs[modality, family, name][1] for name in wide}
                found = _test_family(wide, alone, family, differs, later, config=config, alpha=alpha, seed=seed)
                rows += [{keys.MODALITY: modality, "family": family, **row} for row in found]
        places = {"label": f"change {earlier} to {later}", keys.TIMEPOINT: f"{earlier}+{later}"}
        collected += [{**places, **row} for row in rows]
    result = _finish(collected, config=config)
    logger.info("%d changes tested, %d refused", *((result["status"] == name).sum() for name in ("tested", "refused")))
    return result


def _refusal(config: Mapping[str, Any], *, scope: str, earlier_looks: int) -> tuple[str, str] | None:
    looks = {name: config[name] for name in ("look", "planned_looks")}
    reasons = (
        ("R19", refusals.refuse_uncounted(scope=scope, earlier_looks=earlier_looks, **looks)),
        ("R04", refusals.refuse_mixed(timepoints=[], tissues=config["tissues"])),
    )
    return next(((code, reason) for code, reason in reasons if reason), None)


def _pairs(rows: pd.DataFrame, earlier: str, later: str) -> tuple[int, int]:
    """Patients with both timepoints, and with one alone."""
    at = [set(rows.loc[rows[keys.TIMEPOINT] == timepoint, keys.PATIENT]) for timepoint in (earlier, later)]
    return len(at[0] & at[1]), len(at[0] ^ at[1])


def _row(name: Sequence[str], n: tuple[int, int], code: str, reason: str) -> dict[str, Any]:
    refused = {"status": "refused", "refusal_code": code, "refusal_reason": reason}
    return {**dict(zip(FEATURE, name, strict=True)), "n": n[0], "n_missing": n[1], **refused}


def differences(
    features: pd.DataFrame, earlier: str, later: str, *, config: Mapping[str, Any]
) -> dict[tuple[str, str], pd.DataFrame]:
    """Later less earlier on the tested scale, patients x features, by modality and family.

    Parameters
    ----------
    features
        The long feature table.
    earlier, later
        Timepoints.
    config
        Section ``response``. Its filter of features sees the rows of patients with both timepoints, at either.

    Returns
    -------
    A table per modality and family of the patients with both timepoints; missing where one lacks the feature.
    """
    table = analysis_set(features, config={**config, "timepoints": [earlier, later]}).reset_index(drop=True)
    both = table.groupby([keys.PATIENT, *FAMILY])[keys.TIMEPOINT].transform("nunique") == 2
    own = table[both].assign(**{keys.PATIENT: table[keys.PATIENT] + SEPARATOR + table[keys.TIMEPOINT]})
    result = {}
    for name, wide in on_tested_scale(tested_counts(own, config=config)).items():
        wide.index = pd.MultiIndex.from_tuples([tuple(row.split(SEPARATOR)) for row in wide.index])
        result[name] = wide.xs(later, level=1) - wide.xs(earlier, level=1)
    return result


def _test_family(
    wide: pd.DataFrame,
    missing: Mapping[str, int],
    family: str,
    differs: Mapping[str, pd.Series],
    later: str,
    *,
    config: Mapping[str, Any],
    alpha: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of all features of a family; features that are known for the same pairs are tested together."""
    known = wide.notna()
    patterns = known.T.groupby(known.T.apply(lambda row: row.to_numpy().tobytes(), axis=1), sort=True).groups
    rows, draws = [], config["n_permutations"]
    for names in patterns.values():
        block = wide.loc[known[names[0]], list(names)]
        n = len(block)
        smallest = statistics.smallest_sign_flip_p(n, n_permutations=draws)
        few = refusals.refuse_few_pairs(n, minimum=config["min_patients_per_arm"])
        refusal = ("R01", few) if few else ("R02", refusals.refuse_unattainable(smallest, alpha=alpha))
        if refusal[1]:
            for name in block:
                refused = {"status": "refused", "refusal_code": refusal[0], "refusal_reason": refusal[1]}
                rows.append({"feature": name, "n": n, "n_missing": missing[name], **refused})
            continue
        centre_differences = is_centred(family, block.shape[1])
        values = block.to_numpy(float)
        test = statistics.sign_flip_p(values, n_permutations=draws, seed=seed, centre_differences=centre_differences)
        effects = statistics.standardised_mean_change(values, centre_differences=centre_differences)
        detectable = statistics.minimal_detectable_effect(
            variance=effects.variance, df=effects.df, alpha=alpha, power=POWER
        )
        if centre_differences:
            detectable *= statistics.median_factor(block.shape[1], df=effects.df, alpha=alpha, power=POWER)
        common = {
            "n": n,
            "effect_kind": "hedges_dz",
            "p_method": _method(test, block.index, differs, later),
            "adjusted_for": "patient",
            "smallest_attainable_p": smallest,
            "minimal_detectable_effect": detectable,
            "status": "tested",
        }
        for name, effect, low, high, p in zip(block, effects.effect, effects.low, effects.high, test.p, strict=True):
            row = {
                "feature": name,
                "n_missing": missing[name],
                "effect": effect,
                "ci_low": low,
                "ci_high": high,
                "p": p,
            }
            if math.isnan(effect):
                lost = {"status": "refused", "refusal_code": "F03", "refusal_reason": NO_SPREAD}
                rows.append({"feature": name, "n": n, "n_missing": missing[name], **lost})
            else:
                rows.append({**row, **common})
    return rows


def _method(test: statistics.Permutation, pairs: pd.Index, differs: Mapping[str, pd.Series], later: str) -> str:
    how = f"all {test.n_arrangements} sign flips" if test.exact else f"{test.n_arrangements - 1} random sign flips"
    words = [f"{how} of {len(pairs)} pairs"]
    if later in SELECTED:
        words.append(BY_DESIGN)
    if len(pairs) < BADGE_BELOW:
        words.append(f"exploratory only: fewer than {BADGE_BELOW} pairs")
    found = {name: int(values.reindex(pairs).eq(True).sum()) for name, values in differs.items()}
    named = [f"{name} differs in {n} of {len(pairs)} pairs" for name, n in found.items() if n > len(pairs) / 2]
    return "; ".join(words + ([f"not adjusted: {', '.join(named)}"] if named else []))


def _library_table(libraries: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    columns = [keys.PATIENT, keys.MODALITY, keys.TIMEPOINT, keys.TISSUE, *DESIGN_FACTORS]
    return pd.DataFrame([dict(row) for row in libraries], columns=columns, dtype=object).fillna("").astype(str)


def _differing(
    design: pd.DataFrame, modality: str, earlier: str, later: str, *, config: Mapping[str, Any]
) -> dict[str, pd.Series]:
    """For each factor of the design, whether a patient's libraries of both timepoints differ in it."""
    rows = design[(design[keys.MODALITY] == modality) & design[keys.TIMEPOINT].isin([earlier, later])]
    if modality not in BLOOD_MODALITIES:
        rows = rows[rows[keys.TISSUE].isin(config["tissues"])]
    at = [rows[rows[keys.TIMEPOINT] == timepoint].groupby(keys.PATIENT) for timepoint in (earlier, later)]
    result = {}
    for name in DESIGN_FACTORS:
        first, second = (group[name].agg(lambda values: "+".join(sorted(set(values)))) for group in at)
        both = first.index.intersection(second.index)
        result[name] = first.loc[both] != second.loc[both]
    return result


def _finish(rows: Sequence[Mapping[str, Any]], *, config: Mapping[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame(list(rows)).reindex(columns=COLUMNS).assign(role="exploratory", analysis="primary")
    table[keys.TISSUE] = tissue_of(table[keys.MODALITY], config["tissues"])
    for _, family in table[table["status"] == "tested"].groupby(["label", *FAMILY]):
        table.loc[family.index, "q"] = statistics.benjamini_hochberg(family["p"].to_numpy(float))
    return typed(table)
