"""API keys of the tenant: issued (shown once), listed, revoked."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field, StringConstraints

from app.api.guards import require
from app.api.pagination import PAGE_SIZE, Cursor, Limit, Page
from app.api.schemas import Instant, Integral, Strict
from app.api.state import RuntimeDep
from app.identity.principal import Principal

router = APIRouter(prefix="/v1/keys", tags=["keys"])
Scope = Annotated[str, StringConstraints(pattern=r"^[a-z]+:[a-z]+$", max_length=60)]


class KeyCreate(Strict):
    member_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f-]{36}$")]
    scopes: list[Scope] | None = Field(None, max_length=50, description="left out: all permissions of the member")
    days: Annotated[int, Field(ge=1, le=365), Integral] = 90


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
    last_used_at: Instant | None = Field(description="to a few minutes")


class OwnKeyCreate(Strict):
    scopes: list[Scope] | None = Field(None, max_length=50, description="left out: all your permissions")
    days: Annotated[int, Field(ge=1, le=90), Integral] = 90


class KeyRotation(Strict):
    overlap_hours: Annotated[int, Field(ge=0, le=168), Integral] = Field(24, description="how long the old key goes on")


@router.post("", status_code=201, response_model=KeyIssued)
async def issue_key(
    body: KeyCreate, runtime: RuntimeDep, principal: Annotated[Principal, require("keys:write")]
) -> KeyIssued:
    await runtime.keys.require_may_issue(principal, body.member_id, body.scopes)
    issued = await runtime.keys.issue(
        principal.tenant_id, body.member_id, principal.member_id, scopes=body.scopes,
        lifetime=timedelta(days=body.days), hands=principal.persons,
    )  # fmt: skip
    return KeyIssued(id=issued.id, key=issued.token, expires_at=issued.expires_at)


@router.post("/own", status_code=201, response_model=KeyIssued)
async def issue_own_key(
    runtime: RuntimeDep, principal: Annotated[Principal, require("keys:self")], body: OwnKeyCreate | None = None
) -> KeyIssued:
    """A key that nobody but you has seen. With an access token of the identity provider, and not with a key."""
    asked = body or OwnKeyCreate()
    issued = await runtime.keys.issue_own(principal, scopes=asked.scopes, lifetime=timedelta(days=asked.days))
    return KeyIssued(id=issued.id, key=issued.token, expires_at=issued.expires_at)


@router.get("", response_model=Page[KeyView])
async def list_keys(
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("keys:write")],
    cursor: Cursor = None,
    limit: Limit = PAGE_SIZE,
) -> Page[KeyView]:
    keys = await runtime.keys.of_tenant(principal, before=cursor, limit=limit)
    following = keys[-1].id if len(keys) == limit else None
    return Page(items=[KeyView.model_validate(key, from_attributes=True) for key in keys], next=following)


@router.post("/{key_id}/rotation", status_code=201, response_model=KeyIssued)
async def rotate_key(
    key_id: str,
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("keys:write")],
    body: KeyRotation | None = None,
) -> KeyIssued:
    """Replace a key by a new one with the same scopes; both are valid for a while."""
    await runtime.keys.require_may_rotate(principal, key_id)
    overlap = timedelta(hours=(body or KeyRotation()).overlap_hours)
    issued = await runtime.keys.rotate(principal, key_id, overlap=overlap)
    return KeyIssued(id=issued.id, key=issued.token, expires_at=issued.expires_at)


@router.delete("/{key_id}", status_code=204)
async def revoke_key(
    key_id: str, runtime: RuntimeDep, principal: Annotated[Principal, require("keys:write")]
) -> Response:
    await runtime.keys.require_may_revoke(principal, key_id)
    await runtime.keys.revoke(principal.tenant_id, key_id, principal.member_id)
    return Response(status_code=204)
