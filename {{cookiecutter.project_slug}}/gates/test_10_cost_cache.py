"""Gate 10, cost: an answer that is given again is free, the same tenant's own, and for exactly the same request."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.people import Person
from gates.rig.provider import Body, calls, fault, says, status
from gates.rig.world import MODEL, World, models
from gates.test_10_cost_chat import TOOL, Chatted, asked_chat

OPERATOR = ["platform_operator"]


def _said(body: Body) -> Any:
    return says(f"You said {body['messages'][-1]['content']}.")


class Asking:
    """One conversation's request, again and again, in ways that differ by one thing."""

    def __init__(self, world: World) -> None:
        self.world, self.script = world, world.model.script(_said)

    def ask(self, who: Person, text: str = "How are you?", **more: Any) -> tuple[Chatted, int]:
        """The answer, and how many requests the provider has seen for it."""
        before = len(self.script.seen)
        messages = [{"role": "user", "content": self.script.task(text)}]
        told = asked_chat(self.world, who, self.script, **{"messages": messages, **more})
        return told, len(self.script.seen) - before


@control("CST-08", cases=40)
def test_an_answer_given_again_is_free_and_nobody_else_s(proof: Proof, new_world: NewWorld) -> None:
    with new_world(catalogue=models(spare="0.02")) as world:
        who, other = world.people(["probe_chatter"], ["probe_chatter"])
        [stranger] = world.people(["probe_chatter"])
        for stream in (False, True):
            mine = Asking(world)
            with proof.positive("the first is asked, answered and paid for"):
                told, seen = mine.ask(who, stream=stream)
                assert (told.text[:8], seen, world.spent(who) > 0) == ("You said", 1, True)
            first, spent = told.text, world.spent(who)
            for same in (False, True):
                told, seen = mine.ask(who, stream=same)
                proof.same("free", (told.text, seen, world.spent(who)), (first, 0, spent), f"streamed: {same}")
                proof.holds("marked", "hit" in told.headers.get("cache-status", ""), told.headers)
                proof.holds("marked", told.headers.get("age", "").isdigit(), told.headers)
            told, seen = mine.ask(other, stream=stream)
            proof.same("free", (told.text, seen), (first, 0), "a colleague of the same tenant:")
            told, seen = mine.ask(stranger, stream=stream)
            proof.same("own-tenant-only", (seen, "cache-status" in told.headers), (1, False), "another tenant:")
            _differs(proof, mine, who, stream=stream)
        _personal(proof, world, who)
        _tools(proof, world, who)


def _differs(proof: Proof, mine: Asking, who: Person, *, stream: bool) -> None:
    differing: dict[str, dict[str, Any]] = {
        "another model": {"model": "spare"},
        "another text": {"text": "How were you?"},
        "a system message": {"messages": [{"role": "system", "content": "Be kind."}, *_user(mine)]},
        "another cap": {"max_tokens": 50},
        "another format": {"response_format": {"type": "json_object"}},
        "asked for anew": {"headers": {"Cache-Control": "no-cache"}},
        "asked for variety": {"temperature": 0.7},
        "several": {"n": 2},
    }
    for what, more in differing.items():
        proof.same("exact", mine.ask(who, stream=stream, **more)[1], 1, what)


def _user(mine: Asking) -> list[Body]:
    return [{"role": "user", "content": mine.script.task("How are you?")}]


def _personal(proof: Proof, world: World, who: Person) -> None:
    mine = Asking(world)
    for address in ("ada@mail.rig.test", "bob@mail.rig.test"):
        told, _ = mine.ask(who, f"Write to {address}.")
        proof.holds("exact", address in told.text, f"the answer speaks of {told.text}")
    proof.holds("exact", b"mail.rig.test" not in _kept(world), "personal data is kept")


def _kept(world: World) -> bytes:
    return b"".join(str(row).encode() for row in world.sql("SELECT body FROM cached_answers"))


def _tools(proof: Proof, world: World, who: Person) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "note", "arguments": "{}"}}
    used = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c1", "content": "found"}]
    for what in ("offered", "used", "called"):
        script = world.model.script(calls("note", {"a": 1}) if what == "called" else says("Good day."))
        said = [{"role": "user", "content": script.task()}, *(used if what == "used" else [])]
        more: dict[str, Any] = {"messages": said, **({"tools": [TOOL]} if what == "offered" else {})}
        for _ in range(2):
            asked_chat(world, who, script, **more)
        proof.same("never-tools", len(script.seen), 2, f"a tool was {what}:")
    for cut in (replace(says("I beg"), finish="length"), replace(says("x"), usage=None)):
        script = world.model.script(cut)
        for _ in range(2):
            asked_chat(world, who, script)
        proof.same("exact", len(script.seen), 2 if cut.finish else 1, "an answer that was cut is not kept:")


@control("CST-08", cases=14)
def test_an_old_answer_is_given_where_no_model_answers(proof: Proof, new_world: NewWorld) -> None:
    with new_world(catalogue=models()) as world:
        who, operator = world.people(["probe_chatter"], OPERATOR)
        for failure in (status(503), status(429), fault("hang", seconds=12), status(401)):
            script = world.model.script(says("Good day."), failure)
            with proof.positive("the first is asked and answered"):
                assert asked_chat(world, who, script).text == "Good day."
            world.clock.advance(timedelta(minutes=6))
            told = asked_chat(world, who, script)
            proof.same("stale-only-then", (told.text, len(script.seen)), ("Good day.", 2), f"{failure.status}:")
            proof.same("marked", told.headers.get("x-degraded"), "true", f"{failure.status}:")
        script = world.model.script(says("Good day."), status(400))
        asked_chat(world, who, script)
        world.clock.advance(timedelta(minutes=6))
        proof.same("stale-only-then", asked_chat(world, who, script).code, "provider.rejected", "its own fault:")
        script = world.model.script(says("Good day."), status(503))
        asked_chat(world, who, script)
        world.clock.advance(timedelta(days=2))
        proof.same("stale-only-then", asked_chat(world, who, script).code, "provider.overloaded", "too old:")
        script = world.model.script(says("Good day."))
        asked_chat(world, who, script)
        for name in (f"tenant:{who.tenant_id}", "feature:chat", f"model:{MODEL}", "runs"):
            body = {"state": "on", "reason": "a drill"}
            assert world.service.call(operator, "PUT", f"/v1/switches/{name}", json=body).status_code == 200
            proof.same("switches", asked_chat(world, who, script).code, "service.halted", name)
            world.service.call(operator, "PUT", f"/v1/switches/{name}", json={**body, "state": "off"})
