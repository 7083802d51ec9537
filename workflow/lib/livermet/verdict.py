"""The verdict: what the associations allow to be said on response, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from livermet import keys
from livermet.refusals import COHORT
from livermet.response import FAMILY, Label, is_compositional, read_label


def verdict(
    associations: pd.DataFrame, *, config: Mapping[str, Any], labels: pd.DataFrame, scope: str
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

    Returns
    -------
    A dict ready for JSON: scope, label, status (finding, lead, no_finding, not_tested, described), headline, sentences
    (what was asked, of whom, what was found), limits (what can't be concluded), and numbers (patients per class,
    tests, refusals by code, look).
    """
    label = read_label(labels, config["primary_label"])
    alpha = config["alpha"] / config["planned_looks"]
    primary = associations[associations["analysis"] == "primary"]
    tested = primary[primary["status"] == "tested"]
    confirmatory = tested[tested["role"] == "confirmatory"]
    found = confirmatory[confirmatory["q"] <= alpha]
    # With fewer than five patients in a class even a declared feature is a lead: such small arms don't bear a finding.
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
        headline = f"A lead, not a finding: {names[True]} with {label.name}, in fewer than five patients of a class."
    else:
        status, headline = "finding", f"Associated with {label.name}: {names[False]}."

    sentences = [_asked(label, config, len(primary[primary["role"] == "confirmatory"])), _patients(label, labels)]
    sentences += _tested_patients(tested, label)
    sentences += [_finding(row, label) for row in found.to_dict(orient="records")]
    sentences += _per_protocol(associations, found)
    if not_found := len(confirmatory) - len(found):
        sentences.append(
            f"{not_found} of {len(confirmatory)} tested confirmatory features: Holm-adjusted p above {alpha:.3g}."
        )
    if len(exploratory):
        sentences.append(
            f"Exploratory: {len(leads)} of {len(exploratory)} features in {exploratory.groupby(FAMILY).ngroups} "
            f"families have q at or below {config['fdr']:.2g}. They are leads for another cohort, not findings."
        )
    sentences += [
        f"{_count(rows, 'feature')} not tested ({code}): {rows['refusal_reason'].mode().iloc[0]}."
        for code, rows in refused.groupby("refusal_code", sort=True)
    ]
    return {
        "scope": scope,
        "label": label.name,
        "status": status,
        "headline": headline,
        "sentences": sentences,
        "limits": _limits(confirmatory, tested, config),
        "numbers": {
            "patients_with_label": len(label.numbers),
            "per_class": {f"{value:g}": int(n) for value, n in label.numbers.value_counts().sort_index().items()}
            if label.kind != "continuous"
            else {},
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


def _count(rows: pd.DataFrame | pd.Series, noun: str) -> str:
    return f"{len(rows)} {noun}" + ("" if len(rows) == 1 else "s")


def _asked(label: Label, config: Mapping[str, Any], n_declared: int) -> str:
    return (
        f"Asked: do features of {' and '.join(config['tissues'])} at {' and '.join(config['timepoints'])} go with "
        f"{label.name}? The config declares {n_declared} of them as confirmatory."
    )


def _patients(label: Label, labels: pd.DataFrame) -> str:
    missing = labels[(labels["label"] == label.name) & ~labels[keys.PATIENT].isin(label.numbers.index)]
    without = f"; {_count(missing, 'patient')} without a value" if len(missing) else ""
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
    # Both count from complete response upwards.
    towards = "with worse response" if label.name in ("recist_best", "path_cap") else f"with {label.name}"
    what = {"hedges_g": "Hedges g", "spearman_rho": "rank correlation"}[row["effect_kind"]]
    relative = " relative to the other parts of the same sample" if is_compositional(row["family"]) else ""
    badge = (
        " Fewer than five patients compared in a class: a lead only." if "exploratory only" in row["p_method"] else ""
    )
    if "not adjusted: " in row["p_method"]:
        badge += f" Not adjusted for: {row['p_method'].split('not adjusted: ')[1]}."
    return (
        f"{row['feature']} ({row['family']}, {row['modality']}) is {direction}{relative} {towards}: associated "
        f"with {what} {row['effect']:.2f} (95 % interval {row['ci_low']:.2f} to {row['ci_high']:.2f}), Holm-adjusted p "
        f"{row['q']:.2g}, n = {row['n']}.{badge}"
    )


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


def _limits(confirmatory: pd.DataFrame, tested: pd.DataFrame, config: Mapping[str, Any]) -> list[str]:
    limits = []
    detectable = confirmatory["minimal_detectable_effect"].dropna()
    if len(detectable):
        limits.append(
            f"To be found with 80 % power, a confirmatory feature had to differ by {detectable.max():.2f} standard "
            f"deviations between the classes; smaller differences can't be excluded."
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
