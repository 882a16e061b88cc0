"""Which models exist, by provider and tier, and what a call costs. A model without a price is refused.

Gate: cost, validation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated

from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.budgets.money import to_micro
from app.config_files import read_config
from app.errors import ModelUnknown, ModelUnpriced
from app.gateway.capabilities import not_taken, reasons
from app.gateway.model_names import ModelNames
from app.gateway.routing import AUTO, Router

OFFLINE_MODEL = "offline-deterministic-1"
MILLION = Decimal(1_000_000)
REASONING_TOKENS = 4_096  # of an answer, where a model reasons and its entry does not say
EmbeddingName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,59}$")]


class ModelEntry(BaseModel):
    """A model of one provider. Prices are US dollars per million tokens; left out, the price library's."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,119}$")
    input_usd_per_mtok: Decimal | None = Field(None, gt=0)
    output_usd_per_mtok: Decimal | None = Field(None, gt=0)
    context_tokens: int | None = Field(None, ge=1_000, description="input and output together; left out, the library's")
    max_output_tokens: int = Field(4_096, ge=1, le=200_000, description="the most that a caller may ask for")
    reasoning_tokens: int | None = Field(
        None, ge=0, le=200_000, description="on top, for what no text shows; left out, 4,096 where its profile reasons"
    )
    not_taken: tuple[str, ...] | None = Field(
        None, max_length=20, description="parameters of the chat interface that it refuses; left out, by its profile"
    )
    images: bool | None = Field(None, description="it may be sent images, in which nothing is redacted; left out, not")
    fallbacks: tuple[str, ...] = Field((), max_length=3, description="tiers that stand in for it, first to last")
    retires: date | None = Field(None, strict=True, description="the first day on which its provider has it no longer")


class EmbeddingEntry(BaseModel):
    """An embedding model of one provider, under the name that callers give. Only what it reads is charged."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,119}$", description="left out, the name itself"
    )
    input_usd_per_mtok: Decimal | None = Field(None, gt=0)
    retires: date | None = Field(None, strict=True)

    def as_model(self, name: str) -> ModelEntry:
        price = self.input_usd_per_mtok  # there is no output that the other price would be of
        entry = ModelEntry(model=self.model or name, input_usd_per_mtok=price, output_usd_per_mtok=price)
        return entry.model_copy(update={"retires": self.retires})


DEFAULT_TABLE: dict[str, dict[str, ModelEntry]] = {
    "offline": {
        "standard": ModelEntry(
            model=OFFLINE_MODEL, input_usd_per_mtok=Decimal("0.25"), output_usd_per_mtok=Decimal("1.25")
        )
    }
}
DEFAULT_EMBEDDINGS: dict[str, dict[str, EmbeddingEntry]] = {
    "offline": {
        "text-embedding-3-small": EmbeddingEntry(model="offline-embedding-small-1", input_usd_per_mtok=Decimal("0.02"))
    }
}


class ResilienceRules(BaseModel):
    """How a failing model is treated."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    attempts: int = Field(3, ge=1, le=5, description="requests for one call at one model")
    first_wait_ms: int = Field(
        200, ge=1, le=10_000, description="doubles with each retry; a random part of it is waited"
    )
    longest_wait_ms: int = Field(4_000, ge=1, le=60_000)
    breaker_faults: int = Field(5, ge=1, le=1_000, description="in a row; then the model is left alone")
    breaker_rest_s: int = Field(30, ge=1, le=3_600, description="for so long; then one call is let through")


class CacheRules(BaseModel):
    """How long an answer is given again."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    ttl_s: int = Field(300, ge=0, le=86_400, description="0: never")
    stale_s: int = Field(86_400, ge=0, le=30 * 86_400, description="until then where no model answers, marked degraded")


class RoutingRules(BaseModel):
    """The tiers that `auto` chooses among."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    order: tuple[str, ...] = Field(("small", "standard", "large"), max_length=10, description="from cheap to strong")
    least: dict[str, int] = Field({"standard": 14, "large": 50}, description="complexity from which a tier is chosen")
    most: str | None = Field(None, description="the strongest for a tenant that has none of its own; None: all")


class ModelsFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    names: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,118}\*?$")], str] = Field(
        default_factory=dict, description="what callers may name a tier; `gpt-4o*` is every name that begins so"
    )
    resilience: ResilienceRules = ResilienceRules()
    cache: CacheRules = CacheRules()
    routing: RoutingRules = RoutingRules()
    providers: dict[str, dict[str, ModelEntry]] = Field(default_factory=dict)
    embeddings: dict[str, dict[EmbeddingName, EmbeddingEntry]] = Field(
        default_factory=dict, description="by provider, and by the name that callers give"
    )


