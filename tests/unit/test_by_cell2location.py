"""The form of cell2location's answer, on a stand-in for the package, which the project does not require."""

import sys
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData

import spatial_generator as generator
from livermet import by_cell2location, deconvolve
from livermet.config import load_yaml
from livermet.contents import section_contents
from livermet.study import DEFAULT_CONFIG, load_study


class StandIn:
    """Records what it is given; its posterior is the counts' share on each profile, times the quantile."""

    given: ClassVar[dict] = {}

    @classmethod
    def setup_anndata(cls, adata, batch_key):
        assert adata.obs[batch_key].nunique() == 1

    def __init__(self, adata, cell_state_df, **options):
        assert (adata.X.sum(axis=1) > 0).all()
        assert list(cell_state_df.index) == list(adata.var_names)
        StandIn.given = {**options, "types": list(cell_state_df.columns)}
        self.weight = np.asarray(adata.X @ (cell_state_df / cell_state_df.sum()).to_numpy())

    def train(self, **options):
        StandIn.given |= options

    def posterior_quantile(self, q, batch_size):
        return {"w_sf": self.weight * 2 * q}


@pytest.fixture
def stand_in(monkeypatch):
    models = ModuleType("cell2location.models")
    models.Cell2location = StandIn
    scvi = ModuleType("scvi")
    scvi.settings = SimpleNamespace(seed=None)
    for name, module in (("cell2location", ModuleType("cell2location")), ("cell2location.models", models)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "scvi", scvi)
    return scvi


OPTIONS = {"cells_per_spot": 8, "detection_alpha": 20, "epochs": 300}


def parts():
    means = generator.expression(seed=0)
    cells = generator.reference_cells(means, seed=10)
    tissue = generator.tissue(seed=0, n_rows=6, n_cols=6)
    counts = generator.spot_counts(means, tissue.fractions, seed=20)
    counts[3] = 0
    reference = deconvolve.reference_profiles(cells, min_cells=20, min_malignant_cells=25, split_states=[])
    return sp.csr_matrix(counts), deconvolve.profiles_of_patient(reference, "P9")


def test_the_answer_has_the_form_of_our_own(stand_in):
    counts, profiles = parts()
    names = generator.gene_names(counts.shape[1])
    choice = {"markers": {}, "n_genes_per_type": 60}
    found = by_cell2location.cell2location_abundances(counts, names, profiles, **choice, **OPTIONS, seed=7)
    own = deconvolve.abundances(counts, names, profiles, **choice, n_bootstrap=0, seed=7)
    assert (found.types, found.n_genes, found.reason) == (own.types, own.n_genes, "")
    assert np.isnan(found.fractions[3]).all() and np.isnan(found.ci_high[3]).all()
    filled = np.arange(counts.shape[0]) != 3
    np.testing.assert_allclose(found.fractions[filled].sum(axis=1), 1)
    assert (found.ci_low[filled] <= found.fractions[filled]).all()
    assert (found.fractions[filled] <= found.ci_high[filled]).all()
    assert stand_in.settings.seed == 7
    assert StandIn.given["N_cells_per_location"] == 8 and StandIn.given["max_epochs"] == 300
    assert StandIn.given["types"] == list(found.types)
    nothing = by_cell2location.cell2location_abundances(counts[:0], names, profiles, **choice, **OPTIONS, seed=7)
    assert nothing.reason == "the section holds no spots"


@pytest.mark.parametrize(("resolution", "asked"), [("spot", True), ("bin", False)])
def test_spots_alone_go_to_cell2location(stand_in, resolution, asked):
    counts, profiles = parts()
    section = AnnData(counts)
    section.var_names = generator.gene_names(counts.shape[1])
    section.uns["livermet"] = {"resolution": resolution}
    StandIn.given = {}
    found = section_contents(
        section,
        profiles,
        n_genes_per_type=60,
        n_bootstrap=0,
        min_label_confidence=0.5,
        deconvolution="cell2location",
        cell2location=OPTIONS,
        seed=1,
    )
    assert bool(StandIn.given) == asked
    assert len(found.table) == counts.shape[0] * len(found.types)


@pytest.mark.parametrize("there", [True, False])
def test_a_study_that_asks_for_it_without_having_it_is_told_before_anything_runs(tmp_path, monkeypatch, there):
    monkeypatch.setattr(by_cell2location, "installed", lambda: there)
    config = load_yaml(DEFAULT_CONFIG)
    spatial = config["spatial"] | {"deconvolution": "cell2location"}
    found = load_study(config | {"spatial": spatial}, workdir=tmp_path).findings
    told = [finding for finding in found if finding.column == "spatial.deconvolution"]
    assert bool(told) != there
    assert all(finding.severity == "error" and "set regression" in finding.remedy for finding in told)
