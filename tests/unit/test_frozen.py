"""Frozen reference and mapping: earlier labels stay, new ones are right, foreign cells are found, damage is refused."""

import copy
import json
from functools import cache

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.metrics import f1_score, roc_auc_score

from defaults import DEFAULTS
from frozen_cohort import ANNOTATE, CNV, MAX_OUT, cohort, libraries, mapped, reference, truth_of
from livermet import frozen as fz
from livermet import frozen_files as files
from livermet import mapping as mp
from livermet.files import write_h5ad
from livermet.integrate import log_normalise
from livermet.markers import compartment_of, load_markers
from livermet.overrides import read_overrides
from planted_cells import rows_of

SEEDS = (2,)


@cache
def scope(seed, without=""):
    return mapped(seed, without)


def new_cells(result):
    return result.cells.obs[result.cells.obs["reference"] == "mapped"]


def truth(seed, obs):
    return pd.Series(truth_of(libraries(seed)[1])).reindex(obs.index)


def macro_f1(right, called):
    return f1_score(right, called, labels=sorted(set(right)), average="macro", zero_division=0)


def test_cells_of_new_patients_and_another_chemistry_get_the_right_labels():
    """Over six seeds: compartments .83 to 1.00, types .52 to .84 (frozen cells themselves .58 to 1.00), malignant .98 to
    .99, beyond the reference 0 to .05."""
    scores = []
    for seed in SEEDS:
        obs = new_cells(scope(seed))
        right = truth(seed, obs)
        scores.append(
            {
                "compartments": macro_f1(right.map(compartment_of()), obs["compartment"].astype(str)),
                "types": macro_f1(right, obs["cell_type"].astype(str)),
                "malignant": f1_score(right == "malignant_ductal", obs["malignant"] == "malignant"),
                "beyond": (obs["out_of_reference"] > MAX_OUT).mean(),
            }
        )
        sure = obs["confidence"] >= 0.9
        assert (right == obs["cell_type"].astype(str))[sure].mean() >= (right == obs["cell_type"].astype(str)).mean()
    mean = pd.DataFrame(scores).mean()
    assert mean["compartments"] >= 0.9
    assert mean["types"] >= 0.6
    assert mean["malignant"] >= 0.95
    assert mean["beyond"] <= 0.05


def test_a_type_that_the_reference_lacks_is_beyond_it():
    """Neutrophils, which are left out of the reference: area under the curve .94 to 1.00 over six seeds."""
    areas, found = [], []
    for seed in SEEDS:
        obs = new_cells(scope(seed, "neutrophil"))
        foreign = (truth(seed, obs) == "neutrophil").to_numpy()
        areas.append(roc_auc_score(foreign, obs["out_of_reference"]))
        found.append((obs["cell_type"].astype(str) == "neutrophil").sum())
        beyond = obs["out_of_reference"] > MAX_OUT
        unless = obs["malignant"] == "malignant"
        assert set(obs.loc[beyond & ~unless, "cell_type"].astype(str)) <= {"unknown"}
        assert set(obs.loc[beyond & ~unless, "compartment"].astype(str)) <= {"unknown"}
    assert np.mean(areas) >= 0.85 and sum(found) == 0


def test_tumours_of_new_patients_are_called_by_their_own_copy_number():
    result = scope(2)
    arms = result.arms[result.arms["patient_id"].isin(["P06", "P07"])]
    planted = {adata.obs["patient_id"].iloc[0]: adata.uns["arms"] for adata in libraries(2)[1]}
    called = arms[arms["called"].isin(["gain", "loss"])]
    right = [planted[row.patient_id].get(row.arm) == row.called for row in called.itertuples()]
    assert len(right) >= 4 and np.mean(right) >= 0.8
    pd.testing.assert_frame_equal(
        result.arms[~result.arms["patient_id"].isin(["P06", "P07"])].reset_index(drop=True),
        cohort(2, "")[2].sort_values("patient_id", kind="stable", ignore_index=True),
    )


