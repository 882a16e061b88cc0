"""Functions as clients had them before there were tools: sent as tools, and answered as functions.

Such a client reads one call, `function_call`, and sends its result as a message of the role `function`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.content.json_pointer import json_pointer
from app.errors import RequestInvalid

Body = dict[str, Any]
NO_CALL = "the result of a function has to follow the message that called it"
NO_RESULT = "a message of the role `function` with the result has to follow"


def as_tools(functions: Sequence[Body]) -> list[Body]:
    return [{"type": "function", "function": function} for function in functions]


def as_tool_choice(choice: str | Body) -> str | Body:
    return choice if isinstance(choice, str) else {"type": "function", "function": choice}


def as_tool_messages(messages: Sequence[Body]) -> list[Body]:
    """Messages with calls of tools in the place of functions. Raises RequestInvalid for a call without its result."""
    made: list[Body] = []
    called = ""  # the id of the call whose result has to come now
    for at, message in enumerate(messages):
        is_result = message["role"] == "function"
        if is_result and not called:
            raise _misplaced(at, NO_CALL)
        if called and not is_result:
            raise _misplaced(at - 1, NO_RESULT)
        call = message.get("function_call") if not message.get("tool_calls") else None
        if is_result:
            made.append({"role": "tool", "tool_call_id": called, "content": message.get("content", "")})
            called = ""
        elif call is None:
            made.append(message)
        else:
            called = f"call_function_{at}"
            made.append({**message, "tool_calls": [{"id": called, "type": "function", "function": call}]})
    if called:
        raise _misplaced(len(messages) - 1, NO_RESULT)
    return made


def _misplaced(at: int, reason: str) -> RequestInvalid:
    return RequestInvalid(pointers=[(json_pointer("messages", at), reason)])


@dataclass
class FunctionCalls:
    """An answer with the first call of each choice in the place of its tool calls, whole or chunk by chunk."""

    _first: dict[int, int] = field(default_factory=dict)  # the index of a choice's first call

    def told(self, answer: Body) -> Body:
        return {**answer, "choices": [self._choice(choice) for choice in answer.get("choices") or ()]}

    def _choice(self, choice: Body) -> Body:
        said = "delta" if "delta" in choice else "message"
        message = {name: value for name, value in (choice.get(said) or {}).items() if name != "tool_calls"}
        for place, call in enumerate((choice.get(said) or {}).get("tool_calls") or ()):
            at = place if call.get("index") is None else call["index"]
            if at == self._first.setdefault(choice.get("index") or 0, at):
                function = call.get("function") or {}
                message["function_call"] = {name: function[name] for name in ("name", "arguments") if name in function}
        told = {**choice, said: message}
        return told | ({"finish_reason": "function_call"} if choice.get("finish_reason") == "tool_calls" else {})
