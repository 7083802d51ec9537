"""The way of the patients from enrolment to analysis: who left at which step and why, and the diagram that shows it.

The steps follow the flow diagram of STROBE (von Elm 2007, item 13). Tables in, plain values out: no HTML here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from PIL import ImageFont

from livermet.report_data import text, words

logger = logging.getLogger(__name__)

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")

# Units of the diagram: pixels where it is drawn as wide as WIDTH, which fits a phone.
WIDTH = 360.0
MAIN_WIDTH = 140.0
SIDE_X = 166.0
PAD = 9.0
FONT = 12.0
LINE = 15.5
HEAD = 22.0
GAP = 26.0
INDENT = 2.6 * FONT
FONT_FILE = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@dataclass(frozen=True)
class Loss:
    """Patients who left at one step for one reason; of those who withdrew only the number is known."""

    reason: str
    n: int
    patients: tuple[str, ...] = ()


@dataclass(frozen=True)
class FlowStep:
    """One box of the flow: how many patients are left, and who left just before it."""

    key: str
    name: str
    n: int
    lost: tuple[Loss, ...] = ()


@dataclass(frozen=True)
class Flow:
    """The steps in order, and the patients who arrive."""

    steps: tuple[FlowStep, ...]
    analysed: frozenset[str]

    def n(self, key: str) -> int:
        """Patients who are left at one step."""
        return next(step.n for step in self.steps if step.key == key)


@dataclass(frozen=True)
class Line:
    """A line of text of the diagram, from its left end on the baseline; ``kind`` is head, name, count or reason."""

    x: float
    y: float
    text: str
    kind: str


@dataclass(frozen=True)
class Box:
    """A box of the diagram with its text; ``kind`` is main, last or side."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Chart:
    """The diagram in its own units, ``WIDTH`` wide: boxes, and arrows as (x1, y1, x2, y2)."""

    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[tuple[float, float, float, float], ...]


def patient_flow(
    *,
    patients: pd.DataFrame,
    consent: pd.DataFrame,
    samples: pd.DataFrame,
    libraries: pd.DataFrame,
    features: pd.DataFrame,
    left_out: pd.DataFrame,
    modalities: Sequence[str],
    measured: str,
    timepoints: Sequence[str],
    tissues: Sequence[str],
) -> Flow:
    """Patients from enrolment to analysis, for one group of modalities.

    Each patient leaves at exactly one step, with one reason. Labels play no part: a patient is analysed who has
    features of the analysed tissue and timepoint.

    Parameters
    ----------
    patients, samples
        The checked study tables, in which patients who withdrew no longer stand.
    consent
        One row: patients as ``enrolled``, and of them ``withdrawn``. Without a row nobody withdrew.
    libraries
        As made by :func:`livermet.report_data.library_table`.
    features, left_out
        The long table of features, and the reasons of values that are missing from it.
    modalities, timepoints, tissues
        What the analysis takes.
    measured
        What a library of these modalities is called, such as "section".
    """
    place = f"at {words(timepoints)}"
    kinds = {"timepoint": timepoints, "tissue": tissues, "modality": modalities}
    refused = set(patients.loc[patients["consent_omics"] == "no", "patient_id"])
    sampled = samples.groupby("patient_id", sort=True)
    at_timepoint = samples[samples["timepoint"].isin(timepoints)]
    tissues_of = at_timepoint.groupby("patient_id", sort=True)["tissue"].agg(lambda found: sorted(set(found)))
    biopsied = set(at_timepoint.loc[at_timepoint["tissue"].isin(tissues), "patient_id"])
    fitting = _where(libraries, kinds).sort_values("library_id", kind="stable")
    in_scope = fitting[fitting["status"] != ""]
    here = "" if len(in_scope) == len(fitting) else " in this scope"
    passed = set(in_scope.loc[in_scope["status"] == "ok", "patient_id"])
    failures = in_scope[in_scope["status"] != "ok"].drop_duplicates("patient_id").set_index("patient_id")["reason"]
    no_feature = _where(left_out, kinds).groupby("patient_id")["reason"].agg(lambda found: found.mode().iloc[0])

    def not_biopsied(patient: str) -> str:
        if patient in tissues_of:
            return f"{words(tissues_of[patient])} only {place}"
        return f"no tissue {place}" if patient in sampled.groups else "no sample"

    def not_measured(patient: str) -> str:
        return f"{measured} of another batch" if patient in set(fitting["patient_id"]) else f"no {measured}"

    gates: list[tuple[str, str, set[str], Callable[[str], str]]] = [
        ("consented", "consented to omics", set(patients["patient_id"]) - refused, lambda _: "no consent to omics"),
        ("biopsied", f"biopsied: {words(tissues)} {place}", biopsied, not_biopsied),
        ("measured", f"with a {measured}{here}", set(in_scope["patient_id"]), not_measured),
        ("passed", "passed QC", passed, lambda patient: text(failures[patient]) or "excluded"),
        (
            "analysed",
            "analysed: features exist",
            set(_where(features, kinds)["patient_id"]),
            lambda patient: text(no_feature.get(patient)) or "no feature could be computed",
        ),
    ]
    left = set(patients["patient_id"])
    enrolled, gone = _withdrawn(consent, len(left))
    steps = [FlowStep("enrolled", "enrolled", enrolled)]
    for key, name, entitled, why in gates:
        lost = count_reasons({patient: why(patient) for patient in left - entitled})
        left &= entitled
        losses = tuple(Loss(reason, len(ids), ids) for reason, ids in lost)
        steps.append(FlowStep(key, name, len(left), gone + losses if key == "consented" else losses))
    logger.info("patient flow (%s): %s", ", ".join(modalities), [(step.key, step.n) for step in steps])
    return Flow(tuple(steps), frozenset(left))


