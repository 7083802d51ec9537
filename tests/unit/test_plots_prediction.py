"""Figures of prediction show each patient, the null beside the model, and in words what was refused."""

import pytest

from livermet.plots.prediction import plot_calibration, plot_models, refusal_lines
from predict_cohort import cohort, run


@pytest.fixture(scope="module")
def found():
    return run(cohort(1, tissue=1.8, clinical=1.0))


def words(figure):
    """All text of a figure, in one string."""
    return " ".join(text.get_text() for text in figure.findobj(lambda item: hasattr(item, "get_text")))


def axes_of(figure):
    return [ax for ax in figure.findobj(lambda item: hasattr(item, "get_xlim")) if ax.axison]


def test_models_stand_beside_their_null(found):
    figure = plot_models(found.predictors, found.null)
    models, gain, transport = axes_of(figure)
    drawn = [line for line in models.lines if len(line.get_xdata()) == 39]
    assert len(drawn) == 3
    assert sum(len(line.get_xdata()) == 39 for line in gain.lines) == 1
    labels = [text.get_text() for text in transport.get_yticklabels()]
    assert labels[0] == "all centres, n = 26 v 38"
    assert not any("C5" in label for label in labels)  # one class only
    text = words(figure)
    assert "n = 64: 26 with disease_control, 38 without" in text
    assert "R06" in text
    assert "centre C5 left out" in text
    assert "p = 0.025" in text


def test_every_patient_is_a_dot_of_the_calibration(found):
    figure = plot_calibration(found.predictors, found.predictions)
    panels = axes_of(figure)
    assert len(panels) == 3
    for ax in panels:
        assert sum(len(points.get_offsets()) for points in ax.collections) == 64
    assert words(figure).count("n = 64") == 3
    assert "5 groups of 12 or 13 patients" in words(figure)


def test_what_was_refused_is_said_and_leaves_no_empty_panel(found):
    refused = run(cohort(1), scope="B02")
    for figure in (
        plot_models(refused.predictors, refused.null),
        plot_calibration(refused.predictors, refused.predictions),
    ):
        assert not axes_of(figure)
        assert "No model was made" in words(figure)
    assert "R19" in words(plot_models(refused.predictors, refused.null))
    assert all(len(line) <= 90 for line in refusal_lines(refused.predictors, characters=90))


def test_a_baseline_alone_in_one_centre_has_one_panel():
    tables = cohort(2)
    alone = run({**tables, "patients": tables["patients"].assign(centre="only")}, declared=(), draws=19, repeats=1)
    figure = plot_models(alone.predictors, alone.null)
    assert len(axes_of(figure)) == 1
    assert "P02" in words(figure)
    assert "P03, clinical with each centre left out" in words(figure)
    assert len(axes_of(plot_calibration(alone.predictors, alone.predictions))) == 1
