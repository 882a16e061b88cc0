"""Many small transactions as few: what arrives in one turn of the loop, or while one commits, goes in together.

A commit costs the same for one row and for fifty, and rows that everybody changes are locked by one transaction of a
process at a time. There is no timer: under no load nothing waits. Gate: performance.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

Order = TypeVar("Order")
Answer = TypeVar("Answer")
MOST = 100  # orders of one commit


class _Waiting(Generic[Order, Answer]):
    def __init__(self, order: Order) -> None:
        self.order = order
        self.turn = anyio.Event()  # it is answered, or its turn has come to commit
        self.answer: Answer | BaseException | None = None
        self.is_answered = False

    def end(self, answer: Answer | BaseException) -> None:
        self.answer, self.is_answered = answer, True
        self.turn.set()

    def result(self) -> Answer:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[return-value]


class Together(Generic[Order, Answer]):
    """`commit` carries out some orders in one transaction, and answers each in its place: an exception is raised by
    whoever gave that order. What `commit` itself raises, all of them get, and none was carried out."""

    def __init__(self, commit: Callable[[Sequence[Order]], Awaitable[Sequence[Answer | Exception]]]) -> None:
        self._commit = commit
        self._queue: deque[_Waiting[Order, Answer]] = deque()
        self._committing = False

    async def do(self, order: Order) -> Answer:
        """Carry out one order. Whoever is cancelled in it, is once it has ended."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        mine: _Waiting[Order, Answer] = _Waiting(order)
        self._queue.append(mine)
        with anyio.CancelScope(shield=True):
            if self._committing:
                await mine.turn.wait()
            else:
                self._committing = True
                await anyio.lowlevel.cancel_shielded_checkpoint()  # what others bring in this turn comes along
            if not mine.is_answered:
                await self._commit_some()
        return mine.result()

    async def _commit_some(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(MOST, len(self._queue)))]
        try:
            answers = await self._commit([each.order for each in batch])
            for each, answer in zip(batch, answers, strict=True):
                each.end(answer)
        except BaseException as error:
            for each in batch:
                each.end(error)
            if not isinstance(error, Exception):
                raise
        finally:
            if self._queue:
                self._queue[0].turn.set()  # whoever waits longest commits next
            else:
                self._committing = False
