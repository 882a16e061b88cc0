"""Tenants, members and keys for a test, each test with tenants of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from app.identity.principal import Principal
from app.runtime import Runtime


@dataclass(frozen=True)
class Person:
    name: str
    tenant_id: str
    member_id: str
    key: str = field(repr=False)
    principal: Principal


async def tenant(runtime: Runtime) -> str:
    return await runtime.members.create_tenant(f"tenant-{uuid4().hex[:12]}", "test")


async def person(runtime: Runtime, tenant_id: str, roles: Sequence[str]) -> Person:
    name = f"person-{uuid4().hex[:12]}"
    member_id = await runtime.members.add(tenant_id, name, list(roles), "test")
    key = (await runtime.keys.issue(tenant_id, member_id, "test")).token
    return Person(name, tenant_id, member_id, key, await runtime.directory.authenticate(key))
