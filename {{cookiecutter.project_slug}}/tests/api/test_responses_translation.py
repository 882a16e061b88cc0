"""What becomes of each item and each field of a Responses request on its way to the chat interface."""

from typing import Any

import pytest

from app.api.responses_request import ResponseCreate
from app.api.responses_translation import chat_request
from app.gateway.cache import CachePolicy
from app.gateway.chat_request import ChatRequest


def _request(**asked: Any) -> ChatRequest:
    return chat_request(ResponseCreate.model_validate({"model": "standard", "input": "x", **asked}), CachePolicy())


def _said(role: str, *texts: str) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text} for text in texts]}


def _call(call_id: str, **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "note", "arguments": "{}", **more}


def _result(call_id: str, output: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def _calling(*call_ids: str, **more: Any) -> dict[str, Any]:
    function = {"name": "note", "arguments": "{}"}
    calls = [{"id": call_id, "type": "function", "function": function} for call_id in call_ids]
    return {"role": "assistant", **more, "tool_calls": calls}


def _tool(call_id: str, content: Any = "done") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


USER = {"role": "user", "content": "x"}
TEXTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}
CONVERSATIONS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "a message without a type": ([{"role": "user", "content": "x"}], [USER]),
    "each role": (
        [{"role": role, "content": "x"} for role in ("system", "developer", "user", "assistant")],
        [{"role": role, "content": "x"} for role in ("system", "developer", "user", "assistant")],
    ),
    "several parts": ([_said("user", "a", "b")], [{"role": "user", "content": TEXTS}]),
    "no part": ([_said("assistant")], [{"role": "assistant", "content": ""}]),
    "a refusal": (
        [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
        [{"role": "assistant", "content": "", "refusal": "no"}],
    ),
    "what else stands in an item": (
        [{**_said("assistant", "a"), "id": "msg_1", "status": "completed", "phase": "final_answer", "x": [1]}],
        [{"role": "assistant", "content": "a"}],
    ),
    "calls beside each other": (
        [_call("1", id="fc_1", status="completed"), REASONING, _call("2"), _result("1"), _result("2")],
        [_calling("1", "2"), _tool("1"), _tool("2")],
    ),
    "calls with what was said before": (
        [REASONING, _said("assistant", "I will."), _call("1"), _result("1")],
        [_calling("1", content="I will."), _tool("1")],
    ),
    "calls after each other": (
        [_call("1"), _result("1"), _call("2"), _result("2")], [_calling("1"), _tool("1"), _calling("2"), _tool("2")],
    ),
    "a call and what is said after": (
        [_call("1"), _said("assistant", "Wait."), _said("user", "x"), _result("1")],
        [_calling("1"), _tool("1"), {"role": "assistant", "content": "Wait."}, USER],
    ),
    "results in another order": (
        [_call("1"), _call("2"), _result("2"), _result("1")], [_calling("1", "2"), _tool("1"), _tool("2")],
    ),
    "an id that comes again": (
        [_call("1"), _result("1", "a"), _said("user", "x"), _call("1"), _result("1", "a")],
        [_calling("1"), _tool("1", "a"), USER, _calling("1"), _tool("1", "a")],
    ),
    "a result of no call": ([_result("9"), _said("user", "x")], [_tool("9"), USER]),
    "a result in parts": (
        [_call("1"), _result("1", [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}])],
        [_calling("1"), _tool("1", TEXTS)],
    ),
    "no arguments": ([_call("1", arguments="null"), _result("1")], [_calling("1"), _tool("1")]),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_becomes_a_chat_s(name: str) -> None:
    items, messages = CONVERSATIONS[name]
    assert _request(input=items).messages == messages


def test_instructions_come_first() -> None:
    messages = _request(instructions="Be kind.", input=[{"role": "developer", "content": "Be brief."}]).messages
    assert [message["role"] for message in messages] == ["system", "developer"]


def test_tools_are_a_chat_s() -> None:
    flat = {"type": "function", "name": "note", "parameters": {"type": "object", "default": None}, "strict": True}
    request = _request(tools=[flat], tool_choice={"type": "function", "name": "note"}, parallel_tool_calls=False)
    function = {"name": "note", "parameters": {"type": "object", "default": None}, "strict": True}
    assert request.tools == [{"type": "function", "function": function}]
    assert request.parameters["tool_choice"] == {"type": "function", "function": {"name": "note"}}
    assert request.parameters["parallel_tool_calls"] is False


FORM = {"name": "x", "schema": {"type": "object"}, "strict": True}
SCHEMA = {"type": "json_schema", **FORM}
PARAMETERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a form": (
        {"text": {"format": SCHEMA, "verbosity": "low"}},
        {
            "response_format": {"type": "json_schema", "json_schema": FORM},
            "verbosity": "low",
        },
    ),
    "any object": ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
    "text": ({"text": {"format": {"type": "text"}}}, {}),
    "reasoning": ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
    "sampling": ({"temperature": 0.0, "top_p": 0.5}, {"temperature": 0.0, "top_p": 0.5}),
    "a word for tools": ({"tool_choice": "required"}, {"tool_choice": "required"}),
    "logprobs": ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
    "the likeliest tokens": ({"top_logprobs": 2}, {"top_logprobs": 2, "logprobs": True}),
    "what is left out": (
        {
            "include": ["reasoning.encrypted_content"], "store": True, "metadata": {"a": "b"}, "user": "u",
            "safety_identifier": "u", "prompt_cache_key": "k", "prompt_cache_retention": "24h", "service_tier": "auto",
            "truncation": "auto", "stream_options": {"include_obfuscation": False}, "background": False,
        },
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_has_a_chat_s_name_or_is_left_out(name: str) -> None:
    asked, parameters = PARAMETERS[name]
    assert _request(**asked).parameters == parameters


def test_the_length_of_an_answer_is_a_chat_s() -> None:
    assert _request(max_output_tokens=20).max_tokens == 20
