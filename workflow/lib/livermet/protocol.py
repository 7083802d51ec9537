"""The rules of a trial on its tables: what can't be true, what departs from the protocol, and what to look at.

One function per rule (V02 to V15; V01, V19 and V20 are with the reading of the tables, V15 and V16 need the derived
labels, V17 and V18 the counts). An impossible record is an error. A departure from the protocol is a fact: it is kept
as a deviation, the patient stays (intention to treat), and limits come from the trial file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from livermet.blood import Ca199Rules, ca199_values, indices
from livermet.course import Course, patient_course
from livermet.findings import Finding
from livermet.keys import SPATIAL_MODALITIES
from livermet.organs import LIVER, OUTSIDE, organ_of
from livermet.recist import RecistRules, structure_problems
from livermet.tables import StudyTable
from livermet.units import canonical_unit, convert, misspelt, plausibility, unit_problem

if TYPE_CHECKING:
    import pandas as pd

Tables = Mapping[str, StudyTable]
Trial = Mapping[str, Any]
Rules = TypeVar("Rules")

BEFORE, ON_TREATMENT, RESECTION = "T0_pre", "T1_reeval", "T3_resection"
MONTH_DAYS = (30, 31)  # shortest and longest mean month over half a year: a number of days may be six months or not
LARGEST_DIFFERENCE_MM = 5
SURGERY = ("liver_resection", "combined", "pancreatectomy")
RESECTION_DAYS = 7  # a specimen may be dated by its arrival
HGP_COLUMNS = ("hgp_desmoplastic_pct", "hgp_replacement_pct", "hgp_pushing_pct")


def protocol_findings(tables: Tables, trial: Trial) -> list[Finding]:
    """Every finding of the rules on the checked rows of the study tables.

    Parameters
    ----------
    tables
        The study tables; only rows that can be used.
    trial
        The protocol's rules; a limit that it lacks is not checked.
    """
    return [finding for rule in RULES for finding in rule(tables, trial)]


def timed_samples(tables: Tables, trial: Trial) -> tuple[StudyTable, list[Finding]]:
    """Samples under the timepoint that they count to: a T0 sample taken well after treatment began has seen treatment.

    Rule V08. Such a sample counts as on treatment, since among samples taken before it would be compared with what it
    is not.
    """
    samples = tables["samples"]
    limit = trial.get("t0_max_days_on_treatment")
    if limit is None:
        return samples, []
    courses, rows, findings = courses_of(tables), [], []
    for row, line in zip(samples.rows, samples.lines, strict=True):
        start = courses[row["patient_id"]].start
        late = (
            row["timepoint"] == BEFORE and row["day"] is not None and start is not None and row["day"] > start + limit
        )
        if late:
            message = f"is {row['day'] - start} days after the start of treatment, at most {limit} are before treatment"
            remedy = f"nothing to do if the day is right: the sample counts as {ON_TREATMENT}"
            findings.append(Finding("deviation", samples.file, line, "day", str(row["day"]), message, remedy, "V08"))
        rows.append({**row, "timepoint": ON_TREATMENT} if late else row)
    return replace(samples, rows=tuple(rows)), findings


def trial_rules(trial: Trial, section: str, rules: type[Rules]) -> Rules:
    """Rules of a method with what a section of the trial file says of them, and their defaults for the rest."""
    given = trial.get(section, {})
    return rules(**{field.name: given[field.name] for field in fields(rules) if field.name in given})


def courses_of(tables: Tables) -> dict[str, Course]:
    """Course of treatment of each patient."""
    treatment, local = (by_patient(tables[name]) for name in ("treatment", "local_treatment"))
    patients = (row["patient_id"] for row in tables["patients"].rows)
    return {patient: patient_course(treatment.get(patient, ()), local.get(patient, ())) for patient in patients}


def by_patient(table: StudyTable) -> dict[str, list[dict[str, Any]]]:
    """Rows of a table, with their line numbers, by patient."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in table.records():
        groups.setdefault(row["patient_id"], []).append(row)
    return groups


