"""From scores to a verdict: floors per check and per slice, with the error bars a small set deserves.

The interval is Wilson's score interval at 95 % (Wilson 1927), which stays honest near 0 and 1.
Gate: testing.
"""

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

Z95 = 1.959964


class Thresholds(BaseModel):
    """thresholds.toml: the least share of passing cases, overall and by slice."""

    model_config = ConfigDict(extra="forbid")
    dataset_version: str
    minimum_cases: int = Field(ge=1)
    checks: dict[str, float]
    slices: dict[str, float] = Field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "Thresholds":
        return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Score:
    name: str
    passed: int
    total: int
    floor: float

    @property
    def rate(self) -> float:
        return self.passed / self.total if self.total else 0.0

    @property
    def ok(self) -> bool:
        return self.total > 0 and self.rate >= self.floor

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.passed, self.total)


def wilson(passed: int, total: int) -> tuple[float, float]:
    if total == 0:
        return 0.0, 1.0
    p, z2 = passed / total, Z95 * Z95
    centre = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 * math.sqrt(p * (1 - p) / total + z2 / (4 * total * total)) / (1 + z2 / total)
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class CaseScore:
    name: str
    slice: str
    checks: dict[str, bool]


def scores(cases: Sequence[CaseScore], thresholds: Thresholds) -> list[Score]:
    """One score per check over all cases, and one per slice over all its checks."""
    found = []
    for check, floor in thresholds.checks.items():
        values = [case.checks.get(check, False) for case in cases]
        found.append(Score(check, sum(values), len(values), floor))
    for name in sorted({case.slice for case in cases}):
        whole = [all(case.checks.values()) for case in cases if case.slice == name]
        found.append(Score(f"slice {name}", sum(whole), len(whole), thresholds.slices.get(name, 0.0)))
    return found
