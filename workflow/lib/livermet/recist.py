"""Response of one patient by RECIST 1.1, from the measurements of lesions and the readings of scans.

The criteria are those of Eisenhauer et al. 2009 (Eur J Cancer 45:228-247, doi:10.1016/j.ejca.2008.10.026; cited below
by section and table), for nodes Schwartz et al. 2009 (Eur J Cancer 45:261-267), and the questions and answers of the
RECIST working group (recist.eortc.org; Schwartz et al. 2016, Eur J Cancer 62:132-137). Where they are silent, a rule
of this module decides; each such rule stands in the docstring of the function that applies it and begins "Own rule".

Rows of ``lesions.tsv`` and how they are read, one row per lesion, day and modality:

- ``measured``, or an empty status with a diameter: the diameter counts (longest; short axis for a node).
- ``too_small``: 5 mm, or the diameter where one is given. ``absent``: 0 mm. A lesion that stays absent needs a row at
  every evaluation: no row means that nobody looked.
- ``not_evaluable``, no diameter, or PET-CT alone: not evaluable for size. A CT of diagnostic quality that was taken
  during a PET-CT is entered as CT.
- ``merged``: ``related_lesion_id`` names the lesion that it merged into. That lesion's row carries the longest diameter
  of the coalesced mass; the merged one adds nothing from then on, until it is measured on its own again.
- split: each fragment has an id of its own, its diameter, and in ``related_lesion_id`` the lesion that it came from;
  all diameters are added. The original has a row with status ``split``, with its diameter if it is itself one of the
  fragments. From then on every fragment needs a row at every evaluation.
- ``locally_treated``: from that day on the lesion says nothing of the response to systemic treatment.
- ``present`` and ``unequivocal_progression`` speak of non-target lesions.

Only the standard library is needed, so that the tables can be checked while the workflow is parsed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from livermet.organs import LIVER, NODE_WORDS, organ_of, organ_words

Row = Mapping[str, Any]
Number = float | Decimal
Problem = tuple[int, str, str, str, str]

# Eisenhauer 2009: sections 3.1.1 (what can be a target), 4.2 (how many), 4.3.1 and 4.3.2 (response).
MIN_LESION_MM, MIN_NODE_MM = 10, 15
MAX_TARGETS, MAX_TARGETS_PER_ORGAN = 5, 2
NORMAL_NODE_MM = Decimal(10)
TOO_SMALL_MM = Decimal(5)
PARTIAL_RESPONSE, PROGRESSION = Decimal("0.7"), Decimal("1.2")
PROGRESSION_MM = Decimal(5)

# Own rules: scans up to so many days after the first one of an evaluation belong to it; what a lesion that is gone
# counts in a log ratio, half of what the criteria give to one too small to measure.
EVALUATION_DAYS = 7
FLOOR_MM = 2.5

BEST_FIRST = ("CR", "PR", "SD", "PD")
CONFIRMED_BY = {"CR": ("CR",), "PR": ("CR", "PR")}
# Several readings at one evaluation: what is seen on one scan is not undone by another.
NONTARGET_WORST_FIRST = ("PD", "nonCR_nonPD", "NE", "CR")
MODALITIES = ("CT", "MRI", "", "PETCT")


@dataclass(frozen=True)
class RecistRules:
    """What the criteria leave to the protocol, in days.

    Attributes
    ----------
    baseline_max_days_before
        A baseline scan lies at most so long before the start of treatment (section 3.2.1: never more than 4 weeks).
    sd_min_days
        Stable disease must last so long from the start of treatment (section 4.6.1: in general 6 to 8 weeks).
    confirmation_min_days
        CR and PR are confirmed by a scan at least so much later (section 4.4.3: 4 weeks).
    """

    baseline_max_days_before: int = 28
    sd_min_days: int = 42
    confirmation_min_days: int = 28


@dataclass(frozen=True)
class Evaluation:
    """One evaluation after the start of treatment.

    Attributes
    ----------
    day, last_day
        Days of its first and last scan; the evaluation is dated by the first.
    n_days
        Days from the start of treatment.
    sum_mm, liver_sum_mm
        Sum of the target diameters, and of those in the liver; None where one of them is not evaluable.
    baseline_mm, nadir_mm
        The sum at baseline, and the smallest evaluable one before this evaluation, baseline included.
    target
        CR, PR, SD, PD, NE, or "" where the patient has no target lesion.
    nontarget
        CR, nonCR_nonPD, PD, NE, or "" where the patient has no non-target lesion.
    new_lesion
        Whether a new lesion was seen.
    response
        CR, PR, SD, PD, NE, or nonCR_nonPD for a patient without target lesions (table 2).
    confirmed
        Whether a later evaluation confirms it; None unless it is a CR or PR that counts.
    counts
        Whether it enters the best response.
    reason
        Why it is NE, what shows the progression, why it doesn't count.
    contradictions
        (table, row, sentence) where the rows of this evaluation contradict each other.
    rows
        (table, row) of all rows of these days.
    """

    day: int
    last_day: int
    n_days: int
    sum_mm: float | None
    liver_sum_mm: float | None
    baseline_mm: float | None
    nadir_mm: float | None
    target: str
    nontarget: str
    new_lesion: bool
    response: str
    confirmed: bool | None
    counts: bool
    reason: str
    contradictions: tuple[tuple[str, int, str], ...]
    rows: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Course:
    """A patient's course under the first treatment.

    Attributes
    ----------
    baseline_day
        Day of the last baseline measurement; for non-target disease alone the last day of the baseline. None without
        baseline.
    baseline_mm, liver_baseline_mm
        Sum of the target diameters at baseline; None where there is none, and then ``baseline_reason`` says why.
    baseline_rows
        (table, row) of the baseline.
    evaluations
        All evaluations after the start of treatment, those that don't count too.
    best, best_day, best_rows
        CR, PR, SD or PD, the day that it was first seen and the rows of that evaluation; "" and None where there is
        none, and then ``reason`` says why. Non-CR/non-PD counts as SD.
    confirmed
        Whether a best response of CR or PR was confirmed; None for any other. A single CR after a confirmed PR is an
        unconfirmed CR.
    confirmed_best
        The best response if confirmation is required (table 3).
    limit
        What ended the period that counts: "progression on day 112", "local treatment on day 150", or "".
    """

    baseline_day: int | None
    baseline_mm: float | None
    liver_baseline_mm: float | None
    baseline_rows: tuple[tuple[str, int], ...]
    baseline_reason: str
    evaluations: tuple[Evaluation, ...]
    best: str
    best_day: int | None
    best_rows: tuple[tuple[str, int], ...]
    confirmed: bool | None
    confirmed_best: str
    limit: str
    reason: str


def evaluate_course(
    lesions: Iterable[Row],
    scans: Iterable[Row],
    *,
    start: int,
    end: tuple[int, str] | None,
    rules: RecistRules,
    marker_normal: Callable[[int], bool | None] | None = None,
) -> Course:
    """Evaluate the course of one patient.

    Parameters
    ----------
    lesions, scans
        The patient's rows of lesions.tsv and scans.tsv, each with its line number under "row"; their order is
        irrelevant.
    start
        First day of treatment.
    end
        (day, words) of the first local treatment or change of regimen. Later evaluations are listed and don't count;
        one on the day itself does.
    rules
        The protocol's days.
    marker_normal
        Whether the tumour marker is normal at an evaluation on this day; None where unknown.

    Raises
    ------
    ValueError
        The rows are of more than one patient.

    Notes
    -----
    *Baseline.* The lesions with ``target`` 1 in the window that ends with the start of treatment (that day included);
    one that becomes a target later is not added. Own rule: each counts with its last measurement in that window, so
    that an MRI of some of them doesn't undo the CT of all. If one cannot be measured there, there is no sum.

    *Evaluation.* Own rule: rows up to 7 days after its first day are one evaluation, unless ``end`` lies between them.
    A lesion that was measured twice counts by the modality of its baseline, then by the later day. What is not known
    on its last day never matters, so that rows after ``end`` cannot change what counts.

    *New lesion.* ``new_lesion`` 1 on any scan. Own rules: a lesion first listed after the start is new where no scan
    says ``new_lesion`` 0; where one does, the reading of the scan counts (a new lesion has to be unequivocal, section
    4.3.5), the lesion joins the non-target ones and the contradiction is told. So it does if it is listed with
    ``target`` 1, which may be a late baseline. A node below 10 mm is normal, so it is not new, and neither are
    fragments or the product of a merger.

    *Non-target lesions.* The scan's reading where given, else the rows: PD if one progressed unequivocally, NE if one
    was not looked at, CR if all are gone (nodes below 10 mm). Own rules: a row with unequivocal progression counts
    against any reading, and a reading of CR needs that no row shows a lesion and that none was treated locally. A
    marker above its limit turns CR into non-CR/non-PD, and CR of a patient without non-target lesions into PR
    (sections 3.2.2 and 4.3.3).

    *Response.* Tables 1 and 2. Without baseline sum it is NE, unless a new lesion or non-target progression shows PD.
    After an overall CR, disease that is seen again is PD (table 3, footnote): a target lesion as in
    :func:`target_response`; a non-target lesion that is no node, by its rows. Own rule: where the scan's own reading
    then is nonCR_nonPD, that stands and the contradiction is told. If CR was claimed too early, correct that scan.
    A sum that no longer meets 30 % after a PR, and is no PD, is SD at that evaluation; the best response stays PR.

    *Best response.* The best evaluation up to the first progression and up to ``end``, as in trials without required
    confirmation (:func:`best_overall`). Own rule: CR is confirmed by any later CR that counts, PR by any later PR or
    CR, whatever lies between.
    """
    lesions, scans = list(lesions), list(scans)
    patients = {row["patient_id"] for row in (*lesions, *scans)}
    if len(patients) > 1:
        raise ValueError(f"rows of several patients ({', '.join(sorted(patients))}); give those of one patient")
    baseline = _baseline(lesions, start=start, rules=rules)
    evaluations: list[Evaluation] = []
    nadir = baseline.total
    complete_day = None
    for day, last in _evaluation_days((*lesions, *scans), start=start, end=end):
        evaluation, total = _evaluate(
            [row for row in lesions if row["day"] <= last],
            [row for row in scans if row["day"] <= last],
            day=day,
            last=last,
            start=start,
            baseline=baseline,
            nadir=nadir,
            complete_day=complete_day,
            marker_normal=marker_normal,
        )
        evaluations.append(evaluation)
        if total is not None and nadir is not None:
            nadir = min(nadir, total)
        if evaluation.response == "CR" and complete_day is None:
            complete_day = day
    return _course(evaluations, baseline=baseline, start=start, end=end, rules=rules)


def target_response(
    *,
    baseline: Number | None,
    nadir: Number | None,
    current: Number,
    complete: bool = False,
    evaluable: bool = True,
    seen_again: bool = False,
) -> str:
    """Response of the target lesions from their sums of diameters (section 4.3.1).

    Parameters
    ----------
    baseline, nadir
        Sum at baseline and smallest sum on study, baseline included, in mm; None without baseline.
    current
        Sum now; if not all lesions are evaluable, that of the others.
    complete
        No lesion is left: every lesion is gone and every node below 10 mm in its short axis. The sum may be above 0.
    evaluable
        Whether all target lesions are evaluable.
    seen_again
        Disease is seen after an overall CR.

    Returns
    -------
    CR, PR, SD, PD or NE. Numbers are compared as the decimals that they were written as, so that a fall of exactly
    30 % and a rise of exactly 20 % are met.

    Notes
    -----
    PD needs a rise of at least 20 % and of at least 5 mm over the nadir. It is also called if some lesions are not
    evaluable and the others reach it alone (section 4.4.2). Own rules: after a CR a rise of 5 mm is enough, since the
    20 % would be of normal nodes; less than 5 mm may be a lesion that was there all along, and waits for the next
    scan. While every node is normal the response stays CR, however much their sum changes.
    """
    if baseline is None or nadir is None:
        return "NE"
    baseline, nadir, current = _exact(baseline), _exact(nadir), _exact(current)
    if complete and evaluable:
        return "CR"
    if current - nadir >= PROGRESSION_MM and (seen_again or current >= PROGRESSION * nadir):
        return "PD"
    if not evaluable:
        return "NE"
    return "PR" if current <= PARTIAL_RESPONSE * baseline else "SD"


def overall_response(*, target: str, nontarget: str, new_lesion: bool) -> str:
    """Response at one evaluation: table 1 with target lesions, table 2 without.

    Own rule: a patient without non-target lesions (``nontarget`` "") is as one whose non-target lesions are gone.
    """
    if new_lesion or "PD" in (target, nontarget):
        return "PD"
    if target == "":
        return nontarget or "NE"
    if target == "CR":
        return "CR" if nontarget in ("", "CR") else "PR"
    return target


def best_overall(responses: Sequence[tuple[int, str]], *, rules: RecistRules, confirmed: bool = False) -> str:
    """Best response over the evaluations of one patient (section 4.4.3, for ``confirmed`` table 3).

    Parameters
    ----------
    responses
        (days from the start of treatment, response) of each evaluation by day, as :class:`Evaluation` has them.
    rules
        The protocol's days.
    confirmed
        Whether CR and PR need confirmation. One that isn't confirmed then is as good as SD.

    Returns
    -------
    CR, PR, SD or PD; "" where nothing counts. What follows the first PD doesn't count, nor does SD before
    ``rules.sd_min_days``, nor NE. Non-CR/non-PD is SD. In table 3 disease that is seen after CR is PD.
    """
    values: list[tuple[int, str]] = []
    for n_days, response in responses:
        again = confirmed and response in ("PR", "SD", "nonCR_nonPD") and "CR" in {value for _, value in values}
        value = "PD" if again else "SD" if response == "nonCR_nonPD" else response
        values.append((n_days, value))
        if value == "PD":
            break
    if confirmed:
        values = [
            (n_days, value if value not in CONFIRMED_BY or _is_confirmed(n_days, value, values, rules) else "SD")
            for n_days, value in values
        ]
    counted = {value for n_days, value in values if value != "SD" or n_days >= rules.sd_min_days}
    return next((value for value in BEST_FIRST if value in counted), "")


def _is_confirmed(n_days: int, value: str, others: Iterable[tuple[int, str]], rules: RecistRules) -> bool:
    later = {other for day, other in others if day - n_days >= rules.confirmation_min_days}
    return not later.isdisjoint(CONFIRMED_BY[value])


def log_change(baseline_mm: float | None, current_mm: float | None) -> float | None:
    """Natural log of the ratio of two diameters or sums, current to baseline; None where one is missing.

    Own rule: sizes below 2.5 mm (half of what a lesion too small to measure is given) count as 2.5 mm, so that a
    lesion that is gone has the largest fall of all and not a missing value.
    """
    if baseline_mm is None or current_mm is None or baseline_mm <= 0:
        return None
    return math.log(max(current_mm, FLOOR_MM) / max(baseline_mm, FLOOR_MM))


def lesion_change(
    lesions: Iterable[Row],
    lesion_id: str,
    *,
    baseline_day: int,
    day: int,
    last_day: int | None = None,
    rules: RecistRules | None = None,
) -> float | None:
    """Log ratio of one lesion's diameter, target or not, between baseline and an evaluation.

    Parameters
    ----------
    lesions
        The patient's rows of lesions.tsv.
    lesion_id
        The lesion, for example the biopsied one. Fragments that it split into are added.
    baseline_day
        Last day of the baseline, for example the start of treatment; the lesion's last measurement on it, or at most
        ``rules.baseline_max_days_before`` days earlier, counts.
    day, last_day
        First and last day of the evaluation.
    rules
        The protocol's days.

    Returns
    -------
    As :func:`log_change`; None where the lesion has no size then, has merged with another or was treated locally.
    """
    last = day if last_day is None else last_day
    history = [row for row in lesions if row["day"] <= last]
    opening = baseline_day - (rules or RecistRules()).baseline_max_days_before
    before = _View([row for row in history if row["day"] <= baseline_day], opening, baseline_day)
    first = _measure(before, [lesion_id])
    view = _View(history, day, last, used=before.chosen())
    now = _measure(view, [lesion_id])
    merged = any(row["status"] == "merged" for row in (before.current(lesion_id), view.current(lesion_id)) if row)
    if first.missing or now.missing or merged:
        return None
    return log_change(float(first.total), float(now.total))


@dataclass(frozen=True)
class _View:
    """What is known of the lesions at one evaluation.

    Attributes
    ----------
    history
        All rows up to its last day.
    first, last
        Its days.
    used
        The row that each lesion's baseline was taken from: names the modality to prefer, and local treatment before it
        doesn't matter. None at the baseline itself.
    """

    history: Sequence[Row]
    first: int
    last: int
    used: Mapping[str, Row] | None = None

    def rows(self) -> list[Row]:
        """The rows of the evaluation's own days."""
        return [row for row in self.history if row["day"] >= self.first]

    def of(self, lesion: str) -> list[Row]:
        """All rows of one lesion, by day."""
        return sorted((row for row in self.history if row["lesion_id"] == lesion), key=_by_day)

    def current(self, lesion: str, *, informative: Callable[[Row], bool] | None = None) -> Row | None:
        """The row that speaks for a lesion: one of these days, else the last one if the lesion had merged or split."""
        informative = informative or _says_size
        own = self.of(lesion)
        preferred = (self.used or {}).get(lesion, {}).get("modality", "")

        def order(row: Row) -> tuple[Any, ...]:
            other = bool(preferred) and row["modality"] != preferred
            return (not informative(row), other, -row["day"], MODALITIES.index(row["modality"]), row["row"])

        now = [row for row in own if row["day"] >= self.first]
        if now:
            return min(now, key=order)
        before = [row for row in own if row["day"] == own[-1]["day"]] if own else []
        row = min(before, key=order, default=None)
        carried = row is not None and (row["status"] == "merged" or (row["status"] == "split" and _size(row) is None))
        return row if carried else None

    def chosen(self) -> dict[str, Row]:
        """The row that speaks for each lesion with a row of these days."""
        lesions = sorted({row["lesion_id"] for row in self.rows()})
        return {lesion: row for lesion in lesions if (row := self.current(lesion)) is not None}

    def is_node(self, lesion: str) -> bool:
        """Whether a lesion is a lymph node, by the first row that says so or not."""
        return next((row["node"] for row in self.of(lesion) if row["node"] is not None), 0) == 1

    def treated(self, lesion: str) -> int | None:
        """Day of a local treatment since baseline and not after the row that speaks for the lesion now."""
        if self.used is None:
            return None
        row = self.current(lesion)
        until = self.last if row is None else row["day"]
        used = self.used.get(lesion, {"day": -math.inf, "row": None})
        days = [
            row["day"]
            for row in self.of(lesion)
            if row["status"] == "locally_treated" and row["row"] != used["row"] and row["day"] >= used["day"]
        ]
        return next((day for day in days if day <= until), None)

    def fragments(self, lesion: str) -> list[str]:
        """Lesions that a lesion has split into."""
        return sorted(
            {
                row["lesion_id"]
                for row in self.history
                if row["related_lesion_id"] == lesion and row["status"] != "merged" and row["lesion_id"] != lesion
            }
        )

    def carrier(self, lesion: str) -> str | None:
        """The lesion that carries the size of a merged one; None where none is named or they name each other."""
        path = [lesion]
        while (row := self.current(path[-1])) is not None and row["status"] == "merged":
            if not row["related_lesion_id"] or row["related_lesion_id"] in path:
                return None
            path.append(row["related_lesion_id"])
        return path[-1]


