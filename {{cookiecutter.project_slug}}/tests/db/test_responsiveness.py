"""Stuck, away and ready are three things, and a restart is asked for in the first case only."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import Any, Never

import pytest

from app.db import responsiveness
from app.db.engine import Database
from app.db.group_commit import GroupCommit
from app.db.responsiveness import Responsiveness
from app.errors import StoreAway

pytestmark = pytest.mark.anyio
DEADLINE = timedelta(milliseconds=200)


@pytest.fixture
async def db(database_url: str) -> AsyncGenerator[Database]:
    made = Database(database_url)
    yield made
    await made.close()


class Hanging:
    """What a group commit meets whose transaction never ends."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def run(self, work: Callable[..., Any], *, writes: bool) -> Any:  # noqa: ARG002
        await self.go_on.wait()
        raise StoreAway


async def _until_stuck(health: Responsiveness) -> None:
    while not await health.is_stuck():  # noqa: ASYNC110 - asked again and again, as an orchestrator does
        await asyncio.sleep(DEADLINE.total_seconds() / 4)


async def test_a_process_that_gets_answers_is_ready_and_alive(db: Database) -> None:
    health = Responsiveness(db)
    await health.require_ready()
    assert not await health.is_stuck()
    await health.require_ready()  # the question that this began has its answer before the loop is closed


async def test_a_database_that_is_away_is_no_reason_for_a_restart(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> Never:
        raise StoreAway

    monkeypatch.setattr(db._direct, "run", away)
    health = Responsiveness(db, deadline=DEADLINE)
    with pytest.raises(StoreAway):
        await health.require_ready()
    await asyncio.sleep(2 * DEADLINE.total_seconds())
    assert not await health.is_stuck()


async def test_a_process_without_any_answer_is_stuck_until_it_gets_one(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, before = Hanging(), db._direct
    monkeypatch.setattr(responsiveness, "GRACE", DEADLINE / 10)
    monkeypatch.setattr(db, "_direct", hanging)
    health = Responsiveness(db, deadline=DEADLINE)
    await _until_stuck(health)  # by asking alone: nobody else need use the database
    with pytest.raises(StoreAway, match="stuck"):
        await health.require_ready()
    monkeypatch.setattr(db, "_direct", before)
    hanging.go_on.set()
    with pytest.raises(StoreAway):
        await health.require_ready()
    assert not await health.is_stuck()
    await health.require_ready()


async def test_the_ledger_s_commits_are_watched_as_well(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging, before = Hanging(), db._direct
    monkeypatch.setattr(responsiveness, "GRACE", DEADLINE / 10)
    commits: GroupCommit[int, int] = db.group_commit(lambda _connection, orders: list(orders))
    monkeypatch.setattr(db, "_direct", hanging)
    commits.submit_nowait(1).add_done_callback(lambda answer: answer.exception())
    await asyncio.sleep(0)
    monkeypatch.setattr(db, "_direct", before)
    health = Responsiveness(db, deadline=DEADLINE)
    await health.require_ready()  # lookups are answered
    await _until_stuck(health)
    hanging.go_on.set()
    await commits.close()
    assert not await health.is_stuck()
    await health.require_ready()


async def test_one_question_is_under_way_however_many_ask(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    look = db.look

    async def counted(*question: Any) -> Any:
        nonlocal asked
        asked += 1
        return await look(*question)

    monkeypatch.setattr(db, "look", counted)
    health = Responsiveness(db)
    await asyncio.gather(*(health.require_ready() for _ in range(50)))
    assert asked == 2  # its own, and that of `Database.ping`
