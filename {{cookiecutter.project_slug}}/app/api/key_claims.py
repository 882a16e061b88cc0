"""One-time claims to a key: created by an admin, redeemed by the member's own sign-in at the identity provider."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field, StringConstraints

from app.api.guards import require
from app.api.keys import KeyIssued, Scope
from app.api.pagination import PAGE_SIZE, Cursor, Limit, Page
from app.api.schemas import Id, Instant, Integral, Strict
from app.api.state import RuntimeDep
from app.identity.principal import Principal

router = APIRouter(prefix="/v1", tags=["keys"])


class KeyClaimCreate(Strict):
    scopes: list[Scope] | None = Field(None, max_length=50, description="of the key; left out: all of the member's")
    days: Annotated[int, Field(ge=1, le=365), Integral] = Field(90, description="how long the key is valid")
    open_hours: Annotated[int, Field(ge=1, le=168), Integral] = Field(24, description="how long it can be redeemed")


class KeyClaimCreated(BaseModel):
    id: str
    claim: str = Field(description="shown once; opens nothing without the member's own sign-in at the provider")
    expires_at: Instant


class KeyClaimView(BaseModel):
    id: str
    member_id: str = Field(description="who may redeem it")
    scopes: list[str] | None
    created_by: str
    created_at: Instant
    expires_at: Instant
    redeemed_at: Instant | None
    key_id: str | None = Field(description="the key that it became")


class KeyClaimRedemption(Strict):
    claim: Annotated[str, StringConstraints(pattern=r"^claim_[A-Za-z0-9_-]{43}$")]


@router.post("/members/{member_id}/key-claims", status_code=201, response_model=KeyClaimCreated)
async def create_key_claim(
    member_id: Id,
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("keys:write")],
    body: KeyClaimCreate | None = None,
) -> KeyClaimCreated:
    """Grant a member a key that only they will see: they redeem the claim with their sign-in at the provider."""
    asked = body or KeyClaimCreate()
    created = await runtime.key_claims.create(
        principal, member_id, scopes=asked.scopes, days=asked.days,
        open_for=timedelta(hours=asked.open_hours),
    )  # fmt: skip
    return KeyClaimCreated(id=created.claim.id, claim=created.code, expires_at=created.claim.expires_at)


@router.get("/key-claims", response_model=Page[KeyClaimView])
async def list_key_claims(
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("keys:write")],
    cursor: Cursor = None,
    limit: Limit = PAGE_SIZE,
) -> Page[KeyClaimView]:
    """Claims to a key, open and ended; the code of none."""
    claims = await runtime.key_claims.of_tenant(principal, before=cursor, limit=limit)
    following = claims[-1].id if len(claims) == limit else None
    return Page(items=[KeyClaimView.model_validate(claim, from_attributes=True) for claim in claims], next=following)


@router.delete("/key-claims/{claim_id}", status_code=204)
async def withdraw_key_claim(
    claim_id: Id, runtime: RuntimeDep, principal: Annotated[Principal, require("keys:write")]
) -> Response:
    """End a claim that nobody has redeemed yet."""
    await runtime.key_claims.withdraw(principal, claim_id)
    return Response(status_code=204)


@router.post("/key-claim-redemptions", status_code=201, response_model=KeyIssued)
async def redeem_key_claim(
    body: KeyClaimRedemption, runtime: RuntimeDep, principal: Annotated[Principal, require("keys:redeem")]
) -> KeyIssued:
    """Take the key of a claim, once. With your own access token of the identity provider, and not with a key."""
    issued = await runtime.key_claims.redeem(principal, body.claim)
    return KeyIssued(id=issued.id, key=issued.token, expires_at=issued.expires_at)
