"""A chat's request said in the Responses interface, and what its client reads in the answer: for proofs of both."""

import json
from collections.abc import Callable
from typing import Any

import httpx2

from gates.rig.chats import Chatted
from gates.rig.people import Person
from gates.rig.provider import Body, Script
from gates.rig.world import World

PATH = "/v1/responses"
LAST = {"response.completed", "response.incomplete", "response.failed"}
AS_IN_CHATS = ("model", "stream", "temperature", "user", "metadata")
Asks = Callable[..., Chatted]  # `chats.asked_chat` or `asked_response`


def asked_response(
    world: World,
    who: Person,
    script: Script,
    *,
    stream: bool = False,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> Chatted:
    """`more` are parameters of the chat interface; there is one answer alone."""
    chat = {"model": "standard", "messages": [{"role": "user", "content": script.task()}], "stream": stream, **more}
    answer = world.service.call(who, "POST", PATH, json=as_response(chat), headers=headers or {})
    if "event-stream" in answer.headers.get("content-type", ""):
        return _streamed(answer)
    body = answer.json()
    code = (body.get("error") or {}).get("code", "")
    made = Chatted(answer.status_code, dict(answer.headers), code=code, body=body)
    for item in body.get("output", ()):
        made.arguments += item.get("arguments", "")
        made.tools += [item["name"]] if item["type"] == "function_call" else []
        made.text += "".join(part.get("text", "") for part in item.get("content", ()))
    return made


def as_response(chat: Body) -> Body:
    """The body for this interface that says what a chat's body says."""
    most = [chat[name] for name in ("max_tokens", "max_completion_tokens") if name in chat]
    asked: Body = {name: chat[name] for name in AS_IN_CHATS if name in chat}
    asked |= {"max_output_tokens": min(most)} if most else {}
    asked |= {"tools": [{"type": "function", **tool["function"]} for tool in chat["tools"]]} if "tools" in chat else {}
    asked |= {"tool_choice": {"type": "function", **chat["tool_choice"]["function"]}} if "tool_choice" in chat else {}
    if "response_format" in chat:
        asked["text"] = {"format": {"type": "json_schema", **chat["response_format"]["json_schema"]}}
    first, *others = chat["messages"]
    if first["role"] == "system" and others:  # as its clients send what a conversation begins with
        asked["instructions"], chat = first["content"], {**chat, "messages": others}
    return asked | {"input": [item for message in chat["messages"] for item in _items(message)]}


def _items(message: Body) -> list[Body]:
    content = message.get("content")
    if message["role"] == "tool":
        return [{"type": "function_call_output", "call_id": message["tool_call_id"], "output": content}]
    calls = [
        {"type": "function_call", "call_id": call["id"], "status": "completed", **call["function"]}
        for call in message.get("tool_calls", ())
    ]
    texts = [content] if isinstance(content, str) else [part["text"] for part in content or ()]
    if message["role"] == "assistant":
        parts: list[Body] = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
        parts += [{"type": "refusal", "refusal": message["refusal"]}] if "refusal" in message else []
        return [{"type": "message", "id": "msg_1", "role": "assistant", "content": parts}, *calls]
    return [{"role": message["role"], "content": [{"type": "input_text", "text": text} for text in texts]}]


def events_of(answer: httpx2.Response) -> list[Body]:
    """The events of a stream, each under its own name."""
    events = []
    for event in answer.text.split("\n\n")[:-1]:
        name, data = event.splitlines()
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}", name
    return events


def _streamed(answer: httpx2.Response) -> Chatted:
    made = Chatted(answer.status_code, dict(answer.headers))
    events = events_of(answer)
    for event in events:
        if event["type"] == "response.output_text.delta":
            made.text += event["delta"]
        if event["type"] == "response.function_call_arguments.delta":
            made.arguments += event["delta"]
        if event["type"] == "response.output_item.added" and event["item"]["type"] == "function_call":
            made.tools.append(event["item"]["name"])
        if event["type"] == "error":
            made.code = event["code"]
    if not events or events[-1]["type"] not in LAST:
        made.code = made.code or "cut off"
    return made
