"""Response labels per patient, each with the rows that it came from or the reason why it is missing.

What each label says, and which tissue it goes with, stands in :mod:`livermet.catalogue`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from livermet import blood, recist
from livermet.catalogue import LABELS, RECIST
from livermet.course import LIVER_TREATMENTS, Course, patient_course
from livermet.findings import Finding
from livermet.protocol import RESECTION, by_patient, trial_rules
from livermet.recist import Evaluation, RecistRules
from livermet.tables import StudyTable

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

NOT_EVALUABLE = "NE"
RESPONSES = {"objective_response": ("CR", "PR")}
COLUMNS = ("patient_id", "label", "kind", "value", "event", "source", "reason")
RECIST_COLUMNS = (
    *("patient_id", "day", "days_on_treatment", "sum_mm", "liver_sum_mm", "change_from_baseline_pct"),
    *("change_from_nadir_pct", "target", "nontarget", "new_lesion", "response", "reported", "agrees", "confirmed"),
    *("counts", "reason", "rows"),
)
FIRST_EVALUATION_DAYS = 49
EARLY_RELAPSE_DAYS = 183
SAME_EVALUATION_DAYS = 7  # a reported evaluation and a scan so close together are the same one
MIN_PER_CLASS = 3  # below it nothing is compared (R01), so nothing has to be told apart
REPEATED_DAYS = 28  # an evaluation that failed may be repeated so long
MARKER_DAYS = 14  # a marker so many days from a scan speaks for it

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Value:
    """A label of one patient: its value and where it came from, or the reason why it is missing."""

    value: str = ""
    source: str = ""
    reason: str = ""
    event: str = ""


@dataclass(frozen=True)
class Derived:
    """All labels, the RECIST evaluations behind them, and what is to be said of either."""

    labels: pd.DataFrame
    recist: pd.DataFrame
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class _Patient:
    """Rows of one patient by table, with line numbers, and the patient's course; ``given`` are the study's tables,
    and "events" where any patient has a day of progression or relapse."""

    row: Row
    tables: Mapping[str, list[dict[str, Any]]]
    given: frozenset[str]
    course: Course
    trial: Mapping[str, Any]

    @property
    def start(self) -> int:
        """First day of treatment; enrolment without a row in treatment.tsv."""
        return self.course.start or 0

    def rule(self, section: str, key: str, default: Any) -> Any:
        return self.trial.get(section, {}).get(key, default)


@dataclass(frozen=True)
class _Seen:
    """One evaluation as the labels need it, computed or reported."""

    day: int
    response: str
    source: str


def derive_labels(
    tables: Mapping[str, StudyTable], *, declared: Mapping[str, Mapping[str, Any]], trial: Mapping[str, Any]
) -> Derived:
    """Derive all labels that the tables allow.

    Parameters
    ----------
    tables
        The checked study tables.
    declared
        Further label columns of response.tsv: kind (binary, ordinal, continuous), for a binary one the positive
        value, for an ordinal one the levels in order.
    trial
        The protocol's rules; of these ``evaluation``, ``ca199``, ``windows`` and ``early_relapse_days``.

    Returns
    -------
    ``labels``: one row per label and patient, with ``COLUMNS``. ``value`` is text: 0 or 1 for a binary label (1:
    response), the position for an ordinal one (recist_best: 0 is CR, 3 is PD), the number for a continuous one, days
    for a time to event, with ``event`` 1 or 0; "" where missing, and then ``reason`` says why. ``recist``: one row per
    patient and evaluation, with ``RECIST_COLUMNS``. ``findings``: reported against computed response (rule V15).

    Notes
    -----
    Response by imaging is computed from lesions.tsv and scans.tsv (:mod:`livermet.recist`), or taken from response.tsv
    where there are no measurements (the trial file may turn this round). Best response, the changes since baseline and
    everything from CA19-9 end at the first local treatment or change of regimen, since what surgery removes is no
    response to treatment. NE is never a value. Days count from the start of treatment, without one from enrolment.
    """
    import pandas as pd

    grouped = {name: by_patient(table) for name, table in tables.items() if "patient_id" in table.columns}
    samples = {row["sample_id"]: row["patient_id"] for row in tables["samples"].rows}
    pathology: dict[str, list[dict[str, Any]]] = {}
    for row in tables["pathology"].records():
        pathology.setdefault(samples[row["sample_id"]], []).append(row)
    grouped["pathology"] = pathology
    present = {name for name, table in tables.items() if table.path or table.rows}
    if any(row[name] is not None for row in tables["outcome"].rows for name in ("progression_day", "relapse_day")):
        present.add("events")
    rows, evaluations, findings = [], [], []
    for given in tables["patients"].rows:
        own = {name: group.get(given["patient_id"], []) for name, group in grouped.items()}
        course = patient_course(own["treatment"], own["local_treatment"])
        patient = _Patient(row=given, tables=own, given=frozenset(present), course=course, trial=trial)
        values, seen, disagreements = _patient_labels(patient, declared)
        for label, value in values.items():
            kind = LABELS[label].kind if label in LABELS else declared[label]["kind"]
            rows.append((given["patient_id"], label, kind, value.value, value.event, value.source, value.reason))
        evaluations += seen
        findings += disagreements
    labels = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    known = labels[labels["value"] != ""].groupby("label").size()
    for label in [*LABELS, *declared]:
        logger.info(
            "label %s: %d of %d patients have a value", label, known.get(label, 0), len(tables["patients"].rows)
        )
    order = {label: i for i, label in enumerate([*LABELS, *declared])}
    labels = labels.sort_values("label", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    return Derived(labels, pd.DataFrame(evaluations, columns=list(RECIST_COLUMNS), dtype=object), tuple(findings))


def course_days(treatment: pd.DataFrame, local_treatment: pd.DataFrame, patients: pd.DataFrame) -> pd.DataFrame:
    """Days from enrolment that labels count from.

    Returns
    -------
    By patient, ``start`` of treatment (0, enrolment, without a row in treatment.tsv) and first ``surgery`` of the
    liver, NaN without one.
    """
    import pandas as pd

    treated, operated = (_frame_rows(table) for table in (treatment, local_treatment))
    rows = []
    for patient in patients["patient_id"].unique():
        course = patient_course(treated.get(patient, []), operated.get(patient, []))
        surgery = math.nan if course.surgery is None else float(course.surgery["day"])
        rows.append((patient, float(course.start or 0), surgery))
    return pd.DataFrame(rows, columns=["patient_id", "start", "surgery"]).set_index("patient_id")


def _frame_rows(table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Rows of each patient, with None where a value is missing."""
    plain = table.astype(object).where(table.notna(), None)
    return {str(patient): rows.to_dict("records") for patient, rows in plain.groupby("patient_id", sort=True)}


