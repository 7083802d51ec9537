"""Seeded stand-ins for the results that the report is made of: small tables as the steps leave them, and plain figures."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from livermet import biomarkers, blood_course, checklist, compared, design, keys, robustness, survival, validation
from livermet.annotation_summary import TYPE_COLUMNS
from livermet.catalogue import LABELS
from livermet.contacts import CONTACT_COLUMNS
from livermet.differential import COLUMNS as DIFFERENTIAL_COLUMNS
from livermet.differential import TEST_COLUMNS
from livermet.findings import COLUMNS as FINDING_COLUMNS
from livermet.growth import GROWTH_COLUMNS
from livermet.integration_scores import COLUMNS as INTEGRATION_COLUMNS
from livermet.invasion import IDENTITY
from livermet.invasion import TEST_COLUMNS as INVASION_TEST_COLUMNS
from livermet.library_report import LibraryInputs
from livermet.malignant import malignant_columns
from livermet.markers import states_of
from livermet.moran import COMBINED_COLUMNS
from livermet.neighbourhood import NEIGHBOURHOOD_COLUMNS
from livermet.niches import CONSENSUS_COLUMNS, NICHE_COLUMNS, STABILITY_COLUMNS, STRUCTURE_COLUMNS
from livermet.overrides import OVERRIDE_COLUMNS
from livermet.report import CohortInputs
from livermet.tail import TAIL_COLUMNS
from livermet.transfer import COMPARISON_COLUMNS
from livermet.zones import SENSITIVITY_COLUMNS, SUMMARY_COLUMNS

PARAMS = {
    "study": "/home/someone/study",
    "roots": ["/home/someone/raw"],
    "seed": 1,
    "blind": False,
    "scope": "cohort",
    "labels": {"pathologist": {"kind": "ordinal", "levels": ["poor", "fair", "good"]}},
    "qc": {
        "nmads_counts": 5,
        "min_counts": 200,
        "min_cells": 50,
        "doublet_score_threshold": None,
        "remove_doublets": True,
    },
    "integrate": {"n_hvg": 2000, "resolutions": [0.3, 0.5, 0.8, 1.2]},
    "reference": {"use": ""},
    "spatial": {"margin_um": 250, "core_um": 500},
    "response": {
        "primary_label": "disease_control",
        "timepoints": ["T0_pre"],
        "tissues": ["liver_met"],
        "confirmatory": [{"modality": "scrna", "family": "composition_type", "feature": "tam_SPP1"}],
        "alpha": 0.05,
        "fdr": 0.1,
        "planned_looks": 1,
    },
}

COMPARTMENTS = ("epithelial", "liver_parenchyma", "endothelial", "mesenchymal", "myeloid", "lymphoid", "unknown")
TYPES = ("malignant_ductal", "hepatocyte", "lsec", "caf_pan", "tam_SPP1", "t_CD8_effector", "unknown")
FIGURES = (
    "qc_waterfall qc_metrics clustering integration umap marker_dotplot annotation annotation_agreement composition malignancy "
    "malignant_states volcano activity distance_profiles zone_composition niches niche_stability neighbourhood contacts growth_pattern invasion "
    "invasion_profiles invasion_tails spatial_genes interactions associations confirmatory power robustness changes survival_curves hazard_ratios blood_courses "
    "biomarkers blood_tissue prediction calibration"
).split()
NUMBERS = {
    "confirmatory_tested": 0,
    "confirmatory_found": 0,
    "exploratory_tested": 78,
    "exploratory_leads": 2,
    "refused": {"R01": 29},
    "look": 1,
    "planned_looks": 1,
}
ASSOCIATION_COLUMNS = (
    "label timepoint tissue modality family feature role analysis n n_ref n_alt n_missing effect effect_kind ci_low ci_high p "
    "p_method q adjusted_for smallest_attainable_p minimal_detectable_effect status refusal_code refusal_reason"
).split()
EMPTY = {
    "patients": "patient_id centre cohort consent_omics",
    "samples": "sample_id patient_id timepoint tissue",
    "libraries": "library_id sample_id modality batch",
    "treatment": "patient_id",
    "scans": "patient_id",
    "response": "patient_id",
    "blood": "patient_id",
    "pathology": "sample_id",
    "outcome": "patient_id",
    "labels": "patient_id label kind value event source reason",
    "recist": "patient_id day days_on_treatment sum_mm liver_sum_mm change_from_baseline_pct change_from_nadir_pct target nontarget "
    "new_lesion response reported agrees confirmed counts reason rows",
    "consent": "enrolled withdrawn no_omics",
    "deviations": "patient_id rules",
    "findings": " ".join(FINDING_COLUMNS),
    "scope_findings": " ".join(FINDING_COLUMNS),
    "status": "library_id patient_id sample_id modality batch status reason n_in n_out",
    "cnv": "patient_id arm mean_log_ratio n_genes called reason",
    "clustering": "resolution n_clusters stability chosen",
    "integration": " ".join(INTEGRATION_COLUMNS),
    "annotation": " ".join(TYPE_COLUMNS),
    "annotation_comparison": " ".join(COMPARISON_COLUMNS),
    "overrides": " ".join(OVERRIDE_COLUMNS),
    "malignant": " ".join(malignant_columns(states_of()["malignant_ductal"])),
    "pdac_arms": "arm expected genes n_tested n_found n_contrary source confidence",
    "differential": " ".join(DIFFERENTIAL_COLUMNS),
    "differential_tests": " ".join(TEST_COLUMNS),
    "niches": " ".join(NICHE_COLUMNS),
    "niche_stability": " ".join(STABILITY_COLUMNS),
    "niche_consensus": " ".join(CONSENSUS_COLUMNS),
    "niche_structure": " ".join(STRUCTURE_COLUMNS),
    "neighbourhood": " ".join(NEIGHBOURHOOD_COLUMNS),
    "contacts": " ".join(CONTACT_COLUMNS),
    "sections": " ".join(SUMMARY_COLUMNS),
    "zone_sensitivity": " ".join(SENSITIVITY_COLUMNS),
    "growth_pattern": " ".join(GROWTH_COLUMNS),
    "invasion_tests": " ".join(INVASION_TEST_COLUMNS),
    "invasion_tail": " ".join([*IDENTITY, *TAIL_COLUMNS]),
    "spatial_genes": " ".join(COMBINED_COLUMNS),
    "interactions": "patient_id timepoint tissue modality sender receiver ligand receptor magnitude specificity n_sender n_receiver status "
    "evidence_grade",
    "features": "patient_id timepoint tissue modality family feature value unit n_cells source",
    "features_left_out": "patient_id timepoint tissue modality family feature reason",
    "response_filtered": "modality family feature n_patients mean_cells zero_fraction reason",
    "associations": " ".join(ASSOCIATION_COLUMNS),
    "robustness": " ".join(robustness.COLUMNS),
    "confounding": " ".join(design.COLUMNS),
    "changes": " ".join(compared.COLUMNS),
    "survival": " ".join(survival.COLUMNS),
    "survival_curves": " ".join(survival.CURVE_COLUMNS),
    "biomarkers": " ".join(biomarkers.COLUMNS),
    "blood_tissue": " ".join(biomarkers.TISSUE_COLUMNS),
    "blood_measures": " ".join(blood_course.MEASURE_COLUMNS),
    "predictors": " ".join(validation.PREDICTOR_COLUMNS),
    "prediction_null": " ".join(validation.NULL_COLUMNS),
    "checklist": " ".join(checklist.COLUMNS),
}


def fake_png(rng: np.random.Generator, title: str, *, width: float, height: float) -> bytes:
    """A scatter of coloured points as PNG: as hard to compress as a real figure."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    points = rng.normal(size=(4000, 2))
    axes.scatter(*points.T, c=rng.integers(0, 12, 4000), cmap="tab20", s=6, alpha=0.7)
    axes.set_title(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def tiny_png(rng: np.random.Generator, title: str, *, width: float, height: float) -> bytes:
    """A figure that takes no time, in place of :func:`fake_png`."""
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (20, 40, 3), dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def empty_inputs() -> CohortInputs:
    """A study whose tables all have their header and no row."""
    return CohortInputs(
        scope="cohort",
        title="Cells, niches and interactions in liver metastases of pancreatic cancer",
        simulated=True,
        tables={name: pd.DataFrame(columns=columns.split()) for name, columns in EMPTY.items()},
        verdict={
            "headline": "No statement on response is possible.",
            "sentences": [],
            "limits": [],
            "scope": "cohort",
            "label": "disease_control",
            "status": "not_tested",
            "numbers": {**NUMBERS, "patients_with_label": 0, "per_class": {}},
        },
        figures={},
        sections={},
        captions={},
        drawn={},
        params=PARAMS,
        run={"inputs": {}, "tables": {}, "versions": {"python": "3.11.2"}, "seed": 1, "overlays": {}},
    )


def demo_inputs(
    seed: int = 1, *, n_patients: int = 24, n_sections: int = 12, draw: Callable[..., bytes] = tiny_png
) -> CohortInputs:
    """A study of the demo's size: patients with missing tissue or consent, excluded libraries, refusals, all figures.

    P08 withdrew and P11 did not consent to omics; P22 has no sample, P05 and P14 a primary only, P16 tissue of the
    resection only; the library of P06 failed, and the section of P03 gave no feature.
    """
    rng = np.random.default_rng(seed)
    numbers = [i for i in range(n_patients) if i != 7]
    patients = [f"P{i + 1:02d}" for i in numbers]
    responders = rng.random(len(numbers)) < 0.4
    tables = dict(empty_inputs().tables)
    tables["patients"] = pd.DataFrame(
        {
            "patient_id": patients,
            "centre": [f"centre_{'ABCDEF'[i % 6]}" for i in numbers],
            "cohort": rng.choice(["limited_liver", "extended_liver", "secondary_extrahepatic"], len(numbers)),
            "consent_omics": ["no" if i == 10 else "yes" for i in numbers],
        }
    )
    tables["consent"] = pd.DataFrame(
        {"enrolled": [n_patients], "withdrawn": [n_patients - len(numbers)], "no_omics": [int(10 in numbers)]}
    )
    samples, libraries, status = [], [], []
    for i, patient in zip(numbers, patients, strict=True):
        tissue = "primary" if i in (4, 13) else "liver_met"
        if i == 21:
            continue
        kinds = ["scrna", *(["visium"] if i % 2 == 0 and i < 2 * n_sections else [])]
        samples.append((f"S{i + 1:02d}", patient, "T3_resection" if i == 15 else "T0_pre", tissue))
        if i % 6 == 1:
            samples.append((f"S{i + 1:02d}r", patient, "T3_resection", "liver_met"))
        for sample, _, _, _ in [] if i == 10 else samples[-2 if i % 6 == 1 else -1 :]:
            for kind in kinds:
                library = f"L{sample[1:]}_{kind}"
                n_in = int(rng.integers(350, 520))
                bad = library == "L06_scrna"
                libraries.append((library, sample, kind, f"B{1 + i // 8:02d}"))
                n_out = 0 if bad else int(n_in * rng.uniform(0.6, 0.95))
                reason = "21 cells are left after QC, fewer than qc.min_cells = 50" if bad else ""
                status.append(
                    (
                        library,
                        patient,
                        sample,
                        kind,
                        f"B{1 + i // 8:02d}",
                        "excluded" if bad else "ok",
                        reason,
                        n_in,
                        n_out,
                    )
                )
    tables["samples"] = pd.DataFrame(samples, columns=EMPTY["samples"].split())
    tables["libraries"] = pd.DataFrame(libraries, columns=EMPTY["libraries"].split())
    tables["status"] = pd.DataFrame(status, columns=EMPTY["status"].split())
    for name, share in {
        "treatment": 0.95,
        "scans": 0.9,
        "response": 0.9,
        "blood": 0.8,
        "outcome": 1,
    }.items():
        tables[name] = pd.DataFrame({"patient_id": [p for p in patients if rng.random() < share]})
    tables["pathology"] = pd.DataFrame({"sample_id": [s for s in tables["samples"]["sample_id"] if rng.random() < 0.4]})
    tables["recist"] = _recist(patients, rng)
    tables["labels"] = _labels(patients, responders, rng)
    tables["findings"], tables["scope_findings"] = _findings(patients)
    tables["deviations"] = pd.DataFrame([("P02", "V04, V07"), ("P06", "V05")], columns=EMPTY["deviations"].split())
    tables["features"] = _features(tables["status"], tables["samples"], rng)
    tables["features_left_out"] = pd.DataFrame(
        [
            (
                "P03",
                "T0_pre",
                "liver_met",
                "visium",
                "zone",
                "",
                "the section has no border: 3 spots of liver, 30 are needed",
            )
        ],
        columns=EMPTY["features_left_out"].split(),
    )
    tables["cnv"] = pd.DataFrame(
        [(p, "8q", 0.2, 90, "gain", "") for p in sorted(set(tables["samples"]["patient_id"]))],
        columns=EMPTY["cnv"].split(),
    )
    tables["clustering"] = pd.DataFrame(
        {
            "resolution": [0.3, 0.5, 0.8, 1.2],
            "n_clusters": [9, 13, 18, 24],
            "stability": [0.97, 0.96, 0.91, 0.84],
            "chosen": [0, 1, 0, 0],
        }
    )
    tables |= _cells(patients, rng)
    tables["niches"] = pd.DataFrame(
        [
            (
                *(
                    f"n{k}",
                    f"{TYPES[k]}-rich",
                    name,
                    float(rng.random() / 3),
                    float(rng.normal()),
                    900 - 90 * k,
                    11 - k,
                ),
                *("composition", "spot", k % 2, f"e{k}", 0.5, ""),
            )
            for k in range(6)
            for name in TYPES
        ],
        columns=EMPTY["niches"].split(),
    )
    tables["niche_stability"] = pd.DataFrame(
        {
            **{"k": range(4, 9), "ari_mean": [0.8, 0.9, 0.93, 0.8, 0.7], "ari_sd": [0.05] * 5},
            **{"chosen": [0, 0, 1, 0, 0], "definition": "composition", "resolution": "spot", "basis": "composition"},
        }
    )
    sections = tables["status"][tables["status"]["modality"] == "visium"]
    tables["neighbourhood"] = pd.DataFrame(
        [
            (
                r.library_id,
                r.patient_id,
                "T0_pre",
                "liver_met",
                a,
                b,
                0.2,
                0.1,
                0.05,
                rng.normal(),
                r.n_out,
                "distance_bins",
                "spot",
            )
            for r in sections.itertuples()
            for a in TYPES
            for b in TYPES
        ],
        columns=EMPTY["neighbourhood"].split(),
    )
    tables |= _sections(sections)
    tables["interactions"] = pd.DataFrame(
        [
            (p, "T0_pre", "liver_met", "scrna", a, "malignant_ductal", lig, rec, float(rng.random()), float(rng.random()), 40, 90,
             str(rng.choice(["scored", "scored", "too_few_cells", "not_detected"])), "D")
            for p in patients
            for a in ("caf_pan", "tam_SPP1", "hepatocyte")
            for lig, rec in (("SPP1", "CD44"), ("MIF", "CD74"), ("HGF", "MET"), ("LIF", "IL6ST"))
        ],
        columns=EMPTY["interactions"].split(),
    )  # fmt: skip
    tables["associations"] = _associations(rng)
    tables["response_filtered"] = pd.DataFrame(
        [
            ("scrna", "composition_type", f"rare_{k}", 18, 2.0, 0.5, "fewer than 20 cells or spots in the mean")
            for k in range(9)
        ],
        columns=EMPTY["response_filtered"].split(),
    )
    n_alt = int(responders.sum())
    return replace(
        empty_inputs(),
        tables=tables,
        verdict={
            "headline": "One of three declared features goes with disease control: SPP1 macrophages are fewer in patients whose disease was controlled.",
            "sentences": [
                "SPP1 macrophages among captured cells: difference −0.92 standard deviations (95 % interval −1.7 to −0.1), Holm-adjusted p 0.031.",
                "CD8 T cells and the share of the tumour-immune niche: no difference that this number of patients can show.",
            ],
            "limits": [
                "With 18 patients, effects smaller than 1.3 standard deviations would be missed more often than not.",
                "This is the first of two planned looks.",
                "An association is not a cause; nothing here has been repeated in other patients.",
            ],
            "scope": "cohort",
            "label": "disease_control",
            "status": "finding",
            "numbers": {
                **NUMBERS,
                "patients_with_label": n_patients - 2,
                "per_class": {"0.0": n_patients - n_alt - 2, "1.0": n_alt},
                "confirmatory_found": 1,
                "confirmatory_tested": 3,
            },
        },
        figures={name: draw(rng, name, width=9, height=4) for name in FIGURES},
        sections={library: draw(rng, library, width=11, height=7) for library in sections["library_id"]},
        captions=dict.fromkeys(
            [*FIGURES, "section"],
            "**What is drawn**, with a limit of {{ snakemake.params.qc.min_counts }} counts and α = {{ snakemake.params.alpha }}.",
        ),
        run={
            "inputs": {
                r.library_id: {
                    "modality": r.modality,
                    "reader": "10x_h5",
                    "reason": "",
                    "files": [
                        {
                            "name": "filtered_feature_bc_matrix.h5",
                            "bytes": 123456,
                            "sha256": f"{i:064x}",
                        }
                    ],
                }
                for i, r in enumerate(tables["status"].itertuples())
            },
            "tables": {"patients.tsv": "0" * 64},
            "versions": {"python": "3.11.2", "livermet": "0.1.0", "scanpy": "1.11.5", "squidpy": "1.8.2"},
            "seed": 1,
            "overlays": {"B02": {"qc": {"min_counts": 150}}},
        },
    )


def _cells(patients: list[str], rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Tables on embedding, types, malignant cells and expression."""

    def filled(name: str, **columns: Any) -> pd.DataFrame:
        """Rows with the given columns; counts begin with n_, all others are text or random shares."""
        table = pd.DataFrame(columns)
        for column in EMPTY[name].split():
            if column not in table:
                table[column] = rng.integers(1, 90, len(table)) if column.startswith("n_") else rng.random(len(table))
        return table[EMPTY[name].split()]

    place = {"timepoint": "T0_pre", "tissue": "liver_met", "modality": "scrna"}
    text = {"reason": "", "purist_reason": "", "purist_missing": ""}
    malignant = filled("malignant", patient_id=patients, **place, **text)
    few = malignant.index[:2]
    malignant.loc[few, [c for c in malignant if c.startswith(("fraction_", "purist_p", "purist_l"))]] = np.nan
    malignant.loc[few, ["reason", "purist_reason"]] = "7 malignant cells, 20 needed"
    genes = filled(
        "differential", modality="scrna", cell_type=["caf_pan"] * 30, gene=[f"GENE{i}" for i in range(30)], ambient=0
    )
    tests = pd.DataFrame(
        [
            ("scrna", "caf_pan", 12, 9, "~ label", "tested", "centre left out: too many centres", 4100, 3),
            ("scrna", "mast", 2, 1, "", "refused", "2 patients in the arm progression, 3 are needed", 0, 0),
        ],
        columns=EMPTY["differential_tests"].split(),
    )
    return {
        "integration": filled("integration", score=["a score"], kind="overall", better="integrated", meaning="what it says"),
        "annotation": filled(
            "annotation", cell_type=list(TYPES), compartment="myeloid", sister="kupffer",
            reference_label="T cell", celltypist_label="",
        ),
        "annotation_comparison": filled("annotation_comparison", source=["reference"], reason=""),
        "overrides": filled("overrides", **{"target": ["c03"], "kind": "cluster", "from": "unknown: 9", "to": "mast", "note": ""}),
        "malignant": malignant,
        "pdac_arms": filled("pdac_arms", arm=["8q", "9p"], expected=["gain", "loss"], genes="MYC", source="Park 2024", confidence="V"),
        "differential": genes.assign(q_global=0.01),
        "differential_tests": tests,
    }  # fmt: skip


def _labels(patients: list[str], responders: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """All labels of the catalogue and a declared one; P03 and P18 have no evaluation, and most no resection."""
    rows = []
    for patient, yes in zip(patients, responders, strict=True):
        i = int(patient[1:]) - 1
        best = 1 if yes else 3 if i % 3 else 2
        known = {
            "recist_best": best,
            "disease_control": int(best < 3),
            "objective_response": int(best < 2),
            "sld_change": round(float(rng.normal(-0.2, 0.3)), 4),
            "resected": int(i % 6 == 1),
        }
        scans = f"lesions.tsv rows {3 * i + 2}, {3 * i + 4}; scans.tsv row {2 * i + 3}: best of 2 evaluations"
        for label, entry in LABELS.items():
            source, reason, event, value = scans, "", "", str(known.get(label, ""))
            if label in known and i in (2, 17):
                source, value, reason = "", "", f"no evaluation after the start of treatment on day {3 + i}"
            elif entry.kind == "survival" and (label in ("pfs", "os") or i % 6 == 1):
                source, value, event = f"outcome.tsv row {i + 2}", str(int(rng.integers(40, 900))), str(int(i % 3 > 0))
            elif label.startswith("ca199"):
                source, reason = f"blood.tsv rows {9 * i + 2}, {9 * i + 8}", ""
                value = f"{rng.normal(-1, 1):.6g}" if entry.kind == "continuous" else str(int(rng.random() < 0.5))
                if i % 5 == 4:
                    value, reason = "", "CA19-9 is not secreted: 1.5 U/mL at most, and bilirubin is normal"
            elif label not in known:
                value = str(i % 4 if entry.kind == "ordinal" else i % 2) if i % 6 == 1 else ""
                source, reason = ("pathology.tsv row 4", "") if value else ("", "no local treatment of the liver")
            rows.append((patient, label, entry.kind, value, event, source, reason))
        grade = "" if i % 4 == 3 else str(i % 3)
        reason = "" if grade else "no value of pathologist in response.tsv"
        rows.append(
            (patient, "pathologist", "ordinal", grade, "", f"response.tsv row {i + 2}" if grade else "", reason)
        )
    return pd.DataFrame(rows, columns=EMPTY["labels"].split())


def _sections(sections: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Borders, growth patterns, contacts and invasion of sections; the first has no border."""
    place = {"timepoint": "T0_pre", "tissue": "liver_met"}
    rows = sections[["library_id", "patient_id"]].to_dict("records")
    missing = ["no liver tissue (3 liver spots, 10 needed)", *[""] * (len(rows) - 1)]
    known = [0.0 if why else 1.0 for why in missing]
    nan = [np.nan if why else 1.0 for why in missing]
    zones = {f"n_{zone}": [int(40 * k) for k in known] for zone in (*keys.ZONES[:5], "none")}
    base = pd.DataFrame(rows)
    return {
        "sections": base[["library_id"]].assign(
            resolution="spot",
            border_source=["" if why else "expression" for why in missing],
            n_tumour=120,
            n_liver=[int(100 * k) for k in known],
            interface_mm=[2.4 * k for k in known],
            band_um=100.0,
            **zones,
            polygon_distance_um=np.nan,
            polygon_same_side=np.nan,
            reason=missing,
        ),
        "growth_pattern": base.assign(
            growth_pattern=["" if why else "replacement" for why in missing],
            desmoplastic_pct=[20 * k for k in nan],
            replacement_pct=[75 * k for k in nan],
            pushing_pct=[5 * k for k in nan],
            interface_mm=[2.4 * k for k in known],
            pathologist="",
            reason=missing,
        ).reindex(columns=list(GROWTH_COLUMNS)),
        "zone_sensitivity": pd.DataFrame(
            [
                {"library_id": r["library_id"], "patient_id": r["patient_id"], "resolution": "spot", "margin_um": width}
                | {"cell_type": name, "log2_ratio": 0.5 * k - 1 + width / 1000, "n_margin": 60, "n_core": 80, "reason": ""}
                for r in rows[1:]
                for width in (250.0, 500.0)
                for k, name in enumerate(TYPES)
            ]
        ).reindex(columns=list(SENSITIVITY_COLUMNS)),
        "niche_consensus": base[["library_id"]].assign(resolution="spot", n_spots=400, ari=0.4),
        "niche_structure": base[["library_id"]]
        .assign(niche="n1", n_spots=50, share=0.1, joins=40, null_joins=10.0, join_z=6.0, status="structure", reason="")
        .reindex(columns=list(STRUCTURE_COLUMNS)),
        "invasion_tests": pd.DataFrame(
            [
                {**place, "modality": "visium", "programme": "EMT", "n": 9, "effect": 0.4, "ci_low": 0.1, "ci_high": 0.7}
                | {"p": 0.012, "q": 0.05, "smallest_attainable_p": 0.004, "status": "tested"},
                {**place, "modality": "xenium", "programme": "EMT", "n": 2, "effect": 0.3, "status": "refused"}
                | {"refusal_code": "R01", "refusal_reason": "2 patients with an estimate, 3 needed"},
            ],
            columns=INVASION_TEST_COLUMNS,
        ),
        "invasion_tail": base.assign(
            **place, modality="visium", n_tumour=120, n_liver=100, n_distant=40, background=0.01, reason=missing,
            **{name: [0.04 * k for k in nan] for name in ("share_outside", "share_low", "share_high")},
            **{name: [150 * k for k in nan] for name in ("d90_um", "d90_low", "d90_high")},
        ),
        "spatial_genes": pd.DataFrame(
            [
                {**place, "modality": "visium", "gene": f"G{k}", "zone": zone, "n_patients": 9, "n_significant": 9 - k}
                | {"mean_i": 0.5 - 0.03 * k, "p_structure": 1e-9, "rank": k + 1}
                for zone in ("section", "margin", "core")
                for k in range(12)
            ],
            columns=COMBINED_COLUMNS,
        ),
    }  # fmt: skip


def _recist(patients: list[str], rng: np.random.Generator) -> pd.DataFrame:
    """Three evaluations of each patient; the second of P04 and the first of P12 were reported otherwise."""
    rows = []
    for patient in patients:
        i = int(patient[1:]) - 1
        if i in (2, 17):
            continue
        for k, day in enumerate((63, 125, 187)):
            change = float(np.round(rng.normal(-15, 20), 1))
            response = "PR" if change <= -30 else "PD" if change >= 20 else "SD"
            differs = (patient, k) in {("P04", 1), ("P12", 0)}
            reported = ("SD" if response != "SD" else "PR") if differs else response
            size = round(80 * (1 + change / 100), 1)
            rows.append(
                (
                    *(patient, day, day - 3, size, size, change, max(change, 0.0), response, "nonCR_nonPD", int(k == 2 and change > 30)),
                    *(response, reported, "no" if differs else "yes", "", "yes" if k < 2 else "no"),
                    *(f"sum of 2 target lesions {size} mm", f"lesions.tsv rows {6 * i + k}, {6 * i + k + 3}; scans.tsv row {3 * i + k}"),
                )
            )  # fmt: skip
    return pd.DataFrame(rows, columns=EMPTY["recist"].split())


def _findings(patients: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Findings on the tables, with deviations of two patients, and findings after quality control."""
    stays = "nothing to do if it is right: the patient stays, and a per-protocol analysis leaves the patient out"
    study = [
        ("exclusion", "", "libraries.tsv", 9, "path", "raw/L09.h5", "the file is cut off: 1,024 of 88,120 bytes", "copy it again"),
        ("deviation", "V04", "patients.tsv", 3, "n_liver_mets", "6", "6 liver metastases; the limit of cohort limited_liver is 4", stays),
        ("deviation", "V07", "local_treatment.tsv", 2, "day", "98", "after 95 days of systemic treatment; cohort limited_liver asks for 112", stays),
        ("deviation", "V05", "patients.tsv", 7, "ecog", "2", "ECOG 2; the limit of cohort limited_liver is 1", stays),
        ("warning", "V19", "patients.tsv", None, "consent_omics", "withdrawn", "patients: 1, removed from every table; libraries lost: 2", "nothing to do; the count is carried so that no one is lost silently"),
        ("warning", "V15", "response.tsv", 12, "recist", "PR", "the measurements give SD on day 125", "look at both; the trial file says which of them counts"),
        *(
            ("warning", "V11", "blood.tsv", 9 * i + 2, "value", f"{40 + 3 * i}", "no bilirubin within 7 days: cholestasis, which raises CA19-9, can't be told", "add it")
            for i in range(len(patients) // 3)
        ),
    ]  # fmt: skip
    after = [
        ("exclusion", "V17", "libraries.tsv", None, "library_id", "L12_scrna", "reads of the Y chromosome in a library of a woman", "compare with the other libraries of the patient: tubes may have been exchanged"),
        ("warning", "V18", "libraries.tsv", None, "library_id", "L04_scrna", "1.3 % of counts are of acinar genes, at most 0.5 % are expected in a liver metastasis", "check that the tissue is not of the primary"),
    ]  # fmt: skip
    return tuple(pd.DataFrame(rows, columns=list(FINDING_COLUMNS)).astype({"row": "Int64"}) for rows in (study, after))


def _features(status: pd.DataFrame, samples: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    place = samples.set_index("sample_id")
    rows = []
    for row in status[status["status"] == "ok"].itertuples():
        timepoint, tissue = place.loc[row.sample_id, ["timepoint", "tissue"]]
        key = (row.patient_id, timepoint, tissue, row.modality)
        if row.modality == "visium":
            if row.patient_id != "P03":
                rows.append((*key, "niche", "n1", rng.random(), "fraction", row.n_out, "niches.tsv"))
            continue
        for family, names in (("composition_compartment", COMPARTMENTS), ("composition_type", TYPES)):
            shares = rng.dirichlet(np.linspace(5, 0.5, len(names)))
            rows += [
                (*key, family, name, share, "fraction", row.n_out, "cells.h5ad")
                for name, share in zip(names, shares, strict=True)
            ]
        for state in ("mal_classical", "mal_basal"):
            rows.append((*key, "malignant_state", f"score_{state}", rng.normal(0.3, 0.2), "score", 60, "cells.h5ad"))
    return pd.DataFrame(rows, columns=EMPTY["features"].split())


def _associations(rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    families = {"composition_type": 30, "niche": 6, "interaction": 60, "zone": 14}
    for family, n in families.items():
        for k in range(n):
            refused = family == "zone" or (family == "interaction" and k % 4 == 0)
            confirmatory = (family, k) in {("composition_type", 0), ("composition_type", 1), ("niche", 0)}
            effect, p = rng.normal(0, 0.5), rng.random()
            rows.append(
                {
                    "label": "disease_control",
                    "timepoint": "T0_pre",
                    "tissue": "liver_met",
                    "modality": "visium" if family in ("niche", "zone") else "scrna",
                    "family": family,
                    "feature": f"{TYPES[k % len(TYPES)]}_{k}",
                    "role": "confirmatory" if confirmatory else "exploratory",
                    "analysis": "primary",
                    "n": 18,
                    "n_ref": 8,
                    "n_alt": 10,
                    "n_missing": 2,
                    "effect": np.nan if refused else effect,
                    "effect_kind": "hedges_g",
                    "ci_low": np.nan if refused else effect - 0.9,
                    "ci_high": np.nan if refused else effect + 0.9,
                    "p": np.nan if refused else p,
                    "p_method": "" if refused else "permutation within centre",
                    "q": np.nan if refused else min(1, 2 * p),
                    "adjusted_for": "",
                    "smallest_attainable_p": 0.004,
                    "minimal_detectable_effect": 1.3,
                    "status": "refused" if refused else "tested",
                    "refusal_code": "R01" if refused else "",
                    "refusal_reason": "2 patients in the arm progression, 3 are needed" if refused else "",
                }
            )
    return pd.DataFrame(rows, columns=ASSOCIATION_COLUMNS)


def library_inputs(inputs: CohortInputs, library: str, *, figure: bytes) -> LibraryInputs:
    """The page of one library of a study made by :func:`demo_inputs`."""
    rows = inputs.tables["status"].merge(inputs.tables["samples"][["sample_id", "timepoint", "tissue"]], on="sample_id")
    statuses = {row["library_id"]: _library_status(row, i) for i, row in enumerate(rows.to_dict(orient="records"))}
    row = rows[rows["library_id"] == library].iloc[0].to_dict()
    cells = row["modality"] == "scrna"
    kept = row["n_out"] > 0
    return LibraryInputs(
        scope=inputs.scope,
        simulated=inputs.simulated,
        row={**row, "centre": "centre_A"},
        status=statuses[library],
        siblings=list(statuses.values()),
        figures={"library_qc": figure} if kept else {},
        captions={"library_qc": "Quality of each cell."},
        params=inputs.params,
        types={name: (40.0 if cells else 0.1) * (k + 1) for k, name in enumerate(TYPES)} if kept else {},
        order=list(rows["library_id"]),
    )


def _library_status(row: dict[str, Any], i: int) -> dict[str, Any]:
    lost = row["n_in"] - row["n_out"]
    metrics = {
        "median_counts": 2400 + 53 * (i * 7 % 11),
        "median_genes": 1100 + 21 * (i * 5 % 13),
        "median_pct_mito": 4 + i % 5,
    }
    return {
        "library_id": row["library_id"],
        "modality": row["modality"],
        "status": row["status"],
        "reason": row["reason"],
        "n_in": row["n_in"],
        "n_out": row["n_out"],
        "removed": {"low_counts": lost // 2, "high_mito": lost - lost // 2, "doublet": 0},
        "metrics": {**metrics, "doublet_rate": 0.03 + i % 3 / 100, "ambient_source": "low_count_cells"},
        "notes": ["no raw droplets were given"] if i == 0 else [],
    }
