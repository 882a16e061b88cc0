"""Writing a proof: `@control(...)` on a test that takes `proof`, a positive control first, then named assertions.

@control("CST-04", cases=2)
def test_an_answer_without_usage_is_not_free(proof: Proof, world: World) -> None:
    with proof.positive("a run with usage is charged what it used"):
        ...
    proof.holds("missing-usage", charged == worst, charged)
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from gates.rig.pace import OutOfTime, grace, reached

Test = TypeVar("Test", bound=Callable[..., Any])
DETAIL = 600  # characters of what was seen that are kept


class Refuted(AssertionError):
    """A named assertion did not hold on the running service."""

    def __init__(self, assertion: str, detail: str) -> None:
        super().__init__(f"{assertion}: {detail}")
        self.assertion, self.detail = assertion, detail


class NotPositive(Exception):
    """The proof asserts a refusal before it has shown that anything is permitted: it could not tell them apart."""


@dataclass
class Proof:
    """What one run of a proof has seen. Filled by the proof, read by the plugin."""

    shown: list[str] = field(default_factory=list)
    asserted: Counter[str] = field(default_factory=Counter)
    absent_surface: str = ""

    @contextmanager
    def positive(self, what: str) -> Iterator[None]:
        """The legitimate use works. Without one, a service that refuses everything would pass."""
        try:
            yield
        except AssertionError as error:
            # The first line: what follows are the values pytest found around it, credentials perhaps among them.
            told = str(error).partition("\n")[0][:DETAIL]
            raise Refuted(f"positive: {what}", told or "it did not work") from error
        self.shown.append(what)

    def holds(self, assertion: str, condition: object, seen: object = "") -> None:
        """One case of a named assertion of the catalogue. Raises Refuted when it is not true."""
        if not self.shown:
            raise NotPositive(assertion)
        self.asserted[assertion] += 1
        if not condition:
            raise Refuted(assertion, f"seen: {seen!r}"[:DETAIL])

    def same(self, assertion: str, seen: object, expected: object, where: object = "") -> None:
        """One case: `seen` equals `expected`."""
        self.holds(assertion, seen == expected, f"{where} {seen!r} instead of {expected!r}".strip())

    def in_time(self, assertion: str, seconds: float, most: float, where: object = "") -> None:
        """One case: it took `seconds`, at most `most`. Raises OutOfTime where the machine alone explains the excess."""
        seen = f"{where} {seconds:.1f} s instead of {most:g} s".strip()
        if self.shown and seconds > most and seconds - most <= grace():
            raise OutOfTime(f"{assertion}: {seen}, and this machine is slow")
        self.holds(assertion, seconds <= most, seen)

    def soon(self, assertion: str, ready: Callable[[], object], most: float, where: object = "") -> None:
        """One case: `ready` becomes true within `most` seconds. Raises OutOfTime where it does so later, but no later
        than the machine alone explains."""
        in_time = reached(ready, most)
        if self.shown and not in_time and reached(ready, grace()):
            raise OutOfTime(f"{assertion}: {where} later than {most:g} s, and this machine is slow")
        self.holds(assertion, in_time, f"{where} not within {most:g} s".strip())

    def absent(self, surface: str, *, looked_at: int) -> None:
        """The control has nothing to protect here, shown by looking at `looked_at` places: it is N/A."""
        if looked_at < 1:
            raise NotPositive(f"{surface}: nothing was looked at")
        self.shown.append(f"looked at {looked_at} places")
        self.absent_surface = surface


def control(name: str, *, cases: int, attempts: int = 1, slow: bool = False) -> Callable[[Test], Test]:
    """Mark a test as a proof of a control.

    It fails below `cases` cases. `attempts` runs it that often, and every run must pass: for races and times.
    `slow` proofs are left out by FAST=1."""

    def mark(function: Test) -> Test:
        marker = pytest.mark.control(name, cases=cases, attempts=attempts, slow=slow)
        marked: Test = marker(function)
        return marked

    return mark
