"""Margin against core, tail and vessels: planted effects are found, admixture and noise are not."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from scipy import stats
from scipy.spatial import cKDTree

from livermet import invasion, keys, tail
from livermet.section import Section, section_of
from spatial_generator import TYPES, expression, gene_names, hexagonal, tissue

ROW = {
    "library_id": "L1", "patient_id": "P1", "timepoint": "T0_pre", "tissue": "liver_met", "modality": "visium",
}  # fmt: skip
OPTIONS = {
    "min_spots": 20, "min_cells": 200, "min_malignant_share": 0.2, "ambient_top": 50, "max_contamination": 0.2,
    "bin_um": 100.0,
}  # fmt: skip
SEEDS = range(8)
N_GENES = 1500
MALIGNANT, HEPATOCYTE = TYPES.index("malignant_ductal"), TYPES.index("hepatocyte")


def zones(distance):
    return np.select(
        [distance < -500, distance < -250, distance <= 250, distance <= 1000, distance > 1000],
        ["core", "inner_rim", "margin", "peritumoral", "distant"],
        "none",
    ).astype(object)


def graph_of(xy, radius):
    pairs = cKDTree(xy).query_pairs(radius, output_type="ndarray")
    matrix = sp.coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(xy), len(xy))).tocsr()
    return (matrix + matrix.T).astype(np.float32)


def mapped_section(counts, xy, distance, fractions, *, resolution="spot", labels=None, radius=110.0, reason=""):
    obs = pd.DataFrame(
        {keys.SIGNED_DISTANCE: distance, keys.TUMOUR: distance < 0, keys.ZONE: zones(distance)},
        index=[f"b{i:06d}" for i in range(len(xy))],
    )
    if labels is not None:
        obs[keys.CELL_TYPE] = labels
    mapped = AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=gene_names(counts.shape[1])))
    mapped.obsm[keys.SPATIAL] = np.asarray(xy, float)
    mapped.obsm[keys.ABUNDANCE] = np.asarray(fractions, np.float32)
    mapped.obsp[keys.SPATIAL_GRAPH] = graph_of(xy, radius)
    mapped.uns[keys.ABUNDANCE_TYPES] = np.asarray(TYPES, dtype=object)
    mapped.uns[keys.META] = {"border_reason": reason, "zone_reason": reason, keys.RESOLUTION: resolution}
    return mapped


def reference(means):
    profiles = AnnData(means.astype(np.float32), obs=pd.DataFrame(index=list(TYPES)))
    profiles.var_names = gene_names(means.shape[1])
    return profiles


def planted(seed, *, fold=1.0, injury=1.0, error=0.03):
    """Spots of a tumour in liver: a programme of malignant cells and injured hepatocytes at the border.

    Abundances are known with an error. Returns the section, the reference and the genes of each kind.
    """
    rng = np.random.default_rng(seed)
    found = tissue(seed=seed, n_rows=30, n_cols=30)
    means = expression(seed=seed, n_genes=N_GENES)
    means *= 2500 / means.sum(axis=1, keepdims=True)
    share = means / means.sum(axis=1, keepdims=True)
    flat = np.flatnonzero((share.max(axis=0) < 2 * share.min(axis=0)) & (share.min(axis=0) > 1e-4))
    names = np.array(gene_names(N_GENES))
    ratio = share[HEPATOCYTE] / np.delete(share, HEPATOCYTE, axis=0).max(axis=0)
    sets = {"planted": rng.choice(flat, 30, replace=False), "hepatocyte": np.argsort(-ratio)[:30]}
    sets["injury"] = sets["hepatocyte"][:15]
    sets["null"] = rng.choice(np.setdiff1d(flat, sets["planted"]), 30, replace=False)
    fractions = found.fractions.to_numpy()
    near = np.exp(-np.abs(found.distance) / 150)[:, None]
    mean = fractions @ means
    mean[:, sets["planted"]] += fractions[:, [MALIGNANT]] * means[MALIGNANT, sets["planted"]] * (fold - 1) * near
    mean[:, sets["injury"]] += fractions[:, [HEPATOCYTE]] * means[HEPATOCYTE, sets["injury"]] * (injury - 1) * near
    depth = rng.lognormal(np.log(2), 0.3, size=(len(mean), 1))
    counts = rng.poisson(depth * mean * rng.lognormal(0, 0.5, N_GENES) * rng.gamma(5, 0.2, mean.shape))
    seen = np.maximum(fractions + rng.normal(0, error, fractions.shape), 0)
    mapped = mapped_section(counts, found.xy, found.distance, seen / seen.sum(axis=1, keepdims=True))
    return mapped, reference(means), {name: pd.Series(1.0, index=names[genes]) for name, genes in sets.items()}


def table_of(mapped, profiles, programmes, **options):
    found = invasion.section_invasion(mapped, section_of(mapped, row=ROW), profiles, programmes, **(OPTIONS | options))
    return found.table.set_index("programme"), found.profile


def test_the_planted_programme_is_found_and_admixture_is_not():
    rows = []
    for seed in SEEDS:
        mapped, profiles, sets = planted(seed, fold=3.0, injury=4.0)
        masked, profile = table_of(mapped, profiles, sets)
        unmasked, _ = table_of(mapped, profiles, sets, min_malignant_share=0.0)
        values = mapped.X.multiply(1 / mapped.X.sum(axis=1)).tocsr()
        zone, genes = mapped.obs[keys.ZONE].to_numpy(), mapped.var_names.get_indexer(sets["hepatocyte"].index)
        naive = values[zone == "margin"][:, genes].mean() / values[zone == "core"][:, genes].mean()
        assert naive > 2, "without admixture at the margin there is nothing to be fooled by"
        assert masked.loc["hepatocyte", "n_genes"] < 30
        line = profile[profile["name"] == "planted"].set_index("bin_um")["mean"]
        rows.append(
            {
                "planted": masked.loc["planted", "difference"],
                "z": masked.loc["planted", "z_control"],
                "hepatocyte": unmasked.loc["hepatocyte", "difference"],
                "injury": unmasked.loc["injury", "difference"],
                "null": masked.loc["null", "difference"],
                "far": line[line.index < -600].mean(),
                "near": line[-50.0],
            }
        )
    table = pd.DataFrame(rows)
    assert (table["planted"] > 0.4).all() and (table["z"] > 4).all()
    assert (table[["hepatocyte", "injury"]].abs() < 0.7).all(axis=None)
    assert (table[["hepatocyte", "injury", "null"]].mean().abs() < 0.2).all()
    assert (table["far"].abs() < 0.25).all() and (table["near"] > 0.6).all()


def test_random_programmes_are_calibrated():
    scores = []
    for seed in range(5):
        mapped, profiles, sets = planted(seed, injury=4.0)
        rng = np.random.default_rng(seed)
        pool = mapped.var_names.difference(sets["hepatocyte"].index)
        random = {f"R{i}": pd.Series(1.0, index=rng.choice(pool, 40, replace=False)) for i in range(25)}
        table, _ = table_of(mapped, profiles, random)
        scores += [*table["z_control"].dropna()]
        assert (table["se"].dropna() > 0).all()
    scores = np.array(scores)
    assert len(scores) > 100
    assert abs(scores.mean()) < 0.35
    assert 0.7 < scores.std() < 1.35


def test_genes_that_fall_count_with_their_sign():
    mapped, profiles, sets = planted(1, fold=3.0)
    table, _ = table_of(mapped, profiles, {"up": sets["planted"], "down": -sets["planted"]})
    assert table.loc["up", "difference"] == pytest.approx(-table.loc["down", "difference"])
    assert table.loc["up", "se"] == pytest.approx(table.loc["down", "se"])


def test_neither_order_of_spots_nor_of_genes_matters():
    mapped, profiles, sets = planted(2, fold=3.0)
    rng = np.random.default_rng(0)
    other = mapped[rng.permutation(mapped.n_obs), rng.permutation(mapped.n_vars)].copy()
    first, _ = table_of(mapped, profiles, sets)
    second, _ = table_of(other, profiles, sets)
    pd.testing.assert_frame_equal(first, second)


def test_a_section_that_cannot_carry_it_gets_a_reason():
    mapped, profiles, sets = planted(3)
    few, profile = table_of(mapped, profiles, sets, min_spots=10_000)
    assert few["reason"].str.contains("spots in the margin, 10000 needed").all() and few["difference"].isna().all()
    assert profile.empty and list(profile.columns) == invasion.PROFILE_COLUMNS
    mapped.obs[keys.ZONE] = "none"
    mapped.uns[keys.META]["border_reason"] = "no liver tissue"
    assert (table_of(mapped, profiles, sets)[0]["reason"] == "no liver tissue").all()
    empty = mapped[:0].copy()
    empty.uns[keys.META] = {"reason": "file is damaged", "border_reason": "no abundances"}
    table, profile = table_of(empty, profiles, sets)
    assert (table["reason"] == "file is damaged").all() and len(table) == len(sets) and profile.empty
    mapped, profiles, sets = planted(3)
    lone, _ = table_of(mapped, profiles, {"small": sets["planted"].iloc[:3]})
    assert "3 genes (3 measured)" in lone.loc["small", "reason"]
    mapped.uns[keys.META]["zone_reason"] = "a margin of 100 um is refused"
    assert (table_of(mapped, profiles, sets)[0]["reason"] == "a margin of 100 um is refused").all()
    assert invasion.without_border(mapped) == ""


@pytest.mark.parametrize("missing", [["hepatocyte"], ["malignant_ductal"], list(TYPES)])
@pytest.mark.parametrize("resolution", ["spot", "cell"])
def test_a_border_without_profiles_of_both_sides_gets_a_reason(missing, resolution):
    # As where the pathologist drew the border, and the reference lacks a type, or holds none.
    mapped, profiles, sets = planted(3) if resolution == "spot" else cells(0)[:3]
    kept = [name for name in TYPES if name not in missing]
    mapped.obsm[keys.ABUNDANCE] = mapped.obsm[keys.ABUNDANCE][:, [TYPES.index(name) for name in kept]]
    mapped.uns[keys.ABUNDANCE_TYPES] = np.array(kept, dtype=object)
    table, profile = table_of(mapped, profiles[kept], sets)
    lacking = [name for name in ("malignant_ductal", "hepatocyte") if name in missing]
    assert (table["reason"] == f"no profile of {' and '.join(lacking)} in the reference").all()
    assert len(table) == len(sets) and table["difference"].isna().all() and profile.empty


def test_ambient_genes_take_no_part():
    mapped, profiles, sets = planted(4)
    clean, _ = table_of(mapped, profiles, sets)
    soup = pd.Series(0.0, index=mapped.var_names)
    soup[sets["planted"].index[:10]] = 0.1
    mapped.var[keys.AMBIENT] = soup
    masked, _ = table_of(mapped, profiles, sets)
    assert clean.loc["planted", "n_genes"] - masked.loc["planted", "n_genes"] == 10


def cells(seed, *, fold=1.0, spill=0.3):
    """Segmented cells on a jittered grid: each takes a share of its neighbours' transcripts."""
    rng = np.random.default_rng(seed)
    xy = hexagonal(90, 90, 12.0) * np.array([2.2, 1.0])
    xy = xy + rng.normal(0, 1, xy.shape)
    distance = xy[:, 0] - 1200
    inside = 1 / (1 + np.exp(distance / 60))
    others = 0.05 * np.ones((len(xy), len(TYPES)))
    others[:, MALIGNANT], others[:, HEPATOCYTE] = 1.5 * inside, 1.5 * (1 - inside)
    cumulated = np.cumsum(others / others.sum(axis=1, keepdims=True), axis=1)
    code = (rng.random((len(xy), 1)) > cumulated).sum(axis=1).clip(0, len(TYPES) - 1)
    n_genes = 400
    means = expression(seed=seed, n_genes=n_genes)
    means = means / means.sum(axis=1, keepdims=True) * 300
    flat = np.flatnonzero((means.max(axis=0) < 4 * means.min(axis=0)) & (means.min(axis=0) > 0.1))
    ratio = means[HEPATOCYTE] / np.delete(means, HEPATOCYTE, axis=0).max(axis=0)
    sets = {"planted": flat[:15], "hepatocyte": np.argsort(-ratio)[:15]}
    own = means[code]
    at_margin = (code == MALIGNANT) & (np.abs(distance) <= 250)
    own[np.ix_(at_margin, sets["planted"])] *= fold
    graph = graph_of(xy, 30.0)
    degree = np.maximum(np.asarray(graph.sum(axis=1)), 1)
    seen = (1 - spill) * own + spill * np.asarray(graph @ own) / degree
    names = np.array(gene_names(n_genes))
    labels = np.array(TYPES, dtype=object)[code]
    mapped = mapped_section(
        rng.poisson(seen), xy, distance, np.eye(len(TYPES))[code], resolution="cell", labels=labels, radius=30.0
    )
    return mapped, reference(means), {name: pd.Series(1.0, index=names[genes]) for name, genes in sets.items()}


