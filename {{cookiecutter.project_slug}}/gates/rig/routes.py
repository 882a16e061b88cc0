"""The routes of the service, from its live router, with the guard of each."""

import re
from dataclasses import dataclass
from uuid import uuid4

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from app.api.guards import PUBLIC
from app.console.session import current
from app.entrypoints.web import create_app
from app.settings import load_settings


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    permission: str | None  # None where no guard names one
    is_console: bool  # guarded by the console's session

    @property
    def is_public(self) -> bool:
        return self.path in PUBLIC

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"\{([a-z_]+)", self.path)

    def at(self, **values: str) -> str:
        """The path with these values; a parameter that is not given gets an id that nothing has."""
        return re.sub(r"\{([a-z_]+)[^}]*\}", lambda found: values.get(found[1], str(uuid4())), self.path)


def all_routes() -> list[Route]:
    """One entry for each method of each path.

    `app.routes` holds lazily included routers, so the usual loop over it would find nothing to check."""
    app = create_app(load_settings(environment="test"))
    found = [context.route for context in iter_route_contexts(app.routes)]
    return [
        Route(method, route.path, _permission(route.dependant), _in_session(route.dependant))
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


def _in_session(dependant: Dependant) -> bool:
    return any(d.call is current or _in_session(d) for d in dependant.dependencies)
