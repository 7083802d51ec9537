"""The simulated study: formats, reproducibility, and truth that agrees with the files."""

import hashlib
import io
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import f1_score

from livermet.files import read_table
from livermet.markers import load_markers
from livermet.simulate import SIZES, cohort_counts, simulate_study, study_design
from livermet.simulate.clinical import composition_deviations, recist_call, simulate_patients
from livermet.simulate.expression import build_atlas, library_rates, select_genes
from livermet.simulate.hard import choose_hard_cases
from livermet.simulate.persons import simulate_alleles, with_personal_genes
from livermet.simulate.tissue import GRID_UM, signed_distance, simulate_section, zone_of

SMALL = {"n_cells": 100, "n_spots": 120, "n_genes": 4000, "n_empty": 200, "image_pixels": 200}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    simulate_study(folder, size="tiny", seed=3, **SMALL)
    return folder


def _truth(study, name):
    return pd.read_csv(study / "truth" / name, sep="\t", keep_default_na=False)


def _libraries(study, modality):
    table = read_table(study / "study" / "libraries.tsv")
    return table[table["modality"] == modality]


def _read_h5(path):
    with h5py.File(path) as file:
        matrix = file["matrix"]
        shape = tuple(matrix["shape"][:][::-1])
        counts = sparse.csr_matrix((matrix["data"][:], matrix["indices"][:], matrix["indptr"][:]), shape=shape)
        return counts, matrix["barcodes"][:].astype(str), matrix["features/name"][:].astype(str)


def _all_cells(study):
    """Counts and truth of all single-cell libraries that came as h5."""
    truth = _truth(study, "cells.tsv.gz")
    blocks, tables = [], []
    for row in _libraries(study, "scrna").itertuples():
        if row.path.endswith(".h5"):
            counts, barcodes, symbols = _read_h5(study / "study" / row.path)
            table = truth[truth["library_id"] == row.library_id]
            assert table["barcode"].tolist() == barcodes.tolist()
            blocks.append(counts)
            tables.append(table)
    return sparse.vstack(blocks).tocsr(), pd.concat(tables, ignore_index=True), symbols


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_scanpy_reads_every_single_cell_file(study):
    sc = pytest.importorskip("scanpy")
    truth = _truth(study, "cells.tsv.gz")
    kinds = set()
    for row in _libraries(study, "scrna").itertuples():
        path = study / "study" / row.path
        kinds.add(path.suffix)
        adata = sc.read_10x_h5(path) if path.suffix == ".h5" else sc.read_10x_mtx(path)
        expected = truth.loc[truth["library_id"] == row.library_id, "barcode"]
        assert adata.obs_names.tolist() == expected.tolist()
        assert adata.var["gene_ids"].str.startswith("ENSGSIM").all()
        assert set(adata.var["feature_types"]) == {"Gene Expression"}
        assert (adata.X.data == np.round(adata.X.data)).all() and adata.X.sum() > 0
    assert kinds == {".h5", ""}


def test_raw_droplets_hold_the_filtered_cells_and_an_ambient_profile(study):
    rows = _libraries(study, "scrna")
    rows = rows[rows["raw_path"].notna()]
    assert len(rows) >= 2
    for row in rows.itertuples():
        counts, barcodes, _ = _read_h5(study / "study" / row.path)
        raw, raw_barcodes, _ = _read_h5(study / "study" / row.raw_path)
        place = pd.Index(raw_barcodes).get_indexer(barcodes)
        assert (place >= 0).all() and (raw[place] != counts).nnz == 0
        empty = np.setdiff1d(np.arange(len(raw_barcodes)), place)
        assert len(empty) == SMALL["n_empty"]
        assert np.median(np.asarray(raw[empty].sum(axis=1))) < 60 < np.median(np.asarray(counts.sum(axis=1)))


