"""How a new version is judged while it is rolled out: config/rollout.toml. Gate: deployment."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.config_files import read_config

FULL_TRAFFIC = 100


class Criticality(StrEnum):
    CRITICAL = "critical"  # worse: abort; not shown to be within its margin: hold
    INFORMATIVE = "informative"  # worse: hold; otherwise reported only


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Judging(_Data):
    """What holds for the whole rollout."""

    false_aborts: float = Field(default=0.01, gt=0, lt=0.5)  # chance to abort a release as good as the stable one
    confidence: float = Field(default=0.95, gt=0.5, lt=1)  # of "at most the margin worse"
    total_minutes: float = Field(default=240, gt=0)
    telemetry_lost_after_s: float = Field(default=120, gt=0)
    clock_tolerance_s: float = Field(default=30, ge=0)


class Stage(_Data):
    """A share of the traffic. At 100 % no stable arm is left to compare with, so the stage is only watched."""

    weight_percent: float = Field(gt=0, le=FULL_TRAFFIC)
    margin_points: float | None = Field(default=None, gt=0, lt=100)
    looks: int | None = Field(default=None, ge=1, le=100)
    least_minutes: float = Field(default=0, ge=0)

    @property
    def is_compared(self) -> bool:
        return self.weight_percent < FULL_TRAFFIC

    @model_validator(mode="after")
    def _complete(self) -> Self:
        given = (self.margin_points is not None, self.looks is not None)
        if self.is_compared and not all(given):
            raise ValueError("a stage below 100 % needs margin_points and looks")
        if not self.is_compared and any(given):
            raise ValueError("a stage of 100 % has no stable arm to compare with: leave margin_points and looks out")
        return self


class FailureFloor(_Data):
    """So many events, and more than this share of the canary's requests: abort, whatever the stable arm does."""

    events: int = Field(default=5, ge=1)
    percent: float = Field(default=20, gt=0, lt=100)


class _Metric(_Data):
    meaning: str = ""
    direction: Literal["down", "up"] = "down"  # which way is better
    criticality: Criticality = Criticality.CRITICAL


class BinaryMetric(_Metric):
    """Events of requests. Fisher's exact test, Newcombe's interval."""

    kind: Literal["binary"] = Field(alias="class")
    margin_points: float | None = Field(default=None, gt=0, lt=100)  # instead of the stage's
    abort_at_once: FailureFloor | None = None


class DistributionMetric(_Metric):
    """Measurements compared by rank. Mann-Whitney's test, common language effect size."""

    kind: Literal["distribution"] = Field(alias="class")
    margin_cles: float = Field(default=0.60, gt=0.5, lt=1)
    least_samples: int = Field(default=50, ge=20)  # per arm; from 20 on the normal approximation of the test holds


class MeanMetric(_Metric):
    """Amounts that add up, such as dollars, compared by their means. Permutation test, ratio of means."""

    kind: Literal["mean"] = Field(alias="class")
    margin_ratio: float = Field(default=1.25, gt=1)
    least_samples: int = Field(default=50, ge=20)  # per arm


Metric = Annotated[BinaryMetric | DistributionMetric | MeanMetric, Field(discriminator="kind")]


def _default_stages() -> tuple[Stage, ...]:
    return (
        Stage(weight_percent=5, margin_points=5, looks=6, least_minutes=5),
        Stage(weight_percent=25, margin_points=2, looks=6, least_minutes=10),
        Stage(weight_percent=50, margin_points=1, looks=6, least_minutes=10),
        Stage(weight_percent=FULL_TRAFFIC, least_minutes=15),
    )


def _default_metrics() -> dict[str, Metric]:
    def binary(meaning: str, criticality: Criticality = Criticality.INFORMATIVE, **rest: object) -> BinaryMetric:
        return BinaryMetric.model_validate({"class": "binary", "meaning": meaning, "criticality": criticality, **rest})

    return {
        "errors": binary("requests answered 5xx or not at all", Criticality.CRITICAL, abort_at_once=FailureFloor()),
        "golden_cases": binary(
            "evaluation cases passed, run on each arm", Criticality.CRITICAL, direction="up", margin_points=15
        ),
        "latency_ms": DistributionMetric.model_validate(
            {"class": "distribution", "meaning": "time to the end of the answer, of each request"}
        ),
        "cost_usd": MeanMetric.model_validate({"class": "mean", "meaning": "cost of each finished run"}),
        "refusals": binary("answers in which the model refused, or that were withheld"),
        "denials": binary("tool calls that the policy denied"),
        "output_repairs": binary("answers that did not fit their schema and were asked for again"),
        "fallbacks": binary("model calls that another model answered"),
    }


class RolloutRules(_Data):
    """config/rollout.toml; what the file leaves out is as here."""

    judging: Judging = Judging()
    stages: tuple[Stage, ...] = Field(default_factory=_default_stages, min_length=1)
    metrics: dict[str, Metric] = Field(default_factory=_default_metrics, min_length=1)

    @classmethod
    def load(cls, config_dir: Path) -> Self:
        """Raises SettingsInvalid naming each key that cannot be used."""
        return read_config(config_dir / "rollout.toml", cls)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        weights = [stage.weight_percent for stage in self.stages]
        if weights != sorted(set(weights)):
            raise ValueError("stages: weight_percent must rise from stage to stage")
        if not self.stages[0].is_compared:
            raise ValueError("stages: the first must be below 100 %, else nothing is compared")
        if not self.critical:
            raise ValueError("metrics: at least one must be critical, else nothing aborts a rollout")
        return self

    @property
    def critical(self) -> tuple[str, ...]:
        return tuple(name for name, metric in self.metrics.items() if metric.criticality is Criticality.CRITICAL)

    @property
    def level(self) -> float:
        """The significance level of one test at one look.

        `false_aborts` divided by the number of tests that can abort, over all stages: Bonferroni's inequality, which
        holds however the looks depend on each other and whenever they are taken. Spending functions (Lan and DeMets
        1983, Biometrika 70:659) need a planned amount of data per look, which traffic does not keep to."""
        looks = sum(stage.looks or 0 for stage in self.stages)
        return self.judging.false_aborts / (looks * len(self.critical))
