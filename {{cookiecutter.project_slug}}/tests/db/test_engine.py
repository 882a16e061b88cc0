"""What a transaction does when the database is busy, away or asked for something wrong, and when it is given up."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
import psycopg
import pytest
import sqlalchemy as sa

from app.db.availability import is_away
from app.db.connections import sync_engine
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.errors import StoreAway
from app.identity.models import Member
from app.runtime import Runtime
from gates.rig import people
from gates.rig.databases import NewDatabase, owner_of
from gates.rig.relay import relay

pytestmark = pytest.mark.anyio
PATIENCE = timedelta(seconds=1)
WRITE = sa.text("UPDATE tenants SET name = name")


@pytest.fixture
async def db(database_url: str) -> AsyncGenerator[Database]:
    made = Database(database_url, patience=PATIENCE)
    yield made
    await made.close()


async def _write(db: Database) -> None:
    async with db.transaction(ALL_TENANTS) as session:
        await session.execute(WRITE)


async def test_one_that_is_given_up_keeps_no_lock(db: Database) -> None:
    for number in range(60):
        with anyio.move_on_after(0.0003 * (number % 20)):
            await _write(db)
        await _write(db)  # StoreAway, if the one before kept its lock


async def test_who_is_cancelled_in_a_transaction_leaves_its_connection_as_it_was(runtime: Runtime) -> None:
    """As a client does that hangs up on a stream: at any moment, and every await from then on is cancelled."""
    mine = await people.person(runtime, await people.tenant(runtime), ["member"])

    async def look_again_and_again() -> None:
        while True:
            async with runtime.db.transaction(mine.principal) as session:
                await session.scalars(sa.select(Member))

    for moment in range(60):
        with anyio.move_on_after(0.005 + moment * 0.0003):
            await look_again_and_again()
    # On every connection of the pool, what is written is there for others.
    added = [await runtime.members.add(mine.tenant_id, f"m{number}", ["member"], "test") for number in range(20)]
    async with runtime.db.transaction(mine.principal) as session:
        found = set(await session.scalars(sa.select(Member.id)))
    assert found == {mine.member_id, *added}


async def test_a_lock_is_waited_for_only_so_long(db: Database, database_url: str) -> None:
    other = sync_engine(owner_of(database_url))
    with other.begin() as holder:
        holder.execute(WRITE if db.is_sqlite else sa.text("LOCK TABLE tenants"))
        began = time.monotonic()
        with pytest.raises(StoreAway):
            await _write(db)
        assert time.monotonic() - began > PATIENCE.total_seconds() / 2
    other.dispose()
    await _write(db)


async def test_a_wrong_statement_is_a_bug_and_not_an_outage(db: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError):
        async with db.transaction(ALL_TENANTS) as session:
            await session.execute(sa.text("SELECT x FROM no_such_table"))


async def test_a_server_that_is_not_there_is_away() -> None:
    nowhere = Database("postgresql://nobody:x@127.0.0.1:9/nothing", patience=PATIENCE)
    with pytest.raises(StoreAway):
        await nowhere.ping()
    await nowhere.close()


@pytest.mark.parametrize("kind", ["transaction", "read"])
async def test_a_server_that_answers_nothing_is_left_in_time_with_every_connection(
    new_postgres: NewDatabase, kind: str
) -> None:
    """It takes connections, and from some moment on answers no question."""
    parts = urlsplit(new_postgres())
    [folder] = parse_qs(parts.query)["host"]
    with relay(_socket_of(Path(folder))) as wire:
        through = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{wire.port}", query="")
        db = Database(through.geturl(), patience=PATIENCE)

        async def ask() -> int | None:
            async with getattr(db, kind)(ALL_TENANTS) as session:
                one: int | None = await session.scalar(sa.text("SELECT 1"))
                return one

        assert await ask() == 1
        wire.trouble = "slow"
        asked = await asyncio.gather(*(ask() for _ in range(20)), return_exceptions=True)
        assert {type(each) for each in asked} == {StoreAway}
        wire.trouble = "down"
        wire.trouble = ""
        assert await ask() == 1, "no place in the pool is taken"
        wire.trouble = "slow"  # closing must not wait for an answer
        await db.close()


def _socket_of(server: Path) -> str:
    return str(next(path for path in server.glob(".s.PGSQL.*") if path.suffix != ".lock"))


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (psycopg.OperationalError("connection refused"), True),
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.errors.TooManyConnections(), True),
        (psycopg.errors.QueryCanceled(), True),
        (psycopg.errors.DeadlockDetected(), True),
        (psycopg.errors.LockNotAvailable(), True),
        (psycopg.errors.ReadOnlySqlTransaction(), True),
        (psycopg.errors.IdleInTransactionSessionTimeout(), True),
        (psycopg.errors.InFailedSqlTransaction(), False),
        (psycopg.errors.UndefinedTable(), False),
        (psycopg.errors.InsufficientPrivilege(), False),
        (psycopg.errors.InvalidPassword(), False),
        (psycopg.errors.UniqueViolation(), False),
        (psycopg.ProgrammingError("placeholders"), False),
        (sqlite3.IntegrityError(), False),
        (ConnectionResetError(), True),
        (ValueError(), False),
    ],
)
async def test_away_is_told_by_what_the_database_says(error: Exception, away: bool) -> None:
    assert is_away(error) == away