def test_no_frozen_cell_changes():
    before, result = cohort(2, "")[0], scope(2)
    after = result.cells[result.cells.obs["reference"] == "frozen"]
    assert set(after.obs_names) == set(before.obs_names)
    before = before[after.obs_names]
    for column in before.obs:
        left, right = before.obs[column].astype(object), after.obs[column].astype(object)
        assert ((left == right) | (left.isna() & right.isna())).all(), column
        assert isinstance(result.cells.obs[column].dtype, pd.CategoricalDtype) == isinstance(
            before.obs[column].dtype, pd.CategoricalDtype
        ), column
    assert (before.X != after.X).nnz == 0 and (before.layers["corrected"] != after.layers["corrected"]).nnz == 0
    for key in ("X_pca", "X_integrated", "X_umap"):
        np.testing.assert_array_equal(before.obsm[key], after.obsm[key])
    assert set(new_cells(result)["cluster"]) <= set(before.obs["cluster"])
    assert result.cells.obs_names.is_monotonic_increasing
    for column in ("malignant", "label_source", "subtype"):
        assert list(result.cells.obs[column].cat.categories) == list(cohort(2, "")[0].obs[column].cat.categories)
    whole = [column for column in before.obs if before.obs[column].notna().all()]
    assert {"cell_type", "cell_state", "subtype", "confidence", "timepoint"} <= set(whole)
    assert new_cells(result)[whole].notna().all().all()


def test_results_do_not_depend_on_the_order_of_libraries_nor_labels_on_the_other_new_ones():
    one, two = libraries(2)[1]
    forth, back = scope(2), mapped(2, new=[two, one])
    pd.testing.assert_frame_equal(forth.cells.obs, back.cells.obs)
    pd.testing.assert_frame_equal(forth.libraries, back.libraries)
    alone, together = new_cells(mapped(2, new=[one])), new_cells(forth)
    together = together.loc[alone.index]
    other = (together["compartment"] != "epithelial").to_numpy()
    for column in ("cell_type", "confidence", "cluster", "annotation_group", "out_of_reference"):
        assert (alone[column].astype(object) == together[column].astype(object))[other].all(), column


def test_a_batch_holds_its_own_libraries_only():
    old, new = libraries(2)
    batch = mapped(2, new=new[:1], scope=rows_of([old[0], new[0]]))
    assert set(batch.cells.obs["library_id"]) == {"L01", "L06"}
    assert set(batch.arms["patient_id"]) == {"P01", "P06"} and list(batch.cells.varm["ambient"]) == ["L01", "L06"]
    all_new = mapped(2, new=new[:1], scope=rows_of(new[:1]))
    assert set(all_new.cells.obs["reference"]) == {"mapped"} and all_new.cells.n_obs == new[0].n_obs


def test_without_new_cells_the_frozen_ones_come_back_and_without_any_there_is_a_reason():
    old, new = libraries(2)
    back = mapped(2, new=[], scope=rows_of(old))
    assert set(back.cells.obs["reference"]) == {"frozen"} and back.cells.n_obs == cohort(2, "")[0].n_obs
    assert (
        back.libraries["share_out"].isna().all() and mp.mapping_findings(back.libraries, name="a", warn_share=0) == []
    )
    none = mapped(2, new=[new[0][:0]], scope=[])
    assert none.cells.n_obs == 0 and "no single-cell library" in none.cells.uns["livermet"]["reason"]
    assert set(back.cells.obs) == set(none.cells.obs) and none.arms.empty and none.libraries.empty


def test_a_library_may_lack_genes_but_not_most_of_them():
    whole = libraries(2)[1][0]
    rng = np.random.default_rng(0)
    part = whole[:, np.sort(rng.permutation(whole.n_vars)[: int(0.7 * whole.n_vars)])].copy()
    few = mapped(2, new=[part])
    assert few.libraries.set_index("library_id").loc["L06", "genes_shared"] == pytest.approx(0.7, abs=0.01)
    one, two = new_cells(mapped(2, new=[whole])), new_cells(few)
    assert (one["compartment"].astype(str) == two["compartment"].astype(str)).mean() >= 0.9
    with pytest.raises(ValueError, match=r"library L06: .* genes of the reference .* at least 90%"):
        mapped(2, new=[part], min_genes_shared=0.9)


