"""The library's tools."""

from typing import Annotated

from pydantic import StringConstraints
from sqlalchemy import select

from app.db.base import new_id, utc_now
from app.features.library.models import Loan
from app.policy.decision import Effect
from app.tools.spec import ToolContext, tool


@tool(effect=Effect.READ, permission="loans:read")
async def list_loans(context: ToolContext) -> list[str]:
    """List the books that are lent out."""
    async with context.transaction() as session:
        return list(await session.scalars(select(Loan.title)))


@tool(effect=Effect.WRITE, permission="loans:write", idempotent=True)
async def create_loan(
    context: ToolContext, title: Annotated[str, StringConstraints(min_length=1, max_length=120)]
) -> str:
    """Lend a book."""
    async with context.transaction() as session:
        loan = await session.scalar(select(Loan).where(Loan.request_key == context.idempotency_key))
        if loan is None:
            loan = Loan(
                id=new_id(),
                tenant_id=context.principal.tenant_id,
                title=title,
                request_key=context.idempotency_key,
                created_at=utc_now(),
            )
            session.add(loan)
    return loan.id
