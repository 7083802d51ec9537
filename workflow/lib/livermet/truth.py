"""Scores of results against the truth of a simulated study.

Pure functions: an answer and the truth as tables in, a dict of named scores out. The same function scores the answer of
the workflow, a naive answer and a shuffled one (:func:`shuffled`), so that a score is never printed without its null.
Cells and spots are known by ``library_id`` and ``barcode``; what the answer lacks counts against it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.metrics import (
    adjusted_rand_score,
    average_precision_score,
    cohen_kappa_score,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from livermet import keys

CELL = [keys.LIBRARY, "barcode"]
UNNAMED = (keys.UNKNOWN, keys.UNCERTAIN_EPITHELIAL)
KINDS = {"spot": "", "bin": ", bins", "cell": ", single cells"}  # how scores name what a section resolves
BORDER_BAND_UM = 500.0  # the border is judged by what lies so near to it
HARD_MIN_CELLS = 3  # a library of 60 cells has no ten cells of most compartments

# What counts as passed: (comparison, threshold). Aims set before any run; what falls short is printed as it is.
TARGETS: dict[str, tuple[str, float]] = {
    "qc: good cells kept": (">=", 0.95),
    "qc: low-quality cells removed": (">=", 0.85),
    "qc: good neutrophils kept": (">=", 0.80),
    "doublets: AUPRC": (">=", 0.60),
    "doublets: heterotypic recall at expected rate": (">=", 0.50),
    "ambient: Spearman of contamination over libraries": (">=", 0.60),
    "ambient: false ALB removed from T cells": (">=", 0.70),
    "ambient: ALB kept in hepatocytes": (">=", 0.90),
    "annotation: macro-F1 of compartments": (">=", 0.95),
    "annotation: macro-F1 of types": (">=", 0.80),
    "annotation: abstention": ("<=", 0.10),
    "annotation: cholangiocyte-malignant confusion": ("<=", 0.05),
    "annotation: calibration error of confidence": ("<=", 0.10),
    "clusters: ARI with types, cells that are not malignant": (">=", 0.70),
    "malignant: AUROC of CNV score": (">=", 0.97),
    "malignant: cholangiocytes called malignant": ("<=", 0.05),
    "malignant: recall of arm events": (">=", 0.70),
    "malignant: Spearman of basal fraction over patients": (">=", 0.85),
    "abundance: median Spearman of compartments": (">=", 0.80),
    "abundance, bins: median Spearman of compartments": (">=", 0.80),
    "zones: median absolute distance error (um)": ("<=", 75.0),
    "zones: kappa": (">=", 0.70),
    "zones, bins: median absolute distance error (um)": ("<=", 75.0),
    "zones, bins: kappa": (">=", 0.70),
    "zones, single cells: median absolute distance error (um)": ("<=", 75.0),
    "zones, single cells: kappa": (">=", 0.70),
    "border: median error, from expression (um)": ("<=", 75.0),
    "border: median error, drawn by a pathologist (um)": ("<=", 75.0),
    "growth pattern: accuracy of calls": (">=", 0.70),
    "niche: F1 of the planted niche": (">=", 0.50),
    "niche, single cells: F1 of the planted niche": (">=", 0.50),
    "niche: pairs called in the negative control": ("<=", 0.07),
    "niche, single cells: pairs called in the negative control": ("<=", 0.07),
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
    """Whether doublets get the highest scores, and whether the right cells are called.

    Low-quality cells are set aside: they are removed before doublets are looked for. A cell without a score ranks last.
    "At expected rate" calls the share of each library that all libraries together truly hold, as if the rate were known
    from the loading of the instrument; the other scores take the calls as they are. Precision counts every true
    doublet, recall heterotypic ones alone: two cells of one type can't be told from a large one. The rate error is the
    difference between the called and the true share of doublets in a library.

    Parameters
    ----------
    answer
        ``library_id``, ``barcode``, ``doublet_score`` (higher is more likely a doublet), ``called`` (0 or 1).
    truth
        ``library_id``, ``barcode``, ``is_doublet``, ``heterotypic``, ``low_quality``.
    """
    both = truth[truth["low_quality"] == 0].merge(answer[[*CELL, "doublet_score", "called"]], how="left", on=CELL)
    score = both["doublet_score"].astype(float)
    both["score"] = score.fillna(score.min() - 1 if score.notna().any() else 0.0)
    size = both.groupby(keys.LIBRARY)["score"].transform("size")
    order = both.groupby(keys.LIBRARY)["score"].rank(ascending=False, method="first")
    at_rate = order <= np.round(both["is_doublet"].mean() * size)
    both["called"] = both["called"].fillna(0).astype(float)
    share = both.groupby(keys.LIBRARY)[["called", "is_doublet"]].mean()
    heterotypic = both["heterotypic"] == 1
    any_doublet = both["is_doublet"].any()
    return {
        "doublets: AUPRC": float(average_precision_score(both["is_doublet"], both["score"])) if any_doublet else np.nan,
        "doublets: heterotypic recall at expected rate": _mean(at_rate[heterotypic]),
        "doublets: heterotypic recall of calls": _mean(both.loc[heterotypic, "called"]),
        "doublets: precision of calls": _mean(both.loc[both["called"] == 1, "is_doublet"]),
        "doublets: median error of the rate over libraries": float(
            (share["called"] - share["is_doublet"]).abs().median()
        ),
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
    good = _good(truth)
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


def score_correction(answer: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """Whether the correction for ambient RNA takes what is ambient and leaves what is the cell's own.

    T cells express practically no albumin (a five-hundredth of what hepatocytes do), so that what they hold of it is
    taken as ambient. True ambient counts of a library are its cells' counts times their ambient fractions.

    Parameters
    ----------
    answer
        ``library_id``, ``barcode``, and per cell the sums before and after correction: ``counts`` and
        ``counts_corrected`` of all genes, ``alb`` and ``alb_corrected`` of albumin.
    truth
        ``library_id``, ``barcode``, ``cell_type``, ``ambient_fraction``, ``is_doublet``, ``low_quality``.
    """
    both = _good(truth).merge(answer, on=CELL)
    removed = both["counts"] - both["counts_corrected"]
    sums = pd.DataFrame({"removed": removed, "ambient": both["ambient_fraction"] * both["counts"]})
    sums = sums.groupby(both[keys.LIBRARY]).sum()
    return {
        "ambient: false ALB removed from T cells": 1 - _alb_left(both[_t_cells(both)]),
        "ambient: ALB kept in hepatocytes": _alb_left(both[both["cell_type"] == keys.HEPATOCYTE]),
        "ambient: median relative error of the counts removed": float(
            (sums["removed"] / sums["ambient"] - 1).abs().median()
        ),
    }


def removed_at_random(answer: pd.DataFrame) -> pd.DataFrame:
    """A correction without knowledge: each library loses the same total, the same share of every gene of every cell."""
    sums = answer.groupby(keys.LIBRARY)[["counts", "counts_corrected"]].transform("sum")
    left = sums["counts_corrected"] / sums["counts"]
    return answer.assign(counts_corrected=answer["counts"] * left, alb_corrected=answer["alb"] * left)


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
    good = _good(truth)
    both = good.merge(answer[[*CELL, "compartment", "cell_type"]], on=CELL, suffixes=("", "_answer"))
    novel = ~both["cell_type"].isin(set(known_types))
    known = both[~novel]
    pair = [keys.CHOLANGIOCYTE, keys.MALIGNANT_TYPE]
    either = known[known["cell_type"].isin(pair)]
    swapped = either["cell_type_answer"].isin(pair) & (either["cell_type_answer"] != either["cell_type"])
    return {
        "annotation: macro-F1 of compartments": _macro_f1(known, "compartment", min_cells),
        "annotation: macro-F1 of types": _macro_f1(known, "cell_type", min_cells),
        "annotation: abstention": _mean(known["cell_type_answer"].isin(UNNAMED)),
        "annotation: cholangiocyte-malignant confusion": _mean(swapped.groupby(either["cell_type"]).mean()),
        "annotation: cells of no known type called unknown": _mean(
            both.loc[novel, "cell_type_answer"].isin([keys.UNKNOWN])
        ),
    }


def type_table(answer: pd.DataFrame, truth: pd.DataFrame, *, known_types: Iterable[str]) -> pd.DataFrame:
    """How well each type is found, over the same cells as in :func:`score_annotation`.

    Parameters
    ----------
    answer, truth, known_types
        As in :func:`score_annotation`.

    Returns
    -------
    DataFrame with cell_type, n_cells, precision, recall, f1, missed_as (the most frequent wrong answer, "" if
    there is none), missed_share (its share of the cells of the type) and novel_share (share of the cells of no known
    type that are given this one).
    """
    both = _good(truth).merge(answer[[*CELL, "cell_type"]], on=CELL, suffixes=("", "_answer"))
    novel = ~both["cell_type"].isin(set(known_types))
    known = both[~novel]
    types = sorted(known["cell_type"].unique())
    precision, recall, f1, n_cells = precision_recall_fscore_support(
        known["cell_type"], known["cell_type_answer"], labels=types, zero_division=0
    )
    rows = []
    for i, name in enumerate(types):
        given = known.loc[known["cell_type"] == name, "cell_type_answer"]
        wrong = given[given != name].value_counts()
        rows.append(
            {
                "cell_type": name,
                "n_cells": int(n_cells[i]),
                "precision": precision[i],
                "recall": recall[i],
                "f1": f1[i],
                "missed_as": wrong.index[0] if len(wrong) else "",
                "missed_share": wrong.iloc[0] / len(given) if len(wrong) else 0.0,
                "novel_share": _mean(both.loc[novel, "cell_type_answer"] == name),
            }
        )
    return pd.DataFrame(rows)


def score_calibration(answer: pd.DataFrame, truth: pd.DataFrame, *, n_bins: int = 10) -> dict[str, float]:
    """Expected calibration error of the confidence: how far it is from the share of right types.

    Cells with a stated type are put into bins of equal width by their confidence; the error is the mean over bins, by
    their number of cells, of the difference between mean confidence and share of right types (Guo et al. 2017,
    arXiv:1706.04599). Cells of no known type take part: to name them is wrong, and a user can't leave them out.

    Parameters
    ----------
    answer
        ``library_id``, ``barcode``, ``cell_type``, ``confidence`` (0 to 1).
    truth
        ``library_id``, ``barcode``, ``cell_type``, ``is_doublet``, ``low_quality``.
    n_bins
        Number of bins between 0 and 1.
    """
    name = "annotation: calibration error of confidence"
    both = _good(truth).merge(answer[[*CELL, "cell_type", "confidence"]], on=CELL, suffixes=("", "_answer"))
    stated = both[~both["cell_type_answer"].isin(UNNAMED)].dropna(subset="confidence")
    if stated.empty:
        return {name: np.nan}
    right = (stated["cell_type"] == stated["cell_type_answer"]).astype(float)
    difference = stated["confidence"].astype(float) - right
    place = np.minimum((stated["confidence"] * n_bins).astype(int), n_bins - 1)
    return {name: float(difference.groupby(place).sum().abs().sum() / len(stated))}


def score_clusters(answer: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """Agreement of the clusters with the true types: adjusted Rand index, 0 for chance and 1 for the same partition.

    The target is on cells that are not malignant. Their types are shared by all patients, so that one type should be
    one cluster whatever patient or centre it comes from, which is what integration is for. Malignant cells differ
    between patients by nature (copy number, and a spread of their own): clusters that are private to patients are the
    right answer there and would lower the index, all the more as malignant cells are the most frequent type. With them
    it is told as well.

    Parameters
    ----------
    answer
        ``library_id``, ``barcode``, ``cluster``.
    truth
        ``library_id``, ``barcode``, ``cell_type``, ``malignant``, ``is_doublet``, ``low_quality``.
    """
    both = _good(truth).merge(answer[[*CELL, "cluster"]], on=CELL)
    normal = both[both["malignant"] == 0]
    return {
        "clusters: ARI with types, cells that are not malignant": _rand_index(normal),
        "clusters: ARI with types, all cells": _rand_index(both),
    }


def score_malignant(answer: pd.DataFrame, truth: pd.DataFrame, *, unchanged: Collection[str] = ()) -> dict[str, float]:
    """Malignant calls.

    Parameters
    ----------
    answer
        ``library_id``, ``barcode``, ``malignant`` (calls as in cells.h5ad), ``cnv_score``; cells without a score are
        not ranked, and ``malignant: cells with a CNV score`` says how many are.
    truth
        ``library_id``, ``barcode``, ``cell_type``, ``malignant``, ``is_doublet``, ``low_quality``.
    unchanged
        Libraries of tumours without copy-number change. No score can rank their cells, and they count all the same; the
        AUROC without them says what the score is worth where there is something to see.
    """
    both = _good(truth).merge(answer[[*CELL, "malignant", "cnv_score"]], on=CELL, suffixes=("", "_answer"))
    ranked = both.dropna(subset="cnv_score")
    called = both["malignant_answer"] == "malignant"
    return {
        "malignant: AUROC of CNV score": _auroc(ranked),
        "malignant: AUROC of CNV score, tumours with copy-number change": _auroc(
            ranked[~ranked[keys.LIBRARY].isin(set(unchanged))]
        ),
        "malignant: cells with a CNV score": _mean(both["cnv_score"].notna()),
        "malignant: malignant cells called so": _mean(called[both["malignant"] == 1]),
        "malignant: cholangiocytes called malignant": _mean(called[both["cell_type"] == keys.CHOLANGIOCYTE]),
    }


def score_arms(answer: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """Gains and losses of chromosome arms, called per patient.

    Parameters
    ----------
    answer
        ``patient_id``, ``arm`` and ``kind`` ("gain", "loss", "neutral", "not_tested") of each arm. An arm named more
        finely in the truth (18q11) is met by a call on its arm (18q) of the same kind. What fills but a band can hardly
        move a whole arm, so that the recall of events of whole arms is told as well.
    truth
        ``patient_id``, ``arm``, ``kind``. Patients of whom the answer says nothing count as missed; the recall in
        those whom it tested is told as well.
    """
    tested = set(answer.loc[answer["kind"] != "not_tested", "patient_id"])
    answer = answer[answer["kind"].isin(["gain", "loss"])]
    called = set(zip(answer["patient_id"], answer["arm"].map(_arm), answer["kind"], strict=True))
    events = list(zip(truth["patient_id"], truth["arm"].map(_arm), truth["kind"], strict=True))
    planted = set(events)
    return {
        "malignant: recall of arm events": _mean([event in called for event in events]),
        "malignant: recall of arm events, patients tested": _mean(
            [event in called for event in events if event[0] in tested]
        ),
        "malignant: recall of arm events, whole arms": _mean(
            [event in called for event, name in zip(events, truth["arm"], strict=True) if name.endswith(("p", "q"))]
        ),
        "malignant: precision of arm events": _mean([event in planted for event in called]),
    }


def score_basal(answer: pd.DataFrame, truth: pd.DataFrame, *, min_cells: int = 20) -> dict[str, float]:
    """Share of basal among basal and classical malignant cells, over patients.

    Parameters
    ----------
    answer
        ``patient_id``, ``fraction_basal``; a patient without one takes no part, and how many have one is told.
    truth
        ``patient_id``, ``malignant``, ``cell_state`` ("mal_basal", "mal_classical" or another), ``is_doublet``,
        ``low_quality`` of each cell.
    min_cells
        Fewest malignant good cells of a patient whose true share counts.
    """
    cells = _good(truth)
    cells = cells[cells["malignant"] == 1]
    counts = pd.crosstab(cells[keys.PATIENT], cells["cell_state"]).reindex(
        columns=["mal_basal", "mal_classical"], fill_value=0
    )
    counts = counts[cells[keys.PATIENT].value_counts().reindex(counts.index) >= min_cells]
    share = (counts["mal_basal"] / counts.sum(axis=1)).dropna()
    given = answer.dropna(subset="fraction_basal").groupby(keys.PATIENT)["fraction_basal"].mean()
    both = pd.DataFrame({"share": share, "given": given.reindex(share.index)})
    known = both.dropna()
    return {
        "malignant: Spearman of basal fraction over patients": _spearman(known["given"], known["share"]),
        "malignant: median absolute error of basal fraction": float((known["given"] - known["share"]).abs().median()),
        "malignant: patients with a basal fraction": _mean(both["given"].notna()),
    }


def score_hard_cells(
    answer: pd.DataFrame, truth: pd.DataFrame, cases: pd.DataFrame, *, known_types: Iterable[str], min_cells: int
) -> dict[str, float]:
    """Annotation and malignant calls in the hard cases; good single cells of known types only.

    Parameters
    ----------
    answer
        ``library_id``, ``barcode``, ``compartment``, ``cell_type``, ``malignant``.
    truth
        As in :func:`score_annotation`, and ``malignant``.
    cases
        ``case``, ``library_id`` as in ``truth/hard_cases.tsv``. Where a tumour has no copy-number change, few of its
        cells should be called malignant, and the others be given no type rather than a wrong one.
    known_types, min_cells
        As in :func:`score_annotation`; small cases take types and compartments of ``HARD_MIN_CELLS`` cells.
    """
    good = _good(truth)
    good = good[good["cell_type"].isin(set(known_types))]
    columns = [*CELL, "compartment", "cell_type", "malignant"]
    every = good.merge(answer[columns], how="left", on=CELL, suffixes=("", "_answer"))
    both = every.dropna(subset="cell_type_answer")

    def within(table: pd.DataFrame, case: str) -> pd.Series:
        return table[keys.LIBRARY].isin(set(cases.loc[cases["case"] == case, keys.LIBRARY]))

    few = both[within(both, "few_cells")]
    rich = both[within(both, "hepatocyte_rich") & (both["cell_type"] != keys.HEPATOCYTE)]
    flat = both[within(both, "no_copy_number")]
    tumour, duct = flat[flat["malignant"] == 1], flat[flat["cell_type"] == keys.CHOLANGIOCYTE]
    own = within(both, "own_chemistry")
    return {
        "hard, 60 cells: good cells annotated": _mean(
            every.loc[within(every, "few_cells"), "cell_type_answer"].notna()
        ),
        "hard, 60 cells: macro-F1 of compartments": _macro_f1(few, "compartment", HARD_MIN_CELLS),
        "hard, 95 % hepatocytes: macro-F1 of compartments of the other cells": _macro_f1(
            rich, "compartment", HARD_MIN_CELLS
        ),
        "hard, no copy-number change: malignant cells called malignant": _mean(
            tumour["malignant_answer"] == "malignant"
        ),
        "hard, no copy-number change: malignant cells without a stated type": _mean(
            tumour["cell_type_answer"].isin(UNNAMED)
        ),
        "hard, no copy-number change: cholangiocytes called malignant": _mean(duct["malignant_answer"] == "malignant"),
        "hard, own chemistry: macro-F1 of types": _macro_f1(both[own], "cell_type", min_cells),
        "hard, own chemistry: macro-F1 of types elsewhere": _macro_f1(both[~own], "cell_type", min_cells),
    }


def score_hard_clusters(
    answer: pd.DataFrame, truth: pd.DataFrame, cases: pd.DataFrame, *, min_cells: int
) -> dict[str, float]:
    """Whether the centre with its own chemistry shares its clusters with the others.

    The overlap of a centre with the others is, for each type that is not malignant, one minus half the sum of absolute
    differences between the shares of the clusters there and elsewhere (1: the same clusters, 0: none in common), and
    the mean over types. What the ordinary centres reach among themselves is told beside it.

    Parameters
    ----------
    answer
        ``library_id``, ``barcode``, ``cluster``.
    truth
        ``library_id``, ``barcode``, ``cell_type``, ``malignant``, ``centre``, ``is_doublet``, ``low_quality``.
    cases
        ``case``, ``library_id``.
    min_cells
        Fewest cells of a type on either side.
    """
    both = _good(truth).merge(answer[[*CELL, "cluster"]], on=CELL)
    both = both[both["malignant"] == 0]
    own = set(cases.loc[cases["case"] == "own_chemistry", keys.LIBRARY])
    special = both[keys.LIBRARY].isin(own)
    ordinary = both[~special]
    centres = sorted(ordinary[keys.CENTRE].unique())
    others = [_overlap(ordinary, (ordinary[keys.CENTRE] == name).to_numpy(), min_cells) for name in centres]
    known = [value for value in others if np.isfinite(value)]
    return {
        "hard, own chemistry: overlap of its clusters with the others": _overlap(both, special.to_numpy(), min_cells),
        "hard, own chemistry: overlap between ordinary centres": float(np.median(known)) if known else np.nan,
    }


def score_hard_correction(answer: pd.DataFrame, truth: pd.DataFrame, cases: pd.DataFrame) -> dict[str, float]:
    """Albumin removed from the T cells of a biopsy of hepatocytes; parameters as in :func:`score_correction`."""
    both = _good(truth).merge(answer, on=CELL)
    here = both[keys.LIBRARY].isin(set(cases.loc[cases["case"] == "hepatocyte_rich", keys.LIBRARY]))
    name = "hard, 95 % hepatocytes: false ALB removed from T cells"
    return {name: 1 - _alb_left(both[here & _t_cells(both)])}


def score_abundance(
    answer: pd.DataFrame, truth: pd.DataFrame, *, compartments: Mapping[str, str], min_mean: float, kind: str = "spot"
) -> dict[str, float]:
    """Abundances of cell types in spots or bins.

    Parameters
    ----------
    answer, truth
        ``library_id``, ``barcode``, ``cell_type``, ``abundance`` (fractions); a type or spot that the answer lacks has
        abundance 0.
    compartments
        Compartment of each type; types that it does not name form one of their own.
    min_mean
        Types with a smaller true mean are left out of the correlations, not of the errors.
    kind
        What was measured, a key of ``KINDS``.
    """
    name = f"abundance{KINDS[kind]}"
    types = _wide(answer, truth)
    upper = {name: compartments.get(name, name) for name in types[1].columns}
    coarse = tuple(table.T.groupby(upper).sum().T for table in types)
    return {
        f"{name}: median Spearman of compartments": _median_spearman(*coarse, min_mean=min_mean),
        f"{name}: median Spearman of types": _median_spearman(*types, min_mean=min_mean),
        f"{name}: RMSE of types": float(np.sqrt(np.mean((types[0] - types[1]).to_numpy() ** 2))),
        f"{name}: median JSD of {_things(kind)}": float(np.median(_jsd(types[0].to_numpy(), types[1].to_numpy()))),
    }


def score_intervals(answer: pd.DataFrame, truth: pd.DataFrame, *, kind: str = "spot") -> dict[str, float]:
    """How often the interval of an abundance holds the true one: of all, and of those that are truly above 2 %.

    Parameters
    ----------
    answer, truth
        As for :func:`score_abundance`; without ``ci_low`` and ``ci_high`` an answer has no score. Types that the answer
        lacks, and spots without an interval, play no part; a type that the truth of a spot doesn't name is absent.
    kind
        What was measured, a key of ``KINDS``.
    """
    if "ci_low" not in answer:
        return {}
    key, ends = [*CELL, "cell_type"], ["ci_low", "ci_high"]
    known = answer[[*key, *ends]].dropna().merge(truth[CELL].drop_duplicates(), on=CELL)
    both = known.merge(truth[[*key, "abundance"]], on=key, how="left").fillna({"abundance": 0.0})
    held = both["abundance"].between(both["ci_low"], both["ci_high"])
    name = f"abundance{KINDS[kind]}"
    return {
        f"{name}: intervals that hold the truth": _mean(held),
        f"{name}: intervals that hold a truth above 2 %": _mean(held[both["abundance"] > 0.02]),
    }


def score_zones(answer: pd.DataFrame, truth: pd.DataFrame, *, kind: str = "spot") -> dict[str, float]:
    """Signed distance to the border, and zones.

    Sections without a border are left out of the distances (the right answer is none) but not of the zones.

    Parameters
    ----------
    answer, truth
        ``library_id``, ``barcode``, ``signed_distance_um`` (NaN where there is no border) and ``zone``.
    kind
        What was measured, a key of ``KINDS``; the truth should hold nothing else.
    """
    name = f"zones{KINDS[kind]}"
    both = truth.merge(answer[[*CELL, "signed_distance_um", "zone"]], how="left", on=CELL, suffixes=("", "_answer"))
    bordered = both[both["signed_distance_um"].notna()]
    error = (bordered["signed_distance_um_answer"] - bordered["signed_distance_um"]).abs()
    zone = both["zone_answer"].fillna("none")
    return {
        f"{name}: median absolute distance error (um)": float(error.median()) if error.notna().any() else np.nan,
        f"{name}: {_things(kind)} with a distance": _mean(error.notna()),
        f"{name}: kappa": float(cohen_kappa_score(both["zone"], zone)) if len(set(both["zone"])) > 1 else np.nan,
    }


def score_border(answer: pd.DataFrame, truth: pd.DataFrame, sections: pd.DataFrame) -> dict[str, float]:
    """How far the border lies from the true one, where it comes from expression and where a pathologist drew it.

    The error of a section is the median absolute difference of the signed distances of what truly lies within
    ``BORDER_BAND_UM`` of the border; the score is the median over sections, so that a section of many cells counts as
    much as one of few spots. A section in which the answer finds no border has no error; how many have one is told.

    Parameters
    ----------
    answer, truth
        ``library_id``, ``barcode``, ``signed_distance_um``.
    sections
        ``library_id``, ``pathologist`` (1 where a drawn tumour is given).
    """
    near = truth[truth["signed_distance_um"].abs() <= BORDER_BAND_UM]
    both = near.merge(answer[[*CELL, "signed_distance_um"]], how="left", on=CELL, suffixes=("", "_answer"))
    error = (both["signed_distance_um_answer"] - both["signed_distance_um"]).abs()
    by_section = error.groupby(both[keys.LIBRARY]).median()
    drawn = by_section.index.map(sections.set_index(keys.LIBRARY)["pathologist"]) == 1
    return {
        "border: median error, from expression (um)": float(by_section[~drawn].median()),
        "border: median error, drawn by a pathologist (um)": float(by_section[drawn].median()),
        "border: sections with a border that got one": _mean(by_section.notna()),
    }


def score_cell_labels(
    answer: pd.DataFrame, truth: pd.DataFrame, *, known_types: Iterable[str], min_cells: int
) -> dict[str, float]:
    """Labels of segmented cells of imaging sections.

    A panel of some hundred genes can't tell all types apart, so that an honest answer abstains: agreement is judged
    among cells with a label, and how many have none is told beside it. Cells that the answer lacks were removed by
    quality control and take no part.

    Parameters
    ----------
    answer, truth
        ``library_id``, ``barcode``, ``compartment``, ``cell_type``.
    known_types
        Types that the marker table names; cells of other types should be called unknown.
    min_cells
        Fewest true cells with a label for a type or compartment to enter the macro mean.
    """
    columns = [*CELL, "compartment", "cell_type"]
    both = truth[columns].merge(answer[columns], on=CELL, suffixes=("", "_answer"))
    novel = ~both["cell_type"].isin(set(known_types))
    known = both[~novel]
    unnamed = known["cell_type_answer"].isin(UNNAMED)
    placed = known[~known["compartment_answer"].isin(UNNAMED)]
    return {
        "imaging: macro-F1 of compartments, cells with a label": _macro_f1(placed, "compartment", min_cells),
        "imaging: macro-F1 of types, cells with a label": _macro_f1(known[~unnamed], "cell_type", min_cells),
        "imaging: abstention from types": _mean(unnamed),
        "imaging: abstention from compartments": _mean(known["compartment_answer"].isin(UNNAMED)),
        "imaging: cells of no known type called unknown": _mean(both.loc[novel, "cell_type_answer"].isin(UNNAMED)),
    }


def score_growth(answer: pd.DataFrame, sections: pd.DataFrame, *, least_mm: float) -> dict[str, float]:
    """Growth pattern of sections.

    Parameters
    ----------
    answer
        ``library_id``, ``growth_pattern`` ("desmoplastic", "replacement", "pushing"; missing or "" where refused).
    sections
        ``library_id``, ``hgp`` (missing where there is no border), ``interface_mm``, ``shape`` ("core" or "block").
    least_mm
        Length of border from which a growth pattern can be told.
    """
    given = answer.set_index(keys.LIBRARY)["growth_pattern"].replace("", np.nan)
    called = sections[keys.LIBRARY].map(given)
    bordered, long = sections["hgp"].notna(), sections["interface_mm"] >= least_mm
    right = (called == sections["hgp"])[bordered & called.notna()]
    return {
        "growth pattern: accuracy of calls": _mean(right),
        f"growth pattern: sections with {least_mm:g} mm of border that got a call": _mean(called.notna()[long]),
        "growth pattern: needle cores refused": _mean(called.isna()[sections["shape"] == "core"]),
        "growth pattern: sections without a border refused": _mean(called.isna()[~bordered]),
    }


def score_niche(answer: pd.DataFrame, truth: pd.DataFrame, *, kind: str = "spot") -> dict[str, float]:
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
    kind
        What was measured, a key of ``KINDS``.
    """
    name = f"niche{KINDS[kind]}"
    both = truth.merge(answer[[*CELL, "niche"]], how="left", on=CELL)
    planted = int(both["planted_niche"].sum())
    groups = both.groupby("niche")["planted_niche"].agg(["sum", "size"])
    if planted == 0 or groups.empty:
        return {f"{name}: F1 of the planted niche": np.nan, f"{name}: F1 of the best single niche": np.nan}
    single = 2 * groups["sum"] / (groups["size"] + planted)
    ordered = groups.assign(precision=groups["sum"] / groups["size"]).sort_values("precision", ascending=False)
    union = 2 * ordered["sum"].cumsum() / (ordered["size"].cumsum() + planted)
    return {
        f"{name}: F1 of the planted niche": float(union.max()),
        f"{name}: F1 of the best single niche": float(single.max()),
    }


