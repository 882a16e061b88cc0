"""Tenants, members and keys from the command line."""

from datetime import timedelta
from typing import Annotated

import typer
from sqlalchemy import select

from app.db.tenancy import ALL_TENANTS
from app.entrypoints.command_context import DryRun, Json, operator, with_runtime
from app.entrypoints.terminal import out, show
from app.errors import NotFound
from app.identity.layers import PEOPLE
from app.identity.models import ApiKey, Member, Tenant
from app.runtime import Runtime

tenants = typer.Typer(no_args_is_help=True, help="Customers of this service.")
members = typer.Typer(no_args_is_help=True, help="People and machines of a tenant.")
keys = typer.Typer(no_args_is_help=True, help="API keys.")

DEFAULT = "default"
TenantName = Annotated[str, typer.Option("--tenant", help="The tenant's name.")]


@tenants.command("add")
def add_tenant(name: str, dry_run: DryRun = False) -> None:
    """Create a tenant. There is no undo; a tenant without members costs nothing."""
    if dry_run:
        out.print(f"Would create the tenant {name}.")
        return
    tenant_id = with_runtime(lambda runtime: runtime.members.create_tenant(name, operator()))
    out.print(f"Created the tenant {name} ({tenant_id}).", highlight=False)


@tenants.command("tier")
def set_tier(
    name: str,
    tier: Annotated[str, typer.Argument(help="A tier of config/models.toml, or `default`.")],
    dry_run: DryRun = False,
) -> None:
    """Set the strongest tier of models a tenant may use. Undo: set it back."""

    async def work(runtime: Runtime) -> None:
        known = (*runtime.chat.catalog.router.order, DEFAULT)
        if tier not in known:
            raise NotFound(f"There is no tier {tier}: choose from {', '.join(known)}.")
        tenant_id = await runtime.directory.tenant_id(name)
        if not dry_run:
            await runtime.members.set_tier(tenant_id, None if tier == DEFAULT else tier, operator())

    with_runtime(work)
    out.print(f"{'Would let' if dry_run else 'Let'} {name} use models up to the tier {tier}.", highlight=False)


@tenants.command("list")
def list_tenants(as_json: Json = False) -> None:
    """All tenants."""

    async def work(runtime: Runtime) -> list[Tenant]:
        return await runtime.members.tenants()

    found = with_runtime(work)
    rows = [{"name": t.name, "id": t.id, "tier": t.tier or DEFAULT, "created": t.created_at} for t in found]
    show(rows, as_json=as_json, empty="No tenants yet. Add one: app tenants add NAME")


