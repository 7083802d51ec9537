"""What a study could detect, from its tables as they stand: before labels are known, before anything is measured.

Who has which library, and where, is all that is needed. Values of features are neither read nor shown. With labels the
classes are counted; without them a rate is assumed, and classes are spread over the centres as evenly as it allows.

Powers are those of a two-sided t test on normal values of equal spread, adjusted for centre; the studentised
permutation test of the workflow comes close to it (Janssen 1997). A rank test keeps 3 / pi, about 95 %, of its
patients' worth (Pitman efficiency).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from livermet import keys, refusals, statistics
from livermet.blood import TIMEPOINTS as BLOOD_TIMEPOINTS
from livermet.blood import WINDOWS
from livermet.course import patient_course

if TYPE_CHECKING:
    from livermet.study import StudyData

POWER = 0.80
# Objective response to the usual regimens: 31.6 % (Conroy et al. 2011), 29 % (Von Hoff et al. 2013).
RATE = 0.33
DIFFERENCES = (0.5, 0.8, 1.0, 1.25)  # standardised differences whose power is shown
CORRELATIONS = (0.3, 0.4, 0.5, 0.6)
HAZARD_RATIOS = (1.5, 2.0, 2.5, 3.0)
FAMILY_SIZE = 20  # features of the exploratory family that is reckoned with
BLOOD = "blood"
PBMC = "blood_pbmc"
FACTORS = ("batch", "chemistry", "method")
N_DRAWS = 200  # draws of labels behind the chance of a refusal
PLACE = [keys.MODALITY, keys.TIMEPOINT, keys.TISSUE]


@dataclass(frozen=True)
class Design:
    """Patients of one comparison: the value of the label (known or expected) and the centre of each.

    ``known`` says whether the values are those of the study or follow from an assumed rate.
    """

    label: np.ndarray
    centre: np.ndarray
    known: bool

    @property
    def classes(self) -> tuple[int, int]:
        """Patients with value 0 and with value 1."""
        return int((self.label == 0).sum()), int((self.label == 1).sum())


# ------------------------------------------------------------------------------------------------ who has which data


def measured(data: StudyData, *, windows: Mapping[str, Sequence[int]]) -> pd.DataFrame:
    """Patients who have a library or a blood sample, by modality, timepoint and tissue.

    Parameters
    ----------
    data
        The study as read; its raw files need not exist.
    windows
        The trial's, by which the day of a blood sample becomes a timepoint.

    Returns
    -------
    One row per patient and place: modality, timepoint, tissue, patient_id, centre, batch, chemistry and method (joined
    by "+" where the patient's libraries differ; "" of blood).
    """
    columns = [*PLACE, keys.PATIENT, keys.CENTRE, *FACTORS]
    rows = [{name: row[name] for name in columns} for row in data.library_rows.values()]
    rows += [dict(zip(PLACE, place, strict=True), **row) for place, row in _blood(data, windows)]
    table = pd.DataFrame(rows, columns=columns, dtype=object).fillna("")
    groups = table.groupby([*PLACE, keys.PATIENT, keys.CENTRE], sort=True)[list(FACTORS)]
    return groups.agg(lambda values: "+".join(sorted(set(map(str, values))))).reset_index()


def _blood(
    data: StudyData, windows: Mapping[str, Sequence[int]]
) -> Iterable[tuple[tuple[str, str, str], dict[str, str]]]:
    """Timepoints at which each patient has a draw, by the day alone."""
    tables, who = data.tables, (keys.PATIENT, keys.CENTRE)
    for patient in tables["patients"].rows:
        own = {
            name: [row for row in tables[name].rows if row[keys.PATIENT] == patient[keys.PATIENT]]
            for name in ("blood", "treatment", "local_treatment")
        }
        course = patient_course(own["treatment"], own["local_treatment"])
        surgery = None if course.surgery is None else course.surgery["day"]
        for name, (first, last) in {**WINDOWS, **windows}.items():
            anchor = surgery if name.endswith("surgery") else course.start or 0
            days = [] if anchor is None else [row["day"] - anchor for row in own["blood"] if row["day"] is not None]
            if name in BLOOD_TIMEPOINTS and any(first <= day <= last for day in days):
                yield (BLOOD, BLOOD_TIMEPOINTS[name], BLOOD), {column: patient[column] for column in who}


def is_compared(place: Mapping[str, str], config: Mapping[str, Any]) -> bool:
    """Whether the workflow compares this place: its timepoint, and its tissue or blood (section ``response``)."""
    tissue = place[keys.TISSUE] in (*config["tissues"], PBMC, BLOOD)
    return place[keys.TIMEPOINT] in config["timepoints"] and tissue


# ------------------------------------------------------------------------------------------- who would be in a class


def apportion(weights: Sequence[float], total: int) -> list[int]:
    """Whole numbers in proportion to weights that sum to ``total`` (largest remainders; ties to the first)."""
    scale = sum(weights)
    exact = [total * weight / scale if scale else 0.0 for weight in weights]
    counts = [math.floor(value) for value in exact]
    order = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for i in order[: max(0, total - sum(counts)) if scale else 0]:
        counts[i] += 1
    return counts


def expected_design(centres: Sequence[str], *, rate: float, n: int | None = None) -> Design:
    """A design with the share ``rate`` of responders in each centre, as nearly as whole patients allow.

    Parameters
    ----------
    centres
        Centre of each patient who is there.
    rate
        Share of responders.
    n
        Patients in all; more or fewer than there are keep the shares of the centres. None: those who are there.
    """
    names, sizes = np.unique(np.asarray(list(centres) or ["planned"], dtype=str), return_counts=True)
    n = len(centres) if n is None else n
    sizes = apportion(sizes.tolist(), n)
    responders = apportion(sizes, round(rate * n))
    label: list[float] = []
    for size, with_response in zip(sizes, responders, strict=True):
        label += [1.0] * with_response + [0.0] * (size - with_response)
    return Design(np.array(label), np.repeat(names, sizes), known=False)


# ------------------------------------------------------------------------------------------------------------- power


def precision(label: np.ndarray, strata: np.ndarray) -> tuple[float, int]:
    """Variance of a stratum-adjusted difference in units of the residual variance, and residual degrees of freedom."""
    if not len(label):
        return math.nan, 0
    total = float((statistics.centred(np.asarray(label, float)[:, None], strata) ** 2).sum())
    return (1 / total if total > 0 else math.nan), len(label) - len(np.unique(strata)) - 1


def power_of_difference(difference: float, *, variance: float, df: int, alpha: float) -> float:
    """Power of a two-sided t test for a standardised difference (noncentral t distribution).

    Parameters
    ----------
    difference
        Cohen's d.
    variance, df
        As :func:`precision` returns them (1/n1 + 1/n2 and n - 2 without strata).
    alpha
        Level of the test.
    """
    if df < 1 or not variance > 0:
        return math.nan
    critical, ncp = stats.t.isf(alpha / 2, df), difference / math.sqrt(variance)
    # Far from zero scipy gives no number for the other tail, which is 0 there.
    return float(1 - special.nctdtr(df, ncp, critical) + np.nan_to_num(special.nctdtr(df, ncp, -critical)))


def power_of_correlation(correlation: float, *, df: int, alpha: float) -> float:
    """Power of a two-sided test of a rank correlation within strata, by Fisher's z.

    The variance is that of Bonett and Wright (2000). ``df`` is patients less strata less 1, as
    :func:`livermet.statistics.rank_correlation` returns it.
    """
    if df < 4:
        return math.nan
    shift = math.atanh(correlation) / math.sqrt((1 + correlation**2 / 2) / (df - 1))
    critical = stats.norm.isf(alpha / 2)
    return float(stats.norm.sf(critical - shift) + stats.norm.cdf(-critical - shift))


def power_of_hazard_ratio(hazard_ratio: float, *, events: int, alpha: float) -> float:
    """Power of a two-sided test of a hazard ratio per standard deviation (Hsieh and Lavori 2000)."""
    shift, critical = abs(math.log(hazard_ratio)) * math.sqrt(events), stats.norm.isf(alpha / 2)
    return float(stats.norm.sf(critical - shift) + stats.norm.cdf(-critical - shift))


def detectable_hazard_ratio(events: int, *, alpha: float) -> float:
    """Smallest hazard ratio per standard deviation, above 1, that so many events show with 80 % power."""
    if not events:
        return math.nan
    return math.exp(statistics.minimal_detectable_hazard(variance=1 / events, alpha=alpha, power=POWER))


def detectable_difference(*, variance: float, df: int, alpha: float) -> float:
    """Smallest standardised difference found with 80 % power; NaN without residual degrees of freedom."""
    if df < 1 or not variance > 0:
        return math.nan

    def excess(difference: float) -> float:
        return power_of_difference(difference, variance=variance, df=df, alpha=alpha) - POWER

    upper = 1.0
    while excess(upper) < 0:
        upper *= 1.5
    return float(optimize.brentq(excess, 0, upper))


def events_needed(hazard_ratio: float, *, alpha: float, share: float | None = None) -> int:
    """Events that a proportional-hazards comparison needs for 80 % power.

    Two groups (Schoenfeld 1981): (z_alpha/2 + z_power)^2 / (share (1 - share) log(HR)^2). For a feature in units of its
    standard deviation the variance of the covariate, 1, stands in place of share (1 - share) (Hsieh and Lavori 2000).

    Parameters
    ----------
    hazard_ratio
        Between the groups, or per standard deviation.
    alpha
        Two-sided level.
    share
        Share of patients in one of two groups; None for a feature per standard deviation.
    """
    variance = 1.0 if share is None else share * (1 - share)
    z = stats.norm.isf(alpha / 2) + stats.norm.ppf(POWER)
    return math.ceil(z**2 / (variance * math.log(hazard_ratio) ** 2))


def model_size(n_candidates: int, *, rate: float, r2: float | None = None) -> int:
    """Patients that a model of a binary label needs, by the largest of three criteria of Riley et al. 2020.

    Estimates shrunk by at most 10 %, an optimism of at most .05 in Nagelkerke's R2, and the overall rate known to
    within .05 (BMJ 368:m441, steps 1, 3 and 4).

    Parameters
    ----------
    n_candidates
        Candidate parameters, tuned or not.
    rate
        Share of patients with the label, above 0 and below 1.
    r2
        Cox and Snell's R2 that is expected; None for 15 % of its maximum, the advice where nothing is known.
    """
    highest = 1 - math.exp(2 * (rate * math.log(rate) + (1 - rate) * math.log(1 - rate)))
    expected = 0.15 * highest if r2 is None else r2
    shrinkages = (0.9, expected / (expected + 0.05 * highest))
    sizes = [n_candidates / ((s - 1) * math.log(1 - expected / s)) for s in shrinkages]
    return math.ceil(max(*sizes, (stats.norm.isf(0.025) / 0.05) ** 2 * rate * (1 - rate)))


def levels(config: Mapping[str, Any]) -> dict[str, float]:
    """Levels that a p-value has to reach: alone, first among the declared features, first of an exploratory family.

    ``exploratory`` is the false discovery rate over the size of the family: what the smallest of so many p must reach
    under Benjamini-Hochberg where no other feature differs. Where others do, it is less strict.
    """
    alpha = config["alpha"] / config["planned_looks"]
    return {
        "single": alpha,
        "confirmatory": alpha / max(1, len(config["confirmatory"])),
        "exploratory": config["fdr"] / FAMILY_SIZE,
    }


# ---------------------------------------------------------------------------------------------------------- refusals


def design_refusals(
    design: Design, factors: Mapping[str, np.ndarray], *, binary: bool, config: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Code and reason of the first refusal that a design calls for (R01, R05, R02), as the tests refuse it.

    Which factor would go with labels that are not known can't be said: then R05 is left out.

    Parameters
    ----------
    design, factors
        Label and centre, and batch, chemistry and method of each patient.
    binary
        Whether the label has two classes.
    config
        Section ``response``.
    """
    label, centre = design.label, design.centre
    options = {"minimum": config["min_patients_per_arm"], "binary": binary}
    if reason := refusals.refuse_small_arms(*_arms(label, binary), **options):
        return [("R01", reason)]
    if design.known:
        if reason := refusals.refuse_confounded(label, centre, factors):
            return [("R05", reason)]
        both = np.isin(centre, [level for level in np.unique(centre) if len(np.unique(label[centre == level])) > 1])
        where = " in centres that hold both classes"
        if reason := refusals.refuse_small_arms(*_arms(label[both], binary), **options, where=where):
            return [("R01", reason)]
    reason = refusals.refuse_unattainable(_smallest_p(design, config), alpha=levels(config)["single"])
    return [("R02", reason)] if reason else []


def _arms(label: np.ndarray, binary: bool) -> tuple[int, int]:
    """Patients with value 0 and 1; without classes, those with the most frequent value and all others."""
    if binary:
        return int((label == 0).sum()), int((label == 1).sum())
    most = int(np.unique(label, return_counts=True)[1].max()) if len(label) else 0
    return most, len(label) - most


def _smallest_p(design: Design, config: Mapping[str, Any]) -> float:
    if not len(design.label):
        return math.nan
    return statistics.smallest_attainable_p(design.label, design.centre, n_permutations=config["n_permutations"])


def chance_of_refusal(centre: np.ndarray, *, rate: float, config: Mapping[str, Any], seed: int) -> dict[str, float]:
    """How often each refusal would fire if response had nothing to do with the centre.

    Labels are drawn ``N_DRAWS`` times, each patient being a responder with probability ``rate``.

    Returns
    -------
    Share of the draws by code, and under "any" the share in which at least one fires.
    """
    generator = np.random.default_rng(seed)
    counts = dict.fromkeys(("R01", "R05", "R02"), 0)
    for _ in range(N_DRAWS):
        label = (generator.random(len(centre)) < rate).astype(float)
        for code, _ in design_refusals(Design(label, centre, known=True), {}, binary=True, config=config):
            counts[code] += 1
    shares = {code: n / N_DRAWS for code, n in counts.items()}
    return shares | {"any": sum(counts.values()) / N_DRAWS}


def table_refusals(config: Mapping[str, Any], *, goes_with: Sequence[str]) -> list[tuple[str, str]]:
    """Refusals that the config alone calls for (R04, R17, R19)."""
    looks = {"look": config["look"], "planned_looks": config["planned_looks"]}
    label, timepoints = config["primary_label"], config["timepoints"]
    reasons = [
        ("R19", refusals.refuse_uncounted(scope=refusals.COHORT, **looks)),
        ("R04", refusals.refuse_mixed(timepoints=timepoints, tissues=config["tissues"])),
        ("R17", refusals.refuse_timepoint(label, timepoints=timepoints, goes_with=goes_with)),
    ]
    return [(code, reason) for code, reason in reasons if reason]


# --------------------------------------------------------------------------------------------------------- the table


def power_table(
    places: pd.DataFrame,
    values: pd.Series | None,
    *,
    kind: str,
    config: Mapping[str, Any],
    n_enrolled: int,
    rate: float,
    plan: int | None,
    seed: int,
) -> pd.DataFrame:
    """What could be found at each place: one row per modality, timepoint and tissue.

    Parameters
    ----------
    places
        As made by :func:`measured`.
    values
        The primary label by patient, or None where labels are not known.
    kind
        Its kind: binary, ordinal, continuous or survival (of which ``values`` are the events, 1 or 0).
    config
        Section ``response``.
    n_enrolled
        Patients of the study as it stands.
    rate
        Share of responders (of events, for a time to event) where labels are not known, and with a plan.
    plan
        Patients who are to be enrolled in all; each place then has its present share of them. None: the study as it is.
    seed
        Of the draws behind the chance of a refusal.

    Returns
    -------
    The place, compared (yes or no), basis ("labels" or "assumed rate"), n_patients with such data, n of them in the
    comparison, n_alt and n_ref (binary) or n_events (survival), centres, smallest_p; detectable_single, _confirmatory
    and _exploratory (standardised difference, rank correlation or hazard ratio per SD at 80 % power); power at the
    effects of ``effect_sizes`` by a single test, as power_<effect>; refusals in words, and chance_refused.
    """
    rows = []
    groups = list(places.groupby(PLACE, sort=True))
    if plan is not None and not any(is_compared(dict(zip(PLACE, name, strict=True)), config) for name, _ in groups):
        # Nothing was taken yet: a planned study is one in which everyone has what is to be compared.
        name = ("any", "+".join(config["timepoints"]), "+".join(config["tissues"]))
        groups.append((name, places.iloc[:0].assign(planned=True)))
    for name, members in groups:
        place = dict(zip(PLACE, name, strict=True))
        n = len(members)
        if plan is not None:
            n = plan if members.empty else round(plan * len(members) / n_enrolled)
        known = None if plan is not None or values is None else values.reindex(members[keys.PATIENT]).dropna()
        design, factors = _design(members, known, n=n, rate=rate)
        row = {
            **place,
            "compared": "yes" if name[0] == "any" or is_compared(place, config) else "no",
            "basis": "labels" if design.known else "assumed rate",
            "n_patients": n,
            "n": len(design.label),
            "centres": len(np.unique(design.centre)),
        }
        measure = {"binary": _binary_row, "survival": _survival_row}.get(kind, _rank_row)
        rows.append(row | measure(design, factors, config=config, rate=rate, seed=seed))
    return pd.DataFrame(rows)


def effect_sizes(kind: str) -> tuple[float, ...]:
    """Effects whose power is shown: standardised differences, rank correlations, or hazard ratios per SD."""
    return {"binary": DIFFERENCES, "survival": HAZARD_RATIOS}.get(kind, CORRELATIONS)


def _design(
    members: pd.DataFrame, known: pd.Series | None, *, n: int, rate: float
) -> tuple[Design, dict[str, np.ndarray]]:
    if known is None:
        return expected_design(members[keys.CENTRE].tolist(), rate=rate, n=n), {}
    there = members.set_index(keys.PATIENT).loc[known.index]
    factors = {name: there[name].to_numpy(str) for name in FACTORS}
    return Design(known.to_numpy(float), there[keys.CENTRE].to_numpy(str), known=True), factors


def _binary_row(
    design: Design, factors: Mapping[str, np.ndarray], *, config: Mapping[str, Any], rate: float, seed: int
) -> dict[str, Any]:
    n_ref, n_alt = design.classes
    variance, df = precision(design.label, design.centre)
    single, chance = levels(config)["single"], math.nan
    if not design.known and len(design.label):
        chance = chance_of_refusal(design.centre, rate=rate, config=config, seed=seed)["any"]
    return {
        "n_alt": n_alt,
        "n_ref": n_ref,
        "smallest_p": _smallest_p(design, config),
        **{
            f"detectable_{name}": detectable_difference(variance=variance, df=df, alpha=level)
            for name, level in levels(config).items()
        },
        **{f"power_{d:g}": power_of_difference(d, variance=variance, df=df, alpha=single) for d in DIFFERENCES},
        **_refused(design_refusals(design, factors, binary=True, config=config)),
        "chance_refused": chance,
    }


def _rank_row(
    design: Design, factors: Mapping[str, np.ndarray], *, config: Mapping[str, Any], rate: float, seed: int
) -> dict[str, Any]:
    if not design.known:  # all values are taken to differ
        design = replace(design, label=np.arange(len(design.label), dtype=float))
    df = len(design.label) - len(np.unique(design.centre)) - 1
    single = levels(config)["single"]
    return {
        "smallest_p": _smallest_p(design, config),
        **{
            f"detectable_{name}": statistics.minimal_detectable_correlation(df=df, alpha=level, power=POWER)
            for name, level in levels(config).items()
        },
        **{f"power_{rho:g}": power_of_correlation(rho, df=df, alpha=single) for rho in CORRELATIONS},
        **_refused(design_refusals(design, factors, binary=False, config=config)),
        "chance_refused": math.nan,
    }


def _survival_row(
    design: Design, factors: Mapping[str, np.ndarray], *, config: Mapping[str, Any], rate: float, seed: int
) -> dict[str, Any]:
    events, minimum = design.classes[1], config["min_patients_per_arm"]
    few = refusals.refuse_few_events(len(design.label), events, minimum=minimum)
    single = levels(config)["single"]
    return {
        "n_events": events,
        "smallest_p": math.nan,
        **{f"detectable_{name}": detectable_hazard_ratio(events, alpha=p) for name, p in levels(config).items()},
        **{f"power_{ratio:g}": power_of_hazard_ratio(ratio, events=events, alpha=single) for ratio in HAZARD_RATIOS},
        **_refused([("R01", few)] if few else []),
        "chance_refused": math.nan,
    }


def _refused(found: Sequence[tuple[str, str]]) -> dict[str, str]:
    return {"refusals": "; ".join(f"{code}: {reason}" for code, reason in found)}
