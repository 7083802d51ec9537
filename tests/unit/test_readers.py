"""Readers of raw libraries: written and read back in each format, damage refused with words that help, real files."""

from __future__ import annotations

import ctypes
import errno
import gzip
import json
import os
import re
import shutil
import signal
from types import SimpleNamespace

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import io, sparse

from livermet import keys
from livermet.counts import checked_csr
from livermet.filecheck import check_files
from livermet.guarded import ReaderCrashed, ReaderStopped, run_guarded
from livermet.ingest import empty_droplets, ingest_library, read_first, read_library
from livermet.readers import read_10x, read_h5ad, read_visium
from livermet.sources import find_raw, find_source, read_scale_factors
from livermet.symbols import are_ensembl, genomes, marker_genes, restore_symbols, unique_symbols
from livermet.visium import grid_pitch, micrometres_per_pixel, read_positions
from spatial_generator import hexagonal

CONFIG = {"empty_max_counts": 100, "calling_fdr": 0.001, "calling_min_counts": 200, "seed": 1}


def make_counts(n_cells=12, n_genes=30, seed=0):
    rng = np.random.default_rng(seed)
    counts = sparse.csr_matrix(rng.poisson(0.7, size=(n_cells, n_genes)).astype(np.int32))
    return counts, [f"AAAC{i:04d}-1" for i in range(n_cells)], [f"GENE{i}" for i in range(n_genes)]


def write_h5(path, counts, barcodes, symbols, *, ids=None, types=None, genome="GRCh38", number=np.int64):
    """A 10x h5 file of Cell Ranger 3 and later; genome None leaves the field out."""
    ids = ids or [f"ENSG{i:011d}" for i in range(len(symbols))]
    types = types or ["Gene Expression"] * len(symbols)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, dtype="S")
        group["data"] = counts.data
        group["indices"] = counts.indices.astype(number)
        group["indptr"] = counts.indptr.astype(number)
        group["shape"] = np.array(counts.shape[::-1], dtype=number)
        features = group.create_group("features")
        for name, values in (("id", ids), ("name", symbols), ("feature_type", types)):
            features[name] = np.array(values, dtype="S")
        if genome is not None:
            genomes = [genome] * len(symbols) if isinstance(genome, str) else genome
            features["genome"] = np.array(genomes, dtype="S")
    return path


def write_v2(path, counts, barcodes, symbols, genomes):
    with h5py.File(path, "w") as file:
        for genome in genomes:
            group = file.create_group(genome)
            group["barcodes"] = np.array(barcodes, dtype="S")
            group["genes"] = np.array([f"ENSG{i}" for i in range(len(symbols))], dtype="S")
            group["gene_names"] = np.array(symbols, dtype="S")
            for name in ("data", "indices", "indptr"):
                group[name] = getattr(counts, name)
            group["shape"] = np.array(counts.shape[::-1])
    return path


def write_mtx(folder, counts, barcodes, symbols, *, zipped, genes="features.tsv", field="integer"):
    folder.mkdir(parents=True)
    io.mmwrite(folder / "matrix.mtx", counts.T.tocoo(), field=field)
    tail = "\tGene Expression" if genes == "features.tsv" else ""
    (folder / genes).write_text("".join(f"ENSG{i}\t{s}{tail}\n" for i, s in enumerate(symbols)))
    (folder / "barcodes.tsv").write_text("".join(f"{b}\n" for b in barcodes))
    if zipped:
        for file in list(folder.iterdir()):
            with gzip.open(f"{file}.gz", "wb") as stream:
                stream.write(file.read_bytes())
            file.unlink()
    return folder


def write_visium(
    folder, *, positions="tissue_positions.csv", pixel_um=0.5, image=True, scale=True, matrix="filtered", outside=2
):
    """A Space Ranger folder with a 6 x 6 hexagonal grid; the last ``outside`` spots lie outside the tissue."""
    counts, barcodes, symbols = make_counts(n_cells=36)
    row, col = np.divmod(np.arange(36), 6)
    table = pd.DataFrame(
        {
            "barcode": barcodes,
            "in_tissue": (np.arange(36) < 36 - outside).astype(int),
            "array_row": row,
            "array_col": 2 * col + row % 2,
        }
    )
    table["pxl_row_in_fullres"] = 500 + table["array_row"] * 100 * np.sqrt(3) / 2 / pixel_um
    table["pxl_col_in_fullres"] = 300 + table["array_col"] * 50 / pixel_um
    write_h5(folder / f"{matrix}_feature_bc_matrix.h5", counts, barcodes, symbols)
    (folder / "spatial").mkdir()
    file = folder / "spatial" / positions
    shuffled = table.sample(frac=1, random_state=0)
    if positions.endswith("parquet"):
        shuffled.to_parquet(file, index=False)
    else:
        shuffled.to_csv(file, index=False, header=positions != "tissue_positions_list.csv")
    if scale:
        factors = {"spot_diameter_fullres": 65 / pixel_um, "tissue_lowres_scalef": 0.05, "tissue_hires_scalef": 0.15}
        (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(factors))
    if image:
        from PIL import Image

        Image.new("RGBA", (120, 110), (200, 100, 150, 255)).save(folder / "spatial" / "tissue_lowres_image.png")
    return folder, table, counts


def ingested(row, folder, *, simulated=False):
    """What ingest_library writes for a library."""
    path = folder / "counts.h5ad"
    ingest_library(row, path, ingest_config=CONFIG, simulated=simulated)
    return ad.read_h5ad(path)


def make_row(path, modality="scrna", **more):
    given = {"library_id": "L1", "sample_id": "S1", "patient_id": "P1", "modality": modality, "path": str(path)}
    return {**given, "raw_path": "", "pixel_um": None, **more}


# ------------------------------------------------------------------------------------------------------- 10x


def test_every_10x_layout_gives_the_same_counts(tmp_path):
    counts, barcodes, symbols = make_counts()
    paths = [
        write_h5(tmp_path / "v3.h5", counts, barcodes, symbols),
        write_h5(tmp_path / "no_genome.h5", counts, barcodes, symbols, genome=None),
        write_h5(tmp_path / "floats.h5", counts.astype(float), barcodes, symbols, number=float),
        write_v2(tmp_path / "v2.h5", counts, barcodes, symbols, ["GRCh38"]),
        write_mtx(tmp_path / "gz", counts, barcodes, symbols, zipped=True),
        write_mtx(tmp_path / "plain", counts, barcodes, symbols, zipped=False),
        write_mtx(tmp_path / "v2", counts, barcodes, symbols, zipped=False, genes="genes.tsv"),
    ]
    for path in paths:
        adata = read_10x(path)
        assert (counts != adata.X).nnz == 0, path
        assert adata.X.dtype == np.int32 and adata.X.format == "csr" and adata.X.has_sorted_indices
        assert adata.obs_names.tolist() == barcodes and adata.var_names.tolist() == symbols
        assert adata.var[keys.GENE_ID].str.startswith("ENSG").all()


def test_features_other_than_genes_are_left_out_and_counted(tmp_path):
    counts, barcodes, symbols = make_counts()
    types = ["Gene Expression"] * 28 + ["Antibody Capture"] * 2
    adata = read_10x(write_h5(tmp_path / "cite.h5", counts, barcodes, symbols, types=types))
    assert adata.shape == (12, 28) and (counts[:, :28] != adata.X).nnz == 0
    assert adata.uns["feature_types"] == {"Gene Expression": 28, "Antibody Capture": 2}
    assert "2 Antibody Capture" in adata.uns["notes"][0]
    with pytest.raises(ValueError, match=r"no feature of the type 'Gene Expression'.*30 Peaks"):
        read_10x(write_h5(tmp_path / "atac.h5", counts, barcodes, symbols, types=["Peaks"] * 30))


