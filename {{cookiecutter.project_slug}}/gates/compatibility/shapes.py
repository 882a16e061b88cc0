"""What a JSON Schema comes to once references and combinations are worked out: the shapes a value may have."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

OPEN_ENUM = "x-extensible-enum"  # values there are today: a reader must be ready for more, so they are not an `enum`
ANY = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
COMBINING = {"$ref", "allOf", "anyOf", "oneOf"}
# These say nothing about which values are valid. A default does, to whom leaves a value out: see schemas.py.
NOTES = {
    "title", "description", "examples", "example", "default", "deprecated", "readOnly", "writeOnly", "discriminator",
    "xml", "externalDocs", "contentMediaType", "contentEncoding", "$comment", "$defs", "$schema", "$id", "$anchor",
}  # fmt: skip
UPPER = {"maxLength", "maximum", "exclusiveMaximum", "maxItems", "maxProperties"}
LOWER = {"minLength", "minimum", "exclusiveMinimum", "minItems", "minProperties"}


class Unreadable(ValueError):
    """The document is not one that can be judged; the message says where and why."""


@dataclass(frozen=True)
class Shape:
    """One way for a value to be valid: types, and keywords that hold besides."""

    types: frozenset[str]  # `number` here: one that is not whole
    keywords: Mapping[str, Any]
    pointer: str


@dataclass(frozen=True)
class Document:
    """An OpenAPI document whose references stay within it."""

    content: Mapping[str, Any]

    def at(self, reference: str) -> Any:
        found: Any = self.content
        try:
            for step in reference.removeprefix("#/").split("/"):
                found = found[step.replace("~1", "/").replace("~0", "~")]
        except (KeyError, TypeError):
            raise Unreadable(f"{reference} refers to nothing in the document") from None
        return found

    def resolved(self, node: Any, pointer: str) -> tuple[Any, str]:
        """What stands there in the end, and where: for everything that is no schema."""
        seen: set[str] = set()
        while isinstance(node, dict) and "$ref" in node:
            pointer = node["$ref"]
            if pointer in seen:
                raise Unreadable(f"{pointer} refers to itself")
            seen.add(pointer)
            node = self.at(pointer)
        return node, pointer

    def shapes(self, schema: Any, pointer: str, through: frozenset[str] = frozenset()) -> list[Shape]:
        """Every shape a value may have; `oneOf` counts as `anyOf`. None where no value is valid."""
        if isinstance(schema, bool):
            return [Shape(ANY, {}, pointer)] if schema else []
        found = [_plain(schema, pointer)]
        for options in self._combined(schema, pointer, through):
            found = [both for one, other in product(found, options) if (both := _merged(one, other)).types]
        return found

    def _combined(self, schema: dict[str, Any], pointer: str, through: frozenset[str]) -> Iterator[list[Shape]]:
        if "$ref" in schema:
            reference = schema["$ref"]
            if reference in through:
                raise Unreadable(f"{reference} refers to itself")
            yield self.shapes(self.at(reference), reference, through | {reference})
        for number, each in enumerate(schema.get("allOf", ())):
            yield self.shapes(each, f"{pointer}/allOf/{number}", through)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                options = [self.shapes(each, f"{pointer}/{word}/{n}", through) for n, each in enumerate(schema[word])]
                yield [shape for shapes in options for shape in shapes]


def type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "integer" if float(value).is_integer() else "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _plain(schema: dict[str, Any], pointer: str) -> Shape:
    keywords = {
        word: value
        for word, value in schema.items()
        if word == OPEN_ENUM or not (word in COMBINING or word in NOTES or word == "type" or word.startswith("x-"))
    }
    if "const" in keywords:
        keywords["enum"] = [keywords.pop("const")]
    named = schema.get("type", ANY)
    types = set([named] if isinstance(named, str) else named)
    if "number" in types:
        types.add("integer")
    if "enum" in keywords:
        types &= {type_of(value) for value in keywords["enum"]}
    return Shape(frozenset(types), keywords, pointer)


def _merged(one: Shape, other: Shape) -> Shape:
    """The shape of a value that has both."""
    keywords = dict(one.keywords)
    for word, value in other.keywords.items():
        keywords[word] = _both(word, keywords[word], value) if word in keywords else value
    types = one.types & other.types
    if "enum" in keywords:
        types &= {type_of(value) for value in keywords["enum"]}
    return Shape(types, keywords, other.pointer)


def _both(word: str, one: Any, other: Any) -> Any:
    if one == other:
        return one
    # Of a word that is not here it is only asked whether it is the same.
    return BOTH[word](one, other) if word in BOTH else {"allOf": [one, other]}


def _properties(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    shared = {name: {"allOf": [one[name], other[name]]} for name in one.keys() & other.keys()}
    return {**one, **other, **shared}


BOTH: dict[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(UPPER, min),
    **dict.fromkeys(LOWER, max),
    "enum": lambda one, other: [value for value in one if value in other],
    "required": lambda one, other: list(dict.fromkeys([*one, *other])),
    "properties": _properties,
    "additionalProperties": lambda one, other: one is not False and other is not False and {"allOf": [one, other]},
}
