"""Refusals: the reason, in words, why a design can't carry a comparison, and what would lift it.

One function per code of the list of refusals; each returns "" where it doesn't fire. ``CODES`` is that list.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from livermet import statistics

# What each code says. R01 to R19 concern the design or the source of a number, F01 to F04 a single feature,
# P01 to P03 a model.
CODES = {
    "R01": "too few patients in a class (or events), all of them or those in centres that hold both classes",
    "R02": "the smallest p that the design can give is above the level (for confirmatory features: above the first "
    "step of Holm)",
    "R03": "several rows of one patient: cells, spots, sections or lesions would count as patients",
    "R04": "several timepoints or tissues at once",
    "R05": "centre, batch, chemistry or sampling method explains more than 70 % of the label or determines it, fewer "
    "than two centres hold both classes, or fewer than half of the patients are in such centres",
    "R06": "the label is undefined, or the same for all; what can't be evaluated is no value",
    "R07": "something known only after the start of follow-up, compared without a landmark",
    "R08": "change of CA19-9 without secretion, from a normal baseline or in cholestasis: the label has no value",
    "R09": "p of marker genes of clusters that were made from the same genes",
    "R10": "a label that is a feature cut at a point taken from the data",
    "R11": "a feature that was computed with the label",
    "R12": "an interaction whose ligand or receptor is part of the outcome's own signature",
    "R13": "a statistic of zones in a section without a border of tumour to liver",
    "R14": "a niche in fewer than two patients",
    "R15": "no correction for multiplicity: more than ten declared features, or a p without q",
    "R16": "a patient in more than one fold",
    "R17": "a label in tissue that it does not go with, such as response by imaging in tissue taken after the start of "
    "treatment",
    "R18": "more than 30 % of the patients that were sampled for the modality lack the feature, or who lacks the "
    "modality goes with the label",
    "R19": "a batch scope, or a look that is not counted",
    "F01": "declared beforehand, but too rare or constant",
    "F02": "declared beforehand, but measured in no patient",
    "F03": "no spread within the classes",
    "F04": "a change of values that are relative to the other patients of their own timepoint",
    "P01": "no model of a label that has no two classes",
    "P02": "no feature was declared for a model",
    "P03": "one centre only, so that no other one can be predicted",
}

COHORT = "cohort"
BEFORE_TREATMENT = "T0_pre"
MAX_EXPLAINED = 0.7  # share of the label's variance that a factor of the design may explain
SPARE_OF_CHANCE = 5  # patients beyond one per level from which one-class levels are hardly chance
SHOWN_EXPLAINED = 0.2  # beyond what chance explains: a factor that is not adjusted for is named beside the result
MIN_EVENTS = 5  # events that a comparison of times needs
MIN_PATIENTS_OF_NICHE = 2
MAX_DECLARED = 10
MAX_MISSING = 0.3
MISSING_LEVEL = 0.1
CHANCE_CUT = 0.001  # chance that some feature separates the classes; below it a separation is no accident
# Tables that were made with a label, and with clusters: their numbers can't be tested against the label again.
MADE_WITH_LABEL = (
    *("associations.tsv", "differential.tsv", "differential_tests.tsv", "activity_contrast.tsv", "changes.tsv"),
    *("biomarkers.tsv", "survival.tsv", "predictors.tsv", "predictions.tsv", "invasion_tests.tsv"),
)
MADE_WITH_CLUSTERS = ("markers.tsv",)


def refuse_uncounted(*, scope: str, look: int | None, planned_looks: int, earlier_looks: int = 0) -> str:
    """R19: response is tested in the cohort only, and only in looks that were planned and counted.

    ``earlier_looks`` is the number of looks at other states of the unblinded data that the ledger of looks holds.
    """
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
    if earlier_looks + 1 > look:
        return (
            f"the ledger counts {earlier_looks} earlier look{'s' * (earlier_looks != 1)} at the unblinded data, so "
            f"this is look {earlier_looks + 1}, where the config says look {look} of {planned_looks} planned. Lifted "
            f"by look: {earlier_looks + 1} under response, with as many planned_looks or more"
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


def refuse_later_tissue(label: str, *, timepoints: Sequence[str], goes_with: Sequence[str]) -> str:
    """R07: a time to an event is compared in what was known when the time began.

    Tissue taken later exists only for those who lived to have it, free of the event or not: the time up to it is
    immortal (Suissa 2008, doi:10.1093/aje/kwm324).
    """
    wrong = [timepoint for timepoint in timepoints if timepoint not in goes_with]
    if not wrong:
        return ""
    return (
        f"{label} counts from {' or '.join(goes_with)}, and tissue at {', '.join(wrong)} exists only for those who "
        f"lived to have it: without a landmark the time up to it counts as survival. Lifted by timepoints: "
        f"[{goes_with[0]}], or by a landmark under survival"
    )


def refuse_few_events(n: int, n_events: int, *, minimum: int, where: str = "") -> str:
    """R01 for a time to an event: too few patients or too few events."""
    if n >= 2 * minimum and n_events >= MIN_EVENTS:
        return ""
    return (
        f"{n} patients{where} with {n_events} events, where {2 * minimum} and {MIN_EVENTS} are needed. Lifted by more "
        f"patients or longer follow-up"
    )


def refuse_few_pairs(n: int, *, minimum: int) -> str:
    """R01 for changes within patients: too few patients with both timepoints."""
    if n >= minimum:
        return ""
    return f"{n} patients with both timepoints, where {minimum} are needed. Lifted by more patients with both"


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
    many: more than 70 % of the label's variance between levels that have at least three patients in the mean, or a
    label that the design matrix of the factor, alone or with the centre, determines although it leaves
    ``SPARE_OF_CHANCE`` degrees of freedom or more: with fewer, small levels hold one class by chance.

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
    return _confounded([*reasons, *_aliased_factors(values, centre, factors)])


def refuse_confounded_factors(values: np.ndarray, centre: np.ndarray, factors: Mapping[str, np.ndarray]) -> str:
    """R05 by the further factors alone: see :func:`refuse_confounded`."""
    return _confounded(_aliased_factors(values, centre, factors))


def _confounded(reasons: Sequence[str]) -> str:
    lifted = "Lifted by patients of both classes from the same place"
    return f"{'; '.join(reasons)}: response can't be told from it. {lifted}" if reasons else ""


def _aliased_factors(values: np.ndarray, centre: np.ndarray, factors: Mapping[str, np.ndarray]) -> list[str]:
    reasons = []
    for name, levels in factors.items():
        explained = statistics.explained_by_strata(values, levels)
        aliased = aliasing(values, levels, centre)
        design = {"label": (levels,), "label within centres": (centre, levels)}.get(aliased)
        if explained > MAX_EXPLAINED and len(np.unique(levels)) <= len(values) / 3:
            reasons.append(f"{name} explains {explained:.0%} of the label")
        elif design and len(values) - rank(*design) >= SPARE_OF_CHANCE:
            reasons.append(f"{name} determines the {aliased}")
    return reasons


def aliasing(y: np.ndarray, levels: np.ndarray, centre: np.ndarray) -> str:
    """What the design matrix can't tell apart (see :func:`livermet.design.confounding`); "" where nothing.

    Parameters
    ----------
    y
        The label, one number per patient.
    levels, centre
        Level of the factor, and centre, of each patient.
    """
    if rank(levels) == len(y):
        return "a level per patient"
    if rank(levels) == rank(levels, label=y):
        return "label"
    if len(y) > rank(centre, levels) == rank(centre, levels, label=y):
        return "label within centres"
    return ""


def rank(*factors: np.ndarray, label: np.ndarray | None = None) -> int:
    """Rank of the design with indicators of all levels, and the label as a further column."""
    columns = [np.eye(len(names))[codes] for names, codes in (np.unique(f, return_inverse=True) for f in factors)]
    if label is not None:
        columns.append(((label - label.mean()) / (label.std() or 1.0))[:, None])
    return int(np.linalg.matrix_rank(np.hstack(columns)))


def refuse_unit(table: pd.DataFrame, *, unit: Sequence[str]) -> str:
    """R03: the table has several rows where one patient should have one.

    Parameters
    ----------
    table
        What enters a test.
    unit
        Columns that name a patient, and what is measured, once.
    """
    twice = table[table.duplicated(list(unit))]
    if twice.empty:
        return ""
    first = ", ".join(str(value) for value in twice[list(unit)].iloc[0])
    return (
        f"{len(twice)} rows repeat a patient and feature, first {first}: cells, sections or lesions would count as "
        f"patients. Lifted by sums or means over libraries and lesions of a patient"
    )


def refuse_source(source: str) -> tuple[str, str] | None:
    """R11 or R09: a number that was made with the label, or p of markers of clusters that the same genes made."""
    if source in MADE_WITH_LABEL:
        return "R11", (
            f"the feature comes from {source}, which was computed with a label: testing it against the label again "
            f"finds what was put in. Lifted by a feature that knows no label"
        )
    if source in MADE_WITH_CLUSTERS:
        return "R09", (
            f"the feature comes from {source}: its p compare clusters by the genes that made them, with cells as the "
            f"unit. They describe and are no discoveries. Lifted by a comparison of patients"
        )
    return None


def refuse_cut_point(label: np.ndarray, values: np.ndarray, *, n_features: int) -> str:
    """R10: the label is this feature, cut at one point.

    A label that the config declares and that one feature separates without a single error was most likely made from it,
    and the point was then taken from the data (Altman et al. 1994, doi:10.1093/jnci/86.11.829). It fires where some of
    ``n_features`` would separate the classes by chance with a probability of less than ``CHANCE_CUT``.

    Parameters
    ----------
    label
        0 or 1 per patient.
    values
        The feature, one value per patient.
    """
    high, low = values[label == 1], values[label == 0]
    if not len(high) or not len(low):
        return ""
    above = low.max() < high.min()
    if not above and not high.max() < low.min():
        return ""
    one = np.zeros(len(label), dtype=int)
    if n_features * 2 / statistics.count_arrangements(label, one) >= CHANCE_CUT:
        return ""
    point = (low.max() + high.min()) / 2 if above else (high.max() + low.min()) / 2
    return (
        f"the declared label is this feature cut at {point:.3g}, without one exception in {len(label)} patients: a "
        f"feature can't be tested against itself. Lifted by the feature as it is against another label"
    )


def refuse_signature(feature: str, signature: Collection[str]) -> str:
    """R12: ligand or receptor of an interaction is part of the signature that the outcome is made of.

    Parameters
    ----------
    feature
        ``sender|receiver|ligand|receptor``; the genes of a complex are joined by "_".
    signature
        Genes of the outcome.
    """
    genes = {gene for part in feature.split("|")[2:] for gene in (part, *part.split("_"))}
    shared = sorted(genes & set(signature))
    if not shared:
        return ""
    are, them = ("is", "it") if len(shared) == 1 else ("are", "them")
    return (
        f"{', '.join(shared)} {are} part of the outcome's own signature, so the interaction goes with it by "
        f"construction. Lifted by a signature without {them}"
    )


def refuse_no_border(zones: Iterable[str]) -> str:
    """R13: without a border of tumour to liver in the section, margin and distance are not defined."""
    if set(zones) - {"none"}:
        return ""
    return (
        "no border of tumour to liver in the section, so margin and distance are not defined. Lifted by a section that "
        "holds both"
    )


def refuse_few_patients(n: int) -> str:
    """R14: a niche that stands in one patient is that patient's tissue."""
    if n >= MIN_PATIENTS_OF_NICHE:
        return ""
    return f"in fewer than {MIN_PATIENTS_OF_NICHE} patients: it may be one patient's tissue. Lifted by more patients"


