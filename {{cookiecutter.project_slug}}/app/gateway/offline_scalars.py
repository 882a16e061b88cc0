"""Numbers and texts that a schema might accept, the smallest first; whether it does is asked of a validator.

No schema decides how long this takes: ranges, lengths and repeats are cut off.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import count, islice
from random import Random
from typing import Any

Schema = dict[str, Any]
MOST_VALUES = 60  # of one kind: as many different ones as a list of unique items may need
LONGEST = 10_000  # characters
MOST_REPEATS = 2_000  # in a text made from a pattern, of all its parts together

# An instance of each format of JSON Schema, OpenAPI and pydantic. Names and addresses are those kept for documents:
# RFC 2606, 5737, 3849.
FORMATS = {
    "base64": "eA==",
    "base64url": "eA==",
    "byte": "eA==",
    "date": "2024-01-01",
    "date-time": "2024-01-01T00:00:00Z",
    "decimal": "0",
    "duration": "PT1S",
    "email": "user@example.com",
    "hostname": "example.com",
    "idn-email": "user@example.com",
    "idn-hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv4interface": "192.0.2.1/24",
    "ipv4network": "192.0.2.0/24",
    "ipv6": "2001:db8::1",
    "ipv6interface": "2001:db8::1/32",
    "ipv6network": "2001:db8::/32",
    "ipvanyaddress": "192.0.2.1",
    "ipvanyinterface": "192.0.2.1/24",
    "ipvanynetwork": "192.0.2.0/24",
    "iri": "https://example.com/",
    "iri-reference": "https://example.com/",
    "json-pointer": "/x",
    "json-string": "{}",
    "multi-host-uri": "https://example.com/",
    "name-email": "User <user@example.com>",
    "regex": "x",
    "relative-json-pointer": "0",
    "time": "00:00:00Z",
    "uri": "https://example.com/",
    "uri-reference": "https://example.com/",
    "uri-template": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    **{f"uuid{version}": f"00000000-0000-{version}000-8000-000000000000" for version in range(1, 9)},
}


def whole(schema: Schema, keyword: str, otherwise: int) -> int:
    """A length or a count that a schema names."""
    value = _exact(schema, keyword)
    return int(value) if value is not None and value >= 0 else otherwise


def numbers(schema: Schema, *, integers: bool) -> Iterator[int | float]:
    """Zero where nothing speaks against it, then from the lower bound up, or from the upper one down."""
    step = abs(_exact(schema, "multipleOf") or Fraction(1))
    if integers:
        step = Fraction(step.numerator)  # of the multiples of p/q, in lowest terms, the whole ones are those of p
    low, high = _bound(schema, "minimum", "exclusiveMinimum", max), _bound(schema, "maximum", "exclusiveMaximum", min)
    yield 0
    if low is not None:
        first = Fraction(math.ceil(low / step)) * step
        yield from (_plain(first + step * n) for n in range(MOST_VALUES))
    elif high is not None:
        first = Fraction(math.floor(high / step)) * step
        yield from (_plain(first - step * n) for n in range(MOST_VALUES))
    else:
        yield from (_plain(step * n) for n in range(1, MOST_VALUES))
    if not integers:  # a range that no whole step falls into
        yield from (_plain(bound) for bound in (low, high) if bound is not None)
        if low is not None and high is not None:
            yield _plain((low + high) / 2)


def texts(schema: Schema) -> Iterator[str]:
    """By its pattern, by its format, then just long enough."""
    least, most = whole(schema, "minLength", 0), whole(schema, "maxLength", LONGEST)
    if isinstance(schema.get("pattern"), str):
        yield from _matching(schema["pattern"], least)
    known = FORMATS.get(str(schema.get("format")))
    if known is not None:
        yield known
        yield known.ljust(min(least, LONGEST), "x")
    shortest = min(max(least, 1), most)
    if shortest <= LONGEST:
        yield from ("x" * length for length in islice(count(shortest), MOST_VALUES))


def _matching(pattern: str, least: int) -> Iterator[str]:
    """Texts that a pattern describes, each with more repeats than the one before; none where it cannot be read."""
    import rstr  # noqa: PLC0415 - few processes answer for a model, and few schemas have patterns

    for more in (0, 1, 2, 3, 5, 8, 13, 21, least):
        try:
            yield rstr.Rstr(_Smallest(more)).xeger(pattern)
        except Exception:  # noqa: BLE001 - it reads a pattern with the inside of `re`, which says in many ways what it lacks
            return


class _Smallest(Random):
    """Draws nothing: the plainest character, the first branch, the fewest repeats and `more`."""

    def __init__(self, more: int) -> None:
        super().__init__(0)
        self._more, self._left = more, MOST_REPEATS

    def randint(self, a: int, b: int) -> int:
        times = max(a, min(b, a + self._more))
        self._left -= times + 1
        if self._left < 0:
            raise OverflowError("too many repeats")
        return times

    def choice(self, seq: Any) -> Any:
        if all(isinstance(each, str) and len(each) == 1 for each in seq):
            return min(seq, key=lambda each: (not each.isalnum(), not each.islower(), each))
        return seq[0]


def _exact(schema: Schema, keyword: str) -> Fraction | None:
    """As it is written: 0.1 is a tenth, whatever a float makes of it."""
    value = schema.get(keyword)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return Fraction(str(value)) if is_number else None


def _bound(schema: Schema, inclusive: str, exclusive: str, stricter: Any) -> Fraction | None:
    found = [bound for name in (inclusive, exclusive) if (bound := _exact(schema, name)) is not None]
    return stricter(found) if found else None


def _plain(value: Fraction) -> int | float:
    return int(value) if value.denominator == 1 else float(value)
