"""Routes of the support desk's own. Each names its permission, like every route of the service."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel

from app.api.guards import require
from app.api.pagination import PAGE_SIZE, Limit
from app.api.state import RuntimeDep
from app.features.assistant import queries
from app.features.assistant.schemas import TicketRef
from app.identity.principal import Principal

router = APIRouter(prefix="/v1/assistant", tags=["assistant"])


class Tickets(BaseModel):
    items: list[TicketRef]


@router.get("/tickets", response_model=Tickets)
async def list_tickets(
    runtime: RuntimeDep, principal: Annotated[Principal, require("tickets:read")], limit: Limit = PAGE_SIZE
) -> Tickets:
    """The tenant's newest tickets."""
    async with runtime.db.read(principal) as session:
        tickets = await queries.newest(session, limit)
    return Tickets(items=[TicketRef.model_validate(ticket, from_attributes=True) for ticket in tickets])
