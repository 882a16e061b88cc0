"""What a rollout needs of the platform that runs the versions, whatever that is. Gate: deployment.

Two slots (blue, green): one serves, the other is free for the next version.
"""

from dataclasses import dataclass, field
from typing import Protocol

from app.rollout.counters import Counters

SLOTS = ("blue", "green")


class PlatformFailed(Exception):
    """The platform did not do what it was asked to; the message says what it answered."""


@dataclass(frozen=True)
class Patience:
    """How long the driver waits for what, in seconds."""

    healthy_s: float = 180  # until a version that was started answers, and the load balancer has checked it
    drain_s: float = 120  # longer than the longest stream
    scrape_every_s: float = 5


@dataclass(frozen=True)
class Sample:
    """What both versions were sent by the canary tenant, and what became of it."""

    unanswered: int = 0
    costs_usd: tuple[float, ...] = ()
    latencies_ms: tuple[float, ...] = ()


@dataclass(frozen=True)
class GoldenCases:
    passed: int
    total: int
    failures: tuple[str, ...] = field(default=())


class Platform(Protocol):
    """Every method may be repeated: a rollout that was killed does its last step again. Raises PlatformFailed."""

    def start(self, slot: str, digest: str) -> None:
        """Have this version run in the slot, without traffic. Where it already does, nothing happens."""

    def is_healthy(self, slot: str) -> bool:
        """Ask the version itself, not the load balancer."""

    def admit(self, slot: str, timeout_s: float) -> None:
        """Let the load balancer send requests to the slot, at weight 0, and wait until its own check has passed."""

    def set_weights(self, weights: dict[str, int]) -> None:
        """Percent of the traffic by slot."""

    def drain(self, slot: str, timeout_s: float) -> int:
        """Send nothing new and wait until what is open has ended; returns what is still open at the end."""

    def stop(self, slot: str) -> None:
        """End the version that runs in the slot."""

    def scrape(self, slot: str) -> Counters:
        """Raises ScrapeFailed."""

    def unanswered(self, slot: str) -> int:
        """How many requests the load balancer could not get answered by the slot, since the load balancer began."""

    def golden_cases(self, slot: str, digest: str) -> GoldenCases:
        """Run the evaluation cases with the version's own code."""


class Traffic(Protocol):
    """A synthetic canary tenant: it sends what real traffic does not bring."""

    def send(self, slots: tuple[str, ...], pairs: int) -> dict[str, Sample]:
        """The same `pairs` requests to each of the slots, past the load balancer."""
