"""A provider of embeddings on a socket, which answers what a test tells it and keeps what it was asked."""

import json
import struct
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from gates.rig.wire import listening, respond

Body = dict[str, Any]
USAGE = {"prompt_tokens": 12, "total_tokens": 12}


def vector(text: str, dimensions: int = 4) -> list[float]:
    """Another one for each text, of numbers that 32 bits hold exactly."""
    return [float(len(text)), float(sum(map(ord, text)) % 1_000), *[0.5] * (dimensions - 2)]


def encoded(numbers: list[float]) -> str:
    return b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


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
        respond(request, self.status, self.raw or json.dumps(self._answer(body)).encode(), "application/json")

    def _answer(self, body: Body) -> Body:
        data = []
        for index, text in enumerate(body["input"]):
            numbers = vector(text, body.get("dimensions") or 4)
            data.append({"object": "embedding", "index": index, "embedding": numbers})
            if not self.as_floats and body.get("encoding_format") == "base64":
                data[-1]["embedding"] = encoded(numbers)
        told = {"object": "list", "data": data, "model": body["model"]}
        return told if self.usage is None else told | {"usage": self.usage}


@contextmanager
def embedding_provider() -> Iterator[EmbeddingProvider]:
    stub = EmbeddingProvider()
    with listening(stub.handle) as address:
        stub.url = f"{address}/v1"
        yield stub
