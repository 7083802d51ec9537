"""Truth of the response engine: planted and null cohorts of patients, simulated as feature tables.

Prints recall of the planted types and the false discovery proportion for several sizes of the cohort, how often 95 %
intervals of every kind of effect hold the truth (in compositions of few parts also the mean estimate), and rejection rates on null cohorts with intervals, each beside a naive
answer to the same cohorts. Rejection rates by family and kind of label: ``calibration.py``.
``python tests/truth/response.py --cohorts 50 --null 500 --seed 1``
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from livermet import response, statistics
from livermet.statistics import benjamini_hochberg

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from cohorts import CONFIG, feature_rows, labels_table, patients_table

CENTRES = [0.30, 0.25, 0.20, 0.10, 0.10, 0.05]
CENTRE_SD, PATIENT_SD, RESPONSE_RATE = 0.5, 0.6, 0.33
# Types and their usual share of captured cells (assumed, wide); the planted shifts are those of the design.
SHARES = {
    "malignant_ductal": 0.25, "t_CD4_conv": 0.09, "t_CD8_effector": 0.09, "t_reg": 0.04, "nk_CD16": 0.04,
    "nk_CD56bright_lr": 0.03, "b_cell": 0.03, "plasma": 0.03, "tam_SPP1": 0.06, "tam_C1QC": 0.06, "kupffer": 0.03,
    "monocyte_classical": 0.05, "neutrophil": 0.04, "cDC2": 0.02, "myCAF": 0.04, "iCAF": 0.03, "hsc": 0.02,
    "endothelial_vascular": 0.02, "lsec": 0.015, "mast": 0.015,
}  # fmt: skip
BETA = {"tam_SPP1": -0.8, "t_CD8_effector": 0.7, "myCAF": -0.5}
FAMILY, MODALITY = "composition_type", "scrna"
PARTS, MOVED = (4, 6, 8, 20), 0.8  # sizes of families whose differences are taken from their median; true g of one part


def cohort(rng, *, n, planted):
    """One cohort: label, centre, and cell counts of patients x types (logistic-normal, multinomial)."""
    y = (rng.random(n) < RESPONSE_RATE).astype(int)
    centre = rng.choice(len(CENTRES), n, p=CENTRES)
    logits = np.log(list(SHARES.values())) + rng.normal(0, PATIENT_SD, (n, len(SHARES)))
    logits += rng.normal(0, CENTRE_SD, (len(CENTRES), len(SHARES)))[centre]
    if planted:
        logits += np.outer(y, [BETA.get(name, 0) for name in SHARES])
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    cells = np.exp(rng.normal(np.log(1500), 0.4, n)).astype(int)
    return y, centre, np.array([rng.multinomial(total, p) for total, p in zip(cells, shares, strict=True)])


def engine(y, centre, counts, *, declared, n_permutations, seed):
    """Associations of one cohort by the engine, as the workflow calls it."""
    confirmatory = [{"modality": MODALITY, "family": FAMILY, "feature": name} for name in declared]
    table = response.associate(
        feature_rows(counts, family=FAMILY, modality=MODALITY, n_cells=True, names=list(SHARES)),
        labels_table(y),
        patients_table([f"C{c}" for c in centre]),
        config={**CONFIG, "n_permutations": n_permutations, "confirmatory": confirmatory},
        goes_with=["T0_pre"],
        scope="cohort",
        seed=seed,
    )
    return table[table["analysis"] == "primary"].set_index("feature")


def t_on_proportions(y, counts):
    """The naive answer: Welch t on raw proportions, Benjamini-Hochberg; q per type."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    if min((y == 0).sum(), (y == 1).sum()) < 2:
        return np.ones(shares.shape[1])  # a small cohort in which the test has no answer
    p = stats.ttest_ind(shares[y == 1], shares[y == 0], equal_var=False).pvalue
    return benjamini_hochberg(np.nan_to_num(p, nan=1.0))


def cells_as_units(y, counts):
    """The worst answer: chi-square of pooled cells by response, one cell one observation; q per type."""
    if len(np.unique(y)) < 2:
        return np.ones(counts.shape[1])
    with_label, without = counts[y == 1].sum(axis=0), counts[y == 0].sum(axis=0)
    p = [
        stats.chi2_contingency([[a, with_label.sum() - a], [b, without.sum() - b]]).pvalue
        for a, b in zip(with_label, without, strict=True)
    ]
    return benjamini_hochberg(np.array(p))


def proportion(hits, total):
    """Rate with its Wilson 95 % interval, as text."""
    interval = stats.binomtest(int(hits), total).proportion_ci(method="wilson")
    return f"{hits / total:.3f} ({interval.low:.3f} to {interval.high:.3f}, n = {total})"


