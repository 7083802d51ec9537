"""Overrides: what the file may say, what it does to the cells, and that everything wrong is said at once."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from defaults import DEFAULTS
from livermet import keys
from livermet.annotate import annotate_cells
from livermet.findings import errors
from livermet.genes import gene_positions
from livermet.integrate import cluster, embed, pool_libraries
from livermet.markers import load_markers
from livermet.overrides import (
    OVERRIDE_COLUMNS,
    annotation_findings,
    apply_overrides,
    load_overrides,
    override_table,
    read_overrides,
)
from livermet.study import load_study
from planted_cells import planted_cells, rows_of


def written(tmp_path, text, name="overrides.tsv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def cells():
    """Six T cells in cluster c00 (groups g00, g01) and four epithelial ones in c01 (g02)."""
    obs = pd.DataFrame(index=[f"L1:{i:02d}" for i in range(10)])
    obs[keys.CLUSTER] = pd.Categorical(["c00"] * 6 + ["c01"] * 4)
    obs[keys.GROUP] = pd.Categorical(["g00"] * 3 + ["g01"] * 3 + ["g02"] * 4)
    obs[keys.CELL_TYPE] = pd.Categorical(["t_reg"] * 5 + ["unknown"] + ["malignant_ductal"] * 4)
    obs[keys.COMPARTMENT] = pd.Categorical(["lymphoid"] * 6 + ["epithelial"] * 4)
    obs[keys.CONFIDENCE] = np.linspace(0.5, 0.95, 10)
    call = ["normal"] * 6 + ["malignant"] * 3 + ["not_tested"]
    obs[keys.MALIGNANT] = pd.Categorical(call, categories=keys.MALIGNANT_CALLS)
    return AnnData(sparse.csr_matrix((10, 3)), obs=obs)


def applied(tmp_path, text):
    table = load_overrides(str(written(tmp_path, text)))
    adata = apply_overrides(cells(), table)
    return adata.obs, override_table(adata.obs, table)


def test_without_overrides_only_the_source_of_the_labels_is_added():
    before = cells().obs
    after = apply_overrides(cells(), load_overrides("")).obs
    pd.testing.assert_frame_equal(after[before.columns], before)
    assert (after[keys.LABEL_SOURCE] == "markers").all()
    assert (after[keys.CELL_TYPE_MARKERS].astype(str) == before[keys.CELL_TYPE].astype(str)).all()
    assert list(override_table(after, None).columns) == list(OVERRIDE_COLUMNS)


def test_compartment_malignancy_and_confidence_follow_the_label(tmp_path):
    obs, _ = applied(
        tmp_path,
        "cluster\tcell\tcell_type\tnote\n"
        "g00\t\ttam_C1QC\tsaw CD68\n"
        "\tL1:03\tmalignant_ductal\t\n"
        "\tL1:06\tunknown\t\n"
        "\tL1:07\tepithelial_uncertain\t\n"
        "\tL1:08\tcholangiocyte\t\n",
    )
    got = obs[[keys.CELL_TYPE, keys.COMPARTMENT, keys.MALIGNANT]].astype(str)
    assert got.iloc[0].to_list() == ["tam_C1QC", "myeloid", "normal"]
    assert got.iloc[3].to_list() == ["malignant_ductal", "epithelial", "malignant"]
    assert got.iloc[6].to_list() == ["unknown", "unknown", "ambiguous"]
    assert got.iloc[7].to_list() == ["epithelial_uncertain", "epithelial", "ambiguous"]
    assert got.iloc[8].to_list() == ["cholangiocyte", "epithelial", "normal"]
    assert got.iloc[9].to_list() == ["malignant_ductal", "epithelial", "not_tested"]
    overridden = (obs[keys.LABEL_SOURCE] == "override").to_numpy()
    assert np.flatnonzero(overridden).tolist() == [0, 1, 2, 3, 6, 7, 8]
    assert obs.loc[overridden, keys.CONFIDENCE].isna().all()
    assert (obs.loc[~overridden, keys.CONFIDENCE] == cells().obs.loc[~overridden, keys.CONFIDENCE]).all()
    assert list(obs[keys.MALIGNANT].cat.categories) == list(keys.MALIGNANT_CALLS)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_a_group_wins_over_its_cluster_and_a_cell_over_both_whatever_the_order_of_rows(tmp_path, order):
    rows = ["c00\t\tb_cell\tall of them", "g01\t\tplasma\t", "\tL1:05\tt_reg\t"]
    obs, table = applied(tmp_path, "\n".join(["cluster\tcell\tcell_type\tnote", *(rows[i] for i in order)]) + "\n")
    assert obs[keys.CELL_TYPE].astype(str).to_list()[:6] == ["b_cell"] * 3 + ["plasma"] * 2 + ["t_reg"]
    table = table.set_index("target")
    assert table["kind"].to_dict() == {"c00": "cluster", "g01": "group", "L1:05": "cell"}
    assert table["n_cells"].to_dict() == {"c00": 3, "g01": 2, "L1:05": 1}
    assert table["from"].to_dict() == {"c00": "t_reg: 3", "g01": "t_reg: 2", "L1:05": "unknown: 1"}
    assert table.loc["c00", "note"] == "all of them"
    assert table.loc["c00", "row"] == order.index(0) + 2


def test_cells_that_already_had_the_label_are_counted_as_unchanged(tmp_path):
    obs, table = applied(tmp_path, "cluster\tcell_type\nc00\tt_reg\n")
    assert table[["n_cells", "n_changed", "from"]].to_numpy().tolist() == [[6, 1, "t_reg: 5, unknown: 1"]]
    assert (obs[keys.LABEL_SOURCE] == "override").sum() == 6


def test_the_order_of_cells_does_not_matter(tmp_path):
    table = load_overrides(str(written(tmp_path, "cluster\tcell\tcell_type\nc00\t\tb_cell\n\tL1:01\tplasma\n")))
    turned = apply_overrides(cells()[::-1].copy(), table).obs.iloc[::-1]
    pd.testing.assert_frame_equal(turned, apply_overrides(cells(), table).obs)


def test_everything_that_this_run_does_not_have_is_named_at_once(tmp_path):
    text = "cluster\tcell\tcell_type\nc09\t\tb_cell\nc00\t\tb_cell\n\tL9:01\tplasma\n"
    with pytest.raises(
        ValueError, match=r"2 of 3 rows.*row 2: no cluster or group 'c09'; row 4: no cell 'L9:01'"
    ) as error:
        applied(tmp_path, text)
    assert "c00 to c01" in str(error.value)
    assert "g00 to g02" in str(error.value)


def test_a_scope_without_cells_is_left_as_it_is(tmp_path):
    table = load_overrides(str(written(tmp_path, "cluster\tcell_type\nc00\tb_cell\n")))
    empty = apply_overrides(cells()[:0].copy(), table)
    assert override_table(empty.obs, table)["n_cells"].to_list() == [0]


def test_all_problems_of_the_file_are_found_before_anything_runs(tmp_path):
    path = written(
        tmp_path,
        "cluster\tcell\tcell_type\tnote\n"
        "c00\tL1:00\tb_cell\t\n"  # both
        "\t\tplasma\t\n"  # neither
        "c01\t\tT_regs\t\n"  # no such type
        "c02\t\t\t\n"  # no type
        "c03\t\tb_cell\t\n"
        "c03\t\tplasma\t\n"  # twice
        "c04\t\tb_cell\task anna.berg@example.org\n",
    )
    found = errors(read_overrides(path).findings)
    said = {(finding.row, finding.message): finding for finding in found}
    assert {row for row, _ in said} == {2, 3, 4, 5, 7, 8}
    assert said[4, "is not an allowed value"].remedy.startswith("did you mean 't_reg'?")
    assert "names both a cluster and a cell" in {message for row, message in said if row == 2}
    assert "names neither a cluster nor a cell" in {message for row, message in said if row == 3}
    assert all("anna" not in finding.value for finding in found)
    with pytest.raises(ValueError, match="did you mean 't_reg'"):
        load_overrides(str(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cluster\tcell\nc00\t\n", "required column cell_type is missing"),
        ("", "the file is empty"),
        ("cluster\tcell_type\n", "holds no row"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, text, words):
    assert any(words in finding.message for finding in read_overrides(written(tmp_path, text)).findings)


def config(**annotate):
    return DEFAULTS["annotate"] | annotate


def test_missing_files_are_found_without_reading_anything_else(tmp_path):
    named = config(overrides="a.tsv", reference="b.h5ad", celltypist_model="c.pkl")
    found = annotation_findings(named, workdir=tmp_path)
    keys_found = {finding.column for finding in found}
    assert keys_found == {"annotate.overrides", "annotate.reference", "annotate.celltypist_model"}
    assert all(finding.severity == "error" for finding in found)
    assert annotation_findings(config(), workdir=tmp_path) == []


def test_the_study_lists_them_among_its_findings(tmp_path):
    path = written(tmp_path, "cluster\tcell_type\nc00\thepatocytes\n")
    study = load_study(DEFAULTS | {"annotate": config(overrides=path.name)}, workdir=tmp_path)
    assert any(finding.table == path.name and "'hepatocyte'" in finding.remedy for finding in study.findings)


def test_states_are_scored_by_the_label_of_the_user(tmp_path):
    libraries = planted_cells(seed=1, n_patients=2, n_cells=150, n_genes=1500, types=["b_cell", "caf_pan"], novel=0)
    pooled = pool_libraries(libraries, rows_of(libraries), min_genes_shared=0.5)
    pooled = embed(pooled, batch_key="library_id", n_hvg=500, n_pcs=10, n_neighbours=10, harmony=False, seed=1)
    pooled, _ = cluster(pooled, resolutions=[0.3], n_stability=1, seed=1)
    path = written(tmp_path, "cluster\tcell_type\nc00\thsc\n")
    options = {"annotate": DEFAULTS["annotate"], "cnv": DEFAULTS["cnv"], "seed": 1}
    adata, *_ = annotate_cells(pooled, load_markers(), gene_positions(), **options, overrides=load_overrides(str(path)))
    named = (adata.obs[keys.CLUSTER] == "c00").to_numpy()
    assert (adata.obs.loc[named, keys.CELL_TYPE] == "hsc").all()
    assert adata.obs.loc[named, "score_hsc_activated"].notna().all()
    assert adata.obs.loc[~named, "score_hsc_activated"].isna().all()
