"""A chat's answer in pieces and whole: one becomes the other."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]
HEAD = ("id", "created", "model")


async def in_pieces(answer: Body) -> AsyncIterator[Body]:
    """A whole answer without tool calls, as a stream would bring it."""
    head = {name: answer[name] for name in HEAD if name in answer} | {"object": "chat.completion.chunk"}
    for choice in answer["choices"]:
        said = {"role": "assistant", "content": choice["message"].get("content") or ""}
        for delta, finish in ((said, None), ({}, choice.get("finish_reason"))):
            yield {**head, "choices": [{"index": choice.get("index", 0), "delta": delta, "finish_reason": finish}]}
    if answer.get("usage"):
        yield {**head, "choices": [], "usage": answer["usage"]}


@dataclass
class Gathered:
    """The pieces of a stream, put together."""

    head: Body = field(default_factory=dict)
    usage: Body | None = None
    said: dict[int, str] = field(default_factory=dict)
    finished: dict[int, str] = field(default_factory=dict)

    def add(self, piece: Body) -> None:
        self.head = self.head or {name: piece[name] for name in HEAD if name in piece}
        self.usage = piece.get("usage") or self.usage
        for choice in piece.get("choices") or ():
            number = choice.get("index") or 0
            self.said[number] = self.said.get(number, "") + (choice["delta"].get("content") or "")
            if finish := choice.get("finish_reason"):
                self.finished[number] = finish

    @property
    def answer(self) -> Body:
        choices = [
            {
                "index": number,
                "message": {"role": "assistant", "content": text},
                "finish_reason": self.finished.get(number),
            }
            for number, text in sorted(self.said.items())
        ]
        usage = {"usage": self.usage} if self.usage else {}
        return {**self.head, "object": "chat.completion", "choices": choices, **usage}
