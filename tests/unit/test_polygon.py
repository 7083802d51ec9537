"""The pathologist's outline: GeoJSON in its variants, units, refusals, and the border it gives."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from shapely.geometry import Polygon, box, mapping

import spatial_generator as generator
from livermet import keys, zones
from livermet.filecheck import check_files
from livermet.polygon import class_kind, place_outline, read_outline, section_outline
from livermet.study import read_study
from study_files import write_study

OPTIONS = {
    **{"abundance_reason": "", "neighbours": 6, "neighbour_um": 50, "tile_um": 50, "min_component": 10},
    **{"margin_um": 250, "core_um": 500, "distant_um": 1000},
}
SQUARE = box(0, 0, 100, 50)


def feature(shape, name=None, **properties):
    if name is not None:
        properties["classification"] = {"name": name, "color": [200, 0, 0]}
    return {"type": "Feature", "geometry": mapping(shape), "properties": properties}


def geojson(path, *features, **members):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features), **members}))
    return path


def test_classes_decide_what_is_tumour_and_what_is_liver(tmp_path):
    outline = read_outline(
        geojson(
            tmp_path / "a.geojson",
            feature(SQUARE, "Invasive TUMOUR"),
            feature(box(200, 0, 300, 50), "tumor 2"),
            feature(box(0, 100, 300, 200), "Liver"),
            feature(box(0, 0, 900, 900), "Stroma"),
            feature(box(400, 0, 500, 50), "Peritumoral liver"),
            feature(box(0, 0, 900, 900)),
        )
    )
    assert outline.tumour.area == pytest.approx(2 * 5000)
    assert outline.liver.area == pytest.approx(300 * 100 + 5000)
    assert outline.unit == "" and outline.notes == ()
    assert outline.classes == (
        "a.geojson: classes taken as tumour: Invasive TUMOUR (1), tumor 2 (1); taken as liver: Liver (1), Peritumoral "
        "liver (1); ignored: Stroma (1), without class (1)"
    )


KINDS = {
    "tumour": [
        *("Tumor", "tumour core", "Metastasis", "invasive tumor", "Tumor nest", "TUMOUR", "tumor_2", "TumorCells"),
        *("Primary tumour", "Liver metastasis", "liver_met", "Metastases", "intratumoral stroma", "Tumour in liver"),
    ],
    "liver": [
        *("Liver", "Peritumoral liver", "Tumor-adjacent liver", "Liver near tumour", "Liver (no tumor)", "liver_2"),
        *("Liver, adjacent to tumour", "tumor-free liver", "NormalLiver", "Adjacent liver"),
    ],
    "": [
        *("Peri-tumoral", "peri tumoral stroma", "Peri_tumor", "PeriTumor", "peritumour", "No tumor", "no_tumor"),
        *("Normal (adjacent to tumor)", "Outside tumor", "extratumoral", "Extra-tumoral", "Not a tumour"),
        *("non-tumor", "Non tumour", "nontumoral", "Tumor adjacent", "around the tumour", "Near tumor", "Stroma", ""),
        *("Non-liver", "Not liver", "outside the liver", "Tumor near liver", "Outside metastasis", "Delivery"),
    ],
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in KINDS.items() for name in names])
def test_the_words_of_a_class_say_whether_it_is_tumour(kind, name):
    assert class_kind(name) == kind


def test_a_file_of_what_lies_around_the_tumour_has_no_tumour(tmp_path):
    path = geojson(tmp_path / "a.geojson", feature(SQUARE, "Peri-tumoral"), feature(SQUARE, "Tumor-adjacent liver"))
    with pytest.raises(ValueError, match=r"no tumour polygon \(classes of its 2 features: Peri-tumoral, Tumor-adj"):
        read_outline(path)


def test_names_of_persons_in_classes_are_not_shown(tmp_path):
    path = geojson(tmp_path / "a.geojson", feature(SQUARE, "Tumor"), feature(SQUARE, "drawn 1950-02-14"))
    told = read_outline(path).classes
    assert "taken as tumour: Tumor (1)" in told and "1950" not in told


def test_without_classes_all_is_tumour(tmp_path):
    multi = SQUARE.union(box(200, 0, 300, 50))
    outline = read_outline(geojson(tmp_path / "a.geojson", feature(multi), feature(box(400, 0, 410, 10))))
    assert outline.tumour.area == pytest.approx(10_100) and outline.liver is None
    (tmp_path / "list.json").write_text(json.dumps([feature(SQUARE, "Tumor")]))  # older versions of QuPath
    assert read_outline(tmp_path / "list.json").tumour.equals(SQUARE)
    assert outline.classes == "a.geojson: no feature has a class: 2 taken as tumour"


def test_a_polygon_that_crosses_itself_is_repaired_and_noted(tmp_path):
    bow = Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    outline = read_outline(geojson(tmp_path / "a.geojson", feature(bow, "Tumor")))
    assert outline.tumour.is_valid and outline.tumour.area == pytest.approx(50)
    assert "feature 1 (Tumor) was not valid (self-intersection)" in outline.notes[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no valid JSON"),
        ("3", "no GeoJSON"),
        ('{"features": [{"geometry": {"type": "Polygon", "coordinates": []}}]}', "no coordinates"),
        ('{"features": [1e999]}', "1e999 is no finite number"),
        ("{}", "FeatureCollection"),
        ('{"features": []}', "no tumour polygon"),
        (json.dumps({"features": [feature(SQUARE, "Liver")]}), "classes of its 1 features: Liver"),
        (json.dumps({"features": [{"geometry": {"type": "Point", "coordinates": [1, 2]}}]}), "no tumour polygon"),
        ('{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}}]}', "feature 1: coord"),
        ('{"features": [{"geometry": {"type": "Polygon", "coordinates": [["a"]]}}]}', "feature 1: coordinates"),
        ('{"features": [{"geometry": {"type": "Polygon"}}]}', "feature 1: coordinates"),
        (
            '{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [NaN, 1], [1, 1], [0, 0]]]}}]}',
            "NaN is no finite number",
        ),
        (json.dumps({"features": [feature(Polygon([(0, 0), (1, 1), (2, 2), (0, 0)]))]}), "encloses no area"),
        (json.dumps({"unit": "mm", "features": [feature(SQUARE)]}), "unit 'mm'; expected um"),
        (json.dumps({"features": [feature(SQUARE, unit="um"), feature(SQUARE, unit="px")]}), "in one unit"),
    ],
)
def test_files_that_are_no_outline_are_named_with_what_is_expected(tmp_path, text, words):
    path = tmp_path / "a.geojson"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"a\.geojson") as error:
        read_outline(path)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("modality", "unit", "scale"),
    [("visium", None, 0.5), ("visium_hd", None, 0.5), ("xenium", None, 1), ("visium", "um", 1), ("cosmx", "px", 0.5)],
)
def test_pixels_on_slides_micrometres_on_imaging_platforms_unless_the_file_says(tmp_path, modality, unit, scale):
    members = {} if unit is None else {"unit": unit}
    outline = read_outline(geojson(tmp_path / "a.geojson", feature(SQUARE), **members))
    options = {"modality": modality, "name": "a.geojson"}
    placed = place_outline(outline, np.array([[1.0, 1.0], [60.0, 20.0]]), um_per_pixel=0.5, **options)
    np.testing.assert_allclose(placed.tumour.bounds, scale * np.array(SQUARE.bounds))
    if scale != 1:
        with pytest.raises(ValueError, match="pixel_um"):
            place_outline(outline, np.zeros((1, 2)), um_per_pixel=None, **options)


def test_an_outline_beside_the_section_names_both_ranges(tmp_path):
    path = geojson(tmp_path / "a.geojson", feature(box(9000, 9000, 9500, 9700)))
    adata = ad.AnnData(np.zeros((2, 1)), obsm={"spatial": np.array([[0.0, 10.0], [400.0, 300.0]])})
    adata.uns["livermet"] = {"um_per_pixel": 0.5}
    row = {"library_id": "L7", "modality": "visium", "pixel_um": None, "boundary_path": str(path)}
    words = r"library L7.*polygon x 4500 to 4750, y 4500 to 4850 um; section x 0 to 400, y 10 to 300 um"
    with pytest.raises(ValueError, match=words):
        section_outline(adata, row)
    assert section_outline(adata, row | {"boundary_path": ""}) is None


def test_the_check_of_a_study_finds_outlines_that_cannot_be_read(tmp_path):
    study = write_study(tmp_path / "study")
    libraries = pd.read_csv(study / "libraries.tsv", sep="\t", dtype=str, keep_default_na=False)
    libraries["boundary_path"] = np.where(libraries["library_id"] == "L3", "tumour.geojson", "")
    libraries.to_csv(study / "libraries.tsv", sep="\t", index=False)
    geojson(study / "tumour.geojson", feature(SQUARE, "Liver"))
    found = [f for f in check_files(read_study(study, trial={}, labels={})) if f.column == "boundary_path"]
    assert [f.severity for f in found] == ["error"] and found[0].value == "tumour.geojson"
    assert found[0].message.startswith("tumour.geojson: no tumour polygon") and "leave boundary_path" in found[0].remedy
    geojson(study / "tumour.geojson", feature(SQUARE, "Tumor"))
    data = read_study(study, trial={}, labels={})
    assert not [f for f in check_files(data) if f.column == "boundary_path"]


# ------------------------------------------------------------------------------------------------------ on a section


def half_plane(*, liver_from=1450.0, liver_to=1e9):
    """A tumour to the left of x = 1450 um, liver to its right."""
    xy = generator.hexagonal(30, 30)
    x = xy[:, 0]
    fractions = pd.DataFrame({"malignant_ductal": 0.7 * (x < 1450), "hepatocyte": 0.7 * (x >= liver_from)})
    fractions.loc[x > liver_to, "hepatocyte"] = 0.0
    fractions["caf_pan"] = 1 - fractions.sum(axis=1)
    return xy, fractions


def mapped(xy, fractions, outline):
    n = len(xy)
    obs = pd.DataFrame(index=[f"b{i}" for i in range(n)])
    adata = ad.AnnData(sp.csr_matrix((n, 1)), obs=obs, obsm={"spatial": xy}, uns={"livermet": {"library_id": "S"}})
    return zones.map_section(adata, fractions.to_numpy(), tuple(fractions.columns), outline=outline, **OPTIONS)


def drawn(tmp_path, xy, *features, unit="um"):
    outline = read_outline(geojson(tmp_path / "a.geojson", *features, unit=unit))
    return place_outline(outline, xy, modality="visium", um_per_pixel=None, name="a.geojson")


def test_the_outline_is_the_border_only_where_liver_lies_beyond_it(tmp_path):
    xy, fractions = half_plane()
    # Its other three sides run along the edge of the tissue, or outside of it.
    outline = drawn(tmp_path, xy, feature(box(-500, -500, 1550, 5000), "Tumor"))
    result = mapped(xy, fractions, outline)
    meta = result.uns["livermet"]
    distance = result.obs[keys.SIGNED_DISTANCE].to_numpy()
    assert meta["border_source"] == "polygon"
    (note,) = json.loads(meta["polygon_notes"])
    assert note == "a.geojson: classes taken as tumour: Tumor (1); taken as liver: none; ignored: none"
    np.testing.assert_allclose(distance, xy[:, 0] - 1550, atol=3)
    assert meta["interface_mm"] == pytest.approx(2.6, abs=0.2)
    found = json.loads(meta["border_agreement"])
    assert found["median_um"] == pytest.approx(125, abs=15) and found["same_side"] == pytest.approx(29 / 30, abs=0.005)
    assert zones.border_summary(result)["band_um"] == found["median_um"]
    plain = mapped(xy, fractions, None)
    assert plain.uns["livermet"]["border_source"] == "expression"
    assert plain.uns["livermet"]["border_agreement"] == "{}"


def test_a_drawn_liver_counts_and_a_rim_of_stroma_lies_between(tmp_path):
    xy, fractions = half_plane(liver_from=1750)
    tumour = feature(box(-500, -500, 1400, 5000), "Tumor")
    below = drawn(tmp_path, xy, tumour, feature(box(1700, 1300, 5000, 5000), "Liver"))
    whole = mapped(xy, fractions, drawn(tmp_path, xy, tumour))
    half = mapped(xy, fractions, below)
    assert whole.uns["livermet"]["interface_mm"] == pytest.approx(2.6, abs=0.2)
    assert 1.2 < half.uns["livermet"]["interface_mm"] < 2.0  # half, and as far as a rim of stroma may bridge
    assert half.uns["livermet"]["n_liver"] < whole.uns["livermet"]["n_liver"]


def test_outlines_without_tumour_or_liver_in_them_give_no_border(tmp_path):
    xy, fractions = half_plane()
    cases = {
        "no tumour tissue by": (fractions, box(0, 0, 150, 150)),
        "no liver tissue by": (fractions.assign(hepatocyte=0.0), box(-500, -500, 1400, 5000)),
    }
    for words, (table, shape) in cases.items():
        result = mapped(xy, table, drawn(tmp_path, xy, feature(shape)))
        meta = result.uns["livermet"]
        assert words in meta["border_reason"] and meta["border_source"] == "" and meta["interface_mm"] == 0
        assert (result.obs[keys.ZONE] == "none").all()


def test_an_outline_serves_where_there_are_no_abundances(tmp_path):
    xy, fractions = half_plane()
    outline = drawn(tmp_path, xy, feature(box(-500, -500, 1400, 5000), "Tumor"))
    result = mapped(xy, fractions * np.nan, outline)
    assert result.uns["livermet"]["border_reason"] == ""
    np.testing.assert_allclose(result.obs[keys.SIGNED_DISTANCE].to_numpy(), xy[:, 0] - 1400, atol=3)


def test_cells_are_in_or_out_of_the_outline_each_by_itself(tmp_path):
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 1500, (9000, 2))
    fractions = pd.DataFrame({"malignant_ductal": 1.0 * (xy[:, 0] < 730), "hepatocyte": 1.0 * (xy[:, 0] >= 730)})
    outline = drawn(tmp_path, xy, feature(box(-50, -50, 712, 2000), "Tumor"))
    adata = ad.AnnData(sp.csr_matrix((9000, 1)), obsm={"spatial": xy}, uns={"livermet": {"resolution": "cell"}})
    result = zones.map_section(adata, fractions.to_numpy(), tuple(fractions.columns), outline=outline, **OPTIONS)
    np.testing.assert_allclose(result.obs[keys.SIGNED_DISTANCE].to_numpy(), xy[:, 0] - 712, atol=35)
    np.testing.assert_array_equal(result.obs[keys.TUMOUR].to_numpy(), xy[:, 0] < 712)
