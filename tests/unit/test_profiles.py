"""Distance profiles: bins on either side of the border, patients as the unit."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from scipy import stats

from livermet import profiles
from livermet.section import Section

PLACE = {"timepoint": "T0", "tissue": "t", "modality": "visium"}


def section(distance, *, resolution="spot", labels=None, abundance=None):
    n = len(distance)
    xy = np.column_stack([distance, np.zeros(n)])
    if abundance is None:
        abundance = pd.DataFrame({"malignant_ductal": distance < 0, "hepatocyte": distance >= 0}, dtype=float)
    return Section(
        "L", "P", "T0", "t", np.arange(n), xy, abundance, sp.csr_matrix((n, n)), np.asarray(distance, float),
        np.asarray(distance) < 0, np.full(n, "margin", dtype=object), resolution, labels,
    )  # fmt: skip


def counts(n, **genes):
    filler = {"OTHER": np.full(n, 100)}
    matrix = pd.DataFrame(filler | {name: np.broadcast_to(value, n) for name, value in genes.items()})
    return AnnData(sp.csr_matrix(matrix.to_numpy(float)), var=pd.DataFrame(index=matrix.columns))


def test_no_bin_straddles_the_border():
    distance = np.array([-149.0, -101, -99, -1, 0, 1, 99, 100, np.nan])
    values = pd.DataFrame({"x": [1.0, 3, 5, 7, 9, 11, 13, 15, 100]})
    table = profiles.binned_means(values, distance, bin_um=100.0)
    assert table["bin_um"].tolist() == [-150, -50, 50, 150]
    assert table["mean"].tolist() == [2, 6, 11, 15] and table["n_spots"].tolist() == [2, 2, 3, 1]


def test_types_and_genes_have_profiles_and_unmeasured_genes_have_none():
    distance = np.linspace(-500, 499, 200)
    mapped = counts(200, SAA1=np.where(distance > 0, 25, 0))
    table = profiles.section_profiles(mapped, section(distance), genes=["SAA1", "ABSENT"], bin_um=100.0)
    assert list(table.columns) == profiles.PROFILE_COLUMNS
    assert set(table["name"]) == {"malignant_ductal", "hepatocyte", "SAA1"}
    outer = table[(table["name"] == "SAA1") & (table["bin_um"] > 0)]
    assert (outer["kind"] == "gene").all() and outer["mean"].to_numpy() == pytest.approx(2000)
    assert (table[(table["name"] == "hepatocyte") & (table["bin_um"] < 0)]["mean"] == 0).all()
    assert table.groupby("name")["n_spots"].sum().eq(200).all()


def test_single_cells_are_counted_by_their_label():
    distance = np.linspace(-99, 99, 100)
    labels = np.where(np.arange(100) % 4 == 0, "lsec", "unknown").astype(object)
    table = profiles.section_profiles(
        counts(100), section(distance, resolution="cell", labels=labels), genes=[], bin_um=100.0
    )
    assert table[table["name"] == "lsec"]["mean"].mean() == pytest.approx(0.25, abs=0.02)
    assert table.groupby("bin_um")["mean"].sum().to_numpy() == pytest.approx(1)
    assert (table[table["name"] == "hepatocyte"]["mean"] == 0).all()


def test_the_bin_is_a_row_of_spots_where_spots_are_the_unit():
    widths = {"bin_um": 50.0, "spot_bin_um": 100.0}
    found = {name: profiles.bin_width(section(np.zeros(1), resolution=name), **widths) for name in ("spot", "bin")}
    assert found == {"spot": 100.0, "bin": 50.0}


def test_spots_without_abundances_take_no_part():
    distance = np.array([-50.0, -40, 50, 60])
    abundance = pd.DataFrame({"malignant_ductal": [1, np.nan, 0, 0], "hepatocyte": [0, np.nan, 1, 1.0]})
    table = profiles.section_profiles(counts(4), section(distance, abundance=abundance), genes=[], bin_um=100.0)
    assert table.groupby("name")["n_spots"].sum().eq(3).all()


def test_a_section_without_border_has_no_profile():
    table = profiles.section_profiles(counts(3), section(np.full(3, np.nan)), genes=["OTHER"], bin_um=100.0)
    assert table.empty and list(table.columns) == profiles.PROFILE_COLUMNS
    assert list(profiles.combine_profiles(table).columns) == profiles.PATIENT_PROFILE


def rows(patient, library, mean, n_spots, **more):
    row = {"patient_id": patient, "library_id": library, "kind": "type", "name": "x", "bin_um": 50.0, "mean": mean}
    return PLACE | row | {"n_spots": n_spots} | more


def test_sections_of_a_patient_are_pooled_by_their_spots_and_timepoints_are_not():
    table = profiles.combine_profiles(
        pd.DataFrame([rows("P1", "L1", 0.2, 30), rows("P1", "L2", 0.6, 10), rows("P1", "L3", 0.9, 10, timepoint="T3")])
    ).set_index("timepoint")
    assert table.loc["T0", "mean"] == pytest.approx(0.3) and table.loc["T0", "n_spots"] == 40
    assert table.loc["T3", "mean"] == pytest.approx(0.9)


def test_each_patient_counts_once_in_the_mean_and_its_band():
    values = [0.1, 0.2, 0.6]
    table = pd.DataFrame([rows(f"P{k}", f"L{k}", value, 10 ** (k + 1)) for k, value in enumerate(values)])
    found = profiles.mean_profile(table, min_spots=3).iloc[0]
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    assert found["mean"] == pytest.approx(0.3) and found["n_patients"] == 3
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    two = profiles.mean_profile(table.iloc[:2], min_spots=3).iloc[0]
    assert two["mean"] == pytest.approx(0.15) and np.isnan(two["low"])
    assert profiles.mean_profile(table, min_spots=50).iloc[0]["n_patients"] == 2
