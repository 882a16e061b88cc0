"""Hard caps on spend: the worst case is held before a call and replaced by the real cost after it.

Check-then-add overspends under concurrency; here one conditional UPDATE per cap grants or refuses, so
held + spent never passes a limit, on SQLite and PostgreSQL, across processes and restarts. Gate: errors, cost.
"""

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, cast

import structlog
from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import trail
from app.budgets.caps import Cap, Caps, Payer, resets_at
from app.budgets.models import BudgetCap, BudgetWindow, ModelCall
from app.budgets.money import usd
from app.db.base import new_id, utc_now
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.errors import BudgetExceeded, RunLimitExceeded
from app.identity.models import Tenant
from app.telemetry.metrics import BUDGET_THRESHOLDS, COST_OVER_HOLD

log = structlog.get_logger(__name__)
THRESHOLDS = (50, 80, 100)  # percent of a cap


@dataclass(frozen=True)
class CallPurpose:
    """What a model call is for; recorded with its cost."""

    feature: str
    model: str
    prompt_version: str


@dataclass(frozen=True)
class Reservation:
    id: str
    payer: Payer
    held_micro: int


@dataclass(frozen=True)
class Used:
    cost_micro: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Standing:
    """How a payer stands before a call."""

    used: float  # of the fullest cap, holds included; 1.0 is all of it
    soft_step: float
    tier: str | None  # the strongest that the tenant may use, where it has one of its own

    @property
    def is_tight(self) -> bool:
        return self.used >= self.soft_step


class UnknownReservation(LookupError):
    """A settlement for something that was never granted."""


@dataclass(frozen=True)
class Ledger:
    db: Database
    caps: Caps
    hold_for: timedelta = timedelta(minutes=5)  # longer than any model deadline

    async def require_headroom(self, payer: Payer) -> None:
        """Raise BudgetExceeded when a cap has nothing left; asked before work is accepted."""
        async with self.db.transaction(ALL_TENANTS) as session:
            for cap in self.caps.of(payer):
                window = await _window(session, cap, self.db.is_sqlite)
                if window.spent_micro + window.held_micro >= window.limit_micro:
                    raise BudgetExceeded(cap.scope, resets_at(cap))

    async def standing(self, payer: Payer) -> Standing:
        async with self.db.transaction(ALL_TENANTS) as session:
            windows = [await _window(session, cap, self.db.is_sqlite) for cap in self.caps.of(payer)]
            tier = await session.scalar(select(Tenant.tier).where(Tenant.id == payer.tenant_id))
        used = max((w.spent_micro + w.held_micro) / max(1, w.limit_micro) for w in windows)
        return Standing(used, float(self.caps.table.soft_step), tier)

    async def reserve(self, payer: Payer, amount_micro: int, purpose: CallPurpose) -> Reservation:
        """Hold `amount_micro` in every cap at once, or in none.

        Raises BudgetExceeded naming the scope that is full, RunLimitExceeded when it is the run's own."""
        now, call_id = utc_now(), new_id()
        caps = self.caps.of(payer, now)
        async with self.db.transaction(ALL_TENANTS) as session:
            for cap in caps:
                await _window(session, cap, self.db.is_sqlite)
                if not await _hold(session, cap, amount_micro):
                    raise _refusal(cap)
            call = ModelCall(id=call_id, **asdict(payer), **asdict(purpose), state="held", held_micro=amount_micro)
            call.started_at, call.expires_at = now, now + self.hold_for
            session.add(call)
        return Reservation(call_id, payer, amount_micro)

    async def settle(self, held: Reservation, used: Used) -> None:
        """Replace the hold with the real cost. Safe to repeat.

        Raises UnknownReservation if `held` was never granted."""
        # A crash between the provider's reply and this commit leaves the hold; the sweeper books it
        # at the reserved amount, so we may over-count but never under-count.
        async with self.db.transaction(ALL_TENANTS) as session:
            closed = await self._close(session, held.id, "settled", used)
            if not closed and await session.get(ModelCall, held.id) is None:
                raise UnknownReservation(held.id)

    async def sweep(self) -> int:
        """Book holds whose process died: each is spent in full. Returns how many there were."""
        async with self.db.transaction(ALL_TENANTS) as session:
            query = select(ModelCall).where(ModelCall.state == "held", ModelCall.expires_at < utc_now()).limit(500)
            orphans = list(await session.scalars(query))
            for call in orphans:
                await self._close(session, call.id, "swept", Used(call.held_micro, 0, 0))
        return len(orphans)

    async def _close(self, session: AsyncSession, call_id: str, state: str, used: Used) -> bool:
        call = await session.scalar(
            update(ModelCall)
            .where(ModelCall.id == call_id, ModelCall.state == "held")
            .values(
                state=state,
                cost_micro=used.cost_micro,
                input_tokens=used.input_tokens,
                output_tokens=used.output_tokens,
            )
            .returning(ModelCall)
            .execution_options(synchronize_session=False)
        )
        if call is None:
            return False
        payer = Payer(call.tenant_id, call.member_id, call.run_id)
        if used.cost_micro > call.held_micro:
            # The estimate was not an upper bound after all. The caps must know the truth, so that they refuse
            # what comes next; somebody must know too.
            COST_OVER_HOLD.inc()
            log.error("ledger.cost_over_hold", call=call.id, held=call.held_micro, cost=used.cost_micro)
        for cap in self.caps.of(payer, call.started_at):
            window = (
                await session.execute(
                    update(BudgetWindow)
                    .where(_is(cap))
                    .values(
                        held_micro=BudgetWindow.held_micro - call.held_micro,
                        spent_micro=BudgetWindow.spent_micro + used.cost_micro,
                    )
                    .returning(BudgetWindow.spent_micro, BudgetWindow.limit_micro)
                    .execution_options(synchronize_session=False)
                )
            ).one()
            if cap.scope != "run":
                await _tell_thresholds(session, cap, payer, window.spent_micro, used.cost_micro, window.limit_micro)
        return True

    async def windows(self, payer: Payer) -> list[BudgetWindow]:
        """The payer's caps as they stand."""
        async with self.db.transaction(ALL_TENANTS) as session:
            return [await _window(session, cap, self.db.is_sqlite) for cap in self.caps.of(payer)]

    async def set_cap(self, scope: str, scope_id: str, limit_micro: int, *, tenant_id: str, actor: str) -> None:
        """Change a cap now: the open window and all later ones."""
        async with self.db.transaction(ALL_TENANTS) as session:
            await session.merge(BudgetCap(scope=scope, scope_id=scope_id, limit_micro=limit_micro))
            await session.execute(
                update(BudgetWindow)
                .where(BudgetWindow.scope == scope, BudgetWindow.scope_id == scope_id)
                .values(limit_micro=limit_micro)
            )
            subject = f"budget:{scope}:{scope_id}"
            await trail.append(session, tenant_id, actor, "budget.set", subject, limit_usd=usd(limit_micro))


