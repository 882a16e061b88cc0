"""Gate 1, security: what the service shows to those who only knock."""

import re
import socket
from pathlib import Path
from uuid import uuid4

import httpx2

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig import valkey
from gates.rig.people import Person
from gates.rig.routes import all_routes
from gates.rig.service import Service, running
from gates.rig.world import World

LIMITS = '[limits]\naddress = "2000/minute"\nrefused = "20/hour"\nmember = "60/hour"\ncostly = "10/hour"\n'
GUESSES = 200


def _guess(world: World, address: str = "", route: str = "/v1/runs") -> httpx2.Response:
    """One wrong credential, from this address by what the proxy says."""
    headers = {"X-Forwarded-For": address} if address else {}
    wrong = f"svc_test_{uuid4().hex[:12]}_{'x' * 43}"
    if route == "/v1/runs":
        return world.service.call(None, "GET", route, headers={**headers, "Authorization": f"Bearer {wrong}"})
    return world.service.call(None, "POST", route, data={"key": wrong}, headers=headers)


def _limited(proof: Proof, answer: httpx2.Response, policy: str, quota: int) -> None:
    """A limited answer says so, by which limit and when to try again."""
    wait = answer.headers.get("retry-after", "")
    proof.holds("told", wait.isdigit() and 1 <= int(wait) <= 3600, f"Retry-After: {wait!r}")
    proof.same("told", answer.headers.get("ratelimit-policy"), f'"{policy}";q={quota};w=3600')
    proof.same("told", answer.headers.get("ratelimit"), f'"{policy}";r=0;t={wait}')


@control("SEC-09", cases=280)
def test_guessing_and_costly_requests_are_slowed_down(proof: Proof, new_world: NewWorld) -> None:
    with new_world(limits=LIMITS, TRUSTED_PROXIES='["127.0.0.1/32"]') as world:
        owner, other = world.people(["probe_reader"], ["probe_reader"])

        def lists(who: Person, address: str) -> int:
            headers = {"X-Forwarded-For": address}
            return world.service.call(who, "GET", "/v1/runs", headers=headers).status_code

        with proof.positive("a valid key is let in"):
            assert lists(owner, "192.0.2.1") == 200
        for route, attacker in (("/v1/runs", "192.0.2.1"), ("/console/sign-in", "192.0.2.2")):
            guesses = [_guess(world, attacker, route) for _ in range(GUESSES if route == "/v1/runs" else 30)]
            told = [answer.status_code for answer in guesses]
            proof.same("slowed", set(told[:20]), {401}, f"{route}, the first twenty:")
            for number, status in enumerate(told[21:], 22):
                proof.same("slowed", status, 429, f"{route}, guess {number}:")
            _limited(proof, guesses[-1], "refused", 20)
        proof.same("others", lists(owner, "192.0.2.1"), 200, "a valid key from the guesser's own address:")
        proof.same("others", _guess(world, "192.0.2.9").status_code, 401, "one mistake from another address:")
        for number in range(30):  # the client's own words stand left of what the proxy adds
            spoofed = f"198.51.100.{number}, 192.0.2.1"
            proof.same("not-spoofed", _guess(world, spoofed).status_code, 429, f"with {spoofed}:")
        network = [_guess(world, f"2001:db8:0:7::{number:x}").status_code for number in range(22)]
        proof.same("slowed", network[-1], 429, "addresses of one IPv6 network, which one customer has whole:")
        _mapped(proof, world)
        _costly(proof, world, owner, other)
        _every_costly_route(proof, world)
    with new_world(limits=LIMITS) as world:
        [owner] = world.people(["probe_reader"])
        for number in range(60):
            answer = _guess(world, f"203.0.113.{number}")
            if number > 20:
                proof.same("not-spoofed", answer.status_code, 429, f"without a trusted proxy, guess {number}:")


