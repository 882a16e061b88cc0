"""All SQL of the library."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.features.library.models import Loan


async def all_loans(session: AsyncSession) -> Sequence[Loan]:
    return list(await session.scalars(select(Loan).order_by(Loan.id)))


async def by_request_key(session: AsyncSession, key: str) -> Loan | None:
    return await session.scalar(select(Loan).where(Loan.request_key == key))


async def by_title(session: AsyncSession, title: str) -> Loan | None:
    return await session.scalar(select(Loan).where(Loan.title == title).order_by(Loan.id).limit(1))


async def remove(session: AsyncSession, title: str) -> bool:
    return await session.scalar(delete(Loan).where(Loan.title == title).returning(Loan.id)) is not None
