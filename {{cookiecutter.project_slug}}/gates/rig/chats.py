"""A chat request as a client makes it, whole or streamed, and what the client reads in the answer."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx2

from gates.rig.people import Person
from gates.rig.provider import Body, Script
from gates.rig.world import World

PATH = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "note", "parameters": {"type": "object"}}}


@dataclass
class Chatted:
    """What a client of the interface made of an answer."""

    status: int
    headers: dict[str, str]
    text: str = ""
    arguments: str = ""
    tools: list[str] = field(default_factory=list)  # that the client is to call
    code: str = ""  # of the error, wherever it came
    body: Body = field(default_factory=dict)


def asked_chat(
    world: World,
    who: Person,
    script: Script,
    *,
    stream: bool = False,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> Chatted:
    asked = {"model": "standard", "messages": [{"role": "user", "content": script.task()}], "stream": stream, **more}
    answer = world.service.call(who, "POST", PATH, json=asked, headers=headers or {})
    if "event-stream" in answer.headers.get("content-type", ""):
        return _streamed(answer)
    body = answer.json()
    made = Chatted(answer.status_code, dict(answer.headers), code=body.get("error", {}).get("code", ""), body=body)
    for choice in body.get("choices", ()):
        made.text += choice["message"].get("content") or ""
        for call in choice["message"].get("tool_calls") or ():
            made.arguments += call["function"]["arguments"]
            made.tools.append(call["function"]["name"])
    return made


def _streamed(answer: httpx2.Response) -> Chatted:
    made = Chatted(answer.status_code, dict(answer.headers))
    for line in answer.text.splitlines():
        if not line.startswith("data: {"):
            continue
        piece = json.loads(line.removeprefix("data: "))
        made.code = piece.get("error", {}).get("code", made.code)
        for choice in piece.get("choices", ()):
            made.text += choice["delta"].get("content") or ""
            for call in choice["delta"].get("tool_calls") or ():
                made.arguments += call["function"].get("arguments") or ""
                made.tools += [call["function"]["name"]] if call["function"].get("name") else []
    if not answer.text.rstrip().endswith("data: [DONE]"):
        made.code = made.code or "cut off"
    return made
