"""What a provider is sent instead of personal data: placeholders, put back in what it answers.

A placeholder is numbered by first appearance in the conversation, which only ever grows, so every request of a run says
the same thing the same way (and a provider's prompt cache still fits). Instructions are the service's own and stay
byte for byte. Hidden characters never leave, whoever wrote them. Gate: validation.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from app.content.invisible import cleaned
from app.content.personal import KINDS, replaced

_PLACEHOLDER = re.compile(rf"\[(?:{'|'.join(KINDS)})-\d+\]")
SHORT_NUMBER = 10**8


@dataclass
class Placeholders:
    """The personal data of one request, by the placeholder that stands for it."""

    taken: frozenset[str] = frozenset()  # what looks like a placeholder and is the conversation's own text
    originals: dict[str, str] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _numbers: Counter[str] = field(default_factory=Counter)

    @classmethod
    def beside(cls, said: str) -> "Placeholders":
        """None yet, and none to come that the conversation itself could have written."""
        return cls(frozenset(_PLACEHOLDER.findall(said)))

    def hide(self, value: Any) -> Any:
        """A copy of a JSON value with every string cleaned of hidden characters and of personal data."""
        match value:
            case str():
                return replaced(cleaned(value), self._name)
            case dict():
                return {self.hide(key): self.hide(item) for key, item in value.items()}
            case list() | tuple():
                return [self.hide(item) for item in value]
            case int() if abs(value) > SHORT_NUMBER:  # a card's number is one also without quotes
                hidden_text = replaced(str(value), self._name)
                return value if hidden_text == str(value) else hidden_text
        return value

    def show(self, value: Any) -> Any:
        """The reverse, for what the provider wrote."""
        match value:
            case str():
                return _PLACEHOLDER.sub(lambda found: self.originals.get(found[0], found[0]), value)
            case dict():
                return {self.show(key): self.show(item) for key, item in value.items()}
            case list():
                return [self.show(item) for item in value]
        return value

    def show_in_json(self, text: str) -> str:
        """The reverse for a part of a JSON document, where what is put in has to be escaped."""
        return _PLACEHOLDER.sub(
            lambda found: json.dumps(self.originals[found[0]])[1:-1] if found[0] in self.originals else found[0], text
        )

    def _name(self, kind: str, value: str) -> str:
        if value not in self._names:
            name = ""
            while not name or name in self.taken:
                self._numbers[kind] += 1
                name = f"[{kind}-{self._numbers[kind]}]"
            self._names[value], self.originals[name] = name, value
        return self._names[value]


def hidden(messages: Sequence[ModelMessage]) -> tuple[list[ModelMessage], Placeholders]:
    """The conversation as a provider may see it, and what its placeholders stand for."""
    said = ModelMessagesTypeAdapter.dump_json(list(messages)).decode()
    placeholders = Placeholders.beside(said)
    return [_outgoing(message, placeholders) for message in messages], placeholders


def shown(response: ModelResponse, placeholders: Placeholders) -> ModelResponse:
    """The provider's answer with personal data back in its text and its tool calls."""
    if not placeholders.originals:
        return response
    return replace(response, parts=[_incoming(part, placeholders) for part in response.parts])


def _outgoing(message: ModelMessage, placeholders: Placeholders) -> ModelMessage:
    if isinstance(message, ModelRequest):
        return replace(message, parts=[_sent(part, placeholders) for part in message.parts])
    return replace(message, parts=[_said(part, placeholders) for part in message.parts])


def _sent(part: Any, placeholders: Placeholders) -> Any:
    match part:
        case UserPromptPart() | ToolReturnPart() | RetryPromptPart():
            return replace(part, content=_content(part.content, placeholders))
    return part


def _content(content: Any, placeholders: Placeholders) -> Any:
    if isinstance(content, (str, dict)):
        return placeholders.hide(content)
    if isinstance(content, (list, tuple)):  # of a user's parts, or of a tool's JSON: what is no text stays as it is
        return [placeholders.hide(item) if isinstance(item, (str, dict, list)) else item for item in content]
    return content


def _said(part: Any, placeholders: Placeholders) -> Any:
    match part:
        case TextPart() | ThinkingPart():
            return replace(part, content=placeholders.hide(part.content))
        case ToolCallPart():
            return replace(part, args=changed_arguments(part.args, placeholders.hide))
    return part


def _incoming(part: Any, placeholders: Placeholders) -> Any:
    match part:
        case TextPart():
            return replace(part, content=placeholders.show(part.content))
        case ToolCallPart():
            return replace(part, args=changed_arguments(part.args, placeholders.show))
    return part


def changed_arguments(args: Any, change: Any) -> Any:
    """Arguments of a tool call: JSON text is changed as JSON, and what is put in is escaped; other text as it is."""
    if not isinstance(args, str):
        return change(args)
    try:
        return json.dumps(change(json.loads(args)))
    except (ValueError, RecursionError):
        return change(args)
