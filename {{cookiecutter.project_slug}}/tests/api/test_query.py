"""Fault 32: a parameter that a route does not know is refused, on every route, as an unknown field of a body is."""

import pytest

from app.api.guards import PUBLIC
from app.api.query import OTHERS_MAY_ADD
from gates.rig.routes import all_routes
from gates.rig.service import Service

ROUTES = [route for route in all_routes() if route.method == "GET" and not route.path.startswith(OTHERS_MAY_ADD)]


def test_every_route_refuses_an_unknown_parameter_and_names_it(service: Service) -> None:
    [admin] = service.people(["admin", "member", "approver", "platform_operator"])
    assert len(ROUTES) >= 15
    for route in ROUTES:
        answer = service.call(admin, "GET", f"{route.at()}?nonsense=1")
        assert answer.status_code == 422, route.path
        error = answer.json().get("error") or answer.json()
        assert "/query/nonsense" in (error.get("param") or error["errors"][0]["pointer"]), route.path


@pytest.mark.parametrize(
    ("query", "pointer", "reason"),
    [
        ("nonsense=1", "/query/nonsense", "unknown parameter: allowed are cursor, limit"),
        ("limit=5&limit=6", "/query/limit", "a parameter that may be given once"),
        ("limit=5&limit=5", "/query/limit", "a parameter that may be given once"),
        ("Limit=5", "/query/Limit", "unknown parameter: allowed are cursor, limit"),
        ("state=waiting", "/query/state", "unknown parameter: allowed are cursor, limit"),
        ("a/b=1", "/query/a~1b", "unknown parameter: allowed are cursor, limit"),
        ("=1", "/query/", "unknown parameter: allowed are cursor, limit"),
    ],
)
def test_the_error_says_what_is_wrong_and_what_is_allowed(
    service: Service, query: str, pointer: str, reason: str
) -> None:
    [member] = service.people(["member"])
    answer = service.call(member, "GET", f"/v1/runs?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"pointer": pointer, "reason": reason}]


def test_what_a_route_knows_is_taken_also_several_times_where_it_is_a_list(service: Service) -> None:
    [member] = service.people(["member"])
    for path in ("/v1/runs?limit=5", "/v1/usage?days=3&by=model&by=feature", "/v1/runs?"):
        assert service.call(member, "GET", path).status_code == 200, path


def test_a_write_refuses_them_too(service: Service) -> None:
    [member] = service.people(["member"])
    body, key = {"feature": "assistant", "task": "Find tickets."}, {"Idempotency-Key": "query"}
    answer = service.call(member, "POST", "/v1/runs?dry_run=true", json=body, headers=key)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["reason"] == "unknown parameter: no parameter is allowed here"


def test_who_may_not_call_is_told_so_and_nothing_of_the_parameters(service: Service) -> None:
    [member] = service.people(["member"])
    guarded = [route for route in ROUTES if route.path not in PUBLIC]
    for route in guarded:
        assert service.call(None, "GET", f"{route.at()}?nonsense=1").status_code == 401, route.path
    assert service.call(member, "GET", "/v1/members?nonsense=1").status_code == 403


def test_where_others_add_parameters_they_are_ignored(service: Service) -> None:
    """RFC 6749, 4.1.2: an answer of an authorization server may hold more than a client knows."""
    assert service.call(None, "GET", "/console/sign-in?utm_source=mail").status_code == 200
    back = service.call(None, "GET", "/console/signed-in?state=a&code=b&session_state=c")
    assert back.status_code == 404, "there is no provider here; and no parameter was refused"


def test_the_exemption_is_for_pages_alone() -> None:
    exempt = {route.path for route in all_routes() if route.path.startswith(OTHERS_MAY_ADD)}
    assert all(path == "/console" or path.startswith("/console/") for path in exempt)
    assert {"/livez", "/readyz"} <= {route.path for route in ROUTES} & PUBLIC
