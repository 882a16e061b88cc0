"""The fuzz judges by what it says, and draws for every route, the same again, with the canary in it."""

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from gates.fuzz.drawn import CANARY, Drawn, requests
from gates.fuzz.verdict import OF_MODELS, Told, done, leaks, reached, wrong
from gates.matrix.requests import nothing
from gates.rig.canaries import Canaries
from gates.rig.routes import all_routes

SECRET = "secret-0f3b2a91c47d5e68"  # the same in every process: tests are named by it
KNOWN = {**dict.fromkeys(nothing(), "0" * 36), "role": "viewer", "another": "viewer"}
SECRETS, PLANTED = Canaries({"the credential": SECRET}), Canaries({"what was sent": CANARY})


@pytest.mark.parametrize(
    ("told", "written"),
    [
        (Told(200, b"", CANARY.encode()), b""),
        (Told(303, b"location: /console", b""), b""),
        (Told(422, b"", b'{"code": "request.invalid"}'), b'{"event": "request"}'),
        (Told(409, b"", CANARY.encode(), gives_back=True), b""),
        (Told(0), b""),
    ],
)
def test_what_may_be(told: Told, written: bytes) -> None:
    assert wrong(told, PLANTED, SECRETS, written) == ""


@pytest.mark.parametrize(
    ("told", "written", "what"),
    [
        (Told(500), b"", "answered 500"),
        (Told(503), b"", "answered 503"),
        (Told(599), b"", "answered 599"),
        (Told(422, b"", f"not {CANARY}".encode()), b"", "repeated what was sent"),
        (Told(422, b"", CANARY.upper().encode()), b"", "repeated what was sent"),
        (Told(404, b"X-Path: " + CANARY.encode(), b""), b"", "repeated what was sent"),
        (Told(200, b"", SECRET.encode()), b"", "showed the credential"),
        (Told(409, b"", SECRET.encode(), gives_back=True), b"", "showed the credential"),
        (Told(200), b"authorization: " + SECRET.encode(), "wrote the credential to the log"),
        (Told(200), SECRET.encode().hex().encode(), "wrote the credential to the log"),
        (Told(200), CANARY.encode(), "wrote what was sent to the log"),
    ],
)
def test_what_may_not_be(told: Told, written: bytes, what: str) -> None:
    assert what in wrong(told, PLANTED, SECRETS, written)


def test_a_sink_that_holds_a_secret_is_named() -> None:
    assert leaks({"the log": b"x", "the metrics": SECRET.encode()}, SECRETS) == ["the metrics holds the credential"]


def test_a_request_got_somewhere_if_a_route_took_it() -> None:
    lines: list[Mapping[str, object]] = [
        {"route": "/v1/runs", "status": 422}, {"route": "/v1/runs", "status": 401},
        {"route": "unmatched", "status": 400}, {"route": "/v1/runs", "status": 405},
        {"route": "/v1/runs/{run_id}", "status": 404},
    ]  # fmt: skip
    assert reached(lines) == 2


def test_what_a_route_has_done_are_its_answers_2xx_and_one_that_was_never_asked_has_done_nothing() -> None:
    seen = {"POST /a": {200: 2, 201: 1, 303: 4, 422: 5}, "POST /b": {404: 9}}
    assert done(seen, ["POST /a", "POST /b", "POST /c"]) == {"POST /a": 3, "POST /b": 0, "POST /c": 0}


def test_what_a_run_must_have_done_are_routes_of_the_service() -> None:
    assert set(OF_MODELS) <= {f"{route.method} {route.path}" for route in all_routes()}


def _drawn(count: int, number: int) -> list[Drawn]:
    found: list[Drawn] = []

    @seed(number)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(requests(all_routes(), KNOWN))
    def draw(request: Drawn) -> None:
        found.append(request)

    draw()
    return found


def test_every_route_is_drawn_for_and_the_same_seed_draws_the_same() -> None:
    drawn = _drawn(2_000, 1)
    assert {request.route for request in drawn} == {f"{route.method} {route.path}" for route in all_routes()}
    assert _drawn(50, 2) == _drawn(50, 2) != _drawn(50, 3)
    kinds = Counter(
        kind
        for request in drawn
        for kind, part in {
            "body": request.body, "query": request.query, "path": request.path.encode(),
            "header": b" ".join(value for _, value in request.headers),
        }.items()
        if CANARY.encode() in part
    )  # fmt: skip
    assert min(kinds[kind] for kind in ("body", "query", "path", "header")) >= 10
    for request in drawn:
        head = request.head()
        assert head.count(b"\r\n\r\n") == 1
        assert all(b"\n" not in line for line in head.split(b"\r\n"))
