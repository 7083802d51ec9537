"""Null cohorts for the response engine: how often it rejects where nothing is there.

Features are simulated at patient level in the families that the workflow tests, with effects of patients and of six
uneven centres, zeros, heavy tails and missing values; labels of every kind depend on the centre and on nothing else.
Changes within patients (kind paired) have no label: centres and half of the patients' variance last from one timepoint
to the next, all else is drawn anew; activity is refused there (F04), and nothing is confirmatory.
``python tests/truth/calibration.py --null 2000 --seed 1`` prints rejection rates with 95 % intervals per kind of label,
size of the cohort and family. Single features: the share with p at or below .05, averaged over the cohort's features, so
that the interval counts cohorts, not features. Any hit: the share of cohorts in which a family (BH) or the confirmatory
features (Holm) have one. Two tables follow: models of noise and of an effect, with how often their intervals hold; and
differential expression with and without the centre in its design.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from livermet import paired, response
from livermet.differential import centre_left_out, wald_test
from livermet.discrimination import auc_interval
from livermet.statistics import benjamini_hochberg

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
import predict_cohort
from cohorts import CONFIG, feature_rows, ids, labels_table, patients_table

CENTRES = [0.30, 0.25, 0.20, 0.10, 0.10, 0.05]
CENTRE_SD, PATIENT_SD, RESPONSE_RATE = 0.5, 0.6, 0.33
CENTRE_LABEL_SD = 0.5  # of the label's logit, mean or log hazard between centres: a moderate confounding
SIZES = (64, 24, 12)
N_PERMUTATIONS = 399
CELLS = 1500
SHARES = np.array([25, 9, 9, 4, 4, 3, 3, 3, 6, 6, 3, 5, 4, 2, 4, 3, 2, 2, 1.5, 1.5]) / 100
NICHES = np.array([30, 20, 15, 12, 10, 8, 5]) / 100
FAMILIES = {
    "composition_type": "20 parts",
    "composition_within_myeloid": "6 parts",
    "malignant_state": "normal scores",
    "interaction": "a third zeros",
    "zone": "heavy tails, 60 % of the patients",
    "niche": "7 parts, the same patients",
    "activity": "t of 8 sets over genes, a tenth of the patients missing",
    "blood": "log-normal, a tenth missing",
}
KINDS = {
    "binary": "objective_response",
    "ordinal": "recist_best",
    "continuous": "sld_change",
    "survival": "os",
}
PAIRED, CHANGE = "paired", ["T0_pre", "T3_resection"]
# Effects (log odds per standard deviation) of one clinical variable and of one of tissue, and the step's options there.
PREDICTED = (0.0, 1.0)
PREDICTION = {"repeats": 20, "null_repeats": 2, "draws": 39}
GENES, PLANTED_GENES, PLANTED_SIZE = 300, 15, 0.8  # of the cohorts for differential expression; size as log fold change
DECLARED = [("scrna", "composition_type", name) for name in ("f01", "f05", "f08")]


def null_features(
    rng: np.random.Generator, centre: np.ndarray, *, timepoints: tuple[str, ...] = ("T0_pre",)
) -> pd.DataFrame:
    """The long feature table of one cohort in which no feature knows of any label or of the timepoint."""
    n_patients, n = len(centre), len(centre) * len(timepoints)
    patient = np.tile(np.arange(n_patients), len(timepoints))

    def levels(parts: int, *, patient_sd: float = 1.0) -> np.ndarray:
        between = rng.normal(0, CENTRE_SD, (len(CENTRES), parts))[centre][patient]
        lasting = rng.normal(0, patient_sd * np.sqrt(0.5), (n_patients, parts))[patient]
        return between + lasting + rng.normal(0, patient_sd * np.sqrt(0.5), (n, parts))

    def counts(shares: np.ndarray, cells: np.ndarray) -> np.ndarray:
        weight = np.exp(np.log(shares) + levels(len(shares), patient_sd=PATIENT_SD))
        weight /= weight.sum(axis=1, keepdims=True)
        return np.array([rng.multinomial(total, p) for total, p in zip(cells, weight, strict=True)])

    cells = np.exp(rng.normal(np.log(CELLS), 0.4, n)).astype(int)
    # Whole patients: who has no section was not sampled for it, and few cells of a type have no activity.
    nobody, no_section, few_cells = np.zeros(n, bool), rng.random(n) < 0.4, rng.random(n) < 0.1
    heavy = rng.standard_t(3, (n, 5)) + levels(5, patient_sd=0.1)
    blood = np.exp(levels(6))
    blood[rng.random(blood.shape) < 0.1] = np.nan
    activity = set_scores(levels(60), np.array([rng.permutation(60) < 12 for _ in range(8)]))
    myeloid = counts(np.full(6, 1 / 6), cells // 4)
    families = [
        (counts(SHARES, cells), nobody, {"family": "composition_type", "n_cells": True}),
        (myeloid, nobody, {"family": "composition_within_myeloid", "n_cells": True}),
        (levels(8), nobody, {"family": "malignant_state"}),
        (np.maximum(levels(20) + 0.5, 0), nobody, {"family": "interaction"}),
        (heavy, no_section, {"family": "zone", "modality": "visium"}),
        (counts(NICHES, cells), no_section, {"family": "niche", "modality": "visium", "n_cells": True}),
        (activity, few_cells, {"family": "activity"}),
        (blood, nobody, {"family": "blood", "modality": "blood", "tissue": "blood"}),
    ]
    names, tables = np.array(ids(n_patients)), []
    for matrix, absent, options in families:
        for k, timepoint in enumerate(timepoints):
            own = slice(k * n_patients, (k + 1) * n_patients)
            rows = feature_rows(matrix[own], timepoint=timepoint, **options)
            tables.append(rows[~rows["patient_id"].isin(names[absent[own]])])
    return pd.concat(tables, ignore_index=True)


def set_scores(genes: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Patients x sets: t of a patient's genes, less their means over the patients, on membership of each set (ULM)."""
    own = stats.zscore(genes - genes.mean(axis=0), axis=1)
    r = own @ stats.zscore(sets.astype(float), axis=1).T / genes.shape[1]
    return r * np.sqrt((genes.shape[1] - 2) / (1 - r**2))


