"""Whether a schema still keeps the promise of the released one, and if not, where and why.

The question is one of sets. A request keeps its promise where it takes every value that it took; an answer where it
says no value that it did not say before. So there is one relation, part and whole: the released schema is the part in
a request, and the whole in an answer. Of that there are three exceptions, all in favour of how clients are written: a
property that an answer has besides is passed over by its reader, one that a request no longer knows is missed by its
writer, and an open enumeration (`x-extensible-enum`) may grow but not shrink.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator

from gates.compatibility.shapes import ANY, LOWER, OPEN_ENUM, UPPER, Document, Shape, type_of

OF_TYPE = {
    "string": {"maxLength", "minLength", "pattern"},
    "array": {"maxItems", "minItems", "uniqueItems", "items"},
    "object": {"maxProperties", "minProperties", "properties", "required", "additionalProperties"},
    "integer": {"maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "multipleOf"},
}
OF_TYPE["number"] = OF_TYPE["integer"]
TYPED = set[str]().union(*OF_TYPE.values())
JUDGED = {"enum", OPEN_ENUM, "items", "properties", "required", "additionalProperties"} | UPPER | LOWER
MOST_SAID = 5
# What is found, in a request and in an answer; and what could be done instead without breaking anybody.
TOLD = {
    "types": ("no longer takes {}", "may now be {}", "taking more types", "answering with fewer types"),
    "values": ("no longer takes {}", "may now be {}", "taking more values", "answering with fewer values"),
    "open": ("no longer knows {}", "no longer says {}", "more values", "more values"),
    "limit": ("{} is narrower than {}", "{} is wider than {}", "a wider limit", "a narrower limit"),
    "rule": ("asks for another {}", "promises another {}", "asking for less", "promising more beside it"),
    "required": ("must now have `{}`", "may now leave `{}` out", "an optional one", "a new optional one beside it"),
    "gone": ("no longer knows `{}`", "no longer has `{}`", "taking it on", "keeping it, with a new one beside it"),
    "closed": ("no longer takes other properties", "", "taking them on", ""),
    "default": ("takes {} where `{}` is left out, not {}", "", "keeping the default", ""),
}


@dataclass(frozen=True)
class Change:
    """A promise that is broken. The pointer says where in the released document it was made."""

    pointer: str
    what: str
    allowed: str


@dataclass(frozen=True)
class Place:
    schema: Any
    pointer: str

    def to(self, *steps: str) -> str:
        return "/".join([self.pointer, *(step.replace("~", "~0").replace("/", "~1") for step in steps)])


@dataclass
class Comparison:
    """Of schemas of two documents, in requests or in answers."""

    released: Document
    present: Document
    request: bool
    _under_way: set[str] = field(default_factory=set)  # a schema that contains itself is asked about once

    def changes(self, released: Place, present: Place) -> list[Change]:
        """What of the released schema's promise the present one does not keep."""
        return self._broken(released, present) if self.request else self._broken(present, released)

    def default(self, released: Place, present: Place, name: str) -> Iterator[Change]:
        """Who leaves out what a request may leave out gets what was said."""
        before, now = (place.schema if isinstance(place.schema, dict) else {} for place in (released, present))
        if self.request and "default" in before and before["default"] != now.get("default", _NOTHING):
            new = _said(now["default"]) if "default" in now else "nothing"
            yield self._change("default", released.pointer, new, name, _said(before["default"]))

    def _broken(self, part: Place, whole: Place) -> list[Change]:
        pair = json.dumps([part.schema, whole.schema], sort_keys=True)
        if pair in self._under_way:
            return []
        self._under_way.add(pair)
        try:
            return list(dict.fromkeys(self._judged(part, whole)))
        finally:
            self._under_way.discard(pair)

    def _judged(self, part: Place, whole: Place) -> Iterator[Change]:
        documents = (self.released, self.present) if self.request else (self.present, self.released)
        parts, wholes = (d.shapes(p.schema, p.pointer) for d, p in zip(documents, (part, whole), strict=True))
        strange = {kind for shape in parts for kind in shape.types} - {kind for shape in wholes for kind in shape.types}
        if strange:
            yield self._change("types", (part if self.request else whole).pointer, _types(strange))
        for shape in parts:
            for kind in sorted(shape.types - strange):
                found = (list(self._of_type(kind, shape, other)) for other in wholes if kind in other.types)
                yield from min(found, key=len)

    def _of_type(self, kind: str, part: Shape, whole: Shape) -> Iterator[Change]:
        at = part.pointer if self.request else whole.pointer
        yield from self._open_values(at, part, whole)
        if "enum" in part.keywords:
            possible = [v for v in part.keywords["enum"] if type_of(v) == kind and _valid(v, part)]
            lost = [v for v in possible if not _valid(v, whole)]
            if lost:
                yield self._change("values", at, _said(*lost))
            return
        if "enum" in whole.keywords:
            yield self._change("values", at, f"other values than {_said(*whole.keywords['enum'])}")
        yield from self._limits(at, kind, part, whole)
        if kind == "array":
            items = [Place(s.keywords.get("items", True), f"{s.pointer}/items") for s in (part, whole)]
            yield from self._broken(*items)
        if kind == "object":
            yield from self._object(at, part, whole)

    def _open_values(self, at: str, part: Shape, whole: Shape) -> Iterator[Change]:
        before, now = (part, whole) if self.request else (whole, part)
        known = now.keywords.get(OPEN_ENUM, now.keywords.get("enum", ()))
        lost = [value for value in before.keywords.get(OPEN_ENUM, ()) if value not in known]
        if lost:
            yield self._change("open", at, _said(*lost))

    def _limits(self, at: str, kind: str, part: Shape, whole: Shape) -> Iterator[Change]:
        for word, most in whole.keywords.items():
            mine = part.keywords.get(word)
            before, now = ("none" if v is None else _said(v) for v in ((mine, most) if self.request else (most, mine)))
            if word in TYPED and word not in OF_TYPE.get(kind, ()):
                continue
            if word in UPPER | LOWER:
                if not _within(word, mine, most):
                    yield self._change("limit", at, f"{word} {now}", before)
            elif word not in JUDGED and most is not False and mine != most:
                yield self._change("rule", at, f"{word}: {now}, not {before}")

    def _object(self, at: str, part: Shape, whole: Shape) -> Iterator[Change]:
        mine, theirs = (_properties(shape) for shape in (part, whole))
        for name in mine.keys() & theirs.keys():
            yield from self._broken(mine[name], theirs[name])
            yield from self.default(mine[name], theirs[name], name)
        before, now = (mine, theirs) if self.request else (theirs, mine)
        yield from self._named_of_others(
            part if self.request else whole, [now[name] for name in now.keys() - before.keys()]
        )
        gone = [name for name in before if name not in now]
        yield from (self._change("gone", at, name) for name in gone)
        demanded = [*whole.keywords.get("required", ())]
        free = [name for name in demanded if name not in part.keywords.get("required", ()) and name not in gone]
        yield from (self._change("required", at, name) for name in free)
        yield from self._others(at, part, whole)

    def _named_of_others(self, released: Shape, new: list[Place]) -> Iterator[Change]:
        """A new property is one of the other properties of before, where the document said something of those."""
        others = released.keywords.get("additionalProperties", False)
        if others is not False:
            place = Place(others, f"{released.pointer}/additionalProperties")
            yield from (change for each in new for change in self.changes(place, each))

    def _others(self, at: str, part: Shape, whole: Shape) -> Iterator[Change]:
        mine, theirs = (shape.keywords.get("additionalProperties", True) for shape in (part, whole))
        if mine is False or (theirs is False and not self.request):  # readers pass over what they do not know
            return
        if theirs is False:
            yield self._change("closed", at)
            return
        yield from self._broken(*(Place(s, f"{at}/additionalProperties") for s in (mine, theirs)))

    def _change(self, kind: str, pointer: str, *facts: str) -> Change:
        requested, answered, instead, rather = TOLD[kind]
        what, allowed = (requested, instead) if self.request else (answered, rather)
        return Change(pointer, what.format(*facts), allowed)


