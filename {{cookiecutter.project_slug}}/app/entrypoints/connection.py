"""One client's connection: a head that is too long or too slow ends it, before any part of the service is asked, and
so does a client that does not read its answer.

The server's own parser puts no limit on any of these. Gate: validation.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, ClassVar

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.api.context import request_id
from app.api.problems import problem
from app.db.base import new_id
from app.errors import AppError, HeadersTooLarge, RequestMalformed, RequestTimedOut, RequestTooLarge
from app.telemetry.metrics import STALLED_CONNECTIONS

MOST_HEAD_BYTES = 64_000
HEAD_SECONDS = 10.0
CHUNKED = 8  # a byte in a chunk of its own takes six
LINGER_SECONDS = 2.0


class _Lingering:
    """A transport whose `close` lets a client that is still sending read the answer first (RFC 9112, 9.6).

    Closed with bytes unread, the kernel resets the connection, and the answer may be lost with it."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, on_close: Callable[[], None]
    ) -> None:
        self._transport, self._loop, self._on_close = transport, loop, on_close
        self.is_whole = True  # nothing of a request is outstanding
        self.closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self.closing or self._transport.is_closing()

    def close(self) -> None:
        self._on_close()  # a transport that is closed first sends what it still has, for as long as that takes
        if self.is_whole or self.is_closing():
            self._transport.close()
            return
        self.closing = True
        self._transport.write_eof()
        self._transport.resume_reading()
        self._loop.call_later(LINGER_SECONDS, self._transport.close, context=Context())


class _UnchunkedCycle(RequestResponseCycle):
    """One request of an HTTP/1.0 client, which knows no chunks: an answer without a length ends with the connection.

    Nor does such a client wait for a 100 (RFC 9110, 10.1.1)."""

    is_delimited_by_close = False

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            self.is_delimited_by_close = all(
                name.lower() != b"content-length" for name, _ in message.get("headers", ())
            )
            if self.is_delimited_by_close:
                self.chunked_encoding, self.keep_alive = False, False
        elif message["type"] == "http.response.body" and self.is_delimited_by_close:
            self.expected_content_length = len(message.get("body", b""))  # as long as it gets
        await super().send(message)


class BoundedConnection(HttpToolsProtocol):
    most_bytes: ClassVar[int] = 0  # of one request, as it comes over the wire
    stall_seconds: ClassVar[float] = 30.0  # how long an answer may wait for its client to read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._line = _Lingering(transport, self.loop, self._await_reader)
        super().connection_made(self._line)  # type: ignore[arg-type]
        self._received, self._in_head = 0, True
        self._stalled: asyncio.TimerHandle | None = None
        self._patience = self.loop.call_later(HEAD_SECONDS, self._too_slow, context=Context())

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None and not self._line.is_closing():
            self._stalled.cancel()
            self._stalled = None

    def _await_reader(self) -> None:
        """End the connection unless its client reads in time: what waits for it is held in memory until then."""
        if self._stalled is None:
            self._stalled = self.loop.call_later(self.stall_seconds, self._end_stalled, context=Context())

    def _end_stalled(self) -> None:
        STALLED_CONNECTIONS.inc()
        self._line.abort()  # the request's work is told, as when a client hangs up

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
        if self._stalled is not None:
            self._stalled.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._received, self._in_head, self._line.is_whole = 0, True, False
        self._patience.cancel()
        self._patience = self.loop.call_later(HEAD_SECONDS, self._too_slow, context=Context())

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what trails a body is no header (RFC 9110, 6.5.1), and says nothing about who sends it
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._patience.cancel()
        self._in_head = False
        super().on_headers_complete()
        if self.parser.get_http_version() == "1.0" and self.cycle is not None:  # its task has not begun yet
            self.cycle.__class__ = _UnchunkedCycle
            self.cycle.waiting_for_100_continue = False

    def on_message_complete(self) -> None:
        self._line.is_whole = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._line.is_whole and not self._line.is_closing():  # any byte ends the server's own patience
            self._patience.cancel()
            self._received = 0
            self._patience = self.loop.call_later(HEAD_SECONDS, self._too_slow, context=Context())

    def data_received(self, data: bytes) -> None:
        if self._line.closing:
            return  # what comes after the answer is read and forgotten
        super().data_received(data)
        self._received += len(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._received > MOST_HEAD_BYTES:
            self._refuse(HeadersTooLarge())
        elif self._received > self.most_bytes:
            self._refuse(RequestTooLarge())

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the server's words
        self._refuse(RequestMalformed())

    def _too_slow(self) -> None:
        if self._received:
            self._refuse(RequestTimedOut())
        else:
            self.transport.close()

    def _refuse(self, error: AppError) -> None:
        token = request_id.set(new_id())
        answer = problem(error, {"Connection": "close", "X-Request-ID": request_id.get()})
        request_id.reset(token)
        head = b"".join(name + b": " + value + b"\r\n" for name, value in answer.raw_headers)
        self.transport.write(STATUS_LINE[answer.status_code] + head + b"\r\n" + bytes(answer.body))
        self.transport.close()


def bounded(max_body_bytes: int, stall_seconds: float) -> type[BoundedConnection]:
    """The connections of a server whose requests' bodies have at most so many bytes, and whose clients read."""
    limit: dict[str, Any] = {
        "most_bytes": MOST_HEAD_BYTES + CHUNKED * max_body_bytes,
        "stall_seconds": stall_seconds,
    }
    return type("Connection", (BoundedConnection,), limit)
