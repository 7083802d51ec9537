"""Seeded cohorts for the tests of prediction: clinical variables, features of tissue, a label, centres."""

import numpy as np
import pandas as pd
from scipy.special import expit

from cohorts import CONFIG, composition, feature_rows, ids, labels_table, patients_table
from livermet.compared import patient_design
from livermet.predict import predict_response

SHARES = [0.3, 0.25, 0.2, 0.1, 0.1, 0.05]
PREDICTION = {"features": [], "repeats": 3, "folds": 5, "null_repeats": 1, "n_permutations": 39}
PLAIN = [{"modality": "visium", "family": "zone", "feature": f"f{k:02d}"} for k in range(3)]
PARTS = [{"modality": "scrna", "family": "composition_type", "feature": f"f{k:02d}"} for k in (1, 5)]


def cohort(seed, *, n=64, clinical=0.0, tissue=0.0, centres=6):
    """Tables of one cohort; ``clinical`` and ``tissue`` are log odds per standard deviation of one variable of each."""
    rng = np.random.default_rng(seed)
    centre = rng.choice(centres, n, p=np.array(SHARES[:centres]) / sum(SHARES[:centres]))
    plain, ca199 = rng.normal(size=(n, 3)), rng.normal(size=n)
    chance = expit(-0.5 + tissue * plain[:, 0] + clinical * ca199)
    # As many with the label as expected, so that no cohort falls short by chance.
    rank = np.argsort(np.argsort(-(np.log(chance / (1 - chance)) + rng.logistic(size=n))))
    y = (rank < round(0.4 * n)).astype(int)
    patients = patients_table([f"C{c}" for c in centre]).assign(
        n_liver_mets=rng.integers(1, 5, n),
        met_timing=rng.choice(["synchronous", "metachronous"], n),
        ecog=rng.integers(0, 2, n),
    )
    blood = {"modality": "blood", "tissue": "blood", "family": "blood"}
    features = pd.concat(
        [
            feature_rows(plain, family="zone", modality="visium"),
            feature_rows(composition(rng, y, centre), family="composition_type", n_cells=True),
            feature_rows(np.column_stack([7 + 2 * ca199, rng.normal(1.4, 0.6, n)]), names=["ca199", "nlr"], **blood),
        ],
        ignore_index=True,
    )
    return {"features": features, "labels": labels_table(y), "patients": patients}


def run(tables, *, declared=(*PLAIN, *PARTS), scope="cohort", seed=1, libraries=(), goes_with=("T0_pre",), **changes):
    """The step on such tables; ``changes`` go to the section of the config that has the key."""
    response = {**CONFIG, "confirmatory": list(declared[:1]), **{k: v for k, v in changes.items() if k in CONFIG}}
    prediction = {
        **PREDICTION,
        "features": list(declared[1:]),
        **{k: v for k, v in changes.items() if k in PREDICTION and k not in CONFIG},
    }
    prediction["n_permutations"] = changes.get("draws", PREDICTION["n_permutations"])
    design = patient_design(
        tables["patients"], libraries, timepoints=response["timepoints"], tissues=response["tissues"]
    )
    return predict_response(
        **tables, design=design, response=response, prediction=prediction, goes_with=goes_with, scope=scope, seed=seed
    )


def row(found, model, validation="nested_cv", centre=""):
    table = found.predictors
    here = (table["model"] == model) & (table["validation"] == validation) & (table["centre"] == centre)
    assert here.sum() == 1
    return table[here].iloc[0]


__all__ = ["PARTS", "PLAIN", "PREDICTION", "cohort", "ids", "row", "run"]
