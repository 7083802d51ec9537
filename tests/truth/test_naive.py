"""The naive answers are fair ones: they find what is plain to see, and the summary prints them beside their targets."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import naive
import run
from livermet import keys
from livermet.markers import load_markers

TYPES = [keys.MALIGNANT_TYPE, keys.HEPATOCYTE, "b_cell"]
GENES = sorted({gene for genes in load_markers()["genes"] for gene in genes} | {f"G{i}" for i in range(200)})


def plain_cells(types, *, seed):
    """Cells whose own markers are ten times the rest."""
    rng = np.random.default_rng(seed)
    markers = load_markers()["genes"]
    mean = np.array([[10.0 if gene in markers[name] else 1.0 for gene in GENES] for name in types])
    return AnnData(
        X=sparse.csr_matrix(rng.poisson(mean).astype(np.int32)),
        obs=pd.DataFrame({keys.LIBRARY: "L1"}, index=[f"L1:c{i}" for i in range(len(types))]),
        var=pd.DataFrame(index=GENES),
    )


def test_argmax_names_cells_that_are_plain_to_see():
    types = np.repeat(TYPES, 30)
    answer = naive.argmax_cells(plain_cells(types, seed=1))
    assert (answer["cell_type"].to_numpy() == types).all()
    assert list(answer["barcode"][:2]) == ["c0", "c1"] and set(answer[keys.LIBRARY]) == {"L1"}
    assert (answer["malignant"].to_numpy() == np.where(types == TYPES[0], "malignant", "normal")).all()


def test_plain_nnls_recovers_mixtures_on_its_own_platform():
    types = np.repeat(TYPES, 40)
    cells = plain_cells(types, seed=1)
    rng = np.random.default_rng(2)
    share = rng.dirichlet([1, 1, 1], 50)
    profile = np.array([np.asarray(cells[types == name].X.mean(axis=0)).ravel() for name in TYPES])
    spots = AnnData(
        X=sparse.csr_matrix(rng.poisson(20 * share @ profile).astype(np.int32)),
        obs=pd.DataFrame(index=[f"S1:s{i}" for i in range(50)]),
        var=cells.var,
    )
    answer = naive.plain_nnls(spots, cells, types)
    wide = answer.pivot_table(index="barcode", columns="cell_type", values="abundance", sort=False)[TYPES]
    # Profiles are counts per 10,000, so shares are shares of RNA rather than of cells.
    rna = share * profile.sum(axis=1)
    np.testing.assert_allclose(wide, rna / rna.sum(axis=1, keepdims=True), atol=0.06)


def test_argmax_zones_measure_to_the_nearest_spot_of_the_other_kind():
    x = np.arange(0, 4000, 100.0)
    types = np.where(x < 2000, keys.MALIGNANT_TYPE, keys.HEPATOCYTE)
    spots = plain_cells(types, seed=3)
    spots.obsm["spatial"] = np.column_stack([x, np.zeros_like(x)])
    answer = naive.argmax_zones(spots)
    np.testing.assert_allclose(answer["signed_distance_um"], np.where(x < 2000, x - 2000, x - 1900))
    assert answer["zone"].iloc[0] == "core" and answer["zone"].iloc[20] == "margin"
    assert set(naive.argmax_zones(spots[:20].copy())["zone"]) == {"none"}


def test_summary_shows_range_target_and_verdict():
    table = pd.DataFrame(
        {
            "seed": [1, 2, 3],
            "score": "doublets: AUPRC",
            "ours": [0.5, 0.7, 0.65],
            "argmax": np.nan,
            "plain": [0.3, 0.4, 0.2],
            "shuffled": [0.05, 0.05, 0.05],
        }
    )
    row = run.summary(table).iloc[0]
    assert row["ours"] == "0.65 (0.50-0.70)" and row["argmax"] == "-"
    assert (row["target"], row["met"]) == (">= 0.6", "yes")
    assert run.summary(table.assign(ours=0.59)).iloc[0]["met"] == "no"


def test_shuffled_spots_keep_each_composition_whole():
    table = pd.DataFrame(
        {
            "library_id": "L1",
            "barcode": np.repeat([f"b{i}" for i in range(30)], 2),
            "cell_type": ["x", "y"] * 30,
            "abundance": np.column_stack([np.linspace(0, 1, 30), 1 - np.linspace(0, 1, 30)]).ravel(),
        }
    )
    moved = run.shuffled_spots(table, seed=1)
    assert moved.groupby("barcode")["abundance"].sum().to_numpy() == pytest.approx(1)
    assert sorted(moved["abundance"]) == pytest.approx(sorted(table["abundance"]))
    assert (
        not moved.sort_values(["barcode", "cell_type"])["abundance"].reset_index(drop=True).equals(table["abundance"])
    )
