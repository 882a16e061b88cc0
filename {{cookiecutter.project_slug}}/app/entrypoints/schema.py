"""The database schema: bring it to the newest, or say that it is not. Gate: deployment."""

import fcntl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from app.db import database_environment, schema_revisions, walls
from app.db.base import Base
from app.db.connections import sync_engine
from app.db.sessions import require_own_sessions
from app.entrypoints import migration_limits, revisions
from app.entrypoints.release import stored_revisions
from app.runs.engine import migrate_engine
from app.settings import ROOT, Settings

if TYPE_CHECKING:
    from alembic.config import Config

LOCK_POLL_S = 0.2
MIGRATION_LOCK = 7_231_904_512  # any number that no other lock of this database uses


class SchemaBehind(Exception):
    """The database is older than the code."""


class MigrationFailed(Exception):
    """A migration cannot be applied; the message says which and why."""


def alembic_config(settings: Settings) -> "Config":
    from alembic.config import Config  # noqa: PLC0415 - a process that serves does not migrate

    config = Config(toml_file=ROOT / "pyproject.toml")
    config.attributes["database_url"] = settings.owner_database_url
    return config


def migrate(settings: Settings) -> bool:
    """Apply every migration of both roots and of the durable engine. Safe to repeat, and to run several at once.

    False where newer code has migrated the database and this code can work on it: nothing is changed.
    Raises MigrationFailed, MigrationGaveUp, SessionsShared, and WrongEnvironment and SchemaNewer before anything is
    changed."""
    if settings.migration_database_url is None:
        require_sessions(settings)
    elif not settings.is_sqlite:
        require_own_sessions(settings.owner_database_url, "MIGRATION_DATABASE_URL")
    with one_at_a_time(settings):
        _with_connection(settings.owner_database_url, lambda each: _require_not_anothers(each, settings.environment))
        if _is_of_newer_code(settings, settings.owner_database_url):
            return False
        with migration_limits.explained(settings.owner_database_url):
            _migrate(settings)
    return True


def _migrate(settings: Settings) -> None:
    from alembic import command  # noqa: PLC0415 - as in alembic_config
    from alembic.util import CommandError  # noqa: PLC0415

    readability = _readability()
    try:
        command.upgrade(alembic_config(settings), "heads")
    except CommandError as error:
        raise MigrationFailed(f"The migrations cannot be applied: {error}") from None
    _with_connection(settings.owner_database_url, lambda each: _record(each, settings, readability))
    role = _service_role(settings)
    if role is not None:
        _as_owner(settings, walls.make_role)
    migrate_engine(settings, role)
    if not settings.is_sqlite:
        _as_owner(settings, _put_up_walls)


def _readability() -> Mapping[str, str | None]:
    try:
        return revisions.readability(ROOT / "migrations")
    except ValueError as error:
        raise MigrationFailed(f"The migrations cannot be applied: {error}") from None


def _record(connection: sa.Connection, settings: Settings, readability: Mapping[str, str | None]) -> None:
    database_environment.record_first(connection, settings.environment)
    # Each step has recorded itself: this is for a `readable_by` that was changed since.
    schema_revisions.record(connection, readability, settings.service.version)


@contextmanager
def one_at_a_time(settings: Settings) -> Iterator[None]:
    """Wait until no other process migrates this database: by an advisory lock or a file's."""
    if settings.is_sqlite:
        file = settings.sqlite_file
        sync_engine(settings.database_url).dispose()  # raises StorageUnavailable, naming the setting
        with file.with_name(f"{file.name}.migrating").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        return
    engine = sync_engine(settings.owner_database_url)
    try:
        with engine.connect() as connection:
            while not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(MIGRATION_LOCK))):
                # Asked again and not waited for: who waits in a query holds a snapshot, and CREATE INDEX CONCURRENTLY
                # of the process that migrates would wait for that one.
                connection.commit()
                time.sleep(LOCK_POLL_S)
            connection.commit()  # the lock is the session's, and no transaction stays open beside the migrations
            yield
    finally:
        engine.dispose()


def _service_role(settings: Settings) -> str | None:
    own = make_url(settings.database_url).username
    return own if own != make_url(settings.owner_database_url).username else None


def _as_owner(settings: Settings, work: Callable[[sa.Connection, URL], None]) -> None:
    def limited(connection: sa.Connection) -> None:
        migration_limits.apply(connection)
        work(connection, make_url(settings.database_url))

    _with_connection(settings.owner_database_url, limited)


def _with_connection(url: str, work: Callable[[sa.Connection], None]) -> None:
    engine = sync_engine(url)
    try:
        with engine.begin() as connection:
            work(connection)
    finally:
        engine.dispose()


def _require_not_anothers(connection: sa.Connection, environment: str) -> None:
    identity = database_environment.read_identity(connection)
    if identity is not None:
        database_environment.require_same(identity, environment)


def require_environment(settings: Settings) -> None:
    """Raise WrongEnvironment unless the database belongs to this environment."""
    _with_connection(
        settings.database_url, lambda each: database_environment.require_environment(each, settings.environment)
    )


def _put_up_walls(connection: sa.Connection, service: URL) -> None:
    walls.put_up(connection, Base.metadata)
    if service.username != connection.engine.url.username:
        walls.grant(connection, service)


def require_no_powers(settings: Settings) -> None:
    """Raise RoleTooStrong where the service's database role could change the schema or see every tenant's rows."""
    for url in dict.fromkeys((settings.database_url, settings.session_database_url)):
        _with_connection(url, walls.require_no_powers)


def require_sessions(settings: Settings) -> None:
    """Raise SessionsShared where what needs a session for longer than a transaction would share one."""
    if not settings.is_sqlite:
        named = "DATABASE_URL" if settings.direct_database_url is None else "DIRECT_DATABASE_URL"
        require_own_sessions(settings.session_database_url, named)


def require_current(settings: Settings) -> None:
    """Raise SchemaBehind unless every migration is applied, and SchemaNewer where newer code has applied its own and
    they do not let this code work on the schema."""
    stored = _stored(settings.database_url)
    if revisions.all_applied(ROOT / "migrations", stored):
        return
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - only what is in doubt needs the library

    script = ScriptDirectory.from_config(alembic_config(settings))
    if not script.get_heads():  # nothing to be behind of, and so nothing shown
        raise MigrationFailed(f"No migration was found in {ROOT / 'migrations'}: the installation is not complete.")
    if _is_of_newer_code(settings, settings.database_url):
        return
    applied = {revision.revision for revision in script.get_all_current(tuple(stored))}
    if not applied.issuperset(script.get_heads()):
        raise SchemaBehind("The database schema is not current. Run: make migrate (or: app migrate)")


def _is_of_newer_code(settings: Settings, url: str) -> bool:
    """Whether the schema has migrations that this code does not know. Raises SchemaNewer unless they let it work."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - as in alembic_config

    stored = _stored(url)
    known = {each.revision for each in ScriptDirectory.from_config(alembic_config(settings)).walk_revisions()}
    if known.issuperset(stored):
        return False
    _with_connection(url, lambda each: schema_revisions.require_readable(each, known, stored))
    return True


def _stored(url: str) -> list[str]:
    engine = sync_engine(url)
    try:
        with engine.connect() as connection:
            return stored_revisions(connection)
    finally:
        engine.dispose()