def test_squidpy_reads_every_section(study):
    sq = pytest.importorskip("squidpy")
    truth = _truth(study, "spots.tsv.gz")
    sections = _truth(study, "sections.tsv").set_index("library_id")
    for row in _libraries(study, "visium").itertuples():
        adata = sq.read.visium(study / "study" / row.path)
        table = truth[truth["library_id"] == row.library_id].set_index("barcode").loc[adata.obs_names]
        pixel_um = sections.loc[row.library_id, "pixel_um"]
        # squidpy names the two pixel columns the other way round, and turns them again: x, y result.
        np.testing.assert_allclose(adata.obsm["spatial"] * pixel_um, table[["x_um", "y_um"]], atol=pixel_um)
        assert adata.uns["spatial"][row.library_id]["images"]["hires"].shape[2] == 3
        assert (adata.obs["in_tissue"] == 1).all()


def test_positions_follow_the_hexagonal_array(study):
    headers = set()
    for row in _libraries(study, "visium").itertuples():
        folder = study / "study" / row.path / "spatial"
        path = folder / "tissue_positions.csv"
        headers.add(path.exists())
        names = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]
        if path.exists():
            table = pd.read_csv(path)
            assert table.columns.tolist() == names
        else:
            table = pd.read_csv(folder / "tissue_positions_list.csv", header=None, names=names)
        assert ((table["array_row"] + table["array_col"]) % 2 == 0).all()
        assert set(table["in_tissue"]) == {0, 1}
        factors = json.loads((folder / "scalefactors_json.json").read_text())
        pixel_um = 65.0 / factors["spot_diameter_fullres"]
        xy = table[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy() * pixel_um
        distance = np.linalg.norm(xy[:, None] - xy[None], axis=2) + 1e9 * np.eye(len(xy))
        np.testing.assert_allclose(distance.min(axis=1), 100, atol=2)
    assert headers == {True, False}


def test_same_seed_gives_the_same_bytes_and_another_seed_another_study(tmp_path):
    small = {
        "n_patients": 6,
        "n_cells": 15,
        "n_spots": 40,
        "n_genes": 3000,
        "n_empty": 30,
        "mtx_every": 3,
        "image_pixels": 150,
    }
    runs = {}
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        simulate_study(tmp_path / name, size="tiny", seed=seed, **small)
        runs[name] = _digests(tmp_path / name)
    assert runs["a"] == runs["b"]
    same = [path for path, digest in runs["c"].items() if runs["a"].get(path) == digest]
    # Beside the marker only what holds no random value may agree.
    assert all(
        path.endswith(
            ("SIMULATED", "scalefactors_json.json", "features.tsv.gz", "effects.tsv", "traps.tsv", "hard_cases.tsv")
        )
        for path in same
    )


def test_study_holds_every_table_and_no_truth(study):
    tables = (
        "patients samples libraries treatment local_treatment scans lesions response blood pathology outcome".split()
    )
    assert {p.name for p in (study / "study").iterdir()} == {f"{t}.tsv" for t in tables} | {"SIMULATED", "raw"}
    patients = read_table(study / "study" / "patients.tsv")
    hidden = {"responder", "group", "soup_mean", "ligand_z", "burden", "basal_fraction"}
    assert not hidden & set(patients.columns)
    libraries = read_table(study / "study" / "libraries.tsv")
    for path in [*libraries["path"], *libraries["raw_path"].dropna()]:
        assert (study / "study" / path).exists()


def test_truth_of_response_agrees_with_recist_in_the_tables(study):
    patients = _truth(study, "patients.tsv").set_index("patient_id")
    lesions = read_table(study / "study" / "lesions.tsv")
    scans = read_table(study / "study" / "scans.tsv")
    response = read_table(study / "study" / "response.tsv")
    sums = lesions[lesions["target"] == 1].groupby(["patient_id", "day"])["diameter_mm"].sum()
    new = scans.set_index(["patient_id", "day"])["new_lesion"]
    for patient_id, evaluations in response.groupby("patient_id"):
        series = sums[patient_id].sort_index()
        for row in evaluations.itertuples():
            call = recist_call(series.iloc[0], series[series.index < row.eval_day].min(), series[row.eval_day])
            assert row.recist == ("PD" if new[patient_id, row.eval_day] else call)
        assert (evaluations["recist"] != "PD").all() == bool(patients.loc[patient_id, "responder"])
    assert set(response["patient_id"]) == set(patients.index)


def test_only_disease_controlled_patients_are_resected_and_live_to_surgery():
    for seed in range(3):
        patients = simulate_patients(study_design("full", seed=seed))
        assert (patients.loc[patients["resected"] == 1, "responder"] == 1).all()
        assert patients.loc[patients["group"] == "resection_only", "resected"].all()


@pytest.mark.parametrize(("baseline", "nadir", "current", "call"), [
    (100, 100, 70, "PR"), (100, 100, 71, "SD"), (100, 50, 60, "PD"), (20, 20, 24, "SD"), (100, 40, 48, "PD"), (30, 30, 0, "CR"),
])  # fmt: skip
def test_recist_from_sums(baseline, nadir, current, call):
    assert recist_call(baseline, nadir, current) == call


def test_response_and_centre_are_not_aliased_unless_wished():
    for seed in range(5):
        free = simulate_patients(study_design("demo", seed=seed))
        free = free[free["group"] == "t0_liver"]
        assert (free.groupby("centre")["responder"].nunique() == 2).sum() >= 3
        assert free["responder"].sum() == 12
        assert (free.groupby("responder")["batch"].nunique() >= 2).all()
        bound = simulate_patients(study_design("demo", seed=seed, centre_confounding=1.0))
        bound = bound[bound["group"] == "t0_liver"]
        assert (bound.groupby("centre")["responder"].nunique() == 2).sum() <= 1


def test_three_types_differ_by_response_and_the_others_do_not():
    planted = {"tam_SPP1": -0.8, "t_CD8_effector": 0.7, "caf_pan": -0.5}
    differences = []
    for seed in range(8):
        design = study_design("full", seed=seed, n_patients=200, centre_confounding=0.0)
        patients = simulate_patients(design)
        shift = composition_deviations(patients, design).reset_index(drop=True)
        y = patients["responder"] == 1
        differences.append(shift[y].mean() - shift[~y].mean())
    mean = pd.DataFrame(differences).mean()
    for name, beta in planted.items():
        assert mean[name] == pytest.approx(beta, abs=0.15)
    assert mean.drop(list(planted)).abs().max() < 0.15


def test_cohort_counts_have_patients_in_rows_and_cells_conserved():
    patients, counts = cohort_counts(study_design("full", seed=2), n_cells=500)
    assert counts.index.tolist() == patients["patient_id"].tolist()
    assert (counts.sum(axis=1) == 500).all()
    assert counts["acinar_contam"].sum() == 0


def test_genes_are_in_genomic_order_and_hold_every_marker():
    genes = select_genes(study_design("tiny", seed=1))
    placed = genes[genes["chromosome"].notna()]
    assert len(placed) >= 6000
    for _, group in placed.groupby("chromosome"):
        assert group["start"].is_monotonic_increasing
    assert {g for markers in load_markers()["genes"] for g in markers} <= set(genes["symbol"])
    assert genes["symbol"].str.startswith("MT-").sum() == 13
    assert genes["symbol"].is_unique and genes["gene_id"].is_unique


def test_types_express_part_of_their_markers_and_genes_outside_the_table():
    design = study_design("tiny", seed=4)
    atlas = build_atlas(design)
    markers = load_markers()
    tabled = {g for genes in markers["genes"] for g in genes}
    for name, rows in atlas.programmes.groupby("target"):
        own = rows[rows["reason"] == "own"]
        assert not set(own["gene"]) & tabled
        if name in markers.index:
            assert set(rows.loc[rows["reason"] == "marker", "gene"]) <= set(markers.loc[name, "genes"])
        if name in set(atlas.populations["cell_type"]):
            assert len(own) >= 100
    shares = [
        (atlas.programmes["target"].eq(name) & atlas.programmes["reason"].eq("marker")).sum()
        / len(markers.loc[name, "genes"])
        for name in markers.index.intersection(atlas.populations["cell_type"])
    ]
    assert 0.5 < np.mean(shares) < 0.7
    assert {"novel_a", "novel_b"} <= set(atlas.populations["cell_type"]) - set(markers.index)


def test_platform_changes_genes_but_not_patients():
    design = study_design("tiny", seed=4)
    atlas = build_atlas(design)
    patient = simulate_patients(design).iloc[0]
    common = {"patient": patient, "batch": "B01", "chemistry": "SC3Pv3"}
    cells = library_rates(atlas, design, platform="cells", **common)
    spots = library_rates(atlas, design, platform="visium", **common)
    free = ~atlas.genes["mito"].to_numpy()
    ratio = np.log(spots[:, free] / cells[:, free])
    ratio -= ratio.mean(axis=1, keepdims=True)
    assert ratio.std() == pytest.approx(0.7, abs=0.05)
    np.testing.assert_allclose(ratio[0], ratio[5], atol=1e-3)


def test_marker_means_do_not_solve_the_study(study):
    counts, truth, symbols = _all_cells(study)
    good = ((truth["is_doublet"] == 0) & (truth["low_quality"] == 0)).to_numpy()
    counts, truth = counts[good].astype(float), truth[good]
    logged = (sparse.diags(1e4 / np.asarray(counts.sum(axis=1)).ravel()) @ counts).log1p().tocsc()
    markers = load_markers()
    markers = markers[markers["level"] == "type"]
    index = pd.Index(symbols)
    means = [np.asarray(logged[:, index.get_indexer(genes)].mean(axis=1)).ravel() for genes in markers["genes"]]
    naive = markers.index.to_numpy()[np.argmax(means, axis=0)]
    types = [t for t in sorted(set(truth["cell_type"])) if t in markers.index]
    score = f1_score(truth["cell_type"], naive, labels=types, average="macro", zero_division=0)
    # .40 to .60 over five seeds of this size.
    assert 0.25 < score < 0.75


def test_copy_number_moves_the_genes_of_its_arm_in_malignant_cells_only(study):
    counts, truth, symbols = _all_cells(study)
    events = _truth(study, "cnv.tsv")
    genes = with_personal_genes(select_genes(study_design("tiny", seed=3, **SMALL)))
    assert genes["symbol"].tolist() == symbols.tolist()
    patient = truth["library_id"].str.extract(r"^(SIM-\d+)")[0].to_numpy()
    clean = ((truth["is_doublet"] == 0) & (truth["low_quality"] == 0)).to_numpy()
    shifts = {1: [], 0: []}
    for (_, kind), group in events.groupby(["arm", "kind"]):
        place = group.iloc[0]
        here = (genes["chromosome"] == place["chromosome"]) & genes["start"].between(place["start"], place["end"])
        for malignant, found in shifts.items():
            cells = clean & (truth["malignant"] == malignant).to_numpy()
            # Per gene, patients with the event against patients without: a few strong genes cannot carry the sum.
            carrier = np.isin(patient, group["patient_id"])
            profiles = [np.asarray(counts[cells & side].sum(axis=0)).ravel() + 1.0 for side in (carrier, ~carrier)]
            if all((cells & side).any() for side in (carrier, ~carrier)):
                ratio = np.log2(profiles[0] / profiles[0].sum()) - np.log2(profiles[1] / profiles[1].sum())
                expressed = (np.minimum(*profiles) > 20) & here.to_numpy()
                if expressed.sum() >= 10:
                    found.append((1 if kind == "gain" else -1) * (ratio[expressed].mean() - np.median(ratio)))
    # Over five seeds .42 to .63 in malignant cells and at most .10 in the others.
    assert np.mean(shifts[1]) > 0.25
    assert abs(np.mean(shifts[0])) < 0.2


def test_technical_truth_shows_in_the_counts(study):
    counts, truth, symbols = _all_cells(study)
    total = np.asarray(counts.sum(axis=1)).ravel()
    mito = np.asarray(counts[:, [s.startswith("MT-") for s in symbols]].sum(axis=1)).ravel() / total
    bad, double = truth["low_quality"].to_numpy() == 1, truth["is_doublet"].to_numpy() == 1
    assert np.median(mito[bad]) > 0.25 > np.median(mito[~bad])
    assert np.median(total[double & ~bad]) > 1.2 * np.median(total[~double & ~bad])
    assert 0.01 < double.mean() < 0.1
    assert truth.loc[double, "heterotypic"].mean() > 0.5 and truth.loc[~double, "heterotypic"].sum() == 0
    # Albumin of lymphocytes is ambient: within a library it grows with the cell's ambient fraction.
    lymphocyte = (truth["compartment"] == "lymphoid").to_numpy() & ~bad & ~double
    albumin = np.asarray(counts[:, np.flatnonzero(symbols == "ALB")].todense()).ravel() / total
    table = truth.assign(albumin=albumin, ambient=truth["ambient_fraction"])[lymphocyte]
    centred = table[["albumin", "ambient"]] - table.groupby("library_id")[["albumin", "ambient"]].transform("mean")
    assert (centred["albumin"] * centred["ambient"]).sum() > 0


def test_planted_niche_lies_in_margins_of_non_responders_only(study):
    spots, sections = _truth(study, "spots.tsv.gz"), _truth(study, "sections.tsv").set_index("library_id")
    niche = spots[spots["planted_niche"] == 1]
    assert len(niche) >= 5
    assert (sections.loc[niche["library_id"].unique(), "responder"] == 0).all()
    assert (niche["zone"] == "margin").all()
    assert sections["negative_control"].sum() == 1
    abundance = pd.read_parquet(study / "truth" / "abundance.parquet")
    table = abundance.pivot_table(
        index=["library_id", "barcode"], columns="cell_type", values="abundance", fill_value=0
    )
    np.testing.assert_allclose(table.sum(axis=1), 1)
    keyed = spots.set_index(["library_id", "barcode"]).loc[table.index]
    margin = (keyed["zone"] == "margin").to_numpy()
    inside = (keyed["planted_niche"] == 1).to_numpy()
    assert table.loc[inside, "tam_SPP1"].mean() > 2 * table.loc[margin & ~inside, "tam_SPP1"].mean()


def test_tissue_changes_at_the_border(study):
    spots = _truth(study, "spots.tsv.gz").set_index(["library_id", "barcode"])
    abundance = pd.read_parquet(study / "truth" / "abundance.parquet").set_index(["library_id", "barcode"])
    distance = pd.to_numeric(spots["signed_distance_um"])
    for name, inside_more in (("malignant_ductal", True), ("hepatocyte", False)):
        values = abundance.loc[abundance["cell_type"] == name, "abundance"]
        inner, outer = values[distance.loc[values.index] < -150].mean(), values[distance.loc[values.index] > 150].mean()
        assert (inner > 5 * outer) if inside_more else (outer > 5 * inner)
    assert (zone_of(distance.to_numpy()) == spots["zone"]).all()


def test_signed_distance_of_a_straight_border_is_exact():
    mask = np.zeros((40, 60), dtype=bool)
    mask[:, :30] = True
    distance = signed_distance(mask)
    np.testing.assert_allclose(distance[5], (np.arange(60) - 29.5) * GRID_UM)
    mask[20, 50] = True  # a lone island is not the tumour
    mask[10, 10] = False  # a hole is
    np.testing.assert_allclose(signed_distance(mask), distance)


def test_section_without_liver_has_no_border():
    design = study_design("tiny", seed=1)
    section = simulate_section(design, shape="core", layout="no_liver", hgp="pushing", rng=np.random.default_rng(0))
    assert np.isnan(section.distance).all()
    assert section.spots["in_tissue"].sum() == pytest.approx(design.n_spots, rel=0.15)
    assert (zone_of(np.full(3, np.nan)) == "none").all()


def test_sizes_are_valid_and_wrong_parameters_are_named():
    assert set(SIZES) == {"tiny", "demo", "full"}
    assert (SIZES["demo"].n_patients, SIZES["demo"].n_sections, SIZES["demo"].n_centres) == (24, 13, 6)
    with pytest.raises(ValueError, match="size: 'huge' is not known"):
        study_design("huge", seed=1)
    with pytest.raises(ValueError, match="n_patient: no such parameter"):
        study_design("tiny", seed=1, n_patient=3)
    with pytest.raises(ValueError, match="n_sections: 30"):
        study_design("tiny", seed=1, n_sections=30)


@pytest.mark.parametrize("n_patients", [6, 12, 40])
def test_number_of_patients_scales_what_hangs_on_it(n_patients):
    design = study_design("demo", seed=1, n_patients=n_patients)
    patients = simulate_patients(design)
    assert len(patients) == n_patients
    assert (patients["group"] != "t0_liver").sum() == pytest.approx(n_patients / 6, abs=1)
    assert study_design("demo", seed=1, n_patients=n_patients, n_sections=2).n_sections == 2


def test_a_folder_that_was_not_simulated_is_left_alone(tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "patients.tsv").write_text("patient_id\n")
    with pytest.raises(ValueError, match="was not simulated"):
        simulate_study(tmp_path, size="tiny", seed=1, **SMALL)
    assert (tmp_path / "study" / "patients.tsv").read_text() == "patient_id\n"


def test_written_matrices_are_the_same_in_both_formats(tmp_path):
    from livermet.simulate import write

    counts = sparse.random(7, 5, 0.4, format="csr", random_state=np.random.default_rng(0))
    counts.data = np.ceil(counts.data * 9)
    counts = counts.astype(np.int32)
    genes = pd.DataFrame({"gene_id": [f"G{i}" for i in range(5)], "symbol": [f"S{i}" for i in range(5)]})
    names = write.barcodes(7, np.random.default_rng(1))
    meta = {"library_id": "L", "chemistry": "SC3Pv3", "software": "test"}
    write.write_10x_h5(counts, names, genes, tmp_path / "m.h5", **meta)
    write.write_10x_mtx(counts, names, genes, tmp_path / "m")
    import gzip

    from scipy.io import mmread

    mtx = mmread(io.BytesIO(gzip.decompress((tmp_path / "m" / "matrix.mtx.gz").read_bytes())))
    h5, barcodes, _ = _read_h5(tmp_path / "m.h5")
    assert barcodes.tolist() == names
    assert (sparse.csr_matrix(mtx.T) != h5).nnz == 0 and (h5 != counts).nnz == 0


def _sums(study, library):
    """Counts of each gene in one library that came as h5."""
    path = (
        study
        / "study"
        / _libraries(study, library["modality"]).set_index("library_id").loc[library["library_id"], "path"]
    )
    counts, _, symbols = _read_h5(path if path.suffix == ".h5" else path / "filtered_feature_bc_matrix.h5")
    return pd.Series(np.asarray(counts.sum(axis=0)).ravel(), index=symbols)


def _h5_libraries(study):
    table = read_table(study / "study" / "libraries.tsv").merge(
        read_table(study / "study" / "samples.tsv"), on="sample_id"
    )
    return table[(table["modality"] == "visium") | table["path"].str.endswith(".h5")]


def test_personal_genes_are_found_in_the_patients_who_have_them_alone(study):
    alleles = _truth(study, "alleles.tsv").set_index("patient_id")
    sexes = read_table(study / "study" / "patients.tsv").set_index("patient_id")["sex"]
    assert {0, 1} == set(alleles[["GSTM1", "HLA-DRB4", "HLA-DRB5"]].to_numpy().ravel()) and alleles["GSTM2"].all()
    y_genes = select_genes(study_design("tiny", seed=3, **SMALL)).query("chromosome == 'chrY'")["symbol"]
    for _, library in _h5_libraries(study).iterrows():
        sums = _sums(study, library)
        assert sums.index.is_unique
        per_million = 1e6 * sums / sums.sum()
        for gene, level in {"GSTM1": 5, "HLA-DRB4": 10, "HLA-DRB5": 12}.items():
            assert (per_million[gene] > level) == bool(alleles.loc[library["patient_id"], gene])
        assert (per_million["XIST"] > 50) == (sexes[library["patient_id"]] == "F")
        assert (sums[y_genes].sum() > 50) == (sexes[library["patient_id"]] == "M")


def test_personal_genes_have_the_frequencies_of_the_design():
    patients = pd.DataFrame({"patient_id": [f"P{i}" for i in range(4000)]})
    share = simulate_alleles(patients, study_design("demo", seed=1)).mean()
    expected = {"GSTM1": 0.5, "GSTT1": 0.8, "ERAP2": 0.7, "HLA-DRB4": 1 - 0.72**2, "HLA-DRB5": 1 - 0.85**2, "LNPEP": 1}
    for gene, value in expected.items():
        assert share[gene] == pytest.approx(value, abs=0.03)


def test_traps_exchange_and_repeat_files_and_leave_all_else_alone(study, tmp_path):
    simulate_study(tmp_path, size="tiny", seed=3, **SMALL, sample_swap="cross_sex", duplicated_patient=True)
    sound, trapped = (_digests(folder / "study") for folder in (study, tmp_path))
    copied = [path for path in trapped if "-copy/" in path]
    assert [path for path in sound if trapped[path] != sound[path]] == ["libraries.tsv"]
    assert set(trapped) == set(sound) | set(copied) and copied

    traps = _truth(tmp_path, "traps.tsv")
    assert traps["trap"].tolist() == ["sample_swap", "sample_swap", "duplicated_patient"]
    assert _truth(study, "traps.tsv").empty
    tables = [read_table(folder / "study" / "libraries.tsv").set_index("library_id") for folder in (study, tmp_path)]
    before, after = (table["path"] for table in tables)
    assert set(before.index[before != after]) == set(traps["library_id"])
    samples = read_table(tmp_path / "study" / "samples.tsv").set_index("sample_id")["patient_id"]
    sexes = read_table(tmp_path / "study" / "patients.tsv").set_index("patient_id")["sex"]
    patient = tables[0]["sample_id"].map(samples)
    for trap in traps.itertuples():
        assert patient[trap.library_id] != patient[trap.holds]
        if trap.trap == "sample_swap":
            assert after[trap.library_id] == before[trap.holds]
            assert sexes[patient[trap.library_id]] != sexes[patient[trap.holds]]
        else:
            target = Path(after[trap.library_id])
            matches = [p for p in copied if p.startswith(str(target))]
            assert matches and all(trapped[p] in set(sound.values()) for p in matches)


@pytest.fixture(scope="module")
def hard_study(tmp_path_factory):
    """The study of the fixture ``study`` with hard cases."""
    folder = tmp_path_factory.mktemp("hard")
    simulate_study(folder, size="tiny", seed=3, **SMALL, hard_cases=True)
    return folder


def test_hard_cases_are_what_they_are_called(study, hard_study):
    cases = _truth(hard_study, "hard_cases.tsv").set_index("case")
    assert set(cases.index) == {"few_cells", "hepatocyte_rich", "no_copy_number", "own_chemistry"}
    assert cases["patient_id"].is_unique and cases["library_id"].is_unique
    cells = _truth(hard_study, "cells.tsv.gz").set_index("library_id")
    libraries = _libraries(hard_study, "scrna").set_index("library_id")
    few = cases.loc["few_cells", "library_id"]
    sizes = cells.index.value_counts()
    assert sizes[few] == libraries.loc[few, "expected_cells"] == 60
    assert (sizes.drop(few) == SMALL["n_cells"]).all() and (libraries["expected_cells"].drop(few) == 6000).all()
    rich = cells.loc[cases.loc["hepatocyte_rich", "library_id"], "cell_type"] == "hepatocyte"
    assert 0.85 < rich.mean() < 1
    flat = cases.loc["no_copy_number"]
    assert flat["patient_id"] not in set(_truth(hard_study, "cnv.tsv")["patient_id"])
    assert flat["patient_id"] in set(_truth(study, "cnv.tsv")["patient_id"])
    assert cells.loc[flat["library_id"], "malignant"].sum() >= 5
    patients = _truth(hard_study, "patients.tsv").set_index("patient_id")
    own = cases.loc[["own_chemistry"]]
    (centre,) = patients.loc[own["patient_id"], "centre"].unique()
    assert len(own) == (patients["centre"] == centre).sum() >= 2
    chemistry = libraries["chemistry"]
    assert set(chemistry[own["library_id"]]) == {"SC3Pv2"} and "SC3Pv2" not in set(chemistry.drop(own["library_id"]))


def test_hard_cases_leave_every_other_library_as_it_is(study, hard_study):
    """What the option adds moves no draw of the study without it."""
    cases = _truth(hard_study, "hard_cases.tsv")
    assert _truth(study, "hard_cases.tsv").empty
    plain, hard = _digests(study), _digests(hard_study)
    assert set(plain) == set(hard)
    changed = {path for path in plain if plain[path] != hard[path]}
    flat = cases.loc[cases["case"] == "no_copy_number", "patient_id"].iloc[0]
    owners = (*cases["library_id"], f"{flat}-T0-VIS")
    allowed = {"truth/cells.tsv.gz", "truth/cnv.tsv", "truth/hard_cases.tsv", "truth/parameters.yaml"}
    allowed |= {"study/libraries.tsv"}
    assert all(path in allowed or path.split("/")[2] in owners for path in changed)
    touched = {path.split("/")[2] for path in changed if path.startswith("study/raw/")}
    assert set(cases["library_id"]) <= touched
    tables = [_truth(folder, "cells.tsv.gz").set_index("library_id") for folder in (study, hard_study)]
    pd.testing.assert_frame_equal(*(table.drop(index=cases["library_id"]) for table in tables))


def test_a_chemistry_of_its_own_moves_genes_alike_in_all_types():
    design = study_design("tiny", seed=4)
    atlas = build_atlas(design)
    patient = simulate_patients(design).iloc[0]
    rates = {
        name: library_rates(atlas, design, patient=patient, batch="B01", chemistry=name, platform="cells")
        for name in ("SC3Pv3", "SC5P-R2", "SC3Pv2")
    }
    free = ~atlas.genes["mito"].to_numpy()
    ratios = {name: np.log(rate[:, free] / rates["SC3Pv3"][:, free]) for name, rate in rates.items()}
    own = ratios["SC3Pv2"] - ratios["SC3Pv2"].mean(axis=1, keepdims=True)
    assert own.std() == pytest.approx(0.35, abs=0.02)
    np.testing.assert_allclose(own[0], own[5], atol=1e-3)
    assert abs(np.corrcoef(own[0], ratios["SC5P-R2"][0])[0, 1]) < 0.1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", ["demo", "full"])
def test_hard_cases_find_patients_in_every_study(size, seed):
    design = study_design(size, seed=seed, hard_cases=True)
    cases = choose_hard_cases(simulate_patients(design), design)
    assert cases["patient_id"].is_unique and cases["case"].nunique() == 4


def test_hard_cases_need_patients_enough():
    design = study_design("demo", seed=1, hard_cases=True)
    few = simulate_patients(design).groupby("centre").head(1)
    with pytest.raises(ValueError, match="hard_cases: a centre of two patients and three patients with liver tissue"):
        choose_hard_cases(few, design)


def test_an_unknown_trap_is_refused():
    with pytest.raises(ValueError, match="sample_swap: 'both' is not known; give cross_sex, same_sex or nothing"):
        study_design("tiny", seed=1, sample_swap="both")
