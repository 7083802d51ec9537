"""Tables of the report on sections: numbers stay, what is missing has a reason, empty tables stay tables."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from livermet import report_sections as rs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
from report_inputs import EMPTY, demo_inputs


@pytest.fixture(scope="module")
def tables():
    return demo_inputs().tables


def empty(name):
    return pd.DataFrame(columns=EMPTY[name].split())


def test_sections_have_border_zones_and_reason(tables):
    table = rs.section_table(tables["sections"], tables["growth_pattern"])
    assert len(table) == len(tables["sections"])
    assert table["why no border"].iloc[0].startswith("no liver tissue") and table["border (mm)"].iloc[0] == 0
    assert table["why no border"].iloc[1] == "" and table["growth pattern"].iloc[1] == "replacement"
    assert set(table["resolves"]) == {"spots"}


def test_sensitivity_to_the_half_width(tables):
    table = rs.margin_sensitivity(tables["zone_sensitivity"], margin_um=250.0, top=3)
    assert len(table) == 3 and set(table["resolution"]) == {"spot"}
    n = tables["zone_sensitivity"]["patient_id"].nunique()
    assert table["patients"].tolist() == [n] * 3
    by_type = table.set_index("cell_type")
    assert by_type["log2 ratio at 500 um"].sub(by_type["log2 ratio at 250 um"]).round(2).eq(0.25).all()
    crossing = tables["zone_sensitivity"].assign(log2_ratio=lambda t: t["margin_um"] - 300)
    assert rs.margin_sensitivity(crossing, margin_um=250.0, top=9)["same sign throughout"].eq(0).all()


def test_tested_and_refused_programmes_stand_side_by_side(tables):
    table = rs.invasion_tests(tables["invasion_tests"]).set_index("where")
    tested, refused = table.loc["T0_pre, liver_met, visium"], table.loc["T0_pre, liver_met, xenium"]
    assert tested["95 % interval"] == "[0.10, 0.70]" and tested["refusal"] == ""
    assert refused["95 % interval"] == "" and refused["refusal"] == "R01" and "3 needed" in refused["why"]


def test_tail_in_percent_with_interval(tables):
    table = rs.invasion_tail(tables["invasion_tail"])
    assert table["beyond the border (%)"].iloc[1] == "4 [4, 4]"
    assert table["beyond the border (%)"].iloc[0] == "" and table["why not"].iloc[0]


def test_contacts_are_ordered_by_z_and_leave_out_a_type_with_itself_and_sections_without_border():
    rows = pd.DataFrame(
        {
            "library_id": "L1",
            "type_a": ["a", "a", "a", np.nan, "a"],
            "type_b": ["b", "c", "a", np.nan, "d"],
            "z_nearest": [2.0, -6.0, 9.0, np.nan, 8.0],
            "null": ["distance_bins", "distance_bins", "distance_bins", np.nan, "sides"],
            **dict.fromkeys(("median_nearest_um", "null_median_nearest_um", "within_30um", "null_within_30um"), 1.0),
        }
    )
    table = rs.contact_summary(rows, top=5)
    assert table["to the nearest"].tolist() == ["c", "b"]
    assert len(rs.contact_summary(rows, top=1)) == 1


def test_the_best_genes_of_each_zone(tables):
    table = rs.spatial_genes(tables["spatial_genes"], top=3)
    assert table.groupby("zone").size().to_dict() == {"core": 3, "margin": 3, "section": 3}
    assert table["gene"].iloc[0] == "G0"


def test_empty_tables_stay_tables():
    assert rs.section_table(empty("sections"), empty("growth_pattern")).empty
    assert rs.invasion_tests(empty("invasion_tests")).empty
    assert rs.invasion_tail(empty("invasion_tail")).empty
    assert rs.contact_summary(empty("contacts"), top=3).empty
    assert rs.spatial_genes(empty("spatial_genes"), top=3).empty
    assert rs.margin_sensitivity(empty("zone_sensitivity"), margin_um=250.0, top=3).empty
    assert rs.niche_agreement(empty("niche_consensus")).empty
