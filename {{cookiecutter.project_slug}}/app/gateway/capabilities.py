"""Which parameters of the chat interface a model takes, by the profiles of the kept library. Gate: cost.

A client's defaults are written for some model; where the name that it gives leads to another, what that one refuses is
left out, and the answer says so.
"""

from functools import cache

from pydantic_ai.profiles.openai import openai_model_profile

# By OpenAI's guide to reasoning models: they refuse these, or any value but the default.
NOT_WITH_REASONING = frozenset(
    {"temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias", "stop"}
)


@cache
def not_taken(provider: str, model: str, effort: str | None) -> frozenset[str]:
    """The parameters that a model refuses when it reasons with that effort; None: with its default."""
    if provider != "openai":
        return frozenset()
    profile = openai_model_profile(model) or {}
    reasons = profile.get("thinking_enabled_by_default", False) if effort is None else effort != "none"
    return NOT_WITH_REASONING if reasons and profile.get("openai_supports_reasoning") else frozenset()
