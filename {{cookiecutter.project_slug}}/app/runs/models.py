from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, String, Text, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, TenantOwned


class Run(TenantOwned, Base):
    """One task given to a feature's agent.

    state: queued, running, waiting (for approvals), succeeded, failed, cancelled."""

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("tenant_id", "member_id", "idempotency_key"),
        Index("ix_runs_tenant_created", "tenant_id", "id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    member_id: Mapped[str] = mapped_column(String(36), index=True)
    feature: Mapped[str] = mapped_column(String(60))
    idempotency_key: Mapped[str] = mapped_column(String(255))
    request_digest: Mapped[str] = mapped_column(String(64))
    task: Mapped[str] = mapped_column(Text)
    documents: Mapped[list[dict[str, str]]] = mapped_column(JSON)
    key_id: Mapped[str] = mapped_column(String(36))  # revoking it ends what the run may do
    issuer_chain: Mapped[list[str] | None] = mapped_column(JSON)  # who else may hold its key; None: not on record
    granted: Mapped[list[str]] = mapped_column(JSON)  # permissions at the start: the run's upper bound
    state: Mapped[str] = mapped_column(String(12), index=True)
    segment: Mapped[int] = mapped_column(default=1)
    starts: Mapped[int] = mapped_column(default=0, server_default="0")  # of this segment; more after a crash
    used: Mapped[dict[str, int] | None] = mapped_column(JSON)  # by earlier segments: ms, model_calls, tool_calls
    limits: Mapped[dict[str, Any] | None] = mapped_column(JSON)  # narrower ones the caller asked for
    history: Mapped[str | None] = mapped_column(Text)
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
