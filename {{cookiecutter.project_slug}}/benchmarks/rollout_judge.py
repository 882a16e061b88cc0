"""How often the judge of a rollout is right, by simulated rollouts: `make benchmarks`; fewer of them run as tests.

A rollout walks through the stages of config/rollout.toml with 1,200 requests between looks, shared out by weight.
Latencies and costs are lognormal and sampled (60 and 40 of an arm per look); 24 golden cases are run at each look.
"Held" is a rollout that has had all looks of a stage. The control is the fixed threshold that the judge replaces.
"""

import math
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.table import Table

from app.rollout.judge import judge
from app.rollout.observations import Arm, Observations, Seen
from app.rollout.rules import FULL_TRAFFIC, RolloutRules
from app.rollout.verdict import Kind, Rule, Verdict
from app.settings import ROOT

BEGAN = datetime(2026, 1, 5, 12, tzinfo=UTC)
LOOK_EVERY = timedelta(minutes=4)
REQUESTS, LATENCIES, COSTS, CASES = 1_200, 60, 40, 24  # between two looks
LATENCY_SIGMA, COST_SIGMA, CASES_PASSED = 0.5, 0.7, 0.97
USUAL = {"refusals": 0.02, "denials": 0.03, "output_repairs": 0.01, "fallbacks": 0.005}
Judge = Callable[[RolloutRules, Observations, datetime], Verdict]
Spoil = Callable[[Observations], Observations]


@dataclass(frozen=True)
class Scenario:
    name: str
    errors: tuple[float, float] = (0.01, 0.01)  # share of requests: stable, canary
    slower: float = 1.0
    dearer: float = 1.0
    spoil: Spoil = lambda seen: seen


def _nan(seen: Observations) -> Observations:
    return _canary_metrics(seen, dict.fromkeys(_canary(seen).metrics, Seen(events=math.nan, total=math.nan)))


def _nothing(seen: Observations) -> Observations:
    return _canary_metrics(seen, {})


def _one_arm(seen: Observations) -> Observations:
    return seen.model_copy(update={"stable": None})


def _skewed(seen: Observations) -> Observations:
    shift = timedelta(minutes=3)
    arm = _canary(seen)
    later = arm.model_copy(update={"began": arm.began + shift, "until": arm.until + shift})
    return seen.model_copy(update={"canary": later})


def _lost(seen: Observations) -> Observations:
    """From the second stage on, the canary's telemetry stays where it was at the first look."""
    arm = _canary(seen)
    if seen.stage == 1 or seen.look == 1:
        return seen
    return seen.model_copy(update={"canary": arm.model_copy(update={"until": arm.began + LOOK_EVERY})})


def _canary(seen: Observations) -> Arm:
    if seen.canary is None:
        raise ValueError("a simulated rollout has a canary")
    return seen.canary


def _canary_metrics(seen: Observations, metrics: dict[str, Seen]) -> Observations:
    return seen.model_copy(update={"canary": _canary(seen).model_copy(update={"metrics": metrics})})


EQUAL = Scenario("equal, 1 % errors")
SCENARIOS = (
    EQUAL,
    Scenario("equal, no errors", errors=(0.0, 0.0)),
    Scenario("equal, 5 % errors", errors=(0.05, 0.05)),
    Scenario("1 % to 3 % errors", errors=(0.01, 0.03)),
    Scenario("0 % to 2 % errors", errors=(0.0, 0.02)),
    Scenario("1 % to 6 % errors", errors=(0.01, 0.06)),
    Scenario("1 % to 30 % errors", errors=(0.01, 0.30)),
    Scenario("twice as slow", slower=2.0),
    Scenario("twice as dear", dearer=2.0),
    Scenario("fed NaN", spoil=_nan),
    Scenario("fed nothing", spoil=_nothing),
    Scenario("one arm only", spoil=_one_arm),
    Scenario("a clock 3 minutes off", spoil=_skewed),
    Scenario("telemetry lost at 25 %", spoil=_lost),
)


def _binomial(draw: random.Random, trials: int, rate: float) -> int:
    """Events among trials, by the geometric gaps between them: rare events cost little."""
    if not rate:
        return 0
    events, position = 0, 0
    while True:
        position += int(math.log(1 - draw.random()) / math.log1p(-rate)) + 1
        if position > trials:
            return events
        events += 1


