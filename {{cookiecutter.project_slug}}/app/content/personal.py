"""Personal data and secrets in free text: found by their form and, where they have one, their check digits.

Deterministic and fast enough for every model call and log line. Names and postal addresses have no form and are not
found; `benchmarks/personal_data.py` measures what is. Gate: validation.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from stdnum import iban, luhn
from stdnum.us import ssn

from app.content.credentials import MARKS, credentials
from app.content.national_ids import national_ids
from app.content.phone_numbers import phone_numbers

LONGEST_PIECE = 32_768  # characters looked at together; a value at a seam is still whole in one of two pieces
OVERLAP = 1_000  # longer than any value that has a form here
LONGEST_LABELLED = 200  # characters of a value whose field's name is looked at as well


@dataclass(frozen=True)
class Found:
    start: int
    end: int
    kind: str


def _is_iban(text: str) -> bool:
    compact = text.replace(" ", "").replace("-", "")
    digits = "".join(str(int(char, 36)) for char in compact[4:] + compact[:4])
    return int(digits) % 97 == 1 and iban.is_valid(text)  # ISO 13616; the cheap part first


def _is_card(text: str) -> bool:
    if text[0] not in "23456":
        return False
    number, _, exponent = text.lower().removesuffix(".0").removesuffix(".00").partition("e")
    digits = re.sub(r"\D", "", number)
    digits = digits.ljust(int(exponent or 0) + 1, "0")
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and luhn.is_valid(digits)


def _is_address(text: str) -> bool:
    try:
        return not ipaddress.ip_address(text).is_unspecified
    except ValueError:
        return False


# Quantifiers are possessive where they can be: hostile text must not make a pattern try every way to fail.
_EMAIL_FORM = (
    r"(?<![^\W_])[^\W_][\w.+'-]{0,63}?(?:@|%40|&#64;|\\u0040)(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}"
    r"(?:xn--[a-z0-9-]{2,40}|[^\W\d_]{2,24})"
)
_MAC_FORM = (
    r"(?<![^\W_])(?<!(?<![^\W_])[0-9A-Fa-f]{2}[:-])"  # no part of a longer row of pairs
    r"[0-9A-Fa-f]{2}(?:(?::[0-9A-Fa-f]{2}){5}|(?:-[0-9A-Fa-f]{2}){5})"
    r"(?![^\W_]|[:-][0-9A-Fa-f]{2}(?![^\W_]))"
)
# No part of a longer row of groups; a word may stand before it, as in `ip:2001:db8::1`.
_NO_GROUP_BEFORE = "(?<!::)" + "".join(rf"(?<!(?<![^\W_])[0-9A-Fa-f]{{{size}}}:)" for size in range(1, 5))
_IP_FORM = (
    r"(?:(?<![^\W_])(?<!\.)(?:\d{1,3}\.){3}\d{1,3}(?![^\W_]|\.\d)"
    rf"|(?<![^\W_])(?<!\.){_NO_GROUP_BEFORE}(?:[0-9A-Fa-f]{{0,4}}:){{2,7}}"
    r"(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{0,4})(?![^\W_]|:[0-9A-Fa-f:]))"
)
# Digits, in groups of four with dots, or as a library writes a large number: `4111111111111111.0`, `4.11…1E15`.
_CARD_FORM = (
    r"(?<![^\W_])(?<!\d[.-])(?:\d(?:[ -]?\d){12,18}(?:\.0{1,2}(?!\d))?(?![^\W_]|[.-]\d)"
    r"|\d{4}\.\d{4}\.\d{4}\.\d{4}(?![^\W_]|[.-]\d)|\d\.\d{10,18}[eE]\+?1[2-8](?![^\W_]))"
)
_FORMS: dict[str, tuple[str, Callable[[str], bool] | None]] = {
    "email": (_EMAIL_FORM, None),
    "iban": (r"(?<![^\W_])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,4})?(?![^\W_])", _is_iban),
    "card": (_CARD_FORM, _is_card),
    "ssn": (r"(?<![^\W_])(?<!\d-)\d{3}-\d{2}-\d{4}(?![^\W_]|-\d)", ssn.is_valid),
    "mac": (_MAC_FORM, None),
    "ip": (_IP_FORM, _is_address),
}
_SHORTEST = {"iban": 15, "card": 13, "ip": 3}  # characters of kinds whose form has no end of its own
_ANY = re.compile("|".join(f"(?P<{kind}>{form})" for kind, (form, _) in _FORMS.items()))
# Zeros of the scripts that numbers are written in: Arabic, Persian, of India, Thai, Lao, Tibetan, Myanmar, Khmer, wide.
_ZEROS = (
    "\u0660\u06f0\u0966\u09e6\u0a66\u0ae6\u0b66\u0be6\u0c66\u0ce6\u0d66\u0e50\u0ed0\u0f20\u1040\u17e0\uff10"
    "\U0001d7ce\U0001d7d8\U0001d7e2\U0001d7ec\U0001d7f6"
)
# Same length, so that what is found can be cut out of the original.
_PLAIN = str.maketrans(
    {ord(zero) + value: str(value) for zero in _ZEROS for value in range(10)}
    | dict.fromkeys("\u00a0\u2007\u202f\u2009", " ")
    | dict.fromkeys("\u2010\u2011\u2012\u2013", "-")
    | {"\uff20": "@"}
)
# What every value has one of, beside the marks of credentials: a cheap look at text that holds none.
_WORTH_SCANNING = re.compile(r"\d|[\w-]{20}|@|::|(?:[A-Fa-f]{2}[:-]){5}|(?:[A-Fa-f]{1,4}:){7}")
_UUID = re.compile(r"(?<![A-Za-z0-9])[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}(?![A-Za-z0-9])")  # RFC 9562
KINDS = ("secret", *_FORMS, "id", "phone")
_MASK = "\0"  # part of no form, and no letter: what is found already is not found again, nor is anything through it


def find(text: str) -> list[Found]:
    """Every value found, in order and without overlap."""
    text = text.translate(_PLAIN)
    if _WORTH_SCANNING.search(text) is None:
        lowered = text.lower()
        if not any(mark in lowered for mark in MARKS):
            return []
    found = _merged(credentials(text), "secret")
    found += _of_forms(_masked(text, found))
    text = _UUID.sub(lambda uuid: _MASK * len(uuid[0]), text)  # a group of it may look like a number of somebody
    found += _merged(national_ids(_masked(text, found)), "id")
    found += _merged(phone_numbers(_masked(text, found)), "phone")
    return sorted(found, key=lambda each: each.start)


def _masked(text: str, found: list[Found]) -> str:
    parts, at = [], 0
    for each in sorted(found, key=lambda each: each.start):
        parts += [text[at : each.start], _MASK * (each.end - each.start)]
        at = each.end
    return "".join([*parts, text[at:]])


def _merged(spans: Iterable[tuple[int, int]], kind: str) -> list[Found]:
    found: list[Found] = []
    for start, end in sorted(spans):
        if not found or start >= found[-1].end:
            found.append(Found(start, end, kind))
        elif end > found[-1].end:
            found[-1] = Found(found[-1].start, end, kind)
    return found


def _of_forms(text: str) -> list[Found]:
    if len(text) <= LONGEST_PIECE:
        return list(_in_piece(text, 0))
    found: list[Found] = []
    for at in range(0, len(text), LONGEST_PIECE - OVERLAP):
        for each in _in_piece(text[at : at + LONGEST_PIECE], at):
            if not found or each.start >= found[-1].end:
                found.append(each)
            elif each.end > found[-1].end:  # the piece before saw only its beginning
                found[-1] = Found(found[-1].start, each.end, each.kind)
    return found


def find_labelled(text: str, label: str) -> list[Found]:
    """Every value found in a text that is called `label` where it stands: a field's name, a column's, a setting's."""
    found = find(text)
    if found or not label or not text or max(len(text), len(label)) > LONGEST_LABELLED:
        return found
    before = f'{label}="'
    inside = (Found(each.start - len(before), each.end - len(before), each.kind) for each in find(f'{before}{text}"'))
    return [each for each in inside if each.start >= 0 and each.end <= len(text)]


