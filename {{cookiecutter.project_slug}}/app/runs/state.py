"""A run's row and its transitions; each checks the state it leaves, so a late or repeated one is void.

Gate: errors.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import trail
from app.db.base import utc_now
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.errors import Conflict, NotFound, RunCancelled, RunDeadLettered
from app.gateway.routing import Route
from app.identity.principal import Principal
from app.runs.engine import RunQueue
from app.runs.models import Run, RunContent
from app.telemetry.metrics import RUNS
from app.tools.models import Approval, ToolCall

ENDED = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True)
class RunStore:
    db: Database
    queue: RunQueue

    async def starts(self, run_id: str, segment: int) -> int:
        """How often this segment was started before; each time but this one ended with its process."""
        async with self.db.read(ALL_TENANTS) as session:
            found = (await session.execute(select(Run.segment, Run.starts).where(Run.id == run_id))).one()
        return found.starts if found.segment == segment else 0

    async def count_start(self, run_id: str, segment: int) -> None:
        async with self.db.transaction(ALL_TENANTS) as session:
            run = await _locked(session, run_id)
            if run.segment == segment:
                run.starts += 1

    async def uncount_start(self, run_id: str, segment: int) -> None:
        """Take a start back that ended with its worker's orderly end: no sign of work that kills its process."""
        async with self.db.transaction(ALL_TENANTS) as session:
            run = await _locked(session, run_id)
            if run.segment == segment and run.starts > 0:
                run.starts -= 1

    async def require_running(self, run_id: str) -> None:
        """Raise RunCancelled unless the run may still act; asked before each tool call."""
        async with self.db.read(ALL_TENANTS) as session:
            if await session.scalar(select(Run.state).where(Run.id == run_id)) in ENDED:
                raise RunCancelled

    async def begin_segment(self, run_id: str, segment: int) -> dict[str, Any] | None:
        """Mark the run as running and return what a segment needs; None when it is not this segment's turn."""
        async with self.db.transaction(ALL_TENANTS) as session:
            run = await _locked(session, run_id)
            if run.segment != segment or run.state not in {"queued", "running"}:
                return None
            run.state, run.updated_at = "running", utc_now()
            content = await session.get_one(RunContent, run_id)
            return {
                "id": run.id,
                "tenant_id": run.tenant_id,
                "member_id": run.member_id,
                "feature": run.feature,
                "task": content.task,
                "documents": content.documents,
                "granted": run.granted,
                "key_id": run.key_id,
                "issuer_chain": run.issuer_chain,
                "history": content.history,
                "limits": run.limits,
                "used": run.used or {},
                "prompt_version": run.prompt_version,
                "decisions": await _decisions(session, run_id),
            }

    async def wait(self, run_id: str, segment: int, history: str, used: dict[str, int]) -> str:
        """Park the run until its questions are decided; go on at once if they already are."""
        async with self.db.transaction(ALL_TENANTS) as session:
            run = await _locked(session, run_id)
            if not _current(run, segment):
                return run.state
            run.state, run.updated_at, run.used = "waiting", utc_now(), used
            await _keep_history(session, run_id, history)
            await session.flush()
            await self.resume_if_decided(session, run)
            return run.state

    async def resume_if_decided(self, session: AsyncSession, run: Run) -> None:
        """Enqueue the next segment once no question of a waiting run is open. Call with the run locked."""
        if run.state != "waiting":
            return
        open_question = select(Approval.id).where(Approval.run_id == run.id, Approval.state == "pending").limit(1)
        if await session.scalar(open_question) is not None:
            return
        run.state, run.segment, run.starts, run.updated_at = "queued", run.segment + 1, 0, utc_now()
        await session.flush()
        await self.queue.enqueue(session, run.id, run.segment)

    async def succeed(self, run_id: str, segment: int, history: str, output: Any) -> str:
        return await self._end(run_id, segment, "succeeded", history=history, output=output)

    async def note_answer(self, run_id: str, route: Route, model: str, stood_in: bool) -> None:
        """How a model call of it was routed, and whether another model answered; what is as expected is not written."""
        chosen = {} if route.reason == "asked" else {"route": route.as_data(), "model": model}
        changes = {**chosen, **({"degraded": True} if stood_in else {})}
        if changes:
            async with self.db.transaction(ALL_TENANTS) as session:
                await session.execute(update(Run).where(Run.id == run_id).values(**changes))

    async def fail(self, run_id: str, segment: int, code: str, detail: str) -> str:
        return await self._end(run_id, segment, "failed", error_code=code, error_detail=detail[:300])

    async def stale(self, before: datetime) -> list[tuple[str, int]]:
        """Runs that should be moving and have not been touched since `before`, with their segment."""
        query = select(Run.id, Run.segment).where(Run.state.in_(("queued", "running")), Run.updated_at < before)
        async with self.db.read(ALL_TENANTS) as session:
            return [(row.id, row.segment) for row in await session.execute(query.limit(200))]

    async def abandon(self, run_id: str, segment: int) -> None:
        """End a run that the engine has given up, so that its owner hears of it."""
        async with self.db.transaction(ALL_TENANTS) as session:
            run = await _locked(session, run_id)
            if run.segment == segment and run.state == "queued":
                run.state = "running"
        await self.fail(run_id, segment, RunDeadLettered.row.code, RunDeadLettered.row.title)

    async def close_cut_off(self, before: datetime) -> None:
        """Tool calls at work in runs that ended before: nobody will say what became of them, a person has to look."""
        at_work = select(ToolCall.id).join(Run, Run.id == ToolCall.run_id).where(ToolCall.state == "started")
        query = at_work.where(Run.state.in_(ENDED), Run.ended_at < before).limit(200)
        async with self.db.read(ALL_TENANTS) as session:
            ids = list(await session.scalars(query))
        for call_id in ids:
            async with self.db.transaction(ALL_TENANTS) as session:
                call = await session.get_one(ToolCall, call_id, with_for_update=True)
                if call.state == "started":
                    call.state, call.finished_at = "unknown", utc_now()
                    call.result = {"refused": "The run ended while the tool was working."}
                    facts = {"tool": call.tool, "call": call.call_id}
                    await trail.append(session, call.tenant_id, "system", "tool.unknown", f"run:{call.run_id}", **facts)

    async def cancel(self, caller: Principal, run_id: str, reason: str) -> None:
        """End a run at its caller's wish: nothing of it starts from now on, and what is under way is stopped.

        Again is no change. Raises NotFound, Conflict when it has ended otherwise."""
        async with self.db.transaction(caller) as session:
            run = await session.scalar(select(Run).where(Run.id == run_id).with_for_update())
            if run is None:
                raise NotFound
            if run.state == "cancelled":
                return
            if run.state in ENDED:
                raise Conflict("This task has ended already.")
            run.error_code, run.error_detail = RunCancelled.row.code, RunCancelled.row.title
            await _ended(session, run, "cancelled", caller.member_id, reason=reason)
        RUNS.labels(run.feature, RunCancelled.row.code).inc()

    async def kill(self, run_id: str, actor: str, reason: str) -> None:
        """The same at an operator's wish, whoever's run it is. Raises NotFound, Conflict."""
        async with self.db.read(ALL_TENANTS) as session:
            tenant_id = await session.scalar(select(Run.tenant_id).where(Run.id == run_id))
        if tenant_id is None:
            raise NotFound("There is no such run.")
        await self.cancel(operator_of(tenant_id, actor), run_id, reason)

    async def _end(self, run_id: str, segment: int, state: str, *, history: str | None = None, **values: Any) -> str:
        async with self.db.transaction(ALL_TENANTS) as session:
            run = await _locked(session, run_id)
            if not _current(run, segment):
                return run.state
            for name, value in values.items():
                setattr(run, name, value)
            if history is not None:
                await _keep_history(session, run_id, history)
            await _ended(session, run, state, run.member_id)
        RUNS.labels(run.feature, run.error_code or state).inc()
        return state


