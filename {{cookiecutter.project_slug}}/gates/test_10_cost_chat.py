"""Gates 3, 4 and 10 for chat requests: no way to a model is metered, bounded or redacted less than an agent's is.

In either interface, as both are one guarded call.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import httpx2
import pytest

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig import responses
from gates.rig.chats import PATH, TOOL, asked_chat
from gates.rig.formats import Reply
from gates.rig.interfaces import IN_EITHER_INTERFACE, IN_EVERY_INTERFACE, Interface
from gates.rig.people import Person
from gates.rig.personal_data import HARMLESS, PERSONAL
from gates.rig.plain_http import PLAIN
from gates.rig.provider import Answer, Body, Script, calls, fault, says, status
from gates.rig.responses import Asks
from gates.rig.service import wait_for
from gates.rig.trickle import Trickle, trickle
from gates.rig.vectors import catalogue
from gates.rig.world import CONTEXT_TOKENS, MODEL, SPARE, World, models

MOST = 4_096  # tokens that a caller may ask for, where the catalogue does not say
LADDER = "attempts = 2\nfirst_wait_ms = 20\nbreaker_faults = 1000\n"
# Tokens that a model may have beside those that can be read; more than is booked for what is still to come.
REASONING = 2_000
REASONS = models(LADDER).replace("context_tokens", f"reasoning_tokens = {REASONING}, context_tokens")


def _with_stand_in(first: str, spare: str) -> str:
    """A catalogue with something more in the entries of the first model and of the one that stands in for it."""
    written = models(LADDER, "0.02").replace(", fallbacks", f", {first}, fallbacks")
    return written.replace(f"{CONTEXT_TOKENS} }}", f"{CONTEXT_TOKENS}, {spare} }}")


def _account(world: World, who: Person) -> tuple[dict[str, Any], dict[str, Decimal]]:
    """What the service says this person's tenant has used, and how its cap stands."""
    usage = world.service.call(who, "GET", "/v1/usage").json()
    items = world.service.call(who, "GET", "/v1/budgets").json()["items"]
    [budget] = [item for item in items if (item["scope"], item["period"]) == ("tenant", "month")]
    amounts = {name: value for name, value in budget.items() if name.endswith("_usd") and value is not None}
    return usage, {name.removesuffix("_usd"): Decimal(value) for name, value in amounts.items()}


MODES: dict[str, tuple[Answer, ...]] = {
    "an answer": (says("Good day."),),
    "a tool call": (calls("note", {"text": "a"}),),
    "the second attempt": (status(503), says("Good day.")),
    "an error": (status(500),),
    "busy": (status(429),),
    "no credit": (status(429, kind="insufficient_quota"),),
    "not allowed": (status(401),),
    "no usage": (replace(says("Good day."), usage=None),),
    "strange usage": (replace(says("Good day."), usage=(-5, 5)),),
    "another model's name": (replace(says("Good day."), model="something-else"),),
    "no JSON": (Reply(raw=b'{"id": "x", "choi'),),
    "no choices": (Reply(raw=b'{"choices": []}'),),
    "a connection that breaks": (replace(fault("die"), text="word " * 40),),
    "silence": (fault("hang", seconds=8),),
    "drops": (fault("drip", seconds=8),),
}
FREE = {"an error", "busy", "no credit", "not allowed"}


@control("CST-02", cases=3 * len(MODES) + 3)
@IN_EITHER_INTERFACE
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.timeout(2_800)
def test_every_chat_request_is_metered(proof: Proof, new_world: NewWorld, stream: bool, ask: Asks) -> None:
    with new_world(catalogue=REASONS, MODEL_TIMEOUT_MS="1500") as world:
        with proof.positive("a chat request is answered"):
            assert ask(world, *_asks(world, says("Good day.")), stream=stream).text == "Good day."
        for mode, answers in MODES.items():
            who, script = _asks(world, *answers)
            ask(world, who, script, stream=stream, tools=[TOOL])
            usage, budget = _account(world, who)
            proof.same("every-request-metered", usage["model_calls"], len(script.seen), mode)
            proof.same("nothing-left-held", budget["held"], 0, mode)
            billed = sum(World.price((each.input_tokens, each.output_tokens)) for each in script.seen)
            least = World.price((0, 900 + REASONING)) if mode not in FREE and not billed else billed
            proof.holds("tokens-agree", budget["spent"] >= least, f"{mode}: {budget['spent']} of {least}")
            if mode in {"an answer", "a tool call", "the second attempt"}:
                tokens = sum(item["input_tokens"] + item["output_tokens"] for item in usage["items"])
                told = sum(each.input_tokens + each.output_tokens for each in script.seen)
                proof.same("tokens-agree", tokens, told, mode)
        if ask is asked_chat:  # the other interface gives one answer alone
            who, script = _asks(world, replace(says("Good day."), usage=None))
            ask(world, who, script, stream=stream, n=4)
            spent, least = _account(world, who)[1]["spent"], World.price((0, 4 * (900 + REASONING)))
            proof.holds("tokens-agree", spent >= least, f"four answers without usage: {spent} of {least}")


