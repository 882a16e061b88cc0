"""Observations of both arms since a stage began, from their metrics and the canary tenant. Gate: deployment.

Latencies are of users' requests, where each arm has enough of them: then both have had the same mix. Otherwise they are
of the same synthetic requests, sent to both. The two are never put together: the canary would have had mostly
synthetic requests and the stable arm hardly any, and their difference would be taken for that of the versions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from app.rollout.counters import Counters, ScrapeFailed
from app.rollout.observations import Arm, Observations, Seen
from app.rollout.platform import Platform, Traffic
from app.rollout.proportions import requests_needed
from app.rollout.record import ArmState, State
from app.rollout.rules import BinaryMetric, RolloutRules, Stage
from app.rollout.verdict import Outcome, Verdict

FROM_REQUESTS = frozenset({"errors", "latency_ms", "cost_usd"})
ENOUGH_TO_SEE = 20  # requests, where nothing is compared
SAMPLE = 400  # values of a metric and arm: enough for its test, and cheap


@dataclass(frozen=True)
class Collector:
    platform: Platform
    traffic: Traffic
    rules: RolloutRules

    def reset(self, state: State, stage: Stage) -> None:
        """The arms of a stage, with nothing seen of them."""
        arms = (state.stable, state.canary) if stage.is_compared else (state.canary,)
        state.arms = {version.slot: ArmState() for version in arms if version}

    def begin(self, state: State, now: datetime) -> None:
        """Count from here on. An arm whose metrics cannot be read is counted from its first reading."""
        for slot, arm in state.arms.items():
            arm.unanswered_before = self.platform.unanswered(slot)
        self.read(state, now)

    def read(self, state: State, now: datetime, *, users: bool = True) -> list[str]:
        """Add what was counted since the last reading; returns what could not be read.

        `users`: whether all of it was users' traffic, so that its latencies count."""
        failures = []
        for slot, arm in state.arms.items():
            try:
                counters = self.platform.scrape(slot)
            except ScrapeFailed as error:
                failures.append(f"{slot}: {error}")
                continue
            if arm.last is not None:
                added = counters.since(arm.last)
                arm.seen = arm.seen.plus(added if users else added.model_copy(update={"latencies": {}}))
            arm.last, arm.read_at = counters, now
            arm.began = arm.began or now
            arm.unanswered = max(arm.unanswered, self.platform.unanswered(slot) - arm.unanswered_before)
        return failures

    def supply(self, state: State, pairs: int, now: Callable[[], datetime]) -> None:
        """Send so many synthetic requests to each arm. A reading before and one after keep their latencies apart."""
        self.read(state, now())
        for slot, sample in self.traffic.send(tuple(state.arms), pairs).items():
            arm = state.arms[slot]
            arm.costs_usd += sample.costs_usd
            arm.latencies_ms += sample.latencies_ms
            # Counted with the load balancer's: a request that nobody answered is in no version's own metrics.
            arm.unanswered_before -= sample.unanswered
            arm.unanswered += sample.unanswered
        self.read(state, now(), users=False)

    def run_golden_cases(self, state: State) -> list[str]:
        """Run the evaluation cases with each version's code; returns the canary's failures."""
        failures: list[str] = []
        for version in (state.stable, state.canary):
            if version is None or version.slot not in state.arms:
                continue
            cases, arm = self.platform.golden_cases(version.slot, version.digest), state.arms[version.slot]
            arm.golden_passed += cases.passed
            arm.golden_total += cases.total
            failures = list(cases.failures)
        return failures

    def missing_before_a_look(self, state: State, stage: Stage) -> int:
        """How many requests each arm lacks of what the stage's critical metrics take at the least."""
        if not stage.is_compared:  # whether it is measured at all is what the judge asks for then
            [seen] = [self._arm(state, slot) for slot in state.arms]
            known = {
                name for name in FROM_REQUESTS if seen and name in seen.metrics and not seen.metrics[name].is_empty
            }
            return ENOUGH_TO_SEE if FROM_REQUESTS & set(self.rules.critical) - known else 0
        lacking = []
        for name in self.rules.critical:
            metric = self.rules.metrics[name]
            for arm in state.arms.values():
                if name == "errors" and isinstance(metric, BinaryMetric):
                    margin = metric.margin_points or stage.margin_points or 100.0
                    lacking.append(requests_needed(margin, self.rules.judging.confidence) - int(arm.seen.requests))
                elif name in {"latency_ms", "cost_usd"} and not isinstance(metric, BinaryMetric):
                    has = len(self._values(state, name, arm))
                    lacking.append(metric.least_samples - has)
        return max([0, *lacking])

    def more_samples(self, state: State, verdict: Verdict) -> int:
        """How many more synthetic requests might decide a critical latency or cost that has the least samples."""
        more = [0]
        for finding in verdict.findings:
            metric = self.rules.metrics[finding.metric]
            if finding.outcome is not Outcome.UNDECIDED or finding.metric not in self.rules.critical:
                continue
            if not isinstance(metric, BinaryMetric) and (finding.metric == "cost_usd" or not self._has_users(state)):
                more.append(metric.least_samples)
        return max(more)

    def observations(self, state: State, *, look: int | None = None) -> Observations:
        if state.began is None:
            raise ValueError("a rollout that has not begun has no observations")
        return Observations(
            stage=state.stage,
            look=state.look if look is None else look,
            rollout_began=state.began,
            canary=self._arm(state, state.canary.slot) if state.canary else None,
            stable=self._arm(state, state.stable.slot) if state.stable else None,
            seen_before=frozenset(state.seen_before),
        )

    def _arm(self, state: State, slot: str) -> Arm | None:
        arm = state.arms.get(slot)
        if arm is None or arm.began is None or arm.read_at is None:
            return None
        seen, unanswered = arm.seen, max(0, arm.unanswered)
        metrics = {
            "errors": _counted(seen.failed + unanswered, seen.requests + unanswered),
            "refusals": _counted(seen.refused, seen.requests),
            "fallbacks": _counted(seen.fallbacks, seen.model_calls),
            "golden_cases": _counted(arm.golden_passed, arm.golden_total),
            "latency_ms": Seen(values=self._values(state, "latency_ms", arm)),
            "cost_usd": Seen(values=self._values(state, "cost_usd", arm)),
        }
        known = {name: each for name, each in metrics.items() if name in self.rules.metrics}
        return Arm(began=arm.began, until=arm.read_at, metrics=known)

    def _values(self, state: State, name: str, arm: ArmState) -> tuple[float, ...]:
        if name == "cost_usd":
            return tuple(arm.costs_usd[-SAMPLE:])
        return arm.seen.latency_values_ms(SAMPLE) if self._has_users(state) else tuple(arm.latencies_ms[-SAMPLE:])

    def _has_users(self, state: State) -> bool:
        """Whether users alone have made enough requests in each arm."""
        metric = self.rules.metrics.get("latency_ms")
        least = 0 if metric is None or isinstance(metric, BinaryMetric) else metric.least_samples
        return all(_total(each.seen) >= least for each in state.arms.values())


def _total(seen: Counters) -> float:
    return sum(seen.latencies.values())


def _counted(events: float, total: float) -> Seen:
    return Seen(events=events, total=total) if total else Seen()