def operator_of(tenant_id: str, actor: str) -> Principal:
    """An operator acting on one tenant: authority over runs is not checked here but where the command is given."""
    return Principal(tenant_id, actor, actor, frozenset(), frozenset(), key_id="")


async def _ended(session: AsyncSession, run: Run, state: str, actor: str, **facts: str) -> None:
    run.state, run.updated_at, run.ended_at = state, utc_now(), utc_now()
    await _close_questions(session, run.id)
    await session.flush()
    await trail.append(session, run.tenant_id, actor, f"run.{state}", f"run:{run.id}", code=run.error_code, **facts)


async def _close_questions(session: AsyncSession, run_id: str) -> None:
    """A run that ends with questions open will never act on them: nobody should be left to answer one."""
    unseen = {"synchronize_session": False}
    open_questions = update(Approval).where(Approval.run_id == run_id, Approval.state.in_(("pending", "approved")))
    await session.execute(open_questions.values(state="expired"), execution_options=unseen)
    refused = {"refused": "The run ended before this was decided."}
    waiting = update(ToolCall).where(ToolCall.run_id == run_id, ToolCall.state == "waiting")
    await session.execute(waiting.values(state="denied", result=refused), execution_options=unseen)


async def _locked(session: AsyncSession, run_id: str) -> Run:
    return await session.get_one(Run, run_id, with_for_update=True, populate_existing=True)


async def _keep_history(session: AsyncSession, run_id: str, history: str) -> None:
    its = update(RunContent).where(RunContent.run_id == run_id).values(history=history)
    await session.execute(its, execution_options={"synchronize_session": False})


def _current(run: Run, segment: int) -> bool:
    return run.segment == segment and run.state == "running"


async def _decisions(session: AsyncSession, run_id: str) -> dict[str, str | None]:
    """For each decided question: None for yes, the text for the model for no."""
    answers: dict[str, str | None] = {}
    for approval in await session.execute(select(Approval.call_id, Approval.state).where(Approval.run_id == run_id)):
        match approval.state:
            case "approved" | "used":
                answers[approval.call_id] = None
            case "denied":
                answers[approval.call_id] = "A person declined this action."
            case "stale":
                answers[approval.call_id] = "What this would change has itself changed since it was approved."
            case "expired":
                answers[approval.call_id] = "Nobody approved this action in time."
    return answers