def deviations(tables: Tables, findings: Iterable[Finding]) -> pd.DataFrame:
    """Patients who depart from the protocol (patient_id, rules): those whom a per-protocol analysis leaves out."""
    import pandas as pd

    places = {
        (table.file, line): row for table in tables.values() for row, line in zip(table.rows, table.lines, strict=True)
    }
    samples = {row["sample_id"]: row["patient_id"] for row in tables["samples"].rows}
    found: dict[str, list[str]] = {}
    for finding in findings:
        row = places.get((finding.table, finding.row)) if finding.severity == "deviation" else None
        if row:
            patient = row.get("patient_id") or samples[row["sample_id"]]
            found.setdefault(patient, []).append(finding.rule)
    rows = [(patient, ", ".join(sorted(set(rules)))) for patient, rules in sorted(found.items())]
    return pd.DataFrame(rows, columns=["patient_id", "rules"], dtype=object)


def _limits(row: Mapping[str, Any], trial: Trial) -> Mapping[str, Any]:
    return trial.get("cohorts", {}).get(row["cohort"], {}).get("limits", {})


def _baseline(tables: Tables, trial: Trial) -> dict[str, list[dict[str, Any]]]:
    """Each lesion's last row in the baseline window, by patient."""
    days = trial_rules(trial, "evaluation", RecistRules).baseline_max_days_before
    lesions, baseline = by_patient(tables["lesions"]), {}
    for patient, course in courses_of(tables).items():
        start = course.start or 0
        rows = sorted(lesions.get(patient, ()), key=lambda row: row["day"])
        inside = [row for row in rows if start - days <= row["day"] <= start]
        baseline[patient] = list({row["lesion_id"]: row for row in inside}.values())
    return baseline


def _largest_metastasis(tables: Tables, trial: Trial) -> Iterable[Finding]:
    """V02: the largest metastasis at enrolment agrees with the baseline measurements."""
    baseline, patients = _baseline(tables, trial), tables["patients"]
    for row in patients.records():
        sized = [
            lesion
            for lesion in baseline[row["patient_id"]]
            if lesion["diameter_mm"] and organ_of(lesion["organ"]) in (LIVER, "") and not lesion["node"]
        ]
        given = row["largest_met_mm"]
        if given is None or not sized:
            continue
        largest = max(sized, key=lambda lesion: lesion["diameter_mm"])
        if abs(largest["diameter_mm"] - given) > LARGEST_DIFFERENCE_MM:
            message = (
                f"the largest liver lesion at baseline measures {largest['diameter_mm']:g} mm (day {largest['day']})"
            )
            remedy = f"correct one of them; they may differ by {LARGEST_DIFFERENCE_MM} mm"
            yield Finding("warning", patients.file, row["row"], "largest_met_mm", f"{given:g}", message, remedy, "V02")


def _timing(tables: Tables, trial: Trial) -> Iterable[Finding]:
    """V03: synchronous or metachronous agrees with the days of diagnosis."""
    patients, months = tables["patients"], trial.get("synchronous_max_months")
    for row in patients.records():
        primary, liver, timing = row["dx_primary_day"], row["dx_livermet_day"], row["met_timing"]
        if months is None or primary is None or liver is None or not timing:
            continue
        # Without calendar dates a span of days near the limit may be either.
        shortest, longest = (months * days for days in MONTH_DAYS)
        if timing == "synchronous" and liver - primary > longest:
            message = f"the liver metastases came {liver - primary} days after the primary, more than {months} months"
        elif timing == "metachronous" and liver - primary < shortest:
            message = f"the liver metastases came {liver - primary} days after the primary, within {months} months"
        else:
            continue
        remedy = "correct met_timing, dx_primary_day or dx_livermet_day"
        yield Finding("error", patients.file, row["row"], "met_timing", timing, message, remedy, "V03")


def _limits_of_cohort(tables: Tables, trial: Trial) -> Iterable[Finding]:
    """V04: number and size of metastases, ablation and disease outside the liver are within the cohort's limits."""
    patients, lesions, local = tables["patients"], by_patient(tables["lesions"]), by_patient(tables["local_treatment"])
    baseline = _baseline(tables, trial)
    for row in patients.records():
        limits, patient = _limits(row, trial), row["patient_id"]
        measures = [
            ("n_liver_mets", "max_liver_mets", "liver metastases", row["n_liver_mets"]),
            ("largest_met_mm", "max_met_mm", "mm, the largest liver metastasis", row["largest_met_mm"]),
        ]
        if row["planned_local"] == "ablation":
            measures.append(("largest_met_mm", "max_ablation_mm", "mm, to be ablated", row["largest_met_mm"]))
        for column, name, what, value in measures:
            yield from _beyond(patients, row, column, value, limits.get(name), what, row["cohort"])
        for treated in local.get(patient, ()):
            sizes = [
                (lesion["day"], lesion["diameter_mm"])
                for lesion in lesions.get(patient, ())
                if lesion["lesion_id"] == treated["lesion_id"]
                and lesion["day"] <= treated["day"]
                and lesion["diameter_mm"]
            ]
            if treated["type"] == "ablation" and sizes:
                table, size = tables["local_treatment"], max(sizes)[1]
                limit = limits.get("max_ablation_mm")
                yield from _beyond(table, treated, "lesion_id", size, limit, "mm, ablated", row["cohort"])
        outside = [row for row in baseline[patient] if organ_of(row["organ"]) == OUTSIDE and row["status"] != "absent"]
        if limits.get("extrahepatic") is False and outside:
            message = f"a lesion outside liver and pancreas at baseline; cohort {row['cohort']} has none"
            place = (tables["lesions"].file, outside[0]["row"], "organ", outside[0]["organ"])
            yield Finding("deviation", *place, message, DEVIATES, "V04")


