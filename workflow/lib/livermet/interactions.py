"""Ligand-receptor interactions to and from malignant cells, scored per patient.

Each patient is scored alone, within one timepoint, tissue and modality, since expression of different patients or
protocols in one table would turn composition and chemistry into communication. What comes out describes expression;
the patient is the unit of anything that is concluded from it later.
"""

from __future__ import annotations

import logging
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse, stats

from livermet import keys
from livermet.neighbourhood import of_one_resolution

logger = logging.getLogger(__name__)

STRATUM = [keys.PATIENT, keys.TIMEPOINT, keys.TISSUE, keys.MODALITY]
EDGE = ["sender", "receiver", "ligand", "receptor"]
COLUMNS = [
    *STRATUM,
    *EDGE,
    "magnitude",
    "specificity",
    "consensus_rank",
    "n_sender",
    "n_receiver",
    "status",
    "evidence_grade",
    "ambient",
    "reason",
]
PANEL_COLUMNS = ["ligand", "receptor", "in_consensus", "evidence", "source", "why"]
NOT_A_TYPE = (keys.UNKNOWN, keys.UNCERTAIN_EPITHELIAL, "")
TARGET_SUM = 1e4
ANY = "any"  # stands for sender and receiver of a pair that no edge carries; an empty field would read as missing


def load_panel(path: str | Path = "") -> pd.DataFrame:
    """Curated ligand-receptor pairs of PDAC liver metastasis, or a user's own panel.

    Parameters
    ----------
    path
        A TSV with at least the columns ``ligand`` and ``receptor`` (HGNC symbols, subunits of a complex joined by "_");
        empty for the bundled panel.

    Returns
    -------
    DataFrame with ``ligand``, ``receptor``, ``in_consensus`` ("yes" where the consensus resource of liana holds the
    pair in this form), ``evidence`` ("V": seen in the named source; "K": domain knowledge), ``source`` and ``why``.

    Raises
    ------
    ValueError
        When a column is missing, a symbol is empty or holds blanks or a pair stands twice.
    """
    source = Path(path) if path else files("livermet") / "resources" / "lr_panel.tsv"
    with source.open(encoding="utf-8-sig") as stream:
        panel = pd.read_csv(stream, sep="\t", dtype=str, keep_default_na=False)
    missing = [name for name in ("ligand", "receptor") if name not in panel]
    if missing:
        raise ValueError(f"{path}: column {missing[0]} is missing; a panel needs the columns ligand and receptor")
    for column in ("ligand", "receptor"):
        bad = panel[~panel[column].str.fullmatch(r"[A-Za-z0-9.@/-]+(_[A-Za-z0-9.@/-]+)*")]
        if not bad.empty:
            raise ValueError(
                f"{path}, row {bad.index[0] + 2}: {column} is {bad[column].iloc[0]!r}; expected a gene symbol, or the "
                "symbols of a complex joined by '_'"
            )
    twice = panel[panel.duplicated(["ligand", "receptor"])]
    if not twice.empty:
        raise ValueError(
            f"{path}, row {twice.index[0] + 2}: the pair {twice['ligand'].iloc[0]} and {twice['receptor'].iloc[0]} "
            "stands twice; remove one row"
        )
    return panel.reindex(columns=PANEL_COLUMNS, fill_value="")


def consensus_resource() -> pd.DataFrame:
    """The consensus resource that liana bundles (``ligand``, ``receptor``); read from the package, never downloaded."""
    from liana.resource import select_resource

    return select_resource("consensus").drop_duplicates(ignore_index=True)


def union_of_pairs(panel: pd.DataFrame, resource: pd.DataFrame) -> pd.DataFrame:
    """Pairs of the panel followed by those of a resource that it lacks.

    Resources miss textbook pairs (CSF1-CSF1R, PVR-TIGIT), so a resource alone would report them as absent. A complex is
    the same whatever the order of its subunits.
    """
    both = pd.concat([panel[["ligand", "receptor"]], resource[["ligand", "receptor"]]], ignore_index=True)
    same = both.map(lambda symbols: "_".join(sorted(symbols.split("_"))))
    return both[~same.duplicated()].reset_index(drop=True)