@dataclass(frozen=True)
class Catalog:
    provider: str
    tiers: Mapping[str, ModelEntry]
    resilience: ResilienceRules = field(default_factory=ResilienceRules)
    names: Mapping[str, str] = field(default_factory=dict)
    cache: CacheRules = field(default_factory=CacheRules)
    routing: RoutingRules = field(default_factory=RoutingRules)
    embeddings: Mapping[str, ModelEntry] = field(default_factory=dict)
    named_in: str = "[names]"  # of config/models.toml: where names of these models are added

    @classmethod
    def load(cls, path: Path, provider: str) -> "Catalog":
        """Read one provider's tiers and embedding models.

        Raises ModelUnpriced at start for a model nobody can price, ModelUnknown for what names a tier there is not."""
        declared = read_config(path, ModelsFile)
        tiers = declared.providers.get(provider) or DEFAULT_TABLE.get(provider)
        if not tiers:
            raise ModelUnknown(f"config/models.toml has no [providers.{provider}] table.")
        embeddings = declared.embeddings.get(provider) or DEFAULT_EMBEDDINGS.get(provider, {})
        vectors = {name: entry.as_model(name) for name, entry in embeddings.items()}
        catalog = cls(provider, tiers, declared.resilience, declared.names, declared.cache, declared.routing, vectors)
        for tier in tiers:
            catalog.cost_micro(tier, input_tokens=1, output_tokens=1)
            catalog.ladder(tier)
        for name in vectors:
            catalog.of_embeddings.cost_micro(name, input_tokens=1, output_tokens=0)
        for tier in {*declared.names.values()} - {AUTO}:
            catalog.entry(tier)
        if catalog.most not in {*catalog.router.order, ""}:
            raise ModelUnknown(f"routing.most is none of the tiers: {', '.join(catalog.router.order)}.")
        return catalog

    @property
    def of_embeddings(self) -> "Catalog":
        """The embedding models as a catalogue of their own, each of them a tier by its name."""
        named_in = f"[embeddings.{self.provider}]"
        return Catalog(self.provider, self.embeddings, self.resilience, cache=self.cache, named_in=named_in)

    @property
    def most(self) -> str:
        """The strongest tier of a tenant that has none of its own; empty where there is no order of tiers."""
        return self.routing.most or next(reversed(self.router.order), "")

    @property
    def router(self) -> Router:
        """Chooses among those tiers of the order that this provider has."""
        return Router([tier for tier in self.routing.order if tier in self.tiers], self.routing.least)

    @cached_property
    def model_names(self) -> ModelNames:
        """What callers may ask for: the tiers, their models, the other names they have."""
        models = {tier: entry.model for tier, entry in self.tiers.items()}
        return ModelNames(models, self.names, [AUTO] if self.router.order else [], self.named_in)

    def tier_of(self, name: str) -> str:
        """The tier that answers to a name, or AUTO. Raises ModelNotFound."""
        return self.model_names.tier(name)

    def ladder(self, tier: str) -> list[str]:
        """The tier and those that stand in for it. Raises ModelUnknown."""
        rungs = [tier, *self.entry(tier).fallbacks]
        models = [self.entry(rung).model for rung in rungs]
        if len(set(models)) < len(models):
            raise ModelUnknown(f"The fallbacks of tier {tier} must be other models, each once.")
        return rungs

    def entry(self, tier: str) -> ModelEntry:
        if tier not in self.tiers:
            raise ModelUnknown(f"There is no tier {tier}: choose from {', '.join(sorted(self.tiers))}.")
        return self.tiers[tier]

    def not_taken(self, tier: str, effort: str | None) -> frozenset[str]:
        """Parameters of the chat interface that a tier's model refuses when it reasons with that effort."""
        entry = self.entry(tier)
        if entry.not_taken is not None:
            return frozenset(entry.not_taken)
        return not_taken(self.provider, entry.model, effort)

    def reasoning_tokens(self, tier: str, effort: str | None) -> int:
        """How many tokens a tier's model may have beside what can be read of its answer."""
        entry = self.entry(tier)
        if effort == "none":
            return 0
        if entry.reasoning_tokens is not None:
            return entry.reasoning_tokens
        return REASONING_TOKENS if reasons(self.provider, entry.model, effort) else 0

    def takes_images(self, tier: str) -> bool:
        """Whether the tier may be sent images, whichever of its models answers; the offline model reads none."""
        return self.provider != "offline" and all(self.entry(rung).images for rung in self.ladder(tier))

    def context_tokens(self, tier: str) -> int | None:
        """How much one call can hold; None where neither the table nor the library knows."""
        entry = self.entry(tier)
        if entry.context_tokens is not None:
            return entry.context_tokens
        try:
            provider = _PRICE_IDS.get(self.provider, self.provider)
            _, model = get_snapshot().find_provider_model(entry.model, None, provider, None)
        except LookupError:
            return None
        return model.context_window

    def cost_micro(
        self,
        tier: str,
        *,
        input_tokens: int,
        output_tokens: int,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        cache_write_1h_tokens: int = 0,
    ) -> int:
        """The price of one call in micro-dollars, rounded up. Raises ModelUnpriced, never answers 0 for unknown.

        `input_tokens` include those read from the provider's cache or written to it, which have prices of their own in
        the library's table, and those written for an hour another; with prices from config/models.toml they cost what
        all input costs."""
        entry = self.entry(tier)
        if entry.input_usd_per_mtok is not None and entry.output_usd_per_mtok is not None:
            parts = input_tokens * entry.input_usd_per_mtok + output_tokens * entry.output_usd_per_mtok
            return to_micro(parts / MILLION)
        try:
            if cache_read_tokens + cache_write_tokens > input_tokens:  # no part of it: then none was cached
                cache_read_tokens = cache_write_tokens = 0
            for_an_hour = min(cache_write_1h_tokens, cache_write_tokens)
            usage = Usage(
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                cache_read_tokens=cache_read_tokens or None,
                cache_write_tokens=cache_write_tokens or None,
                cache_write_1h_tokens=for_an_hour or None,
            )
            price = calc_price(usage, model_ref=entry.model, provider_id=_PRICE_IDS.get(self.provider, self.provider))
        except LookupError:
            raise ModelUnpriced(
                f"{entry.model}: no known price; set input_usd_per_mtok and output_usd_per_mtok in config/models.toml."
            ) from None
        return to_micro(price.total_price)


_PRICE_IDS = {"bedrock": "aws"}
