"""What happens in a run, as server-sent events.

The events are the run's own records in the audit trail, so a stream can be taken up anywhere with `Last-Event-ID`, by
another process as well. The last event always says how it ends: `run.succeeded`, `run.failed` or `run.cancelled`, or
`stream.interrupted` where the stream ends before the run does. Gate: access, errors.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy import select

from app.api.guards import require
from app.api.runs import RunView
from app.api.state import RuntimeDep
from app.audit.models import AuditEvent
from app.background import run_to_completion
from app.errors import AppError, Conflict, ServiceDraining
from app.identity.principal import Principal
from app.runs.models import Run
from app.runs.progress import Watch, progress, watching
from app.runs.state import ENDED
from app.runtime import Runtime

router = APIRouter(prefix="/v1/runs", tags=["runs"])
ASK_AGAIN_S = 2.0  # how soon a revoked key or a lost role ends a stream
MOST_AT_ONCE = 500  # records
LONGEST_S = 15 * 60  # then the client connects again
SHOWN = (
    "tool",
    "effect",
    "call",
    "rule",
    "approval",
    "code",
    "feature",
)  # facts of a record that its run's reader may see
LastEvent = Annotated[str | None, Header(alias="Last-Event-ID", pattern=r"^[0-9]{1,15}$")]


async def _run(
    run_id: str,
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("runs:read")],
    while_connected: Annotated[bool, Query(description="cancel the run when this client hangs up")] = False,
) -> Run:
    """The run, before the answer has begun: what is wrong is still an error of its own."""
    if while_connected:
        principal.require("runs:write")
    return await runtime.intake.get(principal, run_id)


@router.get("/{run_id}/events", response_class=EventSourceResponse)
async def stream_events(
    request: Request,
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("runs:read")],
    run: Annotated[Run, Depends(_run)],
    after: LastEvent = None,
    while_connected: bool = False,
) -> AsyncIterator[ServerSentEvent]:
    """Every event of the run so far, or since `Last-Event-ID`, and each new one until it ends."""
    async with _bound(runtime, principal, run, while_connected=while_connected):
        with watching(runtime.db, run.id) as watch:
            reading = _Reading(request, runtime, principal)
            async with aclosing(_events(watch, reading, run, int(after or 0))) as events:
                async for each in events:
                    yield each


async def _events(watch: Watch, reading: "_Reading", run: Run, seen: int) -> AsyncGenerator[ServerSentEvent]:
    runtime, principal, is_time = reading.runtime, reading.reader, True
    while True:
        current = await progress(runtime.db, principal, run.id) if is_time else None
        more = current is not None and (current.sequence > seen or current.state in ENDED)
        records = await _since(runtime, principal, run.id, seen) if more else []
        for record in records:
            seen = record.sequence
            yield await _event(runtime, principal, run.id, record)
            if _is_end(record):
                return
        if current is not None and current.state in ENDED and len(records) < MOST_AT_ONCE:
            # Read to its end before, as `Last-Event-ID` says: the end is said again.
            for record in await _since(runtime, principal, run.id, 0, f"run.{current.state}"):
                yield await _event(runtime, principal, run.id, record)
            return
        try:
            await reading.require_open()
        except AppError as error:
            told = {"code": error.row.code, "detail": error.detail, "retryable": error.row.retryable}
            yield ServerSentEvent(event="stream.interrupted", data=told)
            return
        is_time = len(records) == MOST_AT_ONCE or await watch.wait()


@dataclass
class _Reading:
    """Who reads a stream, and since when."""

    request: Request
    runtime: Runtime
    reader: Principal
    began: float = field(default_factory=time.monotonic)
    asked: float = field(default_factory=time.monotonic)

    async def require_open(self) -> None:
        """Raises what ends the stream: the process shall end, the reader may no longer read, it has gone on long."""
        if self.request.app.state.draining.is_set() or time.monotonic() - self.began > LONGEST_S:
            raise ServiceDraining
        if time.monotonic() - self.asked > ASK_AGAIN_S:
            self.asked = time.monotonic()
            (await self.runtime.directory.again(self.reader)).require("runs:read")


@asynccontextmanager
async def _bound(runtime: Runtime, caller: Principal, run: Run, *, while_connected: bool) -> AsyncGenerator[None]:
    """With `while_connected`, the run does not outlive the client that reads it."""
    finished = False
    try:
        yield
        finished = True
    finally:
        if while_connected and not finished:
            await run_to_completion(_cancel(runtime, caller, run))


async def _cancel(runtime: Runtime, caller: Principal, run: Run) -> None:
    with anyio.move_on_after(5), suppress(Conflict):  # it may have ended by itself at the same moment
        await runtime.store.cancel(caller, run.id, "its client hung up")


async def _since(
    runtime: Runtime, principal: Principal, run_id: str, sequence: int, action: str = ""
) -> list[AuditEvent]:
    query = select(AuditEvent).where(AuditEvent.subject == f"run:{run_id}", AuditEvent.sequence > sequence)
    if action:
        query = query.where(AuditEvent.action == action)
    async with runtime.db.read(principal) as session:
        return list(await session.scalars(query.order_by(AuditEvent.sequence).limit(MOST_AT_ONCE)))


def _is_end(record: AuditEvent) -> bool:
    return record.action.removeprefix("run.") in ENDED


async def _event(runtime: Runtime, principal: Principal, run_id: str, record: AuditEvent) -> ServerSentEvent:
    number = str(record.sequence)
    if _is_end(record):
        run = await runtime.intake.get(principal, run_id)  # read after its record: it says how it ended
        view = RunView.of(run, await runtime.spend.of_run(principal, run.id))
        return ServerSentEvent(event=record.action, id=number, data=view)
    facts: dict[str, Any] = {name: record.data[name] for name in SHOWN if record.data.get(name) is not None}
    return ServerSentEvent(event=record.action, id=number, data=facts)
