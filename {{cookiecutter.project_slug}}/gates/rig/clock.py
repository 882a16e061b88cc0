"""Time that a proof moves: the service under proof reads its clock through a file that the proof writes.

The replacement is made in `gates/rig/serve.py`; shipped code has no switch for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path


@dataclass(frozen=True)
class Clock:
    file: Path

    def advance(self, by: timedelta) -> None:
        """Move the service's time; it reads the new time at its next look."""
        self._write(self.ahead + by)

    def reset(self) -> None:
        self._write(timedelta())

    @property
    def ahead(self) -> timedelta:
        return timedelta(seconds=float(self.file.read_text())) if self.file.exists() else timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def _write(self, ahead: timedelta) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(str(ahead.total_seconds()))
        fresh.replace(self.file)  # whole or not at all: the service reads it at any moment


def reading(file: Path) -> Callable[[], datetime]:
    return Clock(file).now
