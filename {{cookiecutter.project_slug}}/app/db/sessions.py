"""Sessions of PostgreSQL, and poolers that share them between clients: PgBouncer in transaction mode, and its like.

Advisory locks, LISTEN and the durable engine need a session for as long as they last, migrations too. Everything else
needs one for a transaction, and with `UNPREPARED` leaves nothing behind in it. Gate: errors, deployment.
"""

from typing import Any

import sqlalchemy as sa

from app.db.connections import sync_engine

# The driver would prepare a repeated statement under a name, in one session, and execute it by that name in another.
UNPREPARED: dict[str, Any] = {"prepare_threshold": None}
ROUNDS = 4
_SESSION = sa.text("SELECT pg_backend_pid()")


class SessionsShared(Exception):
    """The database is reached through a pooler that shares sessions; the message names the setting to change."""


def require_own_sessions(url: str, setting: str) -> None:
    """Raise SessionsShared where a connection to `url` does not keep one session of the server for itself."""
    engine = sync_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT", connect_args=UNPREPARED)
    try:
        if are_shared(engine):
            raise SessionsShared(_what_to_do(setting))
    finally:
        engine.dispose()


def are_shared(engine: sa.Engine) -> bool:
    """Whether two connections of an engine that commits each statement have met the same session, or one of them two.

    The second asks once more in each round: a pooler that gives its sessions in turn would else give each the same."""
    with engine.connect() as first, engine.connect() as second:
        of_first, of_second = set[int](), set[int]()
        for asked in range(1, ROUNDS + 1):
            of_first.add(first.scalar(_SESSION))
            of_second.update(second.scalar(_SESSION) for _ in range(asked))
    return len(of_first) + len(of_second) > 2 or of_first == of_second


def _what_to_do(setting: str) -> str:
    leads = f"{setting} leads to a connection pooler that shares sessions (PgBouncer's pool_mode=transaction)"
    if setting != "DATABASE_URL":
        return f"{leads}: name the server itself, or a pool in session mode."
    return (
        f"{leads}. It may, but advisory locks, LISTEN and the durable engine need sessions of their own: set "
        "DIRECT_DATABASE_URL to the server itself, or to a pool in session mode, with the same database and role."
    )
