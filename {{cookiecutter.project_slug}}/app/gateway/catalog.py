"""Which models exist, by provider and tier, and what a call costs. A model without a price is refused.

Gate: cost, validation.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from pydantic import BaseModel, ConfigDict, Field

from app.budgets.money import to_micro
from app.errors import ModelUnknown, ModelUnpriced

OFFLINE_MODEL = "offline-deterministic-1"
MILLION = Decimal(1_000_000)


class ModelEntry(BaseModel):
    """A model of one provider. Prices are US dollars per million tokens; left out, the price library's."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,119}$")
    input_usd_per_mtok: Decimal | None = Field(None, gt=0)
    output_usd_per_mtok: Decimal | None = Field(None, gt=0)
    context_tokens: int | None = Field(None, ge=1_000, description="input and output together; left out, the library's")


DEFAULT_TABLE: dict[str, dict[str, ModelEntry]] = {
    "offline": {
        "standard": ModelEntry(
            model=OFFLINE_MODEL, input_usd_per_mtok=Decimal("0.25"), output_usd_per_mtok=Decimal("1.25")
        )
    }
}


class ModelsFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    providers: dict[str, dict[str, ModelEntry]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Catalog:
    provider: str
    tiers: Mapping[str, ModelEntry]

    @classmethod
    def load(cls, path: Path, provider: str) -> "Catalog":
        """Read one provider's tiers; raises ModelUnpriced at start for a model nobody can price."""
        declared = ModelsFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
        tiers = (declared.providers if declared else {}).get(provider) or DEFAULT_TABLE.get(provider)
        if not tiers:
            raise ModelUnknown(f"config/models.toml has no [providers.{provider}] table.")
        catalog = cls(provider, tiers)
        for tier in tiers:
            catalog.cost_micro(tier, input_tokens=1, output_tokens=1)
        return catalog

    def entry(self, tier: str) -> ModelEntry:
        if tier not in self.tiers:
            raise ModelUnknown(f"There is no tier {tier}: choose from {', '.join(sorted(self.tiers))}.")
        return self.tiers[tier]

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

    def cost_micro(self, tier: str, *, input_tokens: int, output_tokens: int) -> int:
        """The price of one call in micro-dollars, rounded up. Raises ModelUnpriced, never answers 0 for unknown."""
        entry = self.entry(tier)
        if entry.input_usd_per_mtok is not None and entry.output_usd_per_mtok is not None:
            parts = input_tokens * entry.input_usd_per_mtok + output_tokens * entry.output_usd_per_mtok
            return to_micro(parts / MILLION)
        try:
            usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
            price = calc_price(usage, model_ref=entry.model, provider_id=_PRICE_IDS.get(self.provider, self.provider))
        except LookupError:
            raise ModelUnpriced(
                f"{entry.model}: no known price; set input_usd_per_mtok and output_usd_per_mtok in config/models.toml."
            ) from None
        return to_micro(price.total_price)


_PRICE_IDS = {"bedrock": "aws"}