def planted_scores(*, cohorts, n, n_permutations, seed):
    """Recall and false discovery proportion per method on planted cohorts."""
    planted = np.isin(list(SHARES), list(BETA))
    rows, covered = [], []
    for k in range(cohorts):
        y, centre, counts = cohort(np.random.default_rng([seed, 1, k]), n=n, planted=True)
        table = engine(y, centre, counts, declared=[], n_permutations=n_permutations, seed=k)
        q = table["q"].reindex(list(SHARES)).fillna(1).to_numpy()
        answers = {
            "livermet": q,
            "t on proportions": t_on_proportions(y, counts),
            "cells as units": cells_as_units(y, counts),
        }
        for method, values in answers.items():
            hits = values <= CONFIG["fdr"]
            false = (hits & ~planted).sum() / max(1, hits.sum())
            rows.append((method, (hits & planted).sum() >= 2, (hits & planted).mean() / planted.mean(), false))
        unplanted = table.drop(index=list(BETA), errors="ignore").query("status == 'tested'")
        covered += ((unplanted["ci_low"] <= 0) & (unplanted["ci_high"] >= 0)).tolist()
    table = pd.DataFrame(rows, columns=["method", "two_of_three", "recall", "fdp"])
    return table, proportion(sum(covered), len(covered)) if covered else "all refused"


def coverage(*, cohorts, n, seed):
    """Share of 95 % intervals that hold the true effect, per kind of effect and true size, with its interval.

    Features are normal with effects of six centres; true effects are a difference in standard deviations within centre
    and class, a correlation of normal variables within centre, and a log hazard ratio per standard deviation.
    """
    rows = []
    for kind, sizes in {"hedges_g": (0, 0.8), "spearman_rho": (0, 0.5), "log_hr_per_sd": (0, 0.7)}.items():
        for number, size in enumerate(sizes):
            held = []
            for k in range(cohorts):
                rng = np.random.default_rng([seed, 4, len(kind), number, k])
                centre = rng.choice(len(CENTRES), n, p=CENTRES)
                held += _held(kind, size, centre, rng)
            rows.append((kind, size, proportion(sum(held), len(held)) if held else "all refused"))
    return rows


def _held(kind, size, centre, rng):
    """Whether the interval of one planted feature holds its true effect; nothing where it was refused."""
    n = len(centre)
    shift = rng.normal(0, CENTRE_SD, (2, len(CENTRES)))[:, centre]
    if kind == "hedges_g":
        y = (rng.random(n) < RESPONSE_RATE).astype(int)
        x, truth, labels = rng.normal(size=n) + size * y, size, labels_table(y)
    elif kind == "spearman_rho":
        x, noise = rng.normal(size=(2, n))
        labels = labels_table(size * x + np.sqrt(1 - size**2) * noise, kind="continuous")
        shift[:] = 0  # ranks over all patients: a shift of centres would change the rank correlation itself
        truth = 6 / np.pi * np.arcsin(size / 2)
    else:
        x = rng.normal(size=n)
        death = rng.exponential(300 * np.exp(-size * x - shift[1]))
        censored = rng.uniform(200, 1200, n)
        labels = labels_table(np.ceil(np.minimum(death, censored)), kind="survival")
        labels = labels.assign(event=(death <= censored).astype(int).astype(str))
        shift[:] = 0  # the standard deviation that the effect is per is that over all patients
        truth = size
    table = response.associate(
        feature_rows((x + shift[0])[:, None], family="score"),
        labels,
        patients_table([f"C{c}" for c in centre]),
        config={**CONFIG, "n_permutations": 99, "alpha": 0.2},
        goes_with=["T0_pre"],
        scope="cohort",
        seed=1,
    )
    rows = table[(table["analysis"] == "primary") & (table["status"] == "tested")]
    assert set(rows["effect_kind"]) <= {kind}
    # The hazard ratio is per standard deviation of the patients compared, the truth per that of their population.
    scale = float(np.std(x, ddof=1)) if kind == "log_hr_per_sd" else 1.0
    return ((rows["ci_low"] <= truth * scale) & (rows["ci_high"] >= truth * scale)).tolist()


