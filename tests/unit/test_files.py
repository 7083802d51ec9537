"""Result files are whole or absent, and tables come back as they were written."""

import pandas as pd
import pytest

from livermet.files import forget_library, read_json, read_table, replacing, write_json, write_table


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half of the new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_ids_stay_text_and_only_empty_fields_are_missing(tmp_path):
    table = pd.DataFrame(
        {
            "patient_id": ["001", "NA", ""],
            "cell_type": ["NA", "b", None],
            "n": [1.5, None, 3.0],
            "label": ["1E5", "", "T"],
        }
    )
    write_table(table, tmp_path / "t.tsv")
    back = read_table(tmp_path / "t.tsv")
    assert back["patient_id"].tolist() == ["001", "NA", ""]
    assert back["label"].tolist() == ["1E5", "", "T"]
    assert back["cell_type"].tolist()[:2] == ["NA", "b"]
    assert back["cell_type"].isna().tolist() == [False, False, True]
    assert back["n"].isna().tolist() == [False, True, False]


def test_an_empty_table_keeps_its_columns(tmp_path):
    write_table(pd.DataFrame(columns=["patient_id", "x"]), tmp_path / "t.tsv")
    back = read_table(tmp_path / "t.tsv")
    assert back.empty
    assert list(back.columns) == ["patient_id", "x"]


def test_json_refuses_nan(tmp_path):
    write_json({"a": [1, None]}, tmp_path / "a.json")
    assert read_json(tmp_path / "a.json") == {"a": [1, None]}
    with pytest.raises(ValueError, match="Out of range float"):
        write_json({"a": float("nan")}, tmp_path / "b.json")
    assert not (tmp_path / "b.json").exists()


def test_a_library_is_forgotten_with_every_scope_that_holds_it(tmp_path):
    for name in (
        "libraries/L1/qc.tsv",
        "libraries/L10/qc.tsv",
        "B01/cells.h5ad",
        "cohort/cells.h5ad",
        "B02/cells.h5ad",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    for scope, libraries in {"cohort": "L1\tok\nL10\tok\n", "B01": "L1\tok\n", "B02": "L10\tok\n"}.items():
        (tmp_path / scope / "status.tsv").write_text(f"library_id\tstatus\n{libraries}")
    (tmp_path / "logs/qc_library").mkdir(parents=True)
    (tmp_path / "logs/qc_library/L1.log").touch()
    (tmp_path / "logs/qc_library/L10.log").touch()
    assert forget_library(tmp_path, "L1") == 4 and forget_library(tmp_path, "L1") == 0
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["B02/cells.h5ad", "B02/status.tsv", "libraries/L10/qc.tsv", "logs/qc_library/L10.log"]
