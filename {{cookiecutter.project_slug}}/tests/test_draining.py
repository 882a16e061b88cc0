"""A segment under way finishes or stops at a checkpoint, and no checkpoint cuts off a tool that may not start twice."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from app.draining import Drain, checkpoint, is_interrupted, uninterrupted

LONG, SHORT = timedelta(seconds=60), timedelta(seconds=0)


async def _worker(drain: Drain, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    async def segment() -> None:
        with drain.segment():
            await work()

    task = asyncio.create_task(segment())
    await asyncio.sleep(0)
    return task


def test_without_a_worker_a_checkpoint_is_passed() -> None:
    async def story() -> None:
        await asyncio.wait_for(checkpoint(), 1)
        with uninterrupted():
            assert not is_interrupted()

    asyncio.run(story())


def test_a_segment_finishes_within_the_grace() -> None:
    async def story() -> None:
        drain, ended = Drain(LONG), asyncio.Event()

        async def work() -> None:
            await asyncio.sleep(0.05)
            await checkpoint()
            ended.set()

        task = await _worker(drain, work)
        drain.begin()
        assert await drain.finish()
        await task
        assert ended.is_set()

    asyncio.run(story())


def test_a_second_request_stops_at_the_next_checkpoint_and_not_before() -> None:
    async def story() -> None:
        drain, seen = Drain(LONG), list[str]()

        async def work() -> None:
            await asyncio.sleep(0.05)
            seen.append("the call that was at work")
            try:
                await checkpoint()
                seen.append("another call")
            finally:
                seen.append(f"interrupted: {is_interrupted()}")

        task = await _worker(drain, work)
        drain.begin()
        drain.begin()
        assert await drain.finish()
        await asyncio.wait({task})
        assert task.cancelled()
        assert seen == ["the call that was at work", "interrupted: True"]

    asyncio.run(story())


def test_the_checkpoint_of_one_call_waits_for_the_tool_of_another() -> None:
    async def story() -> None:
        drain, seen = Drain(LONG), list[str]()

        async def tool() -> None:
            with uninterrupted():
                await asyncio.sleep(0.2)
                await checkpoint()  # within it none stops
                seen.append("tool ended")

        async def work() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(tool())
                await asyncio.sleep(0.05)
                tasks.create_task(checkpoint())

        task = await _worker(drain, work)
        drain.begin()
        drain.begin()
        assert await drain.finish()
        await asyncio.wait({task})
        assert seen == ["tool ended"]
        assert task.cancelled()

    asyncio.run(story())


def test_what_outlasts_the_grace_is_cancelled_and_what_resists_that_is_told() -> None:
    async def story() -> None:
        drain, resists = Drain(SHORT), asyncio.Event()

        async def work() -> None:
            with uninterrupted():
                await asyncio.sleep(60)

        await _worker(drain, work)
        drain.begin()
        assert await drain.finish()
        stubborn = Drain(SHORT, cancelled_within=timedelta(seconds=0.3))

        async def deaf() -> None:
            while not resists.is_set():
                try:
                    await resists.wait()
                except asyncio.CancelledError:
                    continue

        task = await _worker(stubborn, deaf)
        stubborn.begin()
        assert not await stubborn.finish()
        resists.set()
        await asyncio.wait({task})

    asyncio.run(story())


def test_a_segment_that_comes_after_the_request_does_not_start() -> None:
    async def story() -> None:
        drain, started = Drain(LONG), list[str]()
        drain.begin()

        async def work() -> None:
            await checkpoint()
            started.append("work")

        task = await _worker(drain, work)
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()
        assert started == []

    asyncio.run(story())
