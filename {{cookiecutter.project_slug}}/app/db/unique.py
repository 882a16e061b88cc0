"""Rows with a unique key that two requests may bring at the same moment. Gate: errors."""

from typing import Any, TypeVar

from sqlalchemy import Select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

Row = TypeVar("Row")


async def insert_or_existing(session: AsyncSession, row: Row, existing: Select[Any]) -> tuple[Row, bool]:
    """Insert a row, or return the one that has its unique key already; the flag says whether it was inserted.

    To look first is not enough: two transactions may both find nothing. `existing` selects by the unique key. What is
    pending in the session is flushed before. Raises IntegrityError where another constraint is violated."""
    await session.flush()
    try:
        async with session.begin_nested():  # on PostgreSQL an error would end the whole transaction
            session.add(row)
            await session.flush()
    except IntegrityError:
        again = existing.execution_options(populate_existing=True)
        found: Row | None = (await session.execute(again)).scalar_one_or_none()
        if found is None:
            raise
        return found, False
    return row, True
