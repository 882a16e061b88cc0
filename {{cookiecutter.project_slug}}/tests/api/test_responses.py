"""Answers of the Responses interface as its clients meet them: what they say, what leaves, what is paid."""

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from gates.rig.databases import NewDatabase
from gates.rig.formats import Reply
from gates.rig.provider import says
from gates.rig.responses import PATH, events_of
from gates.rig.world import MODEL, SPARE, World, models, opened
from tests.api.responses_desk import CATALOGUE, MAIL, TOOL, Desk, desk_in


@pytest.fixture(scope="module")
def world(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened(new_sqlite(), tmp_path_factory.mktemp("responses"), catalogue=CATALOGUE) as made:
        yield made


@pytest.fixture
def desk(world: World) -> Iterator[Desk]:
    with desk_in(world) as made:
        yield made


class City(BaseModel):
    name: str
    people: int


def test_an_answer_is_a_response_and_is_paid_for_once(desk: Desk) -> None:
    response, script = desk.whole(
        replace(says("Good day."), usage=(1_000, 500)), instructions="Be kind.", metadata={"of": MAIL}, store=True
    )
    [item] = response["output"]
    assert (response["status"], response["store"], response["metadata"]) == ("completed", False, {"of": MAIL})
    assert (response["id"][:5], item["id"][:4]) == ("resp_", "msg_")
    part = {"type": "output_text", "text": "Good day.", "annotations": [], "logprobs": []}
    assert item["content"] == [part]
    assert response["usage"]["total_tokens"] == 1_500
    [sent] = script.requests
    assert sent["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": script.task()},
    ]
    assert not {"metadata", "store", "input", "instructions"} & sent.keys()
    rows = desk.world.service.call(desk.who, "GET", "/v1/usage").json()["items"]
    assert [(row["feature"], row["input_tokens"], row["output_tokens"]) for row in rows] == [("chat", 1_000, 500)]


@pytest.mark.parametrize("stream", [False, True])
def test_the_answer_says_who_gave_it_and_what_the_model_did_not_take(desk: Desk, stream: bool) -> None:
    script = desk.script(replace(says("Yes."), usage=(1_000, 500)))
    answer = desk.post({"input": script.task(), "stream": stream, "text": {"verbosity": "low"}})
    assert answer.headers["x-dropped-parameters"] == "text.verbosity"
    assert "verbosity" not in script.requests[0]
    assert (answer.headers["x-model"], answer.headers["x-tier"]) == (MODEL, "standard")
    assert "x-degraded" not in answer.headers
    assert desk.spent() == World.price((1_000, 500))
    if not stream:
        assert Decimal(answer.headers["x-cost-usd"]) == desk.spent()


@pytest.mark.parametrize("stream", [False, True])
def test_a_loop_of_tools_goes_on_with_what_was_answered(desk: Desk, stream: bool) -> None:
    asks = Reply(text="I will.", calls=(("c1", "send_mail", '{"to": "[email-1]"}'), ("c2", "send_mail", "{}")))
    script = desk.script(asks, says("Sent."))
    items: list[Any] = [{"role": "user", "content": f"{script.task()} Write to {MAIL}."}]
    first = _by_client(desk, items, stream=stream)
    items += first.output
    made = [item for item in first.output if item.type == "function_call"]
    assert json.loads(made[0].arguments) == {"to": MAIL}
    items += [{"type": "function_call_output", "call_id": call.call_id, "output": "done"} for call in made]
    assert _by_client(desk, items, stream=stream).output_text == "Sent."
    roles = [message["role"] for message in script.requests[1]["messages"]]
    assert roles == ["user", "assistant", "tool", "tool"]
    said = script.requests[1]["messages"][1]
    assert (said["content"], [call["id"] for call in said["tool_calls"]]) == ("I will.", ["c1", "c2"])


