"""A fleet for proofs that need no load balancer: its users choose the version by its weights, as HAProxy would.

Versions are real processes with their own ports, metrics and health; only the choice is the rig's.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from app.rollout.counters import Counters, ScrapeFailed
from app.rollout.driver import Driver
from app.rollout.platform import GoldenCases, Patience, PlatformFailed
from app.rollout.record import Record, State
from app.rollout.rules import RolloutRules
from app.rollout.synthetic import SyntheticTraffic
from gates.rig.plain_http import PLAIN
from gates.rig.service import Service
from gates.rollout.load import TIMEOUT_S, WORDS

NOBODY = "http://127.0.0.1:9"  # where a version that has ended is asked
# As few requests as prove anything: 19 of each version for 15 points.
RULES = RolloutRules.model_validate({
    "judging": {"total_minutes": 30, "telemetry_lost_after_s": 300, "clock_tolerance_s": 120},
    "stages": [
        {"weight_percent": 50, "margin_points": 15, "looks": 6},
        {"weight_percent": 100},
    ],
    "metrics": {
        "errors": {"class": "binary", "abort_at_once": {"events": 5, "percent": 20}},
        "golden_cases": {"class": "binary", "direction": "up", "margin_points": 15},
    },
})  # fmt: skip


@dataclass(frozen=True)
class Addresses(Mapping[str, str]):
    """Where each slot answers: its next version has other ports than its last."""

    services: dict[str, Service]

    def __getitem__(self, slot: str) -> str:
        return self.services[slot].base_url

    def __iter__(self) -> Iterator[str]:
        return iter(self.services)

    def __len__(self) -> int:
        return len(self.services)


@dataclass
class Direct:
    """A Platform, and what its users saw."""

    database_url: str
    folder: Path
    versions: dict[str, dict[str, str]]  # settings of each digest
    golden: dict[str, int] = field(default_factory=dict)  # of 24, where not all pass
    key: str = ""
    services: dict[str, Service] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    open_at_stop: list[int] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    _open: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, slot: str, digest: str) -> None:
        service = Service(
            self.database_url, self.folder / f"{slot}.log", dict(self.versions[digest]), "gates.rollout.version"
        )
        service.start()
        self.services[slot] = service

    def is_healthy(self, slot: str) -> bool:
        try:
            return self.services[slot].call(None, "GET", "/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def admit(self, slot: str, timeout_s: float) -> None:  # noqa: ARG002 - the protocol's
        if not self.is_healthy(slot):
            raise PlatformFailed(f"{slot} is not healthy")

    def set_weights(self, weights: dict[str, int]) -> None:
        with self._lock:
            self.weights = dict(weights)

    def drain(self, slot: str, timeout_s: float) -> int:
        until = time.monotonic() + timeout_s
        while self._open[slot] and time.monotonic() < until:
            time.sleep(0.05)
        return self._open[slot]

    def stop(self, slot: str) -> None:
        self.open_at_stop.append(self._open[slot])
        if service := self.services.pop(slot, None):
            service.stop()

    def scrape(self, slot: str) -> Counters:
        try:
            return Counters.parse(self.services[slot].operations("/metrics").text)
        except (httpx2.TransportError, KeyError) as error:
            raise ScrapeFailed(str(error)) from None

    def unanswered(self, slot: str) -> int:  # noqa: ARG002
        return 0

    def golden_cases(self, slot: str, digest: str) -> GoldenCases:  # noqa: ARG002
        """As scripted: what the cases themselves find is not what is proven here."""
        return GoldenCases(self.golden.get(digest, 24), 24)

    @contextmanager
    def choice(self) -> Iterator[tuple[str, str]]:
        """A version's slot and address for one request, by the weights."""
        with self._lock:
            slots = list(self.weights)
            [slot] = random.choices(slots, [self.weights[each] for each in slots])  # noqa: S311 - no secret
            self._open[slot] += 1
        try:
            service = self.services.get(slot)
            yield slot, service.base_url if service else NOBODY
        finally:
            with self._lock:
                self._open[slot] -= 1

    @contextmanager
    def driver(self, folder: Path, incident: Callable[[State], None]) -> Iterator[Driver]:
        patience = Patience(healthy_s=600, drain_s=60, scrape_every_s=1)
        with httpx2.Client(**PLAIN) as http:
            traffic = SyntheticTraffic(http, Addresses(self.services), self.key)
            yield Driver(self, traffic, RULES, Record(folder), patience, incident=incident)

    @contextmanager
    def users(self, asking: int, streaming: int) -> Iterator[None]:
        """People who ask, and people who read a stream of some seconds, until the block ends."""
        ended = threading.Event()

        def use(request: Callable[[httpx2.Client, str], str], pause_s: float) -> None:
            with httpx2.Client(**PLAIN, timeout=TIMEOUT_S, headers={"Authorization": f"Bearer {self.key}"}) as http:
                while not ended.wait(pause_s):
                    with self.choice() as (slot, url):
                        problem = _answered(lambda url=url: request(http, url))  # type: ignore[misc]
                    with self._lock:
                        self.answered[slot] += 1
                        if problem:
                            self.failed[problem] += 1

        threads = [threading.Thread(target=use, args=(_ask, 0.1)) for _ in range(asking)]
        threads += [threading.Thread(target=use, args=(_stream, 0.1)) for _ in range(streaming)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    def close(self) -> None:
        for service in self.services.values():
            service.stop()


def _answered(request: Callable[[], str]) -> str:
    try:
        return request()
    except httpx2.HTTPError as error:
        return type(error).__name__


def _ask(http: httpx2.Client, url: str) -> str:
    status = http.get(f"{url}/v1/runs?limit=1").status_code
    return "" if status == 200 else str(status)


def _stream(http: httpx2.Client, url: str) -> str:
    body = {"model": "standard", "stream": True, "messages": [{"role": "user", "content": WORDS}]}
    last = ""
    with http.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            last = line or last
    return "" if last == "data: [DONE]" else f"cut after {last[:40]}"
