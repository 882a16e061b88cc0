"""Gate 4, error handling: what becomes of a run whose process dies, whose client hangs up, whose provider fails."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig import hazard
from gates.rig.events import Stream, streaming
from gates.rig.formats import Reply
from gates.rig.people import Person
from gates.rig.provider import Body, calls, fault, says, status
from gates.rig.service import wait_for
from gates.rig.world import Ran, World, final

LOOK = calls("probe_lookup", {"query": "a"}, "call_look")
ENDS = {"run.succeeded", "run.failed", "run.cancelled", "stream.interrupted"}
WITHIN = 2.0  # seconds in which a cancelled run must have stopped


def _is_whole(proof: Proof, stream: Stream, how: str, where: str) -> None:
    """The last event says how it ended, nothing follows it, and nothing before it claims to be the end."""
    proof.same("terminal", stream.end().name, how, where)
    proof.same("terminal", [name for name in stream.names if name in ENDS], [how], where)
    numbers = [int(event.id) for event in stream.events if event.id]
    proof.holds("terminal", numbers == sorted(set(numbers)), f"{where}: {numbers}")


@control("ERR-07", cases=37)
def test_a_stream_always_says_how_it_ends(proof: Proof, new_world: NewWorld) -> None:
    with new_world(MODEL_TIMEOUT_MS="1000") as world:
        reader, writer, approver = world.people(["probe_reader"], ["probe_writer"], ["probe_approver"])
        with proof.positive("a run that succeeds is followed to its answer"):
            ran = world.start(reader, LOOK, final("the end"))
            with streaming(world.service, reader, ran.answer.json()["id"]) as stream:
                assert stream.end().data["output"]["answer"] == "the end"
                assert stream.names[:2] == ["run.started", "tool.started"]
        failures: dict[str, Reply] = {
            "dies half way": fault("die"), "hangs": fault("hang", seconds=5), "drips": fault("drip", seconds=5),
            "answers 500": status(500), "answers 429": status(429), "answers prose": says("no form"),
            "refuses": Reply(text="I will not.", finish="refusal"),
        }  # fmt: skip
        for what, failure in failures.items():
            before = world.spent(reader)
            ran = world.start(reader, LOOK, failure)
            with streaming(world.service, reader, ran.answer.json()["id"]) as stream:
                _is_whole(proof, stream, "run.failed", f"a provider that {what}:")
                error = stream.events[-1].data["error"]
                proof.holds("truncation-told", error and "." in error["code"], f"{what}: {error}")
            if what in {"dies half way", "hangs", "drips"}:
                first = next(e for e in ran.script.seen)
                least = world.price((first.input_tokens, first.output_tokens))
                proof.holds("partial-billed", world.spent(reader) - before > 2 * least, f"{what} was free")
        _resumed(proof, world, writer, approver)


def _resumed(proof: Proof, world: World, writer: Person, approver: Person) -> None:
    """Read a waiting run, lose the connection, and take it up where it was: nothing missing, nothing twice."""
    ran = world.run(writer, LOOK, calls("probe_write", {"text": "x"}), final(), until=("waiting",))
    with streaming(world.service, writer, ran.id) as first:
        first.wait("approval.asked")
    with streaming(world.service, writer, ran.id, after=first.events[-1].id) as ended_by_us:
        wait_for(lambda: ended_by_us.status == 200)
        world.service.stop()
        proof.same("terminal", ended_by_us.end().name, "stream.interrupted", "the service was asked to end:")
        proof.same("resumes", ended_by_us.names, ["stream.interrupted"], "what was read is not sent again:")
    world.service.start()
    assert world.service.decide(approver, world.question(approver, ran)).status_code == 200
    with streaming(world.service, writer, ran.id, after=first.events[-1].id) as rest:
        rest.end()
    with streaming(world.service, writer, ran.id) as whole:
        _is_whole(proof, whole, "run.succeeded", "from the beginning, after the end:")
    together = [(event.id, event.name) for event in (*first.events, *rest.events)]
    proof.same("resumes", together, [(event.id, event.name) for event in whole.events])


@control("ERR-08", cases=11, attempts=3)
def test_hanging_up_or_cancelling_stops_model_and_tools(proof: Proof, world: World) -> None:
    [runner] = world.people(["hazard_runner"])
    with proof.positive("a stream that stays connected changes nothing"):
        ran = world.start(runner, LOOK, final(), feature="hazard")
        with streaming(world.service, runner, ran.answer.json()["id"], query="?while_connected=true") as stream:
            assert stream.end().name == "run.succeeded"
    started = []
    for how in ("hangs up", "cancels"):
        ran = world.start(runner, fault("hang"), feature="hazard")
        _stopped(proof, world, runner, ran, how, "model")
        [exchange] = ran.script.seen
        proof.soon("model-stopped", partial(getattr, exchange, "closed_early"), WITHIN, f"{how}: the provider's answer")
        ran = world.start(runner, calls("hazard_slow", {"query": "a"}), final(), feature="hazard")
        _stopped(proof, world, runner, ran, how, "tool")
        time.sleep(WITHIN)  # in which a request that nobody wants any more would come
        proof.same("billing-stopped", len(ran.script.seen), 1, f"{how}: requests at the provider")
        started.append(ran.answer.json()["id"])
    time.sleep(hazard.SLOW_SECONDS - 2 * WITHIN)
    ends = [e.run_id for run_id in started for e in world.effects.of(run_id) if e.arguments.get("at") == "end"]
    proof.same("tool-stopped", ends, [], "a tool went on to its end:")


def _stopped(proof: Proof, world: World, who: Person, ran: Ran, how: str, what: str) -> None:
    """Have the run end from outside while something of it is under way."""
    run_id = ran.answer.json()["id"]
    with streaming(world.service, who, run_id, query="?while_connected=true" if how == "hangs up" else "") as stream:
        wait_for(lambda: ran.script.seen if what == "model" else world.effects.of(run_id))
        wait_for(lambda: stream.status)
        if how == "cancels":
            answer = world.service.call(who, "POST", f"/v1/runs/{run_id}/cancel", json={"reason": "no longer needed"})
            proof.same("cancelled", (answer.status_code, answer.json()["outcome"]), (200, "cancelled"))
    ended = world.service.run_until(who, run_id, "cancelled", "succeeded", "failed")
    proof.same("cancelled", ended["state"], "cancelled", how)


def _until_ended(world: World, who: Person, approver: Person, run_id: str, seconds: float = 60) -> dict[str, Any]:
    """Follow a run whose service may die at any moment: start it again, decide what it asks."""

    def look() -> dict[str, Any] | None:
        try:
            run: dict[str, Any] = world.service.call(who, "GET", f"/v1/runs/{run_id}").json()
            for question in world.service.pending(approver, run_id):
                world.service.decide(approver, question)
        except httpx2.HTTPError:
            world.service.revive()
            return None
        return run if run.get("state") in {"succeeded", "failed", "cancelled"} else None

    return wait_for(look, seconds)


@pytest.mark.timeout(2_800)
@control("ERR-09", cases=27)
def test_a_run_that_is_killed_at_any_step_goes_on_and_repeats_nothing(proof: Proof, new_world: NewWorld) -> None:
    with new_world() as world:
        runner, approver = world.people(["hazard_runner"], ["probe_approver"])
        store = [calls("hazard_store", {"text": f"entry {n}"}, f"call_store_{n}") for n in range(2)]
        with proof.positive("undisturbed, both entries are stored once"):
            ran = world.start(runner, LOOK, *store, final(), feature="hazard")
            _until_ended(world, runner, approver, ran.answer.json()["id"])
            assert _stored(world, ran) == ["entry 0", "entry 1"]
        # Ids are unique in one message only: both stores have the same one from here on.
        store = [calls("hazard_store", {"text": f"entry {n}"}, "call_store") for n in range(2)]
        for step in range(7):
            ran = _killed_at(world, runner, step, [LOOK, *store, final()])
            ended = _until_ended(world, runner, approver, ran.answer.json()["id"])
            where = f"killed at step {step}:"
            proof.same("goes-on", ended["state"], "succeeded", where)
            proof.same("exactly-once", _stored(world, ran), ["entry 0", "entry 1"], where)
            asked = [body["messages"][-1]["role"] for body in ran.script.requests]
            proof.holds("exactly-once", len(asked) <= 5, f"{where} answered steps were asked again: {asked}")
        _unknown(proof, world, runner, approver)


def _stored(world: World, ran: Ran) -> list[str]:
    """What the back end has stored: an entry for each idempotency key, however often it came."""
    effects = [e for e in world.effects.of(ran.answer.json()["id"]) if e.tool == "hazard_store"]
    by_key = {effect.idempotency_key: effect.arguments["text"] for effect in effects}
    return sorted(by_key.values())


def _killed_at(world: World, who: Person, step: int, replies: list[Reply]) -> Ran:
    """Even steps: while the model is asked. Odd ones: while a tool works. Each once."""
    fallen: list[int] = []

    def fall() -> None:
        if not fallen:
            fallen.append(step)
            world.service.kill()

    model, tool = divmod(step, 2)

    def answer(body: Body) -> Reply:
        """By how far the conversation is, not by how often it was asked: a request that died is made again."""
        number = sum(message["role"] == "assistant" for message in body["messages"])
        if number == model and not tool:
            fall()
        reply: Reply = replies[min(number, len(replies) - 1)]
        return reply

    arrivals: list[str] = []

    def arrives(effect: Any) -> None:
        arrivals.append(effect.tool)
        if tool and len(arrivals) == model + 1:
            fall()

    world.effects.on_arrival = arrives
    return world.start(who, answer, feature="hazard")


def _unknown(proof: Proof, world: World, runner: Person, approver: Person) -> None:
    """A tool that cannot be repeated: nobody knows, so a person is asked, and the service never tries again."""
    fallen: list[str] = []

    def arrives(effect: Any) -> None:
        if effect.tool == "probe_write" and not fallen:
            fallen.append(effect.run_id)
            world.service.kill()

    world.effects.on_arrival = arrives
    ran = world.start(runner, calls("probe_write", {"text": "once"}, "call_once"), final(), feature="hazard")
    run_id = ran.answer.json()["id"]
    proof.same("goes-on", _until_ended(world, runner, approver, run_id)["state"], "succeeded", "with an unknown call:")
    world.effects.on_arrival = None
    proof.same("exactly-once", len(world.effects.of(run_id)), 1, "an effect that cannot be repeated")
    told = str(ran.script.requests[-1]["messages"][-1])
    proof.holds("unknown-shown", "unknown" in told, told)
    waiting = world.service.call(approver, "GET", "/v1/tool-calls/unknown").json()["items"]
    proof.same("unknown-shown", [call["run_id"] for call in waiting], [run_id])
    found = {"outcome": "happened", "reason": "the entry is there"}
    for expected in (200, 409):
        answer = world.service.call(approver, "POST", f"/v1/tool-calls/{waiting[0]['id']}/resolution", json=found)
        proof.same("unknown-shown", answer.status_code, expected)


@pytest.mark.timeout(2_800)
@control("ERR-10", cases=23)
def test_work_that_kills_its_process_is_set_aside(proof: Proof, new_world: NewWorld) -> None:
    with new_world() as world:
        runner, approver = world.people(["hazard_runner"], ["probe_approver"])
        with proof.positive("good work is done"):
            assert world.run(runner, LOOK, final(), feature="hazard").state["state"] == "succeeded"
        poison_id = _started(world, runner, calls("hazard_poison", {"query": "a"}), final())

        def deaths() -> int:
            return len([effect for effect in world.effects.of(poison_id) if effect.tool == "hazard_poison"])

        def goes_on() -> bool:
            return deaths() > 8  # enough to see that it never ends

        lookups = (calls("probe_lookup", {"query": f"q{n}"}) for n in range(20))
        good = [_started(world, runner, lookup, final(), unless=goes_on) for lookup in lookups]

        def look() -> Any:
            if goes_on():
                return {"state": "never set aside", "error": None}
            world.service.revive()
            try:
                run = world.service.call(runner, "GET", f"/v1/runs/{poison_id}").json()
            except httpx2.HTTPError:
                return None
            return run if run["state"] == "failed" else None

        ended = wait_for(look, 100)
        proof.same("set-aside", ended["state"], "failed", f"after {deaths()} deaths:")
        proof.same("set-aside", (ended["error"] or {}).get("code"), "run.dead_lettered")
        proof.holds("set-aside", 2 <= deaths() <= 6, f"{deaths()} deaths")
        for ran in good:
            done = _until_ended(world, runner, approver, ran)
            proof.same("others-done", done["state"], "succeeded", ran)


def _started(world: World, who: Person, *answers: Reply, unless: Callable[[], bool] = lambda: False) -> str:
    """Start a run though the service may be dying: the same request again, until it is answered or pointless."""
    script, key = world.model.script(*answers), uuid4().hex

    def attempt() -> str | None:
        if unless():
            return "pointless"
        try:
            answer = world.service.start_run(who, script.task(), feature="hazard", key=key)
        except httpx2.HTTPError:
            world.service.revive()
            return None
        assert answer.status_code in {200, 202}, answer.text
        return str(answer.json()["id"])

    return wait_for(attempt, 100)


@control("ERR-11", cases=12)
def test_refusals_cut_answers_and_limits_are_outcomes_of_their_own(proof: Proof, new_world: NewWorld) -> None:
    with new_world(RUN_MAX_MODEL_CALLS="4", RUN_MAX_TOOL_CALLS="5") as world:
        [who] = world.people(["probe_reader"])
        with proof.positive("an answer is an outcome"):
            assert world.run(who, final()).state["outcome"] == "succeeded"
        endless = tuple(calls("probe_lookup", {"query": f"q{n}"}, f"call_{n}") for n in range(9))
        crowd = Reply(calls=tuple((f"call_{n}", "probe_lookup", f'{{"query": "q{n}"}}') for n in range(9)))
        cases: dict[str, tuple[str, str, tuple[Reply, ...]]] = {
            "a refusal": ("refused", "model.refused", (Reply(text="I will not.", finish="refusal"),)),
            "a refusal after a tool": ("refused", "model.refused", (LOOK, Reply(text="No.", finish="refusal"))),
            "a cut answer": ("truncated", "model.truncated", (Reply(text="And so", finish="length"),)),
            "a cut call": (
                "truncated", "model.truncated",
                (Reply(calls=(("c", "final_result", '{"answer": "x", "mo'),), finish="length"),),
            ),
            "too many steps": ("limit", "budget.run_limit", endless),
            "too many tools": ("limit", "budget.run_limit", (crowd,)),
        }  # fmt: skip
        for what, (outcome, code, script) in cases.items():
            ran = world.run(who, *script)
            seen = (ran.state["outcome"], (ran.state["error"] or {}).get("code"), ran.state["output"])
            proof.same("typed-outcome", seen, (outcome, code, None), what)
            repeats = len(ran.script.seen) - len(script) if outcome in {"refused", "truncated"} else 0
            proof.same("not-asked-again", repeats, 0, f"{what}: requests beyond what was answered")
