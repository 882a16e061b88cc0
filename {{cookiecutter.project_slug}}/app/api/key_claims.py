"""One-time claims to a key: created by an admin, redeemed by the member's own sign-in at the identity provider."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints

from app.api.guards import require
from app.api.keys import KeyIssued, Scope
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


@router.post("/key-claims/redemption", status_code=201, response_model=KeyIssued)
async def redeem_key_claim(
    body: KeyClaimRedemption, runtime: RuntimeDep, principal: Annotated[Principal, require("keys:redeem")]
) -> KeyIssued:
    """Take the key of a claim, once. With your own access token of the identity provider, and not with a key."""
    issued = await runtime.key_claims.redeem(principal, body.claim)
    return KeyIssued(id=issued.id, key=issued.token, expires_at=issued.expires_at)
