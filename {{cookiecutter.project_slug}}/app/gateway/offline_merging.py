"""Two JSON schemas as one that asks for both, as far as a keyword can say so (draft 2020-12)."""

from collections.abc import Callable, Iterator
from typing import Any

Schema = dict[str, Any]
KINDS = ("object", "array", "string", "integer", "number", "boolean", "null")
# What a schema without `type` is about, by the first of its keywords that says so.
TOLD_BY = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "minProperties"),
    "array": ("items", "prefixItems", "minItems", "uniqueItems"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("pattern", "format", "minLength", "maxLength"),
}


def merged(one: Schema, other: Schema) -> Schema:
    """Where both say something that cannot be joined, `one` is heard: whoever needs both asks a validator."""
    both = {**other, **one}
    for keyword in one.keys() & other.keys() & JOINED.keys():
        both[keyword] = JOINED[keyword](one[keyword], other[keyword])
    return both


def kinds(schema: Schema) -> Iterator[str]:
    """The types of values that a schema is about; `null` last."""
    told = schema.get("type")
    named = [told] if isinstance(told, str) else told if isinstance(told, list) else []
    known = [kind for kind in named if kind in KINDS]
    if not named or (named and not known):  # none, or none of JSON's ("any")
        known = [next((kind for kind, words in TOLD_BY.items() if schema.keys() & set(words)), "string")]
    yield from sorted(known, key=lambda kind: kind == "null")


def _all_of(one: Any, other: Any) -> Any:
    return {"allOf": [one, other]}


def _properties(one: Any, other: Any) -> Any:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one
    return {**one, **{name: _all_of(one[name], told) if name in one else told for name, told in other.items()}}


def _either(one: Any, other: Any) -> Any:
    return list(dict.fromkeys([*one, *other])) if isinstance(one, list) and isinstance(other, list) else one


def _shared(one: Any, other: Any) -> Any:
    return [each for each in one if each in other] if isinstance(one, list) and isinstance(other, list) else one


def _types(one: Any, other: Any) -> Any:
    left, right = ([told] if isinstance(told, str) else told for told in (one, other))
    if not isinstance(left, list) or not isinstance(right, list):
        return one
    narrow = [kind for kind in left if kind in right or (kind == "integer" and "number" in right)]
    return narrow + [kind for kind in right if kind == "integer" and "number" in left and kind not in narrow]


def _bound(stricter: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def joined(one: Any, other: Any) -> Any:
        comparable = isinstance(one, int | float) and isinstance(other, int | float)
        return stricter(one, other) if comparable else one

    return joined


JOINED: dict[str, Callable[[Any, Any], Any]] = {
    "properties": _properties,
    "required": _either,
    "enum": _shared,
    "type": _types,
    **dict.fromkeys(("items", "additionalProperties"), _all_of),
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), _bound(max)),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), _bound(min)),
}
