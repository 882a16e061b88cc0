"""A provider of embeddings on a socket, which answers what a test tells it and keeps what it was asked."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from gates.rig.vectors import answer
from gates.rig.wire import listening, respond

Body = dict[str, Any]
USAGE = {"prompt_tokens": 12, "total_tokens": 12}


@dataclass
class EmbeddingProvider:
    url: str = ""
    usage: Body | None = field(default_factory=lambda: dict(USAGE))
    as_floats: bool = False  # whatever it was asked for, as some servers do
    status: int = 200
    raw: bytes | None = None  # sent as it is
    seconds: float = 0  # before it answers
    seen: list[Body] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def reset(self) -> None:
        fresh = EmbeddingProvider(self.url)
        self.__dict__.update(fresh.__dict__)

    def handle(self, request: BaseHTTPRequestHandler, raw: bytes) -> None:
        body = json.loads(raw)
        self.seen.append(body)
        self.paths.append(request.path)
        self.headers.append(dict(request.headers.items()))
        time.sleep(self.seconds)
        told = self.raw or json.dumps(answer(body, self.usage, as_floats=self.as_floats)).encode()
        respond(request, self.status, told, "application/json")


@contextmanager
def embedding_provider() -> Iterator[EmbeddingProvider]:
    stub = EmbeddingProvider()
    with listening(stub.handle) as address:
        stub.url = f"{address}/v1"
        yield stub
