"""Who may have this process hold a body, and how many bytes of bodies it holds at once. Gate: validation, access.

A body is read into memory before any route sees it. So its sender is authenticated first, by the header alone, and the
bytes of all bodies have a bound: a client with a valid key can neither fill the memory nor keep the others out.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import body
from app.api.guards import PUBLIC, authenticate_early
from app.api.problems import problem
from app.errors import AppError, BodiesInFlight
from app.telemetry.metrics import BODY_BYTES

PUBLIC_MAX_BYTES = 64_000  # of a body that anybody may send: a form of the console
SHARES = 4  # one sender may have a quarter of all bytes, and everybody without a credential another
RETRY_AFTER = timedelta(seconds=2)
ANYBODY = ""


@dataclass
class HeldBodies:
    """The bytes of bodies that this process holds: announced ones before they arrive, others as they do."""

    limit: int  # bytes
    largest: int  # of one body: whoever may send one at all, may send one of this size
    total: int = 0
    _by_sender: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def held(self) -> Iterator["Held"]:
        """What one request holds, let go at the end of the block."""
        mine = Held(self)
        try:
            yield mine
        finally:
            self._add(mine.sender, -mine.bytes)

    def take(self, sender: str, count: int) -> None:
        """Raises BodiesInFlight where that is more than there is room for."""
        share = max(self.limit // SHARES, self.largest)
        if self.total + count > self.limit or self._by_sender[sender] + count > share:
            raise BodiesInFlight(retry_after=RETRY_AFTER)
        self._add(sender, count)

    def _add(self, sender: str, count: int) -> None:
        self.total += count
        self._by_sender[sender] += count
        if not self._by_sender[sender]:
            del self._by_sender[sender]
        BODY_BYTES.set(self.total)


@dataclass
class Held:
    """The bytes of one request."""

    bodies: HeldBodies
    sender: str = ANYBODY  # set before the first byte
    bytes: int = 0

    def grow(self, count: int) -> None:
        self.bodies.take(self.sender, count)
        self.bytes += count


class BodyGate:
    """Reads each request's body whole and hands it on, or answers why not. Plain ASGI."""

    def __init__(self, app: ASGIApp, max_bytes: int, bodies: HeldBodies) -> None:
        self.app, self.max_bytes, self.bodies = app, max_bytes, bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with self.bodies.held() as held:
            try:
                raw = await self._read(scope, receive, held)
            except AppError as error:
                await problem(error, {"Connection": "close"})(scope, receive, send)
                return
            await self.app(scope, _replayed(raw, receive), send)

    async def _read(self, scope: Scope, receive: Receive, held: Held) -> bytes:
        headers, path, most = Headers(scope=scope), scope["path"], self.max_bytes
        body.require_plain_headers(scope)
        announced = body.declared(headers, most)
        if announced:
            body.require_kind(headers, path)
        if announced != 0 and _is_public(path):
            most = min(most, PUBLIC_MAX_BYTES)
            body.declared(headers, most)
        elif announced != 0:
            # Before anything is received: a client that waits to be told to go on (100-continue) sends nothing.
            held.sender = (await authenticate_early(Request(scope))).member_id
        if announced:
            held.grow(announced)
        return await body.read(scope, receive, most, held.grow if announced is None else _was_announced)


def _was_announced(_count: int) -> None:
    """A piece of a body whose whole length is held already."""


def _is_public(path: str) -> bool:
    """Whether no key is asked for there. The console's forms carry a session instead, which their pages look at."""
    return path in PUBLIC or path == body.FORMS_BELOW or path.startswith(f"{body.FORMS_BELOW}/")


def _replayed(raw: bytes, receive: Receive) -> Receive:
    """What was read, once more as one message; after it, what the connection says."""
    first = True

    async def again() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": raw, "more_body": False}
        return await receive()

    return again
