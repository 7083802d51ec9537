"""Patients of the simulated study: truth per patient, tissue composition, and the clinical tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from livermet.simulate.design import CELL_TYPES, StudyDesign

HGPS = ("replacement", "desmoplastic", "pushing")
ULN = {"ca199": 37.0, "cea": 5.0, "crp": 5.0, "bilirubin": 21.0}
UNITS = {
    "ca199": "U/mL",
    "cea": "ug/L",
    "crp": "mg/L",
    "albumin": "g/L",
    "bilirubin": "umol/L",
    "neutrophils": "10^9/L",
    "lymphocytes": "10^9/L",
}
SCAN_INTERVAL = 56  # days between evaluations


def expit(x: np.ndarray | float) -> np.ndarray | float:
    """Logistic function."""
    return 1.0 / (1.0 + np.exp(-np.asarray(x, dtype=float)))


def simulate_patients(design: StudyDesign) -> pd.DataFrame:
    """Truth per patient: group by available tissue, centre, response, and what response and interactions move.

    Returns
    -------
    DataFrame with one row per patient: patient_id, group ("t0_liver", "t0_primary" or "resection_only"), centre, batch,
    responder, burden, basal_fraction, cycling_fraction, hgp, ligand_z, null_ligand_z, soup_mean, sex, lewis_status,
    method, resected.
    """
    rng = design.rng("patients")
    n = design.n_patients
    group = np.array(
        ["t0_primary"] * design.n_primary_only
        + ["resection_only"] * design.n_resection_only
        + ["t0_liver"] * (n - design.n_primary_only - design.n_resection_only)
    )
    group = rng.permutation(group)
    centre = _centres(design, group, rng)
    responder = _responders(design, group, centre, rng)
    ligand = _standardised(rng.normal(size=n))
    null_ligand = _standardised(rng.normal(size=n))
    mean = np.where(responder, design.basal_mean_responder, design.basal_mean_nonresponder)
    basal = rng.beta(6 * mean, 6 * (1 - mean)).clip(0.01, 0.97)
    low, high = design.ambient_range
    patients = pd.DataFrame(
        {
            "patient_id": [f"SIM-{i:03d}" for i in range(1, n + 1)],
            "group": group,
            "centre": centre,
            "batch": _batches(design, responder, rng),
            "responder": responder.astype(int),
            "burden": np.exp(rng.normal(0, design.burden_sd, n)),
            "basal_fraction": expit(np.log(basal / (1 - basal)) + design.basal_per_ligand * ligand),
            "cycling_fraction": expit(-1.9 + design.proliferation_per_ligand * ligand),
            "hgp": rng.choice(HGPS, n, p=(0.5, 0.35, 0.15)),
            "ligand_z": ligand,
            "null_ligand_z": null_ligand,
            "soup_mean": low + (high - low) * expit(rng.normal(-0.6, 0.7, n) + design.decoy_soup * ligand),
            "sex": rng.choice(["F", "M"], n),
            "lewis_status": rng.choice(["negative", "positive", "unknown"], n, p=(0.08, 0.77, 0.15)),
            "method": np.where(
                group == "t0_primary", "eus_fnb", rng.choice(["core_needle", "eus_fnb"], n, p=(0.75, 0.25))
            ),
        }
    )
    patients["resected"] = _resected(patients, rng)
    return patients


def _standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def _centres(design: StudyDesign, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Uneven centres, each with its share of the patients who have liver tissue at T0."""
    weights = 1.0 / (1.0 + 0.6 * np.arange(design.n_centres))
    bounds = np.cumsum(weights) / weights.sum()
    order = np.lexsort((rng.random(len(group)), group != "t0_liver"))
    centre = np.empty(len(group), dtype=object)
    # Golden-ratio steps spread every prefix of the order over the centres in proportion to their weights.
    steps = (np.arange(len(group)) * 0.6180339887 + rng.random()) % 1.0
    centre[order] = [f"C{i + 1}" for i in np.searchsorted(bounds, steps)]
    return centre


