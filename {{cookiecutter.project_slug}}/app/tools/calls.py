"""The record of tool calls and approvals: intent before, outcome after, approvals used once.

Gate: security, errors.
"""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import rfc8785
from pydantic import BaseModel
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer

from app.audit import trail
from app.db.base import new_id, utc_now
from app.db.engine import Database
from app.db.unique import insert_or_existing
from app.identity.principal import Principal
from app.policy.decision import Allow, AskHuman, Deny
from app.policy.taint import Taint
from app.tools.call_rows import approval_of, approval_row, record_of, record_or_new, record_row
from app.tools.caller import CallerOfRun
from app.tools.models import Approval, ToolCall
from app.tools.outcome import Outcome, Performed, Refused
from app.tools.spec import ToolSpec


@dataclass(frozen=True)
class Call:
    caller: CallerOfRun
    call_id: str  # the model's id of the call: stable across replays of a segment
    spec: ToolSpec
    arguments: BaseModel
    principal: Principal

    @property
    def run_id(self) -> str:
        return self.caller.run_id

    @property
    def idempotency_key(self) -> str:
        return f"{self.run_id}:{self.call_id}"

    @cached_property
    def payload(self) -> dict[str, Any]:
        return self.arguments.model_dump(mode="json")

    @property
    def is_canonical(self) -> bool:
        """Whether canonical JSON can hold the arguments: integers beyond 2**53 have no exact form there."""
        try:
            rfc8785.dumps(self.payload)
        except rfc8785.CanonicalizationError:
            return False
        return True

    def digest(self, policy_version: str) -> str:
        """SHA-256 over everything an approval is bound to, in canonical JSON (RFC 8785)."""
        return hashlib.sha256(
            rfc8785.dumps(
                {
                    "tool": self.spec.name,
                    "arguments": self.payload,
                    "tenant": self.principal.tenant_id,
                    "member": self.principal.member_id,
                    "run": self.run_id,
                    "policy": policy_version,
                }
            )
        ).hexdigest()


READ_BY_MODEL = ("done", "failed", "unknown")  # a failure's text reaches the model as well


