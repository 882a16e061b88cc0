"""Embeddings of a product's own code: held for, forwarded and booked like every model call.

Every text is redacted by itself, so equal texts have equal vectors whatever stands beside them. One model answers or
none does: vectors of two models cannot be compared. Gate: errors, cost, validation.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from anyio.lowlevel import checkpoint
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from app.budgets.call_records import record_given_again
from app.budgets.caps import Payer
from app.budgets.ledger import Ledger
from app.errors import ModelUnknown
from app.gateway.allowance import CallLimits
from app.gateway.breaker import Admission, Breaker, Health
from app.gateway.cache import MOST_BYTES, Cache, CachePolicy, Kept
from app.gateway.catalog import Catalog
from app.gateway.chat import MAY_SERVE_STALE, Chat
from app.gateway.embedding_vectors import Vector, vectors_of
from app.gateway.forwarding import Upstream
from app.gateway.ladder import Ladder, Rung
from app.gateway.metered import MESSAGE_OVERHEAD_TOKENS, Bill, CallContext, MeteredModel, charged
from app.gateway.placeholders import Placeholders
from app.gateway.provider_json import usage_of_embeddings
from app.switches.board import Board
from app.telemetry.metrics import CACHED_ANSWERS

FEATURE = "embeddings"  # in usage, budgets and switches
Body = dict[str, Any]


@dataclass(frozen=True)
class EmbeddingRequest:
    """What is asked, once it has been found valid."""

    model: str  # a name of config/models.toml
    texts: list[str]
    dimensions: int | None = None
    caching: CachePolicy = field(default_factory=CachePolicy)


@dataclass(frozen=True)
class Embedded:
    vectors: list[Vector]  # one of each text
    model: str
    tokens: int  # that were charged, now or when it was asked first
    cost_micro: int
    age: timedelta | None = None  # of one given before


class MeteredEmbedding(MeteredModel):
    """An embedding model, metered as a chat model is; what it wraps is never asked for words."""

    def __init__(self, name: str, *, catalog: Catalog, ledger: Ledger, board: Board, deadline: timedelta) -> None:
        nothing_said = FunctionModel(_no_words, model_name=name)
        limits = CallLimits(0, deadline, deadline)
        super().__init__(nothing_said, tier=name, catalog=catalog, ledger=ledger, board=board, limits=limits)

    def _require_room(self, bill: Bill) -> None:
        """A request is as many texts as it likes; how long each may be, its provider says better than a guess."""


def _no_words(_messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    raise NotImplementedError("an embedding model says nothing")


@dataclass(frozen=True)
class Embeddings:
    catalog: Catalog  # of embedding models alone
    ladders: Mapping[str, Ladder]  # of one rung each, by the name that callers give
    upstream: Upstream | None  # None: the provider has no such interface
    cache: Cache
    board: Board
    deadline: timedelta

    @classmethod
    def beside(cls, chat: Chat, ledger: Ledger, deadline: timedelta) -> "Embeddings":
        """At the address where chat requests go."""
        catalog, board = chat.catalog.of_embeddings, chat.board
        rules = catalog.resilience
        ladders = {}
        for name in catalog.tiers:
            model = MeteredEmbedding(name, catalog=catalog, ledger=ledger, board=board, deadline=deadline)
            breaker = Breaker(model.name, faults=rules.breaker_faults, rest=timedelta(seconds=rules.breaker_rest_s))
            ladders[name] = Ladder([Rung(model, Health(breaker))], rules=rules)
        return cls(catalog, ladders, chat.upstream, chat.cache, board, deadline)

    async def embed(self, payer: Payer, request: EmbeddingRequest) -> Embedded:
        """A vector for each text. Raises what the model failed with, or ModelUnknown before it is asked."""
        upstream, name = self._offered(request.model)
        sent = await _sent(request)
        model = self.catalog.entry(name).model
        always = replace(request.caching, requested=True)  # the same text has the same vector whenever it is asked for
        key = self.cache.key(payer, model, {"messages": [], **sent}, always)
        if kept := await self._given_before(payer, key, name, request.caching):
            return _again(kept, model)

        async def ask(metered: MeteredModel, admitted: Admission, within: timedelta) -> tuple[list[Vector], Bill]:
            bill = Bill(_input_bound(sent), 0)
            with admitted.watched():
                async with metered.metered(bill, within.total_seconds()):
                    answer = await upstream.embed({**sent, "model": metered.name, "encoding_format": "base64"})
                    vectors = await vectors_of(answer, len(request.texts))
                    bill.usage = usage_of_embeddings(answer) or RequestUsage()
                    bill.answered = str(answer.get("model") or "")
            return vectors, bill

        try:
            with charged(CallContext(payer, FEATURE, "")):
                (vectors, bill), _ = await self.ladders[name].climbed(ask, self.deadline)
        except MAY_SERVE_STALE:
            if (kept := await self._given_before(payer, key, name, request.caching, stale=True)) is None:
                raise
            return _again(kept, model)
        answered = Embedded(vectors, model, bill.usage.input_tokens or bill.worst.input_tokens, bill.cost_micro)
        if key and request.caching.may_store:
            await self._keep(payer, key, answered)
        return answered

    def _offered(self, asked: str) -> tuple[Upstream, str]:
        if self.upstream is None or not self.ladders:
            raise ModelUnknown(
                "This service's model provider has no embeddings: an operator can name models in config/models.toml "
                "([embeddings]) and a server that has them by CHAT_BASE_URL."
            )
        return self.upstream, self.catalog.tier_of(asked)

    async def _given_before(
        self, payer: Payer, key: str, name: str, caching: CachePolicy, *, stale: bool = False
    ) -> Kept | None:
        """Vectors that may be given again. Raises ServiceHalted: a switch stops these as well."""
        kept = await self.cache.find(payer, key, caching, stale=stale)
        if kept is not None:
            model = self.catalog.entry(name).model
            switches = ("runs", f"tenant:{payer.tenant_id}", f"feature:{FEATURE}", f"model:{model}")
            await self.board.require_clear(*switches)
            await record_given_again(self.cache.db, payer, feature=FEATURE, model=model, tier=name)
            CACHED_ANSWERS.labels(model, "stale" if stale else "fresh").inc()
        return kept

    async def _keep(self, payer: Payer, key: str, answered: Embedded) -> None:
        if sum(map(len, answered.vectors)) > MOST_BYTES:  # in base64 it is even more
            return
        vectors = [b64encode(vector).decode() for vector in answered.vectors]
        whole = [{"finish_reason": "stop"}]  # as the cache reads of a chat's answer that it is one
        await self.cache.keep(
            payer, key, answered.model, {"choices": whole, "vectors": vectors, "tokens": answered.tokens}
        )


def _again(kept: Kept, model: str) -> Embedded:
    vectors = [b64decode(vector) for vector in kept.body["vectors"]]
    return Embedded(vectors, model, kept.body["tokens"], 0, kept.age)


async def _sent(request: EmbeddingRequest) -> Body:
    """What the provider gets but its model, without personal data and hidden characters."""
    texts = []
    for text in request.texts:
        texts.append(Placeholders.beside(text).hide(text))
        await checkpoint()  # two thousand of them take a while, and others wait
    return {"input": texts} | ({"dimensions": request.dimensions} if request.dimensions else {})


def _input_bound(sent: Body) -> int:
    """An upper bound on tokens: a byte-level tokenizer makes at most one of a byte; a model adds marks to a text."""
    return sum(len(text.encode()) + MESSAGE_OVERHEAD_TOKENS for text in sent["input"])
