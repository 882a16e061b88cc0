"""Members of the tenant, and, for platform operators, the tenants. Gate: access."""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field, StringConstraints

from app.api.guards import require
from app.api.pagination import PAGE_SIZE, Cursor, Limit, Page
from app.api.schemas import NO_NUL, Id, Instant, Name, Strict
from app.api.state import RuntimeDep
from app.db.base import utc_now
from app.errors import RequestInvalid
from app.identity.layers import Layer
from app.identity.models import Member
from app.identity.principal import Principal

router = APIRouter(prefix="/v1", tags=["members"])
Role = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,59}$")]


class MemberCreate(Strict):
    name: Name
    roles: list[Role] = Field(min_length=1, max_length=20)
    subject: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=NO_NUL)] | None = Field(
        None, description="who they are at the OpenID Connect provider, its `sub`: linked by platform operators only"
    )


class MemberChange(Strict):
    roles: list[Role] | None = Field(None, min_length=1, max_length=20)
    disabled: bool | None = None


class MemberView(BaseModel):
    id: str
    name: str
    roles: list[str]
    subject: str | None
    elevated_role: str | None = Field(description="lent at the moment")
    elevated_until: Instant | None
    disabled_at: Instant | None = Field(description="since when they are shut out, by whichever layer")
    disabled_by: list[Layer] = Field(description="who must enable them before they come in again")
    created_at: Instant

    @classmethod
    def of(cls, member: Member) -> "MemberView":
        shown = cls.model_validate(member, from_attributes=True)
        if not member.is_elevated(utc_now()):
            shown.elevated_role = shown.elevated_until = None
        shown.disabled_at = member.operator_disabled_at or member.disabled_at
        return shown


class Created(BaseModel):
    id: str


class TenantCreate(Strict):
    name: Name


class TenantChange(Strict):
    tier: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,59}$")] | None


class TenantView(BaseModel):
    id: str
    name: str
    tier: str | None = Field(description="the strongest of models it may use; null: the default's")
    created_at: Instant


class Tenants(BaseModel):
    items: list[TenantView]


@router.post(
    "/members",
    status_code=201,
    response_model=Created,
    responses={
        201: {"links": {"key": {"operationId": "issue_key", "requestBody": {"member_id": "$response.body#/id"}}}}
    },
)
async def add_member(
    body: MemberCreate,
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("members:write")],
    response: Response,
) -> Created:
    runtime.members.require_may_give(principal, body.roles)
    if body.subject is not None:  # nothing here shows that the person is this tenant's
        principal.require("tenants:write")
    member_id = await runtime.members.add(
        principal.tenant_id, body.name, body.roles, principal.member_id, subject=body.subject
    )
    response.headers["Location"] = f"/v1/members/{member_id}"
    return Created(id=member_id)


@router.get("/members", response_model=Page[MemberView])
async def list_members(
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("members:read")],
    cursor: Cursor = None,
    limit: Limit = PAGE_SIZE,
) -> Page[MemberView]:
    members = await runtime.members.of_tenant(principal, before=cursor, limit=limit)
    following = members[-1].id if len(members) == limit else None
    return Page(items=[MemberView.of(member) for member in members], next=following)


@router.patch("/members/{member_id}", response_model=MemberView)
async def change_member(
    member_id: Id, body: MemberChange, runtime: RuntimeDep, principal: Annotated[Principal, require("members:write")]
) -> MemberView:
    """Change another member's roles, or disable them; effective with their next request, runs and streams included."""
    changed = await runtime.members.change(principal, member_id, roles=body.roles, disabled=body.disabled)
    return MemberView.of(changed)


@router.post("/tenants", status_code=201, response_model=Created)
async def create_tenant(
    body: TenantCreate, runtime: RuntimeDep, principal: Annotated[Principal, require("tenants:write")]
) -> Created:
    return Created(id=await runtime.members.create_tenant(body.name, principal.member_id))


@router.patch("/tenants/{tenant_id}", response_model=TenantView)
async def change_tenant(
    tenant_id: Id, body: TenantChange, runtime: RuntimeDep, principal: Annotated[Principal, require("tenants:write")]
) -> TenantView:
    """Set the strongest tier of models that a tenant may use, from its next request on; null is the default's."""
    tiers = runtime.chat.catalog.router.order
    if body.tier is not None and body.tier not in tiers:
        raise RequestInvalid(pointers=[("/tier", f"choose from {', '.join(tiers)}")])
    tenant = await runtime.members.set_tier(tenant_id, body.tier, principal.member_id)
    return TenantView.model_validate(tenant, from_attributes=True)


@router.get("/tenants", response_model=Tenants)
async def list_tenants(runtime: RuntimeDep, _: Annotated[Principal, require("tenants:read")]) -> Tenants:
    """Names only: a platform operator sees no tenant's content."""
    tenants = await runtime.members.tenants()
    return Tenants(items=[TenantView.model_validate(tenant, from_attributes=True) for tenant in tenants])
