"""Differential expression between the two classes of the primary label, per cell type, the patient being the unit.

Labels and cells meet here and nowhere before: types, profiles, the filter of genes and the marks of ambient RNA know
nothing of response. Where the design can't carry a comparison, a row with the reason stands in its place.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import stats

from livermet import keys, refusals
from livermet.pseudobulk import ambient_genes, expressed_genes
from livermet.response import DESIGN_FACTORS, Label, read_label
from livermet.statistics import benjamini_hochberg

logger = logging.getLogger(__name__)

TYPE = [keys.MODALITY, keys.CELL_TYPE]
NUMBERS = ["base_mean", "log2_fold_change", "standard_error", "statistic", "p", "q", "q_global"]
COLUMNS = [*TYPE, "gene", *NUMBERS, "ambient"]
TEST_COLUMNS = [*TYPE, "n_alt", "n_ref", "design", "status", "reason", "n_genes", "n_leads"]
LABEL_ONLY, WITH_CENTRE = "~ label", "~ centre + label"
MIN_RESIDUAL = 15  # residual degrees of freedom from which on centres are in the design
MIN_GENES = 50  # the trend of the dispersion is fitted over genes
DIGITS = 5
# With fewer genes that every profile holds, the median of their ratios is no measure of depth.
MIN_GENES_EVERYWHERE = 50


def differential_expression(
    profiles: AnnData,
    left_out: pd.DataFrame,
    labels: pd.DataFrame,
    patients: pd.DataFrame,
    *,
    response: Mapping[str, Any],
    goes_with: Sequence[str],
    scope: str,
    earlier_looks: int,
    ambient: pd.DataFrame,
    min_count: float,
    min_share: float,
    ambient_top: int,
    max_contamination: float,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare the two classes of the primary label in every cell type of every modality.

    Hypothesis: a gene's expected share of the type's counts doesn't go with the label. Unit: the patient, one profile
    each. Method: negative binomial regression with shrunken dispersions (DESeq2, Love, Huber and Anders 2014,
    doi:10.1186/s13059-014-0550-8, as in pydeseq2), without its independent filtering, since genes are filtered by
    expression before. p: the Wald statistic against a t distribution with the residual degrees of freedom (DESeq2's
    option useT). The normal distribution holds for many patients only: in simulated cohorts of 10 against 14 patients
    with a tenth of the genes planted, 15 % of the leads at q .10 were false with it and 8 % with t, which found as
    many of the planted ones (96 %). With 5 against 5 patients t is strict (66 % found, 86 % with the normal), and with
    3 against 3 it finds hardly anything. q: Benjamini-Hochberg within the type; q_global: over all types and genes,
    which is what a lead needs. Genes that ambient RNA explains keep their p, have no q and are no leads. Not for
    repeated profiles of a patient, nor for labels without two classes.

    Parameters
    ----------
    profiles, left_out
        As made by :func:`livermet.pseudobulk.pseudobulk`; types whose profiles were all left out are refused.
    labels
        Derived labels: patient_id, label, kind, value, source, reason.
    patients
        As made by :func:`livermet.response.patient_design`, or just patient_id and centre.
    response
        Section ``response`` of the config.
    goes_with
        Timepoints of the tissue that the primary label may be compared in.
    scope
        Only the cohort is tested.
    earlier_looks
        Looks at other states of the data that the ledger of looks counts.
    ambient
        Ambient fraction of genes (index) by library_id (columns).
    min_count, min_share
        Filter of genes (:func:`livermet.pseudobulk.expressed_genes`).
    ambient_top, max_contamination
        Rule for ambient genes (:func:`livermet.pseudobulk.ambient_genes`).

    Returns
    -------
    Two tables, rounded to ``DIGITS`` digits. Every tested gene (``COLUMNS``): positive fold changes are higher where
    the label is 1; p is empty where the count of one patient decides it (Cook's distance); ambient is 1 or 0, empty
    where no ambient profile is known. One row per type (``TEST_COLUMNS``): n_alt and n_ref patients with the label 1
    and 0, the design, status "tested" or "refused", the reason (of a refusal, or why the centre is not in the design),
    tested genes, and leads (q_global at most ``response.fdr``).
    """
    label = read_label(labels, response["primary_label"])
    refusal = _refusal(label, response=response, goes_with=goes_with, scope=scope, earlier_looks=earlier_looks)
    tables, tests = [], []
    for names, here in _types(profiles, left_out, label, response=response):
        ids = here.obs[keys.PATIENT].to_numpy(str)
        y = label.numbers.reindex(ids).to_numpy()
        n_ref, n_alt = label.classes(ids) if label.binary else (pd.NA, pd.NA)
        test = {**names, "n_alt": n_alt, "n_ref": n_ref, "design": "", "status": "refused", "n_genes": 0}
        tests.append(test)
        factors = design_factors(patients, ids, names[keys.MODALITY])
        test["reason"] = refusal or _type_refusal(y, factors, minimum=response["min_patients_per_arm"])
        if test["reason"]:
            continue
        counts = here.X.toarray()
        kept = expressed_genes(counts, min_count=min_count, min_share=min_share)
        if kept.sum() < MIN_GENES:
            test["reason"] = (
                f"{kept.sum()} genes with enough counts, where {MIN_GENES} are needed. Lifted by more cells"
            )
            continue
        centre = factors.pop(keys.CENTRE)
        why = centre_left_out(y, centre)
        table = wald_test(counts[:, kept], y, None if why else centre)
        soup = ambient_genes(here, ambient, ambient_top=ambient_top, max_contamination=max_contamination)
        table["ambient"] = pd.array([pd.NA] * len(table) if soup is None else soup[kept].astype(int), dtype="Int64")
        tables.append(table.assign(gene=here.var_names[kept].to_numpy(str), **names))
        unadjusted = refusals.imbalance(y, {**factors, keys.CENTRE: centre} if why else factors)
        test["reason"] = "; ".join(text for text in (why, unadjusted and f"not adjusted: {unadjusted}") if text)
        test |= {"design": LABEL_ONLY if why else WITH_CENTRE, "status": "tested", "n_genes": len(table)}
        logger.info("%s: %d with and %d without the label, %s", ", ".join(names.values()), n_alt, n_ref, test["design"])
    return _finish(tables, tests, fdr=response["fdr"])


