"""Labels from a reference and from a CellTypist model: planted types are found, unknown ones rejected, bad files named."""

import pickle
import socket

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, cohen_kappa_score
from sklearn.preprocessing import StandardScaler

from livermet import keys
from livermet.integrate import log_normalise
from livermet.transfer import (
    AGREEMENT_COLUMNS,
    UNASSIGNED,
    Transferred,
    agreement_table,
    celltypist_labels,
    comparison_row,
    read_reference,
    reference_findings,
    transfer_labels,
)

TYPES = ["b cell", "t cell", "fibroblast", "rare"]
N_GENES = 400


def planted(*, seed, sizes, platform=0.0, extra_type=0):
    """Counts of types that differ in 40 genes each; ``platform`` is the spread of a factor per gene between platforms."""
    profiles = np.random.default_rng(0).lognormal(0, 1, N_GENES) * np.ones((5, 1))
    for i in range(5):
        profiles[i, 40 * i : 40 * (i + 1)] *= 6
    rng = np.random.default_rng(seed)
    code = np.repeat([0, 1, 2, 3, 4], [*sizes, extra_type])
    mean = profiles[code] * rng.lognormal(0, platform, N_GENES)
    counts = rng.poisson(mean / mean.sum(axis=1, keepdims=True) * rng.lognormal(np.log(1500), 0.3, (len(code), 1)))
    names = pd.Index([f"G{i}" for i in range(N_GENES)])
    obs = pd.DataFrame({"label": [(*TYPES, "novel")[i] for i in code]}, index=[f"c{i}" for i in range(len(code))])
    var = pd.DataFrame({keys.GENE_ID: [f"ENSG{i:011d}" for i in range(N_GENES)]}, index=names)
    return ad.AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=obs, var=var)


def saved(adata, tmp_path, name="reference.h5ad"):
    adata.write_h5ad(tmp_path / name)
    return tmp_path / name


def transferred(cells, path, *, seed=1):
    reference, names = read_reference(path, labels="label", seed=seed)
    return transfer_labels(cells, reference, names, seed=seed)


REFERENCE = planted(seed=1, sizes=[120, 120, 80, 5])
CELLS = planted(seed=2, sizes=[60, 30, 90, 0], platform=0.5, extra_type=60)


def test_types_are_found_across_platforms_and_a_type_of_no_reference_is_rejected(tmp_path):
    given = transferred(CELLS, saved(REFERENCE, tmp_path))
    truth = CELLS.obs["label"].to_numpy()
    known = truth != "novel"
    stated = given.label != UNASSIGNED
    assert (given.label == truth)[known & stated].mean() >= 0.98
    assert stated[known].mean() >= 0.9
    assert stated[~known].mean() <= 0.2
    assert given.confidence[stated].min() >= 0.7
    assert given.n_shared_genes == N_GENES
    assert given.n_labels == 3  # a label of five cells can't be learnt


@pytest.mark.parametrize("form", ["log", "dense", "csc", "layer", "scaled log of 1e6"])
def test_every_form_of_the_same_reference_gives_the_same_labels(tmp_path, form):
    other = REFERENCE.copy()
    if form == "dense":
        other.X = other.X.toarray()
    elif form == "csc":
        other.X = other.X.tocsc()
    elif form == "log":
        other.X = log_normalise(other.X)
    elif form == "layer":
        other.layers["counts"] = other.X.copy()
        other.X = -other.X
    else:
        other.X = log_normalise(other.X, target_sum=1e6)
    expected = transferred(CELLS, saved(REFERENCE, tmp_path))
    given = transferred(CELLS, saved(other, tmp_path, "other.h5ad"))
    assert (given.label == expected.label).mean() >= 0.995


def test_genes_may_go_by_their_ids(tmp_path):
    expected = transferred(CELLS, saved(REFERENCE, tmp_path))
    other = REFERENCE.copy()
    other.var["feature_name"] = other.var_names.to_numpy()
    other.var_names = other.var[keys.GENE_ID].to_numpy()
    del other.var[keys.GENE_ID]
    assert (transferred(CELLS, saved(other, tmp_path, "ids.h5ad")).label == expected.label).all()
    without = CELLS.copy()
    del without.var[keys.GENE_ID]
    assert (transferred(without, saved(other, tmp_path, "ids.h5ad")).label == expected.label).all()


def test_the_order_of_cells_does_not_matter(tmp_path):
    path = saved(REFERENCE, tmp_path)
    turned = transferred(CELLS[::-1].copy(), path)
    assert (turned.label[::-1] == transferred(CELLS, path).label).all()


def test_cells_without_a_label_are_not_learnt_from(tmp_path):
    other = REFERENCE.copy()
    other.obs["label"] = pd.Categorical(other.obs["label"].where(np.arange(other.n_obs) % 4 > 0))
    reference, _ = read_reference(saved(other, tmp_path), labels="label", seed=1)
    assert set(reference.obs["label"]) == {"b cell", "t cell", "fibroblast"}
    assert reference.n_obs == 240


def test_too_few_common_genes_are_a_reason_and_no_crash(tmp_path):
    given = transferred(CELLS, saved(REFERENCE[:, :150].copy(), tmp_path))
    assert "shares 150 genes" in given.reason
    assert (given.label == "").all()
    row = comparison_row("reference", CELLS.obs["label"].to_numpy(), given)
    assert row["reason"] == given.reason
    assert np.isnan(row["adjusted_rand"])


