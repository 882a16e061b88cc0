from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, String, Text, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, TenantOwned
from app.db.changes import Announced


class Run(TenantOwned, Announced, Base):
    """One task given to a feature's agent. What it is about is in `RunContent`.

    state: queued, running, waiting (for approvals), succeeded, failed, cancelled."""

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("tenant_id", "member_id", "idempotency_key"),
        Index("ix_runs_tenant_created", "tenant_id", "id"),
        Index("ix_runs_tenant_ended", "tenant_id", "ended_at"),  # what retention looks for
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    member_id: Mapped[str] = mapped_column(String(36), index=True)
    feature: Mapped[str] = mapped_column(String(60))
    idempotency_key: Mapped[str] = mapped_column(String(255))
    request_digest: Mapped[str] = mapped_column(String(64))
    key_id: Mapped[str] = mapped_column(String(36))  # revoking it ends what the run may do
    issuer_chain: Mapped[list[str] | None] = mapped_column(JSON)  # who else may hold its key; None: not on record
    granted: Mapped[list[str]] = mapped_column(JSON)  # permissions at the start: the run's upper bound
    state: Mapped[str] = mapped_column(String(12), index=True)
    segment: Mapped[int] = mapped_column(default=1)
    starts: Mapped[int] = mapped_column(default=0, server_default="0")  # of this segment; more after a crash
    used: Mapped[dict[str, int] | None] = mapped_column(JSON)  # by earlier segments: ms, model_calls, tool_calls
    limits: Mapped[dict[str, Any] | None] = mapped_column(JSON)  # narrower ones the caller asked for
    output: Mapped[Any | None] = mapped_column(JSON)
    error_code: Mapped[str | None] = mapped_column(String(60))
    error_detail: Mapped[str | None] = mapped_column(String(300))
    model: Mapped[str] = mapped_column(String(120))
    route: Mapped[dict[str, Any] | None] = mapped_column(JSON)  # which tier the last call was given, and why
    degraded: Mapped[bool] = mapped_column(default=False, server_default=false())  # another model stood in for it
    prompt_version: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    history_deleted_at: Mapped[datetime | None]  # with the engine's records of it
    content_deleted_at: Mapped[datetime | None]

    @property
    def announced_id(self) -> str:
        return self.id


class RunContent(TenantOwned, Base):
    """What a run is about: megabytes that no list and no poll should read.

    A table of its own, because SQLite reads a row from its beginning: behind a large column every other is as far away
    as that is long. Its row goes before the run's, see `retention`."""

    __tablename__ = "run_contents"

    run_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    task: Mapped[str] = mapped_column(Text)
    documents: Mapped[list[dict[str, str]]] = mapped_column(JSON)
    history: Mapped[str | None] = mapped_column(Text)


class TenantRetention(TenantOwned, Base):
    """For how many days a tenant wants its own things kept, where that is shorter than the operator's."""

    __tablename__ = "tenant_retention"

    tenant_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    content_days: Mapped[int | None]
    history_days: Mapped[int | None]
    changed_at: Mapped[datetime]