def _refusal(
    label: Label, *, response: Mapping[str, Any], goes_with: Sequence[str], scope: str, earlier_looks: int
) -> str:
    """The first reason why no type can be compared, with its code, if any."""
    kind = f"label {label.name} is {label.kind}: expression is compared between the two classes of a binary label"
    reasons = (
        (
            "R19",
            refusals.refuse_uncounted(
                scope=scope, look=response["look"], planned_looks=response["planned_looks"], earlier_looks=earlier_looks
            ),
        ),
        ("R06", refusals.refuse_undefined(label.name, label.numbers.to_numpy())),
        (
            "P01",
            "" if label.binary else f"{kind} (refused: ordinal/continuous label). Lifted by a binary primary_label",
        ),
        ("R04", refusals.refuse_mixed(timepoints=response["timepoints"], tissues=response["tissues"])),
        ("R17", refusals.refuse_timepoint(label.name, timepoints=response["timepoints"], goes_with=goes_with)),
    )
    return next((f"{code}: {reason}" for code, reason in reasons if reason), "")


def _types(
    profiles: AnnData, left_out: pd.DataFrame, label: Label, *, response: Mapping[str, Any]
) -> Iterator[tuple[dict[str, str], AnnData]]:
    """Each modality and type with its profiles of labelled patients at the compared timepoints and tissues."""
    everywhere = pd.DataFrame(np.vstack([profiles.obs[TYPE], left_out[TYPE]]), columns=TYPE).drop_duplicates()
    compared = profiles.obs[keys.TIMEPOINT].isin(response["timepoints"])
    compared &= profiles.obs[keys.TISSUE].isin(response["tissues"])
    compared &= profiles.obs[keys.PATIENT].isin(label.numbers.index)
    for names in everywhere.sort_values(TYPE).to_dict("records"):
        rows = compared & (profiles.obs[TYPE] == list(names.values())).all(axis=1)
        yield names, profiles[rows.to_numpy()]


def design_factors(patients: pd.DataFrame, ids: np.ndarray, modality: str) -> dict[str, np.ndarray]:
    """Centre and, where ``patients`` has them, further factors of the patients in one modality; "" where not known."""
    centre = patients.drop_duplicates(keys.PATIENT).set_index(keys.PATIENT)[[keys.CENTRE]]
    if keys.MODALITY in patients:
        rows = patients[patients[keys.MODALITY] == modality].set_index(keys.PATIENT)
        centre = centre.join(rows[[name for name in DESIGN_FACTORS if name in rows]])
    found = centre.reindex(ids).fillna("").astype(str)
    return {name: found[name].to_numpy(str) for name in found}


def _type_refusal(y: np.ndarray, factors: Mapping[str, np.ndarray], *, minimum: int) -> str:
    """Why the patients of one type can't be compared, with the code, if so."""
    few = refusals.refuse_small_arms(int((y == 0).sum()), int((y == 1).sum()), minimum=minimum, binary=True)
    others = {name: levels for name, levels in factors.items() if name != keys.CENTRE}
    if few:
        return f"R01: {few}"
    confounded = refusals.refuse_confounded(y, factors[keys.CENTRE], others)
    return confounded and f"R05: {confounded}"


