"""API keys of the tenant: issued (shown once), listed, revoked."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field, StringConstraints

from app.api.guards import require
from app.api.schemas import Instant, Strict
from app.api.state import RuntimeDep
from app.identity.principal import Principal

router = APIRouter(prefix="/v1/keys", tags=["keys"])
Scope = Annotated[str, StringConstraints(pattern=r"^[a-z]+:[a-z]+$", max_length=60)]


class KeyCreate(Strict):
    member_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f-]{36}$")]
    scopes: list[Scope] | None = Field(None, max_length=50, description="left out: all permissions of the member")
    days: int = Field(90, ge=1, le=365)


class KeyIssued(BaseModel):
    id: str
    key: str = Field(description="shown once; only its hash is kept")
    expires_at: Instant


class KeyView(BaseModel):
    id: str
    member_id: str
    prefix: str
    scopes: list[str] | None
    expires_at: Instant
    revoked_at: Instant | None


class Keys(BaseModel):
    items: list[KeyView]


@router.post("", status_code=201, response_model=KeyIssued)
async def issue_key(
    body: KeyCreate, runtime: RuntimeDep, principal: Annotated[Principal, require("keys:write")]
) -> KeyIssued:
    await runtime.directory.require_may_issue(principal, body.member_id, body.scopes)
    issued = await runtime.directory.issue_key(
        principal.tenant_id, body.member_id, principal.member_id, scopes=body.scopes, lifetime=timedelta(days=body.days)
    )
    return KeyIssued(id=issued.id, key=issued.token, expires_at=issued.expires_at)


@router.get("", response_model=Keys)
async def list_keys(runtime: RuntimeDep, principal: Annotated[Principal, require("keys:write")]) -> Keys:
    keys = await runtime.directory.keys(principal)
    return Keys(items=[KeyView.model_validate(key, from_attributes=True) for key in keys])


@router.delete("/{key_id}", status_code=204)
async def revoke_key(
    key_id: str, runtime: RuntimeDep, principal: Annotated[Principal, require("keys:write")]
) -> Response:
    await runtime.directory.revoke_key(principal.tenant_id, key_id, principal.member_id)
    return Response(status_code=204)