def _responders(design: StudyDesign, group: np.ndarray, centre: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exact share of responders among patients with liver tissue at T0; resected patients are responders by design.

    Without confounding, response is redrawn until three centres hold both classes, or as many as can in a small study.
    """
    responder = np.zeros(len(group), dtype=bool)
    responder[group == "resection_only"] = True
    primary = np.flatnonzero(group == "t0_primary")
    responder[primary[: len(primary) // 2]] = True
    liver = np.flatnonzero(group == "t0_liver")
    n_responders = round(design.responder_fraction * len(liver))
    # Under confounding the centres are ranked, and the better ones hold the responders.
    easier = rng.permutation(design.n_centres)
    rank = np.array([easier[int(c[1:]) - 1] for c in centre[liver]]) / design.n_centres
    able = int((pd.Series(centre[liver]).value_counts() >= 2).sum())
    wanted = min(3, able, n_responders, len(liver) - n_responders)
    for _ in range(1000):
        noise = rng.normal(size=len(liver))
        score = (1 - design.centre_confounding) * noise + 3 * design.centre_confounding * rank
        responder[liver] = False
        responder[liver[np.argsort(-score, kind="stable")[:n_responders]]] = True
        mixed = pd.Series(responder[liver]).groupby(centre[liver]).nunique()
        if design.centre_confounding > 0 or (mixed == 2).sum() >= wanted:
            return responder
    raise ValueError(f"n_centres: no draw gave {wanted} centres with both response classes; use fewer centres")


def _batches(design: StudyDesign, responder: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Processing batches of uneven size, dealt within each response class so that neither stands in one batch only."""
    weights = 1.0 / (1.0 + 0.35 * np.arange(design.n_batches))
    bounds = np.cumsum(weights) / weights.sum()
    batch = np.empty(len(responder), dtype=object)
    for value in (False, True):
        members = rng.permutation(np.flatnonzero(responder == value))
        steps = (np.arange(len(members)) * 0.6180339887 + rng.random()) % 1.0
        batch[members] = [f"B{i + 1:02d}" for i in np.searchsorted(bounds, steps)]
    return batch


def _resected(patients: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Only disease-controlled patients reach surgery (the trial's own gate), and only some of them."""
    drawn = rng.random(len(patients)) < 0.5
    return ((patients["group"] == "resection_only") | ((patients["responder"] == 1) & drawn)).astype(int).to_numpy()


def composition_deviations(patients: pd.DataFrame, design: StudyDesign) -> pd.DataFrame:
    """Shift of each patient's composition logits from the average tissue.

    ``eta_pk - alpha_k = beta_k y_p + gamma_k hgp_p + u_pk``: three types carry an effect of response, all others none.

    Returns
    -------
    DataFrame patients x cell types.
    """
    rng = design.rng("composition")
    names = [t.name for t in CELL_TYPES]
    shift = pd.DataFrame(
        rng.normal(0, design.patient_composition_sd, (len(patients), len(names))),
        index=patients["patient_id"].to_numpy(),
        columns=names,
    )
    responder = patients["responder"].to_numpy()
    hgp = patients["hgp"].to_numpy()
    eus = (patients["method"] == "eus_fnb").to_numpy()
    shift["tam_SPP1"] += design.effect_tam_spp1 * responder
    shift["t_CD8_effector"] += design.effect_cd8 * responder
    shift["caf_pan"] += design.effect_caf * responder
    shift["malignant_ductal"] += np.log(patients["burden"].to_numpy())
    shift["caf_pan"] += 0.4 * (hgp == "desmoplastic")
    shift["hepatocyte"] += 0.3 * (hgp == "replacement")
    # Fine needles bring more T cells and fewer fibroblasts than cores do (Park 2024); response does not choose them.
    shift["caf_pan"] -= 0.3 * eus
    shift[["t_CD4_conv", "t_reg"]] += 0.2 * eus[:, None]
    return shift


def compositions(patients: pd.DataFrame, design: StudyDesign, *, weight: str = "dissociated") -> pd.DataFrame:
    """Expected cell-type fractions per patient: softmax of the logits.

    Parameters
    ----------
    weight
        Which average tissue the patients vary around: "dissociated", "tumour", "liver" or "primary".
    """
    base = np.array([getattr(t, weight) for t in CELL_TYPES])
    values = base * np.exp(composition_deviations(patients, design))
    return values.div(values.sum(axis=1), axis=0)


def malignant_shares(patient: pd.Series) -> dict[str, float]:
    """Shares of the malignant states in one patient."""
    cycling = float(patient["cycling_fraction"])
    rest = (1 - cycling) * 0.84
    return {
        "mal_classical": rest * (1 - patient["basal_fraction"]),
        "mal_basal": rest * patient["basal_fraction"],
        "mal_cycling": cycling,
        "mal_emt": (1 - cycling) * 0.08,
        "mal_hypoxia": (1 - cycling) * 0.08,
    }


def clinical_tables(patients: pd.DataFrame, design: StudyDesign) -> dict[str, pd.DataFrame]:
    """Study tables other than samples and libraries, consistent with the truth per patient.

    Days count from enrolment. Survival depends on response and on nothing else: resection has no effect, but only
    patients alive at surgery are resected (immortal time).
    """
    rng = design.rng("clinical")
    rows: dict[str, list[dict]] = {
        name: []
        for name in ("patients", "treatment", "local_treatment", "scans", "lesions", "response", "blood", "outcome")
    }
    for _, patient in patients.iterrows():
        course = _course(patient, rng)
        rows["patients"].append(_patient_row(patient, course, rng))
        rows["treatment"] += _treatment_rows(patient, course, rng)
        if course["surgery"] is not None:
            rows["local_treatment"].append(
                {
                    "patient_id": patient["patient_id"],
                    "day": course["surgery"],
                    "type": rng.choice(["liver_resection", "combined"], p=(0.8, 0.2)),
                    "lesion_id": "L1",
                    "margin": rng.choice(["R0", "R1"], p=(0.8, 0.2)),
                }
            )
        _imaging_rows(patient, course, rows)
        rows["blood"] += _blood_rows(patient, course, rng)
        rows["outcome"].append(course["outcome"] | {"patient_id": patient["patient_id"]})
    columns = {
        "patients": "patient_id centre cohort age sex ecog met_timing dx_primary_day dx_livermet_day pdac_confirmation "
        "resectability n_liver_mets largest_met_mm bilobar planned_local lewis_status consent_omics",
        "treatment": "patient_id regimen start_day stop_day cycles",
        "local_treatment": "patient_id day type lesion_id margin",
        "scans": "patient_id day modality new_lesion nontarget",
        "lesions": "patient_id lesion_id day target diameter_mm status organ node related_lesion_id modality",
        "response": "patient_id eval_day recist",
        "blood": "patient_id day analyte value unit censor platform uln lod gcsf infection",
        "outcome": "patient_id last_followup_day death progression_day relapse_day cutoff_day",
    }
    tables = {name: pd.DataFrame(rows[name], columns=names.split()) for name, names in columns.items()}
    whole = {
        "outcome": ["last_followup_day", "progression_day", "relapse_day", "cutoff_day"],
        "treatment": ["stop_day", "cycles"],
    }
    for name, names in whole.items():
        tables[name] = tables[name].astype(dict.fromkeys(names, "Int64"))
    return tables


def _course(patient: pd.Series, rng: np.random.Generator) -> dict:
    """Days of one patient's course: treatment, evaluations, surgery, progression and death."""
    start = int(rng.integers(8, 15))
    first, second = (
        start + SCAN_INTERVAL + int(rng.integers(-3, 4)),
        start + 2 * SCAN_INTERVAL + int(rng.integers(-3, 4)),
    )
    surgery = second + int(rng.integers(21, 36)) if patient["resected"] else None
    # Weibull with a hazard ratio of one half for responders; redrawn until the patient lives to be evaluated. Resected
    # patients live to surgery by definition, which is the trap: surgery itself changes nothing.
    scale = 300.0 * (2.0 ** (1 / 1.4) if patient["responder"] else 1.0)
    alive_until = surgery + 10 if surgery is not None else first + 14
    death = 0
    while death <= alive_until:
        death = int(scale * rng.weibull(1.4))
    cutoff = int(rng.integers(max(400, alive_until + 30), 1500))
    earliest = (surgery or second) + 30
    if not patient["responder"]:
        progression = first
    elif death > earliest + 10:
        progression = int(rng.integers(earliest, death - 5)) if rng.random() < 0.85 else None
    else:
        progression = None
    last = min(death, cutoff)
    if progression is not None and progression > last:
        progression = None
    return {
        "start": start,
        "evaluations": [first] if not patient["responder"] else [day for day in (first, second) if day < last],
        "surgery": surgery,
        "outcome": {
            "last_followup_day": last,
            "death": int(death <= cutoff),
            "progression_day": progression,
            "relapse_day": progression if surgery is not None else None,
            "cutoff_day": cutoff,
        },
        "lesions": _lesion_course(bool(patient["responder"]), patient["burden"], rng),
    }


def _lesion_course(responder: bool, burden: float, rng: np.random.Generator) -> dict:
    """Diameters of the target lesions at baseline and two evaluations, redrawn until RECIST says what is planted."""
    n_mets = 1 + int(min(3, rng.poisson(0.8 + 0.5 * burden)))
    n_target = min(2, n_mets)  # at most two per organ
    best = rng.choice(["PR", "SD"]) if responder else "PD"
    new_lesion = bool(best == "PD" and rng.random() < 0.3)
    spans = {"PR": (0.45, 0.66), "SD": (0.8, 1.1), "PD": (1.28, 1.7)}
    low, high = (0.95, 1.1) if new_lesion else spans[best]
    while True:
        baseline = np.sort(rng.uniform(14, 46, n_target).round())[::-1]
        first = (baseline * rng.uniform(low, high, n_target)).round()
        second = (first * rng.uniform(0.85, 1.02, n_target)).round()
        sums = baseline.sum(), first.sum(), second.sum()
        calls = recist_call(sums[0], sums[0], sums[1]), recist_call(sums[0], min(sums[:2]), sums[2])
        if best == "PD" and (new_lesion or calls[0] == "PD"):
            return {"n_mets": n_mets, "diameters": [baseline, first], "recist": ["PD"], "new_lesion": new_lesion}
        if best != "PD" and calls == (best, best):
            return {
                "n_mets": n_mets,
                "diameters": [baseline, first, second],
                "recist": list(calls),
                "new_lesion": False,
            }


def recist_call(baseline: float, nadir: float, current: float) -> str:
    """RECIST 1.1 from sums of target diameters (mm), without regard to new and non-target lesions."""
    if current == 0:
        return "CR"
    if current >= 1.2 * nadir and current - nadir >= 5:
        return "PD"
    return "PR" if current <= 0.7 * baseline else "SD"


def _patient_row(patient: pd.Series, course: dict, rng: np.random.Generator) -> dict:
    n_mets = course["lesions"]["n_mets"]
    synchronous = rng.random() < 0.7
    livermet = -int(rng.integers(14, 60))
    return {
        "patient_id": patient["patient_id"],
        "centre": patient["centre"],
        "cohort": rng.choice(["limited_liver", "extended_liver", "secondary_extrahepatic"], p=(0.6, 0.25, 0.15)),
        "age": int(rng.integers(46, 80)),
        "sex": patient["sex"],
        "ecog": int(rng.random() < 0.4),
        "met_timing": "synchronous" if synchronous else "metachronous",
        "dx_primary_day": livermet - int(rng.integers(0, 40) if synchronous else rng.integers(220, 600)),
        "dx_livermet_day": livermet,
        "pdac_confirmation": rng.choice(["histology", "cytology"], p=(0.85, 0.15)),
        "resectability": rng.choice(["resectable", "borderline_venous"]) if synchronous else "previously_resected",
        "n_liver_mets": n_mets,
        "largest_met_mm": int(course["lesions"]["diameters"][0].max()),
        "bilobar": int(n_mets > 1 and rng.random() < 0.5),
        "planned_local": rng.choice(["resection", "ablation", "both"], p=(0.7, 0.15, 0.15)),
        "lewis_status": patient["lewis_status"],
        "consent_omics": "yes",
    }


def _treatment_rows(patient: pd.Series, course: dict, rng: np.random.Generator) -> list[dict]:
    last = course["outcome"]["last_followup_day"]
    first_line = str(rng.choice(["mFOLFIRINOX", "GnP"], p=(0.65, 0.35)))
    if patient["responder"]:
        stop = course["surgery"] - 14 if course["surgery"] is not None else course["start"] + 168
        stops = [("first", first_line, course["start"], min(stop, last))]
    else:
        switch = course["evaluations"][0] + 10
        other = "GnP" if first_line == "mFOLFIRINOX" else "mFOLFIRINOX"
        stops = [("first", first_line, course["start"], course["evaluations"][0])]
        if switch + 28 < last:
            stops.append(("second", other, switch, min(switch + 84, last)))
    return [
        {
            "patient_id": patient["patient_id"],
            "regimen": regimen,
            "start_day": begin,
            "stop_day": end,
            "cycles": max(1, (end - begin) // 14),
        }
        for _, regimen, begin, end in stops
    ]


def _imaging_rows(patient: pd.Series, course: dict, rows: dict[str, list[dict]]) -> None:
    lesions = course["lesions"]
    days = [course["start"] - 10, *course["evaluations"]]
    identity = {"patient_id": patient["patient_id"]}
    nontargets = lesions["n_mets"] - len(lesions["diameters"][0])
    for visit, day in enumerate(days):
        new = int(visit == 1 and lesions["new_lesion"])
        rows["scans"].append(
            identity
            | {
                "day": day,
                "modality": "CT",
                "new_lesion": new,
                "nontarget": "nonCR_nonPD" if visit and nontargets else None,
            }
        )
        common = {"day": day, "node": 0, "related_lesion_id": None, "modality": "CT", "organ": "liver"}
        for i, diameter in enumerate(lesions["diameters"][visit]):
            rows["lesions"].append(
                identity
                | common
                | {"lesion_id": f"L{i + 1}", "target": 1, "diameter_mm": int(diameter), "status": "measured"}
            )
        for i in range(nontargets + new):
            lesion = f"L{len(lesions['diameters'][0]) + i + 1}"
            rows["lesions"].append(
                identity | common | {"lesion_id": lesion, "target": 0, "diameter_mm": None, "status": "present"}
            )
        if visit:
            rows["response"].append(identity | {"eval_day": day, "recist": lesions["recist"][visit - 1]})


def _blood_rows(patient: pd.Series, course: dict, rng: np.random.Generator) -> list[dict]:
    """CA19-9 courses and the other analytes, at baseline, at each evaluation and around surgery."""
    last = course["outcome"]["last_followup_day"]
    days = [course["start"] - 3] + [day + int(rng.integers(-4, 5)) for day in course["evaluations"]]
    if course["surgery"] is not None:
        days += [course["surgery"] - 7, course["surgery"] + 35]
    days = sorted({min(day, last) for day in days})
    secretor = patient["lewis_status"] != "negative"
    cholestasis = rng.random() < 0.1
    level = np.log2(220.0) + np.log2(patient["burden"]) + rng.normal(0, 1.6)
    level = max(level, np.log2(60.0))  # a patient with a normal value at baseline has no course to follow
    change = rng.normal(-1.6 if patient["responder"] else -0.2, 0.9)
    base = {
        "cea": rng.lognormal(1.6, 0.8),
        "crp": rng.lognormal(2.0, 0.9),
        "albumin": rng.normal(38, 3.5),
        "bilirubin": rng.uniform(60, 140) if cholestasis else rng.lognormal(2.3, 0.3),
        "neutrophils": rng.lognormal(1.5, 0.3),
        "lymphocytes": rng.lognormal(0.35, 0.3),
    }
    rows = []
    for visit, day in enumerate(days):
        gcsf = int(visit > 0 and rng.random() < 0.1)
        progress = min(1.0, max(0.0, (day - course["start"]) / SCAN_INTERVAL))
        jaundiced = cholestasis and visit == 0
        ca199 = 2 ** (level + change * progress + (1.2 if jaundiced else 0.0)) * rng.lognormal(0, 0.18)
        values = {"ca199": ca199 if secretor else 1.0}
        for name, value in base.items():
            factor = rng.lognormal(0, 0.05 if name == "albumin" else 0.2)
            values[name] = (12.0 if name == "bilirubin" and cholestasis and visit else value) * factor
        values["neutrophils"] *= 3.0 if gcsf else 1.0
        for analyte, value in values.items():
            below = analyte == "ca199" and value < 2.0
            rows.append(
                {
                    "patient_id": patient["patient_id"],
                    "day": day,
                    "analyte": analyte,
                    "value": 2.0 if below else float(f"{value:.3g}"),
                    "unit": UNITS[analyte],
                    "censor": "<" if below else "=",
                    "platform": f"lab_{patient['centre']}",
                    "uln": ULN.get(analyte),
                    "lod": 2.0 if analyte == "ca199" else None,
                    "gcsf": gcsf,
                    "infection": 0,
                }
            )
    return rows