@pytest.mark.parametrize("seed", range(5))
def test_single_cells_are_adjusted_for_spillover(seed):
    mapped, profiles, sets = cells(seed, fold=1.6)
    table, profile = table_of(mapped, profiles, sets, min_malignant_share=0.0, bin_um=50.0)
    assert table.loc["planted", "difference"] > 0.25 and table.loc["planted", "z_control"] > 4
    assert abs(table.loc["hepatocyte", "difference"]) < 0.3
    malignant = (mapped.obs[keys.CELL_TYPE] == "malignant_ductal").to_numpy()
    values = mapped.X[:, mapped.var_names.get_indexer(sets["hepatocyte"].index)].sum(axis=1)
    zone = mapped.obs[keys.ZONE].to_numpy()
    naive = values[malignant & (zone == "margin")].mean() / values[malignant & (zone == "core")].mean()
    assert naive > 1.2, "without spillover there is nothing to be fooled by"
    masked, _ = table_of(mapped, profiles, sets)
    assert masked.loc["hepatocyte", "n_genes"] <= 15 and abs(masked.loc["hepatocyte", "difference"]) < 0.3
    assert table["n_margin"].max() == (malignant & (zone == "margin")).sum()
    assert set(profile["kind"]) == {"programme"}


def patient_rows(values, *, timepoint="T0_pre", programme="A", library="L"):
    return pd.DataFrame(
        [
            ROW
            | {"library_id": f"{library}{i}", "patient_id": f"P{i:02d}", "timepoint": timepoint, "programme": programme}
            | {"difference": value, "se": 0.1, "n_margin": 30, "n_core": 40, "reason": ""}
            for i, value in enumerate(values)
        ]
    )


