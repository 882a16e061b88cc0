"""Personal data in a chat request, on its way to the provider and back. Gate: validation."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.gateway.redaction import Placeholders, changed_arguments

Body = dict[str, Any]
MESSAGE = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "refusal"})
CALL, FUNCTION = frozenset({"id", "type", "function"}), frozenset({"name", "arguments"})
SIGNATURES = frozenset({"thought_signature", "thoughtSignature", "signature", "encrypted_content", "data"})
_OPAQUE = re.compile(r"[A-Za-z0-9+/_-]{40,}={0,2}")  # base64 of something: no word and no number of anybody's
WORDED = ("response_format", "stop")  # parameters with words in them
_MAY_BE_BEGUN = re.compile(r"\[[a-z]{0,10}(?:-[0-9]{0,6})?\Z")  # a placeholder whose end is still to come


def hidden_chat(messages: Sequence[Body], tools: Sequence[Body], parameters: Body) -> tuple[Body, Placeholders]:
    """A request as a provider may see it, and what the placeholders in it stand for."""
    placeholders = Placeholders.beside(json.dumps([*messages, *tools, parameters], ensure_ascii=False))
    sent = {**parameters, "messages": [_sent(message, placeholders) for message in messages]}
    sent |= {name: placeholders.hide(parameters[name]) for name in WORDED if name in parameters}
    if tools:
        sent["tools"] = [_described(tool, placeholders) for tool in tools]
    return sent, placeholders


def _sent(message: Body, placeholders: Placeholders) -> Body:
    sent = _unknown_hidden(message, MESSAGE, placeholders)
    match message.get("content"):
        case str() as text:
            sent["content"] = placeholders.hide(text)
        case list() as parts:
            sent["content"] = [{**part, "text": placeholders.hide(part["text"])} for part in parts]
    if message.get("tool_calls"):
        sent["tool_calls"] = [_call_sent(call, placeholders) for call in message["tool_calls"]]
    return sent


def _call_sent(call: Body, placeholders: Placeholders) -> Body:
    sent = _unknown_hidden(_with_arguments(call, placeholders.hide), CALL, placeholders)
    return {**sent, "function": _unknown_hidden(sent["function"], FUNCTION, placeholders)}


def _unknown_hidden(part: Body, known: frozenset[str], placeholders: Placeholders) -> Body:
    """A part of an answer that is sent back, with the fields that only its provider knows as the provider may see them.

    A signature of the provider's own stays byte for byte: it is void otherwise."""
    return {
        name if name in known else str(placeholders.hide(name)): value
        if name in known
        else _hidden(name, value, placeholders)
        for name, value in part.items()
    }


def _hidden(name: str, value: Any, placeholders: Placeholders) -> Any:
    match value:
        case str() if name in SIGNATURES and _OPAQUE.fullmatch(value):
            return value
        case dict():
            return {placeholders.hide(key): _hidden(key, item, placeholders) for key, item in value.items()}
        case list():
            return [_hidden(name, item, placeholders) for item in value]
    return placeholders.hide(value)


def _described(tool: Body, placeholders: Placeholders) -> Body:
    function = tool["function"]
    told = {name: placeholders.hide(function[name]) for name in ("description", "parameters") if name in function}
    return {**tool, "function": {**function, **told}}


def _with_arguments(call: Body, change: Any) -> Body:
    function = call.get("function") or {}
    return {**call, "function": {**function, "arguments": changed_arguments(function.get("arguments", ""), change)}}


def shown_chat(answer: Body, placeholders: Placeholders) -> Body:
    """A whole answer with personal data back in its text and its tool calls."""
    if not placeholders.originals:
        return answer
    return {**answer, "choices": [_restored(choice, placeholders) for choice in answer["choices"]]}


def _restored(choice: Body, placeholders: Placeholders) -> Body:
    message = dict(choice.get("message") or {})
    message |= {name: placeholders.show(message[name]) for name in ("content", "refusal") if message.get(name)}
    if message.get("tool_calls"):
        message["tool_calls"] = [_with_arguments(call, placeholders.show) for call in message["tool_calls"]]
    return {**choice, "message": message}


@dataclass
class Restoring:
    """Puts personal data back into the pieces of a stream; a piece may end within a placeholder."""

    placeholders: Placeholders
    _held: dict[tuple[int, int], str] = field(default_factory=dict)  # by choice, and tool call or -1 for its text

    def piece(self, piece: Body) -> Body:
        """The piece as its reader gets it. What is held back comes with a later one, at the latest with the last."""
        if not self.placeholders.originals:
            return piece
        return {**piece, "choices": [self._choice(choice) for choice in piece.get("choices") or ()]}

    def _choice(self, choice: Body) -> Body:
        number, last = int(choice.get("index") or 0), bool(choice.get("finish_reason"))
        delta = dict(choice.get("delta") or {})
        text = self._given((number, -1), delta.get("content") or "", last=last)
        if text or "content" in delta:
            delta["content"] = text
        calls = [self._call(number, call) for call in delta.get("tool_calls") or ()]
        if last:
            left = [key for key in self._held if key[0] == number]
            calls += [_arguments(key[1], rest) for key in left if (rest := self._given(key, "", last=True))]
        return {**choice, "delta": delta | ({"tool_calls": calls} if calls else {})}

    def _call(self, choice: int, call: Body) -> Body:
        function = dict(call.get("function") or {})
        if "arguments" in function:
            key = (choice, int(call.get("index") or 0))
            function["arguments"] = self._given(key, function["arguments"] or "", last=False)
        return {**call, "function": function}

    def _given(self, key: tuple[int, int], text: str, *, last: bool) -> str:
        text = self._held.pop(key, "") + text
        if not last and (begun := _MAY_BE_BEGUN.search(text)):
            self._held[key], text = text[begun.start() :], text[: begun.start()]
        return self.placeholders.show(text) if key[1] < 0 else self.placeholders.show_in_json(text)


def _arguments(index: int, text: str) -> Body:
    return {"index": index, "function": {"arguments": text}}
