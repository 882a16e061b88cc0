"""Streams that last: a time for each piece and one for the whole, and what is booked when their reader leaves."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx2
import pytest

from gates.rig.databases import NewDatabase
from gates.rig.people import Person
from gates.rig.plain_http import PLAIN
from gates.rig.service import Service, running, wait_for
from gates.rig.wire import listening

WORD = "word "  # one token of this provider's
PIECE_S = 0.02
PATH = "/v1/chat/completions"
LONG = {"max_tokens": 16_384, "model": "gpt-5.1", "reasoning_effort": "none"}


@dataclass
class Writer:
    """A provider that writes a word a piece, counts what it has written, and charges for that."""

    words: int
    piece_s: float = PIECE_S
    silent_after: int = 1_000_000  # words; then nothing more comes
    url: str = ""
    asked: dict[str, Any] = field(default_factory=dict)
    written: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def handle(self, request: BaseHTTPRequestHandler, raw: bytes) -> None:
        self.asked = json.loads(raw)
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header("Connection", "close")
        request.end_headers()
        request.close_connection = True
        try:
            self._write(request)
        finally:
            self.ended.set()

    def _write(self, request: BaseHTTPRequestHandler) -> None:
        for _ in range(self.words):
            if self.written == self.silent_after:
                time.sleep(30)
            self._send(request, choices=[{"index": 0, "delta": {"content": WORD}, "finish_reason": None}])
            self.written += 1
            time.sleep(self.piece_s)
        self._send(request, choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        usage = {"prompt_tokens": 12, "completion_tokens": self.written, "total_tokens": 12 + self.written}
        self._send(request, choices=[], usage=usage)
        request.wfile.write(b"data: [DONE]\n\n")

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, **said: Any) -> None:
        piece = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-mini", **said}
        request.wfile.write(b"data: " + json.dumps(piece).encode() + b"\n\n")
        request.wfile.flush()


@dataclass
class Desk:
    """One service for all of these, at a provider that writes as the test at hand says."""

    service: Service
    writer: Writer
    who: Person

    def body(self, **more: Any) -> dict[str, Any]:
        return {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "Write."}], **more}

    def answer(self, **more: Any) -> httpx2.Response:
        return self.service.call(self.who, "POST", PATH, json=self.body(**more))

    @contextmanager
    def reading(self, **more: Any) -> Iterator[Iterator[bytes]]:
        """What a client reads that leaves at the end of the block."""
        url, headers = self.service.base_url + PATH, {"Authorization": f"Bearer {self.who.key}"}
        with httpx2.stream("POST", url, json=self.body(**more), headers=headers, **PLAIN, timeout=60) as answer:
            assert answer.status_code == 200
            yield answer.iter_bytes()

    def booked(self) -> int:
        """Output tokens, once nothing is held any more."""
        return int(wait_for(self._settled, 20))

    def _settled(self) -> int | None:
        items = self.service.call(self.who, "GET", "/v1/usage").json()["items"]
        budgets = self.service.call(self.who, "GET", "/v1/budgets").json()["items"]
        held = any(float(each["held_usd"]) for each in budgets)
        return None if held or not items else items[0]["output_tokens"]


@pytest.fixture(scope="module")
def serving(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Writer], Desk]]:
    now: list[Writer] = []

    def handle(request: BaseHTTPRequestHandler, raw: bytes) -> None:
        now[-1].handle(request, raw)

    with listening(handle) as address:
        environment = {"MODEL_PROVIDER": "openai", "MODEL_API_KEY": "sk-x", "MODEL_BASE_URL": f"{address}/v1"}
        environment |= {"MODEL_TIMEOUT_MS": "1000", "MODEL_TOTAL_TIMEOUT_MS": "6000", "MODEL_MAX_TOKENS": "30000"}
        with running(new_sqlite(), tmp_path_factory.mktemp("streams"), **environment) as service:

            def desk(writer: Writer) -> Desk:
                now.append(writer)
                return Desk(service, writer, service.people(["member"])[0])

            yield desk


def test_a_stream_may_last_longer_than_its_first_piece_may_take(serving: Callable[[Writer], Desk]) -> None:
    desk = serving(Writer(words=30, piece_s=0.1))  # three seconds, where one is given to a piece
    answer = desk.answer()
    assert answer.text.count(WORD.strip()) == 30
    assert answer.text.rstrip().endswith("[DONE]")
    assert desk.booked() == 30


@pytest.mark.parametrize(
    "writer", [Writer(words=100, silent_after=3), Writer(words=100_000)], ids=["no next piece", "no end"]
)
def test_each_piece_and_the_whole_have_their_time(serving: Callable[[Writer], Desk], writer: Writer) -> None:
    answer = serving(writer).answer()
    assert answer.status_code == 200
    assert '"provider.timeout"' in answer.text
    assert WORD in answer.text


@pytest.mark.parametrize("seconds", [0.0, 0.6, 2.0])
def test_a_stream_that_is_left_costs_what_was_written_and_not_the_whole_hold(
    serving: Callable[[Writer], Desk], seconds: float
) -> None:
    """The provider's own ledger: never under its bill, and far from the hold of 16,384 tokens."""
    desk = serving(Writer(words=100_000))
    with desk.reading(**LONG) as read:
        until = time.monotonic() + seconds
        next(read)
        while time.monotonic() < until:
            next(read)
    assert desk.writer.ended.wait(20)
    output = desk.booked()
    assert desk.writer.asked["max_completion_tokens"] == 16_384
    assert desk.writer.written <= output < 16_384 / 4, (desk.writer.written, output)


def test_who_reads_slowly_and_leaves_pays_for_what_lay_unread(serving: Callable[[Writer], Desk]) -> None:
    """A client that stalls holds up nothing at the provider: what that has written meanwhile is on its bill."""
    desk = serving(Writer(words=100_000, piece_s=0.001))
    with desk.reading(**LONG) as read:
        next(read)
        time.sleep(4)
    assert desk.writer.ended.wait(20)
    assert desk.booked() >= min(desk.writer.written, 16_384)


def test_tokens_that_no_text_shows_are_on_the_bill_of_a_stream_that_is_left(serving: Callable[[Writer], Desk]) -> None:
    desk = serving(Writer(words=100_000))
    with desk.reading(max_tokens=16_384) as read:
        next(read)
    output = desk.booked()
    assert 4_096 + desk.writer.written <= output < 4_096 + 16_384 / 4, (desk.writer.written, output)
