"""Which errors of a database mean that it is away, or too busy, and not that it was asked for something wrong.

Gate: errors.
"""

import sqlite3

import psycopg
import sqlalchemy as sa

# By SQLSTATE (PostgreSQL's documentation, appendix A): connection, resources, shutdown, system; and what another try
# may well not meet again: a conflict of transactions, a lock or a statement that took too long.
_AWAY_STATES = ("08", "53", "57P", "58", "40", "55P03", "57014")
_AWAY_SQLITE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL})
_AWAY_SQLITE |= {sqlite3.SQLITE_CANTOPEN}


def is_away(error: BaseException) -> bool:
    """Whether the database could not be reached, or was too busy, and not that it was asked for something wrong."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    match cause:
        case psycopg.Error(sqlstate=None):
            return isinstance(cause, psycopg.OperationalError)
        case psycopg.Error(sqlstate=str(state)):
            return state.startswith(_AWAY_STATES)
        case sqlite3.Error():
            return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _AWAY_SQLITE
    return isinstance(cause, OSError | sa.exc.TimeoutError)