def score_interactions(
    cells: AnnData,
    *,
    pairs: pd.DataFrame,
    ambient: pd.DataFrame,
    neighbourhood: pd.DataFrame,
    min_cells: int,
    expr_prop: float,
    n_permutations: int,
    ambient_top: int,
    max_contamination: float,
    min_support_patients: int,
    support_alpha: float,
    seed: int,
) -> pd.DataFrame:
    """Score ligand-receptor pairs between malignant cells and each other type, one patient at a time.

    Counts without ambient RNA are normalised per cell (10,000, log1p) and scored with liana's rank aggregate over five
    methods (CellPhoneDB, Connectome, log2FC, NATMI, SingleCellSignalR; Dimitrov et al. 2022). All pairs of types enter,
    since specificity means "against the other types"; only edges with malignant cells on one side are returned.

    Parameters
    ----------
    cells
        Counts, with the layer ``corrected``, and ``obs`` columns patient_id, timepoint, tissue, modality, library_id
        and cell_type. Cells without a named type are left out.
    pairs
        ``ligand`` and ``receptor``, subunits of a complex joined by "_"; the least expressed subunit counts.
    ambient
        Ambient fraction of genes (index) by library_id (columns); libraries without a profile are absent or zero.
    neighbourhood
        Neighbourhood enrichment with columns patient_id, tissue, type_a, type_b and z; may be empty.
    min_cells
        Fewest cells that a type needs in a patient, on either side.
    expr_prop
        Smallest share of a type's cells in which each subunit must be detected.
    n_permutations
        Permutations of cell labels behind liana's specificity; it describes cells, so it ranks edges and is no finding.
    ambient_top
        How many of the most abundant ambient genes of a patient count as ambient.
    max_contamination
        Largest share of a cell's counts that ambient RNA is believed to reach. Where an ambient gene's share of a
        type's counts is no larger than this times its share of the ambient profile, the edge is not scored: ambient
        RNA alone (of hepatocytes, mostly) would give as much.
    min_support_patients, support_alpha
        Spatial support of an edge (:func:`spatial_support`): fewest patients with both types in sections of that
        tissue and timepoint, and the level of the test over patients.
    seed
        Seed of the permutations.

    Returns
    -------
    DataFrame with the columns of ``COLUMNS``. Each edge that is scored in some patient has a row in every patient;
    a pair that is scored nowhere has one row per patient with "any" as sender and receiver.

    * ``magnitude``: LRscore of SingleCellSignalR, 0 to 1, higher is stronger. It is scaled by the patient's own mean
      expression, which makes it the one of liana's magnitudes that may be compared between patients.
    * ``specificity``: -log10 of liana's aggregated specificity rank, higher is more specific; within a patient only.
    * ``consensus_rank``: liana's aggregated magnitude rank, lower is stronger; within a patient only.
    * ``status``: "scored"; "too_few_cells" (a type below ``min_cells``, or no second type to compare with);
      "not_in_resource" (the pair can't be asked: a gene is not among those measured); "ambient" (ambient RNA would
      explain it); "not_detected".
    * ``evidence_grade``: "D" is expression only. "C" adds that both types lie together more often than their distance
      to the tumour border explains. Nothing here can reach A or B, which need patient-level association and
      downstream activity. Empty where not scored.
    * ``ambient``: which side is an ambient gene ("none", "ligand", "receptor", "both"), or "not_known".

    Raises
    ------
    ValueError
        When a needed column is missing.
    """
    _require(cells, pairs)
    obs = cells.obs[[*STRATUM, keys.LIBRARY, keys.CELL_TYPE]].astype(str)
    typed = ~obs[keys.CELL_TYPE].isin(NOT_A_TYPE).to_numpy()
    genes = pd.Index(cells.var_names)
    measured = _measured(pairs, genes)
    support = spatial_support(neighbourhood, min_patients=min_support_patients, alpha=support_alpha)

    scored, counts, flags = [], [], []
    for stratum, rows in _strata(obs, typed):
        types = obs[keys.CELL_TYPE].to_numpy()[rows]
        number = pd.Series(types).value_counts()
        enough = sorted(number.index[number >= min_cells])
        counts.append((stratum, number))
        if keys.MALIGNANT_TYPE not in enough or len(enough) < 2 or measured.empty:
            continue
        used = rows[np.isin(types, enough)]
        profile = _ambient_profile(ambient, obs[keys.LIBRARY].to_numpy()[rows], genes)
        corrected = sparse.csr_matrix(cells.layers[keys.CORRECTED][used])
        corrected.eliminate_zeros()  # a stored zero would count as detected
        edges = _score_one(
            corrected,
            genes,
            obs[keys.CELL_TYPE].to_numpy()[used],
            pairs=measured,
            expr_prop=expr_prop,
            n_permutations=n_permutations,
            seed=seed,
        )
        top = set() if profile is None else set(profile[profile > 0].nlargest(ambient_top, keep="all").index)
        if profile is not None and not edges.empty:
            share = _shares(sparse.csr_matrix(cells.X[used]), obs[keys.CELL_TYPE].to_numpy()[used], genes)
            soup = _explained_by_soup(edges, share, profile * max_contamination, top)
            edges["reason"] = np.where(soup != "", soup, "")
        edges[STRATUM] = stratum
        scored.append(edges)
        flags.append((stratum, None if profile is None else top))

    table = _grid(scored, counts, pairs=pairs, measured=measured, min_cells=min_cells)
    table["ambient"] = _ambient_column(table, dict(flags))
    table["evidence_grade"] = _grade(table, support)
    logger.info(
        "%d cells, %d pairs (%d measured): %d strata, %d of them scored, %d edges, %d rows scored",
        cells.n_obs,
        len(pairs),
        len(measured),
        len(counts),
        len(scored),
        len(table[EDGE].drop_duplicates()),
        int((table["status"] == "scored").sum()),
    )
    return table[COLUMNS].sort_values([*STRATUM, *EDGE], ignore_index=True)


