"""Refusals: the reason, in words, why a design can't carry a comparison, and what would lift it.

One function per code of the list of refusals; each returns "" where it doesn't fire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from livermet import statistics

COHORT = "cohort"
BEFORE_TREATMENT = "T0_pre"
MAX_EXPLAINED = 0.7  # share of the label's variance that a factor of the design may explain
SHOWN_EXPLAINED = 0.2  # beyond what chance explains: a factor that is not adjusted for is named beside the result


def refuse_uncounted(*, scope: str, look: int | None, planned_looks: int) -> str:
    """R19: response is tested in the cohort only, and only in looks that were planned and counted."""
    if scope != COHORT:
        return (
            f"scope {scope} is one batch: testing each accruing batch gives a hit by chance in one of five studies, so "
            f"a batch is described and response is tested in the cohort. Lifted by scope: cohort"
        )
    if look is None or not 1 <= look <= planned_looks:
        return (
            f"look {look} at the unblinded data is not among the {planned_looks} planned, so no alpha is left "
            f"for it. Lifted by declaring look and planned_looks under response before unblinding"
        )
    return ""


def refuse_undefined(label: str, numbers: np.ndarray) -> str:
    """R06: the label has no value for any patient, or the same one for all."""
    if not len(numbers):
        return f"label {label} has no value for any patient. Lifted by the table that it is derived from"
    if len(np.unique(numbers)) < 2:
        return (
            f"all {len(numbers)} patients with label {label} have the same value, so there is nothing to "
            f"compare. Lifted by patients of the other class"
        )
    return ""


def refuse_mixed(*, timepoints: Sequence[str], tissues: Sequence[str]) -> str:
    """R04: timepoints or tissues must not be mixed in one comparison."""
    mixed = [
        f"{len(names)} {what}" for what, names in (("timepoints", timepoints), ("tissues", tissues)) if len(names) > 1
    ]
    if not mixed:
        return ""
    return (
        f"{' and '.join(mixed)} are selected ({', '.join([*timepoints, *tissues])}): who has which of them depends on "
        f"the course of disease, so a difference could not be told from response. Lifted by choosing one of each under "
        f"response"
    )


def refuse_timepoint(label: str, *, timepoints: Sequence[str], goes_with: Sequence[str]) -> str:
    """R17: a label is compared in the tissue that it goes with.

    Response to treatment goes with tissue taken before it: later tissue is treated, and who has it was selected by the
    response. What is known of resected patients only goes with the tissue of the resection.
    """
    wrong = [timepoint for timepoint in timepoints if timepoint not in goes_with]
    if not wrong:
        return ""
    lifted = f"Lifted by timepoints: [{goes_with[0]}], or another label"
    if BEFORE_TREATMENT in goes_with:
        return (
            f"tissue at {', '.join(wrong)} has seen treatment, and after surgery it exists only for patients whose "
            f"disease was controlled: {label} can't be compared in it. {lifted}"
        )
    return (
        f"{label} is known only for patients who came to surgery, whom their response selected: it is compared in "
        f"tissue of {', '.join(goes_with)}, not at {', '.join(wrong)}. {lifted}"
    )


def refuse_small_arms(n_ref: int, n_alt: int, *, minimum: int, binary: bool, where: str = "") -> str:
    """R01: too few patients in a class.

    For a label without classes, ``n_ref`` are the patients with its most frequent value and ``n_alt`` all others; in
    all there must be twice as many as in one class. ``where`` narrows down which patients were counted.
    """
    lifted = "Lifted by more patients with this measurement and a label"
    if binary and min(n_ref, n_alt) < minimum:
        return (
            f"{n_alt} with and {n_ref} without the label{where}, where {minimum} patients of each are needed. {lifted}"
        )
    if not binary and (n_alt < minimum or n_ref + n_alt < 2 * minimum):
        return (
            f"{n_ref + n_alt} patients{where}, of whom {n_alt} differ from the most frequent value, where "
            f"{2 * minimum} and {minimum} are needed. {lifted}"
        )
    return ""


def refuse_unattainable(smallest: float, *, alpha: float) -> str:
    """R02: even the most extreme arrangement of the labels could not reach alpha."""
    if smallest <= alpha:
        return ""
    return (
        f"the smallest p that this design can give is {smallest:.2g}, above alpha = {alpha:.2g}: no result could "
        f"count. Lifted by more patients, or by centres that hold both classes"
    )


def refuse_confounded(values: np.ndarray, centre: np.ndarray, factors: Mapping[str, np.ndarray]) -> str:
    """R05: the label can't be told from the centre, or from batch, chemistry or sampling method.

    For centres: no label within centres (the design is rank deficient), fewer than two centres with both classes, less
    than half of the patients in such centres, or more than 70 % of the label's variance between centres. Where all
    patients come from one centre there is nothing to be confounded with. For the further factors, whose levels may be
    many: more than 70 % of the label's variance between levels that have at least three patients in the mean.

    Parameters
    ----------
    values
        The label, one number per patient.
    centre
        Centre of each patient.
    factors
        Further factors by name, each with one value per patient.
    """
    reasons = []
    levels = np.unique(centre)
    if len(levels) > 1:
        both = [level for level in levels if len(np.unique(values[centre == level])) > 1]
        share = float(np.isin(centre, both).mean())
        explained = statistics.explained_by_strata(values, centre)
        if not both:
            reasons.append(f"no centre of {len(levels)} holds both classes")
        elif len(both) < 2:
            reasons.append(f"only centre {both[0]} of {len(levels)} holds both classes")
        elif share < 0.5:
            reasons.append(f"only {share:.0%} of the patients are in centres that hold both classes")
        elif explained > MAX_EXPLAINED:
            reasons.append(f"centre explains {explained:.0%} of the label")
    for name, levels_of in factors.items():
        explained = statistics.explained_by_strata(values, levels_of)
        if explained > MAX_EXPLAINED and len(np.unique(levels_of)) <= len(values) / 3:
            reasons.append(f"{name} explains {explained:.0%} of the label")
    if not reasons:
        return ""
    return (
        f"{'; '.join(reasons)}: response can't be told from it. Lifted by patients of both classes from the same place"
    )


def imbalance(values: np.ndarray, factors: Mapping[str, np.ndarray]) -> str:
    """What goes with the label though not so closely that R05 refuses, and is not adjusted for; "" where nothing does.

    Shares of the label's variance, less what as many levels explain by chance (adjusted R squared).
    """
    found = []
    for name, levels_of in factors.items():
        spare = len(values) - len(np.unique(levels_of))
        if spare > 0:
            unexplained = 1 - statistics.explained_by_strata(values, levels_of)
            share = 1 - unexplained * (len(values) - 1) / spare
            if share > SHOWN_EXPLAINED:
                found.append(f"{name} explains {share:.0%} of the label")
    return ", ".join(found)
