"""Gate 4, error handling: a provider that hangs, fails or is gone, and what stands in for it."""

import statistics
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from app.settings import ROOT
from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.formats import Reply, Wire
from gates.rig.people import Person
from gates.rig.provider import Body, Exchange, Script, calls, fault, says, status
from gates.rig.service import wait_for
from gates.rig.unanswered import unanswered_port
from gates.rig.wire import listening
from gates.rig.world import MODEL, SPARE, Ran, World, final, models

DEADLINE = 2.0
LATE = 1.0  # after the deadline, at most
OPERATOR = ["platform_operator"]


def _code(ran: Ran) -> str:
    return str((ran.state.get("error") or {}).get("code", ""))


def _streamed(world: World, who: Person, script: Script) -> dict[str, Any]:
    told: dict[str, Any] = world.service.call(who, "POST", "/v1/probe/stream", json={"task": script.task()}).json()
    return told


def _asked(script: Script, model: str) -> int:
    """How often this model was asked, by the provider's own count."""
    return sum(request["model"] == model for request in script.requests)


@pytest.mark.timeout(2_800)
@control("ERR-03", cases=40)
def test_every_upstream_call_ends_by_its_deadline(proof: Proof, new_world: NewWorld) -> None:
    for wire in ("openai", "anthropic"):
        with new_world(wire=wire, MODEL_TIMEOUT_MS=str(int(DEADLINE * 1_000))) as world:
            _model_calls_end(proof, world, wire)
    _connections_end(proof, new_world)
    _tools_end(proof, new_world)


def _model_calls_end(proof: Proof, world: World, wire: Wire) -> None:
    [who] = world.people(["probe_reader"])
    slow = Reply(**{**vars(final()), "delay": DEADLINE / 2})
    with proof.positive("an answer that takes half the deadline is an answer, whole and streamed"):
        assert world.run(who, slow).state["state"] == "succeeded"
        assert _streamed(world, who, world.model.script(says("hello you")))["text"] == "hello you"
    for kind in ("hang", "drip", "endless"):
        ran = world.run(who, fault(kind, seconds=12))
        where = f"{wire}, {kind}"
        _in_time(proof, ran.script.seen[0], where)
        proof.same("typed", _code(ran), "provider.timeout", where)
        script = world.model.script(fault(kind, seconds=12))
        code = _streamed(world, who, script)["code"]
        _in_time(proof, script.seen[0], f"{where}, streamed")
        proof.same("typed", code, "provider.timeout", f"{where}, streamed")


def _in_time(proof: Proof, exchange: Exchange, where: str) -> None:
    took = wait_for(lambda: exchange.ended) - exchange.arrived
    proof.holds("upstream-closed", exchange.closed_early, f"{where}: the provider was left connected")
    proof.in_time("in-time", took, DEADLINE + LATE, f"{where}:")


def _connections_end(proof: Proof, new_world: NewWorld) -> None:
    with unanswered_port() as port, new_world(
        MODEL_TIMEOUT_MS="12000", MODEL_BASE_URL=f"http://127.0.0.1:{port}/v1"
    ) as world:  # fmt: skip
        [who] = world.people(["probe_reader"])
        began = time.monotonic()
        ran = world.run(who, final())
        took = time.monotonic() - began
        proof.in_time("connects-in-time", took, 8, "a connection that is never made:")
        proof.holds("typed", _code(ran) in {"provider.timeout", "provider.unavailable"}, _code(ran))


def _tools_end(proof: Proof, new_world: NewWorld) -> None:
    """A tool's request has a deadline of three seconds: for the whole of it."""
    ended: list[float] = []

    def drip(request: BaseHTTPRequestHandler, _: bytes) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "30")
        request.end_headers()
        began = time.monotonic()
        try:
            for _second in range(30):
                request.wfile.write(b"x")
                time.sleep(0.5)
        finally:
            ended.append(time.monotonic() - began)

    with listening(drip) as url, new_world(EGRESS_ALLOW=f'["{url}"]') as world:
        runner, approver = world.people(["hazard_runner"], ["probe_approver"])
        reads = calls("hazard_read", {"url": f"{url}/"})
        ran = world.run(runner, reads, final(), feature="hazard", until=("waiting",))
        world.service.decide(approver, world.question(approver, ran))
        state = world.service.run_until(runner, ran.id, "succeeded", "failed")
        proof.same("typed", state["state"], "succeeded", "the tool fails, the run goes on:")
        took = wait_for(lambda: ended)[0]
        proof.in_time("in-time", took, 3 + LATE, "a tool's request:")