def run_tests(sections, **options):
    wanted = {"scope": "cohort", "min_patients": 3, "alpha": 0.05, "n_permutations": 9999, "seed": 1}
    return invasion.programme_tests(invasion.combine_patients(sections), **(wanted | options))


def test_sections_of_a_patient_are_one_value():
    sections = pd.concat(
        [
            patient_rows([0.0]).assign(library_id="A", se=0.1),
            patient_rows([1.0]).assign(library_id="B", se=0.2),
            patient_rows([np.nan]).assign(library_id="C", se=np.nan, reason="no margin"),
        ]
    )
    table = invasion.combine_patients(sections)
    assert len(table) == 1 and table["n_sections"].item() == 2 and table["n_margin"].item() == 60
    assert table["difference"].item() == pytest.approx(0.2)
    assert table["se"].item() == pytest.approx((1 / 0.01 + 1 / 0.04) ** -0.5)
    nothing = invasion.combine_patients(sections[sections["library_id"] == "C"])
    assert nothing["reason"].item() == "C: no margin" and np.isnan(nothing["difference"].item())


def test_the_test_over_patients_is_that_of_scipy():
    values = np.random.default_rng(3).normal(0.4, 1, 9)
    row = run_tests(patient_rows(values)).iloc[0]
    exact = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=False)
    assert row["p"] == pytest.approx(exact.pvalue)
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high))
    assert row["smallest_attainable_p"] == 2 / 2**9 and row["n"] == 9
    drawn = invasion.sign_flip_p(values, n_permutations=499, seed=1)
    assert abs(drawn - exact.pvalue) < 0.1
    assert run_tests(patient_rows([*values] * 3), n_permutations=499).iloc[0]["smallest_attainable_p"] == 1 / 500


