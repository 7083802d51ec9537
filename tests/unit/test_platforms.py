"""Readers of sections beyond Visium: written and read back, damage refused with words that help, real files."""

from __future__ import annotations

import gzip
import shutil

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from defaults import DEFAULTS
from livermet import keys
from livermet.cell_polygons import keep_cells
from livermet.filecheck import check_files
from livermet.imaging import read_cosmx, read_merscope, read_xenium
from livermet.ingest import FIRST_VALUES, ingest_library, read_first, read_library
from livermet.readers import read_10x
from livermet.sources import find_source
from livermet.study import load_study
from livermet.visium_hd import read_visium_hd
from platform_files import (
    GENES,
    counts_of,
    squares,
    write_cosmx,
    write_frame,
    write_matrix,
    write_merscope,
    write_visium_hd,
    write_xenium,
)
from study_files import write_study

CONFIG = {"empty_max_counts": 100, "calling_fdr": 0.001, "calling_min_counts": 200, "seed": 1}
HTML = b"<!DOCTYPE html><html>please log in</html>"


def make_row(path, modality, **more):
    given = {"library_id": "L1", "sample_id": "S1", "patient_id": "P1", "modality": modality, "path": str(path)}
    return {**given, "raw_path": "", "pixel_um": None, "bin_um": None, **more}


def outlines(adata):
    """Corners of each cell."""
    polygons = adata.uns[keys.POLYGONS]
    return np.split(polygons["vertices"], polygons["offsets"][1:-1])


def assert_is(adata, counts, xy, names=None):
    assert (counts != adata.X).nnz == 0 and adata.X.dtype == np.int32 and adata.X.format == "csr"
    assert np.allclose(adata.obsm[keys.SPATIAL], xy) and adata.obsm[keys.SPATIAL].dtype == np.float64
    assert adata.var[keys.SYMBOL].tolist() == GENES
    assert names is None or adata.obs_names.tolist() == names


def assert_outlined(adata, xy):
    expected = squares(xy).reshape(len(xy), 5, 2)
    assert adata.uns[keys.POLYGONS]["vertices"].dtype == np.float32
    assert adata.uns[keys.POLYGONS]["offsets"].dtype == np.int64
    for corners, truth in zip(outlines(adata), expected, strict=True):
        assert np.allclose(np.unique(corners, axis=0), np.unique(truth, axis=0), atol=1e-3)


# ------------------------------------------------------------------------------------------------------- Xenium


@pytest.mark.parametrize("ending", ["parquet", "csv.gz", "csv"])
@pytest.mark.parametrize("number", [np.int64, np.float64])
def test_xenium_is_read_from_every_kind_of_table(tmp_path, ending, number):
    counts, xy = write_xenium(tmp_path / "x", ending=ending, number=number)
    adata = read_xenium(tmp_path / "x")
    assert_is(adata, counts, xy)
    assert_outlined(adata, xy)
    assert any("1 Negative Control Probe" in note for note in adata.uns["notes"])
    assert any("1 control probes among the genes" in note for note in adata.uns["notes"])


def test_xenium_counts_of_an_mtx_folder_and_ids_in_bytes_are_the_same(tmp_path):
    counts, xy = write_xenium(tmp_path / "x")
    folder = tmp_path / "x" / "cell_feature_matrix"
    adata = read_10x(tmp_path / "x" / "cell_feature_matrix.h5")
    (tmp_path / "x" / "cell_feature_matrix.h5").unlink()
    folder.mkdir()
    entries = adata.X.tocoo()
    lines = "".join(f"{g + 1} {c + 1} {v}\n" for c, g, v in zip(entries.row, entries.col, entries.data, strict=True))
    head = f"%%MatrixMarket matrix coordinate integer general\n{adata.n_vars} {adata.n_obs} {adata.X.nnz}\n"
    texts = {
        "matrix.mtx.gz": head + lines,
        "features.tsv.gz": "".join(f"E{i}\t{g}\tGene Expression\n" for i, g in enumerate(adata.var_names)),
        "barcodes.tsv.gz": "".join(f"{cell}\n" for cell in adata.obs_names),
    }
    for name, text in texts.items():
        (folder / name).write_bytes(gzip.compress(text.encode()))
    table = pd.read_parquet(tmp_path / "x" / "cells.parquet")
    table["cell_id"] = table["cell_id"].str.encode("ascii")
    table.to_parquet(tmp_path / "x" / "cells.parquet")
    assert_is(read_xenium(tmp_path / "x"), counts, xy)


