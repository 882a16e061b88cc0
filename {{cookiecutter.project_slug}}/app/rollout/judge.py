"""The judge of a rollout: promote, abort or hold. A pure function of rules, observations and time.

It compares the canary with the stable version over the same minutes. A fixed threshold would not do: "20 requests, more
than 2 % errors" aborts many good releases where 1 % of requests fail anyway. Promotion needs evidence that the canary
is at most a margin worse; without evidence the verdict is hold, and never promote. Gate: deployment.
"""

from datetime import datetime, timedelta

from app.rollout.comparison import Bounds, compare, floor_reached
from app.rollout.observations import Arm, Observations, overlap_s
from app.rollout.rules import Criticality, RolloutRules, Stage
from app.rollout.verdict import Finding, Kind, Outcome, Rule, Verdict

Decision = tuple[Kind, Rule, str]


class NoSuchStage(Exception):
    """The observations are of a stage that the rules do not have."""


def judge(rules: RolloutRules, seen: Observations, now: datetime) -> Verdict:
    """The verdict at this look. The same arguments give the same verdict. Raises NoSuchStage."""
    if seen.stage > len(rules.stages):
        raise NoSuchStage(f"stage {seen.stage}: config/rollout.toml has {len(rules.stages)}")
    stage = rules.stages[seen.stage - 1]
    findings = _findings(rules, stage, seen) if stage.is_compared else ()
    kind, rule, message = (
        _stop(rules, stage, seen, now)
        or _not_comparable(rules, stage, seen, now)
        or (_compared(findings) if stage.is_compared else _watched(rules, seen))
        or _measured_too_short(stage, seen)
        or (Kind.PROMOTE, Rule.PROVEN, _proven(stage))
    )
    return Verdict(kind, rule, message, seen.stage, seen.look, rules.level, findings)


def _findings(rules: RolloutRules, stage: Stage, seen: Observations) -> tuple[Finding, ...]:
    bounds = Bounds(
        level=rules.level,
        confidence=rules.judging.confidence,
        margin_points=stage.margin_points or 0.0,
        seed=1_000 * seen.stage + seen.look,
    )
    canary = seen.canary.metrics if seen.canary else {}
    stable = seen.stable.metrics if seen.stable else {}
    return tuple(
        compare(name, metric, canary.get(name), stable.get(name), bounds) for name, metric in rules.metrics.items()
    )


def _stop(rules: RolloutRules, stage: Stage, seen: Observations, now: datetime) -> Decision | None:
    """What ends the rollout whatever the comparison shows."""
    if lost := _lost_telemetry(rules, stage, seen, now):
        return Kind.ABORT, Rule.TELEMETRY_LOST, lost
    for name, metric in rules.metrics.items():
        if reached := floor_reached(metric, seen.canary.metrics.get(name) if seen.canary else None):
            floor, counts = reached
            told = f"{counts.events} of {counts.total} requests, from {floor.events} and {floor.percent:g} % on"
            return Kind.ABORT, Rule.FAILURE_FLOOR, f"{name}: {told} a canary is stopped at once"
    cap = timedelta(minutes=rules.judging.total_minutes)
    if now - seen.rollout_began >= cap:
        told = f"not finished after {rules.judging.total_minutes:g} minutes: not shown to be worse, but not proven"
        return Kind.ABORT, Rule.TIME_CAP, told
    if stage.looks is not None and seen.look > stage.looks:
        told = f"stage {seen.stage} is not proven after its {stage.looks} looks"
        return Kind.ABORT, Rule.LOOKS_USED_UP, told
    return None


def _lost_telemetry(rules: RolloutRules, stage: Stage, seen: Observations, now: datetime) -> str | None:
    limit = rules.judging.telemetry_lost_after_s
    for name, arm in _arms(stage, seen):
        silent = (now - arm.until).total_seconds() if arm else 0.0
        if silent > limit:
            return f"telemetry of the {name} arm was last read {silent:.0f} s ago, {limit:g} s allowed"
    now_empty = seen.seen_before - seen.model_copy(update={"seen_before": frozenset()}).with_data()
    if gone := sorted(now_empty & set(rules.critical)):
        return f"the canary had data for {', '.join(gone)} and has none now"
    return None


def _arms(stage: Stage, seen: Observations) -> list[tuple[str, Arm | None]]:
    return [("canary", seen.canary), *([("stable", seen.stable)] if stage.is_compared else [])]


def _not_comparable(rules: RolloutRules, stage: Stage, seen: Observations, now: datetime) -> Decision | None:
    tolerance = timedelta(seconds=rules.judging.clock_tolerance_s)
    arms = _arms(stage, seen)
    if missing := [name for name, arm in arms if arm is None]:
        return Kind.HOLD, Rule.ARM_MISSING, f"no telemetry of the {' and the '.join(missing)} arm yet"
    times = {name: (arm.began, arm.until) for name, arm in arms if arm}
    for name, (began, until) in times.items():
        if began < seen.rollout_began - tolerance or began > until or until > now + tolerance:
            told = f"the {name} arm was measured from {began:%H:%M:%S} to {until:%H:%M:%S}, not within the rollout"
            return Kind.HOLD, Rule.CLOCKS_DIFFER, told
    for what, moments in zip(("began", "ended"), zip(*times.values(), strict=True), strict=True):
        apart = max(moments) - min(moments)
        if apart > tolerance:
            told = f"the arms' measurements {what} {apart.total_seconds():.0f} s apart, more than clock_tolerance_s"
            return Kind.HOLD, Rule.CLOCKS_DIFFER, told
    return None


def _compared(findings: tuple[Finding, ...]) -> Decision | None:
    critical = [f for f in findings if f.criticality is Criticality.CRITICAL]
    worse = [f for f in findings if f.outcome is Outcome.WORSE]
    if bad := [f.message for f in critical if f in worse]:
        return Kind.ABORT, Rule.CRITICAL_WORSE, "worse than the stable version: " + "; ".join(bad)
    if bad := [f.message for f in worse]:
        return Kind.HOLD, Rule.INFORMATIVE_WORSE, "a person should look: " + "; ".join(bad)
    if unproven := [f.message for f in critical if f.outcome is not Outcome.WITHIN_MARGIN]:
        return Kind.HOLD, Rule.UNPROVEN, "not proven yet: " + "; ".join(unproven)
    return None


def _watched(rules: RolloutRules, seen: Observations) -> Decision | None:
    """All traffic goes to the new version: whether it is measured is all that can be asked for."""
    metrics = seen.canary.metrics if seen.canary else {}
    if silent := [name for name in rules.critical if name not in metrics or metrics[name].is_empty]:
        return Kind.HOLD, Rule.UNPROVEN, f"nothing was seen of {', '.join(silent)}"
    return None


def _measured_too_short(stage: Stage, seen: Observations) -> Decision | None:
    if seen.canary is None:
        return None
    measured = overlap_s(seen.canary, seen.stable if stage.is_compared and seen.stable else seen.canary) / 60
    if measured >= stage.least_minutes:
        return None
    return Kind.HOLD, Rule.TOO_SHORT, f"measured for {measured:.1f} of {stage.least_minutes:g} minutes"


def _proven(stage: Stage) -> str:
    if stage.is_compared:
        return f"every critical metric is within its margin at {stage.weight_percent:g} % of the traffic"
    return f"measured for {stage.least_minutes:g} minutes with all traffic"
