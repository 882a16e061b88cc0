"""Hard caps on spend: the worst case is held before a call and replaced by the real cost after it.

Check-then-add overspends under concurrency. Here a hold is granted by whoever has the rows of its caps locked, so
held + spent never passes a limit, on SQLite and PostgreSQL, across processes and restarts. Holds and settlements that
arrive while one commits go into the next commit together, so that a cap of everybody does not make all of them queue.
Gate: errors, cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import trail
from app.budgets import book
from app.budgets.book import CallPurpose, Hold, Outcome, Settlement, Used, Window
from app.budgets.caps import USUAL, Cap, Caps, Payer, Period, period_of, resets_at
from app.budgets.models import BudgetCap, BudgetWindow, ModelCall
from app.budgets.money import usd
from app.db.base import new_id, utc_now
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.db.together import Together
from app.errors import BudgetExceeded

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

    @property
    def period(self) -> Period:
        return period_of(self.window)

    @property
    def left_micro(self) -> int:
        return max(0, self.limit_micro - self.spent_micro - self.held_micro)


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
        return await self.db.at_once(lambda connection: book.post(connection, self.caps, orders))

    async def require_headroom(self, payer: Payer) -> None:
        """Raise BudgetExceeded when a cap has nothing left; asked before work is accepted."""
        _, windows = await self._stand(payer)
        for cap, window in windows.items():
            if window.left_micro <= 0:
                raise BudgetExceeded(cap.scope, resets_at(cap), frozen=window.frozen)

    async def standing(self, payer: Payer) -> Standing:
        tier, windows = await self._stand(payer)
        return Standing(max(w.used for w in windows.values()), float(self.caps.table.soft_step), tier)

    async def _stand(self, payer: Payer) -> tuple[str | None, dict[Cap, Window]]:
        return await self.db.look(book.stand, (payer.tenant_id, tuple(self.caps.of(payer))))

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
            async with self.db.read(ALL_TENANTS) as session:
                if await session.get(ModelCall, held.id) is None:
                    raise UnknownReservation(held.id)

    async def sweep(self) -> int:
        """Book holds whose process died: each is spent in full. Returns how many there were."""
        orphaned = select(ModelCall.id, ModelCall.held_micro).where(ModelCall.state == "held")
        async with self.db.read(ALL_TENANTS) as session:
            orphans = list(await session.execute(orphaned.where(ModelCall.expires_at < utc_now()).limit(500)))
        return sum([bool(await self._together.do(Settlement(id_, "swept", Used(held, 0, 0)))) for id_, held in orphans])

    async def windows(self, payer: Payer) -> list[Balance]:
        """The payer's caps as they stand; what is counted without a cap is none."""
        _, windows = await self._stand(payer)
        return [
            Balance(cap.scope, cap.scope_id, cap.window, w.limit_micro, w.frozen, w.spent_micro, w.held_micro)
            for cap, w in windows.items()
            if w.limit_micro is not None
        ]

    async def touched(self) -> list[tuple[Cap, Window]]:
        """The newest 200 windows that anything was charged to, of everybody."""
        query = select(BudgetWindow.scope, BudgetWindow.scope_id, BudgetWindow.window)
        query = query.where(BudgetWindow.scope != "run").order_by(BudgetWindow.window.desc(), BudgetWindow.scope)
        async with self.db.read(ALL_TENANTS) as session:
            caps = [Cap(*row, None) for row in await session.execute(query.limit(200))]
            windows = await session.run_sync(lambda s: book.seen(s.connection(), caps))
        return list(windows.items())

    async def set_cap(self, payer: Payer, scope: str, limit_micro: int, *, actor: str, period: str = "") -> None:
        """Change one of the payer's caps now: the open window and all later ones.

        `period`, day or month, is the scope's usual one where nothing is said, here and below."""
        cap = self._cap_of(payer, scope, period)
        same = func.length(BudgetWindow.window) == len(cap.window)
        its = (BudgetWindow.scope == scope, BudgetWindow.scope_id == cap.scope_id, same)
        async with self.db.transaction(ALL_TENANTS) as session:
            (await _set(session, cap)).limit_micro = limit_micro
            await session.execute(update(BudgetWindow).where(*its).values(limit_micro=limit_micro))
            facts = {"limit_usd": usd(limit_micro), "period": cap.period}
            subject = f"budget:{scope}:{cap.scope_id}"
            await trail.append(session, book.chain(cap, payer), actor, "budget.set", subject, **facts)

    async def top_up(
        self, payer: Payer, scope: str, amount_micro: int, *, actor: str, reason: str, period: str = ""
    ) -> None:
        """Allow more in the open window of one of the payer's caps; the next has its usual limit again."""
        cap = self._cap_of(payer, scope, period)
        its = (BudgetWindow.scope == scope, BudgetWindow.scope_id == cap.scope_id, BudgetWindow.window == cap.window)
        async with self.db.transaction(ALL_TENANTS) as session:
            await session.run_sync(lambda s: book.locked(s.connection(), [cap]))
            more = BudgetWindow.extra_micro + amount_micro
            await session.execute(update(BudgetWindow).where(*its).values(extra_micro=more))
            facts = {"added_usd": usd(amount_micro), "window": cap.window, "reason": reason}
            subject = f"budget:{scope}:{cap.scope_id}"
            await trail.append(session, book.chain(cap, payer), actor, "budget.topped_up", subject, **facts)

    async def freeze(self, payer: Payer, scope: str, *, frozen: bool, actor: str, reason: str) -> None:
        """Let nothing more be spent under the payer's caps of this scope, in any window, or let it be spent again.

        What is under way is still settled. The caps stay as they are and hold again afterwards."""
        caps = [cap for cap in self.caps.of(payer) if cap.scope == scope]
        async with self.db.transaction(ALL_TENANTS) as session:
            for cap in caps:
                (await _set(session, cap)).frozen = frozen
            action = "budget.frozen" if frozen else "budget.thawed"
            subject = f"budget:{scope}:{caps[0].scope_id}"
            await trail.append(session, book.chain(caps[0], payer), actor, action, subject, reason=reason)

    def _cap_of(self, payer: Payer, scope: str, period: str = "") -> Cap:
        wanted = period or USUAL[scope]
        return next(cap for cap in self.caps.of(payer) if cap.scope == scope and cap.period == wanted)


async def _set(session: AsyncSession, cap: Cap) -> BudgetCap:
    """The operator's cap, made where there is none; with the default limit until it is given one."""
    key = (cap.scope, cap.scope_id, book.unusual(cap))
    found = await session.get(BudgetCap, key, with_for_update=True)
    if found is None:
        found = BudgetCap(scope=key[0], scope_id=key[1], period=key[2], limit_micro=None, frozen=False)
        session.add(found)
        await session.flush()
    return found