def _is(cap: Cap) -> Any:
    return (
        (BudgetWindow.scope == cap.scope)
        & (BudgetWindow.scope_id == cap.scope_id)
        & (BudgetWindow.window == cap.window)
    )


async def _hold(session: AsyncSession, cap: Cap, amount_micro: int) -> bool:
    taken = BudgetWindow.spent_micro + BudgetWindow.held_micro
    # The operator's cap is read in the same statement: one set while this window was being made must count.
    chosen = select(BudgetCap.limit_micro).where(BudgetCap.scope == cap.scope, BudgetCap.scope_id == cap.scope_id)
    limit = func.coalesce(chosen.scalar_subquery(), BudgetWindow.limit_micro)
    result = await session.execute(
        update(BudgetWindow)
        .where(_is(cap), taken + amount_micro <= limit)
        .values(held_micro=BudgetWindow.held_micro + amount_micro)
        .execution_options(synchronize_session=False)
    )
    return cast("CursorResult[Any]", result).rowcount == 1


async def _window(session: AsyncSession, cap: Cap, is_sqlite: bool) -> BudgetWindow:
    """The cap's row for this window, made on first use from the operator's cap or the default."""
    key = (cap.scope, cap.scope_id, cap.window)
    if (window := await session.get(BudgetWindow, key)) is not None:
        return window
    chosen = await session.get(BudgetCap, (cap.scope, cap.scope_id))
    limit = chosen.limit_micro if chosen else cap.default_limit_micro
    insert = sqlite.insert if is_sqlite else postgresql.insert
    row = dict(zip(("scope", "scope_id", "window"), key, strict=True), limit_micro=limit, spent_micro=0, held_micro=0)
    await session.execute(insert(BudgetWindow).values(row).on_conflict_do_nothing())
    return await session.get_one(BudgetWindow, key)


async def _tell_thresholds(
    session: AsyncSession, cap: Cap, payer: Payer, spent_micro: int, cost_micro: int, limit_micro: int
) -> None:
    """Put on record, once each, that a cap is half, nearly and wholly used up; alerts read the counter."""
    for percent in THRESHOLDS:
        mark = limit_micro * percent
        if (spent_micro - cost_micro) * 100 < mark <= spent_micro * 100:
            BUDGET_THRESHOLDS.labels(cap.scope, str(percent)).inc()
            log.warning("budget.threshold", scope=cap.scope, scope_id=cap.scope_id, percent=percent)
            chain = trail.PLATFORM if cap.scope == "global" else payer.tenant_id
            facts = {
                "percent": percent,
                "window": cap.window,
                "spent_usd": usd(spent_micro),
                "limit_usd": usd(limit_micro),
            }
            await trail.append(
                session, chain, "system", "budget.threshold", f"budget:{cap.scope}:{cap.scope_id}", **facts
            )


def _refusal(cap: Cap) -> BudgetExceeded | RunLimitExceeded:
    if cap.scope == "run":
        return RunLimitExceeded("This task reached its own cost limit.")
    return BudgetExceeded(cap.scope, resets_at(cap))
