"""The append-only audit trail, one hash chain per tenant.

Each record carries SHA-256 over its predecessor's hash and its own canonical JSON (RFC 8785), and
the head row carries the last one, so an edited, removed, inserted or truncated record is found.
Gate: security, errors.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import rfc8785
import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from app.audit.models import AuditEvent, AuditHead
from app.db import tenancy
from app.db.base import new_id, utc_now
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS, TenantScope

VERIFIED_AT_ONCE = 1_000
# Built once: to build a statement takes longer than to have it answered.
_EVENTS, _HEADS = (cast("sa.Table", model.__table__) for model in (AuditEvent, AuditHead))
_ENDS = (
    sa.select(_HEADS.c.tenant_id, _HEADS.c.sequence, _HEADS.c.hash)
    .where(_HEADS.c.tenant_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(_HEADS.c.tenant_id)
    .with_for_update()
)
_APPEND = sa.insert(_EVENTS)
_MOVE = (
    sa.update(_HEADS)
    .where(_HEADS.c.tenant_id == sa.bindparam("its_tenant_id"))
    .values(sequence=sa.bindparam("its_sequence"), hash=sa.bindparam("its_hash"))
)
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
    return await session.run_sync(_append, tenant_id, actor, action, subject, data)


def append_at_once(
    connection: sa.Connection, tenant_id: str, actor: str, action: str, subject: str, **data: Any
) -> None:
    """The same where the caller's transaction is one of `Database.at_once`."""
    with Session(connection, join_transaction_mode="create_savepoint") as session, session.begin():
        tenancy.bind(session, ALL_TENANTS)
        _append(session, tenant_id, actor, action, subject, data)


@dataclass(frozen=True)
class Entry:
    """A record that is yet to be linked."""

    tenant_id: str
    actor: str
    action: str
    subject: str
    data: dict[str, Any]


@dataclass
class End:
    """Where a chain ends, as `AuditHead` has it."""

    tenant_id: str
    sequence: int
    hash: str


def append_all_at_once(connection: sa.Connection, entries: Sequence[Entry]) -> None:
    """Many records in one transaction of `Database.at_once`: each chain is locked and moved once, all in one order.

    Of what no run's readers wait for: nothing is announced. Raises LookupError for a tenant without a chain."""
    if not entries:
        return
    wanted = {each.tenant_id for each in entries}
    ends = {row.tenant_id: End(*row) for row in connection.execute(_ENDS, {"ids": sorted(wanted)})}
    if missing := wanted - ends.keys():
        raise LookupError(f"no audit chain for tenant {', '.join(sorted(missing))}")
    connection.execute(_APPEND, [_linked(ends[each.tenant_id], each) for each in entries])
    connection.execute(_MOVE, [{f"its_{name}": value for name, value in vars(end).items()} for end in ends.values()])


def _append(
    session: Session, tenant_id: str, actor: str, action: str, subject: str, data: dict[str, Any]
) -> AuditEvent:
    record = AuditEvent(**_linked(_locked(session, tenant_id), Entry(tenant_id, actor, action, subject, data)))
    session.add(record)
    session.flush()
    return record


def _locked(session: Session, tenant_id: str) -> AuditHead:
    head = session.get(AuditHead, tenant_id, with_for_update=True, populate_existing=True)
    if head is None:
        raise LookupError(f"no audit chain for tenant {tenant_id}")
    return head


def _linked(head: AuditHead | End, entry: Entry) -> dict[str, Any]:
    """The row of the record behind the chain's end, which it becomes."""
    row: dict[str, Any] = {"id": new_id(), "sequence": head.sequence + 1, "at": utc_now(), **vars(entry)}
    row |= {"previous_hash": head.hash, "hash": _digest(head.hash, row)}
    head.sequence, head.hash = row["sequence"], row["hash"]
    return row


async def verify(db: Database, scope: TenantScope, tenant_id: str) -> ChainReport:
    """Recompute a tenant's whole chain and compare it with its head.

    In pages, each a transaction of its own, so that a long chain keeps no lock for long; what is appended meanwhile is
    read as well."""
    expected, sequence = "0" * 64, 0
    while True:
        records = await _page(db, scope, tenant_id, after=sequence)
        for record in records:
            sequence += 1
            digest = _digest(expected, vars(record))
            fits = (record.sequence, record.previous_hash, record.hash) == (sequence, expected, digest)
            if not fits:
                return ChainReport(tenant_id, sequence, sequence)
            expected = record.hash
        if records:
            continue
        async with db.read(scope) as session:
            head = await session.get(AuditHead, tenant_id)
        if head is not None and (head.sequence, head.hash) == (sequence, expected):
            return ChainReport(tenant_id, sequence, None)
        grew = head is not None and head.sequence > sequence
        if not grew or not await _page(db, scope, tenant_id, after=sequence):
            return ChainReport(tenant_id, sequence, sequence + 1)


async def _page(db: Database, scope: TenantScope, tenant_id: str, *, after: int) -> Sequence[AuditEvent]:
    query = select(AuditEvent).where(AuditEvent.tenant_id == tenant_id, AuditEvent.sequence > after)
    async with db.read(scope) as session:
        return list(await session.scalars(query.order_by(AuditEvent.sequence).limit(VERIFIED_AT_ONCE)))


def _digest(previous_hash: str, row: Mapping[str, Any]) -> str:
    body = {name: row[name] for name in ("sequence", "actor", "action", "subject", "data")}
    body |= {"tenant": row["tenant_id"], "at": _instant(row["at"])}
    return hashlib.sha256(previous_hash.encode() + rfc8785.dumps(body)).hexdigest()


def _instant(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