_NOTHING = object()


def _properties(shape: Shape) -> dict[str, Place]:
    here = Place(None, shape.pointer)
    schemas: Mapping[str, Any] = shape.keywords.get("properties", {})
    return {name: Place(schema, here.to("properties", name)) for name, schema in sorted(schemas.items())}


def _valid(value: Any, shape: Shape) -> bool:
    simple = UPPER | LOWER | {"enum", "pattern", "multipleOf"}
    rules = {word: rule for word, rule in shape.keywords.items() if word in simple and not isinstance(rule, dict)}
    return Draft202012Validator(rules).is_valid(value)


def _within(word: str, mine: float | None, most: float) -> bool:
    if word in UPPER:
        return mine is not None and mine <= most
    if mine is None:
        return most <= 0 and word not in {"minimum", "exclusiveMinimum"}
    return mine >= most


def _types(found: Iterable[str]) -> str:
    names = set(found)
    if names == ANY:
        return "any value"
    return " or ".join(sorted(names - ({"integer"} if "number" in names else set())))


def _said(*values: Any) -> str:
    said = [json.dumps(value, ensure_ascii=False) for value in values]
    return ", ".join(said if len(said) <= MOST_SAID else [*said[:MOST_SAID], f"and {len(said) - MOST_SAID} more"])
