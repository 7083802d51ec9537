"""Niches: the planted one is found, stability, order, one section, too few spots."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import spatial_generator as generator
import test_zones
from livermet import niches, zones
from livermet.config import PROJECT
from livermet.section import Section, label_section

OPTIONS = {
    "rings": 1, "own_weight": 1.0, "lineage_weight": 0.5, "k_min": 4, "k_max": 8, "n_seeds": 2, "min_ari": 0.7,
    "min_spots": 200, "n_permutations": 20, "seed": 1,
}  # fmt: skip


def make(tissue, name):
    n = len(tissue.xy)
    return Section(
        library_id=name,
        patient_id=f"P{name}",
        timepoint="T0_pre",
        tissue="liver_met",
        barcodes=np.array([f"{name}:b{i}" for i in range(n)], dtype=object),
        coordinates=tissue.xy,
        abundance=tissue.fractions,
        graph=zones.spatial_graph(tissue.xy, neighbours=6).connectivities,
        distance=tissue.distance,
        tumour=tissue.distance < 0,
        zone=zones.assign_zones(tissue.distance, margin_um=250, core_um=500, distant_um=1000),
    )


def cohort(seed, n=5):
    tissues = [generator.tissue(seed=seed + i, n_rows=16, n_cols=16, niche=i % 2 == 0) for i in range(n)]
    planted = np.concatenate([tissue.fractions.attrs["planted"] for tissue in tissues])
    return [make(tissue, f"L{i}") for i, tissue in enumerate(tissues)], planted


def best_f1(labels, planted):
    return max(2 * ((labels == k) & planted).sum() / ((labels == k).sum() + planted.sum()) for k in set(labels))


@pytest.mark.parametrize("seed", [0, 100, 200])
def test_planted_niche_is_found_and_named(seed):
    sections, planted = cohort(seed)
    result = niches.find_niches(sections, **OPTIONS)
    labels = result.labels["niche"].to_numpy()
    assert best_f1(labels, planted) > 0.6
    assert best_f1(np.random.default_rng(0).permutation(labels), planted) < 0.35
    best = max(set(labels), key=lambda k: ((labels == k) & planted).sum() / (labels == k).sum())
    assert "tam_SPP1" in result.composition.set_index("niche").loc[best, "name"].iloc[0]


def primary(result):
    return result.composition[result.composition["definition"] == "composition"]


def test_tables_are_complete_and_ordered():
    sections, _ = cohort(0)
    result = niches.find_niches(sections, **OPTIONS)
    assert list(result.labels) == list(niches.LABEL_COLUMNS)
    assert list(result.composition) == list(niches.NICHE_COLUMNS)
    assert list(result.stability) == list(niches.STABILITY_COLUMNS)
    assert list(result.consensus) == list(niches.CONSENSUS_COLUMNS)
    assert list(result.structure) == list(niches.STRUCTURE_COLUMNS)
    assert (result.stability.groupby("definition")["chosen"].sum() == 1).all()
    assert result.composition["definition"].is_monotonic_increasing
    for definition, column in (("composition", "niche"), ("expression", "niche_expression")):
        table = result.composition[result.composition["definition"] == definition]
        size = table.drop_duplicates("niche").set_index("niche")["n_spots"]
        assert list(size.index) == sorted(size.index) and size.is_monotonic_decreasing
        assert size.sum() == len(result.labels) == sum(len(s.barcodes) for s in sections)
        assert result.labels[column].value_counts().to_dict() == size.to_dict()
        np.testing.assert_allclose(table.groupby("niche")["mean_abundance"].sum(), 1)
        assert (table["n_patients"] <= 5).all()
        assert len(table) == len(size) * len(generator.TYPES)
    few = result.composition["n_patients"] < 2
    assert (result.composition.loc[few, "claim"].str.startswith("R14")).all()
    assert (result.composition.loc[~few, "claim"] == "").all()


def test_bins_that_share_cells_are_no_evidence_of_a_structure():
    sections, _ = cohort(0, n=3)
    bins = [Section(**vars(section) | {"resolution": "bin"}) for section in sections]
    table = niches.find_niches(bins, **OPTIONS).structure
    assert len(table) and set(table["status"]) == {"bins_share_cells"} and table["join_z"].isna().all()


def test_neither_order_of_sections_nor_of_spots_matters():
    sections, _ = cohort(0, n=3)
    first = niches.find_niches(sections, **OPTIONS)
    pd.testing.assert_frame_equal(first.labels, niches.find_niches(sections[::-1], **OPTIONS).labels)
    order = np.random.default_rng(0).permutation(len(sections[0].barcodes))
    fields = {
        name: getattr(sections[0], name)[order] for name in ("barcodes", "coordinates", "distance", "tumour", "zone")
    }
    fields["abundance"] = sections[0].abundance.iloc[order].reset_index(drop=True)
    fields["graph"] = sections[0].graph[order][:, order]
    turned = niches.find_niches([Section(**vars(sections[0]) | fields), *sections[1:]], **OPTIONS)
    both = first.labels.merge(turned.labels, on=["library_id", "barcode"], suffixes=("", "_turned"))
    assert (both["niche"] == both["niche_turned"]).all()
    assert (both["niche_expression"] == both["niche_expression_turned"]).all()


def test_one_section_is_enough_if_it_has_spots():
    sections, _ = cohort(0, n=1)
    result = niches.find_niches(sections, **OPTIONS)
    assert result.reason == "" and set(result.composition["n_patients"]) <= {0, 1}
    assert (result.composition["claim"] == "R14: in fewer than 2 patients").all()


def test_too_few_spots_and_no_sections_leave_empty_tables_with_a_reason():
    small = generator.tissue(seed=0, n_rows=5, n_cols=5)
    for sections, n in (([], 0), ([make(small, "L0")], 25)):
        result = niches.find_niches(sections, **OPTIONS)
        assert result.reason
        assert list(result.labels) == list(niches.LABEL_COLUMNS) and len(result.labels) == n
        assert (result.labels["niche"] == "none").all()
        assert result.composition.empty and list(result.composition) == list(niches.NICHE_COLUMNS)
        assert result.stability.empty and list(result.stability) == list(niches.STABILITY_COLUMNS)
        assert result.structure.empty and list(result.structure) == list(niches.STRUCTURE_COLUMNS)
        assert result.consensus.empty and list(result.consensus) == list(niches.CONSENSUS_COLUMNS)


def test_spots_and_types_without_abundances_take_no_part():
    sections, _ = cohort(0, n=2)
    hole = sections[0].abundance.copy()
    hole.iloc[:7] = np.nan
    lacking = sections[1].abundance.drop(columns="mast", errors="ignore").drop(columns="b_cell")
    sections = [Section(**{**vars(s), "abundance": a}) for s, a in zip(sections, (hole, lacking), strict=True)]
    result = niches.find_niches(sections, **OPTIONS)
    niche = result.labels["niche"].to_numpy()
    assert (niche[:7] == "none").all() and not (niche[7:] == "none").any()


def test_window_of_a_spot_is_its_own_and_its_rings():
    xy = generator.hexagonal(7, 7)
    graph = zones.spatial_graph(xy, neighbours=6).connectivities
    one = np.zeros((49, 1))
    one[24] = 1.0
    alone = niches.ring_windows(graph, rings=1, own_weight=1.0) @ one
    assert alone[24, 0] == pytest.approx(0.5)
    ring = np.hypot(*(xy - xy[24]).T).round() == 100
    np.testing.assert_allclose(alone[ring, 0], 1 / 6 / 2)
    np.testing.assert_allclose(alone[~ring & (np.arange(49) != 24), 0], 0)
    two = niches.ring_windows(graph, rings=2, own_weight=1.0) @ one
    assert (two[:, 0] > 0).sum() == 19
    apart = niches.ring_windows(graph * 0, rings=1, own_weight=1.0) @ one
    np.testing.assert_array_equal(apart, one)


def test_window_of_a_cell_is_a_circle():
    xy = np.random.default_rng(0).uniform(0, 400, size=(500, 2))
    values = np.random.default_rng(1).random((500, 2))
    near = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1)) <= 50
    found = niches.radius_windows(xy, radius_um=50) @ values
    np.testing.assert_allclose(found, near @ values / near.sum(axis=1, keepdims=True), rtol=1e-5)


def test_labels_return_to_their_section():
    sections, _ = cohort(0, n=2)
    labels = niches.find_niches(sections, **OPTIONS).labels
    names = sections[1].barcodes[::-1]
    section = ad.AnnData(np.zeros((len(names), 1), np.float32), obs=pd.DataFrame(index=names.astype(str)))
    expected = labels.set_index("barcode").loc[names, "niche"].to_list()
    assert label_section(section, labels).obs["niche"].to_list() == expected
    nothing = label_section(section, labels[:0]).obs["niche"]
    assert (nothing == "none").all()


def counts_of(sections, means, *, seed):
    """What gives the counts of each section, from its fractions."""
    result = {}
    for i, section in enumerate(sections):
        counts = generator.spot_counts(means, section.abundance, seed=seed + i)
        obs, var = (
            pd.DataFrame(index=section.barcodes.astype(str)),
            pd.DataFrame(index=generator.gene_names(counts.shape[1])),
        )
        data = ad.AnnData(sp.csr_matrix(counts).astype(np.int32), obs=obs, var=var)
        result[section.library_id] = data.copy
    return result


def test_expression_confirms_what_is_there_and_not_what_is_not():
    sections, planted = cohort(0)
    counts = counts_of(sections, generator.expression(seed=0, n_genes=400), seed=0)
    result = niches.find_niches(sections, counts=counts, n_genes=200, **OPTIONS)
    assert dict(zip(result.stability["definition"], result.stability["basis"], strict=True)) == {
        "composition": "composition",
        "expression": "expression",
    }
    overall = result.consensus.set_index("library_id")["ari"]
    assert overall["all"] > 0.3 and set(overall.index) == {"all", *(s.library_id for s in sections)}
    shuffled = {name: read()[np.random.default_rng(0).permutation(read().n_obs)] for name, read in counts.items()}
    for data, section in zip(shuffled.values(), sections, strict=True):
        data.obs_names = section.barcodes.astype(str)
    blind = niches.find_niches(sections, counts={n: d.copy for n, d in shuffled.items()}, n_genes=200, **OPTIONS)
    assert blind.consensus.set_index("library_id")["ari"]["all"] < 0.1
    expression = [best_f1(found.labels["niche_expression"].to_numpy(), planted) for found in (result, blind)]
    assert expression[0] > expression[1] + 0.1
    assert blind.composition["jaccard"].mean() < result.composition["jaccard"].mean()
    pd.testing.assert_series_equal(blind.labels["niche"], result.labels["niche"])


def test_sections_without_common_genes_are_embedded_by_abundances():
    sections, _ = cohort(0, n=2)
    counts = counts_of(sections, generator.expression(seed=0, n_genes=100), seed=0)
    other = counts["L1"]()
    other.var_names = [f"X{name}" for name in other.var_names]
    result = niches.find_niches(sections, counts=counts | {"L1": other.copy}, **OPTIONS)
    assert set(result.stability["basis"]) == {"composition", "abundance"}


def test_both_definitions_find_a_niche_only_if_each_is_the_others_best():
    first = np.array(["a"] * 6 + ["b"] * 4 + ["c"] * 2)
    second = np.array(["x"] * 5 + ["y"] * 7)
    table = niches.overlap(first, second, min_jaccard=0.33)
    assert table.loc["a", ["match", "confirmed"]].to_list() == ["x", 1]
    assert table.loc["a", "jaccard"] == pytest.approx(5 / 6)
    assert table.loc["b", ["match", "confirmed"]].to_list() == ["y", 1]
    assert table.loc["c", ["match", "confirmed"]].to_list() == ["y", 0]
    assert niches.overlap(first, second, min_jaccard=0.9)["confirmed"].sum() == 0


def test_niches_of_an_earlier_run_keep_their_labels_and_names():
    sections, _ = cohort(0)
    first = niches.find_niches(sections, **OPTIONS)
    earlier = first.composition.copy()
    turned = {"n01": "n17", "n02": "n01"}
    earlier["niche"] = earlier["niche"].replace(turned)
    earlier.loc[earlier["niche"] == "n17", "name"] = "named by hand"
    earlier = earlier[earlier["niche"] != "n03"]
    again = niches.find_niches(sections, earlier=earlier, **OPTIONS)
    pairs = pd.crosstab(first.labels["niche"], again.labels["niche"])
    assert pairs.loc["n01", "n17"] == pairs.loc["n01"].sum() and pairs.loc["n02", "n01"] == pairs.loc["n02"].sum()
    assert set(again.composition.loc[again.composition["niche"] == "n17", "name"]) == {"named by hand"}
    number = max(int(label[1:]) for label in earlier["niche"] if label.startswith("n"))
    assert pairs.loc["n03", f"n{number + 1:02d}"] == pairs.loc["n03"].sum()
    strange = earlier.assign(mean_abundance=earlier["mean_abundance"].sample(frac=1, random_state=1).to_numpy())
    unlike = niches.find_niches(sections, earlier=strange, min_similarity=0.95, **OPTIONS)
    assert not set(unlike.labels["niche"]) & set(strange["niche"])
    with pytest.raises(ValueError, match="column mean_abundance is missing"):
        niches.find_niches(sections, earlier=earlier.drop(columns="mean_abundance"), **OPTIONS)


def of_cells(seed, name):
    """A section of single cells with a round patch of two types that stand nowhere else together."""
    cells = generator.cells(seed=seed, side_um=900)
    patch = np.hypot(*(cells.xy - [450, 200]).T) < 110
    code = cells.code.copy()
    code[patch] = np.random.default_rng(seed).choice([2, 3], size=patch.sum())
    cells = generator.Cells(cells.xy, cells.distance, code)
    tissue = generator.Tissue(cells.xy, cells.distance, pd.get_dummies(pd.Series(cells.labels)).astype(float))
    return Section(**vars(make(tissue, name)) | {"resolution": "cell", "cell_type": cells.labels}), patch


def test_cells_and_spots_are_divided_apart_and_patches_of_cells_are_structures():
    spots, _ = cohort(0, n=2)
    section, patch = of_cells(0, "C0")
    alone = niches.find_niches([section], **OPTIONS)
    labels = alone.labels["niche"].to_numpy()
    assert best_f1(labels, patch) > 0.7
    best = max(set(labels), key=lambda k: ((labels == k) & patch).sum() / (labels == k).sum())
    structure = alone.structure.set_index("niche")
    assert structure.loc[best, "status"] == "structure" and structure.loc[best, "join_z"] > 5
    both = niches.find_niches([*spots, section], **OPTIONS)
    assert set(both.labels.groupby("library_id")["niche"].first().str.split("_").str[0]) == {"cell", "spot"}
    pd.testing.assert_series_equal(
        both.labels.loc[both.labels["library_id"] == "C0", "niche"].reset_index(drop=True),
        "cell_" + alone.labels["niche"],
    )


def estimated(tissue, name):
    """A section whose border is estimated, as in a run."""
    mapped = zones.map_section(
        test_zones.section(tissue), tissue.fractions.to_numpy(), tuple(tissue.fractions), **test_zones.OPTIONS
    )
    distance = mapped.obs["signed_distance_um"].to_numpy(dtype=float)
    return Section(**vars(make(tissue, name)) | {"distance": distance, "tumour": distance < 0})


def test_negative_controls_have_no_structures_and_planted_niches_are():
    """Types independent given the distance, with gradients inside zones: true and estimated distances."""
    options = OPTIONS | {"k_min": 6, "k_max": 7, "n_permutations": 40}
    false, found = {"true": [], "estimated": []}, []
    for seed in range(3):
        for kind, build in (("true", make), ("estimated", estimated)):
            tissues = [generator.tissue(seed=500 + 10 * seed + i, n_rows=22, n_cols=22) for i in range(3)]
            table = niches.find_niches([build(t, f"L{i}") for i, t in enumerate(tissues)], **options).structure
            false[kind] += (table.loc[table["join_z"].notna(), "status"] == "structure").to_list()
        tissues = [generator.tissue(seed=500 + 10 * seed + i, n_rows=34, n_cols=34, niche=True) for i in range(2)]
        planted = np.concatenate([t.fractions.attrs["planted"] for t in tissues])
        finer = options | {"k_min": 9, "k_max": 10}
        result = niches.find_niches([make(t, f"L{i}") for i, t in enumerate(tissues)], **finer)
        labels = result.labels["niche"].to_numpy()
        size = {k: (labels == k).sum() + planted.sum() for k in set(labels)}
        best = max(size, key=lambda k: 2 * ((labels == k) & planted).sum() / size[k])
        table = result.structure[(result.structure["niche"] == best) & result.structure["join_z"].notna()]
        found += (table["status"] == "structure").to_list()
    assert np.mean(false["true"]) <= 0.07 and np.mean(false["estimated"]) <= 0.07
    assert np.mean(found) >= 0.7


def test_structure_is_not_judged_without_a_border():
    sections, _ = cohort(0, n=1)
    blind = Section(**vars(sections[0]) | {"distance": np.full(len(sections[0].barcodes), np.nan)})
    table = niches.find_niches([blind], **OPTIONS).structure
    assert set(table["status"]) == {"no_border"} and table["join_z"].isna().all() and (table["reason"] != "").all()


def test_patients_of_a_niche_have_a_share_of_their_spots_in_it_as_its_caption_says():
    code = np.repeat([0, 1, 0, 1], [96, 4, 90, 10])  # 4 and 10 % of two patients in the second niche
    patients = np.repeat(["P1", "P2"], 100)
    own = np.eye(2)[code]
    options = {"types": ["a", "b"], "prefix": "n", "earlier": niches._earlier(None), "min_similarity": 0.8}
    _, table = niches._describe(own, code, patients, **options)
    assert table.drop_duplicates("niche")["n_patients"].tolist() == [2, 1]
    _, table = niches._describe(own[:100], code[:100], patients[:100], **options)
    assert table.drop_duplicates("niche")["n_patients"].tolist() == [1, 0]
    caption = " ".join((PROJECT / "workflow" / "report" / "niches.rst").read_text().split())
    assert f"at least {100 * niches.MIN_SHARE_OF_PATIENT:g} % of their spots" in caption
