"""Whether this process still gets answers from its database, for the health checks of every kind of process.

Three states: answered (ready), answered that the database is away (alive, not ready), and no answer at all (stuck).
Only the last is mended by a restart. Gate: observability, errors.
"""

import asyncio
import time
from datetime import timedelta

from app.background import start_detached
from app.db.engine import Database
from app.db.looks import is_there
from app.errors import StoreAway

GRACE = timedelta(seconds=1)  # a process that was itself halted has its answers before it when it goes on


class Responsiveness:
    """One question at a time is put to the database, by each way that requests take, whoever asks for it here.

    `deadline` is for how long no answer may come before the process counts as stuck: by default clearly longer than
    the database's own patience, which ends every answer that the database owes."""

    def __init__(self, db: Database, *, deadline: timedelta | None = None) -> None:
        self._db = db
        self._deadline = deadline or 2 * db.patience + timedelta(seconds=10)
        self._task: asyncio.Task[Exception | None] | None = None
        self._pool_asked: float | None = None

    async def is_stuck(self) -> bool:
        """Whether nothing at all was answered within the deadline. Says so at once, or after `GRACE`."""
        probe = self._probe()
        if not self._is_overdue():
            return False
        await asyncio.wait([probe], timeout=GRACE.total_seconds())
        return self._is_overdue()

    async def require_ready(self) -> None:
        """Raise StoreAway where the database is away, or does not answer within the deadline."""
        probe = self._probe()
        await asyncio.wait([probe], timeout=self._deadline.total_seconds())
        if not probe.done():
            raise StoreAway("No answer: this process is stuck.")
        if (failure := probe.result()) is not None:
            raise StoreAway from failure

    def _probe(self) -> "asyncio.Task[Exception | None]":
        if self._task is None or self._task.done():
            self._task = start_detached(self._ask(), name="health probe")
        return self._task

    async def _ask(self) -> Exception | None:
        self._pool_asked = None
        try:
            await self._db.look(is_there, None)  # how long that takes is the database's to say: `stalled_for`
            self._pool_asked = time.monotonic()
            await self._db.ping()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is an answer
            return error
        finally:
            self._pool_asked = None
        return None

    def _is_overdue(self) -> bool:
        waited = 0.0 if self._pool_asked is None else time.monotonic() - self._pool_asked
        return max(self._db.stalled_for, timedelta(seconds=waited)) > self._deadline
