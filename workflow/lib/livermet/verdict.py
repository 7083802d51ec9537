"""The verdict: what the associations allow to be said on response, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from livermet import keys
from livermet.compared import FAMILY, Label, is_compositional, read_label
from livermet.refusals import COHORT, uncorrected

EFFECTS = {
    "hedges_g": "Hedges g",
    "spearman_rho": "rank correlation",
    "log_hr_per_sd": "log hazard ratio per standard deviation",
}


def verdict(
    associations: pd.DataFrame,
    *,
    config: Mapping[str, Any],
    labels: pd.DataFrame,
    scope: str,
    robustness: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """What may be said, in plain sentences.

    Only the confirmatory family may speak of a finding, and only of an association. Everything else is a lead, a
    description or a refusal.

    Parameters
    ----------
    associations
        As made by :func:`associate`.
    config
        Section ``response``.
    labels
        Derived labels.
    scope
        The scope that was run.
    robustness
        As made by :func:`livermet.robustness.robustness`: what is left of a finding without each centre.

    Returns
    -------
    A dict ready for JSON: scope, label, status (finding, lead, no_finding, not_tested, described), headline, sentences
    (what was asked, of whom, what was found), limits (what can't be concluded), and numbers (patients per class,
    tests, refusals by code, look).
    """
    label = read_label(labels, config["primary_label"])
    alpha = config["alpha"] / config["planned_looks"]
    primary = _without_uncorrected(associations[associations["analysis"] == "primary"])
    tested = primary[primary["status"] == "tested"]
    confirmatory = tested[tested["role"] == "confirmatory"]
    found = confirmatory[confirmatory["q"] <= alpha]
    # With few patients in a class, or few events, even a declared feature is a lead: so few don't bear a finding.
    small = found["p_method"].str.contains("exploratory only")
    names = {True: ", ".join(found.loc[small, "feature"]), False: ", ".join(found.loc[~small, "feature"])}
    exploratory = tested[tested["role"] == "exploratory"]
    leads = exploratory[exploratory["q"] <= config["fdr"]]
    refused = primary[primary["status"] == "refused"]

    if scope != COHORT:
        status, headline = "described", f"Batch {scope} is described; response is tested in the cohort only."
    elif tested.empty:
        status, headline = "not_tested", f"No statement on {label.name} is made: the data can't carry one."
    elif confirmatory.empty:
        status, headline = "not_tested", f"No statement on {label.name} is made: no confirmatory feature was tested."
    elif found.empty:
        status = "no_finding"
        headline = f"No association with {label.name} was found among {_count(confirmatory, 'confirmatory feature')}."
    elif small.all():
        status = "lead"
        headline = f"A lead, not a finding: {names[True]} with {label.name}, {_few(label)}."
    else:
        status, headline = "finding", f"Associated with {label.name}: {names[False]}."

    sentences = [_asked(label, config, len(primary[primary["role"] == "confirmatory"])), _patients(label, labels)]
    sentences += _tested_patients(tested, label)
    sentences += [_finding(row, label) for row in found.to_dict(orient="records")]
    sentences += [] if robustness is None else _without_centres(robustness, found)
    sentences += _per_protocol(associations, found)
    sentences += _not_found(confirmatory.drop(found.index), total=len(confirmatory), alpha=alpha)
    if len(exploratory):
        sentences.append(
            f"Exploratory: {len(leads)} of {len(exploratory)} features in {exploratory.groupby(FAMILY).ngroups} "
            f"families have q at or below {config['fdr']:.2g}. They are leads for another cohort, not findings."
        )
    sentences += [
        f"{_count(rows, 'feature')} not tested ({code}): {_reason(rows['refusal_reason'])}."
        for code, rows in refused.groupby("refusal_code", sort=True)
    ]
    return {
        "scope": scope,
        "label": label.name,
        "status": status,
        "headline": headline,
        "sentences": sentences,
        "limits": _limits(confirmatory, tested, label, config),
        "numbers": {
            "patients_with_label": len(label.numbers),
            "per_class": _per_class(label),
            "confirmatory_tested": len(confirmatory),
            "confirmatory_found": int((~small).sum()),
            "confirmatory_leads": int(small.sum()),
            "exploratory_tested": len(exploratory),
            "exploratory_leads": len(leads),
            "refused": {str(code): int(n) for code, n in refused["refusal_code"].value_counts().sort_index().items()},
            "look": config["look"],
            "planned_looks": config["planned_looks"],
        },
    }


def _without_uncorrected(primary: pd.DataFrame) -> pd.DataFrame:
    """Rows with a p that no correction for multiplicity stands beside are refused (R15)."""
    bare = (primary["status"] == "tested") & uncorrected(primary)
    if not bare.any():
        return primary
    reason = "a p without q says nothing of how many were tested. Lifted by the correction over its family"
    refused = {"status": "refused", "refusal_code": "R15", "refusal_reason": reason}
    return primary.assign(**{name: primary[name].mask(bare, value) for name, value in refused.items()})


def _few(label: Label) -> str:
    return "with fewer than ten events" if label.survival else "in fewer than five patients of a class"


def _per_class(label: Label) -> dict[str, int]:
    """Patients by value of the label, or by event of a time; nothing for a continuous label."""
    if label.kind == "continuous":
        return {}
    values = label.numbers if label.events is None else label.events
    return {f"{value:g}": int(n) for value, n in values.value_counts().sort_index().items()}


def _count(rows: pd.DataFrame | pd.Series, noun: str) -> str:
    return f"{len(rows)} {noun}" + ("" if len(rows) == 1 else "s")


def _reason(reasons: pd.Series) -> str:
    """The reason, or the most frequent of several with its number."""
    counts = reasons.value_counts()
    most = reasons.mode().iloc[0]
    return str(most) if len(counts) == 1 else f"most often ({counts[most]}) {most}"


def _asked(label: Label, config: Mapping[str, Any], n_declared: int) -> str:
    return (
        f"Asked: do features of {' and '.join(config['tissues'])} at {' and '.join(config['timepoints'])} go with "
        f"{label.name}? The config declares {n_declared} of them as confirmatory."
    )


def _patients(label: Label, labels: pd.DataFrame) -> str:
    missing = labels[(labels["label"] == label.name) & ~labels[keys.PATIENT].isin(label.numbers.index)]
    without = f"; {_count(missing, 'patient')} without a value" if len(missing) else ""
    if label.events is not None:
        return (
            f"{_count(label.numbers, 'patient')} with a time to {label.name}, {label.events.sum():g} events{without}."
        )
    if not label.binary:
        return f"{_count(label.numbers, 'patient')} with a value of {label.name}{without}."
    n_ref, n_alt = label.classes(label.numbers.index)
    return f"{n_alt} of {_count(label.numbers, 'patient')} with {label.name}, {n_ref} without{without}."


def _tested_patients(tested: pd.DataFrame, label: Label) -> list[str]:
    sentences = []
    for modality, rows in tested.groupby(keys.MODALITY, sort=True):
        most = rows.loc[rows["n"].idxmax()]
        classes = f" ({most['n_alt']} with and {most['n_ref']} without {label.name})" if label.binary else ""
        sentences.append(
            f"{modality}: up to {most['n']} patients tested{classes}; of the patients with a label "
            f"{most['n_missing']} lack this measurement; smallest attainable p {most['smallest_attainable_p']:.2g}."
        )
    return sentences


def _finding(row: Mapping[str, Any], label: Label) -> str:
    direction = "higher" if row["effect"] > 0 else "lower"
    # Both count from complete response upwards, and a hazard is higher where the event comes earlier.
    towards = "with worse response" if label.name in ("recist_best", "path_cap") else f"with {label.name}"
    towards = f"with an earlier event of {label.name}" if label.survival else towards
    what = EFFECTS[row["effect_kind"]]
    relative = " relative to the other parts of the same sample" if is_compositional(row["family"]) else ""
    badge = f" A lead only, {_few(label)}." if "exploratory only" in row["p_method"] else ""
    if "not adjusted: " in row["p_method"]:
        badge += f" Not adjusted for: {row['p_method'].split('not adjusted: ')[1]}."
    return (
        f"{row['feature']} ({row['family']}, {row['modality']}) is {direction}{relative} {towards}: associated "
        f"with {what} {row['effect']:.2f} (95 % interval {row['ci_low']:.2f} to {row['ci_high']:.2f}), Holm-adjusted p "
        f"{row['q']:.2g}, n = {row['n']}.{badge}"
    )


def _not_found(rows: pd.DataFrame, *, total: int, alpha: float) -> list[str]:
    """The declared features that are no finding, each with its effect and interval: what they leave open."""
    if rows.empty:
        return []
    named = [
        f"{row['feature']} {row['effect']:.2f} ({row['ci_low']:.2f} to {row['ci_high']:.2f})"
        for row in rows.to_dict(orient="records")
    ]
    kinds = " or ".join(EFFECTS[kind] for kind in rows["effect_kind"].unique())
    return [
        f"Not found, {len(rows)} of {total} tested confirmatory features, Holm-adjusted p above {alpha:.3g}: "
        f"{', '.join(named)} ({kinds} with 95 % interval)."
    ]


def _without_centres(robustness: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """How each finding stands when one centre at a time is left out, and without the adjustment."""
    names = [*FAMILY, "feature"]
    sentences = []
    for row in robustness.merge(found[names], on=names).to_dict(orient="records"):
        if row["n_centres_left_out"] > 0:
            sentences.append(
                f"{row['feature']}, without one centre at a time ({row['n_centres_left_out']} centres): the effect "
                f"keeps its sign in {row['same_sign_share']:.0%} and lies between {row['effect_smallest']:.2f} and "
                f"{row['effect_largest']:.2f}; not adjusted for centre it is {row['effect_unadjusted']:.2f}."
            )
    return sentences


def _per_protocol(associations: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """What is left of each finding without the patients who deviate from the protocol."""
    names = [*FAMILY, "feature"]
    rows = associations[associations["adjusted_for"].fillna("").str.contains("per protocol")]
    rows = rows.merge(found[names], on=names)
    sentences = []
    for row in rows.to_dict(orient="records"):
        what = f"not tested ({row['refusal_code']}): {row['refusal_reason']}."
        if row["status"] == "tested":
            interval = f"95 % interval {row['ci_low']:.2f} to {row['ci_high']:.2f}"
            what = f"effect {row['effect']:.2f} ({interval}), p {row['p']:.2g} (sensitivity), n = {row['n']}."
        sentences.append(f"{row['feature']}, {row['adjusted_for'].split('; ')[-1]}: {what}")
    return sentences


def _limits(confirmatory: pd.DataFrame, tested: pd.DataFrame, label: Label, config: Mapping[str, Any]) -> list[str]:
    limits = []
    detectable = confirmatory["minimal_detectable_effect"].dropna()
    if len(detectable):
        size = f"{detectable.max():.2f}"
        needed = f"had to have a rank correlation of {size} with the label"
        if label.binary:
            needed = f"had to differ by {size} standard deviations between the classes"
        elif label.survival:
            needed = f"had to have a log hazard ratio of {size} per standard deviation"
        limits.append(
            f"To be found with 80 % power, a confirmatory feature {needed}; smaller differences can't be excluded."
        )
    if len(tested):
        limits.append(
            "An association in one cohort is neither a cause nor a forecast for a single patient; other differences "
            "between the patients may stand behind it."
        )
        limits.append("Shares are of captured cells: dissociation and capture differ between cell types.")
    limits.append(
        f"By the config this is look {config['look']} of {config['planned_looks']} planned at the unblinded data, and "
        f"alpha is divided by them. Features declared after looking or looks not counted void the verdict."
    )
    return limits
