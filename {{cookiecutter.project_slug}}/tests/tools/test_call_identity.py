"""A call of a tool is told by its turn, its place and its id: in the framework's messages, and through whole runs."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolCallPart, ToolReturnPart

from app.tools.call_identity import calls_of, distinct, plain_id, record_id
from gates.rig.databases import NewDatabase
from gates.rig.formats import Reply
from gates.rig.people import Person
from gates.rig.provider import calls
from gates.rig.world import Ran, World, final, opened

ROLES = ["probe_writer"], ["probe_approver"]


@pytest.fixture(scope="module")
def world(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened(new_sqlite(), tmp_path_factory.mktemp("identity")) as made:
        yield made


def _finished(world: World, who: Person, approver: Person, *answers: Reply) -> Ran:
    """Run the script to its end; whatever is asked is approved."""
    ran = world.run(who, *answers, until=("waiting", "succeeded", "failed"))
    for _ in range(6):
        if ran.state["state"] != "waiting":
            break
        for question in world.service.pending(approver, ran.id):
            assert world.service.decide(approver, question).status_code == 200
        world.settled(who, ran, ("waiting", "succeeded", "failed"))
    return ran


def _records(world: World, who: Person, ran: Ran) -> list[tuple[str, str]]:
    items = world.service.call(who, "GET", f"/v1/runs/{ran.id}/tool-calls").json()["items"]
    assert len({item["effect_key"] for item in items}) == len(items)
    return [(item["tool"], item["state"]) for item in items]


def _told(ran: Ran) -> list[str]:
    """What the model was last told of its calls."""
    return [str(m["content"]) for m in ran.script.requests[-1]["messages"] if m["role"] == "tool"]


@pytest.mark.parametrize("call_id", ["call_1", "", "an id with spaces", "0" * 64, "x" * 3_000, "call_1/call_1"])
def test_one_id_in_later_messages_with_other_arguments(world: World, call_id: str) -> None:
    """fault 6"""
    who, approver = world.people(*ROLES)
    texts = ["one", "two"]
    ran = _finished(world, who, approver, *(calls("probe_write", {"text": text}, call_id) for text in texts), final())
    assert ran.state["state"] == "succeeded", ran.state
    assert [effect.arguments["text"] for effect in world.effects_of(ran)] == texts
    assert len({effect.idempotency_key for effect in world.effects_of(ran)}) == len(texts)
    assert _records(world, who, ran) == [("probe_write", "done")] * 2


def test_one_id_with_the_same_arguments_after_a_write_is_looked_up_anew(world: World) -> None:
    """fault 6"""
    who, approver = world.people(*ROLES)
    look = calls("probe_lookup", {"query": "a"}, "call_1")
    ran = _finished(world, who, approver, look, calls("probe_write", {"text": "b"}, "call_2"), look, final())
    assert ran.state["state"] == "succeeded", ran.state
    assert [effect.tool for effect in world.effects_of(ran)] == ["probe_lookup", "probe_write", "probe_lookup"]
    assert [tool for tool, _ in _records(world, who, ran)] == ["probe_lookup", "probe_write", "probe_lookup"]


def test_parallel_calls_with_one_id_have_an_approval_and_a_result_each(world: World) -> None:
    """fault 6"""
    who, approver = world.people(*ROLES)
    both = Reply(calls=tuple(("call_1", "probe_write", json.dumps({"text": text})) for text in ("one", "two")))
    ran = world.run(who, both, final(), until=("waiting", "succeeded", "failed"))
    asked = world.service.pending(approver, ran.id)
    assert sorted(question["arguments"]["text"] for question in asked) == ["one", "two"]
    yes, no = sorted(asked, key=lambda question: question["arguments"]["text"])
    assert world.service.decide(approver, yes).status_code == 200
    assert world.service.decide(approver, no, "deny").status_code == 200
    world.settled(who, ran)
    assert ran.state["state"] == "succeeded", ran.state
    assert [effect.arguments["text"] for effect in world.effects_of(ran)] == ["one"]
    assert sorted(_records(world, who, ran)) == [("probe_write", "denied"), ("probe_write", "done")]
    one, two = _told(ran)
    assert "done" in one
    assert "declined" in two


@pytest.mark.parametrize("said", ["null", "", " ", "null ", "{}"])
def test_no_arguments_are_refused_to_the_model_by_what_is_missing(world: World, said: str) -> None:
    """fault 40"""
    who, approver = world.people(*ROLES)
    ran = _finished(world, who, approver, calls("probe_lookup", said), final())
    assert ran.state["state"] == "succeeded", ran.state
    [told] = _told(ran)
    assert "not valid" in told
    assert "/query" in told
    assert world.effects_of(ran) == []


@pytest.mark.parametrize(
    "said", ["[]", "7", "true", '"x"', "NaN", "nul", "{", '{"query": NaN}', '{"query": "\\ud83d"}']
)
def test_arguments_that_are_none_of_an_object_are_refused_to_the_model(world: World, said: str) -> None:
    """fault 40, further inputs"""
    who, approver = world.people(*ROLES)
    ran = _finished(world, who, approver, calls("probe_lookup", said), final())
    assert ran.state["state"] == "succeeded", ran.state
    assert world.effects_of(ran) == []


@pytest.mark.parametrize("said", ["null", "", "[]", "7"])
def test_an_answer_without_its_fields_is_asked_for_again(world: World, said: str) -> None:
    """fault 40, a further input: the answer itself is a call."""
    who, approver = world.people(*ROLES)
    ran = _finished(world, who, approver, calls("final_result", said), final())
    assert ran.state["state"] == "succeeded", ran.state


CALLS: st.SearchStrategy[list[ToolCallPart]] = st.lists(
    st.builds(ToolCallPart, st.just("t"), st.none() | st.text(max_size=5), st.text("ab/ \ud800\0", max_size=3)),
    max_size=4,
)


@settings(deadline=None)
@given(st.lists(CALLS, max_size=5))
def test_no_two_calls_of_a_conversation_have_one_id(turns: list[list[ToolCallPart]]) -> None:
    """fault 6: whatever ids a provider gives, and the same again when a segment is replayed."""
    messages: list[ModelMessage] = []
    for parts in turns:
        response = ModelResponse(parts=[TextPart("x"), *parts])
        told_apart = distinct(messages, response)
        assert told_apart == distinct(messages, response)
        messages += [
            told_apart,
            ModelRequest(parts=[ToolReturnPart("t", "x", c.tool_call_id) for c in calls_of([told_apart])]),
        ]
    records = [record_id("", call.tool_call_id) for call in calls_of(messages)]
    assert len(set(records)) == len(records)
    assert all(len(each) <= 120 and each.isascii() and each for each in records)


def test_a_first_use_keeps_its_id() -> None:
    """An approval that waits while the service is updated finds its call again."""
    call = ToolCallPart("t", '{"a": 1}', "call_1")
    assert distinct([], ModelResponse(parts=[call])).parts == [call]


def test_a_call_of_the_run_is_none_of_its_delegates() -> None:
    """fault 6, a further input: ids that a model makes up to look like another's record."""
    theirs = record_id(record_id("", "call_1") + "/", "call_2")
    deep = record_id("x" * 90 + "/", "y" * 90)
    assert record_id("", "call_1/call_2") != theirs
    assert record_id("", deep) != deep
    first = replace(ModelResponse(parts=[ToolCallPart("t", {}, "weird id")]))
    mimic: Any = distinct([first], ModelResponse(parts=[ToolCallPart("t", {}, plain_id("weird id"))])).parts[0]
    assert record_id("", mimic.tool_call_id) != record_id("", "weird id")
