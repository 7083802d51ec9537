"""Copy numbers inferred from expression: which epithelial cells are malignant, and which chromosome arms changed in a
patient; and how much epithelial cells keep to their own patient, as second evidence where copy number can't tell.
"""

from __future__ import annotations

import logging
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.resources import files
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from livermet import keys
from livermet.integrate import log_normalise, variable_genes

logger = logging.getLogger(__name__)

ARM_COLUMNS = (keys.PATIENT, "arm", "mean_log_ratio", "n_genes", "called", "pdac", "reason")
# GATA6 on 18q11 is gained in tumours that lose SMAD4 farther along the same arm: the band (hg19) counts as an arm.
BAND_18Q11_END = 25_000_000
PRIVATE_NEIGHBOURS = 10


def chromosome_arms(positions: pd.DataFrame) -> pd.Series:
    """Arm ("7p") of each gene from its position (hg19), "" where the position is not known or lies in a centromere.

    The band 18q11 counts as an arm of its own, and "18q" is the rest.

    Parameters
    ----------
    positions
        Genes x (``chromosome``, ``start``, ``end``), base pairs.
    """
    with (files("livermet") / "resources" / "centromeres_hg19.tsv").open(encoding="utf-8") as stream:
        centromeres = pd.read_csv(stream, sep="\t", index_col="chromosome")
    known = positions["chromosome"].isin(centromeres.index)
    centre = centromeres.reindex(positions["chromosome"].where(known))
    middle = (positions["start"].to_numpy(dtype=float) + positions["end"].to_numpy(dtype=float)) / 2
    side = np.where(middle < centre["start"].to_numpy(), "p", np.where(middle > centre["end"].to_numpy(), "q", ""))
    name = positions["chromosome"].astype(str).str.removeprefix("chr") + side
    name = name.mask((name == "18q") & (middle < BAND_18Q11_END), "18q11")
    return name.where(known & (side != ""), "")


def pdac_arms() -> pd.DataFrame:
    """Arms that pancreatic ductal adenocarcinoma gains or loses recurrently.

    Returns
    -------
    DataFrame indexed by arm with ``expected`` ("gain", "loss"), ``genes`` (the drivers named in the source, "" for
    none), ``source`` and ``confidence`` ("V": seen in the named source; "K": textbook knowledge).
    """
    with (files("livermet") / "resources" / "pdac_arms.tsv").open(encoding="utf-8") as stream:
        return pd.read_csv(stream, sep="\t", keep_default_na=False).set_index("arm")


@dataclass(frozen=True)
class CopyNumbers:
    """Outcome of copy-number inference.

    Attributes
    ----------
    cells
        Per cell: ``malignant`` (malignant, normal, ambiguous, not_tested), ``cnv_score``, ``cnv_signal`` (mean
        squared smoothed log ratio), ``malignant_probability`` (NaN where not tested) and ``patient_private`` (0 to 1,
        :func:`patient_privacy`; NaN for cells that are no candidates, and where a patient has so few that they could
        not be neighbours of one another).
    arms
        patient_id, arm, mean_log_ratio, n_genes, called (gain, loss, neutral, not_tested), pdac (gain or loss that is
        recurrent in the disease, "" for none), reason.
    """

    cells: pd.DataFrame
    arms: pd.DataFrame


