"""Ligand-receptor scores: a planted pair is found, ambient RNA is not, and every way to have no result has a name."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from livermet import keys
from livermet.files import read_table, write_table
from livermet.interactions import (
    COLUMNS,
    PANEL_COLUMNS,
    consensus_resource,
    load_panel,
    score_interactions,
    spatial_support,
    summarise_interactions,
    union_of_pairs,
)
from livermet.plots.interactions import plot_interactions

LIGANDS = [f"LIG{i}" for i in range(8)]
RECEPTORS = [f"REC{i}" for i in range(8)]
PAIRS = pd.DataFrame({"ligand": [*LIGANDS, "LIG0_LIG1", "GONE"], "receptor": [*RECEPTORS, "REC0", "REC1"]})
GENES = [*LIGANDS, *RECEPTORS, "ALB", *(f"G{i}" for i in range(183))]
TYPES = {keys.MALIGNANT_TYPE: 60, "tam_SPP1": 50, "t_reg": 40, keys.HEPATOCYTE: 40, keys.UNKNOWN: 30, "b_cell": 5}
NO_NEIGHBOURS = pd.DataFrame(
    columns=["patient_id", "timepoint", "tissue", "type_a", "type_b", "z", "null", "resolution"]
)
NO_AMBIENT = pd.DataFrame(index=GENES)
OPTIONS = {
    "min_cells": 20,
    "expr_prop": 0.1,
    "n_permutations": 20,
    "ambient_top": 5,
    "max_contamination": 0.2,
    "min_support_patients": 3,
    "support_alpha": 0.05,
    "seed": 1,
}


def patient(name, *, seed, types=TYPES, modality="scrna", planted=True):
    """Cells of one patient: every pair at the same low level, LIG0 from macrophages to REC0 of malignant cells high."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(list(types), list(types.values()))
    mean = np.full((len(labels), len(GENES)), 0.8)
    if planted:
        mean[labels == "tam_SPP1", GENES.index("LIG0")] = 12.0
        mean[labels == keys.MALIGNANT_TYPE, GENES.index("REC0")] = 12.0
    mean[:, GENES.index("ALB")] = np.where(labels == keys.HEPATOCYTE, 60.0, 1.5)
    obs = pd.DataFrame(
        {
            "patient_id": name,
            "timepoint": "T0_pre",
            "tissue": "liver_met",
            "modality": modality,
            "library_id": f"L{name}",
            "cell_type": pd.Categorical(labels),
        },
        index=[f"L{name}:{i:04d}" for i in range(len(labels))],
    )
    counts = sparse.csr_matrix(rng.poisson(mean).astype(np.int32))
    return AnnData(X=counts, obs=obs, var=pd.DataFrame(index=GENES), layers={"corrected": counts.copy()})


def cohort(*patients):
    adata = AnnData(
        X=sparse.vstack([p.X for p in patients], format="csr"),
        layers={"corrected": sparse.vstack([p.layers["corrected"] for p in patients], format="csr")},
        obs=pd.concat([p.obs.astype({"cell_type": str}) for p in patients]),
        var=patients[0].var,
    )
    adata.obs["cell_type"] = adata.obs["cell_type"].astype("category")
    return adata


def run(cells, *, pairs=PAIRS, ambient=NO_AMBIENT, neighbourhood=NO_NEIGHBOURS, **changes):
    return score_interactions(cells, pairs=pairs, ambient=ambient, neighbourhood=neighbourhood, **(OPTIONS | changes))


