"""What goes in and out of the support agent and its tools."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

TicketTitle = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=120)]
TicketBody = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=4_000)]
TicketId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f-]{36}$")]


class Priority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    URGENT = "urgent"


class TicketRef(BaseModel):
    id: str
    title: str
    priority: Priority


class SupportAnswer(BaseModel):
    """The agent's final answer."""

    model_config = ConfigDict(extra="forbid")
    answer: str = Field(min_length=1, max_length=4_000)
    sources: list[str] = Field(default_factory=list, max_length=5, description="names of the documents used")
    ticket_ids: list[str] = Field(default_factory=list, max_length=20, description="tickets found or changed")
