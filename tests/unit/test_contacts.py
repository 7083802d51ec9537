"""Contacts: distances as a plain loop gives them, calibrated given the distance, planted pairs found, refusals."""

import numpy as np
import pandas as pd
import pytest

import spatial_generator as generator
from livermet import contacts, zones
from livermet.section import Section

OPTIONS = {"bin_um": 50, "n_permutations": 50, "min_cells": 20, "seed": 1}
SEEDS = range(6)


def section(cells, *, resolution="cell", order=None):
    order = np.arange(len(cells.xy)) if order is None else order
    labels = cells.labels[order]
    return Section(
        library_id="S",
        patient_id="P",
        timepoint="T0_pre",
        tissue="liver_met",
        barcodes=np.array([f"c{i}" for i in order], dtype=object),
        coordinates=cells.xy[order],
        abundance=pd.get_dummies(pd.Series(labels)).astype(float),
        graph=zones.spatial_graph(cells.xy[order], neighbours=6).connectivities,
        distance=cells.distance[order],
        tumour=cells.distance[order] < 0,
        zone=np.full(len(order), "none", dtype=object),
        resolution=resolution,
        cell_type=labels if resolution == "cell" else None,
    )


def pair(table, a, b):
    return table[(table["type_a"] == a) & (table["type_b"] == b)].iloc[0]


def test_distances_are_those_of_a_plain_loop():
    cells = generator.cells(seed=0, side_um=400)
    table = contacts.scope_contacts([section(cells)], **OPTIONS | {"n_permutations": 2})
    for a, b in (("type0", "type1"), ("type1", "type1")):
        start, to = cells.xy[cells.labels == a], cells.xy[cells.labels == b]
        distance = np.hypot(*(start[:, None] - to[None]).transpose(2, 0, 1))
        nearest = np.sort(distance, axis=1)[:, int(a == b)]
        row = pair(table, a, b)
        assert row["median_nearest_um"] == pytest.approx(np.median(nearest))
        assert row["within_30um"] == pytest.approx(np.mean(nearest <= 30))
        assert (row["n_a"], row["n_b"]) == (len(start), len(to))


def test_independent_types_pass_within_distances_and_not_over_the_whole():
    """The negative control with gradients inside zones: both measures calibrated by the null, fooled by the global one."""
    calibrated = {"z_nearest": [], "z_within_30um": []}
    fooled = []
    for seed in SEEDS:
        cells = generator.cells(seed=seed, side_um=800)
        table = contacts.scope_contacts([section(cells)], **OPTIONS)
        for name, rates in calibrated.items():
            rates.append((table[name].abs() > 1.96).mean())
        whole = contacts.scope_contacts([section(cells)], **OPTIONS | {"bin_um": 1e6, "n_permutations": 15})
        fooled.append((whole["z_nearest"].abs() > 1.96).mean())
    assert np.median(calibrated["z_nearest"]) <= 0.07 and np.median(calibrated["z_within_30um"]) <= 0.07
    assert np.median(fooled) > 0.3


@pytest.mark.parametrize(("share", "sign"), [(0.5, 1), (-0.8, -1)])
def test_planted_attraction_and_avoidance_are_found(share, sign):
    z = []
    for seed in SEEDS:
        cells = generator.attract(generator.cells(seed=seed, side_um=800), first=2, second=3, share=share, seed=seed)
        row = pair(contacts.scope_contacts([section(cells)], **OPTIONS), "type2", "type3")
        z.append((sign * row["z_within_30um"], -sign * row["z_nearest"]))
    assert (np.median(z, axis=0) > 2).all()


def test_order_of_cells_does_not_matter_and_seed_repeats():
    cells = generator.cells(seed=0, side_um=600)
    first = contacts.scope_contacts([section(cells)], **OPTIONS)
    turned = np.random.default_rng(0).permutation(len(cells.xy))
    pd.testing.assert_frame_equal(first, contacts.scope_contacts([section(cells, order=turned)], **OPTIONS))


def test_many_cells_are_looked_at_from_some():
    cells = generator.cells(seed=0)
    every = contacts.scope_contacts([section(cells)], **OPTIONS | {"n_permutations": 5}, max_cells=10**6)
    some = contacts.scope_contacts([section(cells)], **OPTIONS | {"n_permutations": 5}, max_cells=300)
    frequent = every["n_a"] > 300
    assert frequent.any()
    ratio = some.loc[frequent, "median_nearest_um"] / every.loc[frequent, "median_nearest_um"]
    assert 0.95 < ratio.median() < 1.05 and ratio.between(0.7, 1.4).all()


@pytest.mark.parametrize("resolution", ["spot", "bin"])
def test_sections_that_resolve_no_cells_are_refused_once(resolution):
    cells = generator.cells(seed=0, side_um=400)
    table = contacts.scope_contacts([section(cells, resolution=resolution), section(cells)], **OPTIONS)
    refused = table[table["status"] == "not_resolved"]
    assert len(refused) == 1 and "not resolved" in refused["reason"].iloc[0]
    assert refused["median_nearest_um"].isna().all() and len(table) == 65


def test_rare_types_unknown_cells_and_nothing_at_all():
    cells = generator.cells(seed=0, side_um=400)
    one = section(cells)
    labels = one.cell_type.copy()
    labels[labels == "type4"] = "unknown"
    labels[np.flatnonzero(labels == "type0")[:5]] = "rare"
    table = contacts.scope_contacts([Section(**vars(one) | {"cell_type": labels})], **OPTIONS)
    assert "unknown" not in set(table["type_a"]) and "type4" not in set(table["type_a"])
    rare = (table[["type_a", "type_b"]] == "rare").any(axis=1)
    assert (table.loc[rare, "status"] == "too_few_cells").all() and table.loc[rare, "median_nearest_um"].isna().all()
    assert (table.loc[~rare & (table["n_a"] >= 20) & (table["n_b"] >= 20), "status"] == "ok").all()
    nothing = contacts.scope_contacts([], **OPTIONS)
    assert nothing.empty and list(nothing) == list(contacts.CONTACT_COLUMNS)
    unknown = Section(**vars(one) | {"cell_type": np.full(len(labels), "unknown", dtype=object)})
    untyped = contacts.scope_contacts([unknown], **OPTIONS)
    assert untyped[["null", "status", "reason"]].to_numpy().tolist() == [["no_types", "no_types", "no cell has a type"]]
    assert untyped["library_id"].tolist() == ["S"] and untyped[["type_a", "z_nearest"]].isna().all(axis=None)
