"""The rows of a tool call: its record and its approval, found by run and call id."""

from typing import TYPE_CHECKING

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer
from sqlalchemy.orm.interfaces import ORMOption

from app.db.base import new_id, utc_now
from app.db.unique import insert_or_existing
from app.tools.models import Approval, ToolCall

if TYPE_CHECKING:
    from app.tools.calls import Call


def record_of(call: "Call") -> Select[ToolCall]:
    return select(ToolCall).where(ToolCall.run_id == call.run_id, ToolCall.call_id == call.call_id)


def approval_of(call: "Call") -> Select[Approval]:
    return select(Approval).where(Approval.run_id == call.run_id, Approval.call_id == call.call_id)


async def record_row(session: AsyncSession, call: "Call", *loaded: ORMOption) -> ToolCall | None:
    return await session.scalar(record_of(call).options(*loaded))


async def approval_row(session: AsyncSession, call: "Call") -> Approval | None:
    return await session.scalar(approval_of(call).options(undefer(Approval.change)))


async def record_or_new(session: AsyncSession, call: "Call", rule: str) -> tuple[ToolCall, bool]:
    """The record of this call, locked, and whether it was made here."""
    if (found := await session.scalar(record_of(call).with_for_update())) is not None:
        return found, False
    record = ToolCall(
        id=new_id(), tenant_id=call.principal.tenant_id, run_id=call.run_id, call_id=call.call_id,
        tool=call.spec.name, effect=call.spec.effect, digest="", rule=rule, state="waiting", started_at=utc_now(),
    )  # fmt: skip
    return await insert_or_existing(session, record, record_of(call).with_for_update())
