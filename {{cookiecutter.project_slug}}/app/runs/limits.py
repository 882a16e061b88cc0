"""How much one run may use, its delegates included. A caller may ask for less, never for more.

Gate: cost.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from pydantic_ai.usage import UsageLimits

from app.settings import Settings


@dataclass(frozen=True)
class RunLimits:
    model_calls: int
    tool_calls: int
    duration: timedelta  # at work: waiting for a person does not count
    cost_micro: int

    @classmethod
    def of(cls, settings: Settings, cost_micro: int) -> Self:
        """The service's own. `cost_micro` is the cap on a run's cost of config/budgets.toml."""
        longest = timedelta(seconds=settings.run_timeout_s)
        return cls(settings.run_max_model_calls, settings.run_max_tool_calls, longest, cost_micro)

    @property
    def most(self) -> dict[str, int]:
        """What a caller may ask for at most, by the name of the limit."""
        return {
            "model_calls": self.model_calls,
            "tool_calls": self.tool_calls,
            "duration_s": int(self.duration.total_seconds()),
            "cost_micro": self.cost_micro,
        }

    def narrowed(self, asked: Mapping[str, Any] | None) -> "RunLimits":
        """These limits, or the caller's own where they are lower."""
        asked = asked or {}
        return RunLimits(
            min(self.model_calls, asked.get("model_calls") or self.model_calls),
            min(self.tool_calls, asked.get("tool_calls") or self.tool_calls),
            min(self.duration, timedelta(seconds=asked["duration_s"])) if asked.get("duration_s") else self.duration,
            min(self.cost_micro, asked.get("cost_micro", self.cost_micro)),
        )

    @property
    def usage(self) -> UsageLimits:
        return UsageLimits(request_limit=self.model_calls, tool_calls_limit=self.tool_calls)
