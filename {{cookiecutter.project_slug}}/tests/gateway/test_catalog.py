"""What nobody can price is refused; what can be priced is never rounded down."""

import pytest

from app.errors import ModelUnpriced
from app.gateway.catalog import Catalog, ModelEntry
from app.settings import ROOT


def test_a_model_nobody_can_price_is_refused() -> None:
    with pytest.raises(ModelUnpriced):
        Catalog("openai", {"standard": ModelEntry(model="no-such-model-9")}).cost_micro(
            "standard", input_tokens=1, output_tokens=1
        )


def test_a_price_is_rounded_up_to_the_micro_dollar() -> None:
    entry = ModelEntry.model_validate({"model": "m", "input_usd_per_mtok": "0.1", "output_usd_per_mtok": "0.1"})
    assert Catalog("x", {"standard": entry}).cost_micro("standard", input_tokens=1, output_tokens=0) == 1


@pytest.mark.parametrize("provider", ["offline", "openai", "anthropic", "google", "bedrock"])
def test_every_model_of_the_shipped_catalogue_has_a_price(provider: str) -> None:
    catalog = Catalog.load(ROOT / "config" / "models.toml", provider)
    assert catalog.cost_micro("standard", input_tokens=1000, output_tokens=1000) > 0