def spatial_support(neighbourhood: pd.DataFrame, *, min_patients: int, alpha: float) -> pd.DataFrame:
    """Which pairs of cell types lie together in tissue, over patients.

    One-sided t test over patients of their z (sections of a patient at one timepoint are averaged first, those of the
    resolution that most patients have: z of spots and z of single cells are not one measure): types that clump by
    themselves reach a large z in single sections without standing together, so only what patients agree on counts.
    Sections without a border are left out, since their null is the weaker one, and so is a type with itself.

    Returns
    -------
    DataFrame with timepoint, tissue, type_a, type_b (in alphabetical order), n_patients, mean_z, p and supported.
    """
    place = [keys.TIMEPOINT, keys.TISSUE, "type_a", "type_b"]
    columns = [*place, "n_patients", "mean_z", "p", "supported"]
    table = neighbourhood[
        (neighbourhood["type_a"] != neighbourhood["type_b"]) & (neighbourhood["null"] == "distance_bins")
    ].dropna(subset="z")
    if table.empty:
        return pd.DataFrame(columns=columns)
    table = of_one_resolution(table)
    ordered = np.sort(table[["type_a", "type_b"]].to_numpy(dtype=str), axis=1)
    table = table.assign(type_a=ordered[:, 0], type_b=ordered[:, 1])
    by_patient = table.groupby([*place, keys.PATIENT])["z"].mean()
    result = by_patient.groupby(place).agg(n_patients="size", mean_z="mean", sd="std")
    statistic = result["mean_z"] / (result["sd"] / np.sqrt(result["n_patients"])).clip(lower=1e-9)
    result["p"] = stats.t.sf(statistic, (result["n_patients"] - 1).clip(lower=1))
    result["supported"] = (result["n_patients"] >= min_patients) & (result["p"] <= alpha)
    return result.reset_index()[columns]