def call_malignant(
    adata: AnnData,
    *,
    candidate: np.ndarray,
    prior: np.ndarray,
    reference: np.ndarray,
    groups: np.ndarray,
    positions: pd.DataFrame,
    window: int,
    step: int,
    min_reference_cells: int,
    min_candidate_cells: int,
    min_genes: int,
    arm_log_ratio: float,
    arm_z: float,
    min_arms: int,
    min_private: float,
    seed: int,
) -> CopyNumbers:
    """Tell malignant from normal epithelial cells by inferred copy number, patient by patient.

    infercnvpy (the method of Patel et al. 2014) smooths log ratios along the genome against immune and endothelial
    cells of the same sample (of the same patient, where the sample has too few). A cell is scored by its mean squared
    smoothed ratio and its correlation with the patient's tumour profile; a two-component mixture on the score, with
    the normal component learnt from cells that can't be malignant and its weight set per group of cells, gives a
    probability. Below .1 a cell is normal, above .9 malignant, between ambiguous.

    A patient whose putative tumour changes fewer than ``min_arms`` arms has no malignant cell: the score alone can't
    tell lineage genes from copy number, whole arms can. Its cells are normal, except those that markers take for
    tumour and that keep to this patient: they are ambiguous (a tumour may lack copy-number change), and ``reason``
    says how many.

    Not for fewer than ``min_genes`` genes with a position (an arm would be one or two windows), nor for a patient
    without enough reference cells: such cells are ``not_tested``, with the reason in ``arms``.

    Parameters
    ----------
    adata
        Cells with integer counts, ``obs["patient_id"]`` and ``obs["sample_id"]``.
    candidate
        Cells that may be malignant: epithelial, not hepatocytes.
    prior
        Probability by marker evidence alone that a candidate is malignant; only starts the tumour profile.
    reference
        Immune and endothelial cells.
    groups
        Group (cluster) of each cell.
    positions
        Genes x (chromosome, start, end), from :func:`livermet.genes.gene_positions`.
    window, step
        Genes per window and between windows.
    min_reference_cells, min_candidate_cells
        Cells that a patient needs on either side.
    min_genes
        Genes with a position outside chrX and chrY that are needed.
    arm_log_ratio, arm_z
        A called arm differs by at least this natural-log ratio, and by this many standard errors over its genes.
    min_arms
        Called arms without which no cell of the patient is malignant.
    min_private
        ``patient_private`` (0 to 1) from which cells count as private to their patient.
    seed
        Seed of the principal components behind ``patient_private``.
    """
    patients = adata.obs[keys.PATIENT].astype(str).to_numpy()
    cells = pd.DataFrame(
        {keys.MALIGNANT: "not_tested", keys.CNV_SCORE: np.nan, "cnv_signal": np.nan, "malignant_probability": np.nan},
        index=adata.obs_names,
    )
    private = patient_privacy(
        sp.csr_matrix(adata.X),
        patients=patients,
        groups=groups,
        names=adata.obs_names.to_numpy(),
        candidate=candidate,
        reference=reference,
        seed=seed,
    )
    samples = adata.obs[keys.SAMPLE].astype(str).to_numpy()
    placed = positions.reindex(adata.var_names)
    usable = placed["chromosome"].notna().to_numpy() & ~placed["chromosome"].isin(["chrX", "chrY", "chrM"]).to_numpy()
    arms = chromosome_arms(placed).where(usable, "").to_numpy()
    tables = []
    for patient in np.unique(patients):
        here = patients == patient
        n_reference, n_candidate = int((here & reference).sum()), int((here & candidate).sum())
        reason = ""
        if usable.sum() < min_genes:
            reason = f"{usable.sum()} genes with a genomic position, {min_genes} needed"
        elif n_reference < min_reference_cells:
            reason = f"{n_reference} immune and endothelial cells, {min_reference_cells} needed as reference"
        elif n_candidate < min_candidate_cells:
            reason = f"{n_candidate} epithelial cells, {min_candidate_cells} needed"
        if reason:
            logger.info("copy number of %s not tested: %s", patient, reason)
            tables.append(_untested_arms(patient, arms, reason))
            if n_candidate < min_candidate_cells:
                private[here] = np.nan
            continue
        rows = np.flatnonzero(here)
        ratios = ratios_by_sample(
            log_normalise(sp.csr_matrix(adata.X[rows])[:, usable]),
            samples[rows],
            reference[rows],
            min_reference_cells=min_reference_cells,
            positions=placed[usable],
            window=window,
            step=step,
        )
        result = _score_cells(ratios, candidate[rows], prior[rows], reference[rows], groups[rows])
        malignant = rows[result[keys.MALIGNANT] == "malignant"]
        if malignant.size < min_candidate_cells:
            # Too few cells to see whether whole arms changed: copy number can't tell, and markers have to.
            result[keys.MALIGNANT][result[keys.MALIGNANT] == "malignant"] = "not_tested"
            private[rows] = np.nan
            profile = _untested_arms(patient, arms, f"{malignant.size} malignant cells, {min_candidate_cells} needed")
        else:
            counts = [np.asarray(adata.X[i].sum(axis=0)).ravel() for i in (malignant, np.flatnonzero(here & reference))]
            profile = arm_profile(*counts, arms, min_log_ratio=arm_log_ratio, min_z=arm_z)
            profile = profile.assign(**{keys.PATIENT: patient, "reason": ""})
            if (profile["called"] != "neutral").sum() < min_arms:
                # Cells of one lineage always resemble their own mean; without changed arms that is no copy number.
                doubtful = candidate[rows] & (prior[rows] > 0.5) & (private[rows] >= min_private)
                result[keys.MALIGNANT][candidate[rows]] = "normal"
                result[keys.MALIGNANT][doubtful] = "ambiguous"
                result["malignant_probability"][:] = 0.0
                profile["reason"] = _reason_without_arms(min_arms, int(doubtful.sum()))
        tables.append(profile)
        for column, values in result.items():
            cells.iloc[rows, cells.columns.get_loc(column)] = values
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(ARM_COLUMNS))
    cells[keys.PATIENT_PRIVATE] = private
    table["pdac"] = table["arm"].map(pdac_arms()["expected"]).fillna("")
    logger.info("copy number: %s", cells[keys.MALIGNANT].value_counts().to_dict())
    return CopyNumbers(cells=cells, arms=table[list(ARM_COLUMNS)])


