"""Read transactions: they take no write lock, and a write in one is an error on both databases.

SQLite refuses it by `PRAGMA query_only`, PostgreSQL by a read-only transaction, and the session before either is asked.
Gate: performance, errors.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import ORMExecuteState, Session

READ_ONLY = "read_only"  # key of `Session.info`
_REFUSED = "`Database.read` cannot write or lock rows; use `Database.transaction`"


class WriteInRead(RuntimeError):
    """A read transaction was asked to write, or to lock rows."""


@contextmanager
def refusing_writes() -> Iterator[None]:
    """Raise WriteInRead in place of the database's own error for a write in a read transaction."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if _is_refused_write(error.orig):
            raise WriteInRead(_REFUSED) from error
        raise


def query_only(engine: AsyncEngine) -> AsyncEngine:
    """Let every connection of a SQLite engine read and nothing else."""

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    return engine


def _is_refused_write(cause: BaseException | None) -> bool:
    if isinstance(cause, psycopg.Error):
        return cause.sqlstate == "25006"  # read_only_sql_transaction
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY


@event.listens_for(Session, "before_flush")
def _refuse_changed_rows(session: Session, _context: object, _instances: object) -> None:
    if not session.info.get(READ_ONLY):
        return
    changed = any(session.is_modified(row) for row in session.dirty)
    if session.new or session.deleted or changed:
        raise WriteInRead(_REFUSED)


@event.listens_for(Session, "do_orm_execute")
def _refuse_writing_statements(state: ORMExecuteState) -> None:
    if not state.session.info.get(READ_ONLY):
        return
    # SQLite ignores FOR UPDATE: unnoticed there, it would fail on PostgreSQL alone.
    locks = getattr(state.statement, "_for_update_arg", None) is not None
    if state.is_insert or state.is_update or state.is_delete or locks:
        raise WriteInRead(_REFUSED)
