"""What was seen of both arms: the border between the judge and whoever collects for it. Gate: deployment.

A collector (a load balancer's counters, Prometheus, a pipeline's own measurements) fills in `Observations`. Numbers may
be missing or NaN, because that is what collectors return; the judge says what that means.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from app.config_files import reasons


class ObservationsInvalid(Exception):
    """The observations cannot be read; the message says where."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Seen(_Data):
    """One metric in one arm: `events` of `total` for a binary one, `values` for the others."""

    events: float | None = None
    total: float | None = None
    values: tuple[float | None, ...] | None = None

    @property
    def is_empty(self) -> bool:
        return not self.values and not self.total


class Arm(_Data):
    """What one version did since the stage began."""

    began: AwareDatetime  # from here on its requests are counted
    until: AwareDatetime  # its telemetry was read last, with or without traffic
    metrics: dict[str, Seen] = Field(default_factory=dict)


class Observations(_Data):
    """One look at a rollout. Numbers are since the stage began, not since the last look."""

    stage: int = Field(ge=1)  # 1 is the first of config/rollout.toml
    look: int = Field(ge=1)  # of this stage
    rollout_began: AwareDatetime
    canary: Arm | None = None
    stable: Arm | None = None
    seen_before: frozenset[str] = frozenset()  # metrics for which the canary had data at an earlier look of this stage

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises ObservationsInvalid."""
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            lines = reasons(error)
        raise ObservationsInvalid(f"{path} cannot be judged:\n  " + "\n  ".join(lines))

    def with_data(self) -> frozenset[str]:
        """What to hand to the next look as `seen_before`."""
        metrics = self.canary.metrics if self.canary else {}
        return self.seen_before | {name for name, seen in metrics.items() if not seen.is_empty}


def overlap_s(canary: Arm, stable: Arm) -> float:
    """For how many seconds both arms were measured at the same time."""
    both: tuple[datetime, datetime] = max(canary.began, stable.began), min(canary.until, stable.until)
    return (both[1] - both[0]).total_seconds()
