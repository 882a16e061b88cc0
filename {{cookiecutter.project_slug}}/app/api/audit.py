"""The tenant's audit trail, oldest first, and whether its chain holds."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy import select

from app.api.guards import require
from app.api.schemas import Instant
from app.api.state import RuntimeDep
from app.audit import trail
from app.audit.models import AuditEvent
from app.identity.principal import Principal

router = APIRouter(prefix="/v1/audit", tags=["audit"])


class AuditView(BaseModel):
    sequence: int
    at: Instant
    actor: str
    action: str
    subject: str
    data: dict[str, Any]
    hash: str


class AuditPage(BaseModel):
    items: list[AuditView]
    next: int | None


class ChainView(BaseModel):
    events: int
    intact: bool
    broken_at: int | None


@router.get("", response_model=AuditPage)
async def list_events(
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("audit:read")],
    subject: Annotated[str | None, Query(max_length=120)] = None,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> AuditPage:
    query = select(AuditEvent).where(AuditEvent.sequence > after).order_by(AuditEvent.sequence).limit(limit)
    if subject:
        query = query.where(AuditEvent.subject == subject)
    async with runtime.db.read(principal) as session:
        events = list(await session.scalars(query))
    items = [AuditView.model_validate(event, from_attributes=True) for event in events]
    return AuditPage(items=items, next=items[-1].sequence if len(items) == limit else None)


@router.get("/chain", response_model=ChainView)
async def verify_chain(runtime: RuntimeDep, principal: Annotated[Principal, require("audit:read")]) -> ChainView:
    """Recompute the tenant's hash chain."""
    report = await trail.verify(runtime.db, principal, principal.tenant_id)
    return ChainView(events=report.events, intact=report.intact, broken_at=report.broken_at)
