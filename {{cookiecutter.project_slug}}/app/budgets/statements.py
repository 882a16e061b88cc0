"""What the ledger says to the database, built once: to build a statement takes longer than to have it answered."""

from typing import cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from app.budgets.models import BudgetCap, BudgetWindow, ModelCall
from app.identity.models import Tenant

WINDOWS, CAPS, CALLS, TENANTS = (
    cast("sa.Table", model.__table__) for model in (BudgetWindow, BudgetCap, ModelCall, Tenant)
)
_KEY = (WINDOWS.c.scope, WINDOWS.c.scope_id, WINDOWS.c.window)
_CAP = (CAPS.c.scope, CAPS.c.scope_id, CAPS.c.period)
_A_DAY, _A_MONTH = (sa.func.length(WINDOWS.c.window) == length for length in (10, 7))
# What `BudgetCap.period` of a window's cap is: empty for the one that its scope has without a word (`caps.USUAL`).
_PERIOD = sa.case(
    ((WINDOWS.c.scope == "tenant") & _A_DAY, "day"), (WINDOWS.c.scope.in_(("global", "member")) & _A_MONTH, "month"),
    else_="",
)  # fmt: skip
_ITS_CAP = (CAPS.c.scope == WINDOWS.c.scope) & (CAPS.c.scope_id == WINDOWS.c.scope_id) & (CAPS.c.period == _PERIOD)


def _among(*columns: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    return sa.tuple_(*columns).in_(sa.bindparam("keys", expanding=True))


# `keys`: scope, id and window of each. The caps of both layers are read with them: one that was set while a window was
# being made must count, and a change of either holds at once. Ordered, as they are locked in this order.
SEE = (
    sa.select(
        *_KEY,
        sa.func.coalesce(CAPS.c.limit_micro, WINDOWS.c.limit_micro) + WINDOWS.c.extra_micro,
        CAPS.c.tenant_limit_micro + WINDOWS.c.tenant_extra_micro,
        sa.func.coalesce(CAPS.c.frozen, sa.false()),
        sa.func.coalesce(CAPS.c.tenant_frozen, sa.false()),
        WINDOWS.c.spent_micro,
        WINDOWS.c.held_micro,
    )
    .select_from(WINDOWS.outerjoin(CAPS, _ITS_CAP))
    .where(_among(*_KEY))
    .order_by(*_KEY)
)
LOCK = SEE.with_for_update(of=WINDOWS)
# `keys`: scope, id and period of each.
LAYERS = sa.select(
    *_CAP, CAPS.c.limit_micro, CAPS.c.tenant_limit_micro, CAPS.c.frozen, CAPS.c.tenant_frozen
).where(_among(*_CAP))  # fmt: skip
MAKE = {
    "sqlite": sqlite.insert(WINDOWS).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(WINDOWS).on_conflict_do_nothing(),
}
CHARGE = sa.update(WINDOWS).where(*(column == sa.bindparam(f"its_{column.name}") for column in _KEY))
# `ids`: of calls, of tenants.
HELD = (
    sa.select(
        *(CALLS.c.id, CALLS.c.tenant_id, CALLS.c.member_id, CALLS.c.run_id, CALLS.c.held_micro, CALLS.c.started_at),
        *(CALLS.c.feature, CALLS.c.model, CALLS.c.tier),
    )
    .where(CALLS.c.id.in_(sa.bindparam("ids", expanding=True)), CALLS.c.state == "held")
    .order_by(CALLS.c.id)
    .with_for_update()
)
CLOSE = sa.update(CALLS).where(CALLS.c.id == sa.bindparam("its_id"))
OPEN = sa.insert(CALLS)
TIERS = sa.select(TENANTS.c.id, TENANTS.c.tier).where(TENANTS.c.id.in_(sa.bindparam("ids", expanding=True)))
