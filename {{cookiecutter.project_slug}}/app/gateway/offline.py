"""The offline model: deterministic, free, and labelled as what it is.

It holds a real conversation over the same interface as a provider: it plans tool calls from the
words of the task, reads their results, and answers in the agent's output type. It understands
nothing: use it to see and test everything around a model, never to judge answers.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage

from app.gateway.offline_values import Facts, fill

READING = ("search", "find", "list", "get", "look", "read", "check")
SYNONYMS = {
    "search": ("search", "find", "look up", "look for", "check", "duplicate"),
    "create": ("create", "open", "file", "raise", "add", "log"),
    "delete": ("delete", "remove", "purge"),
    "notify": ("notify", "tell", "alert", "inform", "webhook"),
    "update": ("update", "change", "edit"),
    "send": ("send", "email", "mail"),
}
_WORD_OF_NAME = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")  # create_ticket, create-ticket, createTicket
_TASK = re.compile(r"<task>\n(.*?)\n</task>", re.DOTALL)
_DOCUMENT = re.compile(r'<document name="([^"]*)">\n(.*?)\n</document>', re.DOTALL)


@dataclass(frozen=True)
class Turn:
    """What has happened so far: the request, the calls made and what came back."""

    facts: Facts
    called: tuple[str, ...]  # since the last person spoke
    calls: int  # in the whole conversation
    last_was_rejected: bool


async def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Answer one request as a provider would: one tool call at a time, then the typed output."""
    part = _next_part(read(messages), info)
    return ModelResponse(parts=[part], usage=usage_of(messages, part))


def usage_of(messages: list[ModelMessage], part: ToolCallPart | TextPart) -> RequestUsage:
    """About a token for four characters, as English has it with the usual tokenizers."""
    sent = sum(len(str(part.content)) for m in messages if isinstance(m, ModelRequest) for part in _texts(m))
    written = len(part.args_as_json_str()) if isinstance(part, ToolCallPart) else len(part.content)
    return RequestUsage(input_tokens=sent // 4 + 40, output_tokens=written // 4 + 8)


async def stream_reply(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    """Plain text in pieces; typed answers and tool calls are not streamed offline."""
    response = await reply(messages, info)
    for part in response.parts:
        if isinstance(part, TextPart):
            for word in part.content.split(" "):
                yield word + " "


def _next_part(turn: Turn, info: AgentInfo) -> ToolCallPart | TextPart:
    tool = None if turn.last_was_rejected else planned(turn, info.function_tools)
    if tool is not None:
        return called(turn, tool)
    if info.output_tools:
        output = info.output_tools[0]
        return ToolCallPart(output.name, fill(output.parameters_json_schema, turn.facts), tool_call_id="call_output")
    return TextPart(turn.facts.summary())


def called(turn: Turn, tool: ToolDefinition) -> ToolCallPart:
    # The id is derived from the conversation, so a replay after a crash names the same call.
    call_id = f"call_{turn.calls + 1}_{tool.name}"
    return ToolCallPart(tool.name, fill(tool.parameters_json_schema, turn.facts), tool_call_id=call_id)


def planned(turn: Turn, tools: list[ToolDefinition]) -> ToolDefinition | None:
    """The next tool the task asks for: reading first, then in the order in which it is asked."""
    task = turn.facts.task.lower()
    wanted = []
    for tool in tools:
        verb, *others = [word.lower() for word in _WORD_OF_NAME.findall(tool.name)] or [tool.name.lower()]
        noun = others[-1].rstrip("s") if others else ""  # of `get_current_weather` the weather
        positions = [
            task.find(word) for word in SYNONYMS.get(verb, (verb,)) if re.search(rf"\b{re.escape(word)}", task)
        ]
        reads = verb in READING
        if positions or (reads and noun and noun in task):
            wanted.append((0 if reads else 1, min(positions, default=0), tool.name, tool))
    for *_order, tool in sorted(wanted, key=lambda item: item[:3]):
        if tool.name not in turn.called:
            return tool
    return None


def read(messages: list[ModelMessage]) -> Turn:
    task, documents, calls = "", [], 0
    called: list[str] = []
    results: list[tuple[str, Any]] = []
    rejected = False
    for message in messages:
        if isinstance(message, ModelResponse):
            made = [part.tool_name for part in message.parts if isinstance(part, ToolCallPart)]
            called, calls = called + made, calls + len(made)
            continue
        for part in message.parts:
            match part:
                case UserPromptPart(content=str() as text):
                    found = _TASK.search(text)
                    task = found[1] if found else text
                    documents = _DOCUMENT.findall(text)
                    called = []
                case ToolReturnPart():
                    results.append((part.tool_name, part.content))
                    rejected = False
                case RetryPromptPart():
                    results.append((part.tool_name or "answer", "rejected as invalid"))
                    rejected = True
    return Turn(Facts(task, tuple(documents), tuple(results)), tuple(called), calls, rejected)


def _texts(message: ModelRequest) -> list[Any]:
    return [part for part in message.parts if hasattr(part, "content")]
