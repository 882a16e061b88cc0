"""What was spent, by whatever one asks: sums over the priced calls. Gate: observability, cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select

from app.budgets.models import ModelCall
from app.db.base import utc_now
from app.db.engine import Database
from app.db.tenancy import TenantScope

DIMENSIONS = ("day", "tenant", "member", "feature", "tier", "model", "prompt_version")
_COLUMNS: dict[str, Any] = {
    "tenant": ModelCall.tenant_id,
    "member": ModelCall.member_id,
    "feature": ModelCall.feature,
    "tier": ModelCall.tier,
    "model": ModelCall.model,
    "prompt_version": ModelCall.prompt_version,
}


@dataclass(frozen=True)
class SpendRow:
    of: Mapping[str, str]  # by dimension
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

    async def by(
        self,
        scope: TenantScope,
        dimensions: Sequence[str],
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[SpendRow]:
        """Sums over calls that began from `since` (31 days ago) to before `until` (now), by some of DIMENSIONS."""
        columns = [self._day if name == "day" else _COLUMNS[name] for name in dimensions]
        began = [ModelCall.started_at >= (since or utc_now() - timedelta(days=31))]
        began += [ModelCall.started_at < until] if until else []
        query = select(*columns, *_SUMS).where(*began).group_by(*columns).order_by(*columns)
        async with self.db.read(scope) as session:
            rows = [tuple(row) for row in await session.execute(query)]
        split = len(dimensions)
        found = [
            (dict(zip(dimensions, map(str, row[:split]), strict=True)), [int(v or 0) for v in row[split:]])
            for row in rows
        ]
        return [SpendRow(of, *sums) for of, sums in found if sums[0]]  # a sum over nothing is a row, too

    @property
    def _day(self) -> Any:
        """The day in UTC, as YYYY-MM-DD."""
        if self.db.is_sqlite:
            return func.date(ModelCall.started_at)
        return func.to_char(func.timezone("UTC", ModelCall.started_at), sa.literal_column("'YYYY-MM-DD'"))

    async def without_run(self, scope: TenantScope, *, limit: int) -> list[ModelCall]:
        """The newest calls that no run made: of chats, responses, embeddings."""
        query = select(ModelCall).where(ModelCall.run_id == "").order_by(ModelCall.started_at.desc()).limit(limit)
        async with self.db.read(scope) as session:
            return list(await session.scalars(query))

    async def of_run(self, scope: TenantScope, run_id: str) -> RunCost:
        return (await self.of_runs(scope, [run_id]))[run_id]

    async def of_runs(self, scope: TenantScope, run_ids: Sequence[str]) -> dict[str, RunCost]:
        """The cost of each of these runs, in one query; a run without model calls has cost nothing."""
        query = select(ModelCall.run_id, *_SUMS).where(ModelCall.run_id.in_(run_ids)).group_by(ModelCall.run_id)
        async with self.db.read(scope) as session:
            found = {row[0]: RunCost(*(int(value or 0) for value in row[1:])) for row in await session.execute(query)}
        return {run_id: found.get(run_id, RunCost(0, 0, 0, 0)) for run_id in run_ids}


_SUMS = (
    func.count(ModelCall.id),
    func.sum(ModelCall.input_tokens),
    func.sum(ModelCall.output_tokens),
    func.sum(ModelCall.cost_micro),
)