def test_a_section_carries_its_resolution_and_goes_through_a_file(tmp_path):
    counts, xy = write_xenium(tmp_path / "x")
    ingest_library(make_row(tmp_path / "x", "xenium"), tmp_path / "c.h5ad", ingest_config=CONFIG, simulated=False)
    adata = ad.read_h5ad(tmp_path / "c.h5ad")
    assert_is(adata, counts, xy)
    assert_outlined(adata, xy)
    assert adata.uns[keys.META][keys.RESOLUTION] == "cell" and adata.obs_names[0] == "L1:aaaa0000-1"
    kept = np.arange(len(xy)) % 3 == 0
    assert_outlined(keep_cells(adata, kept), xy[kept])


def test_outlines_that_are_damaged_or_of_other_cells_are_noted_and_left_out(tmp_path):
    counts, xy = write_xenium(tmp_path / "x")
    file = tmp_path / "x" / "cell_boundaries.parquet"
    table = pd.read_parquet(file)
    some = table[table["cell_id"] != "aaaa0003-1"]
    some.to_parquet(file)
    adata = read_xenium(tmp_path / "x")
    assert any("1 of 60 cells have no outline" in note for note in adata.uns["notes"])
    assert [len(corners) for corners in outlines(adata)][2:5] == [5, 0, 5]
    for content, words in ((file.read_bytes()[:200], "truncated or damaged"), (HTML, "web page")):
        file.write_bytes(content)
        adata = read_xenium(tmp_path / "x")
        assert_is(adata, counts, xy)
        assert keys.POLYGONS not in adata.uns and any(words in note for note in adata.uns["notes"])
    table.assign(cell_id="other").to_parquet(file)
    adata = read_xenium(tmp_path / "x")
    assert keys.POLYGONS not in adata.uns and any("of none of the cells" in note for note in adata.uns["notes"])


# ------------------------------------------------------------------------------------------------------- CosMx


@pytest.mark.parametrize("tells", ["area", "fields"])
@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
@pytest.mark.parametrize("pixel_um", [0.12028, 0.18])
def test_cosmx_takes_its_pixels_from_the_files(tmp_path, tells, ending, pixel_um):
    counts, xy, names = write_cosmx(tmp_path / "c", pixel_um=pixel_um, tells=tells, ending=ending)
    adata = read_cosmx(tmp_path / "c")
    assert_is(adata, counts, xy, names)
    assert_outlined(adata, xy)
    assert any("2 rows outside of cells" in note for note in adata.uns["notes"])
    with pytest.raises(ValueError, match=rf"give {pixel_um} um per pixel, but pixel_um is 0\.5; correct pixel_um"):
        read_cosmx(tmp_path / "c", pixel_um=0.5)


def test_cosmx_without_a_unit_is_refused_until_the_table_gives_it(tmp_path):
    counts, xy, _ = write_cosmx(tmp_path / "c", pixel_um=0.18, tells="nothing")
    row = make_row(tmp_path / "c", "cosmx")
    with pytest.raises(ValueError, match=r"S1_metadata_file\.csv: .* give pixel_um in libraries\.tsv \(0\.12028 for"):
        read_first(row, "path")
    assert_is(read_library({**row, "pixel_um": 0.18}, ingest_config=CONFIG), counts, xy)


# ------------------------------------------------------------------------------------------------------- MERSCOPE


