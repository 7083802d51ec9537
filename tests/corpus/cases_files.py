"""Damaged and odd data files: exactly the library that one belongs to is left out, or read with a note."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from corpus import Case
from damage import Damage, both, cell, edits, molecule_info, removes, truncates, writes
from file_study import (
    MITOCHONDRIAL,
    N_CELLS,
    N_GENES,
    Library,
    library,
    positions,
    write_10x_h5,
    write_10x_mtx,
    write_h5ad,
    write_part,
)

POSITIONS = "raw/C/spatial/tissue_positions.csv"
SCALES = "raw/C/spatial/scalefactors_json.json"
HTML = "<!DOCTYPE html><html><body>Please log in</body></html>"


def excludes(name: str, library: str, damage: Damage, *words: str) -> Case:
    """The library is left out with these words."""
    return Case(name, damage, "excludes", words, study="files", library=library)


def handles(name: str, library: str, damage: Damage, *words: str) -> Case:
    """The library is read, with a note in these words."""
    return Case(name, damage, "handles", words, study="files", library=library)


# --------------------------------------------------------------------------------------------------- ways to damage


def h5(change: Callable[[Library], Library], name: str = "A", **options: Any) -> Damage:
    """Write the 10x h5 file of a library anew with other content."""
    return lambda folder: write_10x_h5(folder / f"raw/{name}.h5", change(library(name)), **options)


def section(change: Callable[[Library], Library]) -> Damage:
    """Write the counts of the section anew."""
    return lambda folder: write_10x_h5(folder / "raw/C/filtered_feature_bc_matrix.h5", change(library("C")))


def mtx(change: Callable[[Library], Library]) -> Damage:
    """Write the mtx folder of B anew."""
    return lambda folder: write_10x_mtx(folder / "raw/B", change(library("B")))


def h5ad(change: Callable[[Library], Library] = lambda content: content, **parts: Any) -> Damage:
    """Write the h5ad file of D anew; ``parts`` are further arguments of AnnData."""
    return lambda folder: write_h5ad(folder / "raw/D.h5ad", change(library("D")), **parts)


def value(new: float) -> Callable[[Library], Library]:
    """One value among the counts is another."""

    def change(content: Library) -> Library:
        values = content.counts.data.astype(float)
        values[100] = new
        return content.with_values(values)

    return change


def scaled(content: Library) -> Library:
    """Counts per 10,000."""
    total = np.repeat(content.counts.sum(axis=1).A1, np.diff(content.counts.indptr))
    return content.with_values(content.counts.data * 1e4 / total)


def rounded(content: Library) -> Library:
    """Counts per ten million, rounded."""
    return content.with_values(np.round(scaled(content).counts.data * 1000).astype(np.int64))


def logged(content: Library) -> Library:
    """The usual log-normalisation."""
    return content.with_values(np.log1p(scaled(content).counts.data))


def seen(content: Library) -> Library:
    """Ones in the place of counts."""
    return content.with_values(np.ones_like(content.counts.data))


def first_cells(n: int) -> Callable[[Library], Library]:
    """The first barcodes only."""
    return lambda content: replace(content, counts=content.counts[:n], barcodes=content.barcodes[:n])


def thinned(content: Library) -> Library:
    """A tenth of the counts, less than any cell needs."""
    return content.with_values(content.counts.data // 10)


def named(change: Callable[[str], str]) -> Callable[[Library], Library]:
    """Other symbols."""
    return lambda content: replace(content, symbols=[change(symbol) for symbol in content.symbols])


def repeated_symbols(content: Library) -> Library:
    """Two pairs of genes with one symbol each."""
    symbols = list(content.symbols)
    symbols[1], symbols[3] = symbols[0], symbols[2]
    return replace(content, symbols=symbols)


def repeated_barcode(content: Library) -> Library:
    """One barcode twice."""
    return replace(content, barcodes=[content.barcodes[1], *content.barcodes[1:]])


def nuclear(content: Library) -> Library:
    """No mitochondrial gene, as of a panel."""
    n = N_GENES - len(MITOCHONDRIAL)
    return replace(content, counts=content.counts[:, :n], symbols=content.symbols[:n], ids=content.ids[:n])


def two_species(content: Library) -> Library:
    """Half of the genes are of mice, by their ids."""
    half = N_GENES // 2
    mouse = [f"mm10___ENSMUSG{i:011d}" for i in range(half)]
    return replace(content, ids=[*(f"GRCh38_{name}" for name in content.ids[:-half]), *mouse])


def all_droplets(content: Library) -> Library:
    """Twelve thousand droplets, nearly all of them empty."""
    rng = np.random.default_rng(3)
    empty = sparse.random(12_000, N_GENES, density=0.005, random_state=rng, dtype=np.int32, format="csr")
    empty.data[:] = 1
    names = [f"T{i:012d}" for i in range(12_000)]
    return replace(
        content, counts=sparse.vstack([content.counts, empty], format="csr"), barcodes=[*content.barcodes, *names]
    )


def flips(name: str, *, seed: int, n: int = 64, skip: int = 0, end: int | None = None) -> Damage:
    """Flip a bit in each of some bytes of a file, between two places."""

    def change(folder: Path) -> None:
        path = folder / name
        content = bytearray(path.read_bytes())
        rng = np.random.default_rng(seed)
        for place in rng.integers(skip, end or len(content), size=n):
            content[place] ^= 1 << rng.integers(8)
        path.write_bytes(content)

    return change


def damaged_counts(folder: Path) -> None:
    """Flipped bytes within the compressed counts."""
    with h5py.File(folder / "raw/A.h5") as file:
        chunk = file["matrix/data"].id.get_chunk_info(0)
    flips("raw/A.h5", seed=4, n=5, skip=chunk.byte_offset, end=chunk.byte_offset + chunk.size)(folder)


def hole(folder: Path) -> None:
    """A copy that was broken off left zeros in the middle of the counts."""
    content = library("A")
    write_10x_h5(folder / "raw/A.h5", content, compress=False)
    with h5py.File(folder / "raw/A.h5", "r+") as file:
        data = file["matrix/data"]
        data[5_000:6_024] = 0


def unwritten_lines(text: str) -> str:
    """The same in a text file, which the reader of scipy 1.17 dies of."""
    start = text.index("\n", 20_000)
    return text[:start] + "\0" * 512 + text[start + 512 :]


def broken_pointers(folder: Path) -> None:
    """An index that goes beyond the genes, as flipped bytes leave it."""
    with h5py.File(folder / "raw/A.h5", "r+") as file:
        indices = file["matrix/indices"]
        indices[7] = 2**30


def declares_more(folder: Path) -> None:
    """Far more values are declared than were ever written."""
    with h5py.File(folder / "raw/A.h5", "r+") as file:
        for name in ("data", "indices"):
            del file[f"matrix/{name}"]
            file["matrix"].create_dataset(name, shape=(2**50,), chunks=(2**16,), dtype=np.int64)


def probes(folder: Path) -> None:
    """The matrix of single probes."""
    with h5py.File(folder / "raw/A.h5", "r+") as file:
        file["matrix/features/probe_region"] = np.array(["spliced"] * N_GENES, dtype="S")


def two_genomes_of_old(folder: Path) -> None:
    """A file of Cell Ranger 2 with two genomes."""
    content = library("A")
    with h5py.File(folder / "raw/A.h5", "w") as file:
        for genome in ("GRCh38", "mm10"):
            file[f"{genome}/barcodes"] = np.array(content.barcodes, dtype="S")
            file[f"{genome}/genes"] = np.array(content.ids, dtype="S")
            file[f"{genome}/gene_names"] = np.array(content.symbols, dtype="S")


def moved(source: str, target: str, row: str) -> Damage:
    """Move a file, and let libraries.tsv name it there."""
    return both(lambda folder: shutil.move(folder / source, folder / target), cell("libraries", row, "path", target))


def part(name: str, change: Callable[[str], str]) -> Damage:
    """Change the text of one part of the mtx folder."""

    def write(folder: Path) -> None:
        text = gzip.decompress((folder / f"raw/B/{name}.gz").read_bytes()).decode()
        write_part(folder / "raw/B", name, change(text).encode())

    return write


def spots(change: Callable[[pd.DataFrame], object]) -> Damage:
    """Change the table of positions."""

    def write(folder: Path) -> None:
        table = positions(library("C"))
        changed = change(table)
        (table if changed is None else changed).to_csv(folder / POSITIONS, index=False)

    return write


def off_grid(table: pd.DataFrame) -> None:
    table.loc[9, "pxl_row_in_fullres"] += 1000


def scale(**factors: Any) -> Damage:
    """Change scale factors."""

    def write(folder: Path) -> None:
        path = folder / SCALES
        path.write_text(json.dumps(json.loads(path.read_text()) | factors))

    return write


def transposed(folder: Path) -> None:
    """Genes in the place of cells."""
    content = library("D")
    cells, genes = (pd.DataFrame(index=pd.Index(names)) for names in (content.barcodes, content.symbols))
    AnnData(content.counts.T.tocsr(), obs=genes, var=cells).write_h5ad(folder / "raw/D.h5ad")


def old_h5ad(folder: Path) -> None:
    """obs and var as anndata stored them before 0.7."""
    with h5py.File(folder / "raw/D.h5ad", "w") as file:
        for name in ("obs", "var"):
            file[name] = np.array([(b"a",)], dtype=[("index", "S1")])


def without_index(folder: Path) -> None:
    """The names of the cells are gone."""
    with h5py.File(folder / "raw/D.h5ad", "r+") as file:
        del file["obs/_index"]


def personal(folder: Path) -> None:
    """A column with the name of each patient."""
    content = library("D")
    obs = pd.DataFrame({"patient_name": "Anna Svensson"}, index=pd.Index(content.barcodes))
    write_h5ad(folder / "raw/D.h5ad", content, obs=obs)


def counts_in_layer(folder: Path) -> None:
    """Logged values in X, the counts in a layer."""
    content = library("D")
    write_h5ad(folder / "raw/D.h5ad", content, X=logged(content).counts, layers={"counts": content.counts})


TYPES = ["Gene Expression"] * (N_GENES - 20) + ["Antibody Capture"] * 20
CASES = [
    # --- no or half a file
    excludes("h5 cut", "A", truncates("raw/A.h5"), "raw/A.h5", "truncated", "copy it again"),
    excludes("h5 empty", "A", writes("raw/A.h5", ""), "raw/A.h5", "0 bytes"),
    excludes("h5 is a web page", "A", writes("raw/A.h5", HTML), "raw/A.h5", "web page", "download it again"),
    excludes("h5 is gzipped", "A", writes("raw/A.h5", gzip.compress(b"x")), "raw/A.h5", "gunzip"),
    excludes("h5 is text", "A", writes("raw/A.h5", "barcode,gene\n"), "raw/A.h5", "not an HDF5 file"),
    excludes("h5 with flipped bytes", "A", flips("raw/A.h5", seed=1, skip=2048), "raw/A.h5", "copy it again"),
    excludes("h5 with a flipped header", "A", flips("raw/A.h5", seed=2, n=40), "raw/A.h5"),
    excludes("h5 with damaged counts", "A", damaged_counts, "raw/A.h5", "damaged", "copy it again"),
    excludes("h5 with a hole", "A", hole, "raw/A.h5", "zero", "copy it again"),
    excludes("h5 with a wild index", "A", broken_pointers, "raw/A.h5", "index arrays", "copy it again"),
    excludes("h5 that declares more", "A", declares_more, "raw/A.h5", "more than the file stores"),
    excludes("mtx cut", "B", truncates("raw/B/matrix.mtx.gz"), "matrix.mtx.gz", "copy it again"),
    excludes("mtx with flipped bytes", "B", flips("raw/B/matrix.mtx.gz", seed=3, skip=30), "matrix.mtx.gz"),
    excludes("mtx with a hole", "B", part("matrix.mtx", unwritten_lines), "raw/B", "copy it again"),
    excludes("mtx is a web page", "B", writes("raw/B/matrix.mtx", HTML), "matrix.mtx", "web page"),
    excludes("barcodes of mtx empty", "B", writes("raw/B/barcodes.tsv", ""), "barcodes.tsv", "0 bytes"),
    excludes("features of mtx missing", "B", removes("raw/B/features.tsv.gz"), "features.tsv", "copy the whole folder"),
    excludes("h5ad cut", "D", truncates("raw/D.h5ad"), "raw/D.h5ad", "truncated"),
    excludes("h5ad without cell names", "D", without_index, "raw/D.h5ad", "obs/_index"),
    excludes("h5ad of an old anndata", "D", old_h5ad, "raw/D.h5ad", "anndata before 0.7"),
    excludes("positions cut", "C", truncates(POSITIONS), "tissue_positions.csv", "truncated"),
    excludes("positions are a web page", "C", writes(POSITIONS, HTML), "tissue_positions.csv", "web page"),
    excludes("raw droplets cut", "A", truncates("raw/A_raw.h5"), "raw_path", "raw/A_raw.h5", "truncated"),
    # --- another kind of file
    excludes("h5 in an archive", "A", moved("raw/A.h5", "raw/A.h5.gz", "A"), "raw/A.h5.gz", "unpack it"),
    excludes(
        "molecule_info",
        "A",
        both(lambda f: (f / "raw/L1.h5").touch(), molecule_info, lambda f: os.replace(f / "raw/L1.h5", f / "raw/A.h5")),
        "molecule_info",
        "filtered_feature_bc_matrix.h5",
    ),
    excludes("single probes", "A", probes, "raw/A.h5", "single probes", "filtered_feature_bc_matrix.h5"),
    excludes("h5ad as h5", "D", moved("raw/D.h5ad", "raw/D.h5", "D"), "raw/D.h5", "ending .h5ad"),
    excludes("h5 as h5ad", "A", moved("raw/A.h5", "raw/A.h5ad", "A"), "raw/A.h5ad", "ending .h5"),
    excludes(
        "raw by its name", "A", moved("raw/A.h5", "raw/raw_feature_bc_matrix.h5", "A"), "all droplets", "raw_path"
    ),
    excludes("raw by its droplets", "A", h5(all_droplets), "raw/A.h5", "all droplets", "raw_path"),
    excludes(
        "no gene expression",
        "A",
        h5(lambda c: c, types=["Antibody Capture"] * N_GENES),
        "Gene Expression",
        "600 Antibody Capture",
    ),
    handles("antibodies beside genes", "A", h5(lambda c: c, types=TYPES), "20 Antibody Capture", "580 Gene Expression"),
    excludes(
        "two genomes", "A", h5(lambda c: c, genomes=["GRCh38"] * 300 + ["mm10"] * 300), "several genomes (GRCh38, mm10)"
    ),
    excludes("two genomes of Cell Ranger 2", "A", two_genomes_of_old, "several genomes (GRCh38, mm10)"),
    excludes("two genomes by id", "B", mtx(two_species), "features.tsv.gz", "several genomes"),
    # --- values that are no counts
    excludes("normalised", "A", h5(scaled), "raw/A.h5", "no whole number", "raw integer counts"),
    excludes("logged", "D", h5ad(logged), "raw/D.h5ad", "no whole numbers in X", "layers['counts']"),
    handles("logged with counts in a layer", "D", counts_in_layer, "layers/counts", "X"),
    excludes("normalised and rounded", "A", h5(rounded), "raw/A.h5", "same total"),
    excludes("seen or not", "B", mtx(seen), "raw/B", "all", "are 1"),
    excludes("negative", "A", h5(value(-3)), "raw/A.h5", "-3", "is negative"),
    excludes("NaN", "D", h5ad(value(np.nan)), "raw/D.h5ad", "NaN"),
    excludes("infinite", "A", h5(value(np.inf)), "raw/A.h5", "infinite"),
    excludes("too large", "A", h5(value(3e9)), "raw/A.h5", "too large"),
    excludes(
        "pattern of entries",
        "B",
        part("matrix.mtx", lambda t: t.replace("integer", "pattern", 1)),
        "Matrix Market",
        "integer",
    ),
    # --- names
    handles("symbols twice", "A", h5(repeated_symbols), "A.h5", "2 gene symbols occur more than once"),
    excludes("barcode twice", "A", h5(repeated_barcode), "raw/A.h5", "occurs more than once"),
    excludes(
        "Ensembl ids for symbols",
        "B",
        mtx(lambda c: replace(c, symbols=c.ids)),
        "Ensembl ids",
        "symbols",
        "second column",
    ),
    excludes("another species", "D", h5ad(named(str.title)), "0 of the 600 genes", "one species", "min_genes_shared"),
    handles("no mitochondrial genes", "A", h5(nuclear), "begins with MT-", "unknown"),
    handles(
        "symbols mangled by R",
        "D",
        h5ad(named(lambda s: s.replace("-", "."))),
        "D.h5ad",
        "gene symbols as R mangles them were restored",
        "HLA-",
    ),
    # --- parts that don't belong together
    excludes("mtx of another run", "B", part("barcodes.tsv", lambda t: t + "TTTT-1\n"), "not of one run"),
    excludes(
        "mtx transposed",
        "B",
        part("matrix.mtx", lambda t: t.replace(f"{N_GENES} {N_CELLS} ", f"{N_CELLS} {N_GENES} ", 1)),
        "transpose",
    ),
    excludes(
        "mtx with an entry twice", "B", part("matrix.mtx", lambda t: _with_entry_twice(t)), "have the place of another"
    ),
    excludes("h5ad transposed", "D", transposed, "raw/D.h5ad", "transpose"),
    excludes(
        "raw droplets of another run",
        "A",
        h5(lambda c: replace(c, barcodes=[f"G{b}" for b in c.barcodes]), name="A_raw"),
        "A_raw.h5",
        "another run",
    ),
    handles("raw droplets without an empty one", "A", h5(first_cells(N_CELLS), name="A_raw"), "no empty droplet"),
    excludes(
        "positions of another section",
        "C",
        spots(lambda t: t.assign(barcode="G" + t["barcode"])),
        "no position",
        "not of one section",
    ),
    excludes("spot off the grid", "C", spots(off_grid), "tissue_positions.csv", "copy the file again"),
    excludes("no spot in the tissue", "C", spots(lambda t: t.assign(in_tissue=0)), "none of 64 spots"),
    excludes(
        "scale of another section", "C", scale(spot_diameter_fullres=60), "scalefactors_json.json", "not of one section"
    ),
    excludes("scale below zero", "C", scale(spot_diameter_fullres=-130), "scalefactors_json.json", "positive numbers"),
    excludes("scale is text", "C", scale(tissue_lowres_scalef="0.05"), "tissue_lowres_scalef is no number"),
    excludes(
        "pixel size of another image", "C", edits("libraries", "\t0.5", "\t0.25"), "pixel_um is 0.25", "leave it empty"
    ),
    handles("image of another scale", "C", scale(tissue_lowres_scalef=0.5), "tissue_lowres_image.png", "left out"),
    handles(
        "image cut", "C", truncates("raw/C/spatial/tissue_lowres_image.png"), "tissue_lowres_image.png", "left out"
    ),
    # --- too little
    excludes("no barcode", "A", h5(first_cells(0)), "raw/A.h5", "0 barcodes"),
    excludes("one cell", "A", h5(first_cells(1)), "1 of 1 cells", "at least 50"),
    excludes("nothing after QC", "B", mtx(thinned), "0 of 80 cells", "at least 50"),
    excludes("few spots", "C", section(first_cells(5)), "5 of 5 spots", "at least 20"),
    # --- persons
    excludes("names of persons", "D", personal, "path", "raw/D.h5ad", "patient_name", "remove"),
]


def _with_entry_twice(text: str) -> str:
    lines = text.splitlines(keepends=True)
    lines[-1] = lines[-2]
    return "".join(lines)
