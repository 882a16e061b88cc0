"""Questions waiting for a person, and their answers."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, StringConstraints

from app.api.guards import require
from app.api.pagination import PAGE_SIZE, Cursor, Limit, Page
from app.api.schemas import Instant, Reason, Strict
from app.api.state import RuntimeDep
from app.identity.principal import Principal
from app.tools.models import Approval

router = APIRouter(prefix="/v1/approvals", tags=["approvals"])
State = Literal["pending", "approved", "denied", "expired", "used"]


class ApprovalView(BaseModel):
    id: str
    run_id: str
    tool: str
    effect: str
    arguments: dict[str, Any]
    digest: str
    reason: str
    requested_by: str
    state: str
    created_at: Instant
    expires_at: Instant

    @classmethod
    def of(cls, approval: Approval) -> "ApprovalView":
        return cls.model_validate(approval, from_attributes=True)


class Decision(Strict):
    decision: Literal["approve", "deny"]
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    reason: Reason


@router.get("", response_model=Page[ApprovalView])
async def list_approvals(
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("approvals:read")],
    state: Annotated[State | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_SIZE,
) -> Page[ApprovalView]:
    found = await runtime.approvals.page(principal, state=state, before=cursor, limit=limit)
    following = found[-1].id if len(found) == limit else None
    return Page(items=[ApprovalView.of(approval) for approval in found], next=following)


@router.post("/{approval_id}/decision", response_model=ApprovalView)
async def decide(
    approval_id: str,
    body: Decision,
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("approvals:decide")],
) -> ApprovalView:
    """Approve or deny exactly the action whose digest is given. Once, and not one's own."""
    approve = body.decision == "approve"
    approval = await runtime.approvals.decide(
        principal, approval_id, approve=approve, digest=body.digest, reason=body.reason
    )
    return ApprovalView.of(approval)
