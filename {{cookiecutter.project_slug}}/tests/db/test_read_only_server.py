"""fault 10: a database that takes no writes is away, readiness says so, and new connections find it again."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from app.db import connections, reads
from app.db.engine import Database
from app.db.reads import WriteInRead
from app.db.tenancy import ALL_TENANTS
from app.errors import StoreAway
from gates.rig.databases import NewDatabase, owner_of

pytestmark = pytest.mark.anyio
WRITE = sa.text("UPDATE tenants SET name = name")


@contextmanager
def _read_only(service_url: str) -> Iterator[None]:
    """Every session as after a failover: the old ones are gone, new ones cannot write for as long as they last."""
    _as_owner(service_url, "ALTER DATABASE {} SET default_transaction_read_only = on")
    _end_sessions(service_url)
    yield
    _as_owner(service_url, "ALTER DATABASE {} RESET default_transaction_read_only")


def _as_owner(service_url: str, statement: str) -> None:
    with psycopg.connect(owner_of(service_url), autocommit=True) as owner:
        owner.execute("SET default_transaction_read_only = off")
        owner.execute(sql.SQL(statement).format(sql.Identifier(owner.info.dbname)))


def _end_sessions(service_url: str) -> None:
    with psycopg.connect(owner_of(service_url), autocommit=True) as owner:
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture
async def server(new_postgres: NewDatabase) -> str:
    return new_postgres()


@pytest.fixture
async def db(server: str) -> AsyncGenerator[Database]:
    made = Database(server, patience=timedelta(seconds=5))
    yield made
    await made.close()


async def _write(db: Database) -> None:
    async with db.transaction(ALL_TENANTS) as session:
        await session.execute(WRITE)


async def _write_directly(db: Database) -> None:
    await db.at_once(lambda connection: connection.execute(WRITE))


async def test_every_way_to_write_says_that_the_store_is_away_and_comes_back(db: Database, server: str) -> None:
    await db.ping()
    with _read_only(server):
        for each in (_write, _write_directly, Database.ping):
            with pytest.raises(StoreAway):
                await each(db)
    for each in (_write, _write_directly, Database.ping):
        await each(db)


async def test_the_health_check_alone_renews_the_pool(db: Database, server: str) -> None:
    """No request need fail first, and none is tried on a connection that cannot write."""
    with _read_only(server), pytest.raises(StoreAway):
        await db.ping()
    await db.ping()
    await _write(db)


async def test_a_blocking_engine_renews_its_pool_as_well(server: str) -> None:
    """As the durable engine's does, which SQLAlchemy makes for it."""
    engine = connections.sync_engine(server, pool_pre_ping=True)

    def write() -> None:
        with engine.begin() as connection:
            connection.execute(WRITE)

    write()
    with _read_only(server), pytest.raises(sa.exc.DBAPIError) as failed:
        write()
    assert failed.value.connection_invalidated, "the durable engine tries again what failed with its connection"
    write()
    engine.dispose()


async def test_reads_go_on_and_one_write_at_most_meets_a_session_of_theirs(db: Database, server: str) -> None:
    with _read_only(server):
        for _ in range(3):
            async with db.read(ALL_TENANTS) as session:
                assert await session.scalar(sa.text("SELECT 1")) == 1
    with suppress(StoreAway):
        await _write(db)
    for _ in range(3):
        await _write(db)


async def test_a_write_in_a_read_is_a_bug_and_no_outage(db: Database) -> None:
    with pytest.raises(WriteInRead):
        async with db.read(ALL_TENANTS) as session:
            await session.execute(WRITE)
    await _write(db)


async def test_a_file_that_takes_no_writes_is_away(new_sqlite: NewDatabase) -> None:
    """The same of SQLite, a volume that was mounted anew: read-only by the connection, because root may write all."""
    db = Database(new_sqlite())
    reads.query_only(db._engine)
    with pytest.raises(StoreAway):
        await _write(db)
    await db.close()
