"""Survival: hazard ratios of features and of facts known at a landmark, and Kaplan-Meier curves; or why there are none.

The patient is the unit of every test. Each feature that the engine of response would test, on the same scale, is
compared with each time to an event that goes with the tissue: Cox models per standard deviation with a baseline hazard
per centre, and without centres beside them, p by permutation of log-rank scores within centre. Features stay
continuous: a cut-point is never sought. What became known only after follow-up began is compared at a landmark
(:mod:`livermet.landmark`), or refused (R07). Everything here is exploratory: Benjamini-Hochberg per endpoint, modality
and family.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from livermet import cox, keys, refusals, statistics
from livermet.catalogue import BEFORE, RESECTION
from livermet.compared import (
    DESIGN_FACTORS,
    FAMILY,
    FEATURE,
    Label,
    analysis_set,
    blocks,
    design_of,
    filter_features,
    is_centred,
    label_numbers,
    read_label,
    sampled_patients,
    tested_values,
    tissue_of,
)
from livermet.landmark import FACTS, GATE, Course, Rules, known_by

logger = logging.getLogger(__name__)

COLUMNS = [
    "endpoint",
    "landmark_day",
    keys.TIMEPOINT,
    keys.TISSUE,
    keys.MODALITY,
    "family",
    "feature",
    "role",
    "analysis",
    "n",
    "n_events",
    "events_per_variable",
    "hazard_ratio",
    "ci_low",
    "ci_high",
    "p",
    "p_method",
    "q",
    "ph_p",
    "method",
    "adjusted_for",
    "status",
    "refusal_code",
    "refusal_reason",
]
INTEGERS = ["landmark_day", "n", "n_events"]
FLOATS = ["events_per_variable", "hazard_ratio", "ci_low", "ci_high", "p", "q", "ph_p"]
CURVE_COLUMNS = ["endpoint", "group", "time", "at_risk", "events", "survival", "ci_low", "ci_high"]
CLINICAL = "clinical"
POST_BASELINE = "post_baseline"
ALL = "all patients"
NO_SPREAD = "no spread among patients at risk together, so the ratio has no size. Lifted by more patients"
PH_BADGE = 0.05  # p of proportional hazards below which the row says that one ratio doesn't describe it


@dataclass(frozen=True)
class Setting:
    """What all comparisons of one run share.

    Attributes
    ----------
    config, response
        Sections ``survival`` and ``response`` of the config.
    goes_with
        By endpoint, the timepoints of the tissue that it may be compared in.
    scope
        Only the cohort is tested.
    seed
        Seed of the permutations.
    earlier_looks
        Looks at other states of the unblinded data that the ledger of looks counts.
    """

    config: Mapping[str, Any]
    response: Mapping[str, Any]
    goes_with: Mapping[str, Sequence[str]]
    scope: str
    seed: int
    earlier_looks: int = 0

    @property
    def alpha(self) -> float:
        return self.response["alpha"] / self.response["planned_looks"]


@dataclass(frozen=True)
class Compared:
    """Patients who are compared by a fact: their status (0 or 1), and time and event from the landmark on."""

    landmark: int
    status: pd.Series
    time: pd.Series
    event: pd.Series
    among: str = ""


def compare_survival(
    features: pd.DataFrame,
    labels: pd.DataFrame,
    patients: pd.DataFrame,
    course: Course,
    *,
    setting: Setting,
    rules: Rules,
) -> pd.DataFrame:
    """Every feature and every fact against each endpoint, or a refusal with its reason.

    Hypothesis: among patients of one centre, the hazard doesn't depend on the feature. Unit: the patient. Assumptions:
    censoring says nothing of the event, given the centre, and does not go with the feature; the hazard ratio is
    constant (tested by Grambsch and Therneau, ``ph_p``). Not for features measured after follow-up began.

    Parameters
    ----------
    features
        The long feature table.
    labels
        Derived labels: patient_id, label, kind, value (days for an endpoint), event, source, reason.
    patients
        As made by :func:`livermet.compared.patient_design`, or just patient_id and centre.
    course
        As made by :func:`livermet.landmark.read_course`.
    setting
        Config, scope and seed.
    rules
        The trial's rules on when something was known.

    Returns
    -------
    One row per endpoint, feature and analysis, with the columns of ``COLUMNS``. ``hazard_ratio`` is per standard
    deviation of a feature among the patients compared, or of patients with a fact against those without (``method``
    says which). ``events_per_variable`` counts events at which somebody else of the centre was at risk: the others say
    nothing. A fact has the day of its landmark; 0 for a time from surgery.
    """
    table = analysis_set(features, config=setting.response)
    rows = []
    for name in setting.config["endpoints"]:
        endpoint = read_label(labels, name)
        if refusal := _endpoint_refusal(endpoint, setting):
            found = _refused_features(table, endpoint, refusal, setting)
        else:
            found = _feature_rows(table, endpoint, patients, setting)
        rows += [{"endpoint": name, **row} for row in found]
        facts = _fact_rows(endpoint, labels, patients, course, setting=setting, rules=rules)
        rows += [{"endpoint": name, keys.MODALITY: CLINICAL, "family": POST_BASELINE, **row} for row in facts]
    result = _finish(rows, setting)
    logger.info(
        "scope %s: %d endpoints, %d hazard ratios, %d refused",
        setting.scope,
        len(setting.config["endpoints"]),
        int((result["status"] == "tested").sum()),
        int((result["status"] == "refused").sum()),
    )
    return result


def survival_curves(
    labels: pd.DataFrame, patients: pd.DataFrame, course: Course, *, setting: Setting, rules: Rules
) -> pd.DataFrame:
    """Kaplan-Meier curves of each endpoint: all patients, and the classes of a binary primary label from a landmark on.

    Only where the comparison of the classes is not refused are they drawn apart; in the scope of a batch there are no
    curves. Days count from the endpoint's own origin, so the curves of the classes begin at the landmark.

    Parameters
    ----------
    labels, patients, course, setting, rules
        As for :func:`compare_survival`.

    Returns
    -------
    One row per endpoint, group and day on which somebody had an event or was last seen, and one at the start, with
    ``CURVE_COLUMNS``. The interval is pointwise, 95 %, on the scale log(-log).
    """
    parts = [pd.DataFrame(columns=CURVE_COLUMNS)]
    if setting.scope != refusals.COHORT:
        return parts[0]
    for name in setting.config["endpoints"]:
        endpoint = read_label(labels, name)
        groups = {ALL: (0, endpoint.numbers, endpoint.events)} if endpoint.survival and len(endpoint.numbers) else {}
        for label, compared in _facts(endpoint, labels, patients, course, setting=setting, rules=rules):
            if label.name == setting.response["primary_label"] and isinstance(compared, Compared):
                for value, word in ((1, "yes"), (0, "no")):
                    own = compared.status.index[compared.status == value]
                    groups[f"{label.name}: {word}"] = compared.landmark, compared.time[own], compared.event[own]
        for group, (start, time, event) in groups.items():
            curve = cox.kaplan_meier(time.to_numpy(), event.to_numpy())
            columns = {"endpoint": name, "group": group, "time": curve.time + start, "at_risk": curve.at_risk}
            bounds = {"survival": curve.survival, "ci_low": curve.low, "ci_high": curve.high}
            parts.append(pd.DataFrame(columns | {"events": curve.events} | bounds)[CURVE_COLUMNS])
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


# ----------------------------------------------------------------------------------------------------------- features


def _endpoint_refusal(endpoint: Label, setting: Setting) -> tuple[str, str] | None:
    """The first refusal that concerns every feature, if any."""
    response = setting.response
    goes_with = setting.goes_with[endpoint.name]
    code, later = "R07", refusals.refuse_later_tissue
    if not set(BEFORE) & set(goes_with):
        code, later = "R17", refusals.refuse_timepoint
    reasons = [
        *_general_refusals(endpoint, setting),
        ("R04", refusals.refuse_mixed(timepoints=response["timepoints"], tissues=response["tissues"])),
        (code, later(endpoint.name, timepoints=response["timepoints"], goes_with=goes_with)),
    ]
    return next(((code, reason) for code, reason in reasons if reason), None)


def _general_refusals(endpoint: Label, setting: Setting) -> list[tuple[str, str]]:
    looks = {name: setting.response[name] for name in ("look", "planned_looks")}
    undefined = "" if endpoint.survival else f"no patient has a value of {endpoint.name}. Lifted by outcome.tsv"
    return [
        ("R19", refusals.refuse_uncounted(scope=setting.scope, earlier_looks=setting.earlier_looks, **looks)),
        ("R06", undefined or refusals.refuse_undefined(endpoint.name, endpoint.numbers.to_numpy())),
    ]


def refuse_few_events(n: int, n_events: int, *, min_patients: int, min_events: int, where: str = "") -> str:
    """R01: too few patients, or too few events that say anything."""
    if n >= min_patients and n_events >= min_events:
        return ""
    return (
        f"{n} patients{where} with {n_events} events at which others were at risk, where {min_patients} and "
        f"{min_events} are needed. Lifted by more patients or longer follow-up"
    )


def _refused_features(
    table: pd.DataFrame, endpoint: Label, refusal: tuple[str, str], setting: Setting
) -> list[dict[str, Any]]:
    kept = filter_features(table, config=setting.response)
    kept = kept.loc[kept["reason"] == "", FEATURE]
    groups = table.merge(kept, on=FEATURE, how="inner").groupby(FEATURE, sort=True)[keys.PATIENT]
    return [
        {**dict(zip(FEATURE, name, strict=True)), **_counts(endpoint, ids.unique()), **_refused(*refusal)}
        for name, ids in groups
    ]


def _feature_rows(
    table: pd.DataFrame, endpoint: Label, patients: pd.DataFrame, setting: Setting
) -> list[dict[str, Any]]:
    rows = []
    for (modality, family), values in tested_values(table, config=setting.response).items():
        measured = set(table.loc[table[keys.MODALITY] == modality, keys.PATIENT])
        found = _family_rows(
            values,
            endpoint,
            patients,
            sampled=sampled_patients(patients, table, modality),
            measured=measured,
            family=family,
            modality=modality,
            setting=setting,
        )
        rows += [{keys.MODALITY: modality, "family": family, **row} for row in found]
    return rows


def _family_rows(
    values: pd.DataFrame,
    endpoint: Label,
    patients: pd.DataFrame,
    *,
    sampled: set[str],
    measured: set[str],
    family: str,
    modality: str,
    setting: Setting,
) -> list[dict[str, Any]]:
    """Rows of all features of a family; features that are known for the same patients are tested together."""
    sampled = sorted(sampled & set(endpoint.numbers.index))
    scores = label_numbers(endpoint, pd.Index(sampled), np.zeros(len(sampled), int))
    selective = refusals.refuse_selective(scores, np.isin(sampled, list(measured)), modality=modality, binary=False)
    rows = []
    for block in blocks(values, endpoint):
        design = design_of(patients, block.index, modality)
        time, event = (part.reindex(block.index).to_numpy() for part in (endpoint.numbers, endpoint.events))
        centre = design[keys.CENTRE].to_numpy(str)
        factors = {name: design[name].to_numpy(str) for name in DESIGN_FACTORS if name in design}
        found = (
            _refuse_small(time, event, np.zeros(len(block), int), setting)
            or _refusal("R18", selective)
            or _refusal("R18", refusals.refuse_missing(len(sampled), len(block)))
            or _refuse_design(time, event, centre, factors, setting)
        )
        if found:
            n = _counts(endpoint, block.index)
            rows += [{"feature": name, **n, **_refused(*found)} for name in block]
            continue
        scores = cox.log_rank_scores(time, event)
        rows += _tested(
            block,
            time,
            event,
            centre,
            centred=is_centred(family, block.shape[1]),
            unit="per SD",
            imbalance=refusals.imbalance(scores, factors),
            setting=setting,
        )
    return rows


def _refusal(code: str, reason: str) -> tuple[str, str] | None:
    return (code, reason) if reason else None


def _refuse_small(
    time: np.ndarray, event: np.ndarray, strata: np.ndarray, setting: Setting, where: str = ""
) -> tuple[str, str] | None:
    """R01 by the events at which another patient of the stratum was at risk."""
    reason = refuse_few_events(
        len(time),
        cox.informative_events(time, event, strata=strata),
        min_patients=2 * setting.response["min_patients_per_arm"],
        min_events=setting.config["min_events"],
        where=where,
    )
    return _refusal("R01", reason)


def _refuse_design(
    time: np.ndarray, event: np.ndarray, centre: np.ndarray, factors: Mapping[str, np.ndarray], setting: Setting
) -> tuple[str, str] | None:
    """R05, R01 within centres, R02."""
    if confounded := refusals.refuse_confounded(cox.log_rank_scores(time, event), centre, factors):
        return "R05", confounded
    if small := _refuse_small(time, event, centre, setting, where=" within centres"):
        return small
    scores = cox.log_rank_scores(time, event, strata=centre)
    smallest = statistics.smallest_attainable_p(scores, centre, n_permutations=setting.config["n_permutations"])
    return _refusal("R02", refusals.refuse_unattainable(smallest, alpha=setting.alpha))


def _tested(
    block: pd.DataFrame,
    time: np.ndarray,
    event: np.ndarray,
    centre: np.ndarray,
    *,
    centred: bool,
    unit: str,
    imbalance: str,
    setting: Setting,
    among: str = "",
) -> list[dict[str, Any]]:
    """Rows of the features in ``block`` (patients x features), adjusted for centre and not."""
    one = np.zeros(len(block), int)
    several = len(np.unique(centre)) > 1
    analyses = [("primary", centre if several else one, "centre" if several else "")]
    if several:
        analyses.append(("sensitivity", one, ""))
    values = block.to_numpy(float)
    # A fact is compared between those with it and without it, so its hazard ratio is not per standard deviation.
    spread = np.ones(values.shape[1]) if unit == "per SD" else values.std(axis=0, ddof=1)
    rows = []
    for analysis, strata, adjusted in analyses:
        scores = cox.log_rank_scores(time, event, strata=strata)
        permute = {"n_permutations": setting.config["n_permutations"], "seed": setting.seed}
        if unit == "per SD":
            test = statistics.permutation_p(values, scores, strata, centre_differences=centred, **permute)
        else:
            test = statistics.permutation_p(scores[:, None], values[:, 0], strata, **permute)
        models = cox.per_sd(values, time, event, strata=strata)
        effects = models
        if centred:
            effects = statistics.log_hazard_ratio(values, time, event, strata, centre_differences=True)
        n_events = cox.informative_events(time, event, strata=strata)
        common = {
            "analysis": analysis,
            "n": len(block),
            "n_events": int(event.sum()),
            "events_per_variable": float(n_events),
            "p_method": _p_method(test, adjusted, n_events, imbalance),
            "adjusted_for": "; ".join(part for part in (adjusted, among) if part),
            "status": "tested",
        }
        ratios = [np.exp(column / spread) for column in (effects.effect, effects.low, effects.high)]
        for place, name in enumerate(block):
            row = {"feature": name, **common, "p": test.p[place], "ph_p": models.ph_p[place]}
            row |= {
                key: column[place] for key, column in zip(("hazard_ratio", "ci_low", "ci_high"), ratios, strict=True)
            }
            row["method"] = f"{models.method[place]} {unit}"
            if models.ph_p[place] < PH_BADGE:
                row["p_method"] += "; hazards not proportional: the ratio is an average over time"
            if math.isnan(row["hazard_ratio"]):
                if analysis == "primary":
                    counts = {key: common[key] for key in ("n", "n_events")}
                    rows.append({"feature": name, **counts, **_refused("F03", NO_SPREAD)})
                continue
            rows.append(row)
    return rows


def _p_method(test: statistics.Permutation, adjusted: str, n_events: int, imbalance: str) -> str:
    within = f"within {adjusted}" if adjusted else "over all patients"
    how = f"all {test.n_arrangements} arrangements" if test.exact else f"{test.n_arrangements - 1} permutations"
    few = f"; exploratory only: fewer than {cox.MIN_EVENTS} events" if n_events < cox.MIN_EVENTS else ""
    return f"{how} of log-rank scores {within}{few}" + (f"; not adjusted: {imbalance}" if imbalance else "")


# -------------------------------------------------------------------------------------------------------------- facts


def _facts(
    endpoint: Label, labels: pd.DataFrame, patients: pd.DataFrame, course: Course, *, setting: Setting, rules: Rules
) -> Iterator[tuple[Label, Compared | tuple[str, str]]]:
    """Facts known only later, each with the patients to compare or a refusal."""
    names = dict.fromkeys([*FACTS, setting.response["primary_label"]])
    for name in names:
        label = read_label(labels, name)
        if label.binary and len(label.numbers):
            yield label, _compared(endpoint, label, labels, patients, course, setting=setting, rules=rules)


def _compared(
    endpoint: Label,
    label: Label,
    labels: pd.DataFrame,
    patients: pd.DataFrame,
    course: Course,
    *,
    setting: Setting,
    rules: Rules,
) -> Compared | tuple[str, str]:
    """The patients to compare by one fact, or code and reason of a refusal."""
    if found := next(((code, reason) for code, reason in _general_refusals(endpoint, setting) if reason), None):
        return found
    from_surgery = set(setting.goes_with[endpoint.name]) == set(RESECTION)
    landmark = 0 if from_surgery else setting.config["landmark_days"]
    if not from_surgery and not landmark:
        return "R07", (
            f"{label.name} is known only after follow-up began: the time until then would count as survival of those "
            f"who have it. Lifted by landmark_days under survival"
        )
    if label.name == "resected" and from_surgery:
        return (
            "R07",
            f"{endpoint.name} counts from surgery, which all its patients had. Lifted by a time from enrolment",
        )
    time, event = endpoint.numbers, endpoint.events
    at_risk = time.index[time > landmark]
    cutoff = course.days["surgery"].reindex(at_risk) if from_surgery else pd.Series(float(landmark), index=at_risk)
    status, undated = known_by(label, course, cutoff, rules=rules, from_surgery=from_surgery)
    among = ""
    if label.name == "resected":
        gate, open_gate = known_by(read_label(labels, GATE), course, cutoff, rules=rules)
        undated = undated or open_gate
        # Whose disease was not controlled could not be operated on: they would compare response, not surgery.
        status = status[status.index.isin(gate.index[gate == 1])]
        among = f"among patients with {GATE} by then"
    if undated:
        return "R07", undated
    status = status.dropna()
    compared = Compared(landmark, status, time[status.index] - landmark, event[status.index], among)
    return _refuse_fact(compared, patients, setting) or compared


def _refuse_fact(compared: Compared, patients: pd.DataFrame, setting: Setting) -> tuple[str, str] | None:
    status, time, event = (part.to_numpy() for part in (compared.status, compared.time, compared.event))
    centre = design_of(patients, compared.status.index, CLINICAL)[keys.CENTRE].to_numpy(str)
    arms = {"minimum": setting.response["min_patients_per_arm"], "binary": True}
    where = f" at risk on day {compared.landmark}" if compared.landmark else ""
    if small := refusals.refuse_small_arms(int((status == 0).sum()), int((status == 1).sum()), **arms, where=where):
        return "R01", small
    if confounded := refusals.refuse_confounded(status, centre, {}):
        return "R05", confounded
    if small := _refuse_small(time, event, centre, setting, where=f"{where} within centres"):
        return small
    smallest = statistics.smallest_attainable_p(status, centre, n_permutations=setting.config["n_permutations"])
    return _refusal("R02", refusals.refuse_unattainable(smallest, alpha=setting.alpha))


def _fact_rows(
    endpoint: Label, labels: pd.DataFrame, patients: pd.DataFrame, course: Course, *, setting: Setting, rules: Rules
) -> list[dict[str, Any]]:
    rows = []
    for label, compared in _facts(endpoint, labels, patients, course, setting=setting, rules=rules):
        if isinstance(compared, tuple):
            n = _counts(endpoint, label.numbers.index)
            rows.append({"feature": label.name, **n, **_refused(*compared)})
            continue
        found = _tested(
            compared.status.to_frame(label.name),
            compared.time.to_numpy(),
            compared.event.to_numpy(),
            design_of(patients, compared.status.index, CLINICAL)[keys.CENTRE].to_numpy(str),
            centred=False,
            unit="yes against no",
            imbalance="",
            setting=setting,
            among=compared.among,
        )
        rows += [{"landmark_day": compared.landmark, **row} for row in found]
    return rows


# -------------------------------------------------------------------------------------------------------------- table


def _counts(endpoint: Label, patients: Sequence[str]) -> dict[str, Any]:
    """Patients with the endpoint among these, and their events."""
    known = endpoint.numbers.index.intersection(patients)
    events = 0 if endpoint.events is None else int(endpoint.events[known].sum())
    return {"n": len(known), "n_events": events}


def _refused(code: str, reason: str) -> dict[str, str]:
    return {"analysis": "primary", "status": "refused", "refusal_code": code, "refusal_reason": reason}


def _finish(rows: Sequence[Mapping[str, Any]], setting: Setting) -> pd.DataFrame:
    """Rows as the table of survival: places, multiplicity, order and types."""
    table = pd.DataFrame(list(rows)).reindex(columns=COLUMNS)
    clinical = table[keys.MODALITY] == CLINICAL
    table[keys.TIMEPOINT] = "+".join(setting.response["timepoints"])
    table[keys.TISSUE] = tissue_of(table[keys.MODALITY], setting.response["tissues"])
    table.loc[clinical, [keys.TIMEPOINT, keys.TISSUE]] = ""
    table["role"] = "exploratory"
    tested = (table["status"] == "tested") & (table["analysis"] == "primary")
    for _, family in table[tested].groupby(["endpoint", *FAMILY]):
        table.loc[family.index, "q"] = statistics.benjamini_hochberg(family["p"].to_numpy(float))
    text = [name for name in COLUMNS if name not in INTEGERS + FLOATS]
    place = {name: i for i, name in enumerate(setting.config["endpoints"])}
    table = table.assign(place=table["endpoint"].map(place)).sort_values(["place", *FEATURE, "analysis"], kind="stable")
    return (
        table[COLUMNS]
        .fillna(dict.fromkeys(text, ""))
        .astype({**dict.fromkeys(text, object), **dict.fromkeys(INTEGERS, "Int64"), **dict.fromkeys(FLOATS, float)})
        .reset_index(drop=True)
    )