class _Traffic:
    """One arm's numbers since its stage began."""

    def __init__(self, errors: float, slower: float, dearer: float, draw: random.Random) -> None:
        self._rates, self._draw = {"errors": errors, **USUAL}, draw
        self._slower, self._dearer = slower, dearer
        self._events, self._total = Counter[str](), 0
        self._latencies: list[float] = []
        self._costs: list[float] = []
        self._passed = self._cases = 0

    def add(self, requests: int) -> None:
        draw = self._draw
        self._total += requests
        self._cases += CASES
        self._passed += CASES - _binomial(draw, CASES, 1 - CASES_PASSED)
        for name, rate in self._rates.items():
            self._events[name] += _binomial(draw, requests, rate)
        self._latencies += [self._slower * draw.lognormvariate(6.0, LATENCY_SIGMA) for _ in range(LATENCIES)]
        self._costs += [self._dearer * draw.lognormvariate(-5.0, COST_SIGMA) for _ in range(COSTS)]

    def metrics(self) -> dict[str, Seen]:
        counted = {name: Seen(events=self._events[name], total=self._total) for name in self._rates}
        return counted | {
            "golden_cases": Seen(events=self._passed, total=self._cases),
            "latency_ms": Seen(values=tuple(self._latencies)),
            "cost_usd": Seen(values=tuple(self._costs)),
        }


def roll_out(rules: RolloutRules, scenario: Scenario, seed: int, judge_it: Judge = judge) -> Kind:
    """One simulated rollout to its end."""
    draw, now = random.Random(seed), BEGAN  # noqa: S311 - repeatable, and no secret
    for number, stage in enumerate(rules.stages, start=1):
        arms = [
            _Traffic(scenario.errors[0], 1.0, 1.0, draw),
            _Traffic(scenario.errors[1], scenario.slower, scenario.dearer, draw),
        ]
        stage_began, verdict = now, None
        for look in range(1, (stage.looks or 6) + 1):
            now += LOOK_EVERY
            share = stage.weight_percent / FULL_TRAFFIC
            arms[0].add(round(REQUESTS * (1 - share)))
            arms[1].add(round(REQUESTS * share))
            stable, canary = (Arm(began=stage_began, until=now, metrics=arm.metrics()) for arm in arms)
            seen = Observations(stage=number, look=look, rollout_began=BEGAN, canary=canary, stable=stable)
            verdict = judge_it(rules, scenario.spoil(seen), now)
            if verdict.kind is Kind.ABORT:
                return Kind.ABORT
            if verdict.kind is Kind.PROMOTE:
                break
        else:
            return Kind.HOLD
    return Kind.PROMOTE


def simulate(rules: RolloutRules, scenario: Scenario, rollouts: int, judge_it: Judge = judge) -> Counter[Kind]:
    return Counter(roll_out(rules, scenario, seed, judge_it) for seed in range(rollouts))


def fixed_threshold(rules: RolloutRules, seen: Observations, now: datetime) -> Verdict:  # noqa: ARG001 - as a judge
    """The control: from 20 requests on, more than 2 % errors abort; a stage is passed after three looks."""
    errors = _canary(seen).metrics["errors"]
    events, total = errors.events or 0, errors.total or 0
    bad = total >= 20 and events / total > 0.02
    kind = Kind.ABORT if bad else Kind.PROMOTE if seen.look == 3 else Kind.HOLD
    return Verdict(kind, Rule.CRITICAL_WORSE if bad else Rule.PROVEN, "", seen.stage, seen.look, rules.level)


def main(rollouts: int) -> int:
    rules = RolloutRules.load(ROOT / "config")
    table = Table(title=f"{rollouts} simulated rollouts each", box=None, pad_edge=False)
    for column in ("scenario", "promoted", "aborted", "held"):
        table.add_column(column, justify="left" if column == "scenario" else "right")
    wrong = 0
    for scenario in (*SCENARIOS, replace(EQUAL, name="control: fixed threshold, equal, 1 % errors")):
        is_control = scenario.name.startswith("control")
        ends = simulate(rules, scenario, rollouts, fixed_threshold if is_control else judge)
        table.add_row(scenario.name, *(str(ends[kind]) for kind in (Kind.PROMOTE, Kind.ABORT, Kind.HOLD)))
        wrong += not is_control and (
            ends[Kind.ABORT] > 0.02 * rollouts if scenario.name.startswith("equal") else ends[Kind.PROMOTE] > 0
        )
    Console(highlight=False).print(table)
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000))
