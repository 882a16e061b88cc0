"""The durable engine: a run advances in segments that survive `kill -9`.

One workflow per segment. A wait for a person is a row and no workflow, so it lasts for days and
across releases for nothing; the decision and the next segment's enqueueing commit together.
Gate: errors, deployment.
"""

import asyncio
import logging
import math
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import anyio
import structlog
from dbos import DBOS, DBOSClient, DBOSConfig
from pydantic_ai.durable_exec.dbos import DBOSDurability
from sqlalchemy.ext.asyncio import AsyncSession

from app.background import run_to_completion
from app.draining import Drain, checkpoint
from app.runs.liveness import LOST_IDENTITY, FileLocks, Liveness, PostgresLocks
from app.runs.serializer import JsonSerializer
from app.settings import Settings
from app.tools.caller import CallerOfRun

log = structlog.get_logger(__name__)
QUEUE = "runs"
WORKFLOW = "advance_run"
MOVING = frozenset({"PENDING", "ENQUEUED", "DELAYED"})
RECORD_FORMAT = "runs-1"  # raise it only when running segments could not be replayed by new code
ENGINE_STOPS_WITHIN = timedelta(seconds=15)  # once no workflow runs any more
Advance = Callable[[str, int], Awaitable[str]]


class RunQueue(Protocol):
    async def enqueue(self, session: AsyncSession, run_id: str, segment: int) -> None:
        """Have the segment run once the session's transaction commits, and never if it does not."""
        ...

    async def given_up(self, segments: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """Those of the (run, segment) pairs that the engine will never finish."""
        ...

    async def forget(self, runs: Sequence[tuple[str, int]]) -> None:
        """Delete the engine's records of ended runs, given with their last segment: inputs, steps and results."""
        ...


class DurableQueue:
    """Enqueues in the caller's transaction: the engine's tables live in the same database."""

    def __init__(self, settings: Settings) -> None:
        self._client = DBOSClient(
            system_database_url=settings.session_database_url,
            serializer=JsonSerializer(),
            application_name=settings.service.name,
            lazy=True,
        )

    async def enqueue(self, session: AsyncSession, run_id: str, segment: int) -> None:
        await session.run_sync(
            lambda sync: self._client.enqueue_in_transaction(
                sync.connection(),
                {"queue_name": QUEUE, "workflow_name": WORKFLOW, "workflow_id": f"{run_id}:{segment}"},
                run_id,
                segment,
            )
        )

    async def hand_back(self, worker: str) -> list[str]:
        """Enqueue what this worker took and did not finish, for any other one to take. Returns the workflows' ids.

        Only while the worker holds its slot, and after everything it ran has ended."""
        mine = await self._client.list_workflows_async(
            status="PENDING", executor_id=worker, load_input=False, load_output=False
        )
        ids = [workflow.workflow_id for workflow in mine]
        if ids:
            await self._client.resume_workflows_async(ids, queue_name=QUEUE)
        return ids

    async def given_up(self, segments: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        if not segments:
            return []
        ids = {f"{run_id}:{segment}": (run_id, segment) for run_id, segment in segments}
        known = await self._client.list_workflows_async(workflow_ids=list(ids), load_input=False, load_output=False)
        alive = {workflow.workflow_id for workflow in known if workflow.status in MOVING}
        return [segment for workflow_id, segment in ids.items() if workflow_id not in alive]

    async def forget(self, runs: Sequence[tuple[str, int]]) -> None:
        ids = [f"{run_id}:{segment}" for run_id, last in runs for segment in range(1, last + 1)]
        if ids:
            await self._client.delete_workflows_async(ids)

    def close(self) -> None:
        self._client.destroy()


class NoQueue:
    """For a process that advances its runs itself, such as an evaluation."""

    async def enqueue(self, session: AsyncSession, run_id: str, segment: int) -> None:
        """Nothing to do: the caller advances the run."""

    async def given_up(self, segments: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:  # noqa: ARG002
        return []

    async def forget(self, runs: Sequence[tuple[str, int]]) -> None:
        """Nothing to do: there is no engine that would remember."""


async def step(name: str, work: Callable[[], Awaitable[Any]]) -> Any:
    """Run a piece of work once per segment and remember its result across restarts."""
    return await _step({"name": name}, work)


async def at_once(_name: str, work: Callable[[], Awaitable[Any]]) -> Any:
    """Run a piece of work that is part of a step already."""
    return await work()


async def firm_step(name: str, work: Callable[[], Awaitable[Any]]) -> Any:
    """A step that keeps trying while the database is away; only for work that is safe to repeat."""
    return await _step({"name": name, "retries_allowed": True, "max_attempts": 12, "interval_seconds": 0.25}, work)


async def _step(options: Any, work: Callable[[], Awaitable[Any]]) -> Any:
    if DBOS.workflow_id is None:  # an evaluation advances its runs by itself
        return await work()

    async def coroutine_function() -> Any:  # the engine tells async work by the function, not by its result
        return await work()

    return await DBOS.run_step_async(options, coroutine_function)


def durability() -> DBOSDurability[CallerOfRun]:
    """The capability that makes an agent's model calls steps; tool calls run one after another."""
    return DBOSDurability[CallerOfRun](parallel_execution_mode="sequential")


@asynccontextmanager
async def running_worker(settings: Settings, advance: Advance, drain: Drain | None = None) -> AsyncGenerator[str]:
    """Execute queued segments in this process until the context ends; yields the worker's identity.

    It ends in this order, from when `drain` is requested or the context ends: it takes no more work, what is under
    way finishes or stops at a checkpoint, what stopped is handed back to the queue, and the slot is released.
    Where something goes on beyond the grace the process ends, because its slot must not outlive its work.
    Agents must be built before this is entered."""
    drain = drain or Drain(settings.shutdown_grace)
    locks = FileLocks(_lock_folder(settings)) if settings.is_sqlite else PostgresLocks(settings.session_database_url)
    liveness = Liveness(locks)
    config: DBOSConfig = {
        "name": settings.service.name,
        "system_database_url": settings.session_database_url,
        "executor_id": liveness.identity,
        "application_version": RECORD_FORMAT,
        "serializer": JsonSerializer(),
        "log_level": "WARNING",
        "run_migrations": False,
        "db_engine_kwargs": {"hide_parameters": True},  # an error's text must not carry what a caller sent
        "notification_listener_polling_interval_sec": 0.2,
    }
    engine = DBOS(config=config)
    for handler in list(logging.getLogger("dbos").handlers):  # its lines go through ours, as JSON and scrubbed
        logging.getLogger("dbos").removeHandler(handler)
    logging.getLogger("dbos").propagate = True
    logging.getLogger("dbos").addFilter(_carries_no_arguments)

    @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=20)
    async def advance_run(run_id: str, segment: int) -> str:
        with drain.segment():
            await checkpoint()  # one that the queue handed out while it was being stopped does not start
            return await advance(run_id, segment)

    DBOS.launch()
    await DBOS.register_queue_async(QUEUE, worker_concurrency=settings.worker_concurrency, polling_interval_sec=0.1)
    liveness.start()
    closing = asyncio.Event()
    ending = asyncio.create_task(_end(settings, drain, liveness, engine, closing), name="worker-end")
    try:
        yield liveness.identity
    finally:
        if not drain.requested.is_set():
            drain.begin()
        closing.set()
        await run_to_completion(_joined(ending))


def _carries_no_arguments(record: logging.LogRecord) -> bool:
    """The engine reports a cancelled step with the arguments it was called with: prompts, documents, histories."""
    return not record.getMessage().startswith("Asyncio task cancelled for workflow or step")


async def _end(settings: Settings, drain: Drain, liveness: Liveness, engine: DBOS, closing: asyncio.Event) -> None:
    await drain.requested.wait()
    for thread_stops in engine.background_thread_stop_events:  # dequeuing among them; `destroy` does the same first
        thread_stops.set()
    sweeping_ends = asyncio.create_task(anyio.to_thread.run_sync(liveness.stop_sweeping))
    if not await drain.finish():
        log.critical("worker.not_ended")
        os._exit(LOST_IDENTITY)
    await asyncio.wait({sweeping_ends}, timeout=ENGINE_STOPS_WITHIN.total_seconds())
    if not sweeping_ends.done():  # a database that hangs
        log.critical("worker.sweep_not_ended")
        os._exit(LOST_IDENTITY)
    await closing.wait()  # requests still use this process's threads, which the engine takes with it
    await _stop_engine()
    queue = DurableQueue(settings)
    try:
        if handed_back := await queue.hand_back(liveness.identity):
            log.warning("worker.handed_back", segments=len(handed_back))
    except Exception:  # its slot's next owner, or any worker's sweep, finds the segments
        log.exception("worker.hand_back_failed")
    finally:
        queue.close()
        await anyio.to_thread.run_sync(liveness.stop)


async def _stop_engine() -> None:
    """Once no segment runs. Raises nothing: an engine that does not stop ends the process."""
    wait_for_outcomes = math.ceil(ENGINE_STOPS_WITHIN.total_seconds() / 2)
    stopping = asyncio.create_task(
        anyio.to_thread.run_sync(lambda: DBOS.destroy(workflow_completion_timeout_sec=wait_for_outcomes))
    )
    await asyncio.wait({stopping}, timeout=ENGINE_STOPS_WITHIN.total_seconds())
    if not stopping.done():
        log.critical("worker.engine_not_stopped")
        os._exit(LOST_IDENTITY)
    # The engine made its own threads those of the event loop, and has ended them.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
    if (error := stopping.exception()) is not None:
        log.error("worker.engine_stop_failed", exc_info=error)


async def _joined(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task})
    task.result()


def polls_queue() -> bool:
    """Whether a thread of this process still looks for queued segments."""
    return any(thread.name == f"queue-worker-{QUEUE}" for thread in threading.enumerate())


def migrate_engine(settings: Settings, role: str | None) -> None:
    """Create or update the engine's own tables, and let the service's role use them where it has one of its own."""
    DBOS.migrate(settings.owner_database_url, application_role=role)


def _lock_folder(settings: Settings) -> Path:
    return settings.sqlite_file.resolve().parent / "locks"
