"""Programmes of malignant cells at the invasive margin against the core, adjusted for admixture; patients as the unit.

At the margin a spot holds hepatocytes, and a segmented cell their transcripts, so that a plain comparison with the core
finds hepatocyte genes. Here expression is explained by the composition of the spot (of the neighbourhood, where single
cells are resolved), and only what its malignant part does differently at the margin counts.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy import stats
from scipy.spatial import cKDTree

from livermet import keys
from livermet.gene_sets import read_gene_sets
from livermet.markers import load_markers, states_of
from livermet.pseudobulk import LIBRARIES, ambient_genes
from livermet.refusals import COHORT, refuse_unattainable
from livermet.section import Section
from livermet.statistics import benjamini_hochberg

logger = logging.getLogger(__name__)

# States of the marker table that the larger sets of these programmes measure as well.
SAME_AS_SETS = ("mal_emt", "mal_cycling", "mal_hypoxia")
SETS = {"EMT": ["EMT"], "hypoxia": ["hypoxia"], "proliferation": ["cell_cycle_S", "cell_cycle_G2M"]}
PLACE = [keys.TIMEPOINT, keys.TISSUE, keys.MODALITY]
IDENTITY = [keys.LIBRARY, keys.PATIENT, *PLACE]
MEASURES = ["difference", "se", "z_control", "n_margin", "n_core", "n_genes"]
SECTION_COLUMNS = [*IDENTITY, "programme", *MEASURES, "reason"]
PATIENT_COLUMNS = [
    *(keys.PATIENT, *PLACE, "programme"),
    *("difference", "se", "n_margin", "n_core", "n_sections", "reason"),
]
PROFILE_COLUMNS = ["kind", "name", "bin_um", "mean", "n_spots"]
TEST_COLUMNS = [
    *(*PLACE, "programme", "n", "effect", "ci_low", "ci_high", "p", "q"),
    *("smallest_attainable_p", "status", "refusal_code", "refusal_reason"),
]
MIN_FRACTION = 0.02  # types with less of a section's RNA share one column of the design
OBSERVATIONS_PER_TERM = 10
MIN_COUNTS = 20  # of a gene over core and margin: below it, change relative to its mean is noise
MIN_GENES = 5
MATCHED_GENES = 50  # drawn upon for each gene of a programme
BLOCK_UM = 500.0
MIN_MALIGNANT = 0.1  # mean malignant share of a distance bin whose malignant expression is estimated,
MIN_IN_BIN = 5  # and the observations it needs


@dataclass(frozen=True)
class Mixture:
    """What the expression of the used observations is explained by.

    ``rows``: their positions in the section; ``design``: observations x terms; ``malignant``: malignant part of each;
    ``margin``: term of the malignant part at the margin; ``malignant_terms``: all terms of malignant cells, that of the
    core first.
    """

    rows: np.ndarray
    design: np.ndarray
    malignant: np.ndarray
    margin: int
    malignant_terms: tuple[int, ...]


@dataclass(frozen=True)
class SectionInvasion:
    """``table``: a row per programme (``MEASURES``, reason); ``profile``: malignant expression by distance."""

    table: pd.DataFrame
    profile: pd.DataFrame


def load_programmes(path: str = "") -> dict[str, pd.Series]:
    """Weights of the genes of each programme, by gene.

    The project's own (``SETS`` of gene_sets.tsv, and programmes.tsv), the states of malignant cells of the marker
    table but those that are among ``SETS`` by another name, and the sets of the user's file
    (:func:`livermet.gene_sets.read_gene_sets`), which win over those of the same name.
    """
    table = pd.DataFrame(read_gene_sets())
    chosen = {name: table[table["set"].isin(sets)] for name, sets in SETS.items()}
    for source in ["", path] if path else [""]:
        rows = pd.DataFrame(read_gene_sets(source, resource="programmes.tsv", option="invasion.programmes"))
        chosen |= dict(iter(rows.groupby("set", sort=False)))
    markers = load_markers()
    names = [name for name in states_of()[keys.MALIGNANT_TYPE] if name not in SAME_AS_SETS]
    states = {name: pd.Series(1.0, index=markers.loc[name, "genes"]) for name in names}
    return states | {
        name: rows.drop_duplicates("gene").set_index("gene")["weight"].astype(float) for name, rows in chosen.items()
    }


def kind_of(programme: str) -> str:
    """ "state" for a state of malignant cells of the marker table, else "programme"."""
    return "state" if programme in states_of()[keys.MALIGNANT_TYPE] else "programme"


def rna_fractions(abundance: pd.DataFrame, sizes: pd.Series) -> pd.DataFrame:
    """Fractions of a spot's RNA by type, from fractions of its cells and the counts of a cell of each type.

    A type without a profile counts as of median size.
    """
    amount = abundance * sizes.reindex(abundance.columns).fillna(sizes.median()).to_numpy()
    return amount.div(amount.sum(axis=1), axis=0)


def spot_mixture(fractions: pd.DataFrame, zone: np.ndarray) -> Mixture:
    """Design of spots or bins: the RNA fraction of each type, and what may differ by zone.

    All spots take part, those in the liver too: the wide range of hepatocytes keeps the error of their abundance from
    diluting what they explain. Terms of their own have the malignant cells of margin, inner rim and liver side, the
    hepatocytes of the margin (injured ones express acute-phase genes there), and its other cells.
    """
    rows = np.flatnonzero(fractions.notna().all(axis=1).to_numpy() & (zone != "none"))
    shares, zone = fractions.iloc[rows], zone[rows]
    main = [keys.MALIGNANT_TYPE, keys.HEPATOCYTE]
    mean = shares.drop(columns=main).mean().sort_values(ascending=False, kind="stable")
    room = max(0, len(rows) // OBSERVATIONS_PER_TERM - 8)
    types = [*main, *mean.index[mean >= MIN_FRACTION][:room]]
    malignant, hepatocyte = shares[main].to_numpy().T
    margin = zone == "margin"
    columns = [
        shares[types].to_numpy(),
        shares.drop(columns=types).sum(axis=1),
        malignant * margin,
        malignant * (zone == "inner_rim"),
        malignant * np.isin(zone, ["peritumoral", "distant"]),
        hepatocyte * margin,
        (1 - malignant - hepatocyte) * margin,
    ]
    first = len(types) + 1
    return Mixture(rows, np.column_stack(columns), malignant, first, (0, first, first + 1, first + 2))


def cell_mixture(section: Section) -> Mixture:
    """Design of malignant cells: their zone, and the share of each other type among their neighbours."""
    labels = pd.Series(section.cell_type)
    malignant = (labels == keys.MALIGNANT_TYPE).to_numpy()
    rows = np.flatnonzero(malignant & (section.zone != "none"))
    around = sp.csr_matrix(section.graph)[rows]
    degree = np.maximum(np.asarray(around.sum(axis=1)).ravel(), 1)
    others = labels[~malignant].value_counts().index
    shares = pd.DataFrame({name: (around @ (labels == name).to_numpy(float)) / degree for name in sorted(others)})
    mean = shares.mean().sort_values(ascending=False, kind="stable")
    room = max(0, len(rows) // OBSERVATIONS_PER_TERM - 6)
    types = [name for name in [keys.HEPATOCYTE, *mean.index[mean >= MIN_FRACTION][:room]] if name in shares]
    types = list(dict.fromkeys(types))
    zone = section.zone[rows]
    columns = [
        np.ones(len(rows)),
        shares[types].to_numpy(),
        shares.drop(columns=types).sum(axis=1).to_numpy(),
        zone == "margin",
        zone == "inner_rim",
        np.isin(zone, ["peritumoral", "distant"]),
    ]
    first = len(types) + 2
    return Mixture(rows, np.column_stack(columns), np.ones(len(rows)), first, (0, first, first + 1, first + 2))


def least_squares(design: np.ndarray, weight: np.ndarray) -> np.ndarray | None:
    """Terms x observations: the matrix that turns values into weighted least-squares coefficients.

    Terms without any value get zero; None if the others depend on each other.
    """
    used = np.abs(design).max(axis=0, initial=0) > 0
    scaled = design[:, used] * np.sqrt(weight)[:, None]
    if len(scaled) < used.sum() or np.linalg.matrix_rank(scaled) < used.sum():
        return None
    result = np.zeros(design.T.shape)
    result[used] = np.linalg.solve(scaled.T @ scaled, (scaled * np.sqrt(weight)[:, None]).T)
    return result


def malignant_share(profiles: AnnData, genes: pd.Index, composition: pd.Series) -> np.ndarray:
    """Share of each gene's counts that malignant cells contribute in tissue of a composition; 0 where not known.

    profiles: one per type; composition: RNA fractions by type.
    """
    matrix = np.asarray(profiles.X, dtype=np.float64)
    amount = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-12)
    amount = amount * composition.reindex(profiles.obs_names, fill_value=0.0).to_numpy()[:, None]
    total = amount.sum(axis=0)
    own = amount[profiles.obs_names.get_loc(keys.MALIGNANT_TYPE)]
    share = pd.Series(np.divide(own, total, out=np.zeros_like(own), where=total > 0), index=profiles.var_names)
    return share.reindex(genes, fill_value=0.0).to_numpy()


def _surroundings(section: Section, mixture: Mixture, fractions: pd.DataFrame) -> pd.Series:
    """RNA fractions as a malignant transcript of the margin finds them around it.

    In its spot; of its cell and that cell's neighbours, where single cells are resolved.
    """
    around = fractions.fillna(0.0)
    if section.resolution == "cell":
        degree = 1 + np.asarray(section.graph.sum(axis=1))
        around = around.add(section.graph @ around.to_numpy()).div(degree)
    margin = mixture.rows[section.zone[mixture.rows] == "margin"]
    weight = mixture.malignant[section.zone[mixture.rows] == "margin"]
    return (around.iloc[margin] * weight[:, None]).sum() / max(weight.sum(), 1e-12)


def section_invasion(
    mapped: AnnData,
    section: Section,
    profiles: AnnData,
    programmes: Mapping[str, pd.Series],
    *,
    min_spots: int,
    min_cells: int,
    min_malignant_share: float,
    ambient_top: int,
    max_contamination: float,
    bin_um: float,
) -> SectionInvasion:
    """Difference of each programme between malignant cells of the margin and of the core of one section.

    The expression of a gene (share of an observation's counts) is linear in the composition, so it is fitted by least
    squares, weighted by the observation's counts (:func:`spot_mixture`, :func:`cell_mixture`). A gene's change is the
    coefficient of the malignant part at the margin over the gene's mean in core and margin; a programme's is the mean
    over its genes, each weighted by the square root of its mean, as counting noise asks. From it the same mean over
    genes of like expression and like malignant share is subtracted, ``MATCHED_GENES`` for each gene (after Tirosh et
    al. 2016 Science); their spread gives ``z_control`` in closed form, as draws of random sets would.

    Left out are genes with fewer than ``MIN_COUNTS`` counts in core and margin, those of whose counts in the
    malignant cells' surroundings less than ``min_malignant_share`` come from malignant cells by the reference, and
    those that ambient RNA explains (:func:`livermet.pseudobulk.ambient_genes`).

    Assumes that other types than hepatocytes change towards the margin alike, and abundances without bias. Not a test:
    spots are no replicates.

    A section without zones, one whose reference lacks malignant cells or hepatocytes (a polygon may give it a border
    all the same), and one with too few observations in margin or core get the reason in place of numbers.

    Parameters
    ----------
    mapped
        The section as ``zones.map_section`` left it, raw counts in X.
    section
        The same by :func:`livermet.section.section_of`.
    profiles
        Reference of the patient (:func:`livermet.deconvolve.profiles_of_patient`).
    programmes
        As read by :func:`load_programmes`.
    min_spots, min_cells
        Spots, or malignant cells, that margin and core each need; bins count as cells.
    bin_um
        Width of the bins of the profile, um.

    Returns
    -------
    ``table``: difference in units of the programme's mean expression (0.5: half as much again as in the core), ``se``
    (the larger of a sandwich over squares of ``BLOCK_UM`` and the spread over matched genes), and numbers. ``profile``:
    the malignant part's programme at each distance, the core being 0 (``PROFILE_COLUMNS``).
    """
    cells = section.resolution == "cell"
    reason = no_margin(mapped) or _no_profile(section, profiles)
    numbers = dict.fromkeys(["n_margin", "n_core"], 0)
    mixture = None
    if not reason:
        fractions = rna_fractions(section.abundance, pd.Series(np.asarray(profiles.X).sum(axis=1), profiles.obs_names))
        mixture = cell_mixture(section) if cells else spot_mixture(fractions, section.zone)
        zone = section.zone[mixture.rows]
        numbers = {f"n_{name}": int((zone == name).sum()) for name in ("margin", "core")}
        needed = min_spots if section.resolution == "spot" else min_cells
        what = {"spot": "spots", "bin": "bins", "cell": "malignant cells"}[section.resolution]
        few = [name for name in ("margin", "core") if numbers[f"n_{name}"] < needed]
        if few:
            reason = f"{numbers[f'n_{few[0]}']} {what} in the {few[0]}, {needed} needed"
    if reason:
        return _nothing(programmes, numbers, reason)

    counts = sp.csr_matrix(mapped.X)[mixture.rows].astype(np.float64)
    depth = np.asarray(counts.sum(axis=1)).ravel()
    weight = depth / depth.mean()
    solver = least_squares(mixture.design, weight)
    if solver is None:
        return _nothing(programmes, numbers, "the composition tells margin from core: their difference has no estimate")
    values = sp.csr_matrix(sp.diags(1 / np.maximum(depth, 1)) @ counts)
    zones = [zone == "core", zone == "margin"]
    level = np.mean([np.asarray(values[where].mean(axis=0)).ravel() for where in zones], axis=0)
    known = np.asarray(counts[zones[0] | zones[1]].sum(axis=0)).ravel() >= MIN_COUNTS
    share = malignant_share(profiles, mapped.var_names, _surroundings(section, mixture, fractions))
    usable = known & (share >= min_malignant_share)
    soup = _ambient(mapped, profiles, section.library_id, ambient_top=ambient_top, max_contamination=max_contamination)
    usable &= ~soup
    logger.info("%s: %d of %d genes usable", section.library_id, usable.sum(), len(usable))

    change = np.divide(values.T @ solver[mixture.margin], level, out=np.zeros_like(level), where=level > 0)
    matching = np.column_stack([np.log(np.maximum(level, 1e-12)), np.log(share + 0.01) - np.log(1.01 - share)])
    rows, scores = [], {}
    for name, weights in programmes.items():
        found = programme_weights(weights, mapped.var_names, usable, level, matching)
        if isinstance(found, str):
            rows.append({"programme": name, "n_genes": 0, "reason": found})
            continue
        own, among, portions = found
        spread = math.sqrt(float((portions**2 * change[among].var(axis=1)).sum()))
        gene_weights = np.zeros(len(level))
        np.add.at(gene_weights, own, portions / level[own])
        np.add.at(
            gene_weights, among.ravel(), np.repeat(-portions / among.shape[1], among.shape[1]) / level[among.ravel()]
        )
        score = values @ gene_weights
        difference, error = _contrast(score, mixture, solver, section.coordinates[mixture.rows])
        rows.append(
            {
                "programme": name,
                "difference": difference,
                "se": max(error, spread),
                "z_control": difference / spread if spread > 0 else np.nan,
                "n_genes": len(own),
                "reason": "",
            }
        )
        scores[name] = score
    table = pd.DataFrame(rows).assign(**numbers).reindex(columns=["programme", *MEASURES, "reason"])
    profile = _profile(scores, mixture, solver, weight, section.distance[mixture.rows], bin_um=bin_um)
    return SectionInvasion(table, profile)


def without_border(mapped: AnnData) -> str:
    """ "" or why a mapped section has no tumour-liver border."""
    meta = mapped.uns[keys.META]
    if not mapped.n_obs:
        return str(meta.get("reason") or "no spot was kept")
    return str(meta["border_reason"])


def no_margin(mapped: AnnData) -> str:
    """ "" or why a mapped section has no invasive margin: no border, or zones that were refused beside one."""
    return without_border(mapped) or str(mapped.uns[keys.META].get("zone_reason", ""))


def _no_profile(section: Section, profiles: AnnData) -> str:
    """ "" or which of malignant cells and hepatocytes can't be told apart for want of a profile."""
    lacking = [
        name
        for name in (keys.MALIGNANT_TYPE, keys.HEPATOCYTE)
        if name not in section.abundance or name not in profiles.obs_names
    ]
    return f"no profile of {' and '.join(lacking)} in the reference" if lacking else ""


def _nothing(programmes: Mapping[str, pd.Series], numbers: Mapping[str, int], reason: str) -> SectionInvasion:
    table = pd.DataFrame({"programme": list(programmes), "n_genes": 0, "reason": reason}).assign(**numbers)
    return SectionInvasion(
        table.reindex(columns=["programme", *MEASURES, "reason"]), pd.DataFrame(columns=PROFILE_COLUMNS)
    )


def _ambient(
    mapped: AnnData, profiles: AnnData, library: str, *, ambient_top: int, max_contamination: float
) -> np.ndarray:
    """Genes that ambient RNA explains in malignant cells; none where the section has no ambient profile."""
    if keys.AMBIENT not in mapped.var:
        return np.zeros(mapped.n_vars, dtype=bool)
    own = pd.Series(np.asarray(profiles[keys.MALIGNANT_TYPE].X, dtype=float).ravel(), index=profiles.var_names).reindex(
        mapped.var_names, fill_value=0.0
    )
    profile = AnnData(
        own.to_numpy()[None], obs=pd.DataFrame({LIBRARIES: [library]}, index=["p"]), var=mapped.var[[keys.AMBIENT]]
    )
    ambient = mapped.var[[keys.AMBIENT]].astype(float).fillna(0.0).rename(columns={keys.AMBIENT: library})
    soup = ambient_genes(profile, ambient, ambient_top=ambient_top, max_contamination=max_contamination)
    return np.zeros(mapped.n_vars, dtype=bool) if soup is None else soup


def programme_weights(
    weights: pd.Series, genes: pd.Index, usable: np.ndarray, level: np.ndarray, matching: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | str:
    """Genes of a programme, those matched to each, and the portion of each in the mean; or why there are too few.

    Parameters
    ----------
    weights
        By gene; negative for a gene that falls with the programme.
    usable, level
        Per gene of the section.
    matching
        Genes x properties in which matched genes are alike.

    Returns
    -------
    Positions of the genes, genes x matched positions, and signed portions whose absolute values sum to 1.
    """
    position = genes.get_indexer(weights.index)
    measured = position >= 0
    take = measured & usable[position]
    own = position[take]
    if len(own) < MIN_GENES:
        return (
            f"{len(own)} of {len(weights)} genes ({measured.sum()} measured) are expressed enough by malignant cells, "
            f"{MIN_GENES} needed"
        )
    pool = np.setdiff1d(np.flatnonzero(usable), position)
    pool = pool[np.argsort(genes[pool].to_numpy(str), kind="stable")]
    if len(pool) < MATCHED_GENES:
        return f"{len(pool)} other genes to compare with, {MATCHED_GENES} needed"
    scale = np.maximum(matching[pool].std(axis=0), 1e-9)
    among = pool[cKDTree(matching[pool] / scale).query(matching[own] / scale, k=MATCHED_GENES)[1]]
    portions = np.sign(weights.to_numpy()[take]) * np.abs(weights.to_numpy()[take]) * np.sqrt(level[own])
    return own, among, portions / np.abs(portions).sum()


def _contrast(score: np.ndarray, mixture: Mixture, solver: np.ndarray, xy: np.ndarray) -> tuple[float, float]:
    """Coefficient of the malignant part at the margin, and its error with squares of tissue as clusters."""
    coefficients = solver @ score
    influence = solver[mixture.margin] * (score - mixture.design @ coefficients)
    squares = np.unique(np.floor(xy / BLOCK_UM), axis=0, return_inverse=True)[1].ravel()
    sums = np.bincount(squares, weights=influence)
    n = len(sums)
    return float(coefficients[mixture.margin]), math.sqrt(float((sums**2).sum()) * n / max(n - 1, 1))


def _profile(
    scores: Mapping[str, np.ndarray],
    mixture: Mixture,
    solver: np.ndarray,
    weight: np.ndarray,
    distance: np.ndarray,
    *,
    bin_um: float,
) -> pd.DataFrame:
    """Programme of the malignant part by distance: slope on it, within bins, once the other types are taken out."""
    bins = pd.Series(np.floor(distance / bin_um))
    amount = (
        pd.DataFrame({"n_spots": 1, "share": mixture.malignant, "square": weight * mixture.malignant**2})
        .groupby(bins.to_numpy())
        .agg({"n_spots": "sum", "share": "mean", "square": "sum"})
    )
    usable = amount.index[(amount["share"] >= MIN_MALIGNANT) & (amount["n_spots"] >= MIN_IN_BIN)]
    tables = []
    for name, score in scores.items():
        coefficients = solver @ score
        core = coefficients[0]
        coefficients[list(mixture.malignant_terms)] = 0
        rest = score - mixture.design @ coefficients
        slope = pd.Series(weight * mixture.malignant * rest).groupby(bins).sum() / amount["square"] - core
        tables.append(
            pd.DataFrame(
                {
                    "kind": kind_of(name),
                    "name": name,
                    "bin_um": (usable.to_numpy() + 0.5) * bin_um,
                    "mean": slope[usable].to_numpy(),
                    "n_spots": amount.loc[usable, "n_spots"].to_numpy(),
                }
            )
        )
    return stacked(tables, PROFILE_COLUMNS)


def stacked(tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """Tables one below the other; an empty one with its columns where none has a row."""
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True)[list(columns)] if filled else pd.DataFrame(columns=list(columns))


def combine_patients(sections: pd.DataFrame) -> pd.DataFrame:
    """One row per patient, timepoint, tissue, modality and programme: sections weighted by their inverse variance.

    sections: as ``SECTION_COLUMNS``. Where no section has an estimate, the numbers of those there are and their
    reasons.
    """
    rows = []
    for names, group in sections.groupby([keys.PATIENT, *PLACE, "programme"], sort=True):
        known = group[group["difference"].notna() & (group["se"] > 0)]
        used = known if len(known) else group
        row = dict(zip(PATIENT_COLUMNS, names, strict=False)) | {
            "n_margin": int(used["n_margin"].sum()),
            "n_core": int(used["n_core"].sum()),
            "n_sections": len(known),
            "difference": np.nan,
            "se": np.nan,
            "reason": "",
        }
        if len(known):
            weight = 1 / known["se"] ** 2
            row |= {"difference": float((weight * known["difference"]).sum() / weight.sum())}
            row |= {"se": float(weight.sum() ** -0.5)}
        else:
            row["reason"] = "; ".join(f"{r[keys.LIBRARY]}: {r['reason']}" for r in group.to_dict("records"))
        rows.append(row)
    return pd.DataFrame(rows, columns=PATIENT_COLUMNS)


def sign_flip_p(values: np.ndarray, *, n_permutations: int, seed: int) -> float:
    """Two-sided p of the mean against random signs.

    Hypothesis: the differences are symmetric about 0. Unit: the patient. All 2^n sign patterns are visited where
    there are no more than ``n_permutations``, else so many random ones beside the observed (Phipson and Smyth 2010).
    """
    n = len(values)
    if 2**n <= n_permutations:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        drawn = np.random.default_rng(seed).choice([-1, 1], size=(n_permutations, n))
        signs = np.vstack([np.ones((1, n), dtype=int), drawn])
    means = np.abs(signs @ np.asarray(values, float))
    observed = abs(float(np.sum(values)))
    return float((means >= observed - 1e-9 * max(observed, 1e-12)).mean())


def smallest_sign_flip_p(n: int, *, n_permutations: int) -> float:
    """The smallest p that :func:`sign_flip_p` can return for n patients (6 patients: 0.031)."""
    return min(1.0, 2 / 2**n) if 2**n <= n_permutations else 1 / (n_permutations + 1)


def programme_tests(
    patients: pd.DataFrame,
    *,
    scope: str,
    min_patients: int,
    alpha: float,
    n_permutations: int,
    seed: int,
) -> pd.DataFrame:
    """Whether malignant cells of the margin differ from those of the core, over patients.

    Each timepoint, tissue and modality by itself: they are never mixed, and a batch scope is described, not tested.
    Sign-flip permutation over patients, each counting once; 95 % t interval of the mean; q by Benjamini and Hochberg
    over the tested programmes of a timepoint, tissue and modality. Refused with fewer than ``min_patients`` patients
    (R01), or where no result could reach alpha (R02), then without interval and p.

    Parameters
    ----------
    patients
        As made by :func:`combine_patients`.
    """
    rows = []
    for names, group in patients.groupby([*PLACE, "programme"], sort=True):
        values = group.dropna(subset="difference").sort_values(keys.PATIENT)["difference"].to_numpy(float)
        n = len(values)
        smallest = smallest_sign_flip_p(n, n_permutations=n_permutations) if n else np.nan
        code, reason = _refusal(n, smallest, scope=scope, min_patients=min_patients, alpha=alpha)
        row = dict(zip(TEST_COLUMNS, names, strict=False)) | {
            "n": n,
            "effect": float(values.mean()) if n else np.nan,
            "smallest_attainable_p": smallest,
            "status": "refused" if code else "tested",
            "refusal_code": code,
            "refusal_reason": reason,
        }
        if not code:
            half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n))
            row |= {"ci_low": row["effect"] - half, "ci_high": row["effect"] + half}
            row["p"] = sign_flip_p(values, n_permutations=n_permutations, seed=seed)
        rows.append(row)
    table = pd.DataFrame(rows, columns=TEST_COLUMNS)
    tested = table[table["status"] == "tested"]
    for _, family in tested.groupby(PLACE):
        table.loc[family.index, "q"] = benjamini_hochberg(family["p"].to_numpy(float))
    return table


def _refusal(n: int, smallest: float, *, scope: str, min_patients: int, alpha: float) -> tuple[str, str]:
    if scope != COHORT:
        return "R19", (
            f"scope {scope} is one batch: testing each accruing batch gives a hit by chance in one of five studies, so "
            f"a batch is described only. Lifted by scope: {COHORT}"
        )
    if n < min_patients:
        return "R01", (
            f"{n} patients with an estimate, {min_patients} needed. Lifted by more patients with margin and core in a "
            f"section"
        )
    reason = refuse_unattainable(smallest, alpha=alpha).replace(", or by centres that hold both classes", "")
    return ("R02", reason) if reason else ("", "")


def with_identity(table: pd.DataFrame, row: Mapping[str, Any]) -> pd.DataFrame:
    """A section's table with its identity (library_id, patient_id, timepoint, tissue, modality) in front."""
    return table.assign(**{name: str(row[name]) for name in IDENTITY})[[*IDENTITY, *table.columns]]
