"""Who may make whom, over HTTP: nobody gives more than they have."""

import socket
from typing import Any

import httpx2
import pytest

from gates.rig.people import Person
from gates.rig.service import Service


def _key(service: Service, admin: Person, member: Person, scopes: list[str]) -> str:
    body = {"member_id": member.member_id, "scopes": scopes}
    return str(service.call(admin, "POST", "/v1/keys", json=body).json()["key"])


def _as(service: Service, key: str, method: str, path: str, **options: Any) -> httpx2.Response:
    return service.call(None, method, path, headers={"Authorization": f"Bearer {key}"}, **options)


def test_an_admin_adds_changes_and_shuts_out_members(service: Service) -> None:
    [admin, viewer] = service.people(["admin"], ["viewer"])
    made = service.call(admin, "POST", "/v1/members", json={"name": "Ada", "roles": ["member"]})
    assert made.status_code == 201
    again = service.call(admin, "POST", "/v1/members", json={"name": "Ada", "roles": ["member"]})
    assert (again.status_code, again.json()["code"]) == (409, "resource.conflict")
    assert service.call(viewer, "GET", "/v1/runs").status_code == 200
    out = service.call(admin, "PATCH", f"/v1/members/{viewer.member_id}", json={"disabled": True})
    assert out.json()["disabled_at"]
    assert service.call(viewer, "GET", "/v1/runs").status_code == 401
    service.call(admin, "PATCH", f"/v1/members/{viewer.member_id}", json={"disabled": False, "roles": ["approver"]})
    assert service.call(viewer, "GET", "/v1/approvals").status_code == 200


@pytest.mark.parametrize(
    "body",
    [{"name": "x", "roles": ["platform_operator"]}, {"name": "x", "roles": ["member"], "subject": "somebody"}],
)
def test_what_only_the_platform_gives_an_admin_does_not(service: Service, body: dict[str, Any]) -> None:
    [admin] = service.people(["admin"])
    assert service.call(admin, "POST", "/v1/members", json=body).status_code == 403


def test_nobody_changes_themselves_or_a_platform_operator(service: Service) -> None:
    admin, operator = service.people(["admin"], ["platform_operator"])
    for person in (admin, operator):
        changed = service.call(admin, "PATCH", f"/v1/members/{person.member_id}", json={"roles": ["viewer"]})
        assert changed.status_code == 403
    revoked = service.call(admin, "DELETE", f"/v1/keys/{operator.principal.key_id}")
    assert revoked.status_code == 403
    assert service.call(operator, "GET", "/v1/switches").status_code == 200


def test_a_key_with_scopes_gives_only_what_it_may_do_itself(service: Service) -> None:
    admin, viewer = service.people(["admin"], ["viewer"])
    narrow = _key(service, admin, admin, ["members:write", "runs:read", "usage:read"])
    wider = _as(service, narrow, "POST", "/v1/members", json={"name": "Eve", "roles": ["admin"]})
    assert wider.status_code == 403
    raised = _as(service, narrow, "PATCH", f"/v1/members/{viewer.member_id}", json={"roles": ["admin"]})
    assert raised.status_code == 403
    listed_only = _key(service, admin, admin, ["keys:write", "approvals:decide"])  # an admin may not decide
    body = {"member_id": viewer.member_id, "scopes": ["approvals:decide"]}
    assert _as(service, listed_only, "POST", "/v1/keys", json=body).status_code == 403


def test_a_rotated_key_goes_on_for_its_overlap_and_no_longer(service: Service) -> None:
    admin, viewer = service.people(["admin"], ["viewer"])
    path = f"/v1/keys/{viewer.principal.key_id}/rotation"
    new = service.call(admin, "POST", path, json={"overlap_hours": 1}).json()["key"]
    assert service.call(viewer, "GET", "/v1/runs").status_code == 200
    assert _as(service, new, "GET", "/v1/runs").status_code == 200
    service.call(admin, "POST", path, json={"overlap_hours": 0})
    expired = service.call(viewer, "GET", "/v1/runs")
    assert (expired.status_code, expired.json()["code"]) == (401, "auth.expired")


def test_what_trails_a_body_is_no_header(service: Service) -> None:
    [viewer] = service.people(["viewer"])
    said = (
        f"POST /v1/runs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n"
        f"Connection: close\r\n\r\n0\r\nAuthorization: Bearer {viewer.key}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=100) as line:
        line.sendall(said.encode())
        assert line.recv(100).startswith(b"HTTP/1.1 401")


def test_a_connection_that_goes_on_with_a_line_break_is_ended(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=200) as line:
        line.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in line.recv(2_000)
        line.sendall(b"\r\n")
        while line.recv(2_000):  # the rest of the answer, and what is said in the end
            pass
