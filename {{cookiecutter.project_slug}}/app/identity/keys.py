"""API keys: issued, shown once, rotated with an overlap, revoked. Gate: access."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import trail
from app.db.base import new_id, utc_now
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.errors import Conflict, Forbidden, NotFound, RequestInvalid
from app.identity import tokens
from app.identity.members import member_of
from app.identity.models import ApiKey, Member
from app.identity.principal import Principal
from app.identity.roles import Roles

LIFETIME = timedelta(days=90)
MAX_OWN_KEYS = 20  # valid at once, of one member who takes them


@dataclass(frozen=True)
class IssuedKey:
    id: str
    token: str  # shown once; only its hash is kept
    prefix: str
    expires_at: datetime


@dataclass(frozen=True)
class Keys:
    db: Database
    roles: Roles
    environment: str

    async def issue(
        self, tenant_id: str, member_id: str, actor: str, *, scopes: list[str] | None = None,
        lifetime: timedelta = LIFETIME, hands: frozenset[str] | None = frozenset(),
    ) -> IssuedKey:  # fmt: skip
        """`hands` are the members who see it before its own does: none where the platform's operator issues it."""
        async with self.db.transaction(ALL_TENANTS) as session:
            await member_of(session, tenant_id, member_id)
            issued = self.add(session, tenant_id, member_id, scopes, lifetime, hands)
            await trail.append(session, tenant_id, actor, "key.issued", f"key:{issued.id}", member=member_id)
        return issued

    async def issue_own(self, caller: Principal, *, scopes: list[str] | None, lifetime: timedelta) -> IssuedKey:
        """A key that nobody but the caller has seen: for who has just signed in at the provider, not with a key.

        Raises Forbidden for a caller with a key, and like `require_may_issue`; Conflict for MAX_OWN_KEYS."""
        caller.require("keys:self")  # the routes ask as well; whoever forgets to must not open this
        await require_provider_sign_in(self.db, caller, "member:" + caller.member_id)
        await self.require_may_issue(caller, caller.member_id, scopes)
        async with self.db.transaction(caller) as session:
            await require_room_for_own(session, caller.member_id)
            issued = self.add(session, caller.tenant_id, caller.member_id, scopes, lifetime, frozenset())
            facts = {"member": caller.member_id, "how": "own sign-in"}
            await trail.append(session, caller.tenant_id, caller.member_id, "key.issued", f"key:{issued.id}", **facts)
        return issued

    def add(
        self, session: AsyncSession, tenant_id: str, member_id: str, scopes: list[str] | None, lifetime: timedelta,
        hands: frozenset[str] | None,
    ) -> IssuedKey:  # fmt: skip
        """Add a key in a transaction of the caller's, who puts it on record. `hands` as in `issue`."""
        new = tokens.generate(self.environment)
        key = ApiKey(
            id=new_id(), tenant_id=tenant_id, member_id=member_id, prefix=new.prefix, secret_hash=new.secret_hash,
            scopes=scopes, hands=None if hands is None else sorted(hands), expires_at=utc_now() + lifetime,
            created_at=utc_now(),
        )  # fmt: skip
        session.add(key)
        return IssuedKey(key.id, new.token, new.prefix, key.expires_at)

    async def rotate(self, caller: Principal, key_id: str, *, overlap: timedelta) -> IssuedKey:
        """A new key with the same scopes and lifetime; the old one goes on for `overlap` at most.

        Raises NotFound, and Conflict for a key that is revoked or expired."""
        async with self.db.transaction(caller) as session:
            old = await session.scalar(select(ApiKey).where(ApiKey.id == key_id).with_for_update())
            if old is None:
                raise NotFound
            if old.revoked_at is not None or old.expires_at <= utc_now():
                raise Conflict("This key is no longer valid: issue a new one.")
            lifetime = old.expires_at - old.created_at
            issued = self.add(session, old.tenant_id, old.member_id, old.scopes, lifetime, caller.persons)
            old.expires_at = min(old.expires_at, utc_now() + overlap)
            facts = {"replaces": key_id, "old_ends": old.expires_at.isoformat()}
            await trail.append(session, caller.tenant_id, caller.member_id, "key.rotated", f"key:{issued.id}", **facts)
        return issued

    async def of_tenant(self, caller: Principal, *, before: str | None, limit: int) -> list[ApiKey]:
        """Newest first; `before` is the id of the last one of the page before."""
        query = select(ApiKey).order_by(ApiKey.id.desc()).limit(limit)
        if before:
            query = query.where(ApiKey.id < before)
        async with self.db.read(caller) as session:
            return list(await session.scalars(query))

    async def require_may_issue(self, issuer: Principal, member_id: str, scopes: list[str] | None) -> None:
        """Raise Forbidden when a key would give its issuer more than they have themselves.

        Platform roles are given out by the platform's operators, and a limited key makes only keys as limited."""
        unknown = [n for n, scope in enumerate(scopes or ()) if scope not in self.roles.all_permissions]
        if unknown:
            raise RequestInvalid(pointers=[(f"/scopes/{number}", "unknown permission") for number in unknown])
        async with self.db.read(issuer) as session:
            member = await member_of(session, issuer.tenant_id, member_id)
        if self.roles.are_platform(member.roles):
            raise Forbidden("Keys of platform operators are issued by: app keys issue")
        if issuer.scopes is not None and (scopes is None or not issuer.own.issuperset(scopes)):
            raise Forbidden("A key with scopes can issue keys of its own scopes only.")

    async def require_may_rotate(self, caller: Principal, key_id: str) -> None:
        """Raise NotFound, or Forbidden like `require_may_issue`: what is handed out is a key of that member's."""
        key = await self._key(caller, key_id)
        await self.require_may_issue(caller, key.member_id, key.scopes)

    async def require_may_revoke(self, caller: Principal, key_id: str) -> None:
        """Raise NotFound, or Forbidden for a platform operator's key: it may be the one that stops everything."""
        key = await self._key(caller, key_id)
        async with self.db.read(caller) as session:
            member = await member_of(session, caller.tenant_id, key.member_id)
        if self.roles.are_platform(member.roles) and member.id != caller.member_id:
            raise Forbidden("Keys of platform operators are revoked by: app keys revoke")

    async def _key(self, caller: Principal, key_id: str) -> ApiKey:
        async with self.db.read(caller) as session:
            key = await session.scalar(select(ApiKey).where(ApiKey.id == key_id))
        if key is None:
            raise NotFound
        return key

    async def revoke(self, tenant_id: str, key_id: str, actor: str) -> None:
        """Revoke a tenant's key now; again is no change. Raises NotFound."""
        async with self.db.transaction(ALL_TENANTS) as session:
            key = await session.scalar(select(ApiKey).where(ApiKey.id == key_id, ApiKey.tenant_id == tenant_id))
            if key is None:
                raise NotFound
            if key.revoked_at is None:
                key.revoked_at = utc_now()
                await trail.append(session, tenant_id, actor, "key.revoked", f"key:{key_id}")