def test_the_test_keeps_its_level():
    rng = np.random.default_rng(5)
    p = [invasion.sign_flip_p(rng.standard_t(4, 8), n_permutations=9999, seed=1) for _ in range(600)]
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.075


@pytest.mark.parametrize(
    ("n", "options", "code"),
    [(2, {}, "R01"), (5, {}, "R02"), (6, {}, ""), (8, {"scope": "B02"}, "R19"), (8, {"min_patients": 9}, "R01")],
)
def test_what_a_design_cannot_carry_is_refused(n, options, code):
    row = run_tests(patient_rows(np.linspace(0.5, 1, n)), **options).iloc[0]
    assert row["refusal_code"] == code and row["status"] == ("refused" if code else "tested")
    assert np.isnan(row["p"]) == bool(code) and bool(row["refusal_reason"]) == bool(code)
    assert row["effect"] == pytest.approx(0.75)


def test_timepoints_are_never_mixed_and_each_is_a_family():
    values = np.linspace(0.5, 1, 7)
    sections = pd.concat(
        [
            patient_rows(values),
            patient_rows(values - 0.74, programme="B"),
            patient_rows(values, timepoint="T3_resection"),
        ]
    )
    table = run_tests(sections).set_index(["timepoint", "programme"])
    assert (table["n"] == 7).all() and len(table) == 3
    assert table.loc[("T3_resection", "A"), "q"] == table.loc[("T3_resection", "A"), "p"]
    assert table.loc[("T0_pre", "A"), "q"] == pytest.approx(2 * table.loc[("T0_pre", "A"), "p"])


