"""Identifiers of persons are found wherever they stand, harmless values pass, and no message shows what was found."""

from __future__ import annotations

import random
import re
import string
import subprocess
import sys
import time
from datetime import date

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from livermet.config import DEFAULT_CONFIG, PROJECT, load_yaml
from livermet.privacy import (
    ADDRESS,
    CALENDAR_DATE,
    CPR,
    EMAIL,
    FODSELSNUMMER,
    HETU,
    NAME,
    PERSONNUMMER,
    PHONE,
    SAMORDNINGSNUMMER,
    config_findings,
    h5ad_problems,
    identifier_in,
    identifying_column,
    mask,
)
from livermet.tables import TABLES, table_schema
from study_files import TABLES as STUDY_TABLES
from study_files import table_text

PROPERTY = settings(deadline=None, derandomize=True, max_examples=150)

# Numbers of the authorities' own documentation and of python-stdnum, an independent implementation.
PUBLISHED = {
    PERSONNUMMER: ["850709-9805", "8507099805", "198507099805", "19850709-9805", "880320-0016", "811228+9841"],
    SAMORDNINGSNUMMER: ["701063-2391", "7010632391", "19701063-2391"],
    CPR: ["070761-4285", "0707614285", "211062-5629"],
    FODSELSNUMMER: ["11077941012", "110779 41012", "15108695088", "151086-95088"],
    HETU: ["131052-308T", "131052A308T", "131052Y308T", "131052308T", "131052a308t"],
}


@pytest.mark.parametrize(("kind", "number"), [(kind, number) for kind, given in PUBLISHED.items() for number in given])
def test_published_numbers_are_found_alone_in_text_and_in_ids(kind, number):
    for text in (number, f"pt {number} from Malmö", f"P-{number}", f"S_{number}_T0", f"({number})", f"id:{number};"):
        assert identifier_in(text) == kind, text


@pytest.mark.parametrize(
    ("kind", "text"),
    [(CALENDAR_DATE, text) for text in (
        "2024-03-01", "2024/03/01", "2024/3/1", "2024.03.01", "01.03.2024", "1.3.2024", "1. 3. 2024", "01/03/2024",
        "03/31/2024", "01-03-2024", "1 March 2024", "1. mars 2024", "1. marts 2024", "1. maaliskuuta 2024",
        "March 1, 2024", "1st of no month, but 2 May 2024", "20240301", "01-Mar-24", "01MAR2024", "2024-Mar-01",
        "1/3/24", "01.03.24", "24-03-01", "2024-03-01T12:00:00", "S_2024_03_01_T0", "S20240301", "born 1961-04-30",
        "20240301.0", "10.3.2021",
    )]
    + [(NAME, text) for text in (
        "Anna Svensson", "Svensson, Anna", "anna.svensson", "AnnaSvensson", "S_AnnaSvensson_T0", "ANNA SVENSSON",
        "Svensson Anna", "svensson_anna", "Anna-Karin Svensson", "Dr Anna M. Svensson", "Anna von Sydow", "Anna Nowak",
        "Per Larsson", "Björn Borg", "Bjorn Borg", "Bjo\u0308rn Borg", "Korhonen, Matti", "Mohammed Ali", "Bo Ek",
        "seen by Lars Hansen today", "Peter MacCallum", "Nguyen, Maria", "Jan_Hansen", "/home/anna.svensson/study",
    )]
    + [(EMAIL, text) for text in ("anna@liu.se", "write to a.b-c@sub.regionh.dk now")]
    + [(PHONE, text) for text in (
        "+46 70 123 45 67", "+46701234567", "0046701234567", "070-123 45 67", "070-1234567", "08-123 456 78",
        "+45 12 34 56 78", "+47 22 33 44 55", "+358 40 1234567", "tlf 22 33 44 55", "Tel: 22334455",
    )]
    + [(ADDRESS, text) for text in (
        "Storgatan 12", "Kungsgatan 5B, Linköping", "Vesterbrogade 12", "Mannerheimintie 5 A 3", "Karl Johans gate 1",
        "Kirkeveien 166", "Peter Bangs Vej 12", "581 85 Linköping", "SE-581 85 Linköping", "2100 København Ø",
        "0450 Oslo", "00100 Helsinki", "DK-2000 Frederiksberg",
    )],
)  # fmt: skip
def test_other_identifiers_are_found(kind, text):
    assert identifier_in(text) == kind


