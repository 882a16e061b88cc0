"""One transaction's session: its begin, each statement and its end run to completion, whatever happens to the caller.

A driver that is left in the middle of a statement works on, and closing its connection can be cancelled as well: the
write lock of SQLite was kept so, until the collector came. So a caller is cancelled between statements. Gate: errors.
"""

import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import anyio
import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.background import run_to_completion

log = structlog.get_logger(__name__)
T = TypeVar("T")
STATEMENTS = (
    "connection",
    "delete",
    "delete_all",
    "execute",
    "flush",
    "get",
    "get_one",
    "merge",
    "merge_all",
    "refresh",
    "run_sync",
    "scalar",
    "stream",
)  # fmt: skip - what else there is to await of a session goes through these, or ends it


class UninterruptedSession(AsyncSession):
    """A session of which each statement that has begun ends, or its transaction's time does: see `deadline`."""

    deadline: float = math.inf  # anyio's time

    async def in_time(self, statement: Awaitable[T]) -> T:
        with anyio.fail_after(self.deadline - anyio.current_time()):
            return await statement


def _to_completion(method: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., Coroutine[Any, Any, T]]:
    @wraps(method)
    async def called(self: UninterruptedSession, *arguments: Any, **options: Any) -> T:
        return await run_to_completion(self.in_time(method(self, *arguments, **options)))

    return called


for _name in STATEMENTS:
    setattr(UninterruptedSession, _name, _to_completion(getattr(AsyncSession, _name)))


@dataclass(frozen=True)
class UnitOfWork:
    """The begin and the end of the session's transaction. What takes longer than its deadline raises TimeoutError."""

    session: UninterruptedSession

    async def begin(self, statement: sa.Executable | None, values: dict[str, Any]) -> None:
        """Have a connection with a transaction open on it, in which `statement` is the first."""
        connection = await self.session.connection()
        if statement is not None:
            await run_to_completion(self.session.in_time(connection.execute(statement, values)))

    async def commit(self) -> None:
        await run_to_completion(self._commit())

    async def roll_back(self) -> None:
        """Give the connection back to the pool without a transaction, or close it."""
        await run_to_completion(self._roll_back())

    async def _commit(self) -> None:
        try:
            await self.session.in_time(self.session.commit())
        except BaseException:
            await self._roll_back()
            raise
        await self.session.close()

    async def _roll_back(self) -> None:
        try:
            await self.session.in_time(self.session.close())
        except Exception as error:  # noqa: BLE001 - what ended the transaction is raised, not this
            log.warning("transaction.not_rolled_back", error=type(error).__name__)
            await self.session.invalidate()