@dataclass(frozen=True)
class CallBook:
    db: Database
    policy_version: str
    approval_ttl: timedelta

    async def earlier(self, call: Call) -> Outcome | None:
        """What an earlier attempt at this very call left behind; None when it may (still) run.

        After a crash between intent and outcome nobody knows whether the effect happened. Only a
        tool that passes its idempotency key on may be started again; any other is reported unknown."""
        async with self.db.transaction(call.principal) as session:
            record = await record_row(session, call, undefer(ToolCall.result))
            if record is None:
                return None
            if record.digest != call.digest(self.policy_version):
                return await self._changed(session, call, record)
            if record.state == "waiting":
                return None
            if record.state == "started" and call.spec.idempotent:
                return None
            if record.state == "started":
                await self._unknown(session, call, record)
            result = record.result or {}
            if record.state == "done":
                return Performed(result.get("value"))
            return Refused(result.get("refused") or "What became of this call is no longer on record.")

    async def _unknown(self, session: AsyncSession, call: Call, record: ToolCall) -> None:
        record.state, record.finished_at = "unknown", utc_now()
        record.result = {"refused": "The service stopped while this ran; its outcome is unknown."}
        await _audit(session, call, "tool.unknown")

    async def _changed(self, session: AsyncSession, call: Call, record: ToolCall) -> Refused:
        """The id was used for another call of the run, or the policy changed since the call was asked about."""
        refusal = Refused("This is not the call that was asked about before; start over with a new one.")
        if record.state == "waiting":
            record.state, record.finished_at, record.result = "denied", utc_now(), {"refused": refusal.reason}
        elif record.state == "started":  # before the policy changed; it is not started again under another
            await self._unknown(session, call, record)
        await _audit(session, call, "tool.denied", rule="changed", digest=call.digest(self.policy_version))
        return refusal

    async def taint(self, call: Call, taint: Taint) -> Taint:
        """Add every tool whose result this run has already read."""
        done = select(ToolCall.tool).where(ToolCall.run_id == call.run_id, ToolCall.state.in_(READ_BY_MODEL)).distinct()
        async with self.db.read(call.principal) as session:
            for name in await session.scalars(done):
                taint = taint.with_source(f"tool:{name}")
        return taint

    async def was_declined(self, call: Call) -> bool:
        """Whether a person said no to exactly this, under another id: asking again and again would wear them out."""
        digest = call.digest(self.policy_version)
        said_no = select(Approval.id).where(
            Approval.run_id == call.run_id, Approval.digest == digest, Approval.state == "denied"
        )
        async with self.db.read(call.principal) as session:
            return await session.scalar(said_no.limit(1)) is not None

    async def deny(self, call: Call, denied: Deny) -> Refused:
        refusal = Refused(f"This action is not allowed here: {denied.reason}.")
        async with self.db.transaction(call.principal) as session:
            record, _ = await record_or_new(session, call, denied.rule)
            record.state, record.finished_at, record.result = "denied", utc_now(), {"refused": refusal.reason}
            record.digest = call.digest(self.policy_version)
            await _audit(session, call, "tool.denied", rule=denied.rule)
        return refusal

    async def ask(self, call: Call, question: AskHuman, change: dict[str, Any] | None) -> str:
        """Put the question to a person; asking twice for the same call is the same question."""
        now, digest = utc_now(), call.digest(self.policy_version)
        async with self.db.transaction(call.principal) as session:
            if (asked := await approval_row(session, call)) is not None:
                return asked.id
            record, _ = await record_or_new(session, call, question.rule)
            made = Approval(
                id=new_id(), tenant_id=call.principal.tenant_id, run_id=call.run_id, call_id=call.call_id,
                tool=call.spec.name, effect=call.spec.effect, arguments=call.payload, change=change, digest=digest,
                reason=question.reason, requested_by=call.principal.member_id,
                issuer_chain=call.caller.issuer_chain, state="pending", created_at=now,
                expires_at=now + self.approval_ttl,
            )  # fmt: skip
            approval, inserted = await insert_or_existing(session, made, approval_of(call))
            if inserted:
                record.state, record.digest, record.rule = "waiting", digest, question.rule
                await _audit(session, call, "approval.asked", rule=question.rule, approval=approval.id, digest=digest)
        return approval.id

    async def start(self, call: Call, allowed: Allow) -> bool:
        """Put the intent on record; False where another attempt at this call did so first, and `earlier` has to say."""
        async with self.db.transaction(call.principal) as session:
            record, inserted = await record_or_new(session, call, allowed.rule)
            may_start = inserted or record.state == "waiting" or (record.state == "started" and call.spec.idempotent)
            if may_start:
                await self._intend(session, call, allowed.rule)
        return may_start

    async def start_approved(
        self, call: Call, question: AskHuman, change: dict[str, Any] | None = None
    ) -> Refused | None:
        """Use the approval and record the intent in one transaction; Refused when it does not cover this call.

        What was shown as the state before must still be the state: else the person decided about something else."""
        digest = call.digest(self.policy_version)
        async with self.db.transaction(call.principal) as session:
            shown = await approval_row(session, call)
            if shown is not None and shown.state == "approved" and _differs(shown.change, change):
                return await self._stale(session, call, shown)
            used = await session.scalar(
                update(Approval)
                .where(
                    Approval.run_id == call.run_id,
                    Approval.call_id == call.call_id,
                    Approval.state == "approved",
                    Approval.digest == digest,
                    Approval.expires_at > utc_now(),
                    Approval.decided_by != call.principal.member_id,
                )
                .values(state="used")
                .returning(Approval.id)
                .execution_options(synchronize_session=False)
            )
            record = await record_row(session, call)
            is_same = record is not None and record.state == "started" and record.digest == digest
            restarted = is_same and call.spec.idempotent
            if used is None and not restarted:
                refusal = Refused("The approval does not cover this call, has expired or was used before.")
                if record is not None and record.state == "waiting":
                    record.state, record.finished_at, record.result = "denied", utc_now(), {"refused": refusal.reason}
                await _audit(session, call, "tool.denied", rule="approval", digest=digest)
                return refusal
            await self._intend(session, call, question.rule, approval=used)
        return None

    async def _stale(self, session: AsyncSession, call: Call, shown: Approval) -> Refused:
        refusal = Refused("What this would change has itself changed since it was approved; ask again.")
        shown.state = "stale"
        record = await record_row(session, call)
        if record is not None:
            record.state, record.finished_at, record.result = "denied", utc_now(), {"refused": refusal.reason}
        await _audit(session, call, "tool.denied", rule="stale", digest=call.digest(self.policy_version))
        return refusal

    async def _intend(self, session: AsyncSession, call: Call, rule: str, **data: Any) -> None:
        record, _ = await record_or_new(session, call, rule)
        record.state, record.digest, record.rule = "started", call.digest(self.policy_version), rule
        await _audit(session, call, "tool.started", rule=rule, digest=record.digest, policy=self.policy_version, **data)

    async def cut_off(self, call: Call) -> None:
        """Record that the run ended while the tool was working: whether the effect happened is not known.

        Does nothing where its intent did not come to be recorded, or its outcome has been."""
        async with self.db.transaction(call.principal) as session:
            record = await record_row(session, call)
            if record is None or record.state != "started":
                return
            record.state, record.finished_at = "unknown", utc_now()
            record.result = {"refused": "The run ended while the tool was working."}
            await _audit(session, call, "tool.unknown")

    async def finish(self, call: Call, state: str, outcome: Performed | Refused, **facts: str) -> Outcome:
        """Record what a tool's work came to.

        It may come late, from a worker that was taken for dead: what a person has found out meanwhile stays."""
        async with self.db.transaction(call.principal) as session:
            record = await session.scalar(record_of(call).with_for_update())
            if record is None:
                raise LookupError("a tool finished that was never started")
            if record.resolution is None:
                result = {"value": outcome.value} if isinstance(outcome, Performed) else {"refused": outcome.reason}
                record.state, record.finished_at, record.result = state, utc_now(), result
            await _audit(session, call, f"tool.{state}", **facts)
        return outcome


def _differs(shown: dict[str, Any] | None, now: dict[str, Any] | None) -> bool:
    """Whether the call would now change something else, or from something else, than the person was shown."""
    return shown is not None and now != shown


async def _audit(session: AsyncSession, call: Call, action: str, **data: Any) -> None:
    facts = {"tool": call.spec.name, "effect": str(call.spec.effect), "call": call.call_id, **data}
    await trail.append(
        session, call.principal.tenant_id, call.principal.member_id, action, f"run:{call.run_id}", **facts
    )
