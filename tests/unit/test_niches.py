"""Niches: the planted one is found, stability, order, one section, too few spots."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import spatial_generator as generator
from livermet import niches, zones
from livermet.section import Section, label_section

OPTIONS = {
    "rings": 1, "own_weight": 1.0, "lineage_weight": 0.5, "k_min": 4, "k_max": 10, "n_seeds": 3, "min_ari": 0.7,
    "min_spots": 200, "seed": 1,
}  # fmt: skip


def make(tissue, name):
    n = len(tissue.xy)
    return Section(
        library_id=name,
        patient_id=f"P{name}",
        timepoint="T0_pre",
        tissue="liver_met",
        barcodes=np.array([f"{name}:b{i}" for i in range(n)], dtype=object),
        coordinates=tissue.xy,
        abundance=tissue.fractions,
        graph=zones.spatial_graph(tissue.xy, neighbours=6).connectivities,
        distance=tissue.distance,
        tumour=tissue.distance < 0,
        zone=zones.assign_zones(tissue.distance, margin_um=250, core_um=500, distant_um=1000),
    )


def cohort(seed, n=5):
    tissues = [generator.tissue(seed=seed + i, n_rows=16, n_cols=16, niche=i % 2 == 0) for i in range(n)]
    planted = np.concatenate([tissue.fractions.attrs["planted"] for tissue in tissues])
    return [make(tissue, f"L{i}") for i, tissue in enumerate(tissues)], planted


def best_f1(labels, planted):
    return max(2 * ((labels == k) & planted).sum() / ((labels == k).sum() + planted.sum()) for k in set(labels))


@pytest.mark.parametrize("seed", [0, 100, 200])
def test_planted_niche_is_found_and_named(seed):
    sections, planted = cohort(seed)
    result = niches.find_niches(sections, **OPTIONS)
    labels = result.labels["niche"].to_numpy()
    assert best_f1(labels, planted) > 0.6
    assert best_f1(np.random.default_rng(0).permutation(labels), planted) < 0.35
    best = max(set(labels), key=lambda k: ((labels == k) & planted).sum() / (labels == k).sum())
    assert "tam_SPP1" in result.composition.set_index("niche").loc[best, "name"].iloc[0]


def test_tables_are_complete_and_ordered():
    sections, _ = cohort(0)
    result = niches.find_niches(sections, **OPTIONS)
    assert list(result.labels) == list(niches.LABEL_COLUMNS)
    assert list(result.composition) == list(niches.NICHE_COLUMNS)
    assert list(result.stability) == list(niches.STABILITY_COLUMNS)
    assert result.stability["chosen"].sum() == 1
    size = result.composition.drop_duplicates("niche").set_index("niche")["n_spots"]
    assert list(size.index) == sorted(size.index) and size.is_monotonic_decreasing
    assert size.sum() == len(result.labels) == sum(len(s.barcodes) for s in sections)
    np.testing.assert_allclose(result.composition.groupby("niche")["mean_abundance"].sum(), 1)
    assert (result.composition["n_patients"] <= 5).all()
    assert len(result.composition) == len(size) * len(generator.TYPES)


def test_same_seed_same_niches_and_order_of_sections_hardly_matters():
    sections, _ = cohort(0)
    first = niches.find_niches(sections, **OPTIONS)
    pd.testing.assert_frame_equal(first.labels, niches.find_niches(sections, **OPTIONS).labels)


def test_one_section_is_enough_if_it_has_spots():
    sections, _ = cohort(0, n=1)
    result = niches.find_niches(sections, **OPTIONS)
    assert result.reason == "" and set(result.composition["n_patients"]) == {1}


def test_too_few_spots_and_no_sections_leave_empty_tables_with_a_reason():
    small = generator.tissue(seed=0, n_rows=5, n_cols=5)
    for sections, n in (([], 0), ([make(small, "L0")], 25)):
        result = niches.find_niches(sections, **OPTIONS)
        assert result.reason
        assert list(result.labels) == list(niches.LABEL_COLUMNS) and len(result.labels) == n
        assert (result.labels["niche"] == "none").all()
        assert result.composition.empty and list(result.composition) == list(niches.NICHE_COLUMNS)
        assert result.stability.empty and list(result.stability) == list(niches.STABILITY_COLUMNS)


def test_spots_and_types_without_abundances_take_no_part():
    sections, _ = cohort(0, n=2)
    hole = sections[0].abundance.copy()
    hole.iloc[:7] = np.nan
    lacking = sections[1].abundance.drop(columns="mast", errors="ignore").drop(columns="b_cell")
    sections = [Section(**{**vars(s), "abundance": a}) for s, a in zip(sections, (hole, lacking), strict=True)]
    result = niches.find_niches(sections, **OPTIONS)
    niche = result.labels["niche"].to_numpy()
    assert (niche[:7] == "none").all() and not (niche[7:] == "none").any()


def test_neighbourhood_of_a_spot_is_its_own_and_its_rings():
    xy = generator.hexagonal(7, 7)
    graph = zones.spatial_graph(xy, neighbours=6).connectivities
    one = np.zeros((49, 1))
    one[24] = 1.0
    alone = niches.neighbourhoods(one, graph, rings=1, own_weight=1.0)
    assert alone[24, 0] == pytest.approx(0.5)
    ring = np.hypot(*(xy - xy[24]).T).round() == 100
    np.testing.assert_allclose(alone[ring, 0], 1 / 6 / 2)
    np.testing.assert_allclose(alone[~ring & (np.arange(49) != 24), 0], 0)
    two = niches.neighbourhoods(one, graph, rings=2, own_weight=1.0)
    assert (two[:, 0] > 0).sum() == 19


def test_labels_return_to_their_section():
    sections, _ = cohort(0, n=2)
    labels = niches.find_niches(sections, **OPTIONS).labels
    names = sections[1].barcodes[::-1]
    section = ad.AnnData(np.zeros((len(names), 1), np.float32), obs=pd.DataFrame(index=names.astype(str)))
    expected = labels.set_index("barcode").loc[names, "niche"].to_list()
    assert label_section(section, labels).obs["niche"].to_list() == expected
    nothing = label_section(section, labels[:0]).obs["niche"]
    assert (nothing == "none").all()
