"""The SQLite that this service needs: it belongs to the Python in use, and no package can require it.

Gate: deployment.
"""

import sqlite3
import sys

# The durable engine takes its timestamps from unixepoch('subsec') on Python 3.12 and newer, which is NULL before
# SQLite 3.42, and from strftime before that. What this service and the engine use besides is there since 3.37.
MIN_SQLITE, MIN_SQLITE_FROM_PYTHON_312 = (3, 37, 0), (3, 42, 0)


class SqliteTooOld(Exception):
    """The SQLite of this Python cannot be used; the message says which is needed and what to do."""


def require_sqlite() -> None:
    """Raise SqliteTooOld where the SQLite of this Python is older than the service's or the durable engine's need."""
    is_newer_python = sys.version_info >= (3, 12)
    needed = MIN_SQLITE_FROM_PYTHON_312 if is_newer_python else MIN_SQLITE
    if sqlite3.sqlite_version_info >= needed:
        return
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    ways = "Use a Python with a newer SQLite"
    if is_newer_python and sqlite3.sqlite_version_info >= MIN_SQLITE:
        ways += ", Python 3.11 (make clean setup PYTHON=python3.11)"
    raise SqliteTooOld(
        f"DATABASE_URL: SQLite {'.'.join(map(str, needed))} or newer is needed with Python {python}, and this one has "
        f"{sqlite3.sqlite_version}. {ways}, or PostgreSQL: DATABASE_URL=postgresql://…"
    )
