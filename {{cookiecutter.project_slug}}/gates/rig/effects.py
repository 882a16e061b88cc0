"""The back end of the probe's tools: what arrives here has happened, whatever the service says about it."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from gates.rig.wire import listening, respond


@dataclass(frozen=True)
class Effect:
    tool: str
    arguments: dict[str, Any]
    tenant_id: str
    member_id: str
    permissions: frozenset[str]  # the authority the tool was called with
    run_id: str
    idempotency_key: str
    arrived: float = 0.0  # by this host's monotonic clock


@dataclass
class Effects:
    url: str = ""
    happened: list[Effect] = field(default_factory=list)
    on_arrival: Callable[[Effect], None] | None = None

    def of(self, run_id: str) -> list[Effect]:
        return [effect for effect in self.happened if effect.run_id == run_id]

    def handle(self, request: BaseHTTPRequestHandler, raw: bytes) -> None:
        told = json.loads(raw)
        arrived = time.monotonic()
        effect = Effect(**{**told, "permissions": frozenset(told["permissions"]), "arrived": arrived})
        if self.on_arrival is not None:
            self.on_arrival(effect)
        self.happened.append(effect)
        respond(request, 200, b"{}", "application/json")


@contextmanager
def effects() -> Iterator[Effects]:
    made = Effects()
    with listening(made.handle) as made.url:
        yield made
