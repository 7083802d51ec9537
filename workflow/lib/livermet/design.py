"""Confounding: what else differs between patients with and without the label, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from livermet import keys, refusals, statistics
from livermet.compared import Label, analysis_set, label_numbers, read_label
from livermet.features import BLOOD_MODALITIES, with_blood_apart

COLUMNS = [
    *("label", keys.MODALITY, "factor", "kind", "n", "n_levels", "measure", "strength", "p", "p_method", "aliased"),
    *("follows", "words"),
]
LIBRARY_FACTORS = ("batch", "chemistry", "method")
TUMOUR_FRACTION = "tumour_fraction"
# Factors whose imbalance refuses a comparison (R05) or is named beside each result; the others are shown in this table.
IN_TESTS = (keys.CENTRE, *LIBRARY_FACTORS)
NOT_DESCRIBED = "a batch is described; response is set against the design in the cohort only"


def patient_factors(
    features: pd.DataFrame,
    patients: pd.DataFrame,
    libraries: Sequence[Mapping[str, str]],
    treatment: pd.DataFrame,
    *,
    config: Mapping[str, Any],
) -> pd.DataFrame:
    """What is known of the patients of each modality beside their response.

    Parameters
    ----------
    features
        The long feature table.
    patients, treatment
        The study tables.
    libraries
        Library rows of the scope.
    config
        Section ``response``.

    Returns
    -------
    One row per modality and patient with a value at the compared timepoint: centre; batch, chemistry and method of the
    libraries compared (joined by "+"); ``timepoint``, all timepoints of which the patient has such a library; the first
    regimen; and the share of malignant cells among the captured ones. Text is "" and a number NaN where not known.
    """
    table = analysis_set(features, config=config)
    base = table[[keys.MODALITY, keys.PATIENT]].drop_duplicates().sort_values([keys.MODALITY, keys.PATIENT])
    base = base.merge(patients[[keys.PATIENT, keys.CENTRE]], on=keys.PATIENT, how="left")
    columns = [keys.PATIENT, keys.MODALITY, keys.TIMEPOINT, keys.TISSUE, *LIBRARY_FACTORS]
    rows = pd.DataFrame([dict(row) for row in libraries], columns=columns, dtype=object).fillna("").astype(str)
    rows = with_blood_apart(rows)
    rows = rows[rows[keys.TISSUE].isin(config["tissues"]) | rows[keys.MODALITY].isin(BLOOD_MODALITIES)]
    key = [keys.MODALITY, keys.PATIENT]
    compared = rows[rows[keys.TIMEPOINT].isin(config["timepoints"])]
    base = base.merge(compared.groupby(key)[list(LIBRARY_FACTORS)].agg(_joined).reset_index(), on=key, how="left")
    base = base.merge(rows.groupby(key)[keys.TIMEPOINT].agg(_joined).reset_index(), on=key, how="left")
    first = treatment.astype({"start_day": float}).sort_values("start_day", kind="stable")
    first = first.drop_duplicates(keys.PATIENT)[[keys.PATIENT, "regimen"]]
    base = base.merge(first, on=keys.PATIENT, how="left")
    malignant = (table["family"] == "composition_type") & (table["feature"] == keys.MALIGNANT_TYPE)
    share = table.loc[malignant, [*key, "value"]].rename(columns={"value": TUMOUR_FRACTION})
    base = base.merge(share, on=key, how="left")
    text = [keys.CENTRE, *LIBRARY_FACTORS, keys.TIMEPOINT, "regimen"]
    return base.fillna(dict.fromkeys(text, "")).astype({**dict.fromkeys(text, str), TUMOUR_FRACTION: float})


def _joined(values: pd.Series) -> str:
    return "+".join(sorted(set(values)))


def confounding(
    factors: pd.DataFrame, labels: pd.DataFrame, *, config: Mapping[str, Any], scope: str, seed: int
) -> pd.DataFrame:
    """The label against each factor of the design, per modality, and what follows.

    Hypothesis: the label doesn't go with the factor. Unit: the patient. Measure: eta, the root of the share of the
    label's variance that lies between the levels (for two classes this is Cramer's V), or of the tumour fraction's
    between the classes; Spearman's correlation of tumour fraction with a label without classes. p: permutation of the
    label over all patients. Not corrected for multiplicity, since an imbalance is shown rather than claimed; absence of
    a small p is no evidence of balance.

    Parameters
    ----------
    factors
        As made by :func:`patient_factors`.
    labels
        Derived labels.
    config
        Section ``response``.
    scope
        In the scope of a batch nothing is set against the label.
    seed
        Seed of the permutations.

    Returns
    -------
    One row per modality and factor (``COLUMNS``). ``aliased`` from the ranks of the design matrix: "label" where the
    factor determines it, "label within centres" where centre and factor together do, "a level per patient" where it
    can't be told. ``follows`` is "refused" (R05), "adjusted", "named" or "nothing".
    """
    label = read_label(labels, config["primary_label"])
    names = [keys.CENTRE, *LIBRARY_FACTORS, keys.TIMEPOINT, "regimen", TUMOUR_FRACTION]
    rows = []
    for modality, table in factors.groupby(keys.MODALITY, sort=True):
        known = table[table[keys.PATIENT].isin(label.numbers.index)].set_index(keys.PATIENT)
        for name in names:
            own = known[known[name].notna()] if name == TUMOUR_FRACTION else known[known[name] != ""]
            row = {"label": label.name, keys.MODALITY: modality, "factor": name, "n": len(own)}
            if scope != refusals.COHORT:
                row |= {"follows": "nothing", "words": NOT_DESCRIBED}
            elif len(own) < 2 or len(np.unique(label_numbers(label, own.index, np.zeros(len(own))))) < 2:
                row |= {"follows": "nothing", "words": "too few patients in whom it is known, or one class alone"}
            elif name == TUMOUR_FRACTION:
                row |= _continuous(own[name], label, config=config, seed=seed)
            else:
                centre = own[keys.CENTRE].to_numpy(str)
                row |= _categorical(name, own[name], centre, label, config=config, seed=seed)
            rows.append(row)
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    text = [name for name in COLUMNS if name not in ("n", "n_levels", "strength", "p")]
    return table.fillna(dict.fromkeys(text, "")).astype(
        {**dict.fromkeys(text, object), "n": "Int64", "n_levels": "Int64", "strength": float, "p": float}
    )


def _categorical(
    name: str, levels: pd.Series, centre: np.ndarray, label: Label, *, config: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    values = levels.to_numpy(str)
    y = label_numbers(label, levels.index, np.zeros(len(levels)))
    row = {"kind": "categorical", "n_levels": len(np.unique(values))}
    if row["n_levels"] < 2:
        return {**row, "follows": "nothing", "words": f"the same {name} for all"}
    explained = statistics.explained_by_strata(y, values)
    p, how = _permutation(y, values, n_permutations=config["n_permutations"], seed=seed)
    row |= {"measure": "cramers_v" if label.binary else "eta", "strength": float(np.sqrt(max(explained, 0.0)))}
    row |= {"p": p, "p_method": how, "aliased": refusals.aliasing(y, values, centre)}
    share = f"{name} explains {explained:.0%} of {label.name}"
    alone = {name: values}
    if name == keys.CENTRE:
        reason = refusals.refuse_confounded(y, values, {})
        what = (
            ("refused", f"R05: {reason}") if reason else ("adjusted", f"{share}; labels are exchanged within centres")
        )
    elif name in IN_TESTS and (reason := refusals.refuse_confounded_factors(y, centre, alone)):
        what = ("refused", f"R05: {reason}")
    elif row["aliased"] == "a level per patient":
        what = ("nothing", f"a {name} per patient: whether it goes with the label can't be told")
    elif refusals.rank(centre, values) == refusals.rank(centre):
        what = ("adjusted", f"{share}; each centre has one {name}, so it is adjusted for with the centre")
    elif row["aliased"] or refusals.imbalance(y, alone):
        what = ("named", f"{share} and is not adjusted for")
    else:
        what = ("nothing", f"{share}, no more than so many levels do by chance")
    return {**row, "follows": what[0], "words": what[1]}


def _continuous(values: pd.Series, label: Label, *, config: Mapping[str, Any], seed: int) -> dict[str, Any]:
    one = np.zeros(len(values), dtype=int)
    x = values.to_numpy(float)[:, None]
    y = label_numbers(label, values.index, one)
    options = {"n_permutations": config["n_permutations"], "seed": seed}
    if label.binary:
        row = {"measure": "eta", "strength": float(np.sqrt(max(statistics.explained_by_strata(x[:, 0], y), 0.0)))}
    else:
        row = {"measure": "spearman_rho", "strength": float(statistics.rank_correlation(x, y, one).effect[0])}
    test = statistics.permutation_p(x, y, one, **options)
    row |= {"kind": "continuous", "p": float(test.p[0]), "p_method": _words(test.exact, test.n_arrangements)}
    spare = len(y) - 2
    adjusted = 1 - (1 - row["strength"] ** 2) * (len(y) - 1) / spare if spare > 0 else 0.0
    share = f"tumour fraction shares {row['strength'] ** 2:.0%} of its variance with {label.name}"
    if adjusted > refusals.SHOWN_EXPLAINED:
        return {**row, "follows": "named", "words": f"{share} and is not adjusted for"}
    return {**row, "follows": "nothing", "words": share}


def _permutation(y: np.ndarray, levels: np.ndarray, *, n_permutations: int, seed: int) -> tuple[float, str]:
    """Share of the arrangements of the label, over all patients, that the levels explain at least as well."""
    one = np.zeros(len(y), dtype=int)
    rows, exact = statistics.arrangements(y, one, n_permutations=n_permutations, seed=seed)
    _, codes, sizes = np.unique(levels, return_inverse=True, return_counts=True)
    sums = rows @ np.eye(len(sizes))[codes]
    between = (sums**2 / sizes).sum(axis=1)
    slack = 1e-9 * max(1.0, abs(between[0]))
    return float((between >= between[0] - slack).mean()), _words(exact, len(rows))


def _words(exact: bool, n: int) -> str:
    return f"all {n} arrangements" if exact else f"{n - 1} permutations"