def summarise_interactions(table: pd.DataFrame) -> pd.DataFrame:
    """One row per edge, timepoint, tissue and modality: how many patients, and how strong over them.

    Returns
    -------
    DataFrame with n_patients (all that the stratum holds), n_scored, n_not_detected, n_too_few_cells, median_magnitude,
    q25_magnitude, q75_magnitude, median_specificity, n_ambient (scored patients in whom either gene is ambient) and
    evidence_grade, strongest edges first. Pairs that were scored in no edge are left out. A median over few patients is
    no finding; n_scored stands beside it.
    """
    by = [keys.TIMEPOINT, keys.TISSUE, keys.MODALITY, *EDGE]
    numbers = ["n_patients", "n_scored", "n_not_detected", "n_too_few_cells"]
    strengths = ["median_magnitude", "q25_magnitude", "q75_magnitude", "median_specificity", "n_ambient"]
    edges = table[table["sender"] != ANY]
    if edges.empty:
        return pd.DataFrame(columns=[*by, *numbers, *strengths, "evidence_grade"])
    counts = (
        pd.get_dummies(edges["status"], dtype=int)
        .reindex(columns=["scored", "not_detected", "too_few_cells"], fill_value=0)
        .groupby([edges[name] for name in by])
        .sum()
    )
    result = pd.DataFrame(
        {
            "n_patients": edges.groupby(by)[keys.PATIENT].nunique(),
            "n_scored": counts["scored"],
            "n_not_detected": counts["not_detected"],
            "n_too_few_cells": counts["too_few_cells"],
        }
    )
    scored = edges[edges["status"] == "scored"]
    groups = scored.groupby(by)
    result["median_magnitude"] = groups["magnitude"].median()
    result["q25_magnitude"] = groups["magnitude"].quantile(0.25)
    result["q75_magnitude"] = groups["magnitude"].quantile(0.75)
    result["median_specificity"] = groups["specificity"].median()
    flagged = scored["ambient"].isin(["ligand", "receptor", "both"])
    result["n_ambient"] = flagged.groupby([scored[name] for name in by]).sum()
    result["evidence_grade"] = groups["evidence_grade"].first()
    result["n_ambient"] = result["n_ambient"].fillna(0).astype(int)
    result["evidence_grade"] = result["evidence_grade"].fillna("")
    return (
        result.reset_index()
        .sort_values(["n_scored", "median_magnitude", *by], ascending=[False, False, *[True] * len(by)])
        .reset_index(drop=True)
    )


def _require(cells: AnnData, pairs: pd.DataFrame) -> None:
    for name in (*STRATUM, keys.LIBRARY, keys.CELL_TYPE):
        if name not in cells.obs:
            raise ValueError(f"cells: obs column {name} is missing; expected annotated cells with their patient")
    for name in ("ligand", "receptor"):
        if name not in pairs:
            raise ValueError(f"pairs: column {name} is missing; expected ligand and receptor")


def _measured(pairs: pd.DataFrame, genes: pd.Index) -> pd.DataFrame:
    """Pairs of which every gene is among those measured."""
    known = set(genes)
    whole = [
        known.issuperset(f"{ligand}_{receptor}".split("_"))
        for ligand, receptor in zip(pairs["ligand"], pairs["receptor"], strict=True)
    ]
    return pairs.loc[whole, ["ligand", "receptor"]].reset_index(drop=True)


def _strata(obs: pd.DataFrame, typed: np.ndarray):
    """Each patient x timepoint x tissue x modality with the positions of its typed cells, ordered by cell name.

    The order fixes which label a permutation gives to which cell: results then don't depend on the order of cells.
    """
    by_name = np.argsort(obs.index.to_numpy(dtype=str), kind="stable")
    for stratum, group in obs.iloc[by_name].groupby(STRATUM, sort=True):
        rows = obs.index.get_indexer(group.index)
        yield stratum, rows[typed[rows]]


def _ambient_profile(ambient: pd.DataFrame, libraries: np.ndarray, genes: pd.Index) -> pd.Series | None:
    """Mean ambient profile of a patient's libraries over the measured genes, or None where none is known."""
    known = [name for name in sorted(set(libraries)) if name in ambient.columns and ambient[name].sum() > 0]
    if not known:
        return None
    return ambient[known].mean(axis=1).reindex(genes, fill_value=0.0)


