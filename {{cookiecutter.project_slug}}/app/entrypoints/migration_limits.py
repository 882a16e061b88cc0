"""What a migration may hold up: it gives up on a lock that it does not get, and on a statement that takes too long.

A migration that waits for a lock blocks everybody who comes after it, so it waits shortly and names who is in the way
(PostgreSQL, "Explicit Locking": a waiting ACCESS EXCLUSIVE queues every reader behind it). Gate: deployment.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from app.db.connections import sync_engine

LOCK_TIMEOUT = timedelta(seconds=5)
STATEMENT_TIMEOUT = timedelta(minutes=10)  # what takes longer belongs into batches
_HOLDERS = sa.text(
    "SELECT a.pid, a.usename, a.state, a.xact_start, string_agg(DISTINCT c.relname, ', ' ORDER BY c.relname) AS tables "
    "FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.granted AND l.locktype = 'relation' AND c.relnamespace = 'public'::regnamespace "
    "AND a.datname = current_database() AND a.pid <> pg_backend_pid() "
    "GROUP BY a.pid, a.usename, a.state, a.xact_start ORDER BY a.xact_start NULLS LAST LIMIT 3"
)


class MigrationGaveUp(Exception):
    """A lock or the time was not to be had; nothing was changed, and the message says what was in the way."""


def apply(connection: sa.Connection) -> None:
    """Set both limits for this session; SQLite has its own busy timeout."""
    if connection.dialect.name == "postgresql":
        for name, limit in (("lock_timeout", LOCK_TIMEOUT), ("statement_timeout", STATEMENT_TIMEOUT)):
            connection.exec_driver_sql(f"SET {name} = {round(limit.total_seconds() * 1_000)}")


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Raise MigrationGaveUp in place of the driver's error where one of the limits was reached."""
    try:
        yield
    except OperationalError as error:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise MigrationGaveUp(
                f"The migration got no lock within {LOCK_TIMEOUT.total_seconds():g} s and changed nothing: "
                f"{_holders(url)}. Let it end, or end it with pg_terminate_backend, and repeat: app migrate"
            ) from None
        if isinstance(error.orig, psycopg.errors.QueryCanceled):
            raise MigrationGaveUp(
                f"A statement of the migration took longer than {STATEMENT_TIMEOUT.total_seconds():g} s and was "
                "undone: move rows in batches, outside of the migration's transaction"
            ) from None
        raise


def _holders(url: str) -> str:
    engine = sync_engine(url)
    try:
        with engine.connect() as connection:
            holders = [_told(row) for row in connection.execute(_HOLDERS).mappings()]
    finally:
        engine.dispose()
    return "; ".join(holders) or "whoever held it has let go meanwhile"


def _told(row: Any) -> str:
    since = f" since {row['xact_start']:%Y-%m-%dT%H:%M:%SZ}" if row["xact_start"] else ""
    state = f"{row['state'] or 'state unknown'}{since}"
    return f"process {row['pid']} of role {row['usename']} ({state}) holds {row['tables']}"
