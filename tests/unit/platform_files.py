"""Seeded folders as the instruments leave them, of a few cells, with the truth beside them."""

from __future__ import annotations

import gzip
import json

import h5py
import numpy as np
import pandas as pd
from PIL import Image
from scipy import sparse

from livermet.symbols import marker_genes

GENES = sorted(gene for gene in marker_genes() if not gene.startswith("MT-"))[:40]


def counts_of(n_cells, *, seed, genes=GENES, mean=1.0):
    """Counts of cells (CSR)."""
    return sparse.csr_matrix(np.random.default_rng(seed).poisson(mean, size=(n_cells, len(genes))).astype(np.int32))


def write_matrix(path, counts, barcodes, symbols, types, *, number=np.int64):
    """A 10x h5 file; ``number`` is the type of indices and shape."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, dtype="S")
        group["data"] = counts.data
        group["indices"], group["indptr"] = counts.indices.astype(number), counts.indptr.astype(number)
        group["shape"] = np.array(counts.shape[::-1], dtype=number)
        ids = [f"ENSG{i:011d}" for i in range(len(symbols))]
        values = {"id": ids, "name": symbols, "feature_type": types, "genome": ["GRCh38"] * len(symbols)}
        for name, column in values.items():
            group[f"features/{name}"] = np.array(column, dtype="S")
    return path


def write_frame(frame, path):
    """A table as csv, gzipped csv or Parquet, by the ending."""
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        text = frame.to_csv(index=False)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def squares(xy, *, half=4.0):
    """Corners of a square around each point, closed, as (cells * 5) x 2."""
    corner = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) * half
    return (xy[:, None] + corner).reshape(-1, 2)


def write_xenium(folder, *, n=60, seed=0, ending="parquet", boundaries=True, number=np.int64, mean=1.0):
    """A Xenium folder with two control probes; positions and outlines lie in another order than the counts."""
    rng = np.random.default_rng(seed)
    symbols = [*GENES, "NegControlProbe_00001", "BLANK_0001"]
    counts = counts_of(n, seed=seed, genes=symbols, mean=mean)
    cells = [f"aaaa{i:04d}-1" for i in range(n)]
    types = ["Gene Expression"] * len(GENES) + ["Negative Control Probe", "Gene Expression"]
    write_matrix(folder / "cell_feature_matrix.h5", counts, cells, symbols, types, number=number)
    (folder / "experiment.xenium").write_text(json.dumps({"pixel_size": 0.2125}))
    xy = rng.uniform(0, 500, size=(n, 2))
    table = pd.DataFrame({"cell_id": cells, "x_centroid": xy[:, 0], "y_centroid": xy[:, 1], "cell_area": 60.0})
    write_frame(table.sample(frac=1, random_state=seed), folder / f"cells.{ending}")
    if boundaries:
        corners = squares(xy)
        outline = pd.DataFrame({"cell_id": np.repeat(cells, 5), "vertex_x": corners[:, 0], "vertex_y": corners[:, 1]})
        order = np.concatenate([np.arange(5) + 5 * i for i in rng.permutation(n)])
        write_frame(outline.iloc[order], folder / f"cell_boundaries.{ending}")
    return counts[:, : len(GENES)], xy


def write_cosmx(folder, *, n=60, seed=0, pixel_um=0.12028, tells="area", ending="csv", polygons=True):
    """A CosMx folder of two fields, with background rows (cell_ID 0); the pixel size is in areas, fields, or nowhere."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    symbols = [*GENES, "NegPrb1", "SystemControl7"]
    counts = counts_of(n, seed=seed, genes=symbols)
    fov, cell = np.repeat([1, 2], [n // 2, n - n // 2]), np.r_[np.arange(n // 2), np.arange(n - n // 2)] + 1
    wide = pd.DataFrame(counts.toarray(), columns=symbols)
    wide.insert(0, "fov", fov)
    wide.insert(1, "cell_ID", cell)
    background = wide.iloc[:2].assign(cell_ID=0, fov=[1, 2])
    write_frame(pd.concat([background, wide]), folder / f"S1_exprMat_file.{ending}")
    xy = rng.uniform(0, 500, size=(n, 2))
    pixels = xy / pixel_um
    meta = pd.DataFrame({"fov": fov, "cell_ID": cell, "Area": rng.uniform(2000, 9000, n)})
    meta["CenterX_global_px"], meta["CenterY_global_px"] = pixels.T
    if tells == "area":
        meta["Area.um2"] = meta["Area"] * pixel_um**2
    write_frame(meta.sample(frac=1, random_state=seed), folder / f"S1_metadata_file.{ending}")
    if tells == "fields":
        fields = pd.DataFrame({"FOV": [1, 2], "x_global_px": [0.0, 4256.0], "y_global_px": [0.0, 0.0]})
        fields["x_global_mm"], fields["y_global_mm"] = fields["x_global_px"] * pixel_um / 1000, 0.0
        write_frame(fields, folder / f"S1_fov_positions_file.{ending}")
    if polygons:
        corners = squares(xy) / pixel_um
        outline = pd.DataFrame({"fov": np.repeat(fov, 5), "cellID": np.repeat(cell, 5)})
        outline["x_global_px"], outline["y_global_px"] = corners.T
        write_frame(outline, folder / f"S1-polygons.{ending}")
    return counts[:, : len(GENES)], xy, [f"{f}_{c}" for f, c in zip(fov, cell, strict=True)]


def write_merscope(folder, *, n=60, seed=0, boundaries=True):
    """A MERSCOPE folder with blanks; ids of 19 digits, positions in another order; outlines in three planes."""
    import shapely

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    symbols = [*GENES, "Blank-1", "Blank-2"]
    counts = counts_of(n, seed=seed, genes=symbols)
    cells = 1110883500001100011 + np.arange(n)
    wide = pd.DataFrame(counts.toarray(), columns=symbols)
    wide.insert(0, "cell", cells)
    write_frame(wide, folder / "cell_by_gene.csv")
    xy = rng.uniform(0, 500, size=(n, 2))
    meta = pd.DataFrame({"EntityID": cells, "fov": 0, "center_x": xy[:, 0], "center_y": xy[:, 1]})
    write_frame(meta.sample(frac=1, random_state=seed), folder / "cell_metadata.csv")
    if boundaries:
        frames = []
        for z, half in ((0, 2.0), (1, 4.0), (2, 3.0)):
            shapes = shapely.multipolygons([[shapely.box(*(point - half), *(point + half))] for point in xy])
            frames.append(pd.DataFrame({"EntityID": cells, "ZIndex": z, "Geometry": shapely.to_wkb(shapes)}))
        pd.concat(frames).sample(frac=1, random_state=seed).to_parquet(folder / "cell_boundaries.parquet", index=False)
    return counts[:, : len(GENES)], xy, [str(cell) for cell in cells]


def write_visium_hd(folder, *, bin_um=16, side=12, seed=0, pixel_um=0.25, factors=None, mean=1.0):
    """Bins of one size of a Visium HD run; the last row of bins lies outside the tissue."""
    n = side * side
    counts = counts_of(n, seed=seed, mean=mean)
    row, col = np.divmod(np.arange(n), side)
    barcodes = [f"s_{bin_um:03d}um_{r:05d}_{c:05d}-1" for r, c in zip(row, col, strict=True)]
    home = folder / "binned_outputs" / f"square_{bin_um:03d}um"
    write_matrix(home / "filtered_feature_bc_matrix.h5", counts, barcodes, GENES, ["Gene Expression"] * len(GENES))
    table = pd.DataFrame({"barcode": barcodes, "in_tissue": (row < side - 1).astype(int)})
    table["array_row"], table["array_col"] = row, col
    table["pxl_row_in_fullres"] = 100 + row * bin_um / pixel_um
    table["pxl_col_in_fullres"] = 200 + col * bin_um / pixel_um
    (home / "spatial").mkdir()
    table.sample(frac=1, random_state=seed).to_parquet(home / "spatial" / "tissue_positions.parquet", index=False)
    said = {
        "spot_diameter_fullres": bin_um / pixel_um,
        "bin_size_um": float(bin_um),
        "microns_per_pixel": pixel_um,
        "tissue_lowres_scalef": 0.1,
        "tissue_hires_scalef": 0.5,
        **(factors or {}),
    }
    said = {name: value for name, value in said.items() if value is not None}
    (home / "spatial" / "scalefactors_json.json").write_text(json.dumps(said))
    Image.new("RGB", (120, 110), (200, 100, 150)).save(home / "spatial" / "tissue_lowres_image.png")
    return home, counts, table
