"""Activity of gene sets: planted programmes show up in the right patients and classes, and the sets are sound."""

import socket

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cohorts import CONFIG, ids, labels_table, patients_table
from livermet.activity import COLUMNS, CONTRAST_COLUMNS, contrast_activity, profile_activity, set_activity
from livermet.differential import differential_expression
from livermet.gene_sets import checked_path, read_gene_sets
from test_differential import as_profiles, profile_counts

OPTIONS = {"min_count": 5, "min_share": 0.25, "ambient_top": 5, "max_contamination": 0.2}
NO_AMBIENT = pd.DataFrame()
GENES = 200


def gene_set(name, up=(), down=(), kind="pathway"):
    return [
        {"set": name, "source_kind": kind, "gene": f"G{i:03d}", "weight": weight, "reference": ""}
        for weight, genes in ((1.0, up), (-1.0, down))
        for i in genes
    ]


SETS = [
    *gene_set("signed", up=range(8), down=range(8, 12)),
    *gene_set("other", up=range(40, 52), kind="tf"),
    *gene_set("small", up=[60, 61, 62, 63, 900, 901]),
]
ARMS = np.repeat([1, 0], [10, 14])
PROGRAMME = np.concatenate([np.repeat([1.2, -1.2], [8, 4]), np.zeros(GENES - 12)])


@pytest.fixture(scope="module")
def planted():
    """A type in which the signed set is active in the patients with the label."""
    return as_profiles(profile_counts(np.random.default_rng(1), ARMS, planted=PROGRAMME, genes=GENES))


def compare(profiles, y):
    given = {"response": CONFIG}
    labels, patients = labels_table(y), patients_table(["C0"] * len(y))
    genes, tests = differential_expression(
        profiles,
        pd.DataFrame(columns=profiles.obs.columns[:6]),
        labels,
        patients,
        goes_with=["T0_pre"],
        scope="cohort",
        earlier_looks=0,
        ambient=NO_AMBIENT,
        **given,
        **OPTIONS,
    )
    activity = profile_activity(profiles, SETS, ambient=NO_AMBIENT, **OPTIONS)
    return activity, contrast_activity(activity, genes, tests, SETS, labels, patients, seed=1, **given)


def test_a_planted_programme_is_found_in_patients_and_contrast(planted):
    activity, contrast = compare(planted, ARMS)
    assert list(activity.columns) == COLUMNS
    assert list(contrast.columns) == CONTRAST_COLUMNS
    signed = activity[activity["set"] == "signed"].set_index("patient_id")["activity"].reindex(ids(24))
    assert signed[ARMS == 1].min() > signed[ARMS == 0].max()
    rows = contrast.set_index("set")
    assert rows.loc["signed", "activity"] > 5
    assert rows.loc["signed", "difference"] > 2
    assert rows.loc["signed", "q"] < 0.05
    assert abs(rows.loc["other", "activity"]) < 3
    assert rows.loc["other", "p"] > 0.01
    assert rows["kind"].to_dict() == {"other": "tf", "signed": "pathway", "small": "pathway"}


def test_sets_with_few_measured_genes_are_listed_as_not_measured(planted):
    activity = profile_activity(planted, SETS, ambient=NO_AMBIENT, **OPTIONS)
    small = activity[activity["set"] == "small"]
    assert len(small) == 24
    assert small[["activity", "p", "activity_among_types"]].isna().all(axis=None)
    assert small["n_genes"].max() <= 4
    only_small = profile_activity(
        planted, [row for row in SETS if row["set"] == "small"], ambient=NO_AMBIENT, **OPTIONS
    )
    assert only_small["activity"].isna().all()


def test_a_programme_that_single_patients_have_is_no_difference_between_classes():
    """Genes of a set go together in a patient, so that nearly each is far from the others; the classes are not."""
    below = 0
    genes = pd.DataFrame(columns=["modality", "cell_type", "gene", "statistic", "ambient"])
    tested = {"modality": "scrna", "cell_type": "nk", "n_alt": 10, "n_ref": 14, "design": "~ label", "status": "tested"}
    for seed in range(30):
        rng = np.random.default_rng(seed)
        profiles = as_profiles(profile_counts(rng, rng.normal(0, 1, 24), planted=PROGRAMME, genes=GENES))
        activity = profile_activity(profiles, SETS[:12], ambient=NO_AMBIENT, **OPTIONS)
        y = rng.permutation(ARMS)
        question = labels_table(y), patients_table(["C0"] * 24)
        table = contrast_activity(
            activity, genes, pd.DataFrame([tested]), SETS[:12], *question, response=CONFIG, seed=1
        )
        assert (activity["p"] < 0.05).mean() > 0.3
        below += table["p"].iloc[0] < 0.05
    assert below <= 5  # binomial(30, .05): more than 5 has probability .003