@pytest.mark.parametrize("mark", ["–", "\u2011", "−", "+", " ", "_", "."])
def test_a_number_is_found_whatever_separates_it(mark):
    assert identifier_in(f"P 850709{mark}9805 x") == PERSONNUMMER


@pytest.mark.parametrize(
    "text",
    """SIM-001-T0-SC|L1|FOLFIRINOX|mFOLFIRINOX|liver_met|Karolinska|Linköping University Hospital|St. Olavs hospital
    |Sahlgrenska|10x Genomics Chromium v3.1|SC3Pv3|lab_C2|GRCh38-2020-A|ENSG00000141510|AAACCTGAGAAACCAT-1
    |raw/L1/filtered_feature_bc_matrix.h5|1234567|0.0045|10^9/L|CT|ca199|GSE111672|GSM3036909|Visium v2 11 mm
    |230412_A00123_0456_BHXXXXDSX5|230412|2024-03|March 2024|12:30:00|10.3.1|2024.3.1|1234567890|0.8507099805
    |loss 0.8507099805, then 0.2010437051|2021-001234-12|NCT05271110|556036-0793|Martina Hansens Hospital
    |Maria Sygehus|Peter MacCallum Cancer Centre|Carl Zeiss Axioscan|Victoria Blue|AnnData 0.10.8|Bowtie 2|Aggregate 2|Live Singlets 3|per_lesion
    |per person|MarkDuplicates|LivMet|mTOR Signaling|ASA Score|Julia Version 1.9|Oscar trial|Alexa Fluor 488|MARCH1
    |1-Mar|1000 Genomes|10000 Cells|10.1038/s41586-020-1234-5|spaceranger-3.0.1|202403011239|Oslo|Anna|Svensson
    |e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855|-355|+12|1e-10|yes|T0_pre|not_evaluable""".replace("\n    ", "").split("|"),
)  # fmt: skip
def test_harmless_values_pass(text):
    assert identifier_in(text) is None


def test_no_value_of_a_valid_study_nor_of_the_schemas_is_taken_for_an_identifier():
    cells = [cell for name in STUDY_TABLES for line in table_text(name).splitlines() for cell in line.split("\t")]
    for name in TABLES:
        for column, schema in table_schema(name)["properties"].items():
            assert identifying_column(column) is None
            cells += [column, *(str(option) for option in schema.get("enum", ()))]
    assert [cell for cell in cells if identifier_in(cell)] == []


def test_dates_of_runs_in_paths_can_be_let_pass_and_nothing_else():
    assert identifier_in("output-XETG00123__0012345__Region_1__20240301__102030") == CALENDAR_DATE
    assert identifier_in("output-XETG00123__0012345__Region_1__20240301__102030", dates=False) is None
    assert identifier_in("raw/2024-03-01/AnnaSvensson.h5", dates=False) == NAME
    assert identifier_in("raw/2024-03-01/850709-9805.h5", dates=False) == PERSONNUMMER


# ----------------------------------------------------------------------------------------------- generated identifiers


def luhn_digit(digits: str) -> str:
    doubled = [int(digit) * weight for digit, weight in zip(digits, (2, 1) * 5, strict=False)]
    return str(-sum(sum(map(int, str(number))) for number in doubled) % 10)


def swedish(born: date, serial: int, *, coordinated: bool, century: bool, separator: str) -> str:
    day = born.day + 60 * coordinated
    digits = f"{born:%y%m}{day:02d}{serial:03d}"
    prefix = f"{born:%Y}"[:2] if century else ""
    return f"{prefix}{digits[:6]}{separator}{digits[6:]}{luhn_digit(digits)}"


def norwegian(born: date, serial: int, *, kind: str) -> str | None:
    day, month = born.day + 40 * (kind == "D"), born.month + 40 * (kind == "H")
    digits = f"{day:02d}{month:02d}{born:%y}{serial:03d}"
    for weights in ((3, 7, 6, 1, 8, 9, 4, 5, 2), (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)):
        check = -sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True)) % 11
        if check == 10:
            return None  # such a serial number is never given
        digits += str(check)
    return digits


