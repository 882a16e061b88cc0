"""Whatever a caller is cancelled by, and however often, no connection keeps a transaction. On both databases."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from app.background import run_to_completion
from app.db.connections import sync_engine
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from gates.rig.databases import owner_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]
INSERT = sa.text("INSERT INTO switches (name, reason, thrown_by, thrown_at) VALUES (:name, '', '', '2026-01-01')")
COUNT = sa.text("SELECT count(*) FROM switches WHERE name LIKE :name")
OPEN = sa.text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'")
HANGS_S = 240.0


@pytest.fixture
async def db(database_url: str) -> AsyncGenerator[Database]:
    made = Database(database_url, patience=timedelta(seconds=30))
    yield made
    await made.close()


async def _pair(db: Database, name: str) -> None:
    """Two rows, which are there together or not at all."""
    async with db.transaction(ALL_TENANTS) as session:
        await session.execute(INSERT, {"name": f"{name}:1"})
        await asyncio.sleep(0)
        await session.execute(INSERT, {"name": f"{name}:2"})


async def _core_pair(db: Database, name: str) -> None:
    def work(connection: sa.Connection) -> None:
        connection.execute(INSERT, {"name": f"{name}:1"})
        connection.execute(INSERT, {"name": f"{name}:2"})

    await db.at_once(work)


async def _count(db: Database, name: str) -> int:
    async with db.transaction(ALL_TENANTS) as session:
        return int(await session.scalar(COUNT, {"name": f"{name}%"}) or 0)


@pytest.mark.parametrize("pair", [_pair, _core_pair])
async def test_nothing_is_left_open_by_callers_that_are_cancelled(
    db: Database, database_url: str, pair: Callable[[Database, str], Coroutine[Any, Any, None]]
) -> None:
    chance = random.Random(7)  # noqa: S311 - a storm that can be repeated
    expected: dict[str, bool] = {}

    async def cut_off(number: int) -> None:
        name = f"tool:t{number}"
        work = asyncio.create_task(pair(db, name))
        for _ in range(chance.choice([1, 1, 2, 3])):  # again while it is on its way out
            await asyncio.sleep(chance.uniform(0, 0.01))
            work.cancel()
        [outcome] = await asyncio.gather(work, return_exceptions=True)
        assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome
        expected[name] = outcome is None

    for start in range(0, 120, 6):
        burst = [asyncio.create_task(cut_off(number)) for number in range(start, start + 6)]
        done, hanging = await asyncio.wait(burst, timeout=HANGS_S)
        assert not hanging
        for each in done:
            await each
        await _pair(db, f"tool:after{start}")  # the write lock is free
    for name, committed in expected.items():
        assert await _count(db, f"{name}:") in ({2} if committed else {0, 2}), name
    assert db._engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    if not db.is_sqlite:
        owner = sync_engine(owner_of(database_url))
        with owner.connect() as connection:
            assert connection.scalar(OPEN) == 0
        owner.dispose()


async def test_a_commit_that_has_begun_ends_first(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    commit = db._sessions.class_.commit

    async def slow(session: Any) -> None:
        begun.set()
        await go_on.wait()
        await commit(session)

    monkeypatch.setattr(db._sessions.class_, "commit", slow)
    work = asyncio.create_task(_pair(db, "tool:slow"))
    await begun.wait()
    for _ in range(3):
        work.cancel()
        await asyncio.sleep(0)
    assert not work.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert await _count(db, "tool:slow") == 2


@pytest.mark.parametrize("limit", [0.0, 0.002, 0.005])
async def test_a_timeout_and_a_task_group_around_a_transaction_work_as_ever(db: Database, limit: float) -> None:
    async def fail() -> None:
        await asyncio.sleep(limit)
        raise ValueError("the other one")

    async def again_and_again(round_: str) -> None:
        for number in range(10_000):
            await _pair(db, f"tool:{round_}{number}")

    async def together() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(again_and_again("together"))
            tasks.create_task(fail())

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(limit):
            await again_and_again("timeout")
    with pytest.raises(ExceptionGroup, match="unhandled") as raised:
        await together()
    assert raised.group_contains(ValueError, match="the other one")
    await _pair(db, "tool:after")


async def test_work_that_is_run_to_completion_is_not_cancelled_and_its_caller_is() -> None:
    ended: list[str] = []

    async def work() -> str:
        for _ in range(5):
            await asyncio.sleep(0)
        ended.append("it")
        return "answer"

    assert await run_to_completion(work()) == "answer"
    caller = asyncio.create_task(run_to_completion(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended == ["it", "it"]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await run_to_completion(work())
    assert ended == ["it", "it", "it"]
