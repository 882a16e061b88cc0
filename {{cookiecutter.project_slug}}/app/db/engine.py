"""The database: SQLite by default, PostgreSQL by DATABASE_URL, and the only place that commits.

Gate: access, errors.
"""

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar
from weakref import WeakSet

import anyio
import anyio.lowlevel
import psycopg
import sqlalchemy as sa
import structlog
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from app.background import run_to_completion
from app.db import reads, space
from app.db.availability import is_away, require_takes_writes
from app.db.changes import CHANGES, Changes
from app.db.connections import require_writable, tune_sqlite, with_driver
from app.db.direct import Direct, OnPostgres, OnSqlite
from app.db.group_commit import Answer, GroupCommit, Order
from app.db.looks import About, Ask, Found, Look, answered, by_kind, is_there
from app.db.sessions import UNPREPARED
from app.db.tenancy import ALL_TENANTS, TenantScope, bind
from app.db.unit_of_work import UninterruptedSession, UnitOfWork
from app.db.walls import SETTING
from app.errors import StoreAway

log = structlog.get_logger(__name__)
T = TypeVar("T")
_open_transactions: ContextVar[int] = ContextVar("open_transactions", default=0)
# For this transaction alone: a pooled connection must not carry a tenant over. See `walls`.
_SEE_ONLY = sa.text(
    f"SELECT set_config('{SETTING}', :tenant, true), set_config('statement_timeout', :patience_ms, true)"
)
_READ_ONLY = sa.text(f"{_SEE_ONLY.text}, set_config('transaction_read_only', 'on', true)")


class TransactionOpen(RuntimeError):
    """A model or tool call was about to run inside a transaction, holding locks for its whole length."""


def require_no_transaction(what: str) -> None:
    """Raise TransactionOpen when a transaction is open in this task."""
    if _open_transactions.get():
        raise TransactionOpen(f"{what} inside an open transaction: commit first")


