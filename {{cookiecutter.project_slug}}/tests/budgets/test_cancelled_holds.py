"""A caller that is cancelled holds nothing afterwards, and what it settles is settled. On both databases."""

import asyncio
import random
from collections.abc import Sequence
from uuid import uuid4

import anyio
import pytest
from sqlalchemy import Connection, func, select

from app.budgets.book import Outcome
from app.budgets.caps import Payer
from app.budgets.ledger import CallPurpose, Reservation, Used
from app.budgets.models import ModelCall
from app.budgets.orders import Hold, Order
from app.db.group_commit import GroupCommit
from app.db.tenancy import ALL_TENANTS
from app.errors import BudgetExceeded
from app.runtime import Runtime
from gates.rig import people

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]
PURPOSE = CallPurpose("assistant", "test-model", "v1")
CENT = 10_000
HANGS_S = 240.0  # a thousand times what a burst takes


async def _payer(runtime: Runtime, cap_micro: int = 10**9) -> Payer:
    payer = Payer(await people.tenant(runtime), str(uuid4()), "")
    await runtime.ledger.set_cap(payer, "tenant", cap_micro, actor="test")
    return payer


async def _committed(runtime: Runtime) -> None:
    """Wait for every order that was given, as closing the database does."""
    await runtime.ledger._commits.close()


async def _calls(runtime: Runtime, payer: Payer) -> dict[str, int]:
    """How many calls are in each state."""
    async with runtime.db.transaction(ALL_TENANTS) as session:
        query = select(ModelCall.state, func.count()).where(ModelCall.tenant_id == payer.tenant_id)
        return {str(state): int(count) for state, count in await session.execute(query.group_by(ModelCall.state))}


async def _require_books_agree(runtime: Runtime, payer: Payer) -> None:
    async with runtime.db.transaction(ALL_TENANTS) as session:
        sums = select(func.coalesce(func.sum(ModelCall.cost_micro), 0)).where(ModelCall.tenant_id == payer.tenant_id)
        cost = await session.scalar(sums)
    for window in await runtime.ledger.windows(payer):
        if window.scope == "tenant":
            assert (window.spent_micro, window.held_micro) == (cost, 0)


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancelled_reserve_holds_nothing(runtime: Runtime, turns: int) -> None:
    """Cancelled in each turn of the loop: queued, taken up, committed, answered."""
    payer = await _payer(runtime)
    asking = asyncio.create_task(runtime.ledger.reserve(payer, 5 * CENT, PURPOSE))
    for _ in range(turns):
        await asyncio.sleep(0)
    asking.cancel()
    [outcome] = await asyncio.gather(asking, return_exceptions=True)
    if not isinstance(outcome, asyncio.CancelledError):
        assert not isinstance(outcome, BaseException)
        await runtime.ledger.settle(outcome, Used(0, 0, 0))  # it was done before it was cancelled
    await _committed(runtime)
    assert "held" not in await _calls(runtime, payer)
    await _require_books_agree(runtime, payer)


async def test_a_hold_that_was_taken_up_is_released_at_once(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    payer = await _payer(runtime)
    asking: list[asyncio.Task[Reservation]] = []

    def cancelling(connection: Connection, orders: Sequence[Order]) -> Sequence[Outcome]:
        """In the middle of the commit its caller is cancelled."""
        if any(isinstance(order, Hold) for order in orders):
            asking[0].cancel()
        return runtime.ledger._post(connection, orders)

    commits: GroupCommit[Order, Outcome] = runtime.db.group_commit(cancelling)
    monkeypatch.setattr(runtime.ledger, "_commits", commits)
    asking.append(asyncio.create_task(runtime.ledger.reserve(payer, 5 * CENT, PURPOSE)))
    assert [type(each) for each in await asyncio.gather(*asking, return_exceptions=True)] == [asyncio.CancelledError]
    await _committed(runtime)
    assert await _calls(runtime, payer) == {"released": 1}
    await _require_books_agree(runtime, payer)


async def test_a_scope_that_is_cancelled_holds_nothing_either(runtime: Runtime) -> None:
    payer = await _payer(runtime)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await runtime.ledger.reserve(payer, 5 * CENT, PURPOSE)
    assert scope.cancelled_caught
    await _committed(runtime)
    assert "held" not in await _calls(runtime, payer)
    await _require_books_agree(runtime, payer)


@pytest.mark.parametrize("turns", range(4))
async def test_a_cancelled_settle_settles(runtime: Runtime, turns: int) -> None:
    payer = await _payer(runtime)
    held = await runtime.ledger.reserve(payer, 5 * CENT, PURPOSE)
    settling = asyncio.create_task(runtime.ledger.settle(held, Used(2 * CENT, 1, 1)))
    await asyncio.sleep(0)
    for _ in range(turns):
        await asyncio.sleep(0)
    settling.cancel()
    await asyncio.gather(settling, return_exceptions=True)
    await _committed(runtime)
    assert await _calls(runtime, payer) == {"settled": 1}
    await _require_books_agree(runtime, payer)


async def test_closing_the_database_waits_for_releases(runtime: Runtime) -> None:
    payer = await _payer(runtime)
    held = await runtime.ledger.reserve(payer, 5 * CENT, PURPOSE)
    settling = asyncio.create_task(runtime.ledger.settle(held, Used(CENT, 1, 1)))
    await asyncio.sleep(0)
    settling.cancel()
    await runtime.db.close()
    assert await _calls(runtime, payer) == {"settled": 1}


async def test_a_storm_with_one_impatient_caller_in_twenty(runtime: Runtime) -> None:
    payer = await _payer(runtime, 4_000 * CENT)
    chance = random.Random(15)  # noqa: S311 - a storm that can be repeated
    count = {"innocent cancelled": 0, "served": 0, "refused": 0, "impatient": 0}

    async def call(limit: float | None) -> None:
        await asyncio.sleep(chance.uniform(0, 0.02))
        try:
            async with asyncio.timeout(limit):
                held = await runtime.ledger.reserve(payer, 2 * CENT, PURPOSE)
                try:
                    await runtime.ledger.require_headroom(payer)
                finally:
                    await runtime.ledger.settle(held, Used(CENT, 1, 1))
            count["served"] += 1
        except TimeoutError:
            assert limit is not None
            count["impatient"] += 1
        except BudgetExceeded:
            count["refused"] += 1
        except asyncio.CancelledError:
            count["innocent cancelled"] += 1
            raise

    for _ in range(40):
        limits = [chance.uniform(0.001, 0.02), *[None] * 19]
        burst = [asyncio.create_task(call(limit)) for limit in limits]
        done, hanging = await asyncio.wait(burst, timeout=HANGS_S)
        assert not hanging
        for each in done:
            await each
    await _committed(runtime)
    assert count["innocent cancelled"] == 0
    assert count["served"] + count["refused"] >= 40 * 19
    assert "held" not in await _calls(runtime, payer)
    await _require_books_agree(runtime, payer)
