"""Blinded runs: whole label vectors change places within centres, nothing tells whose they are, nothing else changes."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from livermet.blinding import (
    MASKED,
    MASKED_FINDING,
    OUTCOME_TABLES,
    blind_findings,
    blind_labels,
    blind_recist,
    blind_tables,
    exchange,
    folder_refusal,
    stamp_folder,
)
from livermet.catalogue import LABELS
from livermet.check import check_study
from livermet.findings import Finding
from livermet.library_report import library_page
from livermet.plots.style import new_figure, save_figure
from livermet.report import cohort_page, index_page
from livermet.study import load_study
from study_files import study_config
from trial_study import write_trial_study

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
from report_inputs import demo_inputs, library_inputs

CENTRES = {f"P{i:02d}": "ABBCCCCDDDDDDDDD"[i % 16] for i in range(16)} | {"Q1": "E", "Q2": "F"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = write_trial_study(tmp_path_factory.mktemp("trial") / "study")
    return load_study(study_config(folder), workdir=folder.parent)


def checked(study, blind):
    options = {"setup": [], "trial": study.trial, "declared": {}, "primary": "disease_control"}
    return check_study(study.data, **options, blind=blind)


def vectors(labels):
    """All labels of each patient as one value."""
    return labels.groupby("patient_id")[["label", "value", "event"]].apply(lambda rows: tuple(map(tuple, rows.values)))


def test_patients_change_places_within_their_centre_and_single_ones_in_one_pool():
    moved = exchange(CENTRES, seed=3)
    assert sorted(moved) == sorted(moved.values()) == sorted(CENTRES)
    pool = {"A": "alone", "E": "alone", "F": "alone"}
    assert all(pool.get(CENTRES[a], CENTRES[a]) == pool.get(CENTRES[b], CENTRES[b]) for a, b in moved.items())
    assert any(a != b for a, b in moved.items())


def test_the_seed_decides_and_the_order_of_rows_does_not():
    assert exchange(CENTRES, seed=3) == exchange(dict(reversed(CENTRES.items())), seed=3)
    assert len({tuple(sorted(exchange(CENTRES, seed=seed).items())) for seed in range(20)}) == 20


def test_the_only_patient_of_a_centre_joins_the_smallest_other_centre():
    centres = {"P1": "A", "P2": "B", "P3": "B", "P4": "C", "P5": "C", "P6": "C"}
    receivers = [exchange(centres, seed=seed)["P1"] for seed in range(40)]
    assert set(receivers) == {"P1", "P2", "P3"}


def test_it_is_never_the_identity_where_anyone_can_move():
    pair = {"P1": "A", "P2": "A"}
    assert all(exchange(pair, seed=seed) == {"P1": "P2", "P2": "P1"} for seed in range(20))
    assert exchange({"P1": "A"}, seed=1) == {"P1": "P1"}
    assert exchange({}, seed=1) == {}


def test_every_way_to_exchange_is_as_likely():
    """Three patients of one centre: the five arrangements other than the identity, in 1,000 seeds (200 each)."""
    trio = dict.fromkeys(("P1", "P2", "P3"), "A")
    counts = Counter(tuple(exchange(trio, seed=seed).values()) for seed in range(1000))
    assert len(counts) == 5 and min(counts.values()) > 150


def test_label_vectors_move_whole_within_centres_and_say_nothing_of_their_rows(study):
    open_, blind = checked(study, None).derived.labels, checked(study, 1).derived.labels
    before, after = vectors(open_), vectors(blind)
    centres = study.tables["patients"].set_index("patient_id")["centre"]
    pools = centres.where(centres.map(centres.value_counts()) > 1, "alone")
    for _, members in pools.groupby(pools):
        assert Counter(before[members.index]) == Counter(after[members.index])
    assert (before != after).any()
    same = ["patient_id", "label", "kind"]
    pd.testing.assert_frame_equal(open_[same], blind[same])
    assert set(blind["source"]) <= {"", MASKED} and set(blind["reason"]) <= {"", MASKED}
    assert MASKED in set(blind["source"]) and set(blind["label"]) == set(LABELS)


def test_evaluations_follow_the_labels(study):
    exchanged, open_ = checked(study, 1).exchanged, checked(study, None).derived.recist
    blind = blind_recist(open_, exchanged)
    sums = {
        name: set(zip(table["patient_id"], table["day"], table["sum_mm"], strict=True))
        for name, table in (("a", open_), ("b", blind))
    }
    assert len(open_) and {(exchanged[p], day, mm) for p, day, mm in sums["a"]} == sums["b"]
    assert set(blind["rows"]) <= {"", MASKED}
    assert blind["patient_id"].tolist() == sorted(blind["patient_id"], key=list(exchanged).index)


def test_of_the_study_tables_only_those_of_outcome_change(study):
    frames, exchanged = study.data.frames(), checked(study, 1).exchanged
    blind = blind_tables(frames, exchanged)
    assert list(blind) == list(frames)
    for name in set(frames) - {*OUTCOME_TABLES, "pathology"}:
        assert blind[name] is frames[name]
    for name in OUTCOME_TABLES:
        counts = frames[name]["patient_id"].map(exchanged).value_counts()
        pd.testing.assert_series_equal(counts.sort_index(), blind[name]["patient_id"].value_counts().sort_index())
        assert (blind[name].dtypes == frames[name].dtypes).all()
    assert blind["pathology"][["cap_trs", "viable_tumour_pct", "ypm"]].isna().all(axis=None)
    left = [name for name in frames["pathology"] if name not in ("cap_trs", "viable_tumour_pct", "ypm")]
    pd.testing.assert_frame_equal(blind["pathology"][left], frames["pathology"][left])
    assert blind["lesions"]["lesion_id"].str.fullmatch(r"L\d+").all()


def test_findings_that_may_tell_outcome_are_masked_and_others_stay():
    harmless = Finding("deviation", "patients.tsv", 3, "ecog", "2", "ECOG 2", "nothing", "V05")
    telling = Finding("warning", "response.tsv", 12, "recist", "PR", "the evaluations give PD on day 60", "look", "V15")
    by_table = replace(telling, table="outcome.tsv", rule="V06")
    kept, *masked = blind_findings([harmless, telling, by_table])
    assert kept == harmless
    assert all((one.row, one.value, one.message) == (None, "", MASKED_FINDING) for one in masked)
    assert [one.rule for one in masked] == ["V15", "V06"]


def test_a_study_without_rows_can_be_blinded():
    labels = pd.DataFrame(columns=["patient_id", "label", "kind", "value", "event", "source", "reason"], dtype=object)
    recist = pd.DataFrame(columns=["patient_id", "day", "reason", "rows"], dtype=object)
    assert blind_labels(labels, {}).empty and blind_recist(recist, {}).empty


def test_a_folder_takes_runs_of_one_kind_alone(tmp_path):
    assert folder_refusal(tmp_path / "none", blind=True) == folder_refusal(tmp_path, blind=False) == ""
    stamp_folder(tmp_path, blind=True)
    assert folder_refusal(tmp_path, blind=True) == ""
    assert "Remedy" in folder_refusal(tmp_path, blind=False) and "blind: true" in folder_refusal(tmp_path, blind=False)
    stamp_folder(tmp_path, blind=False)
    assert folder_refusal(tmp_path, blind=False) == ""
    assert "results of open runs and this run is blinded" in folder_refusal(tmp_path, blind=True)


def test_a_folder_from_before_there_were_blinded_runs_is_open(tmp_path):
    (tmp_path / ".workdir").write_text("/somewhere\n")
    assert folder_refusal(tmp_path, blind=False) == ""
    assert folder_refusal(tmp_path, blind=True) != ""


def test_every_page_of_a_blinded_run_says_so_in_its_banner_and_title():
    inputs = demo_inputs(n_patients=6, n_sections=2)
    library = library_inputs(inputs, "L01_scrna", figure=inputs.figures["umap"])
    index = {"title": "t", "scope": "cohort", "simulated": False, "files": {}}
    blind = replace(inputs, params={**inputs.params, "blind": True})
    pages = {
        "report": (cohort_page(inputs), cohort_page(blind)),
        "library": (library_page(library), library_page(replace(library, blinded=True))),
        "index": (index_page(**index), index_page(**index, blinded=True)),
    }
    banner = '<div class="simulated">BLINDED: labels are permuted; no number here says anything of response</div>'
    for name, (open_, blinded) in pages.items():
        assert banner in blinded and "<title>BLINDED: " in blinded, name
        assert "BLINDED" not in open_, name
    assert "so this is no result: One of three declared features" in pages["report"][1]


def test_figures_of_permuted_labels_say_so(tmp_path):
    written = {}
    for name, options in {"plain": {}, "blind": {"blind": True}, "both": {"blind": True, "simulated": True}}.items():
        figure = new_figure(width=4, height=2)
        save_figure(figure, tmp_path / f"{name}.png", **{"simulated": False, **options})
        written[name] = [text.get_text() for text in figure.texts]
    assert written["plain"] == []
    assert written["blind"] == ["BLINDED: LABELS PERMUTED"]
    assert written["both"] == ["BLINDED: LABELS PERMUTED", "SIMULATED DATA"]
