"""The course of a patient's treatment: when it began, what ended its first part, and the first local treatment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# A course that began longer before enrolment than a baseline scan may lie back is treatment of earlier disease.
EARLIER_DAYS = 28
LIVER_TREATMENTS = ("liver_resection", "ablation", "combined")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Course:
    """Treatment of one patient within the study.

    Attributes
    ----------
    start
        First day of systemic treatment; None without such a row.
    end
        Day until which evaluations speak of the first regimen alone, and what ends it ("local treatment", "change of
        regimen"); None where nothing does.
    surgery
        The row of the first resection or ablation of liver metastases; None without one.
    rows
        Rows of the courses of systemic treatment that belong to the study, by day of start.
    """

    start: int | None
    end: tuple[int, str] | None
    surgery: Row | None
    rows: tuple[Row, ...]


def of_study(row: Row) -> bool:
    """Whether a row of treatment.tsv belongs to the study, and not to earlier disease.

    Earlier disease: the course began long before enrolment and ended before it. A course without a last day goes on.
    """
    start, stop = row["start_day"], row.get("stop_day")
    return start is not None and not (start < -EARLIER_DAYS and stop is not None and stop < 0)


def regimen_key(name: str) -> str:
    """A regimen's name without regard to case, blanks and hyphens."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def patient_course(treatment: Iterable[Row], local_treatment: Iterable[Row]) -> Course:
    """The course of one patient, from the patient's rows of treatment.tsv and local_treatment.tsv.

    What began on the first day together is one regimen (drugs in rows of their own). Local treatment before systemic
    treatment (or, without one, before enrolment) is treatment of earlier disease.
    """
    courses = sorted(filter(of_study, treatment), key=lambda row: row["start_day"])
    start = courses[0]["start_day"] if courses else None
    local = sorted(
        (row for row in local_treatment if row["day"] is not None and row["day"] >= (start or 0)),
        key=lambda row: row["day"],
    )
    first = {regimen_key(row["regimen"]) for row in courses if row["start_day"] == start}
    changes = [row["start_day"] for row in courses if regimen_key(row["regimen"]) not in first][:1]
    operations = [row["day"] for row in local if row["type"] != "exploratory_only"][:1]
    ends = [*((day, "local treatment") for day in operations), *((day, "change of regimen") for day in changes)]
    surgery = next((row for row in local if row["type"] in LIVER_TREATMENTS), None)
    return Course(start=start, end=min(ends, default=None), surgery=surgery, rows=tuple(courses))
