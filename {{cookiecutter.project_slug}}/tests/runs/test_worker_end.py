"""The end of a worker on its engine: what it took and did not finish is in the queue again before its slot is free."""

import asyncio
import logging
from pathlib import Path

import pytest
from dbos import DBOS, DBOSConfig

from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.draining import Drain, checkpoint
from app.runs.engine import DurableQueue, polls_queue, running_worker
from app.runs.liveness import FileLocks
from app.settings import Settings, load_settings
from gates.rig.databases import NewDatabase


@pytest.fixture
def settings(new_sqlite: NewDatabase) -> Settings:
    return load_settings(database_url=new_sqlite(), environment="test")


async def _enqueue(settings: Settings, queue: DurableQueue, run_id: str) -> None:
    db = Database(settings.database_url)
    async with db.transaction(ALL_TENANTS) as session:
        await queue.enqueue(session, run_id, 1)
    await db.close()


def test_an_interrupted_segment_is_handed_back_and_goes_on_at_the_next_worker(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    async def story() -> None:
        queue, drain, begun, ended = DurableQueue(settings), Drain(), asyncio.Event(), asyncio.Event()
        locks = FileLocks(Path(settings.database_url.removeprefix("sqlite:///")).parent / "locks")

        async def advance(_run_id: str, _segment: int) -> str:
            begun.set()
            await asyncio.sleep(0.3)
            await checkpoint()
            ended.set()
            return "done"

        async with running_worker(settings, advance, drain) as identity:
            await _enqueue(settings, queue, "run-1")
            await asyncio.wait_for(begun.wait(), 30)
            assert polls_queue()
            drain.begin()
            drain.begin()
            assert not locks.acquire(identity)  # at work, and then some
        assert locks.acquire(identity)
        locks.release(identity)
        assert not ended.is_set()
        [segment] = await queue._client.list_workflows_async(workflow_ids=["run-1:1"])
        assert (segment.status, segment.queue_name) == ("ENQUEUED", "runs")
        begun.clear()
        async with running_worker(settings, advance):
            await asyncio.wait_for(ended.wait(), 30)
        assert await queue.given_up([("run-1", 1)]) == [("run-1", 1)]  # it is done: nothing moves any more
        queue.close()

    asyncio.run(story())


def test_a_cancelled_caller_waits_for_the_end_of_its_worker(settings: Settings) -> None:
    async def story() -> None:
        queue, begun, seen = DurableQueue(settings), asyncio.Event(), list[str]()

        async def advance(_run_id: str, _segment: int) -> str:
            begun.set()
            await asyncio.sleep(1)
            seen.append("segment ended")
            return "done"

        async def process() -> None:
            try:
                async with running_worker(settings, advance):
                    await asyncio.sleep(60)
            finally:
                seen.append("worker ended")

        task = asyncio.create_task(process())
        await _enqueue(settings, queue, "run-1")
        await asyncio.wait_for(begun.wait(), 30)
        task.cancel()
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert seen == ["segment ended", "worker ended"]
        queue.close()

    asyncio.run(story())


def test_the_engine_s_stop_events_are_where_they_are_read(settings: Settings) -> None:
    config: DBOSConfig = {"name": "contract", "system_database_url": settings.database_url, "run_migrations": False}
    engine = DBOS(config=config)
    try:
        assert engine.background_thread_stop_events == []
        DBOS.launch()
        assert engine.background_thread_stop_events
        assert all(not event.is_set() for event in engine.background_thread_stop_events)
    finally:
        DBOS.destroy()


def test_what_a_cancelled_step_was_called_with_is_not_logged(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async def advance(_run_id: str, _segment: int) -> str:
            return "done"

        async with running_worker(settings, advance):
            with caplog.at_level(logging.WARNING, "dbos"):
                logging.getLogger("dbos").warning("Asyncio task cancelled for workflow or step f('secret words')")
                logging.getLogger("dbos").warning("something else")

    asyncio.run(story())
    assert "secret words" not in caplog.text
    assert "something else" in caplog.text