def test_activity_is_the_t_of_a_linear_model_over_genes():
    rng = np.random.default_rng(3)
    values = pd.DataFrame(rng.normal(size=(3, GENES)), columns=[f"G{i:03d}" for i in range(GENES)], index=list("abc"))
    table = set_activity(values, SETS).set_index(["profile", "set"])
    weights = np.zeros(GENES)
    weights[:8], weights[8:12] = 1, -1
    for name in values.index:
        fit = stats.linregress(weights, values.loc[name])
        np.testing.assert_allclose(table.loc[(name, "signed"), "activity"], fit.slope / fit.stderr)
        np.testing.assert_allclose(table.loc[(name, "signed"), "p"], fit.pvalue)


def test_soup_is_no_activity(planted):
    names = [f"G{i:03d}" for i in range(GENES)]
    ambient = pd.DataFrame({f"{name}-L": np.zeros(GENES) for name in ids(24)}, index=names)
    ambient.iloc[:5] = 0.9
    activity = profile_activity(planted, SETS, ambient=ambient, **OPTIONS)
    assert activity.loc[activity["set"] == "signed", "n_genes"].max() <= 7


def test_order_of_profiles_and_a_single_profile(planted):
    plain = profile_activity(planted, SETS, ambient=NO_AMBIENT, **OPTIONS)
    mixed = profile_activity(planted[::-1].copy(), SETS[::-1], ambient=NO_AMBIENT, **OPTIONS)
    pd.testing.assert_frame_equal(plain, mixed, rtol=1e-4)
    alone = profile_activity(planted[:1].copy(), SETS, ambient=NO_AMBIENT, **OPTIONS)
    assert alone["activity"].isna().all()
    assert list(profile_activity(planted[:0].copy(), SETS, ambient=NO_AMBIENT, **OPTIONS).columns) == COLUMNS


def test_nothing_is_fetched(monkeypatch, planted):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert profile_activity(planted, SETS, ambient=NO_AMBIENT, **OPTIONS)["activity"].notna().any()


def test_the_projects_sets_are_sound():
    table = pd.DataFrame(read_gene_sets())
    kinds = table.groupby("set")["source_kind"].first()
    assert (kinds == "tf").sum() >= 12
    assert table.groupby("set").size().min() >= 10
    assert table["gene"].str.fullmatch(r"[A-Z][A-Z0-9]*(-[A-Z0-9]+)?").all()
    assert set(table["weight"]) == {1.0, -1.0}
    assert (table["reference"].str.len() > 10).all()
    members = {name: set(rows["gene"]) for name, rows in table.groupby("set")}
    shared = [
        (a, b)
        for a in members
        for b in members
        if a < b and len(members[a] & members[b]) > 0.6 * len(members[a] | members[b])
    ]
    assert shared == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "set\tgene\tweight\nA\tTP53\t1\n",
            "column source_kind is missing; gene sets need the columns set, source_kind",
        ),
        ("set\tsource_kind\tgene\tweight\nA\tpath\tTP53\t1\n", "row 2: source_kind is 'path'; expected pathway or tf"),
        ("set\tsource_kind\tgene\tweight\nA\ttf\tTP53\tup\n", "row 2: weight is 'up'; expected a number that is not 0"),
        ("set\tsource_kind\tgene\tweight\nA\ttf\tTP53\t0\n", "weight is '0'"),
        ("set\tsource_kind\tgene\tweight\nA\ttf\tTP 53\t1\n", "gene is 'TP 53'; expected a gene symbol"),
        ("set\tsource_kind\tgene\tweight\n\ttf\tTP53\t1\n", "row 2: set is empty"),
        (
            "set\tsource_kind\tgene\tweight\nA\ttf\tTP53\t1\nA\ttf\tTP53\t1\n",
            "row 3: gene TP53 stands twice in the set A",
        ),
        ("set\tsource_kind\tgene\tweight\nA\ttf\tTP53\t1\nA\tpathway\tMYC\t1\n", "both pathway and tf"),
        ("set\tsource_kind\tgene\tweight\n", "no rows"),
    ],
)
def test_a_users_sets_are_checked(tmp_path, text, words):
    path = tmp_path / "sets.tsv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"sets\.tsv") as error:
        checked_path(str(path))
    assert words in str(error.value)


def test_a_users_sets_are_read_and_a_missing_file_is_named(tmp_path):
    path = tmp_path / "sets.tsv"
    path.write_text("set\tsource_kind\tgene\tweight\nA\ttf\tHLA-A\t-0.5\n", encoding="utf-8-sig")
    assert checked_path(str(path)) == [str(path)]
    assert read_gene_sets(path) == [{"set": "A", "source_kind": "tf", "gene": "HLA-A", "weight": -0.5, "reference": ""}]
    assert checked_path("") == []
    with pytest.raises(ValueError, match=r"none\.tsv: no such file"):
        checked_path(str(tmp_path / "none.tsv"))
