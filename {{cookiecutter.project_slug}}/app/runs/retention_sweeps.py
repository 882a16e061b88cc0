"""What retention deletes, table by table: each sweep finds what is due and deletes one batch of it.

What somebody still needs is never due: runs that have not ended, calls whose outcome nobody knows yet, holds and open
budget windows. Sums by day come from the model calls, so these are kept as long as records are. Gate: observability.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.budgets.models import BudgetCap, BudgetWindow, ModelCall
from app.db.base import Base, utc_now
from app.gateway.models import CachedAnswer
from app.identity.models import ApiKey, Elevation, KeyClaim
from app.runs.models import Run, RunContent
from app.runs.retention_periods import Cutoffs
from app.runs.state import ENDED
from app.tools.models import Approval, ToolCall

KEPT = "kept"
# Every table of the template: the period after which its rows, or what they hold, go. A feature's table says it itself,
# in `__table_args__ = {"info": {"retention": "…"}}`.
TABLES: Mapping[str, str] = {
    "run_contents": "history: the conversation; content: the row",
    "runs": "content: the answer; records: the row",
    "tool_calls": "content: the result; records: the row, with its run",
    "approvals": "content: arguments and change; records: the row, with its run",
    "cached_answers": "content, or sooner as config/models.toml says",
    "model_calls": "records: no content; usage, budgets and reconciliation are sums over it",
    "budget_windows": "records: after the window has closed, of a run with the run",
    "budget_caps": "a run's own with the run; others are kept: what is set holds",
    "api_keys": "records: after the key has expired or was revoked",
    "key_claims": "records: after it has expired",
    "elevations": "records: after it has ended",
    "audit_events": f"{KEPT}: no content, and each record holds the next one's hash",
    "audit_heads": f"{KEPT}: the end of a chain",
    "tenants": f"{KEPT}: whose everything is",
    "members": f"{KEPT}: the audit trail names them",
    "switches": f"{KEPT}: only those that are on have a row",
    "tenant_retention": f"{KEPT}: one row a tenant",
    "database_environment": f"{KEPT}: one row, whose database it is",
    "schema_revisions": f"{KEPT}: one row a migration",
}


@dataclass(frozen=True)
class Sweep:
    """`due` selects the keys of what goes; `remove` deletes what hangs on some of them, and says how many rows went."""

    kind: str
    due: Callable[[str, Cutoffs], sa.Select[str]]
    remove: Callable[[AsyncSession, list[str]], Awaitable[int]]


def retention_of(table: sa.Table) -> str | None:
    """What this table says about how long its rows are kept; None where nobody has decided it."""
    return TABLES.get(table.name) or table.info.get("retention")


def undecided() -> list[str]:
    return sorted(table.name for table in Base.metadata.tables.values() if retention_of(table) is None)


# Its arguments are what a person needs to find out what happened.
_OPEN_QUESTION = (
    select(ToolCall.id)
    .where(ToolCall.run_id == Run.id, ToolCall.state == "unknown", ToolCall.resolution.is_(None))
    .exists()
)
_HELD = select(ModelCall.id).where(ModelCall.run_id == Run.id, ModelCall.state == "held").exists()


def ended_runs(tenant_id: str) -> sa.Select[str]:
    """Runs of a tenant that nobody needs any more for what is to be done."""
    its = select(Run.id).where(Run.tenant_id == tenant_id, Run.state.in_(ENDED), ~_OPEN_QUESTION, ~_HELD)
    return its.order_by(Run.ended_at)


def _histories(tenant_id: str, cutoffs: Cutoffs) -> sa.Select[str]:
    return ended_runs(tenant_id).where(Run.ended_at < cutoffs.history, Run.history_deleted_at.is_(None))


async def _remove_histories(session: AsyncSession, ids: list[str]) -> int:
    await _update(session, update(RunContent).where(RunContent.run_id.in_(ids)).values(history=None))
    await _update(session, update(Run).where(Run.id.in_(ids)).values(history_deleted_at=utc_now()))
    return len(ids)


def _contents(tenant_id: str, cutoffs: Cutoffs) -> sa.Select[str]:
    return ended_runs(tenant_id).where(Run.ended_at < cutoffs.content, Run.content_deleted_at.is_(None))


async def _remove_contents(session: AsyncSession, ids: list[str]) -> int:
    await _update(session, delete(RunContent).where(RunContent.run_id.in_(ids)))
    await _update(session, update(ToolCall).where(ToolCall.run_id.in_(ids)).values(result=sa.null()))
    gone = update(Approval).where(Approval.run_id.in_(ids)).values(arguments=sa.null(), change=sa.null())
    await _update(session, gone)
    await _update(session, update(Run).where(Run.id.in_(ids)).values(output=sa.null(), content_deleted_at=utc_now()))
    return len(ids)


def _answers(tenant_id: str, cutoffs: Cutoffs) -> sa.Select[str]:
    return select(CachedAnswer.key).where(CachedAnswer.tenant_id == tenant_id, CachedAnswer.kept_at < cutoffs.content)


async def _remove_answers(session: AsyncSession, keys: list[str]) -> int:
    return await _update(session, delete(CachedAnswer).where(CachedAnswer.key.in_(keys)))


def _runs(tenant_id: str, cutoffs: Cutoffs) -> sa.Select[str]:
    return ended_runs(tenant_id).where(Run.ended_at < cutoffs.records)


async def _remove_runs(session: AsyncSession, ids: list[str]) -> int:
    # The content as well: somebody may have answered the run's last question after the sweep of content passed it by.
    await _update(session, delete(RunContent).where(RunContent.run_id.in_(ids)))
    for table in (ToolCall, Approval):
        await _update(session, delete(table).where(table.run_id.in_(ids)))
    for account in (BudgetWindow, BudgetCap):
        await _update(session, delete(account).where(account.scope == "run", account.scope_id.in_(ids)))
    return await _update(session, delete(Run).where(Run.id.in_(ids)))


def _calls(tenant_id: str, cutoffs: Cutoffs) -> sa.Select[str]:
    # As long as its run says what it cost.
    of_run = select(Run.id).where(Run.id == ModelCall.run_id).exists()
    mine = (ModelCall.tenant_id == tenant_id, ModelCall.started_at < cutoffs.records, ModelCall.state != "held")
    return select(ModelCall.id).where(*mine, ~of_run).order_by(ModelCall.started_at)


async def _remove_calls(session: AsyncSession, ids: list[str]) -> int:
    return await _update(session, delete(ModelCall).where(ModelCall.id.in_(ids)))


def _keys(tenant_id: str, cutoffs: Cutoffs) -> sa.Select[str]:
    # A run that goes on has the authority of its key.
    in_use = select(Run.id).where(Run.key_id == ApiKey.id, Run.state.not_in(ENDED)).exists()
    over = sa.or_(ApiKey.expires_at < cutoffs.records, ApiKey.revoked_at < cutoffs.records)
    return select(ApiKey.id).where(ApiKey.tenant_id == tenant_id, over, ~in_use)


async def _remove_keys(session: AsyncSession, ids: list[str]) -> int:
    return await _update(session, delete(ApiKey).where(ApiKey.id.in_(ids)))


def _key_claims(tenant_id: str, cutoffs: Cutoffs) -> sa.Select[str]:
    return select(KeyClaim.id).where(KeyClaim.tenant_id == tenant_id, KeyClaim.expires_at < cutoffs.records)


async def _remove_key_claims(session: AsyncSession, ids: list[str]) -> int:
    return await _update(session, delete(KeyClaim).where(KeyClaim.id.in_(ids)))


def _elevations(tenant_id: str, cutoffs: Cutoffs) -> sa.Select[str]:
    return select(Elevation.id).where(Elevation.tenant_id == tenant_id, Elevation.ends_at < cutoffs.records)


async def _remove_elevations(session: AsyncSession, ids: list[str]) -> int:
    return await _update(session, delete(Elevation).where(Elevation.id.in_(ids)))


# In this order: what is due for a later one was due for those before it, a run's calls go after the run.
SWEEPS = (
    Sweep("history", _histories, _remove_histories),
    Sweep("content", _contents, _remove_contents),
    Sweep("cached_answers", _answers, _remove_answers),
    Sweep("runs", _runs, _remove_runs),
    Sweep("model_calls", _calls, _remove_calls),
    Sweep("api_keys", _keys, _remove_keys),
    Sweep("key_claims", _key_claims, _remove_key_claims),
    Sweep("elevations", _elevations, _remove_elevations),
)


def closed_windows(cutoffs: Cutoffs) -> sa.ColumnElement[bool]:
    """Days and months that ended before; they are of everybody's accounts, so the operator's period alone counts."""
    window, length = BudgetWindow.window, sa.func.length(BudgetWindow.window)
    day = (length == 10) & (window < f"{cutoffs.records:%Y-%m-%d}")
    month = (length == 7) & (window < f"{cutoffs.records:%Y-%m}")
    return (BudgetWindow.scope != "run") & (BudgetWindow.held_micro == 0) & (day | month)


async def _update(session: AsyncSession, statement: sa.Update | sa.Delete) -> int:
    done = await session.execute(statement.execution_options(synchronize_session=False))
    return int(getattr(done, "rowcount", 0))
