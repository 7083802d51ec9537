"""Scores of results against the truth of a simulated study.

Pure functions: an answer and the truth as tables in, a dict of named scores out. The same function scores the answer of
the workflow, a naive answer and a shuffled one (:func:`shuffled`), so that a score is never printed without its null.
Cells and spots are known by ``library_id`` and ``barcode``; what the answer lacks counts against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, cohen_kappa_score, f1_score, roc_auc_score

from livermet import keys

CELL = [keys.LIBRARY, "barcode"]

# What counts as passed: (comparison, threshold). Aims set before any run; what falls short is printed as it is.
TARGETS: dict[str, tuple[str, float]] = {
    "qc: good cells kept": (">=", 0.95),
    "qc: low-quality cells removed": (">=", 0.85),
    "qc: good neutrophils kept": (">=", 0.80),
    "doublets: AUPRC": (">=", 0.60),
    "doublets: heterotypic recall at expected rate": (">=", 0.50),
    "ambient: Spearman of contamination over libraries": (">=", 0.60),
    "annotation: macro-F1 of compartments": (">=", 0.95),
    "annotation: macro-F1 of types": (">=", 0.80),
    "annotation: abstention": ("<=", 0.10),
    "annotation: cholangiocyte-malignant confusion": ("<=", 0.05),
    "malignant: AUROC of CNV score": (">=", 0.97),
    "malignant: cholangiocytes called malignant": ("<=", 0.05),
    "malignant: recall of arm events": (">=", 0.70),
    "abundance: median Spearman of compartments": (">=", 0.80),
    "zones: median absolute distance error (um)": ("<=", 75.0),
    "zones: kappa": (">=", 0.70),
    "niche: F1 of the planted niche": (">=", 0.50),
    "niche: pairs called in the negative control": ("<=", 0.07),
}


def met(name: str, value: float) -> str:
    """ "yes", "no", or "" where the score has no target or no value."""
    if name not in TARGETS or not np.isfinite(value):
        return ""
    comparison, threshold = TARGETS[name]
    return "yes" if (value >= threshold if comparison == ">=" else value <= threshold) else "no"


def shuffled(answer: pd.DataFrame, *, columns: Iterable[str], within: Iterable[str], seed: int) -> pd.DataFrame:
    """An answer without knowledge: the named columns permuted together among the rows of each group.

    Frequencies stay as they are, so what is left of a score is what frequencies alone would earn.
    """
    rng = np.random.default_rng(seed)
    columns = list(columns)
    source = np.arange(len(answer))
    for _, rows in answer.groupby(list(within), sort=True, observed=True).indices.items():
        source[rows] = rng.permutation(rows)
    result = answer.copy()
    result[columns] = answer[columns].iloc[source].set_axis(answer.index)
    return result


def score_qc(answer: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """Whether quality control keeps good cells and removes damaged ones.

    Parameters
    ----------
    answer
        ``library_id``, ``barcode``, ``kept`` (0 or 1); cells that are absent count as removed.
    truth
        ``library_id``, ``barcode``, ``cell_type``, ``is_doublet``, ``low_quality``. Good is neither of both.
    """
    both = truth.merge(answer[[*CELL, "kept"]], how="left", on=CELL)
    kept = both["kept"].fillna(0).astype(float)
    good = (both["low_quality"] == 0) & (both["is_doublet"] == 0)
    neutrophil = good & (both["cell_type"] == "neutrophil")
    return {
        "qc: good cells kept": _mean(kept[good]),
        "qc: low-quality cells removed": 1 - _mean(kept[both["low_quality"] == 1]),
        "qc: good neutrophils kept": _mean(kept[neutrophil]),
    }


def score_doublets(answer: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """Whether doublets get the highest scores.

    Low-quality cells are set aside: they are removed before doublets are looked for. A cell without a score ranks last.
    "At expected rate" calls the share of each library that all libraries together truly hold, as if the rate were known
    from the loading of the instrument.

    Parameters
    ----------
    answer
        ``library_id``, ``barcode``, ``doublet_score`` (higher is more likely a doublet).
    truth
        ``library_id``, ``barcode``, ``is_doublet``, ``heterotypic``, ``low_quality``.
    """
    both = truth[truth["low_quality"] == 0].merge(answer[[*CELL, "doublet_score"]], how="left", on=CELL)
    score = both["doublet_score"].astype(float)
    both["score"] = score.fillna(score.min() - 1 if score.notna().any() else 0.0)
    if both["is_doublet"].sum() == 0:
        return {"doublets: AUPRC": np.nan, "doublets: heterotypic recall at expected rate": np.nan}
    size = both.groupby(keys.LIBRARY)["score"].transform("size")
    order = both.groupby(keys.LIBRARY)["score"].rank(ascending=False, method="first")
    called = order <= np.round(both["is_doublet"].mean() * size)
    return {
        "doublets: AUPRC": float(average_precision_score(both["is_doublet"], both["score"])),
        "doublets: heterotypic recall at expected rate": _mean(called[both["heterotypic"] == 1]),
    }


def score_ambient(answer: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """Contamination of libraries against the mean ambient share of their good cells.

    Parameters
    ----------
    answer
        ``library_id``, ``contamination`` and ``contamination_basis`` ("estimate", "upper_bound" or "none"). A library
        without an answer takes no part in the correlations; how many have one is told.
    truth
        ``library_id``, ``ambient_fraction``, ``is_doublet``, ``low_quality`` of each cell.
    """
    good = truth[(truth["is_doublet"] == 0) & (truth["low_quality"] == 0)]
    share = good.groupby(keys.LIBRARY)["ambient_fraction"].mean()
    both = answer.set_index(keys.LIBRARY).reindex(share.index).assign(share=share)
    known = both.dropna(subset="contamination")
    measured = known[known["contamination_basis"] == "estimate"]
    return {
        "ambient: Spearman of contamination over libraries": _spearman(known["contamination"], known["share"]),
        "ambient: libraries with a contamination": _mean(both["contamination"].notna()),
        "ambient: median relative error with raw droplets": float(
            (measured["contamination"] / measured["share"] - 1).abs().median()
        ),
    }


def score_annotation(
    answer: pd.DataFrame, truth: pd.DataFrame, *, known_types: Iterable[str], min_cells: int
) -> dict[str, float]:
    """Cell types and compartments, abstention, and the confusion that matters most.

    Only good single cells that the answer holds are scored; which cells are kept is scored by :func:`score_qc`.

    Parameters
    ----------
    answer
        ``library_id``, ``barcode``, ``compartment``, ``cell_type``.
    truth
        ``library_id``, ``barcode``, ``compartment``, ``cell_type``, ``is_doublet``, ``low_quality``.
    known_types
        Types that the marker table names; cells of other types should be called unknown.
    min_cells
        Fewest true cells for a type to enter the macro mean: the F1 of a type of two cells is chance.
    """
    good = truth[(truth["is_doublet"] == 0) & (truth["low_quality"] == 0)]
    both = good.merge(answer[[*CELL, "compartment", "cell_type"]], on=CELL, suffixes=("", "_answer"))
    novel = ~both["cell_type"].isin(set(known_types))
    known = both[~novel]
    unnamed = [keys.UNKNOWN, keys.UNCERTAIN_EPITHELIAL]
    pair = [keys.CHOLANGIOCYTE, keys.MALIGNANT_TYPE]
    either = known[known["cell_type"].isin(pair)]
    swapped = either["cell_type_answer"].isin(pair) & (either["cell_type_answer"] != either["cell_type"])
    return {
        "annotation: macro-F1 of compartments": _macro_f1(known, "compartment", min_cells),
        "annotation: macro-F1 of types": _macro_f1(known, "cell_type", min_cells),
        "annotation: abstention": _mean(known["cell_type_answer"].isin(unnamed)),
        "annotation: cholangiocyte-malignant confusion": _mean(swapped.groupby(either["cell_type"]).mean()),
        "annotation: cells of no known type called unknown": _mean(
            both.loc[novel, "cell_type_answer"].isin([keys.UNKNOWN])
        ),
    }


def score_malignant(answer: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """Malignant calls.

    Parameters
    ----------
    answer
        ``library_id``, ``barcode``, ``malignant`` (calls as in cells.h5ad), ``cnv_score``; cells without a score are
        not ranked, and ``malignant: cells with a CNV score`` says how many are.
    truth
        ``library_id``, ``barcode``, ``cell_type``, ``malignant``, ``is_doublet``, ``low_quality``.
    """
    good = truth[(truth["is_doublet"] == 0) & (truth["low_quality"] == 0)]
    both = good.merge(answer[[*CELL, "malignant", "cnv_score"]], on=CELL, suffixes=("", "_answer"))
    ranked = both.dropna(subset="cnv_score")
    two_kinds = ranked["malignant"].nunique() == 2
    called = both["malignant_answer"] == "malignant"
    return {
        "malignant: AUROC of CNV score": float(roc_auc_score(ranked["malignant"], ranked["cnv_score"]))
        if two_kinds
        else np.nan,
        "malignant: cells with a CNV score": _mean(both["cnv_score"].notna()),
        "malignant: malignant cells called so": _mean(called[both["malignant"] == 1]),
        "malignant: cholangiocytes called malignant": _mean(called[both["cell_type"] == keys.CHOLANGIOCYTE]),
    }


def score_arms(answer: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """Gains and losses of chromosome arms, called per patient.

    Parameters
    ----------
    answer
        ``patient_id``, ``arm`` and ``kind`` ("gain" or "loss") of each called event. An arm named more finely in the
        truth (18q11) is met by a call on its arm (18q) of the same kind.
    truth
        ``patient_id``, ``arm``, ``kind``. Patients of whom the answer says nothing count as missed.
    """
    called = set(zip(answer["patient_id"], answer["arm"].map(_arm), answer["kind"], strict=True))
    events = list(zip(truth["patient_id"], truth["arm"].map(_arm), truth["kind"], strict=True))
    planted = set(events)
    return {
        "malignant: recall of arm events": _mean([event in called for event in events]),
        "malignant: precision of arm events": _mean([event in planted for event in called]),
    }


def score_abundance(
    answer: pd.DataFrame, truth: pd.DataFrame, *, compartments: Mapping[str, str], min_mean: float
) -> dict[str, float]:
    """Abundances of cell types in spots.

    Parameters
    ----------
    answer, truth
        ``library_id``, ``barcode``, ``cell_type``, ``abundance`` (fractions); a type or spot that the answer lacks has
        abundance 0.
    compartments
        Compartment of each type; types that it does not name form one of their own.
    min_mean
        Types with a smaller true mean are left out of the correlations, not of the errors.
    """
    types = _wide(answer, truth)
    upper = {name: compartments.get(name, name) for name in types[1].columns}
    coarse = tuple(table.T.groupby(upper).sum().T for table in types)
    return {
        "abundance: median Spearman of compartments": _median_spearman(*coarse, min_mean=min_mean),
        "abundance: median Spearman of types": _median_spearman(*types, min_mean=min_mean),
        "abundance: RMSE of types": float(np.sqrt(np.mean((types[0] - types[1]).to_numpy() ** 2))),
        "abundance: median JSD of spots": float(np.median(_jsd(types[0].to_numpy(), types[1].to_numpy()))),
    }


def score_zones(answer: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """Signed distance to the border, and zones.

    Sections without a border are left out of the distances (the right answer is none) but not of the zones.

    Parameters
    ----------
    answer, truth
        ``library_id``, ``barcode``, ``signed_distance_um`` (NaN where there is no border) and ``zone``.
    """
    both = truth.merge(answer[[*CELL, "signed_distance_um", "zone"]], how="left", on=CELL, suffixes=("", "_answer"))
    bordered = both[both["signed_distance_um"].notna()]
    error = (bordered["signed_distance_um_answer"] - bordered["signed_distance_um"]).abs()
    zone = both["zone_answer"].fillna("none")
    return {
        "zones: median absolute distance error (um)": float(error.median()) if error.notna().any() else np.nan,
        "zones: spots with a distance": _mean(error.notna()),
        "zones: kappa": float(cohen_kappa_score(both["zone"], zone)) if len(set(both["zone"])) > 1 else np.nan,
    }


def score_niche(answer: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """How well one niche, or a union of niches, is the planted one.

    Niches are taken in the order of their precision, and the best of these unions counts; it is the best of all unions
    (F1 as a function of a set of groups is maximal on a prefix of that order). A shuffled answer is given the same
    choice.

    Parameters
    ----------
    answer
        ``library_id``, ``barcode``, ``niche``.
    truth
        ``library_id``, ``barcode``, ``planted_niche`` (0 or 1); spots that the answer lacks belong to no niche.
    """
    both = truth.merge(answer[[*CELL, "niche"]], how="left", on=CELL)
    planted = int(both["planted_niche"].sum())
    groups = both.groupby("niche")["planted_niche"].agg(["sum", "size"])
    if planted == 0 or groups.empty:
        return {"niche: F1 of the planted niche": np.nan, "niche: F1 of the best single niche": np.nan}
    single = 2 * groups["sum"] / (groups["size"] + planted)
    ordered = groups.assign(precision=groups["sum"] / groups["size"]).sort_values("precision", ascending=False)
    union = 2 * ordered["sum"].cumsum() / (ordered["size"].cumsum() + planted)
    return {
        "niche: F1 of the planted niche": float(union.max()),
        "niche: F1 of the best single niche": float(single.max()),
    }


def score_negative_control(neighbourhood: pd.DataFrame, *, libraries: Iterable[str]) -> dict[str, float]:
    """Share of pairs of types called together or apart (|z| > 1.96) where types are independent given the distance.

    Parameters
    ----------
    neighbourhood
        ``library_id``, ``type_a``, ``type_b``, ``z``.
    libraries
        The negative-control sections. Pairs of a type with itself are left out: a type that comes in patches is no
        false call.
    """
    rows = neighbourhood[neighbourhood["library_id"].isin(set(libraries))].dropna(subset="z")
    rows = rows[rows["type_a"] != rows["type_b"]]
    return {"niche: pairs called in the negative control": _mean(rows["z"].abs() > 1.96)}


def _mean(values: Iterable[float]) -> float:
    values = np.asarray(list(values), dtype=float)
    return float(values.mean()) if len(values) else np.nan


def _spearman(a: pd.Series, b: pd.Series) -> float:
    """Rank correlation; NaN below three values or without any spread."""
    if len(a) < 3 or a.nunique() < 2 or b.nunique() < 2:
        return np.nan
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def _macro_f1(both: pd.DataFrame, level: str, min_cells: int) -> float:
    number = both[level].value_counts()
    labels = sorted(number.index[number >= min_cells])
    if not labels:
        return np.nan
    return float(f1_score(both[level], both[f"{level}_answer"], labels=labels, average="macro", zero_division=0))


def _arm(name: str) -> str:
    """The arm of a band: 18q11 and 18q are 18q."""
    for letter in "pq":
        if letter in name:
            return name.removeprefix("chr").split(letter)[0] + letter
    raise ValueError(f"arm {name!r}: expected a chromosome and p or q, as in 18q")


def _wide(answer: pd.DataFrame, truth: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Spots of the truth by types of either, answer first."""
    true = truth.pivot_table(index=CELL, columns="cell_type", values="abundance", aggfunc="sum", fill_value=0)
    given = answer.pivot_table(index=CELL, columns="cell_type", values="abundance", aggfunc="sum", fill_value=0)
    types = sorted({*true.columns, *given.columns})
    return (
        given.reindex(index=true.index, columns=types, fill_value=0.0).astype(float),
        true.reindex(columns=types, fill_value=0.0).astype(float),
    )