def edge(table, sender, receiver, ligand, receptor):
    mask = (table["sender"] == sender) & (table["receiver"] == receiver)
    return table[mask & (table["ligand"] == ligand) & (table["receptor"] == receptor)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_planted_pair_is_the_strongest_and_a_null_patient_has_none(seed):
    table = run(patient("P1", seed=seed))
    scored = table[table["status"] == "scored"].sort_values("magnitude", ascending=False)
    first = scored.iloc[0]
    assert [first[c] for c in ("sender", "receiver", "ligand", "receptor")] == [
        "tam_SPP1",
        keys.MALIGNANT_TYPE,
        "LIG0",
        "REC0",
    ]
    assert first["consensus_rank"] == scored["consensus_rank"].min()
    assert first["specificity"] == scored["specificity"].max()
    assert first["magnitude"] - scored["magnitude"].iloc[1] > 0.05
    null = run(patient("P1", seed=seed, planted=False))
    same = edge(null, "tam_SPP1", keys.MALIGNANT_TYPE, "LIG0", "REC0")["magnitude"].iloc[0]
    rest = null.loc[null["ligand"].isin(LIGANDS), "magnitude"].dropna()
    assert abs(same - rest.median()) < 0.05
    assert rest.max() - rest.median() < 0.1


def test_a_complex_counts_as_its_weakest_subunit():
    table = run(patient("P1", seed=1))
    whole = edge(table, "tam_SPP1", keys.MALIGNANT_TYPE, "LIG0_LIG1", "REC0")["magnitude"].iloc[0]
    strong = edge(table, "tam_SPP1", keys.MALIGNANT_TYPE, "LIG0", "REC0")["magnitude"].iloc[0]
    weak = edge(table, "t_reg", keys.MALIGNANT_TYPE, "LIG0", "REC0")["magnitude"].iloc[0]
    assert whole < strong - 0.05
    assert abs(whole - weak) < 0.05


def test_only_edges_of_malignant_cells_and_no_untyped_cells():
    table = run(patient("P1", seed=1))
    named = table[table["sender"] != "any"]
    assert ((named["sender"] == keys.MALIGNANT_TYPE) | (named["receiver"] == keys.MALIGNANT_TYPE)).all()
    assert keys.UNKNOWN not in set(named["sender"]) | set(named["receiver"])
    assert list(table.columns) == COLUMNS
    assert not table.duplicated(["patient_id", "modality", "sender", "receiver", "ligand", "receptor"]).any()
    assert (named.loc[named["sender"] == "tam_SPP1", "n_sender"] == TYPES["tam_SPP1"]).all()


def test_order_of_cells_and_other_patients_change_nothing_and_the_seed_is_honoured():
    one, two = patient("P1", seed=1), patient("P2", seed=2)
    alone = run(one)
    shuffled = cohort(one, two)[np.random.default_rng(5).permutation(one.n_obs + two.n_obs)].copy()
    together = run(shuffled)
    first = together[together["patient_id"] == "P1"].reset_index(drop=True)
    shared = first.merge(alone[COLUMNS[:8]], on=COLUMNS[:8])
    pd.testing.assert_frame_equal(shared, alone, check_dtype=False)
    pd.testing.assert_frame_equal(run(one), alone)
    reseeded = run(one, seed=2)
    assert not np.allclose(reseeded["specificity"].fillna(0), alone["specificity"].fillna(0))
    np.testing.assert_array_equal(reseeded["magnitude"], alone["magnitude"])


def test_modalities_of_one_patient_are_never_pooled():
    nuclei = patient("P1", seed=2, modality="snrna")
    nuclei.obs_names = [f"N{name}" for name in nuclei.obs_names]
    table = run(cohort(patient("P1", seed=1), nuclei))
    planted = edge(table, "tam_SPP1", keys.MALIGNANT_TYPE, "LIG0", "REC0")
    assert sorted(planted["modality"]) == ["scrna", "snrna"]
    assert (planted["n_sender"] == TYPES["tam_SPP1"]).all()
    assert planted["magnitude"].nunique() == 2


def test_each_missing_result_has_its_reason():
    few = {keys.MALIGNANT_TYPE: 60, "tam_SPP1": 50, "t_reg": 3}
    table = run(cohort(patient("P1", seed=1), patient("P2", seed=2, types=few)))
    planted = edge(table, "tam_SPP1", keys.MALIGNANT_TYPE, "LIG0", "REC0").set_index("patient_id")
    assert list(planted["status"]) == ["scored", "scored"]
    regulatory = edge(table, "t_reg", keys.MALIGNANT_TYPE, "LIG0", "REC0").set_index("patient_id")
    assert dict(regulatory["status"]) == {"P1": "scored", "P2": "too_few_cells"}
    assert "fewer than 20 cells" in regulatory.loc["P2", "reason"]
    gone = table[table["ligand"] == "GONE"]
    assert set(gone["status"]) == {"not_in_resource"} and set(gone["sender"]) == {"any"}
    assert len(gone) == 2
    strict = run(patient("P1", seed=1), expr_prop=0.9)
    quiet = strict[(strict["ligand"] == "LIG5") & (strict["receptor"] == "REC5")]
    assert set(quiet["status"]) == {"not_detected"}
    assert edge(strict, "tam_SPP1", keys.MALIGNANT_TYPE, "LIG0", "REC0")["status"].iloc[0] == "scored"
    assert table.loc[table["status"] != "scored", ["magnitude", "specificity"]].isna().all(axis=None)
    assert (table.loc[table["status"] == "scored", "reason"] == "").all()


@pytest.mark.parametrize(
    "types",
    [
        {keys.MALIGNANT_TYPE: 60},
        {"tam_SPP1": 60, "t_reg": 30},
        {keys.MALIGNANT_TYPE: 5, "tam_SPP1": 60},
        {keys.UNKNOWN: 60},
    ],
    ids=["malignant alone", "no malignant", "few malignant", "nothing typed"],
)
def test_a_patient_that_cannot_be_scored_says_so_for_every_pair(types):
    table = run(patient("P1", seed=1, types=types))
    assert len(table) == len(PAIRS)
    assert set(table["status"]) == {"too_few_cells", "not_in_resource"}
    assert (table["sender"] == "any").all() and (table["evidence_grade"] == "").all()
    assert summarise_interactions(table).empty


def test_no_cells_at_all_gives_an_empty_table_with_its_columns():
    table = run(patient("P1", seed=1)[:0].copy())
    assert table.empty and list(table.columns) == COLUMNS
    summary = summarise_interactions(table)
    assert summary.empty and "n_scored" in summary
    assert plot_interactions(table, n_edges=10) is not None


def test_nothing_expressed_is_not_detected():
    cells = patient("P1", seed=1)
    cells.X = sparse.csr_matrix(cells.X.multiply(~np.isin(GENES, [*LIGANDS, *RECEPTORS])).astype(np.int32))
    cells.layers["corrected"] = cells.X.copy()
    assert set(run(cells)["status"]) == {"not_detected", "not_in_resource"}


def test_ligand_that_ambient_rna_explains_is_not_scored_but_its_true_source_is():
    pairs = pd.concat([PAIRS, pd.DataFrame({"ligand": ["ALB"], "receptor": ["REC0"]})], ignore_index=True)
    profile = pd.Series(0.5 / (len(GENES) - 1), index=GENES)
    profile["ALB"] = 0.5
    table = run(patient("P1", seed=1), pairs=pairs, ambient=profile.to_frame("LP1"), ambient_top=1)
    source = edge(table, keys.HEPATOCYTE, keys.MALIGNANT_TYPE, "ALB", "REC0").iloc[0]
    soup = edge(table, "t_reg", keys.MALIGNANT_TYPE, "ALB", "REC0").iloc[0]
    assert (source["status"], source["ambient"]) == ("scored", "ligand")
    assert (soup["status"], soup["ambient"]) == ("ambient", "ligand")
    assert "ALB in t_reg is no more than ambient RNA gives" in soup["reason"]
    assert np.isnan(soup["magnitude"])
    assert edge(table, "tam_SPP1", keys.MALIGNANT_TYPE, "LIG0", "REC0")["ambient"].iloc[0] == "none"
    unknown = run(patient("P1", seed=1), pairs=pairs)
    assert set(unknown.loc[unknown["status"] == "scored", "ambient"]) == {"not_known"}
    assert edge(unknown, "t_reg", keys.MALIGNANT_TYPE, "ALB", "REC0")["status"].iloc[0] == "scored"


def near(values, *, tissue="liver_met", timepoint="T0_pre", null="distance_bins", per_patient=1):
    """Neighbourhood of one pair of types: one z per patient."""
    rows = [(f"P{i}", z) for i, z in enumerate(values) for _ in range(per_patient)]
    table = pd.DataFrame(rows, columns=["patient_id", "z"])
    place = {"timepoint": timepoint, "tissue": tissue, "resolution": "spot"}
    return table.assign(**place, type_a="tam_SPP1", type_b=keys.MALIGNANT_TYPE, null=null)


def test_spatial_support_lifts_an_edge_to_grade_c_in_both_directions_only():
    cells = patient("P1", seed=1)
    table = run(cells, neighbourhood=near([2.0, 3.0, 4.0]))
    scored = table[table["status"] == "scored"]
    together = scored[["sender", "receiver"]].isin(["tam_SPP1", keys.MALIGNANT_TYPE]).all(axis=1)
    together &= scored["sender"] != scored["receiver"]
    assert together.sum() > 2
    assert set(scored.loc[together, "evidence_grade"]) == {"C"}
    assert set(scored.loc[~together, "evidence_grade"]) == {"D"}
    agree = [2.0, 3.0, 4.0]
    for weak in (
        near(agree[:2]),
        near(agree[:2], per_patient=5),
        near([9.0, 0.1, -0.5]),
        near(agree, tissue="primary"),
        near(agree, timepoint="T3_resection"),
        near(agree, null="sides"),
        NO_NEIGHBOURS,
    ):
        grades = run(cells, neighbourhood=weak)["evidence_grade"]
        assert set(grades) == {"D", ""}


def test_support_counts_patients_and_leaves_out_a_type_with_itself():
    table = pd.DataFrame(
        {
            "patient_id": ["P1", "P1", "P1", "P2", "P3", "P3"],
            "timepoint": "T0_pre",
            "tissue": "liver_met",
            "type_a": ["b", "a", "a", "a", "a", "a"],
            "type_b": ["a", "b", "b", "b", "b", "a"],
            "z": [1.0, 2.0, 9.0, 4.0, 3.5, 50.0],
            "null": "distance_bins",
            "resolution": "spot",
        }
    )
    support = spatial_support(table, min_patients=3, alpha=0.05)
    assert support[["type_a", "type_b", "n_patients", "supported"]].to_numpy().tolist() == [["a", "b", 3, True]]
    assert support["mean_z"].iloc[0] == pytest.approx((4 + 4 + 3.5) / 3)
    cells = table[table["patient_id"] != "P3"].assign(resolution="cell", z=-30.0)
    again = spatial_support(pd.concat([table, cells]), min_patients=3, alpha=0.05)
    assert again["mean_z"].iloc[0] == support["mean_z"].iloc[0]


def test_types_that_clump_by_themselves_are_not_taken_for_neighbours():
    """Then z is wide in every section but has no common sign; a median above 1.96 would pass often."""
    rng = np.random.default_rng(1)
    n_pairs, n_patients = 600, 6
    z = rng.normal(-0.3, 3.0, size=(n_pairs, n_patients))
    table = pd.DataFrame({"type_a": np.repeat([f"a{i:03d}" for i in range(n_pairs)], n_patients), "z": z.ravel()})
    table["patient_id"] = np.tile([f"P{i}" for i in range(n_patients)], n_pairs)
    table = table.assign(type_b="b", timepoint="T0_pre", tissue="liver_met", null="distance_bins", resolution="spot")
    assert spatial_support(table, min_patients=3, alpha=0.05)["supported"].mean() <= 0.08


def test_summary_counts_patients_not_rows():
    rows = pd.DataFrame(
        [
            ("P1", "scored", 0.2, "ligand", "D"),
            ("P2", "scored", 0.4, "none", "D"),
            ("P3", "scored", 0.6, "none", "D"),
            ("P4", "not_detected", np.nan, "", ""),
            ("P5", "too_few_cells", np.nan, "", ""),
        ],
        columns=["patient_id", "status", "magnitude", "ambient", "evidence_grade"],
    ).assign(
        timepoint="T0_pre", tissue="liver_met", modality="scrna", sender="a", receiver="b", ligand="L", receptor="R"
    )
    rows["specificity"] = rows["magnitude"]
    nuclei = rows.iloc[:1].assign(modality="snrna")
    summary = summarise_interactions(pd.concat([rows, nuclei], ignore_index=True))
    assert list(summary["modality"]) == ["scrna", "snrna"]
    first = summary.iloc[0]
    assert [first[f"n_{name}"] for name in ("patients", "scored", "not_detected", "too_few_cells", "ambient")] == [
        5,
        3,
        1,
        1,
        1,
    ]
    np.testing.assert_allclose(
        first[["q25_magnitude", "median_magnitude", "q75_magnitude"]].astype(float), [0.3, 0.4, 0.5]
    )


def test_bundled_panel_is_sound_and_says_truly_what_the_consensus_holds():
    panel = load_panel()
    assert list(panel.columns) == PANEL_COLUMNS
    assert 55 <= len(panel) <= 80
    symbols = "_".join([*panel["ligand"], *panel["receptor"]]).split("_")
    assert all(symbol == symbol.upper() and symbol for symbol in symbols)
    assert set(panel["evidence"]) == {"V", "K"}
    assert (panel["source"].str.len() > 5).all() and (panel["why"].str.len() > 10).all()
    pairs = panel[["ligand", "receptor"]].map(lambda text: "_".join(sorted(text.split("_"))))
    assert not pairs.duplicated().any()
    resource = consensus_resource()
    held = resource.map(lambda text: "_".join(sorted(text.split("_"))))
    known = set(held.itertuples(index=False, name=None))
    truly = ["yes" if pair in known else "no" for pair in pairs.itertuples(index=False, name=None)]
    assert list(panel["in_consensus"]) == truly
    missing = panel[panel["in_consensus"] == "no"]
    for pair in [("CSF1", "CSF1R"), ("PVR", "TIGIT"), ("HBEGF", "EGFR")]:
        assert pair in set(missing[["ligand", "receptor"]].itertuples(index=False, name=None))
    union = union_of_pairs(panel, resource)
    assert len(union) == len(held.drop_duplicates()) + len(missing)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ligand\nA\n", "column receptor is missing"),
        ("ligand\treceptor\nA\tB\nA\tB\n", "row 3: the pair A and B stands twice"),
        ("ligand\treceptor\nA\tB C\n", "row 2: receptor is 'B C'"),
        ("ligand\treceptor\n\tB\n", "row 2: ligand is ''"),
    ],
)
def test_a_users_panel_is_checked(tmp_path, text, words):
    path = tmp_path / "panel.tsv"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        load_panel(path)


