"""Gates 3 and 4 over every interface that asks a model: chats, responses and embeddings, whole and streamed."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest

from app.errors import CATALOGUE
from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.chats import Chatted
from gates.rig.interfaces import EMBEDDINGS, IN_EVERY_INTERFACE, Interface
from gates.rig.people import Person
from gates.rig.provider import Answer, Script, fault, status
from gates.rig.service import wait_for
from gates.rig.unanswered import unanswered_port
from gates.rig.vectors import NAME, catalogue, embedding_models
from gates.rig.world import CONTEXT_TOKENS, World, models

DEADLINE_S, LATE_S = 2.0, 1.0  # of a call, and after it at most
ATTEMPTS = 3
RETRIES = f"attempts = {ATTEMPTS}\nfirst_wait_ms = 1\nbreaker_faults = 1000\n"
ONCE = "attempts = 1\nbreaker_faults = 1000\n"
OTHER = "another-embedding"
# What a provider answers, the code that callers are told, and how often it is asked for that.
FAILURES: dict[str, tuple[Answer, str, int]] = {
    "400": (status(400), "stub", 1),
    "401": (status(401), "provider.auth_failed", 1),
    "402": (status(402), "provider.quota_exhausted", 1),
    "403": (status(403), "provider.auth_failed", 1),
    "no quota": (status(429, kind="insufficient_quota"), "provider.quota_exhausted", 1),
    "too long": (status(400, kind="context_length_exceeded"), "model.context_too_long", 1),
    "429": (status(429), "provider.rate_limited", ATTEMPTS),
    "500": (status(500), "provider.unavailable", ATTEMPTS),
    "503": (status(503), "provider.overloaded", ATTEMPTS),
    "529": (status(529), "provider.overloaded", ATTEMPTS),
}


def _asks(world: World, *answers: Answer) -> tuple[Person, Script]:
    """One of a tenant of their own, and what the provider will answer."""
    return world.people(["probe_chatter"])[0], world.model.script(*answers)


def _asked(world: World, interface: Interface, *answers: Answer, stream: bool = False) -> tuple[Chatted, Script]:
    who, script = _asks(world, *answers)
    return interface.ask(world, who, script, stream=stream), script


def _answers(world: World, interface: Interface) -> None:
    for stream in interface.streams:
        told, _ = _asked(world, interface, interface.good, stream=stream)
        assert (told.status, told.code) == (200, "")


@IN_EVERY_INTERFACE
@control("ERR-03", cases=8)
def test_a_call_of_every_interface_ends_by_its_deadline(
    proof: Proof, new_world: NewWorld, interface: Interface
) -> None:
    with new_world(catalogue=catalogue(ONCE), MODEL_TIMEOUT_MS=str(int(DEADLINE_S * 1_000))) as world:
        with proof.positive("what the provider answers in time is an answer"):
            _answers(world, interface)
        for stream in interface.streams:
            for kind in ("hang", "drip"):
                told, script = _asked(world, interface, fault(kind, seconds=12), stream=stream)
                where = f"{kind}, {'streamed' if stream else 'whole'}"
                [seen] = script.seen
                took = wait_for(partial(getattr, seen, "ended")) - seen.arrived
                proof.holds("upstream-closed", seen.closed_early, f"{where}: the provider was left connected")
                proof.in_time("in-time", took, DEADLINE_S + LATE_S, f"{where}:")
                proof.same("typed", told.code, "provider.timeout", where)
    with unanswered_port() as port, new_world(
        catalogue=catalogue(ONCE), MODEL_TIMEOUT_MS="12000", CHAT_BASE_URL=f"http://127.0.0.1:{port}/v1"
    ) as world:  # fmt: skip
        began = time.monotonic()
        told, _ = _asked(world, interface)
        proof.in_time("connects-in-time", time.monotonic() - began, 8, "a connection that is never made:")
        proof.holds("typed", told.code in {"provider.timeout", "provider.unavailable"}, told.code)


@IN_EVERY_INTERFACE
@control("ERR-02", cases=26)
def test_each_failure_of_a_provider_is_told_as_its_row_says(
    proof: Proof, new_world: NewWorld, interface: Interface
) -> None:
    with new_world(catalogue=catalogue(ONCE), LOG_LEVEL="warning") as world:
        with proof.positive("without a failure there is none to tell"):
            _answers(world, interface)
        for what, (answer, code, _) in FAILURES.items():
            if code not in CATALOGUE:  # of a refusal: the provider's own word
                continue
            row = CATALOGUE[code]
            for stream in interface.streams:
                told, _script = _asked(world, interface, answer, stream=stream)
                proof.same("as-its-row", (told.status, told.code), (row.status, row.code), what)
                again = told.headers.get("x-should-retry")
                proof.same("headers", again, str(row.retryable).lower(), f"{what}: whether to ask again")
                if row.status in {429, 503}:
                    proof.holds("headers", told.headers.get("retry-after"), f"{what}: no retry-after")


@IN_EVERY_INTERFACE
@pytest.mark.timeout(1_200)
@control("ERR-04", cases=26)
def test_retries_of_every_interface_help_and_never_pile_up(
    proof: Proof, new_world: NewWorld, interface: Interface
) -> None:
    with new_world(catalogue=catalogue(RETRIES)) as world:
        with proof.positive("an answer after a failure is an answer"):
            told, script = _asked(world, interface, status(503), interface.good)
            assert (told.status, len(script.seen)) == (200, 2)
        broken = {"broken off": (replace(fault("die"), text="word " * 40), "provider.unavailable", ATTEMPTS)}
        for what, (answer, code, requests) in {**FAILURES, **broken}.items():
            if requests > 1:
                _refilled(world, interface)
            who, script = _asks(world, answer)
            told = interface.ask(world, who, script)
            proof.same("classified", (told.code, len(script.seen)), (code, requests), what)
            usage = world.service.call(who, "GET", "/v1/usage").json()["model_calls"]
            proof.same("each-metered", usage, requests, f"{what}:")
        _waits(proof, world, interface)
    with new_world(catalogue=catalogue(RETRIES)) as world:
        asked = [_asks(world, status(503)) for _ in range(60)]
        with ThreadPoolExecutor(20) as pool:
            ended = list(pool.map(lambda each: interface.ask(world, *each), asked))
        proof.same("within-budget", {told.code for told in ended}, {"provider.overloaded"})
        requests = sum(len(script.seen) for _, script in asked)
        proof.holds("within-budget", 60 < requests <= 70, f"{requests} requests for 60 calls")


def _refilled(world: World, interface: Interface) -> None:
    """Ten good answers for each failure: the retry budget is full again (app/gateway/breaker.py)."""
    who, script = _asks(world, interface.good)
    for number in range(10 * ATTEMPTS):
        no_cache = {"Cache-Control": "no-store"}
        told = interface.ask(world, who, script, headers=no_cache, **interface.text(script.task(f"Text {number}.")))
        assert told.status == 200


def _waits(proof: Proof, world: World, interface: Interface) -> None:
    _refilled(world, interface)
    told, script = _asked(world, interface, status(503, retry_after="2"), interface.good)
    first, second = script.seen
    gap = second.arrived - first.ended
    proof.holds("retry-after", gap >= 2, f"seconds: {gap:.2f}")
    told, script = _asked(world, interface, status(429, retry_after="60"), interface.good)
    proof.same("retry-after", (told.code, len(script.seen)), ("provider.rate_limited", 1), "longer than there is:")


@IN_EVERY_INTERFACE
@control("VAL-12", cases=3)
def test_what_is_too_long_is_told_and_charged_nothing(proof: Proof, new_world: NewWorld, interface: Interface) -> None:
    with new_world(catalogue=catalogue(RETRIES)) as world:
        who, script = _asks(world, interface.good)
        long = "long " * (CONTEXT_TOKENS // 4)
        with proof.positive("a long text that fits is taken"):
            told = interface.ask(world, who, script, **interface.text(script.task(long)))
            assert (told.status, told.code) == (200, "")
        before = world.spent(who)
        # How long a text an embedding model takes is known to its provider alone.
        too_long: list[tuple[str, Answer, int]] = [("a", status(400, kind="context_length_exceeded"), 1)]
        if interface is not EMBEDDINGS:
            too_long = [("long " * 79_000, interface.good, 0), ("長" * CONTEXT_TOKENS, interface.good, 0), *too_long]
        for text, answer, requests in too_long:
            for stream in interface.streams:
                script = world.model.script(answer)
                told = interface.ask(world, who, script, stream=stream, **interface.text(script.task(text)))
                where = f"{len(text)} characters, {'streamed' if stream else 'whole'}"
                row = CATALOGUE["model.context_too_long"]
                proof.same("typed", (told.status, told.code), (row.status, row.code), where)
                proof.same("not-asked", len(script.seen), requests, f"{where}, requests at the provider:")
                proof.same("not-charged", world.spent(who), before, where)


@control("ERR-05", cases=10)
def test_no_other_embedding_model_stands_in(proof: Proof, new_world: NewWorld) -> None:
    """Vectors of two models cannot be compared: a failure is told, and the model that fails is left alone."""
    rest_s = 2
    rules = f"attempts = 1\nbreaker_faults = 3\nbreaker_rest_s = {rest_s}\n"
    with new_world(catalogue=models(rules) + embedding_models(OTHER)) as world:
        with proof.positive("either model answers when it is asked for"):
            _answers(world, EMBEDDINGS)
            who, script = _asks(world, EMBEDDINGS.good)
            assert EMBEDDINGS.ask(world, who, script, model=OTHER).status == 200
        for number in range(3):
            told, script = _asked(world, EMBEDDINGS, status(503))
            proof.same("only-where-it-helps", [body["model"] for body in script.requests], [NAME], f"failure {number}")
            proof.same("honest", (told.code, told.headers.get("x-degraded")), ("provider.overloaded", None))
        told, script = _asked(world, EMBEDDINGS, EMBEDDINGS.good)
        proof.same("left-alone", (told.code, len(script.seen)), ("provider.unavailable", 0), "after three failures:")
        who, script = _asks(world, EMBEDDINGS.good)
        told = EMBEDDINGS.ask(world, who, script, model=OTHER)
        proof.same("left-alone", told.status, 200, "the other one answers who asks for it:")
        time.sleep(rest_s + 0.2)
        for when in ("the trial", "afterwards"):
            told, script = _asked(world, EMBEDDINGS, EMBEDDINGS.good)
            proof.same("recovers", (told.status, len(script.seen)), (200, 1), when)
