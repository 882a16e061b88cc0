"""How much one run may use, its delegates included. A caller may ask for less, never for more.

Gate: cost.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic_ai.usage import UsageLimits


@dataclass(frozen=True)
class RunLimits:
    model_calls: int
    tool_calls: int
    duration: timedelta  # at work: waiting for a person does not count

    def narrowed(self, asked: Mapping[str, Any] | None) -> "RunLimits":
        """These limits, or the caller's own where they are lower."""
        asked = asked or {}
        return RunLimits(
            min(self.model_calls, asked.get("model_calls") or self.model_calls),
            min(self.tool_calls, asked.get("tool_calls") or self.tool_calls),
            min(self.duration, timedelta(seconds=asked["duration_s"])) if asked.get("duration_s") else self.duration,
        )

    @property
    def usage(self) -> UsageLimits:
        return UsageLimits(request_limit=self.model_calls, tool_calls_limit=self.tool_calls)
