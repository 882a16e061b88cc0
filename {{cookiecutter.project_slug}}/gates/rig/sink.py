"""Where anything that leaves the service arrives: webhooks, traces, error reports, and what must stay empty.

A hit is proof that bytes left; no hit is proof that none did. The guard's own log is neither.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from gates.rig.wire import listening, respond

BIG = 300_000  # bytes: more than a caller should take in
METADATA = "/latest/meta-data/iam/security-credentials/role"  # what a cloud's metadata address would answer


@dataclass(frozen=True)
class Hit:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes  # unpacked when it came compressed


@dataclass
class Sink:
    """`/redirect?to=URL` sends callers on, `/big` answers too much, `/says` what a proof wants, the metadata
    path answers like a cloud's."""

    url: str = ""
    hits: list[Hit] = field(default_factory=list)
    says: str = ""  # what `/says` answers

    def at(self, path: str) -> list[Hit]:
        return [hit for hit in self.hits if urlsplit(hit.path).path == path]

    def handle(self, request: BaseHTTPRequestHandler, raw: bytes) -> None:
        packing = request.headers.get("content-encoding", "")
        body = gzip.decompress(raw) if packing == "gzip" else zlib.decompress(raw) if packing == "deflate" else raw
        self.hits.append(Hit(request.command, request.path, dict(request.headers.items()), body))
        parts = urlsplit(request.path)
        if parts.path == "/redirect":
            [target] = parse_qs(parts.query)["to"]
            respond(request, 302, b"", "text/plain", {"Location": target})
        elif parts.path == "/circle":
            respond(request, 302, b"", "text/plain", {"Location": "/circle"})
        elif parts.path == "/packed":
            respond(request, 200, gzip.compress(b"x" * 10_000_000), "text/plain", {"Content-Encoding": "gzip"})
        elif parts.path == "/says":
            respond(request, 200, self.says.encode("utf-8", "surrogatepass"), "text/plain; charset=utf-8")
        elif parts.path == "/big":
            respond(request, 200, b"x" * BIG, "text/plain")
        elif parts.path == METADATA:
            respond(request, 200, json.dumps({"AccessKeyId": "stub"}).encode(), "application/json")
        else:
            respond(request, 200, b"{}", "application/json")


@contextmanager
def sink() -> Iterator[Sink]:
    made = Sink()
    with listening(made.handle) as made.url:
        yield made