def null_labels(rng: np.random.Generator, centre: np.ndarray, kind: str) -> pd.DataFrame:
    """A label of one kind that depends on the centre alone."""
    n = len(centre)
    shift = rng.normal(0, CENTRE_LABEL_SD, len(CENTRES))[centre]
    level = shift + rng.logistic(size=n)
    name = KINDS[kind]
    if kind == "survival":
        death = rng.weibull(1.2, n) * 400 * np.exp(-shift)
        censored = rng.uniform(100, 900, n)
        table = labels_table(np.ceil(np.minimum(death, censored)), name=name, kind=kind)
        return table.assign(event=(death <= censored).astype(int).astype(str))
    if kind == "binary":
        values = (level > stats.logistic.ppf(1 - RESPONSE_RATE)).astype(float)
    elif kind == "ordinal":
        values = np.digitize(level, stats.logistic.ppf([0.05, 0.33, 0.7])).astype(float)
    else:
        values = level
    return labels_table(values, name=name, kind=kind)


def null_cohort(kind: str, seed: list[int], *, n: int) -> pd.DataFrame:
    """Primary rows of the engine on one null cohort; of kind ``paired``, its changes within patients."""
    rng = np.random.default_rng(seed)
    centre = rng.choice(len(CENTRES), n, p=CENTRES)
    if kind == PAIRED:
        features = null_features(rng, centre, timepoints=tuple(CHANGE))
        config = {**CONFIG, "n_permutations": N_PERMUTATIONS, "changes": [CHANGE]}
        return paired.changes(features, [], config=config, scope="cohort", seed=seed[-1])
    features = null_features(rng, centre)
    labels = null_labels(rng, centre, kind)
    declared = [dict(zip(response.FEATURE, name, strict=True)) for name in DECLARED]
    config = {
        **CONFIG,
        "primary_label": KINDS[kind],
        "n_permutations": N_PERMUTATIONS,
        "confirmatory": declared,
    }
    table = response.associate(
        features,
        labels,
        patients_table([f"C{c}" for c in centre]),
        config=config,
        goes_with=["T0_pre"],
        scope="cohort",
        seed=seed[-1],
    )
    return table[table["analysis"] == "primary"]


