"""The audit chain finds every kind of tampering."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import delete, update

from app.audit import trail
from app.audit.models import AuditEvent, AuditHead
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.runtime import Runtime
from gates.rig import people
from gates.rig.databases import owner_of

pytestmark = pytest.mark.anyio


async def _filled(runtime: Runtime, count: int = 5) -> str:
    tenant_id = await people.tenant(runtime)
    for number in range(count):
        async with runtime.db.transaction(ALL_TENANTS) as session:
            await trail.append(session, tenant_id, "tester", "thing.done", f"thing:{number}", number=number)
    return tenant_id


async def _report(runtime: Runtime, tenant_id: str) -> trail.ChainReport:
    return await trail.verify(runtime.db, ALL_TENANTS, tenant_id)


async def test_an_untouched_chain_is_intact(runtime: Runtime) -> None:
    report = await _report(runtime, await _filled(runtime))
    assert report.intact
    assert report.events == 6  # five things and the tenant's creation


async def test_a_long_chain_is_read_in_pages(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant_id = await _filled(runtime)
    for size in (1, 2, 3, 6):
        monkeypatch.setattr(trail, "VERIFIED_AT_ONCE", size)
        assert await _report(runtime, tenant_id) == trail.ChainReport(tenant_id, 6, None)


async def _tamper(database_url: str, statement: Any) -> None:
    """As the database's owner: the service's own role may not change a record on PostgreSQL."""
    owned = Database(owner_of(database_url))
    async with owned.transaction(ALL_TENANTS) as session:
        await session.execute(statement)
    await owned.close()


@pytest.mark.parametrize("column", ["actor", "action", "subject", "hash", "previous_hash"])
async def test_a_changed_field_breaks_the_chain(runtime: Runtime, database_url: str, column: str) -> None:
    tenant_id = await _filled(runtime)
    forged = update(AuditEvent).where(AuditEvent.tenant_id == tenant_id, AuditEvent.sequence == 3)
    await _tamper(database_url, forged.values({column: "forged"}))
    assert (await _report(runtime, tenant_id)).broken_at == 3


@pytest.mark.parametrize("sequence", [1, 3, 6])
async def test_a_removed_record_breaks_the_chain_also_at_its_end(
    runtime: Runtime, database_url: str, sequence: int
) -> None:
    tenant_id = await _filled(runtime)
    gone = delete(AuditEvent).where(AuditEvent.tenant_id == tenant_id, AuditEvent.sequence == sequence)
    await _tamper(database_url, gone)
    assert not (await _report(runtime, tenant_id)).intact


async def test_a_removed_head_breaks_the_chain(runtime: Runtime) -> None:
    tenant_id = await _filled(runtime)
    async with runtime.db.transaction(ALL_TENANTS) as session:
        await session.execute(delete(AuditHead).where(AuditHead.tenant_id == tenant_id))
    assert not (await _report(runtime, tenant_id)).intact


async def test_parallel_appends_keep_one_unbroken_order(runtime: Runtime) -> None:
    tenant_id = await people.tenant(runtime)

    async def one(number: int) -> None:
        async with runtime.db.transaction(ALL_TENANTS) as session:
            await trail.append(session, tenant_id, "tester", "thing.done", f"thing:{number}")

    await asyncio.gather(*(one(number) for number in range(30)))
    report = await _report(runtime, tenant_id)
    assert report.intact
    assert report.events == 31


async def test_a_record_is_gone_when_its_transaction_fails(runtime: Runtime) -> None:
    tenant_id = await people.tenant(runtime)

    async def record_and_fail() -> None:
        async with runtime.db.transaction(ALL_TENANTS) as session:
            await trail.append(session, tenant_id, "tester", "thing.done", "thing:1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await record_and_fail()
    report = await _report(runtime, tenant_id)
    assert report.intact
    assert report.events == 1
