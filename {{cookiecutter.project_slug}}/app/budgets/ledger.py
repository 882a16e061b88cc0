"""Hard caps on spend: the worst case is held before a call and replaced by the real cost after it.

Check-then-add overspends under concurrency. Here a hold is granted by whoever has the rows of its caps locked, so
held + spent never passes a limit, on SQLite and PostgreSQL, across processes and restarts. Holds and settlements that
arrive while one commits go into the next commit together, so that a cap of everybody does not make all of them queue.
Gate: errors, cost.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import trail
from app.budgets import book
from app.budgets.book import Outcome, Window
from app.budgets.cap_rows import cap_row, named_limit, require_within, windows_like
from app.budgets.caps import USUAL, Cap, Caps, Payer, Period, period_of
from app.budgets.layers import LayeredLimit
from app.budgets.models import BudgetWindow, ModelCall
from app.budgets.money import usd
from app.budgets.orders import CallPurpose, Claim, Hold, Order, Settlement, Used
from app.db.base import new_id, utc_now
from app.db.engine import Database
from app.db.group_commit import GroupCommit
from app.db.tenancy import ALL_TENANTS
from app.errors import Forbidden
from app.identity.layers import Layer

log = structlog.get_logger(__name__)
__all__ = ["Balance", "CallPurpose", "Claim", "Ledger", "Reservation", "Standing", "UnknownReservation", "Used"]


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
    limit_micro: int  # what both layers allow
    limit: LayeredLimit
    spent_micro: int
    held_micro: int

    @property
    def frozen(self) -> bool:
        return bool(self.limit.frozen_by)

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
        self._commits: GroupCommit[Order, Outcome] = self.db.group_commit(self._post)

    def _post(self, connection: Connection, orders: Sequence[Order]) -> Sequence[Outcome]:
        return book.post(connection, self.caps, orders)

    async def require_headroom(self, payer: Payer) -> None:
        """Raise BudgetExceeded when a cap has nothing left; asked before work is accepted."""
        _, windows = await self._stand(payer)
        for cap, window in windows.items():
            if window.left_micro <= 0:
                raise window.exceeded(cap)

    async def standing(self, payer: Payer) -> Standing:
        tier, windows = await self._stand(payer)
        return Standing(max(w.used for w in windows.values()), float(self.caps.table.soft_step), tier)

    async def _stand(self, payer: Payer) -> tuple[str | None, dict[Cap, Window]]:
        return await self.db.look(book.stand, (payer.tenant_id, tuple(self.caps.of(payer))))

    async def reserve(self, payer: Payer, amount_micro: int, purpose: CallPurpose) -> Reservation:
        """Hold `amount_micro` in every cap at once, or in none.

        Raises BudgetExceeded naming the scope that is full, RunLimitExceeded when it is the run's own.

        A caller that is cancelled in it holds nothing: the order is withdrawn, or, where a commit has taken it up, its
        release is ordered at once. `Database.close` waits for that."""
        now = utc_now()
        order = Hold(new_id(), payer, purpose, amount_micro, now, now + self.hold_for)
        try:
            await self._commits.submit(order)
        except asyncio.CancelledError:
            if not self._commits.withdraw(order):
                self._release(order)
            raise
        return Reservation(order.call_id, payer, amount_micro)

    def _release(self, order: Hold) -> None:
        """Give back what nobody will use. Waits for nothing: whoever held it is being cancelled."""
        # A later order than the hold, so it finds it; where the hold was refused, it finds nothing and does nothing.
        released = self._commits.submit_nowait(Settlement(order.call_id, "released", Used(0, 0, 0)))
        released.add_done_callback(_tell_unreleased)

    async def settle(self, held: Reservation, used: Used, claim: Claim | None = None, *, outcome: str = "ok") -> None:
        """Replace the hold with the real cost. Safe to repeat.

        `outcome` is ok, left, or the code of the error that the call ended with. `claim` is what the provider reported,
        where that cannot be true and `used` is the worst case: it is on record.

        A caller that is cancelled in it has settled all the same: the order stands before anything is awaited. Raises
        UnknownReservation if `held` was never granted."""
        # A crash between the provider's reply and this commit leaves the hold; the sweeper books it
        # at the reserved amount, so we may over-count but never under-count.
        state = "settled" if claim is None else "disputed"
        if not await self._commits.submit(Settlement(held.id, state, used, claim, outcome)):
            async with self.db.read(ALL_TENANTS) as session:
                if await session.get(ModelCall, held.id) is None:
                    raise UnknownReservation(held.id)

    async def sweep(self) -> int:
        """Book holds whose process died: each is spent in full. Returns how many there were."""
        orphaned = select(ModelCall.id, ModelCall.held_micro).where(ModelCall.state == "held")
        async with self.db.read(ALL_TENANTS) as session:
            orphans = list(await session.execute(orphaned.where(ModelCall.expires_at < utc_now()).limit(500)))
        return sum(
            [
                bool(await self._commits.submit(Settlement(id_, "swept", Used(held, 0, 0), outcome="unknown")))
                for id_, held in orphans
            ]
        )

    async def windows(self, payer: Payer) -> list[Balance]:
        """The payer's caps as they stand; what is counted without a cap is none."""
        _, windows = await self._stand(payer)
        return [
            Balance(cap.scope, cap.scope_id, cap.window, w.limit_micro, w.limit, w.spent_micro, w.held_micro)
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

    async def set_cap(
        self, payer: Payer, scope: str, limit_micro: int | None, *, actor: str, period: str = "",
        layer: Layer = "operator",
    ) -> LayeredLimit:  # fmt: skip
        """Set one layer's limit of one of the payer's caps now: for the open window, whose top-ups end, and all later.

        `period`, day or month, is the scope's usual one where nothing is said, here and below. None removes the layer's
        limit: the file's default takes the place of the operator's, nothing that of the tenant's. Returns both layers
        of the open window. Raises Forbidden for a tenant's limit above the operator's."""
        cap = self._cap_of(payer, scope, period)
        async with self.db.transaction(ALL_TENANTS) as session:
            stored = await cap_row(session, cap)
            if layer == "tenant":
                operators = cap.default_limit_micro if stored.limit_micro is None else stored.limit_micro
                require_within(operators, limit_micro, cap)
                stored.tenant_limit_micro = limit_micro
                await session.execute(windows_like(cap).values(tenant_extra_micro=0))
            else:
                stored.limit_micro = limit_micro
                default = cap.default_limit_micro if limit_micro is None else limit_micro
                await session.execute(windows_like(cap).values(limit_micro=default, extra_micro=0))
            facts = {"limit_usd": None if limit_micro is None else usd(limit_micro), "period": cap.period}
            return await self._recorded(session, cap, payer, actor, "budget.set", layer, **facts)

    async def top_up(
        self, payer: Payer, scope: str, amount_micro: int, *, actor: str, reason: str, period: str = "",
        layer: Layer = "operator",
    ) -> LayeredLimit:  # fmt: skip
        """Raise one layer's limit in the open window of one of the payer's caps; the next has its usual limit again.

        Returns both layers of that window. Raises Forbidden where a tenant's limit would pass the operator's, and where
        the tenant has set none: then only the operator's is left to raise."""
        cap = self._cap_of(payer, scope, period)
        async with self.db.transaction(ALL_TENANTS) as session:
            windows = await session.run_sync(lambda s: book.locked(s.connection(), [cap]))
            if layer == "tenant":
                limit = windows[cap].limit
                if limit.tenant_micro is None:
                    raise Forbidden(f"The limit in force is {named_limit(limit.operator_micro, cap)}.")
                require_within(limit.operator_micro, limit.tenant_micro + amount_micro, cap)
            column = BudgetWindow.tenant_extra_micro if layer == "tenant" else BudgetWindow.extra_micro
            its = windows_like(cap).where(BudgetWindow.window == cap.window)
            await session.execute(its.values({column: column + amount_micro}))
            facts = {"added_usd": usd(amount_micro), "window": cap.window, "reason": reason}
            return await self._recorded(session, cap, payer, actor, "budget.topped_up", layer, **facts)

    async def freeze(
        self, payer: Payer, scope: str, *, frozen: bool, actor: str, reason: str, layer: Layer = "operator"
    ) -> LayeredLimit:
        """Let nothing more be spent under the payer's caps of this scope, in any window, or take that back.

        What one layer has frozen only that layer thaws. What is under way is still settled. The caps stay as they are
        and hold again afterwards. Returns both layers of an open window."""
        caps = [cap for cap in self.caps.of(payer) if cap.scope == scope]
        async with self.db.transaction(ALL_TENANTS) as session:
            for cap in caps:
                stored = await cap_row(session, cap)
                setattr(stored, "tenant_frozen" if layer == "tenant" else "frozen", frozen)
            action = "budget.frozen" if frozen else "budget.thawed"
            return await self._recorded(session, caps[0], payer, actor, action, layer, reason=reason)

    async def _recorded(
        self, session: AsyncSession, cap: Cap, payer: Payer, actor: str, action: str, layer: Layer, **facts: Any
    ) -> LayeredLimit:
        """Put a change of a cap on record; returns both layers of the open window as they now are."""
        await session.flush()
        windows = await session.run_sync(lambda s: book.seen(s.connection(), [cap]))
        subject = f"budget:{cap.scope}:{cap.scope_id}"
        await trail.append(session, book.chain(cap, payer), actor, action, subject, layer=layer, **facts)
        return windows[cap].limit

    def _cap_of(self, payer: Payer, scope: str, period: str = "") -> Cap:
        wanted = period or USUAL[scope]
        return next(cap for cap in self.caps.of(payer) if cap.scope == scope and cap.period == wanted)


def _tell_unreleased(released: "asyncio.Future[Outcome]") -> None:
    if released.cancelled() or released.exception() is not None:
        log.warning("ledger.not_released")  # the sweeper books it in full: too much counted, never too little