DEVIATES = "nothing to do if it is right: the patient stays, and a per-protocol analysis leaves the patient out"


def _beyond(
    table: StudyTable, row: Mapping[str, Any], column: str, value: Any, limit: Any, what: str, cohort: str
) -> Iterable[Finding]:
    if value is None or limit is None or value < limit:
        return
    if value > limit:
        message = f"{value:g} {what}; the limit of cohort {cohort} is {limit:g}"
        yield Finding("deviation", table.file, row["row"], column, f"{value:g}", message, DEVIATES, "V04")
    else:
        message = (
            f"{value:g} {what}, exactly the limit of cohort {cohort}, which sources of the protocol word differently"
        )
        remedy = "nothing to do: the limit itself counts as within"
        yield Finding("warning", table.file, row["row"], column, f"{value:g}", message, remedy, "V04")


def _fitness(tables: Tables, trial: Trial) -> Iterable[Finding]:
    """V05: performance status is within the cohort's limit, and nobody is under age."""
    patients = tables["patients"]
    for row in patients.records():
        limit, youngest = _limits(row, trial).get("max_ecog"), trial.get("min_age")
        if limit is not None and row["ecog"] is not None and row["ecog"] > limit:
            message = f"ECOG {row['ecog']}; the limit of cohort {row['cohort']} is {limit}"
            yield Finding("deviation", patients.file, row["row"], "ecog", str(row["ecog"]), message, DEVIATES, "V05")
        if youngest is not None and row["age"] is not None and row["age"] < youngest:
            message, remedy = f"the protocol takes patients from {youngest} years on", "correct the age (whole years)"
            yield Finding("error", patients.file, row["row"], "age", str(row["age"]), message, remedy, "V05")


def _order_of_days(tables: Tables, trial: Trial) -> Iterable[Finding]:
    """V06: diagnosis, enrolment, treatment, local treatment and death come in this order, and nothing follows."""
    courses, outcome = courses_of(tables), {row["patient_id"]: row for row in tables["outcome"].records()}

    def wrong(table: StudyTable, row: Mapping[str, Any], column: str, message: str, remedy: str) -> Finding:
        return Finding("error", table.file, row["row"], column, str(row[column]), message, remedy, "V06")

    for row in tables["patients"].records():
        for column in ("dx_primary_day", "dx_livermet_day"):
            if row[column] is not None and row[column] > 0:
                message = "the diagnosis lies after enrolment (day 0)"
                yield wrong(tables["patients"], row, column, message, "correct it; days before enrolment are negative")
    for row in tables["treatment"].records():
        if row["stop_day"] is not None and row["stop_day"] < row["start_day"]:
            message = f"the course stops before it starts (day {row['start_day']})"
            yield wrong(tables["treatment"], row, "stop_day", message, "correct start_day or stop_day")
    for patient, course in courses.items():
        early = next((row for row in course.rows if row["start_day"] < 0), None)
        if early:
            place = (tables["treatment"].file, early["row"], "start_day", str(early["start_day"]))
            message = f"systemic treatment of patient {patient} began before enrolment (day 0) and went on after it"
            remedy = "nothing to do if it is right; treatment of earlier disease has a stop_day before enrolment"
            yield Finding("deviation", *place, message, remedy, "V06")
    for row in tables["local_treatment"].records():
        start = courses[row["patient_id"]].start
        if start is not None and 0 <= row["day"] < start and row["type"] != "exploratory_only":
            message = f"local treatment lies between enrolment and the start of systemic treatment (day {start})"
            yield wrong(tables["local_treatment"], row, "day", message, "correct the day or the course of treatment")
    local = by_patient(tables["local_treatment"])
    for row in tables["samples"].records():
        problem = _mistimed(row, courses[row["patient_id"]], local.get(row["patient_id"], []))
        if problem:
            yield wrong(tables["samples"], row, "day", problem, "correct day or timepoint")
    yield from _outcome_order(tables, courses, wrong)
    for name, column in DATED:
        for row in tables[name].records():
            patient = row.get("patient_id")
            last = outcome.get(patient)
            if last is None or row[column] is None:
                continue
            for end, words in _ends(last):
                if row[column] > end:
                    remedy = f"correct it, or the row of the patient in {tables['outcome'].file}"
                    yield wrong(tables[name], row, column, f"lies after {words} (day {end})", remedy)
                    break


