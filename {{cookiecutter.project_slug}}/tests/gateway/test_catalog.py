"""What nobody can price is refused; what can be priced is never rounded down."""

from pathlib import Path

import pytest

from app.errors import ModelUnknown, ModelUnpriced
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


def test_a_fallback_is_another_tier_with_another_model(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    priced = 'input_usd_per_mtok = "1", output_usd_per_mtok = "1"'
    other = f'spare = {{ model = "n", {priced} }}'
    for fallbacks, rungs in (('["spare"]', ["standard", "spare"]), ('["gone"]', None), ('["standard"]', None)):
        standard = f'standard = {{ model = "m", {priced}, fallbacks = {fallbacks} }}'
        file.write_text(f"[providers.openai]\n{standard}\n{other}\n")
        if rungs:
            assert Catalog.load(file, "openai").ladder("standard") == rungs
        else:
            with pytest.raises(ModelUnknown):
                Catalog.load(file, "openai")


@pytest.mark.parametrize("provider", ["offline", "openai", "anthropic", "google", "bedrock"])
def test_every_model_of_the_shipped_catalogue_has_a_price(provider: str) -> None:
    catalog = Catalog.load(ROOT / "config" / "models.toml", provider)
    assert catalog.cost_micro("standard", input_tokens=1000, output_tokens=1000) > 0


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google"])
def test_cached_input_has_the_price_that_the_provider_asks_for_it(provider: str) -> None:
    """fault 2: 99,000 of 100,000 tokens from the cache were booked at nine times the bill."""
    catalog = Catalog.load(ROOT / "config" / "models.toml", provider)

    def cost(*, read: int = 0, written: int = 0) -> int:
        return catalog.cost_micro(
            "standard", input_tokens=100_000, output_tokens=0, cache_read_tokens=read, cache_write_tokens=written
        )

    assert cost(read=99_000) < cost() / 2
    assert cost(read=100_001) == cost(), "more than was sent is no part of it"
    assert cost(written=99_000) >= cost()


def test_what_a_cache_keeps_for_an_hour_has_the_price_of_an_hour() -> None:
    """fault 2: Anthropic asks twice the price of input for it, and one and a quarter for five minutes."""
    catalog = Catalog.load(ROOT / "config" / "models.toml", "anthropic")

    def cost(written: int, for_an_hour: int) -> int:
        return catalog.cost_micro(
            "standard", input_tokens=100_000, output_tokens=0,
            cache_write_tokens=written, cache_write_1h_tokens=for_an_hour,
        )  # fmt: skip

    assert cost(100_000, 100_000) == 2 * cost(0, 0)
    assert cost(100_000, 200_000) == cost(100_000, 100_000), "no more than was written at all"
    assert cost(100_000, 0) < cost(100_000, 50_000) < cost(100_000, 100_000)
