"""Tenants, members and keys: created, looked up, revoked. Gate: access."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import trail
from app.db.base import new_id, utc_now
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.errors import Conflict, CredentialExpired, Forbidden, NotFound, RequestInvalid, Unauthenticated
from app.identity import tokens
from app.identity.models import ApiKey, Member, Tenant
from app.identity.principal import Principal
from app.identity.roles import Roles

KEY_LIFETIME = timedelta(days=90)
PLATFORM_PERMISSIONS = frozenset({"switches:read", "switches:write"})


@dataclass(frozen=True)
class IssuedKey:
    id: str
    token: str  # shown once; only its hash is kept
    prefix: str
    expires_at: datetime


@dataclass(frozen=True)
class Directory:
    db: Database
    roles: Roles
    environment: str

    async def authenticate(self, token: str) -> Principal:
        """Resolve an API key to its principal.

        Reads the directory on every call, so a revoked key, a disabled member or a changed role
        takes effect at once. Raises Unauthenticated or CredentialExpired."""
        parts = tokens.parse(token)
        if parts is None:
            raise Unauthenticated
        prefix, secret = parts
        async with self.db.transaction(ALL_TENANTS) as session:
            query = select(ApiKey, Member).join(Member, Member.id == ApiKey.member_id).where(ApiKey.prefix == prefix)
            found = (await session.execute(query)).one_or_none()
        if found is None or not tokens.matches(secret, found.ApiKey.secret_hash):
            raise Unauthenticated
        return self._principal(found.ApiKey, found.Member)

    async def principal_of_key(self, key_id: str) -> Principal:
        """The authority of a key by its id, for a session that was opened with it."""
        async with self.db.transaction(ALL_TENANTS) as session:
            query = select(ApiKey, Member).join(Member, Member.id == ApiKey.member_id).where(ApiKey.id == key_id)
            found = (await session.execute(query)).one_or_none()
        if found is None:
            raise Unauthenticated
        return self._principal(found.ApiKey, found.Member)

    def _principal(self, key: ApiKey, member: Member) -> Principal:
        if key.revoked_at or member.disabled_at:
            raise Unauthenticated
        if key.expires_at <= utc_now():
            raise CredentialExpired
        granted = self.roles.permissions(member.roles)
        return Principal(
            tenant_id=member.tenant_id,
            member_id=member.id,
            name=member.name,
            roles=frozenset(member.roles),
            permissions=granted if key.scopes is None else granted & frozenset(key.scopes),
            key_id=key.id,
            scopes=None if key.scopes is None else frozenset(key.scopes),
        )

    async def principal_of(self, tenant_id: str, member_id: str, key_id: str = "") -> Principal:
        """The member's authority as it is now; a long run asks again before each tool call.

        With a `key_id`, revoking that key ends the authority as well; its expiry does not end what it began.
        Raises Unauthenticated."""
        async with self.db.transaction(ALL_TENANTS) as session:
            member = await session.get(Member, member_id)
            key = await session.get(ApiKey, key_id) if key_id else None
        if key_id and (key is None or key.revoked_at is not None):
            raise Unauthenticated
        if member is None or member.tenant_id != tenant_id or member.disabled_at:
            raise Unauthenticated
        roles = frozenset(member.roles)
        return Principal(tenant_id, member_id, member.name, roles, self.roles.permissions(member.roles), key_id="")

    async def create_tenant(self, name: str, actor: str) -> str:
        async with self.db.transaction(ALL_TENANTS) as session:
            if await session.scalar(select(Tenant).where(Tenant.name == name)):
                raise Conflict(f"A tenant named {name} exists already.")
            tenant = Tenant(id=new_id(), name=name, created_at=utc_now())
            session.add(tenant)
            await trail.open_chain(session, tenant.id)
            await trail.append(session, tenant.id, actor, "tenant.created", f"tenant:{tenant.id}", name=name)
        return tenant.id

    async def tenant_id(self, name: str) -> str:
        async with self.db.transaction(ALL_TENANTS) as session:
            tenant = await session.scalar(select(Tenant).where(Tenant.name == name))
        if tenant is None:
            raise NotFound(f"There is no tenant named {name}.")
        return tenant.id

    async def add_member(self, tenant_id: str, name: str, roles: list[str], actor: str) -> str:
        unknown = sorted(set(roles) - set(self.roles.names))
        if unknown:
            raise RequestInvalid(f"Unknown role {', '.join(unknown)}: choose from {', '.join(self.roles.names)}.")
        async with self.db.transaction(ALL_TENANTS) as session:
            taken = select(Member).where(Member.tenant_id == tenant_id, Member.name == name)
            if await session.scalar(taken):
                raise Conflict(f"A member named {name} exists already.")
            member = Member(id=new_id(), tenant_id=tenant_id, name=name, roles=roles, created_at=utc_now())
            session.add(member)
            await trail.append(session, tenant_id, actor, "member.added", f"member:{member.id}", name=name, roles=roles)
        return member.id

    async def issue_key(
        self, tenant_id: str, member_id: str, actor: str, *, scopes: list[str] | None = None,
        lifetime: timedelta = KEY_LIFETIME,
    ) -> IssuedKey:  # fmt: skip
        new = tokens.generate(self.environment)
        expires_at = utc_now() + lifetime
        async with self.db.transaction(ALL_TENANTS) as session:
            await _member_of(session, tenant_id, member_id)
            key = ApiKey(
                id=new_id(), tenant_id=tenant_id, member_id=member_id, prefix=new.prefix,
                secret_hash=new.secret_hash, scopes=scopes, expires_at=expires_at, created_at=utc_now(),
            )  # fmt: skip
            session.add(key)
            await trail.append(session, tenant_id, actor, "key.issued", f"key:{key.id}", member=member_id)
        return IssuedKey(key.id, new.token, new.prefix, expires_at)

    async def keys(self, caller: Principal) -> list[ApiKey]:
        async with self.db.transaction(caller) as session:
            return list(await session.scalars(select(ApiKey).order_by(ApiKey.created_at.desc()).limit(200)))

    async def names(self, caller: Principal) -> dict[str, str]:
        """The names of the caller's tenant's members, by id."""
        async with self.db.transaction(caller) as session:
            return {row.id: row.name for row in await session.execute(select(Member.id, Member.name))}

    async def require_may_issue(self, issuer: Principal, member_id: str, scopes: list[str] | None) -> None:
        """Raise Forbidden when a key would give its issuer more than they have themselves.

        Platform roles are given out by the platform's operators, and a limited key makes only keys as limited."""
        unknown = sorted(set(scopes or ()) - self.roles.all_permissions)
        if unknown:
            raise RequestInvalid(pointers=[("/scopes", f"unknown permission: {', '.join(unknown)[:200]}")])
        async with self.db.transaction(issuer) as session:
            member = await _member_of(session, issuer.tenant_id, member_id)
        if self.roles.permissions(member.roles) & PLATFORM_PERMISSIONS:
            raise Forbidden("Keys of platform operators are issued by: app keys issue")
        if issuer.scopes is not None and (scopes is None or not issuer.scopes.issuperset(scopes)):
            raise Forbidden("A key with scopes can issue keys of its own scopes only.")

    async def end_sessions(self, caller: Principal) -> None:
        """Sign the caller's key out of the console everywhere."""
        async with self.db.transaction(caller) as session:
            key = await session.scalar(select(ApiKey).where(ApiKey.id == caller.key_id))
            if key is not None:
                key.signed_out_at = utc_now()

    async def signed_out_at(self, key_id: str) -> datetime | None:
        async with self.db.transaction(ALL_TENANTS) as session:
            return await session.scalar(select(ApiKey.signed_out_at).where(ApiKey.id == key_id))

    async def revoke_key(self, tenant_id: str, key_id: str, actor: str) -> None:
        """Revoke a tenant's key now; again is no change. Raises NotFound."""
        async with self.db.transaction(ALL_TENANTS) as session:
            key = await session.scalar(select(ApiKey).where(ApiKey.id == key_id, ApiKey.tenant_id == tenant_id))
            if key is None:
                raise NotFound
            if key.revoked_at is None:
                key.revoked_at = utc_now()
                await trail.append(session, tenant_id, actor, "key.revoked", f"key:{key_id}")


async def _member_of(session: AsyncSession, tenant_id: str, member_id: str) -> Member:
    member = await session.get(Member, member_id)
    if member is None or member.tenant_id != tenant_id:
        raise NotFound("There is no such member in this tenant.")
    return member
