"""The rows of the ledger: some holds and settlements at once, in the order in which they came, in one transaction.

The windows of all of them are locked first, in one order, so no limit is passed and nobody waits in a circle; then
everything is computed here and written in one statement a table. Gate: cost.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import trail
from app.budgets.caps import Cap, Caps, Payer, resets_at
from app.budgets.models import BudgetCap, BudgetWindow, ModelCall
from app.budgets.money import usd
from app.errors import BudgetExceeded, RunLimitExceeded
from app.telemetry.metrics import BUDGET_THRESHOLDS, COST_OVER_HOLD

log = structlog.get_logger(__name__)
THRESHOLDS = (50, 80, 100)  # percent of a cap
WINDOWS, CAPS, CALLS = (cast("sa.Table", model.__table__) for model in (BudgetWindow, BudgetCap, ModelCall))
_KEY = (WINDOWS.c.scope, WINDOWS.c.scope_id, WINDOWS.c.window)


@dataclass(frozen=True)
class CallPurpose:
    """What a model call is for; recorded with its cost."""

    feature: str
    model: str
    prompt_version: str
    tier: str = ""


@dataclass(frozen=True)
class Used:
    cost_micro: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Hold:
    """An order to hold an amount in every cap of the payer, or in none."""

    call_id: str
    payer: Payer
    purpose: CallPurpose
    amount_micro: int
    at: datetime
    until: datetime


@dataclass(frozen=True)
class Settlement:
    """An order to replace a hold, if it still is one, with what the call cost."""

    call_id: str
    state: str
    used: Used


@dataclass
class Window:
    """One cap's row, as it stands within the transaction."""

    limit_micro: int
    frozen: bool = False
    spent_micro: int = 0
    held_micro: int = 0

    @property
    def left_micro(self) -> int:
        return 0 if self.frozen else self.limit_micro - self.spent_micro - self.held_micro


Order = Hold | Settlement
Outcome = bool | BudgetExceeded | RunLimitExceeded  # of a settlement: whether there was such a hold


async def post(session: AsyncSession, caps: Caps, orders: Sequence[Order]) -> list[Outcome]:
    """Carry out these orders. Raises nothing for one that is refused: that is its outcome."""
    held = await _held(session, [order.call_id for order in orders if isinstance(order, Settlement)])
    charged = {order.call_id: (order.payer, order.at) for order in orders if isinstance(order, Hold)}
    charged |= {
        call.id: (Payer(call.tenant_id, call.member_id, call.run_id), call.started_at) for call in held.values()
    }
    under = {call_id: caps.of(payer, at) for call_id, (payer, at) in charged.items()}
    chains = {cap: chain(cap, charged[call_id][0]) for call_id, each in under.items() for cap in each}
    windows = await locked(session, chains)
    before = {cap: replace(window) for cap, window in windows.items()}
    outcomes: list[Outcome] = []
    opened, closed = [], []
    for order in orders:
        if isinstance(order, Hold):
            refusal = _hold(order, {cap: windows[cap] for cap in under[order.call_id]})
            outcomes.append(refusal or True)
            opened += [] if refusal else [order]
        else:
            call = held.pop(order.call_id, None)  # twice in one batch: once
            outcomes.append(call is not None)
            if call is not None:
                _settle(call, order.used, [windows[cap] for cap in under[call.id]])
                closed.append(order)
    await _write(session, {cap: window for cap, window in windows.items() if window != before[cap]}, opened, closed)
    for cap, window in windows.items():
        if cap.scope != "run" and window.spent_micro != before[cap].spent_micro:
            await _tell_thresholds(session, cap, chains[cap], before[cap].spent_micro, window)
    return outcomes


async def seen(session: AsyncSession, caps: Sequence[Cap]) -> dict[Cap, Window]:
    """How these caps stand. One that nothing was charged to yet has no row and needs none."""
    windows = await _read(session, caps, sa.select)
    missing = [cap for cap in caps if cap not in windows]
    return windows | await _unmade(session, missing)


async def locked(session: AsyncSession, caps: Iterable[Cap]) -> dict[Cap, Window]:
    """The rows of these caps, made where they are missing, nobody else's until the transaction ends."""
    wanted = list(caps)
    windows = await _read(session, wanted, _for_update)
    if missing := [cap for cap in wanted if cap not in windows]:
        unmade = await _unmade(session, missing)
        insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
        rows = [
            {**_key(cap), "limit_micro": unmade[cap].limit_micro, "spent_micro": 0, "held_micro": 0, "warned": {}}
            for cap in sorted(missing, key=lambda cap: tuple(_key(cap).values()))
        ]
        await session.execute(insert(WINDOWS).on_conflict_do_nothing(), rows)
        windows |= await _read(session, missing, _for_update)
    return windows


def _for_update(*columns: Any) -> Any:
    return sa.select(*columns).with_for_update(of=WINDOWS)


