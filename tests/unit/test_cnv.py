"""Copy number: arms, scores, calls."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.metrics import roc_auc_score

from defaults import DEFAULTS
from livermet import annotate as an
from livermet import cnv
from livermet import integrate as ig
from livermet.genes import gene_positions
from planted_cells import planted_cells, rows_of

TYPES = [
    "malignant_ductal",
    "cholangiocyte",
    "hepatocyte",
    "t_CD8_effector",
    "tam_SPP1",
    "endothelial_vascular",
    "caf_pan",
]
OPTIONS = DEFAULTS["cnv"]


def called(libraries, prior=0.5, **options):
    cells = ig.pool_libraries(libraries, rows_of(libraries), min_genes_shared=0.5)
    truth = pd.concat([library.obs for library in libraries]).loc[cells.obs_names, "true_type"].to_numpy()
    candidate = np.isin(truth, ["malignant_ductal", "cholangiocyte"])
    result = cnv.call_malignant(
        cells,
        candidate=candidate,
        prior=np.where(candidate, np.where(truth == "malignant_ductal", prior, 1 - prior), 0.0),
        reference=np.isin(truth, ["t_CD8_effector", "tam_SPP1", "endothelial_vascular"]),
        groups=truth,
        positions=gene_positions(),
        **OPTIONS | options,
        seed=1,
    )
    return cells, truth, result


def test_arms_of_known_genes():
    arms = cnv.chromosome_arms(gene_positions())
    known = {"KRAS": "12p", "MYC": "8q", "EGFR": "7p", "CDKN2A": "9p", "TP53": "17p", "SMAD4": "18q", "ERBB2": "17q"}
    known |= {"ROCK1": "18q11", "SS18": "18q11"}  # the band of GATA6, gained in tumours that lose SMAD4 on the same arm
    found = {gene: arms[gene] for gene in known if gene in arms.index}
    assert len(found) >= 6 and {"ROCK1", "SMAD4"} <= set(found)
    assert found == {gene: known[gene] for gene in found}
    assert set(cnv.pdac_arms().index) <= set(arms)
    assert set(cnv.pdac_arms()["expected"]) == {"gain", "loss"}
    nowhere = pd.DataFrame({"chromosome": [np.nan], "start": [np.nan], "end": [np.nan]}, index=["X"])
    assert cnv.chromosome_arms(nowhere).tolist() == [""]


@pytest.mark.parametrize("seed", [1, 2])
def test_malignant_cells_arms_and_normal_ducts(seed):
    libraries = planted_cells(seed=seed, n_patients=2, n_cells=350, n_genes=6500, types=TYPES, novel=0)
    _, truth, result = called(libraries)
    tumour, duct = truth == "malignant_ductal", truth == "cholangiocyte"
    assert roc_auc_score(tumour, result.cells["cnv_score"]) >= 0.97
    assert (result.cells["malignant"][tumour] == "malignant").mean() >= 0.9
    assert (result.cells["malignant"][duct] == "malignant").mean() <= 0.05
    hits, wrong = 0, 0
    for library in libraries:
        events = library.uns["arms"]
        arms = result.arms[result.arms["patient_id"] == library.obs["patient_id"].iloc[0]].set_index("arm")
        hits += sum(arms.loc[arm, "called"] == kind for arm, kind in events.items())
        wrong += (arms.drop(index=list(events))["called"] != "neutral").sum()
    assert hits >= 0.7 * 8
    assert wrong <= 0.1 * len(result.arms)
    expected = result.arms.set_index("arm")["pdac"]
    assert set(expected["12p"]) == {"gain"} and set(expected["9p"]) == {"loss"} and set(expected["3p"]) == {""}
    private = result.cells["patient_private"]
    assert private[tumour].median() >= 0.5
    assert private[duct].median() < 0.5
    assert private[~(tumour | duct)].isna().all()


def test_a_patient_without_tumour_has_no_malignant_majority():
    """Bile-duct cells alone: whatever the mixture finds among them, it must not call them malignant."""
    libraries = planted_cells(seed=5, n_patients=2, n_cells=300, n_genes=6500, types=TYPES[1:], novel=0)
    _, truth, result = called(libraries)
    assert (result.cells["malignant"][truth == "cholangiocyte"] == "malignant").mean() <= 0.1


def test_what_can_not_be_tested_says_why():
    libraries = planted_cells(seed=3, n_patients=1, n_cells=120, n_genes=1500, types=TYPES, novel=0)
    cells, _, result = called(libraries)
    assert set(result.cells["malignant"]) == {"not_tested"}
    assert result.arms["reason"].str.contains("5000 needed").all()
    _, _, result = called(libraries, min_genes=500, min_reference_cells=1000)
    assert set(result.cells["malignant"]) == {"not_tested"}
    assert result.arms["reason"].str.contains("immune and endothelial cells, 1000 needed").all()
    assert result.cells["cnv_score"].isna().all()
    assert len(result.cells) == cells.n_obs


def test_the_mixture_is_calibrated_and_admits_ignorance():
    rng = np.random.default_rng(0)
    normal, duct, tumour = rng.normal(0, 1, 600), rng.normal(0, 1, 60), rng.normal(6, 1.5, 80)
    score = np.concatenate([normal, duct, tumour])
    candidate = np.arange(len(score)) >= 600
    groups = np.repeat(["n", "d", "t"], [600, 60, 80])
    p = cnv.mixture_probability(score, candidate, groups)
    assert (p[:600] == 0).all()
    assert (p[600:660] < 0.1).mean() >= 0.95
    assert (p[660:] > 0.9).mean() >= 0.95
    alone = np.concatenate([normal, duct])
    p = cnv.mixture_probability(alone, np.arange(660) >= 600, groups[:660])
    assert (p <= 0.5).all()


def test_arm_profile_finds_gain_and_loss_and_no_more():
    rng = np.random.default_rng(1)
    arms = np.repeat(["1p", "1q", "2p", "2q", ""], 80)
    share = rng.lognormal(0, 1, size=400)
    tumour = share * np.select([arms == "1p", arms == "2q"], [1.5, 0.55], 1.0) * rng.lognormal(0, 0.4, 400)
    reference = rng.poisson(3e5 * share / share.sum())
    table = cnv.arm_profile(rng.poisson(3e5 * tumour / tumour.sum()), reference, arms, min_log_ratio=0.12, min_z=3.0)
    assert table.set_index("arm")["called"].to_dict() == {"1p": "gain", "1q": "neutral", "2p": "neutral", "2q": "loss"}


def test_a_tumour_without_changed_arms_stays_ambiguous_and_ducts_stay_normal():
    libraries = planted_cells(seed=1, n_patients=2, n_cells=350, n_genes=6500, types=TYPES, novel=0)
    _, truth, result = called(libraries, prior=0.9, arm_log_ratio=5.0)
    tumour, duct = truth == "malignant_ductal", truth == "cholangiocyte"
    assert "malignant" not in set(result.cells["malignant"])
    assert (result.cells["malignant"][tumour] == "ambiguous").mean() >= 0.8
    assert (result.cells["malignant"][duct] == "normal").all()
    assert result.arms["reason"].str.contains("keep to this patient and stay ambiguous").all()
    assert (result.cells["malignant_probability"] == 0).all()


def private_to(patients, groups, shift, handling, seed=0):
    """Privacy of cells of groups whose profile differs between patients by ``shift`` of the group, and by ``handling``."""
    rng = np.random.default_rng(seed)
    base = rng.lognormal(0, 1, size=400)
    of_group = {name: rng.lognormal(0, 0.5, size=400) for name in sorted(set(groups))}
    of_patient = {name: rng.normal(0, 1, size=(2, 400)) for name in sorted(set(patients))}
    log_share = [
        np.log(base * of_group[g]) + shift[g] * of_patient[p][0] + handling * of_patient[p][1]
        for p, g in zip(patients, groups, strict=True)
    ]
    share = np.exp(log_share)
    counts = sp.csr_matrix(rng.poisson(2000 * share / share.sum(axis=1, keepdims=True)).astype(np.float32))
    names = np.array([f"c{i:04d}" for i in range(len(patients))])

    def privacy(cells=slice(None), **changes):
        given = {"patients": patients[cells], "groups": groups[cells], "names": names[cells]} | changes
        immune = groups[cells] == "immune"
        return cnv.patient_privacy(counts[cells], **given, candidate=~immune, reference=immune, seed=1)

    return privacy


@pytest.mark.parametrize("handling", [0.0, 0.4])
def test_malignant_clusters_are_private_and_ducts_shared_however_samples_were_handled(handling):
    rng = np.random.default_rng(1)
    patients = rng.choice(["A", "B", "C"], size=500, p=[0.6, 0.3, 0.1])  # uneven: the largest patient is not private
    groups = rng.choice(["tumour", "duct", "immune"], size=500)
    privacy = private_to(patients, groups, {"tumour": 0.5, "duct": 0.0, "immune": 0.0}, handling)
    private = privacy()
    assert private[groups == "tumour"].min() > 0.8
    assert private[groups == "duct"].max() < 0.2
    assert np.isnan(private[groups == "immune"]).all()
    order = rng.permutation(500)
    np.testing.assert_allclose(privacy(order), private[order])


def test_privacy_is_not_known_with_one_patient_or_few_cells():
    patients, groups = np.repeat(["A", "B"], 40), np.tile(["tumour", "immune"], 40)
    privacy = private_to(patients, groups, {"tumour": 0.5, "immune": 0.0}, 0.0)
    assert np.isnan(privacy(patients=np.full(80, "A"))).all()
    assert np.isnan(privacy(slice(0, 6))).all()
    assert np.isfinite(privacy()[::2]).all()


RULES = [
    # markers, prior, copy number, probability, private, expected type
    ("malignant_ductal", 0.9, "malignant", 0.99, 0.9, "malignant_ductal"),
    ("cholangiocyte", 0.1, "malignant", 0.99, 0.1, "malignant_ductal"),
    ("cholangiocyte", 0.1, "normal", 0.01, 0.1, "cholangiocyte"),
    ("cholangiocyte", 0.1, "normal", 0.01, 0.9, "cholangiocyte"),
    ("malignant_ductal", 0.99, "normal", 0.02, 0.9, "epithelial_uncertain"),
    ("malignant_ductal", 0.99, "ambiguous", 0.5, 0.9, "malignant_ductal"),
    ("malignant_ductal", 0.99, "ambiguous", 0.5, 0.1, "epithelial_uncertain"),
    ("malignant_ductal", 0.99, "ambiguous", 0.5, np.nan, "epithelial_uncertain"),
    ("malignant_ductal", 0.9, "ambiguous", 0.5, 0.9, "epithelial_uncertain"),  # markers not clear
    ("malignant_ductal", 0.99, "ambiguous", 0.0, 0.9, "epithelial_uncertain"),  # no changed arms in the patient
    ("cholangiocyte", 0.01, "ambiguous", 0.5, 0.1, "cholangiocyte"),
    ("cholangiocyte", 0.01, "ambiguous", 0.5, 0.9, "epithelial_uncertain"),
    ("malignant_ductal", 0.99, "not_tested", np.nan, 0.9, "malignant_ductal"),
    ("malignant_ductal", 0.99, "not_tested", np.nan, np.nan, "malignant_ductal"),
    ("malignant_ductal", 0.99, "not_tested", np.nan, 0.1, "epithelial_uncertain"),
    ("malignant_ductal", 0.6, "not_tested", np.nan, 0.9, "epithelial_uncertain"),
    ("cholangiocyte", 0.01, "not_tested", np.nan, 0.1, "cholangiocyte"),
]


def test_rules_join_markers_copy_number_and_privacy():
    table = pd.DataFrame(RULES, columns=["type", "prior", "call", "probability", "private", "expected"])
    table.index = [f"c{i}" for i in table.index]
    table.loc["immune"] = ["b_cell", 0.0, "normal", 0.0, np.nan, "b_cell"]
    obs = pd.DataFrame(
        {
            "compartment": np.where(table["type"] == "b_cell", "lymphoid", "epithelial"),
            "cell_type": table["type"],
            "confidence": 0.8,
            "malignant_prior": table["prior"],
        }
    )
    scores = pd.DataFrame(
        {
            "malignant": table["call"],
            "cnv_score": 0.0,
            "malignant_probability": table["probability"],
            "patient_private": table["private"],
        }
    )
    cells = ig.AnnData(np.zeros((len(table), 1), dtype=np.int32), obs=obs)
    result = cnv.CopyNumbers(cells=scores, arms=pd.DataFrame())
    cells = an.apply_copy_numbers(cells, result, min_score=3.0, min_private=0.5)
    assert cells.obs["cell_type"].tolist() == table["expected"].tolist()
    assert cells.obs["malignant"].tolist() == table["call"].tolist()  # a call is what copy number says, nothing else
    assert cells.obs["confidence"].between(0, 1).all()
    pd.testing.assert_series_equal(cells.obs["patient_private"], table["private"], check_names=False)


def test_each_sample_of_a_patient_has_its_own_reference():
    """What a sample's handling does to all of its cells is no copy number."""
    (library,) = planted_cells(seed=4, n_patients=1, n_cells=500, n_genes=6500, types=TYPES, novel=0)
    placed = gene_positions().reindex(library.var_names)
    changed = cnv.chromosome_arms(placed).isin(["3p", "3q", "5q"]).to_numpy()
    usable = placed["chromosome"].notna().to_numpy()
    second = np.arange(library.n_obs) % 2 == 1
    log_counts = ig.log_normalise(sp.csr_matrix(library.X))[:, usable].tolil()
    log_counts[np.ix_(second, changed[usable])] = log_counts[np.ix_(second, changed[usable])] * 2
    log_counts = log_counts.tocsr()
    normal = np.isin(library.obs["true_type"], ["t_CD8_effector", "tam_SPP1", "endothelial_vascular"])
    options = {"positions": placed[usable], "window": 100, "step": 10}

    def shift(samples, **changes):
        given = {"min_reference_cells": 50} | changes
        ratios = cnv.ratios_by_sample(log_counts, samples, normal, **given, **options)
        assert ratios.shape[0] == library.n_obs and np.isfinite(ratios).all()
        return np.abs(ratios[second & normal].mean(axis=0) - ratios[~second & normal].mean(axis=0)).max()

    apart, together = np.where(second, "S02", "S01"), np.full(library.n_obs, "S01")
    assert shift(apart) < 0.3 * shift(together)
    assert shift(apart, min_reference_cells=10_000) > 0.9 * shift(together)  # too few: those of the patient