def _mistimed(sample: Mapping[str, Any], course: Course, local: list[dict[str, Any]]) -> str:
    """Why a sample can't be of its timepoint; "" where it can."""
    timepoint, day = sample["timepoint"], sample["day"]
    operations = [
        row["day"] for row in local if row["type"] != "exploratory_only" and row["day"] >= (course.start or 0)
    ]
    if day is None:
        return ""
    if timepoint == ON_TREATMENT and course.start is not None and day < course.start:
        return f"the timepoint is {timepoint}, but treatment starts on day {course.start}"
    if not operations:
        return ""
    first = f"the timepoint is {timepoint}, but the first local treatment was on day {min(operations)}"
    if timepoint in (BEFORE, ON_TREATMENT, "T2_preop") and day > min(operations):
        return first
    if timepoint in ("T4_postop", "T5_relapse") and day <= min(operations):
        return first
    if timepoint == RESECTION and min(abs(day - operation) for operation in operations) > RESECTION_DAYS:
        days = ", ".join(map(str, operations))
        return f"the timepoint is {timepoint}, but local treatment was on day {days}"
    return ""


# Days on which something happened to a patient who was alive and under observation.
DATED = (
    ("samples", "day"),
    ("treatment", "start_day"),
    ("local_treatment", "day"),
    ("scans", "day"),
    ("lesions", "day"),
    ("response", "eval_day"),
    ("blood", "day"),
)


def _ends(outcome: Mapping[str, Any]) -> list[tuple[int, str]]:
    ends = [(outcome["last_followup_day"], "death" if outcome["death"] else "the last follow-up")]
    ends.append((outcome["cutoff_day"], "the day on which the data were closed"))
    return [(day, words) for day, words in ends if day is not None]


def _outcome_order(tables: Tables, courses: Mapping[str, Course], wrong: Callable[..., Finding]) -> Iterable[Finding]:
    table = tables["outcome"]
    for row in table.records():
        surgery = courses[row["patient_id"]].surgery
        if row["death"] and row["last_followup_day"] is None:
            message, remedy = "the patient died, but on no day", "give the day of death as last_followup_day"
            yield Finding("error", table.file, row["row"], "last_followup_day", "", message, remedy, "V06")
        for column in ("progression_day", "relapse_day", "last_followup_day"):
            if row[column] is not None and row[column] < 0:
                yield wrong(table, row, column, "lies before enrolment (day 0)", "correct it")
        for column in ("progression_day", "relapse_day"):
            late = [(day, words) for day, words in _ends(row) if row[column] is not None and row[column] > day]
            if late:
                yield wrong(table, row, column, f"lies after {late[0][1]} (day {late[0][0]})", "correct one of them")
        cutoff, last = row["cutoff_day"], row["last_followup_day"]
        if cutoff is not None and last is not None and last > cutoff:
            message = f"lies after the day on which the data were closed (day {cutoff})"
            yield wrong(table, row, "last_followup_day", message, "correct one of them")
        if row["relapse_day"] is not None and surgery and row["relapse_day"] < surgery["day"]:
            message = f"a relapse follows local treatment, which was on day {surgery['day']}"
            yield wrong(table, row, "relapse_day", message, "correct it, or give it as progression_day")
        if cutoff is None:
            message, remedy = "is empty", "give the day on which the data were closed: survival is counted up to it"
            yield Finding("warning", table.file, row["row"], "cutoff_day", "", message, remedy, "V06")


