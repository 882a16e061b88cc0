"""A lent role, on each database: what the parts promise below the routes."""

from datetime import timedelta

import pytest

from app.db.base import utc_now
from app.db.tenancy import ALL_TENANTS
from app.errors import Conflict, Forbidden, NotFound, RequestInvalid
from app.identity.models import Elevation, Member
from app.identity.roles import DEFAULT_ROLES, LASTING_PERMISSIONS, PLATFORM_PERMISSIONS
from app.runtime import Runtime
from gates.rig import people
from gates.rig.people import Person

pytestmark = pytest.mark.anyio


async def _two(runtime: Runtime) -> tuple[Person, Person]:
    tenant = await people.tenant(runtime)
    return await people.person(runtime, tenant, ["member"]), await people.person(runtime, tenant, ["admin"])


async def _asked(runtime: Runtime, who: Person, role: str = "approver") -> Elevation:
    return await runtime.elevations.ask(who.principal, role, minutes=30, reason="a drill")


async def test_a_lent_role_is_there_afresh_and_gone_with_its_time(runtime: Runtime) -> None:
    member, admin = await _two(runtime)
    asked = await _asked(runtime, member)
    await runtime.elevations.decide(admin.principal, asked.id, approve=True, reason="a drill")
    again = await runtime.directory.authenticate(member.key)
    in_run = await runtime.directory.principal_of(member.tenant_id, member.member_id, member.principal.key_id)
    for now in (again, in_run):
        assert now.can("approvals:decide")
        assert now.roles == {"member", "approver"}
        assert not now.own >= {"approvals:decide"}
    assert not (await runtime.directory.principal_of(member.tenant_id, member.member_id)).can("approvals:decide")
    async with runtime.db.transaction(ALL_TENANTS) as session:
        row = await session.get_one(Member, member.member_id)
        row.elevated_until = utc_now() - timedelta(seconds=1)
    assert not (await runtime.directory.authenticate(member.key)).can("approvals:decide")


async def test_what_cannot_be_asked_for_is_said(runtime: Runtime) -> None:
    member, admin = await _two(runtime)
    with pytest.raises(RequestInvalid, match="choose from"):
        await _asked(runtime, member, "emperor")
    with pytest.raises(Forbidden, match="Platform roles"):
        await _asked(runtime, member, "platform_operator")
    with pytest.raises(Conflict, match="have this role"):
        await _asked(runtime, member, "member")
    asked = await _asked(runtime, member)
    with pytest.raises(Conflict, match="end that first"):
        await _asked(runtime, member, "viewer")
    _, stranger = await _two(runtime)
    with pytest.raises(NotFound):
        await runtime.elevations.decide(stranger.principal, asked.id, approve=True, reason="mine")
    with pytest.raises(Forbidden):
        await runtime.elevations.decide(member.principal, asked.id, approve=True, reason="mine")
    await runtime.elevations.end(admin.principal, asked.id)
    await runtime.elevations.end(admin.principal, asked.id)  # what is over stays so
    with pytest.raises(Conflict, match="ended"):
        await runtime.elevations.decide(admin.principal, asked.id, approve=True, reason="a drill")


async def test_who_issues_with_a_key_of_unknown_origin_makes_no_better_one(runtime: Runtime) -> None:
    member, admin = await _two(runtime)
    issued = await runtime.keys.issue(member.tenant_id, member.member_id, admin.member_id, hands=None)
    unknown = await runtime.directory.authenticate(issued.token)
    assert unknown.persons is None
    with pytest.raises(Forbidden, match="have a new one issued"):
        await runtime.elevations.ask(unknown, "approver", minutes=30, reason="a drill")
    seen = await runtime.keys.issue(member.tenant_id, member.member_id, admin.member_id, hands=admin.principal.persons)
    assert (await runtime.directory.authenticate(seen.token)).persons == frozenset({member.member_id, admin.member_id})


async def test_no_role_lends_what_lasts(runtime: Runtime) -> None:
    roles = runtime.directory.roles
    assert set(DEFAULT_ROLES) - set(roles.lendable) == {"platform_operator"}
    for role in roles.names:
        assert not roles.lent(role) & (LASTING_PERMISSIONS | PLATFORM_PERMISSIONS)
