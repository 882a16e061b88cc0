"""Every route has a guard, by the router itself; that the guards hold is proven in gates/test_02_access.py."""

from typing import Any

from app.api.guards import PUBLIC
from gates.rig.routes import all_routes, calls_model

MINIMUM_ROUTES = 20


def test_every_route_has_a_guard_or_is_public_on_purpose() -> None:
    routes = all_routes()
    assert len(routes) >= MINIMUM_ROUTES
    bare = [
        f"{route.method} {route.path} has no guard: add require(...) or list it in PUBLIC"
        for route in routes
        if not (route.is_public or route.permission or route.is_console)
    ]
    assert bare == []


def test_public_lists_only_routes_that_exist() -> None:
    assert {route.path for route in all_routes()} | {"/openapi.json"} >= PUBLIC


async def _planted(runtime: Any) -> Any:
    return await _its_work(runtime)


async def _its_work(runtime: Any) -> Any:
    return await runtime.intake.start(None, None, "")


def test_a_route_that_calls_a_model_is_costly_and_one_that_does_is_found() -> None:
    assert calls_model(_planted)
    assert not calls_model(test_public_lists_only_routes_that_exist)
    calling = [route for route in all_routes() if route.calls_model]
    assert {"/v1/runs", "/v1/chat/completions"} <= {route.path for route in calling}
    uncounted = [f"{route.method} {route.path}" for route in calling if not route.is_costly]
    assert not uncounted, f"{uncounted}: calls a model, add costly=True to its require(...)"
