"""An answer that a client puts back into the conversation as it got it, field by field, and what the provider gets."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from gates.rig.databases import NewDatabase
from gates.rig.formats import Reply
from gates.rig.people import Person
from gates.rig.plain_http import PLAIN
from gates.rig.provider import Script, says
from gates.rig.world import World, opened

SIGNATURE = "CqEBAVSoXO4111111111111111+/" + "Zm9v" * 20 + "=="
ASKED = {"role": "user", "content": "What did Ada want?"}


@pytest.fixture(scope="module")
def world(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened(new_sqlite(), tmp_path_factory.mktemp("back")) as made:
        yield made


@pytest.fixture(scope="module")
def who(world: World) -> Person:
    return world.people(["probe_chatter"])[0]


def _call(**more: Any) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "note", "arguments": '{"a": 1}'}, **more}


ANSWERS: dict[str, dict[str, Any]] = {
    "a thought signature": {
        "role": "assistant", "content": None,
        "tool_calls": [_call(id="", index=0, extra_content={"google": {"thought_signature": SIGNATURE}})],
    },
    "reasoning": {"role": "assistant", "content": "Tea.", "reasoning_content": "Tea, or coffee?", "reasoning": "Tea?"},
    "reasoning in parts": {
        "role": "assistant", "content": "Tea.",
        "reasoning_details": [{"type": "reasoning.encrypted", "data": SIGNATURE, "index": 0, "format": None}],
    },
    "citations": {
        "role": "assistant", "content": "Tea.", "refusal": None, "audio": None, "function_call": None,
        "provider_specific_fields": {"citations": [[{"url": "https://example.com", "score": 0.5}]], "nothing": None},
    },
    "a call of no arguments and a name of its own": {
        "role": "assistant", "content": "",
        "tool_calls": [_call(id="call|fc_1 é", function={"name": "functions.note:0", "arguments": "{}", "why": [1]})],
    },
}  # fmt: skip


def _sent(
    world: World, who: Person, messages: list[dict[str, Any]], *, stream: bool = False
) -> tuple[httpx2.Response, Script]:
    script = world.model.script(says("Tea."))
    body = {"model": "standard", "stream": stream, "messages": [{"role": "user", "content": script.task()}, *messages]}
    return world.service.call(who, "POST", "/v1/chat/completions", json=body), script


def _pruned(message: dict[str, Any]) -> dict[str, Any]:
    """Without what says nothing at its first level."""
    return {name: value for name, value in message.items() if value is not None}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ANSWERS)
def test_the_provider_gets_its_answer_back_as_it_gave_it(world: World, who: Person, name: str, stream: bool) -> None:
    """fault 5"""
    message = ANSWERS[name]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": "done"} for call in message.get("tool_calls", ())
    ]
    answer, script = _sent(world, who, [ASKED, message, *results], stream=stream)
    assert answer.status_code == 200, answer.text
    assert script.requests[0]["messages"][2] == _pruned(message)
    assert script.requests[0]["messages"][3:] == results


@pytest.mark.parametrize("stream", [False, True])
def test_whatever_a_provider_adds_comes_to_the_client_and_goes_back(world: World, who: Person, stream: bool) -> None:
    """fault 5, by the client of a prototype: an answer, and the answer put back with what the client made of it."""
    call = _call(id="", index=0, extra_content={"google": {"thought_signature": SIGNATURE}})
    said = {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [call]}
    head = {"id": "x", "object": "chat.completion", "created": 1, "model": "probe-model-1"}
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
    choice = {"index": 0, "finish_reason": "tool_calls"}
    whole = {**head, "choices": [{**choice, "message": said}], "usage": usage}
    chunk = {**head, "object": "chat.completion.chunk", "choices": [{**choice, "delta": said}], "usage": usage}
    streamed = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
    reply = Reply(raw=streamed, media_type="text/event-stream") if stream else Reply(raw=json.dumps(whole).encode())
    script = world.model.script(reply, says("Tea."))
    messages: list[Any] = [{"role": "user", "content": script.task()}]
    with httpx2.Client(**PLAIN) as plain:
        client = openai.OpenAI(
            base_url=f"{world.service.base_url}/v1", api_key=who.key, max_retries=0, http_client=plain
        )
        asked: dict[str, Any] = {"model": "standard", "messages": messages}
        if stream:
            [piece] = client.chat.completions.create(stream=True, **asked)
            back = piece.choices[0].delta.to_dict()
        else:
            back = client.chat.completions.create(**asked).choices[0].message.to_dict()
        messages += [back, {"role": "tool", "tool_call_id": "", "content": "done"}]
        client.chat.completions.create(**asked)
    sent = script.requests[1]["messages"][1]
    assert sent["tool_calls"] == [call]
    assert sent["reasoning_content"] == "hm"


def test_personal_data_leaves_in_none_of_it(world: World, who: Person) -> None:
    """fault 5: what is not known here is looked at all the same."""
    mail = "ada@example.com"
    answer, script = _sent(world, who, [ASKED, {
        "role": "assistant", "content": "Tea.", "reasoning_content": f"Write to {mail}.", mail: 1,
        "notes": [{"deep": {"signature": f"of {mail}", mail: [mail]}}],
        "tool_calls": [_call(extra_content={"to": mail}, function={"name": "note", "arguments": "{}", "why": mail})],
    }])  # fmt: skip
    assert answer.status_code == 200, answer.text
    sent = json.dumps(script.requests[0])
    assert mail not in sent
    assert sent.count("[email-1]") == 7


DEEP: Any = "end"
for _ in range(60):
    DEEP = [DEEP]
REFUSED: dict[str, list[dict[str, Any]]] = {
    "a field of a person's message": [{**ASKED, "reasoning_content": "x"}],
    "a field of a tool's message": [{"role": "tool", "tool_call_id": "a", "content": "x", "extra_content": {}}],
    "a field of a system's message": [{"role": "system", "content": "x", "cache_control": {}}],
    "too many fields": [{"role": "assistant", "content": "x", **{f"f{n}": n for n in range(60)}}],
    "too deep": [{"role": "assistant", "content": "x", "thinking": DEEP}],
    "NUL": [{"role": "assistant", "content": "x", "thinking": ["a\0b"]}],
    "an id beyond reason": [{"role": "assistant", "tool_calls": [_call(id="x" * 9_000)]}],
    "content of another kind": [{"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_provider_has_said_stays_refused(world: World, who: Person, name: str) -> None:
    answer, script = _sent(world, who, [ASKED, *REFUSED[name]])
    assert answer.status_code == 422, answer.text
    assert script.seen == []


def test_an_unknown_parameter_stays_refused(world: World, who: Person) -> None:
    body = {"model": "standard", "messages": [ASKED], "extra_content": {}}
    assert world.service.call(who, "POST", "/v1/chat/completions", json=body).status_code == 422


def test_the_size_of_a_request_stays_bounded(world: World, who: Person) -> None:
    answer, script = _sent(world, who, [ASKED, {"role": "assistant", "content": "x", "thinking": "x" * 2_000_000}])
    assert answer.status_code == 413, answer.text
    assert script.seen == []


def test_the_contract_says_which_parts_take_more(world: World) -> None:
    schemas = world.service.call(None, "GET", "/openapi.json").json()["components"]["schemas"]
    for name in ("Message", "ToolCall", "CalledFunction"):
        assert schemas[name]["additionalProperties"] is True
    for name in ("TextPart", "ChatCompletionCreate"):
        assert schemas[name]["additionalProperties"] is False
