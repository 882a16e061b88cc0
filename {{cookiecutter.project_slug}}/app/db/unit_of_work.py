"""The begin and the end of one transaction. Each runs to completion, whatever happens to the caller meanwhile.

A connection goes back to the pool without a transaction, or is closed. Gate: errors.
"""

from dataclasses import dataclass
from typing import Any

import anyio
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from app.background import run_to_completion


@dataclass(frozen=True)
class UnitOfWork:
    """`deadline` is anyio's time until which all of it may take. What takes longer raises TimeoutError."""

    session: AsyncSession
    deadline: float

    async def begin(self, statement: sa.Executable | None, values: dict[str, Any]) -> None:
        """Have a connection with a transaction open on it, in which `statement` is the first."""
        await run_to_completion(self._begin(statement, values))

    async def commit(self) -> None:
        await run_to_completion(self._commit())

    async def roll_back(self) -> None:
        """End it where no statement is under way."""
        await run_to_completion(self._roll_back())

    async def discard(self) -> None:
        """End it where a statement may be under way, as the driver works on after its caller was cancelled."""
        await run_to_completion(self.session.invalidate())

    async def _begin(self, statement: sa.Executable | None, values: dict[str, Any]) -> None:
        with anyio.fail_after(self.deadline - anyio.current_time()):
            connection = await self.session.connection()
            if statement is not None:
                await connection.execute(statement, values)

    async def _commit(self) -> None:
        try:
            with anyio.fail_after(self.deadline - anyio.current_time()):
                await self.session.commit()
        except BaseException:
            await self._roll_back()
            raise
        await self.session.close()

    async def _roll_back(self) -> None:
        try:
            with anyio.fail_after(self.deadline - anyio.current_time()):
                await self.session.close()
        except BaseException:
            await self.session.invalidate()
            raise
