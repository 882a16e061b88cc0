"""The append-only audit trail, one hash chain per tenant.

Each record carries SHA-256 over its predecessor's hash and its own canonical JSON (RFC 8785), and
the head row carries the last one, so an edited, removed, inserted or truncated record is found.
Gate: security, errors.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import rfc8785
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.models import AuditEvent, AuditHead
from app.db.base import new_id, utc_now

PLATFORM = "platform"  # the tenant id of events that belong to no customer


@dataclass(frozen=True)
class ChainReport:
    tenant_id: str
    events: int
    broken_at: int | None  # sequence of the first record that does not fit, None when all do

    @property
    def intact(self) -> bool:
        return self.broken_at is None


async def open_chain(session: AsyncSession, tenant_id: str) -> None:
    """Start a tenant's chain; called once, where the tenant is created."""
    session.add(AuditHead(tenant_id=tenant_id))
    await session.flush()


async def append(
    session: AsyncSession, tenant_id: str, actor: str, action: str, subject: str, **data: Any
) -> AuditEvent:
    """Add one record in the caller's transaction: the fact and its record commit together or not at all.

    Call it last in the transaction, because it holds the tenant's chain until the commit."""
    head = await session.get(AuditHead, tenant_id, with_for_update=True, populate_existing=True)
    if head is None:
        raise LookupError(f"no audit chain for tenant {tenant_id}")
    record = AuditEvent(
        id=new_id(),
        tenant_id=tenant_id,
        sequence=head.sequence + 1,
        at=utc_now(),
        actor=actor,
        action=action,
        subject=subject,
        data=data,
        previous_hash=head.hash,
    )
    record.hash = _digest(record)
    head.sequence, head.hash = record.sequence, record.hash
    session.add(record)
    await session.flush()
    return record


async def verify(session: AsyncSession, tenant_id: str) -> ChainReport:
    """Recompute a tenant's whole chain and compare it with its head."""
    expected, sequence = "0" * 64, 0
    query = select(AuditEvent).where(AuditEvent.tenant_id == tenant_id).order_by(AuditEvent.sequence)
    async for record in await session.stream_scalars(query):
        sequence += 1
        fits = record.sequence == sequence and record.previous_hash == expected and record.hash == _digest(record)
        if not fits:
            return ChainReport(tenant_id, sequence, sequence)
        expected = record.hash
    head = await session.get(AuditHead, tenant_id, populate_existing=True)
    complete = head is not None and head.sequence == sequence and head.hash == expected
    return ChainReport(tenant_id, sequence, None if complete else sequence + 1)


def _digest(record: AuditEvent) -> str:
    body: dict[str, Any] = {
        "tenant": record.tenant_id,
        "sequence": record.sequence,
        "at": _instant(record.at),
        "actor": record.actor,
        "action": record.action,
        "subject": record.subject,
        "data": record.data,
    }
    return hashlib.sha256(record.previous_hash.encode() + rfc8785.dumps(body)).hexdigest()


def _instant(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