def _mapped(proof: Proof, world: World) -> None:
    """An IPv4 address that comes mapped into IPv6 (RFC 4291, 2.5.5.2) is that IPv4 address, and no network of all."""
    for _ in range(22):
        _guess(world, "::ffff:192.0.2.20")
    proof.same("others", _guess(world, "::ffff:192.0.2.21").status_code, 401, "another mapped address:")
    proof.same("others", _guess(world, "::ffff:c000:216").status_code, 401, "one more, in other letters:")
    for same in ("192.0.2.20", "::ffff:c000:214", "0:0:0:0:0:FFFF:192.0.2.20"):
        proof.same("others", _guess(world, same).status_code, 429, f"the same address as {same}:")


def _every_costly_route(proof: Proof, world: World) -> None:
    """Each route that calls a model, by its source, is counted; none that does is left out."""
    routes = [route for route in all_routes() if route.calls_model]
    with proof.positive("runs and chats call a model"):
        assert {"/v1/runs", "/v1/chat/completions"} <= {route.path for route in routes}
    for route in routes:
        proof.holds("costly", route.is_costly, f"{route.method} {route.path} calls a model: add costly=True")
        role = "probe_chatter" if route.permission == "chat:write" else "probe_reader"
        [who] = world.people([role])
        told = [world.service.call(who, route.method, route.at(), json={}).status_code for _ in range(14)]
        proof.holds("costly", 429 not in told[:10] and 403 not in told, f"{route.path}: {told}")
        proof.same("costly", set(told[11:]), {429}, f"{route.method} {route.path}:")


def _costly(proof: Proof, world: World, owner: Person, other: Person) -> None:
    """Starting runs has a limit of its own, by member and not by key or address; so has asking anything."""
    answers = [world.service.start_run(owner, "x", feature="probe") for _ in range(14)]
    started = [answer.status_code for answer in answers]
    proof.same("costly", started[:10], [202] * 10)
    proof.same("costly", set(started[11:]), {429})
    _limited(proof, answers[-1], "costly", 10)
    proof.same("others", world.service.start_run(other, "x", feature="probe").status_code, 202, "another member:")
    asked = [world.service.call(owner, "GET", "/v1/usage").status_code for _ in range(80)]
    proof.same("member", (asked[0], asked[-1]), (200, 429))
    proof.same("others", world.service.call(other, "GET", "/v1/usage").status_code, 200, "another member:")


@control("SEC-09", cases=10)
def test_all_processes_count_together(proof: Proof, new_world: NewWorld, tmp_path: Path) -> None:
    settings = {"TRUSTED_PROXIES": '["127.0.0.1/32"]'}
    settings["RATE_LIMIT_STORAGE_TIMEOUT_MS"] = "20000"  # a machine may be busy with other things
    with valkey.server() as store, new_world(limits=LIMITS, RATE_LIMIT_STORAGE_URL=store.url, **settings) as world:
        first = world.service
        with running(first.database_url, tmp_path, "gates.rig.serve", **first.environment) as second:
            both = (first, second)
            [who] = world.people(["probe_reader"])
            with proof.positive("both serve, and count in the storage"):
                assert [each.call(who, "GET", "/v1/usage").status_code for each in both] == [200, 200]
            proof.holds("shared", store.keys(), "nothing is in the storage")
            told = [_guess_at(both[number % 2], "192.0.2.1") for number in range(30)]
            proof.same("shared", told[:20], [401] * 20, "twenty guesses, ten at each:")
            proof.same("shared", set(told[21:]), {429}, "more of them:")
            started = [both[n % 2].start_run(who, "x", feature="probe").status_code for n in range(14)]
            proof.same("shared", started[:10], [202] * 10, "ten runs, five at each:")
            proof.same("shared", set(started[11:]), {429}, "more of them:")
            store.stop()
            told = [_guess_at(first, "192.0.2.3") for _ in range(30)]
            proof.same("shared", told[:20], [401] * 20, "without the storage nobody is locked out:")
            proof.same("shared", set(told[21:]), {429}, "without the storage, each process for itself:")
            proof.same("shared", _guess_at(second, "192.0.2.3"), 401, "the other one:")
            lines = first.operations("/metrics").text.splitlines()
            failures = next(line for line in lines if line.startswith("app_rate_limit_storage_failures_total "))
            proof.holds("shared", float(failures.split()[1]) >= 1, failures)
            proof.holds("shared", "limits.storage_failed" in first.log.read_text(), "nothing in the log")
            proof.holds("shared", valkey.PASSWORD not in first.log.read_text(), "the storage's password in the log")


