"""Sections as SpatialData: written, opened again by spatialdata itself, and each part where it should lie."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import shapely
import spatialdata
from spatialdata.transformations import get_transformation

from livermet import keys
from livermet.cell_polygons import OFFSETS, VERTICES
from livermet.export import to_spatialdata, write_zarr
from platform_files import squares


def make_section(resolution, *, n=30, image=False, polygons=False, seed=0):
    """A section as label_section leaves it."""
    rng = np.random.default_rng(seed)
    section = ad.AnnData(
        sp.csr_matrix(rng.poisson(1, size=(n, 12)).astype(np.int32)),
        obs=pd.DataFrame(
            {"zone": pd.Categorical(["margin"] * n), "niche": pd.Categorical(["1"] * n), "tumour": True},
            index=[f"L1:c{i}" for i in range(n)],
        ),
        var=pd.DataFrame({"symbol": [f"G{i}" for i in range(12)]}, index=[f"G{i}" for i in range(12)]),
    )
    section.obsm[keys.SPATIAL] = rng.uniform(0, 400, size=(n, 2))
    section.obsm[keys.ABUNDANCE] = rng.dirichlet(np.ones(3), size=n).astype(np.float32)
    section.obsp[keys.SPATIAL_GRAPH] = sp.identity(n, format="csr")
    section.uns[keys.ABUNDANCE_TYPES] = np.array(["a", "b", "c"], dtype=object)
    section.uns[keys.META] = {"library_id": "L1", "reason": "", "pitch_um": 100.0, keys.RESOLUTION: resolution}
    if resolution == "bin":
        section.uns[keys.META]["bin_um"] = 8.0
    if image:
        scales = {"tissue_lowres_scalef": 0.1, "spot_diameter_fullres": 55.0}
        pixels = rng.integers(0, 255, size=(50, 60, 3), dtype=np.uint8)
        section.uns["spatial"] = {"L1": {"images": {"lowres": pixels}, "scalefactors": scales}}
    if polygons:
        section.uns[keys.POLYGONS] = {
            VERTICES: squares(section.obsm[keys.SPATIAL]).astype(np.float32),
            OFFSETS: 5 * np.arange(n + 1, dtype=np.int64),
        }
    return section


def exported(section, folder):
    write_zarr(to_spatialdata(section, library="L1"), folder / "L1.zarr")
    assert [path.name for path in folder.iterdir()] == ["L1.zarr"]
    return spatialdata.read_zarr(folder / "L1.zarr")


@pytest.mark.parametrize(("resolution", "name"), [("spot", "spots"), ("bin", "bins"), ("cell", "cells")])
@pytest.mark.parametrize("image", [True, False])
def test_a_section_opens_with_its_table_on_its_shapes(tmp_path, resolution, name, image):
    section = make_section(resolution, image=image)
    before = section.copy()
    data = exported(section, tmp_path)
    table, shapes = data.tables["table"], data.shapes[name]
    assert (table.X != section.X).nnz == 0 and table.obs_names.tolist() == section.obs_names.tolist()
    assert np.allclose(table.obsm[keys.ABUNDANCE], section.obsm[keys.ABUNDANCE])
    assert table.obs["zone"].tolist() == section.obs["zone"].tolist() and keys.SPATIAL_GRAPH in table.obsp
    assert table.uns[keys.META]["pitch_um"] == 100
    matched = spatialdata.match_table_to_element(data, element_name=name)
    centres = shapely.centroid(shapes.geometry.to_numpy())[matched.obs["instance_id"].to_numpy()]
    assert np.allclose(shapely.get_coordinates(centres), section.obsm[keys.SPATIAL])
    assert list(data.images) == (["tissue"] if image else []) and data.coordinate_systems == ["global"]
    assert data.attrs == {"library_id": "L1", "unit": "micrometer"}
    assert keys.META in section.uns and list(section.uns) == list(before.uns) and list(section.obs) == list(before.obs)


def test_shapes_have_the_size_of_what_they_stand_for(tmp_path):
    assert exported(make_section("spot"), tmp_path / "a").shapes["spots"]["radius"].unique() == [27.5]
    bins = exported(make_section("bin"), tmp_path / "b").shapes["bins"]
    assert np.allclose(bins.area, 64)
    assert exported(make_section("cell"), tmp_path / "c").shapes["cells"]["radius"].unique() == [5]


def test_an_image_lies_in_micrometres(tmp_path):
    section = make_section("spot", image=True)
    image = exported(section, tmp_path).images["tissue"]
    assert np.array_equal(image.transpose("y", "x", "c").to_numpy(), section.uns["spatial"]["L1"]["images"]["lowres"])
    scale = get_transformation(image, "global").to_affine_matrix(("x", "y"), ("x", "y"))
    assert np.allclose(scale, np.diag([10, 10, 1]))


def test_outlines_are_kept_and_cells_without_one_get_circles_of_the_median_area(tmp_path):
    section = make_section("cell", polygons=True)
    assert np.allclose(exported(section, tmp_path / "all").shapes["cells"].area, 64, rtol=1e-4)
    sizes = np.full(30, 5)
    sizes[[0, 29]] = 0, 2  # none, and too few corners for an area
    kept = np.repeat(np.arange(30), 5), np.tile(np.arange(5), 30)
    section.uns[keys.POLYGONS] = {
        VERTICES: section.uns[keys.POLYGONS][VERTICES][kept[1] < sizes[kept[0]]],
        OFFSETS: np.concatenate([[0], np.cumsum(sizes)]),
    }
    data = exported(section, tmp_path / "some")
    cells, outline = data.shapes["cells"], data.tables["table"].obs["outline"].tolist()
    assert np.allclose(cells.area, 64, rtol=0.02)
    assert outline == ["circle", *["segmented"] * 28, "circle"]
    assert np.allclose(shapely.get_coordinates(cells.centroid), section.obsm[keys.SPATIAL], atol=1e-3)


def test_outlines_of_other_cells_are_refused():
    section = make_section("cell", polygons=True)
    with pytest.raises(ValueError, match=r"outlines of 30 cells, but there are 20; keep cells with"):
        to_spatialdata(section[:20].copy(), library="L1")


@pytest.mark.parametrize("resolution", ["spot", "cell"])
def test_a_section_without_cells_is_a_table_alone_and_a_second_export_replaces_the_first(tmp_path, resolution):
    exported(make_section(resolution), tmp_path)
    data = exported(make_section(resolution, polygons=resolution == "cell")[:0].copy(), tmp_path)
    assert data.tables["table"].shape == (0, 12) and not data.shapes
