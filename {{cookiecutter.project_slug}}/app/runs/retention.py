"""Deletes what is kept long enough: daily, in batches of one short transaction each, and on record.

What went is counted in the tenant's audit trail in the transaction that deletes it. The trail itself stays: it holds no
content, and its records hold each other's hashes. Gate: observability.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import anyio
import sqlalchemy as sa
import structlog
from sqlalchemy import func, select

from app.audit import trail
from app.budgets.models import BudgetWindow
from app.db.base import utc_now
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.runs.engine import RunQueue
from app.runs.models import Run
from app.runs.retention_periods import Cutoffs, RetentionPeriods
from app.runs.retention_sweeps import SWEEPS, Sweep, closed_windows
from app.telemetry.metrics import RETENTION_DELETED, RETENTION_FINISHED

log = structlog.get_logger(__name__)
EVERY = timedelta(days=1)
RECLAIM_AGAIN = timedelta(minutes=10)
BATCH = 100  # keys in one transaction
MAX_BATCHES = 20  # in one round of housekeeping, which has other work
WINDOWS = "budget_windows"


@dataclass(frozen=True)
class Report:
    deleted: Counter[str]  # by kind: runs whose history or content went, and rows
    is_finished: bool  # nothing that is due is left


@dataclass
class Retention:
    db: Database
    periods: RetentionPeriods
    queue: RunQueue
    finished_at: datetime | None = None
    _is_reclaimable: bool = False  # something was deleted whose space is still taken
    _reclaim_failed: bool = False
    _rests_until: datetime | None = None  # after the space could not be given back: that copies the whole file

    async def go_on(self) -> None:
        """A bounded part of the day's work; nothing once it is done for the day."""
        if self.finished_at is not None and utc_now() - self.finished_at < EVERY:
            return
        if self._rests_until is not None and utc_now() < self._rests_until:
            return
        report = await self.run(max_batches=MAX_BATCHES)
        if report.is_finished:
            self.finished_at = utc_now()
        self._rests_until = utc_now() + RECLAIM_AGAIN if self._reclaim_failed else None

    async def due(self) -> Counter[str]:
        """How much would be deleted now, by kind. Changes nothing."""
        found: Counter[str] = Counter()
        for tenant_id, cutoffs in (await self._cutoffs()).items():
            for sweep in SWEEPS:
                query = select(func.count()).select_from(sweep.due(tenant_id, cutoffs).order_by(None).subquery())
                found[sweep.kind] += await self._scalar(query)
        windows = select(func.count()).select_from(BudgetWindow).where(closed_windows(self._default_cutoffs()))
        found[WINDOWS] += await self._scalar(windows)
        return +found

    async def run(self, *, max_batches: int | None = None) -> Report:
        """Delete what is due, in at most so many batches. Safe to repeat, and to stop at any moment."""
        deleted: Counter[str] = Counter()
        left = max_batches if max_batches is not None else float("inf")
        for tenant_id, cutoffs in (await self._cutoffs()).items():
            for sweep in SWEEPS:
                while count := await self._batch(tenant_id, sweep, cutoffs):
                    deleted[sweep.kind] += count
                    left -= 1
                    if left <= 0:
                        return self._reported(deleted, is_finished=False)
        deleted[WINDOWS] += await self._delete_windows()
        if self._is_reclaimable:
            self._is_reclaimable = self._reclaim_failed = not await self.db.reclaim()
        if not self._is_reclaimable:
            RETENTION_FINISHED.set(utc_now().timestamp())
        return self._reported(+deleted, is_finished=not self._is_reclaimable)

    async def run_to_the_end(self) -> Counter[str]:
        """`run`, again while something is in the way of giving the space back; a minute at most."""
        report = await self.run()
        for _ in range(60):
            if report.is_finished:
                break
            await anyio.sleep(1)
            report = Report(report.deleted + (again := await self.run()).deleted, again.is_finished)
        return report.deleted

    async def _batch(self, tenant_id: str, sweep: Sweep, cutoffs: Cutoffs) -> int:
        due = sweep.due(tenant_id, cutoffs).limit(BATCH)
        async with self.db.read(ALL_TENANTS) as session:
            keys = list(await session.scalars(due))
        if not keys:
            return 0
        if sweep.kind in {"history", "runs"}:
            # Before the run says that it is done: stopped in between, it is found and done again.
            await self._forget(keys)
        async with self.db.transaction(ALL_TENANTS) as session:
            count = await sweep.remove(session, keys)
            await session.flush()
            facts = {"kind": sweep.kind, "count": count, "before": f"{cutoffs.of(sweep.kind):%Y-%m-%dT%H:%M:%SZ}"}
            await trail.append(session, tenant_id, "system", "retention.deleted", f"tenant:{tenant_id}", **facts)
        RETENTION_DELETED.labels(sweep.kind).inc(count)
        self._is_reclaimable = True
        return count

    async def _forget(self, run_ids: Sequence[str]) -> None:
        async with self.db.read(ALL_TENANTS) as session:
            rows = await session.execute(select(Run.id, Run.segment).where(Run.id.in_(run_ids)))
            segments = [(row.id, row.segment) for row in rows]
        await self.queue.forget(segments)

    async def _delete_windows(self) -> int:
        cutoffs = self._default_cutoffs()
        if not await self._scalar(select(func.count()).select_from(BudgetWindow).where(closed_windows(cutoffs))):
            return 0
        async with self.db.transaction(ALL_TENANTS) as session:
            gone = sa.delete(BudgetWindow).where(closed_windows(cutoffs)).returning(BudgetWindow.scope_id)
            count = len(list(await session.scalars(gone)))
            facts = {"kind": WINDOWS, "count": count, "before": f"{cutoffs.records:%Y-%m-%dT%H:%M:%SZ}"}
            await trail.append(session, trail.PLATFORM, "system", "retention.deleted", "budgets", **facts)
        RETENTION_DELETED.labels(WINDOWS).inc(count)
        self._is_reclaimable = True
        return count

    async def _cutoffs(self) -> dict[str, Cutoffs]:
        now = utc_now()
        return {tenant: Cutoffs.at(now, periods) for tenant, periods in (await self.periods.by_tenant()).items()}

    def _default_cutoffs(self) -> Cutoffs:
        return Cutoffs.at(utc_now(), self.periods.default)

    async def _scalar(self, query: sa.Select[int]) -> int:
        async with self.db.read(ALL_TENANTS) as session:
            return int(await session.scalar(query) or 0)

    @staticmethod
    def _reported(deleted: Counter[str], *, is_finished: bool) -> Report:
        if deleted:
            log.info("retention.deleted", **deleted)
        return Report(deleted, is_finished)
