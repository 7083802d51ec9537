"""Figures and report tables of blood show patients, counts and reasons, and say in words where there is nothing."""

import numpy as np
import pandas as pd
import pytest

from blood_cohorts import blood_table, cohort, tables
from cohorts import CONFIG, ids, labels_table
from livermet import report_biomarkers as views
from livermet.biomarkers import compare_biomarkers, compare_pairs, tissue_pairs
from livermet.blood import Ca199Rules
from livermet.blood_course import blood_series, measure_courses
from livermet.files import read_table, write_table
from livermet.pages import _environment
from livermet.plots.biomarkers import PER_INCH, pair_words, plot_areas, plot_courses, plot_tissue_pairs, refusal_words
from livermet.report import _view
from test_biomarkers import PAIRS, tissue

OPTIONS = {"reference": "ca199", "joint": ["ca199", "crp"], "repeats": 2, "added_permutations": 19}
N = 30
Y = np.tile([0, 1, 0], 10)


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda item: hasattr(item, "get_text")))


def axes_of(figure):
    return [ax for ax in figure.findobj(lambda item: hasattr(item, "get_xlim")) if ax.axison]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Tables of results as they come back from files, by name."""
    blood = cohort(1, N, analytes=("ca199", "crp", "albumin"))
    surgery = [70, *[None] * (N - 1)]
    patients, treatment, local = tables(N, lewis=["negative", *["positive"] * (N - 1)], surgery=surgery)
    measured = measure_courses(blood, patients, treatment, local, windows={}, rules=Ca199Rules(), min_values=3)
    response = {**CONFIG, "n_permutations": 99}
    common = {"response": response, "scope": "cohort", "seed": 1}
    values = tissue_pairs(measured, tissue(N), pairs=PAIRS, response=response)
    biomarkers = compare_biomarkers(
        measured, labels_table(Y), patients, options=OPTIONS, goes_with=["T0_pre"], **common
    )
    made = {
        "biomarkers": biomarkers,
        "tissue": compare_pairs(values, tissue(N), patients, pairs=PAIRS, **common),
        "pairs": values,
        "measures": measured,
        "series": blood_series(blood, treatment, local),
    }
    folder = tmp_path_factory.mktemp("blood")
    for name, table in made.items():
        write_table(table, folder / f"{name}.tsv")
    return {name: read_table(folder / f"{name}.tsv") for name in made}


LABEL = pd.Series(Y.astype(float), index=ids(N))


def courses(results, *, binary=True, label=LABEL):
    return plot_courses(results["series"], label, name="disease_control", binary=binary, first=["crp", "ldh"])


def test_each_patient_is_a_line_that_ends_with_local_treatment(results):
    figure = courses(results)
    panels = axes_of(figure)
    assert [ax.get_title(loc="left").split("\n")[0] for ax in panels] == ["crp", "albumin", "ca199", "crp albumin"]
    lines = [line for line in panels[0].get_lines() if line.get_marker() == "o" and len(line.get_xdata())]
    assert len(lines) == N
    assert [max(line.get_xdata()) for line in lines[:2]] == [56, 112]
    assert "n = 30 (10 yes, 20 no)" in words(figure) and "upper limit of normal" in words(figure)
    assert panels[0].get_yscale() == "log" and panels[1].get_yscale() == "linear"


def test_patients_without_the_label_are_grey_and_labels_without_classes_have_no_colours(results):
    assert "5 not known" in words(courses(results, label=LABEL.iloc[5:]))
    figure = courses(results, binary=False)
    assert "yes" not in words(figure) and "patients" in words(figure)


def test_areas_show_counts_and_what_was_refused(results):
    figure = plot_areas(results["biomarkers"], reference="ca199", fdr=0.1)
    assert "10 v 20" in words(figure) and "added to ca199" in words(figure)
    assert "known at baseline" in words(figure) and "known at re-evaluation" in words(figure)
    joint = results["biomarkers"].assign(status="refused", refusal_code="R19", refusal_reason="a batch is described")
    refused = plot_areas(joint, reference="ca199", fdr=0.1)
    assert not axes_of(refused) and "R19" in words(refused)
    assert all(len(line) <= PER_INCH * 11 for line in refusal_words(joint, width=11))


def test_pairs_show_each_patient_and_the_reason_of_those_that_are_missing(results):
    figure = plot_tissue_pairs(results["pairs"], results["tissue"])
    # NLR is not among these analytes: its pair is refused in words, and one panel is left.
    (panel,) = axes_of(figure)
    assert len(panel.get_lines()[0].get_xdata()) == N
    assert "n = 30" in words(figure) and "F02, nlr against neutrophil" in words(figure)
    assert len(pair_words(results["tissue"], width=9)) >= 1


def test_nothing_gives_a_sentence():
    patients, treatment, local = tables(3)
    empty = blood_series(blood_table([]), treatment, local)
    label = pd.Series(dtype=float)
    assert "no blood value" in words(plot_courses(empty, label, name="x", binary=True, first=[]))
    measured = measure_courses(
        blood_table([]), patients, treatment, local, windows={}, rules=Ca199Rules(), min_values=3
    )
    response = {**CONFIG, "n_permutations": 99}
    none = compare_biomarkers(
        measured,
        labels_table([0, 1, 1]),
        patients,
        response=response,
        options={**OPTIONS, "joint": []},
        goes_with=["T0_pre"],
        scope="cohort",
        seed=1,
    )
    assert "no blood value to compare" in words(plot_areas(none, reference="ca199", fdr=0.1))
    pairs = tissue_pairs(measured, tissue(3).iloc[:0], pairs=[], response=response)
    table = compare_pairs(pairs, tissue(3).iloc[:0], patients, pairs=[], response=response, scope="cohort", seed=1)
    assert "No pair" in words(plot_tissue_pairs(pairs, table))
    shown = [views.biomarker_table(none), views.joint_table(none), views.added_table(none), views.pair_table(table)]
    shown += [views.missing_measures(measured, top=5), views.blood_days(measured)]
    assert all(view.empty for view in shown)
    assert views.biomarker_summary(none, fdr=0.1) == {"n_tested": 0, "n_refused": 0, "leads": {}}


def test_report_tables_say_what_people_ask_for(results):
    alone = views.biomarker_table(results["biomarkers"])
    assert alone["known at"].iloc[0] == "baseline" and list(alone["measure"].unique()) == list(views.MEASURES)
    first = alone.set_index(["analyte", "measure"]).loc[("ca199", "baseline")]
    assert first["patients"] == "29 (10 v 19)" and first["missing"] == 1 and "[" in first["area"]
    joint = views.joint_table(results["biomarkers"])
    assert joint["term"].tolist() == OPTIONS["joint"] and joint["status"].str.startswith("tested").all()
    added = views.added_table(results["biomarkers"])
    assert set(added["analyte"]) == {"albumin", "crp", "crp_albumin", "mgps"}
    assert (added["status"].str.startswith("R01") | (added["status"] == "tested")).all()
    missing = views.missing_measures(results["measures"], top=10)
    assert missing["code"].iloc[0] == "R08" and "non-secretor" in missing["reason"].iloc[0]
    days = views.blood_days(results["measures"]).set_index(["analyte", "measure"])
    assert days.loc[("crp", "baseline"), "last day"] == "−3"
    assert days.loc[("crp", "change"), "last day"] == "56" and days.loc[("crp", "slope"), "patients"] == N
    pairs = views.pair_table(results["tissue"])
    assert pairs["status"].tolist()[0].startswith("F02") and pairs["status"].tolist()[1] == "tested"
    summary = views.biomarker_summary(results["biomarkers"], fdr=1.0)
    assert summary["n_tested"] + summary["n_refused"] == len(results["biomarkers"])
    assert "crp (baseline)" in summary["leads"]["univariable"]


@pytest.mark.parametrize("empty", [False, True])
def test_the_section_of_the_report_renders(results, empty):
    def given(name):
        return results[name].iloc[:0] if empty else results[name]

    page = _environment().from_string(
        '{% from "macros.html.j2" import figure, empty, how, table with context %}{% include "biomarkers.html.j2" %}'
    )
    html = page.render(
        descriptive=False,
        primary_label="disease_control",
        figure_of={},
        blood_summary=views.biomarker_summary(given("biomarkers"), fdr=1.0),
        biomarkers=_view(views.biomarker_table(given("biomarkers"))),
        biomarkers_joint=_view(views.joint_table(given("biomarkers"))),
        biomarkers_added=_view(views.added_table(given("biomarkers"))),
        blood_tissue=_view(views.pair_table(given("tissue"))),
        blood_missing=_view(views.missing_measures(given("measures"), top=20)),
        blood_days=_view(views.blood_days(given("measures"))),
    )
    assert ("no blood values" in html) == empty and ("No pair of blood and tissue" in html) == empty
    assert ("known at" in html) and (("Leads, univariable" in html) != empty)