@dataclass(frozen=True)
class _Size:
    """Sum of some lesions: of those that are evaluable, why others are not, and which lesions it rests on."""

    total: Decimal
    disease: bool
    missing: tuple[str, ...]
    lesions: frozenset[str]


@dataclass
class _Notes:
    reasons: list[str] = field(default_factory=list)
    contradictions: list[tuple[str, int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Baseline:
    opening: int
    day: int | None = None
    total: Decimal | None = None
    liver_total: Decimal | None = None
    targets: tuple[str, ...] = ()
    liver_targets: tuple[str, ...] = ()
    unknown_targets: bool = False
    used: Mapping[str, Row] = field(default_factory=dict)
    rows: tuple[tuple[str, int], ...] = ()
    reason: str = ""


def _by_day(row: Row) -> tuple[int, int]:
    return row["day"], row["row"]


def _exact(value: Number) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(str(value))


def _size(row: Row) -> Decimal | None:
    """What a row says of the size of its lesion, None where it says nothing that counts."""
    diameter = None if row["diameter_mm"] is None else _exact(row["diameter_mm"])
    if row["modality"] == "PETCT" or row["status"] in ("not_evaluable", "merged", "locally_treated"):
        return None
    if row["status"] == "absent":
        return None if diameter else Decimal(0)
    return TOO_SMALL_MM if diameter is None and row["status"] == "too_small" else diameter


def _says_size(row: Row) -> bool:
    return _size(row) is not None or (row["status"] in ("merged", "split") and row["modality"] != "PETCT")


def _place(row: Row) -> str:
    return f"lesions.tsv, row {row['row']}"


def _unusable(row: Row) -> str:
    """Why a row says nothing of the size of its lesion."""
    lesion = row["lesion_id"]
    if row["status"] == "not_evaluable":
        return f"{lesion} is not evaluable ({_place(row)})"
    if row["modality"] == "PETCT":
        return f"{lesion} was seen on PET-CT alone ({_place(row)})"
    if row["status"] == "absent":
        return f"{lesion} is absent and yet has a diameter ({_place(row)})"
    return f"{lesion} has no diameter ({_place(row)})"


def _measure(view: _View, lesions: Iterable[str]) -> _Size:
    """Add up lesions (section 4.3.2): fragments of a split lesion all, a merged one through the lesion it merged into.

    Own rule: if a target lesion merges into one that is no target, the size of the coalesced mass counts.
    """
    total, disease, missing = Decimal(0), False, []
    pending, done = sorted(lesions, reverse=True), set()
    while pending:
        lesion = pending.pop()
        if lesion in done:
            continue
        done.add(lesion)
        fragments = view.fragments(lesion)
        pending += fragments
        row, treated = view.current(lesion), view.treated(lesion)
        if treated is not None:
            missing.append(f"{lesion} was treated locally on day {treated}")
        elif row is None:
            missing.append(f"{lesion} was not measured")
        elif row["status"] == "merged" and view.carrier(lesion) is None:
            missing.append(f"{lesion} merged, and no lesion carries its size ({_place(row)})")
        elif row["status"] == "merged":
            pending.append(view.carrier(lesion))
        elif (size := _size(row)) is not None:
            total += size
            disease = disease or (size >= NORMAL_NODE_MM if view.is_node(lesion) else size > 0)
        elif row["status"] != "split" or not fragments:
            missing.append(_unusable(row))
    return _Size(total, disease, tuple(missing), frozenset(done))


def _baseline(lesions: list[Row], *, start: int, rules: RecistRules) -> _Baseline:
    opening = start - rules.baseline_max_days_before
    view = _View([row for row in lesions if row["day"] <= start], opening, start)
    rows = sorted(view.rows(), key=_by_day)
    used = view.chosen()
    last_row = {row["lesion_id"]: row for row in rows}
    targets = tuple(sorted(lesion for lesion, row in last_row.items() if row["target"] == 1))
    unknown = _Baseline(opening, unknown_targets=True, used=used)
    if not targets:
        target_days = sorted(row["day"] for row in lesions if row["target"] == 1)
        if not rows or any(day <= start for day in target_days):
            return replace(unknown, reason=_no_baseline(target_days, start=start, opening=opening))
        reason = "no target lesion at baseline: the patient has non-target disease alone"
        listed = tuple(("lesions", row["row"]) for row in rows)
        return _Baseline(opening, day=rows[-1]["day"], used=used, rows=listed, reason=reason)
    size = _measure(view, targets)
    if size.missing:
        return replace(unknown, reason=f"no sum at baseline: {'; '.join(size.missing)}")
    if not size.total:
        return replace(unknown, reason="no sum at baseline: all target lesions are absent")
    liver = tuple(lesion for lesion in targets if _organ(view, lesion) == LIVER)
    taken = sorted((used[lesion] for lesion in size.lesions if lesion in used), key=_by_day)
    return _Baseline(
        opening,
        day=taken[-1]["day"],
        total=size.total,
        liver_total=_measure(view, liver).total if liver else None,
        targets=targets,
        liver_targets=liver,
        used=used,
        rows=tuple(("lesions", row["row"]) for row in taken),
    )


def _no_baseline(target_days: Sequence[int], *, start: int, opening: int) -> str:
    before = [day for day in target_days if day <= start]
    window = f"{start - opening} days before the start of treatment on day {start}"
    if before:
        return f"no baseline: the last target lesion is of day {before[-1]}, more than {window}"
    if target_days:
        return f"no baseline: target lesions are first listed on day {target_days[0]}, after the start on day {start}"
    return f"no baseline: no lesion is listed in the {window}"


def _organ(view: _View, lesion: str) -> str:
    """Organ of a lesion; all nodes are one organ, wherever they lie (recist.eortc.org)."""
    text = next((row["organ"] for row in view.of(lesion) if row["organ"]), "")
    if view.is_node(lesion):
        return "lymph nodes"
    return LIVER if organ_of(text) == LIVER else " ".join(text.casefold().split())


def _evaluation_days(rows: Iterable[Row], *, start: int, end: tuple[int, str] | None) -> list[tuple[int, int]]:
    """First and last day of each evaluation after the start of treatment; a local treatment is no scan."""
    spans: list[tuple[int, int]] = []
    scanned = {row["day"] for row in rows if row.get("status") != "locally_treated"}
    for day in sorted(day for day in scanned if day > start):
        first = spans[-1][0] if spans else None
        same = first is not None and day - first <= EVALUATION_DAYS and not (end and first <= end[0] < day)
        if same:
            spans[-1] = (first, day)
        else:
            spans.append((day, day))
    return spans


def _evaluate(
    lesions: list[Row],
    scans: list[Row],
    *,
    day: int,
    last: int,
    start: int,
    baseline: _Baseline,
    nadir: Decimal | None,
    complete_day: int | None,
    marker_normal: Callable[[int], bool | None] | None,
) -> tuple[Evaluation, Decimal | None]:
    """One evaluation, as if it counted, and its sum where it is evaluable."""
    view = _View(lesions, day, last, used=baseline.used)
    notes = _Notes()
    size = _measure(view, baseline.targets)
    again = complete_day is not None and size.disease
    target = ""
    if baseline.targets or baseline.unknown_targets:
        target = target_response(
            baseline=baseline.total,
            nadir=nadir,
            current=size.total,
            complete=not size.disease,
            evaluable=not size.missing,
            seen_again=again,
        )
        notes.reasons += [baseline.reason] if baseline.unknown_targets else size.missing
        if again:
            small = "" if target == "PD" else f", but the sum rose by less than {PROGRESSION_MM} mm"
            notes.reasons.append(f"a target lesion is seen again after CR on day {complete_day}{small}")

    current_scans = [row for row in scans if row["day"] >= day]
    family = size.lesions | {row["lesion_id"] for row in lesions if row["target"] == 1 and baseline.unknown_targets}
    carriers = {row["related_lesion_id"] for row in lesions if row["status"] == "merged"}
    others = sorted({row["lesion_id"] for row in lesions if row["day"] >= baseline.opening} - family)
    comparable = bool(baseline.used)
    first_listed = [
        lesion
        for lesion in others
        if comparable and view.of(lesion)[0]["day"] >= day and lesion not in carriers and not _is_fragment(view, lesion)
    ]
    new_lesion = _new_lesion(view, first_listed, current_scans, notes)
    nontarget = _nontarget(view, others, scans, complete_day, notes)
    marker_high = marker_normal is not None and marker_normal(day) is False
    if marker_high and nontarget == "CR":
        nontarget = "nonCR_nonPD"
        notes.reasons.append("the tumour marker is above its limit")
    response = overall_response(target=target, nontarget=nontarget, new_lesion=new_lesion)
    if response == "CR" and marker_high:
        response = "PR"
        notes.reasons.append("no CR: the tumour marker is above its limit")
    if response == "NE" and not notes.reasons:
        notes.reasons.append("nothing was evaluated")
    total = None if size.missing or not baseline.targets else size.total
    liver = _measure(view, baseline.liver_targets)
    rows = [("lesions", row["row"]) for row in view.rows()] + [("scans", row["row"]) for row in current_scans]
    evaluation = Evaluation(
        day=day,
        last_day=last,
        n_days=day - start,
        sum_mm=_mm(total),
        liver_sum_mm=None if liver.missing or not baseline.liver_targets else float(liver.total),
        baseline_mm=_mm(baseline.total),
        nadir_mm=_mm(nadir),
        target=target,
        nontarget=nontarget,
        new_lesion=new_lesion,
        response=response,
        confirmed=None,
        counts=False,
        reason="; ".join(notes.reasons),
        contradictions=tuple(notes.contradictions),
        rows=tuple(sorted(rows)),
    )
    return evaluation, total


def _is_fragment(view: _View, lesion: str) -> bool:
    return any(row["related_lesion_id"] and row["status"] != "merged" for row in view.of(lesion))


def _seen(view: _View, row: Row) -> bool | None:
    """Whether a row shows disease, in any modality; None where it doesn't say."""
    diameter = TOO_SMALL_MM if row["status"] == "too_small" else None
    diameter = diameter if row["diameter_mm"] is None else _exact(row["diameter_mm"])
    if row["status"] in ("not_evaluable", "locally_treated", "merged") or (row["status"] == "absent" and diameter):
        return None
    if row["status"] == "absent":
        return False
    if diameter is None:
        return None if row["status"] == "" else True
    return diameter >= NORMAL_NODE_MM if view.is_node(row["lesion_id"]) else diameter > 0


def _new_lesion(
    view: _View,
    first_listed: Sequence[str],
    scans: Sequence[Row],
    notes: _Notes,
) -> bool:
    """Whether the evaluation shows a new lesion; adds to ``notes``."""
    readings = {row["new_lesion"] for row in scans}
    if 1 in readings:
        notes.reasons.append("new lesion")
        return True
    found = False
    for row in (next((row for row in view.of(lesion) if _seen(view, row)), None) for lesion in first_listed):
        if row is None:
            continue
        listed = f"lesion {row['lesion_id']} is first listed on day {row['day']}"
        if row["target"] == 1:
            notes.contradictions.append(("lesions", row["row"], f"{listed}, after the start of treatment, as a target"))
        elif 0 in readings:
            notes.contradictions.append(("lesions", row["row"], f"{listed}, where the scan says new_lesion 0"))
        else:
            notes.reasons.append(f"new lesion: {row['lesion_id']} is first listed here ({_place(row)})")
            found = True
    return found


def _nontarget(
    view: _View,
    lesions: Sequence[str],
    scans: Sequence[Row],
    complete_day: int | None,
    notes: _Notes,
) -> str:
    """Response of the non-target lesions; adds to ``notes``."""
    current_scans = [row for row in scans if row["day"] >= view.first and row["nontarget"]]
    reading = next((word for word in NONTARGET_WORST_FIRST if word in {row["nontarget"] for row in current_scans}), "")
    missing, shown, progressed = [], [], []
    treated_here = False
    for lesion in lesions:
        progressed += [
            row for row in view.rows() if row["lesion_id"] == lesion and row["status"] == "unequivocal_progression"
        ]
        row = view.current(lesion, informative=lambda row: _seen(view, row) is not None or row["status"] == "merged")
        treated = view.treated(lesion)
        treated_here = treated_here or treated is not None
        if treated is not None:
            missing.append(f"{lesion} was treated locally on day {treated}")
        elif row is None:
            missing.append(f"{lesion} was not looked at")
        elif row["status"] == "merged" and view.carrier(lesion) is not None:
            continue
        elif (seen := _seen(view, row)) is None:
            missing.append(_unusable(row))
        elif seen:
            shown.append(row)
    if progressed:
        notes.reasons.append(f"unequivocal progression of {progressed[0]['lesion_id']} ({_place(progressed[0])})")
        if reading not in ("", "PD"):
            message = f"unequivocal progression, where the scan says nontarget {reading}"
            notes.contradictions += [("lesions", row["row"], message) for row in progressed]
        return "PD"
    if reading == "CR" and shown:
        message = "lesion is there, where the scan says nontarget CR"
        notes.contradictions += [("lesions", row["row"], message) for row in shown]
        return "nonCR_nonPD"
    if reading == "CR" and treated_here:
        notes.reasons.append("non-target lesions: no CR after local treatment")
        return "NE"
    if reading:
        if reading in ("PD", "NE"):
            notes.reasons.append(f"the scan says nontarget {reading}")
        if reading == "nonCR_nonPD" and complete_day is not None:
            message = f"nontarget nonCR_nonPD after CR on day {complete_day}: PD, unless CR was claimed too early"
            notes.contradictions += [
                ("scans", row["row"], message) for row in current_scans if row["nontarget"] == reading
            ]
        return reading
    for row in shown if complete_day is not None else ():
        lesion = row["lesion_id"]
        if view.is_node(lesion) or view.of(lesion)[0]["day"] > complete_day:
            continue
        notes.reasons.append(f"{lesion} is seen again after CR on day {complete_day} ({_place(row)})")
        return "PD"
    if not lesions:
        if not any(row["nontarget"] for row in scans):
            return ""
        missing.append("the scan has no reading of them")
    if missing:
        notes.reasons.append(f"non-target lesions: {'; '.join(missing)}")
        return "NE"
    return "nonCR_nonPD" if shown else "CR"


def _course(
    evaluations: Sequence[Evaluation],
    *,
    baseline: _Baseline,
    start: int,
    end: tuple[int, str] | None,
    rules: RecistRules,
) -> Course:
    """Decide which evaluations count and are confirmed, and put the course together."""
    ended = "" if end is None else f"{end[1]} on day {end[0]}"
    progression = next(
        (one.day for one in evaluations if one.response == "PD" and (end is None or one.day <= end[0])), None
    )
    decided: list[Evaluation] = []
    for evaluation in evaluations:
        why_not = ""
        if end is not None and evaluation.day > end[0]:
            why_not = f"after {ended}"
        elif progression is not None and evaluation.day > progression:
            why_not = f"after progression on day {progression}"
        elif evaluation.response in ("SD", "nonCR_nonPD") and evaluation.n_days < rules.sd_min_days:
            why_not = f"stable disease before day {rules.sd_min_days} of treatment"
        counts = not why_not and evaluation.response != "NE"
        reason = "; ".join(part for part in (evaluation.reason, why_not) if part)
        decided.append(replace(evaluation, counts=counts, reason=reason))
    counted = [(one.n_days, one.response) for one in decided if one.counts]
    decided = [
        replace(one, confirmed=_is_confirmed(one.n_days, one.response, counted, rules))
        if one.counts and one.response in CONFIRMED_BY
        else one
        for one in decided
    ]
    best = best_overall(counted, rules=rules)
    stands_for = ("SD", "nonCR_nonPD") if best == "SD" else (best,)
    of_best = [one for one in decided if one.counts and one.response in stands_for]
    within = [one for one in decided if end is None or one.day <= end[0]]
    return Course(
        baseline_day=baseline.day,
        baseline_mm=_mm(baseline.total),
        liver_baseline_mm=_mm(baseline.liver_total),
        baseline_rows=baseline.rows,
        baseline_reason=baseline.reason,
        evaluations=tuple(decided),
        best=best,
        best_day=of_best[0].day if best else None,
        best_rows=of_best[0].rows if best else (),
        confirmed=any(one.confirmed for one in of_best) if best in CONFIRMED_BY else None,
        confirmed_best=best_overall([(one.n_days, one.response) for one in within], rules=rules, confirmed=True),
        limit=ended if progression is None else f"progression on day {progression}",
        reason="" if best else _no_best(within, start=start, ended=ended, rules=rules),
    )


def _no_best(within: Sequence[Evaluation], *, start: int, ended: str, rules: RecistRules) -> str:
    until = f" and up to {ended}" if ended else ""
    if not within:
        return f"no evaluation after the start of treatment on day {start}{until}"
    if any(one.response != "NE" for one in within):
        return f"seen stable only before day {rules.sd_min_days} of treatment{until}"
    return f"no evaluation is evaluable{until} (day {within[0].day}: {within[0].reason})"


def _mm(size: Decimal | None) -> float | None:
    return None if size is None else float(size)


def structure_problems(
    lesions: Iterable[Row], *, start: int | None = None, rules: RecistRules | None = None
) -> list[Problem]:
    """What the criteria do not allow, or leave without meaning, in one patient's rows of lesions.tsv.

    Parameters
    ----------
    lesions
        The patient's rows, each with its line number under "row".
    start
        First day of treatment. With it the target lesions are checked in the baseline window, without it (or with
        nothing in that window) at the first evaluation that has target lesions.
    rules
        The protocol's days.

    Returns
    -------
    (row, column, value, message, remedy) of each problem, by row.
    """
    rows = sorted(lesions, key=_by_day)
    problems = _target_problems(rows, start=start, rules=rules or RecistRules())
    known = {row["lesion_id"] for row in rows}
    split_into = {row["related_lesion_id"] for row in rows if row["status"] != "merged"}
    for row in rows:
        problems += _row_problems(row, known=known, split_into=split_into)
    problems += _merger_problems(rows)
    for lesion in sorted(known):
        problems += _change_problems([row for row in rows if row["lesion_id"] == lesion])
    return sorted(problems)


def _target_problems(rows: Sequence[Row], *, start: int | None, rules: RecistRules) -> list[Problem]:
    """Number and size of the target lesions at baseline (sections 3.1.1 and 4.2)."""
    targets = [row for row in rows if row["target"] == 1]
    window = (
        []
        if start is None
        else [row for row in targets if start - rules.baseline_max_days_before <= row["day"] <= start]
    )
    baseline = window or [row for row in targets if row["day"] <= targets[0]["day"] + EVALUATION_DAYS]
    view = _View(rows, -(10**9), 10**9)
    last = {row["lesion_id"]: row for row in baseline}
    last.update({row["lesion_id"]: row for row in baseline if _size(row) is not None})
    listed = sorted(last.values(), key=lambda row: row["row"])
    problems = []
    if len(listed) > MAX_TARGETS:
        message = f"patient has {len(listed)} target lesions at baseline; RECIST 1.1 allows {MAX_TARGETS}"
        remedy = "keep the largest that can be measured again, and set target to 0 in all rows of the others"
        problems.append((listed[MAX_TARGETS]["row"], "target", str(len(listed)), message, remedy))
    organs: dict[str, list[Row]] = {}
    for row in listed:
        organs.setdefault(_organ(view, row["lesion_id"]), []).append(row)
    for organ, members in organs.items():
        if organ and len(members) > MAX_TARGETS_PER_ORGAN:
            message = f"{len(members)} target lesions in {organ} at baseline; RECIST 1.1 allows {MAX_TARGETS_PER_ORGAN}"
            remedy = "keep the two largest that can be measured again, and set target to 0 in all rows of the others"
            extra = members[MAX_TARGETS_PER_ORGAN]
            problems.append((extra["row"], "organ", extra["organ"], message, remedy))
    for row in listed:
        node = view.is_node(row["lesion_id"])
        least = MIN_NODE_MM if node else MIN_LESION_MM
        size = _size(row)
        if size is not None and size < least:
            axis = "short axis of a target node" if node else "longest diameter of a target lesion"
            message = f"{axis} is below {least} mm at baseline, too small to be a target"
            remedy = "correct the diameter or node, or set target to 0 in all rows of this lesion"
            problems.append((row["row"], "diameter_mm", _shown(row["diameter_mm"]), message, remedy))
    return problems


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _row_problems(row: Row, *, known: Collection[str], split_into: Collection[str]) -> list[Problem]:
    """What one row contradicts in itself or leaves out."""
    number, status, diameter, related = row["row"], row["status"], row["diameter_mm"], row["related_lesion_id"]
    problems = []

    def add(column: str, value: str, message: str, remedy: str) -> None:
        problems.append((number, column, value, message, remedy))

    if status in ("absent", "not_evaluable") and diameter:
        add("diameter_mm", _shown(diameter), f"diameter of a lesion with status {status}", "correct one of the two")
    if status == "measured" and diameter is None:
        remedy = "give the diameter, or the status too_small, absent or not_evaluable"
        add("diameter_mm", "", "status is measured, but there is no diameter", remedy)
    unsized = diameter is None and status in ("", "present", "unequivocal_progression")
    if row["target"] == 1 and unsized and row["modality"] != "PETCT":
        remedy = "give the diameter, or the status too_small, absent or not_evaluable"
        add("diameter_mm", "", f"target lesion without diameter (status {status or 'empty'})", remedy)
    if status == "merged" and not related:
        remedy = "name the lesion that it merged into, whose row carries the diameter of both"
        add("related_lesion_id", "", "status is merged, but no lesion is named", remedy)
    if status == "split" and not related and row["lesion_id"] not in split_into:
        remedy = f"list the fragments, each with its diameter and related_lesion_id {row['lesion_id']}"
        add("related_lesion_id", "", "status is split, but no fragment names this lesion", remedy)
    if status == "split" and related and diameter is None and row["modality"] != "PETCT":
        add("diameter_mm", "", f"fragment of {related} without diameter", "give the diameter of each fragment")
    if related and related == row["lesion_id"]:
        add("related_lesion_id", related, "lesion is related to itself", "name the other lesion")
    elif related and related not in known:
        remedy = "correct the id, or list that lesion"
        add("related_lesion_id", related, "is no lesion of this patient", remedy)
    named_node = not NODE_WORDS.isdisjoint(organ_words(row["organ"]))
    if row["node"] != 1 and named_node:
        value = "" if row["node"] is None else str(row["node"])
        message = f"organ is {row['organ']!r}, but node is not 1"
        add("node", value, message, "set node to 1 (short axis, normal below 10 mm), or correct the organ")
    return problems


def _merger_problems(rows: Sequence[Row]) -> list[Problem]:
    """Lesions that merged in a circle, so that none carries the size."""
    problems = []
    for row in rows:
        if row["status"] != "merged" or row["related_lesion_id"] in ("", row["lesion_id"]):
            continue
        view = _View([other for other in rows if other["day"] <= row["day"]], row["day"], row["day"])
        if view.current(row["lesion_id"]) is row and view.carrier(row["lesion_id"]) is None:
            message = "lesions are said to have merged, and none carries the size"
            remedy = "give one of them the diameter of the coalesced mass, with status measured"
            problems.append((row["row"], "related_lesion_id", row["related_lesion_id"], message, remedy))
    return problems


def _change_problems(rows: Sequence[Row]) -> list[Problem]:
    """What may not change from row to row of one lesion."""
    problems = []
    for column in ("target", "node", "organ"):
        stated = [row for row in rows if row[column] not in (None, "")]
        changed = next((row for row in stated if _plain(row[column]) != _plain(stated[0][column])), None)
        if changed is not None:
            first = stated[0]
            message = f"lesion has {column} {first[column]} in row {first['row']} and {changed[column]} here"
            remedy = "keep what held at baseline in all rows of the lesion, or give another lesion another id"
            problems.append((changed["row"], column, str(changed[column]), message, remedy))
    return problems


def _plain(value: Any) -> str:
    return " ".join(str(value).casefold().split())
