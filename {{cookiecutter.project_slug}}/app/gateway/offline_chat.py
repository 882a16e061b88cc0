"""The offline models behind OpenAI's interface: the answers that an agent gets, in that interface's shape.

It keeps to what a request asks of an answer's form, as the interface's reference describes it: `response_format`,
`tool_choice`, `max_completion_tokens` and `n`. A forced tool is called each time it is forced; one that nobody forces
is called once for each thing a person says.
"""

import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any
from uuid import uuid4

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.tools import ToolDefinition

from app.gateway.offline import Turn, called, planned, read, usage_of
from app.gateway.offline_embeddings import embedded
from app.gateway.offline_values import fill, fitting
from app.gateway.refusals import RequestRefused

Body = dict[str, Any]
CHARACTERS_PER_TOKEN = 4  # about, in English
MOST_PLACES = 20  # of a text, where a schema may begin
_WORD = re.compile(r"\s*\S+|\s+")
_ARGUMENTS = re.compile(r"(?s).{1,16}")


class OfflineChat:
    """Raises RequestRefused for a tool that is forced and not offered, as a provider would."""

    async def whole(self, body: Body) -> Body:
        messages = _read(body["messages"])
        part = _next_part(body, read(messages))
        message, finish = _limited(part, body.get("max_completion_tokens"))
        count = body.get("n", 1)
        choices = [{"index": n, "message": message, "finish_reason": finish} for n in range(count)]
        used = usage_of(messages, part)
        written = min(used.output_tokens, body.get("max_completion_tokens") or used.output_tokens) * count
        usage = {
            "prompt_tokens": used.input_tokens,
            "completion_tokens": written,
            "total_tokens": used.input_tokens + written,
        }
        return {**_head(body, "chat.completion"), "choices": choices, "usage": usage}

    @asynccontextmanager
    async def stream(self, body: Body) -> AsyncGenerator[AsyncIterator[Body]]:
        yield self._pieces(body, await self.whole(body))

    async def embed(self, body: Body) -> Body:
        return await embedded(body)

    async def _pieces(self, body: Body, answer: Body) -> AsyncIterator[Body]:
        head = _head(body, "chat.completion.chunk")
        for choice in answer["choices"]:
            for delta in _deltas(choice["message"]):
                yield {**head, "choices": [{"index": choice["index"], "delta": delta, "finish_reason": None}]}
            finish = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
            yield {**head, "choices": [finish]}
        yield {**head, "choices": [], "usage": answer["usage"]}


def _deltas(message: Body) -> Iterator[Body]:
    """A text word by word; of a call first what it calls, then its arguments in parts."""
    calls = message.get("tool_calls") or []
    yield {"role": "assistant", "content": None if calls else ""}
    for word in _WORD.findall(message["content"] or ""):
        yield {"content": word}
    for at, call in enumerate(calls):
        function = call["function"]
        yield {"tool_calls": [{"index": at, **call, "function": {**function, "arguments": ""}}]}
        for part in _ARGUMENTS.findall(function["arguments"]):
            yield {"tool_calls": [{"index": at, "function": {"arguments": part}}]}


def _head(body: Body, kind: str) -> Body:
    return {"id": f"chatcmpl-{uuid4().hex}", "object": kind, "created": int(time.time()), "model": body["model"]}


def _next_part(body: Body, turn: Turn) -> ToolCallPart | TextPart:
    tools = [tool["function"] for tool in body.get("tools", [])]
    offered = [ToolDefinition(name=f["name"], parameters_json_schema=f.get("parameters") or {}) for f in tools]
    match body.get("tool_choice"):
        case "none":
            tool = None
        case "required":
            uncalled = [tool for tool in offered if tool.name not in turn.called]
            tool = (
                planned(turn, offered) or next(iter(uncalled or offered), None) or _refuse(body, "no tool is offered")
            )
        case {"function": {"name": name}}:
            tool = next((tool for tool in offered if tool.name == name), None) or _refuse(body, f"no tool {name!r}")
        case _:
            tool = planned(turn, offered)
    return called(turn, tool) if tool else TextPart(_text_in(body.get("response_format") or {}, turn, body["messages"]))


def _refuse(body: Body, reason: str) -> ToolDefinition:
    error = {"message": f"Invalid value for 'tool_choice': {reason}.", "param": "tool_choice", "code": "invalid_value"}
    raise RequestRefused(400, body["model"], json.dumps({"error": error}))


def _text_in(form: Body, turn: Turn, messages: list[Body]) -> str:
    match form.get("type"):
        case "json_schema":
            schema = (form.get("json_schema") or {}).get("schema")
            return json.dumps(fitting(schema if isinstance(schema, dict) else {"type": "object"}, turn.facts))
        case "json_object":
            schema = next(filter(None, (_schema_in(_text(message.get("content"))) for message in messages)), None)
            return json.dumps(fill(schema, turn.facts) if schema else {"answer": turn.facts.summary()})
    return turn.facts.summary()


def _schema_in(text: str) -> Body | None:
    """The schema that a prompt asks an answer to follow, as libraries do where a provider takes none of its own."""
    for begin in islice(re.finditer(r"\{", text), MOST_PLACES):
        try:
            found, _ = json.JSONDecoder().raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            continue
        return found if isinstance(found.get("properties"), dict) else None
    return None


def _limited(part: ToolCallPart | TextPart, most_tokens: int | None) -> tuple[Body, str]:
    """The message, cut off where it is longer than asked for, and why it ends."""
    whole = part.content if isinstance(part, TextPart) else part.args_as_json_str()
    text = whole[: most_tokens * CHARACTERS_PER_TOKEN] if most_tokens else whole
    is_cut = len(text) < len(whole)
    if isinstance(part, TextPart):
        return {"role": "assistant", "content": text}, "length" if is_cut else "stop"
    call = {"id": part.tool_call_id, "type": "function", "function": {"name": part.tool_name, "arguments": text}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}, "length" if is_cut else "tool_calls"


def _read(messages: list[Body]) -> list[ModelMessage]:
    names: dict[str, str] = {}  # of the tools that were called, by the id of the call
    return [_message(message, names) for message in messages]


def _message(message: Body, names: dict[str, str]) -> ModelMessage:
    text = _text(message.get("content"))
    match message["role"]:
        case "assistant":
            calls = [
                ToolCallPart(call["function"]["name"], call["function"]["arguments"], tool_call_id=call.get("id") or "")
                for call in message.get("tool_calls") or ()
            ]
            names |= {call.tool_call_id: call.tool_name for call in calls}
            return ModelResponse(parts=[*([TextPart(text)] if text else []), *calls])
        case "tool":
            called_by = message.get("tool_call_id") or ""
            return ModelRequest(parts=[ToolReturnPart(names.get(called_by, "tool"), text, tool_call_id=called_by)])
        case "user":
            return ModelRequest(parts=[UserPromptPart(text)])
    return ModelRequest(parts=[SystemPromptPart(text)])


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content or ())
