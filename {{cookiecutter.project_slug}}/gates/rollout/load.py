"""Load on a fleet, counted: connections that ask again and again, and streams that stay open."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2

from gates.rig.plain_http import PLAIN

TIMEOUT_S = 120.0
WORDS = "Write down every one of these words again: " + " ".join(f"word{n}" for n in range(24))


@dataclass
class Counts:
    """What the users of a fleet saw. A request without an answer counts as failed."""

    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    streams_whole: int = 0
    streams_cut: Counter[str] = field(default_factory=Counter)

    @property
    def failures(self) -> int:
        return sum(self.failed.values())

    @property
    def cut(self) -> int:
        return sum(self.streams_cut.values())


@dataclass
class Load:
    url: str
    key: str
    counts: Counts = field(default_factory=Counts)
    stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask_for_ever(self, pause_s: float) -> None:
        """One user: a connection of their own, a request, a pause, and again. No request is repeated."""
        with httpx2.Client(base_url=self.url, **PLAIN, timeout=TIMEOUT_S, headers=self._headers) as http:
            while not self.stopped.is_set():
                self._ask(http)
                self.stopped.wait(pause_s)

    def _ask(self, http: httpx2.Client) -> None:
        began = time.monotonic()
        try:
            status = str(http.get("/v1/runs?limit=1").status_code)
        except httpx2.HTTPError as error:
            status = type(error).__name__
        with self._lock:
            self.counts.answered += 1
            self.counts.slowest_s = max(self.counts.slowest_s, time.monotonic() - began)
            if status != "200":
                self.counts.failed[status] += 1

    def stream(self) -> None:
        """One answer of some seconds, to its end."""
        body = {"model": "standard", "stream": True, "messages": [{"role": "user", "content": WORDS}]}
        last = ""
        try:
            with (
                httpx2.Client(base_url=self.url, **PLAIN, timeout=TIMEOUT_S, headers=self._headers) as http,
                http.stream("POST", "/v1/chat/completions", content=json.dumps(body)) as answer,
            ):
                for line in answer.iter_lines():
                    last = line or last
            end = "whole" if last == "data: [DONE]" else f"{answer.status_code}, ended by: {last[:60]}"
        except httpx2.HTTPError as error:
            end = type(error).__name__
        with self._lock:
            self.counts.streams_whole += end == "whole"
            if end != "whole":
                self.counts.streams_cut[end] += 1

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}


@contextmanager
def load(url: str, key: str, *, connections: int, pause_s: float, streams: int = 0) -> Iterator[Load]:
    """Connections that ask until the block ends, and `streams` that are open at any time meanwhile; all end with it."""
    made = Load(url, key)
    threads = [threading.Thread(target=made.ask_for_ever, args=(pause_s,)) for _ in range(connections)]

    def streaming() -> None:
        while not made.stopped.is_set():
            made.stream()

    threads += [threading.Thread(target=streaming) for _ in range(streams)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        made.stopped.set()
        for thread in threads:
            thread.join()
