"""Chat requests of a product's own code: the way of every model call, without an agent around it.

Each attempt is held for, forwarded and booked like an agent's; personal data does not leave. Gate: errors, cost.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import anyio
import structlog
from pydantic_ai.usage import RequestUsage

from app.budgets.caps import Payer
from app.errors import ModelUnknown
from app.gateway.breaker import Admission
from app.gateway.catalog import Catalog
from app.gateway.chat_redaction import Body, Restoring, hidden_chat, shown_chat
from app.gateway.forwarding import Upstream, usage_of
from app.gateway.ladder import Ladder
from app.gateway.metered import MESSAGE_OVERHEAD_TOKENS, Bill, CallContext, MeteredModel, charged

log = structlog.get_logger(__name__)
FEATURE = "chat"  # in usage, budgets and switches


@dataclass(frozen=True)
class ChatRequest:
    """What is asked, once it has been found valid. `parameters` go to the provider as they are."""

    model: str  # a name of config/models.toml, or a tier's
    messages: list[Body]
    tools: list[Body] = field(default_factory=list)
    parameters: Body = field(default_factory=dict)
    max_tokens: int | None = None  # for each of `choices`
    choices: int = 1


@dataclass
class Answered:
    """What became of a request: who answered, and once that is known, what it cost."""

    model: str
    degraded: bool
    bill: Bill


@dataclass(frozen=True)
class Chat:
    catalog: Catalog
    ladders: Mapping[str, Ladder]  # by tier
    upstream: Upstream | None  # None: the provider has no such interface
    max_tokens: int

    async def whole(self, payer: Payer, request: ChatRequest) -> tuple[Body, Answered]:
        """The answer as one object. Raises what the first model of its tier failed with, or refuses before it asks."""
        upstream, ladder, sent = self._upstream(), self._ladder(request.model), _Sent(request, self.max_tokens)

        async def ask(model: MeteredModel, admitted: Admission, within: timedelta) -> tuple[Body, Bill]:
            bill = sent.bill()
            with admitted.watched():
                async with model.metered(bill, within.total_seconds()):
                    answer = await upstream.whole(sent.body(model.name))
                    bill.usage = usage_of(answer) or RequestUsage()
            _look_at_name(answer, model.name)
            return answer, bill

        with charged(CallContext(payer, FEATURE, "")):
            (answer, bill), rung = await ladder.climbed(ask)
        return shown_chat(answer, sent.placeholders), Answered(rung.model.name, rung is not ladder.rungs[0], bill)

    @asynccontextmanager
    async def stream(self, payer: Payer, request: ChatRequest) -> AsyncGenerator[tuple[AsyncIterator[Body], Answered]]:
        """The answer piece by piece. Once the first is there, what breaks it is raised where it is read.

        To be entered, read and left by one task."""
        upstream, ladder, sent = self._upstream(), self._ladder(request.model), _Sent(request, self.max_tokens)
        until = time.monotonic() + ladder.deadline.total_seconds()

        async def begin(
            model: MeteredModel, admitted: Admission, within: timedelta
        ) -> tuple[AsyncIterator[Body], Bill, AsyncExitStack]:
            bill = sent.bill()
            async with AsyncExitStack() as attempt:
                attempt.enter_context(admitted.watched())
                await attempt.enter_async_context(model.metered(bill, until - time.monotonic()))
                with anyio.fail_after(within.total_seconds()):
                    asked = upstream.stream(sent.body(model.name, streamed=True))
                    pieces = await attempt.enter_async_context(asked)
                    first = await anext(pieces, None)
                _look_at_name(first or {}, model.name)
                return _read(first, pieces, bill), bill, attempt.pop_all()

        with charged(CallContext(payer, FEATURE, "")):
            (pieces, bill, attempt), rung = await ladder.climbed(begin)
            async with attempt:
                restoring = Restoring(sent.placeholders)
                answered = Answered(rung.model.name, rung is not ladder.rungs[0], bill)
                yield (restoring.piece(piece) async for piece in pieces), answered

    def _upstream(self) -> Upstream:
        if self.upstream is None:
            raise ModelUnknown("This service's model provider has no chat interface; set CHAT_BASE_URL to offer one.")
        return self.upstream

    def _ladder(self, model: str) -> Ladder:
        return self.ladders[self.catalog.tier_of(model)]


class _Sent:
    """A request as providers get it, whichever of them it will be."""

    def __init__(self, request: ChatRequest, most_tokens: int) -> None:
        said, self.placeholders = hidden_chat(request.messages, request.tools, request.parameters)
        self._max_tokens = min(request.max_tokens or most_tokens, most_tokens)
        self._choices = request.choices
        several = {"n": request.choices} if request.choices > 1 else {}
        self._body: Body = {**said, **several, "max_completion_tokens": self._max_tokens}
        # A byte-level tokenizer makes at most one token of a byte; schemas and formats of answers are read as well.
        pieces = len(request.messages) + len(request.tools) + 1
        self._input_bound = len(str(said).encode()) + MESSAGE_OVERHEAD_TOKENS * pieces

    def bill(self) -> Bill:
        return Bill(self._input_bound, self._max_tokens * self._choices)

    def body(self, model: str, *, streamed: bool = False) -> Body:
        stream = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
        return {**self._body, "model": model, **stream}


async def _read(first: Body | None, pieces: AsyncIterator[Body], bill: Bill) -> AsyncIterator[Body]:
    """All pieces; read to the end, the bill is what the provider reports."""
    usage = RequestUsage()
    piece = first
    while piece is not None:
        usage = usage_of(piece) or usage
        yield piece
        piece = await anext(pieces, None)
    bill.usage = usage


def _look_at_name(answer: Body, asked: str) -> None:
    """A provider may serve another model than was asked for, as an alias moves on; somebody should know."""
    if not str(answer.get("model", "")).startswith(asked):
        log.warning("model.answered_as_another", asked=asked)