def test_no_section_gives_empty_tables():
    nothing = invasion.stacked([], invasion.SECTION_COLUMNS)
    assert list(invasion.combine_patients(nothing).columns) == invasion.PATIENT_COLUMNS
    table = run_tests(nothing)
    assert table.empty and list(table.columns) == invasion.TEST_COLUMNS


def test_programmes_come_from_the_tables(tmp_path):
    names = invasion.load_programmes()
    assert {"EMT", "matrix", "hypoxia", "proliferation", "mal_classical", "mal_basal"} <= set(names)
    assert names["EMT"].min() < 0 < names["EMT"].max()
    path = tmp_path / "own.tsv"
    path.write_text("set\tsource_kind\tgene\tweight\nmine\tpathway\tTP53\t1\nmatrix\tpathway\tMMP1\t1\n")
    own = invasion.load_programmes(str(path))
    assert list(own["mine"].index) == ["TP53"] and list(own["matrix"].index) == ["MMP1"]
    with pytest.raises(ValueError, match=r"correct invasion\.programmes"):
        invasion.load_programmes(str(tmp_path / "missing.tsv"))


# ------------------------------------------------------------------------------------------------- tail and vessels


def tail_section(seed, *, decay, background=0.01, resolution="spot", level=0.6, amount=0.5, pitch=50.0):
    """Malignant fraction ``level`` inside, decaying from ``amount`` outside, over a noisy background."""
    rng = np.random.default_rng(seed)
    xy = hexagonal(40, 70, pitch)
    distance = xy[:, 0] - 0.42 * xy[:, 0].max()
    mean = np.where(distance < 0, level, amount * np.exp(-np.maximum(distance, 0) / decay)) + background
    abundance = pd.DataFrame(0.0, index=range(len(xy)), columns=["malignant_ductal", "lsec", "hepatocyte"])
    abundance["malignant_ductal"] = rng.gamma(20, mean / 20)
    abundance["malignant_ductal"] = abundance["malignant_ductal"].clip(upper=0.98)
    rest, vessels = 1 - abundance["malignant_ductal"], rng.gamma(5, 0.02, len(xy)).clip(max=0.9)
    abundance["lsec"], abundance["hepatocyte"] = rest * vessels, rest * (1 - vessels)
    label = np.where(rng.random(len(xy)) < mean, "malignant_ductal", "hepatocyte").astype(object)
    return Section(
        "L", "P", "T0_pre", "liver_met", np.arange(len(xy)), xy, abundance, graph_of(xy, pitch * 1.1), distance,
        distance < 0, zones(distance), resolution, label if resolution == "cell" else None,
    )  # fmt: skip


