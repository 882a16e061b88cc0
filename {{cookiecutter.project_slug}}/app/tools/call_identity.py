"""Which call of a tool is which: by its turn of the conversation, its place in the turn and the id it was given.

Providers promise an id that is unique within one message only, and some give none. Everything behind this (records,
approvals, results) goes by the id alone, so an id that was used before is replaced as the answer comes in.
Gate: security, errors.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart

from app.content.tool_arguments import NO_ARGUMENTS, says_nothing

_PLAIN = re.compile(
    r"[\x21-\x2e\x30-\x7e]{1,100}"
)  # without the slash, which parts a delegate's calls from its caller's
_LONGEST = 100


def plain_id(call_id: str) -> str:
    """The provider's id of a call, or its digest where a record could not hold the id itself."""
    return call_id if _PLAIN.fullmatch(call_id) else _digest(call_id)


def record_id(prefix: str, call_id: str) -> str:
    """The id under which a run records a call; `prefix` is that of the delegate which made it."""
    path = prefix + plain_id(call_id)
    return path if len(path) <= _LONGEST else "/" + _digest(path)


def distinct(messages: Sequence[ModelMessage], response: ModelResponse) -> ModelResponse:
    """The answer with tool calls that are told apart from each other and from every earlier one in `messages`.

    The same answer to the same conversation gives the same ids: a segment that is replayed finds its records again.
    Arguments that say nothing are none."""
    taken = {plain_id(part.tool_call_id) for part in calls_of(messages)}
    turn = sum(isinstance(message, ModelResponse) for message in messages)
    parts = list(response.parts)
    for place, part in enumerate(parts):
        if isinstance(part, ToolCallPart):
            call_id = part.tool_call_id
            while not call_id or plain_id(call_id) in taken:
                call_id = "call_" + _digest(f"{turn}:{place}:{call_id}")[:24]
            taken.add(plain_id(call_id))
            arguments: Any = NO_ARGUMENTS if says_nothing(part.args) else part.args
            parts[place] = replace(part, tool_call_id=call_id, args=arguments)
    return replace(response, parts=parts)


def calls_of(messages: Sequence[ModelMessage]) -> Iterator[ToolCallPart]:
    """Every tool call of a conversation, in order."""
    responses = (message for message in messages if isinstance(message, ModelResponse))
    return (part for response in responses for part in response.parts if isinstance(part, ToolCallPart))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