RETRIES = "attempts = 3\nfirst_wait_ms = 400\nbreaker_faults = 1000\n"
GAP = 0.4  # the first wait is a random part of it
ONCE_ONLY: dict[str, Reply] = {
    "400": status(400),
    "401": status(401),
    "402": status(402),
    "403": status(403),
    "404": status(404),
    "422": status(422),
    "no quota": status(429, kind="insufficient_quota"),
    "too long": status(400, kind="context_length_exceeded"),
    "declined": Reply(text="I will not.", finish="refusal"),
}
AGAIN: dict[str, Reply] = {
    "429": status(429),
    "500": status(500),
    "502": status(502),
    "503": status(503),
    "529": status(529),
    "broken off": fault("die"),
}


@pytest.mark.timeout(2_800)
@control("ERR-04", cases=28)
def test_retries_help_and_never_pile_up(proof: Proof, new_world: NewWorld) -> None:
    with new_world(catalogue=models(RETRIES)) as world:
        [who] = world.people(["probe_reader"])
        with proof.positive("an answer after a failure is an answer"):
            ran = world.run(who, status(503), final())
            assert (ran.state["state"], len(ran.script.seen)) == ("succeeded", 2)
        _classified(proof, world)
    with new_world(catalogue=models(RETRIES)) as world:
        _waits(proof, world)
        _tools_run_once(proof, world)
    with new_world(catalogue=models("attempts = 3\nfirst_wait_ms = 1\nbreaker_faults = 1000\n")) as world:
        _within_budget(proof, world)
    own = tomllib.loads((ROOT / "config" / "models.toml").read_text()).get("resilience", {})
    proof.holds("own-settings", 1 <= own.get("attempts", 3) <= 5, own)


def _classified(proof: Proof, world: World) -> None:
    for kinds, requests in ((ONCE_ONLY, 1), (AGAIN, 3)):
        for what, answer in kinds.items():
            [who] = world.people(["probe_reader"])
            ran = world.run(who, answer)
            proof.same("classified", (ran.state["state"], len(ran.script.seen)), ("failed", requests), what)
            if requests > 1:
                _filled(world, who, failures=requests)


def _filled(world: World, who: Person, *, failures: int) -> None:
    """What failed took from the retry budget; ten good answers for each fill it again."""
    for _ in range(failures):
        looks = (calls("probe_lookup", {"query": f"q{n}"}, f"c{n}") for n in range(9))
        assert world.run(who, *looks, final()).state["state"] == "succeeded"


def _gap(ran: Ran) -> float:
    first, second = ran.script.seen[:2]
    return second.arrived - first.ended


def _waits(proof: Proof, world: World) -> None:
    [who] = world.people(["probe_reader"])
    ran = world.run(who, status(503, retry_after="2"), final())
    proof.holds("retry-after", _gap(ran) >= 2, f"seconds: {_gap(ran):.2f}")
    proof.in_time("retry-after", _gap(ran), 2 + GAP + LATE, "seconds:")
    in_three = format_datetime(datetime.now(UTC) + timedelta(seconds=4), usegmt=True)  # whole seconds: three at least
    ran = world.run(who, status(429, retry_after=in_three), final())
    proof.holds("retry-after", _gap(ran) >= 2.5, f"a date: {_gap(ran):.2f}")
    proof.in_time("retry-after", _gap(ran), 4 + GAP + LATE, "a date:")
    began = time.monotonic()
    ran = world.run(who, status(429, retry_after="60"), final())
    took = time.monotonic() - began
    proof.same("retry-after", (_code(ran), len(ran.script.seen)), ("provider.rate_limited", 1), "longer than there is:")
    proof.in_time("retry-after", took, 4, "it was waited for in vain:")
    gaps = []
    for _ in range(2):
        _filled(world, who, failures=5)
        gaps += [_gap(world.run(who, status(500), final())) for _ in range(5)]
    proof.holds("jittered", max(gaps) < GAP + 0.3, gaps)
    proof.holds("jittered", statistics.pstdev(gaps) > 0.05, gaps)


def _tools_run_once(proof: Proof, world: World) -> None:
    writer, approver = world.people(["probe_writer"], ["probe_approver"])
    _filled(world, writer, failures=5)
    for fails in (status(503), fault("die")):
        ran = world.run(writer, calls("probe_write", {"text": "x"}), fails, fails, final(), until=("waiting",))
        world.service.decide(approver, world.question(approver, ran))
        ran.state = world.service.run_until(writer, ran.id, "succeeded", "failed")
        proof.same("tools-once", (ran.state["state"], len(world.effects_of(ran))), ("succeeded", 1))
        # An attempt whose answer broke off may have been billed, and counts.
        proof.same("each-metered", ran.state["usage"]["model_calls"], 4)


