"""Every route has a guard, by the router itself; that the guards hold is proven in gates/test_02_access.py."""

from app.api.guards import PUBLIC
from gates.rig.routes import all_routes

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