def test_a_sample_sequenced_again_is_tested_beside_its_frozen_cells():
    """A library with epithelial cells alone has no normal cells of its own; those frozen of its sample serve."""
    old = libraries(2)[0][0]
    again = old[old.obs["true_type"].isin(["malignant_ductal"]).to_numpy()].copy()
    again.obs["library_id"] = "L99"
    again.obs_names = [name.replace("L01:", "L99:") for name in again.obs_names]
    obs = new_cells(mapped(2, new=[again]))
    assert (obs["malignant"] == "malignant").mean() >= 0.9
    strange = again.copy()
    strange.obs["patient_id"] = "P99"
    assert set(new_cells(mapped(2, new=[strange]))["malignant"]) == {"not_tested"}


def test_overrides_reach_new_cells_and_leave_frozen_ones(tmp_path):
    before = new_cells(scope(2))
    cluster = before["cluster"].value_counts().index[0]
    frozen_cell = cohort(2, "")[0].obs_names[0]
    path = tmp_path / "overrides.tsv"
    path.write_text(f"cluster\tcell\tcell_type\tnote\n{cluster}\t\tkupffer\t\n\t{frozen_cell}\tmast\t\n")
    table = read_overrides(path)
    assert table.findings == ()
    result = mapped(2, overrides=table)
    obs = result.cells.obs
    there = (obs["reference"] == "mapped") & (obs["cluster"] == cluster)
    assert set(obs.loc[there, "cell_type"]) == {"kupffer"} and set(obs.loc[there, "label_source"]) == {"override"}
    stay = obs["reference"] == "frozen"
    kept = cohort(2, "")[0].obs["cell_type"].astype(str)
    assert (obs.loc[stay, "cell_type"].astype(str) == kept.reindex(obs.index[stay])).all()


def test_the_components_are_those_of_the_frozen_cells():
    cells, model = cohort(2, "")[0], reference(2).model
    log_counts = log_normalise(cells.X)
    scores = log_counts @ model.varm["loadings"] - model.var["pca_mean"].to_numpy() @ model.varm["loadings"]
    np.testing.assert_allclose(scores, cells.obsm["X_pca"], atol=1e-3)


def test_frozen_cells_mapped_as_new_get_their_own_labels():
    """All but the copy-number step, on the frozen cells themselves: the groups and types are recognised."""
    cells = cohort(2, "")[0]
    again = cells.copy()
    again.varm["measured"] = pd.DataFrame(
        True, index=cells.var_names, columns=sorted(set(cells.obs["library_id"].astype(str)))
    )
    mp._label_by_groups(again, reference(2), min_confidence=ANNOTATE["min_confidence"], seed=1)
    assert (again.obs["compartment"].astype(str) == cells.obs["compartment"].astype(str)).mean() >= 0.97
    assert (again.obs["annotation_group"].astype(str) == cells.obs["annotation_group"].astype(str)).mean() >= 0.9


def test_the_score_is_a_share_of_held_out_cells():
    """Held-out cells scored against their own null are spread evenly."""
    cells = cohort(2, "")[0]
    names, code = np.unique(cells.obs["annotation_group"].astype(str), return_inverse=True)
    model = reference(2).model
    held_out = fz.held_out_misfit(
        sp.csr_matrix(cells.X).astype(np.float32),
        code,
        types=model.obs["cell_type"].to_numpy(dtype=object),
        patients=cells.obs["patient_id"].astype(str).to_numpy(),
        libraries=cells.obs["library_id"].astype(str).to_numpy(),
        seed=1,
    )
    score = fz.out_of_reference(held_out, model.uns["misfit"])
    assert list(model.obs_names) == list(names)
    for share in (0.5, 0.9, 0.99):
        assert (score > share).mean() == pytest.approx(1 - share, abs=0.01 + 0.05 * (1 - share))


def test_chance_deviance_is_that_of_drawn_counts():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(3000, 0.5))
    expected = fz.expected_deviance(shares)
    for depth in (300, 3000, 100_000):
        counts = sp.csr_matrix(rng.poisson(shares * depth, size=(40, 3000)).astype(float))
        fit = counts @ np.log(np.maximum(shares, 1e-12))
        seen = fz.deviance(counts, np.asarray(fit)).mean()
        assert np.interp(np.log(depth), fz.DEPTHS, expected) == pytest.approx(seen, rel=0.05)


