"""The routes of the service, from its live router, with the guard of each."""

import ast
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from uuid import uuid4

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from app.api.guards import PUBLIC
from app.console.session import current
from app.entrypoints.web import create_app
from app.settings import load_settings

_STARTS_WORK = (".intake.start", ".chat.whole", ".chat.stream", "._chat.stream", "._chat.whole", ".embeddings.embed")


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    permission: str | None  # None where no guard names one
    is_console: bool  # guarded by the console's session
    is_costly: bool = False  # counted against the limit of costly requests
    calls_model: bool = False  # starts a run or asks a model, by its source

    @property
    def is_public(self) -> bool:
        return self.path in PUBLIC

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"\{([a-z_]+)", self.path)

    def matches(self, path: str) -> bool:
        """Whether a request for this path may be led here: one with `own` in the place of an id as well."""
        parts = re.split(r"\{[a-z_]+(:path)?\}", self.path)
        pattern = "".join(
            re.escape(part) if n % 2 == 0 else (".+" if part else "[^/]+") for n, part in enumerate(parts)
        )
        return re.fullmatch(pattern, path) is not None

    def at(self, **values: str) -> str:
        """The path with these values; a parameter that is not given gets an id that nothing has."""
        return re.sub(r"\{([a-z_]+)[^}]*\}", lambda found: values.get(found[1], str(uuid4())), self.path)


def all_routes() -> list[Route]:
    """One entry for each method of each path.

    `app.routes` holds lazily included routers, so the usual loop over it would find nothing to check."""
    app = create_app(load_settings(environment="test"))
    found = [context.route for context in iter_route_contexts(app.routes)]
    return [
        Route(
            method,
            route.path,
            _permission(route.dependant),
            _in_session(route.dependant),
            _costly(route.dependant),
            calls_model(route.endpoint),
        )
        for route in found
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    ]


def _permission(dependant: Dependant) -> str | None:
    for dependency in dependant.dependencies:
        found = getattr(dependency.call, "permission", None) or _permission(dependency)
        if found:
            return str(found)
    return None


def _costly(dependant: Dependant) -> bool:
    return any(getattr(d.call, "costly", False) or _costly(d) for d in dependant.dependencies)


def calls_model(endpoint: Callable[..., Any]) -> bool:
    """Whether a route's function, or one of its module that it uses, starts a run or asks a model.

    By source: what starts work is of `runtime.intake`, `runtime.chat` or `runtime.embeddings`."""
    module = sys.modules[endpoint.__module__]
    seen, todo = set[str](), [endpoint.__name__]
    sources = _definitions(module)
    while todo:
        name = todo.pop()
        if name in seen or name not in sources:
            continue
        seen.add(name)
        for node in ast.walk(sources[name]):
            if isinstance(node, ast.Attribute) and ast.unparse(node).endswith(_STARTS_WORK):
                return True
            if isinstance(node, ast.Name):
                todo.append(node.id)
    return False


def _definitions(module: ModuleType) -> dict[str, ast.AST]:
    tree = ast.parse(inspect.getsource(module))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return {node.name: node for node in tree.body if isinstance(node, kinds)}


def _in_session(dependant: Dependant) -> bool:
    return any(d.call is current or _in_session(d) for d in dependant.dependencies)
