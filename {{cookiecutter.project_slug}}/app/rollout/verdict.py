"""What the judge says, with its reasons. Gate: deployment."""

from dataclasses import dataclass
from enum import StrEnum

from app.rollout.rules import Criticality


class Kind(StrEnum):
    PROMOTE = "promote"  # go on to the next stage, or finish after the last
    ABORT = "abort"  # take the traffic back
    HOLD = "hold"  # leave the weights as they are and look again


class Rule(StrEnum):
    """Which rule decided; in the order of precedence."""

    TELEMETRY_LOST = "telemetry_lost"
    FAILURE_FLOOR = "failure_floor"
    TIME_CAP = "time_cap"
    LOOKS_USED_UP = "looks_used_up"
    ARM_MISSING = "arm_missing"
    CLOCKS_DIFFER = "clocks_differ"
    CRITICAL_WORSE = "critical_worse"
    INFORMATIVE_WORSE = "informative_worse"
    UNPROVEN = "unproven"
    TOO_SHORT = "too_short"
    PROVEN = "proven"


class Outcome(StrEnum):
    """What one metric shows."""

    WORSE = "worse"  # significantly, and by enough to matter
    WITHIN_MARGIN = "within_margin"  # at most the margin worse, with the confidence asked for
    UNDECIDED = "undecided"
    NO_DATA = "no_data"  # nothing, too little to test, or not numbers


@dataclass(frozen=True)
class Finding:
    """One metric. `effect`: how much worse the canary is (points, CLES, ratio of means); `upper`: its upper bound."""

    metric: str
    criticality: Criticality
    outcome: Outcome
    message: str
    canary: str = "-"
    stable: str = "-"
    test: str | None = None
    p: float | None = None
    effect: float | None = None
    upper: float | None = None
    margin: float | None = None
    missing: int = 0  # at least so many more requests (or samples) of the canary are needed


@dataclass(frozen=True)
class Verdict:
    """`level` is the significance level of each test; `missing` what a synthetic tenant has to send to the canary."""

    kind: Kind
    rule: Rule
    message: str
    stage: int
    look: int
    level: float
    findings: tuple[Finding, ...] = ()

    @property
    def missing(self) -> int:
        return max((f.missing for f in self.findings if f.criticality is Criticality.CRITICAL), default=0)
