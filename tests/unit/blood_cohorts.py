"""Seeded blood tables of patients, with the other study tables that go with them, for the tests of blood biomarkers."""

import numpy as np
import pandas as pd

from cohorts import ids

BLOOD_COLUMNS = "patient_id day analyte value unit censor platform uln lod gcsf infection".split()
UNITS = {
    "ca199": "U/mL",
    "cea": "ug/L",
    "crp": "mg/L",
    "albumin": "g/L",
    "bilirubin": "umol/L",
    "neutrophils": "10^9/L",
    "lymphocytes": "10^9/L",
}
MEANS = {"ca199": 9.0, "cea": 2.5, "crp": 3.0, "bilirubin": 3.3, "neutrophils": 2.1, "lymphocytes": 0.5}  # log2
SPREADS = {"ca199": 1.5, "cea": 1.0, "crp": 1.2, "bilirubin": 0.4, "neutrophils": 0.4, "lymphocytes": 0.4}
DAYS = (-3, 28, 56, 112)


def draw(patient, day, analyte, value, *, unit=None, **fields):
    row = dict.fromkeys(BLOOD_COLUMNS)
    row |= {"patient_id": patient, "day": day, "analyte": analyte, "value": value, "unit": unit or UNITS[analyte]}
    return row | {"gcsf": 0, "infection": 0, "uln": 37.0 if analyte == "ca199" else None} | fields


def blood_table(rows):
    return pd.DataFrame(list(rows), columns=BLOOD_COLUMNS)


def tables(n, *, centres=None, lewis=None, start=0, surgery=None):
    """Patients, treatment and local treatment of ``n`` patients; ``surgery`` is a day per patient, None without."""
    names = ids(n)
    patients = pd.DataFrame(
        {
            "patient_id": names,
            "centre": [f"C{k % 2}" for k in range(n)] if centres is None else list(centres),
            "lewis_status": ["positive"] * n if lewis is None else list(lewis),
        }
    )
    treatment = pd.DataFrame(
        {"patient_id": names, "regimen": "FOLFIRINOX", "start_day": start, "stop_day": np.nan, "cycles": np.nan}
    )
    operated = [(name, day) for name, day in zip(names, surgery or [None] * n, strict=True) if day is not None]
    local = pd.DataFrame(operated, columns=["patient_id", "day"])
    return patients, treatment, local.assign(type="liver_resection", lesion_id=None, margin=None)


def cohort(seed, n, *, y=None, baseline=None, change=None, analytes=tuple(UNITS)):
    """Blood of ``n`` patients at DAYS; ``baseline`` and ``change`` are shifts by analyte in log2 (albumin: g/L) where y
    is 1. Changes grow over the first 56 days. ``analytes`` picks from the same draws."""
    rng = np.random.default_rng(seed)
    y = np.zeros(n) if y is None else np.asarray(y)
    rows = []
    for patient, label in zip(ids(n), y, strict=True):
        level = {name: rng.normal(mean, SPREADS[name]) for name, mean in MEANS.items()}
        level["ca199"] = max(level["ca199"], 6.0)
        level["albumin"] = rng.normal(38, 3)
        drift = {name: rng.normal(0, 0.4) for name in level}
        for name in level:
            level[name] += label * (baseline or {}).get(name, 0.0)
            drift[name] += label * (change or {}).get(name, 0.0)
        for day in DAYS:
            for name, value in level.items():
                now = value + drift[name] * min(max(day, 0) / 56, 1) + rng.normal(0, 0.15)
                rows.append(draw(patient, day, name, now if name == "albumin" else 2**now))
    return blood_table(row for row in rows if row["analyte"] in analytes)
