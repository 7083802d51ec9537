"""Tables of blood as they come back from files: a missing value is read as text and must not count."""

import pytest

from blood_cohorts import blood_table, cohort, draw, tables
from livermet import report_biomarkers as views
from livermet.blood import Ca199Rules
from livermet.blood_course import measure_courses
from livermet.files import read_table, write_table


def measures_from_file(blood, n, path, **options):
    patients, treatment, local = tables(n, **options)
    found = measure_courses(blood, patients, treatment, local, windows={}, rules=Ca199Rules(), min_values=3)
    write_table(found, path)
    return found, read_table(path)


def test_days_are_of_the_patients_who_have_a_value(tmp_path):
    blood = cohort(5, 8, analytes=("ca199", "crp"))
    # Two patients don't secrete CA19-9, and three have no CRP after the baseline.
    stopped = blood["patient_id"].isin(["P05", "P06", "P07"]) & (blood["day"] > 0) & (blood["analyte"] == "crp")
    lewis = ["negative"] * 2 + ["positive"] * 6
    found, read = measures_from_file(blood[~stopped], 8, tmp_path / "measures.tsv", lewis=lewis)
    days = views.blood_days(read).set_index(["analyte", "measure"])
    assert days.loc["ca199", "patients"].to_dict() == dict.fromkeys(("baseline", "change", "slope", "nadir"), 6)
    assert days.loc["crp", "patients"].to_dict() == {"baseline": 8, "change": 5, "slope": 5, "nadir": 5}
    known = found[found["value"].notna()].groupby(["analyte", "measure"])["patient_id"].nunique()
    assert days["patients"].to_dict() == known.to_dict()
    assert days.loc[("crp", "slope"), "last day"] == "112" and days.loc[("crp", "slope"), "values per patient"] == "4"
    missing = views.missing_measures(read, top=99)
    lacking = missing.groupby(["analyte", "measure"])["patients"].sum()
    assert lacking.to_dict() == {place: 8 - n for place, n in known.items() if n < 8}


@pytest.mark.parametrize("day", [-3, 28])
def test_a_measure_that_nobody_has_has_no_days(tmp_path, day):
    _, read = measures_from_file(blood_table([draw("P00", day, "crp", 8.0)]), 1, tmp_path / "measures.tsv")
    days = views.blood_days(read)
    assert (days["measure"].tolist() == ["baseline"]) if day < 0 else days.empty
