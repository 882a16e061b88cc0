"""Whether what the database holds fits together: after a restore, and whenever somebody doubts it.

Each tenant's audit chain is whole, what the ledger holds and has spent for each run is the sum over its model calls,
and no row belongs to a run that is not there. Gate: deployment.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from app.audit import trail
from app.audit.models import AuditHead
from app.budgets.models import BudgetWindow, ModelCall
from app.db.tenancy import ALL_TENANTS
from app.runs.models import Run, RunContent
from app.runtime import Runtime
from app.tools.models import ToolCall

_HELD = sa.func.sum(sa.case((ModelCall.state == "held", ModelCall.held_micro), else_=0))
_BOOKED = (
    sa.select(ModelCall.run_id, sa.func.sum(ModelCall.cost_micro).label("spent"), _HELD.label("held"))
    .group_by(ModelCall.run_id)
    .subquery()
)
_LEDGER_GAPS = (
    sa.select(BudgetWindow.scope_id)
    .outerjoin(_BOOKED, _BOOKED.c.run_id == BudgetWindow.scope_id)
    .where(
        BudgetWindow.scope == "run",
        sa.or_(
            BudgetWindow.spent_micro != sa.func.coalesce(_BOOKED.c.spent, 0),
            BudgetWindow.held_micro != sa.func.coalesce(_BOOKED.c.held, 0),
        ),
    )
    .order_by(BudgetWindow.scope_id)
)


@dataclass(frozen=True)
class Finding:
    check: str
    looked_at: int
    broken: list[str]


async def findings(runtime: Runtime) -> list[Finding]:
    """One for each check, whether or not it found anything. Takes no lock, and may be run while the service works."""
    return [
        await _chains(runtime),
        await runtime.db.at_once(_ledger, writes=False),
        await runtime.db.at_once(_orphans, writes=False),
    ]


async def _chains(runtime: Runtime) -> Finding:
    async with runtime.db.read(ALL_TENANTS) as session:
        tenants = list(await session.scalars(sa.select(AuditHead.tenant_id).order_by(AuditHead.tenant_id)))
    reports = [await trail.verify(runtime.db, ALL_TENANTS, tenant) for tenant in tenants]
    broken = [f"{report.tenant_id} at {report.broken_at}" for report in reports if not report.intact]
    return Finding("audit chains", len(reports), broken)


def _ledger(connection: sa.Connection) -> Finding:
    """Of runs alone: their window is never closed, and both sides go together when retention deletes them."""
    of_runs = sa.select(sa.func.count()).select_from(BudgetWindow).where(BudgetWindow.scope == "run")
    return Finding("ledger against calls", _count(connection, of_runs), list(connection.scalars(_LEDGER_GAPS)))


def _orphans(connection: sa.Connection) -> Finding:
    broken = []
    for model in (RunContent, ToolCall):
        lost = sa.select(model.run_id).where(~sa.exists().where(Run.id == model.run_id)).distinct()
        broken += [f"{model.__tablename__} of run {run_id}" for run_id in connection.scalars(lost)]
    return Finding("rows of runs", _count(connection, sa.select(sa.func.count()).select_from(Run)), broken)


def _count(connection: sa.Connection, query: sa.Select[int]) -> int:
    return connection.scalar(query) or 0
