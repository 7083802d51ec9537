"""A real pancreatic tumour (Moncada et al. 2020, PDAC-A) as a study of one patient, by tables and config alone."""

import anndata as ad
import pandas as pd
import pytest

from livermet.files import read_table
from workspace import Workspace

COMPARTMENT_OF_AUTHORS = {
    "Ductal": "epithelial",
    "Cancer clone": "epithelial",
    "Tuft": "epithelial",
    "Acinar": "pancreas_only",
    "T cells & NK": "lymphoid",
    "mDCs": "myeloid",
    "pDCs": "myeloid",
    "Monocytes": "myeloid",
    "Macrophages": "myeloid",
    "Mast": "myeloid",
    "RBCs": "blood",
    "Endothelial": "endothelial",
    "Fibroblasts": "mesenchymal",
}


@pytest.fixture(scope="module")
def finished(real_data, home, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pdac")
    study = folder / "study"
    study.mkdir()
    source = real_data / "pdac_a"
    tables = {
        "patients": "patient_id\tcentre\tcohort\nPDAC-A\tNYU\tlimited_liver\n",
        "samples": "sample_id\tpatient_id\ttimepoint\ttissue\nPDAC-A-T\tPDAC-A\tT0_pre\tprimary\n",
        "libraries": "library_id\tsample_id\tmodality\tbatch\tpath\tpixel_um\n"
        f"PDAC-A-cells\tPDAC-A-T\tscrna\tB01\t{source / 'cells.h5ad'}\t\n"
        f"PDAC-A-spots\tPDAC-A-T\tvisium\tB01\t{source / 'spots.h5ad'}\t200\n",
        "response": "patient_id\trecist\nPDAC-A\tPR\n",
    }
    for name, text in tables.items():
        (study / f"{name}.tsv").write_text(text)
    config = {"study": str(study), "results": "results", "roots": [str(source)], "response": {"tissues": ["primary"]}}
    workspace = Workspace(folder / "work", home, config)
    workspace.snakemake()
    return workspace


def test_it_reaches_the_report_and_is_not_called_simulated(finished):
    report = finished.results("cohort", "report.html").read_text()
    assert "SIMULATED" not in report
    assert "PDAC-A" in report
    assert (read_table(finished.results("cohort", "status.tsv"))["status"] == "ok").all()


def test_annotation_agrees_with_the_authors_compartments(finished, real_data):
    authors = ad.read_h5ad(real_data / "pdac_a/cells.h5ad", backed="r").obs["cell_type_author"].astype(str)
    expected = authors.map(
        lambda label: next((v for k, v in COMPARTMENT_OF_AUTHORS.items() if label.startswith(k)), None)
    )
    cells = ad.read_h5ad(finished.results("cohort", "cells.h5ad"), backed="r").obs
    found = pd.Series(
        cells["compartment"].astype(str).to_numpy(), index=[name.split(":", 1)[1] for name in cells.index]
    )
    # Cells that QC removed count as disagreement: what is asked is the share of all cells of the authors.
    agreement = (found.reindex(expected.index) == expected).mean()
    assert agreement >= 0.85, f"agreement {agreement:.3f}"


def test_every_response_statement_is_refused_with_its_reason(finished):
    table = read_table(finished.results("cohort", "associations.tsv"))
    assert len(table) > 0
    assert (table["status"] == "refused").all()
    assert table["p"].isna().all()
    assert table["refusal_code"].notna().all()
    assert (table["refusal_reason"].str.len() > 20).all()
