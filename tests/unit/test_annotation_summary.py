"""Evidence per cell type, conflicts with negative markers, calibration, and the figures made of them."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from livermet import keys
from livermet.annotation_summary import (
    TYPE_COLUMNS,
    cell_conflicts,
    compare_sources,
    expected_calibration_error,
    reliability,
    summarise_types,
)
from livermet.files import read_table, write_table
from livermet.markers import load_markers
from livermet.plots.annotation import plot_agreement, plot_types
from livermet.transfer import Transferred

MARKERS = load_markers()
GENES = sorted({gene for genes in [*MARKERS["genes"], *MARKERS["negative"]] for gene in genes})


def test_stated_probabilities_that_hold_are_calibrated_and_exaggerated_ones_are_not():
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.3, 1, 20000)
    correct = rng.random(20000) < confidence
    assert expected_calibration_error(confidence, correct) < 0.02
    assert expected_calibration_error(np.minimum(confidence + 0.2, 1), correct) == pytest.approx(0.17, abs=0.02)


def test_calibration_error_by_hand():
    confidence = np.array([0.95, 0.95, 0.3, 0.3, np.nan])
    correct = np.array([1, 0, 1, 0, 1])
    table = reliability(confidence, correct)
    assert table["bin"].to_list() == [0.3, 0.9]
    assert table[["n", "confidence", "accuracy"]].to_numpy().tolist() == [[2, 0.3, 0.5], [2, pytest.approx(0.95), 0.5]]
    assert expected_calibration_error(confidence, correct) == pytest.approx((0.2 + 0.45) / 2)
    assert np.isnan(expected_calibration_error(np.array([]), np.array([])))


def cells(*, seed=1, n=60, soup=("ALB",), contamination=0.1):
    """CAF, hepatocytes and T cells; ambient RNA of the genes ``soup`` in all; the last ten CAF hold EPCAM and PTPRC."""
    rng = np.random.default_rng(seed)
    types = np.repeat(["caf_pan", "hepatocyte", "t_CD8_effector"], n)
    index = pd.Index(GENES)
    mean = np.full((3 * n, len(GENES)), 0.02)
    for name in np.unique(types):
        mean[np.ix_(types == name, index.get_indexer(MARKERS.loc[name, "genes"]))] = 20.0
    negative = index.get_indexer(MARKERS["negative"].explode().dropna().unique())
    mean[:, negative] *= mean[:, negative] > 1
    own = rng.poisson(mean)
    total = own.sum(axis=1)
    share = np.zeros(len(GENES))
    share[index.get_indexer(list(soup))] = contamination / len(soup)
    counts = own + rng.poisson(total[:, None] * share)
    doublets = np.arange(n - 10, n)
    counts[np.ix_(doublets, index.get_indexer(["EPCAM", "PTPRC"]))] += 25
    names = {"caf_pan": "mesenchymal", "hepatocyte": "liver_parenchyma", "t_CD8_effector": "lymphoid"}
    obs = pd.DataFrame(
        {
            keys.CELL_TYPE: pd.Categorical(types),
            keys.COMPARTMENT: pd.Categorical([names[name] for name in types]),
            keys.GROUP: pd.Categorical([{"caf_pan": "g0", "hepatocyte": "g1"}.get(name, "g2") for name in types]),
            keys.LIBRARY: np.where(np.arange(3 * n) % 2, "L1", "L2"),
            keys.PATIENT: np.where(np.arange(3 * n) % 2, "P1", "P2"),
            keys.CONFIDENCE: np.where(np.arange(3 * n) % 4, 0.9, 0.5),
            keys.LABEL_SOURCE: "markers",
            keys.DOUBLET_SCORE: 0.1,
            keys.TOTAL_COUNTS: counts.sum(axis=1),
        },
        index=[f"c{i:03d}" for i in range(3 * n)],
    )
    adata = AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=index))
    adata.varm[keys.AMBIENT] = pd.DataFrame({"L1": share, "L2": share}, index=index)
    return adata


EVIDENCE = pd.DataFrame(
    [
        ("g0", 60, "caf_pan", "mesenchymal", 9.0, 4.0, 0.75, 12, 2 / 3, 1),
        ("g0", 60, "hsc", "mesenchymal", 5.0, 1.5, 0.5, 14, np.nan, 0),
        ("g0", 60, "pericyte_vSMC", "mesenchymal", 2.0, 0.5, 0.25, 12, np.nan, 0),
        ("g0", 60, "hepatocyte", "liver_parenchyma", -3.0, np.nan, 0.25, 16, 0.5, 0),
        ("g0", 60, "t_CD8_effector", "lymphoid", -3.0, np.nan, 0.0, 12, np.nan, 0),
        ("g1", 60, "hepatocyte", "liver_parenchyma", 9.0, 8.0, 1.0, 16, 0.0, 1),
        ("g1", 60, "caf_pan", "mesenchymal", -2.0, np.nan, 0.0, 12, 0.0, 0),
        ("g1", 60, "hsc", "mesenchymal", -2.0, np.nan, 0.0, 14, np.nan, 0),
        ("g1", 60, "pericyte_vSMC", "mesenchymal", -2.0, np.nan, 0.0, 12, np.nan, 0),
        ("g1", 60, "t_CD8_effector", "lymphoid", -2.0, np.nan, 0.5, 12, np.nan, 0),
        ("g2", 60, "t_CD8_effector", "lymphoid", 9.0, 5.0, 0.5, 12, np.nan, 1),
        ("g2", 60, "caf_pan", "mesenchymal", -2.0, np.nan, 0.0, 12, 0.0, 0),
        ("g2", 60, "hsc", "mesenchymal", -2.0, np.nan, 0.0, 14, np.nan, 0),
        ("g2", 60, "pericyte_vSMC", "mesenchymal", -2.0, np.nan, 0.0, 12, np.nan, 0),
        ("g2", 60, "hepatocyte", "liver_parenchyma", -2.0, np.nan, 0.0, 16, 0.0, 0),
    ],
    columns="cluster n_cells population compartment score score_vs_sisters markers_raised n_markers negative_conflict chosen".split(),
)


def test_doublets_conflict_and_ambient_rna_does_not():
    adata = cells(soup=("EPCAM", "KRT7", "PTPRC", "PECAM1"))
    conflict = cell_conflicts(adata, MARKERS)
    types = adata.obs[keys.CELL_TYPE].astype(str).to_numpy()
    assert np.isnan(conflict[types == "t_CD8_effector"]).all()  # no negative marker in the table
    assert conflict[50:60].mean() >= 0.9
    assert conflict[:50].mean() <= 0.05
    assert conflict[types == "hepatocyte"].mean() <= 0.05
    unknown = adata.copy()
    unknown.varm[keys.AMBIENT][:] = 0.0
    assert cell_conflicts(unknown, MARKERS)[:50].mean() > 0.5


def test_each_type_has_its_evidence():
    table = summarise_types(cells(), EVIDENCE, MARKERS, labels={}).set_index("cell_type")
    assert list(table.reset_index().columns) == list(TYPE_COLUMNS)
    caf = table.loc["caf_pan"]
    assert (caf["n_cells"], caf["n_patients"], caf["n_groups"], caf["n_low_confidence"]) == (60, 2, 1, 15)
    assert caf["markers_raised"] == 0.75
    assert caf["foreign_raised"] == pytest.approx(0.25 * 16 / 28)
    assert caf["group_conflict"] == 1
    assert caf["cell_conflict"] == pytest.approx(10 / 60)
    assert (caf["sister"], caf["sister_log_odds"]) == ("hsc", 2.5)
    assert caf["ambient_share"] == pytest.approx(0.1)
    assert table.loc["hepatocyte", "sister"] == ""
    assert np.isnan(table.loc["t_CD8_effector", "cell_conflict"])
    assert table["share"].sum() == pytest.approx(1)


def test_a_relabelled_type_is_measured_by_its_own_markers():
    adata = cells()
    adata.obs[keys.CELL_TYPE] = pd.Categorical(adata.obs[keys.CELL_TYPE].astype(str).replace("caf_pan", "hsc"))
    adata.obs[keys.LABEL_SOURCE] = np.where(adata.obs[keys.CELL_TYPE] == "hsc", "override", "markers")
    row = summarise_types(adata, EVIDENCE, MARKERS, labels={}).set_index("cell_type").loc["hsc"]
    assert row["n_overridden"] == 60
    assert row["markers_raised"] == 0.5
    assert (row["sister"], row["sister_log_odds"]) == ("caf_pan", -2.5)


def test_unknown_cells_have_no_evidence_but_are_counted():
    adata = cells()
    adata.obs[keys.CELL_TYPE] = pd.Categorical(adata.obs[keys.CELL_TYPE].astype(str).replace("caf_pan", keys.UNKNOWN))
    table = summarise_types(adata, EVIDENCE, MARKERS, labels={})
    assert table["cell_type"].iloc[-1] == keys.UNKNOWN
    last = table.iloc[-1]
    assert last["n_cells"] == 60
    assert np.isnan(last["markers_raised"])


def test_the_order_of_cells_does_not_matter():
    adata = cells()
    pd.testing.assert_frame_equal(
        summarise_types(adata[::-1].copy(), EVIDENCE, MARKERS, labels={}),
        summarise_types(adata, EVIDENCE, MARKERS, labels={}),
    )


def test_labels_from_elsewhere_stand_beside_the_types(tmp_path):
    adata = cells()
    types = adata.obs[keys.CELL_TYPE].astype(str).to_numpy()
    label = np.where(np.arange(180) % 10 > 0, types, "unassigned").astype(object)
    labels = {"reference": Transferred(label, np.full(180, 0.9), n_labels=3)}
    table = summarise_types(adata, EVIDENCE, MARKERS, labels=labels).set_index("cell_type")
    assert table.loc["caf_pan", "reference_label"] == "caf_pan"
    assert table.loc["caf_pan", "reference_share"] == pytest.approx(0.9)
    assert (table["celltypist_label"] == "").all()
    comparison, agreement, per_cell = compare_sources(adata.obs, labels)
    assert comparison["source"].to_list() == ["reference"]
    assert agreement["n_cells"].sum() == 180
    assert per_cell["reference_label"].to_list() == label.tolist()
    assert per_cell["celltypist_confidence"].isna().all()
    write_table(agreement, tmp_path / "agreement.tsv")
    write_table(comparison, tmp_path / "comparison.tsv")
    figure = plot_agreement(read_table(tmp_path / "comparison.tsv"), read_table(tmp_path / "agreement.tsv"))
    assert "1.00" in figure.axes[0].get_title(loc="left")


def test_nothing_to_compare_with_is_said():
    comparison, agreement, per_cell = compare_sources(cells().obs, {})
    assert comparison.empty
    assert agreement.empty
    assert list(per_cell.columns)[:3] == ["cell", "library_id", "cell_type"]
    assert "annotate.reference" in plot_agreement(comparison, agreement).texts[0].get_text()
    failed = Transferred(np.full(180, "", dtype=object), np.full(180, np.nan), reason="the reference shares 3 genes")
    comparison, agreement, _ = compare_sources(cells().obs, {"reference": failed})
    assert "shares 3 genes" in plot_agreement(comparison, agreement).texts[0].get_text()


def test_figure_of_types_shows_each_type_and_survives_missing_values(tmp_path):
    table = summarise_types(cells(), EVIDENCE, MARKERS, labels={})
    write_table(table, tmp_path / "annotation.tsv")
    read = read_table(tmp_path / "annotation.tsv")
    shown = [tick.get_text() for tick in plot_types(read).axes[0].get_yticklabels()]
    assert [name.split("  ")[0] for name in shown] == ["hepatocyte", "caf pan", "t CD8 effector"]
    alone = read[read["cell_type"] == "hepatocyte"].reset_index(drop=True)
    assert len(plot_types(alone).axes) == 4


def test_a_scope_without_cells_gives_an_empty_table_and_says_so():
    empty = summarise_types(cells()[:0].copy(), EVIDENCE[:0], MARKERS, labels={})
    assert list(empty.columns) == list(TYPE_COLUMNS)
    assert "No cells" in plot_types(empty).texts[0].get_text()
