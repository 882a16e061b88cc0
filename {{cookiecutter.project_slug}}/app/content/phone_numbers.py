"""Phone numbers as people of different countries write them, checked by the plans of `phonenumbers`.

With a country's code a number is one wherever it stands; without, it is one of a region of the setting PHONE_REGIONS
if it begins as national numbers do, or if a word beside it says that it is a phone's. Gate: validation.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from app.setting_types import PHONE_REGIONS

Span = tuple[int, int]
MAX_CHECKS = 2_000  # of one text; what is left is taken by its form alone, so that a long list costs no more
MIN_DIGITS = 7  # of a number that is written in front of another
REACH = 40  # characters before and after a number that may say what it is
_regions = list(PHONE_REGIONS)

# How numbers are written in ways that nothing else is, the reserved ones of examples and films included.
_FORM = re.compile(
    r"(?<![A-Za-z0-9+/#])(?<!\d[.,:-])(?:(?:\+|00)[1-9]\d{0,2}+(?:[ ./-]?\(\d{1,4}\))?(?:[ ./-]?\d){4,14}"
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}[.-]\d{3}[.-]\d{4}|\(0\d{2,5}\) ?\d{3,4}[ -]?\d{3,5}"
    r"|0\d{2,4}[ /]\d{3,4} ?\d{3,4}|1-\d{3}-\d{3}-\d{4})"
    r"(?:(?: ?x| ext\.? ?)\d{1,5})?(?![^\W_]|-\w|[.,:]\d)"
)
_CANDIDATE = re.compile(r"(?<![A-Za-z0-9+/#])(?<!\d[.,:-])\+?\(?\d(?:[ ./()-]{0,2}\d){6,14}(?![^\W_]|[.,:/-]\d)")
_NATIONAL = re.compile(r"\(?0[1-9]|\+|\(\d{2,4}\)|[2-9]\d{2} [2-9]\d{2} \d{4}\Z|[6-9]\d{8}\Z")
_WORD = re.compile(
    r"(?i)(?:phone|telef|teléf|\btel\b|mobil|móvil|\bcell|cellul|\bcall(?:s|ed|ing|er)?\b|\bring\b|\bdial|\bfax"
    r"|whats ?app|\bsms\b|\btext me|\bhandy|\bnumer(?:u|em|y|ów)?\b|número|numéro|rufnummer|kontakt|contact|puhelin"
    r"|téléphone|telemóvel|celular|reach (?:me|us)|\bmsisdn)"
)


def use_regions(regions: Iterable[str]) -> None:
    """Check numbers without a country's code by the plans of these regions (ISO 3166), from now on."""
    _regions[:] = regions
    _is_valid.cache_clear()


def phone_numbers(text: str) -> Iterator[Span]:
    """Where such numbers stand, in no particular order; two may overlap."""
    yield from _apart(text, _FORM, _end_of_written)
    checks = 0

    def end_of_one(match: re.Match[str]) -> int | None:
        nonlocal checks
        start, end = match.span()
        named = _WORD.search(text, max(0, start - REACH), start) or _WORD.search(text, end, end + REACH)
        if not named and not _NATIONAL.match(match[0]):
            return None
        for number in _readings(match[0]):
            checks += 1
            if checks > MAX_CHECKS or _is_valid(number):
                return start + len(number)
        return None

    yield from _apart(text, _CANDIDATE, end_of_one)


def _apart(text: str, form: re.Pattern[str], end_of_one: Callable[[re.Match[str]], int | None]) -> Iterator[Span]:
    """Matches that begin with one, but for those that go on where another number stops: of that they are a part."""
    end = -1
    for match in form.finditer(text):
        start = match.start()
        if (
            start >= 2
            and text[start - 2].isdigit()
            and text[start - 1] in " -"
            and end != start - 1
            and match[0][0] != "+"
        ):
            continue
        found = end_of_one(match)
        if found is not None:
            end = found
            yield start, end


def _readings(value: str) -> Iterator[str]:
    """The whole, then what of it stands before each gap: a number may follow."""
    yield value
    gaps = [at for at, char in enumerate(value) if char == " " and value[at - 1].isdigit()]
    yield from (value[:at] for at in reversed(gaps) if sum(map(str.isdigit, value[:at])) >= MIN_DIGITS)


def _end_of_written(match: re.Match[str]) -> int | None:
    number: str = re.split("[xe]", match[0])[0]
    digits = sum(char.isdigit() for char in number)  # an extension apart
    is_one = 8 <= digits <= 15 if number.startswith(("+", "00")) else 9 <= digits <= 11
    return match.end() if is_one else None


@lru_cache(maxsize=1_024)
def _is_valid(value: str) -> bool:
    import phonenumbers  # noqa: PLC0415 - at the first number: its plans take a tenth of a second to load

    for region in ("ZZ",) if value.startswith("+") else _regions:
        try:
            number = phonenumbers.parse(value, None if region == "ZZ" else region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            return True
    return False
