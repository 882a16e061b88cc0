"""The hard cap holds under concurrency, repetition and crashes, on both databases."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from sqlalchemy import select

from app.audit.models import AuditEvent
from app.budgets.book import post
from app.budgets.caps import Caps, CapsTable, Payer
from app.budgets.ledger import CallPurpose, Ledger, Reservation, UnknownReservation, Used
from app.budgets.models import BudgetCap
from app.budgets.orders import Hold, Order, Settlement
from app.db.base import new_id, utc_now
from app.db.tenancy import ALL_TENANTS
from app.errors import BudgetExceeded, RunLimitExceeded
from app.runtime import Runtime
from gates.rig import people

pytestmark = pytest.mark.anyio
PURPOSE = CallPurpose("assistant", "test-model", "v1")
CENT = 10_000


async def _payer(runtime: Runtime, cap_micro: int) -> Payer:
    tenant_id = await people.tenant(runtime)
    payer = Payer(tenant_id, str(uuid4()), str(uuid4()))
    await runtime.ledger.set_cap(payer, "tenant", cap_micro, actor="test")
    return payer


async def _tenant_window(ledger: Ledger, payer: Payer) -> tuple[int, int]:
    window = next(w for w in await ledger.windows(payer) if w.scope == "tenant" and w.period == "month")
    return window.spent_micro, window.held_micro


async def test_a_hundred_parallel_calls_never_pass_the_cap_and_use_all_of_it(runtime: Runtime) -> None:
    payer = await _payer(runtime, 100 * CENT)

    async def one() -> bool:
        try:
            held = await runtime.ledger.reserve(replace(payer, run_id=str(uuid4())), 5 * CENT, PURPOSE)
        except BudgetExceeded:
            return False
        await asyncio.sleep(0.01)
        await runtime.ledger.settle(held, Used(5 * CENT, 10, 10))
        return True

    granted = await asyncio.gather(*(one() for _ in range(100)))
    assert sum(granted) == 20
    assert await _tenant_window(runtime.ledger, payer) == (100 * CENT, 0)


async def test_a_refusal_holds_nothing_in_any_scope(runtime: Runtime) -> None:
    payer = await _payer(runtime, CENT)
    with pytest.raises(BudgetExceeded):
        await runtime.ledger.reserve(payer, 2 * CENT, PURPOSE)
    assert all(window.held_micro == 0 for window in await runtime.ledger.windows(payer))


async def test_a_cap_set_while_the_window_is_being_made_counts(runtime: Runtime) -> None:
    payer = await _payer(runtime, 100 * CENT)
    await runtime.ledger.require_headroom(payer)  # the window exists, with the old limit
    async with runtime.db.transaction(ALL_TENANTS) as session:
        # What a concurrent change leaves behind: the cap is there, the window it did not see has the old limit.
        await session.merge(BudgetCap(scope="tenant", scope_id=payer.tenant_id, period="", limit_micro=0))
    with pytest.raises(BudgetExceeded):
        await runtime.ledger.reserve(payer, 1, PURPOSE)


async def test_settling_gives_back_what_was_not_used(runtime: Runtime) -> None:
    payer = await _payer(runtime, 10 * CENT)
    held = await runtime.ledger.reserve(payer, 8 * CENT, PURPOSE)
    assert await _tenant_window(runtime.ledger, payer) == (0, 8 * CENT)
    await runtime.ledger.settle(held, Used(3 * CENT, 100, 20))
    assert await _tenant_window(runtime.ledger, payer) == (3 * CENT, 0)


async def test_a_call_that_cost_more_than_its_hold_counts_in_full_and_closes_the_cap(runtime: Runtime) -> None:
    payer = await _payer(runtime, 10 * CENT)
    held = await runtime.ledger.reserve(payer, CENT, PURPOSE)
    await runtime.ledger.settle(held, Used(30 * CENT, 10**9, 10**9))
    assert await _tenant_window(runtime.ledger, payer) == (30 * CENT, 0)
    with pytest.raises(BudgetExceeded):
        await runtime.ledger.reserve(replace(payer, run_id=str(uuid4())), 1, PURPOSE)


async def test_settling_twice_charges_once(runtime: Runtime) -> None:
    payer = await _payer(runtime, 10 * CENT)
    held = await runtime.ledger.reserve(payer, 8 * CENT, PURPOSE)
    for _ in range(2):
        await runtime.ledger.settle(held, Used(3 * CENT, 100, 20))
    assert await _tenant_window(runtime.ledger, payer) == (3 * CENT, 0)


async def test_settling_what_was_never_granted_is_an_error(runtime: Runtime) -> None:
    payer = await _payer(runtime, CENT)
    with pytest.raises(UnknownReservation):
        await runtime.ledger.settle(Reservation("no-such-call", payer, CENT), Used(1, 1, 1))


async def test_a_hold_whose_process_died_is_booked_in_full(runtime: Runtime) -> None:
    payer = await _payer(runtime, 10 * CENT)
    dying = replace(runtime.ledger, hold_for=timedelta(seconds=-1))
    await dying.reserve(payer, 4 * CENT, PURPOSE)
    assert await runtime.ledger.sweep() == 1
    assert await runtime.ledger.sweep() == 0
    assert await _tenant_window(runtime.ledger, payer) == (4 * CENT, 0)


async def test_a_run_has_a_cap_of_its_own(runtime: Runtime) -> None:
    payer = await _payer(runtime, 1000 * CENT)
    await runtime.ledger.reserve(payer, 50 * CENT, PURPOSE)
    with pytest.raises(RunLimitExceeded):
        await runtime.ledger.reserve(payer, 1, PURPOSE)
    await runtime.ledger.reserve(replace(payer, run_id=str(uuid4())), CENT, PURPOSE)


async def test_a_cap_of_zero_refuses_before_work_is_accepted(runtime: Runtime) -> None:
    payer = await _payer(runtime, 0)
    with pytest.raises(BudgetExceeded, match="tenant"):
        await runtime.ledger.require_headroom(payer)


async def test_one_tenant_cannot_use_up_another_ones_budget(runtime: Runtime) -> None:
    poor, rich = await _payer(runtime, CENT), await _payer(runtime, 10 * CENT)
    with pytest.raises(BudgetExceeded):
        await runtime.ledger.reserve(poor, 2 * CENT, PURPOSE)
    held = await runtime.ledger.reserve(rich, 2 * CENT, PURPOSE)
    assert held.held_micro == 2 * CENT


async def test_a_frozen_budget_refuses_and_settles_and_keeps_its_cap(runtime: Runtime) -> None:
    payer = await _payer(runtime, 10 * CENT)
    held = await runtime.ledger.reserve(payer, 2 * CENT, PURPOSE)
    for scope in ("tenant", "member", "global"):
        await runtime.ledger.freeze(payer, scope, frozen=True, actor="test", reason="drill")
        with pytest.raises(BudgetExceeded, match="frozen"):
            await runtime.ledger.reserve(payer, 1, PURPOSE)
        with pytest.raises(BudgetExceeded, match="frozen"):
            await runtime.ledger.require_headroom(payer)
        await runtime.ledger.freeze(payer, scope, frozen=False, actor="test", reason="over")
    await runtime.ledger.freeze(payer, "tenant", frozen=True, actor="test", reason="drill")
    await runtime.ledger.settle(held, Used(CENT, 1, 1))
    await runtime.ledger.freeze(payer, "tenant", frozen=False, actor="test", reason="over")
    await runtime.ledger.reserve(payer, 9 * CENT, PURPOSE)


async def test_a_limit_that_is_set_holds_from_now_on_whatever_was_topped_up_before(runtime: Runtime) -> None:
    """An operator who sets 0 in an emergency has stopped the spending."""
    payer = await _payer(runtime, 10 * CENT)
    await runtime.ledger.top_up(payer, "tenant", 5 * CENT, actor="test", reason="a launch")
    both = await runtime.ledger.set_cap(payer, "tenant", 0, actor="test")
    assert both.effective_micro == 0
    with pytest.raises(BudgetExceeded):
        await runtime.ledger.reserve(payer, 1, PURPOSE)


async def test_what_is_topped_up_is_for_this_window_and_on_top_of_the_cap(runtime: Runtime) -> None:
    payer = await _payer(runtime, 10 * CENT)
    await runtime.ledger.top_up(payer, "tenant", 5 * CENT, actor="test", reason="a launch")
    await runtime.ledger.reserve(payer, 15 * CENT, PURPOSE)
    with pytest.raises(BudgetExceeded):
        await runtime.ledger.reserve(payer, 1, PURPOSE)
    window = next(w for w in await runtime.ledger.windows(payer) if w.scope == "tenant" and w.period == "month")
    assert window.limit_micro == 15 * CENT
    async with runtime.db.transaction(ALL_TENANTS) as session:
        query = select(AuditEvent).where(AuditEvent.tenant_id == payer.tenant_id, AuditEvent.action.like("budget.%"))
        last = (await session.scalars(query.order_by(AuditEvent.sequence.desc()))).first()
    assert last is not None
    assert last.action == "budget.topped_up"


async def test_one_batch_settles_first_come_and_refuses_exactly(runtime: Runtime) -> None:
    payer = await _payer(runtime, 10 * CENT)
    held = await runtime.ledger.reserve(payer, 9 * CENT, PURPOSE)
    settled = Settlement(held.id, "settled", Used(CENT, 1, 1))
    now = utc_now()
    holds = [Hold(new_id(), payer, PURPOSE, amount * CENT, now, now) for amount in (2, 8, 2, 6)]
    orders: list[Order] = [holds[0], settled, settled, *holds[1:]]
    outcomes = await runtime.db.at_once(lambda connection: post(connection, runtime.ledger.caps, orders))
    granted = [outcome is True for outcome in outcomes]
    # Two do not fit beside the nine; then one is spent, eight fit, and one of two would be left.
    assert granted == [False, True, False, True, False, False]
    assert await _tenant_window(runtime.ledger, payer) == (CENT, 8 * CENT)


@pytest.mark.parametrize("period", ["day", "month"])
@pytest.mark.parametrize("scope", ["global", "tenant", "member"])
async def test_every_scope_is_capped_by_the_day_and_by_the_month(runtime: Runtime, scope: str, period: str) -> None:
    payer = await _payer(runtime, 10_000 * CENT)
    await runtime.ledger.settle(await runtime.ledger.reserve(payer, CENT, PURPOSE), Used(CENT, 1, 1))
    # What was spent before somebody sets a cap counts under it.
    await runtime.ledger.set_cap(payer, scope, 3 * CENT, actor="test", period=period)
    [balance] = [w for w in await runtime.ledger.windows(payer) if (w.scope, w.period) == (scope, period)]
    assert (balance.limit_micro, balance.spent_micro, balance.left_micro) == (3 * CENT, CENT, 2 * CENT)
    with pytest.raises(BudgetExceeded, match="whole service" if scope == "global" else scope):
        await runtime.ledger.reserve(payer, 3 * CENT, PURPOSE)
    await runtime.ledger.reserve(payer, 2 * CENT, PURPOSE)
    with pytest.raises(BudgetExceeded):
        await runtime.ledger.require_headroom(payer)
    await runtime.ledger.top_up(payer, scope, CENT, actor="test", reason="more", period=period)
    await runtime.ledger.require_headroom(payer)


async def test_what_no_file_and_no_operator_caps_is_counted_and_free(runtime: Runtime) -> None:
    payer = await _payer(runtime, 10_000 * CENT)
    open_ended = CapsTable(global_daily_usd=Decimal(100), member_daily_usd=Decimal(100))
    ledger = replace(runtime.ledger, caps=Caps(open_ended))
    await ledger.reserve(payer, 40 * CENT, PURPOSE)
    assert {(w.scope, w.period) for w in await ledger.windows(payer)} == {
        ("global", "day"), ("tenant", "month"), ("member", "day"), ("run", "run"),
    }  # fmt: skip
    counted = [window for cap, window in await ledger.touched() if cap.scope_id == payer.tenant_id]
    assert [(w.limit_micro, w.held_micro) for w in counted] == [(None, 40 * CENT), (10_000 * CENT, 40 * CENT)]
    assert (await ledger.standing(replace(payer, run_id=""))).used < 0.01


async def test_processes_at_once_stay_under_the_cap_and_use_it(runtime: Runtime) -> None:
    """Each ledger is a process's: they share nothing but the database."""
    payer = await _payer(runtime, 100 * CENT)
    ledgers = [replace(runtime.ledger) for _ in range(4)]

    async def one(number: int) -> bool:
        try:
            held = await ledgers[number % 4].reserve(replace(payer, run_id=""), 5 * CENT, PURPOSE)
        except BudgetExceeded:
            return False
        await ledgers[number % 4].settle(held, Used(5 * CENT, 10, 10))
        return True

    granted = sum(await asyncio.gather(*(one(number) for number in range(100))))
    spent, held = await _tenant_window(runtime.ledger, payer)
    assert (granted, spent, held) == (20, 100 * CENT, 0)
