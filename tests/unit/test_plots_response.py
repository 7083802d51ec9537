"""Figures of response show what was tested and say in words what was refused."""

import numpy as np
import pandas as pd
import pytest

from cohorts import CONFIG, feature_rows, labels_table, patients_table
from livermet import response
from livermet.plots.response import LINE, plot_associations, plot_confirmatory, plot_power, refusal_lines

DECLARED = [{"modality": "scrna", "family": "zone", "feature": name} for name in ("f00", "absent")]


def figures(n_alt, *, declared=DECLARED):
    rng = np.random.default_rng(0)
    y = np.r_[np.ones(n_alt), np.zeros(20 - n_alt)]
    features = feature_rows(rng.normal(size=(20, 20)), family="zone")
    config = {**CONFIG, "confirmatory": declared, "n_permutations": 199}
    labels, patients = labels_table(y), patients_table([f"C{i % 2}" for i in range(20)])
    options = {"config": config, "goes_with": ["T0_pre"], "scope": "cohort", "seed": 0, "deviating": ["P03", "P18"]}
    table = response.associate(features, labels, patients, **options)
    values = response.tested_values(features, config=config)
    centre = patients.set_index("patient_id")["centre"]
    numbers = response.read_label(labels, "disease_control").numbers
    return {
        "associations": plot_associations(table, alpha=0.05, fdr=0.1),
        "confirmatory": plot_confirmatory(table, values, numbers, centre),
        "power": plot_power(table),
    }, table


def words(figure):
    """All text of a figure, in one string."""
    return " ".join(text.get_text() for text in figure.findobj(lambda item: hasattr(item, "get_text")))


def axes_of(figure):
    return [ax for ax in figure.findobj(lambda item: hasattr(item, "get_xlim")) if ax.axison]


def test_patients_are_dots_and_counts_stand_beside_them():
    drawn, _ = figures(8)
    (ax,) = axes_of(drawn["confirmatory"])
    assert sum(len(points.get_offsets()) for points in ax.collections) == 20
    assert "n = 8" in words(drawn["confirmatory"])
    assert "n = 12" in words(drawn["confirmatory"])
    assert "F02" in words(drawn["confirmatory"])
    assert "12 of 20 features" in words(drawn["associations"])
    assert "f00" in words(drawn["associations"])


def test_refused_studies_say_why_and_leave_no_empty_panel():
    drawn, table = figures(2)
    assert "R01" in words(drawn["associations"])
    assert "R01" in words(drawn["confirmatory"])
    assert "no power to show" in words(drawn["power"])
    for figure in drawn.values():
        assert not axes_of(figure)
    assert all(len(line) <= LINE for line in refusal_lines(table))


@pytest.mark.parametrize("kind", ["nothing declared", "nothing at all"])
def test_empty_input_gives_a_sentence(kind):
    drawn, table = figures(8, declared=[])
    assert "No confirmatory feature was declared" in words(drawn["confirmatory"])
    if kind == "nothing at all":
        assert "no feature to test" in words(plot_associations(table.iloc[:0], alpha=0.05, fdr=0.1))
        empty = plot_confirmatory(table.iloc[:0], {}, pd.Series(dtype=float), pd.Series(dtype=str))
        assert "No confirmatory feature" in words(empty)
