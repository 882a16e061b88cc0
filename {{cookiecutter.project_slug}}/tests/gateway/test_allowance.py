"""How long an answer may be and may take: the brief's 900 tokens in 9 s, and what goes beyond them."""

from datetime import timedelta
from pathlib import Path

import pytest

from app.gateway.allowance import CallLimits, allowance
from app.gateway.capabilities import not_taken, reasons
from app.gateway.catalog import Catalog
from app.settings import ROOT

LIMITS = CallLimits(900, timedelta(seconds=9), timedelta(seconds=120))


def _seconds(asked: int | None, reasoning: int = 0, ceiling: int = 16_384) -> tuple[int, float, float, bool]:
    given = allowance(LIMITS, asked, ceiling=ceiling, reasoning=reasoning)
    return given.tokens, given.patience.total_seconds(), given.deadline.total_seconds(), given.is_clamped


@pytest.mark.parametrize(
    ("asked", "reasoning", "given"),
    [
        (None, 0, (900, 9, 9, False)),
        (5, 0, (5, 9, 9, False)),
        (1_800, 0, (1_800, 9, 18, False)),
        (16_384, 0, (16_384, 9, 120, False)),
        (16_385, 0, (16_384, 9, 120, True)),
        (None, 900, (1_800, 18, 18, False)),
        (1_800, 900, (2_700, 18, 27, False)),
        (5, 100_000, (100_005, 120, 120, False)),
    ],
)
def test_tokens_beyond_the_default_get_time_at_its_rate(
    asked: int | None, reasoning: int, given: tuple[int, float, float, bool]
) -> None:
    assert _seconds(asked, reasoning) == given


def test_the_default_stays_below_the_ceiling_too() -> None:
    assert _seconds(None, ceiling=100) == (100, 9, 9, False)


@pytest.mark.parametrize(
    ("provider", "model", "effort", "expected"),
    [
        ("openai", "gpt-5-mini", None, True),
        ("openai", "gpt-5.1", None, False),
        ("openai", "gpt-5.1", "high", True),
        ("openai", "gpt-5.1", "none", False),
        ("openai", "gpt-4o", "high", False),
        ("google", "gemini-2.5-pro", None, True),
        ("anthropic", "claude-sonnet-4-5", None, False),
        ("offline", "offline-deterministic-1", None, False),
    ],
)
def test_which_models_reason_is_the_library_s_to_say(
    provider: str, model: str, effort: str | None, expected: bool
) -> None:
    assert reasons(provider, model, effort) is expected
    assert bool(not_taken(provider, model, effort)) is (expected and provider == "openai")


def test_a_model_s_entry_may_say_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    said = 'model = "gpt-5-mini", reasoning_tokens = 7, not_taken = ["seed"]'
    file.write_text(f"[providers.openai]\nstandard = {{ {said} }}\n")
    catalog = Catalog.load(file, "openai")
    assert (catalog.reasoning_tokens("standard", None), catalog.reasoning_tokens("standard", "none")) == (7, 0)
    assert catalog.not_taken("standard", None) == {"seed"}


@pytest.mark.parametrize("provider", ["openai", "google"])
def test_the_shipped_models_have_room_to_reason(provider: str) -> None:
    catalog = Catalog.load(ROOT / "config" / "models.toml", provider)
    assert catalog.reasoning_tokens("standard", None) == 4_096
