"""What arrives while one commits goes into the next commit, and nobody pays for a caller that is cancelled."""

import asyncio
import random
from collections.abc import Sequence
from contextvars import ContextVar

import anyio
import anyio.lowlevel
import pytest

from app.db.group_commit import MAX_BATCH, CommitInterrupted, GroupCommit

pytestmark = pytest.mark.anyio
HANGS_S = 60.0  # some thousand times what a commit takes here
caller: ContextVar[str] = ContextVar("caller", default="nobody")


class Counting:
    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.under_way = 0
        self.fails = 0
        self.interrupted = 0
        self.contexts: set[str] = set()

    async def commit(self, orders: Sequence[int]) -> list[int | Exception]:
        assert self.under_way == 0, "two commits at once"
        self.under_way += 1
        self.contexts.add(caller.get())
        try:
            await asyncio.sleep(0.01)
            if self.fails:
                self.fails -= 1
                raise ConnectionError("away")
            if self.interrupted:
                self.interrupted -= 1
                raise asyncio.CancelledError
            self.batches.append(list(orders))
            return [ValueError(f"no {order}") if order < 0 else order * 2 for order in orders]
        finally:
            self.under_way -= 1

    @property
    def committed(self) -> list[int]:
        return sorted(order for batch in self.batches for order in batch)


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def commits(counting: Counting) -> GroupCommit[int, int]:
    return GroupCommit(counting.commit)


async def _all(commits: GroupCommit[int, int], orders: Sequence[int]) -> dict[int, int | BaseException]:
    answers = await asyncio.gather(*(commits.submit(order) for order in orders), return_exceptions=True)
    return dict(zip(orders, answers, strict=True))


async def test_one_alone_commits_at_once_and_many_go_together(
    counting: Counting, commits: GroupCommit[int, int]
) -> None:
    assert await commits.submit(1) == 2
    found = await _all(commits, range(10, 60))
    assert found == {order: order * 2 for order in range(10, 60)}
    assert [len(batch) for batch in counting.batches] == [1, 50]


async def test_no_commit_takes_more_than_its_share(counting: Counting, commits: GroupCommit[int, int]) -> None:
    await _all(commits, range(MAX_BATCH * 2 + 5))
    assert [len(batch) for batch in counting.batches] == [MAX_BATCH, MAX_BATCH, 5]


async def test_a_refusal_is_one_order_s_and_a_failure_all_of_a_commit_s(
    counting: Counting, commits: GroupCommit[int, int]
) -> None:
    found = await _all(commits, [1, -2, 3])
    assert (found[1], found[3]) == (2, 6)
    assert isinstance(found[-2], ValueError)
    counting.fails = 1
    found = await _all(commits, [4, 5])
    assert all(isinstance(found[order], ConnectionError) for order in (4, 5))
    assert await commits.submit(6) == 12, "the next commit is tried"


async def test_each_caller_gets_an_exception_of_its_own(counting: Counting, commits: GroupCommit[int, int]) -> None:
    counting.fails = 1
    found = await _all(commits, range(20))
    assert {str(error) for error in found.values()} == {"away"}
    assert len({id(error) for error in found.values()}) == 20


async def test_what_arrives_while_one_commits_goes_into_the_next(
    counting: Counting, commits: GroupCommit[int, int]
) -> None:
    first = asyncio.create_task(commits.submit(1))
    await asyncio.sleep(0.005)
    await asyncio.gather(first, *(commits.submit(order) for order in range(2, 7)))
    assert counting.batches == [[1], [2, 3, 4, 5, 6]]


@pytest.mark.parametrize("how", ["natively", "by a scope"])
async def test_the_order_of_a_cancelled_caller_is_carried_out(
    counting: Counting, commits: GroupCommit[int, int], how: str
) -> None:
    with anyio.CancelScope() as scope:
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(commits.submit(order)) for order in (1, 2, 3)]
            await asyncio.sleep(0.001)
            for each in waiting if how == "natively" else ():
                each.cancel()
            if how != "natively":
                scope.cancel()
                await anyio.lowlevel.checkpoint()
    assert all(each.cancelled() for each in waiting)
    assert await commits.submit(4) == 8
    assert counting.committed == [1, 2, 3, 4]


async def test_an_order_is_withdrawn_until_a_commit_has_taken_it_up(
    counting: Counting, commits: GroupCommit[int, int]
) -> None:
    taken = asyncio.create_task(commits.submit(1001))
    await asyncio.sleep(0.005)
    queued = asyncio.create_task(commits.submit(1002))
    await asyncio.sleep(0)
    queued.cancel()
    assert commits.withdraw(1002)
    assert not commits.withdraw(1001)
    assert await taken == 2002
    assert counting.committed == [1001]


async def test_a_commit_that_is_interrupted_cancels_no_caller(
    counting: Counting, commits: GroupCommit[int, int]
) -> None:
    counting.interrupted = 1
    found = await _all(commits, [1, 2])
    assert all(isinstance(error, CommitInterrupted) for error in found.values())
    assert await commits.submit(3) == 6


async def test_closing_waits_for_what_was_submitted(counting: Counting, commits: GroupCommit[int, int]) -> None:
    for order in range(MAX_BATCH + 1):
        commits.submit_nowait(order)
    await commits.close()
    assert len(counting.committed) == MAX_BATCH + 1
    assert commits.stalled_for.total_seconds() == 0


async def test_a_commit_runs_in_nobody_s_context(counting: Counting, commits: GroupCommit[int, int]) -> None:
    caller.set("a stranger")
    await commits.submit(1)
    assert counting.contexts == {"nobody"}


def test_each_event_loop_has_a_queue_of_its_own(counting: Counting, commits: GroupCommit[int, int]) -> None:
    async def leave_one() -> None:
        commits.submit_nowait(1)

    asyncio.run(leave_one())  # it ends before anything is committed
    assert asyncio.run(commits.submit(2)) == 4
    assert counting.batches == [[2]]


@pytest.mark.parametrize("seed", range(3))
async def test_one_impatient_caller_in_twenty_harms_nobody(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a storm that can be repeated
    innocent_cancelled = 0
    served = 0

    async def commit(orders: Sequence[int]) -> list[int | Exception]:
        await asyncio.sleep(chance.uniform(0.002, 0.006))
        return list(orders)

    commits: GroupCommit[int, int] = GroupCommit(commit)

    async def call(order: int, limit: float | None) -> None:
        nonlocal innocent_cancelled, served
        await asyncio.sleep(chance.uniform(0, 0.02))
        try:
            async with asyncio.timeout(limit):
                assert await commits.submit(order) == order
            served += 1
        except TimeoutError:
            assert limit is not None
        except asyncio.CancelledError:
            innocent_cancelled += 1
            raise

    for _ in range(100):
        limits = [chance.uniform(0.001, 0.006), *[None] * 19]
        burst = [asyncio.create_task(call(number, limit)) for number, limit in enumerate(limits)]
        done, hanging = await asyncio.wait(burst, timeout=HANGS_S)
        assert not hanging
        for each in done:
            await each
    assert innocent_cancelled == 0
    assert served >= 100 * 19
