"""Bad input in config, tables and paths of a small study: each case breaks one thing."""

from __future__ import annotations

import shutil
from pathlib import Path

from corpus import Case
from damage import (
    both,
    edit,
    edits,
    makes_h5,
    molecule_info,
    recodes,
    removes,
    separates,
    truncates,
    writes,
)
from study_files import write_10x

TRIAL = """
name: other
title: Other
cohorts: {limited_liver: {description: a}, extended_liver: {description: a}}
"""


def nothing(folder: Path) -> None:
    """The config alone is at fault."""


def outside(folder: Path) -> None:
    """Move a file out of the study, and name it there."""
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    write_10x(elsewhere / "L1.h5")
    edit(folder, "libraries", "raw/L1.h5", "../elsewhere/L1.h5")


def link_outside(folder: Path) -> None:
    """Leave a link in the place of a file."""
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    shutil.move(folder / "raw/L1.h5", elsewhere / "L1.h5")
    (folder / "raw/L1.h5").symlink_to(elsewhere / "L1.h5")


CASES = [
    # --- the file as a table
    Case("utf16", recodes("patients", "utf-16"), "stops", ("patients.tsv", "UTF-16", "UTF-8")),
    Case("latin1", recodes("patients", "latin-1"), "stops", ("patients.tsv", "2", "Latin-1")),
    Case("blanks", separates("blood", "  "), "stops", ("separated by blanks",)),
    Case("excel", writes("patients.tsv", b"PK\x03\x04\x14\x00rest"), "stops", ("spreadsheet",)),
    Case("html", writes("blood.tsv", "<!DOCTYPE html><html></html>"), "stops", ("web page",)),
    Case("zero bytes", writes("patients.tsv", ""), "stops", ("patients.tsv", "empty")),
    Case("header only", writes("samples.tsv", "sample_id\tpatient_id\ttimepoint\ttissue\n"), "stops", ("no rows",)),
    Case(
        "extra field",
        edits("patients", "P2\tOslo", "P2\tOslo\tNorway"),
        "stops",
        ("3", "9 fields", "8", "wrong column"),
    ),
    Case("missing field", edits("patients", "P2\tOslo\t", "P2\t"), "stops", ("3", "7 fields", "too few")),
    Case("quote", edits("patients", "Malmö", '"Mal"mö'), "stops", ("2", "quotation mark")),
    Case("open quote", edits("patients", "Malmö", '"Malmö'), "stops", ("2", "quotation mark")),
    Case("line break in cell", edits("patients", "Malmö", '"Mal\nmö"'), "stops", ("2", "line break")),
    Case("column twice", edits("patients", "centre\tcohort", "centre\tcentre"), "stops", ("centre is there twice",)),
    Case("column misspelt", edits("patients", "centre", "center"), "stops", ("rename the column 'center'",)),
    Case("column without name", edits("patients", "\tage\t", "\t\t"), "stops", ("column 4 has no name",)),
    Case("column undeclared", edits("patients", "\tecog\t", "\tecgo\t"), "warns", ("ecgo", "not carried", "'ecog'")),
    # --- ids
    Case("id twice", edits("patients", "P2\t", "P1\t"), "stops", ("patients.tsv", "3", "P1", "already in row 2")),
    Case("id by case", edits("patients", "P2\t", "p1\t"), "stops", ("upper and lower case",)),
    Case("id with blank", edits("patients", "P2\t", "P 2\t"), "stops", ("cannot be an id", "P 2")),
    Case("id with slash", edits("libraries", "L2\t", "../L2\t"), "stops", ("cannot be an id", "../L2")),
    Case("id empty", edits("patients", "P2\t", "\t"), "stops", ("patient_id", "is empty")),
    Case("id too long", edits("patients", "P2\t", "P" * 65 + "\t"), "stops", ("at most 64",)),
    Case("sample of two", edits("samples", "S2\tP2", "S1\tP2"), "stops", ("S1", "under another patient")),
    Case("lost zeros", edits("samples", "003", "3"), "stops", ("samples.tsv", "4", "not in patients.tsv")),
    Case("orphan sample", edits("samples", "P2", "P9"), "stops", ("3", "patient_id", "P9", "not in patients.tsv")),
    Case("orphan by case", edits("samples", "P2", "p2"), "stops", ("p2", "write it as there: P2")),
    Case("orphan library", edits("libraries", "\tS2\t", "\tS7\t"), "stops", ("S7", "not in samples.tsv")),
    Case("orphan value", edits("blood", "P2", "P8"), "stops", ("blood.tsv", "P8")),
    Case("orphan pathology", writes("pathology.tsv", "sample_id\tcap_trs\nS9\t1\n"), "stops", ("pathology.tsv", "S9")),
    Case("value twice", edits("blood", "P2\t0", "P1\t0"), "stops", ("P1 + 0 + ca199", "already in row 2")),
    # --- values
    Case("enum", edits("samples", "liver_met", "liver"), "stops", ("tissue", "liver", "liver_met, adjacent_liver")),
    Case("enum by case", edits("libraries", "scrna", "scRNA"), "stops", ("did you mean 'scrna'",)),
    Case("decimal comma", edits("blood", "812.5", '"812,5"'), "stops", ("812,5", "decimal comma")),
    Case("date", edits("samples", "-3", "2024-02-11"), "stops", ("calendar date", "days from enrolment")),
    Case("age", edits("patients", "\t61\t", "\t610\t"), "stops", ("age", "610", "0 to 120")),
    Case("analyte", edits("blood", "ca199\t812.5", "CA19-9\t812.5"), "stops", ("CA19-9", "ca199")),
    Case("cohort", edits("patients", "extended_liver", "extended"), "stops", ("extended_liver", "trial file")),
    Case("pixel", edits("libraries", "0.5", "55"), "stops", ("55", "0.1 to 2")),
    Case("required cell", edits("libraries", "\tB02\t", "\t\t"), "stops", ("batch", "is empty")),
    # --- batches, labels, consent, lesions
    Case("reserved batch", edits("libraries", "B02", "cohort"), "stops", ("cohort", "reserved")),
    Case("batch by case", edits("libraries", "visium\tB02", "visium\tb01"), "stops", ("b01", "differs from batch B01")),
    Case("binary label", edits("response", "PR\thigh", "PR\tmiddle"), "stops", ("grade", "more than two values")),
    Case("no consent", edits("patients", "41\tyes", "41\t"), "stops", ("consent_omics", "is empty")),
    Case(
        "withdrawn", edits("patients", "41\tyes", "41\twithdrawn"), "warns", ("patients: 1", "removed from every table")
    ),
    Case("no omics", edits("patients", "41\tyes", "41\tno"), "warns", ("patients: 1", "libraries lost: 1")),
    Case(
        "lesion",
        lambda f: (
            writes("lesions.tsv", "patient_id\tlesion_id\tday\ttarget\nP1\tM1\t0\t0\n")(f),
            edit(f, "local_treatment", "resection\t", "resection\tM2"),
        ),
        "warns",
        ("M2", "no such lesion"),
    ),
    # --- the folder
    Case("no patients", removes("patients.tsv"), "stops", ("patients.tsv", "is missing")),
    Case(
        "tsv and csv",
        lambda f: shutil.copy(f / "samples.tsv", f / "samples.csv"),
        "stops",
        ("samples.csv", "there is a samples.tsv too"),
    ),
    Case(
        "spreadsheet beside", writes("samples.xlsx", b"PK"), "warns", ("samples.xlsx", "no study table", "samples.tsv")
    ),
    Case("stray", writes("outcomes.tsv", "patient_id\n"), "warns", ("outcomes.tsv", "did you mean outcome.tsv")),
    # --- raw files
    Case("no file", removes("raw/L1.h5"), "stops", ("libraries.tsv", "2", "raw/L1.h5", "no such file")),
    Case("no raw file", removes("raw/L1_raw.h5"), "stops", ("raw_path", "raw/L1_raw.h5")),
    Case("backslash", edits("libraries", "raw/L2", "raw\\L2"), "stops", ("write paths with /",)),
    Case("path twice", edits("libraries", "raw/L2", "raw/L1.h5"), "stops", ("also the path of library L1",)),
    Case("raw is path", edits("libraries", "raw/L1_raw.h5", "raw/L1.h5"), "stops", ("the same as path",)),
    Case("html h5", writes("raw/L1.h5", "<html>login</html>"), "excludes", ("raw/L1.h5", "web page")),
    Case("empty h5", writes("raw/L1.h5", ""), "excludes", ("raw/L1.h5", "empty")),
    Case("truncated h5", truncates("raw/L1.h5"), "excludes", ("raw/L1.h5", "truncated")),
    Case("molecule info", molecule_info, "excludes", ("molecule_info", "filtered_feature_bc_matrix.h5")),
    Case("other h5", makes_h5("raw/L1.h5", "things"), "excludes", ("no 10x counts", "things")),
    Case(
        "h5ad as h5",
        lambda f: (shutil.copy(f / "raw/L4.h5ad", f / "raw/L5.h5"), edit(f, "libraries", "L4.h5ad", "L5.h5")),
        "excludes",
        ("ending .h5ad",),
    ),
    Case("no barcodes", removes("raw/L2/barcodes.tsv.gz"), "excludes", ("raw/L2", "barcodes")),
    Case("mtx of another run", writes("raw/L2/barcodes.tsv", "A-1\nB-1\n"), "excludes", ("not of one run",)),
    Case("not mtx", writes("raw/L2/matrix.mtx", "1 2 3\n"), "excludes", ("Matrix Market",)),
    Case("damaged gz", truncates("raw/L2/features.tsv.gz"), "excludes", ("features.tsv.gz",)),
    Case("no positions", removes("raw/L3/spatial/tissue_positions.csv"), "excludes", ("raw/L3", "positions")),
    Case("scale factors", writes("raw/L3/spatial/scalefactors_json.json", "{"), "excludes", ("JSON",)),
    Case("other platform", edits("libraries", "visium", "xenium"), "excludes", ("Visium section", "xenium")),
    Case(
        "rds",
        lambda f: (writes("raw/a.rds", "x")(f), edit(f, "libraries", "raw/L4.h5ad", "raw/a.rds")),
        "excludes",
        ("h5ad",),
    ),
    Case(
        "path outside", both(removes("raw/L1.h5"), outside), "stops", ("libraries.tsv", "2", "out of the study folder")
    ),
    Case("link outside", link_outside, "stops", ("raw/L1.h5", "link", "roots")),
    Case("path climbs", edits("libraries", "raw/L2", "../../etc"), "stops", ("out of the study folder", "roots")),
    # --- dialects
    Case(
        "semicolons, wrong count",
        both(separates("patients", ";"), edits("patients", "P2;Oslo", "P2;Oslo;N")),
        "stops",
        ("patients.tsv", "3", "9 fields"),
    ),
    Case(
        "decimal comma in a comma file",
        both(separates("blood", ","), edits("blood", "812.5", "812,5")),
        "stops",
        ("blood.tsv", "2", "U/mL"),
    ),
    Case(
        "point under a decimal comma",
        edits("blood", "812.5", "812.5"),
        "stops",
        ("812.5", "decimal point", "comma"),
        changes={"decimal": ","},
    ),
    Case("thousands", edits("blood", "812.5", "1 812.5"), "stops", ("1 812.5", "not a number")),
    Case("value with unit", edits("blood", "812.5", "812.5 U/mL"), "stops", ("812.5 U/mL", "without unit")),
    Case("value in words", edits("blood", "812.5", "see note"), "stops", ("see note", "not a number")),
    Case("NA as number", edits("patients", "22.5", "NA"), "stops", ("largest_met_mm", "NA", "leave the cell empty")),
    Case("excel date in a number", edits("patients", "\t61\t", "\t61.0\t"), "stops", ("61.0", "without decimals")),
    Case("sign and censor", edits("blood", "\t1\tU/mL\t<", "\t>1\tU/mL\t<"), "stops", (">1", "censor")),
    Case("unknown censor", edits("blood", "\t<", "\t~"), "stops", ("censor", "~")),
    Case("negative value", edits("blood", "812.5", "-812.5"), "stops", ("-812.5", "0 and above")),
    Case("two evaluations without day", edits("response", "003\t60", "P2\t"), "stops", ("P2", "already in row 4")),
    # --- config
    Case("unknown key", nothing, "stops", ("sed", "did you mean 'seed'"), changes={"sed": 1}),
    Case("text for a number", nothing, "stops", ("qc.min_cells", "whole number"), changes={"qc": {"min_cells": "50"}}),
    Case(
        "unknown label",
        nothing,
        "stops",
        ("primary_label", "neither derived nor declared"),
        changes={"response": {"primary_label": "survival"}},
    ),
    Case(
        "immortal label",
        nothing,
        "stops",
        ("resected", "can't be the primary"),
        changes={"response": {"primary_label": "resected"}},
    ),
    Case(
        "an unknown time to an event",
        nothing,
        "stops",
        ("survival", "endpoints", "dfs"),
        changes={"survival": {"endpoints": ["dfs"]}},
    ),
    Case(
        "eleven confirmatory features",
        nothing,
        "stops",
        ("confirmatory", "at most 10"),
        changes={
            "response": {
                "confirmatory": [
                    {"modality": "scrna", "family": "composition_type", "feature": f"t{i}"} for i in range(11)
                ]
            }
        },
    ),
    Case("unplanned look", nothing, "stops", ("look", "not planned"), changes={"response": {"look": 2}}),
    Case("unknown scope", nothing, "stops", ("B09", "cohort, B01 or B02"), changes={"scope": "B09"}),
    # --- trial file
    Case(
        "window turned round",
        writes("../trial.yaml", f"{TRIAL}windows: {{T0_from_treatment: [0, -28]}}\n"),
        "stops",
        ("trial.yaml", "windows.T0_from_treatment", "ends before it begins"),
        changes={"trial": "trial.yaml"},
    ),
    Case(
        "unknown limit",
        writes("../trial.yaml", TRIAL.replace("description: a", "description: a, limits: {max_mets: 4}")),
        "stops",
        ("trial.yaml", "max_mets", "unknown key"),
        changes={"trial": "trial.yaml"},
    ),
    Case("no trial file", nothing, "stops", ("trial", "none.yaml", "no such file"), changes={"trial": "none.yaml"}),
    # --- overlays
    Case(
        "overlay key",
        writes("../batches/a.yaml", "batch: B01\nqc: {min_cell: 3}\n"),
        "stops",
        ("a.yaml", "'min_cells'"),
    ),
    Case("overlay yaml", writes("../batches/a.yaml", "batch: B01\nbatch: B02\n"), "stops", ("a.yaml", "line 2")),
    Case(
        "overlay section",
        writes("../batches/a.yaml", "batch: B01\nresponse: {}\n"),
        "stops",
        ("response", "unknown key"),
    ),
    Case(
        "overlay with code",
        writes("../batches/a.yaml", "batch: !!python/name:os.system\n"),
        "stops",
        ("a.yaml", "line 1", "python/name"),
    ),
    Case("overlay number", writes("../batches/a.yaml", "batch: 1\n"), "stops", ("quotes",)),
    Case("overlay of none", writes("../batches/a.yaml", "batch: B09\n"), "warns", ("B09", "batches are B01, B02")),
    Case(
        "overlay twice",
        lambda f: [writes(f"../batches/{n}.yaml", "batch: B01\n")(f) for n in "ab"],
        "stops",
        ("has an overlay already, batches/a.yaml",),
    ),
    Case(
        "overlay of another library",
        writes("../batches/a.yaml", "batch: B01\nlibrary: {L3: {qc: {min_cells: 1}}}\n"),
        "stops",
        ("L3", "belongs to batch B02"),
    ),
]
