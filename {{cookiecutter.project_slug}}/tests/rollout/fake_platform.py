"""A fleet in memory: two slots, a clock that only waits move, and traffic that is shared out by weight."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.rollout.counters import Counters, ScrapeFailed
from app.rollout.driver import Driver
from app.rollout.platform import GoldenCases, Patience, PlatformFailed, Sample
from app.rollout.record import Record
from app.rollout.rules import RolloutRules

PER_SECOND = 6
BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5)


class Killed(BaseException):
    """The driver's process ends here."""


@dataclass
class Behaviour:
    errors: float = 0.0
    slower: float = 1.0
    dearer: float = 1.0
    golden: int = 24
    healthy: bool = True
    silent: bool = False  # its metrics cannot be read


@dataclass
class FakePlatform:
    behaviours: dict[str, Behaviour] = field(default_factory=dict)  # by digest
    users: bool = True
    moment: datetime = datetime(2026, 1, 5, 12, tzinfo=UTC)
    running: dict[str, str] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    counters: dict[str, Counters] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    killed_at: str = ""
    open_sessions: int = 3
    rng: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 - a simulation

    def _did(self, what: str) -> None:
        if self.killed_at and what.startswith(self.killed_at):
            self.killed_at = ""
            raise Killed(what)
        self.done.append(what)

    def now(self) -> datetime:
        return self.moment

    def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        if self.users:
            for slot, weight in self.weights.items():
                self._answer(slot, round(PER_SECOND * seconds * weight / 100))

    def _answer(self, slot: str, requests: int) -> list[float]:
        behaviour = self.behaviours.get(self.running.get(slot, ""), Behaviour())
        seconds = [self.rng.lognormvariate(-1, 0.5) * behaviour.slower for _ in range(requests)]
        latencies: dict[float, float] = dict.fromkeys((*BOUNDS, float("inf")), 0)
        for each in seconds:
            latencies[next((bound for bound in BOUNDS if each <= bound), float("inf"))] += 1
        failed = sum(self.rng.random() < behaviour.errors for _ in range(requests))
        more = Counters(requests=requests, failed=failed, model_calls=requests, latencies=latencies)
        self.counters[slot] = self.counters.get(slot, Counters()).plus(more)
        return seconds

    def start(self, slot: str, digest: str) -> None:
        self._did(f"start {slot} {digest}")
        self.running[slot] = digest

    def is_healthy(self, slot: str) -> bool:
        return slot in self.running and self.behaviours.get(self.running[slot], Behaviour()).healthy

    def admit(self, slot: str, timeout_s: float) -> None:  # noqa: ARG002 - the protocol's
        self._did(f"admit {slot}")

    def set_weights(self, weights: dict[str, int]) -> None:
        self._did(f"weights {weights}")
        self.weights = dict(weights)

    def drain(self, slot: str, timeout_s: float) -> int:  # noqa: ARG002
        self._did(f"drain {slot}")
        return 0

    def stop(self, slot: str) -> None:
        self._did(f"stop {slot}")
        self.running.pop(slot, None)
        self.counters.pop(slot, None)

    def scrape(self, slot: str) -> Counters:
        if slot not in self.running or self.behaviours.get(self.running[slot], Behaviour()).silent:
            raise ScrapeFailed("the operations port does not answer")
        return self.counters.get(slot, Counters())

    def unanswered(self, slot: str) -> int:  # noqa: ARG002
        return 0

    def golden_cases(self, slot: str, digest: str) -> GoldenCases:
        if slot not in self.running:
            raise PlatformFailed("nothing runs there")
        passed = self.behaviours.get(digest, Behaviour()).golden
        return GoldenCases(passed, 24, ("greeting",) if passed < 24 else ())

    def send(self, slots: tuple[str, ...], pairs: int) -> dict[str, Sample]:
        self._did(f"synthetic {pairs}")
        self.moment += timedelta(seconds=0.05 * pairs)
        sent = {}
        for slot in slots:
            dearer = self.behaviours.get(self.running.get(slot, ""), Behaviour()).dearer
            costs = tuple(dearer * self.rng.lognormvariate(-5, 0.3) for _ in range(pairs))
            latencies = tuple(seconds * 1_000 for seconds in self._answer(slot, pairs))
            sent[slot] = Sample(0, costs, latencies)
        return sent


def driver(platform: FakePlatform, folder: Path, rules: RolloutRules, **more: object) -> Driver:
    return Driver(
        platform=platform, traffic=platform, rules=rules, record=Record(folder), patience=Patience(30, 30, 5),
        now=platform.now, sleep=platform.sleep, **more,  # type: ignore[arg-type]
    )  # fmt: skip