def centre_left_out(y: np.ndarray, centre: np.ndarray) -> str:
    """Why the centre is not in the design; "" where the design carries it.

    The design with centres must have full rank and ``MIN_RESIDUAL`` residual degrees of freedom. In simulated cohorts
    with six uneven centres that differ moderately in expression and label (50 of each size, 300 genes; ``make truth``)
    .051 of the null genes fell below p .05 with centres in the design and .076 without for 64 patients, .046 and .056
    for 24; of the leads at q .10 .09 were false against .19, and .05 against .16; of the planted genes .96 were found
    against .92, and .28 against .34. With fewer residual degrees of freedom little is found. A limit by the smaller
    class, one degree of freedom per eight patients, would leave six centres out of any cohort with fewer than 40
    responders.

    Parameters
    ----------
    y
        The label, 0 or 1, per patient.
    centre
        Centre of each patient.
    """
    design = _design(y, centre)
    centres, left = len(np.unique(centre)), len(y) - design.shape[1]
    if centres == 1:
        return "one centre"
    if np.linalg.matrix_rank(design.to_numpy()) < design.shape[1]:
        return "centre left out: the label can't be told from the centres"
    if left < MIN_RESIDUAL:
        return (
            f"centre left out: {centres} centres leave {left} residual degrees of freedom of {len(y)} patients, where "
            f"{MIN_RESIDUAL} are needed"
        )
    return ""


def _design(y: np.ndarray, centre: np.ndarray | None) -> pd.DataFrame:
    """Design matrix, patients x (intercept, centres but the first, label)."""
    design = pd.DataFrame({"intercept": np.ones(len(y))})
    for level in [] if centre is None else np.unique(centre)[1:]:
        design[f"centre {level}"] = (centre == level).astype(float)
    return design.assign(label=np.asarray(y, float))


def wald_test(counts: np.ndarray, y: np.ndarray, centre: np.ndarray | None) -> pd.DataFrame:
    """Negative binomial regression of each gene on the label, and on the centre where one is given (DESeq2).

    Size factors are medians of ratios over the genes that every profile holds; with fewer than
    ``MIN_GENES_EVERYWHERE`` of them, over the positive counts (the variant for sparse counts).

    Parameters
    ----------
    counts
        Patients x genes, raw counts.
    y
        The label, 0 or 1, per patient.
    centre
        Centre of each patient, or None.

    Returns
    -------
    One row per gene: base_mean (counts at mean depth), log2_fold_change with standard_error, statistic, and p by the t
    distribution with the residual degrees of freedom, empty where Cook's distance rejects the fit.
    """
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.default_inference import DefaultInference
    from pydeseq2.ds import DeseqStats

    index = [str(i) for i in range(len(y))]
    design = _design(y, centre).set_axis(index, axis=0)
    genes = [str(i) for i in range(counts.shape[1])]
    everywhere = int((counts > 0).all(axis=0).sum())
    inference = DefaultInference(n_cpus=1)
    data = DeseqDataSet(
        counts=pd.DataFrame(counts, index=index, columns=genes),
        metadata=pd.DataFrame(index=index),
        design=design,
        size_factors_fit_type="ratio" if everywhere >= MIN_GENES_EVERYWHERE else "poscounts",
        inference=inference,
        quiet=True,
    )
    data.deseq2()
    contrast = (design.columns == "label").astype(float)
    test = DeseqStats(data, contrast=contrast, independent_filter=False, inference=inference, quiet=True)
    test.summary()
    table = test.results_df.drop(columns="padj").reset_index(drop=True).set_axis(NUMBERS[:5], axis=1)
    p = 2 * stats.t.sf(table["statistic"].abs(), len(y) - design.shape[1])
    return table.assign(p=np.where(table["p"].isna(), np.nan, p))


def _finish(
    tables: Sequence[pd.DataFrame], tests: Sequence[Mapping[str, Any]], *, fdr: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Multiplicity, leads, order, types and digits of both tables."""
    genes = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    genes = genes.reindex(columns=COLUMNS).astype({**dict.fromkeys(NUMBERS, float), "ambient": "Int64"})
    counted = genes[genes["p"].notna() & (genes["ambient"].fillna(0) == 0)]
    genes.loc[counted.index, "q_global"] = benjamini_hochberg(counted["p"].to_numpy())
    for _, rows in counted.groupby(TYPE):
        genes.loc[rows.index, "q"] = benjamini_hochberg(rows["p"].to_numpy())
    leads = genes[genes["q_global"] <= fdr].groupby(TYPE).size()
    summary = pd.DataFrame(list(tests)).reindex(columns=TEST_COLUMNS)
    summary["n_leads"] = [int(leads.get(tuple(names), 0)) for names in summary[TYPE].to_numpy()]
    summary = summary.astype({"n_alt": "Int64", "n_ref": "Int64", "n_genes": "Int64", "n_leads": "Int64"})
    genes[NUMBERS] = genes[NUMBERS].map(rounded)
    return genes.sort_values([*TYPE, "p", "gene"], ignore_index=True), summary


def rounded(number: float) -> float:
    """A number with as many digits as such a table needs; nothing is tested after this."""
    return float(f"{number:.{DIGITS}g}")
