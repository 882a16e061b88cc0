"""Gate 4, error handling: every dependency down, slow, answering nonsense and breaking off, as declared for each."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from psycopg.conninfo import conninfo_to_dict

from gates import dependencies
from gates.conftest import NewWorld
from gates.dependencies import AS_ALWAYS, TOOL_FAILS, TROUBLES, Dependency
from gates.proof import Proof, control
from gates.rig import hazard
from gates.rig.databases import NewDatabase
from gates.rig.formats import Reply
from gates.rig.issuer import Issuer, issuer, new_key
from gates.rig.people import Person
from gates.rig.provider import calls
from gates.rig.relay import Relay, Trouble, relay
from gates.rig.service import wait_for
from gates.rig.sink import sink
from gates.rig.tool_server import tool_server
from gates.rig.world import World, final

DECLARED = {dependency.name: dependency for dependency in dependencies.load()}
PATIENCE = {"DATABASE_TIMEOUT_S": "2", "MODEL_TIMEOUT_MS": "2000"}
SOON = 15.0  # seconds until all is well again
Ask = Callable[[], str]  # what a caller meets


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 80)


def _cells(
    proof: Proof, dependency: Dependency, wire: Relay, ask: Ask, meanwhile: Callable[[Trouble], None] = lambda _: None
) -> None:
    """Each trouble: the declared answer in the declared time, and the usual one once it is over."""
    with proof.positive(f"{dependency.name}: all is well"):
        assert ask() == AS_ALWAYS
    for trouble in TROUBLES:
        where, cell = f"{dependency.name}, {trouble}:", dependency.cell(trouble)
        wire.trouble = trouble
        began = time.monotonic()
        proof.same("as-declared", ask(), cell.answer, where)
        took = time.monotonic() - began
        proof.in_time("in-time", took, cell.within_s, where)
        meanwhile(trouble)
        wire.trouble = ""
        proof.soon("recovers", lambda: ask() == AS_ALWAYS, SOON, where)


@pytest.mark.timeout(2_800)
@control("ERR-12", cases=20)
def test_the_database_in_trouble(proof: Proof, new_world: NewWorld, new_postgres: NewDatabase) -> None:
    url = new_postgres()
    told = conninfo_to_dict(url)
    place = str(told["host"])
    upstream = (
        f"{place}/.s.PGSQL.{told.get('port', 5432)}" if place.startswith("/") else (place, int(str(told["port"])))
    )
    with relay(upstream, garbage=b"\x00\xff<html>gateway</html>\n" * 4) as wire:
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        through = urlunsplit(("postgresql", f"{login}@127.0.0.1:{wire.port}", parts.path, "", ""))
        with new_world(database_url=through, EMBEDDED_WORKER="false", **PATIENCE) as world:
            [who] = world.people(["probe_reader"])

            def ask() -> str:
                answer = world.service.call(who, "GET", "/v1/runs")
                return AS_ALWAYS if answer.status_code == 200 else str(answer.json()["code"])

            def meanwhile(trouble: Trouble) -> None:
                ready, alive = (world.service.call(None, "GET", path).status_code for path in ("/readyz", "/livez"))
                proof.same("goes-on", (ready, alive), (503, 200), f"{trouble}: readiness and liveness")
                before = len(world.model.ledger)
                started = world.service.start_run(who, "x", feature="probe")
                seen = (started.status_code, len(world.model.ledger) - before)
                proof.same("goes-on", seen, (503, 0), f"{trouble}: a run is not accepted")

            _cells(proof, DECLARED["database"], wire, ask, meanwhile)


@control("ERR-12", cases=4)
def test_a_busy_database_file_ends_no_work_that_can_wait(proof: Proof, new_world: NewWorld) -> None:
    with new_world(DATABASE_TIMEOUT_S="1") as world:
        [who] = world.people(["probe_reader"])
        slow = Reply(**{**vars(final()), "delay": 5.0})
        with proof.positive("a slow run succeeds"):
            assert world.run(who, slow).state["state"] == "succeeded"
        ran = world.start(who, slow)
        wait_for(lambda: ran.script.seen)
        with world.locked():
            began = time.monotonic()
            answer = world.service.start_run(who, "x", feature="probe")
            took = time.monotonic() - began
            proof.same("as-declared", answer.json().get("code"), "service.store_unavailable", "a locked file:")
            proof.same("as-declared", world.service.call(who, "GET", "/v1/runs").status_code, 200, "what reads:")
            proof.in_time("in-time", took, 2.5, "a locked file:")
            time.sleep(1.5)
        proof.same("recovers", world.service.call(who, "GET", "/v1/runs").status_code, 200, "a locked file:")
        proof.same("goes-on", world.settled(who, ran).state["state"], "succeeded", "the run that was under way:")


@pytest.mark.timeout(2_800)
@control("ERR-12", cases=16)
def test_the_model_provider_in_trouble(proof: Proof, new_world: NewWorld) -> None:
    with relay() as wire, new_world(MODEL_BASE_URL=f"{wire.url}/v1", **PATIENCE) as world:
        wire.upstream = _address(world.model.url)
        [who] = world.people(["probe_reader"])

        def ask() -> str:
            ran = world.run(who, final())
            return AS_ALWAYS if ran.state["state"] == "succeeded" else str(ran.state["error"]["code"])

        def meanwhile(trouble: Trouble) -> None:
            proof.same("goes-on", world.service.call(who, "GET", "/v1/runs").status_code, 200, trouble)

        _cells(proof, DECLARED["model provider"], wire, ask, meanwhile)


@pytest.mark.timeout(2_800)
@control("ERR-12", cases=16)
def test_the_identity_provider_in_trouble(proof: Proof, new_world: NewWorld) -> None:
    with issuer() as provider, relay(_address(provider.url)) as wire:
        settings = {**provider.settings, "OIDC_JWKS_URL": f"{wire.url}/jwks"}
        with new_world(**settings, **PATIENCE) as world:
            [who] = world.people(["probe_reader"])
            world.sql("UPDATE members SET issuer = ?, subject = ? WHERE id = ?", provider.url, "ada", who.member_id)
            kids = [f"next-{number}" for number in range(1, 1 + len(TROUBLES))]
            _rotating(proof, world, provider, wire, who, kids)


def _rotating(proof: Proof, world: World, provider: Issuer, wire: Relay, who: Person, kids: list[str]) -> None:
    """Before each trouble the provider takes a further key, which the service does not know yet."""
    newest = ["k1"]

    def ask() -> str:
        world.clock.advance(timedelta(seconds=31))  # how often a key that is missing is asked for
        answer = _with_token(world, provider, newest[0])
        if answer.status_code == 200 and kids:
            newest[0] = kids.pop(0)
            provider.keys[newest[0]] = new_key()
        return AS_ALWAYS if answer.status_code == 200 else str(answer.json()["code"])

    def meanwhile(trouble: Trouble) -> None:
        known = _with_token(world, provider, "k1").status_code
        by_key = world.service.call(who, "GET", "/v1/runs").status_code
        proof.same("goes-on", (known, by_key), (200, 200), f"{trouble}: a known key, an API key")

    _cells(proof, DECLARED["identity provider"], wire, ask, meanwhile)


def _with_token(world: World, provider: Issuer, kid: str) -> Any:
    token = provider.token("ada", kid=kid, exp=int(world.clock.now().timestamp()) + 300)
    return world.service.call(None, "GET", "/v1/runs", headers={"Authorization": f"Bearer {token}"})


@pytest.mark.timeout(2_800)
@control("ERR-12", cases=24)
def test_tools_in_trouble(proof: Proof, new_world: NewWorld) -> None:
    with tool_server() as server, relay(_address(server.url)) as wire:
        server.url = f"{wire.url}/mcp/"
        with new_world(server=server, **PATIENCE) as world:
            [who] = world.people(["hazard_runner"])
            _cells(proof, DECLARED["tool server"], wire, lambda: _asks(world, who, "rig_find", {"name": "x"}))
    with sink() as end, relay(_address(end.url)) as other:
        settings = {**PATIENCE, hazard.STATUS: other.url, "EGRESS_ALLOW": f'["{other.url}"]'}
        with new_world(**settings) as world:
            [who] = world.people(["hazard_runner"])
            _cells(
                proof, DECLARED["a tool's back end"], other, lambda: _asks(world, who, "hazard_status", {"page": "/"})
            )


def _asks(world: World, who: Person, tool: str, arguments: dict[str, str]) -> str:
    """A run that uses the tool once; it goes on whatever becomes of that."""
    ran = world.run(who, calls(tool, arguments), final(), feature="hazard")
    assert ran.state["state"] == "succeeded", ran.state
    [state] = [
        call["state"] for call in world.service.call(who, "GET", f"/v1/runs/{ran.id}/tool-calls").json()["items"]
    ]
    return AS_ALWAYS if state == "done" else TOOL_FAILS


@pytest.mark.timeout(2_800)
@control("ERR-12", cases=32)
def test_what_watches_the_service_in_trouble(proof: Proof, new_world: NewWorld) -> None:
    with sink() as end, relay(_address(end.url)) as traces, relay(_address(end.url)) as errors:
        dsn = errors.url.replace("://", "://public@") + "/1"
        settings = {**PATIENCE, "OTEL_EXPORTER_OTLP_ENDPOINT": traces.url, "SENTRY_DSN": dsn}
        with new_world(**settings) as world:
            [who] = world.people(["probe_reader"])

            def ask() -> str:
                crashed = world.service.call(who, "GET", "/v1/probe/crash").json()["code"]
                state = world.run(who, final()).state["state"]
                return AS_ALWAYS if (crashed, state) == ("internal.unexpected", "succeeded") else f"{crashed}, {state}"

            for name, wire, path in (("trace collector", traces, "/v1/traces"), ("error tracker", errors, "/api/1/")):

                def arrives(_: Trouble, wire: Relay = wire, path: str = path) -> None:
                    wire.trouble = ""
                    before = _hits(end, path)
                    wait_for(lambda: ask() and _hits(end, path) > before, 40)
                    proof.holds("goes-on", _hits(end, path) > before, f"{path} hears of the service again")

                _cells(proof, DECLARED[name], wire, ask, arrives)


def _hits(end: Any, path: str) -> int:
    return sum(hit.path.startswith(path) for hit in end.hits)
