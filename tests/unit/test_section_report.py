"""Words of a section's page."""

import numpy as np
import pytest

from livermet import keys
from livermet.section_report import section_facts

ZONES = {"n_core": 40, "n_inner_rim": 10, "n_margin": 30, "n_peritumoral": 20, "n_distant": 0, "n_none": 0}
BORDER = {
    **{"resolution": "spot", "border_source": "expression", "interface_mm": 2.34, "band_um": 100.0, "reason": ""},
    **{"polygon_distance_um": np.nan, "polygon_same_side": np.nan},
}
GROWTH = {
    **{"growth_pattern": "replacement", "desmoplastic_pct": 20.0, "replacement_pct": 75.0, "pushing_pct": 5.0},
    **{"mixing_um": 152.4, "rim": -0.021, "roughness": 1.127, "pathologist": "", "reason": ""},
}


def facts(summary=None, growth=None, confusable=(), **options):
    given = {"n_genes": 0} | options
    return dict(section_facts(BORDER | ZONES | (summary or {}), GROWTH | (growth or {}), confusable, **given))


def test_a_border_from_expression():
    found = facts()
    assert found["border"] == "2.3 mm of tumour-liver border, from expression; its place is known to about 100 um"
    assert found["zones"] == "core 40, inner rim 10, margin 30, peritumoral 20, distant 0 spots"
    assert "replacement (desmoplastic 20 %, replacement 75 %, pushing 5 % of the interface)" in found["growth pattern"]
    assert "cell types" not in found and "pathologist's polygon" not in found
    assert found["along the border"] == (
        "on average malignant cells and hepatocytes stand together over 152 um, fibroblasts -2% in the rim against the "
        "tissue around, roughness 1.13 (1 is a smooth line; it does not enter the pattern)"
    )
    assert "roughness" not in facts(growth={"roughness": np.nan})["along the border"]


def test_a_border_that_the_pathologist_drew():
    found = facts({"border_source": "polygon", "polygon_distance_um": 42.0, "polygon_same_side": 0.97})
    assert "as the pathologist drew it; expression puts it 42" in found["border"]
    assert "97 % of the section on the same side" in found["border"]


def test_how_the_classes_of_the_polygon_were_used_is_told():
    notes = [
        "a.geojson: classes taken as tumour: Tumor (1); taken as liver: none; ignored: Peri-tumoral (2)",
        "repaired",
    ]
    assert facts(polygon_notes=notes)["pathologist's polygon"] == "; ".join(notes)


def test_a_refused_margin_leaves_the_border():
    found = facts(dict.fromkeys(ZONES, 0) | {"reason": "a margin of 100 um is too narrow"})
    assert found["border"].startswith("2.3 mm of tumour-liver border")
    assert found["zones"] == "none: a margin of 100 um is too narrow"


def test_without_border_the_reason_stands():
    none = dict.fromkeys(ZONES, 0)
    found = facts(
        {**none, "reason": "no liver tissue", "interface_mm": np.nan, "border_source": np.nan},
        {"growth_pattern": "", "reason": "no border", "pathologist": "pushing"},
    )
    assert found["border"] == "none: no liver tissue"
    assert found["zones"] == "none" and "along the border" not in found
    assert found["growth pattern"] == "not stated: no border; the pathologist reads pushing"


def test_types_that_the_panel_confuses_are_named_once():
    pair = [{"cell_type": "b", "confused_with": "a"}, {"cell_type": "a", "confused_with": "b"}]
    assert facts(confusable=pair, n_genes=250)["cell types"].endswith("do not tell apart a and b")
    assert "tell all types" in facts(n_genes=250)["cell types"]


def test_rare_types_are_named():
    assert "rare here" not in facts()
    assert facts(rare=["mast", "t_reg"])["rare here"] == (
        "mast, t_reg: below 1 % of the section; their map is not to be read"
    )


@pytest.mark.parametrize(
    ("modality", "unit"), [("scrna", "cells"), ("visium", "spots"), ("visium_hd", "bins"), ("xenium", "cells")]
)
def test_units(modality, unit):
    assert keys.unit_of(modality) == unit
