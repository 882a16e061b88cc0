"""Names that callers give as `model`: what is declared outright counts, then the longest beginning."""

import pytest

from app.errors import ModelNotFound
from app.gateway.catalog import Catalog
from app.gateway.model_names import ModelNames
from app.settings import ROOT

NAMES = ModelNames(
    {"small": "gpt-5-nano", "standard": "gpt-5-mini", "large": "gpt-5"},
    {"gpt-5*": "large", "gpt-5-mini*": "standard", "gpt-5-mini-2": "small", "old": "standard", "gpt-5-nano": "large"},
    ["auto"],
)


@pytest.mark.parametrize(
    ("name", "tier"),
    [
        ("small", "small"),
        ("auto", "auto"),
        ("gpt-5-mini", "standard"),
        ("gpt-5", "large"),
        ("gpt-5-mini-2025-08-07", "standard"),
        ("gpt-5-mini-2", "small"),
        ("gpt-5.2-chat", "large"),
        ("gpt-5-nano", "large"),
        ("old", "standard"),
    ],
)
def test_a_name_leads_to_its_tier(name: str, tier: str) -> None:
    assert NAMES.tier(name) == tier


@pytest.mark.parametrize("name", ["older", "gpt-4", "GPT-5", "*", "gpt-5*x"[:4], ""])
def test_another_name_is_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(ModelNotFound, match=r"choose from auto, small, .*gpt-5\*.*config/models\.toml"):
        NAMES.tier(name)


@pytest.mark.parametrize("provider", ["offline", "openai", "anthropic", "google", "bedrock"])
def test_each_provider_s_current_and_dated_names_are_answered(provider: str) -> None:
    catalog = Catalog.load(ROOT / "config" / "models.toml", provider)
    for name, tier in {
        "gpt-4o": "standard", "gpt-4o-mini-2024-07-18": "standard", "gpt-5.1": "large", "gpt-3.5-turbo-0125": "small",
        "o4-mini": "standard", "o3-2025-04-16": "large", "claude-sonnet-4-5-20250929": "standard",
        "claude-haiku-4-5": "small", "claude-opus-4-1": "large", "gemini-2.0-flash": "standard",
        "gemini-2.5-pro-preview": "large",
    }.items():  # fmt: skip
        assert catalog.tier_of(name) == tier, name
    for tier, entry in catalog.tiers.items():
        assert catalog.tier_of(entry.model) == tier