def _score_one(
    counts: sparse.csr_matrix,
    genes: pd.Index,
    types: np.ndarray,
    *,
    pairs: pd.DataFrame,
    expr_prop: float,
    n_permutations: int,
    seed: int,
) -> pd.DataFrame:
    """Edges of one patient that liana scores, malignant cells on either side."""
    columns = [*EDGE, "magnitude", "specificity", "consensus_rank"]
    pairs = _expressed_somewhere(counts, genes, types, pairs=pairs, expr_prop=expr_prop)
    if pairs.empty:
        return pd.DataFrame(columns=columns)
    import liana

    totals = np.asarray(counts.sum(axis=1)).ravel()
    scale = sparse.diags_array(TARGET_SUM / np.maximum(totals, 1), format="csr")
    normal = sparse.csr_matrix(scale @ counts).astype(np.float32)
    normal.data = np.log1p(normal.data)
    seen = normal.getnnz(axis=0) > 0
    adata = AnnData(
        X=normal[:, seen],
        obs=pd.DataFrame({"cell_type": pd.Categorical(types)}, index=[str(i) for i in range(len(types))]),
        var=pd.DataFrame(index=genes[seen]),
    )
    result = liana.mt.rank_aggregate(
        adata,
        groupby="cell_type",
        resource=pairs.copy(),  # liana adds columns to the resource it is given
        expr_prop=expr_prop,
        min_cells=1,
        n_perms=n_permutations,
        seed=seed,
        use_raw=False,
        inplace=False,
        verbose=False,
    )
    result = result.rename(
        columns={
            "source": "sender",
            "target": "receiver",
            "ligand_complex": "ligand",
            "receptor_complex": "receptor",
            "lrscore": "magnitude",
            "magnitude_rank": "consensus_rank",
        }
    )
    malignant = (result["sender"] == keys.MALIGNANT_TYPE) | (result["receiver"] == keys.MALIGNANT_TYPE)
    result = result[malignant].astype({"sender": str, "receiver": str})
    # An all-equal patient ranks every edge 1: -log10 of it would be minus zero.
    result["specificity"] = np.abs(np.log10(result["specificity_rank"]))
    return result[columns].reset_index(drop=True)


def _expressed_somewhere(
    counts: sparse.csr_matrix, genes: pd.Index, types: np.ndarray, *, pairs: pd.DataFrame, expr_prop: float
) -> pd.DataFrame:
    """Pairs whose ligand reaches the threshold in some type and whose receptor does in some type.

    liana scores no other pair, and fails where none is left.
    """
    needed = sorted(set("_".join([*pairs["ligand"], *pairs["receptor"]]).split("_")))
    block = counts[:, genes.get_indexer(needed)]
    names = np.unique(types)
    present = np.vstack([block[types == name].getnnz(axis=0) / np.sum(types == name) for name in names]) >= expr_prop
    position = {gene: i for i, gene in enumerate(needed)}

    def reached(symbols: str) -> bool:
        return bool(present[:, [position[gene] for gene in symbols.split("_")]].all(axis=1).any())

    keep = pairs["ligand"].map(reached) & pairs["receptor"].map(reached)
    return pairs[keep].reset_index(drop=True)


def _shares(counts: sparse.csr_matrix, types: np.ndarray, genes: pd.Index) -> pd.DataFrame:
    """Share of each gene in the summed counts of each type; genes by types."""
    sums = {name: np.asarray(counts[types == name].sum(axis=0), dtype=float).ravel() for name in np.unique(types)}
    return pd.DataFrame({name: total / max(total.sum(), 1.0) for name, total in sums.items()}, index=genes)


def _explained_by_soup(edges: pd.DataFrame, share: pd.DataFrame, expected: pd.Series, top: set[str]) -> np.ndarray:
    """For each edge, in words, the gene that ambient RNA alone would give as much of; empty where there is none."""

    def soup(symbols: str, cell_type: str) -> str:
        return next((g for g in symbols.split("_") if g in top and share.loc[g, cell_type] <= expected[g]), "")

    words = []
    for edge in edges.itertuples():
        ligand, receptor = soup(edge.ligand, edge.sender), soup(edge.receptor, edge.receiver)
        gene, cell_type = (ligand, edge.sender) if ligand else (receptor, edge.receiver)
        words.append(f"{gene} in {cell_type} is no more than ambient RNA gives" if gene else "")
    return np.array(words, dtype=object)