def _by_client(desk: Desk, items: list[Any], *, stream: bool) -> Any:
    asked: dict[str, Any] = {"model": "standard", "input": items, "tools": [TOOL]}
    if not stream:
        return desk.client.responses.create(**asked)
    with desk.client.responses.stream(**asked) as events:
        return events.get_final_response()


def test_an_answer_in_a_form_is_read_into_it(desk: Desk) -> None:
    script = desk.script(says('{"name": "Lisbon", "people": 7}'))
    asked: dict[str, Any] = {"model": "standard", "input": script.task()}
    parsed = desk.client.responses.parse(text_format=City, **asked).output_parsed
    assert parsed == City(name="Lisbon", people=7)
    with desk.client.responses.stream(text_format=City, **asked) as events:
        assert events.get_final_response().output_parsed == parsed
    form = script.requests[0]["response_format"]
    assert (form["type"], form["json_schema"]["name"], form["json_schema"]["strict"]) == ("json_schema", "City", True)


def test_personal_data_leaves_in_none_of_it_and_comes_back(desk: Desk) -> None:
    script = desk.script(lambda body: says(f"You said {body['messages'][-1]['content']}."))
    answer = desk.post({
        "instructions": f"You serve {MAIL}.", "tools": [TOOL],
        "text": {"format": {"type": "json_schema", "name": "x", "schema": {"title": f"Of {MAIL}"}}},
        "user": MAIL, "metadata": {MAIL: MAIL}, "safety_identifier": MAIL, "prompt_cache_key": MAIL,
        "input": [
            {"role": "user", "content": [
                {"type": "input_text", "text": script.task()}, {"type": "input_text", "text": MAIL},
            ]},
            {"type": "message", "role": "assistant", "id": MAIL, "status": "completed", "content": [
                {"type": "output_text", "text": f"To {MAIL}?", "annotations": [{"url": MAIL}]},
                {"type": "refusal", "refusal": f"Not to {MAIL}."},
            ]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"text": MAIL}], "encrypted_content": MAIL},
            {"type": "function_call", "call_id": "c1", "name": "send_mail", "arguments": json.dumps({"to": MAIL})},
            {"type": "function_call_output", "call_id": "c1", "output": [
                {"type": "input_text", "text": f"For {MAIL}"},
            ]},
            {"role": "user", "content": MAIL},
        ],
    })  # fmt: skip
    assert answer.status_code == 200, answer.text
    raw = script.seen[0].raw.decode()
    assert "example.com" not in raw
    assert raw.count("[email-1]") == 10, "once in each place that is sent on"
    assert answer.json()["output"][0]["content"][0]["text"] == f"You said {MAIL}."


def test_the_spare_model_is_told_of(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> None:
    catalogue = models("attempts = 1\nbreaker_faults = 1000\n", "0.02")
    with opened(new_sqlite(), tmp_path_factory.mktemp("spare"), catalogue=catalogue) as world:
        [who] = world.people(["probe_chatter"])
        bad, good = Reply(raw=b"<html>"), replace(says("Yes."), model=SPARE)
        script = world.model.script(lambda body: bad if body["model"] == MODEL else good)
        body = {"model": "standard", "input": script.task()}
        answer = world.service.call(who, "POST", PATH, json=body)
        assert (answer.headers["x-model"], answer.headers["x-degraded"]) == (SPARE, "true")
        assert answer.json()["model"] == SPARE


def test_the_same_is_answered_again_for_nothing(desk: Desk) -> None:
    script = desk.script(says("Yes."), says("No."))
    cached = {"Cache-Control": "max-age=60"}
    texts = []
    for stream in (False, False, True):
        body = {"model": "standard", "input": script.task(), "stream": stream}
        answer = desk.world.service.call(desk.who, "POST", PATH, json=body, headers=cached)
        final = events_of(answer)[-1]["response"] if stream else answer.json()
        texts.append((final["output"][0]["content"][0]["text"], "cache-status" in answer.headers))
    assert texts == [("Yes.", False), ("Yes.", True), ("Yes.", True)]
    assert len(script.seen) == 1
