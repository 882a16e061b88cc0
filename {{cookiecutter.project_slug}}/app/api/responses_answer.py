"""A chat's answer as the Responses interface has it: its events while it is written, and the response they add up to.

One piece or many, whole or streamed: the same code reads both, so both say the same. Gate: errors.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from pydantic_ai.usage import RequestUsage

from app.api.responses_request import ResponseCreate
from app.gateway.provider_json import REASONING, dearer, usage_of

Body = dict[str, Any]
PartKind = Literal["output_text", "refusal"]
CUT_SHORT = {"length": "max_output_tokens", "content_filter": "content_filter"}  # by a chat's finish_reason


@dataclass
class Part:
    kind: PartKind
    text: str = ""
    logprobs: list[Body] = field(default_factory=list)

    @property
    def body(self) -> Body:
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": self.text}
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": self.logprobs}


@dataclass
class Message:
    parts: list[Part] = field(default_factory=list)
    id: str = field(default_factory=lambda: f"msg_{uuid4().hex}")

    def body(self, status: str) -> Body:
        content = [part.body for part in self.parts]
        return {"id": self.id, "type": "message", "role": "assistant", "status": status, "content": content}


@dataclass
class Call:
    call_id: str
    name: str
    arguments: str = ""
    id: str = field(default_factory=lambda: f"fc_{uuid4().hex}")

    def body(self, status: str) -> Body:
        called = {"call_id": self.call_id, "name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function_call", "status": status, **called}


class ResponseDraft:
    """A response that is being written. Each method gives the events of what it adds.

    Items stay open to the end: a later piece may still have a part of any of them, as calls are made side by side and
    what may be a placeholder's beginning is held back."""

    def __init__(self, asked: ResponseCreate) -> None:
        self._head = _head(asked)
        self._model = ""
        self._items: list[Message | Call] = []
        self._message: Message | None = None
        self._calls: dict[int, Call] = {}  # by the chat interface's number
        self._choice: int | None = None
        self._finish = ""
        self._usage: RequestUsage | None = None
        self._number = -1

    def whole(self, answer: Body, model: str) -> Body:
        """The response for an answer that came in one piece, from a model of this name unless it says another."""
        events = [*self.add({**answer, "choices": [_as_delta(answer["choices"][0])]}, model), *self.end(model)]
        response: Body = events[-1]["response"]
        return response

    def add(self, piece: Body, model: str) -> Iterator[Body]:
        """Read a piece of an answer: of its choices the first one there is, as no more are asked for."""
        yield from self._begun(piece.get("model") or model)
        told = usage_of(piece)
        self._usage = told if self._usage is None else dearer(self._usage, told)
        for choice in piece.get("choices") or ():
            number = choice.get("index") or 0
            self._choice = number if self._choice is None else self._choice
            if number == self._choice:
                self._finish = choice.get("finish_reason") or self._finish
                yield from self._said(choice.get("delta") or {}, _logprobs(choice))

    def end(self, model: str) -> Iterator[Body]:
        """The end of the answer. The last event has the whole response."""
        yield from self._begun(model)
        if not self._items:
            yield from self._text("output_text", "", [])
        status = "incomplete" if self._finish in CUT_SHORT else "completed"
        for at, item in enumerate(self._items):
            yield from self._closed(at, item, status)
        details = {"reason": CUT_SHORT[self._finish]} if status == "incomplete" else None
        response = self._response(status, incomplete_details=details, completed_at=int(time.time()))
        yield self._event(f"response.{status}", response=response)

    def fail(self, told: Body) -> Iterator[Body]:
        """The end of an answer that broke off; `told` is the error in OpenAI's words."""
        yield self._event("error", **{name: told[name] for name in ("code", "message", "param")})
        error = {"code": "server_error", "message": told["message"]}
        yield self._event("response.failed", response=self._response("failed", error=error))

    def _begun(self, model: Any) -> Iterator[Body]:
        if not self._model:
            self._model = str(model)
            for kind in ("response.created", "response.in_progress"):
                yield self._event(kind, response=self._response("in_progress"))

    def _said(self, delta: Body, logprobs: list[Body]) -> Iterator[Body]:
        if text := delta.get("content"):
            yield from self._text("output_text", text, logprobs)
        if text := delta.get("refusal"):
            yield from self._text("refusal", text, [])
        for place, call in enumerate(delta.get("tool_calls") or ()):
            yield from self._called(place if call.get("index") is None else call["index"], call)

    def _text(self, kind: PartKind, text: str, logprobs: list[Body]) -> Iterator[Body]:
        if self._message is None:
            self._message = Message()
            yield self._added(self._message)
        message = self._message
        place = {"item_id": message.id, "output_index": self._items.index(message)}
        if all(part.kind != kind for part in message.parts):
            message.parts.append(Part(kind))
            index = len(message.parts) - 1
            yield self._event("response.content_part.added", **place, content_index=index, part=Part(kind).body)
        [(index, part)] = [(index, part) for index, part in enumerate(message.parts) if part.kind == kind]
        part.text += text
        part.logprobs += logprobs
        if text:
            extra = {"logprobs": logprobs} if kind == "output_text" else {}
            yield self._event(f"response.{kind}.delta", **place, content_index=index, delta=text, **extra)

    def _called(self, number: int, told: Body) -> Iterator[Body]:
        function = told.get("function") or {}
        call = self._calls.get(number)
        if call is None:
            # Some providers leave the id out, and a result needs one to belong to.
            call = Call(told.get("id") or f"call_{uuid4().hex}", function.get("name") or "")
            self._calls[number] = call
            yield self._added(call)
        call.name = call.name or function.get("name") or ""
        if text := function.get("arguments"):
            call.arguments += text
            place = {"item_id": call.id, "output_index": self._items.index(call)}
            yield self._event("response.function_call_arguments.delta", **place, delta=text)

    def _added(self, item: Message | Call) -> Body:
        self._items.append(item)
        at = len(self._items) - 1
        return self._event("response.output_item.added", output_index=at, item=item.body("in_progress"))

    def _closed(self, at: int, item: Message | Call, status: str) -> Iterator[Body]:
        place = {"item_id": item.id, "output_index": at}
        if isinstance(item, Call):
            done = {"name": item.name, "arguments": item.arguments}
            yield self._event("response.function_call_arguments.done", **place, **done)
        else:
            for index, part in enumerate(item.parts):
                said: Body = {"refusal": part.text}
                if part.kind == "output_text":
                    said = {"text": part.text, "logprobs": part.logprobs}
                yield self._event(f"response.{part.kind}.done", **place, content_index=index, **said)
                yield self._event("response.content_part.done", **place, content_index=index, part=part.body)
        yield self._event("response.output_item.done", output_index=at, item=item.body(status))

    def _event(self, kind: str, **fields: Any) -> Body:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **fields}

    def _response(self, status: str, **fields: Any) -> Body:
        of_items = "incomplete" if status == "failed" else status
        output = [] if status == "in_progress" else [item.body(of_items) for item in self._items]
        usage = _usage(self._usage) if self._usage is not None and status != "in_progress" else None
        known = {"status": status, "model": self._model, "output": output, "usage": usage}
        unless = {"error": None, "incomplete_details": None, "completed_at": None}
        return {**self._head, **known, **unless, **fields}


