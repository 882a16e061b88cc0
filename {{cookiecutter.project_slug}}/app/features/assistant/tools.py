"""The support desk's tools: one of each effect. The docstring is what the model reads."""

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from app.db.base import new_id, utc_now
from app.db.unique import insert_or_existing
from app.features.assistant import queries
from app.features.assistant.models import Ticket
from app.features.assistant.schemas import Priority, TicketBody, TicketId, TicketRef, TicketTitle
from app.policy.decision import Effect
from app.tools.spec import Change, ToolContext, ToolFailure, tool

MAX_WORDS = 8  # of a search that are looked for


class Deleted(BaseModel):
    deleted: str


class ReceiverBroken(Exception):
    """The receiver had the message and failed: whether it was delivered is not known."""


class Delivered(BaseModel):
    status: int


@tool(effect=Effect.READ, permission="tickets:read")
async def search_tickets(
    context: ToolContext,
    query: Annotated[str, StringConstraints(min_length=1, max_length=200)],
    limit: Annotated[int, Field(ge=1, le=20)] = 5,
) -> list[TicketRef]:
    """Search existing tickets by words in their title or text."""
    words = query.split()
    if not words:
        raise ToolFailure("the query holds no word to search for, so nothing matches; give at least one")
    async with context.read() as session:
        found = await queries.matching(session, words[:MAX_WORDS], limit)
    return [_ref(ticket) for ticket in found]


@tool(effect=Effect.WRITE, permission="tickets:write", timeout=timedelta(seconds=5), idempotent=True)
async def create_ticket(
    context: ToolContext, title: TicketTitle, body: TicketBody, priority: Priority = Priority.NORMAL
) -> TicketRef:
    """Create a support ticket."""
    async with context.transaction() as session:
        # Started again after a crash, this finds the ticket of the first start.
        ticket = await session.scalar(queries.with_request_key(context.idempotency_key))
        if ticket is None:
            made = Ticket(
                id=new_id(), tenant_id=context.principal.tenant_id, title=title, body=body,
                priority=priority, created_by=context.principal.member_id,
                request_key=context.idempotency_key, created_at=utc_now(),
            )  # fmt: skip
            made, _ = await insert_or_existing(session, made, queries.with_request_key(context.idempotency_key))
            return _ref(made)
    return _ref(ticket)


async def _what_is_deleted(context: ToolContext, ticket_id: TicketId) -> Change:
    async with context.read() as session:
        ticket = await queries.by_id(session, ticket_id)
    return Change({"title": ticket.title, "body": ticket.body, "priority": ticket.priority} if ticket else {}, {})


# Not idempotent: started again after a crash it could not tell a ticket that it has deleted from one that never was.
@tool(effect=Effect.DELETE, permission="tickets:delete", preview=_what_is_deleted)
async def delete_ticket(context: ToolContext, ticket_id: TicketId) -> Deleted:
    """Delete a support ticket for good."""
    async with context.transaction() as session:
        if not await queries.remove(session, ticket_id):
            raise ToolFailure("there is no ticket with that id")
    return Deleted(deleted=ticket_id)


@tool(effect=Effect.EXTERNAL_POST, permission="webhooks:post", timeout=timedelta(seconds=8))
async def notify_webhook(
    context: ToolContext,
    url: Annotated[str, StringConstraints(max_length=500)],
    message: Annotated[str, StringConstraints(min_length=1, max_length=1_000)],
) -> Delivered:
    """Send a short message to one of the approved web addresses."""
    reply = await context.egress.post_json(
        url,
        {"text": message},
        deadline=timedelta(seconds=5),
        idempotency_key=context.idempotency_key,
    )
    if reply.status >= 500:
        raise ReceiverBroken(f"the receiver answered {reply.status}")
    if reply.status >= 300:
        raise ToolFailure(f"the receiver answered {reply.status}")
    return Delivered(status=reply.status)


def _ref(ticket: Ticket) -> TicketRef:
    return TicketRef(id=ticket.id, title=ticket.title, priority=Priority(ticket.priority))
