"""A small valid study with every table of a trial, for cases that break one rule of the protocol at a time."""

from __future__ import annotations

from pathlib import Path

from study_files import table_text, write_study

TABLES = {
    "patients": """
patient_id centre cohort age sex ecog met_timing dx_primary_day dx_livermet_day n_liver_mets largest_met_mm planned_local lewis_status consent_omics
P1 Malmö limited_liver 61 F 0 synchronous -40 -30 2 30 resection positive yes
P2 Oslo extended_liver 70 M 1 metachronous -400 -30 3 41 none unknown yes
P3 Oslo limited_liver 58 M 0 synchronous -30 -30 1 18 ablation negative yes
""",
    "samples": """
sample_id patient_id timepoint tissue day lesion_id method
S1 P1 T0_pre liver_met -3 L1 core_needle
S2 P2 T0_pre liver_met -2 L1 core_needle
S3 P3 T0_pre primary -1 . eus_fnb
S4 P1 T3_resection liver_met 150 L1 surgical
""",
    "libraries": """
library_id sample_id modality batch path raw_path expected_cells pixel_um
L1 S1 scrna B01 raw/L1.h5 raw/L1_raw.h5 4000 .
L2 S2 scrna B01 raw/L2 . . .
L3 S4 visium B02 raw/L3 . . 0.5
L4 S3 snrna B02 raw/L4.h5ad . . .
""",
    "treatment": """
patient_id regimen start_day stop_day cycles
P1 mFOLFIRINOX 5 135 9
P2 GnP 6 66 4
P3 mFOLFIRINOX 7 130 8
""",
    "local_treatment": """
patient_id day type lesion_id margin
P1 150 liver_resection L1 R0
P3 140 ablation L1 .
""",
    "scans": """
patient_id day modality new_lesion nontarget
P1 0 CT 0 .
P1 62 CT 0 .
P1 120 CT 0 .
P2 0 CT 0 nonCR_nonPD
P2 64 CT 1 nonCR_nonPD
P3 0 CT 0 .
P3 64 CT 0 .
""",
    "lesions": """
patient_id lesion_id day target diameter_mm status organ node
P1 L1 0 1 30 measured liver 0
P1 L2 0 1 20 measured liver 0
P1 L1 62 1 20 measured liver 0
P1 L2 62 1 12 measured liver 0
P1 L1 120 1 15 measured liver 0
P1 L2 120 1 10 measured liver 0
P2 L1 0 1 41 measured liver 0
P2 L2 0 0 . present liver 0
P2 L1 64 1 44 measured liver 0
P2 L2 64 0 . present liver 0
P3 L1 0 1 18 measured liver 0
P3 L1 64 1 17 measured liver 0
""",
    "response": """
patient_id eval_day recist grade
P1 62 PR high
P1 120 PR high
P2 64 PD low
P3 64 SD .
""",
    "blood": """
patient_id day analyte value unit censor platform uln
P1 0 ca199 812.5 U/mL = labA 37
P1 0 bilirubin 12 umol/L = labA 21
P1 62 ca199 200 U/mL = labA 37
P1 62 bilirubin 11 umol/L = labA 21
P2 0 albumin 38 g/L = labB .
P3 0 ca199 1 U/mL < labB 37
P3 0 bilirubin 9 umol/L = labB 21
""",
    "pathology": """
sample_id cap_trs viable_tumour_pct hgp_desmoplastic_pct hgp_replacement_pct hgp_pushing_pct ypm
S1 . 40 60 40 0 .
S4 1 20 50 50 0 1
""",
    "outcome": """
patient_id last_followup_day death progression_day relapse_day cutoff_day
P1 500 0 . 400 900
P2 200 1 64 . 900
P3 600 0 . . 900
""",
}


def write_trial_study(folder: Path) -> Path:
    """Write all tables, and the raw files of the small study, into a folder, and return it."""
    write_study(folder)
    for name in TABLES:
        (folder / f"{name}.tsv").write_text(table_text(name, TABLES), encoding="utf-8")
    return folder
