"""Tasks that no caller can stop, and tasks that carry nothing of the caller that started them.

`task.cancel()`, `asyncio.timeout`, `asyncio.wait_for` and `asyncio.TaskGroup` cancel a task natively, at whatever
await it has reached. A shielded cancel scope of anyio holds back anyio's own cancellation and nothing else. What has to
end therefore runs in a task of its own. Gate: errors, observability.
"""

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

import anyio
import structlog

log = structlog.get_logger(__name__)
T = TypeVar("T")
_running: set[asyncio.Task[Any]] = set()  # the event loop itself holds only a weak reference


def start_detached(work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Start work that belongs to the process and may outlive the request that caused it.

    It runs in an empty context: no request id, tenant, payer, trace or open transaction of whoever was there first.
    A failure is logged, whether somebody awaits the task or not."""
    task = asyncio.get_running_loop().create_task(work, name=name, context=Context())
    _running.add(task)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("background.failed", task=task.get_name(), error=type(error).__name__)


async def run_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """Await work that must end once it has begun; it should be bounded in time by itself.

    A caller that is cancelled meanwhile, by whichever means and however often, gets its CancelledError after the work
    has ended. Raises what the work raises; where the caller is cancelled as well, that failure is logged instead."""
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):  # anyio would cancel again in every turn of the loop until the work has ended
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled() and (failure := task.exception()) is not None:
        log.warning("background.failed_for_a_cancelled_caller", error=type(failure).__name__)
    try:
        raise cancelled
    finally:
        del cancelled  # its traceback leads back to this frame
