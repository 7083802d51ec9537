"""Identifiers of persons in cells, ids, column names, configs and h5ad files, so that none enters a study.

What is found is named by its kind; the value itself is only ever shown as :func:`mask` leaves it. Numbers are checked
by calendar and check digits, so that a number that merely has the length of an identifier passes. Six digits alone
(YYMMDD, as in the names of run folders) are no calendar date here: too many harmless numbers look like one.

Not found: a person who is named without a common given name beside the surname, a name in lower case whose surname has
no usual ending, an identifier glued to further digits, the Norwegian help numbers that hold no date, and a Danish
number without a hyphen that fails the check digit (Denmark gave it up in 2007).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache, lru_cache, partial
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livermet.findings import Finding

if TYPE_CHECKING:
    import h5py

RULE = "privacy"
PERSONNUMMER = "a Swedish personnummer"
SAMORDNINGSNUMMER = "a Swedish samordningsnummer"
CPR = "a Danish CPR number"
FODSELSNUMMER = "a Norwegian fødselsnummer"
HETU = "a Finnish personal identity code"
EMAIL = "an e-mail address"
PHONE = "a phone number"
CALENDAR_DATE = "a calendar date"
ADDRESS = "a street address"
NAME = "a person's name"

# Config keys whose values are folders and files: the date of an export in the name of a folder is nobody's date.
PATH_KEYS = ("study", "results", "batches", "trial", "roots")
SHORTEST = 5
_BLOCK = 100_000


def identifier_in(text: str, *, dates: bool = True) -> str | None:
    """Kind of the identifier of a person that a text holds anywhere, such as "a Swedish personnummer", or None.

    Parameters
    ----------
    text
        A cell, an id, or longer text.
    dates
        False for names of files and folders, where a calendar date is that of an instrument's run.
    """
    return _identifier_in(text, dates) if len(text) >= SHORTEST else None


@lru_cache(maxsize=50_000)
def _identifier_in(text: str, dates: bool) -> str | None:
    # Each search is preceded by a cheap look whether it can find anything: most cells hold short numbers and ids.
    if text.isascii() and not _WORTH_A_LOOK.search(text):
        return None
    if number := _NUMBER.fullmatch(text):
        text = number[1]  # the digits behind the point are a measurement, or what a spreadsheet makes of a number
        if len(text) < 8:
            return None
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).translate(_PLAIN)
    words = [word.casefold() for word in _WORD.findall(text)]
    figures = _NO_IDENTIFIER.sub(" ", text) if _SIX_DIGITS.search(text) else ""
    if figures and _NATIONAL_SHAPE.search(figures):
        for pattern, valid, kind in _NATIONAL:
            if any(valid(match) for match in pattern.finditer(figures)):
                return kind
    if "@" in text and _EMAIL.search(text):
        return EMAIL
    if _has_phone(text, words):
        return PHONE
    if dates and (_has_eight_digit_date(figures) or _has_date(text, words)):
        return CALENDAR_DATE
    if " " in text and _has_address(text, words):
        return ADDRESS
    return NAME if len(words) > 1 and not _given_names()[0].isdisjoint(words) and _names_person(text) else None


def mask(text: str) -> str:
    """What may be shown of a value: at most its first two letters, and its length; of a short one the length alone."""
    start = "".join(takewhile(str.isalpha, text[:2])) if len(text) >= 8 else ""
    return f"{start}*** ({len(text) if len(text) < 100 else 'more than 99'} characters)"


_PLAIN = {ord(mark): "-" for mark in "‐‑‒–—−"} | {ord(mark): " " for mark in "\u00a0\u2007\u202f\u2009"}
_WORTH_A_LOOK = re.compile(
    r"[A-Za-z]{4}|[ @+]|\d{6}|[A-Za-z]{2}[-._,]{1,2}[A-Za-z]|\d[-/._]\d{1,3}[-/._]\d|\d[-/._]?[A-Za-z]{3}"
)
# No number has an exponent of four digits, but a Finnish code with the sign E may look like one.
_NUMBER = re.compile(r"([+-]?\d+)(?:[.,]\d*)?(?:[eE][+-]?\d{1,3})?")

# ------------------------------------------------------------------------------------------------- national identifiers

_SIX_DIGITS = re.compile(r"\d{6}")
# Numbers with many decimals, and checksums.
_NO_IDENTIFIER = re.compile(r"(?<![\w.])\d+\.\d{5,}(?:[eE][-+]?\d+)?(?![\w.])|(?<![^\W_])[0-9a-fA-F]{32,}(?![^\W_])")
_NATIONAL_SHAPE = re.compile(r"\d{6}[^\W_]?[-+ _.]?[^\W_]\d\d")
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _is_day(year: int, month: int, day: int) -> bool:
    """Whether the calendar has this day; a year of two digits is one of 2000 to 2099, whose leap years are the same."""
    if not 1 <= month <= 12 or not 1 <= day <= _MONTH_DAYS[month - 1]:
        return False
    return (month, day) != (2, 29) or (year % 4 == 0 and year != 1900)


def _weighted(digits: str, weights: tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True))


# The letters of interim numbers stand in the place of the first serial digit and count as 1.
_SWEDISH = re.compile(
    r"(?<!\d)(?:(1[89]\d\d|20\d\d)(\d\d)(\d\d)([-+ ]?)|(\d\d)(\d\d)(\d\d)([-+ _.]?))"
    r"(\d|(?<=[-+])[TRSUWXJKLMN])(\d{3})(?!\d)",
    re.IGNORECASE,
)


def _swedish(match: re.Match[str], *, added_to_day: int = 0) -> bool:
    """YYMMDD-NNNN or YYYYMMDDNNNN with its Luhn digit; in a samordningsnummer 60 is added to the day.

    Source: Skatteverket, SKV 704 (personnummer) and SKV 707 (samordningsnummer).
    """
    long_year = match[1]
    year, month, day = (match[1], match[2], match[3]) if long_year else (match[5], match[6], match[7])
    if long_year and not match[4] and int(year) > 2019:
        return False  # the stamp of an instrument (YYYYMMDDhhmm, MERSCOPE): no patient of a trial was born then
    if not _is_day(int(year) if long_year else 2000 + int(year), int(month), int(day) - added_to_day):
        return False
    serial = match[9] if match[9].isdigit() else "1"
    digits = year[-2:] + month + day + serial + match[10]
    doubled = (int(digit) * (2 - i % 2) for i, digit in enumerate(digits))
    return sum(n // 10 + n % 10 for n in doubled) % 10 == 0


_DANISH = re.compile(r"(?<!\d)(\d\d)(\d\d)(\d\d)([- _.]?)(\d{4})(?!\d)")


def _danish(match: re.Match[str]) -> bool:
    """DDMMYY-XXXX: the shape with its hyphen is enough, since the check digit was given up; else modulus 11."""
    day, month, year = (int(match[i]) for i in (1, 2, 3))
    if not _is_day(2000 + year, month, day):
        return False
    digits = match[1] + match[2] + match[3] + match[5]
    return match[4] == "-" or _weighted(digits, (4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


_NORWEGIAN = re.compile(r"(?<!\d)(\d\d)(\d\d)(\d\d)[- _.]?(\d{5})(?!\d)")


def _norwegian(match: re.Match[str]) -> bool:
    """DDMMYYNNNKK with both check digits; a D-number has 40 added to the day, an H-number 40 to the month.

    Source: Skatteetaten.
    """
    day, month, year = (int(match[i]) for i in (1, 2, 3))
    if not _is_day(2000 + year, month - 40 * (month > 40), day - 40 * (day > 40)):
        return False
    digits = match[1] + match[2] + match[3] + match[4]
    first = _weighted(digits[:10], (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11
    second = _weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11
    return first == second == 0


# Without its sign of the century, or with another in its place, only a check letter makes it one.
_FINNISH = re.compile(r"(?<!\d)(\d\d)(\d\d)(\d\d)([-+A-FU-Y]|[ _.]?)(\d{3})([0-9A-FHJ-NPR-Y])(?![^\W_])", re.IGNORECASE)
_FINNISH_CHECK = "0123456789ABCDEFHJKLMNPRSTUVWXY"


def _finnish(match: re.Match[str]) -> bool:
    """DDMMYYCNNNT: date, sign of the century (since 2023 also Y to U and B to F), number, check character modulus 31.

    Source: Digital and Population Data Services Agency (DVV).
    """
    day, month, year = (int(match[i]) for i in (1, 2, 3))
    if not _is_day(2000 + year, month, day) or (match[4] in "_. " and match[6].isdigit()):
        return False
    check = int(match[1] + match[2] + match[3] + match[5]) % 31
    return _FINNISH_CHECK[check] == match[6].upper()


# Some numbers are valid in two countries; they get the commoner name.
_NATIONAL: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], bool], str], ...] = (
    (_SWEDISH, _swedish, PERSONNUMMER),
    (_DANISH, _danish, CPR),
    (_NORWEGIAN, _norwegian, FODSELSNUMMER),
    (_FINNISH, _finnish, HETU),
    (_SWEDISH, partial(_swedish, added_to_day=60), SAMORDNINGSNUMMER),
)


# --------------------------------------------------------------------------------------------- phones, mails, addresses

_PHONE = re.compile(r"(?<![\w.])\+[34]\d(?:[ ()./-]{0,2}\d){6,12}(?!\d)")  # with a European country code
_PHONE_AT_HOME = re.compile(
    r"(?<![\w.-])0(?:0(?:46|45|47|358)(?:[ -]?\d){7,10}"
    r"|(?:7[02369]|4\d|50)[- ]\d{3} ?\d\d ?\d\d"
    r"|\d{1,3}-\d{2,3}(?: \d{2,3}){1,2})(?!\d)"
)
_PHONE_WORDS = frozenset("tel tlf tfn phone telephone telefon mob mobil puh puhelin".split())
_SAID_TO_BE_PHONE = re.compile(rf"\b(?:{'|'.join(_PHONE_WORDS)})\b\.?:? *\+?\d(?:[ -]?\d){{5,12}}", re.IGNORECASE)


def _has_phone(text: str, words: list[str]) -> bool:
    if "+" in text and _PHONE.search(text):
        return True
    if not _PHONE_WORDS.isdisjoint(words) and _SAID_TO_BE_PHONE.search(text):
        return True
    return bool(_PHONE_AT_HOME.search(text))


_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})*\.[A-Za-z]{2,}")
_STREETS = (
    "gatan gata sgate egate gaten gade gaden vägen väg vej vejen vei veien veg vegen allé allén gränd stigen stien "
    "stræde torget torv plassen plads katu atie ntie utie kuja polku kaari"
).split()
_NO_STREET = "aggregat|segregat|congregat|delegat|relegat|brigade|renegade"
_STREET = re.compile(
    rf"\b(?!{_NO_STREET})[^\W\d_]{{2,30}}(?:{'|'.join(_STREETS)}) \d{{1,4}}[A-Z]?\b"
    r"|\b[^\W\d_]{2,30} [^\W\d_]{2,30}s (?:gate|gata|gade|väg|vei|vej|veg|allé|plass|plads) \d{1,4}[A-Z]?\b",
    re.IGNORECASE,
)
_STREET_ENDS = (*_STREETS, "gate", "plass")
_PLACES = frozenset(
    "stockholm solna huddinge danderyd göteborg mölndal malmö lund uppsala linköping norrköping örebro västerås umeå "
    "jönköping helsingborg gävle sundsvall karlstad växjö halmstad eskilstuna kalmar kristianstad skövde falun luleå "
    "köbenhavn københavn frederiksberg hellerup herlev hvidovre glostrup gentofte aarhus århus odense aalborg esbjerg "
    "vejle roskilde randers kolding oslo lørenskog bergen trondheim stavanger tromsø drammen kristiansand ålesund bodø "
    "fredrikstad helsinki helsingfors espoo esbo vantaa vanda tampere tammerfors turku åbo oulu uleåborg kuopio "
    "jyväskylä lahti vaasa".split()
)
# Four digits that are a year of this century or the last are no postcode, unless they say so (DK-2000).
_POSTCODE = re.compile(
    rf"(?<![\w.])(?:(?:SE?|DK|NO?|FIN?)-\d{{3}} ?\d{{1,2}}|\d{{3}} ?\d\d|(?!19|20)\d{{4}}) (?:{'|'.join(_PLACES)})\b",
    re.IGNORECASE,
)


def _has_address(text: str, words: list[str]) -> bool:
    if any(word.endswith(_STREET_ENDS) for word in words) and _STREET.search(text):
        return True
    return not _PLACES.isdisjoint(words) and bool(_POSTCODE.search(text))


# ---------------------------------------------------------------------------------------------------------------- dates

_THREE_PARTS = re.compile(r"\d[-/._] ?\d\d?[-/._] ?\d")
_YEAR_FIRST = re.compile(r"(?<!\d)(1[89]\d\d|20\d\d)(?:([-_.])(\d\d)\2(\d\d)|/(\d\d?)/(\d\d?))(?!\d)")
_EIGHT_DIGITS = re.compile(r"(?<![\d.])(19\d\d|20\d\d)(\d\d)(\d\d)(?!\d)")
_YEAR_LAST = re.compile(r"(?<![\d.])(\d\d?)([-/_]|\. ?)(\d\d?)\2(1[89]\d\d|20\d\d)(?!\d)")
# With two digits for the year only as a word of its own: it is too close to a version or an id.
_SHORT_YEAR = re.compile(r"(?<!\S)(?:(\d\d)([-/.])(\d\d)\2(\d\d)|(\d\d?)/(\d\d?)/(\d\d))(?![^\s,;)])")
_MONTHS = frozenset(
    "jan january januari januar feb february februari februar mar march mars marts apr april may maj mai jun june juni "
    "jul july juli aug august augusti sep sept september oct okt october oktober nov november dec des december "
    "desember".split()
) | {
    f"{month}kuu{ending}"
    for month in "tammi helmi maalis huhti touko kesä heinä elo syys loka marras joulu".split()
    for ending in ("", "ta")
}
_MONTH = f"(?:{'|'.join(sorted(_MONTHS, key=len, reverse=True))})"
_NAMED_MONTH = re.compile(
    rf"(?<![^\W_])(?:[0-3]?\d(?:st|nd|rd|th|\.)?(?:[ ._/-]{{0,2}}{_MONTH}\.?[ ,._/-]{{0,2}}(?:19|20)\d\d"
    rf"|[ /-]{_MONTH}[ /-]\d\d)"
    rf"|{_MONTH}\.? [0-3]?\d(?:st|nd|rd|th)?,? (?:19|20)\d\d"
    rf"|(?:19|20)\d\d[ ._/-]?{_MONTH}[ ._/-]?[0-3]?\d)(?![^\W_])",
    re.IGNORECASE,
)


def _has_eight_digit_date(text: str) -> bool:
    return any(_is_day(int(match[1]), int(match[2]), int(match[3])) for match in _EIGHT_DIGITS.finditer(text))


def _has_date(text: str, words: list[str]) -> bool:
    if not _MONTHS.isdisjoint(words) and _NAMED_MONTH.search(text):
        return True
    return bool(_THREE_PARTS.search(text)) and _has_date_in_figures(text)


def _has_date_in_figures(text: str) -> bool:
    for match in _YEAR_FIRST.finditer(text):
        if _is_day(int(match[1]), int(match[3] or match[5]), int(match[4] or match[6])):
            return True
    for match in _YEAR_LAST.finditer(text):
        first, second, year = int(match[1]), int(match[3]), int(match[4])
        if _is_day(year, second, first) or (match[2] == "/" and _is_day(year, first, second)):
            return True
    for match in _SHORT_YEAR.finditer(text):
        first, second, third = (
            int(a or b) for a, b in ((match[1], match[5]), (match[3], match[6]), (match[4], match[7]))
        )
        if _is_day(2000 + third, second, first) or _is_day(2000 + first, second, third):
            return True
    return False


# ---------------------------------------------------------------------------------------------------------------- names

_UPPER, _LOWER = "A-ZÀ-ÖØ-ÞĆČĐŁŃŚŠŹŻŽİĞŞ", "a-zß-öø-ÿćčđłńśšźżžığşąę"
# A word ends where lower case turns to upper case, so that AnnaSvensson is two.
_WORD = re.compile(rf"[{_UPPER}]?[{_LOWER}]+|[{_UPPER}]+(?![{_LOWER}])")
_AFTER = re.compile(rf" +(?:(?:von|af|av|de|van|der|den|la|el|al|bin|[{_UPPER}]\.?) +)*([^\W\d_]+)(?: +([^\W\d_]+))?")
_JOINED = re.compile(rf"[._-]{{0,2}}({_WORD.pattern})")
_BEFORE = re.compile(rf"({_WORD.pattern})(, ?|[ ._-]{{0,2}})$")
_SURNAME = re.compile(
    r".{2,}(?:son|sen|sén|berg|ström|strom|gren|lund|[kq]vist|quist|dahl|holm|lind|mann?|nen|stedt|borg|blom|"
    r"skog|haug|rud|vik|gaard|gård|stad|wall|vall|bäck|sjö|dal|nes|moen|ander|enius|elius|löf|fors|heim)s?"
)
_SURNAMES = frozenset(
    "berg lund dahl dal lind lindh holm lie moen ek bakken haugen hagen vik strand solberg møller moller mikkola laine "
    "lehto salo niemi mattila rantala kallio ojala lahti ali khan ahmed mohamed hassan hussein ibrahim smith jones "
    "brown müller nguyen kowalski nowak ivanov garcia martinez krogh bang juhl friis skov kjær winther hauge eide "
    "sunde foss rossi sandvik björk bjork ahl hall ljung ros falk frisk modig rask krantz rosén rosen norén "
    "lundh".split()
)
# Words with the ending of a surname, and what stands behind a given name in names of places, firms and dyes.
_NO_SURNAME = re.compile(
    r"(?:.*(?:hospital|universit|sjukhus|sykehus|sygehus|sairaala|klini[ck]|kliniken|klinikk|institut|cent(?:er|re|rum)|"
    r"lasarett|stiftelse|foundation|laborator|research|memorial|cancer).*|"
    r"study|studies|trial|cohort|project|lab|group|model|score|test|index|college|school|medical|national|health|"
    r"children|blue|red|green|fluor|zeiss|roth|planck|version|language|server|browser|set|cells?|"
    r"human|woman|german|roman|person|season|reason|comparison|lesson|horizon|benchmark|spearman|caudal|modal|basal)",
)


@cache
def _given_names() -> tuple[frozenset[str], frozenset[str]]:
    """Given names in small letters, and those among them that are words too (marked in the file)."""
    text = (files("livermet") / "resources" / "given_names.txt").read_text(encoding="utf-8")
    listed = {line.casefold() for line in text.split("\n") if line and not line.startswith("#")}
    words = frozenset(name.rstrip("*") for name in listed if name.endswith("*"))
    names = words | {name for name in listed if not name.endswith("*")}
    return names | {_folded(name) for name in names if len(name) > 4}, words


def _folded(text: str) -> str:
    """Small letters without marks: ö and ø as o, å as a, æ as ae."""
    text = text.casefold().replace("ø", "o").replace("æ", "ae")
    return "".join(mark for mark in unicodedata.normalize("NFD", text) if not unicodedata.combining(mark))


def _names_person(text: str) -> bool:
    """Whether a common given name stands beside what looks like a surname."""
    names, _ = _given_names()
    for given in _WORD.finditer(text):
        if given[0].casefold() not in names:
            continue
        before = _BEFORE.search(text, max(0, given.start() - 40), given.start())
        if before and _is_name(given[0], before[1], written_out=before[2].startswith(",")):
            return True
        joined, after = _JOINED.match(text, given.end()), _AFTER.match(text, given.end())
        if joined and _is_name(given[0], joined[1], written_out=False):
            return True
        institution = after and _NO_SURNAME.fullmatch((after[2] or "").casefold())  # Martina Hansens Hospital
        if after and not institution and _is_name(given[0], after[1], written_out=True):
            return True
    return False


def _is_name(given: str, neighbour: str, *, written_out: bool) -> bool:
    """Whether a given name and the word beside it name a person.

    Where they are ``written_out`` ("Anna Nowak", "Nowak, Anna") capital letters are enough; otherwise ("anna.svensson",
    "AnnaSvensson") the neighbour needs the ending of a surname, as it does beside a given name that is a word too.
    """
    other = neighbour.casefold()
    if len(other) < 2 or _NO_SURNAME.fullmatch(other):
        return False
    capitals = given[0].isupper() and neighbour[0].isupper()
    a_word = given.casefold() in _given_names()[1]
    if other in _SURNAMES or _SURNAME.fullmatch(other):
        return capitals or not a_word
    return written_out and capitals and not a_word


# ---------------------------------------------------------------------------------------------------- names of columns

_COLUMN_WORDS = {
    NAME: "firstname lastname surname forename givenname familyname fullname middlename maidenname patientname "
    "personname subjectname namesurname fornamn efternamn tilltalsnamn mellannamn fornavn efternavn etternavn "
    "mellomnavn mellemnavn etunimi etunimet sukunimi kutsumanimi nextofkin anhorig parorende",
    "a person's initials": "initials initialer initialit nimikirjaimet",
    "a birth date": "dob dateofbirth birthdate birthday birthdt brthdtc brthdat fodelsedatum fodelsedag fodelsedato "
    "fodselsdato fodselsdag foedselsdato foedselsdag syntymaaika syntymapaiva",
    EMAIL: "email emails epost emailaddress mailaddress epostadress epostadresse sahkoposti sahkopostiosoite",
    "an address": "address homeaddress adress adresse osoite kotiosoite katuosoite street gatuadress gateadresse "
    "bostadsadress",
    "a postcode": "postcode postalcode zipcode postnummer postnr postinumero",
    PHONE: "phone phonenumber telephone telefon telefonnummer telnr tlf tlfnr mobilephone mobilenumber mobilnr "
    "mobilnummer mobiltelefon cellphone puhelin puhelinnumero matkapuhelin faxnumber",
    "a medical record number": "mrn medicalrecordnumber medicalrecordno hospitalnumber journalnummer journalnr "
    "journalno patientjournal nhsnumber nhsno",
    "a national identity number": "personnummer personnr personalnumber personalid samordningsnummer samordningsnr "
    "cpr cprnr cprno cprnummer cprnumber fodselsnummer fodselsnr foedselsnummer foedselsnr dnummer hetu "
    "henkilotunnus sotu ssn socialsecuritynumber nationalid nationalidnumber nationalidentitynumber passport "
    "passportnumber kennitala",
}
_KIND_OF_COLUMN: dict[str, str | None] = {word: kind for kind, words in _COLUMN_WORDS.items() for word in words.split()}
_KIND_OF_COLUMN |= {f"{what}address": None for what in ("ip", "mac", "web", "url", "memory")}
# These count alone or beside a word for a person only: the name of a gene, a sample or a feature is harmless.
_ALONE = dict.fromkeys("name namn navn nimi".split(), NAME) | {
    "tel": PHONE,
    "fax": PHONE,
    "mail": EMAIL,
    "zip": "a postcode",
    "pnr": "a national identity number",
    "fnr": "a national identity number",
}
_PERSON_WORDS = frozenset(
    "patient patients patientens pasient pasientens potilas potilaan person persons subject participant "
    "doctor physician surgeon pathologist radiologist nurse investigator contact legal preferred".split()
)


@cache
def identifying_column(name: str) -> str | None:
    """Kind of what a column of this name would hold of a person, such as "a birth date", or None.

    Whole words count, however they are joined (birth_date, birthDate, "Birth date"), in English, Swedish, Danish,
    Norwegian and Finnish, with or without their marks.
    """
    words = [_folded(word) for word in _WORD.findall(unicodedata.normalize("NFC", name))]
    for length in range(len(words), 0, -1):
        for start in range(len(words) - length + 1):
            joined = "".join(words[start : start + length])
            if joined in _KIND_OF_COLUMN:
                if kind := _KIND_OF_COLUMN[joined]:
                    return kind
                return None
    alone = [word for word in words if word not in _PERSON_WORDS]
    return _ALONE.get(alone[0]) if len(alone) == 1 else None


# ---------------------------------------------------------------------------------------------------------- configs


def config_findings(config: Mapping[str, Any], *, table: str, allow: Collection[str] = ()) -> list[Finding]:
    """What the keys and values of a config, a trial file or a batch overlay hold of persons.

    Parameters
    ----------
    config
        The loaded file, nested.
    table
        What the findings are about.
    allow
        Keys, as ``config.report.title``, whose values look like an identifier and are none.

    Returns
    -------
    One error per key; ``column`` is the dotted key and ``value`` is masked. A key that is just ``name`` names a thing,
    and dates in the paths of ``PATH_KEYS`` are let pass.
    """
    findings = []
    for place, key, value in _walk(config, ""):
        inside = identifier_in(key)
        column = f"{place}{mask(key) if inside else key}"
        kind = inside or (identifying_column(key) if key != "name" else None)
        if kind:
            findings.append(Finding("error", table, None, column, "", f"the key holds {kind}", "remove it", RULE))
            continue
        dates = column.split(".")[0] not in PATH_KEYS
        kind = identifier_in(value, dates=dates)
        if kind and f"config.{column}" not in allow:
            remedy = f"take it out (if it is no such thing: not_personal: [config.{column}] in the config)"
            findings.append(Finding("error", table, None, column, mask(value), f"holds {kind}", remedy, RULE))
    return findings


def _walk(content: Mapping[str, Any] | list[Any], place: str) -> Iterator[tuple[str, str, str]]:
    """(Dotted place, key, value as text or "") of every entry; entries of a list have their position as key."""
    entries = content.items() if isinstance(content, Mapping) else enumerate(content)
    for key, value in entries:
        if isinstance(value, Mapping | list):
            yield place, str(key), ""
            shown = mask(str(key)) if identifier_in(str(key)) else key
            yield from _walk(value, f"{place}{shown}.")
        else:
            yield place, str(key), "" if value is None else str(value)


# -------------------------------------------------------------------------------------------------------------- h5ad


def h5ad_problems(path: Path, *, shown: int = 5) -> list[str]:
    """What obs and uns of an h5ad file hold of persons, in words that say where, with every value masked.

    Looked at are the names of columns and keys, cell names, text (each category once), and columns of numbers all of
    which are identifiers or dates; a lone key ``name`` of uns names a thing.

    Parameters
    ----------
    path
        The file.
    shown
        So many problems are named, and the number of the further ones.

    Raises
    ------
    OSError
        If the file can't be opened.
    """
    import h5py

    with h5py.File(path) as file:
        problems = list(dict.fromkeys([*_obs_problems(file), *_uns_problems(file)]))
    further = len(problems) - shown
    return problems[:shown] + ([f"and {further} more"] if further > 0 else [])


# Left out of cell names, so that what is before and after it is looked at once and not for every cell.
_BARCODE = re.compile(r"[ACGTN]{10,}(?:-\d+)?")


def _obs_problems(file: h5py.File) -> Iterator[str]:
    import h5py

    obs = file.get("obs")
    if not isinstance(obs, h5py.Group):
        return
    index = obs.attrs.get("_index", "_index")
    for name, item in obs.items():
        if name == "__categories":  # where anndata before 0.8 keeps them
            for column, categories in item.items():
                yield from _text_problem(categories, f"obs column {_shown(column)}")
            continue
        if kind := _kind_of_name(name):
            yield f"obs column {_shown(name)} ({kind})"
            continue
        place = "obs names" if name == index else f"obs column {_shown(name)}"
        yield from _text_problem(item, place)
        values, missing = (item.get("values"), item.get("mask")) if isinstance(item, h5py.Group) else (item, None)
        if (
            values is not None
            and values.ndim == 1
            and values.dtype.kind in "iuf"
            and (kind := _kind_of_numbers(values, missing))
        ):
            yield f"{place} holds numbers of the kind: {kind}"


def _uns_problems(file: h5py.File) -> Iterator[str]:
    import h5py

    def visit(group: h5py.Group, place: str) -> Iterator[str]:
        for name, item in group.items():
            here = f"{place}/{_shown(name)}"
            if name != "name" and (kind := _kind_of_name(name)):
                yield f"{here} ({kind})"
            elif isinstance(item, h5py.Group):
                yield from visit(item, here)
            else:
                yield from _text_problem(item, here)

    if isinstance(file.get("uns"), h5py.Group):
        yield from visit(file["uns"], "uns")


def _kind_of_name(name: str) -> str | None:
    return identifying_column(name) or identifier_in(name)


def _shown(name: str) -> str:
    return f"'{mask(name) if identifier_in(name) else name}'"


def _text_problem(item: h5py.Dataset | h5py.Group, place: str) -> Iterator[str]:
    """The first identifier among the texts of one element."""
    for text in _texts(item):
        if kind := identifier_in(text):
            yield f"{place} holds {mask(text)!r} ({kind})"
            return


def _texts(item: h5py.Dataset | h5py.Group) -> Iterator[str]:
    """Texts of a dataset, of its fields, or of the categories or values of a column, block by block."""
    import h5py

    if isinstance(item, h5py.Group):
        for part in ("categories", "values"):
            if part in item:
                yield from _texts(item[part])
        return
    fields = [(name, item.dtype[name]) for name in item.dtype.names or ()] or [(None, item.dtype)]
    for name, kind in fields:
        if not h5py.check_string_dtype(kind):
            continue
        starts = range(0, item.shape[0], _BLOCK) if item.ndim else (None,)
        for start in starts:
            block = item[()] if start is None else item[start : start + _BLOCK]
            values = block if name is None else block[name]
            flat = values.ravel().tolist() if hasattr(values, "ravel") else [values]
            texts = (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in flat)
            yield from {_BARCODE.sub("", text) for text in texts}


def _kind_of_numbers(values: h5py.Dataset, missing: h5py.Dataset | None) -> str | None:
    """Kind of a column of whole numbers each of which is an identifier or a date; zeros may have been lost in front."""
    kind = None
    for start in range(0, values.shape[0], _BLOCK):
        block = values[start : start + _BLOCK]
        if missing is not None:
            block = block[~missing[start : start + _BLOCK]]
        for number in set(block[block == block].tolist()):  # a missing number is not equal to itself
            if not 1e7 <= number < 1e12 or number != int(number):
                return None
            digits = str(int(number))
            padded = (digits, digits.zfill(10), digits.zfill(11)) if len(digits) > 8 else (digits,)
            kind = next((found for text in padded if (found := identifier_in(text))), None)
            if kind is None:
                return None
    return kind
