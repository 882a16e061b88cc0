"""Who somebody is and what they may do, read afresh each time it is asked. Gate: access."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import trail
from app.db.base import utc_now
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.errors import CredentialExpired, NotFound, Unauthenticated
from app.identity import tokens
from app.identity.models import ApiKey, Member, Tenant
from app.identity.oidc import Verifier
from app.identity.principal import Principal
from app.identity.roles import Roles

KEYS, MEMBERS = (cast("sa.Table", model.__table__) for model in (ApiKey, Member))
_WITH_MEMBER = (
    sa.select(*KEYS.c, *MEMBERS.c)
    .join(MEMBERS, MEMBERS.c.id == KEYS.c.member_id)
    .where(KEYS.c.prefix.in_(sa.bindparam("prefixes", expanding=True)))
)
_KEY_NAMES = tuple(KEYS.c.keys())
USED_EVERY = timedelta(minutes=5)  # how exact the time of a key's last use is


@dataclass(frozen=True)
class Directory:
    db: Database
    roles: Roles
    verifier: Verifier | None = None  # of access tokens, where an OpenID Connect provider is set

    async def authenticate(self, token: str) -> Principal:
        """Resolve an API key, or a provider's access token, to its principal.

        Reads the directory on every call, so a revoked key, a disabled member or a changed role
        takes effect at once. Raises Unauthenticated or CredentialExpired."""
        if self.verifier is not None and not token.startswith(tokens.SCHEME):
            subject = await self.verifier.verify(token)
            return await self.principal_of_subject(subject.issuer, subject.subject, subject.expires_at)
        parts = tokens.parse(token)
        if parts is None:
            raise Unauthenticated("malformed")
        prefix, secret = parts
        found = await self.db.look(_by_prefix, prefix)
        # Compared whether there is such a key or not, so that the time of a refusal says nothing.
        kept = found[_KEY_NAMES.index("secret_hash")] if found is not None else tokens.NO_HASH
        if not compare_digest(kept, tokens.hash_secret(secret)) or found is None:
            raise Unauthenticated("unknown key" if found is None else "wrong secret")
        key, member = _key_and_member(found)
        principal = self._principal(member, key)
        await self._used(key)
        return principal

    async def _used(self, key: ApiKey) -> None:
        now = utc_now()
        if key.last_used_at is None or now - key.last_used_at > USED_EVERY:
            async with self.db.transaction(ALL_TENANTS) as session:
                await session.execute(update(ApiKey).where(ApiKey.id == key.id).values(last_used_at=now))

    async def principal_of_subject(self, issuer: str, subject: str, expires_at: datetime) -> Principal:
        """The member whom this provider's subject is linked to. Raises Unauthenticated for somebody unknown."""
        query = select(Member).where(Member.issuer == issuer, Member.subject == subject)
        async with self.db.read(ALL_TENANTS) as session:
            member = await session.scalar(query)
        if member is None:
            raise Unauthenticated("unknown subject")
        return self._principal(member, None, expires_at)

    def _principal(self, member: Member, key: ApiKey | None, expires_at: datetime | None = None) -> Principal:
        if member.disabled_by or (key is not None and key.revoked_at):
            raise Unauthenticated("disabled member" if member.disabled_by else "revoked")
        ends = key.expires_at if key is not None else expires_at
        if ends is not None and ends <= utc_now():
            raise CredentialExpired
        roles, granted, lent = self._authority(member, key.id if key is not None else "")
        scopes = None if key is None or key.scopes is None else frozenset(key.scopes)
        return Principal(
            tenant_id=member.tenant_id,
            member_id=member.id,
            name=member.name,
            roles=roles,
            permissions=granted if scopes is None else granted & scopes,
            key_id=key.id if key is not None else "",
            scopes=scopes,
            expires_at=ends,
            lent=lent,
            hands=_hands(key),
        )

    def _authority(self, member: Member, key_id: str) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """Roles and permissions of this moment, and which of the permissions are only lent.

        A role is lent to the credential it was asked with: no other key of its member's has it."""
        roles, own = frozenset(member.roles), self.roles.permissions(member.roles)
        if member.elevated_role is None or not member.is_elevated(utc_now()) or key_id != member.elevated_key:
            return roles, own, frozenset()
        lent = self.roles.lent(member.elevated_role) - own
        return roles | {member.elevated_role}, own | lent, lent

    async def again(self, caller: Principal) -> Principal:
        """The caller's authority as it is now, for what goes on after its request: a stream, a session.

        Raises Unauthenticated or CredentialExpired once it has ended."""
        member, key = await self._found(caller.member_id, caller.key_id)
        return self._principal(member, key, caller.expires_at)

    async def _found(self, member_id: str, key_id: str) -> tuple[Member, ApiKey | None]:
        async with self.db.read(ALL_TENANTS) as session:
            member = await session.get(Member, member_id)
            key = await session.get(ApiKey, key_id) if key_id else None
        if member is None or (key_id and (key is None or key.member_id != member_id)):
            raise Unauthenticated("gone")
        return member, key

    async def principal_of(self, tenant_id: str, member_id: str, key_id: str = "") -> Principal:
        """The member's authority as it is now; a long run asks again before each tool call.

        With a `key_id`, revoking that key ends the authority as well; its expiry does not end what it began.
        Raises Unauthenticated."""
        member, key = await self._found(member_id, key_id)
        if key is not None and key.revoked_at is not None:
            raise Unauthenticated("revoked")
        if member.tenant_id != tenant_id or member.disabled_by:
            raise Unauthenticated("disabled member")
        roles, granted, lent = self._authority(member, key_id)
        return Principal(tenant_id, member_id, member.name, roles, granted, key_id="", lent=lent, hands=_hands(key))

    async def tenant_id(self, name: str) -> str:
        async with self.db.read(ALL_TENANTS) as session:
            tenant = await session.scalar(select(Tenant).where(Tenant.name == name))
        if tenant is None:
            raise NotFound(f"There is no tenant named {name}.")
        return tenant.id

    async def names(self, caller: Principal, ids: Sequence[str | None]) -> dict[str, str]:
        """The names of these members of the caller's tenant, by id."""
        query = select(Member.id, Member.name).where(Member.id.in_({one for one in ids if one}))
        async with self.db.read(caller) as session:
            return {row.id: row.name for row in await session.execute(query)}

    async def began_session(self, caller: Principal, how: str) -> None:
        """Put on record that somebody signed in to the console."""
        async with self.db.transaction(caller) as session:
            await _session_event(session, caller, "session.started", how=how)

    async def resume_session(self, member_id: str, key_id: str, started: float) -> Principal:
        """Who a console session from then belongs to. Raises Unauthenticated or CredentialExpired once it is over."""
        member, key = await self._found(member_id, key_id)
        ended = (key or member).signed_out_at
        if ended is not None and started <= ended.timestamp():
            raise Unauthenticated("signed out")
        return self._principal(member, key)

    async def end_sessions(self, caller: Principal) -> None:
        """Sign the caller's key, or the caller where there is none, out of the console everywhere."""
        table = ApiKey if caller.key_id else Member
        mine = table.id == (caller.key_id or caller.member_id)
        async with self.db.transaction(caller) as session:
            await session.execute(update(table).where(mine).values(signed_out_at=utc_now()))
            await _session_event(session, caller, "session.ended")


def _by_prefix(connection: sa.Connection, prefixes: Sequence[str]) -> list["sa.Row[Any] | None"]:
    """The keys of these prefixes, each with its member."""
    rows = connection.execute(_WITH_MEMBER, {"prefixes": list(set(prefixes))})
    found = {row[_KEY_NAMES.index("prefix")]: row for row in rows}
    return [found.get(prefix) for prefix in prefixes]


def _key_and_member(row: "sa.Row[Any]") -> tuple[ApiKey, Member]:
    key = ApiKey(**dict(zip(_KEY_NAMES, row, strict=False)))
    return key, Member(**dict(zip(MEMBERS.c.keys(), row[len(_KEY_NAMES) :], strict=True)))


def _hands(key: ApiKey | None) -> frozenset[str] | None:
    """Through whose hands this credential has gone; a provider's tokens go to their person alone."""
    return frozenset() if key is None else None if key.hands is None else frozenset(key.hands)


async def _session_event(session: AsyncSession, caller: Principal, action: str, **data: str) -> None:
    await trail.append(session, caller.tenant_id, caller.member_id, action, f"member:{caller.member_id}", **data)
