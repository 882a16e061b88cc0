"""Which names in an answer are those of the model that was asked for."""

import pytest

from app.gateway.alias_drift import is_version_of, look_at_name
from app.telemetry.metrics import REGISTRY

SAME = [
    ("gpt-4o", "gpt-4o"),
    ("gpt-4o-2024-08-06", "gpt-4o"),
    ("gpt-4-0613", "gpt-4"),
    ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
    ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
    ("gemini-2.0-flash-001", "gemini-2.0-flash"),
    ("models/gemini-2.0-flash", "gemini-2.0-flash"),
    ("anthropic.claude-sonnet-4-20250514-v1:0", "anthropic.claude-sonnet-4-20250514"),
    ("llama3:latest", "llama3"),
    ("Qwen/Qwen3-8B", "qwen3-8b"),
]
OTHERS = [
    ("gpt-4o-mini", "gpt-4o"),
    ("gpt-4o-mini-2024-07-18", "gpt-4o"),
    ("gpt-5.1", "gpt-5"),
    ("claude-sonnet-4-5", "claude-sonnet-4"),
    ("gpt-4o-2024-08-06", "gpt-4o-2024-05-13"),
    ("gpt-4", "gpt-4o"),
    ("something-else", "gpt-4o"),
]


@pytest.mark.parametrize(("answered", "asked"), SAME)
def test_a_version_of_the_model_is_that_model(answered: str, asked: str) -> None:
    assert is_version_of(answered, asked)


@pytest.mark.parametrize(("answered", "asked"), OTHERS)
def test_another_model_is_another_one(answered: str, asked: str) -> None:
    assert not is_version_of(answered, asked)


def test_each_answer_counts_and_an_answer_without_a_name_does_not() -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("ai_model_answered_as_another_total", {"model": "alias-test"}) or 0.0

    for answered, count in (("", 0), ("alias-test-2026-01-01", 0), ("other", 1), ("other", 2)):
        look_at_name(answered, "alias-test")
        assert counted() == count