def coverage_of_parts(*, cohorts, n, seed):
    """Per size of a family, of which one part moved: how often the intervals of it and of the others hold the truth.

    Log-ratios are normal with effects of six centres; the true effect is Hedges' g of the moved part against any other,
    the spread being that of the log-ratio. Returned with the mean estimate of the moved part.
    """
    rows = []
    for parts in PARTS:
        held, others, estimates = [], [], []
        for k in range(cohorts):
            rng = np.random.default_rng([seed, 5, parts, k])
            centre = rng.choice(len(CENTRES), n, p=CENTRES)
            y = (rng.random(n) < RESPONSE_RATE).astype(int)
            logs = rng.normal(size=(n, parts)) + rng.normal(0, CENTRE_SD, (len(CENTRES), parts))[centre]
            logs[:, 0] += MOVED * np.sqrt(1 - 1 / parts) * y
            values = statistics.clr(np.exp(logs), pseudocount=0)
            found = statistics.standardised_difference(values, y, centre, centre_differences=True)
            truth = np.r_[MOVED, np.zeros(parts - 1)]
            inside = (found.low <= truth) & (truth <= found.high)
            held.append(inside[0])
            others += inside[1:].tolist()
            estimates.append(found.effect[0])
        rows.append((parts, proportion(sum(held), len(held)), np.mean(estimates), np.mean(others)))
    return rows


def null_scores(*, cohorts, n, n_permutations, seed):
    """Any-hit rates per method on null cohorts, and the engine's p of single features."""
    rows, p = [], []
    for k in range(cohorts):
        y, centre, counts = cohort(np.random.default_rng([seed, 2, k]), n=n, planted=False)
        table = engine(y, centre, counts, declared=list(BETA), n_permutations=n_permutations, seed=k)
        confirmatory = table[table["role"] == "confirmatory"]
        exploratory = table[table["role"] == "exploratory"]
        rows.append(
            {
                "confirmatory (Holm, alpha .05)": (confirmatory["q"] <= CONFIG["alpha"]).any(),
                "exploratory (BH, q .10), any": (exploratory["q"] <= CONFIG["fdr"]).any(),
                "naive: t on proportions (BH, q .10), any": (t_on_proportions(y, counts) <= CONFIG["fdr"]).any(),
                "naive: cells as units (BH, q .10), any": (cells_as_units(y, counts) <= CONFIG["fdr"]).any(),
                "refused": (table["status"] == "refused").all(),
            }
        )
        p += table["p"].dropna().tolist()
    return pd.DataFrame(rows), np.array(p)


def main(arguments=None):
    """Run the cohorts and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohorts", type=int, default=50, help="planted cohorts")
    parser.add_argument("--null", type=int, default=500, help="null cohorts")
    parser.add_argument("--patients", type=int, nargs="+", default=[64, 24, 12], help="sizes of planted cohorts")
    parser.add_argument("--coverage", type=int, default=400, help="cohorts per kind and size of effect")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)

    print(f"Response engine on simulated cohorts of patients, {len(SHARES)} types, seed {options.seed}")
    print(
        f"\nPlanted ({', '.join(f'{k} {v:+}' for k, v in BETA.items())}), {options.cohorts} cohorts of each size, 9999 "
        f"permutations"
    )
    for n in options.patients:
        table, covered = planted_scores(cohorts=options.cohorts, n=n, n_permutations=9999, seed=options.seed)
        for method, rows in table.groupby("method", sort=False):
            print(
                f"  n = {n:2d} {method:18s} at least 2 of 3 found {proportion(rows['two_of_three'].sum(), len(rows))}; "
                f"recall {rows['recall'].mean():.2f}; false discovery proportion {rows['fdp'].mean():.3f} (nominal .10)"
            )
        print(f"  n = {n:2d} 95 % intervals of types that were not planted cover 0: {covered}")

    print(f"\n95 % intervals hold the truth, {options.coverage} cohorts of {options.patients[0]} patients each")
    for kind, size, share in coverage(cohorts=options.coverage, n=options.patients[0], seed=options.seed):
        print(f"  {kind:14s} true {size:4.1f}: {share}")
    for parts, share, estimate, others in coverage_of_parts(
        cohorts=options.coverage, n=options.patients[0], seed=options.seed
    ):
        print(
            f"  hedges_g, one of {parts:2d} parts moved by {MOVED}: {share}, mean estimate {estimate:.2f}; parts that "
            f"stayed {others:.3f}"
        )

    null, p = null_scores(cohorts=options.null, n=options.patients[0], n_permutations=999, seed=options.seed)
    print(f"\n{options.null} null cohorts, 999 permutations: share with a hit")
    for name in null:
        print(f"  {name:42s} {proportion(null[name].sum(), len(null))}")
    print(f"  single features, p at or below .05: {np.mean(p <= 0.05):.4f} of {len(p)} tests")


if __name__ == "__main__":
    main()
