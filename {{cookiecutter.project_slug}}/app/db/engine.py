"""The database: SQLite by default, PostgreSQL by DATABASE_URL, and the only place that commits. Gate: access."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from app.db.tenancy import TenantScope, bind
from app.db.walls import SETTING

_open_transactions: ContextVar[int] = ContextVar("open_transactions", default=0)
BUSY_TIMEOUT_MS = 30_000
# For this transaction alone: a pooled connection must not carry a tenant over. See `walls`.
_SEE_ONLY = sa.text(f"SELECT set_config('{SETTING}', :tenant, true)")


class TransactionOpen(RuntimeError):
    """A model or tool call was about to run inside a transaction, holding locks for its whole length."""


class StorageUnavailable(Exception):
    """The database cannot be opened; the message says what to change."""


def require_no_transaction(what: str) -> None:
    """Raise TransactionOpen when a transaction is open in this task."""
    if _open_transactions.get():
        raise TransactionOpen(f"{what} inside an open transaction: commit first")


class Database:
    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            _require_writable(self.url)
        self._engine = create_async_engine(
            _with_driver(self.url, sqlite="aiosqlite"),
            hide_parameters=True,  # an error's text must not carry what a caller sent
            **({} if self.is_sqlite else {"pool_size": 10, "max_overflow": 10, "pool_pre_ping": True}),
        )
        if self.is_sqlite:
            _tune_sqlite(self._engine.sync_engine)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self, scope: TenantScope) -> AsyncGenerator[AsyncSession]:
        """One unit of work, committed on a clean exit and rolled back on any exception.

        Every ORM query in it is limited to `scope.tenant_id`. May not span a model or tool call:
        both raise TransactionOpen."""
        token = _open_transactions.set(_open_transactions.get() + 1)
        try:
            async with self._sessions() as session, session.begin():
                bind(session.sync_session, scope)
                if not self.is_sqlite:
                    await (await session.connection()).execute(_SEE_ONLY, {"tenant": scope.tenant_id})
                yield session
        finally:
            _open_transactions.reset(token)

    async def ping(self) -> None:
        async with self._engine.connect() as connection:
            await connection.execute(sa.text("select 1"))

    async def close(self) -> None:
        await self._engine.dispose()


def sync_engine(url: str, **options: Any) -> sa.Engine:
    """A blocking engine on the same database with the same pragmas, for the durable engine and migrations."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        _require_writable(parsed)
    engine = sa.create_engine(_with_driver(parsed, sqlite="pysqlite"), hide_parameters=True, **options)
    if parsed.get_backend_name() == "sqlite":
        _tune_sqlite(engine)
    return engine


def _with_driver(url: URL, *, sqlite: str) -> URL:
    return url.set(drivername=f"sqlite+{sqlite}" if url.get_backend_name() == "sqlite" else "postgresql+psycopg")


def _require_writable(url: URL) -> None:
    if not url.database or url.database == ":memory:":
        raise StorageUnavailable("DATABASE_URL: SQLite needs a file, for example sqlite:///data/app.db")
    path = Path(url.database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except OSError as error:
        raise StorageUnavailable(
            f"DATABASE_URL: cannot write {path} ({error.strerror}); make the folder writable or name another file"
        ) from None


def _tune_sqlite(engine: sa.Engine) -> None:
    """Write-ahead log, and every transaction takes the write lock at its start.

    A deferred transaction that reads and then writes fails at once with "database is locked" when
    another wrote in between; BEGIN IMMEDIATE waits instead."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={BUSY_TIMEOUT_MS}", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
