"""Tenants and their members: created, given roles, disabled. Gate: access."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import trail
from app.db.base import new_id, utc_now
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.errors import Conflict, Forbidden, NotFound, RequestInvalid
from app.identity import elevations
from app.identity.models import Member, Tenant
from app.identity.principal import Principal
from app.identity.roles import Roles


@dataclass(frozen=True)
class Members:
    db: Database
    roles: Roles
    issuer: str = ""  # of the OpenID Connect provider whose subjects members are linked to

    async def create_tenant(self, name: str, actor: str) -> str:
        """Raises Conflict for a name that is taken."""
        async with _unique(), self.db.transaction(ALL_TENANTS) as session:
            if await session.scalar(select(Tenant).where(Tenant.name == name)):
                raise Conflict("A tenant of that name exists already.")
            tenant = Tenant(id=new_id(), name=name, created_at=utc_now())
            session.add(tenant)
            await trail.open_chain(session, tenant.id)
            await trail.append(session, tenant.id, actor, "tenant.created", f"tenant:{tenant.id}", name=name)
        return tenant.id

    async def set_tier(self, tenant_id: str, tier: str | None, actor: str) -> Tenant:
        """The strongest tier of models a tenant may use; None gives it the default's. Raises NotFound."""
        async with self.db.transaction(ALL_TENANTS) as session:
            tenant = await session.get(Tenant, tenant_id, with_for_update=True)
            if tenant is None:
                raise NotFound
            tenant.tier = tier
            await trail.append(session, tenant.id, actor, "tenant.tier", f"tenant:{tenant.id}", tier=tier)
        return tenant

    async def tenants(self) -> list[Tenant]:
        async with self.db.read(ALL_TENANTS) as session:
            return list(await session.scalars(select(Tenant).order_by(Tenant.name)))

    async def add(self, tenant_id: str, name: str, roles: list[str], actor: str, *, subject: str | None = None) -> str:
        """Add a member, linked to a subject of the provider where one is given. Raises Conflict, RequestInvalid."""
        self.roles.require_known(roles)
        issuer = self._issuer(subject)
        async with _unique(), self.db.transaction(ALL_TENANTS) as session:
            taken = select(Member).where(Member.tenant_id == tenant_id, Member.name == name)
            if await session.scalar(taken):
                raise Conflict("A member of that name exists already.")
            await _require_free(session, issuer, subject)
            member = Member(
                id=new_id(), tenant_id=tenant_id, name=name, roles=roles, issuer=issuer, subject=subject,
                created_at=utc_now(),
            )  # fmt: skip
            session.add(member)
            await trail.append(session, tenant_id, actor, "member.added", f"member:{member.id}", name=name, roles=roles)
        return member.id

    async def of_tenant(self, caller: Principal, *, before: str | None, limit: int) -> Sequence[Member]:
        """Newest first; `before` is the id of the last one of the page before."""
        query = select(Member).order_by(Member.id.desc()).limit(limit)
        if before:
            query = query.where(Member.id < before)
        async with self.db.read(caller) as session:
            return list(await session.scalars(query))

    async def change(
        self, caller: Principal, member_id: str, *, roles: list[str] | None = None, disabled: bool | None = None
    ) -> Member:
        """Change another member's roles, or shut them out and let them in again; it takes effect at once.

        What is lent to them ends, and what they ask for: it was decided about somebody else. Raises NotFound,
        RequestInvalid, and Forbidden for oneself, for platform roles and to enable whom the operator has disabled."""
        self.require_may_give(caller, roles or [])
        if member_id == caller.member_id:
            raise Forbidden("Your own roles and access are another administrator's to change.")
        async with self.db.transaction(caller) as session:
            member = await member_of(session, caller.tenant_id, member_id, lock=True)
            if self.roles.are_platform(member.roles):
                raise Forbidden("Platform operators are changed by: app members")
            caller.require_not_above(self.roles.permissions(member.roles))
            if disabled is False and member.operator_disabled_at is not None:
                raise Forbidden("The platform's operators have disabled this member: only they enable them again.")
            changed: dict[str, Any] = {}
            if roles is not None:
                changed["roles"] = member.roles = roles
            if disabled is not None and disabled != (member.disabled_at is not None):
                member.disabled_at = utc_now() if disabled else None
                changed["disabled"] = disabled
            if changed:
                subject = f"member:{member_id}"
                await trail.append(session, caller.tenant_id, caller.member_id, "member.changed", subject, **changed)
                await elevations.end_all(session, member, caller.member_id)
        return member

    async def shut(self, tenant_id: str, name: str, *, disabled: bool, actor: str) -> Member:
        """Disable any member for the operator, a platform operator as well, or take that back; at once.

        What a tenant's administrator has disabled stays so: see `Member.disabled_by`. Raises NotFound."""
        async with self.db.transaction(ALL_TENANTS) as session:
            named = select(Member).where(Member.tenant_id == tenant_id, Member.name == name)
            member = await session.scalar(named.with_for_update())
            if member is None:
                raise NotFound(f"There is no member named {name} in this tenant.")
            member.operator_disabled_at = utc_now() if disabled else None
            subject = f"member:{member.id}"
            facts = {"disabled": disabled, "layer": "operator"}
            await trail.append(session, tenant_id, actor, "member.changed", subject, **facts)
            await elevations.end_all(session, member, actor)
        return member

    def require_may_give(self, caller: Principal, roles: list[str]) -> None:
        """Raise RequestInvalid for an unknown role, Forbidden for the platform's and for more than a key may do."""
        self.roles.require_known(roles)
        if self.roles.are_platform(roles):
            raise Forbidden("Platform roles are given by: app members add")
        caller.require_not_above(self.roles.permissions(roles))

    def _issuer(self, subject: str | None) -> str | None:
        if subject is not None and not self.issuer:
            raise RequestInvalid("A subject needs an OpenID Connect provider: set OIDC_ISSUER.")
        return self.issuer if subject is not None else None


@asynccontextmanager
async def _unique() -> AsyncGenerator[None]:
    """Of two requests at once one finds the name free and taken in the end."""
    try:
        yield
    except IntegrityError:
        raise Conflict("That name or subject is taken.") from None


async def _require_free(session: AsyncSession, issuer: str | None, subject: str | None) -> None:
    taken = select(Member.id).where(Member.issuer == issuer, Member.subject == subject)
    if subject is not None and await session.scalar(taken):
        raise Conflict("That subject is linked to a member already.")


async def member_of(session: AsyncSession, tenant_id: str, member_id: str, *, lock: bool = False) -> Member:
    """Raises NotFound for a missing member and another tenant's alike."""
    member = await session.get(Member, member_id, with_for_update=lock)
    if member is None or member.tenant_id != tenant_id:
        raise NotFound("There is no such member in this tenant.")
    return member
