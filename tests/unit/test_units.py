"""Units of blood values: every spelling of the exports is understood, and a number in the wrong unit is told."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livermet.units import (
    PLAUSIBLE,
    UNITS,
    canonical_unit,
    convert,
    misspelt,
    plausibility,
    unit_problem,
)

UNITS_OF = [(analyte, unit) for analyte, units in UNITS.items() for unit in units]
PAIRS = [(analyte, one, other) for analyte, units in UNITS.items() for one in units for other in units]
VALUES = st.floats(min_value=1e-3, max_value=1e6)


@pytest.mark.parametrize(
    ("analyte", "unit", "value", "expected"),
    [
        ("ca199", "U/mL", 812.5, 812.5),
        ("ca199", "kU/L", 812.5, 812.5),
        ("cea", "ng/mL", 4.2, 4.2),
        ("crp", "mg/dL", 1.3, 13.0),
        ("albumin", "g/dL", 3.8, 38.0),
        ("albumin", "umol/L", 527.0, 35.0),  # the lower limit of the reference interval of Tietz, in both units
        ("bilirubin", "mg/dL", 1.2, 20.52),
        ("neutrophils", "10^3/uL", 4.5, 4.5),
        ("lymphocytes", "cells/uL", 1500.0, 1.5),
        ("platelets", "/nL", 250.0, 250.0),
        ("alp", "ukat/L", 1.75, 105.0),
        ("ldh", "ukat/L", 3.5, 210.0),
        ("kras_vaf", "%", 12.0, 0.12),
        ("kras_vaf", "‰", 5.0, 0.005),
    ],
)
def test_values_are_converted(analyte, unit, value, expected):
    assert convert(analyte, value, unit) == pytest.approx(expected, rel=2e-3)


SPELLINGS = {
    ("ca199", "U/mL"): [
        "U/ml",
        "u/mL",
        " U / mL ",
        "kU/l",
        "kE/L",
        "ke/l",
        "E/mL",
        "IU/mL",
        "IE/mL",
        "kIU/L",
        "[arb'U]/mL",
    ],
    ("cea", "ug/L"): ["µg/L", "μg/l", "mcg/L", "ng/ml", "µg / L"],
    ("crp", "mg/dL"): ["mg/dl", "MG/DL", "mg/100 mL", "mg%"],
    ("bilirubin", "umol/L"): ["µmol/L", "μmol/l", "umol/l", "micromol/L"],
    ("ldh", "ukat/L"): ["µkat/L", "μkat/l", "microkat/L"],
    ("alp", "U/L"): ["E/L", "IU/L", "IE/l", "u/l"],
    ("neutrophils", "10^9/L"): [
        *("10*9/L", "10**9/L", "x10^9/L", "x 10^9/L", "× 10⁹/L", "10⁹/L", "10e9/L", "1e9/L", "1E+09/L", "10E9/l"),
        *("109/L", "10x9/L", "10^9 cells/L", "G/L", "/nL", "10^3/µL", "x10³/μL", "10*3/uL", "10^3/mm³", "K/µL"),
    ],
    ("platelets", "cells/uL"): ["/µL", "cells/µL", "{cells}/uL", "/mm3", "cells / mm³", "10^6/L"],
    ("kras_vaf", "%"): ["percent", "pct", " % "],
    ("kras_vaf", "fraction"): ["Fraction", "1"],
}


@pytest.mark.parametrize(
    ("analyte", "unit", "spelling"), [(*key, text) for key, texts in SPELLINGS.items() for text in texts]
)
def test_spellings_of_exports_are_understood(analyte, unit, spelling):
    assert unit_problem(analyte, spelling, None) is None
    assert convert(analyte, 7.0, spelling) == convert(analyte, 7.0, unit)


@pytest.mark.parametrize(
    ("analyte", "unit"),
    [
        ("ca199", "U/L"),  # a thousandth of U/mL, and more likely a slip
        ("ca199", "mU/mL"),
        ("ca199", "kU/mL"),
        ("cea", "U/mL"),
        ("crp", "g/L"),
        ("bilirubin", "mmol/L"),
        ("neutrophils", "%"),
        ("neutrophils", "10^12/L"),
        ("ldh", "nkat/L"),
        ("kras_vaf", "copies/mL"),
        ("albumin", ""),
    ],
)
def test_what_is_not_understood_is_refused_with_the_units_that_are(analyte, unit):
    message, remedy = unit_problem(analyte, unit, 5.0)
    assert repr(unit) in message and analyte in message
    assert all(name in remedy for name in UNITS[analyte])
    with pytest.raises(ValueError, match=analyte) as error:
        convert(analyte, 5.0, unit)
    assert remedy in str(error.value)


def test_an_analyte_without_recipe_has_neither_canonical_unit_nor_problem_nor_conversion():
    assert canonical_unit("il6") is None
    assert unit_problem("il6", "furlongs", 1e9) is None
    assert plausibility("il6", 1e9) is None
    with pytest.raises(ValueError, match="il6"):
        convert("il6", 1.0, "pg/mL")


@settings(deadline=None, derandomize=True)
@given(pair=st.sampled_from(PAIRS), value=VALUES)
def test_a_value_goes_round_through_each_pair_of_units(pair, value):
    analyte, one, other = pair
    in_other = convert(analyte, value, one) / convert(analyte, 1.0, other)
    assert convert(analyte, in_other, other) == pytest.approx(convert(analyte, value, one), rel=1e-12)


@settings(deadline=None, derandomize=True)
@given(place=st.sampled_from(UNITS_OF), low=VALUES, factor=st.floats(min_value=1.001, max_value=100))
def test_conversion_keeps_the_order_and_zero(place, low, factor):
    analyte, unit = place
    assert convert(analyte, low, unit) < convert(analyte, low * factor, unit)
    assert convert(analyte, 0.0, unit) == 0


@settings(deadline=None, derandomize=True)
@given(analyte=st.sampled_from(sorted(UNITS)), value=VALUES)
def test_the_canonical_unit_changes_nothing(analyte, value):
    assert convert(analyte, value, canonical_unit(analyte)) == value


@pytest.mark.parametrize(
    ("analyte", "unit", "value", "other"),
    [
        ("albumin", "g/L", 3.8, "g/dL"),
        ("albumin", "g/L", 6.0, "g/dL"),
        ("albumin", "g/dL", 38.0, "g/L"),
        ("albumin", "g/L", 600.0, "umol/L"),
        ("bilirubin", "umol/L", 0.8, "mg/dL"),
        ("bilirubin", "mg/dL", 70.0, "umol/L"),
        ("crp", "mg/dL", 80.0, "mg/L"),
        ("neutrophils", "10^9/L", 4500.0, "cells/uL"),
        ("neutrophils", "cells/uL", 4.5, "10^9/L"),
        ("platelets", "10^9/L", 250000.0, "cells/uL"),
        ("alp", "U/L", 1.5, "ukat/L"),
        ("ldh", "ukat/L", 250.0, "U/L"),
        ("kras_vaf", "fraction", 12.0, "%"),
    ],
)
def test_a_number_that_fits_another_unit_only_is_an_error(analyte, unit, value, other):
    message, remedy = unit_problem(analyte, unit, value)
    assert f"looks like {value:g} {other}" in message
    assert remedy.startswith(f"write {other} ")


@pytest.mark.parametrize(
    ("analyte", "unit", "value"),
    [
        ("albumin", "g/L", 38.0),
        ("albumin", "g/dL", 3.8),
        ("albumin", "g/L", 7.0),  # too low for g/L, too high for g/dL: no telling
        ("albumin", "g/dL", 0.4),
        ("bilirubin", "mg/dL", 0.8),
        ("neutrophils", "10^9/L", 120.0),  # leukaemoid rather than 120 cells/uL
        ("neutrophils", "cells/uL", 0.0),
        ("crp", "mg/L", 600.0),
        ("ca199", "U/mL", 2e6),
        ("alp", "ukat/L", 1.5),
    ],
)
def test_a_number_that_fits_its_unit_or_none_has_no_unit_problem(analyte, unit, value):
    assert unit_problem(analyte, unit, value) is None


@pytest.mark.parametrize(
    ("analyte", "value"),
    [
        *[("ca199", 1.1e6), ("crp", 501.0), ("albumin", 9.0), ("albumin", 61.0), ("bilirubin", 1001.0)],
        *[("neutrophils", 101.0), ("platelets", 2001.0), ("nlr", 101.0)],
    ],
)
def test_implausible_values_are_warned_of(analyte, value):
    severity, message, remedy = plausibility(analyte, value)
    assert severity == "warning"
    assert f"{value:g}" in message and f"{PLAUSIBLE[analyte][1]:g}" in message
    assert "correct" in remedy


@pytest.mark.parametrize(
    ("analyte", "value"),
    [
        ("ca199", 1e6),
        ("ca199", 0.0),
        ("crp", 500.0),
        ("albumin", 10.0),
        ("albumin", 60.0),
        ("nlr", 30.0),
        ("kras_vaf", 1.0),
    ],
)
def test_plausible_values_pass(analyte, value):
    assert plausibility(analyte, value) is None


def test_a_fraction_above_one_cannot_be_and_the_given_unit_is_named():
    assert plausibility("kras_vaf", 2.5).severity == "error"
    assert "given in %" in plausibility("kras_vaf", 2.5, unit="%").message
    assert "given" not in plausibility("albumin", 70.0, unit="g/L").message


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *[("ca19_9", "ca199"), ("albumine", "albumin"), ("neutrophil", "neutrophils"), ("bilirubine", "bilirubin")],
        *[("ca199", None), ("ca125", None), ("prealbumin", None), ("monocytes", None), ("alt", None), ("ldl", None)],
    ],
)
def test_a_misspelt_analyte_is_recognised_and_another_one_is_not(name, meant):
    assert misspelt(name) == meant


def test_units_and_blood_values_need_neither_pandas_nor_numpy():
    code = "import sys, livermet.units, livermet.blood; print([m for m in ('pandas', 'numpy', 'h5py') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout.strip() == "[]"