async def _read(session: AsyncSession, caps: Sequence[Cap], select: Callable[..., Any]) -> dict[Cap, Window]:
    # The operator's cap is read in the same statement: one set while this window was being made must count.
    limit = sa.func.coalesce(CAPS.c.limit_micro, WINDOWS.c.limit_micro) + WINDOWS.c.extra_micro
    frozen = sa.func.coalesce(CAPS.c.frozen, sa.false())
    chosen = (CAPS.c.scope == WINDOWS.c.scope) & (CAPS.c.scope_id == WINDOWS.c.scope_id)
    query = (
        select(*_KEY, limit, frozen, WINDOWS.c.spent_micro, WINDOWS.c.held_micro)
        .select_from(WINDOWS.outerjoin(CAPS, chosen))
        .where(sa.tuple_(*_KEY).in_([tuple(_key(cap).values()) for cap in caps]))
        .order_by(*_KEY)
    )
    rows = {tuple(row[:3]): Window(row[3], bool(row[4]), *row[5:]) for row in await session.execute(query)}
    return {cap: rows[key] for cap in caps if (key := tuple(_key(cap).values())) in rows}


async def _unmade(session: AsyncSession, caps: Sequence[Cap]) -> dict[Cap, Window]:
    """Windows that are yet to be made, with the operator's limit, or the file's."""
    if not caps:
        return {}
    keys = [(cap.scope, cap.scope_id) for cap in caps]
    query = sa.select(CAPS.c.scope, CAPS.c.scope_id, CAPS.c.limit_micro, CAPS.c.frozen)
    rows = await session.execute(query.where(sa.tuple_(CAPS.c.scope, CAPS.c.scope_id).in_(keys)))
    chosen = {(row.scope, row.scope_id): (row.limit_micro, row.frozen) for row in rows}
    unmade = {}
    for cap in caps:
        limit, frozen = chosen.get((cap.scope, cap.scope_id), (None, False))
        unmade[cap] = Window(cap.default_limit_micro if limit is None else limit, frozen)
    return unmade


async def _held(session: AsyncSession, call_ids: Sequence[str]) -> dict[str, Any]:
    if not call_ids:
        return {}
    columns = (CALLS.c.id, CALLS.c.tenant_id, CALLS.c.member_id, CALLS.c.run_id, CALLS.c.held_micro, CALLS.c.started_at)
    mine = sa.select(*columns).where(CALLS.c.id.in_(call_ids), CALLS.c.state == "held")
    return {call.id: call for call in await session.execute(mine.order_by(CALLS.c.id).with_for_update())}


def _hold(order: Hold, windows: Mapping[Cap, Window]) -> BudgetExceeded | RunLimitExceeded | None:
    """Hold the amount in all of them, or in none and say which is full."""
    for cap, window in windows.items():
        if order.amount_micro > window.left_micro:
            if cap.scope == "run":
                return RunLimitExceeded("This task reached its own cost limit.")
            return BudgetExceeded(cap.scope, resets_at(cap), frozen=window.frozen)
    for window in windows.values():
        window.held_micro += order.amount_micro
    return None


def _settle(call: Any, used: Used, windows: Iterable[Window]) -> None:
    if used.cost_micro > call.held_micro:
        # The estimate was not an upper bound after all. The caps must know the truth, so that they refuse
        # what comes next; somebody must know too.
        COST_OVER_HOLD.inc()
        log.error("ledger.cost_over_hold", call=call.id, held=call.held_micro, cost=used.cost_micro)
    for window in windows:
        window.held_micro -= call.held_micro
        window.spent_micro += used.cost_micro


async def _write(
    session: AsyncSession, windows: Mapping[Cap, Window], opened: Sequence[Hold], closed: Sequence[Settlement]
) -> None:
    if windows:
        its = [column == sa.bindparam(f"its_{column.name}") for column in _KEY]
        rows = [
            {f"its_{name}": value for name, value in _key(cap).items()}
            | {"spent_micro": window.spent_micro, "held_micro": window.held_micro}
            for cap, window in windows.items()
        ]
        await session.execute(sa.update(WINDOWS).where(*its), rows)
    if closed:
        rows = [{"its_id": each.call_id, "state": each.state, **asdict(each.used)} for each in closed]
        await session.execute(sa.update(CALLS).where(CALLS.c.id == sa.bindparam("its_id")), rows)
    if opened:
        await session.execute(sa.insert(CALLS), [_row(order) for order in opened])


def _row(order: Hold) -> dict[str, Any]:
    times = {"started_at": order.at, "expires_at": order.until}
    free = {"cost_micro": 0, "input_tokens": 0, "output_tokens": 0}
    held = {"id": order.call_id, "state": "held", "held_micro": order.amount_micro}
    return {**held, **asdict(order.payer), **asdict(order.purpose), **times, **free}


async def _tell_thresholds(session: AsyncSession, cap: Cap, chain: str, spent_before: int, window: Window) -> None:
    """Put on record, once each, that a cap is half, nearly and wholly used up; alerts read the counter."""
    for percent in THRESHOLDS:
        mark = window.limit_micro * percent
        if spent_before * 100 < mark <= window.spent_micro * 100:
            BUDGET_THRESHOLDS.labels(cap.scope, str(percent)).inc()
            log.warning("budget.threshold", scope=cap.scope, scope_id=cap.scope_id, percent=percent)
            facts = {
                "percent": percent,
                "window": cap.window,
                "spent_usd": usd(window.spent_micro),
                "limit_usd": usd(window.limit_micro),
            }
            subject = f"budget:{cap.scope}:{cap.scope_id}"
            await trail.append(session, chain, "system", "budget.threshold", subject, **facts)


def chain(cap: Cap, payer: Payer) -> str:
    """Whose records tell of this cap."""
    return trail.PLATFORM if cap.scope == "global" else payer.tenant_id


def _key(cap: Cap) -> dict[str, str]:
    return {"scope": cap.scope, "scope_id": cap.scope_id, "window": cap.window}
