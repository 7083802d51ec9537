"""Differential expression: planted genes are found, nulls are calibrated, the patient is the unit, refusals say why."""

import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cohorts import CONFIG, ids, labels_table, patients_table
from livermet.differential import COLUMNS, TEST_COLUMNS, centre_left_out, differential_expression
from livermet.pseudobulk import pseudobulk

OPTIONS = {"min_count": 5, "min_share": 0.25, "ambient_top": 5, "max_contamination": 0.2}
GENES = 160
NO_AMBIENT = pd.DataFrame()


def profile_counts(rng, y, *, planted=None, centre=None, centre_spread=0.0, genes=GENES, depth=2e4):
    """Negative binomial counts, patients x genes: patients differ in each gene and in depth; ``planted`` is the log fold by gene."""
    base = rng.lognormal(0, 1.0, genes)
    log_mean = np.log(base / base.sum()) + rng.normal(0, 0.2, (len(y), genes))
    if planted is not None:
        log_mean += np.outer(y, planted)
    if centre is not None:
        log_mean += rng.normal(0, centre_spread, (max(centre) + 1, genes))[centre]
    mean = depth * rng.lognormal(0, 0.5, (len(y), 1)) * np.exp(log_mean)
    dispersion = 0.03 + 3 / mean.mean(axis=0)  # rarer genes vary more, as in data
    return rng.poisson(rng.gamma(1 / dispersion, dispersion * mean))


def as_profiles(counts, *, cell_type="nk", modality="scrna", timepoint="T0_pre", patients=None):
    """Profiles of one type, as pseudobulk makes them."""
    patients = ids(len(counts)) if patients is None else patients
    obs = pd.DataFrame(
        {
            "patient_id": patients,
            "timepoint": timepoint,
            "tissue": "liver_met",
            "modality": modality,
            "cell_type": cell_type,
            "n_cells": 50,
            "libraries": [f"{name}-L" for name in patients],
        },
        index=[f"{name}|{timepoint}|liver_met|{modality}|{cell_type}" for name in patients],
    )
    var = pd.DataFrame(index=[f"G{i:03d}" for i in range(counts.shape[1])])
    return ad.AnnData(X=sparse.csr_matrix(counts), obs=obs, var=var)


def run(
    profiles, y, centre, *, left_out=None, kind="binary", scope="cohort", earlier_looks=0, ambient=NO_AMBIENT, **changes
):
    empty = pd.DataFrame(columns=["patient_id", "timepoint", "tissue", "modality", "cell_type", "n_cells"])
    return differential_expression(
        profiles,
        empty if left_out is None else left_out,
        labels_table(y, kind=kind),
        patients_table([f"C{c}" for c in centre]),
        response={**CONFIG, **changes},
        goes_with=["T0_pre"],
        scope=scope,
        earlier_looks=earlier_looks,
        ambient=ambient,
        **OPTIONS,
    )


ARMS = np.repeat([1, 0], [10, 14])
ONE_CENTRE = np.zeros(24, int)


def test_planted_genes_are_found_with_their_sign_and_few_others():
    found = false = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        planted = np.zeros(GENES)
        planted[:8], planted[8:16] = np.log(3), -np.log(3)
        profiles = as_profiles(profile_counts(rng, ARMS, planted=planted))
        genes, tests = run(profiles, ARMS, ONE_CENTRE)
        leads = genes[genes["q_global"] <= 0.1].set_index("gene")["log2_fold_change"]
        right = {f"G{i:03d}": np.sign(planted[i]) for i in range(16)}
        true = [name for name in leads.index if np.sign(leads[name]) == right.get(name)]
        found, false = found + len(true), false + len(leads) - len(true)
        assert tests["n_leads"].tolist() == [len(leads)]
    assert found >= 0.8 * 48
    assert false <= 0.2 * (found + false)
    assert list(genes.columns) == COLUMNS
    assert list(tests.columns) == TEST_COLUMNS
    assert tests[["n_alt", "n_ref", "design", "status"]].to_numpy().tolist() == [[10, 14, "~ label", "tested"]]