def score_negative_control(
    neighbourhood: pd.DataFrame, *, libraries: Iterable[str], kind: str = "spot"
) -> dict[str, float]:
    """Share of pairs of types called together or apart (|z| > 1.96) where types are independent given the distance.

    Parameters
    ----------
    neighbourhood
        ``library_id``, ``type_a``, ``type_b``, ``z``.
    libraries
        The negative-control sections. Pairs of a type with itself are left out: a type that comes in patches is no
        false call.
    kind
        What was measured, a key of ``KINDS``.
    """
    rows = neighbourhood[neighbourhood["library_id"].isin(set(libraries))].dropna(subset="z")
    rows = rows[rows["type_a"] != rows["type_b"]]
    return {f"niche{KINDS[kind]}: pairs called in the negative control": _mean(rows["z"].abs() > 1.96)}


def _things(kind: str) -> str:
    """Many of what a section resolves."""
    return {"spot": "spots", "bin": "bins", "cell": "cells"}[kind]


def _good(truth: pd.DataFrame) -> pd.DataFrame:
    """Cells that are single and whole."""
    return truth[(truth["is_doublet"] == 0) & (truth["low_quality"] == 0)]


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


def _t_cells(cells: pd.DataFrame) -> pd.Series:
    return cells["cell_type"].str.startswith("t_")


def _alb_left(cells: pd.DataFrame) -> float:
    return float(cells["alb_corrected"].sum() / cells["alb"].sum()) if cells["alb"].sum() > 0 else np.nan


def _rand_index(both: pd.DataFrame) -> float:
    return float(adjusted_rand_score(both["cell_type"], both["cluster"])) if len(both) else np.nan


def _auroc(ranked: pd.DataFrame) -> float:
    two_kinds = ranked["malignant"].nunique() == 2
    return float(roc_auc_score(ranked["malignant"], ranked["cnv_score"])) if two_kinds else np.nan


def _overlap(both: pd.DataFrame, here: np.ndarray, min_cells: int) -> float:
    """Overlap of the clusters of some cells with those of the others, mean over types with enough cells of both."""
    values = []
    for _, rows in both.assign(here=here).groupby("cell_type"):
        sizes = rows["here"].sum(), (~rows["here"]).sum()
        if min(sizes) >= min_cells:
            shares = pd.crosstab(rows["cluster"], rows["here"], normalize="columns")
            values.append(1 - 0.5 * (shares[True] - shares[False]).abs().sum())
    return _mean(values)


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