def _withdrawn(consent: pd.DataFrame, kept: int) -> tuple[int, tuple[Loss, ...]]:
    """Patients who were enrolled, and those of them who no longer stand in the tables."""
    if consent.empty:
        return kept, ()
    enrolled, withdrawn = (int(consent[name].iloc[0]) for name in ("enrolled", "withdrawn"))
    losses = (Loss("withdrew consent", withdrawn), Loss("row could not be read", enrolled - withdrawn - kept))
    return enrolled, tuple(loss for loss in losses if loss.n > 0)


def _where(table: pd.DataFrame, wanted: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    keep = pd.Series(True, index=table.index)
    for column, values in wanted.items():
        keep &= table[column].isin(values)
    return table[keep]


def count_reasons(reasons: Mapping[str, str]) -> list[tuple[str, tuple[str, ...]]]:
    """Patients by reason, the most frequent first.

    Reasons that differ in their numbers alone count as one, with an ellipsis in place of what differs: otherwise nearly
    every patient would have a reason of their own.

    Parameters
    ----------
    reasons
        The reason by patient.

    Returns
    -------
    Pairs of reason and patients.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for patient, reason in sorted(reasons.items()):
        groups.setdefault(NUMBER.sub("0", reason), []).append((patient, reason))
    counted = [
        (_common([reason for _, reason in members]), tuple(patient for patient, _ in members))
        for members in groups.values()
    ]
    return sorted(counted, key=lambda group: (-len(group[1]), group[0]))


def _common(reasons: Sequence[str]) -> str:
    numbers = zip(*map(NUMBER.findall, reasons), strict=True)
    shown = iter([found[0] if len(set(found)) == 1 else "…" for found in numbers])
    return NUMBER.sub(lambda _: next(shown), reasons[0])


def flow_chart(flow: Flow) -> Chart:
    """Boxes from top to bottom, and beside each arrow the box of those who left there.

    Text is wrapped by the widths of DejaVu Sans, which is wider than the fonts that the page asks for.
    """
    boxes: list[Box] = []
    arrows: list[tuple[float, float, float, float]] = []
    middle, y = MAIN_WIDTH / 2, 1.0
    for step in flow.steps:
        if boxes:
            above = y
            if step.lost:
                side = _side_box(step.lost, y + GAP / 2)
                boxes.append(side)
                level = side.y + side.height / 2
                arrows.append((middle, level, SIDE_X, level))
                y = side.y + side.height + GAP / 2
            else:
                y += GAP
            arrows.append((middle, above, middle, y))
        names = wrap(step.name, MAIN_WIDTH - 2 * PAD)
        lines = [Line(PAD, y + HEAD, str(step.n), "head")]
        lines += [Line(PAD, y + HEAD + LINE * (i + 1.1), name, "name") for i, name in enumerate(names)]
        height = HEAD + LINE * (len(names) + 0.2) + PAD
        kind = "last" if step is flow.steps[-1] else "main"
        boxes.append(Box(1.0, y, MAIN_WIDTH - 2, height, kind, tuple(lines)))
        y += height
    return Chart(round(y + 1, 1), tuple(boxes), tuple(arrows))


def _side_box(lost: Iterable[Loss], y: float) -> Box:
    width = WIDTH - SIDE_X - 1
    lines: list[Line] = []
    baseline = y + PAD / 2
    for loss in lost:
        for i, part in enumerate(wrap(loss.reason, width - 2 * PAD - INDENT)):
            baseline += LINE
            lines += [Line(SIDE_X + PAD, baseline, str(loss.n), "count")] * (i == 0)
            lines.append(Line(SIDE_X + PAD + INDENT, baseline, part, "reason"))
        baseline += LINE / 4
    return Box(SIDE_X, y, width, baseline - y + PAD / 2, "side", tuple(lines))


def wrap(sentence: str, width: float) -> list[str]:
    """The sentence in lines of at most ``width`` units; a word that is wider is cut."""
    lines = [""]
    for word in sentence.split():
        joined = f"{lines[-1]} {word}".strip()
        if text_width(joined) <= width:
            lines[-1] = joined
            continue
        lines += [""] * bool(lines[-1])
        for letter in word:
            if text_width(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def text_width(line: str) -> float:
    """Width of a line of the diagram in its units."""
    return _font().getlength(line) * FONT / 100


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONT_FILE), 100, layout_engine=ImageFont.Layout.BASIC)