def refuse_uncorrected(n_declared: int) -> str:
    """R15: more declared features than a confirmatory family may hold."""
    if n_declared <= MAX_DECLARED:
        return ""
    return (
        f"{n_declared} features are declared as confirmatory, where {MAX_DECLARED} at most are: so many are a search, "
        f"and no correction makes them declared. Lifted by a shorter list under response.confirmatory"
    )


def uncorrected(table: pd.DataFrame) -> pd.Series:
    """R15: which rows have a p but no q, so that they say nothing of how many were tested."""
    return table["p"].notna() & table["q"].isna()


def refuse_shared_folds(patients: Sequence[Hashable], folds: Sequence[Hashable]) -> str:
    """R16: a patient whose rows stand in several folds is learnt from and predicted at once.

    Parameters
    ----------
    patients, folds
        Patient, and fold in which it is held out, of each row of one repeat.
    """
    held = pd.DataFrame({"patient": list(patients), "fold": list(folds)}).drop_duplicates()
    several = sorted({str(name) for name in held.loc[held.duplicated("patient"), "patient"]})
    if not several:
        return ""
    return (
        f"{len(several)} patient{'s' * (len(several) != 1)} in more than one fold, first {several[0]}: they would be "
        f"learnt from and predicted at once. Lifted by folds of patients"
    )


