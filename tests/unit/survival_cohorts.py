"""Seeded cohorts with times to an event, and the clinical course of simulated studies, for the tests of survival."""

import numpy as np
import pandas as pd

from cohorts import CONFIG, ids, labels_table
from livermet.landmark import Rules, read_course
from livermet.simulate import clinical
from livermet.simulate.clinical import simulate_patients
from livermet.simulate.design import StudyDesign
from livermet.survival import Setting

SURVIVAL = {"endpoints": ["os"], "landmark_days": 270, "min_events": 5, "n_permutations": 199}
RULES = Rules(first_min_days=49, window_end=77, within_days=14)
GOES_WITH = {
    "os": ("T0_pre",),
    "pfs": ("T0_pre",),
    "rfs": ("T3_resection",),
    "os_surgery": ("T3_resection",),
}
NO_COURSE = {
    "recist": ["patient_id", "day", "response", "counts"],
    "response": ["patient_id", "eval_day", "recist"],
    "treatment": ["patient_id", "regimen", "start_day", "stop_day"],
    "local_treatment": ["patient_id", "day", "type"],
}


def setting(*, response=None, scope="cohort", earlier_looks=0, **changes):
    return Setting(
        config={**SURVIVAL, **changes},
        response={**CONFIG, **(response or {})},
        goes_with=GOES_WITH,
        scope=scope,
        seed=1,
        earlier_looks=earlier_looks,
    )


def endpoint_table(time, event, *, name="os", patients=None):
    """An endpoint as the study step writes it: days and events as text."""
    table = labels_table(list(np.asarray(time, float)), name=name, kind="survival")
    table["event"] = [f"{int(value)}" for value in event]
    return table if patients is None else table.assign(patient_id=list(patients))


def course_of(patients, **tables):
    """Dated facts from rows by table; tables that are not given are empty."""
    given = {name: pd.DataFrame(tables.get(name, []), columns=columns) for name, columns in NO_COURSE.items()}
    return read_course(**given, patients=pd.DataFrame({"patient_id": list(patients)}))


def times(rng, x, centre, *, beta=0.0, scale=300.0, follow_up=(200, 900)):
    """Days and events with a log hazard ratio of ``beta`` per unit of x, and a baseline hazard per centre."""
    days = rng.exponential(scale * np.exp(0.3 * centre - beta * np.asarray(x)))
    last = rng.uniform(*follow_up, len(days))
    return np.ceil(np.minimum(days, last)), (days <= last).astype(int)


def simulated(seed, *, n_patients=120):
    """Labels, patients and course of a simulated study, in which resection has no effect on survival.

    Patients and their courses are the simulator's; images and blood, which survival doesn't need, are left out.
    """
    design = StudyDesign(seed=seed, n_patients=n_patients, n_cells=10)
    truth = simulate_patients(design)
    names, rng = list(truth["patient_id"]), design.rng("clinical")
    courses = [clinical._course(patient, rng) for _, patient in truth.iterrows()]
    outcome = [one["outcome"] for one in courses]
    seen = [
        (name, day, response)
        for name, one in zip(names, courses, strict=True)
        for day, response in zip(one["evaluations"], one["lesions"]["recist"], strict=False)
    ]
    operated = [(name, one["surgery"]) for name, one in zip(names, courses, strict=True) if one["surgery"] is not None]
    course = course_of(
        names,
        recist=[(*row, "yes") for row in seen],
        treatment=[(name, "GnP", one["start"], None) for name, one in zip(names, courses, strict=True)],
        local_treatment=[(*row, "liver_resection") for row in operated],
    )
    days, deaths = ([one[key] for one in outcome] for key in ("last_followup_day", "death"))
    labels = [
        endpoint_table(days, deaths, patients=names),
        labels_table(truth["resected"], name="resected").assign(patient_id=names),
        labels_table(truth["responder"], name="disease_control").assign(patient_id=names),
    ]
    return pd.concat(labels, ignore_index=True), truth[["patient_id", "centre"]], course


__all__ = ["CONFIG", "GOES_WITH", "RULES", "course_of", "endpoint_table", "ids", "setting", "simulated", "times"]
