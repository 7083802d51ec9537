"""Blinded runs: whole label vectors change places within centres, nothing tells whose they are, nothing else changes."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cohorts import CONFIG, feature_rows, ids
from livermet.blinding import (
    BLIND_DAYS,
    BLIND_PARTNER,
    MASKED,
    MASKED_FINDING,
    OF_SPECIMEN,
    OUTCOME_TABLES,
    blind_findings,
    blind_labels,
    blind_recist,
    blind_tables,
    exchange,
    exchange_of_resection,
    folder_refusal,
    is_of_resection,
    stamp_folder,
)
from livermet.catalogue import LABELS
from livermet.check import check_study
from livermet.compared import read_label
from livermet.findings import Finding
from livermet.landmark import known_by, read_course
from livermet.library_report import library_page
from livermet.plots.style import new_figure, save_figure
from livermet.report import cohort_page, index_page
from livermet.response import associate
from livermet.study import load_study
from livermet.survival import compare_survival
from study_files import study_config
from survival_cohorts import RULES, setting
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
    of_all = ~open_["label"].map(is_of_resection)
    before, after = vectors(open_[of_all]), vectors(blind[of_all])
    centres = study.tables["patients"].set_index("patient_id")["centre"]
    pools = centres.where(centres.map(centres.value_counts()) > 1, "alone")
    for _, members in pools.groupby(pools):
        assert Counter(before[members.index]) == Counter(after[members.index])
    assert (before != after).any()
    same = ["patient_id", "label", "kind"]
    pd.testing.assert_frame_equal(open_[same], blind[same])
    assert set(blind["source"]) <= {"", MASKED} and set(blind["reason"]) <= {"", MASKED}
    assert MASKED in set(blind["source"]) and set(blind["label"]) == set(LABELS)


def test_labels_of_fewer_than_three_resected_patients_are_withheld(study):
    """Two were operated on: they could only change places, so that everyone would know whose outcome is whose."""
    open_, frames = checked(study, None).derived.labels, study.data.frames()
    own = open_["label"].map(is_of_resection)
    there = own & (open_["value"] != "")
    assert open_.loc[there, "patient_id"].nunique() == 2
    result = checked(study, 1)
    blind = result.derived.labels
    assert (blind.loc[own, ["value", "event", "source"]].isin(["", MASKED])).all(axis=None)
    assert (blind.loc[own, "value"] == "").all() and (blind.loc[there, "reason"] == MASKED).all()
    assert (blind_tables(frames, result.exchanged, blind)["patients"][BLIND_PARTNER] == "").all()


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
    frames, result = study.data.frames(), checked(study, 1)
    exchanged = result.exchanged
    blind = blind_tables(frames, exchanged, result.derived.labels)
    assert list(blind) == list(frames)
    for name in set(frames) - {*OUTCOME_TABLES, "pathology", "patients"}:
        assert blind[name] is frames[name]
    pd.testing.assert_frame_equal(blind["patients"][list(frames["patients"])], frames["patients"])
    assert list(blind["patients"])[-3:] == [*BLIND_DAYS.values(), BLIND_PARTNER]
    for name in OUTCOME_TABLES:
        counts = frames[name]["patient_id"].map(exchanged).value_counts()
        pd.testing.assert_series_equal(counts.sort_index(), blind[name]["patient_id"].value_counts().sort_index())
        assert (blind[name].dtypes == frames[name].dtypes).all()
    assert blind["pathology"][["cap_trs", "viable_tumour_pct", "ypm"]].isna().all(axis=None)
    left = [name for name in frames["pathology"] if name not in ("cap_trs", "viable_tumour_pct", "ypm")]
    pd.testing.assert_frame_equal(blind["pathology"][left], frames["pathology"][left])
    assert blind["lesions"]["lesion_id"].str.fullmatch(r"L\d+").all()


# --------------------------------------------------------------------------------------------------------- resections

OPERATED = {"A": 9, "B": 8, "C": 6}  # of 12 patients of each centre
N_SPECIMENS = {"A": 6, "B": 5, "C": 3}
ENDPOINTS = ("os", "pfs", "rfs", "os_surgery")
SEEDS = range(8)


@dataclass(frozen=True)
class Surgical:
    """A study with resections: centre by patient, who was operated on, whose specimen was assessed, labels, tables."""

    centres: dict[str, str]
    operated: list[str]
    assessed: list[str]
    labels: pd.DataFrame
    recist: pd.DataFrame
    frames: dict[str, pd.DataFrame]

    def exchanged(self, seed):
        return exchange(self.centres, seed=seed)

    def course(self, frames, recist):
        names = ("response", "treatment", "local_treatment", "patients")
        return read_course(recist, **{name: frames[name] for name in names})

    def run(self, seed=None):
        """Labels and course of an open run, or of a blinded one."""
        if seed is None:
            return self.labels, self.course(self.frames, self.recist)
        exchanged = self.exchanged(seed)
        labels = blind_labels(self.labels, exchanged)
        frames = blind_tables(self.frames, exchanged, labels)
        return labels, self.course(frames, blind_recist(self.recist, exchanged))


@pytest.fixture(scope="module")
def surgical():
    return surgical_study()


def surgical_study():
    """12 patients in each of three centres; no two have the same times, and who was not operated on did worse."""
    rng = np.random.default_rng(5)
    centres = {f"{centre}{i:02d}": centre for centre in OPERATED for i in range(12)}
    operated = [name for name, centre in centres.items() if int(name[1:]) < OPERATED[centre]]
    assessed = [name for name, centre in centres.items() if int(name[1:]) < N_SPECIMENS[centre]]
    rows, seen, surgery, start = [], [], {}, {}
    for place, name in enumerate(centres):
        there = name in operated
        start[name] = int(rng.integers(0, 12))
        surgery[name] = int(rng.integers(140, 330))
        response = "PD" if not there and place % 3 else rng.choice(["PR", "SD"])
        # Someone's evaluation lies on the first day that decides, by the own start of treatment.
        seen += [(name, start[name] + 49 + place % 2, response, "yes")]
        survived = (surgery[name] if there else 60) + int(rng.integers(60, 500)) + place / 100
        died, relapsed = int(rng.random() < 0.7), int(rng.random() < 0.7)
        values = {
            "objective_response": int(response == "PR"),
            "disease_control": int(response != "PD"),
            "resected": int(there),
            "ca199_resp50": int(rng.random() < 0.6),
            "os": (survived, died),
            "pfs": (survived - 20, 1),
        }
        if there:
            since = survived - surgery[name]
            values |= {"rfs": (since - 30, relapsed), "os_surgery": (since, died)}
            values |= {"early_relapse6": int(since < 200)} if since > 120 else {}
        if name in assessed:
            score = int(rng.integers(0, 4))
            values |= {"path_cap": score, "path_cap01": int(score < 2), "ypM0": int(score == 0)}
        for label in LABELS:
            value, event = values.get(label, ""), ""
            if isinstance(value, tuple):
                value, event = value
            rows.append(
                (name, label, LABELS[label].kind, str(value), str(event), "a row", "" if value != "" else "why")
            )
    columns = ["patient_id", "label", "kind", "value", "event", "source", "reason"]
    labels = pd.DataFrame(rows, columns=columns, dtype=object).sort_values(
        "label", key=lambda names: names.map(list(LABELS).index), kind="stable", ignore_index=True
    )
    recist = pd.DataFrame(seen, columns=["patient_id", "day", "response", "counts"]).assign(rows="", reason="")
    frames = {
        "patients": pd.DataFrame({"patient_id": list(centres), "centre": list(centres.values())}),
        "treatment": pd.DataFrame({"patient_id": list(start), "regimen": "GnP", "start_day": list(start.values())}),
        "local_treatment": pd.DataFrame(
            {"patient_id": operated, "day": [surgery[name] for name in operated], "type": "liver_resection"}
        ),
        "response": pd.DataFrame(columns=["patient_id", "eval_day", "recist"]),
        "scans": pd.DataFrame(columns=["patient_id"]),
        "outcome": pd.DataFrame(columns=["patient_id"]),
        "lesions": pd.DataFrame(columns=["patient_id", "lesion_id", "related_lesion_id"], dtype=object),
        "pathology": pd.DataFrame(columns=["sample_id", "cap_trs"]),
    }
    return Surgical(centres, operated, assessed, labels, recist, frames)


def pairs(labels, names=LABELS):
    """Values with events of each patient, by label."""
    labels = labels[labels["label"].isin(list(names))]
    wide = labels.assign(pair=list(zip(labels["value"], labels["event"], strict=True)))
    return wide.pivot_table(index="patient_id", columns="label", values="pair", aggfunc="first")


OF_RESECTION = [name for name in LABELS if is_of_resection(name)]


def test_labels_of_the_resection_are_those_that_only_resected_patients_have():
    assert OF_RESECTION == ["path_cap", "path_cap01", "ypM0", "early_relapse6", "rfs", "os_surgery"]
    assert set(OF_SPECIMEN) < set(OF_RESECTION)
    assert not is_of_resection("resected") and not is_of_resection("declared")


@pytest.mark.parametrize("seed", SEEDS)
def test_labels_of_the_resection_move_among_those_who_were_operated_on(surgical, seed):
    open_, blind = pairs(surgical.labels, OF_RESECTION), pairs(surgical.run(seed)[0], OF_RESECTION)
    known = {name: set(open_.index[[value != "" for value, _ in open_[name]]]) for name in OF_RESECTION}
    for name in ("rfs", "os_surgery", *OF_SPECIMEN):
        assert set(blind.index[[value != "" for value, _ in blind[name]]]) == known[name], name
    others = [name for name in surgical.operated if name not in surgical.assessed]
    for group in (surgical.assessed, others):
        for centre in OPERATED:
            here = [name for name in group if surgical.centres[name] == centre]
            before, after = (Counter(map(tuple, table.loc[here].to_numpy())) for table in (open_, blind))
            assert before == after, (centre, here)
    moved = [name for name in surgical.operated if open_.loc[name, "rfs"] != blind.loc[name, "rfs"]]
    assert len(moved) > len(surgical.operated) / 2


def test_whose_times_they_are_is_not_told_by_which_of_them_are_known(surgical):
    """An early relapse is not known of who was followed for a short time: such patients must not keep to themselves."""
    table = pairs(surgical.labels, ["early_relapse6", "rfs"]).loc[surgical.operated]
    without = [name for name in table.index if table.loc[name, "early_relapse6"][0] == ""]
    assert 2 < len(without) < len(table)
    after = [pairs(surgical.run(seed)[0], ["rfs"])["rfs"] for seed in SEEDS]
    short = set(table.loc[without, "rfs"])
    assert any(blind[name] not in short for blind in after for name in without)


def test_a_patient_keeps_labels_no_more_often_than_by_chance(surgical):
    """Over 400 seeds each operated patient keeps his own times once in as many draws as there are places."""
    kept = Counter()
    for seed in range(400):
        moved = exchange_of_resection(surgical.labels, surgical.exchanged(seed))
        assert sorted(moved) == sorted(moved.values()) == sorted(surgical.operated)
        kept.update(giver for giver, receiver in moved.items() if giver == receiver)
    for group in (surgical.assessed, [name for name in surgical.operated if name not in surgical.assessed]):
        sizes = Counter(surgical.centres[name] for name in group)
        for name in group:
            expected = 400 / sizes[surgical.centres[name]]
            assert abs(kept[name] - expected) < 5 * expected**0.5, name


def test_the_exchange_of_resections_is_the_same_for_blinded_labels(surgical):
    for seed in SEEDS:
        exchanged = surgical.exchanged(seed)
        blind = blind_labels(surgical.labels, exchanged)
        assert exchange_of_resection(blind, exchanged) == exchange_of_resection(surgical.labels, exchanged)


def test_two_of_a_kind_do_not_just_change_places(surgical):
    """Where two specimens were assessed, these patients move among all who were operated on."""
    drop = surgical.labels["label"].isin(OF_SPECIMEN) & ~surgical.labels["patient_id"].isin(["A00", "A01"])
    labels = surgical.labels.assign(value=surgical.labels["value"].mask(drop, ""))
    receivers = {exchange_of_resection(labels, surgical.exchanged(seed))["A00"] for seed in range(60)}
    assert receivers == {name for name in surgical.operated if name.startswith("A")}


@pytest.mark.parametrize("seed", SEEDS)
def test_label_and_day_of_surgery_go_together_and_leave_the_patient(surgical, seed):
    labels, course = surgical.run(seed)
    resected = pairs(labels, ["resected"])["resected"]
    operated = {name for name in surgical.centres if resected[name][0] == "1"}
    assert set(course.days.index[course.days["operated"].notna()]) == operated != set(surgical.operated)
    own = surgical.course(surgical.frames, surgical.recist).days
    exchanged = surgical.exchanged(seed)
    for giver in surgical.operated:
        assert course.days.loc[exchanged[giver], "operated"] == own.loc[giver, "surgery"]
    assert (course.days["start"] != own["start"]).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_labels_of_one_course_are_found_together(surgical, seed):
    """Time from surgery and time from enrolment differ by the day of surgery, which is that of neither patient."""
    labels, course = surgical.run(seed)
    table = pairs(labels, ["os", "os_surgery"])
    for patient in surgical.operated:
        os = float(table.loc[course.partner[patient], "os"][0])
        since = float(table.loc[patient, "os_surgery"][0])
        assert os - since == pytest.approx(course.days.loc[patient, "surgery"])
    assert sum(course.partner[name] == name for name in surgical.operated) < len(surgical.operated) / 2


@pytest.mark.parametrize("missing", ["", np.nan])
def test_a_course_is_read_where_labels_of_the_resection_were_withheld(surgical, missing):
    """As written the column holds empty text, as read again missing values."""
    exchanged = surgical.exchanged(1)
    few = surgical.labels[~surgical.labels["patient_id"].isin(surgical.operated[1:])]
    frames = blind_tables(surgical.frames, exchanged, few)
    assert (frames["patients"][BLIND_PARTNER] == "").all()
    frames["patients"] = frames["patients"].assign(**{BLIND_PARTNER: missing})
    course = surgical.course(frames, blind_recist(surgical.recist, exchanged))
    assert course.partner.empty and course.days["surgery"].isna().all()
    assert course.days["operated"].notna().sum() == len(surgical.operated)


def classes(surgical, labels, course, endpoint, name, day=None):
    """Patients with and without a fact, their events and centres, and whether the fact could not be placed."""
    times, fact = read_label(labels, endpoint), read_label(labels, name)
    at_risk = times.numbers.index[times.numbers > (day or 0)]
    cutoff = course.days["surgery"].reindex(at_risk) if day is None else pd.Series(float(day), index=at_risk)
    status, reason = known_by(fact, course, cutoff, rules=RULES, from_surgery=day is None)
    status = status.dropna()
    events = times.events.reindex(status.index)
    centres = [surgical.centres[patient] for patient in status.index]
    return Counter(zip(status, events, times.numbers.reindex(status.index), centres, strict=True)), reason


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["disease_control", "objective_response", "ca199_resp50", "resected", "path_cap01"])
def test_facts_are_compared_among_as_many_blinded_as_open(surgical, seed, name):
    open_, blind = surgical.run(), surgical.run(seed)
    for endpoint, day in (("os", 270), ("pfs", 270), ("rfs", None), ("os_surgery", None)):
        if (endpoint, name) in (("rfs", "resected"), ("os_surgery", "resected")):
            continue  # refused: all its patients had it
        found = [classes(surgical, *run, endpoint, name, day) for run in (open_, blind)]
        assert sum(found[0][0].values()) > 5
        assert found[0] == found[1], endpoint


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_rehearsal_refuses_what_the_real_run_refuses(surgical, seed):
    """Features of the resection against labels that go with it, and facts of the course from a landmark on."""
    rng = np.random.default_rng(1)
    n = len(surgical.assessed)
    features = feature_rows(rng.normal(size=(n, 2)), family="activity", timepoint="T3_resection")
    features["patient_id"] = features["patient_id"].map(dict(zip(ids(n), surgical.assessed, strict=True)))
    shared = {"goes_with": ("T3_resection",), "scope": "cohort", "seed": 1}

    def codes(labels, course):
        found = {}
        for label in ("path_cap01", "ypM0", "rfs", "os_surgery", "early_relapse6"):
            config = {**CONFIG, "primary_label": label, "timepoints": ["T3_resection"], "n_permutations": 199}
            table = associate(features, labels, surgical.frames["patients"], config=config, **shared)
            rows = table[table["analysis"] == "primary"].set_index("feature")
            found[label] = rows[["n", "n_ref", "n_alt", "status", "refusal_code"]].to_dict("index")
        options = setting(
            endpoints=["os", "pfs"], response={"timepoints": ["T3_resection"], "primary_label": "path_cap01"}
        )
        table = compare_survival(
            features.iloc[:0], labels, surgical.frames["patients"], course, setting=options, rules=RULES
        )
        rows = table[table["analysis"] == "primary"].set_index(["endpoint", "feature"])
        counted = rows[["n", "n_events"]].astype(str).where(rows["status"] == "tested", "")
        return found, counted.join(rows[["status", "refusal_code"]]).to_dict("index")

    open_, blind = codes(*surgical.run()), codes(*surgical.run(seed))
    assert {row["status"] for rows in open_[0].values() for row in rows.values()} == {"tested", "refused"}
    assert open_ == blind


def test_declared_labels_move_with_whom_they_are_known_of(surgical):
    """A declared label that only resected patients have moves among these; one that others have too, among all."""
    score = surgical.labels[surgical.labels["label"] == "rfs"].assign(label="score", kind="continuous", event="")
    grade = surgical.labels[surgical.labels["label"] == "os"].assign(label="grade", kind="continuous", event="")
    exchanged = surgical.exchanged(2)
    blind = pairs(
        blind_labels(pd.concat([surgical.labels, score, grade], ignore_index=True), exchanged),
        ["score", "grade", "rfs", "os"],
    )
    for declared, like in (("score", "rfs"), ("grade", "os")):
        assert [value for value, _ in blind[declared]] == [value for value, _ in blind[like]]


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
    assert blind_labels(labels, exchange({}, seed=1)).empty and blind_recist(recist, {}).empty


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