def _guess_at(service: Service, address: str) -> int:
    headers = {"X-Forwarded-For": address, "Authorization": f"Bearer svc_test_{uuid4().hex[:12]}_{'x' * 43}"}
    return service.call(None, "GET", "/v1/runs", headers=headers).status_code


HIDDEN = (
    "/docs", "/redoc", "/docs/oauth2-redirect", "/metrics", "/version", "/debug", "/admin", "/.env", "/.git/config",
    "/app/settings.py", "/console/static/style.css", "/console/templates/overview.html", "/console/../app/errors.py",
    "/v1", "/v2/runs", "/graphql", "/server-status", "/actuator/env",
)  # fmt: skip
EVIL = (
    "https://evil.example", "http://app.rig.test", "https://app.rig.test.evil.example", "https://evilapp.rig.test",
    "https://app.rig.test:8443", "https://sub.app.rig.test", "null", "https://APP.rig.test.", "",
)  # fmt: skip
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
}
ORIGIN = "https://app.rig.test"


@control("SEC-10", cases=134)
def test_the_surface_is_hard(proof: Proof, new_world: NewWorld) -> None:
    with new_world(CORS_ORIGINS=f'["{ORIGIN}"]', PUBLIC_URL="https://desk.rig.test") as world:
        [who] = world.people(["probe_reader"])
        with proof.positive("the API answers, a listed origin may read it, and its contract is published"):
            good = world.service.call(who, "GET", "/v1/runs", headers={"Origin": ORIGIN})
            assert (good.status_code, good.headers["access-control-allow-origin"]) == (200, ORIGIN)
            published = world.service.call(None, "GET", "/openapi.json")
            assert published.json()["openapi"].startswith("3.1")
        for path in HIDDEN:
            answer = world.service.call(None, "GET", path)
            proof.same("hidden", answer.status_code, 404, path)
        for origin in EVIL:
            _foreign_origin(proof, world, who, origin)
        answers = [
            good, published, world.service.call(None, "GET", "/console/sign-in"), world.service.call(None, "GET", "/x"),
            world.service.call(who, "GET", "/v1/probe/crash"), world.service.call(None, "GET", "/v1/runs"),
            world.service.call(None, "GET", "/console"), world.service.call(None, "GET", "/console/style.css"),
        ]  # fmt: skip
        for answer in answers:
            where = f"{answer.request.url.path} ({answer.status_code})"
            for name, value in HEADERS.items():
                proof.same("headers", answer.headers.get(name), value, f"{where} {name}")
            policy = answer.headers.get("content-security-policy", "")
            proof.holds("headers", "default-src 'none'" in policy and "unsafe" not in policy, f"{where}: {policy}")
            proof.holds("headers", "max-age=" in answer.headers.get("strict-transport-security", ""), where)
            proof.holds("no-versions", not re.search(r"uvicorn|python|fastapi|starlette", str(answer.headers)), where)
        for method in ("TRACE", "TRACK", "CONNECT", "FOO"):
            status = _raw_method(world, method)
            proof.holds("methods", status in {400, 404, 405}, f"{method}: {status}")
        for route in all_routes():
            if route.method == "GET" and not route.is_public:
                answer = world.service.call(who, "TRACE", route.at())
                proof.same("methods", answer.status_code, 405, f"TRACE {route.path}")


def _foreign_origin(proof: Proof, world: World, who: Person, origin: str) -> None:
    preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    for headers, method in ((preflight, "OPTIONS"), ({"Origin": origin}, "GET")):
        answer = world.service.call(who, method, "/v1/runs", headers=headers)
        proof.holds("origins", "access-control-allow-origin" not in answer.headers, f"{method} from {origin!r}")
        proof.holds("origins", "access-control-allow-credentials" not in answer.headers, f"{method} from {origin!r}")


def _raw_method(world: World, method: str) -> int:
    with socket.create_connection(("127.0.0.1", world.service.port), timeout=100) as line:
        line.sendall(f"{method} /v1/runs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return int(line.recv(200).split()[1])
