"""Recurring work of a worker: close expired questions, book orphaned holds, refresh gauges."""

from dataclasses import dataclass
from datetime import timedelta

import anyio
import structlog

from app.budgets.ledger import Ledger
from app.runs.approvals import Approvals
from app.telemetry.metrics import APPROVAL_AGE

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Housekeeping:
    approvals: Approvals
    ledger: Ledger
    every: timedelta = timedelta(seconds=2)

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
        APPROVAL_AGE.set(await self.approvals.oldest_pending_seconds())
