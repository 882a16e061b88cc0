"""Personal data in a chat request, on its way to the provider and back. Gate: validation."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.gateway.images import is_image
from app.gateway.placeholders import Placeholders, changed_arguments

Body = dict[str, Any]
EXEMPT = frozenset({"role", "type", "strict"})  # of messages, tools, formats: the interface's words
_WORD = re.compile(r"[a-z][a-z_.]{0,40}")  # what these are: an assistant's own fields may call anything so
NAMES = frozenset({"id", "tool_call_id", "name"})  # what must match between a call, its result and its tool
SCHEMAS = frozenset({"parameters", "schema"})
SIGNATURES = frozenset({"thought_signature", "thoughtSignature", "signature", "encrypted_content", "data"})
_OPAQUE = re.compile(r"[A-Za-z0-9+/_-]{40,}={0,2}")  # base64 of something: no word and no number of anybody's
_PLAIN_KEY = re.compile(r"[a-z_]{1,40}")
SHORT_SEED = 10**7  # providers take a number here and nothing else: a longer one may be a person's, and is shortened
_MAY_BE_BEGUN = re.compile(r"\[[a-z]{0,10}(?:-[0-9]{0,6})?\Z")  # a placeholder whose end is still to come
_CONTENT, _REFUSAL = -1, -2  # texts of a choice, where its calls are numbered from 0


def hidden_chat(messages: Sequence[Body], tools: Sequence[Body], parameters: Body) -> tuple[Body, Placeholders]:
    """A request as a provider may see it, and what the placeholders in it stand for."""
    placeholders = Placeholders.beside(json.dumps([*messages, *tools, parameters], ensure_ascii=False))
    # What stays the same while a conversation grows comes first, and keeps its placeholders.
    sent = {"tools": _sent(list(tools), placeholders)} if tools else {}
    sent |= {name: _sent(value, placeholders) for name, value in parameters.items()}
    if isinstance(parameters.get("seed"), int):
        sent["seed"] = parameters["seed"] % SHORT_SEED
    return sent | {"messages": _sent(list(messages), placeholders)}, placeholders


def _sent(value: Any, placeholders: Placeholders) -> Any:
    """A part of a request, whatever is in it."""
    match value:
        case str() if is_image(value):
            return value
        case dict():
            return {_key(key, placeholders): _field(key, held, placeholders) for key, held in value.items()}
        case list():
            return [_sent(item, placeholders) for item in value]
    return placeholders.hide(value)


def _key(name: str, placeholders: Placeholders) -> str:
    return name if _PLAIN_KEY.fullmatch(name) else str(placeholders.hide(name))


def _field(name: str, held: Any, placeholders: Placeholders) -> Any:
    if isinstance(held, str) and name in NAMES:
        return placeholders.hide_name(held)
    if isinstance(held, str) and name == "arguments":
        return changed_arguments(held, placeholders.hide)
    if isinstance(held, dict) and name in SCHEMAS:
        return placeholders.hide_schema(held)
    if isinstance(held, str) and name in SIGNATURES and _OPAQUE.fullmatch(held):
        return held  # a provider's own, void unless it comes back byte for byte
    if name in EXEMPT and (isinstance(held, bool) or (isinstance(held, str) and _WORD.fullmatch(held))):
        return held
    return _sent(held, placeholders)


def shown_chat(answer: Body, placeholders: Placeholders) -> Body:
    """A whole answer with personal data back in its text and its tool calls."""
    if not placeholders.originals:
        return answer
    return {**answer, "choices": [_restored(choice, placeholders) for choice in answer["choices"]]}


def _restored(choice: Body, placeholders: Placeholders) -> Body:
    message = dict(choice.get("message") or {})
    message |= {name: placeholders.show(message[name]) for name in ("content", "refusal") if message.get(name)}
    if message.get("tool_calls"):
        message["tool_calls"] = [_shown_call(call, placeholders) for call in message["tool_calls"]]
    return {**choice, "message": message}


def _shown_call(call: Body, placeholders: Placeholders) -> Body:
    function = dict(call.get("function") or {})
    function["arguments"] = changed_arguments(function.get("arguments", ""), placeholders.show)
    if "name" in function:
        function["name"] = placeholders.show_name(function["name"])
    return {**call, "function": function}


@dataclass
class Restoring:
    """Puts personal data back into the pieces of a stream; a piece may end within a placeholder."""

    placeholders: Placeholders
    _held: dict[tuple[int, int], str] = field(default_factory=dict)  # by choice, and tool call or text

    def piece(self, piece: Body) -> Body:
        """The piece as its reader gets it. What is held back comes with a later one, at the latest with the last."""
        if not self.placeholders.originals:
            return piece
        return {**piece, "choices": [self._choice(choice) for choice in piece.get("choices") or ()]}

    def _choice(self, choice: Body) -> Body:
        number, last = int(choice.get("index") or 0), bool(choice.get("finish_reason"))
        delta = dict(choice.get("delta") or {})
        for field_name, place in (("content", _CONTENT), ("refusal", _REFUSAL)):
            text = self._given((number, place), delta.get(field_name) or "", last=last)
            if text or delta.get(field_name):
                delta[field_name] = text
        calls = [self._call(number, call) for call in delta.get("tool_calls") or ()]
        if last:
            left = [key for key in self._held if key[0] == number]
            calls += [_arguments(key[1], rest) for key in left if (rest := self._given(key, "", last=True))]
        return {**choice, "delta": delta | ({"tool_calls": calls} if calls else {})}

    def _call(self, choice: int, call: Body) -> Body:
        function = dict(call.get("function") or {})
        if "name" in function:
            function["name"] = self.placeholders.show_name(function["name"])
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