def _reason_without_arms(min_arms: int, n_doubtful: int) -> str:
    reason = f"fewer than {min_arms} changed arms: no evidence of malignant cells"
    if n_doubtful:
        reason += f"; {n_doubtful} cells with markers of tumour keep to this patient and stay ambiguous"
    return reason


def patient_privacy(
    counts: sp.csr_matrix,
    *,
    patients: np.ndarray,
    groups: np.ndarray,
    names: np.ndarray,
    candidate: np.ndarray,
    reference: np.ndarray,
    seed: int,
) -> np.ndarray:
    """How much epithelial cells keep to their own patient, 0 (as mixed as all of them together) to 1 (never mixed).

    Malignant cells cluster by patient, cholangiocytes of all patients together. Clusters of integrated cells can't
    show it, since integration mixes the patients: the neighbours of each candidate are found here without it, on
    principal components of the variable genes of the candidates. What sets all of a patient's cells apart (handling,
    chemistry, ambient RNA) is taken off first, as the patient's mean over its reference cells within their groups
    shows it. A cell's value is the number of its ``PRIVATE_NEIGHBOURS`` nearest neighbours that are of its patient,
    above what mixing would give, as a share of the most that could be; it is averaged over the cells of a patient in a
    group. What sets a patient's normal epithelium alone apart stays in it: privacy is supporting evidence, never a
    call.

    Parameters
    ----------
    counts
        Cells x genes.
    patients, groups, names
        Patient, group (annotation group) and unique name of each cell.
    candidate, reference
        Cells that may be malignant; immune and endothelial cells.
    seed
        Seed of the principal components.

    Returns
    -------
    One value per cell; NaN for cells that are no candidates, with a single patient, for a patient's only candidate, and
    for fewer than four candidates.
    """
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    result = np.full(len(patients), np.nan)
    by_name = np.argsort(names.astype(str), kind="stable")
    cells = by_name[candidate[by_name]]
    n = cells.size
    if n < 4:
        return result
    expression = log_normalise(counts[cells])
    genes = variable_genes(expression, np.zeros(n, dtype=int), n_top=1000)
    if genes.size < 2:
        return result
    expression = expression[:, genes].astype(np.float64)
    model = PCA(min(30, n - 1, genes.size - 1), svd_solver="arpack", random_state=seed).fit(expression)
    scores = pd.DataFrame(model.transform(expression))
    others = by_name[reference[by_name]]
    normal = pd.DataFrame(log_normalise(counts[others])[:, genes] @ model.components_.T)
    shift = (normal - normal.groupby(groups[others]).transform("mean")).groupby(patients[others]).mean()
    scores -= shift.reindex(patients[cells]).fillna(0.0).to_numpy()

    code = pd.factorize(patients[cells], sort=True)[0]
    k = min(PRIVATE_NEIGHBOURS, (n - 1) // 2)
    near = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(scores).kneighbors(return_distance=False)
    own = (code[near] == code[:, None]).sum(axis=1)
    fellows = np.bincount(code)[code] - 1
    mixed, most = k * fellows / (n - 1), np.minimum(k, fellows)
    private = np.divide(own - mixed, most - mixed, out=np.full(n, np.nan), where=most > mixed)
    result[cells] = pd.Series(private).groupby([code, groups[cells]]).transform("mean").clip(0, 1)
    return result


def ratios_by_sample(
    log_counts: sp.csr_matrix, samples: np.ndarray, reference: np.ndarray, *, min_reference_cells: int, **options: Any
) -> np.ndarray:
    """:func:`smoothed_ratios` of one patient's cells, each against the reference cells of its own sample.

    A sample with fewer than ``min_reference_cells`` takes the reference cells of all samples of the patient.
    """
    names = np.unique(samples)
    if len(names) == 1:
        return smoothed_ratios(log_counts, reference=reference, **options)
    parts = {}
    for name in names:
        own = samples == name
        used = own if (own & reference).sum() >= min_reference_cells else own | reference
        ratios = smoothed_ratios(log_counts[used], reference=reference[used], **options)
        parts[name] = ratios[own[used]]
    result = np.empty((len(samples), parts[names[0]].shape[1]), dtype=parts[names[0]].dtype)
    for name, ratios in parts.items():
        result[samples == name] = ratios
    return result


def smoothed_ratios(
    log_counts: sp.csr_matrix, positions: pd.DataFrame, reference: np.ndarray, *, window: int, step: int
) -> np.ndarray:
    """Log ratios against the reference cells, smoothed along the genome; cells x windows (infercnvpy, no noise
    filter).
    """
    from infercnvpy.tl import infercnv

    obs = pd.DataFrame({"role": np.where(reference, "reference", "other")}, index=np.arange(len(reference)).astype(str))
    adata = AnnData(log_counts, obs=obs, var=positions[["chromosome", "start", "end"]])
    # infercnvpy draws a progress bar on the standard error stream and has no option against it.
    with redirect_stderr(StringIO()):
        _, ratios, _ = infercnv(
            adata,
            reference_key="role",
            reference_cat="reference",
            window_size=window,
            step=step,
            dynamic_threshold=None,
            n_jobs=1,
            inplace=False,
        )
    return ratios.toarray()


def _score_cells(
    ratios: np.ndarray, candidate: np.ndarray, prior: np.ndarray, reference: np.ndarray, groups: np.ndarray
) -> dict[str, np.ndarray]:
    signal = (ratios**2).mean(axis=1)
    normal = ~candidate
    weight = np.where(candidate, prior, 0.0)
    for _ in range(3):
        if weight.sum() < 1:
            score = np.zeros(len(ratios))
            probability = np.zeros(len(ratios))
            break
        tumour = (weight[:, None] * ratios).sum(axis=0) / weight.sum() - ratios[normal].mean(axis=0)
        score = _correlation(ratios - ratios[normal].mean(axis=0), tumour) * np.sqrt(signal / np.median(signal[normal]))
        probability = mixture_probability(score, candidate, groups)
        weight = np.where(candidate, probability, 0.0)
    call = np.where(probability > 0.9, "malignant", np.where(probability < 0.1, "normal", "ambiguous"))
    return {
        keys.CNV_SCORE: score,
        "cnv_signal": signal,
        "malignant_probability": np.where(candidate, probability, 0.0),
        keys.MALIGNANT: np.where(candidate, call, "normal").astype(object),
    }


def _correlation(rows: np.ndarray, profile: np.ndarray) -> np.ndarray:
    rows = rows - rows.mean(axis=1, keepdims=True)
    profile = profile - profile.mean()
    scale = np.sqrt((rows**2).sum(axis=1) * (profile**2).sum())
    return np.divide(rows @ profile, scale, out=np.zeros(len(rows)), where=scale > 0)


def mixture_probability(
    score: np.ndarray, candidate: np.ndarray, groups: np.ndarray, *, n_iterations: int = 50
) -> np.ndarray:
    """Probability that a candidate belongs to the upper of two normal components of a score.

    The lower component is fixed: mean and spread of the cells that are no candidates. The upper one and the share of
    malignant cells in each group of candidates are fitted by expectation maximisation. An upper component less than
    two spreads above the lower one is no evidence of a second population: probabilities are then halfway at most.

    Parameters
    ----------
    score
        One value per cell.
    candidate
        Cells that may belong to the upper component.
    groups
        Group of each cell.
    n_iterations
        Steps of the algorithm.
    """
    low_mean = np.median(score[~candidate])
    low_sd = max(1.4826 * np.median(np.abs(score[~candidate] - low_mean)), 1e-6)
    values = score[candidate]
    code = pd.factorize(groups[candidate])[0]
    high_mean, high_sd = np.quantile(values, 0.75), max(values.std(), low_sd)
    share = np.full(code.max(initial=0) + 1, 0.5)
    low = np.exp(-0.5 * ((values - low_mean) / low_sd) ** 2) / low_sd
    for _ in range(n_iterations):
        high = np.exp(-0.5 * ((values - high_mean) / high_sd) ** 2) / high_sd
        # Beyond its own mean a cell is more, not less, tumour-like; below the normal mean more normal.
        high = np.where(values > high_mean, np.maximum(high, low * 1e3), high)
        low_here = np.where(values < low_mean, np.maximum(low, high * 1e3), low)
        upper = share[code] * high
        p = upper / np.maximum(upper + (1 - share[code]) * low_here, 1e-300)
        high_mean = (p * values).sum() / max(p.sum(), 1e-9)
        high_sd = max(np.sqrt((p * (values - high_mean) ** 2).sum() / max(p.sum(), 1e-9)), 0.5 * low_sd)
        # Two cells of prior weight keep the share of a small group away from zero and one.
        share = (np.bincount(code, weights=p) + 1) / (np.bincount(code) + 2)
    if high_mean < low_mean + 2 * low_sd:
        p = np.minimum(p, 0.5)
    result = np.zeros(len(score))
    result[candidate] = p
    return result


def arm_profile(
    tumour: np.ndarray, reference: np.ndarray, arms: np.ndarray, *, min_log_ratio: float, min_z: float
) -> pd.DataFrame:
    """Copy-number change of each chromosome arm from summed counts of malignant and reference cells.

    Per gene the natural-log ratio of its shares; per arm the mean over genes after trimming 10 % at each end, which
    keeps lineage genes from passing as copy number; the median arm is taken as neutral.

    Parameters
    ----------
    tumour, reference
        Summed counts per gene.
    arms
        Arm of each gene, "" for none.
    min_log_ratio, min_z
        Smallest absolute value, and smallest ratio to its standard error, of a called arm.

    Returns
    -------
    DataFrame with arm, mean_log_ratio, n_genes and called ("gain", "loss", "neutral"); arms of at
    least 15 well-counted genes.
    """
    from scipy.stats import trim_mean

    seen = (tumour + reference >= 20) & (arms != "")
    ratio = np.log((tumour + 0.5) / tumour.sum()) - np.log((reference + 0.5) / reference.sum())
    rows = []
    for arm in dict.fromkeys(arms[seen]):
        values = ratio[seen & (arms == arm)]
        if values.size >= 15:
            rows.append((arm, trim_mean(values, 0.1), values.std(ddof=1) / np.sqrt(values.size), values.size))
    table = pd.DataFrame(rows, columns=["arm", "mean_log_ratio", "error", "n_genes"])
    table["mean_log_ratio"] -= table["mean_log_ratio"].median()
    z = table["mean_log_ratio"] / table["error"]
    clear = (table["mean_log_ratio"].abs() >= min_log_ratio) & (z.abs() >= min_z)
    table["called"] = np.where(clear, np.where(z > 0, "gain", "loss"), "neutral")
    return table.drop(columns="error")


def _untested_arms(patient: str, arms: np.ndarray, reason: str) -> pd.DataFrame:
    names, n_genes = np.unique(arms[arms != ""], return_counts=True)
    table = pd.DataFrame({keys.PATIENT: patient, "arm": names, "mean_log_ratio": np.nan, "n_genes": n_genes})
    return table.assign(called="not_tested", reason=reason)