def _asks(world: World, *answers: Answer) -> tuple[Person, Script]:
    """One of a tenant of their own, and what the provider will answer."""
    return world.people(["probe_chatter"])[0], world.model.script(*answers)


@control("CST-02", cases=6)
@pytest.mark.parametrize("path", [PATH, responses.PATH])
def test_a_chat_that_its_client_leaves_is_paid_as_far_as_it_was_written(
    proof: Proof, new_world: NewWorld, path: str
) -> None:
    with trickle() as stub, new_world(catalogue=REASONS, CHAT_BASE_URL=stub.url, MODEL_TIMEOUT_MS="30000") as world:
        with proof.positive("a chat is answered"):
            assert asked_chat(world, *_asks(world)).text == "Good day."
        for seconds in (0.0, 0.5):
            who, script = _asks(world)
            said = [{"role": "user", "content": script.task()}]
            asked: Body = {"model": "standard", "stream": True, "messages": said, "max_tokens": MOST}
            asked = asked if path == PATH else responses.as_response(asked)
            headers, url = {"Authorization": f"Bearer {who.key}"}, world.service.base_url + path
            with httpx2.stream("POST", url, json=asked, headers=headers, **PLAIN, timeout=300) as answer:
                next(answer.iter_bytes())
                time.sleep(seconds)
            left = time.monotonic()
            wait_for(partial(_over, stub), 40)
            [stream] = stub.streams
            stub.streams.clear()
            proof.holds("every-request-metered", stream.ended < left + 5, "the provider was left writing")
            usage = wait_for(partial(_settled, world, who), 10)
            booked = sum(item["output_tokens"] for item in usage["items"])
            written = stream.tokens + REASONING  # of which no piece tells
            proof.holds("tokens-agree", booked >= written, f"{booked} booked, {written} written")
            proof.holds("tokens-agree", booked < MOST + REASONING, f"all that was held: {booked}")


def _over(stub: Trickle) -> float:
    return stub.streams[0].ended


def _ended(script: Script) -> float:
    return script.seen[0].ended


def _settled(world: World, who: Person) -> dict[str, Any] | None:
    usage, budget = _account(world, who)
    return None if budget["held"] else usage


@control("CST-01", cases=50, attempts=3)
@IN_EVERY_INTERFACE
def test_calls_at_once_stay_under_the_cap(proof: Proof, new_world: NewWorld, interface: Interface) -> None:
    with new_world(catalogue=catalogue()) as world:
        _under_the_cap(proof, world, interface)


def _under_the_cap(proof: Proof, world: World, interface: Interface) -> None:
    who, admin = world.people(["probe_chatter"], ["probe_admin"])
    with proof.positive("a call inside the budget is answered and charged"):
        assert interface.ask(world, who, world.model.script(interface.costly)).status == 200
    worst = _account(world, who)[1]["spent"]
    cap = worst * Decimal("10.5")
    body = {"scope": "tenant", "limit_usd": f"{cap:.6f}"}
    assert world.service.call(admin, "PUT", "/v1/budgets", json=body).status_code == 200
    scripts = [world.model.script(interface.costly) for _ in range(50)]
    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(lambda script: interface.ask(world, who, script), scripts))
    reached = sum(len(script.seen) for script in scripts)
    budget = _account(world, who)[1]
    proof.holds("under-the-cap", budget["spent"] + budget["held"] <= cap, budget)
    proof.holds("under-the-cap", worst * (reached + 1) <= cap, f"{reached} calls of ${worst} under ${cap}")
    proof.holds("usable", budget["spent"] >= cap * Decimal("0.9"), budget)
    for answer in answers:
        proof.holds("refused-typed", (answer.status, answer.code) in {(200, ""), (402, "budget.exceeded")}, answer)


