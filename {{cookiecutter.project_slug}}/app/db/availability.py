"""Which errors say that the database is away, and which that it was asked for something wrong. Gate: errors."""

import sqlite3

import psycopg
import sqlalchemy as sa
from sqlalchemy import event

# A server that only reads: a primary that has become a standby, a disk or a quota that is full, an operator.
READ_ONLY_STATE = "25006"
# By SQLSTATE (PostgreSQL's documentation, appendix A): connection, resources, shutdown, system; what another try may
# well not meet again: a conflict of transactions, a lock, a statement or a transaction that took too long; read-only.
_AWAY_STATES = ("08", "53", "57P", "58", "40", "55P03", "57014", "25P03", "25P04", READ_ONLY_STATE)
_AWAY_SQLITE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL})
_AWAY_SQLITE |= {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
# Raised by the server, as a write would raise it, and so treated like one.
_REQUIRE_WRITES = sa.text(
    "DO $$ BEGIN IF current_setting('transaction_read_only') = 'on' THEN "
    f"RAISE SQLSTATE '{READ_ONLY_STATE}' USING MESSAGE = 'the server is read-only'; END IF; END $$"
)
_ANSWERS = sa.text("select 1")


def is_away(error: BaseException) -> bool:
    """Whether the database could not be reached, was too busy or takes no writes; not that it was asked wrongly."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    match cause:
        case psycopg.Error(sqlstate=None):
            return isinstance(cause, psycopg.OperationalError)
        case psycopg.Error(sqlstate=str(state)):
            return state.startswith(_AWAY_STATES)
        case sqlite3.Error():
            return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _AWAY_SQLITE
    return isinstance(cause, OSError | sa.exc.TimeoutError)


def require_takes_writes(connection: sa.Connection) -> None:
    """Raise the database's own error where it does not answer, or answers and takes no writes.

    On SQLite whoever begins a transaction that may write finds out, so this one only asks for an answer."""
    connection.execute(_REQUIRE_WRITES if connection.dialect.name == "postgresql" else _ANSWERS)


@event.listens_for(sa.Engine, "handle_error")
def _leave_server_that_only_reads(context: sa.engine.ExceptionContext) -> None:
    """Close the connections of a pool that leads to it: the primary may be elsewhere by now, and a session keeps its
    own setting. Of every engine of the process, the durable engine's too."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY_STATE:
        context.is_disconnect = True
