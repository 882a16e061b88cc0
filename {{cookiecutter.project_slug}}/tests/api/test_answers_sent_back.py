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


# Each as a client sends it back, and what the provider of another address than OpenAI's gets of it.
ANSWERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a thought signature": (
        {
            "role": "assistant", "content": None,
            "tool_calls": [_call(id="", index=0, extra_content={"google": {"thought_signature": SIGNATURE}})],
        },
        {
            "role": "assistant",
            "tool_calls": [_call(id="", extra_content={"google": {"thought_signature": SIGNATURE}})],
        },
    ),
    "reasoning": (
        {"role": "assistant", "content": "Tea.", "reasoning_content": "", "reasoning": "Tea?", "thinking": "Tea?"},
        {"role": "assistant", "content": "Tea.", "reasoning_content": "", "reasoning": "Tea?"},
    ),
    "reasoning in parts": (
        {
            "role": "assistant", "content": "Tea.", "thinking_blocks": [{"type": "thinking", "signature": SIGNATURE}],
            "reasoning_details": [{"type": "reasoning.encrypted", "data": SIGNATURE, "index": 0, "format": None}],
        },
        {
            "role": "assistant", "content": "Tea.", "thinking_blocks": [{"type": "thinking", "signature": SIGNATURE}],
            "reasoning_details": [{"type": "reasoning.encrypted", "data": SIGNATURE, "index": 0, "format": None}],
        },
    ),
    "what libraries put there": (
        {
            "role": "assistant", "content": "Tea.", "refusal": None, "audio": None, "function_call": None,
            "provider_specific_fields": {"citations": [[{"url": "https://example.com"}]], "nothing": None},
            "annotations": [], "tool_calls": [], "index": 0, "sender": "a", "tool_name": "b", "cache_control": {},
        },
        {"role": "assistant", "content": "Tea."},
    ),
    "nothing that is said in its own way": (
        {"role": "assistant", "content": [], "tool_calls": None},
        {"role": "assistant", "content": ""},
    ),
    "a refusal in parts": (
        {
            "role": "assistant",
            "content": [{"type": "refusal", "refusal": "Not tea.", "x": 1}, {"type": "refusal", "refusal": "No."}],
        },
        {"role": "assistant", "content": "", "refusal": "Not tea.\nNo."},
    ),
    "a call of no arguments and a name of its own": (
        {
            "role": "assistant", "content": "",
            "tool_calls": [_call(id="call|fc_1 é", function={"name": "functions.note:0", "arguments": "", "why": [1]})],
        },
        {
            "role": "assistant", "content": "",
            "tool_calls": [_call(id="call|fc_1 é", function={"name": "functions.note:0", "arguments": "{}"})],
        },
    ),
}  # fmt: skip


def _sent(
    world: World, who: Person, messages: list[dict[str, Any]], *, stream: bool = False
) -> tuple[httpx2.Response, Script]:
    script = world.model.script(says("Tea."))
    body = {"model": "standard", "stream": stream, "messages": [{"role": "user", "content": script.task()}, *messages]}
    return world.service.call(who, "POST", "/v1/chat/completions", json=body), script


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ANSWERS)
def test_the_provider_gets_what_it_needs_of_its_answer_and_nothing_else(
    world: World, who: Person, name: str, stream: bool
) -> None:
    """fault 5"""
    message, back = ANSWERS[name]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": "done"} for call in message.get("tool_calls") or ()
    ]
    answer, script = _sent(world, who, [ASKED, message, *results], stream=stream)
    assert answer.status_code == 200, answer.text
    assert script.requests[0]["messages"][2] == back
    assert script.requests[0]["messages"][3:] == results


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_provider_adds_comes_to_the_client_and_goes_back(world: World, who: Person, stream: bool) -> None:
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
    assert sent["tool_calls"] == [{name: value for name, value in call.items() if name != "index"}]
    assert sent["reasoning_content"] == "hm"


def test_personal_data_leaves_in_none_of_it(world: World, who: Person) -> None:
    """fault 5: what is not known here is looked at all the same."""
    mail = "ada@example.com"
    answer, script = _sent(world, who, [ASKED, {
        "role": "assistant", "content": "Tea.", "reasoning_content": f"Write to {mail}.", mail: 1,
        "reasoning_details": [{"deep": {"signature": f"of {mail}", mail: [mail]}}],
        "tool_calls": [_call(extra_content={"to": mail}, function={"name": "note", "arguments": "{}", "why": mail})],
    }])  # fmt: skip
    assert answer.status_code == 200, answer.text
    sent = json.dumps(script.requests[0])
    assert mail not in sent
    assert sent.count("[email-1]") == 5