def test_a_users_panel_is_read(tmp_path):
    path = tmp_path / "panel.tsv"
    path.write_text("﻿ligand\treceptor\nHLA-A\tITGA2_ITGB1\n", encoding="utf-8")
    assert load_panel(path)[["ligand", "receptor"]].to_numpy().tolist() == [["HLA-A", "ITGA2_ITGB1"]]


def test_table_says_the_same_after_a_round_through_its_file(tmp_path):
    table = run(cohort(patient("P1", seed=1), patient("P2", seed=2, types={keys.UNKNOWN: 30})))
    write_table(table, tmp_path / "interactions.tsv")
    pd.testing.assert_frame_equal(
        summarise_interactions(read_table(tmp_path / "interactions.tsv")), summarise_interactions(table)
    )


def test_missing_columns_are_named():
    cells = patient("P1", seed=1)
    del cells.obs["timepoint"]
    with pytest.raises(ValueError, match="timepoint"):
        run(cells)
    with pytest.raises(ValueError, match="receptor"):
        run(patient("P1", seed=1), pairs=PAIRS[["ligand"]])


def test_figure_states_patients_and_survives_a_table_without_scores():
    table = run(cohort(*(patient(f"P{i}", seed=i) for i in range(4))))
    figure = plot_interactions(table, n_edges=5)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert any("to malignant" in title for title in titles) and any("from malignant" in title for title in titles)
    labels = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "4/4" in labels
    assert plot_interactions(table.assign(status="not_detected"), n_edges=5).texts