def _patient_labels(
    patient: _Patient, declared: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Value], list[tuple[Any, ...]], list[Finding]]:
    """All labels of one patient, the patient's evaluations as rows, and disagreements with what was reported."""
    rules = trial_rules(patient.trial, "evaluation", RecistRules)
    computed = recist.evaluate_course(
        patient.tables["lesions"],
        patient.tables["scans"],
        start=patient.start,
        end=patient.course.end,
        rules=rules,
        marker_normal=_marker_normal(patient),
    )
    best, confirmed, gate = _imaging(patient, computed, rules)
    values = {
        "recist_best": best,
        "disease_control": gate,
        "objective_response": _binary(best, lambda value: RECIST[int(value)] in RESPONSES["objective_response"]),
        "response_confirmed": confirmed,
        **_size_changes(patient, computed),
        **_marker_labels(patient, computed),
        **_pathology(patient.tables["pathology"], patient),
        "resected": _resected(patient),
        **_survival(patient, computed),
    }
    values |= {name: _declared_value(patient.tables["response"], name, d) for name, d in declared.items()}
    rows, findings = _evaluation_rows(patient, computed, best)
    return values, rows, findings


def _rows(table: str, rows: Sequence[Row]) -> str:
    lines = sorted({row["row"] for row in rows})
    return f"{table}.tsv row{'s' * (len(lines) != 1)} {', '.join(map(str, lines))}" if lines else ""


def _places(rows: Sequence[tuple[str, int]]) -> str:
    """Rows as (table, line number) in words, table by table."""
    tables = dict.fromkeys(table for table, _ in rows)
    return "; ".join(_rows(table, [{"row": line} for name, line in rows if name == table]) for table in tables)


def _binary(source: Value, positive: Callable[[str], bool]) -> Value:
    """A binary label from another label."""
    return Value(str(int(positive(source.value))), source.source) if source.value else source