def _median_spearman(answer: pd.DataFrame, truth: pd.DataFrame, *, min_mean: float) -> float:
    """Median over types of the rank correlation over spots; a constant answer correlates with nothing and counts 0."""
    values = []
    for name in truth.columns[truth.mean() >= min_mean]:
        a, b = rankdata(answer[name]), rankdata(truth[name])
        spread = a.std() * b.std()
        values.append(float(np.mean((a - a.mean()) * (b - b.mean())) / spread) if spread > 0 else 0.0)
    return float(np.median(values)) if values else np.nan


def _jsd(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence of rows in bits, 0 to 1; a row without any abundance is at 1."""
    sums = a.sum(axis=1, keepdims=True), b.sum(axis=1, keepdims=True)
    a, b = (np.divide(x, s, out=np.zeros_like(x), where=s > 0) for x, s in zip((a, b), sums, strict=True))
    middle = (a + b) / 2

    def divergence(x: np.ndarray) -> np.ndarray:
        ratio = np.divide(x, middle, out=np.ones_like(x), where=(x > 0) & (middle > 0))
        return (x * np.log2(ratio)).sum(axis=1)

    result = (divergence(a) + divergence(b)) / 2
    return np.where((sums[0][:, 0] > 0) & (sums[1][:, 0] > 0), result, 1.0)
