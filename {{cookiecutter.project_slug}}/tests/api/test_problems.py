"""Hostile requests get a problem document, never a 500, never their own words back."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gates.rig.people import Person
from gates.rig.service import Service

CANARY = "canary-7f3a"


@pytest.fixture(scope="module")
def member(service: Service) -> Person:
    return service.people(["member"])[0]


def _post(service: Service, who: Person, body: bytes, content_type: str = "application/json") -> Any:
    headers = {"Content-Type": content_type, "Idempotency-Key": "k"}
    return service.call(who, "POST", "/v1/runs", content=body, headers=headers)


def _is_problem(answer: Any, *statuses: int) -> None:
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["type"] == f"/problems/{body['code']}"
    assert CANARY not in answer.text
    assert "Traceback" not in answer.text


GOOD = {"feature": "assistant", "task": "Find tickets."}
DOCUMENT = {"name": "a.txt", "text": "text"}


def _hostile() -> Iterator[bytes]:
    yield from (b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe\x00", b"\x00", b"{'a': 1}", b"NaN")
    yield f'{{"task": NaN, "feature": "{CANARY}"}}'.encode()
    yield b'{"task": Infinity, "feature": "assistant"}'
    yield b'{"task": 1e400, "feature": "assistant"}'
    yield b'{"task": "\\ud800", "feature": "assistant"}'
    yield b'{"task": "x", "feature": "\\udfff' + CANARY.encode() + b'"}'
    yield b"[" * 100_000
    yield b'{"a":' * 50_000
    changes: list[dict[str, Any]] = [
        {"task": ""},
        {"task": 7},
        {"task": None},
        {"task": "x" * 8_001},
        {"feature": CANARY},
        {"feature": "Assistant"},
        {"unknown": CANARY},
        {"tenant_id": CANARY},
        {"documents": [DOCUMENT] * 6},
        {"documents": [{**DOCUMENT, "role": "system"}]},
        {"documents": "none"},
        {"task": "a\0b"},
        {"documents": [{"name": "a\0", "text": "x"}]},
        {"documents": [{"name": "", "text": "x"}]},
    ]
    for change in changes:
        yield json.dumps({**GOOD, **change}).encode()


@pytest.mark.parametrize("body", list(_hostile()), ids=lambda body: repr(body[:40]))
def test_a_hostile_body_is_refused_with_a_problem(service: Service, member: Person, body: bytes) -> None:
    _is_problem(_post(service, member, body), 400, 422)


def test_an_invalid_field_is_named_by_pointer_and_not_repeated(service: Service, member: Person) -> None:
    answer = _post(service, member, json.dumps({**GOOD, "task": CANARY * 900, "extra": CANARY}).encode())
    _is_problem(answer, 422)
    assert {issue["pointer"] for issue in answer.json()["errors"]} == {"/task", "/extra"}


def test_the_framework_s_own_errors_have_the_same_shape(service: Service, member: Person) -> None:
    _is_problem(service.call(member, "GET", "/v1/nothing-here"), 404)
    not_allowed = service.call(member, "DELETE", "/v1/runs")
    _is_problem(not_allowed, 405)
    assert {"GET", "POST"} <= {part.strip() for part in not_allowed.headers["Allow"].split(",")}
    own = service.call(member, "GET", "/v1/keys/own")
    _is_problem(own, 405)
    assert own.headers["Allow"] == "POST", "and not what /v1/keys/{key_id} takes"
    _is_problem(service.call(member, "GET", "/v1/runs?limit=zero"), 422)
    _is_problem(service.call(member, "GET", "/v1/runs?cursor=' or 1=1"), 422)


@pytest.mark.parametrize("path", ["/v1/runs/a%00b", "/v1/audit?subject=%00", "/v1/runs?cursor=%00"])
def test_nul_in_an_address_is_refused(service: Service, member: Person, path: str) -> None:
    _is_problem(service.call(member, "GET", path), 400)


def test_an_answer_does_not_grow_with_the_request(service: Service, member: Person) -> None:
    many = {f"field-{n}-{'x' * 200}": 1 for n in range(2_000)}
    answer = _post(service, member, json.dumps({**GOOD, **many}).encode())
    _is_problem(answer, 422)
    assert len(answer.content) < 8_000


def test_a_stored_text_never_reaches_the_log(service: Service, member: Person) -> None:
    _post(service, member, json.dumps({**GOOD, "task": f"{CANARY} \0"}).encode())
    assert CANARY not in service.log.read_text()


def test_a_missing_content_type_is_named(service: Service, member: Person) -> None:
    for content_type in ("text/plain", "application/xml", ""):
        _is_problem(_post(service, member, json.dumps(GOOD).encode(), content_type), 415)


def test_a_missing_idempotency_key_is_named(service: Service, member: Person) -> None:
    answer = service.call(member, "POST", "/v1/runs", json=GOOD)
    _is_problem(answer, 400)
    assert answer.json()["code"] == "idempotency.key_missing"


def test_a_body_over_the_limit_is_refused_with_and_without_a_declared_length(service: Service, member: Person) -> None:
    _is_problem(_post(service, member, b" " * 1_000_001), 413)
    head = (
        "POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\n"
        f"Authorization: Bearer {member.key}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=200) as raw:
        raw.sendall(head.encode())
        try:
            for _ in range(40):
                raw.sendall(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert b" 413 " in raw.recv(64)


def test_every_answer_carries_the_security_headers(service: Service) -> None:
    for path in ("/livez", "/v1/runs", "/nothing", "/console/sign-in"):
        headers = service.call(None, "GET", path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"
        assert "server" not in headers


def test_a_given_request_id_is_kept_only_when_it_is_harmless(service: Service) -> None:
    given = service.call(None, "GET", "/livez", headers={"X-Request-ID": "abc-12345"})
    assert given.headers["X-Request-ID"] == "abc-12345"
    odd = service.call(None, "GET", "/livez", headers={"X-Request-ID": "a b\tc;<x>"})
    assert odd.headers["X-Request-ID"] != "a b\tc;<x>"