def refuse_missing(n_sampled: int, n_known: int) -> str:
    """R18: too many of the patients that were sampled for the modality lack the feature."""
    if not n_sampled or 1 - n_known / n_sampled <= MAX_MISSING:
        return ""
    return (
        f"{n_sampled - n_known} of {n_sampled} patients that were sampled for the modality lack this feature, where "
        f"{MAX_MISSING:.0%} may: who is left may be a selection. Lifted by more cells or sections per patient"
    )


def refuse_selective(label: np.ndarray, measured: np.ndarray, *, modality: str, binary: bool) -> str:
    """R18: whether a patient that was sampled for the modality has any value of it goes with the label.

    Fisher's exact test for two classes, Mann-Whitney's otherwise; asked once per modality, so that the number of
    features does not matter.

    Parameters
    ----------
    label
        One number per patient that was sampled.
    measured
        Whether the patient has any value of the modality.
    """
    from scipy import stats

    without = int((~measured).sum())
    if not without or not measured.any():
        return ""
    if binary:
        table = [[int(((label == value) & (measured == known)).sum()) for known in (True, False)] for value in (0, 1)]
        p = stats.fisher_exact(table).pvalue
    else:
        p = stats.mannwhitneyu(label[measured], label[~measured]).pvalue
    if not p < MISSING_LEVEL:
        return ""
    return (
        f"{without} of {len(label)} patients sampled for {modality} gave no value, and who they are goes with the "
        f"label (p {p:.2g}): the patients left are a selection. Lifted by data of the patients that are missing"
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
