"""What all agents of one run share while it is at work: one count of what is used, one set of limits."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from pydantic_ai.usage import RunUsage, UsageLimits


@dataclass(frozen=True)
class Conversation:
    usage: RunUsage  # counted up in place, by the run's agent and its delegates alike
    limits: UsageLimits


current: ContextVar[Conversation] = ContextVar("conversation")


@contextmanager
def conducted(conversation: Conversation) -> Iterator[None]:
    token = current.set(conversation)
    try:
        yield
    finally:
        current.reset(token)
