"""Malignant cells of a patient: classical or basal subtype per cell, PurIST on the pseudobulk, shares with intervals.

Two levels that must not be confused. A cell has a score per state (:func:`livermet.annotate.score_states`), a best
state (``cell_state``, of all states) and, on the axis from classical to basal alone, a ``subtype``, whatever else it
does: a cycling cell may be basal. A patient has, per timepoint, tissue and modality, the shares of these among the
malignant cells, and the probability of PurIST, which was trained on bulk tumours and is never applied to single cells.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from livermet import keys
from livermet.cnv import pdac_arms

logger = logging.getLogger(__name__)

STRATUM = [keys.PATIENT, keys.TIMEPOINT, keys.TISSUE, keys.MODALITY]
SUBTYPES = ("basal", "intermediate", "classical")
NO_SUBTYPE = "none"
BASAL_SCORE, CLASSICAL_SCORE = "score_mal_basal", "score_mal_classical"
# Two normal components this many standard deviations apart have at most a tenth of either on the wrong side.
MIN_SEPARATION = 2.5
MIN_MIXTURE_CELLS = 50
PURIST_INTERCEPT = -6.815


def high_probability(score: np.ndarray, *, min_z: float) -> np.ndarray:
    """Probability that each cell belongs to the upper of two components of a score.

    A score says how far a cell stands from matched random genes, but where "high" begins differs between signatures.
    Two normal components of equal spread (so that the probability grows with the score) are fitted; if they stand
    apart by less than ``MIN_SEPARATION`` standard deviations, or there are fewer than ``MIN_MIXTURE_CELLS`` cells, the
    cells don't say where "high" begins, and the probability is 1 from ``min_z`` on and 0 below.

    Parameters
    ----------
    score
        One value per cell, none missing.
    min_z
        Score of a stated state.
    """
    from sklearn.mixture import GaussianMixture

    fixed = (score >= min_z).astype(float)
    values = np.sort(score)[:, None]
    if len(values) < MIN_MIXTURE_CELLS or values[0] == values[-1]:
        return fixed
    start = np.quantile(values, [0.1, 0.9])[:, None]
    model = GaussianMixture(2, covariance_type="tied", means_init=start, max_iter=1000, random_state=0).fit(values)
    low, high = np.sort(model.means_.ravel())
    if high - low < MIN_SEPARATION * np.sqrt(model.covariances_.item()):
        return fixed
    return model.predict_proba(score[:, None])[:, model.means_.argmax()]


def subtype_probabilities(obs: pd.DataFrame, *, min_z: float) -> pd.DataFrame:
    """Probability of each subtype per cell, within each modality.

    With the probabilities that its basal and its classical score are high (:func:`high_probability`), a cell is basal
    if only the one is, classical if only the other is, and intermediate if both are: co-expression, as in Raghavan et
    al. 2021, here in units of matched random genes and without their own gene list for intermediate cells. With
    neither it has no subtype, as cells do whose programme is another one.

    Both scores compare malignant cells with one another (random genes are matched in expression among them): in a
    cohort whose tumours are all classical, "classical" has nothing to stand out from.

    Parameters
    ----------
    obs
        Cells with ``modality`` and the two scores, missing for cells that aren't malignant.
    min_z
        Score from which a signature is high where the cells themselves don't say.

    Returns
    -------
    DataFrame with the columns of ``SUBTYPES``; missing for cells without scores.
    """
    result = pd.DataFrame(np.nan, index=obs.index, columns=list(SUBTYPES))
    scores = obs[[BASAL_SCORE, CLASSICAL_SCORE]].to_numpy(dtype=float)
    modality = obs[keys.MODALITY].astype(str).to_numpy()
    scored = np.isfinite(scores).all(axis=1)
    for name in np.unique(modality[scored]):
        rows = np.flatnonzero(scored & (modality == name))
        basal, classical = (high_probability(scores[rows, i], min_z=min_z) for i in (0, 1))
        result.iloc[rows] = np.column_stack([basal * (1 - classical), basal * classical, classical * (1 - basal)])
    return result


def subtypes(obs: pd.DataFrame, *, min_z: float) -> pd.Categorical:
    """The subtype of each cell of at least even odds, "none" without one, "" for cells without scores.

    Parameters are those of :func:`subtype_probabilities`.
    """
    probability = subtype_probabilities(obs, min_z=min_z).to_numpy()
    scored = np.isfinite(probability).all(axis=1)
    table = np.column_stack([probability, 1 - probability.sum(axis=1)])[scored]
    label = np.full(len(obs), "", dtype=object)
    label[scored] = np.array([*SUBTYPES, NO_SUBTYPE], dtype=object)[table.argmax(axis=1)]
    return pd.Categorical(label, categories=["", *SUBTYPES, NO_SUBTYPE])


def load_purist() -> pd.DataFrame:
    """The eight gene pairs of PurIST (Rashid et al. 2020).

    Returns
    -------
    DataFrame with ``basal_gene`` and ``classical_gene`` (lists of symbols: the published one, then later ones),
    ``coefficient`` (of "basal gene above classical gene", in the logit) and ``source``.
    """
    with (files("livermet") / "resources" / "purist.tsv").open(encoding="utf-8") as stream:
        table = pd.read_csv(stream, sep="\t")
    for column in ("basal_gene", "classical_gene"):
        table[column] = table[column].str.split("|")
    return table


@dataclass(frozen=True)
class Purist:
    """PurIST of one pseudobulk: ``logit`` and ``probability`` of basal, its interval (``low``, ``high``), all NaN where
    not stated, with the ``reason``; the number of ``informative`` pairs and the ``missing`` genes.
    """

    logit: float
    probability: float
    low: float
    high: float
    informative: int
    missing: tuple[str, ...]
    reason: str


def purist(
    counts: sp.csr_matrix, var_names: pd.Index, *, min_informative_pairs: int, n_bootstrap: int, seed: int
) -> Purist:
    """PurIST of the summed counts of malignant cells: probability that the tumour is basal-like.

    Each pair whose basal gene has more counts than its classical gene adds its coefficient to the logit. A pair is
    informative if both genes are measured and their counts differ: ties, above all of two genes without counts, and
    missing genes count as classical by construction, so that with few informative pairs the answer would be classical
    whatever the tumour is. The interval (2.5 % to 97.5 %) is that of draws of as many cells with replacement: it says
    what other cells of the same libraries would have given, not what another biopsy would have.

    Parameters
    ----------
    counts
        Malignant cells x genes.
    var_names
        Gene symbols.
    min_informative_pairs
        Pairs without which nothing is stated.
    n_bootstrap
        Draws of cells.
    seed
        Their seed.

    Source: Rashid et al. 2020, Purity Independent Subtyping of Tumors, Clin Cancer Res 26:82 (PMID 31754050). The
    authors' own distribution is for not-for-profit research (patent pending).
    """
    pairs = load_purist()
    sides = [_first_measured(pairs[column], var_names) for column in ("basal_gene", "classical_gene")]
    missing = tuple(
        names[0]
        for column, side in zip(("basal_gene", "classical_gene"), sides, strict=True)
        for names, at in zip(pairs[column], side, strict=True)
        if at < 0
    )
    known = (sides[0] >= 0) & (sides[1] >= 0)
    coefficient = pairs["coefficient"].to_numpy()[known]
    basal, classical = (np.asarray(counts[:, side[known]].todense(), dtype=float) for side in sides)
    informative = int((basal.sum(axis=0) != classical.sum(axis=0)).sum())
    if informative < min_informative_pairs:
        reason = f"{informative} informative gene pairs of PurIST, {min_informative_pairs} needed"
        if missing:
            reason += f" (not measured: {', '.join(missing)})"
        return Purist(np.nan, np.nan, np.nan, np.nan, informative, missing, reason)
    n = len(basal)
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_bootstrap)
    weight = np.vstack([np.ones(n), draws])
    logit = PURIST_INTERCEPT + (weight @ basal > weight @ classical) @ coefficient
    probability = 1 / (1 + np.exp(-logit))
    low, high = np.quantile(probability[1:], [0.025, 0.975])
    return Purist(float(logit[0]), float(probability[0]), float(low), float(high), informative, missing, "")


def _first_measured(genes: pd.Series, var_names: pd.Index) -> np.ndarray:
    """Position of the first of each row's symbols that the data hold, -1 for none."""
    found = [var_names.get_indexer(names) for names in genes]
    return np.array([at[at >= 0][0] if (at >= 0).any() else -1 for at in found])


