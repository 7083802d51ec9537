"""Words of a section's page."""

import numpy as np
import pytest

from livermet.section_report import section_facts, unit_of

ZONES = {"n_core": 40, "n_inner_rim": 10, "n_margin": 30, "n_peritumoral": 20, "n_distant": 0, "n_none": 0}
BORDER = {
    **{"resolution": "spot", "border_source": "expression", "interface_mm": 2.34, "band_um": 100.0, "reason": ""},
    **{"polygon_distance_um": np.nan, "polygon_same_side": np.nan},
}
GROWTH = {
    **{"growth_pattern": "replacement", "desmoplastic_pct": 20.0, "replacement_pct": 75.0, "pushing_pct": 5.0},
    **{"pathologist": "", "reason": ""},
}


def facts(summary=None, growth=None, confusable=(), n_genes=0):
    return dict(section_facts(BORDER | ZONES | (summary or {}), GROWTH | (growth or {}), confusable, n_genes=n_genes))


def test_a_border_from_expression():
    found = facts()
    assert found["border"] == "2.3 mm of tumour-liver border, from expression; its place is known to about 100 um"
    assert found["zones"] == "core 40, inner rim 10, margin 30, peritumoral 20, distant 0 spots"
    assert "replacement (desmoplastic 20 %, replacement 75 %, pushing 5 % of the interface)" in found["growth pattern"]
    assert "cell types" not in found


def test_a_border_that_the_pathologist_drew():
    found = facts({"border_source": "polygon", "polygon_distance_um": 42.0, "polygon_same_side": 0.97})
    assert "as the pathologist drew it; expression puts it 42" in found["border"]
    assert "97 % of the section on the same side" in found["border"]


def test_without_border_the_reason_stands():
    none = dict.fromkeys(ZONES, 0)
    found = facts(
        {**none, "reason": "no liver tissue", "interface_mm": np.nan},
        {"growth_pattern": "", "reason": "no border", "pathologist": "pushing"},
    )
    assert found["border"] == "none: no liver tissue"
    assert found["zones"] == "none"
    assert found["growth pattern"] == "not stated: no border; the pathologist reads pushing"


def test_types_that_the_panel_confuses_are_named_once():
    pair = [{"cell_type": "b", "confused_with": "a"}, {"cell_type": "a", "confused_with": "b"}]
    assert facts(confusable=pair, n_genes=250)["cell types"].endswith("do not tell apart a and b")
    assert "tell all types" in facts(n_genes=250)["cell types"]


@pytest.mark.parametrize(
    ("modality", "unit"), [("scrna", "cells"), ("visium", "spots"), ("visium_hd", "bins"), ("xenium", "cells")]
)
def test_units(modality, unit):
    assert unit_of(modality) == unit