def _chemotherapy(tables: Tables, trial: Trial) -> Iterable[Finding]:
    """V07: local treatment follows as many days of systemic treatment as the protocol asks for."""
    courses = courses_of(tables)
    for row in tables["patients"].records():
        needed, course = _limits(row, trial).get("min_chemo_days"), courses[row["patient_id"]]
        if needed is None or course.surgery is None or not tables["treatment"].path:
            continue
        day = course.surgery["day"]
        treated: set[int] = set()
        for one in course.rows:
            treated.update(range(one["start_day"], min(day, day if one["stop_day"] is None else one["stop_day"])))
        if len(treated) < needed:
            message = f"after {len(treated)} days of systemic treatment; cohort {row['cohort']} asks for {needed}"
            place = (tables["local_treatment"].file, course.surgery["row"], "day", str(day))
            yield Finding("deviation", *place, message, DEVIATES, "V07")


def _pathology(tables: Tables, trial: Trial) -> Iterable[Finding]:
    """V09: a regression score needs surgical tissue. V10: the shares of growth patterns add up."""
    table = tables["pathology"]
    samples = {row["sample_id"]: row for row in tables["samples"].rows}
    for row in table.records():
        sample = samples[row["sample_id"]]
        surgical = sample["method"] == "surgical" if sample["method"] else sample["timepoint"] == RESECTION
        for column in ("cap_trs", "ypm"):
            if row[column] is not None and not surgical:
                message = (
                    f"sample {row['sample_id']} is no surgical specimen (method {sample['method'] or 'not given'})"
                )
                remedy = "correct the method in samples.tsv, or leave the cell empty: a biopsy has no regression score"
                yield Finding("error", table.file, row["row"], column, str(row[column]), message, remedy, "V09")
        shares = [row[name] for name in HGP_COLUMNS]
        known = [share for share in shares if share is not None]
        complete = len(known) == len(shares)
        if known and (abs(sum(known) - 100) > 1 if complete else sum(known) > 101):
            shown = " + ".join(f"{share:g}" for share in known)
            message, remedy = (
                f"the shares of the growth patterns sum to {sum(known):g} %",
                "correct them; they sum to 100",
            )
            yield Finding("error", table.file, row["row"], "hgp_desmoplastic_pct", shown, message, remedy, "V10")
        elif known and not complete:
            message, remedy = "only some growth patterns have a share", "fill in the others, 0 where there is none"
            empty = HGP_COLUMNS[shares.index(None)]
            yield Finding("warning", table.file, row["row"], empty, "", message, remedy, "V10")


def _blood(tables: Tables, trial: Trial) -> Iterable[Finding]:
    """V11: bilirubin beside CA19-9. V12: units and plausible values. V13: one assay per patient and analyte."""
    table = tables["blood"]
    lewis = {row["patient_id"]: row["lewis_status"] for row in tables["patients"].rows}
    ca199 = trial_rules(trial, "ca199", Ca199Rules)
    for patient, rows in by_patient(table).items():
        usable = []
        for row in rows:
            analyte, value, unit = row["analyte"], row["value"], row["unit"]
            if other := misspelt(analyte):
                message, remedy = "has no recipe, so no label is made of it", f"did you mean {other}?"
                yield Finding("warning", table.file, row["row"], "analyte", analyte, message, remedy, "V12")
            if value is None or not unit or canonical_unit(analyte) is None:
                continue
            problem = unit_problem(analyte, unit, None if row["censor"] == "<" else value)
            if problem:
                yield Finding("error", table.file, row["row"], "unit", unit, *problem, "V12")
                continue
            usable.append(row)
            if doubt := plausibility(analyte, convert(analyte, value, unit), unit=unit):
                place = (table.file, row["row"], "value", f"{value:g}")
                yield Finding(doubt.severity, *place, doubt.message, doubt.remedy, "V12")
        for index in indices(usable):
            if index.name == "nlr" and index.value is not None and (doubt := plausibility("nlr", index.value)):
                place = (table.file, index.rows[0]["row"], "value", f"{index.value:g}")
                yield Finding(doubt.severity, *place, doubt.message, doubt.remedy, "V12")
        yield from _cholestasis(table, usable, lewis=lewis[patient], rules=ca199)
        yield from _assays(table, rows)


