"""Views of the report on robustness, changes and the design, and the page that they make."""

import numpy as np
import pandas as pd

from cohorts import CONFIG, feature_rows, ids, labels_table, patients_table
from livermet import response
from livermet.design import confounding, patient_factors
from livermet.files import read_table, write_table
from livermet.pages import template
from livermet.paired import changes
from livermet.refusals import CODES
from livermet.report import _view
from livermet.report_data import refusal_summary
from livermet.report_response import changes_view, codes_view, confounding_view, robustness_view
from livermet.robustness import robustness

PAIR = ["T0_pre", "T3_resection"]


def tables(n=24):
    """Associations with robustness, changes and confounding of a small study with two timepoints."""
    rng, y, centre = np.random.default_rng(0), np.tile([0, 1], n // 2), np.arange(n) // 2 % 3
    features = pd.concat([feature_rows(rng.normal(size=(n, 3)), family="zone", timepoint=t) for t in PAIR])
    labels, patients = labels_table(y), patients_table([f"C{c}" for c in centre])
    config = {**CONFIG, "n_permutations": 199, "changes": [PAIR]}
    options = {"config": config, "scope": "cohort", "seed": 1}
    table = response.associate(features, labels, patients, goes_with=["T0_pre"], **options)
    treatment = pd.DataFrame({"patient_id": ids(n), "regimen": "GnP", "start_day": 0})
    factors = patient_factors(features, patients, [], treatment, config=config)
    return (
        robustness(table, features, labels, patients, config=config),
        changes(features, [], **options),
        confounding(factors, labels, **options),
    )


def page(firm, changed, design):
    source = template("robustness")
    return source.render(
        figure_of={},
        robustness=_view(robustness_view(firm, top=20)),
        changes=_view(changes_view(changed, top=20)),
        change_refusals=_view(refusal_summary(changed)),
        confounding=_view(confounding_view(design)),
    )


def test_views_name_patients_intervals_and_what_follows():
    firm, changed, design = tables()
    shown = robustness_view(firm, top=2)
    assert len(shown) == 2
    assert shown["adjusted for centre"].str.fullmatch(r"-?\d\.\d\d \(-?\d\.\d\d to -?\d\.\d\d\)").all()
    assert set(shown["patients"]) == {24}
    assert changes_view(changed, top=9)["p"].is_monotonic_increasing
    assert set(confounding_view(design).iloc[0][["factor", "what follows"]]) == {"centre", "adjusted"}
    assert confounding_view(design)["told apart from the label"].tolist()[0] == "yes"
    assert codes_view()["code"].tolist() == list(CODES)


def test_words_are_the_same_from_tables_as_written(tmp_path):
    design = tables()[2]
    write_table(design, tmp_path / "confounding.tsv")
    again, now = (confounding_view(table) for table in (read_table(tmp_path / "confounding.tsv"), design))
    words = ["factor", "told apart from the label", "what follows", "in words"]
    pd.testing.assert_frame_equal(again[words], now[words], check_dtype=False)


def test_the_page_holds_the_tables_or_says_why_it_does_not():
    text = page(*tables())
    for words in ("How far the effects hold", "Cramer&#39;s V", "sign flips of 24 pairs", "same sign"):
        assert words in text
    nothing = page(*(table.iloc[:0] for table in tables()))
    for words in ("nothing to leave out", "No patient has both", "No change between timepoints was tested"):
        assert words in nothing
    few = page(*tables(4))
    assert "Why changes were refused" in few and "R02" in few
