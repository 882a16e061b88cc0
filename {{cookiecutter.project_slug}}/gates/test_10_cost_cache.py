"""Gate 10, cost: an answer that is given again is free, the same tenant's own, and for exactly the same request."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.chats import TOOL, Chatted, asked_chat
from gates.rig.people import Person
from gates.rig.provider import Body, calls, fault, says, status
from gates.rig.world import MODEL, World, models

OPERATOR = ["platform_operator"]
REPEATABLE: Body = {"temperature": 0, "seed": 7}


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
        told = asked_chat(self.world, who, self.script, **{"messages": messages, **REPEATABLE, **more})
        return told, len(self.script.seen) - before


@control("CST-08", cases=102)
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
            _only_asked(proof, Asking(world), who, stream=stream)
        _directives(proof, world, who)
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
        "asked for anew, in other letters and another line": {"headers": {"cache-control": 'x="a, b" , NO-CACHE'}},
        "of no age": {"headers": {"Cache-Control": "max-age=0"}},
        "another seed": {"seed": 8},
        "several": {"n": 2},
    }
    for what, more in differing.items():
        proof.same("exact", mine.ask(who, stream=stream, **more)[1], 1, what)


def _only_asked(proof: Proof, mine: Asking, who: Person, *, stream: bool) -> None:
    """Without a word for it each request is answered anew, and leaves nothing that another could be given."""
    silent: dict[str, Body] = {
        "no temperature": {"temperature": None, "seed": None},
        "a seed alone": {"temperature": None},
        "a temperature of 0 alone": {"seed": None},
        "a temperature with a seed": {"temperature": 0.7},
    }
    for what, more in silent.items():
        for _ in range(2):
            proof.same("only-asked", mine.ask(who, stream=stream, **more)[1], 1, what)
    for what, more in silent.items():
        lookup = {**more, "headers": {"Cache-Control": "max-age=60"}}
        proof.same("only-asked", mine.ask(who, stream=stream, **lookup)[1], 1, f"{what}, and then by header:")
        proof.same("free", mine.ask(who, stream=stream, **lookup)[1], 0, f"{what}, by header again:")
        proof.same("only-asked", mine.ask(who, stream=stream, **more)[1], 1, f"{what}, after others asked by header:")


def _directives(proof: Proof, world: World, who: Person) -> None:
    """RFC 9111, 5.2.1, one request after another about one kept answer; `seen` is 1 where the model was asked."""
    mine = Asking(world)
    steps: list[tuple[int, str, int]] = [  # seconds later, the header, whether the model is asked
        (0, "no-store", 1), (0, "max-age=60", 1), (0, "max-age=60", 0), (100, "max-age=60", 1), (100, "max-age=200", 0),
        (0, 'MAX-AGE="200"', 0), (0, "max-age=50", 1), (30, "max-age=900, max-age=20", 1), (30, "max-age=x", 1),
        (0, "max-age=900, min-fresh=250", 0), (60, "max-age=900, min-fresh=250", 1), (400, "max-age=900", 1),
        (400, "max-stale=900", 0), (0, "max-stale", 0), (0, "no-cache, max-age=900", 1),
    ]  # fmt: skip
    for later, header, seen in steps:
        world.clock.advance(timedelta(seconds=later))
        more: Body = {"temperature": None, "seed": None, "headers": {"Cache-Control": header}}
        proof.same("exact", mine.ask(who, **more)[1], seen, f"{later} s later, {header}:")
    told, seen = mine.ask(who, headers={"Cache-Control": "only-if-cached"})
    proof.same("exact", (told.status, seen), (422, 0), "only-if-cached, which is not offered:")


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
        more: dict[str, Any] = {"messages": said, **REPEATABLE, **({"tools": [TOOL]} if what == "offered" else {})}
        for _ in range(2):
            asked_chat(world, who, script, **more)
        proof.same("never-tools", len(script.seen), 2, f"a tool was {what}:")
    for cut in (replace(says("I beg"), finish="length"), replace(says("x"), usage=None)):
        script = world.model.script(cut)
        for _ in range(2):
            asked_chat(world, who, script, **REPEATABLE)
        proof.same("exact", len(script.seen), 2 if cut.finish else 1, "an answer that was cut is not kept:")


@control("CST-08", cases=27)
def test_an_old_answer_is_given_where_no_model_answers(proof: Proof, new_world: NewWorld) -> None:
    with new_world(catalogue=models()) as world:
        who, operator = world.people(["probe_chatter"], OPERATOR)
        for failure in (status(503), status(429), fault("hang", seconds=12), status(401)):
            script = world.model.script(says("Good day."), failure)
            with proof.positive("the first is asked and answered"):
                assert asked_chat(world, who, script, **REPEATABLE).text == "Good day."
            world.clock.advance(timedelta(minutes=6))
            told = asked_chat(world, who, script, **REPEATABLE)
            proof.same("stale-only-then", (told.text, len(script.seen)), ("Good day.", 2), f"{failure.status}:")
            proof.same("marked", told.headers.get("x-degraded"), "true", f"{failure.status}:")
        for own_fault, code in ((status(400, kind="bad_role"), "bad_role"), (status(409), "provider.rejected")):
            script = world.model.script(says("Good day."), own_fault)
            asked_chat(world, who, script, **REPEATABLE)
            world.clock.advance(timedelta(minutes=6))
            told = asked_chat(world, who, script, **REPEATABLE)
            proof.same("stale-only-then", told.code, code, "its own fault:")
        script = world.model.script(says("Good day."), status(503))
        asked_chat(world, who, script, **REPEATABLE)
        world.clock.advance(timedelta(days=2))
        proof.same(
            "stale-only-then", asked_chat(world, who, script, **REPEATABLE).code, "provider.overloaded", "too old:"
        )
        _old_only_for_who_asked(proof, world, who)
        script = world.model.script(says("Good day."))
        asked_chat(world, who, script, **REPEATABLE)
        for name in (f"tenant:{who.tenant_id}", "feature:chat", f"model:{MODEL}", "runs"):
            body = {"state": "on", "reason": "a drill"}
            assert world.service.call(operator, "PUT", f"/v1/switches/{name}", json=body).status_code == 200
            proof.same("switches", asked_chat(world, who, script, **REPEATABLE).code, "service.halted", name)
            world.service.call(operator, "PUT", f"/v1/switches/{name}", json={**body, "state": "off"})
    with new_world(catalogue=models("attempts = 1\nbreaker_faults = 1\nbreaker_rest_s = 600\n")) as world:
        who, operator = world.people(["probe_chatter"], OPERATOR)
        _halted_while_left_alone(proof, world, who, operator)


def _old_only_for_who_asked(proof: Proof, world: World, who: Person) -> None:
    """An old answer goes to who would have been given a kept one, and none older than they said."""
    cases: list[tuple[Body, bool]] = [
        ({}, False), ({"headers": {"Cache-Control": "no-cache"}, **REPEATABLE}, False),
        ({"headers": {"Cache-Control": "max-age=60"}}, False), ({"headers": {"Cache-Control": "max-age=9000"}}, True),
        ({"headers": {"Cache-Control": "max-age=60, stale-if-error=900"}}, True),
        ({"headers": {"Cache-Control": "max-age=60, stale-if-error=9"}}, False),
    ]  # fmt: skip
    for more, given in cases:
        script = world.model.script(says("Good day."), status(503))
        asked = {key: value for key, value in more.items() if key != "headers"}
        asked_chat(world, who, script, **{**asked, "headers": {"Cache-Control": "max-age=9"}})
        world.clock.advance(timedelta(minutes=6))
        code = asked_chat(world, who, script, **more).code
        proof.same("stale-only-then", code, "" if given else "provider.overloaded", f"{more}:")


def _halted_while_left_alone(proof: Proof, world: World, who: Person, operator: Person) -> None:
    """No model is asked while its breaker is open: only the look at the kept answer can obey a switch."""
    script = world.model.script(says("Good day."), status(503))
    asked_chat(world, who, script, **REPEATABLE)
    world.clock.advance(timedelta(minutes=6))
    for what in ("its failure opens the breaker", "it is left alone"):
        told = asked_chat(world, who, script, **REPEATABLE)
        proof.same("stale-only-then", (told.text, len(script.seen)), ("Good day.", 2), f"{what}:")
    for name in ("runs", f"model:{MODEL}", f"tenant:{who.tenant_id}", "feature:chat"):
        body = {"state": "on", "reason": "a drill"}
        assert world.service.call(operator, "PUT", f"/v1/switches/{name}", json=body).status_code == 200
        told = asked_chat(world, who, script, **REPEATABLE)
        proof.same("switches", (told.status, told.code), (503, "service.halted"), f"{name}, the model left alone:")
        world.service.call(operator, "PUT", f"/v1/switches/{name}", json={**body, "state": "off"})
