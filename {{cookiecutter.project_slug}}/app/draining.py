"""Draining a worker: work under way finishes within a grace, or stops at a checkpoint and is handed back.

A checkpoint lies before every model call and every tool call, where all that was done so far is on record: the next
owner of the segment replays that record and goes on. Gate: errors, deployment.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog

log = structlog.get_logger(__name__)
DEFAULT_GRACE = timedelta(seconds=30)
CHECKPOINTS_AFTER = 0.5  # of the grace; what is left of it is for the calls that are at work by then
CANCELLED_WITHIN = timedelta(seconds=5)  # how long cancelled work may take to end
_LOOK_EVERY_S = 0.1


@dataclass(eq=False)
class _Segment:
    drain: "Drain"
    task: asyncio.Task[Any]
    admitted: bool  # false for one that the queue handed out while the worker was already draining
    tools_at_work: int = 0  # those that may not be started again
    interrupted: bool = False
    cancelled: bool = False

    @property
    def must_stop(self) -> bool:
        return not self.admitted or self.drain.starts_no_calls

    def interrupt(self, *, in_mid_call: bool = False) -> None:
        """Cancel the segment's task, once: after the tools that are at work, unless `in_mid_call`."""
        self.interrupted = True
        if not self.cancelled and (in_mid_call or not self.tools_at_work):
            self.cancelled = True
            self.task.cancel("the worker drains")

    def tool_ended(self) -> None:
        self.tools_at_work -= 1
        if self.interrupted:
            self.interrupt()


_current: ContextVar[_Segment | None] = ContextVar("segment", default=None)


async def checkpoint() -> None:
    """Return at once; or, where this worker starts no more calls, interrupt the segment and do not return."""
    segment = _current.get()
    if segment is None or not segment.must_stop:
        return
    segment.interrupt()
    await asyncio.get_running_loop().create_future()  # ends with the cancellation of the segment's task


def is_interrupted() -> bool:
    """Whether the segment of this task is being stopped by the end of its worker."""
    segment = _current.get()
    return segment is not None and segment.interrupted


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Have no checkpoint stop the segment until the block ends: what is in it may not be started a second time."""
    segment = _current.get()
    if segment is None:
        yield
        return
    segment.tools_at_work += 1
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)
        segment.tool_ended()


@dataclass(eq=False)
class Drain:
    """The end of one worker. Everything happens on one event loop; `begin` may be called again to hurry."""

    grace: timedelta = DEFAULT_GRACE
    cancelled_within: timedelta = CANCELLED_WITHIN
    requested: asyncio.Event = field(default_factory=asyncio.Event)
    _segments: set[_Segment] = field(default_factory=set)
    _requests: int = 0
    _began: float = 0.0

    def begin(self) -> None:
        """Take no more work. A second request stops at the next checkpoint, a third cancels what is at work."""
        self._requests += 1
        if self._requests == 1:
            self._began = time.monotonic()
            self.requested.set()
        log.warning("worker.drains", request=self._requests, segments=len(self._segments))

    @property
    def starts_no_calls(self) -> bool:
        return self._requests > 1 or self._left(CHECKPOINTS_AFTER) <= 0

    def _left(self, share: float = 1.0) -> float:
        """Seconds until so much of the grace is over; infinite before the drain was requested."""
        if not self._requests:
            return float("inf")
        return self._began + self.grace.total_seconds() * share - time.monotonic()

    @contextmanager
    def segment(self) -> Iterator[None]:
        """The current task is a segment of this worker until the block ends."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a segment runs in a task")
        mine = _Segment(self, task, admitted=not self._requests)
        self._segments.add(mine)
        token = _current.set(mine)
        try:
            yield
        finally:
            _current.reset(token)
            self._segments.discard(mine)

    async def finish(self) -> bool:
        """Wait until every segment has ended, for the grace at most, and cancel the rest. False where one goes on."""
        while self._segments and self._left() > 0 and self._requests <= 2:
            await self._some_time()
        for segment in self._segments:
            log.warning("worker.cut_off", tools_at_work=segment.tools_at_work)
            segment.interrupt(in_mid_call=True)
        until = time.monotonic() + self.cancelled_within.total_seconds()
        while self._segments and time.monotonic() < until:
            await self._some_time()
        return not self._segments

    async def _some_time(self) -> None:
        await asyncio.wait({segment.task for segment in self._segments}, timeout=_LOOK_EVERY_S)
