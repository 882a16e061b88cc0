"""How far a run is, for those who wait for it: its state and the number of its last record, without its content.

Gate: performance.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import sqlalchemy as sa

from app.audit.models import AuditEvent
from app.db.changes import Changes, Subscription
from app.db.engine import Database
from app.db.tenancy import TenantScope
from app.errors import NotFound
from app.runs.models import Run

Key = tuple[str, str]  # tenant, run
AT_MOST = timedelta(seconds=0.25)  # between two moments at which the waiting task has control


@dataclass(frozen=True)
class Progress:
    state: str
    sequence: int  # of the last record about it in its tenant's audit trail; 0: there is none


_RUNS, _EVENTS = cast("sa.Table", Run.__table__), cast("sa.Table", AuditEvent.__table__)
_LAST = (
    sa.select(sa.func.max(_EVENTS.c.sequence))
    .where(_EVENTS.c.tenant_id == _RUNS.c.tenant_id, _EVENTS.c.subject == sa.literal("run:") + _RUNS.c.id)
    .scalar_subquery()
)
_PROGRESS = sa.select(_RUNS.c.tenant_id, _RUNS.c.id, _RUNS.c.state, sa.func.coalesce(_LAST, 0)).where(
    _RUNS.c.id.in_(sa.bindparam("ids", expanding=True))
)


def _progress(connection: sa.Connection, keys: Sequence[Key]) -> list[Progress | None]:
    rows = connection.execute(_PROGRESS, {"ids": [run_id for _, run_id in keys]})
    known = {(tenant_id, run_id): Progress(state, sequence) for tenant_id, run_id, state, sequence in rows}
    return [known.get(key) for key in keys]


async def progress(db: Database, scope: TenantScope, run_id: str) -> Progress:
    """Raises NotFound for a missing run and for another tenant's alike."""
    known = await db.look(_progress, (scope.tenant_id, run_id))
    if known is None:
        raise NotFound
    return known


@dataclass
class Watch:
    """Waits for changes of one run without asking the database again and again."""

    changes: Changes
    subscription: Subscription
    looked: float = field(default_factory=time.monotonic)

    async def wait(self) -> bool:
        """Whether it is time to look: the run has changed, or nobody would have said so. Returns after `AT_MOST`."""
        changed = await self.subscription.wait(AT_MOST)
        if changed or time.monotonic() - self.looked >= self.changes.look_every.total_seconds():
            self.looked = time.monotonic()
            return True
        return False


@contextmanager
def watching(db: Database, run_id: str) -> Iterator[Watch]:
    """Look at the run once after this has begun: what changed before is not announced again."""
    with db.changes.subscribe(run_id) as subscription:
        yield Watch(db.changes, subscription)
