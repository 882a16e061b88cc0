"""A database belongs to one environment, and processes of another one refuse it.

`app migrate` records ENVIRONMENT and a random id in an empty database. From then on every process that opens it
compares: one of staging with production's DATABASE_URL ends before it has read or changed anything. A restored or
cloned database keeps the name until `app database adopt` changes it on purpose. The service's role may only read
the row.
Gate: deployment.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import uuid4

import sqlalchemy as sa

from app.db.base import utc_now
from app.db.models import DatabaseEnvironment

_TABLE = cast("sa.Table", DatabaseEnvironment.__table__)


class WrongEnvironment(Exception):
    """The database belongs to another environment than this process, or to none; the message says what to do."""


@dataclass(frozen=True)
class DatabaseIdentity:
    id: str
    environment: str
    recorded_at: datetime


def read_identity(connection: sa.Connection) -> DatabaseIdentity | None:
    """What the database has recorded about itself; None before its first migration."""
    if not sa.inspect(connection).has_table(_TABLE.name):
        return None
    row = connection.execute(sa.select(_TABLE)).one_or_none()
    return None if row is None else DatabaseIdentity(row.id, row.environment, row.recorded_at)


def require_environment(connection: sa.Connection, environment: str) -> None:
    """Raise WrongEnvironment unless this database has been recorded as this environment's."""
    identity = read_identity(connection)
    if identity is None:
        raise WrongEnvironment("The database does not say which environment it belongs to. Run: app migrate")
    require_same(identity, environment)


def require_same(identity: DatabaseIdentity, environment: str) -> None:
    """Raise WrongEnvironment where the database belongs to another environment."""
    if identity.environment != environment:
        raise WrongEnvironment(
            f"ENVIRONMENT is {environment}, and the database of DATABASE_URL belongs to {identity.environment} "
            f"(database {identity.id}): name the database of {environment} in DATABASE_URL. Only where this one is a "
            "restored or cloned database: app database adopt --reason …"
        )


def record_first(connection: sa.Connection, environment: str) -> None:
    """Record the environment where none is recorded yet. Needs the tables' owner."""
    if read_identity(connection) is None:
        connection.execute(sa.insert(_TABLE), _new(environment))


def replace(connection: sa.Connection, environment: str) -> DatabaseIdentity:
    """Give the database to this environment, with a new id. Needs the tables' owner."""
    new = _new(environment)
    connection.execute(sa.delete(_TABLE))
    connection.execute(sa.insert(_TABLE), new)
    return DatabaseIdentity(str(new["id"]), environment, cast("datetime", new["recorded_at"]))


def _new(environment: str) -> dict[str, object]:
    return {"id": str(uuid4()), "environment": environment, "recorded_at": utc_now()}
