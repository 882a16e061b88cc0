"""What arrives while one commits goes into the next commit, and everybody gets their own answer."""

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest

from app.db.together import MOST, Together

pytestmark = pytest.mark.anyio


class Counting:
    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.under_way = 0
        self.fails = 0

    async def commit(self, orders: Sequence[int]) -> list[int | Exception]:
        assert self.under_way == 0, "two commits at once"
        self.under_way += 1
        try:
            await anyio.sleep(0.01)
            if self.fails:
                self.fails -= 1
                raise ConnectionError("away")
            self.batches.append(list(orders))
            return [ValueError(f"no {order}") if order < 0 else order * 2 for order in orders]
        finally:
            self.under_way -= 1


async def _all(together: Together[int, int], orders: Sequence[int]) -> dict[int, int | Exception]:
    found: dict[int, int | Exception] = {}

    async def one(order: int) -> None:
        try:
            found[order] = await together.do(order)
        except (ValueError, ConnectionError) as error:
            found[order] = error

    async with anyio.create_task_group() as tasks:
        for order in orders:
            tasks.start_soon(one, order)
    return found


async def test_one_alone_commits_at_once_and_many_go_together() -> None:
    counting = Counting()
    together: Together[int, int] = Together(counting.commit)
    assert await together.do(1) == 2
    found = await _all(together, range(10, 60))
    assert found == {order: order * 2 for order in range(10, 60)}
    assert [len(batch) for batch in counting.batches] == [1, 50]


async def test_no_commit_takes_more_than_its_share() -> None:
    counting = Counting()
    await _all(Together(counting.commit), range(MOST * 2 + 5))
    assert [len(batch) for batch in counting.batches] == [MOST, MOST, 5]


async def test_a_refusal_is_one_order_s_and_a_failure_all_of_a_commit_s() -> None:
    counting = Counting()
    together: Together[int, int] = Together(counting.commit)
    found = await _all(together, [1, -2, 3])
    assert (found[1], found[3]) == (2, 6)
    assert isinstance(found[-2], ValueError)
    counting.fails = 1
    found = await _all(together, [4, 5])
    assert all(isinstance(found[order], ConnectionError) for order in (4, 5))
    assert await together.do(6) == 12, "the next commit is tried"


async def test_what_arrives_while_one_commits_goes_into_the_next() -> None:
    counting = Counting()
    together: Together[int, int] = Together(counting.commit)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(together.do, 1)
        await anyio.sleep(0.005)
        for order in range(2, 7):
            tasks.start_soon(together.do, order)
            await anyio.lowlevel.checkpoint()
    assert counting.batches == [[1], [2, 3, 4, 5, 6]]


async def test_who_is_cancelled_has_their_order_carried_out_and_leaves_the_turn_to_the_next() -> None:
    counting = Counting()
    together: Together[int, int] = Together(counting.commit)
    async with anyio.create_task_group() as tasks:
        for order in (1, 2, 3):
            tasks.start_soon(together.do, order)
        await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    assert sorted(order for batch in counting.batches for order in batch) == [1, 2, 3]
    assert await together.do(4) == 8
