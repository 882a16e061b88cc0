"""Transactions without a session: committed or rolled back whole, within the same time, over a server's restart."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta

import anyio
import pytest
import sqlalchemy as sa

from app.db.connections import sync_engine
from app.db.engine import Database
from app.errors import StoreAway
from gates.rig.databases import owner_of

pytestmark = pytest.mark.anyio
PATIENCE = timedelta(seconds=1)
THROW = sa.text("INSERT INTO switches (name, reason, thrown_by, thrown_at) VALUES (:name, '', '', '2026-01-01')")
NAMES = sa.text("SELECT name FROM switches ORDER BY name")


@pytest.fixture
async def db(database_url: str) -> AsyncGenerator[Database]:
    made = Database(database_url, patience=PATIENCE)
    yield made
    await made.close()


async def _throw(db: Database, name: str) -> None:
    await db.at_once(lambda connection: connection.execute(THROW, {"name": name}))


async def _names(db: Database) -> list[str]:
    return await db.at_once(lambda connection: list(connection.scalars(NAMES)), writes=False)


async def test_what_it_does_is_there_for_others(db: Database, database_url: str) -> None:
    await _throw(db, "runs")
    other = Database(database_url)
    assert await _names(other) == await _names(db) == ["runs"]
    await other.close()


async def test_what_raises_leaves_nothing_and_the_next_goes_on(db: Database) -> None:
    def half(connection: sa.Connection) -> None:
        connection.execute(THROW, {"name": "runs"})
        raise ValueError("half way")

    def wrong(connection: sa.Connection) -> None:
        connection.execute(THROW, {"name": "egress"})
        connection.execute(sa.text("SELECT x FROM no_such_table"))

    with pytest.raises(ValueError, match="half way"):
        await db.at_once(half)
    with pytest.raises(sa.exc.DBAPIError):
        await db.at_once(wrong)
    assert await _names(db) == []
    await _throw(db, "runs")
    assert await _names(db) == ["runs"]


async def test_another_one_s_lock_is_waited_for_and_only_so_long(db: Database, database_url: str) -> None:
    other = sync_engine(owner_of(database_url))
    with other.begin() as holder:
        holder.execute(THROW if db.is_sqlite else sa.text("LOCK TABLE switches"), {"name": "held"})
        began = time.monotonic()
        with pytest.raises(StoreAway):
            await _throw(db, "runs")
        assert time.monotonic() - began > PATIENCE.total_seconds() / 2
    with other.begin() as holder:
        holder.execute(THROW if db.is_sqlite else sa.text("LOCK TABLE switches"), {"name": "brief"})
        waiting = asyncio.create_task(_throw(db, "runs"))
        await anyio.sleep(0.2)  # the loop goes on meanwhile
        assert not waiting.done()
    await waiting
    other.dispose()
    assert "runs" in await _names(db)


async def test_it_goes_on_over_connections_that_the_server_has_closed(db: Database, database_url: str) -> None:
    if db.is_sqlite:
        return  # it has none
    await _throw(db, "runs")
    owner = sync_engine(owner_of(database_url))
    with owner.begin() as connection:
        ended = connection.scalars(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND pid <> pg_backend_pid()")
        )  # fmt: skip
        assert any(ended)
    owner.dispose()
    await _throw(db, "egress")
    assert await _names(db) == ["egress", "runs"]


async def test_who_is_cancelled_in_it_is_once_it_has_ended(db: Database) -> None:
    for moment in range(40):
        with anyio.move_on_after(moment * 0.0002):
            await _throw(db, f"tool:t{moment}")
        await _throw(db, f"tool:u{moment}")  # StoreAway, if the one before kept its lock
    assert len(await _names(db)) >= 40


def _double(connection: sa.Connection, asked: Sequence[int]) -> list[int]:
    connection.execute(sa.text("SELECT 1"))
    BATCHES.append(len(asked))
    return [2 * each for each in asked]


def _broken(connection: sa.Connection, asked: Sequence[int]) -> list[int]:
    connection.execute(sa.text("SELECT x FROM no_such_table"))
    return list(asked)


BATCHES: list[int] = []


async def test_questions_of_a_moment_are_asked_together_and_a_broken_kind_fails_alone(db: Database) -> None:
    BATCHES.clear()
    found = await asyncio.gather(
        *(db.look(_double, number) for number in range(20)), db.look(_broken, 1), return_exceptions=True
    )
    assert found[:20] == [2 * number for number in range(20)]
    assert isinstance(found[20], sa.exc.DBAPIError)
    assert len(BATCHES) < 5
    assert await db.look(_double, 4) == 8
