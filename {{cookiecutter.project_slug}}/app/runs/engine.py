"""The durable engine: a run advances in segments that survive `kill -9`.

One workflow per segment. A wait for a person is a row and no workflow, so it lasts for days and
across releases for nothing; the decision and the next segment's enqueueing commit together.
Gate: errors.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import anyio
from dbos import DBOS, DBOSClient, DBOSConfig
from pydantic_ai.durable_exec.dbos import DBOSDurability
from sqlalchemy.ext.asyncio import AsyncSession

from app.runs.liveness import FileLocks, Liveness, PostgresLocks
from app.runs.serializer import JsonSerializer
from app.settings import Settings
from app.tools.caller import CallerOfRun

QUEUE = "runs"
WORKFLOW = "advance_run"
MOVING = frozenset({"PENDING", "ENQUEUED", "DELAYED"})
RECORD_FORMAT = "runs-1"  # raise it only when running segments could not be replayed by new code
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
            system_database_url=settings.database_url,
            serializer=JsonSerializer(),
            application_name=settings.service.name,
            lazy=True,
        )

    async def enqueue(self, session: AsyncSession, run_id: str, segment: int) -> None:
        connection = await session.connection()
        await connection.run_sync(
            lambda sync: self._client.enqueue_in_transaction(
                sync,
                {"queue_name": QUEUE, "workflow_name": WORKFLOW, "workflow_id": f"{run_id}:{segment}"},
                run_id,
                segment,
            )
        )

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
async def running_worker(settings: Settings, advance: Advance) -> AsyncGenerator[str]:
    """Execute queued segments in this process until the context ends; yields the worker's identity.

    Agents must be built before this is entered."""
    locks = FileLocks(_lock_folder(settings)) if settings.is_sqlite else PostgresLocks(settings.database_url)
    liveness = Liveness(locks)
    config: DBOSConfig = {
        "name": settings.service.name,
        "system_database_url": settings.database_url,
        "executor_id": liveness.identity,
        "application_version": RECORD_FORMAT,
        "serializer": JsonSerializer(),
        "log_level": "WARNING",
        "run_migrations": False,
        "notification_listener_polling_interval_sec": 0.2,
    }
    DBOS(config=config)
    for handler in list(logging.getLogger("dbos").handlers):  # its lines go through ours, as JSON and scrubbed
        logging.getLogger("dbos").removeHandler(handler)
    logging.getLogger("dbos").propagate = True

    @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=20)
    async def advance_run(run_id: str, segment: int) -> str:
        return await advance(run_id, segment)

    DBOS.launch()
    await DBOS.register_queue_async(QUEUE, worker_concurrency=settings.worker_concurrency, polling_interval_sec=0.1)
    liveness.start()
    try:
        yield liveness.identity
    finally:
        liveness.stop()
        await anyio.to_thread.run_sync(lambda: DBOS.destroy(workflow_completion_timeout_sec=10))


def migrate_engine(settings: Settings, role: str | None) -> None:
    """Create or update the engine's own tables, and let the service's role use them where it has one of its own."""
    DBOS.migrate(settings.owner_database_url, application_role=role)


def _lock_folder(settings: Settings) -> Path:
    return Path(settings.database_url.removeprefix("sqlite:///")).resolve().parent / "locks"
