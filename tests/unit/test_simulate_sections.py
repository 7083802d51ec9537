"""Simulated sections: bins and cells as the instruments leave them, growth patterns, drawn tumours, and their truth."""

import hashlib
import json

import h5py
import numpy as np
import pandas as pd
import pytest
import shapely
from scipy import sparse
from scipy.spatial import cKDTree

from livermet.files import read_table
from livermet.simulate import simulate_cells_section, simulate_study, study_design
from livermet.simulate.cells import (
    LEAST_DISTANCE_UM,
    bin_frame,
    bin_transcripts,
    bin_weights,
    bleed,
    choose_panel,
    merge_bins,
    place_cells,
    polygon_areas,
)
from livermet.simulate.clinical import HGPS, simulate_patients
from livermet.simulate.expression import build_atlas
from livermet.simulate.sections import plan_sections, section_samples
from livermet.simulate.tissue import GRID_UM, Section, drawn_tumour, interface_mm, simulate_section

SMALL = {
    "n_cells": 40,
    "n_spots": 60,
    "n_genes": 3000,
    "n_empty": 50,
    "image_pixels": 200,
    "n_hd": 1,
    "n_xenium": 2,
    "core_mm2": 0.4,
    "n_adjacent_sections": 1,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sections")
    simulate_study(folder, size="tiny", seed=3, **SMALL)
    return folder


def truth_of(study, name):
    return pd.read_csv(study / "truth" / name, sep="\t", keep_default_na=False, na_values=[""])


def libraries_of(study, modality):
    table = read_table(study / "study" / "libraries.tsv")
    rows = table[table["modality"] == modality]
    assert len(rows)
    return [(row.library_id, study / "study" / row.path) for row in rows.itertuples()]


def read_h5(path):
    with h5py.File(path) as file:
        matrix = file["matrix"]
        shape = tuple(matrix["shape"][:][::-1])
        counts = sparse.csr_matrix((matrix["data"][:], matrix["indices"][:], matrix["indptr"][:]), shape=shape)
        features = {name: matrix[f"features/{name}"][:].astype(str) for name in ("id", "name", "feature_type")}
        return counts, matrix["barcodes"][:].astype(str), pd.DataFrame(features)


def straight(*, shape=(201, 301)):
    """A section of 3 x 2 mm, all tissue, tumour left of a straight border in the middle."""
    x = np.arange(shape[1]) * GRID_UM
    distance = np.tile(x - x.mean(), (shape[0], 1))
    return Section(distance=distance, outline=np.zeros(shape), spots=pd.DataFrame())


# ---------------------------------------------------------------------------------------------------------- platforms


def test_bins_of_both_sizes_agree_with_one_another_and_with_their_positions(study):
    for library, folder in libraries_of(study, "visium_hd"):
        sums, symbols = {}, {}
        for size in (8, 16):
            place = folder / "binned_outputs" / f"square_{size:03d}um"
            counts, barcodes, features = read_h5(place / "filtered_feature_bc_matrix.h5")
            positions = pd.read_parquet(place / "spatial" / "tissue_positions.parquet").set_index("barcode")
            factors = json.loads((place / "spatial" / "scalefactors_json.json").read_text())
            here = positions.loc[barcodes]
            assert (here["in_tissue"] == 1).all() and (positions["in_tissue"] == 0).any()
            assert factors["bin_size_um"] == size
            assert factors["spot_diameter_fullres"] * factors["microns_per_pixel"] == pytest.approx(size)
            assert (place / "spatial" / "tissue_lowres_image.png").exists()
            um = factors["microns_per_pixel"]
            centre = np.column_stack([here["array_col"], here["array_row"]]) * size + size / 2
            np.testing.assert_allclose(here[["pxl_col_in_fullres", "pxl_row_in_fullres"]] * um, centre, atol=1e-6)
            truth = truth_of(study, "bins.tsv.gz")
            truth = truth[(truth["library_id"] == library) & (truth["bin_um"] == size)]
            assert truth["barcode"].tolist() == barcodes.tolist()
            np.testing.assert_allclose(truth[["x_um", "y_um"]], centre, atol=0.01)
            sums[size] = (here["array_row"] * size // 16, here["array_col"] * size // 16, counts.sum(axis=1).A1)
            symbols[size] = features["name"].tolist()
        totals = [
            pd.Series(total).groupby([row.to_numpy(), column.to_numpy()]).sum() for row, column, total in sums.values()
        ]
        small, large = totals
        both = small.index.intersection(large.index)
        assert len(both) > 0.9 * len(large)
        assert (small[both] <= large[both]).all() and (small[both] == large[both]).mean() > 0.9
        assert symbols[8] == symbols[16]
        assert 20 < np.median(sums[8][2]) < 200


def test_bin_abundances_are_fractions_and_name_the_majority(study):
    shares = pd.read_parquet(study / "truth" / "bin_abundance.parquet")
    wide = shares.pivot_table(index=["library_id", "barcode"], columns="cell_type", values="abundance", fill_value=0.0)
    np.testing.assert_allclose(wide.sum(axis=1), 1, atol=1e-6)
    bins = truth_of(study, "bins.tsv.gz").set_index(["library_id", "barcode"]).loc[wide.index]
    assert (wide.idxmax(axis=1) == bins["cell_type"]).all()


def test_xenium_files_agree_with_one_another_and_with_the_truth(study):
    truth = truth_of(study, "section_cells.tsv.gz")
    for library, folder in libraries_of(study, "xenium"):
        counts, barcodes, features = read_h5(folder / "cell_feature_matrix.h5")
        cells = pd.read_parquet(folder / "cells.parquet")
        outlines = pd.read_parquet(folder / "cell_boundaries.parquet")
        experiment = json.loads((folder / "experiment.xenium").read_text())
        here = truth[truth["library_id"] == library]
        assert barcodes.tolist() == cells["cell_id"].tolist() == here["barcode"].tolist()
        assert experiment["pixel_size"] == 0.2125 and experiment["num_cells"] == len(cells)
        np.testing.assert_allclose(cells[["x_centroid", "y_centroid"]], here[["x_um", "y_um"]], rtol=1e-5)
        genes = (features["feature_type"] == "Gene Expression").to_numpy()
        assert 280 <= genes.sum() <= 330
        assert {"Negative Control Probe", "Unassigned Codeword"} < set(features["feature_type"])
        assert (cells["transcript_counts"] == counts[:, genes].sum(axis=1).A1).all()
        probes = (features["feature_type"] == "Negative Control Probe").to_numpy()
        assert (cells["control_probe_counts"] == counts[:, probes].sum(axis=1).A1).all()
        assert cells["control_probe_counts"].sum() > 0
        assert 60 < cells["transcript_counts"].median() < 200
        assert 0 < counts[:, ~genes].sum() < 0.01 * counts.sum()
        polygons = outlines.groupby("cell_id", sort=False)[["vertex_x", "vertex_y"]]
        assert polygons.ngroups == len(cells)
        first, last = polygons.first(), polygons.last()
        np.testing.assert_array_equal(first, last)
        shapes = [shapely.Polygon(part.to_numpy()) for _, part in polygons]
        assert all(shape.is_valid for shape in shapes)
        np.testing.assert_allclose([shape.area for shape in shapes], cells["cell_area"], rtol=1e-3)
        assert all(
            shape.contains(shapely.Point(xy))
            for shape, xy in zip(shapes, here[["x_um", "y_um"]].to_numpy(), strict=True)
        )
        assert (cells["nucleus_area"] < cells["cell_area"]).all()


def test_cells_show_their_own_type_in_the_panel(study):
    atlas = build_atlas(study_design("tiny", seed=3, n_genes=SMALL["n_genes"]))
    for library, folder in libraries_of(study, "xenium"):
        counts, _, features = read_h5(folder / "cell_feature_matrix.h5")
        truth = truth_of(study, "section_cells.tsv.gz")
        truth = truth[truth["library_id"] == library]
        rows = atlas.programmes.query("target == 'hepatocyte' and reason == 'marker'")["gene"]
        markers = features["name"].isin(rows).to_numpy()
        share = counts[:, markers].sum(axis=1).A1 / counts.sum(axis=1).A1
        of_type = (truth["cell_type"] == "hepatocyte").to_numpy()
        assert share[of_type].mean() > 3 * share[~of_type].mean()


def test_panel_holds_the_margin_programme_and_no_gene_of_a_person():
    design = study_design("tiny", seed=2)
    atlas = build_atlas(design)
    panel = choose_panel(atlas, design)
    symbols = set(atlas.genes["symbol"].iloc[panel])
    assert len(panel) == len(symbols) and 280 <= len(panel) <= 330
    assert {"VIM", "LAMC2", "SERPINE1"} <= symbols
    assert not symbols & {"XIST", "RPS4Y1", "DDX3Y", "GSTM1", "MT-CO1"}


# --------------------------------------------------------------------------------------------------- cells in tissue


def test_cells_keep_their_distance_and_have_the_density_wanted():
    section = straight()
    xy = place_cells(section, rng=np.random.default_rng(0))
    nearest = cKDTree(xy).query(xy, k=2)[0][:, 1]
    assert nearest.min() >= LEAST_DISTANCE_UM
    in_tumour = xy[:, 0] < 1500
    # 6 mm2: 1.1 times 2,500 in the tumour, 0.9 times in the liver
    assert in_tumour.sum() == pytest.approx(1.1 * 2500 * 3, rel=0.06)
    assert (~in_tumour).sum() == pytest.approx(0.9 * 2500 * 3, rel=0.06)


def test_bleeding_moves_transcripts_to_neighbours_and_loses_none():
    rng = np.random.default_rng(1)
    xy = np.array([[0.0, 0], [10, 0], [0, 10], [500, 500]])
    counts = sparse.csr_matrix(np.array([[1000, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1000]], dtype=np.int32))
    result = bleed(counts, xy, share=0.1, rng=rng).toarray()
    assert result.sum(axis=0).tolist() == [1000, 0, 1000]
    assert result[3].tolist() == [0, 0, 1000]  # no neighbour within reach
    assert result[0, 0] == pytest.approx(900, abs=40)
    assert result[1, 0] == pytest.approx(50, abs=25) and result[2, 0] == pytest.approx(50, abs=25)
    assert (bleed(counts, xy, share=0.0, rng=rng) != counts).nnz == 0
    assert bleed(counts[:1], xy[:1], share=0.5, rng=rng).sum() == 1000
    assert bleed(counts[:0], xy[:0], share=0.5, rng=rng).shape == (0, 3)


def test_transcripts_fall_into_bins_as_the_weights_say():
    section = Section(distance=np.zeros((21, 31)), outline=np.zeros((21, 31)), spots=pd.DataFrame())
    bins = bin_frame(section)
    xy = np.array([[150.0, 100.0], [20.0, 20.0]])
    weights = bin_weights(xy, bins)
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=0.01)
    counts = sparse.csr_matrix(np.array([[20000], [20000]], dtype=np.int32))
    found = bin_transcripts(counts, xy, bins, rng=np.random.default_rng(2)).toarray().ravel()
    expected = 20000 * weights.sum(axis=1).A1
    assert np.abs(found - expected).max() < 5 * np.sqrt(expected.max())
    larger = bin_frame(section, bin_um=16)
    merge = merge_bins(bins, larger, factor=2)
    assert (merge.sum(axis=1) == 4).all() and (merge.sum(axis=0) == 1).all()
    centre = (merge @ bins[["x", "y"]].to_numpy()) / 4
    np.testing.assert_allclose(centre, larger[["x", "y"]])


def test_area_of_a_square_outline():
    square = np.array([[[0, 0], [2, 0], [2, 2], [0, 2]]], dtype=float)
    assert polygon_areas(square).tolist() == [4]


@pytest.fixture(scope="module", params=[2, 5])
def patterns(request):
    sections = {}
    for hgp in HGPS:
        sections[hgp] = simulate_cells_section(n_cells=8000, hgp=hgp, planted_niche=False, seed=request.param)
        sections[hgp].uns["seed"] = request.param
    return sections


def share_of(adata, cell_type, low, high):
    near = adata.obs["signed_distance_um"].between(low, high)
    return (adata.obs.loc[near, "cell_type"] == cell_type).mean()


def test_growth_patterns_differ_at_the_border(patterns):
    rim = {hgp: share_of(adata, "caf_pan", 20, 130) for hgp, adata in patterns.items()}
    assert rim["desmoplastic"] > 0.4 > 4 * max(rim["replacement"], rim["pushing"])
    # The rim ends: 200 um beyond the border there are no more fibroblasts than elsewhere.
    assert share_of(patterns["desmoplastic"], "caf_pan", 200, 500) < 0.05

    contact = {}
    for hgp, adata in patterns.items():
        kinds = adata.obs["cell_type"].to_numpy()
        tumour, liver = (adata.obsm["spatial"][kinds == name] for name in ("malignant_ductal", "hepatocyte"))
        contact[hgp] = (cKDTree(liver).query(tumour)[0] < 20).sum()
    # Over six seeds replacement has 5 to 7 times the contacts of pushing and 9 times those of desmoplastic or more.
    assert contact["replacement"] > 2 * contact["pushing"] > 0
    assert contact["replacement"] > 5 * contact["desmoplastic"]


def test_hepatocytes_are_pressed_flat_before_a_tumour_that_pushes(patterns):
    def flatness(adata, low, high):
        chosen = (adata.obs["cell_type"] == "hepatocyte") & adata.obs["signed_distance_um"].between(low, high)
        vertices = adata.uns["polygons"]["vertices"].reshape(adata.n_obs, -1, 2)[chosen.to_numpy()]
        spread = [np.sqrt(np.linalg.eigvalsh(np.cov(part.T))) for part in vertices]
        return np.mean([high_ / low_ for low_, high_ in spread])

    assert flatness(patterns["pushing"], 0, 150) > 1.6
    assert flatness(patterns["pushing"], 300, 900) < 1.4
    assert flatness(patterns["replacement"], 0, 150) < 1.4


def test_single_malignant_cells_lie_beyond_the_border_in_replacement_alone(patterns):
    beyond = {hgp: share_of(adata, "malignant_ductal", 250, 400) for hgp, adata in patterns.items()}
    far = {hgp: share_of(adata, "malignant_ductal", 700, 5000) for hgp, adata in patterns.items()}
    # Over six seeds .4 to 7 % in replacement (8 % at the border and 120 um alone make .4 %), up to .5 % in
    # desmoplastic, whose gradients are wider than those of pushing.
    assert 0.002 < beyond["replacement"] < 0.12
    assert beyond["pushing"] < 0.002 and beyond["desmoplastic"] < beyond["replacement"]
    assert max(far.values()) < 0.001


def test_a_section_in_memory_follows_the_contract_of_imaged_cells(patterns):
    adata = patterns["pushing"]
    assert adata.n_obs == pytest.approx(8000, rel=0.05)
    assert adata.X.dtype.kind == "i" and sparse.issparse(adata.X)
    assert adata.uns["livermet"]["resolution"] == "cell"
    polygons = adata.uns["polygons"]
    assert polygons["vertices"].dtype == np.float32 and polygons["offsets"].dtype == np.int64
    assert len(polygons["offsets"]) == adata.n_obs + 1 and polygons["offsets"][-1] == len(polygons["vertices"])
    again = simulate_cells_section(n_cells=8000, hgp="pushing", planted_niche=False, seed=adata.uns["seed"])
    assert (again.X != adata.X).nnz == 0 and again.obs.equals(adata.obs)


# ------------------------------------------------------------------------------------------------- margin programme


def test_margin_programme_is_found_in_malignant_cells_and_admixture_is_not(patterns):
    atlas = build_atlas(study_design("tiny", seed=patterns["pushing"].uns["seed"]))
    listed = atlas.programmes.set_index("target")
    invasion = set(listed.loc["margin_programme"].query("reason == 'invasion'")["gene"])
    seeping = set(listed.loc["admixture_only", "gene"])
    assert {"VIM", "FN1", "LAMC2", "SERPINE1"} <= invasion and "ALB" in seeping and not invasion & seeping

    adata = patterns["pushing"]
    malignant = adata[adata.obs["malignant"] == 1]
    near = (malignant.obs["signed_distance_um"].abs() < 50).to_numpy()
    deep = (malignant.obs["signed_distance_um"] < -500).to_numpy()
    assert malignant.obs["margin_programme"].to_numpy()[near].min() > 0.7
    assert malignant.obs["margin_programme"].to_numpy()[deep].max() < 0.05
    assert (adata.obs.loc[adata.obs["malignant"] == 0, "margin_programme"] == 0).all()
    totals = malignant.X.sum(axis=1).A1
    genes = malignant.var_names.isin(sorted(invasion))
    share = malignant.X[:, genes].sum(axis=1).A1 / totals
    # 1.2 natural logarithms at the border itself are a factor of 3.3; transcripts of neighbours dilute it. Over six
    # seeds of this size 1.4 to 2.7.
    assert 1.2 < share[near].mean() / share[deep].mean() < 3.5
    # Albumin rises as well (2 and more over six seeds), by transcripts of neighbours alone: where no hepatocyte is near,
    # hepatocyte genes do not (.8 to 1.2).
    liver = adata.obsm["spatial"][(adata.obs["cell_type"] == "hepatocyte").to_numpy()]
    alone = cKDTree(liver).query(malignant.obsm["spatial"])[0] > 40
    seep = malignant.X[:, malignant.var_names.isin(sorted(seeping))].sum(axis=1).A1 / totals
    albumin = malignant.X[:, malignant.var_names == "ALB"].sum(axis=1).A1 / totals
    assert albumin[near & ~alone].mean() > 1.5 * albumin[deep & alone].mean()
    at_margin = (malignant.obs["signed_distance_um"].abs() < 150).to_numpy()
    assert seep[at_margin & alone].mean() < 1.5 * seep[deep & alone].mean()


# -------------------------------------------------------------------------------------------------- border and outline


def test_length_of_a_straight_border_is_exact():
    section = straight()
    assert interface_mm(section) == pytest.approx(2.0, abs=0.02)
    half = np.zeros((201, 301))
    half[100:] = 2.0
    assert interface_mm(Section(section.distance, half, pd.DataFrame())) == pytest.approx(1.0, abs=0.02)
    assert interface_mm(Section(np.full((9, 9), np.nan), np.zeros((9, 9)), pd.DataFrame())) == 0


def test_drawn_tumour_lies_near_the_true_one():
    for seed in range(3):
        rng = np.random.default_rng(seed)
        design = study_design("tiny", seed=seed)
        section = simulate_section(design, shape="block", layout="border", hgp="desmoplastic", rng=rng)
        drawn = drawn_tumour(section, rng=rng)
        assert drawn.is_valid
        inside = (section.distance < 0) & (section.outline < 1)
        assert drawn.area == pytest.approx(inside.sum() * GRID_UM**2, rel=0.1)
        y, x = np.nonzero(section.outline < 1)
        wrong = shapely.contains_xy(drawn, x * GRID_UM, y * GRID_UM) != inside[y, x]
        assert 0 < wrong.mean() < 0.06
        assert np.median(np.abs(section.distance[y, x][wrong])) < 40


def test_drawn_tumours_are_given_in_the_units_of_the_platform(study):
    sections = truth_of(study, "sections.tsv").set_index("library_id")
    libraries = read_table(study / "study" / "libraries.tsv").set_index("library_id")
    given = libraries["boundary_path"].replace("", np.nan).dropna()
    assert set(given.index) == set(sections.index[sections["pathologist"] == 1])
    assert {"visium", "xenium"} <= set(libraries.loc[given.index, "modality"])
    places = pd.concat([truth_of(study, name) for name in ("spots.tsv.gz", "section_cells.tsv.gz")])
    for library, path in given.items():
        collection = json.loads((study / "study" / path).read_text())
        assert collection["type"] == "FeatureCollection"
        (feature,) = collection["features"]
        assert feature["properties"]["classification"]["name"] == "Tumor"
        outline = shapely.geometry.shape(feature["geometry"])
        here = places[places["library_id"] == library]
        unit = 1.0 if libraries.loc[library, "modality"] == "xenium" else sections.loc[library, "pixel_um"]
        inside = shapely.contains_xy(outline, here["x_um"] / unit, here["y_um"] / unit)
        clear = here["signed_distance_um"].abs() > 60
        assert (inside == (here["tumour"] == 1))[clear].mean() > 0.97


# ------------------------------------------------------------------------------------------------------------ design


def test_truth_tells_sections_as_they_are(study):
    sections = truth_of(study, "sections.tsv").set_index("library_id")
    bordered = sections["layout"].isin(["border", "little_liver"])
    assert (sections["hgp"].notna() == bordered).all()
    assert ((sections["interface_mm"] > 0) == bordered).all()
    adjacent = sections[sections["layout"] == "adjacent"]
    samples = read_table(study / "study" / "samples.tsv").set_index("sample_id")
    assert len(adjacent) == 1 and set(samples.loc[adjacent["sample_id"], "tissue"]) == {"adjacent_liver"}
    spots = truth_of(study, "spots.tsv.gz")
    here = spots[spots["library_id"].isin(adjacent.index)]
    assert (here["zone"] == "none").all() and (here["tumour"] == 0).all()
    shares = pd.read_parquet(study / "truth" / "abundance.parquet")
    shares = shares[shares["library_id"].isin(adjacent.index)].groupby("cell_type")["abundance"].mean()
    assert shares.get("malignant_ductal", 0) == 0 and shares["hepatocyte"] > 0.4
    cells = truth_of(study, "section_cells.tsv.gz")
    niche = cells[cells["planted_niche"] == 1]
    assert (sections.loc[niche["library_id"].unique(), "planted_niche"] == 1).all()
    assert (niche["zone"] == "margin").all()
    numbers = pd.concat([cells, spots, truth_of(study, "bins.tsv.gz")])["library_id"].value_counts()
    assert numbers.sort_index().to_dict() == sections["n_barcodes"].sort_index().to_dict()


def plan_of(design):
    patients = simulate_patients(design)
    later = patients["group"] == "resection_only"
    samples = pd.DataFrame(
        {
            "sample_id": patients["patient_id"] + np.where(later, "-T3", "-T0"),
            "patient_id": patients["patient_id"],
            "timepoint": np.where(later, "T3_resection", "T0_pre"),
            "tissue": np.where(patients["group"] == "t0_primary", "primary", "liver_met"),
        }
    )
    surgery = pd.Series(100, index=patients["patient_id"])
    more, growth = section_samples(patients, samples, surgery, design)
    return plan_sections(
        patients, pd.concat([samples, more], ignore_index=True), growth, design, np.random.default_rng(0)
    )


@pytest.mark.parametrize("seed", range(8))
def test_demo_holds_every_growth_pattern_on_a_piece_of_a_resection(seed):
    design = study_design("demo", seed=seed)
    plan = plan_of(design)
    pieces = plan[(plan["modality"] == "visium") & (plan["shape"] == "block") & (plan["layout"] == "border")]
    assert set(pieces["hgp"]) == set(HGPS)
    assert plan["modality"].value_counts().to_dict() == {"visium": 14, "xenium": 2, "visium_hd": 1}
    imaged = plan[plan["modality"] != "visium"]
    assert set(imaged["sample_id"]) <= set(plan.loc[plan["modality"] == "visium", "sample_id"])
    assert imaged["library_id"].is_unique and (plan["layout"] == "no_liver").sum() == 1
    xenium = plan[plan["modality"] == "xenium"]
    assert xenium["planted_niche"].sum() == 1 and xenium["negative_control"].sum() == 1
    # one sample has one growth pattern, whatever looks at it
    assert plan.dropna(subset="hgp").drop_duplicates(["sample_id", "hgp"])["sample_id"].is_unique


@pytest.mark.parametrize("hgp", HGPS)
def test_pieces_of_resections_show_2_mm_of_border_and_needle_cores_less(hgp):
    design = study_design("demo", seed=1)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        for area in (design.n_spots * 1.6 * 8660, design.core_mm2 * 2e6):
            block = simulate_section(design, shape="block", layout="border", hgp=hgp, rng=rng, area_um2=area)
            assert interface_mm(block) >= 2.0
        core = simulate_section(design, shape="core", layout="border", hgp=hgp, rng=rng)
        assert interface_mm(core) < 2.0


def test_sections_leave_the_single_cell_libraries_as_they_are(study, tmp_path):
    """Other sections, and more or fewer of them, move no byte of a single-cell library."""
    others = {"n_hd": 0, "n_xenium": 0, "n_adjacent_sections": 0, "n_spots": 40}
    simulate_study(tmp_path, size="tiny", seed=3, **{**SMALL, **others})
    table = read_table(tmp_path / "study" / "libraries.tsv")
    for row in table[table["modality"] == "scrna"].itertuples():
        files = sorted(p for p in (tmp_path / "study" / "raw" / row.library_id).rglob("*") if p.is_file())
        assert files
        for path in files:
            twin = study / path.relative_to(tmp_path)
            assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(twin.read_bytes()).digest()
    assert not (tmp_path / "truth" / "bins.tsv.gz").exists()


def test_same_seed_gives_the_same_bytes_of_bins_and_cells(study, tmp_path):
    simulate_study(tmp_path, size="tiny", seed=3, **SMALL)
    names = sorted(str(p.relative_to(study)) for p in study.rglob("*") if p.is_file())
    assert names == sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    different = [name for name in names if (study / name).read_bytes() != (tmp_path / name).read_bytes()]
    assert different == []


def test_too_small_a_section_is_refused():
    with pytest.raises(ValueError, match=r"core_mm2: 0\.01 is smaller than any section; give at least 0\.1"):
        study_design("tiny", seed=1, core_mm2=0.01)
