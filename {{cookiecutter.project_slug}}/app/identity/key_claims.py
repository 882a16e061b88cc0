"""One-time claims: an admin grants a key that only its member will see. Gate: access.

The code alone opens nothing, because the admin who made it has seen it: redeeming it takes that member's own sign-in at
the identity provider.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import trail
from app.db.base import new_id, utc_now
from app.db.engine import Database
from app.errors import Conflict, Forbidden, NotFound
from app.identity import tokens
from app.identity.keys import IssuedKey, Keys, require_provider_sign_in, require_room_for_own
from app.identity.members import member_of
from app.identity.models import KeyClaim, Member
from app.identity.principal import Principal

NOT_LINKED = (
    "This member cannot sign in at the identity provider, so nobody could redeem the claim: the platform's operator "
    "links them (app members add --subject), or issues the key (app keys issue)."
)


@dataclass(frozen=True)
class CreatedClaim:
    """A claim with its code, which is shown once."""

    claim: KeyClaim
    code: str


@dataclass(frozen=True)
class KeyClaims:
    db: Database
    keys: Keys

    async def create(
        self, caller: Principal, member_id: str, *, scopes: list[str] | None, days: int, open_for: timedelta
    ) -> CreatedClaim:
        """Grant this member a key. Raises NotFound, RequestInvalid, Forbidden as for issuing one, and Conflict for a
        member who is not linked to the provider."""
        caller.require("keys:write")  # the routes ask as well; whoever forgets to must not open this
        await self.keys.require_may_issue(caller, member_id, scopes)
        code, now = tokens.generate_claim(), utc_now()
        async with self.db.transaction(caller) as session:
            if (await member_of(session, caller.tenant_id, member_id)).subject is None:
                raise Conflict(NOT_LINKED)
            claim = KeyClaim(
                id=new_id(), tenant_id=caller.tenant_id, member_id=member_id, claim_hash=tokens.hash_secret(code),
                scopes=scopes, key_days=days, created_by=caller.member_id, created_at=now,
                expires_at=now + open_for,
            )  # fmt: skip
            session.add(claim)
            await _record(session, caller, claim, "created")
        return CreatedClaim(claim, code)

    async def redeem(self, caller: Principal, code: str) -> IssuedKey:
        """Turn a claim into its key, once, for its own member and with their sign-in at the provider.

        Raises Forbidden for a caller with a key, NotFound for a code that is not this member's, Conflict for a claim
        that is redeemed or expired."""
        caller.require("keys:redeem")  # the routes ask as well; whoever forgets to must not open this
        claim_id = await self._own_claim(caller, code)
        await require_provider_sign_in(self.db, caller, f"key_claim:{claim_id}")
        async with self.db.transaction(caller) as session:
            claim = (await session.scalars(select(KeyClaim).where(KeyClaim.id == claim_id).with_for_update())).one()
            if claim.redeemed_at is not None:
                raise Conflict("This claim has been redeemed already.")
            if claim.expires_at <= utc_now():
                raise Conflict("This claim has expired: ask for a new one.")
            await self._require_creator(session, claim)
            await require_room_for_own(session, caller.member_id)
            member = await member_of(session, caller.tenant_id, caller.member_id)
            if self.keys.roles.are_platform(member.roles):
                raise Forbidden("Keys of platform operators are issued by: app keys issue")
            lifetime = timedelta(days=claim.key_days)
            issued = self.keys.add(session, caller.tenant_id, member.id, claim.scopes, lifetime, frozenset())
            claim.redeemed_at, claim.key_id = utc_now(), issued.id
            await _record(session, caller, claim, "redeemed")
            await trail.append(
                session, caller.tenant_id, caller.member_id, "key.issued", f"key:{issued.id}", member=member.id,
                how="claim", claim=claim.id, created_by=claim.created_by,
            )  # fmt: skip
        return issued

    async def of_tenant(self, caller: Principal, *, before: str | None, limit: int) -> list[KeyClaim]:
        """All claims, newest first; `before` is the id of the last one of the page before."""
        caller.require("keys:write")  # the routes ask as well; whoever forgets to must not open this
        query = select(KeyClaim).order_by(KeyClaim.id.desc()).limit(limit)
        if before:
            query = query.where(KeyClaim.id < before)
        async with self.db.read(caller) as session:
            return list(await session.scalars(query))

    async def withdraw(self, caller: Principal, claim_id: str) -> None:
        """End an open claim now; one that has expired already stays as it is.

        Raises NotFound, and Conflict for a claim that is redeemed: its key is revoked instead."""
        caller.require("keys:write")  # the routes ask as well; whoever forgets to must not open this
        async with self.db.transaction(caller) as session:
            claim = await session.scalar(select(KeyClaim).where(KeyClaim.id == claim_id).with_for_update())
            if claim is None:
                raise NotFound
            if claim.redeemed_at is not None:
                raise Conflict(f"This claim has been redeemed: revoke its key ({claim.key_id}) instead.")
            if claim.expires_at > utc_now():
                claim.expires_at = utc_now()
                await _record(session, caller, claim, "withdrawn")

    async def _require_creator(self, session: AsyncSession, claim: KeyClaim) -> None:
        """Raise Conflict where whoever created the claim may no longer issue keys: it gives nothing they could not."""
        creator = await session.get(Member, claim.created_by)
        may = creator is not None and not creator.disabled_by and self._may_issue(creator)
        if not may:
            raise Conflict("Who created this claim may no longer issue keys: ask for a new one.")

    def _may_issue(self, member: Member) -> bool:
        return "keys:write" in self.keys.roles.permissions(member.roles)

    async def _own_claim(self, caller: Principal, code: str) -> str:
        """The id of the caller's claim. Another member's is a missing one, and trying it is put on record."""
        async with self.db.transaction(caller) as session:
            query = select(KeyClaim).where(KeyClaim.claim_hash == tokens.hash_secret(code))
            claim = await session.scalar(query)
            if claim is not None and claim.member_id == caller.member_id:
                return claim.id
            if claim is not None:
                subject = f"key_claim:{claim.id}"
                needs = "the sign-in of its own member"
                await trail.append(session, caller.tenant_id, caller.member_id, "access.denied", subject, needs=needs)
        raise NotFound("There is no such claim for you.")


async def _record(session: AsyncSession, caller: Principal, claim: KeyClaim, what: str) -> None:
    subject = f"key_claim:{claim.id}"
    await trail.append(
        session, caller.tenant_id, caller.member_id, f"key_claim.{what}", subject, member=claim.member_id
    )