def test_several_genomes_are_refused_by_name(tmp_path):
    counts, barcodes, symbols = make_counts()
    with pytest.raises(ValueError, match=r"several genomes \(GRCh38, mm10\)"):
        read_10x(write_v2(tmp_path / "v2.h5", counts, barcodes, symbols, ["mm10", "GRCh38"]))
    genomes = ["GRCh38"] * 15 + ["mm10"] * 15
    with pytest.raises(ValueError, match=r"several genomes \(GRCh38, mm10\)"):
        read_10x(write_h5(tmp_path / "v3.h5", counts, barcodes, symbols, genome=genomes))


def test_genomes_are_told_by_the_ids_where_nothing_else_tells(tmp_path):
    counts, barcodes, symbols = make_counts()
    human, mouse = ([f"{name}{i:011d}" for i in range(30)] for name in ("ENSG", "ENSMUSG"))
    folder = write_mtx(tmp_path / "mtx", counts, barcodes, symbols, zipped=False)
    for ids in (
        [*human[:20], *mouse[20:]],
        [*(f"GRCh38_{name}" for name in human[:20]), *(f"mm10___{name}" for name in mouse[20:])],
    ):
        rows = zip(ids, symbols, strict=True)
        (folder / "features.tsv").write_text("".join(f"{gene}\t{symbol}\tGene Expression\n" for gene, symbol in rows))
        with pytest.raises(ValueError, match=r"features.tsv: genes of several genomes \(.*ENSG, .*ENSMUSG\)"):
            read_10x(folder)
    # A reporter that was added to the reference is no second genome.
    many = [*(f"ENSG{i:011d}.2" for i in range(200)), "ENSMUSG00000000001", "EGFP"]
    assert genomes(many) == ["ENSG"] and genomes(["EGFP", ""]) == []
    assert are_ensembl(many) and not are_ensembl(symbols) and not are_ensembl([])


def make_run(*, n_empty):
    """Counts of 40 cells and of so many empty droplets after them, with names."""
    rng = np.random.default_rng(0)
    cells = rng.poisson(20, size=(40, 30)) * (rng.random((40, 30)) < 0.6)
    counts = sparse.csr_matrix(np.vstack([cells, rng.poisson(0.1, size=(n_empty, 30))]).astype(np.int32))
    return counts, [f"T{i}-1" for i in range(40 + n_empty)], [f"GENE{i}" for i in range(30)]


def test_cells_are_called_from_all_droplets_whatever_tells_that_these_are_all(tmp_path):
    counts, names, symbols = make_run(n_empty=3000)
    paths = [
        write_h5(tmp_path / "sample_raw_feature_bc_matrix.h5", counts, names, symbols),
        write_mtx(tmp_path / "raw_feature_bc_matrix", counts, names, symbols, zipped=True),
        write_mtx(tmp_path / "raw_gene_bc_matrices" / "GRCh38", counts, names, symbols, zipped=False),
        write_h5(tmp_path / "run" / "outs" / "raw_feature_bc_matrix.h5", counts, names, symbols).parent.parent,
        write_h5(tmp_path / "droplets.h5", *make_run(n_empty=12_000)),
    ]
    for path in paths:
        read_first(make_row(path), "path")
        adata = read_library(make_row(path), ingest_config=CONFIG)
        assert adata.obs_names.tolist() == [f"L1:{name}" for name in names[:40]], path
        assert (counts[:40] != adata.X).nnz == 0
        meta = adata.uns[keys.META]
        calling, notes = json.loads(meta["calling"]), json.loads(meta["notes"])
        assert calling["n_called"] == 40 and calling["n_droplets"] <= 12_040 and calling["fdr"] == 0.001
        assert "cells were called here" in notes[-1] and str(tmp_path) not in notes[-1]
        assert adata.var[keys.AMBIENT_COUNTS].sum() >= counts[40:].sum()
    assert read_10x(paths[-1]).n_obs == 12_040


def test_called_cells_are_never_called_again(tmp_path):
    counts, names, symbols = make_run(n_empty=3000)
    write_h5(tmp_path / "run" / "outs" / "filtered_feature_bc_matrix.h5", counts[:25], names[:25], symbols)
    write_h5(tmp_path / "run" / "outs" / "raw_feature_bc_matrix.h5", counts, names, symbols)
    run = tmp_path / "run"
    for raw_path in ("", str(run)):
        adata = read_library(make_row(run, raw_path=raw_path), ingest_config=CONFIG)
        assert adata.n_obs == 25 and json.loads(adata.uns[keys.META]["calling"]) is None
    # Many barcodes with few genes are no droplets as long as they are fewer than any raw matrix has.
    few = write_h5(tmp_path / "few.h5", *make_run(n_empty=9000))
    assert read_library(make_row(few), ingest_config=CONFIG).n_obs == 9040


def test_what_is_neither_droplets_nor_cells_is_refused_with_the_way_out(tmp_path):
    counts, names, symbols = make_run(n_empty=3000)
    named = write_h5(tmp_path / "raw_feature_bc_matrix.h5", counts[:40], names[:40], symbols)
    for read in (lambda row: read_first(row, "path"), lambda row: read_library(row, ingest_config=CONFIG)):
        with pytest.raises(
            ValueError, match=r"all droplets \(raw\), but only 0 of 40 barcodes have at most 100 counts.*name"
        ):
            read(make_row(named))
    few = write_h5(tmp_path / "few" / "raw_feature_bc_matrix.h5", counts[:100], names[:100], symbols)
    with pytest.raises(
        ValueError, match=r"cells can't be called from it: 55 of 100 .* name the matrix of called cells"
    ):
        read_library(make_row(few), ingest_config=CONFIG)
    whole = write_h5(tmp_path / "whole" / "raw_feature_bc_matrix.h5", counts, names, symbols)
    with pytest.raises(ValueError, match="as raw_path is; leave raw_path empty"):
        read_library(make_row(whole, raw_path=str(few)), ingest_config=CONFIG)


def test_whole_numbers_that_are_no_counts_are_told_by_their_totals(tmp_path):
    counts, barcodes, symbols = make_counts(n_cells=400, n_genes=300)
    totals = np.asarray(counts.sum(axis=1))
    rounded = sparse.csr_matrix(np.round(counts.toarray() * 1e6 / totals))
    with pytest.raises(ValueError, match=r"all 400 barcodes have the same total \(\d{6,7} within 1 %\)"):
        read_10x(write_h5(tmp_path / "rounded.h5", rounded, barcodes, symbols))
    seen = counts.sign()
    with pytest.raises(ValueError, match=rf"all {seen.nnz} values are 1, .* not how often"):
        read_10x(write_h5(tmp_path / "seen.h5", seen, barcodes, symbols))
    assert read_10x(write_h5(tmp_path / "few.h5", seen[:30], barcodes[:30], symbols)).n_obs == 30


def test_symbols_that_occur_twice_are_noted_and_ids_in_their_place_refused(tmp_path):
    counts, barcodes, symbols = make_counts()
    adata = read_10x(write_h5(tmp_path / "twice.h5", counts, barcodes, [symbols[1], *symbols[1:]]))
    assert adata.uns["notes"] == [
        f"{tmp_path}/twice.h5: 1 gene symbols occur more than once and count as genes of their own, such as GENE1, "
        "the second of which is named GENE1-ENSG00000000001"
    ]
    assert adata.var_names[:2].tolist() == ["GENE1", "GENE1-ENSG00000000001"]
    ids = [f"ENSG{i:011d}" for i in range(30)]
    with pytest.raises(ValueError, match=r"named by Ensembl ids \(such as ENSG00000000000\).*add them \(second column"):
        read_10x(write_h5(tmp_path / "ids.h5", counts, barcodes, ids))


