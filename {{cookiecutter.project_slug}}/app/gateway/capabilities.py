"""What a model takes and whether it reasons, by the profiles of the kept library. Gate: cost.

A client's defaults are written for some model; where the name that it gives leads to another, what that one refuses is
left out, and the answer says so.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic_ai.profiles.anthropic import anthropic_model_profile
from pydantic_ai.profiles.google import google_model_profile
from pydantic_ai.profiles.openai import openai_model_profile

# By OpenAI's guide to reasoning models: they refuse these, or any value but the default.
NOT_WITH_REASONING = frozenset(
    {"temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias", "stop"}
)
_PROFILES = {"openai": openai_model_profile, "anthropic": anthropic_model_profile, "google": google_model_profile}


@cache
def not_taken(provider: str, model: str, effort: str | None) -> frozenset[str]:
    """The parameters that a model refuses when it reasons with that effort; None: with its default."""
    refuses = provider == "openai" and reasons(provider, model, effort)
    return NOT_WITH_REASONING if refuses else frozenset()


@cache
def reasons(provider: str, model: str, effort: str | None) -> bool:
    """Whether a model has tokens that no text shows, when it is asked with that effort; None: with none named."""
    profile = _profile(provider, model)
    if effort is not None:
        return effort != "none" and bool(profile.get("supports_thinking"))
    return any(profile.get(name) for name in ("thinking_enabled_by_default", "thinking_always_enabled"))


def _profile(provider: str, model: str) -> Mapping[str, Any]:
    """Empty where the library knows nothing of a provider's models."""
    profile: Mapping[str, Any] | None = _PROFILES[provider](model) if provider in _PROFILES else None
    return profile or {}
