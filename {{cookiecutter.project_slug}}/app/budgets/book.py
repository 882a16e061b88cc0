"""The rows of the ledger: some holds and settlements at once, in the order in which they came, in one transaction.

The windows of all of them are locked first, in one order, so no limit is passed and nobody waits in a circle; then
everything is computed here and written in one statement a table. Gate: cost.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog

from app.audit import trail
from app.budgets import statements
from app.budgets.call_records import Ended, record_calls
from app.budgets.caps import Cap, Caps, Payer, resets_at, unusual
from app.budgets.layers import LayeredLimit
from app.budgets.money import usd
from app.budgets.orders import Hold, Order, Settlement, Used
from app.errors import BudgetExceeded, RunLimitExceeded
from app.identity.layers import PEOPLE
from app.telemetry.metrics import BUDGET_THRESHOLDS, COST_OVER_HOLD

log = structlog.get_logger(__name__)
THRESHOLDS = (50, 80, 100)  # percent of a cap


@dataclass
class Window:
    """One cap's row, as it stands within the transaction."""

    limit: LayeredLimit
    spent_micro: int = 0
    held_micro: int = 0

    @property
    def limit_micro(self) -> int | None:
        """What both layers allow; None: counted, not capped."""
        return self.limit.effective_micro

    @property
    def left_micro(self) -> float:
        if self.limit.frozen_by:
            return 0
        limit_micro = self.limit_micro
        return math.inf if limit_micro is None else limit_micro - self.spent_micro - self.held_micro

    @property
    def used(self) -> float:
        """Which part is spent or held; 1.0 is all of it."""
        limit_micro = self.limit_micro
        return 0.0 if limit_micro is None else (self.spent_micro + self.held_micro) / max(1, limit_micro)

    def exceeded(self, cap: Cap) -> BudgetExceeded:
        """The refusal, which says whose limit or freeze it is."""
        frozen_by = " and ".join(PEOPLE[layer] for layer in self.limit.frozen_by)
        return BudgetExceeded(cap.scope, resets_at(cap), limited_by=PEOPLE[self.limit.limited_by], frozen_by=frozen_by)


Outcome = bool | BudgetExceeded | RunLimitExceeded  # of a settlement: whether there was such a hold


def post(connection: sa.Connection, caps: Caps, orders: Sequence[Order]) -> list[Outcome]:
    """Carry out these orders. Raises nothing for one that is refused: that is its outcome."""
    held = _held(connection, [order.call_id for order in orders if isinstance(order, Settlement)])
    charged = {order.call_id: (order.payer, order.at) for order in orders if isinstance(order, Hold)}
    charged |= {
        call.id: (Payer(call.tenant_id, call.member_id, call.run_id), call.started_at) for call in held.values()
    }
    under = {call_id: caps.of(payer, at) for call_id, (payer, at) in charged.items()}
    chains = {cap: chain(cap, charged[call_id][0]) for call_id, each in under.items() for cap in each}
    windows = locked(connection, chains)
    before = {cap: replace(window) for cap, window in windows.items()}
    outcomes: list[Outcome] = []
    opened, closed, ended = [], [], []
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
                ended.append(Ended(call, order))
    _write(connection, {cap: window for cap, window in windows.items() if window != before[cap]}, opened, closed)
    _tell_disputes(connection, [order for order in closed if order.claim is not None], charged)
    record_calls(connection, ended)
    for cap, window in windows.items():
        if cap.scope != "run" and window.spent_micro != before[cap].spent_micro:
            _tell_thresholds(connection, cap, chains[cap], before[cap].spent_micro, window)
    return outcomes


def seen(connection: sa.Connection, caps: Sequence[Cap]) -> dict[Cap, Window]:
    """How these caps stand. One that nothing was charged to yet has no row and needs none."""
    windows = _read(connection, statements.SEE, caps)
    missing = [cap for cap in caps if cap not in windows]
    return windows | _unmade(connection, missing)


def stand(
    connection: sa.Connection, asked: Sequence[tuple[str, tuple[Cap, ...]]]
) -> list[tuple[str | None, dict[Cap, Window]]]:
    """For some tenants and their payers' caps: the tier that the tenant has of its own, and how the caps stand."""
    windows = seen(connection, list({cap: None for _, caps in asked for cap in caps}))
    rows = connection.execute(statements.TIERS, {"ids": list({tenant_id for tenant_id, _ in asked})})
    tiers: dict[str, str | None] = {row.id: row.tier for row in rows}
    return [(tiers.get(tenant_id), {cap: windows[cap] for cap in caps}) for tenant_id, caps in asked]