def test_other_h5_files_are_named_for_what_they_are(tmp_path):
    counts, barcodes, symbols = make_counts()
    with h5py.File(tmp_path / "molecule_info.h5", "w") as file:
        file["barcode_idx"], file["umi"] = [1], [1]
    with pytest.raises(ValueError, match=r"molecule_info.*filtered_feature_bc_matrix"):
        read_10x(tmp_path / "molecule_info.h5")
    AnnData(X=counts).write_h5ad(tmp_path / "object.h5")
    with pytest.raises(ValueError, match="is an h5ad file"):
        read_10x(tmp_path / "object.h5")
    shutil.copy(write_h5(tmp_path / "v3.h5", counts, barcodes, symbols), tmp_path / "v3.h5ad")
    with pytest.raises(ValueError, match="is a 10x h5 file"):
        read_h5ad(tmp_path / "v3.h5ad", spatial=False, pixel_um=None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PK\x03\x04", "zip archive"),
        (b"some text", "not an HDF5 file"),
    ],
)
def test_what_is_no_hdf5_file_is_said(tmp_path, content, words):
    path = tmp_path / "filtered_feature_bc_matrix.h5"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        find_source(path, modality="scrna")


# ------------------------------------------------------------------------------------------------------- damage


def flipped(content, rng, *, n=64, end=None):
    content = bytearray(content)
    for place in rng.integers(8, min(len(content), end or len(content)), size=n):
        content[place] ^= 1 << rng.integers(8)
    return content


DAMAGES = {
    "flipped bytes": flipped,
    "flipped header": lambda content, rng: flipped(content, rng, n=8, end=3000),
    "cut": lambda content, rng: content[: rng.integers(len(content))],
}


def write_compressed_h5(path, counts, barcodes, symbols):
    """A 10x h5 file whose arrays are compressed, as Cell Ranger leaves them."""
    with (
        h5py.File(write_h5(path.with_name("plain"), counts, barcodes, symbols)) as source,
        h5py.File(path, "w") as file,
    ):
        source.visititems(
            lambda name, item: (
                file.create_dataset(name, data=item[()], compression="gzip") if isinstance(item, h5py.Dataset) else None
            )
        )


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    """A small valid library in each format: its path, the files to damage, and whether these keep checksums."""
    folder = tmp_path_factory.mktemp("formats")
    counts, barcodes, symbols = make_counts(n_cells=60, n_genes=120)
    write_h5(folder / "plain.h5", counts, barcodes, symbols)
    write_compressed_h5(folder / "zipped.h5", counts, barcodes, symbols)
    adata = AnnData(counts, obs=pd.DataFrame(index=barcodes), var=pd.DataFrame(index=symbols))
    adata.write_h5ad(folder / "sparse.h5ad")
    adata.X = counts.toarray()
    adata.write_h5ad(folder / "dense.h5ad", compression="gzip")
    write_mtx(folder / "mtx", counts, barcodes, symbols, zipped=True)
    write_visium(folder / "parquet", positions="tissue_positions.parquet")
    write_visium(folder / "csv")
    parts = [f"{part}.gz" for part in ("matrix.mtx", "features.tsv", "barcodes.tsv")]
    return {
        "plain.h5": (folder / "plain.h5", [""], False),
        "zipped.h5": (folder / "zipped.h5", [""], True),
        "sparse.h5ad": (folder / "sparse.h5ad", [""], False),
        "dense.h5ad": (folder / "dense.h5ad", [""], True),
        "mtx": (folder / "mtx", parts, True),
        "parquet": (folder / "parquet", ["spatial/tissue_positions.parquet"], False),
        "csv": (folder / "csv", ["spatial/tissue_positions.csv", "spatial/scalefactors_json.json"], False),
    }


def outcome(row):
    """What reading a library gives: its counts, or the words of the refusal."""
    try:
        return read_library(row, ingest_config=CONFIG).X
    except (ValueError, OSError) as error:
        return str(error)


@pytest.mark.parametrize("name", ["plain.h5", "zipped.h5", "sparse.h5ad", "dense.h5ad", "mtx", "parquet", "csv"])
def test_damaged_files_are_read_as_they_were_or_refused_by_name(formats, name):
    path, parts, has_checksums = formats[name]
    row = make_row(path, "visium" if path.name in ("parquet", "csv") else "scrna")
    whole = outcome(row)
    refused = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        file = path / parts[seed % len(parts)] if parts != [""] else path
        content = file.read_bytes()
        file.write_bytes(DAMAGES[list(DAMAGES)[seed % 3]](content, rng))
        try:
            found = run_guarded(outcome, row, timeout_seconds=2)
        except ReaderCrashed as error:  # HDF5 goes round in circles in some of these files
            found = f"{path}: {error}"
        finally:
            file.write_bytes(content)
        if isinstance(found, str):
            refused += 1
            assert path.name in found or file.name in found, found
        else:
            assert found.shape == whole.shape and found.dtype == np.int32
            # Without checksums a flipped bit in a stored number is another number.
            assert not has_checksums or (found != whole).nnz == 0
    assert refused >= 15


def test_a_library_that_crashes_the_reader_is_left_out_with_the_reason(tmp_path, monkeypatch):
    counts, barcodes, symbols = make_counts()
    row = make_row(write_h5(tmp_path / "a.h5", counts, barcodes, symbols))
    monkeypatch.setattr("livermet.ingest.read_library", lambda *args, **kwargs: ctypes.string_at(0))
    meta = ingested(row, tmp_path).uns[keys.META]
    assert meta["reason"].startswith("a.h5: reading crashed the reader (SIGSEGV); the file is damaged: compare")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "counts.h5ad"]