# ------------------------------------------------------------------------------------------------------------ imaging


def _imaging(patient: _Patient, computed: recist.Course, rules: RecistRules) -> tuple[Value, Value, Value]:
    """Best response, whether it was confirmed, and disease control at the re-evaluation."""
    from_reports = _reported(patient, rules)
    from_scans = _measured(patient, computed)
    if not computed.evaluations or (computed.baseline_mm is None and not computed.best):
        # Nothing can be reckoned from the measurements, so what was reported counts.
        best, gate = from_reports if patient.tables["response"] or not patient.tables["lesions"] else from_scans
    elif patient.rule("evaluation", "recist_from", "measurements") == "reported" and from_reports[0].value:
        best, gate = from_reports
    else:
        best, gate = from_scans
    if not computed.best or best.source != from_scans[0].source:
        confirmed = Value(reason="response was not computed from measurements" if best.value else best.reason)
    elif computed.confirmed is None:
        confirmed = Value(reason=f"the best response is {computed.best}, which needs no confirmation")
    else:
        confirmed = Value(str(int(computed.confirmed)), best.source)
    return best, confirmed, gate


def _measured(patient: _Patient, computed: recist.Course) -> tuple[Value, Value]:
    """Best response and disease control from measurements."""
    if not patient.tables["lesions"] and not patient.tables["scans"]:
        missing = Value(reason="no measurements in lesions.tsv")
        return missing, missing
    counted = [one for one in computed.evaluations if one.counts]
    limit = f" up to {computed.limit}" if computed.limit else ""
    source = f"{_places((*computed.baseline_rows, *computed.best_rows))}: best of {_evaluations(len(counted))}{limit}"
    best = Value(reason=computed.reason)
    if computed.best:
        words = {True: ", confirmed", False: ", not confirmed", None: ""}[computed.confirmed]
        best = Value(str(RECIST.index(computed.best)), f"{source}, on day {computed.best_day}{words}")
    seen = [
        _Seen(one.day, _as_stable(one.response), _places(one.rows))
        for one in computed.evaluations
        if one.counts or one.response == NOT_EVALUABLE
    ]
    return best, _gate(patient, seen, computed.reason)


def _as_stable(response: str) -> str:
    return "SD" if response == "nonCR_nonPD" else response


def _gate(patient: _Patient, seen: Sequence[_Seen], reason: str) -> Value:
    """Disease control: no progression up to, and at, the first evaluation that is late enough to decide.

    One that can't be evaluated may be repeated within four weeks. A later scan does not stand in for it: who lives to
    have it has had his disease controlled.
    """
    first = patient.start + patient.rule("evaluation", "first_min_days", FIRST_EVALUATION_DAYS)
    end = patient.course.end[0] if patient.course.end else math.inf
    latest = math.inf
    for one in sorted(seen, key=lambda one: one.day):
        if one.day > min(end, latest):
            break
        if one.response == "PD":
            return Value("0", f"{one.source}: progression on day {one.day}")
        if one.day >= first and one.response in RECIST:
            return Value("1", f"{one.source}: {one.response} on day {one.day}")
        if one.day >= first and latest == math.inf:
            latest = one.day + REPEATED_DAYS
            reason = f"the re-evaluation on day {one.day} is not evaluable (NE)"
    if latest == math.inf and seen:
        reason = f"no evaluable response from day {first} on, and no progression before"
    return Value(reason=reason or "no evaluation")