def _within_budget(proof: Proof, world: World) -> None:
    [who] = world.people(["probe_reader"])
    with ThreadPoolExecutor(20) as pool:
        started = list(pool.map(lambda _: world.start(who, status(503)), range(100)))
    ended = [world.settled(who, ran) for ran in started]
    proof.same("within-budget", {_code(ran) for ran in ended}, {"provider.overloaded"})
    requests = sum(len(ran.script.seen) for ran in ended)
    proof.holds("within-budget", 100 < requests <= 110, f"{requests} requests for 100 calls")


REST = 2
LADDER = f"attempts = 1\nbreaker_faults = 3\nbreaker_rest_s = {REST}\n"
PATIENT = "attempts = 2\nfirst_wait_ms = 10\nbreaker_faults = 1000\n"
CHEAP, DEAR = "0.02", "5000"
HELPED: dict[str, Reply] = {
    "503": status(503),
    "500": status(500),
    "429": status(429),
    "a wrong key": status(401),
    "no quota": status(429, kind="insufficient_quota"),
    "broken off": fault("die"),
    "hangs": fault("hang", seconds=12),
    "garbage": Reply(raw=b"<html>gateway</html>"),
}
NOT_HELPED: dict[str, tuple[Reply, str]] = {
    "a request it rejects": (status(400), "provider.rejected"),
    "a refusal": (Reply(text="I will not.", finish="refusal"), "model.refused"),
    "a cut answer": (Reply(text="I beg", finish="length"), "model.truncated"),
    "too long": (status(400, kind="context_length_exceeded"), "model.context_too_long"),
}


def _by_model(first: Reply, spare: Reply) -> Any:
    def answer(body: Body) -> Reply:
        return first if body["model"] == MODEL else spare

    return answer


@pytest.mark.timeout(2_800)
@control("ERR-05", cases=54)
def test_another_model_stands_in_and_the_first_comes_back(proof: Proof, new_world: NewWorld) -> None:
    with new_world(catalogue=models(PATIENT, CHEAP), MODEL_TIMEOUT_MS="4000") as world:
        [who] = world.people(["probe_reader"])
        with proof.positive("a model that answers needs no other, and nothing is marked"):
            ran = world.run(who, final())
            assert (ran.state["degraded"], _asked(ran.script, SPARE)) == (False, 0)
        _stands_in(proof, world)
        _streams(proof, world)
        _switches(proof, world)
    with new_world(catalogue=models(PATIENT, DEAR)) as world:
        _budget(proof, world)
    for opening in (_opens, _one_trial, _given_back, _broken_streams):
        with new_world(catalogue=models(LADDER, CHEAP)) as world:
            opening(proof, world)


def _stands_in(proof: Proof, world: World) -> None:
    [who] = world.people(["probe_reader"])
    for what, failure in HELPED.items():
        began = time.monotonic()
        ran = world.run(who, _by_model(failure, final()))
        took = time.monotonic() - began
        proof.same("stands-in", (ran.state["state"], _asked(ran.script, SPARE)), ("succeeded", 1), what)
        proof.same("flagged", (ran.state["degraded"], ran.state["model"]), (True, MODEL), what)
        proof.in_time("in-time", took, 4 + LATE, f"{what}:")
    for what, (failure, code) in NOT_HELPED.items():
        ran = world.run(who, _by_model(failure, final()))
        proof.same("only-where-it-helps", (_code(ran), _asked(ran.script, SPARE)), (code, 0), what)
    ran = world.run(who, status(503))
    proof.same("honest", (_code(ran), ran.state["degraded"]), ("provider.overloaded", False), "both fail:")
    for spare in (
        status(400),
        Reply(text="I will not.", finish="refusal"),
        status(400, kind="context_length_exceeded"),
    ):
        ran = world.run(who, _by_model(status(503), spare))
        proof.same("honest", _code(ran), "provider.overloaded", "what is wrong is the first one's failure:")


def _streams(proof: Proof, world: World) -> None:
    [who] = world.people(["probe_reader"])
    for failure in (status(503), fault("hang", seconds=12)):
        script = world.model.script(_by_model(failure, says("from the other")))
        told = _streamed(world, who, script)
        proof.same("stands-in", (told["text"], told["code"]), ("from the other", ""), "a stream before its first byte:")
    script = world.model.script(_by_model(fault("die"), says("from the other")))
    told = _streamed(world, who, script)
    proof.same("stands-in", (told["code"] != "", _asked(script, SPARE)), (True, 0), "a stream that has begun:")