def finnish(born: date, serial: int, sign: str) -> str:
    digits = f"{born:%d%m%y}{serial:03d}"
    return f"{digits[:6]}{sign}{digits[6:]}{'0123456789ABCDEFHJKLMNPRSTUVWXY'[int(digits) % 31]}"


BORN = st.dates(date(1910, 1, 1), date(2009, 12, 31))
AROUND = st.sampled_from(["{}", "pt {} today", "P-{}", "S_{}_T0", "x:{};"])


@PROPERTY
@given(BORN, st.integers(1, 999), st.booleans(), st.booleans(), st.sampled_from(["", "-", "+"]), AROUND)
def test_every_swedish_number_is_found(born, serial, coordinated, century, separator, around):
    number = swedish(born, serial, coordinated=coordinated, century=century, separator=separator)
    # A few read as the number of another country too; found they must be.
    assert identifier_in(around.format(number)) in (PERSONNUMMER, SAMORDNINGSNUMMER, CPR)


@PROPERTY
@given(BORN, st.sampled_from("TRSUWXJKLMN"), st.integers(0, 99))
def test_every_swedish_interim_number_is_found(born, letter, serial):
    digits = f"{born:%y%m%d}1{serial:02d}"
    assert identifier_in(f"{born:%y%m%d}-{letter}{serial:02d}{luhn_digit(digits)}") == PERSONNUMMER


@PROPERTY
@given(BORN, st.integers(0, 9999), AROUND)
def test_every_danish_number_with_its_hyphen_is_found(born, serial, around):
    assert identifier_in(around.format(f"{born:%d%m%y}-{serial:04d}")) in (CPR, PERSONNUMMER)


@PROPERTY
@given(BORN, st.integers(0, 999), st.sampled_from(["", "D", "H"]), st.sampled_from(["", " ", "-"]), AROUND)
def test_every_norwegian_number_is_found(born, serial, kind, separator, around):
    number = norwegian(born, serial, kind=kind)
    if number:
        assert identifier_in(around.format(f"{number[:6]}{separator}{number[6:]}")) == FODSELSNUMMER


@PROPERTY
@given(BORN, st.integers(2, 999), st.sampled_from("+-YXWVUABCDEF"), st.booleans(), AROUND)
def test_every_finnish_number_is_found(born, serial, sign, small, around):
    number = finnish(born, serial, sign)
    found = identifier_in(around.format(number.lower() if small else number))
    assert found == HETU or (number[-4:].isdigit() and found in (CPR, PERSONNUMMER, SAMORDNINGSNUMMER))


def test_a_finnish_code_that_looks_like_a_number_with_an_exponent_is_found():
    assert identifier_in(finnish(date(2001, 1, 3), 2, "E")) == HETU
    assert identifier_in("123456E12") is None


@PROPERTY
@given(st.dates(date(1900, 1, 1), date(2099, 12, 31)))
def test_every_day_of_the_calendar_is_found_and_its_month_is_not(day):
    for form in ("%Y-%m-%d", "%d.%m.%Y", "%Y%m%d", "%d %B %Y", "%d-%b-%y", "%d%b%Y", "%Y_%m_%d", "%m/%d/%Y"):
        assert identifier_in(f"{day:{form}}") == CALENDAR_DATE, form
    for form in ("%Y-%m", "%B %Y", "%Y", "%y%m%d", "%m.%Y"):
        assert identifier_in(f"{day:{form}}") is None, form


@pytest.mark.parametrize("text", ["2023-02-29", "31.04.2024", "20241301", "00.03.2024", "1900-02-29", "32/13/2024"])
def test_what_the_calendar_does_not_have_is_no_date(text):
    assert identifier_in(text) is None


