"""The stored limits of a cap and their change. Gate: cost."""

from sqlalchemy import Update, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.budgets.caps import Cap, unusual
from app.budgets.models import BudgetCap, BudgetWindow
from app.budgets.money import shown
from app.db.unique import insert_or_existing
from app.errors import Forbidden
from app.identity.layers import PEOPLE


async def cap_row(session: AsyncSession, cap: Cap) -> BudgetCap:
    """The stored limits of a cap, locked; made where there are none, with the default until a layer sets its own."""
    scope, scope_id, period = key = cap.scope, cap.scope_id, unusual(cap)
    found = await session.get(BudgetCap, key, with_for_update=True, populate_existing=True)
    if found is not None:
        return found
    made = BudgetCap(scope=scope, scope_id=scope_id, period=period, frozen=False, tenant_frozen=False)
    same = (BudgetCap.scope == scope, BudgetCap.scope_id == scope_id, BudgetCap.period == period)
    row, _ = await insert_or_existing(session, made, select(BudgetCap).where(*same).with_for_update())
    return row


def windows_like(cap: Cap) -> Update:
    """A change of the windows of the cap, whatever their day or month."""
    same = func.length(BudgetWindow.window) == len(cap.window)
    return update(BudgetWindow).where(BudgetWindow.scope == cap.scope, BudgetWindow.scope_id == cap.scope_id, same)


def require_within(operators_micro: int | None, wanted_micro: int | None, cap: Cap) -> None:
    """Raise Forbidden, naming the operator's limit, where a tenant's would be above it."""
    if operators_micro is not None and wanted_micro is not None and wanted_micro > operators_micro:
        raise Forbidden(f"A tenant's own limit may be at most {named_limit(operators_micro, cap)}.")


def named_limit(operators_micro: int | None, cap: Cap) -> str:
    limit = "no limit" if operators_micro is None else f"{shown(operators_micro)} a {cap.period}"
    return f"the operator's: {limit}. Only {PEOPLE['operator']} change it"