def _reported(patient: _Patient, rules: RecistRules) -> tuple[Value, Value]:
    """Best response and disease control as response.tsv reports them.

    Best response is the best over the evaluations up to the first progression (RECIST 1.1, Eisenhauer 2009, section
    4.4.1) and up to the end of the first regimen. The row without ``eval_day``, which does not say when, counts where
    there is no other.
    """
    given = [row for row in patient.tables["response"] if row["recist"]]
    if not given:
        missing = Value(reason="no RECIST value in response.tsv, no measurements in lesions.tsv")
        return missing, missing
    start, end = patient.start, patient.course.end
    dated = sorted((row for row in given if row["eval_day"] is not None), key=lambda row: row["eval_day"])
    after = [row for row in dated if row["eval_day"] > start]
    counted = [row for row in after if end is None or row["eval_day"] <= end[0]]
    limit = "" if len(counted) == len(after) else f" up to {end[1]} on day {end[0]}"
    progression = next((row["eval_day"] for row in counted if row["recist"] == "PD"), None)
    if progression is not None:
        limit = f" up to progression on day {progression}" if counted[-1]["eval_day"] > progression else limit
        counted = [row for row in counted if row["eval_day"] <= progression]
    early = [row for row in counted if row["recist"] == "SD" and row["eval_day"] - start < rules.sd_min_days]
    evaluable = [row for row in counted if row["recist"] != NOT_EVALUABLE and row not in early]
    n_missing = sum(row["recist"] == NOT_EVALUABLE for row in counted)
    source = f"{_rows('response', counted)}: best of {_evaluations(len(counted))}{limit}"
    if n_missing:
        source += f", {n_missing} of them not evaluable (NE)"
    if early:
        source += f", {len(early)} of them too early for stable disease"
    if evaluable:
        best = Value(str(min(RECIST.index(row["recist"]) for row in evaluable)), source)
    elif not counted:
        best = Value(reason=f"no evaluation after the start of treatment on day {start}{limit}")
    elif early:
        best = Value(source=source, reason=f"seen stable only before day {rules.sd_min_days} of treatment{limit}")
    else:
        best = Value(source=source, reason="all evaluations are not evaluable (NE)")
    gate = _gate(patient, [_Seen(r["eval_day"], r["recist"], _rows("response", [r])) for r in counted], best.reason)
    summary = [row for row in given if row["eval_day"] is None]
    if summary and not dated:
        value, source = summary[0]["recist"], f"{_rows('response', summary)}: best response as reported"
        if patient.course.end:
            source += f", whether before {patient.course.end[1]} on day {patient.course.end[0]} is not said"
        best = Value(source=source, reason="reported as not evaluable (NE)")
        if value != NOT_EVALUABLE:
            best = Value(str(RECIST.index(value)), source)
        gate = _binary(best, lambda code: RECIST[int(code)] != "PD")
    return best, gate


def _evaluations(n: int) -> str:
    return f"{n} evaluation{'s' * (n != 1)}"


def _size_changes(patient: _Patient, computed: recist.Course) -> dict[str, Value]:
    """Log ratios of sums and of the biopsied lesion, re-evaluation (or earlier progression) to baseline."""
    names = ("sld_change", "liver_sld_change", "biopsied_change")
    if computed.baseline_mm is None:
        reason = computed.baseline_reason or "no target lesion was measured at baseline"
        return dict.fromkeys(names, Value(reason=reason))
    first = patient.rule("evaluation", "first_min_days", FIRST_EVALUATION_DAYS)
    measured = [one for one in computed.evaluations if one.counts and one.sum_mm is not None]
    chosen = next((one for one in measured if one.n_days >= first or one.response == "PD"), None)
    if chosen is None:
        reason = f"no evaluable sum from day {first} of treatment on{f' up to {computed.limit}' * bool(computed.limit)}"
        return dict.fromkeys(names, Value(reason=reason))
    source = f"{_places((*computed.baseline_rows, *chosen.rows))}: day {chosen.day} to day {computed.baseline_day}"
    return {
        "sld_change": _log_ratio(chosen.sum_mm, computed.baseline_mm, source, "no target lesion at baseline"),
        "liver_sld_change": _log_ratio(
            chosen.liver_sum_mm, computed.liver_baseline_mm, source, "no target lesion in the liver at baseline"
        ),
        "biopsied_change": _biopsied(patient, chosen),
    }


def _log_ratio(value: float | None, baseline: float | None, source: str, reason: str) -> Value:
    change = recist.log_change(baseline, value)
    return Value(reason=reason) if change is None else _number(change, source)


def _number(value: float, source: str) -> Value:
    return Value(f"{value:.10g}", source)


def _biopsied(patient: _Patient, chosen: Evaluation) -> Value:
    biopsies = [
        row
        for row in patient.tables["samples"]
        if row["timepoint"] == "T0_pre" and row["tissue"] == "liver_met" and row["lesion_id"]
    ]
    lesions = sorted({row["lesion_id"] for row in biopsies})
    if len(lesions) != 1:
        reason = f"several lesions were biopsied: {', '.join(lesions)}" if lesions else "no biopsied lesion is named"
        return Value(reason=f"{reason} (samples.tsv)")
    change = recist.lesion_change(
        patient.tables["lesions"],
        lesions[0],
        baseline_day=patient.start,
        day=chosen.day,
        last_day=chosen.last_day,
        rules=trial_rules(patient.trial, "evaluation", RecistRules),
    )
    if change is None:
        return Value(reason=f"lesion {lesions[0]} was not measured at both times")
    return _number(change, f"{_rows('samples', biopsies)}; lesions.tsv: {lesions[0]} on day {chosen.day}")


