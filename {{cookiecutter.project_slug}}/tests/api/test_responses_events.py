"""A stream of the Responses interface: its events, their order, and the response they add up to."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from gates.rig.databases import NewDatabase
from gates.rig.formats import Reply
from gates.rig.plain_http import PLAIN
from gates.rig.provider import calls, fault, says
from gates.rig.responses import PATH
from gates.rig.service import wait_for
from gates.rig.world import MODEL, World, opened
from tests.api.responses_desk import CATALOGUE, MAIL, TOOL, Desk, chunks, desk_in, timeless

OF_TEXT = ["output_item.added", "content_part.added", "output_text.delta"]
DONE_TEXT = ["output_text.done", "content_part.done", "output_item.done"]


@pytest.fixture(scope="module")
def world(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("responses")
    # So long that nothing but a client's hanging up ends a request within a test.
    with opened(new_sqlite(), folder, catalogue=CATALOGUE, MODEL_TIMEOUT_MS="60000") as made:
        yield made


@pytest.fixture
def desk(world: World) -> Iterator[Desk]:
    with desk_in(world) as made:
        yield made


def _kinds(events: list[dict[str, Any]]) -> list[str]:
    """The types of events, each once where it repeats."""
    kinds = [event["type"].removeprefix("response.") for event in events]
    return [kind for at, kind in enumerate(kinds) if at == 0 or kinds[at - 1] != kind]


def test_the_answers_of_a_stream_come_in_their_order(desk: Desk) -> None:
    events = desk.streamed(says("one two three four"))
    assert _kinds(events) == ["created", "in_progress", *OF_TEXT, *DONE_TEXT, "completed"]
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert text == "one two three four"
    final = events[-1]["response"]
    assert final["output"][0]["content"][0]["text"] == text
    assert {event["item_id"] for event in events if "item_id" in event} == {final["output"][0]["id"]}
    assert len({event["response"]["id"] for event in events if "response" in event}) == 1


REPLIES: dict[str, Reply] = {
    "a text": says("Good day, [email-1]."),
    "a call": calls("send_mail", {"to": "[email-1]"}),
    "a text and calls": Reply(text="I will.", calls=(("c1", "send_mail", '{"to": "a"}'), ("c2", "send_mail", "{}"))),
    "a call without arguments": Reply(calls=(("c1", "send_mail", ""), ("c2", "send_mail", '{"to": "b"}'))),
    "cut at its length": Reply(text="word word", finish="length"),
    "nothing": says(""),
    "no usage": replace(says("Yes."), usage=None),
}


@pytest.mark.parametrize("name", REPLIES)
def test_a_stream_adds_up_to_the_whole(desk: Desk, name: str) -> None:
    reply = REPLIES[name]
    whole, _ = desk.whole(reply, instructions=f"Of {MAIL}.", tools=[TOOL])
    events = desk.streamed(reply, instructions=f"Of {MAIL}.", tools=[TOOL])
    final = events[-1]["response"]
    assert timeless(final) == timeless(whole)
    assert final["output"]
    for at, item in enumerate(final["output"]):
        mine = [event for event in events if event.get("output_index") == at]
        assert {event["item_id"] for event in mine if "item_id" in event} == {item["id"]}
        assert (mine[0]["item"]["id"], mine[-1]["item"]) == (item["id"], item)
        deltas = "".join(event.get("delta", "") for event in mine)
        assert deltas == (item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"])


def test_what_cuts_an_answer_short_is_named(desk: Desk) -> None:
    whole, _ = desk.whole(Reply(text="word", finish="length"))
    assert (whole["status"], whole["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert desk.streamed(Reply(text="word", finish="length"))[-1]["type"] == "response.incomplete"
    choice = {"index": 0, "message": {"role": "assistant", "content": "wo"}, "finish_reason": "content_filter"}
    filtered, _ = desk.whole(Reply(raw=json.dumps({"model": MODEL, "choices": [choice]}).encode()))
    assert filtered["incomplete_details"] == {"reason": "content_filter"}


def test_a_refusal_is_a_part_of_its_own(desk: Desk) -> None:
    whole, _ = desk.whole(Reply(text="I will not.", finish="refusal"))
    assert whole["output"][0]["content"] == [{"type": "refusal", "refusal": "I will not."}]
    deltas = [{"refusal": "I will "}, {"refusal": "not."}]
    events = desk.streamed(chunks(deltas))
    assert _kinds(events)[3:7] == ["content_part.added", "refusal.delta", "refusal.done", "content_part.done"]
    assert timeless(events[-1]["response"]["output"]) == timeless(whole["output"])


def test_logprobs_come_with_their_text(desk: Desk) -> None:
    token = {"token": "Yes", "logprob": -0.1, "bytes": [89], "top_logprobs": [{"token": "No", "logprob": -2.0}]}
    logprobs = {"content": [token, {"token": 1, "logprob": "x"}]}
    events = desk.streamed(chunks([{"content": "Yes"}], logprobs=logprobs), include=["message.output_text.logprobs"])
    [told] = events[-1]["response"]["output"][0]["content"][0]["logprobs"]
    assert (told["token"], told["top_logprobs"][0]["token"]) == ("Yes", "No")
    _, script = desk.whole(says("Yes."), top_logprobs=3)
    assert (script.requests[0]["logprobs"], script.requests[0]["top_logprobs"]) == (True, 3)


def test_calls_beside_each_other_keep_apart_however_their_pieces_come(desk: Desk) -> None:
    pieces: list[dict[str, Any]] = [
        {"content": "I will."},
        {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "send_mail", "arguments": '{"to"'}}]},
        {"tool_calls": [{"index": 1, "id": "", "function": {"name": "send_mail", "arguments": "{"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ': "a"}'}}]},
        {"content": " Now."},
        {"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]},
    ]
    message, first, second = desk.streamed(chunks(pieces), tools=[TOOL])[-1]["response"]["output"]
    assert message["content"][0]["text"] == "I will. Now."
    assert (first["call_id"], first["arguments"], second["arguments"]) == ("c1", '{"to": "a"}', "{}")
    assert second["call_id"].startswith("call_"), "a result has to belong to something"


def test_a_stream_that_breaks_says_so_and_costs_its_worst_case(desk: Desk) -> None:
    events = desk.streamed(replace(fault("die"), text="word " * 40))
    error, failed = events[-2:]
    assert (error["type"], error["code"]) == ("error", "provider.unavailable")
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["error"]["message"] == error["message"]
    assert desk.spent() >= World.price((0, 900))


def test_a_client_that_hangs_up_ends_the_request_upstream(desk: Desk) -> None:
    script = desk.script(fault("endless", seconds=40))
    body = {"model": "standard", "stream": True, "input": script.task()}
    headers, url = {"Authorization": f"Bearer {desk.who.key}"}, desk.world.service.base_url + PATH
    with httpx2.stream("POST", url, json=body, headers=headers, **PLAIN, timeout=300) as answer:
        next(answer.iter_bytes())
    assert wait_for(lambda: script.seen[0].closed_early, 10)
    assert wait_for(lambda: desk.spent() >= World.price((0, 900)), 10)