def share_interval(shares: np.ndarray, weights: np.ndarray, libraries: np.ndarray) -> tuple[float, float, float]:
    """A patient's share of cells with its 95 % interval (Wilson), widened where its libraries differ.

    The interval includes the drawing of cells and, with several libraries, their disagreement beyond it: the number of
    cells is divided by the overdispersion over libraries (Pearson's chi-square per degree of freedom, at least 1). With
    one library, what another biopsy would have given is not in it.

    Parameters
    ----------
    shares
        Per cell, how much of it counts (0 or 1, or a probability, at most its weight).
    weights
        Per cell, how much of it there is (1, or the probability that it belongs to the whole at all).
    libraries
        Library of each cell.

    Returns
    -------
    Share, lower and upper limit; NaN without any weight.
    """
    from statsmodels.stats.proportion import proportion_confint

    table = pd.DataFrame({"share": shares, "weight": weights}).groupby(libraries).sum()
    table = table[table["weight"] > 0]
    n = table["weight"].sum()
    if n == 0:
        return np.nan, np.nan, np.nan
    share = min(table["share"].sum() / n, 1.0)
    spread = share * (1 - share)
    excess = 1.0
    if len(table) > 1 and spread > 0:
        chi_square = (table["weight"] * (table["share"] / table["weight"] - share) ** 2).sum() / spread
        excess = max(chi_square / (len(table) - 1), 1.0)
    low, high = proportion_confint(share * n / excess, n / excess, method="wilson")
    return float(share), float(min(low, share)), float(max(high, share))


