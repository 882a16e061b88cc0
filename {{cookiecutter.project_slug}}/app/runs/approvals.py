"""Deciding: a person says yes or no to exactly one call, once. Gate: security."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import trail
from app.db.base import utc_now
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.errors import ApprovalExpired, Conflict, Forbidden, NotFound
from app.identity.four_eyes import Asker, Rule, require_another_person, rule_between
from app.identity.principal import Principal
from app.runs.models import Run
from app.runs.state import RunStore
from app.tools.models import SHOWN_TO_APPROVER, Approval, ToolCall


@dataclass(frozen=True)
class Approvals:
    db: Database
    store: RunStore
    distinct_holders: bool = True  # REQUIRE_DISTINCT_KEY_HOLDERS

    async def page(
        self, caller: Principal, *, state: str | None, run_id: str | None = None, before: str | None, limit: int
    ) -> Sequence[Approval]:
        query = select(Approval).options(*SHOWN_TO_APPROVER).order_by(Approval.id.desc()).limit(limit)
        if state:
            query = query.where(Approval.state == state)
        if run_id:
            query = query.where(Approval.run_id == run_id)
        if before:
            query = query.where(Approval.id < before)
        async with self.db.read(caller) as session:
            return list(await session.scalars(query))

    async def decided(self, caller: Principal, *, limit: int) -> Sequence[Approval]:
        """What people decided, latest first."""
        query = select(Approval).where(Approval.four_eyes_rule.is_not(None))
        async with self.db.read(caller) as session:
            return list(await session.scalars(query.order_by(Approval.decided_at.desc()).limit(limit)))

    async def decide(self, caller: Principal, approval_id: str, *, approve: bool, digest: str, reason: str) -> Approval:
        """Record one decision and let the run go on, in one transaction.

        Raises NotFound, Forbidden (whoever decides may be the one who asks), Conflict (decided
        before, or the digest is of something else), ApprovalExpired."""
        caller.require("approvals:decide")  # the routes ask as well; whoever forgets to must not open this
        rule = await self._require_another(caller, approval_id)
        async with self.db.transaction(caller) as session:
            await _lock_run(session, approval_id)
            asked = select(Approval).options(*SHOWN_TO_APPROVER).where(Approval.id == approval_id)
            approval = await session.scalar(asked.with_for_update())
            if approval is None:
                raise NotFound
            _require_decidable(approval, digest)
            approval.state = "approved" if approve else "denied"
            approval.decided_by, approval.decided_at = caller.member_id, utc_now()
            approval.decision_reason, approval.four_eyes_rule = reason, rule
            if not approve:
                await _refuse_call(session, approval, "A person declined this action.")
            await session.flush()
            await self._go_on(session, approval, caller.member_id, reason=reason, four_eyes=rule)
        return approval

    async def _require_another(self, caller: Principal, approval_id: str) -> Rule:
        """Refuse, on record, who may be the one that asked: as themselves, or by a key that they have seen."""
        async with self.db.read(caller) as session:
            approval = await session.scalar(select(Approval).where(Approval.id == approval_id))
        if approval is None:
            raise NotFound
        subject = f"approval:{approval_id}"
        return await require_another_person(self.db, caller, _asker(approval), subject, strict=self.distinct_holders)

    def refusal(self, caller: Principal, approval: Approval) -> str | None:
        """Why the caller may not decide about this one; None where they may."""
        try:
            rule_between(_asker(approval), caller, strict=self.distinct_holders)
        except Forbidden as error:
            return error.detail
        return None

    async def expire_due(self) -> int:
        """Close every question nobody answered in time. Returns how many."""
        late = select(Approval.id).where(Approval.state == "pending", Approval.expires_at <= utc_now()).limit(200)
        async with self.db.read(ALL_TENANTS) as session:
            due = list(await session.scalars(late))
        return sum([await self._expire(approval_id) for approval_id in due])

    async def _expire(self, approval_id: str) -> bool:
        # One transaction each: it ends with the tenant's audit chain locked, and must not then want another run.
        async with self.db.transaction(ALL_TENANTS) as session:
            await _lock_run(session, approval_id)
            pending = select(Approval).where(Approval.id == approval_id, Approval.state == "pending")
            approval = await session.scalar(pending.with_for_update(skip_locked=True))
            if approval is None:
                return False
            approval.state = "expired"
            await _refuse_call(session, approval, "Nobody approved this action in time.")
            await session.flush()
            await self._go_on(session, approval, "service")
        return True

    async def oldest_pending_seconds(self) -> float:
        async with self.db.read(ALL_TENANTS) as session:
            oldest = await session.scalar(select(func.min(Approval.created_at)).where(Approval.state == "pending"))
        return max(0.0, (utc_now() - oldest).total_seconds()) if oldest else 0.0

    async def _go_on(self, session: AsyncSession, approval: Approval, actor: str, **facts: str) -> None:
        run = await session.get_one(Run, approval.run_id, with_for_update=True, populate_existing=True)
        await self.store.resume_if_decided(session, run)
        await trail.append(
            session, approval.tenant_id, actor, f"approval.{approval.state}", f"run:{approval.run_id}",
            approval=approval.id, digest=approval.digest, tool=approval.tool, **facts,
        )  # fmt: skip


def _asker(approval: Approval) -> Asker:
    return Asker(approval.requested_by, approval.issuer_chain)


async def _lock_run(session: AsyncSession, approval_id: str) -> None:
    """The run first and its questions then, as everybody who ends or moves a run: else two wait for each other."""
    run_id = await session.scalar(select(Approval.run_id).where(Approval.id == approval_id))
    if run_id is not None:
        await session.scalar(select(Run).where(Run.id == run_id).with_for_update())


def _require_decidable(approval: Approval, digest: str) -> None:
    if approval.state == "expired" or (approval.state == "pending" and approval.expires_at <= utc_now()):
        raise ApprovalExpired
    if approval.state != "pending":
        raise Conflict("This approval has been decided already.")
    if not hmac.compare_digest(approval.digest.encode(), digest.encode()):
        raise Conflict("The digest is not that of this action; load it again.")


async def _refuse_call(session: AsyncSession, approval: Approval, reason: str) -> None:
    await session.execute(
        update(ToolCall)
        .where(ToolCall.run_id == approval.run_id, ToolCall.call_id == approval.call_id, ToolCall.state == "waiting")
        .values(state="denied", finished_at=utc_now(), result={"refused": reason})
        .execution_options(synchronize_session=False)
    )
