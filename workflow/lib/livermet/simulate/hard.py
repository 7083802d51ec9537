"""Hard cases of the simulated study: what sooner or later arrives in a trial and an average study does not hold."""

from __future__ import annotations

import pandas as pd

from livermet.simulate.design import StudyDesign

FEW_CELLS = "few_cells"
HEPATOCYTE_RICH = "hepatocyte_rich"
NO_COPY_NUMBER = "no_copy_number"
OWN_CHEMISTRY = "own_chemistry"

N_FEW = 60  # cells of the library that has few, which are all that its run recovered
HEPATOCYTE_SHARE = 0.95
CHEMISTRY = "SC3Pv2"  # of the centre that has its own: an older kit, with a gene-wise effect that no other library has


def choose_hard_cases(patients: pd.DataFrame, design: StudyDesign) -> pd.DataFrame:
    """Patients of the hard cases, each case in patients of its own; none unless the design asks for them.

    The centre with its own chemistry is the one with the fewest patients, at least two: with one, nobody could tell the
    chemistry from the patient. The other cases fall on patients with liver tissue before treatment elsewhere.

    Parameters
    ----------
    patients
        Truth per patient.
    design
        Design of the study.

    Returns
    -------
    DataFrame with case and patient_id.

    Raises
    ------
    ValueError
        If no centre has two patients, or fewer than three patients are left for the other cases.
    """
    columns = ["case", "patient_id"]
    if not design.hard_cases:
        return pd.DataFrame(columns=columns)
    size = patients["centre"].value_counts().sort_index()
    centre = size[size >= 2].idxmin() if (size >= 2).any() else None
    elsewhere = (patients["group"] == "t0_liver") & (patients["centre"] != centre)
    if centre is None or elsewhere.sum() < 3:
        raise ValueError(
            "hard_cases: a centre of two patients and three patients with liver tissue elsewhere are needed; "
            "simulate more patients or fewer centres"
        )
    own = patients.loc[patients["centre"] == centre, "patient_id"]
    others = design.rng("hard cases").choice(patients.loc[elsewhere, "patient_id"], 3, replace=False)
    rows = [(OWN_CHEMISTRY, patient) for patient in own]
    rows += list(zip([FEW_CELLS, HEPATOCYTE_RICH, NO_COPY_NUMBER], others, strict=True))
    return pd.DataFrame(rows, columns=columns)


def hepatocyte_rich(fractions: pd.Series) -> pd.Series:
    """Fractions of the cell types with hepatocytes at ``HEPATOCYTE_SHARE``, the others keep their ratios."""
    others = fractions.drop("hepatocyte")
    return pd.concat([others / others.sum() * (1 - HEPATOCYTE_SHARE), pd.Series({"hepatocyte": HEPATOCYTE_SHARE})])
