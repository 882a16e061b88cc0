"""What of a released OpenAPI document the present one breaks, operation by operation.

Clients know an operation by method and path, a parameter by place and name, an answer by status and media type; what
the document calls any of them inside (operation ids, names of schemas, of path parameters) is nobody's promise.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gates.compatibility.schemas import Change, Comparison, Place
from gates.compatibility.shapes import Document

METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")
Nodes = dict[Any, Place]  # what has a schema or schemas, with its references followed


@dataclass(frozen=True)
class Breaking:
    operation: str
    where: str  # in it: the path, a parameter, the body, an answer
    change: Change


def breaking(released: Mapping[str, Any], present: Mapping[str, Any]) -> list[Breaking]:
    """Every change that a client of the released document would meet."""
    old, new = Document(released), Document(present)
    now = _operations(new)
    found: list[Breaking] = []
    for key, place in _operations(old).items():
        name = f"{key[0].upper()} {place.pointer.split('/')[2].replace('~1', '/')}"
        if key not in now:
            found.append(Breaking(name, "", Change(place.pointer, "is gone", "keeping it, with the new one beside it")))
            continue
        pair = _Pair(old, new, place, now[key])
        found += [Breaking(name, where, change) for where, change in pair.changes()]
    return list(dict.fromkeys(found))


def _operations(document: Document) -> Nodes:
    found: Nodes = {}
    for path, node in document.content.get("paths", {}).items():
        at = Place(None, "#/paths").to(path)
        item, _ = document.resolved(node, at)
        for method in METHODS:
            if method in item:
                shared = {"parameters": [*item.get("parameters", ()), *item[method].get("parameters", ())]}
                found[method, re.sub(r"\{[^}]*\}", "{}", path)] = Place(item[method] | shared, f"{at}/{method}")
    return found


@dataclass(frozen=True)
class _Pair:
    """One operation, as it was released and as it is."""

    old: Document
    new: Document
    before: Place
    now: Place

    def changes(self) -> Iterator[tuple[str, Change]]:
        yield from (("security", change) for change in self._security())
        yield from self._parameters()
        yield from (("request body", change) for change in self._body())
        yield from self._answers()

    def _security(self) -> Iterator[Change]:
        """Each way to be let in that was promised must still let in."""
        before, now = _ways(self.old, self.before.schema), _ways(self.new, self.now.schema)
        for way in before:
            if not any(_lets_in(way, other) for other in now):
                asked = " or ".join(sorted(_named(other) for other in now))
                yield Change(f"{self.before.pointer}/security", f"asks for {asked}", "asking for less")

    def _parameters(self) -> Iterator[tuple[str, Change]]:
        before, now = _parameters(self.old, self.before), _parameters(self.new, self.now)
        for key, place in now.items():
            was_required = key in before and before[key].schema.get("required", False)
            if key[0] != "path" and place.schema.get("required", False) and not was_required:
                at = before[key].pointer if key in before else f"{self.before.pointer}/parameters"
                yield _called(key), Change(at, "must now be sent", "an optional one")
        for key, place in before.items():
            changes = self._parameter(place, now[key]) if key in now else [_ignored(place.pointer)]
            yield from ((_called(key), change) for change in changes)

    def _parameter(self, before: Place, now: Place) -> Iterator[Change]:
        if _written(before.schema) != _written(now.schema):
            what = f"is written as {_written(now.schema)}, not as {_written(before.schema)}"
            yield Change(before.pointer, what, "the same way")
        yield from self._schema(before, now, request=True, name=before.schema["name"])

    def _body(self) -> Iterator[Change]:
        before, now = _child(self.old, self.before, "requestBody"), _child(self.new, self.now, "requestBody")
        if now and now.schema.get("required", False) and not (before and before.schema.get("required", False)):
            yield Change((before or self.before).pointer, "must now be sent", "an optional one")
        if before and not now:
            yield _ignored(before.pointer)
        if before and now:
            yield from self._media(before, now, request=True)

    def _answers(self) -> Iterator[tuple[str, Change]]:
        before, now = (_children(d, p, "responses") for d, p in ((self.old, self.before), (self.new, self.now)))
        for status, place in before.items():
            found = now.get(status) or now.get(f"{status[0]}XX") or now.get("default")
            if found is not None:
                changes = [*self._media(place, found, request=False), *self._headers(place, found)]
                yield from ((f"answer {status}", change) for change in changes)
            elif status[0] in "23":  # an error that is answered no more is none to its clients
                yield f"answer {status}", Change(place.pointer, "is answered no more", "keeping it")

    def _headers(self, before: Place, now: Place) -> Iterator[Change]:
        there = {name.lower(): place for name, place in _children(self.new, now, "headers").items()}
        for name, place in _children(self.old, before, "headers").items():
            found = there.get(name.lower())
            if found is None or (place.schema.get("required", False) and not found.schema.get("required", False)):
                what = f"may come without the header {name}" if found else f"no longer has the header {name}"
                yield Change(place.pointer, what, "keeping it")
            if found:
                yield from self._schema(place, found, request=False)

    def _media(self, before: Place, now: Place, *, request: bool) -> Iterator[Change]:
        there = _children(self.new, now, "content")
        for kind, place in _children(self.old, before, "content").items():
            if kind in there:
                yield from self._schema(place, there[kind], request=request)
            else:
                what = f"no longer {'takes' if request else 'comes as'} {kind}"
                yield Change(place.pointer, what, "keeping it, with the new one beside it")

    def _schema(self, before: Place, now: Place, *, request: bool, name: str = "") -> Iterator[Change]:
        comparison = Comparison(self.old, self.new, request)
        for word in ("schema", "itemSchema"):  # the second is of a stream's items
            old, new = (Place(place.schema.get(word, True), place.to(word)) for place in (before, now))
            yield from comparison.changes(old, new)
            if name:
                yield from comparison.default(old, new, name)


def _child(document: Document, place: Place, name: str) -> Place | None:
    if name not in place.schema:
        return None
    return Place(*document.resolved(place.schema[name], place.to(name)))


def _children(document: Document, place: Place, name: str) -> dict[str, Place]:
    nodes = place.schema.get(name, {})
    return {key: Place(*document.resolved(node, place.to(name, key))) for key, node in nodes.items()}


def _parameters(document: Document, operation: Place) -> Nodes:
    found: Nodes = {}
    for number, node in enumerate(operation.schema["parameters"]):
        place = Place(*document.resolved(node, f"{operation.pointer}/parameters/{number}"))
        where, name = place.schema["in"], place.schema["name"]
        # In a path the position counts, not the name: wherever there is one, it is taken as it comes.
        position = sum(key[0] == "path" for key in found)
        found[where, {"path": position, "header": name.lower()}.get(where, name)] = place
    return found


def _called(key: tuple[str, Any]) -> str:
    return f"path parameter {key[1] + 1}" if key[0] == "path" else f"{key[0]} parameter `{key[1]}`"


def _written(parameter: Mapping[str, Any]) -> str:
    style = str(parameter.get("style", "form" if parameter["in"] in {"query", "cookie"} else "simple"))
    return f"{style}, exploded" if parameter.get("explode", style == "form") else style


def _ignored(pointer: str) -> Change:
    return Change(pointer, "is no longer known", "taking it on")


Way = dict[str, set[str]]  # scheme by what it is, with its scopes


def _ways(document: Document, operation: Mapping[str, Any]) -> list[Way]:
    stated = operation.get("security", document.content.get("security", []))
    schemes = document.content.get("components", {}).get("securitySchemes", {})
    return [{_kind(document, schemes, name): set(scopes) for name, scopes in way.items()} for way in stated] or [{}]


def _kind(document: Document, schemes: Mapping[str, Any], name: str) -> str:
    scheme, _ = document.resolved(schemes[name], f"#/components/securitySchemes/{name}")
    said = [str(scheme.get(word, "")) for word in ("type", "scheme", "in", "name", "openIdConnectUrl")]
    return " ".join(filter(None, said)).lower()


def _lets_in(way: Way, other: Way) -> bool:
    return all(kind in way and scopes <= way[kind] for kind, scopes in other.items())


def _named(way: Way) -> str:
    return " and ".join(f"{kind} ({', '.join(sorted(scopes))})" if scopes else kind for kind, scopes in way.items())
