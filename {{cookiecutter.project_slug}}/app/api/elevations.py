"""Roles that are lent for a while: asked for, decided by another person, ended early. Gate: access."""

from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from app.api.guards import require
from app.api.members import Role
from app.api.pagination import PAGE_SIZE, Cursor, Limit, Page
from app.api.schemas import Id, Instant, Integral, Reason, Strict
from app.api.state import RuntimeDep
from app.db.base import utc_now
from app.identity.models import Elevation
from app.identity.principal import Principal

router = APIRouter(prefix="/v1/elevations", tags=["elevations"])


class ElevationCreate(Strict):
    role: Role
    minutes: Annotated[int, Field(ge=5, le=60), Integral] = 60
    reason: Reason


class ElevationDecision(Strict):
    decision: Literal["approve", "refuse"]
    reason: Reason


class ElevationView(BaseModel):
    id: str
    member_id: str = Field(description="who asks")
    role: str
    minutes: int
    reason: str
    state: Literal["asked", "lent", "refused", "ended", "expired"]
    asked_at: Instant
    ends_at: Instant = Field(description="of the question while it is open, of the loan from then on")
    decided_by: str | None
    decided_at: Instant | None
    decision_reason: str | None
    ended_at: Instant | None = Field(description="where it was ended early")

    @classmethod
    def of(cls, elevation: Elevation) -> "ElevationView":
        shown = {name: getattr(elevation, name) for name in cls.model_fields}
        return cls.model_validate({**shown, "state": elevation.state_at(utc_now())})


@router.post("", status_code=201, response_model=ElevationView)
async def ask_for_role(
    body: ElevationCreate, runtime: RuntimeDep, principal: Annotated[Principal, require("elevations:request")]
) -> ElevationView:
    """Ask to be lent a role for so many minutes from its approval on. It goes with this very credential."""
    asked = await runtime.elevations.ask(principal, body.role, minutes=body.minutes, reason=body.reason)
    return ElevationView.of(asked)


@router.get("", response_model=Page[ElevationView])
async def list_elevations(
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("elevations:read")],
    cursor: Cursor = None,
    limit: Limit = PAGE_SIZE,
) -> Page[ElevationView]:
    """Those of the tenant for who decides about them, one's own for everybody else."""
    found = await runtime.elevations.page(principal, before=cursor, limit=limit)
    following = found[-1].id if len(found) == limit else None
    return Page(items=[ElevationView.of(elevation) for elevation in found], next=following)


@router.post("/{elevation_id}/decision", response_model=ElevationView)
async def decide_elevation(
    elevation_id: Id,
    body: ElevationDecision,
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("elevations:decide")],
) -> ElevationView:
    """Lend the role or refuse it. Once, and never one's own question."""
    approve = body.decision == "approve"
    decided = await runtime.elevations.decide(principal, elevation_id, approve=approve, reason=body.reason)
    return ElevationView.of(decided)


@router.delete("/{elevation_id}", status_code=204)
async def end_elevation(
    elevation_id: Id, runtime: RuntimeDep, principal: Annotated[Principal, require("elevations:end")]
) -> Response:
    """End one's own question or loan before its time; who decides about them may end anybody's."""
    await runtime.elevations.end(principal, elevation_id)
    return Response(status_code=204)
