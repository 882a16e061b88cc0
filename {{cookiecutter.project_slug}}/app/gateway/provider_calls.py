"""Arguments of the tool calls in a provider's answer: text of a JSON object, in which no arguments are an empty one.

Models call a tool without arguments as null, as nothing or not at all; clients parse what they get. Gate: errors.
"""

from dataclasses import dataclass, field
from typing import Any

from app.content.tool_arguments import NO_ARGUMENTS, says_nothing

Body = dict[str, Any]


def with_arguments(message: Body) -> Body:
    """A whole message, as `provider_json` has read it."""
    if not message.get("tool_calls"):
        return message
    return {**message, "tool_calls": [_with_arguments(call) for call in message["tool_calls"]]}


def _with_arguments(call: Body) -> Body:
    function = call.get("function")
    if function is None or not says_nothing(function.get("arguments")):
        return call
    return {**call, "function": {**function, "arguments": NO_ARGUMENTS}}


@dataclass
class StreamedArguments:
    """The same for a stream, where arguments come in parts: what may become null is held back until it has not."""

    _held: dict[tuple[int, int], str | None] = field(
        default_factory=dict
    )  # by choice and call; None: they say something

    def chunk(self, chunk: Body) -> Body:
        """A chunk, as `provider_json` has read it; with a choice's last one its calls are complete."""
        return {**chunk, "choices": [self._choice(choice) for choice in chunk["choices"]]}

    def _choice(self, choice: Body) -> Body:
        number, delta = choice["index"], choice["delta"]
        calls = [self._call((number, _index(call, at)), call) for at, call in enumerate(delta.get("tool_calls") or ())]
        if choice.get("finish_reason"):
            ends = sorted((key[1], held) for key, held in self._held.items() if key[0] == number and held is not None)
            calls += [{"index": at, "function": {"arguments": _complete(held)}} for at, held in ends]
            self._held = {key: held for key, held in self._held.items() if key[0] != number}
        return {**choice, "delta": {**delta, "tool_calls": calls}} if calls else choice

    def _call(self, key: tuple[int, int], call: Body) -> Body:
        function = call.get("function")
        if function is None:
            return call
        held = self._held.setdefault(key, "")
        text = function.get("arguments") or ""
        if held is not None:
            text, self._held[key] = self._passed(held + text)
        return {**call, "function": {**function, "arguments": text}}

    @staticmethod
    def _passed(text: str) -> tuple[str, str | None]:
        """What is passed on of arguments that have said nothing so far, and what is held back."""
        return ("", text) if "null".startswith(text.strip()) else (text, None)


def _index(call: Body, place: int) -> int:
    return place if call.get("index") is None else int(call["index"])


def _complete(held: str) -> str:
    return NO_ARGUMENTS if says_nothing(held) else held