TAIL = {"tail_um": 1000.0, "min_spots": 20, "min_cells": 200, "n_bootstrap": 40, "seed": 1, "border_reason": ""}


@pytest.mark.parametrize("resolution", ["spot", "cell"])
@pytest.mark.parametrize("decay", [60.0, 150.0])
def test_the_reach_of_the_tail_is_recovered(decay, resolution):
    share = 0.5 * decay / (0.5 * decay + 0.6 * 1000)
    found = []
    for seed in range(6):
        row, curve = tail.section_tail(tail_section(seed, decay=decay, resolution=resolution), **TAIL)
        assert row["reason"].item() == "" and row["background"].item() == pytest.approx(0.01, abs=0.006)
        assert (np.diff(curve["mean"]) <= 1e-12).all()
        found.append(row.iloc[0])
    table = pd.DataFrame(found)
    assert table["share_outside"].median() == pytest.approx(share, rel=0.25)
    assert table["d90_um"].astype(float).median() == pytest.approx(decay * np.log(10), rel=0.4)
    truth = decay * np.log(10)
    assert ((table["d90_low"] <= truth) & (truth <= table["d90_high"])).mean() >= 0.5


def test_noise_in_liver_is_no_tail():
    shares = []
    for seed in range(6):
        row, _ = tail.section_tail(tail_section(seed, decay=1.0, amount=0.0, background=0.05), **TAIL)
        shares.append(row["share_outside"].item())
    assert max(shares) < 0.01
    section = tail_section(0, decay=1.0, amount=0.0, background=0.0)
    section.abundance.loc[section.distance >= 0, "malignant_ductal"] = 0.7
    row, _ = tail.section_tail(section, **TAIL)
    assert row["share_outside"].item() == 0 and np.isnan(row["d90_um"].item())
    assert "no malignant cells beyond" in row["reason"].item()


def test_a_tail_needs_distant_liver():
    section = tail_section(0, decay=100.0, pitch=20.0)
    row, curve = tail.section_tail(section, **TAIL)
    assert row["reason"].item() == "0 spots in distant liver, 20 needed" and curve.empty
    row, _ = tail.section_tail(section, **(TAIL | {"border_reason": "no liver"}))
    assert row["reason"].item() == "no liver"


def test_reach_of_a_known_curve():
    curve = np.concatenate([np.full(100, 0.5), np.full(10, 0.2), np.zeros(90)])
    share, d90 = tail.reach(curve, 0.0)
    assert share == pytest.approx(2 / 52) and d90 == pytest.approx(90)
    assert np.isnan(tail.reach(curve, 0.3)[1])


def test_exchange_within_groups_is_the_hypergeometric_distribution():
    rng = np.random.default_rng(2)
    groups = np.repeat([0, 1, 2, -1], [30, 20, 10, 5])
    x, y = (rng.random(65) < 0.4).astype(float), (rng.random(65) < 0.3).astype(float)
    observed, mean, sd = tail.within_groups(x, y, groups)
    parts = [stats.hypergeom((groups == g).sum(), x[groups == g].sum(), y[groups == g].sum()) for g in range(3)]
    assert observed == (x * y)[groups >= 0].sum()
    assert mean == pytest.approx(sum(part.mean() for part in parts))
    assert sd == pytest.approx(np.sqrt(sum(part.var() for part in parts)))