def test_a_centre_effect_that_goes_with_nothing_gives_no_leads():
    rows, leads = [], 0
    for seed in range(3):
        rng = np.random.default_rng(100 + seed)
        y = rng.permutation(ARMS)
        centre = rng.permutation(np.repeat([0, 1], 12))
        genes, tests = run(as_profiles(profile_counts(rng, y, centre=centre, centre_spread=0.4)), y, centre)
        assert tests["design"].tolist() == ["~ centre + label"]
        rows.append(genes["p"].dropna())
        leads += int(tests["n_leads"].sum())
    share = float((pd.concat(rows) < 0.05).mean())
    assert 0.01 < share < 0.10
    assert leads <= 2


def test_centre_in_the_design_removes_what_goes_with_the_centre():
    rng = np.random.default_rng(5)
    centre = np.repeat([0, 1], 20)
    y = np.concatenate([np.repeat([1, 0], [13, 7]), np.repeat([1, 0], [7, 13])])
    profiles = as_profiles(profile_counts(rng, y, centre=centre, centre_spread=1.0))
    within, tests = run(profiles, y, centre)
    without, _ = run(profiles, y, np.zeros(40, int))
    assert tests["design"].tolist() == ["~ centre + label"]
    assert (within["p"] < 0.05).mean() < 0.5 * (without["p"] < 0.05).mean()


@pytest.mark.parametrize(
    ("y", "centre", "words"),
    [
        (np.repeat([1, 0], [8, 16]), np.tile([0, 1], 12), ""),
        (np.repeat([1, 0], [8, 16]), np.zeros(24, int), "one centre"),
        (
            np.repeat([1, 0], [8, 16]),
            np.arange(24) % 9,
            "9 centres leave 14 residual degrees of freedom of 24 patients, where 15 are needed",
        ),
        (np.repeat([1, 0], [8, 16]), np.arange(24) % 8, ""),
        (np.repeat([1, 0], [3, 15]), np.arange(18) % 2, ""),
        (np.repeat([1, 0], [3, 14]), np.arange(17) % 2, "leave 14 residual degrees"),
        (np.repeat([1, 0], [8, 16]), np.repeat([0, 1], [8, 16]), "can't be told from the centres"),
    ],
)
def test_the_centre_is_in_the_design_where_enough_patients_carry_it(y, centre, words):
    reason = centre_left_out(y, np.asarray(centre))
    assert (reason == "") if words == "" else words in reason


def test_a_second_library_of_a_patient_changes_no_number_of_patients():
    rng = np.random.default_rng(6)
    counts = profile_counts(rng, ARMS)
    half = rng.binomial(counts, 0.5)
    cells = []
    for library, part in (("A", half), ("B", counts - half)):
        of_library = as_profiles(part)
        of_library.obs["library_id"] = [f"{name}-{library}" for name in of_library.obs["patient_id"]]
        cells.append(of_library[np.repeat(np.arange(24), 1)])
    both = ad.concat(cells, index_unique=":")
    profiles, left_out = pseudobulk(both, min_cells=1)
    split, tests = run(profiles, ARMS, ONE_CENTRE, left_out=left_out)
    whole, _ = run(as_profiles(counts), ARMS, ONE_CENTRE)
    assert tests[["n_alt", "n_ref"]].to_numpy().tolist() == [[10, 14]]
    pd.testing.assert_frame_equal(split.drop(columns="ambient"), whole.drop(columns="ambient"))


def test_ambient_genes_are_marked_keep_their_p_and_are_no_leads():
    rng = np.random.default_rng(7)
    planted = np.zeros(GENES)
    planted[:4] = np.log(6)
    counts = profile_counts(rng, ARMS, planted=planted)
    ambient = pd.DataFrame(
        {f"{name}-L": np.full(GENES, 1e-6) for name in ids(24)}, index=[f"G{i:03d}" for i in range(GENES)]
    )
    ambient.iloc[:2] = 0.4  # G000 and G001: the type's share is far below 0.2 x 0.4; G002 and G003 are not in the soup
    genes, tests = run(as_profiles(counts), ARMS, ONE_CENTRE, ambient=ambient)
    rows = genes.set_index("gene")
    assert rows.loc[["G000", "G001"], "ambient"].tolist() == [1, 1]
    assert rows["ambient"].sum() == 2
    assert (rows.loc[["G000", "G001"], "p"] < 0.001).all()
    assert rows.loc[["G000", "G001"], ["q", "q_global"]].isna().all(axis=None)
    assert (rows.loc[["G002", "G003"], "q_global"] < 0.1).all()
    assert tests["n_leads"].iloc[0] == (rows["q_global"] <= 0.1).sum()
    unknown, _ = run(as_profiles(counts), ARMS, ONE_CENTRE)
    assert unknown["ambient"].isna().all()