def _head(asked: ResponseCreate) -> Body:
    """What is known of a response before it is written: who it is, and what was asked for."""
    said = asked.model_dump(exclude_none=True, by_alias=True)
    as_asked = ("instructions", "max_output_tokens", "temperature", "top_p", "user", "safety_identifier")
    return {
        "id": f"resp_{uuid4().hex}", "object": "response", "created_at": int(time.time()), "background": False,
        **{name: said.get(name) for name in as_asked},
        "previous_response_id": None, "prompt_cache_key": said.get("prompt_cache_key"),
        "metadata": said.get("metadata", {}), "store": False, "service_tier": "default", "truncation": "disabled",
        "tools": [tool.model_dump() for tool in asked.tools or ()], "tool_choice": said.get("tool_choice", "auto"),
        "parallel_tool_calls": said.get("parallel_tool_calls", True), "top_logprobs": said.get("top_logprobs", 0),
        "text": {"format": {"type": "text"}} | said.get("text", {}),
        "reasoning": {"effort": said.get("reasoning", {}).get("effort"), "summary": None},
    }  # fmt: skip


def _as_delta(choice: Body) -> Body:
    return {**choice, "delta": choice["message"]}


def _usage(used: RequestUsage) -> Body:
    of_input = {"cached_tokens": used.cache_read_tokens, "cache_write_tokens": used.cache_write_tokens}
    return {
        "input_tokens": used.input_tokens,
        "input_tokens_details": of_input,
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"reasoning_tokens": used.details.get(REASONING, 0)},
        "total_tokens": used.input_tokens + used.output_tokens,
    }


def _logprobs(choice: Body) -> list[Body]:
    """Of the tokens of a text, where they are what the interface says: this is the one part nobody has read yet."""
    told = choice.get("logprobs")
    tokens = _tokens(told.get("content")) if isinstance(told, dict) else []
    return [_logprob(each) | {"top_logprobs": [*map(_logprob, _tokens(each.get("top_logprobs")))]} for each in tokens]


def _logprob(token: Body) -> Body:
    raw = token.get("bytes")
    return {"token": token["token"], "logprob": token["logprob"], "bytes": raw if isinstance(raw, list) else []}


def _tokens(told: Any) -> list[Body]:
    objects = [each for each in (told if isinstance(told, list) else ()) if isinstance(each, dict)]
    return [
        each for each in objects if isinstance(each.get("token"), str) and isinstance(each.get("logprob"), int | float)
    ]