@control("CST-03", cases=63)
@IN_EITHER_INTERFACE
@pytest.mark.timeout(1_200)
def test_every_chat_request_is_capped_in_length_and_time(proof: Proof, new_world: NewWorld, ask: Asks) -> None:
    with new_world(MODEL_TIMEOUT_MS="1000", MODEL_TOTAL_TIMEOUT_MS="2000") as world:
        who, script = _asks(world, says("Good day."))
        with proof.positive("a quick answer arrives"):
            assert ask(world, who, script).text == "Good day."
        much = 50_000  # more than is allowed, and no more than fits into the model
        asked: list[dict[str, Any]] = [{}, {"max_tokens": much}, {"max_completion_tokens": much}, {"n": 4}]
        asked += [{"max_tokens": much, "max_completion_tokens": much}, {"max_tokens": 5}]
        for more in asked:
            for stream in (False, True):
                script = world.model.script(says("x"))
                told = ask(world, who, script, stream=stream, **more)
                [sent] = script.requests
                wanted = min(more.get("max_tokens", much), more.get("max_completion_tokens", much))
                most = min(MOST, wanted if more.keys() - {"n"} else 900)
                proof.same("output-cap", sent.get("max_completion_tokens"), most, more)
                proof.holds("output-cap", "max_tokens" not in sent, "a second cap says something else")
                clamped = str(MOST) if much in more.values() else ""
                cut = told.headers.get("x-clamped-parameters", "").rpartition("=")[2]
                proof.same("output-cap", cut, clamped, f"{more}: told")
        never = (fault("hang", seconds=8), fault("drip", seconds=8), replace(says("x"), delay=8))
        for slow in (*never, fault("endless", seconds=8)):
            for stream in (False, True):
                script = world.model.script(slow)
                began = time.monotonic()
                code = ask(world, who, script, stream=stream).code
                took = time.monotonic() - began
                where = f"{slow.fault or 'late'}, {'streamed' if stream else 'whole'}"
                longest = 2.0 if (slow.fault, stream) == ("endless", True) else 1.0  # pieces come: for the whole of it
                proof.in_time("deadline", took, longest + 1.5, f"{where}: {code} after")
                proof.same("deadline", code, "provider.timeout", where)
                wait_for(partial(_ended, script), 10)
                proof.holds("upstream-closed", script.seen[0].closed_early, where)
    _own_ceilings(proof, new_world, ask)
    _silence(proof, new_world, ask)


def _own_ceilings(proof: Proof, new_world: NewWorld, ask: Asks) -> None:
    """Each model of a ladder has the cap of its own entry, and tokens to reason beside those that can be read."""
    catalogue = _with_stand_in("max_output_tokens = 2000, reasoning_tokens = 600", "max_output_tokens = 1000")
    with new_world(catalogue=catalogue) as world:
        for stream in (False, True):
            for failure, cut in ((says("x"), 2_000), (status(503), 1_000)):
                who, script = _asks(world, _by_model(failure, says("x")))
                told = ask(world, who, script, stream=stream, max_tokens=50_000)
                for sent in script.requests:
                    most = 2_600 if sent["model"] == MODEL else 1_000
                    proof.same("output-cap", sent.get("max_completion_tokens"), most, sent["model"])
                clamped = told.headers.get("x-clamped-parameters", "").rpartition("=")[2]
                proof.same("output-cap", clamped, str(cut), f"{told.headers.get('x-model')}: told")


def _silence(proof: Proof, new_world: NewWorld, ask: Asks) -> None:
    """A stream that has begun may take long, but not fall silent for longer than an answer may take to begin."""
    limits = {"MODEL_TIMEOUT_MS": "1000", "MODEL_TOTAL_TIMEOUT_MS": "30000"}
    with trickle(silent_after=40) as stub, new_world(CHAT_BASE_URL=stub.url, **limits) as world:
        began = time.monotonic()
        code = ask(world, *_asks(world), stream=True).code
        proof.in_time("deadline", time.monotonic() - began, 2.5, f"silence after the first pieces: {code} after")
        proof.same("deadline", code, "provider.timeout", "silence after the first pieces")
        wait_for(partial(_over, stub), 40)
        proof.holds("upstream-closed", stub.streams[0].closed_early, "silence after the first pieces")


