"""A model provider on a socket that speaks the OpenAI and Anthropic formats and does what a proof tells it.

It can be a fully hijacked model (any text, any tool call) and every kind of broken provider, and it keeps a
ledger of its own, because a check that asks the service what it sent proves nothing.
"""

import itertools
import json
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal
from uuid import uuid4

from gates.rig import formats
from gates.rig.formats import Reply, Wire
from gates.rig.wire import listening, respond

Body = dict[str, Any]
Fault = Literal["hang", "drip", "endless", "die"]
_LETTERS = str.maketrans("0123456789", "ghijklmnop")
_TOKEN = re.compile(r"\[script:([a-p]{12})\]")
DRIP_SECONDS = 1.0


def says(text: str) -> Reply:
    return Reply(text=text)


def calls(tool: str, arguments: Any, call_id: str = "call_1") -> Reply:
    """One tool call. `arguments` given as text is sent as it is, so that it may be broken JSON."""
    encoded = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return Reply(calls=((call_id, tool, encoded),))


def fault(kind: Fault, *, seconds: float = 30) -> Reply:
    """hang: no answer for `seconds`; drip: one byte a second; endless: piece after piece at full speed, and no end;
    die: the connection breaks half way."""
    return Reply(text="too late" if kind == "hang" else "x" * 40, fault=kind, seconds=seconds)


def status(code: int, *, kind: str = "stub", message: str = "from the provider", retry_after: str = "") -> Reply:
    return Reply(text=message, status=code, error_kind=kind, retry_after=retry_after)


Answer = Reply | Callable[[Body], Reply]


@dataclass
class Exchange:
    """One request as it reached the provider, and what it was charged."""

    wire: Wire
    path: str
    headers: dict[str, str]
    body: Body
    raw: bytes
    arrived: float
    input_tokens: int = 0
    output_tokens: int = 0
    closed_early: bool = False
    ended: float = 0.0  # by the caller's hanging up, or by the answer


@dataclass
class Script:
    """What one conversation is answered, request after request; the last answer repeats."""

    answers: tuple[Answer, ...]
    # Without digits: a dozen of them may be a phone's number, which no provider gets.
    token: str = field(default_factory=lambda: uuid4().hex[:12].translate(_LETTERS))
    seen: list[Exchange] = field(default_factory=list)

    def task(self, text: str = "Do as the script says.") -> str:
        """The task that makes the provider follow this script."""
        return f"{text} [script:{self.token}]"

    @property
    def requests(self) -> list[Body]:
        return [exchange.body for exchange in self.seen]


class Provider:
    def __init__(self) -> None:
        self.url = ""
        self.ledger: list[Exchange] = []
        self._default = Script((says("Nothing was scripted."),))
        self._scripts: dict[str, Script] = {}
        self._lock = threading.Lock()

    @property
    def requests(self) -> list[Body]:
        return [exchange.body for exchange in self.ledger]

    def script(self, *answers: Answer) -> Script:
        """Answers for the conversation whose task carries this script's token; conversations keep apart."""
        made = Script(answers)
        self._scripts[made.token] = made
        return made

    def answers(self, *answers: Reply, usage: bool = True) -> None:
        """What every conversation without a script of its own is answered."""
        self._default = Script(tuple(a if usage else replace(a, usage=None) for a in answers))

    def answers_each(self, answer: Callable[[Body], Reply]) -> None:
        """What every conversation without a script of its own is answered, by what it asks."""
        self._default = Script((answer,))

    def fails(self, code: int, body: bytes | None = None) -> None:
        self._default = Script((status(code) if body is None else Reply(status=code, raw=body),))

    def hangs(self, seconds: float) -> None:
        self._default = Script((fault("hang", seconds=seconds),))

    def handle(self, request: BaseHTTPRequestHandler, raw: bytes) -> None:
        wire: Wire = "anthropic" if request.path.rstrip("/").endswith("/messages") else "openai"
        body = json.loads(raw or b"{}")
        exchange = Exchange(wire, request.path, dict(request.headers.items()), body, raw, time.monotonic())
        with self._lock:
            found = _TOKEN.search(raw.decode("utf-8", "replace"))
            script = self._scripts.get(found[1], self._default) if found else self._default
            self.ledger.append(exchange)
            script.seen.append(exchange)
            answer = script.answers[min(len(script.seen), len(script.answers)) - 1]
        reply = answer(body) if callable(answer) else answer
        if reply.usage and reply.status == 200:
            exchange.input_tokens, exchange.output_tokens = reply.usage
        try:
            _send(request, exchange, reply)
        finally:
            exchange.ended = time.monotonic()


