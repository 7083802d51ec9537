"""Figures of response show what was tested and say in words what was refused."""

import numpy as np
import pandas as pd
import pytest

from cohorts import CONFIG, feature_rows, labels_table, patients_table
from livermet import response
from livermet.paired import changes, differences
from livermet.plots.response import LINE, plot_associations, plot_confirmatory, plot_power, refusal_lines
from livermet.plots.robustness import plot_changes, plot_robustness
from livermet.robustness import robustness

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


def test_times_show_events_filled_and_the_others_hollow():
    rng = np.random.default_rng(1)
    features = feature_rows(rng.normal(size=(24, 1)), family="zone")
    events = np.arange(24) < 15
    labels = labels_table(rng.integers(20, 900, 24), name="os", kind="survival", events=events)
    config = {**CONFIG, "confirmatory": DECLARED[:1], "primary_label": "os", "n_permutations": 199}
    patients = patients_table(["C0"] * 24)
    options = {"config": config, "goes_with": ["T0_pre"], "scope": "cohort", "seed": 0}
    table = response.associate(features, labels, patients, **options)
    label, values = response.read_label(labels, "os"), response.tested_values(features, config=config)
    figure = plot_confirmatory(
        table, values, label.numbers, patients.set_index("patient_id")["centre"], events=label.events
    )
    (ax,) = axes_of(figure)
    assert [len(points.get_offsets()) for points in ax.collections] == [15, 9]
    assert "15 events (filled), n = 24" in words(figure)
    assert "log hazard ratio per SD" in words(plot_power(table))
    assert "log hazard ratio per SD" in words(plot_associations(table, alpha=0.05, fdr=0.1))


def robustness_figure(n_alt):
    rng = np.random.default_rng(0)
    y, config = np.r_[np.ones(n_alt), np.zeros(20 - n_alt)], {**CONFIG, "confirmatory": DECLARED[:1]}
    features, labels = feature_rows(rng.normal(size=(20, 30)), family="zone"), labels_table(y)
    patients = patients_table([f"C{i % 2}" for i in range(20)])
    options = {"goes_with": ["T0_pre"], "scope": "cohort", "seed": 0}
    table = response.associate(features, labels, patients, config=config, **options)
    return plot_robustness(robustness(table, features, labels, patients, config=config))


def test_effects_without_each_centre_are_drawn_beside_the_areas():
    figure = robustness_figure(8)
    left, right = axes_of(figure)
    assert "24 of 30 tested features, n = 20" in words(figure)
    assert "f00\nzone, scrna, n = 20" in left.get_yticklabels()[0].get_text()  # the declared feature comes first
    assert right.get_xlim() == (0, 1)
    assert "nothing to leave out" in words(robustness_figure(2))


def test_changes_show_each_pair_and_say_what_was_refused():
    rng, config = np.random.default_rng(2), {**CONFIG, "changes": [["T0_pre", "T3_resection"]]}
    features = pd.concat(
        [
            feature_rows(rng.normal(size=(n, 1)), family=family, timepoint=timepoint)
            for family, n in (("zone", 8), ("spatial", 2))
            for timepoint in config["changes"][0]
        ]
    )
    table = changes(features, [], config=config, scope="cohort", seed=0)
    drawn = {"change T0_pre to T3_resection": differences(features, "T0_pre", "T3_resection", config=config)}
    figure = plot_changes(table, drawn, fdr=0.1)
    (ax,) = axes_of(figure)
    assert len(ax.collections[0].get_offsets()) == 8
    assert "8 pairs" in words(figure) and "R01" in words(figure)
    only = plot_changes(table[table["family"] == "spatial"], drawn, fdr=0.1)
    assert "No change between timepoints was tested" in words(only) and not axes_of(only)
    assert "No change between timepoints was declared" in words(plot_changes(table.iloc[:0], {}, fdr=0.1))
