"""One object of every kind that a route can name, put straight into the store, and a look at what is in it.

Random requests do not lead to a run that waits, an open question or a call whose outcome nobody knows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.orm import Session

from app.db.base import Base, TenantOwned, new_id, utc_now
from app.db.tenancy import ALL_TENANTS, bind
from app.identity import tokens
from app.identity.models import ApiKey, Elevation, KeyClaim, Member, Tenant
from app.identity.roles import Roles
from app.runs.models import Run, RunContent
from app.settings import ROOT
from app.tools.models import Approval, ToolCall
from gates.rig.probe import FEATURE

DIGEST = "0" * 64
LENGTH_OF_ID = 36
Rows = dict[str, list[tuple[Any, ...]]]  # by table
ON_RECORD = {"audit_events", "audit_heads"}  # what a refusal leaves behind


@dataclass(frozen=True)
class Store:
    """The service's store as its owner sees it, behind the service's back."""

    engine: sa.Engine

    @classmethod
    def at(cls, owner_url: str) -> "Store":
        url = sa.make_url(owner_url)
        if url.get_backend_name() == "sqlite":
            return cls(sa.create_engine(url, connect_args={"timeout": 30}))
        return cls(sa.create_engine(url.set(drivername="postgresql+psycopg")))

    def add(self, rows: Iterable[Base]) -> None:
        with Session(self.engine) as session, session.begin():
            bind(session, ALL_TENANTS)
            session.add_all(rows)

    def give(self, elevation_id: str, member_id: str) -> None:
        """Have somebody else be the one who asked."""
        with self.engine.begin() as connection:
            asked = sa.update(Elevation).where(Elevation.id == elevation_id)
            connection.execute(asked.values(member_id=member_id))

    def give_claim(self, code: str, member_id: str) -> None:
        """Have the claim of this code be for somebody else."""
        with self.engine.begin() as connection:
            created = sa.update(KeyClaim).where(KeyClaim.claim_hash == tokens.hash_secret(code))
            connection.execute(created.values(member_id=member_id))

    def without_tiers(self) -> None:
        """As if no operator had chosen a tier for any tenant."""
        with self.engine.begin() as connection:
            connection.execute(sa.update(Tenant).values(tier=None))

    def rows(self, tenant_id: str = "") -> Rows:
        """Every row of this tenant, or of everybody; when a key was last used is no part of it."""
        found: Rows = {}
        with self.engine.connect() as connection:
            for table in Base.metadata.sorted_tables:
                if tenant_id and "tenant_id" not in table.c:
                    continue
                query = sa.select(*(column for column in table.c if column.name != "last_used_at"))
                query = query.order_by(*table.primary_key)
                if tenant_id:
                    query = query.where(table.c.tenant_id == tenant_id)
                found[table.name] = [tuple(row) for row in connection.execute(query)]
        return found

    def ids(self, tenant_id: str) -> set[str]:
        """The ids of everything that a tenant has, and its own."""
        found = {tenant_id}
        with self.engine.connect() as connection:
            for table in Base.metadata.sorted_tables:
                if "tenant_id" in table.c:
                    query = sa.select(*table.primary_key).where(table.c.tenant_id == tenant_id)
                    found |= {str(value) for row in connection.execute(query) for value in row}
        return {value for value in found if len(value) == LENGTH_OF_ID}


def without_records(rows: Rows) -> Rows:
    return {table: found for table, found in rows.items() if table not in ON_RECORD}


def seeded(store: Store, tenant_id: str, feature: str = FEATURE.name) -> dict[str, str]:
    """New objects of this tenant, with a run of this feature; their ids by the name that routes give them."""
    now, run_id = utc_now(), new_id()
    leaver = Member(
        id=new_id(), tenant_id=tenant_id, name=f"leaver-{uuid4().hex[:12]}", roles=[], issuer="matrix",
        subject=new_id(), created_at=now,
    )  # fmt: skip
    roles = Roles.load(ROOT / "config" / "roles.toml")
    granting = [role for role in roles.names if "keys:write" in roles.permissions([role])]
    granter = Member(
        id=new_id(), tenant_id=tenant_id, name=f"granter-{uuid4().hex[:12]}", roles=granting[:1], issuer="matrix",
        subject=new_id(), created_at=now,
    )  # fmt: skip
    new = tokens.generate("test")
    key = ApiKey(
        id=new_id(), tenant_id=tenant_id, member_id=leaver.id, prefix=new.prefix, secret_hash=new.secret_hash,
        expires_at=now + timedelta(days=1), created_at=now,
    )  # fmt: skip
    run = Run(
        id=run_id, tenant_id=tenant_id, member_id=leaver.id, feature=feature, idempotency_key=run_id,
        request_digest="x", key_id=key.id, granted=[], state="waiting", model="x", prompt_version="x", issuer_chain=[],
        created_at=now, updated_at=now,
    )  # fmt: skip
    content = RunContent(tenant_id=tenant_id, run_id=run_id, task="matrix", documents=[])
    call = ToolCall(
        id=new_id(), tenant_id=tenant_id, run_id=run_id, call_id="c1", tool="t", effect="write", digest=DIGEST,
        rule="side-effects", state="unknown", started_at=now,
    )  # fmt: skip
    question = Approval(
        id=new_id(), tenant_id=tenant_id, run_id=run_id, call_id="c2", tool="t", effect="write", arguments={},
        digest=DIGEST, reason="asks", requested_by=leaver.id, issuer_chain=[], state="pending", created_at=now,
        expires_at=now + timedelta(hours=1),
    )  # fmt: skip
    loan = Elevation(
        id=new_id(), tenant_id=tenant_id, member_id=leaver.id, key_id=key.id, hands=[], role="viewer", minutes=60,
        reason="asks", state="asked", asked_at=now, ends_at=now + timedelta(hours=1),
    )  # fmt: skip
    code = tokens.generate_claim()
    claim = KeyClaim(
        id=new_id(), tenant_id=tenant_id, member_id=leaver.id, claim_hash=tokens.hash_secret(code), key_days=1,
        created_by=granter.id, created_at=now, expires_at=now + timedelta(days=1),
    )  # fmt: skip
    known = {
        "run_id": run_id, "call_id": call.id, "approval_id": question.id, "key_id": key.id, "member_id": leaver.id,
        "elevation_id": loan.id, "tenant_id": tenant_id, "claim_id": claim.id,
        "claim_code": code,
    }  # fmt: skip
    store.add([leaver, granter, key, run, content, call, question, loan, claim])
    return known


def of_features(tenant_id: str) -> list[Base]:
    """A row in each table of the product's own, filled by its types alone: for a tenant that nobody may look into."""
    found: list[Base] = []
    for mapper in Base.registry.mappers:
        if issubclass(mapper.class_, TenantOwned) and mapper.class_.__module__.startswith("app.features."):
            columns = [column for column in mapper.columns if not column.nullable and column.default is None]
            values = {mapper.get_property_by_column(column).key: _value(column) for column in columns}
            row: Any = mapper.class_(**{**values, "tenant_id": tenant_id})
            found.append(row)
    return found


def _value(column: sa.ColumnElement[Any]) -> Any:
    kind = getattr(column.type, "impl", column.type).python_type
    if kind is str:
        return new_id()[: getattr(column.type, "length", None) or 36]
    return utc_now() if "date" in kind.__name__ else kind()
