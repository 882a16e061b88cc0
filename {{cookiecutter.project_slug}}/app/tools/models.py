from datetime import datetime
from typing import Any

from sqlalchemy import JSON, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, undefer

from app.db.base import Base, TenantOwned


class ToolCall(TenantOwned, Base):
    """One call of a tool in a run: what was decided, and what came of it.

    state: denied, waiting (for a person), started (the intent is on record), done, failed, unknown
    (the process died between start and outcome and the tool may not be started again)."""

    __tablename__ = "tool_calls"
    __table_args__ = (UniqueConstraint("run_id", "call_id"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    run_id: Mapped[str] = mapped_column(String(36), index=True)
    call_id: Mapped[str] = mapped_column(String(120))
    tool: Mapped[str] = mapped_column(String(80))
    effect: Mapped[str] = mapped_column(String(20))
    digest: Mapped[str] = mapped_column(String(64))
    rule: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(10), index=True)
    result: Mapped[Any | None] = mapped_column(JSON, deferred=True, deferred_raiseload=True)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    resolution: Mapped[str | None] = mapped_column(String(20))  # of an unknown call: happened, did_not_happen
    resolved_by: Mapped[str | None] = mapped_column(String(80))
    resolution_reason: Mapped[str | None] = mapped_column(String(300))

    @property
    def idempotency_key(self) -> str:
        """What the tool handed on: by this the effect is found where it would be."""
        return f"{self.run_id}:{self.call_id}"


class Approval(TenantOwned, Base):
    """A question to a person: may this run do exactly this? Bound to a digest, used once.

    state: pending, approved, denied, expired, used, stale (what it would change changed before it was carried out)."""

    __tablename__ = "approvals"
    __table_args__ = (UniqueConstraint("run_id", "call_id"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    run_id: Mapped[str] = mapped_column(String(36), index=True)
    call_id: Mapped[str] = mapped_column(String(120))
    tool: Mapped[str] = mapped_column(String(80))
    effect: Mapped[str] = mapped_column(String(20))
    # None once the content was deleted; `change` is before and after, from the tool's preview.
    arguments: Mapped[dict[str, Any] | None] = mapped_column(JSON, deferred=True, deferred_raiseload=True)
    change: Mapped[dict[str, Any] | None] = mapped_column(JSON, deferred=True, deferred_raiseload=True)
    digest: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(String(300))
    requested_by: Mapped[str] = mapped_column(String(36))
    issuer_chain: Mapped[list[str] | None] = mapped_column(JSON)  # of the run's credential; None: not on record
    state: Mapped[str] = mapped_column(String(10), index=True)
    decided_by: Mapped[str | None] = mapped_column(String(36))
    decision_reason: Mapped[str | None] = mapped_column(String(300))
    four_eyes_rule: Mapped[str | None] = mapped_column(String(30))  # that held when it was decided
    created_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]


SHOWN_TO_APPROVER = (undefer(Approval.arguments), undefer(Approval.change))
