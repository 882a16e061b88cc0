"""Who waits for a row to change is woken by the commit that changes it, instead of asking again and again.

Within a process by the session's own commit, on either database. Across processes by PostgreSQL's LISTEN and NOTIFY:
one connection of a process listens, and a notification carries an id and nothing else. A notification can be lost with
the connection, so whoever waits looks again by itself as well, after `Changes.look_every`.

Gate: performance.
"""

import asyncio
import contextvars
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
import sqlalchemy as sa
import structlog
from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

log = structlog.get_logger(__name__)
CHANNEL = "changes"
CHANGES = "changes"  # key of `Session.info`
_ANNOUNCED = "announced"
LOOK_EVERY = timedelta(seconds=0.25)
LOOK_EVERY_LISTENING = timedelta(seconds=5)
RECONNECT_AFTER_S, MAX_RECONNECT_AFTER_S = 0.5, 30.0
_NOTIFY = sa.text("SELECT pg_notify(:channel, :topic)")


class Announced:
    """A row whose commit wakes those who wait for `announced_id`."""

    @property
    def announced_id(self) -> str | None:
        """None: nobody waits for this one."""
        raise NotImplementedError


@dataclass(eq=False)
class Subscription:
    """Wakes one waiting task; made and awaited on the task's own loop."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    async def wait(self, at_most: timedelta) -> bool:
        """Whether something has changed since the last call; returns at once when it has, else after `at_most`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most.total_seconds()):
                await self.event.wait()
        woken = self.event.is_set()
        self.event.clear()
        return woken

    def wake(self) -> None:
        """From any thread."""
        with suppress(RuntimeError):  # its loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self.event.set)


class Changes:
    """`server` is the PostgreSQL to listen to; None for a database that cannot notify.

    The connection is opened at the first subscription and kept until `close`. LISTEN needs a session of its own, which
    a pooler in transaction mode does not give: see `app.db.sessions`."""

    def __init__(self, server: URL | None) -> None:
        self._server = server
        self._subscriptions: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._listener: asyncio.Task[None] | None = None
        self.is_listening = False

    @property
    def look_every(self) -> timedelta:
        """How long to wait for a notification before looking without one."""
        return LOOK_EVERY_LISTENING if self.is_listening else LOOK_EVERY

    @contextmanager
    def subscribe(self, topic: str) -> Iterator[Subscription]:
        """Be woken by changes of one id. Look once after this, because what changed before is not announced again."""
        subscription = Subscription()
        self._subscriptions[topic].add(subscription)
        self._listen()
        try:
            yield subscription
        finally:
            self._subscriptions[topic].discard(subscription)
            if not self._subscriptions[topic]:
                del self._subscriptions[topic]

    def wake(self, topic: str) -> None:
        for subscription in tuple(self._subscriptions.get(topic, ())):
            subscription.wake()

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            with suppress(asyncio.CancelledError, Exception):  # whatever ended it, the rest is closed
                await self._listener

    def _listen(self) -> None:
        if self._server is not None and (self._listener is None or self._listener.done()):
            # Outlives the request that happens to start it: without that request's context.
            self._listener = asyncio.create_task(self._listen_forever(), context=contextvars.Context())

    async def _listen_forever(self) -> None:
        rest = RECONNECT_AFTER_S
        while True:
            try:
                async with await self._connection() as connection:
                    await connection.execute(f"LISTEN {CHANNEL}".encode())
                    self.is_listening, rest = True, RECONNECT_AFTER_S
                    self._wake_all()  # what was announced while nobody listened
                    async for notification in connection.notifies():
                        self.wake(notification.payload)
            except (psycopg.Error, OSError) as error:
                log.warning("changes.not_listening", error=type(error).__name__)
            finally:
                self.is_listening = False
                self._wake_all()  # to look at their own pace again
            await asyncio.sleep(rest)
            rest = min(rest * 2, MAX_RECONNECT_AFTER_S)

    async def _connection(self) -> psycopg.AsyncConnection[Any]:
        assert self._server is not None  # noqa: S101 - for the type checker
        url = self._server.set(drivername="postgresql").render_as_string(hide_password=False)
        return await psycopg.AsyncConnection.connect(
            url, autocommit=True, connect_timeout=10,
            keepalives=1, keepalives_idle=5, keepalives_interval=5, keepalives_count=3,
        )  # fmt: skip

    def _wake_all(self) -> None:
        for topic in tuple(self._subscriptions):
            self.wake(topic)


@event.listens_for(Session, "after_flush")
def _announce(session: Session, _context: object) -> None:
    """In the transaction, so that the server tells others when it commits and never when it does not."""
    changed = (row for row in (*session.new, *session.dirty) if isinstance(row, Announced))
    topics = {topic for row in changed if (topic := row.announced_id)}
    fresh = topics - session.info.setdefault(_ANNOUNCED, set())
    session.info[_ANNOUNCED] |= fresh
    connection = session.connection() if fresh else None
    if connection is not None and connection.dialect.name == "postgresql":
        for topic in sorted(fresh):
            connection.execute(_NOTIFY, {"channel": CHANNEL, "topic": topic})


@event.listens_for(Session, "after_commit")
def _wake_waiters(session: Session) -> None:
    changes: Changes | None = session.info.get(CHANGES)
    for topic in session.info.pop(_ANNOUNCED, ()):
        if changes is not None:
            changes.wake(topic)


@event.listens_for(Session, "after_soft_rollback")
def _forget(session: Session, _previous: object) -> None:
    if not session.in_transaction():
        session.info.pop(_ANNOUNCED, None)
