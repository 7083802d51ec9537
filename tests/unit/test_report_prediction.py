"""What the report says of prediction: tables with the null beside the model, sentences that claim no more than they may."""

import numpy as np
import pandas as pd
import pytest

from livermet import report_prediction as view
from livermet.pages import _environment
from livermet.report import _view
from livermet.validation import NULL_COLUMNS, PREDICTOR_COLUMNS
from predict_cohort import cohort, run


@pytest.fixture(scope="module")
def found():
    return run(cohort(1, tissue=1.8, clinical=1.0))


def test_models_stand_side_by_side_with_their_null(found):
    table = view.model_table(found.predictors, found.null).set_index("measure")
    assert list(table) == ["clinical", "declared features", "clinical and declared features"]
    column = table["declared features"]
    drawn = found.null.query("model == 'tissue' and permutation > 0")["estimate"]
    assert column["AUC below which 95 % of permutations lie"] == f"{np.quantile(drawn, 0.95):.2f}"
    assert column["AUC (95 % interval)"].startswith(f"{found.predictors.loc[1, 'auc']:.2f} (")
    assert column["patients with and without the label"] == "26 and 38"
    assert column["gain over clinical (95 % interval)"] == column["why not"] == ""
    assert table.loc["gain over clinical (95 % interval)", "clinical and declared features"]


def test_centres_stand_in_rows_with_the_models_side_by_side(found):
    table = view.transport_table(found.predictors).set_index("centre")
    assert list(table.index) == ["all", "C0", "C1", "C2", "C3", "C4", "C5"]
    assert "(" in table.loc["all", "AUC, clinical"]
    assert "(" not in table.loc["C4", "AUC, clinical"]
    assert table.loc["C5", "AUC, clinical"] == ""
    assert table.loc["C5", "why not"].startswith("R06: all 4 patients")


def test_sentences_say_associations_and_no_more(found):
    clinical, tissue, both, gain = view.prediction_sentences(found.predictors, alpha=0.05)
    assert "not measurably more than permuted labels" in clinical
    assert ", more than permuted labels" in tissue
    assert both.startswith("Clinical and declared features: AUC")
    assert "declared features add to the clinical variables" in gain
    strict = view.prediction_sentences(found.predictors, alpha=0.001)
    assert all("not measurably more" in sentence for sentence in strict[:3])
    assert "add nothing measurable" in strict[3]


def test_refusals_stand_where_the_numbers_would_have_stood():
    refused = run(cohort(1), scope="B02")
    table = view.model_table(refused.predictors, refused.null)
    cells = table.set_index("measure")
    assert cells.loc["why not"].str.startswith("R19").all()
    assert (cells.loc["AUC (95 % interval)"] == "").all()
    assert view.transport_table(refused.predictors).empty
    (sentence,) = view.prediction_sentences(refused.predictors, alpha=0.05)
    assert sentence.startswith("No model of clinical, declared features, clinical and declared features (R19)")


def test_empty_tables_give_empty_views():
    predictors, null = pd.DataFrame(columns=PREDICTOR_COLUMNS), pd.DataFrame(columns=NULL_COLUMNS)
    assert view.model_table(predictors, null).empty
    assert view.transport_table(predictors).empty
    assert view.prediction_sentences(predictors, alpha=0.05) == []


@pytest.mark.parametrize("scope", ["cohort", "B02"])
def test_the_partial_renders(found, scope):
    """Within a page that gives it what the report gives, and macros of the report."""
    page = '{% from "macros.html.j2" import figure, table, empty, how with context %}{% include "prediction.html.j2" %}'
    given = found if scope == "cohort" else run(cohort(1), scope=scope)
    html = (
        _environment()
        .from_string(page)
        .render(
            descriptive=scope != "cohort",
            primary_label="disease_control",
            figure_of={},
            prediction_models=_view(view.model_table(given.predictors, given.null)),
            prediction_transport=_view(view.transport_table(given.predictors)),
            prediction_sentences=view.prediction_sentences(given.predictors, alpha=0.05),
        )
    )
    assert 'id="prediction"' in html
    assert ("Descriptive" in html) == (scope == "B02")
    assert ("R19" in html) == (scope == "B02")
    assert ("Each centre predicted" in html) == (scope == "cohort")