def test_a_number_with_one_wrong_digit_is_usually_no_number():
    rng = random.Random(1)
    makers = {
        "Swedish": lambda born: swedish(born, rng.randrange(1, 999), coordinated=False, century=False, separator=""),
        "Norwegian": lambda born: norwegian(born, rng.randrange(999), kind="") or norwegian(born, 0, kind=""),
        "Finnish": lambda born: finnish(born, rng.randrange(2, 899), "A"),
    }
    for name, make in makers.items():
        found, tried = 0, 0
        while tried < 1000:
            number = make(date.fromordinal(rng.randrange(698_000, 733_000)))
            if number is None:
                continue
            position = rng.choice([i for i, digit in enumerate(number) if digit.isdigit()])
            wrong = rng.choice([digit for digit in "0123456789" if digit != number[position]])
            found += identifier_in(number[:position] + wrong + number[position + 1 :]) is not None
            tried += 1
        assert found / tried < 0.05, name


def test_random_numbers_and_ids_are_rarely_taken_for_identifiers():
    """Over 100,000 draws each: 0.07 % of 8 digits, 0.98 % of 10, 0.14 % of 11, 0.05 % of 12, none of the others."""
    rng = random.Random(7)
    bounds = {6: 0, 7: 0, 8: 0.002, 9: 0, 10: 0.015, 11: 0.003, 12: 0.0015}
    for length, bound in bounds.items():
        hits = sum(identifier_in("".join(rng.choices(string.digits, k=length))) is not None for _ in range(5000))
        assert hits / 5000 <= bound, length
    letters, capitals = string.ascii_lowercase, string.ascii_uppercase
    harmless = {
        "id": lambda: f"{''.join(rng.choices(capitals, k=3))}-{rng.randrange(1000):03d}-T{rng.randrange(6)}-SC",
        "barcode": lambda: "".join(rng.choices("ACGT", k=16)) + "-1",
        "run": lambda: f"{rng.randrange(18, 26)}{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}_A{rng.randrange(10**5):05d}_{rng.randrange(999):04d}_BH",
        "alphanumeric": lambda: "".join(rng.choices(capitals + string.digits, k=12)),
        "checksum": lambda: "".join(rng.choices("0123456789abcdef", k=64)),
        "number": lambda: repr(rng.random() * 10 ** rng.randrange(6)),
        "two words": lambda: " ".join("".join(rng.choices(letters, k=6)).capitalize() for _ in range(2)),
    }  # fmt: skip
    for name, draw in harmless.items():
        assert sum(identifier_in(draw()) is not None for _ in range(2000)) <= 1, name


def test_a_large_table_is_searched_in_no_time():
    rows = [("SIM-001", "-3", "ca199", "812.5", "U/mL", "T0_pre", "core_needle", f"SIM-{i:03d}-T0") for i in range(300)]
    cells = [cell for row in rows for cell in row]
    start = time.process_time()
    for _ in range(100_000 // len(cells)):
        for cell in cells:
            identifier_in(cell)
    assert time.process_time() - start < 0.3  # measured 0.02 s


def test_a_long_text_does_not_take_forever():
    start = time.process_time()
    for text in ("a." * 50_000, "1 " * 50_000, "anna" * 25_000, "Anna " * 5_000, "a@" * 50_000, "+46 " * 20_000):
        identifier_in(text)
    assert time.process_time() - start < 3


# -------------------------------------------------------------------------------------------------------------- masking


@PROPERTY
@given(st.text(max_size=300))
def test_a_mask_shows_two_letters_at_most_and_no_run_of_digits(text):
    shown = mask(text)
    start, _, rest = shown.partition("***")
    assert len(start) <= 2 and text.startswith(start) and not any(mark.isdigit() for mark in start)
    assert not re.search(r"\d{3}", shown)
    assert len(text) >= 8 or not start
    assert rest == (f" ({len(text)} characters)" if len(text) < 100 else " (more than 99 characters)")


def test_masks_of_common_values():
    assert mask("Svensson, Anna") == "Sv*** (14 characters)"
    assert mask("850709-9805") == "*** (11 characters)"
    assert mask("Anna") == "*** (4 characters)"


# -------------------------------------------------------------------------------------------------------------- columns


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (NAME, "name Name first_name FirstName last_name surname full_name patient_name PatientName förnamn Förnamn fornamn efternamn fornavn etternavn etunimi sukunimi navn doctor_name"),
        ("a birth date", "dob DOB birth_date BirthDate date_of_birth födelsedatum fodelsedatum fødselsdato syntymäaika patient.dob dob1"),
        ("an address", "address home_address adress adresse osoite street_address"),
        ("a postcode", "postcode postal_code zip zip_code postnummer"),
        (PHONE, "phone phone_number telefon tlf mobile_phone puhelin"),
        (EMAIL, "email e-mail E_Mail email_address epost"),
        ("a medical record number", "mrn MRN journalnummer journal_nr medical_record_number"),
        ("a national identity number", "personnummer personnr cpr CPRnummer cpr_nr fnr fødselsnummer hetu henkilötunnus ssn"),
        ("a person's initials", "initials patient_initials initialer"),
        (None, "gene_name sample_name feature_name library_name names n_genes patient_id centre ip_address born_again cell_type total_counts fnr_curve zip_file namespace"),
    ],
)  # fmt: skip
def test_columns_are_known_by_whole_words(kind, names):
    assert {name: identifying_column(name) for name in names.split()} == dict.fromkeys(names.split(), kind)


