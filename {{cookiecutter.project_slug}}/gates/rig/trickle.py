"""A provider of chats whose streams come in pieces of one token each, which it counts, and may fall silent.

What a stream has cost by the time its provider notices that nobody reads on is known to the provider alone.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from gates.rig import formats
from gates.rig.formats import Reply
from gates.rig.wire import listening, respond

AT_ONCE, PAUSE_S = 20, 0.05  # pieces that are written together, and the time to the next ones
LONGEST_S = 20
_CHOICES = [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]
_HEAD = {"id": "completion", "object": "chat.completion.chunk", "created": 1, "model": "stub", "choices": _CHOICES}
_PIECE = b"data: " + json.dumps(_HEAD).encode() + b"\n\n"


@dataclass
class Stream:
    tokens: int = 0  # that were written
    closed_early: bool = False
    ended: float = 0.0  # by the reader's hanging up, or after the longest time


@dataclass
class Trickle:
    silent_after: int | None = None  # tokens
    url: str = ""
    streams: list[Stream] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def handle(self, request: BaseHTTPRequestHandler, raw: bytes) -> None:
        """An answer that is not streamed is a short one."""
        if not json.loads(raw).get("stream"):
            respond(request, 200, formats.whole("openai", Reply(text="Good day.")), "application/json")
            return
        stream = Stream()
        with self._lock:
            self.streams.append(stream)
        try:
            self._write(request, stream)
        finally:
            stream.ended = time.monotonic()

    def _write(self, request: BaseHTTPRequestHandler, stream: Stream) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header("Connection", "close")
        request.end_headers()
        request.close_connection = True
        until = time.monotonic() + LONGEST_S
        while time.monotonic() < until:
            try:
                if self.silent_after is None or stream.tokens < self.silent_after:
                    request.wfile.write(_PIECE * AT_ONCE)
                    stream.tokens += AT_ONCE
                    time.sleep(PAUSE_S)
                    continue
                request.connection.settimeout(LONGEST_S)
                stream.closed_early = not request.connection.recv(1)
            except TimeoutError:
                return
            except OSError:
                stream.closed_early = True
            return


@contextmanager
def trickle(*, silent_after: int | None = None) -> Iterator[Trickle]:
    stub = Trickle(silent_after)
    with listening(stub.handle) as address:
        stub.url = f"{address}/v1"
        yield stub