@members.command("add")
def add_member(
    name: str,
    tenant: TenantName,
    role: Annotated[list[str], typer.Option("--role", help="A role from config/roles.toml; repeat for more.")],
    subject: Annotated[str | None, typer.Option(help="Who they are at the OpenID Connect provider.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Add a member. Undo by revoking their keys: app keys revoke PREFIX."""
    if dry_run:
        out.print(f"Would add {name} to {tenant} as {', '.join(role)}.")
        return

    async def work(runtime: Runtime) -> str:
        tenant_id = await runtime.directory.tenant_id(tenant)
        return await runtime.members.add(tenant_id, name, role, operator(), subject=subject)

    out.print(f"Added {name} to {tenant} ({with_runtime(work)}).", highlight=False)


@members.command("list")
def list_members(tenant: TenantName, as_json: Json = False) -> None:
    """The members of a tenant."""

    async def work(runtime: Runtime) -> list[Member]:
        tenant_id = await runtime.directory.tenant_id(tenant)
        async with runtime.db.read(ALL_TENANTS) as session:
            query = select(Member).where(Member.tenant_id == tenant_id).order_by(Member.name)
            return list(await session.scalars(query))

    rows = [
        {"name": m.name, "id": m.id, "roles": list(m.roles), "disabled_by": list(m.disabled_by)}
        for m in with_runtime(work)
    ]
    show(rows, as_json=as_json, empty="No members yet. Add one: app members add NAME --tenant TENANT --role ROLE")


@members.command("disable")
def disable_member(name: str, tenant: TenantName, dry_run: DryRun = False) -> None:
    """Shut a member out, at once: keys, sessions, tokens of the provider. Undo: app members enable NAME."""
    _shut(name, tenant, disabled=True, dry_run=dry_run)


@members.command("enable")
def enable_member(name: str, tenant: TenantName, dry_run: DryRun = False) -> None:
    """Take back the operator's disable; a tenant administrator's stays. Undo: app members disable NAME."""
    _shut(name, tenant, disabled=False, dry_run=dry_run)


def _shut(name: str, tenant: str, *, disabled: bool, dry_run: bool) -> None:
    async def work(runtime: Runtime) -> Member:
        tenant_id = await runtime.directory.tenant_id(tenant)
        return await runtime.members.shut(tenant_id, name, disabled=disabled, actor=operator())

    still = [] if dry_run else with_runtime(work).disabled_by
    done = "shut out" if disabled else "let in"
    out.print(f"{'Would have' if dry_run else 'Has'} {done} {name} of {tenant}.", highlight=False)
    if still and not disabled:
        out.print(f"Still disabled by {PEOPLE['tenant']}: PATCH /v1/members/ID.", highlight=False)


@keys.command("list")
def list_keys(tenant: TenantName, as_json: Json = False) -> None:
    """The keys of a tenant, by their prefix."""

    async def work(runtime: Runtime) -> list[tuple[ApiKey, str]]:
        tenant_id = await runtime.directory.tenant_id(tenant)
        query = select(ApiKey, Member.name).join(Member, Member.id == ApiKey.member_id)
        async with runtime.db.read(ALL_TENANTS) as session:
            found = await session.execute(query.where(ApiKey.tenant_id == tenant_id).order_by(ApiKey.created_at))
            return [(key, name) for key, name in found]

    rows = [
        {
            "prefix": key.prefix,
            "id": key.id,
            "member": name,
            "member_id": key.member_id,
            "expires": key.expires_at,
            "revoked": key.revoked_at,
        }
        for key, name in with_runtime(work)
    ]
    show(rows, as_json=as_json, empty="No keys yet. Issue one: app keys issue --tenant TENANT --member NAME")


@keys.command("issue")
def issue_key(
    member: Annotated[str, typer.Option("--member", help="The member's name.")],
    tenant: TenantName,
    days: Annotated[int, typer.Option(min=1, max=365, help="How long it is valid.")] = 90,
    dry_run: DryRun = False,
) -> None:
    """Issue a key and print it once. Undo: app keys revoke PREFIX."""
    if dry_run:
        out.print(f"Would issue a key for {member} of {tenant}, valid for {days} days.")
        return

    async def work(runtime: Runtime) -> str:
        tenant_id = await runtime.directory.tenant_id(tenant)
        async with runtime.db.read(ALL_TENANTS) as session:
            query = select(Member.id).where(Member.tenant_id == tenant_id, Member.name == member)
            member_id = await session.scalar(query)
        if member_id is None:
            raise NotFound(f"{tenant} has no member named {member}.")
        issued = await runtime.keys.issue(tenant_id, member_id, operator(), lifetime=timedelta(days=days))
        return issued.token

    print(with_runtime(work))


@keys.command("revoke")
def revoke_key(prefix: str, dry_run: DryRun = False) -> None:
    """Revoke the key with this prefix, at once. Undo by issuing a new one."""

    async def work(runtime: Runtime) -> None:
        async with runtime.db.read(ALL_TENANTS) as session:
            key = await session.scalar(select(ApiKey).where(ApiKey.prefix == prefix))
        if key is None:
            raise NotFound(f"No key has the prefix {prefix}.")
        if not dry_run:
            await runtime.keys.revoke(key.tenant_id, key.id, operator())

    with_runtime(work)
    out.print(f"{'Would revoke' if dry_run else 'Revoked'} the key {prefix}.")
