"""How connections are made and tuned: drivers, the SQLite file and its pragmas. Gate: errors."""

import re
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import StatementError

from app.db.sqlite_version import require_sqlite

BUSY_TIMEOUT_MS = 30_000  # for what waits in other ways than through `Database`: the durable engine, migrations

_DETAIL = re.compile(r"\n(?:DETAIL|CONTEXT|HINT|QUERY):.*", re.DOTALL)  # what PostgreSQL adds to an error's first line


class StorageUnavailable(Exception):
    """The database cannot be opened; the message says what to change."""


@event.listens_for(sa.Engine, "handle_error")
def _hide_values(context: ExceptionContext) -> None:
    """Take what a statement carried out of its error's text, whoever made the engine.

    `hide_parameters` hides them on the engines made here. The durable engine makes more of its own, and a server's
    DETAIL (`Key (email)=(ada@...) already exists`) repeats them on every one."""
    error = context.sqlalchemy_exception
    if isinstance(error, StatementError):
        error.hide_parameters = True
        error.args = tuple(_without_detail(each) for each in error.args)
        if error.orig is not None:
            error.orig.args = tuple(_without_detail(each) for each in error.orig.args)


def _without_detail(text: Any) -> Any:
    return _DETAIL.sub("", text) if isinstance(text, str) else text


def sync_engine(url: str, **options: Any) -> sa.Engine:
    """A blocking engine on the same database with the same pragmas, for the durable engine and migrations."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        require_writable(parsed)
    engine = sa.create_engine(with_driver(parsed, sqlite="pysqlite"), hide_parameters=True, **options)
    if parsed.get_backend_name() == "sqlite":
        tune_sqlite(engine)
    return engine


def with_driver(url: URL, *, sqlite: str) -> URL:
    return url.set(drivername=f"sqlite+{sqlite}" if url.get_backend_name() == "sqlite" else "postgresql+psycopg")


def require_writable(url: URL) -> None:
    """Raise SqliteTooOld, or StorageUnavailable where the file cannot be written."""
    require_sqlite()
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


def tune_sqlite(engine: sa.Engine, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS, begin: str = "BEGIN IMMEDIATE") -> None:
    """Write-ahead log, and every transaction that may write takes the write lock at its start.

    A deferred transaction that reads and then writes fails at once with "database is locked" when
    another wrote in between; BEGIN IMMEDIATE waits instead."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={busy_timeout_ms}", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)