def test_what_is_no_fault_of_the_file_fails_the_job_and_leaves_nothing(tmp_path, monkeypatch):
    counts, barcodes, symbols = make_counts()
    row = make_row(write_h5(tmp_path / "a.h5", counts, barcodes, symbols))

    def out_of_memory(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

    def disk_full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("livermet.ingest.read_library", out_of_memory)
        with pytest.raises(ReaderStopped, match="memory"):
            ingested(row, tmp_path)
    monkeypatch.setattr(AnnData, "write_h5ad", disk_full)
    with pytest.raises(OSError, match="no space left"):
        ingested(row, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_a_check_survives_a_crash_and_goes_on(tmp_path, monkeypatch):
    columns = {"raw_path": "", "boundary_path": ""}
    given = [{"library_id": name, "path": f"{name}.h5", **columns} for name in ("good", "crash", "html")]
    for row in given:
        write_h5(tmp_path / row["path"], *make_counts())
    (tmp_path / "html.h5").write_text("<html>")
    rows = {
        row["library_id"]: make_row(tmp_path / row["path"], **columns, library_id=row["library_id"]) for row in given
    }
    data = SimpleNamespace(tables={"libraries": SimpleNamespace(rows=given, lines=[2, 3, 4])}, library_rows=rows)

    def read(row, column):
        return ctypes.string_at(0) if row["library_id"] == "crash" else read_first(row, column)

    monkeypatch.setattr("livermet.filecheck.read_first", read)
    findings = check_files(data)
    assert [(f.severity, f.row, f.column, f.value) for f in findings] == [
        ("exclusion", 3, "path", "crash.h5"),
        ("exclusion", 4, "path", "html.h5"),
    ]
    assert findings[0].message.startswith("crash.h5: reading crashed the reader (SIGSEGV)")
    assert findings[1].message.startswith("html.h5: is a web page")


def with_value(counts, place, value):
    changed = counts.astype(float)
    changed.data[place] = value
    return changed


def test_a_check_reads_the_beginning_and_says_what_reading_says(tmp_path, monkeypatch):
    monkeypatch.setattr("livermet.ingest.FIRST_VALUES", 100)
    counts, barcodes, symbols = make_counts()
    bad = {
        "negative": (with_value(counts, 5, -1), barcodes, symbols),
        "twice": (counts, [*barcodes[:-1], barcodes[0]], symbols),
        "ids": (counts, barcodes, [f"ENSG{i:011d}.3" for i in range(30)]),
    }
    for name, content in bad.items():
        write_h5(tmp_path / f"{name}.h5", *content)
        write_mtx(tmp_path / name, *content, zipped=True, field=None)
        for row in (make_row(tmp_path / f"{name}.h5"), make_row(tmp_path / name)):
            with pytest.raises(ValueError) as first:
                read_first(row, "path")
            with pytest.raises(ValueError) as whole:
                read_library(row, ingest_config=CONFIG)
            assert str(first.value) == str(whole.value) and name in str(whole.value)
    late = (with_value(counts, -1, -1), barcodes, symbols)
    write_h5(tmp_path / "late.h5", *late)
    write_mtx(tmp_path / "late", *late, zipped=True, field=None)
    for layout, matrix in {"csr": late[0], "csc": late[0].tocsc(), "dense": late[0].toarray()}.items():
        write_object(tmp_path / f"{layout}.h5ad", X=matrix)
    for path in ("late.h5", "late", "csr.h5ad", "csc.h5ad", "dense.h5ad"):
        row = make_row(tmp_path / path)
        read_first(row, "path")
        with pytest.raises(ValueError, match="is negative"):
            read_library(row, ingest_config=CONFIG)


def test_a_check_reads_so_many_barcodes_of_raw_droplets_and_no_more(tmp_path, monkeypatch):
    for module in ("readers", "rawh5"):
        monkeypatch.setattr(f"livermet.{module}.FIRST_ROWS", 5)
    counts, barcodes, symbols = make_counts()
    write_h5(tmp_path / "a.h5", counts, barcodes, symbols)
    write_mtx(tmp_path / "mtx", counts, barcodes, symbols, zipped=True)
    for path in (tmp_path / "a.h5", tmp_path / "mtx"):
        adata = read_10x(path, first=10_000)
        assert adata.obs_names.tolist() == barcodes[:5] and (counts[:5] != adata.X).nnz == 0
        read_first(make_row("nowhere", raw_path=str(path)), "raw_path")


def test_pages_that_were_never_written_are_found(tmp_path):
    counts, barcodes, symbols = make_counts(n_cells=200, n_genes=60)
    counts.data[1000:1100] = 0
    assert read_10x(write_h5(tmp_path / "zeros.h5", counts, barcodes, symbols)).X.nnz == counts.nnz - 100
    counts.data[1000:1600] = 0
    with pytest.raises(ValueError, match=r"512 stored values in a row are zero.*copy it again"):
        read_10x(write_h5(tmp_path / "hole.h5", counts, barcodes, symbols))


def test_sizes_are_compared_with_what_is_stored_before_memory_is_asked_for(tmp_path):
    counts, barcodes, symbols = make_counts()
    path = write_h5(tmp_path / "a.h5", counts, barcodes, symbols)
    for chunks in (None, (2**16,)):
        with h5py.File(path, "r+") as file:
            del file["matrix/indices"]
            file["matrix"].create_dataset("indices", shape=(2**58,), dtype=np.int64, chunks=chunks)
        with pytest.raises(ValueError, match=r"matrix/indices declares .* more than the file stores"):
            read_10x(path)
    folder = write_mtx(tmp_path / "mtx", counts, barcodes, symbols, zipped=False)
    text = (folder / "matrix.mtx").read_text()
    (folder / "matrix.mtx").write_text(text.replace(f"30 12 {counts.nnz}", "30 12 300"))
    with pytest.raises(ValueError, match=r"matrix.mtx: .*"):
        read_10x(folder)
    (folder / "matrix.mtx").write_text(text.replace(f"30 12 {counts.nnz}", f"30 12 {10**17}"))
    with pytest.raises(ValueError, match="more than it can hold"):
        read_10x(folder)


@pytest.mark.parametrize("part", ["matrix.mtx.gz", "barcodes.tsv.gz", "features.tsv.gz"])
def test_incomplete_mtx_folders_are_refused(tmp_path, part):
    counts, barcodes, symbols = make_counts()
    folder = write_mtx(tmp_path / "mtx", counts, barcodes, symbols, zipped=True)
    file = folder / part
    file.write_bytes(file.read_bytes()[:-12])
    with pytest.raises(ValueError, match=part.split(".")[0]):
        read_10x(folder)
    file.unlink()
    with pytest.raises(ValueError, match=r"missing|no filtered counts"):
        find_source(folder, modality="scrna")


def test_matrix_files_that_are_no_counts_are_named(tmp_path):
    counts, barcodes, symbols = make_counts()
    folder = write_mtx(tmp_path / "mtx", counts, barcodes, symbols, zipped=False)
    text = (folder / "matrix.mtx").read_text()
    last = text.splitlines(keepends=True)[-1]
    for change, words in {
        text.replace("integer", "pattern", 1): "no Matrix Market file of counts",
        text.replace("general", "symmetric", 1): "no Matrix Market file of counts",
        text.replace("30 12 ", "12 30 ", 1): "declares 12 x 30, .* transpose the matrix",
        text.rstrip(): "the last line has no end",
        text.removesuffix(last): "can't be read .*copy it again",
        text.removesuffix(last) + text.splitlines(keepends=True)[-2]: "1 entries have the place of another",
        text.removesuffix(last) + "31 1 5\n": "can't be read .*copy it again",
        "<!DOCTYPE html>\n<html>\n": "is a web page",
    }.items():
        (folder / "matrix.mtx").write_text(change)
        with pytest.raises(ValueError, match=rf"matrix.mtx: .*{words}"):
            read_10x(folder)


def test_files_of_two_runs_are_not_joined(tmp_path):
    counts, barcodes, symbols = make_counts()
    folder = write_mtx(tmp_path / "mtx", counts, barcodes, symbols, zipped=False)
    (folder / "barcodes.tsv").write_text("AAAC-1\nAAAG-1\n")
    with pytest.raises(ValueError, match="the three files are not of one run"):
        read_10x(folder)


@pytest.mark.parametrize(
    ("value", "words"),
    [(-1, "is negative"), (1.5, "no whole number"), (np.nan, "NaN"), (np.inf, "infinite"), (3e9, "too large")],
)
def test_values_that_are_no_counts_are_refused_with_cell_and_gene(tmp_path, value, words):
    counts, barcodes, symbols = make_counts()
    counts = counts.astype(float)
    cell, gene = 4, int(counts[4].indices[1])
    counts[cell, gene] = value
    with pytest.raises(ValueError, match=rf"cell {barcodes[cell]}, gene {symbols[gene]} .*{words}"):
        read_10x(write_h5(tmp_path / "odd.h5", counts, barcodes, symbols))


def test_broken_index_arrays_are_refused_before_use():
    good = {"data": np.ones(3, int), "indices": np.array([0, 1, 2]), "indptr": np.array([0, 2, 3])}
    assert checked_csr(**good, shape=(2, 3), name="x").nnz == 3
    bad = [
        {"indices": np.array([0, 1, 3])},
        {"indices": np.array([0, -1, 2])},
        {"indptr": np.array([0, 4, 3])},
        {"indptr": np.array([1, 2, 3])},
        {"indptr": np.array([0, 3])},
        {"indptr": np.array([0.0, 1.5, 3.0])},
        {"data": np.ones(2, int)},
    ]
    for change in bad:
        with pytest.raises(ValueError, match="copy"):
            checked_csr(**(good | change), shape=(2, 3), name="x")


def test_repeated_barcodes_are_refused(tmp_path):
    counts, barcodes, symbols = make_counts()
    with pytest.raises(ValueError, match="AAAC0000-1' occurs more than once"):
        read_10x(write_h5(tmp_path / "twice.h5", counts, [barcodes[0], *barcodes[:-1]], symbols))


def test_symbols_become_unique_and_r_names_are_restored():
    assert unique_symbols(["A", "B", "A", "A", ""], ["1", "2", "3", "3", "5"]) == ["A", "B", "A-3", "A-3-2", "5"]
    assert unique_symbols(["A", "A", "A", ""], ["", "", "A", ""]) == ["A", "A-2", "A-3", "unnamed"]
    symbols, changes = restore_symbols(["MT.CO1", "HLA.DRB1", "TRAV1.2", "AC002094.3", "MT1A", "ALB"])
    assert symbols == ["MT-CO1", "HLA-DRB1", "TRAV1-2", "AC002094.3", "MT1A", "ALB"]
    assert changes[0] == "MT.CO1 -> MT-CO1" and len(changes) == 3


# ------------------------------------------------------------------------------------------------------- library


def test_a_library_carries_identity_checksums_and_ambient_counts(tmp_path):
    counts, barcodes, symbols = make_counts()
    write_h5(tmp_path / "run" / "outs" / "filtered_feature_bc_matrix.h5", counts, barcodes, symbols)
    raw = sparse.vstack(
        [counts, sparse.csr_matrix(np.full((5, 30), 2)), sparse.csr_matrix(np.full((1, 30), 9))]
    ).tocsr()
    names = [*barcodes, *(f"TTTT{i}-1" for i in range(6))]
    write_h5(tmp_path / "run" / "outs" / "raw_feature_bc_matrix.h5", raw, names, symbols)
    row = make_row(tmp_path / "run", raw_path=str(tmp_path / "run"))
    adata = read_library(row, ingest_config=CONFIG, simulated=True)
    assert adata.obs_names[0] == "L1:AAAC0000-1"
    assert adata.obs.iloc[0].to_dict() == {"library_id": "L1", "sample_id": "S1", "patient_id": "P1"}
    # Five droplets with 60 counts are empty; the one with 270 is neither cell nor empty.
    assert adata.var[keys.AMBIENT_COUNTS].tolist() == [10] * 30
    meta = adata.uns[keys.META]
    assert (meta["reader"], meta["reason"], meta["simulated"]) == ("10x_h5", "", True)
    inputs = json.loads(meta["inputs"])
    assert [(i["role"], i["name"]) for i in inputs] == [
        ("counts", "outs/filtered_feature_bc_matrix.h5"),
        ("raw", "outs/raw_feature_bc_matrix.h5"),
    ]
    assert all(len(i["sha256"]) == 64 and i["bytes"] > 0 for i in inputs)
    assert "0 of the" in meta["notes"] and str(tmp_path) not in meta["notes"]


def test_raw_droplets_of_another_run_are_refused(tmp_path):
    counts, barcodes, symbols = make_counts()
    path = write_h5(tmp_path / "a.h5", counts, barcodes, symbols)
    other = write_h5(tmp_path / "b.h5", counts, [f"GG{b}" for b in barcodes], symbols)
    genes = write_h5(tmp_path / "c.h5", counts[:, :20], barcodes, symbols[:20])
    for raw, words in ((other, "another run"), (genes, "10 genes .* missing"), (tmp_path / "no.h5", "raw_path")):
        with pytest.raises(ValueError, match=words):
            read_library(make_row(path, raw_path=str(raw)), ingest_config=CONFIG)


def test_empty_droplets_add_up_by_gene():
    raw = AnnData(X=sparse.csr_matrix(np.array([[1, 0], [0, 0], [3, 4], [50, 60], [2, 2]], dtype=np.int32)))
    raw.obs_names = list("abcde")
    assert empty_droplets(raw, ["e"], max_counts=10).tolist() == [4, 4]
    assert empty_droplets(raw, list("abcde"), max_counts=10).tolist() == [0, 0]


def test_a_failure_of_data_becomes_a_library_without_cells_and_a_fault_is_raised(tmp_path, monkeypatch):
    adata = ingested(make_row(tmp_path / "missing.h5"), tmp_path)
    assert adata.shape == (0, 0) and adata.uns[keys.META]["reason"].startswith("missing.h5: no such file")
    section = ingested(make_row(tmp_path / "missing", "visium"), tmp_path)
    assert section.obsm[keys.SPATIAL].shape == (0, 2)
    counts, barcodes, symbols = make_counts()
    path = write_h5(tmp_path / "a.h5", counts, barcodes, symbols)
    monkeypatch.setattr("livermet.ingest.checksums", lambda sources: sources["nothing"])
    with pytest.raises(KeyError):
        ingested(make_row(path), tmp_path)


def test_a_matrix_without_barcodes_is_a_failure_of_data(tmp_path):
    path = write_h5(tmp_path / "none.h5", sparse.csr_matrix((0, 30), dtype=np.int32), [], make_counts()[2])
    with pytest.raises(ValueError, match="0 barcodes"):
        read_library(make_row(path), ingest_config=CONFIG)


def test_folders_with_nothing_or_too_much_to_read_say_so(tmp_path):
    counts, barcodes, symbols = make_counts()
    write_h5(tmp_path / "filtered" / "filtered_feature_bc_matrix.h5", counts, barcodes, symbols)
    with pytest.raises(ValueError, match="filtered matrix that lies there can't take its place"):
        find_raw(tmp_path / "filtered")
    for name in ("s1", "s2"):
        write_h5(tmp_path / "two" / f"{name}_filtered_feature_bc_matrix.h5", counts, barcodes, symbols)
    with pytest.raises(ValueError, match="several filtered matrices"):
        find_source(tmp_path / "two", modality="scrna")
    for genome in ("GRCh38", "mm10"):
        write_mtx(tmp_path / "v2" / "filtered_gene_bc_matrices" / genome, counts, barcodes, symbols, zipped=False)
    with pytest.raises(ValueError, match=r"several genomes \(GRCh38, mm10\)"):
        find_source(tmp_path / "v2", modality="scrna")


@pytest.mark.parametrize(
    ("files", "platform"),
    [
        (["experiment.xenium"], "Xenium"),
        (["cells.parquet", "cell_feature_matrix.h5"], "Xenium"),
        (["run_exprMat_file.csv"], "CosMx"),
        (["cell_by_gene.csv"], "MERSCOPE"),
        (["binned_outputs"], "Visium HD"),
    ],
)
def test_sections_of_another_platform_are_named_by_their_files(tmp_path, files, platform):
    for name in files:
        (tmp_path / name).touch()
    for modality in ("scrna", "visium"):
        with pytest.raises(ValueError, match=rf"is a {platform} section by its files, but its modality is {modality}"):
            find_source(tmp_path, modality=modality)


# ------------------------------------------------------------------------------------------------------- h5ad


def write_object(path, **parts):
    counts, barcodes, symbols = make_counts()
    adata = AnnData(
        X=parts.pop("X", counts),
        obs=parts.pop("obs", pd.DataFrame({"quality": "good", "in_tissue": [1] * 11 + [0]}, index=barcodes)),
        var=parts.pop("var", pd.DataFrame(index=symbols)),
        **parts,
    )
    adata.write_h5ad(path)
    return counts


def logged(counts):
    return counts.astype(np.float32).log1p()


def test_counts_of_an_h5ad_are_found_wherever_they_lie(tmp_path):
    counts, barcodes, symbols = make_counts()
    raw = AnnData(X=counts.astype(np.float32), var=pd.DataFrame(index=symbols))
    for name, parts in {
        "csr": {"X": counts.astype(np.float32)},
        "csc": {"X": counts.tocsc()},
        "dense": {"X": counts.toarray().astype(float)},
        "layer": {"X": logged(counts), "layers": {"counts": counts}},
        "raw": {"X": logged(counts), "raw": raw},
    }.items():
        write_object(tmp_path / f"{name}.h5ad", **parts)
        adata = read_h5ad(tmp_path / f"{name}.h5ad", spatial=False, pixel_um=None)
        assert (counts != adata.X).nnz == 0 and adata.X.dtype == np.int32 and adata.X.format == "csr", name
        assert adata.obs.columns.empty and adata.obs_names.tolist() == barcodes
        taken = [note for note in adata.uns["notes"] if "counts taken from" in note]
        assert len(taken) == (name in ("layer", "raw"))
    write_object(tmp_path / "log.h5ad", X=logged(counts), layers={"counts": logged(counts)})
    with pytest.raises(ValueError, match="no whole numbers in X, layers/counts"):
        read_h5ad(tmp_path / "log.h5ad", spatial=False, pixel_um=None)


def test_an_h5ad_indexed_by_ensembl_id_takes_its_symbols_from_var(tmp_path):
    var = pd.DataFrame({"feature_name": make_counts()[2]}, index=[f"ENSG{i:011d}" for i in range(30)])
    write_object(tmp_path / "a.h5ad", var=var)
    adata = read_h5ad(tmp_path / "a.h5ad", spatial=False, pixel_um=None)
    assert adata.var_names[0] == "GENE0" and adata.var[keys.GENE_ID].iloc[0] == "ENSG00000000000"


def test_columns_of_an_h5ad_are_read_in_every_encoding(tmp_path):
    _, _, symbols = make_counts()
    ids = [f"ENSG{i:011d}" for i in range(30)]
    kinds = {
        "plain": pd.Series(symbols, index=ids),
        "categorical": pd.Categorical(symbols),
        "nullable": pd.array(symbols, dtype="string"),
    }
    for name, column in kinds.items():
        var = pd.DataFrame(
            {"gene_symbols": column, "feature_types": pd.Categorical(["Gene Expression"] * 30)}, index=ids
        )
        with ad.settings.override(allow_write_nullable_strings=True):
            write_object(tmp_path / f"{name}.h5ad", var=var)
        adata = read_h5ad(tmp_path / f"{name}.h5ad", spatial=False, pixel_um=None)
        assert adata.var_names.tolist() == symbols and adata.var[keys.GENE_ID].tolist() == ids, name
    with h5py.File(tmp_path / "plain.h5ad", "r+") as file:  # as anndata 0.7 left categories
        categories = file["var"].create_dataset("__categories/gene_symbols", data=symbols[::-1])
        del file["var/gene_symbols"]
        codes = file["var"].create_dataset("gene_symbols", data=np.arange(30)[::-1])
        codes.attrs["categories"] = categories.ref
    adata = read_h5ad(tmp_path / "plain.h5ad", spatial=False, pixel_um=None)
    assert adata.var_names.tolist() == symbols


def test_antibodies_of_an_h5ad_are_no_genes_and_biotypes_are(tmp_path):
    _, _, symbols = make_counts()
    for kind, words in (("Antibody Capture", "found: 30 Antibody Capture"), ("protein_coding", None)):
        write_object(tmp_path / "a.h5ad", var=pd.DataFrame({"feature_type": kind}, index=symbols))
        if words:
            with pytest.raises(ValueError, match=words):
                read_h5ad(tmp_path / "a.h5ad", spatial=False, pixel_um=None)
        else:
            assert read_h5ad(tmp_path / "a.h5ad", spatial=False, pixel_um=None).n_vars == 30


def test_nothing_but_counts_names_and_positions_leaves_an_h5ad(tmp_path):
    secret = "Zebra-stripes"
    marked = pd.DataFrame({"note": [secret] * 30}, index=make_counts()[2])
    obs = pd.DataFrame({"remark": [secret] * 12, "in_tissue": 1}, index=make_counts()[1])
    obsm = {"spatial": hexagonal(3, 4), "X_secret": np.full((12, 2), 7.125)}
    write_object(tmp_path / "a.h5ad", var=marked, obs=obs, uns={"info": {"deep": secret}}, obsm=obsm)
    assert secret.encode() in (tmp_path / "a.h5ad").read_bytes()
    adata = ingested(make_row(tmp_path / "a.h5ad", "visium", pixel_um=1), tmp_path)
    assert adata.n_obs == 12 and list(adata.uns) == [keys.META] and list(adata.obsm) == [keys.SPATIAL]
    assert secret.encode() not in (tmp_path / "counts.h5ad").read_bytes()


def test_an_h5ad_that_holds_persons_is_left_out_by_check_and_ingest(tmp_path):
    obs = pd.DataFrame({"comment": ["born 1950-02-14", *["fine"] * 11]}, index=make_counts()[1])
    write_object(tmp_path / "a.h5ad", obs=obs)
    with pytest.raises(ValueError, match=r"a.h5ad: .*persons: obs column 'comment' .*calendar date.*remove") as caught:
        read_first(make_row(tmp_path / "a.h5ad"), "path")
    assert "1950-02-14" not in str(caught.value)
    meta = ingested(make_row(tmp_path / "a.h5ad"), tmp_path).uns[keys.META]
    assert "obs column 'comment'" in meta["reason"] and "1950-02-14" not in meta["reason"]


def test_odd_h5ad_files_are_refused_in_words(tmp_path):
    counts, _, _ = make_counts()
    genes = sorted(marker_genes())[:100]
    cells = [f"cell{i}" for i in range(12)]
    AnnData(make_counts(100, 12)[0], obs=pd.DataFrame(index=genes), var=pd.DataFrame(index=cells)).write_h5ad(
        tmp_path / "transposed.h5ad"
    )
    write_object(tmp_path / "no_index.h5ad")
    write_object(tmp_path / "narrow.h5ad")
    write_object(tmp_path / "text.h5ad", X=counts.toarray())
    with h5py.File(tmp_path / "no_index.h5ad", "r+") as file:
        del file["obs/_index"]
    with h5py.File(tmp_path / "narrow.h5ad", "r+") as file:
        file["X"].attrs["shape"] = [12, 31]
    with h5py.File(tmp_path / "text.h5ad", "r+") as file:
        del file["X"]
        file["X"] = np.full((12, 30), b"many")
    words = {
        "transposed": f"names of the cells are genes, such as {genes[0]}: transpose",
        "no_index": "obs/_index is missing",
        "narrow": r"shape \(12, 31\) does not agree with obs and var \(12, 30\)",
        "text": "are no counts",
    }
    for name, said in words.items():
        with pytest.raises(ValueError, match=rf"{name}.h5ad.*{said}"):
            read_h5ad(tmp_path / f"{name}.h5ad", spatial=False, pixel_um=None)


@pytest.mark.parametrize(
    "flags", [[True] * 10 + [False] * 2, pd.Categorical(["1"] * 10 + ["0"] * 2), [1.0] * 10 + [0.0] * 2]
)
def test_spots_in_the_tissue_are_told_in_every_type(tmp_path, flags):
    obs = pd.DataFrame({"in_tissue": flags}, index=make_counts()[1])
    write_object(tmp_path / "a.h5ad", obs=obs, obsm={"spatial": hexagonal(3, 4)})
    assert read_h5ad(tmp_path / "a.h5ad", spatial=True, pixel_um=1).n_obs == 10
    write_object(tmp_path / "b.h5ad", obs=obs.assign(in_tissue="maybe"), obsm={"spatial": hexagonal(3, 4)})
    with pytest.raises(ValueError, match=r"in_tissue.*maybe.*0 and 1 are needed"):
        read_h5ad(tmp_path / "b.h5ad", spatial=True, pixel_um=1)


def test_positions_of_an_h5ad_become_micrometres(tmp_path):
    positions = np.column_stack(np.divmod(np.arange(12.0), 4))  # squares, as of arrays before Visium
    counts = write_object(tmp_path / "a.h5ad", obsm={"spatial": positions})
    row = make_row(tmp_path / "a.h5ad", "visium", pixel_um=200)
    adata = read_library(row, ingest_config=CONFIG)
    assert np.array_equal(adata.obsm[keys.SPATIAL], positions[:11] * 200)
    assert (counts[:11] != adata.X).nnz == 0 and "1 of 12 spots outside" in adata.uns[keys.META]["notes"]
    with pytest.raises(ValueError, match="give pixel_um"):
        read_library(make_row(tmp_path / "a.h5ad", "visium"), ingest_config=CONFIG)
    write_object(tmp_path / "b.h5ad")
    with pytest.raises(ValueError, match=r"needs obsm\['spatial'\]"):
        read_library(make_row(tmp_path / "b.h5ad", "visium", pixel_um=1), ingest_config=CONFIG)


SLIDE = hexagonal(3, 4)


@pytest.mark.parametrize(
    ("positions", "pixel_um", "words"),
    [
        (2.74 * SLIDE, 1, r"spots lie 274 um apart .* pixel_um 1, but those of Visium lie 100 um .*; 0\.365 would fit"),
        (SLIDE, 2, "200 um apart"),  # a hexagon of twice the size is no array of squares
        (SLIDE / 1000, 1, "0.1 um apart"),
        (SLIDE[[*range(6), *range(6)]], 1, "12 positions are 6 places"),
        (np.full((12, 2), 3.5), 1, "all 12 positions are one place"),
    ],
)
def test_positions_of_a_section_that_cannot_be_right_are_refused_by_check_and_ingest(
    tmp_path, positions, pixel_um, words
):
    write_object(tmp_path / "a.h5ad", obsm={"spatial": positions})
    row = make_row(tmp_path / "a.h5ad", "visium", pixel_um=pixel_um)
    with pytest.raises(ValueError, match=rf"a\.h5ad: .*{words}"):
        read_first(row, "path")
    left = ingested(row, tmp_path)
    assert left.n_obs == 0 and re.search(words, left.uns[keys.META]["reason"])


@pytest.mark.parametrize(("positions", "pixel_um"), [(SLIDE, 1), (2.74 * SLIDE, 0.365), (1.1 * SLIDE, 1)])
def test_spots_as_far_apart_as_those_of_visium_are_read(tmp_path, positions, pixel_um):
    write_object(tmp_path / "a.h5ad", obsm={"spatial": positions})
    adata = read_library(make_row(tmp_path / "a.h5ad", "visium", pixel_um=pixel_um), ingest_config=CONFIG)
    np.testing.assert_allclose(adata.obsm[keys.SPATIAL], positions[:11] * pixel_um)


# ------------------------------------------------------------------------------------------------------- Visium


@pytest.mark.parametrize("positions", ["tissue_positions_list.csv", "tissue_positions.csv", "tissue_positions.parquet"])
@pytest.mark.parametrize("image", [True, False])
def test_all_position_files_give_micrometres_with_or_without_image(tmp_path, positions, image):
    folder, table, counts = write_visium(tmp_path / "v", positions=positions, pixel_um=0.4, image=image)
    adata = read_visium(folder, pixel_um=None)
    inside = table[table["in_tissue"] == 1].set_index("barcode")
    assert adata.obs_names.tolist() == inside.index.tolist() and (counts[:34] != adata.X).nnz == 0
    expected = inside[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy() * 0.4
    assert np.allclose(adata.obsm[keys.SPATIAL], expected)
    distance = np.linalg.norm(adata.obsm[keys.SPATIAL][:, None] - adata.obsm[keys.SPATIAL][None], axis=2)
    assert distance[distance > 0].min() == pytest.approx(100)
    assert adata.obs[keys.ARRAY_COL].tolist() == inside["array_col"].tolist()
    assert ("spatial" in adata.uns) == image


def test_image_scale_fits_coordinates_in_micrometres(tmp_path):
    folder, table, _ = write_visium(tmp_path / "v", pixel_um=0.4)
    adata = read_library(make_row(folder, "visium"), ingest_config=CONFIG)
    scale = adata.uns["spatial"]["L1"]["scalefactors"]
    in_image = adata.obsm[keys.SPATIAL][:, 0] * scale["tissue_lowres_scalef"]
    assert np.allclose(in_image, table["pxl_col_in_fullres"][:34] * 0.05) and scale["spot_diameter_fullres"] == 55
    image = adata.uns["spatial"]["L1"]["images"]["lowres"]
    assert image.shape == (110, 120, 3) and image.dtype == np.uint8


def test_the_grid_rules_the_scale_and_contradictions_are_explained(tmp_path):
    folder, table, _ = write_visium(tmp_path / "v", pixel_um=0.5, scale=False)
    assert grid_pitch(table.rename(columns={"pxl_col_in_fullres": "x", "pxl_row_in_fullres": "y"})) == pytest.approx(
        200
    )
    steps = [np.ptp(read_visium(folder, pixel_um=p).obsm[keys.SPATIAL][:, 0]) for p in (None, 0.55)]
    assert steps == pytest.approx([550, 605])
    with pytest.raises(ValueError, match=r"pixel_um is 0\.25, but the slide itself gives 0\.5 um"):
        read_visium(folder, pixel_um=0.25)
    (folder / "spatial" / "scalefactors_json.json").write_text('{"spot_diameter_fullres": 90}')
    with pytest.raises(ValueError, match="not of one section"):
        read_visium(folder, pixel_um=None)
    (folder / "spatial" / "scalefactors_json.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        read_visium(folder, pixel_um=None)


def test_raw_visium_counts_are_cut_to_the_tissue_and_a_broken_image_is_only_noted(tmp_path):
    folder, _, _ = write_visium(tmp_path / "v", matrix="raw", outside=6)
    (folder / "spatial" / "tissue_lowres_image.png").write_bytes(b"\x89PNG broken")
    adata = read_visium(folder, pixel_um=None)
    assert adata.n_obs == 30 and "spatial" not in adata.uns
    assert "6 of 36 spots outside" in adata.uns["notes"][0] and "image left out" in adata.uns["notes"][1]


def test_sections_that_lack_something_say_what(tmp_path):
    folder, table, _ = write_visium(tmp_path / "v")
    with pytest.raises(ValueError, match="is a Visium section by its files, but its modality is scrna"):
        find_source(folder, modality="scrna")
    with pytest.raises(ValueError, match="needs its positions too"):
        find_source(folder / "filtered_feature_bc_matrix.h5", modality="visium")
    file = folder / "spatial" / "tissue_positions.csv"
    table.iloc[3:].to_csv(file, index=False)
    with pytest.raises(ValueError, match="3 of 36 barcodes have no position"):
        read_visium(folder, pixel_um=None)
    table.assign(in_tissue=0).to_csv(file, index=False)
    with pytest.raises(ValueError, match="none of 36 spots lies in the tissue"):
        read_visium(folder, pixel_um=None)
    table.drop(columns="array_row").to_csv(file, index=False)
    with pytest.raises(ValueError, match="columns array_row missing"):
        read_visium(folder, pixel_um=None)
    file.unlink()
    with pytest.raises(ValueError, match=r"looked for tissue_positions\.parquet"):
        read_visium(folder, pixel_um=None)
    table.drop(columns="array_col").to_parquet(file.with_suffix(".parquet"))
    with pytest.raises(ValueError, match=r"tissue_positions\.parquet: columns array_col missing"):
        read_visium(folder, pixel_um=None)


def test_positions_that_cannot_be_are_refused(tmp_path):
    folder, table, _ = write_visium(tmp_path / "v")
    file = folder / "spatial" / "tissue_positions.csv"
    table.assign(in_tissue=2).to_csv(file, index=False)
    with pytest.raises(ValueError, match="in_tissue is neither 0 nor 1"):
        read_visium(folder, pixel_um=None)
    shifted = table.copy()
    shifted.loc[7, "pxl_col_in_fullres"] += 400
    shifted.to_csv(file, index=False)
    with pytest.raises(ValueError, match=rf"spot {table['barcode'][7]} lies \d+ pixels from where its array row"):
        read_visium(folder, pixel_um=None)
    shifted.loc[7, "pxl_col_in_fullres"] = np.inf
    shifted.to_csv(file, index=False)
    with pytest.raises(ValueError, match="no number in each column"):
        read_visium(folder, pixel_um=None)
    table.to_csv(file, index=False)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ValueError, match="the last line has no end"):
        read_visium(folder, pixel_um=None)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "0.05", None])
def test_scale_factors_are_positive_numbers(tmp_path, value):
    folder, _, _ = write_visium(tmp_path / "v")
    file = folder / "spatial" / "scalefactors_json.json"
    file.write_text(json.dumps({"spot_diameter_fullres": 130, "tissue_lowres_scalef": value}))
    with pytest.raises(ValueError, match=r"scalefactors_json.json: tissue_lowres_scalef is .*copy it again"):
        read_visium(folder, pixel_um=None)


def test_an_image_that_does_not_fit_is_left_out_with_a_note(tmp_path):
    from PIL import Image

    folder, _, _ = write_visium(tmp_path / "v", outside=0)
    file = folder / "spatial" / "tissue_lowres_image.png"
    for size, words in (((60, 60), "11 of 36 spots lie outside it"), ((6000, 20), "no low-resolution image")):
        Image.new("RGB", size).save(file)
        adata = read_visium(folder, pixel_um=None)
        assert adata.n_obs == 36 and "spatial" not in adata.uns
        assert words in adata.uns["notes"][0] and "left out" in adata.uns["notes"][0]


# ------------------------------------------------------------------------------------------------------- real files

REAL = {
    "formats/scanpy/10x_data/1.2.0/filtered_gene_bc_matrices/hg19_chr21": ("scrna", (12, 343, 12)),
    "formats/scanpy/10x_data/1.2.0/filtered_gene_bc_matrices": ("scrna", (12, 343, 12)),
    "formats/scanpy/10x_data/1.2.0/filtered_gene_bc_matrices_h5.h5": ("scrna", (12, 343, 12)),
    "formats/scanpy/10x_data/1.2.0/multiple_genomes.h5": ("scrna", r"several genomes \(another_genome, hg19_chr21\)"),
    "formats/scanpy/10x_data/3.0.0/filtered_feature_bc_matrix": ("scrna", (1107, 507, 41549)),
    "formats/scanpy/10x_data/3.0.0/filtered_feature_bc_matrix.h5": ("scrna", (1107, 507, 41549)),
    "formats/scanpy/visium_data/1.0.0": ("visium", "named by Ensembl ids"),
    "formats/scanpy/visium_data/2.1.0/raw_probe_bc_matrix.h5": ("scrna", "none of 639 droplets holds a cell"),
    "formats/scanpy/visium_data/2.1.0": ("visium", "no positions found"),
    "formats/seurat": ("scrna", (80, 240, 23110)),
    "formats/seurat/cr3.0": ("scrna", (5, 3, 5610)),
    "formats/seurat/visium": ("visium", (2695, 100, 132231)),
    "formats/seurat/visium_hd": ("visium_hd", "2053 of 2695 barcodes have no position"),
    "formats/seurat/visium_hd/binned_outputs": ("visium", "is a Visium HD section by its files"),
    "formats/seurat/visium_hd/binned_outputs/square_008um": ("visium_hd", (1368, 100, 65660)),
    "formats/seurat/visium_hd/binned_outputs/square_016um": ("visium", "is a Visium HD section by its files"),
    "formats/squidpy": ("visium", "named by Ensembl ids"),
    "formats/squidpy/test_data.h5ad": ("scrna", "no whole numbers in X"),
    "formats/squidpy/ligrec_pvalues_reference.h5ad": ("scrna", "no whole numbers in X"),
    "formats/spatialexperimentio/Xenium_small": ("xenium", (6, 4, 21)),
    "formats/spatialexperimentio/Xenium_small/cell_feature_matrix.h5": ("scrna", (6, 4, 21)),
    "formats/spatialexperimentio/CosMx_small": ("cosmx", r"no file tells their size; give pixel_um .*0\.12028"),
    "formats/spatialexperimentio/MERSCOPE_small": ("merscope", (8, 9, 0)),
    "formats/spatialexperimentio/STARmapPLUS_small": ("scrna", "no filtered counts found"),
    "pdac_a/cells.h5ad": ("scrna", (500, 19736, 1608661)),
    "pdac_a/spots.h5ad": ("visium", "give pixel_um"),
}


@pytest.mark.parametrize("path", REAL)
def test_real_files_are_read_or_refused_in_words(real_data, path):
    modality, expected = REAL[path]
    row = make_row(real_data / path, modality, bin_um=16)
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            read_library(row, ingest_config=CONFIG)
    else:
        adata = read_library(row, ingest_config=CONFIG)
        assert (*adata.shape, int(adata.X.sum())) == expected
        assert adata.X.dtype == np.int32 and adata.var_names.is_unique


def test_real_raw_droplets_give_ambient_counts(real_data):
    folder = real_data / "formats" / "soupx"
    row = make_row(folder / "filtered_gene_bc_matrices", raw_path=str(folder / "raw_gene_bc_matrices"))
    adata = read_library(row, ingest_config=CONFIG)
    raw = read_10x(folder / "raw_gene_bc_matrices" / "GRCh38")
    cells = [name.removeprefix("L1:") for name in adata.obs_names]
    totals = np.asarray(raw.X.sum(axis=1)).ravel()
    empty = (totals <= 100) & ~raw.obs_names.isin(cells)
    assert adata.shape == (62, 226)
    assert adata.var[keys.AMBIENT_COUNTS].tolist() == np.asarray(raw.X[empty].sum(axis=0)).ravel().tolist()
    assert adata.var[keys.AMBIENT_COUNTS].sum() > 0


def test_real_slides_have_spots_100_um_apart_and_spot_diameters_of_65(real_data):
    for folder in ("formats/seurat/visium", "formats/scanpy/visium_data/1.0.0"):
        positions = read_positions(real_data / folder / "spatial" / "tissue_positions_list.csv")
        factors = read_scale_factors(real_data / folder / "spatial" / "scalefactors_json.json")
        um_per_pixel = micrometres_per_pixel(
            positions, spot_diameter=factors["spot_diameter_fullres"], pixel_um=None, name=folder
        )
        here, place = positions[["x", "y"]] * um_per_pixel, positions[[keys.ARRAY_ROW, keys.ARRAY_COL]].to_numpy()
        # On the array a row is half the square root of three pitches high, and two columns are one pitch apart.
        on_array = np.column_stack([place[:, 0] * 50 * np.sqrt(3), place[:, 1] * 50])
        distance = [np.linalg.norm(points - points[0], axis=1)[1:] for points in (here.to_numpy(), on_array)]
        assert np.allclose(distance[0], distance[1], rtol=0.02), folder
        assert factors["spot_diameter_fullres"] * um_per_pixel == pytest.approx(65, rel=0.01)


def test_real_spots_take_their_scale_from_the_table(real_data):
    adata = read_library(make_row(real_data / "pdac_a/spots.h5ad", "visium", pixel_um=200), ingest_config=CONFIG)
    assert adata.shape == (428, 19736) and adata.obsm[keys.SPATIAL][:2].tolist() == [[2000, 2000], [2000, 2600]]
    assert list(adata.obs) == ["library_id", "sample_id", "patient_id"]