def _evaluation_rows(
    patient: _Patient, computed: recist.Course, best: Value
) -> tuple[list[tuple[Any, ...]], list[Finding]]:
    """Computed evaluations beside the reported ones, and a finding (V15) for each that differs."""
    reported = [row for row in patient.tables["response"] if row["recist"]]
    rows, findings, matched = [], [], set()
    for one in computed.evaluations:
        near = [
            row
            for row in reported
            if row["eval_day"] is not None
            and abs(row["eval_day"] - one.day) <= SAME_EVALUATION_DAYS
            and row["row"] not in matched
        ]
        same = min(near, key=lambda row: abs(row["eval_day"] - one.day), default=None)
        agrees = ""
        if same:
            matched.add(same["row"])
            agrees = "yes" if same["recist"] == _as_stable(one.response) else "no"
            if agrees == "no":
                findings.append(_disagreement(same, _as_stable(one.response), f"on day {one.day}", one.reason))
        rows.append(
            (
                *(patient.row["patient_id"], one.day, one.n_days, _shown(one.sum_mm), _shown(one.liver_sum_mm)),
                *(_percent(one.sum_mm, one.baseline_mm), _percent(one.sum_mm, one.nadir_mm)),
                *(one.target, one.nontarget, int(one.new_lesion), one.response, same["recist"] if same else "", agrees),
                {True: "yes", False: "no", None: ""}[one.confirmed],
                *("yes" if one.counts else "no", one.reason, _places(one.rows)),
            )
        )
        findings += [
            Finding("warning", f"{table}.tsv", line, "", "", sentence, "correct what contradicts the other", "V14")
            for table, line, sentence in one.contradictions
        ]
    for row in reported:
        if row["eval_day"] is None and best.value and row["recist"] != RECIST[int(best.value)]:
            findings.append(_disagreement(row, RECIST[int(best.value)], "as best response", ""))
    return rows, findings


def _disagreement(row: Row, computed: str, when: str, reason: str) -> Finding:
    message = f"the evaluations give {computed} {when}{f' ({reason})' * bool(reason)}"
    remedy = "look at both; the trial file says which of them counts (evaluation: recist_from)"
    return Finding("warning", "response.tsv", row["row"], "recist", row["recist"], message, remedy, "V15")


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _percent(value: float | None, reference: float | None) -> str:
    return "" if value is None or not reference else f"{100 * (value / reference - 1):.1f}"


# -------------------------------------------------------------------------------------------------------------- blood


def _marker_labels(patient: _Patient, computed: recist.Course) -> dict[str, Value]:
    """Labels from CA19-9 (:func:`livermet.blood.ca199_course`)."""
    names = [name for name in LABELS if name.startswith("ca199_")]
    if not any(row["analyte"] == "ca199" for row in patient.tables["blood"]):
        return dict.fromkeys(names, Value(reason="no CA19-9 in blood.tsv"))
    first = patient.rule("evaluation", "first_min_days", FIRST_EVALUATION_DAYS)
    day = next((one.day for one in computed.evaluations if one.counts and one.n_days >= first), None)
    course = blood.ca199_course(
        patient.tables["blood"],
        start=patient.start,
        end=patient.course.end,
        evaluation_day=day,
        lewis_status=patient.row["lewis_status"],
        rules=trial_rules(patient.trial, "ca199", blood.Ca199Rules),
        window=tuple(patient.rule("windows", "T1_from_treatment", blood.WINDOWS["T1_from_treatment"])),
    )
    notes = "".join(f"; {note}" for note in course.notes)
    return {
        name: Value(
            one.value, f"{_rows('blood', one.rows)}{notes}" if one.value else _rows("blood", one.rows), one.reason
        )
        for name, one in course.labels.items()
    }


