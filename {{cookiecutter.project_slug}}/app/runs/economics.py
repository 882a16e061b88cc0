"""What a run that succeeds costs: those that did not are paid for as well. Gate: observability, cost."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from app.budgets.models import ModelCall
from app.db.engine import Database
from app.db.tenancy import TenantScope
from app.runs.models import Run


@dataclass(frozen=True)
class UnitCost:
    """Runs that began in a time, how many of them succeeded, and what all of them cost."""

    runs: int
    succeeded: int
    cost_micro: int

    @property
    def per_success_micro(self) -> int | None:
        """Rounded up; None where nothing succeeded."""
        return -(-self.cost_micro // self.succeeded) if self.succeeded else None


async def unit_cost(db: Database, scope: TenantScope, since: datetime, until: datetime) -> UnitCost:
    during = (Run.created_at >= since, Run.created_at < until)
    counted = select(func.count(Run.id), func.count(Run.id).filter(Run.state == "succeeded")).where(*during)
    paid = select(func.coalesce(func.sum(ModelCall.cost_micro), 0)).join(Run, Run.id == ModelCall.run_id).where(*during)
    async with db.read(scope) as session:
        runs, succeeded = (await session.execute(counted)).one()
        cost = await session.scalar(paid)
    return UnitCost(runs, succeeded, int(cost or 0))
