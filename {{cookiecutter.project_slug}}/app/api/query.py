"""Query parameters: an unknown or repeated one is refused, as an unknown field of a body is.

Who misspells a filter would otherwise be given everything, and take it for what they asked for. Gate: validation.
"""

from collections.abc import Iterator
from inspect import isclass
from typing import get_origin

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.content.json_pointer import json_pointer
from app.errors import RequestInvalid

# Where others may add parameters of their own. What opens a link marks it (mail, chat, search), so every page of the
# console takes them; an identity provider adds to its answer, and a client must ignore what it does not know (RFC 6749,
# 4.1.2), such as `session_state`.
OTHERS_MAY_ADD = ("/console",)
MAX_POINTERS = 20  # an answer must not grow with what was sent


def require_known_query(request: Request) -> None:
    """Raise RequestInvalid that names each parameter which this route does not know, or knows once only."""
    route = request.scope["route"]
    if not request.scope["query_string"] or not isinstance(route, APIRoute) or route.path.startswith(OTHERS_MAY_ADD):
        return
    known = _known(route)
    given = [name for name, _ in request.query_params.multi_items()]
    allowed = f"allowed are {', '.join(sorted(known))}" if known else "no parameter is allowed here"
    wrong = [(name, f"unknown parameter: {allowed}") for name in dict.fromkeys(given) if name not in known]
    wrong += [
        (name, "a parameter that may be given once")
        for name, repeatable in known.items()
        if not repeatable and given.count(name) > 1
    ]
    if wrong:
        raise RequestInvalid(pointers=[(json_pointer("query", name), reason) for name, reason in wrong[:MAX_POINTERS]])


def _known(route: APIRoute) -> dict[str, bool]:
    """The parameters of a route and of what it depends on, and whether each may be given several times."""
    return dict(_parameters(route.dependant))


def _parameters(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    for field in dependant.query_params:
        annotation = field.field_info.annotation
        if isclass(annotation) and issubclass(annotation, BaseModel):
            yield from ((part.alias or name, False) for name, part in annotation.model_fields.items())
        else:
            yield field.alias, _is_list(annotation)
    for dependency in dependant.dependencies:
        yield from _parameters(dependency)


def _is_list(annotation: object) -> bool:
    kinds = (annotation, *getattr(annotation, "__args__", ()))
    return any((get_origin(kind) or kind) in {list, tuple, set, frozenset} for kind in kinds)