def malignant_columns(states: Sequence[str]) -> list[str]:
    """Columns of the table of malignant cells, for these states."""
    shares = [*SUBTYPES, *states]
    return [
        *STRATUM,
        *("n_malignant", "n_ambiguous", "n_not_tested", "n_arms_called", "n_pdac_arms", "n_contrary_arms"),
        *("purist_probability", "purist_low", "purist_high", "purist_logit", "purist_informative_pairs"),
        *("purist_missing", "purist_reason", "n_subtyped"),
        *(f"fraction_{name}{end}" for name in shares for end in ("", "_low", "_high")),
        *(f"score_{state}" for state in states),
        "reason",
    ]


def summarise_malignant(
    cells: AnnData,
    arms: pd.DataFrame,
    counts: sp.csr_matrix,
    *,
    states: Sequence[str],
    min_state_z: float,
    min_cells: int,
    min_informative_pairs: int,
    n_bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Malignant cells of each patient, timepoint, tissue and modality: how many, which arms, which states.

    Parameters
    ----------
    cells
        Annotated cells.
    arms
        Chromosome arms per patient, as ``cnv.tsv``.
    counts
        Counts of the cells for PurIST, without ambient RNA where that is known: hepatocytes express SLC40A1 and DDC.
    states
        States of malignant cells.
    min_state_z
        Score of a stated state.
    min_cells
        Malignant cells that a row needs for anything beyond numbers.
    min_informative_pairs, n_bootstrap, seed
        For :func:`purist`.

    Returns
    -------
    One row per patient, timepoint, tissue and modality with any cell, with the columns of :func:`malignant_columns`.
    ``fraction_basal``, ``fraction_intermediate`` and ``fraction_classical`` are of the cells with a subtype
    (``n_subtyped``, expected number) and sum to 1: means of probabilities, which are less biased than counts of
    labels. ``fraction_<state>`` is the share of all malignant cells whose best state it is, ``score_<state>`` the mean.
    ``_low`` and ``_high`` are limits of :func:`share_interval`. The numbers of arms are those of the patient, missing
    where copy number was not tested.
    """
    columns = malignant_columns(states)
    order = np.argsort(cells.obs_names.to_numpy().astype(str), kind="stable")
    obs = cells.obs.iloc[order]
    counts = sp.csr_matrix(counts)[order]
    obs = obs.astype(dict.fromkeys([*STRATUM, keys.LIBRARY, keys.MALIGNANT, keys.COMPARTMENT, keys.CELL_STATE], str))
    probability = subtype_probabilities(obs, min_z=min_state_z).to_numpy()
    by_patient = _arms_per_patient(arms)
    rows = []
    for stratum, where in obs.groupby(STRATUM, sort=True).indices.items():
        call = obs[keys.MALIGNANT].to_numpy()[where]
        epithelial = obs[keys.COMPARTMENT].to_numpy()[where] == "epithelial"
        tumour = where[call == "malignant"]
        row = {
            **dict(zip(STRATUM, stratum, strict=True)),
            "n_malignant": tumour.size,
            "n_ambiguous": int((epithelial & (call == "ambiguous")).sum()),
            "n_not_tested": int((epithelial & (call == "not_tested")).sum()),
            **by_patient.get(stratum[0], {}),
        }
        if tumour.size < min_cells:
            too_few = f"{tumour.size} malignant cells, {min_cells} needed"
            row["reason"] = "; ".join(filter(None, [row.get("reason", ""), too_few]))
            row["purist_reason"] = too_few
            rows.append(row)
            continue
        found = purist(
            counts[tumour],
            cells.var_names,
            min_informative_pairs=min_informative_pairs,
            n_bootstrap=n_bootstrap,
            seed=seed,
        )
        row |= {
            "purist_probability": found.probability,
            "purist_low": found.low,
            "purist_high": found.high,
            "purist_logit": found.logit,
            "purist_informative_pairs": found.informative,
            "purist_missing": ", ".join(found.missing),
            "purist_reason": found.reason,
        }
        rows.append(row | _shares(obs.iloc[tumour], probability[tumour], states))
    table = pd.DataFrame(rows).reindex(columns=columns)
    table = table.fillna(dict.fromkeys(["reason", "purist_reason", "purist_missing"], ""))
    logger.info(
        "malignant cells: %d rows, %d with states, %d with PurIST",
        len(table),
        (table["n_malignant"] >= min_cells).sum(),
        table["purist_logit"].notna().sum(),
    )
    return table


def _shares(obs: pd.DataFrame, probability: np.ndarray, states: Sequence[str]) -> dict[str, float]:
    libraries = obs[keys.LIBRARY].to_numpy()
    probability = np.nan_to_num(probability)
    any_subtype = probability.sum(axis=1)
    parts = {name: (probability[:, i], any_subtype) for i, name in enumerate(SUBTYPES)}
    label = obs[keys.CELL_STATE].to_numpy()
    parts |= {state: ((label == state).astype(float), np.ones(len(obs))) for state in states}
    row: dict[str, float] = {"n_subtyped": round(float(any_subtype.sum()), 2)}
    for name, (shares, weights) in parts.items():
        values = share_interval(shares, weights, libraries)
        row |= {f"fraction_{name}{end}": value for end, value in zip(("", "_low", "_high"), values, strict=True)}
    row |= {f"score_{state}": float(obs[f"score_{state}"].mean()) for state in states if f"score_{state}" in obs}
    return row


def _arms_per_patient(arms: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Numbers of called, expected and contrary arms of each patient, and why there are none."""
    result: dict[str, dict[str, object]] = {}
    for patient, table in arms.fillna({"pdac": "", "reason": ""}).groupby(keys.PATIENT, sort=True):
        called = table["called"].isin(["gain", "loss"])
        row: dict[str, object] = {"reason": table["reason"].iloc[0]}
        if (table["called"] != "not_tested").any():
            row |= {
                "n_arms_called": int(called.sum()),
                "n_pdac_arms": int((called & (table["called"] == table["pdac"])).sum()),
                "n_contrary_arms": int((called & (table["pdac"] != "") & (table["called"] != table["pdac"])).sum()),
            }
        result[str(patient)] = row
    return result


def summarise_pdac_arms(arms: pd.DataFrame) -> pd.DataFrame:
    """In how many patients each recurrent event of pancreatic cancer is found.

    Parameters
    ----------
    arms
        Chromosome arms per patient, as ``cnv.tsv``.

    Returns
    -------
    One row per arm of :func:`livermet.cnv.pdac_arms`: arm, expected, genes, n_tested (patients with enough genes on
    it), n_found, n_contrary (called the other way), source, confidence.
    """
    table = pdac_arms().reset_index()
    tested = arms[arms["called"] != "not_tested"]
    calls = pd.crosstab(tested["arm"], tested["called"]).reindex(index=table["arm"]).fillna(0)
    calls = calls.reindex(columns=["gain", "loss", "neutral"], fill_value=0).astype(int).set_axis(table.index)
    gain = table["expected"] == "gain"
    table.insert(3, "n_tested", calls.sum(axis=1))
    table.insert(4, "n_found", calls["gain"].where(gain, calls["loss"]))
    table.insert(5, "n_contrary", calls["loss"].where(gain, calls["gain"]))
    return table
