"""All SQL of the support desk. The tenant filter is the transaction's, not ours to add."""

from collections.abc import Sequence

from sqlalchemy import Select, delete, false, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.features.assistant.models import Ticket


async def matching(session: AsyncSession, words: Sequence[str], limit: int) -> Sequence[Ticket]:
    """Tickets whose title or body contains any of the words, newest first; without a word, none.

    A word is text: `%` and `_` in it stand for themselves."""
    columns = (Ticket.title, Ticket.body)
    anywhere = [column.icontains(word, autoescape=True) for word in words for column in columns]
    query = select(Ticket).where(or_(false(), *anywhere)).order_by(Ticket.id.desc()).limit(limit)
    return list(await session.scalars(query))


async def newest(session: AsyncSession, limit: int) -> Sequence[Ticket]:
    return list(await session.scalars(select(Ticket).order_by(Ticket.id.desc()).limit(limit)))


async def by_id(session: AsyncSession, ticket_id: str) -> Ticket | None:
    return await session.scalar(select(Ticket).where(Ticket.id == ticket_id))


def with_request_key(key: str) -> Select[Ticket]:
    return select(Ticket).where(Ticket.request_key == key)


async def remove(session: AsyncSession, ticket_id: str) -> bool:
    removed = await session.scalar(delete(Ticket).where(Ticket.id == ticket_id).returning(Ticket.id))
    return removed is not None