@pytest.mark.parametrize("name", ["Date of birth", "Patient name", "Fødselsdato", "E-mail address", "Postal code"])
def test_columns_with_blanks_are_known(name):
    assert identifying_column(name)


# -------------------------------------------------------------------------------------------------------------- configs


def test_the_project_s_own_configs_hold_nobody():
    for path in [DEFAULT_CONFIG, *sorted((PROJECT / "config").rglob("*.yaml"))]:
        assert config_findings(load_yaml(path), table=path.name) == []


def test_keys_and_values_of_a_config_are_searched():
    config = yaml.safe_load(
        """
        study: /data/2024-03-01_export
        report: {title: "Interim report for Anna Svensson"}
        response: {confirmatory: [{feature: 850709-9805}, {feature: x}]}
        labels: {födelsedatum: {kind: binary}, "850709-9805": {kind: ordinal}}
        seed: 8507099805
        note: 2024-03-01
        name: scanpan1
        """
    )
    findings = config_findings(config, table="config")
    assert {(f.severity, f.table, f.row, f.column) for f in findings} == {
        ("error", "config", None, "report.title"),
        ("error", "config", None, "response.confirmatory.0.feature"),
        ("error", "config", None, "labels.födelsedatum"),
        ("error", "config", None, "labels.*** (11 characters)"),
        ("error", "config", None, "seed"),
        ("error", "config", None, "note"),
    }
    shown = " ".join(str(finding) for finding in findings)
    assert not re.search(r"Svensson|\d{3}|2024", shown)
    assert NAME in shown and PERSONNUMMER in shown and CALENDAR_DATE in shown and "a birth date" in shown


def test_a_key_of_the_config_can_be_declared_harmless():
    config = {"report": {"title": "Anna Svensson prize"}, "results": "/home/anna.svensson/x"}
    assert [f.column for f in config_findings(config, table="config")] == ["report.title", "results"]
    assert config_findings(config, table="config", allow=["config.report.title", "config.results"]) == []


# ----------------------------------------------------------------------------------------------------------------- h5ad


def write_h5ad(path, *, obs=None, uns=None, names=None):
    names = [f"{i}" for i in range(4)] if names is None else names
    adata = ad.AnnData(
        np.ones((len(names), 2), dtype=np.float32),
        obs=pd.DataFrame(obs or {}, index=names),
        var=pd.DataFrame({"gene_name": ["A", "B"]}, index=["G1", "G2"]),
        uns=uns or {},
    )
    adata.write_h5ad(path)
    return path