def rates(tables: list[pd.DataFrame]) -> list[dict[str, object]]:
    """Rejection rates of one kind and size: per family, and of the confirmatory features."""
    single: dict[str, list[float]] = {family: [] for family in FAMILIES}
    hits: dict[str, list[bool]] = {family: [] for family in FAMILIES}
    holm = []
    for table in tables:
        tested = table[table["status"] == "tested"]
        for family, rows in tested.groupby("family"):
            single[family].append(float((rows["p"] <= 0.05).mean()))
            exploratory = rows[rows["role"] == "exploratory"]
            hits[family].append(bool((exploratory["q"] <= CONFIG["fdr"]).any()))
        confirmatory = tested[tested["role"] == "confirmatory"]
        if len(confirmatory):
            holm.append(bool((confirmatory["q"] <= CONFIG["alpha"]).any()))
    rows = [
        {
            "family": f"{family} ({words})",
            "cohorts": len(single[family]),
            "single features, p <= .05": mean_interval(single[family]),
            "any hit": wilson(hits[family]),
        }
        for family, words in FAMILIES.items()
    ]
    return [*rows, {"family": "confirmatory (Holm .05)", "cohorts": len(holm), "any hit": wilson(holm)}]


def mean_interval(values: list[float]) -> str:
    """Mean over cohorts with its normal 95 % interval."""
    if len(values) < 2:
        return "-"
    half = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.4f} ({np.mean(values) - half:.4f} to {np.mean(values) + half:.4f})"


def wilson(hits: list[bool]) -> str:
    """Rate with its Wilson 95 % interval."""
    if not hits:
        return "-"
    interval = stats.binomtest(int(np.sum(hits)), len(hits)).proportion_ci(method="wilson")
    return f"{np.mean(hits):.4f} ({interval.low:.4f} to {interval.high:.4f})"


