"""Recurring work of a worker: expired questions, orphaned holds, spend, retention, abandoned runs, gauges."""

from dataclasses import dataclass
from datetime import timedelta

import anyio
import structlog

from app.budgets.ledger import Ledger
from app.budgets.outlook import Outlook
from app.db.base import utc_now
from app.gateway.cache import Cache
from app.runs.approvals import Approvals
from app.runs.engine import RunQueue
from app.runs.retention import Retention
from app.runs.state import RunStore
from app.telemetry.metrics import APPROVAL_AGE, TOOL_OUTCOME_UNKNOWN
from app.tools.unknown import UnknownCalls

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Housekeeping:
    approvals: Approvals
    unknown: UnknownCalls
    ledger: Ledger
    cache: Cache
    store: RunStore
    queue: RunQueue
    outlook: Outlook
    retention: Retention
    every: timedelta = timedelta(seconds=2)
    patience: timedelta = timedelta(seconds=30)  # how long a run may look idle before the engine is asked about it

    async def forever(self) -> None:
        """Run until cancelled; a failing round is logged and tried again."""
        while True:
            try:
                await self.once()
            except Exception:
                log.exception("housekeeping.failed")
            await anyio.sleep(self.every.total_seconds())

    async def once(self) -> None:
        await self.approvals.expire_due()
        await self.ledger.sweep()
        await self.cache.purge()
        await self.outlook.look()
        await self._end_abandoned_runs()
        await self.store.close_cut_off(utc_now() - self.patience)
        await self.retention.go_on()
        APPROVAL_AGE.set(await self.approvals.oldest_pending_seconds())
        TOOL_OUTCOME_UNKNOWN.set(await self.unknown.open_count())

    async def _end_abandoned_runs(self) -> None:
        """A run whose segment the engine has given up, or lost, would look busy for ever: end it as failed."""
        stale = await self.store.stale(utc_now() - self.patience)
        for run_id, segment in await self.queue.given_up(stale):
            log.error("run.abandoned", run_id=run_id, segment=segment)
            await self.store.abandon(run_id, segment)
