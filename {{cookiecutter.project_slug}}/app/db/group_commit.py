"""Group commit: orders that arrive while one transaction commits go into the next one together.

A commit costs the same for one row and for fifty, and rows that everybody changes are locked by one transaction of a
process at a time. There is no timer: an order that comes alone is committed in the next turn of the event loop.

One task of its own commits, started when there is something to do, in an empty context. Callers await futures, so a
caller that is cancelled stops nobody else's order, and no caller carries out another one's. Gate: performance, errors.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from app.background import start_detached

Order = TypeVar("Order")
Answer = TypeVar("Answer")
MAX_BATCH = 100  # orders of one commit


class CommitInterrupted(Exception):
    """The commit ended without an answer, though nobody stopped it. Whether it was carried out is not known."""


@dataclass(frozen=True, eq=False)
class _Submitted(Generic[Order, Answer]):
    order: Order
    answer: "asyncio.Future[Answer]"


@dataclass(eq=False)
class _Queue(Generic[Order, Answer]):
    """What one event loop has submitted."""

    waiting: deque[_Submitted[Order, Answer]] = field(default_factory=deque)
    committing: Sequence[_Submitted[Order, Answer]] = ()
    task: asyncio.Task[None] | None = None
    began: float = 0.0  # when the task was started, or its newest commit began


class GroupCommit(Generic[Order, Answer]):
    """`commit` carries out some orders in one transaction and answers each in its place.

    An answer that is an exception is raised by the caller who submitted that order. What `commit` itself raises, every
    caller of that commit gets, each an instance of its own, and none of their orders was carried out."""

    def __init__(self, commit: Callable[[Sequence[Order]], Awaitable[Sequence[Answer | Exception]]]) -> None:
        self._commit = commit
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue[Order, Answer]] = WeakKeyDictionary()

    async def submit(self, order: Order) -> Answer:
        """Submit one order and wait for its answer. Cancelling the caller does not cancel the order: see `withdraw`."""
        answer = self.submit_nowait(order)
        try:
            return await answer
        except asyncio.CancelledError:
            # The answer may have come in the same turn of the loop; a failure that nobody reads would be logged.
            if not answer.cancel() and not answer.cancelled():
                answer.exception()
            raise

    def submit_nowait(self, order: Order) -> "asyncio.Future[Answer]":
        """Submit one order; its answer arrives in the future, which may be dropped."""
        loop = asyncio.get_running_loop()
        if (queue := self._queues.get(loop)) is None:
            queue = self._queues[loop] = _Queue()
        submitted = _Submitted(order, loop.create_future())
        queue.waiting.append(submitted)
        if queue.task is None:
            queue.began = time.monotonic()
            queue.task = start_detached(self._drain(queue), name="group commit")
        return submitted.answer

    def withdraw(self, order: Order) -> bool:
        """Take this very order back. False where a commit has taken it up: then it is, or will be, carried out."""
        queue = self._queues.get(asyncio.get_running_loop())
        found = next((each for each in queue.waiting if each.order is order), None) if queue else None
        if queue is None or found is None:
            return False
        queue.waiting.remove(found)
        return True

    @property
    def stalled_for(self) -> timedelta:
        """For how long the commit under way has had no answer; zero where none is under way.

        Not how long an order waits: where a database is slow to fail, many commits may be before it."""
        began = min((queue.began for queue in list(self._queues.values()) if queue.task is not None), default=None)
        return timedelta(seconds=time.monotonic() - began) if began is not None else timedelta(0)

    async def close(self) -> None:
        """Wait until everything that this event loop has submitted is committed."""
        queue = self._queues.get(asyncio.get_running_loop())
        while queue is not None and queue.task is not None:
            await asyncio.wait([queue.task])

    async def _drain(self, queue: _Queue[Order, Answer]) -> None:
        try:
            while queue.waiting:
                queue.began = time.monotonic()
                queue.committing = [queue.waiting.popleft() for _ in range(min(MAX_BATCH, len(queue.waiting)))]
                for submitted, answer in zip(
                    queue.committing, await self._answers([each.order for each in queue.committing]), strict=True
                ):
                    _deliver(submitted.answer, answer)
                queue.committing = ()
        finally:
            # Reached with orders left only where the event loop itself ends: nobody is left waiting for ever.
            for submitted in (*queue.committing, *queue.waiting):
                submitted.answer.cancel()
            queue.waiting.clear()
            queue.committing, queue.task = (), None

    async def _answers(self, orders: Sequence[Order]) -> Sequence[Answer | Exception]:
        try:
            answers = await self._commit(orders)
        except Exception as error:  # noqa: BLE001 - raised by every caller of this commit
            return [error] * len(orders)
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            interrupted = CommitInterrupted("the commit was interrupted")
            interrupted.__cause__ = error
            return [interrupted] * len(orders)
        if len(answers) != len(orders):
            return [RuntimeError(f"{len(answers)} answers to {len(orders)} orders")] * len(orders)
        return answers


def _deliver(future: "asyncio.Future[Answer]", answer: Answer | Exception) -> None:
    if future.done():  # its caller was cancelled
        return
    if isinstance(answer, Exception):
        future.set_exception(_own(answer))
    else:
        future.set_result(answer)


def _own(error: Exception) -> Exception:
    """An instance for one caller. A shared one would gather every caller's traceback, and their contexts."""
    own: Exception = type(error).__new__(type(error), *error.args)
    own.args = error.args
    own.__dict__.update(error.__dict__)
    own.__cause__, own.__suppress_context__ = error.__cause__, error.__suppress_context__
    return own.with_traceback(error.__traceback__)
