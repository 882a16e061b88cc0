"""Tool calls whose outcome nobody knows: the process died, or nothing answered, between intent and outcome.

The service never runs such a call again by itself. A person looks where the effect would be and says what they found.
Gate: errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, tuple_

from app.audit import trail
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.errors import Conflict, NotFound
from app.identity.principal import Principal
from app.tools.models import Approval, ToolCall

_OPEN = (ToolCall.state == "unknown") & ToolCall.resolution.is_(None)


@dataclass(frozen=True)
class UnknownCalls:
    db: Database

    async def open(self, caller: Principal, limit: int = 50) -> Sequence[ToolCall]:
        """Those of the caller's tenant that nobody has looked into, oldest first."""
        async with self.db.read(caller) as session:
            return list(await session.scalars(select(ToolCall).where(_OPEN).order_by(ToolCall.id).limit(limit)))

    async def arguments(self, caller: Principal, calls: Sequence[ToolCall]) -> dict[str, dict[str, Any]]:
        """What those calls were to do, by idempotency key, where a person was asked about it."""
        keys = tuple_(Approval.run_id, Approval.call_id).in_([(call.run_id, call.call_id) for call in calls])
        asked = select(Approval.run_id, Approval.call_id, Approval.arguments).where(keys)
        async with self.db.read(caller) as session:
            return {f"{run_id}:{call_id}": arguments for run_id, call_id, arguments in await session.execute(asked)}

    async def open_count(self) -> int:
        async with self.db.read(ALL_TENANTS) as session:
            return await session.scalar(select(func.count()).select_from(ToolCall).where(_OPEN)) or 0

    async def of_run(self, caller: Principal, run_id: str) -> Sequence[ToolCall]:
        """Every tool call of a run, in order."""
        query = select(ToolCall).where(ToolCall.run_id == run_id).order_by(ToolCall.id)
        async with self.db.read(caller) as session:
            return list(await session.scalars(query))

    async def resolve(self, caller: Principal, call_id: str, *, happened: bool, reason: str) -> ToolCall:
        """Record what a person found out. Once. Raises NotFound, Conflict."""
        async with self.db.transaction(caller) as session:
            call = await session.scalar(select(ToolCall).where(ToolCall.id == call_id).with_for_update())
            if call is None:
                raise NotFound
            if call.state != "unknown" or call.resolution is not None:
                raise Conflict("The outcome of this call is known.")
            call.resolution = "happened" if happened else "did_not_happen"
            call.resolved_by, call.resolution_reason = caller.member_id, reason
            await session.flush()
            await trail.append(
                session, caller.tenant_id, caller.member_id, "tool.resolved", f"run:{call.run_id}",
                call=call.call_id, tool=call.tool, found=call.resolution, reason=reason,
            )  # fmt: skip
        return call
