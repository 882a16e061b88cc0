"""Gate 1, security: a call of a tool is told by its turn, its place and its id; ids are unique in one message only."""

import json
from typing import Any

from gates.proof import Proof, control
from gates.rig.formats import Reply
from gates.rig.people import Person
from gates.rig.provider import calls
from gates.rig.service import wait_for
from gates.rig.world import Ran, World, final


def _write(text: str, call_id: str = "call_1") -> Reply:
    return calls("probe_write", {"text": text}, call_id)


def _effects(world: World, ran: Ran) -> list[str]:
    return [effect.arguments.get("text", effect.tool) for effect in world.effects_of(ran)]


def _next(world: World, who: Person, approver: Person, ran: Ran) -> tuple[str, list[Any]]:
    """Where the run is, and what is asked, once it waits for somebody or has ended."""

    def look() -> tuple[str, list[Any]] | None:
        run = world.service.call(who, "GET", f"/v1/runs/{ran.id}").json()
        asked = world.service.pending(approver, ran.id)
        return (run["state"], asked) if asked or run["state"] in {"succeeded", "failed"} else None

    return wait_for(look)


@control("SEC-02", cases=16)
def test_each_call_of_a_tool_is_one_of_its_own(proof: Proof, world: World) -> None:
    writer, approver = world.people(["probe_writer"], ["probe_approver"])
    with proof.positive("two writes under two ids are asked about and happen, one after the other"):
        ran = world.run(writer, _write("one"), _write("two", "call_2"), final(), until=("waiting",))
        for _ in range(2):
            [question] = _next(world, writer, approver, ran)[1]
            assert world.service.decide(approver, question).status_code == 200
        assert _next(world, writer, approver, ran)[0] == "succeeded"
        assert _effects(world, ran) == ["one", "two"]
    for call_id, second in (("call_1", "two"), ("call_1", "one"), ("", "two")):
        where = f"the id {call_id!r} in a later message, {second!r} after 'one':"
        ran = world.run(writer, _write("one", call_id), _write(second, call_id), final(), until=("waiting",))
        for done, asked in ((0, "one"), (1, second)):
            _, questions = _next(world, writer, approver, ran)
            proof.same("each-call", [question["arguments"] for question in questions], [{"text": asked}], where)
            proof.same("each-call", _effects(world, ran), ["one", second][:done], where)
            for question in questions:
                world.service.decide(approver, question)
        world.settled(writer, ran)
        proof.same("each-call", _effects(world, ran), ["one", second], where)
    _in_one_message(proof, world, writer, approver)


def _in_one_message(proof: Proof, world: World, writer: Person, approver: Person) -> None:
    two = Reply(calls=tuple(("call_1", "probe_write", json.dumps({"text": text})) for text in ("one", "two")))
    ran = world.run(writer, two, final(), until=("waiting", "succeeded", "failed"))
    _, questions = _next(world, writer, approver, ran)
    asked = sorted(question["arguments"]["text"] for question in questions)
    proof.same("each-call", asked, ["one", "two"], "one id twice in one message:")
    for question in questions:
        approves = question["arguments"] == {"text": "two"}
        world.service.decide(approver, question, "approve" if approves else "deny")
    world.settled(writer, ran)
    proof.same("each-call", _effects(world, ran), ["two"], "one of the two is approved:")
    items = world.service.call(writer, "GET", f"/v1/runs/{ran.id}/tool-calls").json()["items"]
    states = sorted(item["state"] for item in items)
    proof.same("each-call", states, ["denied", "done"], "each has its own record:")
