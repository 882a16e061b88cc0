"""A model provider with the published rules of OpenAI's chat interface, to be run with a generated service's Python.

A request is held to the types of the `openai` package (unknown fields are refused at every level), to the parameters
that models which reason do not take, and to the order of tool calls and their results. What a conversation is answered
stands in its last user's message: `[slow]` takes 15 s, `[long]` has 6,000 tokens, `[refuse]` is an error about the
request. Else tools are called and formats filled with values that fit their schemas. `python provider.py LOG` prints
its address.
"""

import itertools
import json
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import jsonschema
from gates.rig.wire import listening, respond
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.embedding_create_params import EmbeddingCreateParams
from pydantic import TypeAdapter

Body = dict[str, Any]
REASONING = ("gpt-5", "o1", "o3", "o4")
REASONING_TOKENS = 300  # of each answer of a model that reasons; they count as output
NOT_WITH_REASONING = ("top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias")
LONG_TOKENS, SLOW_S = 6_000, 15.0
_ids = itertools.count(1)


class RefusedError(Exception):
    """What the provider answers with 400: its message, the parameter and the code."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.body = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def _closed(schema: Any) -> Any:
    """The schema with no room for fields that it does not name."""
    if isinstance(schema, dict):
        schema = {name: _closed(value) for name, value in schema.items()}
        if schema.get("type") == "object" and "properties" in schema:
            schema["additionalProperties"] = False
    elif isinstance(schema, list):
        schema = [_closed(each) for each in schema]
    return schema


CHAT = jsonschema.Draft202012Validator(_closed(TypeAdapter(CompletionCreateParamsNonStreaming).json_schema()))
EMBEDDING = jsonschema.Draft202012Validator(_closed(TypeAdapter(EmbeddingCreateParams).json_schema()))


def _require_types(validator: jsonschema.Draft202012Validator, body: Body) -> None:
    asked = {name: value for name, value in body.items() if name != "stream"}
    error = jsonschema.exceptions.best_match(validator.iter_errors(asked))
    if error is not None:
        place = ".".join(map(str, error.absolute_path))
        raise RefusedError(f"Invalid value at '{place}': {error.message[:300]}", place or None, "invalid_value")


def _require_parameters(body: Body) -> None:
    if not body["model"].startswith(REASONING):
        return
    if body.get("temperature", 1) != 1:
        told = (
            f"'temperature' does not support {body['temperature']} with this model. Only the default (1) is supported."
        )
        raise RefusedError(f"Unsupported value: {told}", "temperature", "unsupported_value")
    if "max_tokens" in body:
        told = "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        raise RefusedError(f"Unsupported parameter: {told}", "max_tokens", "unsupported_parameter")
    for name in (*NOT_WITH_REASONING, "stop"):
        if name in body:
            told = f"'{name}' is not supported with this model."
            raise RefusedError(f"Unsupported parameter: {told}", name, "unsupported_parameter")


def _require_order(messages: list[Body]) -> None:
    """Each tool call is answered right behind the message that made it, and nothing else is."""
    waiting: set[str] = set()
    for at, message in enumerate(messages):
        place = f"messages.[{at}]"
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                raise RefusedError("messages with role 'tool' must be a response to a preceding 'tool_calls'.", place)
            waiting.discard(message["tool_call_id"])
        elif waiting:
            raise RefusedError(f"tool_call_ids did not have response messages: {', '.join(sorted(waiting))}", place)
        else:
            waiting = {call["id"] for call in message.get("tool_calls") or ()}
    if waiting:
        raise RefusedError(f"tool_call_ids did not have response messages: {', '.join(sorted(waiting))}", "messages")


def _fitting(schema: Any, root: Any) -> Any:  # noqa: C901, PLR0911 - one for each kind of schema
    """A value of a schema, the simplest."""
    if "$ref" in schema:
        return _fitting(root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root)
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return _fitting(choices[0], root)
    match schema.get("type"):
        case "object" | None:
            return {name: _fitting(each, root) for name, each in schema.get("properties", {}).items()}
        case "array":
            return [_fitting(schema.get("items", {"type": "string"}), root)]
        case "integer" | "number":
            return schema.get("minimum", 7)
        case "boolean":
            return True
    return "Lisbon"


def _asked(messages: list[Body]) -> str:
    content = next((each.get("content") for each in reversed(messages) if each["role"] == "user"), "") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def _called(body: Body) -> str | None:
    """The tool to call, if one is to be called now."""
    tools = {each["function"]["name"]: each for each in body.get("tools") or () if each.get("type") == "function"}
    choice = body.get("tool_choice", "auto")
    if not tools or choice == "none":
        return None
    if isinstance(choice, dict):
        return str(choice["function"]["name"])
    if choice == "auto" and any(each["role"] == "tool" for each in body["messages"]):
        return None
    return str(next(iter(tools)))


def _message(body: Body) -> tuple[Body, int]:
    """The answer and how many tokens it has."""
    asked = _asked(body["messages"])
    if "[refuse]" in asked:
        raise RefusedError("The image at messages.[0] could not be read.", "messages", "image_parse_error")
    if name := _called(body):
        function = next(each["function"] for each in body["tools"] if each["function"]["name"] == name)
        schema = function.get("parameters") or {}
        call = {"name": name, "arguments": json.dumps(_fitting(schema, schema))}
        made = {"id": f"call_{next(_ids)}", "type": "function", "function": call}
        return {"role": "assistant", "content": None, "refusal": None, "annotations": [], "tool_calls": [made]}, 20
    form = body.get("response_format") or {}
    text = "word " * LONG_TOKENS if "[long]" in asked else "Lisbon is the capital of Portugal."
    if form.get("type") == "json_schema":
        text = json.dumps(_fitting(form["json_schema"]["schema"], form["json_schema"]["schema"]))
    elif form.get("type") == "json_object":
        text = '{"city": "Lisbon"}'
    tokens = LONG_TOKENS if "[long]" in asked else 10
    return {"role": "assistant", "content": text, "refusal": None, "annotations": []}, tokens


def _usage(body: Body, output: int, reasoning: int) -> Body:
    read = len(json.dumps(body["messages"])) // 4 + 1
    return {
        "prompt_tokens": read, "completion_tokens": output + reasoning, "total_tokens": read + output + reasoning,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    }  # fmt: skip


def _answer(body: Body) -> Body:
    _require_types(CHAT, body)
    _require_parameters(body)
    _require_order(body["messages"])
    message, output = _message(body)
    reasoning = REASONING_TOKENS if body["model"].startswith(REASONING) else 0
    most = body.get("max_completion_tokens") or body.get("max_tokens") or 1_000_000
    cut = reasoning + output > most
    if cut:
        reasoning, output = min(reasoning, most), max(0, most - reasoning)
        message = {**message, "content": "word " * output, "tool_calls": None}
    message = {name: value for name, value in message.items() if name != "tool_calls" or value}
    reason = "length" if cut else "tool_calls" if "tool_calls" in message else "stop"
    choices = [
        {"index": at, "message": message, "logprobs": None, "finish_reason": reason} for at in range(body.get("n") or 1)
    ]
    return {
        "id": f"chatcmpl-{next(_ids)}", "object": "chat.completion", "created": int(time.time()),
        "model": body["model"], "choices": choices, "usage": _usage(body, output * len(choices), reasoning),
        "service_tier": "default", "system_fingerprint": None,
    }  # fmt: skip


def _pieces(answer: Body, body: Body) -> Iterator[Body]:
    head = {name: answer[name] for name in ("id", "created", "model", "service_tier", "system_fingerprint")}
    head["object"] = "chat.completion.chunk"
    counted = {"usage": None} if (body.get("stream_options") or {}).get("include_usage") else {}

    def piece(at: int, delta: Body, reason: str | None = None) -> Body:
        choice = {"index": at, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**head, "choices": [choice], **counted}

    for choice in answer["choices"]:
        at, message = choice["index"], choice["message"]
        yield piece(at, {"role": "assistant", "content": "", "refusal": None})
        for number, call in enumerate(message.get("tool_calls", ())):
            function, text = call["function"], call["function"]["arguments"]
            yield piece(at, {"tool_calls": [{"index": number, **call, "function": {**function, "arguments": ""}}]})
            for part in (text[:5], text[5:]):
                yield piece(at, {"tool_calls": [{"index": number, "function": {"arguments": part}}]})
        text = message.get("content") or ""
        size = max(7, len(text) // 60)
        yield from (piece(at, {"content": text[begin : begin + size]}) for begin in range(0, len(text), size))
        yield piece(at, {}, choice["finish_reason"])
    if counted:
        yield {**head, "choices": [], "usage": answer["usage"]}


def _send(request: BaseHTTPRequestHandler, raw: bytes) -> tuple[Body, int]:
    body = json.loads(raw or b"{}")
    if request.headers.get("Authorization") != "Bearer sk-provider":
        told = {"error": {"message": "Incorrect API key", "type": "invalid_request_error", "code": "invalid_api_key"}}
        return told, 401
    if request.path.endswith("/embeddings"):
        _require_types(EMBEDDING, body)
        count = len(body["input"]) if isinstance(body["input"], list) else 1
        data = [{"object": "embedding", "index": at, "embedding": [0.1, 0.2, 0.3]} for at in range(count)]
        usage = {"prompt_tokens": 5 * count, "total_tokens": 5 * count}
        return {"object": "list", "data": data, "model": body["model"], "usage": usage}, 200
    if not request.path.endswith("/chat/completions"):
        told = {"error": {"message": f"Unknown request URL: {request.path}", "type": "invalid_request_error"}}
        return told, 404
    answer = _answer(body)
    slow = SLOW_S if "[slow]" in _asked(body["messages"]) else 0.0
    if not body.get("stream"):
        time.sleep(slow)
        return answer, 200
    pieces = list(_pieces(answer, body))
    request.send_response(200)
    request.send_header("Content-Type", "text/event-stream; charset=utf-8")
    request.send_header("Connection", "close")
    request.end_headers()
    request.close_connection = True
    for each in pieces:
        request.wfile.write(b"data: " + json.dumps(each).encode() + b"\n\n")
        request.wfile.flush()
        time.sleep(slow / len(pieces))
    request.wfile.write(b"data: [DONE]\n\n")
    return answer, 0


def main(log: Path) -> None:
    def handle(request: BaseHTTPRequestHandler, raw: bytes) -> None:
        try:
            told, status = _send(request, raw)
        except RefusedError as error:
            told, status = error.body, 400
        with log.open("a") as file:
            file.write(
                json.dumps({"path": request.path, "status": status or 200, "asked": raw.decode(), "told": told}) + "\n"
            )
        if status:
            respond(request, status, json.dumps(told).encode(), "application/json")

    with listening(handle) as address:
        print(f"{address}/v1", flush=True)
        while True:
            time.sleep(3_600)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
