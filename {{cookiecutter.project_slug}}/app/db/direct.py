"""Short transactions in SQLAlchemy Core: no session's price, few round trips. For what every request does.

Both see every tenant, for one transaction at a time, so that no pool between here and the server carries it on.
Gate: performance.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")


class Direct(Protocol):
    async def run(self, work: Callable[[sa.Connection], T], *, writes: bool) -> T:
        """Do the work in a transaction, committed when it ends and rolled back when it raises."""
        ...

    async def close(self) -> None: ...


class NewEngine(Protocol):
    def __call__(self, *, begin: str, busy_timeout_ms: int) -> sa.Engine: ...


class OnSqlite:
    """On the event loop where no lock stands in the way: a statement takes microseconds, a way to a thread and back a
    multiple. Where another process writes, a thread waits for it, as long as `patience_ms`."""

    def __init__(self, engine: NewEngine, patience_ms: int) -> None:
        self._reads = _Kept(engine(begin="BEGIN", busy_timeout_ms=0))
        self._writes = _Kept(engine(begin="BEGIN IMMEDIATE", busy_timeout_ms=0))
        self._waits = _Kept(engine(begin="BEGIN IMMEDIATE", busy_timeout_ms=patience_ms))
        self._thread = ThreadPoolExecutor(1, "sqlite")

    async def run(self, work: Callable[[sa.Connection], T], *, writes: bool) -> T:
        try:
            return (self._writes if writes else self._reads).worked(work)
        except sa.exc.OperationalError as error:
            if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                raise
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._waits.worked, work)

    async def close(self) -> None:
        self._thread.shutdown()
        for kept in (self._reads, self._writes, self._waits):
            kept.close()


class _Kept:
    """A connection from its first use on."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: sa.Connection | None = None

    def worked(self, work: Callable[[sa.Connection], T]) -> T:
        if self._connection is None:
            self._connection = self._engine.connect()
        with self._connection.begin():
            return work(self._connection)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()


class OnPostgres:
    """`engine` commits each statement by itself; `begin` opens a transaction and says what holds in it, at once."""

    def __init__(self, engine: AsyncEngine, begin: str) -> None:
        self._engine, self._begin = engine, begin

    async def run(self, work: Callable[[sa.Connection], T], *, writes: bool) -> T:  # noqa: ARG002
        try:
            return await self._ran(work)
        except _Stale:  # connected before the server was started anew; nothing was done
            return await self._ran(work)

    async def _ran(self, work: Callable[[sa.Connection], T]) -> T:
        async with self._engine.connect() as connection:
            try:
                await connection.exec_driver_sql(self._begin)
            except sa.exc.DBAPIError as error:
                if error.connection_invalidated:
                    raise _Stale from error
                raise
            try:
                found = await connection.run_sync(work)
                await connection.exec_driver_sql("COMMIT")
            except sa.exc.DBAPIError as error:
                if not error.connection_invalidated:
                    await connection.exec_driver_sql("ROLLBACK")
                raise
            except BaseException:
                await connection.invalidate()  # a transaction may be open on it
                raise
            return found

    async def close(self) -> None:
        await self._engine.dispose()


class _Stale(Exception):
    """A connection of the pool that its server has closed."""