def locked(connection: sa.Connection, caps: Iterable[Cap]) -> dict[Cap, Window]:
    """The rows of these caps, made where they are missing, nobody else's until the transaction ends."""
    wanted = list(caps)
    windows = _read(connection, statements.LOCK, wanted)
    if missing := [cap for cap in wanted if cap not in windows]:
        unmade, unspent = _unmade(connection, missing), {"spent_micro": 0, "held_micro": 0, "warned": {}}
        rows: list[dict[str, Any]] = [
            {**_named(cap), **unspent, "limit_micro": unmade[cap].limit.operator_micro}
            for cap in sorted(missing, key=_key)
        ]
        connection.execute(statements.MAKE[connection.dialect.name], rows)
        windows |= _read(connection, statements.LOCK, missing)
    return windows


def _read(connection: sa.Connection, statement: sa.Select[Any], caps: Sequence[Cap]) -> dict[Cap, Window]:
    found = connection.execute(statement, {"keys": [_key(cap) for cap in caps]})
    rows = {tuple(row[:3]): Window(LayeredLimit(*row[3:5], *map(bool, row[5:7])), *row[7:]) for row in found}
    return {cap: rows[key] for cap in caps if (key := _key(cap)) in rows}


def _unmade(connection: sa.Connection, caps: Sequence[Cap]) -> dict[Cap, Window]:
    """Windows that are yet to be made, with the limits of both layers; the operator's may be the file's."""
    if not caps:
        return {}
    keys = {cap: (cap.scope, cap.scope_id, unusual(cap)) for cap in caps}
    rows = connection.execute(statements.LAYERS, {"keys": list(keys.values())})
    chosen = {tuple(row[:3]): row[3:] for row in rows}
    unmade = {}
    for cap in caps:
        operator, tenant, *frozen = chosen.get(keys[cap], (None, None, False, False))
        operator = cap.default_limit_micro if operator is None else operator
        unmade[cap] = Window(LayeredLimit(operator, tenant, *map(bool, frozen)))
    return unmade


def _held(connection: sa.Connection, call_ids: Sequence[str]) -> dict[str, Any]:
    if not call_ids:
        return {}
    return {call.id: call for call in connection.execute(statements.HELD, {"ids": call_ids})}


def _hold(order: Hold, windows: Mapping[Cap, Window]) -> BudgetExceeded | RunLimitExceeded | None:
    """Hold the amount in all of them, or in none and say which is full."""
    for cap, window in windows.items():
        if order.amount_micro > window.left_micro:
            if cap.scope == "run":
                return RunLimitExceeded("This task reached its own cost limit.")
            return window.exceeded(cap)
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


def _write(
    connection: sa.Connection, windows: Mapping[Cap, Window], opened: Sequence[Hold], closed: Sequence[Settlement]
) -> None:
    if windows:
        rows = [
            {f"its_{name}": value for name, value in _named(cap).items()}
            | {"spent_micro": window.spent_micro, "held_micro": window.held_micro}
            for cap, window in windows.items()
        ]
        connection.execute(statements.CHARGE, rows)
    if closed:
        rows = [
            {"its_id": each.call_id, "state": each.state, "outcome": each.outcome, **vars(each.used)} for each in closed
        ]
        connection.execute(statements.CLOSE, rows)
    if opened:
        connection.execute(statements.OPEN, [_row(order) for order in opened])


def _row(order: Hold) -> dict[str, Any]:
    times = {"started_at": order.at, "expires_at": order.until}
    free = {"cost_micro": 0, "input_tokens": 0, "output_tokens": 0, "outcome": ""}
    held = {"id": order.call_id, "state": "held", "held_micro": order.amount_micro}
    return {**held, **vars(order.payer), **vars(order.purpose), **times, **free}


def _tell_thresholds(connection: sa.Connection, cap: Cap, chain: str, spent_before: int, window: Window) -> None:
    """Put on record, once each, that a cap is half, nearly and wholly used up; alerts read the counter."""
    if window.limit_micro is None:
        return
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
            trail.append_at_once(connection, chain, "system", "budget.threshold", subject, **facts)


def _tell_disputes(
    connection: sa.Connection, disputed: Sequence[Settlement], charged: Mapping[str, tuple[Payer, datetime]]
) -> None:
    """Put each report that cannot be true on its payer's record; a person compares it with the provider's invoice."""
    for order in disputed:
        facts = {"reported": vars(order.claim), "booked": vars(order.used)}
        payer = charged[order.call_id][0]
        trail.append_at_once(
            connection, payer.tenant_id, "system", "model_call.disputed", f"model_call:{order.call_id}", **facts
        )


def chain(cap: Cap, payer: Payer) -> str:
    """Whose records tell of this cap."""
    return trail.PLATFORM if cap.scope == "global" else payer.tenant_id


def _key(cap: Cap) -> tuple[str, str, str]:
    return cap.scope, cap.scope_id, cap.window


def _named(cap: Cap) -> dict[str, str]:
    return {"scope": cap.scope, "scope_id": cap.scope_id, "window": cap.window}
