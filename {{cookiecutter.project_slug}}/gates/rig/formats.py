"""The OpenAI chat-completions and Anthropic messages formats, whole and streamed, of one wire-neutral reply."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Wire = Literal["openai", "anthropic"]


@dataclass(frozen=True)
class Reply:
    """What the provider answers: text, tool calls as (id, name, arguments as JSON text), or a failure."""

    text: str | None = None
    calls: tuple[tuple[str, str, str], ...] = ()
    usage: tuple[int, int] | None = (12, 5)  # input and output tokens; None leaves them out
    finish: Literal["", "length", "refusal"] = ""
    model: str = "stub"
    status: int = 200
    error_kind: str = "stub"
    retry_after: str = ""
    raw: bytes | None = None  # sent as it is
    media_type: str = "application/json"  # of `raw`
    fault: Literal["", "hang", "drip", "endless", "die"] = ""
    seconds: float = 30  # how long a fault lasts at most
    delay: float = 0  # before a good answer


def whole(wire: Wire, reply: Reply) -> bytes:
    return json.dumps(_openai(reply) if wire == "openai" else _anthropic(reply)).encode()


def error(wire: Wire, reply: Reply) -> bytes:
    told = {"message": reply.text, "type": reply.error_kind, "code": reply.error_kind}
    body = {"error": told} if wire == "openai" else {"type": "error", "error": told}
    return json.dumps(body).encode()


def stream(wire: Wire, reply: Reply, request: dict[str, Any]) -> list[bytes]:
    """The reply as server-sent events, one element an event."""
    make: Callable[[Reply, dict[str, Any]], list[bytes]] = _openai_events if wire == "openai" else _anthropic_events
    return make(reply, request)


def _openai(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.calls:
        message["tool_calls"] = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for call_id, name, arguments in reply.calls
        ]
    if reply.finish == "refusal":
        message["content"], message["refusal"] = None, reply.text
    choice = {"index": 0, "message": message, "finish_reason": _openai_finish(reply)}
    head = {"id": "completion", "object": "chat.completion", "created": 1, "model": reply.model}
    return head | {"choices": [choice]} | ({"usage": _openai_usage(reply.usage)} if reply.usage else {})


def _openai_finish(reply: Reply) -> str:
    if reply.finish == "length":
        return "length"
    return "tool_calls" if reply.calls else "stop"


def _openai_usage(usage: tuple[int, int]) -> dict[str, int]:
    return {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}


def _openai_events(reply: Reply, request: dict[str, Any]) -> list[bytes]:
    head = {"id": "completion", "object": "chat.completion.chunk", "created": 1, "model": reply.model}

    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return _data({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    events = [event({"role": "assistant", "content": ""})]
    events += [event({"content": piece}) for piece in _pieces(reply.text or "")]
    for index, (call_id, name, arguments) in enumerate(reply.calls):
        function = {"name": name, "arguments": arguments}
        call = {"index": index, "id": call_id, "type": "function", "function": function}
        events.append(event({"tool_calls": [call]}))
    events.append(event({}, _openai_finish(reply)))
    if reply.usage and (request.get("stream_options") or {}).get("include_usage"):
        events.append(_data({**head, "choices": [], "usage": _openai_usage(reply.usage)}))
    return [*events, b"data: [DONE]\n\n"]


def _anthropic(reply: Reply) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": reply.text}] if reply.text else []
    content += [
        {"type": "tool_use", "id": call_id, "name": name, "input": _object(arguments)}
        for call_id, name, arguments in reply.calls
    ]
    body: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": reply.model}
    body |= {"content": content, "stop_reason": _anthropic_stop(reply), "stop_sequence": None}
    return body | ({"usage": _anthropic_usage(reply.usage)} if reply.usage else {})


def _anthropic_stop(reply: Reply) -> str:
    reasons = {"length": "max_tokens", "refusal": "refusal", "": "tool_use" if reply.calls else "end_turn"}
    return reasons[reply.finish]


def _anthropic_usage(usage: tuple[int, int]) -> dict[str, int]:
    return {"input_tokens": usage[0], "output_tokens": usage[1]}


def _anthropic_events(reply: Reply, _request: dict[str, Any]) -> list[bytes]:
    message = {**_anthropic(reply), "content": [], "stop_reason": None}
    events = [_named("message_start", message=message)]
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if reply.text:
        deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(reply.text)]
        blocks.append(({"type": "text", "text": ""}, deltas))
    for call_id, name, arguments in reply.calls:
        start = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
        blocks.append((start, [{"type": "input_json_delta", "partial_json": arguments}]))
    for index, (start, deltas) in enumerate(blocks):
        events.append(_named("content_block_start", index=index, content_block=start))
        events += [_named("content_block_delta", index=index, delta=delta) for delta in deltas]
        events.append(_named("content_block_stop", index=index))
    ending: dict[str, Any] = {"delta": {"stop_reason": _anthropic_stop(reply), "stop_sequence": None}}
    if reply.usage:
        ending["usage"] = {"output_tokens": reply.usage[1]}
    return [*events, _named("message_delta", **ending), _named("message_stop")]


def _object(arguments: str) -> dict[str, Any]:
    """This format has no place for broken JSON: what is no object becomes a field of one."""
    try:
        value = json.loads(arguments)
    except ValueError:
        value = arguments
    return value if isinstance(value, dict) else {"value": value}


def _pieces(text: str) -> list[str]:
    return [text[start : start + 8] for start in range(0, len(text), 8)]


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _named(event: str, **fields: Any) -> bytes:
    return f"event: {event}\n".encode() + _data({"type": event, **fields})
