"""What a study could detect, in words: the text of ``python -m livermet power``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from livermet import keys
from livermet.blinding import blind_labels, exchange
from livermet.catalogue import LABELS, label_timepoints
from livermet.findings import errors
from livermet.labels import derive_labels
from livermet.power import (
    FAMILY_SIZE,
    HAZARD_RATIOS,
    PLACE,
    RATE,
    detectable_hazard_ratio,
    effect_sizes,
    events_needed,
    levels,
    measured,
    model_size,
    power_table,
    table_refusals,
)

if TYPE_CHECKING:
    from livermet.study import Study

CANDIDATES = (2, 5, 10)
RANKS = "Powers are of a rank correlation within centres (Fisher's z)."
METHODS = {
    "binary": "Powers are of a t test adjusted for centre; a rank test keeps about 95 % of the patients' worth.",
    "survival": "Powers are of a proportional-hazards model with one feature.",
}


def power_text(
    table: pd.DataFrame,
    *,
    kind: str,
    config: Mapping[str, Any],
    goes_with: Sequence[str],
    rate: float,
    plan: int | None,
    n_enrolled: int,
    events: Mapping[str, int],
) -> str:
    """The table of :func:`livermet.power.power_table` for people, and what the study could and could not detect.

    Parameters
    ----------
    table, kind, config, rate, plan, n_enrolled
        As there.
    goes_with
        Timepoints of the tissue that the primary label may be compared in.
    events
        Known events by survival label; empty where follow-up is not known.
    """
    level = levels(config)
    what = f"{n_enrolled} patients in the tables" if plan is None else f"{plan} patients, as planned"
    lines = [
        f"What could be detected: {config['primary_label']} ({kind}), {what}",
        "",
        "Levels that p must reach:",
        f"  single         {level['single']:.3g}   one test alone"
        + (f" ({config['planned_looks']} looks share alpha)" if config["planned_looks"] > 1 else ""),
        f"  confirmatory   {level['confirmatory']:.3g}   first step of Holm, {len(config['confirmatory'])} declared",
        f"  exploratory    {level['exploratory']:.3g}   smallest of {FAMILY_SIZE} features by Benjamini-Hochberg at "
        f"{config['fdr']:g}, if no other differs (an approximation)",
        "",
    ]
    if table.empty:
        lines += ["No library and no blood sample is in the tables. Give --plan N to reckon with N patients.", ""]
    else:
        lines += [_table(table, kind), ""]
        for row in table[table["compared"] == "yes"].to_dict("records"):
            lines += [_sentence(row, kind), ""]
    stopped = [f"  {code}: {reason}." for code, reason in table_refusals(config, goes_with=goes_with)]
    if stopped:
        lines += ["By the config nothing would be tested:", *stopped, ""]
    refused = table[(table["compared"] == "yes") & (table["refusals"] != "")] if len(table) else table
    if len(refused):
        lines += ["Refused as the tables stand, in place of a p-value:"]
        lines += [f"  {_name(row)}: {row['refusals']}." for row in refused.to_dict("records")]
        lines += [""]
    lines += [*_survival_lines(events, alpha=level["single"], rate=rate), ""]
    if kind == "binary" and 0 < rate < 1:
        lines += [_model_line(rate), ""]
    lines += _notes(table, kind)
    return "\n".join(lines)


def _name(row: Mapping[str, Any]) -> str:
    return ", ".join(dict.fromkeys(str(row[name]) for name in PLACE))


def _table(table: pd.DataFrame, kind: str) -> str:
    """Aligned columns, with a star at what the config compares."""
    symbol = {"binary": "d", "survival": "HR"}.get(kind, "rho")
    header = ["", *PLACE, "patients", "n"]
    header += {"binary": ["yes", "no"], "survival": ["events"]}.get(kind, [])
    header += ["centres", "from", "smallest p", f"{symbol} single", f"{symbol} confirm.", f"{symbol} explor."]
    header += [f"power {effect:g}" for effect in effect_sizes(kind)]
    body = []
    for row in table.to_dict("records"):
        cells = ["*" if row["compared"] == "yes" else "", *(row[name] for name in PLACE), row["n_patients"], row["n"]]
        cells += [row[name] for name in {"binary": ("n_alt", "n_ref"), "survival": ("n_events",)}.get(kind, ())]
        cells += [
            row["centres"],
            "labels" if row["basis"] == "labels" else "rate",
            _number(row["smallest_p"], "{:.2g}"),
        ]
        cells += [_number(row[f"detectable_{name}"], "{:.2f}") for name in ("single", "confirmatory", "exploratory")]
        cells += [_number(row[f"power_{effect:g}"], "{:.2f}") for effect in effect_sizes(kind)]
        body.append([str(cell) for cell in cells])
    widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]
    left = 1 + len(PLACE)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [header, *body]
    )


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else form.format(value)


def _sentence(row: Mapping[str, Any], kind: str) -> str:
    """What one comparison could show, and what it would miss."""
    effect, unit = {
        "binary": ("a difference between the classes", "standard deviations"),
        "survival": ("a hazard ratio per standard deviation", ""),
    }.get(kind, ("a rank correlation", ""))
    found = [row[f"detectable_{name}"] for name in ("single", "confirmatory", "exploratory")]
    who = {
        "binary": f"{row.get('n_alt')} with and {row.get('n_ref')} without the label",
        "survival": f"{row.get('n_events')} events in {row['n']} patients",
    }.get(kind, f"{row['n']} patients")
    if row["refusals"]:
        return f"{_name(row)} ({who}): no test as it stands ({row['refusals'].partition(':')[0]}, below)."
    if any(map(math.isnan, found)):
        return f"{_name(row)} ({who}): nothing could be detected."
    smallest = effect_sizes(kind)[0]
    missed = 1 - row[f"power_{smallest:g}"]
    sentence = (
        f"{_name(row)} ({who}): four of five such studies would find {effect} of {found[0]:.2f} {unit}".rstrip()
        + f" by a single test, {found[1]:.2f} as the first of the declared features, {found[2]:.2f} as one of "
        f"{FAMILY_SIZE} exploratory ones. They could not exclude smaller ones: one of {smallest:g} would be missed in "
        f"{missed:.0%} of them, even by a single test."
    )
    if not math.isnan(row["chance_refused"]):
        sentence += (
            f" If response has nothing to do with the centre, {row['chance_refused']:.0%} of such studies would be "
            f"refused a test by the luck of the draw (R01, R02, R05)."
        )
    return sentence


def _survival_lines(events: Mapping[str, int], *, alpha: float, rate: float) -> list[str]:
    """Events that hazard ratios need, and how many there are."""
    lines = ["Events needed for 80 % power (Schoenfeld 1981):"]
    lines.append("  hazard ratio        " + "".join(f"{ratio:>8g}" for ratio in HAZARD_RATIOS))
    shares = {"per SD of a feature": None}
    if 0 < rate < 1:
        shares[f"groups of {rate:.0%} and {1 - rate:.0%}"] = rate
    for name, share in shares.items():
        needed = [events_needed(ratio, alpha=alpha, share=share) for ratio in HAZARD_RATIOS]
        lines.append(f"  {name:<20}" + "".join(f"{n:>8}" for n in needed))
    lines += [
        f"  {label}: {n} events are known; per SD they show a hazard ratio of "
        f"{_number(detectable_hazard_ratio(n, alpha=alpha), '{:.2f}')} or more."
        for label, n in events.items()
    ]
    return lines if events else [*lines, "  No follow-up is known yet."]


def _model_line(rate: float) -> str:
    sizes = [f"{model_size(n, rate=rate)} for {n}" for n in CANDIDATES]
    return (
        f"Patients that a model for single patients needs, at {rate:.0%} with the label (Riley 2020, R2 at 15 % of its "
        f"maximum): {', '.join(sizes)} candidates. The workflow fits models from fewer, to tell whether features say "
        "more than chance; such a model is not one to use."
    )


def _notes(table: pd.DataFrame, kind: str) -> list[str]:
    lines = [
        "* compared by the config; the patient is the unit, and no value of any feature was looked at.",
        METHODS.get(kind, RANKS),
        "All this is of a single feature. A part of a composition of up to 20 parts is taken from their median and "
        "must move further: about 1.35 times as far among 4 parts, 1.2 times among 6, 1.07 times among 20.",
    ]
    if len(table) and (table["basis"] == "assumed rate").any() and kind in ("binary", "survival"):
        lines.append(
            "Where the column from says rate, labels are not known or were not used: classes follow from the rate, "
            "and whether response goes with centre, batch, chemistry or sampling (R05) is seen with the labels only."
        )
    return lines


def study_power(study: Study, *, plan: int | None, rate: float | None) -> str:
    """What a study as it was read could detect, in words and one table.

    Labels are used where the tables give them; a blinded config uses them permuted, and a plan uses their rate alone.

    Parameters
    ----------
    study
        As :func:`livermet.study.load_study` returns it; raw files need not exist.
    plan
        Patients to be enrolled in all, or None.
    rate
        Share of responders; None: that of the labels, and ``RATE`` without them.
    """
    config, declared = study.config["response"], study.config["labels"]
    label = config["primary_label"]
    kind = LABELS[label].kind if label in LABELS else declared[label]["kind"]
    labels = _labels(study)
    values, events = None, {}
    if labels is not None:
        known = labels[labels["value"] != ""].set_index(keys.PATIENT)
        column = "event" if kind == "survival" else "value"
        own = pd.to_numeric(known.loc[known["label"] == label, column])
        values = own if len(own) else None
        for name in ("os", "pfs"):
            times = pd.to_numeric(known.loc[known["label"] == name, "event"])
            events |= {name: int(times.sum())} if len(times) else {}
    if rate is None:
        rate = float(values.mean()) if values is not None and kind in ("binary", "survival") else RATE
    n_enrolled = len(study.data.tables["patients"].rows)
    options = {"kind": kind, "config": config, "n_enrolled": n_enrolled, "rate": rate, "plan": plan}
    places = measured(study.data, windows=study.trial.get("windows", {}))
    table = power_table(places, values, **options, seed=study.config["seed"])
    return power_text(table, **options, goes_with=label_timepoints(label, declared), events=events)


def _labels(study: Study) -> pd.DataFrame | None:
    """Derived labels; None where the tables they come from have errors. That raw files are missing doesn't matter."""
    if any(finding.table.partition(".")[0] != "libraries" for finding in errors(study.data.findings)):
        return None
    labels = derive_labels(study.data.tables, declared=study.config["labels"], trial=study.trial).labels
    if not study.config["blind"]:
        return labels
    centres = {row[keys.PATIENT]: row[keys.CENTRE] for row in study.data.tables["patients"].rows}
    return blind_labels(labels, exchange(centres, seed=study.config["seed"]))
