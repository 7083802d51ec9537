"""Zones: graph, tumour mask, signed distance against the planted border, refusals."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import spatial_generator as generator
from livermet import keys, zones

LIMITS = {"margin_um": 250, "core_um": 500, "distant_um": 1000}
OPTIONS = {"abundance_reason": "", "neighbours": 6, "min_component": 10} | LIMITS


def section(tissue, library="S1"):
    n = len(tissue.xy)
    obs = pd.DataFrame({"library_id": library, "patient_id": "P"}, index=[f"{library}:b{i}" for i in range(n)])
    return ad.AnnData(sp.csr_matrix((n, 2), dtype=np.int32), obs=obs, obsm={"spatial": tissue.xy})


def mapped(tissue, fractions=None, **options):
    fractions = tissue.fractions if fractions is None else fractions
    return zones.map_section(section(tissue), fractions.to_numpy(), tuple(fractions.columns), **OPTIONS | options)


def test_hexagonal_graph_joins_touching_spots_only():
    xy = generator.hexagonal(8, 9)
    graph = zones.spatial_graph(xy, neighbours=6)
    distance = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
    expected = (distance > 0) & (distance < 110)
    np.testing.assert_array_equal(graph.connectivities.toarray() > 0, expected)
    assert graph.kind == "hexagonal" and graph.pitch_um == pytest.approx(100)


def test_square_and_irregular_arrays():
    row, col = np.divmod(np.arange(60), 10)
    square = zones.spatial_graph(np.column_stack([col, row]) * 200.0, neighbours=6)
    assert square.kind == "square" and square.connectivities.sum(axis=1).max() == 4
    loose = zones.spatial_graph(np.random.default_rng(0).uniform(0, 1000, (80, 2)), neighbours=5)
    assert loose.kind == "irregular" and loose.connectivities.sum(axis=1).min() >= 5
    assert (loose.connectivities != loose.connectivities.T).nnz == 0


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_graph_of_hardly_any_spots(n):
    assert zones.spatial_graph(generator.hexagonal(1, 3)[:n], neighbours=6).connectivities.shape == (n, n)


def test_distance_and_zones_follow_the_planted_border():
    errors, agreement = [], []
    for seed in range(5):
        tissue = generator.tissue(seed=seed)
        result = mapped(tissue)
        errors.append(np.median(np.abs(result.obs[keys.SIGNED_DISTANCE] - tissue.distance)))
        agreement.append((result.obs[keys.TUMOUR].to_numpy() == (tissue.distance < 0)).mean())
        assert ((result.obs[keys.SIGNED_DISTANCE] < 0).to_numpy() <= result.obs[keys.TUMOUR].to_numpy()).all()
    assert np.median(errors) < 50
    assert min(agreement) > 0.95


def test_border_does_not_move_with_rotation_or_scale_of_abundances():
    tissue = generator.tissue(seed=1)
    plain = mapped(tissue).obs[keys.SIGNED_DISTANCE].to_numpy()
    order = np.random.default_rng(0).permutation(len(tissue.xy))
    moved = generator.Tissue(
        xy=(tissue.xy[order][:, ::-1] + 5000.0),
        distance=tissue.distance[order],
        fractions=tissue.fractions.iloc[order].reset_index(drop=True),
    )
    np.testing.assert_allclose(mapped(moved).obs[keys.SIGNED_DISTANCE].to_numpy(), plain[order], atol=1e-6)
    diluted = tissue.fractions.copy()
    diluted["malignant_ductal"] *= 0.5  # a tumour with much more stroma
    stroma = mapped(tissue, diluted).obs[keys.SIGNED_DISTANCE].to_numpy()
    assert np.median(np.abs(stroma - plain)) < 20


def test_specks_and_holes_are_absorbed():
    tissue = generator.tissue(seed=0)
    fractions = tissue.fractions.copy()
    deep = np.flatnonzero(tissue.distance < -300)[:1]
    far = np.flatnonzero(tissue.distance > 400)[:1]
    for spot, name in ((deep, "hepatocyte"), (far, "malignant_ductal")):
        near = np.hypot(*(tissue.xy - tissue.xy[spot]).T) < 110
        fractions.loc[near] = 0.0
        fractions.loc[near, name] = 1.0
    tumour = mapped(tissue, fractions).obs[keys.TUMOUR].to_numpy()
    assert tumour[deep].all() and not tumour[far].any()


@pytest.mark.parametrize(("missing", "words"), [("hepatocyte", "no liver"), ("malignant_ductal", "no tumour")])
def test_without_tumour_or_liver_there_is_no_border(missing, words):
    tissue = generator.tissue(seed=0)
    cases = {
        words: tissue.fractions.assign(**{missing: 0.02}),
        f"no profile of {missing}": tissue.fractions.drop(columns=missing),
    }
    for reason, fractions in cases.items():
        result = mapped(tissue, fractions)
        assert result.obs[keys.SIGNED_DISTANCE].isna().all()
        assert (result.obs[keys.ZONE] == "none").all()
        assert reason in result.uns["livermet"]["border_reason"]


def test_tumour_and_liver_that_do_not_touch_have_no_border():
    xy = generator.hexagonal(12, 24)
    left, right = xy[:, 0] < 900, xy[:, 0] > 1500
    fractions = pd.DataFrame({"malignant_ductal": 1.0 * left, "hepatocyte": 1.0 * right, "caf_pan": 1.0})
    fractions = fractions.div(fractions.sum(axis=1), axis=0)
    keep = left | right
    tissue = generator.Tissue(xy=xy[keep], distance=xy[keep, 0], fractions=fractions[keep].reset_index(drop=True))
    result = mapped(tissue)
    assert "nowhere touch" in result.uns["livermet"]["border_reason"]
    assert result.obs[keys.SIGNED_DISTANCE].isna().all()
    assert result.obs[keys.TUMOUR].sum() == left.sum()


def test_a_margin_narrower_than_the_uncertainty_is_refused():
    result = mapped(generator.tissue(seed=0), margin_um=100)
    assert (result.obs[keys.ZONE] == "none").all()
    assert "uncertainty" in result.uns["livermet"]["border_reason"]


def test_zones_by_distance():
    distance = np.array([-501.0, -500, -251, -250, 0, 250, 251, 1000, 1001, np.nan])
    expected = ["core", *["inner_rim"] * 2, *["margin"] * 3, *["peritumoral"] * 2, "distant", "none"]
    assert list(zones.assign_zones(distance, **LIMITS)) == expected
    with pytest.raises(ValueError, match="margin_um"):
        zones.assign_zones(distance, margin_um=600, core_um=500, distant_um=1000)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_hardly_any_spots_and_no_abundances(n):
    tissue = generator.tissue(seed=0)
    few = generator.Tissue(tissue.xy[:n], tissue.distance[:n], tissue.fractions.iloc[:n])
    for fractions in (few.fractions, few.fractions[[]]):
        result = mapped(few, fractions)
        assert result.n_obs == n and (result.obs[keys.ZONE] == "none").all()
        assert result.uns["livermet"]["border_reason"]
        assert result.obsm[keys.ABUNDANCE].shape == fractions.shape


def test_result_can_be_written_and_read(tmp_path):
    result = mapped(generator.tissue(seed=0))
    result.write_h5ad(tmp_path / "zones.h5ad", compression="gzip")
    back = ad.read_h5ad(tmp_path / "zones.h5ad")
    assert list(back.uns[keys.ABUNDANCE_TYPES]) == list(generator.TYPES)
    np.testing.assert_array_equal(back.obs[keys.SIGNED_DISTANCE], result.obs[keys.SIGNED_DISTANCE])


@pytest.mark.parametrize("rim_um", [0, 400, 800])
def test_a_rim_of_stroma_hides_no_border_and_stroma_inside_the_tumour_is_no_liver(rim_um):
    row, column = np.mgrid[0:20, 0:40]
    xy = np.column_stack([(100 * column + 50 * (row % 2)).ravel(), (87 * row).ravel()]).astype(float)
    x = xy[:, 0] - 2000
    island = np.hypot(x + 1200, xy[:, 1] - 870) < 350
    tumour, liver = (x < -rim_um / 2) & ~island, x > rim_um / 2
    mask = zones.Mask(tumour, liver, np.where(tumour, 1.0, np.where(liver, -1.0, np.nan)), "")
    graph = zones.spatial_graph(xy, neighbours=6).connectivities
    distance = zones.signed_distance(xy, mask, graph)
    assert np.abs(distance - x).max() <= 110  # a pitch
    assert (distance[island] < 0).all() and island.sum() > 30
