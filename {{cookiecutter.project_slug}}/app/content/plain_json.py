"""JSON that every parser reads alike.

Parsers differ on duplicate names, byte order marks, other encodings and numbers beyond range, and an attacker lives
between two that do. What would be read differently is refused (RFC 8259, sections 4, 6 and 8.1; OWASP ASVS 5.0,
1.5.3). Gate: validation, access.
"""

import json
from collections.abc import Sequence
from typing import Any, NoReturn

MOST_DIGITS = 40  # of a whole number; the interpreter itself refuses some thousands


class NotJson(ValueError):
    """Not a JSON document in UTF-8."""


class NotPlain(ValueError):
    """A JSON document that parsers read differently; the message says where they part."""


def plain_json(raw: bytes) -> Any:
    """The document. Raises NotJson or NotPlain; neither repeats anything of it."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise NotJson("not UTF-8") from None
    if text.startswith("\ufeff"):
        raise NotJson("it starts with a byte order mark")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_not_json, parse_int=_int, parse_float=_real)
    except NotPlain:
        raise
    except RecursionError:
        raise NotPlain("nested too deeply") from None
    except ValueError:
        raise NotJson("not valid JSON") from None


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotPlain("an object has the same name twice")
    return found


def _not_json(_name: str) -> NoReturn:
    raise NotJson("NaN and Infinity are not JSON")


def _int(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise NotPlain(f"a number has more than {MOST_DIGITS} digits")
    return int(digits)


def _real(digits: str) -> float:
    number = float(digits)
    if number in {float("inf"), float("-inf")}:
        raise NotPlain("a number is out of range")
    return number