def test_no_cells_are_a_reason(tmp_path):
    assert transferred(CELLS[:0].copy(), saved(REFERENCE, tmp_path)).reason == "no cells"


def test_scaled_values_are_refused(tmp_path):
    other = REFERENCE.copy()
    other.X = other.X - sparse.csr_matrix(np.ones(other.shape, dtype=np.float32))
    with pytest.raises(ValueError, match=r"other.h5ad: X holds negative.*layers\['counts'\]"):
        read_reference(saved(other, tmp_path, "other.h5ad"), labels="label", seed=1)


def test_a_file_that_cannot_be_a_reference_is_found_before_anything_runs(tmp_path):
    def problem(path, labels="label"):
        (finding,) = reference_findings(path, labels=labels)
        assert finding.severity == "error"
        return f"{finding.message}; {finding.remedy}"

    path = saved(REFERENCE, tmp_path)
    assert reference_findings(path, labels="label") == []
    assert "did you mean 'label'?" in problem(path, "labels")
    assert "no such file" in problem(tmp_path / "absent.h5ad")
    (tmp_path / "text.h5ad").write_text("no HDF5")
    assert "cannot be opened as HDF5" in problem(tmp_path / "text.h5ad")
    with h5py.File(tmp_path / "other.h5ad", "w") as file:
        file["matrix"] = np.zeros(3)
    assert "holds no X" in problem(tmp_path / "other.h5ad")
    one = REFERENCE.copy()
    one.obs["label"] = "cell"
    assert "1 labels" in problem(saved(one, tmp_path, "one.h5ad"))


def model_file(tmp_path, *, older=False):
    """A model as celltypist writes it, learnt from the reference; ``older`` as of sklearn 0.24."""
    learnt = REFERENCE[REFERENCE.obs["label"] != "rare"]
    scaler = StandardScaler().fit(log_normalise(learnt.X).toarray())
    values = np.minimum(scaler.transform(log_normalise(learnt.X).toarray()), 10)
    classifier = LogisticRegression(C=0.1).fit(values, learnt.obs["label"].astype(str).to_numpy())
    classifier.features = learnt.var_names.to_numpy()
    if older:
        classifier.__dict__ |= {"multi_class": "ovr", "l1_ratio": None, "penalty": "l2"}
    description = {"date": "", "details": "", "url": "", "source": "", "version": "", "number_celltypes": 3}
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"Model": classifier, "Scaler_": scaler, "description": description}))
    return path


@pytest.mark.filterwarnings("ignore:`__version__` is deprecated:FutureWarning")
@pytest.mark.parametrize("older", [False, True])
def test_a_celltypist_model_labels_cells_without_network_or_traces_at_home(tmp_path, monkeypatch, older):
    def refuse(*_, **__):
        raise AssertionError("tried to go online")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CELLTYPIST_FOLDER", raising=False)
    cells = planted(seed=3, sizes=[60, 30, 90, 0])
    given = celltypist_labels(cells, model_file(tmp_path, older=older))
    truth = cells.obs["label"].to_numpy()
    assert (given.label == truth).mean() >= 0.95
    assert given.n_labels == 3
    assert not (tmp_path / "home" / ".celltypist").exists()
    turned = celltypist_labels(cells[::-1].copy(), model_file(tmp_path, older=older))
    assert (turned.label[::-1] == given.label).all()


@pytest.mark.filterwarnings("ignore:`__version__` is deprecated:FutureWarning")
def test_a_file_that_is_no_model_is_named(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"something": "else"}))
    with pytest.raises(ValueError, match=r"model\.pkl: is no CellTypist model"):
        celltypist_labels(CELLS, path)


def test_agreement_is_that_of_sklearn_over_what_both_sides_state():
    rng = np.random.default_rng(1)
    own = rng.choice(["b_cell", "t_reg", "mast", keys.UNKNOWN], 300)
    label = np.where(rng.random(300) < 0.7, own, rng.choice(["b_cell", "t_reg"], 300)).astype(object)
    label = np.array(["B cell" if name == "b_cell" else "T-reg" if name == "t_reg" else UNASSIGNED for name in label])
    given = Transferred(label, np.ones(300), n_labels=2)
    row = comparison_row("reference", own.astype(object), given)
    stated = (own != keys.UNKNOWN) & (label != UNASSIGNED)
    assert row["adjusted_rand"] == pytest.approx(adjusted_rand_score(own[stated], label[stated]))
    both = stated & np.isin(own, ["b_cell", "t_reg"])
    same = np.where(label[both] == "B cell", "b_cell", "t_reg")
    assert row["kappa"] == pytest.approx(cohen_kappa_score(own[both], same))
    assert row["agreement"] == pytest.approx((own[both] == same).mean())
    assert row["n_common_labels"] == 2
    assert row["n_unassigned"] == (label == UNASSIGNED).sum()


def test_names_without_anything_in_common_leave_the_partition_to_be_compared():
    own = np.repeat(["b_cell", "t_reg"], 20).astype(object)
    given = Transferred(np.repeat(["alpha", "beta"], 20).astype(object), np.ones(40), n_labels=2)
    row = comparison_row("reference", own, given)
    assert row["adjusted_rand"] == 1
    assert np.isnan(row["kappa"])
    table = agreement_table("reference", own, given.label)
    assert list(table.columns) == list(AGREEMENT_COLUMNS)
    assert table[["cell_type", "label", "n_cells", "share"]].to_numpy().tolist() == [
        ["b_cell", "alpha", 20, 1.0],
        ["t_reg", "beta", 20, 1.0],
    ]