def test_rows_and_genes_may_stand_in_any_order_and_other_types_change_no_p():
    rng = np.random.default_rng(8)
    profiles = as_profiles(profile_counts(rng, ARMS, genes=80))
    plain, _ = run(profiles, ARMS, ONE_CENTRE)
    other = as_profiles(profile_counts(rng, ARMS[:12], genes=80), cell_type="mast")
    later = as_profiles(profile_counts(rng, ARMS, genes=80), timepoint="T3_resection")
    protocol = as_profiles(profile_counts(rng, ARMS[:2], genes=80), modality="snrna")
    everything = ad.concat([later, other, profiles[rng.permutation(24)], protocol])
    mixed, tests = run(everything[:, rng.permutation(80)].copy(), ARMS, ONE_CENTRE)
    same = mixed[mixed["cell_type"] == "nk"].reset_index(drop=True)
    pd.testing.assert_frame_equal(plain.drop(columns="q_global"), same.drop(columns="q_global"), rtol=1e-3)
    assert tests[["modality", "cell_type", "status"]].to_numpy().tolist() == [
        ["scrna", "mast", "refused"],
        ["scrna", "nk", "tested"],
        ["snrna", "nk", "refused"],
    ]


def test_swapping_the_classes_flips_the_fold_changes():
    rng = np.random.default_rng(9)
    profiles = as_profiles(profile_counts(rng, ARMS, genes=80))
    one, two = (run(profiles, y, ONE_CENTRE)[0].set_index("gene").sort_index() for y in (ARMS, 1 - ARMS))
    np.testing.assert_allclose(one["log2_fold_change"], -two["log2_fold_change"], rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(one["p"], two["p"], rtol=2e-2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scope": "B01"}, "R19: scope B01 is one batch"),
        ({"kind": "ordinal"}, "ordinal/continuous label"),
        ({"kind": "continuous"}, "ordinal/continuous label"),
        ({"timepoints": ["T0_pre", "T3_resection"]}, "R04: 2 timepoints are selected"),
        ({"timepoints": ["T3_resection"]}, "has seen treatment"),
        ({"min_patients_per_arm": 11}, "R01: 10 with and 14 without the label, where 11 patients of each are needed"),
        ({"look": 2}, "look 2"),
        ({"earlier_looks": 3}, "3 "),
    ],
)
def test_what_the_design_cannot_carry_is_refused_in_words(changes, words):
    profiles = as_profiles(profile_counts(np.random.default_rng(10), ARMS))
    genes, tests = run(profiles, ARMS, ONE_CENTRE, **changes)
    assert genes.empty
    assert list(genes.columns) == COLUMNS
    assert tests["status"].tolist() == ["refused"]
    assert re.search(re.escape(words), tests["reason"].iloc[0])


def test_few_patients_few_genes_confounding_and_no_cells_are_refused():
    counts = profile_counts(np.random.default_rng(11), ARMS)
    two = np.flatnonzero(ARMS == 1)[:2].tolist() + np.flatnonzero(ARMS == 0).tolist()
    _, small = run(as_profiles(counts[two], patients=[ids(24)[i] for i in two]), ARMS, ONE_CENTRE)
    assert "2 with and 14 without" in small["reason"].iloc[0]
    _, few = run(as_profiles(counts[:, :20]), ARMS, ONE_CENTRE)
    assert "genes with enough counts, where 50 are needed" in few["reason"].iloc[0]
    _, confounded = run(as_profiles(counts), ARMS, ARMS)
    assert "no centre of 2 holds both classes" in confounded["reason"].iloc[0]
    rare = pd.DataFrame(
        [["P00", "T0_pre", "liver_met", "scrna", "mast", 4]],
        columns=["patient_id", "timepoint", "tissue", "modality", "cell_type", "n_cells"],
    )
    _, none = run(as_profiles(counts)[:0].copy(), ARMS, ONE_CENTRE, left_out=rare)
    assert none[["cell_type", "status"]].to_numpy().tolist() == [["mast", "refused"]]
    genes, tests = run(as_profiles(counts)[:0].copy(), ARMS, ONE_CENTRE)
    assert genes.empty
    assert tests.empty
    assert list(tests.columns) == TEST_COLUMNS