def _marker_normal(patient: _Patient) -> Callable[[int], bool | None]:
    """Whether CA19-9 was normal around a day: complete response of non-target lesions needs it (RECIST 1.1)."""
    draws = [row for row in patient.tables["blood"] if row["analyte"] == "ca199" and row["value"] is not None]

    def normal(day: int) -> bool | None:
        near = [row for row in draws if abs(row["day"] - day) <= MARKER_DAYS]
        return (
            blood.is_normal(
                min(near, key=lambda row: abs(row["day"] - day)),
                rules=trial_rules(patient.trial, "ca199", blood.Ca199Rules),
            )
            if near
            else None
        )

    return normal


# ---------------------------------------------------------------------------------------------- tissue and operations


def _pathology(rows: Sequence[Row], patient: _Patient) -> dict[str, Value]:
    """Regression of the resected metastases; of several specimens the one with most tumour left counts."""
    resected = {
        row["sample_id"]
        for row in patient.tables["samples"]
        if row["timepoint"] == RESECTION and row["tissue"] == "liver_met"
    }
    own = [row for row in rows if row["sample_id"] in resected]
    why = "no resected metastasis among the samples" if not resected else "not assessed in pathology.tsv"
    scored = [row for row in own if row["cap_trs"] is not None]
    score = Value(reason=why)
    if scored:
        score = Value(str(max(row["cap_trs"] for row in scored)), _rows("pathology", scored))
    staged = [row for row in own if row["ypm"] is not None]
    stage = Value(reason=why)
    if staged:
        stage = Value(str(int(not any(row["ypm"] for row in staged))), _rows("pathology", staged))
    return {"path_cap": score, "path_cap01": _binary(score, lambda value: int(value) <= 1), "ypM0": stage}


def _resected(patient: _Patient) -> Value:
    local = patient.tables["local_treatment"]
    planned = patient.row["planned_local"]
    intention = f"; planned: {planned}" if planned else ""
    done = [row for row in local if row["type"] in LIVER_TREATMENTS and row["day"] >= patient.start]
    if done:
        return Value("1", f"{_rows('local_treatment', done)}: {done[0]['type']} on day {done[0]['day']}{intention}")
    if "local_treatment" not in patient.given:
        return Value(reason="the study has no local_treatment.tsv")
    if patient.course.start is None and not patient.tables["outcome"]:
        return Value(reason="neither treatment nor follow-up is known")
    return Value("0", f"no local treatment of the liver in local_treatment.tsv{intention}")


def _survival(patient: _Patient, computed: recist.Course) -> dict[str, Value]:
    """Times to event from enrolment (intention to treat) and, for those who had it, from local treatment.

    Without progression or relapse a patient is followed to the last follow-up where the study reports these days, else
    to the last evaluation: to be alive is not to be free of progression.
    """
    names = ("early_relapse6", "pfs", "os", "rfs", "os_surgery")
    outcome = next(iter(patient.tables["outcome"]), None)
    if outcome is None or outcome["last_followup_day"] is None or outcome["death"] is None:
        why = "no row in outcome.tsv" if outcome is None else "no last_followup_day or death in outcome.tsv"
        return dict.fromkeys(names, Value(reason=why))
    last, died = outcome["last_followup_day"], bool(outcome["death"])
    place = _rows("outcome", [outcome])
    seen = last if "events" in patient.given else max((one.day for one in computed.evaluations), default=None)

    def free(origin: int, where: str) -> Value:
        """Time from ``origin`` to progression, relapse or death."""
        day, words = _progression(outcome, computed, after=origin, last=last)
        if day is not None:
            return Value(str(day - origin), f"{where}: {words} on day {day}", event="1")
        if died:
            return Value(str(last - origin), f"{where}: death on day {last}", event="1")
        if seen is None or seen < origin:
            return Value(reason="no day of progression or relapse in outcome.tsv, and no evaluation")
        return Value(str(seen - origin), f"{where}: free of progression on day {seen}", event="0")

    def alive(origin: int, where: str) -> Value:
        what = "death" if died else "alive"
        return Value(str(last - origin), f"{where}: {what} on day {last}", event=str(int(died)))

    values = {"pfs": free(0, place), "os": alive(0, place)}
    surgery = patient.course.surgery
    if surgery is None:
        missing = Value(reason="no local treatment of the liver")
        return values | dict.fromkeys(("early_relapse6", "rfs", "os_surgery"), missing)
    origin, place = surgery["day"], f"{_rows('local_treatment', [surgery])}; {place}"
    values |= {"rfs": free(origin, place), "os_surgery": alive(origin, place)}
    values["early_relapse6"] = _early_relapse(patient, outcome, computed, seen)
    return values


