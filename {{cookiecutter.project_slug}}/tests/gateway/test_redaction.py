"""What leaves for a provider holds no personal data in any of its fields, and comes back whole (fault 36)."""

import json
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai.messages import (
    DocumentUrl,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryFeedbackPart,
    RetryInfo,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.tools import ToolDefinition

from app.gateway.chat_redaction import Restoring, hidden_chat, shown_chat
from app.gateway.placeholders import Placeholders
from app.gateway.redaction import hidden, shown

MAIL, SSN, CARD = "ada@mail.example", "536-90-4399", "4111111111111111"


class _Customer(BaseModel):
    mail: str


def _chat_of(value: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    name = f"note-{SSN}"
    call = {
        "id": f"call-{SSN}",
        "type": "function",
        "function": {"name": name, "arguments": json.dumps({value: value})},
    }
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": f"For {value}."},
        {"role": "user", "name": f"n-{SSN}", "content": [{"type": "text", "text": value}]},
        {"role": "assistant", "refusal": f"Not for {value}.", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"call-{SSN}", "content": value},
    ]
    schema = {"type": "object", "required": [SSN], "properties": {SSN: {"type": "string", "description": value}}}
    tools = [{"type": "function", "function": {"name": name, "description": value, "parameters": schema}}]
    choice = {"type": "function", "function": {"name": name}}
    format_ = {"type": "json_schema", "json_schema": {"name": f"f-{SSN}", "schema": {"title": value}}}
    return messages, tools, {"tool_choice": choice, "response_format": format_, "stop": [value], "seed": int(CARD)}


def test_no_field_of_a_chat_request_holds_personal_data() -> None:
    """fault 36: a list of fields that are looked at, instead of a list of exemptions."""
    sent, _ = hidden_chat(*_chat_of(MAIL))
    for value in (MAIL, SSN, CARD):
        assert value not in json.dumps(sent)
    assert [message["role"] for message in sent["messages"]] == ["system", "user", "assistant", "tool"]
    assert isinstance(sent["seed"], int)


def test_an_exempt_name_is_exempt_for_the_interfaces_own_words_alone() -> None:
    """fault 36: an assistant's message may have fields of any name, as deep as its provider likes."""
    held = {"role": MAIL, "type": CARD, "strict": int(CARD)}
    message = {"role": "assistant", "content": "x", "extra": {"google": [held, {"type": "thinking", "strict": True}]}}
    sent, _ = hidden_chat([message], [], {})
    for value in (MAIL, CARD):
        assert value not in json.dumps(sent)
    assert sent["messages"][0]["extra"]["google"][1] == {"type": "thinking", "strict": True}


def test_what_must_match_in_a_chat_request_still_matches() -> None:
    sent, _ = hidden_chat(*_chat_of(MAIL))
    [call] = sent["messages"][2]["tool_calls"]
    assert call["id"] == sent["messages"][3]["tool_call_id"] == "call-ssn-1"
    function = sent["tools"][0]["function"]
    assert function["name"] == call["function"]["name"] == sent["tool_choice"]["function"]["name"] == "note-ssn-1"
    assert function["parameters"]["required"] == list(function["parameters"]["properties"]) == ["ssn-1"]


def test_a_chat_answer_comes_back_with_the_names_that_its_client_knows() -> None:
    sent, placeholders = hidden_chat(*_chat_of(MAIL))
    name = sent["tools"][0]["function"]["name"]
    function = {"name": name, "arguments": json.dumps({"ssn-1": "to [email-1]"})}
    message = {"content": "[email-1]", "refusal": "no [email-1]", "tool_calls": [{"id": "c", "function": function}]}
    answer = shown_chat({"choices": [{"message": message}]}, placeholders)["choices"][0]["message"]
    [call] = answer["tool_calls"]
    assert (answer["content"], answer["refusal"]) == (MAIL, f"no {MAIL}")
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == (f"note-{SSN}", {SSN: f"to {MAIL}"})
    restoring = Restoring(placeholders)
    pieces = [{"refusal": "no [ema"}, {"refusal": "il-1]", "tool_calls": [{"index": 0, "function": {"name": name}}]}]
    read = [restoring.piece({"choices": [{"index": 0, "delta": delta}]})["choices"][0]["delta"] for delta in pieces]
    assert "".join(delta["refusal"] for delta in read) == f"no {MAIL}"
    assert read[1]["tool_calls"][0]["function"]["name"] == f"note-{SSN}"


def _conversation() -> list[Any]:
    call = ToolCallPart(f"note-{SSN}", {MAIL: [float(CARD), {"a": CARD}]}, f"call-{SSN}")
    return [
        ModelRequest([SystemPromptPart("Serve."), UserPromptPart([MAIL, DocumentUrl(f"https://files.example/{MAIL}")])]),
        ModelResponse([TextPart(MAIL), ThinkingPart(MAIL), call]),
        ModelRequest([
            ToolReturnPart(f"note-{SSN}", _Customer(mail=MAIL), f"call-{SSN}"),
            ToolReturnPart(f"note-{SSN}", [Decimal(CARD), (MAIL,)], f"call-{SSN}"),
            RetryFeedbackPart(f"{MAIL}: {CARD}", retry=RetryInfo(cause="validation_error", attempt=1, max_retries=2)),
        ]),
    ]  # fmt: skip


def _tools() -> ModelRequestParameters:
    schema = {"type": "object", "properties": {SSN: {"enum": [MAIL], "description": MAIL}}}
    tool = ToolDefinition(name=f"note-{SSN}", parameters_json_schema=schema, description=f"For {MAIL}.")
    return ModelRequestParameters(function_tools=[tool], output_tools=[tool])


def test_no_part_of_an_agents_conversation_holds_personal_data() -> None:
    """fault 36: numbers as fractions, keys, names, addresses of files, objects of tools."""
    messages, tools, _ = hidden(_conversation(), _tools())
    told = ModelMessagesTypeAdapter.dump_json(messages).decode() + repr(tools)
    for value in (MAIL, SSN, CARD, "4.111111111111111e"):
        assert value not in told
    assert {part.tool_name for message in messages for part in message.parts if hasattr(part, "tool_name")} == {
        tools.function_tools[0].name
    }


def test_a_tool_is_called_by_its_own_name_and_with_its_own_arguments() -> None:
    _, tools, placeholders = hidden(_conversation(), _tools())
    [tool] = tools.function_tools
    answer = ModelResponse([ToolCallPart(tool.name, {"ssn-1": "[email-1]"}, "c"), TextPart("[email-1]")])
    call, text = shown(answer, placeholders).parts
    assert isinstance(call, ToolCallPart)
    assert isinstance(text, TextPart)
    assert (call.tool_name, call.args, text.content) == (f"note-{SSN}", {SSN: MAIL}, MAIL)


def test_what_is_not_personal_is_sent_as_it_is() -> None:
    said: list[Any] = [
        ModelRequest([UserPromptPart("Order 12 of 2026-11-23")]),
        ModelResponse([ToolCallPart("note", '{"a":1}', "c1")]),
    ]
    tools = ModelRequestParameters(
        function_tools=[ToolDefinition(name="note", parameters_json_schema={"type": "object"}, description="Notes.")]
    )
    messages, sent, _ = hidden(said, tools)
    assert (messages, sent) == (said, tools)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"phone": 4155550123}, False), ({"nhs_number": "9434765919"}, False), ({"password": "hunter2"}, False),
        ({"count": 4155550123}, True), ({"total": 9434765919}, True), ({"password": "string"}, True),
        ({"ratio": 1e300}, True), ({"nothing": float("inf")}, True), ({"flag": True}, True),
        ({"raw": b"4111111111111111"}, True),
    ],
)  # fmt: skip
def test_the_name_of_a_field_says_what_is_in_it(value: dict[str, Any], kept: bool) -> None:
    assert (Placeholders().hide(value) == value) is kept


def test_placeholders_are_none_that_the_conversation_has_itself() -> None:
    messages, _, placeholders = hidden(
        [ModelRequest([UserPromptPart(f"[email-1] email-2 {MAIL}")])], ModelRequestParameters()
    )
    assert "[email-3]" in str(messages)
    assert placeholders.originals == {"[email-3]": MAIL}