def calibration(*, cohorts: int, seed: int, cores: int) -> pd.DataFrame:
    """Rejection rates per kind of label and size; each kind has so many cohorts, split over the sizes."""
    rows: list[Mapping[str, object]] = []
    share = -(-cohorts // len(SIZES))
    with ProcessPoolExecutor(cores) as pool:
        for number, kind in enumerate([*KINDS, PAIRED]):
            for n in SIZES:
                seeds = [[seed, 3, number, n, k] for k in range(share)]
                tables = list(pool.map(partial(null_cohort, kind, n=n), seeds, chunksize=20))
                rows += [{"label": kind, "n": n, **row} for row in rates(tables)]
    return pd.DataFrame(rows).fillna("-")


def prediction_measures(seed: int, *, effect: float) -> list[dict[str, object]]:
    """AUC, gain and p of the three models on one cohort of 64 patients, with ``effect`` in log odds per SD."""
    tables = predict_cohort.cohort(seed, clinical=effect, tissue=effect)
    found = predict_cohort.run(tables, seed=seed, **PREDICTION).predictors
    nested = found[(found["validation"] == "nested_cv") & (found["status"] == "tested")]
    columns = ["auc", "auc_low", "auc_high", "p", "delta_auc", "delta_low", "delta_high", "n_alt", "n_ref"]
    return nested[["model", *columns]].to_dict("records")


def prediction_rates(*, cohorts: int, seed: int, cores: int) -> pd.DataFrame:
    """Mean AUC and gain of each model, how often its p is at or below .05, and how often intervals hold the truth.

    Truth is the mean over the cohorts, since a cross-validated AUC has no bias for models of so many patients; for an AUC
    of noise it is one half.
    """
    rows = []
    with ProcessPoolExecutor(cores) as pool:
        for effect in PREDICTED:
            seeds = range(1000 * seed, 1000 * seed + cohorts)
            found = list(pool.map(partial(prediction_measures, effect=effect), seeds))
            table = pd.DataFrame([row for tested in found for row in tested])
            for model, here in table.groupby("model", sort=False):
                truth = here["auc"].mean() if effect else 0.5
                row = {"log odds per SD": effect, "model": model, "mean AUC": mean_interval(list(here["auc"]))}
                row["p <= .05"] = wilson(list(here["p"] <= 0.05))
                row["intervals that hold the AUC"] = wilson(
                    list(here["auc_low"].le(truth) & here["auc_high"].ge(truth))
                )
                fixed = [auc_interval(*sizes) for sizes in here[["auc", "n_alt", "n_ref"]].itertuples(index=False)]
                row["without inflation"] = wilson([low <= truth <= high for low, high in fixed])
                if gains := list(here["delta_auc"].dropna()):
                    truth = np.mean(gains)
                    row["mean gain"] = mean_interval(gains)
                    row["intervals that hold the gain"] = wilson(
                        list(here["delta_low"].le(truth) & here["delta_high"].ge(truth))
                    )
                rows.append(row)
    return pd.DataFrame(rows).fillna("-")


def expression_shares(seed: list[int], *, n: int) -> list[dict[str, object]]:
    """One cohort's shares of null genes at p <= .05 and of planted ones at q .10, with the centre as decided and without.

    Counts of 300 genes, negative binomial; centres differ in expression and, moderately, in the label.
    """
    rng = np.random.default_rng(seed)
    centre = rng.choice(len(CENTRES), n, p=CENTRES)
    level = rng.normal(0, CENTRE_LABEL_SD, len(CENTRES))[centre] + rng.logistic(size=n)
    y = (level > stats.logistic.ppf(1 - RESPONSE_RATE)).astype(float)
    if min(y.sum(), n - y.sum()) < CONFIG["min_patients_per_arm"]:
        return []
    effect = np.zeros(GENES)
    effect[:PLANTED_GENES] = PLANTED_SIZE * rng.choice([-1, 1], PLANTED_GENES)
    logs = rng.normal(4, 1, GENES) + rng.normal(0, 0.4, (len(CENTRES), GENES))[centre] + np.outer(y, effect)
    mean = np.exp(logs + rng.normal(0, 0.4, (n, 1)))
    dispersion = np.exp(rng.normal(np.log(0.25), 0.4, GENES))
    counts = rng.negative_binomial(1 / dispersion, 1 / (1 + mean * dispersion))
    rows = []
    for design, used in (("as decided", None if centre_left_out(y, centre) else centre), ("without centre", None)):
        p = wald_test(counts, y, used)["p"].fillna(1).to_numpy()
        found = benjamini_hochberg(p) <= CONFIG["fdr"]
        false = (found & (effect == 0)).sum() / max(1, found.sum())
        shares = {
            "null genes": (p[effect == 0] <= 0.05).mean(),
            "planted": found[:PLANTED_GENES].mean(),
            "false": false,
        }
        rows.append({"n": n, "design": design, **shares})
    return rows


def expression_rates(*, cohorts: int, seed: int, cores: int) -> pd.DataFrame:
    """Means over cohorts of :func:`expression_shares`, for 64 and 24 patients."""
    rows = []
    with ProcessPoolExecutor(cores) as pool:
        for n in SIZES[:2]:
            seeds = [[seed, 7, n, k] for k in range(cohorts)]
            rows += [row for found in pool.map(partial(expression_shares, n=n), seeds) for row in found]
    groups = pd.DataFrame(rows).groupby(["n", "design"], sort=False)
    names = {
        "null genes": "null genes, p <= .05",
        "planted": "planted genes, q <= .10",
        "false": "false discovery proportion",
    }
    shown = {words: groups[name].agg(lambda values: mean_interval(list(values))) for name, words in names.items()}
    return pd.DataFrame({"cohorts": groups.size(), **shown}).reset_index()


def main(arguments: list[str] | None = None) -> None:
    """Run the null cohorts and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--null", type=int, default=2000, help="null cohorts per kind")
    parser.add_argument("--predicted", type=int, default=200, help="cohorts for prediction, of noise and of an effect")
    parser.add_argument("--expression", type=int, default=50, help="cohorts per size for differential expression")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args(arguments)
    print(
        f"{options.null} null cohorts per kind of label and of changes within patients, {len(CENTRES)} uneven centres that differ in features and "
        f"label; {N_PERMUTATIONS} permutations. Families are corrected by BH at q {CONFIG['fdr']:.2f}: a hit in that "
        f"share of null cohorts is what this allows. Cohorts whose test was refused don't count.\n"
    )
    print(calibration(cohorts=options.null, seed=options.seed, cores=options.cores).to_string(index=False))
    print(f"\nPrediction by nested cross-validation, {options.predicted} cohorts each of 64 patients, six centres\n")
    print(prediction_rates(cohorts=options.predicted, seed=options.seed, cores=options.cores).to_string(index=False))
    print(
        f"\nDifferential expression, {options.expression} cohorts each, six centres that differ in expression and label\n"
    )
    print(expression_rates(cohorts=options.expression, seed=options.seed, cores=options.cores).to_string(index=False))


if __name__ == "__main__":
    main()
