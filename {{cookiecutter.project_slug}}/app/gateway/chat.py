"""Chat requests of a product's own code: the way of every model call, without an agent around it.

Each attempt is held for, forwarded and booked like an agent's; personal data does not leave. Gate: errors, cost.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import anyio
from pydantic_ai.usage import RequestUsage

from app.budgets.call_records import record_given_again
from app.budgets.caps import Payer
from app.errors import ModelUnknown, ProviderRateLimited
from app.gateway.allowance import Allowance
from app.gateway.breaker import FAULTS, Admission
from app.gateway.cache import Cache, CachePolicy, Kept
from app.gateway.catalog import Catalog
from app.gateway.chat_pieces import Gathered, in_pieces
from app.gateway.chat_redaction import Body, Restoring, shown_chat
from app.gateway.chat_request import ChatRequest, SentChat, look_at
from app.gateway.forwarding import Upstream
from app.gateway.images import refuse_images
from app.gateway.ladder import Ladder, Rung
from app.gateway.metered import Bill, CallContext, MeteredModel, charged
from app.gateway.provider_json import dearer, usage_of
from app.gateway.routing import Route, Routing
from app.switches.board import Board
from app.telemetry.metrics import CACHED_ANSWERS

MAY_SERVE_STALE = (*FAULTS, ProviderRateLimited)
FEATURE = "chat"  # in usage, budgets and switches


@dataclass
class Answered:
    """What became of a request: who answered, and once that is known, what it cost."""

    route: Route
    model: str
    degraded: bool
    bill: Bill | None  # None: given before, and free
    age: timedelta | None = None  # of one given before
    dropped: tuple[str, ...] = ()  # parameters that the model does not take
    max_tokens: int | None = None  # where more was asked for than could be given

    @property
    def cost_micro(self) -> int:
        return self.bill.cost_micro if self.bill else 0


@dataclass(frozen=True)
class Chat:
    catalog: Catalog
    ladders: Mapping[str, Ladder]  # by tier
    upstream: Upstream | None  # None: the provider has no such interface
    longest: timedelta  # a whole stream
    cache: Cache
    board: Board
    routing: Routing

    async def whole(self, payer: Payer, request: ChatRequest) -> tuple[Body, Answered]:
        """The answer as one object. Raises what the first model of its tier failed with, or refuses before it asks."""
        asked = await self._asked(payer, request)
        if kept := await self._given_before(asked):
            return shown_chat(kept.body, asked.sent.placeholders), asked.again(kept, degraded=False)

        async def ask(model: MeteredModel, admitted: Admission, within: timedelta) -> tuple[Body, Bill]:
            bill = asked.sent.bill(model)
            with admitted.watched():
                async with model.metered(bill, within.total_seconds()):
                    answer = await asked.upstream.whole(asked.sent.body(model))
                    bill.usage = usage_of(answer) or RequestUsage()
                    bill.answered = str(answer.get("model") or "")
            return answer, bill

        try:
            with charged(CallContext(payer, FEATURE, "")):
                (answer, bill), rung = await asked.ladder.climbed(ask, asked.given.deadline)
        except MAY_SERVE_STALE:
            if (kept := await self._given_before(asked, stale=True)) is None:
                raise
            return shown_chat(kept.body, asked.sent.placeholders), asked.again(kept, degraded=True)
        if rung.model.name == asked.model:
            await self.cache.keep(payer, asked.kept_as, asked.model, answer)
        return shown_chat(answer, asked.sent.placeholders), self._answered(asked, rung, bill)

    @asynccontextmanager
    async def stream(self, payer: Payer, request: ChatRequest) -> AsyncGenerator[tuple[AsyncIterator[Body], Answered]]:
        """The answer piece by piece. Once the first is there, what breaks it is raised where it is read.

        To be entered, read and left by one task."""
        asked = await self._asked(payer, request)
        restoring = Restoring(asked.sent.placeholders)
        if kept := await self._given_before(asked):
            yield _restored(restoring, in_pieces(kept.body)), asked.again(kept, degraded=False)
            return
        until = time.monotonic() + self.longest.total_seconds()

        async def begin(
            model: MeteredModel, admitted: Admission, within: timedelta
        ) -> tuple[AsyncIterator[Body], Bill, AsyncExitStack]:
            bill = asked.sent.bill(model)
            async with AsyncExitStack() as attempt:
                attempt.enter_context(admitted.watched())
                await attempt.enter_async_context(model.metered(bill, until - time.monotonic()))
                with anyio.fail_after(within.total_seconds()):
                    opened = asked.upstream.stream(asked.sent.body(model, streamed=True))
                    pieces = await attempt.enter_async_context(opened)
                    first = await anext(pieces, None)
                return _read(first, pieces, bill, asked.given.patience), bill, attempt.pop_all()

        try:
            with charged(CallContext(payer, FEATURE, "")):
                (pieces, bill, attempt), rung = await asked.ladder.climbed(begin, asked.given.patience)
        except MAY_SERVE_STALE:
            if (kept := await self._given_before(asked, stale=True)) is None:
                raise
            yield _restored(restoring, in_pieces(kept.body)), asked.again(kept, degraded=True)
            return
        gathered = Gathered()
        with charged(CallContext(payer, FEATURE, "")):
            async with attempt:
                yield _restored(restoring, pieces, gathered), self._answered(asked, rung, bill)
        if rung.model.name == asked.model:
            await self.cache.keep(payer, asked.kept_as, asked.model, gathered.answer)

    async def _asked(self, payer: Payer, request: ChatRequest) -> "_Asked":
        if self.upstream is None:
            raise ModelUnknown("This service's model provider has no chat interface; set CHAT_BASE_URL to offer one.")
        route = await self.routing.route(payer, self.catalog.tier_of(request.model), look_at(request))
        if not self.catalog.takes_images(route.tier):
            refuse_images(request.messages, route.tier)
        ladder, sent = self.ladders[route.tier], SentChat(request)
        model = ladder.rungs[0].model.name
        key = self.cache.key(payer, model, sent.said, request.caching)
        return _Asked(payer, self.upstream, ladder, sent, model, key, route, request.caching)

    def _answered(self, asked: "_Asked", rung: Rung, bill: Bill) -> Answered:
        is_degraded, allowed = rung is not asked.ladder.rungs[0], asked.sent.allowance(rung.model)
        return Answered(
            asked.route,
            rung.model.name,
            is_degraded,
            bill,
            dropped=tuple(sorted(asked.sent.dropped(rung.model))),
            max_tokens=allowed.visible if allowed.is_clamped else None,
        )

    async def _given_before(self, asked: "_Asked", *, stale: bool = False) -> Kept | None:
        """An answer that may be given again. Raises ServiceHalted: a switch stops these as well."""
        if not asked.key:
            return None
        switches = ("runs", f"tenant:{asked.payer.tenant_id}", f"feature:{FEATURE}", f"model:{asked.model}")
        kept = await self.cache.find(asked.payer, asked.key, asked.caching, stale=stale)
        if kept is not None:
            await self.board.require_clear(*switches)
            await record_given_again(
                self.cache.db, asked.payer, feature=FEATURE, model=asked.model, tier=asked.route.tier
            )
            CACHED_ANSWERS.labels(asked.model, "stale" if stale else "fresh").inc()
        return kept


@dataclass(frozen=True)
class _Asked:
    """A request on its way, with everything that was found out before any model is asked."""

    payer: Payer
    upstream: Upstream
    ladder: Ladder
    sent: SentChat
    model: str  # the first of its tier
    key: str  # of a kept answer; empty: none is
    route: Route
    caching: CachePolicy

    @property
    def given(self) -> Allowance:
        """The time of all models of the ladder: as much as the one of them that is given most."""
        allowed = [self.sent.allowance(rung.model) for rung in self.ladder.rungs]
        return max(allowed, key=lambda each: (each.deadline, each.patience))

    @property
    def kept_as(self) -> str:
        """The key to keep the answer under; empty: it is not to be kept."""
        return self.key if self.caching.may_store else ""

    def again(self, kept: Kept, *, degraded: bool) -> Answered:
        return Answered(self.route, self.model, degraded, None, kept.age)


async def _read(
    first: Body | None, pieces: AsyncIterator[Body], bill: Bill, patience: timedelta
) -> AsyncIterator[Body]:
    """All pieces; read to the end, the bill is what the provider reports. Raises TimeoutError where none comes."""
    usage = RequestUsage()
    piece = first
    while piece is not None:
        bill.received.add(piece)
        bill.answered = bill.answered or str(piece.get("model") or "")
        usage = dearer(usage, usage_of(piece))
        yield piece
        with anyio.fail_after(patience.total_seconds()):
            piece = await anext(pieces, None)
    bill.usage = usage


async def _restored(
    restoring: Restoring, pieces: AsyncIterator[Body], gathered: Gathered | None = None
) -> AsyncIterator[Body]:
    async for piece in pieces:
        if gathered is not None:
            gathered.add(piece)
        yield restoring.piece(piece)