def _cholestasis(table: StudyTable, rows: list[dict[str, Any]], *, lewis: str, rules: Ca199Rules) -> Iterable[Finding]:
    values = ca199_values(rows, rules=rules)
    days, times = rules.bilirubin_within_days, f"{rules.max_bilirubin_x_uln:g} x ULN"
    cases = [
        (
            [value for value in values if value.bilirubin is None],
            f"no bilirubin within {days} days: cholestasis, which raises CA19-9, can't be told",
            "add it",
        ),
        (
            [value for value in values if value.cholestatic],
            f"bilirubin within {days} days is above {times}: CA19-9 is raised by cholestasis",
            "nothing to do: such a value is no baseline of a CA19-9 label",
        ),
    ]
    if lewis == "negative":
        high = [value for value in values if value.bounds[0] > rules.uln]
        message = f"above {rules.uln:g} U/mL in a patient whose lewis_status is negative"
        cases.append((high, message, "correct lewis_status in patients.tsv, or the value"))
    for found, message, remedy in cases:
        if found:
            more = f" (and in {len(found) - 1} more rows of the patient)" if len(found) > 1 else ""
            place = (table.file, found[0].row["row"], "value", f"{found[0].row['value']:g}")
            yield Finding("warning", *place, message + more, remedy, "V11")


def _assays(table: StudyTable, rows: list[dict[str, Any]]) -> Iterable[Finding]:
    first: dict[str, str] = {}
    told = set()
    for row in sorted(rows, key=lambda row: row["day"]):
        analyte, platform = row["analyte"], row["platform"]
        if platform and first.setdefault(analyte, platform) != platform and analyte not in told:
            told.add(analyte)
            message = f"{analyte} was measured on {first[analyte]} before: values of two assays can't be compared"
            remedy = "nothing to do if it is right: changes are reckoned within one assay"
            yield Finding("warning", table.file, row["row"], "platform", platform, message, remedy, "V13")


def _lesions(tables: Tables, trial: Trial) -> Iterable[Finding]:
    """V14: target lesions are as many and as large as RECIST 1.1 asks for; and each measurement has its scan."""
    table, scans = tables["lesions"], by_patient(tables["scans"])
    courses, rules = courses_of(tables), trial_rules(trial, "evaluation", RecistRules)
    for patient, rows in by_patient(table).items():
        for line, column, value, message, remedy in structure_problems(rows, start=courses[patient].start, rules=rules):
            yield Finding("error", table.file, line, column, str(value), message, remedy, "V14")
        if tables["scans"].path:
            days = {scan["day"] for scan in scans.get(patient, ())}
            missing = sorted({row["day"] for row in rows} - days)
            if missing:
                line = next(row["row"] for row in rows if row["day"] == missing[0])
                message = f"no scan of this day in {tables['scans'].file}: new and non-target lesions are not known"
                remedy = "add the scan; one without change leaves a row too"
                yield Finding("warning", table.file, line, "day", str(missing[0]), message, remedy, "V14")


def _samples(tables: Tables, trial: Trial) -> Iterable[Finding]:
    """What V08 and the timepoints rest on: days of sampling, treatment rows, surgery behind surgical tissue."""
    samples, courses, local = tables["samples"], courses_of(tables), by_patient(tables["local_treatment"])
    for row in samples.records():
        course = courses[row["patient_id"]]
        if row["timepoint"] == BEFORE and row["day"] is None and course.start is not None:
            message, remedy = "is empty: whether the sample was taken before treatment can't be checked", "add the day"
            yield Finding("warning", samples.file, row["row"], "day", "", message, remedy, "V08")
        surgical = [one for one in local.get(row["patient_id"], []) if one["type"] in SURGERY]
        if row["timepoint"] == RESECTION and tables["local_treatment"].path and not surgical:
            message = f"tissue of a resection, but no resection of the patient in {tables['local_treatment'].file}"
            remedy = "add the operation, or correct the timepoint"
            yield Finding("warning", samples.file, row["row"], "timepoint", row["timepoint"], message, remedy, "V08")
    tissue = {row["sample_id"]: row["tissue"] for row in samples.rows}
    libraries = tables["libraries"]
    for row in libraries.records():
        if tissue[row["sample_id"]] == "blood_pbmc" and row["modality"] in SPATIAL_MODALITIES:
            message, remedy = "a section of blood cells", "correct the modality, or the tissue of the sample"
            yield Finding("error", libraries.file, row["row"], "modality", row["modality"], message, remedy, "V01")


RULES: tuple[Callable[[Tables, Trial], Iterable[Finding]], ...] = (
    _largest_metastasis,
    _timing,
    _limits_of_cohort,
    _fitness,
    _order_of_days,
    _chemotherapy,
    _pathology,
    _blood,
    _lesions,
    _samples,
)
