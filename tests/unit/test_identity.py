"""Whether libraries are of the patient and tissue of the tables, from counts: every outcome, and none where it can't be told."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from livermet import keys
from livermet.files import read_table
from livermet.identity import ACINAR_GENES, NULL_GENES, Y_GENES, identity_findings, library_evidence
from livermet.qc import cell_metrics
from livermet.readers import read_10x
from livermet.simulate import simulate_study
from livermet.status import scope_statuses, status_table

TOTAL = 5_000_000
# Counts per million in people who have the gene, and in all.
LEVELS = {"GSTM1": 40, "GSTT1": 30, "ERAP2": 40, "HLA-DRB4": 200, "HLA-DRB5": 300}
COMPANIONS = {"GSTM2": 30, "GSTM3": 40, "GSTM4": 20, "ERAP1": 40, "LNPEP": 40, "HLA-DRA": 900, "HLA-DRB1": 500}


def library(name, patient="P1", *, sex="F", is_sex=None, lacks=(), total=TOTAL, scale=1.0, acinar=0.0, **changes):
    """Status and row of a library: ``is_sex`` by its counts, without the genes that its patient lacks."""
    women = (is_sex or sex) == "F"
    million = {
        "XIST": 150 if women else 0.2,
        "RPS4Y1": 0 if women else 100,
        "DDX3Y": 1 if women else 40,
        "UTY": 0 if women else 20,
    }
    million |= COMPANIONS | {gene: scale * level * (0.004 if gene in lacks else 1) for gene, level in LEVELS.items()}
    million |= dict.fromkeys(ACINAR_GENES, 0) | {"PRSS1": 1e4 * acinar} | changes.pop("million", {})
    counts = {gene: round(level * total / 1e6) for gene, level in million.items() if level is not None}
    evidence = {
        "n_genes": 20_000,
        "n_kept": 1000,
        "total": total,
        "counts": counts,
        "n_ductal": 300,
        "n_xist": 400,
        "n_y": 400,
        "n_both": 150,
        "fingerprint": [f"{name}-{i}" for i in range(32)],
    }
    row = {
        "library_id": name,
        "sample_id": f"S-{name}",
        "patient_id": patient,
        "sex": sex,
        "tissue": "liver_met",
        "modality": "scrna",
        "batch": "B1",
    }
    row |= {key: changes.pop(key) for key in list(changes) if key in row}
    evidence |= changes
    return {"library_id": name, "status": "ok", "reason": "", "n_in": 9, "n_out": 9, "identity": evidence}, row


# People of all kinds, who give every gene its usual level, also in sections.
OTHERS = [
    library(f"O{i}{modality}", f"O{i}", lacks=lacks, modality=modality, scale=1.0 if modality == "scrna" else 3.0)
    for i, lacks in enumerate([(), (), (), (), ("GSTM1", "HLA-DRB5")])
    for modality in ("scrna", "visium")
]


def findings_of(*libraries, others=OTHERS, max_acinar=5.0):
    pairs = [*libraries, *others]
    limits = {row["library_id"]: max_acinar for _, row in pairs}
    return identity_findings([s for s, _ in pairs], [r for _, r in pairs], max_acinar_percent=limits)


def outcome(*libraries, **options):
    return {(finding.severity, finding.value) for finding in findings_of(*libraries, **options)}


def test_people_as_the_tables_say_them_give_no_finding():
    assert findings_of(library("M", "P2", sex="M", lacks=("ERAP2",)), library("F", lacks=("GSTT1",))) == []


# ---------------------------------------------------------------------------------------------------------------- sex


SILENT = {"XIST": 0.2, "RPS4Y1": 0, "DDX3Y": 1, "UTY": 0}


@pytest.mark.parametrize(
    ("given", "expected", "words"),
    [
        ({"sex": "M", "is_sex": "F"}, "exclusion", "declared M, but XIST is expressed (150 per million) and no Y gene"),
        ({"sex": "F", "is_sex": "M"}, "exclusion", "declared F, but Y genes are expressed (160 per million"),
        ({"sex": "M", "million": SILENT}, "warning", "a tumour without the Y chromosome"),
        ({"sex": "F", "million": SILENT}, "warning", "a tumour without the inactive X chromosome"),
        ({"sex": "M", "million": {"XIST": 100}, "n_both": 150}, "warning", "a further X chromosome"),
        ({"sex": "M", "million": {"XIST": 100}, "n_both": 20}, "exclusion", "two persons were mixed"),
        ({"sex": "M", "million": {"XIST": 100}, "n_xist": 30, "n_y": 30, "n_both": 0}, "warning", "mixture of two"),
        ({"sex": "", "is_sex": "M"}, None, ""),
        ({"sex": "", "million": {"XIST": 100}}, None, ""),
        # Reads of DDX3X that look like DDX3Y make no man.
        ({"sex": "F", "million": {"DDX3Y": 60}}, None, ""),
        # A tenth of the molecules comes from a man's library of the same flow cell.
        ({"sex": "F", "million": {"RPS4Y1": 10, "DDX3Y": 4, "UTY": 2}}, None, ""),
        # XIST is in no panel of this library, as in inDrop data with old annotation.
        ({"sex": "F", "is_sex": "M", "million": {"XIST": None}}, "exclusion", "declared F"),
        ({"sex": "M", "million": {"XIST": None}}, None, ""),
        ({"sex": "M", "is_sex": "F", "million": dict.fromkeys(Y_GENES)}, "warning", "can't be told"),
    ],
)
def test_sex(given, expected, words):
    findings = findings_of(library("L", **given))
    assert [(f.severity, f.value, f.column, f.rule) for f in findings] == (
        [(expected, "L", "sex", "V17")] if expected else []
    )
    assert not findings or (words in findings[0].message and findings[0].remedy)


@pytest.mark.parametrize("total", [0, 1000, 100_000])
@pytest.mark.parametrize("sex", ["F", "M"])
def test_few_counts_say_nothing_of_silent_genes(sex, total):
    assert outcome(library("L", sex=sex, million=SILENT, total=total)) == set()
    assert ("exclusion", "L") not in outcome(library("L", sex="M", is_sex="F", total=total))


def test_a_sex_that_no_library_of_the_patient_bears_out_is_doubted_itself():
    libraries = [library(name, sex="F", is_sex="M") for name in "AB"]
    found = findings_of(*libraries)
    assert {(f.severity, f.value) for f in found} == {("exclusion", "A"), ("exclusion", "B")}
    assert all("all 2 libraries of the patient agree in this" in f.message for f in found)
    assert "another patient" in findings_of(libraries[0], library("C"))[0].message


# ------------------------------------------------------------------------------------------------------------- person


def test_two_libraries_of_two_persons_are_both_left_out():
    a, b = library("A", lacks=("GSTM1", "ERAP2")), library("B", lacks=("HLA-DRB4",), modality="visium", scale=3.0)
    findings = {finding.value: finding for finding in findings_of(a, b)}
    assert {name: finding.severity for name, finding in findings.items()} == {"A": "exclusion", "B": "exclusion"}
    assert findings["A"].column == "sample_id" and findings["A"].rule == "V17"
    for words in ("library B of the same patient", "GSTM1 is expressed in B and absent in A", "can't be told"):
        assert words in findings["A"].message


def test_the_library_that_disagrees_with_the_others_is_left_out():
    lacks = {"A": ("GSTM1",), "B": ("GSTM1",), "X": ("ERAP2", "HLA-DRB4"), "C": ("GSTM1",)}
    libraries = [library(name, lacks=genes) for name, genes in lacks.items()]
    assert outcome(*libraries) == {("exclusion", "X")}
    assert outcome(*libraries[::-1]) == {("exclusion", "X")}
    assert "can't be told" not in findings_of(*libraries)[0].message


def test_the_sex_points_to_the_wrong_one_of_two():
    a, b = library("A", sex="F", lacks=("GSTM1", "ERAP2")), library("B", sex="F", is_sex="M")
    assert outcome(a, b) == {("exclusion", "B")}


def test_a_man_and_a_woman_are_two_persons_also_where_no_sex_was_given():
    found = findings_of(library("A", sex="", is_sex="F"), library("B", sex="", is_sex="M"))
    assert {(f.severity, f.value) for f in found} == {("exclusion", "A"), ("exclusion", "B")}
    assert "XIST is expressed in A, Y genes in B" in found[0].message


def test_one_gene_is_a_warning_on_both_pages():
    assert outcome(library("A", lacks=("GSTM1",)), library("B")) == {("warning", "A"), ("warning", "B")}


def test_the_same_person_at_another_level_of_expression_agrees():
    for scale in (0.3, 3.0):
        assert outcome(library("A", lacks=("GSTT1",)), library("B", lacks=("GSTT1",), scale=scale)) == set()


@pytest.mark.parametrize(
    "changes",
    [
        {"total": 100_000},
        # Hardly a cell that could express them: their companions are as rare.
        {"million": dict.fromkeys(COMPANIONS, 0.4) | {"GSTT1": 30}},
        # References without alternative contigs hold HLA-DRB4 in no library of the batch.
        {"batch": "B2", "lacks": ("HLA-DRB4", "GSTM1", "ERAP2")},
        {"million": dict.fromkeys(NULL_GENES)},
        {"modality": "xenium"},
        {"n_genes": 400},
    ],
)
def test_a_person_that_cannot_be_told_excludes_nothing(changes):
    given = {"lacks": ("GSTM1", "ERAP2", "HLA-DRB4")} | changes
    assert not {name for severity, name in outcome(library("A"), library("B", **given)) if severity == "exclusion"}
    assert outcome(library("A"), library("B", lacks=("GSTM1", "ERAP2", "HLA-DRB4")), others=OTHERS[:2]) == set()


# -------------------------------------------------------------------------------------------------- copies and tissue


def test_one_file_under_two_patients_costs_both_and_is_named():
    a, b = library("A", "P1"), library("B", "P2")
    b[0]["identity"]["fingerprint"] = a[0]["identity"]["fingerprint"][:25] + ["x"] * 7
    found = {finding.value: finding for finding in findings_of(a, b)}
    assert {finding.severity for finding in found.values()} == {"exclusion"} and set(found) == {"A", "B"}
    assert "library B of patient P2" in found["A"].message and found["A"].column == "path"


def test_one_file_twice_for_one_patient_counts_once():
    a, b = library("A"), library("B")
    b[0]["identity"]["fingerprint"] = a[0]["identity"]["fingerprint"]
    assert outcome(a, b) == {("exclusion", "B")}


def test_libraries_without_fingerprint_are_no_copies():
    assert outcome(library("A", "P1", fingerprint=[]), library("B", "P2", fingerprint=[])) == set()


@pytest.mark.parametrize(
    ("tissue", "acinar", "limit", "expected"),
    [
        ("liver_met", 0.3, 5, None),
        ("liver_met", 0.8, 5, "warning"),
        ("liver_met", 5.5, 5, "exclusion"),
        ("liver_met", 5.5, 10, "warning"),
        ("liver_met", 0.3, 0.2, "exclusion"),
        ("primary", 30, 5, None),
    ],
)
def test_acinar_genes(tissue, acinar, limit, expected):
    found = findings_of(library("L", tissue=tissue, acinar=acinar), max_acinar=limit)
    assert [(f.severity, f.rule) for f in found] == ([(expected, "V18")] if expected else [])
    assert not found or f"{acinar:g} % of the counts" in found[0].message


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        ({"n_ductal": 9}, True),
        ({"n_ductal": 10}, False),
        ({"n_ductal": None}, False),
        ({"n_ductal": 0, "tissue": "primary"}, False),
        ({"n_ductal": 0, "modality": "visium", "scale": 3.0}, False),
    ],
)
def test_a_metastasis_without_ductal_cells(changes, warned):
    found = findings_of(library("L", **changes))
    assert [(f.severity, f.rule) for f in found] == ([("warning", "V18")] if warned else [])


def test_panels_are_named_once():
    panels = [library(f"X{i}", modality="xenium", sex="M", is_sex="F", acinar=20) for i in range(3)]
    found = findings_of(*panels, library("few", n_genes=500))
    assert [finding.severity for finding in found] == ["warning"]
    assert all(name in found[0].message for name in ("X0", "X1", "X2", "few"))


# ----------------------------------------------------------------------------------------------------------- evidence


def counts_of(genes, table, *, library="L1", suffix="-1"):
    names = [f"{library}:BC{i:04d}{suffix}" for i in range(len(table))]
    adata = AnnData(sparse.csr_matrix(np.asarray(table, dtype=np.int32)), obs=pd.DataFrame(index=names))
    adata.var_names = [f"g{i}" for i in range(len(genes))]
    adata.var[keys.SYMBOL] = genes
    return adata


def test_evidence_counts_kept_barcodes_alone():
    genes = ["XIST", "RPS4Y1", "GSTM1", "GSTM1", "KRT19", "KRT7", "EPCAM", "KRT8", "KRT18", "OTHER"]
    table = [
        [3, 0, 1, 2, 1, 1, 0, 0, 0, 5],
        [0, 2, 0, 0, 1, 0, 0, 9, 9, 5],
        [1, 1, 4, 0, 0, 2, 7, 0, 0, 5],
        [9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
    ]
    adata = counts_of(genes, table)
    evidence = library_evidence(adata, np.array([True, True, True, False]), cell_metrics(adata))
    assert evidence["counts"] == {"XIST": 4, "RPS4Y1": 3, "GSTM1": 7}
    assert (evidence["n_genes"], evidence["n_kept"], evidence["total"]) == (10, 3, int(np.sum(table[:3])))
    # Cells 1 and 3: keratins of hepatocytes do not count.
    assert evidence["n_ductal"] == 2
    assert (evidence["n_xist"], evidence["n_y"], evidence["n_both"]) == (2, 2, 1)
    json.dumps(evidence, allow_nan=False)


def test_evidence_of_a_panel_and_of_an_empty_library():
    adata = counts_of(["KRT19", "ALB"], [[1, 1]] * 3)
    evidence = library_evidence(adata, np.ones(3, dtype=bool), cell_metrics(adata))
    assert evidence["n_ductal"] is None and evidence["counts"] == {} and evidence["fingerprint"] == []
    empty = adata[:0].copy()
    evidence = library_evidence(empty, np.zeros(0, dtype=bool), cell_metrics(empty))
    assert (evidence["total"], evidence["n_kept"], evidence["fingerprint"]) == (0, 0, [])


def test_a_fingerprint_knows_a_file_by_its_content():
    rng = np.random.default_rng(1)
    genes = [f"G{i}" for i in range(50)]
    table = rng.poisson(2.0, (300, 50))

    def fingerprint(adata):
        return set(library_evidence(adata, np.ones(adata.n_obs, dtype=bool), cell_metrics(adata))["fingerprint"])

    first = fingerprint(counts_of(genes, table))
    assert first == fingerprint(counts_of(genes, table, library="other", suffix="-2"))
    assert first == fingerprint(counts_of(genes, table)[rng.permutation(300)])
    # Sections share their barcodes, but not their counts.
    assert len(first & fingerprint(counts_of(genes, rng.poisson(2.0, (300, 50))))) < 8
    assert len(first & fingerprint(counts_of(genes, table)[:250].copy())) > 20


def test_the_scope_decides_over_what_a_library_said_of_itself():
    statuses, rows = zip(library("A", "P1"), library("B", "P2"), strict=True)
    table = status_table(list(statuses), list(rows), left_out={"B": "of another person"})
    table.loc[0, "reason"] = None  # as an empty field is read
    scoped = scope_statuses(list(statuses), table)
    assert [(s["status"], s["reason"]) for s in scoped] == [("ok", ""), ("excluded", "of another person")]
    assert scoped[1]["identity"] == statuses[1]["identity"]


# -------------------------------------------------------------------------------------------- simulated and real data


def study_findings(folder):
    """Findings on a simulated study, from its raw files without quality control."""
    tables = {name: read_table(folder / "study" / f"{name}.tsv") for name in ("patients", "samples", "libraries")}
    rows = tables["libraries"].merge(tables["samples"], on="sample_id").merge(tables["patients"], on="patient_id")
    statuses = []
    for row in rows.itertuples():
        path = folder / "study" / row.path
        adata = read_10x(path / "filtered_feature_bc_matrix.h5" if row.modality == "visium" else path)
        evidence = library_evidence(adata, np.ones(adata.n_obs, dtype=bool), cell_metrics(adata))
        statuses.append({"library_id": row.library_id, "identity": evidence})
    return identity_findings(
        statuses, rows.to_dict(orient="records"), max_acinar_percent=dict.fromkeys(rows["library_id"], 5.0)
    )


def test_traps_of_a_simulated_study_are_found_and_nothing_else(tmp_path):
    small = {"n_cells": 300, "n_spots": 250, "n_genes": 3000, "n_empty": 100, "image_pixels": 100, "n_xenium": 0}
    traps = {"sample_swap": "cross_sex", "duplicated_patient": True}
    simulate_study(tmp_path, size="tiny", seed=3, **small, **traps)
    truth = read_table(tmp_path / "truth" / "traps.tsv")
    found = study_findings(tmp_path)
    assert {(finding.severity, finding.column) for finding in found} == {("exclusion", "sex"), ("exclusion", "path")}
    assert {f.value for f in found if f.column == "sex"} == set(truth.loc[truth["trap"] == "sample_swap", "library_id"])
    copies = truth[truth["trap"] == "duplicated_patient"]
    assert {f.value for f in found if f.column == "path"} == {*copies["library_id"], *copies["holds"]}


def test_cells_and_spots_of_one_real_tumour_are_of_one_man(real_data):
    libraries = []
    for name, modality in (("cells", "scrna"), ("spots", "visium")):
        adata = ad.read_h5ad(real_data / "pdac_a" / f"{name}.h5ad")
        adata.X = sparse.csr_matrix(adata.X).astype(np.int32)
        adata.var[keys.SYMBOL] = adata.var_names
        evidence = library_evidence(adata, np.ones(adata.n_obs, dtype=bool), cell_metrics(adata))
        status, row = library(name, sex="", tissue="primary", modality=modality)
        libraries.append((status | {"identity": evidence}, row))
    others = [(status, row | {"tissue": "primary"}) for status, row in OTHERS]
    assert outcome(*libraries, others=others) == set()
    for _, row in libraries:
        row["sex"] = "M"
    assert outcome(*libraries, others=others) == set()
    stranger = library("stranger", sex="M", tissue="primary", lacks=("GSTM1", "ERAP2"))
    assert outcome(*libraries, stranger, others=others) == {("exclusion", "stranger")}
    for _, row in libraries:
        row["sex"] = "F"
    assert outcome(*libraries, others=[]) == {("exclusion", "cells"), ("exclusion", "spots")}
    for _, row in libraries:
        row |= {"sex": "M", "tissue": "liver_met"}
    found = findings_of(*libraries, others=[])
    assert {(f.severity, f.value, f.rule) for f in found} == {
        ("warning", "cells", "V18"),
        ("exclusion", "spots", "V18"),
    }
