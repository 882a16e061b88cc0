"""How long things are kept: the operator's periods, and a tenant's own where those are shorter.

Gate: observability.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import select

from app.audit import trail
from app.config_files import read_config
from app.db.base import utc_now
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.db.unique import insert_or_existing
from app.errors import RequestInvalid
from app.identity.models import Tenant
from app.runs.models import TenantRetention

MAX_DAYS = 36_500
Days = Annotated[int, Field(ge=1, le=MAX_DAYS)]
# Two months: an open budget window, the invoice of last month and usage by day for 31 days all need these rows.
MIN_RECORDS_DAYS = 62


class Periods(BaseModel):
    """In days after a run has ended. History goes first, then content, then the rows themselves."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    history: Days = 7
    content: Days = 90
    records: Annotated[int, Field(ge=MIN_RECORDS_DAYS, le=MAX_DAYS)] = 400

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.history <= self.content <= self.records:
            raise ValueError("history must be at most content, and content at most records")
        return self

    def shortened(self, content: int | None, history: int | None) -> "Periods":
        """With a tenant's own periods, each only where it is shorter."""
        kept = min(self.content, content or self.content)
        return Periods(history=min(self.history, history or self.history, kept), content=kept, records=self.records)


class RetentionFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    days: Periods = Field(default_factory=Periods)


@dataclass(frozen=True)
class Cutoffs:
    """What ended, or was made, before these instants goes."""

    history: datetime
    content: datetime
    records: datetime

    @classmethod
    def at(cls, now: datetime, periods: Periods) -> "Cutoffs":
        ago = {name: now - timedelta(days=days) for name, days in periods.model_dump().items()}
        return cls(**ago)

    def of(self, kind: str) -> datetime:
        """The instant that counts for a kind of sweep."""
        return {"history": self.history, "content": self.content, "cached_answers": self.content}.get(
            kind, self.records
        )


@dataclass(frozen=True)
class RetentionPeriods:
    db: Database
    default: Periods

    @classmethod
    def load(cls, db: Database, path: Path) -> "RetentionPeriods":
        return cls(db, read_config(path, RetentionFile).days)

    async def by_tenant(self) -> Mapping[str, Periods]:
        """The periods that hold for each tenant, by its id."""
        query = select(Tenant.id, TenantRetention.content_days, TenantRetention.history_days)
        query = query.outerjoin(TenantRetention, TenantRetention.tenant_id == Tenant.id).order_by(Tenant.id)
        async with self.db.read(ALL_TENANTS) as session:
            return {row[0]: self.default.shortened(*row[1:]) for row in await session.execute(query)}

    async def set(
        self, tenant_id: str, *, content_days: int | None, history_days: int | None, actor: str, reason: str
    ) -> Periods:
        """Shorten a tenant's periods, or give it the operator's again with None. Returns what holds now.

        Raises RequestInvalid for a period that is not shorter than the operator's."""
        asked = {"content": content_days, "history": history_days}
        for name, days in asked.items():
            most = getattr(self.default, name)
            if days is not None and not 1 <= days <= most:
                raise RequestInvalid(f"{name}: choose 1 to {most} days; only config/retention.toml raises it.")
        async with self.db.transaction(ALL_TENANTS) as session:
            made = TenantRetention(tenant_id=tenant_id, changed_at=utc_now())
            stored = select(TenantRetention).where(TenantRetention.tenant_id == tenant_id).with_for_update()
            row, _ = await insert_or_existing(session, made, stored)
            row.content_days, row.history_days, row.changed_at = content_days, history_days, utc_now()
            facts = {"content_days": content_days, "history_days": history_days, "reason": reason}
            await trail.append(session, tenant_id, actor, "retention.set", f"tenant:{tenant_id}", **facts)
        return self.default.shortened(content_days, history_days)