@control("VAL-09", cases=3 * len(PERSONAL))
@IN_EITHER_INTERFACE
@pytest.mark.parametrize("stream", [False, True])
def test_personal_data_in_chats_stays_here(proof: Proof, world: World, stream: bool, ask: Asks) -> None:
    [who] = world.people(["probe_chatter"])
    with proof.positive("what is not personal reaches the provider as it is"):
        script = world.model.script(says("Good day."))
        ask(world, who, script, stream=stream, messages=[{"role": "user", "content": script.task(HARMLESS)}])
        assert HARMLESS in script.seen[0].raw.decode()
    for kind, value in PERSONAL.items():
        script = world.model.script(_repeats)
        told = ask(world, who, script, stream=stream, messages=_conversation(script, value), tools=[_tool(value)])
        proof.holds("provider", value not in script.seen[0].raw.decode(), f"{kind} anywhere in the request")
        proof.same("put-back", told.text, f"You said {value}.", f"{kind}, in the text:")
        script = world.model.script(_writes_to)
        told = ask(world, who, script, stream=stream, messages=_conversation(script, value), tools=[_tool(value)])
        proof.same("put-back", json.loads(told.arguments), {"to": value}, f"{kind}, in a tool's arguments:")


def _conversation(script: Script, value: str) -> list[Body]:
    """One in which every role, and a tool's arguments, speak of the value; what comes first may be `instructions`."""
    call = {"id": "call_1", "type": "function", "function": {"name": "note", "arguments": json.dumps({"a": value})}}
    return [
        {"role": "system", "content": f"You serve {value}."},
        {"role": "developer", "content": f"Be kind to {value}."},
        {"role": "user", "content": [{"type": "text", "text": script.task("Look.")}, {"type": "text", "text": value}]},
        {"role": "assistant", "content": f"About {value}?", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": f"found {value}"},
        {"role": "user", "content": value},
    ]


def _tool(value: str) -> Body:
    schema = {"type": "object", "properties": {"to": {"type": "string", "default": value}}}
    return {"type": "function", "function": {"name": "note", "description": f"For {value}.", "parameters": schema}}


def _repeats(body: Body) -> Reply:
    return says(f"You said {body['messages'][-1]['content']}.")


def _writes_to(body: Body) -> Reply:
    return calls("note", {"to": body["messages"][-1]["content"]})


def _picky(body: Body) -> Reply:
    """The first model fails, and the other refuses a parameter."""
    if body["model"] == MODEL:
        return status(503)
    return status(400, kind="unsupported_parameter") if "temperature" in body else says("from the other")


def _by_model(first: Reply, spare: Reply) -> Answer:
    return lambda body: first if body["model"] == MODEL else spare


@control("ERR-05", cases=24)
@IN_EITHER_INTERFACE
@pytest.mark.timeout(1_200)
def test_another_model_stands_in_for_chats(proof: Proof, new_world: NewWorld, ask: Asks) -> None:
    catalogue = _with_stand_in("images = false", 'not_taken = ["temperature"]')
    with new_world(catalogue=catalogue, MODEL_TIMEOUT_MS="3000") as world:
        who, script = _asks(world, says("Good day."))
        with proof.positive("the first model answers, and nothing is degraded"):
            told = ask(world, who, script)
            assert (told.text, told.headers["x-model"], "x-degraded" in told.headers) == ("Good day.", MODEL, False)
        for stream in (False, True):
            for failure in (status(503), status(401), Reply(raw=b"<html>"), fault("hang", seconds=8)):
                script = world.model.script(_by_model(failure, says("from the other")))
                told = ask(world, who, script, stream=stream)
                where = f"{failure.status} {failure.fault}, {'streamed' if stream else 'whole'}"
                proof.same("stands-in", told.text, "from the other", where)
                flagged = told.headers.get("x-degraded"), told.headers.get("x-model")
                proof.same("flagged", flagged, ("true", SPARE), where)
            script = world.model.script(_picky)
            told = ask(world, who, script, stream=stream, temperature=0.5)
            proof.same("stands-in", told.text, "from the other", "asked with a parameter that it refuses:")
            dropped = told.headers.get("x-dropped-parameters")
            proof.same("flagged", dropped, "temperature", "a parameter that it did not get")
            script = world.model.script(_by_model(status(400, kind="bad_role"), says("from the other")))
            told = ask(world, who, script, stream=stream)
            proof.same("only-where-it-helps", (told.status, told.code, len(script.seen)), (400, "bad_role", 1))
            script = world.model.script(status(503))
            proof.same("honest", ask(world, who, script, stream=stream).code, "provider.overloaded", "both fail:")
