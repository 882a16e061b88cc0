"""A role for an hour: one person asks, another lends it, and it is over by itself. Gate: access."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import trail
from app.db.base import new_id, utc_now
from app.db.engine import Database
from app.errors import Conflict, Forbidden, NotFound
from app.identity.four_eyes import Asker, Rule, require_another_person
from app.identity.models import Elevation, Member
from app.identity.principal import Principal
from app.identity.roles import Roles

OPEN_FOR = timedelta(hours=1)  # how long a question waits for its answer


@dataclass(frozen=True)
class Elevations:
    db: Database
    roles: Roles

    async def ask(self, caller: Principal, role: str, *, minutes: int, reason: str) -> Elevation:
        """Ask to be lent a role, for the credential that asks; one at a time.

        Raises RequestInvalid for an unknown role, Forbidden for the platform's and for a key of unknown origin,
        Conflict for a role that the member has, or where a question or a loan of theirs is open."""
        caller.require("elevations:request")  # the routes ask as well; whoever forgets to must not open this
        self._require_lendable(role)
        if caller.hands is None:
            raise Forbidden("This key is from before it was on record who issues keys: have a new one issued.")
        async with self.db.transaction(caller) as session:
            member, now = await _locked(session, caller.member_id), utc_now()
            if role in member.roles:
                raise Conflict("You have this role already.")
            if await _open(session, member, now):
                raise Conflict("You have asked or been lent a role already: end that first.")
            elevation = Elevation(
                id=new_id(), tenant_id=caller.tenant_id, member_id=caller.member_id, key_id=caller.key_id,
                hands=sorted(caller.hands), role=role, minutes=minutes, reason=reason, state="asked", asked_at=now,
                ends_at=now + OPEN_FOR,
            )  # fmt: skip
            session.add(elevation)
            await _record(session, elevation, caller.member_id, "asked", role=role, minutes=minutes, reason=reason)
        return elevation

    async def decide(self, caller: Principal, elevation_id: str, *, approve: bool, reason: str) -> Elevation:
        """Lend the role or refuse it, once.

        Raises NotFound, Forbidden for who is not surely another person than the one who asks, Conflict where there is
        no question any more or its member may no longer ask."""
        caller.require("elevations:decide")
        rule = await self._require_another(caller, elevation_id)
        async with self.db.transaction(caller) as session:
            elevation, member = await _locked_with_member(session, elevation_id)
            now = utc_now()
            if elevation.state_at(now) != "asked":
                raise Conflict(f"This question is no longer open: it is {elevation.state_at(now)}.")
            elevation.state = "refused"
            elevation.decided_by, elevation.decided_at, elevation.decision_reason = caller.member_id, now, reason
            if approve:
                self._lend(caller, member, elevation, now)
            await _record(
                session, elevation, caller.member_id, "decided", decision=elevation.state, role=elevation.role,
                ends_at=elevation.ends_at.isoformat(), reason=reason, four_eyes=rule,
            )  # fmt: skip
        return elevation

    async def _require_another(self, caller: Principal, elevation_id: str) -> Rule:
        """Refuse, on record, who may be the one that asks: as themselves, or by a key that went through their hands."""
        async with self.db.read(caller) as session:
            elevation = await session.scalar(select(Elevation).where(Elevation.id == elevation_id))
        if elevation is None:
            raise NotFound
        asker = Asker(elevation.member_id, elevation.hands)
        # No setting loosens it: a lent role gives authority, an approval one action.
        return await require_another_person(self.db, caller, asker, f"elevation:{elevation_id}", strict=True)

    def _lend(self, caller: Principal, member: Member, elevation: Elevation, now: datetime) -> None:
        self._require_lendable(elevation.role)
        caller.require_not_above(self.roles.lent(elevation.role))
        if member.disabled_by or "elevations:request" not in self.roles.permissions(member.roles):
            raise Conflict("This member may no longer ask for a role.")
        elevation.state, elevation.ends_at = "lent", now + timedelta(minutes=elevation.minutes)
        member.elevated_role, member.elevated_key = elevation.role, elevation.key_id
        member.elevated_until = elevation.ends_at

    async def end(self, caller: Principal, elevation_id: str) -> None:
        """End one's own question or loan, or as one who decides anybody's; what is over stays so.

        Raises NotFound."""
        async with self.db.transaction(caller) as session:
            elevation, member = await _locked_with_member(session, elevation_id)
            if caller.member_id != elevation.member_id and not caller.can("elevations:decide"):
                raise NotFound
            if elevation.state_at(utc_now()) in {"asked", "lent"}:
                await _end(session, member, elevation, caller.member_id)

    async def page(self, caller: Principal, *, before: str | None, limit: int) -> Sequence[Elevation]:
        """Newest first: the tenant's for who decides about them, one's own for everybody else."""
        query = select(Elevation).order_by(Elevation.id.desc()).limit(limit)
        if not caller.can("elevations:decide"):
            query = query.where(Elevation.member_id == caller.member_id)
        if before:
            query = query.where(Elevation.id < before)
        async with self.db.read(caller) as session:
            return list(await session.scalars(query))

    def _require_lendable(self, role: str) -> None:
        self.roles.require_known([role])
        if self.roles.are_platform([role]):
            raise Forbidden("Platform roles are not lent.")


async def end_all(session: AsyncSession, member: Member, actor: str) -> None:
    """End what a member asks for and is lent, in the transaction that changes and has locked this member."""
    for elevation in await _open(session, member, utc_now()):
        await _end(session, member, elevation, actor)


async def _end(session: AsyncSession, member: Member, elevation: Elevation, actor: str) -> None:
    if elevation.state == "lent":
        member.elevated_role = member.elevated_key = member.elevated_until = None
    was, elevation.state, elevation.ended_at = elevation.state, "ended", utc_now()
    await _record(session, elevation, actor, "ended", was=was, role=elevation.role)


async def _record(session: AsyncSession, elevation: Elevation, actor: str, what: str, **facts: str | int) -> None:
    subject, member = f"elevation:{elevation.id}", elevation.member_id
    await trail.append(session, elevation.tenant_id, actor, f"elevation.{what}", subject, member=member, **facts)


async def _open(session: AsyncSession, member: Member, now: datetime) -> Sequence[Elevation]:
    query = select(Elevation).where(Elevation.member_id == member.id, Elevation.ends_at > now)
    return list(await session.scalars(query.where(Elevation.state.in_(("asked", "lent")))))


async def _locked(session: AsyncSession, member_id: str) -> Member:
    """The member's row, locked: all that is done about one member's elevations goes one after the other."""
    return (await session.scalars(select(Member).where(Member.id == member_id).with_for_update())).one()


async def _locked_with_member(session: AsyncSession, elevation_id: str) -> tuple[Elevation, Member]:
    member_id = await session.scalar(select(Elevation.member_id).where(Elevation.id == elevation_id))
    if member_id is None:
        raise NotFound
    member = await _locked(session, member_id)
    return (await session.scalars(select(Elevation).where(Elevation.id == elevation_id))).one(), member
