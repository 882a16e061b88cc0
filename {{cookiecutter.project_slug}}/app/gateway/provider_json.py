"""Reading what a provider of the OpenAI-compatible interface answers, in one strict place.

Whatever JSON comes, whole or in chunks, ends as an object that can be written as JSON again, of the shape that the rest
of the gateway relies on, or as UnexpectedModelBehavior. A provider's number is believed only as far as its others bear
it out: of counts that do not add up, the dearer reading is booked. Gate: errors, cost.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Literal, TypeVar

from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.messages import ModelResponse
from pydantic_ai.usage import RequestUsage

from app.gateway.provider_calls import with_arguments

REASONING = "reasoning_tokens"  # of a usage's details: the part of its output that no text shows
Body = dict[str, Any]
Read = TypeVar("Read", bound=Any)
MAX_CHOICE = 127
_MAY_BE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def answer_of(raw: bytes | bytearray) -> Body:
    """A whole answer. Raises UnexpectedModelBehavior for what is none, or has no choices."""
    answer = object_of(raw)
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise UnexpectedModelBehavior("an answer without choices")
    return {**answer, "choices": [_choice(choice, "message", at) for at, choice in enumerate(choices)]}


def chunk_of(raw: str) -> Body:
    """A chunk of a streamed answer. One that says nothing is a chunk as well: content filters and usage come in such.

    Raises UnexpectedModelBehavior."""
    chunk = object_of(raw)
    choices = chunk.get("choices")
    if not isinstance(choices, list | None):
        raise UnexpectedModelBehavior("choices that are no list")
    return {**chunk, "choices": [_choice(choice, "delta", 0) for choice in choices or ()]}


def usage_of(answer: Mapping[str, Any]) -> RequestUsage | None:
    """The tokens an answer was billed for; None where the provider does not say both counts.

    What a provider counts outside of its completion is output all the same (`total - prompt`, a part larger than the
    whole). Input that was read from a cache, or written to one, has a price of its own; where more was cached than
    sent, it was counted beside what was sent."""
    told = answer.get("usage")
    if not isinstance(told, dict):
        return None
    prompt, completion = _count(told.get("prompt_tokens")), _count(told.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    of_input = _parts(told, "prompt_tokens_details")
    read, written = of_input.get("cached_tokens", 0), of_input.get("cache_write_tokens", 0)
    prompt = prompt + read + written if read + written > prompt else max(prompt, *of_input.values(), 0)
    parts = _parts(told, "completion_tokens_details")
    reasoning = parts.pop(REASONING, 0)
    outside = sum(part for part in parts.values() if part > completion)
    beside = reasoning if reasoning > completion else 0
    output = max(completion + outside + beside, (_count(told.get("total_tokens")) or 0) - prompt)
    unseen = max(output - completion - outside, 0 if beside else reasoning)
    return RequestUsage(
        input_tokens=prompt,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=written,
        details={REASONING: unseen} if unseen else {},
    )


def usage_of_embeddings(answer: Mapping[str, Any]) -> RequestUsage | None:
    """The tokens that vectors were billed for, all of them input; None where the provider says no count."""
    told = answer.get("usage")
    counts = [_count(told.get(name)) for name in ("prompt_tokens", "total_tokens")] if isinstance(told, dict) else []
    known = [count for count in counts if count is not None]
    return RequestUsage(input_tokens=max(known)) if known else None


def dearer(known: RequestUsage, told: RequestUsage | None) -> RequestUsage:
    """Of two reports about one answer what costs more: a stream may say its usage more than once."""
    if told is None:
        return known
    of_input = told if told.input_tokens >= known.input_tokens else known
    of_output = told if told.output_tokens >= known.output_tokens else known
    return RequestUsage(
        input_tokens=of_input.input_tokens,
        output_tokens=of_output.output_tokens,
        cache_read_tokens=of_input.cache_read_tokens,
        cache_write_tokens=of_input.cache_write_tokens,
        details=of_output.details,
    )


def writable_response(response: ModelResponse) -> ModelResponse:
    """An answer that a provider's own library has read, without what no encoding can write."""
    return _writable_fields(replace(response, parts=[_writable_fields(part) for part in response.parts]))


def _writable_fields(read: Read) -> Read:
    texts = {field.name: getattr(read, field.name) for field in fields(read) if field.init and field.name != "parts"}
    changed = {
        name: new for name, old in texts.items() if isinstance(old, str | dict) and (new := _writable(old)) != old
    }
    return replace(read, **changed) if changed else read


def object_of(raw: bytes | bytearray | str) -> Body:
    """Any answer as a JSON object that can be written again. Raises UnexpectedModelBehavior."""
    text = raw if isinstance(raw, str) else raw.decode("utf-8", "replace")
    try:
        # Python reads NaN and Infinity, and numbers beyond a float as infinity: JSON has no way to write them.
        found = json.loads(text, parse_constant=lambda _: None, parse_float=_finite)
        if _MAY_BE_SURROGATE.search(text):
            found = _writable(found)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnexpectedModelBehavior("not a JSON object")
    return found


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _writable(value: Any) -> Any:
    """Without halves of surrogate pairs, which no encoding has a place for."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {_writable(key): _writable(item) for key, item in value.items()}
        case list():
            return [_writable(item) for item in value]
    return value


def _choice(choice: Any, said: Literal["message", "delta"], at: int) -> Body:
    if not isinstance(choice, dict):
        raise UnexpectedModelBehavior("a choice that is no object")
    told: Any = choice.get(said)
    if said == "delta" and told in (None, "", []):
        told = {}
    index = at if choice.get("index") is None else choice["index"]
    if not _is_index(index) or not isinstance(choice.get("finish_reason"), str | None) or not _is_said(told):
        raise UnexpectedModelBehavior("a choice of another shape")
    return {**choice, "index": index, said: with_arguments(told) if said == "message" else told}


def _is_said(told: Any) -> bool:
    if not isinstance(told, dict):
        return False
    if not all(isinstance(told.get(name), str | None) for name in ("role", "content", "refusal")):
        return False
    calls = told.get("tool_calls")
    return calls is None or (isinstance(calls, list) and all(map(_is_call, calls)))


def _is_call(call: Any) -> bool:
    if not isinstance(call, dict) or not (call.get("index") is None or _is_index(call["index"])):
        return False
    function = call.get("function")
    return isinstance(call.get("id"), str | None) and (
        function is None
        or (isinstance(function, dict) and all(isinstance(function.get(n), str | None) for n in ("name", "arguments")))
    )


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_CHOICE


def _count(value: Any) -> int | None:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole and not isinstance(value, bool) and value >= 0 else None


def _parts(told: Mapping[str, Any], group: str) -> dict[str, int]:
    """The counts that a usage gives as parts of another."""
    details = told.get(group)
    if not isinstance(details, dict):
        return {}
    return {name: count for name, value in details.items() if (count := _count(value)) is not None}
