"""Numbers that a state gives to a person, or that name their account with it, found by their check digits.

python-stdnum knows the rules of each country. A number that is laid out as its country writes it, or whose rules few
numbers meet by chance, is one wherever it stands; of the others, bare digits, it takes a word for it beside them.
Gate: validation.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module

Span = tuple[int, int]

# By the lengths of its groups, and their number of digits: modules of stdnum that check it.
_BARE = {  # rules that few numbers meet by chance, by a date in them or two check digits
    11: ("no.fodselsnummer", "ee.ik", "be.nn", "pl.pesel"),
    12: ("se.personnummer",),
    13: ("ch.ssn", "ro.cnp", "si.emso", "kr.rrn"),
    15: ("fr.nir",),
    18: ("cn.ric",),
}
_BARE_WITH_WORD = {
    9: ("nl.bsn", "ca.sin", "au.tfn", "pt.nif", "il.idnr", "us.ssn", "us.itin", "cz.rc"),
    10: (
        "gb.nhs",
        "bg.egn",
        "cz.rc",
        "dk.cpr",
        "is_.kennitala",
        "se.personnummer",
        "ua.rntrc",
        "pl.nip",
        "at.vnr",
        "gb.utr",
    ),
    11: (
        "pl.pesel",
        "de.idnr",
        "br.cpf",
        "tr.tckimlik",
        "hr.oib",
        "gr.amka",
        "lv.pvn",
        "lt.asmens",
        "ar.cuit",
        "fi.hetu",
    ),
    12: ("in_.aadhaar", "my.nric", "in_.vid"),
    13: ("th.pin", "za.idnr", "fr.nif"),
    16: ("id.nik",),
}
_GROUPED = {  # in the layout of its country
    (3, 2, 4): ("us.itin",),
    (3, 3, 4): ("gb.nhs",),
    (3, 3, 3): ("ca.sin", "au.tfn"),
    (4, 4, 4): ("in_.aadhaar",),
    (3, 3, 3, 2): ("br.cpf",),
    (6, 4): ("se.personnummer", "cz.rc", "dk.cpr", "is_.kennitala"),
    (6, 3): ("cz.rc",),
    (8, 4): ("se.personnummer",),
    (6, 7): ("kr.rrn",),
    (6, 5): ("lv.pvn", "no.fodselsnummer"),
    (6, 6): ("be.nn",),
    (3, 4, 4, 2): ("ch.ssn",),
    (1, 2, 2, 2, 3, 3, 2): ("fr.nir",),
    (1, 2, 2, 2, 3, 3): ("fr.nir",),
    (2, 2, 2, 3, 2): ("be.nn",),
    (2, 3, 3, 3): ("de.idnr",),
    (1, 4, 5, 2, 1): ("th.pin",),
    (1, 3, 3): ("cl.rut",),
    (2, 3, 3): ("cl.rut",),
    (2, 3, 3, 1): ("cl.rut",),
    (1, 3, 3, 1): ("cl.rut",),
    (2, 8, 1): ("ar.cuit",),
    (6, 4, 3): ("id.nik",),
}
_OF_EU = r"(?:ATU|BE[01]|BG|CY|CZ|DE|DK|EE|EL|ES[A-Z0-9]|FI|FR[A-Z0-9]{2}|HR|HU|IE|IT|L[TUV]|MT|NL|PL|PT|RO|S[EIK])"
_LETTERED = (  # with letters in fixed places
    (r"[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]", ("it.codicefiscale",)),
    (r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[A-Z0-9]\d", ("mx.curp",)),
    (r"\d{6}[-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y]", ("fi.hetu",)),
    (r"\d{8}[ -]?[A-Z]", ("es.nif",)),
    (r"[XYZKLM][ -]?\d{7}[ -]?[A-Z]", ("es.nie", "es.nif")),
    (r"\d{7}[A-W][A-IW]?", ("ie.pps",)),
    (r"\d{7,8}-[\dKk]", ("cl.rut",)),
    (r"\d{17}X", ("cn.ric",)),
    (r"[12]\d{4}(?:2[AB]|\d{2})\d{6}(?:\d{2})?", ("fr.nir",)),
    (r"[A-Z]{5}\d{4}[A-Z]", ("in_.pan",)),
    (r"\d{9}[A-Z]{2}\d", ("pt.cc",)),
    (r"\d{8} \d [A-Z]{2}\d", ("pt.cc",)),
    (rf"{_OF_EU}[0-9A-Z]{{7,12}}", ("eu.vat",)),
    (r"(?:GB|XI)\d{9}(?:\d{3})?", ("gb.vat",)),
    (r"(?:bc1|[13])[a-zA-HJ-NP-Z0-9]{25,62}", ("bitcoin",)),
)  # fmt: skip
# No check digits, but letters in places where nothing else has them.
_NINO = r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]"
_RRN = r"\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])-[1-8]\d{6}"  # without check digits since 2020
_BARE_RRN = re.compile(_RRN.replace("-[1-8]", "[1-8]"))
_SG_FIN = r"[STFGM]\d{7}[A-Z]"
_START = re.compile(r"(?<![A-Za-z0-9])(?<!\d[.,/:+-])(?=[A-Z]{0,6}[ -]?\d|bc1)")  # of every one of these
# As many groups as there are, short of one that goes on as something else does: `5919 2nd`, `1359 10:30`.
_DIGITS = re.compile(
    r"(?<![A-Za-z0-9+])(?<!\+\d[ -])(?<!\+\d\d[ -])(?<!\+\d{3}[ -])(?<!\d[.,:/-])"  # nor behind a country's code
    r"\d{1,20}(?:[ ./+-]\d{1,20}+){0,6}(?![A-Za-z0-9]|[.,:/+-]\d)"
)
_GROUP = re.compile(r"\d+")
_ANY_LETTERED = re.compile(
    "(?:"
    + "|".join(f"(?P<l{at}>{form}(?![A-Za-z0-9]))" for at, (form, _) in enumerate(_LETTERED))
    + f"|(?P<nino>{_NINO})|(?P<fin>{_SG_FIN})|(?P<rrn>{_RRN}))(?![A-Za-z0-9])"
)
_WORD = re.compile(
    r"(?i)(?<![a-z])(?:ssn|itin|nino|nhs|sin|tfn|bsn|cpf|cnp|egn|pesel|nip|nif|nie|dni|rut|rrn|oib|hetu|jmbg|emso|asmens|amka|cuit"
    r"|cuil|nik|nric|aadhaar|aadhar|uid|pan|pin|vid|utr|idnr|steuer|rodn|rodné|rodne|personnummer|personal|personen|cpr|kennitala"
    r"|national|identity|identification|social|insurance|security|tax|taxpayer|fiscal|codice|s[ée]curit[ée]|sozial|burger"
    r"|fødsels|fodsels|isikukood|tckn|t\.?c\.?|kimlik|ahv|avs|id[ _-]?(?:number|no|nr|card)|vat|ust|medicare|patient"
    r"|citizen)"
)
REACH = 40  # characters before and after a number that may say what it is


def national_ids(text: str) -> Iterator[Span]:
    """Where such numbers stand, in no particular order."""
    for place in _START.finditer(text):
        if (match := _ANY_LETTERED.match(text, place.start())) and _is_valid(match):
            yield match.span()
    for match in _DIGITS.finditer(text):
        if (span := _valid_number(text, match)) is not None:
            yield span


def _is_valid(match: re.Match[str]) -> bool:
    name = str(match.lastgroup)
    return name in {"nino", "fin", "rrn"} or any(_is(module, match[0]) for module in _LETTERED[int(name[1:])][1])


def _valid_number(text: str, match: re.Match[str]) -> Span | None:
    """Where a valid number stands that is all of a match or some of its groups; None where there is none."""
    groups = [(group.start(), group.end()) for group in _GROUP.finditer(text, *match.span())]
    for first, (start, _) in enumerate(groups):
        if not first or text[start - 1] == " ":  # what stands before a gap may be another number
            end = _end_of_number(text, groups[first:])
            if end is not None:
                return start, end
    return None


def _end_of_number(text: str, groups: list[Span]) -> int | None:
    """Where a valid number ends that is made of these groups or the first of them."""
    start = groups[0][0]
    word = None
    for count in range(len(groups), 0, -1):
        value = text[start : groups[count - 1][1]]
        shape = tuple(end - begin for begin, end in groups[:count])
        size = sum(shape)
        modules = _BARE.get(size, ()) if count == 1 else _GROUPED.get(shape, ())
        if any(_is(each, value) for each in modules):
            return groups[count - 1][1]
        if size in _BARE_WITH_WORD and (count == 1 or size > 8):
            if word is None:
                before, after = (max(0, start - REACH), start), (groups[-1][1], groups[-1][1] + REACH)
                word = any(_WORD.search(text, *place) for place in (before, after))
            rules = (*_BARE_WITH_WORD[size], *_BARE.get(size, ()))
            if word and (any(_is(each, value) for each in rules) or _BARE_RRN.fullmatch(value)):
                return groups[count - 1][1]
    return None


@cache
def _rules(module: str) -> Callable[[str], bool]:
    rules: Callable[[str], bool] = import_module(f"stdnum.{module}").is_valid  # at its first use: there are fifty
    return rules


def _is(module: str, value: str) -> bool:
    return bool(_rules(module)(value.replace("/", "") if module == "cz.rc" else value))
