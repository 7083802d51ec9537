"""Tables of the cells as the report shows them."""

import numpy as np
import pandas as pd

from livermet.report_cells import compared_types, leading_genes, malignant_patients, type_evidence

MALIGNANT = {
    "patient_id": "P1",
    "timepoint": "T0_pre",
    "tissue": "liver_met",
    "modality": "scrna",
    "n_malignant": 100,
    "n_ambiguous": 1,
    "n_not_tested": 0,
    "n_arms_called": 5,
    "n_pdac_arms": 3,
    **{f"fraction_{name}": 0.25 for name in ("basal", "intermediate", "classical")},
    **{f"fraction_{name}_low": 0.1 for name in ("basal", "intermediate", "classical")},
    **{f"fraction_{name}_high": 0.4 for name in ("basal", "intermediate", "classical")},
    "purist_probability": 0.812,
    "purist_low": 0.7,
    "purist_high": 0.9,
    "purist_informative_pairs": 8,
    "reason": "",
    "purist_reason": "",
}


def test_malignant_patients_show_intervals_or_the_reason_once():
    few = {name: np.nan if name.startswith(("fraction", "purist_")) else value for name, value in MALIGNANT.items()}
    few |= {"patient_id": "P2", "reason": "no arms; 7 malignant cells", "purist_reason": "7 malignant cells"}
    table = malignant_patients(pd.DataFrame([MALIGNANT, few]))
    assert table["basal (%)"].tolist() == ["25 [10, 40]", ""]
    assert table["PurIST, P(basal)"].tolist() == ["0.81 [0.70, 0.90]", ""]
    assert table["why not"].tolist() == ["", "no arms; 7 malignant cells"]
    assert table["where"].iloc[0] == "T0_pre, liver_met, scrna"


def test_only_genes_that_reach_the_rate_are_leads_smallest_p_first():
    genes = pd.DataFrame(
        {
            "modality": "scrna",
            "cell_type": "mast",
            "gene": ["A", "B", "C", "D"],
            "base_mean": 10.0,
            "log2_fold_change": 1.0,
            "standard_error": 0.1,
            "p": [0.01, 0.001, 0.2, 0.0001],
            "q_global": [0.05, 0.01, 0.5, np.nan],
        }
    )
    assert leading_genes(genes, fdr=0.1, top=5)["gene"].tolist() == ["B", "A"]
    assert leading_genes(genes, fdr=0.1, top=1)["gene"].tolist() == ["B"]


def test_tested_types_come_first_those_with_most_leads_at_the_top():
    tests = pd.DataFrame(
        {
            "modality": "scrna",
            "cell_type": ["a", "b", "c"],
            "n_alt": [3, 9, 9],
            "n_ref": [1, 8, 8],
            "status": ["refused", "tested", "tested"],
            "n_genes": [0, 10, 10],
            "n_leads": [0, 0, 2],
        }
    )
    assert compared_types(tests)["cell_type"].tolist() == ["c", "b", "a"]


def test_labels_from_elsewhere_are_shown_only_where_given():
    row = dict.fromkeys(
        ["markers_raised", "foreign_raised", "group_conflict", "cell_conflict", "sister_log_odds", "confidence"], 0.5
    )
    row |= {"cell_type": "mast", "n_cells": 9, "n_patients": 2, "n_low_confidence": 1, "n_overridden": 0}
    row |= {"sister": "cDC2", "reference_label": "Mast", "reference_share": 0.9}
    table = type_evidence(pd.DataFrame([{**row, "celltypist_label": "", "celltypist_share": np.nan}]))
    assert table["reference: its share (%)"].tolist() == [90.0]
    assert not any(name.startswith("celltypist") for name in table)
    assert table["own markers (%)"].tolist() == [50.0]
