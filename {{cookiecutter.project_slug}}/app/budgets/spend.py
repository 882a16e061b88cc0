"""What was spent, by day, model and feature: sums over the priced calls of one tenant."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select

from app.budgets.models import ModelCall
from app.db.base import utc_now
from app.db.engine import Database
from app.db.tenancy import TenantScope


@dataclass(frozen=True)
class SpendRow:
    model: str
    feature: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost_micro: int


@dataclass(frozen=True)
class RunCost:
    calls: int
    input_tokens: int
    output_tokens: int
    cost_micro: int


@dataclass(frozen=True)
class Spend:
    db: Database

    async def by_model(self, scope: TenantScope, since: datetime | None = None) -> list[SpendRow]:
        start = since or utc_now() - timedelta(days=31)
        query = (
            select(ModelCall.model, ModelCall.feature, *_SUMS)
            .where(ModelCall.started_at >= start)
            .group_by(ModelCall.model, ModelCall.feature)
            .order_by(ModelCall.model, ModelCall.feature)
        )
        async with self.db.transaction(scope) as session:
            return [SpendRow(row[0], row[1], *(int(v or 0) for v in row[2:])) for row in await session.execute(query)]

    async def of_run(self, scope: TenantScope, run_id: str) -> RunCost:
        return (await self.of_runs(scope, [run_id]))[run_id]

    async def of_runs(self, scope: TenantScope, run_ids: Sequence[str]) -> dict[str, RunCost]:
        """The cost of each of these runs, in one query; a run without model calls has cost nothing."""
        query = select(ModelCall.run_id, *_SUMS).where(ModelCall.run_id.in_(run_ids)).group_by(ModelCall.run_id)
        async with self.db.transaction(scope) as session:
            found = {row[0]: RunCost(*(int(value or 0) for value in row[1:])) for row in await session.execute(query)}
        return {run_id: found.get(run_id, RunCost(0, 0, 0, 0)) for run_id in run_ids}


_SUMS = (
    func.count(ModelCall.id),
    func.sum(ModelCall.input_tokens),
    func.sum(ModelCall.output_tokens),
    func.sum(ModelCall.cost_micro),
)