def _progression(outcome: Row, computed: recist.Course, *, after: int, last: int) -> tuple[int | None, str]:
    """First progression or relapse after a day: as outcome.tsv has it, else by the measurements."""
    given = [(outcome[name], name.removesuffix("_day")) for name in ("progression_day", "relapse_day")]
    days = sorted((day, words) for day, words in given if day is not None and after < day <= last)
    measured = [
        (one.day, f"progression by {_places(one.rows)}")
        for one in computed.evaluations
        if one.response == "PD" and after < one.day <= last
    ]
    return next(iter([*days, *measured]), (None, ""))


def _early_relapse(patient: _Patient, outcome: Row, computed: recist.Course, seen: int | None) -> Value:
    origin, last = patient.course.surgery["day"], outcome["last_followup_day"]
    days = patient.trial.get("early_relapse_days", EARLY_RELAPSE_DAYS)
    place = f"{_rows('local_treatment', [patient.course.surgery])}; {_rows('outcome', [outcome])}"
    relapse, words = _progression(outcome, computed, after=origin, last=last)
    if relapse is not None and relapse - origin <= days:
        return Value("1", f"{place}: {words} {relapse - origin} days after local treatment")
    free = relapse if relapse is not None else seen
    if free is not None and free - origin >= days:
        return Value("0", f"{place}: free of relapse {free - origin} days after local treatment")
    if free is None or free <= origin:
        return Value(reason="no day of relapse in outcome.tsv, and no evaluation after local treatment")
    what = "died without relapse" if outcome["death"] else "was followed"
    return Value(reason=f"{what} for {free - origin} of {days} days after local treatment")


# ----------------------------------------------------------------------------------------------------------- declared


def _declared_value(response: Sequence[Row], label: str, definition: Mapping[str, Any]) -> Value:
    """A declared label from the patient's rows of response.tsv."""
    given = [row for row in response if row[label] not in (None, "")]
    if not given:
        return Value(reason=f"no value of {label} in response.tsv")
    summary = [row for row in given if row["eval_day"] is None]
    used = summary or given
    source = _rows("response", used)
    different = {row[label] for row in used}
    if len(different) > 1:
        reason = f"{len(different)} different values; give the one that counts in a row without eval_day"
        return Value(source=source, reason=reason)
    value = used[0][label]
    if definition["kind"] == "binary":
        return Value(str(int(value == definition["positive"])), source)
    if definition["kind"] == "ordinal":
        return Value(str(definition["levels"].index(value)), source)
    return _number(value, source)


def nesting_findings(labels: pd.DataFrame, *, primary: str, rows: Mapping[str, Row]) -> list[Finding]:
    """V16: the primary label lies within centres or batches, so that it could not be told from them.

    Parameters
    ----------
    labels
        The derived labels.
    primary
        Name of the primary label; a continuous one is left to the tests.
    rows
        Libraries with their patient, centre and batch, by library id.
    """
    own = labels[(labels["label"] == primary) & labels["kind"].isin(["binary", "ordinal"]) & (labels["value"] != "")]
    with_library = {row["patient_id"] for row in rows.values()}
    classes = {p: v for p, v in zip(own["patient_id"], own["value"], strict=True) if p in with_library}
    findings: list[Finding] = []
    if len(classes) < 2 * MIN_PER_CLASS:
        return findings
    for factor, file in (("centre", "patients.tsv"), ("batch", "libraries.tsv")):
        groups: dict[str, set[str]] = {}
        for row in rows.values():
            if row["patient_id"] in classes:
                groups.setdefault(row[factor], set()).add(classes[row["patient_id"]])
        mixed = [name for name, values in groups.items() if len(values) > 1]
        if len(groups) > 1 and len(set(classes.values())) > 1 and len(mixed) < 2:
            which = f"only {mixed[0]} of {len(groups)} holds" if mixed else f"none of {len(groups)} holds"
            message = f"{which} patients of more than one class of {primary}: response can't be told from {factor}"
            remedy = f"nothing to correct; comparisons are refused (R05) until a {factor} has patients of both classes"
            findings.append(Finding("warning", file, None, factor, primary, message, remedy, "V16"))
    return findings
