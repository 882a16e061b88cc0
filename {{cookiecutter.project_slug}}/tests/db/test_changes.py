"""Whoever waits for a run hears of its change at the commit, from this process or another, and not before."""

import asyncio
import contextvars
from collections.abc import AsyncGenerator
from datetime import timedelta

import psycopg
import pytest

from app.db.changes import CHANNEL, LOOK_EVERY, LOOK_EVERY_LISTENING, Changes, Subscription
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.runs.intake import RunRequest
from app.runs.models import Run
from app.runtime import Runtime
from gates.rig import people
from gates.rig.databases import owner_of
from gates.rig.runs import stored_run

pytestmark = pytest.mark.anyio
LONG = timedelta(seconds=30)  # for what comes at once; nothing is judged by how long it takes
NOTHING = timedelta(seconds=0.05)
_seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="")


@pytest.fixture
async def other(database_url: str) -> AsyncGenerator[Database]:
    """The database as another process has it."""
    made = Database(database_url)
    yield made
    await made.close()


async def _new_run(runtime: Runtime) -> str:
    mine = await people.person(runtime, await people.tenant(runtime), ["member"])
    return await stored_run(runtime, mine.principal, RunRequest("gone", "a task", ()))


async def _begin(db: Database, run_id: str, *, fail: bool = False) -> None:
    async with db.transaction(ALL_TENANTS) as session:
        (await session.get_one(Run, run_id)).state = "running"
        await session.flush()
        if fail:
            raise LookupError


async def test_a_commit_wakes_who_waits_for_that_run_alone(runtime: Runtime) -> None:
    mine, others = await _new_run(runtime), await _new_run(runtime)
    with runtime.db.changes.subscribe(mine) as waiting, runtime.db.changes.subscribe(others) as uninterested:
        await _settle(waiting, uninterested)
        await _begin(runtime.db, mine)
        assert await waiting.wait(LONG)
        assert not await uninterested.wait(NOTHING)


async def _settle(*subscriptions: Subscription) -> None:
    """The first connection wakes everybody once; from then on only a change does."""
    for subscription in subscriptions:
        while await subscription.wait(timedelta(seconds=0.3)):
            pass


async def test_what_is_rolled_back_wakes_nobody(runtime: Runtime) -> None:
    mine = await _new_run(runtime)
    with runtime.db.changes.subscribe(mine) as waiting:
        await _settle(waiting)
        with pytest.raises(LookupError):
            await _begin(runtime.db, mine, fail=True)
        assert not await waiting.wait(NOTHING)


async def test_another_process_is_heard_where_the_database_can_tell(runtime: Runtime, other: Database) -> None:
    mine = await _new_run(runtime)
    with runtime.db.changes.subscribe(mine) as waiting:
        if runtime.db.is_sqlite:
            assert runtime.db.changes.look_every == LOOK_EVERY
            return
        assert await waiting.wait(LONG)  # it listens now
        await _settle(waiting)
        assert runtime.db.changes.look_every == LOOK_EVERY_LISTENING
        await _begin(other, mine)
        assert await waiting.wait(LONG)


async def test_a_lost_listener_comes_back_and_says_so_meanwhile(
    runtime: Runtime, other: Database, database_url: str
) -> None:
    if runtime.db.is_sqlite:
        assert runtime.db.changes.look_every == LOOK_EVERY
        return
    mine = await _new_run(runtime)
    with runtime.db.changes.subscribe(mine) as waiting:
        assert await waiting.wait(LONG)
        await _settle(waiting)
        with psycopg.connect(owner_of(database_url), autocommit=True) as server:
            ended = server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' "
                "AND datname = current_database()"
            ).fetchall()
        assert ended == [(True,)], "one connection of a process listens"
        assert await waiting.wait(LONG)  # to look at its own pace
        while runtime.db.changes.look_every != LOOK_EVERY_LISTENING:
            await waiting.wait(LONG)
        await _settle(waiting)
        await _begin(other, mine)
        assert await waiting.wait(LONG)


async def test_a_notification_carries_an_id_and_nothing_else(
    runtime: Runtime, other: Database, database_url: str
) -> None:
    mine = await _new_run(runtime)
    if runtime.db.is_sqlite:
        return
    with psycopg.connect(owner_of(database_url), autocommit=True) as server:
        server.execute(f"LISTEN {CHANNEL}".encode())
        await _begin(other, mine)
        [notification] = await asyncio.to_thread(lambda: list(server.notifies(timeout=30, stop_after=1)))
    assert notification.payload == mine


async def test_the_listener_does_not_keep_the_context_of_who_started_it(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []

    async def listen(_changes: Changes) -> None:
        found.append(_seen.get())

    monkeypatch.setattr(Changes, "_listen_forever", listen)
    _seen.set("a stranger's request")
    with runtime.db.changes.subscribe("run") as waiting:
        await waiting.wait(NOTHING)
    assert found == ([] if runtime.db.is_sqlite else [""])