def replaced(text: str, substitute: Callable[[str, str], str], label: str = "") -> str:
    """The text with every value replaced by `substitute(kind, value)`."""
    parts, at = [], 0
    for each in find_labelled(text, label):
        parts += [text[at : each.start], substitute(each.kind, text[each.start : each.end])]
        at = each.end
    return "".join([*parts, text[at:]])


def _in_piece(text: str, offset: int) -> Iterator[Found]:
    at = 0
    while match := _ANY.search(text, at):
        kind = str(match.lastgroup)
        check = _FORMS[kind][1]
        end = match.end() if check is None or check(match[0]) else _end_of_shorter(text, match, kind, check)
        if end is None:
            at = match.start() + 1
        else:
            yield Found(offset + match.start(), offset + end, kind)
            at = end


def _end_of_shorter(text: str, match: re.Match[str], kind: str, check: Callable[[str], bool]) -> int | None:
    """Where a valid value ends that is the beginning of a match; None where there is none.

    A form takes as much as it can, and so the first letters or digits of what follows a value, too (`… 1111 12/27`,
    `…73201 for the`): shorter readings are tried, each ending at a gap in the text."""
    shortest = _SHORTEST.get(kind)
    if shortest is None:
        return None
    for end in range(match.end() - 1, match.start() + shortest - 1, -1):
        if text[end - 1].isalnum() and not text[end].isalnum() and check(text[match.start() : end]):
            return end
    return None
