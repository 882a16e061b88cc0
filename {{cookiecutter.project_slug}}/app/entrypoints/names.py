"""Names of tenants and members, which commands print beside their ids."""

from sqlalchemy import select

from app.db.tenancy import ALL_TENANTS
from app.identity.models import Member, Tenant
from app.runtime import Runtime


async def names_by_id(runtime: Runtime) -> dict[str, str]:
    """The name of every tenant and member, by id."""
    async with runtime.db.read(ALL_TENANTS) as session:
        tenants = await session.execute(select(Tenant.id, Tenant.name))
        members = await session.execute(select(Member.id, Member.name))
        return {id_: name for id_, name in [*tenants, *members]}  # noqa: C416 - rows are no pairs to a type checker