def test_merscope_keeps_long_ids_drops_blanks_and_takes_the_middle_plane(tmp_path):
    counts, xy, names = write_merscope(tmp_path / "m")
    adata = read_merscope(tmp_path / "m")
    assert_is(adata, counts, xy, names)
    assert_outlined(adata, xy)  # planes 0 and 2 have smaller squares
    assert any("2 Control" in note for note in adata.uns["notes"])
    file = tmp_path / "m" / "cell_boundaries.parquet"
    table = pd.read_parquet(file)
    for damaged in (table.drop(columns="Geometry"), table.assign(Geometry=b"no shape"), None):
        if damaged is None:
            file.write_bytes(file.read_bytes()[:-50])
        else:
            damaged.to_parquet(file)
        adata = read_merscope(tmp_path / "m")
        assert_is(adata, counts, xy, names)
        assert keys.POLYGONS not in adata.uns
        assert any("outlines of cells left out" in note for note in adata.uns["notes"])


# ------------------------------------------------------------------------------------------------------- Visium HD


@pytest.mark.parametrize("bin_um", [8, 16])
def test_visium_hd_takes_the_bins_that_are_asked_for(tmp_path, bin_um):
    for size in (8, 16):
        home, counts, table = write_visium_hd(tmp_path / "hd", bin_um=size, seed=size)
        if size == bin_um:
            chosen = home, counts, table
    home, counts, table = chosen
    for path in (tmp_path / "hd", tmp_path / "hd" / "binned_outputs", home):
        adata = read_library(make_row(path, "visium_hd", bin_um=bin_um), ingest_config=CONFIG)
        inside = table["in_tissue"].to_numpy() == 1
        xy = table[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy()[inside] * 0.25
        assert_is(adata, counts[inside], xy)
        assert adata.uns[keys.META][keys.RESOLUTION] == "bin" and adata.uns[keys.META]["bin_um"] == bin_um
        scale = adata.uns["spatial"]["L1"]["scalefactors"]
        assert scale == {"tissue_lowres_scalef": 0.4, "spot_diameter_fullres": bin_um}
        assert adata.uns["spatial"]["L1"]["images"]["lowres"].shape == (110, 120, 3)
        assert "bins outside the tissue" in adata.uns[keys.META]["notes"]


def test_bins_that_are_not_there_and_scales_that_contradict_are_explained(tmp_path):
    home, _, _ = write_visium_hd(tmp_path / "a")
    with pytest.raises(ValueError, match=r"holds bins of 16 um, but none of 8 um \(spatial\.bin_um\)"):
        read_visium_hd(tmp_path / "a", pixel_um=None, bin_um=8)
    with pytest.raises(ValueError, match=r"gives 0\.25 um per pixel, but pixel_um is 0\.5"):
        read_visium_hd(home, pixel_um=0.5)
    shutil.rmtree(home)
    with pytest.raises(ValueError, match=r"no bins found; looked for binned_outputs/square_016um"):
        read_visium_hd(tmp_path / "a", pixel_um=None, bin_um=16)
    for name, factors, words in (
        (
            "b",
            {"microns_per_pixel": 0.5},
            r"microns_per_pixel is 0\.5, but bin_size_um / spot_diameter_fullres is 0\.25",
        ),
        ("c", {"microns_per_pixel": None, "spot_diameter_fullres": None}, "give pixel_um in libraries.tsv"),
        ("d", {"bin_size_um": None}, "bin_size_um missing"),
    ):
        home, _, _ = write_visium_hd(tmp_path / name, factors=factors)
        with pytest.raises(ValueError, match=words):
            read_visium_hd(home, pixel_um=None)
    home, _, table = write_visium_hd(tmp_path / "e", factors={"microns_per_pixel": None})
    assert np.ptp(read_visium_hd(home, pixel_um=None).obsm[keys.SPATIAL][:, 0]) == pytest.approx(11 * 16)
    table.assign(array_row=2 * table["array_row"], array_col=2 * table["array_col"]).to_parquet(
        home / "spatial" / "tissue_positions.parquet"
    )
    assert "bins lie 8 um apart" in " ".join(read_visium_hd(home, pixel_um=None).uns["notes"])


# ------------------------------------------------------------------------------------------------------- probes


def test_counts_of_probes_add_up_to_genes_over_those_that_count(tmp_path):
    counts = counts_of(30, seed=3)
    path = write_matrix(
        tmp_path / "raw_probe_bc_matrix.h5", counts, [f"B{i}-1" for i in range(30)], GENES, ["Gene Expression"] * 40
    )
    gene = np.arange(40) // 2
    used = np.arange(40) % 8 != 0
    with h5py.File(path, "r+") as file:
        features = file["matrix/features"]
        features["gene_id"] = np.array([f"ENSG{i:011d}" for i in gene], dtype="S")
        features["gene_name"] = np.array([GENES[i] for i in gene], dtype="S")
        features["probe_region"] = np.array(["spliced"] * 40, dtype="S")
        features["filtered_probes"] = used
        features["target_sets/Human Probe Set"] = np.flatnonzero(used)
    adata = read_10x(path)
    truth = pd.DataFrame(counts.toarray()[:, used].T).groupby(gene[used]).sum().T.to_numpy()
    assert adata.var[keys.SYMBOL].tolist() == GENES[:20] and np.array_equal(adata.X.toarray(), truth)
    assert "40 probes added up to 20 genes; 5 probes" in adata.uns["notes"][0]
    with h5py.File(path, "r+") as file:
        del file["matrix/features/filtered_probes"]
    with pytest.raises(ValueError, match=r"single probes, without the gene of each; name filtered_feature_bc_matrix"):
        read_10x(path)


def test_a_probe_set_beside_the_genes_changes_nothing(tmp_path):
    counts = counts_of(30, seed=3)
    path = write_matrix(tmp_path / "a.h5", counts, [f"B{i}-1" for i in range(30)], GENES, ["Gene Expression"] * 40)
    with h5py.File(path, "r+") as file:
        file["matrix/features/target_sets/Human Probe Set"] = np.arange(40)
    assert (counts != read_10x(path).X).nnz == 0


# ------------------------------------------------------------------------------------------------------- h5ad


@pytest.mark.parametrize(
    ("modality", "resolution"),
    [("visium", "spot"), ("visium_hd", "bin"), ("xenium", "cell"), ("cosmx", "cell"), ("merscope", "cell")],
)
def test_a_plain_h5ad_stands_for_every_modality(tmp_path, modality, resolution):
    counts = counts_of(100, seed=1)
    grid = np.column_stack(np.divmod(np.arange(100), 10)).astype(float)
    adata = ad.AnnData(counts, obs=pd.DataFrame(index=[f"c{i}" for i in range(100)]), var=pd.DataFrame(index=GENES))
    adata.obsm["spatial"] = grid
    adata.write_h5ad(tmp_path / "a.h5ad")
    um = 200.0 if modality == "visium" else 16.0
    row = make_row(tmp_path / "a.h5ad", modality, pixel_um=um, bin_um=16 if modality == "visium_hd" else None)
    read_first(row, "path")
    read = read_library(row, ingest_config=CONFIG)
    assert_is(read, counts, grid * um)
    assert read.uns[keys.META][keys.RESOLUTION] == resolution
    assert read.uns[keys.META].get("bin_um") == (16 if modality == "visium_hd" else None)
    if modality == "visium_hd":
        with pytest.raises(ValueError, match=r"bins lie 16 um apart .* but spatial\.bin_um is 8"):
            read_library({**row, "bin_um": 8}, ingest_config=CONFIG)


@pytest.mark.parametrize(
    ("share", "words"), [(0.0, "all 60 positions are one place"), (0.5, "60 positions are 30 places"), (0.9, "")]
)
def test_cells_at_the_places_of_others_leave_a_library_out_with_the_reason(tmp_path, share, words):
    write_xenium(tmp_path / "x", ending="csv", boundaries=False)
    table = pd.read_csv(tmp_path / "x" / "cells.csv").sort_values("cell_id")
    places = max(1, int(share * 60))
    xy = ["x_centroid", "y_centroid"]
    table[xy] = table[xy].to_numpy()[np.arange(60) % places]
    table.to_csv(tmp_path / "x" / "cells.csv", index=False)
    row = make_row(tmp_path / "x", "xenium")
    ingest_library(row, tmp_path / "counts.h5ad", ingest_config=CONFIG, simulated=False)
    read = ad.read_h5ad(tmp_path / "counts.h5ad")
    assert words in read.uns[keys.META]["reason"] and (read.n_obs == 60) == (words == "")
    assert bool(read.uns[keys.META]["reason"]) == bool(words)


# ------------------------------------------------------------------------------------------------------- damage

WRITERS = {"xenium": write_xenium, "cosmx": write_cosmx, "merscope": write_merscope, "visium_hd": write_visium_hd}
TABLES = {
    "xenium": ("cells.csv", "cell_feature_matrix.h5"),
    "cosmx": ("S1_metadata_file.csv", "S1_exprMat_file.csv"),
    "merscope": ("cell_metadata.csv", "cell_by_gene.csv"),
    "visium_hd": ("tissue_positions.parquet", "filtered_feature_bc_matrix.h5"),
}


def written(folder, modality):
    WRITERS[modality](folder, **({"ending": "csv"} if modality == "xenium" else {}))
    if modality == "visium_hd":
        folder = folder / "binned_outputs" / "square_016um"
        return folder, folder / "spatial" / TABLES[modality][0], folder / TABLES[modality][1]
    return folder, *(folder / name for name in TABLES[modality])


def refused(row, words):
    """Check and reading refuse a library with the same words."""
    for read in (lambda: read_first(row, "path"), lambda: read_library(row, ingest_config=CONFIG)):
        with pytest.raises(ValueError, match=words):
            read()


@pytest.mark.parametrize("modality", WRITERS)
def test_every_platform_passes_the_check_of_the_first_values(tmp_path, modality, monkeypatch):
    folder, _, _ = written(tmp_path / "s", modality)
    monkeypatch.setattr("livermet.ingest.FIRST_VALUES", 200)
    assert FIRST_VALUES > 200
    row = make_row(folder, modality, bin_um=16)
    read_first(row, "path")


@pytest.mark.parametrize("modality", WRITERS)
@pytest.mark.parametrize("part", [0, 1])
def test_files_that_are_missing_empty_web_pages_or_cut_off_are_named(tmp_path, modality, part):
    folder, *files = written(tmp_path / "s", modality)
    file = files[part]
    row = make_row(folder, modality, bin_um=16)
    whole = file.read_bytes()
    refusals = {b"": r"is empty \(0 bytes\)", HTML: "is a web page"}
    for content, words in refusals.items():
        file.write_bytes(content)
        refused(row, rf"{file.name}: {words}")
    file.write_bytes(whole[: len(whole) * 2 // 3])
    refused(row, rf"{file.name}.*(truncated|can't be read|no array|is no number|values in each row)")
    file.unlink()
    refused(row, "missing in|no positions found|no counts found|no bins found")


@pytest.mark.parametrize("modality", WRITERS)
def test_positions_of_other_cells_and_positions_given_twice_are_refused(tmp_path, modality):
    folder, positions, _ = written(tmp_path / "s", modality)
    table = pd.read_parquet(positions) if positions.suffix == ".parquet" else pd.read_csv(positions, dtype=str)
    row = make_row(folder, modality, bin_um=16)
    write_frame(table.iloc[3:], positions)
    refused(row, r"3 of \d+ (cells|barcodes) have no position, such as .*not of one section")
    write_frame(pd.concat([table, table.iloc[:1]]), positions)
    refused(row, "occurs more than once")


@pytest.mark.parametrize(
    ("modality", "column"),
    [
        ("xenium", "x_centroid"),
        ("xenium", "cell_id"),
        ("cosmx", "CenterY_global_px"),
        ("cosmx", "fov"),
        ("merscope", "center_x"),
        ("merscope", "EntityID"),
        ("visium_hd", "pxl_row_in_fullres"),
    ],
)
def test_columns_that_are_missing_are_named(tmp_path, modality, column):
    folder, positions, _ = written(tmp_path / "s", modality)
    table = pd.read_parquet(positions) if positions.suffix == ".parquet" else pd.read_csv(positions, dtype=str)
    table = table.reset_index(drop=True)
    write_frame(table.drop(columns=column), positions)
    words = "no column names the cell" if column == "EntityID" else f"columns {column} missing"
    refused(make_row(folder, modality, bin_um=16), rf"{positions.name}: {words}")
    empty = table[column].astype(object).where(table.index > 0)
    write_frame(table.assign(**{column: empty}), positions)
    words = "spot 1 has no number" if modality == "visium_hd" else rf"{column} is (empty|no number) in row 1"
    refused(make_row(folder, modality, bin_um=16), rf"{positions.name}: {words}")


@pytest.mark.parametrize("modality", ["cosmx", "merscope"])
def test_tables_of_counts_that_hold_no_counts_are_refused_with_the_place(tmp_path, modality):
    folder, _, file = written(tmp_path / "s", modality)
    whole = pd.read_csv(file, dtype=str)
    row = make_row(folder, modality)
    gene = GENES[2]
    for value, words in (
        ("0.5", f"gene {gene} is no whole number"),
        ("-1", f"gene {gene} is negative"),
        ("", f"gene {gene} is missing"),
        ("many", f"row 6, {gene}: 'many' is no number"),
    ):
        write_frame(whole.assign(**{gene: [*whole[gene][:4], value, *whole[gene][5:]]}), file)
        refused(row, words)
    file.write_text("\n".join([file.read_text().splitlines()[0], ""]))
    refused(row, "holds no cells")
    write_frame(pd.concat([whole, whole.tail(1)]), file)
    refused(row, "occurs more than once")


def test_pixels_where_positions_are_micrometres_and_two_samples_in_one_folder_are_refused(tmp_path):
    write_merscope(tmp_path / "m")
    row = make_row(tmp_path / "m", "merscope", pixel_um=0.108)
    refused(row, "are micrometres already, but pixel_um is 0.108; leave pixel_um empty")
    read_library({**row, "pixel_um": 1.0}, ingest_config=CONFIG)
    write_cosmx(tmp_path / "c")
    shutil.copy(tmp_path / "c" / "S1_exprMat_file.csv", tmp_path / "c" / "S2_exprMat_file.csv")
    refused(make_row(tmp_path / "c", "cosmx"), r"holds several exprMat_file\.csv .* a folder of its own")
    write_xenium(tmp_path / "x")
    with pytest.raises(ValueError, match="a Xenium section needs its positions too"):
        find_source(tmp_path / "x" / "cell_feature_matrix.h5", modality="xenium")


def test_a_section_that_cannot_be_read_becomes_one_without_cells_of_its_resolution(tmp_path):
    home, _, _ = write_visium_hd(tmp_path / "hd")
    (home / "filtered_feature_bc_matrix.h5").write_bytes(HTML)
    row = make_row(tmp_path / "hd", "visium_hd", bin_um=16)
    ingest_library(row, tmp_path / "c.h5ad", ingest_config=CONFIG, simulated=False)
    adata = ad.read_h5ad(tmp_path / "c.h5ad")
    assert adata.n_obs == 0 and adata.obsm[keys.SPATIAL].shape == (0, 2)
    assert "web page" in adata.uns[keys.META]["reason"]
    assert adata.uns[keys.META][keys.RESOLUTION] == "bin" and adata.uns[keys.META]["bin_um"] == 16


def test_wide_tables_are_the_same_in_blocks_of_any_size(tmp_path, monkeypatch):
    counts, xy, _ = write_merscope(tmp_path / "m")
    monkeypatch.setattr("livermet.celltables._BLOCK", 7 * len(GENES))
    assert_is(read_merscope(tmp_path / "m"), counts, xy)


# ------------------------------------------------------------------------------------------------------- real files


def test_real_sections_lie_where_their_tables_say(real_data):
    formats = real_data / "formats" / "spatialexperimentio"
    adata = read_xenium(formats / "Xenium_small")
    assert adata.obsm[keys.SPATIAL][2] == pytest.approx([2368.073, 2534.409], abs=1e-3)
    row = make_row(formats / "CosMx_small", "cosmx", pixel_um=0.18)
    adata = read_library(row, ingest_config=CONFIG)
    assert adata.shape == (9, 8) and int(adata.X.sum()) == 7 and adata.obs_names[0] == "L1:10_1"
    assert adata.obsm[keys.SPATIAL][0] == pytest.approx([25423.7778 * 0.18, 162475.6667 * 0.18])
    adata = read_merscope(formats / "MERSCOPE_small")
    last = adata.obs_names.tolist().index("88869")
    assert last == 7 and adata.obsm[keys.SPATIAL][last] == pytest.approx([12501.306, 10052.779], abs=1e-3)


@pytest.mark.parametrize("bin_um", [8, 16])
def test_real_bins_have_the_scale_of_their_slide(real_data, tmp_path, bin_um):
    """The counts of these files are those of another slide, so they are cut to the bins that have a position."""
    source = real_data / "formats/seurat/visium_hd/binned_outputs" / f"square_{bin_um:03d}um"
    home = shutil.copytree(source, tmp_path / source.name, copy_function=shutil.copyfile)
    positions = pd.read_parquet(home / "spatial" / "tissue_positions.parquet")
    counts = read_10x(source / "filtered_feature_bc_matrix.h5")
    counts = counts[counts.obs_names.isin(positions["barcode"])]
    types = ["Gene Expression"] * counts.n_vars
    (home / "filtered_feature_bc_matrix.h5").unlink()
    write_matrix(
        home / "filtered_feature_bc_matrix.h5",
        sparse.csr_matrix(counts.X),
        counts.obs_names,
        counts.var_names.tolist(),
        types,
    )
    adata = read_visium_hd(home, pixel_um=None)
    assert adata.n_obs == {8: 1368, 16: 336}[bin_um] and adata.uns["bin_um"] == bin_um
    extent = np.ptp(adata.obsm[keys.SPATIAL], axis=0)
    assert (extent > 4000).all() and (extent < 7000).all()  # the capture area is 6.5 mm wide
    assert "spatial" in adata.uns


def test_real_probes_add_up_to_genes(real_data):
    path = real_data / "formats/scanpy/visium_data/2.1.0/raw_probe_bc_matrix.h5"
    adata = read_10x(path)
    with h5py.File(path) as file:
        matrix = file["matrix"]
        used = matrix["features/filtered_probes"][()]
        total = matrix["data"][()][used[matrix["indices"][()]]].sum()
        genes = {g for g, u in zip(matrix["features/gene_id"].asstr()[()], used, strict=True) if u}
    assert adata.X.sum() == total and set(adata.var[keys.GENE_ID]) == genes
    assert any("1000 probes added up" in note for note in adata.uns["notes"])


# ------------------------------------------------------------------------------------------------------- study


def test_a_study_with_sections_of_every_platform_is_checked_before_anything_runs(tmp_path):
    folder = write_study(tmp_path / "study")
    for modality, write in WRITERS.items():
        write(folder / "raw" / modality)
    (folder / "raw" / "xenium" / "cells.parquet").write_bytes(HTML)
    lines = [f"{name}\tS1\t{name}\tB02\traw/{name}\t\t\t\n" for name in WRITERS]
    table = folder / "libraries.tsv"
    table.write_text(table.read_text() + "".join(lines), encoding="utf-8")
    config = DEFAULTS | {"study": str(folder), "results": str(tmp_path / "results"), "trial": ""}
    study = load_study(config, workdir=tmp_path)
    assert {name: study.row(name)["bin_um"] for name in WRITERS} == {
        "xenium": None, "cosmx": None, "merscope": None, "visium_hd": 16,
    }  # fmt: skip
    positions = folder / "raw/visium_hd/binned_outputs/square_016um/spatial/tissue_positions.parquet"
    assert str(positions) in study.files("visium_hd") and len(study.files("merscope")) == 3
    (finding,) = [finding for finding in check_files(study.data) if finding.value.removeprefix("raw/") in WRITERS]
    assert finding.severity == "exclusion" and finding.value == "raw/xenium" and "is a web page" in finding.message
    other = load_study(config | {"spatial": DEFAULTS["spatial"] | {"bin_um": 8}}, workdir=tmp_path)
    findings = {finding.value: finding.message for finding in check_files(other.data)}
    assert "holds bins of 16 um, but none of 8 um" in findings["raw/visium_hd"]
