"""Hard caps on spend: the worst case is held before a call and replaced by the real cost after it.

Check-then-add overspends under concurrency. Here a hold is granted by whoever has the rows of its caps locked, so
held + spent never passes a limit, on SQLite and PostgreSQL, across processes and restarts. Holds and settlements that
arrive while one commits go into the next commit together, so that a cap of everybody does not make all of them queue.
Gate: errors, cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import trail
from app.budgets import book
from app.budgets.book import CallPurpose, Hold, Outcome, Settlement, Used
from app.budgets.caps import Cap, Caps, Payer, resets_at
from app.budgets.models import BudgetCap, BudgetWindow, ModelCall
from app.budgets.money import usd
from app.db.base import new_id, utc_now
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.db.together import Together
from app.errors import BudgetExceeded
from app.identity.models import Tenant

__all__ = ["Balance", "CallPurpose", "Ledger", "Reservation", "Standing", "UnknownReservation", "Used"]


@dataclass(frozen=True)
class Reservation:
    id: str
    payer: Payer
    held_micro: int


@dataclass(frozen=True)
class Standing:
    """How a payer stands before a call."""

    used: float  # of the fullest cap, holds included; 1.0 is all of it
    soft_step: float
    tier: str | None  # the strongest that the tenant may use, where it has one of its own

    @property
    def is_tight(self) -> bool:
        return self.used >= self.soft_step


@dataclass(frozen=True)
class Balance:
    """One cap and what was made of it so far."""

    scope: str
    scope_id: str
    window: str
    limit_micro: int
    frozen: bool
    spent_micro: int
    held_micro: int


class UnknownReservation(LookupError):
    """A settlement for something that was never granted."""


@dataclass
class Ledger:
    db: Database
    caps: Caps
    hold_for: timedelta = timedelta(minutes=5)  # longer than any model deadline

    def __post_init__(self) -> None:
        self._together: Together[book.Order, Outcome] = Together(self._post)

    async def _post(self, orders: Sequence[book.Order]) -> Sequence[Outcome]:
        async with self.db.transaction(ALL_TENANTS) as session:
            return await book.post(session, self.caps, orders)

    async def require_headroom(self, payer: Payer) -> None:
        """Raise BudgetExceeded when a cap has nothing left; asked before work is accepted."""
        async with self.db.transaction(ALL_TENANTS) as session:
            windows = await book.seen(session, self.caps.of(payer))
        for cap, window in windows.items():
            if window.left_micro <= 0:
                raise BudgetExceeded(cap.scope, resets_at(cap), frozen=window.frozen)

    async def standing(self, payer: Payer) -> Standing:
        async with self.db.transaction(ALL_TENANTS) as session:
            windows = await book.seen(session, self.caps.of(payer))
            tier = await session.scalar(select(Tenant.tier).where(Tenant.id == payer.tenant_id))
        used = max((w.spent_micro + w.held_micro) / max(1, w.limit_micro) for w in windows.values())
        return Standing(used, float(self.caps.table.soft_step), tier)

    async def reserve(self, payer: Payer, amount_micro: int, purpose: CallPurpose) -> Reservation:
        """Hold `amount_micro` in every cap at once, or in none.

        Raises BudgetExceeded naming the scope that is full, RunLimitExceeded when it is the run's own."""
        now = utc_now()
        order = Hold(new_id(), payer, purpose, amount_micro, now, now + self.hold_for)
        await self._together.do(order)
        return Reservation(order.call_id, payer, amount_micro)

    async def settle(self, held: Reservation, used: Used) -> None:
        """Replace the hold with the real cost. Safe to repeat.

        Raises UnknownReservation if `held` was never granted."""
        # A crash between the provider's reply and this commit leaves the hold; the sweeper books it
        # at the reserved amount, so we may over-count but never under-count.
        if not await self._together.do(Settlement(held.id, "settled", used)):
            async with self.db.transaction(ALL_TENANTS) as session:
                if await session.get(ModelCall, held.id) is None:
                    raise UnknownReservation(held.id)

    async def sweep(self) -> int:
        """Book holds whose process died: each is spent in full. Returns how many there were."""
        orphaned = select(ModelCall.id, ModelCall.held_micro).where(ModelCall.state == "held")
        async with self.db.transaction(ALL_TENANTS) as session:
            orphans = list(await session.execute(orphaned.where(ModelCall.expires_at < utc_now()).limit(500)))
        return sum([bool(await self._together.do(Settlement(id_, "swept", Used(held, 0, 0)))) for id_, held in orphans])

    async def windows(self, payer: Payer) -> list[Balance]:
        """The payer's caps as they stand."""
        async with self.db.transaction(ALL_TENANTS) as session:
            windows = await book.seen(session, self.caps.of(payer))
        return [Balance(cap.scope, cap.scope_id, cap.window, **vars(window)) for cap, window in windows.items()]

    async def set_cap(self, scope: str, scope_id: str, limit_micro: int, *, tenant_id: str, actor: str) -> None:
        """Change a cap now: the open window and all later ones."""
        async with self.db.transaction(ALL_TENANTS) as session:
            cap = await _cap(session, scope, scope_id)
            cap.limit_micro = limit_micro
            await session.execute(
                update(BudgetWindow)
                .where(BudgetWindow.scope == scope, BudgetWindow.scope_id == scope_id)
                .values(limit_micro=limit_micro)
            )
            subject = f"budget:{scope}:{scope_id}"
            await trail.append(session, tenant_id, actor, "budget.set", subject, limit_usd=usd(limit_micro))

    async def top_up(self, payer: Payer, scope: str, amount_micro: int, *, actor: str, reason: str) -> None:
        """Allow more in the open window of one of the payer's caps; the next has its usual limit again."""
        cap = self._cap_of(payer, scope)
        its = (BudgetWindow.scope == scope, BudgetWindow.scope_id == cap.scope_id, BudgetWindow.window == cap.window)
        async with self.db.transaction(ALL_TENANTS) as session:
            await book.locked(session, [cap])
            more = BudgetWindow.extra_micro + amount_micro
            await session.execute(update(BudgetWindow).where(*its).values(extra_micro=more))
            facts = {"added_usd": usd(amount_micro), "window": cap.window, "reason": reason}
            subject = f"budget:{scope}:{cap.scope_id}"
            await trail.append(session, book.chain(cap, payer), actor, "budget.topped_up", subject, **facts)

    async def freeze(self, payer: Payer, scope: str, *, frozen: bool, actor: str, reason: str) -> None:
        """Let nothing more be spent under one of the payer's caps, in any window, or let it be spent again.

        What is under way is still settled. The cap stays as it is and holds again afterwards."""
        cap = self._cap_of(payer, scope)
        async with self.db.transaction(ALL_TENANTS) as session:
            (await _cap(session, scope, cap.scope_id)).frozen = frozen
            action = "budget.frozen" if frozen else "budget.thawed"
            subject = f"budget:{scope}:{cap.scope_id}"
            await trail.append(session, book.chain(cap, payer), actor, action, subject, reason=reason)

    def _cap_of(self, payer: Payer, scope: str) -> Cap:
        return next(cap for cap in self.caps.of(payer) if cap.scope == scope)


async def _cap(session: AsyncSession, scope: str, scope_id: str) -> BudgetCap:
    """The operator's cap, made where there is none; with the default limit until it is given one."""
    found = await session.get(BudgetCap, (scope, scope_id), with_for_update=True)
    if found is None:
        found = BudgetCap(scope=scope, scope_id=scope_id, limit_micro=None, frozen=False)
        session.add(found)
        await session.flush()
    return found