def _switches(proof: Proof, world: World) -> None:
    who, operator = world.people(["probe_reader"], OPERATOR)

    def switch(name: str, state: str) -> None:
        body = {"state": state, "reason": "a drill"}
        assert world.service.call(operator, "PUT", f"/v1/switches/{name}", json=body).status_code == 200

    switch(f"model:{SPARE}", "on")
    ran = world.run(who, _by_model(status(503), final()))
    proof.same("asks-switches", (_code(ran), _asked(ran.script, SPARE)), ("provider.overloaded", 0), "spare off:")
    switch(f"model:{SPARE}", "off")
    switch(f"model:{MODEL}", "on")
    ran = world.run(who, final())
    seen = (ran.state["state"], ran.state["degraded"], _asked(ran.script, MODEL), _asked(ran.script, SPARE))
    proof.same("asks-switches", seen, ("succeeded", True, 0, 1), "the first one off:")
    switch(f"tenant:{who.tenant_id}", "on")
    script = world.model.script(final())
    told = _streamed(world, who, script)
    proof.same("asks-switches", (told["code"], len(script.seen)), ("service.halted", 0), "a tenant off as well:")
    switch(f"tenant:{who.tenant_id}", "off")
    switch(f"model:{MODEL}", "off")


def _budget(proof: Proof, world: World) -> None:
    who, admin = world.people(["probe_reader"], ["probe_admin"])
    cap = {"scope": "tenant", "limit_usd": "1"}
    assert world.service.call(admin, "PUT", "/v1/budgets", json=cap).status_code == 200
    ran = world.run(who, _by_model(status(503), final()))
    proof.same("asks-budget", (_code(ran), _asked(ran.script, SPARE)), ("provider.overloaded", 0))
    proof.same("asks-budget", world.run(who, final()).state["state"], "succeeded", "the first one is within it:")


def _broken(world: World, who: Person, count: int = 3) -> None:
    for _ in range(count):
        assert world.run(who, _by_model(status(503), final())).state["degraded"]


def _opens(proof: Proof, world: World) -> None:
    [who] = world.people(["probe_reader"])
    _broken(world, who)
    ran = world.run(who, final())
    proof.same("left-alone", (ran.state["degraded"], _asked(ran.script, MODEL)), (True, 0))
    metrics = world.service.operations("/metrics").text
    proof.holds("left-alone", f'ai_breaker_open{{model="{MODEL}"}} 1.0' in metrics, "metric")
    time.sleep(REST + 0.2)
    ran = world.run(who, _by_model(status(503), final()))
    proof.same("recovers", (ran.state["degraded"], _asked(ran.script, MODEL)), (True, 1), "asked once more, in vain:")
    ran = world.run(who, final())
    proof.same("left-alone", _asked(ran.script, MODEL), 0, "after a trial in vain:")
    time.sleep(REST + 0.2)
    for when in ("the trial", "afterwards"):
        ran = world.run(who, final())
        proof.same("recovers", (ran.state["degraded"], _asked(ran.script, SPARE)), (False, 0), when)
    slow = Reply(**{**vars(final()), "delay": 1.0})
    both = [world.start(who, slow) for _ in range(2)]
    seen = [world.settled(who, ran).state["degraded"] for ran in both]
    proof.same("recovers", seen, [False, False], "two at once:")


def _one_trial(proof: Proof, world: World) -> None:
    """The trial takes longer than the rest: no second one is made of it."""
    [who] = world.people(["probe_reader"])
    _broken(world, who)
    time.sleep(REST + 0.2)
    slow = Reply(**{**vars(final()), "delay": REST + 2.0})
    first = world.start(who, _by_model(slow, final()))
    wait_for(lambda: first.script.seen)
    others = []
    for _ in range(4):
        others.append(world.run(who, _by_model(slow, final())))
        time.sleep(REST / 4)
    proof.same("one-trial", [_asked(ran.script, MODEL) for ran in others], [0] * 4)
    proof.same("one-trial", {ran.state["degraded"] for ran in others}, {True})
    proof.same("recovers", world.settled(who, first).state["degraded"], False, "the trial itself:")
    proof.same("recovers", _asked(world.run(who, final()).script, MODEL), 1)


def _given_back(proof: Proof, world: World) -> None:
    """A trial that tells nothing of the model leaves the next call to decide."""
    [who] = world.people(["probe_reader"])
    _broken(world, who)
    time.sleep(REST + 0.2)
    ran = world.run(who, _by_model(status(429), final()))
    proof.same("given-back", _asked(ran.script, MODEL), 1)
    ran = world.run(who, final())
    proof.same("given-back", (ran.state["degraded"], _asked(ran.script, MODEL)), (False, 1))


def _broken_streams(proof: Proof, world: World) -> None:
    """What breaks after its first byte is a fault as well."""
    [who] = world.people(["probe_reader"])
    for _ in range(3):
        assert _streamed(world, who, world.model.script(fault("die")))["code"]
    ran = world.run(who, final())
    proof.same("left-alone", (ran.state["degraded"], _asked(ran.script, MODEL)), (True, 0), "streams that broke:")