def test_a_harmless_h5ad_has_no_problems(tmp_path):
    obs = {
        "sample_name": ["S1", "S2", "S1", "S2"],
        "n_counts": [12345678, 20991299, 12345679, 1],
        "score": [0.1, np.nan, 2e9, 3.5],
        "cell_type": pd.Categorical(["T cell", "Mast cell", "T cell", "B cell"]),
        "good": [True, False, True, True],
    }
    uns = {"params": {"name": "leiden", "seed": 20240301, "method": "umap"}, "colors": np.array(["#fff", "#000"])}
    assert h5ad_problems(write_h5ad(tmp_path / "a.h5ad", obs=obs, uns=uns)) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"obs": {"dob": ["", "", "", ""]}}, ("obs column 'dob'", "a birth date")),
        ({"obs": {"note": ["", "pt 850709-9805 ill", "", ""]}}, ("obs column 'note'", "'pt***", PERSONNUMMER)),
        ({"obs": {"who": pd.Categorical(["a", "b", "Svensson, Anna", "a"])}}, ("obs column 'who'", "'Sv***", NAME)),
        ({"obs": {"taken": pd.Categorical(["2024-03-01"] * 4)}}, ("obs column 'taken'", CALENDAR_DATE)),
        ({"obs": {"number": [8507099805, 8803200016, 8507099805, 8803200016]}}, ("obs column 'number'", PERSONNUMMER)),
        ({"obs": {"number": [8507099805.0, np.nan, np.nan, 8803200016.0]}}, ("obs column 'number'", PERSONNUMMER)),
        ({"obs": {"number": [707614285] * 4}}, ("obs column 'number'", CPR)),
        ({"obs": {"day": [20240301, 20240302, 20240303, 20240304]}}, ("obs column 'day'", CALENDAR_DATE)),
        ({"obs": {"850709-9805": [1, 2, 3, 4]}}, ("obs column '*** (11 characters)'", PERSONNUMMER)),
        ({"names": ["AnnaSvensson_1", "b", "c", "d"]}, ("obs names", "'An***", NAME)),
        ({"uns": {"log": {"by": "anna.svensson@liu.se"}}}, ("uns/'log'/'by'", EMAIL)),
        ({"uns": {"created": "2024-03-01 12:00"}}, ("uns/'created'", CALENDAR_DATE)),
        ({"uns": {"people": {"first_name": "x"}}}, ("uns/'people'/'first_name'", NAME)),
        ({"uns": {"doctors": np.array(["x", "Lars Hansen"], dtype=object)}}, ("uns/'doctors'", NAME)),
        ({"uns": {"meta": pd.DataFrame({"contact": ["+46 70 123 45 67"]}, index=["a"])}}, ("uns/'meta'", PHONE)),
        ({"uns": {"rec": np.array([("x", 1), ("Lars Hansen", 2)], dtype=[("who", "O"), ("n", "i4")])}}, ("uns/'rec'", NAME)),
    ],
)  # fmt: skip
def test_identifiers_in_an_h5ad_are_named_with_their_place(tmp_path, content, words):
    problems = h5ad_problems(write_h5ad(tmp_path / "a.h5ad", **content))
    assert len(problems) == 1 and all(word in problems[0] for word in words), problems
    assert not re.search(r"\d{3}|Svensson|Hansen|liu", problems[0].replace("uns/", ""))


def test_nullable_and_old_columns_of_an_h5ad_are_searched_too(tmp_path):
    path = write_h5ad(
        tmp_path / "a.h5ad", obs={"number": pd.array([8507099805, None, 8803200016, None], dtype="Int64")}
    )
    with h5py.File(path, "a") as file:
        old = file["obs"].create_group("__categories")
        old["place"] = np.array([b"Oslo", b"Storgatan 12"])
        file["obs/place"] = np.zeros(4, dtype=np.int8)
    problems = h5ad_problems(path)
    assert len(problems) == 2 and PERSONNUMMER in problems[1] and ADDRESS in problems[0]


def test_a_column_of_numbers_needs_every_value_to_be_an_identifier(tmp_path):
    obs = {"count": [8507099805, 8803200016, 8507099805, 8803200017]}
    assert h5ad_problems(write_h5ad(tmp_path / "a.h5ad", obs=obs)) == []


def test_the_identifier_at_the_end_of_a_large_column_is_found(tmp_path):
    path = write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(path, "a") as file:
        file["obs/note"] = np.array([b"x"] * 120_000 + [b"AnnaSvensson"])
    assert len(h5ad_problems(path)) == 1


def test_many_problems_are_counted(tmp_path):
    obs = {f"dob{letter}": [""] * 4 for letter in "_a _b _c _d _e _f _g".split()}
    problems = h5ad_problems(write_h5ad(tmp_path / "a.h5ad", obs=obs))
    assert len(problems) == 6 and problems[-1] == "and 2 more"


def test_the_module_loads_without_the_heavy_libraries():
    code = (
        "import sys, livermet.privacy as p; p.identifier_in('Anna Svensson');"
        "print([m for m in ('numpy', 'pandas', 'h5py', 'anndata') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