def _grid(
    scored: list[pd.DataFrame],
    counts: list[tuple[tuple, pd.Series]],
    *,
    pairs: pd.DataFrame,
    measured: pd.DataFrame,
    min_cells: int,
) -> pd.DataFrame:
    """All edges that are scored somewhere, and all pairs that are scored nowhere, in every stratum, with status."""
    values = ["magnitude", "specificity", "consensus_rank"]
    table = pd.concat(scored, ignore_index=True) if scored else pd.DataFrame(columns=[*STRATUM, *EDGE, *values])
    table["reason"] = table["reason"].fillna("") if "reason" in table else ""
    edges = table[EDGE].drop_duplicates()
    nowhere = pairs.merge(edges[["ligand", "receptor"]].drop_duplicates(), how="left", indicator=True)
    nowhere = nowhere.loc[nowhere["_merge"] == "left_only", ["ligand", "receptor"]].assign(sender=ANY, receiver=ANY)
    rows = pd.concat([edges, nowhere[EDGE]], ignore_index=True)
    strata = pd.DataFrame([stratum for stratum, _ in counts], columns=STRATUM)
    grid = strata.merge(rows, how="cross").merge(table, how="left", on=[*STRATUM, *EDGE])
    grid["reason"] = grid["reason"].fillna("")
    grid[values] = grid[values].astype(float)

    number = {(*stratum, name): n for stratum, found in counts for name, n in found.items()}
    keyed = list(grid[STRATUM].itertuples(index=False, name=None))
    for side in ("sender", "receiver"):
        grid[f"n_{side}"] = [number.get((*key, name), 0) for key, name in zip(keyed, grid[side], strict=True)]
    malignant = np.array([number.get((*key, keys.MALIGNANT_TYPE), 0) for key in keyed], dtype=int)
    others = {s: int((n.drop(keys.MALIGNANT_TYPE, errors="ignore") >= min_cells).sum()) for s, n in counts}
    alone = np.array([others[key] == 0 for key in keyed], dtype=bool)

    asked = pd.MultiIndex.from_frame(grid[["ligand", "receptor"]]).isin(pd.MultiIndex.from_frame(measured))
    named = (grid["sender"] != ANY).to_numpy()
    few = (malignant < min_cells) | alone
    few |= named & ((grid["n_sender"] < min_cells) | (grid["n_receiver"] < min_cells)).to_numpy()
    is_scored = grid["magnitude"].notna().to_numpy()
    explained = is_scored & (grid["reason"] != "").to_numpy()
    grid["status"] = np.select(
        [~asked, few, explained, is_scored],
        ["not_in_resource", "too_few_cells", "ambient", "scored"],
        default="not_detected",
    )
    grid.loc[grid["status"] != "scored", values] = np.nan
    words = {
        "not_in_resource": "a gene of the pair is not among the measured genes",
        "too_few_cells": f"fewer than {min_cells} cells of malignant_ductal or of the other type",
        "not_detected": "detected in too few cells of sender or receiver",
    }
    grid["reason"] = grid["reason"].where(explained, grid["status"].map(words).fillna(""))
    return grid


def _ambient_column(table: pd.DataFrame, top: dict[tuple, set[str] | None]) -> list[str]:
    """Which side of each edge is an ambient gene of its patient."""
    words = {(True, True): "both", (True, False): "ligand", (False, True): "receptor", (False, False): "none"}
    column = []
    for row in table[[*STRATUM, "ligand", "receptor"]].itertuples(index=False, name=None):
        genes = top.get(row[:4])
        sides = None if genes is None else tuple(not genes.isdisjoint(symbols.split("_")) for symbols in row[4:])
        column.append("not_known" if sides is None else words[sides])
    return column


def _grade(table: pd.DataFrame, support: pd.DataFrame) -> np.ndarray:
    """C where sender and receiver lie together in that tissue and timepoint, else D; empty where not scored."""
    place = [keys.TIMEPOINT, keys.TISSUE]
    supported = support.loc[support["supported"].astype(bool), [*place, "type_a", "type_b"]]
    near = set(supported.itertuples(index=False, name=None))
    together = [
        (timepoint, tissue, *sorted((sender, receiver))) in near
        for timepoint, tissue, sender, receiver in table[[*place, "sender", "receiver"]].itertuples(index=False)
    ]
    return np.where(table["status"] != "scored", "", np.where(together, "C", "D"))
