"""Somebody at the Responses interface; what they get is held to the `openai` package's own types."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx2
import openai
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from gates.rig.formats import Reply
from gates.rig.people import Person
from gates.rig.plain_http import PLAIN
from gates.rig.provider import Script
from gates.rig.responses import PATH, events_of
from gates.rig.world import MODEL, World, models

MAIL = "ada@example.com"
# Each test looks at one failure; and there is something that the model does not take.
CATALOGUE = models("attempts = 1\nbreaker_faults = 1000\n").replace(
    "context_tokens", 'not_taken = ["verbosity"], context_tokens'
)
TOOL = {
    "type": "function", "name": "send_mail", "strict": True, "description": f"Writes to {MAIL}.",
    "parameters": {"type": "object", "properties": {"to": {"type": "string", "default": MAIL}}},
}  # fmt: skip
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
OURS = {"store", "name", "bytes"}  # fields that the interface has and this version of the package does not know


@dataclass
class Desk:
    world: World
    who: Person
    client: openai.OpenAI

    def script(self, *answers: Any) -> Script:
        return self.world.model.script(*answers)

    def post(self, body: dict[str, Any]) -> httpx2.Response:
        return self.world.service.call(self.who, "POST", PATH, json={"model": "standard", **body})

    def whole(self, *answers: Any, **more: Any) -> tuple[dict[str, Any], Script]:
        script = self.script(*answers)
        answer = self.post({"input": script.task(), **more})
        assert answer.status_code == 200, answer.text
        response: dict[str, Any] = answer.json()
        _require_known(Response.model_validate(response))
        return response, script

    def streamed(self, *answers: Any, **more: Any) -> list[dict[str, Any]]:
        answer = self.post({"input": self.script(*answers).task(), "stream": True, **more})
        assert answer.status_code == 200, answer.text
        events = events_of(answer)
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        for event in events:
            read = EVENT.validate_python(event)
            assert read.type == event["type"]
            _require_known(read)
        return events

    def spent(self) -> Decimal:
        return Decimal(self.world.service.call(self.who, "GET", "/v1/usage").json()["cost_usd"])


@contextmanager
def desk_in(world: World) -> Iterator[Desk]:
    [who] = world.people(["probe_chatter"])
    with httpx2.Client(**PLAIN) as plain:
        url = f"{world.service.base_url}/v1"
        yield Desk(world, who, openai.OpenAI(base_url=url, api_key=who.key, max_retries=0, http_client=plain))


def _require_known(read: BaseModel) -> None:
    """Every field, at any depth, is one of the interface's."""
    assert set(read.model_extra or ()) <= OURS, read.model_extra
    for name in type(read).model_fields:
        value = getattr(read, name)
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, BaseModel):
                _require_known(inner)


def timeless(value: Any) -> Any:
    """The same without what is another in each response: its ids and its times."""
    match value:
        case dict():
            named = {"id", "item_id", "created_at", "completed_at"}
            return {name: timeless(inner) for name, inner in value.items() if name not in named}
        case list():
            return [timeless(inner) for inner in value]
    return value


def chunks(deltas: list[dict[str, Any]], **more: Any) -> Reply:
    """A stream of these deltas; `more` stands beside each."""
    pieces = [
        {"model": MODEL, "choices": [{"index": 0, "delta": delta, "finish_reason": None, **more}]} for delta in deltas
    ]
    pieces.append({"model": MODEL, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    raw = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n"
    return Reply(raw=raw.encode(), media_type="text/event-stream")
