"""A value that a JSON schema accepts: what is suggested where it fits, the smallest there is otherwise.

Draft 2020-12 as OpenAI's strict mode allows it and pydantic writes it, recursion included. A value is put together from
the keywords and then shown to a validator, so keywords that nothing is made from (`not`, `if`) still refuse it. Where
no value is found, as for a schema that contradicts itself, what comes nearest is given. References are followed within
the schema only, and its size bounds the work. Gate: validation.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from app.content.linear_patterns import PatternNotLinear, linear_checker
from app.gateway.offline_merging import kinds, merged
from app.gateway.offline_scalars import Schema, numbers, texts, whole

# Values for a property of that name, best first; the second says whether it must have one.
Suggest = Callable[[str, Schema, bool], Iterator[Any]]
COMBINING = frozenset({"$ref", "allOf", "anyOf", "oneOf", "$defs", "definitions"})
TELLING = frozenset({"$ref", "allOf", "anyOf", "oneOf", "type", "enum", "const", "properties", "items"})
MOST_STEPS, MOST_ITEMS, DEEPEST = 2_000, 100, 40


class NoValue(Exception):
    """No small value is accepted here."""


def instance(schema: Schema, suggest: Suggest) -> Any:
    """A value of the schema; never raises for what a schema says."""
    efforts: tuple[Literal["full", "brief"], ...] = ("full", "brief")
    for effort in efforts:
        try:
            return _Maker(schema, suggest, effort).value("", schema, _Place())
        except NoValue:
            continue
    return _Maker(schema, suggest, "nearest").value("", schema, _Place())


@dataclass(frozen=True)
class _Place:
    """Where in the value. A reference that leads back to itself is never part of a smallest value."""

    followed: frozenset[str] = frozenset({"#"})
    depth: int = 0
    required: bool = True
    others: tuple[Any, ...] = ()  # that the value must differ from

    def within(self, *, required: bool = True, others: tuple[Any, ...] = ()) -> "_Place":
        return replace(self, depth=self.depth + 1, required=required, others=others)


class _Maker:
    """`full` shows what a value may hold, `brief` does with the least; both raise NoValue where no value is accepted.

    `nearest` puts null in the place of each part that there is no value for."""

    def __init__(self, root: Schema, suggest: Suggest, effort: Literal["full", "brief", "nearest"]) -> None:
        from referencing import Registry  # noqa: PLC0415 - only a process without a provider makes values
        from referencing.jsonschema import DRAFT202012  # noqa: PLC0415

        nothing_fetched: Any = Registry()
        self._suggest, self._left, self._effort = suggest, MOST_STEPS, effort
        self._checker = linear_checker()(root, registry=nothing_fetched)
        self._references = nothing_fetched.resolver_with_root(DRAFT202012.create_resource(root))

    def value(self, name: str, schema: Any, place: _Place) -> Any:
        """Raises NoValue, also for a property that need not be there and of which nothing is known."""
        if place.depth <= DEEPEST:
            for flat, followed in self._alternatives(schema, place.followed):
                for made in self._made(name, flat, replace(place, followed=followed)):
                    if self._is_accepted(schema, made) is not False:
                        return made
        if self._effort != "nearest" or not place.required:
            raise NoValue
        return None

    def _alternatives(self, schema: Any, followed: frozenset[str]) -> Iterator[tuple[Schema, frozenset[str]]]:
        """The schema without references and choices, once for every way to choose, and what was followed for it."""
        self._left -= 1
        if schema is False or self._left < 0:
            return
        told = schema if isinstance(schema, dict) else {}
        parts: list[list[Any]] = []
        reference = told.get("$ref")
        if isinstance(reference, str):
            if reference in followed or len(followed) > DEEPEST:
                return
            followed |= {reference}
            parts.append([self._target(reference)])
        parts += [[part] for part in _listed(told, "allOf")]
        parts += [
            sorted(options, key=self._last_resort) for word in ("anyOf", "oneOf") if (options := _listed(told, word))
        ]
        yield from self._chosen({key: told[key] for key in told.keys() - COMBINING}, parts, followed, followed)

    def _chosen(
        self, flat: Schema, parts: list[list[Any]], before: frozenset[str], followed: frozenset[str]
    ) -> Iterator[tuple[Schema, frozenset[str]]]:
        if not parts:
            yield flat, followed
            return
        for option in parts[0]:
            for found, further in self._alternatives(option, before):
                yield from self._chosen(merged(flat, found), parts[1:], before, followed | further)

    def _last_resort(self, option: Any) -> int:
        """Null after what says more, and what says nothing after null: there a library has lost a recursion."""
        if not isinstance(option, dict) or not option.keys() & TELLING:
            return 2
        return 0 if option.get("type") != "null" else -1 if self._effort == "brief" else 1

    def _target(self, reference: str) -> Any:
        from referencing.exceptions import Unresolvable  # noqa: PLC0415 - as in __init__

        try:
            return self._references.lookup(reference).contents
        except (Unresolvable, ValueError):
            return {}

    def _made(self, name: str, flat: Schema, place: _Place) -> Iterator[Any]:
        """Values of a schema without choices: suggestions, then the smallest. All are accepted by its own keywords."""
        for value in self._suggest(name, flat, place.required):
            if self._is_accepted(flat, value) and value not in place.others:
                yield value
        has_fields = "properties" in flat or self._has_fields(flat.get("items"), place)
        if place.required or "const" in flat or has_fields:
            for value in self._smallest(name, flat, place):
                if self._is_accepted(flat, value) is not False and value not in place.others:
                    yield value
                    return

    def _smallest(self, name: str, flat: Schema, place: _Place) -> Iterator[Any]:
        if "const" in flat:
            yield flat["const"]
        elif isinstance(flat.get("enum"), list):
            yield from flat["enum"]
        else:
            for kind in kinds(flat):
                try:
                    yield from self._of_kind(kind, name, flat, place)
                except NoValue:
                    continue

    def _of_kind(self, kind: str, name: str, flat: Schema, place: _Place) -> Iterator[Any]:
        match kind:
            case "object":
                yield self._object(flat, place)
            case "array":
                yield self._array(name, flat, place)
            case "string" if "contentSchema" in flat:  # JSON within JSON
                yield json.dumps(self.value(name, flat["contentSchema"], place.within()))
            case "string":
                yield from texts(flat)
            case "boolean":
                yield from (False, True)
            case "null":
                yield None
            case _:
                yield from numbers(flat, integers=kind == "integer")

    def _object(self, flat: Schema, place: _Place) -> dict[str, Any]:
        made: dict[str, Any] = {}
        properties = flat.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = [name for name in _listed(flat, "required") if isinstance(name, str)]
        for name, schema in properties.items():
            try:
                made[name] = self.value(name, schema, place.within(required=name in required))
            except NoValue:
                if name in required:
                    raise
        further = flat.get("additionalProperties", True)
        for name in required:
            if name not in made:
                made[name] = self.value(name, further, place.within())
        for number in range(1, 1 + min(whole(flat, "minProperties", 0), MOST_ITEMS) - len(made)):
            name = self.value(f"key{number}", self._names(flat), place.within(others=tuple(made)))
            if isinstance(name, str):
                made[name] = self.value(name, further, place.within())
        return made

    @staticmethod
    def _names(flat: Schema) -> Any:
        return {"allOf": [{"type": "string"}, flat.get("propertyNames", True)]}

    def _array(self, name: str, flat: Schema, place: _Place) -> list[Any]:
        items = flat.get("items", True)
        first = items if isinstance(items, list) else _listed(flat, "prefixItems")  # a list: before draft 2020-12
        made: list[Any] = []
        least = whole(flat, "minItems", 0)
        # One thing of several fields in a list that may be empty: who looks at an answer wants to see its form.
        shows = self._effort == "full" and self._has_fields(items, place) and whole(flat, "maxItems", 1) > 0
        wanted = max(least, int(shows))
        for number in range(min(wanted, MOST_ITEMS)):
            schema = first[number] if number < len(first) else True if items is first else items
            others = tuple(made) if flat.get("uniqueItems") is True else ()
            try:
                made.append(self.value(name.removesuffix("s"), schema, place.within(others=others)))
            except NoValue:
                if number < least:
                    raise
        return made

    def _has_fields(self, schema: Any, place: _Place) -> bool:
        flat, _ = next(self._alternatives(schema, place.followed), ({}, None))
        return isinstance(flat.get("properties"), dict)

    def _is_accepted(self, schema: Any, value: Any) -> bool | None:
        """None: nobody can tell, for the schema says what is no JSON schema, or leads nowhere."""
        if self._effort == "nearest":
            return True
        from jsonschema.exceptions import UnknownType  # noqa: PLC0415 - as in __init__
        from referencing.exceptions import Unresolvable  # noqa: PLC0415

        try:
            return bool(self._checker.evolve(schema=schema).is_valid(value))
        except (UnknownType, Unresolvable, PatternNotLinear, re.error, RecursionError):
            return None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            return None


def _listed(schema: Schema, keyword: str) -> list[Any]:
    found = schema.get(keyword)
    return found if isinstance(found, list) else []