class Database:
    """`patience` is how long a transaction may take, the wait for a connection or for a lock included.

    Where `session_url` is another address than `url`, `url` may lead to a pooler that shares sessions."""

    def __init__(
        self, url: str, session_url: str | None = None, *, patience: timedelta = timedelta(seconds=10)
    ) -> None:
        self.url, self.patience = make_url(url), patience
        self._connect_args = UNPREPARED if session_url not in {None, url} else {}
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            require_writable(self.url)
        pooled: dict[str, Any] = {
            "pool_size": 10, "max_overflow": 10, "pool_pre_ping": True, "pool_timeout": patience.total_seconds(),
            "connect_args": self._connect_args,
        }  # fmt: skip
        self._engine = create_async_engine(
            with_driver(self.url, sqlite="aiosqlite"),
            hide_parameters=True,  # an error's text must not carry what a caller sent
            **({} if self.is_sqlite else pooled),
        )
        if self.is_sqlite:
            tune_sqlite(self._engine.sync_engine, busy_timeout_ms=self._patience_ms)
        self._direct: Direct = self._on_sqlite() if self.is_sqlite else self._on_postgres()
        self._group_commits: WeakSet[GroupCommit[Any, Any]] = WeakSet()
        self._looks: GroupCommit[Look, Any] = GroupCommit(self._looked)
        self._group_commits.add(self._looks)
        self.changes = Changes(None if self.is_sqlite else make_url(session_url or url))
        kind: dict[str, Any] = {"class_": UninterruptedSession, "expire_on_commit": False}
        self._sessions = async_sessionmaker(self._engine, info={CHANGES: self.changes}, **kind)
        self._reading = self._read_engine()
        self._readers = async_sessionmaker(self._reading, autoflush=False, info={reads.READ_ONLY: True}, **kind)

    @asynccontextmanager
    async def transaction(self, scope: TenantScope) -> AsyncGenerator[AsyncSession]:
        """One unit of work, committed on a clean exit and rolled back on any exception.

        Every ORM query in it is limited to `scope.tenant_id`. May not span a model or tool call: both raise
        TransactionOpen. Raises StoreAway where the database cannot be had in time.

        Cancelled natively, it ends after the statement under way, and nothing of it is committed unless the commit is
        under way. Cancelled by an anyio scope around it, it ends as if it were not: it is short."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        token = _open_transactions.set(_open_transactions.get() + 1)
        try:
            async with self._in_time() as deadline:
                session = self._sessions()
                bind(session.sync_session, scope)
                session.deadline, work = deadline, UnitOfWork(session)
                try:
                    see_only = {"tenant": scope.tenant_id, "patience_ms": str(self._patience_ms)}
                    await work.begin(None if self.is_sqlite else _SEE_ONLY, see_only)
                    yield session
                except BaseException:
                    await work.roll_back()
                    raise
                await work.commit()
        finally:
            _open_transactions.reset(token)

    @asynccontextmanager
    async def read(self, scope: TenantScope) -> AsyncGenerator[AsyncSession]:
        """A consistent view of the store that takes no write lock: on SQLite nobody who writes holds it up.

        Limited to `scope.tenant_id`, and may not span a model or tool call, as `transaction`. Raises WriteInRead for a
        write or a row lock in it, and StoreAway."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        token = _open_transactions.set(_open_transactions.get() + 1)
        try:
            async with self._in_time() as deadline:
                session = self._readers()
                bind(session.sync_session, scope)
                session.deadline, work = deadline, UnitOfWork(session)
                limits = {"tenant": scope.tenant_id, "patience_ms": str(self._patience_ms)}
                with reads.refusing_writes():
                    try:
                        await work.begin(None if self.is_sqlite else _READ_ONLY, limits)
                        yield session
                    except BaseException:
                        await work.roll_back()
                        raise
                    await work.commit()
        finally:
            _open_transactions.reset(token)

    async def at_once(self, work: Callable[[sa.Connection], T], *, writes: bool = True) -> T:
        """One unit of the platform's own work in SQLAlchemy Core, for the paths of every request.

        Sees every tenant. A caller that is cancelled is so once it has ended. Raises StoreAway."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        return await run_to_completion(self._at_once(work, writes=writes))

    async def _at_once(self, work: Callable[[sa.Connection], T], *, writes: bool) -> T:
        async with self._in_time():
            return await self._direct.run(work, writes=writes)

    def group_commit(
        self, commit: Callable[[sa.Connection, Sequence[Order]], Sequence[Answer | Exception]]
    ) -> GroupCommit[Order, Answer]:
        """Orders that are carried out by one transaction for many callers; sees every tenant. `close` waits for them.

        Submitting raises StoreAway, and what `commit` answers or raises."""

        async def committed(orders: Sequence[Order]) -> Sequence[Answer | Exception]:
            return await self._at_once(lambda connection: commit(connection, orders), writes=True)

        made: GroupCommit[Order, Answer] = GroupCommit(committed)
        self._group_commits.add(made)
        return made

    @property
    def stalled_for(self) -> timedelta:
        """For how long the slowest group commit under way, of lookups or of the ledger, has had no answer."""
        return max(each.stalled_for for each in list(self._group_commits))

    async def look(self, ask: Ask[About, Found], about: About) -> Found:
        """Ask the store something small, together with whatever else is asked at this moment. Sees every tenant.

        Raises StoreAway, and what `ask` raises."""
        found: Found = await self._looks.submit(Look(ask, about))
        return found

    async def _looked(self, looks: Sequence[Look]) -> Sequence[Any]:
        try:
            return await self._at_once(lambda connection: answered(connection, looks), writes=False)
        except StoreAway:
            raise
        except Exception as error:  # noqa: BLE001 - raised to whoever asked
            kinds = by_kind(looks)
            if len(kinds) == 1:
                return [error] * len(looks)
        # One kind cannot be answered, a table that is broken: no reason for the others to fail.
        answers: list[Any] = [None] * len(looks)
        for places in kinds.values():
            for place, answer in zip(places, await self._looked([looks[place] for place in places]), strict=True):
                answers[place] = answer
        return answers

    def _read_engine(self) -> AsyncEngine:
        if not self.is_sqlite:
            return self._engine
        engine = create_async_engine(with_driver(self.url, sqlite="aiosqlite"), hide_parameters=True)
        tune_sqlite(engine.sync_engine, busy_timeout_ms=self._patience_ms, begin="BEGIN")
        return reads.query_only(engine)

    def _on_sqlite(self) -> Direct:
        def engine(*, begin: str, busy_timeout_ms: int) -> sa.Engine:
            made = sa.create_engine(with_driver(self.url, sqlite="pysqlite"), hide_parameters=True)
            tune_sqlite(made, busy_timeout_ms=busy_timeout_ms, begin=begin)
            return made

        return OnSqlite(engine, self._patience_ms)

    def _on_postgres(self) -> Direct:
        engine = create_async_engine(
            with_driver(self.url, sqlite="aiosqlite"), hide_parameters=True, isolation_level="AUTOCOMMIT",
            connect_args=self._connect_args, pool_size=4, max_overflow=0, pool_timeout=self.patience.total_seconds(),
        )  # fmt: skip
        see_all = f"SET LOCAL {SETTING} = '{ALL_TENANTS.tenant_id}'"
        return OnPostgres(engine, f"BEGIN; {see_all}; SET LOCAL statement_timeout = {self._patience_ms}")

    async def ping(self) -> None:
        """Ask whether writes are taken, by each way that requests take: batched lookups, a connection of the pool.

        Raises StoreAway."""
        await self.look(is_there, None)
        await run_to_completion(self._ping_pool())

    async def _ping_pool(self) -> None:
        async with self._in_time(), self._engine.connect() as connection:
            await connection.run_sync(require_takes_writes)

    async def reclaim(self) -> bool:
        """Give the space of deleted rows back; False where somebody was in the way. See `space`."""
        return await space.reclaim(self._engine)

    @property
    def _patience_ms(self) -> int:
        return round(self.patience.total_seconds() * 1_000)

    @asynccontextmanager
    async def _in_time(self) -> AsyncGenerator[float]:
        """What the database does not do in time, or cannot do now, ends as StoreAway. Yields until when it may take.

        A server that hangs is left by closing the connection; SQLite waits for locks alone, and by its own timeout.
        Shielded, because a client that hangs up cancels its request by an anyio scope, and that cancels every await of
        the scope. Native cancellation passes the shield, once: see `UninterruptedSession`."""
        patience = math.inf if self.is_sqlite else self.patience.total_seconds()
        try:
            with anyio.move_on_after(patience, shield=True) as scope:
                yield scope.deadline
        except (sa.exc.DBAPIError, sa.exc.TimeoutError, psycopg.OperationalError, OSError) as error:
            if not is_away(error):
                raise
            log.warning("store.away", error=type(error).__name__)
            raise StoreAway from error
        if scope.cancelled_caught:
            log.warning("store.away", error="too slow")
            raise StoreAway

    async def close(self) -> None:
        """Commit what has been submitted, then close every connection."""
        for each in list(self._group_commits):
            await each.close()
        await self.changes.close()
        await self._direct.close()
        await self._reading.dispose()
        await self._engine.dispose()