async def require_room_for_own(session: AsyncSession, member_id: str) -> None:
    """Raise Conflict for a member who has taken as many keys as one may have; call in the transaction that adds one.

    The tenant's list begins with its newest keys: without a bound, one member could push everybody's out of sight."""
    await session.scalar(select(Member.id).where(Member.id == member_id).with_for_update())
    valid = (ApiKey.member_id == member_id, ApiKey.revoked_at.is_(None), ApiKey.expires_at > utc_now())
    if (await session.scalar(select(func.count()).select_from(ApiKey).where(*valid)) or 0) >= MAX_OWN_KEYS:
        raise Conflict(f"You have {MAX_OWN_KEYS} valid keys, as many as one may take: have one revoked first.")


async def require_provider_sign_in(db: Database, caller: Principal, subject: str) -> None:
    """Raise Forbidden, on record, for a caller who came with a key: whoever issued it may hold it as well."""
    if not caller.key_id and caller.hands == frozenset():  # a run acts without a key as well, and not as a sign-in
        return
    async with db.transaction(caller) as session:
        needs = "a sign-in at the identity provider"
        await trail.append(session, caller.tenant_id, caller.member_id, "access.denied", subject, needs=needs)
    raise Forbidden(
        "Only whoever signs in at the identity provider takes a key for themselves: somebody else may hold this key. "
        "Without a provider, the platform's operator issues keys (app keys issue)."
    )