def _send(request: BaseHTTPRequestHandler, exchange: Exchange, reply: Reply) -> None:
    if reply.fault == "hang" or reply.delay:
        exchange.closed_early = _closed_within(request.connection, reply.delay or reply.seconds)
        if exchange.closed_early:
            return
    if reply.status != 200 or reply.raw is not None:
        raw = reply.raw if reply.raw is not None else formats.error(exchange.wire, reply)
        extra = {"Retry-After": reply.retry_after} if reply.retry_after else {}
        respond(request, reply.status, raw, reply.media_type, extra)
        return
    streamed = bool(exchange.body.get("stream"))
    body = formats.stream(exchange.wire, reply, exchange.body) if streamed else [formats.whole(exchange.wire, reply)]
    if reply.fault == "endless":
        _send_without_end(request, exchange, reply, body[:2] if streamed else [b" " * 64])
        return
    if reply.fault in {"drip", "die"}:
        _send_badly(request, exchange, reply, b"".join(body))
        return
    if not streamed:
        respond(request, 200, body[0], "application/json")
        return
    request.send_response(200)
    request.send_header("Content-Type", "text/event-stream")
    request.send_header("Connection", "close")
    request.end_headers()
    for event in body:
        request.wfile.write(event)
        request.wfile.flush()
    request.close_connection = True


def _send_badly(request: BaseHTTPRequestHandler, exchange: Exchange, reply: Reply, raw: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Type", "text/event-stream" if exchange.body.get("stream") else "application/json")
    request.send_header("Content-Length", str(len(raw)))
    request.end_headers()
    request.close_connection = True
    if reply.fault == "die":
        request.wfile.write(raw[: len(raw) // 2])
        request.wfile.flush()
        request.connection.shutdown(socket.SHUT_RDWR)
        return
    until = time.monotonic() + reply.seconds
    for byte in raw:
        request.wfile.write(bytes([byte]))
        request.wfile.flush()
        if time.monotonic() > until or _closed_within(request.connection, DRIP_SECONDS):
            exchange.closed_early = True
            return


def _send_without_end(request: BaseHTTPRequestHandler, exchange: Exchange, reply: Reply, pieces: list[bytes]) -> None:
    """The first pieces, and the last of them again and again."""
    request.send_response(200)
    request.send_header("Content-Type", "text/event-stream" if exchange.body.get("stream") else "application/json")
    request.send_header("Connection", "close")
    request.end_headers()
    request.close_connection = True
    until = time.monotonic() + reply.seconds
    try:
        for piece in itertools.chain(pieces, itertools.repeat(pieces[-1])):
            if time.monotonic() > until:
                return
            request.wfile.write(piece)
            time.sleep(0.01)
    except OSError:
        exchange.closed_early = True


def _closed_within(connection: socket.socket, seconds: float) -> bool:
    """Wait, and say whether the caller hung up meanwhile."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        readable, _, _ = select.select([connection], [], [], min(left, 0.1))
        if readable:
            try:
                return not connection.recv(1, socket.MSG_PEEK)
            except OSError:
                return True
    return False


@contextmanager
def provider() -> Iterator[Provider]:
    stub = Provider()
    with listening(stub.handle) as address:
        stub.url = f"{address}/v1"
        yield stub
