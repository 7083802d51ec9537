"""Declared features of sections: names are checked, values follow planted sections, what is missing has a reason."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from livermet import spatial_features as sf
from livermet.declared import parse
from livermet.features import STRATUM
from livermet.graph import spatial_graph
from livermet.markers import load_markers

TYPES = ["malignant_ductal", "hepatocyte", "t_CD8_effector", "t_CD4_conv", "b_cell", "tam_SPP1", "caf_pan"]
SAA = load_markers().loc["hep_injured_margin", "genes"]
GENES = [*SAA, *sf.LEVELS["net"], *(f"G{i}" for i in range(40))]
ZONES = {"core": (-3000, -500), "inner_rim": (-500, -250), "margin": (-250, 250), "peritumoral": (250, 1000)}


def section(*, seed=0, name="S1", cd8_at_margin=1.0, saa_decay=0.0, aggregates=0, resolution="spot", nets=1.0):
    """A field of spots, tumour on the left; T cells at the margin, a gradient of SAA in liver, lymphoid aggregates."""
    rng = np.random.default_rng(seed)
    rows, columns = np.divmod(np.arange(60 * 30), 60)
    xy = np.column_stack([100.0 * columns + 50 * (rows % 2), 86.6 * rows])
    distance = xy[:, 0] - 3000.0
    fractions = np.full((len(xy), len(TYPES)), 0.04)
    fractions[:, 0] += np.where(distance < 0, 0.6, 0.02)
    fractions[:, 1] += np.where(distance < 0, 0.02, 0.6)
    margin = np.abs(distance) <= 250
    fractions[margin, 2] *= cd8_at_margin
    for k in range(aggregates):
        near = np.hypot(*(xy - [800 + 900 * k, 1200]).T) < 220
        fractions[near] = [0.05, 0.05, 0.1, 0.3, 0.4, 0.05, 0.05]
    fractions /= fractions.sum(axis=1, keepdims=True)
    mean = np.ones((len(xy), len(GENES)))
    mean[:, : len(SAA)] += 3 * fractions[:, [1]] * np.exp(-saa_decay * np.maximum(distance, 0)[:, None] / 1000)
    mean[np.ix_(margin, np.arange(len(SAA), len(SAA) + 7))] *= nets
    zone = np.select([(distance > a) & (distance <= b) for a, b in ZONES.values()], list(ZONES), default="distant")
    adata = ad.AnnData(
        sp.csr_matrix(rng.poisson(mean * 20).astype(np.int32)),
        obs=pd.DataFrame(
            {"library_id": name, "zone": zone, "signed_distance_um": distance}, index=[f"b{i}" for i in range(len(xy))]
        ),
        var=pd.DataFrame(index=GENES),
        obsm={"spatial": xy, "abundance": fractions.astype(np.float32)},
    )
    graph = spatial_graph(xy, neighbours=6)
    adata.obsp["spatial_connectivities"] = graph.connectivities
    adata.uns["abundance_types"] = np.array(TYPES, dtype=object)
    adata.uns["livermet"] = {
        **{"pitch_um": graph.pitch_um, "array": graph.kind, "border_reason": "", "resolution": resolution}
    }
    return adata


def libraries(*names, patients=None):
    patients = patients or [f"P{i}" for i in range(len(names))]
    return pd.DataFrame(
        {
            "library_id": names,
            "patient_id": patients,
            "timepoint": "T0_pre",
            "tissue": "liver_met",
            "modality": "visium",
        }
    )


def values(sections, declared, *, patients=None, tables=None):
    measures = [sf.section_measures(s, declared, min_spots=20, min_cells=200) for s in sections]
    rows = libraries(*[s.obs["library_id"].iloc[0] for s in sections], patients=patients)
    features, left_out = sf.declared_features(declared, measures, tables or {}, rows)
    return features.pivot_table(index="patient_id", columns="feature", values="value"), left_out, features


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("zone_clr:margins:lymphoid", "expected <zone>:<compartment>"),
        ("margin_core:t_CD9", "a cell type of the marker table"),
        ("nearest_um:b_cell", r"<cell type>\|<cell type>"),
        ("slope:hepatocyte", "a state of the marker table"),
        ("level:nets:margin", "<net>:<zone>"),
        ("growth:circular", "desmoplastic or replacement or pushing"),
        ("tls_per_mm2:b_cell", "expected nothing"),
        ("clr:margin", "kind 'clr' is none of"),
    ],
)
def test_names_that_mean_nothing_are_refused(name, words):
    with pytest.raises(ValueError, match=words):
        parse(name)


def test_a_zone_rich_in_one_compartment_has_the_higher_ratio():
    declared = ["margin_core:t_CD8_effector", "zone_clr:margin:lymphoid", "zone_clr:core:lymphoid"]
    table, left_out, features = values([section(), section(name="S2", cd8_at_margin=4.0)], declared)
    assert abs(table.loc["P0", "margin_core:t_CD8_effector"]) < 0.15
    assert table.loc["P1", "margin_core:t_CD8_effector"] > 1.5
    assert table.loc["P1", "zone_clr:margin:lymphoid"] > table.loc["P0", "zone_clr:margin:lymphoid"] + 0.3
    assert table.loc["P1", "zone_clr:core:lymphoid"] == pytest.approx(table.loc["P0", "zone_clr:core:lymphoid"])
    assert left_out.empty
    assert set(features["family"]) == {"spatial"} and (features["n_cells"] > 0).all()


def test_a_gradient_of_a_state_is_a_slope_and_its_abundance_is_none():
    flat, falling = section(), section(name="S2", saa_decay=4.0)
    table, _, _ = values([flat, falling], ["slope:hep_injured_margin"])
    assert abs(table.loc["P0"].iloc[0]) < 0.01
    assert table.loc["P1"].iloc[0] < -0.02


def test_aggregates_are_counted_by_area_and_nets_by_zone():
    declared = ["tls_per_mm2", "level:net:margin"]
    table, _, _ = values([section(), section(name="S2", aggregates=2, nets=3.0)], declared)
    area = 60 * 30 * 100**2 * np.sqrt(3) / 2 / 1e6
    assert table.loc["P0", "tls_per_mm2"] == 0
    assert table.loc["P1", "tls_per_mm2"] == pytest.approx(2 / area, rel=1e-3)
    assert table.loc["P1", "level:net:margin"] > table.loc["P0", "level:net:margin"] + 0.3


def test_sections_of_a_patient_are_one_value():
    both = [section(cd8_at_margin=4.0), section(name="S2", cd8_at_margin=4.0, seed=1)]
    table, _, features = values(both, ["margin_core:t_CD8_effector"], patients=["P0", "P0"])
    alone, _, _ = values(both[:1], ["margin_core:t_CD8_effector"])
    assert len(table) == 1
    assert table.iloc[0, 0] == pytest.approx(alone.iloc[0, 0], abs=0.05)
    assert features["n_cells"].iloc[0] > 100


def test_what_a_section_cannot_give_has_a_reason():
    without = section()
    without.obs["zone"], without.obs["signed_distance_um"] = "none", np.nan
    without.uns["livermet"]["border_reason"] = "no liver tissue (0 liver spots, 10 needed)"
    declared = [
        *("margin_core:tam_SPP1", "zone_clr:margin:lymphoid", "slope:hep_injured_margin", "level:net:margin"),
        "growth:replacement",
    ]
    growth = pd.DataFrame(
        {"library_id": ["S1"], "replacement_pct": [np.nan], "interface_mm": [0.4], "reason": ["0.4 mm of 2 mm"]}
    )
    table, left_out, features = values([without], declared, tables={"growth": growth})
    assert table.empty and features.empty
    reasons = left_out.set_index("feature")["reason"]
    assert set(reasons[declared[:4]]) == {"section S1, R13: no liver tissue (0 liver spots, 10 needed)"}
    assert reasons["growth:replacement"] == "0.4 mm of 2 mm"
    assert list(left_out.columns) == [*STRATUM, "family", "feature", "reason"]


def test_sections_with_a_border_but_without_zones_and_those_left_out_say_so():
    coarse, excluded, small = section(), section(name="S2")[:0].copy(), section(name="S3")
    coarse.obs["zone"] = "none"
    coarse.uns["livermet"]["zone_reason"] = "a margin of 100 um is not wider than a spot"
    excluded.uns["livermet"] |= {"library_id": "S2", "reason": "too few spots"}
    small.obs["zone"] = np.where(small.obs["zone"] == "core", "inner_rim", small.obs["zone"])
    declared = ["margin_core:tam_SPP1", "level:net:core"]
    measures = [sf.section_measures(s, declared, min_spots=20, min_cells=200) for s in (coarse, excluded, small)]
    _, left_out = sf.declared_features(declared, measures, {}, libraries("S1", "S2", "S3"))
    reasons = left_out.pivot_table(index="patient_id", columns="feature", values="reason", aggfunc="first")
    assert (reasons.loc["P0"] == "section S1: a margin of 100 um is not wider than a spot").all()
    assert (reasons.loc["P1"] == "section S2: too few spots").all()
    assert reasons.loc["P2"].tolist() == [
        "0 of 20 spots or cells in zone core",
        "no section with enough spots or cells in margin and core",
    ]


def test_pairs_count_only_beside_a_border_and_rare_types_are_called_rare():
    pair = {"type_a": "caf_pan", "type_b": "tam_SPP1", "n_spots": 100, "reason": ""}
    rare = "too few spots or cells of either type"
    rows = [
        {**pair, "library_id": "S1", "z": 9.0, "null": "sides"},
        {**pair, "library_id": "S2", "z": 2.0, "null": "distance_bins"},
        {**pair, "library_id": "S3", "z": 8.0, "null": "sides"},
        {**pair, "library_id": "S4", "z": np.nan, "null": "distance_bins", "reason": rare},
        {**pair, "library_id": "S5", "z": 1.0, "null": "distance_bins", "type_a": "b_cell"},
        {"library_id": "S6", "null": "bins_share_cells", "n_spots": 0, "reason": "bins share cells"},
    ]
    names = [f"S{i}" for i in range(1, 7)]
    features, left_out = sf.declared_features(
        ["pair_z:tam_SPP1|caf_pan"],
        [],
        {"neighbourhood": pd.DataFrame(rows)},
        libraries(*names, patients=["P0", "P0", "P1", "P2", "P3", "P4"]),
    )
    assert features[["patient_id", "value", "n_cells"]].to_numpy().tolist() == [["P0", 2.0, 100]]
    assert left_out.set_index("patient_id")["reason"].to_dict() == {
        "P1": "section S3, R13: no tumour-liver border",
        "P2": rare,
        "P3": "tam_SPP1 or caf_pan is too rare: no section has the pair",
        "P4": "bins share cells",
    }


def test_a_type_makes_no_feature_from_sections_where_it_is_rare():
    common, rare = section(name="S1"), section(name="S2", seed=1)
    rare.obsm["abundance"][:, TYPES.index("t_CD8_effector")] /= 10  # 0.4 % of the section
    declared = ["margin_core:t_CD8_effector", "zone_clr:margin:lymphoid"]
    table, left_out, features = values([common, rare], declared)
    assert table["margin_core:t_CD8_effector"].notna().to_dict() == {"P0": True, "P1": False}
    assert table["zone_clr:margin:lymphoid"].notna().all()  # the compartment as a whole is not rare
    assert left_out["reason"].tolist() == ["t_CD8_effector is rare, below 1 % of each section"]
    _, _, both = values([common, rare], declared[:1], patients=["P0", "P0"])
    assert both["value"].tolist() == features.loc[features["patient_id"] == "P0", "value"].tolist()[:1]


def test_cells_need_more_of_them_than_spots():
    cells = section(resolution="cell")
    n = int((cells.obs["zone"] == "margin").sum())
    for least, n_values in ((n + 1, 0), (n, 1)):
        measures = sf.section_measures(cells, [], min_spots=20, min_cells=least)
        features, _ = sf.declared_features(["margin_core:tam_SPP1"], [measures], {}, libraries("S1"))
        assert len(features) == n_values


def test_a_scope_without_sections_has_no_feature():
    features, left_out = sf.declared_features(["tls_per_mm2"], [], {}, libraries())
    assert features.empty and left_out.empty


def test_values_of_tables_are_means_over_sections_by_weight():
    declared = [
        "pair_z:tam_SPP1|caf_pan",
        "within_30um:t_CD8_effector|malignant_ductal",
        "invasion:EMT",
        "tail:d90_um",
    ]
    sections = [section(), section(name="S2")]
    pair = {"type_a": "caf_pan", "type_b": "tam_SPP1", "null": "distance_bins", "reason": ""}
    tables = {
        "neighbourhood": pd.DataFrame(
            [
                {**pair, "library_id": "S1", "z": 1.0, "n_spots": 100},
                {**pair, "library_id": "S2", "z": 4.0, "n_spots": 300},
            ]
        ),
        "contacts": pd.DataFrame(
            {
                "library_id": ["S1", "S1"],
                "type_a": ["t_CD8_effector", "malignant_ductal"],
                "type_b": ["malignant_ductal", "t_CD8_effector"],
                "within_30um": [0.25, 0.5],
                "n_a": [40, 60],
                "reason": ["", ""],
            }
        ),
        "invasion": libraries("S1", patients=["P0"])
        .drop(columns="library_id")
        .assign(programme="EMT", difference=0.4, n_margin=50, reason=""),
        "tail": pd.DataFrame({"library_id": ["S1"], "d90_um": [120.0], "n_tumour": [80], "reason": [""]}),
    }
    table, left_out, features = values(sections, declared, patients=["P0", "P0"], tables=tables)
    assert table.loc["P0", "pair_z:tam_SPP1|caf_pan"] == pytest.approx(3.25)
    assert table.loc["P0", "within_30um:t_CD8_effector|malignant_ductal"] == 0.25
    assert table.loc["P0", "invasion:EMT"] == 0.4
    assert table.loc["P0", "tail:d90_um"] == 120
    assert left_out.empty
    assert features.set_index("feature")["unit"].to_dict()["tail:d90_um"] == "um"