def test_profiles_adapt_to_what_a_library_captures():
    rng = np.random.default_rng(1)
    sums = rng.poisson(rng.lognormal(3, 1, size=(2, 1500))).astype(float)
    profiles = fz.Profiles.of(sums, np.array([50, 50]), np.array(["a", "b"], dtype=object))
    factor = rng.lognormal(0, 0.8, size=1500)
    shifted = profiles.shares[:2] * factor
    shifted /= shifted.sum(axis=1, keepdims=True)
    kind = np.repeat([0, 1], 60)
    counts = sp.csr_matrix(rng.poisson(shifted[kind] * 2000).astype(np.float32))
    measured = np.ones(1500, dtype=bool)
    fit = fz.adapted_fit(counts, profiles, measured=measured)
    plain = counts @ np.log(profiles.shares).T
    assert (fit.argmax(axis=1) == kind).all()
    best = np.arange(len(kind))
    assert (fz.deviance(counts, fit[best, kind]) < fz.deviance(counts, plain[best, kind])).all()


def test_what_cannot_be_frozen_is_refused():
    cells, marker_evidence, _, _ = cohort(2, "")
    options = {"min_state_cells": 30, "seed": 1}
    with pytest.raises(ValueError, match="at least two patients"):
        fz.freeze(cells[cells.obs["patient_id"] == "P01"], marker_evidence, load_markers(), **options)
    with pytest.raises(ValueError, match="0 cells"):
        fz.freeze(cells[:0], marker_evidence, load_markers(), **options)
    with pytest.raises(ValueError, match="mapped onto the reference 'look1'"):
        fz.freeze(scope(2).cells, marker_evidence, load_markers(), **options)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A frozen folder, with what it was made from."""
    home = tmp_path_factory.mktemp("stored")
    cells, marker_evidence, arms, clustering = cohort(2, "")
    write_h5ad(cells, home / "cells.h5ad")
    for name, table in (("markers", marker_evidence), ("cnv", arms), ("clustering", clustering)):
        table.to_csv(home / f"{name}.tsv", sep="\t", index=False)
    paths = {}
    for adata in libraries(2)[0]:
        library = adata.copy()
        library.obs["total_counts"] = np.asarray(library.X.sum(axis=1)).ravel().astype(int)
        library.obs["n_genes"] = library.X.getnnz(axis=1)
        paths[library.obs["library_id"].iloc[0]] = home / f"{library.obs['library_id'].iloc[0]}.h5ad"
        write_h5ad(library, paths[library.obs["library_id"].iloc[0]])

    def write(folder):
        return fz.write_reference(
            reference(2),
            folder,
            cells=home / "cells.h5ad",
            obs=cells.obs,
            tables=[home / f"{name}.tsv" for name in ("markers", "cnv", "clustering")],
            libraries=paths,
            config={"annotate": dict(ANNOTATE), "cnv": dict(CNV)},
            seed=1,
        )

    return home, paths, write


def test_a_frozen_folder_gives_the_same_reference_back(stored, tmp_path):
    _, _, write = stored
    manifest = write(tmp_path / "look1")
    assert files.verify(tmp_path / "look1") == json.loads(json.dumps(manifest))
    back, there = fz.read_reference(tmp_path / "look1"), reference(2)
    pd.testing.assert_frame_equal(back.markers, there.markers)
    pd.testing.assert_frame_equal(back.model.uns["misfit"], there.model.uns["misfit"], check_names=False)
    new = mp.pool_onto(libraries(2)[1], rows_of(libraries(2)[1]), back.model.var, min_genes_shared=0.5)
    options = {"annotate": ANNOTATE, "cnv": CNV, "max_out": MAX_OUT, "seed": 1}
    earlier = ad.read_h5ad(tmp_path / "look1" / files.CELLS)
    from livermet.genes import gene_positions

    new, _ = mp.map_cells(new, back, gene_positions(), earlier=earlier, **options)
    known = new_cells(scope(2))
    for column in ("cell_type", "cluster", "malignant", "cell_state"):
        assert (new.obs[column].astype(str) == known[column].astype(str)).all()
    before = {path: path.read_bytes() for path in (tmp_path / "look1").rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"'look1' in .* already, and none is ever overwritten"):
        write(tmp_path / "look1")
    assert {path: path.read_bytes() for path in (tmp_path / "look1").rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["look1"]


def test_damage_is_found_before_any_compute(stored, tmp_path):
    _, _, write = stored
    folder = tmp_path / "look1"
    write(folder)
    table = folder / "tables" / "markers.tsv"
    text = table.read_text()
    table.write_text(text.replace("1", "2"))
    with pytest.raises(ValueError, match=r"look1/tables/markers.tsv: changed since it was frozen"):
        files.verify(folder)
    table.write_text(text[:-5])
    with pytest.raises(ValueError, match=r"markers.tsv: \d+ bytes, \d+ when it was frozen"):
        files.read_manifest(folder)
    table.unlink()
    with pytest.raises(ValueError, match="the file is missing; restore"):
        files.read_manifest(folder)
    for content, words in (("{", "damaged"), ('{"format": 99}', "format 99, expected 1"), ("[]", "format None")):
        (folder / files.MANIFEST).write_text(content)
        with pytest.raises(ValueError, match=words):
            files.read_manifest(folder)
    (folder / files.MANIFEST).unlink()
    with pytest.raises(ValueError, match="no frozen reference"):
        files.read_manifest(folder)


def test_a_library_that_changed_is_named(stored, tmp_path):
    _, paths, write = stored
    manifest = write(tmp_path / "look1")
    rows = rows_of(libraries(2)[0])
    for row in rows:
        row |= {"patient_id": row["library_id"].replace("L", "P"), "sample_id": row["library_id"].replace("L", "S")}
    fz.refuse_changed(manifest, rows=rows, libraries=paths)
    changed = ad.read_h5ad(paths["L02"])
    write_h5ad(changed, tmp_path / "rewritten.h5ad", compression="gzip")
    fz.refuse_changed(manifest, rows=rows, libraries=paths | {"L02": tmp_path / "rewritten.h5ad"})
    changed.obs.iloc[0, changed.obs.columns.get_loc("total_counts")] += 1
    write_h5ad(changed, tmp_path / "changed.h5ad")
    with pytest.raises(ValueError, match=r"'look1' .* 1 libraries: L02: its counts or kept cells differ"):
        fz.refuse_changed(manifest, rows=rows, libraries=paths | {"L02": tmp_path / "changed.h5ad"})
    rows[2] = rows[2] | {"patient_id": "P01"}
    with pytest.raises(ValueError, match="L03: patient_id is 'P01', was 'P03'"):
        fz.refuse_changed(manifest, rows=rows, libraries=paths)


def test_the_check_of_the_config_tells_what_is_wrong_with_a_reference(stored, tmp_path):
    _, _, write = stored
    config = copy.deepcopy(DEFAULTS)
    assert files.reference_findings(config, workdir=tmp_path, withdrawn=()) == []
    config["reference"]["use"] = "look2"

    def one(withdrawn=()):
        (finding,) = files.reference_findings(config, workdir=tmp_path, withdrawn=withdrawn)
        return finding

    assert one().severity == "error" and "freeze_reference" in one().remedy
    write(tmp_path / "references" / "look1")
    assert one().remedy == "use look1"
    config["reference"]["use"] = "look1"
    assert files.reference_findings(config, workdir=tmp_path, withdrawn=["L99"]) == []
    assert one(["L01"]).severity == "error" and "without consent" in one(["L01"]).message
    config["cnv"]["min_arms"] = 4
    assert one().severity == "warning" and "cnv.min_arms" in one().message
    (tmp_path / "references" / "look1" / files.MODEL).write_bytes(b"")
    assert one().severity == "error" and "model.h5ad: 0 bytes" in one().message and "restore" in one().remedy


def test_a_library_with_many_foreign_cells_is_a_warning():
    table = pd.DataFrame([["L1", "mapped", 100, 1.0, 30, 25.0, 0.25, 0.9]], columns=list(mp.MAPPING_COLUMNS))
    (finding,) = mp.mapping_findings(table, name="look1", warn_share=0.1)
    assert finding.severity == "warning" and finding.value == "L1" and "25 of 100 cells (25%)" in finding.message
    assert mp.mapping_findings(table, name="look1", warn_share=0.3) == []
