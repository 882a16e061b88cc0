"""The driver: brings a version in, stage by stage, as the judge says, or takes the traffic back. Gate: deployment.

One algorithm for every platform, and for rollouts and rollbacks alike. It has no thresholds of its own. Whatever it is
about to do is in the state file first and every step may be done twice, so that a driver which was killed is started
again: it goes on where the canary is still healthy, and takes the traffic back where it is not.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from app.rollout.collector import Collector
from app.rollout.comparison import floor_reached
from app.rollout.judge import judge
from app.rollout.observations import Observations
from app.rollout.platform import SLOTS, Patience, Platform, PlatformFailed, Traffic
from app.rollout.record import KEPT, Phase, Record, State, Version
from app.rollout.rules import RolloutRules, Stage
from app.rollout.verdict import Kind, Verdict

log = structlog.get_logger(__name__)
BATCH = 20  # synthetic requests of each arm
Judge = Callable[[RolloutRules, Observations, datetime], Verdict]


class RolloutRefused(Exception):
    """This rollout may not begin; the message says why, and nothing was changed."""


class Aborted(Exception):
    """The canary is taken out again; the message says why."""


@dataclass
class Driver:
    platform: Platform
    traffic: Traffic
    rules: RolloutRules
    record: Record
    patience: Patience = field(default_factory=Patience)
    decide: Judge = judge
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep
    told: Callable[[str], None] = lambda _: None  # what happens, for whoever watches
    incident: Callable[[State], None] = lambda _: None  # opened by an abort
    _collector: Collector = field(init=False)

    def __post_init__(self) -> None:
        self._collector = Collector(self.platform, self.traffic, self.rules)

    def roll_out(self, digest: str, *, release: str | None = None, kind: str = "rollout", staged: bool = True) -> State:
        """Bring this version (of that release) in, or go on with it; returns the end state, `reason` set by an abort.

        `staged=False` gives it all traffic as soon as it is healthy: the way back to a version that served before.
        Raises RolloutRefused, RolloutBusy, BindingConflict, and PlatformFailed where not even the way back works."""
        with self.record.locked():
            state = self.record.load()
            if release is not None:
                state.bind(release, digest)
            if state.phase is Phase.IDLE:
                self._begin(state, digest, kind, staged=staged)
            elif state.canary and state.canary.digest == digest:
                self._log(state, "resumed", phase=str(state.phase))
            else:
                under_way = state.canary.digest if state.canary else "one"
                raise RolloutRefused(f"A rollout of {under_way} is under way: end it first, with app rollout abort.")
            return self._carry_on(state)

    def abort(self, reason: str) -> State:
        """End the rollout that nobody drives any more. Raises RolloutBusy where somebody does, and RolloutRefused."""
        with self.record.locked():
            state = self.record.load()
            if state.phase is Phase.IDLE:
                raise RolloutRefused("No rollout is under way, so there is nothing to abort.")
            if state.phase is Phase.FINISHING:
                raise RolloutRefused("The new version has all traffic: app rollout rollback brings back the old.")
            return self._take_back(state, reason)

    def _begin(self, state: State, digest: str, kind: str, *, staged: bool) -> None:
        if state.stable and state.stable.digest == digest:
            raise RolloutRefused(f"{digest} serves already.")
        free = next(slot for slot in SLOTS if state.stable is None or slot != state.stable.slot)
        self.record.forget_abort()
        state.canary = Version(slot=free, digest=digest)
        state.phase, state.kind, state.staged = Phase.STARTING, kind, staged and state.stable is not None
        state.rollout, state.began, state.stage, state.look = state.rollout + 1, self.now(), 0, 0
        state.reason, state.looks, state.arms = "", [], {}
        self.record.save(state)
        self._log(state, "started", staged=state.staged)

    def _carry_on(self, state: State) -> State:
        if state.phase is Phase.ABORTING:
            return self._take_back(state, state.reason)
        try:
            if state.phase is Phase.STARTING:
                self._start(state)
            if state.phase is Phase.STAGE:
                self._stages(state)
        except (Aborted, PlatformFailed) as error:
            return self._take_back(state, str(error))
        return self._finish(state)

    def _start(self, state: State) -> None:
        canary = _canary(state)
        self.platform.start(canary.slot, canary.digest)
        self._until_healthy(canary)
        self.platform.admit(canary.slot, self.patience.healthy_s)
        self._log(state, "healthy")
        state.phase = Phase.STAGE if state.staged else Phase.FINISHING
        self.record.save(state)

    def _until_healthy(self, canary: Version) -> None:
        until = self.now() + timedelta(seconds=self.patience.healthy_s)
        while not self.platform.is_healthy(canary.slot):
            if self.now() >= until:
                raise Aborted(f"{canary.digest} was not healthy within {self.patience.healthy_s:g} s")
            self._watch_for_abort()
            self.sleep(1.0)

    def _stages(self, state: State) -> None:
        if state.stage and not self.platform.is_healthy(_canary(state).slot):
            raise Aborted("the canary is not healthy, and nobody drove the rollout meanwhile")
        for number, stage in enumerate(self.rules.stages, 1):
            if number < state.stage:
                continue
            if number > state.stage:
                state.stage, state.look, state.seen_before, state.stage_began = number, 0, [], None
                self.record.save(state)
            if state.stage_began is None:
                # Before the weights: nobody watches the canary meanwhile, so it gets no more traffic than it had.
                self._collector.reset(state, stage)
                self._golden_cases(state)
                self._weights(state, stage.weight_percent)
                self._collector.begin(state, self.now())
                state.stage_began = self.now()
                self.record.save(state)
                self._log(state, "stage", stage=number, weight_percent=stage.weight_percent)
            else:
                self._weights(state, stage.weight_percent)
            self._until_promoted(state, stage)
        state.phase = Phase.FINISHING
        self.record.save(state)

    def _until_promoted(self, state: State, stage: Stage) -> None:
        every_s = max(self.patience.scrape_every_s, stage.least_minutes * 60 / max(1, (stage.looks or 6) // 2))
        missing = 0
        while True:
            self._watch(state, every_s)
            needed = max(missing, self._collector.missing_before_a_look(state, stage))
            if needed:
                self._supply(state, needed)
            verdict = self._look(state)
            if verdict.kind is Kind.PROMOTE:
                return
            if verdict.kind is Kind.ABORT:
                raise Aborted(f"{verdict.rule}: {verdict.message}")
            missing = max(verdict.missing, self._collector.more_samples(state, verdict))
            if any(f.metric == "golden_cases" and f.missing for f in verdict.findings):
                self._golden_cases(state)

    def _watch(self, state: State, seconds: float) -> None:
        """Read both arms until the next look. What stops a canary at once need not wait for it."""
        until = self.now() + timedelta(seconds=seconds)
        while True:
            self._watch_for_abort()
            for failure in self._collector.read(state, self.now()):
                log.warning("rollout.scrape_failed", detail=failure)
            self.record.save(state)
            self._watch_floors(state)
            left = (until - self.now()).total_seconds()
            if left <= 0:
                return
            self.sleep(min(left, self.patience.scrape_every_s))

    def _watch_for_abort(self) -> None:
        if reason := self.record.abort_requested():
            raise Aborted(reason)

    def _watch_floors(self, state: State) -> None:
        canary = self._collector.observations(state, look=1).canary
        for name, metric in self.rules.metrics.items():
            if canary and floor_reached(metric, canary.metrics.get(name)):
                verdict = self._look(state)
                raise Aborted(f"{verdict.rule}: {verdict.message}")

    def _supply(self, state: State, pairs: int) -> None:
        """Synthetic requests in batches; between them, as while watching, what stops a canary at once stops it."""
        self._log(state, "synthetic", stage=state.stage, requests=pairs)
        for sent in range(0, pairs, BATCH):
            self._collector.supply(state, min(BATCH, pairs - sent), self.now)
            self.record.save(state)
            self._watch_for_abort()
            self._watch_floors(state)

    def _golden_cases(self, state: State) -> None:
        if "golden_cases" not in self.rules.metrics:
            return
        failures = self._collector.run_golden_cases(state)
        self.record.save(state)
        passed = {slot: f"{arm.golden_passed}/{arm.golden_total}" for slot, arm in state.arms.items()}
        self._log(state, "golden_cases", stage=state.stage, passed=passed, failures=failures)

    def _look(self, state: State) -> Verdict:
        state.look += 1
        self.record.save(state)  # before it is asked: a look that was taken is never taken again
        seen = self._collector.observations(state)
        verdict = self.decide(self.rules, seen, self.now())
        state.seen_before = sorted(seen.with_data())
        state.looks.append({"at": self.now().isoformat(), **asdict(verdict)})
        self.record.save(state)
        told = {"stage": state.stage, "look": state.look, "verdict": verdict.kind, "rule": verdict.rule}
        self._log(state, "look", **told, message=verdict.message)
        return verdict

    def _weights(self, state: State, percent: float) -> None:
        canary = _canary(state)
        weights = {canary.slot: round(percent)}
        if state.stable:
            weights[state.stable.slot] = 100 - round(percent)
        self.platform.set_weights(weights)

    def _finish(self, state: State) -> State:
        """The new version serves; the old one drains and ends."""
        canary, old = _canary(state), state.stable
        self._weights(state, 100)
        if old:
            left = self.platform.drain(old.slot, self.patience.drain_s)
            self._log(state, "drained", slot_drained=old.slot, still_open=left)
            self.platform.stop(old.slot)
            kept = [old.digest, *(each for each in state.previous if each not in {old.digest, canary.digest})]
            state.previous = kept[:KEPT]
        self._log(state, "promoted", seconds=self._seconds(state))
        state.stable, state.canary, state.phase = canary, None, Phase.IDLE
        self.record.save(state)
        self.record.forget_abort()
        return state

    def _take_back(self, state: State, reason: str) -> State:
        """All traffic back to the version that serves, at once; then the canary drains and ends."""
        canary = _canary(state)
        state.phase, state.reason = Phase.ABORTING, reason
        self.record.save(state)
        if state.stable:
            self._weights(state, 0)
        self._log(state, "traffic_back", message=reason)
        left = self.platform.drain(canary.slot, self.patience.drain_s)
        self.platform.stop(canary.slot)
        self._log(state, "aborted", message=reason, still_open=left, seconds=self._seconds(state))
        self.incident(state)
        state.canary, state.phase = None, Phase.IDLE
        self.record.save(state)
        self.record.forget_abort()
        return state

    def _seconds(self, state: State) -> float:
        return (self.now() - state.began).total_seconds() if state.began else 0.0

    def _log(self, state: State, event: str, **more: Any) -> None:
        self.record.log(event, self.now(), state, **more)
        self.told(f"{event} " + " ".join(f"{name}={value}" for name, value in more.items()))


def _canary(state: State) -> Version:
    if state.canary is None:
        raise RolloutRefused("No version is on its way in.")
    return state.canary