def vessel_cells(seed, *, pull):
    """Cells in which malignant ones of the liver side stand beside endothelium ``pull`` times as often."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, [1400, 1500], size=(20_000, 2))
    distance = xy[:, 0] - 500
    label = np.full(len(xy), "hepatocyte", dtype=object)
    label[rng.random(len(xy)) < 0.06 + 0.06 * (np.abs(distance) < 200)] = "lsec"
    vessel = label == "lsec"
    beside = cKDTree(xy[vessel]).query(xy)[0] <= 20
    chance = np.where(distance < 0, 0.7, 0.12 * np.exp(-np.maximum(distance, 0) / 200)) * np.where(beside, pull, 1)
    label[~vessel & (rng.random(len(xy)) < chance)] = "malignant_ductal"
    none = sp.csr_matrix((len(xy), len(xy)))
    abundance = pd.DataFrame({"malignant_ductal": (label == "malignant_ductal").astype(float)})
    return Section(
        "L", "P", "T0_pre", "liver_met", np.arange(len(xy)), xy, abundance, none, distance, distance < 0,
        zones(distance), "cell", label,
    )  # fmt: skip


VESSELS = {
    "tail_um": 1000.0, "vessel_um": 20.0, "bin_um": 50.0, "min_spots": 20, "min_cells": 200, "border_reason": "",
}  # fmt: skip


def test_malignant_cells_beside_vessels_beyond_distance():
    null = [tail.vessel_cooption(vessel_cells(seed, pull=1.0), **VESSELS)["z"].item() for seed in range(20)]
    assert abs(np.mean(null)) < 0.8 and 0.5 < np.std(null) < 1.6
    for seed in range(5):
        row = tail.vessel_cooption(vessel_cells(seed, pull=2.0), **VESSELS).iloc[0]
        assert row["z"] > 3 and row["effect"] > 0.2 and row["observed"] > row["expected"]
        assert row["measure"] == "share_within_20_um"


def test_spots_show_company_of_vessels_beyond_distance():
    null, pulled = [], []
    for seed in range(12):
        section = tail_section(seed, decay=200.0)
        null.append(tail.vessel_cooption(section, **(VESSELS | {"bin_um": 100.0}))["z"].item())
        beside = np.random.default_rng(seed).gamma(2, 0.5, len(section.distance))
        abundance = section.abundance.copy()
        abundance["lsec"] *= beside
        abundance["malignant_ductal"] *= np.where(section.distance > 0, beside, 1)
        changed = Section(**(vars(section) | {"abundance": abundance.div(abundance.sum(axis=1), axis=0)}))
        pulled.append(tail.vessel_cooption(changed, **(VESSELS | {"bin_um": 100.0}))["z"].item())
    assert abs(np.mean(null)) < 1 and np.std(null) < 1.8
    assert min(pulled) > 3


def test_vessels_are_not_judged_on_too_little():
    section = vessel_cells(0, pull=1.0)
    assert tail.vessel_cooption(section, **(VESSELS | {"border_reason": "no liver"}))["reason"].item() == "no liver"
    row = tail.vessel_cooption(section, **(VESSELS | {"min_cells": 10_000})).iloc[0]
    assert "10000 of each needed" in row["reason"] and np.isnan(row["z"])
    assert np.isfinite(tail.vessel_cooption(section, **(VESSELS | {"min_spots": 10_000}))["z"].item())
    spots = tail_section(0, decay=200.0)
    row = tail.vessel_cooption(spots, **(VESSELS | {"min_spots": 10_000})).iloc[0]
    assert row["reason"] == f"{row['n']} spots beyond the border, 10000 needed"
    bins = Section(**(vars(spots) | {"resolution": "bin"}))
    assert "10000 needed" in tail.vessel_cooption(bins, **(VESSELS | {"min_cells": 10_000}))["reason"].item()


def test_vessels_inside_the_tumour_are_not_among_those_beyond_the_border():
    section = vessel_cells(0, pull=1.0)
    label = section.cell_type.copy()
    beyond = (label == "lsec") & (section.distance >= 0)
    label[np.flatnonzero(beyond)[30:]] = "hepatocyte"
    label[np.flatnonzero((section.distance < 0) & (label != "lsec"))[:500]] = "lsec"
    moved = Section(**(vars(section) | {"cell_type": label}))
    row = tail.vessel_cooption(moved, **VESSELS).iloc[0]
    assert row["reason"] == f"{row['n']} malignant and 30 endothelial cells beyond the border, 200 of each needed"
    assert row["n"] >= 200
