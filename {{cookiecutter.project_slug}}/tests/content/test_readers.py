"""Turns at the reading processes: fair between tenants, bounded for each, given back whatever happens."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from app.content.readers import ReaderPool, ReadersBusy

pytestmark = pytest.mark.anyio


class Reading:
    """Files that are read until they are told to end; `under_way` names their tenants in the order of their starts."""

    def __init__(self, pool: ReaderPool) -> None:
        self.pool, self.under_way = pool, list[str]()
        self.peak: dict[str, int] = {}

    async def read(self, tenant: str, end: asyncio.Event) -> None:
        async with self.pool.turn(tenant):
            self.under_way.append(tenant)
            self.peak[tenant] = max(self.peak.get(tenant, 0), self.under_way.count(tenant))
            try:
                await end.wait()
            finally:
                self.under_way.remove(tenant)


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_one_tenant_cannot_have_all_processes() -> None:
    reading, end = Reading(ReaderPool()), asyncio.Event()
    greedy = [asyncio.create_task(reading.read("greedy", end)) for _ in range(9)]
    await _settle()
    assert reading.under_way == ["greedy"]
    other = asyncio.create_task(reading.read("other", end))
    await _settle()
    assert reading.under_way == ["greedy", "other"]
    end.set()
    await asyncio.gather(*greedy, other)
    assert reading.peak == {"greedy": 1, "other": 1}


async def test_a_free_process_goes_from_tenant_to_tenant() -> None:
    reading, started = Reading(ReaderPool(processes=1)), list[str]()

    async def read(tenant: str) -> None:
        async with reading.pool.turn(tenant):
            started.append(tenant)
            await asyncio.sleep(0)

    await asyncio.gather(*(read("greedy") for _ in range(6)), read("second"), read("third"))
    assert {"second", "third"} <= set(started[:4]), started


async def test_the_queue_of_a_tenant_is_bounded_and_says_when_to_come_back() -> None:
    reading, end = Reading(ReaderPool(max_waiting=2)), asyncio.Event()
    tasks = [asyncio.create_task(reading.read("greedy", end)) for _ in range(3)]
    await _settle()
    with pytest.raises(ReadersBusy) as busy:
        await reading.read("greedy", end)
    assert busy.value.retry_after > timedelta(0)
    end.set()
    await asyncio.gather(*tasks, reading.read("other", end))


async def test_who_waits_too_long_is_told_and_leaves_no_trace() -> None:
    reading, end = Reading(ReaderPool(patience=timedelta(milliseconds=20))), asyncio.Event()
    first = asyncio.create_task(reading.read("a", end))
    await _settle()
    with pytest.raises(ReadersBusy):
        await reading.read("a", end)
    end.set()
    await first
    await reading.read("a", end)
    assert not reading.pool._tenants


async def test_a_turn_is_given_back_by_who_is_cancelled_natively() -> None:
    reading, end = Reading(ReaderPool()), asyncio.Event()
    for waited in (False, True):
        holder = asyncio.create_task(reading.read("a", end if waited else asyncio.Event()))
        await _settle()
        tasks = [holder] if not waited else [asyncio.create_task(reading.read("a", asyncio.Event())) for _ in range(4)]
        await _settle()
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        end.set()
        await asyncio.wait_for(reading.read("a", end), 30)
        await asyncio.gather(holder, return_exceptions=True)
        end.clear()
    assert not reading.pool._tenants
