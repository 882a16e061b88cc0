"""Keys that only their member has seen: issued by themselves, or claimed."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from app.audit.models import AuditEvent
from app.db.base import utc_now
from app.db.tenancy import ALL_TENANTS
from app.errors import Conflict, Forbidden, NotFound
from app.identity.key_claims import CreatedClaim
from app.identity.keys import MAX_OWN_KEYS
from app.identity.models import KeyClaim, Member
from app.identity.principal import Principal
from app.runtime import Runtime
from gates.rig import people
from gates.rig.people import Person

pytestmark = pytest.mark.anyio
ISSUER = "https://issuer.example"


async def _signed_in(runtime: Runtime, who: Person) -> Principal:
    """The principal of a sign-in at the provider, as the directory makes it for a token."""
    async with runtime.db.transaction(ALL_TENANTS) as session:
        member = await session.get_one(Member, who.member_id)
        member.issuer, member.subject = ISSUER, who.member_id
    return await runtime.directory.principal_of_subject(ISSUER, who.member_id, utc_now() + timedelta(minutes=5))


async def _created(runtime: Runtime, admin: Person, member: Person, days: int = 30) -> CreatedClaim:
    return await runtime.key_claims.create(
        admin.principal, member.member_id, scopes=["runs:read"], days=days, open_for=timedelta(hours=1)
    )


async def _actions(runtime: Runtime, tenant_id: str) -> list[tuple[str, str]]:
    async with runtime.db.transaction(ALL_TENANTS) as session:
        query = select(AuditEvent).where(AuditEvent.tenant_id == tenant_id).order_by(AuditEvent.sequence)
        return [(event.action, event.actor) for event in await session.scalars(query)]


async def _two(runtime: Runtime) -> tuple[Person, Person]:
    tenant = await people.tenant(runtime)
    return await people.person(runtime, tenant, ["member"]), await people.person(runtime, tenant, ["admin"])


async def test_who_signed_in_issues_a_key_that_nobody_else_holds(runtime: Runtime) -> None:
    member, admin = await _two(runtime)
    here = await _signed_in(runtime, member)
    issued = await runtime.keys.issue_own(here, scopes=None, lifetime=timedelta(days=1))
    assert (await runtime.directory.authenticate(issued.token)).persons == frozenset({member.member_id})
    for key in (member, admin):  # with a key nobody does: whoever else holds it would hold the new one too
        with pytest.raises(Forbidden, match="signs in at the identity provider"):
            await runtime.keys.issue_own(key.principal, scopes=None, lifetime=timedelta(days=1))
    assert ("access.denied", member.member_id) in await _actions(runtime, member.tenant_id)


async def test_a_claim_is_redeemed_once_by_its_own_member_s_sign_in(runtime: Runtime) -> None:
    member, admin = await _two(runtime)
    here = await _signed_in(runtime, member)
    admin_here = await _signed_in(runtime, admin)
    created = await _created(runtime, admin, member)
    async with runtime.db.transaction(ALL_TENANTS) as session:
        kept = await session.get_one(KeyClaim, created.claim.id)
        assert created.code not in str(vars(kept))
    with pytest.raises(NotFound):  # the admin has the code, and it opens nothing for them
        await runtime.key_claims.redeem(admin_here, created.code)
    puppet = await runtime.keys.issue(member.tenant_id, member.member_id, "x", hands=admin.principal.persons)
    with pytest.raises(Forbidden, match="signs in at the identity provider"):  # nor with a key of that member's
        await runtime.key_claims.redeem(await runtime.directory.authenticate(puppet.token), created.code)
    issued = await runtime.key_claims.redeem(here, created.code)
    mine = await runtime.directory.authenticate(issued.token)
    assert (mine.persons, mine.scopes) == (frozenset({member.member_id}), frozenset({"runs:read"}))
    with pytest.raises(Conflict, match="redeemed already"):
        await runtime.key_claims.redeem(here, created.code)
    actions = await _actions(runtime, member.tenant_id)
    for expected in (
        ("key_claim.created", admin.member_id),
        ("access.denied", admin.member_id),
        ("key_claim.redeemed", member.member_id),
        ("key.issued", member.member_id),
    ):
        assert expected in actions


async def test_a_claim_expires(runtime: Runtime) -> None:
    member, admin = await _two(runtime)
    here = await _signed_in(runtime, member)
    created = await _created(runtime, admin, member)
    async with runtime.db.transaction(ALL_TENANTS) as session:
        (await session.get_one(KeyClaim, created.claim.id)).expires_at = utc_now() - timedelta(seconds=1)
    with pytest.raises(Conflict, match="expired"):
        await runtime.key_claims.redeem(here, created.code)


async def test_a_claim_is_listed_and_withdrawn_until_it_is_redeemed(runtime: Runtime) -> None:
    member, admin = await _two(runtime)
    here = await _signed_in(runtime, member)
    first, second = await _created(runtime, admin, member), await _created(runtime, admin, member)
    [newest] = await runtime.key_claims.of_tenant(admin.principal, before=None, limit=1)
    [oldest] = await runtime.key_claims.of_tenant(admin.principal, before=newest.id, limit=5)
    assert [newest.id, oldest.id] == [second.claim.id, first.claim.id]
    for refused in (member.principal, here):
        with pytest.raises(Forbidden):
            await runtime.key_claims.of_tenant(refused, before=None, limit=1)
        with pytest.raises(Forbidden):
            await runtime.key_claims.withdraw(refused, first.claim.id)
    _, stranger = await _two(runtime)
    with pytest.raises(NotFound):
        await runtime.key_claims.withdraw(stranger.principal, first.claim.id)
    for _ in range(2):  # again is no change
        await runtime.key_claims.withdraw(admin.principal, first.claim.id)
    with pytest.raises(Conflict, match="expired"):
        await runtime.key_claims.redeem(here, first.code)
    issued = await runtime.key_claims.redeem(here, second.code)
    with pytest.raises(Conflict, match=f"revoke its key \\({issued.id}\\)"):
        await runtime.key_claims.withdraw(admin.principal, second.claim.id)
    actions = await _actions(runtime, member.tenant_id)
    assert actions.count(("key_claim.withdrawn", admin.member_id)) == 1


async def test_nobody_creates_a_claim_that_could_not_be_redeemed_or_gives_too_much(runtime: Runtime) -> None:
    member, admin = await _two(runtime)
    with pytest.raises(Conflict, match="cannot sign in"):
        await _created(runtime, admin, member)
    with pytest.raises(Forbidden):
        await _created(runtime, member, admin)
    operator = await people.person(runtime, member.tenant_id, ["platform_operator"])
    await _signed_in(runtime, operator)
    with pytest.raises(Forbidden, match="app keys issue"):
        await _created(runtime, admin, operator)
    stranger, _ = await _two(runtime)
    with pytest.raises(NotFound):
        await _created(runtime, admin, stranger)


async def test_nobody_takes_so_many_keys_that_others_are_out_of_sight(runtime: Runtime) -> None:
    member, admin = await _two(runtime)
    here = await _signed_in(runtime, member)
    claim = await _created(runtime, admin, member)
    for _ in range(MAX_OWN_KEYS - 1):  # and the one the member came with
        await runtime.keys.issue_own(here, scopes=None, lifetime=timedelta(days=1))
    with pytest.raises(Conflict, match="as many as one may take"):
        await runtime.keys.issue_own(here, scopes=None, lifetime=timedelta(days=1))
    with pytest.raises(Conflict, match="as many as one may take"):
        await runtime.key_claims.redeem(here, claim.code)


async def test_a_claim_ends_with_its_creator_s_authority(runtime: Runtime) -> None:
    member, admin = await _two(runtime)
    here = await _signed_in(runtime, member)
    claim = await _created(runtime, admin, member)
    await runtime.members.shut(admin.tenant_id, admin.name, disabled=True, actor="operator")
    with pytest.raises(Conflict, match="may no longer issue keys"):
        await runtime.key_claims.redeem(here, claim.code)
    await runtime.members.shut(admin.tenant_id, admin.name, disabled=False, actor="operator")
    assert (await runtime.key_claims.redeem(here, claim.code)).token


async def test_a_run_is_no_sign_in(runtime: Runtime) -> None:
    """What acts in a run has no key either, and must not take one for its member."""
    member, _ = await _two(runtime)
    in_a_run = replace(await _signed_in(runtime, member), hands=None)
    with pytest.raises(Forbidden, match="signs in at the identity provider"):
        await runtime.keys.issue_own(in_a_run, scopes=None, lifetime=timedelta(days=1))
