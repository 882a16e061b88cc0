"""Tenant isolation as structure: a predicate added to every ORM query, not remembered by its author.

Gate: access.
"""

from typing import Protocol

from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from app.db.base import TenantOwned


class TenantScope(Protocol):
    """Anything that says whose data may be touched; a `Principal` is one."""

    @property
    def tenant_id(self) -> str: ...


class AllTenants:
    """The scope of platform work (sweepers, migrations, sign-in before the tenant is known).

    A class of its own so that every use is found by searching for `ALL_TENANTS`."""

    tenant_id = "*"


ALL_TENANTS = AllTenants()
_KEY = "tenant_id"


def bind(session: Session, scope: TenantScope) -> None:
    """Tie a session to one tenant: reads and bulk writes are filtered, foreign inserts refused."""
    session.info[_KEY] = scope.tenant_id


@event.listens_for(Session, "do_orm_execute")
def _filter_by_tenant(state: ORMExecuteState) -> None:
    tenant_id = state.session.info.get(_KEY, "")  # an unbound session sees nothing
    if tenant_id == AllTenants.tenant_id or state.is_column_load or state.is_relationship_load:
        return
    _refuse_unfiltered(state)
    state.statement = state.statement.options(
        with_loader_criteria(TenantOwned, lambda cls: cls.tenant_id == tenant_id, include_aliases=True)
    )


def _refuse_unfiltered(state: ORMExecuteState) -> None:
    """Refuse the shapes of statement that a filter cannot be added to: they belong to platform work."""
    if not state.is_orm_statement or state.is_from_statement:
        raise RuntimeError("only ORM queries in a tenant's transaction: text and Core statements escape its filter")
    if state.is_insert:
        raise RuntimeError("add rows with session.add in a tenant's transaction: INSERT escapes its check")
    if state.is_update and isinstance(state.parameters, list):
        raise RuntimeError("no bulk UPDATE by primary key in a tenant's transaction: it escapes its filter")
    changed = getattr(state.statement, "_values", None) or {}
    if any(getattr(column, "key", column) == _KEY for column in changed):
        raise RuntimeError("a row does not change its tenant")


@event.listens_for(Session, "before_flush")
def _refuse_foreign_rows(session: Session, _context: object, _instances: object) -> None:
    tenant_id = session.info.get(_KEY, "")
    if tenant_id == AllTenants.tenant_id:
        return
    for row in (*session.new, *session.dirty, *session.deleted):
        if isinstance(row, TenantOwned) and row.tenant_id != tenant_id:
            raise RuntimeError(f"{type(row).__name__} of another tenant in this transaction")
