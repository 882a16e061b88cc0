"""Every route has a guard, by the router itself and by asking the running service."""

import re
from uuid import uuid4

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from app.api.guards import PUBLIC
from app.console.session import current
from app.entrypoints.web import create_app
from app.settings import load_settings
from gates.rig.service import Service

MINIMUM_ROUTES = 20


def _app() -> FastAPI:
    return create_app(load_settings(environment="test"))


def _routes() -> list[APIRoute]:
    # `app.routes` holds lazily included routers, so the usual loop over it would find nothing to check.
    found = [context.route for context in iter_route_contexts(_app().routes)]
    return [route for route in found if isinstance(route, APIRoute)]


def _guards(dependant: Dependant) -> list[object]:
    found: list[object] = []
    for dependency in dependant.dependencies:
        if hasattr(dependency.call, "permission") or dependency.call is current:
            found.append(dependency.call)
        found += _guards(dependency)
    return found


def test_every_route_has_a_guard_or_is_public_on_purpose() -> None:
    routes = _routes()
    assert len(routes) >= MINIMUM_ROUTES
    bare = [
        f"{sorted(route.methods or ())} {route.path} has no guard: add require(...) or list it in PUBLIC"
        for route in routes
        if route.path not in PUBLIC and not _guards(route.dependant)
    ]
    assert bare == []


def test_public_lists_only_routes_that_exist() -> None:
    assert {route.path for route in _routes()} | {"/openapi.json"} >= PUBLIC


@pytest.mark.parametrize(
    "credential",
    [
        None,
        "",
        "Bearer",
        "Bearer x",
        "Basic c3ZjOng=",
        "Bearer svc_test_aaaaaaaaaaaa_" + "A" * 43,
        "Bearer null",
    ],
)
def test_no_route_answers_without_a_valid_key(service: Service, credential: str | None) -> None:
    asked = 0
    for route in _routes():
        if route.path in PUBLIC or route.path.startswith("/console"):
            continue
        path = re.sub(r"\{[^}]+\}", str(uuid4()), route.path)
        headers = {"Idempotency-Key": "k"} | ({"Authorization": credential} if credential is not None else {})
        for method in sorted(route.methods or ()):
            answer = service.call(None, method, path, headers=headers, json={} if method != "GET" else None)
            assert answer.status_code == 401, f"{method} {path}"
            assert answer.headers["WWW-Authenticate"]
            asked += 1
    assert asked >= 15