# Of messages that are no answers; what stands beside these is of no provider.
OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a person's": (
        {**ASKED, "reasoning_content": "x", "sender": "y", "content": [{"type": "text", "text": "a", "id": 1}]},
        {**ASKED, "content": [{"type": "text", "text": "a"}]},
    ),
    "a hint for a cache": (
        {"role": "system", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
        {"role": "system", "content": [{"type": "text", "text": "a"}]},
    ),
    "OpenAI's own hint": (
        {**ASKED, "content": [{"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}]},
        {**ASKED, "content": [{"type": "text", "text": "a"}]},
    ),
    "a developer's of no parts": ({"role": "developer", "content": []}, {"role": "developer", "content": ""}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_nobody_knows_in_a_message_is_dropped(world: World, who: Person, name: str) -> None:
    message, kept = OTHERS[name]
    answer, script = _sent(world, who, [message])
    assert answer.status_code == 200, answer.text
    assert script.requests[0]["messages"][1] == kept


def test_the_result_of_a_tool_goes_without_what_only_libraries_read(world: World, who: Person) -> None:
    result = {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "done"}]}
    called = {"role": "assistant", "tool_calls": [_call()]}
    answer, script = _sent(world, who, [called, {**result, "name": "a name", "artifact": None, "status": "success"}])
    assert answer.status_code == 200, answer.text
    assert script.requests[0]["messages"][2] == result


DEEP: Any = "end"
for _ in range(60):
    DEEP = [DEEP]
PART: dict[str, Any] = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
REFUSED: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "too deep": ([{"role": "assistant", "reasoning": DEEP}], "/0/reasoning", "at most 40 levels"),
    "NUL": ([{"role": "assistant", "reasoning": ["a\0b"]}], "/0/reasoning", "NUL"),
    "an id beyond reason": (
        [{"role": "assistant", "tool_calls": [_call(id="x" * 9_000)]}], "/0/tool_calls/0/id", "at most 8000",
    ),
    "an image of an answer": ([{"role": "assistant", "content": [PART]}], "/0/content", "in a user's messages only"),
    "audio": ([{**ASKED, "content": [{"type": "input_audio"}]}], "/0/content", "audio is not taken"),
    "a file": ([{**ASKED, "content": [{"type": "file"}]}], "/0/content", "files are not taken"),
    "a part of no kind": ([{**ASKED, "content": [{"type": "video"}]}], "/0/content/0", "'text', 'image_url'"),
    "a role of nobody's": ([{"role": "king", "content": "x"}], "/0", "'user'"),
    "a custom tool's call": ([{"role": "assistant", "tool_calls": [{"type": "custom"}]}], "/0/tool_calls", "custom"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_sent_is_refused_in_a_sentence(world: World, who: Person, name: str) -> None:
    messages, pointer, reason = REFUSED[name]
    answer, script = _sent(world, who, messages)
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert error["param"] == f"/messages{pointer}".replace("/0", "/1", 1)
    assert reason in error["message"]
    assert script.seen == []


def test_an_unknown_parameter_stays_refused(world: World, who: Person) -> None:
    body = {"model": "standard", "messages": [ASKED], "extra_content": {}}
    assert world.service.call(who, "POST", "/v1/chat/completions", json=body).status_code == 422


def test_the_size_of_a_request_stays_bounded(world: World, who: Person) -> None:
    answer, script = _sent(world, who, [ASKED, {"role": "assistant", "content": "x", "reasoning": "x" * 2_000_000}])
    assert answer.status_code == 413, answer.text
    assert script.seen == []


def test_the_contract_says_which_parts_take_more(world: World) -> None:
    schemas = world.service.call(None, "GET", "/openapi.json").json()["components"]["schemas"]
    for name in ("UserMessage", "AssistantMessage", "ToolCall", "CalledFunction", "ImageUrl"):
        assert schemas[name]["additionalProperties"] is True
    for name in ("Tool", "ChatCompletionCreate"):
        assert schemas[name]["additionalProperties"] is False
